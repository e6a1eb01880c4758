import { hashOf, noiseAt } from './behaviour.js';
import type { SimulatedCluster } from './cluster.js';
import { workloadKeyOf } from './objects.js';
import type { ScenarioWorkload } from './scenario.js';

/** One line of a container's log with its time. */
export interface LogLine {
  readonly ms: number;
  readonly text: string;
}

const MINUTE_MS = 60_000;
const BROWSERS = ['Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36'];
const PATHS = ['/', '/products/1042', '/cart', '/api/v1/items?page=2', '/search?q=lamp', '/checkout'];
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

function localTime(ms: number): string {
  const date = new Date(ms);
  const two = (value: number) => String(value).padStart(2, '0');
  return `${two(date.getUTCDate())}/${MONTHS[date.getUTCMonth()]}/${date.getUTCFullYear()}:${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())} +0000`;
}

/** A line in ingress-nginx's default format (upstreaminfo). Without endpoints the controller answers 503 itself. */
export function accessLine(request: { readonly ms: number; readonly namespace: string; readonly service: string; readonly path: string; readonly agent: string; readonly status: number; readonly seconds: number; readonly client: string; readonly upstream: string | null; readonly id: string }): string {
  const { upstream } = request;
  return `${request.client} - - [${localTime(request.ms)}] "GET ${request.path} HTTP/1.1" ${request.status} ${request.status === 503 ? 190 : 5120} "-" "${request.agent}" 412 ${request.seconds.toFixed(3)} [${request.namespace}-${request.service}-80] [] ${upstream ?? '-'} ${upstream ? 5120 : '-'} ${upstream ? request.seconds.toFixed(3) : '-'} ${upstream ? request.status : '-'} ${request.id}`;
}

/** The requests of one minute to one workload, spread over its seconds. */
export function minuteLines(cluster: SimulatedCluster, workload: ScenarioWorkload, minute: number): LogLine[] {
  const counts = cluster.requests(workload, minute);
  const key = hashOf(`${workloadKeyOf(workload)}/${cluster.scenario.seed}`) ^ minute;
  const pod = cluster.podsOf(workload)[0]?.object.status?.podIP as string | undefined;
  const line = (index: number, healthCheck: boolean): LogLine => {
    const ms = minute * MINUTE_MS + Math.floor(((index + noiseAt(key, index)) / (counts.business + counts.healthCheck)) * MINUTE_MS * 0.999);
    const failed = !healthCheck && index < counts.errors;
    return {
      ms, text: accessLine({
        ms, namespace: workload.namespace, service: workload.name, path: healthCheck ? '/healthz' : (PATHS[Math.floor(noiseAt(key ^ 7, index) * PATHS.length)] ?? '/'), agent: healthCheck ? 'UptimeRobot/2.0; http://www.uptimerobot.com/' : (BROWSERS[index % BROWSERS.length] ?? ''),
        status: pod === undefined ? 503 : failed ? 500 : 200, seconds: healthCheck ? 0.002 : 0.02 + 0.2 * noiseAt(key ^ 11, index) ** 3, client: `203.0.113.${1 + Math.floor(noiseAt(key ^ 13, index) * 250)}`, upstream: pod === undefined ? null : `${pod}:8080`, id: `${(key >>> 0).toString(16)}${index.toString(16)}`,
      }),
    };
  };
  return [...Array.from({ length: counts.business }, (_, i) => line(i, false)), ...Array.from({ length: counts.healthCheck }, (_, i) => line(counts.business + i, true))];
}

/** Keeps the last of this many lines, as a node's log rotation does. */
const KEPT_LINES = 50_000;

/** The ingress controller's log: written as the clock goes, kept for a while, followed by any number of readers. */
export class AccessLog {
  private readonly lines: LogLine[] = [];
  private readonly waiting: LogLine[] = [];
  private readonly listeners = new Set<(line: LogLine) => void>();
  private nextMinute: number;
  private readonly routed: readonly ScenarioWorkload[];

  constructor(private readonly cluster: SimulatedCluster) {
    this.routed = cluster.scenario.workloads.filter((workload) => workload.ingress);
    // A few minutes of the past are in the log, as they would be.
    this.nextMinute = Math.floor(cluster.nowMs() / MINUTE_MS) - 5;
  }

  /** Writes what has come up to now. Called several times a second. */
  tick(): void {
    const now = this.cluster.nowMs();
    while (this.nextMinute * MINUTE_MS <= now) {
      for (const workload of this.routed) this.waiting.push(...minuteLines(this.cluster, workload, this.nextMinute));
      this.waiting.sort((a, b) => a.ms - b.ms);
      this.nextMinute++;
    }
    const due = this.waiting.findIndex((line) => line.ms > now);
    for (const line of this.waiting.splice(0, due === -1 ? this.waiting.length : due)) this.write(line);
  }

  write(line: LogLine): void {
    this.lines.push(line);
    if (this.lines.length > KEPT_LINES) this.lines.splice(0, this.lines.length - KEPT_LINES);
    for (const listener of this.listeners) listener(line);
  }

  since(ms: number): readonly LogLine[] {
    return this.lines.filter((line) => line.ms >= ms);
  }

  follow(listener: (line: LogLine) => void): () => void {
    this.listeners.add(listener);
    return () => { this.listeners.delete(listener); };
  }
}
