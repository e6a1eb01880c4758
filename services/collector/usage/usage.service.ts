import { MINUTE_MS, toTimestamp, workloadKey, type CoverageEvent } from '@upid/contracts';
import { podOfSample } from '../inventory/resolution.js';
import type { InventoryState, KnownNode } from '../inventory/state.js';
import { encodeUsage, usageCovers, usageDrafts, type PodUsageSample, type UsageSample } from '../publishing/usage-batches.js';
import type { BatchName, MessageMeta } from '../publishing/publisher.service.js';
import { parseCadvisorMetrics, parseResourceMetrics, parseStatsSummary } from './kubelet.js';
import { parsePodMetricsList } from './metrics-api.js';
import { LONGEST_INTERVAL_MS, NodeSampler, type ContainerMinute, type MinuteSamples, type PodMinute } from './sampler.js';
import { mergeScrapes, type Scrape } from './scrape.js';

export type UsageMode = 'direct' | 'node-proxy' | 'metrics-api';

/** Ways to a node's figures; each throws where it cannot have them. */
export interface UsagePorts {
  /** GET of a path at a node's kubelet, as text. */
  direct(node: KnownNode, path: string): Promise<string>;
  nodeProxy(node: KnownNode, path: string): Promise<string>;
  /** PodMetricsList of all pods, as text. */
  podMetrics(): Promise<string>;
}

export interface UsageOutlet {
  publish(kind: 'usage', encode: (name: BatchName) => Uint8Array, meta: MessageMeta): Promise<void>;
  coverage(event: Omit<CoverageEvent, 'version' | 'id'>): Promise<void>;
}

/** What is kept over restarts. */
export interface UsageMemory {
  readState(name: string): Promise<unknown>;
  writeState(name: string, value: unknown): Promise<void>;
}

export interface UsageOptions {
  /** Modes to try, in this order; the first that answers is used. */
  readonly modes: readonly UsageMode[];
  readonly scrapeSeconds: number;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
  readonly delay: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly now?: () => number;
}

const STATE_FILE = 'usage.json';
/** Nodes asked when a mode is tried. */
const PROBED_NODES = 3;
/** What tells network, volumes and throttling is asked for this often: it is dear for the kubelet. */
const FULL_EVERY_MS = 55_000;
/** Scrapes under way at once. */
const CONCURRENCY = 8;
/** First scrapes after the start are spread over this. */
const FIRST_SPREAD_MS = 5_000;
const TICK_MS = 250;
/** Samples are handed over at least this often. */
const FLUSH_EVERY_MS = 10_000;
const FLUSH_ROWS = 500;
/** An unresolved sample waits this long for its pod to become known. */
const UNRESOLVED_PATIENCE_MS = MINUTE_MS;
/** Unresolved samples held at once. */
const UNRESOLVED_KEPT = 20_000;
/** An endpoint that a kubelet does not have is asked for again after this. */
const MISSING_RETRY_MS = 600_000;
/** A mode that gives nothing from any node for this long is given up for the next. */
const MODE_PATIENCE_MS = 180_000;
const GAPS_EVERY_MS = 300_000;

interface NodeTask {
  node: KnownNode;
  readonly sampler: NodeSampler;
  nextAtMs: number;
  fullAtMs: number;
  busy: boolean;
  lastSuccessMs: number;
  failingSinceMs: number | null;
  readonly missingUntilMs: Map<string, number>;
}

type Unresolved = { readonly sinceMs: number } & ({ readonly container: ContainerMinute } | { readonly pod: PodMinute });

/** Scrapes nodes, samples, names the pods and hands the samples over in batches. */
export class UsageService {
  mode: UsageMode | null = null;
  readonly counters = { scrapes: 0, failedScrapes: 0, samples: 0, unresolved: 0, malformed: 0 };
  private readonly tasks = new Map<string, NodeTask>();
  private readonly clusterTask: { sampler: NodeSampler; nextAtMs: number } = { sampler: new NodeSampler(), nextAtMs: 0 };
  private samples: UsageSample[] = [];
  private podSamples: PodUsageSample[] = [];
  private unresolved: Unresolved[] = [];
  private running = 0;
  private flushedAtMs = 0;
  private gapsAtMs = 0;
  private lastSuccessMs = 0;
  /** Minutes up to this one were told by an earlier process: a sample is told once. */
  private toldMinute = -Infinity;
  private lastMinute = -Infinity;
  private readonly lost = { startMs: Infinity, endMs: -Infinity, count: 0 };
  private readonly now: () => number;

