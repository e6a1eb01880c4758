import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { type MicroserviceOptions } from '@nestjs/microservices';
import { PoisonMessageError, type StreamDefinition, UpidError } from '@upid/contracts';
import { z } from 'zod';
import { Bus, BusUnavailableError, connectBus, Consume, createLogger, currentCorrelation, type Delivery, JetStreamServer, listDeadLetters, MAX_MESSAGE_BYTES, MessageTooLargeError, type NatsServerHandle, NoStreamError, outgoingTrace, Query, replayDeadLetter, ServiceUnavailableError, startNats, StreamConsumer, StreamFullError, withCorrelation } from '../index.js';
import { deadLettersMain } from './dead-letters.main.js';
import type { BatchSpec, BatchDelivery, SingleSpec } from '../index.js';

let dir: string;
let nats: NatsServerHandle;
const open: { stop(): Promise<unknown> }[] = [];
const log = createLogger('test', { level: 'silent' });
const MiB = 1024 * 1024;
const streams: StreamDefinition[] = [
  { name: 'FACTS', subjects: ['f.>'], maxBytes: 64 * MiB, maxAgeMs: 3_600_000, discard: 'new', duplicateWindowMs: 60_000 },
  { name: 'PUBLIC', subjects: ['full.>'], maxBytes: MiB, maxAgeMs: 3_600_000, discard: 'new', duplicateWindowMs: 60_000 },
  { name: 'DLQ', subjects: ['upid.dlq.>'], maxBytes: 64 * MiB, maxAgeMs: 3_600_000, discard: 'old', duplicateWindowMs: 60_000 },
];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'upid-bus-'));
  nats = await startNats({ dir });
  const bus = await connectBus({ url: nats.url, name: 'setup' });
  // Two at once, as replicas do, and again with a change.
  await Promise.all([bus.ensureStreams(streams), bus.ensureStreams(streams)]);
  await bus.ensureStreams([{ ...streams[0]!, maxBytes: 128 * MiB }]);
  expect((await (await bus.jetstreamManager()).streams.info('FACTS')).config).toMatchObject({ max_bytes: 128 * MiB, discard: 'new' });
  await bus.drain();
});
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.stop();
});
afterAll(async () => {
  await nats?.stop();
  await rm(dir, { recursive: true, force: true });
});

let serial = 0;
/** A name that no other test uses. */
const fresh = (name: string) => `${name}${++serial}`;
async function connected(name: string): Promise<Bus> {
  const bus = await connectBus({ url: nats.url, name });
  open.push({ stop: () => bus.drain() });
  return bus;
}
async function consuming(bus: Bus, spec: Omit<SingleSpec, 'stream'>, single: (message: Delivery) => Promise<unknown>): Promise<StreamConsumer> {
  const consumer = new StreamConsumer(bus, { stream: 'FACTS', backoff: () => 10, ...spec }, { single }, log);
  await consumer.start();
  open.push(consumer);
  return consumer;
}
async function consumingBatches(bus: Bus, spec: Omit<BatchSpec, 'stream'>, batch: (messages: BatchDelivery[]) => Promise<unknown>): Promise<StreamConsumer> {
  const consumer = new StreamConsumer(bus, { stream: 'FACTS', backoff: () => 10, ...spec }, { batch }, log);
  await consumer.start();
  open.push(consumer);
  return consumer;
}
async function until(condition: () => boolean | Promise<boolean>, withinMs = 20_000): Promise<void> {
  for (const deadline = Date.now() + withinMs; !(await condition());) {
    if (Date.now() > deadline) throw new Error(`${condition.toString()} did not come true within ${withinMs} ms`);
    await new Promise((resolve) => { setTimeout(resolve, 10); });
  }
}
const text = (message: Delivery) => new TextDecoder().decode(message.payload);
const publish = (bus: Bus, subject: string, payload: string, msgId = `${subject}/${payload}`) => bus.publish(subject, Buffer.from(payload), { msgId });

