import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AccessLog } from './access-log.js';
import { KubernetesApi } from './api.js';
import { noiseAt, podMinute, requestMinute, zoneOffsetMinutes } from './behaviour.js';
import { clockFrom } from './clock.js';
import { SimulatedCluster } from './cluster.js';
import { Figures, resourceMetrics, statsSummary } from './figures.js';
import { historySeries } from './history.js';
import { parseScenario, ScenarioError, type Scenario } from './scenario.js';
import { jsonPatch, mergePatch, ObjectStore, StatusError, type KubeObject } from './store.js';

const SHOP = readFileSync(join(process.cwd(), 'simulator/scenarios/shop.yaml'), 'utf8');
const NOW = Date.parse('2026-03-04T12:00:30Z'); // a Wednesday
const scenario = (over: Partial<Scenario> = {}): Scenario => ({ ...parseScenario(SHOP), ...over });

describe('the shop', () => {
  it('has 12 nodes on demand and spot, 60 workloads in 5 namespaces, and a truly idle promo-preview', () => {
    const shop = scenario();
    expect(shop.node_groups.reduce((sum, group) => sum + group.count, 0)).toBe(12);
    expect(new Set(shop.node_groups.map((group) => group.capacity_type))).toEqual(new Set(['on_demand', 'spot']));
    expect(shop.workloads).toHaveLength(60);
    expect(new Set(shop.workloads.map((each) => each.namespace)).size).toBe(5);
    expect(shop.workloads.find((each) => each.name === 'promo-preview')).toMatchObject({ behaviour: { type: 'health_checks_only' }, truth: { idle: true } });
    expect(shop.workloads.every((each) => each.truth.idle === (each.behaviour.type === 'health_checks_only'))).toBe(true);
  });

  it('fits on its nodes: no node is asked for more than it has', () => {
    const cluster = new SimulatedCluster(scenario(), null, () => NOW);
    for (const node of cluster.nodes) {
      const cpu = cluster.podsOn(node.name).reduce((sum, pod) => sum + (pod.workload.request.cpu ?? 0), 0);
      expect(cpu).toBeLessThanOrEqual(node.group.cpu - 80);
    }
  });
});

it('says what is wrong with a scenario', () => {
  expect(() => parseScenario('name: [')).toThrow(/no YAML/);
  expect(() => parseScenario('name: x\nseed: 1')).toThrow(ScenarioError);
  expect(() => parseScenario(SHOP.replace('namespace: shop', 'namespace: elsewhere'))).toThrow(/namespace elsewhere is not among/);
  expect(() => parseScenario(SHOP.replace('health_checks_only', 'dances'))).toThrow(/behaviour/);
});

it('repeats to the sample for a seed, and differs for another', () => {
  const of = (seed: number) => {
    const cluster = new SimulatedCluster(scenario({ seed }), null, () => NOW);
    return [...cluster.runningPods()].map((pod) => [pod.object.metadata.uid, pod.object.metadata.name, cluster.usage(pod, 29_000_000).cpuMillicores]);
  };
  expect(of(1)).toEqual(of(1));
  expect(of(1)).not.toEqual(of(2));
});

it('keeps business hours in its own zone, runs batches at night, and lets idle ones serve checks alone', () => {
  const at = (time: string) => Math.floor(Date.parse(time) / 60_000);
  const berlin = zoneOffsetMinutes('Europe/Berlin', NOW);
  expect(berlin).toBe(60);
  expect(zoneOffsetMinutes('Europe/Berlin', Date.parse('2026-07-01T00:00:00Z'))).toBe(120);
  const office = { type: 'business_hours' as const, cpu: 300, idle_cpu: 5, memory: 200, requests: 100, night_requests: 0, start_hour: 8, end_hour: 18, days: [1, 2, 3, 4, 5], noise: 0 };
  expect(podMinute(office, 1, at('2026-03-04T12:00:00Z'), berlin, 1).cpuMillicores).toBe(300);
  expect(podMinute(office, 1, at('2026-03-04T22:00:00Z'), berlin, 1).cpuMillicores).toBe(5);
  expect(podMinute(office, 1, at('2026-03-07T12:00:00Z'), berlin, 1).cpuMillicores).toBe(5);
  expect(requestMinute(office, 1, at('2026-03-07T12:00:00Z'), berlin).business).toBe(0);
  const batch = { type: 'batch' as const, cpu: 900, idle_cpu: 2, memory: 100, start_hours: [2], duration_minutes: 60, noise: 0 };
  expect(podMinute(batch, 1, at('2026-03-04T01:30:00Z'), berlin, 1).cpuMillicores).toBe(900);
  expect(podMinute(batch, 1, at('2026-03-04T02:30:00Z'), berlin, 1).cpuMillicores).toBe(2);
  const idle = { type: 'health_checks_only' as const, cpu: 1, memory: 100, checks: 2 };
  expect(requestMinute(idle, 1, at('2026-03-04T12:00:00Z'), berlin)).toEqual({ business: 0, healthCheck: 2, errors: 0 });
  const values = Array.from({ length: 1000 }, (_, i) => noiseAt(7, i));
  expect(values.reduce((sum, value) => sum + value, 0) / 1000).toBeCloseTo(0.5, 1);
});

