import fc from 'fast-check';
import { growthOf, nanocoresBetween, NodeSampler, type ContainerMinute, type PodMinute, type SamplerOptions } from './sampler.js';
import { NO_CONTAINER, NO_POD, type ContainerReading, type PodReading, type Scrape } from './scrape.js';

const T0 = 26_000_000 * 60_000;
const second = (seconds: number) => T0 + seconds * 1_000;
const container = (seconds: number, fields: Partial<ContainerReading> = {}): ContainerReading => ({ ...NO_CONTAINER, namespace: 'default', podName: 'web-0', container: 'web', timeMs: second(seconds), ...fields });
const pod = (seconds: number, fields: Partial<PodReading> = {}): PodReading => ({ ...NO_POD, namespace: 'default', podName: 'web-0', timeMs: second(seconds), ...fields });
const scrape = (seconds: number, containers: ContainerReading[], pods: PodReading[] = []): Scrape => ({ node: 'n', timeMs: second(seconds), source: 'resource', containers, pods, nodeReading: null, malformed: 0 });
/** A container that used `cores` evenly since second 0 of its life. */
const steady = (seconds: number, cores: number, fields: Partial<ContainerReading> = {}) => container(seconds, { cpuNanosecondsTotal: seconds * cores * 1e9, memoryWorkingSetBytes: 1_000_000, ...fields });

function run(scrapes: Scrape[], options: SamplerOptions = {}): { containers: ContainerMinute[]; pods: PodMinute[] } {
  const sampler = new NodeSampler(options);
  const all = scrapes.map((each) => sampler.sample(each));
  return { containers: all.flatMap(({ containers }) => containers), pods: all.flatMap(({ pods }) => pods) };
}
const minutesOf = (samples: { minute: number }[]) => samples.map(({ minute }) => minute - T0 / 60_000);

