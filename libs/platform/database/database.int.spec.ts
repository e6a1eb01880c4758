import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { copyIn, type CopyType, CopyValueError, createTimeTables, Database, DatabaseUnavailableError, maintainTimeTables, migrate, MigrationError, platformMigrations, prepareTimes, probeDatabase, type ServerHandle, startPostgres, type TimeTable } from '../index.js';

let dir: string;
let postgres: ServerHandle;
const databases: Database[] = [];
function open(schema: string): Database {
  const database = new Database({ url: postgres.url, schema });
  databases.push(database);
  return database;
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'upid-database-'));
  postgres = await startPostgres({ dir: join(dir, 'postgres') });
});
afterAll(async () => {
  await Promise.all(databases.map((database) => database.close()));
  await postgres?.stop();
  await rm(dir, { recursive: true, force: true });
});

async function migrations(name: string, files: Record<string, string>): Promise<{ directory: string; table: string }> {
  const directory = join(dir, name);
  await mkdir(directory, { recursive: true });
  for (const [file, sql] of Object.entries(files)) await writeFile(join(directory, file), `-- Up Migration\n${sql}`);
  return { directory, table: 'migration' };
}

describe('transactions', () => {
  it('commit, roll back, and call back after the commit alone', async () => {
    const database = open('tx');
    await migrate(database, [platformMigrations, await migrations('tx', { '0001_t.sql': 'CREATE TABLE t (n int PRIMARY KEY);' })]);
    const called: string[] = [];
    await database.transaction(async (tx) => { await tx.query('INSERT INTO t VALUES (1)'); tx.afterCommit(() => called.push('one')); });
    await expect(database.transaction(async (tx) => { await tx.query('INSERT INTO t VALUES (2)'); tx.afterCommit(() => called.push('two')); throw new Error('no'); })).rejects.toThrow('no');
    expect((await database.query('SELECT n FROM t')).rows).toEqual([{ n: 1 }]);
    expect(called).toEqual(['one']);
    expect((await database.query<{ big: bigint }>('SELECT 9007199254740993 AS big')).rows[0]?.big).toBe(9007199254740993n);
  });

  it('run again after a serialisation failure', async () => {
    const database = open('tx');
    await database.query('CREATE TABLE tx.counter (n int)');
    await database.query('INSERT INTO tx.counter VALUES (0)');
    let runs = 0;
    const add = () => database.transaction(async (tx) => {
      runs++;
      const { rows } = await tx.query<{ n: number }>('SELECT n FROM counter');
      await tx.query('UPDATE counter SET n = $1', [(rows[0]?.n ?? 0) + 1]);
    }, { isolation: 'repeatable read' });
    await Promise.all([add(), add(), add()]);
    expect((await database.query('SELECT n FROM counter')).rows).toEqual([{ n: 3 }]);
    expect(runs).toBeGreaterThanOrEqual(3);
  });

  it('wait while the database is away, also when it is killed in their midst; and say so when it stays away', async () => {
    const database = open('tx');
    let runs = 0;
    const working = database.transaction(async (tx) => {
      runs++;
      await tx.query('INSERT INTO t VALUES (10)');
      if (runs === 1) {
        await postgres.kill();
        // A backend outlives its postmaster until it waits; this one ends now.
        await tx.query('SELECT pg_terminate_backend(pg_backend_pid())');
      }
      await tx.query('INSERT INTO t VALUES (11)');
    });
    while (runs === 0) await new Promise((resolve) => { setTimeout(resolve, 5); });
    await postgres.exited;
    await expect(database.transaction((tx) => tx.query('SELECT 1'), { waitMs: 200 })).rejects.toThrow(DatabaseUnavailableError);
    await expect(database.query('SELECT 1')).rejects.toThrow(DatabaseUnavailableError);
    postgres = await startPostgres({ dir: join(dir, 'postgres'), port: postgres.port });
    await working;
    expect(runs).toBeGreaterThanOrEqual(2);
    expect((await database.query('SELECT n FROM t WHERE n >= 10 ORDER BY n')).rows).toEqual([{ n: 10 }, { n: 11 }]);
  });
});

