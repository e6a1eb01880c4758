import type { ContainerReading, PodReading, Scrape } from './scrape.js';

/**
 * From scrapes 15 to 60 s apart to one sample a container (or pod) and minute. Pure: scrapes in, samples out, no clock.
 *
 * Between two readings of a counter the rate is taken as constant, so each minute gets its share of the interval by time; the mean is
 * over the covered part of the minute and the peak is the greatest rate of an interval that touches it. A container that started anew
 * (its start time says so) has used what its counter shows since its start; a counter that fell without such a start says nothing of
 * its interval, so a reset is never a negative and never a spike. Readings more than three minutes apart say nothing of what lies
 * between: those minutes have no sample.
 */

/** Readings further apart than this are a gap, ms. */
export const LONGEST_INTERVAL_MS = 180_000;
/** A start this shortly before a reading is too near to divide by (start times are rounded to seconds), ms. */
const LEAST_SINCE_START_MS = 10_000;
/** A minute is told from this much of it on, ms. */
export const LEAST_COVERED_MS = 15_000;
const MINUTE_MS = 60_000;

/** A container's minute. */
export interface ContainerMinute {
  readonly namespace: string;
  readonly podName: string;
  readonly podUid: string | null;
  readonly container: string;
  /** Minutes since the epoch. */
  readonly minute: number;
  /** Whole millicores; 0 only where no CPU time passed at all. */
  readonly cpuMillicores: number;
  readonly cpuPeakMillicores: number;
  /** Null where no source tells memory. */
  readonly memoryBytes: number | null;
  readonly memoryPeakBytes: number | null;
  /** Share of CFS periods that were throttled, 0 to 1000; null where no source tells it (no CPU limit). */
  readonly throttledPermille: number | null;
  /** Starts of the container seen within the minute, its first not counted. */
  readonly restarts: number;
  readonly coveredMs: number;
}

/** A pod's minute: what its containers share. */
export interface PodMinute {
  readonly namespace: string;
  readonly podName: string;
  readonly podUid: string | null;
  readonly minute: number;
  /** Null where no source tells it, or the pod is on the host's network. */
  readonly receiveBytesPerSecond: number | null;
  readonly transmitBytesPerSecond: number | null;
  /** Used bytes of the volumes together; null where no source tells them. */
  readonly volumesUsedBytes: number | null;
  readonly ephemeralStorageUsedBytes: number | null;
  readonly coveredMs: number;
}

export interface MinuteSamples {
  readonly containers: ContainerMinute[];
  readonly pods: PodMinute[];
}

export interface SamplerOptions {
  /** Cores of the node, in millicores: a rate above it by more than a tenth cannot be true and is left out. */
  readonly nodeCpuMillicores?: number | null;
  /** Pods on the host's network, as `namespace/name`: their counters are the node's. */
  readonly hostNetworkPods?: ReadonlySet<string>;
}

/** Parts of a counter's growth by minute. */
class Growth {
  amount = 0;
  coveredMs = 0;
  /** Greatest growth a ms. */
  peakRate = 0;

  add(amount: number, ms: number, rate: number): void {
    this.amount += amount;
    this.coveredMs += ms;
    this.peakRate = Math.max(this.peakRate, rate);
  }
}

/** A minute under way; `cpu` of a pod only tells how much of the minute is covered. */
interface OpenMinute {
  readonly cpu: Growth;
  readonly receive: Growth;
  readonly transmit: Growth;
  periods: number;
  throttled: number;
  tellsThrottling: boolean;
  memoryByteMs: number;
  memoryMs: number;
  memoryPeakBytes: number;
}

function openMinute(): OpenMinute {
  return { cpu: new Growth(), receive: new Growth(), transmit: new Growth(), periods: 0, throttled: 0, tellsThrottling: false, memoryByteMs: 0, memoryMs: 0, memoryPeakBytes: 0 };
}

interface Tracked<R> {
  /** The last reading that said something new. */
  last: R;
  /** Time of the scrape that named it last, ms. */
  seenMs: number;
  readonly minutes: Map<number, OpenMinute>;
  /** The last minute given back: none is given twice. */
  given: number;
  /** Times of restarts not given back yet, ms. */
  restarts: number[];
  /** The last reading with CFS counters: not every scrape asks for them. */
  throttling: CfsReading | null;
}

interface CfsReading {
  readonly timeMs: number;
  readonly periods: number;
  readonly throttled: number;
}

function track<R>(reading: R, seenMs: number): Tracked<R> {
  return { last: reading, seenMs, minutes: new Map(), given: -1, restarts: [], throttling: null };
}

