import fc from 'fast-check';
import { autocorrelation, madSigma, median, normalQuantile, normalTail, ranks, selectInPlace, twoSidedP } from './statistics.js';

const numbers = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 60 });

describe('order statistics', () => {
  it('select what sorting would', () => {
    fc.assert(fc.property(numbers, fc.nat(), (values, k) => {
      const at = k % values.length;
      expect(selectInPlace(Float64Array.from(values), at)).toBe([...values].sort((a, b) => a - b)[at]);
    }));
  });

  it('take the middle, or the mean of the middle two', () => {
    fc.assert(fc.property(numbers, (values) => {
      const sorted = [...values].sort((a, b) => a - b);
      const half = sorted.length >> 1;
      expect(median(values)).toBe(sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1]! + sorted[half]!) / 2);
    }));
    expect(median([])).toBeNaN();
  });

  it('leave their arguments as they are', () => {
    const values = [3, 1, 2];
    median(values);
    madSigma(values);
    expect(values).toEqual([3, 1, 2]);
  });

  it('scale the absolute deviation to the standard deviation of a normal', () => {
    const quantiles = Array.from({ length: 9999 }, (_, i) => 5 + 2 * normalQuantile((i + 1) / 10000));
    expect(madSigma(quantiles)).toBeCloseTo(2, 3);
  });

  it('share ranks among ties', () => {
    expect([...ranks([10, 20, 10, 5])]).toEqual([2.5, 4, 2.5, 1]);
  });
});

describe('autocorrelation', () => {
  it('is 1 at lag 0 and at most 1 in size', () => {
    fc.assert(fc.property(numbers, (values) => {
      const correlation = autocorrelation(values, values.length - 1);
      expect(correlation[0]).toBe(1);
      for (const value of correlation) expect(Math.abs(value)).toBeLessThanOrEqual(1 + 1e-9);
    }));
  });

  it('alternates for an alternating series', () => {
    const correlation = autocorrelation(Array.from({ length: 1000 }, (_, i) => (i % 2 ? 1 : -1)), 2);
    expect(correlation[1]).toBeCloseTo(-1, 2);
    expect(correlation[2]).toBeCloseTo(1, 2);
  });
});

describe('the normal distribution', () => {
  // Abramowitz and Stegun, tables 26.1 and 26.2.
  it.each([[0, 0.5], [1, 0.158655253931457], [1.959963984540054, 0.025], [3, 0.00134989803163], [6, 9.86587645037698e-10], [10, 7.61985302416053e-24]])(
    'has above %d the share %d', (z, tail) => {
      expect(normalTail(z) / tail).toBeCloseTo(1, 8);
      expect(normalTail(-z)).toBeCloseTo(1 - tail, 12);
    });

  it('has no step where one formula follows the other', () => {
    expect(normalTail(3 - 1e-12) / normalTail(3)).toBeCloseTo(1, 11);
  });

  it('inverts itself', () => {
    fc.assert(fc.property(fc.double({ min: 1e-12, max: 1 - 1e-12, noNaN: true }), (p) => {
      expect(normalTail(-normalQuantile(p)) / p).toBeCloseTo(1, 8);
    }));
    expect(normalQuantile(0)).toBe(-Infinity);
    expect(normalQuantile(1)).toBe(Infinity);
    expect(twoSidedP(0)).toBe(1);
  });
});
