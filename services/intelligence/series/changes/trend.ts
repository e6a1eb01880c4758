import { median, twoSidedP } from '../statistics.js';
import { changePoints, fit, seasonOf, withoutOutliers, withoutSeason } from './change-points.js';
import { hamedRao, senSlope } from './mann-kendall.js';

export type TrendWord = 'rising' | 'falling' | 'steady' | 'shifted';

/** What a series has been doing, in a word and with its figures. */
export interface Trend {
  readonly word: TrendWord;
  /** Start of the regime that the figures describe (epoch ms); null where it is the whole series. For `shifted`: the date of the shift. */
  readonly sinceMs: number | null;
  /** Sen's slope of that regime, units of the values a day. */
  readonly slopePerDay: number;
  /** For `shifted` the new level over the old, less one; else the change along the slope over the regime, as a share of its median. Null where that is zero. */
  readonly changeRatio: number | null;
  /** Two-sided significance of the slope whatever the autocorrelation (see {@link slopeSignificance}). */
  readonly p: number;
  /** Two-sided significance by Mann-Kendall with the variance of Hamed and Rao. */
  readonly mannKendallP: number;
}

export interface TrendOptions {
  /** Length of a known season; found from the series where left out. */
  readonly periodMs?: number;
}

const msPerDay = 86_400_000;
/** Of a slope that is called rising or falling; strict, for thousands of series are described at once. */
const alpha = 0.01;
/** A slope that moves the series by less than this share of its level is nobody's news. */
const leastChange = 0.01;
/** Fewer values say nothing about a trend. */
const fewest = 8;
/** Longer series are averaged in blocks to at most this many values. */
const maxValues = 1000;

/**
 * Two-sided p-value of a linear trend that holds for stationary noise and for a random walk alike (Perron and Yabu 2009): the
 * autocorrelation left by the least-squares line, corrected for its bias (2 + 4φ)/n, counts as 1 when it is within n^-1/2 of 1;
 * then the t-statistic of the slope by generalised least squares. O(n).
 */
export function slopeSignificance(values: Float64Array): number {
  const n = values.length;
  if (n < fewest) return 1;
  const { mean, slope } = fit(values, 0, n);
  let cross = 0;
  let square = 0;
  const rest = (i: number): number => values[i]! - mean - slope * (i - (n - 1) / 2);
  for (let i = 1; i < n; i++) {
    cross += rest(i) * rest(i - 1);
    square += rest(i - 1) ** 2;
  }
  const raw = square > 0 ? cross / square : 0;
  const corrected = raw + (2 + 4 * Math.max(0, raw)) / n;
  const phi = corrected > 1 - 1 / Math.sqrt(n) ? 1 : Math.max(0, corrected);
  // Quasi-differences of value on (1, t); the first row as it is.
  let [a11, a12, a22, b1, b2, yy] = [0, 0, 0, 0, 0, 0];
  for (let i = 0; i < n; i++) {
    const one = i === 0 ? 1 : 1 - phi;
    const time = i === 0 ? 0 : i - phi * (i - 1);
    const value = i === 0 ? values[0]! - mean : values[i]! - mean - phi * (values[i - 1]! - mean);
    a11 += one * one;
    a12 += one * time;
    a22 += time * time;
    b1 += one * value;
    b2 += time * value;
    yy += value * value;
  }
  const determinant = a11 * a22 - a12 * a12;
  const beta = (a11 * b2 - a12 * b1) / determinant;
  const level = (b1 - a12 * beta) / a11;
  const residual = Math.max(0, yy - level * b1 - beta * b2) / (n - 2);
  const error = Math.sqrt((residual * a11) / determinant);
  if (!(error > 0)) return beta === 0 ? 1 : 0;
  return twoSidedP(beta / error);
}

interface Grid {
  /** Means of the values in each step; null where there is none. */
  readonly values: (number | null)[];
  readonly startMs: number;
  readonly stepMs: number;
}

