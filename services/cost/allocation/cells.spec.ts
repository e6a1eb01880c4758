import fc from 'fast-check';
import {
  allocateCell, AllocationInputError, cellSeconds, costOfSpan, presentSeconds, unknownUsage, type AllocationMethod, type ContainerCell, type MeanUsage, type NodeCell,
} from './cells.js';
import { noResources, type Resources } from './requests.js';
import { referenceRates } from '../prices/estimate.js';

const gib = 2 ** 30;
const hour = 3_600_000;
const cell = 300_000;
const start = Date.UTC(2026, 0, 1);

function containerCell(key: string, request: Partial<Resources>, usage: Partial<MeanUsage> = {}, seconds = cellSeconds): ContainerCell {
  return { key, request: { ...noResources, ...request }, usage: { ...unknownUsage, ...usage }, presentSeconds: seconds };
}

function node(parts: Partial<NodeCell<'USD'>> = {}): NodeCell<'USD'> {
  return {
    pricePerHour: { currency: 'USD', nanos: 192_000_000n }, startMs: start, endMs: start + cell,
    capacity: { cpuMillicores: 4000, memoryBytes: 16 * gib, gpus: 0 }, allocatable: { cpuMillicores: 4000, memoryBytes: 16 * gib, gpus: 0 },
    ratios: referenceRates.rates, containers: [], ...parts,
  };
}

/** Random nodes: over-committed, without requests, with GPUs, empty, unsampled, capacity = allocatable, prices down to one nano. */
const nodes: fc.Arbitrary<NodeCell<'USD'>> = fc.record({
  price: fc.oneof(fc.bigInt({ min: 0n, max: 40n }), fc.bigInt({ min: 0n, max: 100_000_000_000n })),
  offset: fc.nat(1_000_000_000),
  span: fc.oneof(fc.constant(cell), fc.nat(cell)),
  cpuMillicores: fc.integer({ min: 1, max: 256_000 }),
  memoryBytes: fc.integer({ min: 1, max: 2 ** 42 }),
  gpus: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 16 })),
  kept: fc.oneof(fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true })),
  crowding: fc.constantFrom(0.1, 1, 5),
  containers: fc.array(fc.record({
    cpu: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1, noNaN: true })), memory: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1, noNaN: true })),
    gpu: fc.constantFrom(0, 0, 0, 1 / 7, 0.5, 1, 4),
    cpuUsed: fc.option(fc.double({ min: 0, max: 1, noNaN: true })), memoryUsed: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
    gpuUsed: fc.option(fc.double({ min: 0, max: 2, noNaN: true })), present: fc.oneof(fc.constant(1), fc.constant(0), fc.double({ min: 0, max: 1, noNaN: true })),
  }), { maxLength: 30 }),
}).map((raw) => ({
  pricePerHour: { currency: 'USD' as const, nanos: raw.price }, startMs: start + raw.offset, endMs: start + raw.offset + raw.span,
  capacity: { cpuMillicores: raw.cpuMillicores, memoryBytes: raw.memoryBytes, gpus: raw.gpus },
  allocatable: { cpuMillicores: raw.cpuMillicores * raw.kept, memoryBytes: Math.floor(raw.memoryBytes * raw.kept), gpus: raw.gpus },
  ratios: referenceRates.rates,
  containers: raw.containers.map((each, i): ContainerCell => ({
    key: `uid-${i % 9}/${i}`,
    request: { cpuMillicores: each.cpu * raw.cpuMillicores * raw.crowding, memoryBytes: Math.floor(each.memory * raw.memoryBytes * raw.crowding), gpus: each.gpu },
    usage: {
      cpuMillicores: each.cpuUsed === null ? null : each.cpuUsed * raw.cpuMillicores, memoryBytes: each.memoryUsed === null ? null : Math.floor(each.memoryUsed * raw.memoryBytes),
      gpus: each.gpuUsed,
    },
    presentSeconds: (each.present * raw.span) / 1000,
  })),
}));
const methods: fc.Arbitrary<AllocationMethod> = fc.constantFrom('weighted', 'priced');
const sum = (values: readonly bigint[]): bigint => values.reduce((a, b) => a + b, 0n);

