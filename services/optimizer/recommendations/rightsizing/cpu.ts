import { CELL_WIDTH, logGrid, merged, quantile, quantiles, scaled, type Buckets, type Distribution } from './distribution.js';
import { expectedRise, risesOf, upperQuartileOf } from './growth.js';
import type { Block } from './history.js';

/**
 * The CPU request, by what would go unserved. A request is weighed against what it leaves uncovered:
 *
 *     ln(request) + overPrice · share of time above it + unservedPrice · share of usage above it  →  least
 *
 * so one percent more request must buy 1/overPrice percentage points of time, or 1/unservedPrice of work, back. Where usage
 * is narrow this ends near the maximum, for there the last percent costs nothing; where the tail is long it stops early and
 * says what stays uncovered. The usage weighed is the history with weights halving every five days, blurred by how far a level
 * moves by itself, and raised by the rise that the history taught (growth.ts). The request never goes below the percentile
 * that VPA targets. O(blocks · buckets).
 */
export interface CpuPolicy {
  /** Days in which the weight of a sample halves. */
  readonly halfLifeDays: number;
  /** Percent of request that one percentage point of time above the request is worth. */
  readonly overPrice: number;
  /** Percent of request that one percentage point of unserved work is worth. */
  readonly unservedPrice: number;
  /** Standard deviation, in ln, by which a level moves without a reason. */
  readonly levelSpread: number;
  /** The request covers at least this share of the weighted time. */
  readonly leastPercentile: number;
  /** Most rise, in ln, that the history may teach. */
  readonly largestRise: number;
  /** Extra, in ln, where there is no history yet; at d days it is this / (1 + d). */
  readonly shortHistory: number;
  /** A level below this is not told apart from it: what a few scheduler ticks a scrape come to. Margins are added on top. */
  readonly minimumMillicores: number;
}

export const CPU_POLICY: CpuPolicy = {
  halfLifeDays: 5, overPrice: 5, unservedPrice: 3, levelSpread: 0.03, leastPercentile: 0.9, largestRise: 0.12, shortHistory: 0.08, minimumMillicores: 10,
};

const DAY_MS = 86_400_000;

export interface CpuNeed {
  /** What the request should cover, before rounding, minimum and bounds. Millicores. */
  readonly millicores: number;
  /** Rise that the history taught, in ln. */
  readonly rise: number;
  /** Percentiles of the weighted history. Millicores. */
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly largestMillicores: number;
}

/** What {@link cpuNeed} has to know of some blocks; a later block adds to it in O(buckets). */
export interface CpuPast {
  /** Minutes by bucket, weights halving every `halfLifeDays` before `endMs`. */
  readonly minutes: Distribution;
  readonly endMs: number;
  /** Each block's percentile that the request must cover, oldest first. Millicores, 1 at least. */
  readonly levels: readonly number[];
  readonly largestMillicores: number;
}

/** The past with one more block, which must be the newest; null stands for no past. Blocks without CPU change nothing. */
export function withBlock(past: CpuPast | null, block: Block, policy: CpuPolicy = CPU_POLICY): CpuPast | null {
  if (block.cpu.size === 0) return past;
  const level = Math.max(1, quantile(block.cpu, policy.leastPercentile) ?? 0);
  const largest = block.cpuMaxMillicores ?? 0;
  if (past === null) return { minutes: block.cpu, endMs: block.endMs, levels: [level], largestMillicores: largest };
  const fade = 2 ** ((past.endMs - block.endMs) / (policy.halfLifeDays * DAY_MS));
  return {
    minutes: merged(scaled(past.minutes, fade), block.cpu), endMs: block.endMs, levels: [...past.levels, level],
    largestMillicores: Math.max(past.largestMillicores, largest),
  };
}

/** What the CPU request should cover; null without CPU samples. `blocks` oldest first; `days`: length of the history. */
export function cpuNeed(blocks: readonly Block[], days: number, policy: CpuPolicy = CPU_POLICY): CpuNeed | null {
  const past = blocks.reduce<CpuPast | null>((sum, block) => withBlock(sum, block, policy), null);
  return past === null ? null : cpuNeedAfter(past, days, policy);
}

/** As {@link cpuNeed}, of a past that is already added up. O(buckets + blocks²). */
export function cpuNeedAfter({ minutes, levels, largestMillicores }: CpuPast, days: number, policy: CpuPolicy = CPU_POLICY): CpuNeed {
  const rise = Math.min(policy.largestRise, levels.length < 3 ? 0 : expectedRise(risesOf(levels, upperQuartileOf)));
  const [least = 0, p50 = 0, p95 = 0, p99 = 0] = quantiles(minutes, [policy.leastPercentile, 0.5, 0.95, 0.99]);
  const base = Math.max(policy.minimumMillicores, least, leastCost(minutes, policy));
  return { millicores: base * Math.exp(rise + policy.shortHistory / (1 + days)), rise, largestMillicores, p50, p95, p99 };
}

/** The request of least cost in the sense above; 0 where nothing was used. */
function leastCost(minutes: Buckets, policy: CpuPolicy): number {
  const { start, cells, zeros } = logGrid(minutes, policy.levelSpread);
  let total = zeros;
  let used = 0;
  for (let cell = 0; cell < cells.length; cell++) {
    const weight = cells[cell] ?? 0;
    total += weight;
    used += weight * Math.exp(start + (cell + 0.5) * CELL_WIDTH);
  }
  if (used <= 0) return 0;
  let least = Infinity;
  let best = 0;
  let over = 0;
  let usedOver = 0;
  // From the top down: a request at the upper edge of a cell leaves the cells above it uncovered.
  for (let cell = cells.length - 1; cell >= 0; cell--) {
    const edge = start + (cell + 1) * CELL_WIDTH;
    const request = Math.exp(edge);
    const cost = edge + policy.overPrice * (over / total) + policy.unservedPrice * ((usedOver - over * request) / used);
    if (cost < least) {
      least = cost;
      best = request;
    }
    const weight = cells[cell] ?? 0;
    over += weight;
    usedOver += weight * Math.exp(start + (cell + 0.5) * CELL_WIDTH);
  }
  return best;
}
