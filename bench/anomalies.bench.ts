import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { Alerts, AnomalyDetector, anomalyThreshold } from '@upid/intelligence/series/anomalies/detector';
import { normalTail } from '@upid/intelligence/series/statistics';
import type { Benchmark, BenchmarkContext, Figures } from './benchmark.js';

const testdata = join(import.meta.dirname, '../../testdata');

// --- Numenta Anomaly Benchmark -------------------------------------------------------------------------------------------------

interface Series {
  /** `category/file.csv`. */
  readonly name: string;
  readonly timesMs: Float64Array;
  readonly values: Float64Array;
  /** Rows of each labelled window, both ends included. */
  readonly windows: readonly (readonly [number, number])[];
}

interface Weights {
  readonly truePositive: number;
  readonly falseNegative: number;
  readonly falsePositive: number;
}

type Profile = 'standard' | 'reward_low_FP_rate' | 'reward_low_FN_rate';
const profiles = ['standard', 'reward_low_FP_rate', 'reward_low_FN_rate'] as const;

type Published = Record<Profile, Record<string, { readonly threshold: number; readonly normalised: number; readonly files: Record<string, number> }>>;

/** `2014-04-01 00:00:00`, taken as UTC. */
const utcMs = (stamp: string): number => Date.parse(`${stamp.slice(0, 19).replace(' ', 'T')}Z`);

async function json<T>(...path: string[]): Promise<T> {
  return JSON.parse(await readFile(join(...path), 'utf8')) as T;
}

async function loadSeries(dir: string): Promise<Series[]> {
  const labelled = await json<Record<string, [string, string][]>>(dir, 'windows.json');
  const all: Series[] = [];
  for (const category of (await readdir(dir, { withFileTypes: true })).filter((entry) => entry.isDirectory()).map(({ name }) => name).sort()) {
    for (const file of (await readdir(join(dir, category))).sort()) {
      const rows = (await readFile(join(dir, category, file), 'utf8')).trim().split(/\r?\n/).slice(1).map((line) => line.split(','));
      const name = `${category}/${file}`;
      const timesMs = Float64Array.from(rows, ([stamp]) => utcMs(stamp!));
      const windows = (labelled[name] ?? []).map(([from, to]): [number, number] => [timesMs.indexOf(utcMs(from)), timesMs.lastIndexOf(utcMs(to))]);
      all.push({ name, timesMs, values: Float64Array.from(rows, ([, value]) => Number(value)), windows });
    }
  }
  return all;
}

async function loadWeights(dir: string): Promise<Record<Profile, Weights>> {
  const stored = await json<Record<Profile, { CostMatrix: { tpWeight: number; fnWeight: number; fpWeight: number } }>>(dir, 'profiles.json');
  const weights = (profile: Profile): Weights => {
    const { tpWeight, fnWeight, fpWeight } = stored[profile].CostMatrix;
    return { truePositive: tpWeight, falseNegative: fnWeight, falsePositive: fpWeight };
  };
  return { standard: weights('standard'), reward_low_FP_rate: weights('reward_low_FP_rate'), reward_low_FN_rate: weights('reward_low_FN_rate') };
}

/** First rows, in which nothing counts. */
const probation = ({ values }: Series): number => Math.min(Math.floor(0.15 * values.length), 750);

const sigmoid = (x: number): number => (x > 3 ? -1 : 2 / (1 + Math.exp(5 * x)) - 1);

interface FileScore {
  readonly score: number;
  readonly found: number;
  readonly falseAlarms: number;
}

/** NAB's score of one file (Lavin and Ahmad 2015); `detections` are rows in order. */
function scoreFile(series: Series, detections: readonly number[], weights: Weights): FileScore {
  let score = 0;
  let falseAlarms = 0;
  const found = new Set<number>();
  for (const row of detections) {
    if (row < probation(series)) continue;
    const inside = series.windows.findIndex(([from, to]) => row >= from && row <= to);
    if (inside >= 0) {
      if (found.has(inside)) continue;
      found.add(inside);
      const [from, to] = series.windows[inside]!;
      const width = to - from + 1;
      score += (sigmoid(-(to - row + 1) / width) / sigmoid(-1)) * weights.truePositive;
      continue;
    }
    falseAlarms++;
    const before = series.windows.filter(([, to]) => to < row).at(-1);
    score += before ? sigmoid((row - before[1]) / (before[1] - before[0])) * weights.falsePositive : -weights.falsePositive;
  }
  return { score: score - (series.windows.length - found.size) * weights.falseNegative, found: found.size, falseAlarms };
}

