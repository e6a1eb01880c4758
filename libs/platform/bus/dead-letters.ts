import { UpidError } from '@upid/contracts';
import type { Bus } from './bus.js';
import { type Delivery, makeDelivery } from './delivery.js';
import { MAX_MESSAGE_BYTES } from './errors.js';

/** A message that could not be handled, with why. */
export interface DeadLetter {
  readonly service: string;
  /** Its place among the dead letters; names it for a replay. */
  readonly sequence: number;
  readonly reason: string;
  /** Where it was published first. */
  readonly subject: string;
  /** The durable consumer that gave it up, `<service>-<durable>`. */
  readonly consumer: string;
  readonly tries: number;
  readonly deadAt: Date;
  /** The original's headers. */
  readonly headers: Readonly<Record<string, string>>;
  readonly payload: Uint8Array;
}

const STREAM = 'DLQ';
const PREFIX = 'Upid-Dead-';
const ORIGINAL = 'Upid-Original-';
/** The name of the question that has a service handle one of its dead letters again. */
export const REPLAY_QUERY = 'dead-letters.replay';

/** One line of printable text: headers hold no control characters. */
function headerText(text: string, longest: number): string {
  return Array.from(text, (character) => (/[\p{Cc}\p{Cs}]/u.test(character) ? ' ' : character)).join('').slice(0, longest);
}

/** The dead letter for a delivery. Its id names stream, sequence and consumer, so that a second burial is dropped by the bus. */
export function deadLetterOf(service: string, consumer: string, delivery: Delivery, reason: string, now: Date): { subject: string; payload: Uint8Array; msgId: string; headers: Record<string, string> } {
  const originals = Object.fromEntries(Object.entries(delivery.headers).map(([name, value]) => [`${ORIGINAL}${name}`, headerText(value, 1024)]));
  // A foreign publisher may fill the server's limit to the brim: then the payload stays in its stream alone, under the sequence named here.
  const cut = delivery.payload.length > MAX_MESSAGE_BYTES;
  return {
    subject: `upid.dlq.${service}`,
    payload: cut ? new Uint8Array() : delivery.payload,
    msgId: `${delivery.stream}/${delivery.streamSequence}/${consumer}`,
    headers: {
      ...originals,
      ...(cut ? { [`${PREFIX}Cut`]: '1' } : {}),
      [`${PREFIX}Reason`]: headerText(reason, 2048), [`${PREFIX}Subject`]: delivery.subject, [`${PREFIX}Consumer`]: consumer, [`${PREFIX}Tries`]: String(delivery.tries), [`${PREFIX}At`]: now.toISOString(),
      [`${PREFIX}Stream`]: delivery.stream, [`${PREFIX}Sequence`]: String(delivery.streamSequence), [`${PREFIX}Received`]: String(delivery.receivedAtMs),
    },
  };
}

interface Stored { readonly subject: string; readonly seq: number; readonly time: Date; readonly data: Uint8Array; readonly header: { keys(): string[]; get(name: string): string } }

function read(stored: Stored): DeadLetter {
  const all = Object.fromEntries(stored.header.keys().map((name) => [name, stored.header.get(name)]));
  // The server and the client write header names as they came; the prefix tells ours from the original's.
  const headers = Object.fromEntries(Object.entries(all).filter(([name]) => name.startsWith(ORIGINAL)).map(([name, value]) => [name.slice(ORIGINAL.length), value]));
  return {
    service: stored.subject.split('.').at(-1) ?? '', sequence: stored.seq, reason: all[`${PREFIX}Reason`] ?? '', subject: all[`${PREFIX}Subject`] ?? '', consumer: all[`${PREFIX}Consumer`] ?? '',
    tries: Number(all[`${PREFIX}Tries`] ?? 0), deadAt: new Date(all[`${PREFIX}At`] ?? stored.time), headers, payload: stored.data,
  };
}

/** Dead letters of a service (or of all), oldest first, from after a sequence; at most `limit` (100). */
export async function listDeadLetters(bus: Bus, options: { readonly service?: string; readonly afterSequence?: number; readonly limit?: number } = {}): Promise<DeadLetter[]> {
  const manager = await bus.jetstreamManager();
  const letters: DeadLetter[] = [];
  let sequence = (options.afterSequence ?? 0) + 1;
  while (letters.length < (options.limit ?? 100)) {
    const stored = await manager.direct.getMessage(STREAM, { seq: sequence, next_by_subj: options.service ? `upid.dlq.${options.service}` : 'upid.dlq.>' });
    if (!stored) break;
    letters.push(read(stored));
    sequence = stored.seq + 1;
  }
  return letters;
}

/**
 * Has the service that owns a dead letter hand it to the handler that it failed in; the letter is removed when that has succeeded.
 * @throws {UpidError} `not_found`; `conflict` with the reason when it failed again | {ServiceUnavailableError}
 */
export async function replayDeadLetter(bus: Bus, service: string, sequence: number): Promise<void> {
  await bus.ask(service, REPLAY_QUERY, { sequence }, { timeoutMs: 60_000 });
}

/** The dead letter of a sequence as it was delivered first, or null. */
export async function fetchDeadLetter(bus: Bus, service: string, sequence: number): Promise<{ letter: DeadLetter; delivery: Delivery } | null> {
  const manager = await bus.jetstreamManager();
  const stored = await manager.direct.getMessage(STREAM, { seq: sequence });
  if (!stored || stored.subject !== `upid.dlq.${service}`) return null;
  const letter = read(stored);
  const received = Number(stored.header.get(`${PREFIX}Received`));
  const delivery = makeDelivery({
    subject: letter.subject, payload: letter.payload, headers: letter.headers, stream: stored.header.get(`${PREFIX}Stream`), streamSequence: Number(stored.header.get(`${PREFIX}Sequence`)),
    receivedAtMs: Number.isFinite(received) ? received : stored.time.getTime(), tries: 1,
  });
  if (stored.header.has(`${PREFIX}Cut`)) throw new UpidError('conflict', `Dead letter ${sequence} was too large to be kept: its payload is message ${delivery.streamSequence} of stream ${delivery.stream}, for as long as that keeps it`);
  return { letter, delivery };
}

/** Removes a dead letter that was handled after all. */
export async function removeDeadLetter(bus: Bus, sequence: number): Promise<void> {
  await (await bus.jetstreamManager()).streams.deleteMessage(STREAM, sequence);
}
