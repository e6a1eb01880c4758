/** What a node costs an hour, what that figure rests on, and which figures were not believed. */
import type { CapacityType, NodeObject } from '@upid/contracts';
import { compareMoney, type Money } from '../allocation/money.js';
import { estimateNodePrice, type CurrencyRates, type NodeSpecification } from './estimate.js';
import { machineId, type PriceBasis, type PriceEntry, type PriceKey, type PriceSource } from './price-sheet.js';

/** A node as the inventory knows it; null, '' or `unknown` where it does not. */
export interface NodeFacts extends NodeSpecification {
  readonly provider: string | null;
  readonly region: string | null;
  readonly instanceType: string | null;
  readonly capacityType: CapacityType;
  readonly operatingSystem: string | null;
  readonly architecture: string | null;
  /** Null: none on Linux, the one in the machine's price on Windows. */
  readonly licence?: string | null;
  /** Null: shared. */
  readonly tenancy?: string | null;
}

/** The facts of an inventoried node; null while its CPU or memory capacity is unknown, since then nothing can be allocated either. */
export function nodeFactsOf(node: NodeObject): NodeFacts | null {
  const { cpu_millicores: cpuMillicores, memory_bytes: memoryBytes, gpus } = node.capacity;
  if (!cpuMillicores || !memoryBytes) return null;
  return {
    provider: node.provider, region: node.region, instanceType: node.instance_type, capacityType: node.capacity_type,
    operatingSystem: node.operating_system, architecture: node.architecture, cpuMillicores, memoryBytes, gpus: gpus ?? 0,
  };
}

/** A price that stood before: yesterday's, for the same key. */
export interface StandingPrice<C extends string = string> {
  readonly perHour: Money<C>;
  readonly basis: PriceBasis;
  readonly source: string;
  readonly asOf: string | null;
}

/** Why a price was not used. */
export type QuarantineReason = 'far_from_yesterday' | 'far_from_estimate' | 'other_currency';

/** A price that cannot be right, or not be compared: kept for people to see, never used. */
export interface QuarantinedPrice {
  readonly perHour: Money;
  readonly basis: PriceBasis;
  readonly source: string;
  readonly asOf: string | null;
  readonly reason: QuarantineReason;
  /** What it was held against; null for another currency. */
  readonly comparedWith: Money | null;
  readonly explanation: string;
}

/** A node's price with what it rests on. */
export interface NodePrice<C extends string = string> extends StandingPrice<C> {
  /** Whole days between the figure's date and the time of asking; null where the source has no date. */
  readonly ageDays: number | null;
  readonly typical: boolean;
  /** In a sentence: why the figure is an estimate, or that yesterday's price stands. Null where an entry matched. */
  readonly note: string | null;
  /** Facts taken for granted in the match (licence, tenancy). */
  readonly assumed: readonly string[];
  readonly quarantined: readonly QuarantinedPrice[];
}

/** No price: nothing matched, and there are no unit prices in the currency to estimate with. Unknown is never zero. */
export interface UnknownNodePrice {
  readonly perHour: null;
  readonly note: string;
  readonly quarantined: readonly QuarantinedPrice[];
}

/** What a price is judged with. */
export interface PricingContext<C extends string = string> {
  /** The currency that is asked for. Nothing is converted. */
  readonly currency: C;
  readonly atMs: number;
  /** Asked in this order; `orderSources` gives the product's. */
  readonly sources: readonly PriceSource[];
  /** Unit prices for estimates; those of another currency are not used. */
  readonly estimateRates: CurrencyRates;
  /** The last good price of the same key, from the day before. */
  readonly yesterday: StandingPrice<C> | null;
}

/** A price may be this many times its measure, or one part in this many, and still be believed. */
export const believableFactor = 3n;

/**
 * The order in which sources answer: the bill, the provider's price list, the user's sheet, and the shipped copy of lists
 * last, since a dated copy must not hide what the user has written. The estimate comes after them all.
 */
export function orderSources(sources: readonly PriceSource[]): PriceSource[] {
  const rank = ({ basis, bundled }: PriceSource): number => (bundled ? 3 : { bill: 0, price_list: 1, price_sheet: 2 }[basis]);
  return sources.map((source, index) => ({ source, index })).sort((a, b) => rank(a.source) - rank(b.source) || a.index - b.index).map(({ source }) => source);
}

/** The node's price key, or which facts of it are unknown. Case and currency apart, an unknown fact never matches anything. */
export function priceKeyOf(node: NodeFacts, currency: string): { key: PriceKey; assumed: string[] } | { missing: string[] } {
  const { provider, region, instanceType, capacityType, operatingSystem, architecture } = node;
  const missing = Object.entries({ provider, region, instanceType, capacityType, operatingSystem, architecture })
    .filter(([, value]) => !value || value === 'unknown').map(([name]) => words[name as keyof typeof words]);
  if (missing.length > 0 || !provider || !region || !instanceType || capacityType === 'unknown' || !operatingSystem || !architecture) return { missing };
  const assumed = [node.licence == null ? 'licence' : '', node.tenancy == null ? 'tenancy' : ''].filter((each) => each !== '');
  const licence = node.licence ?? (operatingSystem.toLowerCase() === 'windows' ? 'included' : 'none');
  return { key: { provider, region, instanceType, capacityType, operatingSystem, architecture, licence, tenancy: node.tenancy ?? 'shared', currency }, assumed };
}

