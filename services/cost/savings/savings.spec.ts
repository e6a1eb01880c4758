import type { Recommendation } from '@upid/contracts';
import fc from 'fast-check';
import { adviceOf, groupOf, savingsOf, type Advice, type MonthlyWorkload, type SavingsInput } from './savings.js';

let made = 0;
const advice = (workload: string | null, type: Advice['type'], nanos: bigint | null, over: Partial<Advice> = {}): Advice => ({ id: `r${made++}`, type, workloadKey: workload, confidence: 95, estimatedNanos: nanos, currency: 'USD', billNanos: null, billReason: 'not simulated', ...over });
const workload = (monthlyNanos: bigint | null, byNode: [number, bigint][] = [[1, 1n]]): MonthlyWorkload => ({ monthlyNanos, byNode: new Map(byNode) });
const web = 'shop/Deployment/web';
const input = (all: Advice[], over: Partial<SavingsInput> = {}): SavingsInput => ({ currency: 'USD', horizonHours: 730, advice: all, workloads: new Map([[web, workload(1000n)]]), nodes: new Map([[1, 5000n]]), ...over });

describe('savings', () => {
  it('of competing advice on one workload the best counts, at most its cost', () => {
    const saved = savingsOf(input([advice(web, 'zero_scaling', 9000n, { confidence: 80 }), advice(web, 'resource_optimization', 300n)]));
    expect(saved).toMatchObject({ totalNanos: 1000n, highConfidenceNanos: 300n, groups: { deployments: { totalNanos: 1000n, highConfidenceNanos: 300n, count: 1 }, pods: { count: 0 } } });
  });

  it('are told by what they are made on', () => {
    expect(groupOf({ type: 'resource_optimization', workloadKey: web })).toBe('pods');
    expect(groupOf({ type: 'zero_scaling', workloadKey: 'shop/Pod/one' })).toBe('pods');
    expect(groupOf({ type: 'zero_scaling', workloadKey: web })).toBe('deployments');
    expect(groupOf({ type: 'node_optimization', workloadKey: null })).toBe('nodes');
  });

  it('of what workloads on one node save at most what the node costs', () => {
    const workloads = new Map([[web, workload(1000n)], ['shop/Deployment/api', workload(1000n, [[1, 1n], [2, 3n]])]]);
    const saved = savingsOf(input([advice(web, 'zero_scaling', 1000n), advice('shop/Deployment/api', 'zero_scaling', 1000n)], { workloads, nodes: new Map([[1, 500n], [2, 5000n]]) }));
    expect(saved.totalNanos).toBe(500n + 750n);
  });

  it('of nodes at most what the workloads leave', () => {
    const saved = savingsOf(input([advice(web, 'zero_scaling', 1000n), advice(null, 'node_optimization', 4500n, { confidence: 70 }), advice(null, 'node_optimization', 100n)]));
    expect(saved).toMatchObject({ totalNanos: 5000n, highConfidenceNanos: 1000n, groups: { nodes: { totalNanos: 4000n, highConfidenceNanos: 0n, count: 1 } } });
  });

  it('leave out what is not known, of another currency, or on an unknown cost, and say so', () => {
    const saved = savingsOf(input([advice(web, 'zero_scaling', null), advice(web, 'zero_scaling', 5n, { currency: 'EUR' }), advice('a/Job/b', 'zero_scaling', 5n), advice(web, 'performance_optimization', 0n)]));
    expect(saved).toMatchObject({ totalNanos: 0n, groups: { deployments: { count: 0 } }, billNanos: null });
    expect(Object.keys(saved.reasons)).toEqual(['unknown_savings', 'currency', 'unknown_costs']);
  });

  it('lower the bill only where that was simulated', () => {
    expect(savingsOf(input([advice(web, 'zero_scaling', 100n)]))).toMatchObject({ billNanos: null, billReason: 'not simulated' });
    expect(savingsOf(input([]))).toMatchObject({ billNanos: null, billReason: expect.stringContaining('no node simulation') });
    expect(savingsOf(input([advice(web, 'zero_scaling', 100n, { billNanos: 400n })]))).toMatchObject({ billNanos: 100n, billReason: null });
  });

  it('are in proportion to the time that is asked for', () => expect(savingsOf(input([advice(web, 'zero_scaling', 730n)], { horizonHours: 24 })).totalNanos).toBe(24n));

  it('read the part of a recommendation that counts', () => {
    const recommendation = { id: 'x', type: 'zero_scaling', workload: { namespace: 'shop', kind: 'Deployment', name: 'web' }, confidence: 91, saving: { estimated_savings: '7', bill_savings: null, bill_savings_reason: 'why', currency: 'USD', price_source: null } } as unknown as Recommendation;
    expect(adviceOf(recommendation)).toEqual({ id: 'x', type: 'zero_scaling', workloadKey: web, confidence: 91, estimatedNanos: 7n, currency: 'USD', billNanos: null, billReason: 'why' });
    expect(adviceOf({ ...recommendation, workload: null }).workloadKey).toBeNull();
  });

  it('law: no dollar twice, never above the cost, high confidence within the whole, in any order', () => {
    const names = ['a/Deployment/x', 'a/Deployment/y', 'a/Job/z', 'a/Pod/p'];
    const amount = fc.bigInt({ min: 0n, max: 10_000n });
    const inputs = fc.record({
      advice: fc.array(fc.record({ on: fc.constantFrom(...names, null), type: fc.constantFrom<Advice['type'][]>('zero_scaling', 'resource_optimization', 'scaling_optimization'), nanos: amount, confidence: fc.integer({ min: 0, max: 100 }) }), { maxLength: 15 }),
      costs: fc.array(fc.tuple(amount, fc.array(fc.tuple(fc.nat(3), amount), { maxLength: 4 })), { minLength: 4, maxLength: 4 }), nodes: fc.array(amount, { minLength: 4, maxLength: 4 }),
    });
    fc.assert(fc.property(inputs, ({ advice: all, costs, nodes }) => {
      const of = input(all.map(({ on, type, nanos, confidence }, i) => advice(on, on === null ? 'node_optimization' : type, nanos, { id: `r${i}`, confidence })), {
        workloads: new Map(names.map((name, i) => [name, workload(costs[i]![0], costs[i]![1])])), nodes: new Map(nodes.map((nanos, i) => [i, nanos])),
      });
      const saved = savingsOf(of);
      const cluster = nodes.reduce((sum, nanos) => sum + nanos, 0n);
      expect(saved.totalNanos <= cluster).toBe(true);
      expect(saved.groups.pods.totalNanos + saved.groups.deployments.totalNanos <= costs.reduce((sum, [nanos]) => sum + nanos, 0n)).toBe(true);
      expect(saved.highConfidenceNanos <= saved.totalNanos).toBe(true);
      for (const group of Object.values(saved.groups)) expect(group.highConfidenceNanos <= group.totalNanos && group.totalNanos >= 0n).toBe(true);
      expect(savingsOf({ ...of, advice: of.advice.toReversed() })).toEqual(saved);
    }));
  });
});