describe('publishing', () => {
  it('names what is too large, a stream that is full, and a subject that no stream takes', async () => {
    const bus = await connected('publisher');
    await expect(bus.publish('f.large', Buffer.alloc(10 * MiB), { msgId: 'large' })).rejects.toThrow(MessageTooLargeError);
    await expect(bus.publish('f.large', Buffer.alloc(10 * MiB), { msgId: 'large' })).rejects.toThrow(`A message of ${10 * MiB} bytes for f.large is over the bus's limit of ${MAX_MESSAGE_BYTES} bytes`);
    expect((await bus.publish('f.large', Buffer.alloc(MAX_MESSAGE_BYTES), { msgId: 'largest' })).stream).toBe('FACTS');
    await bus.publish('full.x', Buffer.alloc(900_000), { msgId: 'full1' });
    await expect(bus.publish('full.x', Buffer.alloc(900_000), { msgId: 'full2' })).rejects.toThrow(StreamFullError);
    await expect(bus.publish('nowhere.x', Buffer.from('x'), { msgId: 'n' })).rejects.toThrow(NoStreamError);
  });

  it('keeps one of two messages of the same id', async () => {
    const bus = await connected('publisher');
    const subject = `f.${fresh('twice')}`;
    expect((await publish(bus, subject, 'x', 'same')).duplicate).toBe(false);
    expect((await publish(bus, subject, 'x', 'same')).duplicate).toBe(true);
  });

  it('has at most 64 under way and loses none of many', async () => {
    const bus = await connected('publisher');
    const subject = `f.${fresh('many')}`;
    await Promise.all(Array.from({ length: 1_000 }, (_, i) => publish(bus, subject, String(i))));
    const info = await (await bus.jetstreamManager()).streams.info('FACTS', { subjects_filter: subject });
    expect(info.state.subjects?.[subject]).toBe(1_000);
  });
});

describe('questions', () => {
  it('are answered by one of the queue group, with the trace of who asked', async () => {
    const name = fresh('service');
    const [one, two, client] = await Promise.all([connected(name), connected(name), connected('client')]);
    const asked: string[] = [];
    for (const each of [one, two]) await each.serveQuery('echo', z.object({ n: z.number(), unknown: z.never().optional() }), async ({ n }) => { asked.push(currentCorrelation()?.correlationId ?? ''); await Promise.resolve(); return { n }; });
    await withCorrelation({}, async () => {
      const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => client.ask<{ n: number }>(name, 'echo', { n })));
      expect(answers.map(({ n }) => n)).toEqual(Array.from({ length: 50 }, (_, n) => n));
      expect(asked).toHaveLength(50);
      expect(new Set(asked)).toEqual(new Set([outgoingTrace()['Upid-Correlation-Id']]));
    });
  });

  it('have answers of any size', async () => {
    const name = fresh('service');
    const [service, client] = await Promise.all([connected(name), connected('client')]);
    await service.serveQuery('big', z.object({ bytes: z.number() }), ({ bytes }) => Promise.resolve({ text: 'é'.repeat(bytes / 2) }));
    for (const bytes of [0, 512 * 1024 - 20, 512 * 1024, 512 * 1024 + 20, 5 * MiB, 20 * MiB]) {
      const { text: answer } = await client.ask<{ text: string }>(name, 'big', { bytes });
      expect(Buffer.byteLength(answer)).toBe(bytes);
    }
    await expect(client.ask(name, 'big', { bytes: 33 * MiB })).rejects.toMatchObject({ code: 'payload_too_large' });
    await expect(client.ask(name, 'big', { bytes: 1, more: 'x'.repeat(2 * MiB) })).rejects.toMatchObject({ code: 'payload_too_large' });
  });

  it('carry errors by name, and keep what is nobody\'s business in the log', async () => {
    const name = fresh('service');
    const [service, client] = await Promise.all([connected(name), connected('client')]);
    await service.serveQuery('named', z.unknown(), () => Promise.reject(new UpidError('cluster_not_found', 'no cluster x', { cluster_id: 'x' })));
    await service.serveQuery('broken', z.unknown(), () => Promise.reject(new Error('password=hunter2')));
    await service.serveQuery('away', z.unknown(), () => Promise.reject(new BusUnavailableError('away')));
    await service.serveQuery('slow', z.unknown(), () => new Promise((resolve) => { setTimeout(resolve, 400); }));
    const failure = await client.ask(name, 'named', {}).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(UpidError);
    expect(failure).toMatchObject({ code: 'cluster_not_found', message: 'no cluster x', details: { cluster_id: 'x' } });
    const broken = await client.ask(name, 'broken', {}).catch((error: Error) => error) as UpidError;
    expect(broken.code).toBe('internal');
    expect(broken.message).toMatch(/correlation id [0-9a-f]{32}/);
    expect(broken.message).not.toContain('hunter2');
    await expect(client.ask(name, 'away', {})).rejects.toMatchObject({ code: 'unavailable' });
    await expect(client.ask(name, 'slow', {}, { timeoutMs: 50 })).rejects.toMatchObject({ code: 'timeout', message: `${name} did not answer within 50 ms` });
    await expect(client.ask('nobody', 'x', {})).rejects.toThrow(ServiceUnavailableError);
    await expect(client.ask('nobody', 'x', {})).rejects.toThrow('nobody is not there');
    (await client.connection()).publish(`upid.q.v1.${name}.named`, 'no json');
  });

  it('that are no JSON are answered so', async () => {
    const name = fresh('service');
    const [service, client] = await Promise.all([connected(name), connected('client')]);
    await service.serveQuery('any', z.unknown(), () => Promise.resolve(1));
    const answer = await (await client.connection()).request(`upid.q.v1.${name}.any`, '{"a":', { timeout: 2_000 });
    expect(answer.json()).toMatchObject({ code: 'invalid_json' });
  });
});

