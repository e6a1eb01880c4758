import { createInbox, type Msg, type NatsConnection, type PermissionViolationError, type Subscription } from '@nats-io/transport-node';
import { InvalidTimeRangeError, PAGE_BYTES, UpidError, wireErrorSchema } from '@upid/contracts';
import type { z } from 'zod';
import { currentCorrelation, type Logger, outgoingTrace, withIncomingTrace } from '../logging/logging.js';
import { toHeaders } from './delivery.js';
import { isDependencyAway, MAX_MESSAGE_BYTES, ServiceUnavailableError } from './errors.js';
import { Semaphore } from './semaphore.js';

export interface QueryOptions {
  /** Longest silence before and between the pages of an answer, ms; default 10,000. */
  readonly timeoutMs?: number;
}
export interface ServeOptions {
  /** Queue group; default the service's name. */
  readonly queue?: string;
}

/** Set on an answer that is an error. */
const ERROR_HEADER = 'Upid-Error';
/** `n/m` on each page of an answer over PAGE_BYTES. */
const PAGE_HEADER = 'Upid-Page';
/** Most bytes of an answer: what one asker may make a service and the bus hold. */
export const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
/** Questions that one process answers at once. */
const SERVE_CONCURRENCY = 64;

/** What questions need of the bus. */
interface Connected {
  readonly name: string;
  readonly inboxPrefix: string;
  readonly state: string;
  connection(): Promise<NatsConnection>;
}

/** Request and reply over core NATS: pages, named errors, traces. */
export class Queries {
  private readonly subscriptions: Subscription[] = [];
  private readonly serving = new Semaphore(SERVE_CONCURRENCY);
  private readonly running = new Set<Promise<void>>();
  private readonly asking = new Set<{ subject: string; fail(error: Error): void }>();

  constructor(private readonly bus: Connected, private readonly log: Logger | undefined) {}

  /** The server refused this user's message or subscription: whoever waits for an answer to it is told at once. */
  denied(error: PermissionViolationError): void {
    for (const each of this.asking) if (each.subject === error.subject) each.fail(new UpidError('forbidden', `This user of the bus may not send to ${error.subject}`, {}, { cause: error }));
  }

  async request<T>(subject: string, service: string, request: unknown, options: QueryOptions = {}): Promise<T> {
    const payload = Buffer.from(JSON.stringify(request ?? null));
    if (payload.length > MAX_MESSAGE_BYTES) throw new UpidError('payload_too_large', `A question of ${payload.length} bytes to ${service} is over the limit of ${MAX_MESSAGE_BYTES} bytes`);
    const timeoutMs = options.timeoutMs ?? 10_000;
    if (this.bus.state !== 'connected') throw new ServiceUnavailableError(service, `${service} cannot be asked: the bus is ${this.bus.state}`);
    const connection = await this.bus.connection();
    return new Promise<T>((resolve, reject) => {
      const inbox = createInbox(this.bus.inboxPrefix);
      const pages: Uint8Array[] = [];
      const asked = { subject, fail: (error: Error) => finish(() => reject(error)) };
      const onSilence = () => finish(() => reject(new UpidError('timeout', `${service} did not answer within ${timeoutMs} ms`, { service })));
      let timer = setTimeout(onSilence, timeoutMs);
      const finish = (settle: () => void) => {
        clearTimeout(timer);
        this.asking.delete(asked);
        subscription.unsubscribe();
        settle();
      };
      const onAnswer = (message: Msg) => {
        if (message.data.length === 0 && message.headers?.code === 503) return finish(() => reject(new ServiceUnavailableError(service)));
        if (message.headers?.has(ERROR_HEADER)) return finish(() => reject(errorFromWire(message.data)));
        const [page, of] = (message.headers?.get(PAGE_HEADER) || '1/1').split('/').map(Number);
        if (page !== pages.length + 1) return finish(() => reject(new UpidError('internal', `A page of the answer of ${service} was lost`, { service })));
        pages.push(message.data);
        if (page !== of) {
          clearTimeout(timer);
          timer = setTimeout(onSilence, timeoutMs);
          return;
        }
        finish(() => {
          try {
            resolve(JSON.parse(Buffer.concat(pages).toString()) as T);
          } catch (cause) {
            reject(new UpidError('internal', `The answer of ${service} is no JSON`, { service }, { cause }));
          }
        });
      };
      const subscription = connection.subscribe(inbox, { callback: (error, message) => (error ? asked.fail(error) : onAnswer(message)) });
      this.asking.add(asked);
      connection.publish(subject, payload, { reply: inbox, headers: toHeaders(outgoingTrace()) });
    });
  }

