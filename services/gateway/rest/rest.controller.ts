import { Controller, Req } from '@nestjs/common';
import type { ClusterListResponse, ClusterResponse, DeploymentResponse, JobResponse, PodResponse, QueryRequest, QueryResponse, SavingsResponse, WorkloadKind } from '@upid/contracts';
import { UpidError, workloadKindSchema } from '@upid/contracts';
import { Bus, Health } from '@upid/platform';
import type { Request } from 'express';
import { z } from 'zod';
import type { Caller } from '../access/keys.js';
import { maySee } from '../access/keys.js';
import { ClustersService } from '../clusters/clusters.service.js';
import { AnalysisService } from './analysis.service.js';
import type { CostAnalysisResponse, IntelligenceClusterResponse } from './models.js';
import { presentJob, presentRecommendation } from './present.js';
import { checked } from './request.js';
import { Serves, type RoutedRequest } from './route.decorator.js';
import { ROUTES } from './routes.js';
import { VERSION } from '../version.js';

type Routed = Request & RoutedRequest;

function callerOf(request: Routed): Caller {
  if (!request.caller) throw new UpidError('unauthenticated', 'An API key is needed.');
  return request.caller;
}

/** Health, open to all. */
@Controller()
export class HealthController {
  constructor(private readonly health: Health) {}

  @Serves(ROUTES.health)
  async how(): Promise<{ status: string; version: string }> {
    return { status: (await this.health.ready()).ready ? 'ok' : 'degraded', version: VERSION };
  }

  @Serves(ROUTES.live)
  live(): { status: string; version: string } {
    return { status: 'ok', version: VERSION };
  }

  @Serves(ROUTES.ready)
  async ready(): Promise<unknown> {
    const { ready, dependencies } = await this.health.ready();
    if (!ready) throw new UpidError('unavailable', `Not ready: ${Object.entries(dependencies).filter(([, each]) => !each.ok).map(([name, each]) => `${name} (${each.state})`).join(', ')}.`, { dependencies });
    return { ready, dependencies };
  }
}

/** Questions: what is known, judged and advised. */
@Controller()
export class AnalysisController {
  constructor(private readonly analysis: AnalysisService, private readonly clusters: ClustersService, private readonly bus: Bus) {}

  @Serves(ROUTES.analyzePod)
  pod(@Req() request: Routed): Promise<PodResponse> {
    const body = checked(ROUTES.analyzePod.body, request.body, 'body');
    return this.analysis.pod(callerOf(request), { ...body, time_range: body.options?.time_range ?? '7d' });
  }

  @Serves(ROUTES.analyzeDeployment)
  deployment(@Req() request: Routed): Promise<DeploymentResponse> {
    const body = checked(ROUTES.analyzeDeployment.body, request.body, 'body');
    return this.analysis.deployment(callerOf(request), { ...body, kind: body.options?.kind ?? null, time_range: body.options?.time_range ?? '7d' });
  }

  @Serves(ROUTES.analyzeNamespace)
  namespace(@Req() request: Routed): Promise<ClusterResponse> {
    const body = checked(ROUTES.analyzeNamespace.body, request.body, 'body');
    return this.analysis.cluster(callerOf(request), { cluster_id: body.cluster_id, namespace: body.namespace, time_range: body.options?.time_range ?? '7d' });
  }

  @Serves(ROUTES.analyzeCluster)
  cluster(@Req() request: Routed): Promise<ClusterResponse> {
    const body = checked(ROUTES.analyzeCluster.body, request.body, 'body');
    return this.analysis.cluster(callerOf(request), { cluster_id: body.cluster_id ?? body.cluster_name, namespace: null, time_range: body.options?.time_range ?? '7d' });
  }

  @Serves(ROUTES.intelligence)
  intelligence(@Req() request: Routed): Promise<IntelligenceClusterResponse> {
    const { time_range } = checked(ROUTES.intelligence.query, request.query, 'query');
    return this.analysis.intelligence(callerOf(request), clusterIn(request), time_range);
  }

  @Serves(ROUTES.cost)
  cost(@Req() request: Routed): Promise<CostAnalysisResponse> {
    return this.analysis.costAnalysis(callerOf(request), { ...checked(ROUTES.cost.params, request.params, 'path'), ...checked(ROUTES.cost.query, request.query, 'query') });
  }

  @Serves(ROUTES.savings)
  savings(@Req() request: Routed): Promise<SavingsResponse> {
    return this.analysis.savings(callerOf(request), clusterIn(request), checked(ROUTES.savings.query, request.query, 'query').time_horizon);
  }

  @Serves(ROUTES.recommendations)
  async recommendations(@Req() request: Routed): Promise<z.infer<typeof ROUTES.recommendations.response>> {
    const query = checked(ROUTES.recommendations.query, request.query, 'query');
    const { clusterId } = await this.clusters.resolve(callerOf(request), clusterIn(request));
    const answer = await this.bus.ask<QueryResponse<'optimizer', 'recommendations'>>('optimizer', 'recommendations', { cluster_id: clusterId, minimum_confidence: query.confidence_threshold * 100, namespace: query.namespace ?? null } satisfies QueryRequest<'optimizer', 'recommendations'>);
    return { cluster_id: clusterId, recommendations: answer.recommendations.map(presentRecommendation), evaluated_at: answer.evaluated_at, policy: null };
  }

  @Serves(ROUTES.clusters)
  list(@Req() request: Routed): Promise<ClusterListResponse> {
    return this.clusters.list(callerOf(request));
  }
}

function clusterIn(request: Routed): string {
  return checked(z.object({ cluster_id: z.string() }), request.params, 'path').cluster_id;
}

