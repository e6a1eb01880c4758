import { MINUTE_MS, toTimestamp, workloadKey, type CoverageEvent, type WorkloadRef } from '@upid/contracts';
import type { InventoryState } from '../inventory/state.js';
import type { BatchName, MessageMeta } from '../publishing/publisher.service.js';
import { encodeRequests, requestCovers, requestDrafts } from '../publishing/request-batches.js';
import { classifier, type Classifier, type ClassRules } from './classes.js';
import { RequestCounts } from './counts.js';
import type { AccessLogEntry } from './entry.js';
import { AccessLogReader } from './formats.js';
import { LogFollower, type LogApi } from './log-follower.service.js';
import { ServiceIndex } from './upstreams.js';

export interface RequestsOutlet {
  publish(kind: 'requests', encode: (name: BatchName) => Uint8Array, meta: MessageMeta): Promise<void>;
  coverage(event: Omit<CoverageEvent, 'version' | 'id'>): Promise<void>;
}

/** What is kept over restarts. */
export interface RequestsMemory {
  readState(name: string): Promise<unknown>;
  writeState(name: string, value: unknown): Promise<void>;
}

export interface RequestsOptions {
  /** Where the ingress controllers' pods are, and how they are told. */
  readonly namespace: string;
  readonly selector: Readonly<Record<string, string>>;
  readonly rules?: ClassRules;
  /** Whether an Ingress of this class (null: none named) is served by the controllers that are followed. */
  readonly acceptsClass: (ingressClass: string | null) => boolean;
  /** Answers while the API server does: a stream through a hung server says nothing and seems to stand. */
  readonly apiAnswers: () => Promise<void>;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
  readonly delay: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly now?: () => number;
}

/** A business request for a workload, as soon as its line is read. */
export type BusinessListener = (workload: WorkloadRef, timeMs: number) => void;

const STATE_FILE = 'requests.json';
const SOURCE = 'ingress-nginx';
const TICK_MS = 500;
const RECONCILE_MS = 2_000;
const API_CHECK_MS = 5_000;
/** A silent API server is taken for lost after this. */
const API_SILENCE_MS = 20_000;
/** A minute waits this long for a stream that is lost, then goes out with what is covered of it. */
const HOLD_MS = 600_000;
/** After a restart the logs are read again from at most this far back. */
const LONGEST_LOOK_BACK_MS = 86_400_000;
const LIMITS = { maxCells: 50_000, maxOpenMinutes: 24 * 60 + 15 };

interface Follow {
  readonly follower: LogFollower;
  readonly reader: AccessLogReader;
  readonly stop: AbortController;
  done: boolean;
}

/**
 * Follows the access logs of the ingress controllers and tells, minute by minute, what each workload behind an Ingress was asked; a
 * minute in which nothing came is told as such, so that silence is known and not supposed. Lines never leave this class.
 */
export class RequestsService {
  readonly counters = { lines: 0, entries: 0, unresolved: 0, rows: 0 };
  private readonly follows = new Map<string, Follow>();
  private readonly listeners = new Set<BusinessListener>();
  private readonly classify: Classifier;
  private readonly now: () => number;
  private index = new ServiceIndex([]);
  private indexVersion = -1;
  private counts = new RequestCounts(0, LIMITS);
  private nextMinute = 0;
  private saved: Record<string, string> = {};
  private apiAnsweredMs: number;
  private withoutStreamsSinceMs: number | null;
  private reportedLosses = 0;

  constructor(private readonly api: LogApi, private readonly state: InventoryState, private readonly outlet: RequestsOutlet, private readonly memory: RequestsMemory, private readonly options: RequestsOptions) {
    this.classify = classifier(options.rules);
    this.now = options.now ?? Date.now;
    this.apiAnsweredMs = this.now();
    this.withoutStreamsSinceMs = this.now();
  }

  onBusiness(listener: BusinessListener): void {
    this.listeners.add(listener);
  }

  /** Streams that stand. */
  get streams(): number {
    return [...this.follows.values()].filter(({ follower, done }) => !done && follower.lostSinceMs === null).length;
  }

  /** Since when requests may come unseen, unix ms; null while every controller's log is followed. */
  lostSinceMs(): number | null {
    if (this.follows.size === 0) return this.withoutStreamsSinceMs;
    const losses = [...this.follows.values()].flatMap(({ follower }) => follower.lostSinceMs ?? []);
    if (this.now() - this.apiAnsweredMs > API_SILENCE_MS) losses.push(this.apiAnsweredMs);
    return losses.length === 0 ? null : Math.min(...losses);
  }

