import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, headers, type Msg, type NatsConnection, nkeyAuthenticator } from '@nats-io/transport-node';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';
import { PoisonMessageError, subjects, STREAMS } from '@upid/contracts';
import { z } from 'zod';
import { agentUserName, Bus, connectBus, Consume, createLogger, type Delivery, inboxPrefix, JetStreamServer, listDeadLetters, natsConfig, type NatsServerHandle, nkeyFile, platformUser, Query, replayDeadLetter, startNats } from '../index.js';

/**
 * Two agents, each in an account of its own, against the real server: what one can do to the other, to the platform, and to its own cluster.
 * The attacker is agent a with its own valid credentials and a client that does whatever it likes.
 */
let dir: string;
let nats: NatsServerHandle;
let platform: Bus;
let optimizer: Bus;
let a: Bus;
let b: Bus;
let attacker: NatsConnection;
const denials: string[] = [];
const keys: Record<string, { seed: string; publicKey: string }> = {};

async function open(name: string, user: string): Promise<NatsConnection> {
  const connection = await connect({ servers: nats.url, name, authenticator: nkeyAuthenticator(new TextEncoder().encode(keys[user]!.seed)), inboxPrefix: inboxPrefix(agentUserName('a')), maxReconnectAttempts: 0 });
  void (async () => {
    for await (const status of connection.status()) if (status.type === 'error') denials.push(status.error.message);
  })();
  return connection;
}

/** Lets the server read what was sent and tell what it refused. */
async function settle(connection: NatsConnection): Promise<void> {
  await connection.flush();
  await connection.flush();
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'upid-accounts-'));
  for (const name of ['intelligence', 'optimizer', 'a', 'b']) keys[name] = await nkeyFile(join(dir, name));
  const config = natsConfig({
    platformUsers: [
      platformUser({ name: 'intelligence', publicKey: keys.intelligence!.publicKey, publishes: ['upid.v1.*.intelligence.>'], consumes: ['TELEMETRY/*', 'FACTS/*'], serves: ['upid.v1.*.agent.heartbeat'], managesStreams: true }),
      platformUser({ name: 'optimizer', publicKey: keys.optimizer!.publicKey, publishes: ['upid.v1.*.recommendation.>', 'upid.v1.*.optimizer.>'], consumes: ['FACTS/result'], asks: ['intelligence'], commands: true }),
    ],
    agents: ['a', 'b'].map((clusterId) => ({ clusterId, publicKey: keys[clusterId]!.publicKey })),
  });
  nats = await startNats({ dir: join(dir, 'nats'), config });
  platform = await connectBus({ url: nats.url, name: 'intelligence', nkeySeed: keys.intelligence!.seed });
  optimizer = await connectBus({ url: nats.url, name: 'optimizer', nkeySeed: keys.optimizer!.seed });
  await platform.ensureStreams(STREAMS);
  a = await connectBus({ url: nats.url, name: agentUserName('a'), nkeySeed: keys.a!.seed });
  b = await connectBus({ url: nats.url, name: agentUserName('b'), nkeySeed: keys.b!.seed });
  attacker = await open('attacker', 'a');
});
afterAll(async () => {
  await Promise.all([platform, optimizer, a, b].map((bus) => bus?.drain()));
  await attacker?.close();
  await nats?.stop();
  await rm(dir, { recursive: true, force: true });
});
beforeEach(() => { denials.length = 0; });

async function stored(subject: string): Promise<string[]> {
  const manager = await platform.jetstreamManager();
  const found: string[] = [];
  for (let seq = 1; ;) {
    const message = await manager.direct.getMessage(subject.includes('.agent.usage') ? 'TELEMETRY' : 'FACTS', { seq, next_by_subj: subject });
    if (!message) return found;
    found.push(new TextDecoder().decode(message.data));
    seq = message.seq + 1;
  }
}

