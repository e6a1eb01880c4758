import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import {
  assessmentEventSchema, DAY_MS, decodeRollup, DEFAULT_POLICY, encodeMessage, HEADERS, HOUR_MS, MINUTE_MS, QUERIES, STREAMS, subjects, toTimestamp, USAGE_BATCH, workloadKey,
  type Assessment, type CoverageEvent, type InventoryObject, type Policy, type QueryName, type QueryRequest, type QueryResponse, type Rollup,
} from '@upid/contracts';
import { connectBus, Database, listDeadLetters, prepareTimes, startService, type Bus, type RunningService } from '@upid/platform';
import { ManagedProcess, startNats, startPostgres, startRedis, temporaryDirectory, waitFor, type TestNats, type TestPostgres, type TestServer } from '@upid/testing';
import { unpackAggregate } from './fold/aggregate.js';
import { FoldRepository } from './fold/fold.repository.js';
import { FoldService } from './fold/fold.service.js';
import { Grid } from './fold/grid.js';
import { unpackCells, unpackPodHour } from './fold/segment.js';
import { HistoryRepository } from './insight/history.repository.js';
import { intelligenceService, TIME_TABLES, type intelligenceSettings } from './intelligence.module.js';
import { newEpoch, nodeObject, podObject, refOf, requestsOf, snapshotOf, uidOf, usageOf, workloadObject, type Minute, type RequestMinute } from './telemetry.fixture.js';

type Service = RunningService<typeof intelligenceSettings>;
const policy: Policy = { ...DEFAULT_POLICY, name: 'for-tests' };

let nats: TestNats;
let postgres: TestPostgres;
let redis: TestServer;
let databaseUrl: string;
let database: Database;
let history: HistoryRepository;
let bus: Bus;
let service: Service | null = null;
let published = 0;
const rollups: { clusterId: string; rollup: Rollup }[] = [];
const assessments: { clusterId: string; assessment: Assessment; policy: string }[] = [];

const environment = (): Record<string, string> => ({ UPID_NATS_URL: nats.url, UPID_DATABASE_URL: databaseUrl, UPID_REDIS_URL: redis.url, UPID_LOG_LEVEL: 'error', UPID_FOLD_SETTLE_MS: '150', UPID_ASSESS_SECONDS: '0.5' });

async function start(): Promise<Service> {
  service = await startService(intelligenceService(policy), environment());
  return service;
}
async function stop(): Promise<void> {
  await service?.stop();
  service = null;
}

/** Connects and hears everything from the beginning. */
async function listen(): Promise<void> {
  bus = await connectBus({ url: nats.url, name: 'gateway' });
  await bus.ensureStreams(STREAMS);
  rollups.length = 0;
  assessments.length = 0;
  await bus.tail({ stream: 'FACTS', subjects: [subjects.rollup('*')], from: new Date(0) }, (message) => { rollups.push({ clusterId: message.subject.split('.')[2] as string, rollup: decodeRollup(message.payload) }); });
  await bus.tail({ stream: 'FACTS', subjects: [subjects.assessment('*')], from: new Date(0) }, (message) => {
    const event = message.json(assessmentEventSchema);
    for (const assessment of event.assessments) assessments.push({ clusterId: message.subject.split('.')[2] as string, assessment, policy: event.policy });
  });
}

beforeAll(async () => {
  [nats, postgres, redis] = await Promise.all([startNats({ own: true }), startPostgres({ own: true }), startRedis({ own: true })]);
  databaseUrl = (await postgres.createDatabase('intelligence')).url;
  database = new Database({ url: databaseUrl, schema: 'intelligence' });
  history = new HistoryRepository(database);
  await listen();
  await start();
});
afterAll(async () => {
  await stop();
  await bus?.drain();
  await database?.close();
  await Promise.all([nats?.stop(), postgres?.stop(), redis?.stop()]);
});

/** Published under an id of its own each time, so that the bus does not drop it: the service must. */
const publish = (cluster: string, kind: 'usage' | 'requests' | 'inventory' | 'coverage', payload: Uint8Array | string, headers: Record<string, string> = {}) =>
  bus.publish(subjects.agent(cluster, kind), typeof payload === 'string' ? Buffer.from(payload) : payload, { msgId: `${cluster}/${kind}/${published++}`, headers });
const inventory = (cluster: string, objects: readonly InventoryObject[], generation = 1) => publish(cluster, 'inventory', JSON.stringify(snapshotOf(generation, objects)));
const ask = async <N extends QueryName<'intelligence'>>(name: N, request: QueryRequest<'intelligence', N>): Promise<QueryResponse<'intelligence', N>> => QUERIES.intelligence[name].response.parse(await bus.ask('intelligence', name, request)) as QueryResponse<'intelligence', N>;

/** Everything that was published is stored and folded, and what follows from it is on the bus. */
async function settled(): Promise<void> {
  const manager = await bus.jetstreamManager();
  await waitFor('everything to be folded', async () => {
    const consumer = await manager.consumers.info('TELEMETRY', 'intelligence-telemetry');
    const { rows: [left] } = await database.query<{ dirty: number; batches: number; outbox: number }>('SELECT (SELECT count(*) FROM dirty_hour)::int AS dirty, (SELECT count(*) FROM batch)::int AS batches, (SELECT count(*) FROM outbox)::int AS outbox');
    return consumer.num_pending + consumer.num_ack_pending === 0 && left?.dirty === 0 && left.batches === 0 && left.outbox === 0;
  // What a killed process held comes again after the consumer's minute.
  }, { timeoutMs: 100_000 });
}

