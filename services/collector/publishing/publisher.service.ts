import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { subjects, toTimestamp, uidFromBytes, type AgentKind, type CoverageEvent } from '@upid/contracts';
import { backOffMs } from '../connection/rate-limit.js';
import { uuidOf } from '../inventory/identifiers.js';
import { spoolFileBytes, superseded, toDrop, withDropped, type Covers, type Gap, type SpoolEntry, type SpoolHeader } from './spool.js';

/** Where messages go. The names of its errors tell what became of one. */
export interface PublishPort {
  readonly state: string;
  publish(subject: string, payload: Uint8Array, options: { msgId: string; publishedAtMs?: number; timeoutMs?: number }): Promise<unknown>;
}

/** Where messages wait. */
export interface SpoolPort {
  open(): Promise<{ entries: SpoolEntry[]; malformed: string[] }>;
  write(header: SpoolHeader, payload: Uint8Array, nowMs: number): Promise<SpoolEntry>;
  payload(entry: SpoolEntry): Promise<Uint8Array>;
  remove(entry: SpoolEntry): Promise<void>;
  gaps(): Promise<Gap[]>;
  writeGaps(gaps: readonly Gap[]): Promise<void>;
}

export interface PublisherLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** How a batch is named: cluster / epoch / sequence. */
export interface BatchName {
  /** 16 bytes. */
  readonly epoch: Uint8Array;
  readonly sequence: number;
}

export interface MessageMeta {
  readonly covers?: Covers;
  readonly generation?: { readonly epoch: string; readonly number: number };
  /** In place of the batch's name, for facts that are the same fact however often they are told. */
  readonly messageId?: string;
}

/** How many messages of a kind may be on their way at once; 1 keeps their order. */
const IN_FLIGHT: Readonly<Record<Exclude<AgentKind, 'heartbeat'>, number>> = { usage: 16, requests: 8, inventory: 1, business: 1, coverage: 1, result: 1 };
type Lane = keyof typeof IN_FLIGHT;
const LANES = Object.keys(IN_FLIGHT) as Lane[];
const PUBLISH_TIMEOUT_MS = 10_000;
const LONGEST_BACK_OFF_MS = 5_000;

/**
 * Publishes what the agent has to say. Each message is on disk before it is sent and stays there until the bus has it, so a killed
 * process loses no message that was handed over here; a message is encoded once and keeps its name for ever. With the bus away the
 * spool grows up to its bound; then the oldest usage goes, and what went is told as a gap as soon as the bus is back.
 */
export class Publisher {
  readonly epoch: Uint8Array = randomBytes(16);
  readonly epochId = uidFromBytes(this.epoch);
  readonly counters = { published: 0, failed: 0, droppedBatches: 0, droppedSamples: 0 };
  /** When the bus last took a message, unix ms; 0 before it ever did. */
  lastAcknowledgedMs = 0;

  private sequence = 0;
  private bytes = 0;
  private readonly waiting = new Map<Lane, SpoolEntry[]>(LANES.map((lane) => [lane, []]));
  private readonly busy = new Set<SpoolEntry>();
  private gaps: Gap[] = [];
  private failures = 0;
  private retryAtMs = 0;
  private timer: NodeJS.Timeout | undefined;
  private stopped = false;
  /** Hand-overs are taken one after the other, so that files are in the order of calls. */
  private chain: Promise<unknown> = Promise.resolve();

  constructor(private readonly clusterId: string, private readonly bus: PublishPort, private readonly spool: SpoolPort, private readonly options: { maxBytes: number; log: PublisherLog }) {}

  /** Takes up what an earlier process left, in its order. */
  async start(): Promise<void> {
    const { entries, malformed } = await this.spool.open();
    if (malformed.length > 0) this.options.log.error({ files: malformed }, 'files in the spool that are no messages are left alone');
    for (const entry of entries) this.append(entry);
    this.gaps = await this.spool.gaps();
    if (entries.length > 0) this.options.log.info({ batches: entries.length, bytes: this.bytes }, 'messages of an earlier run wait in the spool');
    this.pump();
  }

