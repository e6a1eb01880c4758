/** How many of the largest values a tail remembers, per generation. */
const kept = 24;
/** Values after which a generation ends. What is remembered is the current generation and the one before it. */
const generation = 8192;
/** No verdict before this many values. */
const fewest = 24;
/** Share of all values that counts as the tail, within [fewestExcesses, kept - 1] values. */
const tailShare = 0.02;
const fewestExcesses = 8;
/** A longer memory than this makes a value no rarer, so that long series do not call for ever rarer ones. */
const longestOdds = 2500;
/** Prior of the tail's shape (between exponential and the heavy tails of request counts), weighing as much as so many values. */
const priorShape = 0.1;
const priorWeight = 10;
const shapeBounds = { least: -0.1, most: 0.6 };
/** Beyond the largest value, orders of magnitude are counted up to here. */
const mostOrders = 10;

/** What a tail holds, in plain numbers. */
export interface TailSnapshot {
  /** Largest values of the current generation, descending. */
  readonly current: readonly number[];
  /** Values seen in the current generation. */
  readonly currentCount: number;
  readonly previous: readonly number[];
  readonly previousCount: number;
}

class Largest {
  readonly values = new Float64Array(kept);
  size = 0;
  /** Values seen, kept or not. */
  count = 0;

  /** True where the value is among the largest. */
  add(value: number): boolean {
    this.count++;
    let at = this.size;
    if (this.size < kept) this.size++;
    else if (value > this.values[kept - 1]!) at = kept - 1;
    else return false;
    while (at > 0 && this.values[at - 1]! < value) {
      this.values[at] = this.values[at - 1]!;
      at--;
    }
    this.values[at] = value;
    return true;
  }

  clear(): void {
    this.size = 0;
    this.count = 0;
  }
}

/**
 * The upper tail of what a series has shown: says how surprising a value above it is. The excesses over a high quantile are
 * described by a generalised Pareto distribution (Pickands 1975; as a streaming detector Siffer et al. 2017), fitted by moments
 * (Hosking and Wallis 1987) with a prior on its shape, and as heavy as so few excesses must leave open. Within what has been seen the rank decides; beyond it, the distribution
 * continues from the largest value (excesses over any higher threshold are again generalised Pareto), so that a few large
 * values apart from the rest do not count as impossible. O(1) a value outside the tail; O(kept) memory.
 */
export class Tail {
  private current = new Largest();
  private previous = new Largest();
  /** The largest of both generations together, descending; rebuilt when stale. */
  private readonly top = new Float64Array(kept);
  private topSize = 0;
  private stale = true;

  /** Values that the memory covers. */
  get count(): number {
    return this.current.count + this.previous.count;
  }

  add(value: number): void {
    if (this.current.count >= generation) {
      const recycled = this.previous;
      this.previous = this.current;
      this.current = recycled;
      recycled.clear();
      this.stale = true;
    }
    if (this.current.add(value)) this.stale = true;
  }

  /**
   * -log10 of the share of values expected to be as large; 0 for a value outside the tail or without enough memory.
   * @param leastScale scale of the tail at the least, units of the values: what has always been constant is not certain to stay so
   */
  surprise(value: number, leastScale: number): number {
    const count = this.count;
    if (count < fewest) return 0;
    if (this.stale) this.merge();
    const excesses = this.excesses();
    if (value <= this.top[excesses]!) return 0;
    const odds = Math.log10(Math.min(count, longestOdds) + 1);
    let rank = 0;
    while (rank <= excesses && this.top[rank]! >= value) rank++;
    if (rank > 0) return Math.max(0, odds - Math.log10(rank + 1));
    const { shape, scale } = this.fit(excesses, leastScale);
    const z = (value - this.top[0]!) / scale;
    const inside = 1 + shape * z;
    const nats = inside <= 0 ? Infinity : Math.abs(shape) < 1e-6 ? z : Math.log(inside) / shape;
    return odds + Math.min(nats / Math.LN10, mostOrders);
  }

  /** The value whose surprise is `surprise`: what is above it is more surprising. Infinite without enough memory. */
  bound(surprise: number, leastScale: number): number {
    const count = this.count;
    if (count < fewest) return Infinity;
    if (this.stale) this.merge();
    const excesses = this.excesses();
    const odds = Math.min(count, longestOdds) + 1;
    const rank = Math.floor(odds / 10 ** surprise);
    if (rank > 0) return this.top[Math.min(rank - 1, excesses)]!;
    const { shape, scale } = this.fit(excesses, leastScale);
    const nats = (surprise - Math.log10(odds)) * Math.LN10;
    return this.top[0]! + scale * (Math.abs(shape) < 1e-6 ? nats : Math.expm1(shape * nats) / shape);
  }

  snapshot(): TailSnapshot {
    const list = ({ values, size }: Largest): number[] => [...values.subarray(0, size)];
    return { current: list(this.current), currentCount: this.current.count, previous: list(this.previous), previousCount: this.previous.count };
  }

  static restore(snapshot: TailSnapshot): Tail {
    const tail = new Tail();
    const fill = (largest: Largest, values: readonly number[], count: number): void => {
      largest.values.set(values.slice(0, kept));
      largest.size = Math.min(kept, values.length);
      largest.count = count;
    };
    fill(tail.current, snapshot.current, snapshot.currentCount);
    fill(tail.previous, snapshot.previous, snapshot.previousCount);
    return tail;
  }

  /** How many of the largest values are the tail; the next one is the quantile that they exceed. */
  private excesses(): number {
    return Math.min(kept - 1, this.topSize - 1, Math.max(fewestExcesses, Math.ceil(tailShare * this.count)));
  }

  /** The distribution of excesses over the largest value. */
  private fit(excesses: number, leastScale: number): { shape: number; scale: number } {
    const quantile = this.top[excesses]!;
    let sum = 0;
    let squares = 0;
    for (let i = 0; i < excesses; i++) {
      const excess = this.top[i]! - quantile;
      sum += excess;
      squares += excess * excess;
    }
    const mean = sum / excesses;
    const variance = squares / excesses - mean * mean;
    const moments = variance > 0 ? (1 - (mean * mean) / variance) / 2 : 0;
    const weighed = (excesses * moments + priorWeight * priorShape) / (excesses + priorWeight);
    // What a mean of k exponential excesses predicts for the next one is a Pareto of shape 1/k.
    const shape = Math.min(shapeBounds.most, Math.max(shapeBounds.least, weighed)) + 1 / excesses;
    // The scale over the quantile, moved to the largest value.
    const scale = mean * (1 - shape) + Math.max(shape, 0) * (this.top[0]! - quantile);
    return { shape, scale: Math.max(scale, leastScale, Number.MIN_VALUE) };
  }

  private merge(): void {
    const { current, previous } = this;
    this.topSize = Math.min(kept, current.size + previous.size);
    for (let k = 0, i = 0, j = 0; k < this.topSize; k++) {
      const fromCurrent = j >= previous.size || (i < current.size && current.values[i]! >= previous.values[j]!);
      this.top[k] = fromCurrent ? current.values[i++]! : previous.values[j++]!;
    }
    this.stale = false;
  }
}
