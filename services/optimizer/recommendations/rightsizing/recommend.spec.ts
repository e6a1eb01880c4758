import fc from 'fast-check';
import type { Autoscaler, ContainerHistory, UsagePeriod } from './history.js';
import { recommendContainer } from './recommend.js';
import { oomFloor } from './memory.js';

const HOUR = 3_600_000;
const MEBIBYTE = 2 ** 20;
const start = Date.UTC(2025, 2, 3);

function hours(count: number, of: (hour: number) => Partial<UsagePeriod>): UsagePeriod[] {
  return Array.from({ length: count }, (_, hour) => {
    const own = of(hour);
    return { startMs: start + hour * HOUR, coveredMinutes: 60, cpuMeanMillicores: null, cpuMaxMillicores: own.cpuMeanMillicores ?? null, memoryMaxBytes: null, ...own };
  });
}

const steady = (count: number, cpu = 200, memory = 500 * MEBIBYTE) => hours(count, () => ({ cpuMeanMillicores: cpu, cpuMaxMillicores: cpu * 1.1, memoryMaxBytes: memory }));
const recommend = (periods: UsagePeriod[], more: Partial<ContainerHistory> = {}) => recommendContainer({ periods, ...more });

describe('right-sizing a container', () => {
  it('covers steady usage with little to spare, and less the longer it is known', () => {
    const day = recommend(steady(24));
    const fortnight = recommend(steady(14 * 24));
    for (const { cpu, memory } of [day, fortnight]) {
      expect(cpu.request).toBeGreaterThanOrEqual(200);
      expect(cpu.request).toBeLessThan(250);
      expect(memory.request).toBeGreaterThan(500 * MEBIBYTE);
      expect(memory.request).toBeLessThan(550 * MEBIBYTE);
    }
    expect(fortnight.memory.request).toBeLessThan(day.memory.request ?? 0);
    expect(fortnight.confidence).toBeGreaterThan(day.confidence);
    expect(fortnight.evidence.replay.recommended).toMatchObject({ memoryPeriodsOver: 0, cpu: { unservedShare: 0 } });
  });

  it('takes memory from the largest peak, however rare, and shows it', () => {
    const peak = 1024 * MEBIBYTE;
    const { memory, evidence } = recommend(hours(24 * 90, (hour) => ({ memoryMaxBytes: hour === 100 ? peak : 300 * MEBIBYTE })));
    expect(memory.request).toBeGreaterThan(peak);
    expect(evidence.memory?.largestPeakBytes).toBe(peak);
  });

  it('gives erratic and rising peaks more room than steady ones', () => {
    const room = (peak: (day: number) => number) => recommend(hours(14 * 24, (hour) => ({ memoryMaxBytes: peak(Math.floor(hour / 24)) * MEBIBYTE }))).evidence.memory?.headRoomShare ?? 0;
    const flat = room(() => 500);
    expect(room((day) => 500 + 40 * (day % 3))).toBeGreaterThan(flat + 0.05);
    expect(room((day) => 500 + 10 * day)).toBeGreaterThan(flat + 0.05);
    expect(room((day) => (day === 5 ? 1500 : 500))).toBeCloseTo(flat, 6);
  });

  it('never sizes memory below a peak, an OOM floor or the minimum, nor anything above the largest node', () => {
    const node = { cpuMillicores: 4000, memoryBytes: 16 * 1024 * MEBIBYTE };
    fc.assert(fc.property(
      fc.array(fc.record({ cpu: fc.double({ min: 0, max: 1e5, noNaN: true }), memory: fc.double({ min: 1, max: 1e12, noNaN: true }), minutes: fc.integer({ min: 0, max: 60 }) }), { minLength: 1, maxLength: 60 }),
      fc.option(fc.double({ min: 1, max: 1e12, noNaN: true }), { nil: null }),
      (samples, killedAt) => {
        const periods = hours(samples.length, (hour) => ({ cpuMeanMillicores: samples[hour]?.cpu ?? 0, memoryMaxBytes: samples[hour]?.memory ?? 0, coveredMinutes: samples[hour]?.minutes ?? 0 }));
        const { cpu, memory, confidence } = recommend(periods, { largestNode: node, oomKills: killedAt === null ? [] : [{ atMs: start, limitBytes: killedAt }] });
        const known = periods.filter((period) => period.coveredMinutes > 0);
        if (known.length === 0) {
          expect([cpu.request, memory.request, confidence]).toEqual([null, null, 0]);
          return;
        }
        const peak = Math.max(...known.map((period) => period.memoryMaxBytes ?? 0));
        expect(memory.request).toBeGreaterThanOrEqual(Math.min(node.memoryBytes, Math.max(peak, 1.2 * (killedAt ?? 0), 96 * MEBIBYTE)));
        for (const [advice, most] of [[cpu, node.cpuMillicores], [memory, node.memoryBytes]] as const) {
          for (const figure of [advice.request, advice.lower, advice.upper]) {
            expect(Number.isFinite(figure)).toBe(true);
            expect(figure).toBeLessThanOrEqual(most);
          }
          expect(advice.lower).toBeLessThanOrEqual(advice.request ?? 0);
          expect(advice.request).toBeLessThanOrEqual(advice.upper ?? 0);
        }
        expect(confidence).toBeGreaterThanOrEqual(0);
        expect(confidence).toBeLessThanOrEqual(99);
      },
    ));
  });

  it('is finite without a known node too', () => {
    const { cpu, memory } = recommend(steady(1));
    expect([cpu.upper, memory.upper].every(Number.isFinite)).toBe(true);
    expect(memory.upper).toBeLessThan(4 * (memory.request ?? 0));
  });

  it('knows hours from a distribution, or from mean and maximum alone', () => {
    const both = (distribution: [number, number][] | null) => recommend(hours(48, () => ({ cpuMeanMillicores: 100, cpuMaxMillicores: 100, cpuDistribution: distribution }))).cpu.request;
    expect(both(null)).toBe(both([[118, 12]]));
  });

  it('does not care in which order or under what pooling the hours come', () => {
    const own = hours(200, (hour) => ({ cpuMeanMillicores: 100 + 50 * Math.sin(hour / 4), memoryMaxBytes: (300 + (hour % 24)) * MEBIBYTE }));
    expect(recommend([...own].reverse())).toEqual(recommend(own));
  });

  it('serves a burst that comes every day, and lets one that came once go unserved', () => {
    const bursts = (days: ReadonlySet<number>) => recommend(hours(14 * 24, (hour) => {
      const burst = hour % 24 >= 9 && hour % 24 < 12 && days.has(Math.floor(hour / 24));
      return { cpuMeanMillicores: burst ? 400 : 100 };
    }));
    expect(bursts(new Set(Array.from({ length: 14 }, (_, day) => day))).cpu.request).toBeGreaterThanOrEqual(395);
    const once = bursts(new Set([6]));
    expect(once.cpu.request).toBeLessThan(150);
    expect(once.evidence.replay.recommended.cpu?.overShare).toBeCloseTo(3 / (14 * 24), 3);
  });

  it('raises a CPU level that keeps climbing above what was seen', () => {
    const climbing = recommend(hours(14 * 24, (hour) => ({ cpuMeanMillicores: 100 * 1.05 ** Math.floor(hour / 24) })));
    expect(climbing.cpu.request).toBeGreaterThan(100 * 1.05 ** 13 * 1.08);
    expect(climbing.evidence.cpu?.rise).toBeGreaterThan(0.05);
  });
});

