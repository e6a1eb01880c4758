/**
 * How a service lives: configuration, logs, the bus, the database, outbox, leases, inventory mirror, cache, health, and the
 * real servers below. One door a folder; nothing here knows of a service.
 */
import type { Logger as PinoLogger } from 'pino';
import type { Registry } from 'prom-client';
import type { DynamicModule, INestApplication, Type } from '@nestjs/common';
import type { z } from 'zod';
import type pg from 'pg';

// ================================================================ config/

/** One environment variable: its name, what it must be, what it means. */
export interface Setting<T> {
  readonly variable: string;
  readonly schema: z.ZodType<T>;
  readonly description: string;
  /** Also read from the file named by `<variable>_FILE`; its value is never printed. */
  readonly secret: boolean;
}
export type Settings = Readonly<Record<string, Setting<unknown>>>;
export type ConfigOf<S extends Settings> = { readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : never };
/** Describes one variable. Values arrive as text: use `z.coerce.number()`, `z.stringbool()`, `.default(...)`, `.optional()`. */
export declare function setting<T>(variable: string, schema: z.ZodType<T>, description: string, options?: { secret?: boolean }): Setting<T>;
/** Reads and checks all variables at once. @throws ConfigError naming each bad variable and what was expected; never a secret's value. */
export declare function loadConfig<S extends Settings>(settings: S, env?: NodeJS.ProcessEnv): ConfigOf<S>;
/** One table of variables (name, default, meaning) per group, as text. */
export declare function describeConfig(groups: Readonly<Record<string, Settings>>): string;
export declare class ConfigError extends Error {}
/** What every service reads: UPID_NATS_URL, UPID_NATS_NKEY_SEED(_FILE), UPID_NATS_USER, UPID_NATS_PASSWORD(_FILE), UPID_DATABASE_URL(_FILE), UPID_REDIS_URL(_FILE), UPID_LOG_LEVEL, UPID_HEALTH_PORT, … */
export declare const platformSettings: Settings;

// ================================================================ logging/

export type Logger = PinoLogger;
/** JSON lines on stdout: {level, time, service, correlation_id, batch_id, …, msg}; fields of the current correlation are added by themselves. */
export declare function createLogger(service: string, options?: { level?: string; destination?: NodeJS.WritableStream }): Logger;
export interface Correlation { readonly correlationId: string; readonly traceparent: string; readonly fields: Readonly<Record<string, string | number>> }
/** Runs `fn` (and what it awaits) with these fields in every log line; starts a trace where none runs. */
export declare function withCorrelation<T>(fields: Readonly<Record<string, string | number>>, fn: () => T): T;
export declare function currentCorrelation(): Correlation | undefined;
/** `traceparent` and correlation id of what runs now, for the headers of a message or an HTTP request; new ones where nothing runs. */
export declare function outgoingTrace(): Record<string, string>;
/** Continues the trace that arrived in headers (or starts one) around `fn`. */
export declare function withIncomingTrace<T>(headers: (name: string) => string | undefined, fields: Readonly<Record<string, string | number>>, fn: () => T): T;

// ================================================================ bus/

export interface BusOptions {
  readonly url: string | readonly string[];
  /** The service's name: it names the connection, queue group, durable consumers and dead letters. */
  readonly name: string;
  readonly nkeySeed?: string;
  readonly user?: string;
  readonly password?: string;
  /** Default `_INBOX_<name>`. */
  readonly inboxPrefix?: string;
  /** Return at once and connect in the background (the agent spools until then). Default: wait for the first connection. */
  readonly background?: boolean;
  readonly log?: Logger;
}
/** Connects, reconnecting for ever with a jittered back-off. */
export declare function connectBus(options: BusOptions): Promise<Bus>;

/** As `StreamDefinition` of contracts. */
export interface StreamSpec {
  readonly name: string; readonly subjects: readonly string[]; readonly maxBytes: number; readonly maxAgeMs: number; readonly discard: 'new' | 'old'; readonly duplicateWindowMs: number;
}
export interface PublishOptions {
  /** The deterministic id (`Nats-Msg-Id`). */
  readonly msgId: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** When it was first meant to be sent; default now. */
  readonly publishedAtMs?: number;
  readonly timeoutMs?: number;
}
export interface PublishResult { readonly stream: string; readonly sequence: number; readonly duplicate: boolean }
export interface QueryOptions { readonly timeoutMs?: number }

