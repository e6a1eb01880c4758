import { jetstream, jetstreamManager, JetStreamApiError, type JetStreamClient, type JetStreamManager, RetentionPolicy, DiscardPolicy, StorageType, DeliverPolicy, ReplayPolicy, type StreamConfig } from '@nats-io/jetstream';
import { connect, errors as natsErrors, type NatsConnection, nanos, nkeyAuthenticator, usernamePasswordAuthenticator } from '@nats-io/transport-node';
import { HEADERS, type StreamDefinition } from '@upid/contracts';
import { createHash, createHmac } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { z } from 'zod';
import { type Logger, outgoingTrace } from '../logging/logging.js';
import { inboxPrefix } from '../servers/nats-config.js';
import { type Delivery, deliveryOf, toHeaders } from './delivery.js';
import { BusUnavailableError, MAX_MESSAGE_BYTES, MessageTooLargeError, NoStreamError, StreamFullError } from './errors.js';
import { Queries, type QueryOptions, type ServeOptions } from './queries.js';
import { Semaphore } from './semaphore.js';

export interface BusOptions {
  readonly url: string | readonly string[];
  /** The service's name: it names the connection, queue group, durable consumers and dead letters. */
  readonly name: string;
  readonly nkeySeed?: string;
  readonly user?: string;
  readonly password?: string;
  /** Default `_INBOX_<name>`, as the server's configuration gives the user of that name. */
  readonly inboxPrefix?: string;
  /** Return at once and connect in the background (the agent spools until then). Default: wait for the first connection. */
  readonly background?: boolean;
  readonly log?: Logger;
}

export interface PublishOptions {
  /** The deterministic id: what JetStream drops a second message by, and what consumers get as `messageId`. */
  readonly msgId: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** When it was first meant to be sent, unix ms; default now. */
  readonly publishedAtMs?: number;
  /** How long to wait for the acknowledgement; default 10 s. */
  readonly timeoutMs?: number;
}
export interface PublishResult { readonly stream: string; readonly sequence: number; readonly duplicate: boolean }
export type BusState = 'connecting' | 'connected' | 'reconnecting' | 'closed';

/** Batches under way at once; further publishers wait. */
const PUBLISH_IN_FLIGHT = 64;
/** Codes of the server for a stream or a disk that has no room (nats-server, errors.json). */
const FULL_CODES = new Set([10077, 10047, 10023, 10122]);

/** Connects, reconnecting for ever with a jittered back-off. */
export async function connectBus(options: BusOptions): Promise<Bus> {
  const connecting = connect({
    servers: typeof options.url === 'string' ? options.url.split(',').map((each) => each.trim()) : [...options.url],
    name: options.name,
    inboxPrefix: options.inboxPrefix ?? inboxPrefix(options.name),
    maxReconnectAttempts: -1,
    waitOnFirstConnect: true,
    reconnectTimeWait: 250,
    reconnectJitter: 250,
    // A user that is not known yet (an agent before it is registered) goes on trying.
    ignoreAuthErrorAbort: true,
    noAsyncTraces: true,
    pingInterval: 10_000,
    maxPingOut: 3,
    ...(options.nkeySeed ? { authenticator: nkeyAuthenticator(new TextEncoder().encode(options.nkeySeed)) } : options.user ? { authenticator: usernamePasswordAuthenticator(options.user, options.password) } : {}),
  });
  const bus = new Bus(options, connecting);
  if (!options.background) await bus.connection();
  return bus;
}

/** One connection to the bus. Payloads are at most {@link MAX_MESSAGE_BYTES}. */
export class Bus {
  readonly name: string;
  readonly inboxPrefix: string;
  private current: NatsConnection | null = null;
  private lost = false;
  private ended = false;
  private readonly idKey: Buffer | null;
  private readonly publishing = new Semaphore(PUBLISH_IN_FLIGHT);
  private readonly queries: Queries;
  private readonly onStateChange = new Set<(state: BusState) => void>();
  /** Subjects that this user perhaps may not publish, and finds out by trying. */
  private readonly trying = new Set<string>();
  private readonly tails = new Set<{ stop(): Promise<void> }>();

  constructor(private readonly options: BusOptions, private readonly connecting: Promise<NatsConnection>) {
    this.name = options.name;
    this.idKey = options.nkeySeed ? createHash('sha256').update(`upid message id ${options.nkeySeed}`).digest() : null;
    this.inboxPrefix = options.inboxPrefix ?? inboxPrefix(options.name);
    this.queries = new Queries(this, options.log);
    connecting.then((connection) => {
      this.current = connection;
      this.changed();
      void this.follow(connection);
    }, (error: unknown) => {
      this.ended = true;
      this.options.log?.error({ err: error }, 'the bus cannot be reached');
      this.changed();
    });
  }

  get state(): BusState {
    if (this.ended || this.current?.isClosed()) return 'closed';
    if (!this.current) return 'connecting';
    return this.lost ? 'reconnecting' : 'connected';
  }

  /** The connection, once there is one. */
  connection(): Promise<NatsConnection> {
    return this.connecting;
  }

