import { autocorrelation, median, medianInPlace, normalQuantile, ranks, twoSidedP } from '../statistics.js';

/** A test for a monotonic trend. */
export interface TrendTest {
  readonly trend: 'increasing' | 'decreasing' | 'no trend';
  /** Two-sided. */
  readonly p: number;
  readonly z: number;
  /** Kendall's tau of the values against time, without a correction for ties. */
  readonly tau: number;
  /** Mann-Kendall score: concordant less discordant pairs. */
  readonly s: number;
  /** Variance of `s` that `z` rests on. */
  readonly variance: number;
}

/** The median of all pairwise slopes. */
export interface SenSlope {
  /** Units of the values a sample. */
  readonly slope: number;
  /** Value at index 0 of the line through the medians (Conover 1980). */
  readonly intercept: number;
}

/** Above this many values the pairs of Sen's slope would no longer fit in memory: thin or average first. */
export const maxTrendSamples = 5000;

interface Present {
  readonly values: Float64Array;
  readonly indices: Float64Array;
}

function present(values: ArrayLike<number | null>): Present {
  const kept: number[] = [];
  const indices: number[] = [];
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value == null || !Number.isFinite(value)) continue;
    kept.push(value);
    indices.push(i);
  }
  if (kept.length > maxTrendSamples) throw new RangeError(`trend tests take at most ${maxTrendSamples} values, not ${kept.length}`);
  return { values: Float64Array.from(kept), indices: Float64Array.from(indices) };
}

/**
 * Sen's slope (Sen 1968, Theil 1950): the median of the slopes of all pairs; breaks down only when 29 % of the values are
 * wrong. Gaps (null, NaN) are allowed and keep their place in time. NaN where fewer than two values are there.
 * O(n²) time and memory.
 * @throws RangeError above {@link maxTrendSamples} values
 */
export function senSlope(values: ArrayLike<number | null>): SenSlope {
  const { values: x, indices } = present(values);
  const n = x.length;
  const slopes = new Float64Array((n * (n - 1)) / 2);
  for (let i = 0, k = 0; i < n; i++) for (let j = i + 1; j < n; j++) slopes[k++] = (x[j]! - x[i]!) / (indices[j]! - indices[i]!);
  const slope = medianInPlace(slopes);
  return { slope, intercept: median(x) - median(indices) * slope };
}

function score(x: Float64Array): number {
  let s = 0;
  for (let i = 0; i < x.length; i++) for (let j = i + 1; j < x.length; j++) s += Math.sign(x[j]! - x[i]!);
  return s;
}

/** Kendall's variance of the score with its correction for ties. */
function scoreVariance(x: Float64Array): number {
  const n = x.length;
  const sorted = x.slice().sort();
  let ties = 0;
  for (let i = 0; i < n; ) {
    let j = i + 1;
    while (j < n && sorted[j] === sorted[i]) j++;
    const t = j - i;
    ties += t * (t - 1) * (2 * t + 5);
    i = j;
  }
  return (n * (n - 1) * (2 * n + 5) - ties) / 18;
}

function verdict(s: number, variance: number, n: number, alpha: number): TrendTest {
  const tau = n > 1 ? s / ((n * (n - 1)) / 2) : 0;
  const z = s === 0 || !(variance > 0) ? 0 : (s - Math.sign(s)) / Math.sqrt(variance);
  const p = twoSidedP(z);
  return { trend: p >= alpha || z === 0 ? 'no trend' : z > 0 ? 'increasing' : 'decreasing', p, z, tau, s, variance };
}

/**
 * The Mann-Kendall test (Mann 1945, Kendall 1975). Assumes independent values: on autocorrelated ones it finds trends that
 * are not there. Gaps are skipped. O(n²) time.
 * @throws RangeError above {@link maxTrendSamples} values
 */
export function mannKendall(values: ArrayLike<number | null>, alpha = 0.05): TrendTest {
  const { values: x } = present(values);
  return verdict(score(x), scoreVariance(x), x.length, alpha);
}

/**
 * Mann-Kendall with the variance of Hamed and Rao (1998), which counts the autocorrelation of the detrended ranks at the lags
 * where it is significant. Gaps are skipped. O(n²) time and memory.
 * @throws RangeError above {@link maxTrendSamples} values
 */
export function hamedRao(values: ArrayLike<number | null>, alpha = 0.05): TrendTest {
  const { values: x } = present(values);
  const n = x.length;
  const { slope } = senSlope(values);
  const detrended = ranks(Float64Array.from(x, (value, index) => value - slope * (index + 1)));
  const correlation = autocorrelation(detrended, n - 1);
  const bound = normalQuantile(1 - alpha / 2) / Math.sqrt(n);
  let sum = 0;
  for (let lag = 1; lag < n; lag++) {
    if (Math.abs(correlation[lag]!) > bound) sum += (n - lag) * (n - lag - 1) * (n - lag - 2) * correlation[lag]!;
  }
  const inflation = n > 2 ? 1 + (2 / (n * (n - 1) * (n - 2))) * sum : 1;
  return verdict(score(x), scoreVariance(x) * inflation, n, alpha);
}
