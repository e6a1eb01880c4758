import { recommendationSchema, type Recommendation, type RecommendationEvent } from '@upid/contracts';
import type { Database } from '@upid/platform';

/** Recommendations that stand, as the optimizer published them last. */
export class SavingsRepository {
  constructor(private readonly database: Database) {}

  /** Keeps what an event says; one that came before stays where it is newer. */
  async keep(cluster: number, event: RecommendationEvent): Promise<void> {
    await this.database.query(
      `INSERT INTO recommendation AS r (id, cluster, revision, lapsed, body, updated_at) VALUES ($1, $2, $3, $4, $5, $6)
       ON CONFLICT (id) DO UPDATE SET cluster = excluded.cluster, revision = excluded.revision, lapsed = excluded.lapsed, body = excluded.body, updated_at = excluded.updated_at WHERE r.revision < excluded.revision`,
      [event.recommendation.id, cluster, event.revision, event.change === 'lapsed', JSON.stringify(event.recommendation), event.at]);
  }

  async standing(cluster: number): Promise<Recommendation[]> {
    const { rows } = await this.database.query<{ body: unknown }>('SELECT body FROM recommendation WHERE cluster = $1 AND NOT lapsed ORDER BY id', [cluster]);
    return rows.map((row) => recommendationSchema.parse(row.body));
  }

  /** Forgets what lapsed before a time: longer ago than the stream keeps events. */
  async forgetLapsed(before: Date): Promise<void> {
    await this.database.query('DELETE FROM recommendation WHERE lapsed AND updated_at < $1', [before]);
  }
}
