import { decodeUsageBatch } from '@upid/contracts';
import { uuidOf } from '../inventory/identifiers.js';
import { InventoryState, type KnownNode } from '../inventory/state.js';
import { UsageService, type UsageMode } from './usage.service.js';

const T = Date.UTC(2026, 5, 1, 12);
const MINUTE = T / 60_000;
const at = (ms: number) => new Date(ms).toISOString();

class Refused extends Error {
  constructor(readonly status: number | null) {
    super(`refused ${status}`);
  }
}

/** Nodes whose containers use 250 millicores, read at whatever time the clock shows. */
function setting({ nodes = 2, modes = ['direct', 'node-proxy', 'metrics-api'] as readonly UsageMode[], scrapeSeconds = 15, memory = { state: null as unknown } } = {}) {
  const state = new InventoryState();
  const clock = { nowMs: T };
  const addNode = (i: number) => state.upsert('nodes', {
    metadata: { name: `n${i}`, uid: uuidOf('node', i), creationTimestamp: at(T) }, status: { capacity: { cpu: '4' }, conditions: [{ type: 'Ready', status: 'True' }], addresses: [{ type: 'InternalIP', address: `198.51.100.${i}` }] },
  } as never, T);
  const addPod = (i: number) => state.upsert('pods', {
    metadata: { name: `p${i}`, namespace: 'shop', uid: uuidOf('pod', i), creationTimestamp: at(T - 3_600_000) }, spec: { nodeName: `n${i}`, containers: [{ name: 'app' }] }, status: { phase: 'Running', startTime: at(T - 3_600_000) },
  } as never, T);
  for (let i = 0; i < nodes; i++) {
    addNode(i);
    addPod(i);
  }
  const faults = { direct: null as Refused | null, proxy: null as Refused | null, metrics: null as Refused | null, nodes: new Map<string, Refused>(), missing: new Set<string>() };
  const asked: string[] = [];
  const answer = (node: KnownNode, path: string): string => {
    const fault = faults.nodes.get(node.name);
    if (fault !== undefined) throw fault;
    if (faults.missing.has(path)) throw new Refused(404);
    const pod = `p${node.name.slice(1)}`;
    const seconds = (clock.nowMs - T + 3_600_000) / 1_000;
    if (path === '/metrics/resource') {
      return ['container_cpu_usage_seconds_total', 'container_memory_working_set_bytes', 'container_start_time_seconds'].map((name, i) =>
        `${name}{container="app",namespace="shop",pod="${pod}"} ${[0.25 * seconds, 1_048_576, (T - 3_600_000) / 1_000][i]} ${clock.nowMs}`).join('\n');
    }
    if (path === '/metrics/cadvisor') {
      return [`container_cpu_cfs_periods_total{container="app",namespace="shop",pod="${pod}"} ${10 * seconds}`, `container_cpu_cfs_throttled_periods_total{container="app",namespace="shop",pod="${pod}"} ${2 * seconds}`].join('\n');
    }
    return JSON.stringify({ node: {}, pods: [{ podRef: { name: pod, namespace: 'shop', uid: uuidOf('pod', Number(pod.slice(1))) }, network: { time: at(clock.nowMs), rxBytes: 1_000 * seconds, txBytes: 10 * seconds }, containers: [], volume: [{ name: 'v', usedBytes: 5 }] }] });
  };
  const samples: { pod: string; minute: number; cpu: number; throttled: number; source: string }[] = [];
  const network: number[] = [];
  const coverage: { type: string; reason: string; count: number | null }[] = [];
  const service = new UsageService(state, {
    direct: async (node, path) => {
      asked.push(`direct ${node.name} ${path}`);
      if (faults.direct) throw faults.direct;
      return answer(node, path);
    },
    nodeProxy: async (node, path) => {
      asked.push(`proxy ${node.name} ${path}`);
      if (faults.proxy) throw faults.proxy;
      return answer(node, path);
    },
    podMetrics: async () => {
      asked.push('metrics');
      if (faults.metrics) throw faults.metrics;
      return JSON.stringify({ items: [...state.pods()].map(({ name }) => ({ metadata: { name, namespace: 'shop' }, timestamp: at(clock.nowMs), window: '15s', containers: [{ name: 'app', usage: { cpu: '250m', memory: '1Mi' } }] })) });
    },
  }, {
    publish: async (_kind, encode) => {
      const batch = decodeUsageBatch(encode({ epoch: new Uint8Array(16), sequence: 1 }));
      for (let i = 0; i < batch.cpu_millicores.length; i++) {
        const pod = batch.series_pod[batch.sample_series[i] as number] as number;
        samples.push({ pod: batch.workloads[batch.pod_workload[pod] as number] ?? '', minute: batch.base_minute + (batch.sample_minute[i] ?? 0) - MINUTE, cpu: batch.cpu_millicores[i] as number, throttled: batch.throttled_permille_plus_one[i] ?? 0, source: batch.source });
      }
      network.push(...Array.from(batch.receive_bytes_per_second_plus_one));
    },
    coverage: async ({ type, reason, count }) => { coverage.push({ type, reason, count }); },
  }, { readState: async () => memory.state, writeState: async (_, value) => { memory.state = value; } }, {
    modes, scrapeSeconds, log: { info: () => undefined, warn: () => undefined }, now: () => clock.nowMs,
    delay: async (ms) => {
      for (let i = 0; i < 12; i++) await new Promise((resolve) => { setImmediate(resolve); });
      clock.nowMs += ms;
      if (clock.nowMs >= later.ms) later.happens();
      if (clock.nowMs >= target.ms) target.stop.abort();
    },
  });
  const target = { ms: T, stop: new AbortController() };
  const later = { ms: Infinity, happens: () => undefined as void };
  return {
    later, state, clock, faults, asked, samples, network, coverage, service, addPod,
    run: async (seconds: number) => {
      target.ms = T + seconds * 1_000;
      target.stop = new AbortController();
      await service.run(target.stop.signal);
    },
  };
}

