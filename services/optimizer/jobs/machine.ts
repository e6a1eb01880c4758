import { ENDED_JOB_STATUSES, toTimestamp, type Job, type JobStatus, type ResultEvent, type SafetyCheck, type WorkloadObject, type WorkloadRef } from '@upid/contracts';
import { parseCpuQuantity, parseMemoryQuantity, type ResourceChange } from './resources.js';

/**
 * A job as a state machine: pure steps from (job, what happened, time) to the next job. The caller persists the result and the command
 * that it asks for in one transaction, so that a crash anywhere costs a repetition and nothing is done twice.
 *
 *   pending → validating → planned → executing → watching → completed
 *      └──────────┴───────────┴→ cancelled      └─────────┴──────────┴→ rolling_back → rolled_back
 */

export class IllegalTransitionError extends Error {
  override readonly name = 'IllegalTransitionError';
}

const STEP_NAMES = ['validate', 'plan', 'execute', 'watch', 'restore'] as const;
type StepName = (typeof STEP_NAMES)[number];
/** Index of the step whose command changes the cluster, and of the one that puts it back. */
export const EXECUTE_STEP = STEP_NAMES.indexOf('execute');
export const RESTORE_STEP = STEP_NAMES.indexOf('restore');

/** Codes of a failure to put back by which there is nothing left to put back. */
const GONE_CODES: readonly string[] = ['not_found', 'uid_changed'];

const PROGRESS: Record<JobStatus, number> = { pending: 0, validating: 10, planned: 25, executing: 40, watching: 70, completed: 100, rolling_back: 80, rolled_back: 100, failed: 100, cancelled: 100, refused: 100 };

export function newJob(input: {
  readonly id: string; readonly clusterId: string; readonly type: Job['optimization_type']; readonly target: WorkloadRef; readonly targetUid: string; readonly dryRun: boolean; readonly actor: string; readonly policy: string; readonly checks: readonly SafetyCheck[]; readonly nowMs: number; readonly watchSeconds: number;
}): Job {
  const now = toTimestamp(input.nowMs);
  return {
    id: input.id, cluster_id: input.clusterId, optimization_type: input.type, target: input.target, target_uid: input.targetUid, status: 'pending', progress: 0, dry_run: input.dryRun, actor: input.actor, policy: input.policy,
    steps: STEP_NAMES.map((name, step) => ({ step, name, status: 'waiting', command_id: null, detail: '', started_at: null, ended_at: null })),
    safety_checks: [...input.checks], plan: null, result: null, error: null, applied: false, created_at: now, updated_at: now,
    estimated_completion: toTimestamp(input.nowMs + (input.dryRun ? 10_000 : (input.watchSeconds + 15) * 1000)),
  };
}

export function hasEnded(job: Job): boolean {
  return ENDED_JOB_STATUSES.includes(job.status);
}

function to(job: Job, status: JobStatus, nowMs: number, more: Partial<Job> = {}): Job {
  return { ...job, ...more, status, progress: PROGRESS[status], updated_at: toTimestamp(nowMs) };
}

function withStep(job: Job, name: StepName, nowMs: number, change: { status: Job['steps'][number]['status']; detail?: string; commandId?: string }): Job {
  const now = toTimestamp(nowMs);
  return {
    ...job,
    steps: job.steps.map((step) => (step.name !== name ? step : {
      ...step, status: change.status, detail: change.detail ?? step.detail, command_id: change.commandId ?? step.command_id, started_at: step.started_at ?? now, ended_at: change.status === 'running' || change.status === 'waiting' ? null : now,
    })),
  };
}

export function startValidating(job: Job, nowMs: number): Job {
  return to(withStep(job, 'validate', nowMs, { status: 'running', detail: 'reading the facts again and running every safety check' }), 'validating', nowMs);
}

/** The checks were run again right before acting. */
export function validated(job: Job, checks: readonly SafetyCheck[], blocking: readonly SafetyCheck[], nowMs: number): Job {
  const checked = { ...job, safety_checks: [...checks] };
  if (blocking.length === 0) return withStep(checked, 'validate', nowMs, { status: 'done', detail: `${checks.length} safety checks hold` });
  const why = blocking.map((check) => `${check.name}: ${check.reason}`).join('; ');
  return to(withStep(checked, 'validate', nowMs, { status: 'failed', detail: why }), 'refused', nowMs, { error: { code: 'unsafe', message: why } });
}

/** The fields that a scale to zero changes, before and after. */
export function zeroScalingPlan(workload: WorkloadObject): NonNullable<Job['plan']> {
  const before = workload.replicas ?? 1;
  return { changes: [{ path: '/spec/replicas', before, after: 0 }], rollback: [{ path: '/spec/replicas', before: 0, after: before }] };
}