/** Calls `each` with every minute that [fromMs, toMs) touches and the ms within it. */
function byMinute(fromMs: number, toMs: number, each: (minute: number, ms: number, startMs: number, endMs: number) => void): void {
  for (let at = fromMs; at < toMs; ) {
    const minute = Math.floor(at / MINUTE_MS);
    const end = Math.min(toMs, (minute + 1) * MINUTE_MS);
    each(minute, end - at, at, end);
    at = end;
  }
}

function minuteOf(minutes: Map<number, OpenMinute>, minute: number): OpenMinute {
  let open = minutes.get(minute);
  if (open === undefined) minutes.set(minute, (open = openMinute()));
  return open;
}

/** Growth of a counter from one reading to the next; null where either is unknown or it fell. */
export function growthOf(before: number | null, now: number | null): number | null {
  return before === null || now === null || now < before ? null : now - before;
}

/** Mean CPU between two readings of a counter in nanocores; null where it cannot be told. */
export function nanocoresBetween(before: Pick<ContainerReading, 'timeMs' | 'cpuNanosecondsTotal'>, now: Pick<ContainerReading, 'timeMs' | 'cpuNanosecondsTotal'>): number | null {
  const growth = growthOf(before.cpuNanosecondsTotal, now.cpuNanosecondsTotal);
  const ms = now.timeMs - before.timeMs;
  return growth === null || ms <= 0 ? null : (growth / ms) * 1e3;
}

/** Whole millicores of CPU time (ns) over a time (ms); at least 1 where any passed. */
function millicores(nanoseconds: number, ms: number): number {
  if (ms <= 0 || nanoseconds <= 0) return 0;
  return Math.max(1, Math.round(nanoseconds / ms / 1e3));
}

/** Samples one node. Memory: one reading and at most five open minutes a container and pod that it named in the last three minutes. */
export class NodeSampler {
  private readonly containers = new Map<string, Tracked<ContainerReading>>();
  private readonly pods = new Map<string, Tracked<PodReading>>();

  constructor(private options: SamplerOptions = {}) {}

  /** Replaces what is known of the node and its pods. */
  configure(options: SamplerOptions): void {
    this.options = options;
  }

  /**
   * Takes the next scrape and gives back the minutes that are complete with it, each once. What no scrape has named for three minutes
   * is gone: its open minutes are given back and nothing more is kept.
   */
  sample(scrape: Scrape): MinuteSamples {
    const samples: MinuteSamples = { containers: [], pods: [] };
    for (const reading of scrape.containers) this.takeContainer(reading, scrape.timeMs, samples.containers);
    for (const reading of scrape.pods) this.takePod(reading, scrape.timeMs, samples.pods);
    dropVanished(this.containers, scrape.timeMs, samples.containers, containerMinute);
    dropVanished(this.pods, scrape.timeMs, samples.pods, podMinute);
    return samples;
  }

  private takeContainer(reading: ContainerReading, seenMs: number, done: ContainerMinute[]): void {
    const key = `${reading.namespace}/${reading.podName}/${reading.container}`;
    const tracked = this.containers.get(key);
    if (tracked === undefined || isAnother(tracked.last, reading)) {
      if (tracked !== undefined) giveBack(tracked, Infinity, done, containerMinute);
      const first = track(reading, seenMs);
      this.containers.set(key, first);
      const before = beginning(reading);
      if (before !== null) this.spreadContainer(first.minutes, before, reading, reading.memoryWorkingSetBytes);
      first.throttling = cfsOf(reading);
      return;
    }
    tracked.seenMs = seenMs;
    const before = tracked.last;
    if (!isLater(before, reading, tracked)) return;
    // Another container of the name may be another pod's: whose it is must be asked again.
    const anew = startedAnew(before, reading);
    if (reading.timeMs > before.timeMs) {
      if (anew) {
        tracked.restarts.push(Math.min(reading.timeMs, Math.max(before.timeMs, reading.startTimeMs ?? 0)));
        // After a restart the old container's memory is not the new one's.
        this.spreadContainer(tracked.minutes, sinceStart(before, reading), reading, reading.memoryWorkingSetBytes);
        tracked.throttling = null;
      } else this.spreadContainer(tracked.minutes, before, reading, before.memoryWorkingSetBytes ?? reading.memoryWorkingSetBytes);
      takeThrottling(tracked, cfsOf(reading));
    }
    tracked.last = { ...reading, podUid: reading.podUid ?? (anew ? null : before.podUid) };
    giveBack(tracked, reading.timeMs, done, containerMinute);
  }

