import { decodeRequestBatch, decodeUsageBatch, MINUTE_MS, quantile } from '@upid/contracts';
import fc from 'fast-check';
import { uuidOf } from '../inventory/identifiers.js';
import { REQUEST_CLASSES } from '../requests/classes.js';
import { encodeRequests, requestCovers, requestDrafts, type RequestRow } from './request-batches.js';
import { decodeSpoolFile, encodeSpoolFile, isSpoolFile, MalformedSpoolFileError, spoolFileName, superseded, toDrop, withDropped, type SpoolEntry, type SpoolHeader } from './spool.js';
import { encodeUsage, usageCovers, usageDrafts, type PodUsageSample, type UsageSample } from './usage-batches.js';

const name = { epoch: new Uint8Array(16).fill(7), sequence: 42 };
const BASE = 29_000_000;

describe('spooled messages', () => {
  const header: SpoolHeader = { kind: 'usage', messageId: 'c/e/1', publishedAtMs: 1, covers: { source: 'usage', startMs: 0, endMs: 60_000, count: 3 }, generation: null };

  it('come back as they were', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (payload) => {
      const read = decodeSpoolFile(encodeSpoolFile(header, payload));
      expect(read.header).toEqual(header);
      expect([...read.payload]).toEqual([...payload]);
    }));
  });

  it('are told from files that are none', () => {
    for (const bytes of ['', 'UPID-SPOOL 1', 'UPID-SPOOL 1\n{', 'UPID-SPOOL 1\n{\n', 'other\n{}\n']) expect(() => decodeSpoolFile(Buffer.from(bytes))).toThrow(MalformedSpoolFileError);
    expect(isSpoolFile(spoolFileName(1_700_000_000_000, 5, 'usage'))).toBe(true);
    expect(['.tmp-x', 'gaps.json', 'x-usage.batch'].some(isSpoolFile)).toBe(false);
  });

  it('are named in the order in which they were written', () => {
    const names = [spoolFileName(999, 0, 'usage'), spoolFileName(1_000, 1, 'result'), spoolFileName(1_700_000_000_000, 2, 'inventory'), spoolFileName(1_700_000_000_000, 10, 'coverage')];
    expect([...names].sort()).toEqual(names);
  });
});

describe('a full spool', () => {
  const entry = (kind: SpoolHeader['kind'], at: number, bytes = 100, more: Partial<SpoolHeader> = {}): SpoolEntry => ({ file: spoolFileName(at, at, kind), bytes, header: { kind, messageId: `m${at}`, publishedAtMs: at, covers: null, generation: null, ...more } });

  it('lets the oldest usage go first, and never results or coverage', () => {
    const entries = [entry('result', 1), entry('inventory', 2), entry('usage', 3), entry('requests', 4), entry('usage', 5), entry('coverage', 6)];
    expect(toDrop(entries, 100, 600, () => false).map(({ file }) => file)).toEqual([entries[2]?.file]);
    expect(toDrop(entries, 100, 0, () => false).map(({ header }) => header.kind)).toEqual(['usage', 'usage', 'requests', 'inventory']);
    expect(toDrop(entries, 100, 700, () => false)).toEqual([]);
    expect(toDrop(entries, 100, 600, ({ header }) => header.messageId === 'm3').map(({ header }) => header.messageId)).toEqual(['m5']);
  });

  it('drops no more than it must', () => {
    fc.assert(fc.property(fc.array(fc.record({ kind: fc.constantFrom('usage' as const, 'requests' as const, 'result' as const), bytes: fc.integer({ min: 1, max: 50 }) })), fc.nat(60), fc.nat(800), (given, incoming, max) => {
      const entries = given.map(({ kind, bytes }, i) => entry(kind, i, bytes));
      const dropped = toDrop(entries, incoming, max, () => false);
      const left = entries.filter((each) => !dropped.includes(each)).reduce((sum, { bytes }) => sum + bytes, incoming);
      const droppable = entries.some((each) => each.header.kind !== 'result' && !dropped.includes(each));
      expect(left <= max || !droppable).toBe(true);
      const last = dropped.at(-1);
      if (last !== undefined) expect(left + last.bytes).toBeGreaterThan(max);
    }));
  });

  it('is told as one gap a source, as wide as what went', () => {
    const gaps = [{ startMs: 300_000, endMs: 360_000, count: 10 }, { startMs: 60_000, endMs: 120_000, count: 5 }].reduce((all, covers) => withDropped(all, { source: 'usage', ...covers }, 'full'), withDropped([], { source: 'requests', startMs: 0, endMs: 1, count: 1 }, 'full'));
    expect(gaps).toEqual([{ source: 'requests', reason: 'full', startMs: 0, endMs: 1, count: 1, batches: 1 }, { source: 'usage', reason: 'full', startMs: 60_000, endMs: 360_000, count: 15, batches: 2 }]);
  });

  it('needs no inventory older than a complete snapshot', () => {
    const of = (epoch: string, number: number, at: number) => entry('inventory', at, 1, { generation: { epoch, number } });
    const entries = [of('old', 9, 1), of('now', 1, 2), of('now', 2, 3), entry('usage', 4), of('now', 3, 5)];
    expect(superseded(entries, { epoch: 'now', number: 2 }).map(({ header }) => header.messageId)).toEqual(['m1', 'm2']);
  });
});

