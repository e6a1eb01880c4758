import fc from 'fast-check';
import { normals, uniforms } from '@upid/testing/random';
import { forecast } from './forecast.js';

const hourMs = 3_600_000;

/** A working week: busy by day, quiet at night and at the weekend. */
const rhythm = (hour: number): number => (Math.floor(hour / 24) % 7 < 5 ? 100 : 40) * (1 + 0.8 * Math.sin((2 * Math.PI * (hour % 24)) / 24));
const made = (hours: number, value: (hour: number) => number, from = 0): number[] => Array.from({ length: hours }, (_, hour) => value(from + hour));
const meanError = (a: ArrayLike<number>, b: ArrayLike<number>): number => Array.from(a).reduce((sum, value, i) => sum + Math.abs(value - b[i]!), 0) / a.length;

/** A short series with a rhythm, noise and gaps, as fast-check draws it. */
const someSeries = fc.record({ seed: fc.integer(), days: fc.integer({ min: 2, max: 24 }), spread: fc.constantFrom(0, 1, 30), gapShare: fc.constantFrom(0, 0.02, 0.3) }).map(({ seed, days, spread, gapShare }) => {
  const normal = normals(seed);
  const uniform = uniforms(seed + 1);
  return made(days * 24, (hour) => rhythm(hour) + spread * normal()).map((value, hour) => (hour > 0 && hour < days * 24 - 1 && uniform() < gapShare ? null : value));
});

