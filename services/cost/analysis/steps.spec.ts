import fc from 'fast-check';
import { aggregate, noCosts, totalOf, type CostLine } from './aggregate.js';
import { accumulate, cutIntoSteps, StepError, type Accumulation } from './steps.js';

const hour = 3_600_000;
const day = 24 * hour;
/** Wednesday. */
const start = Date.UTC(2026, 0, 28);
const line = (startMs: number, cpu: bigint, namespace = 'one'): CostLine =>
  ({ name: `${namespace}-${startMs}`, kind: 'container', properties: { cluster: 'c', namespace }, startMs, endMs: startMs + hour, costs: { ...noCosts, cpu } });
const hourly = (count: number, from = start): CostLine[] => Array.from({ length: count }, (_, i) => line(from + i * hour, 1n));
const stepsOf = (lines: CostLine[], count: number, stepMs: number, from = start) =>
  cutIntoSteps(lines, from, from + count * stepMs, stepMs).map((step) => ({ ...step, lines: aggregate(step.lines, ['namespace']) }));

describe('steps', () => {
  it('cuts a window from its start; the last step may be short; lines outside are left out', () => {
    const steps = cutIntoSteps([line(start - hour, 1n), ...hourly(5), line(start + 5 * hour, 1n)], start, start + 5 * hour, 2 * hour);
    expect(steps.map(({ startMs, endMs, lines }) => [(startMs - start) / hour, (endMs - start) / hour, lines.length])).toEqual([[0, 2, 2], [2, 4, 2], [4, 5, 1]]);
    expect(cutIntoSteps(hourly(5), start, start + 5 * hour)).toHaveLength(1);
  });

  it('refuses an empty window, a step of nothing and millions of them', () => {
    expect(() => cutIntoSteps([], start, start)).toThrow(StepError);
    expect(() => cutIntoSteps([], start, start + day, 0)).toThrow(StepError);
    expect(() => cutIntoSteps([], start, start + 100 * day, 1)).toThrow('more than 100000');
  });
});

describe('accumulation', () => {
  it.each<[Accumulation, number, number, number[]]>([
    ['none', 30, hour, Array<number>(30).fill(1)], ['hour', 30, hour, Array<number>(30).fill(1)], ['all', 30, hour, [30]], ['day', 30, hour, [24, 6]], ['day', 2, day, [24, 24]],
    ['week', 6, day, [96, 48]], ['month', 6, day, [96, 48]],
  ])('%s of %i steps', (to, count, stepMs, expected) => {
    const merged = accumulate(stepsOf(hourly((count * stepMs) / hour), count, stepMs), to);
    expect(merged.map(({ lines }) => Number(lines[0]?.totalNanos))).toEqual(expected);
  });

  it('leaves weeks as they are', () => {
    expect(accumulate(stepsOf(hourly(14 * 24), 2, 7 * day), 'week').map(({ startMs }) => (startMs - start) / day)).toEqual([0, 7]);
  });

  it('refuses steps of the wrong length', () => {
    expect(() => accumulate(stepsOf(hourly(4), 2, 2 * hour), 'day')).toThrow('steps must last 1 h or 24 h, not 2 h');
    expect(accumulate([], 'day')).toEqual([]);
  });

  it('law: accumulation changes no total', () => {
    const lines = fc.array(fc.tuple(fc.nat(71), fc.bigInt({ min: 0n, max: 10n ** 9n }), fc.constantFrom('one', 'two')).map(([at, cpu, namespace]) => line(start + at * hour, cpu, namespace)), { maxLength: 60 });
    fc.assert(fc.property(lines, fc.constantFrom<Accumulation>('none', 'all', 'hour', 'day'), (all, to) => {
      const merged = accumulate(stepsOf(all, 72, hour), to);
      const sum = merged.flatMap(({ lines: each }) => each).reduce((total, { costs }) => total + totalOf(costs), 0n);
      expect(sum).toBe(all.reduce((total, { costs }) => total + costs.cpu, 0n));
    }));
  });
});
