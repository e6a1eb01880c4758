import { HOSTNAME, matches, refusal, repel, ZONE, type Amounts, type DaemonSetPod, type NodeOffer, type Pod, type Spread } from './model.js';

/**
 * Pods as classes of like ones. Pods of a class ask for the same, may run on the same offers and keep apart from the same
 * others, so that a node's content is a count by class.
 */
export interface PodClass {
  readonly index: number;
  /** Amounts by resource index. */
  readonly requests: Float64Array;
  readonly pods: readonly Pod[];
  /** By offer index: may it run there, resources of an empty node included. */
  readonly feasible: Uint8Array;
  /** Equal for classes that may run on the same offers. */
  readonly admission: string;
  /** Most pods of this class on one node. */
  readonly perNode: number;
  /** Classes that must not share a node with it (itself is told by `perNode`). */
  readonly conflicts: readonly number[];
  /** Spread groups over nodes: at most `limit` pods of a group on a node. */
  readonly groups: readonly number[];
}

export interface Offer {
  readonly index: number;
  readonly offer: NodeOffer;
  readonly price: number;
  /** Allocatable less what daemon sets take, by resource index. */
  readonly capacity: Float64Array;
}

export interface Problem {
  readonly resources: readonly string[];
  readonly classes: readonly PodClass[];
  readonly offers: readonly Offer[];
  /** Limit of each spread group. */
  readonly groupLimits: readonly number[];
  readonly unplaceable: readonly { readonly podId: string; readonly reason: string }[];
}

/** Pods less than this apart in an amount are alike; far below a millicore and a byte. */
const EPSILON = 1e-9;

/**
 * Classes, offers and conflicts of a fleet. Spread over zones and anti-affinity between zones are settled here, by giving each
 * such pod a zone (in turn over the zones that admit it, so that counts differ by one at most); spread over nodes becomes a
 * most-per-node of `maxSkew`, which holds whatever the emptiest node has. O(pods + kinds · offers + conflicts).
 */
export function buildProblem(pods: readonly Pod[], offers: readonly NodeOffer[], daemonSets: readonly DaemonSetPod[]): Problem {
  const resources = [...new Set(['cpu', 'memory', 'pods', ...pods.flatMap((pod) => Object.keys(pod.requests)), ...daemonSets.flatMap((pod) => Object.keys(pod.requests))])];
  const vector = (amounts: Amounts) => Float64Array.from(resources, (resource) => amounts[resource] ?? 0);
  const demand = (pod: Pod) => vector({ ...pod.requests, pods: 1 });
  const bought: Offer[] = offers.map((offer, index) => {
    const capacity = vector(offer.allocatable);
    for (const pod of daemonSets) {
      if (refusal(pod, offer) === null) demand(pod).forEach((amount, r) => { capacity[r] = (capacity[r] ?? 0) - amount; });
    }
    return { index, offer, price: offer.pricePerHour, capacity };
  });
  const unplaceable: { podId: string; reason: string }[] = [];
  const admitted = new Map<string, (string | null)[]>();
  const refusals = (pod: Pod) => remembered(admitted, constraintKey(pod), () => offers.map((offer) => refusal(pod, offer)));
  const placed = assignZones(pods, offers, refusals, unplaceable);

  // Offers of one type in several zones hold the same.
  const shapes = new Map<string, number>();
  const shapeOf = bought.map(({ capacity }) => remembered(shapes, capacity.join(), () => shapes.size));
  const capacities = [...shapes.keys()].map((_, shape) => bought[shapeOf.indexOf(shape)]?.capacity);
  const apart = keepApart(placed);
  const drafts = new Map<string, { pods: Pod[]; kind: Kind; feasible: Uint8Array; admission: string; requests: Float64Array }>();
  const fits = new Map<string, { feasible: Uint8Array; admission: string }>();
  const admissions = new Map<string, { feasible: Uint8Array; admission: string }>();
  for (const pod of placed) {
    const requests = demand(pod);
    const own = constraintKey(pod);
    const { feasible, admission } = remembered(fits, `${own}|${requests.join()}`, () => {
      const holding = Uint8Array.from(capacities, (capacity) => (covers(capacity, requests) ? 1 : 0));
      return remembered(admissions, `${own}|${packed(holding)}`, () => {
        const may = Uint8Array.from(refusals(pod), (why, o) => (why === null ? (holding[shapeOf[o] ?? 0] ?? 0) : 0));
        return { feasible: may, admission: packed(may) };
      });
    });
    if (!feasible.includes(1)) {
      unplaceable.push({ podId: pod.id, reason: reasonOf(refusals(pod), bought, requests, resources) });
      continue;
    }
    const kind = apart.kindOf(pod);
    const key = `${kind.id}|${requests.join()}|${admission}`;
    const draft = drafts.get(key);
    if (draft) draft.pods.push(pod);
    else drafts.set(key, { pods: [pod], kind, feasible, admission, requests });
  }
  const list = [...drafts.values()];
  const ofKind = new Map<number, number[]>();
  list.forEach(({ kind }, index) => remembered(ofKind, kind.id, () => []).push(index));
  const classes = list.map(({ pods: own, kind, feasible, admission, requests }, index): PodClass => ({
    index, requests, pods: own, feasible, admission, perNode: kind.repelled.has(kind.id) ? 1 : Infinity,
    conflicts: [...kind.repelled].flatMap((other) => ofKind.get(other) ?? []).filter((other) => other !== index), groups: kind.groups,
  }));
  return { resources, classes, offers: bought, groupLimits: apart.groupLimits, unplaceable };
}

