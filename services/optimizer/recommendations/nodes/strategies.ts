import { costOf, downsize, NodeState } from './state.js';
import type { Offer, PodClass, Problem } from './problem.js';

/** The part of a problem that has nothing to do with the rest: its classes, and its offers by rising price. */
export interface Part {
  readonly problem: Problem;
  readonly classes: readonly PodClass[];
  readonly offers: readonly Offer[];
  /** What a pod of each class of the problem is worth (bound.ts). */
  readonly values: Float64Array;
}

/** Classes from the largest down, by one measure; by position, the least of each resource that a class from there on asks for. */
export interface Decreasing {
  readonly classes: readonly PodClass[];
  readonly least: readonly Float64Array[];
}

export function decreasingBy(classes: readonly PodClass[], size: (each: PodClass) => number): Decreasing {
  const sorted = classes.map((each) => ({ each, size: size(each) })).sort((a, b) => b.size - a.size || a.each.index - b.each.index).map(({ each }) => each);
  const least: Float64Array[] = [];
  for (let at = sorted.length - 1; at >= 0; at--) {
    const requests = sorted[at]?.requests ?? new Float64Array(0);
    const below = least[at + 1];
    least[at] = below ? Float64Array.from(below, (amount, r) => Math.min(amount, requests[r] ?? 0)) : requests;
  }
  return { classes: sorted, least };
}

/** Which offer a new node is: the first of these that will do, else the cheapest that holds the pod. */
export type Opening = readonly Offer[];

/** Offers that hold and cost the same, in other zones or of another architecture, by rising price. */
export function likeOffers(offers: readonly Offer[]): Offer[][] {
  const groups = new Map<string, Offer[]>();
  for (const offer of offers) {
    const key = `${offer.price}|${offer.capacity.join()}`;
    const group = groups.get(key);
    if (group) group.push(offer);
    else groups.set(key, [offer]);
  }
  return [...groups.values()];
}

/**
 * First-fit decreasing (Johnson, 1973) over node types: classes from the largest down, each pod into the first node with room,
 * else into a new node. Like pods are placed together, which is the same as one by one. Gives up, answering null, once it
 * costs more than `ceiling`. O(classes · log nodes) where nothing keeps apart.
 */
export function firstFitDecreasing(part: Part, { classes, least }: Decreasing, opening: Opening, ceiling: number): NodeState[] | null {
  const nodes = new FirstFit(part.problem.resources.length);
  let cost = 0;
  for (const [position, each] of classes.entries()) {
    nodes.least = least[position] ?? nodes.least;
    let left = each.pods.length;
    for (let at = nodes.find(each, 0); at >= 0 && left > 0; at = nodes.find(each, at + 1)) {
      const taken = Math.min(left, nodes.list[at]?.room(each) ?? 0);
      if (taken > 0) {
        nodes.list[at]?.add(each, taken);
        nodes.update(at);
        left -= taken;
      }
    }
    while (left > 0) {
      const offer = opening.find(({ index }) => each.feasible[index]) ?? part.offers.find(({ index }) => each.feasible[index]);
      if (!offer || (cost += offer.price) > ceiling) return null;
      const node = new NodeState(part.problem, offer);
      const taken = Math.min(left, node.room(each));
      if (taken === 0) return null;
      node.add(each, taken);
      left -= taken;
      nodes.push(node);
    }
  }
  return nodes.list;
}

/** Nodes in the order in which they were opened, with a tree of the largest free amounts to find the first that may have room. */
class FirstFit {
  readonly list: NodeState[] = [];
  /** The least that anything still to come asks for, by resource: a node with less free of one is full. */
  least: Float64Array = new Float64Array(0);
  private leaves = 1;
  /** By resource: a heap-shaped tree of maxima; leaf i is at leaves + i. */
  private trees: Float64Array[];

  constructor(private readonly width: number) {
    this.trees = this.empty();
  }

  private empty(): Float64Array[] {
    return Array.from({ length: this.width }, () => new Float64Array(2 * this.leaves).fill(-1));
  }

  push(node: NodeState): void {
    this.list.push(node);
    if (this.list.length > this.leaves) {
      this.leaves *= 2;
      this.trees = this.empty();
      for (let at = 0; at < this.list.length; at++) this.update(at);
    } else {
      this.update(this.list.length - 1);
    }
  }

  update(index: number): void {
    const node = this.list[index];
    if (!node) return;
    let full = false;
    for (let r = 0; r < this.width; r++) if (node.free(r) + 1e-9 < (this.least[r] ?? 0)) full = true;
    this.trees.forEach((tree, r) => {
      let at = this.leaves + index;
      tree[at] = full ? -1 : node.free(r);
      for (at >>= 1; at >= 1; at >>= 1) tree[at] = Math.max(tree[2 * at] ?? -1, tree[2 * at + 1] ?? -1);
    });
  }

