import {
  bucketOf, DAY_MS, HOUR_MS, MINUTE_MS, parseWorkloadKey, toPairs, toTimestamp, UpidError, workloadKey, type Assessment, type ClusterInsight, type ContainerObject, type Coverage, type Insight, type Judgement, type PodObject, type Policy, type QueryParsed, type QueryResponse, type UsageSummary, type WorkloadRef,
} from '@upid/contracts';
import type { Cache, InventoryMirror } from '@upid/platform';
import type { AssessmentRepository } from '../assessment/assessment.repository.js';
import { containerSummary, factorsOf, floorsOf, judgePod, judgeWorkload, limitsOf, loadSummary, profileOf, requestSummary, signalsOf, type WorkloadFacts } from '../assessment/facts.js';
import { clusterObjects, dependenciesOf, limitsOfWorkload, zoneOf, type ClusterObjects } from '../assessment/objects.js';
import { knownMinutes } from '../assessment/window.js';
import type { Aggregate } from '../fold/aggregate.js';
import { parseLatest } from '../fold/latest.js';
import { countRest, type RestMinutes } from '../idle/activity.js';
import type { CoverageRepository } from '../ingest/coverage.repository.js';
import { Derived } from './derived.js';
import type { ClusterRow, HistoryRepository, HourInfo, StoredPod } from './history.repository.js';
import { emptyData, floorHour, LATEST_MS, type Range, type RangeData, type RangeService, type StoredWorkload } from './range.service.js';
import { anomaliesOf, bitsIn, criticalityOf, efficiencyByHour, exhaustionOf, loadShapeOf, meansOf, patternsOf, performanceOf, predictionsOf, trendOf, userImpactScore, type Series } from './measures.js';

const OOM_MS = 7 * DAY_MS;
/** Anomalies older than this, counted from the range's end, are left out. */
const ANOMALY_MS = 7 * DAY_MS;
/** Pods whose own usage is told with their workload, and how far back. */
const LISTED_PODS = 50;
const POD_USAGE_MS = 24 * HOUR_MS;
/** Longest gaps and events are told of this many days. */
const GAP_DAYS = 30;

/** Workloads whose patterns and predictions are kept: some 10 kB each. */
const DERIVED_WORKLOADS = 2_000;

/** What has been resolved of a question. */
interface Subject extends StoredWorkload {
  readonly objects: ClusterObjects;
}

/** Answers what intelligence is asked. Figures come from the stored hours at the moment of the question. */
export class InsightService {
  private readonly ofHistory = new Derived<Pick<Insight, 'patterns' | 'predictions'>>(DERIVED_WORKLOADS);

  constructor(
    private readonly history: HistoryRepository, private readonly ranges: RangeService, private readonly inventory: InventoryMirror, private readonly assessments: AssessmentRepository, private readonly coverageEvents: CoverageRepository, private readonly cache: Cache,
    private readonly policy: Policy, private readonly nowMs: () => number,
  ) {}

  // ---------------------------------------------------------------- questions

  async pod(request: QueryParsed<'intelligence', 'pod'>): Promise<QueryResponse<'intelligence', 'pod'>> {
    const range = rangeOf(request);
    const cluster = await this.clusterOf(request.cluster_id);
    const named = await this.inventory.byName(request.cluster_id, 'Pod', request.namespace, request.pod_name);
    const stored = cluster ? (named ? await this.history.podsByUid(cluster.number, [named.uid]) : (await this.history.podsNamed(cluster.number, request.namespace, request.pod_name)).slice(-1)) : [];
    const pod = stored[0] ?? null;
    const uid = named?.uid ?? pod?.uid;
    if (uid === undefined) throw new UpidError('not_found', `There is no pod ${request.pod_name} in namespace ${request.namespace} of cluster ${request.cluster_id}, and none is remembered.`);
    const ref = named?.body.workload ?? (await this.refOf(cluster as ClusterRow, pod as StoredPod));
    const subject = await this.subject(request.cluster_id, cluster, ref);
    const workload = await this.ranges.workloadData(subject, range);
    const days = await this.ranges.daysOf(subject, range);
    const facts = this.factsOf(subject, workload, range, days);
    const own = pod && cluster ? await this.ranges.podData(cluster, pod, ref, range) : emptyData(range);
    const floors = floorsOf(facts.profile, facts.window);
    const rest: RestMinutes = { known: 0, atRest: 0 };
    if (floors.pod) for (const { load } of own.loads) countRest(load, floors.pod, rest);
    const judgement = judgePod({ minutes: own.loads.reduce((sum, { load }) => sum + knownMinutes(load), 0), rest }, judgeWorkload(facts, this.policy), facts, this.policy);
    const oomKills = (subject.objects.oomKills.get(workloadKey(ref)) ?? []).filter((kill) => kill.pod_uid === uid);
    const containers = named?.body.containers ?? [];
    const insight = this.insightOf(subject, judgement, facts, workload, own, range, { uid, oomKills: oomKills.map((kill) => kill.container), containers }, days);
    return { pod: { uid, name: request.pod_name, namespace: request.namespace, node_name: named?.body.node_name ?? null }, insight };
  }