const words = {
  provider: 'provider', region: 'region', instanceType: 'instance type', capacityType: 'capacity type', operatingSystem: 'operating system', architecture: 'architecture',
};

/**
 * The price of a node: the first source that has its exact key, else the source's unit prices, else an estimate that says why.
 * Never the nearest machine's price. A price outside a factor of 3 of yesterday's or of the estimate's, or in another currency,
 * is quarantined: yesterday's stands if there is one, else the next source answers. A pure function of its arguments;
 * one look-up a source.
 */
export function priceNode<C extends string>(node: NodeFacts, context: PricingContext<C>): NodePrice<C> | UnknownNodePrice {
  const { currency, yesterday } = context;
  const quarantined: QuarantinedPrice[] = [];
  const estimated = context.estimateRates.currency === currency ? estimateNodePrice(node, node.capacityType, context.estimateRates as CurrencyRates<C>) : null;
  const found = priceKeyOf(node, currency);
  for (const source of context.sources) {
    if ('key' in found) {
      const entries = source.entries.get(machineId(found.key)) ?? [];
      const entry = entries.find(({ perHour }) => perHour.currency === currency);
      if (entry) {
        const fault = entry.confirmed ? null : faultOf(entry.perHour as Money<C>, yesterday?.perHour ?? null, estimated);
        if (!fault) return believed(entry as PriceEntry & { perHour: Money<C> }, source, found.assumed, quarantined, context);
        quarantined.push(quarantine(entry, source, fault));
        continue;
      }
      for (const other of entries) quarantined.push(quarantine(other, source, { reason: 'other_currency', comparedWith: null }));
    }
    if (source.unitRates?.currency === currency) {
      const perHour = estimateNodePrice(node, node.capacityType, source.unitRates as CurrencyRates<C>);
      const entry = { perHour, source: source.name, asOf: null, typical: false };
      const fault = faultOf(perHour, yesterday?.perHour ?? null, null);
      if (!fault) return { ...believed(entry, source, [], quarantined, context), note: `from the unit prices of ${source.name}` };
      quarantined.push(quarantine(entry, source, fault));
    }
  }
  const doubted = quarantined.some(({ reason }) => reason !== 'other_currency');
  if (doubted && yesterday) {
    return { ...yesterday, ageDays: ageInDays(yesterday.asOf, context.atMs), typical: false, assumed: [], quarantined, note: "yesterday's price stands: today's is quarantined" };
  }
  const reason = 'missing' in found
    ? `${found.missing.join(', ')} unknown`
    : doubted ? 'every price found is quarantined'
      : quarantined.length > 0 ? `no price in ${currency} for ${machineId(found.key)}` : `no price for ${machineId(found.key)}`;
  if (!estimated) return { perHour: null, quarantined, note: `${reason}, and no unit prices in ${currency} to estimate with` };
  return {
    perHour: estimated, basis: 'estimate', source: "the node's specification", asOf: null, ageDays: null, typical: false, assumed: [], quarantined,
    note: `estimated from the node's specification${node.capacityType === 'unknown' ? ' at on-demand rates' : ''}: ${reason}`,
  };
}

interface Fault {
  readonly reason: QuarantineReason;
  readonly comparedWith: Money | null;
}

/** What is wrong with a price, if anything: more than three times its measure or less than a third of it. */
function faultOf<C extends string>(price: Money<C>, yesterday: Money<C> | null, estimated: Money<C> | null): Fault | null {
  if (yesterday && !within(price, yesterday)) return { reason: 'far_from_yesterday', comparedWith: yesterday };
  if (estimated && !within(price, estimated)) return { reason: 'far_from_estimate', comparedWith: estimated };
  return null;
}

function within<C extends string>(price: Money<C>, measure: Money<C>): boolean {
  const times = (money: Money<C>): Money<C> => ({ currency: money.currency, nanos: money.nanos * believableFactor });
  return compareMoney(price, times(measure)) <= 0 && compareMoney(times(price), measure) >= 0;
}

function quarantine(entry: Pick<PriceEntry, 'perHour' | 'source' | 'asOf'>, source: PriceSource, { reason, comparedWith }: Fault): QuarantinedPrice {
  const { perHour, asOf } = entry;
  const explanation = reason === 'other_currency' || comparedWith === null
    ? `the price is in ${perHour.currency}, and nothing is converted`
    : `more than ${believableFactor} times away from ${reason === 'far_from_yesterday' ? "yesterday's price" : 'the estimate'}`;
  return { perHour, basis: source.basis, source: entry.source, asOf, reason, comparedWith, explanation };
}

function believed<C extends string>(
  entry: Pick<PriceEntry, 'source' | 'asOf' | 'typical'> & { readonly perHour: Money<C> }, source: PriceSource, assumed: readonly string[],
  quarantined: readonly QuarantinedPrice[], { atMs }: PricingContext<C>,
): NodePrice<C> {
  const { perHour, asOf, typical } = entry;
  return { perHour, basis: source.basis, source: entry.source, asOf, ageDays: ageInDays(asOf, atMs), typical, note: null, assumed, quarantined };
}

function ageInDays(asOf: string | null, atMs: number): number | null {
  return asOf === null ? null : Math.max(0, Math.floor((atMs - Date.parse(`${asOf}T00:00:00Z`)) / 86_400_000));
}
