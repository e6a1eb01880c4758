import { currencySchema, DAY_MS, priceSourceSchema } from '@upid/contracts';
import type { Database, Tx } from '@upid/platform';
import { z } from 'zod';
import type { StandingPrice } from './node-price.js';

/** A price that was not believed, as it is kept for people to see. */
export const shownQuarantineSchema = z.object({ per_hour: z.string(), currency: currencySchema, source: z.string(), as_of: z.string().nullable(), reason: z.string(), explanation: z.string() });
export type ShownQuarantine = z.infer<typeof shownQuarantineSchema>;

/** What a node costs an hour from a time on; `perHourNanos` null: unknown. */
export interface StoredPrice {
  readonly id: number;
  readonly node: number;
  readonly validFromMs: number;
  readonly perHourNanos: bigint | null;
  readonly basis: z.infer<typeof priceSourceSchema> | null;
  readonly source: string | null;
  /** YYYY-MM-DD. */
  readonly asOf: string | null;
  readonly typical: boolean;
  readonly note: string | null;
  readonly quarantined: readonly ShownQuarantine[];
}
export type NewPrice = Omit<StoredPrice, 'id'>;

interface Row {
  readonly id: number; readonly node: number; readonly valid_from: Date; readonly per_hour: bigint | null; readonly basis: string | null; readonly source: string | null; readonly as_of: string | null; readonly typical: boolean; readonly note: string | null; readonly quarantined: unknown;
}
const COLUMNS = `id, node, valid_from, per_hour, basis, source, to_char(as_of, 'YYYY-MM-DD') AS as_of, typical, note, quarantined`;

function priceOf(row: Row): StoredPrice {
  return {
    id: row.id, node: row.node, validFromMs: row.valid_from.getTime(), perHourNanos: row.per_hour, basis: row.basis === null ? null : priceSourceSchema.parse(row.basis), source: row.source, asOf: row.as_of, typical: row.typical, note: row.note,
    quarantined: z.array(shownQuarantineSchema).parse(row.quarantined),
  };
}

/** Prices of nodes over time, and of price keys by day. */
export class PricesRepository {
  constructor(private readonly database: Database) {}

  /** Prices of nodes, by node, the earliest first. */
  async ofNodes(nodes: readonly number[], currency: string, tx?: Tx): Promise<Map<number, StoredPrice[]>> {
    const { rows } = await (tx ?? this.database).query<Row>(`SELECT ${COLUMNS} FROM node_price WHERE node = ANY($1) AND currency = $2 ORDER BY valid_from`, [nodes, currency]);
    return Map.groupBy(rows.map(priceOf), (price) => price.node);
  }

  async byId(ids: readonly number[]): Promise<Map<number, StoredPrice>> {
    const { rows } = await this.database.query<Row>(`SELECT ${COLUMNS} FROM node_price WHERE id = ANY($1)`, [ids]);
    return new Map(rows.map((row) => [row.id, priceOf(row)]));
  }

  async keep(tx: Tx, currency: string, prices: readonly NewPrice[]): Promise<void> {
    if (prices.length === 0) return;
    const sorted = prices.toSorted((a, b) => a.node - b.node);
    await tx.query(
      `INSERT INTO node_price (currency, node, valid_from, per_hour, basis, source, as_of, typical, note, quarantined)
       SELECT $1, * FROM unnest($2::int[], $3::timestamptz[], $4::int8[], $5::text[], $6::text[], $7::date[], $8::bool[], $9::text[], $10::jsonb[])
       ON CONFLICT (node, currency, valid_from) DO UPDATE SET per_hour = excluded.per_hour, basis = excluded.basis, source = excluded.source, as_of = excluded.as_of, typical = excluded.typical, note = excluded.note, quarantined = excluded.quarantined`,
      [
        currency, sorted.map((each) => each.node), sorted.map((each) => new Date(each.validFromMs)), sorted.map((each) => (each.perHourNanos === null ? null : String(each.perHourNanos))), sorted.map((each) => each.basis), sorted.map((each) => each.source),
        sorted.map((each) => each.asOf), sorted.map((each) => each.typical), sorted.map((each) => each.note), sorted.map((each) => JSON.stringify(each.quarantined)),
      ]);
  }

  /** Of each key the last price used before a day, at most `days` days before it. */
  async keysBefore(day: string, currency: string, days = 7): Promise<Map<string, StandingPrice>> {
    const { rows } = await this.database.query<{ price_key: string; per_hour: bigint; basis: string; source: string; as_of: string | null }>(
      `SELECT DISTINCT ON (price_key) price_key, per_hour, basis, source, to_char(as_of, 'YYYY-MM-DD') AS as_of FROM key_price WHERE day < $1::date AND day >= $1::date - $3::int AND currency = $2 ORDER BY price_key, day DESC`, [day, currency, days]);
    return new Map(rows.map((row) => [row.price_key, { perHour: { currency, nanos: row.per_hour }, basis: priceSourceSchema.parse(row.basis), source: row.source, asOf: row.as_of }]));
  }

  /** The prices that are used for keys on a day; the first that was stays. */
  async keepKeys(tx: Tx, day: string, prices: ReadonlyMap<string, StandingPrice>): Promise<void> {
    const sorted = [...prices].sort(([a], [b]) => (a < b ? -1 : 1));
    if (sorted.length === 0) return;
    await tx.query(
      `INSERT INTO key_price (price_key, day, currency, per_hour, basis, source, as_of) SELECT key, $2::date, currency, per_hour, basis, source, as_of
       FROM unnest($1::text[], $3::text[], $4::int8[], $5::text[], $6::text[], $7::date[]) AS each (key, currency, per_hour, basis, source, as_of) ON CONFLICT DO NOTHING`,
      [sorted.map(([key]) => key), day, sorted.map(([, each]) => each.perHour.currency), sorted.map(([, each]) => String(each.perHour.nanos)), sorted.map(([, each]) => each.basis), sorted.map(([, each]) => each.source), sorted.map(([, each]) => each.asOf)]);
  }

  /** Forgets prices of keys from before a time. */
  async forgetKeys(before: Date): Promise<void> {
    await this.database.query('DELETE FROM key_price WHERE day < $1', [new Date(before.getTime() - (before.getTime() % DAY_MS))]);
  }
}
