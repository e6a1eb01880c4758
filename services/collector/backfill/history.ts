import { MINUTE_MS, workloadKey, type WorkloadRef } from '@upid/contracts';
import { z } from 'zod';
import { uuidOf } from '../inventory/identifiers.js';
import { workloadKindOf } from '../inventory/owners.js';
import type { PodUsageSample, UsageSample } from '../publishing/usage-batches.js';
import type { RequestRow } from '../publishing/request-batches.js';
import { classifier, REQUEST_CLASSES } from '../requests/classes.js';

/** History out of a Prometheus-compatible range API: what is asked, and what the answers say. */

/** One series of a range answer: labels, and values by unix seconds. */
export interface RangeSeries {
  readonly metric: Readonly<Record<string, string>>;
  readonly values: readonly (readonly [seconds: number, value: string])[];
}

/** An answer that is no range of series. */
export class MalformedAnswerError extends Error {
  override readonly name = 'MalformedAnswerError';
}

const rangeSchema = z.object({
  status: z.literal('success'),
  data: z.object({ result: z.array(z.object({ metric: z.record(z.string(), z.string()), values: z.array(z.tuple([z.number(), z.string()])).optional(), value: z.tuple([z.number(), z.string()]).optional() })) }),
});

/** Series of `/api/v1/query_range` or `/api/v1/query` (one value each). @throws {MalformedAnswerError} */
export function parseSeries(body: unknown): RangeSeries[] {
  const parsed = rangeSchema.safeParse(body);
  if (!parsed.success) throw new MalformedAnswerError(`no answer of a Prometheus API: ${parsed.error.issues[0]?.path.join('.')} ${parsed.error.issues[0]?.message}`);
  return parsed.data.data.result.map(({ metric, values, value }) => ({ metric, values: values ?? (value === undefined ? [] : [value]) }));
}

// ---------------------------------------------------------------- questions

/** A label's value as PromQL quotes it. */
function quoted(text: string): string {
  return JSON.stringify(text);
}

/**
 * The questions for one namespace. `max by` and not `sum by`: a container that is scraped twice, or was restarted within the look-back,
 * has two series and one truth. Names come last.
 * @param window the shortest range that surely holds two scrapes, such as `2m`
 */
export function usageQuestions(namespace: string, window: string) {
  const containers = `{namespace=${quoted(namespace)},container!="",container!="POD"}`;
  const pods = `{namespace=${quoted(namespace)}}`;
  const rate = (metric: string, selector: string) => `rate(${metric}${selector}[${window}])`;
  return {
    cpu: `max by (pod, container) (${rate('container_cpu_usage_seconds_total', containers)})`,
    memory: `max by (pod, container) (container_memory_working_set_bytes${containers})`,
    memoryPeak: `max by (pod, container) (max_over_time(container_memory_working_set_bytes${containers}[1m]))`,
    cpuPeak: `max by (pod, container) (max_over_time(rate(container_cpu_usage_seconds_total${containers}[${window}])[1m:30s]))`,
    periods: `max by (pod, container) (${rate('container_cpu_cfs_periods_total', containers)})`,
    throttled: `max by (pod, container) (${rate('container_cpu_cfs_throttled_periods_total', containers)})`,
    receive: `max by (pod, interface) (${rate('container_network_receive_bytes_total', pods)})`,
    transmit: `max by (pod, interface) (${rate('container_network_transmit_bytes_total', pods)})`,
    podInfo: `kube_pod_info${pods}`,
    podOwner: `kube_pod_owner${pods}`,
    replicaSetOwner: `kube_replicaset_owner${pods}`,
    jobOwner: `kube_job_owner${pods}`,
  };
}
export type UsageQuestion = keyof ReturnType<typeof usageQuestions>;

/** Those whose answers name the pods of the others; they are asked last, and only where they are needed. */
export const NAME_QUESTIONS: ReadonlySet<UsageQuestion> = new Set(['podInfo', 'podOwner', 'replicaSetOwner', 'jobOwner']);

