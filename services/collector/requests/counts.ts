import { addTo, type Distribution } from '@upid/contracts';
import { REQUEST_CLASSES, type RequestClass } from './classes.js';
import type { AccessLogEntry } from './entry.js';

/** What one workload was asked in one minute. Mergeable: every number of two aggregates of the same minute adds up. */
export interface RequestMinute {
  /** The workload's key, as the caller names workloads. */
  readonly workload: string;
  /** Minutes since the epoch. */
  readonly minute: number;
  /** How many of its 60 seconds the logs that lead to the workload were followed. */
  coveredSeconds: number;
  /** Requests by class, in the order of {@link REQUEST_CLASSES}. */
  readonly counts: number[];
  /** Business requests by status group, 1xx to 5xx; those without a status are in none. */
  readonly statuses: number[];
  /** Durations of business requests in ms, log buckets of the contracts (relative error 1.96 %). */
  readonly latencyMs: Distribution;
}

const CLASS_INDEX: Readonly<Record<RequestClass, number>> = Object.fromEntries(REQUEST_CLASSES.map((name, index) => [name, index])) as Record<RequestClass, number>;

/** Durations are kept between a hundredth of a ms and a day, so that a sketch has at most 600 buckets. */
const SHORTEST_MS = 0.01;
const LONGEST_MS = 86_400_000;

/** Bounds of {@link RequestCounts}. */
export interface CountsLimits {
  /** Workload-minutes held at once. */
  readonly maxCells: number;
  /** How far ahead of the oldest open minute a line's time may lie. */
  readonly maxOpenMinutes: number;
}

export const DEFAULT_COUNTS_LIMITS: CountsLimits = { maxCells: 50_000, maxOpenMinutes: 15 };

/** What could not be counted. */
export interface CountsLosses {
  /** Of minutes already given away. */
  late: number;
  /** Of minutes too far ahead (a proxy's wrong clock). */
  ahead: number;
  /** For want of room; the minute is then not covered. */
  full: number;
}

/**
 * Counts requests by workload and minute. Minutes are open until {@link drain} gives them away; nothing is given away twice.
 * Memory is bounded by `maxCells`, each at most some 600 numbers; adding is O(1).
 */
export class RequestCounts {
  readonly losses: CountsLosses = { late: 0, ahead: 0, full: 0 };
  private readonly minutes = new Map<number, Map<string, RequestMinute>>();
  private cells = 0;
  /** Minutes whose telling would be false, for want of room. */
  private readonly incomplete = new Set<number>();

  /** @param firstMinute the first minute (since the epoch) that may be counted */
  constructor(private firstMinute: number, private readonly limits: CountsLimits = DEFAULT_COUNTS_LIMITS) {}

  /**
   * Counts a request.
   * @param timeMs when it ended, unix ms
   * @returns false where it could not be counted (see {@link losses})
   */
  add(workload: string, requestClass: RequestClass, timeMs: number, entry: Pick<AccessLogEntry, 'status' | 'durationMs' | 'grpcStatus'>): boolean {
    const cell = this.cell(workload, Math.floor(timeMs / 60_000));
    if (cell === null) return false;
    const index = CLASS_INDEX[requestClass];
    cell.counts[index] = (cell.counts[index] ?? 0) + 1;
    if (index !== 0) return true;
    const group = statusGroup(entry.status, entry.grpcStatus);
    if (group !== null) cell.statuses[group] = (cell.statuses[group] ?? 0) + 1;
    if (entry.durationMs !== null) addTo(cell.latencyMs, Math.min(LONGEST_MS, Math.max(SHORTEST_MS, entry.durationMs)));
    return true;
  }

  /** Notes that the logs which lead to a workload were followed for so many seconds of a minute, with or without requests. */
  cover(workload: string, minute: number, seconds = 60): void {
    const cell = this.cell(workload, minute);
    if (cell !== null) cell.coveredSeconds = Math.max(cell.coveredSeconds, Math.min(60, Math.max(0, Math.floor(seconds))));
  }

  /** Gives away every minute before `beforeMinute`, oldest first, and closes them. */
  drain(beforeMinute: number): RequestMinute[] {
    const drained: RequestMinute[] = [];
    for (const minute of [...this.minutes.keys()].filter((each) => each < beforeMinute).sort((a, b) => a - b)) {
      const cells = [...(this.minutes.get(minute)?.values() ?? [])];
      if (this.incomplete.delete(minute)) for (const cell of cells) cell.coveredSeconds = 0;
      drained.push(...cells);
      this.cells -= cells.length;
      this.minutes.delete(minute);
    }
    for (const minute of this.incomplete) if (minute < beforeMinute) this.incomplete.delete(minute);
    this.firstMinute = Math.max(this.firstMinute, beforeMinute);
    return drained;
  }

  /** Workload-minutes held now. */
  get size(): number {
    return this.cells;
  }

  private cell(workload: string, minute: number): RequestMinute | null {
    if (!(minute >= this.firstMinute)) {
      this.losses.late++;
      return null;
    }
    if (minute >= this.firstMinute + this.limits.maxOpenMinutes) {
      this.losses.ahead++;
      return null;
    }
    let cells = this.minutes.get(minute);
    const known = cells?.get(workload);
    if (known !== undefined) return known;
    if (this.cells >= this.limits.maxCells) {
      this.losses.full++;
      this.incomplete.add(minute);
      return null;
    }
    if (cells === undefined) this.minutes.set(minute, (cells = new Map<string, RequestMinute>()));
    const cell: RequestMinute = { workload, minute, coveredSeconds: 0, counts: REQUEST_CLASSES.map(() => 0), statuses: [0, 0, 0, 0, 0], latencyMs: new Map() };
    cells.set(workload, cell);
    this.cells++;
    return cell;
  }
}

/**
 * HTTP status of each gRPC code, as google.rpc.Code documents them: gRPC answers 200 whatever happened, so the group of an error is
 * that of its code.
 */
const HTTP_OF_GRPC: readonly number[] = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];

/** 0 to 4 for 1xx to 5xx; null without a status. A gRPC error counts by its code. */
export function statusGroup(status: number | null, grpcStatus: number | null): number | null {
  const effective = grpcStatus !== null && grpcStatus > 0 && (status === null || status === 200) ? (HTTP_OF_GRPC[grpcStatus] ?? 500) : status;
  if (effective === null || effective < 100 || effective > 599) return null;
  return Math.floor(effective / 100) - 1;
}

/** The sum of two aggregates of the same workload and minute; covered as far as the less covered one. */
export function mergeMinutes(a: RequestMinute, b: RequestMinute): RequestMinute {
  const latencyMs: Distribution = new Map(a.latencyMs);
  for (const [bucket, count] of b.latencyMs) latencyMs.set(bucket, (latencyMs.get(bucket) ?? 0) + count);
  return {
    workload: a.workload, minute: a.minute, coveredSeconds: Math.min(a.coveredSeconds, b.coveredSeconds), counts: a.counts.map((count, index) => count + (b.counts[index] ?? 0)),
    statuses: a.statuses.map((count, index) => count + (b.statuses[index] ?? 0)), latencyMs,
  };
}