  /** Messages that wait or are on their way. */
  get depth(): { batches: number; bytes: number } {
    return { batches: this.all().length, bytes: this.bytes };
  }

  /**
   * Hands a message over: when this resolves it is on disk, and will be published whatever happens to this process.
   * @param encode makes the payload; the batch's name goes into it
   */
  async publish(kind: Lane, encode: (name: BatchName) => Uint8Array | string, meta: MessageMeta = {}): Promise<void> {
    await this.queue(async () => {
      const sequence = ++this.sequence;
      const encoded = encode({ epoch: this.epoch, sequence });
      const payload = typeof encoded === 'string' ? new TextEncoder().encode(encoded) : encoded;
      const nowMs = Date.now();
      const header: SpoolHeader = {
        kind, messageId: meta.messageId ?? `${this.clusterId}/${this.epochId}/${sequence}`, publishedAtMs: nowMs, covers: meta.covers ?? null, generation: meta.generation ?? null,
      };
      await this.makeRoom(spoolFileBytes(header, payload));
      try {
        this.append(await this.spool.write(header, payload, nowMs));
      } catch (error) {
        // A full or broken disk: what could not be kept is a gap like any other.
        this.options.log.error({ kind, error: message(error) }, 'a message could not be written to the spool and is lost');
        await this.noteDropped(header, 'the spool could not be written');
      }
    });
    this.pump();
  }

  /** Drops inventory messages that a complete snapshot of this generation, handed over before, makes needless. */
  async supersede(generation: { epoch: string; number: number }): Promise<void> {
    await this.queue(async () => {
      for (const entry of superseded(this.waiting.get('inventory') ?? [], generation)) if (!this.busy.has(entry)) await this.discard(entry);
    });
  }

  /** Publishes a coverage event; the same event twice is one. */
  async coverage(event: Omit<CoverageEvent, 'version' | 'id'>): Promise<void> {
    const id = uuidOf('coverage', this.clusterId, event.type, event.source, event.start, event.end, event.reason, JSON.stringify([event.workload, event.count, event.detail]));
    await this.publish('coverage', () => JSON.stringify({ version: 1, id, ...event } satisfies CoverageEvent), { messageId: `${this.clusterId}/coverage/${id}` });
  }

  /** Waits until everything is published, at most so long. @returns whether nothing is left */
  async drain(withinMs: number): Promise<boolean> {
    const deadline = Date.now() + withinMs;
    this.retryAtMs = 0;
    while (Date.now() < deadline) {
      await this.chain;
      if (this.all().length === 0) return true;
      this.pump();
      await delay(20);
    }
    return this.all().length === 0;
  }

  /** The bus is back: tries at once. */
  wake(): void {
    this.retryAtMs = 0;
    this.pump();
  }