describe('laws of a cell, for any node and either method', () => {
  it('allocations + idle + overhead = price x time to the nano, of the whole and of each resource, never negative', () => {
    fc.assert(fc.property(nodes, methods, (input, method) => {
      const cost = allocateCell(input, method);
      expect(cost.costNanos).toBe(costOfSpan(input.pricePerHour.nanos, input.startMs, input.endMs));
      expect(sum(cost.containers.map(({ allocatedNanos }) => allocatedNanos)) + cost.idleNanos + cost.overheadNanos).toBe(cost.costNanos);
      expect(cost.cpu.costNanos + cost.memory.costNanos + cost.gpu.costNanos).toBe(cost.costNanos);
      for (const [kind, of] of [['cpu', 'cpuNanos'], ['memory', 'memoryNanos'], ['gpu', 'gpuNanos']] as const) {
        expect(sum(cost.containers.map((each) => each[of])) + cost[kind].idleNanos + cost[kind].overheadNanos).toBe(cost[kind].costNanos);
        for (const value of [cost[kind].costNanos, cost[kind].idleNanos, cost[kind].overheadNanos, ...cost.containers.map((each) => each[of])]) expect(value >= 0n).toBe(true);
      }
    }), { numRuns: 4000 });
  });

  it('actual lies between nothing and the allocated cost, and is null exactly where usage that matters is unknown', () => {
    fc.assert(fc.property(nodes, methods, (input, method) => {
      const cost = allocateCell(input, method);
      cost.containers.forEach((each, i) => {
        const { usage, presentSeconds: seconds } = input.containers[i] as ContainerCell;
        const unknown = (Math.round(seconds * 1000) > 0 && (usage.cpuMillicores === null || usage.memoryBytes === null)) || (each.gpuNanos > 0n && usage.gpus === null);
        expect(each.actualNanos === null).toBe(unknown);
        if (each.actualNanos !== null) expect(each.actualNanos >= 0n && each.actualNanos <= each.allocatedNanos).toBe(true);
      });
    }), { numRuns: 2000 });
  });

  it('does not depend on the order in which the containers are told', () => {
    fc.assert(fc.property(nodes, methods, fc.nat(), (input, method, seed) => {
      const shuffled = [...input.containers].sort((a, b) => ((a.key.length * 31 + a.key.charCodeAt(a.key.length - 1) * 7 + seed) % 13) - ((b.key.length * 31 + b.key.charCodeAt(b.key.length - 1) * 7 + seed) % 13));
      const one = allocateCell(input, method);
      const other = allocateCell({ ...input, containers: shuffled }, method);
      expect(new Map(other.containers.map((each) => [each.key, each]))).toEqual(new Map(one.containers.map((each) => [each.key, each])));
      expect([other.cpu, other.memory, other.gpu]).toEqual([one.cpu, one.memory, one.gpu]);
    }), { numRuns: 1000 });
  });

  it('idle is 0 for a resource whose charges reach its allocatable, and then charges keep their proportion', () => {
    fc.assert(fc.property(nodes, (input) => {
      const cost = allocateCell(input, 'weighted');
      const span = (input.endMs - input.startMs) / 1000;
      const charged = input.containers.reduce((total, { request, usage, presentSeconds: seconds }) => total + (request.cpuMillicores >= 0.0005 ? request.cpuMillicores : (usage.cpuMillicores ?? 0)) * seconds, 0);
      const offered = input.allocatable.cpuMillicores * span;
      if (charged > offered * (1 + 1e-3) + 1) expect(cost.cpu.idleNanos).toBe(0n);
      if (charged < offered * (1 - 1e-3) - 1 && cost.cpu.costNanos > 1_000_000n && offered > 1000) expect(cost.cpu.idleNanos > 0n).toBe(true);
    }), { numRuns: 1000 });
  });

  it('cells that follow one another sum to the price of the whole, whatever the price', () => {
    fc.assert(fc.property(fc.bigInt({ min: 0n, max: 10n ** 12n }), fc.nat(10 ** 6), (price, hours) => {
      const from = hours * hour;
      const cells = Array.from({ length: 12 }, (_, i) => costOfSpan(price, from + i * cell, from + (i + 1) * cell));
      expect(sum(cells)).toBe(price);
    }));
  });

  it('CPU, memory and GPU shares are the price for every node shape, and the GPU share follows list prices', () => {
    const cost = allocateCell(node({
      pricePerHour: { currency: 'USD', nanos: 3_060_000_000n }, endMs: start + hour,
      capacity: { cpuMillicores: 8000, memoryBytes: 61 * gib, gpus: 1 }, allocatable: { cpuMillicores: 8000, memoryBytes: 61 * gib, gpus: 1 },
    }));
    const listed = { cpu: 8 * 0.031611, memory: 61 * 0.004237, gpu: 0.95 };
    expect(Number(cost.gpu.costNanos) / 1e9).toBeCloseTo((3.06 * listed.gpu) / (listed.cpu + listed.memory + listed.gpu), 8);
    expect(Number(cost.cpu.costNanos) / Number(cost.memory.costNanos)).toBeCloseTo(1.5, 8);
  });
});

