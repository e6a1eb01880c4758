import type { JsMsg } from '@nats-io/jetstream';
import { headers as natsHeaders, type MsgHdrs } from '@nats-io/transport-node';
import { HEADERS, PoisonMessageError } from '@upid/contracts';
import type { z } from 'zod';

/** A message as a consumer gets it. */
export interface Delivery {
  readonly subject: string;
  readonly payload: Uint8Array;
  readonly headers: Readonly<Record<string, string>>;
  /** The publisher's deterministic id; '' where it gave none. */
  readonly messageId: string;
  readonly stream: string;
  readonly streamSequence: number;
  /** From the publisher's header, unix ms; null without. */
  readonly publishedAtMs: number | null;
  /** When the server took it, unix ms. */
  readonly receivedAtMs: number;
  /** 1 the first time. */
  readonly tries: number;
  /** The payload as JSON that fits the schema. @throws {PoisonMessageError} saying what is wrong; an unknown version first */
  json<S extends z.ZodType>(schema: S): z.output<S>;
}

/** In a batch: this one is not acknowledged but becomes a dead letter; the others go on. */
export interface BatchDelivery extends Delivery {
  reject(reason: string): void;
}

/** Headers of a message from names and values. */
export function toHeaders(values: Readonly<Record<string, string>>): MsgHdrs {
  const made = natsHeaders();
  for (const [name, value] of Object.entries(values)) made.set(name, value);
  return made;
}

const text = new TextDecoder('utf-8', { fatal: true });

/** JSON of a payload that fits the schema. @throws {PoisonMessageError} */
export function parseJson<S extends z.ZodType>(payload: Uint8Array, schema: S): z.output<S> {
  let value: unknown;
  try {
    value = JSON.parse(text.decode(payload));
  } catch (cause) {
    throw new PoisonMessageError(`The payload of ${payload.length} bytes is no JSON in UTF-8`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { issues } = parsed.error;
  if (issues.some((issue) => issue.path.length === 1 && issue.path[0] === 'version')) {
    const version = value !== null && typeof value === 'object' && 'version' in value ? JSON.stringify(value.version) : 'none';
    throw new PoisonMessageError(`The message has version ${version}, which is not known here`, { cause: parsed.error });
  }
  const shown = issues.slice(0, 3).map((issue) => `${issue.path.join('.') || 'the message'}: ${issue.message}`);
  throw new PoisonMessageError(`The message does not fit its schema: ${shown.join('; ')}${issues.length > 3 ? ` and ${issues.length - 3} more` : ''}`, { cause: parsed.error });
}

/** A delivery from its parts; `json` is added. */
export function makeDelivery(parts: Omit<Delivery, 'json' | 'messageId' | 'publishedAtMs'>): Delivery {
  const published = Date.parse(parts.headers[HEADERS.publishedAt] ?? '');
  return {
    ...parts, messageId: parts.headers[HEADERS.messageName] ?? parts.headers[HEADERS.messageId] ?? '', publishedAtMs: Number.isNaN(published) ? null : published,
    json: (schema) => parseJson(parts.payload, schema),
  };
}

/** A delivery of what JetStream brought. */
export function deliveryOf(message: JsMsg): Delivery {
  const headers: Record<string, string> = {};
  for (const name of message.headers?.keys() ?? []) headers[name] = message.headers?.get(name) ?? '';
  const { info } = message;
  return makeDelivery({
    subject: message.subject, payload: message.data, headers, stream: info.stream, streamSequence: info.streamSequence,
    receivedAtMs: Math.floor(info.timestampNanos / 1e6), tries: info.deliveryCount,
  });
}
