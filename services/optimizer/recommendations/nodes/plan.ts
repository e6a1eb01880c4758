import { boundOf, cheapestCover, components, type Bound } from './bound.js';
import { matches, refusal, repel, HOSTNAME, ZONE, type DaemonSetPod, type NodeOffer, type Pod } from './model.js';
import { buildProblem, type Offer, type Problem } from './problem.js';
import { costOf, downsize, NodeState } from './state.js';
import { decreasingBy, type Decreasing, Filler, firstFitDecreasing, improve, likeOffers, type Opening, type Part } from './strategies.js';

export interface PackedNode {
  readonly offer: NodeOffer;
  readonly podIds: readonly string[];
}

export interface NodePlan {
  readonly nodes: readonly PackedNode[];
  /** Pods that no node admits, with the reason. */
  readonly unplaced: readonly { readonly podId: string; readonly reason: string }[];
  readonly costPerHour: number;
  /** No packing of the placed pods costs less. */
  readonly bound: { readonly costPerHour: number; readonly proof: Bound['proof']; readonly simplestCostPerHour: number };
  /** The cheapest first-fit decreasing over the same offers, over orders and over which offer it opens. */
  readonly firstFitDecreasingCostPerHour: number;
}

export interface PlanOptions {
  /** Capacity types that may be bought; on-demand alone where left out, for spot is a decision of its own. */
  readonly capacityTypes?: readonly string[];
  readonly daemonSets?: readonly DaemonSetPod[];
}

/**
 * Which nodes would hold these pods at the least cost. Several strategies are tried and the cheapest is kept, first-fit
 * decreasing among them, so it is never dearer than that; the bound says how far from the best possible it can be at most.
 * Pure and deterministic.
 */
export function planNodes(pods: readonly Pod[], offers: readonly NodeOffer[], options: PlanOptions = {}): NodePlan {
  const capacityTypes = options.capacityTypes ?? ['on-demand'];
  const problem = buildProblem(pods, offers.filter(({ capacityType }) => capacityTypes.includes(capacityType)), options.daemonSets ?? []);
  const bound = boundOf(problem);
  const nodes: NodeState[] = [];
  let firstFit = 0;
  for (const component of components(problem)) {
    const part: Part = {
      problem, values: bound.values,
      classes: component.classes.map((c) => problem.classes[c]).filter((each) => each !== undefined),
      offers: distinct(component.offers.map((o) => problem.offers[o]).filter((each) => each !== undefined), problem),
    };
    const solved = packPart(part);
    nodes.push(...solved.nodes);
    firstFit += solved.firstFitCost;
  }
  return {
    nodes: named(problem, nodes), unplaced: problem.unplaceable, costPerHour: costOf(nodes), firstFitDecreasingCostPerHour: firstFit,
    bound: { costPerHour: bound.costPerHour, proof: bound.proof, simplestCostPerHour: bound.simplestCostPerHour },
  };
}

/** Offers by rising price, one of each that no pod can tell apart and nothing beats. */
function distinct(offers: readonly Offer[], problem: Problem): Offer[] {
  const byKind = new Map<string, Offer>();
  const admissions = [...new Map(problem.classes.map(({ admission, feasible }) => [admission, feasible])).values()];
  for (const offer of [...offers].sort((a, b) => a.price - b.price || a.index - b.index)) {
    const kind = `${admissions.map((feasible) => feasible[offer.index]).join('')}|${offer.capacity.join()}`;
    if (!byKind.has(kind)) byKind.set(kind, offer);
  }
  return [...byKind.values()];
}

function packPart(part: Part): { nodes: NodeState[]; firstFitCost: number } {
  const { problem, classes, offers } = part;
  const demand = problem.resources.map((_, r) => classes.reduce((sum, { requests, pods }) => sum + (requests[r] ?? 0) * pods.length, 0) || 1);
  const byShare = decreasingBy(classes, ({ requests }) => requests.reduce((most, amount, r) => Math.max(most, amount / (demand[r] ?? 1)), 0));
  const others = [
    decreasingBy(classes, ({ requests }) => requests[0] ?? 0), decreasingBy(classes, ({ requests }) => requests[1] ?? 0),
  ];
  let best: NodeState[] | null = null;
  let bestCost = Infinity;
  const keep = (nodes: NodeState[] | null): number => {
    if (!nodes) return Infinity;
    const cost = costOf(nodes);
    if (cost < bestCost) {
      best = nodes;
      bestCost = cost;
    }
    return cost;
  };
  let firstFitCost = Infinity;
  const attempt = (order: Decreasing, opening: Opening) => {
    firstFitCost = Math.min(firstFitCost, keep(firstFitDecreasing(part, order, opening, firstFitCost)));
  };
  const admitted = ({ index }: Offer) => classes.reduce((sum, { feasible, pods }) => sum + (feasible[index] ? pods.length : 0), 0);
  const openings: Opening[] = [[], ...likeOffers(offers).reverse().flatMap((group) => {
    const most = group.reduce((best, offer) => (admitted(offer) > admitted(best) ? offer : best));
    return group.length > 1 ? [[most], group] : [group];
  })];
  for (const order of [byShare, ...others]) for (const opening of openings) attempt(order, opening);
  const only = classes.length === 1 ? classes[0] : undefined;
  if (only && only.groups.length === 0) {
    keep(cheapestCover(only, offers)?.nodes.map(({ offer, pods }) => {
      const node = new NodeState(problem, offer);
      node.add(only, pods);
      return node;
    }) ?? null);
    return { nodes: best ?? [], firstFitCost };
  }
  const ceilings = ceilingsOf(offers);
  const filler = new Filler(part);
  const everything = new Int32Array(problem.classes.length);
  for (const each of classes) everything[each.index] = each.pods.length;
  let worse = 0;
  for (const ceiling of ceilings) {
    const before = bestCost;
    const packed = filler.pack(everything.slice(), ceiling, bestCost * 1.02);
    if (packed) downsize(packed, offers);
    keep(packed);
    // Cost falls with the ceiling as long as large nodes stand half empty, then rises: twice no better is the other side.
    worse = bestCost < before ? 0 : worse + 1;
    if (worse === 2) break;
  }
  const start: NodeState[] = best ?? [];
  keep(improve(part, filler, start.map((node) => node.copy()), ceilings, EFFORT));
  return { nodes: best ?? [], firstFitCost };
}

