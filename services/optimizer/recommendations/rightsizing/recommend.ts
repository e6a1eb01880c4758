import { autoscaledRequest } from './autoscaler.js';
import { CPU_POLICY, cpuNeed, cpuNeedAfter, withBlock, type CpuNeed, type CpuPast, type CpuPolicy } from './cpu.js';
import { merged, uncoveredBy, type Uncovered } from './distribution.js';
import { blocksOf, coveredPeriods, daysOf, type Block, type ContainerHistory, type UsagePeriod } from './history.js';
import { jvmNeed, MEMORY_POLICY, memoryNeed, oomFloor, type MemoryNeed, type MemoryPolicy } from './memory.js';

/** One setting everywhere; parts may be overridden. */
export interface RightsizingPolicy {
  readonly cpu: CpuPolicy;
  readonly memory: MemoryPolicy;
  /** A present request within this share of the recommendation is kept: advice does not churn. */
  readonly hysteresisShare: number;
  /** Replicas whose largest need is this many times their median need are not alike. */
  readonly unlikeReplicas: number;
}

export const RIGHTSIZING_POLICY: RightsizingPolicy = { cpu: CPU_POLICY, memory: MEMORY_POLICY, hysteresisShare: 0.1, unlikeReplicas: 2 };

/** What the recommended figure rests on. */
export type Basis = 'usage' | 'peaks' | 'oom_kill' | 'jvm_heap' | 'autoscaler' | 'minimum' | 'largest_node' | 'unknown';

export type Change = 'raise' | 'lower' | 'keep' | 'set' | 'unknown';

/** One resource's part of the recommendation; CPU in millicores, memory in bytes. */
export interface ResourceAdvice {
  /** Null where it cannot be told: then nothing should be changed. */
  readonly request: number | null;
  /** Null where no limit is advised (CPU without a limit today) or it cannot be told. */
  readonly limit: number | null;
  /** A present request between these is not clearly wrong. Never unbounded, never above the largest node. */
  readonly lower: number | null;
  readonly upper: number | null;
  readonly basis: Basis;
  /** Against the present request, with hysteresis. */
  readonly change: Change;
}

/** What a pair of requests would have done to the container's own history. */
export interface Replay {
  /** Share of time with CPU above the request, and share of CPU above it; null without CPU or request. */
  readonly cpu: Uncovered | null;
  /** Periods (hours, runs) whose memory peak was above the request; null without memory or request. */
  readonly memoryPeriodsOver: number | null;
}

export interface Evidence {
  /** Days with samples (runs, for jobs). */
  readonly days: number;
  readonly coveredMinutes: number;
  readonly cpu: CpuNeed | null;
  readonly memory: MemoryNeed | null;
  readonly oomKills: number;
  readonly throttledShare: number | null;
  readonly replay: { readonly current: Replay; readonly recommended: Replay };
  /** The same rule, asked at earlier points of the history and judged by what came next. */
  readonly walkForward: WalkForward | null;
}

export interface WalkForward {
  /** Points at which it was asked. */
  readonly points: number;
  /** Of those, how often the next day (block) went over the memory request. */
  readonly memoryOverruns: number;
  /** Mean share of the next day's CPU above the request. */
  readonly cpuUnservedShare: number;
  readonly cpuOverShare: number;
}

export interface ContainerRecommendation {
  readonly cpu: ResourceAdvice;
  readonly memory: ResourceAdvice;
  /** 0..99. */
  readonly confidence: number;
  /** What a reader must know, in sentences. */
  readonly notes: readonly string[];
  readonly evidence: Evidence;
}

const MEBIBYTE = 2 ** 20;

/**
 * Requests and limits for one container from its history. Pure; O(periods · buckets + blocks² ). Accepts hourly aggregates
 * (with or without a distribution) as well as runs of a job.
 */
