import { quantile, type Distribution } from '@upid/contracts';
import type { LoadMinutes, Quarters } from '../fold/aggregate.js';
import { HOURS_OF_WEEK, QUARTERS_OF_WEEK, type Zone } from './zone.js';

/** What a workload uses when it rests: the 5th percentile of its own minutes, never below 1 millicore and 1 kB/s. */
export interface RestingFloor {
  readonly cpuMillicores: number;
  /** Null where its network was never known (the host's network, the metrics API). */
  readonly networkBytesPerSecond: number | null;
}

export const LEAST_CPU_MILLICORES = 1;
export const LEAST_NETWORK_BYTES_PER_SECOND = 1000;

/** The floor of distributions of minutes; null where no minute is known. */
export function restingFloor(cpu: Distribution, network: Distribution): RestingFloor | null {
  const cpuFloor = quantile(cpu, 0.05);
  if (cpuFloor === null) return null;
  const networkFloor = quantile(network, 0.05);
  return { cpuMillicores: Math.max(LEAST_CPU_MILLICORES, cpuFloor), networkBytesPerSecond: networkFloor === null ? null : Math.max(LEAST_NETWORK_BYTES_PER_SECOND, networkFloor) };
}

/** Minutes at rest: CPU and network at or below twice the floor. Where the network is known at all, a minute counts only with both. */
export interface RestMinutes {
  known: number;
  atRest: number;
}

export function countRest(load: LoadMinutes, floor: RestingFloor, into: RestMinutes): void {
  const { cpuMillicores, networkBytesPerSecond } = load;
  for (let m = 0; m < cpuMillicores.length; m++) {
    const cpu = cpuMillicores[m] as number;
    if (Number.isNaN(cpu)) continue;
    const network = networkBytesPerSecond[m] as number;
    if (floor.networkBytesPerSecond !== null && Number.isNaN(network)) continue;
    into.known++;
    if (cpu <= 2 * floor.cpuMillicores && (floor.networkBytesPerSecond === null || network <= 2 * floor.networkBytesPerSecond)) into.atRest++;
  }
}

/** A run of quarters of an hour of one workload. */
export interface Timeline {
  /** Unix quarter (ms / 900,000) of the first. */
  readonly startQuarter: number;
  readonly quarters: Quarters;
}

/** Mean use above the floor, in floors, where it lies above twice the floor; 0 at rest. */
function excess(mean: number, floor: number): number {
  return mean > 2 * floor ? (mean - floor) / floor : 0;
}

/** Activity of CPU and network over minutes: 0 at rest. */
function usageActivity(floor: RestingFloor, cpuSum: number, minutes: number, networkSum: number, networkMinutes: number): number {
  const cpu = minutes > 0 ? excess(cpuSum / minutes, floor.cpuMillicores) : 0;
  const network = networkMinutes > 0 && floor.networkBytesPerSecond !== null ? excess(networkSum / networkMinutes, floor.networkBytesPerSecond) : 0;
  return cpu + network;
}

/** What is usual, by quarter of the local week: means over the covered quarters of the history. */
export interface WeekProfile {
  /** Days of the history with at least half a day covered, by what they cover. */
  readonly usageDays: number;
  readonly requestDays: number;
  readonly cpuSum: Float64Array;
  readonly minutes: Float64Array;
  readonly networkSum: Float64Array;
  readonly networkMinutes: Float64Array;
  readonly business: Float64Array;
  readonly requestMinutes: Float64Array;
}

/** Sums a history into the week. Quarters at and after `beforeQuarter` are left out: what is expected does not hold what is observed. */
export function weekProfile(history: Timeline, beforeQuarter: number, zone: Zone): WeekProfile {
  const of = () => new Float64Array(QUARTERS_OF_WEEK);
  const profile = { cpuSum: of(), minutes: of(), networkSum: of(), networkMinutes: of(), business: of(), requestMinutes: of() };
  const usageByDay = new Map<number, number>();
  const requestsByDay = new Map<number, number>();
  const { quarters, startQuarter } = history;
  const end = Math.min(quarters.minutes.length, beforeQuarter - startQuarter);
  for (let i = 0; i < end; i++) {
    const minutes = quarters.minutes[i] as number;
    const requestMinutes = quarters.requestMinutes[i] as number;
    if (minutes === 0 && requestMinutes === 0) continue;
    const slot = zone.quarterOfWeek(startQuarter + i);
    const day = Math.floor(zone.localQuarter(startQuarter + i) / 96);
    const add = (column: Float64Array, value: number) => { column[slot] = (column[slot] as number) + value; };
    add(profile.cpuSum, quarters.cpuMillicoreMinutes[i] as number);
    add(profile.minutes, minutes);
    add(profile.networkSum, quarters.networkRateMinutes[i] as number);
    add(profile.networkMinutes, quarters.networkMinutes[i] as number);
    add(profile.business, quarters.business[i] as number);
    add(profile.requestMinutes, requestMinutes);
    usageByDay.set(day, (usageByDay.get(day) ?? 0) + minutes);
    requestsByDay.set(day, (requestsByDay.get(day) ?? 0) + requestMinutes);
  }
  const half = (days: Map<number, number>) => [...days.values()].filter((minutes) => minutes >= 720).length;
  return { ...profile, usageDays: half(usageByDay), requestDays: half(requestsByDay) };
}