  async workload(request: QueryParsed<'intelligence', 'workload'>): Promise<QueryResponse<'intelligence', 'workload'>> {
    const range = rangeOf(request);
    const cluster = await this.clusterOf(request.cluster_id);
    const ref = await this.findWorkload(request.cluster_id, cluster, request.namespace, request.kind, request.name);
    const key = workloadKey(ref);
    const subject = await this.subject(request.cluster_id, cluster, ref);
    const data = await this.ranges.workloadData(subject, range);
    const days = await this.ranges.daysOf(subject, range);
    const facts = this.factsOf(subject, data, range, days);
    const judgement = judgeWorkload(facts, this.policy);
    const stored = await this.assessments.of(request.cluster_id, key);
    const oomKills = (subject.objects.oomKills.get(key) ?? []).map((kill) => kill.container);
    const object = subject.objects.workloads.get(key) ?? null;
    const insight = this.insightOf(subject, judgement, facts, data, data, range, { uid: object?.uid ?? null, oomKills, containers: object?.containers ?? [] }, days);
    const hourly = meansOf(data.loads, 'cpuMillicores', 60);
    const requests = insight.requests;
    return {
      insight, assessment: stored?.assessment ?? null, replicas: object?.replicas ?? null, pods: await this.podsOf(subject, judgement, stored?.assessment ?? null, range), load: loadShapeOf(hourly, facts.zone),
      service_reliability: requests && requests.business > 0 ? 1 - Math.min(1, requests.errors / requests.business) : null,
    };
  }

  async requests(request: QueryParsed<'intelligence', 'requests'>): Promise<QueryResponse<'intelligence', 'requests'>> {
    const cluster = await this.clusterOf(request.cluster_id);
    const { workload: ref } = request;
    const number = cluster ? await this.history.workloadNumber(cluster.number, ref) : null;
    return { requests: requestSummary((await this.ranges.workloadData({ cluster, ref, number }, rangeOf(request))).aggregate) };
  }

  async usageHistory(request: QueryParsed<'intelligence', 'usage_history'>): Promise<QueryResponse<'intelligence', 'usage_history'>> {
    const range = rangeOf(request);
    const cluster = await this.clusterOf(request.cluster_id);
    const ref = await this.findWorkload(request.cluster_id, cluster, request.workload.namespace, request.workload.kind, request.workload.name);
    const subject = await this.subject(request.cluster_id, cluster, ref);
    const hours = await this.ranges.workloadHours(subject, { startMs: floorHour(range.startMs), endMs: range.endMs });
    const kills = subject.objects.oomKills.get(workloadKey(ref)) ?? [];
    const names = new Set([...hours.flatMap(({ aggregate }) => aggregate.containers.map((each) => each.name)), ...kills.map((kill) => kill.container)]);
    return {
      containers: [...names].sort().map((name) => ({
        name, oom_kills: kills.filter((kill) => kill.container === name).length,
        hours: hours.flatMap(({ hourMs, aggregate }) => {
          const each = aggregate.containers.find((container) => container.name === name);
          return each ? [{
            hour: toTimestamp(hourMs), covered_minutes: each.minutes, cpu_millicores_mean: each.cpuMillicoreMinutes / each.minutes, cpu_millicores_max: each.cpuMaxMillicores, cpu_distribution: toPairs(each.cpu),
            memory_bytes_mean: (each.memoryKibibyteMinutes * 1024) / each.minutes, memory_bytes_max: each.memoryMaxBytes, throttled_minutes: each.throttledKnownMinutes > 0 ? each.throttledMinutes : null, restarts: each.restarts, pods: each.pods,
          }] : [];
        }),
      })),
    };
  }

