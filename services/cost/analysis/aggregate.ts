/**
 * OpenCost's aggregation of cost lines: group by any list of properties, idle kept or shared, shared costs spread, filtered.
 * The semantics are those of `AllocationSet.AggregateBy` (opencost core, pkg/opencost/allocation.go); the arithmetic is ours,
 * in integers, so that what goes in comes out to the nano.
 */
import { apportion } from '../allocation/money.js';
import { aliasValue, defaultAliases, matches, sanitizeKey, type Alias, type AliasLabels, type Filter, type LineProperties } from './filter.js';

/** Costs by kind, in nanos of one currency. */
export interface LineCosts {
  readonly cpu: bigint;
  readonly ram: bigint;
  readonly gpu: bigint;
  readonly pv: bigint;
  readonly network: bigint;
  readonly loadBalancer: bigint;
  /** What others' shared costs put on it. */
  readonly shared: bigint;
  /** Costs outside the cluster. */
  readonly external: bigint;
}

export const noCosts: LineCosts = { cpu: 0n, ram: 0n, gpu: 0n, pv: 0n, network: 0n, loadBalancer: 0n, shared: 0n, external: 0n };

/** What a line is: a container's cost, a node's or cluster's idle cost, volumes and balancers nobody mounts, costs outside. */
export type LineKind = 'container' | 'idle' | 'unmounted' | 'external';

/** A cost over a span of time. Idle lines carry the cluster (and node) that they are idle on. */
export interface CostLine {
  /** Unique in its set: `cluster/node/namespace/pod/container`, `cluster/__idle__`. */
  readonly name: string;
  readonly kind: LineKind;
  readonly properties: LineProperties;
  readonly startMs: number;
  readonly endMs: number;
  readonly costs: LineCosts;
  /** Amounts that add up (cpuCoreHours, ramByteHours, gpuHours, ...), by name; those three are shared along with idle costs. */
  readonly quantities?: Readonly<Record<string, number>>;
}

/** One group of lines. `properties` holds what all its lines have in common. */
export interface AggregatedLine extends CostLine {
  readonly totalNanos: bigint;
}

const properties = [
  'cluster', 'node', 'namespace', 'controllerKind', 'controller', 'pod', 'container', 'service', 'providerID', 'deployment', 'statefulset', 'daemonset', 'job',
  'department', 'environment', 'owner', 'product', 'team',
] as const;
/** What lines can be grouped by: a property, an alias, `label:x` or `annotation:x`. */
export type AggregationProperty = (typeof properties)[number] | `label:${string}` | `annotation:${string}`;

/** A property that lines cannot be grouped by. */
export class UnknownPropertyError extends Error {
  override readonly name = 'UnknownPropertyError';
  constructor(readonly property: string) {
    super(`cannot aggregate by ${JSON.stringify(property)}: known are ${properties.join(', ')}, label:NAME and annotation:NAME`);
  }
}

/** What is done with idle cost: its own line, or shared in proportion to the cost of each resource. OpenCost answers `even` as `none`. */
export type IdleSharing = 'none' | 'even' | 'weighted';

export interface AggregationOptions {
  /** Lines that it does not match are dropped after shares were computed, so that no one else's share grows. */
  readonly filter?: Filter;
  readonly shareIdle?: IdleSharing;
  /** Idle is shared among the lines of its node instead of its cluster. */
  readonly idleByNode?: boolean;
  /** Idle lines stay apart (by cluster or node) instead of one `__idle__`. */
  readonly splitIdle?: boolean;
  /** Lines whose cost the others carry. */
  readonly share?: Filter;
  /** Further costs that all carry (a cluster fee), in nanos. */
  readonly sharedCostNanos?: bigint;
  /** By cost, or the same for every group. */
  readonly shareSplit?: 'even' | 'weighted';
  /** Names with an unallocated part become `__unallocated__`. */
  readonly mergeUnallocated?: boolean;
  readonly aliases?: AliasLabels;
}

const idleName = '__idle__';
const unallocatedName = '__unallocated__';
const unmountedName = '__unmounted__';
const sharedName = '__shared__';
/** The bin of what the filter drops; its share of shared costs is dropped with it. */
const filteredName = '__filtered__';

/** OpenCost's grouping when none is asked for. */
export const defaultAggregation: readonly AggregationProperty[] = ['cluster', 'node', 'namespace', 'pod', 'container'];

/**
 * Reads OpenCost's `aggregate` parameter: a comma list, without regard to case outside label and annotation names; `all` is
 * one group, the empty text a line a container. @throws UnknownPropertyError
 */