describe('what the present request becomes', () => {
  it('keeps what is close, raises and lowers what is not', () => {
    const current = (cpu: number | null) => recommend(steady(14 * 24), { current: { cpuRequestMillicores: cpu, cpuLimitMillicores: null, memoryRequestBytes: null, memoryLimitBytes: null } }).cpu.change;
    expect([current(100), current(215), current(1000), current(null)]).toEqual(['raise', 'keep', 'lower', 'set']);
  });

  it('advises a CPU limit only where there is one, never under what was seen', () => {
    const limited = (limit: number | null) => recommend(steady(48), { current: { cpuRequestMillicores: 100, cpuLimitMillicores: limit, memoryRequestBytes: null, memoryLimitBytes: null } }).cpu.limit;
    expect(limited(null)).toBeNull();
    expect(limited(150)).toBeGreaterThanOrEqual(220);
  });
});

describe('OOM kills', () => {
  it('are a floor above the limit of the kill, whatever the samples say', () => {
    const { memory, notes } = recommend(steady(48, 200, 100 * MEBIBYTE), { oomKills: [{ atMs: start, limitBytes: 512 * MEBIBYTE }] });
    expect(memory).toMatchObject({ basis: 'oom_kill' });
    expect(memory.request).toBeGreaterThanOrEqual(1.2 * 512 * MEBIBYTE);
    expect(notes.join()).toContain('killed for memory');
  });

  it('do not inflate: the same limit again asks for the same floor, a cap of ours does not feed the next', () => {
    const once = oomFloor([{ atMs: 1, limitBytes: 1000 }], null);
    const often = oomFloor(Array.from({ length: 50 }, (_, i) => ({ atMs: i, limitBytes: 1000 })), 900);
    expect(often).toBe(once);
  });

  it('count at the largest peak where the limit is unknown', () => {
    expect(oomFloor([{ atMs: 1, limitBytes: null }], 500)).toBe(600);
    expect(oomFloor([{ atMs: 1, limitBytes: null }], null)).toBeNull();
    expect(oomFloor([], 500)).toBeNull();
  });
});

