/**
 * Who pays for a node in one cell of time. The node's price for the cell is split, in integers, over the containers on it,
 * its overhead (capacity the node keeps for itself) and its idle capacity, and the parts sum to the price exactly.
 */
import { apportion, type Money } from './money.js';
import type { Resources } from './requests.js';

/** Length of the cells in which costs are kept, in seconds. */
export const cellSeconds = 300;

/**
 * How a node's price falls on its containers.
 * - `weighted`: 0.6 of it rests on CPU and 0.4 on memory; a container is charged what it requests, what it uses where it
 *   requests nothing.
 * - `priced`: CPU and memory share it in the ratio of their list prices; a container is charged the larger of request and use.
 */
export type AllocationMethod = 'weighted' | 'priced';

/** Unit list prices whose ratio sets a node's GPU share apart (and in `priced` CPU from memory), in 1e-12 of a currency per hour. */
export interface UnitRatios {
  readonly cpuCorePicosPerHour: bigint;
  readonly ramGibPicosPerHour: bigint;
  readonly gpuPicosPerHour: bigint;
}

/** A container's mean usage over the time it was there, from its samples; null: no sample, which is never zero. */
export interface MeanUsage {
  readonly cpuMillicores: number | null;
  readonly memoryBytes: number | null;
  readonly gpus: number | null;
}

export const unknownUsage: MeanUsage = { cpuMillicores: null, memoryBytes: null, gpus: null };

/** One container on the node during the cell. */
export interface ContainerCell {
  /** Unique on the node and stable (pod UID and container name): identity, and the order in which equal remainders go. */
  readonly key: string;
  /** Effective request (`effectiveContainerRequests`); 0 where there is none. */
  readonly request: Resources;
  readonly usage: MeanUsage;
  /** Seconds of the cell from the pod's scheduling to the end of its phase (`presentSeconds`); at most the cell's. */
  readonly presentSeconds: number;
}

/** A node in one cell: what it costs, what it offers, who was on it. */
export interface NodeCell<C extends string = string> {
  readonly pricePerHour: Money<C>;
  /** The part of the cell in which the node stood, epoch milliseconds, half open. */
  readonly startMs: number;
  readonly endMs: number;
  readonly capacity: Resources;
  /** At most the capacity; what a provider reports above it is cut to it. */
  readonly allocatable: Resources;
  readonly ratios: UnitRatios;
  readonly containers: readonly ContainerCell[];
}

/** What a charge rests on; `unknown`: neither a request nor a sample, so that nothing could be charged. */
export type ChargeBasis = 'request' | 'usage' | 'none' | 'unknown';

/** A container's part of the node's price in the cell, in nanos. `actual` is the part that its usage filled; null: usage unknown. */
export interface ContainerCost {
  readonly key: string;
  readonly cpuNanos: bigint;
  readonly memoryNanos: bigint;
  readonly gpuNanos: bigint;
  /** Sum of the three. */
  readonly allocatedNanos: bigint;
  readonly actualCpuNanos: bigint | null;
  readonly actualMemoryNanos: bigint | null;
  readonly actualGpuNanos: bigint | null;
  /** Sum of the three; null when the usage of a resource that costs something, of CPU or of memory is unknown. */
  readonly actualNanos: bigint | null;
  readonly cpuBasis: ChargeBasis;
  readonly memoryBasis: ChargeBasis;
  readonly gpuBasis: ChargeBasis;
}

/** One resource of the node: `costNanos` = what its containers pay + `overheadNanos` + `idleNanos`. */
export interface ResourceCost {
  readonly costNanos: bigint;
  /** Capacity that the node keeps from its pods (capacity - allocatable). */
  readonly overheadNanos: bigint;
  /** Allocatable capacity that no container is charged for: unallocated. */
  readonly idleNanos: bigint;
}

