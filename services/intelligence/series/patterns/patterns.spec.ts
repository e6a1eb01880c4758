import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { normals, uniforms } from '@upid/testing/random';
import { findPatterns } from './patterns.js';
import { hourOfWeek, hourOfWeekName, weekProfile } from './hour-of-week.js';
import { fft, pairwiseAutocorrelation } from './spectrum.js';

const minuteMs = 60_000;
const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const monday = Date.UTC(2026, 0, 5);

/** A signal with noise of standard deviation 1. */
function noisy(length: number, signal: (step: number) => number, seed = 1): number[] {
  const normal = normals(seed);
  return Array.from({ length }, (_, step) => signal(step) + normal());
}

const found = (series: readonly (number | null)[], stepMs: number, startMs = monday): string[] => findPatterns(series, stepMs, startMs).map(({ type, periodSteps }) => `${type} ${periodSteps}`);

/** By the hour: busy on working days from 9 to 18, or any other hours. */
const working = (hour: number, from = 9, to = 18): number => (Math.floor(hour / 24) % 7 < 5 && hour % 24 >= from && hour % 24 < to ? 30 : 5);
const dayOfMonth = (hour: number): number => new Date(monday + hour * hourMs).getUTCDate();

describe('patterns', () => {
  it('are days', () => {
    expect(found(noisy(5 * 24, (hour) => 10 * Math.sin((2 * Math.PI * hour) / 24)), hourMs)).toEqual(['daily 24']);
    expect(found(noisy(14 * 288, (step) => (step % 288 < 100 ? 20 : 0)), 5 * minuteMs)).toEqual(['daily 288']);
    expect(found(noisy(3 * 24, (hour) => (hour % 24 === 3 ? 60 : 5)), hourMs)).toEqual(['daily 24']);
  });

  it('are weeks and working hours, local ones', () => {
    for (const weeks of [2, 4, 13]) expect(found(noisy(weeks * 168, (hour) => working(hour)), hourMs)).toEqual(['daily 24', 'weekly 168', 'business_hours 168']);
    expect(found(noisy(3 * 168, (hour) => (hour % 168 === 50 ? 60 : 5)), hourMs)).toEqual(['weekly 168']);
    const offsetMsAt = (): number => -5 * hourMs;
    const evidence = findPatterns(noisy(4 * 168, (hour) => working((hour + 4 * 168 - 5) % (4 * 168))), hourMs, monday, { offsetMsAt }).find(({ type }) => type === 'business_hours')!.evidence;
    expect(evidence).toContain('Monday to Friday, 09:00 to 18:00 local time');
  });

  it('are not working hours where the weekend is like any day, or the days differ in other ways', () => {
    expect(found(noisy(4 * 168, (hour) => (hour % 24 >= 9 && hour % 24 < 18 ? 30 : 5)), hourMs)).toEqual(['daily 24']);
    expect(found(noisy(4 * 168, (hour) => 10 * Math.sin((2 * Math.PI * hour) / 168)), hourMs)).toEqual(['weekly 168']);
  });

  it('are weeks alone where one day has what the others lack', () => {
    for (const days of [1, 2, 3]) {
      const some = found(noisy(8 * 168, (hour) => (Math.floor(hour / 24) % 7 < days && hour % 24 >= 3 && hour % 24 < 9 ? 80 : 5)), hourMs);
      expect(some).toContain('weekly 168');
      expect(some).not.toContain('daily 24');
    }
  });

  it('are whatever else comes again: minutes, hours, days', () => {
    expect(found(noisy(1440, (minute) => (minute % 60 < 2 ? 40 : 5)), minuteMs)).toEqual(['other 60']);
    expect(found(noisy(2 * 1440, (minute) => (minute % 7 === 0 ? 40 : 5)), minuteMs)).toEqual(['other 7']);
    expect(found(noisy(30 * 24, (hour) => 10 * Math.sin((2 * Math.PI * hour) / 36)), hourMs)).toEqual(['other 36']);
    expect(found(noisy(14 * 24, (hour) => (hour % 7 === 0 ? 40 : 5)), hourMs)).toEqual(['other 7']);
  });

  it('are found beside each other', () => {
    const both = (minute: number): number => (minute % 60 < 3 ? 40 : 5) + 20 * Math.sin((2 * Math.PI * minute) / 1440);
    expect(found(noisy(5 * 1440, both), minuteMs)).toEqual(['other 60', 'daily 1440']);
    const apart = (minute: number): number => (minute % 7 === 0 ? 20 : 5) + 20 * Math.sin((2 * Math.PI * minute) / 1440);
    expect(found(noisy(3 * 1440, apart), minuteMs)).toEqual(['other 7', 'daily 1440']);
  });

  it('are days of the month, of two months already', () => {
    for (const days of [60, 90, 180]) {
      expect(found(noisy(days * 24, (hour) => (dayOfMonth(hour) === 1 ? 60 : 5)), hourMs)).toEqual(['other 730']);
      expect(found(noisy(days * 24, (hour) => working(hour) + (dayOfMonth(hour) <= 2 ? 60 : 0)), hourMs)).toContain('other 730');
    }
    for (const days of [90, 180]) expect(found(noisy(days * 24, (hour) => (new Date(monday + hour * hourMs + 2 * dayMs).getUTCDate() <= 2 ? 60 : 5)), hourMs)).toEqual(['other 730']);
    expect(found(noisy(59 * 24, (hour) => (dayOfMonth(hour) === 1 ? 60 : 5)), hourMs)).toEqual([]);
  });

  it('are not there in noise, white, red or wandering, in steps and trends', () => {
    const makers: Record<string, (normal: () => number) => () => number> = {
      white: (normal) => normal,
      heavy: (normal) => () => normal() / Math.sqrt((normal() ** 2 + normal() ** 2 + normal() ** 2) / 3),
      alternating: (normal) => ((value) => () => (value = -0.9 * value + normal()))(0),
      red: (normal) => ((value) => () => (value = 0.5 * value + normal()))(0),
      redder: (normal) => ((value) => () => (value = 0.97 * value + normal()))(0),
      reddest: (normal) => ((value) => () => (value = 0.99 * value + normal()))(0),
      walk: (normal) => ((value) => () => (value += normal()))(0),
      drift: (normal) => ((value) => () => (value += normal() + 0.3))(0),
      steps: (normal) => ((value) => () => (value = Math.abs(normal()) > 2.8 ? 5 * normal() : value) + 0.3 * normal())(0),
      trend: (normal) => ((step) => () => 0.05 * step++ + normal())(0),
      spikes: (normal) => () => (Math.abs(normal()) > 2.5 ? 20 : 1) * Math.abs(normal()),
    };
    let [seen, all] = [0, 0];
    for (const [name, make] of Object.entries(makers)) {
      for (const [length, stepMs] of [[336, hourMs], [672, hourMs], [2016, 5 * minuteMs], [75, dayMs]] as const) {
        for (let seed = 0; seed < 4; seed++) {
          const next = make(normals(seed * 1009 + length + name.length));
          if (found(Array.from({ length }, next), stepMs).length > 0) seen++;
          all++;
        }
      }
    }
    expect(seen / all).toBeLessThan(0.01);
  });

  it('are not longer than they are: noise on a daily rhythm is no week', () => {
    for (let seed = 0; seed < 20; seed++) expect(found(noisy(28 * 24, (hour) => 8 * Math.sin((2 * Math.PI * hour) / 24), seed), hourMs)).toEqual(['daily 24']);
  });

  it('are found where noise is nearly as large, with a confidence that says so', () => {
    const patterns = findPatterns(noisy(8 * 168, (hour) => working(hour, 8, 20) / 8), hourMs, monday);
    expect(patterns.map(({ type }) => type)).toEqual(['daily', 'weekly', 'business_hours']);
    for (const { confidence } of patterns) expect(confidence).toBeLessThan(0.75);
  });

  it('do not depend on level, unit and gaps', () => {
    const arbitrary = fc.record({ seed: fc.integer({ min: 0, max: 9999 }), scale: fc.constantFrom(0.001, 2, 1e6), shift: fc.integer({ min: -1000, max: 1000 }), gapShare: fc.constantFrom(0, 0.05, 0.2) });
    fc.assert(fc.property(arbitrary, ({ seed, scale, shift, gapShare }) => {
      const uniform = uniforms(seed + 1);
      const series = noisy(4 * 168, (hour) => working(hour), seed).map((value) => (uniform() < gapShare ? null : value));
      const one = findPatterns(series, hourMs, monday);
      const other = findPatterns(series.map((value) => (value === null ? null : scale * (value + shift))), hourMs, monday);
      expect(other.map(({ type }) => type)).toEqual(['daily', 'weekly', 'business_hours']);
      other.forEach(({ confidence }, i) => expect(confidence).toBeCloseTo(one[i]!.confidence, 6));
    }), { numRuns: 20 });
  });

  it('rest on what is known: nothing is a cycle before the first value or after the last', () => {
    const series = noisy(4 * 168, (hour) => working(hour));
    const unknown = new Array<null>(2 * 168 + 5).fill(null);
    expect(findPatterns([...unknown, ...series, ...unknown], hourMs, monday - unknown.length * hourMs)).toEqual(findPatterns(series, hourMs, monday));
  });

  it('are nothing in what is constant, empty or short', () => {
    expect(found(new Array<number>(1000).fill(42), hourMs)).toEqual([]);
    expect(found(new Array<number>(1000).fill(0.1).map((value, i) => value + (i % 24 === 0 ? 1e-17 : 0)), hourMs)).toEqual([]);
    expect(found([], hourMs)).toEqual([]);
    expect(found(new Array<null>(500).fill(null), hourMs)).toEqual([]);
    expect(found([1, 2, 1, 2, 1], hourMs)).toEqual([]);
  });

  it('have a confidence that is the share of the variance that kept cycles confirm', () => {
    for (const amplitude of [0.5, 1, 2, 4]) {
      const share = amplitude ** 2 / 2 / (amplitude ** 2 / 2 + 1);
      const [daily] = findPatterns(noisy(60 * 24, (hour) => amplitude * Math.sin((2 * Math.PI * hour) / 24)), hourMs, monday, { minConfidence: 0 });
      expect(daily!.type).toBe('daily');
      // The mean of 14 other days carries a fourteenth of the noise.
      expect(Math.abs(daily!.confidence - (share - (1 - share) / 14))).toBeLessThan(0.05);
    }
  });

  it('are those of measured series', () => {
    const rows = readFileSync(join(import.meta.dirname, '../../../../testdata/seasonal/electricity_hourly.csv'), 'utf8').trim().split('\n').slice(1);
    expect(found(rows.slice(-4368).map((row) => Number(row.split(',')[1])), hourMs)).toEqual(['daily 24', 'weekly 168']);
  });
});

