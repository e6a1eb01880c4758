import { HOUR_MS } from '@upid/contracts';
import type { Database, Tx } from '@upid/platform';

/** One part of a rollup on its way into the store. */
export interface IncomingPart {
  readonly clusterId: string;
  readonly windowMs: number;
  /** UUID text of the store that intelligence kept it in. */
  readonly storeEpoch: string;
  readonly revision: number;
  readonly part: number;
  readonly parts: number;
  readonly final: boolean;
  readonly hasSeries: boolean;
  readonly payload: Uint8Array;
}

export interface StoredCluster {
  readonly number: number;
  readonly clusterId: string;
  /** Since when and until when its inventory is known, unix ms; null: never. */
  readonly observedFromMs: number | null;
  readonly observedUntilMs: number | null;
}

/** What costs are computed from, and which hours are to be computed anew. */
export class InputsRepository {
  private readonly clusters = new Map<string, number>();
  private readonly epochs = new Map<string, number>();

  constructor(private readonly database: Database) {}

  /** The number of a cluster here; it is given one where it is new. */
  async clusterNumber(clusterId: string): Promise<number> {
    const known = this.clusters.get(clusterId);
    if (known !== undefined) return known;
    await this.database.query('INSERT INTO cluster (cluster_id) VALUES ($1) ON CONFLICT DO NOTHING', [clusterId]);
    const found = await this.findCluster(clusterId);
    if (!found) throw new RangeError(`cluster ${clusterId} vanished as it was written`);
    this.clusters.set(clusterId, found.number);
    return found.number;
  }

  async findCluster(clusterId: string): Promise<StoredCluster | null> {
    const { rows } = await this.database.query<ClusterRow>('SELECT id, cluster_id, observed_from, observed_until FROM cluster WHERE cluster_id = $1', [clusterId]);
    return rows[0] ? clusterOf(rows[0]) : null;
  }

  async cluster(tx: Tx, number: number): Promise<StoredCluster> {
    const { rows } = await tx.query<ClusterRow>('SELECT id, cluster_id, observed_from, observed_until FROM cluster WHERE id = $1', [number]);
    if (!rows[0]) throw new RangeError(`there is no cluster ${number}`);
    return clusterOf(rows[0]);
  }

  private async epochNumber(epoch: string): Promise<number> {
    const known = this.epochs.get(epoch);
    if (known !== undefined) return known;
    await this.database.query('INSERT INTO store_epoch (epoch) VALUES ($1) ON CONFLICT DO NOTHING', [epoch]);
    const { rows } = await this.database.query<{ number: number }>('SELECT number FROM store_epoch WHERE epoch = $1', [epoch]);
    const number = rows[0]?.number ?? 0;
    this.epochs.set(epoch, number);
    return number;
  }

  /**
   * Stores parts in one transaction and marks their hours. A part that is there already, or of a revision below one that is
   * known of its window, changes nothing.
   * @param dueAtMs when the marked hours are to be computed
   * @returns how many parts were new
   */
  async storeParts(incoming: readonly IncomingPart[], dueAtMs: number, nowMs: number): Promise<number> {
    const rows: (IncomingPart & { readonly cluster: number; readonly epoch: number })[] = [];
    for (const each of incoming) rows.push({ ...each, cluster: await this.clusterNumber(each.clusterId), epoch: await this.epochNumber(each.storeEpoch) });
    return this.database.transaction(async (tx) => {
      // In one order everywhere, so that replicas wait for each other and never in a circle.
      const sorted = rows.toSorted((a, b) => a.cluster - b.cluster || a.windowMs - b.windowMs || a.epoch - b.epoch || a.revision - b.revision || a.part - b.part);
      const { rows: stored } = await tx.query<{ cluster: number; window_start: Date }>(
        `INSERT INTO rollup_part (cluster, window_start, epoch, revision, part, parts, final, payload)
         SELECT cluster, to_timestamp(window_ms / 1000), epoch, revision, part, parts, final, payload
         FROM unnest($1::int[], $2::float8[], $3::int[], $4::int8[], $5::int[], $6::int[], $7::bool[], $8::bytea[]) AS each (cluster, window_ms, epoch, revision, part, parts, final, payload)
         WHERE NOT EXISTS (
           SELECT 1 FROM rollup_part known WHERE known.cluster = each.cluster AND known.window_start = to_timestamp(each.window_ms / 1000) AND (known.epoch, known.revision) > (each.epoch, each.revision))
         ON CONFLICT DO NOTHING RETURNING cluster, window_start`,
        [
          sorted.map((each) => each.cluster), sorted.map((each) => each.windowMs), sorted.map((each) => each.epoch), sorted.map((each) => each.revision), sorted.map((each) => each.part), sorted.map((each) => each.parts),
          sorted.map((each) => each.final), sorted.map((each) => Buffer.from(each.payload.buffer, each.payload.byteOffset, each.payload.byteLength)),
        ]);
      for (const [cluster, parts] of Map.groupBy(sorted.filter((each) => each.hasSeries), (each) => each.cluster)) {
        await this.heard(tx, cluster, Math.min(nowMs, Math.max(...parts.map((each) => each.windowMs)) + 5 * 60_000), false);
      }
      await this.mark(tx, stored.map((row) => ({ cluster: row.cluster, hourMs: hourOf(row.window_start.getTime()) })), dueAtMs);
      return stored.length;
    });
  }