describe('weighted', () => {
  it('charges the effective request over capacity, keeps overhead apart, and idle is the rest', () => {
    const cost = allocateCell(node({
      endMs: start + hour, allocatable: { cpuMillicores: 3600, memoryBytes: 12 * gib, gpus: 0 },
      containers: [containerCell('a/app', { cpuMillicores: 1000, memoryBytes: 4 * gib }, { cpuMillicores: 250, memoryBytes: 8 * gib }, 3600)],
    }));
    // 0.192 an hour: 0.1152 on CPU, 0.0768 on memory.
    expect(cost.containers[0]).toMatchObject({ cpuNanos: 28_800_000n, memoryNanos: 19_200_000n, actualCpuNanos: 7_200_000n, actualMemoryNanos: 19_200_000n });
    expect(cost.cpu).toEqual({ costNanos: 115_200_000n, overheadNanos: 11_520_000n, idleNanos: 74_880_000n });
    expect(cost.memory).toEqual({ costNanos: 76_800_000n, overheadNanos: 19_200_000n, idleNanos: 38_400_000n });
  });

  it('charges the mean usage where there is no request, so that a busy pod without requests is not free', () => {
    const cost = allocateCell(node({ containers: [containerCell('a/app', {}, { cpuMillicores: 2000, memoryBytes: 4 * gib })] }));
    expect(cost.containers[0]).toMatchObject({ cpuNanos: 4_800_000n, memoryNanos: 1_600_000n, cpuBasis: 'usage', actualNanos: 6_400_000n });
  });

  it('does not charge above the request', () => {
    const cost = allocateCell(node({ containers: [containerCell('a/app', { cpuMillicores: 1000 }, { cpuMillicores: 3000, memoryBytes: 0 })] }));
    expect(cost.containers[0]).toMatchObject({ cpuNanos: 2_400_000n, cpuBasis: 'request', actualCpuNanos: 2_400_000n });
  });

  it('says unknown, not zero, for a container with neither request nor sample', () => {
    const cost = allocateCell(node({ containers: [containerCell('a/app', {})] }));
    expect(cost.containers[0]).toMatchObject({ allocatedNanos: 0n, actualNanos: null, cpuBasis: 'unknown', memoryBasis: 'unknown', gpuBasis: 'none' });
  });

  it('charges a pod that waits for its image in full, its usage unknown', () => {
    const cost = allocateCell(node({ containers: [containerCell('a/app', { cpuMillicores: 1000, memoryBytes: gib })] }));
    expect(cost.containers[0]).toMatchObject({ cpuNanos: 2_400_000n, memoryNanos: 400_000n, actualNanos: null });
  });

  it('scales over-committed charges down to the allocatable', () => {
    const cost = allocateCell(node({
      allocatable: { cpuMillicores: 2000, memoryBytes: 16 * gib, gpus: 0 },
      containers: [containerCell('a', { cpuMillicores: 3000 }), containerCell('b', { cpuMillicores: 1000 })],
    }));
    expect(cost.cpu).toEqual({ costNanos: 9_600_000n, overheadNanos: 4_800_000n, idleNanos: 0n });
    expect(cost.containers.map(({ cpuNanos }) => cpuNanos)).toEqual([3_600_000n, 1_200_000n]);
  });

  it('charges for the time present alone', () => {
    const cost = allocateCell(node({ containers: [containerCell('a', { cpuMillicores: 4000 }, {}, 75)] }));
    expect(cost.containers[0]?.cpuNanos).toBe(2_400_000n);
    expect(cost.cpu.idleNanos).toBe(7_200_000n);
  });
});

describe('priced', () => {
  it('splits by list prices and charges the larger of request and use', () => {
    const cost = allocateCell(node({
      containers: [
        containerCell('busy', { cpuMillicores: 500, memoryBytes: gib }, { cpuMillicores: 1000, memoryBytes: gib / 2 }),
        containerCell('bare', {}, { cpuMillicores: 2000, memoryBytes: gib }),
      ],
    }), 'priced');
    const [cpuListed, memoryListed] = [4 * 0.031611, 16 * 0.004237];
    expect(Number(cost.cpu.costNanos)).toBeCloseTo((16_000_000 * cpuListed) / (cpuListed + memoryListed), -1);
    expect(cost.containers.map(({ cpuBasis, memoryBasis }) => [cpuBasis, memoryBasis])).toEqual([['usage', 'request'], ['usage', 'usage']]);
    expect(Number(cost.containers[0]?.cpuNanos)).toBeCloseTo(Number(cost.cpu.costNanos) / 4, -1);
    expect(Number(cost.containers[1]?.cpuNanos)).toBeCloseTo(Number(cost.cpu.costNanos) / 2, -1);
  });
});

