import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { type InventoryEvent, inventoryEventSchema, type InventoryObject, inventoryObjectSchema } from '@upid/contracts';
import { Database, inventoryMigrations, InventoryMirror, type InventoryResult, migrate, type ServerHandle, startPostgres } from '../index.js';

let dir: string;
let postgres: ServerHandle;
let database: Database;
let mirror: InventoryMirror;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'upid-inventory-'));
  postgres = await startPostgres({ dir, settings: { fsync: 'off' } });
  database = new Database({ url: postgres.url, schema: 'cost', maxConnections: 10 });
  await migrate(database, [inventoryMigrations]);
  mirror = new InventoryMirror(database);
});
afterAll(async () => {
  await database?.close();
  await postgres?.stop();
  await rm(dir, { recursive: true, force: true });
});

const uid = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const epochId = (n: number) => `${String(n).padStart(8, '0')}-0000-4000-8000-000000000000`;
const time = (second: number) => new Date(Date.UTC(2026, 0, 1) + second * 1000).toISOString();
const amounts = { cpu_millicores: 100, memory_bytes: 1 };
function pod(n: number, label = 'x', workload = 'web'): InventoryObject {
  return inventoryObjectSchema.parse({
    kind: 'Pod', uid: uid(n), namespace: 'shop', name: `${workload}-${n}`, node_name: null, phase: 'Running', ready: true, workload: { namespace: 'shop', kind: 'Deployment', name: workload },
    containers: [{ name: 'main', requests: amounts, limits: amounts }], labels: { app: label }, created_at: time(0), scheduled_at: null, started_at: null, finished_at: null,
  });
}
const namespace = (n: number): InventoryObject => inventoryObjectSchema.parse({ kind: 'Namespace', uid: uid(1000 + n), name: `ns${n}` });
const oomKill = (n: number): InventoryObject => inventoryObjectSchema.parse({ kind: 'OomKill', uid: uid(2000 + n), namespace: 'shop', name: `oom${n}`, workload: { namespace: 'shop', kind: 'Deployment', name: 'web' }, pod_uid: uid(n), container: 'main', at: time(0), memory_limit_bytes: null });
interface At { epoch?: number; generation?: number; sequence?: number; part?: number; parts?: number; second?: number }
function event(type: 'snapshot' | 'change', place: At, upserts: InventoryObject[], removes: { kind: 'Pod' | 'Namespace'; uid: string }[] = []): InventoryEvent {
  const { epoch = 1, generation = 1, sequence = 0, part = 1, parts = 1, second = 10 } = place;
  return inventoryEventSchema.parse({ version: 1, type, epoch: epochId(epoch), epoch_started_at: time(epoch), generation, sequence, part, parts, observed_at: time(second), upserts, removes });
}
const apply = (cluster: string, given: InventoryEvent): Promise<InventoryResult> => database.transaction((tx) => mirror.apply(tx, cluster, given));
const podNames = async (cluster: string) => (await mirror.byKind(cluster, 'Pod')).map((each) => each.body.name);

