/** An hour of a cluster: each node's price split over what ran on it, window by window, and summed by pod and node. */
import { HOUR_MS, WINDOW_MS } from '@upid/contracts';
import { allocateCell, presentSeconds, unknownUsage, type AllocationMethod, type ContainerCell, type MeanUsage, type NodeCellCost, type UnitRatios } from './cells.js';
import { nodeOf, requestsAt, type RequestsSince } from './lifetimes.js';
import type { Money } from './money.js';
import { noResources, type Resources } from './requests.js';
import type { WindowUsage } from './usage.js';

/** A node that stood in the hour. */
export interface HourNode<C extends string = string> {
  readonly id: number;
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number | null;
  /** Null where its price or its size is unknown: nothing of it can be told then, and `unpriced` says why. */
  readonly priced: { readonly perHour: Money<C>; readonly priceId: number; readonly capacity: Resources; readonly allocatable: Resources } | null;
  readonly unpricedReason: string | null;
}

/** A pod that was bound in the hour, or about it. */
export interface HourPod {
  readonly id: number;
  readonly uid: string;
  /** namespace/Kind/name. */
  readonly workloadKey: string;
  readonly nodeName: string;
  readonly startMs: number;
  readonly endMs: number | null;
  readonly requests: readonly RequestsSince[];
}

export interface HourInput<C extends string = string> {
  readonly currency: C;
  /** Start of the hour, unix ms. */
  readonly hourMs: number;
  /** Costs are told up to here: now, or the last time for which the inventory is known. */
  readonly untilMs: number;
  /** Since when the inventory is known; earlier windows count where usage was told of them. Null: never. */
  readonly observedFromMs: number | null;
  readonly nodes: readonly HourNode<C>[];
  readonly pods: readonly HourPod[];
  /** At most one a window. */
  readonly windows: readonly WindowUsage[];
  readonly ratios: UnitRatios;
  readonly method?: AllocationMethod;
}

/** What a pod was charged in the hour; sums of its containers' cells. */
export interface PodHour {
  readonly podId: number;
  readonly nodeId: number;
  readonly presentMs: number;
  readonly cpuNanos: bigint;
  readonly memoryNanos: bigint;
  readonly gpuNanos: bigint;
  /** Of the cells whose usage is known: what it filled, and what it could have filled. */
  readonly actualNanos: bigint;
  readonly measuredNanos: bigint;
  /** Of the present time, the part in which the usage of every container is known. */
  readonly measuredMs: number;
  readonly cells: number;
  readonly measuredCells: number;
  readonly chargedCpuMillicoreSeconds: number;
  readonly chargedMemoryByteSeconds: number;
  readonly usedCpuMillicoreSeconds: number;
  readonly usedMemoryByteSeconds: number;
}

/** What a node cost in the hour: `costNanos` = its pods' + `idleNanos` + `overheadNanos`. */
export interface NodeHour {
  readonly nodeId: number;
  readonly priceId: number;
  readonly presentMs: number;
  readonly costNanos: bigint;
  readonly allocatedNanos: bigint;
  readonly idleNanos: bigint;
  readonly overheadNanos: bigint;
}

export interface HourCost {
  readonly nodes: readonly NodeHour[];
  readonly pods: readonly PodHour[];
  /** The windows that were computed, first start to last end; null: none. */
  readonly coveredFromMs: number | null;
  readonly coveredToMs: number | null;
  readonly coveredMs: number;
  readonly cells: number;
  /** Every window has final usage. */
  readonly final: boolean;
  /** Cells that do not sum to their node's price, in sentences: none, or something is broken. */
  readonly imbalances: readonly string[];
  /** Pods of whom usage is told, or that were bound, and that could not be charged; by workload key. */
  readonly uncharged: ReadonlyMap<string, number>;
  /** Nodes that could not be told of, with the reason. */
  readonly unpriced: readonly { readonly node: string; readonly reason: string }[];
}

type Sum = { -readonly [K in keyof PodHour]: PodHour[K] };
type NodeSum = { -readonly [K in keyof NodeHour]: NodeHour[K] };

const secondMs = 1000;

/** What is wrong with a cell's parts, in a sentence; null: they sum to its cost exactly and none is negative. */
export function imbalanceOf(cell: NodeCellCost): string | null {
  let allocated = 0n;
  let negative = cell.idleNanos < 0n || cell.overheadNanos < 0n;
  for (const { cpuNanos, memoryNanos, gpuNanos, allocatedNanos } of cell.containers) {
    allocated += allocatedNanos;
    negative ||= cpuNanos < 0n || memoryNanos < 0n || gpuNanos < 0n || cpuNanos + memoryNanos + gpuNanos !== allocatedNanos;
  }
  const parts = allocated + cell.idleNanos + cell.overheadNanos;
  if (parts !== cell.costNanos) return `allocations ${allocated} + idle ${cell.idleNanos} + overhead ${cell.overheadNanos} are ${parts - cell.costNanos} nanos more than the cost ${cell.costNanos}`;
  return negative ? 'a part is negative, or a container is charged other than the sum of its resources' : null;
}

