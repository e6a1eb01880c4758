import type { Offer, PodClass, Problem } from './problem.js';

const EPSILON = 1e-9;

/** A node under construction: how many pods of each class it holds and what is still free. */
export class NodeState {
  readonly counts = new Map<number, number>();
  readonly used: Float64Array;
  private readonly groupCounts = new Map<number, number>();

  constructor(private readonly problem: Problem, public offer: Offer) {
    this.used = new Float64Array(problem.resources.length);
  }

  free(resource: number): number {
    return (this.offer.capacity[resource] ?? 0) - (this.used[resource] ?? 0);
  }

  /** How many more pods of a class it takes. O(resources + conflicts). */
  room(each: PodClass): number {
    if (!each.feasible[this.offer.index]) return 0;
    let room = each.perNode - (each.perNode === Infinity ? 0 : (this.counts.get(each.index) ?? 0));
    const { requests } = each;
    for (let r = 0; r < requests.length; r++) {
      const amount = requests[r] ?? 0;
      if (amount > 0) room = Math.min(room, Math.floor(this.free(r) / amount + EPSILON));
      if (room <= 0) return 0;
    }
    for (const group of each.groups) room = Math.min(room, (this.problem.groupLimits[group] ?? Infinity) - (this.groupCounts.get(group) ?? 0));
    for (const other of each.conflicts) if ((this.counts.get(other) ?? 0) > 0) return 0;
    return Math.max(0, room);
  }

  /** Adds pods (takes them away where `count` is negative). The caller has asked for room. */
  add(each: PodClass, count: number): void {
    const left = (this.counts.get(each.index) ?? 0) + count;
    if (left === 0) this.counts.delete(each.index);
    else this.counts.set(each.index, left);
    for (let r = 0; r < this.used.length; r++) this.used[r] = (this.used[r] ?? 0) + count * (each.requests[r] ?? 0);
    for (const group of each.groups) this.groupCounts.set(group, (this.groupCounts.get(group) ?? 0) + count);
  }

  /** Whether an offer would hold all that it holds. */
  fitsOn(offer: Offer): boolean {
    for (let r = 0; r < this.used.length; r++) if ((this.used[r] ?? 0) > (offer.capacity[r] ?? 0) + EPSILON) return false;
    for (const index of this.counts.keys()) if (!this.problem.classes[index]?.feasible[offer.index]) return false;
    return true;
  }

  copy(): NodeState {
    const copy = new NodeState(this.problem, this.offer);
    for (const [index, count] of this.counts) copy.counts.set(index, count);
    for (const [group, count] of this.groupCounts) copy.groupCounts.set(group, count);
    copy.used.set(this.used);
    return copy;
  }
}

export function costOf(nodes: readonly NodeState[]): number {
  return nodes.reduce((sum, node) => sum + node.offer.price, 0);
}

/** Gives every node the cheapest offer that holds what it holds. `offers` by rising price. */
export function downsize(nodes: readonly NodeState[], offers: readonly Offer[]): void {
  for (const node of nodes) {
    const cheaper = offers.find((offer) => offer.price >= node.offer.price || node.fitsOn(offer));
    if (cheaper && cheaper.price < node.offer.price) node.offer = cheaper;
  }
}
