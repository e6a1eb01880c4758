import { parseWorkloadKey } from './ids.js';
import { PoisonMessageError } from './errors.js';
import { decodeMessage, encodeMessage, MalformedMessageError, type MessageInput, type MessageOf, type MessageShape } from './wire.js';

/** `telemetry.proto`, field for field: the test compares the two. */
export const USAGE_BATCH = {
  version: [1, 'uint'], epoch: [2, 'bytes'], sequence: [3, 'uint'], base_minute: [4, 'uint'], source: [5, 'text'], workloads: [6, 'texts'], containers: [7, 'texts'], pod_uids: [8, 'bytes'],
  pod_workload: [9, 'column'], pod_names: [10, 'texts'], series_pod: [11, 'column'], series_container: [12, 'column'], sample_series: [13, 'column'], sample_minute: [14, 'column'],
  cpu_millicores: [15, 'column'], cpu_peak_above_millicores: [16, 'column'], memory_unit_bytes: [17, 'uint'], memory_units: [18, 'column'], memory_peak_above_units: [19, 'column'],
  throttled_permille_plus_one: [20, 'column'], restarts: [21, 'column'], pod_sample_pod: [22, 'column'], pod_sample_minute: [23, 'column'],
  receive_bytes_per_second_plus_one: [24, 'column'], transmit_bytes_per_second_plus_one: [25, 'column'], volume_used_bytes_plus_one: [26, 'column'],
} as const satisfies MessageShape;

export const REQUEST_BATCH = {
  version: [1, 'uint'], epoch: [2, 'bytes'], sequence: [3, 'uint'], base_minute: [4, 'uint'], source: [5, 'text'], workloads: [6, 'texts'], row_workload: [7, 'column'], row_minute: [8, 'column'],
  covered_seconds: [9, 'column'], business: [10, 'column'], health_check: [11, 'column'], probe: [12, 'column'], monitoring: [13, 'column'], load_balancer: [14, 'column'], crawler: [15, 'column'],
  unclassified: [16, 'column'], status_1xx: [17, 'column'], status_2xx: [18, 'column'], status_3xx: [19, 'column'], status_4xx: [20, 'column'], status_5xx: [21, 'column'],
  latency_buckets_in_row: [22, 'column'], latency_bucket: [23, 'signed'], latency_count: [24, 'column'],
} as const satisfies MessageShape;

export const ROLLUP = {
  version: [1, 'uint'], store_epoch: [2, 'bytes'], revision: [3, 'uint'], window_minute: [4, 'uint'], final: [5, 'uint'], part: [6, 'uint'], parts: [7, 'uint'], workloads: [8, 'texts'],
  containers: [9, 'texts'], pod_uids: [10, 'bytes'], pod_workload: [11, 'column'], series_pod: [12, 'column'], series_container: [13, 'column'], covered_minutes: [14, 'column'],
  cpu_millicore_minutes: [15, 'column'], cpu_peak_millicores: [16, 'column'], memory_kibibyte_minutes: [17, 'column'], memory_peak_kibibytes: [18, 'column'],
  throttled_minutes_plus_one: [19, 'column'], restarts: [20, 'column'], network_pod: [21, 'column'], network_covered_minutes: [22, 'column'], receive_bytes: [23, 'column'], transmit_bytes: [24, 'column'],
  load_workload: [25, 'column'], load_covered_minutes: [26, 'column'], load_cpu_millicore_minutes: [27, 'column'], load_cpu_peak_millicores: [28, 'column'], load_buckets_in_row: [29, 'column'],
  load_cpu_bucket: [30, 'signed'], load_cpu_count: [31, 'column'], request_workload: [32, 'column'], request_covered_minutes: [33, 'column'], request_business_minutes: [34, 'column'],
  request_business: [35, 'column'], request_noise: [36, 'column'], request_errors: [37, 'column'],
} as const satisfies MessageShape;

export type UsageBatch = MessageOf<typeof USAGE_BATCH>;
export type RequestBatch = MessageOf<typeof REQUEST_BATCH>;
export type Rollup = MessageOf<typeof ROLLUP>;
export type UsageBatchInput = MessageInput<typeof USAGE_BATCH>;
export type RequestBatchInput = MessageInput<typeof REQUEST_BATCH>;
export type RollupInput = MessageInput<typeof ROLLUP>;

export const TELEMETRY_VERSION = 1;

/** A version that this build does not read: a dead letter, replayed after an upgrade. */
export class UnknownVersionError extends PoisonMessageError {
  constructor(what: string, version: number) {
    super(`${what} of version ${version}: this build reads version ${TELEMETRY_VERSION}`);
  }
}