  async coverage(request: QueryParsed<'intelligence', 'coverage'>): Promise<QueryResponse<'intelligence', 'coverage'>> {
    const cluster = await this.clusterOf(request.cluster_id);
    const nowMs = this.nowMs();
    const backfill = await this.coverageEvents.backfill(request.cluster_id);
    const gaps = (await this.coverageEvents.events(request.cluster_id, 'gap', new Date(nowMs - GAP_DAYS * DAY_MS))).map((gap) => ({ source: gap.source as string, start: gap.startsAt.toISOString(), end: gap.endsAt.toISOString(), reason: gap.reason }));
    const progress = backfill === null ? null : { done: backfill.type === 'backfill_done', progress: backfill.type === 'backfill_done' ? 1 : Math.min(1, Math.max(0, Number(backfill.detail.progress ?? 0) || 0)) };
    if (!cluster) return { usage_since: null, usage_until: null, requests_since: null, requests_until: null, usage_covered_24h: null, requests_covered_24h: null, backfill: progress, gaps };
    const [span, hours] = await Promise.all([this.history.span(cluster.number), this.history.hours(cluster.number, floorHour(nowMs - DAY_MS), nowMs + HOUR_MS)]);
    if (cluster.lastSkewedAt && cluster.lastSkewMs !== null && cluster.lastSkewedAt.getTime() >= nowMs - DAY_MS) {
      const at = cluster.lastSkewedAt.toISOString();
      gaps.unshift({ source: 'clock', start: at, end: at, reason: `${cluster.skewedBatches} batches were published more than five minutes from when the bus took them (the last ${Math.round(cluster.lastSkewMs / 1000)} s): sent late from a spool, or by a clock that is wrong; their samples are kept under the agent's times` });
    }
    const covered = (minutes: (hour: HourInfo) => bigint) => Math.min(1, hours.reduce((sum, hour) => sum + bitsIn(minutes(hour) & minutesWithin(hour.hourMs, nowMs - DAY_MS, nowMs)), 0) / 1440);
    const iso = (date: Date | null) => date?.toISOString() ?? null;
    return {
      usage_since: iso(span.usageSince), usage_until: iso(span.usageUntil), requests_since: iso(span.requestsSince), requests_until: iso(span.requestsUntil),
      usage_covered_24h: span.usageSince ? covered((hour) => hour.usageMinutes) : null, requests_covered_24h: span.requestsSince ? covered((hour) => hour.requestMinutes) : null, backfill: progress, gaps,
    };
  }

  async latest(request: QueryParsed<'intelligence', 'latest'>): Promise<QueryResponse<'intelligence', 'latest'>> {
    const cluster = await this.clusterOf(request.cluster_id);
    const uids = request.pod_uids ?? (await this.inventory.byKind(request.cluster_id, 'Pod')).map((pod) => pod.uid);
    const found = new Map<string, NonNullable<ReturnType<typeof parseLatest>>>();
    const texts = await this.cache.getFields(`latest:${request.cluster_id}`, uids);
    uids.forEach((uid, i) => {
      const value = texts[i] == null ? null : parseLatest(texts[i]);
      if (value) found.set(uid, value);
    });
    // Without the cache the cells of the last windows tell the same.
    if (cluster && this.cache.state !== 'ready') for (const [uid, value] of await this.ranges.latestFromCells(cluster, this.nowMs())) if (uids.includes(uid)) found.set(uid, value);
    const oldest = (this.nowMs() - LATEST_MS) / MINUTE_MS;
    return { pods: [...found].filter(([, value]) => value.minute >= oldest).map(([uid, value]) => ({ uid, minute: toTimestamp(value.minute * MINUTE_MS), cpu_millicores: value.cpuMillicores, memory_bytes: value.memoryBytes })) };
  }

