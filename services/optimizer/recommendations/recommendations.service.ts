import { createHash } from 'node:crypto';
import { DAY_MS, HOUR_MS, subjects, toTimestamp, UpidError, workloadKey, type Recommendation, type RecommendationEvent, type WorkloadObject, type WorkloadRef, type Policy, type NodeObject, type QueryResponse } from '@upid/contracts';
import type { Bus, InventoryMirror, Leases, Logger, Outbox, Tx } from '@upid/platform';
import type { ResourceAdvisor } from '../jobs/jobs.service.js';
import type { ResourceChange } from '../jobs/resources.js';
import { runSafetyChecks } from '../safety/checks.js';
import type { FactsService } from '../safety/facts.service.js';
import { isNews, recommend, recommendationKey, wantedResources, type Draft, type Subject, type WorkloadRates } from './recommend.js';
import type { RecommendationsRepository } from './recommendations.repository.js';
import { recommendContainer, type ContainerRecommendation } from './rightsizing/recommend.js';

/** History that sizing looks back over. */
const HISTORY_DAYS = 14;
/** Sizing moves slowly: a workload's history is asked for again after this long. */
const SIZING_AGE_MS = HOUR_MS;
/** Costs are means over this long. */
const COST_WINDOW_MS = DAY_MS;

interface Sizing { readonly atMs: number; readonly sized: Subject['sized'] }

/** Turns assessments, history and cost into recommendations, and publishes what appears, changes or lapses. */
export class RecommendationsService implements ResourceAdvisor {
  private readonly sizings = new Map<string, Sizing>();

  constructor(
    private readonly repository: RecommendationsRepository, private readonly facts: FactsService, private readonly inventory: InventoryMirror, private readonly bus: Pick<Bus, 'ask'>, private readonly outbox: Outbox, private readonly leases: Leases, private readonly policy: Policy, private readonly log: Logger,
    private readonly options: { readonly holder: string; readonly nowMs: () => number },
  ) {}

  /** One round over all clusters; of several replicas one evaluates a cluster at a time. */
  async evaluateAll(): Promise<void> {
    for (const clusterId of await this.repository.clustersWithAssessments()) {
      const lease = await this.leases.acquire(`evaluate/${clusterId}`, this.options.holder, 60_000);
      if (!lease) continue;
      try {
        await this.evaluate(clusterId);
      } finally {
        await this.leases.release(lease);
      }
    }
  }

  async evaluate(clusterId: string): Promise<void> {
    const nowMs = this.options.nowMs();
    const [shared, workloads, assessments, rates, largestNode] = await Promise.all([this.facts.ofCluster(clusterId), this.facts.workloads(clusterId), this.repository.assessments(clusterId), this.rates(clusterId, nowMs), this.largestNode(clusterId)]);
    const drafts: Draft[] = [];
    for (const workload of workloads) {
      const key = workloadKey(refOf(workload));
      const assessment = assessments.get(key);
      if (!assessment) continue;
      // All of a judgement rests on the same assessment, though a newer one may have come since it was read.
      const zero = { ...(await this.facts.of(clusterId, workload, 'zero_scaling', nowMs, shared)), assessment };
      drafts.push(...recommend({
        workload, assessment, rates: rates.get(key) ?? null, sized: await this.sized(clusterId, workload, largestNode, nowMs), zeroChecks: runSafetyChecks(zero), resizeChecks: runSafetyChecks({ ...zero, action: 'resource_optimization' }), policy: this.policy,
      }));
    }
    await this.repository.transaction((tx) => this.keep(tx, clusterId, drafts, nowMs));
  }

  private async keep(tx: Tx, clusterId: string, drafts: readonly Draft[], nowMs: number): Promise<void> {
    const standing = new Map((await this.repository.standing(tx, clusterId)).map((each) => [each.recommendation.id, each.recommendation]));
    for (const draft of drafts) {
      const id = uuidOf(recommendationKey(clusterId, draft.type, draft.workload));
      const before = standing.get(id);
      standing.delete(id);
      if (before && !isNews(before, draft)) continue;
      const recommendation: Recommendation = { ...draft, id, created_at: before?.created_at ?? toTimestamp(nowMs), updated_at: toTimestamp(nowMs) };
      const revision = await this.repository.keep(tx, clusterId, recommendation);
      await this.announce(tx, clusterId, before ? 'changed' : 'appeared', revision, recommendation, nowMs);
    }
    for (const lapsed of standing.values()) {
      const revision = await this.repository.lapse(tx, lapsed.id, new Date(nowMs));
      await this.announce(tx, clusterId, 'lapsed', revision, lapsed, nowMs);
    }
    await this.repository.markEvaluated(tx, clusterId, new Date(nowMs));
  }

  private async announce(tx: Tx, clusterId: string, change: RecommendationEvent['change'], revision: number, recommendation: Recommendation, nowMs: number): Promise<void> {
    const event: RecommendationEvent = { version: 1, id: `${recommendation.id}/${revision}`, change, revision, at: toTimestamp(nowMs), recommendation };
    await this.outbox.add(tx, { subject: subjects.recommendation(clusterId, recommendation.type), payload: Buffer.from(JSON.stringify(event)), msgId: `recommendation/${event.id}` });
  }

