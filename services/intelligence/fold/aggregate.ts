import { bucketOf, ZERO_BUCKET, type Distribution } from '@upid/contracts';
import { CorruptPackError, packColumn, packPresence, PackReader, PackWriter, unpackColumn, unpackPresence } from './column.js';
import type { Grid } from './grid.js';

/** What quarters of an hour tell: every zone's offset from UTC is a multiple of one, so local hours can be had from them. */
export const QUARTER_FIELDS = [
  /** Minutes in which the workload's CPU is known, and the sum of its millicores over them. */
  'minutes', 'cpuMillicoreMinutes',
  /** Minutes in which its network is known, and the sum of received and transmitted bytes a second over them. */
  'networkMinutes', 'networkRateMinutes',
  /** Minutes in which its requests were watched, those with business requests, and their number. */
  'requestMinutes', 'businessMinutes', 'business',
] as const;
export type QuarterField = (typeof QUARTER_FIELDS)[number];
export type Quarters = Readonly<Record<QuarterField, Float64Array>>;
export const QUARTER_MINUTES = 15;

/** Usage of one container name of a workload, over all its pods. Minutes are pod minutes. */
export interface ContainerAggregate {
  readonly name: string;
  minutes: number;
  cpuMillicoreMinutes: number;
  /** Of the minutes' peaks. */
  cpuMaxMillicores: number;
  /** Millicores, a count a pod minute. */
  readonly cpu: Distribution;
  /** Of the working set; kibibytes, so that sums over months stay exact integers. */
  memoryKibibyteMinutes: number;
  memoryMaxBytes: number;
  readonly memory: Distribution;
  throttledKnownMinutes: number;
  throttledMinutes: number;
  restarts: number;
  pods: number;
}

export interface RequestAggregate {
  /** Minutes watched, and those of them with business requests. */
  coveredMinutes: number;
  businessMinutes: number;
  /** Business includes what could not be classified. */
  business: number;
  healthCheck: number;
  probe: number;
  monitoring: number;
  loadBalancer: number;
  crawler: number;
  /** Of business requests, by status group 1xx to 5xx. */
  readonly status: [number, number, number, number, number];
  /** Milliseconds, a count a request. */
  readonly latency: Distribution;
}

/**
 * A workload over a span: an hour, a day, or any range. Merging is addition (and maximum) throughout, so it is exact and
 * order plays no part; the quarters stand side by side.
 */
export interface Aggregate {
  /** Unix minute of the first quarter. */
  startMinute: number;
  quarters: Quarters;
  /** The sum over the workload's pods, minute by minute. */
  readonly load: {
    minutes: number; cpuMillicoreMinutes: number; cpuMaxMillicores: number; readonly cpu: Distribution;
    memoryKibibyteMinutes: number; memoryMaxBytes: number; readonly memory: Distribution;
    networkMinutes: number; receiveRateMinutes: number; transmitRateMinutes: number; readonly network: Distribution;
  };
  /** What its pods' volumes held, in sum: the last known of each pod in an hour, the most of several hours. */
  volumeMaxBytes: number;
  /** Its pods' minutes, each counted by itself. */
  readonly pod: { minutes: number; readonly cpu: Distribution; networkMinutes: number; readonly network: Distribution };
  /** Null where its requests were never watched. */
  requests: RequestAggregate | null;
  readonly containers: ContainerAggregate[];
}

/** Minute by minute: the sum over the pods. NaN where unknown. */
export interface LoadMinutes {
  readonly cpuMillicores: Float64Array;
  readonly memoryBytes: Float64Array;
  /** Received and transmitted bytes a second. */
  readonly networkBytesPerSecond: Float64Array;
}

export function newQuarters(count: number): Quarters {
  return Object.fromEntries(QUARTER_FIELDS.map((field) => [field, new Float64Array(count)])) as unknown as Quarters;
}

export function newRequestAggregate(): RequestAggregate {
  return { coveredMinutes: 0, businessMinutes: 0, business: 0, healthCheck: 0, probe: 0, monitoring: 0, loadBalancer: 0, crawler: 0, status: [0, 0, 0, 0, 0], latency: new Map() };
}

