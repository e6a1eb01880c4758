import { setTimeout as delay } from 'node:timers/promises';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GatewayClient } from '@upid/cli/client';
import { decodeRollup, HEADERS, HOUR_MS, jobEventSchema, MINUTE_MS, parseSubject, subjects, type JobEvent, type JobResponse, type Rollup } from '@upid/contracts';
import type { Delivery } from '@upid/platform';
import { CONTROL_PLANE_TIMEOUT_MS, deployment, describeWithControlPlane, ingress, namespace, service, startControlPlane, waitFor, type ControlPlane, type KubernetesObject, type Manifest } from '@upid/testing';
import pg from 'pg';
import { noteCommits, publishedTelemetry, readStream, storedTelemetry } from './chaos/audit.js';
import { ChaosHousehold, SCHEMAS, type Victim } from './chaos/household.js';
import { Publisher } from './chaos/publisher.js';
import { Random } from './chaos/random.js';
import { SLEEP_AT_ONCE } from './policy.js';
import { Traffic } from './traffic.js';

const ROOT = join(import.meta.dirname, '..');
const CLUSTER = 'lab';
const LOAD = 'load';
/** Another one kills others at other moments. */
const SEED = Number(process.env.UPID_TEST_SEED ?? 20_260_105);
/** How long at least, and at most, processes are killed. */
const CHAOS_MS = { least: 100_000, most: 240_000 };
/** Between two kills, and from a kill to the start. */
const PAUSE_MS = { least: 700, most: 3_500 };
const DOWN_MS = { least: 0, most: 2_500 };
/** An agent takes the Lease over after 15 s: killed more often, none would ever work. */
const BETWEEN_AGENTS_MS = 25_000;
/** Assessed from the first whole minutes on. */
const READY_WITHIN_MS = 180_000;
/** An open message is handed out again a minute after whoever had it was killed. */
const RECOVERED_WITHIN_MS = 240_000;
const KINDS = ['intelligence', 'cost', 'optimizer', 'gateway', 'collector', 'nats', 'postgres'] as const;
const PROMO = '/apis/apps/v1/namespaces/preview/deployments';

/** Every durable consumer of the services. */
const CONSUMERS = {
  TELEMETRY: ['intelligence-telemetry'], PUBLIC: ['cost-recommendation'],
  FACTS: ['intelligence-inventory', 'intelligence-coverage', 'cost-inventory', 'cost-rollup', 'optimizer-inventory', 'optimizer-assessment', 'optimizer-result', 'gateway-inventory'],
};

type Workload = KubernetesObject & { spec: { replicas?: number } };

const SHOP: readonly Manifest[] = [
  ...['shop', 'preview', 'ingress-nginx'].map((name) => namespace(name)),
  deployment({ name: 'web', namespace: 'shop', replicas: 12, usage: { cpuMillicores: 120, memoryBytes: 200e6 } }), deployment({ name: 'api', namespace: 'shop', replicas: 9, usage: { cpuMillicores: 60, memoryBytes: 150e6 } }),
  deployment({ name: 'worker', namespace: 'shop', replicas: 6, usage: { cpuMillicores: 200, memoryBytes: 300e6 } }), deployment({ name: 'promo', namespace: 'preview', replicas: 2, usage: { cpuMillicores: 2, memoryBytes: 60e6 } }),
  service('promo', 'preview'), ingress('promo', 'preview'),
  { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'ingress-nginx-controller', namespace: 'ingress-nginx' }, spec: {
    replicas: 1, selector: { matchLabels: { 'app.kubernetes.io/name': 'ingress-nginx' } },
    template: { metadata: { labels: { 'app.kubernetes.io/name': 'ingress-nginx' } }, spec: { containers: [{ name: 'controller', image: 'registry.k8s.io/ingress-nginx/controller:v1.13.0' }] } },
  } } as Manifest,
];

