import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { allocationEventSchema, DAY_MS, HOUR_MS, MINUTE_MS, QUERIES, STREAMS, subjects, toTimestamp, WINDOW_MS, workloadKey, type AllocationEvent, type InventoryEvent, type InventoryObject, type QueryName, type QueryRequest, type QueryResponse, type Recommendation, type WorkloadRef } from '@upid/contracts';
import { connectBus, Database, listDeadLetters, startService, type Bus, type RunningService } from '@upid/platform';
import { ManagedProcess, startNats, startPostgres, temporaryDirectory, waitFor, type TestNats, type TestPostgres } from '@upid/testing';
import fc from 'fast-check';
import pg from 'pg';
import { costOfSpan } from './allocation/cells.js';
import { HoursRepository } from './allocation/hours.repository.js';
import { costService, type costSettings } from './cost.module.js';
import { changeOf, GIB, nodeObject, podObject, rollupOf, snapshotOf, uidOf, workloadObject, type UsageRow } from './objects.fixture.js';

type Service = RunningService<typeof costSettings>;
type Store = Awaited<ReturnType<TestPostgres['createDatabase']>> & { readonly sql: pg.Client };

let nats: TestNats;
let postgres: TestPostgres;
let store: Store;
let bus: Bus;
let service: Service;
const services = new Set<Service>();
const stores: Store[] = [];
const events: AllocationEvent[] = [];
let published = 0;

async function openStore(): Promise<Store> {
  const database = await postgres.createDatabase('cost');
  const sql = new pg.Client({ connectionString: database.url, options: '-c search_path=cost' });
  await sql.connect();
  const opened = { ...database, sql };
  stores.push(opened);
  return opened;
}

const environment = (of: Store) => ({ UPID_NATS_URL: nats.url, UPID_DATABASE_URL: of.url, UPID_LOG_LEVEL: 'error', UPID_COST_SETTLE_MS: '20' });
async function startCost(): Promise<Service> {
  const started = await startService(costService(), environment(store));
  services.add(started);
  return started;
}

beforeAll(async () => {
  [nats, postgres] = await Promise.all([startNats({ own: true }), startPostgres({ own: true })]);
  store = await openStore();
  bus = await connectBus({ url: nats.url, name: 'intelligence' });
  await bus.ensureStreams(STREAMS);
  await bus.tail({ stream: 'FACTS', subjects: [subjects.allocation('*')], from: new Date(0) }, (message) => { events.push(message.json(allocationEventSchema)); });
  await bus.serveQuery('requests', QUERIES.intelligence.requests.request, ({ workload: { name } }) => Promise.resolve({ requests: name === 'web' ? { business_per_day: 10_000 } : null }));
  service = await startCost();
});
afterAll(async () => {
  await Promise.all([...services].map((each) => each.stop()));
  await bus?.drain();
  for (const each of stores) {
    await each.sql.end();
    await each.drop();
  }
  await Promise.all([nats?.stop(), postgres?.stop()]);
});

const inventory = (cluster: string, event: InventoryEvent) => bus.publish(subjects.agent(cluster, 'inventory'), Buffer.from(JSON.stringify(event)), { msgId: `inventory/${cluster}/${published++}` });
/** Published under an id of its own each time, so that the bus does not drop it: the service must. */
const rollup = (cluster: string, payload: Uint8Array) => bus.publish(subjects.rollup(cluster), payload, { msgId: `rollup/${cluster}/${published++}` });
const ask = async <N extends QueryName<'cost'>>(name: N, request: QueryRequest<'cost', N>): Promise<QueryResponse<'cost', N>> => QUERIES.cost[name].response.parse(await bus.ask('cost', name, request)) as QueryResponse<'cost', N>;
const rows = async <R>(text: string, values: unknown[] = [], of = store): Promise<R[]> => (await of.sql.query(text, values)).rows as R[];
const thisHour = () => Math.floor(Date.now() / HOUR_MS) * HOUR_MS;
const windowsOf = (hourMs: number) => Array.from({ length: 12 }, (_, i) => hourMs + i * WINDOW_MS);
const nanos = (values: readonly (string | bigint)[]) => values.reduce<bigint>((sum, value) => sum + BigInt(value), 0n);

interface HourRow { readonly hour: Date; readonly revision: number; readonly covered_ms: number; readonly node_cost: string; readonly unbalanced: number; readonly uncharged: Record<string, number> }
const hoursOf = (cluster: string, beforeMs = thisHour(), of = store) => rows<HourRow>('SELECT h.* FROM cluster_hour h JOIN cluster c ON c.id = h.cluster WHERE c.cluster_id = $1 AND h.hour < $2 ORDER BY hour', [cluster, new Date(beforeMs)], of);
/** What was charged to each pod in the hours that are over. */
const chargesOf = (cluster: string, of = store) => rows<{ hour: Date; uid: string; cost: string; actual: string; measured: string; present_ms: number }>(
  `SELECT h.hour, p.uid, (h.cpu_cost + h.memory_cost + h.gpu_cost)::text AS cost, h.actual_cost::text AS actual, h.measured_cost::text AS measured, h.present_ms FROM pod_hour h JOIN pod p ON p.id = h.pod JOIN cluster c ON c.id = h.cluster
   WHERE c.cluster_id = $1 AND h.hour < $2 ORDER BY h.hour, p.uid`, [cluster, new Date(thisHour())], of);

