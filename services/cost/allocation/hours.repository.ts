import { HOUR_MS } from '@upid/contracts';
import { claim, copyIn, type Database, type Tx } from '@upid/platform';
import type { HourCost } from './hour.js';

export interface DirtyHour {
  readonly cluster: number;
  readonly hourMs: number;
}

/** What stands of an hour. */
export interface StandingHour {
  readonly revision: number;
  readonly publishedRevision: number;
  readonly digest: Buffer;
  readonly closed: boolean;
  readonly currency: string;
}

export interface HourToStore {
  readonly cluster: number;
  readonly hourMs: number;
  readonly currency: string;
  readonly revision: number;
  readonly digest: Uint8Array;
  readonly closed: boolean;
  readonly computedAtMs: number;
  readonly cost: HourCost;
}

const time = (ms: number | null): Date | null => (ms === null ? null : new Date(ms));

/** Hours that are to be computed, and what was computed. */
export class HoursRepository {
  constructor(private readonly database: Database) {}

  transaction<T>(fn: (tx: Tx) => Promise<T>): Promise<T> {
    return this.database.transaction(fn);
  }

  /** Up to `limit` hours of one cluster that are due and that nobody works on; the newest first, since people ask for them. */
  async due(nowMs: number, limit: number): Promise<DirtyHour[]> {
    const now = new Date(nowMs);
    const { rows: [first] } = await this.database.query<{ cluster: number }>('SELECT cluster FROM dirty_hour WHERE due_at <= $1 ORDER BY hour DESC, due_at LIMIT 1 FOR UPDATE SKIP LOCKED', [now]);
    if (!first) return [];
    const { rows } = await this.database.query<{ hour: Date }>('SELECT hour FROM dirty_hour WHERE cluster = $1 AND due_at <= $2 ORDER BY hour DESC LIMIT $3 FOR UPDATE SKIP LOCKED', [first.cluster, now, limit]);
    return rows.map((row) => ({ cluster: first.cluster, hourMs: row.hour.getTime() }));
  }

  /** Of these hours those that this transaction alone works on until it ends. */
  async claim(tx: Tx, hours: readonly DirtyHour[], nowMs: number): Promise<DirtyHour[]> {
    const rows = await claim<{ cluster: number; hour: Date }>(tx, {
      table: 'dirty_hour', where: 'cluster = $1 AND hour = ANY($2) AND due_at <= $3', values: [hours[0]?.cluster ?? 0, hours.map((each) => new Date(each.hourMs)), new Date(nowMs)], orderBy: 'hour', limit: hours.length,
    });
    return rows.map((row) => ({ cluster: row.cluster, hourMs: row.hour.getTime() }));
  }

  async done(tx: Tx, hours: readonly DirtyHour[]): Promise<void> {
    await tx.query('DELETE FROM dirty_hour WHERE cluster = $1 AND hour = ANY($2)', [hours[0]?.cluster ?? 0, hours.map((each) => new Date(each.hourMs))]);
  }

  /** Puts an hour off whose computation failed for a reason of its own, so that it does not hold up the others. */
  async putOff(hour: DirtyHour, untilMs: number): Promise<void> {
    await this.database.query('UPDATE dirty_hour SET due_at = $3 WHERE cluster = $1 AND hour = $2', [hour.cluster, new Date(hour.hourMs), new Date(untilMs)]);
  }

  /** The payloads that count in the hour, by window: the parts of the highest complete revision. What lies below it goes. */
  async rollups(tx: Tx, { cluster, hourMs }: DirtyHour): Promise<Map<number, Buffer[]>> {
    const values = [cluster, new Date(hourMs), new Date(hourMs + HOUR_MS)];
    const best = `best AS (
      SELECT DISTINCT ON (window_start) window_start, epoch, revision FROM (
        SELECT window_start, epoch, revision FROM rollup_part WHERE cluster = $1 AND window_start >= $2 AND window_start < $3 GROUP BY window_start, epoch, revision HAVING count(*) = max(parts)
      ) complete ORDER BY window_start, epoch DESC, revision DESC)`;
    const { rows } = await tx.query<{ window_start: Date; payload: Buffer; below: boolean }>(
      `WITH ${best} SELECT p.window_start, p.payload, EXISTS (SELECT 1 FROM rollup_part low WHERE low.cluster = $1 AND low.window_start = p.window_start AND (low.epoch, low.revision) < (p.epoch, p.revision)) AS below
       FROM rollup_part p JOIN best USING (window_start, epoch, revision) WHERE p.cluster = $1 AND p.window_start >= $2 AND p.window_start < $3 ORDER BY p.window_start, p.part`, values);
    if (rows.some((row) => row.below)) {
      await tx.query(`WITH ${best} DELETE FROM rollup_part low USING best WHERE low.cluster = $1 AND low.window_start >= $2 AND low.window_start < $3 AND low.window_start = best.window_start AND (low.epoch, low.revision) < (best.epoch, best.revision)`, values);
    }
    return new Map([...Map.groupBy(rows, (row) => row.window_start.getTime())].map(([windowMs, parts]) => [windowMs, parts.map((part) => part.payload)]));
  }

  async standing(tx: Tx, { cluster, hourMs }: DirtyHour): Promise<StandingHour | null> {
    const { rows } = await tx.query<{ revision: number; published_revision: number; digest: Buffer; closed: boolean; currency: string }>('SELECT revision, published_revision, digest, closed, currency FROM cluster_hour WHERE cluster = $1 AND hour = $2', [cluster, new Date(hourMs)]);
    const row = rows[0];
    return row ? { revision: row.revision, publishedRevision: row.published_revision, digest: row.digest, closed: row.closed, currency: row.currency } : null;
  }

