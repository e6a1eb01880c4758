import { DEFAULT_POLICY, assessmentEventSchema, DAY_MS, HOUR_MS, type Assessment, type DependencyObject, type Judgement, type NamespaceObject, type OomKillObject } from '@upid/contracts';
import { aggregateWorkload, newAggregate, newContainerAggregate, packAggregate, packLoad, type Aggregate } from '../fold/aggregate.js';
import { PackWriter } from '../fold/column.js';
import { Grid } from '../fold/grid.js';
import { packCells, packPodHour } from '../fold/segment.js';
import { Zone } from '../idle/zone.js';
import { podObject, refOf, uidOf, workloadObject } from '../telemetry.fixture.js';
import { assessmentEvents, LISTED_PODS, listedPods } from './events.js';
import { containerSummary, factorsOf, floorsOf, judgePod, judgeWorkload, limitsOf, loadSummary, profileOf, requestSummary, signalsOf, worthTelling, type WorkloadFacts } from './facts.js';
import { clusterObjects, dependenciesOf, limitsOfWorkload, zoneOf } from './objects.js';
import { knownMinutes, openHoursOf, PodHours, wholeWindow, WorkloadHours, type OpenHours } from './window.js';

/** Monday 2026-01-05 00:00 UTC, unix minutes. */
const MONDAY = Date.UTC(2026, 0, 5) / 60_000;
const KEY = 'shop/Deployment/cart';
const uid = (pod: number) => Uint8Array.from(Buffer.from(uidOf('b', pod).replaceAll('-', ''), 'hex'));

/** An hour of a workload: two pods with what `of` says of each minute, requests as `business` says. */
function hourOf(hourMinute: number, cpu: (minute: number, pod: number) => number, business: ((minute: number) => number) | null = null): Grid {
  const grid = new Grid();
  grid.reset(hourMinute, 60);
  const workload = grid.workload(KEY);
  const container = grid.container('app');
  for (let pod = 0; pod < 2; pod++) {
    const at = grid.pod(uid(pod), 0, workload);
    const series = grid.seriesOf(at, container);
    for (let minute = 0; minute < 60; minute++) {
      grid.putUsage(series, minute, 4, Float64Array.of(cpu(hourMinute + minute, pod), 1, 1_048_576 * 100, 0, 1, 0));
      grid.putPod(at, minute, 4, Float64Array.of(101, 51, 5001));
    }
  }
  if (business) {
    const line = grid.requestLine(workload, 'ingress-nginx');
    for (let minute = 0; minute < 60; minute++) grid.putRequests(line, minute, Float64Array.of(60, business(hourMinute + minute), 0, 2, 0, 0, 0, 0, 0, business(hourMinute + minute), 0, 0, 0), null);
  }
  return grid;
}
function packedHour(grid: Grid): { aggregate: Uint8Array; load: Uint8Array; plain: Aggregate } {
  const { aggregate, load } = aggregateWorkload(grid, [0, 1], grid.requestLines > 0 ? [0] : []);
  return { aggregate: packAggregate(new PackWriter(), aggregate), load: packLoad(new PackWriter(), load), plain: aggregate };
}
function dayOf(dayMinute: number, cpu: (minute: number) => number, business: ((minute: number) => number) | null = null): Aggregate {
  const day = newAggregate(dayMinute, 1440);
  const hours = new WorkloadHours(dayMinute, 24);
  for (let hour = 0; hour < 24; hour++) {
    const packed = packedHour(hourOf(dayMinute + hour * 60, cpu, business));
    hours.add(packed.aggregate, packed.load);
  }
  return { ...hours.aggregate, startMinute: day.startMinute };
}
const factsOf = (over: Partial<WorkloadFacts>): WorkloadFacts => ({ window: newAggregate(MONDAY, 0), rest: { known: 0, atRest: 0 }, profile: null, dependencies: null, limits: new Map(), oomKills: 0, windowMinutes: 10_080, zone: Zone.utc, ...over });

