import { DAY_MS } from '@upid/contracts';
import pg from 'pg';
import type { Database, Tx } from './database.js';

/** The database is too old, or lacks what UPID needs. */
export class UnsupportedDatabaseError extends Error {
  override readonly name = 'UnsupportedDatabaseError';
}

export interface DatabaseCapabilities {
  readonly level: 'timescaledb_columnstore' | 'timescaledb' | 'postgresql';
  /** As PostgreSQL counts: 150004 is 15.4. */
  readonly serverVersion: number;
  readonly timescaledbVersion: string | null;
}

/** A table by time: a hypertable on TimescaleDB, else a table with partitions of `chunkDays` days, counted from the unix epoch. */
export interface TimeTable {
  readonly table: string;
  /** A timestamptz that is part of every key of the table. */
  readonly timeColumn: string;
  readonly chunkDays: number;
  readonly retentionDays: number;
  /** On TimescaleDB with columnstore: compress chunks older than this. */
  readonly columnstore?: { readonly afterDays: number; readonly segmentBy: readonly string[]; readonly orderBy: string };
}

/** Partitions made ahead of the present. */
const CHUNKS_AHEAD = 2;
const known = new WeakMap<Database, Set<string>>();

/** Asks the database what it can do; installs TimescaleDB's extension where it is available and allowed. @throws {UnsupportedDatabaseError} before PostgreSQL 15 */
export async function probeDatabase(database: Database): Promise<DatabaseCapabilities> {
  const { rows } = await database.query<{ version: number; text: string }>(`SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS text`);
  const serverVersion = rows[0]?.version ?? 0;
  if (serverVersion < 150_000) throw new UnsupportedDatabaseError(`PostgreSQL ${rows[0]?.text ?? '?'} is too old: 15 or newer is needed`);
  // Tables that were made as partitions, before the extension came, stay what they are.
  const { rows: partitioned } = await database.query(`SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'p' LIMIT 1`, [database.schema]);
  if (partitioned.length > 0) return { level: 'postgresql', serverVersion, timescaledbVersion: null };
  const available = await database.query<{ installed: string | null }>(`SELECT installed_version AS installed FROM pg_available_extensions WHERE name = 'timescaledb'`);
  if (available.rows.length === 0) return { level: 'postgresql', serverVersion, timescaledbVersion: null };
  if (available.rows[0]?.installed == null) {
    try {
      // Services that start together would trip over each other: IF NOT EXISTS does not wait.
      await database.transaction(async (tx) => {
        await tx.query(`SELECT pg_advisory_xact_lock(hashtextextended('upid.timescaledb', 0))`);
        await tx.query('CREATE EXTENSION IF NOT EXISTS timescaledb WITH SCHEMA public');
      });
    } catch (error) {
      database.options.log?.warn({ err: error }, 'TimescaleDB is available but cannot be installed by this user: plain partitions are used');
      return { level: 'postgresql', serverVersion, timescaledbVersion: null };
    }
  }
  const installed = await database.query<{ version: string; licence: string | null }>(`SELECT extversion AS version, current_setting('timescaledb.license', true) AS licence FROM pg_extension WHERE extname = 'timescaledb'`);
  const version = installed.rows[0]?.version ?? null;
  if (version === null) return { level: 'postgresql', serverVersion, timescaledbVersion: null };
  const [major = 0, minor = 0] = version.split('.').map(Number);
  // The columnstore's functions came with 2.18; the Apache edition has none of them.
  const columnstore = (major > 2 || (major === 2 && minor >= 18)) && installed.rows[0]?.licence !== 'apache';
  return { level: columnstore ? 'timescaledb_columnstore' : 'timescaledb', serverVersion, timescaledbVersion: version };
}

async function locked<T>(database: Database, work: (tx: Tx) => Promise<T>): Promise<T> {
  return database.transaction(async (tx) => {
    await tx.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`upid.time-tables.${database.schema}`]);
    return work(tx);
  });
}

/**
 * Turns the tables that the migrations made (ordinary and empty) into tables by time. Call at each start after the migrations; what is one
 * already stays as it is, but for retention.
 */
export async function createTimeTables(database: Database, capabilities: DatabaseCapabilities, tables: readonly TimeTable[]): Promise<void> {
  for (const each of tables) {
    if (capabilities.level === 'postgresql') await locked(database, (tx) => partition(tx, database.schema, each));
    else await locked(database, (tx) => hypertable(tx, database, capabilities, each));
  }
}

async function hypertable(tx: Tx, database: Database, capabilities: DatabaseCapabilities, each: TimeTable): Promise<void> {
  const name = `${database.schema}.${each.table}`;
  // The form that every version of TimescaleDB 2 knows.
  await tx.query(`SELECT public.create_hypertable($1::regclass, $2::name, chunk_time_interval => make_interval(days => $3), if_not_exists => true, create_default_indexes => false)`, [name, each.timeColumn, each.chunkDays]);
  await tx.query(`SELECT public.remove_retention_policy($1::regclass, if_exists => true)`, [name]);
  await tx.query(`SELECT public.add_retention_policy($1::regclass, make_interval(days => $2))`, [name, each.retentionDays]);
  if (capabilities.level !== 'timescaledb_columnstore' || !each.columnstore) return;
  const { afterDays, segmentBy, orderBy } = each.columnstore;
  await tx.query(`ALTER TABLE ${name} SET (timescaledb.enable_columnstore = true, timescaledb.segmentby = ${pg.escapeLiteral(segmentBy.join(', '))}, timescaledb.orderby = ${pg.escapeLiteral(orderBy)})`);
  await tx.query(`CALL public.remove_columnstore_policy($1::regclass, if_exists => true)`, [name]);
  await tx.query(`CALL public.add_columnstore_policy($1::regclass, after => make_interval(days => $2))`, [name, afterDays]);
}

