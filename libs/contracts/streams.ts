import { DAY_MS, HOUR_MS, MINUTE_MS } from './time.js';

/** A JetStream stream as the platform makes it. Sizes in bytes, ages in ms. */
export interface StreamDefinition {
  readonly name: 'TELEMETRY' | 'FACTS' | 'PUBLIC' | 'DLQ';
  readonly subjects: readonly string[];
  readonly maxBytes: number;
  readonly maxAgeMs: number;
  /** `new` refuses what does not fit, so that the publisher spools; `old` lets the oldest go. */
  readonly discard: 'new' | 'old';
  readonly duplicateWindowMs: number;
}

const GiB = 1024 ** 3;

/** The four streams. The server's own defaults (no bounds, discard old) lose data silently. */
export const STREAMS: readonly StreamDefinition[] = [
  { name: 'TELEMETRY', subjects: ['upid.v1.*.agent.usage', 'upid.v1.*.agent.requests'], maxBytes: 8 * GiB, maxAgeMs: 72 * HOUR_MS, discard: 'new', duplicateWindowMs: 2 * MINUTE_MS },
  {
    name: 'FACTS',
    subjects: ['upid.v1.*.agent.inventory', 'upid.v1.*.agent.business', 'upid.v1.*.agent.coverage', 'upid.v1.*.agent.result', 'upid.v1.*.intelligence.>', 'upid.v1.*.cost.>'],
    maxBytes: 8 * GiB, maxAgeMs: 7 * DAY_MS, discard: 'new', duplicateWindowMs: 10 * MINUTE_MS,
  },
  { name: 'PUBLIC', subjects: ['upid.v1.*.recommendation.>', 'upid.v1.*.optimizer.>'], maxBytes: 1 * GiB, maxAgeMs: 7 * DAY_MS, discard: 'old', duplicateWindowMs: 10 * MINUTE_MS },
  { name: 'DLQ', subjects: ['upid.dlq.>'], maxBytes: 1 * GiB, maxAgeMs: 30 * DAY_MS, discard: 'old', duplicateWindowMs: 10 * MINUTE_MS },
];

/** How every durable consumer behaves. */
export const CONSUMER_DEFAULTS = { ackWaitMs: 60_000, maxDeliver: 10, maxAckPending: 1_000 } as const;

/** An answer to a question over this many bytes is sent in pages. */
export const PAGE_BYTES = 512 * 1024;
/** A snapshot's part is at most this many bytes. */
export const SNAPSHOT_PART_BYTES = 512 * 1024;
/** Publish times further ahead of the server than this are refused as dead letters. */
export const FUTURE_TOLERANCE_MS = 5 * MINUTE_MS;
