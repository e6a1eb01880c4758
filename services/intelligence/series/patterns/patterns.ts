import { median } from '../statistics.js';
import { businessHours } from './business-hours.js';
import { addsTo, agreement, explained, fold, foretold, localLevel } from './cycles.js';
import type { Folded } from './cycles.js';
import { leastConfidence, minutesPerWeek, percent, significantCalendar } from './pattern.js';
import type { Pattern, PatternOptions } from './pattern.js';
import { pairwiseAutocorrelation } from './spectrum.js';

/**
 * Finds what repeats in a series: days, weeks, working hours, months and any other period. A pattern is reported when the same
 * shape comes again in phase (more than noise of the same redness would) and explains the values of cycles that were kept from it.
 */

const msPerMinute = 60_000;
const msPerDay = 86_400_000;
/** Of the Gregorian calendar. */
const daysPerMonth = 30.436875;
const minutesPerDay = 1440;

/** Periods that schedulers and people use, in minutes; others are looked for. */
const calendarMinutes = [5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720, minutesPerDay, minutesPerWeek];
/** Agreement in phase that is not chance, for a period picked among many lags. */
const significantOther = 6;
/** For the month, of which two may have to do: no more than 5.6 can be had from two. */
const significantMonth = 3.5;
/** Cycles that are needed; of weeks two, for their days are alike in themselves. */
const fewestCycles = 4;
const fewestDays = 3;
const fewestWeeks = 2;
const fewestMonthDays = 60;
const fewestValues = 8;
/** Where a shorter period leaves no more than this, nothing is left for a longer one. */
const leastLeft = 1e-3;
/** Peaks of the autocorrelation that are looked at, of the values and of their differences. */
const lagsEach = 8;

/** A period in which the series agrees with itself beyond chance. */
interface Finding {
  readonly period: number;
  /** Around the local level. */
  readonly folded: Folded;
  readonly foretold: Float64Array;
  readonly confidence: number;
  readonly significance: number;
}

/** Null where the series does not agree with itself in this period, or not better than in a shorter one that fits into it. */
function assess(values: Float64Array, period: number, calendar: boolean, shorter: readonly Finding[]): Finding | null {
  const significant = calendar ? significantCalendar : significantOther;
  const level = localLevel(values, period);
  const folded = fold(values.map((value, i) => value - level[i]!), period);
  const significance = agreement(folded);
  if (significance < significant) return null;
  const guess = foretold(folded);
  const share = explained(folded.values, guess);
  const divisor = shorter.filter((each) => period % each.period === 0).at(-1);
  if (divisor) {
    const shortFolded = fold(folded.values, divisor.period);
    const left = 1 - explained(shortFolded.values, foretold(shortFolded));
    if (left < leastLeft) return null;
    const halved = 1 - share <= left / 2;
    if (!halved && !addsTo(divisor.period, folded, significant)) return null;
  }
  return { period, folded, foretold: guess, confidence: Math.max(0, share), significance };
}

/** Lags at which the autocorrelation has its highest peaks, without multiples of others that are about as high. */
function peaks(correlation: Float64Array, longest: number, n: number): number[] {
  const found: number[] = [];
  for (let lag = 2; lag <= longest && lag + 1 < correlation.length; lag++) {
    const height = correlation[lag]!;
    if (!(height > 3 / Math.sqrt(n) && height >= correlation[lag - 1]! && height > correlation[lag + 1]!)) continue;
    if (found.some((shorter) => correlation[shorter]! > 0.9 * height && Math.abs(lag - Math.round(lag / shorter) * shorter) <= apart(lag, n))) continue;
    found.push(lag);
  }
  return found.sort((a, b) => correlation[b]! - correlation[a]! || a - b).slice(0, lagsEach);
}

/** Periods no further apart count as one: half of what n values can tell apart, a twentieth at most, a step at least (a tenth of short ones). */
function apart(period: number, n: number): number {
  return Math.max(Math.min(1, period / 10), Math.min((period * period) / n / 2, period / 20));
}

function withoutLine(values: Float64Array): Float64Array {
  const n = values.length;
  let [count, time, sum, cross, square] = [0, 0, 0, 0, 0];
  for (let i = 0; i < n; i++) {
    if (!Number.isFinite(values[i]!)) continue;
    count++;
    time += i;
    sum += values[i]!;
  }
  const [middle, mean] = [time / count, sum / count];
  for (let i = 0; i < n; i++) {
    if (!Number.isFinite(values[i]!)) continue;
    cross += (i - middle) * (values[i]! - mean);
    square += (i - middle) ** 2;
  }
  const slope = square > 0 ? cross / square : 0;
  return values.map((value, i) => value - mean - slope * (i - middle));
}