function remembered<K, T>(cache: Map<K, T>, key: K, make: () => T): T {
  const known = cache.get(key);
  if (known !== undefined) return known;
  const made = make();
  cache.set(key, made);
  return made;
}

/** Flags as short text, sixteen a character. */
function packed(flags: Uint8Array): string {
  let text = '';
  for (let at = 0; at < flags.length; at += 16) {
    let bits = 0;
    for (let i = 0; i < 16; i++) bits |= (flags[at + i] ?? 0) << i;
    text += String.fromCharCode(bits);
  }
  return text;
}

/** What decides on which offers a pod may run. */
function constraintKey(pod: Pod): string {
  return JSON.stringify([pod.architectures, pod.operatingSystems, pod.nodeSelector, pod.nodeAffinity, pod.tolerations, pod.zones]);
}

/** Whether an amount of everything covers another. */
export function covers(capacity: Float64Array | undefined, requests: Float64Array): boolean {
  if (capacity === undefined) return false;
  for (let r = 0; r < requests.length; r++) if ((requests[r] ?? 0) > (capacity[r] ?? 0) + EPSILON) return false;
  return true;
}

function reasonOf(refused: readonly (string | null)[], offers: readonly Offer[], requests: Float64Array, resources: readonly string[]): string {
  const allowed = offers.filter((_, o) => refused[o] === null);
  if (allowed.length === 0) return `no node type admits it: ${[...new Set(refused)].join(', ')}`;
  const short = resources.filter((_, r) => !allowed.some(({ capacity }) => (requests[r] ?? 0) <= (capacity[r] ?? 0) + EPSILON));
  return short.length > 0 ? `no node type that admits it has so much ${short.join(', ')}` : 'no single node type has all that it asks for';
}

/** A spread constraint with the namespace in which it counts, and how many pods it counts in each zone so far. */
interface ZoneGroup {
  readonly namespace: string;
  readonly spread: Spread;
  readonly counts: Map<string, number>;
}

/**
 * Gives a zone to every pod that spreads over zones, is counted by such a spread, or is kept out of zones by anti-affinity.
 * O(pods · zones) besides a look at each kind of pod.
 */
function assignZones(pods: readonly Pod[], offers: readonly NodeOffer[], refusals: (pod: Pod) => (string | null)[], unplaceable: { podId: string; reason: string }[]): Pod[] {
  const groups = new Map<string, ZoneGroup>();
  const keepers = new Map<string, Pod>();
  for (const pod of pods) {
    for (const spread of spreadsOver(pod, ZONE)) groups.set(groupKey(pod, spread), { namespace: pod.namespace ?? '', spread, counts: new Map() });
    if ((pod.antiAffinity ?? []).some(({ topologyKey }) => topologyKey === ZONE)) keepers.set(identityKey(pod), pod);
  }
  if (groups.size === 0 && keepers.size === 0) return [...pods];
  const kinds = new Map<string, { counted: ZoneGroup[]; kept: boolean; zones: string[] }>();
  const settled = new Map<string, { pod: Pod; zones: Set<string> }>();
  return pods.flatMap((pod) => {
    const identity = identityKey(pod);
    const kind = remembered(kinds, `${identity}|${constraintKey(pod)}`, () => {
      const refused = refusals(pod);
      return {
        counted: [...groups.values()].filter(({ namespace, spread }) => namespace === (pod.namespace ?? '') && matches(spread.selector, pod.labels ?? {})),
        kept: [...keepers.values()].some((keeper) => repel(keeper, pod, ZONE)),
        zones: [...new Set(offers.filter((_, o) => refused[o] === null).map(({ zone }) => zone))].sort(),
      };
    });
    const own = spreadsOver(pod, ZONE).map((spread) => groups.get(groupKey(pod, spread))).filter((group) => group !== undefined);
    if (kind.counted.length === 0 && !kind.kept && own.length === 0) return [pod];
    const crowd = (group: ZoneGroup, zone: string) => group.counts.get(zone) ?? 0;
    const taken = kind.kept ? [...settled.values()].filter((other) => repel(pod, other.pod, ZONE)) : [];
    const allowed = kind.zones.filter((zone) => !taken.some((other) => other.zones.has(zone)) && own.every((group) => {
      const emptiest = Math.min(...kind.zones.map((each) => crowd(group, each)));
      return crowd(group, zone) + (kind.counted.includes(group) ? 1 : 0) - emptiest <= group.spread.maxSkew;
    }));
    const total = (zone: string) => kind.counted.reduce((sum, group) => sum + crowd(group, zone), 0);
    const zone = allowed.reduce<string | undefined>((best, each) => (best === undefined || total(each) < total(best) ? each : best), undefined);
    if (zone === undefined) {
      unplaceable.push({ podId: pod.id, reason: kind.zones.length === 0 ? `no node type admits it: ${[...new Set(refusals(pod))].join(', ')}` : 'no zone is left to keep it apart from others' });
      return [];
    }
    for (const group of kind.counted) group.counts.set(zone, crowd(group, zone) + 1);
    remembered(settled, identity, () => ({ pod, zones: new Set<string>() })).zones.add(zone);
    return [{ ...pod, zones: [zone] }];
  });
}

