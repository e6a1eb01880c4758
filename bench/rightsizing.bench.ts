import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { krrCpu, krrMemory, linearPercentile, vpaCpu, vpaMemory, type Samples } from '@upid/optimizer/recommendations/rightsizing/peers';
import { recommendContainer } from '@upid/optimizer/recommendations/rightsizing/recommend';
import { hoursOf, judge, type Outcome, type Rule, type Trace } from '@upid/optimizer/recommendations/rightsizing/walk-forward';
import type { Benchmark, BenchmarkContext, Figures } from './benchmark.js';

const MEBIBYTE = 2 ** 20;

async function csv(path: string): Promise<Record<string, string>[]> {
  const [head, ...lines] = (await readFile(path, 'utf8')).trim().split(/\r?\n/);
  const names = (head ?? '').split(',');
  return lines.map((line) => Object.fromEntries(line.split(',').map((cell, i) => [names[i] ?? '', cell])));
}

/** A cell as a number; an empty one is a gap, not zero. */
const numberOf = (cell: string | undefined) => (cell === undefined || cell.trim() === '' ? NaN : Number(cell));

const utc = (text: string) => Date.parse(`${text.slice(0, 19).replace(' ', 'T')}Z`);

/** A trace with the file that it came from (under the data folder) and its samples as the file has them. */
interface Loaded extends Trace {
  readonly file: string;
  readonly raw: Samples;
}

/** Samples by time, the first of equal times kept, and as they came. */
function sorted(rows: readonly { time: number; value: number }[]): Samples & { raw: Samples } {
  const byTime = new Map<number, number>();
  const known = rows.filter(({ time, value }) => Number.isFinite(time) && Number.isFinite(value));
  for (const { time, value } of known) if (!byTime.has(time)) byTime.set(time, value);
  const order = [...byTime.keys()].sort((a, b) => a - b);
  return {
    timesMs: order, values: order.map((time) => byTime.get(time) ?? 0),
    raw: { timesMs: known.map(({ time }) => time), values: known.map(({ value }) => value) },
  };
}

/** What a folder holds; nothing where there is none. */
async function entriesOf(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && (cause.code === 'ENOENT' || cause.code === 'ENOTDIR')) return [];
    throw cause;
  }
}

/** A pod's file: usage as given, provisioned from the usage rate beside it (percent of the limit). */
async function podTraces(data: string, file: string): Promise<Loaded[]> {
  const rows = await csv(join(data, file));
  const trace = (resource: 'cpu' | 'memory', usage: string, rate: string, unit: number): Loaded => {
    const limits = rows.map((row) => (100 * unit * numberOf(row[usage])) / numberOf(row[rate])).filter((limit) => Number.isFinite(limit) && limit > 0);
    return { name: file, file, resource, provisioned: linearPercentile(limits, 0.5), ...sorted(rows.map((row) => ({ time: utc(row['Time'] ?? ''), value: unit * numberOf(row[usage]) }))) };
  };
  return [trace('cpu', 'CpuUsage(m)', 'CpuUsageRate(%)', 1), trace('memory', 'MemoryUsage(Mi)', 'MemoryUsageRate(%)', MEBIBYTE)];
}

/** CPU of machines in percent: one core is what they had. */
async function machineTrace(data: string, file: string): Promise<Loaded> {
  const rows = await csv(join(data, file));
  return { name: file, file, resource: 'cpu', provisioned: 1000, ...sorted(rows.map((row) => ({ time: utc(row['timestamp'] ?? ''), value: 10 * numberOf(row['value']) }))) };
}

/** Any demand that rises and falls (requests, passengers, load), scaled so that its 99th percentile is one core: not CPU, so judged apart. */
async function demandTrace(data: string, file: string, time: string, column: string): Promise<Trace> {
  const samples = sorted((await csv(join(data, file))).map((row) => ({ time: utc(row[time] ?? ''), value: numberOf(row[column]) })));
  const unit = linearPercentile(samples.values, 0.99) / 1000;
  return { name: file, resource: 'cpu', provisioned: 1000, timesMs: samples.timesMs, values: samples.values.map((value) => value / unit) };
}

