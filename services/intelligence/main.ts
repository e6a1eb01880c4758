import { join } from 'node:path';
import { STREAMS } from '@upid/contracts';
import { loadPolicy, runService, setting } from '@upid/platform';
import { z } from 'zod';
import { IntelligenceModule, TIME_TABLES } from './intelligence.module.js';

export const intelligenceSettings = {
  policyFile: setting('UPID_POLICY_FILE', z.string().optional(), 'YAML file with the thresholds of decisions; without it the defaults'),
} as const;

const policy = await loadPolicy(process.env.UPID_POLICY_FILE ?? null);
await runService({
  name: 'intelligence',
  schema: 'intelligence',
  settings: intelligenceSettings,
  migrations: join(import.meta.dirname, 'migrations'),
  timeTables: TIME_TABLES,
  inventory: ['Cluster', 'Node', 'Namespace', 'Pod', 'Workload', 'Dependency', 'OomKill', 'Autoscaler'],
  streams: STREAMS,
  module: (platform) => IntelligenceModule.for(platform, { policy }),
});
