import { HOUR_MS, WINDOW_MS } from '@upid/contracts';
import fc from 'fast-check';
import { referenceRates } from '../prices/estimate.js';
import { allocateCell, costOfSpan, unknownUsage, type MeanUsage } from './cells.js';
import { computeHour, imbalanceOf, type HourInput, type HourNode, type HourPod } from './hour.js';
import { noResources } from './requests.js';
import type { WindowUsage } from './usage.js';

const gib = 2 ** 30;
const hourMs = Date.UTC(2026, 0, 5, 10);
const windows = Array.from({ length: 12 }, (_, i) => hourMs + i * WINDOW_MS);
const used = (cpuMillicores: number, memoryBytes: number): MeanUsage => ({ cpuMillicores, memoryBytes, gpus: null });

function node(id: number, over: Partial<HourNode<'USD'>> = {}): HourNode<'USD'> {
  const capacity = { cpuMillicores: 4000, memoryBytes: 16 * gib, gpus: 0 };
  return { id, name: `n${id}`, startMs: 0, endMs: null, priced: { perHour: { currency: 'USD', nanos: 192_000_001n }, priceId: id, capacity, allocatable: { ...capacity, cpuMillicores: 3800 } }, unpricedReason: null, ...over };
}
function pod(id: number, over: Partial<HourPod> = {}): HourPod {
  return { id, uid: `u${id}`, workloadKey: 'shop/Deployment/web', nodeName: 'n1', startMs: 0, endMs: null, requests: [{ sinceMs: null, containers: [{ name: 'app', requests: { cpuMillicores: 500, memoryBytes: gib, gpus: 0 } }] }], ...over };
}
function usage(startMs: number, pods: Record<string, Record<string, MeanUsage>>, final = true): WindowUsage {
  return { startMs, final, pods: new Map(Object.entries(pods).map(([uid, containers]) => [uid, { workload: `past/CronJob/${uid}`, containers: new Map(Object.entries(containers)) }])) };
}
function input(over: Partial<HourInput<'USD'>> = {}): HourInput<'USD'> {
  return { currency: 'USD', hourMs, untilMs: hourMs + 10 * HOUR_MS, observedFromMs: 0, nodes: [node(1)], pods: [pod(1)], windows: [], ratios: referenceRates.rates, ...over };
}

