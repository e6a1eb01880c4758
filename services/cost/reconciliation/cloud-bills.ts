/** Answers of the clouds' cost APIs, from parsed JSON to exact amounts: AWS Cost Explorer and Azure Cost Management. */
import { z } from 'zod';
import { DecimalFormatError, parseDecimal, type ExactDecimal } from '../allocation/money.js';

/** An answer that does not have the documented shape. */
export class CloudBillError extends Error {
  override readonly name = 'CloudBillError';
  constructor(readonly api: string, readonly faults: readonly string[], options?: ErrorOptions) {
    super(`unexpected answer of ${api}: ${faults.join('; ')}`, options);
  }
}

/** One amount of a cost API. */
export interface CloudCost {
  /** First day or instant of the period, as the API writes it in UTC; null where the question was for no period. */
  readonly start: string | null;
  readonly end: string | null;
  /** BlendedCost, UnblendedCost, AmortizedCost, ...; PreTaxCost, Cost, ... */
  readonly metric: string;
  readonly amount: ExactDecimal;
  /** ISO 4217; null where the answer does not say, and then the amount must not be added to another. */
  readonly currency: string | null;
  /** What it was grouped by, by name where the API gives one, else by position. */
  readonly dimensions: Readonly<Record<string, string>>;
  /** The provider may still change it. */
  readonly estimated: boolean;
}

/** One page of an answer. */
export interface CloudCostPage {
  readonly costs: readonly CloudCost[];
  /** Where the next page is (a token or a URL); null on the last. A sum over a page with a next one is not a total. */
  readonly next: string | null;
}

const awsAmount = z.object({ Amount: z.string(), Unit: z.string().optional() });
const awsSchema = z.object({
  NextPageToken: z.string().optional(),
  GroupDefinitions: z.array(z.object({ Type: z.string().optional(), Key: z.string().optional() })).optional(),
  ResultsByTime: z.array(z.object({
    TimePeriod: z.object({ Start: z.string(), End: z.string() }),
    Total: z.record(z.string(), awsAmount).default({}),
    Groups: z.array(z.object({ Keys: z.array(z.string()), Metrics: z.record(z.string(), awsAmount) })).default([]),
    Estimated: z.boolean().default(false),
  })),
});

/** Reads AWS Cost Explorer's GetCostAndUsage: amounts are text; grouped answers have no total of their own. @throws CloudBillError */
export function readCostExplorer(answer: unknown): CloudCostPage {
  const api = 'AWS Cost Explorer';
  const { ResultsByTime, NextPageToken, GroupDefinitions } = parse(api, awsSchema, answer);
  const costs = ResultsByTime.flatMap(({ TimePeriod: { Start: start, End: end }, Total, Groups, Estimated: estimated }) => {
    const of = (metrics: Record<string, z.infer<typeof awsAmount>>, dimensions: Record<string, string>): CloudCost[] =>
      Object.entries(metrics).map(([metric, { Amount, Unit }]) => ({ start, end, metric, amount: decimal(api, Amount), currency: currencyOf(Unit), dimensions, estimated }));
    if (Groups.length === 0) return of(Total, {});
    return Groups.flatMap(({ Keys, Metrics }) => of(Metrics, Object.fromEntries(Keys.map((key, i) => [GroupDefinitions?.[i]?.Key ?? String(i), key]))));
  });
  return { costs, next: NextPageToken || null };
}

const azureSchema = z.object({
  properties: z.object({
    nextLink: z.string().nullish(),
    columns: z.array(z.object({ name: z.string(), type: z.string() })),
    rows: z.array(z.array(z.union([z.string(), z.number(), z.null()]))),
  }),
});

/** Number columns of Azure that say when, not how much. */
const azureTimes = new Set(['UsageDate', 'BillingMonth']);

/**
 * Reads Azure Cost Management's Query: rows under named columns; every number but a date is an amount, taken by its shortest
 * decimal (JSON numbers carry 17 digits). @throws CloudBillError
 */
export function readAzureQuery(answer: unknown): CloudCostPage {
  const api = 'Azure Cost Management';
  const { properties: { nextLink, columns, rows } } = parse(api, azureSchema, answer);
  const costs = rows.flatMap((row, index) => {
    if (row.length !== columns.length) throw new CloudBillError(api, [`row ${index} has ${row.length} values for ${columns.length} columns`]);
    const cells = columns.map((column, i) => ({ ...column, value: row[i] ?? null }));
    const text = (name: string): string | null => {
      const value = cells.find((cell) => cell.name === name)?.value ?? null;
      return value === null ? null : String(value);
    };
    const amounts = cells.filter(({ name, type, value }) => type === 'Number' && !azureTimes.has(name) && value !== null);
    const dimensions = Object.fromEntries(cells.flatMap(({ name, type, value }) => (type !== 'Number' && name !== 'Currency' && !azureTimes.has(name) && value !== null ? [[name, String(value)]] : [])));
    const start = day(text('UsageDate') ?? text('BillingMonth'));
    return amounts.map(({ name, value }): CloudCost => ({
      start, end: null, metric: name, amount: decimal(api, String(value)), currency: name.endsWith('USD') ? 'USD' : text('Currency'), dimensions, estimated: false,
    }));
  });
  return { costs, next: nextLink || null };
}

function parse<T>(api: string, schema: z.ZodType<T>, answer: unknown): T {
  const parsed = schema.safeParse(answer);
  if (parsed.success) return parsed.data;
  throw new CloudBillError(api, parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`), { cause: parsed.error });
}

function decimal(api: string, text: string): ExactDecimal {
  try {
    return parseDecimal(text);
  } catch (error) {
    if (error instanceof DecimalFormatError) throw new CloudBillError(api, [error.message], { cause: error });
    throw error;
  }
}

/** AWS counts usage in units of its own (Hrs, GB-Mo) under the same shape. */
function currencyOf(unit: string | undefined): string | null {
  return unit !== undefined && /^[A-Z]{3}$/.test(unit) ? unit : null;
}

/** 20240131 to 2024-01-31; anything else as it is. */
function day(value: string | null): string | null {
  return value === null ? null : value.replace(/^(\d{4})(\d\d)(\d\d)$/, '$1-$2-$3');
}
