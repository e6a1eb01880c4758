import type { Series } from './measures.js';

/**
 * What was derived from a series, kept until the series is another: it changes once an hour and is asked for again and again. Of more than
 * `most` names the one that was not asked for longest goes. O(values) a question, for the values are compared.
 */
export class Derived<T> {
  private readonly known = new Map<string, { readonly values: Float64Array; readonly startMs: number; readonly derived: T }>();

  constructor(private readonly most: number) {}

  /** @param derive a pure function of the series */
  of(name: string, { timesMs, values }: Series, derive: () => T): T {
    const startMs = timesMs[0] ?? 0;
    let entry = this.known.get(name);
    if (entry === undefined || entry.startMs !== startMs || !isSame(entry.values, values)) entry = { values: values.slice(), startMs, derived: derive() };
    this.known.delete(name);
    this.known.set(name, entry);
    const [oldest] = this.known.keys();
    if (this.known.size > this.most && oldest !== undefined) this.known.delete(oldest);
    return entry.derived;
  }
}

function isSame(a: Float64Array, b: Float64Array): boolean {
  return a.length === b.length && a.every((value, i) => Object.is(value, b[i]));
}
