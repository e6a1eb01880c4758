import { commandSchema, heartbeatSchema, jobSchema, resultEventSchema, workloadKey, type Command, type Heartbeat, type Job, type ResultEvent } from '@upid/contracts';
import { claim, type Database, type Tx } from '@upid/platform';

/** A job with what its row keeps beside the body. */
export interface JobRow {
  readonly job: Job;
  readonly revision: number;
  readonly options: Readonly<Record<string, unknown>>;
}

interface RawJob { body: unknown; revision: number; options: Record<string, unknown> }
const toRow = (raw: RawJob): JobRow => ({ job: jobSchema.parse(raw.body), revision: raw.revision, options: raw.options });
const COLUMNS = 'body, revision, options';

/** Another job works on the same target, or the same key was used. */
export class TargetBusyError extends Error {
  override readonly name = 'TargetBusyError';
}

/** Jobs, their commands and results, holds, and the latest word of each agent. */
export class JobsRepository {
  constructor(private readonly database: Database) {}

  transaction<T>(fn: (tx: Tx) => Promise<T>): Promise<T> {
    return this.database.transaction(fn);
  }

  async insert(tx: Tx, job: Job, options: Readonly<Record<string, unknown>>, dueAtMs: number, idempotencyKey: string | null): Promise<void> {
    const inserted = await tx.query(
      `INSERT INTO job (id, cluster_id, target_key, optimization_type, status, applied, dry_run, body, options, revision, due_at, idempotency_key)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $11) ON CONFLICT DO NOTHING`,
      [job.id, job.cluster_id, workloadKey(job.target), job.optimization_type, job.status, job.applied, job.dry_run, JSON.stringify(job), JSON.stringify(options), new Date(dueAtMs), idempotencyKey],
    );
    if (inserted.rowCount === 0) throw new TargetBusyError(`another job works on ${workloadKey(job.target)}`);
  }

  /** Writes the next body as a new revision; `dueAtMs` null: nothing to do until something happens. @returns the revision */
  async update(tx: Tx, job: Job, dueAtMs: number | null): Promise<number> {
    const { rows } = await tx.query<{ revision: number }>(
      'UPDATE job SET status = $2, applied = $3, body = $4, revision = revision + 1, due_at = $5, updated_at = now() WHERE id = $1 RETURNING revision',
      [job.id, job.status, job.applied, JSON.stringify(job), dueAtMs === null ? null : new Date(dueAtMs)],
    );
    return rows[0]?.revision ?? 0;
  }

  /** Has the worker look at a job later; the job stays as it is. */
  async postpone(tx: Tx, id: string, dueAtMs: number | null): Promise<void> {
    await tx.query('UPDATE job SET due_at = $2 WHERE id = $1', [id, dueAtMs === null ? null : new Date(dueAtMs)]);
  }

  async lock(tx: Tx, id: string): Promise<JobRow | null> {
    const { rows } = await tx.query<RawJob & Record<string, unknown>>(`SELECT ${COLUMNS} FROM job WHERE id = $1 FOR UPDATE`, [id]);
    return rows[0] ? toRow(rows[0]) : null;
  }

  /** One job that is due and that no other replica works on. */
  async claimDue(tx: Tx, nowMs: number): Promise<JobRow | null> {
    const rows = await claim<RawJob & Record<string, unknown>>(tx, { table: 'job', where: 'due_at <= $1', values: [new Date(nowMs)], orderBy: 'due_at', limit: 1 });
    return rows[0] ? toRow(rows[0]) : null;
  }

  async find(id: string): Promise<JobRow | null> {
    const { rows } = await this.database.query<RawJob & Record<string, unknown>>(`SELECT ${COLUMNS} FROM job WHERE id = $1`, [id]);
    return rows[0] ? toRow(rows[0]) : null;
  }

  async findByKey(clusterId: string, targetKey: string, idempotencyKey: string): Promise<JobRow | null> {
    const { rows } = await this.database.query<RawJob & Record<string, unknown>>(`SELECT ${COLUMNS} FROM job WHERE cluster_id = $1 AND target_key = $2 AND idempotency_key = $3`, [clusterId, targetKey, idempotencyKey]);
    return rows[0] ? toRow(rows[0]) : null;
  }

