import { z } from 'zod';
import { readExposition, type MetricSample } from './exposition.js';
import { MalformedScrapeError, NO_CONTAINER, NO_NODE, NO_POD, type ContainerReading, type NodeReading, type PodReading, type Scrape, type UsageSource } from './scrape.js';

/** Readers of the kubelet's three answers (k8s.io/kubelet stats/v1alpha1; KEP-727; cAdvisor's Prometheus metrics). */

/** Interfaces of a pod besides the kubelet's own choice (`eth0`): Multus names those it adds net1, net2, … */
const ADDED_INTERFACE = /^net\d+$/;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

class ScrapeBuilder {
  private readonly containers = new Map<string, Mutable<ContainerReading>>();
  private readonly pods = new Map<string, Mutable<PodReading>>();
  node: Mutable<NodeReading> | null = null;

  constructor(private readonly name: string, readonly timeMs: number, private readonly source: UsageSource) {}

  /** @param cgroup tells the old container from the new one for as long as both are listed after a restart */
  container(namespace: string, podName: string, container: string, cgroup = ''): Mutable<ContainerReading> {
    const key = `${namespace}/${podName}/${container}/${cgroup}`;
    let reading = this.containers.get(key);
    if (reading === undefined) this.containers.set(key, (reading = { namespace, podName, container, timeMs: this.timeMs, ...NO_CONTAINER }));
    return reading;
  }

  pod(namespace: string, podName: string, cgroup = ''): Mutable<PodReading> {
    const key = `${namespace}/${podName}/${cgroup}`;
    let reading = this.pods.get(key);
    if (reading === undefined) this.pods.set(key, (reading = { namespace, podName, timeMs: this.timeMs, ...NO_POD }));
    return reading;
  }

  ofNode(): Mutable<NodeReading> {
    return (this.node ??= { timeMs: this.timeMs, ...NO_NODE });
  }

  build(malformed: number): Scrape {
    const containers = newest(this.containers.values(), ({ namespace, podName, container }) => `${namespace}/${podName}/${container}`);
    const pods = newest(this.pods.values(), ({ namespace, podName }) => `${namespace}/${podName}`);
    return { node: this.name, timeMs: this.timeMs, source: this.source, containers, pods, nodeReading: this.node, malformed };
  }
}

/** Of readings of the same name the one that started last (then the one measured last): what is gone must not alternate with what is there. */
function newest<T extends { readonly timeMs: number; readonly startTimeMs: number | null }>(readings: Iterable<T>, keyOf: (reading: T) => string): T[] {
  const kept = new Map<string, T>();
  for (const reading of readings) {
    const key = keyOf(reading);
    const other = kept.get(key);
    const later = other === undefined || (reading.startTimeMs ?? 0) > (other.startTimeMs ?? 0) || ((reading.startTimeMs ?? 0) === (other.startTimeMs ?? 0) && reading.timeMs > other.timeMs);
    if (later) kept.set(key, reading);
  }
  return [...kept.values()];
}

/** A value that a counter or gauge can have; others (negative, infinite) are glitches of a source. */
function atLeastZero(value: number): number | null {
  return Number.isFinite(value) && value >= 0 ? value : null;
}