  /** The first node from `from` on with the resources for one pod; -1 where there is none. */
  find(each: PodClass, from: number): number {
    return from >= this.list.length ? -1 : this.descend(1, 0, this.leaves, each.requests, from);
  }

  private descend(at: number, low: number, size: number, requests: Float64Array, from: number): number {
    if (low + size <= from) return -1;
    for (let r = 0; r < this.width; r++) if ((requests[r] ?? 0) > (this.trees[r]?.[at] ?? -1) + 1e-9) return -1;
    if (size === 1) return low;
    const half = size >> 1;
    const first = this.descend(2 * at, low, half, requests, from);
    return first >= 0 ? first : this.descend(2 * at + 1, low + half, half, requests, from);
  }
}

const DIRECTIONS = 16;
const LOOKS = 12;
/** What a content that mixes resources unlike the rest is marked up by, per unit of distance between mixes. */
const MIX_PRICE = 0.1;

/** Classes of one shelf and direction, with the first that may still fit the node being filled. */
interface List {
  readonly classes: readonly PodClass[];
  at: number;
}

/** Classes that may run on the same offers, by the direction of their request, largest first. */
interface Shelf {
  readonly feasible: Uint8Array;
  readonly directions: PodClass[][];
}

/**
 * Fills nodes one after the other. Of the offers that compete, each is filled on trial with what is left, largest first among
 * the classes whose mix of resources is nearest to what is still free; the one that costs least per value packed is kept, and
 * kept again for as long as the same content is left. O(pods · offers · looks + nodes · classes).
 */
export class Filler {
  /** Looks at a class so far: what it cost. */
  effort = 0;
  private readonly weights: Float64Array;
  /** Size of a pod of each class: its shares of the whole demand, added up. What fits is never larger than what is free. */
  private readonly sizes: Float64Array;
  private readonly worths: Float64Array;
  private readonly bySize: readonly PodClass[];
  private readonly groups: readonly Offer[][];
  private shelves: Shelf[] = [];
  /** By class: the last filling whose node had no room for it. */
  private readonly refused: Int32Array;
  private filling = 0;
  /** The least that any class with pods left asks for, by resource. */
  private least = new Float64Array(0);
  /** What the classes with pods left ask for in all, by resource. */
  private remaining = new Float64Array(0);

  constructor(private readonly part: Part) {
    const width = part.problem.resources.length;
    this.weights = new Float64Array(width);
    for (const { requests, pods } of part.classes) requests.forEach((amount, r) => { this.weights[r] = (this.weights[r] ?? 0) + amount * pods.length; });
    this.weights.forEach((total, r) => { this.weights[r] = total > 0 ? 1 / total : 0; });
    this.sizes = new Float64Array(part.problem.classes.length);
    this.worths = new Float64Array(part.problem.classes.length);
    this.refused = new Int32Array(part.problem.classes.length);
    for (const { index, requests } of part.classes) {
      this.sizes[index] = requests.reduce((sum, amount, r) => sum + amount * (this.weights[r] ?? 0), 0);
      // Where the bound gives a pod no value, its size decides between equals.
      this.worths[index] = (part.values[index] ?? 0) + 1e-9 * (this.sizes[index] ?? 0);
    }
    this.groups = likeOffers(part.offers);
    this.bySize = [...part.classes].sort((a, b) => (this.sizes[b.index] ?? 0) - (this.sizes[a.index] ?? 0) || a.index - b.index);
  }

  /** Where amounts lie between all of the first resource (CPU), 0, and all of the second (memory), 1. */
  private mix(amount: (resource: number) => number): number {
    const first = Math.max(0, amount(0)) * (this.weights[0] ?? 0);
    const second = Math.max(0, amount(1)) * (this.weights[1] ?? 0);
    return first + second > 0 ? second / (first + second) : 0;
  }

  private direction(amount: (resource: number) => number): number {
    return Math.min(DIRECTIONS - 1, Math.floor(this.mix(amount) * DIRECTIONS));
  }

  /** Puts the classes with pods left on their shelves. */
  private sort(live: readonly PodClass[]): void {
    const shelves = new Map<string, Shelf>();
    this.least = new Float64Array(this.weights.length).fill(Infinity);
    for (const each of live) {
      let shelf = shelves.get(each.admission);
      if (!shelf) {
        shelf = { feasible: each.feasible, directions: Array.from({ length: DIRECTIONS }, () => []) };
        shelves.set(each.admission, shelf);
      }
      shelf.directions[this.direction((r) => each.requests[r] ?? 0)]?.push(each);
      for (let r = 0; r < this.least.length; r++) this.least[r] = Math.min(this.least[r] ?? Infinity, each.requests[r] ?? 0);
    }
    this.shelves = [...shelves.values()];
  }

