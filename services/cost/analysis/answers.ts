/** What is answered to questions of cost: sums of hours with what they rest on and how complete they are. */
import { DAY_MS, HOUR_MS, toTimestamp, type CapacityType, type Coverage, type CostBreakdown, type QueryResponse } from '@upid/contracts';
import { addTotals, breakdown, costRates, noCost, type CostTotal } from '../allocation/breakdown.js';
import { weakestBasis } from '../allocation/event.js';
import type { PriceBasis } from '../prices/price-sheet.js';
import { coveredMsOf, coveredSince, type CoveredHour } from './coverage.js';
import { costDrivers, nodeDrivers, type PeriodRates } from './drivers.js';
import { costTrend, type TrendPoint } from './trend.js';

type CostAnalysis = QueryResponse<'cost', 'analysis'>;
type WirePriceBasis = NonNullable<CostBreakdown['price_basis']>;

/** Charges of pods that request something, and of those that are charged by use. */
export interface ChargeSums {
  readonly costNanos: bigint;
  /** Amount x seconds. */
  readonly amountSeconds: number;
}

/** What something cost in an hour. */
export interface HourSum {
  readonly hourMs: number;
  readonly total: CostTotal;
  readonly presentMs: number;
  readonly measuredMs: number;
  readonly requestedCpu: ChargeSums;
  readonly usedCpu: ChargeSums;
  readonly requestedMemory: ChargeSums;
  readonly usedMemory: ChargeSums;
}

/** What the nodes as a whole cost in an hour. */
export interface NodeHourSum {
  readonly hourMs: number;
  readonly costNanos: bigint;
  /** Nodes at a time x ms. */
  readonly presentMs: number;
}

/** A node that something ran on, with what its price rests on. */
export interface PricedNode {
  readonly name: string;
  readonly instanceType: string | null;
  readonly region: string | null;
  readonly capacityType: CapacityType;
  readonly price: { readonly basis: PriceBasis | null; readonly source: string | null; readonly asOf: string | null; readonly typical: boolean; readonly note: string | null } | null;
}

/** What a figure rests on, in the contracts' words and a sentence. */
export function priceBasisOf(nodes: readonly PricedNode[], nowMs: number): WirePriceBasis | null {
  const priced = nodes.flatMap(({ price }) => (price?.basis ? [{ ...price, basis: price.basis }] : []));
  const weakest = weakestBasis(priced.map(({ basis }) => basis));
  if (weakest === null) return null;
  const dates = priced.map(({ asOf }) => asOf).filter((each) => each !== null).sort();
  const oldest = dates[0] ?? null;
  const sentences = [...new Set(priced.filter(({ basis }) => basis === weakest).map(({ note, source, typical }) => note ?? `${source ?? 'a price'}${typical ? ', a typical figure' : ''}`))];
  const counts = [...Map.groupBy(priced, ({ basis }) => basis)].map(([basis, of]) => `${of.length} by ${basis.replace('_', ' ')}`);
  return {
    source: weakest, as_of: oldest === null ? null : `${oldest}T00:00:00.000Z`,
    note: [
      `${sentences.slice(0, 3).join('; ')}${sentences.length > 3 ? ` and ${sentences.length - 3} more` : ''}`,
      ...(oldest === null ? [] : [`${Math.max(0, Math.floor((nowMs - Date.parse(`${oldest}T00:00:00Z`)) / DAY_MS))} days old`]),
      ...(counts.length > 1 ? [`nodes: ${counts.join(', ')}`] : []),
    ].join('; '),
  };
}

function sole<T>(values: readonly T[]): T | null {
  return new Set(values).size === 1 ? (values[0] ?? null) : null;
}

export interface BreakdownInput {
  readonly currency: string;
  readonly total: CostTotal;
  /** The cost that rates are told by, and the time that it was known for. */
  readonly rateNanos: bigint;
  readonly coveredMs: number;
  readonly nodes: readonly PricedNode[];
  readonly nowMs: number;
}

