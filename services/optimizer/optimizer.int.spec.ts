import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createUser } from '@nats-io/nkeys';
import {
  capabilitiesSchema, HTTP_STATUS, jobEventSchema, policySchema, QUERIES, recommendationEventSchema, STREAMS, subjects, toTimestamp, type AssessmentEvent, type Command, type InventoryEvent, type InventoryObject, type Job, type JobEvent, type JobStatus, type QueryName,
  type QueryRequest, type QueryResponse, type RecommendationEvent, type WorkloadObject,
} from '@upid/contracts';
import { connectBus, startService, type Bus, type RunningService } from '@upid/platform';
import { freePort, ManagedProcess, startNats, startPostgres, temporaryDirectory, waitFor, type TestNats, type TestPostgres } from '@upid/testing';
import pg from 'pg';
import { stringify } from 'yaml';
import { FakeAgent } from './agent.fixture.js';
import { assessmentOf, workloadOf } from './objects.fixture.js';
import { optimizerDefinition, type optimizerSettings } from './optimizer.module.js';

type Service = RunningService<typeof optimizerSettings>;

const CLUSTER = 'demo';
const FINGERPRINT = '55555555-5555-4555-8555-555555555555';
const DAY_MS = 86_400_000;
const policy = policySchema.parse({ name: 'test', watch_seconds: 1, changes_per_hour: 1_000 });
const signing = createUser();
const commandSeed = new TextDecoder().decode(signing.getSeed());

/** A UID out of a letter and a number. */
const uidOf = (letter: string, number: number) => `${letter.repeat(8)}-0000-4000-8000-${number.toString(16).padStart(12, '0')}`;
const nameOf = (number: number) => `promo-${number}`;
const target = (number: number) => ({ kind: 'Deployment' as const, namespace: 'shop', name: nameOf(number) });
const refOf = (number: number) => ({ namespace: 'shop', kind: 'Deployment' as const, name: nameOf(number) });
const WORKLOADS = 60;

/** A bus, a database and an idle shop in them. */
class Shop {
  readonly events: JobEvent[] = [];
  readonly advice: RecommendationEvent[] = [];
  private published = 0;
  private sequence = 0;
  private readonly startedAt = Date.now();

  private constructor(readonly nats: TestNats, readonly bus: Bus, readonly databaseUrl: string, readonly sql: pg.Client, readonly agent: FakeAgent, readonly drop: () => Promise<void>) {}

  static async open(postgres: TestPostgres, nowMs: () => number = Date.now): Promise<Shop> {
    const nats = await startNats({ own: true });
    const database = await postgres.createDatabase('optimizer');
    const sql = new pg.Client({ connectionString: database.url, options: '-c search_path=optimizer' });
    await sql.connect();
    const bus = await connectBus({ url: nats.url, name: 'test' });
    await bus.ensureStreams(STREAMS);
    const agent = new FakeAgent(CLUSTER, signing.getPublicKey(), nowMs);
    await agent.connect(nats.url);
    const shop = new Shop(nats, bus, database.url, sql, agent, database.drop);
    await bus.tail({ stream: 'PUBLIC', subjects: [subjects.job('*')], from: new Date(0) }, (message) => { shop.events.push(message.json(jobEventSchema)); });
    await bus.tail({ stream: 'PUBLIC', subjects: [subjects.recommendationAll('*')], from: new Date(0) }, (message) => { shop.advice.push(message.json(recommendationEventSchema)); });
    return shop;
  }

  async close(): Promise<void> {
    await this.agent.disconnect();
    await this.bus.drain();
    await this.sql.end();
    await this.drop();
    await this.nats.stop();
  }

  environment(over: Record<string, string> = {}): Record<string, string> {
    return { UPID_NATS_URL: this.nats.url, UPID_DATABASE_URL: this.databaseUrl, UPID_COMMAND_SEED: commandSeed, UPID_ACTUATION_CLUSTERS: CLUSTER, UPID_LOG_LEVEL: 'silent', UPID_EVALUATE_SECONDS: '1', ...over };
  }

  async ask<N extends QueryName<'optimizer'>>(name: N, request: QueryRequest<'optimizer', N>, timeoutMs = 30_000): Promise<QueryResponse<'optimizer', N>> {
    return QUERIES.optimizer[name].response.parse(await this.bus.ask('optimizer', name, request, { timeoutMs })) as QueryResponse<'optimizer', N>;
  }

