import { performance } from 'node:perf_hooks';
import { timeToExhaustion } from '@upid/intelligence/series/forecasts/exhaustion';
import { forecast } from '@upid/intelligence/series/forecasts/forecast';
import { median } from '@upid/intelligence/series/statistics';
import { normals } from '@upid/testing/random';
import type { Benchmark, BenchmarkContext, Figures } from './benchmark.js';
import { hourMs, listedSeries, round, testdata } from './seasonal.js';
import type { Series } from './seasonal.js';

const week = 168;
const levels = [0.8, 0.9, 0.95];
const weeksOfHistory = 12;

/** A week to be forecast from what came before it. */
interface Task {
  readonly history: Float64Array;
  readonly truth: Float64Array;
}

interface Score {
  /** Mean absolute error over that of the weekly seasonal naive within the history (Hyndman and Koehler 2006). */
  readonly mase: number;
  readonly mae: number;
  /** Share of the values within the interval of each level. */
  readonly coverage: readonly number[];
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

function meanDistance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const distances = Array.from(a, (value, i) => Math.abs(value - b[i]!)).filter(Number.isFinite);
  return mean(distances);
}

/** Straight lines over gaps. */
function filled(values: Float64Array): Float64Array {
  const out = Float64Array.from(values);
  let last = -1;
  for (let i = 0; i < out.length; i++) {
    if (Number.isNaN(out[i]!)) continue;
    for (let j = last + 1; j < i; j++) out[j] = last < 0 ? out[i]! : out[last]! + ((out[i]! - out[last]!) * (j - last)) / (i - last);
    last = i;
  }
  for (let j = last + 1; j < out.length; j++) out[j] = out[last]!;
  return out;
}

function score({ history, truth }: Task, projected: ArrayLike<number>, intervals: readonly { readonly low: ArrayLike<number>; readonly high: ArrayLike<number> }[] = []): Score {
  const mae = meanDistance(truth, projected);
  const known = Array.from(truth.keys()).filter((i) => Number.isFinite(truth[i]!));
  return {
    mae,
    mase: mae / meanDistance(filled(history).subarray(week), filled(history).subarray(0, history.length - week)),
    coverage: intervals.map(({ low, high }) => mean(known.map((i) => (truth[i]! >= low[i]! && truth[i]! <= high[i]! ? 1 : 0)))),
  };
}

/** The last cycle again and again. */
function seasonalNaive({ history }: Task, cycle: number): number[] {
  const full = filled(history);
  return Array.from({ length: week }, (_, i) => full[full.length - cycle + (i % cycle)]!);
}

function own(task: Task): Score {
  const { values, intervals } = forecast(task.history, hourMs, { levels })!;
  return score(task, values, intervals);
}

/** The week that ends `stepsBack` before the end of the series. */
function taskAt({ values }: Series, stepsBack: number, weeks: number): Task | null {
  const end = values.length - stepsBack;
  if (end - week * (weeks + 1) < 0) return null;
  return { history: values.slice(end - week * (weeks + 1), end - week), truth: values.slice(end - week, end) };
}

/** Weeks all through a series, some days and some hours apart so that they start on every weekday and hour; hardly any gaps. */
function tasksThrough(series: Series, weeks: number, most: number): Task[] {
  const tasks: Task[] = [];
  const room = series.values.length - week * (weeks + 1);
  const stride = Math.max(41, Math.floor(room / most / 24) * 24 + 17);
  for (let back = stride; back <= room; back += stride) {
    const task = taskAt(series, back, weeks)!;
    const gaps = [task.history, task.truth].map((values) => values.filter(Number.isNaN).length / values.length);
    if (gaps.every((share) => share < 0.1)) tasks.push(task);
  }
  return tasks;
}

