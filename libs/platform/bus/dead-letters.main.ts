/**
 * Dead letters from the command line: `node libs/platform/dist/bus/dead-letters.main.js list [SERVICE]`, `… replay SERVICE SEQUENCE`.
 * Reads UPID_NATS_URL and the credentials of a platform user from the environment. One JSON object a line; a payload that is text is shown as
 * such, others as base64.
 */
import { loadConfig, platformSettings } from '../config/config.js';
import { connectBus } from './bus.js';
import { listDeadLetters, replayDeadLetter } from './dead-letters.js';

const USAGE = 'usage: dead-letters list [SERVICE] | dead-letters replay SERVICE SEQUENCE\n';
const PAGE = 100;

function shown(payload: Uint8Array): Record<string, string> {
  try {
    return { payload_text: new TextDecoder('utf-8', { fatal: true }).decode(payload) };
  } catch {
    // No text: shown as it is.
    return { payload_base64: Buffer.from(payload).toString('base64') };
  }
}

/** @returns the exit code: 0 done, 1 failed, 2 wrong usage */
export async function deadLettersMain(args: readonly string[], env: NodeJS.ProcessEnv, out: (text: string) => void, complain: (text: string) => void): Promise<number> {
  const [verb, service, sequence] = args;
  const isReplay = verb === 'replay' && service !== undefined && /^\d+$/.test(sequence ?? '') && args.length === 3;
  if (!isReplay && !(verb === 'list' && args.length <= 2)) {
    complain(USAGE);
    return 2;
  }
  const config = loadConfig(platformSettings, env);
  const bus = await connectBus({ url: config.natsUrl, name: env.UPID_NATS_NAME ?? 'gateway', nkeySeed: config.natsNkeySeed, user: config.natsUser, password: config.natsPassword });
  try {
    if (isReplay) {
      await replayDeadLetter(bus, service, Number(sequence));
      out(`${JSON.stringify({ service, sequence: Number(sequence), replayed: true })}\n`);
      return 0;
    }
    for (let after = 0; ;) {
      const letters = await listDeadLetters(bus, { service, afterSequence: after, limit: PAGE });
      for (const { payload, deadAt, ...letter } of letters) out(`${JSON.stringify({ ...letter, dead_at: deadAt.toISOString(), bytes: payload.length, ...shown(payload) })}\n`);
      if (letters.length < PAGE) return 0;
      after = letters.at(-1)?.sequence ?? after;
    }
  } catch (error) {
    complain(`${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  } finally {
    await bus.drain();
  }
}

if (process.argv[1] === import.meta.filename) process.exitCode = await deadLettersMain(process.argv.slice(2), process.env, (text) => process.stdout.write(text), (text) => process.stderr.write(text));
