import { nodeObjectSchema } from '@upid/contracts';
import fc from 'fast-check';
import { moneyFromDecimal } from '../allocation/money.js';
import { estimateNodePrice, referenceRates } from './estimate.js';
import { nodeFactsOf, orderSources, priceKeyOf, priceNode, type NodeFacts, type NodePrice, type PricingContext, type StandingPrice } from './node-price.js';
import { priceKeyId, PriceSheetError, readPriceSheet, type PriceSource } from './price-sheet.js';

const gib = 2 ** 30;
const atMs = Date.UTC(2026, 5, 1, 12);
const m5: NodeFacts = {
  provider: 'aws', region: 'us-east-1', instanceType: 'm5.large', capacityType: 'on_demand', operatingSystem: 'linux', architecture: 'amd64',
  cpuMillicores: 2000, memoryBytes: 8 * gib, gpus: 0,
};
const sheet = (prices: object[], more: object = {}, name = 'test'): PriceSource =>
  readPriceSheet({ version: 1, basis: 'price_list', currency: 'USD', prices: prices.map((each) => ({ provider: 'aws', region: 'us-east-1', as_of: '2026-05-01', ...each })), ...more }, name);
const context = (sources: PriceSource[], more: Partial<PricingContext<'USD'>> = {}): PricingContext<'USD'> =>
  ({ currency: 'USD', atMs, sources, estimateRates: referenceRates, yesterday: null, ...more });
const dollars = (text: string) => moneyFromDecimal(text, 'USD');
const yesterday = (text: string): StandingPrice<'USD'> => ({ perHour: dollars(text), basis: 'price_list', source: 'list of yesterday', asOf: '2026-05-31' });

describe('estimate', () => {
  it('is cores, GiB and GPUs at the reference rates, spot rates on spot', () => {
    expect(estimateNodePrice(m5, 'on_demand', referenceRates)).toEqual(dollars('0.097118'));
    expect(estimateNodePrice(m5, 'spot', referenceRates)).toEqual(dollars('0.020446'));
    expect(estimateNodePrice({ ...m5, gpus: 2 }, 'on_demand', referenceRates)).toEqual(dollars('1.997118'));
    expect(estimateNodePrice({ cpuMillicores: 0, memoryBytes: 0, gpus: 0, storageBytes: 1000 * gib }, 'unknown', referenceRates)).toEqual(dollars('0.05479452'));
  });
});

