import { applyDecorators, type ArgumentsHost, Catch, type RpcExceptionFilter, UseFilters } from '@nestjs/common';
import { type CustomTransportStrategy, EventPattern, type MessageHandler, MessagePattern, Server } from '@nestjs/microservices';
import { UpidError } from '@upid/contracts';
import { isObservable, lastValueFrom, type Observable, throwError } from 'rxjs';
import { z } from 'zod';
import type { Logger } from '../logging/logging.js';
import type { Bus } from './bus.js';
import { type BatchSpec, type ConsumerLag, type SingleSpec, StreamConsumer } from './consumer.js';
import { fetchDeadLetter, removeDeadLetter, REPLAY_QUERY } from './dead-letters.js';
import { DuplicateHandlerError } from './errors.js';

/**
 * Hands the handler's own error on: Nest's default filter turns every error into the same object, and then poison cannot be told from a
 * passing fault.
 */
@Catch()
class PassThroughFilter implements RpcExceptionFilter {
  catch(error: unknown, _host: ArgumentsHost): Observable<never> {
    return throwError(() => error);
  }
}

type Extras =
  | { readonly upid: 'single'; readonly spec: SingleSpec }
  | { readonly upid: 'batch'; readonly spec: BatchSpec }
  | { readonly upid: 'query'; readonly subject: string | null; readonly schema: z.ZodType };

/**
 * Method decorator in a Nest `@Controller()`: `(message: Delivery) => Promise<void>`. Acknowledged after the promise resolves (so after your
 * commit), in order per subject, `concurrency` (16) subjects at once, heartbeats while it runs. PoisonMessageError: dead letter at once; a
 * dependency that is away: waits and tries again, uncounted; any other error: back-off, and after ten tries a dead letter.
 */
export function Consume(spec: SingleSpec): MethodDecorator {
  const extras: Extras = { upid: 'single', spec };
  return applyDecorators(EventPattern<string>(`${spec.stream}/${spec.durable}`, extras), UseFilters(PassThroughFilter));
}

/**
 * As {@link Consume} for `(messages: BatchDelivery[]) => Promise<void>`: up to `maxMessages` (500) or `maxBytes` (16 MiB) or what came in
 * `maxWaitMs` (20), acknowledged together after the promise resolves; `concurrency` (1) batches at once. A batch that fails is tried again in
 * halves, so that one bad message is told from the others.
 */
export function ConsumeBatch(spec: BatchSpec): MethodDecorator {
  const extras: Extras = { upid: 'batch', spec };
  return applyDecorators(EventPattern<string>(`${spec.stream}/${spec.durable}`, extras), UseFilters(PassThroughFilter));
}

/** Method decorator: `(request: z.output<schema>) => Promise<answer>` answers `upid.q.v1.<service>.<name>`. Throw UpidError for what the asker may know. */
export function Query(name: string, schema: z.ZodType): MethodDecorator {
  const extras: Extras = { upid: 'query', subject: null, schema };
  return applyDecorators(MessagePattern(name, extras), UseFilters(PassThroughFilter));
}

/** Method decorator: as {@link Query} on any subject: `(request: { subject: string; body: z.output<schema> }) => Promise<answer>`. */
export function Serve(subject: string, schema: z.ZodType): MethodDecorator {
  const extras: Extras = { upid: 'query', subject, schema };
  return applyDecorators(MessagePattern(subject, extras), UseFilters(PassThroughFilter));
}

/** Nest's transport over JetStream (events, by durable consumers) and core NATS (questions). */
export class JetStreamServer extends Server implements CustomTransportStrategy {
  // Failures go to the consumer, which decides between another try and a dead letter.
  override readonly propagatesEventHandlerErrors = true;
  readonly consumers = new Map<string, StreamConsumer>();
  private ended: Promise<void> | null = null;

  /** `background`: do not wait for the bus, take up work when it is there. */
  constructor(private readonly bus: Bus, private readonly log: Logger, private readonly options: { readonly background?: boolean } = {}) {
    super();
  }