/** A batch that no retry can mend. */
export class MalformedBatchError extends PoisonMessageError {
  constructor(what: string, why: string, options?: ErrorOptions) {
    super(`malformed ${what}: ${why}`, options);
  }
}

type Column = ArrayLike<number>;

function decode<S extends MessageShape>(what: string, shape: S, bytes: Uint8Array): MessageOf<S> {
  let message: MessageOf<S>;
  try {
    message = decodeMessage(shape, bytes);
  } catch (cause) {
    if (cause instanceof MalformedMessageError) throw new MalformedBatchError(what, cause.message, { cause });
    throw cause;
  }
  const version = (message as unknown as { version: number }).version;
  if (version !== TELEMETRY_VERSION) throw new UnknownVersionError(what, version);
  return message;
}

/** Columns of one table: as long as the first, or empty. */
function sameLength(what: string, rows: number, columns: Readonly<Record<string, Column>>, required: readonly string[]): void {
  for (const [name, column] of Object.entries(columns)) {
    if (column.length !== rows && (column.length !== 0 || (rows > 0 && required.includes(name)))) throw new MalformedBatchError(what, `${name} has ${column.length} rows where ${rows} are due`);
  }
}

function within(what: string, name: string, column: Column, below: number): void {
  for (let i = 0; i < column.length; i++) {
    if ((column[i] as number) >= below) throw new MalformedBatchError(what, `${name}[${i}] is ${column[i]} where its table has ${below} rows`);
  }
}

function workloadsOf(what: string, keys: readonly string[]): void {
  for (const key of keys) {
    try {
      parseWorkloadKey(key);
    } catch (cause) {
      throw new MalformedBatchError(what, cause instanceof Error ? cause.message : String(cause), { cause });
    }
  }
}

function podTable(what: string, podUids: Uint8Array, podWorkload: Column, workloads: readonly string[], epoch: Uint8Array): number {
  if (epoch.length !== 16) throw new MalformedBatchError(what, `an epoch has 16 bytes, got ${epoch.length}`);
  if (podUids.length % 16 !== 0) throw new MalformedBatchError(what, `pod_uids has ${podUids.length} bytes, no multiple of 16`);
  const pods = podUids.length / 16;
  if (podWorkload.length !== pods) throw new MalformedBatchError(what, `pod_workload has ${podWorkload.length} rows where ${pods} pods are due`);
  within(what, 'pod_workload', podWorkload, workloads.length);
  workloadsOf(what, workloads);
  return pods;
}

export function encodeUsageBatch(batch: UsageBatchInput): Uint8Array {
  return encodeMessage(USAGE_BATCH, { ...batch, version: TELEMETRY_VERSION });
}

/** Reads and checks a usage batch: after it, every index points into its table. @throws {MalformedBatchError | UnknownVersionError} */
export function decodeUsageBatch(bytes: Uint8Array): UsageBatch {
  const what = 'usage batch';
  const batch = decode(what, USAGE_BATCH, bytes);
  const pods = podTable(what, batch.pod_uids, batch.pod_workload, batch.workloads, batch.epoch);
  if (batch.pod_names.length !== 0 && batch.pod_names.length !== pods) throw new MalformedBatchError(what, `pod_names has ${batch.pod_names.length} rows where ${pods} pods are due`);
  const series = batch.series_pod.length;
  sameLength(what, series, { series_container: batch.series_container }, ['series_container']);
  within(what, 'series_pod', batch.series_pod, pods);
  within(what, 'series_container', batch.series_container, batch.containers.length);
  const samples = batch.cpu_millicores.length;
  if (batch.sample_series.length === 0 && samples > series) throw new MalformedBatchError(what, `${samples} samples for ${series} series and no sample_series`);
  sameLength(what, samples, {
    sample_series: batch.sample_series, sample_minute: batch.sample_minute, cpu_peak_above_millicores: batch.cpu_peak_above_millicores, memory_units: batch.memory_units,
    memory_peak_above_units: batch.memory_peak_above_units, throttled_permille_plus_one: batch.throttled_permille_plus_one, restarts: batch.restarts,
  }, ['memory_units']);
  within(what, 'sample_series', batch.sample_series, series);
  within(what, 'throttled_permille_plus_one', batch.throttled_permille_plus_one, 1002);
  if (samples > 0 && batch.memory_unit_bytes === 0) throw new MalformedBatchError(what, 'memory_unit_bytes is missing');
  const podSamples = batch.pod_sample_pod.length;
  sameLength(what, podSamples, {
    pod_sample_minute: batch.pod_sample_minute, receive_bytes_per_second_plus_one: batch.receive_bytes_per_second_plus_one, transmit_bytes_per_second_plus_one: batch.transmit_bytes_per_second_plus_one,
    volume_used_bytes_plus_one: batch.volume_used_bytes_plus_one,
  }, []);
  within(what, 'pod_sample_pod', batch.pod_sample_pod, pods);
  return batch;
}

