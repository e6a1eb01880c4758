import type { distributionSchema } from '@upid/contracts';
import type { z } from 'zod';
import type { Fact, KubernetesNode } from './node.js';

export type Distribution = z.infer<typeof distributionSchema>;

/** What a version of Kubernetes says of who built it (`v1.29.3-eks-ae9a62a`, `v1.30.4+rke2r1`, OpenShift's `v1.20.0+2817867`); null where it says nothing. */
export function distributionOfVersion(version: string | null | undefined): Distribution | null {
  if (version == null) return null;
  if (/-eks-/.test(version)) return 'eks';
  if (/-gke\./.test(version)) return 'gke';
  if (/\+k3s\d/.test(version)) return 'k3s';
  if (/\+rke2/.test(version) || /-rancher/.test(version)) return 'rancher';
  if (/^v?\d+\.\d+\.\d+(?:-[a-z0-9.]+)?\+[0-9a-f]{7,10}$/.test(version)) return 'openshift';
  return null;
}

/** Keys of labels and annotations, or their beginnings, that a distribution puts on its nodes. */
const MARKS: readonly (readonly [prefix: string, distribution: Distribution])[] = [
  ['eks.amazonaws.com/', 'eks'], ['cloud.google.com/gke-', 'gke'], ['kubernetes.azure.com/cluster', 'aks'], ['kubernetes.azure.com/agentpool', 'aks'], ['kubernetes.azure.com/nodepool-type', 'aks'],
  ['node.openshift.io/', 'openshift'], ['machineconfiguration.openshift.io/', 'openshift'], ['machine.openshift.io/', 'openshift'], ['hypershift.openshift.io/', 'openshift'],
  ['rke2.io/', 'rancher'], ['k3s.io/', 'k3s'], ['rke.cattle.io/', 'rancher'],
];

/** What a node's Kubernetes is: by its kubelet's version, else by the marks of a distribution on it, else vanilla. */
export function distributionOfNode(node: KubernetesNode): Fact<Distribution> {
  const version = node.status?.nodeInfo?.kubeletVersion;
  const byVersion = distributionOfVersion(version);
  if (byVersion !== null) return { value: byVersion, evidence: `kubelet ${String(version)}` };
  const scheme = /^(k3s|rke2):\/\//.exec(node.spec?.providerID ?? '')?.[1];
  if (scheme !== undefined) return { value: scheme === 'k3s' ? 'k3s' : 'rancher', evidence: `provider id begins with ${scheme}://` };
  const keys = [...Object.keys(node.metadata?.labels ?? {}), ...Object.keys(node.metadata?.annotations ?? {})];
  for (const [prefix, value] of MARKS) {
    const key = keys.find((each) => each.startsWith(prefix));
    if (key !== undefined) return { value, evidence: `label or annotation ${key}` };
  }
  if (version === undefined || version === '') return { value: 'unknown', evidence: 'the node tells neither a version nor a mark of a distribution' };
  return { value: 'vanilla', evidence: `kubelet ${version}, and no mark of another distribution` };
}

/** API groups that only one distribution serves. Rancher's own groups are also served by clusters that it merely looks after, so they come last. */
const GROUPS: readonly (readonly [group: string, distribution: Distribution])[] = [
  ['config.openshift.io', 'openshift'], ['route.openshift.io', 'openshift'], ['eks.amazonaws.com', 'eks'], ['networking.gke.io', 'gke'], ['k3s.cattle.io', 'k3s'], ['provisioning.cattle.io', 'rancher'],
];

/**
 * What the cluster's Kubernetes is: by the API server's version, else by what most of its nodes say, else by API groups.
 * @param nodes the distributions of its nodes
 */
export function distributionOfCluster(serverVersion: string | null, apiGroups: readonly string[], nodes: readonly Fact<Distribution>[]): Fact<Distribution> {
  const byVersion = distributionOfVersion(serverVersion);
  if (byVersion !== null) return { value: byVersion, evidence: `server version ${String(serverVersion)}` };
  const marked = mostCommon(nodes.filter(({ value }) => value !== 'vanilla' && value !== 'unknown'));
  if (marked !== null) return marked;
  const groups = new Set(apiGroups);
  for (const [group, value] of GROUPS) if (groups.has(group)) return { value, evidence: `API group ${group}` };
  const plain = mostCommon(nodes.filter(({ value }) => value !== 'unknown'));
  if (plain !== null) return plain;
  return serverVersion === null ? { value: 'unknown', evidence: 'neither server version nor nodes tell' } : { value: 'vanilla', evidence: `server version ${serverVersion}, and no mark of another distribution` };
}

/** The value that most facts hold (the first met where two are held as often), with the evidence of one of them; null without facts. */
export function mostCommon<T>(facts: readonly Fact<T>[]): Fact<T> | null {
  const counts = new Map<T, number>();
  for (const { value } of facts) counts.set(value, (counts.get(value) ?? 0) + 1);
  let best: Fact<T> | null = null;
  for (const fact of facts) if (best === null || (counts.get(fact.value) ?? 0) > (counts.get(best.value) ?? 0)) best = fact;
  if (best === null) return null;
  const count = counts.get(best.value) ?? 0;
  return { value: best.value, evidence: facts.length === 1 ? best.evidence : `${count} of ${facts.length} nodes, for example: ${best.evidence}` };
}