/** A breakdown in the contracts' words. */
export function breakdownOf({ currency, total, rateNanos, coveredMs, nodes, nowMs }: BreakdownInput): CostBreakdown {
  const said = breakdown(total, currency);
  const rates = costRates({ currency, nanos: rateNanos }, coveredMs);
  return {
    currency, allocated_cost: String(said.allocated.nanos), cpu_cost: String(total.cpuNanos), memory_cost: String(total.memoryNanos), gpu_cost: String(total.gpuNanos),
    actual_cost: said.actual === null ? null : String(said.actual.nanos), wasted_cost: said.wasted === null ? null : String(said.wasted.nanos), waste_percentage: said.wastePercentage,
    hourly_rate: rates === null ? null : String(rates.hourly.nanos), daily_cost: rates === null ? null : String(rates.daily.nanos), monthly_projection: rates === null ? null : String(rates.monthly.nanos),
    covered_hours: coveredMs / HOUR_MS, instance_type: sole(nodes.map((node) => node.instanceType)), region: sole(nodes.map((node) => node.region)), pricing_model: sole(nodes.map((node) => node.capacityType)), price_basis: priceBasisOf(nodes, nowMs),
  };
}

export function totalOfHours(hours: readonly { readonly total: CostTotal }[]): CostTotal {
  return hours.reduce((sum, hour) => addTotals(sum, hour.total), noCost);
}

/** Where and how far a cluster's cost is known, in general. */
export interface CoverageInput {
  readonly hours: readonly CoveredHour[];
  readonly startMs: number;
  readonly endMs: number;
  readonly nowMs: number;
  /** Since when the thing itself is there; null: as long as the range. */
  readonly sinceMs: number | null;
  readonly total: CostTotal;
  /** Of the pods' time, the part whose usage is known, and all. */
  readonly measuredMs: number;
  readonly presentMs: number;
  /** Pods that could not be charged, by hour, as far as the thing is concerned. */
  readonly uncharged: (hour: CoveredHour) => number;
}

/** The coverage of an answer, each gap with its reason. */
export function coverageOf(input: CoverageInput, more: Readonly<Record<string, string | null>> = {}): Coverage {
  const { hours, startMs, nowMs, total, presentMs, measuredMs } = input;
  const endMs = Math.min(input.endMs, nowMs);
  const sinceMs = Math.max(startMs, input.sinceMs ?? startMs);
  const coveredMs = coveredMsOf(hours, sinceMs);
  // A minute may lie between the last computation and the question.
  const share = endMs <= sinceMs ? null : Math.min(1, coveredMs / Math.max(1, endMs - sinceMs - 2 * 60_000));
  const covered = hours.filter((hour) => hour.coveredMs > 0);
  const first = covered[0];
  const last = covered.at(-1);
  const usage = presentMs > 0 ? Math.min(1, measuredMs / presentMs) : null;
  const reasons: Record<string, string | null> = { ...more };
  if (!first || !last) reasons.cost = 'no hour of this range has a cost: nothing is known of the cluster\'s nodes in it';
  else if (share !== null && share < 0.995) {
    reasons.cost = first.fromMs > sinceMs + HOUR_MS
      ? `costs are known from ${toTimestamp(first.fromMs)} on: before it there is no inventory of nodes and pods with usage to charge`
      : `costs are known for ${(coveredMs / HOUR_MS).toFixed(1)} of ${((endMs - sinceMs) / HOUR_MS).toFixed(1)} hours: in the others nothing was heard of the cluster`;
  }
  if (total.measuredCells === 0 && total.cells > 0) reasons.actual_cost = 'no usage is known of the charged time, so what of the cost was used is unknown';
  else if (usage !== null && usage < 0.995) reasons.actual_cost = `usage is known for ${(usage * 100).toFixed(0)} % of the charged time; what of the rest was used is unknown, and is called neither used nor wasted`;
  const unchargedHours = hours.filter((hour) => input.uncharged(hour) > 0);
  if (unchargedHours.length > 0) {
    const most = Math.max(...unchargedHours.map((hour) => input.uncharged(hour)));
    reasons.uncharged = `in ${unchargedHours.length} hours up to ${most} pods could not be charged: the inventory does not know them (history from before it) or their node has no price; their cost stands as idle or is missing`;
  }
  const unpriced = new Map(hours.flatMap((hour) => hour.unpriced.map(({ node, reason }) => [node, reason] as const)));
  if (unpriced.size > 0) reasons.price = `${unpriced.size} nodes are not in these costs: ${[...unpriced].slice(0, 3).map(([node, reason]) => `${node}: ${reason}`).join('; ')}`;
  return {
    usage, requests: null, cost: share, since: first ? toTimestamp(Math.max(first.fromMs, startMs)) : null, until: last ? toTimestamp(last.toMs) : null,
    reasons: Object.fromEntries(Object.entries(reasons).filter((entry): entry is [string, string] => entry[1] !== null)),
  };
}

