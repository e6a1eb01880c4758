import 'reflect-metadata';
import type { DynamicModule, INestApplication, LoggerService, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';
import type { InventoryKind, StreamDefinition } from '@upid/contracts';
import { Bus, connectBus, JetStreamServer } from '../bus/index.js';
import { Cache } from '../cache/cache.js';
import { type ConfigOf, loadConfig, platformSettings, type Settings } from '../config/config.js';
import { createTimeTables, Database, maintainTimeTables, migrate, platformMigrations, probeDatabase, type TimeTable } from '../database/index.js';
import { createMetrics, Health, registerGauges, serveHealth } from '../health/health.js';
import { inventoryMigrations, InventoryMirror } from '../inventory/mirror.js';
import { Leases } from '../leases/leases.js';
import { createLogger, type Logger } from '../logging/logging.js';
import { Outbox } from '../outbox/outbox.js';
import { MissingPartError, Platform } from './platform.js';

export interface ServiceDefinition<S extends Settings> {
  readonly name: string;
  /** Beyond {@link platformSettings}. */
  readonly settings: S;
  /** The service's Nest module; Platform and its parts are injectable in it by their classes. */
  readonly module: (platform: Platform<ServiceConfig<S>>) => Type<unknown> | DynamicModule;
  /** The service's own schema; without one it has no database, outbox, leases or inventory. */
  readonly schema?: string;
  /** Folder of SQL migrations `NNNN_name.sql`. */
  readonly migrations?: string;
  readonly timeTables?: readonly TimeTable[];
  /** Keep a mirror of the inventory; of these kinds, or of all. */
  readonly inventory?: boolean | readonly InventoryKind[];
  /** Streams to make (where this user may) or to wait for. */
  readonly streams?: readonly StreamDefinition[];
  /** Do not wait for the bus (the agent): it is ready without. */
  readonly busInBackground?: boolean;
  /** How it calls itself at the bus; default the name (an agent: `agentUserName(cluster)`). */
  readonly busName?: (config: ServiceConfig<S>) => string;
  /** Also serve HTTP by Nest (the gateway). */
  readonly http?: {
    readonly port: (config: ServiceConfig<S>) => number;
    /** Default 127.0.0.1. */
    readonly host?: (config: ServiceConfig<S>) => string;
    readonly configure?: (app: INestApplication, platform: Platform<ServiceConfig<S>>) => Promise<void> | void;
  };
}
export type ServiceConfig<S extends Settings> = ConfigOf<typeof platformSettings> & ConfigOf<S>;
export interface RunningService<S extends Settings> {
  readonly platform: Platform<ServiceConfig<S>>;
  readonly healthUrl: string;
  /** null where it serves no HTTP. */
  readonly httpUrl: string | null;
  /** Stops taking, finishes what runs, drains, closes. */
  stop(): Promise<void>;
}

/** Longest time from SIGTERM to the end; Kubernetes kills after 30 s. */
const SHUTDOWN_MS = 25_000;
const MAINTENANCE_MS = 3_600_000;
const LAG_CHECK_MS = 60_000;

class PlatformModule {}
class ServiceRoot {}

function rootModule<S extends Settings>(definition: ServiceDefinition<S>, platform: Platform<ServiceConfig<S>>): DynamicModule {
  const parts: [Type<unknown>, unknown][] = [[Platform, platform], [Bus, platform.bus], [Cache, platform.cache], [Health, platform.health]];
  if (platform.hasDatabase) parts.push([Database, platform.database], [Outbox, platform.outbox], [Leases, platform.leases]);
  if (platform.hasInventory) parts.push([InventoryMirror, platform.inventory]);
  const shared: DynamicModule = { module: PlatformModule, global: true, providers: parts.map(([provide, useValue]) => ({ provide, useValue })), exports: parts.map(([provide]) => provide) };
  return { module: ServiceRoot, imports: [shared, definition.module(platform)] };
}

/** Nest's own lines as ours; its tale of routes and modules is for debugging. */
function nestLogger(log: Logger): LoggerService {
  const line = (level: 'debug' | 'warn' | 'error') => (message: unknown, ...more: unknown[]) => log[level]({ nest: more.at(-1) }, message instanceof Error ? message.message : String(message));
  return { log: line('debug'), debug: line('debug'), verbose: line('debug'), warn: line('warn'), error: line('error'), fatal: line('error') };
}

/**
 * Starts a service within this process (tests; {@link runService} for real): configuration, logs, health, database (waits for it), migrations,
 * bus, streams, consumers, questions, relay.
 */
export async function startService<S extends Settings>(definition: ServiceDefinition<S>, env: NodeJS.ProcessEnv = process.env): Promise<RunningService<S>> {
  const config = loadConfig({ ...platformSettings, ...definition.settings }, env) as ServiceConfig<S>;
  const log = createLogger(definition.name, { level: config.logLevel });
  const closing: (() => Promise<unknown>)[] = [];
  const closeAll = async () => { for (const close of closing.splice(0).reverse()) await close(); };
  try {
    const health = new Health();
    const metrics = createMetrics(definition.name);
    let phase: string = 'starting';
    health.register('service', () => ({ ok: phase === 'running', state: phase }));
    const healthServer = await serveHealth({ service: definition.name, host: config.healthHost, port: config.healthPort, health, metrics });
    closing.push(() => healthServer.close());

    const cache = new Cache({ url: config.redisUrl ?? null, prefix: `${definition.name}:`, log });
    closing.push(() => cache.close());
    health.register('cache', () => ({ ok: cache.state !== 'away', state: cache.state, required: false }));

    const database = definition.schema === undefined ? null : await openDatabase(definition, config, log, health);
    if (database) closing.push(() => database.database.close());

    const busName = definition.busName?.(config) ?? definition.name;
    const bus = await connectBus({ url: config.natsUrl, name: busName, nkeySeed: config.natsNkeySeed, user: config.natsUser, password: config.natsPassword, background: definition.busInBackground, log });
    closing.push(() => bus.drain());
    health.register('bus', () => ({ ok: bus.state === 'connected', state: bus.state, required: !definition.busInBackground }));
    if (definition.streams && !definition.busInBackground) await bus.ensureStreams(definition.streams);

    const storage = database && { ...database, outbox: new Outbox(database.database, bus, { log }), leases: new Leases(database.database) };
    const platform = new Platform<ServiceConfig<S>>({ name: definition.name, config, log, bus, cache, health, metrics, storage });
    const server = new JetStreamServer(bus, log, { background: definition.busInBackground });
    registerServiceGauges(platform, server);

    let httpUrl: string | null = null;
    const options = { logger: nestLogger(log), abortOnError: false };
    const root = rootModule(definition, platform);
    if (definition.http) {
      const http = await NestFactory.create(root, options);
      closing.push(() => http.close());
      http.connectMicroservice<MicroserviceOptions>({ strategy: server }, { inheritAppConfig: false });
      await definition.http.configure?.(http, platform);
      await http.startAllMicroservices();
      await http.listen(definition.http.port(config), definition.http.host?.(config) ?? '127.0.0.1');
      httpUrl = (await http.getUrl()).replace('[::1]', '127.0.0.1');
    } else {
      const microservice = await NestFactory.createMicroservice<MicroserviceOptions>(root, { ...options, strategy: server });
      closing.push(() => microservice.close());
      await microservice.listen();
    }
    if (storage) {
      storage.outbox.start();
      closing.push(() => storage.outbox.stop());
    }
    closing.push(() => platform.stopLoops(), () => server.close());
    startUpkeep(definition, platform, server);
    phase = 'running';
    log.info({ health: healthServer.url, ...(httpUrl ? { http: httpUrl } : {}), database: storage?.capabilities.level }, 'ready');
    return {
      platform, healthUrl: healthServer.url, httpUrl,
      stop: async () => {
        phase = 'stopping';
        log.info('stopping');
        await closeAll();
        log.info('stopped');
        log.flush();
      },
    };
  } catch (error) {
    await closeAll().catch((cause: unknown) => log.error({ err: cause }, 'what had been started could not be closed'));
    throw error;
  }
}

async function openDatabase<S extends Settings>(definition: ServiceDefinition<S>, config: ServiceConfig<S>, log: Logger, health: Health) {
  const { schema } = definition;
  if (schema === undefined) throw new MissingPartError(`${definition.name} has no schema`);
  if (config.databaseUrl === undefined) throw new MissingPartError(`${definition.name} stores in PostgreSQL: set UPID_DATABASE_URL (or UPID_DATABASE_URL_FILE) to postgres://user:password@host:port/database`);
  const database = new Database({ url: config.databaseUrl, schema, maxConnections: config.databaseConnections, log });
  try {
    health.register('database', async () => {
      await database.query('SELECT 1');
      return { ok: true, state: 'connected' };
    });
    await database.waitUntilThere();
    const capabilities = await probeDatabase(database);
    await migrate(database, [platformMigrations, ...(definition.inventory ? [inventoryMigrations] : []), ...(definition.migrations ? [{ directory: definition.migrations, table: 'migration' }] : [])]);
    await createTimeTables(database, capabilities, definition.timeTables ?? []);
    await maintainTimeTables(database, capabilities, definition.timeTables ?? [], new Date());
    const kinds = definition.inventory instanceof Array ? { kinds: definition.inventory } : {};
    return { database, capabilities, inventory: definition.inventory ? new InventoryMirror(database, kinds) : null };
  } catch (error) {
    await database.close();
    throw error;
  }
}

function startUpkeep<S extends Settings>(definition: ServiceDefinition<S>, platform: Platform<ServiceConfig<S>>, server: JetStreamServer): void {
  if (platform.hasDatabase && definition.timeTables && definition.timeTables.length > 0) {
    const { database, databaseCapabilities, log } = platform;
    platform.loop('time-tables', MAINTENANCE_MS, async () => {
      const dropped = await maintainTimeTables(database, databaseCapabilities, definition.timeTables ?? [], new Date());
      if (dropped.length > 0) log.info({ partitions: dropped }, 'partitions past their retention are gone');
    });
  }
  if (server.consumers.size > 0) {
    platform.loop('lag', LAG_CHECK_MS, async () => {
      for (const lag of await server.lag(new Date())) {
        if (lag.alarm) platform.log.error({ consumer: lag.consumer, stream: lag.stream, messages: lag.messages, bytes: lag.bytes, age_seconds: lag.ageSeconds }, 'a consumer lags behind by more than half of its stream\'s bound');
      }
    });
  }
}

function registerServiceGauges<S extends Settings>(platform: Platform<ServiceConfig<S>>, server: JetStreamServer): void {
  const { metrics, bus, cache } = platform;
  const consumer = ['consumer', 'stream'];
  registerGauges(metrics, [
    { name: 'upid_consumer_lag_messages', help: 'Messages that a consumer has not settled yet', labels: consumer },
    { name: 'upid_consumer_lag_bytes', help: 'Their bytes, by the mean of the stream', labels: consumer },
    { name: 'upid_consumer_lag_age_seconds', help: 'Age of the oldest of them', labels: consumer },
    { name: 'upid_consumer_lag_alarm', help: '1 when bytes or age passed half of the stream\'s bound', labels: consumer },
  ], async () => (bus.state !== 'connected' ? [] : (await server.lag(new Date())).flatMap((lag) => {
    const labels = { consumer: lag.consumer, stream: lag.stream };
    return [
      { name: 'upid_consumer_lag_messages', labels, value: lag.messages }, { name: 'upid_consumer_lag_bytes', labels, value: lag.bytes },
      { name: 'upid_consumer_lag_age_seconds', labels, value: lag.ageSeconds }, { name: 'upid_consumer_lag_alarm', labels, value: lag.alarm ? 1 : 0 },
    ];
  })));
  registerGauges(metrics, [{ name: 'upid_consumer_messages', help: 'Messages that this process handled, saw fail, or made dead letters of, since its start', labels: ['consumer', 'outcome'] }], () => Promise.resolve(
    [...server.consumers.values()].flatMap((each) => Object.entries(each.counters).map(([outcome, value]) => ({ name: 'upid_consumer_messages', labels: { consumer: each.name, outcome }, value: value as number })))));
  registerGauges(metrics, [{ name: 'upid_dependency_up', help: '1 while the dependency answers', labels: ['dependency'] }], () => Promise.resolve([
    { name: 'upid_dependency_up', labels: { dependency: 'bus' }, value: bus.state === 'connected' ? 1 : 0 },
    ...(cache.state === 'off' ? [] : [{ name: 'upid_dependency_up', labels: { dependency: 'cache' }, value: cache.state === 'ready' ? 1 : 0 }]),
  ]));
  if (!platform.hasDatabase) return;
  const { database, outbox } = platform;
  registerGauges(metrics, [
    { name: 'upid_outbox_messages', help: 'Messages of the outbox that wait for the bus' }, { name: 'upid_outbox_oldest_seconds', help: 'Age of the oldest of them' },
    { name: 'upid_outbox_published', help: 'Messages that this process has relayed since its start' }, { name: 'upid_outbox_relaying', help: '1 in the replica that relays' },
  ], async () => {
    const depth = await outbox.depth();
    return [
      { name: 'upid_outbox_messages', value: depth.messages }, { name: 'upid_outbox_oldest_seconds', value: depth.oldestSeconds },
      { name: 'upid_outbox_published', value: outbox.publishedCount }, { name: 'upid_outbox_relaying', value: outbox.isRelaying ? 1 : 0 },
    ];
  });
  registerGauges(metrics, [{ name: 'upid_database_connections', help: 'Connections of this process to the database', labels: ['state'] }], () => Promise.resolve([
    { name: 'upid_database_connections', labels: { state: 'idle' }, value: database.pool.idleCount }, { name: 'upid_database_connections', labels: { state: 'used' }, value: database.pool.totalCount - database.pool.idleCount },
    { name: 'upid_database_connections', labels: { state: 'waited_for' }, value: database.pool.waitingCount },
  ]));
}

/**
 * Runs a service as this process: starts it, and on SIGTERM or SIGINT stops taking, finishes, drains, closes, and exits with 0. Where it cannot
 * start it says why in one line on stderr and exits with 1; so does an error that nobody caught, since the process's state is then unknown.
 */
export async function runService<S extends Settings>(definition: ServiceDefinition<S>): Promise<void> {
  const fail = (error: unknown) => {
    process.stderr.write(`${definition.name}: ${error instanceof Error ? error.message : String(error)}\n`);
    if (process.env.UPID_LOG_LEVEL === 'debug' && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
    process.exit(1);
  };
  process.on('uncaughtException', (error) => { process.stderr.write(`${error.stack ?? error.message}\n`); fail(error); });
  process.on('unhandledRejection', (reason) => { if (reason instanceof Error) process.stderr.write(`${reason.stack ?? ''}\n`); fail(reason); });
  try {
    const running = await startService(definition);
    let stopping = false;
    const stop = () => {
      if (stopping) process.exit(1);
      stopping = true;
      setTimeout(() => { fail(new Error(`it could not be stopped in order within ${SHUTDOWN_MS} ms`)); }, SHUTDOWN_MS).unref();
      running.stop().then(() => process.exit(0), fail);
    };
    process.on('SIGTERM', stop);
    process.on('SIGINT', stop);
  } catch (error) {
    fail(error);
  }
}
