import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { parse as parseYaml } from 'yaml';
import { readExposition } from './exposition.js';
import { parseCadvisorMetrics, parseResourceMetrics, parseStatsSummary } from './kubelet.js';
import { durationMs, parseNodeMetricsList, parsePodMetricsList } from './metrics-api.js';
import { nanocores, quantity } from './quantities.js';
import { nanocoresBetween } from './sampler.js';
import { MalformedScrapeError, mergeScrapes } from './scrape.js';

const T = Date.parse('2020-04-20T22:52:28Z');
const data = (name: string) => readFileSync(new URL(`../../../testdata/kubelet/${name}`, import.meta.url), 'utf8');

interface DataPoint { asDouble?: number; asInt?: string; attributes?: { key: string; value: { stringValue: string } }[] }
interface Expected { resourceMetrics: { resource: { attributes: { key: string; value: { stringValue: string } }[] }; scopeMetrics: { metrics: { name: string; gauge?: { dataPoints: DataPoint[] }; sum?: { dataPoints: DataPoint[] } }[] }[] }[] }

/** Values by object and metric, as the authors expect them: `pod uid[/container]` → metric[ direction interface] → value. */
function expectedValues(name: string): Map<string, Map<string, number>> {
  const objects = new Map<string, Map<string, number>>();
  for (const { resource, scopeMetrics } of (parseYaml(data(name)) as Expected).resourceMetrics) {
    const attributes = Object.fromEntries(resource.attributes.map(({ key, value }) => [key, value.stringValue]));
    if (attributes['k8s.volume.name'] !== undefined) continue;
    const key = [attributes['k8s.pod.uid'] ?? 'node', attributes['k8s.container.name']].filter((part) => part !== undefined).join('/');
    const values = objects.get(key) ?? new Map<string, number>();
    objects.set(key, values);
    for (const { metrics } of scopeMetrics) {
      for (const metric of metrics) {
        for (const point of (metric.gauge ?? metric.sum)?.dataPoints ?? []) {
          const labels = (point.attributes ?? []).map(({ value }) => value.stringValue);
          values.set([metric.name, ...labels].join(' '), point.asDouble ?? Number(point.asInt));
        }
      }
    }
  }
  return objects;
}

describe('the kubelet\'s summary against what its readers expect', () => {
  const first = parseStatsSummary(data('stats-summary.json'), 'minikube', T);
  const second = parseStatsSummary(data('stats-summary-second-scrape.json'), 'minikube', T + 2_000);

  it('tells CPU, working set and traffic of the node and of every pod and container', () => {
    const expected = expectedValues('test_scraper_expected.yaml');
    const told = new Map<string, Map<string, number | null>>();
    const set = (key: string, prefix: string, reading: { cpuNanosecondsTotal: number | null; cpuNanocores: number | null; memoryWorkingSetBytes: number | null; networkReceiveBytesTotal?: number | null; networkTransmitBytesTotal?: number | null }) => {
      told.set(key, new Map([
        [`${prefix}cpu.time`, reading.cpuNanosecondsTotal === null ? null : reading.cpuNanosecondsTotal / 1e9], [`${prefix}cpu.usage`, reading.cpuNanocores === null ? null : reading.cpuNanocores / 1e9],
        [`${prefix}memory.working_set`, reading.memoryWorkingSetBytes], [`${prefix}network.io receive eth0`, reading.networkReceiveBytesTotal ?? null], [`${prefix}network.io transmit eth0`, reading.networkTransmitBytesTotal ?? null],
      ]));
    };
    if (first.nodeReading !== null) set('node', 'k8s.node.', first.nodeReading);
    for (const each of first.pods) set(String(each.podUid), 'k8s.pod.', each);
    for (const each of first.containers) set(`${String(each.podUid)}/${each.container}`, 'container.', each);
    let compared = 0;
    for (const [key, values] of expected) {
      for (const [metric, value] of values) {
        if (!/(cpu\.(time|usage)|memory\.working_set|network\.io (receive|transmit) eth0)$/.test(metric)) continue;
        expect({ key, metric, value: told.get(key)?.get(metric) }).toEqual({ key, metric, value });
        compared++;
      }
    }
    expect(first.pods).toHaveLength(9);
    expect(first.containers).toHaveLength(9);
    expect(compared).toBeGreaterThanOrEqual(19 * 3 + 10 * 2);
    expect(first.malformed).toBe(0);
  });

  it('tells CPU between two scrapes from the counters', () => {
    const expected = expectedValues('test_scraper_cpu_usage_scrape_based_second_scrape_expected.yaml');
    let compared = 0;
    for (const now of second.containers) {
      const before = first.containers.find(({ podUid, container }) => podUid === now.podUid && container === now.container);
      const value = expected.get(`${String(now.podUid)}/${now.container}`)?.get('container.cpu.usage');
      if (before === undefined || value === undefined) continue;
      expect((nanocoresBetween(before, now) ?? Number.NaN) / 1e9).toBeCloseTo(value, 9);
      compared++;
    }
    expect(compared).toBe(9);
  });

  it('reads volumes with their claims, and added interfaces', () => {
    const summary = {
      node: { nodeName: 'n' },
      pods: [{
        podRef: { name: 'a', namespace: 'b', uid: 'u' }, network: { name: 'eth0', rxBytes: 1, txBytes: 2, interfaces: [{ name: 'eth0', rxBytes: 1, txBytes: 2 }, { name: 'net1', rxBytes: 10, txBytes: 20 }, { name: 'sit0', rxBytes: 100, txBytes: 200 }] },
        volume: [{ name: 'data', pvcRef: { name: 'data-a', namespace: 'b' }, usedBytes: 7, capacityBytes: 9 }, { nameless: true }], 'ephemeral-storage': { usedBytes: 3 }, containers: [{ name: 'c', startTime: null }, 'rubbish'],
      }, { podRef: {} }, null],
    };
    const { pods, containers, malformed } = parseStatsSummary(summary, 'n', T);
    expect(pods).toMatchObject([{ networkReceiveBytesTotal: 11, networkTransmitBytesTotal: 22, volumes: [{ name: 'data', claim: 'data-a', usedBytes: 7, capacityBytes: 9 }], ephemeralStorageUsedBytes: 3 }]);
    expect(containers).toMatchObject([{ container: 'c', timeMs: T, cpuNanosecondsTotal: null, startTimeMs: null }]);
    expect(malformed).toBe(4);
  });

  it.each(['<html>502 Bad Gateway</html>', '{"pods": [', '[]', '{}', 'null', '7'])('refuses %s with a clear error', (body) => {
    expect(() => parseStatsSummary(body, 'n', T)).toThrow(MalformedScrapeError);
  });

  it('drops values that cannot be true', () => {
    const { containers } = parseStatsSummary({ pods: [{ podRef: { name: 'a', namespace: 'b' }, containers: [{ name: 'c', cpu: { time: 'yesterday', usageCoreNanoSeconds: -1 }, memory: { workingSetBytes: -5 } }] }] }, 'n', T);
    expect(containers).toMatchObject([{ cpuNanosecondsTotal: null, memoryWorkingSetBytes: null, timeMs: T }]);
  });
});

