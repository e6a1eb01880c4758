import fc from 'fast-check';
import { addCell, addTotals, breakdown, costRates, noCost, type CostTotal } from './breakdown.js';

const cell = (cpuNanos: bigint, actualNanos: bigint | null) => ({ cpuNanos, memoryNanos: 0n, gpuNanos: 0n, allocatedNanos: cpuNanos, actualNanos });

describe('breakdown', () => {
  it('wasted = allocated - actual where every cell was measured', () => {
    const said = breakdown([cell(100n, 30n), cell(50n, 50n)].reduce(addCell, noCost), 'USD');
    expect(said).toEqual({
      allocated: { currency: 'USD', nanos: 150n }, actual: { currency: 'USD', nanos: 80n }, wasted: { currency: 'USD', nanos: 70n },
      unmeasured: { currency: 'USD', nanos: 0n }, wastePercentage: expect.closeTo(46.6667, 3), usageCoverage: 1,
    });
  });

  it('unknown usage is null with its coverage, never zero', () => {
    const said = breakdown(addCell(noCost, cell(100n, null)), 'USD');
    expect(said).toMatchObject({ actual: null, wasted: null, wastePercentage: null, usageCoverage: 0, unmeasured: { nanos: 100n } });
  });

  it('partly known: the unmeasured part is neither used nor waste', () => {
    const said = breakdown([cell(100n, 25n), cell(100n, null)].reduce(addCell, noCost), 'USD');
    expect(said).toMatchObject({ allocated: { nanos: 200n }, actual: { nanos: 25n }, wasted: { nanos: 75n }, unmeasured: { nanos: 100n }, wastePercentage: 75, usageCoverage: 0.5 });
  });

  it('nothing allocated has no waste percentage; nothing at all has no coverage', () => {
    expect(breakdown(addCell(noCost, cell(0n, 0n)), 'USD')).toMatchObject({ actual: { nanos: 0n }, wastePercentage: null, usageCoverage: 1 });
    expect(breakdown(noCost, 'USD')).toMatchObject({ actual: null, wasted: null, wastePercentage: null, usageCoverage: null });
  });

  it('law: allocated = actual + wasted + unmeasured, and totals add up in any grouping', () => {
    const cells = fc.array(fc.tuple(fc.bigInt({ min: 0n, max: 10n ** 12n }), fc.option(fc.double({ min: 0, max: 1, noNaN: true }))), { minLength: 1, maxLength: 30 });
    fc.assert(fc.property(cells, fc.nat(30), (raw, cut) => {
      const each = raw.map(([cost, used]) => cell(cost, used === null ? null : BigInt(Math.floor(Number(cost) * used))));
      const whole = each.reduce(addCell, noCost);
      const parts: CostTotal = addTotals(each.slice(0, cut).reduce(addCell, noCost), each.slice(cut).reduce(addCell, noCost));
      expect(parts).toEqual(whole);
      const said = breakdown(whole, 'EUR');
      expect((said.actual?.nanos ?? 0n) + (said.wasted?.nanos ?? 0n) + said.unmeasured.nanos).toBe(said.allocated.nanos);
    }), { numRuns: 1000 });
  });
});

describe('rates', () => {
  it('is the mean over the covered hours, by the day and by the month of 730 hours', () => {
    expect(costRates({ currency: 'USD', nanos: 24_000_000n }, 24 * 3_600_000)).toEqual({
      hourly: { currency: 'USD', nanos: 1_000_000n }, daily: { currency: 'USD', nanos: 24_000_000n }, monthly: { currency: 'USD', nanos: 730_000_000n },
    });
  });

  it('is unknown where nothing is covered', () => {
    expect(costRates({ currency: 'USD', nanos: 0n }, 0)).toBeNull();
  });
});