/** Every stored sample of a cluster as `uid minute cpu pages`, read from cells and packed hours. */
async function storedSamples(clusterId: string): Promise<string[]> {
  const cluster = await history.cluster(clusterId);
  if (!cluster) return [];
  const hours = await history.hours(cluster.number, 0, Date.now() + DAY_MS);
  const pods = new Map((await history.allPods(cluster.number)).map((pod) => [pod.id, pod.uid]));
  const found: string[] = [];
  const grid = new Grid();
  for (const hour of hours) {
    grid.reset(hour.hourMs / MINUTE_MS, 60);
    if (hour.closed) for (const row of await history.podHours(cluster.number, hour.hourMs, hour.hourMs + HOUR_MS, null)) unpackPodHour(row.samples, grid, grid.pod(Buffer.from((pods.get(row.pod) as string).replaceAll('-', ''), 'hex'), 0, grid.workload('-/Other/-')));
    else for (const cell of await history.cells(cluster.number, [hour.hourMs], null)) unpackCells(cell.data, grid, cell.window * 5);
    for (let series = 0; series < grid.series; series++) {
      for (let minute = 0; minute < 60; minute++) {
        const place = series * 60 + minute;
        if (grid.rank[place] === 0) continue;
        const pod = grid.seriesPod[series] as number;
        const uid = Buffer.from(grid.podUids.subarray(pod * 16, pod * 16 + 16)).toString('hex');
        found.push(`${uid} ${grid.containers[grid.seriesContainer[series] as number]} ${grid.startMinute + minute} ${grid.usage[0]?.[place]} ${(grid.usage[2]?.[place] as number) / 4096}`);
      }
    }
  }
  return found.sort();
}
const samplesOf = (minutes: readonly Minute[]): string[] => [...new Set(minutes.map((each) => `${each.uid.replaceAll('-', '')} ${each.container ?? 'app'} ${each.minute} ${each.cpu} ${each.pages}`))].sort();

/** The rollups that stand last, by window. */
function lastRollups(clusterId: string): Map<number, Rollup[]> {
  const last = new Map<number, Rollup[]>();
  for (const { rollup } of rollups.filter((each) => each.clusterId === clusterId)) {
    const known = last.get(rollup.window_minute);
    if (!known || (known[0]?.revision as number) < rollup.revision) last.set(rollup.window_minute, [rollup]);
    else if (known[0]?.revision === rollup.revision && !known.some((each) => each.part === rollup.part)) known.push(rollup);
  }
  return last;
}
const sumOf = (column: Float64Array) => column.reduce((a, b) => a + b, 0);
/** What all standing rollups of a cluster say: container minutes and their CPU. */
function told(clusterId: string): { minutes: number; cpu: number } {
  const all = [...lastRollups(clusterId).values()].flat();
  return { minutes: all.reduce((sum, each) => sum + sumOf(each.covered_minutes), 0), cpu: all.reduce((sum, each) => sum + sumOf(each.cpu_millicore_minutes), 0) };
}
const cpuOf = (minutes: readonly Minute[]) => [...new Map(minutes.map((each) => [`${each.uid} ${each.container ?? 'app'} ${each.minute}`, each.cpu])).values()].reduce((a, b) => a + b, 0);

const nowMinute = () => Math.floor(Date.now() / MINUTE_MS);
/** The unix minute in which an hour began that ended `hours` hours ago. */
const hourAgo = (hours: number) => (Math.floor(Date.now() / HOUR_MS) - hours) * 60;

/** `pods` pods of a workload over some minutes, each value its own. */
function load(workload: string, pods: number, from: number, count: number, seed = 1): Minute[] {
  return Array.from({ length: pods }, (_, pod) => Array.from({ length: count }, (_each, i): Minute => ({ uid: uidOf('b', seed * 1000 + pod), workload: refOf(workload), minute: from + i, cpu: 50 + ((i * 7 + pod * 13 + seed) % 40), pages: 5000 + pod * 100 + (i % 9) }))).flat();
}

