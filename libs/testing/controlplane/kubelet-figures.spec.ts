import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { type KubeletPod, Totals, cadvisorMetrics, knows, nodeFigures, parseKwok, resourceMetrics, statsSummary } from './kubelet-figures.js';
import { usageAnnotations } from './usage.js';

const STARTED = Date.parse('2026-03-01T12:00:00Z');
const NODE = { name: 'node-0', startedAtMs: STARTED - 60_000, memoryCapacityBytes: 16 * 2 ** 30 };

const KWOK = `# HELP container_cpu_usage_seconds_total CPU time
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="app",namespace="shop",pod="web"} 12.5
container_cpu_usage_seconds_total{container="proxy",namespace="shop",pod="web"} 1
container_cpu_usage_cores{container="app",namespace="shop",pod="web"} 0.25
container_cpu_usage_cores{container="proxy",namespace="shop",pod="web"} 0.02
container_memory_working_set_bytes{container="app",namespace="shop",pod="web"} 1.048576e+08
container_memory_working_set_bytes{container="proxy",namespace="shop",pod="web"} 1.6777216e+07
node_cpu_usage_seconds_total 20
node_memory_working_set_bytes 1.21634816e+08
`;

function pod(annotations: Record<string, string> = {}, hostNetwork = false): KubeletPod {
  return {
    metadata: { name: 'web', namespace: 'shop', uid: 'uid-1', annotations },
    spec: {
      hostNetwork,
      containers: [{ name: 'app', image: 'web:1', resources: { limits: { cpu: '500m' } } }, { name: 'proxy', image: 'proxy:1' }],
      volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'data-web' } }, { name: 'tmp', emptyDir: {} }, { name: 'config' }],
    },
    status: {
      phase: 'Running', startTime: new Date(STARTED).toISOString(),
      containerStatuses: [{ name: 'app', containerID: 'containerd://abc', state: { running: { startedAt: new Date(STARTED + 1_000).toISOString() } } }],
    },
  };
}

const figures = (annotations = {}, hostNetwork = false, nowMs = STARTED + 100_000, totals = new Totals()) => nodeFigures(NODE, parseKwok(KWOK), [pod(annotations, hostNetwork)], totals, nowMs);

describe('totals', () => {
  it('are rate times time since the start, whenever they are looked at', () => {
    fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 10_000 }), { minLength: 1, maxLength: 20 }), fc.integer({ min: 0, max: 1e6 }), (steps, rate) => {
      const totals = new Totals();
      let now = 5_000;
      let total = 0;
      for (const step of steps) total = totals.advance('key', rate, 5_000, (now += step));
      expect(total).toBeCloseTo((rate * (now - 5_000)) / 1000, 3);
    }));
  });

  it('never fall, also when the rate does', () => {
    fc.assert(fc.property(fc.array(fc.tuple(fc.integer({ min: -100, max: 10_000 }), fc.integer({ min: 0, max: 1e6 })), { minLength: 2 }), (steps) => {
      const totals = new Totals();
      let now = 0;
      let before = 0;
      for (const [step, rate] of steps) {
        const total = totals.advance('key', rate, 0, (now += step));
        expect(total).toBeGreaterThanOrEqual(before);
        before = total;
      }
    }));
  });
});

describe('a node’s figures', () => {
  it('join what kwok measures with what pods say', () => {
    const [web] = figures(usageAnnotations({ receiveBytesPerSecond: 1_000, transmitBytesPerSecond: 10, throttledShare: 0.25, volumeUsedBytes: 7 })).pods;
    expect(web).toMatchObject({ namespace: 'shop', name: 'web', uid: 'uid-1', network: { receivedBytes: 100_000, transmittedBytes: 1_000 } });
    expect(web?.containers).toMatchObject([
      // 99 s of 10 periods each since the container started.
      { name: 'app', id: 'abc', startedAtMs: STARTED + 1_000, cpuSeconds: 12.5, cpuCores: 0.25, workingSetBytes: 104_857_600, quota: { periods: 990, throttledPeriods: 247 } },
      { name: 'proxy', startedAtMs: STARTED, quota: null },
    ]);
    expect(web?.volumes).toMatchObject([{ name: 'data', claim: 'data-web', usedBytes: 7 }, { name: 'tmp', usedBytes: 7 }]);
  });

  it('say nothing of traffic on the node’s own network, nor of pods that are not known', () => {
    expect(figures({}, true).pods[0]?.network).toBeNull();
    expect(nodeFigures(NODE, parseKwok(''), [pod()], new Totals(), STARTED).pods).toEqual([]);
    expect([parseKwok(KWOK), parseKwok('')].map((kwok) => knows(kwok, pod()))).toEqual([true, false]);
  });

  it('are text with times for Prometheus', () => {
    const text = resourceMetrics(figures());
    expect(text).toContain(`container_cpu_usage_seconds_total{container="app",namespace="shop",pod="web"} 12.5 ${STARTED + 100_000}\n`);
    expect(text).toContain(`pod_cpu_usage_seconds_total{namespace="shop",pod="web"} 13.5 ${STARTED + 100_000}\n`);
    expect(text).toContain(`node_memory_working_set_bytes 121634816 ${STARTED + 100_000}\n`);
    expect(text).toMatch(/\nresource_scrape_error 0\n$/);
    const throttled = cadvisorMetrics(figures(usageAnnotations({ throttledShare: 0.5 }))).split('\n').filter((line) => line.startsWith('container_cpu_cfs_throttled'));
    expect(throttled.map((line) => /container="(\w+)".* (\S+) \d+$/.exec(line)?.slice(1))).toEqual([['app', '495'], ['app', '24.75']]);
  });

  it('have the shape of a real kubelet’s summary', () => {
    const real = JSON.parse(readFileSync(new URL('../../../testdata/kubelet/stats-summary.json', import.meta.url), 'utf8')) as object;
    /** Paths of all fields, items of arrays taken together. */
    const fields = (value: unknown, path = ''): string[] => {
      if (typeof value !== 'object' || value === null) return [path];
      return Object.entries(value).flatMap(([key, inner]) => fields(inner, Array.isArray(value) ? `${path}[]` : `${path}.${key}`));
    };
    const known = new Set(fields(real));
    const ours = new Set(fields(statsSummary(figures(usageAnnotations({ receiveBytesPerSecond: 1 })))));
    expect([...ours].filter((field) => !known.has(field) && !field.startsWith('.pods[].volume[].pvcRef'))).toEqual([]);
    for (const field of ['.pods[].network.rxBytes', '.pods[].podRef.uid', '.pods[].containers[].cpu.usageCoreNanoSeconds', '.node.memory.availableBytes']) expect(ours).toContain(field);
  });
});
