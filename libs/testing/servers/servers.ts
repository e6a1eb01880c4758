/**
 * Real NATS, PostgreSQL and Redis servers for tests: the one that UPID_NATS_URL, UPID_DATABASE_URL or UPID_REDIS_URL names,
 * else one of the test's own on a free port with its data in a temporary folder, which can be killed and started again; where
 * no binary is to be had, a container, if a Docker engine answers.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import {
  type NatsServerHandle, type ServerHandle, ServerStartError, ServerUnavailableError,
  startNats as startNatsServer, startPostgres as startPostgresServer, startRedis as startRedisServer,
} from '@upid/platform';
import pg from 'pg';
import { forgetProcess, freePort, removeDirectory, temporaryDirectory, watchProcess } from '../processes.js';
import { type ContainerDescription, startContainer } from './containers.js';

/** One running instance of a server, from its start to its end. */
export interface Instance {
  readonly url: string;
  /** Undefined in a container. */
  readonly pid?: number;
  /** Ends it in good order. */
  stop(): Promise<void>;
  /** Ends it at once. */
  kill(): Promise<void>;
}

/** Where the instances of a server come from. */
export interface Source {
  /** Starts it where it was before, with the data it had. */
  start(): Promise<Instance>;
  /** Removes what it left. */
  remove(): Promise<void>;
}

/** A server that the environment names, or one of our own with its first instance. */
type Origin = { readonly variable: string; readonly url: string } | { readonly source: Source; readonly first: Instance };

/** A fault was asked for on a server that is not the test's own. */
export class ForeignServerError extends Error {
  constructor(readonly variable: string) {
    super(`The server that ${variable} names is not the test's own: it can be used, not stopped. Ask for one with { own: true }.`);
    this.name = 'ForeignServerError';
  }
}

/** A server at one URL that can go and come back with its data. */
export class TestServer implements AsyncDisposable {
  /** The same after each start. */
  readonly url: string;
  readonly #origin: Origin;
  #instance: Instance | undefined;

  constructor(origin: Origin) {
    this.#origin = origin;
    this.#instance = 'first' in origin ? origin.first : undefined;
    this.url = 'first' in origin ? origin.first.url : origin.url;
  }

  /** Whether it may be stopped: false for one that the environment names. */
  get own(): boolean {
    return 'source' in this.#origin;
  }

  /** Of the process that runs; undefined when none does, in a container, and for one that the environment names. */
  get pid(): number | undefined {
    return this.#instance?.pid;
  }

  /** Starts it again where it was, with the data it had. */
  async start(): Promise<void> {
    this.#instance ??= await this.#source().start();
  }

  /** Ends it in good order; its data stays for the next start. */
  async end(): Promise<void> {
    this.#source();
    await this.#leave((instance) => instance.stop());
  }

  /** Ends it with SIGKILL, as a crash would; its data stays for the next start. */
  async kill(): Promise<void> {
    this.#source();
    await this.#leave((instance) => instance.kill());
  }

  async restart(): Promise<void> {
    await this.end();
    await this.start();
  }

  /** Makes it hang: connections stand, nothing answers. Until {@link resume}. */
  pause(): void {
    this.#signal('SIGSTOP');
  }

  /** Takes back {@link pause}. */
  resume(): void {
    this.#signal('SIGCONT');
  }

