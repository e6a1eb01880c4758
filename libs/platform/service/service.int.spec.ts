import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Controller, Module } from '@nestjs/common';
import { STREAMS, UpidError } from '@upid/contracts';
import { z } from 'zod';
import { type BatchDelivery, connectBus, Consume, ConsumeBatch, Database, type Delivery, type NatsServerHandle, Outbox, Platform, Query, type RunningService, type ServerHandle, type ServiceDefinition, setting, startNats, startPostgres, startRedis, startService } from '../index.js';

let dir: string;
let nats: NatsServerHandle;
let postgres: ServerHandle;
let redis: ServerHandle;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'upid-service-'));
  [nats, postgres, redis] = await Promise.all([startNats({ dir: join(dir, 'nats') }), startPostgres({ dir: join(dir, 'postgres'), settings: { fsync: 'off' } }), startRedis({ dir: join(dir, 'redis') })]);
  await mkdir(join(dir, 'migrations'));
  await writeFile(join(dir, 'migrations', '0001_counted.sql'), '-- Up Migration\nCREATE TABLE counted (name text PRIMARY KEY, value int NOT NULL);\n');
});
afterAll(async () => {
  await Promise.all([nats?.stop(), postgres?.stop(), redis?.stop()]);
  await rm(dir, { recursive: true, force: true });
});

const eventSchema = z.object({ version: z.literal(1), name: z.string(), value: z.number().int() });

@Controller()
class Consumers {
  constructor(private readonly database: Database, private readonly outbox: Outbox, private readonly platform: Platform) {}

  @Consume({ stream: 'FACTS', subjects: ['upid.v1.*.agent.business'], durable: 'business' })
  async business(message: Delivery): Promise<void> {
    const event = message.json(eventSchema);
    await this.database.transaction(async (tx) => {
      await tx.query('INSERT INTO counted VALUES ($1, $2) ON CONFLICT DO NOTHING', [event.name, event.value]);
      await this.outbox.add(tx, { subject: 'upid.v1.demo.cost.allocation', payload: message.payload, msgId: `counted/${event.name}` });
    });
  }

  @ConsumeBatch({ stream: 'TELEMETRY', subjects: ['upid.v1.*.agent.usage'], durable: 'usage', maxMessages: 50 })
  async usage(messages: BatchDelivery[]): Promise<void> {
    await this.platform.cache.setMany(messages.map((each) => [each.messageId, String(messages.length)]), 60);
  }

  @Query('count', z.object({ above: z.number().default(0) }))
  async count({ above }: { above: number }): Promise<{ count: number }> {
    const { rows } = await this.database.query<{ count: number }>('SELECT count(*)::int AS count FROM counted WHERE value > $1', [above]);
    return { count: rows[0]?.count ?? 0 };
  }

  @Query('refuse', z.unknown())
  async refuse(): Promise<never> {
    await Promise.resolve();
    throw new UpidError('unsafe', 'it must not sleep', { check: 'critical' });
  }
}
@Module({ controllers: [Consumers] })
class TestModule {}

const definition: ServiceDefinition<{ greeting: ReturnType<typeof setting<string>> }> = {
  name: 'cost', schema: 'cost', settings: { greeting: setting('UPID_GREETING', z.string().default('hello'), 'a greeting') }, module: () => TestModule, streams: STREAMS, inventory: true,
  get migrations() { return join(dir, 'migrations'); },
};
const env = () => ({ UPID_NATS_URL: nats.url, UPID_DATABASE_URL: postgres.url, UPID_REDIS_URL: redis.url, UPID_LOG_LEVEL: 'error' });

async function until<T>(probe: () => Promise<T>, good: (value: T) => boolean, withinMs = 15_000): Promise<T> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const value = await probe();
    if (good(value)) return value;
    if (Date.now() > deadline) throw new Error(`still ${JSON.stringify(value)} after ${withinMs} ms`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

describe('a service', () => {
  it('consumes, stores, publishes what follows, answers, and tells how it is', async () => {
    const [one, two]: RunningService<typeof definition.settings>[] = await Promise.all([startService(definition, env()), startService(definition, env())]);
    const client = await connectBus({ url: nats.url, name: 'gateway' });
    try {
      const followed: string[] = [];
      await client.tail({ stream: 'FACTS', subjects: ['upid.v1.*.cost.>'], from: new Date(0) }, (message) => { followed.push(message.messageId); });
      for (let value = 0; value < 20; value++) {
        await client.publish('upid.v1.demo.agent.business', Buffer.from(JSON.stringify({ version: 1, name: `n${value}`, value })), { msgId: `b${value}` });
        await client.publish('upid.v1.demo.agent.usage', Buffer.from('x'), { msgId: `u${value}` });
      }
      await until(() => client.ask<{ count: number }>('cost', 'count', {}), ({ count }) => count === 19);
      await until(() => Promise.resolve(followed.length), (length) => length >= 20);
      expect(new Set(followed)).toEqual(new Set(Array.from({ length: 20 }, (_, i) => `counted/n${i}`)));
      await until(() => one!.platform.cache.get('u19'), (value) => value !== null);
      await expect(client.ask('cost', 'refuse', null)).rejects.toMatchObject({ code: 'unsafe', message: 'it must not sleep', details: { check: 'critical' } });
      await expect(client.ask('cost', 'count', { above: 'much' })).rejects.toMatchObject({ code: 'invalid_request' });
      expect(one!.platform.config.greeting).toBe('hello');

      const ready = await fetch(`${one!.healthUrl}/health/ready`);
      expect(ready.status).toBe(200);
      expect(await ready.json()).toMatchObject({ service: 'cost', ready: true, dependencies: { database: { ok: true }, bus: { ok: true, state: 'connected' }, cache: { ok: true, state: 'ready' } } });
      expect((await fetch(`${two!.healthUrl}/health/live`)).status).toBe(200);
      const metrics = await (await fetch(`${two!.healthUrl}/metrics`)).text();
      for (const name of ['upid_consumer_lag_messages{', 'upid_consumer_lag_bytes{', 'upid_consumer_lag_age_seconds{', 'upid_outbox_messages', 'upid_database_connections{', 'process_resident_memory_bytes']) expect(metrics).toContain(name);
      expect(metrics).toMatch(/upid_consumer_lag_messages\{consumer="cost-business",stream="FACTS",service="cost"\} 0/);
    } finally {
      await client.drain();
      await Promise.all([one!.stop(), two!.stop()]);
    }
    await expect(fetch(`${one!.healthUrl}/health/live`)).rejects.toThrow();
  });

  it('cannot be started with a bad configuration, and says what is wrong', async () => {
    await expect(startService(definition, { ...env(), UPID_DATABASE_URL: 'mysql://x' })).rejects.toThrow(/UPID_DATABASE_URL is not as expected: must be a URL that begins with postgres:/);
    await expect(startService(definition, { UPID_NATS_URL: nats.url })).rejects.toThrow(/set UPID_DATABASE_URL/);
  });
});
