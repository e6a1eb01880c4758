import { parseWorkloadKey, type RequestBatch, type UsageBatch, type WorkloadKind } from '@upid/contracts';

/** Columns of a container's minute, in the order that they are packed and compared in. `…PlusOne`: 0 is unknown. */
export const USAGE_COLUMNS = ['cpuMillicores', 'cpuPeakAboveMillicores', 'memoryBytes', 'memoryPeakAboveBytes', 'throttledPermillePlusOne', 'restarts'] as const;
/** Columns of a pod's minute: bytes a second, bytes a second, bytes. */
export const POD_COLUMNS = ['receivePlusOne', 'transmitPlusOne', 'volumePlusOne'] as const;
/** Columns of a workload's request minute. The first is seconds of the minute that were watched, the rest are counts. */
export const REQUEST_COLUMNS = [
  'covered_seconds', 'business', 'health_check', 'probe', 'monitoring', 'load_balancer', 'crawler', 'unclassified', 'status_1xx', 'status_2xx', 'status_3xx', 'status_4xx', 'status_5xx',
] as const;
/** Request columns that count requests by class (the status columns count the business ones again). */
const CLASS_COLUMNS_END = 8;

const SOURCE_RANKS: Readonly<Record<string, number>> = { kubelet: 4, metrics_api: 3, prometheus: 2 };
/** How much a source of usage is trusted where two tell of the same minute: 4 (the kubelet) to 1; never 0, which is absence. */
export function sourceRank(source: string): number {
  return SOURCE_RANKS[source] ?? 1;
}

const KIND_ORDER: readonly WorkloadKind[] = ['Rollout', 'Deployment', 'StatefulSet', 'DaemonSet', 'CronJob', 'Job', 'ReplicaSet', 'ReplicationController', 'Other', 'Node', 'Pod'];
/** Of two workloads that batches name for one pod, the one nearer the top of an owner chain, else the lesser text: the order of arrival plays no part. */
export function preferredWorkload(a: string, b: string): string {
  if (a === b) return a;
  const order = KIND_ORDER.indexOf(parseWorkloadKey(a).kind) - KIND_ORDER.indexOf(parseWorkloadKey(b).kind);
  return order < 0 || (order === 0 && a < b) ? a : b;
}

function grown<A extends Float64Array | Uint8Array | Int32Array | Uint32Array>(array: A, length: number): A {
  const larger = new (array.constructor as new (length: number) => A)(length);
  larger.set(array as never);
  return larger;
}

/**
 * The fold's work table: the samples of one cluster over a span of minutes, one place for each (series, minute). Whatever
 * is put in, in whatever order and however often, the same stands afterwards: of two samples for one place the better
 * source wins, then the one with the greater first differing column; of two request rows the fuller. Typed arrays
 * throughout, kept and cleared between folds.
 */
export class Grid {
  /** Unix minute of the first column. */
  startMinute = 0;
  /** Minutes: 5 or 60. */
  span = 60;

  readonly workloads: string[] = [];
  private readonly workloadIndex = new Map<string, number>();
  readonly containers: string[] = [];
  private readonly containerIndex = new Map<string, number>();

  pods = 0;
  /** Four words a pod. */
  private uidWords = new Uint32Array(4 * 1024);
  podUids = new Uint8Array(16 * 1024);
  podWorkload = new Int32Array(1024);
  /** Names that batches gave; '' where none did. */
  podNames: string[] = [];
  /** A pod's first series, or -1. */
  podFirstSeries = new Int32Array(1024);
  private podLastSeries = new Int32Array(1024);
  podRank = new Uint8Array(1024 * 60);
  readonly podColumns: Float64Array[] = POD_COLUMNS.map(() => new Float64Array(1024 * 60));
  private buckets = new Int32Array(4096).fill(-1);

  series = 0;
  seriesPod = new Int32Array(1024);
  seriesContainer = new Int32Array(1024);
  /** The pod's next series, or -1. */
  seriesNext = new Int32Array(1024);
  rank = new Uint8Array(1024 * 60);
  readonly usage: Float64Array[] = USAGE_COLUMNS.map(() => new Float64Array(1024 * 60));

