import { spawn } from 'node:child_process';
import { open, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { clusterIdSchema, type ClusterListResponse } from '@upid/contracts';
import { choosePort, PortInUseError } from '@upid/platform';
import { CommandError, EXIT, GatewayClient } from '../client.js';
import { checkCluster, clusterIdFrom } from './cluster-check.js';
import { serveControl } from './control.js';
import { wakeSleepers } from './down.js';
import { planHousehold, type HouseholdOptions } from './household.js';
import { ROOT } from './root.js';
import { beginningOf, belongsTo, endLeftovers, isAlive, type RunRecord, StateFolder } from './state.js';
import { Supervisor } from './supervisor.js';

/** As given on the command line. */
export interface UpOptions {
  readonly detach: boolean;
  readonly demo: boolean;
  readonly kubeconfig: string | null;
  readonly context: string | null;
  readonly clusterId: string | null;
  readonly allowChanges: boolean;
  readonly scenario: string | null;
  readonly port: number;
  readonly state: string;
}

const READY_WITHIN_MS = 90_000;
const BACKFILL_WITHIN_MS = 240_000;
const GRACE_MS = 15_000;

/** `upid up`: starts everything; returns when all has ended, or with `detach` when it is ready. */
export async function up(options: UpOptions, argv: readonly string[]): Promise<void> {
  if (options.kubeconfig === null && (options.allowChanges || options.context !== null)) throw new CommandError('--context and --allow-changes belong to --kubeconfig: a real cluster is never attached to by default.', EXIT.usage);
  if (options.kubeconfig !== null && (options.demo || options.scenario !== null)) throw new CommandError('Give either the demo or --kubeconfig, not both.', EXIT.usage);
  const state = new StateFolder(options.state);
  await state.prepare();
  const run = await state.readRun();
  if (run && (await isAlive(run.pid)) && (await belongsTo(run.pid, state.dir))) {
    if (run.ready) return sayReady(run.url, state);
    throw new CommandError(`Something is already starting in ${state.dir} (pid ${run.pid}): wait for it, or end it with \`upid down\`.`, EXIT.failed);
  }
  await endLeftovers(state, run);
  try {
    await choosePort(options.port);
  } catch (cause) {
    if (cause instanceof PortInUseError) throw new CommandError(`Port ${options.port} is in use by another program: give another one with --port.`, EXIT.failed, null, { cause });
    throw cause;
  }
  const cluster = await clusterOf(options);
  if (options.detach) return detach(state, argv);
  await supervise(state, { ...cluster, root: ROOT, state, port: options.port, allowChanges: options.allowChanges, env: process.env });
}

async function clusterOf(options: UpOptions): Promise<Pick<HouseholdOptions, 'cluster' | 'clusterId' | 'clusterName'>> {
  if (options.kubeconfig === null) {
    const scenario = options.scenario === null ? join(ROOT, 'simulator', 'scenarios', 'shop.yaml') : resolve(options.scenario);
    await stat(scenario).catch((cause: Error) => { throw new CommandError(`The scenario ${scenario} cannot be read: ${cause.message}`, EXIT.usage, null, { cause }); });
    return { cluster: { kind: 'demo', scenario }, clusterId: 'demo', clusterName: basename(scenario).replace(/\.ya?ml$/, '') };
  }
  const file = resolve(options.kubeconfig);
  const found = await checkCluster(file, options.context);
  const clusterId = clusterIdSchema.safeParse(options.clusterId ?? clusterIdFrom(found.context));
  if (!clusterId.success) throw new CommandError(`--cluster-id: ${clusterId.error.issues[0]?.message}`, EXIT.usage);
  return { cluster: { kind: 'kubeconfig', file, context: found.context }, clusterId: clusterId.data, clusterName: found.context };
}

/** Starts this command again in the background and shows its progress until it is ready. */
async function detach(state: StateFolder, argv: readonly string[]): Promise<void> {
  const logFile = state.path('logs', 'upid.log');
  const log = await open(logFile, 'a');
  const from = (await log.stat()).size;
  const child = spawn(process.execPath, [join(ROOT, 'cli', 'dist', 'main.js'), ...argv.filter((arg) => arg !== '--detach' && arg !== '-d')], { cwd: process.cwd(), env: { ...process.env, UPID_STATE_DIR: state.dir, UPID_QUIET: 'true' }, stdio: ['ignore', log.fd, log.fd], detached: true });
  await log.close();
  const ended: { how: string | null } = { how: null };
  child.once('exit', (code, signal) => { ended.how = signal ?? `code ${code}`; });
  child.unref();
  let shown = from;
  const show = async () => {
    const file = await open(logFile, 'r');
    try {
      const { size } = await file.stat();
      const chunk = Buffer.alloc(size - shown);
      await file.read(chunk, 0, chunk.length, shown);
      shown = size;
      process.stdout.write(chunk);
    } finally {
      await file.close();
    }
  };
  for (;;) {
    await delay(100);
    await show();
    const run = await state.readRun();
    if (run?.pid === child.pid && run?.ready) {
      await show();
      return;
    }
    if (ended.how !== null) throw new CommandError(`UPID did not start (${ended.how}): ${run?.failure ?? `see ${logFile}`}`, EXIT.failed);
  }
}

function sayReady(url: string, state: StateFolder): void {
  console.log(`UPID is ready: ${url}`);
  console.log(`API key: ${state.apiKeyFile}`);
}

async function supervise(state: StateFolder, options: HouseholdOptions): Promise<void> {
  const run: RunRecord = { pid: process.pid, url: `http://127.0.0.1:${options.port}`, clusterId: options.clusterId, demo: options.cluster.kind === 'demo', startedAt: new Date().toISOString(), ready: false, failure: null, processes: [], beginnings: {} };
  let writing = Promise.resolve();
  const keep = () => { writing = writing.then(async () => {
    for (const { pid } of run.processes) {
      const beginning = pid === null ? null : await beginningOf(pid);
      if (pid !== null && beginning !== null) run.beginnings = { ...run.beginnings, [pid]: beginning };
    }
    await state.writeRun(run);
  }).catch((error: unknown) => console.error(`upid: ${state.runFile} cannot be written: ${String(error)}`)); };
  const supervisor = new Supervisor({ onChange: (processes) => { run.processes = processes; keep(); }, say: (line) => console.log(`upid: ${line}`) });

  const stopping = Promise.withResolvers<void>();
  let asked = 0;
  const ask = () => {
    asked++;
    stopping.resolve();
  };
  process.on('SIGINT', ask);
  process.on('SIGTERM', ask);
  const control = await serveControl(state, async (request) => {
    if (request.ask === 'down') stopping.resolve();
    return { ...run, processes: supervisor.status() };
  });
  keep();
  let failure: unknown = null;
  const follower = new AbortController();
  try {
    await Promise.race([start(state, options, supervisor, run, keep), stopping.promise]);
    if (run.ready && process.env.UPID_QUIET !== 'true') void followLogs(state, supervisor, follower.signal);
    await stopping.promise;
    if (asked === 1 && run.ready) {
      console.log('upid: waking what sleeps, then ending everything (once more to end at once)');
      const again = new Promise<'again'>((done) => { process.once('SIGINT', () => done('again')); });
      await Promise.race([wakeSleepers(await GatewayClient.open(run.url, state.apiKeyFile), 20_000), again]).catch((error: unknown) => console.error(`upid: not everything could be woken: ${error instanceof Error ? error.message : String(error)}`));
    }
  } catch (error) {
    failure = error;
    run.failure = error instanceof Error ? error.message : String(error);
  }
  follower.abort();
  await supervisor.stop(GRACE_MS);
  await new Promise<void>((done) => control.close(() => done()));
  keep();
  await writing;
  if (failure !== null) throw failure instanceof CommandError ? failure : new CommandError(run.failure ?? 'UPID did not start', EXIT.failed, null, { cause: failure });
  await state.forgetRun();
  console.log('upid: everything has ended');
}

async function start(state: StateFolder, options: HouseholdOptions, supervisor: Supervisor, run: RunRecord, keep: () => void): Promise<void> {
  if (options.cluster.kind === 'demo') console.log(`No --kubeconfig: this is the demo cluster (${options.cluster.scenario}), simulated on this machine. No real cluster is touched.`);
  else console.log(`Attaching to context ${options.cluster.context ?? ''} of ${options.cluster.file}${options.allowChanges ? '; changes are allowed' : ', reading only'}.`);
  const household = await planHousehold(options);
  for (const spec of household.specs) {
    const began = Date.now();
    process.stdout.write(`starting ${spec.name} ... `);
    try {
      await supervisor.add(spec, READY_WITHIN_MS);
    } catch (error) {
      console.log('failed');
      throw new CommandError(`${error instanceof Error ? error.message : String(error)}. Its log: ${state.path('logs', `${spec.name}.log`)}`, EXIT.failed, null, { cause: error });
    }
    console.log(`ready (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  }
  await waitForCluster(await GatewayClient.open(household.url, state.apiKeyFile), options);
  sayReady(household.url, state);
  run.ready = true;
  keep();
}

/** Waits until the agent's cluster is there and, for the demo, until its history is read: the first answers then rest on data. */
async function waitForCluster(client: GatewayClient, options: HouseholdOptions): Promise<void> {
  const until = Date.now() + BACKFILL_WITHIN_MS;
  let shown = -1;
  for (;;) {
    const { clusters } = await client.get<ClusterListResponse>('/api/v1/clusters');
    const cluster = clusters.find((each) => each.cluster_id === options.clusterId);
    const backfill = cluster?.data_coverage.backfill ?? null;
    if (cluster?.connected && (options.cluster.kind !== 'demo' || backfill?.done)) return;
    const percent = Math.floor((backfill?.progress ?? 0) * 100);
    if (options.cluster.kind === 'demo' && percent >= shown + 10) {
      console.log(`reading 14 days of history: ${percent} %`);
      shown = percent;
    }
    if (Date.now() > until) {
      console.log(cluster?.connected ? 'The history is still being read; answers say how complete it is.' : 'The agent has not reported yet; `upid status` shows how it is.');
      return;
    }
    await delay(500);
  }
}

/** Prints what is added to the logs from now on, each line behind its process's name. */
async function followLogs(state: StateFolder, supervisor: Supervisor, signal: AbortSignal): Promise<void> {
  const sizes = new Map<string, number>();
  for (let first = true; !signal.aborted; first = false) {
    for (const { name } of supervisor.status()) {
      const file = await open(state.path('logs', `${name}.log`), 'r').catch(() => null);
      if (!file) continue;
      try {
        const { size } = await file.stat();
        const from = first ? size : (sizes.get(name) ?? 0);
        if (size > from) {
          const chunk = Buffer.alloc(size - from);
          await file.read(chunk, 0, chunk.length, from);
          const end = chunk.lastIndexOf(10) + 1;
          for (const line of chunk.subarray(0, end).toString().split('\n')) if (line !== '') console.log(`${name.padEnd(12)} | ${line}`);
          sizes.set(name, from + end);
        } else sizes.set(name, size);
      } finally {
        await file.close();
      }
    }
    await delay(300, undefined, { signal }).catch(() => undefined);
  }
}
