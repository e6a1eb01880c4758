import { parseWorkloadKey } from '@upid/contracts';
import { copyIn, type Database, type Tx } from '@upid/platform';
import { copyOut, timeLiteral } from './copy-out.repository.js';
import { dictionaryLimit, type CellRow, type DirtyHour, type HourKey, type HourState, type PendingBatch } from './hours.js';

/** Bytes of batches that one fold takes; what is over waits for the next. */
const FOLD_BYTES = 256 * 1024 * 1024;

const hourAt = (hourMs: number) => new Date(hourMs);

/** The fold's tables. */
export class FoldRepository {
  private epoch: Uint8Array | null = null;
  private readonly workloads = new Map<string, number>();
  private readonly pods = new Map<string, { id: number; workload: number; named: boolean }>();

  constructor(private readonly database: Database) {}

  /** 16 bytes that name this store. */
  async storeEpoch(): Promise<Uint8Array> {
    if (!this.epoch) {
      const { rows } = await this.database.query<{ epoch: string }>('SELECT epoch FROM store');
      this.epoch = Buffer.from((rows[0]?.epoch ?? '').replaceAll('-', ''), 'hex');
    }
    return this.epoch;
  }

  /**
   * Hours with something to do: batches that have settled (none came for `settleMs`, or the first waits for `waitMs`), windows that become
   * final, hours that are closed. Live hours (from `liveMs` back) first, then whatever waits longest. Times are the database's.
   */
  async due(settleMs: number, waitMs: number, liveMs: number, limit: number): Promise<{ readonly hours: HourKey[]; readonly nowMs: number }> {
    const { rows } = await this.database.query<{ cluster: number; cluster_id: string; hour: Date; now: Date }>(
      `SELECT due.cluster, c.cluster_id, due.hour, clock_timestamp() AS now FROM (
         SELECT cluster, hour, min(since) AS since FROM (
           SELECT cluster, hour, first_marked AS since FROM dirty_hour WHERE last_marked <= clock_timestamp() - $1 * interval '1 ms' OR first_marked <= clock_timestamp() - $2 * interval '1 ms'
           UNION ALL SELECT cluster, hour, due_at FROM hour_state WHERE due_at <= clock_timestamp()
         ) AS either GROUP BY cluster, hour
       ) AS due JOIN cluster c ON c.id = due.cluster ORDER BY due.hour < clock_timestamp() - $3 * interval '1 ms', due.since LIMIT $4`, [settleMs, waitMs, liveMs, limit]);
    return { hours: rows.map((row) => ({ cluster: row.cluster, clusterId: row.cluster_id, hourMs: row.hour.getTime() })), nowMs: rows[0]?.now.getTime() ?? 0 };
  }

  /**
   * Runs `fn` as the only one that works on the hour, in one transaction; false where another does. The lock is the transaction's own: it ends
   * with it, also when the process dies. It is no row lock, since ingest, which must not wait for a fold, marks the same rows.
   */
  async whileOwning(key: HourKey, fn: (tx: Tx) => Promise<void>): Promise<boolean> {
    return this.database.transaction(async (tx) => {
      const { rows } = await tx.query<{ owned: boolean }>('SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS owned', [`upid.fold/${key.cluster}/${key.hourMs}`]);
      if (!rows[0]?.owned) return false;
      await fn(tx);
      return true;
    });
  }

  async dirty(tx: Tx, key: HourKey): Promise<DirtyHour | null> {
    const { rows } = await tx.query<{ windows: number; marks: bigint }>('SELECT windows, marks FROM dirty_hour WHERE cluster = $1 AND hour = $2', [key.cluster, hourAt(key.hourMs)]);
    return rows[0] ?? null;
  }

  async state(tx: Tx, key: HourKey): Promise<HourState | null> {
    const { rows } = await tx.query<{ windows: number; final_windows: number; closed: boolean; usage_minutes: bigint; request_minutes: bigint }>(
      'SELECT windows, final_windows, closed, usage_minutes, request_minutes FROM hour_state WHERE cluster = $1 AND hour = $2', [key.cluster, hourAt(key.hourMs)]);
    const row = rows[0];
    return row ? { windows: row.windows, finalWindows: row.final_windows, closed: row.closed, usageMinutes: row.usage_minutes, requestMinutes: row.request_minutes } : null;
  }

