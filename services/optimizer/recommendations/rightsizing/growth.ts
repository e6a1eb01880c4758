/**
 * How much a level is expected to rise over the horizon, learnt from the history itself: at every earlier split of the
 * blocks, what came in the next `horizon` blocks is set against all that came before (rolling-origin evaluation; Tashman,
 * International Journal of Forecasting 16, 2000). A level that only wobbles or falls teaches 0; one that climbed, or whose
 * peaks kept breaking their record, teaches by how much. O(blocks²).
 *
 * @param levels one positive level a block, oldest first; same unit throughout
 * @param summary what a stretch of blocks amounts to (its largest, its upper quartile)
 * @returns rises ln(next / before) by split, oldest split first; negative where it fell
 */
export function risesOf(levels: readonly number[], summary: (stretch: readonly number[]) => number, horizon = 7): number[] {
  const rises: number[] = [];
  for (let split = 1; split < levels.length; split++) {
    const before = summary(levels.slice(0, split));
    const next = summary(levels.slice(split, split + horizon));
    if (before > 0 && next > 0) rises.push(Math.log(next / before));
  }
  return rises;
}

/** Mean of the rises, falls counting as none; 0 without splits. */
export function expectedRise(rises: readonly number[]): number {
  return rises.length === 0 ? 0 : rises.reduce((sum, rise) => sum + Math.max(0, rise), 0) / rises.length;
}

/**
 * How far levels lie from one another, in ln: 1.4826 times the median distance from their median, which is the standard
 * deviation of normal noise and does not see a lone peak (Rousseeuw and Croux, JASA 88, 1993). 0 for fewer than three.
 */
export function spreadOf(levels: readonly number[]): number {
  const logs = levels.filter((level) => level > 0).map(Math.log);
  if (logs.length < 3) return 0;
  const middle = medianOf(logs);
  return 1.4826 * medianOf(logs.map((log) => Math.abs(log - middle)));
}

function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return ((sorted[(sorted.length - 1) >> 1] ?? 0) + (sorted[sorted.length >> 1] ?? 0)) / 2;
}

/** The largest of a stretch. */
export function largestOf(stretch: readonly number[]): number {
  return Math.max(...stretch);
}

/** The upper quartile of a stretch (linear between ranks). */
export function upperQuartileOf(stretch: readonly number[]): number {
  const sorted = [...stretch].sort((a, b) => a - b);
  const at = 0.75 * (sorted.length - 1);
  const low = sorted[Math.floor(at)] ?? 0;
  const high = sorted[Math.ceil(at)] ?? low;
  return low + (at - Math.floor(at)) * (high - low);
}