/** All that was published is consumed and computed. */
async function settled(of = store): Promise<void> {
  const manager = await bus.jetstreamManager();
  await waitFor('everything to be computed', async () => {
    const infos = await Promise.all([['FACTS', 'cost-rollup'], ['FACTS', 'cost-inventory'], ['PUBLIC', 'cost-recommendation']].map(([stream, name]) => manager.consumers.info(stream as string, name as string)));
    if (infos.some((info) => info.num_pending > 0 || info.num_ack_pending > 0)) return false;
    return (await rows('SELECT 1 FROM dirty_hour WHERE hour < $1', [new Date(thisHour())], of)).length === 0 && (await rows('SELECT 1 FROM outbox', [], of)).length === 0;
  }, { timeoutMs: 60_000 });
}

const web: WorkloadRef = { namespace: 'shop', kind: 'Deployment', name: 'web' };
const created = () => thisHour() - 3 * DAY_MS;

describe('an hour of a cluster', () => {
  it('costs what its nodes cost, by requests before usage comes, and tells what was used when it has come', async () => {
    await inventory('thin', snapshotOf(1, Date.now(), [nodeObject(1, created()), podObject(1, { createdAtMs: created() }), workloadObject(1, web, created())]));
    const range = { start: toTimestamp(Date.now() - HOUR_MS), end: toTimestamp(Date.now()) };
    const of = { cluster_id: 'thin', resource_type: 'deployment', resource_name: 'web', namespace: 'shop' } as const;
    const before = await waitFor('a cost', async () => {
      const answer = await ask('analysis', { ...of, ...range });
      return BigInt(answer.current.allocated_cost) > 0n ? answer : null;
    }, { timeoutMs: 60_000 });
    expect(before.current).toMatchObject({ actual_cost: null, wasted_cost: null, waste_percentage: null, instance_type: 'm5.xlarge', region: 'us-east-1', pricing_model: 'on_demand', price_basis: { source: 'price_list' } });
    expect(before.coverage.reasons.actual_cost).toContain('no usage is known');

    const windowMs = (Math.floor(Date.now() / WINDOW_MS) - 1) * WINDOW_MS;
    await rollup('thin', rollupOf({ windowMs, revision: 1 }, [{ podUid: uidOf('b', 1), cpuMillicores: 250, memoryBytes: GIB / 2 }]));
    const after = await waitFor('usage', async () => {
      const answer = await ask('analysis', { ...of, start: toTimestamp(windowMs), end: toTimestamp(windowMs + 1) });
      return answer.current.actual_cost === null ? null : answer;
    });
    // Half of what it requests was used: of the measured part, half is wasted.
    expect(after.current.waste_percentage).toBeCloseTo(50, 5);
  });

  it('changes nothing by what comes twice or is older, and everything by what is newer and complete', async () => {
    const hourMs = thisHour() - 3 * HOUR_MS;
    const usage = (millicores: number): UsageRow[] => [{ podUid: uidOf('b', 1), cpuMillicores: millicores, memoryBytes: GIB }];
    const told = async () => {
      await settled();
      return { revision: (await hoursOf('again'))[0]?.revision, charges: await chargesOf('again') };
    };
    const actual = async () => BigInt((await told()).charges[0]?.actual ?? 0);
    // Usage comes before the inventory, and out of order: the newer revision first.
    for (const windowMs of windowsOf(hourMs).reverse()) await rollup('again', rollupOf({ windowMs, revision: 7 }, usage(100)));
    await settled();
    expect((await hoursOf('again'))[0]).toMatchObject({ covered_ms: 0, uncharged: { 'shop/Deployment/web': 1 } });
    await inventory('again', snapshotOf(1, Date.now(), [nodeObject(1, created()), podObject(1, { createdAtMs: created() })]));
    const first = await told();
    expect(first.charges).toHaveLength(1);
    expect((await hoursOf('again'))[0]).toMatchObject({ covered_ms: HOUR_MS, uncharged: {} });

    for (const windowMs of windowsOf(hourMs)) {
      await rollup('again', rollupOf({ windowMs, revision: 7 }, usage(100)));
      await rollup('again', rollupOf({ windowMs, revision: 6 }, usage(400)));
    }
    expect(await told()).toEqual(first);

    // Half a revision is none; its other half makes it count, whatever order the parts come in.
    const windowMs = hourMs + WINDOW_MS;
    await rollup('again', rollupOf({ windowMs, revision: 8, part: 2, parts: 2 }, []));
    expect(await told()).toEqual(first);
    await rollup('again', rollupOf({ windowMs, revision: 8, part: 1, parts: 2 }, usage(500)));
    const second = await told();
    expect(second.revision).toBe((first.revision ?? 0) + 1);
    expect(BigInt(second.charges[0]?.actual ?? 0)).toBeGreaterThan(BigInt(first.charges[0]?.actual ?? 0));
    expect(second.charges[0]?.cost).toBe(first.charges[0]?.cost);

    // A store that was made anew counts from 1 and stands above; what is left of the old one does not come back.
    await rollup('again', rollupOf({ windowMs, revision: 1, epoch: 2 }, usage(0)));
    const third = await actual();
    expect(third).toBeLessThan(BigInt(first.charges[0]?.actual ?? 0));
    await rollup('again', rollupOf({ windowMs, revision: 9 }, usage(500)));
    expect(await actual()).toBe(third);
    expect(await rows('SELECT count(*)::int AS count FROM rollup_part p JOIN cluster c ON c.id = p.cluster WHERE c.cluster_id = $1', ['again'])).toEqual([{ count: 12 }]);
  });

  it('charges pods that came, ended and vanished for their time, and only then; says who could not be charged', async () => {
    const hourMs = thisHour() - 2 * HOUR_MS;
    const at = (minutes: number) => hourMs + minutes * MINUTE_MS;
    const pods = [podObject(1, { createdAtMs: created() }), podObject(2, { createdAtMs: at(10) }), podObject(3, { createdAtMs: at(0), node: null })];
    await inventory('lives', snapshotOf(1, Date.now(), [nodeObject(1, created()), ...pods]));
    for (const windowMs of windowsOf(hourMs)) await rollup('lives', rollupOf({ windowMs, revision: 1 }, [{ podUid: uidOf('b', 1), cpuMillicores: 10, memoryBytes: 10 }, { podUid: uidOf('b', 99), workload: { namespace: 'shop', kind: 'CronJob', name: 'old' }, cpuMillicores: 10, memoryBytes: 10 }]));
    await settled();
    const present = async () => Object.fromEntries((await chargesOf('lives')).map((each) => [each.uid, each.present_ms / MINUTE_MS]));
    expect(await present()).toEqual({ [uidOf('b', 1)]: 60, [uidOf('b', 2)]: 50 });
    expect((await hoursOf('lives'))[0]).toMatchObject({ uncharged: { 'shop/CronJob/old': 1 } });

    await inventory('lives', changeOf(1, 1, Date.now(), [podObject(2, { createdAtMs: at(10), finishedAtMs: at(25) })]));
    await settled();
    expect(await present()).toEqual({ [uidOf('b', 1)]: 60, [uidOf('b', 2)]: 15 });
    // Gone from the cluster, and charged as before.
    await inventory('lives', changeOf(1, 2, Date.now(), [], [{ kind: 'Pod', uid: uidOf('b', 2) }]));
    await inventory('lives', snapshotOf(2, Date.now(), [nodeObject(1, created()), ...pods.slice(0, 1)]));
    await settled();
    expect(await present()).toEqual({ [uidOf('b', 1)]: 60, [uidOf('b', 2)]: 15 });
    const answer = await ask('analysis', { cluster_id: 'lives', resource_type: 'pod', resource_name: 'web-2', namespace: 'shop', start: toTimestamp(hourMs), end: toTimestamp(hourMs + HOUR_MS) });
    expect(answer.current).toMatchObject({ covered_hours: 50 / 60 });
    const cluster = await ask('cluster_cost', { cluster_id: 'lives', namespace: null, start: toTimestamp(hourMs), end: toTimestamp(hourMs + HOUR_MS) });
    expect(cluster.coverage.reasons.uncharged).toContain('up to 1 pods could not be charged');
  });

  it('what cannot be read becomes a dead letter, and nothing else is lost', async () => {
    const hourMs = thisHour() - 2 * HOUR_MS;
    await inventory('bad', snapshotOf(1, Date.now(), [nodeObject(1, created()), podObject(1, { createdAtMs: created() })]));
    await rollup('bad', Buffer.from('no rollup'));
    await rollup('bad', rollupOf({ windowMs: hourMs + MINUTE_MS, revision: 1 }, []));
    await rollup('bad', rollupOf({ windowMs: hourMs, revision: 1, part: 2, parts: 1 }, []));
    for (const windowMs of windowsOf(hourMs)) await rollup('bad', rollupOf({ windowMs, revision: 1 }, [{ podUid: uidOf('b', 1), cpuMillicores: 10, memoryBytes: 10 }]));
    await rollup('bad', rollupOf({ windowMs: hourMs - 100 * DAY_MS, revision: 1 }, [{ podUid: uidOf('b', 1), cpuMillicores: 10, memoryBytes: 10 }]));
    await settled();
    expect(await chargesOf('bad')).toHaveLength(1);
    const letters = await waitFor('the dead letters', async () => {
      const found = await listDeadLetters(bus, { service: 'cost' });
      return found.length >= 3 ? found : null;
    });
    expect(letters.map((each) => each.reason).sort()).toEqual([expect.stringContaining('malformed rollup'), expect.stringContaining('rollup of a window that starts at minute'), expect.stringContaining('rollup of part 2 of 1')]);
  });
});

