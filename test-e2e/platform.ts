/**
 * UPID as a person starts it, for end-to-end tests: servers, services and the agent as the launcher plans them (keys, accounts, environment),
 * each a process of its own that can be killed and started again.
 */
import { execFile } from 'node:child_process';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { GatewayClient } from '@upid/cli/client';
import { planHousehold, type Household } from '@upid/cli/up/household';
import { StateFolder } from '@upid/cli/up/state';
import type { RunningProcess } from '@upid/cli/up/supervisor';
import type { Policy } from '@upid/contracts';
import { type ControlPlane, forgetProcess, freePort, temporaryDirectory, waitFor, watchProcess } from '@upid/testing';
import { stringify } from 'yaml';

/** The checkout's root, whether this runs from its source or compiled from `dist`. */
export const ROOT = join(import.meta.dirname, basename(import.meta.dirname) === 'dist' ? '../..' : '..');

export const SERVERS = ['nats', 'postgres', 'redis'] as const;
export const SERVICES = ['intelligence', 'cost', 'optimizer', 'gateway'] as const;
export type ProcessName = (typeof SERVERS)[number] | (typeof SERVICES)[number] | 'collector';

export interface PlatformOptions {
  readonly clusterId: string;
  /** What the agent may do in the cluster is what this kubeconfig may. */
  readonly kubeconfig: string;
  readonly allowChanges: boolean;
  /** Thresholds other than the reference's, as a policy file; without one no file is named. */
  readonly policy?: Partial<Policy>;
  /** Given to every process. */
  readonly env?: Readonly<Record<string, string>>;
}

const READY_WITHIN_MS = 90_000;
const GRACE_MS = 20_000;
const LOG_TAIL_LINES = 20;
const LOG_LINE_CHARACTERS = 600;

let built: Promise<void> | undefined;

/** Compiles what is to be run, once a test process; what is built already is kept. */
function build(): Promise<void> {
  built ??= promisify(execFile)(process.execPath, [join(ROOT, 'scripts', 'build.mjs')], { cwd: ROOT }).then(() => undefined);
  return built;
}

/** This process's environment without settings of another UPID: the tests' own alone count. */
function ownEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('UPID_')));
}

/** UPID, running. Its state (data, keys, logs) outlives a {@link restart}. */
export class Platform implements AsyncDisposable {
  readonly state: StateFolder;
  readonly port: number;
  private household: Household | null = null;
  private readonly running = new Map<string, RunningProcess>();
  private known: GatewayClient | null = null;

  private constructor(private readonly cluster: ControlPlane, private options: PlatformOptions, directory: string, port: number) {
    this.state = new StateFolder(directory);
    this.port = port;
  }

  /** Starts everything and returns when every process is ready. */
  static async start(cluster: ControlPlane, options: PlatformOptions): Promise<Platform> {
    await build();
    const platform = new Platform(cluster, options, await temporaryDirectory('e2e'), await freePort());
    await platform.state.prepare();
    try {
      await platform.startAll();
    } catch (error) {
      const told = await platform.withLogs(error);
      await platform.stop();
      throw told;
    }
    return platform;
  }

  /** A client of the gateway with the administrator's key. */
  get client(): GatewayClient {
    if (this.known === null) throw new Error('UPID has not been started');
    return this.known;
  }

  get clusterId(): string {
    return this.options.clusterId;
  }

  /** The pid of a process that runs. */
  pid(name: ProcessName): number {
    const found = this.running.get(name);
    if (found === undefined) throw new Error(`${name} does not run`);
    return found.pid;
  }

  /** Ends processes with SIGKILL, as a crash would; returns when they are gone. */
  async kill(...names: ProcessName[]): Promise<void> {
    const gone = names.map((name) => [name, this.running.get(name)] as const);
    for (const [, found] of gone) if (found !== undefined) process.kill(found.pid, 'SIGKILL');
    for (const [name, found] of gone) {
      await found?.exited;
      this.running.delete(name);
    }
  }

  /** Starts processes that were killed, each in the place where it was, and waits until they are ready. */
  async startAgain(...names: ProcessName[]): Promise<void> {
    for (const spec of this.plan.specs.filter(({ name }) => (names as string[]).includes(name))) await this.startOne(spec);
  }

  /** Ends everything in order and starts it on the same state, with other options where they are given. */
  async restart(changes: Partial<PlatformOptions> = {}): Promise<void> {
    await this.endAll();
    this.options = { ...this.options, ...changes };
    await this.startAll();
  }

