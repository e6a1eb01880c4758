import { createServer, type Server } from 'node:http';
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';

export interface DependencyState {
  readonly ok: boolean;
  /** In a word or a sentence: `connected`, `away since 10:02`. */
  readonly state: string;
  /** Without a required one (the default) the service is not ready. */
  readonly required?: boolean;
}
export interface Readiness { readonly ready: boolean; readonly dependencies: Readonly<Record<string, DependencyState>> }
type Check = () => Promise<DependencyState> | DependencyState;

/** A check that says nothing for this long counts as failed. */
const CHECK_MS = 3_000;

/** What a service depends on, asked each time that somebody asks whether it is ready. */
export class Health {
  private readonly checks = new Map<string, Check>();

  /** A dependency by name; a second one of the same name replaces the first. */
  register(name: string, check: Check): void {
    this.checks.set(name, check);
  }

  async ready(): Promise<Readiness> {
    const states = await Promise.all([...this.checks].map(async ([name, check]) => [name, await answer(check)] as const));
    return { ready: states.every(([, state]) => state.ok || state.required === false), dependencies: Object.fromEntries(states) };
  }
}

async function answer(check: Check): Promise<DependencyState> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<DependencyState>((resolve) => { timer = setTimeout(() => resolve({ ok: false, state: `says nothing for ${CHECK_MS} ms` }), CHECK_MS); });
  try {
    return await Promise.race([Promise.resolve(check()), silence]);
  } catch (error) {
    return { ok: false, state: error instanceof Error ? error.message : String(error) };
  } finally {
    clearTimeout(timer);
  }
}

/** A registry of metrics in which every one carries the service's name; process metrics included. */
export function createMetrics(service: string): Registry {
  const registry = new Registry();
  registry.setDefaultLabels({ service });
  collectDefaultMetrics({ register: registry });
  return registry;
}

/** Gauges whose values are asked for when the metrics are read; what cannot be asked then is left out. */
export function registerGauges(registry: Registry, gauges: readonly { readonly name: string; readonly help: string; readonly labels?: readonly string[] }[], read: () => Promise<readonly { readonly name: string; readonly labels?: Readonly<Record<string, string>>; readonly value: number }[]>): void {
  let reading: ReturnType<typeof read> | null = null;
  // All gauges of one reading of the metrics share one question.
  const once = () => {
    reading ??= read().finally(() => setImmediate(() => { reading = null; }));
    return reading;
  };
  for (const { name, help, labels } of gauges) {
    new Gauge({
      name, help, labelNames: [...(labels ?? [])], registers: [registry],
      async collect() {
        this.reset();
        for (const each of await once()) if (each.name === name) this.set({ ...each.labels }, each.value);
      },
    });
  }
}

/** A counter in the registry. */
export function createCounter(registry: Registry, name: string, help: string, labels: readonly string[] = []): Counter {
  return new Counter({ name, help, labelNames: [...labels], registers: [registry] });
}

/** Serves `/health/live`, `/health/ready` (503 until ready, each dependency named) and `/metrics`. */
export async function serveHealth(options: { readonly service: string; readonly host: string; readonly port: number; readonly health: Health; readonly metrics: Registry }): Promise<{ readonly url: string; close(): Promise<void> }> {
  const server: Server = createServer((request, response) => {
    const json = (status: number, body: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
      response.end(JSON.stringify(body));
    };
    const path = (request.url ?? '').split('?')[0];
    if (request.method !== 'GET' && request.method !== 'HEAD') json(405, { error: 'only GET' });
    else if (path === '/health/live') json(200, { service: options.service, status: 'alive', uptime_seconds: Math.round(process.uptime()) });
    else if (path === '/health/ready') options.health.ready().then((state) => json(state.ready ? 200 : 503, { service: options.service, ...state }), (error: unknown) => json(500, { error: String(error) }));
    else if (path === '/metrics') {
      options.metrics.metrics().then((text) => {
        response.writeHead(200, { 'content-type': options.metrics.contentType });
        response.end(text);
      }, (error: unknown) => json(500, { error: String(error) }));
    } else json(404, { error: 'there are /health/live, /health/ready and /metrics' });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  });
  const address = server.address();
  const port = address !== null && typeof address === 'object' ? address.port : options.port;
  return {
    url: `http://${options.host === '0.0.0.0' ? '127.0.0.1' : options.host}:${port}`,
    close: () => new Promise((resolve, reject) => { server.close((error) => (error ? reject(error) : resolve())); server.closeAllConnections(); }),
  };
}
