import { randomUUID } from 'node:crypto';
import {
  commandText, HOUR_MS, subjects, toTimestamp, UpidError, workloadKey, type Command, type Job, type JobEvent, type Policy, type QueryParsed, type ResultEvent, type WorkloadObject,
} from '@upid/contracts';
import type { Logger, Outbox, Tx } from '@upid/platform';
import { blockingChecks, OPT_OUTS, runSafetyChecks } from '../safety/checks.js';
import type { FactsService } from '../safety/facts.service.js';
import {
  cancel, canRollBack, EXECUTE_STEP, executeCommandId, executing, gaveUp, hasEnded, IllegalTransitionError, newJob, onResult, planned, plannedReplicas, plannedResources, RESTORE_STEP, resourcePlan, restoreCommandId, rollingBack, startValidating, targetGone, validated, watchOver, withdrawn, zeroScalingPlan,
} from './machine.js';
import { TargetBusyError, type JobRow, type JobsRepository } from './jobs.repository.js';
import { resourceChanges, type ResourceChange } from './resources.js';

/** Signs a command's text, base64url. */
export interface CommandSigner {
  sign(text: string): string;
}

/** What right-sizing would set on a workload now. */
export interface ResourceAdvisor {
  wantedResources(clusterId: string, workload: WorkloadObject): Promise<readonly ResourceChange[]>;
}

export interface JobsOptions {
  readonly policy: Policy;
  /** Clusters whose jobs may act; `*` for all. */
  readonly actuationClusters: readonly string[];
  readonly nowMs: () => number;
}

/** After a command's expiry the agent starts nothing; a result that has not come this much later is not waited for any more. */
const RESULT_GRACE_MS = 10 * 60_000;
/** The agent's clock may be this much behind ours. */
const EXPIRY_SKEW_MS = 30_000;

/** Fewer than the connections to the database. */
const RESTORES_AT_ONCE = 6;

/** Jobs: taken in, driven step by step, put back. Every step is one transaction with the events and commands that follow from it. */
export class JobsService {
  constructor(
    private readonly repository: JobsRepository, private readonly facts: FactsService, private readonly outbox: Outbox, private readonly signer: CommandSigner, private readonly advisor: ResourceAdvisor, private readonly options: JobsOptions, private readonly log: Logger,
    private readonly wake: { jobs(): void; commands(): void },
  ) {}

  mayAct(clusterId: string): boolean {
    return this.options.actuationClusters.includes('*') || this.options.actuationClusters.includes(clusterId);
  }

  async isHeld(clusterId: string): Promise<boolean> {
    const holds = await this.repository.holds();
    return holds.includes('*') || holds.includes(clusterId);
  }

