import { expectedRise, largestOf, risesOf, spreadOf } from './growth.js';
import type { Block, JvmMemory, OomKill } from './history.js';

/**
 * The memory request, from peaks. Memory cannot be throttled: a container over its limit dies, so the request starts at the
 * largest peak ever seen and adds head-room; a percentile would sell exactly the rare peaks that kill. Head-room follows how
 * erratic the peaks are: it grows with their spread from day to day, which a lone peak that is already covered does not raise,
 * and with the rise that the later splits of the history missed (growth.ts), so a leak gets room. Steady peaks get little. A
 * short history, which has not seen how far its peaks lie apart, is taken for an erratic one. An OOM kill is a floor: at that limit it was too little, whatever the
 * samples say.
 */
export interface MemoryPolicy {
  /** Head-room, in ln, that even steady peaks get: samples a minute apart miss peaks. */
  readonly steadyHeadRoom: number;
  /** Room, in ln, where there is no history yet; at d days it is this / (1 + d), and what the spread asks for where that is more. */
  readonly shortHistory: number;
  /** Head-room per unit of the peaks' spread, and the most that it may come to, in ln. */
  readonly spreadFactor: number;
  readonly largestSpreadRoom: number;
  /** Most, in ln, that a taught rise may add. */
  readonly largestRise: number;
  /** Above the limit at which it was killed. */
  readonly oomFactor: number;
  /** Heap that a JVM needs per byte that stays alive after a collection. */
  readonly heapPerLiveByte: number;
  readonly minimumBytes: number;
}

export const MEMORY_POLICY: MemoryPolicy = {
  steadyHeadRoom: 0.03, shortHistory: 0.12, spreadFactor: 3, largestSpreadRoom: 0.12, largestRise: 0.1, oomFactor: 1.2, heapPerLiveByte: 2, minimumBytes: 96 * 2 ** 20,
};

export interface MemoryNeed {
  /** What the request should cover, before rounding, minimum and bounds. Bytes. */
  readonly bytes: number;
  readonly basis: 'peaks' | 'oom_kill' | 'jvm_heap';
  readonly largestPeakBytes: number;
  /** Added to the largest peak, as a share of it. */
  readonly headRoomShare: number;
  /** Rise that the history taught, in ln. */
  readonly rise: number;
  readonly oomFloorBytes: number | null;
}

/**
 * The least that kills allow: `oomFactor` times the largest limit at which it was killed (its largest peak where the limit is
 * unknown). It depends on kills alone, never on what was recommended, so a cap that we set cannot feed the next estimate.
 */
export function oomFloor(kills: readonly OomKill[], largestPeakBytes: number | null, policy: MemoryPolicy = MEMORY_POLICY): number | null {
  const levels = kills.map((kill) => kill.limitBytes ?? largestPeakBytes ?? 0).filter((level) => level > 0);
  return levels.length > 0 ? policy.oomFactor * Math.max(...levels) : null;
}

/** What the memory request should cover; null without memory samples. */
export function memoryNeed(blocks: readonly Block[], days: number, kills: readonly OomKill[], policy: MemoryPolicy = MEMORY_POLICY): MemoryNeed | null {
  const peaks = blocks.flatMap((block) => (block.memoryMaxBytes === null ? [] : [block.memoryMaxBytes]));
  const largest = peaks.length > 0 ? Math.max(...peaks) : null;
  if (largest === null) return null;
  const rises = risesOf(peaks, largestOf);
  const rise = expectedRise(rises.slice(rises.length >> 1));
  const unseen = Math.max(policy.shortHistory / (1 + days), Math.min(policy.largestSpreadRoom, policy.spreadFactor * spreadOf(peaks)));
  const headRoom = policy.steadyHeadRoom + unseen + Math.min(policy.largestRise, rise);
  const byPeaks = largest * Math.exp(headRoom);
  const floor = oomFloor(kills, largest, policy);
  return {
    bytes: Math.max(byPeaks, floor ?? 0), basis: floor !== null && floor > byPeaks ? 'oom_kill' : 'peaks',
    largestPeakBytes: largest, headRoomShare: Math.exp(headRoom) - 1, rise, oomFloorBytes: floor,
  };
}

/**
 * What a JVM needs, from its own numbers: its usage says what the heap took, not what it needs. With a maximum heap set, the
 * heap may grow to it whatever the program needs; else `heapPerLiveByte` times what stays alive after a collection (Hunt and
 * John, "Java Performance", 2011, size the heap at three to four times the live set; two is the least that collects without
 * thrashing). Null where its numbers are not known: unknown is not a reason to shrink.
 */
export function jvmNeed(jvm: JvmMemory, policy: MemoryPolicy = MEMORY_POLICY): number | null {
  if (jvm.nonHeapPeakBytes === null) return null;
  const heap = jvm.maxHeapBytes ?? (jvm.heapAfterCollectionPeakBytes === null ? null : policy.heapPerLiveByte * jvm.heapAfterCollectionPeakBytes);
  return heap === null ? null : (heap + jvm.nonHeapPeakBytes) * Math.exp(policy.steadyHeadRoom);
}
