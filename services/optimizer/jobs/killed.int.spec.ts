import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Job } from '@upid/contracts';
import { freePort, ManagedProcess, startPostgres, temporaryDirectory, waitFor, type TestPostgres } from '@upid/testing';
import pg from 'pg';
import { stringify } from 'yaml';
import { Gate, nameOf, policy, Shop, WALK_AND_BACK } from '../shop.fixture.js';

let postgres: TestPostgres;
beforeAll(async () => { postgres = await startPostgres(); });
afterAll(() => postgres?.stop());

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
