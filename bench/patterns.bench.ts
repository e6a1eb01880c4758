import { performance } from 'node:perf_hooks';
import { findPatterns } from '@upid/intelligence/series/patterns/patterns';
import type { Benchmark, BenchmarkContext, Figures } from './benchmark.js';
import { expectations, hourMs, hourlySeries, normals, readSeries, round } from './seasonal.js';
import type { Series } from './seasonal.js';

const minuteMs = 60_000;
/** The goal's bound. */
const minConfidence = 0.8;

interface Case {
  readonly series: Series;
  /** Periods in steps; nothing else may be found. */
  readonly periods: readonly number[];
}

interface Tally {
  right: number;
  total: number;
  invented: number;
  exact: number;
}

function last({ name, values, startMs, stepMs }: Series, points: number): Series {
  const from = Math.max(0, values.length - points);
  return { name, values: values.slice(from), startMs: startMs + from * stepMs, stepMs };
}

function tally(cases: readonly Case[], periodsOf: (each: Case) => readonly number[], log: (line: string) => void = () => undefined): Tally {
  const sum: Tally = { right: 0, total: 0, invented: 0, exact: 0 };
  for (const each of cases) {
    const found = [...new Set(periodsOf(each))];
    const right = each.periods.filter((period) => found.includes(period)).length;
    sum.right += right;
    sum.total += each.periods.length;
    sum.invented += found.length - right;
    if (found.length === right && right === each.periods.length) sum.exact++;
    log(`${each.series.name}: ${found.join(', ') || 'none'} (expected ${each.periods.join(', ') || 'none'})`);
  }
  return sum;
}

function own({ series: { values, stepMs, startMs } }: Pick<Case, 'series'>): number[] {
  return findPatterns(values, stepMs, startMs, { minConfidence }).map(({ periodSteps }) => periodSteps);
}

/** Correlation of a series with itself some steps before. */
function correlation(values: Float64Array, lag: number): number {
  const pairs = Array.from(values.subarray(lag), (value, i): [number, number] => [value, values[i]!]).filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b));
  const mean = [0, 1].map((side) => pairs.reduce((sum, pair) => sum + pair[side]!, 0) / pairs.length);
  let [cross, one, other] = [0, 0, 0];
  for (const [a, b] of pairs) {
    cross += (a - mean[0]!) * (b - mean[1]!);
    one += (a - mean[0]!) ** 2;
    other += (b - mean[1]!) ** 2;
  }
  return cross / Math.sqrt(one * other);
}

async function cases(): Promise<Case[]> {
  const expected = await expectations();
  const hourly = await hourlySeries();
  const artificial = ['art_daily_no_noise', 'art_daily_small_noise', 'art_daily_perfect_square_wave', 'art_flatline', 'art_noisy'].map((name) => `artificialNoAnomaly/${name}`);
  const disturbed = ['flatmiddle', 'jumpsdown', 'jumpsup', 'nojump'].map((name) => `artificialWithAnomaly/art_daily_${name}`);
  const others = await Promise.all([...artificial, ...disturbed].map((name) => readSeries(`anomaly-nab/${name}.csv`, 'timestamp', 'value', 5 * minuteMs)));
  const taxi = await readSeries('anomaly-nab/realKnownCause/nyc_taxi.csv', 'timestamp', 'value', 30 * minuteMs);
  const listed = new Map(Object.entries(expected).map(([key, value]) => [key.replace(/^.*\/|\.csv$/g, ''), value]));
  for (const series of [...hourly, ...others]) {
    for (const [lag, published] of Object.entries(listed.get(series.name)?.autocorrelation ?? {})) {
      if (published === null) continue;
      const ours = correlation(last(series, listed.get(series.name)!.points_used).values, Number(lag));
      if (Math.abs(ours - published) > 0.02) throw new Error(`the data are read wrongly: the autocorrelation of ${series.name} at ${lag} is published as ${published}, here ${ours}`);
    }
  }
  return [
    ...hourly.map((series): Case => ({ series: last(series, listed.get(series.name)!.points_used), periods: listed.get(series.name)!.expected_periods })),
    ...others.map((series): Case => ({ series, periods: listed.get(series.name)?.expected_periods ?? [288] })),
    { series: taxi, periods: [48, 336] },
  ];
}

/** Stretches all through the hourly series, of 2 weeks (where a weekly pattern may be too weak to say), 4, 13 and 26 weeks. */
async function stretches(weeks: number, most: number): Promise<Case[]> {
  const [metro, electricity, solar] = await hourlySeries();
  return ([[metro!, [24, 168]], [electricity!, [24, 168]], [solar!, [24]]] as const).flatMap(([series, periods]) => {
    const length = weeks * 168;
    const stride = Math.max(24 * 5, Math.floor((series.values.length - length) / most / 24) * 24);
    const out: Case[] = [];
    for (let from = 0; from + length <= series.values.length; from += stride) {
      const values = series.values.slice(from, from + length);
      if (values.filter(Number.isNaN).length < 0.1 * length) out.push({ series: { ...series, values, startMs: series.startMs + from * hourMs }, periods });
    }
    return out;
  });
}

