import { MINUTE_MS } from '@upid/contracts';
import { InventoryState } from '../inventory/state.js';
import { decodeRequestBatch, decodeUsageBatch } from '@upid/contracts';
import { BackfillService, type HistoryApi } from './backfill.service.js';
import { allKnown, coveredMinutes, FIRST_PACE, MalformedAnswerError, nextPace, parseSeries, PastNames, rateWindow, requestQuestion, requestRows, usageQuestions, usageSamples, type RangeSeries } from './history.js';

const START = Date.UTC(2026, 5, 1, 10);
const seconds = (minute: number) => START / 1_000 + minute * 60;
/** A series whose values lie at the ends of minutes 0, 1, … */
const series = (metric: Record<string, string>, ...values: (number | null)[]): RangeSeries => ({ metric, values: values.flatMap((value, minute) => (value === null ? [] : [[seconds(minute + 1), String(value)] as const])) });
const minute = (index: number) => START / MINUTE_MS + index;
const nothing = { podInfo: [], podOwner: [], replicaSetOwner: [], jobOwner: [] };

describe('answers', () => {
  it('are ranges of series, or refused', () => {
    expect(parseSeries({ status: 'success', data: { resultType: 'matrix', result: [{ metric: { a: 'b' }, values: [[1, '2']] }] } })).toEqual([{ metric: { a: 'b' }, values: [[1, '2']] }]);
    expect(parseSeries({ status: 'success', data: { result: [{ metric: {}, value: [1, '2'] }] } })).toEqual([{ metric: {}, values: [[1, '2']] }]);
    for (const body of [null, {}, { status: 'error' }, { status: 'success', data: {} }, { status: 'success', data: { result: [{ metric: {}, values: [['x']] }] } }]) expect(() => parseSeries(body)).toThrow(MalformedAnswerError);
  });
});

describe('questions', () => {
  it('are of one namespace, and a name cannot break out of them', () => {
    expect(usageQuestions('shop', '2m').cpu).toBe('max by (pod, container) (rate(container_cpu_usage_seconds_total{namespace="shop",container!="",container!="POD"}[2m]))');
    expect(requestQuestion('a"}or{x="', 'exported_namespace')).toBe('nginx_ingress_controller_requests{exported_namespace="a\\"}or{x=\\""}');
  });

  it('span two scrapes', () => {
    expect([15, 30, 31, 60, 120].map(rateWindow)).toEqual(['1m', '1m', '2m', '2m', '4m']);
  });
});

describe('pods of the past', () => {
  const present = (pods: Record<string, string> = {}, workloads: string[] = []) => ({
    pod: (_: string, name: string) => (pods[name] === undefined ? null : { uid: pods[name], workload: { namespace: 'shop', kind: 'Deployment' as const, name: 'web' }, hostNetwork: false, createdAtMs: START }),
    hasWorkload: ({ kind, name }: { kind: string; name: string }) => workloads.includes(`${kind}/${name}`),
  });

  it('are those of kube-state-metrics, up to their top owner', () => {
    const names = new PastNames('lab', 'shop', present(), {
      podInfo: [series({ pod: 'web-1-a', uid: 'u1', created_by_kind: 'ReplicaSet', created_by_name: 'web-1' }), series({ pod: 'lone', uid: 'u2', created_by_kind: '<none>' }), series({ pod: 'n-1', uid: 'u3', host_network: 'true' })],
      podOwner: [series({ pod: 'n-1', owner_kind: 'Job', owner_name: 'nightly-1' })], replicaSetOwner: [series({ replicaset: 'web-1', owner_kind: 'Deployment', owner_name: 'web' })], jobOwner: [series({ job_name: 'nightly-1', owner_kind: 'CronJob', owner_name: 'nightly' })],
    });
    expect(names.pod('web-1-a')).toEqual({ uid: 'u1', workload: { namespace: 'shop', kind: 'Deployment', name: 'web' }, madeUpFor: null, hostNetwork: false });
    expect(names.pod('lone')).toMatchObject({ uid: 'u2', workload: { kind: 'Pod', name: 'lone' } });
    expect(names.pod('n-1')).toMatchObject({ workload: { kind: 'CronJob', name: 'nightly' }, hostNetwork: true });
  });

  it('are those of the name now, unless the UID says another', () => {
    const info = [series({ pod: 'web-0', uid: 'then', created_by_kind: 'StatefulSet', created_by_name: 'web' })];
    expect(new PastNames('lab', 'shop', present({ 'web-0': 'now' }), nothing).pod('web-0')).toMatchObject({ uid: 'now', madeUpFor: null });
    expect(new PastNames('lab', 'shop', present({ 'web-0': 'now' }), { ...nothing, podInfo: info }).pod('web-0')).toMatchObject({ uid: 'then', workload: { kind: 'StatefulSet', name: 'web' } });
  });

  it('are told by how workloads of now would name them; others by nobody', () => {
    const names = new PastNames('lab', 'shop', present({}, ['Deployment/web', 'StatefulSet/db', 'DaemonSet/logs', 'CronJob/report']), nothing);
    expect(['web-5d4f8c9b7-x2x4z', 'db-2', 'logs-abcde', 'report-28123456-zzzzz', 'gone-5d4f8c9b7-x2x4z'].map((name) => names.pod(name)?.workload.kind ?? null)).toEqual(['Deployment', 'StatefulSet', 'DaemonSet', 'CronJob', null]);
    const web = names.pod('web-5d4f8c9b7-x2x4z');
    expect(web?.madeUpFor).toBe('web-5d4f8c9b7-x2x4z');
    expect(web?.uid).toBe(new PastNames('lab', 'shop', present({}, ['Deployment/web']), nothing).pod('web-5d4f8c9b7-x2x4z')?.uid);
  });
});