/** Metrics without which a question is not asked, and whether usage can be told without it. */
export const QUESTION_METRICS: Readonly<Record<UsageQuestion, { readonly metric: string; readonly required: boolean }>> = {
  cpu: { metric: 'container_cpu_usage_seconds_total', required: true },
  memory: { metric: 'container_memory_working_set_bytes', required: true },
  memoryPeak: { metric: 'container_memory_working_set_bytes', required: false },
  cpuPeak: { metric: 'container_cpu_usage_seconds_total', required: false },
  periods: { metric: 'container_cpu_cfs_periods_total', required: false },
  throttled: { metric: 'container_cpu_cfs_throttled_periods_total', required: false },
  receive: { metric: 'container_network_receive_bytes_total', required: false },
  transmit: { metric: 'container_network_transmit_bytes_total', required: false },
  podInfo: { metric: 'kube_pod_info', required: false },
  podOwner: { metric: 'kube_pod_owner', required: false },
  replicaSetOwner: { metric: 'kube_replicaset_owner', required: false },
  jobOwner: { metric: 'kube_job_owner', required: false },
};

export const REQUESTS_METRIC = 'nginx_ingress_controller_requests';

/** The ingress controller's counters for a namespace; `namespaceLabel` is `exported_namespace` where Prometheus keeps its own. */
export function requestQuestion(namespace: string, namespaceLabel: string): string {
  return `${REQUESTS_METRIC}{${namespaceLabel}=${quoted(namespace)}}`;
}

/** A range that surely holds two scrapes: twice the interval, in whole minutes. */
export function rateWindow(intervalSeconds: number): string {
  return `${Math.max(1, Math.ceil((2 * intervalSeconds) / 60))}m`;
}

// ---------------------------------------------------------------- names

/** What a pod of the past is called by now. */
export interface PastPod {
  readonly uid: string;
  readonly workload: WorkloadRef;
  /** The pod's name where its UID is made up from it; null where the UID is the pod's own. */
  readonly madeUpFor: string | null;
  readonly hostNetwork: boolean;
}

/** What the present inventory knows of names. */
export interface PresentNames {
  pod(namespace: string, name: string): { readonly uid: string; readonly workload: WorkloadRef; readonly hostNetwork: boolean; readonly createdAtMs: number } | null;
  hasWorkload(workload: WorkloadRef): boolean;
}

type Labels = Readonly<Record<string, string>>;

/**
 * Whether the inventory alone says what all the pods of an answer were: they are there, and were when the answer begins (a name is
 * given once at a time). Then Prometheus need not be asked for names.
 */
export function allKnown(answers: UsageAnswers, namespace: string, startMs: number, present: PresentNames): boolean {
  const names = new Set([...(answers.cpu ?? []), ...(answers.memory ?? []), ...(answers.receive ?? []), ...(answers.transmit ?? [])].flatMap(({ metric }) => metric['pod'] ?? []));
  return [...names].every((name) => (present.pod(namespace, name)?.createdAtMs ?? Infinity) <= startMs);
}

/** Names of pods as their controllers make them, with the kind that makes them so. */
const NAME_PATTERNS: readonly (readonly [RegExp, WorkloadRef['kind']])[] = [
  [/^(.+)-[a-z0-9]{5,10}-[a-z0-9]{5}$/, 'Deployment'], [/^(.+)-\d{8,10}-[a-z0-9]{5}$/, 'CronJob'], [/^(.+)-\d+$/, 'StatefulSet'], [/^(.+)-[a-z0-9]{5}$/, 'DaemonSet'], [/^(.+)-[a-z0-9]{5}$/, 'ReplicaSet'], [/^(.+)-[a-z0-9]{5}$/, 'Job'],
  [/^(.+)-[a-z0-9]{5,10}-[a-z0-9]{5}$/, 'Rollout'],
];

/**
 * Finds what pods of a namespace were: UID and owner from kube-state-metrics, else the pod of that name now, else a workload that would
 * name its pods so. A pod of the past whose UID nobody tells gets one made of its name.
 */
export class PastNames {
  private readonly info = new Map<string, Labels>();
  private readonly owners = new Map<string, { kind: string; name: string }>();
  private readonly found = new Map<string, PastPod | null>();

  constructor(
    private readonly clusterId: string, private readonly namespace: string, private readonly present: PresentNames,
    series: { readonly podInfo: readonly RangeSeries[]; readonly podOwner: readonly RangeSeries[]; readonly replicaSetOwner: readonly RangeSeries[]; readonly jobOwner: readonly RangeSeries[] },
  ) {
    for (const { metric } of series.podInfo) if (metric['pod'] !== undefined) this.info.set(metric['pod'], metric);
    const owner = (of: string, metric: Labels, name: string | undefined) => {
      const { owner_kind: kind, owner_name: ownerName } = metric;
      if (name !== undefined && kind !== undefined && ownerName !== undefined && kind !== '<none>' && kind !== '') this.owners.set(`${of}/${name}`, { kind, name: ownerName });
    };
    for (const { metric } of series.podOwner) owner('Pod', metric, metric['pod']);
    for (const { metric } of series.replicaSetOwner) owner('ReplicaSet', metric, metric['replicaset']);
    for (const { metric } of series.jobOwner) owner('Job', metric, metric['job_name']);
  }

