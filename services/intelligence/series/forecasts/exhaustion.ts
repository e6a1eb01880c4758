import { madSigma, median, normalQuantile, normalTail } from '../statistics.js';

const msPerDay = 86_400_000;
const msPerHour = 3_600_000;
/** Of a rise that is taken for one: strict, for thousands of series are watched at once. */
const alpha = 0.005;
/** Fewer values say nothing about a rise. */
const fewest = 12;
/** Longer series are averaged in blocks to at most this many values, whole numbers of them a day. */
const maxValues = 1000;
/** How far ahead of the present a line is drawn, in lengths of the stretch that it rests on. */
const reach = 20;
/** Slopes that stand for its uncertainty: the middles of so many equally likely parts. */
const slopeParts = 11;
/** Restarts fall further than steps usually go, by this many of their standard deviations. */
const restartSigmas = 8;

export interface ExhaustionOptions {
  /** That the time lies in the interval, 0 < level < 1; 0.9 where left out. */
  readonly level?: number;
}

/** When a rising series will touch its limit. */
export interface Exhaustion {
  /** From the last value on. 0 where the limit is reached. */
  readonly hours: number;
  readonly earliestHours: number;
  /** Null where it may never be. */
  readonly latestHours: number | null;
  /** Of the stretch since the last restart. */
  readonly slopePerHour: number;
  /** One-sided significance of the rise, whatever the autocorrelation. */
  readonly p: number;
  /** Index of the first value of the stretch that this rests on. */
  readonly sinceIndex: number;
}

/** A straight line through what a season leaves, with errors that are a first-order autoregression or a random walk. */
interface Line {
  /** Value of the line at the last value; for a random walk the last value itself. */
  readonly level: number;
  readonly slope: number;
  readonly slopeError: number;
  /** 0 <= φ <= 1, of the errors from one value to the next. */
  readonly phi: number;
  /** Standard deviation of the errors' innovations. */
  readonly innovation: number;
}

/** Index of the first value after the last restart: after a fall, from one value to the next, of half the range that is no usual step. */
function lastRestart(values: Float64Array): number {
  const at: number[] = [];
  values.forEach((value, i) => {
    if (Number.isFinite(value)) at.push(i);
  });
  const steps = at.slice(1).map((i, k) => values[i]! - values[at[k]!]!);
  let low = Infinity;
  let high = -Infinity;
  for (const i of at) {
    low = Math.min(low, values[i]!);
    high = Math.max(high, values[i]!);
  }
  const least = Math.max((high - low) / 2, steps.length > 0 ? restartSigmas * madSigma(steps) : 0);
  let start = at[0] ?? 0;
  steps.forEach((step, k) => {
    if (high > low && -step >= least) start = at[k + 1]!;
  });
  return start;
}

function blockMeans(values: Float64Array, size: number): Float64Array {
  if (size === 1) return values;
  // Blocks end at the last value, so that the line ends at the present.
  const blocks = Math.floor(values.length / size);
  const skip = values.length - blocks * size;
  return Float64Array.from({ length: blocks }, (_, block) => {
    const finite = values.subarray(skip + block * size, skip + (block + 1) * size).filter(Number.isFinite);
    return finite.length > 0 ? finite.reduce((a, b) => a + b, 0) / finite.length : Number.NaN;
  });
}

/** Median of what each time of day lies above the line whose slope is the median of the differences from day to day; null below three days. */
function seasonOf(values: Float64Array, stepsPerDay: number): Float64Array | null {
  if (stepsPerDay < 2 || values.length < 3 * stepsPerDay) return null;
  const steps: number[] = [];
  for (let i = stepsPerDay; i < values.length; i++) {
    const step = (values[i]! - values[i - stepsPerDay]!) / stepsPerDay;
    if (Number.isFinite(step)) steps.push(step);
  }
  if (steps.length < stepsPerDay) return null;
  const slope = median(steps);
  const phases: number[][] = Array.from({ length: stepsPerDay }, () => []);
  values.forEach((value, i) => {
    if (Number.isFinite(value)) phases[i % stepsPerDay]!.push(value - slope * i);
  });
  if (phases.some((phase) => phase.length === 0)) return null;
  const season = Float64Array.from(phases, median);
  const mean = season.reduce((a, b) => a + b, 0) / stepsPerDay;
  return season.map((value) => value - mean);
}