describe('usage batches', () => {
  const maybe = <T>(each: fc.Arbitrary<T>) => fc.option(each, { nil: null });
  const sample: fc.Arbitrary<UsageSample> = fc.record({
    pod: fc.integer({ min: 0, max: 5 }), container: fc.constantFrom('app', 'proxy'), minute: fc.integer({ min: BASE, max: BASE + 90 }), cpuMillicores: fc.nat(64_000), above: fc.nat(500), pages: fc.nat(2 ** 24), pagesAbove: fc.nat(100),
    throttledPermille: maybe(fc.integer({ min: 0, max: 1_000 })), restarts: fc.nat(3),
  }).map(({ pod, above, pages, pagesAbove, ...rest }) => ({
    ...rest, podUid: uuidOf('pod', pod), workload: `shop/Deployment/w${pod % 3}`, podName: pod === 5 ? 'past-5' : null, cpuPeakMillicores: rest.cpuMillicores + above, memoryBytes: pages * 4_096, memoryPeakBytes: (pages + pagesAbove) * 4_096,
  }));
  const podSample: fc.Arbitrary<PodUsageSample> = fc.record({
    pod: fc.integer({ min: 0, max: 5 }), minute: fc.integer({ min: BASE, max: BASE + 90 }), receiveBytesPerSecond: maybe(fc.nat()), transmitBytesPerSecond: maybe(fc.nat()), volumeUsedBytes: maybe(fc.maxSafeNat().map((each) => Math.floor(each / 4))),
  }).map(({ pod, ...rest }) => ({ ...rest, podUid: uuidOf('pod', pod), workload: `shop/Deployment/w${pod % 3}`, podName: pod === 5 ? 'past-5' : null }));

  it('say exactly what was sampled', () => {
    fc.assert(fc.property(fc.array(sample, { minLength: 1, maxLength: 60 }), fc.array(podSample, { maxLength: 20 }), (samples, podSamples) => {
      const batch = decodeUsageBatch(encodeUsage({ source: 'kubelet', samples, podSamples }, name));
      expect([batch.sequence, batch.source, [...batch.epoch]]).toEqual([42, 'kubelet', [...name.epoch]]);
      const uidAt = (pod: number) => Buffer.from(batch.pod_uids.subarray(16 * pod, 16 * pod + 16)).toString('hex');
      const nameAt = (pod: number) => batch.pod_names[pod] || null;
      samples.forEach((each, i) => {
        const series = batch.sample_series[i] as number;
        const pod = batch.series_pod[series] as number;
        const throttled = batch.throttled_permille_plus_one[i] as number;
        expect({
          podUid: uidAt(pod), workload: batch.workloads[batch.pod_workload[pod] as number], podName: nameAt(pod), container: batch.containers[batch.series_container[series] as number], minute: batch.base_minute + (batch.sample_minute[i] as number),
          cpuMillicores: batch.cpu_millicores[i], cpuPeakMillicores: (batch.cpu_millicores[i] as number) + (batch.cpu_peak_above_millicores[i] as number), memoryBytes: (batch.memory_units[i] as number) * batch.memory_unit_bytes,
          memoryPeakBytes: ((batch.memory_units[i] as number) + (batch.memory_peak_above_units[i] as number)) * batch.memory_unit_bytes, throttledPermille: throttled === 0 ? null : throttled - 1, restarts: batch.restarts[i],
        }).toEqual({ ...each, podUid: each.podUid.replaceAll('-', '') });
      });
      podSamples.forEach((each, i) => {
        const known = (column: ArrayLike<number>) => ((column[i] as number) === 0 ? null : (column[i] as number) - 1);
        expect([uidAt(batch.pod_sample_pod[i] as number), batch.base_minute + (batch.pod_sample_minute[i] as number), known(batch.receive_bytes_per_second_plus_one), known(batch.transmit_bytes_per_second_plus_one), known(batch.volume_used_bytes_plus_one)])
          .toEqual([each.podUid.replaceAll('-', ''), each.minute, each.receiveBytesPerSecond, each.transmitBytesPerSecond, each.volumeUsedBytes]);
      });
    }));
  });

  it('hold about 500 rows, and all of them', () => {
    const samples = Array.from({ length: 1_234 }, (_, i): UsageSample => ({ podUid: uuidOf(i), workload: 'a/Pod/b', podName: null, container: 'c', minute: BASE, cpuMillicores: i, cpuPeakMillicores: i, memoryBytes: 0, memoryPeakBytes: 0, throttledPermille: null, restarts: 0 }));
    const pods = Array.from({ length: 1_800 }, (_, i): PodUsageSample => ({ podUid: uuidOf(i), workload: 'a/Pod/b', podName: null, minute: BASE + 1, receiveBytesPerSecond: 1, transmitBytesPerSecond: 1, volumeUsedBytes: null }));
    const drafts = usageDrafts('kubelet', samples, pods);
    expect(drafts.map((draft) => [draft.samples.length, draft.podSamples.length])).toEqual([[500, 500], [500, 500], [234, 500], [0, 300]]);
    for (const draft of drafts) expect(decodeUsageBatch(encodeUsage(draft, name)).cpu_millicores).toHaveLength(draft.samples.length);
    expect(usageCovers(drafts[0] as never)).toEqual({ source: 'usage', startMs: BASE * MINUTE_MS, endMs: (BASE + 2) * MINUTE_MS, count: 1_000 });
    expect(encodeUsage(drafts[0] as never, name).length).toBeLessThan(40_000);
  });
});