export function parseAggregation(text: string): AggregationProperty[] {
  const words = text.split(',').map((word) => word.trim()).filter((word) => word !== '');
  if (words.length === 0) return [...defaultAggregation];
  if (words.length === 1 && words[0] === 'all') return [];
  return words.map((word) => {
    const mapped = /^(label|annotation):(.+)$/.exec(word);
    if (mapped) return `${mapped[1] as 'label' | 'annotation'}:${sanitizeKey((mapped[2] as string).trim())}` as const;
    const known = properties.find((property) => property.toLowerCase() === word.toLowerCase());
    if (!known) throw new UnknownPropertyError(word);
    return known;
  });
}

/** A filter for lines of any of the namespaces. */
export function inNamespaces(namespaces: readonly string[]): Filter {
  return { op: 'or', of: namespaces.map((value) => ({ op: 'equals', field: 'namespace', key: '', value })) };
}

/** The name of the group that a line falls into: its values joined by `/`, `__unallocated__` where it has none. */
export function groupName(line: LineProperties, by: readonly AggregationProperty[], aliases: AliasLabels = defaultAliases): string {
  return by.map((property) => part(line, property, aliases)).join('/');
}

function part(line: LineProperties, property: AggregationProperty, aliases: AliasLabels): string {
  switch (property) {
    case 'cluster': case 'node': case 'namespace': case 'pod': case 'container': return line[property] ?? '';
    case 'providerID': return line.providerId ?? '';
    case 'controllerKind': return line.controllerKind || unallocatedName;
    case 'deployment': case 'statefulset': case 'daemonset': case 'job': return (line.controllerKind === property && line.controller) || unallocatedName;
    case 'controller': return line.controller ? (line.controllerKind ? `${line.controllerKind}:${line.controller}` : line.controller) : unallocatedName;
    case 'service': {
      const first = line.services?.[0];
      if (first === undefined) return unallocatedName;
      return [line.pod, line.namespace, line.container].includes(unmountedName) ? unmountedName : first;
    }
    case 'department': case 'environment': case 'owner': case 'product': case 'team':
      return aliases[property satisfies Alias].split(',').map((label) => aliasValue(line, label.trim()) ?? unallocatedName).join('/');
    default: {
      const [kind, name] = [property.slice(0, property.indexOf(':')), sanitizeKey(property.slice(property.indexOf(':') + 1))];
      return (kind === 'label' ? line.labels : line.annotations)?.[name] ?? unallocatedName;
    }
  }
}

/** The sum of a line's costs. */
export function totalOf(costs: LineCosts): bigint {
  return costs.cpu + costs.ram + costs.gpu + costs.pv + costs.network + costs.loadBalancer + costs.shared + costs.external;
}

const idleKinds = [['cpu', 'cpuCoreHours'], ['ram', 'ramByteHours'], ['gpu', 'gpuHours']] as const;
type IdleKind = (typeof idleKinds)[number][0];

/** Idle cost and hours that a line carries besides its own. */
interface Carried {
  readonly costs: Record<IdleKind, bigint>;
  readonly hours: Record<string, number>;
}

/**
 * Groups lines and sums them. Without a filter the results' total is the lines' total plus the shared cost, to the nano;
 * shares are split by largest remainders. O(n log n) in the lines.
 *
 * Idle is shared per cluster (or node) and resource, in proportion to what each line of it, shared ones included, costs of that
 * resource; where nothing costs any of it, it stays idle. Shared lines, with their idle, are spread over the groups: even counts
 * each group once, weighted goes by its cost before idle. With a filter and idle kept, idle shrinks to what would have been shared
 * with the lines that match. Where there is no group to carry shared costs they stay as `__shared__` (OpenCost would drop them).
 */
