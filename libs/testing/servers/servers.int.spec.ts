import { existsSync } from 'node:fs';
import { AckPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { Redis } from 'ioredis';
import pg from 'pg';
import { waitFor } from '../wait.js';
import { ForeignServerError, type TestPostgres, startNats, startPostgres, startRedis } from './servers.js';

/** Runs one statement on a connection of its own. */
async function query<Row extends object>(url: string, statement: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined); // the query's own rejection says it
  await client.connect();
  try {
    return (await client.query<Row>(statement)).rows;
  } finally {
    await client.end();
  }
}

describe('PostgreSQL for tests', () => {
  let postgres: TestPostgres;
  beforeAll(async () => {
    postgres = await startPostgres({ own: true });
  });
  afterAll(async () => {
    await postgres.stop();
  });

  it('gives each test a database of its own', async () => {
    const [one, other] = await Promise.all([postgres.createDatabase(), postgres.createDatabase()]);
    await query(one.url, 'CREATE TABLE mine (n int)');
    await expect(query(other.url, 'SELECT * FROM mine')).rejects.toThrow(/does not exist/);
    const held = new pg.Client({ connectionString: one.url });
    const ended = new Promise((resolve) => held.on('error', resolve));
    await held.connect();
    await one.drop();
    await ended;
    await expect(query(one.url, 'SELECT 1')).rejects.toThrow(/does not exist/);
    await other.drop();
  });

  it('keeps what was committed over a crash, at the same URL', async () => {
    const { url } = await postgres.createDatabase();
    await query(url, 'CREATE TABLE kept AS SELECT 42 AS n');
    await postgres.kill();
    await expect(query(url, 'SELECT 1')).rejects.toThrow(/ECONNREFUSED/);
    await postgres.start();
    expect(await query(url, 'SELECT n FROM kept')).toEqual([{ n: 42 }]);
  });

  it('comes back although its orphaned backends are still at work', async () => {
    const { url } = await postgres.createDatabase();
    const busy = [...Array.from({ length: 8 }, () => 'SELECT pg_sleep(60)'), 'SELECT count(*) FROM generate_series(1, 8000000)'].map((statement) => query(url, statement));
    const ended = Promise.allSettled(busy);
    await waitFor('them to be at work', async () => (await query<{ n: string }>(url, `SELECT count(*) AS n FROM pg_stat_activity WHERE state = 'active'`))[0]?.n === '10');
    await postgres.kill();
    await postgres.start();
    expect(await query(url, 'SELECT 1 AS n')).toEqual([{ n: 1 }]);
    await ended;
  });

  it('hangs and goes on', async () => {
    const { url } = await postgres.createDatabase();
    postgres.pause();
    let answered = false;
    const answer = query(url, 'SELECT 1 AS n').then((rows) => {
      answered = true;
      return rows;
    });
    await expect(waitFor('an answer', () => answered, { timeoutMs: 300 })).rejects.toThrow(/in vain/);
    postgres.resume();
    expect(await answer).toEqual([{ n: 1 }]);
  });
});

describe('NATS for tests', () => {
  it('keeps a stream over a crash', async () => {
    const nats = await startNats({ own: true });
    try {
      let connection = await connect({ servers: nats.url });
      await (await jetstreamManager(connection)).streams.add({ name: 'KEPT', subjects: ['kept.>'] });
      await jetstream(connection).publish('kept.a', 'payload');
      const closed = connection.closed();
      await nats.kill();
      await nats.start();
      await connection.close();
      await closed;
      connection = await connect({ servers: nats.url });
      const manager = await jetstreamManager(connection);
      await manager.consumers.add('KEPT', { durable_name: 'reader', ack_policy: AckPolicy.Explicit });
      const message = await (await jetstream(connection).consumers.get('KEPT', 'reader')).next({ expires: 5_000 });
      expect(message?.string()).toBe('payload');
      await connection.close();
    } finally {
      await nats.stop();
    }
  });

  it('reads a new configuration, and starts with it from then on', async () => {
    const config = (user: string) => `jetstream {}\nauthorization { user: ${user}, password: secret }\n`;
    const nats = await startNats({ config: config('first') });
    const as = async (user: string) => {
      const connection = await connect({ servers: nats.url, user, pass: 'secret', reconnect: false });
      await connection.close();
    };
    try {
      await as('first');
      await nats.reload(config('second'));
      await as('second');
      await nats.kill();
      await nats.start();
      await as('second');
      await expect(as('first')).rejects.toThrow(/authorization/i);
    } finally {
      await nats.stop();
    }
  });
});

describe('Redis for tests', () => {
  it('is empty after a restart, and gone after its end', async () => {
    const redis = await startRedis({ own: true });
    const client = () => new Redis(redis.url, { lazyConnect: true, retryStrategy: null });
    const { pid } = redis;
    const first = client();
    await first.set('a', '1');
    expect(await first.get('a')).toBe('1');
    first.disconnect();
    await redis.restart();
    expect(redis.pid).not.toBe(pid);
    const second = client();
    expect(await second.get('a')).toBeNull();
    second.disconnect();
    const last = redis.pid ?? 0;
    expect(existsSync(`/proc/${last}`)).toBe(true);
    await redis.stop();
    expect(existsSync(`/proc/${last}`)).toBe(false);
  });
});

describe('a server that the environment names', () => {
  const before = process.env['UPID_REDIS_URL'];
  afterEach(() => {
    if (before === undefined) delete process.env['UPID_REDIS_URL'];
    else process.env['UPID_REDIS_URL'] = before;
  });

  it('is used and never stopped', async () => {
    const theirs = await startRedis({ own: true });
    try {
      process.env['UPID_REDIS_URL'] = theirs.url;
      const redis = await startRedis();
      expect(redis.url).toBe(theirs.url);
      expect(redis.own).toBe(false);
      await expect(redis.kill()).rejects.toThrow(ForeignServerError);
      await redis.stop();
      const client = new Redis(redis.url);
      expect(await client.ping()).toBe('PONG');
      client.disconnect();
    } finally {
      await theirs.stop();
    }
  });
});