describe('an hour that cannot be computed', () => {
  it('is put off and told, and does not hold up the others', async () => {
    const [faulty, fine] = [thisHour() - 2 * HOUR_MS, thisHour() - 3 * HOUR_MS];
    await inventory('fault', snapshotOf(1, Date.now(), [nodeObject(1, created()), podObject(1, { createdAtMs: created() })]));
    for (const hourMs of [faulty, fine]) for (const windowMs of windowsOf(hourMs)) await rollup('fault', rollupOf({ windowMs, revision: 1 }, [{ podUid: uidOf('b', 1), cpuMillicores: 10, memoryBytes: 10 }]));
    await settled();
    const [{ id } = { id: 0 }] = await rows<{ id: number }>(`SELECT id FROM cluster WHERE cluster_id = 'fault'`);
    // As a disk might leave it.
    await rows(`UPDATE rollup_part SET payload = '\\x00' WHERE cluster = $1 AND window_start = $2`, [id, new Date(faulty)]);
    await rows(`DELETE FROM cluster_hour WHERE cluster = $1`, [id]);
    await rows('INSERT INTO dirty_hour SELECT $1, unnest($2::timestamptz[]), now()', [id, [new Date(faulty), new Date(fine)]]);
    await waitFor('the fault to be put off', async () => (await rows('SELECT 1 FROM dirty_hour WHERE cluster = $1 AND hour = $2 AND due_at > now()', [id, new Date(faulty)])).length === 1);
    await waitFor('the other hour', async () => (await hoursOf('fault')).length === 1);
    expect((await hoursOf('fault'))[0]).toMatchObject({ hour: new Date(fine), covered_ms: HOUR_MS });
    await rows('DELETE FROM dirty_hour WHERE cluster = $1 AND hour = $2', [id, new Date(faulty)]);
  });
});

