/**
 * Robust and classical statistics that the series decisions share. Everything works on plain arrays of finite numbers
 * (callers drop gaps first); nothing here changes its arguments.
 */

/** The k-th smallest (0-based) of `work`, which is reordered. Hoare's selection, O(n) expected. */
export function selectInPlace(work: Float64Array, k: number): number {
  let low = 0;
  let high = work.length - 1;
  while (low < high) {
    const pivot = work[(low + high) >> 1]!;
    let i = low;
    let j = high;
    while (i <= j) {
      while (work[i]! < pivot) i++;
      while (work[j]! > pivot) j--;
      if (i <= j) {
        const swap = work[i]!;
        work[i] = work[j]!;
        work[j] = swap;
        i++;
        j--;
      }
    }
    if (k <= j) high = j;
    else if (k >= i) low = i;
    else break;
  }
  return work[k]!;
}

/** The median of `work`, which is reordered; the mean of the middle two where their number is even; NaN for none. */
export function medianInPlace(work: Float64Array): number {
  const n = work.length;
  if (n === 0) return Number.NaN;
  const upper = selectInPlace(work, n >> 1);
  if (n % 2 === 1) return upper;
  let lower = -Infinity;
  for (let i = 0; i < n >> 1; i++) if (work[i]! > lower) lower = work[i]!;
  return (lower + upper) / 2;
}

/** The median; NaN for no values. O(n) expected. */
export function median(values: ArrayLike<number>): number {
  return medianInPlace(Float64Array.from(values));
}

/** Makes the median absolute deviation of a normal sample its standard deviation: 1 / Φ⁻¹(3/4). */
export const madToSigma = 1.482602218505602;

/** Median absolute deviation around `center`, scaled to a normal's standard deviation. O(n) expected. */
export function madSigma(values: ArrayLike<number>, center = median(values)): number {
  const work = new Float64Array(values.length);
  for (let i = 0; i < work.length; i++) work[i] = Math.abs(values[i]! - center);
  return madToSigma * medianInPlace(work);
}

/** Arithmetic mean; NaN for no values. */
export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum / values.length;
}

/** Ranks from 1, ties sharing the mean of theirs. O(n log n). */
export function ranks(values: ArrayLike<number>): Float64Array {
  const n = values.length;
  const order = Array.from({ length: n }, (_, index) => index).sort((a, b) => values[a]! - values[b]!);
  const out = new Float64Array(n);
  for (let i = 0; i < n; ) {
    let j = i + 1;
    while (j < n && values[order[j]!] === values[order[i]!]) j++;
    for (let k = i; k < j; k++) out[order[k]!] = (i + j + 1) / 2;
    i = j;
  }
  return out;
}

/** Sample autocorrelation (biased, divisor n) at lags 0..maxLag; all zero but lag 0 for a constant. O(n · maxLag). */
export function autocorrelation(values: ArrayLike<number>, maxLag: number): Float64Array {
  const n = values.length;
  const center = mean(values);
  const deviation = Float64Array.from(values, (value) => value - center);
  const out = new Float64Array(maxLag + 1);
  out[0] = 1;
  let variance = 0;
  for (let i = 0; i < n; i++) variance += deviation[i]! * deviation[i]!;
  if (!(variance > 0)) return out;
  for (let lag = 1; lag <= Math.min(maxLag, n - 1); lag++) {
    let sum = 0;
    for (let i = lag; i < n; i++) sum += deviation[i]! * deviation[i - lag]!;
    out[lag] = sum / variance;
  }
  return out;
}

/**
 * Upper tail of the standard normal, P(Z > z), to about 1e-13 relative in either tail: a series near the middle, a
 * continued fraction in the tail (Abramowitz and Stegun 26.2.11 and 26.2.14).
 */
export function normalTail(z: number): number {
  if (Number.isNaN(z)) return Number.NaN;
  if (z < 0) return 1 - normalTail(-z);
  const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  if (z < 3) {
    let term = z;
    let sum = z;
    for (let k = 3; Math.abs(term) > 1e-17 * sum; k += 2) {
      term *= (z * z) / k;
      sum += term;
    }
    return 0.5 - density * sum;
  }
  let fraction = 0;
  for (let k = 200; k >= 1; k--) fraction = k / (z + fraction);
  return density / (z + fraction);
}

/** Two-sided p-value of a standard normal statistic. */
export function twoSidedP(z: number): number {
  return Math.min(1, 2 * normalTail(Math.abs(z)));
}

/** Inverse of the standard normal distribution for 0 < p < 1: Acklam's rational start, two Halley steps. */
export function normalQuantile(p: number): number {
  if (!(p > 0 && p < 1)) return p === 0 ? -Infinity : p === 1 ? Infinity : Number.NaN;
  if (p > 0.5) return -normalQuantile(1 - p);
  let z: number;
  if (p < 0.02425) {
    const q = Math.sqrt(-2 * Math.log(p));
    z = (((((-7.784894002430293e-3 * q - 0.3223964580411365) * q - 2.400758277161838) * q - 2.549732539343734) * q + 4.374664141464968) * q + 2.938163982698783)
      / ((((7.784695709041462e-3 * q + 0.3224671290700398) * q + 2.445134137142996) * q + 3.754408661907416) * q + 1);
  } else {
    const q = p - 0.5;
    const r = q * q;
    z = ((((((-39.69683028665376 * r + 220.9460984245205) * r - 275.9285104469687) * r + 138.357751867269) * r - 30.66479806614716) * r + 2.506628277459239) * q)
      / (((((-54.47609879822406 * r + 161.5858368580409) * r - 155.6989798598866) * r + 66.80131188771972) * r - 13.28068155288572) * r + 1);
  }
  for (let step = 0; step < 2; step++) {
    const error = normalTail(-z) - p;
    const u = error * Math.sqrt(2 * Math.PI) * Math.exp((z * z) / 2);
    z -= u / (1 + (z * u) / 2);
  }
  return z;
}
