import { normalQuantile } from '../statistics.js';

/**
 * Forecasts of a usage series some days ahead with intervals. An ensemble of simple forecasts, each of which is right for one
 * kind of series, weighted by how each would have done on the days just past (rolling origins), then corrected by what the last
 * hours were off. Medians, not means, so that an incident of last week is not forecast again. Nothing here knows a calendar:
 * "the same weekday" is a lag of seven days.
 */

const msPerDay = 86_400_000;
/** Rolling origins, a day apart, on which weights and intervals rest. */
const maxOrigins = 28;
/** Older days are not looked at. */
const maxLagDays = 70;
/** A day of history that is left before the first origin, where there is that much. */
const warmUpDays = 7;
/** Half-life, in days, of what an origin says about how good a forecast is. */
const originHalfLifeDays = 21;
/** Weight of a forecast: (best mean absolute error / its own) to this power. Between the mean (0) and the winner alone (∞). */
const sharpness = 12;

/** Weighted medians of the same time of day: half-life of a day's weight in days, and the weight of another weekday beside the same one. */
const kernels = [
  { halfLifeDays: 4, otherWeekday: 0.15 },
  { halfLifeDays: 4, otherWeekday: 1 },
  { halfLifeDays: 7, otherWeekday: 0.04 },
  { halfLifeDays: 7, otherWeekday: 0.15 },
  { halfLifeDays: 7, otherWeekday: 1 },
  { halfLifeDays: 14, otherWeekday: 0 },
  { halfLifeDays: 14, otherWeekday: 0.04 },
  { halfLifeDays: 14, otherWeekday: 0.15 },
  { halfLifeDays: 14, otherWeekday: 1 },
] as const;
/** Kernels (by place) that are also used with the days moved along the trend. */
const trended = [1, 7] as const;
/** The last day again, the last value, mean of a day, mean of a week, the last day moved along the trend. */
const plain = 5;
const members = kernels.length + trended.length + plain;
/** weights[kernel][2 · age + (same weekday ? 1 : 0)], age in days counted from the youngest day that can be used. */
const kernelWeights = kernels.map(({ halfLifeDays, otherWeekday }) =>
  Float64Array.from({ length: 2 * maxLagDays }, (_, i) => 0.5 ** ((i >> 1) / halfLifeDays) * (i % 2 === 1 ? 1 : otherWeekday)));

/** How the last errors carry on: their half-life looking back (hours), their share, their half-life looking ahead (hours). */
const carries = [2, 24].flatMap((backHours) => [0.25, 0.5, 0.75, 1].flatMap((share) => [3, 12, 36, 120].map((aheadHours) => ({ backHours, share, aheadHours }))));

export interface ForecastOptions {
  /** Steps ahead; seven days where left out. */
  readonly horizonSteps?: number;
  /** Coverage of each interval, 0 < level < 1; 0.8 and 0.95 where left out. */
  readonly levels?: readonly number[];
  /** What the values cannot fall below or rise above (a usage: 0); forecast and intervals are cut there. */
  readonly min?: number;
  readonly max?: number;
}

export interface ForecastInterval {
  readonly level: number;
  readonly low: Float64Array;
  readonly high: Float64Array;
}

export interface Forecast {
  /** Values at steps 1, 2, … after the last of the series; same unit. */
  readonly values: Float64Array;
  /** In order of level; each lies within the next wider one and holds the values. */
  readonly intervals: readonly ForecastInterval[];
  /** How this method did on the series' own past: rolling origins a day apart, up to the horizon ahead. */
  readonly backtest: {
    readonly origins: number;
    readonly meanAbsoluteError: number;
    /** The same of "as a week before" where a week was known before, else "as the day before". */
    readonly naiveMeanAbsoluteError: number;
  };
}

interface Grid {
  readonly values: Float64Array;
  readonly stepsPerDay: number;
  readonly horizon: number;
  /** For each time of day (index modulo a day) the days that have a value, by value. */
  readonly daysByValue: readonly Int32Array[];
}