  async serve<S extends z.ZodType>(subject: string, schema: S, handler: (request: z.output<S>, subject: string) => Promise<unknown>, options: ServeOptions): Promise<void> {
    const connection = await this.bus.connection();
    const subscription = connection.subscribe(subject, {
      ...(options.queue ? { queue: options.queue } : {}),
      callback: (error, message) => {
        if (error) {
          this.log?.error({ err: error, subject }, 'questions cannot be taken');
          return;
        }
        const answering = this.serving.run(() => this.answer(message, schema, handler)).finally(() => this.running.delete(answering));
        this.running.add(answering);
      },
    });
    this.subscriptions.push(subscription);
    await connection.flush();
  }

  private answer<S extends z.ZodType>(message: Msg, schema: S, handler: (request: z.output<S>, subject: string) => Promise<unknown>): Promise<void> {
    return withIncomingTrace((name) => message.headers?.get(name) || undefined, { query: message.subject }, async () => {
      let reply: Buffer;
      try {
        reply = Buffer.from(JSON.stringify((await handler(parseRequest(message.data, schema), message.subject)) ?? null));
        if (reply.length > MAX_ANSWER_BYTES) throw new UpidError('payload_too_large', `The answer of ${reply.length} bytes is over the limit of ${MAX_ANSWER_BYTES} bytes: ask for less`);
      } catch (error) {
        const told = this.tell(error, message.subject);
        message.respond(JSON.stringify(told), { headers: toHeaders({ [ERROR_HEADER]: told.code }) });
        return;
      }
      if (reply.length <= PAGE_BYTES) {
        message.respond(reply);
        return;
      }
      const pages = Math.ceil(reply.length / PAGE_BYTES);
      for (let page = 0; page < pages; page++) {
        message.respond(reply.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES), { headers: toHeaders({ [PAGE_HEADER]: `${page + 1}/${pages}` }) });
      }
    });
  }

  /** What the asker may know of an error; all else stays in the log under the correlation id. */
  private tell(error: unknown, subject: string): z.input<typeof wireErrorSchema> {
    if (error instanceof UpidError) return { code: error.code, message: error.message, details: { ...error.details } };
    if (error instanceof InvalidTimeRangeError) return { code: 'invalid_time_range', message: error.message };
    this.log?.error({ err: error, query: subject }, 'a question could not be answered');
    if (isDependencyAway(error)) return { code: 'unavailable', message: `${this.bus.name} cannot reach what it needs; try again soon`, details: { service: this.bus.name } };
    return { code: 'internal', message: `${this.bus.name} could not answer; its log says more under correlation id ${currentCorrelation()?.correlationId ?? 'unknown'}`, details: { service: this.bus.name } };
  }

  /** Takes no more questions and waits for the answers under way. */
  async stop(): Promise<void> {
    await Promise.all(this.subscriptions.splice(0).filter((each) => !each.isClosed()).map((each) => each.drain()));
    await Promise.all(this.running);
  }
}

function parseRequest<S extends z.ZodType>(data: Uint8Array, schema: S): z.output<S> {
  let value: unknown;
  try {
    value = data.length === 0 ? null : JSON.parse(Buffer.from(data).toString());
  } catch (cause) {
    throw new UpidError('invalid_json', 'The request is no JSON', {}, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map((issue) => ({ path: issue.path.join('.'), message: issue.message }));
  throw new UpidError('invalid_request', issues.map((issue) => `${issue.path || 'the request'}: ${issue.message}`).join('; '), { issues });
}

/** The error that the service threw; one that this version cannot read is `internal` with what was sent. */
function errorFromWire(data: Uint8Array): UpidError {
  const sent = Buffer.from(data).toString();
  try {
    const parsed = wireErrorSchema.safeParse(JSON.parse(sent));
    if (parsed.success) return new UpidError(parsed.data.code, parsed.data.message, parsed.data.details);
  } catch (cause) {
    return new UpidError('internal', 'The service answered with an error that is no JSON', {}, { cause });
  }
  return new UpidError('internal', `The service answered with an error that is not known here: ${sent.slice(0, 500)}`);
}
