import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { allocateCell, costOfSpan, type AllocationMethod, type ContainerCell, type NodeCell, type NodeCellCost } from '@upid/cost/allocation/cells';
import { compareDecimals, parseDecimal, zeroDecimal, type ExactDecimal } from '@upid/cost/allocation/money';
import { aggregate, inNamespaces, parseAggregation, totalOf, type CostLine, type IdleSharing, type LineCosts } from '@upid/cost/analysis/aggregate';
import { parseFilter, type LineProperties } from '@upid/cost/analysis/filter';
import { referenceRates } from '@upid/cost/prices/estimate';
import { addCharge, FocusReader, noFocusTotal, sumCharges, type FocusCharge } from '@upid/cost/reconciliation/focus';
import { uniforms } from '@upid/testing/random';
import type { Benchmark, BenchmarkContext, Figures } from './benchmark.js';

const root = join(import.meta.dirname, '../..');
const kinds = ['cpu', 'ram', 'gpu', 'pv', 'network', 'loadBalancer', 'shared', 'external'] as const;
type Dollars = Partial<Record<(typeof kinds)[number], number>>;
const dayMs = 86_400_000;
const clusters = 3000;

async function json<T>(...path: string[]): Promise<T> {
  return JSON.parse(await readFile(join(root, ...path), 'utf8')) as T;
}

// ---------------------------------------------------------------- OpenCost's answers

interface Question {
  readonly lines: readonly CostLine[];
  readonly by: string;
  readonly options: Parameters<typeof aggregate>[2];
  readonly answer: readonly (Dollars & { readonly name: string })[];
}

function costLine(name: string, properties: LineProperties, dollars: Dollars): CostLine {
  const costs = Object.fromEntries(kinds.map((kind) => [kind, BigInt(Math.round((dollars[kind] ?? 0) * 1e9))])) as unknown as LineCosts;
  const kind = name.includes('__idle__') ? 'idle' : name.includes('__unmounted__') ? 'unmounted' : name.includes('__external__') ? 'external' : 'container';
  return { name, kind, properties, startMs: 0, endMs: dayMs, costs };
}

async function goldenQuestions(): Promise<Question[]> {
  const { inputs, cases } = await json<{
    inputs: Record<string, (LineProperties & Dollars & { name: string })[]>;
    cases: { input: string; aggregate_by: string[]; share_idle: IdleSharing; shared_namespaces: string[]; share_split: 'even' | 'weighted'; filter?: string; result: (Dollars & { name: string })[] }[];
  }>('testdata/cost-allocation/opencost-golden.json');
  return cases.map((each) => ({
    lines: (inputs[each.input] ?? []).map((raw) => costLine(raw.name, raw, raw)),
    by: each.aggregate_by.join(','),
    options: {
      shareIdle: each.share_idle, shareSplit: each.share_split, filter: parseFilter(each.filter ?? ''), ...(each.shared_namespaces.length > 0 && { share: inNamespaces(each.shared_namespaces) }),
    },
    answer: each.result,
  }));
}

async function randomQuestions(): Promise<Question[]> {
  const { inputs, cases } = await json<{
    inputs: Record<string, (Dollars & { name: string; properties: LineProperties })[]>;
    cases: { input: string; by: string[]; idle: IdleSharing; by_node: boolean; split_idle: boolean; share_split: 'even' | 'weighted'; share: string; filter: string; result: (Dollars & { name: string })[] }[];
  }>('services/cost/analysis/fixtures/opencost-answers.json');
  return cases.map((each) => ({
    lines: (inputs[each.input] ?? []).map((raw) => costLine(raw.name, raw.properties, raw)),
    by: each.by.join(','),
    options: {
      shareIdle: each.idle, idleByNode: each.by_node, splitIdle: each.split_idle, shareSplit: each.share_split, filter: parseFilter(each.filter), ...(each.share !== '' && { share: inNamespaces([each.share]) }),
    },
    answer: each.result,
  }));
}

