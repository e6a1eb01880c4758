import { join } from 'node:path';
import { STREAMS } from '@upid/contracts';
import { runService, setting } from '@upid/platform';
import { z } from 'zod';
import { OptimizerModule } from './optimizer.module.js';
import { loadPolicy } from './policy/policy-file.client.js';

export const optimizerSettings = {
  policyFile: setting('UPID_POLICY_FILE', z.string().optional(), 'YAML file with the thresholds of decisions; without it the defaults'),
  commandSeed: setting('UPID_COMMAND_SEED', z.string().regex(/^SU[A-Z2-7]{56}$/, 'must be a user seed (SU…)'), 'nkey seed that commands to agents are signed with; agents hold its public key', { secret: true }),
  actuationClusters: setting('UPID_ACTUATION_CLUSTERS', z.string().default('').transform((text) => text.split(',').map((each) => each.trim()).filter((each) => each !== '')), 'clusters whose jobs may change them, separated by commas; * for all; none by default'),
  evaluateSeconds: setting('UPID_EVALUATE_SECONDS', z.coerce.number().positive().default(30), 'seconds between two rounds of recommendations'),
} as const;

const policy = await loadPolicy(process.env.UPID_POLICY_FILE ?? null);
await runService({
  name: 'optimizer',
  schema: 'optimizer',
  settings: optimizerSettings,
  migrations: join(import.meta.dirname, 'migrations'),
  inventory: true,
  streams: STREAMS,
  module: (platform) => OptimizerModule.for(platform, { policy, commandSeed: platform.config.commandSeed, actuationClusters: platform.config.actuationClusters, evaluateSeconds: platform.config.evaluateSeconds }),
});
