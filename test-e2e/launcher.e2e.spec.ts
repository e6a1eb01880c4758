import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readFile, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';

// The launcher as a person uses it: `./upid up`, `status`, the commands, `down`, on a demo of a few workloads and hours.
const ROOT = process.cwd();
const UPID = join(ROOT, 'upid');

interface Status { running: boolean; ready: boolean; processes: { name: string; pid: number | null; state: string; restarts: number }[] }
interface Outcome { code: number; out: string; err: string }

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'upid-launcher-'));
  await writeFile(join(dir, 'small.yaml'), stringify({
    name: 'small', seed: 7, cluster: { provider: 'aws', region: 'us-east-1', zones: ['us-east-1a'] }, history_days: 0.1,
    node_groups: [{ name: 'n', count: 2, instance_type: 'm6i.xlarge', capacity_type: 'on_demand', cpu: 4000, memory: 16384 }], namespaces: [{ name: 'shop' }, { name: 'ingress-nginx' }],
    workloads: [
      { name: 'ingress-nginx-controller', namespace: 'ingress-nginx', request: { cpu: 100, memory: 128 }, behaviour: { type: 'steady', cpu: 50, memory: 90 }, labels: { 'app.kubernetes.io/name': 'ingress-nginx' }, truth: { idle: false, cpu: 'right', cpu_factor: 1, memory: 'right', memory_factor: 1 } },
      { name: 'web', namespace: 'shop', replicas: 2, request: { cpu: 200, memory: 256 }, behaviour: { type: 'steady', cpu: 120, memory: 180, requests: 30 }, ingress: true, truth: { idle: false, cpu: 'right', cpu_factor: 1.5, memory: 'right', memory_factor: 1.4 } },
      { name: 'idle', namespace: 'shop', request: { cpu: 500, memory: 512 }, behaviour: { type: 'health_checks_only', memory: 100 }, ingress: true, truth: { idle: true, cpu: 'over', cpu_factor: 200, memory: 'over', memory_factor: 4 } },
    ],
  }));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

function upid(...args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(UPID, args, { cwd: ROOT, timeout: 420_000, maxBuffer: 64 * 1024 * 1024 }, (error, out, err) => resolve({ code: error ? (typeof error.code === 'number' ? error.code : 1) : 0, out, err }));
  });
}
async function statusOf(state: string): Promise<Status> {
  return JSON.parse((await upid('status', '--json', '--state', state)).out) as Status;
}
async function until<T>(probe: () => Promise<T>, good: (value: T) => boolean, withinMs = 60_000): Promise<T> {
  for (const end = Date.now() + withinMs; ;) {
    const value = await probe();
    if (good(value)) return value;
    if (Date.now() > end) throw new Error(`still ${JSON.stringify(value)} after ${withinMs} ms`);
    await new Promise((resolve) => { setTimeout(resolve, 200); });
  }
}
/** A process that has ended stays a zombie until its parent, or process 1, collects it: that is not alive. */
const alive = (pid: number) => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
};
async function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

it('prints its help without a build, and tells wrong usage apart', async () => {
  const help = await upid('--help');
  expect(help.out).toContain('upid up');
  expect((await upid('nonsense')).code).toBe(2);
  expect((await upid('up', '--context', 'x', '--state', join(dir, 'x'))).code).toBe(2);
  const nobody = await upid('clusters', '--url', 'http://127.0.0.1:9');
  expect(nobody).toMatchObject({ code: 5 });
  expect(nobody.err).toContain('No gateway answers');
});

it('tells a kubeconfig that cannot be read, an unknown context and an unreachable cluster in a sentence each', async () => {
  const state = join(dir, 'real');
  expect((await upid('up', '--kubeconfig', join(dir, 'none'), '--state', state)).err).toContain('cannot be read');
  const file = join(dir, 'kubeconfig');
  await writeFile(file, stringify({ apiVersion: 'v1', kind: 'Config', clusters: [{ name: 'c', cluster: { server: 'https://127.0.0.1:9' } }], users: [{ name: 'u', user: {} }], contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }] }));
  expect((await upid('up', '--kubeconfig', file, '--context', 'other', '--state', state)).err).toContain('no context "other"; it has c');
  const unreachable = await upid('up', '--kubeconfig', file, '--context', 'c', '--state', state, '--port', String(await freePort()));
  expect(unreachable.err).toContain('cannot be reached at https://127.0.0.1:9');
  expect(unreachable.code).toBe(1);
});