function normalised(sum: number, windows: number, weights: Weights): number {
  return (100 * (sum + weights.falseNegative * windows)) / (windows * (weights.truePositive + weights.falseNegative));
}

function scoreAll(all: readonly Series[], detections: readonly (readonly number[])[], weights: Weights): number {
  const windows = all.reduce((sum, series) => sum + series.windows.length, 0);
  return normalised(all.reduce((sum, series, i) => sum + scoreFile(series, detections[i]!, weights).score, 0), windows, weights);
}

/**
 * NAB's own baseline: the tail of a normal over the last 6,400 values, moved on every 100, with its rounded root of two; detected
 * where the score, stored with twelve digits, is 1.
 */
function windowedGaussian(values: Float64Array): number[] {
  let window: number[] = [];
  let pending: number[] = [];
  let [mean, deviation] = [0, 1];
  const update = (): void => {
    mean = window.reduce((sum, value) => sum + value, 0) / window.length;
    deviation = Math.sqrt(window.reduce((sum, value) => sum + (value - mean) ** 2, 0) / window.length) || 0.000001;
  };
  const detections: number[] = [];
  values.forEach((value, row) => {
    if (window.length > 0 && 1 - normalTail(((Math.abs(value - mean) / deviation) * Math.SQRT2) / 1.4142) >= 1 - 5e-13) detections.push(row);
    if (window.length < 6400) {
      window.push(value);
      update();
    } else {
      pending.push(value);
      if (pending.length === 100) {
        window = [...window.slice(100), ...pending];
        pending = [];
        update();
      }
    }
  });
  return detections;
}

/** Reproduces published scores: sums them to the published totals, and runs one of the peers again. */
function checkScorer(all: readonly Series[], weights: Record<Profile, Weights>, published: Published, log: (line: string) => void): void {
  const own = Object.keys(published.standard.windowedGaussian?.files ?? {});
  if (own.length !== all.length || !all.every(({ name }) => own.includes(name))) {
    log('peers were published for other files: the scorer is not checked here');
    return;
  }
  const windows = all.reduce((sum, series) => sum + series.windows.length, 0);
  const none = scoreAll(all, all.map(() => []), weights.standard);
  if (none !== 0) throw new Error(`the scorer is wrong: nothing found must score 0, not ${none}`);
  for (const profile of profiles) {
    for (const [peer, { normalised: expected, files }] of Object.entries(published[profile])) {
      const sum = normalised(Object.values(files).reduce((total, score) => total + score, 0), windows, weights[profile]);
      if (Math.abs(sum - expected) > 0.006) throw new Error(`the normalisation is wrong: ${peer} must score ${expected} on ${profile}, not ${sum}`);
    }
  }
  const detections = all.map(({ values }) => windowedGaussian(values));
  for (const [i, series] of all.entries()) {
    const { score } = scoreFile(series, detections[i]!, weights.standard);
    const expected = published.standard.windowedGaussian!.files[series.name]!;
    if (Math.abs(score - expected) > 1e-6) throw new Error(`the scorer is wrong: windowedGaussian must score ${expected} on ${series.name}, not ${score}`);
  }
  log(`scorer checked: nothing found scores 0, windowedGaussian run again scores ${scoreAll(all, detections, weights.standard).toFixed(2)} with every file as published`);
}

interface Detected {
  readonly surprises: Float64Array;
  /** Rows at which an anomaly is told, at the default threshold. */
  readonly alerts: readonly number[];
}

function detect({ timesMs, values }: Series): Detected {
  const detector = new AnomalyDetector();
  const alerts: number[] = [];
  const surprises = Float64Array.from(values, (value, row) => {
    const { surprise, alert } = detector.observe(timesMs[row]!, value);
    if (alert) alerts.push(row);
    return surprise;
  });
  return { surprises, alerts };
}

/** The best standard score any one threshold reaches, as NAB chooses it for its table. */
function bestThreshold(all: readonly Series[], detected: readonly Detected[], weights: Weights): { score: number; threshold: number } {
  let best = { score: -Infinity, threshold: anomalyThreshold };
  for (let threshold = 2; threshold <= 8; threshold += 0.05) {
    const detections = detected.map(({ surprises }) => {
      const alerts = new Alerts(threshold);
      return [...surprises.keys()].filter((row) => alerts.take(row, surprises[row]!));
    });
    const score = scoreAll(all, detections, weights);
    if (score > best.score) best = { score, threshold };
  }
  return best;
}