/**
 * Computes the hour from its inputs alone, so that computing it again with the same inputs changes nothing. A window counts
 * where the inventory is known, or usage is told; a node counts from its beginning to its end. A container is charged while
 * its pod is bound, with usage or without; usage of pods that the inventory does not know is charged to nobody and reported.
 * O(windows x pods), and no state between hours.
 */
export function computeHour<C extends string>(input: HourInput<C>): HourCost {
  const { hourMs, untilMs, observedFromMs } = input;
  const endMs = Math.min(hourMs + HOUR_MS, untilMs);
  const usageByWindow = new Map(input.windows.map((window) => [window.startMs, window]));
  const onNode = placePods(input);
  const podSums = new Map<number, Sum>();
  const nodeSums = new Map<number, NodeSum>();
  const imbalances: string[] = [];
  let [coveredFromMs, coveredToMs]: [number | null, number | null] = [null, null];
  let coveredMs = 0;
  let cells = 0;
  let final = true;
  for (let startMs = hourMs; startMs < endMs; startMs += WINDOW_MS) {
    const usage = usageByWindow.get(startMs);
    final &&= usage?.final ?? false;
    const told = (usage?.pods.size ?? 0) > 0;
    if (!told && (observedFromMs === null || startMs + WINDOW_MS <= observedFromMs)) continue;
    const windowEndMs = Math.min(startMs + WINDOW_MS, endMs);
    // Of a window in which the first nodes came (or the last went) the time between is known, and no more: a rate over all of it would lie too low.
    const stood = { fromMs: Infinity, toMs: -Infinity };
    for (const node of input.nodes) {
      const span = { startMs: Math.max(startMs, node.startMs), endMs: Math.min(windowEndMs, node.endMs ?? windowEndMs) };
      if (span.endMs <= span.startMs || !node.priced) continue;
      stood.fromMs = Math.min(stood.fromMs, span.startMs);
      stood.toMs = Math.max(stood.toMs, span.endMs);
      const { containers, owners, present } = containersOf(onNode.get(node.id) ?? [], span, usage);
      const cell = allocateCell({ pricePerHour: node.priced.perHour, ...span, capacity: node.priced.capacity, allocatable: node.priced.allocatable, ratios: input.ratios, containers }, input.method);
      cells++;
      const imbalance = imbalanceOf(cell);
      if (imbalance) imbalances.push(`${node.name} from ${new Date(span.startMs).toISOString()}: ${imbalance}`);
      addNode(nodeSums, node.id, node.priced.priceId, cell, span.endMs - span.startMs);
      addPods(podSums, node.id, cell, containers, owners, present);
    }
    // Without a node that has a price no cost is known.
    if (stood.toMs <= stood.fromMs) continue;
    coveredFromMs ??= stood.fromMs;
    coveredToMs = stood.toMs;
    coveredMs += stood.toMs - stood.fromMs;
  }
  return {
    nodes: [...nodeSums.values()].sort((a, b) => a.nodeId - b.nodeId), pods: [...podSums.values()].sort((a, b) => a.podId - b.podId), coveredFromMs, coveredToMs, coveredMs, cells,
    final: final && endMs === hourMs + HOUR_MS, imbalances, uncharged: unchargedOf(input, endMs, onNode),
    unpriced: input.nodes.flatMap((node) => (node.priced || node.startMs >= endMs || (node.endMs ?? endMs) <= hourMs ? [] : [{ node: node.name, reason: node.unpricedReason ?? 'it has no price' }])),
  };
}

/** Pods by the node that they were on. */
function placePods({ nodes, pods }: HourInput): Map<number, HourPod[]> {
  const byName = Map.groupBy(nodes, ({ name }) => name);
  const placed = new Map<number, HourPod[]>();
  for (const pod of pods) {
    const node = nodeOf(byName.get(pod.nodeName) ?? [], pod.startMs);
    if (!node) continue;
    const there = placed.get(node.id);
    if (there) there.push(pod);
    else placed.set(node.id, [pod]);
  }
  return placed;
}

