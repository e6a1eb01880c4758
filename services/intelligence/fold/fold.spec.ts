import { decodeRequestBatch, decodeRollup, decodeUsageBatch, encodeRequestBatch, encodeUsageBatch, quantile, type Rollup } from '@upid/contracts';
import fc from 'fast-check';
import { mergeAggregate, newAggregate, packAggregate, unpackAggregate, unpackLoad, type Aggregate } from './aggregate.js';
import { CorruptPackError, PackWriter } from './column.js';
import { aggregateAll, foldInto, NOTHING_STANDS, packPodHours, packWorkloadHours, windowsWithData, type Batch, type Standing } from './fold.js';
import { Grid, preferredWorkload, sourceRank } from './grid.js';
import { packRollup } from './rollup.js';
import { packCells, SHARDS, shardOf, unpackCells } from './segment.js';

const HOUR_MINUTE = 28_000_020 - (28_000_020 % 60);

interface Sample { pod: number; container: number; minute: number; cpu: number; cpuPeak: number; memory: number; memoryPeak: number; throttled: number; restarts: number; source: string }
interface PodSample { pod: number; minute: number; receive: number; transmit: number; volume: number; source: string }
interface RequestRow { workload: number; minute: number; covered: number; counts: number[]; latency: [number, number][]; source: string }

const WORKLOADS = ['shop/Deployment/cart', 'shop/StatefulSet/orders', 'jobs/Job/import'];
const CONTAINERS = ['app', 'sidecar'];
const PODS = 7;
const uids = new Uint8Array(PODS * 16).map((_, i) => (i * 37 + (i >> 4) * 101) & 255);
const workloadOfPod = (pod: number) => pod % WORKLOADS.length;
const epoch = new Uint8Array(16).fill(9);

function usageBatch(samples: readonly Sample[], podSamples: readonly PodSample[], source: string, sequence: number): Batch {
  const pods = [...new Set([...samples.map((s) => s.pod), ...podSamples.map((s) => s.pod)])];
  const series = [...new Set(samples.map((s) => s.pod * 2 + s.container))];
  const podUids = new Uint8Array(pods.length * 16);
  pods.forEach((pod, i) => podUids.set(uids.subarray(pod * 16, pod * 16 + 16), i * 16));
  return {
    kind: 'usage', batch: decodeUsageBatch(encodeUsageBatch({
      epoch, sequence, base_minute: HOUR_MINUTE, source, workloads: WORKLOADS, containers: CONTAINERS, pod_uids: podUids, pod_workload: pods.map(workloadOfPod),
      series_pod: series.map((each) => pods.indexOf(each >> 1)), series_container: series.map((each) => each & 1),
      sample_series: samples.map((s) => series.indexOf(s.pod * 2 + s.container)), sample_minute: samples.map((s) => s.minute), cpu_millicores: samples.map((s) => s.cpu), cpu_peak_above_millicores: samples.map((s) => s.cpuPeak),
      memory_unit_bytes: 4096, memory_units: samples.map((s) => s.memory), memory_peak_above_units: samples.map((s) => s.memoryPeak), throttled_permille_plus_one: samples.map((s) => s.throttled), restarts: samples.map((s) => s.restarts),
      pod_sample_pod: podSamples.map((s) => pods.indexOf(s.pod)), pod_sample_minute: podSamples.map((s) => s.minute), receive_bytes_per_second_plus_one: podSamples.map((s) => s.receive),
      transmit_bytes_per_second_plus_one: podSamples.map((s) => s.transmit), volume_used_bytes_plus_one: podSamples.map((s) => s.volume),
    })),
  };
}

function requestBatch(rows: readonly RequestRow[], source: string, sequence: number): Batch {
  const column = (k: number) => rows.map((row) => row.counts[k] ?? 0);
  return {
    kind: 'requests', batch: decodeRequestBatch(encodeRequestBatch({
      epoch, sequence, base_minute: HOUR_MINUTE, source, workloads: WORKLOADS, row_workload: rows.map((r) => r.workload), row_minute: rows.map((r) => r.minute), covered_seconds: rows.map((r) => r.covered),
      business: column(0), health_check: column(1), probe: column(2), monitoring: column(3), load_balancer: column(4), crawler: column(5), unclassified: column(6), status_2xx: column(0), status_5xx: column(7),
      latency_buckets_in_row: rows.map((r) => r.latency.length), latency_bucket: rows.flatMap((r) => r.latency.map(([bucket]) => bucket)), latency_count: rows.flatMap((r) => r.latency.map(([, count]) => count)),
    })),
  };
}