describe('what an agent can do', () => {
  it('its messages are acknowledged through the import of its account', async () => {
    const ack = await a.publish(subjects.agent('a', 'usage'), Buffer.from('of a'), { msgId: 'a/1' });
    expect(ack).toMatchObject({ stream: 'TELEMETRY', duplicate: false });
    expect((await a.publish(subjects.agent('a', 'usage'), Buffer.from('of a'), { msgId: 'a/1' })).duplicate).toBe(true);
    expect(await stored('upid.v1.a.agent.usage')).toEqual(['of a']);
  });

  it('its heartbeat is answered, and a command reaches it and its answer comes back', async () => {
    await platform.serve('upid.v1.*.agent.heartbeat', z.object({ n: z.number() }), (request, subject) => Promise.resolve({ from: subject, n: request.n }));
    expect(await a.request('upid.v1.a.agent.heartbeat', { n: 3 })).toEqual({ from: 'upid.v1.a.agent.heartbeat', n: 3 });
    await a.serve(subjects.commandAll('a'), z.object({ id: z.string() }), (command, subject) => Promise.resolve({ accepted: true, on: subject, id: command.id }));
    expect(await optimizer.request(subjects.command('a', 'execute'), { id: 'c1' })).toEqual({ accepted: true, on: 'upid.cmd.v1.a.execute', id: 'c1' });
    await expect(optimizer.request(subjects.command('b', 'execute'), { id: 'c2' })).rejects.toMatchObject({ code: 'unavailable' });
  });

  it('answers of many pages cross the accounts', async () => {
    const text = 'x'.repeat(3 * 1024 * 1024);
    await b.serve('upid.cmd.v1.b.report', z.unknown(), () => Promise.resolve({ text }));
    expect((await optimizer.request<{ text: string }>('upid.cmd.v1.b.report', null)).text.length).toBe(text.length);
  });
});

describe('the rights of a service', () => {
  it('suffice to wait for streams, consume, bury and replay, answer, tail and tell its lag; and for nothing else', async () => {
    const log = createLogger('test', { level: 'silent' });
    await optimizer.ensureStreams(STREAMS);
    const state = { broken: true, seen: [] as string[] };
    @Controller()
    class Results {
      @Consume({ stream: 'FACTS', subjects: ['upid.v1.*.agent.result'], durable: 'result' })
      result(message: Delivery): Promise<void> {
        state.seen.push(message.messageId);
        return state.broken ? Promise.reject(new PoisonMessageError('not yet')) : Promise.resolve();
      }
      @Query('count', z.unknown())
      count(): Promise<number> { return Promise.resolve(state.seen.length); }
    }
    @Module({ controllers: [Results] })
    class ResultsModule {}
    const server = new JetStreamServer(optimizer, log);
    const app = await NestFactory.createMicroservice<MicroserviceOptions>(ResultsModule, { strategy: server, logger: false });
    await app.listen();
    await a.publish(subjects.agent('a', 'result'), Buffer.from('{}'), { msgId: 'result/1' });
    while ((await listDeadLetters(optimizer)).length === 0) await new Promise((resolve) => { setTimeout(resolve, 20); });
    const [letter] = await listDeadLetters(platform, { service: 'optimizer' });
    state.broken = false;
    await replayDeadLetter(platform, 'optimizer', letter!.sequence);
    expect(state.seen).toEqual(['result/1', 'result/1']);
    expect(await listDeadLetters(optimizer)).toEqual([]);
    expect(await server.lag(new Date())).toMatchObject([{ consumer: 'optimizer-result', messages: 0, alarm: false }]);
    await app.close();

    const tailed: string[] = [];
    const tail = await platform.tail({ stream: 'FACTS', subjects: ['upid.v1.*.agent.result'], from: new Date(0) }, (message) => { tailed.push(message.messageId); });
    while (tailed.length === 0) await new Promise((resolve) => { setTimeout(resolve, 20); });
    await tail.stop();

    // It may ask intelligence, but not publish as it, nor read or remove what is not its own.
    await expect(optimizer.publish('upid.v1.a.intelligence.rollup', Buffer.from('{}'), { msgId: 'x' })).rejects.toMatchObject({ name: 'NoStreamError' });
    await expect(optimizer.publish('upid.v1.a.agent.usage', Buffer.from('{}'), { msgId: 'x' })).rejects.toMatchObject({ name: 'NoStreamError' });
    const manager = await optimizer.jetstreamManager();
    await expect(manager.streams.delete('FACTS')).rejects.toThrow(/Permissions Violation/);
    await expect(manager.direct.getMessage('TELEMETRY', { seq: 1 })).rejects.toThrow(/Permissions Violation/);
    await expect(manager.consumers.add('TELEMETRY', { durable_name: 'optimizer-usage' })).rejects.toThrow(/Permissions Violation/);
    await expect(optimizer.ask('gateway', 'x', {})).rejects.toMatchObject({ code: 'forbidden' });
  });
});

