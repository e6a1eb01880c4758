/** For which time a cost is known, and what stands in the way where it is not. */
import { HOUR_MS, type TimeRange } from '@upid/contracts';

/** An hour of a cluster that was computed. */
export interface CoveredHour {
  readonly hourMs: number;
  /** First and last covered moment, and how much lies between; 0: nothing was known. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly coveredMs: number;
  /** Pods that could not be charged, by workload key. */
  readonly uncharged: Readonly<Record<string, number>>;
  readonly unpriced: readonly { readonly node: string; readonly reason: string }[];
}

/** The whole hours that a range touches, up to the hour of now. */
export function wholeHours({ startMs, endMs }: TimeRange, nowMs: number): TimeRange {
  const floor = (ms: number) => ms - (((ms % HOUR_MS) + HOUR_MS) % HOUR_MS);
  const start = floor(startMs);
  return { startMs: start, endMs: Math.max(start + HOUR_MS, floor(Math.min(endMs, nowMs) + HOUR_MS - 1)) };
}

/** Covered time of an hour from a moment on, ms. */
export function coveredSince(hour: CoveredHour, sinceMs: number): number {
  return sinceMs <= hour.fromMs ? hour.coveredMs : Math.max(0, Math.min(hour.coveredMs, hour.toMs - sinceMs));
}

/** Covered time of hours from a moment on, ms. */
export function coveredMsOf(hours: readonly CoveredHour[], sinceMs: number): number {
  return hours.reduce((sum, hour) => sum + coveredSince(hour, sinceMs), 0);
}

/**
 * The hours by which the rate of a workload is told. Hours in which pods of it could not be charged lie too low; and where they
 * are those in which it ran (a daily job), leaving only them out would say that it costs nothing. So what follows the last of
 * them counts, where that is an hour or more; else all hours but them, where it cost something in these; else none.
 */
export function hoursKnownInFull(hours: readonly CoveredHour[], isUncharged: (hour: CoveredHour) => boolean, costs: (hour: CoveredHour) => boolean): readonly CoveredHour[] {
  const last = hours.findLastIndex(isUncharged);
  if (last < 0) return hours;
  const after = hours.slice(last + 1);
  if (coveredMsOf(after, -Infinity) >= HOUR_MS) return after;
  const others = hours.filter((hour) => !isUncharged(hour));
  return others.some(costs) ? others : [];
}
