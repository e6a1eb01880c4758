import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cache, freePort, startRedis } from '../index.js';

let dir: string;
beforeAll(async () => { dir = await mkdtemp(join(tmpdir(), 'upid-cache-')); });
afterAll(() => rm(dir, { recursive: true, force: true }));

async function until(condition: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 10_000; !condition();) {
    if (Date.now() > deadline) throw new Error(`${condition.toString()} did not come true`);
    await new Promise((resolve) => { setTimeout(resolve, 10); });
  }
}

describe('the cache', () => {
  it('keeps values by the thousand, with and without an end, apart from other services', async () => {
    const server = await startRedis({ dir });
    const cache = new Cache({ url: server.url, prefix: 'cost:' });
    const other = new Cache({ url: server.url, prefix: 'gateway:' });
    await until(() => cache.state === 'ready' && other.state === 'ready');
    const entries = Array.from({ length: 2_500 }, (_, i) => [`k${i}`, `v${i}`] as const);
    await cache.setMany(entries);
    expect(await cache.getMany(entries.map(([key]) => key))).toEqual(entries.map(([, value]) => value));
    expect(await other.get('k1')).toBeNull();
    await cache.setMany([['short', 'x']], 100);
    expect(await cache.get('short')).toBe('x');
    await cache.setFields('latest', entries, 60);
    expect(await cache.getFields('latest', ['k7', 'none'])).toEqual(['v7', null]);
    await cache.delete(['k1', 'k2']);
    expect(await cache.getMany(['k1', 'k2', 'k3'])).toEqual([null, null, 'v3']);
    expect([await cache.increment('limit', 1, 60), await cache.increment('limit', 2, 60)]).toEqual([1, 3]);
    await cache.close();
    await other.close();
    await server.stop();
  });

  it('is survived when it is away, and is back when the server is', async () => {
    const first = await startRedis({ dir });
    const cache = new Cache({ url: first.url, prefix: 'x:' });
    await until(() => cache.state === 'ready');
    await cache.set('a', '1');
    await first.kill();
    await until(() => cache.state === 'away');
    expect(await cache.get('a')).toBeNull();
    expect(await cache.getMany(['a', 'b'])).toEqual([null, null]);
    expect(await cache.getFields('h', ['a'])).toEqual([null]);
    await cache.set('a', '2');
    await cache.setMany([['b', '1']], 5);
    await cache.delete(['a']);
    expect(await cache.increment('n', 1, 5)).toBeNull();
    const second = await startRedis({ dir, port: first.port });
    await until(() => cache.state === 'ready');
    await cache.set('a', '3');
    expect(await cache.get('a')).toBe('3');
    await cache.close();
    await second.stop();
  });

  it('is off without a URL, and away where nothing ever listened', async () => {
    const off = new Cache({ url: null, prefix: 'x:' });
    await off.set('a', '1');
    expect([off.state, await off.get('a')]).toEqual(['off', null]);
    const never = new Cache({ url: `redis://127.0.0.1:${await freePort()}`, prefix: 'x:' });
    await never.set('a', '1');
    expect([never.state, await never.get('a')]).toEqual(['away', null]);
    await never.close();
  });
});