describe('what an agent cannot do', () => {
  it.each(['upid.v1.b.agent.usage', 'upid.v1.b.agent.inventory', 'upid.v1.a.intelligence.rollup', 'upid.v1.a.recommendation.zero_scaling', 'upid.v1.a.optimizer.job', 'upid.cmd.v1.b.execute', 'upid.q.v1.intelligence.count', 'upid.dlq.intelligence', '_INBOX_intelligence.x'])(
    'publish %s', async (subject) => {
      const before = await stored('upid.v1.>');
      await expect(a.publish(subject, Buffer.from('forged'), { msgId: `forged/${subject}`, timeoutMs: 2_000 })).rejects.toMatchObject({ name: 'NoStreamError' });
      attacker.publish(subject, 'forged');
      await settle(attacker);
      expect(denials.some((denial) => denial.includes(subject))).toBe(true);
      expect(await stored('upid.v1.>')).toEqual(before);
      expect(await listDeadLetters(platform)).toEqual([]);
    });

  it.each(['$JS.API.INFO', '$JS.API.STREAM.NAMES', '$JS.API.STREAM.INFO.FACTS', '$JS.API.DIRECT.GET.FACTS', '$JS.API.STREAM.DELETE.FACTS', '$JS.API.CONSUMER.CREATE.FACTS.spy', '$JS.API.CONSUMER.MSG.NEXT.FACTS.optimizer-result', '$JS.ACK.FACTS.optimizer-result.1.1.1.1.1', '$SYS.REQ.SERVER.PING'])(
    'consume or steer the platform\'s streams by %s', async (subject) => {
      await expect(attacker.request(subject, '{}', { timeout: 1_000 })).rejects.toThrow(/Permissions Violation/i);
    });

  it('read an inbox of another, of the platform, or listen to facts', async () => {
    const heard: string[] = [];
    for (const subject of ['>', '_INBOX.>', '_INBOX_intelligence.>', `${inboxPrefix(agentUserName('b'))}.>`, 'upid.v1.>', 'upid.v1.b.agent.>', 'upid.cmd.v1.b.>', 'upid.q.v1.>', '_R_.>', '$JS.>']) {
      attacker.subscribe(subject, { callback: (error, message) => { if (!error) heard.push(message.subject); } });
    }
    await settle(attacker);
    await b.publish(subjects.agent('b', 'usage'), Buffer.from('of b'), { msgId: 'b/listen' });
    await b.request('upid.v1.b.agent.heartbeat', { n: 1 });
    await platform.publish('upid.v1.b.intelligence.rollup', Buffer.from('{}'), { msgId: 'r/1' });
    await settle(attacker);
    expect(heard).toEqual([]);
    expect(denials.length).toBeGreaterThanOrEqual(10);
  });

  it('subscribe to what it may but hear another account\'s traffic there', async () => {
    const heard: Msg[] = [];
    const own = attacker.subscribe('upid.cmd.v1.a.>', { callback: (error, message) => { if (!error) heard.push(message); } });
    await settle(attacker);
    // The same subject inside another account is another subject.
    await expect(b.publish('upid.cmd.v1.a.execute', Buffer.from('x'), { msgId: 'x', timeoutMs: 1_000 })).rejects.toMatchObject({ name: 'NoStreamError' });
    await settle(attacker);
    expect(heard).toEqual([]);
    own.unsubscribe();
  });

  it('have an acknowledgement land in a foreign inbox by setting its reply there', async () => {
    const heard: string[] = [];
    const victim = (await b.connection()).subscribe(`${inboxPrefix(agentUserName('b'))}.victim`, { callback: (error, message) => { if (!error) heard.push(message.subject); } });
    const service = (await platform.connection()).subscribe('_INBOX_intelligence.victim', { callback: (error, message) => { if (!error) heard.push(message.subject); } });
    await Promise.all([(await b.connection()).flush(), (await platform.connection()).flush()]);
    for (const reply of [`${inboxPrefix(agentUserName('b'))}.victim`, '_INBOX_intelligence.victim', 'upid.v1.b.agent.usage', 'upid.v1.a.intelligence.rollup', 'upid.q.v1.intelligence.count']) {
      attacker.publish('upid.v1.a.agent.usage', 'with a foreign reply', { reply });
    }
    await settle(attacker);
    await Promise.all([b.publish(subjects.agent('b', 'usage'), Buffer.from('after'), { msgId: 'b/after' }), (await platform.connection()).flush()]);
    expect(heard).toEqual([]);
    expect((await stored('upid.v1.b.agent.usage')).every((payload) => ['of b', 'after'].includes(payload))).toBe(true);
    expect(await stored('upid.v1.a.intelligence.rollup')).toEqual([]);
    victim.unsubscribe();
    service.unsubscribe();
  });

  it('answer a question or a command that was sent to another', async () => {
    // A reply subject of the platform, guessed or seen, leads nowhere from within the agent's account.
    const answers: string[] = [];
    await b.serve(subjects.commandAll('b'), z.unknown(), async () => {
      for (const subject of ['_INBOX_optimizer.x', '_INBOX_optimizer.>']) attacker.publish(subject.replace('>', 'y'), JSON.stringify({ accepted: false, forged: true }));
      await settle(attacker);
      return { accepted: true };
    });
    answers.push(JSON.stringify(await optimizer.request(subjects.command('b', 'execute'), { id: 'c3' })));
    expect(answers).toEqual(['{"accepted":true}']);
    expect(denials.some((denial) => denial.includes('_INBOX_optimizer'))).toBe(true);
  });

  it('pre-empt the id of another\'s message, or of the platform\'s, through its own subject', async () => {
    // The server's window of ids is one for the whole stream, so the ids on the wire are digests that nobody else can foretell.
    const seen = async (sequence: number) => (await (await platform.jetstreamManager()).direct.getMessage('TELEMETRY', { seq: sequence }))?.header.get('Nats-Msg-Id') ?? '';
    const first = await b.publish(subjects.agent('b', 'usage'), Buffer.from('after'), { msgId: 'b/epoch/1' });
    for (const id of ['b/epoch/2', await seen(first.sequence), `${await seen(first.sequence)}2`]) {
      const header = headers();
      header.set('Nats-Msg-Id', id);
      header.set('Upid-Message-Id', 'b/epoch/2');
      attacker.publish('upid.v1.a.agent.usage', 'pre-empting', { headers: header });
    }
    await a.publish(subjects.agent('a', 'usage'), Buffer.from('pre-empting'), { msgId: 'b/epoch/2' });
    await a.publish(subjects.agent('a', 'coverage'), Buffer.from('pre-empting'), { msgId: 'rollup/b/1' });
    await settle(attacker);
    expect((await b.publish(subjects.agent('b', 'usage'), Buffer.from('after'), { msgId: 'b/epoch/2' })).duplicate).toBe(false);
    expect((await b.publish(subjects.agent('b', 'usage'), Buffer.from('after'), { msgId: 'b/epoch/2' })).duplicate).toBe(true);
    expect((await platform.publish('upid.v1.b.intelligence.rollup', Buffer.from('{}'), { msgId: 'rollup/b/1' })).duplicate).toBe(false);
  });

  it('make the stream expire, roll up or replace what others published by headers of its own', async () => {
    const before = await stored('upid.v1.b.agent.usage');
    for (const [name, value] of [['Nats-Rollup', 'all'], ['Nats-Rollup', 'sub'], ['Nats-TTL', '1s'], ['Nats-Expected-Last-Sequence', '0']] as const) {
      const header = headers();
      header.set(name, value);
      attacker.publish('upid.v1.a.agent.usage', 'steering', { headers: header });
    }
    await settle(attacker);
    await b.publish(subjects.agent('b', 'usage'), Buffer.from('after'), { msgId: 'b/headers' });
    expect(await stored('upid.v1.b.agent.usage')).toEqual([...before, 'after']);
  });
});