const RESOURCE = `# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="coredns",namespace="kube-system",pod="coredns-558bd4d5db-4rmvb"} 4.710169 1651651222333
container_cpu_usage_seconds_total{container="broken",namespace="kube-system"
container_memory_working_set_bytes{container="coredns",namespace="kube-system",pod="coredns-558bd4d5db-4rmvb"} 1.2161024e+07 1651651222333
container_memory_working_set_bytes{container="gone",namespace="a",pod="b"} NaN
container_start_time_seconds{container="coredns",namespace="kube-system",pod="coredns-558bd4d5db-4rmvb"} 1.6516505204788e+09 1651650520478
container_swap_usage_bytes{container="coredns",namespace="kube-system",pod="coredns-558bd4d5db-4rmvb"} 0
node_cpu_usage_seconds_total 357.35491 1651651217162
node_memory_working_set_bytes 1.616273408e+09 1651651217162
pod_cpu_usage_seconds_total{namespace="kube-system",pod="coredns-558bd4d5db-4rmvb"} 4.715 1651651220000
pod_memory_working_set_bytes{namespace="kube-system",pod="coredns-558bd4d5db-4rmvb"} 1.3e+07
scrape_error 0
`;

const UID = '42ad382b-ed0b-446d-9aab-3fdce8b4f9e2';
const cgroup = `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID.replaceAll('-', '_')}.slice/cri-containerd-`;
const CADVISOR = `container_cpu_usage_seconds_total{container="",cpu="total",id="/kubepods.slice",image="",name="",namespace="",pod=""} 99 1651651222000
container_cpu_usage_seconds_total{container="",cpu="total",id="${cgroup.slice(0, -16)}",namespace="default",pod="web-0"} 9 1651651222000
container_cpu_usage_seconds_total{container="web",cpu="total",id="${cgroup}new.scope",image="i",name="n",namespace="default",pod="web-0"} 2.5 1651651223000
container_cpu_usage_seconds_total{container="web",cpu="total",id="${cgroup}old.scope",image="i",name="n",namespace="default",pod="web-0"} 700 1651651224000
container_start_time_seconds{container="web",id="${cgroup}new.scope",namespace="default",pod="web-0"} 1651651200
container_start_time_seconds{container="web",id="${cgroup}old.scope",namespace="default",pod="web-0"} 1651650000
container_memory_working_set_bytes{container="web",id="${cgroup}new.scope",namespace="default",pod="web-0"} 4096
container_cpu_cfs_periods_total{container="web",id="${cgroup}new.scope",namespace="default",pod="web-0"} 100
container_cpu_cfs_throttled_periods_total{container="web",id="${cgroup}new.scope",namespace="default",pod="web-0"} 7
container_network_receive_bytes_total{container="",id="${cgroup}",interface="eth0",namespace="default",pod="web-0"} 1000 1651651222500
container_network_receive_bytes_total{container="",id="${cgroup}",interface="net1",namespace="default",pod="web-0"} 50 1651651222500
container_network_receive_bytes_total{container="",id="${cgroup}",interface="tunl0",namespace="default",pod="web-0"} 7 1651651222500
container_network_transmit_bytes_total{container="",id="${cgroup}",interface="eth0",namespace="default",pod="web-0"} 10 1651651222500
container_cpu_usage_seconds_total{container="POD",cpu="total",id="x",namespace="default",pod="web-0"} 1
`;

