import { autocorrelation, madSigma, median } from '../statistics.js';

/** What a regime is: a level, a rate of drift (of a series that wanders), or a straight line. */
export type RegimeModel = 'level' | 'drift' | 'line';

/** A stretch without change. */
export interface Regime {
  /** Index of its first value. */
  readonly from: number;
  /** Index after its last value. */
  readonly to: number;
  /** Median of its values. */
  readonly level: number;
  /** Least-squares slope, units of the values a sample. */
  readonly slope: number;
}

export interface ChangePoints {
  /** 0-based indices of the first value of each new regime; empty where nothing changed. */
  readonly indices: readonly number[];
  readonly model: RegimeModel;
  /** Always one more than `indices`; empty only for a series without values. */
  readonly regimes: readonly Regime[];
}

export interface ChangePointOptions {
  /** Samples in a season that is known; found from the series itself where left out. */
  readonly period?: number;
}

/** Longer series are averaged in blocks to about this many values first, which bounds the cost. */
const maxValues = 1000;
const maxChanges = 24;
/** The search over the number of changes ends after so many more without a better criterion. */
const patience = 8;
/** Price of one parameter, in units of ln n. BIC's is 1; a change's place is chosen among n, which costs as much again. */
const parameterPrice = 2;
/** The shortest regimes: an outlier is not one, a rate of drift needs some values, a line more. */
const shortest = { level: 2, drift: 10, line: 20 } as const;
/** Parameters of a regime beside its place. */
const parameters = { level: 1, drift: 1, line: 2 } as const;

/** Sums from which the squared error of any stretch around its mean or line comes in O(1). */
class Errors {
  private readonly s: Float64Array;
  private readonly q: Float64Array;
  private readonly p: Float64Array;

  constructor(values: Float64Array, private readonly line: boolean) {
    const n = values.length;
    // Centred first: sums of squares far from zero would cancel.
    const center = median(values);
    this.s = new Float64Array(n + 1);
    this.q = new Float64Array(n + 1);
    this.p = new Float64Array(n + 1);
    for (let i = 0; i < n; i++) {
      const value = values[i]! - center;
      this.s[i + 1] = this.s[i]! + value;
      this.q[i + 1] = this.q[i]! + value * value;
      this.p[i + 1] = this.p[i]! + i * value;
    }
  }

  of(from: number, to: number): number {
    const m = to - from;
    const sum = this.s[to]! - this.s[from]!;
    const error = this.q[to]! - this.q[from]! - (sum * sum) / m;
    if (!this.line || m < 3) return error;
    const cross = this.p[to]! - this.p[from]! - ((from + to - 1) / 2) * sum;
    return error - (cross * cross * 12) / (m * (m * m - 1));
  }
}

/** For each number of changes in turn the segmentation of least squared error (dynamic programming, O(n²) a step). */
function* segmentations(values: Float64Array, line: boolean, minimum: number): Generator<readonly number[]> {
  const n = values.length;
  yield [];
  const errors = new Errors(values, line);
  let best = new Float64Array(n + 1).fill(Infinity);
  for (let to = minimum; to <= n; to++) best[to] = errors.of(0, to);
  const starts: Int32Array[] = [];
  for (let changes = 1; changes <= maxChanges && (changes + 1) * minimum <= n; changes++) {
    const next = new Float64Array(n + 1).fill(Infinity);
    const start = new Int32Array(n + 1);
    for (let to = (changes + 1) * minimum; to <= n; to++) {
      let least = Infinity;
      let at = 0;
      for (let from = changes * minimum; from <= to - minimum; from++) {
        const error = best[from]! + errors.of(from, to);
        if (error < least) {
          least = error;
          at = from;
        }
      }
      next[to] = least;
      start[to] = at;
    }
    starts.push(start);
    best = next;
    const indices: number[] = [];
    for (let k = changes - 1, to = n; k >= 0; k--) indices.push((to = starts[k]![to]!));
    yield indices.reverse();
  }
}