describe('one sample a container and minute', () => {
  it.each([15, 20, 30, 45, 60])('of an even load scraped every %i s is that load', (step) => {
    const scrapes = Array.from({ length: 601 / step }, (_, i) => scrape(i * step, [steady(i * step, 0.25)]));
    const { containers } = run(scrapes);
    expect(minutesOf(containers)).toEqual(containers.map((_, i) => i));
    expect(containers.length).toBeGreaterThanOrEqual(9);
    for (const sample of containers) expect(sample).toMatchObject({ cpuMillicores: 250, cpuPeakMillicores: 250, memoryBytes: 1_000_000, memoryPeakBytes: 1_000_000, throttledPermille: null, restarts: 0, coveredMs: 60_000 });
  });

  it('parts an interval over the minutes that it touches, and keeps mean and peak apart', () => {
    const { containers } = run([scrape(0, [container(0, { cpuNanosecondsTotal: 0 })]), scrape(30, [container(30, { cpuNanosecondsTotal: 3e9 })]), scrape(90, [container(90, { cpuNanosecondsTotal: 63e9 })]), scrape(125, [container(125, { cpuNanosecondsTotal: 63e9 })])]);
    expect(containers.map(({ cpuMillicores, cpuPeakMillicores, memoryBytes }) => ({ cpuMillicores, cpuPeakMillicores, memoryBytes }))).toEqual([
      { cpuMillicores: 550, cpuPeakMillicores: 1_000, memoryBytes: null }, { cpuMillicores: 500, cpuPeakMillicores: 1_000, memoryBytes: null },
    ]);
  });

  it('never says 0 of a counter that moved, and says 0 of one that did not', () => {
    const used = (nanoseconds: number) => run([scrape(0, [container(0, { cpuNanosecondsTotal: 5 })]), scrape(60, [container(60, { cpuNanosecondsTotal: 5 + nanoseconds })])]).containers[0]?.cpuMillicores;
    expect(used(1)).toBe(1);
    expect(used(0)).toBe(0);
  });

  it('takes memory as a line between readings and its peak from them', () => {
    const { containers } = run([0, 30, 60].map((seconds) => scrape(seconds, [container(seconds, { cpuNanosecondsTotal: 0, memoryWorkingSetBytes: seconds === 30 ? 300 : 100 })])));
    expect(containers[0]).toMatchObject({ memoryBytes: 200, memoryPeakBytes: 300 });
  });

  it('takes nothing from an answer out of the kubelet\'s cache', () => {
    const { containers } = run([scrape(0, [steady(0, 1)]), scrape(15, [steady(0, 1)]), scrape(30, [steady(30, 1)]), scrape(60, [steady(60, 1)])]);
    expect(containers).toHaveLength(1);
    expect(containers[0]).toMatchObject({ cpuMillicores: 1_000, cpuPeakMillicores: 1_000 });
  });

  it('leaves a gap where there is one', () => {
    const at = [0, 60, 120, 301, 361, 420];
    expect(minutesOf(run(at.map((seconds) => scrape(seconds, [steady(seconds, 1)]))).containers)).toEqual([0, 1, 5, 6]);
    expect(minutesOf(run([0, 60, 240, 300].map((seconds) => scrape(seconds, [steady(seconds, 1)]))).containers)).toEqual([0, 1, 2, 3, 4]);
  });

  it('tells no minute of which it saw less than a quarter', () => {
    expect(run([scrape(50, [steady(50, 1)]), scrape(70, [steady(70, 1)]), scrape(120, [steady(120, 1)])]).containers.map(({ coveredMs }) => coveredMs)).toEqual([60_000]);
    expect(run([scrape(40, [steady(40, 1)]), scrape(70, [steady(70, 1)])]).containers.map(({ coveredMs, cpuMillicores }) => ({ coveredMs, cpuMillicores }))).toEqual([{ coveredMs: 20_000, cpuMillicores: 1_000 }]);
  });

  it('tells the share of throttled periods', () => {
    const reading = (seconds: number, periods: number, throttled: number) => steady(seconds, 1, { cfsPeriodsTotal: periods, cfsThrottledPeriodsTotal: throttled });
    expect(run([scrape(0, [reading(0, 0, 0)]), scrape(30, [reading(30, 300, 30)]), scrape(60, [reading(60, 600, 30)])]).containers[0]?.throttledPermille).toBe(50);
    expect(run([scrape(0, [reading(0, 5, 1)]), scrape(60, [reading(60, 5, 1)])]).containers[0]?.throttledPermille).toBe(0);
  });

  it('tells throttling and traffic though only every third scrape asks for them', () => {
    const scrapes = Array.from({ length: 19 }, (_each, i) => {
      const seconds = i * 20;
      const full = i % 3 === 0;
      const counters = full ? { cfsPeriodsTotal: seconds * 10, cfsThrottledPeriodsTotal: seconds, podUid: 'a' } : {};
      // What the kubelet answers of traffic is some seconds old.
      const traffic = full ? { timeMs: second(seconds - 12), networkReceiveBytesTotal: seconds * 100, networkTransmitBytesTotal: seconds * 10, podUid: 'a' } : {};
      return scrape(seconds, [steady(seconds, 0.5, counters)], [pod(seconds, traffic)]);
    });
    const { containers, pods } = run(scrapes);
    expect(containers.map(({ minute, throttledPermille, cpuMillicores, podUid }) => [minute - T0 / 60_000, throttledPermille, cpuMillicores, podUid])).toEqual([0, 1, 2, 3, 4, 5].map((minute) => [minute, 100, 500, 'a']));
    expect(pods.map(({ minute, receiveBytesPerSecond, transmitBytesPerSecond }) => [minute - T0 / 60_000, receiveBytesPerSecond, transmitBytesPerSecond])).toEqual([0, 1, 2, 3, 4].map((minute) => [minute, 100, 10]));
  });

  it('asks again whose a container is when it started anew', () => {
    const life = (seconds: number, start: number, podUid: string | null) => container(seconds, { cpuNanosecondsTotal: (seconds - start) * 1e9, startTimeMs: second(start), podUid });
    const { containers } = run([scrape(0, [life(0, -900, 'a')]), scrape(20, [life(20, -900, null)]), scrape(60, [life(60, 25, null)]), scrape(120, [life(120, 25, null)]), scrape(140, [life(140, 25, 'b')]), scrape(180, [life(180, 25, null)])]);
    expect(containers.map(({ podUid }) => podUid)).toEqual([null, null, 'b']);
  });

  it('takes gauges of the metrics API for the time since the last', () => {
    const gauge = (seconds: number, nanocores: number) => container(seconds, { cpuNanocores: nanocores, cpuWindowMs: 30_000, memoryWorkingSetBytes: 5 });
    const { containers } = run([scrape(30, [gauge(30, 1e8)]), scrape(60, [gauge(60, 3e8)]), scrape(120, [gauge(120, 2e8)])]);
    expect(containers.map(({ cpuMillicores, cpuPeakMillicores }) => [cpuMillicores, cpuPeakMillicores])).toEqual([[200, 300], [200, 200]]);
  });
});