describe('consuming', () => {
  it('acknowledges after the handler, and hands out again what failed before', async () => {
    const bus = await connected(fresh('svc'));
    const subject = `f.${fresh('again')}`;
    const seen: string[] = [];
    const consumer = await consuming(bus, { durable: 'd', subjects: [subject] }, (message) => {
      seen.push(`${text(message)}#${message.tries}`);
      return message.tries < 3 ? Promise.reject(new Error('not yet')) : Promise.resolve();
    });
    await publish(bus, subject, 'a');
    await until(() => consumer.counters.handled === 1);
    expect(seen).toEqual(['a#1', 'a#2', 'a#3']);
    const lag = await consumer.lag(new Date());
    expect(lag).toMatchObject({ messages: 0, ageSeconds: 0, alarm: false });
  });

  it('makes a dead letter after ten tries, with reason and original, and replays it into the handler', async () => {
    const name = fresh('svc');
    const bus = await connected(name);
    const subject = `f.${fresh('dead')}`;
    const state: { mended: boolean; handled: Delivery[] } = { mended: false, handled: [] };
    @Controller()
    class Broken {
      @Consume({ stream: 'FACTS', subjects: [subject], durable: 'd', backoff: () => 5 })
      async on(message: Delivery): Promise<void> {
        await Promise.resolve();
        if (!state.mended) throw new Error(`it is broken\n(${message.tries})`);
        state.handled.push(message);
      }
    }
    @Module({ controllers: [Broken] })
    class BrokenModule {}
    const server = new JetStreamServer(bus, log);
    const app = await NestFactory.createMicroservice<MicroserviceOptions>(BrokenModule, { strategy: server, logger: false });
    await app.listen();
    open.push({ stop: () => app.close() });
    await bus.publish(subject, Buffer.from('payload'), { msgId: 'letter', headers: { 'X-Own': 'kept' }, publishedAtMs: 1_700_000_000_000 });
    await until(async () => (await listDeadLetters(bus, { service: name })).length === 1);
    const [letter] = await listDeadLetters(bus, { service: name });
    expect(letter).toMatchObject({ service: name, subject, consumer: `${name}-d`, tries: 10, reason: '10 tries failed; the last: Error: it is broken (10)' });
    expect(letter!.headers).toMatchObject({ 'X-Own': 'kept', 'Upid-Message-Id': 'letter' });
    expect(Buffer.from(letter!.payload).toString()).toBe('payload');

    const command = async (...args: string[]) => {
      const said = { out: '', error: '', code: 0 };
      said.code = await deadLettersMain(args, { UPID_NATS_URL: nats.url }, (line) => { said.out += line; }, (line) => { said.error += line; });
      return said;
    };
    expect(JSON.parse((await command('list', name)).out)).toMatchObject({ service: name, sequence: letter!.sequence, payload_text: 'payload', tries: 10 });
    expect(await command('replay', name, String(letter!.sequence))).toMatchObject({ code: 1, error: expect.stringContaining('it is broken') as string });
    expect((await command('replay', name)).code).toBe(2);
    await expect(replayDeadLetter(bus, name, letter!.sequence)).rejects.toMatchObject({ code: 'conflict', message: expect.stringContaining('it is broken') as string });
    expect(await listDeadLetters(bus, { service: name })).toHaveLength(1);
    state.mended = true;
    await replayDeadLetter(bus, name, letter!.sequence);
    expect(state.handled).toHaveLength(1);
    expect(state.handled[0]).toMatchObject({ subject, messageId: 'letter', publishedAtMs: 1_700_000_000_000 });
    expect(text(state.handled[0]!)).toBe('payload');
    expect(await listDeadLetters(bus, { service: name })).toEqual([]);
    await expect(replayDeadLetter(bus, name, letter!.sequence)).rejects.toMatchObject({ code: 'not_found' });
  });

  it('buries poison at once: malformed, of an unknown version, from the future; and nothing else is lost', async () => {
    const name = fresh('svc');
    const bus = await connected(name);
    const subject = `f.${fresh('poison')}`;
    const seen: number[] = [];
    const consumer = await consuming(bus, { durable: 'd', subjects: [subject] }, (message) => {
      seen.push(message.json(z.object({ version: z.literal(1), n: z.number() })).n);
      return Promise.resolve();
    });
    await publish(bus, subject, '{"version":1,"n":1,"unknown_field":true}');
    await publish(bus, subject, '{"version":');
    await bus.publish(subject, Uint8Array.from([0xff, 0xfe]), { msgId: `${subject}/bytes` });
    await publish(bus, subject, '{"version":7,"n":1}');
    await publish(bus, subject, '{"version":1,"n":"many"}');
    await bus.publish(subject, Buffer.from('{"version":1,"n":99}'), { msgId: `${subject}/future`, publishedAtMs: Date.now() + 6 * 60_000 });
    await bus.publish(subject, Buffer.from('{"version":1,"n":2}'), { msgId: `${subject}/old`, publishedAtMs: 0 });
    await until(() => consumer.counters.dead === 5 && consumer.counters.handled === 2);
    expect(seen).toEqual([1, 2]);
    const letters = await listDeadLetters(bus, { service: name });
    expect(letters.map((letter) => letter.tries)).toEqual([1, 1, 1, 1, 1]);
    const reasons = letters.map((letter) => letter.reason).sort();
    expect(reasons).toEqual([
      expect.stringMatching(/^Its publish time .* lies 360 s after the server took it/),
      expect.stringMatching(/^PoisonMessageError: The message does not fit its schema: n: /),
      'PoisonMessageError: The message has version 7, which is not known here',
      'PoisonMessageError: The payload of 11 bytes is no JSON in UTF-8',
      'PoisonMessageError: The payload of 2 bytes is no JSON in UTF-8',
    ]);
  });

  it('waits, uncounted, while what the handler needs is away', async () => {
    const name = fresh('svc');
    const bus = await connected(name);
    const subject = `f.${fresh('away')}`;
    let attempts = 0;
    const consumer = await consuming(bus, { durable: 'd', subjects: [subject] }, (message) => (++attempts < 4 ? Promise.reject(new UpidError('unavailable', 'the database is away')) : Promise.resolve(message)));
    await publish(bus, subject, 'a');
    await until(() => consumer.counters.handled === 1);
    expect(attempts).toBe(4);
    expect(consumer.counters.failed).toBe(0);
  });

  it('keeps the order within a subject while subjects go side by side', async () => {
    const bus = await connected(fresh('svc'));
    const base = fresh('lanes');
    const seen = new Map<string, number[]>();
    let now = 0;
    let most = 0;
    const consumer = await consuming(bus, { durable: 'd', subjects: [`f.${base}.*`], concurrency: 4 }, async (message) => {
      most = Math.max(most, ++now);
      await new Promise((resolve) => { setTimeout(resolve, Math.random() * 4); });
      seen.set(message.subject, [...(seen.get(message.subject) ?? []), Number(text(message))]);
      now--;
    });
    for (let i = 0; i < 30; i++) for (let lane = 0; lane < 8; lane++) void publish(bus, `f.${base}.${lane}`, String(i));
    await until(() => consumer.counters.handled === 240);
    expect(most).toBe(4);
    expect([...seen.values()]).toEqual(Array.from({ length: 8 }, () => Array.from({ length: 30 }, (_, i) => i)));
  });

  it('shares among replicas, each message once, and gives back at the end what it did not begin', async () => {
    const name = fresh('svc');
    const [one, two] = await Promise.all([connected(name), connected(name)]);
    const base = fresh('shared');
    const seen: string[] = [];
    const handler = async (message: Delivery) => { await new Promise((resolve) => { setTimeout(resolve, 2); }); seen.push(message.subject); };
    const first = await consuming(one, { durable: 'd', subjects: [`f.${base}.*`] }, handler);
    const second = await consuming(two, { durable: 'd', subjects: [`f.${base}.*`] }, handler);
    await Promise.all(Array.from({ length: 400 }, (_, i) => publish(one, `f.${base}.${i}`, 'x')));
    await until(() => first.counters.handled > 20);
    await first.stop();
    const byFirst = first.counters.handled;
    await until(() => byFirst + second.counters.handled === 400);
    expect(new Set(seen).size).toBe(400);
    expect(seen).toHaveLength(400);
    expect(second.counters.handled).toBeGreaterThan(0);
  });

  it('does not toss what comes while it ends: the next one gets it untried', async () => {
    const name = fresh('svc');
    const bus = await connected(name);
    const subject = `f.${fresh('ending')}`;
    const hold = Promise.withResolvers<void>();
    let begun = 0;
    const first = await consuming(bus, { durable: 'd', subjects: [subject] }, () => {
      begun++;
      return hold.promise;
    });
    await publish(bus, subject, 'begun');
    await until(() => begun === 1);
    const ending = first.stop();
    await publish(bus, subject, 'late');
    await new Promise((resolve) => { setTimeout(resolve, 500); });
    hold.resolve();
    await ending;
    const seen: [string, number][] = [];
    await consuming(bus, { durable: 'd', subjects: [subject] }, (message) => {
      seen.push([text(message), message.tries]);
      return Promise.resolve();
    });
    await until(() => seen.length === 1);
    expect(seen[0]?.[0]).toBe('late');
    expect(seen[0]?.[1]).toBeLessThanOrEqual(2);
  });

  it('refuses two handlers of one consumer or question', async () => {
    const bus = await connected(fresh('svc'));
    @Controller()
    class Twice {
      @Query('same', z.unknown()) one(): Promise<number> { return Promise.resolve(1); }
      @Query('same', z.unknown()) two(): Promise<number> { return Promise.resolve(2); }
    }
    @Module({ controllers: [Twice] })
    class TwiceModule {}
    const app = await NestFactory.createMicroservice<MicroserviceOptions>(TwiceModule, { strategy: new JetStreamServer(bus, log), logger: false, abortOnError: false });
    await expect(app.listen()).rejects.toThrow(/two handlers for same/);
  });

  it('goes on after the server was killed, and loses nothing', async () => {
    const own = await startNats({ dir: join(dir, 'killed') });
    const bus = await connectBus({ url: own.url, name: 'svc' });
    await bus.ensureStreams(streams);
    const seen = new Set<string>();
    const consumer = new StreamConsumer(bus, { stream: 'FACTS', durable: 'd', subjects: ['f.k.*'], backoff: () => 10 }, { single: (message) => { seen.add(text(message)); return Promise.resolve(); } }, log);
    await consumer.start();
    const accepted: string[] = [];
    const publishing = (async () => {
      for (let i = 0; i < 300; i++) {
        for (;;) {
          try {
            await bus.publish(`f.k.${i % 7}`, Buffer.from(String(i)), { msgId: `k/${i}`, timeoutMs: 500 });
            break;
          } catch (error) {
            if (!(error instanceof BusUnavailableError)) throw error;
            await new Promise((resolve) => { setTimeout(resolve, 20); });
          }
        }
        accepted.push(String(i));
      }
    })();
    await until(() => accepted.length > 50);
    await own.kill();
    expect(await bus.publish('f.k.x', Buffer.from('x'), { msgId: 'x', timeoutMs: 300 }).catch((error: Error) => error.name)).toBe('BusUnavailableError');
    const again = await startNats({ dir: join(dir, 'killed'), port: own.port });
    await publishing;
    await until(() => seen.size >= 300);
    expect(seen).toEqual(new Set(Array.from({ length: 300 }, (_, i) => String(i))));
    await consumer.stop();
    await bus.drain();
    await again.stop();
  });
});

