import fc from 'fast-check';
import { jobSchema, type Job, type ResultEvent } from '@upid/contracts';
import { UID, workloadOf } from '../objects.fixture.js';
import { cancel, canRollBack, executeCommandId, executing, gaveUp, hasEnded, IllegalTransitionError, newJob, onResult, planned, plannedReplicas, plannedResources, resourcePlan, restoreCommandId, rollingBack, startValidating, targetGone, validated, watchOver, withdrawn, zeroScalingPlan } from './machine.js';
import { cpuQuantity, memoryQuantity, parseCpuQuantity, parseMemoryQuantity, resourceChanges } from './resources.js';

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

it('ends what was not sent, and a dry run, without putting anything back', () => {
  expect(withdrawn(upToExecuting(), 'cancelled', 'ann', T)).toMatchObject({ status: 'cancelled', applied: false, result: { cancelled_by: 'ann' }, steps: expect.arrayContaining([expect.objectContaining({ name: 'execute', status: 'skipped' })]) });
  expect(withdrawn(upToExecuting(), 'rolled_back', 'ann', T)).toMatchObject({ status: 'rolled_back', applied: false, result: { restored: [] } });
  expect(cancel(upToExecuting(true), 'ann', T)).toMatchObject({ kind: 'cancelled' });
  expect(canRollBack(upToExecuting(true))).toBe(false);
});

it('what is gone does not stand any more', () => {
  const watching = after(upToExecuting(), result());
  const gone = result({ outcome: 'failed', code: 'not_found', message: 'the workload is gone' });
  expect(after(watching, gone)).toMatchObject({ status: 'failed', applied: false, error: { code: 'not_found' } });
  expect(after(watchOver(watching, T), gone)).toMatchObject({ status: 'completed', applied: false, error: { code: 'not_found' } });
  expect(after(rollingBack(watching, RESTORE, 'bob', T), { ...gone, command_id: RESTORE })).toMatchObject({ status: 'failed', applied: false });
  // A restore that the API server failed may be asked for again.
  expect(after(rollingBack(watching, RESTORE, 'bob', T), { ...gone, command_id: RESTORE, code: 'api_error' })).toMatchObject({ status: 'failed', applied: true });
});

it('says who put it back', () => {
  const watching = after(upToExecuting(), result());
  expect(after(watching, result({ outcome: 'restored', reason: 'changed_elsewhere' })).result).toMatchObject({ outcome: 'restored', reason: 'changed_elsewhere' });
  expect(after(rollingBack(watching, RESTORE, 'bob', T), result({ outcome: 'restored', command_id: RESTORE })).result).toMatchObject({ reason: 'restored on request' });
  expect(restoreCommandId(rollingBack(watching, RESTORE, 'bob', T))).toBe(RESTORE);
});

it('carries out what was planned, whatever is advised later', () => {
  expect(plannedReplicas(upToExecuting())).toBe(2);
  expect(plannedReplicas(fresh())).toBeNull();
  expect(() => plannedResources(upToExecuting())).toThrow(RangeError);
  const amount = fc.option(fc.integer({ min: 1, max: 1e12 }), { nil: null });
  const amounts = fc.record({ cpu_millicores: amount, memory_bytes: amount });
  fc.assert(fc.property(amounts, amounts, (requests, limits) => {
    const workload = workloadOf({ containers: [{ ...workloadOf().containers[0]!, name: 'app.1]', requests: { ...workloadOf().containers[0]!.requests, cpu_millicores: null, memory_bytes: null }, limits: { ...workloadOf().containers[0]!.limits, memory_bytes: null } }] });
    const wanted = { container: 'app.1]', requests, limits };
    const job = planned(fresh(), resourcePlan(resourceChanges(workload, [wanted])), T);
    const nothing = Object.values({ ...requests, ...Object.fromEntries(Object.entries(limits).map(([key, value]) => [`limit_${key}`, value])) }).every((value) => value === null);
    expect(plannedResources(job)).toEqual(nothing ? [] : [wanted]);
  }));
  fc.assert(fc.property(fc.nat(), (value) => { expect([parseCpuQuantity(cpuQuantity(value)), parseMemoryQuantity(memoryQuantity(value))]).toEqual([value, value]); }));
  for (const bad of ['', '1', '1.5m', '1Gi', '-1m']) expect(() => parseCpuQuantity(bad)).toThrow(RangeError);
  for (const bad of ['', '1m', '1.5Mi', '1Gi', '-1']) expect(() => parseMemoryQuantity(bad)).toThrow(RangeError);
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