/** One connection to the bus. Payloads are at most {@link MAX_MESSAGE_BYTES}. */
export declare class Bus {
  readonly name: string;
  readonly state: 'connecting' | 'connected' | 'reconnecting' | 'closed';
  /** Makes or updates streams; where this user may not, waits until somebody has. */
  ensureStreams(definitions: readonly StreamSpec[]): Promise<void>;
  /**
   * Publishes to a stream and returns when the bus has it on disk; at most 64 in flight, further calls wait.
   * @throws MessageTooLargeError | StreamFullError (discard new) | NoStreamError | BusUnavailableError (all may be tried again with the same id but the first)
   */
  publish(subject: string, payload: Uint8Array, options: PublishOptions): Promise<PublishResult>;
  /** A plain message, kept by no stream. */
  emit(subject: string, payload: Uint8Array | string, headers?: Readonly<Record<string, string>>): void;
  /** Asks service `service` the question `upid.q.v1.<service>.<name>`; answers of any size. @throws UpidError as the service threw it; ServiceUnavailableError when nobody answers; code `timeout` */
  ask<T = unknown>(service: string, name: string, request: unknown, options?: QueryOptions): Promise<T>;
  /** Answers `upid.q.v1.<own name>.<name>` in the service's queue group. A request that does not fit the schema is answered `invalid_request`. */
  serveQuery<S extends z.ZodType>(name: string, schema: S, handler: (request: z.output<S>) => Promise<unknown>): Promise<void>;
  /** As ask and serveQuery, on any subject (commands into an agent's account, heartbeats). The handler also gets the subject it came on. */
  request<T = unknown>(subject: string, request: unknown, options?: QueryOptions): Promise<T>;
  serve<S extends z.ZodType>(subject: string, schema: S, handler: (request: z.output<S>, subject: string) => Promise<unknown>, options?: { queue?: string }): Promise<void>;
  /** Every message of a stream's subjects to this process alone, in order, from now or from a time (WebSockets); kept by nobody. */
  tail(options: { stream: string; subjects: readonly string[]; from?: 'new' | Date }, handler: (message: Delivery) => Promise<void> | void): Promise<{ stop(): Promise<void> }>;
  /** Stops taking, finishes what runs, flushes, closes. */
  drain(): Promise<void>;
}
export declare const MAX_MESSAGE_BYTES: number;
export declare class MessageTooLargeError extends Error {}
export declare class StreamFullError extends Error {}
export declare class NoStreamError extends Error {}
export declare class BusUnavailableError extends Error {}
/** A UpidError of contracts with code `unavailable`: no instance of the service is there. */
export declare class ServiceUnavailableError extends Error {}

/** A message as a consumer gets it. */
export interface Delivery {
  readonly subject: string;
  readonly payload: Uint8Array;
  readonly headers: Readonly<Record<string, string>>;
  /** `Nats-Msg-Id`; '' where the publisher gave none. */
  readonly messageId: string;
  readonly stream: string;
  readonly streamSequence: number;
  /** From the publisher's header, unix ms; null without. */
  readonly publishedAtMs: number | null;
  /** When the server took it, unix ms. */
  readonly receivedAtMs: number;
  /** 1 the first time. */
  readonly tries: number;
  /** The payload as JSON checked by the schema. @throws PoisonMessageError saying what is wrong (an unknown version included) */
  json<S extends z.ZodType>(schema: S): z.output<S>;
}
/** In a batch: this one is not to be acknowledged but becomes a dead letter; the others go on. */
export interface BatchDelivery extends Delivery { reject(reason: string): void }

export interface ConsumerSpec {
  readonly stream: string;
  readonly subjects: readonly string[];
  /** Named within the service: the durable consumer is `<service>-<durable>`. */
  readonly durable: string;
  /** Where a new durable starts. Default: everything that is kept. */
  readonly startAt?: 'all' | 'new';
}
/**
 * Method decorator in a Nest `@Controller()`: `(message: Delivery) => Promise<void>`. Acknowledged after the promise resolves (so after your
 * commit), in order per subject, `concurrency` (16) subjects at once, heartbeats while it runs. PoisonMessageError: dead letter at once; a
 * dependency that is away: waits and tries again, uncounted; any other error: back-off, and after ten tries a dead letter.
 */
export declare function Consume(spec: ConsumerSpec & { concurrency?: number }): MethodDecorator;
/**
 * As {@link Consume} for `(messages: BatchDelivery[]) => Promise<void>`: up to `maxMessages` (500) or `maxBytes` (16 MiB) or what came in `maxWaitMs` (20),
 * acknowledged together after the promise resolves; `concurrency` (1) batches at once. A batch that fails is tried again in halves.
 */
export declare function ConsumeBatch(spec: ConsumerSpec & { maxMessages?: number; maxBytes?: number; maxWaitMs?: number; concurrency?: number }): MethodDecorator;
/** Method decorator: `(request: z.output<schema>) => Promise<answer>` answers `upid.q.v1.<service>.<name>`. Throw UpidError for what the asker may know. */
export declare function Query(name: string, schema: z.ZodType): MethodDecorator;
/** Method decorator: as {@link Query} on any subject: `(request: { subject: string; body: z.output<schema> }) => Promise<answer>`. */
export declare function Serve(subject: string, schema: z.ZodType): MethodDecorator;

export interface DeadLetter {
  readonly service: string; readonly sequence: number; readonly reason: string; readonly subject: string; readonly consumer: string; readonly tries: number; readonly deadAt: Date;
  readonly headers: Readonly<Record<string, string>>; readonly payload: Uint8Array;
}
/** Dead letters of a service (or of all), oldest first. */
export declare function listDeadLetters(bus: Bus, options?: { service?: string; afterSequence?: number; limit?: number }): Promise<DeadLetter[]>;
/** Hands a dead letter to the handler that it failed in (in the service that owns it); removed when that has succeeded. */
export declare function replayDeadLetter(bus: Bus, service: string, sequence: number): Promise<void>;

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
  readonly streams?: readonly StreamSpec[];
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