describe('the usual week', () => {
  it('starts on Monday in local time', () => {
    expect(hourOfWeek(monday)).toBe(0);
    expect(hourOfWeek(monday - 1)).toBe(167);
    expect(hourOfWeek(0)).toBe(72);
    expect(hourOfWeek(monday, () => -hourMs)).toBe(167);
    expect(hourOfWeekName(3 * 24 + 9)).toBe('Thu 09:00');
  });

  it('has a mean for each hour, a peak and a low', () => {
    const { means, counts, peakHour, lowHour, variability } = weekProfile(Array.from({ length: 4 * 168 }, (_, hour) => (hour % 168 === 34 ? 9 : hour % 168 === 100 ? 1 : 5)), hourMs, monday);
    expect([means[34], means[100], means[0], counts[0]]).toEqual([9, 1, 5, 4]);
    expect([hourOfWeekName(peakHour!), hourOfWeekName(lowHour!)]).toEqual(['Tue 10:00', 'Fri 04:00']);
    expect(variability).toBeCloseTo(Math.sqrt(32 / 168) / 5, 9);
  });

  it('rests on the hour of the day while each hour of the week has been seen once', () => {
    const once = Array.from({ length: 168 }, (_, hour) => (hour === 34 ? 50 : hour % 24 === 15 ? 30 + hour / 100 : hour % 24));
    expect(hourOfWeekName(weekProfile(once, hourMs, monday).peakHour!)).toBe('Sun 15:00');
  });

  it('says nothing of what was not seen', () => {
    const { means, peakHour, lowHour, variability } = weekProfile([1, null, 3], hourMs, monday);
    expect([means[0], means[1], peakHour, lowHour]).toEqual([1, Number.NaN, null, null]);
    expect(variability).toBeCloseTo(0.5, 9);
    expect(weekProfile([], hourMs, monday).variability).toBeNull();
  });
});