describe('the price of a node', () => {
  const listed = sheet([{ instance_types: { 'm5.large': '0.096' } }]);

  it('is the price of its exact key, with what it rests on, its age and its currency', () => {
    expect(priceNode(m5, context([listed]))).toEqual({
      perHour: dollars('0.096'), basis: 'price_list', source: 'test', asOf: '2026-05-01', ageDays: 31, typical: false, note: null, assumed: ['licence', 'tenancy'], quarantined: [],
    });
  });

  it.each<[string, Partial<NodeFacts>]>([
    ['region', { region: 'eu-west-1' }], ['instance type', { instanceType: 'm5.xlarge' }], ['capacity type', { capacityType: 'spot' }],
    ['operating system', { operatingSystem: 'windows' }], ['licence', { licence: 'rhel' }], ['tenancy', { tenancy: 'dedicated' }],
    ['architecture', { architecture: 'arm64' }], ['provider', { provider: 'gcp' }],
  ])('another %s is an estimate that says so, never the nearest price', (_, change) => {
    const node = { ...m5, ...change };
    const price = priceNode(node, context([listed])) as NodePrice;
    expect(price).toMatchObject({ basis: 'estimate', perHour: estimateNodePrice(node, node.capacityType, referenceRates) });
    expect(price.note).toContain('no price for');
  });

  it('an unknown fact matches nothing and is named', () => {
    const price = priceNode({ ...m5, region: null, capacityType: 'unknown' }, context([listed]));
    expect(price.note).toBe("estimated from the node's specification at on-demand rates: region, capacity type unknown");
    expect(priceKeyOf({ ...m5, architecture: '' }, 'USD')).toEqual({ missing: ['architecture'] });
  });

  it('does not stumble over case', () => {
    expect(priceNode({ ...m5, provider: 'AWS', instanceType: 'M5.Large' }, context([listed]))).toMatchObject({ basis: 'price_list' });
  });

  it('a Linux node is never priced as Windows, whose machine carries its licence', () => {
    const both = sheet([{ instance_types: { 'm5.large': '0.096' } }, { operating_system: 'windows', licence: 'included', instance_types: { 'm5.large': '0.188' } }]);
    expect(priceNode(m5, context([both]))).toMatchObject({ perHour: dollars('0.096') });
    expect(priceNode({ ...m5, operatingSystem: 'windows' }, context([both]))).toMatchObject({ perHour: dollars('0.188') });
  });

  it('takes the facts of an inventoried node, and none while its size is unknown', () => {
    const node = (capacity: object) => nodeObjectSchema.parse({
      kind: 'Node', uid: '6f5c2c1e-6a4e-4c56-9b5c-0a8f2d0c4a11', name: 'n1', provider_id: null, provider: 'aws', instance_type: 'm5.large', region: 'us-east-1', zone: null, capacity_type: 'on_demand',
      operating_system: 'linux', architecture: 'amd64', pool: null, capacity, allocatable: {}, ready: true, created_at: '2026-01-01T00:00:00.000Z',
    });
    expect(nodeFactsOf(node({ cpu_millicores: 2000, memory_bytes: 8 * gib }))).toEqual(m5);
    expect(nodeFactsOf(node({ cpu_millicores: 2000 }))).toBeNull();
  });

  it('law: the same key is the same price, whatever else the nodes differ in', () => {
    fc.assert(fc.property(fc.integer({ min: 1900, max: 2000 }), fc.integer({ min: 7 * gib, max: 8 * gib }), (cpuMillicores, memoryBytes) => {
      expect(priceNode({ ...m5, cpuMillicores, memoryBytes }, context([listed])).perHour).toEqual(dollars('0.096'));
    }));
  });

  it('asks bill, list and sheet in that order, and the shipped copy last', () => {
    const named = (name: string, basis: PriceSource['basis'], bundled = false): PriceSource => ({ ...listed, name, basis, bundled });
    const order = orderSources([named('shipped', 'price_list', true), named('mine', 'price_sheet'), named('live', 'price_list'), named('invoice', 'bill')]);
    expect(order.map(({ name }) => name)).toEqual(['invoice', 'live', 'mine', 'shipped']);
  });

  it("takes a sheet's unit prices where it has no entry", () => {
    const own = sheet([], { basis: 'price_sheet', rates: { cpu_core_hour: 0.02, ram_gib_hour: '0.003' } }, 'our racks');
    expect(priceNode(m5, context([own]))).toMatchObject({ perHour: dollars('0.064'), basis: 'price_sheet', note: 'from the unit prices of our racks' });
  });

  it('is unknown, not zero, where there is no price and nothing to estimate with', () => {
    expect(priceNode(m5, { ...context([listed]), currency: 'EUR' })).toEqual({
      perHour: null, note: 'no price in EUR for aws|us-east-1|m5.large|on_demand|linux|none|shared|amd64, and no unit prices in EUR to estimate with',
      quarantined: [expect.objectContaining({ reason: 'other_currency', comparedWith: null })],
    });
  });
});

