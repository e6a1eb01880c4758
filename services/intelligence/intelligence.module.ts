import { randomUUID } from 'node:crypto';
import { Module, type DynamicModule } from '@nestjs/common';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DAY_MS, STREAMS, type Policy } from '@upid/contracts';
import { createCounter, prepareTimes, registerGauges, setting, type Platform, type ServiceDefinition, type TimeTable } from '@upid/platform';
import { Histogram } from 'prom-client';
import { z } from 'zod';
import { AssessmentRepository } from './assessment/assessment.repository.js';
import { AssessmentService } from './assessment/assessment.service.js';
import { FoldRepository } from './fold/fold.repository.js';
import { FoldService } from './fold/fold.service.js';
import { SETTLE_MS } from './fold/hours.js';
import { CoverageRepository } from './ingest/coverage.repository.js';
import { IngestConsumer } from './ingest/ingest.consumer.js';
import { IngestRepository } from './ingest/ingest.repository.js';
import { IngestService, MOST_WAITING } from './ingest/ingest.service.js';
import { HistoryRepository } from './insight/history.repository.js';
import { InsightHandler } from './insight/insight.handler.js';
import { InsightService } from './insight/insight.service.js';
import { RangeService } from './insight/range.service.js';

const POD_HOURS: TimeTable = { table: 'pod_hour', timeColumn: 'hour', chunkDays: 1, retentionDays: 90, columnstore: { afterDays: 2, segmentBy: ['pod'], orderBy: 'hour' } };
const WORKLOAD_HOURS: TimeTable = { table: 'workload_hour', timeColumn: 'hour', chunkDays: 7, retentionDays: 396, columnstore: { afterDays: 14, segmentBy: ['workload'], orderBy: 'hour' } };
const WORKLOAD_DAYS: TimeTable = { table: 'workload_day', timeColumn: 'day', chunkDays: 30, retentionDays: 396 };
/** Packed hours by time: samples 90 days, aggregates 13 months. */
export const TIME_TABLES: readonly TimeTable[] = [POD_HOURS, WORKLOAD_HOURS, WORKLOAD_DAYS];

/** Names of stored batches are kept longer than the stream (3 days) and any honest spool. */
const NAME_DAYS = 30;
/** Objects that are gone are remembered as long as their samples, so that names lead to them. */
const REMOVED_DAYS = 90;
const nowMs = (): number => Date.now();

/** From a millisecond to ten minutes in steps of a tenth: a quantile read from it is at most that far off. */
const LATENCY_BUCKETS_MS = Array.from({ length: 140 }, (_, i) => Math.round(1.1 ** i * 100) / 100);

export const intelligenceSettings = {
  policyFile: setting('UPID_POLICY_FILE', z.string().optional(), 'YAML file with the thresholds of decisions; without it the defaults'),
  foldSettleMs: setting('UPID_FOLD_SETTLE_MS', z.coerce.number().int().min(0).max(60_000).default(SETTLE_MS), 'how long batches rest after the last of their hour before they are folded, ms'),
  assessSeconds: setting('UPID_ASSESS_SECONDS', z.coerce.number().positive().default(60), 'seconds between two assessments of every workload'),
} as const;

export interface IntelligenceOptions {
  readonly policy: Policy;
  readonly foldSettleMs: number;
  readonly assessSeconds: number;
}