/** Leaks of known slope among errors from white noise to a random walk, and the same without a slope. */
function exhaustion(runs: number): { inside: number; falseShare: number } {
  let [found, inside, seen, total] = [0, 0, 0, 0];
  for (const { phi, deviation } of [{ phi: 0, deviation: 20 }, { phi: 0.5, deviation: 15 }, { phi: 0.99, deviation: 3 }, { phi: 1, deviation: 3 }]) {
    for (let seed = 0; seed < runs; seed++) {
      const normal = normals(10_000 + seed);
      let error = 0;
      const quiet = Array.from({ length: 12 * 240 }, (_, hour) => (error = phi * error + deviation * normal()) + 500 + 30 * Math.sin((2 * Math.PI * hour) / 24));
      const leaking = quiet.map((value, hour) => value + hour);
      total++;
      if (timeToExhaustion(quiet.slice(0, 240), hourMs, 1000)) seen++;
      const result = timeToExhaustion(leaking.slice(0, 240), hourMs, 1000);
      if (!result) continue;
      found++;
      const truth = leaking.findIndex((value, hour) => hour >= 239 && value >= 1000) - 239;
      if (truth >= result.earliestHours && truth <= (result.latestHours ?? Infinity)) inside++;
    }
  }
  return { inside: inside / found, falseShare: seen / total };
}