describe('the law', () => {
  /** Over-committed nodes, pods without requests, GPU nodes, machines that no list names, lives that begin and end within the hours, usage with gaps. */
  const clusters = fc.sample(fc.record({
    nodes: fc.array(fc.record({ gpus: fc.constantFrom(0, 0, 1, 8), cores: fc.integer({ min: 1, max: 96 }), listed: fc.boolean(), spot: fc.boolean(), start: fc.constantFrom(-DAY_MS, 13 * MINUTE_MS), kept: fc.double({ min: 0.5, max: 1, noNaN: true }) }), { minLength: 1, maxLength: 5 }),
    pods: fc.array(fc.record({
      on: fc.nat(4), cpu: fc.constantFrom(null, 0, 1, 333, 4000), memory: fc.constantFrom(null, 0, 123_456_789, 9 * GIB), gpus: fc.constantFrom(null, 1, 2), start: fc.integer({ min: -300, max: 110 }), life: fc.option(fc.integer({ min: 0, max: 200 })), sampled: fc.double({ min: 0, max: 1, noNaN: true }), uses: fc.integer({ min: 0, max: 8000 }),
    }), { maxLength: 40 }),
  }), { numRuns: 12, seed: 20260105 });

  it('allocations + idle + overhead = price x time, to the nano, for every node and hour that is stored', async () => {
    const hourMs = thisHour() - 2 * HOUR_MS;
    for (const [index, { nodes, pods }] of clusters.entries()) {
      const nodeObjects = nodes.map((each, i) => nodeObject(i, hourMs + each.start, {
        ...(each.listed ? {} : { instance_type: 'x9.mega' }), capacity_type: each.spot ? 'spot' : 'on_demand', capacity: { ...nodeObject(i, 0).capacity, cpu_millicores: each.cores * 1000, memory_bytes: each.cores * 3 * GIB, gpus: each.gpus },
        allocatable: { ...nodeObject(i, 0).capacity, cpu_millicores: Math.floor(each.cores * 1000 * each.kept), memory_bytes: Math.floor(each.cores * 3 * GIB * each.kept), gpus: each.gpus },
      }));
      const podObjects = pods.map((each, i) => {
        const start = hourMs + each.start * MINUTE_MS;
        const pod = podObject(i, { node: `node-${each.on % nodes.length}`, createdAtMs: start, cpuMillicores: each.cpu, memoryBytes: each.memory, ...(each.life === null ? {} : { finishedAtMs: start + each.life * MINUTE_MS }) });
        return { ...pod, containers: pod.containers.map((container) => ({ ...container, requests: { ...container.requests, gpus: each.gpus } })) };
      });
      await inventory(`law-${index}`, snapshotOf(1, Date.now(), [...nodeObjects, ...podObjects]));
      for (const [w, windowMs] of [...windowsOf(hourMs), ...windowsOf(hourMs + HOUR_MS)].entries()) {
        const sampled = pods.flatMap((each, i) => (w === 0 || each.sampled * 24 > w ? [{ podUid: uidOf('b', i), cpuMillicores: each.uses, memoryBytes: each.uses * 1_000_000, minutes: 1 + (w % 5) }] : []));
        await rollup(`law-${index}`, rollupOf({ windowMs, revision: 1 }, sampled.length > 0 ? sampled : [{ podUid: uidOf('b', 999), cpuMillicores: 1, memoryBytes: 1 }]));
      }
    }
    await settled();
    const stored = await rows<{ cluster_id: string; hour: Date; starts_at: Date; per_hour: string; cost: string; allocated: string; idle: string; overhead: string; charged: string; negative: boolean; unbalanced: number; actual_over: boolean }>(
      `SELECT c.cluster_id, h.hour, n.starts_at, x.per_hour, h.cost, h.allocated, h.idle, h.overhead, coalesce(sum(p.cpu_cost + p.memory_cost + p.gpu_cost), 0)::text AS charged, least(h.idle, h.overhead, min(p.cpu_cost), min(p.memory_cost), min(p.gpu_cost), min(p.actual_cost)) < 0 AS negative,
         k.unbalanced, coalesce(bool_or(p.actual_cost > p.measured_cost OR p.measured_cost > p.cpu_cost + p.memory_cost + p.gpu_cost), false) AS actual_over
       FROM node_hour h JOIN cluster c ON c.id = h.cluster JOIN node n ON n.id = h.node JOIN node_price x ON x.id = h.price JOIN cluster_hour k ON k.cluster = h.cluster AND k.hour = h.hour LEFT JOIN pod_hour p ON p.cluster = h.cluster AND p.hour = h.hour AND p.node = h.node
       WHERE c.cluster_id LIKE 'law-%' AND h.hour < $1 GROUP BY c.cluster_id, h.hour, n.id, x.id, h.cost, h.allocated, h.idle, h.overhead, k.unbalanced`, [new Date(thisHour())]);
    expect(stored.length).toBeGreaterThan(40);
    for (const each of stored) {
      expect(nanos([each.charged, each.idle, each.overhead])).toBe(BigInt(each.cost));
      expect(each.allocated).toBe(each.charged);
      expect(BigInt(each.cost)).toBe(costOfSpan(BigInt(each.per_hour), Math.max(each.hour.getTime(), each.starts_at.getTime()), each.hour.getTime() + HOUR_MS));
      expect(each).toMatchObject({ negative: false, unbalanced: 0, actual_over: false });
    }
    // The same by the answers.
    for (const index of clusters.keys()) {
      const answer = await ask('cluster_cost', { cluster_id: `law-${index}`, namespace: null, start: toTimestamp(hourMs), end: toTimestamp(thisHour()) });
      expect(nanos([answer.allocated_cost, answer.idle_cost, answer.overhead_cost])).toBe(BigInt(answer.node_cost));
      expect(nanos(answer.by_namespace.map(({ cost }) => cost.allocated_cost))).toBe(BigInt(answer.allocated_cost));
      expect(nanos(answer.by_workload_kind.map(({ cost }) => cost.allocated_cost))).toBe(BigInt(answer.allocated_cost));
      for (const field of ['node_cost', 'allocated_cost', 'idle_cost', 'overhead_cost'] as const) expect(nanos(answer.by_node.map((node) => node[field]))).toBe(BigInt(answer[field]));
    }
    const metrics = await (await fetch(`${service.healthUrl}/metrics`)).text();
    expect(metrics).toMatch(/upid_cost_unbalanced\{service="cost"\} 0/);
  });

  it('is checked of what is stored: a nano too many is found', async () => {
    const repository = new HoursRepository(new Database({ url: store.url, schema: 'cost' }));
    const [row] = await rows<{ cluster: number; hour: Date; node: number }>(`SELECT h.cluster, h.hour, h.node FROM node_hour h JOIN cluster c ON c.id = h.cluster WHERE c.cluster_id = 'law-0' AND h.hour < $1 LIMIT 1`, [new Date(thisHour())]);
    const hour = { cluster: row!.cluster, hourMs: row!.hour.getTime() };
    const database = new Database({ url: store.url, schema: 'cost' });
    try {
      await expect(database.transaction(async (tx) => {
        expect(await repository.unbalanced(tx, hour)).toEqual([]);
        await tx.query('UPDATE node_hour SET idle = idle + 1 WHERE cluster = $1 AND hour = $2 AND node = $3', [row!.cluster, row!.hour, row!.node]);
        expect(await repository.unbalanced(tx, hour)).toEqual([{ node: row!.node, difference: '-1' }]);
        throw new Error('put back');
      })).rejects.toThrow('put back');
    } finally {
      await database.close();
    }
  });
});

