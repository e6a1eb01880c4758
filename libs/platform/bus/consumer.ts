import { AckPolicy, type ConsumerInfo, DeliverPolicy, type JetStreamManager, JetStreamApiError, type JsMsg } from '@nats-io/jetstream';
import { errors as natsErrors, nanos } from '@nats-io/transport-node';
import { setTimeout as delay } from 'node:timers/promises';
import { CONSUMER_DEFAULTS, FUTURE_TOLERANCE_MS, HEADERS, PoisonMessageError } from '@upid/contracts';
import { type Logger, withCorrelation, withIncomingTrace } from '../logging/logging.js';
import type { Bus } from './bus.js';
import { deadLetterOf } from './dead-letters.js';
import { type BatchDelivery, type Delivery, deliveryOf } from './delivery.js';
import { BusUnavailableError, isDependencyAway, NoStreamError } from './errors.js';

export interface ConsumerSpec {
  readonly stream: string;
  readonly subjects: readonly string[];
  /** Named within the service: the durable consumer is `<service>-<durable>`. */
  readonly durable: string;
  /** Where a new durable starts. Default: everything that is kept. */
  readonly startAt?: 'all' | 'new';
  /** How long a message that failed is put off after its n-th try, ms; default {@link backoffMs}. */
  readonly backoff?: (tries: number) => number;
}
export interface SingleSpec extends ConsumerSpec {
  /** Subjects handled at once, 16; one message of a subject at a time. */
  readonly concurrency?: number;
}
export interface BatchSpec extends ConsumerSpec {
  /** Most messages of a batch, 500. */
  readonly maxMessages?: number;
  /** Most bytes of a batch, 16 MiB. */
  readonly maxBytes?: number;
  /** How long the first message of a batch waits for others, 20 ms. */
  readonly maxWaitMs?: number;
  /** Batches handled at once, 1. */
  readonly concurrency?: number;
}

export type SingleHandler = (message: Delivery) => Promise<unknown>;
export type BatchHandler = (messages: BatchDelivery[]) => Promise<unknown>;

/** What a consumer leaves behind: messages, an estimate of their bytes (by the stream's mean), the age of the oldest. */
export interface ConsumerLag {
  readonly consumer: string;
  readonly stream: string;
  readonly messages: number;
  readonly bytes: number;
  readonly ageSeconds: number;
  /** True when bytes or age passed half of the stream's bound: what is older is about to be refused or lost. */
  readonly alarm: boolean;
}

export interface ConsumerCounters { handled: number; failed: number; dead: number }

const HEARTBEAT_MS = CONSUMER_DEFAULTS.ackWaitMs / 3;
/** A pull waits this long at the server; a stopping consumer waits it out, so that nothing is sent to one that has left. */
const PULL_MS = 1_000;
/** What is given back at the end is handed out again after this: at once it would come back on the pull that is still open, again and again, until it counts as poison. */
const GIVEN_BACK_MS = 2 * PULL_MS;
/** Bytes that a consumer of single messages holds; a batch's bound is its spec's. Either may be doubled by what is under way. */
const HELD_BYTES = 16 * 1024 * 1024;
const LONGEST_BACKOFF_MS = 60_000;
/** A message that this many deliveries did not end (its handler takes the process down) is not handed out again. */
const CRASH_TRIES = 2 * CONSUMER_DEFAULTS.maxDeliver;

/** How long until try `tries + 1`, ms: 1 s doubled each time, at most a minute. */
export function backoffMs(tries: number): number {
  return Math.min(LONGEST_BACKOFF_MS, 1_000 * 2 ** Math.max(0, tries - 1));
}