  async rows<R>(text: string, values: unknown[] = []): Promise<R[]> {
    return (await this.sql.query(text, values)).rows as R[];
  }

  private publish(kind: 'inventory', event: InventoryEvent): Promise<unknown> {
    return this.bus.publish(subjects.agent(CLUSTER, kind), Buffer.from(JSON.stringify(event)), { msgId: `${kind}/${this.published++}` });
  }

  private inventory(type: 'snapshot' | 'change', upserts: InventoryObject[], removes: InventoryEvent['removes'] = []): InventoryEvent {
    return { version: 1, type, epoch: uidOf('d', 1), epoch_started_at: toTimestamp(this.startedAt), generation: 1, sequence: type === 'snapshot' ? 0 : ++this.sequence, part: 1, parts: 1, observed_at: toTimestamp(Date.now()), upserts, removes };
  }

  workload(number: number, over: Partial<WorkloadObject> = {}): WorkloadObject {
    return workloadOf({ uid: uidOf('c', number), name: nameOf(number), ...over });
  }

  /** Publishes the shop: workloads that are idle beyond doubt, all alike, and waits until the service knows them. */
  async fill(): Promise<void> {
    const numbers = Array.from({ length: WORKLOADS }, (_, i) => i);
    await this.publish('inventory', this.inventory('snapshot', [
      {
        kind: 'Cluster', uid: FINGERPRINT, name: 'demo', provider: 'unknown', provider_evidence: '', distribution: 'unknown', distribution_evidence: '', server_version: null, region: null, time_zone: null, capabilities: capabilitiesSchema.parse({ access_logs: true, actuation: true }), agent_version: 'test', demo: false,
      },
      { kind: 'Namespace', uid: uidOf('e', 1), name: 'shop', labels: {}, annotations: {}, created_at: null }, ...numbers.map((number) => this.workload(number)),
    ]));
    await this.assess(numbers);
    await waitFor('the shop to be known', async () => (await this.rows('SELECT 1 FROM assessment')).length === WORKLOADS && (await this.rows('SELECT 1 FROM inventory_object WHERE kind = $1', ['Workload'])).length === WORKLOADS);
  }

  async assess(numbers: readonly number[], over: Parameters<typeof assessmentOf>[0] = {}): Promise<void> {
    const at = Date.now();
    const event: AssessmentEvent = {
      version: 1, id: `assessment/${at}/${this.published++}`, window_start: toTimestamp(at - 7 * DAY_MS), window_end: toTimestamp(at), assessed_at: toTimestamp(at), policy: 'test', revision: this.published,
      assessments: numbers.map((number) => assessmentOf({ workload: refOf(number), uid: uidOf('c', number), ...over })),
    };
    await this.bus.publish(subjects.assessment(CLUSTER), Buffer.from(JSON.stringify(event)), { msgId: event.id });
  }

  /** Changes a workload as its cluster would tell it, and waits until the service knows. */
  async change(number: number, over: Partial<WorkloadObject> | null, removes: InventoryEvent['removes'] = []): Promise<void> {
    await this.publish('inventory', this.inventory('change', over === null ? [] : [this.workload(number, over)], removes));
    await waitFor('the change to be known', async () => Number((await this.rows<{ sequence: string }>('SELECT sequence FROM inventory_cluster'))[0]?.sequence) === this.sequence);
  }

  async optimize(number: number, over: Partial<QueryRequest<'optimizer', 'optimize'>> = {}, timeoutMs = 30_000): Promise<Job> {
    const { jobs } = await this.ask('optimize', { cluster_id: CLUSTER, targets: [target(number)], optimization_type: 'zero_scaling', dry_run: false, actor: 'ann', ...over }, timeoutMs);
    return jobs[0] as Job;
  }

  async job(id: string): Promise<Job> {
    return (await this.ask('job', { job_id: id })).job;
  }

  reaches(id: string, status: JobStatus, timeoutMs = 30_000): Promise<Job> {
    return waitFor(`job ${id} to be ${status}`, async () => {
      const job = await this.job(id);
      return job.status === status ? job : null;
    }, { timeoutMs });
  }