  /** Batches of the hour in the order that they came, and whether these are all. */
  async batches(tx: Tx, key: HourKey): Promise<{ readonly batches: PendingBatch[]; readonly all: boolean }> {
    const rows = await copyOut(tx,
      `SELECT id, kind, extract(epoch FROM published_at)::float8, payload, before + length >= total FROM (
         SELECT id, kind, published_at, payload, octet_length(payload) AS length, sum(octet_length(payload)) OVER (ORDER BY id) - octet_length(payload) AS before, sum(octet_length(payload)) OVER () AS total
         FROM batch WHERE cluster = ${key.cluster} AND hour = ${timeLiteral(key.hourMs)}
       ) AS each WHERE before < ${FOLD_BYTES} ORDER BY id`) as Buffer[][];
    const batches = rows.map(([id, kind, publishedAt, payload]) => ({ id: id!.readBigInt64BE(), kind: kind!.readInt16BE() === 1 ? 'requests' as const : 'usage' as const, publishedAtMs: Math.round(publishedAt!.readDoubleBE() * 1000), payload: payload! }));
    return { batches, all: rows.length === 0 || rows.at(-1)?.[4]?.[0] === 1 };
  }

  async cells(tx: Tx, key: HourKey, window?: number): Promise<CellRow[]> {
    const rows = await copyOut(tx, `SELECT window_index, data FROM cell WHERE cluster = ${key.cluster} AND hour = ${timeLiteral(key.hourMs)}${window === undefined ? '' : ` AND window_index = ${window}`}`) as Buffer[][];
    return rows.map(([each, data]) => ({ window: each!.readInt16BE(), data: data! }));
  }

  /** The pods' and workloads' packed hours that stand. */
  async packedHours(tx: Tx, key: HourKey): Promise<{ readonly pods: { uid: Uint8Array; workload: string; samples: Uint8Array }[]; readonly requests: { workload: string; requests: Uint8Array }[] }> {
    const name = `w.namespace || '/' || w.kind || '/' || w.name`;
    const at = `h.cluster = ${key.cluster} AND h.hour = ${timeLiteral(key.hourMs)}`;
    const pods = await copyOut(tx, `SELECT p.uid, ${name}, h.samples FROM pod_hour h JOIN pod p ON p.id = h.pod JOIN workload w ON w.id = p.workload WHERE ${at}`) as Buffer[][];
    const requests = await copyOut(tx, `SELECT ${name}, h.requests FROM workload_hour h JOIN workload w ON w.id = h.workload WHERE ${at} AND h.requests IS NOT NULL`) as Buffer[][];
    return { pods: pods.map(([uid, workload, samples]) => ({ uid: uid!, workload: workload!.toString(), samples: samples! })), requests: requests.map(([workload, packed]) => ({ workload: workload!.toString(), requests: packed! })) };
  }

  async nextRevision(tx: Tx): Promise<number> {
    const { rows } = await tx.query<{ revision: bigint }>(`SELECT nextval('revision') AS revision`);
    return Number(rows[0]?.revision);
  }

  async replaceCells(tx: Tx, key: HourKey, window: number, cells: readonly { shard: number; bytes: Uint8Array }[]): Promise<void> {
    await tx.query('DELETE FROM cell WHERE cluster = $1 AND hour = $2 AND window_index = $3', [key.cluster, hourAt(key.hourMs), window]);
    await copyIn(tx, 'cell', { cluster: 'int4', hour: 'timestamptz', window_index: 'int2', shard: 'int2', data: 'bytea' }, cells.map((cell) => [key.cluster, key.hourMs, window, cell.shard, cell.bytes]));
  }

  async dropCells(tx: Tx, key: HourKey): Promise<void> {
    await tx.query('DELETE FROM cell WHERE cluster = $1 AND hour = $2', [key.cluster, hourAt(key.hourMs)]);
  }

  /** Writes pods' hours; `replacing` names those whose rows stand already. */
  async writePodHours(tx: Tx, key: HourKey, rows: Iterable<{ pod: number; samples: Uint8Array }>, replacing: readonly number[]): Promise<number> {
    if (replacing.length > 0) await tx.query('DELETE FROM pod_hour WHERE cluster = $1 AND hour = $2 AND pod = ANY($3::int[])', [key.cluster, hourAt(key.hourMs), replacing]);
    const { cluster, hourMs } = key;
    return copyIn(tx, 'pod_hour', { cluster: 'int4', pod: 'int4', hour: 'timestamptz', samples: 'bytea' }, (function* () {
      for (const row of rows) yield [cluster, row.pod, hourMs, row.samples];
    })());
  }

