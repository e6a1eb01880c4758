import { createMetrics, Health, registerGauges, serveHealth } from './health.js';

describe('health', () => {
  it('is ready when what is required is; failures and silence count as away', async () => {
    const health = new Health();
    health.register('bus', () => ({ ok: true, state: 'connected' }));
    health.register('cache', () => ({ ok: false, state: 'away', required: false }));
    expect((await health.ready()).ready).toBe(true);
    health.register('database', () => Promise.reject(new Error('refused')));
    expect(await health.ready()).toMatchObject({ ready: false, dependencies: { database: { ok: false, state: 'refused' }, cache: { state: 'away' } } });
    health.register('database', () => new Promise(() => undefined));
    expect((await health.ready()).dependencies.database).toEqual({ ok: false, state: 'says nothing for 3000 ms' });
  });

  it('is served with metrics that are asked for once a reading', async () => {
    const health = new Health();
    health.register('bus', () => ({ ok: false, state: 'reconnecting' }));
    const metrics = createMetrics('cost');
    let reads = 0;
    registerGauges(metrics, [{ name: 'upid_a', help: 'a', labels: ['of'] }, { name: 'upid_b', help: 'b' }], () => { reads++; return Promise.resolve([{ name: 'upid_a', labels: { of: 'x' }, value: 1 }, { name: 'upid_b', value: reads }]); });
    const server = await serveHealth({ service: 'cost', host: '127.0.0.1', port: 0, health, metrics });
    try {
      const ready = await fetch(`${server.url}/health/ready`);
      expect([ready.status, await ready.json()]).toEqual([503, { service: 'cost', ready: false, dependencies: { bus: { ok: false, state: 'reconnecting' } } }]);
      expect((await fetch(`${server.url}/health/live`)).status).toBe(200);
      expect((await fetch(`${server.url}/other`)).status).toBe(404);
      expect((await fetch(`${server.url}/metrics`, { method: 'POST' })).status).toBe(405);
      const text = await (await fetch(`${server.url}/metrics`)).text();
      expect(text).toContain('upid_a{of="x",service="cost"} 1');
      expect(text).toContain('upid_b{service="cost"} 1');
      await fetch(`${server.url}/metrics`);
      expect(reads).toBe(2);
    } finally {
      await server.close();
    }
  });
});