  /** null where nobody can tell whose pod it was. */
  pod(name: string): PastPod | null {
    let pod = this.found.get(name);
    if (pod === undefined) this.found.set(name, (pod = this.find(name)));
    return pod;
  }

  private find(name: string): PastPod | null {
    const info = this.info.get(name);
    const now = this.present.pod(this.namespace, name);
    const uid = info?.['uid'] ?? '';
    if (now !== null && (uid === '' || uid === now.uid)) return { uid: now.uid, workload: now.workload, hostNetwork: now.hostNetwork, madeUpFor: null };
    const workload = this.workloadOf(name, info) ?? (now === null ? null : now.workload);
    if (workload === null) return null;
    const hostNetwork = info?.['host_network'] === 'true';
    return uid === '' ? { uid: uuidOf('past-pod', this.clusterId, this.namespace, name), workload, madeUpFor: name, hostNetwork } : { uid, workload, madeUpFor: null, hostNetwork };
  }

  private workloadOf(name: string, info: Labels | undefined): WorkloadRef | null {
    const { namespace } = this;
    const created = info?.['created_by_kind'];
    let owner = this.owners.get(`Pod/${name}`) ?? (created !== undefined && created !== '<none>' && created !== '' ? { kind: created, name: info?.['created_by_name'] ?? '' } : undefined);
    if (owner === undefined && info !== undefined) return { namespace, kind: 'Pod', name };
    for (let above = owner; above !== undefined; above = this.owners.get(`${above.kind}/${above.name}`)) owner = above;
    if (owner !== undefined && owner.kind !== 'ReplicaSet') return { namespace, kind: workloadKindOf(owner.kind), name: owner.name };
    for (const [pattern, kind] of NAME_PATTERNS) {
      const base = pattern.exec(name)?.[1];
      if (base !== undefined && this.present.hasWorkload({ namespace, kind, name: base })) return { namespace, kind, name: base };
    }
    return owner === undefined ? null : { namespace, kind: 'ReplicaSet', name: owner.name };
  }
}

// ---------------------------------------------------------------- samples

type ByMinute = Map<string, Map<number, number>>;

/** Values by series key and minute. A value at a minute's end is of that minute. */
function byMinute(series: readonly RangeSeries[], keyOf: (metric: Labels) => string | null, merge: (a: number, b: number) => number): ByMinute {
  const all: ByMinute = new Map();
  for (const { metric, values } of series) {
    const key = keyOf(metric);
    if (key === null) continue;
    let minutes = all.get(key);
    if (minutes === undefined) all.set(key, (minutes = new Map()));
    for (const [seconds, text] of values) {
      const value = Number(text);
      if (!Number.isFinite(value) || value < 0) continue;
      const minute = Math.floor(seconds / 60) - 1;
      const before = minutes.get(minute);
      minutes.set(minute, before === undefined ? value : merge(before, value));
    }
  }
  return all;
}

const containerKey = ({ pod, container }: Labels): string | null => (pod && container ? `${pod}/${container}` : null);
const podKey = ({ pod, interface: name }: Labels): string | null => (pod && name !== 'lo' ? pod : null);

/** A rate above this many cores for one container is a glitch. */
const MOST_CORES = 1_024;

export type UsageAnswers = Partial<Record<UsageQuestion, readonly RangeSeries[]>>;

