import { fork } from 'node:child_process';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Grid } from '@upid/intelligence/fold/grid';
import { unpackPodHour } from '@upid/intelligence/fold/segment';
import { copyIn, Database, startNats, startPostgres } from '@upid/platform';
import type { Benchmark, BenchmarkContext, Figures } from './benchmark.js';
import { useOf, type ProcessUse } from './load/processes.js';
import type { FromPublisher, ToPublisher } from './load/publisher.js';
import { ServiceProcess } from './service-process.js';

const CLUSTER = 'bench';
const CONTAINERS = 10_000;
/** Batches that the publisher may be ahead of the fold: at first, at least, and at most. */
const OUTSTANDING = { first: 4_000, least: 3_600, most: 20_000 } as const;
/** The load is raised while a batch is folded within this time at the median, and lowered when it is not: the greatest load without a growing queue. */
const MEDIAN_MS = 5_000;
const ADAPT_MS = 2_000;
const WARM_UP_SECONDS = 15;
const DAY_MS = 86_400_000;

/** The quantile of what a histogram counted between two readings: the bound of its bucket. */
function quantileBetween(before: Map<string, number>, after: Map<string, number>, name: string, q: number): number | null {
  const buckets = [...after.keys()].filter((key) => key.startsWith(`${name}_bucket|`)).map((key) => ({ bound: Number(key.split('|')[1]?.replace('+Inf', 'Infinity')), count: (after.get(key) ?? 0) - (before.get(key) ?? 0) })).sort((a, b) => a.bound - b.bound);
  const total = buckets.at(-1)?.count ?? 0;
  if (total === 0) return null;
  return buckets.find((bucket) => bucket.count >= q * total)?.bound ?? null;
}

/** A plain COPY of wide rows into one table, from one process, for `seconds`: what the same machine does without any of this. */
async function rowCopy(database: Database, seconds: number): Promise<number> {
  await database.query('CREATE TABLE IF NOT EXISTS row_copy (at timestamptz NOT NULL, pod integer NOT NULL, container integer NOT NULL, cpu double precision, cpu_peak double precision, memory double precision, memory_peak double precision, receive double precision, transmit double precision)');
  const columns = { at: 'timestamptz', pod: 'int4', container: 'int4', cpu: 'float8', cpu_peak: 'float8', memory: 'float8', memory_peak: 'float8', receive: 'float8', transmit: 'float8' } as const;
  const started = performance.now();
  let rows = 0;
  for (let minute = 0; performance.now() - started < seconds * 1000; minute++) {
    const at = 1_700_000_000_000 + minute * 60_000;
    rows += await database.transaction((tx) => copyIn(tx, 'row_copy', columns, (function* () {
      for (let i = 0; i < 50_000; i++) yield [at, i, i & 1, (i * 37) % 4000, (i * 41) % 500, i * 4096, i & 7, i * 100, i * 70];
    })()));
  }
  const elapsed = performance.now() - started;
  await database.query('DROP TABLE row_copy');
  return (rows * 6 * 60_000) / elapsed;
}

interface Reading { readonly at: number; readonly metrics: Map<string, number>; readonly use: Record<'intelligence' | 'nats' | 'postgres' | 'publisher', ProcessUse | null> }