const sources = fc.constantFrom('kubelet', 'metrics_api', 'prometheus', 'other');
const sample: fc.Arbitrary<Sample> = fc.record({
  pod: fc.nat(PODS - 1), container: fc.nat(1), minute: fc.nat(59), cpu: fc.nat(4000), cpuPeak: fc.nat(500), memory: fc.nat(200_000), memoryPeak: fc.nat(20), throttled: fc.nat(1001), restarts: fc.nat(2), source: sources,
});
const podSample: fc.Arbitrary<PodSample> = fc.record({ pod: fc.nat(PODS - 1), minute: fc.nat(59), receive: fc.nat(100_000), transmit: fc.nat(100_000), volume: fc.nat(1000), source: sources });
const requestRow: fc.Arbitrary<RequestRow> = fc.record({
  workload: fc.nat(2), minute: fc.nat(59), covered: fc.nat(60), counts: fc.array(fc.nat(20), { minLength: 8, maxLength: 8 }), latency: fc.array(fc.tuple(fc.integer({ min: -50, max: 300 }), fc.integer({ min: 1, max: 9 })), { maxLength: 4 }), source: fc.constantFrom('ingress-nginx', 'prometheus'),
});

interface Told { samples: Sample[]; podSamples: PodSample[]; rows: RequestRow[] }
const told: fc.Arbitrary<Told> = fc.record({ samples: fc.array(sample, { maxLength: 120 }), podSamples: fc.array(podSample, { maxLength: 60 }), rows: fc.array(requestRow, { maxLength: 40 }) });

/** Cuts what is told into batches by source, shuffled and partly repeated as `seed` says. */
function batchesOf(all: Told, seed: number): Batch[] {
  let state = seed | 1;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const cut = <T>(items: readonly T[]): T[][] => {
    const shuffled = [...items].map((item) => [random(), item] as const).sort((a, b) => a[0] - b[0]).map(([, item]) => item);
    const groups: T[][] = [];
    for (let i = 0; i < shuffled.length; ) {
      const size = 1 + Math.floor(random() * 12);
      groups.push(shuffled.slice(i, i + size));
      i += size;
    }
    return groups;
  };
  const batches: Batch[] = [];
  let sequence = 0;
  for (const source of ['kubelet', 'metrics_api', 'prometheus', 'other']) {
    for (const group of cut(all.samples.filter((s) => s.source === source))) batches.push(usageBatch(group, [], source, sequence++));
    for (const group of cut(all.podSamples.filter((s) => s.source === source))) batches.push(usageBatch([], group, source, sequence++));
  }
  for (const source of ['ingress-nginx', 'prometheus']) {
    for (const group of cut(all.rows.filter((r) => r.source === source))) batches.push(requestBatch(group, source, sequence++));
  }
  const repeated = batches.filter(() => random() < 0.3);
  return [...batches, ...repeated].map((batch) => [random(), batch] as const).sort((a, b) => a[0] - b[0]).map(([, batch]) => batch);
}

const head = { storeEpoch: new Uint8Array(16).fill(7), revision: 3, final: true };

/** Everything that a fold gives, as text that can be compared. */
function given(grid: Grid): unknown {
  const order = grid.orderedPods();
  const windows = Array.from({ length: grid.span / 5 }, (_, w) => w);
  return {
    cells: windows.map((w) => packCells(grid, w * 5, order).map(({ shard, bytes }) => [shard, Buffer.from(bytes).toString('hex')])),
    rollups: windows.map((w) => packRollup(grid, w * 5, order, head).map((part) => Buffer.from(part).toString('hex'))),
    pods: [...packPodHours(grid, order, false)].map(({ pod, samples }) => [Buffer.from(grid.podUids.subarray(pod * 16, pod * 16 + 16)).toString('hex'), Buffer.from(samples).toString('hex')]),
    workloads: [...packWorkloadHours(grid, order, false)].map((each) => [grid.workloads[each.workload], Buffer.from(each.load).toString('hex'), each.requests && Buffer.from(each.requests).toString('hex'), Buffer.from(each.aggregate).toString('hex')]),
  };
}