/** Every group of the answer and no other, every figure within 1e-6. */
function equals(answer: Question['answer'], results: ReturnType<typeof aggregate>): boolean {
  if (answer.length !== results.length) return false;
  const byName = new Map(results.map((each) => [each.name, each]));
  return answer.every((expected) => {
    const found = byName.get(expected.name);
    return found !== undefined && kinds.every((kind) => Math.abs(Number(found.costs[kind]) / 1e9 - (expected[kind] ?? 0)) <= 1e-6);
  });
}

function answered(questions: readonly Question[], method: (question: Question) => ReturnType<typeof aggregate>): number {
  return questions.filter((question) => equals(question.answer, method(question))).length;
}

// ---------------------------------------------------------------- a bill

async function focus(log: BenchmarkContext['log']): Promise<Figures> {
  const expected = await json<{
    rows: number; sum: Record<string, string | number>; by_provider_effective: Record<string, string>; by_provider_rows: Record<string, number>;
    by_service_category_effective: Record<string, string>; by_charge_category_rows: Record<string, number>; charge_period_start_min: string; charge_period_start_max: string;
  }>('testdata/cost-focus/expected.json');
  const text = await readFile(join(root, 'testdata/cost-focus/focus_sample.csv'), 'utf8');
  const started = performance.now();
  const reader = new FocusReader();
  const charges: FocusCharge[] = [...reader.push(text), ...reader.end()];
  const total = charges.reduce(addCharge, noFocusTotal);
  const seconds = (performance.now() - started) / 1000;
  const group = (keyOf: (charge: FocusCharge) => string | null) => [...sumCharges(charges, keyOf).values()][0] ?? new Map<string | null, typeof total>();
  const [providers, services, categories] = [group(({ provider }) => provider), group(({ serviceCategory }) => serviceCategory), group(({ category }) => category)];
  const time = (value: string): number => Date.parse(`${value.replace(' ', 'T')}Z`);
  const equal = (value: ExactDecimal | undefined, figure: string | number | undefined): boolean => compareDecimals(value ?? zeroDecimal, parseDecimal(String(figure))) === 0;
  const checks: [string, boolean][] = [
    ['rows', charges.length === expected.rows && reader.rejected.length === 0],
    ...(['billed', 'effective', 'list', 'contracted'] as const).flatMap((column): [string, boolean][] => {
      const name = `${column[0]?.toUpperCase()}${column.slice(1)}Cost`;
      return [[name, equal(total[column].sum, expected.sum[name])], [`${name} null rows`, total[column].nullRows === expected.sum[`${name}_null_rows`]]];
    }),
    ...Object.entries(expected.by_provider_effective).map(([name, sum]): [string, boolean] => [`effective of ${name}`, equal(providers.get(name)?.effective.sum, sum)]),
    ...Object.entries(expected.by_provider_rows).map(([name, rows]): [string, boolean] => [`rows of ${name}`, providers.get(name)?.rows === rows]),
    ...Object.entries(expected.by_service_category_effective).map(([name, sum]): [string, boolean] => [`effective of ${name}`, equal(services.get(name)?.effective.sum, sum)]),
    ...Object.entries(expected.by_charge_category_rows).map(([name, rows]): [string, boolean] => [`rows of ${name}`, categories.get(name)?.rows === rows]),
    ['first period', Math.min(...charges.map(({ periodStartMs }) => periodStartMs)) === time(expected.charge_period_start_min)],
    ['last period', Math.max(...charges.map(({ periodStartMs }) => periodStartMs)) === time(expected.charge_period_start_max)],
  ];
  for (const [name, ok] of checks) if (!ok) log(`bill: ${name} differs`);
  const binary = charges.reduce((sum, { costs }) => sum + Number(costs.billed?.digits ?? 0n) / 10 ** (costs.billed?.scale ?? 0), 0);
  log(`bill: ${checks.filter(([, ok]) => ok).length} of ${checks.length} figures equal to the last digit (the same sum in doubles: ${binary})`);
  return {
    focus_equal: checks.every(([, ok]) => ok), focus_figures_equal: checks.filter(([, ok]) => ok).length, focus_figures_total: checks.length, focus_rows_per_second: Math.round(charges.length / seconds),
  };
}

