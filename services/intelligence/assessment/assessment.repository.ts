import { assessmentSchema, type Assessment } from '@upid/contracts';
import type { Database, Leases, Lease, Outbox, OutboxMessage, Tx } from '@upid/platform';

export interface StoredAssessment {
  readonly workload: string;
  readonly publishedAt: Date;
  readonly assessedAt: Date;
  readonly revision: number;
  readonly assessment: Assessment;
}

interface Row { readonly workload: string; readonly published_at: Date; readonly assessed_at: Date; readonly revision: bigint; readonly body: unknown }

/** The latest assessment of each workload, as it was told last. */
export class AssessmentRepository {
  constructor(private readonly database: Database, private readonly outbox: Outbox, private readonly leases: Leases) {}

  private async select(where: string, values: readonly unknown[]): Promise<StoredAssessment[]> {
    const { rows } = await this.database.query<Row & { [column: string]: unknown }>(`SELECT workload, published_at, assessed_at, revision, body FROM assessment WHERE ${where} ORDER BY workload`, values);
    return rows.map((row) => ({ workload: row.workload, publishedAt: row.published_at, assessedAt: row.assessed_at, revision: Number(row.revision), assessment: assessmentSchema.parse(row.body) }));
  }

  all(clusterId: string): Promise<StoredAssessment[]> {
    return this.select('cluster_id = $1', [clusterId]);
  }

  async of(clusterId: string, workload: string): Promise<StoredAssessment | null> {
    return (await this.select('cluster_id = $1 AND workload = $2', [clusterId, workload]))[0] ?? null;
  }

  async nextRevision(): Promise<number> {
    const { rows } = await this.database.query<{ revision: bigint }>(`SELECT nextval('revision') AS revision`);
    return Number(rows[0]?.revision);
  }

  /** Keeps assessments and what tells of them, while the lease is held; those of workloads that are gone are forgotten. @throws {LeaseLostError} */
  async store(clusterId: string, lease: Lease, revision: number, assessedAt: Date, assessments: readonly { workload: string; assessment: Assessment }[], gone: readonly string[], messages: readonly OutboxMessage[]): Promise<void> {
    await this.database.transaction(async (tx: Tx) => {
      await this.leases.assertHeld(tx, lease);
      for (let from = 0; from < assessments.length; from += 200) {
        const part = assessments.slice(from, from + 200);
        await tx.query(
          `INSERT INTO assessment (cluster_id, workload, revision, assessed_at, published_at, body) SELECT $1, workload, $2, $3, $3, body FROM unnest($4::text[], $5::jsonb[]) AS each (workload, body)
           ON CONFLICT (cluster_id, workload) DO UPDATE SET revision = excluded.revision, assessed_at = excluded.assessed_at, published_at = excluded.published_at, body = excluded.body`,
          [clusterId, revision, assessedAt, part.map((each) => each.workload), part.map((each) => JSON.stringify(each.assessment))]);
      }
      if (gone.length > 0) await tx.query('DELETE FROM assessment WHERE cluster_id = $1 AND workload = ANY($2::text[])', [clusterId, gone]);
      await this.outbox.add(tx, messages);
    });
  }
}
