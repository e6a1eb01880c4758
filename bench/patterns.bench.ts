import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { findPatterns } from '@upid/intelligence/series/patterns/patterns';
import { normals, uniforms } from '@upid/testing/random';
import type { Benchmark, BenchmarkContext, Figures } from './benchmark.js';
import { hourMs, listedSeries, readSeries, round, testdata } from './seasonal.js';
import type { Listed, Series } from './seasonal.js';

const minuteMs = 60_000;
/** A confidence that the listed periods are hoped to have. */
const high = 0.8;

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

function own({ series: { values, stepMs, startMs } }: Pick<Case, 'series'>, minConfidence?: number): number[] {
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

/** The listed series as far as they were looked at; where the data are the shipped ones, more of NAB's whose rhythm its makers tell. */
async function cases(data: string, listed: readonly Listed[]): Promise<Case[]> {
  const out: Case[] = listed.map(({ series, expected }) => ({ series: last(series, expected.points_used), periods: expected.expected_periods }));
  out.forEach(({ series }, i) => {
    for (const [lag, published] of Object.entries(listed[i]!.expected.autocorrelation)) {
      const ours = correlation(series.values, Number(lag));
      if (published !== null && Math.abs(ours - published) > 0.02) throw new Error(`the data are read wrongly: the autocorrelation of ${series.name} at ${lag} is published as ${published}, here ${ours}`);
    }
  });
  if (data !== testdata) return out;
  const daily = ['artificialNoAnomaly/art_daily_no_noise', ...['flatmiddle', 'jumpsdown', 'jumpsup', 'nojump'].map((name) => `artificialWithAnomaly/art_daily_${name}`)];
  for (const name of daily) out.push({ series: await readSeries(join(data, `anomaly-nab/${name}.csv`), 5 * minuteMs), periods: [288] });
  out.push({ series: await readSeries(join(data, 'anomaly-nab/realKnownCause/nyc_taxi.csv'), 30 * minuteMs), periods: [48, 336] });
  return out;
}

/** Stretches all through the hourly series; in few weeks a weekly pattern may be too weak to say. */
function stretches(listed: readonly Listed[], weeks: number, most: number): Case[] {
  return listed.filter(({ series }) => series.stepMs === hourMs).flatMap(({ series, expected }) => {
    const length = weeks * 168;
    const stride = Math.max(24 * 5, Math.floor((series.values.length - length) / most / 24) * 24);
    const out: Case[] = [];
    for (let from = 0; from + length <= series.values.length; from += stride) {
      const values = series.values.slice(from, from + length);
      if (values.filter(Number.isNaN).length < 0.1 * length) out.push({ series: { ...series, values, startMs: series.startMs + from * hourMs }, periods: expected.expected_periods });
    }
    return out;
  });
}

type Next = () => number;
const red = (phi: number, shock: Next): Next => ((value) => () => (value = phi * value + shock()))(0);
/** Student's with three degrees of freedom. */
const heavy = (normal: Next): Next => () => normal() / Math.sqrt((normal() ** 2 + normal() ** 2 + normal() ** 2) / 3);
/** A level that is drawn anew now and then, on average after so many steps. */
const levels = (normal: Next, uniform: Next, steps: number, noise: number): Next => ((level) => () => (level = uniform() < 1 / steps ? 5 * normal() : level) + noise * normal())(0);
/** Runs of a random length at a random distance. */
const busy = (uniform: Next, steps: number): Next => ((left) => () => ((left = left > 0 ? left - 1 : uniform() < 1 / steps ? Math.floor(20 * uniform()) : 0) > 0 ? 10 : 0))(0);

const noises: Record<string, (normal: Next, uniform: Next) => Next> = {
  white: (normal) => normal,
  'white, heavy tails': heavy,
  'white, Cauchy': (normal) => () => normal() / normal(),
  'white, lognormal': (normal) => () => Math.exp(1.5 * normal()),
  'white, counts': (_, uniform) => () => Math.floor(-2 * Math.log(1 - uniform())),
  'red -0.5': (normal) => red(-0.5, normal),
  'red 0.3': (normal) => red(0.3, normal),
  'red 0.5': (normal) => red(0.5, normal),
  'red 0.8': (normal) => red(0.8, normal),
  'red 0.9': (normal) => red(0.9, normal),
  'red 0.95': (normal) => red(0.95, normal),
  'red 0.99': (normal) => red(0.99, normal),
  'red 0.999': (normal) => red(0.999, normal),
  'red 0.95, heavy tails': (normal) => red(0.95, heavy(normal)),
  'red 0.97, exponential of it': (normal) => ((next: Next) => () => Math.exp(next() / 2))(red(0.97, normal)),
  'random walk': (normal) => red(1, normal),
  'random walk, drift': (normal) => red(1, () => normal() + 0.3),
  'random walk, heavy tails': (normal) => red(1, heavy(normal)),
  'random walk, measured with noise': (normal) => ((next: Next) => () => next() + 5 * normal())(red(1, normal)),
  steps: (normal, uniform) => levels(normal, uniform, 200, 0.3),
  'steps, often': (normal, uniform) => levels(normal, uniform, 50, 0.05),
  'steps, nothing else': (normal, uniform) => levels(normal, uniform, 100, 0),
  'on and off': (normal, uniform) => ((on) => () => (on = uniform() < 0.03 ? 1 - on : on) * 5 + 0.3 * normal())(0),
  trend: (normal) => ((step) => () => 0.05 * step++ + normal())(0),
  spikes: (normal, uniform) => () => (uniform() < 0.02 ? 20 : 1) * Math.abs(normal()),
  'rare spikes': (_, uniform) => () => (uniform() < 0.005 ? 100 : 0),
  bursts: (_, uniform) => busy(uniform, 100),
  'leaks and restarts': (normal, uniform) => ((value) => () => (value = uniform() < 0.01 ? 0 : value + 1) + normal())(0),
};
const spans = [[168, hourMs], [336, hourMs], [672, hourMs], [1440, hourMs], [2160, hourMs], [2016, 5 * minuteMs], [4032, 5 * minuteMs], [60, 24 * hourMs], [90, 24 * hourMs]] as const;

/** Every third series has gaps: a fifth of a day to a day long, a tenth of it in all. */
function withGaps(values: Float64Array, uniform: Next): Float64Array {
  let left = 0;
  return values.map((value) => {
    left = left > 0 ? left - 1 : uniform() < 0.01 ? Math.floor(20 * uniform()) : 0;
    return left > 0 ? Number.NaN : value;
  });
}

interface FalseShares {
  /** Of noise series, those in which something is found, by the kind of noise. */
  readonly noise: Record<string, number>;
  /** Of series with a daily rhythm in noise, those in which something else is. */
  readonly beyond: number;
}

function falseShares(seeds: number): FalseShares {
  let [beyond, beyondTotal] = [0, 0];
  const noise: Record<string, number> = {};
  Object.entries(noises).forEach(([name, make], kind) => {
    let found = 0;
    for (const [length, stepMs] of spans) {
      for (let seed = 0; seed < seeds; seed++) {
        const base = 100_003 * kind + 1009 * seed + length;
        const values = Float64Array.from({ length }, make(normals(base), uniforms(base + 1)));
        const given = (each: Float64Array): Pick<Case, 'series'> => ({ series: { name, values: seed % 3 === 2 ? withGaps(each, uniforms(base + 2)) : each, startMs: seed * 24 * hourMs, stepMs } });
        if (own(given(values)).length > 0) found++;
        if (stepMs !== hourMs) continue;
        beyondTotal++;
        const swing = 3 * Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / length);
        if (own(given(values.map((value, i) => value + swing * Math.sin((2 * Math.PI * i) / 24)))).some((period) => period !== 24)) beyond++;
      }
    }
    noise[name] = found / (spans.length * seeds);
  });
  return { noise, beyond: beyond / beyondTotal };
}

