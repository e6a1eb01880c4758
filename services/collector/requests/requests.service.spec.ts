import { Readable } from 'node:stream';
import { decodeRequestBatch } from '@upid/contracts';
import { InventoryState } from '../inventory/state.js';
import { RequestsService } from './requests.service.js';

const T = Date.UTC(2026, 5, 1, 12);
const MINUTE = T / 60_000;
const at = (ms: number) => new Date(ms).toISOString();
const settled = async () => { for (let i = 0; i < 20; i++) await new Promise((resolve) => { setImmediate(resolve); }); };

/** A line of ingress-nginx for a Service of namespace shop. */
function line(ms: number, service: string, { status = 200, path = '/', address = '10.1.0.9:8080' } = {}): string {
  const time = new Date(ms).toUTCString().slice(5, 25).replaceAll(' ', '/').replace(/\/(\d\d:)/, ':$1');
  return `203.0.113.7 - - [${time} +0000] "GET ${path} HTTP/1.1" ${status} 612 "-" "Mozilla/5.0" 421 0.012 [shop-${service}-80] [] ${address} 612 0.012 ${status} ${'0'.repeat(32)}`;
}

function setting() {
  const state = new InventoryState();
  const add = (resource: Parameters<InventoryState['upsert']>[0], object: object) => state.upsert(resource, object as never, T);
  const meta = (name: string, more: object = {}) => ({ name, namespace: 'shop', uid: `uid-${name}`, creationTimestamp: at(T - 7_200_000), ...more });
  for (const name of ['web', 'api']) {
    add('deployments', { metadata: meta(name), spec: { replicas: 1, template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: 'app' }] } } } });
    add('services', { metadata: { ...meta(name), uid: `svc-${name}` }, spec: { selector: { app: name }, ports: [{ port: 80 }] } });
    add('ingresses', { metadata: { ...meta(name), uid: `ing-${name}` }, spec: { ingressClassName: 'nginx', defaultBackend: { service: { name } } } });
  }
  const controller = (name: string, createdAtMs = T - 3_600_000) => add('pods', {
    metadata: { name, namespace: 'ingress-nginx', uid: `pod-${name}`, labels: { 'app.kubernetes.io/name': 'ingress-nginx' }, creationTimestamp: at(createdAtMs) }, spec: { containers: [{ name: 'controller' }] }, status: { phase: 'Running' },
  });
  controller('c1');
  const logs = new Map<string, { lines: [number, string][]; streams: Readable[]; away: boolean }>();
  const logOf = (name: string) => {
    let log = logs.get(name);
    if (log === undefined) logs.set(name, (log = { lines: [], streams: [], away: false }));
    return log;
  };
  const memory: { state: unknown } = { state: null };
  const clock = { nowMs: T };
  const start = () => {
    const rows: { workload: string; minute: number; covered: number; business: number; errors: number }[] = [];
    const gaps: string[] = [];
    const asked: string[] = [];
    const stop = new AbortController();
    const service = new RequestsService({
      text: async (_verb, path) => {
        const log = logOf(path.split('/')[6] ?? '');
        if (log.away) throw new Error('ECONNREFUSED');
        return `${at(log.lines.at(-1)?.[0] ?? T - 3_600_000)} last line\n`;
      },
      open: async (_verb, path, { query }) => {
        const log = logOf(path.split('/')[6] ?? '');
        if (log.away) throw new Error('ECONNREFUSED');
        const stream = new Readable({ read: () => undefined });
        for (const [ms, text] of log.lines) if (ms >= Date.parse(query['sinceTime'] ?? '')) stream.push(`${at(ms)} ${text}\n`);
        log.streams.push(stream);
        return stream;
      },
    }, state, {
      publish: async (_kind, encode) => {
        const batch = decodeRequestBatch(encode({ epoch: new Uint8Array(16), sequence: 1 }));
        for (let i = 0; i < batch.row_minute.length; i++) {
          rows.push({ workload: batch.workloads[batch.row_workload[i] as number] ?? '', minute: batch.base_minute + (batch.row_minute[i] ?? 0) - MINUTE, covered: batch.covered_seconds[i] ?? 0, business: batch.business[i] ?? 0, errors: batch.status_5xx[i] ?? 0 });
        }
      },
      coverage: async ({ reason }) => { gaps.push(reason); },
    }, { readState: async () => memory.state, writeState: async (_, value) => { memory.state = structuredClone(value); } }, {
      namespace: 'ingress-nginx', selector: { 'app.kubernetes.io/name': 'ingress-nginx' }, acceptsClass: (name) => name === 'nginx', apiAnswers: async () => undefined, log: { info: () => undefined, warn: () => undefined }, now: () => clock.nowMs,
      delay: async (ms) => {
        await settled();
        if (ms === 500) clock.nowMs = Math.min(clock.nowMs + ms, target.ms);
        if (clock.nowMs >= target.ms) await target.reached();
      },
    });
    service.onBusiness(({ name }, ms) => asked.push(`${name}@${(ms - T) / 1_000}`));
    const target = { ms: T, reached: async () => { await settled(); } };
    const running = service.run(stop.signal);
    return {
      service, rows, gaps, asked,
      /** Lets the time go on to T + seconds, and what follows from it happen. */
      until: async (seconds: number) => {
        target.ms = T + seconds * 1_000;
        while (clock.nowMs < target.ms) await settled();
        await settled();
        await settled();
      },
      stop: async () => {
        stop.abort();
        for (const { streams } of logs.values()) for (const stream of streams) stream.push(null);
        await running;
      },
    };
  };
  return {
    state, clock, memory, start, controller, logOf,
    write: (name: string, ms: number, text: string) => {
      const log = logOf(name);
      log.lines.push([ms, text]);
      for (const stream of log.streams) if (!stream.destroyed) stream.push(`${at(ms)} ${text}\n`);
    },
  };
}