  constructor(private readonly state: InventoryState, private readonly ports: UsagePorts, private readonly outlet: UsageOutlet, private readonly memory: UsageMemory, private readonly options: UsageOptions) {
    this.now = options.now ?? Date.now;
  }

  /** Samples until the signal aborts; then hands over what is complete. */
  async run(signal: AbortSignal): Promise<void> {
    this.flushedAtMs = this.now();
    const kept = (await this.memory.readState(STATE_FILE)) as { last_minute?: unknown } | null;
    if (typeof kept?.last_minute === 'number') this.toldMinute = kept.last_minute;
    while (!signal.aborted) {
      if (this.mode === null) await this.chooseMode(null);
      if (this.mode === null) await this.options.delay(10_000, signal);
      else {
        if (this.mode === 'metrics-api') await this.tickCluster();
        else this.tickNodes(signal);
        await this.settle(false);
        await this.options.delay(TICK_MS, signal);
      }
    }
    await this.settle(true);
  }

  // -------------------------------------------------------------- modes

  /** Takes the first mode that answers. @param after a mode that has failed: only those behind it are tried, then all again */
  private async chooseMode(after: UsageMode | null): Promise<void> {
    const { modes } = this.options;
    const from = after === null ? 0 : modes.indexOf(after) + 1;
    const before = this.mode;
    const reasons: string[] = [];
    this.mode = null;
    for (const mode of [...modes.slice(from), ...modes.slice(0, from)]) {
      const reason = await this.probe(mode);
      if (reason === null) {
        this.mode = mode;
        break;
      }
      reasons.push(`${mode}: ${reason}`);
    }
    if (this.mode === null) this.options.log.warn({ reasons }, 'no source of usage answers; trying again');
    else {
      this.lastSuccessMs = this.now();
      this.options.log.info({ mode: this.mode, passed_over: reasons }, 'usage is read');
    }
    if (this.mode === before) return;
    const at = toTimestamp(this.now());
    await this.outlet.coverage({
      type: 'source_change', source: 'usage', start: at, end: at, reason: this.mode === null ? 'no source of usage answers' : `usage is read by ${this.mode}`, count: null, workload: null, detail: { before, after: this.mode },
    });
  }

  /** null where the mode gives figures, else why not. */
  private async probe(mode: UsageMode): Promise<string | null> {
    if (mode === 'metrics-api') return this.ports.podMetrics().then(() => null, describe);
    const nodes = [...this.state.nodes()].filter(({ ready }) => ready).slice(0, PROBED_NODES);
    if (nodes.length === 0) return 'no node is ready';
    let reason = '';
    for (const node of nodes) {
      try {
        await this.ports[mode === 'direct' ? 'direct' : 'nodeProxy'](node, '/metrics/resource');
        return null;
      } catch (error) {
        reason = describe(error);
      }
    }
    return reason;
  }

  // -------------------------------------------------------------- scraping

  private tickNodes(signal: AbortSignal): void {
    const nowMs = this.now();
    const intervalMs = this.options.scrapeSeconds * 1_000;
    const standing = new Set<string>();
    let index = 0;
    const all = [...this.state.nodes()];
    for (const node of all) {
      standing.add(node.name);
      const task = this.tasks.get(node.name);
      if (task !== undefined) task.node = node;
      else {
        const spread = Math.min(FIRST_SPREAD_MS, intervalMs) / all.length;
        this.tasks.set(node.name, { node, sampler: new NodeSampler(), nextAtMs: nowMs + index * spread, fullAtMs: 0, busy: false, lastSuccessMs: nowMs, failingSinceMs: null, missingUntilMs: new Map() });
      }
      index++;
    }
    for (const [name, task] of this.tasks) {
      if (!standing.has(name) && !task.busy) this.tasks.delete(name);
    }
    const due = [...this.tasks.values()].filter((task) => !task.busy && task.nextAtMs <= nowMs).sort((a, b) => a.nextAtMs - b.nextAtMs);
    for (const task of due) {
      if (this.running >= CONCURRENCY || signal.aborted) break;
      // From the second on, each node has its own place in the interval, so that the load is even.
      task.nextAtMs = nextPlace(task.node.name, nowMs, intervalMs);
      task.busy = true;
      this.running++;
      void this.scrapeNode(task).finally(() => {
        task.busy = false;
        this.running--;
      });
    }
    if (all.length > 0 && nowMs - this.lastSuccessMs > MODE_PATIENCE_MS) {
      this.lastSuccessMs = nowMs;
      const failed = this.mode;
      void this.chooseMode(failed);
    }
  }