describe('names that the inventory knows', () => {
  const present = { pod: (_: string, name: string) => (name === 'old' || name === 'new' ? { uid: name, workload: { namespace: 'shop', kind: 'Pod' as const, name }, hostNetwork: false, createdAtMs: name === 'old' ? START : START + 1 } : null), hasWorkload: () => false };
  it.each([[['old'], true], [[], true], [['old', 'new'], false], [['gone'], false]])('%j: %s', (pods, known) => {
    for (const question of ['cpu', 'memory', 'receive', 'transmit'] as const) expect(allKnown({ [question]: pods.map((pod) => series({ pod }, 1)) }, 'shop', START, present)).toBe(known);
  });
});

describe('usage of the past', () => {
  const names = new PastNames('lab', 'shop', { pod: (_, name) => (name === 'p' ? { uid: 'u', workload: { namespace: 'shop', kind: 'Pod', name: 'p' }, hostNetwork: false, createdAtMs: START } : null), hasWorkload: () => false }, nothing);
  const of = (metric: object = {}) => ({ pod: 'p', container: 'app', ...metric });

  it('is of the minute that ends at a value', () => {
    const { samples } = usageSamples({ cpu: [series(of(), 0.25, 0, null, 0.0001)], memory: [series(of(), 100, 200, 300, 400)], memoryPeak: [series(of(), 150)], cpuPeak: [series(of(), 0.5)], periods: [series(of(), 10, 0)], throttled: [series(of(), 3)] }, names);
    expect(samples).toMatchObject([
      { minute: minute(0), cpuMillicores: 250, cpuPeakMillicores: 500, memoryBytes: 100, memoryPeakBytes: 150, throttledPermille: 300, workload: 'shop/Pod/p', podUid: 'u', podName: null },
      { minute: minute(1), cpuMillicores: 0, memoryBytes: 200, throttledPermille: null }, { minute: minute(3), cpuMillicores: 1, memoryBytes: 400 },
    ]);
  });

  it('is left out where half of it is unknown, or cannot be, and counted where nobody can name the pod', () => {
    const { samples, unnamed } = usageSamples({ cpu: [series(of(), 1, Number.NaN, -1, 5_000), series(of({ pod: 'x' }), 1)], memory: [series(of(), null, 1, 1, 1), series(of({ pod: 'x' }), 1)] }, names);
    expect([samples, unnamed]).toEqual([[], 1]);
  });

  it('is the same where containers are scraped twice', () => {
    const once = usageSamples({ cpu: [series(of(), 1)], memory: [series(of(), 5)] }, names);
    expect(usageSamples({ cpu: [series(of(), 1), series(of(), 1)], memory: [series(of(), 5), series(of(), 5)] }, names)).toEqual(once);
  });

  it('sums the network of a pod\'s interfaces, without the loopback', () => {
    const { podSamples } = usageSamples({ receive: [series({ pod: 'p', interface: 'eth0' }, 5), series({ pod: 'p', interface: 'net1' }, 7), series({ pod: 'p', interface: 'lo' }, 100)], transmit: [series({ pod: 'p', interface: 'eth0' }, null, 3)] }, names);
    expect(podSamples).toMatchObject([{ minute: minute(0), receiveBytesPerSecond: 12, transmitBytesPerSecond: null }, { minute: minute(1), receiveBytesPerSecond: null, transmitBytesPerSecond: 3 }]);
  });
});

