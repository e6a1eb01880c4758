import { maximise } from './simplex.js';
import type { Offer, PodClass, Problem } from './problem.js';

/**
 * What no packing can cost less than, and what each pod is worth by that proof. A value per unit of each resource is sought
 * under which no node is worth more than its price; then the pods' values add up to a bound, for whatever a node holds is
 * worth at most the node (linear programming duality; for bin packing: Gilmore and Gomory, Operations Research 9, 1961). Values
 * may differ between families of offers that admit different pods; a pod is worth the least that its families say.
 */
export interface Bound {
  readonly costPerHour: number;
  /** Which proof gave it. */
  readonly proof: 'resources' | 'whole_nodes' | 'apart' | 'none';
  /** The simplest proof: the most, over resources, of what is asked for times the cheapest price of that resource. */
  readonly simplestCostPerHour: number;
  /** Value of a pod of each class; their sum is at most `costPerHour`. */
  readonly values: Float64Array;
}

/** Families · groups beyond which one value for all families is taken: the bound stays true, and the program small. */
const LARGEST_PROGRAM = 300;
const SAFE = 1 - 1e-9;

export function boundOf(problem: Problem): Bound {
  const { classes, offers, resources } = problem;
  const values = new Float64Array(classes.length);
  if (classes.length === 0) return { costPerHour: 0, proof: 'none', simplestCostPerHour: 0, values };
  let byResources = 0;
  let whole = 0;
  let apart = 0;
  for (const component of components(problem)) {
    const own = component.classes.map((c) => classes[c]).filter((each) => each !== undefined);
    const theirs = component.offers.map((o) => offers[o]).filter((each) => each !== undefined);
    const sum = resourceBound(own, theirs, resources.length, values);
    byResources += sum;
    const only = own.length === 1 ? own[0] : undefined;
    whole += Math.max(sum, only ? (cheapestCover(only, theirs)?.cost ?? 0) * SAFE : 0);
    apart += Math.max(sum, ...own.map((each) => leastNodes(each, theirs)));
  }
  const simplest = simplestBound(problem);
  const best = Math.max(byResources, whole, apart, simplest);
  return {
    costPerHour: best, simplestCostPerHour: simplest, values,
    proof: best === whole && whole > byResources ? 'whole_nodes' : best === apart && apart > byResources ? 'apart' : 'resources',
  };
}

/** Classes and offers that have to do with one another, directly or through others. */
export function components({ classes, offers }: Problem): { classes: number[]; offers: number[] }[] {
  const parent = classes.map((_, c) => c);
  const rootOf = (c: number): number => {
    const up = parent[c] ?? c;
    return up === c ? c : (parent[c] = rootOf(up));
  };
  const first = new Map<number, number>();
  const alike = new Map<string, number>();
  classes.forEach(({ feasible, admission }, c) => {
    const same = alike.get(admission);
    if (same !== undefined) {
      parent[rootOf(c)] = rootOf(same);
      return;
    }
    alike.set(admission, c);
    feasible.forEach((may, o) => {
      if (!may) return;
      const other = first.get(o);
      if (other === undefined) first.set(o, c);
      else parent[rootOf(c)] = rootOf(other);
    });
  });
  const found = new Map<number, { classes: number[]; offers: number[] }>();
  classes.forEach((_, c) => {
    const root = rootOf(c);
    const own = found.get(root);
    if (own) own.classes.push(c);
    else found.set(root, { classes: [c], offers: [] });
  });
  offers.forEach((_, o) => {
    const one = first.get(o);
    if (one !== undefined) found.get(rootOf(one))?.offers.push(o);
  });
  return [...found.values()];
}

/** The linear program of one component; writes the values of its classes. */
function resourceBound(classes: readonly PodClass[], offers: readonly Offer[], width: number, values: Float64Array): number {
  const groups = new Map<string, PodClass[]>();
  for (const each of classes) push(groups, each.admission, each);
  const families = new Map<string, Offer[]>();
  const marks = [...groups.keys()];
  const admitting = marks.map((mark) => groups.get(mark)?.[0]?.feasible);
  for (const offer of offers) push(families, admitting.map((feasible) => feasible?.[offer.index]).join(''), offer);
  const separate = families.size * groups.size <= LARGEST_PROGRAM;
  const familyList = separate ? [...families.values()].map(undominated) : [undominated(offers)];
  const admits = (group: number, family: number) => !separate || [...families.keys()][family]?.[group] === '1';
  const demand = marks.map((mark) => {
    const sum = new Float64Array(width);
    for (const { requests, pods } of groups.get(mark) ?? []) requests.forEach((amount, r) => { sum[r] = (sum[r] ?? 0) + amount * pods.length; });
    return sum;
  });
  // Amounts are scaled to the whole demand, so that millicores and bytes weigh alike.
  const scale = Array.from({ length: width }, (_, r) => demand.reduce((sum, each) => sum + (each[r] ?? 0), 0) || 1);
  const columns = familyList.length * width + marks.length;
  const rows: Float64Array[] = [];
  const limits: number[] = [];
  familyList.forEach((family, f) => {
    for (const { capacity, price } of family) {
      const row = new Float64Array(columns);
      for (let r = 0; r < width; r++) row[f * width + r] = Math.max(0, capacity[r] ?? 0) / (scale[r] ?? 1);
      rows.push(row);
      limits.push(price);
    }
  });
  marks.forEach((_, g) => familyList.forEach((_family, f) => {
    if (!admits(g, f)) return;
    const row = new Float64Array(columns);
    row[familyList.length * width + g] = 1;
    for (let r = 0; r < width; r++) row[f * width + r] = -(demand[g]?.[r] ?? 0) / (scale[r] ?? 1);
    rows.push(row);
    limits.push(0);
  }));
  const objective = Array.from({ length: columns }, (_, j) => (j >= familyList.length * width ? 1 : 0));
  const solved = maximise(objective, rows, limits);
  if (!solved) return 0;
  // Rounding may have left a node worth a hair more than its price: scale the values down to a proof.
  const worth = (f: number, amounts: Float64Array) => {
    let sum = 0;
    for (let r = 0; r < width; r++) sum += ((solved.x[f * width + r] ?? 0) * Math.max(0, amounts[r] ?? 0)) / (scale[r] ?? 1);
    return sum;
  };
  const most = Math.max(1, ...familyList.flatMap((family, f) => family.map(({ capacity, price }) => (price > 0 ? worth(f, capacity) / price : 1))));
  let total = 0;
  marks.forEach((mark, g) => {
    const admitted = familyList.map((_, f) => f).filter((f) => admits(g, f));
    for (const each of groups.get(mark) ?? []) {
      const value = admitted.reduce((least, f) => Math.min(least, worth(f, each.requests)), Infinity) / most;
      values[each.index] = value;
      total += value * each.pods.length;
    }
  });
  return total * SAFE;
}

