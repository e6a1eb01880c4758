/**
 * Processes that a test starts: each in a session of its own with its output in a file, ended by pid, and never outliving
 * the test. A watchdog (one small shell for each test process) holds the read end of a pipe; when the test process is gone,
 * however it went, the pipe closes and the watchdog kills what is left and removes the temporary folders.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** Lines on standard input: `watch PID`, `forget PID`, `remove DIRECTORY`. */
const WATCHDOG = `
trap '' HUP INT TERM
pids=' '
while read -r what value; do
  case $what in
    watch) pids="$pids$value " ;;
    forget) case $pids in *" $value "*) pids="\${pids%% $value *} \${pids#* $value }" ;; esac ;;
    remove) set -- "$@" "$value" ;;
  esac
done
for pid in $pids; do kill -KILL -- "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null; done
for pid in $pids; do
  tries=0
  while kill -0 "$pid" 2>/dev/null && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
done
[ $# -eq 0 ] || rm -rf -- "$@"
`;

let watchdog: ChildProcess | undefined;

function tellWatchdog(line: string): void {
  if (watchdog === undefined) {
    const child = spawn('/bin/sh', ['-c', WATCHDOG, 'upid-test-watchdog'], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
    child.unref();
    // The pipe stays open for as long as this process lives, without keeping it alive.
    const input = child.stdin as typeof child.stdin & { unref(): void };
    input.unref();
    watchdog = child;
  }
  watchdog.stdin?.write(`${line}\n`);
}

/** Has the process (and its group, when it leads one) killed if it is still there when this process ends. */
export function watchProcess(pid: number): void {
  tellWatchdog(`watch ${pid}`);
}

/** Takes back {@link watchProcess}: say it as soon as the process has ended, since its pid may be given to another. */
export function forgetProcess(pid: number): void {
  tellWatchdog(`forget ${pid}`);
}

/** A new temporary folder, removed at the latest when this process ends. Its path is short enough for Unix sockets in it. */
export async function temporaryDirectory(name: string): Promise<string> {
  const parent = tmpdir().length <= 40 ? tmpdir() : '/tmp';
  const directory = await mkdtemp(join(parent, `upid-${name}-`));
  tellWatchdog(`remove ${directory}`);
  return directory;
}

const portsGiven = new Set<number>();
/** Below the range that the system takes client ports from (32768 and up on Linux, 49152 elsewhere). */
const PORTS = { first: 12_000, count: 20_000 };

/**
 * A port of 127.0.0.1 that nothing listens on, never given twice by this process. It is not one of the system's ephemeral
 * ports: while a server is down in a crash test, a client that keeps connecting could otherwise be given the server's port
 * as its own, connect to itself and keep the server from coming back.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 200; tries++) {
    const port = PORTS.first + Math.floor(Math.random() * PORTS.count);
    if (portsGiven.has(port) || !(await canListen(port))) continue;
    portsGiven.add(port);
    return port;
  }
  throw new Error('No free port was found on 127.0.0.1.');
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** What a {@link ManagedProcess} runs. */
export interface ProcessDescription {
  /** What it is called in messages and in the name of its log file. */
  name: string;
  command: string;
  args: readonly string[];
  /** Added to this process's environment. */
  env?: Readonly<Record<string, string>>;
  cwd: string;
  /** Standard output and standard error are appended to it. */
  logFile: string;
  /** Signal that ends it in good order; default SIGTERM. */
  stopSignal?: NodeJS.Signals;
  /** Run as this user, where this process may change to it. */
  uid?: number;
  gid?: number;
  /** How often it is started again when it ends by itself; default never. For programs that are not under test and fall now and then. */
  revivals?: number;
  /** Done before each start, also by itself ({@link revivals}); what it throws is thrown by the start. */
  beforeStart?: () => Promise<void>;
}

const REVIVED_AFTER_MS = 100;

/** A process ended although nobody asked it to. */
export class ProcessEndedError extends Error {
  constructor(readonly processName: string, readonly end: string, readonly logTail: string) {
    super(`${processName} ended (${end}). The end of its log:\n${logTail}`);
    this.name = 'ProcessEndedError';
  }
}

/** One server process that can be stopped, killed, hung and started again on the same command line. */
export class ManagedProcess {
  /** How often it was started again because it had ended by itself. */
  revived = 0;
  #wanted = false;
  #child: ChildProcess | undefined;
  #end: { promise: Promise<void>; how?: string } | undefined;

  constructor(readonly description: ProcessDescription) {}

  get name(): string {
    return this.description.name;
  }

  /** The pid while it runs. */
  get pid(): number | undefined {
    return this.running ? this.#child?.pid : undefined;
  }

  get running(): boolean {
    return this.#child !== undefined && this.#end?.how === undefined;
  }

  /** Resolves when the process has been created, which is before it serves anything. */
  async start(): Promise<void> {
    if (this.running) return;
    this.#wanted = true;
    const { command, args, env, cwd, logFile, uid, gid, beforeStart } = this.description;
    if (beforeStart !== undefined) {
      await beforeStart();
      // Meanwhile another may have started it, or ended it.
      if (this.running || !this.#wanted) return;
    }
    const log = openSync(logFile, 'a');
    const child = spawn(command, args, { cwd, detached: true, stdio: ['ignore', log, log], env: { ...process.env, ...env }, uid, gid });
    closeSync(log);
    const end: { promise: Promise<void>; how?: string } = { promise: Promise.resolve() };
    // 'exit' comes when the last thread is gone, so what the process held (ports, files) is free then.
    end.promise = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        end.how = signal ?? `exit code ${code}`;
        if (child.pid !== undefined) forgetProcess(child.pid);
        resolve();
        // Whoever asks whether it runs is told (assertRunning).
        this.#revive().catch((error: unknown) => { end.how = `${end.how}, and could not be started again: ${String(error)}`; });
      });
      child.once('error', (error) => {
        end.how ??= error.message;
        resolve();
      });
    });
    this.#child = child;
    this.#end = end;
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (cause) => reject(new Error(`${this.name} could not be started: ${cause.message}`, { cause })));
    });
    if (child.pid !== undefined) watchProcess(child.pid);
    child.unref();
  }

  /** Ends it in good order, by force after `patienceMs`. */
  async stop(patienceMs = 20_000): Promise<void> {
    this.#wanted = false;
    const end = this.#end;
    if (end === undefined || !this.running) return;
    this.#signal(this.description.stopSignal ?? 'SIGTERM');
    this.#signal('SIGCONT'); // a paused process would not see the first
    this.#child?.ref();
    const ended = await Promise.race([end.promise.then(() => true), delay(patienceMs, false, { ref: false })]);
    if (!ended) await this.kill();
  }

  /** Ends it with SIGKILL, as a crash would. */
  async kill(): Promise<void> {
    this.#wanted = false;
    if (!this.running) return;
    this.#child?.ref();
    this.#signal('SIGKILL');
    await this.#end?.promise;
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async #revive(): Promise<void> {
    if (!this.#wanted || this.revived >= (this.description.revivals ?? 0)) return;
    await delay(REVIVED_AFTER_MS, undefined, { ref: false });
    if (!this.#wanted) return;
    this.revived++;
    await this.start();
  }

  /** Stops it from running (SIGSTOP): it accepts connections and never answers. */
  pause(): void {
    this.#signal('SIGSTOP');
  }

  /** Takes back {@link pause}. */
  resume(): void {
    this.#signal('SIGCONT');
  }

  /** Throws {@link ProcessEndedError} when it no longer runs: for loops that wait until it serves. */
  async assertRunning(): Promise<void> {
    if (!this.running) throw new ProcessEndedError(this.name, this.#end?.how ?? 'never started', await this.logTail());
  }

  /** The end of its log. */
  async logTail(maxBytes = 4_000): Promise<string> {
    const text = await readTail(this.description.logFile, maxBytes);
    return text.trimEnd();
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.running && this.#child?.pid !== undefined) this.#child.kill(signal);
  }
}

async function readTail(path: string, maxBytes: number): Promise<string> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const length = Math.min(size, maxBytes);
    const { buffer } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.toString('utf8');
  } finally {
    await file.close();
  }
}

/** Removes a folder of {@link temporaryDirectory} before this process ends. */
export async function removeDirectory(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}