  private spreadContainer(minutes: Map<number, OpenMinute>, before: ContainerReading, now: ContainerReading, memoryBefore: number | null): void {
    const ms = now.timeMs - before.timeMs;
    if (ms > LONGEST_INTERVAL_MS) return;
    const used = now.cpuNanosecondsTotal !== null || now.cpuNanocores === null ? growthOf(before.cpuNanosecondsTotal, now.cpuNanosecondsTotal) : (now.cpuNanocores * ms) / 1e3;
    const most = this.options.nodeCpuMillicores;
    if (used === null || (most != null && used / ms / 1e3 > most * 1.1)) return;
    const memoryNow = now.memoryWorkingSetBytes;
    byMinute(before.timeMs, now.timeMs, (minute, part, startMs, endMs) => {
      const open = minuteOf(minutes, minute);
      open.cpu.add((used * part) / ms, part, used / ms);
      if (memoryNow !== null && memoryBefore !== null) {
        const at = (timeMs: number): number => memoryBefore + ((memoryNow - memoryBefore) * (timeMs - before.timeMs)) / ms;
        open.memoryByteMs += ((at(startMs) + at(endMs)) / 2) * part;
        open.memoryMs += part;
        open.memoryPeakBytes = Math.max(open.memoryPeakBytes, at(startMs), at(endMs));
      }
    });
  }

  private takePod(reading: PodReading, seenMs: number, done: PodMinute[]): void {
    const key = `${reading.namespace}/${reading.podName}`;
    const tracked = this.pods.get(key);
    if (reading.networkReceiveBytesTotal === null && reading.networkTransmitBytesTotal === null && reading.volumes.length === 0 && reading.ephemeralStorageUsedBytes === null) {
      // A scrape that did not ask for what pods are sampled for: the pod is there, and that is all.
      if (tracked !== undefined) tracked.seenMs = seenMs;
      return;
    }
    if (tracked === undefined || isAnother(tracked.last, reading)) {
      if (tracked !== undefined) giveBack(tracked, Infinity, done, podMinute);
      this.pods.set(key, track(reading, seenMs));
      return;
    }
    tracked.seenMs = seenMs;
    const before = tracked.last;
    if (!isLater(before, reading, tracked)) return;
    const ms = reading.timeMs - before.timeMs;
    if (ms > 0 && ms <= LONGEST_INTERVAL_MS) {
      const onHost = this.options.hostNetworkPods?.has(key) === true;
      const receive = onHost ? null : growthOf(before.networkReceiveBytesTotal, reading.networkReceiveBytesTotal);
      const transmit = onHost ? null : growthOf(before.networkTransmitBytesTotal, reading.networkTransmitBytesTotal);
      byMinute(before.timeMs, reading.timeMs, (minute, part) => {
        const open = minuteOf(tracked.minutes, minute);
        open.cpu.add(0, part, 0);
        if (receive !== null) open.receive.add((receive * part) / ms, part, 0);
        if (transmit !== null) open.transmit.add((transmit * part) / ms, part, 0);
      });
    }
    tracked.last = { ...reading, podUid: reading.podUid ?? before.podUid };
    giveBack(tracked, reading.timeMs, done, podMinute);
  }
}

/** Whether the same name is another pod now (a StatefulSet's pod made anew): another series. */
function isAnother(before: { readonly podUid: string | null }, now: { readonly podUid: string | null }): boolean {
  return before.podUid !== null && now.podUid !== null && before.podUid !== now.podUid;
}

/**
 * Whether a reading says anything new: the kubelet answers from a cache for some seconds. One that lies far back comes from a clock that
 * was set: it is taken as a beginning.
 */
function isLater(before: { readonly timeMs: number }, now: { readonly timeMs: number }, tracked: { readonly minutes: Map<number, OpenMinute> }): boolean {
  if (now.timeMs > before.timeMs) return true;
  if (now.timeMs > before.timeMs - LONGEST_INTERVAL_MS) return false;
  tracked.minutes.clear();
  return true;
}

/** What a container first seen is known to have begun with: nothing, at its start; or, of a gauge, the window that it is the mean of. */
function beginning(reading: ContainerReading): ContainerReading | null {
  const { startTimeMs, timeMs, cpuWindowMs } = reading;
  if (reading.cpuNanosecondsTotal === null) return cpuWindowMs !== null && cpuWindowMs > 0 ? { ...reading, timeMs: timeMs - cpuWindowMs } : null;
  if (startTimeMs === null) return null;
  const sinceMs = timeMs - startTimeMs;
  return sinceMs >= LEAST_SINCE_START_MS && sinceMs <= LONGEST_INTERVAL_MS ? atStart(reading, startTimeMs) : null;
}

function cfsOf(reading: ContainerReading): CfsReading | null {
  const { timeMs, cfsPeriodsTotal: periods, cfsThrottledPeriodsTotal: throttled } = reading;
  return periods === null || throttled === null ? null : { timeMs, periods, throttled };
}

/**
 * Adds the throttling since the last reading that told it to the minute of this one: earlier minutes may have been given back, and what
 * counts is a share.
 */
