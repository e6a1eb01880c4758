import { madSigma } from '../statistics.js';

/** The arithmetic of series that are laid in rows of one period each. NaN stands for what is not there. */

/** A cycle is foretold from so many on each side of it, so that a rhythm may change with the seasons. */
const neighbours = 7;
/** What a longer pattern must explain of what the shorter one within it leaves. */
const leastGain = 0.02;
/** Turns of the shorter shape that are averaged to take it away. */
const fewestTurns = 6;
/** Where that is asked, values further out count as if they lay there: a holiday is no week. */
const cutSigmas = 3;
/** A variance below this share of another is what arithmetic leaves. */
const rounding = 1e-16;

/** Centred moving average over one period (gaps: over what is there), continued at the ends along its own slope. O(n). */
export function localLevel(values: Float64Array, period: number): Float64Array {
  const n = values.length;
  const sums = new Float64Array(n + 1);
  const counts = new Float64Array(n + 1);
  for (let i = 0; i < n; i++) {
    const there = Number.isFinite(values[i]!);
    sums[i + 1] = sums[i]! + (there ? values[i]! : 0);
    counts[i + 1] = counts[i]! + (there ? 1 : 0);
  }
  const level = new Float64Array(n).fill(Number.NaN);
  const half = period >> 1;
  const even = period % 2 === 0;
  const first = half;
  const last = n - 1 - half;
  for (let i = first; i <= last; i++) {
    // An even period has half a value at each end.
    let sum = sums[i + half + 1]! - sums[i - half]!;
    let count = counts[i + half + 1]! - counts[i - half]!;
    if (even) {
      for (const end of [i - half, i + half]) {
        if (!Number.isFinite(values[end]!)) continue;
        sum -= values[end]! / 2;
        count -= 0.5;
      }
    }
    level[i] = count * 2 >= period ? sum / count : Number.NaN;
  }
  const slopeAt = (end: number, inner: number): number => {
    const slope = (level[inner]! - level[end]!) / (inner - end);
    return Number.isFinite(slope) ? slope : 0;
  };
  if (last < first) return level;
  const reach = Math.min(last - first, period);
  const startSlope = reach > 0 ? slopeAt(first, first + reach) : 0;
  const endSlope = reach > 0 ? slopeAt(last, last - reach) : 0;
  for (let i = 0; i < first; i++) level[i] = level[first]! + startSlope * (i - first);
  for (let i = last + 1; i < n; i++) level[i] = level[last]! + endSlope * (i - last);
  return level;
}

/** Rows (cycles) by columns (phases); NaN where there is no value. */
export interface Folded {
  readonly rows: number;
  readonly period: number;
  readonly values: Float64Array;
}

export function fold(rest: Float64Array, period: number): Folded {
  const rows = Math.ceil(rest.length / period);
  const values = new Float64Array(rows * period).fill(Number.NaN);
  values.set(rest);
  return { rows, period, values };
}

/**
 * What the neighbouring cycles, without the cycle itself, say of each value: their mean at the same phase, less the mean of that
 * over the cycle (a level is no pattern). NaN where no neighbour has a value. O(n).
 */
export function foretold({ rows, period, values }: Folded): Float64Array {
  const out = new Float64Array(values.length).fill(Number.NaN);
  const sums = new Float64Array(period);
  const counts = new Int32Array(period);
  const add = (row: number, sign: 1 | -1): void => {
    if (row < 0 || row >= rows) return;
    for (let phase = 0; phase < period; phase++) {
      const value = values[row * period + phase]!;
      if (!Number.isFinite(value)) continue;
      sums[phase]! += sign * value;
      counts[phase]! += sign;
    }
  };
  for (let row = 0; row < neighbours; row++) add(row, 1);
  for (let row = 0; row < rows; row++) {
    add(row + neighbours, 1);
    add(row - neighbours - 1, -1);
    add(row, -1);
    let mean = 0;
    let phases = 0;
    for (let phase = 0; phase < period; phase++) {
      if (counts[phase] === 0) continue;
      mean += sums[phase]! / counts[phase]!;
      phases++;
    }
    mean /= Math.max(1, phases);
    for (let phase = 0; phase < period; phase++) if (counts[phase]! > 0) out[row * period + phase] = sums[phase]! / counts[phase]! - mean;
    add(row, 1);
  }
  return out;
}

/** The mean of each phase, taken away. */
function withoutProfile({ period, values }: Folded): Float64Array {
  const sums = new Float64Array(period);
  const counts = new Float64Array(period);
  values.forEach((value, i) => {
    if (!Number.isFinite(value)) return;
    sums[i % period]! += value;
    counts[i % period]!++;
  });
  return values.map((value, i) => value - sums[i % period]! / counts[i % period]!);
}

