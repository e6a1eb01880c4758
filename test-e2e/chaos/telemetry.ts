/** Telemetry by (series, minute): as it was published, and as it is to stand once doubles are told from news. */
import { decodeRequestBatch, decodeUsageBatch, uidFromBytes, type RequestBatch, type UsageBatch } from '@upid/contracts';

/** How much a source is trusted where two tell of the same minute, as the fold's documentation says. */
const SOURCES: readonly string[] = ['prometheus', 'metrics_api', 'kubelet'];
const REQUEST_CLASSES = ['business', 'health_check', 'probe', 'monitoring', 'load_balancer', 'crawler', 'unclassified', 'status_1xx', 'status_2xx', 'status_3xx', 'status_4xx', 'status_5xx'] as const;

/** A row and how much its source is trusted. */
interface Row { readonly trust: number; readonly values: readonly number[] }

/** Classes of requests among {@link REQUEST_CLASSES}: the rest counts the same ones by status. */
const COUNTED_CLASSES = 7;

/** Rows by the text of their key; of two for one key the better stands: by source, then by the first greater value (of requests: by time watched, then by how many). */
export class Telemetry {
  /** `uid container minute`: CPU and its peak above, memory and its peak above (bytes), throttled permille plus one, restarts. */
  readonly samples = new Map<string, Row>();
  /** `uid minute`: received, transmitted, volume, each plus one. */
  readonly pods = new Map<string, Row>();
  /** `workload source minute`: seconds watched, then counts by class and status. */
  readonly requests = new Map<string, Row>();
  /** Rows that came, doubles among them. */
  rows = 0;

  addUsage(payload: Uint8Array): void {
    const batch: UsageBatch = decodeUsageBatch(payload);
    const trust = SOURCES.indexOf(batch.source);
    const uid = (pod: number) => uidFromBytes(batch.pod_uids, pod * 16);
    const at = (column: Float64Array, row: number) => column[row] ?? 0;
    batch.cpu_millicores.forEach((cpu, row) => {
      const series = batch.sample_series.length === 0 ? row : at(batch.sample_series, row);
      const key = `${uid(at(batch.series_pod, series))} ${batch.containers[at(batch.series_container, series)]} ${batch.base_minute + at(batch.sample_minute, row)}`;
      const unit = batch.memory_unit_bytes;
      this.put(this.samples, key, trust, [cpu, at(batch.cpu_peak_above_millicores, row), at(batch.memory_units, row) * unit, at(batch.memory_peak_above_units, row) * unit, at(batch.throttled_permille_plus_one, row), at(batch.restarts, row)]);
    });
    batch.pod_sample_pod.forEach((pod, row) => {
      this.put(this.pods, `${uid(pod)} ${batch.base_minute + at(batch.pod_sample_minute, row)}`, trust, [at(batch.receive_bytes_per_second_plus_one, row), at(batch.transmit_bytes_per_second_plus_one, row), at(batch.volume_used_bytes_plus_one, row)]);
    });
  }

  addRequests(payload: Uint8Array): void {
    const batch: RequestBatch = decodeRequestBatch(payload);
    batch.row_workload.forEach((workload, row) => {
      const key = `${batch.workloads[workload]} ${batch.source} ${batch.base_minute + (batch.row_minute[row] ?? 0)}`;
      const counts = REQUEST_CLASSES.map((name) => batch[name][row] ?? 0);
      const covered = batch.covered_seconds[row] ?? 0;
      // Ten thousand million requests a minute are more than there are: one number says which row is fuller.
      this.put(this.requests, key, covered * 1e10 + counts.slice(0, COUNTED_CLASSES).reduce((sum, count) => sum + count, 0), [covered, ...counts]);
    });
  }

  put(rows: Map<string, Row>, key: string, trust: number, values: readonly number[]): void {
    this.rows++;
    const before = rows.get(key);
    if (before === undefined || trust > before.trust || (trust === before.trust && isGreater(values, before.values))) rows.set(key, { trust, values });
  }

  /** Every row as text, sorted: what can be compared. */
  lines(): { samples: string[]; pods: string[]; requests: string[] } {
    const of = (rows: ReadonlyMap<string, Row>) => [...rows].map(([key, { values }]) => `${key}: ${values.join(' ')}`).sort();
    return { samples: of(this.samples), pods: of(this.pods), requests: of(this.requests) };
  }
}

function isGreater(values: readonly number[], before: readonly number[]): boolean {
  const differing = values.findIndex((value, i) => value !== before[i]);
  return differing >= 0 && (values[differing] ?? 0) > (before[differing] ?? 0);
}