  /** @throws {DuplicateHandlerError} Nest would chain a second handler of one pattern, and acknowledge for both at once */
  override addHandler(pattern: unknown, callback: MessageHandler, isEventHandler = false, extras: Record<string, unknown> = {}): void {
    const route = this.normalizePattern(pattern as string);
    if (this.messageHandlers.has(route)) throw new DuplicateHandlerError(`${this.bus.name} has two handlers for ${route}`);
    super.addHandler(pattern, callback, isEventHandler, extras);
  }

  listen(callback: (error?: unknown) => void): void {
    const bound = this.bind();
    if (this.options.background) {
      bound.catch((error: unknown) => this.log.error({ err: error }, 'questions cannot be taken'));
      callback();
    } else bound.then(() => callback(), callback);
  }

  private async bind(): Promise<void> {
    for (const [route, handler] of this.messageHandlers) {
      const extras = handler.extras as Extras | undefined;
      if (extras?.upid === 'query') {
        const { subject, schema } = extras;
        if (subject === null) await this.bus.serveQuery(route, schema, (request) => call(handler, request));
        else await this.bus.serve(subject, schema, (body, on) => call(handler, { subject: on, body }));
      } else if (extras?.upid === 'single') this.consumers.set(route, new StreamConsumer(this.bus, extras.spec, { single: (message) => call(handler, message) }, this.log));
      else if (extras?.upid === 'batch') this.consumers.set(route, new StreamConsumer(this.bus, extras.spec, { batch: (messages) => call(handler, messages) }, this.log));
      else throw new DuplicateHandlerError(`${route} of ${this.bus.name} is no handler of this transport: use Consume, ConsumeBatch, Query or Serve`);
    }
    // An agent consumes nothing, and may not listen to questions.
    if (this.consumers.size > 0) await this.bus.serveQuery(REPLAY_QUERY, z.object({ sequence: z.number().int().positive() }), ({ sequence }) => this.replay(sequence));
    await Promise.all([...this.consumers.values()].map((consumer) => consumer.start()));
  }

  private async replay(sequence: number): Promise<{ replayed: true }> {
    const found = await fetchDeadLetter(this.bus, this.bus.name, sequence);
    if (!found) throw new UpidError('not_found', `${this.bus.name} has no dead letter ${sequence}`);
    const consumer = [...this.consumers.values()].find((each) => each.name === found.letter.consumer);
    if (!consumer) throw new UpidError('conflict', `${found.letter.consumer}, which gave dead letter ${sequence} up, is no longer part of ${this.bus.name}`);
    try {
      await consumer.replay(found.delivery);
    } catch (cause) {
      this.log.warn({ err: cause, sequence }, 'a dead letter failed again');
      throw new UpidError('conflict', `Dead letter ${sequence} failed again: ${cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause)}`, { sequence }, { cause });
    }
    await removeDeadLetter(this.bus, sequence);
    return { replayed: true };
  }

  /** What waits at each consumer. */
  lag(now: Date): Promise<ConsumerLag[]> {
    return Promise.all([...this.consumers.values()].map((consumer) => consumer.lag(now)));
  }

  /** Takes no more messages and waits for the handlers under way; the bus stays open for what they still publish. */
  close(): Promise<void> {
    this.ended ??= Promise.all([...this.consumers.values()].map((consumer) => consumer.stop())).then(() => undefined);
    return this.ended;
  }

  override on(): void {
    throw new DuplicateHandlerError('The bus tells its state by Bus.watch');
  }

  override unwrap<T>(): T {
    return this.bus as T;
  }
}

/** Calls a Nest handler and waits for what it returns to end. */
async function call(handler: MessageHandler, data: unknown): Promise<unknown> {
  const result: unknown = await handler(data);
  return isObservable(result) ? lastValueFrom(result, { defaultValue: undefined }) : result;
}