describe('a window', () => {
  it('is what its closed and open hours add up to', () => {
    const closed = new WorkloadHours(MONDAY, 3);
    const first = packedHour(hourOf(MONDAY, () => 10, () => 2));
    closed.add(first.aggregate, first.load);
    const open = new Map<string, OpenHours>();
    const grid = hourOf(MONDAY + 60, () => 20, () => 3);
    const cells = [0, 5].flatMap((from) => packCells(grid, from, grid.orderedPods()).map(({ bytes }) => ({ hourMs: (MONDAY + 60) * 60_000, window: from / 5, data: bytes })));
    openHoursOf(new Grid(), cells, open);
    const whole = wholeWindow(MONDAY, 3, closed, open.get(KEY) ?? null);
    expect(whole.load).toMatchObject({ minutes: 70, cpuMillicoreMinutes: 60 * 20 + 10 * 40, cpuMaxMillicores: 40 });
    expect(whole.pod.minutes).toBe(140);
    expect(whole.requests).toMatchObject({ coveredMinutes: 70, business: 60 * 2 + 10 * 3, healthCheck: 0, probe: 140 });
    expect([...whole.quarters.minutes]).toEqual([15, 15, 15, 15, 10, 0, 0, 0, 0, 0, 0, 0]);
    expect(open.get(KEY)?.pods.get(uidOf('b', 1))?.map(knownMinutes)).toEqual([10]);
    expect([...closed.minutes()]).toHaveLength(1);
    expect(wholeWindow(MONDAY, 3, null, null).load.minutes).toBe(0);
    openHoursOf(new Grid(), cells, open, () => false);
    expect(open.get(KEY)?.loads).toHaveLength(1);
  });

  it('keeps pods\' minutes an hour at a time, each hour once', () => {
    const pods = new PodHours(3);
    const samples = (cpu: number) => packPodHour(new PackWriter(), hourOf(MONDAY, () => cpu), 0) as Uint8Array;
    const floor = { cpuMillicores: 10, networkBytesPerSecond: 1000 };
    const hour = (i: number) => (MONDAY + i * 60) * 60_000;
    pods.load(hour(0), 1n, [{ uid: 'a', samples: samples(20), floor }, { uid: 'b', samples: samples(50), floor }, { uid: 'c', samples: samples(5), floor: null }]);
    pods.load(hour(1), 2n, [{ uid: 'a', samples: samples(21), floor }]);
    expect(pods.of('a')).toEqual({ minutes: 120, rest: { known: 120, atRest: 60 } });
    expect(pods.of('b')).toEqual({ minutes: 60, rest: { known: 60, atRest: 0 } });
    expect(pods.of('c').minutes).toBe(0);
    expect([pods.has(hour(0), 1n), pods.has(hour(0), 9n), pods.has(hour(2), 1n)]).toEqual([true, false, false]);
    pods.load(hour(0), 9n, [{ uid: 'a', samples: samples(30), floor }]);
    expect(pods.of('a').rest.atRest).toBe(0);
    expect(pods.of('b').minutes).toBe(0);
    // The window moves on: hour 3 takes the place of hour 0.
    pods.load(hour(3), 4n, [{ uid: 'a', samples: samples(1), floor }]);
    expect(pods.has(hour(0), 9n)).toBe(false);
    expect(pods.of('a').rest.atRest).toBe(60);
    pods.prune();
    expect(pods.of('b').minutes).toBe(0);
  });
});