/** Pods of every folder with pods' metrics, machines and demand of anomaly-nab, demand of seasonal. */
async function load(data: string): Promise<{ pods: Loaded[]; machines: Loaded[]; demand: Trace[] }> {
  const pods: Loaded[] = [];
  const machines: Loaded[] = [];
  const demand: Trace[] = [];
  for (const folder of await entriesOf(data)) {
    for (const file of (await entriesOf(join(data, folder, 'metrics'))).filter((name) => name.endsWith('_metric.csv'))) pods.push(...(await podTraces(data, `${folder}/metrics/${file}`)));
  }
  for (const folder of await entriesOf(join(data, 'anomaly-nab'))) {
    for (const file of (await entriesOf(join(data, 'anomaly-nab', folder))).filter((name) => name.endsWith('.csv'))) {
      const path = `anomaly-nab/${folder}/${file}`;
      if (/cpu_utilization/.test(file)) machines.push(await machineTrace(data, path));
      else if (/^realTweets|^realTraffic/.test(folder) ? !/speed/.test(file) : /nyc_taxi|request_count|Network|network/.test(file)) demand.push(await demandTrace(data, path, 'timestamp', 'value'));
    }
  }
  for (const file of (await entriesOf(join(data, 'seasonal'))).filter((name) => name.endsWith('_hourly.csv'))) {
    const columns = Object.keys((await csv(join(data, 'seasonal', file)))[0] ?? {});
    const [time, column] = columns.includes('ts') ? ['ts', 'y'] : ['date_time', 'traffic_volume'];
    demand.push(await demandTrace(data, `seasonal/${file}`, time, column));
  }
  return { pods, machines, demand };
}

const upidCpu: Rule = ({ timesMs, values }) => recommendContainer({ periods: hoursOf('cpu', timesMs, values) }).cpu.request ?? 0;
const upidMemory: Rule = ({ timesMs, values }) => recommendContainer({ periods: hoursOf('memory', timesMs, values) }).memory.request ?? 0;
const most = (values: readonly number[]) => values.reduce((max, value) => Math.max(max, value), 0);

const CPU_RULES: Record<string, Rule> = {
  upid: upidCpu,
  vpa: (past) => vpaCpu(past)?.target ?? 0,
  krr: ({ values }) => krrCpu(values) ?? 0,
  p99: ({ values }) => linearPercentile(values, 0.99),
  maximum: ({ values }) => most(values),
  hindsight: (_, future) => linearPercentile(future, 0.99),
};
const MEMORY_RULES: Record<string, Rule> = {
  upid: upidMemory,
  vpa: (past) => vpaMemory(past)?.target ?? 0,
  krr: ({ values }) => krrMemory(values) ?? 0,
  p99: ({ values }) => linearPercentile(values, 0.99),
  maximum: ({ values }) => most(values),
  hindsight: (_, future) => most(future),
};

interface Expected {
  readonly file: string;
  readonly vpa_1_8_1_no_pod_minimum: { readonly cpu_target: number; readonly memory_target?: number };
  readonly krr_simple: { readonly cpu_request: number; readonly memory_request_unrounded?: number };
}

/** How many answers of VPA and KRR themselves ours equal: VPA within one bucket of 5 %, KRR to the millicore and the byte. */
async function equalToPeers(data: string, traces: readonly Loaded[], log: BenchmarkContext['log']): Promise<{ vpaEqual: number; krrEqual: number; cases: number }> {
  const expected = JSON.parse(await readFile(join(data, 'rightsizing', 'expected.json'), 'utf8')) as Record<string, Expected>;
  let vpaEqual = 0;
  let krrEqual = 0;
  let cases = 0;
  const check = (name: string, ours: number, theirs: number, relative: number, absolute: number): boolean => {
    const equal = Math.abs(ours - theirs) <= Math.max(absolute, relative * theirs);
    if (!equal) log(`differs: ${name}: ${ours}, expected ${theirs}`);
    return equal;
  };
  for (const [name, { file, vpa_1_8_1_no_pod_minimum: vpa, krr_simple: krr }] of Object.entries(expected)) {
    const raw = (resource: string) => traces.find((trace) => trace.resource === resource && trace.file === file)?.raw;
    const cpu = raw('cpu');
    const memory = raw('memory');
    cases++;
    vpaEqual += check(`${name} VPA CPU`, (cpu ? (vpaCpu(cpu)?.target ?? NaN) : NaN) / 1000, vpa.cpu_target, 0.05, 0.001) ? 1 : 0;
    krrEqual += check(`${name} KRR CPU`, (cpu ? (krrCpu(cpu.values) ?? NaN) : NaN) / 1000, krr.cpu_request, 0, 1e-9) ? 1 : 0;
    if (vpa.memory_target === undefined || krr.memory_request_unrounded === undefined) continue;
    cases++;
    vpaEqual += check(`${name} VPA memory`, memory ? (vpaMemory(memory)?.target ?? NaN) : NaN, vpa.memory_target, 0.05, 0) ? 1 : 0;
    krrEqual += check(`${name} KRR memory`, memory ? (krrMemory(memory.values) ?? NaN) : NaN, krr.memory_request_unrounded, 0, 1) ? 1 : 0;
  }
  return { vpaEqual, krrEqual, cases };
}

