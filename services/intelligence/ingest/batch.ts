import {
  decodeRequestBatch, decodeUsageBatch, encodeRequestBatch, encodeUsageBatch, FUTURE_TOLERANCE_MS, HOUR_MS, MalformedBatchError, MINUTE_MS, uidFromBytes, ZERO_BUCKET, type RequestBatch, type UsageBatch,
} from '@upid/contracts';

/** Samples are kept this long; what is older when it comes is refused. */
export const SAMPLE_DAYS = 90;
/** Publish times further than this from the bus's own are marked. */
export const SKEW_MS = 5 * MINUTE_MS;
/** Above this a latency bucket or a count of minutes is no honest value: gamma^2000 ms is longer than the universe. */
const GREATEST_BUCKET = 2000;

export type BatchKind = 'usage' | 'requests';

/** A part of a batch that lies within one hour. */
export interface BatchPart {
  /** Unix ms of the hour. */
  readonly hourMs: number;
  /** Bit w: it has samples of the hour's w-th five minutes. */
  readonly windows: number;
  readonly payload: Uint8Array;
}

/** A batch that may be stored. */
export interface CheckedBatch {
  readonly kind: BatchKind;
  /** Its name within the cluster: epoch (as a UUID) and sequence. */
  readonly epoch: string;
  readonly sequence: number;
  readonly parts: readonly BatchPart[];
  /** Samples and request rows. */
  readonly rows: number;
}

/** Unix minutes of a table's rows. */
function minutesOf(base: number, offsets: Float64Array, rows: number): { readonly least: number; readonly most: number } {
  if (offsets.length === 0) return { least: base, most: base };
  let least = Infinity;
  let most = -Infinity;
  for (let i = 0; i < rows; i++) {
    const minute = base + (offsets[i] as number);
    if (minute < least) least = minute;
    if (minute > most) most = minute;
  }
  return { least, most };
}

function windowsOf(base: number, offsets: Float64Array, rows: number): number {
  let windows = 0;
  for (let i = 0; i < rows; i++) windows |= 1 << (((base + (offsets.length === 0 ? 0 : (offsets[i] as number))) % 60) / 5);
  return windows;
}

const pick = (column: Float64Array, rows: readonly number[]): number[] => (column.length === 0 ? [] : rows.map((row) => column[row] as number));

/** Rows of a table by hour of their minute. */
function rowsByHour(base: number, offsets: Float64Array, rows: number, into: Map<number, number[][]>, table: number): void {
  for (let i = 0; i < rows; i++) {
    const minute = base + (offsets.length === 0 ? 0 : (offsets[i] as number));
    const hour = Math.floor(minute / 60);
    let tables = into.get(hour);
    if (!tables) into.set(hour, (tables = [[], []]));
    tables[table]?.push(i);
  }
}

/** The parts of a usage batch by hour; the batch itself, as it came, where it lies within one. */
function splitUsage(batch: UsageBatch, payload: Uint8Array): BatchPart[] {
  const byHour = new Map<number, number[][]>();
  const samples = batch.cpu_millicores.length;
  const podSamples = batch.pod_sample_pod.length;
  rowsByHour(batch.base_minute, batch.sample_minute, samples, byHour, 0);
  rowsByHour(batch.base_minute, batch.pod_sample_minute, podSamples, byHour, 1);
  return [...byHour].map(([hour, [sampleRows = [], podRows = []]]) => {
    const minute = (row: number) => batch.base_minute + (batch.sample_minute[row] ?? 0) - hour * 60;
    const podMinute = (row: number) => batch.base_minute + (batch.pod_sample_minute[row] ?? 0) - hour * 60;
    let windows = 0;
    for (const row of sampleRows) windows |= 1 << (minute(row) / 5);
    for (const row of podRows) windows |= 1 << (podMinute(row) / 5);
    if (byHour.size === 1) return { hourMs: hour * HOUR_MS, windows, payload };
    const part = encodeUsageBatch({
      ...batch, base_minute: hour * 60, sample_series: sampleRows.map((row) => (batch.sample_series.length === 0 ? row : (batch.sample_series[row] as number))), sample_minute: sampleRows.map(minute),
      cpu_millicores: pick(batch.cpu_millicores, sampleRows), cpu_peak_above_millicores: pick(batch.cpu_peak_above_millicores, sampleRows), memory_units: pick(batch.memory_units, sampleRows),
      memory_peak_above_units: pick(batch.memory_peak_above_units, sampleRows), throttled_permille_plus_one: pick(batch.throttled_permille_plus_one, sampleRows), restarts: pick(batch.restarts, sampleRows),
      pod_sample_pod: pick(batch.pod_sample_pod, podRows), pod_sample_minute: podRows.map(podMinute), receive_bytes_per_second_plus_one: pick(batch.receive_bytes_per_second_plus_one, podRows),
      transmit_bytes_per_second_plus_one: pick(batch.transmit_bytes_per_second_plus_one, podRows), volume_used_bytes_plus_one: pick(batch.volume_used_bytes_plus_one, podRows),
    });
    return { hourMs: hour * HOUR_MS, windows, payload: part };
  });
}

