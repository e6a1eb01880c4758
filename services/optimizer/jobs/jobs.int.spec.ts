import { HTTP_STATUS, subjects, toTimestamp, type Command, type Job } from '@upid/contracts';
import { startService, type RunningService } from '@upid/platform';
import { startPostgres, waitFor, type TestPostgres } from '@upid/testing';
import type { FakeAgent } from '../agent.fixture.js';
import { optimizerDefinition, type optimizerSettings } from '../optimizer.module.js';
import { CLUSTER, FINGERPRINT, Gate, nameOf, policy, Shop, target, uidOf, WALK, WALK_AND_BACK } from '../shop.fixture.js';

type Service = RunningService<typeof optimizerSettings>;

let postgres: TestPostgres;
beforeAll(async () => { postgres = await startPostgres(); });
afterAll(() => postgres?.stop());

describe('jobs', () => {
  let shop: Shop;
  let agent: FakeAgent;
  let gate: Gate;
  const services: Service[] = [];
  const clock = { aheadMs: 0 };
  const nowMs = () => Date.now() + clock.aheadMs;
  let next = 0;
  /** A workload that no other test touches. */
  const fresh = () => next++;

  beforeAll(async () => {
    shop = await Shop.open(postgres, nowMs);
    agent = shop.agent;
    for (let replica = 0; replica < 2; replica++) services.push(await startService(optimizerDefinition(policy, nowMs), shop.environment()));
    await shop.fill();
    gate = await Gate.at(shop.databaseUrl);
  });
  afterEach(async () => {
    agent.behave = () => 'take';
    await gate.open();
    await shop.ask('stop', { cluster_id: null, actor: 'ann', hold: false });
  });
  afterAll(async () => {
    await gate?.close();
    await Promise.all(services.map((each) => each.stop()));
    await shop?.close();
  });

  /** A job whose command was lost on its way, and taken back: the agent has no record of it. */
  async function takenBackUnheard() {
    const number = fresh();
    agent.behave = (command) => (command.verb === 'scale' ? 'lose' : 'take');
    const { id } = await shop.optimize(number);
    const lost = await waitFor('the command that is lost on its way', () => agent.deliveries.find((each) => each.job_id === id));
    await rollback(id);
    await waitFor('no_record', async () => (await shop.rows(`SELECT 1 FROM command_result WHERE job_id = $1 AND body->>'code' = 'no_record'`, [id])).length === 1);
    return { number, id, lost };
  }

  const rollback = (id: string) => shop.ask('rollback', { job_id: id, actor: 'bob' });

  it('one that is not safe is refused with every check, and nothing of it stays', async () => {
    const number = fresh();
    await shop.change(number, { labels: { 'app.kubernetes.io/component': 'critical' }, volume_claim_templates: 1 });
    const refused = await shop.optimize(number).catch((error: unknown) => error as { code: keyof typeof HTTP_STATUS; details: { checks: { name: string; outcome: string; target: string }[]; failed_checks: { name: string }[] } });
    expect(refused).toMatchObject({ code: 'unsafe', details: { policy: 'test' } });
    const { code, details } = refused as Exclude<typeof refused, Job>;
    expect(HTTP_STATUS[code]).toBe(409);
    expect(details.checks).toHaveLength(19);
    expect(details.checks.every((each) => each.target === `shop/Deployment/${nameOf(number)}`)).toBe(true);
    expect(details.failed_checks.map((each) => each.name)).toEqual(['criticality', 'persistent_volumes']);
    // One unsafe target refuses all of them.
    const other = fresh();
    await expect(shop.optimize(number, { targets: [target(other), target(number)] })).rejects.toMatchObject({ code: 'unsafe' });
    expect((await shop.ask('jobs', { cluster_id: CLUSTER, statuses: null })).jobs).toEqual([]);
  });

  it('asked for what is not there, or not allowed, it is told by name', async () => {
    await expect(shop.optimize(999)).rejects.toMatchObject({ code: 'not_found' });
    await expect(shop.optimize(0, { cluster_id: 'unheard' })).rejects.toMatchObject({ code: 'cluster_not_found' });
    await expect(shop.job(uidOf('9', 9))).rejects.toMatchObject({ code: 'not_found' });
    for (const order of ['cancel', 'rollback'] as const) await expect(shop.ask(order, { job_id: uidOf('9', 9), actor: 'ann' })).rejects.toMatchObject({ code: 'not_found' });
  });

  it('a dry run asks the agent and changes nothing', async () => {
    const number = fresh();
    const { id } = await shop.optimize(number, { dry_run: true });
    const job = await shop.reaches(id, 'completed');
    expect(job).toMatchObject({ dry_run: true, applied: false, result: { dry_run: true, changes: [{ path: '/spec/replicas', before: 2, after: 0 }] }, plan: { rollback: [{ path: '/spec/replicas', before: 0, after: 2 }] } });
    expect(agent.replicas(nameOf(number))).toEqual([2]);
    expect(await shop.walk(id)).toEqual(['pending', 'validating', 'planned', 'executing', 'completed']);
    await expect(rollback(id)).rejects.toMatchObject({ code: 'conflict', message: expect.stringContaining('changed nothing') });
  });

  it('a dry run whose answer does not come is cancelled at once: there is nothing to put back', async () => {
    const number = fresh();
    agent.behave = () => 'keep_silent';
    const { id } = await shop.optimize(number, { dry_run: true });
    await shop.reaches(id, 'executing');
    await expect(rollback(id)).rejects.toMatchObject({ code: 'conflict' });
    await waitFor('the command', () => agent.deliveries.some((each) => each.job_id === id));
    expect((await shop.ask('cancel', { job_id: id, actor: 'ann' })).job).toMatchObject({ status: 'cancelled' });
    await agent.speak();
    await waitFor('the result to be stored', async () => (await shop.rows('SELECT 1 FROM command_result WHERE job_id = $1', [id])).length > 0);
    expect(await shop.walk(id)).toEqual(['pending', 'validating', 'planned', 'executing', 'cancelled']);
  });

  it('walks the whole way, is put back once however often it is asked, and tells every step', async () => {
    const number = fresh();
    const { id } = await shop.optimize(number);
    expect(await shop.reaches(id, 'completed')).toMatchObject({ applied: true, actor: 'ann', policy: 'test', progress: 100, plan: { changes: [{ path: '/spec/replicas', before: 2, after: 0 }] } });
    expect(agent.replicas(nameOf(number))).toEqual([2, 0]);
    const [command] = agent.deliveries.filter((each) => each.job_id === id) as [Command];
    expect(command).toMatchObject({ verb: 'scale', replicas: 0, dry_run: false, target: { uid: uidOf('c', number), resource_version: '1' }, watch: { business_requests: true, dead_man_minutes: 10 }, preconditions: { replicas: 2 } });
    expect(command.preconditions.absent_annotations).toContain('upid.io/exclude');

    const asked = await Promise.all([rollback(id), rollback(id), rollback(id)]);
    expect(new Set(asked.map(({ job }) => job.steps.at(-1)?.command_id)).size).toBe(1);
    const back = await shop.reaches(id, 'rolled_back');
    expect(back).toMatchObject({ applied: false, result: { outcome: 'restored', restored: [{ path: '/spec/replicas', before: 0, after: 2 }] } });
    expect((await rollback(id)).job).toEqual(back);
    expect(agent.replicas(nameOf(number))).toEqual([2, 0, 2]);
    expect([agent.carriedOut(id, 'scale').length, agent.carriedOut(id, 'restore').length]).toEqual([1, 1]);
    expect(await shop.walk(id)).toEqual(WALK_AND_BACK);
    expect((await shop.told(id)).every(({ job }) => job.plan !== null || ['pending', 'validating'].includes(job.status))).toBe(true);
    await expect(shop.ask('cancel', { job_id: id, actor: 'ann' })).rejects.toMatchObject({ code: 'conflict' });
  });

  it('many at once by two replicas: each workload sleeps once; a target has one job at a time', async () => {
    const numbers = Array.from({ length: 12 }, fresh);
    const { jobs } = await shop.ask('optimize', { cluster_id: CLUSTER, targets: numbers.slice(0, 6).map(target), optimization_type: 'zero_scaling', dry_run: false, actor: 'ann' });
    const single = await Promise.all(numbers.slice(6).map((number) => shop.optimize(number)));
    const all = [...jobs, ...single];
    const [busy] = numbers as [number];
    await expect(shop.optimize(busy)).rejects.toMatchObject({ code: 'conflict', message: expect.stringContaining('another job works on') });
    // All or none: the free one is not touched either.
    const free = fresh();
    await expect(shop.optimize(busy, { targets: [target(free), target(busy)] })).rejects.toMatchObject({ code: 'conflict' });
    for (const { id } of all) await shop.reaches(id, 'completed');
    for (const number of numbers) expect(agent.replicas(nameOf(number))).toEqual([2, 0]);
    for (const { id } of all) expect(await shop.walk(id)).toEqual(WALK);
    expect(agent.replicas(nameOf(free))).toEqual([2]);
  });

  it('one request with a key is one job, however often and from however many it comes', async () => {
    const number = fresh();
    const asked = await Promise.all(Array.from({ length: 5 }, () => shop.optimize(number, { idempotency_key: 'monday' })));
    expect(new Set(asked.map((job) => job.id)).size).toBe(1);
    const [{ id }] = asked as [Job];
    await shop.reaches(id, 'completed');
    // It is the answer even where a new job would be refused now.
    await shop.change(number, { replicas: 0 });
    expect((await shop.optimize(number, { idempotency_key: 'monday' })).id).toBe(id);
    await expect(shop.optimize(number, { idempotency_key: 'tuesday' })).rejects.toMatchObject({ code: 'unsafe' });
    await expect(shop.optimize(number, { idempotency_key: 'monday', dry_run: true })).rejects.toMatchObject({ code: 'conflict', message: expect.stringContaining('monday') });
    await expect(shop.optimize(number, { idempotency_key: 'monday', optimization_type: 'resource_optimization' })).rejects.toMatchObject({ code: 'conflict' });
    await expect(shop.optimize(number, { idempotency_key: 'monday', targets: [target(number), target(fresh())] })).rejects.toMatchObject({ code: 'conflict' });
    expect(agent.replicas(nameOf(number))).toEqual([2, 0]);
  });

  describe('cancelled', () => {
    it('before anything was sent it simply ends', async () => {
      const number = fresh();
      await gate.shut(`pending/shop/Deployment/${nameOf(number)}`);
      const { id } = await shop.optimize(number);
      await gate.reached();
      await shop.ask('stop', { cluster_id: CLUSTER, actor: 'ann', hold: true });
      await gate.open();
      await waitFor('it to be held', async () => (await shop.rows(`SELECT 1 FROM job WHERE id = $1 AND status = 'planned' AND due_at > now()`, [id])).length === 1);
      expect((await shop.ask('cancel', { job_id: id, actor: 'ann' })).job).toMatchObject({ status: 'cancelled', result: { cancelled_by: 'ann' } });
      expect(await shop.walk(id)).toEqual(['pending', 'validating', 'planned', 'cancelled']);
      expect(await shop.rows('SELECT 1 FROM command WHERE job_id = $1', [id])).toEqual([]);
    });

    it('after its command was written and before it was sent it ends too, and the command is never sent', async () => {
      // Commands are not due for a while.
      await shop.rows(`ALTER TABLE command ALTER next_send_at SET DEFAULT now() + interval '1 day'`);
      const [cancelled, putBack] = [await shop.optimize(fresh()), await shop.optimize(fresh())];
      for (const { id } of [cancelled, putBack]) await shop.reaches(id, 'executing');
      await shop.rows('ALTER TABLE command ALTER next_send_at SET DEFAULT now()');
      expect((await shop.ask('cancel', { job_id: cancelled.id, actor: 'ann' })).job).toMatchObject({ status: 'cancelled', applied: false });
      expect((await rollback(putBack.id)).job).toMatchObject({ status: 'rolled_back', applied: false, result: { restored: [] } });
      expect((await agent.beat(FINGERPRINT)).commands).toEqual([]);
      expect(await shop.rows('SELECT DISTINCT state, sends FROM command WHERE job_id IN ($1, $2)', [cancelled.id, putBack.id])).toEqual([{ state: 'ended', sends: 0 }]);
      await shop.walk(cancelled.id);
      await shop.walk(putBack.id);
    });

    it('at the moment at which it is sent it comes to the same, one way or the other', async () => {
      const number = fresh();
      await gate.shut(`planned/shop/Deployment/${nameOf(number)}`);
      const { id } = await shop.optimize(number);
      await gate.reached();
      // Whoever executes holds the job until the gate opens; then comes the cancel.
      const cancelled = shop.ask('cancel', { job_id: id, actor: 'ann' });
      await gate.open();
      await cancelled;
      const job = await waitFor('the job to end', async () => { const each = await shop.job(id); return each.progress === 100 ? each : null; });
      expect(['cancelled', 'rolled_back']).toContain(job.status);
      expect([[2], [2, 0, 2]]).toContainEqual(agent.replicas(nameOf(number)));
      await shop.walk(id);
    });

    it('while it is carried out or watched it is put back', async () => {
      const executing = fresh();
      agent.behave = (command) => (command.verb === 'scale' ? 'keep_silent' : 'take');
      const first = await shop.optimize(executing);
      await waitFor('the change', () => agent.replicas(nameOf(executing)).length === 2);
      expect((await shop.ask('cancel', { job_id: first.id, actor: 'ann' })).job.status).toBe('rolling_back');
      await shop.reaches(first.id, 'rolled_back');
      // The word of the change comes after the word of its undoing.
      await agent.speak();
      await waitFor('both results', async () => (await shop.rows('SELECT 1 FROM command_result WHERE job_id = $1', [first.id])).length === 2);
      expect(await shop.job(first.id)).toMatchObject({ status: 'rolled_back', applied: false });
      expect(agent.replicas(nameOf(executing))).toEqual([2, 0, 2]);
      await shop.walk(first.id);
    });
  });

  it('held: nothing new starts, what is under way waits, waking goes on; resumed, it goes on', async () => {
    const [sleeper, waiting, late] = [fresh(), fresh(), fresh()];
    const asleep = await shop.optimize(sleeper);
    await shop.reaches(asleep.id, 'completed');
    await gate.shut(`validating/shop/Deployment/${nameOf(waiting)}`);
    const { id } = await shop.optimize(waiting);
    await gate.reached();
    expect(await shop.ask('stop', { cluster_id: null, actor: 'ann', hold: true })).toEqual({ held: [], all: true });
    await gate.open();
    await expect(shop.optimize(late)).rejects.toMatchObject({ code: 'stopped' });
    expect((await agent.beat(FINGERPRINT)).hold).toBe(true);
    // Looked at, and put off, more than once.
    const dueAt = async () => (await shop.rows<{ due_at: Date }>(`SELECT due_at FROM job WHERE id = $1 AND status = 'planned'`, [id]))[0]?.due_at.getTime() ?? 0;
    const first = await waitFor('it to be put off', async () => { const due = await dueAt(); return due > nowMs() ? due : null; });
    await waitFor('it to be put off again', async () => (await dueAt()) > first);
    expect(await shop.rows('SELECT 1 FROM command WHERE job_id = $1', [id])).toEqual([]);

    const restored = await shop.ask('restore_all', { cluster_id: CLUSTER, actor: 'ann' });
    expect(restored.jobs.map((job) => job.id)).toContain(asleep.id);
    await shop.reaches(asleep.id, 'rolled_back');
    expect(agent.replicas(nameOf(sleeper))).toEqual([2, 0, 2]);
    expect((await shop.job(id)).status).toBe('planned');

    expect(await shop.ask('stop', { cluster_id: null, actor: 'ann', hold: false })).toEqual({ held: [], all: false });
    expect((await agent.beat(FINGERPRINT)).hold).toBe(false);
    await shop.reaches(id, 'completed');
    expect(await shop.walk(id)).toEqual(WALK);
    await rollback(id);
    await shop.reaches(id, 'rolled_back');
  });

  it('restore_all puts back everything that sleeps, and what is about to', async () => {
    const numbers = Array.from({ length: 4 }, fresh);
    const jobs = await Promise.all(numbers.map((number) => shop.optimize(number)));
    for (const { id } of jobs) await shop.reaches(id, 'completed');
    const late = fresh();
    agent.behave = (command) => (command.verb === 'scale' ? 'keep_silent' : 'take');
    const underway = await shop.optimize(late);
    await waitFor('the change that nobody knows of yet', () => agent.replicas(nameOf(late)).length === 2);
    const { jobs: restored } = await shop.ask('restore_all', { cluster_id: null, actor: 'ann' });
    expect(restored.map((job) => job.id)).toEqual(expect.arrayContaining([...jobs, underway].map((job) => job.id)));
    for (const { id } of [...jobs, underway]) await shop.reaches(id, 'rolled_back');
    await agent.speak();
    for (const number of [...numbers, late]) expect(agent.replicas(nameOf(number))).toEqual([2, 0, 2]);
    expect((await shop.ask('jobs', { cluster_id: CLUSTER, statuses: null, applied: true })).jobs).toEqual([]);
    // Dry runs, ended and refused ones are none of it.
    expect((await shop.ask('restore_all', { cluster_id: null, actor: 'ann' })).jobs).toEqual([]);
  });

  it('woken by the agent, also after it was completed, it says why', async () => {
    const [completed, watched] = [fresh(), fresh()];
    const { id } = await shop.optimize(completed);
    await shop.reaches(id, 'completed');
    await agent.wake(id, 'business_request');
    expect(await shop.reaches(id, 'rolled_back')).toMatchObject({ applied: false, result: { outcome: 'woken', reason: 'business_request' } });
    expect(await shop.walk(id)).toEqual([...WALK, 'rolled_back']);
    // Nothing is left to put back.
    expect((await rollback(id)).job.status).toBe('rolled_back');
    expect(agent.carriedOut(id, 'restore')).toEqual([]);

    await gate.shut(`watching/shop/Deployment/${nameOf(watched)}`);
    const second = await shop.optimize(watched);
    await gate.reached();
    await agent.wake(second.id, 'telemetry_lost');
    await gate.open();
    expect(await shop.reaches(second.id, 'rolled_back')).toMatchObject({ result: { reason: 'telemetry_lost' } });
    await shop.walk(second.id);
  });

  it('woken or scaled by somebody else: the agent tells, and the job says who', async () => {
    const number = fresh();
    const { id } = await shop.optimize(number);
    await shop.reaches(id, 'completed');
    const [command] = agent.deliveries.filter((each) => each.job_id === id) as [Command];
    await agent.tell(agent.result(command, 'restored', { reason: 'changed_elsewhere', message: 'somebody else woke it' }));
    expect(await shop.reaches(id, 'rolled_back')).toMatchObject({ applied: false, result: { outcome: 'restored', reason: 'changed_elsewhere' } });
  });

  it('results that come twice, or out of order, count once', async () => {
    const number = fresh();
    agent.behave = () => 'keep_silent';
    const { id } = await shop.optimize(number);
    await waitFor('the change', () => agent.replicas(nameOf(number)).length === 2);
    const [command] = agent.deliveries.filter((each) => each.job_id === id) as [Command];
    const done = agent.result(command, 'done', { message: 'changed' });
    for (let i = 0; i < 3; i++) await agent.tell(done);
    await shop.reaches(id, 'completed');
    await rollback(id);
    const restore = await waitFor('the restore', () => agent.deliveries.find((each) => each.job_id === id && each.verb === 'restore'));
    const restored = agent.result(restore, 'restored', { message: 'put back' });
    for (const each of [restored, done, restored]) await agent.tell(each);
    await shop.reaches(id, 'rolled_back');
    // One more result, of another job: when it is in, those before it on the subject are too.
    const last = await shop.optimize(fresh());
    agent.behave = () => 'take';
    await agent.speak();
    await shop.reaches(last.id, 'completed');
    expect(await shop.rows('SELECT outcome FROM command_result WHERE job_id = $1 ORDER BY outcome', [id])).toEqual([{ outcome: 'done' }, { outcome: 'restored' }]);
    expect(await shop.walk(id)).toEqual(WALK_AND_BACK);
    // A result for the same job out of another cluster is nobody's.
    await shop.bus.publish(subjects.agent('other', 'result'), Buffer.from(JSON.stringify(agent.result(command, 'failed', { message: 'forged' }))), { msgId: 'forged' });
    await waitFor('the forged result to be passed over', async () => (await (await shop.bus.jetstreamManager()).consumers.info('FACTS', 'optimizer-result')).num_pending === 0);
    expect(await shop.walk(id)).toEqual(WALK_AND_BACK);
  });

  it('a restore that comes before its change: the change, when it comes after all, is put back', async () => {
    const { number, id, lost } = await takenBackUnheard();
    // The agent may yet act until the command expires.
    expect(await shop.job(id)).toMatchObject({ status: 'rolling_back', applied: false });
    agent.behave = () => 'take';
    await agent.arrive(lost);
    expect(agent.replicas(nameOf(number)).slice(0, 2)).toEqual([2, 0]);
    await shop.reaches(id, 'rolled_back');
    expect(agent.replicas(nameOf(number))).toEqual([2, 0, 2]);
    expect(await shop.walk(id)).toEqual(['pending', 'validating', 'planned', 'executing', 'rolling_back', 'rolled_back']);
  });

  it('a restore that comes before its change, whose word comes after that of the change, is asked for again', async () => {
    const number = fresh();
    agent.behave = (command) => (command.verb === 'scale' ? 'keep_silent' : 'lose');
    const { id } = await shop.optimize(number);
    await waitFor('the change', () => agent.replicas(nameOf(number)).length === 2);
    await rollback(id);
    const restore = await waitFor('the restore', () => agent.deliveries.find((each) => each.job_id === id && each.verb === 'restore'));
    await agent.speak();
    await waitFor('the word of the change', async () => (await shop.job(id)).applied);
    agent.behave = () => 'take';
    await agent.tell(agent.result(restore, 'refused', { code: 'no_record', message: 'there is no record', at: toTimestamp(nowMs() - 60_000) }));
    await shop.reaches(id, 'rolled_back');
    expect(agent.replicas(nameOf(number))).toEqual([2, 0, 2]);
    // Where the record is gone for good the job says so.
    const lost = fresh();
    const { id: second } = await shop.optimize(lost);
    await shop.reaches(second, 'completed');
    agent.behave = () => 'lose';
    await rollback(second);
    const vain = await waitFor('the restore', () => agent.deliveries.find((each) => each.job_id === second && each.verb === 'restore'));
    await agent.tell(agent.result(vain, 'refused', { code: 'no_record', message: 'there is no record' }));
    expect(await shop.reaches(second, 'failed')).toMatchObject({ applied: true, error: { code: 'no_record' } });
    for (const each of [id, second]) await shop.walk(each);
  });

  it('a restore of a change that never came ends when it can come no more', async () => {
    const { number, id, lost } = await takenBackUnheard();
    // It is not sent again while it is being taken back.
    expect(await shop.rows(`SELECT state FROM command WHERE id = $1`, [lost.id])).toEqual([{ state: 'ended' }]);
    clock.aheadMs += policy.command_expiry_seconds * 1000 + 31_000;
    const job = await shop.reaches(id, 'rolled_back');
    expect(job).toMatchObject({ applied: false, result: { restored: [] } });
    expect((await agent.arrive(lost)).code).toBe('expired');
    expect(agent.replicas(nameOf(number))).toEqual([2]);
    await shop.walk(id);
  });

  it('an agent that stays silent until the command has expired: the job fails, and what was done after all is put back', async () => {
    const [never, secretly] = [fresh(), fresh()];
    agent.behave = (command) => (command.target.name === nameOf(never) ? 'lose' : 'keep_silent');
    const [first, second] = [await shop.optimize(never), await shop.optimize(secretly)];
    await waitFor('the commands', () => [first, second].every(({ id }) => agent.deliveries.some((each) => each.job_id === id)));
    clock.aheadMs += policy.command_expiry_seconds * 1000 + 10 * 60_000;
    for (const { id } of [first, second]) expect(await shop.reaches(id, 'failed')).toMatchObject({ applied: false, error: { code: 'no_result' } });
    // Expired and given up: it does not come again, not by a heartbeat either.
    agent.behave = () => 'take';
    expect((await agent.beat(FINGERPRINT)).commands).toEqual([]);
    await agent.speak();
    expect(await shop.reaches(second.id, 'rolled_back')).toMatchObject({ applied: false });
    expect(agent.replicas(nameOf(secretly))).toEqual([2, 0, 2]);
    // The other can be taken back by hand, to be sure.
    await rollback(first.id);
    await shop.reaches(first.id, 'rolled_back');
    expect(agent.replicas(nameOf(never))).toEqual([2]);
    expect((await shop.walk(second.id)).slice(-4)).toEqual(['executing', 'failed', 'rolling_back', 'rolled_back']);
  });

  it('an agent that was away gets what waits with its next heartbeat, once', async () => {
    const number = fresh();
    await agent.disconnect();
    const { id } = await shop.optimize(number);
    await shop.reaches(id, 'executing');
    await waitFor('a try to send', async () => (await shop.rows('SELECT 1 FROM command WHERE job_id = $1 AND sends > 0', [id])).length === 1);
    await agent.connect(shop.nats.url);
    await agent.beat(FINGERPRINT);
    await agent.beat(FINGERPRINT);
    await shop.reaches(id, 'completed');
    expect(agent.carriedOut(id, 'scale')).toHaveLength(1);
    await agent.beat(FINGERPRINT);
    expect((await shop.ask('sleepers', { cluster_id: CLUSTER })).sleepers.filter((each) => each.job_id === id)).toEqual([expect.objectContaining({ cluster_id: CLUSTER, restored_replicas: 2, state: 'asleep' })]);
  });

  it('a second cluster under the same id is refused, and gets no commands', async () => {
    const number = fresh();
    agent.behave = () => 'lose';
    const { id } = await shop.optimize(number);
    await shop.reaches(id, 'executing');
    const reply = await agent.beat(uidOf('f', 1));
    expect(reply).toMatchObject({ accepted: false, commands: [], hold: true, reason: expect.stringContaining(FINGERPRINT) });
    const { agents } = await shop.ask('agents', { cluster_id: CLUSTER });
    expect(agents).toEqual([expect.objectContaining({ held: false, heartbeat: expect.objectContaining({ fingerprint: FINGERPRINT }) })]);
    expect((await agent.beat(FINGERPRINT)).commands.map((each) => each.job_id)).toContain(id);
  });

  it('what the agent refuses or fails ends the job with its word', async () => {
    const [refused, gone] = [fresh(), fresh()];
    agent.behave = (command) => (command.verb === 'scale' ? 'lose' : 'take');
    const first = await shop.optimize(refused);
    const command = await waitFor('the command', () => agent.deliveries.find((each) => each.job_id === first.id));
    await agent.tell(agent.result(command, 'refused', { code: 'opted_out', message: 'the workload has annotation upid.io/exclude=true' }));
    expect(await shop.reaches(first.id, 'failed')).toMatchObject({ applied: false, error: { code: 'opted_out', message: expect.stringContaining('upid.io/exclude') } });
    expect(await shop.rows('SELECT state FROM command WHERE id = $1', [command.id])).toEqual([{ state: 'ended' }]);

    agent.behave = () => 'take';
    const second = await shop.optimize(gone);
    await shop.reaches(second.id, 'completed');
    agent.behave = () => 'lose';
    await rollback(second.id);
    const restore = await waitFor('the restore', () => agent.deliveries.find((each) => each.job_id === second.id && each.verb === 'restore'));
    await agent.tell(agent.result(restore, 'refused', { code: 'drifted', message: '/spec/replicas holds 5' }));
    // What drifted still stands and can be asked back again …
    expect(await shop.reaches(second.id, 'failed')).toMatchObject({ applied: true, error: { code: 'drifted' } });
    await rollback(second.id);
    const again = await waitFor('the second restore', () => agent.deliveries.find((each) => each.job_id === second.id && each.verb === 'restore' && each.id !== restore.id));
    // … what is gone does not sleep any more.
    await agent.tell(agent.result(again, 'failed', { code: 'not_found', message: 'the workload is gone' }));
    expect(await shop.reaches(second.id, 'failed')).toMatchObject({ applied: false, error: { code: 'not_found' } });
    await shop.walk(second.id);
  });

  it('looks again right before acting: what became unsafe, or is another object now, is refused', async () => {
    const [unsafe, replaced, vanished] = [fresh(), fresh(), fresh()];
    for (const [number, meanwhile] of [
      [unsafe, () => shop.change(unsafe, { annotations: { 'upid.io/exclude': 'true' } })],
      [replaced, () => shop.change(replaced, { uid: uidOf('b', replaced) }, [{ kind: 'Workload', uid: uidOf('c', replaced) }])],
      [vanished, () => shop.change(vanished, null, [{ kind: 'Workload', uid: uidOf('c', vanished) }])],
    ] as const) {
      await gate.shut(`pending/shop/Deployment/${nameOf(number)}`);
      const { id } = await shop.optimize(number);
      await gate.reached();
      await meanwhile();
      await gate.open();
      const job = await waitFor('the job to end', async () => { const each = await shop.job(id); return each.progress === 100 ? each : null; });
      expect(job).toMatchObject(number === vanished ? { status: 'failed', error: { code: 'not_found' } } : { status: 'refused', error: { code: 'unsafe', message: expect.stringMatching(number === unsafe ? /^opt_out: / : /^identity: /) } });
      expect(await shop.rows('SELECT 1 FROM command WHERE job_id = $1', [id])).toEqual([]);
      await shop.walk(id);
    }
  });
});
