import { runService } from '@upid/platform';
import { gatewayDefinition } from './gateway.module.js';

await runService(gatewayDefinition());