export function recommendContainer(history: ContainerHistory, policy: RightsizingPolicy = RIGHTSIZING_POLICY): ContainerRecommendation {
  const eachRun = history.workloadKind === 'Job' || history.workloadKind === 'CronJob';
  const periods = coveredPeriods(history.periods);
  const days = daysOf(periods, eachRun);
  const blocks = blocksOf(periods, eachRun);
  const kills = history.oomKills ?? [];
  const notes: string[] = [];
  const pooled = { cpu: cpuNeed(blocks, days, policy.cpu), memory: memoryNeed(blocks, days, kills, policy.memory) };
  const unlike = unlikeReplicas(history, eachRun, policy);
  if (unlike) {
    notes.push(`replicas are not alike: the largest needs ${unlike.spread.toFixed(1)} times the median; sized for the largest`);
  }
  const cpu = cpuAdvice(history, periods, unlike?.cpu ?? pooled.cpu, days, policy, notes);
  const memory = memoryAdvice(history, unlike?.memory ?? pooled.memory, days, policy, notes);
  if (periods.length === 0) notes.push('no usage is known');
  return {
    cpu, memory, notes,
    confidence: confidenceOf(history, pooled, days, unlike !== null),
    evidence: {
      days, coveredMinutes: periods.reduce((sum, period) => sum + period.coveredMinutes, 0),
      cpu: unlike?.cpu ?? pooled.cpu, memory: unlike?.memory ?? pooled.memory, oomKills: kills.length, throttledShare: history.throttledShare ?? null,
      replay: {
        current: replay(periods, blocks, history.current?.cpuRequestMillicores ?? null, history.current?.memoryRequestBytes ?? null),
        recommended: replay(periods, blocks, cpu.request, memory.request),
      },
      walkForward: walkForward(blocks, eachRun, policy),
    },
  };
}

function cpuAdvice(history: ContainerHistory, periods: readonly UsagePeriod[], need: CpuNeed | null, days: number, policy: RightsizingPolicy, notes: string[]): ResourceAdvice {
  const current = history.current?.cpuRequestMillicores ?? null;
  const limit = history.current?.cpuLimitMillicores ?? null;
  if (need === null) return { request: null, limit: null, lower: null, upper: null, basis: 'unknown', change: 'unknown' };
  let wanted = need.millicores;
  let basis: Basis = 'usage';
  const scaler = history.autoscaler;
  if (scaler && scaler.minReplicas < scaler.maxReplicas) {
    if (scaler.resource === 'cpu') {
      const steered = autoscaledRequest(periods, scaler, current);
      if (steered === null) {
        notes.push('an autoscaler steers on CPU and the replicas or the present request are unknown: CPU is left alone');
        return { request: current, limit, lower: current, upper: current, basis: 'autoscaler', change: current === null ? 'unknown' : 'keep' };
      }
      wanted = steered.requestMillicores;
      basis = 'autoscaler';
      notes.push(steered.reason);
    }
  }
  const ceiling = history.largestNode?.cpuMillicores ?? Infinity;
  const bounded = bound(wanted, policy.cpu.minimumMillicores, ceiling, basis);
  const request = bounded.basis === 'largest_node' ? Math.floor(bounded.value) : Math.ceil(bounded.value - 1e-9);
  if (bounded.basis === 'largest_node') notes.push('CPU need is larger than the largest node: more replicas are needed, not more CPU');
  const wide = widthOf(days);
  return {
    request, basis: bounded.basis,
    // A limit is advised only where there is one: it must not throttle what was seen.
    limit: limit === null ? null : Math.max(request, Math.min(ceiling, Math.ceil(need.largestMillicores * Math.exp(need.rise)))),
    lower: Math.min(request, Math.max(policy.cpu.minimumMillicores, Math.round(basis === 'autoscaler' ? request : need.p95))),
    upper: Math.min(ceiling, Math.ceil(request * wide)),
    change: changeOf(current, request, policy.hysteresisShare),
  };
}

