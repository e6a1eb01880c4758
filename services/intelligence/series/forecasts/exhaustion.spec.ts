import fc from 'fast-check';
import { normals } from '@upid/testing/random';
import { timeToExhaustion } from './exhaustion.js';

const hourMs = 3_600_000;

/** Level 500, a slope an hour, a daily rhythm, and errors that carry on by φ from hour to hour. */
function leak({ hours, slope = 0, daily = 0, phi = 0, deviation = 0, seed = 1 }: { hours: number; slope?: number; daily?: number; phi?: number; deviation?: number; seed?: number }): number[] {
  const normal = normals(seed);
  let error = 0;
  return Array.from({ length: hours }, (_, hour) => {
    error = phi * error + deviation * normal();
    return 500 + slope * hour + daily * Math.sin((2 * Math.PI * hour) / 24) + error;
  });
}

describe('time to exhaustion', () => {
  it('is exact for a straight line', () => {
    const result = timeToExhaustion(leak({ hours: 100, slope: 2 }), hourMs, 1000)!;
    expect(result).toMatchObject({ hours: 151, earliestHours: 151, latestHours: 151, p: 0, sinceIndex: 0 });
    expect(result.slopePerHour).toBeCloseTo(2, 9);
  });

  it('is nothing for what is flat, falls, or is too short', () => {
    expect(timeToExhaustion(leak({ hours: 100 }), hourMs, 1000)).toBeNull();
    expect(timeToExhaustion(leak({ hours: 100, slope: -2, deviation: 1 }), hourMs, 1000)).toBeNull();
    expect(timeToExhaustion(leak({ hours: 11, slope: 2 }), hourMs, 1000)).toBeNull();
    expect(timeToExhaustion([], hourMs, 1000)).toBeNull();
    expect(timeToExhaustion(new Array<null>(100).fill(null), hourMs, 1000)).toBeNull();
  });

  it('is nothing where the limit lies out of sight', () => {
    expect(timeToExhaustion(leak({ hours: 100, slope: 0.001 }), hourMs, 1000)).toBeNull();
  });

  it('does not change with the unit, the level or the gaps of a line', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 1000 }), fc.constantFrom(0.001, 1, 1024), fc.integer({ min: -500, max: 500 }), (seed, scale, shift) => {
      const series = leak({ hours: 120, slope: 3, deviation: 10, seed });
      const one = timeToExhaustion(series, hourMs, 1500)!;
      const other = timeToExhaustion(series.map((value) => scale * (value + shift)), hourMs, scale * (1500 + shift))!;
      expect(other.hours).toBe(one.hours);
      expect(other.slopePerHour).toBeCloseTo(scale * one.slopePerHour, 6);
      const holes = leak({ hours: 120, slope: 3 }).map((value, hour) => (hour % 7 === seed % 7 && hour < 119 ? null : value));
      expect(timeToExhaustion(holes, hourMs, 1500)!.hours).toBe(Math.ceil(1000 / 3) - 119);
    }), { numRuns: 40 });
  });

  it('has its median within its interval, and a wider interval for a higher level', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 1000 }), fc.constantFrom(0, 0.9, 1), (seed, phi) => {
      const series = leak({ hours: 240, slope: 2, phi, deviation: 5, seed });
      const narrow = timeToExhaustion(series, hourMs, 1500, { level: 0.5 });
      const wide = timeToExhaustion(series, hourMs, 1500, { level: 0.95 });
      if (!narrow || !wide) return;
      expect(narrow.hours).toBe(wide.hours);
      expect(wide.earliestHours).toBeLessThanOrEqual(narrow.earliestHours);
      expect(narrow.earliestHours).toBeLessThanOrEqual(narrow.hours);
      expect(narrow.hours).toBeLessThanOrEqual(narrow.latestHours ?? Infinity);
      expect(narrow.latestHours ?? Infinity).toBeLessThanOrEqual(wide.latestHours ?? Infinity);
    }), { numRuns: 40 });
  });

  it('looks at what came after the last restart', () => {
    const saw = Array.from({ length: 300 }, (_, hour) => 100 + 5 * (hour % 120));
    const result = timeToExhaustion(saw, hourMs, 700)!;
    expect(result.sinceIndex).toBe(240);
    expect(result.hours).toBe(61);
  });

  it('counts with the peak of the day', () => {
    const result = timeToExhaustion(leak({ hours: 10 * 24, slope: 1, daily: 60 }), hourMs, 900)!;
    let truth = 0;
    while (500 + 239 + truth + 60 * Math.sin((2 * Math.PI * (239 + truth)) / 24) < 900) truth++;
    expect(Math.abs(result.hours - truth)).toBeLessThanOrEqual(2);
  });

  it('is 0 where the limit is reached', () => {
    expect(timeToExhaustion(leak({ hours: 100, slope: 2 }), hourMs, 600)!.hours).toBe(0);
  });

  it('has the truth in its interval as often as it says', () => {
    for (const { phi, deviation } of [{ phi: 0, deviation: 20 }, { phi: 0.5, deviation: 15 }, { phi: 1, deviation: 3 }]) {
      let inside = 0;
      let found = 0;
      for (let seed = 0; seed < 40; seed++) {
        const whole = leak({ hours: 12 * 240, slope: 1, phi, deviation, seed: seed + 50 });
        const result = timeToExhaustion(whole.slice(0, 240), hourMs, 1000);
        if (!result) continue;
        found++;
        const truth = whole.findIndex((value, hour) => hour >= 239 && value >= 1000) - 239;
        if (truth >= result.earliestHours && truth <= (result.latestHours ?? Infinity)) inside++;
      }
      expect(found).toBeGreaterThan(36);
      expect(inside / found).toBeGreaterThan(0.83);
      expect(inside / found).toBeLessThan(0.98);
    }
  });

  it('hardly ever sees a rise in what has none', () => {
    let found = 0;
    const runs = 50;
    for (const phi of [0, 0.5, 0.95, 1]) {
      for (let seed = 0; seed < runs; seed++) {
        if (timeToExhaustion(leak({ hours: 240, phi, deviation: 10, daily: 30, seed: seed + 900 }), hourMs, 1e9)) found++;
        if (timeToExhaustion(leak({ hours: 240, phi, deviation: 10, daily: 30, seed: seed + 900 }), hourMs, 700)) found++;
      }
    }
    expect(found / (8 * runs)).toBeLessThan(0.015);
  });

  it('takes as many values as there are', () => {
    const result = timeToExhaustion(leak({ hours: 20_000, slope: 0.01, deviation: 1 }), hourMs, 800)!;
    expect(result.hours).toBeGreaterThan(9_500);
    expect(result.hours).toBeLessThan(10_500);
  });
});
