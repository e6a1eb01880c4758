/**
 * What one reading of a node's usage says, whatever its source: kubelet `/metrics/resource`, `/stats/summary`, `/metrics/cadvisor`, or
 * metrics.k8s.io. Null is "this source does not say"; nothing is made up.
 */

export type UsageSource = 'resource' | 'summary' | 'cadvisor' | 'metrics_api';

/** One container (or, with an empty `container`, what a source says of a whole pod's CPU and memory). */
export interface ContainerReading {
  readonly namespace: string;
  readonly podName: string;
  readonly podUid: string | null;
  readonly container: string;
  /** When it was measured, unix ms: the source's own time where it gives one. */
  readonly timeMs: number;
  /** CPU time since the container started. */
  readonly cpuNanosecondsTotal: number | null;
  /** CPU in use as the source averaged it; 1e9 is one core. */
  readonly cpuNanocores: number | null;
  /** The time that `cpuNanocores` is an average of, ms. */
  readonly cpuWindowMs: number | null;
  readonly memoryWorkingSetBytes: number | null;
  readonly startTimeMs: number | null;
  /** CFS periods in which the container was runnable, and those in which it was throttled, since it started; null without a limit. */
  readonly cfsPeriodsTotal: number | null;
  readonly cfsThrottledPeriodsTotal: number | null;
}

export interface VolumeReading {
  readonly name: string;
  /** Name of the claim, in the pod's namespace; null for other volumes. */
  readonly claim: string | null;
  readonly usedBytes: number | null;
  readonly capacityBytes: number | null;
}

/** One pod: what its containers share. */
export interface PodReading {
  readonly namespace: string;
  readonly podName: string;
  readonly podUid: string | null;
  readonly timeMs: number;
  readonly startTimeMs: number | null;
  readonly cpuNanosecondsTotal: number | null;
  readonly cpuNanocores: number | null;
  readonly memoryWorkingSetBytes: number | null;
  /** Since the pod's sandbox started. A pod on the host's network shows the node's: the caller knows which those are. */
  readonly networkReceiveBytesTotal: number | null;
  readonly networkTransmitBytesTotal: number | null;
  readonly volumes: readonly VolumeReading[];
  readonly ephemeralStorageUsedBytes: number | null;
}

export interface NodeReading {
  readonly timeMs: number;
  readonly cpuNanosecondsTotal: number | null;
  readonly cpuNanocores: number | null;
  readonly memoryWorkingSetBytes: number | null;
  readonly networkReceiveBytesTotal: number | null;
  readonly networkTransmitBytesTotal: number | null;
}

/** A node as one scrape saw it. */
export interface Scrape {
  readonly node: string;
  /** When it was asked, unix ms. */
  readonly timeMs: number;
  readonly source: UsageSource;
  readonly containers: readonly ContainerReading[];
  readonly pods: readonly PodReading[];
  readonly nodeReading: NodeReading | null;
  /** Lines or objects that could not be read. */
  readonly malformed: number;
}

/** An answer that is not of its source's shape at all (an HTML page, JSON cut short). */
export class MalformedScrapeError extends Error {
  override readonly name = 'MalformedScrapeError';
  constructor(readonly source: UsageSource, why: string, options?: ErrorOptions) {
    super(`malformed answer of ${source}: ${why}`, options);
  }
}

export const NO_CONTAINER: Omit<ContainerReading, 'namespace' | 'podName' | 'container' | 'timeMs'> = {
  podUid: null, cpuNanosecondsTotal: null, cpuNanocores: null, cpuWindowMs: null, memoryWorkingSetBytes: null, startTimeMs: null, cfsPeriodsTotal: null, cfsThrottledPeriodsTotal: null,
};
export const NO_POD: Omit<PodReading, 'namespace' | 'podName' | 'timeMs'> = {
  podUid: null, startTimeMs: null, cpuNanosecondsTotal: null, cpuNanocores: null, memoryWorkingSetBytes: null, networkReceiveBytesTotal: null, networkTransmitBytesTotal: null, volumes: [], ephemeralStorageUsedBytes: null,
};
export const NO_NODE: Omit<NodeReading, 'timeMs'> = { cpuNanosecondsTotal: null, cpuNanocores: null, memoryWorkingSetBytes: null, networkReceiveBytesTotal: null, networkTransmitBytesTotal: null };

/** The fields of `a` that are known, else those of `b`. */
function either<T extends object>(a: T, b: T): T {
  const merged = { ...b };
  for (const key of Object.keys(a) as (keyof T)[]) {
    const value = a[key];
    if (value !== null && value !== undefined && !(Array.isArray(value) && value.length === 0)) merged[key] = value;
  }
  return merged;
}

/**
 * One scrape of several of the same node and moment, each saying what the others do not: where two know the same, the one named first
 * is believed. CPU counter, memory and time of a container come from one source, so that a counter never meets another's time.
 */
export function mergeScrapes(scrapes: readonly [Scrape, ...Scrape[]]): Scrape {
  const [first, ...more] = scrapes;
  if (more.length === 0) return first;
  const containers = new Map<string, ContainerReading>();
  const pods = new Map<string, PodReading>();
  let nodeReading: NodeReading | null = null;
  for (const scrape of scrapes) {
    for (const reading of scrape.containers) {
      const key = `${reading.namespace}/${reading.podName}/${reading.container}`;
      const known = containers.get(key);
      if (known === undefined) containers.set(key, reading);
      else {
        const hasCpu = known.cpuNanosecondsTotal !== null || known.cpuNanocores !== null;
        const cpu = hasCpu ? known : reading;
        containers.set(key, {
          ...either(known, reading), timeMs: cpu.timeMs, cpuNanosecondsTotal: cpu.cpuNanosecondsTotal, cpuNanocores: cpu.cpuNanocores, cpuWindowMs: cpu.cpuWindowMs,
        });
      }
    }
    for (const reading of scrape.pods) {
      const key = `${reading.namespace}/${reading.podName}`;
      const known = pods.get(key);
      if (known === undefined) pods.set(key, reading);
      else {
        const network = known.networkReceiveBytesTotal !== null ? known : reading;
        pods.set(key, { ...either(known, reading), timeMs: network.timeMs, networkReceiveBytesTotal: network.networkReceiveBytesTotal, networkTransmitBytesTotal: network.networkTransmitBytesTotal });
      }
    }
    if (scrape.nodeReading !== null) nodeReading = nodeReading === null ? scrape.nodeReading : either(nodeReading, scrape.nodeReading);
  }
  return { ...first, containers: [...containers.values()], pods: [...pods.values()], nodeReading, malformed: scrapes.reduce((sum, { malformed }) => sum + malformed, 0) };
}