/** Samples of one namespace and stretch of time. `unnamed` counts those whose pod nobody can name. */
export function usageSamples(answers: UsageAnswers, names: PastNames): { samples: UsageSample[]; podSamples: PodUsageSample[]; unnamed: number } {
  const max = Math.max;
  const sum = (a: number, b: number) => a + b;
  const of = (question: UsageQuestion, keyOf = containerKey, merge: (a: number, b: number) => number = max) => byMinute(answers[question] ?? [], keyOf, merge);
  const [memory, memoryPeak, cpuPeak, periods, throttled] = [of('memory'), of('memoryPeak'), of('cpuPeak'), of('periods'), of('throttled')];
  const samples: UsageSample[] = [];
  let unnamed = 0;
  for (const [key, minutes] of of('cpu')) {
    const slash = key.indexOf('/');
    const pod = names.pod(key.slice(0, slash));
    for (const [minute, cores] of minutes) {
      const bytes = memory.get(key)?.get(minute);
      // Half of a sample is none: memory that is not told cannot be written.
      if (bytes === undefined || cores > MOST_CORES) continue;
      if (pod === null) {
        unnamed++;
        continue;
      }
      const cpuMillicores = cores > 0 ? max(1, Math.round(cores * 1_000)) : 0;
      const allPeriods = periods.get(key)?.get(minute);
      samples.push({
        podUid: pod.uid, workload: workloadKey(pod.workload), podName: pod.madeUpFor, container: key.slice(slash + 1), minute, cpuMillicores, cpuPeakMillicores: max(cpuMillicores, Math.round((cpuPeak.get(key)?.get(minute) ?? 0) * 1_000)),
        memoryBytes: bytes, memoryPeakBytes: max(bytes, memoryPeak.get(key)?.get(minute) ?? 0),
        throttledPermille: allPeriods === undefined || allPeriods <= 0 ? null : Math.min(1_000, Math.round(((throttled.get(key)?.get(minute) ?? 0) / allPeriods) * 1_000)), restarts: 0,
      });
    }
  }
  return { samples, podSamples: podSamplesOf(of('receive', podKey, sum), of('transmit', podKey, sum), names), unnamed };
}

function podSamplesOf(receive: ByMinute, transmit: ByMinute, names: PastNames): PodUsageSample[] {
  const samples: PodUsageSample[] = [];
  for (const name of new Set([...receive.keys(), ...transmit.keys()])) {
    const pod = names.pod(name);
    if (pod === null || pod.hostNetwork) continue;
    const minutes = new Set([...(receive.get(name)?.keys() ?? []), ...(transmit.get(name)?.keys() ?? [])]);
    for (const minute of minutes) {
      samples.push({ podUid: pod.uid, workload: workloadKey(pod.workload), podName: pod.madeUpFor, minute, receiveBytesPerSecond: receive.get(name)?.get(minute) ?? null, transmitBytesPerSecond: transmit.get(name)?.get(minute) ?? null, volumeUsedBytes: null });
    }
  }
  return samples;
}

// ---------------------------------------------------------------- requests

/** Labels of a scraper and not of what it scraped: the same counter under two of them is one counter scraped twice. */
const SCRAPER_LABELS: ReadonlySet<string> = new Set(['job', 'instance', 'endpoint', 'prometheus', 'prometheus_replica', 'replica', 'container', 'service', 'namespace', 'pod', 'node']);

/**
 * Requests of a namespace by workload and minute, from the ingress controller's counters read a minute apart. A counter that fell was
 * begun anew: it counted what it shows. The controller does not say what a request was for, so it is `unclassified` and counts as
 * business, unless the path of its Ingress rule is one that answers health checks and nothing else.
 * @param coveredMinutes minutes in which the controller was scraped: without counts they are silent, and all others unknown
 * @param workloadsOf what the Services of the namespace lead to
 * @param routed keys of workloads behind an Ingress, each of which gets a row a covered minute
 */
export function requestRows(
  series: readonly RangeSeries[], range: { readonly startMs: number; readonly endMs: number }, coveredMinutes: ReadonlySet<number>, workloadsOf: (service: string) => readonly WorkloadRef[], routed: readonly string[],
): RequestRow[] {
  const rows = new Map<string, RequestRow & { unclassified: number }>();
  const rowOf = (workload: string, minute: number) => {
    const key = `${workload} ${minute}`;
    let row = rows.get(key);
    if (row === undefined) rows.set(key, (row = { workload, minute, coveredSeconds: coveredMinutes.has(minute) ? 60 : 0, counts: REQUEST_CLASSES.map(() => 0), statuses: [0, 0, 0, 0, 0], latencyMs: new Map(), unclassified: 0 }));
    return row;
  };
  const first = range.startMs / MINUTE_MS;
  const end = range.endMs / MINUTE_MS;
  for (let minute = first; minute < end; minute++) if (coveredMinutes.has(minute)) for (const workload of routed) rowOf(workload, minute);
  const classify = classifier();
  for (const { metric, minutes } of countersOf(series, range.startMs / 1_000, coveredMinutes)) {
    const service = metric['exported_service'] ?? metric['service'];
    if (service === undefined || service === '') continue;
    const health = metric['path'] !== undefined && classify({ method: null, path: metric['path'], userAgent: null, sourceAddress: null }) === 'health_check';
    const status = Math.floor(Number(metric['status']) / 100) - 1;
    for (const [minute, count] of minutes) {
      if (minute < first || minute >= end) continue;
      for (const workload of workloadsOf(service)) {
        const row = rowOf(workloadKey(workload), minute);
        if (health) row.counts[REQUEST_CLASSES.indexOf('health_check')] = (row.counts[REQUEST_CLASSES.indexOf('health_check')] ?? 0) + count;
        else {
          row.unclassified += count;
          if (status >= 0 && status < 5) row.statuses[status] = (row.statuses[status] ?? 0) + count;
        }
      }
    }
  }
  return [...rows.values()].sort((a, b) => (a.workload === b.workload ? a.minute - b.minute : a.workload < b.workload ? -1 : 1));
}