describeWithControlPlane('exactly once, whatever is killed', () => {
  let cluster: ControlPlane;
  let household: ChaosHousehold;
  let publisher: Publisher;
  let traffic: Traffic;
  let sql: pg.Client;
  const history: { generation: number; replicas: number }[] = [];
  const watching = new AbortController();
  const killed = new Map<string, number>();
  let jobId = '';

  /** Follows promo's Deployment from its first version on, as its cluster tells of it. */
  async function watchPromo(): Promise<void> {
    const { metadata, items } = await cluster.api.call<{ metadata: { resourceVersion: string }; items: Workload[] }>('GET', PROMO);
    const note = ({ metadata: each, spec }: Workload) => {
      if (each?.name !== 'promo' || each.generation === history.at(-1)?.generation) return;
      history.push({ generation: each.generation ?? 0, replicas: spec.replicas ?? 1 });
    };
    items.forEach(note);
    void (async () => {
      for await (const { object } of cluster.api.watch<Workload>(PROMO, metadata.resourceVersion, watching.signal)) note(object);
    })().catch((error: unknown) => { if (!watching.signal.aborted) throw error; });
  }

  beforeAll(async () => {
    cluster = await startControlPlane();
    await cluster.addNodes(5, { cloud: 'aws', instanceType: 'm6i.xlarge' });
    for (const file of ['namespace.yaml', 'agent.yaml', 'actuation.yaml']) await cluster.apply(await readFile(join(ROOT, 'k8s', file), 'utf8'));
    await cluster.apply(SHOP);
    await cluster.waitForPods(null, '', 31);
    await watchPromo();
    traffic = new Traffic(cluster, (await cluster.pods('ingress-nginx'))[0]?.metadata.name ?? '', 'preview', [{ service: 'promo', kind: 'probe' }, { service: 'promo', kind: 'load_balancer' }]);
    await traffic.write([{ service: 'promo', kind: 'probe' }]);
    traffic.start();
    const { path: kubeconfig } = await cluster.serviceAccountKubeconfig('upid-system', 'upid-agent', 7_200);
    household = await ChaosHousehold.start(cluster, { clusterId: CLUSTER, kubeconfig, publisherId: LOAD, policy: SLEEP_AT_ONCE });
    await noteCommits(household.databaseUrl);
    publisher = new Publisher(household.agent, LOAD, SEED);
    publisher.start();
  }, CONTROL_PLANE_TIMEOUT_MS + 120_000);

  afterAll(async () => {
    watching.abort();
    await traffic?.stop();
    await sql?.end();
    await household?.[Symbol.asyncDispose]();
    await cluster?.stop();
  }, 120_000);

  /** Runs a part; where it fails the error also tells what every service complained of. */
  async function telling<T>(part: () => Promise<T>): Promise<T> {
    try {
      return await part();
    } catch (error) {
      throw new Error(`${error instanceof Error ? error.message : String(error)}\nkilled: ${JSON.stringify(Object.fromEntries(killed))}\n${await household.complaints()}`, { cause: error });
    }
  }

  /** Kills one of the victims after the other, each for a moment, until told to end; all live when it returns. */
  async function killUntil(isOver: () => boolean): Promise<void> {
    const random = new Random(SEED);
    const down = new Map<string, Promise<void>>();
    let agentKilledMs = 0;
    while (!isOver()) {
      await delay(random.between(PAUSE_MS.least, PAUSE_MS.most));
      // Kinds are equally likely, whatever number of replicas they have.
      const kind = random.pick(KINDS);
      const of = household.victims().filter(({ name }) => name.startsWith(kind) && !down.has(name));
      if (of.length === 0 || (kind === 'collector' && Date.now() - agentKilledMs < BETWEEN_AGENTS_MS)) continue;
      if (kind === 'collector') agentKilledMs = Date.now();
      const victim: Victim = random.pick(of);
      killed.set(victim.name, (killed.get(victim.name) ?? 0) + 1);
      const downMs = random.between(DOWN_MS.least, DOWN_MS.most);
      down.set(victim.name, victim.kill().then(() => delay(downMs)).then(() => victim.revive()).finally(() => down.delete(victim.name)));
    }
    await Promise.all(down.values());
  }

  const status = (id: string) => household.ask((client) => client.get<JobResponse>(`/api/v1/optimization/status/${id}`));

  /** What somebody asks again and again until it is answered, since any process may be gone at any moment. */
  const insist = <T>(what: string, ask: () => Promise<T>, timeoutMs = CHAOS_MS.most) => waitFor(what, ask, { timeoutMs, intervalMs: 300 });

  /** Puts promo to sleep and has it put back, all by the gateway's word, while everything is killed. */
  async function driveJob(): Promise<void> {
    for (let attempt = 1; jobId === ''; attempt++) {
      const started = await insist('a job to be taken', () => household.ask((client) => startJob(client, `sleep-${attempt}`)));
      const job = await insist('the job to come to an end', async () => { const now = await status(started.job_id); return now.applied || ['completed', 'failed', 'refused', 'rolled_back'].includes(now.status) ? now : null; });
      if (job.status !== 'failed') jobId = job.job_id;
      // The picture of the cluster was older than the cluster: nothing was changed, and it may be asked for again.
      else expect(job.error?.code).toMatch(/^(resource_version_changed|precondition_failed|expired)$/);
    }
    await insist('the watch to be over', async () => (await status(jobId)).status === 'completed');
    await insist('it to be put back', () => household.ask((client) => client.post(`/api/v1/optimization/rollback/${jobId}`, {})));
    await insist('it to be back', async () => (await status(jobId)).status === 'rolled_back');
  }

  it('UPID knows the workload well enough to let it sleep', async () => {
    await telling(() => insist('a dry run to be taken', () => household.ask((client) => startJob(client, 'dry', true)), READY_WITHIN_MS));
  }, READY_WITHIN_MS + 30_000);

  it('a job runs and telemetry flows while processes are killed at random moments', async () => {
    await telling(async () => {
      const startedMs = Date.now();
      let isDone = false;
      const driving = driveJob().finally(() => { isDone = true; });
      await killUntil(() => { const tookMs = Date.now() - startedMs; return (isDone && tookMs > CHAOS_MS.least) || tookMs > CHAOS_MS.most; });
      await driving;
      await household.ready();
    });
    expect([...killed.values()].reduce((sum, times) => sum + times, 0)).toBeGreaterThan(25);
    expect([...killed.keys()].map((name) => name.replace(/-\d$/, '')).filter((name, i, all) => all.indexOf(name) === i).sort()).toEqual([...KINDS].sort());
  }, CHAOS_MS.most + 180_000);

  it('everything that was published is taken in, and everything that follows goes out', async () => {
    await telling(async () => {
      await publisher.stop();
      await traffic.stop();
      const agents = async () => (await household.ask((client) => client.get<{ clusters: { cluster_id: string; connected: boolean; spool_batches?: number }[] }>('/api/v1/clusters'))).clusters;
      await waitFor('the agent to be back', async () => (await agents()).some((each) => each.cluster_id === CLUSTER && each.connected), { timeoutMs: 90_000, intervalMs: 500 });
      await household.stopAgents();
      sql = new pg.Client({ connectionString: household.databaseUrl });
      await sql.connect();
      const manager = await household.auditor.jetstreamManager();
      await waitFor('every message to be settled, every hour folded and computed, every outbox empty', async () => {
        for (const [stream, names] of Object.entries(CONSUMERS)) {
          for (const name of names) {
            const consumer = await manager.consumers.info(stream, name);
            if (consumer.num_pending + consumer.num_ack_pending > 0) return false;
          }
        }
        const { rows: [left] } = await sql.query<Record<string, number>>(`SELECT (SELECT count(*) FROM intelligence.batch)::int AS batches, (SELECT count(*) FROM intelligence.dirty_hour)::int AS folds,
          (SELECT count(*) FROM cost.dirty_hour WHERE hour < date_trunc('hour', now()))::int AS hours, ${SCHEMAS.map((schema) => `(SELECT count(*) FROM ${schema}.outbox)::int AS ${schema}`).join(', ')}`);
        return Object.values(left ?? { none: 1 }).every((count) => count === 0);
      }, { timeoutMs: RECOVERED_WITHIN_MS, intervalMs: 1_000 });
    });
  }, RECOVERED_WITHIN_MS + 180_000);

  it('stored is what was published, each sample once and to its value', async () => {
    const messages = await readStream(household.auditor, 'TELEMETRY', ['>']);
    const published = publishedTelemetry(LOAD, messages).lines();
    // Doubles there were, within batches and by whole batches; what was taken is what the stream holds.
    expect(publisher.taken.samples.size).toBeGreaterThan(5_000);
    expect(publisher.taken.rows).toBeGreaterThan(1.5 * publisher.taken.samples.size);
    expect(publisher.counters.again).toBeGreaterThan(10);
    expect(publisher.taken.lines()).toEqual(published);
    expect((await storedTelemetry(household.databaseUrl, LOAD)).lines()).toEqual(published);
    // The real cluster's agent was killed too: what it said stands, nothing else does.
    const lab = publishedTelemetry(CLUSTER, messages).lines();
    expect(lab.samples.length).toBeGreaterThan(20);
    expect((await storedTelemetry(household.databaseUrl, CLUSTER)).lines()).toEqual(lab);
  });

  it('every message that was committed is on the bus, once', async () => {
    const { rows: committed } = await sql.query<{ service: string; message_id: string; subject: string }>('SELECT DISTINCT service, message_id, subject FROM audit.committed');
    const messages = [...(await readStream(household.auditor, 'FACTS', ['upid.v1.*.intelligence.>', 'upid.v1.*.cost.>'])), ...(await readStream(household.auditor, 'PUBLIC', ['>']))];
    const times = new Map<string, number>();
    for (const { subject, headers } of messages) {
      const key = `${subject} ${headers[HEADERS.messageName]}`;
      times.set(key, (times.get(key) ?? 0) + 1);
    }
    expect(committed.length).toBeGreaterThan(100);
    expect([...new Set(committed.map((each) => each.service))].sort()).toEqual(['cost', 'intelligence', 'optimizer']);
    expect(committed.filter((each) => !times.has(`${each.subject} ${each.message_id}`))).toEqual([]);
    expect([...times].filter(([, count]) => count > 1)).toEqual([]);
    expect((await readStream(household.auditor, 'DLQ', ['>'])).map(({ subject, headers }) => ({ subject, headers }))).toEqual([]);
  });

  it('the last word on every window is the sum of what is stored, and cost holds it', async () => {
    const rollups = lastRollups(await readStream(household.auditor, 'FACTS', [subjects.rollup('*')]));
    for (const clusterId of [LOAD, CLUSTER]) {
      const stored = await storedTelemetry(household.databaseUrl, clusterId);
      const windows = new Map<number, { minutes: number; cpu: number }>();
      for (const [key, { values }] of stored.samples) {
        const minute = Number(key.split(' ').at(-1));
        const sum = windows.get(minute - (minute % 5)) ?? { minutes: 0, cpu: 0 };
        windows.set(minute - (minute % 5), { minutes: sum.minutes + 1, cpu: sum.cpu + (values[0] ?? 0) });
      }
      const told = new Map([...rollups.get(clusterId) ?? []].map(([window, parts]) => [window, { minutes: sumOf(parts, 'covered_minutes'), cpu: sumOf(parts, 'cpu_millicore_minutes') }] as const).filter(([, { minutes }]) => minutes > 0));
      expect(new Map([...told].sort())).toEqual(new Map([...windows].sort()));
      // Windows that are over are told as final.
      const over = [...rollups.get(clusterId) ?? []].filter(([window]) => (window + 5) * MINUTE_MS + 5 * MINUTE_MS < Date.now());
      expect(over.filter(([, parts]) => parts.some((part) => part.final !== 1))).toEqual([]);
      const { rows: held } = await sql.query<{ minute: number; revision: string }>(
        `SELECT (extract(epoch FROM p.window_start) / 60)::int AS minute, max(p.revision)::text AS revision FROM cost.rollup_part p JOIN cost.cluster c ON c.id = p.cluster WHERE c.cluster_id = $1 GROUP BY p.window_start ORDER BY 1`, [clusterId]);
      expect(held.map((each) => [each.minute, Number(each.revision)])).toEqual([...rollups.get(clusterId) ?? []].map(([window, parts]) => [window, parts[0]?.revision]).sort(([a], [b]) => Number(a) - Number(b)));
    }
  });

  it('money: allocations, idle and overhead are the cost of every node and hour', async () => {
    const { rows } = await sql.query<{ cluster_id: string; hour: Date; cost: string; parts: string; charged: string; allocated: string; unbalanced: number; negative: boolean }>(
      `SELECT c.cluster_id, h.hour, h.cost::text, (h.allocated + h.idle + h.overhead)::text AS parts, coalesce(sum(p.cpu_cost + p.memory_cost + p.gpu_cost), 0)::text AS charged, h.allocated::text, k.unbalanced,
         least(h.idle, h.overhead, min(p.cpu_cost), min(p.memory_cost), min(p.gpu_cost), min(p.actual_cost)) < 0 AS negative
       FROM cost.node_hour h JOIN cost.cluster c ON c.id = h.cluster JOIN cost.cluster_hour k ON k.cluster = h.cluster AND k.hour = h.hour LEFT JOIN cost.pod_hour p ON p.cluster = h.cluster AND p.hour = h.hour AND p.node = h.node
       GROUP BY c.cluster_id, h.hour, h.node, h.cost, h.allocated, h.idle, h.overhead, k.unbalanced`);
    expect(new Set(rows.map((each) => each.cluster_id))).toEqual(new Set([LOAD, CLUSTER]));
    expect(rows.filter((each) => each.cluster_id === LOAD && each.hour.getTime() < Date.now() - HOUR_MS).length).toBeGreaterThan(4);
    for (const each of rows) expect(each).toMatchObject({ parts: each.cost, charged: each.allocated, unbalanced: 0, negative: false });
    expect(rows.every((each) => BigInt(each.cost) > 0n)).toBe(true);
  });

  it('the job was carried out once and put back once, and told in full', async () => {
    expect(history.map((each) => each.replicas)).toEqual([2, 0, 2]);
    expect(history.map((each) => each.generation - (history[0]?.generation ?? 0))).toEqual([0, 1, 2]);
    const events = (await readStream(household.auditor, 'PUBLIC', [subjects.job(CLUSTER)])).map((message): JobEvent => message.json(jobEventSchema));
    for (const of of Map.groupBy(events, (event) => event.job.id).values()) expect(of.map((event) => event.revision)).toEqual(of.map((_, i) => i + 1));
    const ours = events.filter((event) => event.job.id === jobId).map((event) => event.job.status);
    expect(ours.filter((each, i) => each !== ours[i - 1])).toEqual(['pending', 'validating', 'planned', 'executing', 'watching', 'completed', 'rolling_back', 'rolled_back']);
    const { rows: [{ active, standing } = { active: -1, standing: -1 }] } = await sql.query<{ active: number; standing: number }>(`SELECT count(*) FILTER (WHERE status NOT IN ('completed', 'rolled_back', 'failed', 'cancelled', 'refused'))::int AS active, count(*) FILTER (WHERE applied)::int AS standing FROM optimizer.job`);
    expect({ active, standing }).toEqual({ active: 0, standing: 0 });
    expect((await sql.query(`SELECT 1 FROM optimizer.command WHERE state <> 'ended'`)).rows).toEqual([]);
  });
});