  async clusterInsight(request: QueryParsed<'intelligence', 'cluster'>): Promise<ClusterInsight> {
    const range = rangeOf(request);
    const clusterId = request.cluster_id;
    const cluster = await this.clusterOf(clusterId);
    const within = (namespace: string) => request.namespace === null || namespace === request.namespace;
    const [nodes, objects, stored] = await Promise.all([this.inventory.byKind(clusterId, 'Node'), this.objectsOf(clusterId), this.assessments.all(clusterId)]);
    if (request.namespace !== null && !objects.namespaces.has(request.namespace) && ![...objects.pods.keys()].some((key) => parseWorkloadKey(key).namespace === request.namespace)) {
      throw new UpidError('not_found', `There is no namespace ${request.namespace} in cluster ${clusterId}.`);
    }
    const totals = cluster ? await this.ranges.totals(cluster, range) : new Map<string, Aggregate>();
    const pods = [...objects.pods].flatMap(([key, all]) => (within(parseWorkloadKey(key).namespace) ? all : []));
    const told = stored.filter((each) => within(each.assessment.workload.namespace));
    const usageMinutes = cluster ? (await this.history.hours(cluster.number, floorHour(range.startMs), range.endMs)) : [];
    const covered = usageMinutes.reduce((sum, hour) => sum + bitsIn(hour.usageMinutes & minutesWithin(hour.hourMs, range.startMs, range.endMs)), 0);
    const coveredRequests = usageMinutes.reduce((sum, hour) => sum + bitsIn(hour.requestMinutes & minutesWithin(hour.hourMs, range.startMs, range.endMs)), 0);
    const rangeMinutes = (range.endMs - range.startMs) / MINUTE_MS;
    let cpu = 0;
    let memory = 0;
    let receive = 0;
    let transmit = 0;
    let network = false;
    let storage = 0;
    let business = 0;
    let errors = 0;
    let requestsPerDay: number | null = null;
    const byKey = new Map<string, Aggregate>();
    for (const [key, total] of totals) {
      if (!within(parseWorkloadKey(key).namespace)) continue;
      byKey.set(key, total);
      cpu += total.load.cpuMillicoreMinutes;
      memory += total.load.memoryKibibyteMinutes * 1024;
      receive += total.load.receiveRateMinutes;
      transmit += total.load.transmitRateMinutes;
      network ||= total.load.networkMinutes > 0;
      storage += total.volumeMaxBytes;
      if (!total.requests) continue;
      business += total.requests.business;
      errors += total.requests.status[4];
      requestsPerDay = (requestsPerDay ?? 0) + (total.requests.coveredMinutes > 0 ? (total.requests.business / total.requests.coveredMinutes) * 1440 : 0);
    }
    // Whole hours may hold more than the range asked for: means are over what the totals cover.
    const coveredByTotals = Math.max(0, ...[...totals.values()].map((total) => total.load.minutes), covered);
    const mean = (sum: number) => (coveredByTotals > 0 ? sum / coveredByTotals : null);
    const requested = (pick: (container: ContainerObject) => number | null) => pods.reduce((sum, pod) => sum + pod.containers.reduce((of, container) => of + (container.role === 'init' ? 0 : (pick(container) ?? 0)), 0), 0);
    const utilisation = (used: number | null, ofRequests: number, capacity: (node: (typeof nodes)[number]['body']) => number | null, allocatable: (node: (typeof nodes)[number]['body']) => number | null) => {
      const all = nodes.reduce((sum, node) => sum + (allocatable(node.body) ?? 0), 0);
      return { used, requested: ofRequests, allocatable: all, capacity: nodes.reduce((sum, node) => sum + (capacity(node.body) ?? 0), 0), used_share: used === null || all === 0 ? null : used / all, requested_share: all === 0 ? null : ofRequests / all };
    };
    const states: Record<string, number> = { unknown: 0, constrained: 0, idle: 0, underused: 0, active: 0 };
    for (const each of told) states[each.assessment.judgement.state] = (states[each.assessment.judgement.state] ?? 0) + 1;
    const sizes = told.map((each) => sizeOf(each.assessment, objects));
    const reasons: Record<string, string> = {};
    if (covered === 0) reasons.usage = 'no usage was observed in the range';
    if (requestsPerDay === null) reasons.requests = 'no request telemetry in the range';
    if (nodes.length === 0) reasons.nodes = 'the inventory has not come yet';
    if (told.length === 0) reasons.workloads = 'no workload was judged yet';
    reasons.anomalies = 'anomalies are found when a workload or pod is asked for';
    if (storage === 0) reasons.storage = 'no volume tells what it holds';
    const span = cluster ? await this.history.span(cluster.number) : null;
    return {
      cluster_id: clusterId, nodes: nodes.length, pods: pods.length,
      cpu: utilisation(mean(cpu), requested((container) => container.requests.cpu_millicores), (node) => node.capacity.cpu_millicores, (node) => node.allocatable.cpu_millicores),
      memory: utilisation(mean(memory), requested((container) => container.requests.memory_bytes), (node) => node.capacity.memory_bytes, (node) => node.allocatable.memory_bytes),
      storage_used_bytes: storage > 0 ? storage : null, network_bytes_per_second: network && coveredByTotals > 0 ? { receive: receive / coveredByTotals, transmit: transmit / coveredByTotals } : null, states,
      over_provisioned_workloads: sizes.filter((size) => size === 'over').length, under_provisioned_workloads: sizes.filter((size) => size === 'under').length,
      requests_per_day: requestsPerDay, service_availability: business > 0 ? 1 - Math.min(1, errors / business) : null,
      workloads: told.map(({ assessment }) => {
        const total = byKey.get(workloadKey(assessment.workload));
        return {
          workload: assessment.workload, uid: assessment.uid, state: assessment.judgement.state, idle_probability: assessment.judgement.idle_probability, confidence: assessment.judgement.confidence,
          replicas: objects.workloads.get(workloadKey(assessment.workload))?.replicas ?? null, requests_per_day: (total ? requestSummary(total) : assessment.requests)?.business_per_day ?? null,
          cpu_millicores_mean: total && total.load.minutes > 0 ? total.load.cpuMillicoreMinutes / total.load.minutes : null, memory_bytes_mean: total && total.load.minutes > 0 ? (total.load.memoryKibibyteMinutes * 1024) / total.load.minutes : null,
        };
      }),
      anomalies: [],
      coverage: { usage: share(covered, rangeMinutes), requests: requestsPerDay === null ? null : share(coveredRequests, rangeMinutes), cost: null, since: span?.usageSince?.toISOString() ?? null, until: span?.usageUntil?.toISOString() ?? null, reasons },
    };
  }