  /** Request rows: one line a (workload, source). */
  requestLines = 0;
  requestWorkload: number[] = [];
  requestSource: string[] = [];
  private readonly requestIndex = new Map<string, number>();
  requestRank = new Uint8Array(64 * 60);
  readonly requests: Float64Array[] = REQUEST_COLUMNS.map(() => new Float64Array(64 * 60));
  /** Latency buckets of a request place: [bucket, count, …] by rising bucket. */
  readonly latency = new Map<number, Float64Array>();

  /** Bit w: a sample of the w-th 5 minutes came or changed, other than by {@link standing} data. */
  touchedWindows = 0;
  private touchedPods = new Uint8Array(1024);
  private touchedWorkloads = new Uint8Array(64);
  /** While true, what is put in stands already and touches nothing. */
  standing = false;

  /** Forgets everything; `span` minutes from `startMinute` on. */
  reset(startMinute: number, span: number): void {
    this.startMinute = startMinute;
    this.span = span;
    this.workloads.length = 0;
    this.workloadIndex.clear();
    this.containers.length = 0;
    this.containerIndex.clear();
    this.buckets.fill(-1);
    this.touchedPods.fill(0, 0, this.pods);
    this.touchedWorkloads.fill(0);
    this.podNames.length = 0;
    this.pods = 0;
    this.series = 0;
    this.requestLines = 0;
    this.requestWorkload.length = 0;
    this.requestSource.length = 0;
    this.requestIndex.clear();
    this.latency.clear();
    this.touchedWindows = 0;
    this.standing = false;
  }

  workload(key: string): number {
    let index = this.workloadIndex.get(key);
    if (index === undefined) {
      index = this.workloads.push(key) - 1;
      this.workloadIndex.set(key, index);
      if (index >= this.touchedWorkloads.length) this.touchedWorkloads = grown(this.touchedWorkloads, index * 2);
    }
    return index;
  }

  container(name: string): number {
    let index = this.containerIndex.get(name);
    if (index === undefined) {
      index = this.containers.push(name) - 1;
      this.containerIndex.set(name, index);
    }
    return index;
  }

  podTouched(pod: number): boolean {
    return this.touchedPods[pod] === 1;
  }

  workloadTouched(workload: number): boolean {
    return this.touchedWorkloads[workload] === 1;
  }

  /** The place of a pod; it is added where it is new, with this workload. */
  pod(uids: Uint8Array, at: number, workload: number): number {
    const a = (uids[at] as number) | ((uids[at + 1] as number) << 8) | ((uids[at + 2] as number) << 16) | ((uids[at + 3] as number) << 24);
    const b = (uids[at + 4] as number) | ((uids[at + 5] as number) << 8) | ((uids[at + 6] as number) << 16) | ((uids[at + 7] as number) << 24);
    const c = (uids[at + 8] as number) | ((uids[at + 9] as number) << 8) | ((uids[at + 10] as number) << 16) | ((uids[at + 11] as number) << 24);
    const d = (uids[at + 12] as number) | ((uids[at + 13] as number) << 8) | ((uids[at + 14] as number) << 16) | ((uids[at + 15] as number) << 24);
    const words = this.uidWords;
    const mask = this.buckets.length - 1;
    let slot = this.hash(a, b, c, d) & mask;
    for (let pod = this.buckets[slot] as number; pod >= 0; pod = this.buckets[slot] as number) {
      const word = pod * 4;
      if (words[word] === a >>> 0 && words[word + 1] === b >>> 0 && words[word + 2] === c >>> 0 && words[word + 3] === d >>> 0) {
        if (this.podWorkload[pod] !== workload) this.moveTo(pod, workload);
        return pod;
      }
      slot = (slot + 1) & mask;
    }
    const pod = this.pods++;
    if (pod >= this.podWorkload.length) this.growPods();
    this.podUids.set(uids.subarray(at, at + 16), pod * 16);
    this.uidWords[pod * 4] = a;
    this.uidWords[pod * 4 + 1] = b;
    this.uidWords[pod * 4 + 2] = c;
    this.uidWords[pod * 4 + 3] = d;
    this.podWorkload[pod] = workload;
    this.podNames[pod] = '';
    this.podFirstSeries[pod] = -1;
    this.podLastSeries[pod] = -1;
    this.touchedPods[pod] = 0;
    this.ensurePodPlaces(pod);
    this.podRank.fill(0, pod * this.span, (pod + 1) * this.span);
    this.buckets[slot] = pod;
    if (this.pods * 2 > this.buckets.length) this.rehash();
    return pod;
  }

