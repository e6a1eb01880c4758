import { allocationEventSchema } from '@upid/contracts';
import { allocationEventOf, otherWorkloads, weakestBasis, type EventInput } from './event.js';
import type { NodeHour, PodHour } from './hour.js';

const pod = (podId: number, nanos: bigint, over: Partial<PodHour> = {}): PodHour => ({
  podId, nodeId: podId % 2, presentMs: 3_600_000, cpuNanos: nanos, memoryNanos: 1n, gpuNanos: 0n, actualNanos: nanos / 2n, measuredNanos: nanos + 1n, measuredMs: 1_800_000, cells: 12, measuredCells: 6,
  chargedCpuMillicoreSeconds: 0, chargedMemoryByteSeconds: 0, usedCpuMillicoreSeconds: 0, usedMemoryByteSeconds: 0, ...over,
});
const node = (nodeId: number): NodeHour => ({ nodeId, priceId: 1, presentMs: 3_600_000, costNanos: 1000n, allocatedNanos: 800n, idleNanos: 150n, overheadNanos: 50n });
const input = (pods: PodHour[], over: Partial<EventInput> = {}): EventInput => ({
  clusterId: 'demo', hourMs: Date.UTC(2026, 0, 5, 10), revision: 3, final: true, currency: 'USD', nodes: [node(0), node(1)], pods, workloadOf: (id) => `shop/Deployment/w${id % 3}`,
  nodeOf: (id) => ({ capacityType: id === 0 ? 'spot' : 'on_demand', basis: id === 0 ? 'estimate' : 'price_list' }), ...over,
});

describe('the event of an hour', () => {
  it('tells costs by workload, with what they rest on', () => {
    const event = allocationEventSchema.parse(allocationEventOf(input([pod(0, 100n), pod(3, 50n), pod(1, 500n, { measuredCells: 0 })])));
    expect(event).toMatchObject({ id: 'demo/2026-01-05T10:00:00.000Z/3', node_cost: '2000', idle_cost: '300', overhead_cost: '100' });
    expect(event.workloads).toEqual([
      expect.objectContaining({ workload: { namespace: 'shop', kind: 'Deployment', name: 'w1' }, allocated_cost: '501', actual_cost: null, capacity_types: ['on_demand'], price_source: 'price_list' }),
      expect.objectContaining({ workload: { namespace: 'shop', kind: 'Deployment', name: 'w0' }, cpu_cost: '150', memory_cost: '2', allocated_cost: '152', actual_cost: '75', covered_seconds: 3600, pod_seconds: 7200, capacity_types: ['on_demand', 'spot'], price_source: 'estimate' }),
    ]);
  });

  it('law: of too many workloads the cheapest are told together, and no nano is lost', () => {
    const pods = Array.from({ length: 50 }, (_, i) => pod(i, BigInt(i * 7)));
    const workloadOf = (id: number) => `shop/Deployment/w${id}`;
    const sum = (event: ReturnType<typeof allocationEventOf>) => event.workloads.reduce((total, each) => total + BigInt(each.allocated_cost), 0n);
    const whole = allocationEventOf(input(pods, { workloadOf }));
    const short = allocationEventOf(input(pods, { workloadOf }), 10);
    expect([whole.workloads.length, short.workloads.length]).toEqual([50, 10]);
    expect(short.workloads.at(-1)?.workload).toEqual({ namespace: '', kind: 'Other', name: otherWorkloads.split('/')[2] });
    expect(sum(short)).toBe(sum(whole));
  });

  it('rests on the weakest of its prices', () => {
    expect(weakestBasis(['bill', 'price_sheet', 'price_list'])).toBe('price_sheet');
    expect(weakestBasis([])).toBeNull();
  });
});
