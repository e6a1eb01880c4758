/**
 * The simulated nodes' kubelets, and the only way to them. Nodes have addresses out of 198.18.0.0/15 (RFC 2544: for benchmarks,
 * routed nowhere), since the API server refuses to reach nodes at loopback addresses; nobody dials them. Whoever wants a
 * kubelet asks this HTTP CONNECT proxy for it, and TLS ends here: the API server by its egress selector (over a Unix socket;
 * over TCP its HTTPConnect panics), metrics-server by HTTPS_PROXY, an agent under test by its own proxy setting.
 *
 * A kubelet here asks the API server who its caller is and what the caller may do (TokenReview, SubjectAccessReview), as a
 * kubelet with webhook authorization does; answers /metrics/resource, /stats/summary, /metrics/cadvisor from kwok's figures;
 * and leaves container logs to kwok.
 */
import { rm } from 'node:fs/promises';
import { Agent, type IncomingMessage, type ServerResponse, createServer, get as httpGet, request as httpRequest, type Server as HttpServer } from 'node:http';
import { type Server as HttpsServer, createServer as createHttpsServer, get as httpsGet } from 'node:https';
import { type AddressInfo, type Socket, connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { type TLSSocket, connect as connectTls } from 'node:tls';
import type { KubernetesApi, KubernetesObject, RawAnswer } from './api.js';
import { type KubeletNode, type KubeletPod, type NodeFigures, Totals, cadvisorMetrics, knows, nodeFigures, parseKwok, resourceMetrics, statsSummary } from './kubelet-figures.js';

/** How a kubelet misbehaves. */
export interface KubeletFault {
  /** Only requests whose path begins so; default all. */
  path?: string;
  /** Answers come this much later. */
  delayMs?: number;
  /** Answers have this status. */
  status?: number;
  /** Answers have this text, with status 200. */
  body?: string;
  /** The connection is cut instead of an answer. */
  drop?: boolean;
  /** No answer ever comes. */
  hang?: boolean;
}

export interface KubeletOptions {
  api: KubernetesApi;
  /** Where kwok serves, on 127.0.0.1. */
  kwokPort: number;
  /** Unix socket for the API server. */
  socketPath: string;
  /** The kubelets' serving certificate and key, and the CA that client certificates are signed by; PEM. */
  tls: { cert: string; key: string; ca: string };
  /** Starts kwok again where it runs and does not give its figures. */
  reviveKwok: (why: unknown) => Promise<void>;
  /** Makes sure that kwok has a log for the pod's container, before it is asked for one. */
  ensureLog: (namespace: string, pod: string, container: string) => Promise<void>;
}

interface Node extends KubernetesObject {
  status: { addresses?: { type: string; address: string }[]; capacity?: { memory?: string } };
}

/** Kubernetes' own answers are remembered for minutes by a kubelet; here so briefly that a test sees a change of roles at once. */
const DECISIONS_LAST_MS = 1_000;
/** A kubelet knows its pods by a watch; here they are asked for when the last answer is older than this. */
const OBJECTS_LAST_MS = 500;
/** kwok has its figures a moment after it was started; what it does not give for this long it will not give. */
const KWOK_PATIENCE_MS = 3_000;

export class Kubelets {
  readonly #options: KubeletOptions;
  readonly #servers = new Map<string, HttpsServer>();
  readonly #faults = new Map<string, KubeletFault>();
  readonly #routes = new Map<string, number>();
  readonly #sockets = new Set<Duplex>();
  readonly #kwok = new Agent({ keepAlive: true, maxSockets: 32 });
  readonly #totals = new Totals();
  readonly #nodes: Remembered<Map<string, KubeletNode>>;
  readonly #pods = new Map<string, Remembered<KubeletPod[]>>();
  readonly #decisions = new Map<string, { status: number; atMs: number }>();
  #proxies: HttpServer[] = [];

  constructor(options: KubeletOptions) {
    this.#options = options;
    this.#nodes = new Remembered(OBJECTS_LAST_MS, async () => {
      const nodes = await options.api.list<Node>('/api/v1/nodes', { resourceVersion: '0' });
      return new Map(nodes.flatMap((node) => (node.status.addresses ?? []).filter(({ type }) => type === 'InternalIP').map(({ address }) => [address, {
        name: node.metadata?.name ?? '',
        startedAtMs: Date.parse(node.metadata?.creationTimestamp ?? ''),
        memoryCapacityBytes: bytesOf(node.status.capacity?.memory ?? '0'),
      }])));
    });
  }

  /** Listens on the Unix socket and on a port of 127.0.0.1. */
  async start(port: number): Promise<void> {
    await rm(this.#options.socketPath, { force: true });
    for (const where of [{ port, host: '127.0.0.1' }, { path: this.#options.socketPath }]) {
      const proxy = createServer((_, response) => response.writeHead(405).end('This proxy answers CONNECT alone.\n'));
      proxy.on('connect', (request: IncomingMessage, socket: Duplex, head: Buffer) => void this.#connect(request.url ?? '', socket, head));
      await new Promise<void>((resolve, reject) => {
        proxy.once('error', reject);
        proxy.listen(where, resolve);
      });
      proxy.unref();
      this.#proxies.push(proxy);
    }
  }

  /** `http://127.0.0.1:port` of the CONNECT proxy. */
  get proxyUrl(): string {
    return `http://127.0.0.1:${(this.#proxies[0]?.address() as AddressInfo).port}`;
  }

  /** Makes one node's kubelet misbehave, or every node's (`*`), until taken back with undefined. */
  setFault(node: string, fault: KubeletFault | undefined): void {
    if (fault === undefined) this.#faults.delete(node);
    else this.#faults.set(node, fault);
  }

  clearFaults(): void {
    this.#faults.clear();
  }

  /** Leads connections to a pod's address (`10.244.0.7:9090`) to a server of the test on 127.0.0.1. */
  route(podAddress: string, port: number): void {
    this.#routes.set(podAddress, port);
  }

  async stop(): Promise<void> {
    for (const server of this.#servers.values()) server.closeAllConnections();
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(this.#proxies.map((proxy) => new Promise((resolve) => proxy.close(resolve))));
    this.#proxies = [];
    this.#kwok.destroy();
  }

  async #connect(target: string, socket: Duplex, head: Buffer): Promise<void> {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    const colon = target.lastIndexOf(':');
    const host = target.slice(0, colon).replace(/^\[|\]$/g, '');
    const local = this.#routes.get(target) ?? (/^(127\.|::1$|localhost$)/.test(host) ? Number(target.slice(colon + 1)) : undefined);
    if (local !== undefined) return joinTo(local, socket, head);
    let node: KubeletNode | undefined;
    try {
      node = (await this.#nodes.get((nodes) => nodes.has(host))).get(host);
    } catch (error) {
      socket.end(`HTTP/1.1 502 Bad Gateway\r\n\r\n${String(error)}\n`);
      return;
    }
    if (node === undefined) {
      socket.end('HTTP/1.1 403 Forbidden\r\n\r\nNo node has this address.\n');
      return;
    }
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    if (head.length > 0) socket.unshift(head);
    this.#server(node).emit('connection', socket);
  }

  /** Each node has a server of its own, which listens nowhere: connections are handed to it. */
  #server(node: KubeletNode): HttpsServer {
    const known = this.#servers.get(node.name);
    if (known !== undefined) return known;
    const server = createHttpsServer({ ...this.#options.tls, requestCert: true, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] }, (request, response) => {
      this.#answer(node, request, response).catch((error: unknown) => {
        if (response.headersSent) response.destroy();
        else response.writeHead(500).end(`${String(error)}\n`);
      });
    });
    server.on('tlsClientError', (_, socket: TLSSocket) => socket.destroy());
    server.keepAliveTimeout = 60_000;
    this.#servers.set(node.name, server);
    return server;
  }

  async #answer(node: KubeletNode, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? '/', 'https://kubelet').pathname;
    if (await this.#misbehaves(node, path, response)) return;
    const status = await this.#authorize(node, path, request);
    if (status !== 200) {
      response.writeHead(status).end(status === 401 ? 'Unauthorized\n' : `Forbidden (verb=${verbOf(request)}, resource=nodes, subresource=${subresourceOf(path)})\n`);
      return;
    }
    const text = { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' };
    // The figures first: where they cannot be had, that is the answer.
    if (path === '/metrics/resource' || path === '/metrics/cadvisor') {
      const figures = await this.#figures(node);
      response.writeHead(200, text).end(path === '/metrics/resource' ? resourceMetrics(figures) : cadvisorMetrics(figures));
    } else if (path === '/stats/summary') {
      const figures = await this.#figures(node);
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(statsSummary(figures)));
    } else if (path === '/healthz') response.writeHead(200, text).end('ok');
    else await this.#askKwok(node, path, request, response);
  }

  async #misbehaves(node: KubeletNode, path: string, response: ServerResponse): Promise<boolean> {
    const fault = [this.#faults.get(node.name), this.#faults.get('*')].find((one) => one !== undefined && path.startsWith(one.path ?? '/'));
    if (fault === undefined) return false;
    if (fault.delayMs !== undefined) await delay(fault.delayMs, undefined, { ref: false });
    if (fault.drop) response.destroy();
    else if (fault.status !== undefined) response.writeHead(fault.status).end('fault\n');
    else if (fault.body !== undefined) response.writeHead(200, { 'content-type': 'text/plain' }).end(fault.body);
    else return fault.hang ?? false;
    return true;
  }

  /** 200, 401 or 403, as the API server decides about a bearer token; a client certificate of system:masters may do all. */
  async #authorize(node: KubeletNode, path: string, request: IncomingMessage): Promise<number> {
    const socket = request.socket as TLSSocket;
    if (socket.authorized && [socket.getPeerCertificate().subject?.O ?? []].flat().includes('system:masters')) return 200;
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
    if (token === undefined) return 401;
    const subresource = subresourceOf(path);
    const key = JSON.stringify([token, node.name, verbOf(request), subresource]);
    const known = this.#decisions.get(key);
    if (known !== undefined && Date.now() - known.atMs < DECISIONS_LAST_MS) return known.status;
    const status = await this.#decide(token, node.name, verbOf(request), subresource);
    this.#decisions.set(key, { status, atMs: Date.now() });
    return status;
  }

  async #decide(token: string, node: string, verb: string, subresource: string): Promise<number> {
    type TokenReview = { status: { authenticated?: boolean; user?: { username: string; uid?: string; groups?: string[]; extra?: Record<string, string[]> } } };
    const review = await this.#options.api.call<TokenReview>('POST', '/apis/authentication.k8s.io/v1/tokenreviews', {
      apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token },
    });
    if (review.status.authenticated !== true || review.status.user === undefined) return 401;
    const { username: user, uid, groups, extra } = review.status.user;
    // The narrow subresource first, then nodes/proxy, which holds all of them (KEP-2862).
    for (const name of new Set([subresource, 'proxy'])) {
      const access = await this.#options.api.call<{ status: { allowed: boolean } }>('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', {
        apiVersion: 'authorization.k8s.io/v1', kind: 'SubjectAccessReview',
        spec: { user, uid, groups, extra, resourceAttributes: { verb, resource: 'nodes', subresource: name, name: node, version: 'v1' } },
      });
      if (access.status.allowed) return 200;
      // Metrics, stats and logs have been subresources of their own from the start: proxy does not stand in for them.
      if (['metrics', 'stats', 'log', 'spec', 'checkpoint'].includes(name)) break;
    }
    return 403;
  }

  async #figures(node: KubeletNode): Promise<NodeFigures> {
    const pods = (await this.#podsOf(node)).filter(({ status }) => status?.phase === 'Running');
    let kwok = parseKwok(await this.#kwokFigures(node));
    // kwok begins to learn of its pods when it is first asked, so its first answers lack them; a kubelet knows its pods.
    for (let tries = 0; tries < 20 && pods.some((pod) => !knows(kwok, pod)); tries++) {
      await delay(50, undefined, { ref: false });
      kwok = parseKwok(await this.#kwokFigures(node));
    }
    return nodeFigures(node, kwok, pods, this.#totals, Date.now());
  }

  async #kwokFigures(node: KubeletNode): Promise<string> {
    for (const sinceMs = Date.now(); ;) {
      try {
        return await this.#askFigures(node);
      } catch (error) {
        if (Date.now() - sinceMs > 2 * KWOK_PATIENCE_MS) throw error;
        if (Date.now() - sinceMs > KWOK_PATIENCE_MS) await this.#options.reviveKwok(error);
        await delay(100, undefined, { ref: false });
      }
    }
  }

  #askFigures(node: KubeletNode): Promise<string> {
    return new Promise((resolve, reject) => {
      const request = httpGet({ host: '127.0.0.1', port: this.#options.kwokPort, path: `/metrics/nodes/${node.name}/usage`, agent: this.#kwok, timeout: KWOK_PATIENCE_MS }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.once('error', reject);
        response.once('end', () => (response.statusCode === 200 ? resolve(text) : reject(new Error(`kwok answered ${response.statusCode}: ${text}`))));
      });
      request.once('timeout', () => request.destroy(new Error('kwok does not answer')));
      request.once('error', reject);
    });
  }

  #podsOf(node: KubeletNode): Promise<KubeletPod[]> {
    let remembered = this.#pods.get(node.name);
    if (remembered === undefined) {
      remembered = new Remembered(OBJECTS_LAST_MS, () => this.#options.api.list<KubeletPod>('/api/v1/pods', { fieldSelector: `spec.nodeName=${node.name}`, resourceVersion: '0' }));
      this.#pods.set(node.name, remembered);
    }
    return remembered.get();
  }

  /** All other paths, container logs above all, are kwok's. */
  async #askKwok(node: KubeletNode, path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, , namespace, pod, container] = path.split('/').map(decodeURIComponent);
    const isLog = path.startsWith('/containerLogs/') && namespace !== undefined && pod !== undefined && container !== undefined;
    if (isLog) await this.#options.ensureLog(namespace, pod, container);
    const upstream = httpRequest({ host: '127.0.0.1', port: this.#options.kwokPort, path: request.url, method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      response.flushHeaders();
      answer.pipe(response);
      answer.once('error', () => response.destroy());
    });
    upstream.once('error', () => (response.headersSent ? response.destroy() : response.writeHead(502).end('kwok does not answer\n')));
    response.once('close', () => upstream.destroy());
    request.pipe(upstream);
    if (isLog) this.#endWithPod(node, namespace, pod, upstream, response);
  }

  /** A kubelet ends the log of a pod that is gone; kwok would follow the file for ever. */
  #endWithPod(node: KubeletNode, namespace: string, pod: string, upstream: { destroy(): unknown }, response: ServerResponse): void {
    const timer = setInterval(() => {
      this.#podsOf(node).then((pods) => {
        if (pods.some(({ metadata }) => metadata?.name === pod && metadata.namespace === namespace)) return;
        response.end();
        upstream.destroy();
      }, () => undefined); // asked again in a second
    }, 1_000).unref();
    response.once('close', () => clearInterval(timer));
  }
}

