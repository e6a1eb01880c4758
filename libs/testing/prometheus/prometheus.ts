/** A Prometheus with only its HTTP API, over series that are functions of time: for tests of what imports history. */
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../processes.js';
import { PromQlError, durationMs, parseSelector } from './promql-parser.js';
import { type Result, type SeriesDefinition, evaluate, select } from './promql.js';

export interface PrometheusOptions {
  series: readonly SeriesDefinition[];
  /** Default 60. */
  scrapeIntervalSeconds?: number;
  /** Only requests with this bearer token are answered. */
  token?: string;
  /** Points that one query may give, all series together; beyond it: 422 as from `--query.max-samples`. Default 50 million. */
  maxSamples?: number;
}

/** How the server misbehaves, for every query from now on. */
export interface PrometheusFault {
  delayMs?: number;
  status?: number;
  /** The connection is cut instead of an answer. */
  drop?: boolean;
  /** No answer ever comes. */
  hang?: boolean;
}

/** A query that came, and how many others were being answered then. */
export interface SeenQuery {
  path: string;
  parameters: Record<string, string>;
  atMs: number;
  concurrent: number;
}

/** As Prometheus refuses a range query: at most so many points a series. */
const MAX_POINTS = 11_000;

class BadRequest extends Error {
  constructor(message: string, readonly status = 400, readonly errorType = 'bad_data') {
    super(message);
  }
}

/** Starts the server on a free port of 127.0.0.1. */
export async function startPrometheus(options: PrometheusOptions): Promise<TestPrometheus> {
  const prometheus = new TestPrometheus(options);
  await prometheus.listen(await freePort());
  return prometheus;
}

/** A running server. Made by {@link startPrometheus}. */
export class TestPrometheus implements AsyncDisposable {
  /** Every query so far. */
  readonly queries: SeenQuery[] = [];
  series: readonly SeriesDefinition[];
  readonly #options: PrometheusOptions;
  readonly #server: Server;
  #fault: PrometheusFault | undefined;
  #running = 0;
  #port = 0;

