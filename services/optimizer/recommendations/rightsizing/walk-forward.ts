import { distributionOf } from './distribution.js';
import type { UsagePeriod } from './history.js';

/**
 * Rules of right-sizing judged by what came after: at each fold a rule sees the past alone, and its request is held against
 * the days that followed. CPU in millicores, memory in bytes, times in milliseconds since the epoch, ascending.
 */
export interface Trace {
  readonly name: string;
  readonly resource: 'cpu' | 'memory';
  /** What the container or machine had (its limit, its cores): the unit of cost. */
  readonly provisioned: number;
  readonly timesMs: readonly number[];
  readonly values: readonly number[];
}

export interface Fold {
  readonly trace: Trace;
  /** Index of the first sample of the past, of the future, and after the future. */
  readonly from: number;
  readonly split: number;
  readonly to: number;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const PAST_MS = 14 * DAY_MS;
const FUTURE_MS = 7 * DAY_MS;

/** 14 days and the next 7, moved on by 7; one fold of two halves where the trace is shorter. Traces of under 20 samples have none. */
export function foldsOf(trace: Trace): Fold[] {
  const times = trace.timesMs;
  const first = times[0];
  const last = times[times.length - 1];
  if (first === undefined || last === undefined || times.length < 20) return [];
  const at = (ms: number) => lowerBound(times, ms);
  if (last - first < PAST_MS + FUTURE_MS - HOUR_MS) return [{ trace, from: 0, split: times.length >> 1, to: times.length }];
  const folds: Fold[] = [];
  for (let start = first; start + PAST_MS + FUTURE_MS - HOUR_MS <= last; start += FUTURE_MS) {
    const fold = { trace, from: at(start), split: at(start + PAST_MS), to: at(start + PAST_MS + FUTURE_MS) };
    if (fold.split - fold.from >= 10 && fold.to - fold.split >= 10) folds.push(fold);
  }
  return folds;
}

function lowerBound(sorted: readonly number[], value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? 0) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Samples as the hourly aggregates that a running system keeps. */
export function hoursOf(resource: 'cpu' | 'memory', timesMs: readonly number[], values: readonly number[]): UsagePeriod[] {
  const hours = new Map<number, number[]>();
  timesMs.forEach((time, i) => {
    const hour = Math.floor(time / HOUR_MS);
    const own = hours.get(hour);
    const value = values[i] ?? 0;
    if (own) own.push(value);
    else hours.set(hour, [value]);
  });
  return [...hours].map(([hour, own]) => {
    const max = own.reduce((most, value) => Math.max(most, value), 0);
    const cpu = resource === 'cpu';
    return {
      startMs: hour * HOUR_MS, coveredMinutes: Math.min(60, own.length), memoryMaxBytes: cpu ? null : max,
      cpuMeanMillicores: cpu ? own.reduce((sum, value) => sum + value, 0) / own.length : null, cpuMaxMillicores: cpu ? max : null,
      cpuDistribution: cpu ? distributionOf(own) : null,
    };
  });
}

/** A rule under judgement; `future` is there for hindsight alone. Answers in the trace's unit. */
export type Rule = (past: { readonly timesMs: readonly number[]; readonly values: readonly number[] }, future: readonly number[]) => number;

/** What a rule did, averaged over traces (a trace's folds count as one), but for overruns, which are counted. */
export interface Outcome {
  readonly traces: number;
  readonly folds: number;
  /** Request over provisioned. */
  readonly requestRatio: number;
  /** Share of the future's samples over the request. */
  readonly samplesOver: number;
  /** Share of the future's usage above the request. */
  readonly unserved: number;
  /** Folds whose future went over the request once or more. */
  readonly overruns: number;
}

/** Judges a rule on traces of one resource. O(samples · folds). */
export function judge(traces: readonly Trace[], rule: Rule): Outcome {
  let requestRatio = 0;
  let samplesOver = 0;
  let unserved = 0;
  let overruns = 0;
  let count = 0;
  let judged = 0;
  for (const trace of traces) {
    const folds = foldsOf(trace);
    if (folds.length === 0) continue;
    judged++;
    count += folds.length;
    for (const { from, split, to } of folds) {
      const future = trace.values.slice(split, to);
      const request = rule({ timesMs: trace.timesMs.slice(from, split), values: trace.values.slice(from, split) }, future);
      let over = 0;
      let excess = 0;
      let used = 0;
      for (const value of future) {
        used += value;
        if (value > request) {
          over++;
          excess += value - request;
        }
      }
      requestRatio += request / trace.provisioned / folds.length;
      samplesOver += over / future.length / folds.length;
      unserved += (used > 0 ? excess / used : 0) / folds.length;
      if (over > 0) overruns++;
    }
  }
  const mean = (sum: number) => (judged > 0 ? sum / judged : 0);
  return { traces: judged, folds: count, requestRatio: mean(requestRatio), samplesOver: mean(samplesOver), unserved: mean(unserved), overruns };
}
