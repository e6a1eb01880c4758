import type { Aggregate, LoadMinutes } from '../fold/aggregate.js';
import type { Zone } from '../idle/zone.js';
import { detectAnomalies, type Anomaly } from '../series/anomalies/detector.js';
import { describeTrend } from '../series/changes/trend.js';
import { timeToExhaustion } from '../series/forecasts/exhaustion.js';
import { forecast } from '../series/forecasts/forecast.js';
import { findPatterns } from '../series/patterns/patterns.js';
import { HOUR_MS, MINUTE_MS, toTimestamp, type Insight, type RequestSummary, type UsageSummary } from '@upid/contracts';

/** Evenly spaced values; NaN where unknown. */
export interface Series {
  readonly timesMs: Float64Array;
  readonly values: Float64Array;
}

/** An hour's load at its place in time. */
export interface HourLoad {
  readonly hourMs: number;
  readonly load: LoadMinutes;
}

/** Means of `minutes` minutes each of a load's column, from the first of its hours (which are in order) to the last: of hours that are not there NaN. */
export function meansOf(hours: readonly HourLoad[], column: keyof LoadMinutes, minutes: 5 | 60): Series {
  const per = 60 / minutes;
  const startMs = hours[0]?.hourMs ?? 0;
  const span = hours.length === 0 ? 0 : ((hours.at(-1)?.hourMs ?? 0) - startMs) / HOUR_MS + 1;
  const timesMs = Float64Array.from({ length: span * per }, (_, i) => startMs + i * minutes * MINUTE_MS);
  const values = new Float64Array(span * per).fill(Number.NaN);
  for (const { hourMs, load } of hours) {
    const at = ((hourMs - startMs) / HOUR_MS) * per;
    for (let i = 0; i < per; i++) {
      let sum = 0;
      let count = 0;
      for (let m = i * minutes; m < (i + 1) * minutes; m++) {
        const value = load[column][m] as number;
        if (Number.isNaN(value)) continue;
        sum += value;
        count++;
      }
      if (count > 0) values[at + i] = sum / count;
    }
  }
  return { timesMs, values };
}

/** Business requests a CPU second by hour, where both are known. */
export function efficiencyByHour(aggregate: Aggregate): Series {
  const hours = Math.floor(aggregate.quarters.minutes.length / 4);
  const timesMs = Float64Array.from({ length: hours }, (_, h) => (aggregate.startMinute + h * 60) * 60_000);
  const values = new Float64Array(hours).fill(Number.NaN);
  const { requestMinutes, business, cpuMillicoreMinutes, minutes } = aggregate.quarters;
  for (let h = 0; h < hours; h++) {
    const sum = (field: Float64Array) => field.subarray(h * 4, h * 4 + 4).reduce((a, b) => a + b, 0);
    const cpuSeconds = (sum(cpuMillicoreMinutes) * 60) / 1000;
    if (sum(requestMinutes) > 0 && sum(minutes) > 0 && cpuSeconds > 0) values[h] = sum(business) / cpuSeconds;
  }
  return { timesMs, values };
}

type Trend = Insight['trends']['usage'];

/** A series' trend in the words of the wire; `unknown` with too few values. */
export function trendOf(series: Series, what: string): Trend {
  const trend = describeTrend(series.timesMs, series.values);
  if (!trend) return { direction: 'unknown', change_percent_per_week: null, significance: null, shifted_at: null, evidence: `${what}: fewer than eight hours are known.` };
  const level = mean(series.values);
  const perWeek = level > 0 ? (trend.slopePerDay * 7 * 100) / level : null;
  const changed = trend.changeRatio === null ? '' : ` by ${(trend.changeRatio * 100).toFixed(1)} %`;
  const evidence = trend.word === 'steady' ? `${what} is steady (p = ${trend.p.toPrecision(2)}).`
    : trend.word === 'shifted' ? `${what} shifted${changed} at ${toTimestamp(trend.sinceMs ?? (series.timesMs[0] as number))}.`
      : `${what} is ${trend.word}${changed} (p = ${trend.p.toPrecision(2)}).`;
  return { direction: trend.word, change_percent_per_week: trend.word === 'steady' ? 0 : perWeek, significance: 1 - trend.p, shifted_at: trend.word === 'shifted' && trend.sinceMs !== null ? toTimestamp(trend.sinceMs) : null, evidence };
}