/** A node's price in the cell, split: `costNanos` = the containers' `allocatedNanos` + `overheadNanos` + `idleNanos`, exactly. */
export interface NodeCellCost<C extends string = string> {
  readonly currency: C;
  readonly costNanos: bigint;
  readonly overheadNanos: bigint;
  readonly idleNanos: bigint;
  readonly cpu: ResourceCost;
  readonly memory: ResourceCost;
  readonly gpu: ResourceCost;
  /** In the order of the input. */
  readonly containers: readonly ContainerCost[];
}

/** A cell that cannot be allocated: a negative or unknown amount where a fact is needed. */
export class AllocationInputError extends Error {
  override readonly name = 'AllocationInputError';
}

const hourMs = 3_600_000n;

/**
 * price x time in nanos for [startMs, endMs), as the difference of two readings of one meter that has run since the epoch:
 * floor(price x end) - floor(price x start). So cells that follow one another sum to the price of the whole span without
 * loss, and an hour's cells to the hour's price exactly. @throws AllocationInputError
 */
export function costOfSpan(pricePerHourNanos: bigint, startMs: number, endMs: number): bigint {
  if (!Number.isSafeInteger(startMs) || !Number.isSafeInteger(endMs) || startMs < 0 || endMs < startMs) {
    throw new AllocationInputError(`not a span of whole milliseconds since the epoch: ${startMs} to ${endMs}`);
  }
  if (pricePerHourNanos < 0n) throw new AllocationInputError(`a price below zero: ${pricePerHourNanos} nanos per hour`);
  return (pricePerHourNanos * BigInt(endMs)) / hourMs - (pricePerHourNanos * BigInt(startMs)) / hourMs;
}

/**
 * Seconds of [startMs, endMs) in which a pod holds its resources: from scheduled to the end of its phase (null: not ended),
 * not from running and not to the object's deletion. A pod that waits for its image pays, an evicted one no longer does.
 */
export function presentSeconds(pod: { readonly scheduledMs: number; readonly endedMs: number | null }, startMs: number, endMs: number): number {
  return Math.max(0, Math.min(endMs, pod.endedMs ?? endMs) - Math.max(startMs, pod.scheduledMs)) / 1000;
}

/** The share of the remaining price that rests on CPU in `weighted`, of 10; memory has the other 4. */
const weightedCpuShare = 6n;
const weightedMemoryShare = 4n;
const bytesPerGib = 1n << 30n;
const cpuMicrosPerCore = 1_000_000n;

/** A quantity as an integer of 1/factor. @throws AllocationInputError */
function integer(value: number, factor: number, what: string): bigint {
  if (!(value >= 0 && value * factor <= Number.MAX_SAFE_INTEGER)) throw new AllocationInputError(`${what} is not an amount: ${value}`);
  return BigInt(Math.round(value * factor));
}

/** Integers of 1e-6 core, a byte and 1e-6 GPU. */
const unitsOf = { cpu: 1000, memory: 1, gpu: 1_000_000 } as const;

const notBefore = (): number => 0;

/** What one container is charged and what it used of one resource, in the resource's integer units. */
interface Charge {
  readonly units: bigint;
  readonly usedUnits: bigint | null;
  readonly basis: ChargeBasis;
}

function charge(request: number, usage: number | null, factor: number, method: AllocationMethod, resource: string): Charge {
  const requested = integer(request, factor, `requested ${resource}`);
  const used = usage === null ? null : integer(usage, factor, `used ${resource}`);
  if (requested > 0n && (method === 'weighted' || used === null || used <= requested)) return { units: requested, usedUnits: used, basis: 'request' };
  if (used !== null) return { units: used, usedUnits: used, basis: used > 0n ? 'usage' : 'none' };
  return { units: 0n, usedUnits: null, basis: 'unknown' };
}

/** The part of a cost that usage filled: cost x min(1, usage / charged), floored; a cost is never actual without a sample. */
function actualCost(costNanos: bigint, { units, usedUnits }: Charge): bigint | null {
  if (usedUnits === null) return null;
  return usedUnits >= units ? costNanos : (costNanos * usedUnits) / units;
}

