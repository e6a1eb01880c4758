import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** A server that we started. */
export interface ServerHandle {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** Holds its data, its log and its password. */
  readonly dir: string;
  /** Resolves when the process has ended, whoever ended it. */
  readonly exited: Promise<void>;
  /** Ends it in order; returns when it is gone. */
  stop(): Promise<void>;
  /** Ends it with SIGKILL; returns when it is gone. */
  kill(): Promise<void>;
}

/** A server that ended or did not answer while it was started. The message holds the end of its log. */
export class ServerStartError extends Error {
  override readonly name = 'ServerStartError';
}

/** The port is taken by another program. */
export class PortInUseError extends Error {
  override readonly name = 'PortInUseError';
  constructor(readonly port: number) {
    super(`Port ${port} is in use by another program: give another one, or end that program.`);
  }
}

const portsGiven = new Set<number>();
/** Below the range that the system takes client ports from (32768 and up on Linux, 49152 elsewhere). */
const PORTS = { first: 12_000, count: 20_000 };

/**
 * A port that is free on 127.0.0.1 now, never given twice by this process. It is kept for a server that is started later, and again after it
 * died: so it is none of the system's ephemeral ports, which meanwhile any client's connection may be given.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 200; tries++) {
    const port = PORTS.first + randomInt(PORTS.count);
    if (portsGiven.has(port) || !(await canListen(port))) continue;
    portsGiven.add(port);
    return port;
  }
  throw new Error('no port is free on 127.0.0.1');
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}

/** `wished`, where it is free, or a free port for 0. @throws {PortInUseError} */
export async function choosePort(wished: number): Promise<number> {
  if (wished === 0) return freePort();
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error: NodeJS.ErrnoException) => reject(error.code === 'EADDRINUSE' ? new PortInUseError(wished) : error));
    probe.listen(wished, '127.0.0.1', () => probe.close(() => resolve(wished)));
  });
}

/** Whether something accepts connections on 127.0.0.1:port and, where `greeting` is given, begins to speak with it. */
export async function answers(port: number, greeting?: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    const end = (ok: boolean) => { socket.destroy(); resolve(ok); };
    socket.setTimeout(1_000, () => end(false));
    socket.once('error', () => end(false));
    socket.once('connect', () => { if (greeting === undefined) end(true); });
    socket.once('data', (data) => end(greeting === undefined || data.toString('latin1').startsWith(greeting)));
  });
}

export interface StartOptions {
  readonly program: string;
  readonly args: readonly string[];
  readonly logFile: string;
  readonly user?: { readonly uid: number; readonly gid: number };
  readonly stdin?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly ready: () => Promise<boolean>;
  readonly readyWithinMs?: number;
  readonly stopSignal: NodeJS.Signals;
}

/** A process under way: in a group of its own (Ctrl-C at the terminal is its starter's to handle), ended with its starter. */
export interface StartedProcess {
  readonly pid: number;
  readonly exited: Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
}

/** Starts a program with its output in `logFile` and waits until it is ready. @throws {ServerStartError} */
export async function startProcess(options: StartOptions): Promise<StartedProcess> {
  const log = openSync(options.logFile, 'a');
  let child: ChildProcess;
  try {
    child = spawn(options.program, options.args, {
      stdio: [options.stdin === undefined ? 'ignore' : 'pipe', log, log], detached: true, cwd: '/', ...options.user, ...(options.env ? { env: options.env } : {}),
    });
  } finally {
    closeSync(log);
  }
  const state: { ended: string | null } = { ended: null };
  const exited = new Promise<void>((resolve) => {
    child.once('exit', (code, signal) => { state.ended = signal ? `was ended by ${signal}` : `ended with code ${code}`; resolve(); });
    child.once('error', (error) => { state.ended = `could not be started: ${error.message}`; resolve(); });
  });
  if (options.stdin !== undefined) child.stdin?.end(options.stdin);
  const endWithStarter = () => { child.kill(options.stopSignal); };
  process.once('exit', endWithStarter);
  void exited.then(() => process.off('exit', endWithStarter));
  const end = async (signal: NodeJS.Signals) => {
    if (state.ended === null) child.kill(signal);
    await exited;
  };
  const deadline = Date.now() + (options.readyWithinMs ?? 30_000);
  while (!(await options.ready())) {
    if (state.ended !== null || Date.now() > deadline) {
      const why = state.ended ?? 'did not become ready in time';
      await end('SIGKILL');
      const tail = (await readFile(options.logFile, 'utf8').catch(() => '')).trimEnd().split('\n').slice(-8).join('\n');
      throw new ServerStartError(`${options.program} ${why}. The end of ${options.logFile}:\n${tail}`);
    }
    await delay(20);
  }
  return { pid: child.pid ?? 0, exited, stop: () => end(options.stopSignal), kill: () => end('SIGKILL') };
}
