/** What is published of an hour. */
import { parseWorkloadKey, toTimestamp, type AllocationEvent, type CapacityType } from '@upid/contracts';
import type { PriceBasis } from '../prices/price-sheet.js';
import type { NodeHour, PodHour } from './hour.js';

export interface EventNode {
  readonly capacityType: CapacityType;
  readonly basis: PriceBasis;
}

export interface EventInput {
  readonly clusterId: string;
  readonly hourMs: number;
  readonly revision: number;
  readonly final: boolean;
  readonly currency: string;
  readonly nodes: readonly NodeHour[];
  readonly pods: readonly PodHour[];
  readonly workloadOf: (podId: number) => string;
  readonly nodeOf: (nodeId: number) => EventNode;
}

/** From the firmest to the weakest: a sum rests on the weakest that is in it. */
const basisOrder: readonly PriceBasis[] = ['bill', 'price_list', 'price_sheet', 'estimate'];

/** What a sum of figures rests on: the weakest of theirs. Null for none. */
export function weakestBasis(bases: Iterable<PriceBasis>): PriceBasis | null {
  let weakest = -1;
  for (const basis of bases) weakest = Math.max(weakest, basisOrder.indexOf(basis));
  return basisOrder[weakest] ?? null;
}

/** The workload that stands for all whose rows would not fit into a message. */
export const otherWorkloads = '/Other/others';

interface Line {
  cpu: bigint; memory: bigint; gpu: bigint; actual: bigint; measuredCells: number; measuredMs: number; presentMs: number;
  readonly capacityTypes: Set<CapacityType>;
  readonly bases: Set<PriceBasis>;
}

/**
 * The hour's event: costs by workload. Of more than `mostWorkloads` the cheapest are told together as {@link otherWorkloads}, so
 * that the event fits a message and its sums stay those of the hour.
 */
export function allocationEventOf(input: EventInput, mostWorkloads = 1_000): AllocationEvent {
  const lines = new Map<string, Line>();
  for (const pod of input.pods) addTo(lines, input.workloadOf(pod.podId), pod, input.nodeOf(pod.nodeId));
  const told = [...lines].sort(([a, left], [b, right]) => compare(totalOf(right), totalOf(left)) || (a < b ? -1 : 1));
  const kept = told.slice(0, told.length > mostWorkloads ? mostWorkloads - 1 : mostWorkloads);
  const rest = told.slice(kept.length);
  if (rest.length > 0) kept.push([otherWorkloads, rest.map(([, line]) => line).reduce(mergeLines)]);
  const sum = (of: (node: NodeHour) => bigint) => String(input.nodes.reduce((total, node) => total + of(node), 0n));
  const hour = toTimestamp(input.hourMs);
  return {
    version: 1, id: `${input.clusterId}/${hour}/${input.revision}`, hour, revision: input.revision, final: input.final, currency: input.currency,
    node_cost: sum((node) => node.costNanos), idle_cost: sum((node) => node.idleNanos), overhead_cost: sum((node) => node.overheadNanos),
    workloads: kept.map(([key, line]) => ({
      workload: parseWorkloadKey(key), cpu_cost: String(line.cpu), memory_cost: String(line.memory), gpu_cost: String(line.gpu), allocated_cost: String(totalOf(line)), actual_cost: line.measuredCells > 0 ? String(line.actual) : null,
      covered_seconds: line.measuredMs / 1000, pod_seconds: line.presentMs / 1000, capacity_types: [...line.capacityTypes].sort(), price_source: weakestBasis(line.bases) ?? 'estimate',
    })),
  };
}

function addTo(lines: Map<string, Line>, key: string, pod: PodHour, { capacityType, basis }: EventNode): void {
  let line = lines.get(key);
  if (!line) {
    line = { cpu: 0n, memory: 0n, gpu: 0n, actual: 0n, measuredCells: 0, measuredMs: 0, presentMs: 0, capacityTypes: new Set(), bases: new Set() };
    lines.set(key, line);
  }
  line.cpu += pod.cpuNanos;
  line.memory += pod.memoryNanos;
  line.gpu += pod.gpuNanos;
  line.actual += pod.actualNanos;
  line.measuredCells += pod.measuredCells;
  line.measuredMs += pod.measuredMs;
  line.presentMs += pod.presentMs;
  line.capacityTypes.add(capacityType);
  line.bases.add(basis);
}

function mergeLines(left: Line, right: Line): Line {
  return {
    cpu: left.cpu + right.cpu, memory: left.memory + right.memory, gpu: left.gpu + right.gpu, actual: left.actual + right.actual, measuredCells: left.measuredCells + right.measuredCells,
    measuredMs: left.measuredMs + right.measuredMs, presentMs: left.presentMs + right.presentMs, capacityTypes: new Set([...left.capacityTypes, ...right.capacityTypes]), bases: new Set([...left.bases, ...right.bases]),
  };
}

function totalOf({ cpu, memory, gpu }: Line): bigint {
  return cpu + memory + gpu;
}

function compare(left: bigint, right: bigint): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
