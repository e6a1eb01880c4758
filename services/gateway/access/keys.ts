import { clusterIdSchema, UpidError, type ClusterId } from '@upid/contracts';
import { z } from 'zod';
import { ROLES, type Role } from '../rest/routes.js';

/** The file of API keys: only digests of keys are stored. `clusters`: ids, or `*`. */
export const apiKeysFileSchema = z.object({
  keys: z.array(z.object({ name: z.string().min(1), sha256: z.string().regex(/^[0-9a-f]{64}$/, 'the SHA-256 of the key as 64 hex digits'), role: z.enum(ROLES), clusters: z.array(z.union([z.literal('*'), clusterIdSchema])).min(1) })),
});
export type ApiKeys = z.infer<typeof apiKeysFileSchema>['keys'];

/** Who asks. */
export interface Caller {
  /** The key's name: it stands as the actor of what it starts. */
  readonly name: string;
  readonly role: Role;
  readonly clusters: readonly string[];
}

/** The key in an `Authorization: Bearer …` header, or null. */
export function bearerOf(header: string | undefined): string | null {
  return /^Bearer ([\x21-\x7e]{1,512})$/i.exec(header ?? '')?.[1] ?? null;
}

/** The caller whose key has this digest. Digests are of random keys, so that looking one up tells nothing of another. */
export function callerOf(keys: ApiKeys, sha256: string): Caller | null {
  const key = keys.find((each) => each.sha256 === sha256);
  return key ? { name: key.name, role: key.role, clusters: key.clusters } : null;
}

export function mayAct(caller: Caller, role: Role): boolean {
  return ROLES.indexOf(caller.role) >= ROLES.indexOf(role);
}

export function maySee(caller: Caller, clusterId: ClusterId): boolean {
  return caller.clusters.includes('*') || caller.clusters.includes(clusterId);
}

/**
 * The cluster that a request is about: the one it names, else the only one that the caller may see.
 * @param known ids (and display names, which may stand for them) of registered clusters
 * @throws UpidError cluster_not_found (also where the caller may not see it), invalid_request where it must be named
 */
export function resolveCluster(caller: Caller, wanted: string | undefined, known: readonly { readonly clusterId: string; readonly name: string }[]): string {
  const visible = known.filter((each) => maySee(caller, each.clusterId));
  if (wanted === undefined) {
    const [only, more] = visible;
    if (only && !more) return only.clusterId;
    if (!only) throw new UpidError('cluster_not_found', 'No cluster has reported yet.');
    throw new UpidError('invalid_request', `Name a cluster by cluster_id: ${visible.map((each) => each.clusterId).join(', ')}.`);
  }
  const found = visible.find((each) => each.clusterId === wanted) ?? visible.find((each) => each.name === wanted);
  if (!found) throw new UpidError('cluster_not_found', `There is no cluster ${wanted}.${visible.length > 0 ? ` There are: ${visible.map((each) => each.clusterId).join(', ')}.` : ''}`, { cluster_id: wanted });
  return found.clusterId;
}
