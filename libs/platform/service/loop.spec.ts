import { createLogger } from '../logging/logging.js';
import { startLoop } from './loop.js';

const log = createLogger('test', { level: 'silent' });
async function until(condition: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 5_000; !condition();) {
    if (Date.now() > deadline) throw new Error(`${condition.toString()} did not come true`);
    await new Promise((resolve) => { setTimeout(resolve, 1); });
  }
}

describe('a loop', () => {
  it('goes on at once while there is more, then waits until woken', async () => {
    let left = 5;
    let steps = 0;
    const loop = startLoop({ name: 'x', intervalMs: 3_600_000, log }, async () => { steps++; await Promise.resolve(); return --left > 0; });
    await until(() => steps === 5);
    loop.wake();
    await until(() => steps === 6);
    await loop.stop();
    loop.wake();
    expect(steps).toBe(6);
  });

  it('does not miss a wake that comes while a step runs', async () => {
    let release: () => void = () => undefined;
    let steps = 0;
    const loop = startLoop({ name: 'x', intervalMs: 3_600_000, log }, async () => { steps++; await new Promise<void>((resolve) => { release = resolve; }); });
    await until(() => steps === 1);
    loop.wake();
    release();
    await until(() => steps === 2);
    release();
    await loop.stop();
  });

  it('outlives a step that fails, and ends after the step under way', async () => {
    let steps = 0;
    let ended = false;
    const loop = startLoop({ name: 'x', intervalMs: 1, log }, async (signal) => {
      if (++steps === 1) throw new Error('once');
      if (steps === 2) {
        await new Promise<void>((resolve) => { signal.addEventListener('abort', () => { setTimeout(() => { ended = true; resolve(); }, 20); }); });
      }
    });
    await until(() => steps === 2);
    await loop.stop();
    expect([steps, ended]).toEqual([2, true]);
  });
});
