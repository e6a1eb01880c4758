import { loadPolicy, runService } from '@upid/platform';
import { optimizerDefinition } from './optimizer.module.js';

await runService(optimizerDefinition(await loadPolicy(process.env.UPID_POLICY_FILE ?? null)));