interface Candidate {
  readonly period: number;
  readonly calendar: boolean;
}

/** Periods to look at, ascending: the calendar's that fit the steps, and peaks of the autocorrelation that are not next to one. */
function candidates(values: Float64Array, stepMs: number): Candidate[] {
  const n = values.length;
  const chosen: Candidate[] = [];
  for (const minutes of calendarMinutes) {
    const period = (minutes * msPerMinute) / stepMs;
    const least = minutes === minutesPerWeek ? fewestWeeks : minutes === minutesPerDay ? fewestDays : fewestCycles;
    if (Number.isInteger(period) && period >= 2 && n >= least * period) chosen.push({ period, calendar: true });
  }
  const flat = withoutLine(values);
  const steps = flat.map((value, i) => (i > 0 ? value - flat[i - 1]! : Number.NaN)).subarray(1);
  for (const series of [flat, steps]) {
    for (const lag of peaks(pairwiseAutocorrelation(series), Math.floor(n / fewestCycles), n)) {
      if (chosen.every(({ period }) => Math.abs(period - lag) > apart(period, n))) chosen.push({ period: lag, calendar: false });
    }
  }
  return chosen.sort((a, b) => a.period - b.period);
}

/** The share that a shape within a longer pattern explains of what the longer one's own deviations leave. */
function partialConfidence(shape: number, longer: Finding): number {
  const { folded } = longer;
  const sums = new Float64Array(folded.rows * shape);
  const counts = new Float64Array(folded.rows * shape);
  longer.foretold.forEach((value, i) => {
    if (!Number.isFinite(value)) return;
    const cell = Math.floor(i / folded.period) * shape + ((i % folded.period) % shape);
    sums[cell]! += value;
    counts[cell]!++;
  });
  let rest = 0;
  let all = 0;
  longer.foretold.forEach((value, i) => {
    const error = folded.values[i]! - value;
    if (!Number.isFinite(error)) return;
    const cell = Math.floor(i / folded.period) * shape + ((i % folded.period) % shape);
    rest += error * error;
    all += (error + sums[cell]! / counts[cell]!) ** 2;
  });
  return all > 0 ? Math.max(0, 1 - rest / all) : 0;
}

function duration(minutes: number): string {
  if (minutes === minutesPerWeek) return 'week';
  if (minutes % minutesPerDay === 0) return minutes === minutesPerDay ? 'day' : `${minutes / minutesPerDay} days`;
  if (minutes % 60 === 0) return minutes === 60 ? 'hour' : `${minutes / 60} hours`;
  return `${Math.round(minutes * 100) / 100} minutes`;
}

/** What other patterns foretell, taken away. */
function without(values: Float64Array, others: readonly Finding[]): Float64Array {
  return others.reduce((rest, { foretold: guess }) => rest.map((value, i) => value - (Number.isFinite(guess[i]!) ? guess[i]! : 0)), values);
}

/** Patterns of fixed length. */
function regular(values: Float64Array, stepMs: number, minConfidence: number): Pattern[] {
  const minutesOf = (period: number): number => (period * stepMs) / msPerMinute;
  const findings: Finding[] = [];
  for (const { period, calendar } of candidates(values, stepMs)) {
    // Next to a multiple of a period that is there, a peak is that multiple.
    const near = (other: number): boolean => period % other !== 0 && Math.abs(period - Math.round(period / other) * other) <= apart(period, values.length);
    if (!calendar && findings.some((each) => near(each.period))) continue;
    const finding = assess(without(values, findings.filter((each) => each.confidence >= minConfidence && period % each.period !== 0)), period, calendar, findings);
    if (finding) findings.push(finding);
  }
  const patterns: Pattern[] = [];
  for (const finding of findings) {
    const minutes = minutesOf(finding.period);
    const week = minutes === minutesPerDay ? findings.find((each) => minutesOf(each.period) === minutesPerWeek && each.confidence >= minConfidence) : undefined;
    // What comes on one day of the week is no rhythm of days, however plain it is: most days must have it.
    const confidence = week && finding.confidence >= week.confidence / 2 ? Math.max(finding.confidence, partialConfidence(finding.period, week)) : finding.confidence;
    if (confidence < minConfidence) continue;
    patterns.push({
      type: minutes === minutesPerDay ? 'daily' : minutes === minutesPerWeek ? 'weekly' : 'other',
      periodSteps: finding.period,
      periodMinutes: minutes,
      confidence,
      significance: finding.significance,
      cycles: finding.folded.rows,
      evidence: `Repeats every ${duration(minutes)}: explains ${percent(confidence)} of the variance in cycles kept from it, over ${finding.folded.rows} cycles.`,
    });
  }
  return patterns;
}