  /** The JetStream client, once connected. */
  async jetstream(): Promise<JetStreamClient> {
    return jetstream(await this.connecting, { timeout: 10_000 });
  }

  async jetstreamManager(): Promise<JetStreamManager> {
    return jetstreamManager(await this.connecting, { timeout: 10_000, checkAPI: false });
  }

  /**
   * The id that the server sees. Its window of ids is shared by all who publish to a stream, and whoever knows an id in advance can use it up
   * before its owner does; so it is a keyed digest of the id, by this user's own secret: the same at every try and in every replica, and
   * nobody else can tell the next one, whatever they have seen.
   */
  private wireId(msgId: string): string {
    return this.idKey ? createHmac('sha256', this.idKey).update(msgId).digest('base64url') : msgId;
  }

  /** Calls back at each change of {@link state}. */
  watch(listener: (state: BusState) => void): void {
    this.onStateChange.add(listener);
  }

  private changed(): void {
    for (const listener of this.onStateChange) listener(this.state);
  }

  private async follow(connection: NatsConnection): Promise<void> {
    for await (const status of connection.status()) {
      if (status.type === 'disconnect') {
        this.lost = true;
        this.options.log?.warn({ server: status.server }, 'the bus is away, reconnecting');
        this.changed();
      } else if (status.type === 'reconnect') {
        this.lost = false;
        this.options.log?.info({ server: status.server }, 'the bus is back');
        this.changed();
      } else if (status.type === 'error') {
        if (status.error instanceof natsErrors.PermissionViolationError) this.queries.denied(status.error);
        const expected = status.error instanceof natsErrors.PermissionViolationError && this.trying.has(status.error.subject);
        if (!expected) this.options.log?.error({ err: status.error }, 'the bus reports an error');
      } else if (status.type === 'slowConsumer') this.options.log?.warn({ subject: status.sub.getSubject(), pending: status.pending }, 'messages wait in this process');
    }
    this.ended = true;
    this.changed();
  }

