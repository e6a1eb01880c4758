import { fork } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createUser } from '@nats-io/nkeys';
import { apiKeysFile } from '@upid/cli/up/keys';
import { GatewayClient } from '@upid/cli/client';
import { snapshotTexts } from '@upid/collector/inventory/events';
import { encodeRequestBatch, parseWorkloadKey, subjects, type DeploymentResponse } from '@upid/contracts';
import { connectBus, freePort, startNats, startPostgres, startRedis, type Bus } from '@upid/platform';
import { objectsOf } from './answers/objects.js';
import type { Benchmark, BenchmarkContext, Figures } from './benchmark.js';
import { ClusterLoad } from './load/cluster-load.js';
import { useOf } from './load/processes.js';
import type { FromPublisher, ToPublisher } from './load/publisher.js';
import { ServiceProcess } from './service-process.js';

const CLUSTER = 'bench';
const SEED = 7;
const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
/** Batches that the publisher may be ahead of the fold. */
const OUTSTANDING = 4_000;
const REQUEST_MINUTES = 10;
const WINDOW_MINUTES = 7 * 1440;
const JUDGED_WITHIN_MS = 900_000;
/** Cost and advice follow what was judged; nothing says when they have. */
const FOLLOWED_MS = 20_000;
const SERVICES = ['intelligence', 'cost', 'optimizer', 'gateway'] as const;

/** Requests of every second workload, by the minute: what an ingress in front of them would count. */
async function publishRequests(bus: Bus, workloads: readonly string[], firstMinute: number, minutes: number): Promise<void> {
  const asked = workloads.filter((_, i) => i % 2 === 0);
  const epoch = crypto.getRandomValues(new Uint8Array(16));
  for (let from = 0, sequence = 0; from < minutes; from += REQUEST_MINUTES, sequence++) {
    const count = Math.min(REQUEST_MINUTES, minutes - from);
    const rows = Array.from({ length: count * asked.length }, (_, row) => ({ workload: row % asked.length, minute: Math.floor(row / asked.length) }));
    const business = rows.map(({ workload, minute }) => (workload % 10 === 0 ? 0 : 20 + ((workload + from + minute) % 30)));
    await bus.publish(subjects.agent(CLUSTER, 'requests'), encodeRequestBatch({
      epoch, sequence, base_minute: firstMinute + from, source: 'ingress-nginx', workloads: asked, row_workload: rows.map((row) => row.workload), row_minute: rows.map((row) => row.minute), covered_seconds: rows.map(() => 60), business, probe: rows.map(() => 6), status_2xx: business,
    }), { msgId: `requests/${sequence}` });
  }
}

