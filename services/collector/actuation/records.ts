import { commandSchema, timestampSchema, uidSchema, type Command, type ResultEvent } from '@upid/contracts';
import { z } from 'zod';
import { uuidOf } from '../inventory/identifiers.js';

/**
 * The record of a change, kept in the cluster itself (a ConfigMap named by the command's id) before anything is changed: it is the
 * authority for the way back, and enough to restore with every other part of UPID gone. Versioned: a later agent reads what an earlier
 * one wrote.
 */

const fieldValueSchema = z.union([z.string(), z.number(), z.null()]);

export const recordSchema = z.object({
  version: z.literal(1),
  command: commandSchema,
  /**
   * `intended`: written, perhaps not acted yet. `done`: the object is changed. `waking`: it is being put back, for `reason`.
   * `ended`: put back, or given up; nothing is left to do.
   */
  state: z.enum(['intended', 'done', 'waking', 'ended']),
  changes: z.array(z.object({ path: z.string(), before: fieldValueSchema, after: fieldValueSchema })),
  /** What else stood there, to show that nothing else was touched; the environment as a digest alone. */
  prior: z.object({ labels: z.record(z.string(), z.string()), environment_digest: z.string(), generation: z.number().nullable() }),
  taken_at: timestampSchema,
  done_at: timestampSchema.nullable(),
  /** Why it is being put back, and when what caused it was seen. */
  waking: z.object({ reason: z.string(), seen_at: timestampSchema, by_command: uidSchema.nullable() }).nullable(),
  ended_at: timestampSchema.nullable(),
  /** What was told of it, in order; told again after a restart under the same ids. */
  results: z.array(z.object({ outcome: z.enum(['done', 'failed', 'woken', 'restored', 'refused']), code: z.string().nullable(), reason: z.string().nullable(), message: z.string(), at: timestampSchema, elapsed_ms: z.number().nullable(), changes: z.array(z.object({ path: z.string(), before: fieldValueSchema, after: fieldValueSchema })) })),
});
export type ChangeRecord = z.infer<typeof recordSchema>;
export type RecordedResult = ChangeRecord['results'][number];

/** A record that this build cannot read: whoever looks after the cluster must know of it. */
export class UnreadableRecordError extends Error {
  override readonly name = 'UnreadableRecordError';
}

export const RECORD_LABELS = { kind: 'upid.io/record', state: 'upid.io/record-state', job: 'upid.io/job' } as const;

export function recordName(commandId: string): string {
  return `upid-${commandId.toLowerCase()}`;
}

/** @throws {UnreadableRecordError} */
export function parseRecord(name: string, text: string | undefined): ChangeRecord {
  let value: unknown;
  try {
    value = JSON.parse(text ?? '');
  } catch (cause) {
    throw new UnreadableRecordError(`${name} holds no record`, { cause });
  }
  const parsed = recordSchema.safeParse(value);
  if (!parsed.success) throw new UnreadableRecordError(`${name} holds a record that cannot be read: ${parsed.error.issues[0]?.path.join('.')} ${parsed.error.issues[0]?.message}`);
  return parsed.data;
}

/** Whether a record is of a workload that it put to sleep and that sleeps still. */
export function sleeps({ state, command, changes }: ChangeRecord): boolean {
  return (state === 'done' || state === 'waking') && command.verb === 'scale' && changes.some(({ path, after }) => path === '/spec/replicas' && after === 0);
}

/** The replicas that a sleeper will have again. */
export function restoredReplicas({ changes }: ChangeRecord): number | null {
  const before = changes.find(({ path }) => path === '/spec/replicas')?.before;
  return typeof before === 'number' ? before : null;
}

/** A result as it is told to the platform: the same result has the same id, however often it is told. */
export function resultEvent(command: Pick<Command, 'id' | 'job_id' | 'step' | 'target'>, result: Omit<RecordedResult, 'outcome'> & { readonly outcome: ResultEvent['outcome'] }): ResultEvent {
  return {
    version: 1, id: uuidOf('result', command.id, result.outcome), command_id: command.id, job_id: command.job_id, step: command.step, outcome: result.outcome, code: result.code as ResultEvent['code'], reason: result.reason,
    message: result.message, target: command.target, changes: result.changes.map(({ path, before, after }) => ({ path, before, after })), elapsed_ms: result.elapsed_ms, at: result.at,
  };
}

/** How long an ended record is kept: its change can no longer be undone by it, but it still says what happened. */
export const ENDED_KEPT_MS = 30 * 86_400_000;

/** The highest fence that was ever taken for a target. */
export function highestFence(records: Iterable<ChangeRecord>, targetUid: string): number {
  let highest = 0;
  for (const { command } of records) if (command.target.uid === targetUid) highest = Math.max(highest, command.fence);
  return highest;
}