  private async scrapeNode(task: NodeTask): Promise<void> {
    const { node } = task;
    const nowMs = this.now();
    const full = nowMs - task.fullAtMs >= FULL_EVERY_MS;
    try {
      const scrapes: Scrape[] = [];
      const read = async (path: string, parse: (text: string) => Scrape) => {
        if ((task.missingUntilMs.get(path) ?? 0) > nowMs) return;
        try {
          const text = await this.ports[this.mode === 'node-proxy' ? 'nodeProxy' : 'direct'](node, path);
          scrapes.push(parse(text));
        } catch (error) {
          const status = (error as { status?: unknown }).status;
          // Not served, or not ours to read: what is there has to do.
          if (status === 404 || status === 403 || status === 405) task.missingUntilMs.set(path, nowMs + MISSING_RETRY_MS);
          else throw error;
        }
      };
      await read('/metrics/resource', (text) => parseResourceMetrics(text, node.name, nowMs));
      if (full || scrapes.length === 0) {
        await read('/stats/summary', (text) => parseStatsSummary(text, node.name, nowMs));
        await read('/metrics/cadvisor', (text) => parseCadvisorMetrics(text, node.name, nowMs));
        if (full) task.fullAtMs = nowMs;
      }
      const [first, ...more] = scrapes;
      if (first === undefined) throw new Error('none of its endpoints may be read');
      const scrape = mergeScrapes([first, ...more]);
      this.counters.scrapes++;
      this.counters.malformed += scrape.malformed;
      task.sampler.configure({ nodeCpuMillicores: node.cpuMillicores, hostNetworkPods: this.hostNetworkPods(scrape) });
      this.take(task.sampler.sample(scrape));
      await this.succeeded(task, nowMs);
    } catch (error) {
      this.counters.failedScrapes++;
      if (task.failingSinceMs === null) {
        task.failingSinceMs = nowMs;
        this.options.log.warn({ node: node.name, error: describe(error) }, 'a node could not be scraped');
      }
    }
  }

  private async succeeded(task: NodeTask, nowMs: number): Promise<void> {
    const silentMs = nowMs - task.lastSuccessMs;
    if (task.failingSinceMs !== null && silentMs > LONGEST_INTERVAL_MS) {
      await this.outlet.coverage({ type: 'gap', source: 'usage', start: toTimestamp(task.lastSuccessMs), end: toTimestamp(nowMs), reason: 'the kubelet did not answer', count: null, workload: null, detail: { node: task.node.name } });
    }
    task.failingSinceMs = null;
    task.lastSuccessMs = nowMs;
    this.lastSuccessMs = nowMs;
  }

  private async tickCluster(): Promise<void> {
    const nowMs = this.now();
    if (this.clusterTask.nextAtMs > nowMs) return;
    this.clusterTask.nextAtMs = nowMs + this.options.scrapeSeconds * 1_000;
    try {
      const scrape = parsePodMetricsList(await this.ports.podMetrics(), '', nowMs);
      this.counters.scrapes++;
      this.counters.malformed += scrape.malformed;
      this.take(this.clusterTask.sampler.sample(scrape));
      this.lastSuccessMs = nowMs;
    } catch (error) {
      this.counters.failedScrapes++;
      this.options.log.warn({ error: describe(error) }, 'metrics.k8s.io could not be read');
      if (nowMs - this.lastSuccessMs > MODE_PATIENCE_MS) await this.chooseMode('metrics-api');
    }
  }

  private hostNetworkPods(scrape: Scrape): Set<string> {
    const found = new Set<string>();
    for (const { namespace, podName } of scrape.pods) if (this.state.podsNamed(namespace, podName)[0]?.hostNetwork === true) found.add(`${namespace}/${podName}`);
    return found;
  }

  // -------------------------------------------------------------- naming and handing over

  private take({ containers, pods }: MinuteSamples): void {
    const sinceMs = this.now();
    for (const container of containers.filter(({ minute }) => minute > this.toldMinute)) if (!this.resolve({ sinceMs, container })) this.hold({ sinceMs, container });
    for (const pod of pods.filter(({ minute }) => minute > this.toldMinute)) if (!this.resolve({ sinceMs, pod })) this.hold({ sinceMs, pod });
  }