describe('GPUs', () => {
  const gpuNode = (containers: ContainerCell[]) => node({
    pricePerHour: { currency: 'USD', nanos: 12_240_000_000n }, capacity: { cpuMillicores: 32_000, memoryBytes: 244 * gib, gpus: 4 },
    allocatable: { cpuMillicores: 32_000, memoryBytes: 244 * gib, gpus: 4 }, containers,
  });

  it('charges the GPUs asked for, fractions too, and leaves the rest idle', () => {
    const cost = allocateCell(gpuNode([containerCell('train', { gpus: 2 }, { cpuMillicores: 0, memoryBytes: 0, gpus: 0.5 }), containerCell('slice', { gpus: 0.5 })]));
    expect(cost.containers.map(({ gpuNanos }) => Number(gpuNanos) / Number(cost.gpu.costNanos))).toEqual([expect.closeTo(0.5, 6), expect.closeTo(0.125, 6)]);
    expect(Number(cost.gpu.idleNanos) / Number(cost.gpu.costNanos)).toBeCloseTo(0.375, 6);
    expect(Number(cost.containers[0]?.actualGpuNanos) / Number(cost.containers[0]?.gpuNanos)).toBeCloseTo(0.25, 6);
  });

  it('does not call a GPU used because it was asked for: without an exporter its usage is unknown', () => {
    const [train] = allocateCell(gpuNode([containerCell('train', { gpus: 1 }, { cpuMillicores: 100, memoryBytes: gib })])).containers;
    expect(train).toMatchObject({ actualGpuNanos: null, actualNanos: null });
    expect(train?.actualCpuNanos).not.toBeNull();
  });

  it('charges nothing for a GPU that the node does not have', () => {
    const [stray] = allocateCell(node({ containers: [containerCell('a', { gpus: 1 }, { cpuMillicores: 1, memoryBytes: 1 })] })).containers;
    expect(stray).toMatchObject({ gpuNanos: 0n, actualGpuNanos: 0n });
  });
});

describe('time', () => {
  it('holds a pod from scheduled to the end of its phase', () => {
    const of = (scheduled: number, ended: number | null) => presentSeconds({ scheduledMs: start + scheduled * 1000, endedMs: ended === null ? null : start + ended * 1000 }, start, start + cell);
    expect([of(-100, null), of(60, null), of(60, 120), of(-500, -1), of(-5, 30), of(400, null)]).toEqual([300, 240, 60, 0, 30, 0]);
  });

  it('a price change within an hour is two spans at two prices, nothing else', () => {
    const before = costOfSpan(96_000_000n, start, start + 20 * 60_000);
    const after = costOfSpan(192_000_000n, start + 20 * 60_000, start + hour);
    expect(before + after).toBe(160_000_000n);
  });
});

describe('what is not a cell', () => {
  it.each([
    ['a node without CPU', node({ capacity: { cpuMillicores: 0, memoryBytes: gib, gpus: 0 } })],
    ['a negative price', node({ pricePerHour: { currency: 'USD', nanos: -1n } })],
    ['a span that ends before it starts', node({ endMs: start - 1 })],
    ['a fraction of a millisecond', node({ endMs: start + 0.5 })],
    ['a negative request', node({ containers: [containerCell('a', { cpuMillicores: -1 })] })],
    ['a usage that is no number', node({ containers: [containerCell('a', {}, { memoryBytes: Number.NaN })] })],
    ['infinite time', node({ containers: [containerCell('a', {}, unknownUsage, Infinity)] })],
    ['a container told twice, as by two scrapers', node({ containers: [containerCell('a', {}), containerCell('a', {})] })],
    ['list prices of nothing', node({ ratios: { cpuCorePicosPerHour: 0n, ramGibPicosPerHour: 0n, gpuPicosPerHour: 1n } })],
  ])('%s is refused', (_, input) => {
    expect(() => allocateCell(input)).toThrow(AllocationInputError);
  });

  it('an allocatable above the capacity is cut to it', () => {
    expect(allocateCell(node({ allocatable: { cpuMillicores: 9000, memoryBytes: 99 * gib, gpus: 3 } })).overheadNanos).toBe(0n);
  });

  it('a node with nothing allocatable is all overhead', () => {
    const cost = allocateCell(node({ allocatable: { cpuMillicores: 0, memoryBytes: 0, gpus: 0 }, containers: [containerCell('a', { cpuMillicores: 100 })] }));
    expect(cost.overheadNanos).toBe(cost.costNanos);
  });
});
