/** Price sheets: ours and OpenCost's, from parsed YAML or JSON to prices by key. */
import type { CapacityType, priceSourceSchema } from '@upid/contracts';
import { z } from 'zod';
import { moneyFromDecimal, type Money } from '../allocation/money.js';
import { picosFromDecimal, referenceRates, type CurrencyRates } from './estimate.js';

/** Everything that decides a machine's price. Two nodes of one key cost the same; nodes of different keys are never confused. */
export interface PriceKey {
  /** aws, gcp, azure, or any name a sheet uses. */
  readonly provider: string;
  readonly region: string;
  readonly instanceType: string;
  readonly capacityType: Exclude<CapacityType, 'unknown'>;
  /** linux, windows. */
  readonly operatingSystem: string;
  /** Of the operating system or software that the provider bills with the machine: none, included, rhel, suse. */
  readonly licence: string;
  /** shared, dedicated, host. */
  readonly tenancy: string;
  /** amd64, arm64. */
  readonly architecture: string;
  /** ISO 4217. */
  readonly currency: string;
}

/** The key as one text; case and surrounding space do not count. */
export function priceKeyId(key: PriceKey): string {
  return [...machineParts(key), key.currency].map((part) => part.trim().toLowerCase()).join('|');
}

/** The key without its currency: the same machine. */
export function machineId(key: Omit<PriceKey, 'currency'>): string {
  return machineParts(key).map((part) => part.trim().toLowerCase()).join('|');
}

function machineParts(key: Omit<PriceKey, 'currency'>): string[] {
  return [key.provider, key.region, key.instanceType, key.capacityType, key.operatingSystem, key.licence, key.tenancy, key.architecture];
}

/** What a figure rests on: the bill, the provider's price list, the user's sheet, the node's specification. */
export type PriceBasis = z.infer<typeof priceSourceSchema>;

/** One price of a source. */
export interface PriceEntry {
  readonly key: PriceKey;
  readonly perHour: Money;
  /** Where the figure is from, for people. */
  readonly source: string;
  /** The day the figure was read or published, YYYY-MM-DD; null: the source does not say. */
  readonly asOf: string | null;
  /** A typical figure of a price that moves (spot), not one that was published for all. */
  readonly typical: boolean;
  /** A person has checked that this price is right though it lies far from the estimate: it is not quarantined. */
  readonly confirmed: boolean;
}

/** Prices from one place. */
export interface PriceSource {
  readonly name: string;
  readonly basis: Exclude<PriceBasis, 'estimate'>;
  /** Shipped with the product: a dated copy of a list, which yields to whatever the user brings. */
  readonly bundled: boolean;
  /** By `machineId`; one machine may be priced in several currencies. */
  readonly entries: ReadonlyMap<string, readonly PriceEntry[]>;
  /** Unit prices for machines without an entry; null: none. */
  readonly unitRates: CurrencyRates | null;
  /** Labels by which the sheet's owner marks spot nodes, beside the well-known ones. */
  readonly spotLabel: { readonly name: string; readonly value: string } | null;
}

/** A price sheet that cannot be read; every fault is named with its place. */
export class PriceSheetError extends Error {
  override readonly name = 'PriceSheetError';
  constructor(readonly sheet: string, readonly faults: readonly string[], options?: ErrorOptions) {
    super(`price sheet ${sheet}: ${faults.join('; ')}`, options);
  }
}

const currency = z.string().regex(/^[A-Z]{3}$/, 'a currency is three capital letters (ISO 4217)');
const decimal = z.union([z.string(), z.number().nonnegative().transform(String)]).pipe(z.string().regex(/^\d+(\.\d+)?([eE][+-]?\d+)?$/, 'a price is a decimal number, not below zero'));
const word = z.string().trim().min(1);

const ratesSchema = z.strictObject({
  cpu_core_hour: decimal,
  ram_gib_hour: decimal,
  gpu_hour: decimal.optional(),
  storage_gib_hour: decimal.optional(),
  spot_cpu_core_hour: decimal.optional(),
  spot_ram_gib_hour: decimal.optional(),
});

const pricesSchema = z.strictObject({
  provider: word,
  region: word,
  capacity_type: z.preprocess((word) => (typeof word === 'string' ? word.toLowerCase().replace('-', '_') : word), z.enum(['on_demand', 'spot', 'reserved'])).default('on_demand'),
  operating_system: word.default('linux'),
  licence: word.default('none'),
  tenancy: word.default('shared'),
  architecture: word.default('amd64'),
  currency: currency.optional(),
  source: word.optional(),
  as_of: z.iso.date().optional(),
  typical: z.boolean().default(false),
  confirmed: z.boolean().default(false),
  /** Instance type to price per hour. */
  instance_types: z.record(word, decimal),
});

/** The format of a price sheet, as an object parsed from YAML. Prices are per hour; groups share all but the instance type. */
export const priceSheetSchema = z.strictObject({
  version: z.literal(1),
  name: word.optional(),
  basis: z.enum(['price_list', 'price_sheet']).default('price_sheet'),
  currency,
  rates: ratesSchema.optional(),
  prices: z.array(pricesSchema).default([]),
});