export function newContainerAggregate(name: string): ContainerAggregate {
  return { name, minutes: 0, cpuMillicoreMinutes: 0, cpuMaxMillicores: 0, cpu: new Map(), memoryKibibyteMinutes: 0, memoryMaxBytes: 0, memory: new Map(), throttledKnownMinutes: 0, throttledMinutes: 0, restarts: 0, pods: 0 };
}

/** An aggregate of `minutes` from `startMinute` on (multiples of a quarter) with nothing in it. */
export function newAggregate(startMinute: number, minutes: number): Aggregate {
  return {
    startMinute, quarters: newQuarters(minutes / QUARTER_MINUTES),
    load: { minutes: 0, cpuMillicoreMinutes: 0, cpuMaxMillicores: 0, cpu: new Map(), memoryKibibyteMinutes: 0, memoryMaxBytes: 0, memory: new Map(), networkMinutes: 0, receiveRateMinutes: 0, transmitRateMinutes: 0, network: new Map() },
    pod: { minutes: 0, cpu: new Map(), networkMinutes: 0, network: new Map() },
    volumeMaxBytes: 0, requests: null, containers: [],
  };
}

const SMALL = new Int16Array(1 << 16);
for (let i = 0; i < SMALL.length; i++) SMALL[i] = bucketOf(i);

/** As `bucketOf`, without a logarithm for integers below 65,536. */
export function fastBucketOf(value: number): number {
  return value < SMALL.length && Number.isInteger(value) ? (SMALL[value] as number) : bucketOf(value);
}

/** Counts by bucket in a plain array: cheaper than a map where many values fall in. */
class BucketCounts {
  private readonly counts = new Float64Array(4096);
  private low = 4096;
  private high = -1;

  add(value: number): void {
    const at = fastBucketOf(value) - ZERO_BUCKET;
    this.counts[at] = (this.counts[at] as number) + 1;
    if (at < this.low) this.low = at;
    if (at > this.high) this.high = at;
  }

  /** Adds what was counted to a distribution and starts anew. */
  drainInto(distribution: Distribution): void {
    for (let at = this.low; at <= this.high; at++) {
      const count = this.counts[at] as number;
      if (count === 0) continue;
      const bucket = at + ZERO_BUCKET;
      distribution.set(bucket, (distribution.get(bucket) ?? 0) + count);
      this.counts[at] = 0;
    }
    this.low = 4096;
    this.high = -1;
  }
}

const loadCpu = new Float64Array(60);
const loadMemory = new Float64Array(60);
const loadKnown = new Uint8Array(60);
const loadReceive = new Float64Array(60);
const loadTransmit = new Float64Array(60);
const networkKnown = new Uint8Array(60);
const podCpu = new Float64Array(60);
const podKnown = new Uint8Array(60);
const cpuCounts = new BucketCounts();
const memoryCounts = new BucketCounts();
const networkCounts = new BucketCounts();
const podCpuCounts = new BucketCounts();
const podNetworkCounts = new BucketCounts();

/** Sums one pod's minutes from..to into the workload's scratch load; also counts its own minutes where `pod` is given. */
function sumPod(grid: Grid, pod: number, from: number, to: number, own: Aggregate['pod'] | null): void {
  const { span } = grid;
  podKnown.fill(0);
  const cpu = grid.usage[0] as Float64Array;
  const memory = grid.usage[2] as Float64Array;
  for (let series = grid.podFirstSeries[pod] as number; series >= 0; series = grid.seriesNext[series] as number) {
    for (let m = from; m < to; m++) {
      const place = series * span + m;
      if (grid.rank[place] === 0) continue;
      loadMemory[m] = (loadMemory[m] as number) + (memory[place] as number);
      podCpu[m] = podKnown[m] === 0 ? (cpu[place] as number) : (podCpu[m] as number) + (cpu[place] as number);
      podKnown[m] = 1;
    }
  }
  const receive = grid.podColumns[0] as Float64Array;
  const transmit = grid.podColumns[1] as Float64Array;
  for (let m = from; m < to; m++) {
    if (podKnown[m] === 1) {
      loadCpu[m] = (loadCpu[m] as number) + (podCpu[m] as number);
      loadKnown[m] = 1;
      if (own) {
        own.minutes++;
        podCpuCounts.add(podCpu[m] as number);
      }
    }
    const place = pod * span + m;
    if (grid.podRank[place] === 0 || ((receive[place] as number) === 0 && (transmit[place] as number) === 0)) continue;
    const received = Math.max(0, (receive[place] as number) - 1);
    const transmitted = Math.max(0, (transmit[place] as number) - 1);
    loadReceive[m] = (loadReceive[m] as number) + received;
    loadTransmit[m] = (loadTransmit[m] as number) + transmitted;
    networkKnown[m] = 1;
    if (own) {
      own.networkMinutes++;
      podNetworkCounts.add(received + transmitted);
    }
  }
}