/** The fields that a change of resources touches. `wanted` by container: quantities as Kubernetes writes them, by `requests.cpu` and so on. */
export function resourcePlan(wanted: readonly { readonly container: string; readonly field: string; readonly before: string | null; readonly after: string | null }[]): NonNullable<Job['plan']> {
  const path = (each: (typeof wanted)[number]) => `/spec/template/spec/containers[name=${each.container}]/resources/${each.field.replace('.', '/')}`;
  return {
    changes: wanted.map((each) => ({ path: path(each), before: each.before, after: each.after })),
    rollback: wanted.map((each) => ({ path: path(each), before: each.after, after: each.before })),
  };
}

/** The replicas that a planned scale to zero starts from. */
export function plannedReplicas(job: Job): number | null {
  const before = job.plan?.changes.find((change) => change.path === '/spec/replicas')?.before;
  return typeof before === 'number' ? before : null;
}

/** The amounts that a planned change of resources sets, by container. @throws {RangeError} where the plan holds what {@link resourcePlan} does not write */
export function plannedResources(job: Job): ResourceChange[] {
  const none = { cpu_millicores: null, memory_bytes: null };
  const wanted = new Map<string, ResourceChange>();
  for (const { path, after } of job.plan?.changes ?? []) {
    const [, container, kind, resource] = /^\/spec\/template\/spec\/containers\[name=(.+)\]\/resources\/(requests|limits)\/(cpu|memory)$/.exec(path) ?? [];
    if (container === undefined || typeof after !== 'string') throw new RangeError(`${path} is no planned change of resources`);
    const change = wanted.get(container) ?? { container, requests: none, limits: none };
    const amount = resource === 'cpu' ? { cpu_millicores: parseCpuQuantity(after) } : { memory_bytes: parseMemoryQuantity(after) };
    wanted.set(container, kind === 'requests' ? { ...change, requests: { ...change.requests, ...amount } } : { ...change, limits: { ...change.limits, ...amount } });
  }
  return [...wanted.values()];
}

/** The way back is stored before the first command exists. */
export function planned(job: Job, plan: NonNullable<Job['plan']>, nowMs: number): Job {
  const detail = plan.changes.map((change) => `${change.path}: ${JSON.stringify(change.before)} → ${JSON.stringify(change.after)}`).join('; ');
  return to(withStep({ ...job, plan }, 'plan', nowMs, { status: 'done', detail }), 'planned', nowMs);
}

export function executing(job: Job, commandId: string, nowMs: number): Job {
  if (job.plan === null) throw new IllegalTransitionError('nothing is changed before the way back is stored');
  return to(withStep(job, 'execute', nowMs, { status: 'running', commandId, detail: job.dry_run ? 'asking the API server for a dry run' : 'the agent is to carry it out' }), 'executing', nowMs);
}

export function executeCommandId(job: Job): string | null {
  return job.steps[EXECUTE_STEP]?.command_id ?? null;
}

export function restoreCommandId(job: Job): string | null {
  return job.steps[RESTORE_STEP]?.command_id ?? null;
}

/**
 * What the agent reports of a command, or did of itself. Returns the job as it was where the result is of no news (delivered twice, of an
 * older command).
 */
