import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

const testdata = join(import.meta.dirname, '../../testdata');

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

/** Reads a CSV of stamped values (taken as UTC) onto even steps; of rows with the same stamp the first is kept. */
export async function readSeries(path: string, timeColumn: string, valueColumn: string, stepMs: number): Promise<Series> {
  const rows = (await readFile(join(testdata, path), 'utf8')).trim().split(/\r?\n/).map((line) => line.split(','));
  const time = rows[0]!.indexOf(timeColumn);
  const value = rows[0]!.indexOf(valueColumn);
  const stamped = rows.slice(1).map((row): [number, number] => [Date.parse(`${row[time]!.replace(' ', 'T')}Z`), row[value] === '' ? Number.NaN : Number(row[value])]);
  const startMs = stamped.reduce((least, [at]) => Math.min(least, at), Infinity);
  const endMs = stamped.reduce((most, [at]) => Math.max(most, at), -Infinity);
  const values = new Float64Array(Math.round((endMs - startMs) / stepMs) + 1).fill(Number.NaN);
  for (const [at, each] of stamped.reverse()) values[Math.round((at - startMs) / stepMs)] = each;
  return { name: path.replace(/^.*\/|\.csv$/g, ''), values, startMs, stepMs };
}

export const hourMs = 3_600_000;

/** The three hourly series: road traffic, electric load, solar power. */
export async function hourlySeries(): Promise<Series[]> {
  return Promise.all([
    readSeries('seasonal/metro_traffic_hourly.csv', 'date_time', 'traffic_volume', hourMs),
    readSeries('seasonal/electricity_hourly.csv', 'ts', 'y', hourMs),
    readSeries('seasonal/solarpower_hourly.csv', 'ts', 'y', hourMs),
  ]);
}

export async function expectations(): Promise<Record<string, Expected>> {
  return JSON.parse(await readFile(join(testdata, 'seasonal/expected.json'), 'utf8')) as Record<string, Expected>;
}

/** Seeded standard normal numbers (mulberry32, Box and Muller). */
export function normals(seed: number): () => number {
  let state = seed;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

export function round(value: number, digits = 3): number {
  return Math.round(value * 10 ** digits) / 10 ** digits;
}
