import { join } from 'node:path';
import { DEFAULT_POLICY, STREAMS } from '@upid/contracts';
import { runService } from '@upid/platform';
import { IntelligenceModule, TIME_TABLES } from './intelligence.module.js';

await runService({
  name: 'intelligence',
  schema: 'intelligence',
  settings: {},
  migrations: join(import.meta.dirname, 'migrations'),
  timeTables: TIME_TABLES,
  inventory: ['Cluster', 'Node', 'Namespace', 'Pod', 'Workload', 'Dependency', 'OomKill', 'Autoscaler'],
  streams: STREAMS,
  module: (platform) => IntelligenceModule.for(platform, { policy: DEFAULT_POLICY }),
});