/** Asks for a scale to zero under an idempotency key: however often it is asked, it is one job. @throws where it is refused, or nobody could be asked */
async function startJob(client: GatewayClient, key: string, dryRun = false): Promise<{ job_id: string }> {
  const answer = await fetch(`${client.url}/api/v1/optimize/deployment`, {
    method: 'POST', headers: { ...client.headers, 'content-type': 'application/json', 'idempotency-key': key }, signal: AbortSignal.timeout(20_000),
    body: JSON.stringify({ deployment_name: 'promo', namespace: 'preview', cluster_id: CLUSTER, optimization_type: 'zero_scaling', dry_run: dryRun }),
  });
  if (!answer.ok) throw new Error(`${answer.status}: ${(await answer.text()).slice(0, 600)}`);
  return (await answer.json()) as { job_id: string };
}

/** The parts of the highest revision of each window, by cluster and unix minute. */
function lastRollups(messages: readonly Delivery[]): Map<string, Map<number, Rollup[]>> {
  const last = new Map<string, Map<number, Rollup[]>>();
  for (const { subject, payload } of messages) {
    const rollup = decodeRollup(payload);
    const { clusterId } = parseSubject(subject);
    const windows = last.get(clusterId) ?? new Map<number, Rollup[]>();
    last.set(clusterId, windows);
    const known = windows.get(rollup.window_minute);
    if (known === undefined || (known[0]?.revision ?? 0) < rollup.revision) windows.set(rollup.window_minute, [rollup]);
    else if (known[0]?.revision === rollup.revision && !known.some((each) => each.part === rollup.part)) known.push(rollup);
  }
  return last;
}

function sumOf(parts: readonly Rollup[], column: 'covered_minutes' | 'cpu_millicore_minutes'): number {
  return parts.reduce((sum, part) => part[column].reduce((all, each) => all + each, sum), 0);
}
