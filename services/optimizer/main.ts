import { runService } from '@upid/platform';
import { optimizerDefinition } from './optimizer.module.js';
import { loadPolicy } from './policy/policy-file.client.js';

await runService(optimizerDefinition(await loadPolicy(process.env.UPID_POLICY_FILE ?? null)));