describe('restarts and resets', () => {
  const life = (seconds: number, start: number, cores: number) => container(seconds, { cpuNanosecondsTotal: (seconds - start) * cores * 1e9, startTimeMs: second(start), memoryWorkingSetBytes: 7 });

  it('counts a restart and what the new container used since its start', () => {
    const { containers } = run([scrape(0, [life(0, -1_000, 0.1)]), scrape(30, [life(30, -1_000, 0.1)]), scrape(60, [life(60, 40, 0.2)]), scrape(120, [life(120, 40, 0.2)])]);
    expect(containers).toMatchObject([{ cpuMillicores: 140, cpuPeakMillicores: 200, restarts: 1, coveredMs: 50_000 }, { cpuMillicores: 200, restarts: 0 }]);
  });

  it('makes no spike of a start just before the reading', () => {
    const { containers } = run([scrape(0, [life(0, -1_000, 0.1)]), scrape(59.5, [container(59.5, { cpuNanosecondsTotal: 4e9, startTimeMs: second(59.499) })]), scrape(60.5, [container(60.5, { cpuNanosecondsTotal: 4e9, startTimeMs: second(59.499) })])]);
    expect(containers).toHaveLength(1);
    expect(containers[0]).toMatchObject({ cpuPeakMillicores: 67, restarts: 1 });
  });

  it('sees a restart whose counter has overtaken the old one', () => {
    const { containers } = run([scrape(0, [life(0, -10, 0.1)]), scrape(60, [life(60, 20, 1)])]);
    expect(containers[0]).toMatchObject({ cpuMillicores: 1_000, restarts: 1, coveredMs: 40_000 });
  });

  it('takes a counter that fell without a start for a glitch', () => {
    const counter = (seconds: number, value: number) => container(seconds, { cpuNanosecondsTotal: value, startTimeMs: second(-9_000) });
    const { containers } = run([scrape(0, [counter(0, 1e12)]), scrape(30, [counter(30, 1e12 - 5)]), scrape(60, [counter(60, 1e12 + 3e9)])]);
    expect(containers[0]).toMatchObject({ cpuMillicores: 100, cpuPeakMillicores: 100, coveredMs: 30_000, restarts: 0 });
  });

  it('leaves out what a node cannot do', () => {
    const { containers } = run([scrape(0, [steady(0, 1)]), scrape(30, [container(30, { cpuNanosecondsTotal: 900e9 })]), scrape(60, [container(60, { cpuNanosecondsTotal: 930e9 })])], { nodeCpuMillicores: 4_000 });
    expect(containers[0]).toMatchObject({ cpuMillicores: 1_000, cpuPeakMillicores: 1_000, coveredMs: 30_000 });
  });

  it('counts the first minutes of a container that it did not see start', () => {
    const { containers } = run([scrape(60, [life(60, 30, 2)])]);
    expect(containers).toEqual([]);
    expect(run([scrape(60, [life(60, 30, 2)]), scrape(120, [life(120, 30, 2)])]).containers).toMatchObject([{ cpuMillicores: 2_000, coveredMs: 30_000, restarts: 0 }, { cpuMillicores: 2_000 }]);
  });

  it('keeps a restart whose own minute cannot be told for the next', () => {
    const { containers } = run([scrape(50, [life(50, -1_000, 0.1)]), scrape(70, [life(70, 55, 0.1)]), scrape(120, [life(120, 55, 0.1)])]);
    expect(containers).toMatchObject([{ minute: T0 / 60_000 + 1, restarts: 1 }]);
  });

  it('never mixes two pods of one name', () => {
    const old = (seconds: number) => steady(seconds, 1, { podUid: 'a' });
    const { containers } = run([scrape(0, [old(0)]), scrape(30, [old(30)]), scrape(60, [container(60, { podUid: 'b', cpuNanosecondsTotal: 99e9 })]), scrape(120, [container(120, { podUid: 'b', cpuNanosecondsTotal: 102e9 })])]);
    expect(containers.map(({ podUid, cpuMillicores }) => [podUid, cpuMillicores])).toEqual([['a', 1_000], ['b', 50]]);
  });

  it('begins anew when a node\'s clock was set back, and tells no minute twice', () => {
    const { containers } = run([scrape(600, [steady(600, 1)]), scrape(660, [steady(660, 1)]), scrape(0, [container(0, { cpuNanosecondsTotal: 661e9 })]), scrape(60, [container(60, { cpuNanosecondsTotal: 662e9 })])]);
    expect(minutesOf(containers)).toEqual([10]);
  });

  it('bridges a scrape that forgot a container, and lets go of what is gone', () => {
    const sampler = new NodeSampler();
    const samples = [scrape(0, [steady(0, 1)]), scrape(20, [steady(20, 1)]), scrape(40, []), scrape(60, [steady(60, 1)]), scrape(80, [steady(80, 1)])].flatMap((each) => sampler.sample(each).containers);
    expect(samples).toMatchObject([{ cpuMillicores: 1_000, coveredMs: 60_000 }]);
    expect(sampler.sample(scrape(200, [])).containers).toEqual([]);
    expect(sampler.sample(scrape(300, [])).containers).toMatchObject([{ minute: T0 / 60_000 + 1, coveredMs: 20_000 }]);
    expect(sampler.sample(scrape(400, [])).containers).toEqual([]);
  });
});