  /** Puts what is left of the classes into a node; answers the value put in. `left` is counted down. */
  private fill(node: NodeState, left: Int32Array): number {
    const lists: List[][] = Array.from({ length: DIRECTIONS }, () => []);
    for (const { feasible, directions } of this.shelves) {
      if (feasible[node.offer.index]) directions.forEach((classes, at) => { if (classes.length > 0) lists[at]?.push({ classes, at: 0 }); });
    }
    this.filling++;
    let value = 0;
    for (;;) {
      const chosen = this.nearest(node, lists, left);
      if (!chosen) return value;
      const count = left[chosen.index] ?? 0;
      const room = Math.min(count, node.room(chosen));
      const taken = Math.max(1, room >> 2);
      node.add(chosen, taken);
      left[chosen.index] = count - taken;
      value += taken * (this.worths[chosen.index] ?? 0);
    }
  }

  /** The largest class that fits, of the direction nearest to what is free. */
  private nearest(node: NodeState, lists: readonly (readonly List[])[], left: Int32Array): PodClass | null {
    let free = 0;
    for (let r = 0; r < this.weights.length; r++) {
      const amount = node.free(r);
      if (amount + 1e-9 < (this.least[r] ?? 0)) return null;
      free += amount * (this.weights[r] ?? 0);
    }
    const wanted = this.direction((r) => node.free(r));
    for (let step = 0; step < 2 * DIRECTIONS; step++) {
      const at = wanted + (step % 2 === 1 ? (step + 1) >> 1 : -(step >> 1));
      if (at < 0 || at >= DIRECTIONS || lists[at]?.length === 0) continue;
      let best: PodClass | null = null;
      for (const list of lists[at] ?? []) {
        const found = this.largestIn(list, free, node, left);
        if (found && (!best || (this.sizes[found.index] ?? 0) > (this.sizes[best.index] ?? 0))) best = found;
      }
      if (best) return best;
    }
    return null;
  }

  /** What a node has no room for now it has no room for later: free only shrinks, and who is kept out stays out. */
  private largestIn(list: List, free: number, node: NodeState, left: Int32Array): PodClass | null {
    const { classes } = list;
    const out = (index: number) => this.refused[index] === this.filling || left[index] === 0;
    for (let each = classes[list.at]; each && (out(each.index) || (this.sizes[each.index] ?? 0) > free * (1 + 1e-9)); each = classes[list.at]) list.at++;
    let looks = 0;
    for (let at = list.at; at < classes.length && looks < LOOKS; at++) {
      const each = classes[at];
      if (!each || out(each.index)) continue;
      looks++;
      if (node.room(each) > 0) {
        this.effort += looks;
        return each;
      }
      this.refused[each.index] = this.filling;
      // Further down by steps that grow: the small ones are what may still fit.
      if (looks > LOOKS / 2) at += (classes.length - at) >> 2;
    }
    this.effort += looks;
    return null;
  }

  /** Packs `left` into new nodes of at most `ceiling` an hour each (dearer where a pod fits on none); null where one cannot go anywhere, or where it costs more than `most`. */
  pack(left: Int32Array, ceiling: number, most: number): NodeState[] | null {
    const nodes: NodeState[] = [];
    let live = this.bySize.filter(({ index }) => (left[index] ?? 0) > 0);
    let classes = live.length;
    let valueLeft = live.reduce((sum, { index }) => sum + (this.worths[index] ?? 0) * (left[index] ?? 0), 0);
    let cost = 0;
    this.remaining = new Float64Array(this.weights.length);
    for (const { index, requests } of live) requests.forEach((amount, r) => { this.remaining[r] = (this.remaining[r] ?? 0) + amount * (left[index] ?? 0); });
    const affordable = this.groups.filter(([offer]) => offer !== undefined && offer.price <= ceiling);
    const large = affordable.filter(([offer]) => offer !== undefined && offer.price > ceiling / 1.5);
    this.sort(live);
    while (classes > 0) {
      // What is left must cost its value at least.
      if (cost + valueLeft * (1 - 1e-6) > most) return null;
      if (classes < 0.8 * live.length) {
        live = live.filter(({ index }) => (left[index] ?? 0) > 0);
        this.sort(live);
      }
      const best = (valueLeft > 1.5 * ceiling ? this.best(large, left) : null) ?? this.best(affordable, left) ?? this.best(this.groups, left);
      if (!best) return null;
      let times = Infinity;
      for (const [index, count] of best.node.counts) times = Math.min(times, Math.floor((left[index] ?? 0) / count));
      cost += times * best.node.offer.price;
      for (let i = 0; i < times; i++) nodes.push(i === 0 ? best.node : best.node.copy());
      for (const [index, count] of best.node.counts) {
        left[index] = (left[index] ?? 0) - count * times;
        if (left[index] === 0) classes--;
      }
      valueLeft -= best.value * times;
      for (let r = 0; r < this.remaining.length; r++) this.remaining[r] = (this.remaining[r] ?? 0) - times * (best.node.used[r] ?? 0);
    }
    return nodes;
  }

