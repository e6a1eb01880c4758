import fc from 'fast-check';
import { costTrend, mannKendallP, senSlope, type TrendPoint } from './trend.js';

const day = 86_400_000;
const series = (values: readonly number[]): TrendPoint[] => values.map((value, i) => ({ atMs: i * day, value }));

describe('trend of a cost', () => {
  it('is unknown below five days', () => expect(costTrend(series([1, 2, 3, 4]))).toEqual({ direction: 'unknown', changePercentPerWeek: null, significance: null }));

  it('rises or falls by its slope a week, in percent of its median', () => {
    expect(costTrend(series([100, 101, 102, 103, 104, 105, 106]))).toMatchObject({ direction: 'rising', changePercentPerWeek: expect.closeTo(700 / 103, 6) });
    expect(costTrend(series([106, 105, 104, 103, 102, 101, 100])).direction).toBe('falling');
  });

  it('is steady where chance could have drawn it, where it is flat, and where it hardly moves', () => {
    expect(costTrend(series([100, 120, 90, 110, 95, 115, 100]))).toMatchObject({ direction: 'steady' });
    expect(costTrend(series([5, 5, 5, 5, 5]))).toEqual({ direction: 'steady', changePercentPerWeek: 0, significance: 1 });
    expect(costTrend(series([100_000, 100_001, 100_002, 100_003, 100_004, 100_005, 100_006])).direction).toBe('steady');
    expect(costTrend(series([0, 0, 0, 0, 0]))).toMatchObject({ direction: 'steady', changePercentPerWeek: null });
  });

  it('one wild day does not make a slope', () => {
    expect(senSlope(series([10, 10, 10, 1000, 10, 10, 10]))).toBe(0);
    expect(senSlope([])).toBe(0);
  });

  // Score 45 and variance 125 without ties; score 3 and variance 83.67 with ties of 3, 3 and 2: z = (|score| - 1) / sqrt(variance), by erfc.
  it('has the p-value of the normal approximation with corrections', () => {
    expect(mannKendallP([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])).toBeCloseTo(8.303e-5, 7);
    expect(mannKendallP([23, 24, 29, 6, 29, 24, 24, 29, 23])).toBeCloseTo(0.8269, 3);
  });

  it('law: a p-value lies in 0..1, and time reversed it is the same', () => {
    fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 2, maxLength: 30 }), (values) => {
      const p = mannKendallP(values);
      expect(p >= 0 && p <= 1).toBe(true);
      expect(mannKendallP(values.toReversed())).toBeCloseTo(p, 10);
    }));
  });
});