/** An ordinary table becomes a partitioned one of the same columns, keys and indexes, under the same names. */
async function partition(tx: Tx, schema: string, each: TimeTable): Promise<void> {
  const found = await tx.query<{ relkind: string; oid: number }>(`SELECT c.relkind, c.oid::int AS oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`, [schema, each.table]);
  const table = found.rows[0];
  if (!table) throw new UnsupportedDatabaseError(`There is no table ${schema}.${each.table}: a migration has to make it`);
  if (table.relkind === 'p') return;
  const { rows: [{ filled } = { filled: true }] } = await tx.query<{ filled: boolean }>(`SELECT EXISTS (SELECT 1 FROM ${schema}.${each.table}) AS filled`);
  if (filled) throw new UnsupportedDatabaseError(`Table ${schema}.${each.table} holds rows and is not by time: it cannot be turned into partitions`);
  const keys = await tx.query<{ name: string; definition: string }>(`SELECT conname AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint WHERE conrelid = $1 AND contype IN ('p', 'u')`, [table.oid]);
  const indexes = await tx.query<{ definition: string }>(
    `SELECT pg_get_indexdef(i.indexrelid) AS definition FROM pg_index i WHERE i.indrelid = $1 AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid)`, [table.oid]);
  const made = `${each.table}_by_time`;
  await tx.query(`CREATE TABLE ${schema}.${made} (LIKE ${schema}.${each.table} INCLUDING ALL EXCLUDING INDEXES) PARTITION BY RANGE (${each.timeColumn})`);
  await tx.query(`DROP TABLE ${schema}.${each.table}`);
  await tx.query(`ALTER TABLE ${schema}.${made} RENAME TO ${each.table}`);
  for (const key of keys.rows) await tx.query(`ALTER TABLE ${schema}.${each.table} ADD CONSTRAINT ${pg.escapeIdentifier(key.name)} ${key.definition}`);
  for (const index of indexes.rows) await tx.query(index.definition);
}

function chunkOf(each: TimeTable, ms: number): number {
  return Math.floor(ms / (each.chunkDays * DAY_MS));
}

function chunkName(each: TimeTable, chunk: number): string {
  return `${each.table}_p${new Date(chunk * each.chunkDays * DAY_MS).toISOString().slice(0, 10).replaceAll('-', '')}`;
}

/**
 * Makes the partitions that rows of these times (unix ms) go to; call before they are written. Nothing on TimescaleDB. What is known to be
 * there is remembered, so it is cheap to call with every batch.
 */
export async function prepareTimes(database: Database, capabilities: DatabaseCapabilities, each: TimeTable, timesMs: Iterable<number>): Promise<void> {
  if (capabilities.level !== 'postgresql') return;
  const remembered = known.get(database) ?? new Set<string>();
  known.set(database, remembered);
  const missing = new Set<number>();
  for (const ms of timesMs) {
    const chunk = chunkOf(each, ms);
    if (!remembered.has(chunkName(each, chunk))) missing.add(chunk);
  }
  if (missing.size === 0) return;
  await locked(database, async (tx) => {
    for (const chunk of missing) {
      const name = chunkName(each, chunk);
      const { rows } = await tx.query(`SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_inherits i ON i.inhrelid = c.oid WHERE n.nspname = $1 AND c.relname = $2`, [database.schema, name]);
      if (rows.length > 0) continue;
      const at = (index: number) => new Date(index * each.chunkDays * DAY_MS).toISOString();
      // Made apart and attached: that takes a lock that readers and writers of the other partitions do not notice.
      await tx.query(`CREATE TABLE IF NOT EXISTS ${name} (LIKE ${each.table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)`);
      await tx.query(`ALTER TABLE ${each.table} ATTACH PARTITION ${name} FOR VALUES FROM ('${at(chunk)}') TO ('${at(chunk + 1)}')`);
    }
  });
  for (const chunk of missing) remembered.add(chunkName(each, chunk));
}

/** Makes partitions ahead and drops those that retention has passed (TimescaleDB does both itself); call hourly, from any number of replicas. @returns partitions dropped */
export async function maintainTimeTables(database: Database, capabilities: DatabaseCapabilities, tables: readonly TimeTable[], now: Date): Promise<string[]> {
  if (capabilities.level !== 'postgresql') return [];
  const dropped: string[] = [];
  for (const each of tables) {
    const current = chunkOf(each, now.getTime());
    await prepareTimes(database, capabilities, each, Array.from({ length: CHUNKS_AHEAD + 1 }, (_, ahead) => (current + ahead) * each.chunkDays * DAY_MS));
    const oldest = chunkName(each, chunkOf(each, now.getTime() - each.retentionDays * DAY_MS));
    const { rows } = await database.query<{ name: string }>(
      `SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace n ON n.oid = p.relnamespace
       WHERE n.nspname = $1 AND p.relname = $2 AND c.relname < $3 ORDER BY 1`, [database.schema, each.table, oldest]);
    for (const { name } of rows) {
      try {
        await locked(database, async (tx) => {
          // Readers of the table keep a drop waiting, and the drop keeps new ones waiting: give up soon, the next hour tries again.
          await tx.query(`SET LOCAL lock_timeout = '3s'`);
          await tx.query(`DROP TABLE IF EXISTS ${name}`);
        });
        known.get(database)?.delete(name);
        dropped.push(name);
      } catch (error) {
        database.options.log?.warn({ err: error, partition: name }, 'a partition past its retention could not be dropped yet');
      }
    }
  }
  return dropped;
}