// ---------------------------------------------------------------- random clusters

/** A node with its pods: sizes of real machines; some over-committed, some empty, with GPUs, without requests or samples, short-lived. */
function randomNode(random: () => number, index: number): NodeCell<'USD'> {
  const gib = 2 ** 30;
  const cores = 2 ** Math.floor(random() * 8);
  const memory = Math.round(cores * (1 + random() * 8) * gib);
  const gpus = random() < 0.15 ? 1 + Math.floor(random() * 8) : 0;
  const kept = random() < 0.2 ? 1 : 0.85 + random() * 0.14;
  const crowding = [0.3, 0.9, 1.6, 4][Math.floor(random() * 4)] as number;
  const pods = random() < 0.08 ? 0 : 1 + Math.floor(random() * 40);
  const price = random() < 0.1 ? BigInt(Math.floor(random() * 50)) : BigInt(Math.round((cores * 0.0316 + (memory / gib) * 0.00424 + gpus * 0.95) * (0.3 + random()) * 1e9));
  const containers = Array.from({ length: pods }, (_, i): ContainerCell => {
    const share = ((0.2 + random() * 1.6) / pods) * crowding;
    const sampled = random() > 0.1;
    return {
      key: `pod-${index}-${i}/app`,
      request: {
        cpuMillicores: random() < 0.2 ? 0 : Math.round(share * cores * 1000), memoryBytes: random() < 0.2 ? 0 : Math.round(share * memory), gpus: gpus > 0 && random() < 0.3 ? ([1, 1, 2, 0.5, 1 / 7][Math.floor(random() * 5)] as number) : 0,
      },
      usage: {
        cpuMillicores: sampled ? random() * share * cores * 1200 : null, memoryBytes: sampled ? Math.round(random() * share * memory * 1.1) : null, gpus: sampled && random() < 0.5 ? random() : null,
      },
      presentSeconds: random() < 0.85 ? 300 : random() * 300,
    };
  });
  const startMs = Date.UTC(2026, 0, 1) + Math.floor(random() * 8640) * 300_000;
  return {
    pricePerHour: { currency: 'USD', nanos: price }, startMs, endMs: startMs + (random() < 0.9 ? 300_000 : Math.floor(random() * 300_000)),
    capacity: { cpuMillicores: cores * 1000, memoryBytes: memory, gpus }, allocatable: { cpuMillicores: Math.round(cores * 1000 * kept), memoryBytes: Math.round(memory * kept), gpus },
    ratios: referenceRates.rates, containers,
  };
}

/** What is broken in a node's split, in words; '' where every law holds. */
function broken(node: NodeCell, cost: NodeCellCost): string {
  if (cost.costNanos !== costOfSpan(node.pricePerHour.nanos, node.startMs, node.endMs)) return 'the cost is not price x time';
  let allocated = 0n;
  const sums = { cpu: 0n, memory: 0n, gpu: 0n };
  for (const each of cost.containers) {
    if (each.cpuNanos < 0n || each.memoryNanos < 0n || each.gpuNanos < 0n) return 'a negative allocation';
    if (each.actualNanos !== null && (each.actualNanos < 0n || each.actualNanos > each.allocatedNanos)) return 'an actual cost outside the allocated';
    allocated += each.allocatedNanos;
    sums.cpu += each.cpuNanos;
    sums.memory += each.memoryNanos;
    sums.gpu += each.gpuNanos;
  }
  if (allocated + cost.idleNanos + cost.overheadNanos !== cost.costNanos) return 'the parts are not the whole';
  for (const kind of ['cpu', 'memory', 'gpu'] as const) {
    const { costNanos, idleNanos, overheadNanos } = cost[kind];
    if (idleNanos < 0n || overheadNanos < 0n) return 'negative idle or overhead';
    if (sums[kind] + idleNanos + overheadNanos !== costNanos) return `the parts of ${kind} are not the whole`;
  }
  return cost.cpu.costNanos + cost.memory.costNanos + cost.gpu.costNanos === cost.costNanos ? '' : 'the resources are not the whole';
}