/**
 * Generalised least squares with the autocorrelation that the least-squares line leaves, corrected for its bias (2 + 4φ)/n and
 * taken for 1 where it is near: the slope's t-statistic then holds for stationary errors and random walks alike (Perron and
 * Yabu 2009; near is 2/√n here, twice their bound, for the far tail that is asked for). Gaps are left out of it, and neighbours
 * across a gap count as neighbours. `spent` values went into a season.
 */
function lineThrough(values: Float64Array, spent: number): Line {
  const at: number[] = [];
  const y: number[] = [];
  values.forEach((value, i) => {
    if (!Number.isFinite(value)) return;
    at.push(i - values.length + 1);
    y.push(value);
  });
  const n = y.length;
  const least = regress(at.map((time) => [1, time]), y);
  const rest = y.map((value, i) => value - least.level - least.slope * at[i]!);
  let cross = 0;
  let square = 0;
  for (let i = 1; i < n; i++) {
    cross += rest[i]! * rest[i - 1]!;
    square += rest[i - 1]! ** 2;
  }
  const raw = square > 0 ? Math.max(0, cross / square) : 0;
  const bias = (2 + 4 * raw) / (n - spent);
  const phi = raw === 0 ? 0 : raw + bias > 1 - 2 / Math.sqrt(n - spent) ? 1 : raw + bias;
  const rows = at.map((time, i): [number, number] => (i === 0 ? [1, time] : [1 - phi, time - phi * at[i - 1]!]));
  const fitted = regress(rows, y.map((value, i) => (i === 0 ? value : value - phi * y[i - 1]!)));
  const inflation = Math.sqrt((n - 2) / (n - 2 - spent));
  return { level: phi === 1 ? y[n - 1]! : fitted.level, slope: fitted.slope, slopeError: fitted.slopeError * inflation, phi, innovation: Math.sqrt(fitted.variance) * inflation };
}

function regress(rows: readonly (readonly number[])[], y: readonly number[]): { level: number; slope: number; slopeError: number; variance: number } {
  let [a11, a12, a22, b1, b2] = [0, 0, 0, 0, 0];
  rows.forEach(([one, time], i) => {
    a11 += one! * one!;
    a12 += one! * time!;
    a22 += time! * time!;
    b1 += one! * y[i]!;
    b2 += time! * y[i]!;
  });
  const determinant = a11 * a22 - a12 * a12;
  const slope = (a11 * b2 - a12 * b1) / determinant;
  const level = (b1 - a12 * slope) / a11;
  let errors = 0;
  rows.forEach(([one, time], i) => (errors += (y[i]! - level * one! - slope * time!) ** 2));
  const variance = errors / (rows.length - 2);
  return { level, slope, slopeError: Math.sqrt((variance * a11) / determinant), variance };
}

/** Beyond so many standard deviations an error is not waited for. */
const unheardOf = 8;

/** ln P(Z > z); far out by its asymptotic series (Abramowitz and Stegun 26.2.12). */
function logTail(z: number): number {
  return z < unheardOf ? Math.log(normalTail(z)) : (-z * z) / 2 - Math.log(z * Math.sqrt(2 * Math.PI)) + Math.log1p(-1 / (z * z) + 3 / z ** 4);
}

/**
 * Probability that the limit is touched by each step, as a function asked for steps 0, 1, 2, … in order: a mixture over the
 * uncertain slope (the line turns about the middle of its stretch) of the first passage of its errors. For a random walk with
 * drift that is the inverse Gaussian distribution; for stationary errors every step is a new chance, as far as 1 - φ of it is new.
 */