describe('metrics of the kubelet as text', () => {
  it('reads /metrics/resource with the time of each line', () => {
    const { containers, pods, nodeReading, malformed } = parseResourceMetrics(RESOURCE, 'n', T);
    expect(containers).toMatchObject([{ namespace: 'kube-system', podName: 'coredns-558bd4d5db-4rmvb', container: 'coredns', cpuNanosecondsTotal: 4_710_169_000, memoryWorkingSetBytes: 12_161_024, startTimeMs: 1651650520479, timeMs: 1651651222333, cfsPeriodsTotal: null }]);
    expect(pods).toMatchObject([{ cpuNanosecondsTotal: 4_715_000_000, memoryWorkingSetBytes: 13_000_000 }]);
    expect(nodeReading).toMatchObject({ cpuNanosecondsTotal: 357_354_910_000, memoryWorkingSetBytes: 1_616_273_408, timeMs: 1651651217162 });
    expect(malformed).toBe(1);
  });

  it('reads /metrics/cadvisor: containers alone, the new one of two, the pod\'s own interfaces', () => {
    const { containers, pods, malformed } = parseCadvisorMetrics(CADVISOR, 'n', T);
    expect(containers).toEqual([expect.objectContaining({ container: 'web', podUid: UID, cpuNanosecondsTotal: 2_500_000_000, startTimeMs: 1651651200000, cfsPeriodsTotal: 100, cfsThrottledPeriodsTotal: 7, memoryWorkingSetBytes: 4096, timeMs: 1651651223000 })]);
    expect(pods).toMatchObject([{ podName: 'web-0', networkReceiveBytesTotal: 1050, networkTransmitBytesTotal: 10, timeMs: 1651651222500 }]);
    expect(malformed).toBe(0);
  });

  it('reads labels with every escape', () => {
    const samples: unknown[] = [];
    expect(readExposition('m{a="x\\"y\\\\z\\n", b="",} 1\nm 2 5\r\nm{a="b"} +Inf\nm{a="unended 1\nm{a=b} 1\nm x\nm 1 2 3\nother 4', new Set(['m']), (sample) => samples.push([sample.labels, sample.value, sample.timeMs]))).toBe(4);
    expect(samples).toEqual([[{ a: 'x"y\\z\n', b: '' }, 1, null], [{}, 2, 5], [{ a: 'b' }, Number.POSITIVE_INFINITY, null]]);
  });

  it('reads back whatever labels and values are written', () => {
    const escape = (value: string) => value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
    fc.assert(fc.property(fc.dictionary(fc.stringMatching(/^[a-z_][a-z0-9_]*$/), fc.string({ unit: 'binary' })), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.option(fc.nat()), (labels, value, timeMs) => {
      const line = `m{${Object.entries(labels).map(([key, text]) => `${key}="${escape(text)}"`).join(',')}} ${String(value)}${timeMs === null ? '' : ` ${timeMs}`}`;
      const samples: unknown[] = [];
      expect(readExposition(line, new Set(['m']), (sample) => samples.push(sample))).toBe(0);
      expect(samples).toEqual([{ name: 'm', labels: { ...labels }, value: Number(String(value)), timeMs }]);
    }));
  });

  it('refuses a page that is no metrics, and throws on no damaged text', () => {
    expect(() => parseResourceMetrics('<html>', 'n', T)).toThrow(MalformedScrapeError);
    expect(() => parseCadvisorMetrics('{"kind":"Status"}', 'n', T)).toThrow(MalformedScrapeError);
    fc.assert(fc.property(fc.constantFrom(RESOURCE, CADVISOR), fc.nat(4_000), fc.string({ unit: 'binary', maxLength: 20 }), (text, at, junk) => {
      const damaged = `m\n${text.slice(0, at)}${junk}${text.slice(at + 3)}`;
      for (const parse of [parseResourceMetrics, parseCadvisorMetrics]) {
        for (const reading of parse(damaged, 'n', T).containers) expect(reading.cpuNanosecondsTotal === null || reading.cpuNanosecondsTotal >= 0).toBe(true);
      }
    }), { numRuns: 500 });
  });
});