describe('the spectrum', () => {
  it('is the discrete Fourier transform', () => {
    fc.assert(fc.property(fc.integer(), fc.constantFrom(2, 8, 64), (seed, n) => {
      const normal = normals(seed);
      const values = Float64Array.from({ length: n }, normal);
      const re = values.slice();
      const im = new Float64Array(n);
      fft(re, im);
      for (let k = 0; k < n; k++) {
        let [cosine, sine] = [0, 0];
        values.forEach((value, i) => {
          cosine += value * Math.cos((2 * Math.PI * i * k) / n);
          sine -= value * Math.sin((2 * Math.PI * i * k) / n);
        });
        expect(re[k]).toBeCloseTo(cosine, 8);
        expect(im[k]).toBeCloseTo(sine, 8);
      }
    }), { numRuns: 20 });
    expect(() => fft(new Float64Array(3), new Float64Array(3))).toThrow(RangeError);
  });

  it('gives the autocorrelation of the pairs that are there', () => {
    const values = Float64Array.from([1, -1, Number.NaN, -1, 1, -1]);
    const result = pairwiseAutocorrelation(values);
    expect(result[0]).toBeCloseTo(1, 12);
    expect(result[1]).toBeCloseTo(-1, 12);
    expect(result[2]).toBeCloseTo(1, 12);
    expect(pairwiseAutocorrelation(new Float64Array(8))).toEqual(new Float64Array(8));
  });
});