/** Publishes the past and waits until all of it is folded. @returns values published */
async function fill(natsUrl: string, intelligence: ServiceProcess, load: { containers: number; firstMinute: number; minutes: number }, log: (line: string) => void): Promise<number> {
  const publisher = fork(join(import.meta.dirname, 'load/publisher.js'), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  try {
    let published: FromPublisher = { type: 'published', batches: 0, values: 0, bytes: 0, minutes: 0, stopped: false };
    publisher.on('message', (message: FromPublisher) => { published = message; });
    const tell = (message: ToPublisher) => publisher.connected && publisher.send(message);
    tell({ type: 'start', natsUrl, clusterId: CLUSTER, seed: SEED, outstanding: OUTSTANDING, valuesPerMinute: null, ...load });
    let folded = 0;
    let nextLine = performance.now() + 20_000;
    while (!published.stopped || folded < published.batches) {
      await intelligence.assertRunning();
      await delay(250);
      folded = (await intelligence.metrics()).get('upid_publish_to_folded_ms_count') ?? 0;
      tell({ type: 'folded', batches: folded, outstanding: OUTSTANDING });
      if (performance.now() < nextLine) continue;
      nextLine += 20_000;
      log(`${published.minutes} of ${load.minutes} minutes of the cluster published`);
    }
    return published.values;
  } finally {
    publisher.kill('SIGTERM');
  }
}

/** Asks one after the other and says how long each answer took. */
async function timed(questions: readonly (() => Promise<unknown>)[]): Promise<{ p50: number; p99: number }> {
  const elapsed: number[] = [];
  for (const ask of questions) {
    const started = performance.now();
    await ask();
    elapsed.push(performance.now() - started);
  }
  elapsed.sort((a, b) => a - b);
  const at = (q: number) => Math.round((elapsed[Math.min(elapsed.length - 1, Math.floor(q * elapsed.length))] ?? 0) * 10) / 10;
  return { p50: at(0.5), p99: at(0.99) };
}

async function run({ log, args }: BenchmarkContext): Promise<Figures> {
  const { values: options } = parseArgs({ args: [...args], options: { containers: { type: 'string', default: '10000' }, days: { type: 'string', default: '7' }, keep: { type: 'boolean', default: false } } });
  const containers = Number(options.containers);
  const minutes = Math.round(Number(options.days) * 1440);
  const dir = await mkdtemp(join(tmpdir(), 'upid-bench-answers-'));
  // Started by root, PostgreSQL runs as another user, who must reach its data here.
  await chmod(dir, 0o711);
  const closing: (() => Promise<unknown>)[] = [];
  try {
    const [nats, postgres, redis] = await Promise.all([startNats({ dir: join(dir, 'nats') }), startPostgres({ dir: join(dir, 'postgres') }), startRedis({ dir: join(dir, 'redis') })]);
    closing.push(() => Promise.all([nats.stop(), postgres.stop(), redis.stop()]));
    const port = await freePort();
    const apiKey = `upid_${randomBytes(16).toString('hex')}`;
    const keysFile = join(dir, 'api-keys.json');
    await writeFile(keysFile, JSON.stringify(apiKeysFile(apiKey)));
    const env = { NODE_ENV: 'production', UPID_NATS_URL: nats.url, UPID_DATABASE_URL: postgres.url, UPID_REDIS_URL: redis.url, UPID_COMMAND_SEED: new TextDecoder().decode(createUser().getSeed()), UPID_ACTUATION_CLUSTERS: '', UPID_PORT: String(port), UPID_API_KEYS_FILE: keysFile };
    const services = new Map<string, ServiceProcess>();
    for (const name of SERVICES) {
      const service = await ServiceProcess.start(name, dir, env);
      services.set(name, service);
      closing.push(() => service.stop());
    }
    for (const service of services.values()) await service.ready();
    const intelligence = services.get('intelligence') as ServiceProcess;

    const bus = await connectBus({ url: nats.url, name: 'bench' });
    closing.push(() => bus.drain());
    const cluster = new ClusterLoad(containers, SEED);
    const lastMinute = Math.floor(Date.now() / MINUTE_MS) - 1;
    const firstMinute = lastMinute - minutes;
    const objects = objectsOf(cluster, firstMinute * MINUTE_MS - DAY_MS);
    const nowMs = Date.now();
    const parts = snapshotTexts({ epoch: randomUUID(), epochStartedAtMs: nowMs, generation: 1, sequence: 0 }, objects.map((object) => JSON.stringify(object)), nowMs);
    for (const [part, text] of parts.entries()) await bus.publish(subjects.agent(CLUSTER, 'inventory'), Buffer.from(text), { msgId: `inventory/${part}` });
    const members = cluster.members();
    const workloads = [...new Set(members.map(({ workload }) => workload))];
    log(`${members.length} pods of ${workloads.length} workloads; publishing ${options.days} days of them`);
    await publishRequests(bus, workloads, firstMinute, minutes);
    const started = performance.now();
    const values = await fill(nats.url, intelligence, { containers, firstMinute, minutes }, log);
    const filledSeconds = (performance.now() - started) / 1000;
    log(`folded in ${Math.round(filledSeconds)} s; waiting until every workload is judged and advised on`);

    const client = new GatewayClient(`http://127.0.0.1:${port}`, apiKey);
    const pick = <T>(of: readonly T[], count: number): T[] => Array.from({ length: Math.min(count, of.length) }, (_, i) => of[Math.floor((i * of.length) / count)] as T);
    const body = { cluster_id: CLUSTER, time_range: '7d' };
    const deployment = (key: string) => {
      const { kind, name, namespace } = parseWorkloadKey(key);
      return client.post<DeploymentResponse>('/api/v1/analyze/deployment', { ...body, deployment_name: name, namespace, options: { kind } });
    };
    const judged = performance.now();
    for (const deadline = judged + JUDGED_WITHIN_MS; ; await delay(500)) {
      const sample = await Promise.all(pick(workloads, 20).map((key) => deployment(key).then((answer) => answer.idle_analysis.data_points, () => 0)));
      if (sample.every((minutesJudged) => minutesJudged >= 0.98 * Math.min(minutes, WINDOW_MINUTES))) break;
      if (performance.now() > deadline) throw new Error(`After 15 minutes workloads are judged by ${sample.join(', ')} minutes only`);
    }
    const judgedSeconds = (performance.now() - judged) / 1000;
    log(`judged after ${Math.round(judgedSeconds)} s; asking once cost and advice have followed`);
    await delay(FOLLOWED_MS);

    const pods = pick(objects.filter((object) => object.kind === 'Pod'), 200);
    const questions: Record<string, (() => Promise<unknown>)[]> = {
      analyze_pod: pods.map(({ name, namespace }) => () => client.post('/api/v1/analyze/pod', { ...body, pod_name: name, namespace })),
      analyze_deployment: pick(workloads, 200).map((key) => () => deployment(key)),
      analyze_namespace: pick(workloads, 40).map(parseWorkloadKey).map(({ namespace }) => () => client.post('/api/v1/analyze/namespace', { ...body, namespace })),
      analyze_cluster: Array.from({ length: 20 }, () => () => client.post('/api/v1/analyze/cluster', body)),
      intelligence_cluster: Array.from({ length: 20 }, () => () => client.get(`/api/v1/intelligence/cluster/${CLUSTER}`)),
      recommendations: Array.from({ length: 20 }, () => () => client.get(`/api/v1/recommendations/cluster/${CLUSTER}`)),
      savings: Array.from({ length: 20 }, () => () => client.get(`/api/v1/savings/potential/${CLUSTER}`)),
      clusters: Array.from({ length: 50 }, () => () => client.get('/api/v1/clusters')),
    };
    const figures: Record<string, number | string | null> = {
      containers, pods: members.length, workloads: workloads.length, days: Number(options.days), metrics_per_minute: Math.round((values * 60) / filledSeconds), judged_after_seconds: Math.round(judgedSeconds * 10) / 10,
    };
    for (const [name, all] of Object.entries(questions)) {
      const { p50, p99 } = await timed(all);
      figures[`${name}_p50_ms`] = p50;
      figures[`${name}_p99_ms`] = p99;
    }
    for (const [name, service] of services) figures[`${name}_rss_bytes`] = (await useOf(service.pid))?.rssBytes ?? null;
    return figures;
  } finally {
    for (const close of closing.reverse()) await close();
    if (options.keep) log(`kept ${dir}`);
    else await rm(dir, { recursive: true, force: true });
  }
}

export const benchmark: Benchmark = {
  name: 'answers',
  summary: 'a cluster of 10,000 containers and a week: how long the gateway takes to answer (--containers N, --days N, --keep)',
  floors: {},
  run,
};
