import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { tmpdir } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { ProcessStatus } from './supervisor.js';

/** What a state folder was started with; kept, so that `status`, `down` and the client commands find it. */
export interface RunRecord {
  readonly pid: number;
  readonly url: string;
  readonly clusterId: string;
  readonly demo: boolean;
  readonly startedAt: string;
  ready: boolean;
  /** The sentence that ended the start, where it failed. */
  failure: string | null;
  processes: readonly ProcessStatus[];
  /** When each process began, as the kernel counts, by pid: a number that is used again has another. */
  beginnings: Readonly<Record<string, string>>;
}

/** The folder that holds everything of one installation: data, logs, pids, keys. */
export class StateFolder {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = resolve(dir);
  }

  path(...parts: string[]): string {
    return join(this.dir, ...parts);
  }

  get runFile(): string {
    return this.path('run.json');
  }

  get apiKeyFile(): string {
    return this.path('api-key');
  }

  /** Where the supervisor listens. A Unix socket's path is at most some 100 bytes long: a deep folder's lies in the system's temporary folder. */
  get controlSocket(): string {
    const inside = this.path('control.sock');
    return Buffer.byteLength(inside) < 100 ? inside : join(tmpdir(), `upid-${createHash('sha256').update(this.dir).digest('hex').slice(0, 20)}.sock`);
  }

  async prepare(): Promise<void> {
    await mkdir(this.dir, { recursive: true, mode: 0o700 });
    for (const folder of ['data', 'logs', 'keys', 'spool']) await mkdir(this.path(folder), { recursive: true, mode: 0o700 });
  }

  async readRun(): Promise<RunRecord | null> {
    try {
      return JSON.parse(await readFile(this.runFile, 'utf8')) as RunRecord;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw new Error(`${this.runFile} cannot be read`, { cause: error });
    }
  }

  async writeRun(run: RunRecord): Promise<void> {
    await writeFile(`${this.runFile}.new`, JSON.stringify(run, null, 2), { mode: 0o600 });
    await rename(`${this.runFile}.new`, this.runFile);
  }

  async forgetRun(): Promise<void> {
    await rm(this.runFile, { force: true });
  }

  /** The text in a file; made by `make` with mode 600 where there is none. */
  async secret(file: string, make: () => string): Promise<string> {
    try {
      await writeFile(file, make(), { flag: 'wx', mode: 0o600 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    return (await readFile(file, 'utf8')).trim();
  }

  apiKey(): Promise<string> {
    return this.secret(this.apiKeyFile, () => `upid_${randomBytes(24).toString('base64url')}`);
  }
}

/** Whether a process of this pid is there and no zombie. */
export async function isAlive(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => 'State:\tR');
  return !/^State:\s+Z/m.test(status);
}

/**
 * Whether `pid` is one that a supervisor of this folder started: its environment or command line names the folder. A pid alone says
 * nothing, since numbers are used again.
 */
export async function belongsTo(pid: number, dir: string): Promise<boolean> {
  const read = (file: string) => readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '');
  const [environment, commandLine] = await Promise.all([read('environ'), read('cmdline')]);
  return environment.split('\0').includes(`UPID_STATE_DIR=${dir}`) || commandLine.split('\0').some((part) => part === dir || part.startsWith(`${dir}/`));
}

/** When a process began, in the kernel's ticks since boot; null where that cannot be told. */
export async function beginningOf(pid: number): Promise<string | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  // Field 22; the name in field 2 is in brackets and may hold anything.
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
}

/** Ends what an earlier supervisor of this folder left running when it was killed: services before the servers that they hold on to. */
export async function endLeftovers(state: StateFolder, run: RunRecord | null): Promise<void> {
  for (const { pid } of [...(run?.processes ?? [])].reverse()) {
    if (pid === null || !(await isAlive(pid))) continue;
    const beginning = await beginningOf(pid);
    const ours = beginning !== null ? run?.beginnings?.[pid] === beginning : await belongsTo(pid, state.dir);
    if (!ours) continue;
    process.kill(pid, 'SIGTERM');
    for (let i = 0; i < 50 && (await isAlive(pid)); i++) await delay(100);
    if (!(await isAlive(pid))) continue;
    process.kill(pid, 'SIGKILL');
    for (let i = 0; i < 50 && (await isAlive(pid)); i++) await delay(100);
  }
  await state.forgetRun();
}
