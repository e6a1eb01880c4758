import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { ManagedProcess, ProcessEndedError, freePort, removeDirectory, temporaryDirectory } from './processes.js';
import { WaitTimeoutError, waitFor } from './wait.js';

/** Gone, or a zombie that nobody has collected yet. */
async function isGone(pid: number): Promise<boolean> {
  try {
    return /^State:\s*Z/m.test(await readFile(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
}

describe('a managed process', () => {
  let directory: string;
  const running: ManagedProcess[] = [];
  beforeAll(async () => {
    directory = await temporaryDirectory('processes');
  });
  afterAll(async () => {
    await Promise.all(running.map((one) => one.kill()));
    await removeDirectory(directory);
  });
  const shell = (name: string, script: string) => {
    const managed = new ManagedProcess({ name, command: '/bin/sh', args: ['-c', script], cwd: directory, logFile: join(directory, `${name}.log`) });
    running.push(managed);
    return managed;
  };

  it('says how it ended and what it said last', async () => {
    const managed = shell('short', 'echo no such luck; exit 3');
    await managed.start();
    await waitFor('its end', () => !managed.running);
    await expect(managed.assertRunning()).rejects.toThrow(ProcessEndedError);
    await expect(managed.assertRunning()).rejects.toThrow(/exit code 3[^]*no such luck/);
  });

  it('ends in good order, also while it is paused', async () => {
    const managed = shell('orderly', `trap 'echo in order; exit 0' TERM; echo up; while :; do sleep 0.05; done`);
    await managed.start();
    await waitFor('it to be up', async () => (await managed.logTail()) === 'up');
    managed.pause();
    await managed.stop();
    expect(managed.running).toBe(false);
    expect(await managed.logTail()).toMatch(/in order$/);
  });

  it('is ended by force when it does not end by itself', async () => {
    const managed = shell('stubborn', `trap '' TERM; echo up; while :; do sleep 0.05; done`);
    await managed.start();
    await waitFor('it to be up', async () => (await managed.logTail()) === 'up');
    const { pid } = managed;
    await managed.stop(200);
    expect(managed.running).toBe(false);
    expect(await isGone(pid ?? 0)).toBe(true);
  });

  it('cannot be started without its program', async () => {
    const managed = new ManagedProcess({ name: 'absent', command: join(directory, 'absent'), args: [], cwd: directory, logFile: join(directory, 'absent.log') });
    await expect(managed.start()).rejects.toThrow(/absent could not be started.*ENOENT/);
  });

  it('does not outlive a test process that is killed, nor does its folder', async () => {
    const program = `
      import { ManagedProcess, temporaryDirectory } from ${JSON.stringify(fileURLToPath(new URL('./processes.ts', import.meta.url)))};
      const directory = await temporaryDirectory('orphan');
      const start = async (name) => {
        const managed = new ManagedProcess({ name, command: '/bin/sleep', args: ['600'], cwd: directory, logFile: directory + '/log' });
        await managed.start();
        return managed;
      };
      const ended = await start('ended'), running = await start('running'), paused = await start('paused');
      await ended.kill();
      paused.pause();
      console.log(JSON.stringify({ directory, pids: [running.pid, paused.pid] }));
      setInterval(() => undefined, 1000);
    `;
    const child = spawn(process.execPath, ['--no-warnings', '--experimental-transform-types', '--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      const line = await new Promise<string>((resolve) => createInterface({ input: child.stdout }).once('line', resolve));
      const started = JSON.parse(line) as { directory: string; pids: number[] };
      expect(await Promise.all(started.pids.map(isGone))).toEqual([false, false]);
      expect(existsSync(started.directory)).toBe(true);
      child.kill('SIGKILL');
      await waitFor('the processes to be gone', async () => (await Promise.all(started.pids.map(isGone))).every(Boolean));
      await waitFor('the folder to be gone', () => !existsSync(started.directory));
    } finally {
      child.kill('SIGKILL');
    }
  });
});

describe('waiting', () => {
  it('names what did not come about, and why', async () => {
    await expect(waitFor('the moon', () => false, { timeoutMs: 20, intervalMs: 5 })).rejects.toThrow(WaitTimeoutError);
    const failing = () => {
      throw new Error('clouds');
    };
    await expect(waitFor('the moon', failing, { timeoutMs: 20, intervalMs: 5 })).rejects.toThrow(/20 ms in vain for the moon.*clouds/);
  });

  it('gives up at once when what is waited for can no longer come', async () => {
    const dead = () => {
      throw new Error('dead');
    };
    await expect(waitFor('an answer', () => false, { timeoutMs: 60_000, alive: dead })).rejects.toThrow(/^dead$/);
  });
});

describe('free ports', () => {
  it('are no client ports, differ, and are free', async () => {
    const ports = await Promise.all(Array.from({ length: 20 }, freePort));
    expect(new Set(ports).size).toBe(20);
    expect(Math.max(...ports)).toBeLessThan(32_768);
    const server = createServer();
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(ports[0], '127.0.0.1', resolve));
    await new Promise((resolve) => server.close(resolve));
  });
});
