import { CorruptPackError, packColumn, packPresence, PackReader, PackWriter, unpackColumn, unpackPresence } from './column.js';
import { POD_COLUMNS, REQUEST_COLUMNS, USAGE_COLUMNS, type Grid } from './grid.js';

/**
 * Packed samples of many minutes, self-contained. Three forms share their blocks:
 *
 * - a **cell segment** holds 5 minutes of many pods (a shard of a cluster's workloads) with its own dictionaries, since it
 *   lives an hour: version, workloads, containers, number of pods, their UIDs (16 bytes each), each pod's workload, the
 *   blocks' lengths, the blocks, then request lines (workload, length, line);
 * - a **pod hour** holds 60 minutes of one pod: version, its container names, the block;
 * - a **request hour** holds 60 minutes of a workload's request lines, one a source.
 *
 * A pod's block: number of containers; for each its place in the names, {@link packPresence}, the column of source ranks and
 * the columns of {@link USAGE_COLUMNS}; then presence, ranks and columns of the pod's own samples. A request line: source,
 * presence, {@link REQUEST_COLUMNS}, then the number of latency buckets a minute and all buckets (zigzag) and counts.
 * Columns are packed as `column.ts` says.
 */
const VERSION = 1;
/** Cells of a window are kept in this many rows by their workload's hash, so that one workload's are read without the rest. */
export const SHARDS = 16;

/** The shard of a workload: FNV-1a of its key. */
export function shardOf(workloadKey: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < workloadKey.length; i++) hash = Math.imul(hash ^ workloadKey.charCodeAt(i), 0x01000193);
  return ((hash >>> 0) ^ (hash >>> 16)) & (SHARDS - 1);
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function writeText(out: PackWriter, text: string): void {
  const bytes = encoder.encode(text);
  out.varint(bytes.length);
  out.raw(bytes);
}

function readText(reader: PackReader): string {
  return decoder.decode(reader.raw(reader.varint()));
}

function readVersion(reader: PackReader): void {
  const version = reader.byte();
  if (version !== VERSION) throw new CorruptPackError(`packed samples of version ${version}: this build reads version ${VERSION}`);
}

const gathered = new Float64Array(60);
const minutes = new Uint8Array(60);

/** Writes presence, ranks and columns of the `span` places from `start`; @returns how many there are. */
function writePlaces(out: PackWriter, ranks: Uint8Array, columns: readonly Float64Array[], start: number, span: number): void {
  const count = packPresence(out, ranks, start, span);
  if (count === 0) return;
  let n = 0;
  for (let i = start; i < start + span; i++) if (ranks[i] !== 0) gathered[n++] = ranks[i] as number;
  packColumn(out, gathered, 0, count);
  for (const column of columns) {
    if (count === span) packColumn(out, column, start, span);
    else {
      n = 0;
      for (let i = start; i < start + span; i++) if (ranks[i] !== 0) gathered[n++] = column[i] as number;
      packColumn(out, gathered, 0, count);
    }
  }
}

const unpackedRanks = new Float64Array(60);
const unpacked = Array.from({ length: Math.max(USAGE_COLUMNS.length, POD_COLUMNS.length, REQUEST_COLUMNS.length) }, () => new Float64Array(60));

/** The inverse of {@link writePlaces} into the module's scratch columns; @returns how many minutes. */
function readPlaces(reader: PackReader, span: number, columns: number): number {
  const count = unpackPresence(reader, span, minutes);
  if (count === 0) return 0;
  unpackColumn(reader, unpackedRanks, 0, count);
  for (let k = 0; k < columns; k++) unpackColumn(reader, unpacked[k] as Float64Array, 0, count);
  return count;
}

function writePodBlock(out: PackWriter, grid: Grid, pod: number, from: number, span: number, slotOf: (container: number) => number): void {
  const series = grid.seriesOfPod(pod).filter((each) => {
    for (let m = from; m < from + span; m++) if (grid.rank[each * grid.span + m] !== 0) return true;
    return false;
  });
  out.varint(series.length);
  for (const each of series) {
    out.varint(slotOf(grid.seriesContainer[each] as number));
    writePlaces(out, grid.rank, grid.usage, each * grid.span + from, span);
  }
  writePlaces(out, grid.podRank, grid.podColumns, pod * grid.span + from, span);
}

const usageRow = new Float64Array(USAGE_COLUMNS.length);
const podRow = new Float64Array(POD_COLUMNS.length);

