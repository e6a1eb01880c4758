import { Derived } from './derived.js';
import type { Series } from './measures.js';

describe('what is derived from a series', () => {
  const series = (startMs: number, ...values: number[]): Series => ({ timesMs: Float64Array.from(values, (_, i) => startMs + i), values: Float64Array.from(values) });

  it('is derived once, and again where the series is another', () => {
    const kept = new Derived<number>(10);
    let times = 0;
    const of = (name: string, each: Series) => kept.of(name, each, () => ++times);
    expect(of('a', series(0, 1, Number.NaN, 3))).toBe(1);
    expect(of('a', series(0, 1, Number.NaN, 3))).toBe(1);
    expect(of('b', series(0, 1, Number.NaN, 3))).toBe(2);
    expect(of('a', series(0, 1, 2, 3))).toBe(3);
    expect(of('a', series(5, 1, 2, 3))).toBe(4);
    expect(of('a', series(5, 1, 2, 3, 4))).toBe(5);
    expect(of('a', series(5))).toBe(6);
  });

  it('does not follow values that are changed afterwards', () => {
    const kept = new Derived<number>(10);
    const mine = series(0, 1, 2);
    kept.of('a', mine, () => 1);
    mine.values[0] = 9;
    expect(kept.of('a', mine, () => 2)).toBe(2);
  });

  it('lets what was not asked for longest go', () => {
    const kept = new Derived<number>(2);
    let times = 0;
    const of = (name: string) => kept.of(name, series(0, 1), () => ++times);
    expect(['a', 'b', 'a', 'c', 'a', 'b'].map(of)).toEqual([1, 2, 1, 3, 1, 4]);
  });
});
