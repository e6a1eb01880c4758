import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { claim, Database, type Lease, LeaseLostError, Leases, migrate, platformMigrations, type ServerHandle, startPostgres } from '../index.js';

let dir: string;
let postgres: ServerHandle;
let database: Database;
let leases: Leases;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'upid-leases-'));
  postgres = await startPostgres({ dir, settings: { fsync: 'off' } });
  database = new Database({ url: postgres.url, schema: 'optimizer', maxConnections: 20 });
  await migrate(database, [platformMigrations]);
  leases = new Leases(database);
});
afterAll(async () => {
  await database?.close();
  await postgres?.stop();
  await rm(dir, { recursive: true, force: true });
});
const expire = (name: string) => database.query(`UPDATE lease SET expires_at = clock_timestamp() - interval '1 ms' WHERE name = $1`, [name]);

describe('leases', () => {
  it('are held by one at a time, with a fence that only grows', async () => {
    const one = await leases.acquire('job', 'one', 60_000);
    expect(one?.fence).toBe(1n);
    expect(await leases.acquire('job', 'two', 60_000)).toBeNull();
    expect(await leases.acquire('job', 'one', 60_000)).toBeNull();
    const renewed = await leases.renew(one!, 120_000);
    expect(renewed!.fence).toBe(1n);
    expect(renewed!.expiresAt.getTime()).toBeGreaterThan(one!.expiresAt.getTime());
    await leases.release(one!);
    const two = await leases.acquire('job', 'two', 60_000);
    expect(two?.fence).toBe(2n);
    expect(await leases.renew(one!, 60_000)).toBeNull();
    await leases.release(one!);
    expect(await leases.acquire('job', 'three', 60_000)).toBeNull();
  });

  it('that expired are another\'s, and the former holder finds out before it commits', async () => {
    const old = await leases.acquire('late', 'old', 60_000);
    await expire('late');
    expect(await leases.renew(old!, 60_000)).toBeNull();
    const next = await leases.acquire('late', 'next', 60_000);
    expect(next!.fence).toBeGreaterThan(old!.fence);
    await expect(database.transaction((tx) => leases.assertHeld(tx, old!))).rejects.toThrow(LeaseLostError);
    await database.transaction((tx) => leases.assertHeld(tx, next!));
  });

  it('cannot be taken while their holder commits', async () => {
    const held = await leases.acquire('committing', 'a', 400);
    const order: string[] = [];
    const committing = database.transaction(async (tx) => {
      await leases.assertHeld(tx, held!);
      await tx.query('SELECT pg_sleep(0.8)');
      order.push('commit');
    });
    await new Promise((resolve) => { setTimeout(resolve, 500); });
    const taken = await leases.acquire('committing', 'b', 60_000);
    order.push('taken');
    await committing;
    expect(taken?.fence).toBe(2n);
    expect(order).toEqual(['commit', 'taken']);
  });

  it('many at once: one gets it, every time, and fences never repeat', async () => {
    const fences: bigint[] = [];
    for (let round = 0; round < 10; round++) {
      const got = (await Promise.all(Array.from({ length: 12 }, (_, i) => leases.acquire('race', `holder${i}`, 60_000)))).filter((each): each is Lease => each !== null);
      expect(got).toHaveLength(1);
      fences.push(got[0]!.fence);
      if (round % 2 === 0) await leases.release(got[0]!);
      else await expire('race');
    }
    expect(fences).toEqual(Array.from({ length: 10 }, (_, i) => BigInt(i + 1)));
  });
});

describe('claims', () => {
  it('give each worker rows of its own, and come back when a worker fails', async () => {
    await database.query('CREATE TABLE work (id int PRIMARY KEY, done int NOT NULL DEFAULT 0)');
    await database.query('INSERT INTO work SELECT generate_series(1, 200)');
    let failures = 0;
    const worker = async () => {
      for (;;) {
        const more = await database.transaction(async (tx) => {
          const rows = await claim<{ id: number }>(tx, { table: 'work', where: 'done = $1', values: [0], orderBy: 'id', limit: 7 });
          if (rows.length === 0) return false;
          await tx.query('UPDATE work SET done = done + 1 WHERE id = ANY($1)', [rows.map((row) => row.id)]);
          if (failures++ < 5) throw new Error('a worker fails');
          return true;
        }).catch((error: Error) => { if (error.message !== 'a worker fails') throw error; return true; });
        if (!more) return;
      }
    };
    await Promise.all(Array.from({ length: 6 }, worker));
    const { rows } = await database.query<{ done: number; n: number }>('SELECT done, count(*)::int AS n FROM work GROUP BY done');
    expect(rows).toEqual([{ done: 1, n: 200 }]);
    expect(failures).toBeGreaterThan(5);
  });
});
