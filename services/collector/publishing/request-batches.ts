import { encodeRequestBatch, MINUTE_MS, toPairs } from '@upid/contracts';
import { REQUEST_CLASSES } from '../requests/classes.js';
import type { RequestMinute } from '../requests/counts.js';
import type { Covers } from './spool.js';

/** A minute of a workload's requests; `unclassified` are those whose class no source tells: they count as business. */
export interface RequestRow extends RequestMinute {
  readonly unclassified?: number;
}

export interface RequestBatchDraft {
  readonly source: string;
  readonly rows: readonly RequestRow[];
}

const BATCH_ROWS = 500;

/** Splits rows into batches of at most 500. */
export function requestDrafts(source: string, rows: readonly RequestRow[]): RequestBatchDraft[] {
  const drafts: RequestBatchDraft[] = [];
  for (let from = 0; from < rows.length; from += BATCH_ROWS) drafts.push({ source, rows: rows.slice(from, from + BATCH_ROWS) });
  return drafts;
}

/** What a draft covers: the gap if it is lost. */
export function requestCovers({ rows }: RequestBatchDraft): Covers {
  let first = Infinity;
  let last = -Infinity;
  for (const { minute } of rows) {
    first = Math.min(first, minute);
    last = Math.max(last, minute);
  }
  return { source: 'requests', startMs: first * MINUTE_MS, endMs: (last + 1) * MINUTE_MS, count: rows.length };
}

/** Encodes a draft under its name (`telemetry.proto`, RequestBatch). */
export function encodeRequests(draft: RequestBatchDraft, name: { readonly epoch: Uint8Array; readonly sequence: number }): Uint8Array {
  const { rows } = draft;
  const workloads = [...new Set(rows.map(({ workload }) => workload))];
  const numbers = new Map(workloads.map((workload, index) => [workload, index]));
  const base = requestCovers(draft).startMs / MINUTE_MS;
  const ofClass = (wanted: (typeof REQUEST_CLASSES)[number]) => {
    const index = REQUEST_CLASSES.indexOf(wanted);
    return rows.map(({ counts }) => counts[index] ?? 0);
  };
  const status = (group: number) => rows.map(({ statuses }) => statuses[group] ?? 0);
  const sketches = rows.map(({ latencyMs }) => toPairs(latencyMs));
  return encodeRequestBatch({
    epoch: name.epoch, sequence: name.sequence, base_minute: base, source: draft.source, workloads, row_workload: rows.map(({ workload }) => numbers.get(workload) ?? 0), row_minute: rows.map(({ minute }) => minute - base),
    covered_seconds: rows.map(({ coveredSeconds }) => coveredSeconds), business: ofClass('business'), health_check: ofClass('health_check'), probe: ofClass('probe'), monitoring: ofClass('monitoring'),
    load_balancer: ofClass('load_balancer'), crawler: ofClass('crawler'), unclassified: rows.map(({ unclassified = 0 }) => unclassified), status_1xx: status(0), status_2xx: status(1), status_3xx: status(2), status_4xx: status(3),
    status_5xx: status(4), latency_buckets_in_row: sketches.map((pairs) => pairs.length), latency_bucket: sketches.flatMap((pairs) => pairs.map(([bucket]) => bucket)), latency_count: sketches.flatMap((pairs) => pairs.map(([, count]) => count)),
  });
}