  async run(signal: AbortSignal): Promise<void> {
    await this.recall();
    let reconciledMs = 0;
    const checking = this.checkApi(signal);
    while (!signal.aborted) {
      const nowMs = this.now();
      if (nowMs - reconciledMs >= RECONCILE_MS) {
        reconciledMs = nowMs;
        this.reconcile(signal);
      }
      await this.close(nowMs);
      await this.options.delay(TICK_MS, signal);
    }
    for (const { stop } of this.follows.values()) stop.abort();
    await checking;
  }

  // -------------------------------------------------------------- streams

  private async recall(): Promise<void> {
    const nowMs = this.now();
    const current = Math.floor(nowMs / MINUTE_MS);
    const state = await this.memory.readState(STATE_FILE);
    const kept = typeof state === 'object' && state !== null ? (state as { next_minute?: unknown; pods?: unknown }) : {};
    const next = typeof kept.next_minute === 'number' && Number.isInteger(kept.next_minute) ? kept.next_minute : current;
    this.nextMinute = Math.min(current, Math.max(next, current - LONGEST_LOOK_BACK_MS / MINUTE_MS));
    this.saved = typeof kept.pods === 'object' && kept.pods !== null ? Object.fromEntries(Object.entries(kept.pods).filter((each): each is [string, string] => typeof each[1] === 'string')) : {};
    this.counts = new RequestCounts(this.nextMinute, LIMITS);
  }

