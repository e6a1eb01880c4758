/** Why a cost is another than before, in parts that sum to the change. */

/** One resource of pods that are charged alike (by request, or by use): cost rate = replicas x amount x price. */
export interface ChargedRate {
  /** Nanos an hour. */
  readonly costNanosPerHour: number;
  /** Mean amount charged at a time: millicores, or bytes, over all pods. */
  readonly amount: number;
}

/** Means over one period. */
export interface PeriodRates {
  /** Pods at a time, on average. */
  readonly replicas: number;
  readonly requestedCpu: ChargedRate;
  readonly usedCpu: ChargedRate;
  readonly requestedMemory: ChargedRate;
  readonly usedMemory: ChargedRate;
  readonly gpuNanosPerHour: number;
}

export type DriverName = 'replicas' | 'requests' | 'usage' | 'price' | 'gpus';

/** What moved a cost, and by how much: nanos an hour, the later period less the earlier. */
export interface Driver {
  readonly name: DriverName;
  readonly nanosPerHour: number;
}

/** (a - b) / (ln a - ln b), the logarithmic mean; a where both are the same. */
function logMean(a: number, b: number): number {
  return Math.abs(a - b) < 1e-9 * Math.max(a, b) ? a : (a - b) / (Math.log(a) - Math.log(b));
}

/**
 * Divides the change of a cost over replicas, what each replica is charged (requests, or usage where it requests nothing) and
 * the price of a unit, by the logarithmic mean Divisia method (Ang, Energy Policy 2004): no residual, and the same backwards.
 * What begins from nothing, or ends in nothing, is a change of replicas. The parts sum to the change up to the rounding of doubles.
 */
export function costDrivers(before: PeriodRates, after: PeriodRates): Driver[] {
  const sums: Record<DriverName, number> = { replicas: 0, requests: 0, usage: 0, price: 0, gpus: after.gpuNanosPerHour - before.gpuNanosPerHour };
  const divide = (from: ChargedRate, to: ChargedRate, amounts: 'requests' | 'usage') => {
    const change = to.costNanosPerHour - from.costNanosPerHour;
    const isWhole = (rate: ChargedRate, replicas: number) => rate.costNanosPerHour > 0 && rate.amount > 0 && replicas > 0;
    if (!isWhole(from, before.replicas) || !isWhole(to, after.replicas)) {
      // With pods before and after, what began or ended is the charge itself.
      sums[before.replicas > 0 && after.replicas > 0 ? amounts : 'replicas'] += change;
      return;
    }
    const weight = logMean(to.costNanosPerHour, from.costNanosPerHour);
    const each = (rate: ChargedRate, replicas: number) => rate.amount / replicas;
    sums.replicas += weight * Math.log(after.replicas / before.replicas);
    sums[amounts] += weight * Math.log(each(to, after.replicas) / each(from, before.replicas));
    sums.price += weight * Math.log(to.costNanosPerHour / to.amount / (from.costNanosPerHour / from.amount));
  };
  divide(before.requestedCpu, after.requestedCpu, 'requests');
  divide(before.requestedMemory, after.requestedMemory, 'requests');
  divide(before.usedCpu, after.usedCpu, 'usage');
  divide(before.usedMemory, after.usedMemory, 'usage');
  return ranked(sums);
}

/** What moved the price of nodes: their number, and what one costs. */
export function nodeDrivers(before: { readonly nodes: number; readonly nanosPerHour: number }, after: { readonly nodes: number; readonly nanosPerHour: number }): { readonly name: 'nodes' | 'price'; readonly nanosPerHour: number }[] {
  const change = after.nanosPerHour - before.nanosPerHour;
  if (!(before.nanosPerHour > 0 && after.nanosPerHour > 0 && before.nodes > 0 && after.nodes > 0)) return change === 0 ? [] : [{ name: 'nodes', nanosPerHour: change }];
  const weight = logMean(after.nanosPerHour, before.nanosPerHour);
  const nodes = weight * Math.log(after.nodes / before.nodes);
  return ranked({ nodes, price: change - nodes });
}

function ranked<N extends string>(sums: Readonly<Record<N, number>>): { readonly name: N; readonly nanosPerHour: number }[] {
  return (Object.entries(sums) as [N, number][]).filter(([, nanosPerHour]) => Math.abs(nanosPerHour) >= 1).map(([name, nanosPerHour]) => ({ name, nanosPerHour })).sort((a, b) => Math.abs(b.nanosPerHour) - Math.abs(a.nanosPerHour));
}