it('never has a time in the future, however fast its clock runs', () => {
  let wall = 1_000_000;
  const clock = clockFrom({ startMs: 0, startedAtWallMs: 1_000_000, speed: 100 }, () => wall);
  expect(clock()).toBe(0);
  wall += 5_000;
  expect(clock()).toBe(500_000);
  wall += 60_000;
  expect(clock()).toBe(wall);
});

it('counts on without a step back, and tells the same to kubelet and history', () => {
  let now = NOW;
  const cluster = new SimulatedCluster(scenario(), null, () => now);
  const figures = new Figures(cluster);
  const pod = cluster.podsOf(cluster.scenario.workloads[0]!)[0]!;
  let before = figures.at(pod, now).cpuSeconds;
  for (let i = 0; i < 50; i++) {
    now += 7_000;
    const next = figures.at(pod, now).cpuSeconds;
    expect(next).toBeGreaterThan(before);
    before = next;
  }
  const minute = Math.floor(NOW / 60_000) * 60;
  const series = historySeries(cluster, figures).find((each) => each.name === 'container_cpu_usage_seconds_total' && each.labels.pod === pod.object.metadata.name);
  expect(series?.valueAt(minute)).toBeCloseTo(figures.at(pod, minute * 1000).cpuSeconds, 6);
  expect(series?.valueAt(Math.ceil(now / 1000) + 3600)).toBeNull();
  const node = (pod.object.spec as { nodeName: string }).nodeName;
  expect(resourceMetrics(cluster, figures, node, now)).toContain(`container_cpu_usage_seconds_total{container="app",namespace="shop",pod="${pod.object.metadata.name}"}`);
  expect(JSON.stringify(statsSummary(cluster, figures, node, now))).toContain(pod.object.metadata.uid);
});

it('writes the requests that history counts into the access log', () => {
  let now = NOW;
  const cluster = new SimulatedCluster(scenario(), null, () => now);
  const log = new AccessLog(cluster);
  log.tick();
  now += 60_000;
  log.tick();
  const minute = Math.floor(NOW / 60_000);
  const workload = cluster.scenario.workloads.find((each) => each.name === 'wishlist')!;
  const lines = log.since(minute * 60_000).filter((line) => line.ms < (minute + 1) * 60_000 && line.text.includes('[shop-wishlist-80]'));
  const { business, healthCheck } = cluster.requests(workload, minute);
  expect(lines.length).toBe(business + healthCheck);
  expect(lines.filter((line) => line.text.includes('/healthz')).length).toBe(healthCheck);
  expect(log.since(0).every((line) => line.ms <= now)).toBe(true);
});

describe('the store', () => {
  const object = (name: string): KubeObject => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'a', uid: name, resourceVersion: '', creationTimestamp: '' }, data: { x: '1' } });
  it('refuses a write against an old version and a second of a name', () => {
    const store = new ObjectStore();
    const first = store.create('configmaps', object('x'));
    expect(() => store.create('configmaps', object('x'))).toThrow(/already exists/);
    store.update('configmaps', { ...first, data: { x: '2' } });
    expect(() => store.update('configmaps', { ...first, data: { x: '3' } })).toThrow(StatusError);
  });
  it('tells a watch all since its version, in order, and 410 where that is gone', () => {
    const store = new ObjectStore();
    const first = store.create('configmaps', object('x'));
    store.update('configmaps', first);
    store.delete('configmaps', 'a', 'x');
    const seen: string[] = [];
    store.watch('configmaps', Number(first.metadata.resourceVersion), (event) => seen.push(event.type));
    expect(seen).toEqual(['MODIFIED', 'DELETED']);
    for (let i = 0; i < 5000; i++) store.create('configmaps', object(`y${i}`));
    expect(() => store.watch('configmaps', 3, () => undefined)).toThrow(/too old/);
  });
  it('patches as the standards say', () => {
    expect(mergePatch({ a: 1, b: { c: 2 } }, { a: null, b: { d: 3 } }, false)).toEqual({ b: { c: 2, d: 3 } });
    expect(mergePatch({ c: [{ name: 'app', image: 'x' }, { name: 'log' }] }, { c: [{ name: 'app', cpu: 1 }] } as never, true)).toEqual({ c: [{ name: 'app', image: 'x', cpu: 1 }, { name: 'log' }] });
    expect(jsonPatch({ spec: { replicas: 2 } }, [{ op: 'test', path: '/spec/replicas', value: 2 }, { op: 'replace', path: '/spec/replicas', value: 0 }])).toEqual({ spec: { replicas: 0 } });
    expect(() => jsonPatch({ spec: { replicas: 3 } }, [{ op: 'test', path: '/spec/replicas', value: 2 }])).toThrow(/test/);
  });
});