function splitRequests(batch: RequestBatch, payload: Uint8Array): BatchPart[] {
  const byHour = new Map<number, number[][]>();
  const rows = batch.row_workload.length;
  rowsByHour(batch.base_minute, batch.row_minute, rows, byHour, 0);
  const firstBucket: number[] = [];
  let bucket = 0;
  for (let i = 0; i < rows; i++) {
    firstBucket.push(bucket);
    bucket += batch.latency_buckets_in_row[i] ?? 0;
  }
  return [...byHour].map(([hour, [hourRows = []]]) => {
    const minute = (row: number) => batch.base_minute + (batch.row_minute[row] ?? 0) - hour * 60;
    const windows = hourRows.reduce((bits, row) => bits | (1 << (minute(row) / 5)), 0);
    if (byHour.size === 1) return { hourMs: hour * HOUR_MS, windows, payload };
    const buckets = hourRows.flatMap((row) => Array.from({ length: batch.latency_buckets_in_row[row] ?? 0 }, (_, i) => (firstBucket[row] as number) + i));
    const columns = ['row_workload', 'covered_seconds', 'business', 'health_check', 'probe', 'monitoring', 'load_balancer', 'crawler', 'unclassified', 'status_1xx', 'status_2xx', 'status_3xx', 'status_4xx', 'status_5xx', 'latency_buckets_in_row'] as const;
    const part = encodeRequestBatch({
      ...batch, base_minute: hour * 60, row_minute: hourRows.map(minute), ...Object.fromEntries(columns.map((name) => [name, pick(batch[name], hourRows)])), latency_bucket: pick(batch.latency_bucket, buckets), latency_count: pick(batch.latency_count, buckets),
    });
    return { hourMs: hour * HOUR_MS, windows, payload: part };
  });
}

function checkMinutes(what: string, least: number, most: number, receivedAtMs: number): void {
  if (most * MINUTE_MS > receivedAtMs + FUTURE_TOLERANCE_MS) throw new MalformedBatchError(what, `it tells of minute ${most}, ${Math.round(most - receivedAtMs / MINUTE_MS)} minutes after the bus took it`);
  const oldest = receivedAtMs / MINUTE_MS - SAMPLE_DAYS * 24 * 60;
  if (least < oldest) throw new MalformedBatchError(what, `it tells of minute ${least}, more than ${SAMPLE_DAYS} days ago: samples are kept no longer`);
}

/**
 * Reads a batch as far as it must be right to be stored: structure, indexes, times, sizes. A batch of one hour is stored as
 * it came; one of several is cut at the hours, under the same name.
 * @param receivedAtMs when the bus took it
 * @throws {MalformedBatchError | UnknownVersionError} what no retry can mend
 */
export function checkBatch(kind: BatchKind, payload: Uint8Array, receivedAtMs: number): CheckedBatch {
  if (kind === 'usage') {
    const what = 'usage batch';
    const batch = decodeUsageBatch(payload);
    const samples = batch.cpu_millicores.length;
    const podSamples = batch.pod_sample_pod.length;
    const ranges = [...(samples > 0 ? [minutesOf(batch.base_minute, batch.sample_minute, samples)] : []), ...(podSamples > 0 ? [minutesOf(batch.base_minute, batch.pod_sample_minute, podSamples)] : [])];
    const least = Math.min(...ranges.map((range) => range.least));
    const most = Math.max(...ranges.map((range) => range.most));
    if (ranges.length > 0) checkMinutes(what, least, most, receivedAtMs);
    const greatest = Number.MAX_SAFE_INTEGER / Math.max(1, batch.memory_unit_bytes);
    for (const column of [batch.memory_units, batch.memory_peak_above_units]) {
      for (let i = 0; i < column.length; i++) if ((column[i] as number) > greatest) throw new MalformedBatchError(what, `sample ${i} holds ${column[i]} units of ${batch.memory_unit_bytes} bytes: over 2^53`);
    }
    const head = { kind, epoch: uidFromBytes(batch.epoch), sequence: batch.sequence, rows: samples + podSamples };
    if (ranges.length === 0) return { ...head, parts: [] };
    if (Math.floor(least / 60) === Math.floor(most / 60)) {
      const windows = windowsOf(batch.base_minute, batch.sample_minute, samples) | windowsOf(batch.base_minute, batch.pod_sample_minute, podSamples);
      return { ...head, parts: [{ hourMs: Math.floor(least / 60) * HOUR_MS, windows, payload }] };
    }
    return { ...head, parts: splitUsage(batch, payload) };
  }
  const what = 'request batch';
  const batch = decodeRequestBatch(payload);
  const rows = batch.row_workload.length;
  for (let i = 0; i < batch.latency_bucket.length; i++) {
    const bucket = batch.latency_bucket[i] as number;
    if (bucket < ZERO_BUCKET || bucket > GREATEST_BUCKET) throw new MalformedBatchError(what, `latency_bucket[${i}] is ${bucket}`);
  }
  if (rows > 0) {
    const { least, most } = minutesOf(batch.base_minute, batch.row_minute, rows);
    checkMinutes(what, least, most, receivedAtMs);
  }
  return { kind, epoch: uidFromBytes(batch.epoch), sequence: batch.sequence, rows, parts: splitRequests(batch, payload) };
}

/** How far a publish time lies from the bus's, ms, where that is more than {@link SKEW_MS}; null where it is not, or unknown. */
export function skewOf(publishedAtMs: number | null, receivedAtMs: number): number | null {
  if (publishedAtMs === null) return null;
  const skew = publishedAtMs - receivedAtMs;
  return Math.abs(skew) > SKEW_MS ? skew : null;
}