/** Looks of the filler that improvement may cost: under a second. */
const EFFORT = 1_000_000;

/** Price limits for a node, from the dearest offer down by halves: many small nodes serve pods that keep apart, few large ones waste least. */
function ceilingsOf(offers: readonly Offer[]): number[] {
  const dearest = offers[offers.length - 1]?.price ?? 0;
  const cheapest = offers[0]?.price ?? 0;
  const ceilings: number[] = [];
  for (let ceiling = dearest; ceiling >= cheapest && ceiling > 0; ceiling /= 2) ceilings.push(ceiling);
  return ceilings;
}

/** Gives the counts their pods' names. */
function named({ classes }: Problem, nodes: readonly NodeState[]): PackedNode[] {
  const next = classes.map(() => 0);
  return nodes.map((node) => ({
    offer: node.offer.offer,
    podIds: [...node.counts].flatMap(([index, count]) => {
      const from = next[index] ?? 0;
      next[index] = from + count;
      return (classes[index]?.pods ?? []).slice(from, from + count).map(({ id }) => id);
    }),
  }));
}

/**
 * What is wrong with a plan, in sentences; empty where it keeps every rule. Judges the plan by the pods and offers alone, not by
 * how it was made.
 */
export function faultsOf(plan: NodePlan, pods: readonly Pod[], daemonSets: readonly DaemonSetPod[] = []): string[] {
  const faults: string[] = [];
  const byId = new Map(pods.map((pod) => [pod.id, pod]));
  const seen = new Set<string>(plan.unplaced.map(({ podId }) => podId));
  const zones = new Map<string, Pod[]>();
  for (const [n, { offer, podIds }] of plan.nodes.entries()) {
    const own = podIds.map((id) => byId.get(id)).filter((pod) => pod !== undefined);
    if (own.length !== podIds.length) faults.push(`node ${n} holds unknown pods`);
    for (const id of podIds) {
      if (seen.has(id)) faults.push(`${id} is placed twice`);
      seen.add(id);
    }
    const riding = daemonSets.filter((pod) => refusal(pod, offer) === null);
    const names = new Set([...own, ...riding].flatMap((pod) => Object.keys(pod.requests)));
    for (const name of [...names, 'pods']) {
      const asked = [...own, ...riding].reduce((sum, pod) => sum + (name === 'pods' ? 1 : (pod.requests[name] ?? 0)), 0);
      if (asked > (offer.allocatable[name] ?? 0) * (1 + 1e-9) + 1e-6) faults.push(`node ${n} (${offer.type}) is short of ${name}: ${asked} of ${offer.allocatable[name] ?? 0}`);
    }
    for (const pod of own) {
      const why = refusal(pod, offer);
      if (why) faults.push(`${pod.id} may not run on ${offer.type} in ${offer.zone}: ${why}`);
    }
    faults.push(...apart(own, HOSTNAME).map((fault) => `node ${n}: ${fault}`));
    for (const pod of own) for (const spread of pod.spread ?? []) {
      if (spread.topologyKey !== HOSTNAME) continue;
      const counted = own.filter((other) => (other.namespace ?? '') === (pod.namespace ?? '') && matches(spread.selector, other.labels ?? {})).length;
      if (counted > spread.maxSkew) faults.push(`node ${n} holds ${counted} pods that spread by ${spread.maxSkew}`);
    }
    zones.set(offer.zone, [...(zones.get(offer.zone) ?? []), ...own]);
  }
  for (const [zone, own] of zones) faults.push(...apart(own, ZONE).map((fault) => `zone ${zone}: ${fault}`));
  for (const { id } of pods) if (!seen.has(id)) faults.push(`${id} is nowhere`);
  return [...new Set(faults)];
}

function apart(pods: readonly Pod[], topologyKey: string): string[] {
  const keepers = pods.filter((pod) => (pod.antiAffinity ?? []).some((term) => term.topologyKey === topologyKey));
  return keepers.flatMap((keeper) => pods.filter((other) => other !== keeper && repel(keeper, other, topologyKey)).map((other) => `${keeper.id} and ${other.id} keep apart`));
}

