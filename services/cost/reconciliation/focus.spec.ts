import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { compareDecimals, decimalToText, parseDecimal, zeroDecimal, type ExactDecimal } from '../allocation/money.js';
import { CsvFormatError, CsvReader } from './csv.js';
import { addCharge, FocusFormatError, FocusReader, noFocusTotal, sumCharges, type CostColumn, type FocusCharge } from './focus.js';

const folder = join(process.cwd(), 'testdata/cost-focus');
const sample = readFileSync(join(folder, 'focus_sample.csv'), 'utf8');
interface Expected {
  readonly rows: number;
  readonly sum: Record<string, string | number>;
  readonly by_provider_effective: Record<string, string>;
  readonly by_provider_rows: Record<string, number>;
  readonly by_service_category_effective: Record<string, string>;
  readonly by_charge_category_rows: Record<string, number>;
  readonly charge_period_start_min: string;
  readonly charge_period_start_max: string;
}
const expected = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8')) as Expected;

function read(...chunks: string[]): { charges: FocusCharge[]; reader: FocusReader } {
  const reader = new FocusReader();
  const charges = [...chunks.flatMap((chunk) => reader.push(chunk)), ...reader.end()];
  return { charges, reader };
}

describe('the sample bill', () => {
  const { charges, reader } = read(sample);
  const total = charges.reduce(addCharge, noFocusTotal);
  const equal = (left: ExactDecimal, right: string): void => expect(compareDecimals(left, parseDecimal(right))).toBe(0);

  it('is read whole', () => {
    expect([charges.length, reader.rejected, total.rows]).toEqual([expected.rows, [], expected.rows]);
  });

  it.each<[string, CostColumn]>([['BilledCost', 'billed'], ['EffectiveCost', 'effective'], ['ListCost', 'list'], ['ContractedCost', 'contracted']])('%s is right to the last digit', (name, column) => {
    expect(decimalToText(total[column].sum)).toBe(String(expected.sum[name]));
    expect(total[column].nullRows).toBe(expected.sum[`${name}_null_rows`]);
  });

  it('by provider, service and category', () => {
    const group = (keyOf: (charge: FocusCharge) => string | null) => sumCharges(charges, keyOf).get('USD');
    const providers = group(({ provider }) => provider);
    for (const [name, sum] of Object.entries(expected.by_provider_effective)) equal(providers?.get(name)?.effective.sum ?? zeroDecimal, sum);
    for (const [name, rows] of Object.entries(expected.by_provider_rows)) expect(providers?.get(name)?.rows).toBe(rows);
    const services = group(({ serviceCategory }) => serviceCategory);
    expect(services?.size).toBe(Object.keys(expected.by_service_category_effective).length);
    for (const [name, sum] of Object.entries(expected.by_service_category_effective)) equal(services?.get(name)?.effective.sum ?? zeroDecimal, sum);
    const categories = group(({ category }) => category);
    expect(Object.fromEntries([...(categories ?? [])].map(([name, { rows }]) => [name, rows]))).toEqual(expected.by_charge_category_rows);
  });

  it('within its month, with its credits apart and its tags read', () => {
    const starts = charges.map(({ periodStartMs }) => periodStartMs);
    expect([Math.min(...starts), Math.max(...starts)]).toEqual([expected.charge_period_start_min, expected.charge_period_start_max].map((text) => Date.parse(`${text.replace(' ', 'T')}Z`)));
    expect(total.billed.negative.digits < 0n).toBe(true);
    expect(charges.find(({ tags }) => 'environment' in tags)?.tags).toMatchObject({ environment: expect.any(String) });
  });

  it('however the text is cut', () => {
    const cut = sample.slice(0, 40_000);
    const whole = read(cut.slice(0, cut.lastIndexOf('\n') + 1)).charges;
    fc.assert(fc.property(fc.array(fc.nat(cut.lastIndexOf('\n')), { maxLength: 8 }), (places) => {
      const at = [0, ...places.sort((a, b) => a - b), cut.lastIndexOf('\n') + 1];
      expect(read(...at.slice(1).map((end, i) => cut.slice(at[i], end))).charges).toEqual(whole);
    }), { numRuns: 30 });
  });
});

