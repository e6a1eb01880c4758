import { uniforms } from '@upid/testing/random';

/** Randomness that repeats. */
export class Random {
  /** 0 (inclusive) to 1 (exclusive). */
  readonly next: () => number;

  constructor(seed: number) {
    this.next = uniforms(seed);
  }

  /** A whole number, from (inclusive) to (exclusive). */
  between(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from));
  }

  pick<T>(items: readonly T[]): T {
    const picked = items[this.between(0, items.length)];
    if (picked === undefined) throw new RangeError('there is nothing to pick from');
    return picked;
  }
}

/** A whole number below `below` out of numbers: the same for the same ones. */
export function mixed(below: number, ...parts: readonly number[]): number {
  let hash = 0x811c9dc5;
  for (const part of parts) hash = Math.imul(hash ^ part ^ (part >>> 13), 0x01000193) ^ (hash >>> 15);
  return new Random(hash).between(0, below);
}