describe('telemetry', () => {
  it('is stored once, live and history, and every window that it touches is told', async () => {
    // Within the window that is under way, which is final two minutes after its end at the earliest.
    const open = nowMinute() - (nowMinute() % 5);
    const live = load('cart', 3, open, nowMinute() - open + 1);
    const old = load('cart', 3, hourAgo(30), 60);
    await publish('one', 'usage', usageOf(live));
    await publish('one', 'usage', usageOf(old));
    await settled();
    expect(await storedSamples('one')).toEqual(samplesOf([...live, ...old]));
    await waitFor('the rollups', () => told('one').minutes === live.length + old.length);
    expect(told('one').cpu).toBe(cpuOf([...live, ...old]));
    const ofOld = [...lastRollups('one')].filter(([minute]) => minute < hourAgo(29));
    expect(ofOld).toHaveLength(12);
    expect(ofOld.every(([, parts]) => parts.every((part) => part.final === 1))).toBe(true);
    expect(lastRollups('one').get(open)?.map((part) => part.final)).toEqual([0]);
    const { rows: [left] } = await database.query<{ payloads: number; names: number }>('SELECT (SELECT count(*) FROM batch)::int AS payloads, (SELECT count(*) FROM batch_name)::int AS names');
    expect(left).toEqual({ payloads: 0, names: 2 });
  });

  it('comes again, the same batch or the same samples in another, and changes nothing', async () => {
    const minutes = load('cart', 2, hourAgo(40), 60, 2);
    const batch = usageOf(minutes);
    await publish('again', 'usage', batch);
    await settled();
    const revisions = new Map([...lastRollups('again')].map(([minute, parts]) => [minute, parts[0]?.revision]));
    await publish('again', 'usage', batch);
    await publish('again', 'usage', usageOf(minutes.slice(0, 50)));
    await publish('again', 'usage', usageOf(minutes.map((each) => ({ ...each, cpu: each.cpu + 1 })), { source: 'prometheus' }));
    await settled();
    expect(await storedSamples('again')).toEqual(samplesOf(minutes));
    expect(told('again')).toEqual({ minutes: minutes.length, cpu: cpuOf(minutes) });
    expect(new Map([...lastRollups('again')].map(([minute, parts]) => [minute, parts[0]?.revision]))).toEqual(revisions);
  });

  it('gives the same hours whether history or live data came first', async () => {
    const live = load('web', 2, hourAgo(50), 60, 3).filter((each) => each.minute % 3 !== 0);
    const backfill = load('web', 2, hourAgo(50), 60, 3).map((each) => ({ ...each, cpu: each.cpu + 5 }));
    const first = [usageOf(live), usageOf(backfill, { source: 'prometheus' })];
    for (const payload of first) {
      await publish('live-first', 'usage', payload);
      await settled();
    }
    for (const payload of [...first].reverse()) {
      await publish('history-first', 'usage', payload);
      await settled();
    }
    const of = async (clusterId: string) => {
      const cluster = await history.cluster(clusterId);
      const pods = new Map((await history.allPods(cluster?.number as number)).map((pod) => [pod.id, pod.uid]));
      const samples = (await history.podHours(cluster?.number as number, hourAgo(50) * MINUTE_MS, hourAgo(49) * MINUTE_MS, null)).map((row) => [pods.get(row.pod), Buffer.from(row.samples).toString('hex')]);
      const workloads = (await history.workloadHours(cluster?.number as number, hourAgo(50) * MINUTE_MS, hourAgo(49) * MINUTE_MS, null)).map((row) => [Buffer.from(row.load).toString('hex'), Buffer.from(row.aggregate).toString('hex')]);
      return { samples: samples.sort(), workloads };
    };
    expect(await of('live-first')).toEqual(await of('history-first'));
    expect((await of('live-first')).samples).toHaveLength(2);
    expect(await storedSamples('live-first')).toEqual(samplesOf([...live, ...backfill.filter((each) => each.minute % 3 === 0)]));
  });

  it('that comes late is folded into the packed hour, and told anew', async () => {
    const early = load('late', 3, hourAgo(20), 30, 4);
    const late = load('late', 3, hourAgo(20), 60, 4).filter((each) => each.minute >= hourAgo(20) + 30);
    await publish('late', 'usage', usageOf(early));
    await settled();
    await publish('late', 'usage', usageOf(late));
    await settled();
    expect(await storedSamples('late')).toEqual(samplesOf([...early, ...late]));
    expect(told('late')).toEqual({ minutes: 180, cpu: cpuOf([...early, ...late]) });
  });

  it('spanning hours in one batch is cut at them', async () => {
    const minutes = load('span', 1, hourAgo(60) + 45, 200, 5);
    await publish('span', 'usage', usageOf(minutes));
    await publish('span', 'requests', requestsOf(Array.from({ length: 200 }, (_, i): RequestMinute => ({ workload: refOf('span'), minute: hourAgo(60) + 45 + i, business: i % 2, probe: 4 }))));
    await settled();
    expect(await storedSamples('span')).toEqual(samplesOf(minutes));
    const { rows } = await database.query<{ closed: boolean }>(`SELECT closed FROM hour_state h JOIN cluster c ON c.id = h.cluster WHERE c.cluster_id = 'span'`);
    expect(rows).toHaveLength(5);
    const all = [...lastRollups('span').values()].flat();
    expect(all.reduce((sum, each) => sum + sumOf(each.request_business), 0)).toBe(100);
    expect(all.reduce((sum, each) => sum + sumOf(each.request_covered_minutes), 0)).toBe(200);
  });

  it('is told provisionally while its window is open, then finally, and is packed when its hour is over', async () => {
    const open = nowMinute() - (nowMinute() % 5);
    const minutes = load('clock', 2, open, nowMinute() - open + 1, 9);
    await publish('clock', 'usage', usageOf(minutes));
    await settled();
    const cluster = await history.cluster('clock');
    const hourMs = open * MINUTE_MS - ((open * MINUTE_MS) % HOUR_MS);
    const { platform } = service as Service;
    /** The same fold by a clock that is ahead. */
    const foldAt = async (nowMs: number): Promise<void> => {
      class Ahead extends FoldRepository {
        override due(): ReturnType<FoldRepository['due']> {
          return Promise.resolve({ hours: [{ cluster: cluster?.number as number, clusterId: 'clock', hourMs }], nowMs });
        }
      }
      const prepare = async (ms: number) => { for (const table of TIME_TABLES) await prepareTimes(platform.database, platform.databaseCapabilities, table, [ms]); };
      await new FoldService(new Ahead(platform.database), platform.outbox, platform.cache, prepare, { folded: () => undefined, windows: () => undefined }, platform.log, { nowMs: () => nowMs, settleMs: 0 }).step();
      await settled();
    };
    await waitFor('the provisional rollup', () => lastRollups('clock').get(open)?.[0]?.final === 0);
    const provisional = lastRollups('clock').get(open)?.[0]?.revision as number;
    await foldAt((open + 5) * MINUTE_MS + MINUTE_MS);
    expect(lastRollups('clock').get(open)?.[0]?.revision).toBe(provisional);
    await foldAt((open + 5) * MINUTE_MS + 3 * MINUTE_MS);
    await waitFor('the final rollup', () => lastRollups('clock').get(open)?.[0]?.final === 1);
    const final = lastRollups('clock').get(open)?.[0]?.revision as number;
    expect(final).toBeGreaterThan(provisional);
    expect(told('clock')).toEqual({ minutes: minutes.length, cpu: cpuOf(minutes) });

    await foldAt(hourMs + HOUR_MS + 11 * MINUTE_MS);
    const [hour] = await history.hours(cluster?.number as number, hourMs, hourMs + HOUR_MS);
    expect(hour).toMatchObject({ closed: true, windows: 1 << ((open % 60) / 5) });
    expect(await history.cells(cluster?.number as number, [hourMs], null)).toEqual([]);
    expect(await storedSamples('clock')).toEqual(samplesOf(minutes));
    // Packing says nothing new: the final rollup stands.
    expect(lastRollups('clock').get(open)?.[0]?.revision).toBe(final);
  });

  it('that cannot be right becomes a dead letter with its reason, and nothing else is lost', async () => {
    const before = (await listDeadLetters(bus, { service: 'intelligence' })).length;
    const good = load('good', 2, hourAgo(10), 60, 6);
    const minute = good[0]?.minute as number;
    const head = usageOf([good[0] as Minute]);
    const bad: [Uint8Array, Record<string, string>, RegExp][] = [
      [Buffer.from('no batch'), {}, /malformed usage batch: sample_series has wire type 6/],
      [encodeMessage(USAGE_BATCH, { version: 7, epoch: newEpoch() }), {}, /version 7: this build reads version 1/],
      [head, { [HEADERS.publishedAt]: new Date(Date.now() + 10 * MINUTE_MS).toISOString() }, /publish time .* lies 6\d\d s after/],
      [usageOf([{ ...(good[0] as Minute), minute: nowMinute() + 30 }]), {}, /after the bus took it/],
      [Uint8Array.from([...usageOf([{ ...(good[0] as Minute), minute }]), 15 * 8 + 2, 10, ...new Array<number>(9).fill(255), 1]), {}, /negative or over 2\^53/],
      [usageOf([{ ...(good[0] as Minute), minute: nowMinute() - 91 * 1440 }]), {}, /more than 90 days ago/],
    ];
    const half = good.length / 2;
    await Promise.all([publish('bad', 'usage', usageOf(good.slice(0, half))), ...bad.map(([payload, headers]) => publish('bad', 'usage', payload, headers)), publish('bad', 'usage', usageOf(good.slice(half)))]);
    await expect(bus.publish(subjects.agent('bad', 'usage'), new Uint8Array(10_000_000), { msgId: 'too-large' })).rejects.toThrow(/10000000/);
    await settled();
    const letters = await waitFor('the dead letters', async () => {
      const found = await listDeadLetters(bus, { service: 'intelligence' });
      return found.length >= before + bad.length ? found.slice(before) : null;
    });
    for (const [, , reason] of bad) expect(letters.filter((letter) => reason.test(letter.reason))).toHaveLength(1);
    expect(letters.every((letter) => letter.subject === subjects.agent('bad', 'usage'))).toBe(true);
    expect(await storedSamples('bad')).toEqual(samplesOf(good));
  });

  it('sent by a clock far behind is kept, counted and shown', async () => {
    const minutes = load('slow', 1, nowMinute() - 8, 2, 7);
    await publish('skew', 'usage', usageOf(minutes), { [HEADERS.publishedAt]: new Date(Date.now() - 20 * MINUTE_MS).toISOString() });
    await settled();
    expect(await storedSamples('skew')).toEqual(samplesOf(minutes));
    const coverage = await ask('coverage', { cluster_id: 'skew' });
    expect(coverage.gaps[0]).toMatchObject({ source: 'clock', reason: expect.stringMatching(/1 batches were published more than five minutes/) });
  });
});

