import { HOUR_MS, MINUTE_MS, WINDOW_MS } from '@upid/contracts';
import type { Grid } from './grid.js';

/** A batch that rests this long after the last of its hour is folded … */
export const SETTLE_MS = 1_500;
/** … and no batch waits longer than this: also the pace of the open window's provisional folds while batches keep coming. */
export const LONGEST_WAIT_MS = 60_000;
/** A window is final this long after its end: samples that could not be resolved wait one interval at the agent. */
export const FINAL_AFTER_MS = 2 * MINUTE_MS;
/** An hour is packed this long after its end; what comes later is folded into the packed hour. */
export const CLOSE_AFTER_MS = 10 * MINUTE_MS;
/** Hours this young are folded before older ones (backfill, a spool). */
export const LIVE_MS = 2 * HOUR_MS;
/** Numbers of workloads and pods that are remembered; when there are more they are asked for again. */
export const dictionaryLimit = 500_000;

/** An hour of a cluster; `cluster` is its number in this store. */
export interface HourKey {
  readonly cluster: number;
  readonly clusterId: string;
  readonly hourMs: number;
}
export interface DirtyHour {
  /** Bit w: batches wait for the hour's w-th five minutes. */
  readonly windows: number;
  readonly marks: bigint;
}
export interface HourState {
  readonly windows: number;
  readonly finalWindows: number;
  readonly closed: boolean;
  /** Bit m: the minute holds a sample. */
  readonly usageMinutes: bigint;
  readonly requestMinutes: bigint;
}
export interface PendingBatch {
  readonly id: bigint;
  readonly kind: 'usage' | 'requests';
  readonly publishedAtMs: number;
  readonly payload: Uint8Array;
}
export interface CellRow {
  readonly window: number;
  readonly data: Uint8Array;
}

export const NEW_HOUR: HourState = { windows: 0, finalWindows: 0, closed: false, usageMinutes: 0n, requestMinutes: 0n };

/** The windows of a set of bits, rising. */
export function windowsIn(bits: number): number[] {
  return Array.from({ length: 12 }, (_, w) => w).filter((w) => (bits >> w) & 1);
}

/** Windows (bits) whose time of late samples is over at `nowMs`. */
export function finalWindowsAt(hourMs: number, nowMs: number): number {
  let bits = 0;
  for (let w = 0; w < 12; w++) if (hourMs + (w + 1) * WINDOW_MS + FINAL_AFTER_MS <= nowMs) bits |= 1 << w;
  return bits;
}

/** Whether an hour's samples are packed by now rather than kept as cells. */
export function isClosedAt(hourMs: number, nowMs: number): boolean {
  return hourMs + HOUR_MS + CLOSE_AFTER_MS <= nowMs;
}

/** When something is to be done for the hour though no batch comes: its next window becomes final, or it is closed; null when all is done. */
export function nextDueMs(hourMs: number, state: HourState): number | null {
  if (state.closed) return null;
  const [next] = windowsIn(state.windows & ~state.finalWindows);
  return next === undefined ? hourMs + HOUR_MS + CLOSE_AFTER_MS : hourMs + (next + 1) * WINDOW_MS + FINAL_AFTER_MS;
}

/** Which of the grid's minutes hold a sample of usage, or a watched minute of requests; bit m counts from the hour that begins at `hourMinute`. */
export function minutesWithData(grid: Grid, hourMinute: number): { readonly usage: bigint; readonly requests: bigint } {
  const mark = (ranks: Uint8Array, lines: number): bigint => {
    const seen = new Uint8Array(grid.span);
    for (let line = 0; line < lines; line++) for (let m = 0; m < grid.span; m++) if (ranks[line * grid.span + m] !== 0) seen[m] = 1;
    let bits = 0n;
    for (let m = 0; m < grid.span; m++) if (seen[m] === 1) bits |= 1n << BigInt(grid.startMinute - hourMinute + m);
    return bits;
  };
  return { usage: mark(grid.rank, grid.series), requests: mark(grid.requestRank, grid.requestLines) };
}

/** Bits of a window's five minutes within its hour. */
export function minutesOfWindow(window: number): bigint {
  return 31n << BigInt(window * 5);
}
