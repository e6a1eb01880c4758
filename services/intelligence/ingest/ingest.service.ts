import { parseSubject, PoisonMessageError } from '@upid/contracts';
import { checkBatch, skewOf } from './batch.js';
import type { IncomingBatch } from './ingest.repository.js';

/** A message of TELEMETRY. */
export interface TelemetryMessage {
  readonly subject: string;
  readonly payload: Uint8Array;
  readonly publishedAtMs: number | null;
  readonly receivedAtMs: number;
  /** Makes a dead letter of this message alone. */
  reject(reason: string): void;
}

/** Where batches go. */
export interface BatchStore {
  store(batches: readonly IncomingBatch[]): Promise<IncomingBatch[]>;
}

/** Batches that may wait in the store to be folded, about a gigabyte; what is more waits on the bus, which is made for it. */
export const MOST_WAITING = 50_000;

/** Says how many batches wait to be folded, up to `most`, and lets time pass. */
export interface Backlog {
  waiting(most: number): Promise<number>;
  pause(): Promise<void>;
}

/** What is counted and measured of ingest. */
export interface IngestMeter {
  stored(batches: number, rows: number): void;
  duplicates(batches: number): void;
  /** From publishing to the commit, ms, a batch. */
  committed(elapsedMs: number): void;
}

/** Stored batches between two looks at the backlog. */
const LOOK_EVERY = 2_000;

/** Telemetry in: what can be read is stored, many batches to a commit; what cannot becomes a dead letter with its reason. */
export class IngestService {
  private sinceLook = LOOK_EVERY;

  constructor(private readonly store: BatchStore, private readonly backlog: Backlog, private readonly meter: IngestMeter, private readonly nowMs: () => number) {}

  /** Returns when everything that was not rejected is committed. */
  async take(messages: readonly TelemetryMessage[]): Promise<void> {
    const incoming: IncomingBatch[] = [];
    for (const message of messages) {
      try {
        const { clusterId, kind } = parseSubject(message.subject);
        const batch = checkBatch(kind === 'requests' ? 'requests' : 'usage', message.payload, message.receivedAtMs);
        incoming.push({ clusterId, batch, publishedAtMs: message.publishedAtMs ?? message.receivedAtMs, skewMs: skewOf(message.publishedAtMs, message.receivedAtMs) });
      } catch (error) {
        if (!(error instanceof PoisonMessageError)) throw error;
        message.reject(error.message);
      }
    }
    if (incoming.length === 0) return;
    await this.waitForFold(incoming.length);
    const fresh = await this.store.store(incoming);
    const now = this.nowMs();
    for (const each of fresh) this.meter.committed(now - each.publishedAtMs);
    this.meter.stored(fresh.length, fresh.reduce((sum, each) => sum + each.batch.rows, 0));
    this.meter.duplicates(incoming.length - fresh.length);
  }

  private async waitForFold(batches: number): Promise<void> {
    this.sinceLook += batches;
    if (this.sinceLook < LOOK_EVERY) return;
    while ((await this.backlog.waiting(MOST_WAITING)) >= MOST_WAITING) await this.backlog.pause();
    this.sinceLook = 0;
  }
}
