import { fromSeed } from '@nats-io/nkeys';
import type { CommandSigner } from './jobs/jobs.service.js';

/** Signs with the optimizer's Ed25519 key (an nkey seed); agents hold the public half. */
export function commandSigner(seed: string): CommandSigner {
  const key = fromSeed(new TextEncoder().encode(seed));
  return { sign: (text) => Buffer.from(key.sign(new TextEncoder().encode(text))).toString('base64url') };
}
