import { decodeRequestBatch, decodeUsageBatch, encodeMessage, encodeRequestBatch, encodeUsageBatch, HOUR_MS, MINUTE_MS, USAGE_BATCH, type RequestBatchInput, type UsageBatchInput } from '@upid/contracts';
import fc from 'fast-check';
import { foldInto, NOTHING_STANDS } from '../fold/fold.js';
import { Grid } from '../fold/grid.js';
import { checkBatch, skewOf } from './batch.js';

const HOUR = 480_000;
const BASE = HOUR * 60;
const RECEIVED = (BASE + 400) * MINUTE_MS;
const epoch = new Uint8Array(16).map((_, i) => i);

const usage = (more: UsageBatchInput = {}): UsageBatchInput => ({
  epoch, sequence: 7, base_minute: BASE + 58, source: 'kubelet', workloads: ['a/Deployment/b'], containers: ['app'], pod_uids: new Uint8Array(16).fill(1), pod_workload: [0], series_pod: [0], series_container: [0], cpu_millicores: [5], memory_unit_bytes: 4096, memory_units: [3], ...more,
});
const requests = (more: RequestBatchInput = {}): RequestBatchInput => ({ epoch, sequence: 8, base_minute: BASE, source: 'ingress-nginx', workloads: ['a/Deployment/b'], row_workload: [0], row_minute: [59], covered_seconds: [60], business: [2], ...more });