describe('several answers of one node', () => {
  it('become one, each saying what the others do not', () => {
    const merged = mergeScrapes([parseResourceMetrics(RESOURCE, 'n', T), parseCadvisorMetrics(CADVISOR, 'n', T), parseStatsSummary(data('stats-summary.json'), 'n', T)]);
    expect(merged.source).toBe('resource');
    expect(merged.containers).toHaveLength(11);
    expect(merged.pods).toHaveLength(11);
    expect(merged.malformed).toBe(1);
  });

  it('never put one source\'s time to another\'s counter', () => {
    const resource = parseResourceMetrics('container_cpu_usage_seconds_total{container="web",namespace="default",pod="web-0"} 2.4 1651651220000', 'n', T);
    const [web] = mergeScrapes([resource, parseCadvisorMetrics(CADVISOR, 'n', T)]).containers;
    expect(web).toMatchObject({ cpuNanosecondsTotal: 2_400_000_000, timeMs: 1651651220000, cfsPeriodsTotal: 100, memoryWorkingSetBytes: 4096, podUid: UID });
    const [other] = mergeScrapes([parseCadvisorMetrics(CADVISOR, 'n', T), resource]).containers;
    expect(other).toMatchObject({ cpuNanosecondsTotal: 2_500_000_000, timeMs: 1651651223000 });
  });
});

describe('metrics.k8s.io', () => {
  const list = (items: unknown[]) => ({ kind: 'PodMetricsList', apiVersion: 'metrics.k8s.io/v1beta1', metadata: {}, items });

  it('reads gauges with their window', () => {
    const { containers, malformed } = parsePodMetricsList(list([
      { metadata: { name: 'web-0', namespace: 'default' }, timestamp: '2024-05-01T10:00:00Z', window: '17.5s', containers: [{ name: 'web', usage: { cpu: '1234567n', memory: '2048Ki' } }, { name: 'idle', usage: { cpu: '0', memory: '5M' } }] },
      { metadata: {} },
    ]), 'n', T);
    expect(containers).toMatchObject([
      { namespace: 'default', podName: 'web-0', container: 'web', timeMs: Date.parse('2024-05-01T10:00:00Z'), cpuNanocores: 1_234_567, cpuWindowMs: 17_500, memoryWorkingSetBytes: 2_097_152, cpuNanosecondsTotal: null },
      { container: 'idle', cpuNanocores: 0, memoryWorkingSetBytes: 5_000_000 },
    ]);
    expect(malformed).toBe(1);
  });

  it('reads nodes', () => {
    const readings = parseNodeMetricsList(JSON.stringify({ items: [{ metadata: { name: 'n1' }, timestamp: '2024-05-01T10:00:00Z', window: '20s', usage: { cpu: '250m', memory: '1Gi' } }, {}] }), T);
    expect([...readings]).toEqual([['n1', expect.objectContaining({ cpuNanocores: 250_000_000, memoryWorkingSetBytes: 2 ** 30 })]]);
  });

  it.each(['{"kind":"Status","message":"the server is currently unable"}', 'nope', '[]'])('refuses %s with a clear error', (body) => {
    expect(() => parsePodMetricsList(body, 'n', T)).toThrow(MalformedScrapeError);
    expect(() => parseNodeMetricsList(body, T)).toThrow(MalformedScrapeError);
  });

  it('reads quantities and durations as Kubernetes writes them', () => {
    expect(['1', '0.5', '250m', '128Mi', '1e3', '1E', '12E', '5k', '2Gi', '1.5Ti', '.5', '100n'].map(quantity)).toEqual([1, 0.5, 0.25, 134_217_728, 1_000, 1e18, 12e18, 5_000, 2 ** 31, 1.5 * 2 ** 40, 0.5, 1e-7]);
    expect(['1', '250m', '17u', '5n', '2k', '1e-3', 3].map(nanocores)).toEqual([1e9, 250e6, 17e3, 5, 2e12, 1e6, 3e9]);
    expect(['', 'm', '1x', '1 Gi', '--1', null, {}, Number.NaN, '1e999'].map(quantity)).toEqual(Array(9).fill(null));
    expect(['1m30.5s', '500ms', '2h', '', '5', '1d', null].map(durationMs)).toEqual([90_500, 500, 7_200_000, null, null, null, null]);
  });
});