/** Puts a pod's block at the grid's minutes from `at` on. */
function readPodBlock(reader: PackReader, grid: Grid, pod: number, at: number, span: number, containerOf: readonly number[]): void {
  for (let left = reader.varint(); left > 0; left--) {
    const container = containerOf[reader.varint()];
    if (container === undefined) throw new CorruptPackError('a packed block names a container that is not there');
    const count = readPlaces(reader, span, USAGE_COLUMNS.length);
    if (count === 0) continue;
    const series = grid.seriesOf(pod, container);
    for (let i = 0; i < count; i++) {
      for (let k = 0; k < usageRow.length; k++) usageRow[k] = (unpacked[k] as Float64Array)[i] as number;
      grid.putUsage(series, at + (minutes[i] as number), unpackedRanks[i] as number, usageRow);
    }
  }
  const count = readPlaces(reader, span, POD_COLUMNS.length);
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < podRow.length; k++) podRow[k] = (unpacked[k] as Float64Array)[i] as number;
    grid.putPod(pod, at + (minutes[i] as number), unpackedRanks[i] as number, podRow);
  }
}

function writeRequestLine(out: PackWriter, grid: Grid, line: number, from: number, span: number): void {
  writeText(out, grid.requestSource[line] as string);
  const start = line * grid.span + from;
  writePlaces(out, grid.requestRank, grid.requests, start, span);
  const lengths: number[] = [];
  const buckets: number[] = [];
  const counts: number[] = [];
  for (let place = start; place < start + span; place++) {
    if (grid.requestRank[place] === 0) continue;
    const pairs = grid.latency.get(place);
    lengths.push((pairs?.length ?? 0) / 2);
    for (let i = 0; i < (pairs?.length ?? 0); i += 2) {
      const bucket = pairs?.[i] as number;
      buckets.push(bucket < 0 ? -2 * bucket - 1 : 2 * bucket);
      counts.push(pairs?.[i + 1] as number);
    }
  }
  packColumn(out, Float64Array.from(lengths), 0, lengths.length);
  packColumn(out, Float64Array.from(buckets), 0, buckets.length);
  packColumn(out, Float64Array.from(counts), 0, counts.length);
}

const requestRow = new Float64Array(REQUEST_COLUMNS.length);

function readRequestLine(reader: PackReader, grid: Grid, workload: number, at: number, span: number): void {
  const line = grid.requestLine(workload, readText(reader));
  const count = readPlaces(reader, span, REQUEST_COLUMNS.length);
  const lengths = new Float64Array(count);
  unpackColumn(reader, lengths, 0, count);
  const total = lengths.reduce((sum, each) => sum + each, 0);
  const buckets = new Float64Array(total);
  const counts = new Float64Array(total);
  unpackColumn(reader, buckets, 0, total);
  unpackColumn(reader, counts, 0, total);
  let bucket = 0;
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < requestRow.length; k++) requestRow[k] = (unpacked[k] as Float64Array)[i] as number;
    const length = lengths[i] as number;
    let latency: Float64Array | null = null;
    if (length > 0) {
      latency = new Float64Array(length * 2);
      for (let j = 0; j < length; j++) {
        const zigzag = buckets[bucket + j] as number;
        latency[2 * j] = zigzag % 2 === 1 ? -(zigzag + 1) / 2 : zigzag / 2;
        latency[2 * j + 1] = counts[bucket + j] as number;
      }
      bucket += length;
    }
    grid.putRequests(line, at + (minutes[i] as number), requestRow, latency);
  }
}

/** A shard's cells of one window. */
export interface CellSegment {
  readonly shard: number;
  readonly bytes: Uint8Array;
}

/** Request lines of each workload, ordered by workload and source; those with nothing in the minutes are left out. */
export function requestLines(grid: Grid, from: number, span: number): number[] {
  const lines: number[] = [];
  for (let line = 0; line < grid.requestLines; line++) {
    for (let m = from; m < from + span; m++) {
      if (grid.requestRank[line * grid.span + m] !== 0) {
        lines.push(line);
        break;
      }
    }
  }
  const name = (line: number) => `${grid.workloads[grid.requestWorkload[line] as number] as string} ${grid.requestSource[line] as string}`;
  return lines.sort((a, b) => (name(a) < name(b) ? -1 : 1));
}