  /** What right-sizing would set now; used when a job is planned. */
  async wantedResources(clusterId: string, workload: WorkloadObject): Promise<readonly ResourceChange[]> {
    return wantedResources(workload, await this.sized(clusterId, workload, await this.largestNode(clusterId), this.options.nowMs()));
  }

  private async sized(clusterId: string, workload: WorkloadObject, largestNode: { cpuMillicores: number; memoryBytes: number } | null, nowMs: number): Promise<Subject['sized']> {
    const cacheKey = `${clusterId}/${workload.uid}/${workload.generation}`;
    const known = this.sizings.get(cacheKey);
    if (known && nowMs - known.atMs < SIZING_AGE_MS) return known.sized;
    let history: QueryResponse<'intelligence', 'usage_history'>;
    try {
      history = await this.bus.ask<QueryResponse<'intelligence', 'usage_history'>>('intelligence', 'usage_history', { cluster_id: clusterId, workload: refOf(workload), start: toTimestamp(nowMs - HISTORY_DAYS * DAY_MS), end: toTimestamp(nowMs) });
    } catch (error) {
      if (!(error instanceof UpidError)) throw error;
      // Without its history a workload is not sized this time; the last sizing stands, where there is one.
      this.log.info({ cluster_id: clusterId, code: error.code }, `no usage history of ${workloadKey(refOf(workload))} this time`);
      return known?.sized ?? [];
    }
    const kills = (await this.inventory.byKind(clusterId, 'OomKill', { namespace: workload.namespace })).map((row) => row.body as { workload: WorkloadRef; container: string; at: string; memory_limit_bytes: number | null }).filter((kill) => workloadKey(kill.workload) === workloadKey(refOf(workload)));
    const sized = history.containers.flatMap(({ name, hours }): { container: string; advice: ContainerRecommendation }[] => {
      const container = workload.containers.find((each) => each.name === name && each.role !== 'init');
      if (!container || hours.length === 0) return [];
      return [{
        container: name,
        advice: recommendContainer({
          workloadKind: workload.workload_kind, largestNode,
          periods: hours.map((hour) => ({ startMs: Date.parse(hour.hour), coveredMinutes: hour.covered_minutes, cpuMeanMillicores: hour.cpu_millicores_mean, cpuMaxMillicores: hour.cpu_millicores_max, cpuDistribution: hour.cpu_distribution, memoryMaxBytes: hour.memory_bytes_max, replicas: hour.pods })),
          oomKills: kills.filter((kill) => kill.container === name).map((kill) => ({ atMs: Date.parse(kill.at), limitBytes: kill.memory_limit_bytes })),
          current: { cpuRequestMillicores: container.requests.cpu_millicores, cpuLimitMillicores: container.limits.cpu_millicores, memoryRequestBytes: container.requests.memory_bytes, memoryLimitBytes: container.limits.memory_bytes },
          throttledShare: throttledShare(hours),
        }),
      }];
    });
    if (this.sizings.size > 50_000) this.sizings.clear();
    this.sizings.set(cacheKey, { atMs: nowMs, sized });
    return sized;
  }

  private async rates(clusterId: string, nowMs: number): Promise<Map<string, WorkloadRates>> {
    try {
      const answer = await this.bus.ask<QueryResponse<'cost', 'workload_costs'>>('cost', 'workload_costs', { cluster_id: clusterId, workloads: null, start: toTimestamp(nowMs - COST_WINDOW_MS), end: toTimestamp(nowMs) });
      const nanos = (text: string | null) => (text === null ? null : BigInt(text));
      return new Map(answer.workloads.map((each) => [workloadKey(each.workload), {
        currency: answer.currency, monthlyNanos: nanos(each.cost.monthly_projection), cpuPerCoreHourNanos: nanos(each.cpu_cost_per_core_hour), memoryPerGibHourNanos: nanos(each.memory_cost_per_gib_hour), priceSource: each.cost.price_basis?.source ?? null,
      }]));
    } catch (error) {
      if (!(error instanceof UpidError)) throw error;
      this.log.info({ cluster_id: clusterId, code: error.code }, 'no costs this time: savings are unknown');
      return new Map();
    }
  }

  private async largestNode(clusterId: string): Promise<{ cpuMillicores: number; memoryBytes: number } | null> {
    const nodes = (await this.inventory.byKind(clusterId, 'Node')).map((row) => row.body as NodeObject).filter((node) => !node.control_plane);
    if (nodes.length === 0) return null;
    return { cpuMillicores: Math.max(...nodes.map((node) => node.allocatable.cpu_millicores ?? 0)), memoryBytes: Math.max(...nodes.map((node) => node.allocatable.memory_bytes ?? 0)) };
  }
}

function refOf(workload: WorkloadObject): WorkloadRef {
  return { namespace: workload.namespace, kind: workload.workload_kind, name: workload.name };
}

function throttledShare(hours: readonly { throttled_minutes: number | null; covered_minutes: number }[]): number | null {
  const known = hours.filter((hour) => hour.throttled_minutes !== null);
  const minutes = known.reduce((sum, hour) => sum + hour.covered_minutes, 0);
  return minutes === 0 ? null : known.reduce((sum, hour) => sum + (hour.throttled_minutes ?? 0), 0) / minutes;
}

/** A UUID out of a name (RFC 9562, version 8: the name's SHA-256): the same advice keeps its id for ever. */
function uuidOf(name: string): string {
  const bytes = createHash('sha256').update(name).digest().subarray(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