/** Wires intelligence: one instance of each part, and the loops that fold. */
@Module({})
export class IntelligenceModule {
  static for(platform: Platform, options: IntelligenceOptions): DynamicModule {
    const { database, databaseCapabilities, outbox, cache, metrics, log } = platform;
    const committed = new Histogram({ name: 'upid_publish_to_commit_ms', help: 'From the publishing of a batch to its commit, ms', buckets: LATENCY_BUCKETS_MS, registers: [metrics] });
    const folded = new Histogram({ name: 'upid_publish_to_folded_ms', help: 'From the publishing of a batch to the commit of its fold, ms', buckets: LATENCY_BUCKETS_MS, registers: [metrics] });
    const batches = createCounter(metrics, 'upid_batches_stored', 'Batches that were new and are stored');
    const rows = createCounter(metrics, 'upid_rows_stored', 'Samples and request rows of them');
    const duplicates = createCounter(metrics, 'upid_batches_duplicate', 'Batches that were stored already');
    const windows = createCounter(metrics, 'upid_windows_folded', 'Windows that were folded and published');

    const foldRepository = new FoldRepository(database);
    const ingestRepository = new IngestRepository(database);
    const ingest = new IngestService(ingestRepository, { waiting: async (most) => (await foldRepository.backlog(most)).batches, pause: () => delay(250) }, { stored: (count, ofRows) => { batches.inc(count); rows.inc(ofRows); }, duplicates: (count) => duplicates.inc(count), committed: (ms) => committed.observe(ms) }, nowMs);
    const coverage = new CoverageRepository(database);
    const prepare = async (hourMs: number) => { for (const table of TIME_TABLES) await prepareTimes(database, databaseCapabilities, table, [hourMs]); };
    const fold = new FoldService(foldRepository, outbox, cache, prepare, { folded: (ms) => folded.observe(ms), windows: (count) => windows.inc(count) }, log, { nowMs, settleMs: options.foldSettleMs });
    const history = new HistoryRepository(database);
    const assessments = new AssessmentRepository(database, outbox, platform.leases);
    const assessment = new AssessmentService(history, assessments, platform.inventory, platform.leases, options.policy, log, { holder: randomUUID(), nowMs, assessMs: options.assessSeconds * 1000 });
    const insight = new InsightService(history, new RangeService(history), platform.inventory, assessments, coverage, cache, options.policy, nowMs);
    platform.loop('fold', 250, () => fold.step());
    platform.loop('fold-days', 5_000, () => fold.stepDays());
    platform.loop('assess', Math.min(5_000, options.assessSeconds * 1000), () => assessment.step());
    platform.loop('forget', 3_600_000, async () => {
      const before = (days: number) => new Date(nowMs() - days * DAY_MS);
      await ingestRepository.forgetNames(before(NAME_DAYS));
      await foldRepository.forget(before(POD_HOURS.retentionDays + 2), before(WORKLOAD_HOURS.retentionDays));
      await coverage.forget(before(WORKLOAD_HOURS.retentionDays));
      await platform.inventory.forgetRemoved(before(REMOVED_DAYS));
    });
    registerGauges(metrics, [{ name: 'upid_fold_batches_waiting', help: `Batches that are stored and wait to be folded, counted up to ${MOST_WAITING}` }, { name: 'upid_fold_oldest_seconds', help: 'How long the first of them waits, seconds' }], async () => {
      const backlog = await foldRepository.backlog(MOST_WAITING);
      return [{ name: 'upid_fold_batches_waiting', value: backlog.batches }, { name: 'upid_fold_oldest_seconds', value: backlog.oldestSeconds }];
    });
    return {
      module: IntelligenceModule,
      controllers: [IngestConsumer, InsightHandler],
      providers: [{ provide: IngestService, useValue: ingest }, { provide: CoverageRepository, useValue: coverage }, { provide: InsightService, useValue: insight }, { provide: AssessmentService, useValue: assessment }],
    };
  }
}

/** Intelligence as a service under a policy. */
export function intelligenceService(policy: Policy): ServiceDefinition<typeof intelligenceSettings> {
  return {
    name: 'intelligence', schema: 'intelligence', settings: intelligenceSettings, migrations: join(import.meta.dirname, 'migrations'), timeTables: TIME_TABLES, streams: STREAMS,
    inventory: ['Cluster', 'Node', 'Namespace', 'Pod', 'Workload', 'Dependency', 'OomKill'],
    module: (platform) => IntelligenceModule.for(platform, { policy, foldSettleMs: platform.config.foldSettleMs, assessSeconds: platform.config.assessSeconds }),
  };
}
