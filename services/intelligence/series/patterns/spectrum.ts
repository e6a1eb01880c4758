/** In-place fast Fourier transform of a power-of-two length (Cooley and Tukey 1965). O(n log n). */
export function fft(re: Float64Array, im: Float64Array): void {
  const n = re.length;
  if (n !== im.length || (n & (n - 1)) !== 0) throw new RangeError(`a power of two of real and imaginary parts is needed, not ${n} and ${im.length}`);
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i >= j) continue;
    [re[i], re[j]] = [re[j]!, re[i]!];
    [im[i], im[j]] = [im[j]!, im[i]!];
  }
  for (let half = 1; half < n; half <<= 1) {
    const cosines = Float64Array.from({ length: half }, (_, k) => Math.cos((Math.PI * k) / half));
    const sines = Float64Array.from({ length: half }, (_, k) => -Math.sin((Math.PI * k) / half));
    for (let start = 0; start < n; start += half << 1) {
      for (let k = 0; k < half; k++) {
        const even = start + k;
        const odd = even + half;
        const oddRe = re[odd]! * cosines[k]! - im[odd]! * sines[k]!;
        const oddIm = re[odd]! * sines[k]! + im[odd]! * cosines[k]!;
        re[odd] = re[even]! - oddRe;
        im[odd] = im[even]! - oddIm;
        re[even]! += oddRe;
        im[even]! += oddIm;
      }
    }
  }
}

/** The series with a linear convolution's room: at least twice its length. */
function padded(length: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(2, 2 * length)));
}

/**
 * Autocorrelation at lags 0..n-1 over pairs whose both ends are there (gaps: NaN), each lag's sum divided by its number of pairs
 * and by the variance (Wiener-Khinchin, twice: of the values and of their mask). Around 0: remove level and trend first.
 * Lags without pairs are 0. O(n log n) time and memory.
 */
export function pairwiseAutocorrelation(values: Float64Array): Float64Array {
  const n = values.length;
  const size = padded(n);
  const sums = selfCorrelation(Float64Array.from({ length: size }, (_, i) => (i < n && Number.isFinite(values[i]!) ? values[i]! : 0)));
  const pairs = selfCorrelation(Float64Array.from({ length: size }, (_, i) => (i < n && Number.isFinite(values[i]!) ? 1 : 0)));
  const count = Math.round(pairs[0]!);
  const variance = sums[0]! / Math.max(1, count);
  return Float64Array.from({ length: n }, (_, lag) => {
    const there = Math.round(pairs[lag]!);
    return there > 0 && variance > 0 ? sums[lag]! / there / variance : 0;
  });
}

function selfCorrelation(re: Float64Array): Float64Array {
  const n = re.length;
  const im = new Float64Array(n);
  fft(re, im);
  for (let i = 0; i < n; i++) {
    re[i] = re[i]! ** 2 + im[i]! ** 2;
    im[i] = 0;
  }
  fft(re, im);
  return re.map((value) => value / n);
}
