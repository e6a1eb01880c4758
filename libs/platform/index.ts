/**
 * How a service lives: configuration, logs, the bus, the database, outbox, leases, inventory mirror, cache, health, and the
 * real servers below. One door a folder; nothing here knows of a service.
 */
import type { Registry } from 'prom-client';
import type { DynamicModule, INestApplication, Type } from '@nestjs/common';
import type pg from 'pg';

export { type ConfigOf, ConfigError, describeConfig, loadConfig, platformSettings, setting, type Setting, type Settings } from './config/config.js';
export { type Correlation, createLogger, currentCorrelation, type Logger, outgoingTrace, withCorrelation, withIncomingTrace } from './logging/logging.js';
import type { ConfigOf, Settings } from './config/config.js';
import type { Logger } from './logging/logging.js';

export * from './bus/index.js';
import type { Bus } from './bus/index.js';
import type { StreamDefinition } from '@upid/contracts';

// ================================================================ database/

export interface DatabaseOptions { readonly url: string; readonly schema: string; readonly maxConnections?: number; readonly applicationName?: string; readonly log?: Logger }
/** A transaction under way; every statement runs with the service's schema first in the search path. */
export interface Tx { query<R extends pg.QueryResultRow = pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<pg.QueryResult<R>>; readonly client: pg.PoolClient }
/** int8 comes back as bigint (cast counts `::int`), numeric as text, timestamptz as Date, bytea as Buffer. */
export declare class Database {
  constructor(options: DatabaseOptions);
  readonly schema: string;
  readonly pool: pg.Pool;
  query<R extends pg.QueryResultRow = pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<pg.QueryResult<R>>;
  /**
   * Runs `fn` between BEGIN and COMMIT. Waits (up to `waitMs`, default 30 s, then DatabaseUnavailableError) while the database is away, and runs `fn`
   * again after a serialisation failure, a deadlock, or a connection lost before COMMIT was sent: `fn` must have no effects outside.
   */
  transaction<T>(fn: (tx: Tx) => Promise<T>, options?: { waitMs?: number; isolation?: 'read committed' | 'repeatable read' | 'serializable' }): Promise<T>;
  close(): Promise<void>;
}
export declare class DatabaseUnavailableError extends Error {}
export type CopyType = 'bool' | 'int2' | 'int4' | 'int8' | 'float4' | 'float8' | 'bytea' | 'text' | 'uuid' | 'timestamptz' | 'date' | 'jsonb' | 'numeric'
  | 'int2[]' | 'int4[]' | 'int8[]' | 'float4[]' | 'float8[]' | 'text[]' | 'uuid[]';
/** Binary COPY of rows (values in the order of `columns`) into a table. int8 takes bigint or safe integers, timestamptz Date or unix ms. @returns rows written */
export declare function copyIn(tx: Tx, table: string, columns: Readonly<Record<string, CopyType>>, rows: Iterable<readonly unknown[]> | AsyncIterable<readonly unknown[]>): Promise<number>;
/** Applies plain SQL files `NNNN_name.sql` (node-pg-migrate) of `directory` to the schema, after the platform's own tables (outbox, leases, inventory); several replicas at once are safe. */
export declare function migrate(database: Database, directory?: string): Promise<void>;
export interface DatabaseCapabilities { readonly level: 'timescaledb_columnstore' | 'timescaledb' | 'postgresql'; readonly serverVersion: number; readonly timescaledbVersion: string | null }
/** What the database can do; installs the extension where it is available and allowed. @throws where PostgreSQL is older than 15 */
export declare function probeDatabase(database: Database): Promise<DatabaseCapabilities>;
/** A table by time: a hypertable on TimescaleDB, else partitions of `chunkDays`. The migration creates an ordinary table; its keys include `timeColumn` (timestamptz). */
export interface TimeTable {
  readonly table: string; readonly timeColumn: string; readonly chunkDays: number; readonly retentionDays: number;
  /** On TimescaleDB with columnstore: compress chunks older than this. */
  readonly columnstore?: { afterDays: number; segmentBy: readonly string[]; orderBy: string };
}
/** Turns the (empty) tables of the migrations into tables by time; call at each start after migrate. */
export declare function createTimeTables(database: Database, capabilities: DatabaseCapabilities, tables: readonly TimeTable[]): Promise<void>;
/** Partitions for these times, before rows are written (nothing on TimescaleDB; remembered, so cheap to call with every batch). */
export declare function prepareTimes(database: Database, capabilities: DatabaseCapabilities, table: TimeTable, timesMs: Iterable<number>): Promise<void>;
/** Creates partitions ahead and drops what is past retention; call hourly, from as many replicas as one likes. */
export declare function maintainTimeTables(database: Database, capabilities: DatabaseCapabilities, tables: readonly TimeTable[], now: Date): Promise<void>;