  /**
   * Takes jobs in, all or none. One request with an idempotency key is answered with the same jobs however often it comes.
   * @throws UpidError unsafe (details.checks by target), actuation_disabled, stopped, conflict, not_found, rate_limited
   */
  async optimize(request: QueryParsed<'optimizer', 'optimize'>): Promise<Job[]> {
    const nowMs = this.options.nowMs();
    const { cluster_id: clusterId } = request;
    const workloads = await Promise.all(request.targets.map((target) => this.facts.findWorkload(clusterId, target.namespace, target.kind, target.name)));
    const known = await this.known(request, workloads);
    if (known !== null) return known;
    if (!this.mayAct(clusterId)) throw new UpidError('actuation_disabled', `Changes are not allowed on cluster ${clusterId}: start UPID with --allow-changes, and bind the agent's actuation role.`, { cluster_id: clusterId });
    if (!request.dry_run && (await this.isHeld(clusterId))) throw new UpidError('stopped', `Every action on cluster ${clusterId} is held. Waking goes on; \`resume\` lets jobs start again.`, { cluster_id: clusterId });
    const judged = await Promise.all(workloads.map(async (workload) => ({ workload, checks: runSafetyChecks(await this.facts.of(clusterId, workload, request.optimization_type, nowMs)) })));
    const unsafe = judged.filter(({ checks }) => blockingChecks(checks).length > 0);
    if (unsafe.length > 0) {
      const sentences = unsafe.map(({ workload, checks }) => `${keyOf(workload)}: ${blockingChecks(checks).map((check) => `${check.name} (${check.reason})`).join(', ')}`);
      throw new UpidError('unsafe', `Not safe: ${sentences.join('; ')}.`, {
        checks: judged.flatMap(({ workload, checks }) => checks.map((check) => ({ target: keyOf(workload), ...check }))), failed_checks: unsafe.flatMap(({ workload, checks }) => blockingChecks(checks).map((check) => ({ target: keyOf(workload), ...check }))), policy: this.options.policy.name,
      });
    }
    const { changes_per_hour: allowed } = this.options.policy;
    if (!request.dry_run && (await this.repository.changesSince(clusterId, new Date(nowMs - HOUR_MS))) + judged.length > allowed) throw new UpidError('rate_limited', `The policy ${this.options.policy.name} allows ${allowed} changes an hour on a cluster.`, { changes_per_hour: allowed });
    const jobs = judged.map(({ workload, checks }) => newJob({
      id: randomUUID(), clusterId, type: request.optimization_type, target: { namespace: workload.namespace, kind: workload.workload_kind, name: workload.name }, targetUid: workload.uid, dryRun: request.dry_run, actor: request.actor, policy: this.options.policy.name, checks, nowMs, watchSeconds: this.options.policy.watch_seconds,
    }));
    try {
      await this.repository.transaction(async (tx) => {
        for (const job of jobs) {
          await this.repository.insert(tx, job, request.options, nowMs, request.idempotency_key);
          await this.announce(tx, job, 1);
        }
      });
    } catch (error) {
      if (!(error instanceof TargetBusyError)) throw error;
      // The same request may have come at the same moment.
      const other = await this.known(request, workloads);
      if (other !== null) return other;
      throw new UpidError('conflict', `${error.message}: wait for it, cancel it or roll it back.`, {}, { cause: error });
    }
    this.wake.jobs();
    return jobs;
  }

  /** The jobs of a request that came before with the same key; null where there are none. @throws UpidError conflict where the key was another request's */
  private async known(request: QueryParsed<'optimizer', 'optimize'>, workloads: readonly WorkloadObject[]): Promise<Job[] | null> {
    const { idempotency_key: key } = request;
    if (key === null) return null;
    const rows = await Promise.all(workloads.map((workload) => this.repository.findByKey(request.cluster_id, keyOf(workload), key)));
    const jobs = rows.flatMap((row) => (row === null ? [] : [row.job]));
    if (jobs.length === 0) return null;
    if (jobs.length < rows.length || jobs.some((job) => job.dry_run !== request.dry_run || job.optimization_type !== request.optimization_type)) throw new UpidError('conflict', `The idempotency key ${key} was used for another request.`, { idempotency_key: key });
    return jobs;
  }

  async job(id: string): Promise<Job> {
    const row = await this.repository.find(id);
    if (!row) throw new UpidError('not_found', `There is no job ${id}.`, { job_id: id });
    return row.job;
  }

  /** Takes one due job a step further. @returns whether there may be more */
  async step(): Promise<boolean> {
    const current: { job: Job | null } = { job: null };
    try {
      return await this.repository.transaction(async (tx) => {
        const nowMs = this.options.nowMs();
        const row = await this.repository.claimDue(tx, nowMs);
        current.job = row?.job ?? null;
        if (!row) return false;
        await this.advance(tx, row, nowMs);
        return true;
      });
    } catch (error) {
      if (current.job === null) throw error;
      const { id } = current.job;
      const gone = error instanceof UpidError && error.code === 'not_found';
      this.log.warn({ job_id: id, err: error }, gone ? 'the target of a job is gone' : 'a job could not be taken further; it is tried again');
      // Put back in the queue (or ended), so that one job that cannot go on does not hold up the others.
      await this.repository.transaction(async (tx) => {
        const row = await this.repository.lock(tx, id);
        if (!row || hasEnded(row.job)) return;
        const nowMs = this.options.nowMs();
        if (gone) await this.save(tx, targetGone(row.job, error.message, nowMs), null);
        else await this.repository.postpone(tx, id, nowMs + 5_000);
      });
      return true;
    }
  }

