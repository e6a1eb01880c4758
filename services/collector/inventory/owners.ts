import { workloadKindSchema, type WorkloadKind, type WorkloadRef } from '@upid/contracts';
import type { Metadata, OwnerReference } from './kubernetes.js';

/** What is known of a controller that may itself be controlled. */
export interface KnownController {
  readonly kind: string;
  readonly name: string;
  /** Its own controlling owner, where it has one. */
  readonly owner: OwnerReference | null;
}

/** A pod's place in the world: its top controller, and the chain up to it as `Kind/name`. */
export interface Ownership {
  readonly workload: WorkloadRef;
  /** UID of the top controller; the pod's own for a bare pod. */
  readonly workloadUid: string;
  readonly owners: string[];
  /** An owner in the chain is of a kind that is read, but is not known (yet): the chain may end too early. */
  readonly pending: boolean;
}

/** Kinds between a pod and its top controller; of these the inventory reads every object. */
const INTERMEDIATE: ReadonlySet<string> = new Set(['ReplicaSet', 'Job']);
/** A chain longer than this is a circle that somebody made by hand. */
const LONGEST_CHAIN = 8;

/** The owner that controls an object, or null. */
export function controllerOf(metadata: Metadata | undefined): OwnerReference | null {
  return metadata?.ownerReferences?.find(({ controller }) => controller === true) ?? null;
}

/** A kind in the words of the contracts: kinds of controllers nobody knows are `Other`. */
export function workloadKindOf(kind: string): WorkloadKind {
  const known = workloadKindSchema.safeParse(kind);
  return known.success ? known.data : 'Other';
}

/**
 * Follows the controlling owners of a pod up to the top (ReplicaSet → Deployment or Rollout, Job → CronJob).
 * @param find a controller by UID, of those that are read
 */
export function ownershipOf(metadata: Metadata, find: (uid: string) => KnownController | undefined): Ownership {
  const namespace = metadata.namespace ?? '';
  const owners: string[] = [];
  let owner = controllerOf(metadata);
  if (owner === null) {
    return { workload: { namespace, kind: 'Pod', name: metadata.name ?? '' }, workloadUid: metadata.uid ?? '', owners, pending: false };
  }
  let pending = false;
  for (;;) {
    owners.push(`${owner.kind}/${owner.name}`);
    if (!INTERMEDIATE.has(owner.kind) || owners.length >= LONGEST_CHAIN) break;
    const known = find(owner.uid);
    if (known === undefined) {
      pending = true;
      break;
    }
    if (known.owner === null) break;
    owner = known.owner;
  }
  return { workload: { namespace, kind: workloadKindOf(owner.kind), name: owner.name }, workloadUid: owner.uid, owners, pending };
}