describe('consuming in batches', () => {
  it('hands many out together, acknowledges them together, and buries what a handler rejects', async () => {
    const name = fresh('svc');
    const bus = await connected(name);
    const subject = `f.${fresh('batch')}`;
    await Promise.all(Array.from({ length: 500 }, (_, i) => publish(bus, subject, String(i))));
    const sizes: number[] = [];
    const seen: number[] = [];
    const consumer = await consumingBatches(bus, { durable: 'd', subjects: [subject], maxMessages: 100, maxWaitMs: 50 }, async (messages) => {
      await Promise.resolve();
      sizes.push(messages.length);
      for (const message of messages) {
        if (Number(text(message)) % 100 === 7) message.reject('sevens are not liked');
        else seen.push(Number(text(message)));
      }
    });
    await until(() => consumer.counters.handled + consumer.counters.dead === 500);
    expect(consumer.counters.dead).toBe(5);
    expect(new Set(seen).size).toBe(495);
    expect(Math.max(...sizes)).toBe(100);
    expect(sizes.length).toBeLessThan(30);
    expect((await listDeadLetters(bus, { service: name })).map((letter) => letter.reason)).toEqual(Array.from({ length: 5 }, () => 'sevens are not liked'));
  });

  it('finds the one message that breaks a batch; the others are handled', async () => {
    const name = fresh('svc');
    const bus = await connected(name);
    const subject = `f.${fresh('culprit')}`;
    await Promise.all(Array.from({ length: 64 }, (_, i) => publish(bus, subject, String(i))));
    const seen = new Set<string>();
    const consumer = await consumingBatches(bus, { durable: 'd', subjects: [subject], maxMessages: 64, maxWaitMs: 50 }, async (messages) => {
      await Promise.resolve();
      if (messages.some((message) => text(message) === '13')) throw new PoisonMessageError('thirteen');
      for (const message of messages) seen.add(text(message));
    });
    await until(() => consumer.counters.handled + consumer.counters.dead === 64);
    expect(seen.size).toBe(63);
    expect(await listDeadLetters(bus, { service: name })).toMatchObject([{ reason: 'PoisonMessageError: thirteen' }]);
  });

  it('bounds a batch in bytes', async () => {
    const bus = await connected(fresh('svc'));
    const subject = `f.${fresh('bytes')}`;
    for (let i = 0; i < 12; i++) await bus.publish(subject, Buffer.alloc(500_000), { msgId: `${subject}/${i}` });
    const sizes: number[] = [];
    const consumer = await consumingBatches(bus, { durable: 'd', subjects: [subject], maxBytes: 1_600_000, maxWaitMs: 200 }, async (messages) => { await Promise.resolve(); sizes.push(messages.length); });
    await until(() => consumer.counters.handled === 12);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(3);
  });
});