describe('an autoscaler on CPU', () => {
  /** What the HPA would do with a demand, and what would be seen of it. */
  function watched(demand: readonly number[], request: number, scaler: Autoscaler): UsagePeriod[] {
    return hours(demand.length, (hour) => {
      const wanted = Math.ceil((demand[hour] ?? 0) / (scaler.targetUtilization * request) - 1e-9);
      const replicas = Math.min(scaler.maxReplicas, Math.max(scaler.minReplicas, wanted));
      return { cpuMeanMillicores: (demand[hour] ?? 0) / replicas, replicas };
    });
  }
  const advise = (demand: readonly number[], request: number, scaler: Autoscaler) =>
    recommend(watched(demand, request, scaler), { autoscaler: scaler, current: { cpuRequestMillicores: request, cpuLimitMillicores: null, memoryRequestBytes: null, memoryLimitBytes: null } }).cpu;

  it('reaches a fixed point in one step', () => {
    fc.assert(fc.property(
      fc.array(fc.double({ min: 10, max: 50_000, noNaN: true }), { minLength: 24, maxLength: 72 }), fc.integer({ min: 50, max: 4000 }),
      fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 20 }), fc.double({ min: 0.3, max: 0.95, noNaN: true }),
      (demand, request, minReplicas, more, targetUtilization) => {
        const scaler: Autoscaler = { resource: 'cpu', targetUtilization, minReplicas, maxReplicas: minReplicas + more };
        const first = advise(demand, request, scaler).request ?? 0;
        const second = advise(demand, first, scaler).request ?? 0;
        const third = advise(demand, second, scaler).request ?? 0;
        expect(second).toBe(first);
        expect(third).toBe(first);
      },
    ), { numRuns: 300 });
  });

  it('does not shrink the request that the autoscaler steers by', () => {
    const scaler: Autoscaler = { resource: 'cpu', targetUtilization: 0.8, minReplicas: 2, maxReplicas: 10 };
    expect(advise(Array.from({ length: 48 }, (_, hour) => 2000 + 1500 * Math.sin(hour / 4)), 500, scaler)).toMatchObject({ request: 500, basis: 'autoscaler', change: 'keep' });
  });

  it('leaves CPU alone where the replicas are not known', () => {
    const scaler: Autoscaler = { resource: 'cpu', targetUtilization: 0.8, minReplicas: 2, maxReplicas: 10 };
    const { cpu, notes } = recommend(steady(48), { autoscaler: scaler, current: { cpuRequestMillicores: 500, cpuLimitMillicores: null, memoryRequestBytes: null, memoryLimitBytes: null } });
    expect(cpu).toMatchObject({ request: 500, change: 'keep' });
    expect(notes.join()).toContain('left alone');
  });

  it('on memory leaves memory alone', () => {
    const { memory } = recommend(steady(48), { autoscaler: { resource: 'memory', targetUtilization: 0.8, minReplicas: 1, maxReplicas: 3 } });
    expect(memory).toMatchObject({ request: null, basis: 'autoscaler', change: 'unknown' });
  });
});