const openCostNumber = z.string().trim().regex(/^(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/, 'a price is a decimal number');
/** OpenCost's price file (configs/*.json): unit prices as texts; what UPID does not use is let through. */
const openCostSchema = z.looseObject({
  description: z.string().optional(),
  currencyCode: currency.optional(),
  CPU: openCostNumber,
  RAM: openCostNumber,
  GPU: openCostNumber.optional(),
  spotCPU: openCostNumber.optional(),
  spotRAM: openCostNumber.optional(),
  storage: openCostNumber.optional(),
  spotLabel: z.string().optional(),
  spotLabelValue: z.string().optional(),
});

/**
 * Reads a price sheet, ours or OpenCost's price file, from the parsed document. Unit prices that the sheet leaves out: spot is
 * its own on-demand price; GPU and storage are the reference's in the reference's currency, else 0.
 * @param name said in errors and beside every figure, where the sheet has no name of its own.
 * @throws PriceSheetError
 */
export function readPriceSheet(document: unknown, name: string, { bundled = false } = {}): PriceSource {
  if (typeof document === 'object' && document !== null && 'CPU' in document && 'RAM' in document) return readOpenCostFile(document, name);
  const parsed = priceSheetSchema.safeParse(document);
  if (!parsed.success) throw new PriceSheetError(name, faultsOf(parsed.error), { cause: parsed.error });
  const sheet = parsed.data;
  const entries = new Map<string, PriceEntry[]>();
  const faults: string[] = [];
  sheet.prices.forEach((group, index) => {
    for (const [instanceType, price] of Object.entries(group.instance_types)) {
      const key: PriceKey = {
        provider: group.provider, region: group.region, instanceType, capacityType: group.capacity_type, operatingSystem: group.operating_system,
        licence: group.licence, tenancy: group.tenancy, architecture: group.architecture, currency: group.currency ?? sheet.currency,
      };
      const id = machineId(key);
      const others = entries.get(id) ?? [];
      if (others.some((other) => other.key.currency === key.currency)) faults.push(`prices.${index}: ${priceKeyId(key)} is priced twice`);
      others.push({
        key, perHour: moneyFromDecimal(price, key.currency), source: group.source ?? sheet.name ?? name, asOf: group.as_of ?? null,
        typical: group.typical, confirmed: group.confirmed,
      });
      entries.set(id, others);
    }
  });
  if (faults.length > 0) throw new PriceSheetError(name, faults);
  return {
    name: sheet.name ?? name, basis: sheet.basis, bundled, entries, spotLabel: null,
    unitRates: sheet.rates === undefined ? null : unitRates(sheet.currency, {
      cpu: sheet.rates.cpu_core_hour, ram: sheet.rates.ram_gib_hour, gpu: sheet.rates.gpu_hour, storage: sheet.rates.storage_gib_hour,
      spotCpu: sheet.rates.spot_cpu_core_hour, spotRam: sheet.rates.spot_ram_gib_hour,
    }),
  };
}

function readOpenCostFile(document: object, name: string): PriceSource {
  const parsed = openCostSchema.safeParse(document);
  if (!parsed.success) throw new PriceSheetError(name, faultsOf(parsed.error), { cause: parsed.error });
  const file = parsed.data;
  return {
    name, basis: 'price_sheet', bundled: false, entries: new Map(),
    spotLabel: file.spotLabel ? { name: file.spotLabel, value: file.spotLabelValue ?? '' } : null,
    unitRates: unitRates(file.currencyCode ?? 'USD', {
      cpu: file.CPU, ram: file.RAM, gpu: file.GPU, storage: file.storage, spotCpu: file.spotCPU, spotRam: file.spotRAM,
    }),
  };
}

interface RateTexts {
  readonly cpu: string;
  readonly ram: string;
  readonly gpu?: string;
  readonly storage?: string;
  readonly spotCpu?: string;
  readonly spotRam?: string;
}

function unitRates(code: string, texts: RateTexts): CurrencyRates {
  const fallback = code === referenceRates.currency ? referenceRates.rates : null;
  const cpuCorePicosPerHour = picosFromDecimal(texts.cpu);
  const ramGibPicosPerHour = picosFromDecimal(texts.ram);
  const or = (text: string | undefined, other: bigint): bigint => (text === undefined ? other : picosFromDecimal(text));
  return {
    currency: code,
    rates: {
      cpuCorePicosPerHour,
      ramGibPicosPerHour,
      gpuPicosPerHour: or(texts.gpu, fallback?.gpuPicosPerHour ?? 0n),
      storageGibPicosPerHour: or(texts.storage, fallback?.storageGibPicosPerHour ?? 0n),
      spotCpuCorePicosPerHour: or(texts.spotCpu, cpuCorePicosPerHour),
      spotRamGibPicosPerHour: or(texts.spotRam, ramGibPicosPerHour),
    },
  };
}

function faultsOf(error: z.ZodError): string[] {
  return error.issues.map(({ path, message }) => (path.length > 0 ? `${path.join('.')}: ${message}` : message));
}
