/** Milliseconds in a minute, an hour, a day. */
export const MINUTE_MS = 60_000;
export const HOUR_MS = 3_600_000;
export const DAY_MS = 86_400_000;
/** A cell's window: five minutes. */
export const WINDOW_MINUTES = 5;
export const WINDOW_MS = WINDOW_MINUTES * MINUTE_MS;
/** Hours in a month of money: 730 (as the clouds' price pages count). */
export const HOURS_PER_MONTH = 730;

/** A half-open interval of time, UTC, in unix milliseconds. */
export interface TimeRange {
  readonly startMs: number;
  readonly endMs: number;
}

/** A text that names no time range; says the accepted forms. */
export class InvalidTimeRangeError extends Error {
  override readonly name = 'InvalidTimeRangeError';
  constructor(text: string, why: string) {
    super(`${JSON.stringify(text)} is no time range (${why}): give a length such as 30m, 24h, 7d (at most 400d), or START/END in RFC 3339 UTC, for example 2026-01-01T00:00:00Z/2026-01-02T00:00:00Z`);
  }
}

const LENGTH = /^(\d{1,6})([mhdw])$/;
const UNIT_MS: Record<string, number> = { m: MINUTE_MS, h: HOUR_MS, d: DAY_MS, w: 7 * DAY_MS };
const RFC3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})$/;
/** The longest range that can be asked for: 400 days, a little over the 13 months that aggregates are kept. */
export const LONGEST_RANGE_MS = 400 * DAY_MS;

/**
 * Reads `30m`, `24h`, `7d`, `2w` (back from now) or `START/END` in RFC 3339.
 * @param text what a person or program wrote
 * @param nowMs the time that a length counts back from, unix ms
 * @throws {InvalidTimeRangeError} for anything else, an empty or reversed range, or more than 400 days
 */
export function parseTimeRange(text: string, nowMs: number): TimeRange {
  const length = LENGTH.exec(text.trim());
  if (length) {
    const ms = Number(length[1]) * (UNIT_MS[length[2] ?? ''] ?? 0);
    if (ms <= 0) throw new InvalidTimeRangeError(text, 'its length is zero');
    if (ms > LONGEST_RANGE_MS) throw new InvalidTimeRangeError(text, 'longer than 400 days');
    return { startMs: nowMs - ms, endMs: nowMs };
  }
  const [start, end, more] = text.trim().split('/');
  if (start === undefined || end === undefined || more !== undefined) throw new InvalidTimeRangeError(text, 'neither a length nor START/END');
  if (!RFC3339.test(start) || !RFC3339.test(end)) throw new InvalidTimeRangeError(text, 'start or end is not RFC 3339');
  const range = { startMs: Date.parse(start), endMs: Date.parse(end) };
  if (Number.isNaN(range.startMs) || Number.isNaN(range.endMs)) throw new InvalidTimeRangeError(text, 'start or end is no date');
  if (range.endMs <= range.startMs) throw new InvalidTimeRangeError(text, 'it ends before it starts');
  if (range.endMs - range.startMs > LONGEST_RANGE_MS) throw new InvalidTimeRangeError(text, 'longer than 400 days');
  return range;
}

/** Start of the 5-minute window that holds `ms`, unix ms. */
export function windowStart(ms: number): number {
  return ms - (((ms % WINDOW_MS) + WINDOW_MS) % WINDOW_MS);
}

/** RFC 3339 UTC text of unix ms. */
export function toTimestamp(ms: number): string {
  return new Date(ms).toISOString();
}