  private hash(a: number, b: number, c: number, d: number): number {
    let hash = Math.imul(a ^ Math.imul(b, 0x9e3779b1), 0x85ebca6b) ^ Math.imul(c ^ Math.imul(d, 0xc2b2ae35), 0x27d4eb2f);
    hash ^= hash >>> 15;
    return Math.imul(hash, 0x2c1b3c6d) >>> 7;
  }

  private rehash(): void {
    this.buckets = new Int32Array(this.buckets.length * 2).fill(-1);
    const mask = this.buckets.length - 1;
    for (let pod = 0; pod < this.pods; pod++) {
      let slot = this.hash(this.uidWords[pod * 4] as number, this.uidWords[pod * 4 + 1] as number, this.uidWords[pod * 4 + 2] as number, this.uidWords[pod * 4 + 3] as number) & mask;
      while ((this.buckets[slot] as number) >= 0) slot = (slot + 1) & mask;
      this.buckets[slot] = pod;
    }
  }

  private growPods(): void {
    const capacity = this.podWorkload.length * 2;
    this.uidWords = grown(this.uidWords, capacity * 4);
    this.podUids = grown(this.podUids, capacity * 16);
    this.podWorkload = grown(this.podWorkload, capacity);
    this.podFirstSeries = grown(this.podFirstSeries, capacity);
    this.podLastSeries = grown(this.podLastSeries, capacity);
    this.touchedPods = grown(this.touchedPods, capacity);
  }

  private ensurePodPlaces(pod: number): void {
    const needed = (pod + 1) * this.span;
    if (needed <= this.podRank.length) return;
    const length = Math.max(needed, this.podRank.length * 2);
    this.podRank = grown(this.podRank, length);
    for (let k = 0; k < this.podColumns.length; k++) this.podColumns[k] = grown(this.podColumns[k] as Float64Array, length);
  }

  /** Another workload is named for a pod: the preferred one stands. */
  private moveTo(pod: number, workload: number): void {
    const before = this.podWorkload[pod] as number;
    const preferred = preferredWorkload(this.workloads[before] as string, this.workloads[workload] as string);
    if (preferred === this.workloads[before]) return;
    this.podWorkload[pod] = workload;
    // Every window of the span may hold the pod under its old workload.
    this.touchedWindows = 2 ** (this.span / 5) - 1;
    this.touchedPods[pod] = 1;
    this.touchedWorkloads[before] = 1;
    this.touchedWorkloads[workload] = 1;
  }

  /** The place of a container's series; added where it is new. */
  seriesOf(pod: number, container: number): number {
    for (let series = this.podFirstSeries[pod] as number; series >= 0; series = this.seriesNext[series] as number) {
      if (this.seriesContainer[series] === container) return series;
    }
    return this.addSeries(pod, container);
  }

  private addSeries(pod: number, container: number): number {
    const series = this.series++;
    if (series >= this.seriesPod.length) {
      const capacity = this.seriesPod.length * 2;
      this.seriesPod = grown(this.seriesPod, capacity);
      this.seriesContainer = grown(this.seriesContainer, capacity);
      this.seriesNext = grown(this.seriesNext, capacity);
    }
    const needed = this.series * this.span;
    if (needed > this.rank.length) {
      const length = Math.max(needed, this.rank.length * 2);
      this.rank = grown(this.rank, length);
      for (let k = 0; k < this.usage.length; k++) this.usage[k] = grown(this.usage[k] as Float64Array, length);
    }
    this.rank.fill(0, series * this.span, needed);
    this.seriesPod[series] = pod;
    this.seriesContainer[series] = container;
    this.seriesNext[series] = -1;
    const last = this.podLastSeries[pod] as number;
    if (last < 0) this.podFirstSeries[pod] = series;
    else this.seriesNext[last] = series;
    this.podLastSeries[pod] = series;
    return series;
  }