  /** Every event of a job, once all of its revisions were published: each once, in order, the last as the job stands. */
  async told(id: string): Promise<JobEvent[]> {
    const of = () => this.events.filter((each) => each.job.id === id);
    await waitFor(`all events of job ${id}`, async () => {
      const [row] = await this.rows<{ revision: number }>('SELECT revision FROM job WHERE id = $1', [id]);
      return of().at(-1)?.revision === row?.revision;
    });
    expect(of().map((each) => each.revision)).toEqual(of().map((_, i) => i + 1));
    expect(of().at(-1)?.job).toEqual(await this.job(id));
    return of();
  }

  /** The statuses that a job was announced with, each once where it stood for several events. */
  async walk(id: string): Promise<JobStatus[]> {
    return (await this.told(id)).map((each) => each.job.status).filter((status, i, all) => status !== all[i - 1]);
  }
}

const WALK: JobStatus[] = ['pending', 'validating', 'planned', 'executing', 'watching', 'completed'];
const WALK_AND_BACK: JobStatus[] = [...WALK, 'rolling_back', 'rolled_back'];

/**
 * Stops whoever writes a job past a point, within its transaction and until {@link Gate.open}: what came before is committed, what comes after
 * is not. A process that is killed there leaves exactly the state before.
 */
class Gate {
  private static readonly KEY = 271_828;
  private isShut = false;

  private constructor(private readonly sql: pg.Client) {}

  static async at(databaseUrl: string): Promise<Gate> {
    const sql = new pg.Client({ connectionString: databaseUrl, options: '-c search_path=optimizer' });
    await sql.connect();
    await sql.query(`
      CREATE TABLE gate (point text PRIMARY KEY);
      CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
      DECLARE at text;
      BEGIN
        IF TG_TABLE_NAME = 'outbox' THEN at := 'outbox';
        ELSIF TG_OP = 'INSERT' THEN at := 'new/' || NEW.target_key;
        ELSIF TG_TABLE_NAME = 'job' THEN IF NEW.status <> OLD.status THEN at := OLD.status || '/' || NEW.target_key; END IF;
        ELSIF NEW.state = 'taken' AND OLD.state <> 'taken' THEN at := 'taken/' || (NEW.body->'target'->>'namespace') || '/Deployment/' || (NEW.body->'target'->>'name');
        END IF;
        IF EXISTS (SELECT 1 FROM gate WHERE point = at) THEN PERFORM pg_advisory_xact_lock(${Gate.KEY}); END IF;
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
      END $$;
      CREATE TRIGGER gate BEFORE INSERT OR UPDATE ON job FOR EACH ROW EXECUTE FUNCTION gate();
      CREATE TRIGGER gate BEFORE UPDATE ON command FOR EACH ROW EXECUTE FUNCTION gate();
      CREATE TRIGGER gate BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION gate();`);
    return new Gate(sql);
  }

  async shut(point: string): Promise<void> {
    await this.sql.query(`SELECT pg_advisory_lock(${Gate.KEY})`);
    this.isShut = true;
    await this.sql.query('INSERT INTO gate VALUES ($1)', [point]);
  }

  /** Waits until somebody stands before it. @returns the name that the process's connection has */
  async reached(): Promise<string> {
    return waitFor('the gate to be reached', async () => {
      const { rows } = await this.sql.query<{ application_name: string }>(`SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'`);
      return rows[0]?.application_name ?? null;
    });
  }

  /** Ends the connections of those who stand before it, as the database does once it notices that their process is gone. */
  async turnAway(): Promise<void> {
    await this.sql.query(`SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'`);
  }

  async open(): Promise<void> {
    if (!this.isShut) return;
    this.isShut = false;
    await this.sql.query('DELETE FROM gate');
    await this.sql.query(`SELECT pg_advisory_unlock(${Gate.KEY})`);
  }

