import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nextBackoff, NotReadyError, type ProcessStatus, startNode, Supervisor } from './supervisor.js';

it('doubles the wait with each quick death and forgets after a healthy life', () => {
  const waits: number[] = [];
  let wait: number | null = null;
  for (let i = 0; i < 9; i++) waits.push((wait = nextBackoff(wait, 100)));
  expect(waits).toEqual([250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
  expect(nextBackoff(30_000, 60_000)).toBe(250);
});

describe('a supervisor', () => {
  let dir: string;
  beforeEach(async () => { dir = await mkdtemp(join(tmpdir(), 'upid-supervisor-')); });
  afterEach(async () => { await rm(dir, { recursive: true, force: true }); });

  async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
    for (const end = Date.now() + 10_000; !(await condition());) {
      if (Date.now() > end) throw new Error('the condition did not come true in 10 s');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  it('starts again what is killed, counts it, and ends all when told', async () => {
    const entry = join(dir, 'sleep.mjs');
    await writeFile(entry, `console.log('up'); setInterval(() => {}, 1000);`);
    let statuses: readonly ProcessStatus[] = [];
    const said: string[] = [];
    const supervisor = new Supervisor({ onChange: (now) => { statuses = now; }, say: (line) => said.push(line) });
    await supervisor.add({ name: 'sleeper', start: () => startNode({ entry, env: process.env, logFile: join(dir, 'logs', 'sleeper.log'), cwd: dir }), ready: async () => true }, 5_000);
    const first = statuses[0]?.pid as number;
    expect(statuses[0]).toMatchObject({ name: 'sleeper', state: 'running', restarts: 0, last_exit: null });
    process.kill(first, 'SIGKILL');
    await until(() => statuses[0]?.state === 'running' && statuses[0].restarts === 1);
    expect(statuses[0]?.pid).not.toBe(first);
    expect(statuses[0]?.last_exit).toBe('was ended by SIGKILL');
    expect(said.join()).toContain('starting it again');
    const second = statuses[0]?.pid as number;
    await until(async () => (await readFile(join(dir, 'logs', 'sleeper.log'), 'utf8')).includes('up'));
    await supervisor.stop(5_000);
    expect(() => process.kill(second, 0)).toThrow();
    expect(statuses[0]?.state).toBe('stopped');
  });

  it('says which process did not become ready', async () => {
    const entry = join(dir, 'end.mjs');
    await writeFile(entry, 'process.exit(3)');
    const supervisor = new Supervisor({ onChange: () => undefined, say: () => undefined });
    await expect(supervisor.add({ name: 'quitter', start: () => startNode({ entry, env: process.env, logFile: join(dir, 'q.log'), cwd: dir }), ready: async () => false }, 400)).rejects.toThrow(NotReadyError);
    await supervisor.stop(1_000);
  });
});