  /** The line of a workload's requests from a source; added where it is new. */
  requestLine(workload: number, source: string): number {
    const key = `${workload} ${source}`;
    let line = this.requestIndex.get(key);
    if (line !== undefined) return line;
    line = this.requestLines++;
    this.requestIndex.set(key, line);
    this.requestWorkload[line] = workload;
    this.requestSource[line] = source;
    const needed = this.requestLines * this.span;
    if (needed > this.requestRank.length) {
      const length = Math.max(needed, this.requestRank.length * 2);
      this.requestRank = grown(this.requestRank, length);
      for (let k = 0; k < this.requests.length; k++) this.requests[k] = grown(this.requests[k] as Float64Array, length);
    }
    this.requestRank.fill(0, line * this.span, needed);
    return line;
  }

  private touch(pod: number, minute: number): void {
    if (this.standing) return;
    this.touchedWindows |= 1 << ((minute / 5) | 0);
    this.touchedPods[pod] = 1;
    this.touchedWorkloads[this.podWorkload[pod] as number] = 1;
  }

  /** Puts one row of `columns` (values `row` of each) at `place` unless what stands there is better. @returns whether it changed anything */
  private put(ranks: Uint8Array, columns: readonly Float64Array[], place: number, rank: number, row: Float64Array): boolean {
    const before = ranks[place] as number;
    if (rank < before) return false;
    if (rank === before) {
      let k = 0;
      while (k < columns.length && (columns[k] as Float64Array)[place] === row[k]) k++;
      if (k === columns.length || ((columns[k] as Float64Array)[place] as number) > (row[k] as number)) return false;
    }
    ranks[place] = rank;
    for (let k = 0; k < columns.length; k++) (columns[k] as Float64Array)[place] = row[k] as number;
    return true;
  }

  private readonly usageRow = new Float64Array(USAGE_COLUMNS.length);
  private readonly podRow = new Float64Array(POD_COLUMNS.length);

  /** Puts a container's minute (an offset below {@link span}). The row is in the order of {@link USAGE_COLUMNS}. */
  putUsage(series: number, minute: number, rank: number, row: Float64Array): void {
    if (this.put(this.rank, this.usage, series * this.span + minute, rank, row)) this.touch(this.seriesPod[series] as number, minute);
  }

  /** Puts a pod's minute. The row is in the order of {@link POD_COLUMNS}. */
  putPod(pod: number, minute: number, rank: number, row: Float64Array): void {
    if (this.put(this.podRank, this.podColumns, pod * this.span + minute, rank, row)) this.touch(pod, minute);
  }