export function onResult(job: Job, result: ResultEvent, watchUntilMs: number, nowMs: number): { job: Job; restore: boolean } {
  const keep = { job, restore: false };
  const isExecute = result.command_id === executeCommandId(job);
  const isRestore = result.command_id === restoreCommandId(job);
  switch (result.outcome) {
    case 'dry_run':
      if (!isExecute || job.status !== 'executing') return keep;
      return { job: to(withStep(job, 'execute', nowMs, { status: 'done', detail: result.message }), 'completed', nowMs, { result: { dry_run: true, message: result.message, changes: result.changes } }), restore: false };
    case 'done': {
      if (!isExecute || job.applied || ['rolled_back', 'completed', 'watching'].includes(job.status)) return keep;
      const applied = { ...withStep(job, 'execute', nowMs, { status: 'done', detail: result.message }), applied: true };
      // Cancelled, given up or asked back while the command was on its way: what stands in the cluster is put back.
      if (job.status !== 'executing') return { job: { ...applied, updated_at: toTimestamp(nowMs) }, restore: true };
      const watched = withStep(applied, 'watch', nowMs, { status: 'running', detail: `watching until ${toTimestamp(watchUntilMs)}` });
      return { job: to(watched, 'watching', nowMs, { result: { changes: result.changes, elapsed_ms: result.elapsed_ms, at: result.at }, estimated_completion: toTimestamp(watchUntilMs) }), restore: false };
    }
    case 'refused':
    case 'failed': {
      const error = { code: result.code ?? result.outcome, message: result.message };
      // What is gone, or was made anew, does not stand any more as the job left it.
      if (job.applied && result.outcome === 'failed' && GONE_CODES.includes(error.code)) {
        if (isRestore && job.status === 'rolling_back') return { job: to(withStep(job, 'restore', nowMs, { status: 'failed', detail: result.message }), 'failed', nowMs, { error, applied: false }), restore: false };
        if (isExecute && job.status === 'watching') return { job: to(withStep(job, 'watch', nowMs, { status: 'failed', detail: result.message }), 'failed', nowMs, { error, applied: false }), restore: false };
        if (isExecute && hasEnded(job)) return { job: { ...job, error, applied: false, updated_at: toTimestamp(nowMs) }, restore: false };
      }
      if (isExecute && job.status === 'executing') return { job: to(withStep(job, 'execute', nowMs, { status: 'failed', detail: result.message }), 'failed', nowMs, { error }), restore: false };
      if (isRestore && job.status === 'rolling_back') return { job: to(withStep(job, 'restore', nowMs, { status: 'failed', detail: result.message }), 'failed', nowMs, { error }), restore: false };
      return keep;
    }
    case 'woken':
    case 'restored': {
      if (!isExecute && !isRestore) return keep;
      if (job.status === 'rolled_back') return keep;
      const why = result.reason ?? (result.outcome === 'woken' ? 'woken by the agent' : 'restored on request');
      const executed = job.steps[EXECUTE_STEP]?.status === 'running' ? withStep(job, 'execute', nowMs, { status: 'done' }) : job;
      const watched = executed.steps.find((step) => step.name === 'watch')?.status === 'running' ? withStep(executed, 'watch', nowMs, { status: 'done', detail: why }) : executed;
      const done = withStep(watched, 'restore', nowMs, { status: 'done', detail: result.message });
      return { job: to(done, 'rolled_back', nowMs, { applied: false, result: { ...job.result, outcome: result.outcome, reason: why, restored_at: result.at, restored: result.changes, restore_elapsed_ms: result.elapsed_ms }, error: null }), restore: false };
    }
  }
}

/** The watch is over and nothing came: the change stands. */
export function watchOver(job: Job, nowMs: number): Job {
  return to(withStep(job, 'watch', nowMs, { status: 'done', detail: 'no business request came' }), 'completed', nowMs);
}

/** The target vanished before anything was sent. */
export function targetGone(job: Job, message: string, nowMs: number): Job {
  return to(job, 'failed', nowMs, { error: { code: 'not_found', message } });
}

/** A result that did not come in time: the command has long expired, so the agent will not start it any more. */
export function gaveUp(job: Job, nowMs: number): Job {
  const message = 'no result came from the agent; its command has expired and will not be started any more. Should it have acted, it is put back';
  return to(withStep(job, 'execute', nowMs, { status: 'failed', detail: message }), 'failed', nowMs, { error: { code: 'no_result', message } });
}

export type CancelOutcome = { readonly kind: 'cancelled'; readonly job: Job } | { readonly kind: 'roll_back' };

/** Before anything was sent, and where nothing is changed, a job is simply ended; else cancelling means putting back. */
export function cancel(job: Job, actor: string, nowMs: number): CancelOutcome {
  if (hasEnded(job)) throw new IllegalTransitionError(`the job has ended (${job.status})${job.applied ? '; its change can be undone by rolling it back' : ''}`);
  if (!job.dry_run && (job.status === 'executing' || job.status === 'watching' || job.status === 'rolling_back')) return { kind: 'roll_back' };
  return { kind: 'cancelled', job: to(job, 'cancelled', nowMs, { result: { cancelled_by: actor } }) };
}

/** Nothing had been sent: the job ends as cancelled, or, where it was to be put back, as put back without anything to do. */
export function withdrawn(job: Job, as: 'cancelled' | 'rolled_back', actor: string, nowMs: number): Job {
  const unsent = withStep(job, 'execute', nowMs, { status: 'skipped', detail: `withdrawn by ${actor} before it was sent` });
  return to(unsent, as, nowMs, { result: as === 'cancelled' ? { cancelled_by: actor } : { outcome: 'restored', reason: 'nothing had been sent', restored_at: toTimestamp(nowMs), restored: [] } });
}

/** Whether the change may still stand, or may yet come to stand, in the cluster. */
export function canRollBack(job: Job): boolean {
  if (job.dry_run) return false;
  return job.applied || job.status === 'executing' || job.status === 'watching' || (job.status === 'failed' && job.error?.code === 'no_result');
}

export function rollingBack(job: Job, commandId: string, actor: string, nowMs: number): Job {
  if (!canRollBack(job)) throw new IllegalTransitionError(job.status === 'rolled_back' ? 'the job has been rolled back already' : `the job (${job.status}) has changed nothing that could be put back`);
  return to(withStep(job, 'restore', nowMs, { status: 'running', commandId, detail: `asked for by ${actor}` }), 'rolling_back', nowMs, { error: null });
}