function spreadsOver(pod: Pod, topologyKey: string): Spread[] {
  return (pod.spread ?? []).filter((spread) => spread.topologyKey === topologyKey);
}

function groupKey(pod: Pod, spread: Spread): string {
  return JSON.stringify([pod.namespace, spread]);
}

/** What a pod is to others: pods of one kind are kept apart from the same others and counted by the same spreads. */
interface Kind {
  readonly id: number;
  /** Kinds with which it must not share a node, itself included where its own replicas keep apart. */
  readonly repelled: Set<number>;
  readonly groups: readonly number[];
}

/** Who must not share a node with whom. Kind 0 is everybody of whom nobody asks anything. */
function keepApart(pods: readonly Pod[]): { kindOf: (pod: Pod) => Kind; groupLimits: readonly number[] } {
  const nobody: Kind = { id: 0, repelled: new Set(), groups: [] };
  if (!pods.some((pod) => pod.antiAffinity?.length || pod.spread?.length)) return { kindOf: () => nobody, groupLimits: [] };
  const groups = new Map<string, { namespace: string; spread: Spread }>();
  const examples = new Map<string, Pod>();
  for (const pod of pods) {
    for (const spread of spreadsOver(pod, HOSTNAME)) groups.set(groupKey(pod, spread), { namespace: pod.namespace ?? '', spread });
    examples.set(identityKey(pod), pod);
  }
  const limits = [...groups.values()];
  const kinds = new Map<string, Kind>();
  // Kinds by each of their labels, so that a term looks at those alone that can match it.
  const byLabel = new Map<string, { kind: Kind; pod: Pod }[]>();
  const byNamespace = new Map<string, { kind: Kind; pod: Pod }[]>();
  for (const [identity, pod] of examples) {
    const counted = limits.flatMap(({ namespace, spread }, g) => (namespace === (pod.namespace ?? '') && matches(spread.selector, pod.labels ?? {}) ? [g] : []));
    const kind: Kind = { id: kinds.size + 1, repelled: new Set(), groups: counted };
    kinds.set(identity, kind);
    remembered(byNamespace, pod.namespace ?? '', () => []).push({ kind, pod });
    for (const [key, value] of Object.entries(pod.labels ?? {})) remembered(byLabel, JSON.stringify([pod.namespace ?? '', key, value]), () => []).push({ kind, pod });
  }
  for (const [identity, pod] of examples) {
    const own = kinds.get(identity);
    if (!own) continue;
    for (const term of pod.antiAffinity ?? []) {
      if (term.topologyKey !== HOSTNAME) continue;
      const [pair] = Object.entries(term.selector.matchLabels ?? {});
      for (const namespace of term.namespaces ?? [pod.namespace ?? '']) {
        const candidates = pair ? byLabel.get(JSON.stringify([namespace, ...pair])) : byNamespace.get(namespace);
        for (const { kind, pod: other } of candidates ?? []) {
          if (!matches(term.selector, other.labels ?? {})) continue;
          own.repelled.add(kind.id);
          kind.repelled.add(own.id);
        }
      }
    }
  }
  return {
    groupLimits: limits.map(({ spread }) => spread.maxSkew),
    kindOf: (pod) => {
      const kind = kinds.get(identityKey(pod));
      return kind && (kind.repelled.size > 0 || kind.groups.length > 0) ? kind : nobody;
    },
  };
}

function identityKey(pod: Pod): string {
  return JSON.stringify([pod.namespace, pod.labels, pod.antiAffinity, pod.spread]);
}