export function aggregate(lines: readonly CostLine[], by: readonly AggregationProperty[], options: AggregationOptions = {}): AggregatedLine[] {
  const { filter = { op: 'all' }, share, aliases = defaultAliases, shareSplit = 'weighted', sharedCostNanos = 0n } = options;
  const weighted = options.shareIdle === 'weighted';
  const passes = (line: CostLine): boolean => matches(filter, line.properties, aliases);
  const nameOf = (line: CostLine): string => {
    const name = groupName(line.properties, by, aliases);
    return options.mergeUnallocated && name.includes(unallocatedName) ? unallocatedName : name;
  };

  const idle = lines.filter(({ kind }) => kind === 'idle');
  const external = lines.filter(({ kind }) => kind === 'external');
  const shared = new Set<CostLine>();
  const own: CostLine[] = [];
  for (const line of lines) {
    if (line.kind === 'idle' || line.kind === 'external') continue;
    if (share && matches(share, line.properties, aliases)) shared.add(line);
    else own.push(line);
  }

  const results = new Groups();
  const places = placesOf([...own, ...shared], options.idleByNode ?? false);
  const carried = new Map<CostLine, Carried>();
  for (const line of idle) {
    const place = placeOf(line, options.idleByNode ?? false);
    const hosts = places.get(place) ?? [];
    if (weighted) {
      const left = shareIdleLine(line, hosts, carried);
      if (left && passes(line)) results.add(options.splitIdle ? `${place}/${idleName}` : idleName, left);
    } else {
      const kept = isEverything(filter) || hosts.length === 0 ? line : idleOf(line, hosts, (host) => shared.has(host) || passes(host));
      results.add(options.splitIdle ? line.name : idleName, kept);
    }
  }

  let burden = sharedCostNanos;
  for (const line of shared) burden += totalOf(line.costs) + idleCost(carried.get(line));
  const bearers = new Map<string, bigint>();
  for (const line of own) {
    const passed = passes(line);
    const name = nameOf(line);
    if (passed) results.add(name, withIdle(line, carried.get(line)));
    if (line.kind === 'unmounted') continue;
    const bin = passed ? name : filteredName;
    bearers.set(bin, shareSplit === 'even' ? 1n : (bearers.get(bin) ?? 0n) + totalOf(line.costs) - line.costs.shared);
  }
  spread(burden, bearers, results, lines);
  for (const line of external) if (passes(line)) results.add(nameOf(line), line);
  return results.sorted();
}

/** Puts the shared cost on the groups, by their weights; on `__shared__` where there is none to carry it. */
function spread(burden: bigint, bearers: ReadonlyMap<string, bigint>, results: Groups, lines: readonly CostLine[]): void {
  if (burden === 0n) return;
  const names = [...bearers.keys()];
  let weights = [...bearers.values()].map(positive);
  if (weights.every((weight) => weight === 0n)) weights = names.map(() => 1n);
  if (names.length === 0) {
    const first = lines.reduce((min, { startMs }) => Math.min(min, startMs), Infinity);
    const last = lines.reduce((max, { endMs }) => Math.max(max, endMs), -Infinity);
    results.add(sharedName, { name: sharedName, kind: 'container', properties: { cluster: '' }, startMs: first, endMs: last, costs: { ...noCosts, shared: burden } });
    return;
  }
  const parts = apportion(burden, weights, (a, b) => ((names[a] as string) < (names[b] as string) ? -1 : 1));
  names.forEach((name, i) => {
    if (name !== filteredName) results.share(name, parts[i] as bigint);
  });
}

/** Where a line's idle is shared: its cluster, or its node of its cluster. */
function placeOf({ properties: { cluster, node } }: CostLine, byNode: boolean): string {
  return byNode ? `${cluster}/${node ?? ''}` : cluster;
}

function placesOf(lines: readonly CostLine[], byNode: boolean): Map<string, CostLine[]> {
  return Map.groupBy(lines, (line) => placeOf(line, byNode));
}

/** Shares one idle line among its hosts; what no host has a cost of comes back, null when nothing is left. */
function shareIdleLine(line: CostLine, hosts: readonly CostLine[], carried: Map<CostLine, Carried>): CostLine | null {
  const left: Record<IdleKind, bigint> = { cpu: 0n, ram: 0n, gpu: 0n };
  const leftHours: Record<string, number> = {};
  for (const [kind, hours] of idleKinds) {
    const cost = line.costs[kind];
    const weights = hosts.map((host) => positive(host.costs[kind]));
    const total = weights.reduce((sum, weight) => sum + weight, 0n);
    const amount = line.quantities?.[hours] ?? 0;
    if (total === 0n) {
      left[kind] = cost;
      if (amount !== 0) leftHours[hours] = amount;
      continue;
    }
    const parts = splitSigned(cost, weights, hosts);
    hosts.forEach((host, i) => {
      const own = carried.get(host) ?? { costs: { cpu: 0n, ram: 0n, gpu: 0n }, hours: {} };
      own.costs[kind] += parts[i] as bigint;
      own.hours[hours] = (own.hours[hours] ?? 0) + (amount * Number(weights[i])) / Number(total);
      carried.set(host, own);
    });
  }
  if (left.cpu === 0n && left.ram === 0n && left.gpu === 0n) return null;
  return { ...line, costs: { ...noCosts, ...left }, quantities: leftHours };
}

