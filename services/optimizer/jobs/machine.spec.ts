import fc from 'fast-check';
import { jobSchema, type Job, type ResultEvent } from '@upid/contracts';
import { UID, workloadOf } from '../objects.fixture.js';
import { cancel, canRollBack, executeCommandId, executing, gaveUp, hasEnded, IllegalTransitionError, newJob, onResult, planned, resourcePlan, rollingBack, startValidating, targetGone, validated, watchOver, zeroScalingPlan } from './machine.js';

const T = Date.parse('2026-03-04T12:00:00Z');
const COMMAND = '22222222-2222-4222-8222-222222222222';
const RESTORE = '33333333-3333-4333-8333-333333333333';
const target = { namespace: 'shop', kind: 'Deployment' as const, name: 'promo' };
const fresh = (dryRun = false) => newJob({ id: UID, clusterId: 'demo', type: 'zero_scaling', target, targetUid: UID, dryRun, actor: 'ann', policy: 'default', checks: [], nowMs: T, watchSeconds: 300 });
const upToExecuting = (dryRun = false) => executing(planned(validated(startValidating(fresh(dryRun), T), [], [], T), zeroScalingPlan(workloadOf()), T), COMMAND, T);
const result = (over: Partial<ResultEvent> = {}): ResultEvent => ({ version: 1, id: UID, command_id: COMMAND, job_id: UID, step: 2, outcome: 'done', code: null, reason: null, message: 'scaled', target: { kind: 'Deployment', namespace: 'shop', name: 'promo', uid: UID }, changes: [{ path: '/spec/replicas', before: 2, after: 0 }], elapsed_ms: 5, at: '2026-03-04T12:00:01Z', ...over });
const after = (job: Job, ...results: ResultEvent[]) => results.reduce((each, one) => onResult(each, one, T + 300_000, T + 1_000).job, job);

it('walks from pending to completed, the way back stored before the command', () => {
  const planOnly = planned(validated(startValidating(fresh(), T), [], [], T), zeroScalingPlan(workloadOf()), T);
  expect(planOnly.plan?.rollback).toEqual([{ path: '/spec/replicas', before: 0, after: 2 }]);
  expect(executeCommandId(planOnly)).toBeNull();
  const watching = after(upToExecuting(), result());
  expect(watching).toMatchObject({ status: 'watching', applied: true, estimated_completion: '2026-03-04T12:05:00.000Z' });
  const done = watchOver(watching, T + 300_000);
  expect(done).toMatchObject({ status: 'completed', applied: true, progress: 100 });
  expect(jobSchema.parse(done)).toEqual(done);
  expect(() => executing(fresh(), COMMAND, T)).toThrow(IllegalTransitionError);
});

it('ends a dry run without anything applied', () => {
  expect(after(upToExecuting(true), result({ outcome: 'dry_run' }))).toMatchObject({ status: 'completed', applied: false, result: { dry_run: true } });
});

it('refuses when a check fails right before acting, with every reason', () => {
  const check = { name: 'opt_out', outcome: 'failed' as const, reason: 'opted out', evidence: {} };
  expect(validated(startValidating(fresh(), T), [check], [check], T)).toMatchObject({ status: 'refused', error: { code: 'unsafe', message: 'opt_out: opted out' }, safety_checks: [check] });
});

it('says that the agent woke it, also after completion', () => {
  const woken = result({ outcome: 'woken', reason: 'business_request', message: 'woken by a business request' });
  const watching = after(upToExecuting(), result());
  for (const before of [watching, watchOver(watching, T)]) expect(after(before, woken)).toMatchObject({ status: 'rolled_back', applied: false, result: { reason: 'business_request' } });
  // The agent's word of waking may come before its word of the scaling.
  expect(after(upToExecuting(), woken, result())).toMatchObject({ status: 'rolled_back', applied: false });
});

it('puts back on request and counts asking twice once', () => {
  const rolling = rollingBack(watchOver(after(upToExecuting(), result()), T), RESTORE, 'bob', T);
  expect(rolling).toMatchObject({ status: 'rolling_back', applied: true });
  const back = after(rolling, result({ command_id: RESTORE, outcome: 'restored', message: 'restored' }));
  expect(back).toMatchObject({ status: 'rolled_back', applied: false });
  expect(() => rollingBack(back, RESTORE, 'bob', T)).toThrow(/rolled back already/);
  expect(() => rollingBack(fresh(), RESTORE, 'bob', T)).toThrow(/changed nothing/);
});

it('fails a restore that stopped at a drifted field, and can be asked again', () => {
  const rolling = rollingBack(after(upToExecuting(), result()), RESTORE, 'bob', T);
  const drifted = after(rolling, result({ command_id: RESTORE, outcome: 'refused', code: 'drifted', message: '/spec/replicas holds 5' }));
  expect(drifted).toMatchObject({ status: 'failed', applied: true, error: { code: 'drifted' } });
  expect(canRollBack(drifted)).toBe(true);
});

it('asks for a restore where a change came after the job was given up or cancelled', () => {
  const late = onResult(gaveUp(upToExecuting(), T), result(), T, T);
  expect(late).toMatchObject({ restore: true, job: { status: 'failed', applied: true } });
  expect(targetGone(fresh(), 'gone', T)).toMatchObject({ status: 'failed', error: { code: 'not_found' } });
});

it('cancels what has sent nothing, and puts back what has', () => {
  expect(cancel(fresh(), 'ann', T)).toMatchObject({ kind: 'cancelled', job: { status: 'cancelled' } });
  expect(cancel(upToExecuting(), 'ann', T)).toEqual({ kind: 'roll_back' });
  expect(() => cancel(watchOver(after(upToExecuting(), result()), T), 'ann', T)).toThrow(/rolling it back/);
});

it('names the fields of a change of resources by container', () => {
  expect(resourcePlan([{ container: 'app', field: 'requests.cpu', before: '500m', after: '100m' }])).toEqual({
    changes: [{ path: '/spec/template/spec/containers[name=app]/resources/requests/cpu', before: '500m', after: '100m' }], rollback: [{ path: '/spec/template/spec/containers[name=app]/resources/requests/cpu', before: '100m', after: '500m' }],
  });
});

it('ends the same whatever is delivered twice, and never claims a change that was put back', () => {
  const outcomes = fc.constantFrom<ResultEvent['outcome']>('done', 'failed', 'refused', 'woken', 'restored', 'dry_run');
  fc.assert(fc.property(fc.array(fc.record({ outcome: outcomes, restore: fc.boolean() }), { maxLength: 8 }), fc.boolean(), (events, askedBack) => {
    let job = upToExecuting();
    if (askedBack) job = rollingBack(job, RESTORE, 'bob', T);
    for (const { outcome, restore } of events) {
      const event = result({ outcome, command_id: restore ? RESTORE : COMMAND });
      const once = onResult(job, event, T, T).job;
      expect(onResult(once, event, T, T).job.status).toBe(once.status);
      job = once;
      if (job.status === 'rolled_back') expect(job.applied).toBe(false);
      if (hasEnded(job)) expect(job.progress).toBe(100);
    }
    expect(jobSchema.safeParse(job).success).toBe(true);
  }));
});