describe('one sample a pod and minute', () => {
  const traffic = (seconds: number, receive: number, transmit: number, fields: Partial<PodReading> = {}) => pod(seconds, { networkReceiveBytesTotal: receive, networkTransmitBytesTotal: transmit, ...fields });

  it('is the mean of its traffic and the last of its volumes', () => {
    const volumes = [{ name: 'data', claim: 'data-web-0', usedBytes: 10, capacityBytes: 100 }, { name: 'tmp', claim: null, usedBytes: 5, capacityBytes: null }, { name: 'gone', claim: null, usedBytes: null, capacityBytes: null }];
    const { pods } = run([scrape(0, [], [traffic(0, 1_000, 0)]), scrape(30, [], [traffic(30, 4_000, 300)]), scrape(60, [], [traffic(60, 7_000, 600, { volumes, ephemeralStorageUsedBytes: 9 })])]);
    expect(pods).toMatchObject([{ receiveBytesPerSecond: 100, transmitBytesPerSecond: 10, volumesUsedBytes: 15, ephemeralStorageUsedBytes: 9, coveredMs: 60_000 }]);
  });

  it('says nothing of the traffic of a pod on the host\'s network', () => {
    const scrapes = [scrape(0, [], [traffic(0, 0, 0)]), scrape(60, [], [traffic(60, 6e9, 6e9)])];
    expect(run(scrapes, { hostNetworkPods: new Set(['default/web-0']) }).pods).toMatchObject([{ receiveBytesPerSecond: null, transmitBytesPerSecond: null }]);
  });

  it('makes nothing of counters that fell', () => {
    const { pods } = run([scrape(0, [], [traffic(0, 9e9, 9e9)]), scrape(30, [], [traffic(30, 8.9e9, 5)]), scrape(60, [], [traffic(60, 8.9e9 + 300, 35)])]);
    expect(pods).toMatchObject([{ receiveBytesPerSecond: 10, transmitBytesPerSecond: 1, volumesUsedBytes: null }]);
  });
});