function takeThrottling(tracked: Tracked<ContainerReading>, now: CfsReading | null): void {
  if (now === null) return;
  const before = tracked.throttling;
  tracked.throttling = now;
  if (before === null || now.timeMs - before.timeMs > LONGEST_INTERVAL_MS) return;
  const periods = growthOf(before.periods, now.periods);
  const throttled = growthOf(before.throttled, now.throttled);
  if (periods === null || throttled === null) return;
  // A reading on the minute tells of the one that ends.
  const open = minuteOf(tracked.minutes, Math.floor((now.timeMs - 1) / MINUTE_MS));
  open.tellsThrottling = true;
  open.periods += periods;
  open.throttled += Math.min(periods, throttled);
}

function atStart(reading: ContainerReading, startTimeMs: number): ContainerReading {
  const zero = (value: number | null): number | null => (value === null ? null : 0);
  return { ...reading, timeMs: startTimeMs, cpuNanosecondsTotal: zero(reading.cpuNanosecondsTotal) };
}

/** Start times of one container read from two sources differ by their rounding to seconds. */
const SAME_START_MS = 2_000;

function startedAnew(before: ContainerReading, now: ContainerReading): boolean {
  return before.startTimeMs !== null && now.startTimeMs !== null && now.startTimeMs - before.startTimeMs > SAME_START_MS;
}

/** The new container with nothing used, at its start; at the reading before where the start is not between, or too near to divide by. */
function sinceStart(before: ContainerReading, now: ContainerReading): ContainerReading {
  const start = now.startTimeMs ?? 0;
  return atStart(now, start > before.timeMs && now.timeMs - start >= LEAST_SINCE_START_MS ? start : before.timeMs);
}

type SampleOf<R, S> = (reading: R, minute: number, open: OpenMinute, restarts: number) => S | null;

/** Gives back the minutes that end at or before `beforeMs`. */
function giveBack<R, S>(tracked: Tracked<R>, beforeMs: number, done: S[], sampleOf: SampleOf<R, S>): void {
  for (const minute of [...tracked.minutes.keys()].sort((a, b) => a - b)) {
    const open = tracked.minutes.get(minute);
    const endMs = (minute + 1) * MINUTE_MS;
    if (endMs > beforeMs || open === undefined) continue;
    tracked.minutes.delete(minute);
    if (minute <= tracked.given) continue;
    const sample = sampleOf(tracked.last, minute, open, tracked.restarts.filter((restartMs) => restartMs < endMs).length);
    if (sample === null) continue;
    tracked.given = minute;
    tracked.restarts = tracked.restarts.filter((restartMs) => restartMs >= endMs);
    done.push(sample);
  }
}

function dropVanished<R, S>(all: Map<string, Tracked<R>>, nowMs: number, done: S[], sampleOf: SampleOf<R, S>): void {
  for (const [key, tracked] of all) {
    if (nowMs - tracked.seenMs <= LONGEST_INTERVAL_MS) continue;
    giveBack(tracked, Infinity, done, sampleOf);
    all.delete(key);
  }
}

function containerMinute(reading: ContainerReading, minute: number, open: OpenMinute, restarts: number): ContainerMinute | null {
  const { cpu } = open;
  if (cpu.coveredMs < LEAST_COVERED_MS) return null;
  const cpuMillicores = millicores(cpu.amount, cpu.coveredMs);
  const memoryBytes = open.memoryMs > 0 ? Math.round(open.memoryByteMs / open.memoryMs) : null;
  return {
    namespace: reading.namespace, podName: reading.podName, podUid: reading.podUid, container: reading.container, minute, cpuMillicores, cpuPeakMillicores: Math.max(cpuMillicores, millicores(cpu.peakRate, 1)),
    memoryBytes, memoryPeakBytes: memoryBytes === null ? null : Math.max(memoryBytes, Math.round(open.memoryPeakBytes)),
    throttledPermille: open.tellsThrottling ? (open.periods > 0 ? Math.min(1_000, Math.round((open.throttled / open.periods) * 1_000)) : 0) : null, restarts, coveredMs: Math.round(cpu.coveredMs),
  };
}

function podMinute(reading: PodReading, minute: number, open: OpenMinute): PodMinute | null {
  if (open.cpu.coveredMs < LEAST_COVERED_MS) return null;
  const used = reading.volumes.flatMap(({ usedBytes }) => (usedBytes === null ? [] : [usedBytes]));
  const rate = ({ amount, coveredMs }: Growth): number | null => (coveredMs > 0 ? Math.round((amount / coveredMs) * 1e3) : null);
  return {
    namespace: reading.namespace, podName: reading.podName, podUid: reading.podUid, minute, receiveBytesPerSecond: rate(open.receive), transmitBytesPerSecond: rate(open.transmit),
    volumesUsedBytes: used.length === 0 ? null : used.reduce((a, b) => a + b, 0), ephemeralStorageUsedBytes: reading.ephemeralStorageUsedBytes, coveredMs: Math.round(open.cpu.coveredMs),
  };
}
