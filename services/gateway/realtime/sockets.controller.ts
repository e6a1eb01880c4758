import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { HTTP_STATUS, UpidError, type PodObject } from '@upid/contracts';
import type { InventoryMirror, Logger } from '@upid/platform';
import { WebSocket, WebSocketServer } from 'ws';
import { bearerOf, type Caller } from '../access/keys.js';
import type { KeyStore } from '../access/keys.client.js';
import type { ClustersService } from '../clusters/clusters.service.js';
import type { FeedService } from './feed.service.js';

const CLUSTER = /^\/api\/v1\/realtime\/cluster\/([^/]+)$/;
const POD = /^\/api\/v1\/realtime\/pod\/([^/]+)\/([^/]+)$/;
/** A browser cannot set a header on a WebSocket: it offers the key as a subprotocol instead (never in the URL, which ends up in logs). */
const KEY_PROTOCOL = /^upid\.key\.(.+)$/;
export const CLUSTER_EVERY_MS = 5_000;
export const POD_EVERY_MS = 2_000;
const PING_EVERY_MS = 30_000;
/** A client that does not read is cut off rather than kept in memory. */
const MOST_BUFFERED_BYTES = 4 * 1024 * 1024;

/** The two WebSockets: a cluster every 5 s, a pod every 2 s, recommendations and jobs as they happen. */
export class SocketsController {
  private readonly server = new WebSocketServer({ noServer: true, maxPayload: 64 * 1024, handleProtocols: (offered) => [...offered].find((each) => each === 'upid.v1') ?? false });

  constructor(private readonly keys: KeyStore, private readonly clusters: ClustersService, private readonly inventory: InventoryMirror, private readonly feed: FeedService, private readonly log: Logger) {}

  attach(http: Server): void {
    http.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on('error', () => socket.destroy());
      this.upgrade(request, socket, head).catch((error: unknown) => {
        const code = error instanceof UpidError ? error.code : 'internal';
        if (code === 'internal') this.log.error({ err: error }, 'a WebSocket could not be opened');
        const body = JSON.stringify({ code, detail: error instanceof UpidError ? error.message : 'Something went wrong here.', status: HTTP_STATUS[code] });
        socket.end(`HTTP/1.1 ${HTTP_STATUS[code]} ${code}\r\ncontent-type: application/problem+json\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
      });
    });
  }

  close(): void {
    for (const client of this.server.clients) client.close(1001, 'the gateway ends');
    this.server.close();
  }

  private async upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://gateway');
    const cluster = CLUSTER.exec(url.pathname);
    const pod = POD.exec(url.pathname);
    if (!cluster && !pod) throw new UpidError('not_found', `There is no WebSocket at ${url.pathname}.`);
    const caller = await this.callerOf(request);
    const wanted = cluster ? decodeURIComponent(cluster[1] ?? '') : (url.searchParams.get('cluster_id') ?? undefined);
    const { clusterId } = await this.clusters.resolve(caller, wanted);
    const uid = pod ? await this.podUid(clusterId, decodeURIComponent(pod[1] ?? ''), decodeURIComponent(pod[2] ?? '')) : null;
    this.server.handleUpgrade(request, socket, head, (client) => (uid === null ? this.serveCluster(client, clusterId) : this.servePod(client, clusterId, uid)));
  }

  private async callerOf(request: IncomingMessage): Promise<Caller> {
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((each) => KEY_PROTOCOL.exec(each.trim())?.[1]);
    const key = bearerOf(request.headers.authorization) ?? offered.find((each) => each !== undefined);
    const caller = key === undefined ? null : await this.keys.caller(key);
    if (!caller) throw new UpidError('unauthenticated', 'An API key is needed: Authorization: Bearer <key>, or the subprotocols upid.v1 and upid.key.<key>.');
    return caller;
  }

  private async podUid(clusterId: string, namespace: string, name: string): Promise<string> {
    const row = await this.inventory.byName(clusterId, 'Pod', namespace, name);
    if (!row) throw new UpidError('not_found', `There is no pod ${name} in namespace ${namespace} of cluster ${clusterId}.`);
    return (row.body as PodObject).uid;
  }

  private serveCluster(client: WebSocket, clusterId: string): void {
    const unsubscribe = this.feed.subscribe((id, message) => { if (id === clusterId) this.send(client, message); });
    this.every(client, CLUSTER_EVERY_MS, () => this.feed.cluster(clusterId), unsubscribe);
  }

  private servePod(client: WebSocket, clusterId: string, uid: string): void {
    this.every(client, POD_EVERY_MS, () => this.feed.pod(clusterId, uid), () => undefined);
  }

  /** Sends `next()` now and every `everyMs`; a slow answer is waited for, not overtaken. */
  private every(client: WebSocket, everyMs: number, next: () => Promise<unknown>, ended: () => void): void {
    let timer: NodeJS.Timeout | undefined;
    let alive = true;
    const tick = async () => {
      const message = await next().catch((error: unknown) => this.feed.errorMessage(error));
      this.send(client, message);
      if (client.readyState === WebSocket.OPEN) timer = setTimeout(() => void tick(), everyMs);
    };
    const pings = setInterval(() => {
      if (!alive) return client.terminate();
      alive = false;
      client.ping();
    }, PING_EVERY_MS);
    client.on('pong', () => { alive = true; });
    client.on('error', () => client.terminate());
    client.on('close', () => {
      clearTimeout(timer);
      clearInterval(pings);
      ended();
    });
    void tick();
  }

  private send(client: WebSocket, message: unknown): void {
    if (client.readyState !== WebSocket.OPEN) return;
    if (client.bufferedAmount > MOST_BUFFERED_BYTES) return client.terminate();
    client.send(JSON.stringify(message));
  }
}