describe('the profile of a workload', () => {
  const atWork = (minute: number) => Math.floor(minute / 60) % 24 >= 9 && Math.floor(minute / 60) % 24 < 17;
  const days = Array.from({ length: 21 }, (_, i) => dayOf(MONDAY + i * 1440, (minute) => (atWork(minute) ? 150 : 5), (minute) => (atWork(minute) ? 6 : 0)));
  const windowStartMs = (MONDAY + 14 * 1440) * 60_000;
  const endMs = (MONDAY + 21 * 1440) * 60_000;
  const profile = profileOf(days, windowStartMs, endMs, Zone.utc);
  const window = wholeWindow(MONDAY + 14 * 1440, 168, null, { aggregates: days.slice(14), loads: [], pods: new Map() });

  it('knows the week before the window, the floor, the baseline and the idle hours', () => {
    expect(profile.week).toMatchObject({ usageDays: 14, requestDays: 14 });
    expect(profile.baselineDays).toBe(21);
    // 6 requests a minute over 0.3 cores of 8 hours and 0.01 of 16.
    expect(profile.baseline).toBeCloseTo((480 * 6) / ((480 * 300 + 960 * 10) * 0.06), 9);
    const floors = floorsOf(profile, window);
    expect(floors.load?.cpuMillicores).toBeCloseTo(10, 0);
    expect(floors.pod?.cpuMillicores).toBeCloseTo(5, 0);
    expect(profile.idlePeriods?.[0]).toEqual({ start_hour: 0, end_hour: 9 });
  });
  it('takes the floor from the window where there is no day of history', () => {
    expect(floorsOf(null, window).load?.cpuMillicores).toBeCloseTo(10, 0);
    expect(floorsOf({ ...profile, minutes: 100 }, newAggregate(MONDAY, 0)).load).toBeNull();
  });
  it('judges a workload that does as ever active, and its pods with it', () => {
    const facts = factsOf({ window, profile, rest: { known: 10_080, atRest: 6720 }, dependencies: { healthy: 1, total: 1 } });
    const judgement = judgeWorkload(facts, DEFAULT_POLICY);
    expect(factorsOf(facts).map((factor) => factor.score)).toEqual([expect.closeTo(100 * (2 / 3), 5), expect.closeTo(0, 5), 10, 100]);
    expect(judgement).toMatchObject({ state: 'active', data_points: 20_160, observed_hours: 168, confidence: 99 });
    const pod = judgePod({ minutes: 10_000, rest: { known: 10_000, atRest: 0 } }, judgement, facts, DEFAULT_POLICY);
    expect(pod.factors).toEqual(judgement.factors);
    expect(pod.data_points).toBe(10_000);
    expect(judgePod({ minutes: 60, rest: { known: 60, atRest: 60 } }, judgement, facts, DEFAULT_POLICY)).toBe(judgement);
    expect(judgePod(null, judgement, facts, DEFAULT_POLICY)).toBe(judgement);
  });
  it('judges a pod without business by its own minutes', () => {
    const quiet = wholeWindow(MONDAY + 14 * 1440, 168, null, { aggregates: Array.from({ length: 7 }, (_, i) => dayOf(MONDAY + (14 + i) * 1440, () => 5, () => 0)), loads: [], pods: new Map() });
    const facts = factsOf({ window: quiet, rest: { known: 10_080, atRest: 10_080 } });
    const judgement = judgeWorkload(facts, DEFAULT_POLICY);
    expect(judgement.state).toBe('idle');
    const burning = judgePod({ minutes: 10_000, rest: { known: 10_000, atRest: 1000 } }, judgement, facts, DEFAULT_POLICY);
    expect(burning.factors[1]?.score).toBe(10);
    expect(burning.idle_probability).toBeLessThan(judgement.idle_probability as number);
  });
});

describe('what is summed up', () => {
  const container = { ...newContainerAggregate('app'), minutes: 100, cpuMillicoreMinutes: 5000, cpuMaxMillicores: 400, cpu: new Map([[100, 90], [140, 10]]), memoryKibibyteMinutes: 102_400, memoryMaxBytes: 2_000_000, memory: new Map([[350, 100]]), throttledKnownMinutes: 50, throttledMinutes: 5, pods: 2 };

  it('says nothing of what is not known', () => {
    const empty = newAggregate(MONDAY, 0);
    expect(loadSummary(empty)).toEqual({ cpu_millicores: null, memory_bytes: null, network_bytes_per_second: null, throttled_minutes_share: null, covered_minutes: 0 });
    expect(containerSummary(newContainerAggregate('x'))).toMatchObject({ cpu_millicores: null, memory_bytes: null, throttled_minutes_share: null });
    expect(requestSummary(empty)).toBeNull();
    expect(signalsOf(empty, new Map(), 2)).toEqual({ throttledShare: null, oomKills: 2, memoryOfLimit: null, cpuPeakOfRequest: null, memoryPeakOfRequest: null });
  });
  it('never tells a percentile above the maximum', () => {
    expect(containerSummary(container)).toMatchObject({ cpu_millicores: { mean: 50, max: 400 }, memory_bytes: { mean: 1_048_576, max: 2_000_000 }, throttled_minutes_share: 0.1, covered_minutes: 100 });
    expect(containerSummary({ ...container, cpuMaxMillicores: 30 }).cpu_millicores).toMatchObject({ p50: 30, p99: 30 });
    const hour = packedHour(hourOf(MONDAY, (minute) => minute % 7, (minute) => minute % 2)).plain;
    expect(loadSummary(hour)).toMatchObject({ covered_minutes: 60, network_bytes_per_second: { receive_mean: 200, transmit_mean: 100 }, throttled_minutes_share: 0 });
    expect(hour.volumeMaxBytes).toBe(10_000);
    expect(requestSummary(hour)).toMatchObject({ covered_minutes: 60, business: 30, business_per_day: 720, probe: 120, noise_share: 0.8, errors: 0, latency_p95_ms: null });
  });
  it('takes the worst container as the signal', () => {
    const aggregate = { ...newAggregate(MONDAY, 0), containers: [container, { ...container, name: 'proxy', throttledMinutes: 25, memoryMaxBytes: 1_000_000 }] };
    const limits = limitsOf(podObject(uidOf('b', 1), 'x', refOf('cart')).containers.map((each) => ({ ...each, limits: { ...each.limits, memory_bytes: 2_000_000 } })));
    expect(signalsOf(aggregate, limits, 0)).toMatchObject({ throttledShare: 0.5, memoryOfLimit: 1, cpuPeakOfRequest: 0.8 });
  });
});

