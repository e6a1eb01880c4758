import { setFlagsFromString } from 'node:v8';

// The agent is a guest in its cluster: a small young generation costs it a little time and saves a third of its memory.
setFlagsFromString('--optimize-for-size');
const [{ runService }, { collectorDefinition }] = await Promise.all([import('@upid/platform'), import('./collector.module.js')]);
await runService(collectorDefinition);
