/** What could be saved, computed jointly: no dollar twice, never above the cost. */
import { HOURS_PER_MONTH, type Recommendation, type RecommendationType } from '@upid/contracts';
import { apportion } from '../allocation/money.js';

/** Which resource a saving is made on. */
export type SavingGroup = 'pods' | 'deployments' | 'nodes';

/** A recommendation that stands, as far as its saving goes. */
export interface Advice {
  readonly id: string;
  readonly type: RecommendationType;
  /** namespace/Kind/name; null: it is about nodes. */
  readonly workloadKey: string | null;
  readonly confidence: number;
  /** A month; null: unknown. */
  readonly estimatedNanos: bigint | null;
  readonly currency: string;
  readonly billNanos: bigint | null;
  readonly billReason: string | null;
}

/** What a workload costs a month; its parts by node weigh what it costs where. */
export interface MonthlyWorkload {
  readonly monthlyNanos: bigint | null;
  readonly byNode: ReadonlyMap<number, bigint>;
}

export interface SavingsInput {
  readonly currency: string;
  readonly horizonHours: number;
  readonly advice: readonly Advice[];
  readonly workloads: ReadonlyMap<string, MonthlyWorkload>;
  /** What each node costs a month. */
  readonly nodes: ReadonlyMap<number, bigint>;
}

export interface GroupSavings {
  readonly totalNanos: bigint;
  readonly highConfidenceNanos: bigint;
  readonly count: number;
}

export interface Savings {
  readonly totalNanos: bigint;
  readonly highConfidenceNanos: bigint;
  readonly groups: Readonly<Record<SavingGroup, GroupSavings>>;
  readonly billNanos: bigint | null;
  readonly billReason: string | null;
  /** Why advice is not counted, in sentences. */
  readonly reasons: Readonly<Record<string, string>>;
}

/** Confidence above this counts as high, in percent. */
export const highConfidence = 90;

const resizing: ReadonlySet<RecommendationType> = new Set<RecommendationType>(['resource_optimization', 'workload_rightsizing', 'performance_optimization']);

/** Advice on what each pod asks for is on pods; on how many there are, or whether at all, on deployments; without a workload on nodes. */
export function groupOf({ type, workloadKey }: Pick<Advice, 'type' | 'workloadKey'>): SavingGroup {
  if (workloadKey === null) return 'nodes';
  return resizing.has(type) || workloadKey.split('/')[1] === 'Pod' ? 'pods' : 'deployments';
}

/** The part of a recommendation that savings rest on. */
export function adviceOf(recommendation: Recommendation): Advice {
  const { id, type, workload, confidence, saving } = recommendation;
  const nanos = (text: string | null): bigint | null => (text === null ? null : BigInt(text));
  return {
    id, type, workloadKey: workload ? `${workload.namespace}/${workload.kind}/${workload.name}` : null, confidence, estimatedNanos: nanos(saving.estimated_savings), currency: saving.currency, billNanos: nanos(saving.bill_savings), billReason: saving.bill_savings_reason,
  };
}

const notSimulated = 'not simulated: capacity that is freed lowers the bill only once nodes are removed, and no node simulation has been run';

function atMost(value: bigint, bound: bigint): bigint {
  return value < bound ? value : bound;
}

interface Chosen {
  readonly advice: Advice;
  readonly group: SavingGroup;
  /** A month, within what it is saved on. */
  nanos: bigint;
  highNanos: bigint;
}

/**
 * Of competing advice on one workload the best counts, at most what the workload costs; of what workloads on one node save
 * together at most what the node costs; of what nodes save at most what is left of the cluster's cost. High confidence counts
 * of each workload the best that is given with more than 90 %. Over `horizonHours`, in proportion to a month.
 */
export function savingsOf(input: SavingsInput): Savings {
  const reasons: Record<string, string> = {};
  const { counted, unknown, foreign, costless } = sort(input);
  if (unknown > 0) reasons.unknown_savings = `${unknown} recommendations are not counted: what they would save is not known`;
  if (foreign > 0) reasons.currency = `${foreign} recommendations are not counted: their saving is in another currency than ${input.currency}, and nothing is converted`;
  if (costless > 0) reasons.unknown_costs = `${costless} recommendations are not counted: the cost of their workload is not known, and no saving may be above it`;
  const chosen = [...Map.groupBy(counted.filter(({ workloadKey }) => workloadKey !== null), ({ workloadKey }) => workloadKey as string)].map(([key, of]) => choose(of, input.workloads.get(key)?.monthlyNanos ?? 0n));
  capByNode(chosen, input);
  const cluster = [...input.nodes.values()].reduce((sum, nanos) => sum + nanos, 0n);
  let left = chosen.reduce((rest, each) => rest - each.nanos, cluster);
  // Advice on nodes, the best first, on what the workloads leave.
  for (const advice of counted.filter(({ workloadKey }) => workloadKey === null).sort((a, b) => byWorth(a, b))) {
    const nanos = atMost(advice.estimatedNanos ?? 0n, left > 0n ? left : 0n);
    left -= nanos;
    chosen.push({ advice, group: 'nodes', nanos, highNanos: advice.confidence > highConfidence ? nanos : 0n });
  }
  const hours = BigInt(Math.round(input.horizonHours * 1000));
  const over = (nanos: bigint): bigint => (nanos * hours) / BigInt(HOURS_PER_MONTH * 1000);
  const groups = { pods: summed(chosen, 'pods', over), deployments: summed(chosen, 'deployments', over), nodes: summed(chosen, 'nodes', over) };
  const simulated = chosen.length > 0 && chosen.every(({ advice }) => advice.billNanos !== null);
  return {
    totalNanos: groups.pods.totalNanos + groups.deployments.totalNanos + groups.nodes.totalNanos, highConfidenceNanos: groups.pods.highConfidenceNanos + groups.deployments.highConfidenceNanos + groups.nodes.highConfidenceNanos, groups,
    billNanos: simulated ? chosen.reduce((sum, { advice, nanos }) => sum + over(atMost(advice.billNanos ?? 0n, nanos)), 0n) : null,
    billReason: simulated ? null : (chosen.find(({ advice }) => advice.billNanos === null && advice.billReason !== null)?.advice.billReason ?? notSimulated), reasons,
  };
}