  // ---------------------------------------------------------------- what answers are made of

  /** @throws {UpidError} cluster_not_found where nobody ever heard of the cluster; null where only its inventory has come */
  private async clusterOf(clusterId: string): Promise<ClusterRow | null> {
    const cluster = await this.history.cluster(clusterId);
    if (!cluster && !(await this.inventory.clusters()).some((each) => each.clusterId === clusterId)) throw new UpidError('cluster_not_found', `No cluster ${clusterId} is known.`, { cluster_id: clusterId });
    return cluster;
  }

  private async objectsOf(clusterId: string): Promise<ClusterObjects> {
    const [workloads, pods, dependencies, oomKills, namespaces, cluster] = await Promise.all([
      this.inventory.byKind(clusterId, 'Workload'), this.inventory.byKind(clusterId, 'Pod'), this.inventory.byKind(clusterId, 'Dependency'), this.inventory.byKind(clusterId, 'OomKill'), this.inventory.byKind(clusterId, 'Namespace'), this.inventory.byKind(clusterId, 'Cluster'),
    ]);
    return clusterObjects({
      workloads: workloads.map((each) => each.body), pods: pods.map((each) => each.body), dependencies: dependencies.map((each) => each.body), oomKills: oomKills.map((each) => each.body), namespaces: namespaces.map((each) => each.body), timeZone: cluster[0]?.body.time_zone ?? null,
    }, this.nowMs() - OOM_MS);
  }