  /** The agent of a cluster spoke of this time; its inventory is known from the first such word to the last. */
  async heard(tx: Tx, cluster: number, atMs: number, ofInventory: boolean): Promise<void> {
    await tx.query(
      `UPDATE cluster SET observed_until = greatest(observed_until, $2), observed_from = CASE WHEN $3 THEN least(observed_from, $2) ELSE observed_from END
       WHERE id = $1 AND (observed_until IS NULL OR observed_until < $2 OR $3 AND (observed_from IS NULL OR observed_from > $2))`, [cluster, new Date(atMs), ofInventory]);
  }

  /** Marks hours to be computed; one that is marked already keeps its place, or comes earlier. */
  async mark(tx: Tx, hours: readonly { readonly cluster: number; readonly hourMs: number }[], dueAtMs: number): Promise<void> {
    const distinct = [...new Map(hours.map((each) => [`${each.cluster}/${each.hourMs}`, each])).values()].sort((a, b) => a.cluster - b.cluster || a.hourMs - b.hourMs);
    if (distinct.length === 0) return;
    await tx.query(
      `INSERT INTO dirty_hour AS d (cluster, hour, due_at) SELECT cluster, to_timestamp(hour_ms / 1000), $3 FROM unnest($1::int[], $2::float8[]) AS mark (cluster, hour_ms) ORDER BY 1, 2
       ON CONFLICT (cluster, hour) DO UPDATE SET due_at = least(d.due_at, excluded.due_at)`,
      [distinct.map((each) => each.cluster), distinct.map((each) => each.hourMs), new Date(dueAtMs)]);
  }

  /** Hours of a cluster from a time on that were computed, or that usage is known of; the earliest first. */
  async hoursFrom(tx: Tx, cluster: number, fromMs: number): Promise<number[]> {
    const { rows } = await tx.query<{ hour: Date }>(
      `SELECT hour FROM cluster_hour WHERE cluster = $1 AND hour >= $2 UNION SELECT DISTINCT date_trunc('hour', window_start) FROM rollup_part WHERE cluster = $1 AND window_start >= $2 ORDER BY 1`, [cluster, new Date(hourOf(fromMs))]);
    return rows.map((row) => row.hour.getTime());
  }

  /**
   * Marks the hours that time alone makes due: those that are not covered as far as their cluster is known, that can be closed,
   * or that were computed in another currency.
   */
  async markByTime(options: { readonly nowMs: number; readonly currency: string; readonly horizonMs: number; readonly silenceMs: number; readonly graceMs: number }): Promise<number> {
    const { nowMs, currency, horizonMs, silenceMs, graceMs } = options;
    const { rowCount } = await this.database.query(
      `INSERT INTO dirty_hour (cluster, hour, due_at)
       SELECT c.id, h.hour, $1 FROM cluster c
         CROSS JOIN LATERAL (SELECT least($1::timestamptz, c.observed_until + $4 * interval '1 ms') AS until) u
         CROSS JOIN LATERAL generate_series(date_trunc('hour', greatest(c.observed_from, $1::timestamptz - $3 * interval '1 ms')), u.until, interval '1 hour') AS h (hour)
         LEFT JOIN cluster_hour k ON k.cluster = c.id AND k.hour = h.hour
       WHERE c.observed_from IS NOT NULL AND (
         k.hour IS NULL OR k.currency <> $2
         OR NOT k.closed AND (coalesce(k.covered_to, h.hour) < date_trunc('minute', least(u.until, h.hour + interval '1 hour')) OR least($1::timestamptz - $5 * interval '1 ms', u.until) >= h.hour + interval '1 hour'))
       ORDER BY 1, 2 ON CONFLICT DO NOTHING`, [new Date(nowMs), currency, horizonMs, silenceMs, graceMs]);
    return rowCount ?? 0;
  }
}

interface ClusterRow { readonly id: number; readonly cluster_id: string; readonly observed_from: Date | null; readonly observed_until: Date | null }

function clusterOf(row: ClusterRow): StoredCluster {
  return { number: row.id, clusterId: row.cluster_id, observedFromMs: row.observed_from?.getTime() ?? null, observedUntilMs: row.observed_until?.getTime() ?? null };
}

export function hourOf(ms: number): number {
  return ms - (ms % HOUR_MS);
}