// ================================================================ outbox/

export interface OutboxMessage { readonly subject: string; readonly payload: Uint8Array; readonly headers?: Readonly<Record<string, string>>; /** Deterministic; default: a UUID fixed when the row is written. */ readonly msgId?: string }
/** What follows from a commit: written in the same transaction, published by a relay until the bus has it, in order per subject. */
export declare class Outbox {
  constructor(database: Database, bus: Bus, options?: { log?: Logger });
  /** @throws MessageTooLargeError before anything is written */
  add(tx: Tx, messages: OutboxMessage | readonly OutboxMessage[]): Promise<void>;
  /** Starts this replica's relay: one of all replicas relays at a time; another takes over when its connection ends. */
  start(): void;
  stop(): Promise<void>;
  /** Messages that wait, and the age of the oldest in seconds. */
  depth(): Promise<{ messages: number; oldestSeconds: number }>;
}

// ================================================================ leases/

export interface Lease { readonly name: string; readonly holder: string; /** Strictly increasing with every acquisition of the name. */ readonly fence: bigint; readonly expiresAt: Date }
export declare class Leases {
  constructor(database: Database);
  /** null while another holds it. */
  acquire(name: string, holder: string, ttlMs: number): Promise<Lease | null>;
  /** null when it was lost. */
  renew(lease: Lease, ttlMs: number): Promise<Lease | null>;
  release(lease: Lease): Promise<void>;
  /** Within a transaction: holds the lease's row until commit. @throws LeaseLostError when another fence is out or it has expired */
  assertHeld(tx: Tx, lease: Lease): Promise<void>;
}
export declare class LeaseLostError extends Error {}
/** Rows that this transaction alone works on (`FOR UPDATE SKIP LOCKED`), at most `limit`. */
export declare function claim<R extends pg.QueryResultRow = pg.QueryResultRow>(tx: Tx, options: { table: string; where?: string; values?: readonly unknown[]; orderBy: string; limit: number }): Promise<R[]>;

// ================================================================ inventory/

export interface InventoryRow { readonly clusterId: string; readonly kind: string; readonly uid: string; readonly namespace: string | null; readonly name: string; readonly body: unknown; readonly firstSeen: Date; readonly lastSeen: Date; readonly removedAt: Date | null }
export type InventoryOutcome = 'applied' | 'stored_part' | 'duplicate' | 'stale' | 'early' | 'gap';
/** The service's mirror of what the agents say of their clusters, in `inventory_object` of its schema. */
export declare class InventoryMirror {
  constructor(database: Database, options?: { kinds?: readonly string[] });
  /** Applies an InventoryEvent of contracts within the transaction. `gap`: a snapshot is needed (ask the agent: subjects.command(cluster, 'snapshot')). Also tells what changed. */
  apply(tx: Tx, clusterId: string, event: unknown): Promise<{ outcome: InventoryOutcome; upserted: { kind: string; uid: string }[]; removed: { kind: string; uid: string }[] }>;
  /** Objects of a kind: those that stand, or also those removed since. */
  byKind(clusterId: string, kind: string, options?: { namespace?: string; removedSince?: Date }): Promise<InventoryRow[]>;
  byUid(clusterId: string, uid: string): Promise<InventoryRow | null>;
  byName(clusterId: string, kind: string, namespace: string | null, name: string): Promise<InventoryRow | null>;
  podsOfWorkload(clusterId: string, workload: { namespace: string; kind: string; name: string }, options?: { removedSince?: Date }): Promise<InventoryRow[]>;
  clusters(): Promise<{ clusterId: string; appliedAt: Date | null; needsSnapshot: boolean }[]>;
}

