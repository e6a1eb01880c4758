import { DAY_MS, parseTimeRange, toTimestamp, UpidError, type ClusterResponse, type DeploymentResponse, type PodResponse, type QueryRequest, type QueryResponse, type Recommendation, type SavingsResponse, type WorkloadKind, type WorkloadRef } from '@upid/contracts';
import type { Bus } from '@upid/platform';
import type { Caller } from '../access/keys.js';
import type { ClustersService } from '../clusters/clusters.service.js';
import type { CostAnalysisResponse, IntelligenceClusterResponse } from './models.js';
import { presentCluster, presentCostAnalysis, presentDeployment, presentIntelligence, presentPod, presentSavings, type Part } from './present.js';

interface Range { readonly start: string; readonly end: string }

/** Asks the services that own the data and joins their answers. What one of them cannot say leaves its part null, with the reason. */
export class AnalysisService {
  constructor(private readonly bus: Pick<Bus, 'ask'>, private readonly clusters: ClustersService, private readonly policy: string, private readonly nowMs: () => number) {}

  async pod(caller: Caller, request: { cluster_id?: string | undefined; namespace: string; pod_name: string; time_range: string }): Promise<PodResponse> {
    const range = this.range(request.time_range);
    const { clusterId } = await this.clusters.resolve(caller, request.cluster_id);
    const pod = await this.bus.ask<QueryResponse<'intelligence', 'pod'>>('intelligence', 'pod', { cluster_id: clusterId, namespace: request.namespace, pod_name: request.pod_name, ...range });
    const { workload } = pod.insight;
    const [cost, recommendations, whole] = await Promise.all([
      this.cost(clusterId, 'pod', request.pod_name, request.namespace, null, range), this.recommendations(clusterId, workload), part(this.bus.ask<QueryResponse<'intelligence', 'workload'>>('intelligence', 'workload', { cluster_id: clusterId, ...workload, ...range })),
    ]);
    return presentPod({ clusterId, pod, cost, recommendations, replicas: 'value' in whole ? whole.value.replicas : null, policy: this.policy, nowMs: this.nowMs() });
  }

  async deployment(caller: Caller, request: { cluster_id?: string | undefined; namespace: string; deployment_name: string; kind: WorkloadKind | null; time_range: string }): Promise<DeploymentResponse> {
    const range = this.range(request.time_range);
    const { clusterId } = await this.clusters.resolve(caller, request.cluster_id);
    const workload = await this.bus.ask<QueryResponse<'intelligence', 'workload'>>('intelligence', 'workload', { cluster_id: clusterId, namespace: request.namespace, kind: request.kind, name: request.deployment_name, ...range });
    const ref = workload.insight.workload;
    const [cost, recommendations] = await Promise.all([this.cost(clusterId, 'workload', ref.name, ref.namespace, ref.kind, range), this.recommendations(clusterId, ref)]);
    return presentDeployment({ clusterId, workload, cost, recommendations, policy: this.policy, nowMs: this.nowMs() });
  }

  async cluster(caller: Caller, request: { cluster_id?: string | undefined; namespace: string | null; time_range: string }): Promise<ClusterResponse> {
    const range = this.range(request.time_range);
    const { clusterId, name, cluster } = await this.clusters.resolve(caller, request.cluster_id);
    const [insight, cost, savings, recommendations] = await Promise.all([
      this.bus.ask<QueryResponse<'intelligence', 'cluster'>>('intelligence', 'cluster', { cluster_id: clusterId, namespace: request.namespace, ...range }),
      part(this.bus.ask<QueryResponse<'cost', 'cluster_cost'>>('cost', 'cluster_cost', { cluster_id: clusterId, namespace: request.namespace, ...range })),
      part(this.bus.ask<QueryResponse<'cost', 'savings'>>('cost', 'savings', { cluster_id: clusterId, horizon_hours: 720 })),
      part(this.ask(clusterId, { minimum_confidence: 0, namespace: request.namespace })),
    ]);
    if (request.namespace !== null && insight.workloads.length === 0 && insight.pods === 0) throw new UpidError('not_found', `Nothing is known of namespace ${request.namespace} in cluster ${clusterId}.`, { cluster_id: clusterId, namespace: request.namespace });
    return presentCluster({ cluster, clusterId, name, namespace: request.namespace, insight, cost, savings, recommendations, nowMs: this.nowMs() });
  }