describe('a batch at the door', () => {
  it('is stored as it came where it lies within one hour, under its name', () => {
    const payload = encodeUsageBatch(usage());
    const checked = checkBatch('usage', payload, RECEIVED);
    expect(checked).toEqual({ kind: 'usage', epoch: '00010203-0405-0607-0809-0a0b0c0d0e0f', sequence: 7, rows: 1, parts: [{ hourMs: HOUR * HOUR_MS, windows: 1 << 11, payload }] });
    expect(checked.parts[0]?.payload).toBe(payload);
  });

  it('is cut at the hours where it spans several, and the parts hold what the whole held', () => {
    const minutes = fc.array(fc.nat(300), { minLength: 1, maxLength: 30 });
    fc.assert(fc.property(minutes, minutes, (sampleMinutes, podMinutes) => {
      const payload = encodeUsageBatch(usage({
        base_minute: BASE, sample_series: sampleMinutes.map(() => 0), sample_minute: sampleMinutes, cpu_millicores: sampleMinutes.map((m, i) => m + i), memory_units: sampleMinutes.map(() => 9), throttled_permille_plus_one: sampleMinutes.map((m) => m % 3),
        pod_sample_pod: podMinutes.map(() => 0), pod_sample_minute: podMinutes, receive_bytes_per_second_plus_one: podMinutes.map((m) => m + 1),
      }));
      const checked = checkBatch('usage', payload, RECEIVED);
      const whole = new Grid();
      const parts = new Grid();
      for (let hour = 0; hour <= 5; hour++) {
        foldInto(whole, BASE + hour * 60, 60, NOTHING_STANDS, [{ kind: 'usage', batch: decodeUsageBatch(payload) }]);
        const part = checked.parts.find((each) => each.hourMs === (HOUR + hour) * HOUR_MS);
        foldInto(parts, BASE + hour * 60, 60, NOTHING_STANDS, part ? [{ kind: 'usage', batch: decodeUsageBatch(part.payload) }] : []);
        expect(part?.windows ?? 0).toBe(whole.touchedWindows);
        for (let place = 0; place < 60; place++) {
          expect(whole.series > 0 && whole.rank[place] !== 0).toBe(parts.series > 0 && parts.rank[place] !== 0);
          if (whole.rank[place] !== 0) for (let k = 0; k < 6; k++) expect(parts.usage[k]?.[place]).toBe(whole.usage[k]?.[place]);
          expect(whole.pods > 0 && whole.podRank[place] !== 0).toBe(parts.pods > 0 && parts.podRank[place] !== 0);
          if (whole.podRank[place] !== 0) for (let k = 0; k < 3; k++) expect(parts.podColumns[k]?.[place]).toBe(whole.podColumns[k]?.[place]);
        }
      }
    }), { numRuns: 60 });
  });

  it('is cut the same way where it counts requests, latency buckets included', () => {
    const payload = encodeRequestBatch(requests({
      row_workload: [0, 0, 0], row_minute: [59, 60, 61], covered_seconds: [60, 50, 40], business: [1, 2, 3], latency_buckets_in_row: [1, 0, 2], latency_bucket: [-4, 10, 11], latency_count: [1, 2, 1],
    }));
    const [first, second] = checkBatch('requests', payload, RECEIVED).parts.map((part) => ({ ...part, batch: decodeRequestBatch(part.payload) }));
    expect(first).toMatchObject({ hourMs: HOUR * HOUR_MS, windows: 1 << 11 });
    expect([...(first?.batch.latency_bucket ?? [])]).toEqual([-4]);
    expect(second).toMatchObject({ hourMs: (HOUR + 1) * HOUR_MS, windows: 1 });
    expect([...(second?.batch.row_minute ?? [])]).toEqual([0, 1]);
    expect([...(second?.batch.covered_seconds ?? [])]).toEqual([50, 40]);
    expect([...(second?.batch.latency_buckets_in_row ?? [])]).toEqual([0, 2]);
    expect([...(second?.batch.latency_bucket ?? [])]).toEqual([10, 11]);
    expect([...(second?.batch.latency_count ?? [])]).toEqual([2, 1]);
    const whole = encodeRequestBatch(requests());
    expect(checkBatch('requests', whole, RECEIVED).parts[0]?.payload).toBe(whole);
  });

  it('may be empty', () => {
    expect(checkBatch('usage', encodeUsageBatch({ epoch, sequence: 1 }), RECEIVED)).toMatchObject({ rows: 0, parts: [] });
    expect(checkBatch('requests', encodeRequestBatch({ epoch, sequence: 1 }), RECEIVED)).toMatchObject({ rows: 0, parts: [] });
  });

  it('is refused with its reason where no retry can mend it', () => {
    const bad = (kind: 'usage' | 'requests', payload: Uint8Array) => () => checkBatch(kind, payload, RECEIVED);
    expect(bad('usage', Uint8Array.of(8, 1, 0xff))).toThrow(/malformed usage batch/);
    expect(bad('usage', encodeMessage(USAGE_BATCH, { version: 2, epoch }))).toThrow(/version 2: this build reads version 1/);
    expect(bad('usage', encodeUsageBatch(usage({ series_pod: [3] })))).toThrow(/series_pod\[0\] is 3/);
    expect(bad('usage', encodeUsageBatch(usage({ base_minute: BASE + 410 })))).toThrow(/10 minutes after the bus took it/);
    expect(bad('usage', encodeUsageBatch(usage({ base_minute: BASE - 91 * 1440 })))).toThrow(/more than 90 days ago/);
    expect(bad('usage', encodeUsageBatch(usage({ memory_units: [2 ** 52] })))).toThrow(/over 2\^53/);
    expect(bad('requests', encodeRequestBatch(requests({ latency_buckets_in_row: [1], latency_bucket: [90_000], latency_count: [1] })))).toThrow(/latency_bucket\[0\] is 90000/);
    expect(bad('requests', encodeRequestBatch(requests({ row_minute: [900] })))).toThrow(/after the bus took it/);
    // A counter that ran backwards: ten bytes of a negative number.
    const negative = encodeUsageBatch(usage({ cpu_millicores: [], memory_units: [], sample_minute: [] }));
    const column = Uint8Array.of(15 * 8 + 2, 10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1);
    expect(bad('usage', Uint8Array.from([...negative, ...column]))).toThrow(/cpu_millicores\[0\] is negative or over 2\^53/);
  });

  it('is marked where its publish time and the bus\'s lie more than five minutes apart', () => {
    expect(skewOf(null, RECEIVED)).toBeNull();
    expect(skewOf(RECEIVED - 5 * MINUTE_MS, RECEIVED)).toBeNull();
    expect(skewOf(RECEIVED - 6 * MINUTE_MS, RECEIVED)).toBe(-6 * MINUTE_MS);
    expect(skewOf(RECEIVED + 6 * MINUTE_MS, RECEIVED)).toBe(6 * MINUTE_MS);
  });
});