/**
 * Counts by minute of each counter; of one that was scraped twice, once. One that appears while the controller was scraped began at
 * nothing; one that is there at the range's start has counted before.
 */
function countersOf(series: readonly RangeSeries[], startSeconds: number, covered: ReadonlySet<number>): { metric: Labels; minutes: Map<number, number> }[] {
  const counters = new Map<string, { metric: Labels; minutes: Map<number, number> }>();
  for (const { metric, values } of series) {
    const identity = JSON.stringify(Object.entries(metric).filter(([name]) => !SCRAPER_LABELS.has(name) || (name === 'service' && metric['exported_service'] === undefined)).sort());
    let counter = counters.get(identity);
    if (counter === undefined) counters.set(identity, (counter = { metric, minutes: new Map() }));
    let before: number | null = null;
    for (const [seconds, text] of values) {
      const now = Number(text);
      if (!Number.isFinite(now) || now < 0) continue;
      const minute = Math.floor(seconds / 60) - 1;
      if (before === null && seconds > startSeconds && covered.has(minute - 1)) before = 0;
      // What came over a gap is of its last minute: when it came is not known better.
      const count = before === null ? 0 : Math.round(now < before ? now : now - before);
      if (count > 0) counter.minutes.set(minute, Math.max(counter.minutes.get(minute) ?? 0, count));
      before = now;
    }
  }
  return [...counters.values()];
}

/** Minutes at whose end the metric was there. */
export function coveredMinutes(series: readonly RangeSeries[]): Set<number> {
  return new Set(series.flatMap(({ values }) => values.filter(([, value]) => Number(value) > 0).map(([seconds]) => Math.floor(seconds / 60) - 1)));
}

// ---------------------------------------------------------------- pace

/** How fast history is read. */
export interface Pace {
  /** What a query takes when the server is at rest, ms (the least of late, slowly forgotten). */
  readonly restingMs: number;
  /** Pause before the next query, ms. */
  readonly pauseMs: number;
}

export const FIRST_PACE: Pace = { restingMs: 0, pauseMs: 20 };
const SHORTEST_PAUSE_MS = 5;
const LONGEST_PAUSE_MS = 30_000;

/** Share of its time, at rest, that the server works for us. */
export const DEFAULT_LOAD = 0.5;

/**
 * The next pace after a query. At rest the server works for us no more than `load` of the time; where its answers take over twice as long
 * as at rest the pause doubles, and where one fails it is long at once.
 * @param tookMs null where it failed
 */
export function nextPace(pace: Pace, tookMs: number | null, load = DEFAULT_LOAD): Pace {
  if (tookMs === null) return { ...pace, pauseMs: Math.min(LONGEST_PAUSE_MS, Math.max(1_000, pace.pauseMs * 4)) };
  const restingMs = pace.restingMs === 0 ? tookMs : Math.min(tookMs, pace.restingMs * 1.02 + 0.01);
  if (tookMs > 2 * restingMs + 50) return { restingMs, pauseMs: Math.min(LONGEST_PAUSE_MS, Math.max(tookMs, pace.pauseMs * 2)) };
  return { restingMs, pauseMs: Math.max(load < 1 ? SHORTEST_PAUSE_MS : 0, Math.min(pace.pauseMs / 2 + (tookMs * (1 - load)) / load / 2, LONGEST_PAUSE_MS)) };
}