/** Idle as a remainder, the peers' way: the node's cost less the unit price of the larger of request and use. True where it is negative. */
function remainderIsNegative(node: NodeCell): boolean {
  const span = (node.endMs - node.startMs) / 1000;
  const used = (kind: 'cpuMillicores' | 'memoryBytes'): number => node.containers.reduce((sum, { request, usage, presentSeconds }) => sum + Math.max(request[kind], usage[kind] ?? 0) * Math.min(presentSeconds, span), 0);
  return used('cpuMillicores') > node.capacity.cpuMillicores * span || used('memoryBytes') > node.capacity.memoryBytes * span;
}

function randomClusters(log: BenchmarkContext['log']): Figures {
  const random = uniforms(20_260_101);
  let checked = 0;
  let cells = 0;
  let containers = 0;
  let negative = 0;
  let milliseconds = 0;
  for (let cluster = 0; cluster < clusters; cluster++) {
    let holds = true;
    for (let i = 0, nodes = 1 + Math.floor(random() * 8); i < nodes; i++) {
      const node = randomNode(random, i);
      if (remainderIsNegative(node)) negative++;
      for (const method of ['weighted', 'priced'] satisfies AllocationMethod[]) {
        const started = performance.now();
        const cost = allocateCell(node, method);
        milliseconds += performance.now() - started;
        const fault = broken(node, cost);
        if (fault !== '') log(`cluster ${cluster}, node ${i}, ${method}: ${fault}`);
        holds &&= fault === '';
        cells++;
        containers += node.containers.length;
      }
    }
    if (holds) checked++;
  }
  // The checker itself must see a nano that went astray.
  const node = randomNode(uniforms(1), 0);
  const cost = allocateCell(node);
  if (broken(node, cost) !== '' || broken(node, { ...cost, idleNanos: cost.idleNanos + 1n }) === '') throw new Error('the check of the laws does not see a lost nano');
  log(`laws: ${checked} of ${clusters} random clusters (${cells} cells, both methods), ${((milliseconds / containers) * 1000).toFixed(2)} us a container`);
  log(`      idle as a remainder would be negative in ${((negative / cells) * 200).toFixed(1)} % of these cells, half of them over-committed`);
  return {
    clusters_checked: checked, clusters_total: clusters, cells_checked: cells, remainder_idle_negative_share: (2 * negative) / cells,
    microseconds_per_container: (milliseconds / containers) * 1000,
  };
}

export const benchmark: Benchmark = {
  name: 'allocation',
  summary: "costs: OpenCost's answers, an exact bill, the laws of allocation over random clusters",
  floors: { opencost_equal: { min: 108 }, opencost_random_equal: { min: 300 }, focus_figures_equal: { min: 30 }, clusters_checked: { min: clusters } },
  async run({ log }) {
    const started = performance.now();
    const golden = await goldenQuestions();
    const random = await randomQuestions();
    // A scorer that is satisfied with anything would be none: one group of everything answers nothing.
    const nothing = answered(golden, ({ lines }) => aggregate(lines, []));
    if (nothing !== 0) throw new Error(`one group of everything is counted as ${nothing} right answers`);
    const ours = ({ lines, by, options }: Question): ReturnType<typeof aggregate> => aggregate(lines, parseAggregation(by), options);
    const equal = answered(golden, ours);
    const conserved = golden.filter((question) => ours(question).reduce((sum, { totalNanos }) => sum + totalNanos, 0n) === question.lines.reduce((sum, { costs }) => sum + totalOf(costs), 0n)).length;
    const randomEqual = answered(random, ours);
    log(`OpenCost: ${equal} of ${golden.length} answers equal to 1e-6 (one group of everything: ${nothing}), ${conserved} with the total conserved to the nano; ${randomEqual} of ${random.length} random questions with filters`);
    return {
      opencost_equal: equal, opencost_total: golden.length, opencost_conserved: conserved, opencost_random_equal: randomEqual, opencost_random_total: random.length,
      ...(await focus(log)), ...randomClusters(log), seconds: (performance.now() - started) / 1000,
    };
  },
};
