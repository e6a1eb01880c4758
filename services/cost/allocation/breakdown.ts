/** Cells summed to hours and windows, and what they say: allocated, actual, wasted, and the rates that follow. */
import type { ContainerCost } from './cells.js';
import type { Money } from './money.js';

/**
 * Costs of one container, pod, workload or anything else over many cells. It adds up in any order (a commutative monoid with
 * `noCost`), so hours are sums of cells and windows sums of hours.
 */
export interface CostTotal {
  readonly cpuNanos: bigint;
  readonly memoryNanos: bigint;
  readonly gpuNanos: bigint;
  /** Of cells whose usage is known: what usage filled, and what it could have filled. */
  readonly actualNanos: bigint;
  readonly measuredNanos: bigint;
  /** Cells added, and of them those whose usage is known. */
  readonly cells: number;
  readonly measuredCells: number;
}

export const noCost: CostTotal = { cpuNanos: 0n, memoryNanos: 0n, gpuNanos: 0n, actualNanos: 0n, measuredNanos: 0n, cells: 0, measuredCells: 0 };

/** The total with one cell of a container added. */
export function addCell(total: CostTotal, cell: Pick<ContainerCost, 'cpuNanos' | 'memoryNanos' | 'gpuNanos' | 'allocatedNanos' | 'actualNanos'>): CostTotal {
  const measured = cell.actualNanos !== null;
  return {
    cpuNanos: total.cpuNanos + cell.cpuNanos,
    memoryNanos: total.memoryNanos + cell.memoryNanos,
    gpuNanos: total.gpuNanos + cell.gpuNanos,
    actualNanos: total.actualNanos + (cell.actualNanos ?? 0n),
    measuredNanos: total.measuredNanos + (measured ? cell.allocatedNanos : 0n),
    cells: total.cells + 1,
    measuredCells: total.measuredCells + (measured ? 1 : 0),
  };
}

/** Two totals of one currency together. */
export function addTotals(left: CostTotal, right: CostTotal): CostTotal {
  return {
    cpuNanos: left.cpuNanos + right.cpuNanos,
    memoryNanos: left.memoryNanos + right.memoryNanos,
    gpuNanos: left.gpuNanos + right.gpuNanos,
    actualNanos: left.actualNanos + right.actualNanos,
    measuredNanos: left.measuredNanos + right.measuredNanos,
    cells: left.cells + right.cells,
    measuredCells: left.measuredCells + right.measuredCells,
  };
}

/** What a container or any sum of containers cost and how much of it its usage filled. */
export interface CostBreakdown<C extends string = string> {
  readonly allocated: Money<C>;
  /** Null while no cell's usage is known. */
  readonly actual: Money<C> | null;
  /** What was paid for and not used (an unused request); null while no cell's usage is known. */
  readonly wasted: Money<C> | null;
  /** allocated - actual - wasted: paid in cells whose usage is unknown. It is neither called used nor called waste. */
  readonly unmeasured: Money<C>;
  /** wasted / (actual + wasted) x 100; null where nothing is allocated or nothing is known. */
  readonly wastePercentage: number | null;
  /** Share of the cells whose usage is known, 0 to 1; null without cells. */
  readonly usageCoverage: number | null;
}

/** Says what a total means. With every cell measured, wasted = allocated - actual exactly. */
export function breakdown<C extends string>(total: CostTotal, currency: C): CostBreakdown<C> {
  const allocatedNanos = total.cpuNanos + total.memoryNanos + total.gpuNanos;
  const known = total.measuredCells > 0 && (total.measuredNanos > 0n || allocatedNanos === 0n);
  const wastedNanos = total.measuredNanos - total.actualNanos;
  return {
    allocated: { currency, nanos: allocatedNanos },
    actual: known ? { currency, nanos: total.actualNanos } : null,
    wasted: known ? { currency, nanos: wastedNanos } : null,
    unmeasured: { currency, nanos: allocatedNanos - total.measuredNanos },
    wastePercentage: total.measuredNanos > 0n ? (Number(wastedNanos) / Number(total.measuredNanos)) * 100 : null,
    usageCoverage: total.cells > 0 ? total.measuredCells / total.cells : null,
  };
}

/** Running rates of a cost. */
export interface CostRates<C extends string = string> {
  readonly hourly: Money<C>;
  /** hourly x 24. */
  readonly daily: Money<C>;
  /** hourly x 730. */
  readonly monthly: Money<C>;
}

/** Hours of the mean month (365 x 24 / 12). */
export const hoursPerMonth = 730n;

/**
 * The mean rate over the covered time of a window: `coveredMs` is the part of the window for which costs are known at all
 * (not the time in which the workload ran: a job of one hour a day has its day's cost spread over 24). Null without any.
 */
export function costRates<C extends string>(cost: Money<C>, coveredMs: number): CostRates<C> | null {
  if (!(coveredMs > 0)) return null;
  const spanMs = BigInt(Math.round(coveredMs));
  const hourly = (cost.nanos * 3_600_000n + spanMs / 2n) / spanMs;
  const { currency } = cost;
  return { hourly: { currency, nanos: hourly }, daily: { currency, nanos: hourly * 24n }, monthly: { currency, nanos: hourly * hoursPerMonth } };
}