/** The same days of each calendar month, counted from its beginning or its end, by means of local days from which the weekdays' own differences are taken. */
function monthly(values: Float64Array, stepMs: number, startMs: number, { offsetMsAt, minConfidence = leastConfidence }: PatternOptions): Pattern | null {
  if (stepMs > msPerDay || values.length * stepMs < fewestMonthDays * msPerDay) return null;
  const localDay = (i: number): number => Math.floor((startMs + i * stepMs + (offsetMsAt?.(startMs + i * stepMs) ?? 0)) / msPerDay);
  const firstDay = localDay(0);
  const days = localDay(values.length - 1) - firstDay + 1;
  const sums = new Float64Array(days);
  const counts = new Float64Array(days);
  values.forEach((value, i) => {
    if (!Number.isFinite(value)) return;
    sums[localDay(i) - firstDay]! += value;
    counts[localDay(i) - firstDay]!++;
  });
  const means = sums.map((sum, day) => (counts[day]! * stepMs * 2 >= msPerDay ? sum / counts[day]! : Number.NaN));
  const weekLevel = localLevel(means, 7);
  // Medians, so that a day of the month that falls on the same weekday twice is not taken for the weekday.
  const weekdays = Array.from({ length: 7 }, (_, weekday) => median(means.map((mean, day) => mean - weekLevel[day]!).filter((rest, day) => day % 7 === weekday && Number.isFinite(rest))));
  const plain = means.map((mean, day) => mean - weekdays[day % 7]!);
  const level = localLevel(plain, Math.round(daysPerMonth));
  const dateOf = (day: number): Date => new Date((firstDay + day) * msPerDay);
  const monthOf = (day: number): number => dateOf(day).getUTCFullYear() * 12 + dateOf(day).getUTCMonth();
  const months = monthOf(days - 1) - monthOf(0) + 1;
  const lastDate = (day: number): number => new Date(Date.UTC(dateOf(day).getUTCFullYear(), dateOf(day).getUTCMonth() + 1, 0)).getUTCDate();
  const [first, last] = [(day: number): number => dateOf(day).getUTCDate() - 1, (day: number): number => 30 - lastDate(day) + dateOf(day).getUTCDate()].map((columnOf) => {
    const folded: Folded = { rows: months, period: 31, values: new Float64Array(months * 31).fill(Number.NaN) };
    plain.forEach((value, day) => (folded.values[(monthOf(day) - monthOf(0)) * 31 + columnOf(day)] = value - level[day]!));
    return { confidence: explained(folded.values, foretold(folded)), significance: agreement(folded) };
  });
  const fromEnd = last!.confidence > first!.confidence;
  const { confidence, significance } = fromEnd ? last! : first!;
  if (confidence < minConfidence || significance < significantMonth) return null;
  return {
    type: 'other',
    periodSteps: Math.round((daysPerMonth * msPerDay) / stepMs),
    periodMinutes: daysPerMonth * minutesPerDay,
    confidence,
    significance,
    cycles: months,
    evidence: `Repeats on the same days of each month${fromEnd ? ', counted from its end' : ''}: explains ${percent(confidence)} of the variance of days in months kept from it, over ${months} months.`,
  };
}

/**
 * What repeats in an evenly spaced series (gaps: null or NaN), shortest period first. `startMs` is the time of the first value.
 * A daily pattern needs three days, a weekly one and working hours two weeks, a monthly one 60 days, any other four cycles.
 *
 * Cost: two autocorrelations by FFT, O(n log n), and at most 30 periods at O(n) each; O(n) memory.
 */
export function findPatterns(series: ArrayLike<number | null>, stepMs: number, startMs: number, options: PatternOptions = {}): Pattern[] {
  const all = Float64Array.from(series, (value) => (value != null && Number.isFinite(value) ? value : Number.NaN));
  // What is unknown before the first value and after the last one is no cycle.
  const first = all.findIndex((value) => !Number.isNaN(value));
  const values = all.subarray(Math.max(0, first), all.findLastIndex((value) => !Number.isNaN(value)) + 1);
  const firstMs = startMs + Math.max(0, first) * stepMs;
  let [low, high, count] = [Infinity, -Infinity, 0];
  for (const value of values) {
    if (Number.isNaN(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
    count++;
  }
  // Less than rounding leaves of a constant is no variation.
  if (count < fewestValues || high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high))) return [];
  const month = monthly(values, stepMs, firstMs, options);
  // A month that is found is not found again as 30 days.
  const fixed = regular(values, stepMs, options.minConfidence ?? leastConfidence).filter(({ periodMinutes }) => !month || Math.abs(periodMinutes / month.periodMinutes - 1) > 0.1);
  return [...fixed, businessHours(values, stepMs, firstMs, options), month].filter((pattern) => pattern !== null);
}