  /** Ends it for good and removes its data. One that the environment names is left as it is. */
  async stop(): Promise<void> {
    if (!('source' in this.#origin)) return;
    await this.#leave((instance) => instance.kill());
    await this.#origin.source.remove();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** What runs now. */
  protected get instance(): Instance {
    this.#source();
    if (this.#instance === undefined) throw new Error('The server does not run.');
    return this.#instance;
  }

  #source(): Source {
    if (!('source' in this.#origin)) throw new ForeignServerError(this.#origin.variable);
    return this.#origin.source;
  }

  async #leave(how: (instance: Instance) => Promise<void>): Promise<void> {
    const instance = this.#instance;
    this.#instance = undefined;
    if (instance === undefined) return;
    const ended = how(instance);
    if (instance.pid !== undefined) {
      signalTo(instance.pid, 'SIGCONT'); // a paused one would not see the signal to end
      await ended;
      forgetProcess(instance.pid);
    }
    await ended;
  }

  #signal(signal: NodeJS.Signals): void {
    const { pid } = this.instance;
    if (pid === undefined) throw new Error('A server in a container cannot be made to hang.');
    signalTo(pid, signal);
  }
}

export interface TestServerOptions {
  /** A server of the test's own, whatever the environment names: for tests that stop it or give it a configuration. Default no. */
  own?: boolean;
}

export interface TestNatsOptions extends TestServerOptions {
  /** A server configuration (`natsConfig` of the platform). Without one there is one account and no password. */
  config?: string;
}

/** NATS with JetStream. */
export class TestNats extends TestServer {
  readonly #settings: { config?: string };

  constructor(origin: Origin, settings: { config?: string }) {
    super(origin);
    this.#settings = settings;
  }

  /** Has the running server read a new configuration, which it also starts with from now on. */
  async reload(config: string): Promise<void> {
    const { instance } = this;
    if (!('reload' in instance)) throw new Error('NATS in a container cannot be given a new configuration.');
    await (instance as NatsServerHandle).reload(config);
    this.#settings.config = config;
  }
}

/** PostgreSQL. `url` is of its first database; tests make their own. */
export class TestPostgres extends TestServer {
  /** Makes a new, empty database. @returns its URL, and what drops it again, connections and all */
  async createDatabase(prefix = 'test'): Promise<{ url: string; name: string; drop: () => Promise<void> }> {
    const name = `${prefix}_${randomBytes(6).toString('hex')}`;
    await this.#administer(`CREATE DATABASE "${name}"`);
    const url = new URL(this.url);
    url.pathname = `/${name}`;
    return { url: url.href, name, drop: () => this.#administer(`DROP DATABASE IF EXISTS "${name}" WITH (FORCE)`) };
  }

  async #administer(statement: string): Promise<void> {
    const client = new pg.Client({ connectionString: this.url });
    await client.connect();
    try {
      await client.query(statement);
    } finally {
      await client.end();
    }
  }
}

/** Starts NATS with JetStream. */
export async function startNats(options: TestNatsOptions = {}): Promise<TestNats> {
  const settings = { config: options.config };
  const own = options.own ?? options.config !== undefined;
  return new TestNats(named('UPID_NATS_URL', own) ?? (await ours('nats', (dir, port) => startNatsServer({ dir, port, ...settings }), {
    image: 'nats:2.12', port: 4222, command: ['-js', '-sd', '/tmp/streams'], environment: {}, url: (address) => `nats://${address}`,
  })), settings);
}

/** Starts Redis or what speaks its protocol, as a cache: nothing on disk, empty after each start. */
export async function startRedis(options: TestServerOptions = {}): Promise<TestServer> {
  return new TestServer(named('UPID_REDIS_URL', options.own) ?? (await ours('redis', (dir, port) => startRedisServer({ dir, port }), {
    image: 'valkey/valkey:8', port: 6379, command: ['valkey-server', '--save', ''], environment: {}, url: (address) => `redis://${address}`,
  })));
}

/** Starts PostgreSQL; `settings` are server settings by name. */
export async function startPostgres(options: TestServerOptions & { settings?: Readonly<Record<string, string>> } = {}): Promise<TestPostgres> {
  // A crash of the process loses nothing that the system holds: without waiting for the disk a test's crash is the same.
  const settings = { fsync: 'off', full_page_writes: 'off', ...options.settings };
  const own = options.own ?? options.settings !== undefined;
  const password = randomBytes(12).toString('hex');
  return new TestPostgres(named('UPID_DATABASE_URL', own) ?? (await ours('postgres', (dir, port) => whenOrphansAreGone(() => startPostgresServer({ dir, port, settings })), {
    image: 'timescale/timescaledb:latest-pg17', port: 5432, command: ['postgres', ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    environment: { POSTGRES_USER: 'upid', POSTGRES_DB: 'upid', POSTGRES_PASSWORD: password }, url: (address) => `postgres://upid:${password}@${address}/upid`,
  })));
}

/** After a crash the old server's backends may still be at work, and hold its shared memory until they notice: the new one waits. */
async function whenOrphansAreGone(start: () => Promise<ServerHandle>): Promise<ServerHandle> {
  for (const deadline = Date.now() + 60_000; ;) {
    try {
      return await start();
    } catch (error) {
      const held = error instanceof ServerStartError && /pre-existing shared memory block|Is another postmaster/.test(error.message);
      if (!held || Date.now() > deadline) throw error;
      await delay(100);
    }
  }
}

/** The server that the environment names, unless the test needs its own. */
function named(variable: string, own: boolean | undefined): Origin | undefined {
  const url = process.env[variable];
  return url === undefined || url === '' || own ? undefined : { variable, url };
}

/** A server of our own, always in the same folder on the same port, under the watchdog's eye; or in a container. */
async function ours(name: string, start: (dir: string, port: number) => Promise<ServerHandle>, container: ContainerDescription): Promise<Origin> {
  const dir = await temporaryDirectory(name);
  const port = await freePort();
  const source: Source = {
    start: async () => {
      const handle = await start(dir, port);
      watchProcess(handle.pid);
      return handle;
    },
    remove: () => removeDirectory(dir),
  };
  try {
    return { source, first: await source.start() };
  } catch (error) {
    await source.remove();
    if (!(error instanceof ServerUnavailableError)) throw error;
    const inContainer = await startContainer(container, port, error);
    return { source: inContainer, first: await inContainer.start() };
  }
}

function signalTo(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error; // already gone: nothing to signal
  }
}
