import { join } from 'node:path';
import { HISTORICAL_KINDS, type InventoryEvent, inventoryEventSchema, type InventoryKind, type InventoryObject, type WorkloadRef, workloadKey } from '@upid/contracts';
import type { Database, MigrationSet, Tx } from '../database/index.js';
import { StandingObjects } from './standing.js';
import { decideInventory, type MirrorVersion } from './versions.js';

/** The tables of the mirror. */
export const inventoryMigrations: MigrationSet = { directory: join(import.meta.dirname, 'migrations'), table: 'migration_inventory' };

export type ObjectOf<K extends InventoryKind> = Extract<InventoryObject, { kind: K }>;

/** An object as the mirror holds it; removed ones stay for as long as the service keeps them. */
export interface MirroredObject<K extends InventoryKind = InventoryKind> {
  readonly clusterId: string;
  readonly uid: string;
  readonly body: ObjectOf<K>;
  readonly firstSeen: Date;
  /** For what stands: when the agent last spoke of its cluster. */
  readonly lastSeen: Date;
  readonly removedAt: Date | null;
}

/**
 * `applied`: the mirror changed to a newer version (also by what had waited for this event). `stored`: a part of a snapshot that is not complete,
 * or a change that came early. `duplicate`, `stale`: nothing to do.
 */
export type InventoryOutcome = 'applied' | 'stored' | 'duplicate' | 'stale';
export interface ObjectRef { readonly kind: InventoryKind; readonly uid: string }
export interface InventoryResult {
  readonly outcome: InventoryOutcome;
  /** True when changes are missing that may never come: ask the agent for a snapshot (`subjects.command(cluster, 'snapshot')`, or in a heartbeat's reply). */
  readonly needsSnapshot: boolean;
  /** What is new or differs from before. */
  readonly upserted: readonly ObjectRef[];
  /** What stood before and is gone. */
  readonly removed: readonly ObjectRef[];
}

/** A change that waits this long for what it follows says that it was lost; so do this many at once. */
const GAP_MS = 10_000;
const GAP_EVENTS = 64;

interface ClusterRow { readonly epoch: string | null; readonly epoch_started_at: Date | null; readonly generation: bigint; readonly sequence: bigint; readonly needs_snapshot: boolean }
interface ObjectRow { readonly cluster_id: string; readonly uid: string; readonly body: InventoryObject; readonly first_seen: Date; readonly last_seen: Date; readonly removed_at: Date | null }

function workloadOf(object: InventoryObject): string | null {
  if (object.kind === 'Workload') return workloadKey({ namespace: object.namespace, kind: object.workload_kind, name: object.name });
  return 'workload' in object ? workloadKey(object.workload) : null;
}

/** What of an object lies in columns. */
function columnsOf(object: InventoryObject): { kind: InventoryKind; uid: string; namespace: string | null; name: string } {
  return { kind: object.kind, uid: object.uid, namespace: 'namespace' in object ? object.namespace : null, name: object.name };
}

/** The service's mirror of what the agents say of their clusters, in `inventory_object` of its schema. */
export class InventoryMirror {
  private readonly kinds: ReadonlySet<InventoryKind> | null;
  private readonly standing: StandingObjects;

  /** `kinds`: keep these alone; default all. */
  constructor(private readonly database: Database, options: { readonly kinds?: readonly InventoryKind[] } = {}) {
    this.kinds = options.kinds ? new Set(options.kinds) : null;
    this.standing = new StandingObjects(database);
  }