  /** The objects around one workload: what its answers need, without the rest of the cluster. */
  private async subject(clusterId: string, cluster: ClusterRow | null, ref: WorkloadRef): Promise<Subject> {
    const inNamespace = { namespace: ref.namespace };
    const [workloads, pods, dependencies, oomKills, namespace, clusterObject, number] = await Promise.all([
      this.inventory.byKind(clusterId, 'Workload', inNamespace), this.inventory.podsOfWorkload(clusterId, ref), this.inventory.byKind(clusterId, 'Dependency', inNamespace), this.inventory.byKind(clusterId, 'OomKill', inNamespace),
      this.inventory.byName(clusterId, 'Namespace', null, ref.namespace), this.inventory.byKind(clusterId, 'Cluster'), cluster ? this.history.workloadNumber(cluster.number, ref) : Promise.resolve(null),
    ]);
    const own = dependencies.filter((each) => workloadKey(each.body.from) === workloadKey(ref));
    const targets = own.flatMap((each) => each.body.to_workloads).filter((target) => target.namespace !== ref.namespace);
    const elsewhere = await Promise.all(targets.map((target) => this.inventory.workload(clusterId, target)));
    const targetPods = await Promise.all(own.flatMap((each) => each.body.to_workloads).map((target) => this.inventory.podsOfWorkload(clusterId, target)));
    return {
      cluster, ref, number,
      objects: clusterObjects({
        workloads: [...workloads, ...elsewhere.filter((each) => each !== null)].map((each) => each.body), pods: [...pods, ...targetPods.flat()].map((each) => each.body), dependencies: own.map((each) => each.body), oomKills: oomKills.map((each) => each.body),
        namespaces: namespace ? [namespace.body] : [], timeZone: clusterObject[0]?.body.time_zone ?? null,
      }, this.nowMs() - OOM_MS),
    };
  }

  private async refOf(cluster: ClusterRow, pod: StoredPod): Promise<WorkloadRef> {
    return parseWorkloadKey((await this.history.workloadKeys(cluster.number)).get(pod.workload) as string);
  }

  /** @throws {UpidError} not_found */
  private async findWorkload(clusterId: string, cluster: ClusterRow | null, namespace: string, kind: WorkloadRef['kind'] | null, name: string): Promise<WorkloadRef> {
    const objects = (await this.inventory.byKind(clusterId, 'Workload', { namespace })).filter((each) => each.body.name === name && (kind === null || each.body.workload_kind === kind));
    const [object] = objects;
    if (object) return { namespace, kind: object.body.workload_kind, name };
    const known = (cluster ? await this.history.workloadsNamed(cluster.number, namespace, name) : []).filter((each) => kind === null || each.ref.kind === kind);
    const last = known.at(-1);
    if (!last) throw new UpidError('not_found', `There is no ${kind ?? 'workload'} ${name} in namespace ${namespace} of cluster ${clusterId}, and none is remembered.`);
    return last.ref;
  }

  private factsOf(subject: Subject, data: RangeData, range: Range, days: readonly Aggregate[]): WorkloadFacts {
    const key = workloadKey(subject.ref);
    const profile = days.length === 0 ? null : profileOf(days, range.startMs, range.endMs, zoneOf(subject.objects, key));
    const floors = floorsOf(profile, data.aggregate);
    const rest: RestMinutes = { known: 0, atRest: 0 };
    if (floors.load) for (const { load } of data.loads) countRest(load, floors.load, rest);
    return {
      window: data.aggregate, rest, profile, dependencies: dependenciesOf(subject.objects, key), limits: limitsOfWorkload(subject.objects, key), oomKills: subject.objects.oomKills.get(key)?.length ?? 0,
      windowMinutes: (range.endMs - range.startMs) / MINUTE_MS, zone: zoneOf(subject.objects, key),
    };
  }