  /** Of offers that are alike but for the pods they admit, the one that admits most of what is left. O(classes + offers · shelves). */
  private mostAdmitting(groups: readonly Offer[][], left: Int32Array): Offer[] {
    if (groups.every((group) => group.length === 1)) return groups.flat();
    const worths = this.shelves.map(({ directions }) => directions.reduce((sum, classes) =>
      classes.reduce((own, { index }) => own + (left[index] ?? 0) * (this.worths[index] ?? 0), sum), 0));
    return groups.flatMap((group) => {
      let most = 0;
      let chosen: Offer[] = [];
      for (const offer of group) {
        const admitted = this.shelves.reduce((sum, { feasible }, shelf) => sum + (feasible[offer.index] ? (worths[shelf] ?? 0) : 0), 0);
        if (admitted > most) {
          most = admitted;
          chosen = [offer];
        }
      }
      return chosen;
    });
  }

  /**
   * The offer that costs least per value packed of what is left, filled; null where none takes a pod. Between offers that cost
   * nearly the same, the one whose content mixes resources as what is left does: taking the CPU-heavy pods first would leave
   * memory-heavy ones that no type suits.
   */
  private best(groups: readonly Offer[][], left: Int32Array): { node: NodeState; value: number } | null {
    let best: { node: NodeState; value: number } | null = null;
    let density = Infinity;
    const mixLeft = this.mix((r) => this.remaining[r] ?? 0);
    for (const offer of this.mostAdmitting(groups, left)) {
      const node = new NodeState(this.part.problem, offer);
      const value = this.fill(node, left);
      for (const [index, count] of node.counts) left[index] = (left[index] ?? 0) + count;
      const cost = (offer.price / value) * (1 + MIX_PRICE * Math.abs(this.mix((r) => node.used[r] ?? 0) - mixLeft));
      if (value > 0 && cost < density) {
        density = cost;
        best = { node, value };
      }
    }
    return best;
  }
}

/**
 * Takes the nodes that waste most apart and packs their pods anew, first into what others have free; keeps what is cheaper
 * (ruin and recreate; Schrimpf and others, Journal of Computational Physics 159, 2000). Deterministic; `effort` (looks of the filler) bounds it.
 */
export function improve(part: Part, filler: Filler, start: readonly NodeState[], ceilings: readonly number[], effort: number): NodeState[] {
  const budget = filler.effort + effort;
  let nodes = [...start];
  downsize(nodes, part.offers);
  let misses = 0;
  const waste = (node: NodeState) => node.offer.price - [...node.counts].reduce((sum, [index, count]) => sum + count * (part.values[index] ?? 0), 0);
  while (filler.effort < budget && misses < 24 && nodes.length > 1) {
    const ranked = nodes.map((node) => ({ node, waste: waste(node) })).sort((a, b) => b.waste - a.waste);
    const count = Math.min(nodes.length, 1 + (misses % 6) * 2);
    // Each miss looks further down the ranking.
    const skip = Math.min(nodes.length - count, Math.floor(misses / 6) * count);
    const ruined = new Set(ranked.slice(skip, skip + count).map(({ node }) => node));
    const left = new Int32Array(part.problem.classes.length);
    for (const node of ruined) for (const [index, pods] of node.counts) left[index] = (left[index] ?? 0) + pods;
    const kept = nodes.filter((node) => !ruined.has(node)).map((node) => node.copy());
    for (const each of [...part.classes].filter(({ index }) => (left[index] ?? 0) > 0).sort((a, b) => (part.values[b.index] ?? 0) - (part.values[a.index] ?? 0))) {
      for (const node of kept) {
        const taken = Math.min(left[each.index] ?? 0, node.room(each));
        if (taken > 0) {
          node.add(each, taken);
          left[each.index] = (left[each.index] ?? 0) - taken;
        }
        if (left[each.index] === 0) break;
      }
    }
    const before = costOf([...ruined]);
    let best: NodeState[] | null = null;
    const dearest = Math.max(...[...ruined].map(({ offer }) => offer.price));
    for (const ceiling of ceilings) {
      if (ceiling > 4 * dearest || ceiling < dearest / 4) continue;
      const packed = filler.pack(left.slice(), ceiling, best ? costOf(best) : before);
      if (!packed) continue;
      downsize(packed, part.offers);
      if (costOf(packed) < (best ? costOf(best) : before) - 1e-9) best = packed;
    }
    if (best) {
      nodes = [...kept, ...best];
      misses = 0;
    } else {
      misses++;
    }
  }
  return nodes;
}
