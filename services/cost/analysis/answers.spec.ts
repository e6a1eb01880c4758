import { DAY_MS, HOUR_MS, QUERIES } from '@upid/contracts';
import { noCost, type CostTotal } from '../allocation/breakdown.js';
import { analysisOf, priceBasisOf, type AnalysisInput, type HourSum, type NodeHourSum, type PricedNode } from './answers.js';
import type { CoveredHour } from './coverage.js';

const t0 = Date.UTC(2026, 0, 5);
const price: NonNullable<PricedNode['price']> = { basis: 'price_list', source: 'the list', asOf: '2025-12-26', typical: false, note: null };
const node = (over: Partial<PricedNode> = {}): PricedNode => ({ name: 'n1', instanceType: 'm5.large', region: 'us-east-1', capacityType: 'on_demand', price, ...over });
const covered = (index: number, over: Partial<CoveredHour> = {}): CoveredHour => ({ hourMs: t0 + index * HOUR_MS, fromMs: t0 + index * HOUR_MS, toMs: t0 + (index + 1) * HOUR_MS, coveredMs: HOUR_MS, uncharged: {}, unpriced: [], ...over });
const total = (nanos: bigint, over: Partial<CostTotal> = {}): CostTotal => ({ ...noCost, cpuNanos: nanos, actualNanos: nanos / 4n, measuredNanos: nanos, cells: 12, measuredCells: 12, ...over });
/** Pods at a time of 500 millicores, each at 1000 nanos an hour. */
function hourSum(index: number, replicas = 2, over: Partial<CostTotal> = {}): HourSum {
  const nanos = BigInt(replicas * 1000);
  return {
    hourMs: t0 + index * HOUR_MS, total: total(nanos, over), presentMs: replicas * HOUR_MS, measuredMs: over.measuredCells === 0 ? 0 : replicas * HOUR_MS, requestedCpu: { costNanos: nanos, amountSeconds: replicas * 500 * 3600 }, usedCpu: { costNanos: 0n, amountSeconds: 0 },
    requestedMemory: { costNanos: 0n, amountSeconds: 0 }, usedMemory: { costNanos: 0n, amountSeconds: 0 },
  };
}
const indices = (count: number) => Array.from({ length: count }, (_, i) => i);
function input(count: number, over: Partial<AnalysisInput> = {}): AnalysisInput {
  const hours = indices(count).map((i) => covered(i));
  return {
    clusterId: 'demo', resourceType: 'workload', resourceName: 'web', namespace: 'shop', currency: 'USD', startMs: t0, endMs: t0 + count * HOUR_MS, nowMs: t0 + count * HOUR_MS, sinceMs: null, hours, rateHours: hours, uncharged: () => 0, sums: indices(count).map((i) => hourSum(i)), whole: null,
    nodes: [node()], unitCost: { businessPerDay: 4800, reason: null }, ...over,
  };
}
const answer = (count: number, over: Partial<AnalysisInput> = {}) => QUERIES.cost.analysis.response.parse(analysisOf(input(count, over)));