function mean(values: Float64Array): number {
  let sum = 0;
  let count = 0;
  for (const value of values) {
    if (Number.isNaN(value)) continue;
    sum += value;
    count++;
  }
  return count === 0 ? 0 : sum / count;
}

/** Surprise (orders of magnitude) that counts as the worst. */
const WORST_SURPRISE = 10;

/** Anomalies of a metric that ended no earlier than `sinceMs`, the latest first. */
export function anomaliesOf(series: Series, metric: string, unit: string, resolution: number, sinceMs: number): Insight['anomalies'] {
  const found = detectAnomalies(series.timesMs, series.values, { resolution }).filter((each) => each.endMs >= sinceMs);
  return found.reverse().map((each: Anomaly) => ({
    type: each.signal === 'season' ? 'pattern' as const : 'statistical' as const, metric, start: toTimestamp(each.startMs), end: toTimestamp(each.endMs), severity: Math.min(1, each.surprise / WORST_SURPRISE), expected: { low: each.expected.low, high: each.expected.high }, observed: each.observed,
    evidence: `${metric} was ${Math.round(each.observed).toLocaleString('en-US')} ${unit} at ${toTimestamp(each.peakMs)} where ${Math.round(each.expected.low).toLocaleString('en-US')} to ${Math.round(each.expected.high).toLocaleString('en-US')} are usual (once in 10^${each.surprise.toFixed(1)} values).`,
  }));
}

/** What repeats in hourly means, by the working hours and dates of a zone. */
export function patternsOf({ timesMs, values }: Series, zone: Zone): Insight['patterns'] {
  const found = findPatterns(values, HOUR_MS, timesMs[0] ?? 0, { offsetMsAt: (timeMs) => zone.offsetMs(timeMs) });
  return found.map(({ type, periodMinutes, confidence, evidence }) => ({ type, period_minutes: periodMinutes, confidence, evidence: `CPU: ${evidence}` }));
}

/** Hours of history without which nothing is predicted, and every how many hours of the week ahead a prediction is told. */
export const FORECAST_HOURS = 7 * 24;
const TOLD_EVERY_HOURS = 6;

/** A week ahead of an hourly series; null with less than a week of it known. */
export function predictionsOf(hours: Series, metric: string): Insight['predictions'] {
  if (hours.values.reduce((count, value) => count + (Number.isNaN(value) ? 0 : 1), 0) < FORECAST_HOURS) return null;
  const ahead = forecast(hours.values, 3_600_000, { min: 0 });
  if (!ahead) return null;
  const [eighty, ninetyFive] = ahead.intervals;
  const last = hours.timesMs.at(-1) as number;
  return Array.from({ length: Math.floor(ahead.values.length / TOLD_EVERY_HOURS) }, (_, i) => {
    const step = (i + 1) * TOLD_EVERY_HOURS - 1;
    const at = (values: Float64Array | undefined) => values?.[step] ?? (ahead.values[step] as number);
    return { metric, at: toTimestamp(last + (step + 1) * 3_600_000), value: ahead.values[step] as number, low_80: at(eighty?.low), high_80: at(eighty?.high), low_95: at(ninetyFive?.low), high_95: at(ninetyFive?.high) };
  });
}

/** A sentence on when memory that only rises meets its limit; null where it does not rise, or in more than 30 days. */
export function exhaustionOf(memory: Series, limitBytes: number | null): string | null {
  if (limitBytes === null || limitBytes <= 0) return null;
  const found = timeToExhaustion(memory.values, 300_000, limitBytes);
  if (!found || found.hours > 30 * 24) return null;
  const span = (value: number) => (value >= 48 ? `${(value / 24).toFixed(0)} days` : `${value.toFixed(0)} hours`);
  return `Memory rises by ${(found.slopePerHour / 2 ** 20).toFixed(1)} MiB an hour and meets its limit in about ${span(found.hours)} (${span(found.earliestHours)} to ${found.latestHours === null ? 'never' : span(found.latestHours)}).`;
}