  private async checkApi(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.options.apiAnswers().then(() => { this.apiAnsweredMs = this.now(); }, () => undefined);
      await this.options.delay(API_CHECK_MS, signal);
    }
  }

  private reconcile(signal: AbortSignal): void {
    const { namespace, selector } = this.options;
    const wanted = new Set<string>();
    for (const pod of this.state.pods()) {
      if (pod.namespace !== namespace || !pod.running || !Object.entries(selector).every(([name, value]) => pod.labels[name] === value)) continue;
      wanted.add(pod.uid);
      if (this.follows.has(pod.uid)) continue;
      const container = pod.containers.includes('controller') ? 'controller' : (pod.containers[0] ?? '');
      this.follow({ uid: pod.uid, namespace, name: pod.name, container, createdAtMs: pod.createdAtMs }, signal);
    }
    for (const [uid, { stop, done }] of this.follows) {
      if (wanted.has(uid) && !done) continue;
      // Gone: what it wrote last has been read, and nothing more will come.
      stop.abort();
      this.follows.delete(uid);
    }
    if (this.follows.size > 0) this.withoutStreamsSinceMs = null;
    else this.withoutStreamsSinceMs ??= this.now();
  }

  private follow(pod: LogFollower['pod'], signal: AbortSignal): void {
    const stop = new AbortController();
    const reader = new AccessLogReader();
    const follower = new LogFollower(this.api, pod, { sinceMs: Math.max(this.nextMinute * MINUTE_MS, pod.createdAtMs), lastKey: this.saved[pod.uid] ?? null }, {
      onLine: (line, timeMs) => this.line(reader, line, timeMs), log: this.options.log, delay: this.options.delay, now: this.now,
    });
    const follow: Follow = { follower, reader, stop, done: false };
    this.follows.set(pod.uid, follow);
    this.options.log.info({ pod: pod.name, container: pod.container }, 'an access log is followed');
    void follower.run(AbortSignal.any([signal, stop.signal])).finally(() => { follow.done = true; });
  }

  // -------------------------------------------------------------- lines

  private line(reader: AccessLogReader, line: string, timeMs: number): void {
    this.counters.lines++;
    const entry = reader.read(line);
    if (entry === null) return;
    this.counters.entries++;
    const requestClass = this.classify(entry);
    const workloads = this.workloadsOf(entry);
    if (workloads.length === 0) {
      this.counters.unresolved++;
      return;
    }
    const counted = timeMs >= this.nextMinute * MINUTE_MS;
    for (const workload of workloads) {
      if (counted) this.counts.add(workloadKey(workload), requestClass, timeMs, entry);
      if (requestClass === 'business') for (const listener of this.listeners) listener(workload, timeMs);
    }
  }

  /**
   * Whom a request was for: the workload of the endpoint that answered, else every workload behind the Service. Where a name may mean
   * several Services all are taken: none of them may be held for idle.
   */
  private workloadsOf(entry: AccessLogEntry): readonly WorkloadRef[] {
    if (this.indexVersion !== this.state.linksVersion) {
      this.index = new ServiceIndex(this.state.knownServices());
      this.indexVersion = this.state.linksVersion;
    }
    const candidates = this.index.resolve(entry.upstream).candidates.flatMap((service) => this.state.workloadsOfService(service));
    const address = entry.upstream?.address ?? null;
    const pod = address === null ? undefined : this.state.podByIp(address.slice(0, address.lastIndexOf(':')).replace(/^\[|\]$/g, ''));
    if (pod !== undefined && (candidates.length === 0 || candidates.some((ref) => workloadKey(ref) === workloadKey(pod.workload)))) return [pod.workload];
    return [...new Map(candidates.map((ref) => [workloadKey(ref), ref])).values()];
  }

  // -------------------------------------------------------------- minutes

  /** Gives away the minutes that every stream has passed. */
  private async close(nowMs: number): Promise<void> {
    const current = Math.floor(nowMs / MINUTE_MS);
    if (this.follows.size === 0) {
      // Nobody watches: these minutes are unknown, not silent.
      if (current > this.nextMinute) await this.give(current, null);
      return;
    }
    const all = [...this.follows.values()].map(({ follower }) => follower);
    // An idle stream says that nothing came only for as long as the server between is known to answer.
    const edgeMs = Math.min(this.apiAnsweredMs, ...all.map((follower) => follower.caughtUpToMs()));
    const passed = Math.min(current, Math.floor(edgeMs / MINUTE_MS));
    const overdue = Math.floor((nowMs - HOLD_MS) / MINUTE_MS);
    const fromMs = Math.max(...all.map(({ continuousFromMs }) => continuousFromMs));
    const until = Math.max(passed, overdue);
    if (until > this.nextMinute) await this.give(until, { fromMs, edgeMs });
  }

  private async give(untilMinute: number, covered: { fromMs: number; edgeMs: number } | null): Promise<void> {
    if (covered !== null) {
      const keys = [...this.state.routedWorkloads(this.options.acceptsClass).keys()];
      for (let minute = this.nextMinute; minute < untilMinute; minute++) {
        const startMs = minute * MINUTE_MS;
        const seconds = Math.floor((Math.min(covered.edgeMs, startMs + MINUTE_MS) - Math.max(covered.fromMs, startMs)) / 1_000);
        if (seconds > 0) for (const key of keys) this.counts.cover(key, minute, seconds);
      }
    }
    const rows = this.counts.drain(untilMinute);
    for (const row of rows) {
      // Asked for, though no Ingress of ours names it (a canary, an Ingress taken away meanwhile): the streams were watched all the same.
      if (row.coveredSeconds > 0 || covered === null) continue;
      const startMs = row.minute * MINUTE_MS;
      row.coveredSeconds = Math.min(60, Math.max(0, Math.floor((Math.min(covered.edgeMs, startMs + MINUTE_MS) - Math.max(covered.fromMs, startMs)) / 1_000)));
    }
    this.counters.rows += rows.length;
    for (const draft of requestDrafts(SOURCE, rows)) await this.outlet.publish('requests', (name) => encodeRequests(draft, name), { covers: requestCovers(draft) });
    await this.tellLosses(untilMinute);
    this.nextMinute = untilMinute;
    const pods = Object.fromEntries([...this.follows].flatMap(([uid, { follower }]) => (follower.lastKey === null ? [] : [[uid, follower.lastKey]])));
    // After the batches: killed in between, the minutes are counted again and are the same rows.
    await this.memory.writeState(STATE_FILE, { next_minute: untilMinute, pods: { ...this.keptKeys(), ...pods } });
  }

  /** Keys of an earlier process for pods whose streams have given no line yet. */
  private keptKeys(): Record<string, string> {
    return Object.fromEntries(Object.entries(this.saved).filter(([uid]) => this.follows.has(uid)));
  }

  private async tellLosses(untilMinute: number): Promise<void> {
    const { late, ahead, full } = this.counts.losses;
    const total = late + ahead + full;
    if (total === this.reportedLosses) return;
    const count = total - this.reportedLosses;
    this.reportedLosses = total;
    await this.outlet.coverage({
      type: 'gap', source: 'requests', start: toTimestamp(this.nextMinute * MINUTE_MS), end: toTimestamp(untilMinute * MINUTE_MS), reason: 'requests that could not be counted', count, workload: null, detail: { late, ahead, full },
    });
  }
}