async function run({ log, args }: BenchmarkContext): Promise<Figures> {
  const { values: options, positionals } = parseArgs({ args: [...args], options: { seeds: { type: 'string', default: '10' } }, allowPositionals: true });
  const data = positionals[0] ?? testdata;
  const listed = await listedSeries(data);
  const all = await cases(data, listed);
  log('autocorrelations equal those published: the data are read rightly');
  const none = tally(all, () => []);
  if (none.right !== 0 || none.invented !== 0) throw new Error('the scorer is wrong: nothing found must score nothing');
  const both = tally(all, ({ series: { stepMs } }) => [24, 168].map((hours) => (hours * hourMs) / stepMs));
  const begun = performance.now();
  const result = tally(all, own, log);
  const milliseconds = (performance.now() - begun) / all.length;
  log(`always a day and a week: ${both.right} of ${both.total} right, ${both.invented} invented`);
  const confident = tally(all, (each) => own(each, high));
  const periodogram = listed.map(({ expected: { expected_periods: periods, periodogram_top: top } }) => ({ right: periods.filter((period) => top.includes(period)).length, total: periods.length, invented: top.filter((period) => !periods.includes(period)).length }));
  const sum = (pick: (each: (typeof periodogram)[number]) => number): number => periodogram.reduce((total, each) => total + pick(each), 0);
  log(`the periodogram's four highest on the ${listed.length} listed series: ${sum(({ right }) => right)} of ${sum(({ total }) => total)} right, ${sum(({ invented }) => invented)} invented`);

  const through: Record<string, number> = {};
  for (const [weeks, most] of [[26, 20], [13, 20], [4, 20]] as const) {
    const some = stretches(listed, weeks, most);
    const counted = tally(some, own);
    through[`weeks_${weeks}`] = round(counted.exact / some.length);
    log(`${some.length} stretches of ${weeks} weeks: ${counted.right} of ${counted.total} right, ${counted.invented} invented, ${counted.exact} series exact`);
  }
  const seeds = Number(options.seeds);
  const shares = falseShares(seeds);
  const byNoise = Object.values(shares.noise);
  log(`${seeds * spans.length} series of each noise; something is found in ${Object.entries(shares.noise).filter(([, share]) => share > 0).map(([name, share]) => `${name}: ${round(100 * share, 2)} %`).join(', ') || 'none'}`);
  return {
    periods_right: result.right,
    periods_total: result.total,
    false_pattern_share: round(byNoise.reduce((a, b) => a + b, 0) / byNoise.length, 4),
    false_pattern_worst_share: round(Math.max(...byNoise), 4),
    noise_series: byNoise.length * spans.length * seeds,
    periods_invented: result.invented,
    periods_right_at_80: confident.right,
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
  floors: { periods_right: { min: 14 }, periods_right_at_80: { min: 14 }, periods_invented: { max: 0 }, false_pattern_share: { max: 0.005 }, false_pattern_worst_share: { max: 0.02 }, false_beyond_daily_share: { max: 0.01 } },
  run,
};