describe('request batches', () => {
  const row = (workload: string, minute: number, more: Partial<RequestRow> = {}): RequestRow => ({ workload, minute, coveredSeconds: 60, counts: REQUEST_CLASSES.map(() => 0), statuses: [0, 0, 0, 0, 0], latencyMs: new Map(), ...more });

  it('say exactly what was counted, silent minutes too', () => {
    const rows = [row('a/Deployment/x', BASE), row('a/Deployment/y', BASE + 1, { counts: [1, 2, 3, 4, 5, 6], statuses: [1, 2, 3, 4, 5], unclassified: 9, latencyMs: new Map([[-3, 2], [60, 5]]), coveredSeconds: 30 })];
    const batch = decodeRequestBatch(encodeRequests({ source: 'ingress-nginx', rows }, name));
    expect(batch.workloads).toEqual(['a/Deployment/x', 'a/Deployment/y']);
    const at = (column: ArrayLike<number>) => [...Array.from(column)];
    expect([at(batch.row_minute), at(batch.covered_seconds), at(batch.business), at(batch.health_check), at(batch.probe), at(batch.monitoring), at(batch.load_balancer), at(batch.crawler), at(batch.unclassified)]).toEqual([[0, 1], [60, 30], [0, 1], [0, 2], [0, 3], [0, 4], [0, 5], [0, 6], [0, 9]]);
    expect([at(batch.status_1xx), at(batch.status_5xx), at(batch.latency_buckets_in_row), at(batch.latency_bucket), at(batch.latency_count)]).toEqual([[0, 1], [0, 5], [0, 2], [-3, 60], [2, 5]]);
    expect(quantile([[-3, 2], [60, 5]], 0.9)).toBeGreaterThan(10);
    expect(requestCovers({ source: 'x', rows })).toEqual({ source: 'requests', startMs: BASE * MINUTE_MS, endMs: (BASE + 2) * MINUTE_MS, count: 2 });
  });

  it('hold at most 500 rows', () => {
    expect(requestDrafts('x', Array.from({ length: 1_001 }, (_, i) => row('a/Pod/b', BASE + i))).map(({ rows }) => rows.length)).toEqual([500, 500, 1]);
    expect(requestDrafts('x', [])).toEqual([]);
  });
});