describe('requests of the past', () => {
  const web = { namespace: 'shop', kind: 'Deployment' as const, name: 'web' };
  const range = { startMs: START, endMs: START + 4 * MINUTE_MS };
  /** Counters begin a minute earlier: with a value at the range's start. */
  const counter = (metric: Record<string, string>, ...values: (number | null)[]): RangeSeries => ({ metric: { exported_service: 'web', status: '200', path: '/', ...metric }, values: values.flatMap((value, i) => (value === null ? [] : [[seconds(i), String(value)] as const])) });
  const rows = (given: RangeSeries[], covered = [0, 1, 2, 3], routed = ['shop/Deployment/web']) => requestRows(given, range, new Set(covered.map(minute)), (name) => (name === 'web' ? [web] : []), routed);

  it('are what counters grew by, unclassified, with their status', () => {
    const found = rows([counter({}, 10, 12, 12, 15, 15), counter({ status: '503' }, 0, 0, 1, 1, 1)]);
    expect(found.map(({ minute: at, unclassified, statuses, coveredSeconds, counts }) => [at - minute(0), unclassified, statuses[1], statuses[4], coveredSeconds, counts[0]])).toEqual([[0, 2, 2, 0, 60, 0], [1, 1, 0, 1, 60, 0], [2, 3, 3, 0, 60, 0], [3, 0, 0, 0, 60, 0]]);
  });

  it('are health checks where the rule\'s path answers nothing else', () => {
    expect(rows([counter({ path: '/healthz' }, 0, 5)])[0]).toMatchObject({ unclassified: 0, counts: [0, 5, 0, 0, 0, 0] });
  });

  it('begin at nothing where a counter appears, and count on where one starts anew', () => {
    expect(rows([counter({}, null, null, 3, 4, 2)]).map(({ unclassified }) => unclassified)).toEqual([0, 3, 1, 2]);
    // Not while the controller itself was not scraped: then nobody knows when they came.
    expect(rows([counter({}, null, null, 300, 301, 301)], [1, 2, 3]).map(({ unclassified }) => unclassified)).toEqual([0, 1, 0]);
  });

  it('are one where a controller is scraped twice, and the sum where there are two', () => {
    expect(rows([counter({ job: 'a', instance: '1' }, 0, 5), counter({ job: 'b', instance: '2' }, 0, 5)])[0]?.unclassified).toBe(5);
    expect(rows([counter({ controller_pod: 'a' }, 0, 5), counter({ controller_pod: 'b' }, 0, 5)])[0]?.unclassified).toBe(10);
  });

  it('are silence in covered minutes alone', () => {
    expect(rows([], [1, 3]).map(({ minute: at, coveredSeconds }) => [at - minute(0), coveredSeconds])).toEqual([[1, 60], [3, 60]]);
    expect(rows([counter({}, 0, 4)], [])).toMatchObject([{ coveredSeconds: 0, unclassified: 4 }]);
    expect(coveredMinutes([series({}, 5, 0, null, 1)])).toEqual(new Set([minute(0), minute(3)]));
  });
});

describe('pace', () => {
  it('is gentle, gentler where answers get slow, and gentlest where they fail', () => {
    let pace = FIRST_PACE;
    for (let i = 0; i < 20; i++) pace = nextPace(pace, 20);
    expect(pace.pauseMs).toBeGreaterThanOrEqual(19);
    expect(pace.pauseMs).toBeLessThan(25);
    const slow = nextPace(nextPace(pace, 400), 400);
    expect(slow.pauseMs).toBeGreaterThanOrEqual(800);
    expect(nextPace(pace, null).pauseMs).toBeGreaterThanOrEqual(1_000);
    let failing = pace;
    for (let i = 0; i < 30; i++) failing = nextPace(failing, null);
    expect(failing.pauseMs).toBe(30_000);
    for (let i = 0; i < 30; i++) failing = nextPace(failing, 20);
    expect(failing.pauseMs).toBeLessThan(60);
    for (let i = 0; i < 60; i++) pace = nextPace(pace, 20, 1);
    expect(pace.pauseMs).toBeLessThan(0.001);
  });
});