  async writeWorkloadHours(tx: Tx, key: HourKey, revision: number, rows: Iterable<{ workload: number; load: Uint8Array; requests: Uint8Array | null; aggregate: Uint8Array }>, replacing: readonly number[]): Promise<void> {
    if (replacing.length > 0) await tx.query('DELETE FROM workload_hour WHERE cluster = $1 AND hour = $2 AND workload = ANY($3::int[])', [key.cluster, hourAt(key.hourMs), replacing]);
    const { cluster, hourMs } = key;
    await copyIn(tx, 'workload_hour', { cluster: 'int4', workload: 'int4', hour: 'timestamptz', revision: 'int8', load: 'bytea', requests: 'bytea', aggregate: 'bytea' }, (function* () {
      for (const row of rows) yield [cluster, row.workload, hourMs, revision, row.load, row.requests, row.aggregate];
    })());
  }

  async dropBatches(tx: Tx, key: HourKey, ids: readonly bigint[]): Promise<void> {
    if (ids.length > 0) await tx.query('DELETE FROM batch WHERE cluster = $1 AND hour = $2 AND id = ANY($3::int8[])', [key.cluster, hourAt(key.hourMs), ids]);
  }

  async writeState(tx: Tx, key: HourKey, state: HourState, revision: number, dueAtMs: number | null): Promise<void> {
    await tx.query(
      `INSERT INTO hour_state (cluster, hour, windows, final_windows, closed, usage_minutes, request_minutes, revision, due_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
       ON CONFLICT (cluster, hour) DO UPDATE SET windows = excluded.windows, final_windows = excluded.final_windows, closed = excluded.closed, usage_minutes = excluded.usage_minutes, request_minutes = excluded.request_minutes, revision = excluded.revision, due_at = excluded.due_at`,
      [key.cluster, hourAt(key.hourMs), state.windows, state.finalWindows, state.closed, state.usageMinutes, state.requestMinutes, revision, dueAtMs === null ? null : new Date(dueAtMs)]);
  }

  async markDay(tx: Tx, cluster: number, dayMs: number): Promise<void> {
    await tx.query(
      `INSERT INTO dirty_day AS d (cluster, day, last_marked, marks) VALUES ($1, $2, clock_timestamp(), 1) ON CONFLICT (cluster, day) DO UPDATE SET last_marked = excluded.last_marked, marks = d.marks + 1`, [cluster, new Date(dayMs)]);
  }

  /** Takes the mark away unless ingest has marked the hour again since it was read: the last statement of a fold, since ingest may wait for it. */
  async clearDirty(tx: Tx, key: HourKey, marks: bigint): Promise<void> {
    await tx.query('DELETE FROM dirty_hour WHERE cluster = $1 AND hour = $2 AND marks = $3', [key.cluster, hourAt(key.hourMs), marks]);
  }

  // ---------------------------------------------------------------- numbers of workloads and pods

  /** Numbers of workload keys within a cluster; new ones get theirs, in a transaction of its own. */
  async workloadNumbers(cluster: number, keys: readonly string[]): Promise<Map<string, number>> {
    if (this.workloads.size > dictionaryLimit) this.workloads.clear();
    const missing = keys.filter((key) => !this.workloads.has(`${cluster} ${key}`)).sort();
    if (missing.length > 0) {
      const refs = missing.map(parseWorkloadKey);
      const values = [cluster, refs.map((ref) => ref.namespace), refs.map((ref) => ref.kind), refs.map((ref) => ref.name)];
      await this.database.query('INSERT INTO workload (cluster, namespace, kind, name) SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING', values);
      const { rows } = await this.database.query<{ id: number; key: string }>(
        `SELECT w.id, w.namespace || '/' || w.kind || '/' || w.name AS key FROM workload w JOIN unnest($2::text[], $3::text[], $4::text[]) AS wanted (namespace, kind, name) USING (namespace, kind, name) WHERE w.cluster = $1`, values);
      for (const row of rows) this.workloads.set(`${cluster} ${row.key}`, row.id);
    }
    return new Map(keys.map((key) => [key, this.workloads.get(`${cluster} ${key}`) as number]));
  }

  /** Numbers of pods within a cluster, in the order asked; new ones get theirs, changed owners and names are kept. */
  async podNumbers(cluster: number, pods: readonly { uid: string; workload: number; name: string }[], hourMs: number): Promise<number[]> {
    if (this.pods.size > dictionaryLimit) this.pods.clear();
    const missing = pods.filter((pod) => {
      const known = this.pods.get(`${cluster} ${pod.uid}`);
      return known === undefined || known.workload !== pod.workload || (pod.name !== '' && !known.named);
    }).sort((a, b) => (a.uid < b.uid ? -1 : 1));
    if (missing.length > 0) {
      const { rows } = await this.database.query<{ id: number; uid: string; workload: number; named: boolean }>(
        `INSERT INTO pod AS p (cluster, uid, workload, name, first_hour, last_day) SELECT $1, uid, workload, name, $5::timestamptz, date_trunc('day', $5::timestamptz) FROM unnest($2::uuid[], $3::int[], $4::text[]) AS each (uid, workload, name)
         ON CONFLICT (cluster, uid) DO UPDATE SET workload = excluded.workload, name = CASE WHEN excluded.name = '' THEN p.name ELSE excluded.name END, first_hour = least(p.first_hour, excluded.first_hour)
         RETURNING id, uid::text, workload, name <> '' AS named`, [cluster, missing.map((pod) => pod.uid), missing.map((pod) => pod.workload), missing.map((pod) => pod.name), hourAt(hourMs)]);
      for (const row of rows) this.pods.set(`${cluster} ${row.uid}`, { id: row.id, workload: row.workload, named: row.named });
    }
    return pods.map((pod) => this.pods.get(`${cluster} ${pod.uid}`)?.id as number);
  }