  /** Sends nothing more; what waits stays in the spool. */
  async stop(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.timer);
    await this.chain;
  }

  // -------------------------------------------------------------- sending

  private pump(): void {
    if (this.stopped) return;
    const waitMs = this.retryAtMs - Date.now();
    if (waitMs > 0) {
      this.timer ??= setTimeout(() => {
        this.timer = undefined;
        this.pump();
      }, waitMs);
      return;
    }
    for (const lane of LANES) {
      const entries = this.waiting.get(lane) ?? [];
      let inFlight = entries.reduce((count, entry) => count + (this.busy.has(entry) ? 1 : 0), 0);
      for (const entry of entries) {
        // After a failure one message a lane feels whether the bus is back.
        if (inFlight >= (this.failures > 0 ? 1 : IN_FLIGHT[lane])) break;
        if (this.busy.has(entry)) continue;
        inFlight++;
        this.busy.add(entry);
        void this.send(entry);
      }
    }
  }

  private async send(entry: SpoolEntry): Promise<void> {
    const { header } = entry;
    try {
      const payload = await this.spool.payload(entry);
      await this.bus.publish(subjects.agent(this.clusterId, header.kind), payload, { msgId: header.messageId, publishedAtMs: header.publishedAtMs, timeoutMs: PUBLISH_TIMEOUT_MS });
      this.lastAcknowledgedMs = Date.now();
      this.counters.published++;
      this.failures = 0;
      await this.queue(() => this.discard(entry));
      if (this.gaps.length > 0) await this.tellGaps();
    } catch (error) {
      this.busy.delete(entry);
      if (isHopeless(error)) {
        this.options.log.error({ kind: header.kind, message_id: header.messageId, bytes: entry.bytes, error: message(error) }, 'a message can never be published and is dropped');
        await this.queue(async () => {
          await this.noteDropped(header, `it could not be published: ${message(error)}`);
          await this.discard(entry);
        });
      } else this.backOff(error);
    }
    this.pump();
  }

  private backOff(error: unknown): void {
    this.counters.failed++;
    if (Date.now() < this.retryAtMs) return;
    this.failures++;
    this.retryAtMs = Date.now() + backOffMs(this.failures, Math.random(), 200, LONGEST_BACK_OFF_MS);
    if (this.failures === 1) this.options.log.warn({ error: message(error), ...this.depth }, 'the bus takes no messages: they wait in the spool');
  }

  private async tellGaps(): Promise<void> {
    const gaps = await this.queue(async () => this.gaps.splice(0));
    for (const { source, startMs, endMs, count, batches, reason } of gaps) {
      await this.coverage({ type: 'gap', source, start: toTimestamp(startMs), end: toTimestamp(endMs), reason, count, workload: null, detail: { batches } });
    }
    // Only now are they safe in the spool; killed before, they are told again under the same id.
    await this.queue(() => this.spool.writeGaps(this.gaps));
  }

  // -------------------------------------------------------------- the spool

  private append(entry: SpoolEntry): void {
    const lane = this.waiting.get(entry.header.kind as Lane);
    if (lane === undefined) return;
    lane.push(entry);
    this.bytes += entry.bytes;
  }

  private async discard(entry: SpoolEntry): Promise<void> {
    await this.spool.remove(entry);
    this.busy.delete(entry);
    const lane = this.waiting.get(entry.header.kind as Lane) ?? [];
    const at = lane.indexOf(entry);
    if (at < 0) return;
    lane.splice(at, 1);
    this.bytes -= entry.bytes;
  }

  private async makeRoom(incoming: number): Promise<void> {
    if (this.bytes + incoming <= this.options.maxBytes) return;
    const dropped = toDrop(this.all(), incoming, this.options.maxBytes, (entry) => this.busy.has(entry));
    for (const entry of dropped) await this.noteDropped(entry.header, 'the spool was full while the bus was away', false);
    await this.spool.writeGaps(this.gaps);
    for (const entry of dropped) await this.discard(entry);
    if (dropped.length > 0) this.options.log.warn({ batches: dropped.length, max_bytes: this.options.maxBytes }, 'the spool is full: its oldest messages are dropped and will be told as a gap');
  }

  private async noteDropped(header: SpoolHeader, reason: string, write = true): Promise<void> {
    this.counters.droppedBatches++;
    if (header.covers === null) return;
    this.counters.droppedSamples += header.covers.count;
    this.gaps = withDropped(this.gaps, header.covers, reason);
    if (!write) return;
    await this.spool.writeGaps(this.gaps).catch((error: unknown) => this.options.log.error({ error: message(error) }, 'a gap could not be noted on disk; it is kept in memory'));
  }

  private all(): SpoolEntry[] {
    return LANES.flatMap((lane) => this.waiting.get(lane) ?? []).sort((a, b) => (a.file < b.file ? -1 : 1));
  }

  private queue<T>(work: () => Promise<T>): Promise<T> {
    const done = this.chain.then(work);
    this.chain = done.catch(() => undefined);
    return done;
  }
}

function isHopeless(error: unknown): boolean {
  return error instanceof Error && ['MessageTooLargeError', 'MalformedSpoolFileError'].includes(error.name);
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
