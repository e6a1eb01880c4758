import { workloadKey, type CoverageEvent } from '@upid/contracts';
import type { Database } from '@upid/platform';

export interface StoredCoverageEvent {
  readonly type: CoverageEvent['type'];
  readonly source: CoverageEvent['source'];
  readonly startsAt: Date;
  readonly endsAt: Date;
  readonly reason: string;
  readonly detail: CoverageEvent['detail'];
  readonly receivedAt: Date;
}

/** What agents say of missing telemetry, changed sources and backfill. */
export class CoverageRepository {
  constructor(private readonly database: Database) {}

  /** The same event twice is one event. */
  async store(clusterId: string, event: CoverageEvent, receivedAt: Date): Promise<void> {
    await this.database.query(
      `INSERT INTO coverage_event (cluster_id, id, type, source, starts_at, ends_at, reason, count, workload, detail, received_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`,
      [clusterId, event.id, event.type, event.source, event.start, event.end, event.reason, event.count, event.workload && workloadKey(event.workload), JSON.stringify(event.detail), receivedAt]);
  }

  /** Events of a type whose time ends after `since`, the latest first. */
  async events(clusterId: string, type: CoverageEvent['type'], since: Date, limit = 100): Promise<StoredCoverageEvent[]> {
    const { rows } = await this.database.query<{ type: CoverageEvent['type']; source: CoverageEvent['source']; starts_at: Date; ends_at: Date; reason: string; detail: CoverageEvent['detail']; received_at: Date }>(
      `SELECT type, source, starts_at, ends_at, reason, detail, received_at FROM coverage_event WHERE cluster_id = $1 AND type = $2 AND ends_at >= $3 ORDER BY received_at DESC, ends_at DESC LIMIT $4`, [clusterId, type, since, limit]);
    return rows.map((row) => ({ type: row.type, source: row.source, startsAt: row.starts_at, endsAt: row.ends_at, reason: row.reason, detail: row.detail, receivedAt: row.received_at }));
  }

  /** The latest word on backfill, whenever it was; null where none was ever begun. */
  async backfill(clusterId: string): Promise<StoredCoverageEvent | null> {
    const [progress, done] = await Promise.all([this.events(clusterId, 'backfill_progress', new Date(0), 1), this.events(clusterId, 'backfill_done', new Date(0), 1)]);
    const [latest] = [...done, ...progress].sort((a, b) => b.receivedAt.getTime() - a.receivedAt.getTime() || Number(b.type === 'backfill_done') - Number(a.type === 'backfill_done'));
    return latest ?? null;
  }

  async forget(before: Date): Promise<void> {
    await this.database.query('DELETE FROM coverage_event WHERE ends_at < $1', [before]);
  }
}