interface Origin {
  readonly at: number;
  /** [step · members + member]. */
  readonly members: Float64Array;
}

interface Projection {
  readonly at: number;
  readonly values: Float64Array;
}

function daysByValue(values: Float64Array, stepsPerDay: number): Int32Array[] {
  return Array.from({ length: stepsPerDay }, (_, phase) => {
    const days: number[] = [];
    for (let day = 0; day * stepsPerDay + phase < values.length; day++) if (Number.isFinite(values[day * stepsPerDay + phase]!)) days.push(day);
    return Int32Array.from(days.sort((a, b) => values[a * stepsPerDay + phase]! - values[b * stepsPerDay + phase]! || a - b));
  });
}

/** Mean of the finite values in [from, to); NaN where fewer than a third are. */
function windowMean(values: Float64Array, from: number, to: number): number {
  let sum = 0;
  let count = 0;
  for (let i = Math.max(0, from); i < to; i++) {
    if (!Number.isFinite(values[i]!)) continue;
    sum += values[i]!;
    count++;
  }
  return count * 3 >= to - from && count > 0 ? sum / count : Number.NaN;
}

/**
 * Slope a day over the means of the last two weeks' days that is certain: the end nearer to zero of Sen's 99 % interval (Sen
 * 1968, by Kendall's variance); 0 where that holds zero, or for fewer than six days.
 */
function certainSlope({ values, stepsPerDay }: Grid, at: number): number {
  const levels: number[] = [];
  for (let day = 0; day < 14 && at - (day + 1) * stepsPerDay >= 0; day++) {
    levels.push(windowMean(values, at - (day + 1) * stepsPerDay, at - day * stepsPerDay));
  }
  const n = levels.filter(Number.isFinite).length;
  if (n < 6) return 0;
  const slopes: number[] = [];
  for (let i = 0; i < levels.length; i++) {
    for (let j = i + 1; j < levels.length; j++) if (Number.isFinite(levels[i]! - levels[j]!)) slopes.push((levels[i]! - levels[j]!) / (j - i));
  }
  slopes.sort((a, b) => a - b);
  const spread = 2.576 * Math.sqrt((n * (n - 1) * (2 * n + 5)) / 18);
  const low = slopes[Math.max(0, Math.floor((slopes.length - spread) / 2))]!;
  const high = slopes[Math.min(slopes.length - 1, Math.ceil((slopes.length + spread) / 2))]!;
  return low > 0 ? low : high < 0 ? high : 0;
}

/** Every member's forecast from the values before `at`. O(horizon · days · kernels). */
function membersAt(grid: Grid, at: number): Origin {
  const { values, stepsPerDay, horizon } = grid;
  const out = new Float64Array(horizon * members);
  let last = at - 1;
  while (last > 0 && !Number.isFinite(values[last]!)) last--;
  const lastValue = values[last]!;
  const orLast = (value: number): number => (Number.isFinite(value) ? value : lastValue);
  const dayMean = orLast(windowMean(values, at - stepsPerDay, at));
  const weekMean = orLast(windowMean(values, at - 7 * stepsPerDay, at));
  const slope = certainSlope(grid, at);
  const lags = new Int32Array(maxLagDays);
  const sorted = new Float64Array(maxLagDays);
  const kernelLags = new Float64Array(kernels.length);
  for (let step = 0; step < horizon; step++) {
    const phase = (at + step) % stepsPerDay;
    const day = (at + step - phase) / stepsPerDay;
    const youngest = Math.floor(step / stepsPerDay) + 1;
    let n = 0;
    let nearest = maxLagDays + youngest;
    let nearestValue = Number.NaN;
    for (const each of grid.daysByValue[phase]!) {
      const lag = day - each;
      if (lag < youngest || lag - youngest >= maxLagDays) continue;
      lags[n] = lag;
      sorted[n] = values[each * stepsPerDay + phase]!;
      if (lag < nearest) {
        nearest = lag;
        nearestValue = sorted[n]!;
      }
      n++;
    }
    const seasonal = n > 0 ? nearestValue : weekMean;
    const row = step * members;
    for (let k = 0; k < kernels.length; k++) {
      const weights = kernelWeights[k]!;
      let total = 0;
      let weightedLag = 0;
      for (let i = 0; i < n; i++) {
        const weight = weights[2 * (lags[i]! - youngest) + (lags[i]! % 7 === 0 ? 1 : 0)]!;
        total += weight;
        weightedLag += weight * lags[i]!;
      }
      out[row + k] = total > 0 ? weightedMedian(sorted, lags, n, weights, youngest, total) : seasonal;
      kernelLags[k] = total > 0 ? weightedLag / total : youngest;
    }
    let column = row + kernels.length;
    for (const k of trended) out[column++] = out[row + k]! + slope * kernelLags[k]!;
    out[column++] = seasonal;
    out[column++] = lastValue;
    out[column++] = dayMean;
    out[column++] = weekMean;
    out[column] = seasonal + slope * (n > 0 ? nearest : youngest);
  }
  return { at, members: out };
}