describe('migrations', () => {
  it('are applied once by many replicas that start together', async () => {
    const set = await migrations('many', { '0001_first.sql': 'CREATE TABLE a (n int); INSERT INTO a VALUES (1);', '0002_second.sql': 'ALTER TABLE a ADD COLUMN m int DEFAULT 5;' });
    const replicas = Array.from({ length: 5 }, () => open('many'));
    await Promise.all(replicas.map((each) => migrate(each, [platformMigrations, set])));
    expect((await replicas[0]!.query('SELECT * FROM a')).rows).toEqual([{ n: 1, m: 5 }]);
    await migrate(replicas[0]!, [platformMigrations, set]);
  });

  it('go on where they were when the database was killed under them', async () => {
    const database = open('killed');
    const holder = open('killed');
    const held = await holder.pool.connect();
    const lost = new Promise<void>((resolve) => { held.on('error', () => resolve()); });
    await held.query('SELECT pg_advisory_lock(42)');
    const migrating = migrate(database, [platformMigrations, await migrations('killed', { '0001_waits.sql': 'SELECT pg_advisory_xact_lock(42); CREATE TABLE a (n int);' })]);
    const waits = () => holder.query(`SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE '%xact_lock(42)%' AND pid <> pg_backend_pid()`);
    while ((await waits()).rowCount === 0) await new Promise((resolve) => { setTimeout(resolve, 5); });
    await postgres.kill();
    await lost;
    held.release(true);
    postgres = await startPostgres({ dir: join(dir, 'postgres'), port: postgres.port });
    await migrating;
    expect((await database.query('SELECT n FROM a')).rows).toEqual([]);
  });

  it('that fail leave nothing of themselves, and name what is wrong', async () => {
    const database = open('broken');
    await expect(migrate(database, [await migrations('broken', { '0001_good.sql': 'CREATE TABLE good (n int);', '0002_bad.sql': 'CREATE TABLE bad (n nonsense);' })])).rejects.toThrow(MigrationError);
    await expect(migrate(database, [await migrations('broken', {})])).rejects.toThrow(/nonsense/);
    expect((await database.query(`SELECT 1 FROM pg_tables WHERE schemaname = 'broken' AND tablename IN ('good', 'bad')`)).rowCount).toBe(0);
  });
});