describe('other versions and other hands', () => {
  const names = ['BilledCost', 'EffectiveCost', 'ListCost', 'ContractedCost', 'BillingCurrency', 'ChargePeriodStart', 'ChargePeriodEnd', 'ChargeCategory'];
  const row = ['1.5', '1', 'NULL', '', 'EUR', '2026-01-01T00:00:00Z', '2026-01-01T01:00:00Z', 'Usage'];

  it('1.3 names the provider anew; columns may stand in any order, with others between', () => {
    const header = ['ServiceProviderName', 'x_Own', ...[...names].reverse(), 'AllocatedResourceId'];
    const { charges } = read(`\uFEFF${header.join(',')}\r\n${['Acme', 'y', ...[...row].reverse(), 'NULL'].join(',')}\r\n`);
    expect(charges[0]).toMatchObject({ provider: 'Acme', currency: 'EUR', costs: { billed: { digits: 15n, scale: 1 }, list: null, contracted: null }, tags: {}, periodEndMs: Date.UTC(2026, 0, 1, 1) });
  });

  it('currencies never meet in one sum', () => {
    const { charges } = read([names.join(','), row.join(','), row.join(',').replace('EUR', 'USD')].join('\n'));
    expect([...sumCharges(charges, () => null)].map(([currency, groups]) => [currency, groups.get(null)?.rows])).toEqual([['EUR', 1], ['USD', 1]]);
  });

  it.each([
    ['1.5.0', 0, 'not a decimal number'], ['NULL', 4, 'without a currency'], ['tomorrow', 5, 'not a time'], ['2026-02-30T25:00:00Z', 6, 'not a time'], ['NULL', 7, 'charge category'],
  ])('a row with %p in column %i is told, not summed and not fatal', (value, index, reason) => {
    const broken = row.map((each, i) => (i === index ? value : each));
    const { charges, reader } = read([names.join(','), broken.join(','), row.join(',')].join('\n'));
    expect(charges).toHaveLength(1);
    expect(reader.rejected).toEqual([{ line: 2, reason: expect.stringContaining(reason) }]);
  });

  it('rows of another width and broken tags are told too', () => {
    const { reader } = read(`${names.join(',')},Tags\n${row.join(',')}\n${row.join(',')},"{broken"\n${row.join(',')},[1]\n${row.join(',')},"{""a"":1}"\n`);
    expect(reader.rejected).toEqual([{ line: 2, reason: '8 fields where the header has 9' }, { line: 3, reason: 'tags are not JSON' }, { line: 4, reason: 'tags are not a JSON object' }]);
  });

  it.each([['2026-01-01', 0], ['2026-01-01 05:30', 5.5], ['2026-01-01 00:00:00 UTC', 0], ['2026-01-01T02:00:00+0200', 0], ['2026-01-01T00:00:00.000Z', 0]])('reads the time %s', (text, hours) => {
    expect(read([names.join(','), row.map((each, i) => (i === 5 ? text : each)).join(',')].join('\n')).charges[0]?.periodStartMs).toBe(Date.UTC(2026, 0, 1) + hours * 3_600_000);
  });

  it('a file that is no bill names what it lacks', () => {
    expect(() => read('a,b\n1,2\n')).toThrow(FocusFormatError);
    expect(() => read(`${names.slice(1).join(',')}\n`)).toThrow('without the column BilledCost');
    expect(() => read('')).toThrow(FocusFormatError);
  });
});

describe('CSV', () => {
  const records = (text: string): (readonly string[])[] => {
    const reader = new CsvReader();
    return [...reader.push(text), ...reader.end()].map(({ fields }) => fields);
  };

  it('law: what is written is read, whatever the fields hold and wherever the text is cut', () => {
    const field = fc.oneof(fc.string(), fc.constantFrom('a,b', 'say "x"', 'two\nlines', '\r\n', ',', '"', ''));
    const rows = fc.array(fc.array(field, { minLength: 2, maxLength: 4 }), { minLength: 1, maxLength: 6 });
    fc.assert(fc.property(rows, fc.constantFrom('\n', '\r\n'), fc.boolean(), fc.nat(200), (all, end, closed, cut) => {
      const text = all.map((fields) => fields.map((each) => (/[",\r\n]/.test(each) ? `"${each.replaceAll('"', '""')}"` : each)).join(',')).join(end) + (closed ? end : '');
      fc.pre(!text.startsWith('\uFEFF'));
      const reader = new CsvReader();
      const found = [...reader.push(text.slice(0, cut)), ...reader.push(text.slice(cut)), ...reader.end()];
      expect(found.map(({ fields }) => fields)).toEqual(all);
    }), { numRuns: 1000 });
  });

  it('counts lines, also within quotes, and passes over blank ones', () => {
    const reader = new CsvReader();
    expect([...reader.push('a,b\n\n"x\ny",2\r\n3,4'), ...reader.end()].map(({ line }) => line)).toEqual([1, 3, 5]);
    expect(records('a\rb\r')).toEqual([['a'], ['b']]);
  });

  it('refuses quotes that do not end or are followed by text', () => {
    expect(() => records('a,"b')).toThrow(CsvFormatError);
    expect(() => records('a\n"b"c,d')).toThrow('line 2: text after a closing quote');
  });
});