  /** What is told of a workload or pod: `own` are its minutes, `workload` those of the workload that its requests belong to. */
  private insightOf(subject: Subject, judgement: Judgement, facts: WorkloadFacts, workload: RangeData, own: RangeData, range: Range, of: { uid: string | null; oomKills: readonly string[]; containers: readonly ContainerObject[] }, days: readonly Aggregate[]): Insight {
    const { aggregate } = own;
    const usage = loadSummary(aggregate);
    const requests = requestSummary(workload.aggregate);
    const signals = signalsOf(aggregate, of.containers.length > 0 ? limitsOf(of.containers) : facts.limits, of.oomKills.length);
    const hourly = meansOf(own.loads, 'cpuMillicores', 60);
    const since = range.endMs - ANOMALY_MS;
    const memory = meansOf(own.loads, 'memoryBytes', 5);
    // A limit bounds one pod: of a workload the sum over its pods meets none.
    const exhaustion = own === workload ? null : exhaustionOf(memory, sumOrNull(of.containers.filter((each) => each.role !== 'init').map((each) => each.limits.memory_bytes)));
    const history = hourlyCpu(days, range.endMs);
    const derived = this.ofHistory.of(`${subject.cluster?.number} ${workloadKey(subject.ref)} ${facts.zone.name}`, history, () => ({ predictions: predictionsOf(history, 'cpu_millicores'), patterns: patternsOf(history, facts.zone) }));
    const { predictions } = derived;
    const labels = subject.objects.workloads.get(workloadKey(subject.ref))?.labels ?? {};
    return {
      workload: subject.ref, uid: of.uid, judgement, usage,
      containers: aggregate.containers.map((container) => ({ name: container.name, usage: containerSummary(container), oom_kills: of.oomKills.filter((name) => name === container.name).length })),
      requests, idle_periods: facts.profile?.idlePeriods ?? null, time_zone: facts.zone.name, performance: performanceOf(usage, aggregate, signals.memoryOfLimit, of.oomKills.length, exhaustion), patterns: own === workload ? derived.patterns : patternsOf(hourly, facts.zone),
      anomalies: [...anomaliesOf(meansOf(own.loads, 'cpuMillicores', 5), 'cpu_millicores', 'millicores', 1, since), ...anomaliesOf(memory, 'memory_bytes', 'bytes', 1_048_576, since)].slice(0, 20),
      trends: { usage: trendOf(hourly, 'CPU'), efficiency: trendOf(efficiencyByHour(workload.aggregate), 'Business requests a CPU second') }, predictions,
      user_impact_score: userImpactScore(requests), business_criticality: criticalityOf(labels, requests), coverage: coverageOf(aggregate, workload.aggregate, range, facts, predictions === null),
    };
  }

  private async podsOf(subject: Subject, judgement: Judgement, assessment: Assessment | null, range: Range): Promise<QueryResponse<'intelligence', 'workload'>['pods']> {
    const running = (subject.objects.pods.get(workloadKey(subject.ref)) ?? []) as readonly PodObject[];
    const judged = new Map(assessment?.pods.map((pod) => [pod.uid, pod.judgement]));
    const listed = running.slice(0, LISTED_PODS);
    const recent = { startMs: Math.max(range.startMs, range.endMs - POD_USAGE_MS), endMs: range.endMs };
    const stored = subject.cluster ? await this.history.podsByUid(subject.cluster.number, listed.map((pod) => pod.uid)) : [];
    const data = subject.cluster ? await this.ranges.podsData(subject.cluster, stored, subject.ref, recent) : new Map<string, RangeData>();
    const usage = new Map([...data].map(([uid, each]) => [uid, loadSummary(each.aggregate)]));
    return running.map((pod) => ({ uid: pod.uid, name: pod.name, node_name: pod.node_name, judgement: judged.get(pod.uid) ?? judgement, usage: usage.get(pod.uid) ?? NO_USAGE }));
  }
}

const NO_USAGE: UsageSummary = { cpu_millicores: null, memory_bytes: null, network_bytes_per_second: null, throttled_minutes_share: null, covered_minutes: 0 };

const share = (part: number, whole: number) => (whole > 0 ? Math.min(1, part / whole) : 0);

/** Bits of an hour's minutes within a range. */
function minutesWithin(hourMs: number, startMs: number, endMs: number): bigint {
  let bits = 0n;
  for (let m = 0; m < 60; m++) {
    const at = hourMs + m * MINUTE_MS;
    if (at + MINUTE_MS > startMs && at < endMs) bits |= 1n << BigInt(m);
  }
  return bits;
}