/** The scorer on cases whose answers are known: all of a constant above, none of it, and half of it. */
function checkScorer(): void {
  const times = Array.from({ length: 100 }, (_, i) => i * 60_000);
  const flat: Trace = { name: 'flat', resource: 'cpu', provisioned: 200, timesMs: times, values: times.map(() => 100) };
  const cases: [number, Partial<Outcome>][] = [
    [0, { samplesOver: 1, unserved: 1, overruns: 1, requestRatio: 0 }], [100, { samplesOver: 0, unserved: 0, overruns: 0, requestRatio: 0.5 }], [50, { samplesOver: 1, unserved: 0.5 }],
  ];
  for (const [request, wanted] of cases) {
    const got = judge([flat], () => request);
    for (const [key, value] of Object.entries(wanted)) {
      if (Math.abs(got[key as keyof Outcome] - value) > 1e-12) throw new Error(`the scorer is wrong: ${key} of a request of ${request} is ${got[key as keyof Outcome]}, not ${value}`);
    }
  }
}

function table(log: BenchmarkContext['log'], title: string, traces: readonly Trace[], rules: Record<string, Rule>): Record<string, Outcome> {
  const outcomes = Object.fromEntries(Object.entries(rules).map(([name, rule]) => [name, judge(traces, rule)]));
  const any = Object.values(outcomes)[0];
  log(`\n${title}: ${any?.traces} traces, ${any?.folds} folds\n${'rule'.padEnd(10)} request/provisioned  samples over  unserved  folds over`);
  for (const [name, { requestRatio, samplesOver, unserved, overruns }] of Object.entries(outcomes)) {
    log(`${name.padEnd(10)} ${requestRatio.toFixed(4).padStart(19)} ${samplesOver.toFixed(5).padStart(13)} ${unserved.toFixed(5).padStart(9)} ${String(overruns).padStart(11)}`);
  }
  return outcomes;
}

export const benchmark: Benchmark = {
  name: 'rightsizing',
  summary: 'requests from the past held against the days that followed, beside VPA, KRR, p99, the maximum and hindsight',
  floors: {
    vpa_equal: { min: 25 }, krr_equal: { min: 25 }, 'upid.cpu_request_ratio': { max: 0.498 }, 'upid.cpu_samples_over': { max: 0.0341 }, 'upid.cpu_unserved': { max: 0.0125 },
    'upid.memory_request_ratio': { max: 0.875 }, 'upid.memory_overruns': { max: 0 },
  },
  async run({ log, args }): Promise<Figures> {
    const started = performance.now();
    const data = args[0] ?? join(import.meta.dirname, '../../testdata');
    checkScorer();
    const { pods, machines, demand } = await load(data);
    const usage = [...pods, ...machines];
    const equal = await equalToPeers(data, usage, log);
    const ofCpu = (traces: readonly Loaded[]) => traces.filter(({ resource }) => resource === 'cpu');
    const onCpu = table(log, 'CPU', ofCpu(usage), CPU_RULES);
    table(log, 'CPU of pods', ofCpu(pods), CPU_RULES);
    table(log, 'CPU of machines', ofCpu(machines), CPU_RULES);
    const onMemory = table(log, 'Memory of pods', pods.filter(({ resource }) => resource === 'memory'), MEMORY_RULES);
    table(log, 'Other demand, as if it were CPU (not counted in the scores)', demand, CPU_RULES);
    // As memory its 99th percentile is one gibibyte.
    const asMemory = demand.map((trace): Trace => ({ ...trace, resource: 'memory', provisioned: 1024 * MEBIBYTE, values: trace.values.map((value) => (value / 1000) * 1024 * MEBIBYTE) }));
    table(log, 'Other demand, as if it were memory (not counted in the scores)', asMemory, MEMORY_RULES);
    const of = (name: string) => ({
      cpu_request_ratio: onCpu[name]?.requestRatio ?? NaN, cpu_samples_over: onCpu[name]?.samplesOver ?? NaN, cpu_unserved: onCpu[name]?.unserved ?? NaN,
      memory_request_ratio: onMemory[name]?.requestRatio ?? NaN, memory_overruns: onMemory[name]?.overruns ?? NaN,
    });
    return {
      ...Object.fromEntries(Object.keys(CPU_RULES).map((name) => [name, of(name)])),
      vpa_equal: equal.vpaEqual, krr_equal: equal.krrEqual, cases: equal.cases, seconds: (performance.now() - started) / 1000,
    };
  },
};