// --- Injected faults in Online Boutique ----------------------------------------------------------------------------------------

interface Pod {
  readonly name: string;
  readonly timesMs: readonly number[];
  readonly column: (name: string) => number[];
}

interface Fault {
  readonly pod: string;
  readonly timeMs: number;
  readonly type: string;
}

/** What is watched of a pod: its CPU and the latency that its callers see; and CPU alone, to compare with baselines that do so. */
const cpuAlone = ['CpuUsageRate(%)'];
const watched = [...cpuAlone, 'PodServerLatencyP90(s)'];
const warmUpMs = 30 * 60_000;
const cpuWithinMs = 120_000;
const withinMs = 600_000;

/** `2022-08-22 03:51:19.607158889 +0000 UTC m=+0.113`; the column of seconds beside it is wrong in one pod. */
function writtenMs(text: string | undefined): number {
  const parts = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d{1,3})?\d* ([+-]\d\d)(\d\d)/.exec(text ?? '');
  return parts ? Date.parse(`${parts[1]}T${parts[2]}${parts[3] ?? ''}${parts[4]}:${parts[5]}`) : Number.NaN;
}

async function loadPods(dir: string): Promise<Pod[]> {
  const suffix = '_metric.csv';
  const files = (await readdir(join(dir, 'metrics'))).filter((file) => file.endsWith(suffix)).sort();
  return Promise.all(files.map(async (file) => {
    const [header, ...rows] = (await readFile(join(dir, 'metrics', file), 'utf8')).trim().split(/\r?\n/).map((line) => line.split(','));
    const at = (name: string): number => header!.indexOf(name);
    const timesMs = rows.map((row) => {
      const written = writtenMs(row[at('Time')]);
      return Number.isNaN(written) ? Number(row[at('TimeStamp')]) * 1000 : written;
    });
    return { name: file.slice(0, -suffix.length), timesMs, column: (name) => rows.map((row) => (row[at(name)] ? Number(row[at(name)]) : Number.NaN)) };
  }));
}

async function loadFaults(dir: string): Promise<Fault[]> {
  const byHour = await json<Record<string, { inject_timestamp: string; inject_pod: string; inject_type: string }[]>>(dir, 'faults.json');
  return Object.values(byHour).flat().map(({ inject_timestamp, inject_pod, inject_type }) => ({ pod: inject_pod, timeMs: Number(inject_timestamp) * 1000, type: inject_type }));
}

interface FaultScore {
  readonly cpuFound: number;
  readonly cpuTotal: number;
  readonly otherFound: number;
  readonly otherTotal: number;
  readonly falseAlarmsPerPodDay: number;
  readonly missed: readonly string[];
}

/** Each column of a pod has a detector of its own; a row is flagged where any of them finds it anomalous. */
function scoreFaults(pods: readonly Pod[], faults: readonly Fault[], columns: readonly string[]): FaultScore {
  const found = { cpu: 0, other: 0 };
  const total = { cpu: 0, other: 0 };
  const missed: string[] = [];
  let [falseAlarms, podDays] = [0, 0];
  for (const pod of pods) {
    const flags = pod.timesMs.map(() => false);
    for (const column of columns) {
      const detector = new AnomalyDetector();
      pod.column(column).forEach((value, row) => {
        if (detector.observe(pod.timesMs[row]!, value).anomalous) flags[row] = true;
      });
    }
    const begunMs = pod.timesMs[0]! + warmUpMs;
    podDays += (pod.timesMs[pod.timesMs.length - 1]! - begunMs) / 86_400_000;
    for (const fault of faults) {
      if (fault.pod !== pod.name || fault.timeMs < begunMs) continue;
      const kind = fault.type.startsWith('cpu') ? 'cpu' : 'other';
      const untilMs = fault.timeMs + (kind === 'cpu' ? cpuWithinMs : withinMs);
      total[kind]++;
      if (pod.timesMs.some((timeMs, row) => flags[row] && timeMs >= fault.timeMs && timeMs <= untilMs)) found[kind]++;
      else missed.push(`${fault.type} of ${pod.name}`);
    }
    pod.timesMs.forEach((timeMs, row) => {
      const excused = timeMs < begunMs || faults.some((fault) => timeMs >= fault.timeMs && timeMs <= fault.timeMs + withinMs);
      if (flags[row] && !excused && !flags[row - 1]) falseAlarms++;
    });
  }
  return { cpuFound: found.cpu, cpuTotal: total.cpu, otherFound: found.other, otherTotal: total.other, falseAlarmsPerPodDay: round(falseAlarms / podDays), missed };
}

