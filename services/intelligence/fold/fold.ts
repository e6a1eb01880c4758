import type { RequestBatch, UsageBatch } from '@upid/contracts';
import { aggregateWorkload, packAggregate, packLoad, type Aggregate, type LoadMinutes } from './aggregate.js';
import { PackWriter } from './column.js';
import type { Grid } from './grid.js';
import { packPodHour, packRequestHour, requestLines, unpackCells, unpackPodHour, unpackRequestHour } from './segment.js';

/** Minutes of a window and of an hour. */
export const WINDOW = 5;
export const HOUR = 60;

/** A batch as it came, decoded. */
export type Batch = { readonly kind: 'usage'; readonly batch: UsageBatch } | { readonly kind: 'requests'; readonly batch: RequestBatch };

/** What stands already of the span: packed cells (at an offset of minutes), pods' and workloads' packed hours. */
export interface Standing {
  readonly cells: readonly { readonly at: number; readonly bytes: Uint8Array }[];
  readonly podHours: readonly { readonly uid: Uint8Array; readonly workload: string; readonly bytes: Uint8Array }[];
  readonly requestHours: readonly { readonly workload: string; readonly bytes: Uint8Array }[];
}
export const NOTHING_STANDS: Standing = { cells: [], podHours: [], requestHours: [] };

/**
 * The fold: puts what stands and the batches into the grid. Afterwards the grid holds each (series, minute) once, and its
 * touched flags tell what the batches changed. Order and repetition of batches play no part, nor does whether a sample
 * stood already or comes again.
 */
export function foldInto(grid: Grid, startMinute: number, span: number, standing: Standing, batches: Iterable<Batch>): void {
  grid.reset(startMinute, span);
  grid.standing = true;
  for (const cell of standing.cells) unpackCells(cell.bytes, grid, cell.at);
  for (const hour of standing.podHours) unpackPodHour(hour.bytes, grid, grid.pod(hour.uid, 0, grid.workload(hour.workload)));
  for (const hour of standing.requestHours) unpackRequestHour(hour.bytes, grid, grid.workload(hour.workload));
  grid.standing = false;
  for (const each of batches) {
    if (each.kind === 'usage') grid.addUsage(each.batch);
    else grid.addRequests(each.batch);
  }
}

/** Which of the span's windows hold anything, as bits. */
export function windowsWithData(grid: Grid): number {
  let windows = 0;
  const mark = (ranks: Uint8Array, lines: number) => {
    for (let line = 0; line < lines; line++) {
      for (let m = 0; m < grid.span; m++) if (ranks[line * grid.span + m] !== 0) windows |= 1 << ((m / WINDOW) | 0);
    }
  };
  mark(grid.rank, grid.series);
  mark(grid.podRank, grid.pods);
  mark(grid.requestRank, grid.requestLines);
  return windows;
}

/** A closed hour of a pod. */
export interface PodHour {
  readonly pod: number;
  readonly samples: Uint8Array;
}

/** The pods' packed hours; of all pods, or of those that batches touched. */
export function* packPodHours(grid: Grid, orderedPods: Int32Array, touchedOnly: boolean): Generator<PodHour> {
  const out = new PackWriter();
  for (const pod of orderedPods) {
    if (touchedOnly && !grid.podTouched(pod)) continue;
    const samples = packPodHour(out, grid, pod);
    if (samples) yield { pod, samples };
  }
}

/** A closed hour of a workload: its load minute by minute, its request lines, and its aggregate. */
export interface WorkloadHour {
  readonly workload: number;
  readonly load: Uint8Array;
  readonly requests: Uint8Array | null;
  readonly aggregate: Uint8Array;
}

/** Each workload of the grid with its pods and request lines, in a stable order. */
export function* workloadsOf(grid: Grid, orderedPods: Int32Array): Generator<{ workload: number; pods: number[]; lines: number[] }> {
  const byWorkload = new Map<number, { workload: number; pods: number[]; lines: number[] }>();
  const of = (workload: number) => {
    let each = byWorkload.get(workload);
    if (!each) byWorkload.set(workload, (each = { workload, pods: [], lines: [] }));
    return each;
  };
  for (const pod of orderedPods) of(grid.podWorkload[pod] as number).pods.push(pod);
  for (const line of requestLines(grid, 0, grid.span)) of(grid.requestWorkload[line] as number).lines.push(line);
  yield* byWorkload.values();
}

/** The workloads' packed hours; of all, or of those that batches touched. */
export function* packWorkloadHours(grid: Grid, orderedPods: Int32Array, touchedOnly: boolean): Generator<WorkloadHour> {
  const out = new PackWriter();
  for (const { workload, pods, lines } of workloadsOf(grid, orderedPods)) {
    if (touchedOnly && !grid.workloadTouched(workload)) continue;
    const { aggregate, load } = aggregateWorkload(grid, pods, lines);
    yield { workload, load: packLoad(out, load), requests: packRequestHour(out, grid, lines), aggregate: packAggregate(out, aggregate) };
  }
}

/** The aggregates of all workloads in the grid's minutes from..to, by key: for hours that are still open. */
export function aggregateAll(grid: Grid, from = 0, to = grid.span): Map<string, { aggregate: Aggregate; load: LoadMinutes }> {
  const all = new Map<string, { aggregate: Aggregate; load: LoadMinutes }>();
  for (const { workload, pods, lines } of workloadsOf(grid, grid.orderedPods())) all.set(grid.workloads[workload] as string, aggregateWorkload(grid, pods, lines, from, to));
  return all;
}