/** Splits one resource's cost over overhead, containers and idle; `parts` has the containers' costs in their order. */
function splitResource(
  costNanos: bigint, capacity: bigint, allocatable: bigint, spanMs: bigint,
  charges: readonly Charge[], presentMs: readonly bigint[], before: (left: number, right: number) => number,
): ResourceCost & { readonly parts: readonly bigint[] } {
  if (costNanos === 0n) return { costNanos, overheadNanos: 0n, idleNanos: 0n, parts: charges.map(() => 0n) };
  const [overheadNanos, usableNanos] = apportion(costNanos, [capacity - allocatable, allocatable], notBefore) as [bigint, bigint];
  let charged = 0n;
  const weights = charges.map(({ units }, i) => {
    const weight = units * (presentMs[i] as bigint);
    charged += weight;
    return weight;
  });
  // What is charged above the allocatable shrinks to it by proportion: the weights alone then share the usable part.
  const idleWeight = allocatable * spanMs - charged;
  weights.push(idleWeight > 0n ? idleWeight : 0n);
  const parts = usableNanos === 0n ? weights.map(() => 0n) : apportion(usableNanos, weights, before);
  return { costNanos, overheadNanos, idleNanos: parts.pop() as bigint, parts };
}

/**
 * Splits the node's price in the cell over containers, overhead and idle. Exact by construction: every split is an integer
 * split by largest remainders, so nothing is negative and the sum is `costOfSpan` to the nano. The same result for every
 * order of the containers. O(n log n) time and O(n) memory in the containers of the node; no state between cells.
 *
 * The GPUs' part of the price is set apart first, by list prices: gpus x GPU : cores x CPU + GiB x RAM. Per resource the
 * denominator is the node's capacity; overhead is the share of capacity - allocatable; charges that together exceed the
 * allocatable are scaled down to it and idle is 0, else idle is what remains.
 * @throws AllocationInputError for a capacity without CPU or memory, for negative or non-finite amounts, and for a container told twice.
 */