describe('questions', () => {
  const cluster = 'asked';
  const hours = 8;
  const range = () => ({ cluster_id: cluster, start: toTimestamp(thisHour() - hours * HOUR_MS), end: toTimestamp(thisHour()) });
  const analysis = (type: QueryRequest<'cost', 'analysis'>['resource_type'], name: string, namespace: string | null = null) => ask('analysis', { ...range(), resource_type: type, resource_name: name, namespace });
  const batch: WorkloadRef = { namespace: 'data', kind: 'CronJob', name: 'nightly' };

  beforeAll(async () => {
    const objects: InventoryObject[] = [
      nodeObject(1, created()), nodeObject(2, created(), { instance_type: 'x9.mega', capacity_type: 'spot' }), workloadObject(1, web, created()), workloadObject(2, batch, created()), workloadObject(3, { namespace: 'shop', kind: 'Deployment', name: 'asleep' }, created()),
      podObject(1, { createdAtMs: created(), labels: { team: 'shop', tier: 'front' } }), podObject(2, { createdAtMs: created(), node: 'node-2', labels: { team: 'shop' } }), podObject(3, { createdAtMs: created(), workload: batch, cpuMillicores: null, memoryBytes: null, labels: { team: 'data' } }),
      podObject(4, { createdAtMs: created(), node: null, name: 'waits' }),
    ];
    await inventory(cluster, snapshotOf(1, Date.now(), objects));
    for (let hour = 1; hour <= hours; hour++) {
      for (const windowMs of windowsOf(thisHour() - hour * HOUR_MS)) {
        await rollup(cluster, rollupOf({ windowMs, revision: 1 }, [
          { podUid: uidOf('b', 1), cpuMillicores: 250, memoryBytes: GIB / 2 }, { podUid: uidOf('b', 2), cpuMillicores: 500, memoryBytes: GIB }, { podUid: uidOf('b', 3), workload: batch, cpuMillicores: 1000, memoryBytes: 2 * GIB },
        ]));
      }
    }
    await settled();
  });

  it('a pod, its workload, namespace, labels, node and cluster each cost the sum of theirs', async () => {
    const [one, two, batchPod, workload, namespace, team, tier, front] = await Promise.all([
      analysis('pod', 'web-1', 'shop'), analysis('pod', 'web-2', 'shop'), analysis('pod', 'nightly-3', 'data'), analysis('deployment', 'web', 'shop'), analysis('namespace', 'shop'), analysis('label', 'team=shop'), analysis('label', 'tier'), analysis('label', 'tier=front'),
    ]);
    const cost = (answer: QueryResponse<'cost', 'analysis'>) => BigInt(answer.current.allocated_cost);
    expect([workload, namespace, team].map(cost)).toEqual([0, 1, 2].map(() => cost(one) + cost(two)));
    expect([tier, front].map(cost)).toEqual([cost(one), cost(one)]);
    const [node, whole] = await Promise.all([analysis('node', 'node-1'), analysis('cluster', cluster)]);
    expect(cost(node)).toBe(cost(one) + cost(batchPod));
    expect(cost(whole)).toBe(cost(one) + cost(two) + cost(batchPod));
    expect(one).toMatchObject({ resource_type: 'pod', resource_name: 'web-1', namespace: 'shop', current: { covered_hours: hours, instance_type: 'm5.xlarge', waste_percentage: 50 }, coverage: { usage: 1, cost: 1 }, trend: { direction: 'unknown' } });
    expect(one.history).toHaveLength(hours);
    expect(nanos(one.history.map((point) => point.allocated_cost))).toBe(cost(one));
    // m5.xlarge costs 0.192 an hour: a node's rate is its whole price.
    expect(Number(node.current.hourly_rate) / 1e9).toBeCloseTo(0.192, 8);
    expect(Number(node.current.monthly_projection) / 1e9).toBeCloseTo(0.192 * 730, 4);
    // Two machines: none is named, both are told; the weaker price is what it rests on.
    expect(workload.current).toMatchObject({ instance_type: null, pricing_model: null, price_basis: { source: 'estimate' } });
    expect(workload.coverage.reasons).toMatchObject({ instance_type: 'several: m5.xlarge, x9.mega' });
    // 10,000 business requests a day.
    expect(BigInt(workload.unit_cost.per_thousand_requests ?? -1)).toBe(BigInt(Math.round(Number(workload.current.daily_cost) / 10)));
    expect(namespace.unit_cost).toEqual({ per_thousand_requests: null, reason: 'requests are counted by workload: ask for one' });
  });

  it('a cluster and a namespace of it', async () => {
    const whole = await ask('cluster_cost', { ...range(), namespace: null });
    const shop = await ask('cluster_cost', { ...range(), namespace: 'shop' });
    expect(whole).toMatchObject({ covered_hours: hours, currency: 'USD', coverage: { usage: 1, cost: 1 } });
    expect(whole.by_node).toEqual([
      expect.objectContaining({ node: 'node-1', uid: uidOf('a', 1), instance_type: 'm5.xlarge', capacity_type: 'on_demand', price_basis: expect.objectContaining({ source: 'price_list', note: expect.stringContaining('days old') }) }),
      expect.objectContaining({ node: 'node-2', capacity_type: 'spot', price_basis: expect.objectContaining({ source: 'estimate', as_of: null, note: expect.stringContaining('no price for aws|us-east-1|x9.mega|spot') }) }),
    ]);
    expect(shop.allocated_cost).toBe(whole.by_namespace.find(({ namespace }) => namespace === 'shop')?.cost.allocated_cost);
    expect(shop).toMatchObject({ node_cost: shop.allocated_cost, idle_cost: '0', overhead_cost: '0' });
    expect(nanos(shop.by_node.map((node) => node.allocated_cost))).toBe(BigInt(shop.allocated_cost));
    await expect(ask('cluster_cost', { ...range(), namespace: 'nowhere' })).rejects.toMatchObject({ code: 'not_found' });
  });

  it('what workloads cost now, and a unit of what they are charged for', async () => {
    const { workloads } = await ask('workload_costs', { ...range(), workloads: null });
    expect(workloads.map(({ workload }) => workloadKey(workload))).toEqual(['data/CronJob/nightly', 'shop/Deployment/asleep', 'shop/Deployment/web']);
    const [nightly, asleep] = workloads;
    // Of a node of 4 cores at 0.192: 0.6 of it on CPU.
    expect(Number(nightly?.cpu_cost_per_core_hour) / 1e9).toBeCloseTo((0.192 * 0.6) / 4, 6);
    expect(Number(nightly?.memory_cost_per_gib_hour) / 1e9).toBeCloseTo((0.192 * 0.4) / 16, 6);
    expect(nightly).toMatchObject({ charged_cpu_millicores: 1000, charged_memory_bytes: 2 * GIB, cost: { waste_percentage: 0 } });
    expect(asleep).toMatchObject({ cost: { allocated_cost: '0', monthly_projection: '0' }, cpu_cost_per_core_hour: null });
    const named = await ask('workload_costs', { ...range(), workloads: [web, { ...web, name: 'nobody' }] });
    expect(named.workloads.map(({ workload }) => workload)).toEqual([web]);
  });

  it('what is not there is told by name', async () => {
    await expect(ask('analysis', { ...range(), cluster_id: 'unheard', resource_type: 'cluster', resource_name: 'unheard', namespace: null })).rejects.toMatchObject({ code: 'cluster_not_found' });
    for (const name of ['cluster_cost', 'workload_costs', 'savings'] as const) await expect(ask(name, { ...range(), cluster_id: 'unheard', namespace: null, workloads: null, horizon_hours: 1 })).rejects.toMatchObject({ code: 'cluster_not_found' });
    for (const [type, name] of [['pod', 'no-such'], ['deployment', 'no-such'], ['namespace', 'no-such'], ['node', 'no-such'], ['label', 'no-such=x']] as const) await expect(analysis(type, name, 'shop')).rejects.toMatchObject({ code: 'not_found' });
    await expect(analysis('pod', 'waits', 'shop')).rejects.toMatchObject({ code: 'not_found', message: expect.stringContaining('bound to no node') });
    await expect(analysis('label', ' =x')).rejects.toMatchObject({ code: 'invalid_request' });
    await expect(bus.ask('cost', 'savings', { cluster_id: cluster, horizon_hours: -1 })).rejects.toMatchObject({ code: 'invalid_request' });
    const empty = await ask('analysis', { ...range(), start: '2025-01-01T00:00:00Z', end: '2025-01-02T00:00:00Z', resource_type: 'cluster', resource_name: cluster, namespace: null });
    expect(empty).toMatchObject({ current: { hourly_rate: null, monthly_projection: null, actual_cost: null, price_basis: null }, coverage: { cost: 0, reasons: { cost: expect.stringContaining('no hour of this range has a cost') } } });
  });

  it('what could be saved, jointly and within the cost; lapsed and older advice does not count', async () => {
    const advise = async (number: number, revision: number, change: 'appeared' | 'lapsed', over: Partial<Recommendation>, savings: string | null) => {
      const recommendation = {
        id: uidOf('d', number), type: 'zero_scaling', workload: web, workload_uid: null, action: 'sleep', impact: '', confidence: 95, risk_level: 'low', saving: { estimated_savings: savings, bill_savings: null, bill_savings_reason: 'not simulated', currency: 'USD', price_source: null }, implementation_effort: 'low',
        evidence: {}, patch: null, safety_checks: [], actionable: true, blocked_by: [], created_at: toTimestamp(Date.now()), updated_at: toTimestamp(Date.now()), ...over,
      };
      await bus.publish(subjects.recommendation(cluster, recommendation.type), Buffer.from(JSON.stringify({ version: 1, id: `${recommendation.id}/${revision}`, change, revision, at: toTimestamp(Date.now()), recommendation })), { msgId: `recommendation/${published++}` });
    };
    const savings = async () => {
      await settled();
      return ask('savings', { cluster_id: cluster, horizon_hours: 730 });
    };
    expect(await savings()).toMatchObject({ total: '0', bill_savings: null, coverage: { reasons: { savings: expect.stringContaining('no recommendation stands') } } });
    await advise(1, 2, 'appeared', {}, '999000000000');
    await advise(1, 1, 'lapsed', {}, '1');
    await advise(2, 1, 'appeared', { type: 'resource_optimization', confidence: 99 }, '1000000000');
    await advise(3, 1, 'appeared', { type: 'resource_optimization', workload: batch, confidence: 60 }, '2000000000');
    const { workloads } = await ask('workload_costs', { cluster_id: cluster, start: toTimestamp(Date.now() - DAY_MS), end: toTimestamp(Date.now()), workloads: [web] });
    const cost = Number(workloads[0]?.cost.monthly_projection);
    const answer = await savings();
    expect(Number(answer.deployments.total) / cost).toBeCloseTo(1, 2);
    expect(answer).toMatchObject({ pods: { total: '2000000000', high_confidence: '0', count: 1 }, deployments: { high_confidence: answer.deployments.total, count: 1 }, nodes: { total: '0', count: 0 }, bill_savings: null, bill_savings_reason: 'not simulated' });
    expect(BigInt(answer.total)).toBe(nanos([answer.pods.total, answer.deployments.total]));
    await advise(1, 3, 'lapsed', {}, '999000000000');
    expect(await savings()).toMatchObject({ deployments: { count: 0 }, pods: { total: '3000000000', high_confidence: '1000000000', count: 2 } });
  });
});

