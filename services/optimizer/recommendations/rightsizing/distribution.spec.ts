import fc from 'fast-check';
import { RELATIVE_ERROR } from '@upid/contracts';
import { distributionOf, fromBucketCounts, logGrid, merged, quantile, scaled, toBucketCounts, totalOf, uncoveredBy } from './distribution.js';

const usage = fc.array(fc.double({ min: 0.01, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 200 });
const plain = (distribution: Iterable<readonly [number, number]>) => [...distribution].sort((a, b) => a[0] - b[0]);

describe('log-bucket distributions', () => {
  it('merge by addition, in any order and grouping', () => {
    fc.assert(fc.property(usage, usage, usage, (a, b, c) => {
      const whole = plain(distributionOf([...a, ...b, ...c]));
      expect(plain(merged(distributionOf(a), distributionOf(b), distributionOf(c)))).toEqual(whole);
      expect(plain(merged(distributionOf(c), merged(distributionOf(b), distributionOf(a))))).toEqual(whole);
    }));
  });

  it('give percentiles within their relative error', () => {
    fc.assert(fc.property(usage, fc.double({ min: 0, max: 1, noNaN: true }), (values, q) => {
      const exact = [...values].sort((a, b) => a - b)[Math.max(1, Math.ceil(q * values.length)) - 1] ?? 0;
      const got = quantile(distributionOf(values), q) ?? 0;
      expect(Math.abs(got - exact)).toBeLessThanOrEqual(exact * RELATIVE_ERROR * (1 + 1e-6));
      expect(RELATIVE_ERROR).toBeLessThan(0.025);
    }));
  });

  it('come back from their plain form', () => {
    fc.assert(fc.property(usage, (values) => {
      const distribution = distributionOf([0, ...values]);
      expect(plain(fromBucketCounts(JSON.parse(JSON.stringify(toBucketCounts(distribution)))))).toEqual(plain(distribution));
    }));
  });

  it('decay by scaling: percentiles stay, weights fade', () => {
    fc.assert(fc.property(usage, fc.double({ min: 0.001, max: 1, noNaN: true }), (values, factor) => {
      const distribution = distributionOf(values);
      expect(totalOf(scaled(distribution, factor))).toBeCloseTo(values.length * factor, 6);
      expect(quantile(merged(scaled(distribution, factor)), 0.9)).toBeDefined();
    }));
    const faded = merged(scaled(distributionOf(Array<number>(10).fill(1000)), 2 ** -10), distributionOf([10]));
    expect(quantile(faded, 0.9)).toBeCloseTo(10, 0);
  });

  it('say what a request leaves uncovered, within a bucket', () => {
    fc.assert(fc.property(usage, fc.double({ min: 0.01, max: 1e6, noNaN: true }), (values, request) => {
      const { overShare, unservedShare } = uncoveredBy(distributionOf(values), request);
      const gamma = 1.04;
      const exactly = (level: number) => ({
        over: values.filter((value) => value > level).length / values.length,
        unserved: values.reduce((sum, value) => sum + Math.max(0, value - level), 0) / values.reduce((sum, value) => sum + value, 0),
      });
      expect(overShare).toBeLessThanOrEqual(exactly(request / gamma).over + 1e-9);
      expect(overShare).toBeGreaterThanOrEqual(exactly(request * gamma).over - 1e-9);
      expect(unservedShare).toBeLessThanOrEqual(exactly(request / gamma).unserved + 0.045);
      expect(unservedShare).toBeGreaterThanOrEqual(exactly(request * gamma).unserved - 0.045);
    }));
  });

  it('keep their weight on the fine grid, blurred or not', () => {
    fc.assert(fc.property(usage, fc.constantFrom(0, 0.03, 0.2), (values, spread) => {
      const { cells, zeros } = logGrid(distributionOf([0, ...values]), spread);
      expect(cells.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(values.length, 6);
      expect(zeros).toBe(1);
    }));
    expect(logGrid(new Map(), 0.03).cells).toHaveLength(0);
  });
});