function expositionScrape(text: string, node: string, timeMs: number, source: UsageSource, wanted: readonly string[], read: (sample: MetricSample, value: number, builder: ScrapeBuilder) => void): Scrape {
  if (/^\s*[<{]/.test(text)) throw new MalformedScrapeError(source, 'not the text of metrics');
  const builder = new ScrapeBuilder(node, timeMs, source);
  let impossible = 0;
  const malformed = readExposition(text, new Set(wanted), (sample) => {
    const value = atLeastZero(sample.value);
    if (value === null) impossible++;
    else read(sample, value, builder);
  });
  return builder.build(malformed + impossible);
}

/**
 * Reads `/metrics/resource`: counters of CPU, working sets and start times of containers, each with its own time.
 * @param timeMs when it was asked, for lines without a time
 * @throws MalformedScrapeError where it is no text of metrics
 */
export function parseResourceMetrics(text: string, node: string, timeMs: number): Scrape {
  const wanted = [
    'container_cpu_usage_seconds_total', 'container_memory_working_set_bytes', 'container_start_time_seconds', 'pod_cpu_usage_seconds_total', 'pod_memory_working_set_bytes', 'node_cpu_usage_seconds_total', 'node_memory_working_set_bytes',
  ];
  return expositionScrape(text, node, timeMs, 'resource', wanted, ({ name, labels, timeMs: at }, value, builder) => {
    const { namespace, pod, container } = labels;
    if (name.startsWith('node_')) {
      const reading = builder.ofNode();
      if (name === 'node_cpu_usage_seconds_total') {
        reading.cpuNanosecondsTotal = nanoseconds(value);
        reading.timeMs = at ?? reading.timeMs;
      } else reading.memoryWorkingSetBytes = value;
      return;
    }
    if (namespace === undefined || pod === undefined) return;
    if (name.startsWith('pod_')) {
      const reading = builder.pod(namespace, pod);
      if (name === 'pod_cpu_usage_seconds_total') reading.cpuNanosecondsTotal = nanoseconds(value);
      else reading.memoryWorkingSetBytes = value;
      return;
    }
    if (container === undefined || container === '') return;
    const reading = builder.container(namespace, pod, container);
    if (name === 'container_cpu_usage_seconds_total') {
      reading.cpuNanosecondsTotal = nanoseconds(value);
      reading.timeMs = at ?? reading.timeMs;
    } else if (name === 'container_memory_working_set_bytes') reading.memoryWorkingSetBytes = value;
    else reading.startTimeMs = Math.round(value * 1e3);
  });
}

function nanoseconds(seconds: number): number {
  return Math.round(seconds * 1e9);
}

/** UID of a pod in a cgroup's path: `…/pod<uid>/…`, or `…-pod<uid with underscores>.slice/…` of systemd. */
const POD_CGROUP = /(?:\/|-)pod([0-9a-f]{8}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{12})(?:\.slice|\/|$)/i;

/**
 * Reads `/metrics/cadvisor`: what `/metrics/resource` has, CFS throttling (where the container has a CPU limit) and network counters.
 * @throws MalformedScrapeError where it is no text of metrics
 */
export function parseCadvisorMetrics(text: string, node: string, timeMs: number): Scrape {
  const wanted = [
    'container_cpu_usage_seconds_total', 'container_memory_working_set_bytes', 'container_start_time_seconds', 'container_cpu_cfs_periods_total', 'container_cpu_cfs_throttled_periods_total',
    'container_network_receive_bytes_total', 'container_network_transmit_bytes_total',
  ];
  return expositionScrape(text, node, timeMs, 'cadvisor', wanted, ({ name, labels, timeMs: at }, value, builder) => {
    const { namespace, pod, container = '', cpu, id, interface: device } = labels;
    if (!namespace || !pod) return;
    if (name.startsWith('container_network_')) {
      if (device === undefined || (device !== 'eth0' && !ADDED_INTERFACE.test(device))) return;
      const reading = builder.pod(namespace, pod, id);
      reading.timeMs = at ?? reading.timeMs;
      if (name === 'container_network_receive_bytes_total') reading.networkReceiveBytesTotal = (reading.networkReceiveBytesTotal ?? 0) + value;
      else reading.networkTransmitBytesTotal = (reading.networkTransmitBytesTotal ?? 0) + value;
      return;
    }
    // Without a name it is a pod's or slice's cgroup; POD is the sandbox. A CPU other than `total` is one core's share.
    if (container === '' || container === 'POD' || (cpu !== undefined && cpu !== 'total')) return;
    const reading = builder.container(namespace, pod, container, id);
    reading.podUid ??= POD_CGROUP.exec(id ?? '')?.[1]?.replaceAll('_', '-') ?? null;
    switch (name) {
      case 'container_cpu_usage_seconds_total':
        reading.cpuNanosecondsTotal = nanoseconds(value);
        reading.timeMs = at ?? reading.timeMs;
        break;
      case 'container_memory_working_set_bytes':
        reading.memoryWorkingSetBytes = value;
        break;
      case 'container_start_time_seconds':
        reading.startTimeMs = value > 0 ? Math.round(value * 1e3) : null;
        break;
      case 'container_cpu_cfs_periods_total':
        reading.cfsPeriodsTotal = value;
        break;
      default:
        reading.cfsThrottledPeriodsTotal = value;
    }
  });
}

const amount = z.number().nullish();
const cpuSchema = z.object({ time: z.string().nullish(), usageNanoCores: amount, usageCoreNanoSeconds: amount }).nullish();
const memorySchema = z.object({ time: z.string().nullish(), workingSetBytes: amount }).nullish();
const interfaceSchema = z.object({ name: z.string().default(''), rxBytes: amount, txBytes: amount });
const networkSchema = z.object({ time: z.string().nullish(), name: z.string().nullish(), rxBytes: amount, txBytes: amount, interfaces: z.array(interfaceSchema).nullish() }).nullish();
const summaryContainerSchema = z.object({ name: z.string(), startTime: z.string().nullish(), cpu: cpuSchema, memory: memorySchema });
const volumeSchema = z.object({ name: z.string(), usedBytes: amount, capacityBytes: amount, pvcRef: z.object({ name: z.string() }).nullish() });
const summaryPodSchema = z.object({
  podRef: z.object({ name: z.string(), namespace: z.string(), uid: z.string().nullish() }), startTime: z.string().nullish(), containers: z.array(z.unknown()).nullish(), cpu: cpuSchema, memory: memorySchema,
  network: networkSchema, volume: z.array(z.unknown()).nullish(), 'ephemeral-storage': z.object({ usedBytes: amount }).nullish(),
});
const summaryNodeSchema = z.object({ cpu: cpuSchema, memory: memorySchema, network: networkSchema });

function timeOr(text: string | null | undefined, fallback: number): number {
  const value = text == null ? Number.NaN : Date.parse(text);
  return Number.isNaN(value) ? fallback : value;
}

function timeOrNull(text: string | null | undefined): number | null {
  const value = timeOr(text, Number.NaN);
  // The kubelet writes Go's zero time (year 1) where it does not know.
  return Number.isNaN(value) || value <= 0 ? null : value;
}

function known(value: number | null | undefined): number | null {
  return value == null ? null : atLeastZero(value);
}

/** Bytes of the kubelet's default interface and of those that a pod has besides it. */
function networkTotals(network: z.infer<typeof networkSchema>): { receive: number | null; transmit: number | null } {
  let receive = known(network?.rxBytes);
  let transmit = known(network?.txBytes);
  const interfaces = network?.interfaces ?? [];
  const unnamed = receive === null && transmit === null;
  for (const each of interfaces) {
    const counts = each.name !== network?.name && (ADDED_INTERFACE.test(each.name) || (unnamed && each.name === 'eth0'));
    if (!counts) continue;
    if (each.rxBytes != null) receive = (receive ?? 0) + each.rxBytes;
    if (each.txBytes != null) transmit = (transmit ?? 0) + each.txBytes;
  }
  return { receive, transmit };
}

/**
 * Reads `/stats/summary`. Objects in it that are not of its shape are counted and passed over.
 * @param body the parsed JSON, or its text
 * @throws MalformedScrapeError where it is no summary
 */
export function parseStatsSummary(body: unknown, node: string, timeMs: number): Scrape {
  const summary = z.object({ node: z.unknown().optional(), pods: z.array(z.unknown()).nullish() }).safeParse(jsonOf(body, 'summary'));
  if (!summary.success || (summary.data.node === undefined && summary.data.pods == null)) throw new MalformedScrapeError('summary', 'neither node nor pods in it');
  const builder = new ScrapeBuilder(node, timeMs, 'summary');
  let malformed = 0;
  const ofNode = summaryNodeSchema.safeParse(summary.data.node ?? {});
  if (ofNode.success) {
    const { cpu, memory, network } = ofNode.data;
    const totals = networkTotals(network);
    builder.node = {
      timeMs: timeOr(cpu?.time, timeMs), cpuNanosecondsTotal: known(cpu?.usageCoreNanoSeconds), cpuNanocores: known(cpu?.usageNanoCores), memoryWorkingSetBytes: known(memory?.workingSetBytes),
      networkReceiveBytesTotal: totals.receive, networkTransmitBytesTotal: totals.transmit,
    };
  } else malformed++;
  for (const each of summary.data.pods ?? []) {
    const pod = summaryPodSchema.safeParse(each);
    if (pod.success) malformed += readSummaryPod(pod.data, builder);
    else malformed++;
  }
  return builder.build(malformed);
}

function readSummaryPod(pod: z.infer<typeof summaryPodSchema>, builder: ScrapeBuilder): number {
  const { name: podName, namespace, uid } = pod.podRef;
  let malformed = 0;
  const reading = builder.pod(namespace, podName);
  const totals = networkTotals(pod.network);
  reading.podUid = uid ?? null;
  reading.timeMs = timeOr(pod.network?.time ?? pod.cpu?.time, builder.timeMs);
  reading.startTimeMs = timeOrNull(pod.startTime);
  reading.cpuNanosecondsTotal = known(pod.cpu?.usageCoreNanoSeconds);
  reading.cpuNanocores = known(pod.cpu?.usageNanoCores);
  reading.memoryWorkingSetBytes = known(pod.memory?.workingSetBytes);
  reading.networkReceiveBytesTotal = totals.receive;
  reading.networkTransmitBytesTotal = totals.transmit;
  reading.ephemeralStorageUsedBytes = known(pod['ephemeral-storage']?.usedBytes);
  reading.volumes = (pod.volume ?? []).flatMap((each) => {
    const volume = volumeSchema.safeParse(each);
    if (volume.success) return [{ name: volume.data.name, claim: volume.data.pvcRef?.name ?? null, usedBytes: known(volume.data.usedBytes), capacityBytes: known(volume.data.capacityBytes) }];
    malformed++;
    return [];
  });
  for (const each of pod.containers ?? []) {
    const container = summaryContainerSchema.safeParse(each);
    if (!container.success) {
      malformed++;
      continue;
    }
    const { name, startTime, cpu, memory } = container.data;
    const target = builder.container(namespace, podName, name);
    target.podUid = uid ?? null;
    target.timeMs = timeOr(cpu?.time ?? memory?.time, builder.timeMs);
    target.startTimeMs = timeOrNull(startTime);
    target.cpuNanosecondsTotal = known(cpu?.usageCoreNanoSeconds);
    target.cpuNanocores = known(cpu?.usageNanoCores);
    target.memoryWorkingSetBytes = known(memory?.workingSetBytes);
  }
  return malformed;
}

/** The JSON itself, or that of a text. @throws MalformedScrapeError */
export function jsonOf(body: unknown, source: UsageSource): unknown {
  if (typeof body !== 'string') return body;
  try {
    return JSON.parse(body) as unknown;
  } catch (cause) {
    throw new MalformedScrapeError(source, 'not JSON', { cause });
  }
}