  /** Newest first. */
  async list(filter: { clusterId: string | null; statuses: readonly string[] | null; applied: boolean | null; limit: number }): Promise<Job[]> {
    const { rows } = await this.database.query<RawJob & Record<string, unknown>>(
      `SELECT ${COLUMNS} FROM job WHERE ($1::text IS NULL OR cluster_id = $1) AND ($2::text[] IS NULL OR status = ANY ($2)) AND ($3::boolean IS NULL OR applied = $3) ORDER BY created_at DESC LIMIT $4`,
      [filter.clusterId, filter.statuses, filter.applied, filter.limit],
    );
    return rows.map((row) => toRow(row).job);
  }

  /** Ids of zero-scaling jobs whose change stands, or may: what is being carried out, and what no result came for. Oldest first. */
  async sleeping(clusterId: string | null): Promise<string[]> {
    const { rows } = await this.database.query<{ id: string }>(
      `SELECT id FROM job WHERE ($1::text IS NULL OR cluster_id = $1) AND optimization_type = 'zero_scaling' AND NOT dry_run
         AND (applied OR status = 'executing' OR (status = 'failed' AND body->'error'->>'code' = 'no_result')) ORDER BY created_at`,
      [clusterId],
    );
    return rows.map((row) => row.id);
  }

  /** Jobs of a cluster that changed something within the last hour. */
  async changesSince(clusterId: string, since: Date): Promise<number> {
    const { rows } = await this.database.query<{ count: number }>("SELECT count(*)::int AS count FROM job WHERE cluster_id = $1 AND NOT dry_run AND created_at >= $2 AND status NOT IN ('refused', 'cancelled')", [clusterId, since]);
    return rows[0]?.count ?? 0;
  }

  // ---------------------------------------------------------------- commands

  async nextFence(tx: Tx): Promise<number> {
    const { rows } = await tx.query<{ fence: string }>("SELECT nextval('command_fence')::text AS fence");
    return Number(rows[0]?.fence);
  }

  async insertCommand(tx: Tx, command: Command): Promise<void> {
    await tx.query('INSERT INTO command (id, cluster_id, job_id, verb, body, expires_at) VALUES ($1, $2, $3, $4, $5, $6)', [command.id, command.cluster_id, command.job_id, command.verb, JSON.stringify(command), command.expires_at]);
  }

  /** Takes commands that are to be sent now, each by one replica at a time; they come up again after `againMs` unless a result ends them. */
  async takeUnsent(nowMs: number, againMs: number): Promise<Command[]> {
    return this.database.transaction(async (tx) => {
      const rows = await claim<{ id: string; body: unknown } & Record<string, unknown>>(tx, { table: 'command', where: "state <> 'ended' AND next_send_at <= $1", values: [new Date(nowMs)], orderBy: 'next_send_at', limit: 20 });
      if (rows.length > 0) await tx.query('UPDATE command SET next_send_at = $2, sends = sends + 1 WHERE id = ANY ($1)', [rows.map((row) => row.id), new Date(nowMs + againMs)]);
      return rows.map((row) => commandSchema.parse(row.body));
    });
  }

  /** Commands of a cluster that have no result yet, to be sent to it now. Oldest first. */
  async takeWaiting(clusterId: string): Promise<Command[]> {
    const { rows } = await this.database.query<{ body: unknown }>(
      `WITH sent AS (UPDATE command SET sends = sends + 1 WHERE cluster_id = $1 AND state <> 'ended' RETURNING body, created_at) SELECT body FROM sent ORDER BY created_at`, [clusterId]);
    return rows.map((row) => commandSchema.parse(row.body));
  }

  /** Ends a command that was never sent, so that it never will be. False where it may have been. */
  async withdraw(tx: Tx, id: string): Promise<boolean> {
    const ended = await tx.query("UPDATE command SET state = 'ended' WHERE id = $1 AND state = 'waiting' AND sends = 0", [id]);
    return ended.rowCount === 1;
  }

  async markTaken(id: string): Promise<void> {
    await this.database.query("UPDATE command SET state = 'taken' WHERE id = $1 AND state = 'waiting'", [id]);
  }