export interface AnalysisInput {
  readonly clusterId: string;
  readonly resourceType: CostAnalysis['resource_type'];
  readonly resourceName: string;
  readonly namespace: string | null;
  readonly currency: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly nowMs: number;
  /** Since when the thing is there, as far as known. */
  readonly sinceMs: number | null;
  /** All computed hours of the range, the earliest first; and those by which rates are told. */
  readonly hours: readonly CoveredHour[];
  readonly rateHours: readonly CoveredHour[];
  readonly uncharged: (hour: CoveredHour) => number;
  readonly sums: readonly HourSum[];
  /** Of a node or a cluster: its whole cost, idle and overhead included. */
  readonly whole: readonly NodeHourSum[] | null;
  readonly nodes: readonly PricedNode[];
  readonly unitCost: { readonly businessPerDay: number | null; readonly reason: string | null };
}

/** A history of more hours than this is told by days. */
const mostPoints = 31 * 24;
/** Drivers compare the halves of what is covered; each must be at least this long. */
const leastHalfMs = 6 * HOUR_MS;
/** A day counts in the trend when at least this much of it is covered. */
const leastDayMs = 12 * HOUR_MS;

/** The answer to a cost analysis. */
export function analysisOf(input: AnalysisInput): CostAnalysis {
  const { currency, hours, rateHours, sums, whole, nowMs } = input;
  const sinceMs = Math.max(input.startMs, input.sinceMs ?? input.startMs);
  const total = totalOfHours(sums);
  const sumAt = new Map(sums.map((sum) => [sum.hourMs, sum]));
  const wholeAt = whole === null ? null : new Map(whole.map((sum) => [sum.hourMs, sum]));
  const costAt = (hourMs: number): bigint => (wholeAt ? wholeAt.get(hourMs)?.costNanos ?? 0n : allocatedOf(sumAt.get(hourMs)));
  const coveredMs = coveredMsOf(rateHours, sinceMs);
  const rateNanos = rateHours.reduce((sum, hour) => sum + costAt(hour.hourMs), 0n);
  const current = breakdownOf({ currency, total, rateNanos, coveredMs, nodes: input.nodes, nowMs });
  const days = daysOf(rateHours, sinceMs, costAt);
  const trend = costTrend(days);
  const drivers = driversOf(input, sinceMs, sumAt, wholeAt);
  return {
    cluster_id: input.clusterId, resource_type: input.resourceType, resource_name: input.resourceName, namespace: input.namespace, start: toTimestamp(input.startMs), end: toTimestamp(input.endMs), current,
    history: historyOf(hours, sinceMs, sumAt),
    trend: {
      direction: trend.direction, change_percent_per_week: trend.changePercentPerWeek, significance: trend.significance, shifted_at: null,
      evidence: trend.direction === 'unknown'
        ? `${days.length} days are known: a trend takes five`
        : `Sen's slope over ${days.length} days is ${trend.changePercentPerWeek === null ? 'not comparable with a cost of 0' : `${trend.changePercentPerWeek.toFixed(1)} % a week`}, p = ${(trend.significance ?? 1).toFixed(3)} (Mann-Kendall)`,
    },
    drivers: drivers ?? [],
    unit_cost: unitCostOf(current.daily_cost, input.unitCost),
    coverage: coverageOf({ ...input, total, measuredMs: sum(sums, (each) => each.measuredMs), presentMs: sum(sums, (each) => each.presentMs) }, {
      ...(total.cells === 0 && coveredMs > 0 ? { actual_cost: 'nothing was charged in this range, so that nothing could be used or wasted' } : {}),
      ...(drivers === null ? { drivers: 'too little of the range is known to compare its halves: each takes six hours' } : {}),
      ...(wholeAt ? { hourly_rate: 'rates are of the whole price of the nodes, idle and overhead included; allocated_cost is what their pods are charged' } : {}),
      ...(coveredMs === 0 && hours.some((hour) => hour.coveredMs > 0) ? { hourly_rate: 'in no hour of the range could all of its pods be charged, so that a rate would lie too low' } : {}),
      ...mixedOf(input.nodes),
    }),
  };
}

