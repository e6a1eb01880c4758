import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { moneyFromDecimal } from '../allocation/money.js';
import { referenceRates } from './estimate.js';
import { priceNode, type NodeFacts } from './node-price.js';
import { readPriceSheet } from './price-sheet.js';

const shipped = readPriceSheet(parse(readFileSync(join(process.cwd(), 'services/cost/prices/list-prices.yaml'), 'utf8')), 'list-prices.yaml', { bundled: true });
const gib = 2 ** 30;
const node = (provider: string, region: string, instanceType: string, cores: number, gibs: number, more: Partial<NodeFacts> = {}): NodeFacts => ({
  provider, region, instanceType, capacityType: 'on_demand', operatingSystem: 'linux', architecture: 'amd64', cpuMillicores: cores * 1000, memoryBytes: gibs * gib, gpus: 0, ...more,
});
const priced = (facts: NodeFacts) => priceNode(facts, { currency: 'USD', atMs: Date.UTC(2026, 11, 1), sources: [shipped], estimateRates: referenceRates, yesterday: null });

describe('the shipped list', () => {
  it.each([
    ['0.096', node('aws', 'us-east-1', 'm5.large', 2, 8)], ['0.34', node('aws', 'us-east-1', 'c5.2xlarge', 8, 16)], ['0.214', node('aws', 'eu-west-1', 'm5.xlarge', 4, 16)],
    ['0.0052', node('aws', 'us-east-1', 't3.nano', 2, 0.5)], ['0.077', node('aws', 'us-east-1', 'm6g.large', 2, 8, { architecture: 'arm64' })],
    ['0.188', node('aws', 'us-east-1', 'm5.large', 2, 8, { operatingSystem: 'windows' })], ['21.957642', node('aws', 'us-east-1', 'p4d.24xlarge', 96, 1152, { gpus: 8 })],
    ['0.13402284', node('gcp', 'us-central1', 'e2-standard-4', 4, 16)], ['0.194236', node('gcp', 'us-central1', 'n2-standard-4', 4, 16)],
    ['0.096', node('azure', 'eastus', 'Standard_D2s_v5', 2, 8)], ['0.086', node('azure', 'eastus', 'Standard_D2as_v5', 2, 8)],
  ])('%s dollars an hour', (price, facts) => {
    expect(priced(facts)).toMatchObject({ perHour: moneyFromDecimal(price, 'USD'), basis: 'price_list', typical: false, quarantined: [] });
  });

  it('spot figures say that they are typical, and all say where they are from and when', () => {
    expect(priced(node('aws', 'us-east-1', 'm5.large', 2, 8, { capacityType: 'spot' }))).toMatchObject({ typical: true, asOf: '2025-05-28', ageDays: 552, basis: 'price_list' });
    const entries = [...shipped.entries.values()].flat();
    expect(entries.length).toBeGreaterThan(5000);
    for (const { source, asOf, perHour } of entries) expect([source.length > 20, asOf, perHour.currency, perHour.nanos > 0n]).toEqual([true, expect.stringMatching(/^202[56]-/), 'USD', true]);
  });

  it('a machine that it does not list is estimated', () => {
    expect(priced(node('aws', 'us-east-1', 'x9.large', 2, 8))).toMatchObject({ basis: 'estimate', perHour: moneyFromDecimal('0.097118', 'USD') });
  });
});