describe('quarantine', () => {
  const p4d: NodeFacts = { ...m5, instanceType: 'p4d.24xlarge', cpuMillicores: 96_000, memoryBytes: 1152 * gib, gpus: 8 };

  it('does not believe a thousandfold drop: the last good price stands, and both are shown', () => {
    const price = priceNode(p4d, context([sheet([{ instance_types: { 'p4d.24xlarge': '0.0327726' } }])], { yesterday: yesterday('32.7726') }));
    expect(price).toMatchObject({
      perHour: dollars('32.7726'), source: 'list of yesterday', note: "yesterday's price stands: today's is quarantined",
      quarantined: [{ perHour: dollars('0.0327726'), reason: 'far_from_yesterday', comparedWith: dollars('32.7726') }],
    });
  });

  it('without a yesterday the estimate is the measure, and answers', () => {
    const price = priceNode(p4d, context([sheet([{ instance_types: { 'p4d.24xlarge': '0.0327726' } }])]));
    expect(price).toMatchObject({ basis: 'estimate', note: expect.stringContaining('quarantined'), quarantined: [{ reason: 'far_from_estimate' }] });
  });

  it('the next source answers where the first is not believed and there is no yesterday', () => {
    const price = priceNode(m5, context([sheet([{ instance_types: { 'm5.large': '96' } }]), sheet([{ instance_types: { 'm5.large': '0.096' } }], {}, 'second')]));
    expect(price).toMatchObject({ perHour: dollars('0.096'), source: 'second', quarantined: [{ perHour: dollars('96') }] });
  });

  it('a spot node at on-demand size of price is shown, not used', () => {
    const spot = { ...m5, capacityType: 'spot' as const };
    expect(priceNode(spot, context([sheet([{ capacity_type: 'spot', instance_types: { 'm5.large': '0.096' } }])]))).toMatchObject({ basis: 'estimate', quarantined: [{ reason: 'far_from_estimate' }] });
    expect(priceNode(spot, context([sheet([{ capacity_type: 'spot', typical: true, instance_types: { 'm5.large': '0.038' } }])]))).toMatchObject({ basis: 'price_list', typical: true });
  });

  it('a price in won is never taken for dollars nor held against them', () => {
    const price = priceNode(m5, context([sheet([{ currency: 'KRW', instance_types: { 'm5.large': '132' } }])]));
    expect(price).toMatchObject({ basis: 'estimate', quarantined: [{ perHour: moneyFromDecimal('132', 'KRW'), reason: 'other_currency' }] });
    expect(price.note).toContain('no price in USD');
  });

  it('both currencies may be listed; each is asked for by name', () => {
    const both = sheet([{ instance_types: { 'm5.large': '0.096' } }, { currency: 'KRW', instance_types: { 'm5.large': '132' } }]);
    expect(priceNode(m5, context([both]))).toMatchObject({ perHour: dollars('0.096'), quarantined: [] });
    expect(priceNode(m5, { ...context([both]), currency: 'KRW', yesterday: null })).toMatchObject({ perHour: moneyFromDecimal('132', 'KRW') });
  });

  it('what a person has confirmed is believed', () => {
    const nano = { ...m5, instanceType: 't3.nano', memoryBytes: gib / 2 };
    const of = (confirmed: boolean) => priceNode(nano, context([sheet([{ confirmed, instance_types: { 't3.nano': '0.0052' } }])]));
    expect([of(false), of(true)]).toMatchObject([{ basis: 'estimate' }, { basis: 'price_list', perHour: dollars('0.0052') }]);
  });

  it("unit prices are held against yesterday's too", () => {
    const own = sheet([], { rates: { cpu_core_hour: '20', ram_gib_hour: '3' } }, 'typo');
    expect(priceNode(m5, context([own], { yesterday: yesterday('0.064') }))).toMatchObject({ perHour: dollars('0.064'), quarantined: [{ reason: 'far_from_yesterday' }] });
  });

  it('law: believed within a factor of three on both sides, quarantined outside', () => {
    fc.assert(fc.property(fc.bigInt({ min: 1n, max: 10n ** 12n }), fc.bigInt({ min: 1n, max: 10n ** 12n }), (today, before) => {
      const text = `${today / 1_000_000_000n}.${(today % 1_000_000_000n).toString().padStart(9, '0')}`;
      const price = priceNode(m5, {
        ...context([sheet([{ currency: 'EUR', instance_types: { 'm5.large': text } }])]), currency: 'EUR',
        yesterday: { perHour: { currency: 'EUR', nanos: before }, basis: 'price_list', source: 'yesterday', asOf: null },
      });
      const near = today <= 3n * before && before <= 3n * today;
      expect(price.perHour?.nanos).toBe(near ? today : before);
      expect(price.quarantined.length).toBe(near ? 0 : 1);
    }), { numRuns: 500 });
  });
});

describe('price sheets', () => {
  it('names every fault with its place', () => {
    const read = () => readPriceSheet({ version: 1, currency: 'usd', prices: [{ provider: 'aws', region: 'x', instance_types: { a: '-1' }, colour: 'red' }] }, 'bad.yaml');
    expect(read).toThrow(PriceSheetError);
    expect(read).toThrow(/bad\.yaml: .*currency: a currency is three capital letters.*prices\.0/);
    expect(() => readPriceSheet('text', 'bad.yaml')).toThrow(PriceSheetError);
  });

  it('refuses one machine priced twice', () => {
    expect(() => sheet([{ instance_types: { 'm5.large': '0.096' } }, { instance_types: { 'M5.large': '0.1' } }])).toThrow('priced twice');
  });

  it('writes a key with every part of it', () => {
    const found = priceKeyOf(m5, 'USD');
    expect('key' in found && priceKeyId(found.key)).toBe('aws|us-east-1|m5.large|on_demand|linux|none|shared|amd64|usd');
  });

  it("reads OpenCost's price file", () => {
    const file = readPriceSheet({
      provider: 'custom', description: 'Default prices', CPU: '0.031611', spotCPU: '0.006655', RAM: '0.004237', spotRAM: '0.000892', GPU: '0.95', storage: '0.00005479452',
      zoneNetworkEgress: '0.01', spotLabel: 'lifecycle', spotLabelValue: 'Ec2Spot',
    }, 'default.json');
    expect(file).toMatchObject({ basis: 'price_sheet', unitRates: referenceRates, spotLabel: { name: 'lifecycle', value: 'Ec2Spot' } });
    expect(readPriceSheet({ CPU: '1', RAM: '2', currencyCode: 'EUR' }, 'eu.json')).toMatchObject({
      spotLabel: null, unitRates: { currency: 'EUR', rates: { spotCpuCorePicosPerHour: 10n ** 12n, gpuPicosPerHour: 0n } },
    });
    expect(() => readPriceSheet({ CPU: 'much', RAM: '2' }, 'broken.json')).toThrow('CPU: a price is a decimal number');
  });
});
