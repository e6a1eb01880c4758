import { assessmentSchema, recommendationSchema, workloadKey, type Assessment, type AssessmentEvent, type Recommendation } from '@upid/contracts';
import type { Database, Tx } from '@upid/platform';

export interface StandingRecommendation {
  readonly recommendation: Recommendation;
  readonly revision: number;
}

/** Assessments as they come, and the recommendations that stand. */
export class RecommendationsRepository {
  constructor(private readonly database: Database) {}

  transaction<T>(fn: (tx: Tx) => Promise<T>): Promise<T> {
    return this.database.transaction(fn);
  }

  /** Keeps the newest assessment of each workload; an older one never overwrites it. */
  async keepAssessments(clusterId: string, event: AssessmentEvent): Promise<void> {
    if (event.assessments.length === 0) return;
    await this.database.query(
      `INSERT INTO assessment (cluster_id, workload_key, revision, assessed_at, window_start, window_end, body)
       SELECT $1, key, $2, $3, $4, $5, body::jsonb FROM unnest($6::text[], $7::text[]) AS new (key, body)
       ON CONFLICT (cluster_id, workload_key) DO UPDATE SET revision = EXCLUDED.revision, assessed_at = EXCLUDED.assessed_at, window_start = EXCLUDED.window_start, window_end = EXCLUDED.window_end, body = EXCLUDED.body
       WHERE (assessment.assessed_at, assessment.revision) < (EXCLUDED.assessed_at, EXCLUDED.revision)`,
      [clusterId, event.revision, event.assessed_at, event.window_start, event.window_end, event.assessments.map((each) => workloadKey(each.workload)), event.assessments.map((each) => JSON.stringify(each))],
    );
  }

  async latestAssessment(clusterId: string, key: string): Promise<Assessment | null> {
    const { rows } = await this.database.query<{ body: unknown }>('SELECT body FROM assessment WHERE cluster_id = $1 AND workload_key = $2', [clusterId, key]);
    return rows[0] ? assessmentSchema.parse(rows[0].body) : null;
  }

  async assessments(clusterId: string): Promise<Map<string, Assessment>> {
    const { rows } = await this.database.query<{ workload_key: string; body: unknown }>('SELECT workload_key, body FROM assessment WHERE cluster_id = $1', [clusterId]);
    return new Map(rows.map((row) => [row.workload_key, assessmentSchema.parse(row.body)]));
  }

  async clustersWithAssessments(): Promise<string[]> {
    const { rows } = await this.database.query<{ cluster_id: string }>('SELECT DISTINCT cluster_id FROM assessment');
    return rows.map((row) => row.cluster_id);
  }

  /** What stands now, locked for this transaction. */
  async standing(tx: Tx, clusterId: string): Promise<StandingRecommendation[]> {
    const { rows } = await tx.query<{ body: unknown; revision: number }>('SELECT body, revision FROM recommendation WHERE cluster_id = $1 AND lapsed_at IS NULL FOR UPDATE', [clusterId]);
    return rows.map((row) => ({ recommendation: recommendationSchema.parse(row.body), revision: row.revision }));
  }

  /** @returns the revision it was written with: one that lapsed and comes back goes on counting */
  async keep(tx: Tx, clusterId: string, recommendation: Recommendation): Promise<number> {
    const { rows } = await tx.query<{ revision: number }>(
      `INSERT INTO recommendation (id, cluster_id, type, workload_key, confidence, revision, body, updated_at) VALUES ($1, $2, $3, $4, $5, 1, $6, $7)
       ON CONFLICT (id) DO UPDATE SET confidence = EXCLUDED.confidence, revision = recommendation.revision + 1, body = EXCLUDED.body, updated_at = EXCLUDED.updated_at, lapsed_at = NULL RETURNING revision`,
      [recommendation.id, clusterId, recommendation.type, recommendation.workload ? workloadKey(recommendation.workload) : null, recommendation.confidence, JSON.stringify(recommendation), recommendation.updated_at],
    );
    return rows[0]?.revision ?? 1;
  }

  async lapse(tx: Tx, id: string, at: Date): Promise<number> {
    const { rows } = await tx.query<{ revision: number }>('UPDATE recommendation SET lapsed_at = $2, revision = revision + 1 WHERE id = $1 RETURNING revision', [id, at]);
    return rows[0]?.revision ?? 1;
  }

  async list(clusterId: string, filter: { minimumConfidence: number; namespace: string | null; workloadKey: string | null }): Promise<Recommendation[]> {
    const { rows } = await this.database.query<{ body: unknown }>(
      `SELECT body FROM recommendation WHERE cluster_id = $1 AND lapsed_at IS NULL AND confidence >= $2 AND ($3::text IS NULL OR starts_with(workload_key, $3 || '/')) AND ($4::text IS NULL OR workload_key = $4)
       ORDER BY (body #>> '{saving,estimated_savings}')::numeric DESC NULLS LAST, confidence DESC`,
      [clusterId, filter.minimumConfidence, filter.namespace, filter.workloadKey],
    );
    return rows.map((row) => recommendationSchema.parse(row.body));
  }

  async markEvaluated(tx: Tx, clusterId: string, at: Date): Promise<void> {
    await tx.query('INSERT INTO evaluation (cluster_id, evaluated_at) VALUES ($1, $2) ON CONFLICT (cluster_id) DO UPDATE SET evaluated_at = EXCLUDED.evaluated_at', [clusterId, at]);
  }

  async evaluatedAt(clusterId: string): Promise<Date | null> {
    const { rows } = await this.database.query<{ evaluated_at: Date }>('SELECT evaluated_at FROM evaluation WHERE cluster_id = $1', [clusterId]);
    return rows[0]?.evaluated_at ?? null;
  }
}
