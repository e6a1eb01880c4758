import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';

/** Shipped data. */
export const testdata = join(import.meta.dirname, '../../testdata');

/** An even series; NaN where a step has no value. */
export interface Series {
  readonly name: string;
  readonly values: Float64Array;
  readonly startMs: number;
  readonly stepMs: number;
}

/** What `expected.json` says of a series. */
export interface Expected {
  readonly step: string;
  /** In steps. */
  readonly expected_periods: readonly number[];
  readonly points_used: number;
  /** The four highest of the periodogram, in steps. */
  readonly periodogram_top: readonly number[];
  readonly autocorrelation: Readonly<Record<string, number | null>>;
  readonly forecast_last_168h_of_13_weeks?: Readonly<Record<'snaive24' | 'snaive168' | 'mstl', { readonly mae: number; readonly mase168: number; readonly coverage90: number }>>;
}

/**
 * Reads a CSV onto even steps: the first column that holds times (taken as UTC), the value right of it; of rows with the same stamp
 * the first is kept.
 */
export async function readSeries(path: string, stepMs: number): Promise<Series> {
  const rows = (await readFile(path, 'utf8')).trim().split(/\r?\n/).map((line) => line.replaceAll('"', '').split(','));
  const time = rows[1]!.findIndex((cell) => /^\d{4}-\d\d-\d\d[ T]\d\d:\d\d/.test(cell));
  if (time < 0) throw new Error(`no column of ${path} holds times`);
  const stamped = rows.slice(1).map((row): [number, number] => [Date.parse(`${row[time]!.replace(' ', 'T')}Z`), row[time + 1] === '' ? Number.NaN : Number(row[time + 1])]);
  const startMs = stamped.reduce((least, [at]) => Math.min(least, at), Infinity);
  const endMs = stamped.reduce((most, [at]) => Math.max(most, at), -Infinity);
  const values = new Float64Array(Math.round((endMs - startMs) / stepMs) + 1).fill(Number.NaN);
  for (const [at, each] of stamped.reverse()) values[Math.round((at - startMs) / stepMs)] = each;
  return { name: basename(path, '.csv'), values, startMs, stepMs };
}

export const hourMs = 3_600_000;

/** `h`, `5min`, `D`. */
function stepOf(step: string): number {
  const [, number, unit] = /^(\d*)(min|h|D)$/.exec(step) ?? [];
  if (unit === undefined) throw new Error(`${step} is no step`);
  return Number(number || 1) * { min: 60_000, h: hourMs, D: 24 * hourMs }[unit as 'min' | 'h' | 'D'];
}

/** A series and what `expected.json` says of it. */
export interface Listed {
  readonly series: Series;
  readonly expected: Expected;
}

/** Every series that `seasonal/expected.json` of a data folder lists; those with a folder in their name lie in `anomaly-nab`. */
export async function listedSeries(data: string): Promise<Listed[]> {
  const all = JSON.parse(await readFile(join(data, 'seasonal/expected.json'), 'utf8')) as Record<string, Expected>;
  return Promise.all(Object.entries(all).map(async ([name, expected]) => ({
    series: await readSeries(join(data, name.includes('/') ? `anomaly-nab/${name}` : `seasonal/${name}.csv`), stepOf(expected.step)),
    expected,
  })));
}

export function round(value: number, digits = 3): number {
  return Math.round(value * 10 ** digits) / 10 ** digits;
}
