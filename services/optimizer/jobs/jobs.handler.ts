import { Controller } from '@nestjs/common';
import { QUERIES, type QueryParsed, type QueryResponse } from '@upid/contracts';
import { Query } from '@upid/platform';
import { JobsRepository } from './jobs.repository.js';
import { JobsService } from './jobs.service.js';

const Q = QUERIES.optimizer;

/** Questions about jobs, and the orders that people give. */
@Controller()
export class JobsHandler {
  constructor(private readonly jobs: JobsService, private readonly repository: JobsRepository) {}

  @Query('optimize', Q.optimize.request)
  async optimize(request: QueryParsed<'optimizer', 'optimize'>): Promise<QueryResponse<'optimizer', 'optimize'>> {
    return { jobs: await this.jobs.optimize(request) };
  }

  @Query('job', Q.job.request)
  async job({ job_id }: QueryParsed<'optimizer', 'job'>): Promise<QueryResponse<'optimizer', 'job'>> {
    return { job: await this.jobs.job(job_id) };
  }

  @Query('jobs', Q.jobs.request)
  async list(request: QueryParsed<'optimizer', 'jobs'>): Promise<QueryResponse<'optimizer', 'jobs'>> {
    return { jobs: await this.repository.list({ clusterId: request.cluster_id, statuses: request.statuses, applied: request.applied, limit: request.limit }) };
  }

  @Query('cancel', Q.cancel.request)
  async cancel({ job_id, actor }: QueryParsed<'optimizer', 'cancel'>): Promise<QueryResponse<'optimizer', 'cancel'>> {
    return { job: await this.jobs.cancel(job_id, actor) };
  }

  @Query('rollback', Q.rollback.request)
  async rollback({ job_id, actor }: QueryParsed<'optimizer', 'rollback'>): Promise<QueryResponse<'optimizer', 'rollback'>> {
    return { job: await this.jobs.rollback(job_id, actor) };
  }

  @Query('stop', Q.stop.request)
  async stop({ cluster_id, actor, hold }: QueryParsed<'optimizer', 'stop'>): Promise<QueryResponse<'optimizer', 'stop'>> {
    if (hold) await this.repository.hold(cluster_id, actor);
    else await this.repository.release(cluster_id);
    const holds = await this.repository.holds();
    return { held: holds.filter((each) => each !== '*'), all: holds.includes('*') };
  }

  @Query('restore_all', Q.restore_all.request)
  async restoreAll({ cluster_id, actor }: QueryParsed<'optimizer', 'restore_all'>): Promise<QueryResponse<'optimizer', 'restore_all'>> {
    return { jobs: await this.jobs.restoreAll(cluster_id, actor) };
  }

  @Query('agents', Q.agents.request)
  async agents({ cluster_id }: QueryParsed<'optimizer', 'agents'>): Promise<QueryResponse<'optimizer', 'agents'>> {
    const [agents, holds] = await Promise.all([this.repository.agents(cluster_id), this.repository.holds()]);
    return { agents: agents.map((agent) => ({ cluster_id: agent.clusterId, seen_at: agent.seenAt.toISOString(), heartbeat: agent.heartbeat, held: holds.includes('*') || holds.includes(agent.clusterId) })) };
  }

  @Query('sleepers', Q.sleepers.request)
  async sleepers({ cluster_id }: QueryParsed<'optimizer', 'sleepers'>): Promise<QueryResponse<'optimizer', 'sleepers'>> {
    const [agents, holds] = await Promise.all([this.repository.agents(cluster_id), this.repository.holds()]);
    return { sleepers: agents.flatMap((agent) => agent.heartbeat.sleepers.map((sleeper) => ({ ...sleeper, cluster_id: agent.clusterId }))), held: holds.includes('*') || (cluster_id !== null && holds.includes(cluster_id)) };
  }
}
