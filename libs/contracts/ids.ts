import { z } from 'zod';

/** A cluster's id as given at registration: lower-case letters, digits and dashes, at most 63 characters. The display name is apart. */
export const clusterIdSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'a cluster id is 1 to 63 lower-case letters, digits or dashes and starts with a letter or digit');
export type ClusterId = z.infer<typeof clusterIdSchema>;

/** An object's UID as Kubernetes gives it (RFC 4122 text, or 32 hex digits for mirror pods). */
export const uidSchema = z.string().regex(/^[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$/, 'a UID is a UUID of 32 hex digits, dashes optional');

/** A timestamp on the wire: RFC 3339 in UTC with a `Z`. */
export const timestampSchema = z.iso.datetime({ offset: true });

/** Names of namespaces, workloads, pods and containers as Kubernetes allows them (DNS subdomain; colons appear in RBAC names alone). */
export const kubernetesNameSchema = z.string().min(1).max(253).regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, 'a Kubernetes name is lower-case letters, digits, dashes and dots');

/** Kinds that own pods, as the top of an owner chain. A bare pod is its own workload of kind Pod. */
export const workloadKindSchema = z.enum(['Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet', 'ReplicationController', 'Job', 'CronJob', 'Rollout', 'Pod', 'Node', 'Other']);
export type WorkloadKind = z.infer<typeof workloadKindSchema>;

/** What owns history across UIDs: (namespace, kind, name) within a cluster. */
export const workloadRefSchema = z.object({ namespace: z.string(), kind: workloadKindSchema, name: z.string() });
export type WorkloadRef = z.infer<typeof workloadRefSchema>;

/** `namespace/Kind/name`: the text form of a workload reference in dictionaries and keys. */
export function workloadKey(ref: WorkloadRef): string {
  return `${ref.namespace}/${ref.kind}/${ref.name}`;
}

/** The inverse of {@link workloadKey}. @throws {RangeError} where the text has not three parts or an unknown kind. */
export function parseWorkloadKey(key: string): WorkloadRef {
  const [namespace, kind, name, more] = key.split('/');
  const parsed = workloadKindSchema.safeParse(kind);
  if (namespace === undefined || !parsed.success || !name || more !== undefined) {
    throw new RangeError(`a workload key is namespace/Kind/name, got ${JSON.stringify(key)}`);
  }
  return { namespace, kind: parsed.data, name };
}

/** The 16 bytes of a UID into `out` at `offset`. @throws {RangeError} where the text is no UID. */
export function uidToBytes(uid: string, out: Uint8Array, offset = 0): void {
  const hex = uid.length === 36 ? uid.replaceAll('-', '') : uid;
  if (hex.length !== 32) throw new RangeError(`a UID is a UUID of 32 hex digits, got ${JSON.stringify(uid)}`);
  for (let i = 0; i < 16; i++) {
    const value = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
    if (Number.isNaN(value)) throw new RangeError(`a UID is a UUID of 32 hex digits, got ${JSON.stringify(uid)}`);
    out[offset + i] = value;
  }
}

const hexPairs = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));

/** The UUID text of 16 bytes at `offset`. */
export function uidFromBytes(bytes: Uint8Array, offset = 0): string {
  let text = '';
  for (let i = 0; i < 16; i++) {
    text += hexPairs[bytes[offset + i] ?? 0];
    if (i === 3 || i === 5 || i === 7 || i === 9) text += '-';
  }
  return text;
}