/** The containers on a node in a span, whose they are, and how long each pod was there (ms). */
function containersOf(pods: readonly HourPod[], span: { readonly startMs: number; readonly endMs: number }, usage: WindowUsage | undefined): { containers: ContainerCell[]; owners: HourPod[]; present: Map<number, number> } {
  const containers: ContainerCell[] = [];
  const owners: HourPod[] = [];
  const present = new Map<number, number>();
  for (const pod of pods) {
    const seconds = presentSeconds({ scheduledMs: pod.startMs, endedMs: pod.endMs }, span.startMs, span.endMs);
    if (seconds <= 0) continue;
    present.set(pod.id, Math.round(seconds * secondMs));
    const used = usage?.pods.get(pod.uid)?.containers;
    const requested = requestsAt(pod.requests, span.startMs);
    const add = (name: string, request: Resources, of: MeanUsage) => {
      containers.push({ key: `${pod.uid}/${name}`, request, usage: of, presentSeconds: seconds });
      owners.push(pod);
    };
    for (const { name, requests } of requested) add(name, requests, used?.get(name) ?? unknownUsage);
    // What runs beside the containers of the specification (init containers, debuggers) requests nothing of its own.
    if (used) for (const [name, of] of used) if (!requested.some((each) => each.name === name)) add(name, noResources, of);
  }
  return { containers, owners, present };
}

function addNode(sums: Map<number, NodeSum>, nodeId: number, priceId: number, cell: NodeCellCost, presentMs: number): void {
  let sum = sums.get(nodeId);
  if (!sum) {
    sum = { nodeId, priceId, presentMs: 0, costNanos: 0n, allocatedNanos: 0n, idleNanos: 0n, overheadNanos: 0n };
    sums.set(nodeId, sum);
  }
  sum.presentMs += presentMs;
  sum.costNanos += cell.costNanos;
  sum.idleNanos += cell.idleNanos;
  sum.overheadNanos += cell.overheadNanos;
  for (const { allocatedNanos } of cell.containers) sum.allocatedNanos += allocatedNanos;
}

function addPods(sums: Map<number, Sum>, nodeId: number, cell: NodeCellCost, containers: readonly ContainerCell[], owners: readonly HourPod[], present: ReadonlyMap<number, number>): void {
  const measured = new Map<number, boolean>();
  cell.containers.forEach((cost, i) => {
    const pod = owners[i] as HourPod;
    const { request, usage, presentSeconds: seconds } = containers[i] as ContainerCell;
    let sum = sums.get(pod.id);
    if (!sum) {
      sum = {
        podId: pod.id, nodeId, presentMs: 0, cpuNanos: 0n, memoryNanos: 0n, gpuNanos: 0n, actualNanos: 0n, measuredNanos: 0n, measuredMs: 0, cells: 0, measuredCells: 0,
        chargedCpuMillicoreSeconds: 0, chargedMemoryByteSeconds: 0, usedCpuMillicoreSeconds: 0, usedMemoryByteSeconds: 0,
      };
      sums.set(pod.id, sum);
    }
    sum.cpuNanos += cost.cpuNanos;
    sum.memoryNanos += cost.memoryNanos;
    sum.gpuNanos += cost.gpuNanos;
    sum.cells++;
    if (cost.actualNanos !== null) {
      sum.actualNanos += cost.actualNanos;
      sum.measuredNanos += cost.allocatedNanos;
      sum.measuredCells++;
    }
    measured.set(pod.id, (measured.get(pod.id) ?? true) && cost.actualNanos !== null);
    sum.chargedCpuMillicoreSeconds += (cost.cpuBasis === 'request' ? request.cpuMillicores : cost.cpuBasis === 'usage' ? usage.cpuMillicores ?? 0 : 0) * seconds;
    sum.chargedMemoryByteSeconds += (cost.memoryBasis === 'request' ? request.memoryBytes : cost.memoryBasis === 'usage' ? usage.memoryBytes ?? 0 : 0) * seconds;
    if (cost.actualNanos !== null) {
      sum.usedCpuMillicoreSeconds += (usage.cpuMillicores ?? 0) * seconds;
      sum.usedMemoryByteSeconds += (usage.memoryBytes ?? 0) * seconds;
    }
  });
  for (const [podId, known] of measured) {
    const sum = sums.get(podId) as Sum;
    sum.presentMs += present.get(podId) ?? 0;
    if (known) sum.measuredMs += present.get(podId) ?? 0;
  }
}

/** Pods that hold capacity and are charged nothing: unknown to the inventory, or on a node that is unknown or has no price. */
function unchargedOf({ hourMs, nodes, pods, windows }: HourInput, endMs: number, onNode: ReadonlyMap<number, readonly HourPod[]>): Map<string, number> {
  const known = new Set(pods.map(({ uid }) => uid));
  const chargeable = new Set(nodes.flatMap((node) => (node.priced ? (onNode.get(node.id) ?? []).map(({ id }) => id) : [])));
  const found = new Map<string, string>();
  for (const window of windows) for (const [uid, { workload }] of window.pods) if (!known.has(uid)) found.set(uid, workload);
  for (const pod of pods) if (!chargeable.has(pod.id) && pod.startMs < endMs && (pod.endMs ?? endMs) > hourMs) found.set(pod.uid, pod.workloadKey);
  const counts = new Map<string, number>();
  for (const workload of found.values()) counts.set(workload, (counts.get(workload) ?? 0) + 1);
  return new Map([...counts].sort(([a], [b]) => (a < b ? -1 : 1)));
}