  /**
   * Makes streams or brings them to their definition. Several processes at once are safe. Where this user may not manage streams, waits
   * until somebody else has made them.
   */
  async ensureStreams(definitions: readonly StreamDefinition[]): Promise<void> {
    const manager = await this.jetstreamManager();
    let mayManage = true;
    for (const each of definitions) {
      this.trying.add(`$JS.API.STREAM.CREATE.${each.name}`).add(`$JS.API.STREAM.UPDATE.${each.name}`);
      const config = {
        name: each.name, subjects: [...each.subjects], max_bytes: each.maxBytes, max_age: nanos(each.maxAgeMs), duplicate_window: nanos(each.duplicateWindowMs),
        discard: each.discard === 'new' ? DiscardPolicy.New : DiscardPolicy.Old, retention: RetentionPolicy.Limits, storage: StorageType.File, allow_direct: true,
      };
      for (;;) {
        const standing = await manager.streams.info(each.name).then((info) => info.config, (error: unknown) => {
          if (error instanceof JetStreamApiError && error.code === 10059) return null;
          throw error;
        });
        // Who may not manage streams works with one that stands as it is, and waits for one that is to be made.
        if (standing && (!mayManage || sameStream(standing, config))) break;
        if (!mayManage) {
          await delay(500);
          continue;
        }
        try {
          if (standing) await manager.streams.update(each.name, config);
          else await manager.streams.add(config);
          break;
        } catch (error) {
          const isForbidden = inChain(error, (cause) => cause instanceof natsErrors.PermissionViolationError);
          // 10058: another was faster, with another configuration.
          if (!isForbidden && !(error instanceof JetStreamApiError && error.code === 10058)) throw new NoStreamError(`Stream ${each.name} cannot be made: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
          if (isForbidden) mayManage = false;
          if (!standing) this.options.log?.info({ stream: each.name }, 'waiting for the stream to be made');
        }
      }
    }
  }

  /**
   * Publishes to a stream and returns when the bus has taken it. At most 64 are under way at once, further calls wait.
   * @throws {MessageTooLargeError} never to be tried again as it is
   * @throws {StreamFullError | NoStreamError | BusUnavailableError} to be tried again with the same id
   */
  async publish(subject: string, payload: Uint8Array, options: PublishOptions): Promise<PublishResult> {
    if (payload.length > MAX_MESSAGE_BYTES) throw new MessageTooLargeError(subject, payload.length);
    return this.publishing.run(async () => {
      if (this.state !== 'connected') throw new BusUnavailableError(`The bus is ${this.state}`);
      const headers = toHeaders({ [HEADERS.messageName]: options.msgId, [HEADERS.publishedAt]: new Date(options.publishedAtMs ?? Date.now()).toISOString(), ...outgoingTrace(), ...options.headers });
      try {
        const ack = await (await this.jetstream()).publish(subject, payload, { msgID: this.wireId(options.msgId), headers, timeout: options.timeoutMs ?? 10_000 });
        return { stream: ack.stream, sequence: ack.seq, duplicate: ack.duplicate };
      } catch (error) {
        throw publishError(subject, error);
      }
    });
  }

  /** A plain message, kept by no stream and acknowledged by nobody. */
  emit(subject: string, payload: Uint8Array | string, headers: Readonly<Record<string, string>> = {}): void {
    if (this.state !== 'connected' || !this.current) throw new BusUnavailableError(`The bus is ${this.state}`);
    this.current.publish(subject, payload, { headers: toHeaders({ ...outgoingTrace(), ...headers }) });
  }

  /**
   * Asks a service the question `upid.q.v1.<service>.<name>`; answers of any size up to 32 MiB.
   * @throws {UpidError} as the service threw it; code `timeout` (default 10 s without a sign) | {ServiceUnavailableError} when nobody answers
   */
  ask<T = unknown>(service: string, name: string, request: unknown, options?: QueryOptions): Promise<T> {
    return this.queries.request<T>(`upid.q.v1.${service}.${name}`, service, request, options);
  }

  /** As {@link ask}, on any subject (a command into an agent's account, a heartbeat). */
  request<T = unknown>(subject: string, request: unknown, options?: QueryOptions): Promise<T> {
    return this.queries.request<T>(subject, subject, request, options);
  }

  /** Answers `upid.q.v1.<own name>.<name>` in the service's queue group. A request that does not fit the schema is answered `invalid_request`. */
  serveQuery<S extends z.ZodType>(name: string, schema: S, handler: (request: z.output<S>, subject: string) => Promise<unknown>): Promise<void> {
    return this.serve(`upid.q.v1.${this.name}.${name}`, schema, handler);
  }

  /** As {@link serveQuery}, on any subject; the handler is told which one it came on. */
  serve<S extends z.ZodType>(subject: string, schema: S, handler: (request: z.output<S>, subject: string) => Promise<unknown>, options: ServeOptions = {}): Promise<void> {
    return this.queries.serve(subject, schema, handler, { queue: this.name, ...options });
  }

  /** Every message of a stream's subjects to this process alone, in order, from now or from a time; no position is kept. */
  async tail(options: { readonly stream: string; readonly subjects: readonly string[]; readonly from?: 'new' | Date }, handler: (message: Delivery) => Promise<void> | void): Promise<{ stop(): Promise<void> }> {
    const client = await this.jetstream();
    const start = options.from instanceof Date ? { deliver_policy: DeliverPolicy.StartTime, opt_start_time: options.from.toISOString() } : { deliver_policy: DeliverPolicy.New };
    const consumer = await client.consumers.get(options.stream, { filter_subjects: [...options.subjects], replay_policy: ReplayPolicy.Instant, ...start });
    const messages = await consumer.consume({ max_messages: 256 });
    const running = (async () => {
      for await (const message of messages) {
        try {
          await handler(deliveryOf(message));
        } catch (error) {
          this.options.log?.error({ err: error, subject: message.subject }, 'a message that is only shown could not be handled');
        }
      }
    })();
    const tail = { stop: async () => { this.tails.delete(tail); await messages.close(); await running; } };
    this.tails.add(tail);
    return tail;
  }

  /** Stops answering, lets what runs finish, flushes and closes. */
  async drain(): Promise<void> {
    if (!this.current) {
      this.ended = true;
      void this.connecting.then((connection) => connection.close(), () => undefined);
      return;
    }
    await Promise.all([...this.tails].map((tail) => tail.stop()));
    await this.queries.stop();
    if (!this.current.isClosed()) {
      if (this.state === 'connected') await this.current.drain();
      else await this.current.close();
    }
    this.ended = true;
  }
}

type StreamSettings = Pick<StreamConfig, 'subjects' | 'max_bytes' | 'max_age' | 'duplicate_window' | 'discard'>;
function sameStream(standing: StreamSettings, wished: StreamSettings): boolean {
  return standing.max_bytes === wished.max_bytes && standing.max_age === wished.max_age && standing.duplicate_window === wished.duplicate_window && standing.discard === wished.discard
    && standing.subjects.toSorted().join() === wished.subjects.toSorted().join();
}

function inChain(error: unknown, test: (each: Error) => boolean): boolean {
  for (let each = error; each instanceof Error; each = each.cause) if (test(each)) return true;
  return false;
}

/** The named error for a failure of a publish to a stream. */
function publishError(subject: string, error: unknown): Error {
  if (error instanceof JetStreamApiError) {
    if (FULL_CODES.has(error.code) || /maximum (bytes|messages) exceeded|insufficient|no space/i.test(error.message)) return new StreamFullError(`The stream for ${subject} is full: ${error.message}`, { cause: error });
    return new BusUnavailableError(`The bus could not store a message for ${subject}: ${error.message}`, { cause: error });
  }
  if (inChain(error, (each) => each instanceof natsErrors.PermissionViolationError)) return new NoStreamError(`This user may not publish ${subject}`, { cause: error });
  if (inChain(error, (each) => each instanceof natsErrors.NoRespondersError || (each instanceof natsErrors.RequestError && each.isNoResponders()))) return new NoStreamError(`No stream takes ${subject}`, { cause: error });
  return new BusUnavailableError(`The bus did not acknowledge a message for ${subject}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
}