  private async advance(tx: Tx, row: JobRow, nowMs: number): Promise<void> {
    const { job } = row;
    switch (job.status) {
      case 'pending':
        if (!job.dry_run && (await this.isHeld(job.cluster_id))) return this.repository.postpone(tx, job.id, nowMs + 2_000);
        return this.save(tx, startValidating(job, nowMs), nowMs);
      case 'validating':
        return this.validate(tx, row, nowMs);
      case 'planned':
        return this.execute(tx, row, nowMs);
      case 'executing': {
        const expiry = await this.repository.expiryOf(tx, executeCommandId(job) ?? '');
        if (expiry !== null && nowMs < expiry + RESULT_GRACE_MS) return this.repository.postpone(tx, job.id, expiry + RESULT_GRACE_MS);
        await this.repository.endCommand(tx, executeCommandId(job) ?? '');
        return this.save(tx, gaveUp(job, nowMs), null);
      }
      case 'watching':
        return this.save(tx, watchOver(job, nowMs), null);
      case 'rolling_back':
        await this.restore(tx, job, job.actor, nowMs);
        return;
      default:
        return this.repository.postpone(tx, job.id, null);
    }
  }

  private async validate(tx: Tx, { job }: JobRow, nowMs: number): Promise<void> {
    const workload = await this.facts.findWorkload(job.cluster_id, job.target.namespace, job.target.kind, job.target.name);
    const checks = runSafetyChecks(await this.facts.of(job.cluster_id, workload, job.optimization_type, nowMs));
    const replaced = workload.uid === job.target_uid ? [] : [{ name: 'identity', outcome: 'failed' as const, reason: 'another object stands under this name now', evidence: { uid: workload.uid } }];
    const next = validated(job, [...checks, ...replaced], [...blockingChecks(checks), ...replaced], nowMs);
    if (hasEnded(next)) return this.save(tx, next, null);
    const plan = job.optimization_type === 'zero_scaling' ? zeroScalingPlan(workload) : resourcePlan(resourceChanges(workload, await this.advisor.wantedResources(job.cluster_id, workload)));
    if (plan.changes.length === 0) return this.save(tx, validated(job, checks, [{ name: 'nothing_to_do', outcome: 'failed', reason: 'its resources are what they should be', evidence: {} }], nowMs), null);
    return this.save(tx, planned(next, plan, nowMs), nowMs);
  }

  private async execute(tx: Tx, { job }: JobRow, nowMs: number): Promise<void> {
    if (!job.dry_run && (await this.isHeld(job.cluster_id))) return this.repository.postpone(tx, job.id, nowMs + 2_000);
    const workload = await this.facts.findWorkload(job.cluster_id, job.target.namespace, job.target.kind, job.target.name);
    const zero = job.optimization_type === 'zero_scaling';
    // What is sent is what was planned, whatever is advised by now.
    const command = await this.command(tx, job, workload, nowMs, {
      step: EXECUTE_STEP, verb: zero ? 'scale' : 'patch', replicas: zero ? 0 : null, resources: zero ? [] : plannedResources(job), restores: null, dry_run: job.dry_run,
      preconditions: { replicas: zero ? plannedReplicas(job) : null, absent_annotations: OPT_OUTS.map((each) => each.key), absent_labels: { 'app.kubernetes.io/component': 'critical' } },
      watch: zero && !job.dry_run ? { business_requests: true, dead_man_minutes: this.options.policy.dead_man_minutes } : null, actor: job.actor,
    });
    await this.save(tx, executing(job, command.id, nowMs), Date.parse(command.expires_at) + RESULT_GRACE_MS);
    this.wake.commands();
  }

