import { HEADERS, PoisonMessageError, UpidError } from '@upid/contracts';
import { z } from 'zod';
import { backoffMs } from './consumer.js';
import { deadLetterOf } from './dead-letters.js';
import { makeDelivery, parseJson } from './delivery.js';
import { BusUnavailableError, isDependencyAway, MAX_MESSAGE_BYTES } from './errors.js';
import { Semaphore } from './semaphore.js';

const delivery = (payload: Uint8Array, headers: Record<string, string> = {}) => makeDelivery({ subject: 'upid.v1.a.agent.usage', payload, headers, stream: 'TELEMETRY', streamSequence: 9, receivedAtMs: 1_000, tries: 3 });

describe('deliveries', () => {
  it('take the id in clear before its digest, and a publish time only where there is one', () => {
    expect(delivery(new Uint8Array(), { [HEADERS.messageId]: 'digest', 'Upid-Message-Id': 'a/1' }).messageId).toBe('a/1');
    expect(delivery(new Uint8Array(), { [HEADERS.messageId]: 'foreign' }).messageId).toBe('foreign');
    expect(delivery(new Uint8Array())).toMatchObject({ messageId: '', publishedAtMs: null });
    expect(delivery(new Uint8Array(), { [HEADERS.publishedAt]: 'soon' }).publishedAtMs).toBeNull();
    expect(delivery(new Uint8Array(), { [HEADERS.publishedAt]: '1970-01-01T00:00:01Z' }).publishedAtMs).toBe(1_000);
  });

  it('tell in a sentence what is wrong with a payload', () => {
    const schema = z.object({ version: z.literal(1), a: z.number(), b: z.number(), c: z.number(), d: z.number() });
    const parse = (text: string) => parseJson(Buffer.from(text), schema);
    expect(() => parse('nonsense')).toThrow(PoisonMessageError);
    expect(() => parse('{"version":2}')).toThrow('The message has version 2, which is not known here');
    expect(() => parse('[]')).toThrow(/^The message does not fit its schema|has version none/);
    expect(() => parse('{"version":1}')).toThrow(/^The message does not fit its schema: a: .*; b: .*; c: .* and 1 more$/);
    expect(parse('{"version":1,"a":1,"b":2,"c":3,"d":4,"new_field":5}')).toEqual({ version: 1, a: 1, b: 2, c: 3, d: 4 });
  });
});

describe('dead letters', () => {
  it('have an id by place and consumer, the original\'s headers, and a reason of one line', () => {
    const letter = deadLetterOf('cost', 'cost-usage', delivery(Buffer.from('x'), { 'X-Own': 'kept\r\nInjected: yes' }), 'it broke\nin two lines', new Date(5_000));
    expect(letter).toMatchObject({ subject: 'upid.dlq.cost', msgId: 'TELEMETRY/9/cost-usage', headers: { 'Upid-Dead-Reason': 'it broke in two lines', 'Upid-Dead-Tries': '3', 'Upid-Dead-At': '1970-01-01T00:00:05.000Z' } });
    expect(Object.values(letter.headers).every((value) => !/[\r\n]/.test(value))).toBe(true);
    expect(letter.headers['Upid-Original-X-Own']).toBe('kept  Injected: yes');
  });

  it('leave a payload that fills the server\'s limit in its stream, and say so', () => {
    const letter = deadLetterOf('cost', 'cost-usage', delivery(Buffer.alloc(MAX_MESSAGE_BYTES + 1)), 'x', new Date(0));
    expect(letter.payload).toHaveLength(0);
    expect(letter.headers).toMatchObject({ 'Upid-Dead-Cut': '1', 'Upid-Dead-Sequence': '9' });
  });
});

it('what is away is told from what is wrong, through causes', () => {
  expect(isDependencyAway(new Error('x', { cause: new BusUnavailableError('away') }))).toBe(true);
  expect(isDependencyAway(new UpidError('unavailable', 'x'))).toBe(true);
  expect(isDependencyAway(new UpidError('conflict', 'x'))).toBe(false);
  expect(isDependencyAway('away')).toBe(false);
});

it('the back-off doubles from a second to a minute', () => {
  expect([1, 2, 3, 7, 10].map(backoffMs)).toEqual([1_000, 2_000, 4_000, 60_000, 60_000]);
});

it('a semaphore lets so many run, the others in order, also after failures', async () => {
  const semaphore = new Semaphore(2);
  let now = 0;
  let most = 0;
  const order: number[] = [];
  const results = await Promise.allSettled(Array.from({ length: 9 }, (_, i) => semaphore.run(async () => {
    order.push(i);
    most = Math.max(most, ++now);
    await Promise.resolve();
    now--;
    if (i % 3 === 0) throw new Error('x');
  })));
  expect(most).toBe(2);
  expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  expect(results.filter((each) => each.status === 'rejected')).toHaveLength(3);
});