function clearLoad(): void {
  loadCpu.fill(0);
  loadMemory.fill(0);
  loadKnown.fill(0);
  loadReceive.fill(0);
  loadTransmit.fill(0);
  networkKnown.fill(0);
}

/** The sum over `pods`' minutes from..to, minute by minute: its CPU, and where it is known. Views that the next call overwrites. */
export function sumOfPods(grid: Grid, pods: Iterable<number>, from: number, to: number): { readonly cpuMillicores: Float64Array; readonly known: Uint8Array } {
  clearLoad();
  for (const pod of pods) sumPod(grid, pod, from, to, null);
  return { cpuMillicores: loadCpu, known: loadKnown };
}

/** The load of some pods of the grid in its minutes from..to: their sum, minute by minute. */
export function loadOfPods(grid: Grid, pods: Iterable<number>, from = 0, to = grid.span): LoadMinutes {
  clearLoad();
  for (const pod of pods) sumPod(grid, pod, from, to, null);
  const minutes = (known: Uint8Array, value: (m: number) => number) => Float64Array.from({ length: grid.span }, (_, m) => (known[m] === 1 ? value(m) : Number.NaN));
  return {
    cpuMillicores: minutes(loadKnown, (m) => loadCpu[m] as number), memoryBytes: minutes(loadKnown, (m) => loadMemory[m] as number),
    networkBytesPerSecond: minutes(networkKnown, (m) => (loadReceive[m] as number) + (loadTransmit[m] as number)),
  };
}

/**
 * Which line tells of a workload's minute: the one watched longest, then one from a log rather than from Prometheus, then
 * the one with more business requests, then by name: requests seen twice are not counted twice. -1 where none does.
 */
export function requestLineAt(grid: Grid, lines: readonly number[], minute: number): number {
  let best = -1;
  for (const line of lines) {
    const place = line * grid.span + minute;
    if (grid.requestRank[place] === 0) continue;
    if (best < 0) {
      best = line;
      continue;
    }
    const before = best * grid.span + minute;
    const column = (k: number, at: number) => (grid.requests[k] as Float64Array)[at] as number;
    const order = column(0, place) - column(0, before)
      || Number(grid.requestSource[line] !== 'prometheus') - Number(grid.requestSource[best] !== 'prometheus')
      || column(1, place) + column(7, place) - column(1, before) - column(7, before)
      || ((grid.requestSource[line] as string) < (grid.requestSource[best] as string) ? 1 : -1);
    if (order > 0) best = line;
  }
  return best;
}

/** A minute counts as watched from half a minute on; less than that only where business requests were seen, which no gap undoes. */
export function requestMinuteCounts(coveredSeconds: number, business: number): boolean {
  return coveredSeconds >= 30 || business > 0;
}

/**
 * What a workload did in the grid's minutes from..to (offsets; the grid spans an hour).
 * @param pods its pods in the grid @param lines its request lines
 */
