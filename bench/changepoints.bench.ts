import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { changePoints } from '@upid/intelligence/series/changes/change-points';
import { hamedRao, mannKendall, senSlope } from '@upid/intelligence/series/changes/mann-kendall';
import { normals } from '@upid/testing/random';
import type { Benchmark, BenchmarkContext, Figures } from './benchmark.js';

const dataDir = join(import.meta.dirname, '../../testdata/changepoint-tcpd');
const margin = 5;

interface Annotated {
  readonly name: string;
  readonly values: readonly (number | null)[];
  /** The change points of each annotator. */
  readonly annotators: readonly (readonly number[])[];
}

interface ExpectedTrend {
  readonly mann_kendall: { readonly trend: string; readonly p: number; readonly z: number; readonly tau: number; readonly s: number; readonly sen_slope: number; readonly intercept: number };
  readonly hamed_rao_autocorrelation_corrected: { readonly trend: string; readonly p: number; readonly z: number };
}

async function json<T>(name: string): Promise<T> {
  return JSON.parse(await readFile(join(dataDir, `${name}.json`), 'utf8')) as T;
}

async function load(): Promise<Annotated[]> {
  const annotations = await json<Record<string, Record<string, number[]>>>('annotations');
  return Promise.all(Object.entries(annotations).map(async ([name, annotators]) => {
    const { series } = await json<{ series: [{ raw: (number | null)[] }] }>(name);
    return { name, values: series[0].raw, annotators: Object.values(annotators) };
  }));
}

/** True change points that have a reported one within the margin, each reported one serving once. */
function matched(truth: ReadonlySet<number>, reported: ReadonlySet<number>): number {
  const free = new Set(reported);
  let count = 0;
  for (const point of [...truth].sort((a, b) => a - b)) {
    const near = [...free].filter((each) => Math.abs(each - point) <= margin).sort((a, b) => Math.abs(a - point) - Math.abs(b - point) || a - b)[0];
    if (near === undefined) continue;
    free.delete(near);
    count++;
  }
  return count;
}

/** F1 of van den Burg and Williams (2020): precision against all annotators together, recall as the mean over them; 0 counts as present. */
function f1({ annotators }: Annotated, changes: readonly number[]): number {
  const reported = new Set([0, ...changes]);
  const precision = matched(new Set([0, ...annotators.flat()]), reported) / reported.size;
  let recall = 0;
  for (const points of annotators) {
    const truth = new Set([0, ...points]);
    recall += matched(truth, reported) / truth.size / annotators.length;
  }
  return (2 * precision * recall) / (precision + recall);
}

/** Mean over annotators of the length-weighted best Jaccard index of their segments. */
function cover({ annotators, values }: Annotated, changes: readonly number[]): number {
  const segments = (points: readonly number[]): [number, number][] => {
    const starts = [...new Set([0, ...points])].sort((a, b) => a - b);
    return starts.map((start, i) => [start, starts[i + 1] ?? values.length]);
  };
  const found = segments(changes);
  let sum = 0;
  for (const points of annotators) {
    for (const [from, to] of segments(points)) {
      const best = Math.max(...found.map(([a, b]) => {
        const common = Math.max(0, Math.min(to, b) - Math.max(from, a));
        return common / (to - from + b - a - common);
      }));
      sum += (best * (to - from)) / values.length;
    }
  }
  return sum / annotators.length;
}

/** What the peers run: optimal segmentation of the standardised series by squared error at the price 3 ln n a change. */
function leastSquares(values: readonly (number | null)[]): number[] {
  const present = values.map((value) => value ?? 0);
  const n = present.length;
  const mean = present.reduce((sum, value) => sum + value, 0) / n;
  const deviation = Math.sqrt(present.reduce((sum, value) => sum + (value - mean) ** 2, 0) / n);
  const s = new Float64Array(n + 1);
  const q = new Float64Array(n + 1);
  present.forEach((value, i) => {
    const z = (value - mean) / deviation;
    s[i + 1] = s[i]! + z;
    q[i + 1] = q[i]! + z * z;
  });
  const best = new Float64Array(n + 1).fill(Infinity);
  best[0] = 0;
  const start = new Int32Array(n + 1);
  for (let to = 2; to <= n; to++) {
    for (let from = 0; from <= to - 2; from++) {
      const error = best[from]! + q[to]! - q[from]! - (s[to]! - s[from]!) ** 2 / (to - from) + 3 * Math.log(n);
      if (error < best[to]!) {
        best[to] = error;
        start[to] = from;
      }
    }
  }
  const changes: number[] = [];
  for (let to = start[n]!; to > 0; to = start[to]!) changes.push(to);
  return changes.reverse();
}