  async stop(): Promise<void> {
    await this.endAll();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** URL of one of the servers, as services are told it. */
  url(server: (typeof SERVERS)[number]): string {
    const variable = { nats: 'UPID_NATS_URL', postgres: 'UPID_DATABASE_URL', redis: 'UPID_REDIS_URL' }[server];
    return this.plan.serverUrls()[variable] ?? '';
  }

  /** Every log of every process, by file name. */
  async logs(): Promise<Map<string, string>> {
    const names = (await readdir(this.state.path('logs'))).filter((name) => name.endsWith('.log'));
    const files = [...names.map((name) => ['logs', name]), ...SERVERS.map((name) => ['data', name, `${name}.log`])];
    // A process that was never started has none.
    const texts = await Promise.all(files.map(async (file) => [file.join('/'), await readFile(this.state.path(...file), 'utf8').catch(() => '')] as const));
    return new Map(texts);
  }

  /** Runs a part of a test; where it fails the error also tells the end of every service's log. */
  async telling<T>(part: () => Promise<T>): Promise<T> {
    try {
      return await part();
    } catch (error) {
      throw await this.withLogs(error);
    }
  }

  private get plan(): Household {
    if (this.household === null) throw new Error('UPID has not been started');
    return this.household;
  }

  private async startAll(): Promise<void> {
    const { clusterId, kubeconfig, allowChanges, policy, env } = this.options;
    const policyFile = this.state.path('policy.yaml');
    if (policy !== undefined) await writeFile(policyFile, stringify(policy));
    this.household = await planHousehold({
      root: ROOT, state: this.state, port: this.port, clusterId, clusterName: `${clusterId} (test)`, cluster: { kind: 'kubeconfig', file: kubeconfig, context: null }, allowChanges,
      env: { ...ownEnvironment(), UPID_KUBELET_PROXY_URL: this.cluster.kubeletProxyUrl, ...(policy === undefined ? {} : { UPID_POLICY_FILE: policyFile }), ...env },
    });
    this.known = await GatewayClient.open(this.household.url, this.state.apiKeyFile);
    // Servers one after the other, since services are given their URLs; services together, since each waits for what it needs.
    const isServer = ({ name }: Household['specs'][number]) => (SERVERS as readonly string[]).includes(name);
    for (const spec of this.household.specs.filter(isServer)) await this.startOne(spec);
    await Promise.all(this.household.specs.filter((spec) => !isServer(spec)).map((spec) => this.startOne(spec)));
  }

  private async startOne(spec: Household['specs'][number]): Promise<void> {
    const started = await spec.start();
    watchProcess(started.pid);
    this.running.set(spec.name, started);
    const end: { how: string | null } = { how: null };
    void started.exited.then((how) => {
      end.how = how;
      forgetProcess(started.pid);
      if (this.running.get(spec.name) === started) this.running.delete(spec.name);
    });
    await waitFor(`${spec.name} to be ready`, () => spec.ready(), {
      timeoutMs: READY_WITHIN_MS, alive: () => { if (end.how !== null) throw new Error(`${spec.name} ${end.how} before it was ready`); },
    });
  }

  private async endAll(): Promise<void> {
    const isServer = (name: string) => (SERVERS as readonly string[]).includes(name);
    const members = [...this.running];
    await Promise.all(members.filter(([name]) => !isServer(name)).map(([, each]) => each.stop(GRACE_MS)));
    await Promise.all(members.filter(([name]) => isServer(name)).map(([, each]) => each.stop(GRACE_MS)));
    this.running.clear();
  }

  private async withLogs(error: unknown): Promise<Error> {
    const tails = [...(await this.logs())].map(([file, text]) => `--- ${file}: what it complained of, and the end\n${logSummary(text)}`);
    const told = error instanceof Error ? error : new Error(String(error));
    told.message = `${told.message}\n\n${tails.join('\n')}`;
    if (told.stack !== undefined) told.stack = `${told.name}: ${told.message}\n${told.stack.split('\n').filter((line) => line.startsWith('    at ')).join('\n')}`;
    return told;
  }
}

/** Warnings and errors of a log, each said once with how often it came, and its last lines. */
function logSummary(text: string): string {
  const lines = text.trimEnd().split('\n').filter((line) => line !== '').map((line) => ({ line: readable(line), isNotable: /"level":"(warn|error|fatal)|\[(WRN|ERR|FTL)\]|(WARNING|ERROR|FATAL|PANIC): |^[a-z]+: /.test(line) }));
  const said = new Map<string, { last: string; times: number }>();
  for (const { line, isNotable } of lines) {
    if (!isNotable) continue;
    // Without what tells two of the same apart: numbers, ids, times.
    const kind = line.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}|\d+/g, '#');
    said.set(kind, { last: line, times: (said.get(kind)?.times ?? 0) + 1 });
  }
  return [...[...said.values()].slice(-LOG_TAIL_LINES).map(({ last, times }) => (times === 1 ? last : `${last} (${times} times)`)), '...', ...lines.slice(-3).map(({ line }) => line)].join('\n');
}

/** A line of a service's log (JSON) as a person reads it; any other as it is. */
function readable(line: string): string {
  if (!line.startsWith('{')) return line.slice(0, LOG_LINE_CHARACTERS);
  const { time, level, msg, err, service: _service, correlation_id: _correlation, trace_id: _trace, ...more } = JSON.parse(line) as { time: string; level: string; msg: string; err?: { message?: string; stack?: string } } & Record<string, unknown>;
  const stack = err?.stack?.split('\n').slice(1, 4).map((each) => each.trim()).join(' ') ?? '';
  return `${time} ${level} ${msg}${err === undefined ? '' : `: ${err.message} ${stack}`} ${JSON.stringify(more)}`.slice(0, LOG_LINE_CHARACTERS);
}