describe('usage', () => {
  it('is one sample a container and minute, from scrapes spread over the nodes', async () => {
    const { run, samples, network, asked, coverage } = setting({ nodes: 4 });
    await run(300);
    for (const pod of [0, 1, 2, 3]) {
      const minutes = samples.filter((each) => each.pod === `shop/Pod/p${pod}`).map(({ minute }) => minute);
      expect(minutes).toEqual([0, 1, 2, 3].slice(0, minutes.length));
      expect(minutes.length).toBeGreaterThanOrEqual(3);
    }
    for (const { cpu, source } of samples) expect([cpu, source]).toEqual([250, 'kubelet']);
    expect(samples.filter(({ minute }) => minute === 1).every(({ throttled }) => throttled === 201)).toBe(true);
    expect(network.every((value) => value === 1_001)).toBe(true);
    expect(coverage).toEqual([{ type: 'source_change', reason: 'usage is read by direct', count: null }]);
    // What is dear is asked once a minute; the rest four times.
    const of = (path: string) => asked.filter((each) => each === `direct n0 ${path}`).length;
    expect(of('/metrics/cadvisor')).toBeLessThanOrEqual(6);
    expect(of('/metrics/resource')).toBeGreaterThanOrEqual(16);
  });

  it('is read by the next way where one does not answer', async () => {
    const proxied = setting();
    proxied.faults.direct = new Refused(null);
    await proxied.run(150);
    expect(proxied.service.mode).toBe('node-proxy');
    expect(proxied.samples.length).toBeGreaterThan(0);
    const metrics = setting();
    metrics.faults.direct = new Refused(401);
    metrics.faults.proxy = new Refused(403);
    await metrics.run(150);
    expect(metrics.service.mode).toBe('metrics-api');
    expect(metrics.samples.every(({ source, cpu }) => source === 'metrics_api' && cpu === 250)).toBe(true);
    expect(metrics.samples.length).toBeGreaterThan(0);
    const none = setting({ modes: ['direct'] });
    none.faults.direct = new Refused(403);
    await none.run(60);
    expect([none.service.mode, none.samples]).toEqual([null, []]);
  });

  it('changes the way when one gives nothing for long, and says so', async () => {
    const { run, faults, service, coverage } = setting();
    await run(60);
    faults.direct = new Refused(null);
    await run(400);
    expect(service.mode).toBe('node-proxy');
    expect(coverage.filter(({ type }) => type === 'source_change').map(({ reason }) => reason)).toContain('usage is read by node-proxy');
  });

  it('is told once, though an agent that starts again can still tell what young containers did', async () => {
    const memory: { state: unknown } = { state: { last_minute: MINUTE + 1 } };
    const { run, samples } = setting({ memory });
    await run(300);
    expect(samples.length).toBeGreaterThan(0);
    expect(samples.every(({ minute }) => minute > 1)).toBe(true);
    expect(memory.state).toEqual({ last_minute: MINUTE + Math.max(...samples.map(({ minute }) => minute)) });
  });

  it('does with what a kubelet has', async () => {
    const { run, faults, samples, network } = setting();
    faults.missing = new Set(['/stats/summary', '/metrics/cadvisor']);
    await run(200);
    expect(samples.length).toBeGreaterThan(2);
    expect(samples.every(({ throttled }) => throttled === 0)).toBe(true);
    expect(network).toEqual([]);
  });

  it('tells a node that did not answer for long as a gap, and samples the others', async () => {
    const { run, faults, samples, coverage } = setting();
    await run(90);
    faults.nodes.set('n1', new Refused(null));
    await run(400);
    faults.nodes.clear();
    await run(520);
    expect(coverage.filter(({ type }) => type === 'gap')).toMatchObject([{ reason: 'the kubelet did not answer' }]);
    const minutes = new Set(samples.filter(({ pod }) => pod === 'shop/Pod/p1').map(({ minute }) => minute));
    expect(minutes.has(4)).toBe(false);
    expect(samples.filter(({ pod, minute }) => pod === 'shop/Pod/p0' && minute === 4)).toHaveLength(1);
  });

  it('waits a while for pods that the inventory does not name yet, then tells the gap', async () => {
    const { state, run, samples, later, addPod } = setting();
    state.retain('pods', new Set([uuidOf('pod', 0)]), T - 600_000);
    state.changes(T);
    Object.assign(later, { ms: T + 100_000, happens: () => addPod(1) });
    await run(140);
    expect(samples.filter(({ pod, minute }) => pod === 'shop/Pod/p1' && minute === 0)).toHaveLength(1);
    const lost = setting();
    lost.state.retain('pods', new Set([uuidOf('pod', 0)]), T - 600_000);
    lost.state.changes(T);
    await lost.run(400);
    expect(lost.samples.some(({ pod }) => pod === 'shop/Pod/p1')).toBe(false);
    expect(lost.coverage.filter(({ type }) => type === 'gap')[0]).toMatchObject({ reason: 'samples whose pod the inventory does not name' });
    expect(lost.coverage.reduce((sum, { count }) => sum + (count ?? 0), 0)).toBeGreaterThanOrEqual(4);
  });
});