// --- Together --------------------------------------------------------------------------------------------------------------------

const round = (value: number): number => Math.round(value * 100) / 100;

/** Points a second of one detector a series, the best of three passes over everything. */
function speed(all: readonly Series[]): number {
  const points = all.reduce((sum, { values }) => sum + values.length, 0);
  let least = Infinity;
  for (let pass = 0; pass < 3; pass++) {
    const begun = performance.now();
    all.forEach(detect);
    least = Math.min(least, performance.now() - begun);
  }
  return Math.round((points / least) * 1000);
}

/** `--nab DIR` and `--boutique DIR` read other data of the same shape. */
function directory(args: readonly string[], option: string, otherwise: string): string {
  const at = args.indexOf(`--${option}`);
  return (at >= 0 ? args[at + 1] : undefined) ?? join(testdata, otherwise);
}

async function run({ log, args }: BenchmarkContext): Promise<Figures> {
  const nabDir = directory(args, 'nab', 'anomaly-nab');
  const all = await loadSeries(nabDir);
  const weights = await loadWeights(nabDir);
  checkScorer(all, weights, await json<Published>(nabDir, 'peers.json'), log);
  const detected = all.map(detect);
  const alerts = detected.map((each) => each.alerts);
  let [found, falseAlarms, alertsWithoutAnomaly] = [0, 0, 0];
  for (const [i, series] of all.entries()) {
    const own = scoreFile(series, alerts[i]!, weights.standard);
    log(`  ${series.name.padEnd(58)} ${own.score.toFixed(2).padStart(6)}  found ${own.found} of ${series.windows.length}, false alarms ${own.falseAlarms}`);
    found += own.found;
    falseAlarms += own.falseAlarms;
    if (series.name.startsWith('artificialNoAnomaly/')) alertsWithoutAnomaly += own.falseAlarms;
  }
  const best = bestThreshold(all, detected, weights.standard);

  const boutiqueDir = directory(args, 'boutique', 'faults-boutique');
  const pods = await loadPods(boutiqueDir);
  const faults = await loadFaults(boutiqueDir);
  const pod = scoreFaults(pods, faults, watched);
  const alone = scoreFaults(pods, faults, cpuAlone);
  for (const missed of pod.missed) log(`  missed: ${missed}`);

  return {
    nab_standard: round(scoreAll(all, alerts, weights.standard)),
    nab_low_fp: round(scoreAll(all, alerts, weights.reward_low_FP_rate)),
    nab_low_fn: round(scoreAll(all, alerts, weights.reward_low_FN_rate)),
    nab_standard_best_threshold: round(best.score),
    nab_windows_found: found,
    nab_windows: all.reduce((sum, { windows }) => sum + windows.length, 0),
    nab_false_alarms: falseAlarms,
    nab_alerts_without_anomaly: alertsWithoutAnomaly,
    boutique_cpu_found: pod.cpuFound,
    boutique_cpu_total: pod.cpuTotal,
    boutique_other_found: pod.otherFound,
    boutique_other_total: pod.otherTotal,
    false_alarms_per_pod_day: pod.falseAlarmsPerPodDay,
    boutique_cpu_found_by_cpu_alone: alone.cpuFound,
    false_alarms_per_pod_day_by_cpu_alone: alone.falseAlarmsPerPodDay,
    points_per_second: speed(all),
  };
}

export const benchmark: Benchmark = {
  name: 'anomalies',
  summary: 'streaming anomaly detection: Numenta Anomaly Benchmark (36 files) and injected faults in Online Boutique',
  floors: {
    nab_standard: { min: 74 },
    nab_low_fp: { min: 66 },
    nab_alerts_without_anomaly: { max: 0 },
    boutique_cpu_found: { min: 9 },
    boutique_other_found: { min: 10 },
    false_alarms_per_pod_day: { max: 0.5 },
  },
  run,
};
