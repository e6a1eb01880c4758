import { readFile } from 'node:fs/promises';
import { KubeConfig, VersionApi } from '@kubernetes/client-node';
import { CommandError, EXIT } from '../client.js';

/** A reachable cluster of a kubeconfig. */
export interface ReachableCluster {
  readonly file: string;
  readonly context: string;
  readonly serverVersion: string;
}

/** Looks the context up and asks its API server for its version; a sentence where any of that fails. @throws {CommandError} */
export async function checkCluster(file: string, context: string | null): Promise<ReachableCluster> {
  const config = new KubeConfig();
  try {
    await readFile(file);
    config.loadFromFile(file);
  } catch (cause) {
    throw new CommandError(`The kubeconfig ${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, EXIT.usage, null, { cause });
  }
  const names = config.getContexts().map((each) => each.name);
  const wanted = context ?? config.getCurrentContext();
  if (!names.includes(wanted)) throw new CommandError(`${file} has no context ${JSON.stringify(wanted)}; it has ${names.join(', ') || 'none'}.`, EXIT.usage);
  config.setCurrentContext(wanted);
  const server = config.getCurrentCluster()?.server ?? 'no server';
  try {
    const version = await withTimeout(config.makeApiClient(VersionApi).getCode(), 10_000);
    return { file, context: wanted, serverVersion: version.gitVersion };
  } catch (cause) {
    throw new CommandError(`The cluster of context ${wanted} cannot be reached at ${server}: ${reason(cause)}`, EXIT.failed, null, { cause });
  }
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : '';
  return `${error.message.split('\n')[0]}${cause}`;
}

async function withTimeout<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => { timer = setTimeout(() => reject(new Error(`no answer within ${ms / 1000} s`)), ms); });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A cluster id out of a context's name: lower-case letters, digits and dashes, at most 63. */
export function clusterIdFrom(context: string): string {
  const id = context.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 63).replace(/-+$/, '');
  return id === '' ? 'cluster' : id;
}