  private async restore(tx: Tx, job: Job, actor: string, nowMs: number): Promise<Job> {
    const restores = executeCommandId(job);
    if (restores === null) throw new IllegalTransitionError('nothing was sent that could be put back');
    // What was not sent yet is not to be sent any more; what was may still arrive.
    await this.repository.endCommand(tx, restores);
    const command = await this.command(tx, job, null, nowMs, { step: RESTORE_STEP, verb: 'restore', replicas: null, resources: [], restores, dry_run: false, preconditions: { replicas: null, absent_annotations: [], absent_labels: {} }, watch: null, actor });
    // Sent again until a result has come: waking never expires.
    const next = job.status === 'rolling_back' ? { ...job, steps: job.steps.map((step) => (step.step === RESTORE_STEP ? { ...step, command_id: command.id } : step)) } : rollingBack(job, command.id, actor, nowMs);
    await this.save(tx, next, null);
    this.wake.commands();
    return next;
  }

  private async command(tx: Tx, job: Job, workload: WorkloadObject | null, nowMs: number, part: Pick<Command, 'step' | 'verb' | 'replicas' | 'resources' | 'restores' | 'dry_run' | 'preconditions' | 'watch' | 'actor'>): Promise<Command> {
    const unsigned = {
      version: 1 as const, id: randomUUID(), job_id: job.id, cluster_id: job.cluster_id, ...part,
      target: { kind: job.target.kind, api_version: workload?.api_version ?? 'apps/v1', namespace: job.target.namespace, name: job.target.name, uid: job.target_uid ?? '', resource_version: workload?.resource_version ?? '' },
      issued_at: toTimestamp(nowMs), expires_at: toTimestamp(nowMs + this.options.policy.command_expiry_seconds * 1000), fence: await this.repository.nextFence(tx),
    };
    const command: Command = { ...unsigned, signature: this.signer.sign(commandText(unsigned)) };
    await this.repository.insertCommand(tx, command);
    return command;
  }

  /** A result from the agent: stored once, whatever the deliveries. */
  async result(clusterId: string, result: ResultEvent): Promise<void> {
    await this.repository.transaction(async (tx) => {
      const row = await this.repository.lock(tx, result.job_id);
      if (row && row.job.cluster_id !== clusterId) {
        this.log.warn({ cluster_id: clusterId, job_id: result.job_id }, 'a result for a job of another cluster is passed over');
        return;
      }
      if (!(await this.repository.insertResult(tx, clusterId, result))) return;
      if (!row) {
        this.log.warn({ cluster_id: clusterId, job_id: result.job_id }, 'a result for a job that is not known here');
        return;
      }
      const nowMs = this.options.nowMs();
      await this.repository.endCommand(tx, result.command_id);
      const { job } = row;
      // Asked to put back what the agent knows nothing of: it may yet act until the command expires; after that, nothing was changed.
      const execute = executeCommandId(job) ?? '';
      if (result.outcome === 'refused' && result.code === 'no_record' && job.status === 'rolling_back') {
        if (!job.applied) {
          const expiry = await this.repository.expiryOf(tx, execute);
          if (expiry !== null && nowMs < expiry + EXPIRY_SKEW_MS) return this.repository.postpone(tx, job.id, expiry + EXPIRY_SKEW_MS);
          const nothing = onResult(job, { ...result, outcome: 'restored', message: 'the agent had changed nothing', changes: [] }, nowMs, nowMs);
          return this.save(tx, nothing.job, null);
        }
        // The change was made after the agent was asked to put it back, and its word came first.
        const doneAt = await this.repository.outcomeAt(tx, execute, 'done');
        if (doneAt !== null && doneAt >= Date.parse(result.at)) {
          await this.restore(tx, job, job.actor, nowMs);
          return;
        }
      }
      const next = onResult(job, result, nowMs + this.options.policy.watch_seconds * 1000, nowMs);
      // A restore that is under way finds the change; one that was answered before the change was made did not.
      if (next.restore && !(next.job.status === 'rolling_back' && (await this.repository.isOpen(tx, restoreCommandId(job) ?? '')))) {
        await this.restore(tx, next.job, 'upid', nowMs);
        return;
      }
      if (next.job === job) return;
      await this.save(tx, next.job, next.job.status === 'watching' ? Date.parse(next.job.estimated_completion ?? '') : null);
    });
    this.wake.jobs();
  }

