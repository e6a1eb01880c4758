import { HOUR_MS, MINUTE_MS, toTimestamp, workloadKey, type CoverageEvent, type WorkloadRef } from '@upid/contracts';
import type { InventoryState } from '../inventory/state.js';
import type { BatchName, MessageMeta } from '../publishing/publisher.service.js';
import { encodeRequests, requestCovers, requestDrafts } from '../publishing/request-batches.js';
import { encodeUsage, usageCovers, usageDrafts } from '../publishing/usage-batches.js';
import {
  allKnown, coveredMinutes, FIRST_PACE, NAME_QUESTIONS, nextPace, PastNames, QUESTION_METRICS, rateWindow, requestQuestion, requestRows, REQUESTS_METRIC, usageQuestions, usageSamples, type Pace, type PresentNames, type RangeSeries, type UsageAnswers, type UsageQuestion,
} from './history.js';

export interface HistoryApi {
  range(query: string, startMs: number, endMs: number, stepSeconds: number): Promise<RangeSeries[]>;
  instant(query: string, atMs: number): Promise<RangeSeries[]>;
}

export interface BackfillOutlet {
  readonly depth: { readonly batches: number };
  publish(kind: 'usage' | 'requests', encode: (name: BatchName) => Uint8Array, meta: MessageMeta): Promise<void>;
  coverage(event: Omit<CoverageEvent, 'version' | 'id'>): Promise<void>;
}

export interface BackfillMemory {
  readState(name: string): Promise<unknown>;
  writeState(name: string, value: unknown): Promise<void>;
}

export interface BackfillOptions {
  readonly clusterId: string;
  readonly days: number;
  /** Share of its time that the server may work for us, 0..1; default a half. */
  readonly load?: number;
  /** Whether an Ingress of this class is served by the controller whose metrics are read. */
  readonly acceptsClass: (ingressClass: string | null) => boolean;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
  readonly delay: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly now?: () => number;
  /** Runs what may take memory for a while, to be done sooner. */
  readonly withoutSparing?: <T>(work: () => Promise<T>) => Promise<T>;
}

/** How far it has come: hours are read from the newest to the oldest, in each the namespaces one after the other. */
interface Progress {
  readonly version: 1;
  /** Half-open, whole hours but for the end. */
  readonly startMs: number;
  readonly endMs: number;
  /** Hours before this one (going back) are read. */
  readonly hourEndMs: number;
  /** Namespaces of the hour that are read. */
  readonly namespaces: readonly string[];
  readonly done: boolean;
}

const STATE_FILE = 'backfill.json';
const STEP_SECONDS = 60;
/** Owners change seldom: asked this far apart. */
const NAMES_STEP_SECONDS = 300;
/** Batches that wait for the bus before reading pauses. */
const MOST_WAITING = 200;
const TELL_EVERY_MS = 15_000;
const LONGEST_BACK_OFF_MS = 300_000;
/** A query that fails this often is left out: what it would have told stays unknown. */
const QUERY_TRIES = 5;

/**
 * Reads history into the same batches as live data, from a Prometheus-compatible API: one namespace and hour at a time, newest first,
 * slower when the server gets slower. What was read and where it stopped is kept, so that a restart goes on there. A minute that live
 * data tells too is the same sample under the same key.
 */
export class BackfillService {
  private pace: Pace = FIRST_PACE;
  private readonly now: () => number;
  private readonly absent = new Set<UsageQuestion>();
  private toldMs = 0;

  constructor(private readonly api: HistoryApi, private readonly state: InventoryState, private readonly outlet: BackfillOutlet, private readonly memory: BackfillMemory, private readonly options: BackfillOptions) {
    this.now = options.now ?? Date.now;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { withoutSparing = (work) => work() } = this.options;
    let progress = await this.recall();
    for (let failures = 0; !signal.aborted && !progress.done; ) {
      try {
        const from = progress;
        progress = await withoutSparing(() => this.read(from, signal));
        failures = 0;
      } catch (error) {
        failures++;
        progress = await this.recall();
        this.options.log.warn({ error: error instanceof Error ? error.message : String(error), failures }, 'history cannot be read now; trying again');
        await this.options.delay(Math.min(LONGEST_BACK_OFF_MS, 1_000 * 2 ** failures), signal);
      }
    }
  }

