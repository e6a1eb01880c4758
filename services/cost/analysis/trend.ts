/** Where a cost is heading: a robust line through its days, and whether chance could have drawn it. */

/** One value at a time, unix ms. */
export interface TrendPoint {
  readonly atMs: number;
  readonly value: number;
}

export interface CostTrend {
  readonly direction: 'rising' | 'falling' | 'steady' | 'unknown';
  /** The slope over a week in percent of the median; null while unknown, or where the median is 0. */
  readonly changePercentPerWeek: number | null;
  /** Two-sided p-value of the Mann-Kendall test; null while unknown. */
  readonly significance: number | null;
}

const weekMs = 7 * 86_400_000;
/** Below this many values the test cannot tell a trend from chance at 5 %. */
const fewest = 5;
const alpha = 0.05;
/** A significant line that moves the cost by less than this a week is called steady. */
const leastPercent = 1;

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

/** Sen's slope (Theil 1950, Sen 1968), per ms: the median of the slopes of all pairs; holds while fewer than 29 % of the values are wrong. O(n²). */
export function senSlope(points: readonly TrendPoint[]): number {
  const slopes: number[] = [];
  points.forEach((a, i) => {
    for (const b of points.slice(i + 1)) if (b.atMs !== a.atMs) slopes.push((b.value - a.value) / (b.atMs - a.atMs));
  });
  return median(slopes);
}

/** Two-sided p-value of the Mann-Kendall test with correction for ties and for continuity (Mann 1945, Kendall 1975). O(n²). */
export function mannKendallP(values: readonly number[]): number {
  const n = values.length;
  let score = 0;
  values.forEach((a, i) => { for (const b of values.slice(i + 1)) score += Math.sign(b - a); });
  const ties = [...Map.groupBy(values, (value) => value).values()].reduce((sum, { length: t }) => sum + t * (t - 1) * (2 * t + 5), 0);
  const variance = (n * (n - 1) * (2 * n + 5) - ties) / 18;
  if (score === 0 || variance <= 0) return 1;
  return 2 * (1 - normalDistribution((Math.abs(score) - 1) / Math.sqrt(variance)));
}

/** Φ(z) for z >= 0, by Abramowitz and Stegun 26.2.17; off by at most 7.5e-8. */
function normalDistribution(z: number): number {
  const t = 1 / (1 + 0.2316419 * z);
  const series = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  return 1 - (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * series;
}

/** The trend of a cost by its days (independent enough for the test, as its hours are not). */
export function costTrend(days: readonly TrendPoint[]): CostTrend {
  if (days.length < fewest) return { direction: 'unknown', changePercentPerWeek: null, significance: null };
  const slope = senSlope(days);
  const level = median(days.map(({ value }) => value));
  const significance = mannKendallP(days.map(({ value }) => value));
  const percent = level === 0 ? null : (slope * weekMs * 100) / level;
  const moves = significance < alpha && slope !== 0 && (percent === null || Math.abs(percent) >= leastPercent);
  return { direction: moves ? (slope > 0 ? 'rising' : 'falling') : 'steady', changePercentPerWeek: percent, significance };
}