// ================================================================ cache/

/** Redis for what is hot and can be lost: with it away every read is a miss and every write nothing, never an error. */
export declare class Cache {
  constructor(options: { url: string | null; prefix: string; log?: Logger });
  readonly state: 'ready' | 'away' | 'off';
  get(key: string): Promise<string | null>;
  getMany(keys: readonly string[]): Promise<(string | null)[]>;
  set(key: string, value: string, ttlSeconds?: number): Promise<void>;
  /** MSET in batches of a thousand (with SET EX in a pipeline where a time to live is given). */
  setMany(entries: Iterable<readonly [string, string]>, ttlSeconds?: number): Promise<void>;
  delete(keys: readonly string[]): Promise<void>;
  /** Adds to a counter that ends after `ttlSeconds`; null when Redis is away. */
  increment(key: string, by: number, ttlSeconds: number): Promise<number | null>;
  close(): Promise<void>;
}

// ================================================================ health/ and the service's life

export interface DependencyState { readonly ok: boolean; readonly state: string; /** Optional ones do not make the service unready. */ readonly required?: boolean }
export declare class Health {
  /** A dependency, asked each time somebody asks whether the service is ready. */
  register(name: string, check: () => Promise<DependencyState> | DependencyState): void;
  ready(): Promise<{ ready: boolean; dependencies: Record<string, DependencyState> }>;
}
/** A loop that runs `step` every `intervalMs`, at once again while it returns true (there is more), and when woken; errors are logged and back off. */
export declare class Loop { wake(): void; stop(): Promise<void> }
export declare function startLoop(options: { name: string; intervalMs: number; log: Logger }, step: (signal: AbortSignal) => Promise<boolean | void>): Loop;

/** What runService has made, for modules: each of these classes can also be injected by its own type. */
export declare class Platform<C = unknown> {
  readonly name: string; readonly config: C; readonly log: Logger; readonly bus: Bus; readonly cache: Cache; readonly health: Health; readonly metrics: Registry;
  /** @throws where the service was started without a database */
  readonly database: Database; readonly databaseCapabilities: DatabaseCapabilities; readonly outbox: Outbox; readonly leases: Leases; readonly inventory: InventoryMirror;
  /** Starts a {@link Loop} that is stopped on shutdown before anything is closed. */
  loop(name: string, intervalMs: number, step: (signal: AbortSignal) => Promise<boolean | void>): Loop;
}
export interface ServiceDefinition<S extends Settings> {
  readonly name: string;
  /** Beyond {@link platformSettings}. */
  readonly settings: S;
  /** The service's Nest module; Platform and its parts are injectable in it. */
  readonly module: (platform: Platform<ConfigOf<S>>) => Type<unknown> | DynamicModule;
  /** Folder of SQL migrations; a service with none has no database. */
  readonly migrations?: string;
  readonly timeTables?: readonly TimeTable[];
  readonly inventory?: boolean;
  readonly streams?: readonly StreamDefinition[];
  /** Connect to the bus in the background (the agent). */
  readonly busInBackground?: boolean;
  /** Also serve HTTP by Nest (the gateway). */
  readonly http?: { readonly port: (config: ConfigOf<S>) => number; readonly configure?: (app: INestApplication, platform: Platform<ConfigOf<S>>) => Promise<void> | void };
}
export interface RunningService<S extends Settings> { readonly platform: Platform<ConfigOf<S>>; readonly healthUrl: string; readonly httpUrl: string | null; stop(): Promise<void> }
/** Starts a service: config, logs, database (waits for it), migrations, bus, consumers, queries, relay, /health/live, /health/ready, /metrics; SIGTERM stops taking, finishes, drains, closes. Exits the process with a sentence where it cannot start. */
export declare function runService<S extends Settings>(definition: ServiceDefinition<S>): Promise<void>;
/** As runService, within a process (tests): no signals, no exit. */
export declare function startService<S extends Settings>(definition: ServiceDefinition<S>, env?: NodeJS.ProcessEnv): Promise<RunningService<S>>;

// ================================================================ servers/

export * from './servers/index.js';
