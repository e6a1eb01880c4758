import type { WorkloadRef } from '@upid/contracts';
import type { Database, Tx } from '@upid/platform';
import { copyOut, timeLiteral } from '../fold/copy-out.repository.js';

export interface HourInfo {
  readonly hourMs: number;
  readonly closed: boolean;
  readonly revision: bigint;
  /** Bit w: the hour's w-th five minutes have cells or are packed. */
  readonly windows: number;
  /** Bit m: the minute holds a sample. */
  readonly usageMinutes: bigint;
  readonly requestMinutes: bigint;
}
export interface WorkloadHourRow { readonly workload: number; readonly hourMs: number; readonly load: Uint8Array; readonly requests: Uint8Array | null; readonly aggregate: Uint8Array }
export interface PodHourRow { readonly pod: number; readonly hourMs: number; readonly samples: Uint8Array }
export interface CellsRow { readonly hourMs: number; readonly window: number; readonly data: Uint8Array }
export interface StoredPod { readonly id: number; readonly uid: string; readonly workload: number; readonly name: string; readonly firstHour: Date }
export interface ClusterRow { readonly number: number; readonly skewedBatches: number; readonly lastSkewMs: number | null; readonly lastSkewedAt: Date | null; readonly daysRevision: bigint }
export interface CoverageSpan { readonly usageSince: Date | null; readonly usageUntil: Date | null; readonly requestsSince: Date | null; readonly requestsUntil: Date | null }

/** PostgreSQL's epoch, 2000-01-01, in unix ms. */
const PG_EPOCH_MS = 946_684_800_000;
const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;

const timeOf = (field: Buffer) => PG_EPOCH_MS + Number(field.readBigInt64BE() / 1000n);
const list = (numbers: Iterable<number>) => [...numbers].map(Math.trunc).join(', ') || 'NULL';
const every = (fromMs: number, toMs: number, stepMs: number) => Array.from({ length: Math.max(0, Math.ceil((toMs - fromMs) / stepMs)) }, (_, i) => fromMs + i * stepMs);
const times = (all: readonly number[]) => all.map(timeLiteral).join(', ') || 'NULL';

/** Reads what the fold wrote. */
export class HistoryRepository {
  constructor(private readonly database: Database) {}

  private copy(query: string): Promise<(Buffer | null)[][]> {
    return this.database.transaction((tx: Tx) => copyOut(tx, query));
  }

  async cluster(clusterId: string): Promise<ClusterRow | null> {
    const { rows } = await this.database.query<{ id: number; skewed_batches: bigint; last_skew_ms: bigint | null; last_skewed_at: Date | null; days_revision: bigint }>(
      'SELECT id, skewed_batches, last_skew_ms, last_skewed_at, days_revision FROM cluster WHERE cluster_id = $1', [clusterId]);
    const row = rows[0];
    return row ? { number: row.id, skewedBatches: Number(row.skewed_batches), lastSkewMs: row.last_skew_ms === null ? null : Number(row.last_skew_ms), lastSkewedAt: row.last_skewed_at, daysRevision: row.days_revision } : null;
  }

  async clusterIds(): Promise<string[]> {
    const { rows } = await this.database.query<{ cluster_id: string }>('SELECT cluster_id FROM cluster ORDER BY cluster_id');
    return rows.map((row) => row.cluster_id);
  }

  /** Hours of which anything is known, from..to. */
  async hours(cluster: number, fromMs: number, toMs: number): Promise<HourInfo[]> {
    const { rows } = await this.database.query<{ hour: Date; closed: boolean; revision: bigint; windows: number; usage_minutes: bigint; request_minutes: bigint }>(
      'SELECT hour, closed, revision, windows, usage_minutes, request_minutes FROM hour_state WHERE cluster = $1 AND hour >= $2 AND hour < $3 ORDER BY hour', [cluster, new Date(fromMs), new Date(toMs)]);
    return rows.map((row) => ({ hourMs: row.hour.getTime(), closed: row.closed, revision: row.revision, windows: row.windows, usageMinutes: row.usage_minutes, requestMinutes: row.request_minutes }));
  }

  /** First and last minutes with usage and with requests. */
  async span(cluster: number): Promise<CoverageSpan> {
    const edge = async (column: 'usage_minutes' | 'request_minutes', order: 'ASC' | 'DESC'): Promise<Date | null> => {
      const { rows } = await this.database.query<{ hour: Date; minutes: bigint }>(`SELECT hour, ${column} AS minutes FROM hour_state WHERE cluster = $1 AND ${column} <> 0 ORDER BY hour ${order} LIMIT 1`, [cluster]);
      const row = rows[0];
      if (!row) return null;
      const bits = row.minutes.toString(2);
      const first = bits.length - 1 - bits.lastIndexOf('1');
      return new Date(row.hour.getTime() + (order === 'ASC' ? first : bits.length) * MINUTE_MS);
    };
    const [usageSince, usageUntil, requestsSince, requestsUntil] = await Promise.all([edge('usage_minutes', 'ASC'), edge('usage_minutes', 'DESC'), edge('request_minutes', 'ASC'), edge('request_minutes', 'DESC')]);
    return { usageSince, usageUntil, requestsSince, requestsUntil };
  }