/**
 * How far cycles agree in phase beyond chance, in standard deviations. The values are whitened by the first-order autocorrelation
 * of what their own profile leaves (across a gap: from the value before it); then the products of all pairs of cycles have mean 0 and, were each cycle turned by a random
 * number of `shape`s, a variance of the product of their squares over the number of turns. O(n).
 */
export function agreement(folded: Folded, shape = 1): number {
  const { rows, period, values } = folded;
  const rest = withoutProfile(folded);
  let [cross, square, pairs] = [0, 0, 0];
  let before = Number.NaN;
  for (const value of rest) {
    if (!Number.isFinite(value)) continue;
    if (Number.isFinite(before)) {
      cross += value * before;
      square += (value ** 2 + before ** 2) / 2;
      pairs++;
    }
    before = value;
  }
  before = Number.NaN;
  const raw = square > 0 ? cross / square : 0;
  // Of few values the autocorrelation is found too small, by about (1 + 3φ)/n.
  const phi = Math.max(-1, Math.min(1, raw + (1 + 3 * raw) / Math.max(1, pairs)));
  const sums = new Float64Array(period);
  const squares = new Float64Array(period);
  const rowSums = new Float64Array(shape);
  const rowSquares = new Float64Array(shape);
  for (let row = 0; row < rows; row++) {
    const own = new Float64Array(shape);
    for (let phase = 0; phase < period; phase++) {
      const here = values[row * period + phase]!;
      if (!Number.isFinite(here)) continue;
      const value = here - phi * before;
      before = here;
      if (!Number.isFinite(value)) continue;
      sums[phase]! += value;
      squares[phase]! += value * value;
      own[phase % shape]! += value * value;
    }
    own.forEach((each, j) => {
      rowSums[j]! += each;
      rowSquares[j]! += each * each;
    });
  }
  const inPhase = sums.reduce((total, sum, phase) => total + (sum * sum - squares[phase]!) / 2, 0);
  const variance = (shape / period) * rowSums.reduce((total, sum, j) => total + (sum * sum - rowSquares[j]!) / 2, 0);
  const size = rowSums.reduce((a, b) => a + b, 0);
  return variance > rounding * size * size ? inPhase / Math.sqrt(variance) : 0;
}

/** Share of the squares that a guess explains; negative where it is worse than none. */
export function explained(values: Float64Array, guess: Float64Array): number {
  let [rest, all] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const error = values[i]! - guess[i]!;
    if (!Number.isFinite(error)) continue;
    rest += error * error;
    all += values[i]! ** 2;
  }
  return all > 0 ? 1 - rest / all : 0;
}

/**
 * Whether a period has a shape of its own beyond that of its divisor: where the divisor's shape, as it is around each time, is
 * taken away and outliers are cut, cycles still agree in phase and still foretell each other.
 */
export function addsTo(shape: number, { rows, period, values }: Folded, significant: number): boolean {
  const rest = new Float64Array(values.length);
  // Whole cycles, so that what the longer shape adds stays; not few turns, or the average itself would swing with the cycle.
  const cycle = period / shape;
  const turns = cycle * Math.min(rows, Math.ceil(fewestTurns / cycle));
  for (let phase = 0; phase < shape; phase++) {
    const same = Float64Array.from({ length: values.length / shape }, (_, i) => values[i * shape + phase]!);
    localLevel(same, turns).forEach((level, i) => (rest[i * shape + phase] = same[i]! - level));
  }
  const bound = cutSigmas * madSigma(rest.filter(Number.isFinite), 0);
  const cut: Folded = { rows, period, values: bound > 0 ? rest.map((value) => Math.max(-bound, Math.min(bound, value))) : rest };
  const guess = foretold(cut);
  let [cross, square, all] = [0, 0, 0];
  for (let i = 0; i < guess.length; i++) {
    const product = guess[i]! * cut.values[i]!;
    if (!Number.isFinite(product)) continue;
    cross += product;
    square += guess[i]! ** 2;
    all += cut.values[i]! ** 2;
  }
  // The best share of what the other cycles foretell explains cross²/square.
  const gain = cross > 0 && all > rounding * values.reduce((sum, value) => sum + (Number.isFinite(value) ? value ** 2 : 0), 0) ? cross ** 2 / square / all : 0;
  return gain >= leastGain && agreement(cut, shape) >= significant;
}