/** One GET over HTTPS by way of a CONNECT proxy. @throws {Error} when the proxy refuses, or the server's certificate is not of the CA */
export async function getThroughProxy(proxyUrl: string, url: string, ca: string, token: string | null): Promise<RawAnswer> {
  const { hostname, host, pathname, search } = new URL(url);
  const proxy = new URL(proxyUrl);
  const tunnel = await new Promise<Socket>((resolve, reject) => {
    const request = httpRequest({ host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: host });
    request.once('connect', (answer, socket: Socket) => (answer.statusCode === 200 ? resolve(socket) : reject(new Error(`The proxy refuses ${host}: ${answer.statusCode} ${answer.statusMessage}`))));
    request.once('error', reject);
    request.end();
  });
  return new Promise((resolve, reject) => {
    const headers = token === null ? {} : { authorization: `Bearer ${token}` };
    // Without an agent the connection is this request's alone, and ends with it.
    const secure = connectTls({ socket: tunnel, host: hostname, ca });
    const request = httpsGet({ host: hostname, path: pathname + search, headers: { ...headers, connection: 'close' }, createConnection: () => secure }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.once('error', reject);
      response.once('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
    });
    secure.once('error', reject);
    request.once('error', reject);
  });
}

/** An answer of the API server that is asked for again when it is old; while it cannot be had, the old one stands. */
class Remembered<T> {
  #value: { is: T; atMs: number } | undefined;
  #asking: Promise<T> | undefined;