const noises: Record<string, (normal: () => number) => () => number> = {
  white: (normal) => normal,
  'red 0.5': (normal) => ((value) => () => (value = 0.5 * value + normal()))(0),
  'red 0.95': (normal) => ((value) => () => (value = 0.95 * value + normal()))(0),
  'red 0.99': (normal) => ((value) => () => (value = 0.99 * value + normal()))(0),
  'random walk': (normal) => ((value) => () => (value += normal()))(0),
  steps: (normal) => ((value) => () => (value = Math.abs(normal()) > 2.8 ? 5 * normal() : value) + 0.3 * normal())(0),
  trend: (normal) => ((step) => () => 0.05 * step++ + normal())(0),
  spikes: (normal) => () => (Math.abs(normal()) > 2.5 ? 20 : 1) * Math.abs(normal()),
};
const lengths = [[336, hourMs], [672, hourMs], [2184, hourMs], [4032, 5 * minuteMs], [90, 24 * hourMs]] as const;

/** Share of noise series in which something is found, and of series with a daily rhythm in noise in which something else is. */
function falseShares(seeds: number): { noise: number; beyond: number } {
  let [noise, noiseTotal, beyond, beyondTotal] = [0, 0, 0, 0];
  Object.values(noises).forEach((make, kind) => {
    for (const [length, stepMs] of lengths) {
      for (let seed = 0; seed < seeds; seed++) {
        const next = make(normals(100_003 * kind + 1009 * seed + length));
        const values = Float64Array.from({ length }, next);
        noiseTotal++;
        if (own({ series: { name: '', values, startMs: 0, stepMs } }).length > 0) noise++;
        if (stepMs !== hourMs) continue;
        beyondTotal++;
        const swing = 3 * Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / length);
        const rhythmic = values.map((value, i) => value + swing * Math.sin((2 * Math.PI * i) / 24));
        if (own({ series: { name: '', values: rhythmic, startMs: 0, stepMs } }).some((period) => period !== 24)) beyond++;
      }
    }
  });
  return { noise: noise / noiseTotal, beyond: beyond / beyondTotal };
}

async function run({ log }: BenchmarkContext): Promise<Figures> {
  const all = await cases();
  log('autocorrelations equal those published: the data are read rightly');
  const none = tally(all, () => []);
  if (none.right !== 0 || none.invented !== 0) throw new Error('the scorer is wrong: nothing found must score nothing');
  const both = tally(all, ({ series: { stepMs } }) => [24, 168].map((hours) => (hours * hourMs) / stepMs));
  const begun = performance.now();
  const result = tally(all, own, log);
  const milliseconds = (performance.now() - begun) / all.length;
  log(`always a day and a week: ${both.right} of ${both.total} right, ${both.invented} invented`);
  const periodogram = Object.values(await expectations()).map(({ expected_periods: periods, periodogram_top: top }) => ({ right: periods.filter((period) => top.includes(period)).length, total: periods.length, invented: top.filter((period) => !periods.includes(period)).length }));
  const sum = (pick: (each: (typeof periodogram)[number]) => number): number => periodogram.reduce((total, each) => total + pick(each), 0);
  log(`the periodogram's four highest on the seven listed series: ${sum(({ right }) => right)} of ${sum(({ total }) => total)} right, ${sum(({ invented }) => invented)} invented`);

  const through: Record<string, number> = {};
  for (const [weeks, most] of [[26, 20], [13, 20], [4, 20]] as const) {
    const some = await stretches(weeks, most);
    const counted = tally(some, own);
    through[`weeks_${weeks}`] = round(counted.exact / some.length);
    log(`${some.length} stretches of ${weeks} weeks: ${counted.right} of ${counted.total} right, ${counted.invented} invented, ${counted.exact} series exact`);
  }
  const shares = falseShares(25);
  return {
    periods_right: result.right,
    periods_total: result.total,
    false_pattern_share: round(shares.noise, 4),
    periods_invented: result.invented,
    series_exact: result.exact,
    series_total: all.length,
    day_and_week_always_right: both.right,
    day_and_week_always_invented: both.invented,
    periodogram_invented: sum(({ invented }) => invented),
    false_beyond_daily_share: round(shares.beyond, 4),
    stretches_exact: through,
    ms_per_series: round(milliseconds, 1),
  };
}

export const benchmark: Benchmark = {
  name: 'patterns',
  summary: 'daily, weekly and other periods of measured series, and none in noise',
  floors: { periods_right: { min: 14 }, periods_invented: { max: 0 }, false_pattern_share: { max: 0.01 }, false_beyond_daily_share: { max: 0.01 } },
  run,
};