function touched(line: Line, length: number, limit: number, seasonAt: (step: number) => number): (step: number) => number {
  const { level, slope, slopeError, phi, innovation } = line;
  const deviation = phi < 1 ? innovation / Math.sqrt(1 - phi * phi) : 0;
  const slopes = Array.from({ length: slopeParts }, (_, part) => slope + normalQuantile((part + 0.5) / slopeParts) * slopeError);
  const survival = new Float64Array(slopeParts).fill(1);
  return (step) => {
    const season = seasonAt(step);
    slopes.forEach((each, part) => {
      const gap = limit - level - season - (phi === 1 ? each * step : slope * step + (each - slope) * (step + length / 2));
      if (gap <= 0) survival[part] = 0;
      else if (phi < 1) {
        if (gap < unheardOf * deviation) survival[part]! *= (1 - normalTail(gap / deviation)) ** (1 - phi);
      } else {
        const spread = innovation * Math.sqrt(step);
        if (gap >= unheardOf * spread) return;
        const start = limit - level - season;
        const passed = normalTail(gap / spread) + Math.exp((2 * each * start) / innovation ** 2 + logTail((start + each * step) / spread));
        survival[part] = Math.min(survival[part]!, 1 - Math.min(1, passed));
      }
    });
    return 1 - survival.reduce((a, b) => a + b, 0) / slopeParts;
  };
}

/**
 * When a series that rises (a leak, a filling disk) touches its limit, with an interval; null where no rise is significant
 * since the last restart, where it would take longer than twenty times what was watched, or below twelve values. Gaps (null,
 * NaN) are allowed. The line may carry a daily rhythm. The time is the median, the interval the quantiles of the first touch, which
 * hold the uncertainty of the slope and the errors around the line, be they noise or a random walk. O(n log n) time, O(n) memory.
 */
export function timeToExhaustion(series: ArrayLike<number | null>, stepMs: number, limit: number, options: ExhaustionOptions = {}): Exhaustion | null {
  const all = Float64Array.from(series, (value) => (value != null && Number.isFinite(value) ? value : Number.NaN));
  const sinceIndex = lastRestart(all);
  const stretch = all.subarray(sinceIndex);
  const size = Math.ceil(stretch.length / maxValues);
  const values = blockMeans(stretch, size);
  if (values.reduce((count, value) => count + (Number.isFinite(value) ? 1 : 0), 0) < fewest) return null;
  const hoursPerStep = (stepMs * size) / msPerHour;
  const stepsPerDay = Math.round(msPerDay / (stepMs * size));
  const season = seasonOf(values, stepsPerDay);
  const seasonAt = (step: number): number => season?.[(values.length - 1 + step) % stepsPerDay] ?? 0;
  const line = lineThrough(season ? values.map((value, i) => value - season[i % stepsPerDay]!) : values, season ? stepsPerDay : 0);
  // A slope without error is certain; one that is lost in rounding is none.
  const rounding = 1e-12 * Math.abs(line.level);
  if (!(line.slope * values.length > rounding)) return null;
  const p = line.slopeError > 0 ? normalTail(line.slope / line.slopeError) : 0;
  if (p > alpha) return null;

  const outside = (1 - (options.level ?? 0.9)) / 2;
  const probability = touched(line, values.length, limit - rounding, seasonAt);
  const steps: number[] = [];
  for (let step = 0; step <= reach * values.length && steps.length < 3; step++) {
    const now = probability(step);
    while (steps.length < 3 && now >= [outside, 0.5, 1 - outside][steps.length]!) steps.push(step);
  }
  const [earliest, middle, latest] = steps;
  if (earliest === undefined || middle === undefined) return null;
  return {
    hours: middle * hoursPerStep,
    earliestHours: earliest * hoursPerStep,
    latestHours: latest === undefined ? null : latest * hoursPerStep,
    slopePerHour: line.slope / hoursPerStep,
    p,
    sinceIndex,
  };
}