describe('processes that die', () => {
  let logs: string;
  const children: ManagedProcess[] = [];
  const startChild = async (name: string, settleMs = 150): Promise<ManagedProcess> => {
    const child = new ManagedProcess({ name, command: process.execPath, args: [join(process.cwd(), 'services/intelligence/dist/main.js')], cwd: process.cwd(), logFile: join(logs, `${name}-${randomUUID()}.log`), env: { ...environment(), UPID_FOLD_SETTLE_MS: String(settleMs) } });
    await child.start();
    children.push(child);
    return child;
  };
  beforeAll(async () => {
    const built = spawnSync(process.execPath, [join(process.cwd(), 'scripts/build.mjs')], { encoding: 'utf8' });
    if (built.status !== 0) throw new Error(built.stderr);
    logs = await temporaryDirectory('intelligence');
    await stop();
  });
  afterAll(async () => {
    await Promise.all(children.map((child) => child.kill()));
    await start();
  });

  it('between the commit of a fold and its publishing lose no rollup', async () => {
    const child = await startChild('one', 2_000);
    const minutes = load('killed', 3, hourAgo(70), 60, 8);
    await publish('between', 'usage', usageOf(minutes));
    const manager = await bus.jetstreamManager();
    await waitFor('the batch to be stored and acknowledged', async () => {
      const consumer = await manager.consumers.info('TELEMETRY', 'intelligence-telemetry');
      return consumer.num_pending + consumer.num_ack_pending === 0 && (await database.query(`SELECT 1 FROM batch`)).rows.length === 1;
    });
    // The bus hangs: what the fold commits stays in the outbox.
    nats.pause();
    try {
      await waitFor('the fold', async () => (await database.query<{ n: number }>(`SELECT count(*)::int AS n FROM outbox WHERE subject = $1`, [subjects.rollup('between')])).rows[0]?.n === 12);
      await child.kill();
    } finally {
      nats.resume();
    }
    expect(lastRollups('between').size).toBe(0);
    await startChild('two');
    await settled();
    await waitFor('the rollups', () => told('between').minutes === minutes.length);
    expect(told('between').cpu).toBe(cpuOf(minutes));
    expect(await storedSamples('between')).toEqual(samplesOf(minutes));
  });

  it('at random moments, two replicas, bus and database among them, lose and double nothing', async () => {
    await Promise.all(children.splice(0).map((child) => child.kill()));
    const replicas = [await startChild('a'), await startChild('b')];
    let state = 12345;
    const random = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 32;
    };
    const all: Minute[] = [];
    const batches: Uint8Array[] = [];
    for (let hour = 0; hour < 20; hour++) {
      for (let part = 0; part < 6; part++) {
        const minutes = load(`work-${part}`, 4, hourAgo(120 - hour) + (part % 3) * 20, 20, 20 + part);
        all.push(...minutes);
        batches.push(usageOf(minutes));
      }
    }
    const repeated = [...batches, ...batches.filter(() => random() < 0.3)].map((batch) => [random(), batch] as const).sort((a, b) => a[0] - b[0]).map(([, batch]) => batch);
    const publishing = (async () => {
      for (const batch of repeated) {
        const msgId = `chaos/${published++}`;
        // As an agent does: the same id again until the bus has it.
        await waitFor('the bus to take a batch', () => bus.publish(subjects.agent('chaos', 'usage'), batch, { msgId }).then(() => true), { timeoutMs: 60_000 });
      }
    })();
    for (let round = 0; round < 6; round++) {
      await new Promise((resolve) => { setTimeout(resolve, 200 + random() * 700); });
      const victim = replicas[round % 2] as ManagedProcess;
      await victim.kill();
      if (round === 2) {
        await postgres.kill();
        await postgres.start();
      }
      if (round === 4) {
        await nats.kill();
        await nats.start();
      }
      replicas[round % 2] = await startChild(`chaos-${round}`);
    }
    await publishing;
    await settled();
    // What is on the bus, not what this connection happened to hear while servers died.
    await bus.drain();
    await listen();
    expect(await storedSamples('chaos')).toEqual(samplesOf(all));
    await waitFor('every rollup', () => told('chaos').minutes === samplesOf(all).length, { timeoutMs: 30_000 });
    expect(told('chaos').cpu).toBe(cpuOf(all));
    const { rows } = await database.query<{ batches: number }>(`SELECT count(*)::int AS batches FROM batch_name n JOIN cluster c ON c.id = n.cluster WHERE c.cluster_id = 'chaos'`);
    expect(rows[0]?.batches).toBe(batches.length);
  }, 240_000);
});

