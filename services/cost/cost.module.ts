import { join } from 'node:path';
import { Module, type DynamicModule } from '@nestjs/common';
import { currencySchema, DAY_MS, STREAMS } from '@upid/contracts';
import { createCounter, prepareTimes, registerGauges, setting, type Platform, type ServiceDefinition, type TimeTable } from '@upid/platform';
import { z } from 'zod';
import { AllocationService, INPUT_DAYS } from './allocation/allocation.service.js';
import { HoursRepository } from './allocation/hours.repository.js';
import { InputsRepository } from './allocation/inputs.repository.js';
import { InventoryConsumer } from './allocation/inventory.consumer.js';
import { LivesRepository } from './allocation/lives.repository.js';
import { RollupsConsumer } from './allocation/rollups.consumer.js';
import { AnalysisHandler } from './analysis/analysis.handler.js';
import { AnalysisRepository } from './analysis/analysis.repository.js';
import { AnalysisService } from './analysis/analysis.service.js';
import type { PriceSource } from './prices/price-sheet.js';
import { loadPriceSources } from './prices/price-sheets.client.js';
import { PricesRepository } from './prices/prices.repository.js';
import { PricesService } from './prices/prices.service.js';
import { SavingsHandler } from './savings/savings.handler.js';
import { SavingsRepository } from './savings/savings.repository.js';
import { SavingsService } from './savings/savings.service.js';

/** Hours are kept for 13 months, and a little more. */
const HOUR_DAYS = 400;
const ROLLUP_PARTS: TimeTable = { table: 'rollup_part', timeColumn: 'window_start', chunkDays: 1, retentionDays: INPUT_DAYS + 1 };
const POD_HOURS: TimeTable = { table: 'pod_hour', timeColumn: 'hour', chunkDays: 7, retentionDays: HOUR_DAYS, columnstore: { afterDays: INPUT_DAYS + 7, segmentBy: ['pod'], orderBy: 'hour' } };
const NODE_HOURS: TimeTable = { table: 'node_hour', timeColumn: 'hour', chunkDays: 30, retentionDays: HOUR_DAYS };
/** What is kept by time: usage for as long as hours can be computed anew, costs for 13 months. */
export const TIME_TABLES: readonly TimeTable[] = [ROLLUP_PARTS, POD_HOURS, NODE_HOURS];

const nowMs = (): number => Date.now();

export interface CostOptions {
  readonly currency: string;
  /** In the order in which they answer. */
  readonly sources: readonly PriceSource[];
  /** How long marked hours wait for more of the same, ms. */
  readonly settleMs: number;
}

/** Wires cost: one instance of each part, and the loops that compute hours. */
@Module({})
export class CostModule {
  static for(platform: Platform, { currency, sources, settleMs }: CostOptions): DynamicModule {
    const { database, databaseCapabilities, inventory, outbox, metrics, log, bus } = platform;
    const parts = createCounter(metrics, 'upid_rollup_parts', 'Rollups that came: stored, known already, or too old to compute with', ['outcome']);
    const computed = createCounter(metrics, 'upid_cost_hours_computed', 'Hours of clusters whose costs were computed');
    const cells = createCounter(metrics, 'upid_cost_cells_computed', 'Cells of nodes that were allocated for them');
    const unbalanced = createCounter(metrics, 'upid_cost_unbalanced', 'Cells and stored nodes whose allocations, idle and overhead do not sum to their cost: must stay 0');
    unbalanced.inc(0);

    const inputs = new InputsRepository(database);
    const lives = new LivesRepository(database);
    const hours = new HoursRepository(database);
    const prices = new PricesService(new PricesRepository(database), sources, currency, log);
    const allocation = new AllocationService(inputs, lives, hours, prices, inventory, outbox, {
      rollups: (timesMs) => prepareTimes(database, databaseCapabilities, ROLLUP_PARTS, timesMs),
      hours: async (timesMs) => { for (const table of [POD_HOURS, NODE_HOURS]) await prepareTimes(database, databaseCapabilities, table, timesMs); },
    }, {
      parts: (outcome, count) => parts.inc({ outcome }, count), computed: (ofHours, ofCells) => { computed.inc(ofHours); cells.inc(ofCells); }, unbalanced: (count) => unbalanced.inc(count),
    }, log, { nowMs, settleMs });
    registerGauges(metrics, [{ name: 'upid_cost_hours_waiting', help: 'Hours that are marked to be computed' }], async () => [{ name: 'upid_cost_hours_waiting', value: await hours.waiting() }]);

    const costs = new AnalysisRepository(database);
    const recommendations = new SavingsRepository(database);
    const analysis = new AnalysisService(costs, inputs, lives, inventory, bus, log, { currency, nowMs });
    const savings = new SavingsService(recommendations, costs, analysis, { currency, nowMs });

    const work = platform.loop('hours', Math.min(1_000, settleMs), () => allocation.step());
    platform.loop('time', 30_000, async () => {
      await allocation.markByTime();
      work.wake();
    });
    platform.loop('forget', 3_600_000, async () => {
      const before = (days: number) => new Date(nowMs() - days * DAY_MS);
      await inventory.forgetRemoved(before(1));
      await lives.forget(before(HOUR_DAYS));
      await prices.forget(nowMs());
      await recommendations.forgetLapsed(before(30));
    });
    return {
      module: CostModule,
      controllers: [InventoryConsumer, RollupsConsumer, AnalysisHandler, SavingsHandler],
      providers: [{ provide: AllocationService, useValue: allocation }, { provide: InputsRepository, useValue: inputs }, { provide: AnalysisService, useValue: analysis }, { provide: SavingsRepository, useValue: recommendations }, { provide: SavingsService, useValue: savings }],
    };
  }
}

export const costSettings = {
  priceSheetFile: setting('UPID_PRICE_SHEET_FILE', z.string().optional(), 'YAML or JSON file with prices of your own (or OpenCost\'s price file); it is asked before the shipped list prices'),
  currency: setting('UPID_CURRENCY', currencySchema.default('USD'), 'currency that costs are told in, ISO 4217; prices in another are shown and not used'),
  settleMs: setting('UPID_COST_SETTLE_MS', z.coerce.number().int().positive().default(2_000), 'how long an hour whose inputs changed waits for more before it is computed, ms'),
} as const;

/** The service, to be run or started in a test. */
export const costService = (): ServiceDefinition<typeof costSettings> => ({
  name: 'cost',
  schema: 'cost',
  settings: costSettings,
  migrations: join(import.meta.dirname, 'migrations'),
  timeTables: TIME_TABLES,
  inventory: ['Cluster', 'Node', 'Namespace', 'Pod', 'Workload'],
  streams: STREAMS,
  module: (platform) => CostModule.for(platform, { currency: platform.config.currency, sources: loadPriceSources(platform.config.priceSheetFile ?? null), settleMs: platform.config.settleMs }),
});