describe('a cost analysis', () => {
  it('tells sums, rates over the covered hours, and what they rest on', () => {
    const { current, coverage, history, unit_cost } = answer(24);
    expect(current).toEqual({
      currency: 'USD', allocated_cost: '48000', cpu_cost: '48000', memory_cost: '0', gpu_cost: '0', actual_cost: '12000', wasted_cost: '36000', waste_percentage: 75, hourly_rate: '2000', daily_cost: '48000', monthly_projection: '1460000', covered_hours: 24,
      instance_type: 'm5.large', region: 'us-east-1', pricing_model: 'on_demand', price_basis: { source: 'price_list', as_of: '2025-12-26T00:00:00.000Z', note: 'the list; 11 days old' },
    });
    expect(coverage).toEqual({ usage: 1, requests: null, cost: 1, since: '2026-01-05T00:00:00.000Z', until: '2026-01-06T00:00:00.000Z', reasons: {} });
    expect(history).toHaveLength(24);
    expect(unit_cost).toEqual({ per_thousand_requests: '10000', reason: null });
  });

  it('unknown usage is null with its reason, partly known usage with its share', () => {
    const unknown = answer(2, { sums: [0, 1].map((i) => hourSum(i, 2, { actualNanos: 0n, measuredNanos: 0n, measuredCells: 0 })) });
    expect(unknown.current).toMatchObject({ actual_cost: null, wasted_cost: null, waste_percentage: null, allocated_cost: '4000' });
    expect(unknown.coverage).toMatchObject({ usage: 0, reasons: { actual_cost: expect.stringContaining('no usage is known') } });
    expect(unknown.history[0]).toMatchObject({ actual_cost: null });
    expect(answer(2, { sums: [hourSum(0), hourSum(1, 2, { actualNanos: 0n, measuredNanos: 0n, measuredCells: 0 })] }).coverage).toMatchObject({ usage: 0.5, reasons: { actual_cost: expect.stringContaining('50 %') } });
  });

  it('what had no pod costs nothing, and says that nothing could be used', () => {
    const { current, coverage } = answer(24, { sums: [], nodes: [] });
    expect(current).toMatchObject({ allocated_cost: '0', hourly_rate: '0', actual_cost: null, waste_percentage: null, price_basis: null });
    expect(coverage).toMatchObject({ usage: null, cost: 1, reasons: { actual_cost: expect.stringContaining('nothing was charged') } });
  });

  it('what began within the range is not spread over the time before it', () => {
    const young = answer(48, { sinceMs: t0 + 46 * HOUR_MS, sums: [hourSum(46), hourSum(47)] });
    expect(young.current).toMatchObject({ hourly_rate: '2000', covered_hours: 2 });
    expect(young.history).toHaveLength(2);
  });

  it('what runs an hour a day has its cost spread over the day', () => {
    expect(answer(24, { sums: [hourSum(3)] }).current).toMatchObject({ hourly_rate: '83', allocated_cost: '2000' });
  });

  it('says what is missing: hours, usage, pods that could not be charged, nodes without a price', () => {
    const hours = indices(48).slice(24).map((i) => covered(i, { uncharged: { 'shop/Deployment/web': 3 }, unpriced: [{ node: 'n9', reason: 'no price in USD' }] }));
    const { coverage, current } = answer(48, { hours, rateHours: [], uncharged: (hour) => hour.uncharged['shop/Deployment/web'] ?? 0 });
    expect(current.monthly_projection).toBeNull();
    expect(coverage.cost).toBeCloseTo(0.5, 2);
    expect(coverage.reasons).toMatchObject({
      cost: expect.stringContaining('costs are known from 2026-01-06T00:00:00.000Z on'), uncharged: expect.stringContaining('in 24 hours up to 3 pods'), price: expect.stringContaining('n9: no price in USD'), hourly_rate: expect.stringContaining('could all of its pods be charged'),
    });
    expect(answer(4, { hours: [], rateHours: [], sums: [] }).coverage.reasons.cost).toContain('no hour of this range');
    expect(answer(48, { hours: indices(40).map((i) => covered(i)), rateHours: [] }).coverage.reasons.cost).toContain('nothing was heard');
  });

  it('names the trend by days, and the drivers by halves', () => {
    const count = 10 * 24;
    const rising = answer(count, { sums: indices(count).map((i) => hourSum(i, 2 + Math.floor(i / 24))) });
    expect(rising.trend).toMatchObject({ direction: 'rising', evidence: expect.stringContaining('over 10 days') });
    expect(rising.drivers).toEqual([{ what: expect.stringContaining('replicas: more or fewer pods'), change: String(5000 * 730) }]);
    const steady = answer(count);
    expect([steady.trend.direction, steady.drivers]).toEqual(['steady', []]);
    const short = answer(4);
    expect(short.trend).toMatchObject({ direction: 'unknown', evidence: '0 days are known: a trend takes five' });
    expect(short.coverage.reasons.drivers).toContain('six hours');
  });

  it('of a node tells the rate of its whole price, and its number and price as drivers', () => {
    const whole: NodeHourSum[] = indices(24).map((i) => ({ hourMs: t0 + i * HOUR_MS, costNanos: i < 12 ? 10_000n : 30_000n, presentMs: HOUR_MS }));
    const { current, drivers, coverage } = answer(24, { resourceType: 'node', whole });
    expect(current).toMatchObject({ allocated_cost: '48000', hourly_rate: '20000' });
    expect(coverage.reasons.hourly_rate).toContain('idle and overhead included');
    expect(drivers).toEqual([{ what: expect.stringContaining('price'), change: String(20_000 * 730) }]);
  });

  it('tells a long history by days', () => {
    const { history } = answer(40 * 24);
    expect(history).toHaveLength(40);
    expect(history[0]).toEqual({ hour: '2026-01-05T00:00:00.000Z', allocated_cost: '48000', actual_cost: '12000' });
  });

  it('does not make up a unit cost', () => {
    const of = (unitCost: AnalysisInput['unitCost'], more: Partial<AnalysisInput> = {}) => answer(24, { unitCost, ...more }).unit_cost;
    expect(of({ businessPerDay: null, reason: 'why' })).toEqual({ per_thousand_requests: null, reason: 'why' });
    expect(of({ businessPerDay: 0, reason: null }).reason).toContain('no business request');
    expect(of({ businessPerDay: 5, reason: null }, { rateHours: [] }).reason).toContain('its cost is not known');
  });
});

describe('what a price rests on', () => {
  it('is the weakest of several, with their numbers and the oldest date', () => {
    const estimate = node({ name: 'n2', price: { basis: 'estimate', source: 'spec', asOf: null, typical: false, note: 'estimated from the specification' } });
    expect(priceBasisOf([node(), node(), estimate], t0)).toEqual({ source: 'estimate', as_of: '2025-12-26T00:00:00.000Z', note: 'estimated from the specification; 10 days old; nodes: 2 by price list, 1 by estimate' });
    expect(priceBasisOf([node({ price: { ...price, typical: true } })], t0 + DAY_MS)?.note).toBe('the list, a typical figure; 11 days old');
    expect(priceBasisOf([node({ price: null })], t0)).toBeNull();
  });

  it('several instance types are none, and named', () => {
    const { current, coverage } = answer(2, { nodes: [node(), node({ instanceType: 'c5.large' })] });
    expect([current.instance_type, coverage.reasons.instance_type]).toEqual([null, 'several: c5.large, m5.large']);
  });
});