  private async recall(): Promise<Progress> {
    const kept = (await this.memory.readState(STATE_FILE)) as Partial<Progress> | null;
    if (kept?.version === 1 && typeof kept.startMs === 'number' && typeof kept.endMs === 'number' && typeof kept.hourEndMs === 'number' && Array.isArray(kept.namespaces)) return kept as Progress;
    // Up to the minute in which live data begins; its own first minutes may overlap and are the same samples.
    const endMs = Math.floor(this.now() / MINUTE_MS) * MINUTE_MS;
    const progress: Progress = { version: 1, startMs: Math.floor((endMs - this.options.days * 24 * HOUR_MS) / HOUR_MS) * HOUR_MS, endMs, hourEndMs: endMs, namespaces: [], done: false };
    await this.memory.writeState(STATE_FILE, progress);
    return progress;
  }

  private async read(from: Progress, signal: AbortSignal): Promise<Progress> {
    const source = await this.probe(from.endMs, signal);
    let progress = from;
    await this.tell(progress, 'backfill_progress');
    while (!signal.aborted && progress.hourEndMs > progress.startMs) {
      const hour = { startMs: Math.max(progress.startMs, Math.ceil(progress.hourEndMs / HOUR_MS - 1) * HOUR_MS), endMs: progress.hourEndMs };
      const covered = source.namespaceLabel === null ? new Set<number>() : coveredMinutes(await this.ask(`count(${REQUESTS_METRIC})`, hour, STEP_SECONDS, signal));
      for (const namespace of await this.namespaces(hour, signal)) {
        if (progress.namespaces.includes(namespace)) continue;
        await this.readNamespace(namespace, hour, source, covered, signal);
        if (signal.aborted) return progress;
        progress = { ...progress, namespaces: [...progress.namespaces, namespace] };
        await this.memory.writeState(STATE_FILE, progress);
        while (this.outlet.depth.batches > MOST_WAITING && !signal.aborted) await this.options.delay(500, signal);
      }
      if (signal.aborted) return progress;
      progress = { ...progress, hourEndMs: hour.startMs, namespaces: [] };
      await this.memory.writeState(STATE_FILE, progress);
      if (this.now() - this.toldMs >= TELL_EVERY_MS) await this.tell(progress, 'backfill_progress');
    }
    if (signal.aborted) return progress;
    progress = { ...progress, done: true };
    await this.tell(progress, 'backfill_done');
    await this.memory.writeState(STATE_FILE, progress);
    this.options.log.info({ days: this.options.days }, 'history is read');
    return progress;
  }

  private async tell({ startMs, endMs, hourEndMs, done }: Progress, type: 'backfill_progress' | 'backfill_done'): Promise<void> {
    this.toldMs = this.now();
    const share = done ? 1 : (endMs - hourEndMs) / Math.max(1, endMs - startMs);
    await this.outlet.coverage({
      type, source: 'usage', start: toTimestamp(startMs), end: toTimestamp(endMs), reason: done ? 'history is read' : 'history is being read', count: null, workload: null,
      detail: { progress: Math.round(share * 1_000) / 1_000, read_back_to: toTimestamp(hourEndMs) },
    });
  }

  // -------------------------------------------------------------- what is there

  /** Finds out how often is scraped, what is, and by which label the ingress controller's namespaces go. */
  private async probe(atMs: number, signal: AbortSignal): Promise<{ window: string; namespaceLabel: string | null }> {
    const interval = await this.scrapeInterval(atMs, signal);
    this.absent.clear();
    const seen = new Map<string, boolean>();
    for (const [question, { metric, required }] of Object.entries(QUESTION_METRICS) as [UsageQuestion, { metric: string; required: boolean }][]) {
      if (required) continue;
      let there = seen.get(metric);
      if (there === undefined) {
        there = await this.isThere(metric, atMs, signal);
        seen.set(metric, there);
      }
      if (!there || ((question === 'cpuPeak' || question === 'memoryPeak') && interval > 30)) this.absent.add(question);
    }
    const exported = await this.isThere(`${REQUESTS_METRIC}{exported_namespace!=""}`, atMs, signal);
    const plain = exported || (await this.isThere(REQUESTS_METRIC, atMs, signal));
    return { window: rateWindow(interval), namespaceLabel: exported ? 'exported_namespace' : plain ? 'namespace' : null };
  }

  /** Seconds between scrapes of containers; a minute where it cannot be told. */
  private async scrapeInterval(atMs: number, signal: AbortSignal): Promise<number> {
    const counts = await this.api.instant('max(count_over_time(container_cpu_usage_seconds_total{container!=""}[10m]))', atMs).catch(() => []);
    await this.rest(signal);
    const count = Number(counts[0]?.values[0]?.[1]);
    return count > 1 ? Math.max(5, Math.round(600 / count)) : 60;
  }

  /** Whether a metric is there, now or a day before (an ingress controller may be new, or gone). */
  private async isThere(selector: string, atMs: number, signal: AbortSignal): Promise<boolean> {
    for (const backMs of [0, 24 * HOUR_MS]) {
      const found = await this.api.instant(`count(${selector})`, atMs - backMs);
      await this.rest(signal);
      if (Number(found[0]?.values[0]?.[1]) > 0) return true;
    }
    return false;
  }