/** Thirty hours of a cluster, whole: 360 rollups. */
async function publishHistory(cluster: string, hours = 30): Promise<void> {
  await inventory(cluster, snapshotOf(1, Date.now(), [nodeObject(1, created()), nodeObject(2, created()), ...Array.from({ length: 6 }, (_, i) => podObject(i, { createdAtMs: created(), node: `node-${1 + (i % 2)}` }))]));
  for (let hour = hours; hour >= 1; hour--) {
    await Promise.all(windowsOf(thisHour() - hour * HOUR_MS).map((windowMs, w) => rollup(cluster, rollupOf({ windowMs, revision: 1 }, Array.from({ length: 6 }, (_, i) => ({ podUid: uidOf('b', i), cpuMillicores: 10 * (i + 1) * (w + hour), memoryBytes: GIB / (i + 1) }))))));
  }
}

/** Events of a cluster, the last revision of each hour; each revision was published once. */
async function eventsOf(cluster: string, hours: number): Promise<AllocationEvent[]> {
  const of = () => events.filter((each) => each.id.startsWith(`${cluster}/`));
  await waitFor('the events', () => new Set(of().map((each) => each.hour)).size >= hours);
  expect(new Set(of().map((each) => each.id)).size).toBe(of().length);
  return [...Map.groupBy(of(), (each) => each.hour).values()].map((revisions) => revisions.toSorted((a, b) => b.revision - a.revision)[0] as AllocationEvent).sort((a, b) => (a.hour < b.hour ? -1 : 1));
}