it('starts a demo, answers, keeps every process alive, and ends all of it', async () => {
  const state = join(dir, 'one');
  const port = await freePort();
  const up = await upid('demo', '--scenario', join(dir, 'small.yaml'), '--detach', '--state', state, '--port', String(port));
  expect(up).toMatchObject({ code: 0 });
  expect(up.out).toContain('No real cluster is touched');
  expect(up.out.trimEnd().split('\n').slice(-2)).toEqual([`UPID is ready: http://127.0.0.1:${port}`, `API key: ${join(state, 'api-key')}`]);
  expect((await stat(join(state, 'api-key'))).mode & 0o777).toBe(0o600);

  // Another state on the same port is told so; the same state again says that it runs.
  const taken = await upid('up', '--state', join(dir, 'two'), '--port', String(port));
  expect(taken).toMatchObject({ code: 1 });
  expect(taken.err).toContain(`Port ${port} is in use`);
  expect((await upid('up', '--state', state)).out).toContain('UPID is ready');

  const clusters = JSON.parse((await upid('clusters', '-o', 'json', '--state', state)).out) as { clusters: { cluster_id: string; pods: number; demo: boolean }[] };
  expect(clusters.clusters).toMatchObject([{ cluster_id: 'demo', pods: 4, demo: true }]);
  const analysis = await upid('analyze', 'deployment', 'idle', '-n', 'shop', '--state', state);
  expect(analysis.out).toContain('Deployment shop/idle on cluster demo');
  expect(await upid('analyze', 'deployment', 'nothing', '-n', 'shop', '--state', state)).toMatchObject({ code: 3 });
  expect(await upid('analyze', 'cluster', '--range', 'soon', '--state', state)).toMatchObject({ code: 2 });
  const refused = await upid('optimize', 'deployment', 'idle', '-n', 'shop', '--state', state);
  expect(refused).toMatchObject({ code: 4 });
  expect(refused.err).toMatch(/observation\s+failed/);

  // One process after the other is killed: it comes back and is counted.
  const before = await statusOf(state);
  expect(before.processes.map((each) => each.name)).toEqual(['nats', 'postgres', 'redis', 'intelligence', 'cost', 'optimizer', 'gateway', 'simulator', 'collector']);
  for (const name of ['optimizer', 'collector', 'nats', 'redis']) process.kill(before.processes.find((each) => each.name === name)?.pid as number, 'SIGKILL');
  const after = await until(() => statusOf(state), (status) => status.processes.every((each) => each.state === 'running') && status.processes.find((each) => each.name === 'nats')?.restarts === 1);
  for (const name of ['optimizer', 'collector', 'redis']) expect(after.processes.find((each) => each.name === name)).toMatchObject({ restarts: 1, state: 'running' });
  await until(() => upid('clusters', '--state', state), (outcome) => outcome.code === 0);

  const down = await upid('down', '--state', state);
  expect(down).toMatchObject({ code: 0 });
  for (const each of after.processes) expect(each.pid === null || !alive(each.pid)).toBe(true);
  expect((await statusOf(state)).running).toBe(false);
});

it('keeps its state: a second start is quick, and cleans up after a supervisor that was killed', async () => {
  const state = join(dir, 'one');
  const port = await freePort();
  const start = () => upid('demo', '--scenario', join(dir, 'small.yaml'), '--detach', '--state', state, '--port', String(port));
  const key = await readFile(join(state, 'api-key'), 'utf8');
  expect(await start()).toMatchObject({ code: 0 });
  expect(await readFile(join(state, 'api-key'), 'utf8')).toBe(key);
  const run = JSON.parse(await readFile(join(state, 'run.json'), 'utf8')) as { pid: number; processes: { pid: number }[] };
  process.kill(run.pid, 'SIGKILL');
  await until(async () => alive(run.pid), (there) => !there);
  expect(await start()).toMatchObject({ code: 0 });
  for (const { pid } of run.processes) expect(alive(pid)).toBe(false);
  expect(await upid('down', '--state', state)).toMatchObject({ code: 0 });
});

it('without --detach follows the logs, and Ctrl-C ends everything it started and nothing else', async () => {
  const state = join(dir, 'one');
  const bystander: ChildProcess = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  try {
    const child = spawn(UPID, ['demo', '--scenario', join(dir, 'small.yaml'), '--state', state, '--port', String(await freePort())], { cwd: ROOT });
    let out = '';
    child.stdout.on('data', (chunk: Buffer) => { out += chunk.toString(); });
    const exited = new Promise<number | null>((resolve) => { child.once('exit', (code) => resolve(code)); });
    await until(async () => out, (text) => text.includes('UPID is ready'), 120_000);
    const { processes } = await statusOf(state);
    child.kill('SIGINT');
    expect(await exited).toBe(0);
    for (const { pid } of processes) expect(pid === null || !alive(pid)).toBe(true);
    expect(alive(bystander.pid as number)).toBe(true);
  } finally {
    bystander.kill();
  }
});