async function run({ log, args }: BenchmarkContext): Promise<Figures> {
  const listed = await listedSeries(args[0] ?? testdata);
  const last = listed.flatMap(({ series, expected: { forecast_last_168h_of_13_weeks: published } }) => (published ? [{ series, task: taskAt(series, 0, weeksOfHistory)!, published }] : []));
  const all = last.map(({ series }) => series);

  for (const { series, task, published } of last) {
    for (const cycle of [24, week]) {
      const naive = score(task, seasonalNaive(task, cycle));
      const { mae, mase168 } = published[cycle === 24 ? 'snaive24' : 'snaive168'];
      if (Math.abs(naive.mae - mae) > 1e-3 || Math.abs(naive.mase - mase168) > 6e-4) {
        throw new Error(`the scorer is wrong: the seasonal naive of ${cycle} hours must score ${mase168} on ${series.name}, not ${naive.mase}`);
      }
    }
    const scaled = score(task, task.truth.map((value) => value + published.mstl.mae)).mase;
    if (Math.abs(scaled - published.mstl.mase168) > 2e-3) throw new Error(`the scorer is wrong: MSTL's absolute error on ${series.name} is published as ${published.mstl.mase168} of the scale, not ${scaled}`);
    if (score(task, task.truth).mase !== 0) throw new Error('the scorer is wrong: the truth must score 0');
  }
  log(`the seasonal naive scores as published by statsforecast: ${2 * last.length} of ${2 * last.length}; MSTL's figures have the same scale`);

  const lastWeek = last.map(({ series, task, published }) => ({ name: series.name, own: own(task), published }));
  for (const { name, own: { mase, coverage }, published } of lastWeek) {
    log(`${name}, last week: MASE ${round(mase)} (naive of a day ${published.snaive24.mase168}, of a week ${published.snaive168.mase168}, MSTL and ETS ${published.mstl.mase168}); 80, 90, 95 % hold ${coverage.map((share) => round(share, 2)).join(', ')}`);
  }

  const through = all.map((series) => {
    const tasks = tasksThrough(series, weeksOfHistory, 40);
    const scores = tasks.map(own);
    const naive = [24, week].map((cycle) => mean(tasks.map((task) => score(task, seasonalNaive(task, cycle)).mase)));
    const short = tasksThrough(series, 2, 40).map((task) => ({ own: own(task), naive: [24, week].map((cycle) => score(task, seasonalNaive(task, cycle)).mase) }));
    const coverage = levels.map((_, k) => mean(scores.map((each) => each.coverage[k]!)));
    const shortCoverage = levels.map((_, k) => mean(short.map((each) => each.own.coverage[k]!)));
    const figures = { weeks: tasks.length, mase: mean(scores.map(({ mase }) => mase)), naiveDay: naive[0]!, naiveWeek: naive[1]!, coverage, shortMase: mean(short.map((each) => each.own.mase)), shortNaive: Math.min(...[0, 1].map((k) => mean(short.map((each) => each.naive[k]!)))), shortCoverage };
    log(`${series.name}, ${tasks.length} weeks all through: MASE ${round(figures.mase)} (naive of a day ${round(figures.naiveDay)}, of a week ${round(figures.naiveWeek)}); 80, 90, 95 % hold ${coverage.map((share) => round(share, 3)).join(', ')}`);
    log(`${series.name}, ${short.length} weeks from 14 days: MASE ${round(figures.shortMase)} (the better naive ${round(figures.shortNaive)}); 80, 90, 95 % hold ${shortCoverage.map((share) => round(share, 3)).join(', ')}`);
    return figures;
  });

  const fortnights = all.map((series) => taskAt(series, 0, 2)!.history);
  const times = Array.from({ length: 60 }, (_, i) => {
    const begun = performance.now();
    forecast(fortnights[i % fortnights.length]!, hourMs);
    return performance.now() - begun;
  });
  const leaks = exhaustion(50);
  const average = (pick: (each: (typeof lastWeek)[number]) => number): number => round(mean(lastWeek.map(pick)));
  const byName = (pick: (each: (typeof lastWeek)[number]) => number): Record<string, number> => Object.fromEntries(lastWeek.map((each) => [each.name, round(pick(each))]));
  const held = (k: number): number => round(mean(through.map(({ coverage }) => coverage[k]!)));
  return {
    mase: average(({ own: { mase } }) => mase),
    seasonal_naive_mase: average(({ published }) => Math.min(published.snaive24.mase168, published.snaive168.mase168)),
    seasonal_naive_week_mase: average(({ published }) => published.snaive168.mase168),
    mstl_mase: average(({ published }) => published.mstl.mase168),
    coverage_80: held(0),
    coverage_90: held(1),
    coverage_95: held(2),
    ms_per_series: round(median(times), 2),
    mase_by_series: byName(({ own: { mase } }) => mase),
    seasonal_naive_by_series: byName(({ published }) => Math.min(published.snaive24.mase168, published.snaive168.mase168)),
    mstl_by_series: byName(({ published }) => published.mstl.mase168),
    last_week_coverage_90: byName(({ own: { coverage } }) => coverage[1]!),
    through_weeks: through.reduce((sum, { weeks }) => sum + weeks, 0),
    through_mase_mean: round(mean(through.map(({ mase }) => mase))),
    through_better_naive_mean: round(mean(through.map(({ naiveDay, naiveWeek }) => Math.min(naiveDay, naiveWeek)))),
    fortnight_mase_mean: round(mean(through.map(({ shortMase }) => shortMase))),
    fortnight_better_naive_mean: round(mean(through.map(({ shortNaive }) => shortNaive))),
    fortnight_coverage_80: round(mean(through.map(({ shortCoverage }) => shortCoverage[0]!))),
    fortnight_coverage_95: round(mean(through.map(({ shortCoverage }) => shortCoverage[2]!))),
    through_mase: Object.fromEntries(through.map(({ mase }, i) => [all[i]!.name, round(mase)])),
    through_naive_week: Object.fromEntries(through.map(({ naiveWeek }, i) => [all[i]!.name, round(naiveWeek)])),
    through_naive_day: Object.fromEntries(through.map(({ naiveDay }, i) => [all[i]!.name, round(naiveDay)])),
    through_coverage_80: Object.fromEntries(through.map(({ coverage }, i) => [all[i]!.name, round(coverage[0]!)])),
    through_coverage_95: Object.fromEntries(through.map(({ coverage }, i) => [all[i]!.name, round(coverage[2]!)])),
    exhaustion_in_90_interval: round(leaks.inside),
    exhaustion_false_share: round(leaks.falseShare),
  };
}

export const benchmark: Benchmark = {
  name: 'forecasts',
  summary: 'a week ahead by the hour on traffic, load and solar power, with intervals; time to exhaustion of leaks',
  floors: {
    mase: { max: 0.77 },
    through_mase_mean: { max: 0.81 },
    fortnight_mase_mean: { max: 1.05 },
    fortnight_coverage_80: { min: 0.75, max: 0.85 },
    fortnight_coverage_95: { min: 0.9, max: 1 },
    coverage_80: { min: 0.75, max: 0.85 },
    coverage_90: { min: 0.85, max: 0.95 },
    coverage_95: { min: 0.9, max: 1 },
    exhaustion_in_90_interval: { min: 0.85, max: 0.97 },
    exhaustion_false_share: { max: 0.02 },
  },
  run,
};
