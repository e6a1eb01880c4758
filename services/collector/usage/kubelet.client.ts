import { request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import type { Duplex } from 'node:stream';
import { connect as tlsConnect } from 'node:tls';
import { createGunzip } from 'node:zlib';

/** The kubelet refused or did not answer; `status` is null where it did not. */
export class KubeletError extends Error {
  override readonly name = 'KubeletError';
  constructor(readonly node: string, readonly path: string, readonly status: number | null, why: string, options?: ErrorOptions) {
    super(`kubelet of ${node}, ${path}: ${why}`, options);
  }
}

export interface KubeletTarget {
  readonly name: string;
  readonly internalIp: string | null;
  readonly kubeletPort: number;
}

export interface KubeletClientOptions {
  /** Proves who we are; the same token as for the API server. */
  readonly authorization: () => Promise<string | null>;
  readonly ca?: string;
  readonly insecure: boolean;
  /** An HTTP proxy that is asked to CONNECT. */
  readonly proxyUrl?: string;
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 10_000;
/** A node's answer over this is not read: 110 pods with all of cAdvisor are about 10 MB. */
const LONGEST_ANSWER = 64 * 1024 * 1024;

/** Asks kubelets directly, by the node's InternalIP. TLS sessions are resumed, connections are not kept: a thousand nodes would be a thousand sockets. */
export class KubeletClient {
  private readonly agent: Agent;

  constructor(private readonly options: KubeletClientOptions) {
    this.agent = new Agent({ keepAlive: false, maxCachedSessions: 2_000, ca: options.ca, rejectUnauthorized: !options.insecure });
  }

  /** @throws {KubeletError} */
  async text(target: KubeletTarget, path: string): Promise<string> {
    const { internalIp, kubeletPort, name } = target;
    if (internalIp === null) throw new KubeletError(name, path, null, 'the node has no InternalIP');
    const authorization = await this.options.authorization();
    const signal = AbortSignal.timeout(this.options.timeoutMs ?? TIMEOUT_MS);
    try {
      const socket = this.options.proxyUrl === undefined ? undefined : await this.tunnel(this.options.proxyUrl, internalIp, kubeletPort, signal);
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        const request = httpsRequest({
          host: internalIp, port: kubeletPort, path, signal, headers: { 'accept-encoding': 'gzip', connection: 'close', ...(authorization === null ? {} : { authorization }) },
          // With an agent, even `false`, Node would pass over the tunnel and dial the node itself.
          ...(socket === undefined ? { agent: this.agent } : { createConnection: () => socket }),
        }, resolve);
        request.once('error', reject);
        request.end();
      });
      const text = await readAll(response);
      if (response.statusCode !== 200) throw new KubeletError(name, path, response.statusCode ?? null, `${response.statusCode} ${text.slice(0, 120).trim()}`);
      return text;
    } catch (cause) {
      if (cause instanceof KubeletError) throw cause;
      throw new KubeletError(name, path, null, cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause.message) : String(cause), { cause });
    }
  }

  close(): void {
    this.agent.destroy();
  }

  private async tunnel(proxyUrl: string, host: string, port: number, signal: AbortSignal): Promise<Duplex> {
    const proxy = new URL(proxyUrl);
    const authority = `${host.includes(':') ? `[${host}]` : host}:${port}`;
    const plain = await new Promise<Duplex>((resolve, reject) => {
      const request = httpRequest({ host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: authority, signal });
      request.once('connect', (response, socket) => {
        if (response.statusCode === 200) resolve(socket);
        else {
          socket.destroy();
          reject(new Error(`the proxy answered ${response.statusCode}`));
        }
      });
      request.once('error', reject);
      request.end();
    });
    return new Promise((resolve, reject) => {
      const secure = tlsConnect({ socket: plain, host, ca: this.options.ca, rejectUnauthorized: !this.options.insecure }, () => resolve(secure));
      secure.once('error', reject);
    });
  }
}

async function readAll(response: IncomingMessage): Promise<string> {
  const body = response.headers['content-encoding'] === 'gzip' ? response.pipe(createGunzip()) : response;
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += (chunk as Buffer).length;
    if (length > LONGEST_ANSWER) {
      response.destroy();
      throw new Error(`the answer is longer than ${LONGEST_ANSWER} bytes`);
    }
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
}