function push<T>(lists: Map<string, T[]>, key: string, value: T): void {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}

/** Offers that no other offer of the list beats in price and every amount. */
function undominated(offers: readonly Offer[]): Offer[] {
  return offers.filter((offer, i) => !offers.some((other, j) => j !== i && other.price <= offer.price && other.capacity.every((amount, r) => amount >= (offer.capacity[r] ?? 0))
    && (other.price < offer.price || other.capacity.some((amount, r) => amount > (offer.capacity[r] ?? 0)) || j < i)));
}

/** How many pods of a class an empty node of an offer holds. */
export function fitOf({ requests, perNode, feasible }: PodClass, { capacity, index }: Offer): number {
  if (!feasible[index]) return 0;
  let fit = perNode;
  requests.forEach((amount, r) => { if (amount > 0) fit = Math.min(fit, Math.floor((capacity[r] ?? 0) / amount + 1e-9)); });
  return fit;
}

/**
 * The cheapest whole nodes that hold a class alone: exact, by dynamic programming over pods left to place (unbounded knapsack
 * covering). O(pods · offers).
 */
export function cheapestCover(only: PodClass, offers: readonly Offer[]): { cost: number; nodes: { offer: Offer; pods: number }[] } | null {
  const options = offers.map((offer) => ({ offer, fit: Math.min(only.pods.length, fitOf(only, offer)) })).filter(({ fit }) => fit > 0)
    .sort((a, b) => a.fit - b.fit || a.offer.price - b.offer.price);
  const useful = options.filter(({ fit, offer }, i) => !options.some((other, j) => j !== i && other.fit >= fit && (other.offer.price < offer.price || (other.offer.price === offer.price && (other.fit > fit || j < i)))));
  if (useful.length === 0) return null;
  const count = only.pods.length;
  const cost = new Float64Array(count + 1);
  const choice = new Int32Array(count + 1);
  for (let n = 1; n <= count; n++) {
    cost[n] = Infinity;
    useful.forEach(({ offer, fit }, i) => {
      const total = offer.price + (cost[Math.max(0, n - fit)] ?? 0);
      if (total < (cost[n] ?? Infinity)) {
        cost[n] = total;
        choice[n] = i;
      }
    });
  }
  const nodes: { offer: Offer; pods: number }[] = [];
  for (let n = count; n > 0;) {
    const option = useful[choice[n] ?? 0];
    if (!option) break;
    nodes.push({ offer: option.offer, pods: Math.min(n, option.fit) });
    n -= option.fit;
  }
  return { cost: cost[count] ?? 0, nodes };
}

/** Pods that keep apart need a node each, of the cheapest that holds one. */
function leastNodes(each: PodClass, offers: readonly Offer[]): number {
  if (each.perNode === Infinity) return 0;
  const cheapest = Math.min(...offers.filter(({ index }) => each.feasible[index]).map(({ price }) => price));
  return Number.isFinite(cheapest) ? Math.ceil(each.pods.length / each.perNode) * cheapest * SAFE : 0;
}

/** max over resources of Σ requests · min over offers price / capacity. */
function simplestBound({ classes, offers, resources }: Problem): number {
  const admissions = [...new Map(classes.map(({ admission, feasible }) => [admission, feasible])).values()];
  const used = offers.filter(({ index }) => admissions.some((feasible) => feasible[index]));
  return Math.max(0, ...resources.map((_, r) => {
    const asked = classes.reduce((sum, { requests, pods }) => sum + (requests[r] ?? 0) * pods.length, 0);
    const cheapest = Math.min(...used.filter(({ capacity }) => (capacity[r] ?? 0) > 0).map(({ price, capacity }) => price / (capacity[r] ?? 1)));
    return asked > 0 && Number.isFinite(cheapest) ? asked * cheapest * SAFE : 0;
  }));
}
