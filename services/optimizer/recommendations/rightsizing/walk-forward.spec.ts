import { foldsOf, hoursOf, judge, type Trace } from './walk-forward.js';

const MINUTE = 60_000;
const DAY = 86_400_000;
const trace = (step: number, count: number, value: (i: number) => number): Trace => {
  const timesMs = Array.from({ length: count }, (_, i) => i * step);
  return { name: 't', resource: 'cpu', provisioned: 100, timesMs, values: timesMs.map((_, i) => value(i)) };
};

describe('walking forward', () => {
  it('takes 14 days and the next 7, moved on by 7', () => {
    const folds = foldsOf(trace(60 * MINUTE, 28 * 24, () => 1));
    expect(folds.map(({ from, split, to }) => [from, split, to])).toEqual([[0, 14 * 24, 21 * 24], [7 * 24, 21 * 24, 28 * 24]]);
  });

  it('takes halves of what is shorter, and nothing of next to nothing', () => {
    expect(foldsOf(trace(MINUTE, 1200, () => 1)).map(({ from, split, to }) => [from, split, to])).toEqual([[0, 600, 1200]]);
    expect(foldsOf(trace(MINUTE, 19, () => 1))).toEqual([]);
  });

  it('shows a rule the past alone', () => {
    const seen: number[] = [];
    judge([trace(DAY / 24, 21 * 24, (i) => i)], ({ values }) => {
      seen.push(Math.max(...values));
      return 0;
    });
    expect(seen).toEqual([14 * 24 - 1]);
  });

  it('scores what is known beforehand', () => {
    const halves = trace(MINUTE, 100, (i) => (i % 2 === 0 ? 50 : 100));
    expect(judge([halves], () => 75)).toMatchObject({ traces: 1, folds: 1, requestRatio: 0.75, samplesOver: 0.5, overruns: 1 });
    expect(judge([halves], () => 75).unserved).toBeCloseTo(25 / 150, 12);
    expect(judge([halves], () => 100)).toMatchObject({ samplesOver: 0, unserved: 0, overruns: 0 });
    expect(judge([], () => 1)).toMatchObject({ traces: 0, requestRatio: 0 });
  });

  it('keeps an hour\'s mean, maximum and distribution', () => {
    const hours = hoursOf('cpu', [0, MINUTE, 61 * MINUTE], [10, 30, 5]);
    expect(hours.map(({ startMs, coveredMinutes, cpuMeanMillicores, cpuMaxMillicores }) => [startMs, coveredMinutes, cpuMeanMillicores, cpuMaxMillicores])).toEqual([[0, 2, 20, 30], [3_600_000, 1, 5, 5]]);
    expect(hoursOf('memory', [0, MINUTE], [10, 30])[0]).toMatchObject({ memoryMaxBytes: 30, cpuMeanMillicores: null });
  });
});