export function allocateCell<C extends string>(node: NodeCell<C>, method: AllocationMethod = 'weighted'): NodeCellCost<C> {
  const costNanos = costOfSpan(node.pricePerHour.nanos, node.startMs, node.endMs);
  const spanMs = BigInt(node.endMs - node.startMs);
  const capacity = {
    cpu: integer(node.capacity.cpuMillicores, unitsOf.cpu, 'CPU capacity'),
    memory: integer(node.capacity.memoryBytes, unitsOf.memory, 'memory capacity'),
    gpu: integer(node.capacity.gpus, unitsOf.gpu, 'GPU capacity'),
  };
  if (capacity.cpu === 0n || capacity.memory === 0n) throw new AllocationInputError('a node without CPU or memory capacity has nothing to allocate');
  const allocatable = {
    cpu: atMost(integer(node.allocatable.cpuMillicores, unitsOf.cpu, 'allocatable CPU'), capacity.cpu),
    memory: atMost(integer(node.allocatable.memoryBytes, unitsOf.memory, 'allocatable memory'), capacity.memory),
    gpu: atMost(integer(node.allocatable.gpus, unitsOf.gpu, 'allocatable GPUs'), capacity.gpu),
  };

  // List-price weights over one denominator (1e-6 core or GPU x GiB).
  const cpuWeight = capacity.cpu * node.ratios.cpuCorePicosPerHour * bytesPerGib;
  const memoryWeight = capacity.memory * node.ratios.ramGibPicosPerHour * cpuMicrosPerCore;
  const gpuWeight = capacity.gpu * node.ratios.gpuPicosPerHour * bytesPerGib;
  if (node.ratios.gpuPicosPerHour < 0n || node.ratios.cpuCorePicosPerHour < 0n || node.ratios.ramGibPicosPerHour < 0n || cpuWeight + memoryWeight === 0n) {
    throw new AllocationInputError('list prices of CPU and memory must not be negative and not both zero');
  }
  const [gpuNanos, restNanos] = apportion(costNanos, [gpuWeight, cpuWeight + memoryWeight], notBefore) as [bigint, bigint];
  const [cpuNanos, memoryNanos] = apportion(
    restNanos, method === 'weighted' ? [weightedCpuShare, weightedMemoryShare] : [cpuWeight, memoryWeight], notBefore,
  ) as [bigint, bigint];

  const { containers } = node;
  if (new Set(containers.map(({ key }) => key)).size < containers.length) throw new AllocationInputError('a container is told twice, and would be charged twice');
  const presentMs = containers.map(({ presentSeconds: seconds }) => atMost(integer(seconds, 1000, 'time present'), spanMs));
  const idleIndex = containers.length;
  const before = (left: number, right: number): number => {
    if (left === idleIndex || right === idleIndex) return left === idleIndex ? 1 : -1;
    return (containers[left] as ContainerCell).key < (containers[right] as ContainerCell).key ? -1 : 1;
  };
  const cpuCharges = containers.map(({ request, usage }) => charge(request.cpuMillicores, usage.cpuMillicores, unitsOf.cpu, method, 'CPU'));
  const memoryCharges = containers.map(({ request, usage }) => charge(request.memoryBytes, usage.memoryBytes, unitsOf.memory, method, 'memory'));
  const gpuCharges = containers.map(({ request, usage }) => gpuCharge(request.gpus, usage.gpus, method));
  const cpu = splitResource(cpuNanos, capacity.cpu, allocatable.cpu, spanMs, cpuCharges, presentMs, before);
  const memory = splitResource(memoryNanos, capacity.memory, allocatable.memory, spanMs, memoryCharges, presentMs, before);
  const gpu = splitResource(gpuNanos, capacity.gpu, allocatable.gpu, spanMs, gpuCharges, presentMs, before);

  return {
    currency: node.pricePerHour.currency,
    costNanos,
    overheadNanos: cpu.overheadNanos + memory.overheadNanos + gpu.overheadNanos,
    idleNanos: cpu.idleNanos + memory.idleNanos + gpu.idleNanos,
    cpu: withoutParts(cpu),
    memory: withoutParts(memory),
    gpu: withoutParts(gpu),
    containers: containers.map(({ key }, i) => {
      const cpuCost = cpu.parts[i] as bigint;
      const memoryCost = memory.parts[i] as bigint;
      const gpuCost = gpu.parts[i] as bigint;
      const cpuCharge = cpuCharges[i] as Charge;
      const memoryCharge = memoryCharges[i] as Charge;
      const gpusCharge = gpuCharges[i] as Charge;
      const absent = presentMs[i] === 0n;
      const actualCpuNanos = absent ? 0n : actualCost(cpuCost, cpuCharge);
      const actualMemoryNanos = absent ? 0n : actualCost(memoryCost, memoryCharge);
      const actualGpuNanos = gpuCost === 0n ? 0n : actualCost(gpuCost, gpusCharge);
      return {
        key,
        cpuNanos: cpuCost,
        memoryNanos: memoryCost,
        gpuNanos: gpuCost,
        allocatedNanos: cpuCost + memoryCost + gpuCost,
        actualCpuNanos,
        actualMemoryNanos,
        actualGpuNanos,
        actualNanos: actualCpuNanos === null || actualMemoryNanos === null || actualGpuNanos === null ? null : actualCpuNanos + actualMemoryNanos + actualGpuNanos,
        cpuBasis: cpuCharge.basis,
        memoryBasis: memoryCharge.basis,
        gpuBasis: gpusCharge.basis,
      };
    }),
  };
}

/** GPUs cannot be used without a request, so that a container without one is charged none whether or not it was sampled. */
function gpuCharge(request: number, usage: number | null, method: AllocationMethod): Charge {
  if (request === 0 && usage === null) return { units: 0n, usedUnits: 0n, basis: 'none' };
  return charge(request, usage, unitsOf.gpu, method, 'GPUs');
}

function atMost(value: bigint, bound: bigint): bigint {
  return value < bound ? value : bound;
}

function withoutParts({ costNanos, overheadNanos, idleNanos }: ResourceCost): ResourceCost {
  return { costNanos, overheadNanos, idleNanos };
}
