import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Controller, Get, Module, type OnApplicationBootstrap, Param } from '@nestjs/common';
import { STREAMS, UpidError } from '@upid/contracts';
import { z } from 'zod';
import { type BatchDelivery, connectBus, Consume, ConsumeBatch, Database, type Delivery, freePort, type NatsServerHandle, Outbox, Platform, Query, type RunningService, Serve, type ServerHandle, type ServiceDefinition, setting, startNats, startPostgres, startRedis, startService } from '../index.js';

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

  it('serves HTTP beside its questions, and is not ready while its database is away', async () => {
    @Controller('things')
    class Things {
      constructor(private readonly platform: Platform) {}
      @Get(':name') get(@Param('name') name: string): { name: string; service: string } { return { name, service: this.platform.name }; }
      @Query('thing', z.object({ name: z.string() })) thing({ name }: { name: string }): Promise<string> { return Promise.resolve(name); }
    }
    @Module({ controllers: [Things] })
    class ThingsModule {}
    const own = await startPostgres({ dir: join(dir, 'postgres2'), settings: { fsync: 'off' } });
    const running = await startService({ name: 'gateway', schema: 'gateway', settings: {}, module: () => ThingsModule, http: { port: () => 0, configure: (app) => { app.setGlobalPrefix('api'); } } }, { ...env(), UPID_DATABASE_URL: own.url });
    try {
      expect(await (await fetch(`${running.httpUrl}/api/things/x`)).json()).toEqual({ name: 'x', service: 'gateway' });
      expect(await running.platform.bus.ask('gateway', 'thing', { name: 'y' })).toBe('y');
      await own.kill();
      const ready = await until(async () => fetch(`${running.healthUrl}/health/ready`), (response) => response.status === 503);
      expect(await ready.json()).toMatchObject({ ready: false, dependencies: { database: { ok: false }, bus: { ok: true } } });
      expect((await fetch(`${running.healthUrl}/health/live`)).status).toBe(200);
      const again = await startPostgres({ dir: join(dir, 'postgres2'), port: own.port, settings: { fsync: 'off' } });
      await until(async () => (await fetch(`${running.healthUrl}/health/ready`)).status, (status) => status === 200);
      await again.stop();
    } finally {
      await running.stop();
    }
  });

  it('that needs no bus to begin (an agent) starts without, and takes it up when it is there', async () => {
    const port = await freePort();
    const started: string[] = [];
    @Controller()
    class Agent implements OnApplicationBootstrap {
      constructor(private readonly platform: Platform) {}
      onApplicationBootstrap(): void { started.push(this.platform.bus.state); }
      @Serve('upid.cmd.v1.a.>', z.object({ id: z.string() })) command({ subject, body }: { subject: string; body: { id: string } }): Promise<unknown> { return Promise.resolve({ subject, id: body.id }); }
    }
    @Module({ controllers: [Agent] })
    class AgentModule {}
    const running = await startService({ name: 'collector', settings: {}, busInBackground: true, busName: () => 'agent_a', module: () => AgentModule }, { UPID_NATS_URL: `nats://127.0.0.1:${port}`, UPID_LOG_LEVEL: 'silent' });
    expect(started).toEqual(['connecting']);
    expect((await fetch(`${running.healthUrl}/health/ready`)).status).toBe(200);
    await expect(running.platform.bus.publish('x', Buffer.from('x'), { msgId: 'x' })).rejects.toThrow('The bus is connecting');
    expect(() => running.platform.database).toThrow(/has no database/);
    const late = await startNats({ dir: join(dir, 'late'), port });
    const client = await connectBus({ url: late.url, name: 'optimizer' });
    await until(() => client.request('upid.cmd.v1.a.execute', { id: 'c' }).catch((error: Error) => error.message), (answer) => typeof answer === 'object');
    await client.drain();
    await running.stop();
    await late.stop();
  });

  it('finishes what runs on SIGTERM, ends with 0, and leaves nothing unacknowledged', async () => {
    const built = spawnSync(process.execPath, [join(import.meta.dirname, '../../../scripts/build.mjs')], { encoding: 'utf8' });
    expect(built.stderr).toBe('');
    const code = `
      import { Controller, Module } from '@nestjs/common';
      import { STREAMS } from '@upid/contracts';
      import { Consume, runService } from '@upid/platform';
      class Slow { async on(message) { console.log('began'); await new Promise((resolve) => setTimeout(resolve, 1500)); console.log('finished'); } }
      Consume({ stream: 'FACTS', subjects: ['upid.v1.*.agent.coverage'], durable: 'slow' })(Slow.prototype, 'on', Object.getOwnPropertyDescriptor(Slow.prototype, 'on'));
      Controller()(Slow);
      class Root {}
      Module({ controllers: [Slow] })(Root);
      await runService({ name: 'slow', settings: {}, module: () => Root, streams: STREAMS });
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], { cwd: join(import.meta.dirname, '../../..'), env: { ...process.env, ...env(), UPID_LOG_LEVEL: 'info' }, stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => { said += chunk.toString(); });
    const client = await connectBus({ url: nats.url, name: 'client' });
    await until(() => Promise.resolve(said), (text) => text.includes('"ready"'));
    await client.publish('upid.v1.demo.agent.coverage', Buffer.from('{}'), { msgId: 'slow/1' });
    await until(() => Promise.resolve(said), (text) => text.includes('began'));
    child.kill('SIGTERM');
    const [exit] = await once(child, 'exit') as [number | null];
    expect(said).toContain('finished');
    expect(exit).toBe(0);
    const info = await (await client.jetstreamManager()).consumers.info('FACTS', 'slow-slow');
    expect([info.num_ack_pending, info.num_pending]).toEqual([0, 0]);
    await client.drain();

    const refused = spawnSync(process.execPath, ['--input-type=module', '-e', code], { cwd: join(import.meta.dirname, '../../..'), env: { ...process.env, ...env(), UPID_HEALTH_PORT: 'http' }, encoding: 'utf8' });
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/^slow: The configuration cannot be used:\n {2}UPID_HEALTH_PORT is "http"/);
  });

  it('cannot be started with a bad configuration, and says what is wrong', async () => {
    await expect(startService(definition, { ...env(), UPID_DATABASE_URL: 'mysql://x' })).rejects.toThrow(/UPID_DATABASE_URL is not as expected: must be a URL that begins with postgres:/);
    await expect(startService(definition, { UPID_NATS_URL: nats.url })).rejects.toThrow(/set UPID_DATABASE_URL/);
  });
});
