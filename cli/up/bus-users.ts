import { join } from 'node:path';
import { subjects } from '@upid/contracts';
import { type NatsPlatformUser, nkeyFile, platformUser } from '@upid/platform';

/** What each service may do on the bus, and nothing else. */
const RIGHTS: Readonly<Record<string, Omit<Parameters<typeof platformUser>[0], 'name' | 'publicKey'>>> = {
  intelligence: {
    managesStreams: true,
    publishes: ['upid.v1.*.intelligence.>', 'upid.cmd.v1.*.snapshot'],
    consumes: ['TELEMETRY/telemetry', 'FACTS/inventory', 'FACTS/coverage'],
  },
  cost: {
    publishes: ['upid.v1.*.cost.>', 'upid.cmd.v1.*.snapshot'],
    consumes: ['FACTS/inventory', 'FACTS/rollup', 'PUBLIC/recommendation'],
    asks: ['intelligence'],
  },
  optimizer: {
    publishes: ['upid.v1.*.optimizer.>', 'upid.v1.*.recommendation.>'],
    consumes: ['FACTS/inventory', 'FACTS/assessment', 'FACTS/result'],
    asks: ['intelligence', 'cost'], serves: [subjects.agent('*', 'heartbeat')], commands: true,
  },
  gateway: {
    publishes: ['upid.cmd.v1.*.snapshot'],
    consumes: ['FACTS/inventory', 'PUBLIC/*'],
    asks: ['intelligence', 'cost', 'optimizer'], serves: [subjects.agent('*', 'heartbeat')],
  },
};

/** File of a user's seed below a folder of keys. */
export function seedFile(keys: string, user: string): string {
  return join(keys, `${user}.nk`);
}

/** The platform's users with their keys (made where there are none). */
export async function platformUsers(keys: string): Promise<NatsPlatformUser[]> {
  return Promise.all(Object.entries(RIGHTS).map(async ([name, rights]) => platformUser({ name, ...rights, publicKey: (await nkeyFile(seedFile(keys, name))).publicKey })));
}