/** Days of history without which nothing is expected. */
export const PROFILE_DAYS = 7;

/** The observed activity against what was usual at the same times of the week. */
export interface TemporalFacts {
  readonly measure: 'requests' | 'usage';
  readonly observed: number;
  readonly expected: number;
  /** Covered days of the history. */
  readonly days: number;
  /** Share of the window's quarters that could be compared. */
  readonly coverage: number;
}

/**
 * Compares the window's quarters with the same quarters of the week in the history: business requests a minute where both are covered (the
 * history for at least 7 days), else CPU and network above the floor. Null with fewer days of either.
 */
export function temporalFacts(window: Timeline, profile: WeekProfile, floor: RestingFloor | null, zone: Zone): TemporalFacts | null {
  const { quarters, startQuarter } = window;
  const count = quarters.minutes.length;
  if (profile.requestDays >= PROFILE_DAYS) {
    let observed = 0;
    let expected = 0;
    let minutes = 0;
    let compared = 0;
    for (let i = 0; i < count; i++) {
      const slot = zone.quarterOfWeek(startQuarter + i);
      const covered = quarters.requestMinutes[i] as number;
      const usual = profile.requestMinutes[slot] as number;
      if (covered === 0 || usual === 0) continue;
      compared++;
      minutes += covered;
      observed += quarters.business[i] as number;
      expected += ((profile.business[slot] as number) / usual) * covered;
    }
    if (compared > 0) return { measure: 'requests', observed: observed / minutes, expected: expected / minutes, days: profile.requestDays, coverage: compared / count };
  }
  if (profile.usageDays < PROFILE_DAYS || floor === null) return null;
  const seen = { cpu: 0, minutes: 0, network: 0, networkMinutes: 0 };
  const usual = { cpu: 0, minutes: 0, network: 0, networkMinutes: 0 };
  let compared = 0;
  for (let i = 0; i < count; i++) {
    const slot = zone.quarterOfWeek(startQuarter + i);
    const covered = quarters.minutes[i] as number;
    const usualMinutes = profile.minutes[slot] as number;
    if (covered === 0 || usualMinutes === 0) continue;
    compared++;
    seen.cpu += quarters.cpuMillicoreMinutes[i] as number;
    seen.minutes += covered;
    usual.cpu += ((profile.cpuSum[slot] as number) / usualMinutes) * covered;
    usual.minutes += covered;
    const networkCovered = quarters.networkMinutes[i] as number;
    const usualNetwork = profile.networkMinutes[slot] as number;
    if (networkCovered === 0 || usualNetwork === 0) continue;
    seen.network += quarters.networkRateMinutes[i] as number;
    seen.networkMinutes += networkCovered;
    usual.network += ((profile.networkSum[slot] as number) / usualNetwork) * networkCovered;
    usual.networkMinutes += networkCovered;
  }
  if (compared === 0) return null;
  return {
    measure: 'usage', observed: usageActivity(floor, seen.cpu, seen.minutes, seen.network, seen.networkMinutes), expected: usageActivity(floor, usual.cpu, usual.minutes, usual.network, usual.networkMinutes),
    days: profile.usageDays, coverage: compared / count,
  };
}

/** An hour of local time: whether it is covered, and whether the workload worked in it. */
interface LocalHour {
  covered: boolean;
  working: boolean;
}

/** The timeline's local hours by their number since 1970. A quarter works where business requests came, or, unwatched, CPU or network lay above the floor. */
function localHours(timeline: Timeline, floor: RestingFloor | null, zone: Zone): Map<number, LocalHour> {
  const hours = new Map<number, LocalHour>();
  const { quarters, startQuarter } = timeline;
  for (let i = 0; i < quarters.minutes.length; i++) {
    const requestMinutes = quarters.requestMinutes[i] as number;
    const minutes = quarters.minutes[i] as number;
    if (requestMinutes === 0 && (minutes === 0 || floor === null)) continue;
    const hour = Math.floor(zone.localQuarter(startQuarter + i) / 4);
    const working = requestMinutes > 0
      ? (quarters.business[i] as number) > 0
      : usageActivity(floor as RestingFloor, quarters.cpuMillicoreMinutes[i] as number, minutes, quarters.networkRateMinutes[i] as number, quarters.networkMinutes[i] as number) > 0;
    const known = hours.get(hour);
    if (known) known.working ||= working;
    else hours.set(hour, { covered: true, working });
  }
  return hours;
}