function mixedOf(nodes: readonly PricedNode[]): Record<string, string> {
  const several = (name: string, values: readonly (string | null)[]) => (new Set(values).size > 1 ? { [name]: `several: ${[...new Set(values)].map((each) => each ?? 'unknown').sort().slice(0, 8).join(', ')}` } : {});
  return { ...several('instance_type', nodes.map((node) => node.instanceType)), ...several('region', nodes.map((node) => node.region)), ...several('pricing_model', nodes.map((node) => node.capacityType)) };
}

function sum<T>(all: readonly T[], of: (each: T) => number): number {
  return all.reduce((total, each) => total + of(each), 0);
}

function allocatedOf(hour: HourSum | undefined): bigint {
  return hour ? hour.total.cpuNanos + hour.total.memoryNanos + hour.total.gpuNanos : 0n;
}

function historyOf(hours: readonly CoveredHour[], sinceMs: number, sumAt: ReadonlyMap<number, HourSum>): CostAnalysis['history'] {
  const covered = hours.filter((hour) => coveredSince(hour, sinceMs) > 0);
  const stepMs = covered.length > mostPoints ? DAY_MS : HOUR_MS;
  return [...Map.groupBy(covered, (hour) => hour.hourMs - (hour.hourMs % stepMs))].map(([atMs, of]) => {
    const all = of.flatMap((hour) => sumAt.get(hour.hourMs) ?? []);
    const total = totalOfHours(all);
    return { hour: toTimestamp(atMs), allocated_cost: String(total.cpuNanos + total.memoryNanos + total.gpuNanos), actual_cost: all.length > 0 && total.measuredCells === 0 ? null : String(total.actualNanos) };
  });
}

/** Mean hourly cost of days counted back from the last covered hour, so that no day is cut short by the hour of asking. */
function daysOf(hours: readonly CoveredHour[], sinceMs: number, costAt: (hourMs: number) => bigint): TrendPoint[] {
  const covered = hours.filter((hour) => coveredSince(hour, sinceMs) > 0);
  const lastMs = covered.at(-1)?.hourMs ?? 0;
  return [...Map.groupBy(covered, (hour) => Math.floor((lastMs - hour.hourMs) / DAY_MS))].flatMap(([back, of]) => {
    const coveredMs = coveredMsOf(of, sinceMs);
    if (coveredMs < leastDayMs) return [];
    return [{ atMs: lastMs - back * DAY_MS, value: (Number(of.reduce((total, hour) => total + costAt(hour.hourMs), 0n)) * HOUR_MS) / coveredMs }];
  }).sort((a, b) => a.atMs - b.atMs);
}

