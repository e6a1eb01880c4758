import type { providerSchema } from '@upid/contracts';
import type { z } from 'zod';
import type { Fact, KubernetesNode } from './node.js';

export type Provider = z.infer<typeof providerSchema>;

/** Who the scheme of `spec.providerID` names. Platforms that one runs in one's own rooms are on_premise; other providers stay unknown. */
const SCHEMES: ReadonlyMap<string, Provider> = new Map<string, Provider>(Object.entries({
  aws: 'aws', gce: 'gcp', azure: 'azure',
  vsphere: 'on_premise', baremetalhost: 'on_premise', metal3: 'on_premise', nutanix: 'on_premise', proxmox: 'on_premise', libvirt: 'on_premise', maas: 'on_premise', tinkerbell: 'on_premise', ovirt: 'on_premise', harvester: 'on_premise',
}));

/** Schemes of distributions that name only the host: what lies under it must be told by something else. */
const HOST_SCHEMES = new Set(['k3s', 'rke2', 'rke']);

/** Hosts of label and annotation keys, with the platform that writes them. */
const KEY_HOSTS: readonly (readonly [suffix: string, provider: Provider, platform: string])[] = [
  ['eks.amazonaws.com', 'aws', 'aws'], ['k8s.aws', 'aws', 'aws'], ['ebs.csi.aws.com', 'aws', 'aws'], ['alpha.eksctl.io', 'aws', 'aws'],
  ['cloud.google.com', 'gcp', 'gcp'], ['gke.io', 'gcp', 'gcp'], ['container.googleapis.com', 'gcp', 'gcp'],
  ['kubernetes.azure.com', 'azure', 'azure'], ['csi.azure.com', 'azure', 'azure'],
  ['doks.digitalocean.com', 'unknown', 'digitalocean'], ['lke.linode.com', 'unknown', 'linode'], ['topology.linode.com', 'unknown', 'linode'], ['csi.hetzner.cloud', 'unknown', 'hetzner'], ['oci.oraclecloud.com', 'unknown', 'oracle'],
  ['vsphere.cpi.k8s.io', 'on_premise', 'vsphere'],
];
/** Keys that say so by their whole name. */
const KEYS: ReadonlyMap<string, readonly [Provider, string]> = new Map([['k8s.io/cloud-provider-aws', ['aws', 'aws']]]);

/** The kernel, image or name that a provider gives to its machines: told last, for it can be carried elsewhere. */
const TRACES: readonly (readonly [of: 'kernel' | 'image' | 'uuid' | 'name', pattern: RegExp, provider: Provider])[] = [
  ['uuid', /^ec2[0-9a-f]/i, 'aws'], ['kernel', /-aws\b|\.amzn\d/, 'aws'], ['kernel', /-azure\b/, 'azure'], ['kernel', /-(?:gcp|gke)\b/, 'gcp'], ['image', /^Container-Optimized OS from Google/, 'gcp'], ['image', /^Amazon Linux/, 'aws'],
  ['name', /\.(?:compute|ec2)\.internal$/, 'aws'], ['name', /\.c\.[a-z][-a-z0-9.]*\.internal$/, 'gcp'], ['name', /\.internal\.cloudapp\.net$/, 'azure'],
];

function keyHostMatches(key: string, suffix: string): boolean {
  const slash = key.indexOf('/');
  const host = slash < 0 ? '' : key.slice(0, slash);
  return host === suffix || host.endsWith(`.${suffix}`);
}

/** Where a node runs: by its provider id, else by labels and annotations of providers, else by traces of one in kernel, image or name. */
export function providerOfNode(node: KubernetesNode): Fact<Provider> & { readonly platform: string | null } {
  const providerId = node.spec?.providerID ?? '';
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(providerId)?.[1]?.toLowerCase() ?? null;
  if (scheme !== null && !HOST_SCHEMES.has(scheme)) {
    const value = SCHEMES.get(scheme) ?? 'unknown';
    return { value, platform: scheme, evidence: value === 'unknown' ? `provider id begins with ${scheme}://, which is none of the providers known` : `provider id begins with ${scheme}://` };
  }
  for (const key of [...Object.keys(node.metadata?.labels ?? {}), ...Object.keys(node.metadata?.annotations ?? {})].sort()) {
    const [, provider, platform] = KEY_HOSTS.find(([suffix]) => keyHostMatches(key, suffix)) ?? ['', ...(KEYS.get(key) ?? [null, null] as const)];
    if (provider !== null) return { value: provider, platform, evidence: `label or annotation ${key}` };
  }
  const info = node.status?.nodeInfo ?? {};
  const names = [node.metadata?.name, ...(node.status?.addresses ?? []).filter(({ type }) => type === 'InternalDNS' || type === 'Hostname').map(({ address }) => address)];
  const told = { kernel: [info.kernelVersion], image: [info.osImage], uuid: [info.systemUUID], name: names };
  for (const [of, pattern, value] of TRACES) {
    const found = told[of].find((text) => text !== undefined && pattern.test(text));
    if (found !== undefined) return { value, platform: value, evidence: `${of === 'uuid' ? 'system UUID' : of} ${found} is one of ${value}` };
  }
  const host = scheme === null ? 'no provider id' : `provider id ${scheme}:// names the host alone`;
  return { value: 'unknown', platform: scheme, evidence: `${host}, and neither label, kernel, image nor name tells` };
}
