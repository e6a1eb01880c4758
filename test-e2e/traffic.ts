/** Requests as ingress-nginx writes them into its access log: what customers and probes ask, seeded with what must not leave the cluster. */
import { type ControlPlane } from '@upid/testing';

/** Whatever of the cluster must not be seen outside holds this text, in whatever case. */
export const PRIVATE_MARK = 'private7c1e';
/** Addresses of clients (RFC 5737, RFC 3849), which no other thing here has. */
export const PRIVATE_CLIENTS = ['198.51.100.77', '2001:db8:7c1e::77'] as const;

export interface RequestLine {
  readonly service: string;
  readonly kind: 'business' | 'probe' | 'load_balancer' | 'health_check';
  /** Of the answer; 503 with no endpoint is what the ingress says for what sleeps. */
  readonly status?: number;
}

const AGENTS: Record<RequestLine['kind'], string> = {
  business: `Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0 ${PRIVATE_MARK}-agent`, probe: 'kube-probe/1.36', load_balancer: 'ELB-HealthChecker/2.0', health_check: 'curl/8.9.0',
};
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** One line in ingress-nginx's default format; a status of 503 without an upstream, as where a Service has no endpoint. */
export function accessLogLine(namespace: string, { service, kind, status = 200 }: RequestLine, at: Date, ordinal: number): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const time = `${two(at.getUTCDate())}/${MONTHS[at.getUTCMonth()]}/${at.getUTCFullYear()}:${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())} +0000`;
  const client = PRIVATE_CLIENTS[ordinal % PRIVATE_CLIENTS.length];
  const path = kind === 'business' ? `/${PRIVATE_MARK}-path/${ordinal}?q=${PRIVATE_MARK}-query&mail=${PRIVATE_MARK}%40example.com` : kind === 'health_check' ? '/healthz' : '/';
  const upstream = status === 503 ? '- - - -' : `10.244.0.250:8080 612 0.011 ${status}`;
  return `${client} - ${PRIVATE_MARK}-user [${time}] "GET ${path} HTTP/1.1" ${status} 612 "https://example.com/${PRIVATE_MARK}-referer" "${AGENTS[kind]}" 421 0.012 [${namespace}-${service}-http] [] ${upstream} ${at.getTime().toString(16).padStart(24, '0')}${ordinal.toString(16).padStart(8, '0')}`;
}

const EVERY_MS = 500;

/** Writes what is asked of a namespace's Services into the controller's log, every half second while it runs. */
export class Traffic implements AsyncDisposable {
  private ordinal = 0;
  private timer: NodeJS.Timeout | null = null;
  private writing: Promise<void> = Promise.resolve();
  private failure: unknown = null;

  constructor(private readonly cluster: ControlPlane, private readonly controller: string, private readonly namespace: string, private readonly asked: readonly RequestLine[]) {}

  start(): void {
    this.timer ??= setInterval(() => {
      this.writing = this.writing.then(async () => { await this.write(this.asked); }).catch((error: unknown) => { this.failure ??= error; });
    }, EVERY_MS);
  }

  /** Writes requests now. @returns when the line was written, unix ms */
  async write(lines: readonly RequestLine[]): Promise<number> {
    const at = new Date();
    const texts = lines.map((line) => accessLogLine(this.namespace, line, at, this.ordinal++));
    await this.cluster.writePodLog('ingress-nginx', this.controller, 'controller', [...texts, `I${two(at)} controller.go:190] "Configuration changes detected" secret="${PRIVATE_MARK}-log"`], { at });
    return Date.now();
  }

  /** @throws what a line could not be written for */
  async stop(): Promise<void> {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
    await this.writing;
    if (this.failure !== null) throw this.failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

function two(at: Date): string {
  return `${String(at.getUTCMonth() + 1).padStart(2, '0')}${String(at.getUTCDate()).padStart(2, '0')} ${at.toISOString().slice(11, 23)}`;
}