const driverSentences: Readonly<Record<string, string>> = {
  replicas: 'more or fewer pods at a time', requests: 'what each pod requests', usage: 'what each pod uses, where it is charged by use', price: 'the price of the capacity that it is charged for', gpus: 'GPUs', nodes: 'more or fewer nodes',
};

/** What moved the cost between the halves of the range, a month; null where too little is known. */
function driversOf(input: AnalysisInput, sinceMs: number, sumAt: ReadonlyMap<number, HourSum>, wholeAt: ReadonlyMap<number, NodeHourSum> | null): CostAnalysis['drivers'] | null {
  const covered = input.rateHours.filter((hour) => coveredSince(hour, sinceMs) > 0);
  const middle = covered.length >> 1;
  const halves = [covered.slice(0, middle), covered.slice(middle)] as const;
  const lengths = halves.map((half) => coveredMsOf(half, sinceMs));
  if (lengths.some((ms) => ms < leastHalfMs)) return null;
  const moved = wholeAt
    ? nodeDrivers(...halves.map((half, i) => nodeRates(half, lengths[i] ?? 0, wholeAt)) as [ReturnType<typeof nodeRates>, ReturnType<typeof nodeRates>])
    : costDrivers(...halves.map((half, i) => periodRates(half, lengths[i] ?? 0, sumAt)) as [PeriodRates, PeriodRates]);
  return moved.map(({ name, nanosPerHour }) => {
    const change = BigInt(Math.round(nanosPerHour * 730));
    return { what: `${name}: ${driverSentences[name] ?? name}, the later half of the range against the earlier, a month`, change: String(change) };
  }).filter(({ change }) => change !== '0');
}

function nodeRates(hours: readonly CoveredHour[], coveredMs: number, at: ReadonlyMap<number, NodeHourSum>): { nodes: number; nanosPerHour: number } {
  const all = hours.flatMap((hour) => at.get(hour.hourMs) ?? []);
  return { nodes: sum(all, (each) => each.presentMs) / coveredMs, nanosPerHour: (Number(all.reduce((total, each) => total + each.costNanos, 0n)) * HOUR_MS) / coveredMs };
}

function periodRates(hours: readonly CoveredHour[], coveredMs: number, at: ReadonlyMap<number, HourSum>): PeriodRates {
  const all = hours.flatMap((hour) => at.get(hour.hourMs) ?? []);
  const perHour = (of: (each: HourSum) => bigint) => (Number(all.reduce((total, each) => total + of(each), 0n)) * HOUR_MS) / coveredMs;
  const rate = (of: (each: HourSum) => ChargeSums) => ({ costNanosPerHour: perHour((each) => of(each).costNanos), amount: (sum(all, (each) => of(each).amountSeconds) * 1000) / coveredMs });
  return {
    replicas: sum(all, (each) => each.presentMs) / coveredMs, requestedCpu: rate((each) => each.requestedCpu), usedCpu: rate((each) => each.usedCpu), requestedMemory: rate((each) => each.requestedMemory), usedMemory: rate((each) => each.usedMemory),
    gpuNanosPerHour: perHour((each) => each.total.gpuNanos),
  };
}

function unitCostOf(daily: string | null, { businessPerDay, reason }: AnalysisInput['unitCost']): CostAnalysis['unit_cost'] {
  if (businessPerDay === null) return { per_thousand_requests: null, reason: reason ?? 'its business requests are not known' };
  if (businessPerDay === 0) return { per_thousand_requests: null, reason: 'it had no business request, so that there is none to share its cost' };
  if (daily === null) return { per_thousand_requests: null, reason: 'its cost is not known' };
  return { per_thousand_requests: String(BigInt(Math.round((Number(daily) / businessPerDay) * 1000))), reason: null };
}
