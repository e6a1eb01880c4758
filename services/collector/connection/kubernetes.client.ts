import { Agent as HttpAgent, request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import type { ClusterAccess } from './cluster-access.client.js';
import { TokenBucket } from './rate-limit.js';

export type Verb = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

export interface CallOptions {
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** Of the body; default application/json. */
  readonly contentType?: string;
  readonly accept?: string;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Waking what sleeps does not queue behind reading: it passes by the rate limit. So does what is paced elsewhere. */
  readonly urgent?: boolean;
}

/** The API server refused: HTTP status and the reason it gave (`Forbidden`, `NotFound`, `Conflict`, `AlreadyExists`, `Expired`). */
export class KubernetesApiError extends Error {
  override readonly name = 'KubernetesApiError';
  constructor(readonly status: number, readonly reason: string, readonly verb: string, readonly path: string, message: string) {
    super(`${verb} ${path}: ${status} ${reason}${message === '' ? '' : `: ${message}`}`);
  }
}

/** The API server did not answer: refused, reset, timed out, or its certificate is not trusted. */
export class KubernetesUnreachableError extends Error {
  override readonly name = 'KubernetesUnreachableError';
  constructor(server: string, cause: Error & { code?: string }) {
    super(`${server} does not answer (${cause.code ?? cause.message})`, { cause });
  }
}

/** One call that was made, for our own account of them. */
export interface CallCount {
  readonly verb: string;
  readonly resource: string;
  readonly status: string;
  calls: number;
}

const CALL_TIMEOUT_MS = 30_000;
/** Tries of a call that the server put off (429, or 503 with a time to come back). */
const PUT_OFF_TRIES = 4;
const LONGEST_PUT_OFF_MS = 10_000;
/** Client-side limit; watches and log streams count once. */
const CALLS_PER_SECOND = 20;
const CALLS_BURST = 60;
/** Answers that explain a refusal are read up to this many characters. */
const LONGEST_MESSAGE = 300;

/** Speaks to the API server: JSON calls and streams, rate limited, counted. One instance a process. */
export class KubernetesClient {
  private readonly agent: HttpAgent | HttpsAgent;
  private readonly send: typeof httpsRequest;
  private readonly base: URL;
  private readonly bucket = new TokenBucket(CALLS_PER_SECOND, CALLS_BURST, Date.now());
  private readonly counts = new Map<string, CallCount>();

  constructor(private readonly access: ClusterAccess) {
    this.base = new URL(access.server);
    const secure = this.base.protocol === 'https:';
    const pooled = { keepAlive: true, maxFreeSockets: 4, keepAliveMsecs: 15_000 };
    this.agent = secure ? new HttpsAgent({ ...pooled, ...access.tls }) : new HttpAgent(pooled);
    this.send = secure ? httpsRequest : (httpRequest as typeof httpsRequest);
  }

  get server(): string {
    return this.access.server;
  }

  /** The header that proves who we are: kubelets take the same token. */
  authorization(): Promise<string | null> {
    return this.access.authorization();
  }

  /** Our own calls by verb, resource and status. */
  callCounts(): Iterable<CallCount> {
    return this.counts.values();
  }

  /** @returns the parsed answer. @throws {KubernetesApiError | KubernetesUnreachableError} */
  async call<T = unknown>(verb: Verb, path: string, options: CallOptions = {}): Promise<T> {
    const text = await this.text(verb, path, options);
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }

  get<T = unknown>(path: string, query: Readonly<Record<string, string>> = {}, options: CallOptions = {}): Promise<T> {
    return this.call<T>('GET', path, { ...options, query });
  }

  /** The answer as text. @throws {KubernetesApiError | KubernetesUnreachableError} */
  async text(verb: Verb, path: string, options: CallOptions = {}): Promise<string> {
    const timeout = AbortSignal.timeout(options.timeoutMs ?? CALL_TIMEOUT_MS);
    const signal = options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout]);
    const response = await this.open(verb, path, { ...options, signal });
    return this.read(response);
  }

  /**
   * Opens a request and returns its answer to read from (watches, logs that are followed); any status but 2xx is thrown.
   * @throws {KubernetesApiError | KubernetesUnreachableError}
   */
  async open(verb: Verb, path: string, options: CallOptions = {}): Promise<IncomingMessage> {
    for (let tries = 1; ; tries++) {
      if (!options.urgent) {
        const waitMs = this.bucket.take(Date.now());
        if (waitMs > 0) await delay(waitMs, undefined, { signal: options.signal });
      }
      const response = await this.sendOnce(verb, path, options);
      const status = response.statusCode ?? 0;
      this.count(verb, path, String(status));
      if (status >= 200 && status < 300) return response;
      const text = await this.read(response);
      const retryAfter = Number(response.headers['retry-after']);
      if ((status === 429 || (status === 503 && retryAfter > 0)) && tries < PUT_OFF_TRIES) {
        await delay(Math.min(LONGEST_PUT_OFF_MS, (retryAfter > 0 ? retryAfter : 1) * 1000), undefined, { signal: options.signal });
        continue;
      }
      throw refusal(verb, path, status, text);
    }
  }

  /** Ends idle connections. */
  close(): void {
    this.agent.destroy();
  }

  private async sendOnce(verb: Verb, path: string, options: CallOptions): Promise<IncomingMessage> {
    const authorization = await this.access.authorization();
    const body = options.body === undefined ? undefined : JSON.stringify(options.body);
    const search = options.query === undefined ? '' : `?${new URLSearchParams(options.query)}`;
    const request: RequestOptions = {
      method: verb,
      agent: this.agent,
      signal: options.signal,
      headers: {
        accept: options.accept ?? 'application/json',
        'user-agent': 'upid-collector',
        ...(authorization === null ? {} : { authorization }),
        ...(body === undefined ? {} : { 'content-type': options.contentType ?? 'application/json', 'content-length': Buffer.byteLength(body) }),
      },
    };
    return new Promise((resolve, reject) => {
      const outgoing = this.send(new URL(`${this.base.pathname.replace(/\/$/, '')}${path}${search}`, this.base), request, resolve);
      outgoing.once('error', (error: Error) => {
        this.count(verb, path, 'error');
        reject(new KubernetesUnreachableError(this.server, error));
      });
      outgoing.end(body);
    });
  }

  private async read(response: IncomingMessage): Promise<string> {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of response) chunks.push(chunk as Buffer);
    } catch (cause) {
      throw new KubernetesUnreachableError(this.server, cause as Error);
    }
    return Buffer.concat(chunks).toString('utf8');
  }

  private count(verb: string, path: string, status: string): void {
    const resource = resourceOf(path);
    const key = `${verb} ${resource} ${status}`;
    const known = this.counts.get(key);
    if (known) known.calls++;
    else this.counts.set(key, { verb, resource, status, calls: 1 });
  }
}

/** The resource (and subresource) that a path names, without names of objects: for counts. */
export function resourceOf(path: string): string {
  const [root, ...rest] = path.split('/').filter((part) => part !== '');
  const below = root === 'api' ? rest.slice(1) : root === 'apis' ? rest.slice(2) : null;
  if (below === null || below.length === 0) return 'discovery';
  const parts = below[0] === 'namespaces' && below.length > 2 ? below.slice(2) : below;
  return parts[2] === undefined ? (parts[0] ?? 'discovery') : `${parts[0]}/${parts[2]}`;
}

function refusal(verb: string, path: string, status: number, text: string): KubernetesApiError {
  let reason = `HTTP ${status}`;
  let message = '';
  try {
    const parsed = JSON.parse(text) as { reason?: unknown; message?: unknown };
    if (typeof parsed.reason === 'string' && parsed.reason !== '') reason = parsed.reason;
    if (typeof parsed.message === 'string') message = parsed.message.slice(0, LONGEST_MESSAGE);
  } catch {
    // Kubelets and proxies explain themselves in plain text.
    message = text.trim().split('\n')[0]?.slice(0, LONGEST_MESSAGE) ?? '';
  }
  return new KubernetesApiError(status, reason, verb, path, message);
}