/** Advice that can be counted, and how much cannot. */
function sort({ advice, currency, workloads }: SavingsInput): { counted: Advice[]; unknown: number; foreign: number; costless: number } {
  const counted: Advice[] = [];
  let [unknown, foreign, costless] = [0, 0, 0];
  for (const each of advice) {
    if (each.estimatedNanos === null) unknown++;
    else if (each.estimatedNanos <= 0n) continue;
    else if (each.currency !== currency) foreign++;
    else if (each.workloadKey !== null && (workloads.get(each.workloadKey)?.monthlyNanos ?? null) === null) costless++;
    else counted.push(each);
  }
  return { counted, unknown, foreign, costless };
}

/** The better first: the larger saving, then the higher confidence, then by id. */
function byWorth(a: Advice, b: Advice): number {
  const [left, right] = [a.estimatedNanos ?? 0n, b.estimatedNanos ?? 0n];
  return left !== right ? (left > right ? -1 : 1) : b.confidence - a.confidence || (a.id < b.id ? -1 : 1);
}

function choose(competing: readonly Advice[], costNanos: bigint): Chosen {
  const sorted = competing.toSorted(byWorth);
  const advice = sorted[0] as Advice;
  const high = sorted.find(({ confidence }) => confidence > highConfidence);
  return { advice, group: groupOf(advice), nanos: atMost(advice.estimatedNanos ?? 0n, costNanos), highNanos: atMost(high?.estimatedNanos ?? 0n, costNanos) };
}

/** Scales what is saved on a node down to the node's cost. */
function capByNode(chosen: readonly Chosen[], { workloads, nodes }: SavingsInput): void {
  const onNode = new Map<number, { readonly of: Chosen; readonly nanos: bigint; readonly highNanos: bigint }[]>();
  for (const each of chosen) {
    const shares = [...(workloads.get(each.advice.workloadKey ?? '')?.byNode ?? [])].filter(([, nanos]) => nanos > 0n);
    if (shares.length === 0) {
      // It costs nothing anywhere: there is nothing to save.
      each.nanos = 0n;
      each.highNanos = 0n;
      continue;
    }
    const weights = shares.map(([, nanos]) => nanos);
    const before = (a: number, b: number) => (shares[a]?.[0] ?? 0) - (shares[b]?.[0] ?? 0);
    const [parts, highParts] = [apportion(each.nanos, weights, before), apportion(each.highNanos, weights, before)];
    shares.forEach(([node], i) => {
      const there = onNode.get(node) ?? [];
      there.push({ of: each, nanos: parts[i] ?? 0n, highNanos: atMost(highParts[i] ?? 0n, parts[i] ?? 0n) });
      onNode.set(node, there);
    });
    each.nanos = 0n;
    each.highNanos = 0n;
  }
  for (const [node, there] of onNode) {
    const wanted = there.reduce((sum, { nanos }) => sum + nanos, 0n);
    const most = nodes.get(node) ?? 0n;
    const granted = wanted > most ? apportion(most, there.map(({ nanos }) => nanos), (a, b) => ((there[a]?.of.advice.id ?? '') < (there[b]?.of.advice.id ?? '') ? -1 : 1)) : there.map(({ nanos }) => nanos);
    there.forEach(({ of, highNanos }, i) => {
      of.nanos += granted[i] ?? 0n;
      of.highNanos += atMost(highNanos, granted[i] ?? 0n);
    });
  }
}

function summed(chosen: readonly Chosen[], group: SavingGroup, over: (nanos: bigint) => bigint): GroupSavings {
  const of = chosen.filter((each) => each.group === group && each.nanos > 0n);
  return { totalNanos: of.reduce((sum, { nanos }) => sum + over(nanos), 0n), highConfidenceNanos: of.reduce((sum, { highNanos }) => sum + over(highNanos), 0n), count: of.length };
}
