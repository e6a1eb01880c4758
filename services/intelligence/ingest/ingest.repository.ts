import { copyIn, DatabaseUnavailableError, type Database, type Tx } from '@upid/platform';
import type { CheckedBatch } from './batch.js';

/** A batch that may be stored, with where and when it came from. */
export interface IncomingBatch {
  readonly clusterId: string;
  readonly publishedAtMs: number;
  /** Publish time minus the bus's, ms, where it is worth marking. */
  readonly skewMs: number | null;
  readonly batch: CheckedBatch;
}

const KINDS = { usage: 0, requests: 1 } as const;

/** Whether the database has run out of room or cannot read its own files (PostgreSQL's classes 53 and 58): no message's fault, so none may be given up for it. */
function isOutOfRoom(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && /^(53|58)/.test(error.code);
}

/** Stores batches as they came, each name once, and marks the hours that they touch. */
export class IngestRepository {
  private readonly clusters = new Map<string, number>();

  constructor(private readonly database: Database) {}

  /** The number of a cluster in this store; it is given one where it is new. */
  async clusterNumber(clusterId: string): Promise<number> {
    const known = this.clusters.get(clusterId);
    if (known !== undefined) return known;
    await this.database.query('INSERT INTO cluster (cluster_id) VALUES ($1) ON CONFLICT DO NOTHING', [clusterId]);
    const { rows } = await this.database.query<{ id: number }>('SELECT id FROM cluster WHERE cluster_id = $1', [clusterId]);
    const id = rows[0]?.id as number;
    this.clusters.set(clusterId, id);
    return id;
  }

  /**
   * One transaction for many batches. Those whose names are there already change nothing.
   * @returns the batches that were new
   * @throws {DatabaseUnavailableError} also when the database is full
   */
  async store(batches: readonly IncomingBatch[]): Promise<IncomingBatch[]> {
    try {
      return await this.storeOnce(batches);
    } catch (error) {
      if (isOutOfRoom(error)) throw new DatabaseUnavailableError('The database has no room or cannot reach its files', { cause: error });
      throw error;
    }
  }

  private async storeOnce(batches: readonly IncomingBatch[]): Promise<IncomingBatch[]> {
    const numbers = new Map<string, number>();
    for (const clusterId of new Set(batches.map((each) => each.clusterId))) numbers.set(clusterId, await this.clusterNumber(clusterId));
    const numberOf = (each: IncomingBatch) => numbers.get(each.clusterId) as number;
    return this.database.transaction(async (tx) => {
      const names = new Map<string, IncomingBatch>();
      for (const each of batches) {
        const name = `${numberOf(each)}/${each.batch.epoch}/${each.batch.sequence}`;
        if (!names.has(name)) names.set(name, each);
      }
      // In one order everywhere, so that two replicas with the same names wait for each other and never in a circle.
      const sorted = [...names].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each);
      const { rows } = await tx.query<{ name: string }>(
        `INSERT INTO batch_name (cluster, epoch, sequence) SELECT * FROM unnest($1::int[], $2::uuid[], $3::int8[]) ON CONFLICT DO NOTHING RETURNING cluster || '/' || epoch || '/' || sequence AS name`,
        [sorted.map(numberOf), sorted.map((each) => each.batch.epoch), sorted.map((each) => each.batch.sequence)]);
      const fresh = rows.map((row) => names.get(row.name) as IncomingBatch);
      if (fresh.length === 0) return fresh;
      await copyIn(tx, 'batch', { cluster: 'int4', hour: 'timestamptz', kind: 'int2', published_at: 'timestamptz', payload: 'bytea' },
        fresh.flatMap((each) => each.batch.parts.map((part) => [numberOf(each), part.hourMs, KINDS[each.batch.kind], each.publishedAtMs, part.payload])));
      await this.markDirty(tx, fresh, numberOf);
      await this.markSkew(tx, fresh, numberOf);
      return fresh;
    });
  }

  private async markDirty(tx: Tx, fresh: readonly IncomingBatch[], numberOf: (each: IncomingBatch) => number): Promise<void> {
    const hours = new Map<string, { cluster: number; hourMs: number; windows: number }>();
    for (const each of fresh) {
      for (const part of each.batch.parts) {
        const key = `${numberOf(each)} ${part.hourMs}`;
        const mark = hours.get(key);
        if (mark) mark.windows |= part.windows;
        else hours.set(key, { cluster: numberOf(each), hourMs: part.hourMs, windows: part.windows });
      }
    }
    const marks = [...hours.values()].sort((a, b) => a.cluster - b.cluster || a.hourMs - b.hourMs);
    if (marks.length === 0) return;
    await tx.query(
      `INSERT INTO dirty_hour AS d (cluster, hour, windows, first_marked, last_marked, marks)
       SELECT cluster, to_timestamp(hour_ms / 1000), windows, clock_timestamp(), clock_timestamp(), 1 FROM unnest($1::int[], $2::float8[], $3::int[]) AS mark (cluster, hour_ms, windows) ORDER BY 1, 2
       ON CONFLICT (cluster, hour) DO UPDATE SET windows = d.windows | excluded.windows, last_marked = excluded.last_marked, marks = d.marks + 1`,
      [marks.map((mark) => mark.cluster), marks.map((mark) => mark.hourMs), marks.map((mark) => mark.windows)]);
  }

  private async markSkew(tx: Tx, fresh: readonly IncomingBatch[], numberOf: (each: IncomingBatch) => number): Promise<void> {
    const skewed = Map.groupBy(fresh.filter((each) => each.skewMs !== null), numberOf);
    for (const [cluster, batches] of [...skewed].sort(([a], [b]) => a - b)) {
      await tx.query('UPDATE cluster SET skewed_batches = skewed_batches + $2, last_skew_ms = $3, last_skewed_at = clock_timestamp() WHERE id = $1', [cluster, batches.length, batches.at(-1)?.skewMs]);
    }
  }

  /** Forgets names of batches stored before `before`. */
  async forgetNames(before: Date): Promise<void> {
    await this.database.query('DELETE FROM batch_name WHERE received_at < $1', [before]);
  }
}