describe('the mirror of the inventory', () => {
  it('applies a snapshot when all its parts are there, whatever their order, and drops what it does not name', async () => {
    const cluster = 'parts';
    expect(await apply(cluster, event('snapshot', { part: 2, parts: 2 }, [pod(2)]))).toMatchObject({ outcome: 'stored', needsSnapshot: true });
    expect(await podNames(cluster)).toEqual([]);
    expect(await apply(cluster, event('snapshot', { part: 2, parts: 2 }, [pod(2)]))).toMatchObject({ outcome: 'stored' });
    const applied = await apply(cluster, event('snapshot', { part: 1, parts: 2 }, [pod(1), namespace(1), oomKill(1)]));
    expect(applied).toMatchObject({ outcome: 'applied', needsSnapshot: false, removed: [] });
    expect(applied.upserted).toHaveLength(4);
    expect(await podNames(cluster)).toEqual(['web-1', 'web-2']);
    const next = await apply(cluster, event('snapshot', { generation: 2, second: 20 }, [pod(2), pod(3), namespace(1)]));
    expect(next.upserted).toEqual([{ kind: 'Pod', uid: uid(3) }]);
    expect(next.removed).toEqual([{ kind: 'Pod', uid: uid(1) }]);
    expect(await podNames(cluster)).toEqual(['web-2', 'web-3']);
    // What happened stays happened.
    expect(await mirror.byKind(cluster, 'OomKill')).toHaveLength(1);
    const gone = await mirror.byUid(cluster, uid(1));
    expect(gone?.removedAt).toEqual(new Date(time(20)));
    expect((await mirror.podsOfWorkload(cluster, { namespace: 'shop', kind: 'Deployment', name: 'web' }, { removedSince: new Date(time(15)) })).map((each) => each.uid)).toEqual([uid(1), uid(2), uid(3)]);
    expect(await mirror.podsOfWorkload(cluster, { namespace: 'shop', kind: 'Deployment', name: 'web' }, { removedSince: new Date(time(25)) })).toHaveLength(2);
    expect((await mirror.byUid(cluster, uid(2)))).toMatchObject({ firstSeen: new Date(time(10)), lastSeen: new Date(time(20)), removedAt: null });
    expect(await mirror.forgetRemoved(new Date(time(30)))).toBe(1);
    expect(await mirror.byUid(cluster, uid(1))).toBeNull();
  });

  it('applies changes in their order, once; one that comes early waits for what it follows', async () => {
    const cluster = 'changes';
    expect(await apply(cluster, event('change', { sequence: 1 }, [pod(2)]))).toMatchObject({ outcome: 'stored', needsSnapshot: true });
    expect(await apply(cluster, event('snapshot', {}, [pod(1)]))).toMatchObject({ outcome: 'applied', needsSnapshot: false, upserted: [{ uid: uid(1) }, { uid: uid(2) }] });
    expect(await apply(cluster, event('change', { sequence: 1 }, [pod(9)]))).toMatchObject({ outcome: 'duplicate' });
    expect(await apply(cluster, event('change', { sequence: 3 }, [], [{ kind: 'Pod', uid: uid(3) }]))).toMatchObject({ outcome: 'stored', needsSnapshot: false });
    expect(await apply(cluster, event('change', { sequence: 4 }, [pod(4)]))).toMatchObject({ outcome: 'stored' });
    expect(await podNames(cluster)).toEqual(['web-1', 'web-2']);
    expect(await apply(cluster, event('change', { sequence: 2 }, [pod(3)]))).toMatchObject({ outcome: 'applied', removed: [{ uid: uid(3) }], upserted: [{ uid: uid(4) }] });
    expect(await podNames(cluster)).toEqual(['web-1', 'web-2', 'web-4']);
    expect((await database.query('SELECT 1 FROM inventory_pending WHERE cluster_id = $1', [cluster])).rowCount).toBe(0);
    expect(await mirror.needsSnapshot(cluster)).toBe(false);
  });

  it('answers from memory as from the database: what another process applied is seen, whatever it was', async () => {
    const cluster = 'elsewhere';
    const other = new InventoryMirror(database);
    const tell = (given: InventoryEvent) => database.transaction((tx) => other.apply(tx, cluster, given));
    const seen = async () => (await mirror.byKind(cluster, 'Pod')).map((each) => `${each.body.name} ${each.body.labels.app} ${(each.lastSeen.getTime() - Date.parse(time(0))) / 1000}`);
    expect(await seen()).toEqual([]);
    await tell(event('snapshot', { second: 1 }, [pod(1), pod(2), namespace(1)]));
    expect(await seen()).toEqual(['web-1 x 1', 'web-2 x 1']);
    await tell(event('change', { sequence: 1, second: 2 }, [pod(2, 'y'), pod(3)]));
    expect(await seen()).toEqual(['web-1 x 2', 'web-2 y 2', 'web-3 x 2']);
    await tell(event('change', { sequence: 2, second: 3 }, [namespace(2)], [{ kind: 'Pod', uid: uid(1) }]));
    expect(await seen()).toEqual(['web-2 y 3', 'web-3 x 3']);
    // The next generation, without a pod; then another epoch, in which nothing of the pods changed; then one in which it did.
    await tell(event('snapshot', { generation: 2, second: 4 }, [pod(2, 'y'), pod(1, 'back'), namespace(2)]));
    expect(await seen()).toEqual(['web-1 back 4', 'web-2 y 4']);
    await tell(event('snapshot', { epoch: 2, second: 5 }, [pod(2, 'y'), pod(1, 'back')]));
    expect(await seen()).toEqual(['web-1 back 5', 'web-2 y 5']);
    await tell(event('snapshot', { epoch: 3, second: 6 }, [pod(2, 'z')]));
    expect(await seen()).toEqual(['web-2 z 6']);
    expect((await mirror.byKind(cluster, 'Pod', { namespace: 'elsewhere' }))).toEqual([]);
    expect((await mirror.byKind(cluster, 'Pod', { namespace: 'shop' })).map((each) => each.uid)).toEqual([uid(2)]);
  });

  it('asks for a snapshot when a change was lost, and is whole again with it', async () => {
    const cluster = 'gap';
    await apply(cluster, event('snapshot', {}, [pod(1)]));
    expect(await apply(cluster, event('change', { sequence: 2 }, [pod(3)]))).toMatchObject({ outcome: 'stored', needsSnapshot: false });
    await database.query(`UPDATE inventory_pending SET stored_at = stored_at - interval '11 s' WHERE cluster_id = $1`, [cluster]);
    expect(await mirror.needsSnapshot(cluster)).toBe(true);
    expect(await apply(cluster, event('change', { sequence: 3 }, [pod(4)]))).toMatchObject({ outcome: 'stored', needsSnapshot: true });
    expect((await mirror.clusters()).find((each) => each.clusterId === cluster)).toMatchObject({ needsSnapshot: true });
    expect(await apply(cluster, event('snapshot', { generation: 2 }, [pod(1), pod(2), pod(3), pod(4)]))).toMatchObject({ outcome: 'applied', needsSnapshot: false });
    expect(await apply(cluster, event('change', { sequence: 1 }, [pod(9)]))).toMatchObject({ outcome: 'stale' });
    expect(await podNames(cluster)).toEqual(['web-1', 'web-2', 'web-3', 'web-4']);
    expect(await mirror.needsSnapshot(cluster)).toBe(false);
    expect(await mirror.needsSnapshot('never-heard-of')).toBe(true);
  });

  it('an older version never overwrites a newer one: epochs, generations', async () => {
    const cluster = 'older';
    await apply(cluster, event('snapshot', { epoch: 2 }, [pod(1, 'new')]));
    for (const old of [event('snapshot', { epoch: 1, generation: 7 }, [pod(1, 'old'), pod(2)]), event('change', { epoch: 1, generation: 7, sequence: 1 }, [pod(1, 'old')], [{ kind: 'Pod', uid: uid(1) }])]) {
      expect(await apply(cluster, old)).toMatchObject({ outcome: 'stale', upserted: [], removed: [] });
    }
    expect((await mirror.byKind(cluster, 'Pod')).map((each) => each.body.labels.app)).toEqual(['new']);
  });

  it('keeps the kinds that were asked for alone', async () => {
    const narrow = new InventoryMirror(database, { kinds: ['Namespace'] });
    await database.transaction((tx) => narrow.apply(tx, 'narrow', event('snapshot', {}, [pod(1), namespace(1)])));
    expect([await podNames('narrow'), (await narrow.byKind('narrow', 'Namespace')).length]).toEqual([[], 1]);
  });

  it('finds by name and workload what stands, else what was removed last', async () => {
    const cluster = 'names';
    await apply(cluster, event('snapshot', {}, [pod(1), pod(2, 'x', 'api')]));
    await apply(cluster, event('change', { sequence: 1, second: 20 }, [], [{ kind: 'Pod', uid: uid(1) }]));
    expect((await mirror.byName(cluster, 'Pod', 'shop', 'web-1'))?.removedAt).toEqual(new Date(time(20)));
    expect(await mirror.byName(cluster, 'Pod', 'other', 'web-1')).toBeNull();
    expect((await mirror.podsOfWorkload(cluster, { namespace: 'shop', kind: 'Deployment', name: 'api' })).map((each) => each.body.name)).toEqual(['api-2']);
    expect(await mirror.workload(cluster, { namespace: 'shop', kind: 'Deployment', name: 'api' })).toBeNull();
  });

  it('ends at the same state whatever is lost and mended, doubled or out of order (property)', async () => {
    let run = 0;
    // A history of the cluster as its agent tells it: snapshots of two epochs, each followed by changes.
    const step = fc.record({ restart: fc.boolean(), snapshot: fc.boolean(), parts: fc.integer({ min: 1, max: 3 }), put: fc.array(fc.integer({ min: 1, max: 6 }), { maxLength: 3 }), drop: fc.array(fc.integer({ min: 1, max: 6 }), { maxLength: 2 }) });
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), fc.infiniteStream(fc.nat(1_000_000)), async (steps, chance) => {
      const cluster = `random-${++run}`;
      const state = new Map<number, string>();
      const events: InventoryEvent[] = [];
      const place = { epoch: 1, generation: 0, sequence: 0 };
      const snapshot = (parts: number) => {
        place.generation++;
        place.sequence = 0;
        const all = [...state].map(([n, label]) => pod(n, label));
        for (let part = 1; part <= parts; part++) events.push(event('snapshot', { ...place, part, parts }, all.filter((_, index) => index % parts === part - 1)));
      };
      for (const [index, each] of [{ restart: false, snapshot: true, parts: 1, put: [1], drop: [] }, ...steps].entries()) {
        if (each.restart) { place.epoch++; place.generation = 0; }
        if (each.restart || each.snapshot) snapshot(each.parts);
        const put = each.put.filter((n) => !each.drop.includes(n));
        for (const n of put) state.set(n, `v${index}`);
        for (const n of each.drop) state.delete(n);
        place.sequence++;
        events.push(event('change', place, put.map((n) => pod(n, `v${index}`)), each.drop.map((n) => ({ kind: 'Pod', uid: uid(n) }))));
      }
      // Every event arrives at least once, in any order, some twice.
      const delivered = [...events, ...events.filter(() => (chance.next().value ?? 0) % 3 === 0)].map((each) => ({ each, order: chance.next().value ?? 0 })).sort((a, b) => a.order - b.order).map(({ each }) => each);
      for (const each of delivered) {
        await apply(cluster, each);
        // What is answered from memory is what the database holds, after each step.
        expect(await mirror.byKind(cluster, 'Pod')).toEqual(await database.transaction((tx) => mirror.byKind(cluster, 'Pod', { tx })));
      }
      const found = await mirror.byKind(cluster, 'Pod');
      expect(new Map(found.map((each) => [each.uid, each.body.labels.app]))).toEqual(new Map([...state].map(([n, label]) => [uid(n), label])));
    }), { numRuns: 60 });
  });

  it('takes events of one cluster from many consumers at once', async () => {
    const cluster = 'parallel';
    const events = [event('snapshot', {}, [pod(0)]), ...Array.from({ length: 40 }, (_, i) => event('change', { sequence: i + 1 }, [pod(i + 1)], i > 0 ? [{ kind: 'Pod', uid: uid(i) }] : []))];
    await Promise.all(events.toReversed().map((each) => apply(cluster, each)));
    expect((await podNames(cluster)).sort()).toEqual(['web-0', 'web-40']);
  });
});
