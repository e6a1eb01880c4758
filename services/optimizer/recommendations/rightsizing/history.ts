import type { WorkloadKind } from '@upid/contracts';
import { addTo, type Distribution } from '@upid/contracts';
import { totalOf, type Buckets } from './distribution.js';

/**
 * What is known of one container of one workload, in hours (or, for jobs, in runs) that are pooled over its replicas.
 * Hours may be missing; order does not matter. All times are milliseconds since the epoch, CPU is in millicores, memory in
 * bytes.
 */
export interface UsagePeriod {
  readonly startMs: number;
  /** Length on the clock; an hour where it is left out. */
  readonly durationMs?: number;
  /** Minutes with samples, added up over replicas; periods without any are skipped. */
  readonly coveredMinutes: number;
  readonly cpuMeanMillicores: number | null;
  readonly cpuMaxMillicores: number | null;
  /** Per-replica samples of the period by bucket, in any count unit. Left out: made from mean and maximum. */
  readonly cpuDistribution?: Buckets | null;
  /** The largest working set of any replica. */
  readonly memoryMaxBytes: number | null;
  /** Mean number of running replicas; needed beside an autoscaler alone. */
  readonly replicas?: number;
}

/** An OOM kill of the container, kept by workload. `limitBytes`: the memory limit at the time, null where unknown. */
export interface OomKill {
  readonly atMs: number;
  readonly limitBytes: number | null;
}

export interface ContainerHistory {
  readonly workloadKind?: WorkloadKind;
  /** Hours; for a Job or CronJob one period a run, pooled by owner. */
  readonly periods: readonly UsagePeriod[];
  /** Each replica's own periods, where known: shows replicas that are not alike. */
  readonly replicas?: readonly (readonly UsagePeriod[])[];
  readonly oomKills?: readonly OomKill[];
  readonly current?: CurrentResources;
  /** The HPA (or KEDA's) that scales the workload on a share of the request. */
  readonly autoscaler?: Autoscaler | null;
  /** Set where a JVM runs: its own numbers, each null where unknown. */
  readonly jvm?: JvmMemory | null;
  /** Share 0..1 of minutes throttled by the present CPU limit; null where unknown. */
  readonly throttledShare?: number | null;
  /** Allocatable of the largest node on which it may run. */
  readonly largestNode?: { readonly cpuMillicores: number; readonly memoryBytes: number } | null;
}

export interface CurrentResources {
  readonly cpuRequestMillicores: number | null;
  readonly cpuLimitMillicores: number | null;
  readonly memoryRequestBytes: number | null;
  readonly memoryLimitBytes: number | null;
}

export interface Autoscaler {
  readonly resource: 'cpu' | 'memory';
  /** Share of the request that it steers to, 0.8 for 80 %. */
  readonly targetUtilization: number;
  readonly minReplicas: number;
  readonly maxReplicas: number;
}

export interface JvmMemory {
  /** The largest heap in use right after a collection: what the program keeps alive. */
  readonly heapAfterCollectionPeakBytes: number | null;
  /** Metaspace, code cache, threads, direct buffers. */
  readonly nonHeapPeakBytes: number | null;
  /** `-Xmx`, or what MaxRAMPercentage comes to. */
  readonly maxHeapBytes: number | null;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** A stretch of history: a day, a part of a short history, or a run of a job. */
export interface Block {
  readonly startMs: number;
  readonly endMs: number;
  readonly coveredMinutes: number;
  /** Counts in minutes. Empty where CPU is unknown. */
  readonly cpu: Distribution;
  readonly cpuMaxMillicores: number | null;
  readonly memoryMaxBytes: number | null;
}

function endOf(period: UsagePeriod): number {
  return period.startMs + (period.durationMs ?? HOUR_MS);
}

/** Periods with samples, by start. */
export function coveredPeriods(periods: readonly UsagePeriod[]): UsagePeriod[] {
  return periods.filter((period) => period.coveredMinutes > 0).sort((a, b) => a.startMs - b.startMs);
}

/**
 * Adds the period's CPU to a distribution of minutes. Where only mean and maximum are known: one minute at the maximum and
 * the rest at what leaves the mean as it is.
 */
function addMinutes(into: Distribution, period: UsagePeriod): void {
  if (period.cpuDistribution) {
    const total = totalOf(period.cpuDistribution);
    if (total <= 0) return;
    const minutesPerCount = period.coveredMinutes / total;
    for (const [bucket, count] of period.cpuDistribution) into.set(bucket, (into.get(bucket) ?? 0) + count * minutesPerCount);
    return;
  }
  if (period.cpuMeanMillicores === null) return;
  const max = Math.max(period.cpuMaxMillicores ?? 0, period.cpuMeanMillicores);
  const atMax = Math.min(1, period.coveredMinutes);
  const rest = period.coveredMinutes - atMax;
  addTo(into, max, atMax);
  if (rest > 0) addTo(into, Math.max(0, (period.cpuMeanMillicores * period.coveredMinutes - max * atMax) / rest), rest);
}

/**
 * History in blocks of one length, oldest first, cut from its end: days where there are four or more, else a tenth of what
 * there is (an hour at least), so that a short history says something of its own changes too. Runs of a job are a block
 * each. Blocks without samples are left out. O(periods · buckets).
 */
export function blocksOf(periods: readonly UsagePeriod[], eachRun: boolean): Block[] {
  const covered = coveredPeriods(periods);
  const first = covered[0];
  if (!first) return [];
  const end = Math.max(...covered.map(endOf));
  const span = end - first.startMs;
  const length = span >= 4 * DAY_MS ? DAY_MS : Math.max(HOUR_MS, Math.round(span / 10 / HOUR_MS) * HOUR_MS);
  const byBlock = new Map<number, UsagePeriod[]>();
  covered.forEach((period, i) => {
    const key = eachRun ? i : -Math.floor((end - endOf(period)) / length);
    const block = byBlock.get(key);
    if (block) block.push(period);
    else byBlock.set(key, [period]);
  });
  return [...byBlock.entries()].sort((a, b) => a[0] - b[0]).map(([, own]) => blockOf(own));
}

/** Some periods as one block. */
export function blockOf(periods: readonly UsagePeriod[]): Block {
  const cpu: Distribution = new Map();
  let coveredMinutes = 0;
  let cpuMax: number | null = null;
  let memoryMax: number | null = null;
  for (const period of periods) {
    addMinutes(cpu, period);
    coveredMinutes += period.coveredMinutes;
    cpuMax = larger(cpuMax, period.cpuMaxMillicores ?? period.cpuMeanMillicores);
    memoryMax = larger(memoryMax, period.memoryMaxBytes);
  }
  return {
    startMs: Math.min(...periods.map((period) => period.startMs)), endMs: Math.max(...periods.map(endOf)),
    coveredMinutes, cpu, cpuMaxMillicores: cpuMax, memoryMaxBytes: memoryMax,
  };
}

function larger(a: number | null, b: number | null): number | null {
  if (a === null) return b;
  return b === null ? a : Math.max(a, b);
}

/** How long the history is: days on the clock with samples, a run of a job counting as one. */
export function daysOf(periods: readonly UsagePeriod[], eachRun: boolean): number {
  const covered = coveredPeriods(periods);
  if (eachRun) return covered.length;
  const hours = new Set<number>();
  for (const period of covered) {
    for (let at = Math.floor(period.startMs / HOUR_MS); at * HOUR_MS < endOf(period); at++) hours.add(at);
  }
  return hours.size / 24;
}