  /** Replaces an hour as a whole. */
  async store(tx: Tx, hour: HourToStore): Promise<void> {
    const { cluster, hourMs, cost } = hour;
    const at = new Date(hourMs);
    const sum = (of: (node: HourCost['nodes'][number]) => bigint) => String(cost.nodes.reduce((total, node) => total + of(node), 0n));
    await tx.query('DELETE FROM pod_hour WHERE cluster = $1 AND hour = $2', [cluster, at]);
    await tx.query('DELETE FROM node_hour WHERE cluster = $1 AND hour = $2', [cluster, at]);
    if (cost.pods.length > 0) {
      await copyIn(tx, 'pod_hour', {
        cluster: 'int4', hour: 'timestamptz', pod: 'int4', node: 'int4', currency: 'text', present_ms: 'int4', cpu_cost: 'int8', memory_cost: 'int8', gpu_cost: 'int8', actual_cost: 'int8', measured_cost: 'int8', measured_ms: 'int4', cells: 'int4', measured_cells: 'int4',
        charged_cpu_millicore_seconds: 'float8', charged_memory_byte_seconds: 'float8', used_cpu_millicore_seconds: 'float8', used_memory_byte_seconds: 'float8',
      }, cost.pods.map((pod) => [
        cluster, hourMs, pod.podId, pod.nodeId, hour.currency, pod.presentMs, pod.cpuNanos, pod.memoryNanos, pod.gpuNanos, pod.actualNanos, pod.measuredNanos, pod.measuredMs, pod.cells, pod.measuredCells,
        pod.chargedCpuMillicoreSeconds, pod.chargedMemoryByteSeconds, pod.usedCpuMillicoreSeconds, pod.usedMemoryByteSeconds,
      ]));
    }
    if (cost.nodes.length > 0) {
      await copyIn(tx, 'node_hour', { cluster: 'int4', hour: 'timestamptz', node: 'int4', currency: 'text', price: 'int4', present_ms: 'int4', cost: 'int8', allocated: 'int8', idle: 'int8', overhead: 'int8' },
        cost.nodes.map((node) => [cluster, hourMs, node.nodeId, hour.currency, node.priceId, node.presentMs, node.costNanos, node.allocatedNanos, node.idleNanos, node.overheadNanos]));
    }
    await tx.query(
      `INSERT INTO cluster_hour AS h (cluster, hour, currency, revision, digest, closed, covered_from, covered_to, covered_ms, node_cost, allocated_cost, idle_cost, overhead_cost, unbalanced, uncharged, unpriced, computed_at)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
       ON CONFLICT (cluster, hour) DO UPDATE SET currency = excluded.currency, revision = excluded.revision, digest = excluded.digest, closed = excluded.closed, covered_from = excluded.covered_from, covered_to = excluded.covered_to, covered_ms = excluded.covered_ms,
         node_cost = excluded.node_cost, allocated_cost = excluded.allocated_cost, idle_cost = excluded.idle_cost, overhead_cost = excluded.overhead_cost, unbalanced = excluded.unbalanced, uncharged = excluded.uncharged, unpriced = excluded.unpriced, computed_at = excluded.computed_at`,
      [
        cluster, at, hour.currency, hour.revision, Buffer.from(hour.digest), hour.closed, time(cost.coveredFromMs), time(cost.coveredToMs), cost.coveredMs, sum((node) => node.costNanos), sum((node) => node.allocatedNanos), sum((node) => node.idleNanos), sum((node) => node.overheadNanos),
        cost.imbalances.length, JSON.stringify(Object.fromEntries(cost.uncharged)), JSON.stringify(cost.unpriced), new Date(hour.computedAtMs),
      ]);
  }

  /** Marks an hour as over without a change of its figures. */
  async close(tx: Tx, { cluster, hourMs }: DirtyHour): Promise<void> {
    await tx.query('UPDATE cluster_hour SET closed = true WHERE cluster = $1 AND hour = $2', [cluster, new Date(hourMs)]);
  }

  async published(tx: Tx, { cluster, hourMs }: DirtyHour, revision: number): Promise<void> {
    await tx.query('UPDATE cluster_hour SET published_revision = $3 WHERE cluster = $1 AND hour = $2', [cluster, new Date(hourMs), revision]);
  }

  /** Nodes of a stored hour whose stored parts do not sum to their cost: id and the difference, in nanos. */
  async unbalanced(tx: Tx, { cluster, hourMs }: DirtyHour): Promise<{ readonly node: number; readonly difference: string }[]> {
    const { rows } = await tx.query<{ node: number; difference: string }>(
      `SELECT n.node, (n.cost - n.idle - n.overhead - coalesce(p.allocated, 0))::text AS difference
       FROM node_hour n LEFT JOIN (SELECT node, sum(cpu_cost + memory_cost + gpu_cost) AS allocated FROM pod_hour WHERE cluster = $1 AND hour = $2 GROUP BY node) p USING (node)
       WHERE n.cluster = $1 AND n.hour = $2 AND (n.cost <> n.allocated + n.idle + n.overhead OR n.allocated <> coalesce(p.allocated, 0) OR least(n.allocated, n.idle, n.overhead) < 0)`, [cluster, new Date(hourMs)]);
    return rows;
  }

  /** Hours that wait to be computed. */
  async waiting(): Promise<number> {
    const { rows } = await this.database.query<{ count: number }>('SELECT count(*)::int AS count FROM dirty_hour');
    return rows[0]?.count ?? 0;
  }
}
