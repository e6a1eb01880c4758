import { encodeRollup, type RollupInput } from '@upid/contracts';
import { fastBucketOf, requestLineAt, requestMinuteCounts, sumOfPods } from './aggregate.js';
import type { Grid } from './grid.js';
import { requestLines } from './segment.js';

/** A part of a rollup is at most this many bytes. */
export const ROLLUP_PART_BYTES = 512 * 1024;

export interface RollupHead {
  /** 16 bytes. */
  readonly storeEpoch: Uint8Array;
  readonly revision: number;
  readonly final: boolean;
}

/** Columns of one part while it grows, and the bytes that they will take. */
class Part {
  readonly workloads: string[] = [];
  private readonly workloadSlots = new Map<number, number>();
  readonly containers: string[] = [];
  private readonly containerSlots = new Map<number, number>();
  readonly uids: number[] = [];
  readonly columns = {
    pod_workload: [] as number[], series_pod: [] as number[], series_container: [] as number[], covered_minutes: [] as number[], cpu_millicore_minutes: [] as number[], cpu_peak_millicores: [] as number[],
    memory_kibibyte_minutes: [] as number[], memory_peak_kibibytes: [] as number[], throttled_minutes_plus_one: [] as number[], restarts: [] as number[],
    network_pod: [] as number[], network_covered_minutes: [] as number[], receive_bytes: [] as number[], transmit_bytes: [] as number[],
    load_workload: [] as number[], load_covered_minutes: [] as number[], load_cpu_millicore_minutes: [] as number[], load_cpu_peak_millicores: [] as number[], load_buckets_in_row: [] as number[], load_cpu_bucket: [] as number[], load_cpu_count: [] as number[],
    request_workload: [] as number[], request_covered_minutes: [] as number[], request_business_minutes: [] as number[], request_business: [] as number[], request_noise: [] as number[], request_errors: [] as number[],
  };
  /** An upper bound: head and the blocks' own tags and lengths. */
  bytes = 512;

  push(column: keyof Part['columns'], value: number): void {
    this.columns[column].push(value);
    this.bytes += value < 128 ? 1 : value < 16_384 ? 2 : value < 2_097_152 ? 3 : value < 268_435_456 ? 4 : 8;
  }

  constructor(private readonly grid: Grid) {}

  workload(workload: number): number {
    return this.slot(this.workloadSlots, workload, this.workloads, this.grid.workloads);
  }

  container(container: number): number {
    return this.slot(this.containerSlots, container, this.containers, this.grid.containers);
  }

  private slot(slots: Map<number, number>, index: number, into: string[], names: readonly string[]): number {
    let slot = slots.get(index);
    if (slot === undefined) {
      const name = names[index] as string;
      slot = into.push(name) - 1;
      slots.set(index, slot);
      this.bytes += name.length * 3 + 6;
    }
    return slot;
  }

  get podCount(): number {
    return this.uids.length;
  }
}

/** Room that is kept free for one more pod or workload: both are far below it. */
const HEADROOM = 8 * 1024;

/**
 * What intelligence says of the 5 minutes from the grid's offset `from`: one row a container, pod and workload, in as many
 * parts as their size asks for (at least one: an empty window replaces what stood). Peaks are the greatest within minutes.
 */
export function packRollup(grid: Grid, from: number, orderedPods: Int32Array, head: RollupHead, maxBytes = ROLLUP_PART_BYTES): Uint8Array[] {
  const to = from + 5;
  const parts: Part[] = [new Part(grid)];
  let part = parts[0] as Part;
  const makeRoom = () => {
    if (part.bytes + HEADROOM > maxBytes) parts.push((part = new Part(grid)));
  };
  for (let i = 0; i < orderedPods.length; ) {
    const workload = grid.podWorkload[orderedPods[i] as number] as number;
    const podsOfWorkload: number[] = [];
    for (; i < orderedPods.length && grid.podWorkload[orderedPods[i] as number] === workload; i++) {
      const pod = orderedPods[i] as number;
      if (!grid.podHasAny(pod, from, to)) continue;
      makeRoom();
      podsOfWorkload.push(pod);
      addPod(part, grid, pod, from, to);
    }
    if (podsOfWorkload.length > 0) {
      makeRoom();
      addLoad(part, grid, workload, podsOfWorkload, from, to);
    }
  }
  const lines = requestLines(grid, from, 5);
  for (let i = 0; i < lines.length; ) {
    const workload = grid.requestWorkload[lines[i] as number] as number;
    const linesOfWorkload: number[] = [];
    for (; i < lines.length && grid.requestWorkload[lines[i] as number] === workload; i++) linesOfWorkload.push(lines[i] as number);
    makeRoom();
    addRequests(part, grid, workload, linesOfWorkload, from, to);
  }
  return parts.map((each, i) => encodeRollup({
    version: 1, store_epoch: head.storeEpoch, revision: head.revision, window_minute: grid.startMinute + from, final: head.final ? 1 : 0, part: i + 1, parts: parts.length,
    workloads: each.workloads, containers: each.containers, pod_uids: podUids(grid, each.uids), ...each.columns,
  } satisfies RollupInput));
}

