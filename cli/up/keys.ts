import { createHash, randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { clusterIdSchema } from '@upid/contracts';
import { agentUserName, natsConfig, nkeyFile } from '@upid/platform';
import { CommandError, EXIT } from '../client.js';
import { platformUsers, seedFile } from './bus-users.js';
import { StateFolder } from './state.js';

/** Where the parts find each other, when they do not run on one machine's loopback. */
export interface KeysOptions {
  readonly dir: string;
  readonly clusters: readonly string[];
  readonly databaseHost: string;
}

/**
 * Makes every key of an installation once and keeps what is there: the bus's configuration with an account for each cluster, seeds,
 * the key that commands are signed with, a database password, an API key. Run again with one more cluster to add its agent.
 */
export async function makeKeys(options: KeysOptions): Promise<void> {
  for (const id of options.clusters) {
    const parsed = clusterIdSchema.safeParse(id);
    if (!parsed.success) throw new CommandError(`${JSON.stringify(id)}: ${parsed.error.issues[0]?.message}`, EXIT.usage);
  }
  const dir = resolve(options.dir);
  await mkdir(dir, { recursive: true, mode: 0o755 });
  const state = new StateFolder(dir);
  const secret = () => randomBytes(24).toString('base64url');
  const agents = await Promise.all(options.clusters.map(async (clusterId) => ({ clusterId, publicKey: (await nkeyFile(seedFile(dir, agentUserName(clusterId)))).publicKey })));
  await writeFile(join(dir, 'nats.conf'), natsConfig({ platformUsers: await platformUsers(dir), agents }), { mode: 0o600 });
  const signing = await nkeyFile(seedFile(dir, 'command-signing'));
  await writeFile(join(dir, 'command-public-key'), signing.publicKey);
  const password = await state.secret(join(dir, 'postgres-password'), secret);
  await writeFile(join(dir, 'database-url'), `postgresql://upid:${password}@${options.databaseHost}:5432/upid`, { mode: 0o600 });
  const apiKey = await state.secret(join(dir, 'api-key'), () => `upid_${secret()}`);
  await writeFile(join(dir, 'api-keys.json'), JSON.stringify(apiKeysFile(apiKey), null, 2), { mode: 0o600 });
  console.log(`Keys for ${options.clusters.length} cluster${options.clusters.length === 1 ? '' : 's'} lie in ${dir}; the API key: ${join(dir, 'api-key')}`);
}

/** The gateway's file of keys with one administrator's key, of which it holds the digest alone. */
export function apiKeysFile(apiKey: string): unknown {
  return { keys: [{ name: 'local', sha256: createHash('sha256').update(apiKey).digest('hex'), role: 'admin', clusters: ['*'] }] };
}
