/**
 * Bills in FOCUS (FinOps Open Cost and Usage Specification), versions 1.0 to 1.3: rows read, and summed in exact decimals with
 * list, contracted, effective and billed cost kept apart.
 */
import { z } from 'zod';
import { addDecimals, DecimalFormatError, parseDecimal, zeroDecimal, type ExactDecimal } from '../allocation/money.js';
import { CsvReader, type CsvRecord } from './csv.js';

/** The four costs that a charge has; which one is meant is chosen when asking. */
export const costColumns = ['billed', 'effective', 'list', 'contracted'] as const;
export type CostColumn = (typeof costColumns)[number];

/** A charge of a bill. What the row leaves out is null. */
export interface FocusCharge {
  /** Line of the file, from 1. */
  readonly line: number;
  /** Null: the row does not say (contracted cost of some providers), which is not zero. Negative: a credit or a correction. */
  readonly costs: Readonly<Record<CostColumn, ExactDecimal | null>>;
  /** ISO 4217. */
  readonly currency: string;
  /** Half open, UTC, epoch milliseconds. */
  readonly periodStartMs: number;
  readonly periodEndMs: number;
  /** Usage, Purchase, Tax, Credit, Adjustment. */
  readonly category: string;
  /** Correction, or null. */
  readonly chargeClass: string | null;
  /** ProviderName, or ServiceProviderName that replaced it in 1.3. */
  readonly provider: string | null;
  readonly serviceCategory: string | null;
  readonly serviceName: string | null;
  readonly regionId: string | null;
  readonly resourceId: string | null;
  readonly resourceName: string | null;
  readonly resourceType: string | null;
  readonly subAccountId: string | null;
  readonly skuId: string | null;
  /** Standard, Dynamic (spot), Committed, Other. */
  readonly pricingCategory: string | null;
  readonly commitmentDiscountId: string | null;
  /** Used, Unused. */
  readonly commitmentDiscountStatus: string | null;
  readonly tags: Readonly<Record<string, string>>;
}

/** A row that could not be read: named, counted and left out of every sum. */
export interface RejectedRow {
  readonly line: number;
  readonly reason: string;
}

/** A file that is not a FOCUS bill: it lacks columns that every version has. */
export class FocusFormatError extends Error {
  override readonly name = 'FocusFormatError';
  constructor(readonly missing: readonly string[]) {
    super(`not a FOCUS bill: without the column${missing.length === 1 ? '' : 's'} ${missing.join(', ')}`);
  }
}

const required = ['BilledCost', 'EffectiveCost', 'ListCost', 'ContractedCost', 'BillingCurrency', 'ChargePeriodStart', 'ChargePeriodEnd', 'ChargeCategory'] as const;

/** How a bill writes what is absent. */
const absent = new Set(['', 'NULL']);

/** Reads a bill from chunks of its text, cut anywhere; memory is that of the longest row. */
export class FocusReader {
  readonly #csv = new CsvReader();
  #columns: ReadonlyMap<string, number> | null = null;
  #width = 0;
  readonly #rejected: RejectedRow[] = [];

  /** Rows that could not be read, so far. */
  get rejected(): readonly RejectedRow[] {
    return this.#rejected;
  }

  /** The charges that are complete with this chunk. @throws FocusFormatError, CsvFormatError */
  push(chunk: string): FocusCharge[] {
    return this.#charges(this.#csv.push(chunk));
  }

