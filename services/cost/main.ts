import { runService } from '@upid/platform';
import { costService } from './cost.module.js';

await runService(costService());
