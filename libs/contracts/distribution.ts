/**
 * Log-bucket distributions (as DDSketch, Masson, Rim and Lee, VLDB 2019, with a fixed gamma): bucket i holds the values in
 * (GAMMA^(i-1), GAMMA^i]; bucket index `ZERO_BUCKET` holds zeros and everything below 1e-9. Merging is addition, so it is
 * exact, associative and commutative. A quantile read from the bucket's middle is within
 * (GAMMA - 1) / (GAMMA + 1) = 1.96 % of a value that was put in.
 */
export const GAMMA = 1.04;
const LOG_GAMMA = Math.log(GAMMA);
/** The index of zero. */
export const ZERO_BUCKET = -1_000;
/** Relative error of a quantile. */
export const RELATIVE_ERROR = (GAMMA - 1) / (GAMMA + 1);

/** Counts by bucket index. */
export type Distribution = Map<number, number>;

/** The bucket of a value (any unit; negatives are a caller's error and count as zero). */
export function bucketOf(value: number): number {
  return value < 1e-9 ? ZERO_BUCKET : Math.ceil(Math.log(value) / LOG_GAMMA - 1e-9);
}

/** The value that stands for a bucket: 2·γ^i / (γ + 1), the point of least relative error. */
export function bucketValue(index: number): number {
  return index === ZERO_BUCKET ? 0 : (2 * GAMMA ** index) / (GAMMA + 1);
}

export function addTo(distribution: Distribution, value: number, count = 1): void {
  const bucket = bucketOf(value);
  distribution.set(bucket, (distribution.get(bucket) ?? 0) + count);
}

/** Adds `other`'s counts into `into`. */
export function mergeInto(into: Distribution, other: Iterable<readonly [number, number]>): void {
  for (const [bucket, count] of other) into.set(bucket, (into.get(bucket) ?? 0) + count);
}

/** The value at quantile q in 0..1 (nearest rank); null where nothing was put in. */
export function quantile(distribution: Iterable<readonly [number, number]>, q: number): number | null {
  const sorted = [...distribution].sort((a, b) => a[0] - b[0]);
  const total = sorted.reduce((sum, [, count]) => sum + count, 0);
  if (total <= 0) return null;
  const rank = Math.max(1, Math.ceil(q * total));
  let seen = 0;
  for (const [bucket, count] of sorted) {
    seen += count;
    if (seen >= rank) return bucketValue(bucket);
  }
  return bucketValue(sorted[sorted.length - 1]?.[0] ?? ZERO_BUCKET);
}

/** `[[index, count], …]` by rising index: the form on the wire. */
export function toPairs(distribution: Distribution): [number, number][] {
  return [...distribution].sort((a, b) => a[0] - b[0]);
}