  async cancel(id: string, actor: string): Promise<Job> {
    return this.change(id, async (tx, job, nowMs) => {
      const outcome = cancel(job, actor, nowMs);
      if (outcome.kind === 'cancelled') return this.end(tx, outcome.job);
      if (job.status === 'rolling_back') return job;
      return (await this.withdraw(tx, job)) ? this.end(tx, withdrawn(job, 'cancelled', actor, nowMs)) : this.restore(tx, job, actor, nowMs);
    });
  }

  /** Puts back what the job changed; asking twice is asking once. */
  async rollback(id: string, actor: string): Promise<Job> {
    return this.change(id, async (tx, job, nowMs) => {
      if (job.status === 'rolling_back' || job.status === 'rolled_back') return job;
      // A restore that the agent refused (a drifted field) may be asked for again.
      if (!canRollBack(job)) throw new IllegalTransitionError(`the job (${job.status}) has changed nothing that could be put back`);
      return (await this.withdraw(tx, job)) ? this.end(tx, withdrawn(job, 'rolled_back', actor, nowMs)) : this.restore(tx, job, actor, nowMs);
    });
  }

  /** Whether what the job would have done was not sent yet, and now never will be. */
  private async withdraw(tx: Tx, job: Job): Promise<boolean> {
    return job.status === 'executing' && this.repository.withdraw(tx, executeCommandId(job) ?? '');
  }

  private async end(tx: Tx, job: Job): Promise<Job> {
    await this.save(tx, job, null);
    return job;
  }

  private async change(id: string, fn: (tx: Tx, job: Job, nowMs: number) => Promise<Job>): Promise<Job> {
    try {
      return await this.repository.transaction(async (tx) => {
        const row = await this.repository.lock(tx, id);
        if (!row) throw new UpidError('not_found', `There is no job ${id}.`, { job_id: id });
        return fn(tx, row.job, this.options.nowMs());
      });
    } catch (error) {
      if (error instanceof IllegalTransitionError) throw new UpidError('conflict', `Job ${id}: ${error.message}.`, { job_id: id }, { cause: error });
      throw error;
    }
  }

  /** Puts back every change of zero-scaling that stands or may. One that cannot be put back does not keep the others asleep. */
  async restoreAll(clusterId: string | null, actor: string): Promise<Job[]> {
    const ids = await this.repository.sleeping(clusterId);
    const putBack = (id: string) => this.rollback(id, actor).catch((error: unknown) => {
      if (error instanceof UpidError && error.code === 'conflict') return this.job(id);
      throw error;
    });
    const jobs: Job[] = [];
    for (let from = 0; from < ids.length; from += RESTORES_AT_ONCE) jobs.push(...(await Promise.all(ids.slice(from, from + RESTORES_AT_ONCE).map(putBack))));
    return jobs;
  }

  /** Writes a job that has changed, and tells it. */
  private async save(tx: Tx, job: Job, dueAtMs: number | null): Promise<void> {
    const revision = await this.repository.update(tx, job, dueAtMs);
    await this.announce(tx, job, revision);
    if (dueAtMs !== null) this.wake.jobs();
  }

  private async announce(tx: Tx, job: Job, revision: number): Promise<void> {
    const id = `${job.id}/${revision}`;
    const event: JobEvent = { version: 1, id, revision, at: job.updated_at, job };
    await this.outbox.add(tx, { subject: subjects.job(job.cluster_id), payload: Buffer.from(JSON.stringify(event)), msgId: `job/${id}` });
  }
}

function keyOf(workload: WorkloadObject): string {
  return workloadKey({ namespace: workload.namespace, kind: workload.workload_kind, name: workload.name });
}