/** Of a kept idle line, what would have been shared with the hosts that `stays` names. */
function idleOf(line: CostLine, hosts: readonly CostLine[], stays: (host: CostLine) => boolean): CostLine {
  const costs: Record<IdleKind, bigint> = { cpu: 0n, ram: 0n, gpu: 0n };
  const quantities: Record<string, number> = { ...line.quantities };
  const staying = hosts.map(stays);
  for (const [kind, hours] of idleKinds) {
    const weights = hosts.map((host) => positive(host.costs[kind]));
    const total = weights.reduce((sum, weight) => sum + weight, 0n);
    const kept = weights.reduce((sum, weight, i) => (staying[i] ? sum + weight : sum), 0n);
    if (total > 0n) {
      const parts = splitSigned(line.costs[kind], weights, hosts);
      costs[kind] = parts.reduce((sum, each, i) => (staying[i] ? sum + each : sum), 0n);
    }
    if (hours in quantities) quantities[hours] = total > 0n ? ((quantities[hours] as number) * Number(kept)) / Number(total) : 0;
  }
  return { ...line, costs: { ...line.costs, ...costs }, quantities };
}

/** Splits a cost that may be negative (a bill's correction of idle) over weights that are not all 0. */
function splitSigned(cost: bigint, weights: readonly bigint[], hosts: readonly CostLine[]): bigint[] {
  const parts = apportion(cost < 0n ? -cost : cost, weights, (a, b) => ((hosts[a] as CostLine).name < (hosts[b] as CostLine).name ? -1 : 1));
  return cost < 0n ? parts.map((each) => -each) : parts;
}

function positive(value: bigint): bigint {
  return value > 0n ? value : 0n;
}

function idleCost(carried: Carried | undefined): bigint {
  return carried ? carried.costs.cpu + carried.costs.ram + carried.costs.gpu : 0n;
}

function withIdle(line: CostLine, carried: Carried | undefined): CostLine {
  if (!carried) return line;
  const { costs, quantities = {} } = line;
  const all: Record<string, number> = { ...quantities };
  for (const [hours, amount] of Object.entries(carried.hours)) all[hours] = (all[hours] ?? 0) + amount;
  return { ...line, costs: { ...costs, cpu: costs.cpu + carried.costs.cpu, ram: costs.ram + carried.costs.ram, gpu: costs.gpu + carried.costs.gpu }, quantities: all };
}

function isEverything(filter: Filter): boolean {
  return filter.op === 'all';
}

/** Lines of one name summed. */
class Groups {
  readonly #groups = new Map<string, CostLine>();

  add(name: string, line: CostLine): void {
    const group = this.#groups.get(name);
    this.#groups.set(name, group ? sum(group, line) : { ...line, name });
  }

  /** Adds shared cost to a group that exists. */
  share(name: string, nanos: bigint): void {
    const group = this.#groups.get(name);
    if (group) this.#groups.set(name, { ...group, costs: { ...group.costs, shared: group.costs.shared + nanos } });
  }

  sorted(): AggregatedLine[] {
    return [...this.#groups.values()].sort((a, b) => (a.name < b.name ? -1 : 1)).map((group) => ({ ...group, totalNanos: totalOf(group.costs) }));
  }
}

/** Two lines of one group: costs and quantities added, the time they span, the properties they share. */
export function sum(left: CostLine, right: CostLine): CostLine {
  const [a, b] = [left.costs, right.costs];
  const quantities: Record<string, number> = { ...left.quantities };
  for (const [key, amount] of Object.entries(right.quantities ?? {})) quantities[key] = (quantities[key] ?? 0) + amount;
  return {
    name: left.name,
    kind: left.kind,
    properties: commonProperties(left.properties, right.properties),
    startMs: Math.min(left.startMs, right.startMs),
    endMs: Math.max(left.endMs, right.endMs),
    costs: {
      cpu: a.cpu + b.cpu, ram: a.ram + b.ram, gpu: a.gpu + b.gpu, pv: a.pv + b.pv, network: a.network + b.network,
      loadBalancer: a.loadBalancer + b.loadBalancer, shared: a.shared + b.shared, external: a.external + b.external,
    },
    quantities,
  };
}

function commonProperties(left: LineProperties, right: LineProperties): LineProperties {
  const same = <K extends 'node' | 'namespace' | 'pod' | 'container' | 'controller' | 'controllerKind' | 'providerId'>(key: K): string | undefined => (left[key] === right[key] ? left[key] : undefined);
  return {
    cluster: left.cluster === right.cluster ? left.cluster : '',
    node: same('node'), namespace: same('namespace'), pod: same('pod'), container: same('container'),
    controller: same('controller'), controllerKind: same('controllerKind'), providerId: same('providerId'),
    services: left.services?.filter((each) => right.services?.includes(each)),
    labels: commonEntries(left.labels, right.labels), annotations: commonEntries(left.annotations, right.annotations),
  };
}

function commonEntries(left: Readonly<Record<string, string>> | undefined, right: Readonly<Record<string, string>> | undefined): Record<string, string> | undefined {
  return left && right ? Object.fromEntries(Object.entries(left).filter(([key, value]) => right[key] === value)) : undefined;
}