  async close(): Promise<void> {
    await this.sql.end();
  }
}

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
    const number = fresh();
    agent.behave = (command) => (command.verb === 'scale' ? 'lose' : 'take');
    const { id } = await shop.optimize(number);
    const lost = await waitFor('the command that is lost on its way', () => agent.deliveries.find((each) => each.job_id === id));
    await rollback(id);
    await waitFor('no_record', async () => (await shop.rows(`SELECT 1 FROM command_result WHERE job_id = $1 AND body->>'code' = 'no_record'`, [id])).length === 1);
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
    const number = fresh();
    agent.behave = (command) => (command.verb === 'scale' ? 'lose' : 'take');
    const { id } = await shop.optimize(number);
    const lost = await waitFor('the command that is lost on its way', () => agent.deliveries.find((each) => each.job_id === id));
    await rollback(id);
    await waitFor('no_record', async () => (await shop.rows(`SELECT 1 FROM command_result WHERE job_id = $1 AND body->>'code' = 'no_record'`, [id])).length === 1);
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

  it('advises sleep for what is idle, and takes the advice back when it is not', async () => {
    const number = fresh();
    const of = (change: RecommendationEvent['change']) => shop.advice.filter((each) => each.change === change && each.recommendation.workload?.name === nameOf(number) && each.recommendation.type === 'zero_scaling');
    const appeared = await waitFor('advice', () => of('appeared')[0]);
    expect(appeared.recommendation).toMatchObject({ actionable: true, patch: { body: { spec: { replicas: 0 } } } });
    expect((await shop.ask('recommendations', { cluster_id: CLUSTER, minimum_confidence: 80, workload: refOf(number) })).recommendations).toEqual([appeared.recommendation]);
    const busy = assessmentOf();
    await shop.assess([number], { judgement: { ...busy.judgement, state: 'active', idle_probability: 5 }, pods_mean_idle_probability: 5 });
    const lapsed = await waitFor('the advice to lapse', () => of('lapsed')[0]);
    expect([lapsed.recommendation.id, lapsed.revision]).toEqual([appeared.recommendation.id, appeared.revision + 1]);
    expect((await shop.ask('recommendations', { cluster_id: CLUSTER, minimum_confidence: 0, workload: refOf(number) })).recommendations).toEqual([]);
  });
});

type Replica = ManagedProcess & { readonly healthPort: number };