/** The first PoisonMessageError in the chain of causes. */
function poisonIn(error: unknown): Error | null {
  for (let each = error; each instanceof Error; each = each.cause) if (each instanceof PoisonMessageError || each.name === 'PoisonMessageError') return each;
  return null;
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

interface Held { readonly message: JsMsg; readonly delivery: Delivery; readonly since: number }

/**
 * One durable pull consumer of a stream. It pulls no more than it may hold, tells the server that it is at work on what it holds, and settles
 * each message once: acknowledged after its handler, put off with a back-off, or moved to the dead letters. What the handler commits must be
 * safe to commit again: a crash between commit and acknowledgement brings the message back.
 */
export class StreamConsumer {
  readonly name: string;
  readonly counters: ConsumerCounters = { handled: 0, failed: 0, dead: 0 };
  private readonly held = new Map<JsMsg, Held>();
  private readonly queue: Held[] = [];
  private readonly busySubjects = new Set<string>();
  private queuedBytes = 0;
  private heldBytes = 0;
  private meanBytes = 64 * 1024;
  private running = 0;
  private stopping = false;
  private pulling: Promise<void> = Promise.resolve();
  private heartbeat: NodeJS.Timeout | undefined;
  private waker: NodeJS.Timeout | undefined;
  private readonly aborted = new AbortController();
  private readonly idle: (() => void)[] = [];
  private readonly capacity: number;
  private readonly concurrency: number;
  private readonly batch: Required<Pick<BatchSpec, 'maxMessages' | 'maxBytes' | 'maxWaitMs'>> | null;

  constructor(
    private readonly bus: Bus,
    private readonly spec: SingleSpec | BatchSpec,
    private readonly handler: { readonly single: SingleHandler } | { readonly batch: BatchHandler },
    private readonly log: Logger,
  ) {
    this.name = `${bus.name}-${spec.durable}`;
    const isBatch = 'batch' in handler;
    const given = spec as BatchSpec;
    this.batch = isBatch ? { maxMessages: given.maxMessages ?? 500, maxBytes: given.maxBytes ?? 16 * 1024 * 1024, maxWaitMs: given.maxWaitMs ?? 20 } : null;
    this.concurrency = spec.concurrency ?? (isBatch ? 1 : 16);
    this.capacity = this.batch ? this.batch.maxMessages * (this.concurrency + 1) : this.concurrency * 2;
  }

  /** Makes the durable consumer, waiting for its stream, and starts. */
  async start(): Promise<void> {
    const manager = await this.bus.jetstreamManager();
    await this.ensure(manager);
    this.heartbeat = setInterval(() => this.tellWorking(), HEARTBEAT_MS / 4);
    this.pulling = this.pull();
  }

  private async ensure(manager: JetStreamManager): Promise<void> {
    const changeable = {
      ack_wait: nanos(CONSUMER_DEFAULTS.ackWaitMs), max_ack_pending: Math.max(CONSUMER_DEFAULTS.maxAckPending, 4 * this.capacity), filter_subjects: [...this.spec.subjects],
      // We count the tries ourselves and make our own dead letters: the server's bound would drop the message silently.
      max_deliver: -1,
    };
    for (;;) {
      try {
        await manager.consumers.add(this.spec.stream, {
          durable_name: this.name, ack_policy: AckPolicy.Explicit, deliver_policy: this.spec.startAt === 'new' ? DeliverPolicy.New : DeliverPolicy.All, ...changeable,
        });
        return;
      } catch (error) {
        // 10148, 10105, 10013: it exists with another configuration; what may change is changed.
        if (error instanceof JetStreamApiError && [10148, 10105, 10013].includes(error.code)) {
          await manager.consumers.update(this.spec.stream, this.name, changeable);
          return;
        }
        if (error instanceof natsErrors.PermissionViolationError) throw new NoStreamError(`This user of the bus may not consume ${this.spec.stream} as ${this.name}`, { cause: error });
        if (this.stopping) return;
        this.log.info({ stream: this.spec.stream, consumer: this.name, reason: reasonOf(error) }, 'waiting for the stream');
        await delay(1_000, undefined, { signal: this.aborted.signal }).catch(() => undefined);
      }
    }
  }

  private async pull(): Promise<void> {
    const client = await this.bus.jetstream();
    while (!this.stopping) {
      const room = this.room();
      if (room < 1) {
        await new Promise<void>((resolve) => { this.idle.push(resolve); });
        continue;
      }
      try {
        const consumer = await client.consumers.get(this.spec.stream, this.name);
        // One description of the consumer serves many pulls; an error has it looked up again.
        for (let next = room; !this.stopping && next > 0; next = this.room()) {
          const messages = await consumer.fetch({ max_messages: next, expires: PULL_MS });
          for await (const message of messages) this.take(message);
        }
      } catch (error) {
        if (this.stopping) return;
        this.log.warn({ consumer: this.name, reason: reasonOf(error) }, 'messages cannot be pulled, trying again');
        await delay(500, undefined, { signal: this.aborted.signal }).catch(() => undefined);
      }
    }
  }

  /**
   * How many messages to ask for now: as many as there is room for, in number and, by the mean size of late, in bytes. A pull of a few
   * messages is not worth its way: then 0, until more have been settled.
   */
  private room(): number {
    const free = this.capacity - this.held.size;
    if (free < this.capacity / 4) return 0;
    const bytes = 2 * (this.batch?.maxBytes ?? HELD_BYTES) - this.heldBytes;
    return Math.min(free, this.batch?.maxMessages ?? free, Math.max(this.held.size === 0 ? 1 : 0, Math.floor(bytes / this.meanBytes)));
  }

  private take(message: JsMsg): void {
    const delivery = deliveryOf(message);
    this.meanBytes += (Math.max(256, delivery.payload.length) - this.meanBytes) / 32;
    if (this.stopping) {
      message.nak(GIVEN_BACK_MS);
      return;
    }
    const held = { message, delivery, since: Date.now() };
    this.held.set(message, held);
    this.heldBytes += delivery.payload.length;
    if (delivery.tries > CRASH_TRIES) {
      void this.bury(held, `It was delivered ${delivery.tries} times and never came to an end: its handler ends the process or outlasts every deadline`);
      return;
    }
    if (delivery.publishedAtMs !== null && delivery.publishedAtMs - delivery.receivedAtMs > FUTURE_TOLERANCE_MS) {
      void this.bury(held, `Its publish time ${delivery.headers[HEADERS.publishedAt]} lies ${Math.round((delivery.publishedAtMs - delivery.receivedAtMs) / 1000)} s after the server took it: the publisher's clock is wrong`);
      return;
    }
    this.queue.push(held);
    this.queuedBytes += delivery.payload.length;
    this.dispatch();
  }

  private dispatch(): void {
    if (this.batch) this.dispatchBatches(this.batch);
    else this.dispatchSingles();
  }

  private dispatchSingles(): void {
    for (let index = 0; index < this.queue.length && this.running < this.concurrency;) {
      const held = this.queue[index];
      if (!held || this.busySubjects.has(held.delivery.subject)) {
        index++;
        continue;
      }
      this.queue.splice(index, 1);
      this.queuedBytes -= held.delivery.payload.length;
      this.busySubjects.add(held.delivery.subject);
      this.running++;
      void this.handleSingle(held).finally(() => {
        this.busySubjects.delete(held.delivery.subject);
        this.finished();
      });
    }
  }

  private dispatchBatches({ maxMessages, maxBytes, maxWaitMs }: NonNullable<StreamConsumer['batch']>): void {
    while (this.running < this.concurrency && this.queue.length > 0) {
      const waited = Date.now() - (this.queue[0]?.since ?? 0);
      if (this.queue.length < maxMessages && this.queuedBytes < maxBytes && waited < maxWaitMs && !this.stopping) {
        this.waker ??= setTimeout(() => { this.waker = undefined; this.dispatch(); }, maxWaitMs - waited);
        return;
      }
      let bytes = 0;
      let count = 0;
      for (; count < this.queue.length && count < maxMessages; count++) {
        bytes += this.queue[count]?.delivery.payload.length ?? 0;
        if (count > 0 && bytes > maxBytes) break;
      }
      const batch = this.queue.splice(0, count);
      for (const held of batch) this.queuedBytes -= held.delivery.payload.length;
      this.running++;
      void this.handleBatch(batch).finally(() => this.finished());
    }
  }

  private finished(): void {
    this.running--;
    this.dispatch();
    this.wake();
  }

  private wake(): void {
    for (const resolve of this.idle.splice(0)) resolve();
  }

  private tellWorking(): void {
    const now = Date.now();
    for (const { message, since } of this.held.values()) if (now - since > HEARTBEAT_MS / 2) message.working();
  }

  /** Calls `work` until it ends or fails for a reason of its own; while something it needs is away it is called again, uncounted. */
  private async whileDependenciesAway(work: () => Promise<unknown>): Promise<void> {
    for (let wait = 250; ; wait = Math.min(wait * 2, 10_000)) {
      try {
        await work();
        return;
      } catch (error) {
        if (!isDependencyAway(error) || this.stopping) throw error;
        this.log.warn({ consumer: this.name, reason: reasonOf(error) }, 'something that the handler needs is away, waiting');
        await delay(wait, undefined, { signal: this.aborted.signal }).catch(() => undefined);
      }
    }
  }

  private handleSingle(held: Held): Promise<void> {
    const { delivery } = held;
    const handler = (this.handler as { single: SingleHandler }).single;
    return withIncomingTrace((name) => delivery.headers[name], { consumer: this.name, subject: delivery.subject, message_id: delivery.messageId }, async () => {
      try {
        await this.whileDependenciesAway(() => handler(delivery));
        this.acknowledge(held);
      } catch (error) {
        await this.failed(held, error);
      }
    });
  }

  private handleBatch(batch: readonly Held[]): Promise<void> {
    return withCorrelation({ consumer: this.name, batch_messages: batch.length }, async () => {
      const handler = (this.handler as { batch: BatchHandler }).batch;
      const rejected = new Map<Held, string>();
      const deliveries = batch.map((held) => ({ ...held.delivery, reject: (reason: string) => { rejected.set(held, reason); } }));
      try {
        await this.whileDependenciesAway(() => { rejected.clear(); return handler(deliveries); });
      } catch (error) {
        if (batch.length === 1 && batch[0]) await this.failed(batch[0], error);
        else if (this.stopping && isDependencyAway(error)) for (const held of batch) this.putOff(held, GIVEN_BACK_MS);
        else {
          // One message of many is at fault: halves find it, and the rest goes on.
          const middle = Math.ceil(batch.length / 2);
          await this.handleBatch(batch.slice(0, middle));
          await this.handleBatch(batch.slice(middle));
        }
        return;
      }
      for (const held of batch) if (!rejected.has(held)) this.acknowledge(held);
      for (const [held, reason] of rejected) await this.bury(held, reason);
    });
  }

  private letGo(held: Held): void {
    if (this.held.delete(held.message)) this.heldBytes -= held.delivery.payload.length;
  }

  private acknowledge(held: Held): void {
    held.message.ack();
    this.letGo(held);
    this.counters.handled++;
  }

  private putOff(held: Held, waitMs: number): void {
    held.message.nak(waitMs);
    this.letGo(held);
  }

  private async failed(held: Held, error: unknown): Promise<void> {
    const { tries } = held.delivery;
    const poison = poisonIn(error);
    if (isDependencyAway(error)) return this.putOff(held, GIVEN_BACK_MS);
    this.counters.failed++;
    if (poison) return this.bury(held, reasonOf(poison));
    if (tries >= CONSUMER_DEFAULTS.maxDeliver) {
      this.log.error({ err: error, tries }, 'the last try failed');
      return this.bury(held, `${tries} tries failed; the last: ${reasonOf(error)}`);
    }
    const wait = (this.spec.backoff ?? backoffMs)(tries);
    this.log.warn({ err: error, tries, again_in_ms: wait }, 'a message could not be handled, it comes again');
    this.putOff(held, wait);
  }

  /** Moves a message to the dead letters; it leaves its stream's care when the dead letter is stored. */
  private async bury(held: Held, reason: string): Promise<void> {
    const letter = deadLetterOf(this.bus.name, this.name, held.delivery, reason, new Date());
    for (;;) {
      try {
        await this.bus.publish(letter.subject, letter.payload, { msgId: letter.msgId, headers: letter.headers });
        break;
      } catch (error) {
        if (this.stopping || !(error instanceof BusUnavailableError)) {
          this.log.error({ err: error, subject: held.delivery.subject }, 'the dead letter could not be stored, the message comes again');
          this.putOff(held, backoffMs(held.delivery.tries));
          return;
        }
        await delay(1_000, undefined, { signal: this.aborted.signal }).catch(() => undefined);
      }
    }
    this.log.error({ subject: held.delivery.subject, message_id: held.delivery.messageId, stream_sequence: held.delivery.streamSequence, reason }, 'dead letter');
    held.message.term('dead letter');
    this.letGo(held);
    this.counters.dead++;
    this.wake();
  }

  /** Hands a dead letter's message to the handler as if it came for the first time. */
  async replay(delivery: Delivery): Promise<void> {
    if ('single' in this.handler) {
      await this.handler.single(delivery);
      return;
    }
    const rejected: string[] = [];
    await this.handler.batch([{ ...delivery, reject: (reason) => { rejected.push(reason); } }]);
    if (rejected[0] !== undefined) throw new PoisonMessageError(rejected[0]);
  }

  /** Asks the server what waits. */
  async lag(now: Date): Promise<ConsumerLag> {
    const manager = await this.bus.jetstreamManager();
    const [info, stream]: [ConsumerInfo, Awaited<ReturnType<typeof manager.streams.info>>] = await Promise.all([manager.consumers.info(this.spec.stream, this.name), manager.streams.info(this.spec.stream)]);
    const messages = info.num_pending + info.num_ack_pending;
    const mean = stream.state.messages > 0 ? stream.state.bytes / stream.state.messages : 0;
    const oldest = messages > 0 ? await this.oldestWaiting(manager, info.ack_floor.stream_seq + 1) : null;
    const bytes = Math.round(messages * mean);
    const ageSeconds = oldest ? Math.max(0, (now.getTime() - oldest.getTime()) / 1000) : 0;
    const maxAgeSeconds = stream.config.max_age / 1e9;
    const alarm = (stream.config.max_bytes > 0 && bytes > stream.config.max_bytes / 2) || (maxAgeSeconds > 0 && ageSeconds > maxAgeSeconds / 2);
    return { consumer: this.name, stream: this.spec.stream, messages, bytes, ageSeconds, alarm };
  }

  private async oldestWaiting(manager: JetStreamManager, sequence: number): Promise<Date | null> {
    const found = await Promise.all(this.spec.subjects.map((subject) => manager.direct.getMessage(this.spec.stream, { seq: sequence, next_by_subj: subject })));
    const times = found.filter((each) => each !== null).map((each) => each.time.getTime());
    return times.length > 0 ? new Date(Math.min(...times)) : null;
  }

  /** Pulls no more, finishes what its handlers hold, gives back the rest. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.wake();
    this.aborted.abort();
    for (const held of this.queue.splice(0)) this.putOff(held, GIVEN_BACK_MS);
    this.queuedBytes = 0;
    clearTimeout(this.waker);
    await this.pulling;
    while (this.running > 0) await new Promise<void>((resolve) => { this.idle.push(resolve); });
    clearInterval(this.heartbeat);
  }
}
