import { spawn } from 'node:child_process';
import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** What is started, again and again until it is told to stop. */
export interface RunningProcess {
  readonly pid: number;
  /** Resolves when it has ended, with how. */
  readonly exited: Promise<string>;
  /** Asks it to end in order and returns when it is gone; after `graceMs` it is ended at once. */
  stop(graceMs: number): Promise<void>;
}

/** One member of the household: how to start it and how to see that it is ready. */
export interface ProcessSpec {
  readonly name: string;
  start(): Promise<RunningProcess>;
  /** True when it can be used. Asked until it is, then for `status`. */
  ready(): Promise<boolean>;
}

export type ProcessState = 'starting' | 'running' | 'waiting to restart' | 'stopped';

/** As `upid status` shows it. */
export interface ProcessStatus {
  readonly name: string;
  readonly pid: number | null;
  readonly state: ProcessState;
  readonly restarts: number;
  readonly since: string;
  /** How it ended last, null where it never did. */
  readonly last_exit: string | null;
}

const FIRST_BACKOFF_MS = 250;
const LONGEST_BACKOFF_MS = 30_000;
/** A process that lived this long starts from the first back-off again. */
const HEALTHY_MS = 60_000;

/** How long to wait before the next start: doubled with each quick death, from 0.25 s to 30 s. */
export function nextBackoff(previousMs: number | null, livedMs: number): number {
  if (previousMs === null || livedMs >= HEALTHY_MS) return FIRST_BACKOFF_MS;
  return Math.min(LONGEST_BACKOFF_MS, previousMs * 2);
}

/** A process that did not become ready in time; names its log. */
export class NotReadyError extends Error {
  override readonly name = 'NotReadyError';
}

interface Member {
  readonly spec: ProcessSpec;
  process: RunningProcess | null;
  state: ProcessState;
  restarts: number;
  since: Date;
  lastExit: string | null;
  stopping: boolean;
  finished: Promise<void>;
}

/** Starts processes in order, starts again what dies, and ends all of them in the reverse order. */
export class Supervisor {
  private readonly members: Member[] = [];

  constructor(private readonly options: { readonly onChange: (statuses: readonly ProcessStatus[]) => void; readonly say: (line: string) => void }) {}

  status(): ProcessStatus[] {
    return this.members.map((member) => ({
      name: member.spec.name, pid: member.process?.pid ?? null, state: member.state, restarts: member.restarts, since: member.since.toISOString(), last_exit: member.lastExit,
    }));
  }

  /** Starts `spec` and returns when it is ready; from then on it is kept alive. @throws {NotReadyError} after `withinMs` */
  async add(spec: ProcessSpec, withinMs: number): Promise<void> {
    const member: Member = { spec, process: null, state: 'starting', restarts: 0, since: new Date(), lastExit: null, stopping: false, finished: Promise.resolve() };
    this.members.push(member);
    member.process = await spec.start();
    this.changed();
    member.finished = this.keep(member, member.process);
    const deadline = Date.now() + withinMs;
    while (!(await spec.ready())) {
      if (Date.now() > deadline) throw new NotReadyError(`${spec.name} did not become ready within ${Math.round(withinMs / 1000)} s${member.lastExit ? ` (it ${member.lastExit})` : ''}`);
      if (member.stopping) return;
      await delay(50);
    }
    this.set(member, 'running');
  }

  /** Ends everything, last started first. */
  async stop(graceMs: number): Promise<void> {
    for (const member of this.members) member.stopping = true;
    for (const member of [...this.members].reverse()) {
      await member.process?.stop(graceMs);
      this.set(member, 'stopped');
      await member.finished;
    }
  }

  private async keep(member: Member, first: RunningProcess): Promise<void> {
    let running = first;
    let backoff: number | null = null;
    for (;;) {
      const began = Date.now();
      const how = await running.exited;
      member.lastExit = how;
      member.process = null;
      if (member.stopping) return;
      backoff = nextBackoff(backoff, Date.now() - began);
      this.set(member, 'waiting to restart');
      this.options.say(`${member.spec.name} ${how}; starting it again in ${(backoff / 1000).toFixed(2)} s`);
      const next = await this.startAgain(member, backoff);
      if (next === null) return;
      running = next;
    }
  }

  private async startAgain(member: Member, firstWaitMs: number): Promise<RunningProcess | null> {
    for (let wait = firstWaitMs; ; wait = nextBackoff(wait, 0)) {
      const until = Date.now() + wait;
      while (Date.now() < until && !member.stopping) await delay(50);
      if (member.stopping) return null;
      try {
        member.restarts++;
        const running = await member.spec.start();
        member.process = running;
        if (member.stopping) {
          await running.stop(5_000);
          return null;
        }
        this.set(member, 'starting');
        void this.markReady(member, running);
        return running;
      } catch (error) {
        member.lastExit = `could not be started: ${error instanceof Error ? error.message : String(error)}`;
        this.options.say(`${member.spec.name} ${member.lastExit}`);
        this.changed();
      }
    }
  }

  private async markReady(member: Member, running: RunningProcess): Promise<void> {
    while (member.process === running && !member.stopping) {
      if (await member.spec.ready()) {
        if (member.process === running) this.set(member, 'running');
        return;
      }
      await delay(100);
    }
  }

  private set(member: Member, state: ProcessState): void {
    if (member.state === state) return;
    member.state = state;
    member.since = new Date();
    this.changed();
  }

  private changed(): void {
    this.options.onChange(this.status());
  }
}

/** Runs `node ENTRY` with its output appended to a log; in a group of its own, so that Ctrl-C reaches the supervisor alone. */
export async function startNode(options: { readonly entry: string; readonly args?: readonly string[]; readonly env: NodeJS.ProcessEnv; readonly logFile: string; readonly cwd: string }): Promise<RunningProcess> {
  await mkdir(dirname(options.logFile), { recursive: true });
  const log = await open(options.logFile, 'a');
  const child = spawn(process.execPath, ['--enable-source-maps', options.entry, ...(options.args ?? [])], { cwd: options.cwd, env: options.env, stdio: ['ignore', log.fd, log.fd], detached: true });
  await log.close();
  const exited = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal ? `was ended by ${signal}` : `ended with code ${code}`));
    child.once('error', (error) => resolve(`could not be started: ${error.message}`));
  });
  return {
    pid: child.pid ?? 0,
    exited,
    async stop(graceMs) {
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
      await exited;
      clearTimeout(timer);
    },
  };
}
