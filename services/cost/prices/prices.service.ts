import { DAY_MS, HOUR_MS } from '@upid/contracts';
import type { Logger, Tx } from '@upid/platform';
import type { StoredNode } from '../allocation/lives.repository.js';
import type { UnitRatios } from '../allocation/cells.js';
import { referenceRates } from './estimate.js';
import { priceKeyOf, priceNode, type NodePrice, type StandingPrice, type UnknownNodePrice } from './node-price.js';
import { priceKeyId, type PriceSource } from './price-sheet.js';
import type { NewPrice, PricesRepository, StoredPrice } from './prices.repository.js';

/** What a node cost in an hour: the price that was valid then, before the first one the first. */
export type PriceAt = (node: number, hourMs: number) => StoredPrice | null;

/** Nothing was priced before. */
const ALWAYS_MS = 0;

/** Prices nodes, and keeps each price from the hour in which it was first known. */
export class PricesService {
  private yesterday: { readonly day: string; readonly prices: ReadonlyMap<string, StandingPrice>; readonly kept: Set<string> } | null = null;

  constructor(private readonly repository: PricesRepository, private readonly sources: readonly PriceSource[], readonly currency: string, private readonly log: Logger) {}

  /** List prices by whose ratio a node's price is split: the user's own unit prices where there are any, else the reference's. */
  get ratios(): UnitRatios {
    return this.sources.find((source) => source.unitRates?.currency === this.currency)?.unitRates?.rates ?? referenceRates.rates;
  }

  /** Prices nodes as of now; what differs from before is kept as valid from this hour on. */
  async pricesOf(tx: Tx, nodes: readonly StoredNode[], nowMs: number): Promise<PriceAt> {
    const known = await this.repository.ofNodes(nodes.map((node) => node.id), this.currency, tx);
    const day = new Date(nowMs).toISOString().slice(0, 10);
    if (this.yesterday?.day !== day) this.yesterday = { day, prices: await this.repository.keysBefore(day, this.currency), kept: new Set() };
    const { prices: yesterday, kept } = this.yesterday;
    const fresh: NewPrice[] = [];
    const keys = new Map<string, StandingPrice>();
    for (const node of nodes) {
      if (!node.facts) continue;
      const found = priceKeyOf(node.facts.price, this.currency);
      const key = 'key' in found ? priceKeyId(found.key) : null;
      const price = priceNode(node.facts.price, { currency: this.currency, atMs: nowMs, sources: this.sources, estimateRates: referenceRates, yesterday: (key === null ? null : yesterday.get(key)) ?? null });
      if (key !== null && !kept.has(key) && price.perHour !== null && price.basis !== 'estimate') keys.set(key, price);
      const before = known.get(node.id) ?? [];
      const wanted = newPrice(node.id, price, before.length === 0 ? ALWAYS_MS : nowMs - (nowMs % HOUR_MS));
      if (isSame(before.at(-1), wanted)) continue;
      if (wanted.quarantined.length > 0) this.log.warn({ node: node.name, quarantined: wanted.quarantined }, 'a price that cannot be right is shown and not used');
      fresh.push(wanted);
    }
    if (keys.size > 0) {
      await this.repository.keepKeys(tx, day, keys);
      tx.afterCommit(() => { for (const key of keys.keys()) kept.add(key); });
    }
    let all = known;
    if (fresh.length > 0) {
      await this.repository.keep(tx, this.currency, fresh);
      all = await this.repository.ofNodes(nodes.map((node) => node.id), this.currency, tx);
    }
    return (node, hourMs) => {
      const prices = all.get(node) ?? [];
      return prices.findLast((price) => price.validFromMs <= hourMs) ?? prices[0] ?? null;
    };
  }

  /** Forgets the days of keys that are no longer anyone's yesterday. */
  async forget(nowMs: number): Promise<void> {
    await this.repository.forgetKeys(new Date(nowMs - 60 * DAY_MS));
  }
}

function newPrice(node: number, price: NodePrice | UnknownNodePrice, validFromMs: number): NewPrice {
  const quarantined = price.quarantined.map((each) => ({ per_hour: String(each.perHour.nanos), currency: each.perHour.currency, source: each.source, as_of: each.asOf, reason: each.reason, explanation: each.explanation }));
  if (price.perHour === null) return { node, validFromMs, perHourNanos: null, basis: null, source: null, asOf: null, typical: false, note: price.note, quarantined };
  return { node, validFromMs, perHourNanos: price.perHour.nanos, basis: price.basis, source: price.source, asOf: price.asOf, typical: price.typical, note: price.note, quarantined };
}

function isSame(before: StoredPrice | undefined, wanted: NewPrice): boolean {
  const told = ({ perHourNanos, basis, source, asOf, typical, note, quarantined }: NewPrice) =>
    JSON.stringify([String(perHourNanos), basis, source, asOf, typical, note, quarantined.map((each) => [each.per_hour, each.currency, each.source, each.as_of, each.reason, each.explanation])]);
  return before !== undefined && told(before) === told(wanted);
}