/**
 * How alike the days are: the share of covered hours whose state (working or not) is that of most other days at the same hour of the day;
 * where the others are split evenly an hour counts half. 0.5 with fewer than two days.
 */
export function consistency(window: Timeline, floor: RestingFloor | null, zone: Zone): number {
  const byHourOfDay = Array.from({ length: 24 }, () => ({ working: 0, resting: 0 }));
  const hours = localHours(window, floor, zone);
  const days = new Set<number>();
  for (const [hour, { working }] of hours) {
    const slot = byHourOfDay[((hour % 24) + 24) % 24];
    if (slot) slot[working ? 'working' : 'resting']++;
    days.add(Math.floor(hour / 24));
  }
  if (days.size < 2) return 0.5;
  let compared = 0;
  let same = 0;
  for (const { working, resting } of byHourOfDay) {
    if (working + resting < 2) continue;
    compared += working + resting;
    const of = (mine: number, other: number) => mine * (mine - 1 > other ? 1 : mine - 1 === other ? 0.5 : 0);
    same += of(working, resting) + of(resting, working);
  }
  return compared === 0 ? 0.5 : same / compared;
}

/** Days of history without which no idle periods are told. */
export const IDLE_PERIOD_DAYS = 14;
/** Idle periods are those of the last weeks: this many. */
const IDLE_PERIOD_WEEKS = 4;

/**
 * The local hours of the week in which the workload does no work: each was covered at least twice in the last four weeks and never worked.
 * Half-open runs of hours; a run over the end of the week is two. Null with fewer than 14 covered days.
 */
export function idlePeriods(timeline: Timeline, endQuarter: number, floor: RestingFloor | null, zone: Zone): { start_hour: number; end_hour: number }[] | null {
  const hours = localHours(timeline, floor, zone);
  const byDay = new Map<number, number>();
  for (const hour of hours.keys()) byDay.set(Math.floor(hour / 24), (byDay.get(Math.floor(hour / 24)) ?? 0) + 1);
  if ([...byDay.values()].filter((covered) => covered >= 12).length < IDLE_PERIOD_DAYS) return null;
  const oldest = Math.floor(zone.localQuarter(endQuarter) / 4) - IDLE_PERIOD_WEEKS * HOURS_OF_WEEK;
  const covered = new Int32Array(HOURS_OF_WEEK);
  const worked = new Int32Array(HOURS_OF_WEEK);
  for (const [hour, { working }] of hours) {
    if (hour < oldest) continue;
    // 1970-01-01 was a Thursday: Monday 00:00 was 96 hours later.
    const slot = (((hour - 96) % HOURS_OF_WEEK) + HOURS_OF_WEEK) % HOURS_OF_WEEK;
    covered[slot] = (covered[slot] as number) + 1;
    if (working) worked[slot] = (worked[slot] as number) + 1;
  }
  const periods: { start_hour: number; end_hour: number }[] = [];
  for (let slot = 0; slot < HOURS_OF_WEEK; slot++) {
    if ((covered[slot] as number) < 2 || (worked[slot] as number) > 0) continue;
    const last = periods.at(-1);
    if (last && last.end_hour === slot) last.end_hour = slot + 1;
    else periods.push({ start_hour: slot, end_hour: slot + 1 });
  }
  return periods;
}

/** Business requests a CPU second of each local day that has both; for the baseline. */
export function dailyEfficiencies(history: Timeline, zone: Zone): number[] {
  const days = new Map<number, { business: number; cpuSeconds: number; minutes: number }>();
  const { quarters, startQuarter } = history;
  for (let i = 0; i < quarters.minutes.length; i++) {
    if ((quarters.requestMinutes[i] as number) === 0 || (quarters.minutes[i] as number) === 0) continue;
    const day = Math.floor(zone.localQuarter(startQuarter + i) / 96);
    let sums = days.get(day);
    if (!sums) days.set(day, (sums = { business: 0, cpuSeconds: 0, minutes: 0 }));
    sums.business += quarters.business[i] as number;
    sums.cpuSeconds += ((quarters.cpuMillicoreMinutes[i] as number) * 60) / 1000;
    sums.minutes += quarters.requestMinutes[i] as number;
  }
  return [...days.values()].filter((day) => day.business > 0 && day.cpuSeconds > 0 && day.minutes >= 720).map((day) => day.business / day.cpuSeconds);
}

/** Days whose efficiency must be known for a baseline. */
export const BASELINE_DAYS = 7;

/** The median of the days' efficiencies; null with fewer than 7. */
export function baselineEfficiency(days: readonly number[]): number | null {
  if (days.length < BASELINE_DAYS) return null;
  const sorted = [...days].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}