function score(all: readonly Annotated[], method: (values: readonly (number | null)[]) => readonly number[], log?: (line: string) => void): { f1: number; cover: number } {
  let [sumF1, sumCover] = [0, 0];
  for (const each of all) {
    const changes = method(each.values);
    const [ownF1, ownCover] = [f1(each, changes), cover(each, changes)];
    log?.(`  ${each.name.padEnd(20)} F1 ${ownF1.toFixed(3)}  cover ${ownCover.toFixed(3)}  ${changes.join(' ') || 'none'}`);
    sumF1 += ownF1;
    sumCover += ownCover;
  }
  return { f1: round(sumF1 / all.length), cover: round(sumCover / all.length) };
}

const round = (value: number): number => Math.round(value * 1e4) / 1e4;

/** Scores are given to four decimals; all else must agree to four digits, p-values down to the rounding of the reference's 1 - Φ. */
function equal(what: string, value: number | string, expected: number | string): boolean {
  if (typeof value === 'string' || typeof expected === 'string') return value === expected;
  const tolerance = what === 'z' || what === 'tau' ? 5.001e-5 : 5e-5 * Math.abs(expected) + 1e-15;
  return Math.abs(value - expected) <= tolerance;
}

async function trends(log: (line: string) => void): Promise<{ equal: number; total: number }> {
  let [same, total] = [0, 0];
  for (const [name, { mann_kendall: plain, hamed_rao_autocorrelation_corrected: corrected }] of Object.entries(await json<Record<string, ExpectedTrend>>('trend_expected'))) {
    const { series: [{ raw }] } = await json<{ series: [{ raw: (number | null)[] }] }>(name);
    const own = mannKendall(raw);
    const ownCorrected = hamedRao(raw);
    const line = senSlope(raw);
    const pairs: [string, number | string, number | string][] = [
      ['trend', own.trend, plain.trend], ['p', own.p, plain.p], ['z', own.z, plain.z], ['tau', own.tau, plain.tau], ['s', own.s, plain.s],
      ['slope', line.slope, plain.sen_slope], ['intercept', line.intercept, plain.intercept],
      ['corrected trend', ownCorrected.trend, corrected.trend], ['corrected p', ownCorrected.p, corrected.p], ['corrected z', ownCorrected.z, corrected.z],
    ];
    for (const [what, value, expected] of pairs) {
      total++;
      if (equal(what.replace('corrected ', ''), value, expected)) same++;
      else log(`  ${name}: ${what} ${value}, expected ${expected}`);
    }
  }
  return { equal: same, total };
}

/** Share of noise series of 168 values (white, red of three strengths, random walks) in which a change is reported. */
function noiseShare(perKind: number): number {
  let found = 0;
  const kinds = [0, 0.5, 0.8, 0.95, 1];
  for (const [kind, phi] of kinds.entries()) {
    for (let seed = 0; seed < perKind; seed++) {
      const gaussian = normals(1000 * kind + seed);
      let value = 0;
      if (changePoints(Array.from({ length: 168 }, () => (value = phi * value + gaussian()))).indices.length > 0) found++;
    }
  }
  return found / (kinds.length * perKind);
}

async function run({ log }: BenchmarkContext): Promise<Figures> {
  const all = await load();
  const none = score(all, () => []);
  if (Math.abs(none.f1 - 0.63) > 5e-4 || Math.abs(none.cover - 0.547) > 5e-4) {
    throw new Error(`the scorer is wrong: nothing found must score F1 0.630 and cover 0.547, not ${none.f1} and ${none.cover}`);
  }
  log('nothing found scores F1 0.630 and cover 0.547, as published');
  const peer = score(all, leastSquares);
  log(`least squares, 3 ln n: F1 ${peer.f1}, cover ${peer.cover} (published for PELT: 0.782, 0.789)`);
  const begun = performance.now();
  const own = score(all, (values) => changePoints(values).indices, log);
  const seconds = (performance.now() - begun) / 1000;
  const trend = await trends(log);
  return {
    f1: own.f1,
    cover: own.cover,
    trend_equal: trend.equal,
    trend_total: trend.total,
    noise_share: noiseShare(100),
    quality_control_5_changes: changePoints(all.find(({ name }) => name === 'quality_control_5')!.values).indices.length,
    none_f1: none.f1,
    none_cover: none.cover,
    least_squares_f1: peer.f1,
    least_squares_cover: peer.cover,
    seconds: round(seconds),
  };
}

export const benchmark: Benchmark = {
  name: 'changepoints',
  summary: 'change points and trend tests on the Turing Change Point Dataset (12 series, five annotators each)',
  floors: { f1: { min: 0.85 }, cover: { min: 0.79 }, trend_equal: { min: 90 }, noise_share: { max: 0.01 }, quality_control_5_changes: { max: 0 } },
  run,
};