function memoryAdvice(history: ContainerHistory, need: MemoryNeed | null, days: number, policy: RightsizingPolicy, notes: string[]): ResourceAdvice {
  const current = history.current?.memoryRequestBytes ?? null;
  const unknown: ResourceAdvice = { request: null, limit: null, lower: null, upper: null, basis: 'unknown', change: 'unknown' };
  let wanted: number;
  let basis: Basis;
  if (history.jvm) {
    const byHeap = jvmNeed(history.jvm, policy.memory);
    const floor = oomFloor(history.oomKills ?? [], need?.largestPeakBytes ?? null, policy.memory);
    if (byHeap === null && (floor === null || (current !== null && floor <= current))) {
      notes.push('a JVM whose heap is not known: its memory says what the heap took, not what it needs, so memory is left alone');
      return unknown;
    }
    wanted = Math.max(byHeap ?? 0, floor ?? 0);
    basis = (floor ?? 0) > (byHeap ?? 0) ? 'oom_kill' : 'jvm_heap';
  } else if (need === null) {
    return unknown;
  } else {
    wanted = need.bytes;
    basis = need.basis;
  }
  if (history.autoscaler?.resource === 'memory' && history.autoscaler.minReplicas < history.autoscaler.maxReplicas) {
    notes.push('an autoscaler steers on memory: its request is left alone');
    return { request: current, limit: history.current?.memoryLimitBytes ?? null, lower: current, upper: current, basis: 'autoscaler', change: current === null ? 'unknown' : 'keep' };
  }
  const ceiling = history.largestNode?.memoryBytes ?? Infinity;
  const bounded = bound(wanted, policy.memory.minimumBytes, ceiling, basis);
  const request = bounded.basis === 'largest_node' ? Math.floor(bounded.value) : Math.min(ceiling, Math.ceil(bounded.value / MEBIBYTE - 1e-9) * MEBIBYTE);
  if (bounded.basis === 'largest_node') notes.push('memory need is larger than the largest node');
  if ((history.oomKills ?? []).length > 0) notes.push(`killed for memory ${history.oomKills?.length} time${history.oomKills?.length === 1 ? '' : 's'}: the limit of the kill is a floor`);
  const lower = Math.min(request, Math.max(policy.memory.minimumBytes, need?.oomFloorBytes ?? 0, need?.largestPeakBytes ?? request));
  return {
    // Memory over the request is the node's risk, so the limit is the request.
    request, limit: request, basis: bounded.basis, lower, upper: Math.min(ceiling, Math.ceil(request * widthOf(days))),
    change: changeOf(current, request, policy.hysteresisShare),
  };
}

function bound(wanted: number, minimum: number, ceiling: number, basis: Basis): { value: number; basis: Basis } {
  if (wanted > ceiling) return { value: ceiling, basis: 'largest_node' };
  if (wanted < minimum) return { value: Math.min(minimum, ceiling), basis: 'minimum' };
  return { value: wanted, basis };
}

/** How far above the recommendation a present request may lie before it is clearly too large: wide while history is short. */
function widthOf(days: number): number {
  return 1.15 + 1 / (1 + days);
}

function changeOf(current: number | null, request: number, hysteresisShare: number): Change {
  if (current === null) return 'set';
  if (Math.abs(current - request) <= hysteresisShare * Math.max(current, request)) return 'keep';
  return current < request ? 'raise' : 'lower';
}