describe('reading history', () => {
  /** A Prometheus of one container and one Ingress, that notes what it is asked. */
  class FakePrometheus implements HistoryApi {
    readonly asked: { query: string; startMs: number; endMs: number }[] = [];
    failing = 0;
    async instant(query: string): Promise<RangeSeries[]> {
      return query.includes('count_over_time') ? [{ metric: {}, values: [[0, '20']] }] : [{ metric: {}, values: [[0, '1']] }];
    }
    async range(query: string, startMs: number, endMs: number, step: number): Promise<RangeSeries[]> {
      this.asked.push({ query, startMs, endMs });
      if (this.failing > 0) {
        this.failing--;
        throw new Error('503');
      }
      const values: [number, string][] = [];
      for (let at = startMs; at <= endMs; at += step * 1_000) values.push([at / 1_000, query.startsWith('nginx') ? String(at / MINUTE_MS) : '1']);
      if (query.startsWith('count by')) return [{ metric: { namespace: 'shop' }, values }];
      if (query.startsWith('nginx')) return [{ metric: { exported_service: 'web', status: '200' }, values }];
      if (query.startsWith('kube_') || query.includes('interface')) return [];
      return [{ metric: { pod: 'p', container: 'app' }, values }];
    }
  }
  const NOW = START + 30 * MINUTE_MS;
  function reader(prometheus: FakePrometheus, memory: { state: unknown }, stopAfter = Infinity) {
    const state = new InventoryState();
    state.upsert('pods', { metadata: { uid: '00000000-0000-0000-0000-000000000001', name: 'p', namespace: 'shop', labels: { app: 'p' }, creationTimestamp: '2026-01-01T00:00:00Z' }, spec: { containers: [{ name: 'app' }] } } as never, NOW);
    state.upsert('services', { metadata: { uid: 's', name: 'web', namespace: 'shop' }, spec: { selector: { app: 'p' }, ports: [] } } as never, NOW);
    state.upsert('ingresses', { metadata: { uid: 'i', name: 'web', namespace: 'shop' }, spec: { defaultBackend: { service: { name: 'web' } } } } as never, NOW);
    const seen = { usage: new Set<string>(), requests: new Map<number, number>(), progress: [] as number[], types: [] as string[] };
    const stop = new AbortController();
    let waits = 0;
    const service = new BackfillService(prometheus, state, {
      depth: { batches: 0 },
      publish: async (kind, encode) => {
        const bytes = encode({ epoch: new Uint8Array(16), sequence: 1 });
        if (kind === 'usage') {
          const batch = decodeUsageBatch(bytes);
          for (let i = 0; i < batch.cpu_millicores.length; i++) seen.usage.add(`${batch.base_minute + (batch.sample_minute[i] ?? 0)}`);
        } else {
          const batch = decodeRequestBatch(bytes);
          for (let i = 0; i < batch.row_minute.length; i++) seen.requests.set(batch.base_minute + (batch.row_minute[i] ?? 0), batch.unclassified[i] ?? 0);
        }
      },
      coverage: async ({ type, detail }) => {
        seen.types.push(type);
        seen.progress.push(Number(detail['progress']));
      },
    }, { readState: async () => memory.state, writeState: async (_, value) => { memory.state = structuredClone(value); } }, {
      clusterId: 'lab', days: 1 / 8, acceptsClass: () => true, log: { info: () => undefined, warn: () => undefined }, now: () => NOW, delay: async () => { if (++waits >= stopAfter) stop.abort(); },
    });
    return { run: () => service.run(stop.signal), seen };
  }

  it('asks for one namespace and hour at a time, the newest first, and tells every minute once', async () => {
    const prometheus = new FakePrometheus();
    const { run, seen } = reader(prometheus, { state: null });
    await run();
    for (const { startMs, endMs } of prometheus.asked) expect(endMs - startMs).toBeLessThanOrEqual(3_600_000);
    expect(prometheus.asked[0]?.endMs).toBe(NOW);
    const first = START / MINUTE_MS - 180;
    expect([...seen.usage].map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 210 }, (_, i) => first + i));
    expect([...seen.requests.keys()].sort((a, b) => a - b)).toEqual(Array.from({ length: 210 }, (_, i) => first + i));
    expect(new Set(seen.requests.values())).toEqual(new Set([1]));
    expect(seen.types.at(-1)).toBe('backfill_done');
    expect(seen.progress.at(-1)).toBe(1);
  });

  it('goes on where it stopped, and does not read twice what it has read', async () => {
    const memory = { state: null as unknown };
    const before = new FakePrometheus();
    const first = reader(before, memory, 60);
    await first.run();
    const after = new FakePrometheus();
    const second = reader(after, memory);
    await second.run();
    expect(first.seen.usage.size).toBeGreaterThan(0);
    expect(new Set([...first.seen.usage, ...second.seen.usage]).size).toBe(210);
    expect([...second.seen.usage].filter((each) => first.seen.usage.has(each)).length).toBeLessThanOrEqual(60);
    const third = new FakePrometheus();
    await reader(third, memory).run();
    expect(third.asked).toEqual([]);
  });

  it('takes a Prometheus that fails for a moment as it is', async () => {
    const prometheus = new FakePrometheus();
    prometheus.failing = 7;
    const { run, seen } = reader(prometheus, { state: null });
    await run();
    expect(seen.usage.size).toBe(210);
  });
});