  // ---------------------------------------------------------------- days

  /** Days whose hours changed and then rested for `settleMs`. */
  async dueDays(settleMs: number, limit: number): Promise<{ cluster: number; dayMs: number }[]> {
    const { rows } = await this.database.query<{ cluster: number; day: Date }>(`SELECT cluster, day FROM dirty_day WHERE last_marked <= clock_timestamp() - $1 * interval '1 ms' ORDER BY last_marked LIMIT $2`, [settleMs, limit]);
    return rows.map((row) => ({ cluster: row.cluster, dayMs: row.day.getTime() }));
  }

  /** Makes a day's aggregates anew from its hours: `merge` gets each workload's packed hours and gives the packed day. */
  async foldDay(cluster: number, dayMs: number, merge: (hours: Uint8Array[]) => Uint8Array): Promise<void> {
    await this.database.transaction(async (tx) => {
      const { rows: [owned] } = await tx.query<{ owned: boolean }>('SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS owned', [`upid.fold-day/${cluster}/${dayMs}`]);
      if (!owned?.owned) return;
      const { rows: [mark] } = await tx.query<{ marks: bigint }>('SELECT marks FROM dirty_day WHERE cluster = $1 AND day = $2', [cluster, new Date(dayMs)]);
      if (!mark) return;
      const rows = await copyOut(tx, `SELECT workload, aggregate FROM workload_hour WHERE cluster = ${cluster} AND hour >= ${timeLiteral(dayMs)} AND hour < ${timeLiteral(dayMs + 24 * 3_600_000)} ORDER BY workload, hour`) as Buffer[][];
      const byWorkload = Map.groupBy(rows, ([workload]) => workload!.readInt32BE());
      await tx.query('DELETE FROM workload_day WHERE cluster = $1 AND day = $2', [cluster, new Date(dayMs)]);
      await copyIn(tx, 'workload_day', { cluster: 'int4', workload: 'int4', day: 'timestamptz', aggregate: 'bytea' }, (function* () {
        for (const [workload, hours] of byWorkload) yield [cluster, workload, dayMs, merge(hours.map(([, aggregate]) => aggregate!))];
      })());
      await tx.query(
        `UPDATE pod SET last_day = $2 WHERE cluster = $1 AND last_day < $2 AND id IN (SELECT pod FROM pod_hour WHERE cluster = $1 AND hour >= $2 AND hour < $2::timestamptz + interval '24 hours')`, [cluster, new Date(dayMs)]);
      await tx.query('UPDATE cluster SET days_revision = days_revision + 1 WHERE id = $1', [cluster]);
      await tx.query('DELETE FROM dirty_day WHERE cluster = $1 AND day = $2 AND marks = $3', [cluster, new Date(dayMs), mark.marks]);
    });
  }

  // ---------------------------------------------------------------- upkeep

  /** Batches that wait to be folded (counted up to `most`), and how long the first waits, seconds. */
  async backlog(most: number): Promise<{ readonly batches: number; readonly oldestSeconds: number }> {
    const { rows } = await this.database.query<{ batches: number; seconds: number }>(
      `SELECT (SELECT count(*) FROM (SELECT 1 FROM batch LIMIT $1) AS waiting)::int AS batches, coalesce(extract(epoch FROM clock_timestamp() - (SELECT min(first_marked) FROM dirty_hour)), 0)::float8 AS seconds`, [most]);
    return { batches: rows[0]?.batches ?? 0, oldestSeconds: Math.max(0, rows[0]?.seconds ?? 0) };
  }

  /** Forgets pods whose last samples and states of hours whose last aggregates retention has dropped. */
  async forget(podsBefore: Date, hoursBefore: Date): Promise<void> {
    await this.database.query('DELETE FROM pod WHERE last_day < $1', [podsBefore]);
    await this.database.query('DELETE FROM hour_state WHERE hour < $1', [hoursBefore]);
    this.pods.clear();
  }
}