  /** Keys of the cluster's workloads by their numbers. */
  async workloadKeys(cluster: number): Promise<Map<number, string>> {
    const { rows } = await this.database.query<{ id: number; key: string }>(`SELECT id, namespace || '/' || kind || '/' || name AS key FROM workload WHERE cluster = $1`, [cluster]);
    return new Map(rows.map((row) => [row.id, row.key]));
  }

  async workloadNumber(cluster: number, ref: WorkloadRef): Promise<number | null> {
    const { rows } = await this.database.query<{ id: number }>('SELECT id FROM workload WHERE cluster = $1 AND namespace = $2 AND kind = $3 AND name = $4', [cluster, ref.namespace, ref.kind, ref.name]);
    return rows[0]?.id ?? null;
  }

  /** Workloads of a name in a namespace, whatever their kind. */
  async workloadsNamed(cluster: number, namespace: string, name: string): Promise<{ id: number; ref: WorkloadRef }[]> {
    const { rows } = await this.database.query<{ id: number; namespace: string; kind: WorkloadRef['kind']; name: string }>('SELECT id, namespace, kind, name FROM workload WHERE cluster = $1 AND namespace = $2 AND name = $3 ORDER BY id', [cluster, namespace, name]);
    return rows.map((row) => ({ id: row.id, ref: { namespace: row.namespace, kind: row.kind, name: row.name } }));
  }

  /** Packed hours of workloads from..to, of all or of these, by rising hour. */
  async workloadHours(cluster: number, fromMs: number, toMs: number, workloads: Iterable<number> | null): Promise<WorkloadHourRow[]> {
    // Hours one by one: the key leads with the hour, so that a workload's hours are as many short looks.
    const where = workloads === null ? `hour >= ${timeLiteral(fromMs)} AND hour < ${timeLiteral(toMs)}` : `hour IN (${times(every(fromMs, toMs, HOUR_MS))}) AND workload IN (${list(workloads)})`;
    const rows = await this.copy(`SELECT workload, hour, load, requests, aggregate FROM workload_hour WHERE cluster = ${cluster} AND ${where} ORDER BY hour`);
    return rows.map(([workload, hour, load, requests, aggregate]) => ({ workload: workload!.readInt32BE(), hourMs: timeOf(hour!), load: load!, requests: requests ?? null, aggregate: aggregate! }));
  }

  /** Packed days of workloads from..to, by rising day. */
  async workloadDays(cluster: number, fromMs: number, toMs: number, workloads: Iterable<number>): Promise<{ workload: number; dayMs: number; aggregate: Uint8Array }[]> {
    const rows = await this.copy(`SELECT workload, day, aggregate FROM workload_day WHERE cluster = ${cluster} AND day >= ${timeLiteral(fromMs)} AND day < ${timeLiteral(toMs)} AND workload IN (${list(workloads)}) ORDER BY day`);
    return rows.map(([workload, day, aggregate]) => ({ workload: workload!.readInt32BE(), dayMs: timeOf(day!), aggregate: aggregate! }));
  }

  /** Packed hours of pods, of all or of these, by rising hour. */
  async podHours(cluster: number, fromMs: number, toMs: number, pods: Iterable<number> | null): Promise<PodHourRow[]> {
    const rows = await this.copy(`SELECT pod, hour, samples FROM pod_hour WHERE cluster = ${cluster} AND hour IN (${times(every(fromMs, toMs, HOUR_MS))})${pods === null ? '' : ` AND pod IN (${list(pods)})`} ORDER BY hour`);
    return rows.map(([pod, hour, samples]) => ({ pod: pod!.readInt32BE(), hourMs: timeOf(hour!), samples: samples! }));
  }

  /** Cells of open hours, of all shards or of one. */
  async cells(cluster: number, hoursMs: readonly number[], shard: number | null): Promise<CellsRow[]> {
    if (hoursMs.length === 0) return [];
    const rows = await this.copy(`SELECT hour, window_index, data FROM cell WHERE cluster = ${cluster} AND hour IN (${times(hoursMs)})${shard === null ? '' : ` AND shard = ${Math.trunc(shard)}`} ORDER BY hour, window_index`);
    return rows.map(([hour, window, data]) => ({ hourMs: timeOf(hour!), window: window!.readInt16BE(), data: data! }));
  }

  private async pods(where: string, values: readonly unknown[]): Promise<StoredPod[]> {
    const { rows } = await this.database.query<{ id: number; uid: string; workload: number; name: string; first_hour: Date }>(`SELECT id, uid::text AS uid, workload, name, first_hour FROM pod WHERE ${where} ORDER BY first_hour, id`, values);
    return rows.map((row) => ({ id: row.id, uid: row.uid, workload: row.workload, name: row.name, firstHour: row.first_hour }));
  }

  podsByUid(cluster: number, uids: readonly string[]): Promise<StoredPod[]> {
    return this.pods('cluster = $1 AND uid = ANY($2::uuid[])', [cluster, uids]);
  }

  podsOfWorkload(workload: number): Promise<StoredPod[]> {
    return this.pods('workload = $1', [workload]);
  }

  allPods(cluster: number): Promise<StoredPod[]> {
    return this.pods('cluster = $1', [cluster]);
  }

  /** Pods of a name that batches gave, the latest last. */
  podsNamed(cluster: number, namespace: string, name: string): Promise<StoredPod[]> {
    return this.pods('cluster = $1 AND name = $2 AND workload IN (SELECT id FROM workload WHERE cluster = $1 AND namespace = $3)', [cluster, name, namespace]);
  }
}