/** Packs the cells of the 5 minutes from offset `from`, by shard. The same samples give the same bytes, however they came. */
export function packCells(grid: Grid, from: number, orderedPods: Int32Array): CellSegment[] {
  const podsOf: number[][] = Array.from({ length: SHARDS }, () => []);
  const shardOfWorkload = grid.workloads.map(shardOf);
  for (const pod of orderedPods) {
    if (grid.podHasAny(pod, from, from + 5)) podsOf[shardOfWorkload[grid.podWorkload[pod] as number] as number]?.push(pod);
  }
  const linesOf: number[][] = Array.from({ length: SHARDS }, () => []);
  for (const line of requestLines(grid, from, 5)) linesOf[shardOfWorkload[grid.requestWorkload[line] as number] as number]?.push(line);
  const segments: CellSegment[] = [];
  const out = new PackWriter();
  const body = new PackWriter();
  for (let shard = 0; shard < SHARDS; shard++) {
    const pods = podsOf[shard] as number[];
    const lines = linesOf[shard] as number[];
    if (pods.length === 0 && lines.length === 0) continue;
    const workloads = new Slots();
    const containers = new Slots();
    const lengths: number[] = [];
    body.reset();
    for (const pod of pods) {
      const start = body.length;
      writePodBlock(body, grid, pod, from, 5, (container) => containers.of(container));
      lengths.push(body.length - start);
    }
    const podWorkloads = pods.map((pod) => workloads.of(grid.podWorkload[pod] as number));
    const lineWorkloads = lines.map((line) => workloads.of(grid.requestWorkload[line] as number));
    out.reset();
    out.byte(VERSION);
    out.varint(workloads.list.length);
    for (const workload of workloads.list) writeText(out, grid.workloads[workload] as string);
    out.varint(containers.list.length);
    for (const container of containers.list) writeText(out, grid.containers[container] as string);
    out.varint(pods.length);
    for (const pod of pods) out.raw(grid.podUids.subarray(pod * 16, pod * 16 + 16));
    for (const workload of podWorkloads) out.varint(workload);
    for (const length of lengths) out.varint(length);
    out.raw(body.view());
    out.varint(lines.length);
    lines.forEach((line, i) => {
      body.reset();
      writeRequestLine(body, grid, line, from, 5);
      out.varint(lineWorkloads[i] as number);
      out.varint(body.length);
      out.raw(body.view());
    });
    segments.push({ shard, bytes: out.take() });
  }
  return segments;
}

/** Numbers things by the order they are first asked for. */
class Slots {
  readonly list: number[] = [];
  private readonly slots = new Map<number, number>();
  of(index: number): number {
    let slot = this.slots.get(index);
    if (slot === undefined) {
      slot = this.list.push(index) - 1;
      this.slots.set(index, slot);
    }
    return slot;
  }
}

/**
 * Puts a cell segment into the grid at offset `at`.
 * @param wanted where given, only pods and requests of these workload keys
 * @throws {CorruptPackError}
 */
export function unpackCells(bytes: Uint8Array, grid: Grid, at: number, wanted?: (workloadKey: string) => boolean): void {
  const reader = new PackReader(bytes);
  readVersion(reader);
  const keys = Array.from({ length: reader.varint() }, () => readText(reader));
  const keep = keys.map((key) => wanted?.(key) ?? true);
  const workloadOf = keys.map((key, i) => (keep[i] ? grid.workload(key) : -1));
  const containerOf = Array.from({ length: reader.varint() }, () => grid.container(readText(reader)));
  const pods = reader.varint();
  const uids = reader.raw(pods * 16);
  const podWorkloads = Array.from({ length: pods }, () => reader.varint());
  const lengths = Array.from({ length: pods }, () => reader.varint());
  for (let i = 0; i < pods; i++) {
    const workload = workloadOf[podWorkloads[i] as number] as number;
    if (workload < 0) reader.skip(lengths[i] as number);
    else readPodBlock(reader, grid, grid.pod(uids, i * 16, workload), at, 5, containerOf);
  }
  for (let left = reader.varint(); left > 0; left--) {
    const workload = workloadOf[reader.varint()] as number;
    const length = reader.varint();
    if (workload < 0) reader.skip(length);
    else readRequestLine(reader, grid, workload, at, 5);
  }
}

/** Packs a pod's 60 minutes; null where there are none. */
export function packPodHour(out: PackWriter, grid: Grid, pod: number): Uint8Array | null {
  if (!grid.podHasAny(pod)) return null;
  out.reset();
  out.byte(VERSION);
  const series = grid.seriesOfPod(pod);
  const slots = new Map(series.map((each, i) => [grid.seriesContainer[each] as number, i]));
  out.varint(series.length);
  for (const each of series) writeText(out, grid.containers[grid.seriesContainer[each] as number] as string);
  writePodBlock(out, grid, pod, 0, 60, (container) => slots.get(container) as number);
  return out.take();
}

/** Puts a pod's packed hour at the grid's minutes from `at` on. @throws {CorruptPackError} */
export function unpackPodHour(bytes: Uint8Array, grid: Grid, pod: number, at = 0): void {
  const reader = new PackReader(bytes);
  readVersion(reader);
  const containerOf = Array.from({ length: reader.varint() }, () => grid.container(readText(reader)));
  readPodBlock(reader, grid, pod, at, 60, containerOf);
}

/** Packs 60 minutes of a workload's request lines; null where there are none. */
export function packRequestHour(out: PackWriter, grid: Grid, lines: readonly number[]): Uint8Array | null {
  if (lines.length === 0) return null;
  out.reset();
  out.byte(VERSION);
  out.varint(lines.length);
  for (const line of lines) writeRequestLine(out, grid, line, 0, 60);
  return out.take();
}

/** Puts a workload's packed request hour at the grid's minutes from `at` on. @throws {CorruptPackError} */
export function unpackRequestHour(bytes: Uint8Array, grid: Grid, workload: number, at = 0): void {
  const reader = new PackReader(bytes);
  readVersion(reader);
  for (let left = reader.varint(); left > 0; left--) readRequestLine(reader, grid, workload, at, 60);
}