describe('objects', () => {
  const dependency = (name: string, to: Assessment['workload'][]): DependencyObject => ({ kind: 'Dependency', uid: uidOf('c', 50), namespace: 'shop', name, from: refOf('cart'), to_service: { namespace: 'shop', name }, to_workloads: to, source: 'environment' });
  const kill = (at: number): OomKillObject => ({ kind: 'OomKill', uid: uidOf('c', 60), namespace: 'shop', name: 'x', workload: refOf('cart'), pod_uid: uidOf('b', 1), container: 'app', at: new Date(at).toISOString(), memory_limit_bytes: null });
  const shop: NamespaceObject = { kind: 'Namespace', uid: uidOf('c', 70), name: 'shop', labels: {}, annotations: { 'upid.io/time-zone': 'Europe/Berlin' }, created_at: null };
  const now = 1_800_000_000_000;
  const parts = {
    workloads: [workloadObject(uidOf('c', 1), refOf('cart')), workloadObject(uidOf('c', 2), refOf('db'), { ready_replicas: 0 }), workloadObject(uidOf('c', 3), { namespace: 'shop', kind: 'DaemonSet', name: 'agent' }, { ready_replicas: null, containers: [] })],
    pods: [podObject(uidOf('b', 1), 'cart-1', refOf('cart')), podObject(uidOf('b', 2), 'cart-2', refOf('cart'), { phase: 'Succeeded', finished_at: '2026-01-02T00:00:00Z' }), podObject(uidOf('b', 3), 'agent-1', { namespace: 'shop', kind: 'DaemonSet', name: 'agent' })],
    dependencies: [dependency('db', [refOf('db')]), dependency('agent', [{ namespace: 'shop', kind: 'DaemonSet', name: 'agent' }]), dependency('outside', []), dependency('gone', [refOf('nowhere')])], oomKills: [kill(now - DAY_MS), kill(now - 8 * DAY_MS)], namespaces: [shop], timeZone: 'America/New_York',
  };
  const objects = clusterObjects(parts, now - 7 * DAY_MS);

  it('are put in order by workload', () => {
    expect(objects.pods.get(KEY)?.map((pod) => pod.name)).toEqual(['cart-1']);
    expect(objects.oomKills.get(KEY)).toHaveLength(1);
  });
  it('tell dependencies with ready pods, those that lead nowhere apart', () => {
    expect(dependenciesOf(objects, KEY)).toEqual({ total: 3, healthy: 1 });
    expect(dependenciesOf(objects, 'shop/Deployment/db')).toBeNull();
  });
  it('tell the zone of the workload, the namespace, the cluster, else UTC', () => {
    expect(zoneOf(objects, KEY).name).toBe('Europe/Berlin');
    expect(zoneOf(objects, 'other/Deployment/x').name).toBe('America/New_York');
    expect(zoneOf(clusterObjects({ ...parts, namespaces: [], timeZone: 'No/Where' }, 0), KEY).name).toBe('UTC');
    expect(zoneOf(clusterObjects({ ...parts, workloads: [workloadObject(uidOf('c', 1), refOf('cart'), { annotations: { 'upid.io/time-zone': 'Asia/Kolkata' } })] }, 0), KEY).name).toBe('Asia/Kolkata');
  });
  it('tell requests and limits by the template, else by a pod', () => {
    expect(limitsOfWorkload(objects, KEY).get('app')).toMatchObject({ cpuRequest: 500 });
    expect(limitsOfWorkload(objects, 'shop/DaemonSet/agent').get('app')).toMatchObject({ cpuRequest: 500 });
    expect(limitsOfWorkload(objects, 'shop/Deployment/none').size).toBe(0);
  });
});

