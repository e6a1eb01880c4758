import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { StreamDefinition } from '@upid/contracts';
import { Bus, connectBus, createLogger, Database, MAX_MESSAGE_BYTES, MessageTooLargeError, migrate, type NatsServerHandle, Outbox, platformMigrations, type ServerHandle, startNats, startPostgres } from '../index.js';

const log = createLogger('test', { level: 'silent' });
const MiB = 1024 * 1024;
const streams: StreamDefinition[] = [
  { name: 'FACTS', subjects: ['o.>'], maxBytes: 64 * MiB, maxAgeMs: 3_600_000, discard: 'new', duplicateWindowMs: 600_000 },
  { name: 'PUBLIC', subjects: ['full.>'], maxBytes: 64 * 1024, maxAgeMs: 3_600_000, discard: 'new', duplicateWindowMs: 600_000 },
];
let dir: string;
let nats: NatsServerHandle;
let postgres: ServerHandle;
let bus: Bus;
const databases: Database[] = [];
const children = new Set<ChildProcess>();

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'upid-outbox-'));
  [nats, postgres] = await Promise.all([startNats({ dir: join(dir, 'nats') }), startPostgres({ dir: join(dir, 'postgres') })]);
  bus = await connectBus({ url: nats.url, name: 'cost' });
  await bus.ensureStreams(streams);
});
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await Promise.all(databases.map((database) => database.close()));
  await bus?.drain();
  await Promise.all([nats?.stop(), postgres?.stop()]);
  await rm(dir, { recursive: true, force: true });
});