  /** Puts what of a usage batch lies within the span. */
  addUsage(batch: UsageBatch): void {
    const workloadOf = batch.workloads.map((key) => this.workload(key));
    const containerOf = batch.containers.map((name) => this.container(name));
    const podCount = batch.pod_workload.length;
    const podOf = new Int32Array(podCount);
    for (let i = 0; i < podCount; i++) {
      const pod = this.pod(batch.pod_uids, i * 16, workloadOf[batch.pod_workload[i] as number] as number);
      podOf[i] = pod;
      const name = batch.pod_names[i];
      if (name !== undefined && name !== '' && (this.podNames[pod] === '' || name < (this.podNames[pod] as string))) this.podNames[pod] = name;
    }
    const seriesCount = batch.series_pod.length;
    const seriesOf = new Int32Array(seriesCount);
    for (let i = 0; i < seriesCount; i++) seriesOf[i] = this.seriesOf(podOf[batch.series_pod[i] as number] as number, containerOf[batch.series_container[i] as number] as number);

    const rank = sourceRank(batch.source);
    const base = batch.base_minute - this.startMinute;
    const span = this.span;
    const { sample_series: sampleSeries, sample_minute: sampleMinute, cpu_millicores: cpu, cpu_peak_above_millicores: cpuPeak, memory_units: memory, memory_peak_above_units: memoryPeak, throttled_permille_plus_one: throttled, restarts } = batch;
    const unit = batch.memory_unit_bytes;
    const row = this.usageRow;
    const [cpuAt, cpuPeakAt, memoryAt, memoryPeakAt, throttledAt, restartsAt] = this.usage as [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array, Float64Array];
    const ranks = this.rank;
    for (let i = 0; i < cpu.length; i++) {
      const minute = base + (sampleMinute.length === 0 ? 0 : (sampleMinute[i] as number));
      if (minute < 0 || minute >= span) continue;
      const series = seriesOf[sampleSeries.length === 0 ? i : (sampleSeries[i] as number)] as number;
      const place = series * span + minute;
      const ofCpuPeak = cpuPeak.length === 0 ? 0 : (cpuPeak[i] as number);
      const ofMemory = (memory[i] as number) * unit;
      const ofMemoryPeak = memoryPeak.length === 0 ? 0 : (memoryPeak[i] as number) * unit;
      const ofThrottled = throttled.length === 0 ? 0 : (throttled[i] as number);
      const ofRestarts = restarts.length === 0 ? 0 : (restarts[i] as number);
      if (ranks[place] === 0) {
        // Nothing stands here yet, as nearly always: no row, no comparison.
        ranks[place] = rank;
        cpuAt[place] = cpu[i] as number;
        cpuPeakAt[place] = ofCpuPeak;
        memoryAt[place] = ofMemory;
        memoryPeakAt[place] = ofMemoryPeak;
        throttledAt[place] = ofThrottled;
        restartsAt[place] = ofRestarts;
        this.touch(this.seriesPod[series] as number, minute);
        continue;
      }
      row[0] = cpu[i] as number;
      row[1] = ofCpuPeak;
      row[2] = ofMemory;
      row[3] = ofMemoryPeak;
      row[4] = ofThrottled;
      row[5] = ofRestarts;
      this.putUsage(series, minute, rank, row);
    }

    const { pod_sample_pod: samplePod, pod_sample_minute: podMinute, receive_bytes_per_second_plus_one: receive, transmit_bytes_per_second_plus_one: transmit, volume_used_bytes_plus_one: volume } = batch;
    const podRow = this.podRow;
    for (let i = 0; i < samplePod.length; i++) {
      const minute = base + (podMinute.length === 0 ? 0 : (podMinute[i] as number));
      if (minute < 0 || minute >= span) continue;
      podRow[0] = receive.length === 0 ? 0 : (receive[i] as number);
      podRow[1] = transmit.length === 0 ? 0 : (transmit[i] as number);
      podRow[2] = volume.length === 0 ? 0 : (volume[i] as number);
      this.putPod(podOf[samplePod[i] as number] as number, minute, rank, podRow);
    }
  }

  private readonly requestRow = new Float64Array(REQUEST_COLUMNS.length);

  /**
   * Puts a workload's request minute: of two rows the one watched longer stands, then the one with more requests, then the
   * greater in the first differing column, then the one with the greater latency counts. `latency` is [bucket, count, …].
   */
  putRequests(line: number, minute: number, row: Float64Array, latency: Float64Array | null): void {
    const place = line * this.span + minute;
    if (this.requestRank[place] !== 0 && !this.fuller(place, row, latency)) return;
    this.requestRank[place] = 1;
    for (let k = 0; k < row.length; k++) (this.requests[k] as Float64Array)[place] = row[k] as number;
    if (latency && latency.length > 0) this.latency.set(place, latency);
    else this.latency.delete(place);
    if (this.standing) return;
    this.touchedWindows |= 1 << ((minute / 5) | 0);
    this.touchedWorkloads[this.requestWorkload[line] as number] = 1;
  }

  private fuller(place: number, row: Float64Array, latency: Float64Array | null): boolean {
    const columns = this.requests;
    const covered = (row[0] as number) - ((columns[0] as Float64Array)[place] as number);
    if (covered !== 0) return covered > 0;
    let more = 0;
    for (let k = 1; k < CLASS_COLUMNS_END; k++) more += (row[k] as number) - ((columns[k] as Float64Array)[place] as number);
    if (more !== 0) return more > 0;
    for (let k = 1; k < columns.length; k++) {
      const differs = (row[k] as number) - ((columns[k] as Float64Array)[place] as number);
      if (differs !== 0) return differs > 0;
    }
    const before = this.latency.get(place);
    const now = latency ?? new Float64Array(0);
    for (let k = 0; k < Math.max(now.length, before?.length ?? 0); k++) {
      const differs = (now[k] ?? -Infinity) - (before?.[k] ?? -Infinity);
      if (differs !== 0) return differs > 0;
    }
    return false;
  }

