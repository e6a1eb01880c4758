import fc from 'fast-check';
import { costDrivers, nodeDrivers, type PeriodRates } from './drivers.js';

const nothing = { costNanosPerHour: 0, amount: 0 };
/** `replicas` pods of `cpu` millicores each at `price` nanos a millicore-hour. */
const period = (replicas: number, cpu: number, price: number, gpuNanosPerHour = 0): PeriodRates => ({ replicas, requestedCpu: { costNanosPerHour: replicas * cpu * price, amount: replicas * cpu }, usedCpu: nothing, requestedMemory: nothing, usedMemory: nothing, gpuNanosPerHour });

describe('drivers of a cost', () => {
  it('name what alone has changed', () => {
    expect(costDrivers(period(2, 500, 10), period(3, 500, 10))).toEqual([{ name: 'replicas', nanosPerHour: expect.closeTo(5000, 6) }]);
    expect(costDrivers(period(2, 500, 10), period(2, 250, 10))).toEqual([{ name: 'requests', nanosPerHour: expect.closeTo(-5000, 6) }]);
    expect(costDrivers(period(2, 500, 10), period(2, 500, 11))).toEqual([{ name: 'price', nanosPerHour: expect.closeTo(1000, 6) }]);
    expect(costDrivers(period(2, 500, 10), period(2, 500, 10, 77))).toEqual([{ name: 'gpus', nanosPerHour: 77 }]);
    const used = (rate: number): PeriodRates => ({ ...period(1, 0, 0), usedMemory: { costNanosPerHour: rate * 3, amount: rate } });
    expect(costDrivers(used(100), used(200))).toEqual([{ name: 'usage', nanosPerHour: expect.closeTo(300, 6) }]);
    expect(costDrivers(period(2, 500, 10), period(2, 500, 10))).toEqual([]);
  });

  it('what begins from nothing is a change of replicas; a request that begins with pods there is one of requests', () => {
    expect(costDrivers(period(0, 0, 0), period(2, 500, 10))).toEqual([{ name: 'replicas', nanosPerHour: 10_000 }]);
    expect(costDrivers(period(2, 500, 10), period(0, 0, 0))).toEqual([{ name: 'replicas', nanosPerHour: -10_000 }]);
    expect(costDrivers(period(2, 0, 0), period(2, 500, 10))).toEqual([{ name: 'requests', nanosPerHour: 10_000 }]);
  });

  it('law: the parts sum to the change, and backwards they are the same with the other sign', () => {
    const positive = fc.double({ min: 0.01, max: 1e6, noNaN: true });
    const each = fc.tuple(positive, positive, positive).map(([replicas, cpu, price]) => period(replicas, cpu, price));
    fc.assert(fc.property(each, each, (before, after) => {
      const change = after.requestedCpu.costNanosPerHour - before.requestedCpu.costNanosPerHour;
      const drivers = costDrivers(before, after);
      const scale = Math.max(after.requestedCpu.costNanosPerHour, before.requestedCpu.costNanosPerHour);
      // What moved by less than a nano an hour is left out.
      expect(Math.abs(drivers.reduce((sum, { nanosPerHour }) => sum + nanosPerHour, 0) - change)).toBeLessThan(3 + scale * 1e-6);
      for (const { name, nanosPerHour } of costDrivers(after, before)) expect(Math.abs((drivers.find((other) => other.name === name)?.nanosPerHour ?? 0) + nanosPerHour)).toBeLessThan(1 + scale * 1e-6);
    }));
  });

  it('of nodes are their number and their price', () => {
    expect(nodeDrivers({ nodes: 2, nanosPerHour: 200 }, { nodes: 3, nanosPerHour: 300 })).toEqual([{ name: 'nodes', nanosPerHour: expect.closeTo(100, 6) }]);
    expect(nodeDrivers({ nodes: 2, nanosPerHour: 200 }, { nodes: 2, nanosPerHour: 300 })).toEqual([{ name: 'price', nanosPerHour: expect.closeTo(100, 6) }]);
    expect(nodeDrivers({ nodes: 0, nanosPerHour: 0 }, { nodes: 2, nanosPerHour: 300 })).toEqual([{ name: 'nodes', nanosPerHour: 300 }]);
    expect(nodeDrivers({ nodes: 0, nanosPerHour: 0 }, { nodes: 0, nanosPerHour: 0 })).toEqual([]);
  });
});