describe('an hour', () => {
  it('costs what its node costs, and a pod what its requests are worth of it', () => {
    const cost = computeHour(input({ windows: windows.map((startMs) => usage(startMs, { u1: { app: used(250, gib) } })) }));
    expect(cost).toMatchObject({ coveredFromMs: hourMs, coveredToMs: hourMs + HOUR_MS, coveredMs: HOUR_MS, final: true, cells: 12, imbalances: [], unpriced: [] });
    expect(cost.nodes).toEqual([expect.objectContaining({ nodeId: 1, costNanos: 192_000_001n, presentMs: HOUR_MS })]);
    const [web] = cost.pods;
    // 500 of 4000 millicores of 0.6 of the price, 1 of 16 GiB of 0.4 of it.
    expect(Number(web!.cpuNanos)).toBeCloseTo((192_000_001 * 0.6) / 8, -2);
    expect(Number(web!.memoryNanos)).toBeCloseTo((192_000_001 * 0.4) / 16, -2);
    expect(Number(web!.actualNanos)).toBeCloseTo(Number(web!.cpuNanos) / 2 + Number(web!.memoryNanos), -2);
    expect(web).toMatchObject({ presentMs: HOUR_MS, measuredMs: HOUR_MS, cells: 12, measuredCells: 12, chargedCpuMillicoreSeconds: 500 * 3600, usedCpuMillicoreSeconds: 250 * 3600, chargedMemoryByteSeconds: gib * 3600 });
  });

  it('without usage costs the same, and says nothing of what was used', () => {
    const [web] = computeHour(input()).pods;
    expect(web).toMatchObject({ measuredMs: 0, measuredCells: 0, measuredNanos: 0n, cells: 12, presentMs: HOUR_MS });
    expect(web!.cpuNanos).toBeGreaterThan(0n);
  });

  it('is told up to now while it is open, and never beyond', () => {
    const untilMs = hourMs + 7 * 60_000;
    const cost = computeHour(input({ untilMs }));
    expect(cost).toMatchObject({ coveredMs: 7 * 60_000, coveredToMs: untilMs, final: false });
    expect(cost.nodes[0]!.costNanos).toBe(costOfSpan(192_000_001n, hourMs, untilMs));
    expect(computeHour(input({ untilMs: hourMs })).cells).toBe(0);
  });

  it('is covered from its first node on, so that a new cluster\'s rate is that of its nodes', () => {
    const startMs = hourMs + 7 * 60_000;
    const untilMs = hourMs + 9 * 60_000;
    const cost = computeHour(input({ untilMs, nodes: [node(1, { startMs }), node(2, { startMs: startMs + 30_000 })] }));
    expect(cost).toMatchObject({ coveredFromMs: startMs, coveredToMs: untilMs, coveredMs: untilMs - startMs });
    const gone = computeHour(input({ nodes: [node(1, { endMs: startMs })] }));
    expect(gone).toMatchObject({ coveredFromMs: hourMs, coveredToMs: startMs, coveredMs: startMs - hourMs });
  });

  it('before the inventory counts only where usage is told of it', () => {
    const observedFromMs = hourMs + 31 * 60_000;
    const cost = computeHour(input({ observedFromMs, windows: [usage(windows[1]!, { u1: { app: used(1, 1) } })] }));
    expect(cost).toMatchObject({ coveredMs: WINDOW_MS + (HOUR_MS - 30 * 60_000), coveredFromMs: windows[1] });
    expect(computeHour(input({ observedFromMs: null })).coveredFromMs).toBeNull();
  });

  it('is not known where no node stood', () => {
    const cost = computeHour(input({ nodes: [], windows: [usage(windows[0]!, { u1: { app: used(1, 1) } })] }));
    expect(cost).toMatchObject({ coveredMs: 0, coveredFromMs: null, cells: 0 });
    expect([...cost.uncharged]).toEqual([['shop/Deployment/web', 1]]);
  });

  it('is not known where no node has a price: that is not a cost of nothing', () => {
    expect(computeHour(input({ nodes: [node(1, { priced: null })] }))).toMatchObject({ coveredMs: 0, coveredFromMs: null, nodes: [], pods: [], unpriced: [{ node: 'n1', reason: 'it has no price' }] });
  });

  it('charges a pod from its binding to its end, on a node from its beginning to its removal', () => {
    const cost = computeHour(input({
      nodes: [node(1, { startMs: hourMs + 10 * 60_000, endMs: hourMs + 40 * 60_000 })],
      pods: [pod(1), pod(2, { startMs: hourMs + 20 * 60_000, endMs: hourMs + 22 * 60_000 }), pod(3, { endMs: hourMs }), pod(4, { startMs: hourMs + 50 * 60_000 })],
    }));
    expect(cost.nodes[0]).toMatchObject({ presentMs: 30 * 60_000, costNanos: costOfSpan(192_000_001n, hourMs + 10 * 60_000, hourMs + 40 * 60_000) });
    expect(cost.pods.map(({ podId, presentMs }) => [podId, presentMs])).toEqual([[1, 30 * 60_000], [2, 2 * 60_000]]);
  });

  it('charges by use what requests nothing, and shows what stands beside the specification', () => {
    const free = pod(1, { requests: [{ sinceMs: null, containers: [{ name: 'app', requests: noResources }] }] });
    const cost = computeHour(input({ pods: [free], windows: windows.map((startMs) => usage(startMs, { u1: { app: used(2000, gib), debugger: used(100, gib) } })) }));
    expect(cost.pods[0]).toMatchObject({ cells: 24, chargedCpuMillicoreSeconds: 2100 * 3600 });
    expect(cost.pods[0]!.actualNanos).toBe(cost.pods[0]!.measuredNanos);
  });

  it('requests count from the window in which a resize was seen', () => {
    const resized = pod(1, { requests: [...pod(1).requests, { sinceMs: hourMs + HOUR_MS / 2, containers: [{ name: 'app', requests: { cpuMillicores: 1500, memoryBytes: gib, gpus: 0 } }] }] });
    expect(computeHour(input({ pods: [resized] })).pods[0]!.chargedCpuMillicoreSeconds).toBe(500 * 1800 + 1500 * 1800);
  });

  it('tells of pods that it cannot charge, and of nodes that it cannot price', () => {
    const unpriced = node(2, { priced: null, unpricedReason: 'no price in EUR' });
    const cost = computeHour(input({
      nodes: [node(1), unpriced, node(3, { priced: null, endMs: hourMs })],
      pods: [pod(1), pod(2, { nodeName: 'n2', workloadKey: 'shop/DaemonSet/log' }), pod(5, { nodeName: 'gone', workloadKey: 'shop/Job/lost' })],
      windows: [usage(windows[0]!, { u1: { app: used(1, 1) }, u8: { app: used(1, 1) }, u9: { app: used(1, 1) } })],
    }));
    expect(cost.unpriced).toEqual([{ node: 'n2', reason: 'no price in EUR' }]);
    expect([...cost.uncharged]).toEqual([['past/CronJob/u8', 1], ['past/CronJob/u9', 1], ['shop/DaemonSet/log', 1], ['shop/Job/lost', 1]]);
    expect(cost.pods.map(({ podId }) => podId)).toEqual([1]);
  });

  it('a name that another node took over later does not take its pods', () => {
    const nodes = [node(1, { endMs: hourMs + HOUR_MS / 2 }), node(2, { name: 'n1', startMs: hourMs + HOUR_MS / 2 })];
    const cost = computeHour(input({ nodes, pods: [pod(1), pod(2, { startMs: hourMs + HOUR_MS / 2 + 1000 })] }));
    expect(cost.pods.map(({ podId, nodeId }) => [podId, nodeId])).toEqual([[1, 1], [2, 2]]);
    expect(cost.pods[0]!.presentMs).toBe(HOUR_MS / 2);
  });

  it('law: for random clusters every node is paid for exactly, by hours as by their windows, in any order of the inputs', () => {
    const amount = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 6000 }));
    const clusters = fc.record({
      untilMinutes: fc.integer({ min: 1, max: 70 }), observed: fc.constantFrom(null, 0, hourMs + 20 * 60_000),
      nodes: fc.array(fc.record({ price: fc.bigInt({ min: 0n, max: 40_000_000_000n }), gpus: fc.constantFrom(0, 0, 1, 8), start: fc.integer({ min: -60, max: 60 }), life: fc.option(fc.integer({ min: 0, max: 120 })) }), { minLength: 1, maxLength: 4 }),
      pods: fc.array(fc.record({ on: fc.nat(4), cpu: amount, memory: amount, gpus: fc.constantFrom(0, 0, 1, 4), start: fc.integer({ min: -90, max: 60 }), life: fc.option(fc.integer({ min: 0, max: 120 })), known: fc.double({ min: 0, max: 1, noNaN: true }) }), { maxLength: 12 }),
    });
    fc.assert(fc.property(clusters, ({ untilMinutes, observed, nodes, pods }) => {
      const at = (minutes: number) => hourMs + minutes * 60_000;
      const whole: HourInput<'USD'> = input({
        untilMs: at(untilMinutes), observedFromMs: observed,
        nodes: nodes.map((each, i) => node(i, {
          startMs: at(each.start), endMs: each.life === null ? null : at(each.start + each.life),
          priced: { perHour: { currency: 'USD', nanos: each.price }, priceId: i, capacity: { cpuMillicores: 4000, memoryBytes: 16 * gib, gpus: each.gpus }, allocatable: { cpuMillicores: 3500, memoryBytes: 15 * gib, gpus: each.gpus } },
        })),
        pods: pods.map((each, i) => pod(i, { nodeName: `n${each.on}`, startMs: at(each.start), endMs: each.life === null ? null : at(each.start + each.life), requests: [{ sinceMs: null, containers: [{ name: 'app', requests: { cpuMillicores: each.cpu, memoryBytes: each.memory * 1_000_000, gpus: each.gpus } }] }] })),
        windows: windows.map((startMs, w) => usage(startMs, Object.fromEntries(pods.flatMap((each, i) => (each.known * 12 > w ? [[`u${i}`, { app: used(each.cpu / 3, each.memory * 2_000_000) }]] : []))))),
      });
      const cost = computeHour(whole);
      expect(cost.imbalances).toEqual([]);
      for (const each of cost.nodes) {
        const of = cost.pods.filter(({ nodeId }) => nodeId === each.nodeId);
        const charged = of.reduce((sum, { cpuNanos, memoryNanos, gpuNanos }) => sum + cpuNanos + memoryNanos + gpuNanos, 0n);
        expect(charged).toBe(each.allocatedNanos);
        expect(charged + each.idleNanos + each.overheadNanos).toBe(each.costNanos);
        for (const value of [each.idleNanos, each.overheadNanos, each.allocatedNanos]) expect(value >= 0n).toBe(true);
        for (const { actualNanos, measuredNanos, measuredMs, presentMs } of of) expect(actualNanos >= 0n && actualNanos <= measuredNanos && measuredMs <= presentMs).toBe(true);
        if (observed === 0) {
          const { startMs, endMs, priced } = whole.nodes[each.nodeId]!;
          const end = Math.min(hourMs + HOUR_MS, whole.untilMs);
          expect(each.costNanos).toBe(costOfSpan(priced!.perHour.nanos, Math.max(hourMs, startMs), Math.max(hourMs, startMs, Math.min(end, endMs ?? end))));
        }
      }
      expect(computeHour({ ...whole, nodes: whole.nodes.toReversed(), pods: whole.pods.toReversed(), windows: whole.windows.toReversed() })).toEqual(cost);
    }), { numRuns: 300 });
  });
});