export function aggregateWorkload(grid: Grid, pods: readonly number[], lines: readonly number[], from = 0, to = grid.span): { aggregate: Aggregate; load: LoadMinutes } {
  const { span } = grid;
  const aggregate = newAggregate(grid.startMinute, span);
  clearLoad();
  for (const pod of pods) sumPod(grid, pod, from, to, aggregate.pod);
  podCpuCounts.drainInto(aggregate.pod.cpu);
  podNetworkCounts.drainInto(aggregate.pod.network);
  const load: LoadMinutes = { cpuMillicores: new Float64Array(span).fill(Number.NaN), memoryBytes: new Float64Array(span).fill(Number.NaN), networkBytesPerSecond: new Float64Array(span).fill(Number.NaN) };
  const { quarters } = aggregate;
  let memoryBytes = 0;
  const add = (field: QuarterField, minute: number, value: number) => {
    const quarter = (minute / QUARTER_MINUTES) | 0;
    quarters[field][quarter] = (quarters[field][quarter] as number) + value;
  };
  for (let m = from; m < to; m++) {
    if (loadKnown[m] === 1) {
      const cpu = loadCpu[m] as number;
      load.cpuMillicores[m] = cpu;
      aggregate.load.minutes++;
      aggregate.load.cpuMillicoreMinutes += cpu;
      if (cpu > aggregate.load.cpuMaxMillicores) aggregate.load.cpuMaxMillicores = cpu;
      cpuCounts.add(cpu);
      const memory = loadMemory[m] as number;
      load.memoryBytes[m] = memory;
      memoryBytes += memory;
      if (memory > aggregate.load.memoryMaxBytes) aggregate.load.memoryMaxBytes = memory;
      memoryCounts.add(memory);
      add('minutes', m, 1);
      add('cpuMillicoreMinutes', m, cpu);
    }
    if (networkKnown[m] === 1) {
      const network = (loadReceive[m] as number) + (loadTransmit[m] as number);
      load.networkBytesPerSecond[m] = network;
      aggregate.load.networkMinutes++;
      aggregate.load.receiveRateMinutes += loadReceive[m] as number;
      aggregate.load.transmitRateMinutes += loadTransmit[m] as number;
      networkCounts.add(network);
      add('networkMinutes', m, 1);
      add('networkRateMinutes', m, network);
    }
  }
  cpuCounts.drainInto(aggregate.load.cpu);
  memoryCounts.drainInto(aggregate.load.memory);
  aggregate.load.memoryKibibyteMinutes = Math.round(memoryBytes / 1024);
  networkCounts.drainInto(aggregate.load.network);
  for (const pod of pods) aggregate.volumeMaxBytes += lastVolume(grid, pod, from, to);
  aggregateContainers(grid, pods, from, to, aggregate.containers);
  for (let m = from; m < to; m++) {
    const line = requestLineAt(grid, lines, m);
    if (line < 0) continue;
    const place = line * span + m;
    const at = (k: number) => (grid.requests[k] as Float64Array)[place] as number;
    const business = at(1) + at(7);
    if (!requestMinuteCounts(at(0), business)) continue;
    const requests = (aggregate.requests ??= newRequestAggregate());
    requests.coveredMinutes++;
    requests.businessMinutes += business > 0 ? 1 : 0;
    requests.business += business;
    requests.healthCheck += at(2);
    requests.probe += at(3);
    requests.monitoring += at(4);
    requests.loadBalancer += at(5);
    requests.crawler += at(6);
    for (let status = 0; status < 5; status++) requests.status[status] = (requests.status[status] as number) + at(8 + status);
    const latency = grid.latency.get(place);
    if (latency) for (let i = 0; i < latency.length; i += 2) requests.latency.set(latency[i] as number, (requests.latency.get(latency[i] as number) ?? 0) + (latency[i + 1] as number));
    add('requestMinutes', m, 1);
    add('businessMinutes', m, business > 0 ? 1 : 0);
    add('business', m, business);
  }
  return { aggregate, load };
}

/** What a pod's volumes held when they were last told of, bytes; 0 where never. */
function lastVolume(grid: Grid, pod: number, from: number, to: number): number {
  for (let place = pod * grid.span + to - 1; place >= pod * grid.span + from; place--) {
    const volume = (grid.podColumns[2] as Float64Array)[place] as number;
    if (grid.podRank[place] !== 0 && volume > 0) return volume - 1;
  }
  return 0;
}

