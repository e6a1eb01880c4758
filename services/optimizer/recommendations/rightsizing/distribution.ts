import { addTo, bucketOf, bucketValue, GAMMA, mergeInto, quantile, toPairs, ZERO_BUCKET, type Distribution } from '@upid/contracts';

/**
 * What right-sizing asks of a log-bucket distribution (contracts/distribution.ts: bucket i holds (γ^(i-1), γ^i], γ = 1.04).
 * Counts may be fractional: a weight that decays is a distribution scaled. Everything here is O(buckets), at most a few
 * hundred for any range of usage; values keep their unit (millicores, bytes).
 */

/** One bucket in plain form: what JSON and a database column hold. */
export interface BucketCount {
  readonly index: number;
  readonly count: number;
}

/** Counts by bucket in any iterable form (a Map, pairs off the wire). */
export type Buckets = Iterable<readonly [number, number]>;

/** A distribution of values; `weights` (same length, ≥ 0) default to 1 each. */
export function distributionOf(values: readonly number[], weights?: readonly number[]): Distribution {
  const distribution: Distribution = new Map();
  values.forEach((value, i) => addTo(distribution, value, weights?.[i] ?? 1));
  return distribution;
}

/** The sum of distributions: addition by bucket, so exact, associative and commutative. */
export function merged(...parts: readonly Buckets[]): Distribution {
  const sum: Distribution = new Map();
  for (const part of parts) mergeInto(sum, part);
  return sum;
}

/** Every count times `factor`: how an exponentially decaying weight is applied (VPA's decaying histogram does the same by its reference time). */
export function scaled(buckets: Buckets, factor: number): Distribution {
  return new Map([...buckets].map(([index, count]) => [index, count * factor] as const));
}

/** The sum of counts. */
export function totalOf(buckets: Buckets): number {
  let total = 0;
  for (const [, count] of buckets) total += count;
  return total;
}

/** Plain records by rising index. */
export function toBucketCounts(distribution: Distribution): BucketCount[] {
  return toPairs(distribution).map(([index, count]) => ({ index, count }));
}

/** The inverse of {@link toBucketCounts}; counts of one index add up. */
export function fromBucketCounts(counts: Iterable<BucketCount>): Distribution {
  const distribution: Distribution = new Map();
  for (const { index, count } of counts) distribution.set(index, (distribution.get(index) ?? 0) + count);
  return distribution;
}

/** Several quantiles at once (nearest rank, as contracts' `quantile`); empty where nothing was put in. O(buckets · log). */
export function quantiles(buckets: Buckets, at: readonly number[]): number[] {
  const sorted = [...buckets].sort((a, b) => a[0] - b[0]);
  const total = totalOf(sorted);
  if (total <= 0) return [];
  return at.map((q) => {
    let seen = 0;
    const found = sorted.find(([, count]) => (seen += count) >= Math.max(1e-12, q) * total * (1 - 1e-12)) ?? sorted[sorted.length - 1];
    return bucketValue(found?.[0] ?? ZERO_BUCKET);
  });
}

/** What a request leaves uncovered of a distribution of usage. */
export interface Uncovered {
  /** Share of the time (of the counts) with usage above the request. */
  readonly overShare: number;
  /** Share of the usage that lies above the request: Σ max(0, usage − request) / Σ usage. */
  readonly unservedShare: number;
}

/**
 * What `request` leaves uncovered. Within the bucket that holds the request, values are taken as spread evenly between its
 * edges, so both shares are off by at most that one bucket's content.
 */
export function uncoveredBy(buckets: Buckets, request: number): Uncovered {
  const edge = bucketOf(request);
  const top = GAMMA ** edge;
  const bottom = top / GAMMA;
  const above = edge === ZERO_BUCKET ? 1 : Math.min(1, Math.max(0, (top - request) / (top - bottom)));
  let total = 0;
  let used = 0;
  let over = 0;
  let excess = 0;
  for (const [index, count] of buckets) {
    const value = bucketValue(index);
    total += count;
    used += count * value;
    if (index > edge) {
      over += count;
      excess += count * (value - request);
    } else if (index === edge && index !== ZERO_BUCKET) {
      over += count * above;
      excess += count * above * ((top - request) / 2);
    }
  }
  return { overShare: total > 0 ? over / total : 0, unservedShare: used > 0 ? Math.max(0, excess) / used : 0 };
}

/** Cells of the fine grid per bucket. */
const CELLS = 8;
/** Width of a cell in ln(value). */
export const CELL_WIDTH = Math.log(GAMMA) / CELLS;

/** Weights on an even grid of ln(value): cell j covers ln(value) in [start + j·CELL_WIDTH, start + (j+1)·CELL_WIDTH). */
export interface LogGrid {
  readonly start: number;
  readonly cells: Float64Array;
  /** Weight of zeros, which have no logarithm. */
  readonly zeros: number;
}

/**
 * A distribution on a fine even grid of ln(value), blurred by a normal law with standard deviation `spread` (in ln(value),
 * 0.03 = 3 %): what the values would be if their level moved by so much. O(buckets · 8 · spread / 0.005).
 */
export function logGrid(buckets: Buckets, spread: number): LogGrid {
  let zeros = 0;
  const pairs: (readonly [number, number])[] = [];
  for (const pair of buckets) {
    if (pair[0] === ZERO_BUCKET) zeros += pair[1];
    else if (pair[1] > 0) pairs.push(pair);
  }
  if (pairs.length === 0) return { start: 0, cells: new Float64Array(0), zeros };
  const lowest = Math.min(...pairs.map(([index]) => index));
  const highest = Math.max(...pairs.map(([index]) => index));
  const reach = Math.ceil((3 * spread) / CELL_WIDTH);
  const shape = blurredBucket(spread, reach);
  const cells = new Float64Array((highest - lowest) * CELLS + shape.length);
  for (const [index, count] of pairs) {
    const first = (index - lowest) * CELLS;
    for (let cell = 0; cell < shape.length; cell++) cells[first + cell] = (cells[first + cell] ?? 0) + count * (shape[cell] ?? 0);
  }
  return { start: (lowest - 1) * Math.log(GAMMA) - reach * CELL_WIDTH, cells, zeros };
}

/** One bucket's weight of 1, even over its cells, blurred. */
function blurredBucket(spread: number, reach: number): Float64Array {
  const kernel = Array.from({ length: 2 * reach + 1 }, (_, i) => (spread > 0 ? Math.exp(-0.5 * (((i - reach) * CELL_WIDTH) / spread) ** 2) : 1));
  const mass = kernel.reduce((sum, weight) => sum + weight, 0);
  const shape = new Float64Array(CELLS + 2 * reach);
  for (let cell = 0; cell < CELLS; cell++) {
    kernel.forEach((weight, k) => {
      shape[cell + k] = (shape[cell + k] ?? 0) + weight / mass / CELLS;
    });
  }
  return shape;
}

export { quantile, type Distribution };