/** 0..10: twice the decimal logarithm of business requests a day; ten is 100,000 a day and more. Null where requests are unknown. */
export function userImpactScore(requests: RequestSummary | null): number | null {
  if (!requests || requests.business_per_day === null) return null;
  return Math.min(10, 2 * Math.log10(1 + requests.business_per_day));
}

/** How much hangs on a workload: what its labels say, else by its business requests. */
export function criticalityOf(labels: Readonly<Record<string, string>>, requests: RequestSummary | null): Insight['business_criticality'] {
  if (labels['app.kubernetes.io/component'] === 'critical') return 'critical';
  const score = userImpactScore(requests);
  if (score === null) return 'unknown';
  return score >= 8 ? 'high' : score >= 4 ? 'medium' : 'low';
}

/** What slows a workload down, in sentences, and what would likely help. */
export function performanceOf(usage: UsageSummary, aggregate: Aggregate, memoryOfLimit: number | null, oomKills: number, exhaustion: string | null = null): Insight['performance'] {
  const findings: string[] = [];
  const improvements: string[] = [];
  const restarts = aggregate.containers.reduce((sum, each) => sum + each.restarts, 0);
  const throttled = usage.throttled_minutes_share;
  if (throttled !== null && throttled > 0.05) {
    findings.push(`CPU was throttled in ${(throttled * 100).toFixed(1)} % of minutes.`);
    improvements.push('a higher CPU limit, or none, removes the throttling');
  }
  if (oomKills > 0) findings.push(`${oomKills} container${oomKills === 1 ? ' was' : 's were'} killed for want of memory in 7 days.`);
  if (memoryOfLimit !== null && memoryOfLimit > 0.95) findings.push(`Memory reached ${(memoryOfLimit * 100).toFixed(0)} % of its limit.`);
  if (oomKills > 0 || (memoryOfLimit !== null && memoryOfLimit > 0.95)) improvements.push('a higher memory limit prevents kills');
  if (exhaustion !== null) {
    findings.push(exhaustion);
    improvements.push('a leak is to be mended; a restart before the limit is met bridges the time');
  }
  if (restarts > 0) findings.push(`${restarts} restart${restarts === 1 ? '' : 's'}.`);
  return { throttled_minutes_share: throttled, memory_of_limit_max: memoryOfLimit, oom_kills: oomKills, restarts, findings, likely_improvement: improvements.length === 0 ? null : `${improvements.join('; ')}.` };
}

/** Peak and low hours of the local week and how much the load varies (standard deviation over mean of hourly means). */
export function loadShapeOf(hours: Series, zone: Zone): { peak_hour_of_week: number | null; low_hour_of_week: number | null; variability: number | null } {
  const sums = new Float64Array(168);
  const counts = new Float64Array(168);
  let sum = 0;
  let squares = 0;
  let count = 0;
  hours.values.forEach((value, i) => {
    if (Number.isNaN(value)) return;
    const slot = Math.floor(zone.quarterOfWeek(Math.floor((hours.timesMs[i] as number) / 900_000)) / 4);
    sums[slot] = (sums[slot] as number) + value;
    counts[slot] = (counts[slot] as number) + 1;
    sum += value;
    squares += value * value;
    count++;
  });
  if (count === 0) return { peak_hour_of_week: null, low_hour_of_week: null, variability: null };
  let peak = -1;
  let low = -1;
  const at = (slot: number) => (sums[slot] as number) / (counts[slot] as number);
  for (let slot = 0; slot < 168; slot++) {
    if (counts[slot] === 0) continue;
    if (peak < 0 || at(slot) > at(peak)) peak = slot;
    if (low < 0 || at(slot) < at(low)) low = slot;
  }
  const level = sum / count;
  return { peak_hour_of_week: peak, low_hour_of_week: low, variability: count < 2 || level === 0 ? null : Math.sqrt(Math.max(0, squares / count - level * level)) / level };
}

/** Ones among the bits. */
export function bitsIn(bits: bigint): number {
  let count = 0;
  for (let rest = bits; rest > 0n; rest &= rest - 1n) count++;
  return count;
}