/** The needs of the replica that needs most, where it needs far more than the median one; null where they are alike or not known. */
function unlikeReplicas(history: ContainerHistory, eachRun: boolean, policy: RightsizingPolicy): { cpu: CpuNeed | null; memory: MemoryNeed | null; spread: number } | null {
  if (eachRun || !history.replicas || history.replicas.length < 2) return null;
  const needs = history.replicas.filter((periods) => coveredPeriods(periods).length > 0).map((periods) => {
    const blocks = blocksOf(periods, false);
    const days = daysOf(periods, false);
    return { cpu: cpuNeed(blocks, days, policy.cpu), memory: memoryNeed(blocks, days, history.oomKills ?? [], policy.memory) };
  });
  const spreadOf = (values: number[]) => {
    const sorted = values.sort((a, b) => a - b);
    const median = sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
    return median > 0 ? (sorted[sorted.length - 1] ?? 0) / median : 1;
  };
  const cpuSpread = spreadOf(needs.map(({ cpu }) => Math.max(policy.cpu.minimumMillicores, cpu?.millicores ?? 0)));
  const memorySpread = spreadOf(needs.map(({ memory }) => Math.max(policy.memory.minimumBytes, memory?.bytes ?? 0)));
  const spread = Math.max(cpuSpread, memorySpread);
  if (spread < policy.unlikeReplicas) return null;
  const most = <T>(values: (T | null)[], size: (value: T) => number) =>
    values.reduce<T | null>((best, value) => (value !== null && (best === null || size(value) > size(best)) ? value : best), null);
  return { cpu: most(needs.map(({ cpu }) => cpu), ({ millicores }) => millicores), memory: most(needs.map(({ memory }) => memory), ({ bytes }) => bytes), spread };
}

/**
 * 0..99: grows with the days of history (half of the way at a day, nine tenths at nine), falls with what makes the next week
 * unlike the last: a level that rises, kills, replicas that are not alike, unknown parts.
 */
function confidenceOf(history: ContainerHistory, need: { cpu: CpuNeed | null; memory: MemoryNeed | null }, days: number, unlike: boolean): number {
  if (days === 0) return 0;
  const rise = Math.max(need.cpu?.rise ?? 0, need.memory?.rise ?? 0);
  const penalty = 40 * Math.min(0.5, rise) + ((history.oomKills ?? []).length > 0 ? 10 : 0) + (unlike ? 20 : 0) + (need.cpu === null || need.memory === null ? 20 : 0);
  return Math.round(Math.min(99, Math.max(0, 100 * (days / (days + 1)) - penalty)));
}

function replay(periods: readonly UsagePeriod[], blocks: readonly Block[], cpuRequest: number | null, memoryRequest: number | null): Replay {
  const minutes = merged(...blocks.map((block) => block.cpu));
  const peaks = periods.flatMap((period) => (period.memoryMaxBytes === null ? [] : [period.memoryMaxBytes]));
  return {
    cpu: cpuRequest === null || minutes.size === 0 ? null : uncoveredBy(minutes, cpuRequest),
    memoryPeriodsOver: memoryRequest === null || peaks.length === 0 ? null : peaks.filter((peak) => peak > memoryRequest).length,
  };
}

/** The rule at every block from the second on, each time with the blocks before it alone. */
function walkForward(blocks: readonly Block[], eachRun: boolean, policy: RightsizingPolicy): WalkForward | null {
  let points = 0;
  let memoryOverruns = 0;
  let unserved = 0;
  let over = 0;
  let past: CpuPast | null = null;
  for (let next = 0; next < blocks.length; next++) {
    const block = blocks[next];
    if (!block) continue;
    const known = past;
    past = withBlock(past, block, policy.cpu);
    if (next < 2) continue;
    const before = blocks.slice(0, next);
    const days = eachRun ? before.length : before.reduce((sum, { startMs, endMs }) => sum + (endMs - startMs), 0) / 86_400_000;
    const cpu = known && cpuNeedAfter(known, days, policy.cpu);
    const memory = memoryNeed(before, days, [], policy.memory);
    points++;
    if (cpu && block.cpu.size > 0) {
      const left = uncoveredBy(block.cpu, Math.max(policy.cpu.minimumMillicores, cpu.millicores));
      unserved += left.unservedShare;
      over += left.overShare;
    }
    if (memory && block.memoryMaxBytes !== null && block.memoryMaxBytes > Math.max(policy.memory.minimumBytes, memory.bytes)) memoryOverruns++;
  }
  return points === 0 ? null : { points, memoryOverruns, cpuUnservedShare: unserved / points, cpuOverShare: over / points };
}