describe('the check of a cell', () => {
  const cell = allocateCell({
    pricePerHour: { currency: 'USD', nanos: 1_000_000_000n }, startMs: hourMs, endMs: hourMs + WINDOW_MS, capacity: { cpuMillicores: 4000, memoryBytes: gib, gpus: 0 }, allocatable: { cpuMillicores: 4000, memoryBytes: gib, gpus: 0 }, ratios: referenceRates.rates,
    containers: [{ key: 'a', request: { cpuMillicores: 1000, memoryBytes: 1, gpus: 0 }, usage: unknownUsage, presentSeconds: 300 }],
  });

  it('passes what sums to its cost', () => expect(imbalanceOf(cell)).toBeNull());
  it('names a nano too many', () => expect(imbalanceOf({ ...cell, idleNanos: cell.idleNanos + 1n })).toContain('are 1 nanos more than the cost'));
  it('names a negative part that others make up for', () => expect(imbalanceOf({ ...cell, idleNanos: -1n, overheadNanos: cell.overheadNanos + cell.idleNanos + 1n })).toContain('negative'));
  it('names a container that is charged other than its resources', () => {
    const [first] = cell.containers;
    expect(imbalanceOf({ ...cell, containers: [{ ...first!, cpuNanos: first!.cpuNanos + 1n }] })).toContain('other than the sum of its resources');
  });
});