describe('killed', () => {
  let shop: Shop;
  let gate: Gate;
  let relay: pg.Client;
  const replicas = new Map<string, Replica>();
  const jobs: { point: string; id: string; number: number }[] = [];
  let next = 0;

  beforeAll(async () => {
    const built = spawnSync(process.execPath, [join(process.cwd(), 'scripts/build.mjs')], { encoding: 'utf8' });
    expect(built.stderr).toBe('');
    shop = await Shop.open(postgres);
    const directory = await temporaryDirectory('optimizer');
    const policyFile = join(directory, 'policy.yaml');
    await writeFile(policyFile, stringify(policy));
    for (const name of ['replica-a', 'replica-b']) {
      const healthPort = await freePort();
      replicas.set(name, Object.assign(new ManagedProcess({
        name, command: process.execPath, args: [join(process.cwd(), 'services/optimizer/dist/main.js')], cwd: process.cwd(), logFile: join(directory, `${name}.log`),
        env: shop.environment({ UPID_DATABASE_URL: `${shop.databaseUrl}?application_name=${name}`, UPID_POLICY_FILE: policyFile, UPID_LOG_LEVEL: 'info', UPID_EVALUATE_SECONDS: '3600', UPID_HEALTH_PORT: String(healthPort) }),
      }), { healthPort }));
    }
    // Whoever holds this lock relays the outbox: while the test does, what is committed stays unpublished.
    relay = new pg.Client({ connectionString: shop.databaseUrl });
    await relay.connect();
    await relay.query(`SELECT pg_advisory_lock(hashtextextended('upid.outbox.optimizer', 0))`);
    await Promise.all([...replicas.values()].map(start));
    await shop.fill();
    gate = await Gate.at(shop.databaseUrl);
  });
  afterEach(() => gate?.open());
  afterAll(async () => {
    await gate?.close();
    await relay?.end();
    await Promise.all([...replicas.values()].map((each) => each.stop()));
    await shop?.close();
  });

  async function start(replica: Replica): Promise<void> {
    await replica.start();
    await waitFor(`${replica.name} to be ready`, async () => (await fetch(`http://127.0.0.1:${replica.healthPort}/health/ready`)).ok, { timeoutMs: 60_000, alive: () => replica.assertRunning() });
  }

  /** A message that a killed process had taken comes again at once instead of after a minute. */
  const redeliver = async () => { await (await shop.bus.jetstreamManager()).consumers.update('FACTS', 'optimizer-result', { ack_wait: 1e9 }); };

  /** Asks until somebody answers: the one asked may be the one that is killed. */
  const answered = <T>(what: string, ask: () => Promise<T>) => waitFor(what, ask, { timeoutMs: 60_000 });
  const key = (number: number) => ({ idempotency_key: `job-${number}` });
  const optimize = (number: number) => answered('a job', () => shop.optimize(number, key(number), 3_000));
  const rollback = (id: string) => answered('a rollback', () => shop.ask('rollback', { job_id: id, actor: 'bob' }, 3_000));

  /** What a killed replica had in hand is handed out again after a minute. */
  const RECOVERED_WITHIN_MS = 120_000;
  const POINTS = ['new', 'pending', 'validating', 'planned', 'executing', 'taken', 'watching', 'completed', 'rolling_back'] as const;

  /** Brings a job to the point, kills whoever stands there with what it has not committed, and lets the others go on. */
  async function killAt(point: (typeof POINTS)[number] | 'outbox'): Promise<Replica> {
    const number = next++;
    const early = point === 'completed' || point === 'rolling_back' ? await optimize(number) : null;
    if (early) await answered('it to be completed', async () => (await shop.job(early.id)).status === 'completed');
    // Its receipt is to come before its result.
    if (point === 'taken') shop.agent.behave = () => 'keep_silent';
    await gate.shut(point === 'outbox' ? point : `${point}/shop/Deployment/${nameOf(number)}`);
    const asked = early ? rollback(early.id) : optimize(number);
    const killed = replicas.get(await gate.reached());
    if (killed === undefined) throw new Error('somebody else stands before the gate');
    await killed.kill();
    await gate.turnAway();
    await gate.open();
    shop.agent.behave = () => 'take';
    await shop.agent.speak();
    if (point === 'executing' || point === 'rolling_back') await redeliver();
    jobs.push({ point, number, id: early?.id ?? '' });
    const at = jobs.length - 1;
    void asked.then((job) => { if (!early) jobs[at] = { point, number, id: (job as Job).id }; }, () => undefined);
    return killed;
  }

  it.each(POINTS)('leaving %s, with another replica at work and nothing published', async (point) => {
    const killed = await killAt(point);
    await waitFor('the other to finish the job', async () => {
      const { id } = jobs.at(-1) ?? {};
      return id !== undefined && id !== '' && ['completed', 'rolled_back'].includes((await shop.job(id)).status);
    }, { timeoutMs: RECOVERED_WITHIN_MS });
    await start(killed);
    expect(shop.events).toEqual([]);
  }, RECOVERED_WITHIN_MS + 60_000);

  it('once somebody relays, everything that was committed is published', async () => {
    await relay.end();
    for (const { id } of jobs) await shop.told(id);
  });

  it.each([...POINTS, 'outbox' as const])('leaving %s, alone, and started again', async (point) => {
    const [other] = [...replicas.values()].filter((each) => each.running).slice(1);
    await other?.kill();
    const killed = await killAt(point);
    await start(killed);
    if (point === 'executing' || point === 'rolling_back') await redeliver();
    await waitFor('it to finish the job', async () => {
      const { id } = jobs.at(-1) ?? {};
      return id !== undefined && id !== '' && ['completed', 'rolled_back'].includes((await shop.job(id)).status);
    }, { timeoutMs: RECOVERED_WITHIN_MS, alive: () => killed.assertRunning() });
  }, RECOVERED_WITHIN_MS + 60_000);

  it('every job was carried out once, put back once, and told in full', async () => {
    expect(jobs).toHaveLength(2 * POINTS.length + 1);
    for (const { id, number } of jobs) {
      const job = await answered('it to be completed', async () => { const each = await shop.job(id); return ['completed', 'rolled_back'].includes(each.status) ? each : null; });
      if (job.status === 'completed') expect(shop.agent.replicas(nameOf(number))).toEqual([2, 0]);
      await rollback(id);
      await shop.reaches(id, 'rolled_back');
    }
    for (const { id, number, point } of jobs) {
      expect([point, shop.agent.replicas(nameOf(number))]).toEqual([point, [2, 0, 2]]);
      expect([point, shop.agent.carriedOut(id, 'scale').length, shop.agent.carriedOut(id, 'restore').length]).toEqual([point, 1, 1]);
      expect([point, await shop.walk(id)]).toEqual([point, WALK_AND_BACK]);
      expect(await shop.rows('SELECT count(*)::int AS count FROM job WHERE target_key = $1', [`shop/Deployment/${nameOf(number)}`])).toEqual([{ count: 1 }]);
    }
    await waitFor('the outbox to be empty', async () => (await shop.rows('SELECT 1 FROM outbox')).length === 0);
    expect(await shop.rows(`SELECT 1 FROM command WHERE state <> 'ended'`)).toEqual([]);
  });
});