/** @throws {UpidError} invalid_time_range */
function rangeOf(request: { readonly start: string; readonly end: string }): Range {
  const range = { startMs: Date.parse(request.start), endMs: Date.parse(request.end) };
  if (!(range.endMs > range.startMs)) throw new UpidError('invalid_time_range', `The range ${request.start} to ${request.end} ends before it starts.`);
  return range;
}

/** What predictions and patterns rest on. */
const PREDICTION_DAYS = 42;

/** Hourly means of a workload's CPU from its days, up to the last hour that is known. */
function hourlyCpu(days: readonly Aggregate[], endMs: number): Series {
  const startMs = Math.floor(endMs / DAY_MS) * DAY_MS - PREDICTION_DAYS * DAY_MS;
  const hours = Math.floor((endMs - startMs) / HOUR_MS);
  const values = new Float64Array(hours).fill(Number.NaN);
  let last = 0;
  for (const day of days) {
    for (let hour = 0; hour < 24; hour++) {
      const at = (day.startMinute * MINUTE_MS - startMs) / HOUR_MS + hour;
      const sum = (field: Float64Array) => field.subarray(hour * 4, hour * 4 + 4).reduce((a, b) => a + b, 0);
      const minutes = sum(day.quarters.minutes);
      if (at < 0 || at >= hours || minutes === 0) continue;
      values[at] = sum(day.quarters.cpuMillicoreMinutes) / minutes;
      last = Math.max(last, at + 1);
    }
  }
  return { timesMs: Float64Array.from({ length: last }, (_, i) => startMs + i * HOUR_MS), values: values.subarray(0, last) };
}

const sumOrNull = (values: readonly (number | null)[]) => (values.length === 0 || values.some((value) => value === null) ? null : values.reduce<number>((sum, value) => sum + (value ?? 0), 0));

function coverageOf(own: Aggregate, workload: Aggregate, range: Range, facts: WorkloadFacts, unpredicted: boolean): Coverage {
  const minutes = (range.endMs - range.startMs) / MINUTE_MS;
  const { quarters } = own;
  const known = Array.from(quarters.minutes, (each, i) => (each > 0 ? i : -1)).filter((i) => i >= 0);
  const at = (quarter: number) => toTimestamp((own.startMinute + quarter * 15) * MINUTE_MS);
  const reasons: Record<string, string> = {};
  if (unpredicted) reasons.predictions = 'fewer than seven days of hours are known';
  if (own.load.minutes === 0) reasons.usage = 'no usage was observed in the range';
  if (own.load.minutes > 0 && own.load.networkMinutes === 0) reasons.network = 'its network is not known (the host\'s network, or a source without it)';
  if (!workload.requests) reasons.requests = 'no request telemetry names this workload';
  if (!facts.profile?.idlePeriods) reasons.idle_periods = 'fewer than 14 days are covered';
  for (const factor of factorsOf(facts)) if (factor.score === null) reasons[factor.name] = factor.evidence;
  return {
    usage: share(own.load.minutes, minutes), requests: workload.requests ? share(workload.requests.coveredMinutes, minutes) : null, cost: null,
    since: known.length > 0 ? at(known[0] as number) : null, until: known.length > 0 ? at((known.at(-1) as number) + 1) : null, reasons,
  };
}

/** Whether a workload has far too much or too little: the 95th percentile of a container's CPU against its request, its memory peak against its request. */
function sizeOf(assessment: Assessment, objects: ClusterObjects): 'over' | 'under' | null {
  if (assessment.judgement.state === 'unknown') return null;
  if (assessment.judgement.state === 'constrained') return 'under';
  const limits = limitsOfWorkload(objects, workloadKey(assessment.workload));
  let over = false;
  for (const { name, usage } of assessment.containers) {
    const asked = limits.get(name);
    if (asked?.cpuRequest && usage.cpu_millicores) {
      if (bucketOf(usage.cpu_millicores.p95) > bucketOf(asked.cpuRequest)) return 'under';
      over ||= usage.cpu_millicores.p95 < asked.cpuRequest / 2;
    }
    if (asked?.memoryRequest && usage.memory_bytes) {
      if (usage.memory_bytes.max > asked.memoryRequest) return 'under';
      over ||= usage.memory_bytes.max < asked.memoryRequest / 2;
    }
  }
  return over ? 'over' : null;
}
