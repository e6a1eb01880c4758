import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DAY_MS, HOUR_MS } from '@upid/contracts';
import { createLogger, Database, migrate, platformMigrations } from '@upid/platform';
import { startPostgres, type TestPostgres } from '@upid/testing';
import { nodeLifeOf } from '../allocation/lifetimes.js';
import { LivesRepository, type StoredNode } from '../allocation/lives.repository.js';
import { nodeObject } from '../objects.fixture.js';
import { loadPriceSources } from './price-sheets.client.js';
import { PricesRepository } from './prices.repository.js';
import { PricesService } from './prices.service.js';

const log = createLogger('test', { level: 'silent' });
const today = Date.UTC(2026, 5, 10, 12);
let directory: string;
let postgres: TestPostgres;
let opened: Awaited<ReturnType<TestPostgres['createDatabase']>>;
let database: Database;
let nodes: StoredNode[];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'upid-prices-'));
  postgres = await startPostgres();
});
beforeEach(async () => {
  opened = await postgres.createDatabase('prices');
  database = new Database({ url: opened.url, schema: 'cost' });
  await migrate(database, [platformMigrations, { directory: join(process.cwd(), 'services/cost/migrations'), table: 'migration' }]);
  const lives = new LivesRepository(database);
  nodes = await database.transaction(async (tx) => {
    await lives.keepNodes(tx, 1, [nodeObject(1, 0), nodeObject(2, 0, { instance_type: 'x9.mega' }), nodeObject(3, 0)].map((node) => nodeLifeOf(node, 0, null)));
    return lives.nodesWithin(tx, 1, 0, today);
  });
});
afterEach(async () => {
  await database.close();
  await opened.drop();
});
afterAll(async () => {
  await postgres?.stop();
  await rm(directory, { recursive: true, force: true });
});

async function sheet(name: string, text: string): Promise<string> {
  const file = join(directory, name);
  await writeFile(file, text);
  return file;
}
const own = (price: string, more = '') => `version: 1\nname: ours\ncurrency: USD\nprices:\n  - { provider: aws, region: us-east-1, ${more}instance_types: { m5.xlarge: ${price} } }\n`;
const service = (file: string | null, currency = 'USD') => new PricesService(new PricesRepository(database), loadPriceSources(file), currency, log);
const priced = async (of: PricesService, nowMs: number) => {
  const at = await database.transaction((tx) => of.pricesOf(tx, nodes, nowMs));
  return (node: number, hourMs = nowMs) => at((nodes[node] as StoredNode).id, hourMs);
};
const rowCount = async () => (await database.query<{ count: number }>('SELECT count(*)::int AS count FROM node_price')).rows[0]?.count;

describe('prices of nodes', () => {
  it('are those of the shipped list, or an estimate that says so; asked again, nothing is written again', async () => {
    const at = await priced(service(null), today);
    expect(at(0)).toMatchObject({ perHourNanos: 192_000_000n, basis: 'price_list', asOf: expect.stringMatching(/^202\d-/), typical: false, quarantined: [] });
    expect(at(1)).toMatchObject({ basis: 'estimate', note: expect.stringContaining('no price for aws|us-east-1|x9.mega') });
    expect(at(2)?.perHourNanos).toBe(at(0)?.perHourNanos);
    // The first price stands for the hours before it too.
    expect(at(0, today - 20 * DAY_MS)?.perHourNanos).toBe(192_000_000n);
    const count = await rowCount();
    await priced(service(null), today + DAY_MS);
    expect(await rowCount()).toBe(count);
  });

  it('a new sheet counts from the hour in which it is first read; hours before it keep their price', async () => {
    await priced(service(null), today);
    const at = await priced(service(await sheet('own.yaml', own('0.15'))), today + 3 * HOUR_MS + 1);
    expect(at(0, today + 3 * HOUR_MS)).toMatchObject({ perHourNanos: 150_000_000n, basis: 'price_sheet', source: 'ours' });
    expect(at(0, today + 2 * HOUR_MS)).toMatchObject({ perHourNanos: 192_000_000n, basis: 'price_list' });
  });

  it('a price far from yesterday\'s is shown and not used, unless somebody has confirmed it', async () => {
    const at = await priced(service(await sheet('first.yaml', own('0.15'))), today - DAY_MS);
    expect(at(0)).toMatchObject({ perHourNanos: 150_000_000n });
    // Of the same day: within a factor of three of the estimate, and there is no yesterday to hold it against.
    const next = await priced(service(await sheet('far.yaml', own('0.46'))), today);
    expect(next(0)).toMatchObject({ perHourNanos: 192_000_000n, quarantined: [{ per_hour: '460000000', reason: 'far_from_yesterday' }] });
    const confirmed = await priced(service(await sheet('confirmed.yaml', own('0.46', 'confirmed: true, '))), today + HOUR_MS);
    expect(confirmed(0)).toMatchObject({ perHourNanos: 460_000_000n, quarantined: [] });
    // The day after, what was used on the day before is the measure.
    const back = await priced(service(null), today + DAY_MS);
    expect(back(0)).toMatchObject({ perHourNanos: 192_000_000n });
  });

  it('in a currency without any price are unknown, and another currency\'s are untouched', async () => {
    const euros = await priced(service(null, 'EUR'), today);
    expect(euros(0)).toMatchObject({ perHourNanos: null, note: expect.stringContaining('no price in EUR'), quarantined: [expect.objectContaining({ reason: 'other_currency' })] });
    expect((await priced(service(null), today))(0)).toMatchObject({ perHourNanos: 192_000_000n });
    const sheetInEuros = await sheet('euro.json', JSON.stringify({ CPU: '0.03', RAM: '0.004', currencyCode: 'EUR' }));
    const of = service(sheetInEuros, 'EUR');
    expect((await priced(of, today + HOUR_MS))(1)).toMatchObject({ perHourNanos: 184_000_000n, basis: 'price_sheet' });
    expect(of.ratios.cpuCorePicosPerHour).toBe(30_000_000_000n);
  });

  it('a sheet that cannot be read is told with its place', async () => {
    expect(() => loadPriceSources(join(directory, 'none.yaml'))).toThrow(/price sheet .*none\.yaml: it cannot be read: .*ENOENT/);
    const bad = await sheet('bad.yaml', 'version: 1\ncurrency: dollars\n');
    expect(() => loadPriceSources(bad)).toThrow(/currency: a currency is three capital letters/);
  });
});