function standingOf(grid: Grid, form: 'cells' | 'hours'): Standing {
  const order = grid.orderedPods();
  if (form === 'cells') return { ...NOTHING_STANDS, cells: Array.from({ length: 12 }, (_, w) => packCells(grid, w * 5, order).map(({ bytes }) => ({ at: w * 5, bytes }))).flat() };
  return {
    cells: [],
    podHours: [...packPodHours(grid, order, false)].map(({ pod, samples }) => ({ uid: grid.podUids.slice(pod * 16, pod * 16 + 16), workload: grid.workloads[grid.podWorkload[pod] as number] as string, bytes: samples })),
    requestHours: [...packWorkloadHours(grid, order, false)].flatMap(({ workload, requests }) => (requests ? [{ workload: grid.workloads[workload] as string, bytes: requests }] : [])),
  };
}

describe('the fold', () => {
  it('gives the same however batches are cut, ordered and repeated', () => {
    fc.assert(fc.property(told, fc.nat(), fc.nat(), (all, one, other) => {
      const a = new Grid();
      const b = new Grid();
      foldInto(a, HOUR_MINUTE, 60, NOTHING_STANDS, batchesOf(all, one));
      foldInto(b, HOUR_MINUTE, 60, NOTHING_STANDS, batchesOf(all, other));
      expect(given(a)).toEqual(given(b));
    }), { numRuns: 150 });
  });

  it('is stable: folding what it gave, with the same batches or none, changes nothing', () => {
    fc.assert(fc.property(told, fc.nat(), fc.constantFrom('cells' as const, 'hours' as const), fc.boolean(), (all, seed, form, again) => {
      const first = new Grid();
      foldInto(first, HOUR_MINUTE, 60, NOTHING_STANDS, batchesOf(all, seed));
      const second = new Grid();
      foldInto(second, HOUR_MINUTE, 60, standingOf(first, form), again ? batchesOf(all, seed + 1) : []);
      expect(given(second)).toEqual(given(first));
      expect(second.touchedWindows).toBe(0);
    }), { numRuns: 150 });
  });

  it('gives the same whether part of the batches stood already as cells, as hours, or came at once', () => {
    fc.assert(fc.property(told, told, fc.nat(), fc.constantFrom('cells' as const, 'hours' as const), (early, late, seed, form) => {
      const both: Told = { samples: [...early.samples, ...late.samples], podSamples: [...early.podSamples, ...late.podSamples], rows: [...early.rows, ...late.rows] };
      const once = new Grid();
      foldInto(once, HOUR_MINUTE, 60, NOTHING_STANDS, batchesOf(both, seed));
      const first = new Grid();
      foldInto(first, HOUR_MINUTE, 60, NOTHING_STANDS, batchesOf(early, seed));
      const second = new Grid();
      foldInto(second, HOUR_MINUTE, 60, standingOf(first, form), batchesOf(late, seed));
      expect(given(second)).toEqual(given(once));
    }), { numRuns: 100 });
  });

  it('gives the same cells and rollups window by window as for the hour at once', () => {
    fc.assert(fc.property(told, fc.nat(), (all, seed) => {
      const hour = new Grid();
      foldInto(hour, HOUR_MINUTE, 60, NOTHING_STANDS, batchesOf(all, seed));
      const window = new Grid();
      for (let w = 0; w < 12; w++) {
        foldInto(window, HOUR_MINUTE + w * 5, 5, NOTHING_STANDS, batchesOf(all, seed + w));
        const order = window.orderedPods();
        expect(packCells(window, 0, order)).toEqual(packCells(hour, w * 5, hour.orderedPods()));
        expect(packRollup(window, 0, order, head)).toEqual(packRollup(hour, w * 5, hour.orderedPods(), head));
      }
    }), { numRuns: 30 });
  });

  it('stores every sample once, to its value', () => {
    fc.assert(fc.property(fc.uniqueArray(sample, { selector: (s) => `${s.pod} ${s.container} ${s.minute}`, maxLength: 200 }), fc.nat(), (samples, seed) => {
      const first = new Grid();
      foldInto(first, HOUR_MINUTE, 60, NOTHING_STANDS, batchesOf({ samples, podSamples: [], rows: [] }, seed));
      const grid = new Grid();
      foldInto(grid, HOUR_MINUTE, 60, standingOf(first, seed % 2 === 0 ? 'cells' : 'hours'), []);
      const found: Sample[] = [];
      for (let series = 0; series < grid.series; series++) {
        for (let minute = 0; minute < 60; minute++) {
          const place = series * 60 + minute;
          if (grid.rank[place] === 0) continue;
          const at = (k: number) => (grid.usage[k] as Float64Array)[place] as number;
          const pod = grid.seriesPod[series] as number;
          const uid = Buffer.from(grid.podUids.subarray(pod * 16, pod * 16 + 16));
          found.push({
            pod: Array.from({ length: PODS }, (_, i) => i).find((i) => Buffer.from(uids.subarray(i * 16, i * 16 + 16)).equals(uid)) as number, container: CONTAINERS.indexOf(grid.containers[grid.seriesContainer[series] as number] as string), minute,
            cpu: at(0), cpuPeak: at(1), memory: at(2) / 4096, memoryPeak: at(3) / 4096, throttled: at(4), restarts: at(5),
            source: ['other', 'prometheus', 'metrics_api', 'kubelet'].find((source) => sourceRank(source) === grid.rank[place]) as string,
          });
        }
      }
      const order = (a: Sample, b: Sample) => a.pod - b.pod || a.container - b.container || a.minute - b.minute;
      expect(found.sort(order)).toEqual([...samples].sort(order));
    }), { numRuns: 100 });
  });

  it('lets the better source stand, and of two rows from one source the same whichever came first', () => {
    const at = (source: string, cpu: number): Sample => ({ pod: 0, container: 0, minute: 3, cpu, cpuPeak: 0, memory: 1, memoryPeak: 0, throttled: 0, restarts: 0, source });
    const folded = (...samples: Sample[]) => {
      const grid = new Grid();
      foldInto(grid, HOUR_MINUTE, 60, NOTHING_STANDS, samples.map((each, i) => usageBatch([each], [], each.source, i)));
      return grid.usage[0]?.[3];
    };
    expect(folded(at('prometheus', 900), at('kubelet', 5))).toBe(5);
    expect(folded(at('kubelet', 5), at('prometheus', 900))).toBe(5);
    expect(folded(at('kubelet', 5), at('kubelet', 7))).toBe(7);
    expect(folded(at('kubelet', 7), at('kubelet', 5))).toBe(7);
  });

  it('lets the fuller request row stand', () => {
    const row = (covered: number, business: number): RequestRow => ({ workload: 0, minute: 0, covered, counts: [business, 0, 0, 0, 0, 0, 0, 0], latency: [], source: 'ingress-nginx' });
    const folded = (...rows: RequestRow[]) => {
      const grid = new Grid();
      foldInto(grid, HOUR_MINUTE, 60, NOTHING_STANDS, rows.map((each, i) => requestBatch([each], each.source, i)));
      return [grid.requests[0]?.[0], grid.requests[1]?.[0]];
    };
    expect(folded(row(60, 4), row(20, 9))).toEqual([60, 4]);
    expect(folded(row(20, 9), row(60, 4))).toEqual([60, 4]);
    expect(folded(row(60, 4), row(60, 5))).toEqual([60, 5]);
    expect(folded(row(60, 5), row(60, 4))).toEqual([60, 5]);
  });

  it('passes over what lies outside its span', () => {
    const grid = new Grid();
    foldInto(grid, HOUR_MINUTE + 5, 5, NOTHING_STANDS, [usageBatch([{ pod: 1, container: 0, minute: 4, cpu: 1, cpuPeak: 0, memory: 1, memoryPeak: 0, throttled: 0, restarts: 0, source: 'kubelet' }], [], 'kubelet', 1)]);
    expect(windowsWithData(grid)).toBe(0);
    expect(grid.touchedWindows).toBe(0);
  });

  it('names a pod under one workload whatever order batches name it in', () => {
    expect(preferredWorkload('a/ReplicaSet/x-1', 'a/Deployment/x')).toBe('a/Deployment/x');
    expect(preferredWorkload('a/Deployment/x', 'a/ReplicaSet/x-1')).toBe('a/Deployment/x');
    expect(preferredWorkload('a/Deployment/y', 'a/Deployment/x')).toBe('a/Deployment/x');
    const batch = (workload: string): Batch => ({ kind: 'usage', batch: decodeUsageBatch(encodeUsageBatch({ epoch, base_minute: HOUR_MINUTE, source: 'kubelet', workloads: [workload], containers: ['app'], pod_uids: uids.subarray(0, 16), pod_workload: [0], pod_names: ['x-1'], series_pod: [0], series_container: [0], cpu_millicores: [4], memory_unit_bytes: 1, memory_units: [1] })) });
    const grid = new Grid();
    foldInto(grid, HOUR_MINUTE, 60, NOTHING_STANDS, [batch('a/ReplicaSet/x-1'), batch('a/Deployment/x')]);
    expect(grid.workloads[grid.podWorkload[0] as number]).toBe('a/Deployment/x');
    expect(grid.podNames[0]).toBe('x-1');
    const reversed = new Grid();
    foldInto(reversed, HOUR_MINUTE, 60, NOTHING_STANDS, [batch('a/Deployment/x'), batch('a/ReplicaSet/x-1')]);
    expect(given(reversed)).toEqual(given(grid));
  });

  it('grows with what comes, and forgets all of it when it is used again', () => {
    const many = 3000;
    const podUids = new Uint8Array(many * 16);
    const view = new DataView(podUids.buffer);
    for (let i = 0; i < many; i++) view.setUint32(i * 16 + 4, i * 2654435761);
    const grid = new Grid();
    const batch = decodeUsageBatch(encodeUsageBatch({
      epoch, base_minute: HOUR_MINUTE, source: 'kubelet', workloads: Array.from({ length: 130 }, (_, i) => `n/Deployment/w${i}`), containers: ['app'], pod_uids: podUids, pod_workload: Array.from({ length: many }, (_, i) => i % 130),
      series_pod: Array.from({ length: many }, (_, i) => i), series_container: new Array<number>(many).fill(0), cpu_millicores: Array.from({ length: many }, (_, i) => i), memory_unit_bytes: 4096, memory_units: new Array<number>(many).fill(2),
      pod_sample_pod: Array.from({ length: many }, (_, i) => i), receive_bytes_per_second_plus_one: Array.from({ length: many }, (_, i) => i), transmit_bytes_per_second_plus_one: new Array<number>(many).fill(1),
    }));
    foldInto(grid, HOUR_MINUTE, 60, NOTHING_STANDS, [{ kind: 'usage', batch }, { kind: 'usage', batch }]);
    expect(grid.pods).toBe(many);
    expect(grid.series).toBe(many);
    for (let series = 0; series < many; series++) expect(grid.usage[0]?.[series * 60]).toBe(series);
    const parts = packRollup(grid, 0, grid.orderedPods(), head, 32 * 1024).map((part) => ({ bytes: part.length, rollup: decodeRollup(part) }));
    expect(parts.length).toBeGreaterThan(2);
    for (const { bytes, rollup } of parts) {
      expect(bytes).toBeLessThanOrEqual(32 * 1024);
      expect(rollup.parts).toBe(parts.length);
    }
    expect(parts.reduce((sum, { rollup }) => sum + rollup.series_pod.length, 0)).toBe(many);
    expect(parts.reduce((sum, { rollup }) => sum + rollup.load_workload.length, 0)).toBe(130);
    foldInto(grid, HOUR_MINUTE, 60, NOTHING_STANDS, []);
    const fresh = new Grid();
    fresh.reset(HOUR_MINUTE, 60);
    expect(given(grid)).toEqual(given(fresh));
  });
});

