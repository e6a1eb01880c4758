import { loadPolicy, runService } from '@upid/platform';
import { intelligenceService } from './intelligence.module.js';

await runService(intelligenceService(await loadPolicy(process.env.UPID_POLICY_FILE ?? null)));