export function encodeRequestBatch(batch: RequestBatchInput): Uint8Array {
  return encodeMessage(REQUEST_BATCH, { ...batch, version: TELEMETRY_VERSION });
}

const CLASS_COLUMNS = ['business', 'health_check', 'probe', 'monitoring', 'load_balancer', 'crawler', 'unclassified', 'status_1xx', 'status_2xx', 'status_3xx', 'status_4xx', 'status_5xx'] as const;

/** Reads and checks a request batch. @throws {MalformedBatchError | UnknownVersionError} */
export function decodeRequestBatch(bytes: Uint8Array): RequestBatch {
  const what = 'request batch';
  const batch = decode(what, REQUEST_BATCH, bytes);
  if (batch.epoch.length !== 16) throw new MalformedBatchError(what, `an epoch has 16 bytes, got ${batch.epoch.length}`);
  workloadsOf(what, batch.workloads);
  const rows = batch.row_workload.length;
  sameLength(what, rows, { row_minute: batch.row_minute, covered_seconds: batch.covered_seconds, latency_buckets_in_row: batch.latency_buckets_in_row, ...Object.fromEntries(CLASS_COLUMNS.map((name) => [name, batch[name]])) }, ['covered_seconds']);
  within(what, 'row_workload', batch.row_workload, batch.workloads.length);
  within(what, 'covered_seconds', batch.covered_seconds, 61);
  let buckets = 0;
  for (let i = 0; i < batch.latency_buckets_in_row.length; i++) buckets += batch.latency_buckets_in_row[i] as number;
  if (batch.latency_bucket.length !== buckets || batch.latency_count.length !== buckets) throw new MalformedBatchError(what, `${buckets} latency buckets are due, ${batch.latency_bucket.length} and ${batch.latency_count.length} there`);
  return batch;
}

export function encodeRollup(rollup: RollupInput): Uint8Array {
  return encodeMessage(ROLLUP, { ...rollup, version: TELEMETRY_VERSION });
}

/** Reads and checks a rollup. @throws {MalformedBatchError | UnknownVersionError} */
export function decodeRollup(bytes: Uint8Array): Rollup {
  const what = 'rollup';
  const rollup = decode(what, ROLLUP, bytes);
  const pods = podTable(what, rollup.pod_uids, rollup.pod_workload, rollup.workloads, rollup.store_epoch);
  const series = rollup.series_pod.length;
  sameLength(what, series, {
    series_container: rollup.series_container, covered_minutes: rollup.covered_minutes, cpu_millicore_minutes: rollup.cpu_millicore_minutes, cpu_peak_millicores: rollup.cpu_peak_millicores,
    memory_kibibyte_minutes: rollup.memory_kibibyte_minutes, memory_peak_kibibytes: rollup.memory_peak_kibibytes, throttled_minutes_plus_one: rollup.throttled_minutes_plus_one, restarts: rollup.restarts,
  }, ['series_container', 'covered_minutes', 'cpu_millicore_minutes', 'memory_kibibyte_minutes']);
  within(what, 'series_pod', rollup.series_pod, pods);
  within(what, 'series_container', rollup.series_container, rollup.containers.length);
  sameLength(what, rollup.network_pod.length, { network_covered_minutes: rollup.network_covered_minutes, receive_bytes: rollup.receive_bytes, transmit_bytes: rollup.transmit_bytes }, ['network_covered_minutes', 'receive_bytes', 'transmit_bytes']);
  within(what, 'network_pod', rollup.network_pod, pods);
  sameLength(what, rollup.load_workload.length, {
    load_covered_minutes: rollup.load_covered_minutes, load_cpu_millicore_minutes: rollup.load_cpu_millicore_minutes, load_cpu_peak_millicores: rollup.load_cpu_peak_millicores, load_buckets_in_row: rollup.load_buckets_in_row,
  }, ['load_covered_minutes', 'load_cpu_millicore_minutes']);
  within(what, 'load_workload', rollup.load_workload, rollup.workloads.length);
  sameLength(what, rollup.request_workload.length, {
    request_covered_minutes: rollup.request_covered_minutes, request_business_minutes: rollup.request_business_minutes, request_business: rollup.request_business, request_noise: rollup.request_noise, request_errors: rollup.request_errors,
  }, ['request_covered_minutes']);
  within(what, 'request_workload', rollup.request_workload, rollup.workloads.length);
  return rollup;
}
