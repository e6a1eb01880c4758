import { createUser } from '@nats-io/nkeys';
import {
  capabilitiesSchema, jobEventSchema, policySchema, QUERIES, recommendationEventSchema, STREAMS, subjects, toTimestamp, type AssessmentEvent, type InventoryEvent, type InventoryObject, type Job, type JobEvent, type JobStatus, type QueryName, type QueryRequest,
  type QueryResponse, type RecommendationEvent, type WorkloadObject,
} from '@upid/contracts';
import { connectBus, type Bus } from '@upid/platform';
import { startNats, waitFor, type TestNats, type TestPostgres } from '@upid/testing';
import pg from 'pg';
import { FakeAgent } from './agent.fixture.js';
import { assessmentOf, workloadOf } from './objects.fixture.js';

export const CLUSTER = 'demo';
export const FINGERPRINT = '55555555-5555-4555-8555-555555555555';
const DAY_MS = 86_400_000;
export const policy = policySchema.parse({ name: 'test', watch_seconds: 1, changes_per_hour: 1_000 });
const signing = createUser();
const commandSeed = new TextDecoder().decode(signing.getSeed());

/** A UID out of a letter and a number. */
export const uidOf = (letter: string, number: number) => `${letter.repeat(8)}-0000-4000-8000-${number.toString(16).padStart(12, '0')}`;
export const nameOf = (number: number) => `promo-${number}`;
export const target = (number: number) => ({ kind: 'Deployment' as const, namespace: 'shop', name: nameOf(number) });
export const refOf = (number: number) => ({ namespace: 'shop', kind: 'Deployment' as const, name: nameOf(number) });
const WORKLOADS = 60;

/** A bus, a database and an idle shop in them. */
export class Shop {
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

export const WALK: JobStatus[] = ['pending', 'validating', 'planned', 'executing', 'watching', 'completed'];
export const WALK_AND_BACK: JobStatus[] = [...WALK, 'rolling_back', 'rolled_back'];

/**
 * Stops whoever writes a job past a point, within its transaction and until {@link Gate.open}: what came before is committed, what comes after
 * is not. A process that is killed there leaves exactly the state before.
 */
export class Gate {
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