  async endCommand(tx: Tx, id: string): Promise<void> {
    await tx.query("UPDATE command SET state = 'ended' WHERE id = $1", [id]);
  }

  /** Whether a command's result is still waited for. */
  async isOpen(tx: Tx, id: string): Promise<boolean> {
    const { rows } = await tx.query("SELECT 1 FROM command WHERE id = $1 AND state <> 'ended'", [id]);
    return rows.length > 0;
  }

  /** When the command expires, or null where it is not known. */
  async expiryOf(tx: Tx, commandId: string): Promise<number | null> {
    const { rows } = await tx.query<{ expires_at: Date }>('SELECT expires_at FROM command WHERE id = $1', [commandId]);
    return rows[0]?.expires_at.getTime() ?? null;
  }

  /** When the agent says that this came of the command, unix ms; null where it has not said so. */
  async outcomeAt(tx: Tx, commandId: string, outcome: ResultEvent['outcome']): Promise<number | null> {
    const { rows } = await tx.query<{ body: unknown }>('SELECT body FROM command_result WHERE command_id = $1 AND outcome = $2', [commandId, outcome]);
    return rows[0] ? Date.parse(resultEventSchema.parse(rows[0].body).at) : null;
  }

  /** False where this result was stored before. */
  async insertResult(tx: Tx, clusterId: string, result: ResultEvent): Promise<boolean> {
    const inserted = await tx.query('INSERT INTO command_result (command_id, outcome, cluster_id, job_id, body) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING', [result.command_id, result.outcome, clusterId, result.job_id, JSON.stringify(resultEventSchema.parse(result))]);
    return inserted.rowCount === 1;
  }

  // ---------------------------------------------------------------- holds and agents

  async hold(clusterId: string | null, actor: string): Promise<void> {
    await this.database.query('INSERT INTO hold (cluster_id, actor) VALUES ($1, $2) ON CONFLICT DO NOTHING', [clusterId ?? '*', actor]);
  }

  /** Without a cluster every hold is lifted. */
  async release(clusterId: string | null): Promise<void> {
    if (clusterId === null) await this.database.query('DELETE FROM hold');
    else await this.database.query('DELETE FROM hold WHERE cluster_id = $1', [clusterId]);
  }

  async holds(): Promise<string[]> {
    const { rows } = await this.database.query<{ cluster_id: string }>('SELECT cluster_id FROM hold ORDER BY cluster_id');
    return rows.map((row) => row.cluster_id);
  }

  /** Keeps an agent's heartbeat. @returns the fingerprint that the cluster id belongs to: another than the heartbeat's means another cluster */
  async keepHeartbeat(clusterId: string, heartbeat: Heartbeat): Promise<string> {
    const { rows } = await this.database.query<{ fingerprint: string }>(
      `INSERT INTO agent (cluster_id, fingerprint, heartbeat, seen_at) VALUES ($1, $2, $3, now())
       ON CONFLICT (cluster_id) DO UPDATE SET
         heartbeat = CASE WHEN agent.fingerprint = EXCLUDED.fingerprint THEN EXCLUDED.heartbeat ELSE agent.heartbeat END,
         seen_at = CASE WHEN agent.fingerprint = EXCLUDED.fingerprint THEN EXCLUDED.seen_at ELSE agent.seen_at END
       RETURNING fingerprint`,
      [clusterId, heartbeat.fingerprint, JSON.stringify(heartbeat)],
    );
    return rows[0]?.fingerprint ?? heartbeat.fingerprint;
  }

  async agents(clusterId: string | null): Promise<{ clusterId: string; heartbeat: Heartbeat; seenAt: Date }[]> {
    const { rows } = await this.database.query<{ cluster_id: string; heartbeat: unknown; seen_at: Date }>('SELECT cluster_id, heartbeat, seen_at FROM agent WHERE $1::text IS NULL OR cluster_id = $1', [clusterId]);
    return rows.map((row) => ({ clusterId: row.cluster_id, heartbeat: heartbeatSchema.parse(row.heartbeat), seenAt: row.seen_at }));
  }
}
