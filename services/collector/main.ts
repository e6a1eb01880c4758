import { spareMemory } from './memory.client.js';

spareMemory();
const [{ runService }, { collectorDefinition }] = await Promise.all([import('@upid/platform'), import('./collector.module.js')]);
await runService(collectorDefinition);