describe('a JVM', () => {
  const none = { heapAfterCollectionPeakBytes: null, nonHeapPeakBytes: null, maxHeapBytes: null };
  const current = { cpuRequestMillicores: null, cpuLimitMillicores: null, memoryRequestBytes: 2048 * MEBIBYTE, memoryLimitBytes: 2048 * MEBIBYTE };

  it('is unknown without its heap, never shrunk', () => {
    const { memory, notes } = recommend(steady(14 * 24, 200, 700 * MEBIBYTE), { jvm: none, current });
    expect(memory).toMatchObject({ request: null, change: 'unknown' });
    expect(notes.join()).toContain('JVM');
  });

  it('is still raised by a kill', () => {
    const { memory } = recommend(steady(48, 200, 700 * MEBIBYTE), { jvm: none, current, oomKills: [{ atMs: start, limitBytes: 2048 * MEBIBYTE }] });
    expect(memory).toMatchObject({ basis: 'oom_kill', change: 'raise' });
  });

  it('is sized by its maximum heap, else by what stays alive', () => {
    const by = (jvm: ContainerHistory['jvm']) => recommend(steady(48, 200, 1900 * MEBIBYTE), { jvm, current }).memory.request ?? 0;
    expect(by({ heapAfterCollectionPeakBytes: 100 * MEBIBYTE, nonHeapPeakBytes: 200 * MEBIBYTE, maxHeapBytes: 1024 * MEBIBYTE })).toBeGreaterThanOrEqual(1224 * MEBIBYTE);
    const alive = by({ heapAfterCollectionPeakBytes: 300 * MEBIBYTE, nonHeapPeakBytes: 200 * MEBIBYTE, maxHeapBytes: null });
    expect(alive).toBeGreaterThanOrEqual(800 * MEBIBYTE);
    expect(alive).toBeLessThan(900 * MEBIBYTE);
  });
});

describe('jobs and replicas', () => {
  it('pool the runs of a job by its owner: per-run peaks, not time averages', () => {
    const runs = Array.from({ length: 10 }, (_, run): UsagePeriod => ({
      startMs: start + run * 24 * HOUR, durationMs: 5 * 60_000, coveredMinutes: 5, cpuMeanMillicores: 800, cpuMaxMillicores: 900, memoryMaxBytes: (run === 3 ? 600 : 400) * MEBIBYTE,
    }));
    const { cpu, memory, evidence } = recommend(runs, { workloadKind: 'CronJob' });
    expect(evidence.days).toBe(10);
    expect(cpu.request).toBeGreaterThanOrEqual(800);
    expect(memory.request).toBeGreaterThan(600 * MEBIBYTE);
  });

  it('say when replicas are not alike, and size for the largest', () => {
    const small = steady(48, 100, 200 * MEBIBYTE);
    const large = steady(48, 100, 1200 * MEBIBYTE);
    const { memory, notes, confidence } = recommend([...small, ...small, ...small, ...large], { workloadKind: 'DaemonSet', replicas: [small, small, small, large] });
    expect(notes.join()).toContain('not alike');
    expect(memory.request).toBeGreaterThan(1200 * MEBIBYTE);
    expect(confidence).toBeLessThan(recommend(small, { replicas: [small, small, small] }).confidence);
  });

  it('walk the history forward', () => {
    const leaking = recommend(hours(10 * 24, (hour) => ({ cpuMeanMillicores: 50, memoryMaxBytes: (200 + 4 * hour) * MEBIBYTE })));
    expect(leaking.evidence.walkForward).toMatchObject({ points: 8 });
    expect(leaking.evidence.walkForward?.memoryOverruns).toBeGreaterThan(0);
    expect(recommend(steady(10 * 24)).evidence.walkForward).toMatchObject({ memoryOverruns: 0, cpuUnservedShare: 0 });
  });
});