/** What a history is worth, to compare one with another: charges of each pod and hour, without what differs by the time of the test. */
const worth = async (cluster: string, of = store) => (await chargesOf(cluster, of)).map(({ uid, cost, actual, measured, present_ms, hour }) => ({ uid, cost, actual, measured, present_ms, hour: hour.toISOString() }));

describe('exactly once', () => {
  it('by two replicas, every hour is computed and every event published once', async () => {
    const other = await startCost();
    await publishHistory('pair');
    await settled();
    const told = await eventsOf('pair', 30);
    const stored = await hoursOf('pair');
    expect(told.map((each) => [each.hour, each.revision, each.node_cost])).toEqual(stored.map((each) => [each.hour.toISOString(), each.revision, each.node_cost]));
    for (const each of told) {
      expect(nanos([...each.workloads.map((line) => line.allocated_cost), each.idle_cost, each.overhead_cost])).toBe(BigInt(each.node_cost));
      expect(each).toMatchObject({ final: true, workloads: [{ workload: web, price_source: 'price_list', capacity_types: ['on_demand'], pod_seconds: 6 * 3600, covered_seconds: 6 * 3600 }] });
    }
    await other.stop();
    services.delete(other);
  });

  it('killed between commit and publish, and at any moment while it computes, it loses nothing and publishes nothing twice', async () => {
    for (const each of services) await each.stop();
    services.clear();
    const calm = await worth('pair');
    const built = spawnSync(process.execPath, [join(process.cwd(), 'scripts/build.mjs')], { encoding: 'utf8' });
    expect(built.stderr).toBe('');
    const killed = await openStore();
    const logs = await temporaryDirectory('cost');
    const child = new ManagedProcess({ name: 'cost', command: process.execPath, args: [join(process.cwd(), 'services/cost/dist/main.js')], cwd: process.cwd(), logFile: join(logs, 'cost.log'), env: environment(killed) });
    // Whoever holds this lock relays the outbox: while the test does, what is committed stays unpublished.
    const relay = new pg.Client({ connectionString: killed.url });
    await relay.connect();
    await relay.query(`SELECT pg_advisory_lock(hashtextextended('upid.outbox.cost', 0))`);
    try {
      await child.start();
      await publishHistory('storm');
      await waitFor('events that are committed', async () => (await rows('SELECT 1 FROM outbox', [], killed)).length >= 3, { alive: () => child.assertRunning(), timeoutMs: 60_000 });
      expect(events.filter((each) => each.id.startsWith('storm/'))).toEqual([]);
      await child.kill();
      // Three more times, each after some more hours are done.
      for (let done = 8; done <= 24; done += 8) {
        await child.start();
        await waitFor(`${done} hours`, async () => (await hoursOf('storm', thisHour(), killed)).filter((each) => each.covered_ms > 0).length >= done, { alive: () => child.assertRunning(), timeoutMs: 60_000 });
        await child.kill();
      }
      await relay.end();
      await child.start();
      await settled(killed);
      expect(await worth('storm', killed)).toEqual(calm);
      const told = await eventsOf('storm', 30);
      const stored = await hoursOf('storm', thisHour(), killed);
      expect(told.map((each) => [each.hour, each.revision, each.node_cost])).toEqual(stored.map((each) => [each.hour.toISOString(), each.revision, each.node_cost]));
      expect(stored.every((each) => each.unbalanced === 0)).toBe(true);
    } finally {
      await relay.end().catch((error: unknown) => { expect(error).toBeInstanceOf(Error); });
      await child.stop();
    }
  });
});