describe('judgements and answers', () => {
  const probed = refOf('promo-preview');
  const busy = refOf('checkout');
  const probedPods = [uidOf('b', 900_001), uidOf('b', 900_002)];
  const busyPod = uidOf('b', 900_003);
  const youngPod = uidOf('b', 900_004);
  const DAYS = 16;

  it('a fresh workload is unknown, and what is missing is said', async () => {
    await inventory('fresh', [nodeObject(1), workloadObject(uidOf('c', 1), refOf('cart')), podObject(uidOf('b', 1000), 'cart-1', refOf('cart'))]);
    await publish('fresh', 'usage', usageOf(load('cart', 1, nowMinute() - 7, 6, 1)));
    const judged = await waitFor('an assessment', () => assessments.find((each) => each.clusterId === 'fresh' && each.assessment.judgement.data_points > 0));
    expect(judged.policy).toBe('for-tests');
    expect(judged.assessment).toMatchObject({ workload: refOf('cart'), uid: uidOf('c', 1), judgement: { state: 'unknown', data_points: 6, missing: expect.arrayContaining(['24 h observed; 0.1 h so far']) }, idle_periods: null, time_zone: 'UTC' });
    const cluster = await ask('cluster', { cluster_id: 'fresh', start: toTimestamp(Date.now() - HOUR_MS), end: toTimestamp(Date.now()) });
    expect(cluster).toMatchObject({ nodes: 1, pods: 1, states: { unknown: 1, idle: 0 } });
    expect(cluster.cpu.used).toBeCloseTo(cpuOf(load('cart', 1, nowMinute() - 7, 6, 1)) / 6, 0);
    expect(cluster.cpu).toMatchObject({ requested: 500, allocatable: 3800, capacity: 4000 });
    const pod = await ask('pod', { cluster_id: 'fresh', namespace: 'shop', pod_name: 'cart-1', start: toTimestamp(Date.now() - HOUR_MS), end: toTimestamp(Date.now()) });
    expect(pod).toMatchObject({ pod: { uid: uidOf('b', 1000), node_name: 'node-1' }, insight: { judgement: { state: 'unknown' }, usage: { covered_minutes: 6 }, requests: null, coverage: { requests: null } } });
    expect(pod.insight.coverage.reasons.requests).toMatch(/no request telemetry/);
    const latest = await ask('latest', { cluster_id: 'fresh', pod_uids: [uidOf('b', 1000)] });
    expect(latest.pods).toMatchObject([{ uid: uidOf('b', 1000), minute: toTimestamp((nowMinute() - 2) * MINUTE_MS) }].map((each) => ({ uid: each.uid })));
    expect(latest.pods[0]?.cpu_millicores).toBeGreaterThan(0);
  });

  it('with two weeks of history, who only answers probes is idle and who does business is not', async () => {
    const start = hourAgo(DAYS * 24);
    const end = nowMinute() - 1;
    for (let from = start; from < end; from += 60) {
      const count = Math.min(60, end - from);
      const minutes: Minute[] = [];
      const rows: RequestMinute[] = [];
      for (let i = 0; i < count; i++) {
        const hourOfDay = Math.floor((from + i) / 60) % 24;
        for (const uid of probedPods) minutes.push({ uid, workload: probed, minute: from + i, cpu: 3 + (i % 2), pages: 9000, receive: 200 });
        const atWork = hourOfDay >= 8 && hourOfDay < 20;
        minutes.push({ uid: busyPod, workload: busy, minute: from + i, cpu: atWork ? 300 + (i % 50) : 20, pages: 20_000, receive: atWork ? 90_000 : 500 });
        rows.push({ workload: probed, minute: from + i, probe: 6 }, { workload: busy, minute: from + i, business: atWork ? 40 : 1, probe: 6, errors: i === 7 ? 1 : 0 });
      }
      if (from + count >= end) minutes.push({ uid: youngPod, workload: probed, minute: from + count - 1, cpu: 3, pages: 9000 });
      await publish('shop', 'usage', usageOf(minutes, { source: 'prometheus' }));
      await publish('shop', 'requests', requestsOf(rows));
    }
    await inventory('shop', [
      nodeObject(1), workloadObject(uidOf('c', 11), probed, { replicas: 3 }), workloadObject(uidOf('c', 12), busy), ...probedPods.map((uid, i) => podObject(uid, `promo-preview-${i}`, probed)), podObject(youngPod, 'promo-preview-young', probed), podObject(busyPod, 'checkout-0', busy),
      { kind: 'Dependency', uid: uidOf('c', 13), namespace: 'shop', name: 'promo-preview-to-checkout', from: probed, to_service: { namespace: 'shop', name: 'checkout' }, to_workloads: [busy], source: 'environment' },
    ]);
    await settled();
    const idle = await waitFor('the idle one', () => assessments.findLast((each) => each.clusterId === 'shop' && workloadKey(each.assessment.workload) === workloadKey(probed) && each.assessment.judgement.state === 'idle' && each.assessment.idle_periods !== null), { timeoutMs: 90_000 });
    const { assessment } = idle;
    expect(assessment.judgement.idle_probability).toBeGreaterThan(95);
    expect(assessment.judgement.confidence).toBe(99);
    expect(assessment.judgement.factors.map((factor) => factor.score === null)).toEqual([false, false, false, false]);
    expect(assessment.judgement.factors[0]).toMatchObject({ score: 100, evidence: expect.stringMatching(/No business request .* 100 % of .* requests were health checks/) });
    expect(assessment.pods).toHaveLength(3);
    expect(assessment.pods_mean_idle_probability).toBeGreaterThan(95);
    expect(assessment.pods_lowest_confidence).toBe(99);
    // The youngest is judged with its workload's history.
    expect(assessment.pods.find((pod) => pod.uid === youngPod)?.judgement).toEqual(assessment.judgement);
    expect(assessment.pods.find((pod) => pod.uid === probedPods[0])?.judgement.data_points).toBeGreaterThan(9000);
    expect(assessment.idle_periods).toEqual([{ start_hour: 0, end_hour: 168 }]);
    const active = assessments.findLast((each) => each.clusterId === 'shop' && workloadKey(each.assessment.workload) === workloadKey(busy));
    expect(active?.assessment.judgement.state).toBe('active');
    expect(active?.assessment.judgement.idle_probability).toBeLessThan(40);
  }, 240_000);

  const week = () => ({ start: toTimestamp(Date.now() - 7 * DAY_MS), end: toTimestamp(Date.now()) });

  it('answers for a pod, a workload and the cluster', async () => {
    const pod = await ask('pod', { cluster_id: 'shop', namespace: 'shop', pod_name: 'checkout-0', ...week() });
    expect(pod.insight).toMatchObject({ workload: busy, business_criticality: 'high', time_zone: 'UTC', performance: { oom_kills: 0, restarts: 0 } });
    expect(pod.insight.usage.covered_minutes).toBeGreaterThan(10_000);
    expect(pod.insight.usage.cpu_millicores?.max).toBe(349);
    // Whole hours at the ends of the week: near what a day has.
    const perDay = 60 * (12 * 40 + 12);
    expect((pod.insight.requests?.business_per_day ?? 0) / perDay).toBeCloseTo(1, 1);
    expect(pod.insight.patterns.map((pattern) => pattern.type)).toContain('daily');
    // Every day is like the other; the hours that are cut at the ends may leave a small trend.
    expect(Math.abs(pod.insight.trends.usage.change_percent_per_week ?? 0)).toBeLessThan(10);
    expect(pod.insight.coverage.usage).toBeGreaterThan(0.99);
    const workload = await ask('workload', { cluster_id: 'shop', namespace: 'shop', kind: null, name: 'promo-preview', ...week() });
    expect(workload).toMatchObject({ replicas: 3, insight: { uid: uidOf('c', 11), judgement: { state: 'idle' }, idle_periods: [{ start_hour: 0, end_hour: 168 }] }, assessment: { judgement: { state: 'idle' } } });
    expect(workload.pods.map((each) => each.name).sort()).toEqual(['promo-preview-0', 'promo-preview-1', 'promo-preview-young']);
    expect(workload.pods.find((each) => each.uid === probedPods[0])?.usage.cpu_millicores?.mean).toBeCloseTo(3.5, 1);
    expect((await ask('workload', { cluster_id: 'shop', namespace: 'shop', kind: 'Deployment', name: 'checkout', ...week() })).service_reliability).toBeCloseTo(1 - 24 / perDay, 4);
    const cluster = await ask('cluster', { cluster_id: 'shop', ...week() });
    expect(cluster.states).toMatchObject({ idle: 1, active: 1, unknown: 0 });
    expect(cluster.workloads).toHaveLength(2);
    expect((cluster.requests_per_day ?? 0) / perDay).toBeCloseTo(1, 1);
    expect((await ask('cluster', { cluster_id: 'shop', namespace: 'shop', ...week() })).pods).toBe(4);
  });

  it('answers a short range to the minute', async () => {
    const hour = hourAgo(5);
    const pod = await ask('workload', { cluster_id: 'shop', namespace: 'shop', kind: null, name: 'promo-preview', start: toTimestamp((hour + 10) * MINUTE_MS), end: toTimestamp((hour + 40) * MINUTE_MS) });
    expect(pod.insight.usage.covered_minutes).toBe(30);
    expect(pod.insight.requests).toMatchObject({ covered_minutes: 30, probe: 180 });
    const range = { start: toTimestamp((hour + 10) * MINUTE_MS), end: toTimestamp((hour + 40) * MINUTE_MS) };
    expect((await ask('requests', { cluster_id: 'shop', workload: pod.insight.workload, ...range })).requests).toEqual(pod.insight.requests);
    expect((await ask('requests', { cluster_id: 'shop', workload: { ...pod.insight.workload, name: 'nobody' }, ...range })).requests).toBeNull();
  });

  it('gives the hours that right-sizing needs', async () => {
    const history = await ask('usage_history', { cluster_id: 'shop', workload: busy, start: toTimestamp(Date.now() - 3 * DAY_MS), end: toTimestamp(Date.now()) });
    expect(history.containers.map((container) => container.name)).toEqual(['app']);
    const hours = history.containers[0]?.hours ?? [];
    expect(hours.length).toBeGreaterThanOrEqual(72);
    const full = hours.slice(0, -2);
    expect(full.every((hour) => hour.covered_minutes === 60 && hour.pods === 1 && hour.cpu_distribution.reduce((sum, [, count]) => sum + count, 0) === 60)).toBe(true);
    expect(full.every((hour) => hour.memory_bytes_max === 20_000 * 4096)).toBe(true);
  });

  it('tells coverage, gaps and the progress of backfill', async () => {
    const event = (type: CoverageEvent['type'], detail: CoverageEvent['detail'] = {}): string => JSON.stringify({ version: 1, id: randomUUID(), type, source: 'usage', start: toTimestamp(Date.now() - HOUR_MS), end: toTimestamp(Date.now()), reason: type === 'gap' ? 'the spool was full' : 'history is being read', count: 3, workload: null, detail });
    const gap = event('gap');
    await publish('shop', 'coverage', gap);
    await publish('shop', 'coverage', gap);
    await publish('shop', 'coverage', event('backfill_progress', { progress: 0.25 }));
    const coverage = await waitFor('the events', async () => {
      const answer = await ask('coverage', { cluster_id: 'shop' });
      return answer.backfill && answer.gaps.length > 0 ? answer : null;
    });
    expect(coverage).toMatchObject({ backfill: { done: false, progress: 0.25 }, gaps: [{ source: 'usage', reason: 'the spool was full' }], usage_since: toTimestamp(hourAgo(DAYS * 24) * MINUTE_MS) });
    expect(coverage.usage_covered_24h).toBeGreaterThan(0.99);
    expect(coverage.requests_covered_24h).toBeGreaterThan(0.99);
    await publish('shop', 'coverage', event('backfill_done', { progress: 1 }));
    await waitFor('the end', async () => (await ask('coverage', { cluster_id: 'shop' })).backfill?.done === true);
  });

  it('refuses what it does not know, in a sentence', async () => {
    await expect(ask('coverage', { cluster_id: 'nowhere' })).rejects.toMatchObject({ code: 'cluster_not_found' });
    await expect(ask('pod', { cluster_id: 'shop', namespace: 'shop', pod_name: 'nobody', ...week() })).rejects.toMatchObject({ code: 'not_found', message: expect.stringMatching(/no pod nobody in namespace shop/) });
    await expect(ask('workload', { cluster_id: 'shop', namespace: 'shop', kind: 'StatefulSet', name: 'checkout', ...week() })).rejects.toMatchObject({ code: 'not_found' });
    await expect(ask('cluster', { cluster_id: 'shop', namespace: 'nowhere', ...week() })).rejects.toMatchObject({ code: 'not_found' });
    const { start: from, end } = week();
    await expect(ask('cluster', { cluster_id: 'shop', start: end, end: from })).rejects.toMatchObject({ code: 'invalid_time_range' });
  });

  it('goes on without the cache', async () => {
    await redis.kill();
    await publish('fresh', 'usage', usageOf([{ uid: uidOf('b', 1000), workload: refOf('cart'), minute: nowMinute() - 1, cpu: 77, pages: 4 }]));
    await settled();
    await waitFor('the latest from the cells', async () => (await ask('latest', { cluster_id: 'fresh', pod_uids: [uidOf('b', 1000)] })).pods.some((pod) => pod.cpu_millicores === 77));
  });
});

