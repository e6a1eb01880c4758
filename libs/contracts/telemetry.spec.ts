import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import protobuf from 'protobufjs';
import { PoisonMessageError } from './errors.js';
import { decodeMessage, encodeMessage, MalformedMessageError, type MessageShape } from './wire.js';
import { decodeRequestBatch, decodeRollup, decodeUsageBatch, encodeRequestBatch, encodeRollup, encodeUsageBatch, MalformedBatchError, REQUEST_BATCH, ROLLUP, UnknownVersionError, USAGE_BATCH, type UsageBatchInput } from './telemetry.js';

const root = protobuf.parse(readFileSync(join(process.cwd(), 'libs/contracts/telemetry.proto'), 'utf8'), { keepCase: true }).root;


const shapes: readonly [string, MessageShape][] = [['UsageBatch', USAGE_BATCH], ['RequestBatch', REQUEST_BATCH], ['Rollup', ROLLUP]];

describe.each(shapes)('%s', (name, shape) => {
  const type = root.lookupType(`upid.v1.${name}`);

  it('has the fields of the .proto, to the number and type', () => {
    const described = Object.fromEntries(type.fieldsArray.map((field) => {
      const kind = field.type === 'bytes' ? 'bytes' : field.type === 'string' ? (field.repeated ? 'texts' : 'text') : field.repeated ? (field.type === 'sint64' ? 'signed' : 'column') : 'uint';
      return [field.name, [field.id, kind]];
    }));
    expect(shape).toEqual(described);
  });

  it('is read by another protobuf implementation, and reads what that writes', () => {
    const number = fc.nat({ max: Number.MAX_SAFE_INTEGER });
    const arbitrary = fc.record(Object.fromEntries(Object.entries(shape).map(([field, [, kind]]) => [field,
      kind === 'uint' ? (field === 'final' ? fc.constantFrom(0, 1) : fc.nat({ max: 0xffffffff })) : kind === 'text' ? fc.string() : kind === 'texts' ? fc.array(fc.string(), { maxLength: 4 }) : kind === 'bytes' ? fc.uint8Array({ maxLength: 40 })
        : fc.array(kind === 'signed' ? fc.integer() : number, { maxLength: 20 })])));
    fc.assert(fc.property(arbitrary, (message) => {
      const encoded = encodeMessage(shape, message as never);
      const theirs = type.toObject(type.decode(encoded), { longs: Number, arrays: true, defaults: true, bytes: Array });
      const plain = (value: unknown) => (typeof value === 'object' && value !== null ? Array.from(value as ArrayLike<unknown>) : typeof value === 'boolean' ? Number(value) : value);
      for (const [field, value] of Object.entries(message)) expect(plain(theirs[field])).toEqual(plain(value));
      const back = decodeMessage(shape, type.encode(type.fromObject(theirs)).finish());
      for (const [field, value] of Object.entries(message)) expect(plain(back[field as never])).toEqual(plain(value));
    }), { numRuns: 60 });
  });

  it('never does anything with rubbish but say so', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        decodeMessage(shape, bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(MalformedMessageError);
      }
    }), { numRuns: 500 });
  });
});

const uid = (n: number) => Uint8Array.from({ length: 16 }, (_, i) => (i === 15 ? n : i));
const usage = (over: UsageBatchInput = {}): UsageBatchInput => ({
  epoch: uid(9), sequence: 3, base_minute: 29_000_000, source: 'kubelet', workloads: ['shop/Deployment/cart'], containers: ['app'], pod_uids: uid(1), pod_workload: [0], series_pod: [0], series_container: [0],
  cpu_millicores: [120], cpu_peak_above_millicores: [30], memory_unit_bytes: 4096, memory_units: [5000], ...over,
});

describe('usage batches', () => {
  it('round trips', () => {
    const batch = decodeUsageBatch(encodeUsageBatch(usage()));
    expect(batch.sequence).toBe(3);
    expect([...batch.cpu_millicores]).toEqual([120]);
    expect(batch.workloads).toEqual(['shop/Deployment/cart']);
  });
  it('passes over unknown fields and refuses unknown versions as poison', () => {
    const more = Uint8Array.from([...encodeUsageBatch(usage()), ...[(900 << 3) & 127 | 128, (900 << 3) >> 7, 5]]);
    expect([...decodeUsageBatch(more).cpu_millicores]).toEqual([120]);
    const next = encodeMessage(USAGE_BATCH, { ...usage(), version: 2 } as never);
    expect(() => decodeUsageBatch(next)).toThrow(UnknownVersionError);
    expect(() => decodeUsageBatch(next)).toThrow(PoisonMessageError);
  });
  it.each<[string, UsageBatchInput, RegExp]>([
    ['a short epoch', { epoch: new Uint8Array(3) }, /epoch has 16 bytes/],
    ['half a UID', { pod_uids: new Uint8Array(20) }, /multiple of 16/],
    ['a pod without workload', { pod_workload: [] }, /pod_workload has 0 rows/],
    ['an index out of its table', { series_pod: [4] }, /series_pod\[0\] is 4/],
    ['columns of unlike length', { memory_units: [1, 2] }, /memory_units has 2 rows where 1/],
    ['no memory unit', { memory_unit_bytes: 0 }, /memory_unit_bytes/],
    ['a workload that is no key', { workloads: ['cart'] }, /namespace\/Kind\/name/],
    ['more samples than series', { cpu_millicores: [1, 2], memory_units: [1, 2], cpu_peak_above_millicores: [] }, /no sample_series/],
  ])('refuses %s', (_, over, message) => {
    const bytes = encodeUsageBatch(usage(over));
    expect(() => decodeUsageBatch(bytes)).toThrow(MalformedBatchError);
    expect(() => decodeUsageBatch(bytes)).toThrow(message);
  });
  it('refuses a negative counter on both sides', () => {
    expect(() => encodeUsageBatch(usage({ cpu_millicores: [-1] }))).toThrow(/cannot be negative/);
    const minusFive = [0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]; // what an int64 of -5 is on the wire
    const forged = Uint8Array.from([...encodeUsageBatch(usage({ cpu_millicores: [] })), 15 * 8 + 2, minusFive.length, ...minusFive]);
    expect(() => decodeUsageBatch(forged)).toThrow(/negative or over 2\^53/);
  });
});

it('reads request batches and rollups back', () => {
  const requests = decodeRequestBatch(encodeRequestBatch({ epoch: uid(1), base_minute: 10, source: 'ingress-nginx', workloads: ['shop/Deployment/cart'], row_workload: [0, 0], row_minute: [0, 1], covered_seconds: [60, 60], business: [2, 0], latency_buckets_in_row: [1, 0], latency_bucket: [-3], latency_count: [2] }));
  expect([...requests.business]).toEqual([2, 0]);
  expect([...requests.latency_bucket]).toEqual([-3]);
  expect(() => decodeRequestBatch(encodeRequestBatch({ epoch: uid(1), workloads: [], row_workload: [0], covered_seconds: [60] }))).toThrow(/row_workload\[0\]/);
  const rollup = decodeRollup(encodeRollup({ store_epoch: uid(1), revision: 7, window_minute: 5, final: 1, workloads: ['a/Pod/b'], pod_uids: uid(2), pod_workload: [0], containers: ['c'], series_pod: [0], series_container: [0], covered_minutes: [5], cpu_millicore_minutes: [50], memory_kibibyte_minutes: [9] }));
  expect(rollup.revision).toBe(7);
  expect([...rollup.cpu_millicore_minutes]).toEqual([50]);
});
