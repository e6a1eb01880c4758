import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '@upid/platform';

const READY_WITHIN_MS = 60_000;

/** A service as it is shipped, in a process of its own: with its metrics, and its log in a file. */
export class ServiceProcess {
  private constructor(readonly name: string, readonly url: string, private readonly child: ChildProcess, private readonly logFile: string) {}

  /** Starts it; {@link ready} says when it serves. @param name also names the log's file in `dir` */
  static async start(service: string, dir: string, env: Readonly<Record<string, string>>, name = service): Promise<ServiceProcess> {
    const port = await freePort();
    const child = spawn(process.execPath, [join(import.meta.dirname, `../../services/${service}/dist/main.js`)], {
      env: { ...process.env, UPID_LOG_LEVEL: 'info', ...env, UPID_HEALTH_PORT: String(port) }, stdio: ['ignore', 'pipe', 'pipe'],
    });
    const logFile = join(dir, `${name}.log`);
    const file = createWriteStream(logFile);
    child.stdout.pipe(file, { end: false });
    child.stderr.pipe(file, { end: false });
    return new ServiceProcess(name, `http://127.0.0.1:${port}`, child, logFile);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  async ready(): Promise<void> {
    const deadline = Date.now() + READY_WITHIN_MS;
    while (!(await fetch(`${this.url}/health/ready`).then((answer) => answer.ok, () => false))) {
      await this.assertRunning();
      if (Date.now() > deadline) throw new Error(`${this.name} did not become ready; its log: ${await this.logTail()}`);
      await delay(100);
    }
  }

  async assertRunning(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) throw new Error(`${this.name} ended: ${await this.logTail()}`);
  }

  log(): Promise<string> {
    return readFile(this.logFile, 'utf8');
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => { this.child.once('exit', resolve); });
    if (this.child.exitCode === null && this.child.kill('SIGTERM')) await ended;
  }

  /** Counters and histograms of its Prometheus text, by name, or by name and bound as `name|le`. */
  async metrics(): Promise<Map<string, number>> {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    const values = new Map<string, number>();
    for (const line of text.split('\n')) {
      const found = /^([a-zA-Z_:]+)(?:\{([^}]*)\})? ([-+0-9.eE]+)$/.exec(line);
      if (!found) continue;
      const le = /le="([^"]+)"/.exec(found[2] ?? '')?.[1];
      values.set(le === undefined ? (found[1] as string) : `${found[1]}|${le}`, Number(found[3]));
    }
    return values;
  }

  private async logTail(): Promise<string> {
    return (await this.log()).slice(-2000);
  }
}