/** Least-squares line of a stretch: its mean, and its slope a sample. */
export function fit(values: Float64Array, from: number, to: number): { mean: number; slope: number } {
  const m = to - from;
  const middle = (from + to - 1) / 2;
  let sum = 0;
  let cross = 0;
  for (let i = from; i < to; i++) {
    sum += values[i]!;
    cross += (i - middle) * values[i]!;
  }
  return { mean: sum / m, slope: m > 2 ? (cross * 12) / (m * (m * m - 1)) : 0 };
}

/** Variance of the innovations when what the regimes leave is a first-order autoregression, 0 <= φ <= 1. */
function innovationVariance(values: Float64Array, changes: readonly number[], line: boolean): number {
  const n = values.length;
  const rest = new Float64Array(n);
  const bounds = [0, ...changes, n];
  for (let k = 0; k + 1 < bounds.length; k++) {
    const from = bounds[k]!;
    const to = bounds[k + 1]!;
    const { mean, slope } = fit(values, from, to);
    for (let i = from; i < to; i++) rest[i] = values[i]! - mean - (line ? slope * (i - (from + to - 1) / 2) : 0);
  }
  let cross = 0;
  let square = 0;
  for (let i = 1; i < n; i++) {
    cross += rest[i]! * rest[i - 1]!;
    square += rest[i - 1]! * rest[i - 1]!;
  }
  const phi = square > 0 ? Math.min(1, Math.max(0, cross / square)) : 0;
  let sum = 0;
  for (let i = 1; i < n; i++) sum += (rest[i]! - phi * rest[i - 1]!) ** 2;
  return sum / (n - 1);
}

/** Replaces what lies far from the median of its seven neighbours by that median (Hampel): one or two values are no regime. */
export function withoutOutliers(values: Float64Array): Float64Array {
  const n = values.length;
  const half = 3;
  const steps = new Float64Array(n - 1);
  for (let i = 1; i < n; i++) steps[i - 1] = values[i]! - values[i - 1]!;
  const bound = (6 * madSigma(steps, 0)) / Math.SQRT2;
  const out = values.slice();
  for (let i = 0; i < n; i++) {
    const center = median(values.subarray(Math.max(0, i - half), i + half + 1));
    if (Math.abs(values[i]! - center) > bound) out[i] = center;
  }
  return out;
}

/**
 * The period of the series, or 0: where the autocorrelation of its steps, or of what a line leaves, peaks after a valley and
 * is high again at the double. Needs three periods.
 */
export function seasonOf(values: Float64Array): number {
  const n = values.length;
  const { mean, slope } = fit(values, 0, n);
  const rest = Float64Array.from(values, (value, index) => value - mean - slope * (index - (n - 1) / 2));
  const steps = Float64Array.from({ length: n - 1 }, (_, index) => values[index + 1]! - values[index]!);
  return peakOf(steps) || peakOf(rest);
}

function peakOf(values: Float64Array): number {
  const longest = Math.floor(values.length / 3);
  const correlation = autocorrelation(values, 2 * longest + 1);
  let period = 0;
  let highest = 0.5;
  let valley = 1;
  for (let lag = 2; lag <= longest; lag++) {
    const peak = correlation[lag]!;
    if (peak > highest && peak - valley > 0.5 && peak >= correlation[lag - 1]! && peak >= correlation[lag + 1]! && correlation[2 * lag]! > 0.4) {
      highest = peak * 1.05; // a multiple of the period must be clearly better than the period
      period = lag;
    }
    valley = Math.min(valley, peak);
  }
  return period > 2 ? period : 0;
}

/** Takes the season out: the median, in each phase, of what a moving average over one period leaves. */
export function withoutSeason(values: Float64Array, period: number): Float64Array {
  const n = values.length;
  const half = Math.floor(period / 2);
  const sums = new Float64Array(n + 1);
  for (let i = 0; i < n; i++) sums[i + 1] = sums[i]! + values[i]!;
  const from = (i: number): number => Math.min(Math.max(0, i - half), n - period);
  const phases = Array.from({ length: period }, (): number[] => []);
  for (let i = 0; i < n; i++) phases[i % period]!.push(values[i]! - (sums[from(i) + period]! - sums[from(i)]!) / period);
  const profile = phases.map(median);
  const middle = profile.reduce((sum, value) => sum + value, 0) / period;
  return Float64Array.from(values, (value, index) => value - (profile[index % period]! - middle));
}

