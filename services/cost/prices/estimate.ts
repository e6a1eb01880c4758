/** Unit prices, and what a node would cost by its specification. */
import type { CapacityType } from '@upid/contracts';
import { divideHalfEven, parseDecimal, scaleDecimal, type Money } from '../allocation/money.js';
import type { UnitRatios } from '../allocation/cells.js';

/** Unit prices per hour in 1e-12 of a currency. */
export interface UnitRates extends UnitRatios {
  readonly spotCpuCorePicosPerHour: bigint;
  readonly spotRamGibPicosPerHour: bigint;
  readonly storageGibPicosPerHour: bigint;
}

/** Unit prices of one currency. */
export interface CurrencyRates<C extends string = string> {
  readonly currency: C;
  readonly rates: UnitRates;
}

/** A decimal price per hour as an integer of 1e-12, rounded half to even below. @throws DecimalFormatError */
export function picosFromDecimal(text: string): bigint {
  return scaleDecimal(parseDecimal(text), 12);
}

/** The reference's unit prices, in US dollars per hour; also the list prices whose ratio splits a node's price. */
export const referenceRates: CurrencyRates<'USD'> = {
  currency: 'USD',
  rates: {
    cpuCorePicosPerHour: picosFromDecimal('0.031611'),
    ramGibPicosPerHour: picosFromDecimal('0.004237'),
    gpuPicosPerHour: picosFromDecimal('0.95'),
    storageGibPicosPerHour: picosFromDecimal('0.00005479452'),
    spotCpuCorePicosPerHour: picosFromDecimal('0.006655'),
    spotRamGibPicosPerHour: picosFromDecimal('0.000892'),
  },
};

/** What a node is, as far as it decides an estimate. */
export interface NodeSpecification {
  readonly cpuMillicores: number;
  readonly memoryBytes: number;
  readonly gpus: number;
  /** Disks that come with the node and are not billed by themselves; 0 where the provider bills its disks apart. */
  readonly storageBytes?: number;
}

/**
 * cores x CPU + GiB x RAM + GPUs x GPU + GiB x storage, at spot rates for CPU and RAM on a spot node, at on-demand rates on any other; rounded once, to 1e-9.
 * Amounts are taken to 1e-6 core, a byte and 1e-6 GPU.
 */
export function estimateNodePrice<C extends string>(spec: NodeSpecification, capacityType: CapacityType, { currency, rates }: CurrencyRates<C>): Money<C> {
  const spot = capacityType === 'spot';
  const perGib = BigInt(Math.round(spec.memoryBytes)) * (spot ? rates.spotRamGibPicosPerHour : rates.ramGibPicosPerHour)
    + BigInt(Math.round(spec.storageBytes ?? 0)) * rates.storageGibPicosPerHour;
  const perUnit = BigInt(Math.round(spec.cpuMillicores * 1000)) * (spot ? rates.spotCpuCorePicosPerHour : rates.cpuCorePicosPerHour)
    + BigInt(Math.round(spec.gpus * 1e6)) * rates.gpuPicosPerHour;
  const bytesPerGib = 1n << 30n;
  const microsPerUnit = 1_000_000n;
  const picosPerNano = 1000n;
  return { currency, nanos: divideHalfEven(perGib * microsPerUnit + perUnit * bytesPerGib, microsPerUnit * bytesPerGib * picosPerNano) };
}
