import { loadPolicy, runService } from '@upid/platform';
import { gatewayDefinition } from './gateway.module.js';

await runService(gatewayDefinition((await loadPolicy(process.env.UPID_POLICY_FILE ?? null)).name));
