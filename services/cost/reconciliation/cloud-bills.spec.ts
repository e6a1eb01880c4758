import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { addDecimals, decimalToText, zeroDecimal } from '../allocation/money.js';
import { CloudBillError, readAzureQuery, readCostExplorer } from './cloud-bills.js';

const fixture = (name: string): unknown => JSON.parse(readFileSync(join(process.cwd(), 'testdata/cost-cloud', name), 'utf8'));

describe('AWS Cost Explorer', () => {
  it('reads amounts as the text they are', () => {
    expect(readCostExplorer(fixture('aws-get-cost-and-usage.json'))).toEqual({
      next: null,
      costs: [{ start: '2024-01-01', end: '2024-01-02', metric: 'BlendedCost', amount: { digits: 101516483n, scale: 10 }, currency: 'USD', dimensions: {}, estimated: false }],
    });
  });

  it('reads groups by their definitions, or by position, and says that a page follows', () => {
    const answer = {
      NextPageToken: 'more', GroupDefinitions: [{ Type: 'DIMENSION', Key: 'INSTANCE_TYPE' }],
      ResultsByTime: [{
        TimePeriod: { Start: '2024-01-01T00:00:00Z', End: '2024-01-01T01:00:00Z' }, Estimated: true,
        Groups: [{ Keys: ['m5.large', 'us-east-1'], Metrics: { AmortizedCost: { Amount: '-1.5E-7', Unit: 'USD' }, UsageQuantity: { Amount: '1', Unit: 'Hrs' } } }],
      }],
    };
    const { costs, next } = readCostExplorer(answer);
    expect(next).toBe('more');
    expect(costs).toMatchObject([
      { metric: 'AmortizedCost', amount: { digits: -15n, scale: 8 }, currency: 'USD', dimensions: { INSTANCE_TYPE: 'm5.large', 1: 'us-east-1' }, estimated: true },
      { metric: 'UsageQuantity', currency: null },
    ]);
  });

  it.each([[{}], [null], [{ ResultsByTime: [{ TimePeriod: { Start: 'a', End: 'b' }, Total: { BlendedCost: { Amount: 1 } } }] }], [{ ResultsByTime: [{ TimePeriod: { Start: 'a', End: 'b' }, Total: { BlendedCost: { Amount: 'much' } } }] }]])('refuses %j', (answer) => {
    expect(() => readCostExplorer(answer)).toThrow(CloudBillError);
  });
});

describe('Azure Cost Management', () => {
  it('reads rows under their columns to the last digit, and says that a page follows', () => {
    const { costs, next } = readAzureQuery(fixture('azure-query-grouping.json'));
    expect(next).toContain('$skiptoken=AQAAAA');
    expect(costs.map(({ metric, currency, dimensions }) => [metric, currency, dimensions.ResourceGroup])).toEqual([
      ['PreTaxCost', 'USD', 'JapanUnifia-Trial'], ['PreTaxCost', 'USD', 'RVIIOT-TRIAL'], ['PreTaxCost', 'USD', 'VSTSHOL-1595322048000'],
    ]);
    expect(decimalToText(costs.reduce((sum, { amount }) => addDecimals(sum, amount), zeroDecimal))).toBe('213.324572647805192');
  });

  it('takes dates for dates, dollars beside another currency for dollars, and passes over absent amounts', () => {
    const { costs, next } = readAzureQuery({
      properties: {
        nextLink: null, columns: [{ name: 'Cost', type: 'Number' }, { name: 'CostUSD', type: 'Number' }, { name: 'UsageDate', type: 'Number' }, { name: 'MeterCategory', type: 'String' }, { name: 'Currency', type: 'String' }],
        rows: [[9.2, 10, 20240131, 'Virtual Machines', 'EUR'], [null, 1, 20240131, null, 'EUR']],
      },
    });
    expect(next).toBeNull();
    expect(costs).toMatchObject([
      { metric: 'Cost', currency: 'EUR', start: '2024-01-31', dimensions: { MeterCategory: 'Virtual Machines' } }, { metric: 'CostUSD', currency: 'USD' }, { metric: 'CostUSD', currency: 'USD', dimensions: {} },
    ]);
  });

  it('says nothing of a currency that it was not told', () => {
    expect(readAzureQuery({ properties: { columns: [{ name: 'Cost', type: 'Number' }], rows: [['1.10']] } }).costs).toMatchObject([{ currency: null, start: null, amount: { digits: 110n, scale: 2 } }]);
  });

  it.each([[{}], [{ properties: { columns: [{ name: 'Cost', type: 'Number' }], rows: [[1, 2]] } }], [{ properties: { columns: [{ name: 'Cost', type: 'Number' }], rows: [['x']] } }]])('refuses %j', (answer) => {
    expect(() => readAzureQuery(answer)).toThrow(CloudBillError);
  });
});