  constructor(readonly lastsMs: number, readonly ask: () => Promise<T>) {}

  /** @param enough when given, an answer of any age will do for which it is true */
  async get(enough?: (value: T) => boolean): Promise<T> {
    const value = this.#value;
    if (value !== undefined && (enough?.(value.is) ?? Date.now() - value.atMs < this.lastsMs)) return value.is;
    this.#asking ??= this.ask().then((is) => {
      this.#value = { is, atMs: Date.now() };
      return is;
    }).finally(() => (this.#asking = undefined));
    try {
      return await this.#asking;
    } catch (error) {
      if (value !== undefined) return value.is;
      throw error;
    }
  }
}

function joinTo(port: number, socket: Duplex, head: Buffer): void {
  const server: Socket = connect(port, '127.0.0.1', () => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    if (head.length > 0) server.write(head);
    server.pipe(socket).pipe(server);
  });
  server.once('error', () => socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n'));
  socket.once('close', () => server.destroy());
}

/** The subresource of `nodes` that a path needs (kubelet: pkg/kubelet/server/auth.go). */
function subresourceOf(path: string): string {
  const under = (prefix: string) => path === prefix || path.startsWith(`${prefix}/`);
  if (under('/stats')) return 'stats';
  if (under('/metrics')) return 'metrics';
  if (under('/logs')) return 'log';
  if (under('/checkpoint')) return 'checkpoint';
  if (under('/healthz')) return 'healthz';
  if (under('/pods') || under('/runningpods')) return 'pods';
  if (under('/configz')) return 'configz';
  return 'proxy';
}

function verbOf(request: IncomingMessage): string {
  const verbs: Record<string, string> = { GET: 'get', HEAD: 'get', POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };
  return verbs[request.method ?? ''] ?? '';
}

/** A memory quantity in bytes: a plain number or one with Ki, Mi, Gi, Ti. */
function bytesOf(quantity: string): number {
  const [, number = '0', unit = ''] = /^(\d+)(Ki|Mi|Gi|Ti)?$/.exec(quantity) ?? [];
  return Number(number) * 1024 ** ['', 'Ki', 'Mi', 'Gi', 'Ti'].indexOf(unit);
}