/** Puts values on even steps: the median distance of the stamps, or longer where the grid would pass the bound. */
function grid(timesMs: ArrayLike<number>, values: ArrayLike<number | null>): Grid | null {
  const rows: [number, number][] = [];
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value != null && Number.isFinite(value)) rows.push([timesMs[i]!, value]);
  }
  rows.sort(([a], [b]) => a - b);
  const distances: number[] = [];
  for (let i = 1; i < rows.length; i++) if (rows[i]![0] > rows[i - 1]![0]) distances.push(rows[i]![0] - rows[i - 1]![0]);
  if (distances.length === 0) return null;
  const startMs = rows[0]![0];
  const spanMs = rows[rows.length - 1]![0] - startMs;
  const natural = median(distances);
  const stepMs = natural * Math.max(1, Math.ceil((spanMs / natural + 1) / maxValues));
  const sums = new Float64Array(Math.round(spanMs / stepMs) + 1);
  const counts = new Float64Array(sums.length);
  for (const [time, value] of rows) {
    const at = Math.min(sums.length - 1, Math.floor((time - startMs) / stepMs + 1e-9));
    sums[at]! += value;
    counts[at]!++;
  }
  return { values: Array.from(sums, (sum, i) => (counts[i]! > 0 ? sum / counts[i]! : null)), startMs, stepMs };
}

function interpolated(values: readonly (number | null)[]): Float64Array {
  const out = new Float64Array(values.length);
  let last = -1;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value == null) continue;
    out[i] = value;
    for (let j = last + 1; j < i; j++) out[j] = last < 0 ? value : out[last]! + ((value - out[last]!) * (j - last)) / (i - last);
    last = i;
  }
  for (let j = last + 1; j < out.length; j++) out[j] = out[last]!;
  return out;
}

/**
 * Describes a series: `shifted` where its level changed on a date, `rising` or `falling` where a slope is significant whatever
 * the autocorrelation and moves the level by at least a hundredth, else `steady`. A season is taken out first. Stamps need not
 * be even, sorted or unique; gaps (null, NaN) are allowed. Null for fewer than eight values. Cost as for {@link changePoints}.
 */
export function describeTrend(timesMs: ArrayLike<number>, values: ArrayLike<number | null>, options: TrendOptions = {}): Trend | null {
  const even = grid(timesMs, values);
  if (!even || even.values.reduce<number>((count, value) => count + (value == null ? 0 : 1), 0) < fewest) return null;
  const full = interpolated(even.values);
  const period = options.periodMs === undefined ? seasonOf(full) : Math.round(options.periodMs / even.stepMs);
  const calm = withoutOutliers(period > 2 && period <= full.length / 3 ? withoutSeason(full, period) : full);
  const { indices, model } = changePoints(full, { period });
  const starts = [0, ...indices];
  const lastStart = starts[starts.length - 1]!;
  const now = calm.subarray(lastStart);
  const level = median(now);
  const { slope } = now.length < 2 ? { slope: 0 } : senSlope(now);
  const slopePerDay = (slope * msPerDay) / even.stepMs;
  const p = slopeSignificance(now);
  const mannKendallP = now.length < fewest ? 1 : hamedRao(now).p;
  const sinceMs = indices.length === 0 ? null : even.startMs + lastStart * even.stepMs;
  const figures = { sinceMs, slopePerDay, p, mannKendallP };

  const run = slope * (now.length - 1);
  if (indices.length > 0) {
    const beforeStart = starts[starts.length - 2]!;
    const before = median(calm.subarray(beforeStart, lastStart));
    const jump = model === 'level' ? level - before : startOf(calm, lastStart, calm.length) - endOf(calm, beforeStart, lastStart);
    if (model === 'level' || (model === 'line' && Math.abs(jump) >= Math.abs(run))) {
      return { ...figures, word: 'shifted', changeRatio: before === 0 ? null : level / before - 1 };
    }
  }
  const changeRatio = level === 0 ? null : run / Math.abs(level);
  const material = changeRatio === null ? run !== 0 : Math.abs(changeRatio) >= leastChange;
  const word = p < alpha && material ? (slope > 0 ? 'rising' : 'falling') : 'steady';
  return { ...figures, word, changeRatio };
}

function startOf(values: Float64Array, from: number, to: number): number {
  const { mean, slope } = fit(values, from, to);
  return mean - (slope * (to - from - 1)) / 2;
}

function endOf(values: Float64Array, from: number, to: number): number {
  const { mean, slope } = fit(values, from, to);
  return mean + (slope * (to - from - 1)) / 2;
}