  /** Namespaces that had containers in the hour, and those there now. */
  private async namespaces(hour: { startMs: number; endMs: number }, signal: AbortSignal): Promise<string[]> {
    const series = await this.ask('count by (namespace) (container_cpu_usage_seconds_total{container!=""})', hour, NAMES_STEP_SECONDS, signal);
    return [...new Set(series.flatMap(({ metric }) => metric['namespace'] ?? []))].sort();
  }

  // -------------------------------------------------------------- one namespace and hour

  private async readNamespace(namespace: string, hour: { startMs: number; endMs: number }, source: { window: string; namespaceLabel: string | null }, covered: ReadonlySet<number>, signal: AbortSignal): Promise<void> {
    const answers: UsageAnswers = {};
    const questions = usageQuestions(namespace, source.window);
    const present = this.presentNames();
    for (const question of Object.keys(questions) as UsageQuestion[]) {
      if (signal.aborted) return;
      const ofNames = NAME_QUESTIONS.has(question);
      if (this.absent.has(question) || (ofNames && allKnown(answers, namespace, hour.startMs, present))) continue;
      answers[question] = await this.ask(questions[question], hour, ofNames ? NAMES_STEP_SECONDS : STEP_SECONDS, signal, !QUESTION_METRICS[question].required);
    }
    const { podInfo = [], podOwner = [], replicaSetOwner = [], jobOwner = [] } = answers;
    const names = new PastNames(this.options.clusterId, namespace, present, { podInfo, podOwner, replicaSetOwner, jobOwner });
    const { samples, podSamples, unnamed } = usageSamples(answers, names);
    for (const draft of usageDrafts('prometheus', samples, podSamples)) await this.outlet.publish('usage', (name) => encodeUsage(draft, name), { covers: usageCovers(draft) });
    if (unnamed > 0) {
      await this.outlet.coverage({ type: 'gap', source: 'usage', start: toTimestamp(hour.startMs), end: toTimestamp(hour.endMs), reason: 'history of pods that nobody can name any more', count: unnamed, workload: null, detail: { namespace } });
    }
    if (source.namespaceLabel !== null) await this.readRequests(namespace, source.namespaceLabel, hour, covered, signal);
  }

  private async readRequests(namespace: string, label: string, hour: { startMs: number; endMs: number }, covered: ReadonlySet<number>, signal: AbortSignal): Promise<void> {
    const routed = [...this.state.routedWorkloads(this.options.acceptsClass)].filter(([, ref]) => ref.namespace === namespace).map(([key]) => key);
    // One value before the hour: its first minute grows from there.
    const series = await this.ask(requestQuestion(namespace, label), { startMs: hour.startMs - MINUTE_MS, endMs: hour.endMs }, STEP_SECONDS, signal);
    const rows = requestRows(series, hour, covered, (name) => this.state.workloadsOfService({ namespace, name }), routed);
    for (const draft of requestDrafts('prometheus', rows)) await this.outlet.publish('requests', (name) => encodeRequests(draft, name), { covers: requestCovers(draft) });
  }

  private presentNames(): PresentNames {
    return {
      pod: (namespace, name) => this.state.podsNamed(namespace, name).find(({ removedAtMs }) => removedAtMs === null) ?? null,
      hasWorkload: (workload: WorkloadRef) => this.state.hasWorkload(workloadKey(workload)),
    };
  }

  /** Asks for the ends of an hour's minutes, in our pace. @param optional an answer that cannot be had is empty, and is not asked for again */
  private async ask(query: string, { startMs, endMs }: { startMs: number; endMs: number }, stepSeconds: number, signal: AbortSignal, optional = false): Promise<RangeSeries[]> {
    for (let tries = 1; ; tries++) {
      const begun = performance.now();
      try {
        const answer = await this.api.range(query, startMs + MINUTE_MS, endMs, stepSeconds);
        this.pace = nextPace(this.pace, performance.now() - begun, this.options.load);
        await this.rest(signal);
        return answer;
      } catch (error) {
        this.pace = nextPace(this.pace, null, this.options.load);
        const refused = [400, 422].includes((error as { status?: number }).status ?? 0);
        if (refused && optional) return [];
        if (refused || tries >= QUERY_TRIES || signal.aborted) throw error;
        await this.rest(signal);
      }
    }
  }

  private rest(signal: AbortSignal): Promise<void> {
    return signal.aborted || this.pace.pauseMs < 1 ? Promise.resolve() : this.options.delay(this.pace.pauseMs, signal);
  }
}