describe('what a fold gives', () => {
  const rollupOf = (all: Told): Rollup => {
    const grid = new Grid();
    foldInto(grid, HOUR_MINUTE, 60, NOTHING_STANDS, batchesOf(all, 5));
    const parts = packRollup(grid, 0, grid.orderedPods(), head).map((part) => decodeRollup(part));
    expect(parts).toHaveLength(1);
    return parts[0] as Rollup;
  };

  it('says of each container, pod and workload of a window what its minutes add up to', () => {
    const base = { container: 0, memoryPeak: 3, throttled: 0, restarts: 0, source: 'kubelet' };
    const rollup = rollupOf({
      samples: [
        { ...base, pod: 0, minute: 0, cpu: 100, cpuPeak: 20, memory: 256 },
        { ...base, pod: 0, minute: 1, cpu: 50, cpuPeak: 0, memory: 512, throttled: 1, restarts: 2 },
        { ...base, pod: 0, minute: 2, cpu: 50, cpuPeak: 0, memory: 512, throttled: 9 },
        { ...base, pod: 3, minute: 1, cpu: 300, cpuPeak: 0, memory: 256 },
      ],
      podSamples: [{ pod: 0, minute: 0, receive: 101, transmit: 0, volume: 0, source: 'kubelet' }, { pod: 3, minute: 1, receive: 0, transmit: 0, volume: 5, source: 'kubelet' }],
      rows: [
        { workload: 0, minute: 0, covered: 60, counts: [2, 3, 4, 0, 0, 1, 1, 1], latency: [[80, 3]], source: 'ingress-nginx' },
        { workload: 0, minute: 0, covered: 60, counts: [90, 0, 0, 0, 0, 0, 0, 0], latency: [], source: 'prometheus' },
        { workload: 0, minute: 1, covered: 60, counts: [0, 5, 0, 0, 0, 0, 0, 0], latency: [], source: 'ingress-nginx' },
        { workload: 0, minute: 2, covered: 10, counts: [0, 0, 0, 0, 0, 0, 0, 0], latency: [], source: 'ingress-nginx' },
      ],
    });
    expect(rollup.final).toBe(1);
    expect(rollup.window_minute).toBe(HOUR_MINUTE);
    expect(rollup.workloads).toEqual(['shop/Deployment/cart']);
    const first = rollup.pod_uids[0] === uids[0] ? 0 : 1;
    const row = (column: Float64Array) => [column[first], column[1 - first]];
    expect(row(rollup.covered_minutes)).toEqual([3, 1]);
    expect(row(rollup.cpu_millicore_minutes)).toEqual([200, 300]);
    expect(row(rollup.cpu_peak_millicores)).toEqual([120, 300]);
    expect(row(rollup.memory_kibibyte_minutes)).toEqual([1280 * 4, 1024]);
    expect(row(rollup.memory_peak_kibibytes)).toEqual([515 * 4, 259 * 4]);
    expect(row(rollup.throttled_minutes_plus_one)).toEqual([2, 0]);
    expect(row(rollup.restarts)).toEqual([2, 0]);
    expect([...rollup.network_pod]).toEqual([first]);
    expect([...rollup.receive_bytes]).toEqual([6000]);
    expect([...rollup.transmit_bytes]).toEqual([0]);
    expect([...rollup.load_covered_minutes]).toEqual([3]);
    expect([...rollup.load_cpu_millicore_minutes]).toEqual([500]);
    expect([...rollup.load_cpu_peak_millicores]).toEqual([350]);
    expect([...rollup.load_cpu_count].reduce((a, b) => a + b, 0)).toBe(3);
    expect([...rollup.request_covered_minutes]).toEqual([2]);
    expect([...rollup.request_business_minutes]).toEqual([1]);
    expect([...rollup.request_business]).toEqual([3]);
    expect([...rollup.request_noise]).toEqual([13]);
    expect([...rollup.request_errors]).toEqual([1]);
  });

  it('replaces a window that has nothing left by an empty rollup', () => {
    const rollup = rollupOf({ samples: [], podSamples: [], rows: [] });
    expect([rollup.parts, rollup.series_pod.length, rollup.load_workload.length]).toEqual([1, 0, 0]);
  });

  it('aggregates an hour so that its sums are the samples\' sums, and gives it back from its packed form', () => {
    fc.assert(fc.property(told, fc.nat(), (all, seed) => {
      const grid = new Grid();
      foldInto(grid, HOUR_MINUTE, 60, NOTHING_STANDS, batchesOf(all, seed));
      const out = new PackWriter();
      let minutes = 0;
      let cpu = 0;
      for (const { aggregate, load } of aggregateAll(grid).values()) {
        expect(unpackAggregate(packAggregate(out, aggregate))).toEqual(aggregate);
        for (const container of aggregate.containers) {
          minutes += container.minutes;
          cpu += container.cpuMillicoreMinutes;
          expect([...container.cpu.values()].reduce((a, b) => a + b, 0)).toBe(container.minutes);
        }
        const known = load.cpuMillicores.filter((value) => !Number.isNaN(value));
        expect(known.length).toBe(aggregate.load.minutes);
        expect(known.reduce((a, b) => a + b, 0)).toBe(aggregate.load.cpuMillicoreMinutes);
        expect(aggregate.quarters.cpuMillicoreMinutes.reduce((a, b) => a + b, 0)).toBe(aggregate.load.cpuMillicoreMinutes);
        expect(aggregate.quarters.business.reduce((a, b) => a + b, 0)).toBe(aggregate.requests?.business ?? 0);
      }
      let stored = 0;
      let storedCpu = 0;
      for (let place = 0; place < grid.series * 60; place++) {
        if (grid.rank[place] === 0) continue;
        stored++;
        storedCpu += grid.usage[0]?.[place] as number;
      }
      expect(minutes).toBe(stored);
      expect(cpu).toBe(storedCpu);
    }), { numRuns: 80 });
  });

  it('gives a workload\'s packed hour back', () => {
    fc.assert(fc.property(told, (all) => {
      const grid = new Grid();
      foldInto(grid, HOUR_MINUTE, 60, NOTHING_STANDS, batchesOf(all, 3));
      const direct = aggregateAll(grid);
      for (const hour of packWorkloadHours(grid, grid.orderedPods(), false)) {
        const same = direct.get(grid.workloads[hour.workload] as string);
        expect(unpackLoad(hour.load)).toEqual(same?.load);
        expect(unpackAggregate(hour.aggregate)).toEqual(same?.aggregate);
      }
    }), { numRuns: 40 });
  });

  it('merges aggregates in any order to the same, quarters in their places', () => {
    fc.assert(fc.property(fc.array(told, { minLength: 2, maxLength: 4 }), (hours) => {
      const parts = hours.map((all, i): Aggregate => {
        const grid = new Grid();
        foldInto(grid, HOUR_MINUTE, 60, NOTHING_STANDS, batchesOf(all, 1));
        const aggregate = aggregateAll(grid).get('shop/Deployment/cart')?.aggregate ?? newAggregate(HOUR_MINUTE, 60);
        return { ...aggregate, startMinute: HOUR_MINUTE + i * 60 };
      });
      const merged = (order: Aggregate[]) => {
        const into = newAggregate(HOUR_MINUTE, hours.length * 60);
        for (const each of order) mergeAggregate(into, each);
        into.containers.sort((a, b) => (a.name < b.name ? -1 : 1));
        return packAggregate(new PackWriter(), into);
      };
      expect(merged(parts)).toEqual(merged([...parts].reverse()));
      const whole = unpackAggregate(merged(parts));
      parts.forEach((part, i) => expect([...whole.quarters.minutes.subarray(i * 4, i * 4 + 4)]).toEqual([...part.quarters.minutes]));
      expect(whole.pod.minutes).toBe(parts.reduce((sum, part) => sum + part.pod.minutes, 0));
      const p50 = quantile(whole.load.cpu, 0.5);
      expect(p50 === null).toBe(whole.load.minutes === 0);
      const outside = newAggregate(HOUR_MINUTE + 60, 60);
      mergeAggregate(outside, parts[0] as Aggregate);
      expect(outside.quarters.minutes.reduce((a, b) => a + b, 0)).toBe(0);
    }), { numRuns: 40 });
  });

  it('reads one shard\'s wanted workloads alone', () => {
    const all: Told = {
      samples: Array.from({ length: PODS }, (_, pod) => ({ pod, container: 0, minute: 1, cpu: pod + 1, cpuPeak: 0, memory: 1, memoryPeak: 0, throttled: 0, restarts: 0, source: 'kubelet' })), podSamples: [],
      rows: [0, 1, 2].map((workload) => ({ workload, minute: 2, covered: 60, counts: [workload, 0, 0, 0, 0, 0, 0, 0], latency: [[3, 1]], source: 'ingress-nginx' })),
    };
    const grid = new Grid();
    foldInto(grid, HOUR_MINUTE, 60, NOTHING_STANDS, batchesOf(all, 1));
    const read = new Grid();
    read.reset(HOUR_MINUTE, 60);
    for (const { shard, bytes } of packCells(grid, 0, grid.orderedPods())) {
      if (shard === shardOf('shop/StatefulSet/orders')) unpackCells(bytes, read, 0, (key) => key === 'shop/StatefulSet/orders');
    }
    expect(read.workloads).toEqual(['shop/StatefulSet/orders']);
    expect(read.pods).toBe([1, 4].length);
    expect(read.requestLines).toBe(1);
    expect(new Set(Array.from({ length: 200 }, (_, i) => shardOf(`ns/Deployment/w${i}`))).size).toBe(SHARDS);
  });

  it('says that packed bytes of another version are corrupt', () => {
    const grid = new Grid();
    for (const read of [() => unpackCells(Uint8Array.of(9), grid, 0), () => unpackAggregate(Uint8Array.of(9)), () => unpackLoad(Uint8Array.of(9))]) expect(read).toThrow(CorruptPackError);
  });
});