describe('requests by the minute', () => {
  it('are counted for the workload behind the Service, and silence is told of all behind an Ingress', async () => {
    const { start, write } = setting();
    const agent = start();
    await agent.until(10);
    write('c1', T + 5_000, line(T + 5_000, 'web'));
    write('c1', T + 6_000, line(T + 6_000, 'web', { status: 503, address: '-' }));
    write('c1', T + 7_000, line(T + 7_000, 'unknown'));
    await agent.until(65);
    expect(agent.rows).toEqual(expect.arrayContaining([{ workload: 'shop/Deployment/web', minute: 0, covered: 60, business: 2, errors: 1 }, { workload: 'shop/Deployment/api', minute: 0, covered: 60, business: 0, errors: 0 }]));
    expect(agent.asked).toEqual(['web@5', 'web@6']);
    expect(agent.service.counters.unresolved).toBe(1);
    await agent.until(125);
    expect(agent.rows.filter(({ minute }) => minute === 1).map(({ covered, business }) => [covered, business])).toEqual([[60, 0], [60, 0]]);
    await agent.stop();
  });

  it('are unknown while nobody watches, and lost is said since then', async () => {
    const { start, state } = setting();
    state.retain('pods', new Set(), T);
    const agent = start();
    await agent.until(200);
    expect(agent.rows).toEqual([]);
    expect(agent.service.lostSinceMs()).toBe(T);
    await agent.stop();
  });

  it('wait for a stream that is lost, and are read from the log when it is back', async () => {
    const { start, write, logOf } = setting();
    const agent = start();
    await agent.until(10);
    logOf('c1').away = true;
    for (const stream of logOf('c1').streams) stream.destroy(new Error('ECONNRESET'));
    await agent.until(130);
    expect(agent.rows).toEqual([]);
    expect(agent.service.lostSinceMs()).toBe(T + 10_000);
    write('c1', T + 30_000, line(T + 30_000, 'web'));
    logOf('c1').away = false;
    await agent.until(150);
    expect(agent.service.lostSinceMs()).toBeNull();
    expect(agent.rows.find(({ workload, minute }) => workload.endsWith('web') && minute === 0)).toMatchObject({ business: 1, covered: 60 });
    expect(agent.rows.filter(({ minute }) => minute === 1)).toHaveLength(2);
    await agent.stop();
  });

  it('go out with what was covered where a stream stays lost', async () => {
    const { start, logOf } = setting();
    const agent = start();
    await agent.until(30);
    logOf('c1').away = true;
    for (const stream of logOf('c1').streams) stream.destroy(new Error('ECONNRESET'));
    await agent.until(700);
    const [first] = agent.rows.filter(({ minute }) => minute === 0);
    expect(first?.covered).toBeGreaterThan(25);
    expect(first?.covered).toBeLessThan(31);
    expect(agent.rows.filter(({ minute }) => minute > 0)).toEqual([]);
    await agent.stop();
  });

  it('are whole minutes again after a restart, and the same', async () => {
    const { start, write, memory, clock } = setting();
    const first = start();
    await first.until(10);
    write('c1', T + 11_000, line(T + 11_000, 'web'));
    write('c1', T + 61_000, line(T + 61_000, 'web'));
    await first.until(70);
    expect(first.rows.filter(({ minute }) => minute === 0)).toHaveLength(2);
    await first.stop();
    expect(memory.state).toMatchObject({ next_minute: MINUTE + 1 });
    write('c1', T + 80_000, line(T + 80_000, 'web'));
    clock.nowMs = T + 100_000;
    const second = start();
    await second.until(130);
    expect(second.rows.find(({ workload, minute }) => workload.endsWith('web') && minute === 1)).toMatchObject({ business: 2, covered: 60 });
    expect(second.rows.some(({ minute }) => minute === 0)).toBe(false);
    expect(second.gaps).toEqual([]);
    await second.stop();
  });

  it('need every controller\'s log', async () => {
    const { start, write, controller, logOf } = setting();
    controller('c2');
    logOf('c2').away = true;
    const agent = start();
    await agent.until(10);
    write('c1', T + 20_000, line(T + 20_000, 'web'));
    await agent.until(130);
    expect(agent.rows).toEqual([]);
    expect(agent.service.streams).toBe(1);
    logOf('c2').away = false;
    write('c2', T + 30_000, line(T + 30_000, 'web'));
    await agent.until(150);
    expect(agent.rows.find(({ workload, minute }) => workload.endsWith('web') && minute === 0)).toMatchObject({ business: 2, covered: 60 });
    await agent.stop();
  });
});
