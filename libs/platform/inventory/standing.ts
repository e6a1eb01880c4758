import type { InventoryKind, InventoryObject } from '@upid/contracts';
import type { Database } from '../database/index.js';

/** Objects that are kept over all clusters and kinds, some 2 KB each; the kinds not asked for longest go first. */
const MOST_OBJECTS = 100_000;
/** All is read again after this long: what was removed is forgotten after days, and with it the trace by which its removal would be seen. */
const READ_AGAIN_MS = 3_600_000;

/** An object that stands, as its row says. */
export interface StandingObject { readonly uid: string; readonly body: InventoryObject; readonly firstSeen: Date; readonly lastSeen: Date }

interface Version { readonly epoch: string | null; readonly generation: bigint; readonly sequence: bigint }
interface Kept extends Version { readonly readAtMs: number; readonly byUid: Map<string, StandingObject>; sorted: StandingObject[] | null }
type VersionRow = Version & { readonly observed_at: Date | null; readonly [column: string]: unknown };
interface Row extends VersionRow { readonly uid: string | null; readonly body: InventoryObject; readonly first_seen: Date; readonly last_seen: Date; readonly removed_at: Date | null }

const isSame = (a: Version, b: Version) => a.epoch === b.epoch && a.generation === b.generation && a.sequence === b.sequence;

/**
 * What stands of a kind in a cluster, kept in memory: each question asks the database for the version of the cluster's mirror, and for the rows
 * that changed since where it has moved. Ten thousand pods are some 15 MB of JSON, which is slow to read anew for each answer.
 */
export class StandingObjects {
  private readonly kept = new Map<string, Kept>();
  private readonly turns = new Map<string, Promise<unknown>>();

  constructor(private readonly database: Database, private readonly mostObjects = MOST_OBJECTS) {}

  /** The objects as they stand now, by namespace, name and age; `observedAt` is when the agent last spoke of its cluster. Not to be changed by who asks. */
  async of(clusterId: string, kind: InventoryKind): Promise<{ readonly objects: readonly StandingObject[]; readonly observedAt: Date | null }> {
    const key = `${clusterId}/${kind}`;
    // One after the other: an older answer never comes over a newer one.
    const turn = (this.turns.get(key) ?? Promise.resolve()).then(() => this.refresh(key, clusterId, kind), () => this.refresh(key, clusterId, kind));
    this.turns.set(key, turn);
    try {
      return await turn;
    } finally {
      if (this.turns.get(key) === turn) this.turns.delete(key);
    }
  }

  private async refresh(key: string, clusterId: string, kind: InventoryKind): Promise<{ objects: readonly StandingObject[]; observedAt: Date | null }> {
    const known = this.kept.get(key);
    let current = known && performance.now() - known.readAtMs < READ_AGAIN_MS ? known : undefined;
    let observedAt: Date | null = null;
    if (current) {
      const { rows: [version] } = await this.database.query<VersionRow>('SELECT epoch, generation, sequence, observed_at FROM inventory_cluster WHERE cluster_id = $1', [clusterId]);
      if (!version) return { objects: [], observedAt };
      observedAt = version.observed_at;
      if (!isSame(version, current)) current = undefined;
    }
    if (!current) {
      const since = known && performance.now() - known.readAtMs < READ_AGAIN_MS ? known : null;
      // One statement sees the version and the rows at one moment. Every row carries the version that last changed it.
      const { rows } = await this.database.query<Row & { [column: string]: unknown }>(
        `SELECT c.epoch, c.generation, c.sequence, c.observed_at, o.uid, o.body, o.first_seen, o.last_seen, o.removed_at
         FROM inventory_cluster c LEFT JOIN inventory_object o ON o.cluster_id = c.cluster_id AND o.kind = $2
           AND CASE WHEN c.epoch IS DISTINCT FROM $3 THEN o.removed_at IS NULL ELSE o.epoch = $3 AND (o.generation, o.sequence) > ($4, $5) END
         WHERE c.cluster_id = $1`, [clusterId, kind, since?.epoch ?? null, since?.generation ?? 0n, since?.sequence ?? 0n]);
      const [first] = rows;
      if (!first) return { objects: [], observedAt };
      observedAt = first.observed_at;
      const isNewer = since !== null && since.epoch !== null && since.epoch === first.epoch;
      const byUid = isNewer ? since.byUid : new Map<string, StandingObject>();
      for (const row of rows) {
        if (row.uid === null) continue;
        if (row.removed_at) byUid.delete(row.uid);
        else byUid.set(row.uid, { uid: row.uid, body: row.body, firstSeen: row.first_seen, lastSeen: row.last_seen });
      }
      const isUnchanged = isNewer && rows.every((row) => row.uid === null);
      current = { epoch: first.epoch, generation: first.generation, sequence: first.sequence, readAtMs: isNewer ? since.readAtMs : performance.now(), byUid, sorted: isUnchanged ? since.sorted : null };
    }
    this.kept.delete(key);
    this.kept.set(key, current);
    this.prune(key);
    return { objects: (current.sorted ??= [...current.byUid.values()].sort(inOrder)), observedAt };
  }

  private prune(latest: string): void {
    let objects = 0;
    for (const each of this.kept.values()) objects += each.byUid.size;
    for (const [key, each] of this.kept) {
      if (objects <= this.mostObjects) return;
      if (key === latest) continue;
      this.kept.delete(key);
      objects -= each.byUid.size;
    }
  }
}

const namespaceOf = ({ body }: StandingObject) => ('namespace' in body ? body.namespace : '');
const compare = (a: string, b: string) => (a < b ? -1 : Number(a > b));

function inOrder(a: StandingObject, b: StandingObject): number {
  return compare(namespaceOf(a), namespaceOf(b)) || compare(a.body.name, b.body.name) || a.firstSeen.getTime() - b.firstSeen.getTime();
}