  /** Puts what of a request batch lies within the span. */
  addRequests(batch: RequestBatch): void {
    const workloadOf = batch.workloads.map((key) => this.workload(key));
    const base = batch.base_minute - this.startMinute;
    const columns = REQUEST_COLUMNS.map((name) => batch[name]);
    let bucket = 0;
    for (let i = 0; i < batch.row_workload.length; i++) {
      const buckets = batch.latency_buckets_in_row.length === 0 ? 0 : (batch.latency_buckets_in_row[i] as number);
      const from = bucket;
      bucket += buckets;
      const minute = base + (batch.row_minute.length === 0 ? 0 : (batch.row_minute[i] as number));
      if (minute < 0 || minute >= this.span) continue;
      const row = this.requestRow;
      for (let k = 0; k < columns.length; k++) row[k] = (columns[k] as Float64Array)[i] ?? 0;
      this.putRequests(this.requestLine(workloadOf[batch.row_workload[i] as number] as number, batch.source), minute, row, buckets === 0 ? null : sortedPairs(batch.latency_bucket, batch.latency_count, from, bucket));
    }
  }

  /** The index of each pod, ordered by workload, then by uid: the order of everything that is written. */
  orderedPods(): Int32Array {
    const order = new Int32Array(this.pods);
    for (let i = 0; i < order.length; i++) order[i] = i;
    const byName = this.workloads.map((key, i) => [key, i] as const).sort((a, b) => (a[0] < b[0] ? -1 : 1));
    const workloadOrder = new Int32Array(this.workloads.length);
    byName.forEach(([, workload], i) => (workloadOrder[workload] = i));
    const { podWorkload, uidWords } = this;
    return order.sort((a, b) => {
      const byWorkload = (workloadOrder[podWorkload[a] as number] as number) - (workloadOrder[podWorkload[b] as number] as number);
      if (byWorkload !== 0) return byWorkload;
      for (let k = 0; k < 4; k++) {
        const byWord = (uidWords[a * 4 + k] as number) - (uidWords[b * 4 + k] as number);
        if (byWord !== 0) return byWord;
      }
      return 0;
    });
  }

  /** A pod's series, ordered by container name. */
  seriesOfPod(pod: number): number[] {
    const first = this.podFirstSeries[pod] as number;
    if (first >= 0 && this.seriesNext[first] === -1) return [first];
    const series: number[] = [];
    for (let each = first; each >= 0; each = this.seriesNext[each] as number) series.push(each);
    if (series.length > 1) series.sort((a, b) => ((this.containers[this.seriesContainer[a] as number] as string) < (this.containers[this.seriesContainer[b] as number] as string) ? -1 : 1));
    return series;
  }

  /** Whether anything stands in a pod's minutes from `from` to `to` (offsets). */
  podHasAny(pod: number, from = 0, to = this.span): boolean {
    for (let m = from; m < to; m++) if (this.podRank[pod * this.span + m] !== 0) return true;
    for (let series = this.podFirstSeries[pod] as number; series >= 0; series = this.seriesNext[series] as number) {
      for (let m = from; m < to; m++) if (this.rank[series * this.span + m] !== 0) return true;
    }
    return false;
  }
}

function sortedPairs(buckets: Float64Array, counts: Float64Array, from: number, to: number): Float64Array {
  const merged = new Map<number, number>();
  for (let i = from; i < to; i++) merged.set(buckets[i] as number, (merged.get(buckets[i] as number) ?? 0) + (counts[i] as number));
  const pairs = [...merged].filter(([, count]) => count > 0).sort((a, b) => a[0] - b[0]);
  const out = new Float64Array(pairs.length * 2);
  pairs.forEach(([bucket, count], i) => {
    out[2 * i] = bucket;
    out[2 * i + 1] = count;
  });
  return out;
}