  async intelligence(caller: Caller, clusterId: string, timeRange: string): Promise<IntelligenceClusterResponse> {
    const range = this.range(timeRange);
    const { clusterId: id } = await this.clusters.resolve(caller, clusterId);
    return presentIntelligence(await this.bus.ask<QueryResponse<'intelligence', 'cluster'>>('intelligence', 'cluster', { cluster_id: id, namespace: null, ...range }), range, this.nowMs());
  }

  async costAnalysis(caller: Caller, request: { cluster_id?: string | undefined; resource_type: QueryRequest<'cost', 'analysis'>['resource_type']; resource_name: string; namespace: string; time_range: string }): Promise<CostAnalysisResponse> {
    const range = this.range(request.time_range);
    const wanted = request.cluster_id ?? (request.resource_type === 'cluster' ? request.resource_name : undefined);
    const { clusterId } = await this.clusters.resolve(caller, wanted);
    const namespaced = ['pod', 'deployment', 'workload'].includes(request.resource_type);
    const answer = await this.bus.ask<QueryResponse<'cost', 'analysis'>>('cost', 'analysis', { cluster_id: clusterId, resource_type: request.resource_type, resource_name: request.resource_name, namespace: namespaced ? request.namespace : null, ...range });
    const advice = await part(this.ask(clusterId, { minimum_confidence: 0, namespace: request.resource_type === 'namespace' ? request.resource_name : namespaced ? request.namespace : null }));
    const all = 'value' in advice ? advice.value : [];
    return presentCostAnalysis(answer, all.filter((each) => !['deployment', 'workload', 'pod'].includes(request.resource_type) || each.workload?.name === request.resource_name));
  }

  async savings(caller: Caller, clusterId: string, horizon: string): Promise<SavingsResponse> {
    const { startMs, endMs } = parseTimeRange(horizon, this.nowMs());
    const { clusterId: id } = await this.clusters.resolve(caller, clusterId);
    return presentSavings(await this.bus.ask<QueryResponse<'cost', 'savings'>>('cost', 'savings', { cluster_id: id, horizon_hours: ((endMs - startMs) / DAY_MS) * 24 }), horizon);
  }

  private ask(clusterId: string, filter: Omit<QueryRequest<'optimizer', 'recommendations'>, 'cluster_id'>): Promise<readonly Recommendation[]> {
    return this.bus.ask<QueryResponse<'optimizer', 'recommendations'>>('optimizer', 'recommendations', { cluster_id: clusterId, ...filter }).then((answer) => answer.recommendations);
  }

  private recommendations(clusterId: string, workload: WorkloadRef): Promise<Part<readonly Recommendation[]>> {
    return part(this.ask(clusterId, { minimum_confidence: 0, workload }));
  }

  private cost(clusterId: string, type: 'pod' | 'workload', name: string, namespace: string, kind: WorkloadKind | null, range: Range): Promise<Part<QueryResponse<'cost', 'analysis'>>> {
    return part(this.bus.ask<QueryResponse<'cost', 'analysis'>>('cost', 'analysis', { cluster_id: clusterId, resource_type: type, resource_name: name, namespace, kind, ...range }));
  }

  private range(text: string): Range {
    const { startMs, endMs } = parseTimeRange(text, this.nowMs());
    return { start: toTimestamp(startMs), end: toTimestamp(endMs) };
  }
}

/** An answer, or the sentence that says why there is none; an error that is none of a service's own goes on. */
async function part<T>(answer: Promise<T>): Promise<Part<T>> {
  try {
    return { value: await answer };
  } catch (error) {
    if (error instanceof UpidError) return { missing: error.message };
    throw error;
  }
}