async function schema(name: string): Promise<Database> {
  const database = new Database({ url: postgres.url, schema: name });
  databases.push(database);
  await migrate(database, [platformMigrations]);
  return database;
}
async function until(condition: () => boolean | Promise<boolean>, withinMs = 30_000): Promise<void> {
  for (const deadline = Date.now() + withinMs; !(await condition());) {
    if (Date.now() > deadline) throw new Error(`${condition.toString()} did not come true within ${withinMs} ms`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}
async function published(filter: string, from = bus): Promise<{ subject: string; id: string; bytes: number }[]> {
  const manager = await from.jetstreamManager();
  const found: { subject: string; id: string; bytes: number }[] = [];
  for (let seq = 1; ;) {
    const message = await manager.direct.getMessage('FACTS', { seq, next_by_subj: filter });
    if (!message) return found;
    found.push({ subject: message.subject, id: message.header.get('Upid-Message-Id'), bytes: message.data.length });
    seq = message.seq + 1;
  }
}

/** The relays run from what is built, as in production. */
function build(): void {
  const built = spawnSync(process.execPath, [join(import.meta.dirname, '../../../scripts/build.mjs')], { encoding: 'utf8' });
  if (built.status !== 0) throw new Error(built.stderr);
}

/** A relay in a process of its own; `sabotage` is code that runs in it before it starts. */
async function relay(schemaName: string, sabotage = ''): Promise<ChildProcess> {
  const code = `
    import { connectBus, createLogger, Database, Outbox } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)};
    const log = createLogger('relay', { level: 'silent' });
    const bus = await connectBus({ url: process.env.NATS, name: 'cost' });
    ${sabotage}
    new Outbox(new Database({ url: process.env.POSTGRES, schema: ${JSON.stringify(schemaName)}, log }), bus, { log }).start();
    console.log('started');
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], { env: { ...process.env, NATS: nats.url, POSTGRES: postgres.url }, stdio: ['ignore', 'pipe', 'inherit'] });
  children.add(child);
  await once(child.stdout, 'data');
  return child;
}

describe('the outbox', () => {
  it('publishes what was committed, at once, in order per subject, and nothing of what was rolled back', async () => {
    const database = await schema('ordered');
    const outbox = new Outbox(database, bus, { log });
    outbox.start();
    await database.transaction((tx) => outbox.add(tx, [0, 1, 2].map((n) => ({ subject: `o.ordered.${n % 2}`, payload: Buffer.alloc(n), msgId: `m${n}` }))));
    const started = performance.now();
    await until(async () => (await published('o.ordered.*')).length === 3);
    expect(performance.now() - started).toBeLessThan(5_000);
    await expect(database.transaction(async (tx) => {
      await outbox.add(tx, { subject: 'o.ordered.0', payload: Buffer.from('x'), msgId: 'never' });
      throw new Error('rolled back');
    })).rejects.toThrow('rolled back');
    await database.transaction(async (tx) => {
      for (let n = 3; n < 200; n++) await outbox.add(tx, { subject: `o.ordered.${n % 2}`, payload: Buffer.from('x'), msgId: `m${n}` });
    });
    await until(async () => (await outbox.depth()).messages === 0);
    await outbox.stop();
    const ids = (await published('o.ordered.*')).map((each) => each.id);
    expect(ids.filter((id) => Number(id.slice(1)) % 2 === 0)).toEqual(Array.from({ length: 100 }, (_, i) => `m${2 * i}`));
    expect(ids.filter((id) => Number(id.slice(1)) % 2 === 1)).toEqual(Array.from({ length: 100 }, (_, i) => `m${2 * i + 1}`));
  });

  it('carries large payloads, refuses what the bus would, and tells its depth', async () => {
    const database = await schema('large');
    const outbox = new Outbox(database, bus, { log });
    await expect(database.transaction((tx) => outbox.add(tx, { subject: 'o.large.x', payload: Buffer.alloc(10 * MiB) }))).rejects.toThrow(MessageTooLargeError);
    await database.transaction((tx) => outbox.add(tx, Array.from({ length: 40 }, (_, i) => ({ subject: 'o.large.x', payload: Buffer.alloc(MAX_MESSAGE_BYTES, i) }))));
    expect(await outbox.depth()).toMatchObject({ messages: 40 });
    outbox.start();
    await until(async () => (await outbox.depth()).messages === 0);
    await outbox.stop();
    const found = await published('o.large.x');
    expect(found.map((each) => each.bytes)).toEqual(Array.from({ length: 40 }, () => MAX_MESSAGE_BYTES));
    expect(new Set(found.map((each) => each.id)).size).toBe(40);
  });

  it('a stream that is full holds up its own subjects alone', async () => {
    const database = await schema('blocked');
    const outbox = new Outbox(database, bus, { log });
    outbox.start();
    await database.transaction(async (tx) => {
      await outbox.add(tx, Array.from({ length: 600 }, (_, i) => ({ subject: 'full.x', payload: Buffer.alloc(40_000), msgId: `f${i}` })));
      await outbox.add(tx, { subject: 'o.blocked.x', payload: Buffer.from('x'), msgId: 'free' });
    });
    await until(async () => (await published('o.blocked.x')).length === 1);
    await until(async () => (await outbox.depth()).messages === 599);
    await outbox.stop(0);
  });

  it('goes out once although the relay dies between the bus\'s acknowledgement and the deletion of the row', async () => {
    build();
    const database = await schema('between');
    const writer = new Outbox(database, bus, { log });
    await database.transaction((tx) => writer.add(tx, Array.from({ length: 10 }, (_, i) => ({ subject: 'o.between.x', payload: Buffer.from('x'), msgId: `b${i}` }))));
    const dying = await relay('between', 'let acknowledged = 0; const publish = bus.publish.bind(bus); bus.publish = async (...given) => { const ack = await publish(...given); if (++acknowledged === 5) process.kill(process.pid, "SIGKILL"); return ack; };');
    if (dying.exitCode === null && dying.signalCode === null) await once(dying, 'exit');
    expect(dying.signalCode).toBe('SIGKILL');
    expect((await published('o.between.x')).map((each) => each.id)).toEqual(['b0', 'b1', 'b2', 'b3', 'b4']);
    expect((await writer.depth()).messages).toBe(10);
    writer.start();
    await until(async () => (await writer.depth()).messages === 0);
    await writer.stop();
    expect((await published('o.between.x')).map((each) => each.id)).toEqual(Array.from({ length: 10 }, (_, i) => `b${i}`));
  });

  it('goes out exactly once, whichever of relays, bus and database is killed', async () => {
    build();
    const database = await schema('killed');
    const start = () => relay('killed');
    const kill = async (child: ChildProcess) => { child.kill('SIGKILL'); await once(child, 'exit'); children.delete(child); };
    const writer = new Outbox(database, bus, { log });
    const committed: string[] = [];
    const state = { writing: true };
    const writing = (async () => {
      for (let n = 0; state.writing; n++) {
        // The writer tries again under the same ids when it cannot know whether its commit stands: the second is dropped by its key below.
        await database.transaction((tx) => writer.add(tx, [0, 1, 2].map((lane) => ({ subject: `o.killed.${lane}`, payload: Buffer.from('x'), msgId: `${lane}/${String(n).padStart(6, '0')}` }))), { waitMs: 60_000 }).catch((error: Error) => {
          if (!/committed/.test(error.message)) throw error;
        });
        committed.push(...[0, 1, 2].map((lane) => `${lane}/${String(n).padStart(6, '0')}`));
        await new Promise((resolve) => { setTimeout(resolve, 2); });
      }
    })();
    let relays = await Promise.all([start(), start()]);
    for (let round = 0; round < 6; round++) {
      const from = committed.length;
      await until(() => committed.length > from + 60);
      if (round === 2) {
        await nats.kill();
        nats = await startNats({ dir: join(dir, 'nats'), port: nats.port });
      } else if (round === 4) {
        await postgres.kill();
        postgres = await startPostgres({ dir: join(dir, 'postgres'), port: postgres.port });
      } else {
        const [one, two] = relays;
        await kill(round % 2 === 0 ? one! : two!);
        relays = round % 2 === 0 ? [await start(), two!] : [one!, await start()];
      }
    }
    state.writing = false;
    await writing;
    await until(async () => (await writer.depth()).messages === 0, 60_000);
    for (const child of relays) await kill(child);
    const ids = (await published('o.killed.*')).map((each) => each.id);
    const known = new Set(committed);
    // A commit whose answer was lost may stand or not; all others stand, and nothing is there twice.
    expect(ids.length).toBe(new Set(ids).size);
    const missing = committed.filter((id) => !ids.includes(id));
    expect(missing.length).toBeLessThanOrEqual(3);
    expect(ids.every((id) => known.has(id))).toBe(true);
    for (const lane of [0, 1, 2]) {
      const own = ids.filter((id) => id.startsWith(`${lane}/`));
      expect(own).toEqual(own.toSorted());
      expect(own.length).toBeGreaterThan(60);
    }
  });
});
