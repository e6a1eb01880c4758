import { setMaxListeners } from 'node:events';
import { Leadership, LeadershipLostError, type LeaseApi } from './leadership.service.js';

const log = { info: () => undefined, warn: () => undefined };
class HttpError extends Error {
  constructor(readonly status: number) {
    super(`HTTP ${status}`);
  }
}

/** A lease as the API server keeps it, with versions that conflict. */
class LeaseServer implements LeaseApi {
  lease: { metadata: { resourceVersion: string }; spec: Record<string, unknown> } | null = null;
  status: number | null = null;
  private version = 0;
  private check(): void {
    if (this.status !== null) throw new HttpError(this.status);
  }
  async get<T>(): Promise<T> {
    this.check();
    if (this.lease === null) throw new HttpError(404);
    return structuredClone(this.lease) as T;
  }
  async call<T>(verb: 'POST' | 'PUT', _path: string, { body }: { body: unknown }): Promise<T> {
    this.check();
    const given = body as { metadata: { resourceVersion?: string }; spec: Record<string, unknown> };
    if (verb === 'POST' ? this.lease !== null : given.metadata.resourceVersion !== this.lease?.metadata.resourceVersion) throw new HttpError(409);
    this.lease = { metadata: { resourceVersion: String(++this.version) }, spec: given.spec };
    return undefined as T;
  }
}

/** An agent whose waiting makes the shared clock go on; its own waits are counted. */
function agent(server: LeaseServer, identity: string, waits = { left: Infinity, stop: new AbortController() }) {
  setMaxListeners(0, waits.stop.signal);
  const leadership = new Leadership(server, {
    namespace: 'upid-system', name: 'upid-agent', identity, log, durationSeconds: 15, now: () => now, delay: async (ms) => {
      now += ms;
      await new Promise((resolve) => { setImmediate(resolve); });
      if (--waits.left <= 0) waits.stop.abort();
    },
  });
  return { leadership, waits };
}

let now = Date.UTC(2026, 5, 1);

describe('the lease', () => {
  it('is held by one, and taken over when it runs out', async () => {
    const server = new LeaseServer();
    const first = agent(server, 'a');
    await first.leadership.acquire(first.waits.stop.signal);
    expect(first.leadership.state).toBe('leader');
    const second = agent(server, 'b', { left: 2, stop: new AbortController() });
    await second.leadership.acquire(second.waits.stop.signal);
    expect(second.leadership.state).toBe('waiting');
    // The first renews no more.
    const third = agent(server, 'b');
    await third.leadership.acquire(third.waits.stop.signal);
    expect([third.leadership.state, server.lease?.spec['holderIdentity'], server.lease?.spec['leaseTransitions']]).toEqual(['leader', 'b', 1]);
  });

  it('is given up by who sees another hold it, and by who ends', async () => {
    const server = new LeaseServer();
    const { leadership, waits } = agent(server, 'a');
    await leadership.acquire(waits.stop.signal);
    const keeping = leadership.keep(waits.stop.signal);
    (server.lease as { spec: Record<string, unknown> }).spec = { holderIdentity: 'b', renewTime: 'x', leaseDurationSeconds: 3_600 };
    await expect(keeping).rejects.toThrow(LeadershipLostError);
    const other = agent(new LeaseServer(), 'c');
    await other.leadership.acquire(other.waits.stop.signal);
    await other.leadership.release();
    expect(other.leadership.state).toBe('lost');
  });

  it('is at once free for another when it was given up, and at once ours again after a restart', async () => {
    const server = new LeaseServer();
    const first = agent(server, 'a');
    await first.leadership.acquire(first.waits.stop.signal);
    const again = agent(server, 'a', { left: 0, stop: new AbortController() });
    await again.leadership.acquire(again.waits.stop.signal);
    expect(again.leadership.state).toBe('leader');
    await again.leadership.release();
    const next = agent(server, 'b', { left: 0, stop: new AbortController() });
    await next.leadership.acquire(next.waits.stop.signal);
    expect(next.leadership.state).toBe('leader');
  });

  it('is kept while the API server is away: nobody else can take it then', async () => {
    const server = new LeaseServer();
    const { leadership, waits } = agent(server, 'a', { left: 20, stop: new AbortController() });
    await leadership.acquire(waits.stop.signal);
    server.status = 503;
    await leadership.keep(waits.stop.signal);
    expect(leadership.state).toBe('leader');
  });

  it('is done without where it may not be used or its namespace is missing', async () => {
    for (const status of [403, 404]) {
      const server = new LeaseServer();
      server.status = status;
      const { leadership, waits } = agent(server, 'a');
      await leadership.acquire(waits.stop.signal);
      expect(leadership.state).toBe('unguarded');
    }
  });
});