function aggregateContainers(grid: Grid, pods: readonly number[], from: number, to: number, into: ContainerAggregate[]): void {
  const { span } = grid;
  const bySlot = new Map<number, number[]>();
  for (const pod of pods) {
    for (let series = grid.podFirstSeries[pod] as number; series >= 0; series = grid.seriesNext[series] as number) {
      const container = grid.seriesContainer[series] as number;
      const list = bySlot.get(container);
      if (list) list.push(series);
      else bySlot.set(container, [series]);
    }
  }
  const [cpu, cpuPeak, memory, memoryPeak, throttled, restarts] = grid.usage as [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array, Float64Array];
  for (const [container, list] of bySlot) {
    const each = newContainerAggregate(grid.containers[container] as string);
    let memoryBytes = 0;
    for (const series of list) {
      let any = false;
      for (let place = series * span + from; place < series * span + to; place++) {
        if (grid.rank[place] === 0) continue;
        any = true;
        const millicores = cpu[place] as number;
        const bytes = memory[place] as number;
        each.minutes++;
        each.cpuMillicoreMinutes += millicores;
        memoryBytes += bytes;
        if (millicores + (cpuPeak[place] as number) > each.cpuMaxMillicores) each.cpuMaxMillicores = millicores + (cpuPeak[place] as number);
        if (bytes + (memoryPeak[place] as number) > each.memoryMaxBytes) each.memoryMaxBytes = bytes + (memoryPeak[place] as number);
        cpuCounts.add(millicores);
        memoryCounts.add(bytes);
        const permille = throttled[place] as number;
        if (permille > 0) {
          each.throttledKnownMinutes++;
          if (permille > 1) each.throttledMinutes++;
        }
        each.restarts += restarts[place] as number;
      }
      if (any) each.pods++;
    }
    each.memoryKibibyteMinutes = Math.round(memoryBytes / 1024);
    cpuCounts.drainInto(each.cpu);
    memoryCounts.drainInto(each.memory);
    if (each.minutes > 0) into.push(each);
  }
  into.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function mergeDistribution(into: Distribution, other: Distribution): void {
  for (const [bucket, count] of other) into.set(bucket, (into.get(bucket) ?? 0) + count);
}

/**
 * Adds `other` into `into`: quarters that lie within `into`'s span take their places, the rest of them are left out.
 * `pods` of a container name becomes the most that any part saw: the same pods live through many hours.
 */
export function mergeAggregate(into: Aggregate, other: Aggregate): void {
  const offset = (other.startMinute - into.startMinute) / QUARTER_MINUTES;
  for (const field of QUARTER_FIELDS) {
    const target = into.quarters[field];
    const source = other.quarters[field];
    for (let i = 0; i < source.length; i++) {
      const at = i + offset;
      if (at >= 0 && at < target.length) target[at] = (target[at] as number) + (source[i] as number);
    }
  }
  const { load, pod } = into;
  load.minutes += other.load.minutes;
  load.cpuMillicoreMinutes += other.load.cpuMillicoreMinutes;
  load.cpuMaxMillicores = Math.max(load.cpuMaxMillicores, other.load.cpuMaxMillicores);
  mergeDistribution(load.cpu, other.load.cpu);
  load.memoryKibibyteMinutes += other.load.memoryKibibyteMinutes;
  load.memoryMaxBytes = Math.max(load.memoryMaxBytes, other.load.memoryMaxBytes);
  mergeDistribution(load.memory, other.load.memory);
  into.volumeMaxBytes = Math.max(into.volumeMaxBytes, other.volumeMaxBytes);
  load.networkMinutes += other.load.networkMinutes;
  load.receiveRateMinutes += other.load.receiveRateMinutes;
  load.transmitRateMinutes += other.load.transmitRateMinutes;
  mergeDistribution(load.network, other.load.network);
  pod.minutes += other.pod.minutes;
  mergeDistribution(pod.cpu, other.pod.cpu);
  pod.networkMinutes += other.pod.networkMinutes;
  mergeDistribution(pod.network, other.pod.network);
  if (other.requests) {
    const requests = (into.requests ??= newRequestAggregate());
    for (const field of ['coveredMinutes', 'businessMinutes', 'business', 'healthCheck', 'probe', 'monitoring', 'loadBalancer', 'crawler'] as const) requests[field] += other.requests[field];
    for (let i = 0; i < 5; i++) requests.status[i] = (requests.status[i] as number) + (other.requests.status[i] as number);
    mergeDistribution(requests.latency, other.requests.latency);
  }
  for (const each of other.containers) {
    let container = into.containers.find((existing) => existing.name === each.name);
    if (!container) into.containers.push((container = newContainerAggregate(each.name)));
    for (const field of ['minutes', 'cpuMillicoreMinutes', 'memoryKibibyteMinutes', 'throttledKnownMinutes', 'throttledMinutes', 'restarts'] as const) container[field] += each[field];
    for (const field of ['cpuMaxMillicores', 'memoryMaxBytes', 'pods'] as const) container[field] = Math.max(container[field], each[field]);
    mergeDistribution(container.cpu, each.cpu);
    mergeDistribution(container.memory, each.memory);
  }
}

// ---------------------------------------------------------------- the packed forms

const VERSION = 1;

function writeDistribution(out: PackWriter, distribution: Distribution): void {
  const pairs = [...distribution].sort((a, b) => a[0] - b[0]);
  out.varint(pairs.length);
  let previous = ZERO_BUCKET;
  for (const [bucket, count] of pairs) {
    const step = bucket - previous;
    out.varint(step < 0 ? -2 * step - 1 : 2 * step);
    out.varint(count);
    previous = bucket;
  }
}

function readDistribution(reader: PackReader, into: Distribution): void {
  let bucket = ZERO_BUCKET;
  for (let left = reader.varint(); left > 0; left--) {
    const zigzag = reader.varint();
    bucket += zigzag % 2 === 1 ? -(zigzag + 1) / 2 : zigzag / 2;
    into.set(bucket, (into.get(bucket) ?? 0) + reader.varint());
  }
}

/**
 * Packs an aggregate: version, start minute, number of quarters, each field of {@link QUARTER_FIELDS} as a column, then the
 * numbers in the order of the types above, distributions as (zigzag step of the bucket from -1000 on, count).
 */
export function packAggregate(out: PackWriter, aggregate: Aggregate): Uint8Array {
  out.reset();
  out.byte(VERSION);
  out.varint(aggregate.startMinute);
  const quarters = aggregate.quarters.minutes.length;
  out.varint(quarters);
  for (const field of QUARTER_FIELDS) packColumn(out, aggregate.quarters[field], 0, quarters);
  const { load, pod, requests } = aggregate;
  for (const value of [load.minutes, load.cpuMillicoreMinutes, load.cpuMaxMillicores, load.memoryKibibyteMinutes, load.memoryMaxBytes, aggregate.volumeMaxBytes, load.networkMinutes, load.receiveRateMinutes, load.transmitRateMinutes]) out.varint(value);
  writeDistribution(out, load.cpu);
  writeDistribution(out, load.memory);
  writeDistribution(out, load.network);
  out.varint(pod.minutes);
  out.varint(pod.networkMinutes);
  writeDistribution(out, pod.cpu);
  writeDistribution(out, pod.network);
  out.byte(requests ? 1 : 0);
  if (requests) {
    for (const value of [requests.coveredMinutes, requests.businessMinutes, requests.business, requests.healthCheck, requests.probe, requests.monitoring, requests.loadBalancer, requests.crawler, ...requests.status]) out.varint(value);
    writeDistribution(out, requests.latency);
  }
  out.varint(aggregate.containers.length);
  for (const container of aggregate.containers) {
    const name = new TextEncoder().encode(container.name);
    out.varint(name.length);
    out.raw(name);
    for (const value of [container.minutes, container.cpuMillicoreMinutes, container.cpuMaxMillicores, container.memoryKibibyteMinutes, container.memoryMaxBytes, container.throttledKnownMinutes, container.throttledMinutes, container.restarts, container.pods]) out.varint(value);
    writeDistribution(out, container.cpu);
    writeDistribution(out, container.memory);
  }
  return out.take();
}

/** The inverse of {@link packAggregate}. @throws {CorruptPackError} */
export function unpackAggregate(bytes: Uint8Array): Aggregate {
  const reader = new PackReader(bytes);
  const version = reader.byte();
  if (version !== VERSION) throw new CorruptPackError(`an aggregate of version ${version}: this build reads version ${VERSION}`);
  const startMinute = reader.varint();
  const quarters = reader.varint();
  const aggregate = newAggregate(startMinute, quarters * QUARTER_MINUTES);
  for (const field of QUARTER_FIELDS) unpackColumn(reader, aggregate.quarters[field], 0, quarters);
  const { load, pod } = aggregate;
  load.minutes = reader.varint();
  load.cpuMillicoreMinutes = reader.varint();
  load.cpuMaxMillicores = reader.varint();
  load.memoryKibibyteMinutes = reader.varint();
  load.memoryMaxBytes = reader.varint();
  aggregate.volumeMaxBytes = reader.varint();
  load.networkMinutes = reader.varint();
  load.receiveRateMinutes = reader.varint();
  load.transmitRateMinutes = reader.varint();
  readDistribution(reader, load.cpu);
  readDistribution(reader, load.memory);
  readDistribution(reader, load.network);
  pod.minutes = reader.varint();
  pod.networkMinutes = reader.varint();
  readDistribution(reader, pod.cpu);
  readDistribution(reader, pod.network);
  if (reader.byte() === 1) {
    const requests = newRequestAggregate();
    for (const field of ['coveredMinutes', 'businessMinutes', 'business', 'healthCheck', 'probe', 'monitoring', 'loadBalancer', 'crawler'] as const) requests[field] = reader.varint();
    for (let i = 0; i < 5; i++) requests.status[i] = reader.varint();
    readDistribution(reader, requests.latency);
    aggregate.requests = requests;
  }
  for (let left = reader.varint(); left > 0; left--) {
    const container = newContainerAggregate(new TextDecoder().decode(reader.raw(reader.varint())));
    for (const field of ['minutes', 'cpuMillicoreMinutes', 'cpuMaxMillicores', 'memoryKibibyteMinutes', 'memoryMaxBytes', 'throttledKnownMinutes', 'throttledMinutes', 'restarts', 'pods'] as const) container[field] = reader.varint();
    readDistribution(reader, container.cpu);
    readDistribution(reader, container.memory);
    aggregate.containers.push(container);
  }
  return aggregate;
}

function packMinutes(out: PackWriter, values: Float64Array): void {
  const rank = Uint8Array.from(values, (value) => (Number.isNaN(value) ? 0 : 1));
  const count = packPresence(out, rank, 0, values.length);
  packColumn(out, values.filter((value) => !Number.isNaN(value)), 0, count);
}

function unpackMinutes(reader: PackReader, into: Float64Array): void {
  const minutes = new Uint8Array(into.length);
  const count = unpackPresence(reader, into.length, minutes);
  const values = new Float64Array(count);
  unpackColumn(reader, values, 0, count);
  into.fill(Number.NaN);
  for (let i = 0; i < count; i++) into[minutes[i] as number] = values[i] as number;
}

/** Packs an hour of load: presence and column of CPU, then of memory, then of network. */
export function packLoad(out: PackWriter, load: LoadMinutes): Uint8Array {
  out.reset();
  out.byte(VERSION);
  packMinutes(out, load.cpuMillicores);
  packMinutes(out, load.memoryBytes);
  packMinutes(out, load.networkBytesPerSecond);
  return out.take();
}

/** The inverse of {@link packLoad}. @throws {CorruptPackError} */
export function unpackLoad(bytes: Uint8Array): LoadMinutes {
  const reader = new PackReader(bytes);
  const version = reader.byte();
  if (version !== VERSION) throw new CorruptPackError(`a load of version ${version}: this build reads version ${VERSION}`);
  const load: LoadMinutes = { cpuMillicores: new Float64Array(60), memoryBytes: new Float64Array(60), networkBytesPerSecond: new Float64Array(60) };
  unpackMinutes(reader, load.cpuMillicores);
  unpackMinutes(reader, load.memoryBytes);
  unpackMinutes(reader, load.networkBytesPerSecond);
  return load;
}