/** What changes something: jobs and the stop. The key's name is recorded as the actor. */
@Controller()
export class OptimizationController {
  constructor(private readonly clusters: ClustersService, private readonly bus: Bus) {}

  @Serves(ROUTES.optimize)
  async optimize(@Req() request: Routed): Promise<z.infer<typeof ROUTES.optimize.response>> {
    const body = checked(ROUTES.optimize.body, request.body, 'body');
    const caller = callerOf(request);
    const { clusterId } = await this.clusters.resolve(caller, body.cluster_id);
    const kind = body.options?.kind === undefined ? 'Deployment' : kindOf(String(body.options.kind));
    const targets = body.deployment_name !== undefined ? [{ kind, namespace: body.namespace, name: body.deployment_name }] : (body.target_resources ?? []).map((text) => {
      const [kindText = '', namespace = '', name = ''] = text.split('/');
      return { kind: kindOf(kindText), namespace, name };
    });
    const key = request.headers['idempotency-key'];
    const { jobs } = await this.bus.ask<QueryResponse<'optimizer', 'optimize'>>('optimizer', 'optimize', {
      cluster_id: clusterId, targets, optimization_type: body.optimization_type, options: body.options ?? {}, dry_run: body.dry_run, actor: caller.name, idempotency_key: typeof key === 'string' ? key : null,
    } satisfies QueryRequest<'optimizer', 'optimize'>);
    return { status: 'optimization_initiated', job_id: jobs[0]?.id ?? '', job_ids: jobs.map((job) => job.id), dry_run: body.dry_run, estimated_completion: jobs[0]?.estimated_completion ?? null };
  }

  @Serves(ROUTES.jobs)
  async jobs(@Req() request: Routed): Promise<{ jobs: JobResponse[] }> {
    const query = checked(ROUTES.jobs.query, request.query, 'query');
    const caller = callerOf(request);
    const cluster = query.cluster_id === undefined ? null : (await this.clusters.resolve(caller, query.cluster_id)).clusterId;
    const { jobs } = await this.bus.ask<QueryResponse<'optimizer', 'jobs'>>('optimizer', 'jobs', { cluster_id: cluster, statuses: query.status ?? null, applied: query.applied ?? null, limit: query.limit } satisfies QueryRequest<'optimizer', 'jobs'>);
    return { jobs: jobs.filter((job) => maySee(caller, job.cluster_id)).map(presentJob) };
  }

  @Serves(ROUTES.jobStatus)
  status(@Req() request: Routed): Promise<JobResponse> {
    return this.ownJob(request);
  }

  @Serves(ROUTES.cancel)
  async cancel(@Req() request: Routed): Promise<JobResponse> {
    const { job_id } = await this.ownJob(request);
    return presentJob((await this.bus.ask<QueryResponse<'optimizer', 'cancel'>>('optimizer', 'cancel', { job_id, actor: callerOf(request).name })).job);
  }

  @Serves(ROUTES.rollback)
  async rollback(@Req() request: Routed): Promise<JobResponse> {
    const { job_id } = await this.ownJob(request);
    return presentJob((await this.bus.ask<QueryResponse<'optimizer', 'rollback'>>('optimizer', 'rollback', { job_id, actor: callerOf(request).name })).job);
  }

  @Serves(ROUTES.stop)
  async stop(@Req() request: Routed): Promise<z.infer<typeof ROUTES.stop.response>> {
    const body = checked(ROUTES.stop.body, request.body, 'body');
    const caller = callerOf(request);
    // A key that is bound to clusters stops those alone.
    const all = body.cluster_id === undefined && caller.clusters.includes('*');
    const ids = all ? [null] : body.cluster_id !== undefined ? [(await this.clusters.resolve(caller, body.cluster_id)).clusterId] : [...caller.clusters];
    let held: QueryResponse<'optimizer', 'stop'> = { held: [], all: false };
    const restoring: string[] = [];
    for (const id of ids) {
      if (body.hold !== null) held = await this.bus.ask<QueryResponse<'optimizer', 'stop'>>('optimizer', 'stop', { cluster_id: id, actor: caller.name, hold: body.hold } satisfies QueryRequest<'optimizer', 'stop'>);
      if (body.restore) restoring.push(...(await this.bus.ask<QueryResponse<'optimizer', 'restore_all'>>('optimizer', 'restore_all', { cluster_id: id, actor: caller.name } satisfies QueryRequest<'optimizer', 'restore_all'>)).jobs.map((job) => job.id));
    }
    return { held: held.held, all_held: held.all, restoring };
  }

  /** The job of the path; one of a cluster that the caller may not see is not there for them. */
  private async ownJob(request: Routed): Promise<JobResponse> {
    const { job_id } = checked(ROUTES.jobStatus.params, request.params, 'path');
    const { job } = await this.bus.ask<QueryResponse<'optimizer', 'job'>>('optimizer', 'job', { job_id });
    if (!maySee(callerOf(request), job.cluster_id)) throw new UpidError('not_found', `There is no job ${job_id}.`, { job_id });
    return presentJob(job);
  }
}

/** `deployment` or `Deployment` → Deployment. @throws UpidError invalid_request naming the kinds */
function kindOf(text: string): WorkloadKind {
  const found = workloadKindSchema.options.find((kind) => kind.toLowerCase() === text.toLowerCase());
  if (!found) throw new UpidError('invalid_request', `${JSON.stringify(text)} is no kind of workload: ${workloadKindSchema.options.map((kind) => kind.toLowerCase()).join(', ')}.`);
  return found;
}