  /** What remains when the text has ended. @throws FocusFormatError for a text without a header, CsvFormatError */
  end(): FocusCharge[] {
    const charges = this.#charges(this.#csv.end());
    if (!this.#columns) throw new FocusFormatError(required);
    return charges;
  }

  #charges(records: readonly CsvRecord[]): FocusCharge[] {
    const charges: FocusCharge[] = [];
    for (const record of records) {
      if (!this.#columns) {
        this.#columns = header(record.fields);
        this.#width = record.fields.length;
        continue;
      }
      const charge = readCharge(record, this.#columns, this.#width);
      if ('reason' in charge) this.#rejected.push(charge);
      else charges.push(charge);
    }
    return charges;
  }
}

function header(fields: readonly string[]): ReadonlyMap<string, number> {
  const columns = new Map(fields.map((name, index) => [name.trim(), index]));
  const missing = required.filter((name) => !columns.has(name));
  if (missing.length > 0) throw new FocusFormatError(missing);
  return columns;
}

function readCharge({ line, fields }: CsvRecord, columns: ReadonlyMap<string, number>, width: number): FocusCharge | RejectedRow {
  if (fields.length !== width) return { line, reason: `${fields.length} fields where the header has ${width}` };
  const text = (...names: string[]): string | null => {
    for (const name of names) {
      const value = fields[columns.get(name) ?? -1];
      if (value !== undefined && !absent.has(value)) return value;
    }
    return null;
  };
  try {
    const cost = (name: string): ExactDecimal | null => {
      const value = text(name);
      return value === null ? null : parseDecimal(value);
    };
    const currency = text('BillingCurrency');
    const category = text('ChargeCategory');
    if (currency === null || category === null) return { line, reason: 'without a currency or a charge category' };
    return {
      line,
      costs: { billed: cost('BilledCost'), effective: cost('EffectiveCost'), list: cost('ListCost'), contracted: cost('ContractedCost') },
      currency,
      periodStartMs: time(text('ChargePeriodStart')),
      periodEndMs: time(text('ChargePeriodEnd')),
      category,
      chargeClass: text('ChargeClass'),
      provider: text('ServiceProviderName', 'ProviderName'),
      serviceCategory: text('ServiceCategory'),
      serviceName: text('ServiceName'),
      regionId: text('RegionId', 'Region'),
      resourceId: text('ResourceId'),
      resourceName: text('ResourceName'),
      resourceType: text('ResourceType'),
      subAccountId: text('SubAccountId'),
      skuId: text('SkuId'),
      pricingCategory: text('PricingCategory'),
      commitmentDiscountId: text('CommitmentDiscountId'),
      commitmentDiscountStatus: text('CommitmentDiscountStatus'),
      tags: readTags(text('Tags')),
    };
  } catch (error) {
    if (error instanceof DecimalFormatError || error instanceof TimeFormatError || error instanceof TagsFormatError) return { line, reason: error.message };
    throw error;
  }
}

class TimeFormatError extends Error {}
class TagsFormatError extends Error {}

const timeForm = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?))?\s*(Z|UTC|[+-]\d\d:?\d\d)?$/;

/** A time of a bill; without a zone it is UTC, as the specification has it. */
function time(text: string | null): number {
  const match = timeForm.exec(text ?? '');
  const zone = match?.[3];
  const ms = match ? Date.parse(`${match[1]}T${match[2] ?? '00:00'}${zone === undefined || zone === 'UTC' ? 'Z' : zone.replace(/^([+-]\d\d)(\d\d)$/, '$1:$2')}`) : Number.NaN;
  if (Number.isNaN(ms)) throw new TimeFormatError(`not a time: ${JSON.stringify(text)}`);
  return ms;
}

const tagsSchema = z.record(z.string(), z.unknown());

function readTags(text: string | null): Record<string, string> {
  if (text === null) return {};
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new TagsFormatError('tags are not JSON', { cause });
  }
  const tags = tagsSchema.safeParse(parsed);
  if (!tags.success) throw new TagsFormatError('tags are not a JSON object');
  return Object.fromEntries(Object.entries(tags.data).map(([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value)]));
}

/** One cost column of many charges, exactly. */
export interface ColumnTotal {
  /** Credits included. */
  readonly sum: ExactDecimal;
  /** The part of the sum that is below zero: credits, refunds, corrections. */
  readonly negative: ExactDecimal;
  /** Rows that do not say; they count as nothing, and this says how many they are. */
  readonly nullRows: number;
}

/** Charges summed. */
export interface FocusTotal extends Readonly<Record<CostColumn, ColumnTotal>> {
  readonly rows: number;
}

const noColumn: ColumnTotal = { sum: zeroDecimal, negative: zeroDecimal, nullRows: 0 };
export const noFocusTotal: FocusTotal = { rows: 0, billed: noColumn, effective: noColumn, list: noColumn, contracted: noColumn };

/** The total with one more charge. */
export function addCharge(total: FocusTotal, { costs }: Pick<FocusCharge, 'costs'>): FocusTotal {
  const column = (name: CostColumn): ColumnTotal => {
    const { sum, negative, nullRows } = total[name];
    const cost = costs[name];
    if (cost === null) return { sum, negative, nullRows: nullRows + 1 };
    return { sum: addDecimals(sum, cost), negative: cost.digits < 0n ? addDecimals(negative, cost) : negative, nullRows };
  };
  return { rows: total.rows + 1, billed: column('billed'), effective: column('effective'), list: column('list'), contracted: column('contracted') };
}

/**
 * Charges summed by currency and then by what `keyOf` says of them (null for what says nothing). Currencies never meet in one
 * sum. Memory is that of the groups.
 */
export function sumCharges(charges: Iterable<FocusCharge>, keyOf: (charge: FocusCharge) => string | null): Map<string, Map<string | null, FocusTotal>> {
  const currencies = new Map<string, Map<string | null, FocusTotal>>();
  for (const charge of charges) {
    const groups = currencies.get(charge.currency) ?? new Map<string | null, FocusTotal>();
    currencies.set(charge.currency, groups);
    const key = keyOf(charge);
    groups.set(key, addCharge(groups.get(key) ?? noFocusTotal, charge));
  }
  return currencies;
}