describe('COPY', () => {
  const columns = {
    b: 'bool', i2: 'int2', i4: 'int4', i8: 'int8', f4: 'float4', f8: 'float8', raw: 'bytea', t: 'text', u: 'uuid', at: 'timestamptz', d: 'date', j: 'jsonb', num: 'numeric', i4s: 'int4[]', f8s: 'float8[]', ts: 'text[]', raws: 'bytea[]', i8s: 'int8[]',
  } as const satisfies Record<string, CopyType>;

  it('stores every value as it was, NULL included (property)', async () => {
    const database = open('copied');
    await migrate(database, [await migrations('copied', { '0001_t.sql': `CREATE TABLE t (id int, ${Object.entries(columns).map(([name, type]) => `${name} ${type}`).join(', ')});` })]);
    const wellFormed = fc.string({ unit: 'grapheme' }).map((text) => text.replaceAll('\0', '').toWellFormed());
    const decimal = fc.tuple(fc.bigInt(-(10n ** 30n), 10n ** 30n), fc.integer({ min: 0, max: 12 })).map(([digits, scale]) => {
      const text = String(digits < 0n ? -digits : digits).padStart(scale + 1, '0');
      const whole = text.slice(0, text.length - scale);
      return `${digits < 0n ? '-' : ''}${whole}${scale > 0 ? `.${text.slice(-scale)}` : ''}`;
    });
    const nullable = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: null, freq: 8 });
    const row = fc.record({
      b: nullable(fc.boolean()), i2: nullable(fc.integer({ min: -32768, max: 32767 })), i4: nullable(fc.integer()), i8: nullable(fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n)), f4: nullable(fc.float({ noNaN: true })),
      f8: nullable(fc.double({ noNaN: true })), raw: nullable(fc.uint8Array({ maxLength: 300 })), t: nullable(wellFormed), u: nullable(fc.uuid()), at: nullable(fc.date({ min: new Date('1970-01-01'), max: new Date('2100-01-01'), noInvalidDate: true })),
      d: nullable(fc.integer({ min: 0, max: 40_000 }).map((day) => new Date(day * 86_400_000).toISOString().slice(0, 10))), j: nullable(fc.dictionary(wellFormed, fc.oneof(wellFormed, fc.integer(), fc.boolean()))), num: nullable(decimal),
      i4s: nullable(fc.array(nullable(fc.integer()))), f8s: nullable(fc.array(fc.double({ noNaN: true }))), ts: nullable(fc.array(nullable(wellFormed))), raws: nullable(fc.array(fc.uint8Array())), i8s: nullable(fc.array(fc.bigInt(-(2n ** 62n), 2n ** 62n))),
    });
    await fc.assert(fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 30 }), async (rows) => {
      await database.transaction(async (tx) => {
        await tx.query('TRUNCATE t');
        expect(await copyIn(tx, 't', { id: 'int4', ...columns }, rows.map((each, id) => [id, ...Object.keys(columns).map((name) => each[name as keyof typeof columns])]))).toBe(rows.length);
        const stored = await tx.query<Record<string, unknown>>(`SELECT id, b, i2, i4, i8, f4, f8, raw, t, u, at, d::text AS d, j, num::text AS num, i4s, f8s, ts, raws, i8s::text[] AS i8s FROM t ORDER BY id`);
        for (const [index, expected] of rows.entries()) {
          const found = stored.rows[index]!;
          expect({ ...found, f4: found.f4 === null ? null : Math.fround(found.f4 as number), raw: found.raw === null ? null : Uint8Array.from(found.raw as Buffer), raws: found.raws === null ? null : (found.raws as Buffer[]).map((each) => Uint8Array.from(each)) }).toEqual({
            ...expected, id: index, num: expected.num?.startsWith('-') && /^-0*\.?0*$/.test(expected.num) ? expected.num.slice(1) : expected.num,
            i8s: expected.i8s?.map(String) ?? null,
          });
        }
      });
    }), { numRuns: 60 });
  });

  it('names the column of a value that does not fit, and the connection stays good', async () => {
    const database = open('copied');
    const bad: [CopyType, string, unknown][] = [['int4', 'i4', 1.5], ['int4', 'i4', 2 ** 40], ['int8', 'i8', 2 ** 60], ['uuid', 'u', 'x'], ['timestamptz', 'at', 'soon'], ['bytea', 'raw', 'text'], ['numeric', 'num', '1e5'], ['float8', 'f8', '1']];
    for (const [type, column, value] of bad) {
      await expect(database.transaction((tx) => copyIn(tx, 't', { [column]: type }, [[value]]))).rejects.toThrow(CopyValueError);
      await expect(database.transaction((tx) => copyIn(tx, 't', { [column]: type }, [[value]]))).rejects.toThrow(`Column ${column} (${type})`);
    }
    await expect(database.transaction((tx) => copyIn(tx, 't; DROP TABLE t', { i4: 'int4' }, []))).rejects.toThrow(CopyValueError);
    // Too late: rows went out already when the source fails.
    await expect(database.transaction((tx) => copyIn(tx, 't', { t: 'text' }, (function* () { for (let i = 0; i < 50_000; i++) yield [`row ${i} ${'x'.repeat(20)}`]; throw new Error('the source broke'); })()))).rejects.toThrow('the source broke');
    await expect(database.transaction((tx) => copyIn(tx, 'nowhere', { t: 'text' }, [['x']]))).rejects.toThrow(/nowhere/);
    expect((await database.query(`SELECT count(*)::int AS n FROM t WHERE t LIKE 'row %'`)).rows).toEqual([{ n: 0 }]);
    for (let i = 0; i < 20; i++) expect((await database.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  it('takes many rows from an async source', async () => {
    const database = open('copied');
    const rows = async function* () { for (let i = 0; i < 100_000; i++) { if (i % 10_000 === 0) await Promise.resolve(); yield [i, `text ${i}`]; } };
    await database.query('TRUNCATE t');
    expect(await database.transaction((tx) => copyIn(tx, 't', { id: 'int4', t: 'text' }, rows()))).toBe(100_000);
    expect((await database.query('SELECT count(DISTINCT id)::int AS n, max(t) AS last FROM t')).rows).toEqual([{ n: 100_000, last: 'text 99999' }]);
  });
});

describe('tables by time on plain PostgreSQL', () => {
  const DAY = 86_400_000;
  const table: TimeTable = { table: 'cell', timeColumn: 'at', chunkDays: 1, retentionDays: 30 };

  it('become partitions under the same names, take rows of any prepared day, and lose what is past retention', async () => {
    const database = open('timed');
    const capabilities = await probeDatabase(database);
    expect(capabilities.level).toBe('postgresql');
    await migrate(database, [await migrations('timed', { '0001_cell.sql': `CREATE TABLE cell (series int NOT NULL, at timestamptz NOT NULL, value bytea NOT NULL DEFAULT '', CONSTRAINT cell_key PRIMARY KEY (series, at)); ALTER TABLE cell ALTER value SET STORAGE EXTERNAL; CREATE INDEX cell_at ON cell (at);` })]);
    await Promise.all([createTimeTables(database, capabilities, [table]), createTimeTables(database, capabilities, [table])]);
    expect((await database.query(`SELECT relkind FROM pg_class WHERE oid = 'timed.cell'::regclass`)).rows).toEqual([{ relkind: 'p' }]);
    expect((await database.query<{ name: string }>(`SELECT indexname AS name FROM pg_indexes WHERE schemaname = 'timed' AND tablename = 'cell' ORDER BY 1`)).rows.map((row) => row.name)).toEqual(['cell_at', 'cell_key']);

    const now = new Date('2026-01-31T12:00:00Z');
    await maintainTimeTables(database, capabilities, [table], now);
    const days = [0, 1, 29, 30, 31, 40].map((back) => now.getTime() - back * DAY);
    await Promise.all([1, 2, 3].map(() => prepareTimes(database, capabilities, table, days)));
    await database.transaction((tx) => copyIn(tx, 'cell', { series: 'int4', at: 'timestamptz' }, days.flatMap((at) => [1, 2, 3].map((series) => [series, at]))));
    await expect(database.query('INSERT INTO cell (series, at) VALUES (1, $1)', [new Date(days[0]!)])).rejects.toThrow(/duplicate key/);
    expect((await database.query(`SELECT attstorage FROM pg_attribute WHERE attrelid = 'timed.cell_p20260131'::regclass AND attname = 'value'`)).rows).toEqual([{ attstorage: 'e' }]);

    const dropped = await maintainTimeTables(database, capabilities, [table], now);
    expect(dropped).toEqual(['cell_p20251222', 'cell_p20251231']);
    expect((await database.query<{ n: number }>('SELECT count(*)::int AS n FROM cell')).rows).toEqual([{ n: 12 }]);
    // A dropped day can come back by a backfill.
    await prepareTimes(database, capabilities, table, [days[5]!]);
    await database.query('INSERT INTO cell (series, at) VALUES (1, $1)', [new Date(days[5]!)]);
    await maintainTimeTables(database, capabilities, [table], new Date(now.getTime() + 3 * DAY));
    await database.query('INSERT INTO cell (series, at) VALUES (1, $1)', [new Date(now.getTime() + 4 * DAY)]);
  });

  it('refuses a table that holds rows or is missing', async () => {
    const database = open('timed');
    const capabilities = await probeDatabase(database);
    await database.query('CREATE TABLE filled (at timestamptz)');
    await database.query('INSERT INTO filled VALUES (now())');
    await expect(createTimeTables(database, capabilities, [{ ...table, table: 'filled' }])).rejects.toThrow(/holds rows/);
    await expect(createTimeTables(database, capabilities, [{ ...table, table: 'missing' }])).rejects.toThrow(/no table timed.missing/);
  });
});