describe('laws of the sampler', () => {
  /** Steps of 1 to 250 s with what was used in them; now and then the container starts anew or the counter glitches. */
  const history = fc.array(fc.record({ stepMs: fc.integer({ min: 1_000, max: 250_000 }), cores: fc.double({ min: 0, max: 8, noNaN: true }), event: fc.constantFrom('none', 'none', 'none', 'restart', 'reset', 'cached', 'missing') }), { minLength: 2, maxLength: 40 });

  it('no minute twice, none negative, none above what was ever used, time never invented', () => {
    fc.assert(fc.property(history, fc.integer({ min: 0, max: 59_999 }), fc.boolean(), (steps, phase, tellsStarts) => {
      let timeMs = T0 + phase;
      let counter = 5e9;
      let startTimeMs = timeMs - 600_000;
      let readings: ContainerReading = container(0, { timeMs, cpuNanosecondsTotal: counter, startTimeMs: tellsStarts ? startTimeMs : null, memoryWorkingSetBytes: 10 });
      const scrapes = [{ ...scrape(0, [readings]), timeMs }];
      let most = 0;
      for (const { stepMs, cores, event } of steps) {
        timeMs += stepMs;
        most = Math.max(most, cores);
        if (event === 'restart') {
          startTimeMs = timeMs - stepMs / 2;
          counter = (cores * 1e6 * stepMs) / 2;
        } else if (event === 'reset') counter = cores * 1e6 * stepMs * 0.5;
        else counter += cores * 1e6 * stepMs;
        if (event !== 'cached') readings = container(0, { timeMs, cpuNanosecondsTotal: Math.round(counter), startTimeMs: tellsStarts ? startTimeMs : null, memoryWorkingSetBytes: 10 });
        scrapes.push({ ...scrape(0, event === 'missing' ? [] : [readings]), timeMs });
      }
      scrapes.push({ ...scrape(0, []), timeMs: timeMs + 400_000 });
      const { containers } = run(scrapes);
      expect(new Set(containers.map(({ minute }) => minute)).size).toBe(containers.length);
      for (const sample of containers) {
        expect(sample.cpuMillicores).toBeGreaterThanOrEqual(0);
        expect(sample.cpuPeakMillicores).toBeGreaterThanOrEqual(sample.cpuMillicores);
        expect(sample.cpuPeakMillicores).toBeLessThanOrEqual(Math.max(1, Math.round(most * 1_000) + 1));
        expect(sample.memoryBytes).toBe(10);
        expect(sample.coveredMs).toBeLessThanOrEqual(60_000);
        expect(sample.restarts).toBeLessThanOrEqual(steps.length);
        expect((sample.minute + 1) * 60_000).toBeGreaterThan(T0);
        expect(sample.minute * 60_000).toBeLessThanOrEqual(timeMs);
      }
    }), { numRuns: 500 });
  });

  it('what is told adds up to what was used, where nothing is lost', () => {
    fc.assert(fc.property(fc.array(fc.record({ stepMs: fc.integer({ min: 1_000, max: 60_000 }), cores: fc.double({ min: 0, max: 8, noNaN: true }) }), { minLength: 2, maxLength: 40 }), (steps) => {
      let timeMs = T0;
      let counter = 0;
      const scrapes = [{ ...scrape(0, [container(0, { timeMs, cpuNanosecondsTotal: 0 })]), timeMs }];
      for (const { stepMs, cores } of steps) {
        timeMs += stepMs;
        counter += cores * 1e6 * stepMs;
        scrapes.push({ ...scrape(0, [container(0, { timeMs, cpuNanosecondsTotal: counter })]), timeMs });
      }
      scrapes.push({ ...scrape(0, []), timeMs: timeMs + 400_000 });
      const told = run(scrapes).containers.reduce((sum, { cpuMillicores, coveredMs }) => sum + cpuMillicores * coveredMs * 1e3, 0);
      // Each minute is rounded to a millicore; the last is left out where less than a quarter of it was seen.
      const minutes = Math.ceil((timeMs - T0) / 60_000);
      expect(Math.abs(told - counter)).toBeLessThanOrEqual(minutes * 60_000 * 1e3 + 15_000 * 8e6);
    }));
  });
});

describe('growth of counters', () => {
  it('is unknown where the counter fell or is', () => {
    expect([growthOf(1, 3), growthOf(3, 1), growthOf(null, 1), growthOf(1, null)]).toEqual([2, null, null, null]);
    expect(nanocoresBetween(container(0, { cpuNanosecondsTotal: 0 }), container(2, { cpuNanosecondsTotal: 2e9 }))).toBe(1e9);
    expect(nanocoresBetween(container(2, { cpuNanosecondsTotal: 0 }), container(2, { cpuNanosecondsTotal: 2e9 }))).toBeNull();
  });
});