  /**
   * Takes an event into the mirror, within the transaction whose commit acknowledges it. An event applied twice, or after a newer one, changes
   * nothing. One event of a cluster at a time: the cluster's row is locked until the transaction ends.
   */
  async apply(tx: Tx, clusterId: string, event: InventoryEvent): Promise<InventoryResult> {
    await tx.query('INSERT INTO inventory_cluster (cluster_id) VALUES ($1) ON CONFLICT DO NOTHING', [clusterId]);
    const { rows } = await tx.query<ClusterRow>('SELECT epoch, epoch_started_at, generation, sequence, needs_snapshot FROM inventory_cluster WHERE cluster_id = $1 FOR UPDATE', [clusterId]);
    const row = rows[0];
    let version: MirrorVersion | null = row?.epoch != null && row.epoch_started_at ? { epoch: row.epoch, epochStartedAtMs: row.epoch_started_at.getTime(), generation: Number(row.generation), sequence: Number(row.sequence) } : null;

    const decision = decideInventory(version, event);
    if (decision === 'stale' || decision === 'duplicate') return { outcome: decision, needsSnapshot: await this.gapWithin(tx, clusterId, row?.needs_snapshot ?? true), upserted: [], removed: [] };
    const changed = new Map<string, ObjectRef>();
    const removed = new Map<string, ObjectRef>();
    let applied = false;
    if (decision === 'apply' && version) {
      version = await this.applyChange(tx, clusterId, version, event, changed, removed);
      applied = true;
    } else {
      await this.keep(tx, clusterId, event);
      const parts = decision === 'collect' ? await this.completeSnapshot(tx, clusterId, event) : null;
      if (parts) {
        version = await this.applySnapshot(tx, clusterId, parts, changed, removed);
        applied = true;
      }
    }
    if (applied && version) {
      version = await this.applyWaiting(tx, clusterId, version, changed, removed);
      await tx.query(
        `UPDATE inventory_cluster SET epoch = $2, epoch_started_at = $3, generation = $4, sequence = $5, observed_at = greatest(observed_at, $6), applied_at = clock_timestamp(), needs_snapshot = false WHERE cluster_id = $1`,
        [clusterId, version.epoch, new Date(version.epochStartedAtMs), version.generation, version.sequence, event.observed_at]);
      // What is older than the version, or the version itself, will never be needed again.
      await tx.query(
        `DELETE FROM inventory_pending WHERE cluster_id = $1 AND (epoch_started_at, epoch COLLATE "C", generation) < ($2, $3, $4)
           OR cluster_id = $1 AND epoch = $3 AND generation = $4 AND sequence <= $5`, [clusterId, new Date(version.epochStartedAtMs), version.epoch, version.generation, version.sequence]);
    }
    for (const key of removed.keys()) changed.delete(key);
    return { outcome: applied ? 'applied' : 'stored', needsSnapshot: await this.gapWithin(tx, clusterId, !applied && (row?.needs_snapshot ?? true)), upserted: [...changed.values()], removed: [...removed.values()] };
  }