function podUids(grid: Grid, pods: readonly number[]): Uint8Array {
  const uids = new Uint8Array(pods.length * 16);
  pods.forEach((pod, i) => uids.set(grid.podUids.subarray(pod * 16, pod * 16 + 16), i * 16));
  return uids;
}

function addPod(part: Part, grid: Grid, pod: number, from: number, to: number): void {
  const slot = part.podCount;
  part.uids.push(pod);
  part.bytes += 16;
  part.push('pod_workload', part.workload(grid.podWorkload[pod] as number));
  const [cpu, cpuPeak, memory, memoryPeak, throttled, restarts] = grid.usage as [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array, Float64Array];
  for (const series of grid.seriesOfPod(pod)) {
    let minutes = 0;
    let cpuSum = 0;
    let cpuMax = 0;
    let memorySum = 0;
    let memoryMax = 0;
    let throttledKnown = 0;
    let throttledMinutes = 0;
    let restarted = 0;
    for (let place = series * grid.span + from; place < series * grid.span + to; place++) {
      if (grid.rank[place] === 0) continue;
      minutes++;
      cpuSum += cpu[place] as number;
      const ofCpu = (cpu[place] as number) + (cpuPeak[place] as number);
      if (ofCpu > cpuMax) cpuMax = ofCpu;
      memorySum += memory[place] as number;
      const ofMemory = (memory[place] as number) + (memoryPeak[place] as number);
      if (ofMemory > memoryMax) memoryMax = ofMemory;
      if ((throttled[place] as number) > 0) throttledKnown++;
      if ((throttled[place] as number) > 1) throttledMinutes++;
      restarted += restarts[place] as number;
    }
    if (minutes === 0) continue;
    part.push('series_pod', slot);
    part.push('series_container', part.container(grid.seriesContainer[series] as number));
    part.push('covered_minutes', minutes);
    part.push('cpu_millicore_minutes', cpuSum);
    part.push('cpu_peak_millicores', cpuMax);
    part.push('memory_kibibyte_minutes', Math.round(memorySum / 1024));
    part.push('memory_peak_kibibytes', Math.ceil(memoryMax / 1024));
    part.push('throttled_minutes_plus_one', throttledKnown > 0 ? throttledMinutes + 1 : 0);
    part.push('restarts', restarted);
  }
  const receive = grid.podColumns[0] as Float64Array;
  const transmit = grid.podColumns[1] as Float64Array;
  let minutes = 0;
  let received = 0;
  let transmitted = 0;
  for (let place = pod * grid.span + from; place < pod * grid.span + to; place++) {
    if (grid.podRank[place] === 0 || ((receive[place] as number) === 0 && (transmit[place] as number) === 0)) continue;
    minutes++;
    received += Math.max(0, (receive[place] as number) - 1) * 60;
    transmitted += Math.max(0, (transmit[place] as number) - 1) * 60;
  }
  if (minutes === 0) return;
  part.push('network_pod', slot);
  part.push('network_covered_minutes', minutes);
  part.push('receive_bytes', received);
  part.push('transmit_bytes', transmitted);
}

function addLoad(part: Part, grid: Grid, workload: number, pods: readonly number[], from: number, to: number): void {
  const load = sumOfPods(grid, pods, from, to);
  let minutes = 0;
  let sum = 0;
  let peak = 0;
  const counts = new Map<number, number>();
  for (let m = from; m < to; m++) {
    if (load.known[m] === 0) continue;
    const cpu = load.cpuMillicores[m] as number;
    minutes++;
    sum += cpu;
    if (cpu > peak) peak = cpu;
    const bucket = fastBucketOf(cpu);
    counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
  }
  if (minutes === 0) return;
  part.push('load_workload', part.workload(workload));
  part.push('load_covered_minutes', minutes);
  part.push('load_cpu_millicore_minutes', sum);
  part.push('load_cpu_peak_millicores', peak);
  part.push('load_buckets_in_row', counts.size);
  for (const [bucket, count] of [...counts].sort((a, b) => a[0] - b[0])) {
    part.columns.load_cpu_bucket.push(bucket);
    part.bytes += 2;
    part.push('load_cpu_count', count);
  }
}

function addRequests(part: Part, grid: Grid, workload: number, lines: readonly number[], from: number, to: number): void {
  let covered = 0;
  let businessMinutes = 0;
  let business = 0;
  let noise = 0;
  let errors = 0;
  for (let m = from; m < to; m++) {
    const line = requestLineAt(grid, lines, m);
    if (line < 0) continue;
    const at = (k: number) => (grid.requests[k] as Float64Array)[line * grid.span + m] as number;
    const ofMinute = at(1) + at(7);
    if (!requestMinuteCounts(at(0), ofMinute)) continue;
    covered++;
    if (ofMinute > 0) businessMinutes++;
    business += ofMinute;
    noise += at(2) + at(3) + at(4) + at(5) + at(6);
    errors += at(12);
  }
  if (covered === 0) return;
  part.push('request_workload', part.workload(workload));
  part.push('request_covered_minutes', covered);
  part.push('request_business_minutes', businessMinutes);
  part.push('request_business', business);
  part.push('request_noise', noise);
  part.push('request_errors', errors);
}