  constructor(options: PrometheusOptions) {
    this.series = options.series;
    this.#options = options;
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => response.destroy(error instanceof Error ? error : new Error(String(error))));
    });
  }

  async listen(port: number, host = '127.0.0.1'): Promise<void> {
    this.#port = port;
    await new Promise<void>((resolve, reject) => this.#server.once('error', reject).listen(port, host, resolve));
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get port(): number {
    return this.#port;
  }

  /** Undefined ends the misbehaviour. */
  setFault(fault: PrometheusFault | undefined): void {
    this.#fault = fault;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const parameters = new URLSearchParams(request.method === 'POST' ? `${url.searchParams}&${body}` : url.searchParams);
    if (this.#options.token !== undefined && request.headers.authorization !== `Bearer ${this.#options.token}`) {
      response.writeHead(401, { 'www-authenticate': 'Bearer' }).end('Unauthorized\n');
      return;
    }
    if (url.pathname === '/-/healthy' || url.pathname === '/-/ready') {
      response.end('Prometheus Server is Ready.\n');
      return;
    }
    this.#running++;
    try {
      this.queries.push({ path: url.pathname, parameters: Object.fromEntries(parameters), atMs: Date.now(), concurrent: this.#running });
      const fault = this.#fault;
      if (fault?.delayMs !== undefined) await delay(fault.delayMs);
      if (fault?.hang) return;
      if (fault?.drop) response.destroy();
      else if (fault?.status !== undefined) response.writeHead(fault.status).end('fault\n');
      else this.#respond(url.pathname, parameters, response);
    } finally {
      this.#running--;
    }
  }

  #respond(path: string, parameters: URLSearchParams, response: ServerResponse): void {
    let status = 200;
    let answer: object;
    try {
      answer = { status: 'success', data: this.#data(path, parameters) };
    } catch (error) {
      if (!(error instanceof BadRequest) && !(error instanceof PromQlError)) throw error;
      status = error instanceof BadRequest ? error.status : 400;
      answer = { status: 'error', errorType: error instanceof BadRequest ? error.errorType : 'bad_data', error: error.message };
    }
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  }

  #data(path: string, parameters: URLSearchParams): unknown {
    if (path === '/api/v1/query_range') return this.#queryRange(parameters);
    if (path === '/api/v1/query') return this.#query(parameters);
    if (path === '/api/v1/labels') return [...new Set(this.#matching(parameters).flatMap(({ labels }) => ['__name__', ...Object.keys(labels)]))].sort();
    if (path === '/api/v1/series') return this.#matching(parameters).map(({ name, labels }) => ({ __name__: name, ...labels }));
    if (path === '/api/v1/status/buildinfo') return { version: '3.5.0', revision: '', branch: 'HEAD', buildUser: 'upid-test', buildDate: '', goVersion: '' };
    const label = /^\/api\/v1\/label\/([^/]+)\/values$/.exec(path)?.[1];
    if (label !== undefined) {
      const values = this.#matching(parameters).flatMap(({ name, labels }) => (label === '__name__' ? [name] : labels[label] ?? []));
      return [...new Set(values)].sort();
    }
    throw new BadRequest(`${path} is not served by the Prometheus for tests`, 404, 'not_found');
  }

  #matching(parameters: URLSearchParams): SeriesDefinition[] {
    const selectors = parameters.getAll('match[]').map(parseSelector);
    if (selectors.length === 0) return [...this.series];
    return [...new Set(selectors.flatMap(({ matchers }) => select(matchers, this.series)))];
  }

  #queryRange(parameters: URLSearchParams): object {
    const startMs = timeMs(parameters, 'start');
    const endMs = timeMs(parameters, 'end');
    const stepMs = stepOf(parameters.get('step') ?? '');
    if (endMs < startMs) throw new BadRequest('invalid parameter "end": end timestamp must not be before start time');
    const points = Math.floor((endMs - startMs) / stepMs) + 1;
    if (points > MAX_POINTS) throw new BadRequest('exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)');
    const steps = Array.from({ length: points }, (_, i) => startMs + i * stepMs);
    const result = this.#evaluate(parameters, steps);
    const series = result.type === 'vector' ? result.series : [{ labels: {}, values: result.values }];
    return {
      resultType: 'matrix',
      result: series.map(({ labels, values }) => ({ metric: labels, values: values.flatMap((value, i) => (value === null ? [] : [[(steps[i] ?? 0) / 1000, textOf(value)]])) })),
    };
  }

  #query(parameters: URLSearchParams): object {
    const atMs = parameters.has('time') ? timeMs(parameters, 'time') : Date.now();
    const result = this.#evaluate(parameters, [atMs]);
    if (result.type === 'scalar') return { resultType: 'scalar', result: [atMs / 1000, textOf(result.values[0] ?? NaN)] };
    return { resultType: 'vector', result: result.series.map(({ labels, values }) => ({ metric: labels, value: [atMs / 1000, textOf(values[0] ?? NaN)] })) };
  }

  #evaluate(parameters: URLSearchParams, steps: readonly number[]): Result {
    const query = parameters.get('query');
    if (query === null || query === '') throw new BadRequest('invalid parameter "query": unknown position: parse error: no expression found in input');
    const result = evaluate(query, steps, { series: this.series, scrapeIntervalSeconds: this.#options.scrapeIntervalSeconds ?? 60 });
    const samples = result.type === 'vector' ? result.series.length * steps.length : steps.length;
    if (samples > (this.#options.maxSamples ?? 50_000_000)) throw new BadRequest('query processing would load too many samples into memory in query execution', 422, 'execution');
    return result;
  }
}

function timeMs(parameters: URLSearchParams, name: string): number {
  const text = parameters.get(name) ?? '';
  const ms = /^\d+(\.\d+)?$/.test(text) ? Math.round(Number(text) * 1000) : Date.parse(text);
  if (Number.isNaN(ms)) throw new BadRequest(`invalid parameter "${name}": cannot parse "${text}" to a valid timestamp`);
  return ms;
}

function stepOf(text: string): number {
  const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : durationMs(text);
  if (ms === undefined) throw new BadRequest(`invalid parameter "step": cannot parse "${text}" to a valid duration`);
  if (ms <= 0) throw new BadRequest('invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer');
  return ms;
}

/** As Prometheus writes numbers. */
function textOf(value: number): string {
  if (Number.isFinite(value) || Number.isNaN(value)) return String(value);
  return value > 0 ? '+Inf' : '-Inf';
}