describe('the way of a day', () => {
  it('is kept as aggregates that are the sums of its hours', async () => {
    const day = Math.floor((Date.now() - 5 * DAY_MS) / DAY_MS) * DAY_MS;
    const minutes = Array.from({ length: 24 }, (_, hour) => load('daily', 2, day / MINUTE_MS + hour * 60, 60, 40)).flat();
    for (let hour = 0; hour < 24; hour++) await publish('days', 'usage', usageOf(minutes.filter((each) => Math.floor(each.minute / 60) === day / HOUR_MS + hour)));
    await settled();
    const cluster = await history.cluster('days');
    const aggregate = await waitFor('the day', async () => {
      const keys = await history.workloadKeys(cluster?.number as number);
      const [row] = await history.workloadDays(cluster?.number as number, day, day + DAY_MS, keys.keys());
      const found = row ? unpackAggregate(row.aggregate) : null;
      return found && found.pod.minutes === minutes.length ? found : null;
    }, { timeoutMs: 60_000 });
    expect(aggregate.containers[0]?.cpuMillicoreMinutes).toBe(cpuOf(minutes));
    expect(aggregate.quarters.minutes.every((each) => each === 15)).toBe(true);
  });

  it('is summed anew for a cluster when what was packed changes', async () => {
    const hours = [hourAgo(50), hourAgo(20), hourAgo(5)];
    const used = async () => (await ask('cluster', { cluster_id: 'moved', start: toTimestamp(Date.now() - 3 * DAY_MS), end: toTimestamp(Date.now()) })).cpu.used;
    const tell = async (minutes: Minute[]) => {
      for (const hour of hours) await publish('moved', 'usage', usageOf(minutes.filter((each) => Math.floor(each.minute / 60) === hour / 60)));
      await settled();
    };
    const early = hours.flatMap((hour) => load('early', 1, hour, 60, 50));
    const late = hours.flatMap((hour) => load('late', 1, hour, 60, 60));
    await tell(early);
    const perMinute = (minutes: readonly Minute[]) => cpuOf(minutes) / (hours.length * 60);
    await waitFor('the first sums', async () => Math.abs(((await used()) ?? 0) - perMinute(early)) < 0.01, { timeoutMs: 60_000 });
    await tell(late);
    await waitFor('sums with what came late', async () => Math.abs(((await used()) ?? 0) - perMinute([...early, ...late])) < 0.01, { timeoutMs: 60_000 });
  });
});