interface Found {
  readonly model: RegimeModel;
  readonly changes: readonly number[];
}

/**
 * The description of least criterion: n ln(innovation variance) + price · parameters · ln n, over models and numbers of changes;
 * `period` is that of the season that was taken out, 0 for none.
 */
function describe(values: Float64Array, period: number): Found {
  const n = values.length;
  const lnN = Math.log(n);
  let spread = 0;
  const center = median(values);
  for (const value of values) spread += (value - center) ** 2;
  const floor = (1e-10 * spread) / n;
  let best: Found = { model: 'level', changes: [] };
  let least = Infinity;
  if (!(spread > 0)) return best;
  const steps = new Float64Array(n - 1);
  for (let i = 1; i < n; i++) steps[i - 1] = values[i]! - values[i - 1]!;
  for (const model of ['level', 'drift', 'line'] as const) {
    const subject = model === 'drift' ? steps : values;
    const line = model === 'line';
    let own = Infinity;
    let since = 0;
    for (const changes of segmentations(subject, line, Math.max(shortest[model], 2 * period))) {
      const count = (model === 'level' ? 0 : 1) + changes.length * (1 + parameters[model] + (line ? 1 : 0));
      const criterion = n * Math.log(innovationVariance(subject, changes, line) + floor) + parameterPrice * count * lnN;
      if (criterion < own) {
        own = criterion;
        since = 0;
      } else if (++since >= patience) break;
      if (criterion < least) {
        least = criterion;
        best = { model, changes: model === 'drift' ? changes.map((index) => index + 1) : [...changes] };
      }
    }
  }
  return best;
}

/**
 * Where a series changed its regime. Outliers and a season are taken out; then each of three descriptions (levels, rates of
 * drift, lines) with each number of changes is the segmentation of least squares (Bai and Perron 1998), judged by how well a
 * first-order autoregression around it predicts the next value, at a price for each parameter (Schwarz 1978, with the place of
 * a change priced as Zhang and Siegmund 2007 do). Noise that wanders is thereby described as noise: white noise, red noise and
 * random walks have no changes. Where there is a season a regime lasts at least two of it: a cloudy day is no change of regime.
 *
 * Gaps (null, NaN) are allowed. At most 24 changes. O(n²) for each number of changes tried, n at most 1,000 (longer series are
 * averaged in blocks, and a change is then placed to the block); O(n) memory for each.
 */
export function changePoints(series: ArrayLike<number | null>, options: ChangePointOptions = {}): ChangePoints {
  const where: number[] = [];
  const kept: number[] = [];
  for (let i = 0; i < series.length; i++) {
    const value = series[i];
    if (value == null || !Number.isFinite(value)) continue;
    where.push(i);
    kept.push(value);
  }
  const all = Float64Array.from(kept);
  const block = Math.max(1, Math.ceil(all.length / maxValues));
  const count = Math.floor(all.length / block);
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++) for (let j = 0; j < block; j++) values[i]! += all[i * block + j]! / block;

  let found: Found = { model: 'level', changes: [] };
  if (count >= 8) {
    const season = options.period === undefined ? seasonOf(values) : Math.round(options.period / block);
    const seasonal = season > 2 && season <= count / 3;
    found = describe(withoutOutliers(seasonal ? withoutSeason(values, season) : values), seasonal ? season : 0);
  }
  const bounds = [0, ...found.changes.map((index) => index * block), all.length];
  const regimes: Regime[] = [];
  for (let k = 0; k + 1 < bounds.length && all.length > 0; k++) {
    const from = bounds[k]!;
    const to = bounds[k + 1]!;
    regimes.push({ from: k === 0 ? 0 : where[from]!, to: k + 2 === bounds.length ? series.length : where[to]!, level: median(all.subarray(from, to)), slope: fit(all, from, to).slope });
  }
  return { indices: regimes.slice(1).map(({ from }) => from), model: found.model, regimes };
}