  private async keep(tx: Tx, clusterId: string, event: InventoryEvent): Promise<void> {
    await tx.query(
      `INSERT INTO inventory_pending (cluster_id, epoch, epoch_started_at, generation, sequence, part, parts, event) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
      [clusterId, event.epoch, event.epoch_started_at, event.generation, event.sequence, event.part, event.parts, JSON.stringify(event)]);
  }

  /** The parts of the event's snapshot, in order, when all have come. */
  private async completeSnapshot(tx: Tx, clusterId: string, event: InventoryEvent): Promise<InventoryEvent[] | null> {
    const { rows: [{ count } = { count: 0 }] } = await tx.query<{ count: number }>(
      `SELECT count(*)::int AS count FROM inventory_pending WHERE cluster_id = $1 AND epoch = $2 AND generation = $3 AND sequence = 0 AND event->>'type' = 'snapshot'`, [clusterId, event.epoch, event.generation]);
    if (count < event.parts) return null;
    const { rows } = await tx.query<{ event: unknown }>(`SELECT event FROM inventory_pending WHERE cluster_id = $1 AND epoch = $2 AND generation = $3 AND sequence = 0 ORDER BY part`, [clusterId, event.epoch, event.generation]);
    return rows.map((row) => inventoryEventSchema.parse(row.event));
  }

  private async applySnapshot(tx: Tx, clusterId: string, parts: readonly InventoryEvent[], changed: Map<string, ObjectRef>, removed: Map<string, ObjectRef>): Promise<MirrorVersion> {
    const [first] = parts;
    if (!first) throw new RangeError('a snapshot has at least one part');
    const version = { epoch: first.epoch, epochStartedAtMs: Date.parse(first.epoch_started_at), generation: first.generation, sequence: 0 };
    for (const part of parts) await this.upsert(tx, clusterId, version, part, changed, removed);
    const uids = parts.flatMap((part) => part.upserts.map((object) => `${object.kind}/${object.uid}`));
    const { rows } = await tx.query<ObjectRef & { [column: string]: unknown }>(
      `UPDATE inventory_object SET removed_at = $2, last_seen = $2, epoch = $3, generation = $4, sequence = 0
       WHERE cluster_id = $1 AND removed_at IS NULL AND kind <> ALL($5::text[]) AND kind || '/' || uid <> ALL (SELECT unnest($6::text[])) RETURNING kind, uid`,
      [clusterId, first.observed_at, version.epoch, version.generation, HISTORICAL_KINDS, uids]);
    for (const { kind, uid } of rows) removed.set(`${kind}/${uid}`, { kind, uid });
    return version;
  }

  private async applyChange(tx: Tx, clusterId: string, before: MirrorVersion, event: InventoryEvent, changed: Map<string, ObjectRef>, removed: Map<string, ObjectRef>): Promise<MirrorVersion> {
    const version = { ...before, sequence: event.sequence };
    await this.upsert(tx, clusterId, version, event, changed, removed);
    if (event.removes.length > 0) {
      const { rows } = await tx.query<ObjectRef & { [column: string]: unknown }>(
        `UPDATE inventory_object o SET removed_at = $2, last_seen = $2, epoch = $3, generation = $4, sequence = $5 FROM unnest($6::text[], $7::text[]) AS gone (kind, uid)
         WHERE o.cluster_id = $1 AND o.kind = gone.kind AND o.uid = gone.uid AND o.removed_at IS NULL RETURNING o.kind, o.uid`,
        [clusterId, event.observed_at, version.epoch, version.generation, version.sequence, event.removes.map((each) => each.kind), event.removes.map((each) => each.uid)]);
      for (const { kind, uid } of rows) removed.set(`${kind}/${uid}`, { kind, uid });
    }
    return version;
  }

  /** Changes that had come early and follow now. */
  private async applyWaiting(tx: Tx, clusterId: string, before: MirrorVersion, changed: Map<string, ObjectRef>, removed: Map<string, ObjectRef>): Promise<MirrorVersion> {
    let version = before;
    for (;;) {
      const { rows } = await tx.query<{ event: unknown }>(
        `SELECT event FROM inventory_pending WHERE cluster_id = $1 AND epoch = $2 AND generation = $3 AND sequence > $4 ORDER BY sequence LIMIT 100`, [clusterId, version.epoch, version.generation, version.sequence]);
      let went = false;
      for (const row of rows) {
        const event = inventoryEventSchema.parse(row.event);
        if (event.sequence !== version.sequence + 1) break;
        version = await this.applyChange(tx, clusterId, version, event, changed, removed);
        went = true;
      }
      if (!went) return version;
    }
  }

  /** Rows that are the same as before are not written again. */
  private async upsert(tx: Tx, clusterId: string, version: MirrorVersion, event: InventoryEvent, changed: Map<string, ObjectRef>, removed: Map<string, ObjectRef>): Promise<void> {
    // The last of an object in one event counts.
    const objects = [...new Map(event.upserts.filter((object) => !this.kinds || this.kinds.has(object.kind)).map((object) => [`${object.kind}/${object.uid}`, object])).values()];
    if (objects.length === 0) return;
    const columns = objects.map(columnsOf);
    const { rows } = await tx.query<ObjectRef & { [column: string]: unknown }>(
      `INSERT INTO inventory_object AS o (cluster_id, kind, uid, namespace, name, body, workload, epoch, generation, sequence, first_seen, last_seen)
       SELECT $1, each.kind, each.uid, each.namespace, each.name, each.body, each.workload, $2, $3, $4, $5, $5
       FROM unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::jsonb[], $11::text[]) AS each (kind, uid, namespace, name, body, workload)
       ON CONFLICT (cluster_id, kind, uid) DO UPDATE SET namespace = excluded.namespace, name = excluded.name, body = excluded.body, workload = excluded.workload, epoch = excluded.epoch,
         generation = excluded.generation, sequence = excluded.sequence, last_seen = excluded.last_seen, removed_at = NULL
       WHERE o.body IS DISTINCT FROM excluded.body OR o.removed_at IS NOT NULL
       RETURNING kind, uid`,
      [
        clusterId, version.epoch, version.generation, version.sequence, event.observed_at, columns.map((each) => each.kind), columns.map((each) => each.uid), columns.map((each) => each.namespace),
        columns.map((each) => each.name), objects.map((object) => JSON.stringify(object)), objects.map(workloadOf),
      ]);
    for (const { kind, uid } of rows) {
      changed.set(`${kind}/${uid}`, { kind, uid });
      removed.delete(`${kind}/${uid}`);
    }
  }

  private async gapWithin(tx: Tx, clusterId: string, marked: boolean): Promise<boolean> {
    const { rows: [{ gap } = { gap: false }] } = await tx.query<{ gap: boolean }>(
      `SELECT count(*) >= $2 OR coalesce(min(stored_at) < clock_timestamp() - $3 * interval '1 ms', false) AS gap FROM inventory_pending WHERE cluster_id = $1`, [clusterId, GAP_EVENTS, GAP_MS]);
    if (gap && !marked) await tx.query('UPDATE inventory_cluster SET needs_snapshot = true WHERE cluster_id = $1', [clusterId]);
    return gap || marked;
  }

  /** Whether the agent of a cluster has to be asked for a snapshot: nothing was ever applied, or changes are missing that may never come. */
  async needsSnapshot(clusterId: string): Promise<boolean> {
    const { rows } = await this.database.query<{ needed: boolean }>(
      `SELECT c.needs_snapshot OR EXISTS (SELECT 1 FROM inventory_pending p WHERE p.cluster_id = c.cluster_id AND p.stored_at < clock_timestamp() - $2 * interval '1 ms') AS needed FROM inventory_cluster c WHERE c.cluster_id = $1`, [clusterId, GAP_MS]);
    return rows[0]?.needed ?? true;
  }

  private async select<K extends InventoryKind>(where: string, values: readonly unknown[], tx?: Tx): Promise<MirroredObject<K>[]> {
    const { rows } = await (tx ?? this.database).query<ObjectRow>(
      `SELECT o.cluster_id, o.uid, o.body, o.first_seen, CASE WHEN o.removed_at IS NULL THEN greatest(o.last_seen, c.observed_at) ELSE o.last_seen END AS last_seen, o.removed_at
       FROM inventory_object o JOIN inventory_cluster c USING (cluster_id) WHERE ${where} ORDER BY o.namespace, o.name, o.first_seen`, values);
    return rows.map((row) => ({ clusterId: row.cluster_id, uid: row.uid, body: row.body as ObjectOf<K>, firstSeen: row.first_seen, lastSeen: row.last_seen, removedAt: row.removed_at }));
  }

  /** Objects of a kind: those that stand, and with `removedSince` those removed since then. Bodies are shared between answers: not to be changed. */
  async byKind<K extends InventoryKind>(clusterId: string, kind: K, options: { readonly namespace?: string; readonly removedSince?: Date; readonly tx?: Tx } = {}): Promise<MirroredObject<K>[]> {
    const { namespace, removedSince, tx } = options;
    if (removedSince || tx) {
      return this.select<K>('o.cluster_id = $1 AND o.kind = $2 AND ($3::text IS NULL OR o.namespace = $3) AND (o.removed_at IS NULL OR o.removed_at >= $4)', [clusterId, kind, namespace ?? null, removedSince ?? 'infinity'], tx);
    }
    const { objects, observedAt } = await this.standing.of(clusterId, kind);
    return objects.filter(({ body }) => namespace === undefined || ('namespace' in body && body.namespace === namespace))
      .map(({ uid, body, firstSeen, lastSeen }) => ({ clusterId, uid, body: body as ObjectOf<K>, firstSeen, lastSeen: observedAt && observedAt > lastSeen ? observedAt : lastSeen, removedAt: null }));
  }

  /** The object of a UID, also when it was removed. */
  async byUid(clusterId: string, uid: string, tx?: Tx): Promise<MirroredObject | null> {
    return (await this.select('o.cluster_id = $1 AND o.uid = $2', [clusterId, uid], tx))[0] ?? null;
  }

  /** The object of a name that stands, else the one removed last. Names are labels: history belongs to UIDs and workload keys. */
  async byName<K extends InventoryKind>(clusterId: string, kind: K, namespace: string | null, name: string, tx?: Tx): Promise<MirroredObject<K> | null> {
    return latest(await this.select<K>('o.cluster_id = $1 AND o.kind = $2 AND o.namespace IS NOT DISTINCT FROM $3 AND o.name = $4', [clusterId, kind, namespace, name], tx));
  }

  /** The workload of a key that stands, else the one removed last. */
  async workload(clusterId: string, workload: WorkloadRef, tx?: Tx): Promise<MirroredObject<'Workload'> | null> {
    return latest(await this.select<'Workload'>(`o.cluster_id = $1 AND o.kind = 'Workload' AND o.workload = $2`, [clusterId, workloadKey(workload)], tx));
  }

  /** Pods of a workload: those that stand, and with `removedSince` those removed since then. */
  podsOfWorkload(clusterId: string, workload: WorkloadRef, options: { readonly removedSince?: Date; readonly tx?: Tx } = {}): Promise<MirroredObject<'Pod'>[]> {
    return this.select<'Pod'>(`o.cluster_id = $1 AND o.kind = 'Pod' AND o.workload = $2 AND (o.removed_at IS NULL OR o.removed_at >= $3)`, [clusterId, workloadKey(workload), options.removedSince ?? 'infinity'], options.tx);
  }

  /** Clusters that were ever heard of, by id. */
  async clusters(): Promise<{ readonly clusterId: string; readonly observedAt: Date | null; readonly needsSnapshot: boolean }[]> {
    const { rows } = await this.database.query<{ cluster_id: string; observed_at: Date | null; needs_snapshot: boolean }>('SELECT cluster_id, observed_at, needs_snapshot FROM inventory_cluster ORDER BY cluster_id');
    return rows.map((row) => ({ clusterId: row.cluster_id, observedAt: row.observed_at, needsSnapshot: row.needs_snapshot }));
  }

  /** Forgets what was removed before `before`, and parts of snapshots that were never completed. @returns objects forgotten */
  async forgetRemoved(before: Date): Promise<number> {
    await this.database.query('DELETE FROM inventory_pending WHERE stored_at < $1', [before]);
    const { rowCount } = await this.database.query('DELETE FROM inventory_object WHERE removed_at < $1', [before]);
    return rowCount ?? 0;
  }
}

function latest<K extends InventoryKind>(found: readonly MirroredObject<K>[]): MirroredObject<K> | null {
  return found.find((each) => each.removedAt === null) ?? found.toSorted((a, b) => Number(b.removedAt) - Number(a.removedAt))[0] ?? null;
}