describe('forecasts', () => {
  it('repeat a week that is exactly regular, with intervals of no width', () => {
    const result = forecast(made(14 * 24, rhythm), hourMs)!;
    expect(meanError(result.values, made(168, rhythm, 14 * 24))).toBeLessThan(1e-9);
    for (const { low, high } of result.intervals) expect(meanError(low, high)).toBeLessThan(1e-9);
  });

  it('stay flat where the series is flat', () => {
    fc.assert(fc.property(fc.integer({ min: -1_000_000_000, max: 1_000_000_000 }), fc.integer({ min: 48, max: 400 }), (level, length) => {
      const { values, intervals } = forecast(new Array<number>(length).fill(level), hourMs)!;
      const close = Math.abs(level) * 1e-9;
      for (const each of [values, ...intervals.flatMap(({ low, high }) => [low, high])]) for (const value of each) expect(Math.abs(value - level)).toBeLessThanOrEqual(close);
    }), { numRuns: 25 });
  });

  it('scale and shift with the series', () => {
    fc.assert(fc.property(someSeries, fc.constantFrom(0.001, 3, 1e6), fc.integer({ min: -1000, max: 1000 }), (series, scale, shift) => {
      const one = forecast(series, hourMs)!;
      const other = forecast(series.map((value) => (value === null ? null : scale * (value + shift))), hourMs)!;
      const tolerance = scale * 1e-6 * (200 + Math.abs(shift));
      one.values.forEach((value, i) => expect(Math.abs(scale * (value + shift) - other.values[i]!)).toBeLessThan(tolerance));
      one.intervals.forEach(({ low, high }, k) => {
        low.forEach((value, i) => expect(Math.abs(scale * (value + shift) - other.intervals[k]!.low[i]!)).toBeLessThan(tolerance));
        high.forEach((value, i) => expect(Math.abs(scale * (value + shift) - other.intervals[k]!.high[i]!)).toBeLessThan(tolerance));
      });
    }), { numRuns: 25 });
  });

  it('lie within their intervals, and each interval within the next wider one', () => {
    fc.assert(fc.property(someSeries, (series) => {
      const { values, intervals } = forecast(series, hourMs, { levels: [0.95, 0.5, 0.8, 0.99] })!;
      expect(intervals.map(({ level }) => level)).toEqual([0.5, 0.8, 0.95, 0.99]);
      for (let i = 0; i < values.length; i++) {
        const rising = [...intervals.map(({ low }) => low[i]!).reverse(), values[i]!, ...intervals.map(({ high }) => high[i]!)];
        for (let k = 1; k < rising.length; k++) expect(rising[k]!).toBeGreaterThanOrEqual(rising[k - 1]!);
      }
    }), { numRuns: 25 });
  });

  it('are the same each time, and finite whatever gaps there are', () => {
    fc.assert(fc.property(someSeries, (series) => {
      const one = forecast(series, hourMs)!;
      expect(forecast(series, hourMs)).toEqual(one);
      for (const each of [one.values, ...one.intervals.flatMap(({ low, high }) => [low, high])]) expect(each.every(Number.isFinite)).toBe(true);
    }), { numRuns: 25 });
  });

  it('learn the weekend from a single one', () => {
    const normal = normals(5);
    const { values } = forecast(made(14 * 24, (hour) => rhythm(hour) + 3 * normal()), hourMs)!;
    expect(meanError(values, made(168, rhythm, 14 * 24))).toBeLessThan(4);
  });

  it('do not repeat an incident', () => {
    const incident = made(21 * 24, (hour) => rhythm(hour) + (hour >= 17 * 24 && hour < 18 * 24 ? 1000 : 0));
    expect(meanError(forecast(incident, hourMs)!.values, made(168, rhythm, 21 * 24))).toBeLessThan(5);
  });

  it('follow a steady climb', () => {
    const normal = normals(6);
    const climb = (hour: number): number => 1000 + 2 * hour + 50 * Math.sin((2 * Math.PI * hour) / 24);
    const { values, intervals } = forecast(made(14 * 24, (hour) => climb(hour) + 10 * normal()), hourMs)!;
    expect(meanError(values, made(168, climb, 14 * 24))).toBeLessThan(60);
    expect(intervals[1]!.high[167]).toBeGreaterThan(climb(21 * 24 - 1));
  });

  it('start after the last step, known or not', () => {
    const series = made(14 * 24, rhythm);
    const silent = series.map((value, hour) => (hour >= 14 * 24 - 10 ? null : value));
    const { values } = forecast(silent, hourMs)!;
    expect(values).toHaveLength(168);
    expect(meanError(values, made(168, rhythm, 14 * 24))).toBeLessThan(1);
  });

  it('are cut where a value cannot be', () => {
    const normal = normals(7);
    const { values, intervals } = forecast(made(14 * 24, () => Math.max(0, normal() - 1)), hourMs, { min: 0, max: 1 })!;
    for (const each of [values, ...intervals.flatMap(({ low, high }) => [low, high])]) expect(each.every((value) => value >= 0 && value <= 1)).toBe(true);
  });

  it('work with any step and horizon', () => {
    for (const stepMs of [900_000, hourMs, 24 * hourMs, 7 * 24 * hourMs]) {
      const stepHours = stepMs / hourMs;
      const series = made(Math.max(20, (14 * 24) / stepHours), (step) => rhythm(step * stepHours));
      expect(forecast(series, stepMs, { horizonSteps: 5 })!.values).toHaveLength(5);
    }
  });

  it('say nothing from less than two days', () => {
    expect(forecast(made(47, rhythm), hourMs)).toBeNull();
    expect(forecast([], hourMs)).toBeNull();
    expect(forecast(new Array<null>(500).fill(null), hourMs)).toBeNull();
  });

  it.each([14, 28])('cover what they say they cover, from %i days', (days) => {
    const levels = [0.8, 0.95];
    const inside = [0, 0];
    const runs = 25;
    for (let seed = 0; seed < runs; seed++) {
      const normal = normals(1000 + seed);
      let drift = 0;
      const whole = made((days + 7) * 24, (hour) => {
        drift = 0.9 * drift + 4 * normal();
        return rhythm(hour) + drift;
      });
      const { intervals } = forecast(whole.slice(0, days * 24), hourMs, { levels })!;
      intervals.forEach(({ low, high }, k) => {
        for (let i = 0; i < 168; i++) if (whole[days * 24 + i]! >= low[i]! && whole[days * 24 + i]! <= high[i]!) inside[k]!++;
      });
    }
    levels.forEach((level, k) => expect(Math.abs(inside[k]! / (168 * runs) - level)).toBeLessThan(0.05));
  });

  it('report how they would have done, beside the same hour of the week before', () => {
    const normal = normals(8);
    const { backtest } = forecast(made(28 * 24, (hour) => rhythm(hour) + 10 * normal()), hourMs)!;
    expect(backtest.origins).toBeGreaterThan(15);
    // Noise of 10 has a mean size of 7.98; the difference of two such values 11.28.
    expect(backtest.meanAbsoluteError).toBeLessThan(0.95 * backtest.naiveMeanAbsoluteError);
    expect(Math.abs(backtest.naiveMeanAbsoluteError - 11.28)).toBeLessThan(0.6);
  });
});
