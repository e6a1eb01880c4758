import { runService } from '@upid/platform';
import { collectorDefinition } from './collector.module.js';

await runService(collectorDefinition);