async function run({ log, args }: BenchmarkContext): Promise<Figures> {
  const { values: options } = parseArgs({ args: [...args], options: { seconds: { type: 'string', default: '180' }, rate: { type: 'string' }, containers: { type: 'string', default: String(CONTAINERS) }, replicas: { type: 'string', default: '1' }, keep: { type: 'boolean', default: false } } });
  const seconds = Number(options.seconds);
  const containers = Number(options.containers);
  const rate = options.rate === undefined ? null : Number(options.rate);
  const dir = await mkdtemp(join(tmpdir(), 'upid-bench-ingest-'));
  // Started by root, PostgreSQL runs as another user, who must reach its data here.
  await chmod(dir, 0o711);
  const closing: (() => Promise<unknown>)[] = [];
  try {
    const nats = await startNats({ dir: join(dir, 'nats') });
    closing.push(() => nats.stop());
    const postgres = await startPostgres({ dir: join(dir, 'postgres') });
    closing.push(() => postgres.stop());
    const database = new Database({ url: postgres.url, schema: 'intelligence' });
    closing.push(() => database.close());

    const services: ServiceProcess[] = [];
    for (let replica = 0; replica < Number(options.replicas); replica++) {
      const service = await ServiceProcess.start('intelligence', dir, { UPID_NATS_URL: nats.url, UPID_DATABASE_URL: postgres.url }, `intelligence-${replica}`);
      services.push(service);
      closing.push(() => service.stop());
    }
    for (const service of services) await service.ready();

    const publisher = fork(join(import.meta.dirname, 'load/publisher.js'), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    closing.push(async () => {
      const ended = new Promise((resolve) => { publisher.once('exit', resolve); });
      if (publisher.exitCode === null && publisher.kill('SIGTERM')) await ended;
    });
    let published: FromPublisher = { type: 'published', batches: 0, values: 0, bytes: 0, minutes: 0, stopped: false };
    publisher.on('message', (message: FromPublisher) => { published = message; });
    const tell = (message: ToPublisher) => publisher.connected && publisher.send(message);
    const firstDayMs = Math.floor(Date.now() / DAY_MS - 60) * DAY_MS;
    tell({ type: 'start', natsUrl: nats.url, clusterId: CLUSTER, containers, seed: 7, firstMinute: firstDayMs / 60_000, outstanding: OUTSTANDING.first, valuesPerMinute: rate, minutes: null });

    const allMetrics = async (): Promise<Map<string, number>> => {
      const sum = new Map<string, number>();
      for (const each of await Promise.all(services.map((service) => service.metrics()))) for (const [name, value] of each) sum.set(name, (sum.get(name) ?? 0) + value);
      return sum;
    };
    const read = async (): Promise<Reading> => {
      const uses = await Promise.all([...services.map((service) => useOf(service.pid)), useOf(nats.pid), useOf(postgres.pid), useOf(publisher.pid ?? 0)]);
      const ofServices = uses.slice(0, services.length);
      const intelligence = ofServices.every((use) => use !== null) ? ofServices.reduce<ProcessUse>((sum, use) => ({ cpuSeconds: sum.cpuSeconds + (use?.cpuSeconds ?? 0), rssBytes: sum.rssBytes + (use?.rssBytes ?? 0) }), { cpuSeconds: 0, rssBytes: 0 }) : null;
      const [ofNats = null, ofPostgres = null, ofPublisher = null] = uses.slice(services.length);
      return { at: performance.now(), metrics: await allMetrics(), use: { intelligence, nats: ofNats, postgres: ofPostgres, publisher: ofPublisher } };
    };
    const folded = (metrics: Map<string, number>) => metrics.get('upid_publish_to_folded_ms_count') ?? 0;

    let latest = await allMetrics();
    let outstanding: number = OUTSTANDING.first;
    let adapted = { at: performance.now(), metrics: latest };
    const adapt = () => {
      if (performance.now() - adapted.at < ADAPT_MS) return;
      const median = quantileBetween(adapted.metrics, latest, 'upid_publish_to_folded_ms', 0.5);
      adapted = { at: performance.now(), metrics: latest };
      if (median !== null) outstanding = Math.round(Math.min(OUTSTANDING.most, Math.max(OUTSTANDING.least, outstanding * (median > MEDIAN_MS ? 0.9 : 1.1))));
    };
    const until = async (condition: () => boolean, limitMs: number, what: string) => {
      const deadline = performance.now() + limitMs;
      let nextLine = performance.now() + 10_000;
      while (!condition()) {
        if (performance.now() > deadline) throw new Error(`${what}: not within ${limitMs / 1000} s`);
        for (const service of services) await service.assertRunning();
        await delay(250);
        latest = await allMetrics();
        adapt();
        tell({ type: 'folded', batches: folded(latest), outstanding });
        if (performance.now() > nextLine) {
          nextLine += 10_000;
          log(`${published.minutes} minutes of the cluster published, ${published.batches} batches; stored ${latest.get('upid_batches_stored') ?? 0}, folded ${folded(latest)}`);
        }
      }
    };
    const warmUntil = performance.now() + WARM_UP_SECONDS * 1000;
    await until(() => performance.now() > warmUntil, 600_000, 'warming up');
    const before = await read();
    log(`measuring for ${seconds} s`);
    await until(() => performance.now() > before.at + seconds * 1000, seconds * 1000 + 60_000, 'measuring');
    const after = await read();
    tell({ type: 'stop' });
    await until(() => published.stopped && folded(latest) >= published.batches, 300_000, 'folding what was published');
    log('all that was published is folded');

    const valuesPerBatch = published.values / published.batches;
    const perMinute = 60_000 / (after.at - before.at);
    const difference = (name: string) => (after.metrics.get(name) ?? 0) - (before.metrics.get(name) ?? 0);
    const storage = await sizeOnDisk(database, firstDayMs, published.minutes, published.values / published.minutes);
    const reads = await readPods(database, firstDayMs, published.minutes);
    await database.query('CHECKPOINT');
    log('measuring a plain COPY of wide rows');
    const copied = await rowCopy(database, Math.min(20, Math.max(5, seconds / 9)));
    const metricsPerMinute = difference('upid_publish_to_folded_ms_count') * valuesPerBatch * perMinute;
    const figures: Record<string, number | string | null> = {
      metrics_per_minute: Math.round(metricsPerMinute), published_metrics_per_minute: Math.round(difference('upid_batches_stored') * valuesPerBatch * perMinute),
      samples_per_minute: Math.round(difference('upid_rows_stored') * perMinute), row_copy_metrics_per_minute: Math.round(copied), row_copy_ratio: Math.round((metricsPerMinute / copied) * 100) / 100,
      publish_to_commit_p50_ms: quantileBetween(before.metrics, after.metrics, 'upid_publish_to_commit_ms', 0.5), publish_to_commit_p99_ms: quantileBetween(before.metrics, after.metrics, 'upid_publish_to_commit_ms', 0.99),
      publish_to_folded_p50_ms: quantileBetween(before.metrics, after.metrics, 'upid_publish_to_folded_ms', 0.5), publish_to_folded_p99_ms: quantileBetween(before.metrics, after.metrics, 'upid_publish_to_folded_ms', 0.99),
      ...storage, ...reads, payload_bytes_per_value: Math.round((published.bytes / published.values) * 100) / 100, containers, measured_seconds: Math.round((after.at - before.at) / 1000), cluster_days: Math.round((published.minutes / 1440) * 100) / 100,
    };
    let cores = 0;
    for (const name of ['intelligence', 'nats', 'postgres', 'publisher'] as const) {
      const [from, to] = [before.use[name], after.use[name]];
      cores += from && to ? ((to.cpuSeconds - from.cpuSeconds) * 1000) / (after.at - before.at) : Number.NaN;
      figures[`${name}_cpu_cores`] = from && to ? Math.round(((to.cpuSeconds - from.cpuSeconds) * 1000 * 100) / (after.at - before.at)) / 100 : null;
      figures[`${name}_rss_bytes`] = to ? to.rssBytes : null;
    }
    // What a core does for all of the way, publisher and bus included: comparable on a machine that others use too.
    figures.metrics_per_minute_and_core = Number.isFinite(cores) && cores > 0 ? Math.round(metricsPerMinute / cores) : null;
    return figures;
  } finally {
    for (const close of closing.reverse()) await close();
    if (options.keep) log(`kept ${dir}`);
    else await rm(dir, { recursive: true, force: true });
  }
}

/** Bytes that a day's packed samples and aggregates take, indexes included, a value of that day; the whole of what is there where no day is full. */
async function sizeOnDisk(database: Database, firstDayMs: number, minutes: number, valuesPerMinute: number): Promise<Record<string, number | null>> {
  // The last hours may still be open in the aggregates of days; full days are measured where there are any.
  const days = Math.floor(minutes / 1440);
  const { rows: partitions } = await database.query<{ name: string; bytes: number }>(
    `SELECT c.relname AS name, pg_total_relation_size(c.oid)::float8 AS bytes FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname = 'pod_hour' ORDER BY 1`);
  const ofDay = (index: number) => `pod_hour_p${new Date(firstDayMs + index * DAY_MS).toISOString().slice(0, 10).replaceAll('-', '')}`;
  const wanted = days > 0 ? Array.from({ length: days }, (_, i) => ofDay(i)) : [ofDay(0)];
  const values = (days > 0 ? days * 1440 : minutes) * valuesPerMinute;
  const samples = partitions.filter((each) => wanted.includes(each.name)).reduce((sum, each) => sum + each.bytes, 0);
  const { rows: [whole] } = await database.query<{ bytes: number }>(
    `SELECT sum(pg_total_relation_size(c.oid))::float8 AS bytes FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent WHERE c.relkind = 'r' AND p.relname IN ('workload_hour', 'workload_day')`);
  const aggregates = (whole?.bytes ?? 0) / (minutes * valuesPerMinute);
  const round = (value: number) => Math.round(value * 1000) / 1000;
  return { bytes_per_value: round(samples / values + aggregates), samples_bytes_per_value: round(samples / values), aggregates_bytes_per_value: round(aggregates) };
}

/** How long it takes to read and unpack one pod's samples of a week (of what is there where that is less), one pod after another. */
async function readPods(database: Database, firstDayMs: number, minutes: number): Promise<Record<string, number>> {
  const hours = Array.from({ length: Math.min(168, Math.floor(minutes / 60)) }, (_, i) => new Date(firstDayMs + i * 3_600_000));
  const { rows: pods } = await database.query<{ id: number }>('SELECT id FROM pod ORDER BY md5(id::text) LIMIT 100');
  const grid = new Grid();
  const elapsed: number[] = [];
  let missing = 0;
  for (const { id } of pods) {
    const started = performance.now();
    const { rows } = await database.query<{ hour: Date; samples: Buffer }>('SELECT hour, samples FROM pod_hour WHERE cluster = 1 AND pod = $1 AND hour = ANY($2::timestamptz[])', [id, hours]);
    for (const row of rows) {
      grid.reset(row.hour.getTime() / 60_000, 60);
      unpackPodHour(row.samples, grid, grid.pod(new Uint8Array(16), 0, grid.workload('-/Other/-')));
      for (let place = 0; place < grid.series * 60; place++) if (grid.rank[place] === 0) missing++;
    }
    elapsed.push(performance.now() - started);
    missing += (hours.length - rows.length) * 60;
  }
  elapsed.sort((a, b) => a - b);
  const at = (q: number) => Math.round((elapsed[Math.min(elapsed.length - 1, Math.floor(q * elapsed.length))] ?? 0) * 100) / 100;
  return { pod_read_hours: hours.length, pod_read_p50_ms: at(0.5), pod_read_p99_ms: at(0.99), missing_samples_of_100_pods: missing };
}

export const benchmark: Benchmark = {
  name: 'ingest',
  summary: 'telemetry through JetStream into PostgreSQL, folds included: metrics a minute, latencies, CPU, bytes a value (--seconds N, --rate METRICS_PER_MINUTE)',
  floors: {},
  run,
};