describe('what is told', () => {
  const judgement: Judgement = { state: 'idle', idle_probability: 97, confidence: 95, calibrated_confidence: null, factors: [{ name: 'business_activity', weight: 0.5, score: 100, coverage: 1, evidence: 'x' }], missing: [], observed_hours: 100, data_points: 6000, model_version: 'm' };
  const assessment = (over: Partial<Assessment> = {}): Assessment => ({
    workload: refOf('cart'), uid: uidOf('c', 1), judgement, pods_mean_idle_probability: 97, pods_lowest_confidence: 95, pods: [{ uid: uidOf('b', 1), name: 'cart-1', judgement }], usage: loadSummary(newAggregate(MONDAY, 0)), containers: [], requests: null, idle_periods: null, time_zone: 'UTC', ...over,
  });

  it('is what differs from what was told last', () => {
    expect(worthTelling(null, assessment())).toBe(true);
    expect(worthTelling(assessment(), assessment())).toBe(false);
    expect(worthTelling(assessment(), assessment({ judgement: { ...judgement, idle_probability: 97.5, observed_hours: 101, factors: [{ ...(judgement.factors[0] as Judgement['factors'][0]), evidence: 'other words' }] } }))).toBe(false);
    const differing: Partial<Assessment>[] = [
      { uid: null }, { time_zone: 'Europe/Berlin' }, { judgement: { ...judgement, state: 'active' } }, { judgement: { ...judgement, idle_probability: 90 } }, { judgement: { ...judgement, idle_probability: null } }, { judgement: { ...judgement, confidence: 90 } },
      { judgement: { ...judgement, missing: ['x'] } }, { judgement: { ...judgement, factors: [{ ...(judgement.factors[0] as Judgement['factors'][0]), score: null }] } }, { pods_mean_idle_probability: 80 }, { pods_lowest_confidence: 80 }, { idle_periods: [{ start_hour: 0, end_hour: 8 }] }, { pods: [] },
      { pods: [{ uid: uidOf('b', 2), name: 'cart-2', judgement }] }, { pods: [{ uid: uidOf('b', 1), name: 'cart-1', judgement: { ...judgement, state: 'active' } }] },
    ];
    for (const over of differing) expect(worthTelling(assessment(), assessment(over))).toBe(true);
  });
  it('fits the size of a message, pods that speak against idleness first', () => {
    const pods = Array.from({ length: LISTED_PODS + 50 }, (_, i) => ({ uid: uidOf('b', i), name: `p${i}`, judgement: { ...judgement, idle_probability: 99 - i / 10 } }));
    const listed = listedPods(pods);
    expect(listed).toHaveLength(LISTED_PODS);
    expect(listed[0]?.name).toBe(`p${LISTED_PODS + 49}`);
    expect(listedPods(pods.slice(0, 3))).toHaveLength(3);
    const many = Array.from({ length: 40 }, (_, i) => assessment({ workload: refOf(`w${i}`), pods: listed }));
    const events = assessmentEvents({ clusterId: 'c', windowStartMs: 0, windowEndMs: HOUR_MS, policy: 'p', revision: 5 }, many);
    expect(events.length).toBeGreaterThan(1);
    expect(events.flatMap((event) => event.assessments)).toHaveLength(40);
    for (const event of events) {
      expect(JSON.stringify(event).length).toBeLessThan(512 * 1024);
      expect(assessmentEventSchema.parse(event)).toEqual(event);
    }
    expect(new Set(events.map((event) => event.id)).size).toBe(events.length);
    expect(assessmentEvents({ clusterId: 'c', windowStartMs: 0, windowEndMs: 1, policy: 'p', revision: 1 }, [])).toEqual([]);
  });
});