  private hold(sample: Unresolved): void {
    if (this.unresolved.length >= UNRESOLVED_KEPT) this.lose(sample);
    else this.unresolved.push(sample);
  }

  private resolve(sample: Unresolved): boolean {
    const reading = 'container' in sample ? sample.container : sample.pod;
    const pod = podOfSample(reading, this.state.podsNamed(reading.namespace, reading.podName), reading.podUid === null ? undefined : this.state.podByUid(reading.podUid));
    if (pod === null) return false;
    const common = { podUid: pod.uid, workload: workloadKey(pod.workload), podName: null, minute: reading.minute };
    if ('container' in sample) {
      const { cpuMillicores, cpuPeakMillicores, memoryBytes, memoryPeakBytes, throttledPermille, restarts, container } = sample.container;
      // The wire has no word for unknown memory, and zero would be a lie.
      if (memoryBytes === null) this.lose(sample);
      else this.samples.push({ ...common, container, cpuMillicores, cpuPeakMillicores, memoryBytes, memoryPeakBytes: memoryPeakBytes ?? memoryBytes, throttledPermille, restarts });
    } else {
      const { receiveBytesPerSecond, transmitBytesPerSecond, volumesUsedBytes } = sample.pod;
      if (receiveBytesPerSecond === null && transmitBytesPerSecond === null && volumesUsedBytes === null) return true;
      this.podSamples.push({ ...common, receiveBytesPerSecond, transmitBytesPerSecond, volumeUsedBytes: volumesUsedBytes });
    }
    return true;
  }

  private lose(sample: Unresolved): void {
    this.counters.unresolved++;
    const { minute } = 'container' in sample ? sample.container : sample.pod;
    this.lost.startMs = Math.min(this.lost.startMs, minute * MINUTE_MS);
    this.lost.endMs = Math.max(this.lost.endMs, (minute + 1) * MINUTE_MS);
    this.lost.count++;
  }

  private async settle(last: boolean): Promise<void> {
    const nowMs = this.now();
    if (this.unresolved.length > 0) {
      const waiting = this.unresolved;
      this.unresolved = [];
      for (const sample of waiting) {
        if (this.resolve(sample)) continue;
        if (last || nowMs - sample.sinceMs > UNRESOLVED_PATIENCE_MS) this.lose(sample);
        else this.unresolved.push(sample);
      }
    }
    if (this.samples.length + this.podSamples.length > 0 && (last || this.samples.length >= FLUSH_ROWS || nowMs - this.flushedAtMs >= FLUSH_EVERY_MS)) await this.flush(nowMs);
    if (this.lost.count > 0 && (last || nowMs - this.gapsAtMs >= GAPS_EVERY_MS)) {
      this.gapsAtMs = nowMs;
      const { startMs, endMs, count } = this.lost;
      Object.assign(this.lost, { startMs: Infinity, endMs: -Infinity, count: 0 });
      await this.outlet.coverage({ type: 'gap', source: 'usage', start: toTimestamp(startMs), end: toTimestamp(endMs), reason: 'samples whose pod the inventory does not name', count, workload: null, detail: {} });
    }
  }

  private async flush(nowMs: number): Promise<void> {
    this.flushedAtMs = nowMs;
    const { samples, podSamples } = this;
    this.samples = [];
    this.podSamples = [];
    this.counters.samples += samples.length + podSamples.length;
    const source = this.mode === 'metrics-api' ? 'metrics_api' : 'kubelet';
    for (const draft of usageDrafts(source, samples, podSamples)) await this.outlet.publish('usage', (name) => encodeUsage(draft, name), { covers: usageCovers(draft) });
    for (const { minute } of [...samples, ...podSamples]) this.lastMinute = Math.max(this.lastMinute, minute);
    await this.memory.writeState(STATE_FILE, { last_minute: this.lastMinute });
  }
}

/** The next moment after `nowMs` that is this node's place in the interval: even over nodes, the same for a node each time. */
function nextPlace(node: string, nowMs: number, intervalMs: number): number {
  let hash = 2_166_136_261;
  for (let i = 0; i < node.length; i++) hash = Math.imul(hash ^ node.charCodeAt(i), 16_777_619);
  const place = ((hash >>> 0) / 2 ** 32) * intervalMs;
  const start = nowMs - (nowMs % intervalMs) + place;
  // At least half an interval away: two readings too near each other tell little.
  return start - nowMs >= intervalMs / 2 ? start : start + intervalMs;
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