/** The lower median by weight, or the middle between two values where the weight splits evenly between them. */
function weightedMedian(sorted: Float64Array, lags: Int32Array, n: number, weights: Float64Array, youngest: number, total: number): number {
  const slack = total * 1e-9;
  let sum = 0;
  for (let i = 0; i < n; i++) {
    sum += weights[2 * (lags[i]! - youngest) + (lags[i]! % 7 === 0 ? 1 : 0)]!;
    if (sum < total / 2 - slack) continue;
    if (sum > total / 2 + slack) return sorted[i]!;
    for (let j = i + 1; j < n; j++) {
      if (weights[2 * (lags[j]! - youngest) + (lags[j]! % 7 === 0 ? 1 : 0)]! > 0) return (sorted[i]! + sorted[j]!) / 2;
    }
    return sorted[i]!;
  }
  return sorted[n - 1]!;
}

/** (least error / error)^power, normalised; the errorless alone where there are any. */
function weightsOf(errors: Float64Array, power: number): Float64Array {
  const least = errors.reduce((a, b) => Math.min(a, b), Infinity);
  const weights = errors.map((error) => (error <= least ? 1 : (least / error) ** power));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

/** Visits each value that lay ahead of an origin within the horizon: (origin's place, step ahead, value). */
function eachOutcome(grid: Grid, origins: readonly { readonly at: number }[], visit: (place: number, step: number, value: number) => void): void {
  for (let place = 0; place < origins.length; place++) {
    const { at } = origins[place]!;
    for (let step = 0; step < grid.horizon && at + step < grid.values.length; step++) {
      const value = grid.values[at + step]!;
      if (Number.isFinite(value)) visit(place, step, value);
    }
  }
}

/** The members in one, each day ahead with its own weights: half by the errors of that day ahead, half by those of all days. */
function combined(grid: Grid, origins: readonly Origin[]): Projection[] {
  const daysAhead = Math.ceil(grid.horizon / grid.stepsPerDay);
  const all = new Float64Array(members);
  const byDay = Array.from({ length: daysAhead }, () => new Float64Array(members));
  eachOutcome(grid, origins, (place, step, value) => {
    if (place === 0) return;
    const weight = 0.5 ** (place / originHalfLifeDays);
    const errors = byDay[Math.floor(step / grid.stepsPerDay)]!;
    const row = step * members;
    for (let m = 0; m < members; m++) {
      const error = weight * Math.abs(value - origins[place]!.members[row + m]!);
      all[m]! += error;
      errors[m]! += error;
    }
  });
  const sum = (errors: Float64Array): number => errors.reduce((a, b) => a + b, 0);
  const total = sum(all);
  const weights = byDay.map((errors) => {
    const own = sum(errors);
    return weightsOf(errors.map((error, m) => (own > 0 ? error / own : 0) + (total > 0 ? all[m]! / total : 0)), sharpness);
  });
  return origins.map(({ at, members: rows }) => ({
    at,
    values: Float64Array.from({ length: grid.horizon }, (_, step) => {
      const weight = weights[Math.floor(step / grid.stepsPerDay)]!;
      let value = 0;
      for (let m = 0; m < members; m++) value += weight[m]! * rows[step * members + m]!;
      return value;
    }),
  }));
}

/** Mean absolute error at each time of day, drawn a little towards that of all. */
function errorScale(grid: Grid, projections: readonly Projection[]): Float64Array {
  const sums = new Float64Array(grid.stepsPerDay);
  const counts = new Float64Array(grid.stepsPerDay);
  let total = 0;
  let count = 0;
  eachOutcome(grid, projections, (place, step, value) => {
    if (place === 0) return;
    const error = Math.abs(value - projections[place]!.values[step]!);
    const phase = (projections[place]!.at + step) % grid.stepsPerDay;
    sums[phase]! += error;
    counts[phase]!++;
    total += error;
    count++;
  });
  const mean = count > 0 ? total / count : 0;
  return sums.map((sum, phase) => (sum + mean) / (counts[phase]! + 1));
}

/**
 * Adds what the last hours were off, in units of the usual error at each time of day and fading ahead. How much of it, and how
 * slowly it fades, is again an average of variants weighted by their errors; none of it where errors do not carry on.
 */
function corrected(grid: Grid, projections: readonly Projection[], scale: Float64Array): Projection[] {
  const { stepsPerDay, horizon, values } = grid;
  const stepsPerHour = stepsPerDay / 24;
  const phaseScale = (at: number, step: number): number => scale[(at + step) % stepsPerDay]!;
  const recent = new Map([...new Set(carries.map(({ backHours }) => backHours))].map((backHours) => [backHours, projections.map(({ at }, place) => {
    const before = projections[place + 1];
    if (!before) return 0;
    let sum = 0;
    let total = 0;
    for (let step = 0; step < at - before.at && step < horizon; step++) {
      const value = values[before.at + step]!;
      const usual = phaseScale(before.at, step);
      if (!Number.isFinite(value) || !(usual > 0)) continue;
      const weight = 0.5 ** ((at - 1 - before.at - step) / (backHours * stepsPerHour));
      sum += (weight * (value - before.values[step]!)) / usual;
      total += weight;
    }
    return total > 0 ? sum / total : 0;
  })]));
  const fades = carries.map(({ share, aheadHours }) => Float64Array.from({ length: horizon }, (_, step) => share * 0.5 ** (step / (aheadHours * stepsPerHour))));
  const errors = new Float64Array(carries.length + 1);
  eachOutcome(grid, projections.slice(0, -1), (place, step, value) => {
    if (place === 0) return;
    const weight = 0.5 ** (place / originHalfLifeDays);
    const error = value - projections[place]!.values[step]!;
    const usual = phaseScale(projections[place]!.at, step);
    errors[carries.length]! += weight * Math.abs(error);
    for (let c = 0; c < carries.length; c++) errors[c]! += weight * Math.abs(error - usual * fades[c]![step]! * recent.get(carries[c]!.backHours)![place]!);
  });
  const weights = weightsOf(errors, sharpness);
  const gains = [...recent].map(([backHours, offs]) => {
    const gain = new Float64Array(horizon);
    carries.forEach((carry, c) => {
      if (carry.backHours === backHours) for (let step = 0; step < horizon; step++) gain[step]! += weights[c]! * fades[c]![step]!;
    });
    return { offs, gain };
  });
  return projections.map(({ at, values: before }, place) => ({
    at,
    values: before.map((value, step) => value + phaseScale(at, step) * gains.reduce((sum, { offs, gain }) => sum + offs[place]! * gain[step]!, 0)),
  }));
}

interface Scores {
  /** Error in units of the usual error at its time of day and its day ahead, ascending, with its weight. */
  readonly signed: readonly (readonly [number, number])[];
  readonly absolute: readonly (readonly [number, number])[];
  /** Usual error by day ahead in units of that by time of day; never falls. */
  readonly growth: Float64Array;
  /** Degrees of freedom: horizons that overlap by no more than half are taken for evidence of their own. */
  readonly freedom: number;
}

function scores(grid: Grid, projections: readonly Projection[], scale: Float64Array): Scores {
  const daysAhead = Math.ceil(grid.horizon / grid.stepsPerDay);
  const sums = new Float64Array(daysAhead);
  const counts = new Float64Array(daysAhead);
  const weightOf = (place: number): number => 0.5 ** (place / maxOrigins);
  eachOutcome(grid, projections, (place, step, value) => {
    const { at, values } = projections[place]!;
    const usual = scale[(at + step) % grid.stepsPerDay]!;
    if (place === 0 || !(usual > 0)) return;
    sums[Math.floor(step / grid.stepsPerDay)]! += (weightOf(place) * Math.abs(value - values[step]!)) / usual;
    counts[Math.floor(step / grid.stepsPerDay)]! += weightOf(place);
  });
  const mean = sums.reduce((a, b) => a + b, 0) / counts.reduce((a, b) => a + b, 0);
  const growth = new Float64Array(daysAhead).fill(1);
  if (mean > 0) {
    let known = 1;
    for (let day = 0; day < daysAhead; day++) {
      // Days ahead that no origin has seen grow as the root of time: no slower than a random walk.
      const own = counts[day]! > 0 ? (sums[day]! / grid.stepsPerDay + 2 * mean) / (counts[day]! / grid.stepsPerDay + 2) : growth[known - 1]! * Math.sqrt((day + 1) / known);
      if (counts[day]! > 0) known = day + 1;
      growth[day] = day > 0 ? Math.max(growth[day - 1]!, own) : own;
    }
  }
  const signed: [number, number][] = [];
  eachOutcome(grid, projections, (place, step, value) => {
    if (place === 0) return;
    const { at, values } = projections[place]!;
    const usual = scale[(at + step) % grid.stepsPerDay]! * growth[Math.floor(step / grid.stepsPerDay)]!;
    signed.push([usual > 0 ? (value - values[step]!) / usual : 0, weightOf(place)]);
  });
  const ascending = (a: readonly [number, number], b: readonly [number, number]): number => a[0] - b[0];
  return {
    signed: signed.sort(ascending),
    absolute: signed.map(([score, weight]): [number, number] => [Math.abs(score), weight]).sort(ascending),
    growth,
    freedom: Math.max(2, 1 + (projections.length - 1) / Math.max(1, daysAhead / 2)),
  };
}

function quantile(rows: readonly (readonly [number, number])[], level: number): number {
  let total = 0;
  for (const [, weight] of rows) total += weight;
  let sum = 0;
  for (const [score, weight] of rows) {
    sum += weight;
    if (sum >= level * total * (1 - 1e-12)) return score;
  }
  return rows.length > 0 ? rows[rows.length - 1]![0] : 0;
}

/** Student's quantile over the normal's, p > 1/2: its expansion in 1/freedom (Abramowitz and Stegun 26.7.5), to 3 % at 2 and p ≤ 0.975. */
function studentOverNormal(p: number, freedom: number): number {
  const z2 = normalQuantile(p) ** 2;
  return 1 + (z2 + 1) / (4 * freedom) + (5 * z2 ** 2 + 16 * z2 + 3) / (96 * freedom ** 2) + (3 * z2 ** 3 + 19 * z2 ** 2 + 17 * z2 - 15) / (384 * freedom ** 3);
}

/**
 * Split-conformal intervals from the errors at the rolling origins (Lei et al. 2018; weighted by age as in Barber et al. 2023),
 * each error in units of the usual one at its time of day and day ahead: half from the quantiles of the signed errors, half from
 * those of their size, and wider by as much as Student's quantiles lie beyond the normal's for what they rest on: few origins,
 * whose horizons overlap, do not show how far a week can go astray.
 */
function intervalsOf(grid: Grid, now: Projection, scale: Float64Array, { signed, absolute, growth, freedom }: Scores, levels: readonly number[]): ForecastInterval[] {
  return levels.map((level) => {
    const widening = studentOverNormal((1 + level) / 2, freedom);
    const size = quantile(absolute, level);
    const down = Math.min(0, (widening * (quantile(signed, (1 - level) / 2) - size)) / 2);
    const up = Math.max(0, (widening * (quantile(signed, (1 + level) / 2) + size)) / 2);
    const usual = (step: number): number => scale[(now.at + step) % grid.stepsPerDay]! * growth[Math.floor(step / grid.stepsPerDay)]!;
    return { level, low: now.values.map((value, step) => value + down * usual(step)), high: now.values.map((value, step) => value + up * usual(step)) };
  });
}

/**
 * Forecasts an evenly spaced series (gaps: null or NaN) some steps beyond its end, with intervals. Null for less than two days
 * with values. Deterministic; scales and shifts with the values. Steps longer than a day have no weekday.
 *
 * Cost: O(origins · horizon · days · kernels) time with at most 28 origins and 70 days, O(n + origins · horizon) memory: 14 days
 * hourly about 5 ms, 12 weeks 50 ms. Average finer series to hours first.
 */
export function forecast(series: ArrayLike<number | null>, stepMs: number, options: ForecastOptions = {}): Forecast | null {
  const stepsPerDay = Math.max(1, Math.round(msPerDay / stepMs));
  const horizon = options.horizonSteps ?? 7 * stepsPerDay;
  const all = Float64Array.from(series, (value) => (value != null && Number.isFinite(value) ? value : Number.NaN));
  let first = 0;
  let end = all.length;
  while (first < end && Number.isNaN(all[first]!)) first++;
  while (end > first && Number.isNaN(all[end - 1]!)) end--;
  const silent = all.length - end;
  const values = all.subarray(first, end);
  const days = values.length / stepsPerDay;
  if (days < 2) return null;
  const grid: Grid = { values, stepsPerDay, horizon: horizon + silent, daysByValue: daysByValue(values, stepsPerDay) };
  const warmUp = Math.max(1, Math.min(warmUpDays, Math.floor(days / 2))) * stepsPerDay;
  const origins: Origin[] = [];
  for (let at = values.length; at >= warmUp && origins.length <= maxOrigins; at -= stepsPerDay) origins.push(membersAt(grid, at));

  const uncorrected = combined(grid, origins);
  const scale = errorScale(grid, uncorrected);
  const projections = corrected(grid, uncorrected, scale);
  // The oldest origin has no day before it to be corrected by.
  const judged = projections.length > 2 ? projections.slice(0, -1) : projections;
  const levels = [...(options.levels ?? [0.8, 0.95])].sort((a, b) => a - b);
  const intervals = intervalsOf(grid, projections[0]!, scale, scores(grid, judged, scale), levels);
  const cut = (out: Float64Array): Float64Array => out.subarray(silent).map((value) => Math.min(options.max ?? Infinity, Math.max(options.min ?? -Infinity, value)));
  return {
    values: cut(projections[0]!.values),
    intervals: intervals.map(({ level, low, high }) => ({ level, low: cut(low), high: cut(high) })),
    backtest: backtest(grid, judged),
  };
}

function backtest(grid: Grid, judged: readonly Projection[]): Forecast['backtest'] {
  const { values, stepsPerDay } = grid;
  const sum = { own: 0, ownCount: 0, naive: 0, naiveCount: 0 };
  eachOutcome(grid, judged, (place, step, value) => {
    if (place === 0) return;
    const { at, values: projected } = judged[place]!;
    sum.own += Math.abs(value - projected[step]!);
    sum.ownCount++;
    const cycle = at >= 7 * stepsPerDay ? 7 * stepsPerDay : stepsPerDay;
    const before = values[at + step - cycle * (Math.floor(step / cycle) + 1)];
    if (before === undefined || Number.isNaN(before)) return;
    sum.naive += Math.abs(value - before);
    sum.naiveCount++;
  });
  return { origins: judged.length - 1, meanAbsoluteError: sum.own / sum.ownCount, naiveMeanAbsoluteError: sum.naive / sum.naiveCount };
}