describe('the API', () => {
  let cluster: SimulatedCluster;
  let api: KubernetesApi;
  let base: string;
  beforeEach(async () => {
    cluster = new SimulatedCluster(scenario(), null, () => NOW);
    api = new KubernetesApi(cluster, new Figures(cluster), new AccessLog(cluster));
    base = `http://127.0.0.1:${await api.listen(0)}`;
  });
  afterEach(() => api.close());
  const json = async <T>(path: string, init?: RequestInit) => (await (await fetch(`${base}${path}`, init)).json()) as T;

  it('lists in pages without losing or doubling', async () => {
    const names: string[] = [];
    let token = '';
    do {
      const page = await json<{ items: KubeObject[]; metadata: { continue?: string } }>(`/api/v1/pods?limit=30${token ? `&continue=${token}` : ''}`);
      names.push(...page.items.map((each) => each.metadata.uid));
      token = page.metadata.continue ?? '';
    } while (token);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toHaveLength([...cluster.runningPods()].length);
  });

  it('scales a Deployment to nothing and back, its pods with it, and remembers', async () => {
    const path = '/apis/apps/v1/namespaces/shop/deployments/promo-preview';
    const patch = (replicas: number, contentType: string, body: unknown) => fetch(`${base}${path}/scale`, { method: 'PATCH', headers: { 'content-type': contentType }, body: JSON.stringify(body ?? { spec: { replicas } }) });
    const workload = cluster.scenario.workloads.find((each) => each.name === 'promo-preview')!;
    expect(cluster.podsOf(workload)).toHaveLength(2);
    expect((await patch(0, 'application/json-patch+json', [{ op: 'test', path: '/spec/replicas', value: 5 }])).status).toBe(422);
    expect((await patch(0, 'application/merge-patch+json', null)).status).toBe(200);
    expect(cluster.podsOf(workload)).toHaveLength(0);
    expect((await json<KubeObject>(`${path}/scale`)).spec).toEqual({});
    const again = new SimulatedCluster(scenario(), JSON.parse(JSON.stringify(cluster.state())), () => NOW);
    expect(again.podsOf(again.scenario.workloads.find((each) => each.name === 'promo-preview')!)).toHaveLength(0);
    expect((await patch(2, 'application/merge-patch+json', null)).status).toBe(200);
    expect(cluster.podsOf(workload)).toHaveLength(2);
    expect((await json<KubeObject>(path)).status).toMatchObject({ readyReplicas: 2 });
  });

  it('keeps records with conditions, and a dry run changes nothing', async () => {
    const path = '/api/v1/namespaces/upid-system/configmaps';
    const send = (method: string, url: string, body: unknown) => fetch(`${base}${url}`, { method, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
    expect((await send('POST', `${path}?dryRun=All`, { metadata: { name: 'r' } })).status).toBe(201);
    expect((await send('POST', path, { metadata: { name: 'r' }, data: { a: '1' } })).status).toBe(201);
    expect((await send('POST', path, { metadata: { name: 'r' } })).status).toBe(409);
    expect((await send('POST', '/api/v1/namespaces/nowhere/configmaps', { metadata: { name: 'r' } })).status).toBe(404);
    expect((await send('PUT', `${path}/r`, { metadata: { name: 'r', resourceVersion: '1' } })).status).toBe(409);
    expect((await send('POST', '/api/v1/namespaces/shop/pods', { metadata: { name: 'x' } })).status).toBe(403);
  });

  it('answers unknown paths as the real server does', async () => {
    for (const path of ['/apis/keda.sh/v1alpha1/scaledobjects', '/api/v1/secrets', '/nowhere']) expect((await fetch(`${base}${path}`)).status).toBe(404);
    expect((await json<{ groups: { name: string }[] }>('/apis')).groups.map((each) => each.name)).toContain('metrics.k8s.io');
  });
});
