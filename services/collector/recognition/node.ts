import type { CapacityType, ResourceAmounts } from '@upid/contracts';
import { nanocores, quantity } from '../usage/quantities.js';
import { distributionOfNode, type Distribution } from './distribution.js';
import { providerOfNode, type Provider } from './provider.js';

/** The parts of a Kubernetes Node that recognition reads; all may be missing. */
export interface KubernetesNode {
  readonly metadata?: { readonly name?: string; readonly labels?: Readonly<Record<string, string>> | null; readonly annotations?: Readonly<Record<string, string>> | null } | null;
  readonly spec?: { readonly providerID?: string | null } | null;
  readonly status?: {
    readonly capacity?: Readonly<Record<string, unknown>> | null;
    readonly allocatable?: Readonly<Record<string, unknown>> | null;
    readonly addresses?: readonly { readonly type?: string; readonly address?: string }[] | null;
    readonly nodeInfo?: { readonly kubeletVersion?: string; readonly kernelVersion?: string; readonly osImage?: string; readonly operatingSystem?: string; readonly architecture?: string; readonly systemUUID?: string } | null;
  } | null;
}

/** A fact and what it rests on, as a sentence. */
export interface Fact<T> {
  readonly value: T;
  readonly evidence: string;
}

export interface GpuFacts {
  /** Physical devices; where one is shared out by time slices, fewer than the scheduler counts. */
  readonly count: number;
  readonly model: string | null;
}

/** What a node is. Null is "nothing says so". */
export interface NodeFacts {
  readonly name: string;
  readonly providerId: string | null;
  readonly provider: Fact<Provider>;
  /** What lies under it by its own name, be it a provider of ours or not (`digitalocean`, `vsphere`, `kind`). */
  readonly platform: string | null;
  readonly distribution: Fact<Distribution>;
  readonly instanceType: string | null;
  readonly region: string | null;
  readonly zone: string | null;
  readonly capacityType: Fact<CapacityType>;
  readonly operatingSystem: string | null;
  readonly architecture: string | null;
  readonly pool: string | null;
  readonly gpus: GpuFacts | null;
  readonly capacity: ResourceAmounts;
  readonly allocatable: ResourceAmounts;
  readonly controlPlane: boolean;
}

/** A label that tells the capacity type, and what its values (lower case) mean. */
export interface CapacityTypeLabel {
  readonly label: string;
  readonly values: Readonly<Record<string, Exclude<CapacityType, 'unknown'>>>;
}

/** Labels that providers and tools document. A value that is not listed tells nothing. */
export const CAPACITY_TYPE_LABELS: readonly CapacityTypeLabel[] = [
  { label: 'karpenter.sh/capacity-type', values: { spot: 'spot', 'on-demand': 'on_demand', reserved: 'reserved' } },
  { label: 'eks.amazonaws.com/capacityType', values: { spot: 'spot', on_demand: 'on_demand', capacity_block: 'reserved' } },
  { label: 'cloud.google.com/gke-spot', values: { true: 'spot' } },
  { label: 'cloud.google.com/gke-preemptible', values: { true: 'spot' } },
  { label: 'cloud.google.com/gke-provisioning', values: { spot: 'spot', preemptible: 'spot' } },
  { label: 'kubernetes.azure.com/scalesetpriority', values: { spot: 'spot', regular: 'on_demand' } },
  { label: 'alpha.eksctl.io/instance-lifecycle', values: { spot: 'spot', 'on-demand': 'on_demand' } },
  { label: 'node.kubernetes.io/lifecycle', values: { spot: 'spot', preemptible: 'spot', normal: 'on_demand', 'on-demand': 'on_demand' } },
  { label: 'lifecycle', values: { spot: 'spot', ec2spot: 'spot', ondemand: 'on_demand', 'on-demand': 'on_demand' } },
  { label: 'node-role.kubernetes.io/spot-worker', values: { '': 'spot', true: 'spot' } },
  { label: 'oci.oraclecloud.com/oke-is-preemptible', values: { true: 'spot' } },
];

/** Labels that name the pool a node belongs to, the provider's own before those of tools. */
const POOL_LABELS = [
  'eks.amazonaws.com/nodegroup', 'alpha.eksctl.io/nodegroup-name', 'karpenter.sh/nodepool', 'karpenter.sh/provisioner-name', 'cloud.google.com/gke-nodepool', 'kubernetes.azure.com/agentpool', 'agentpool',
  'doks.digitalocean.com/node-pool', 'lke.linode.com/pool-id', 'kops.k8s.io/instancegroup', 'cluster.x-k8s.io/deployment-name', 'hypershift.openshift.io/nodePool', 'node.openshift.io/machine-set', 'rke.cattle.io/rke-machine-pool-name',
];

const GPU_RESOURCES = ['nvidia.com/gpu', 'amd.com/gpu', 'gpu.intel.com/i915', 'gpu.intel.com/xe', 'habana.ai/gaudi'];
const GPU_MODEL_LABELS = ['nvidia.com/gpu.product', 'cloud.google.com/gke-accelerator', 'karpenter.k8s.aws/instance-gpu-name', 'k8s.amazonaws.com/accelerator', 'accelerator'];

/** What recognition may be told on top of what it knows. */
export interface RecognitionOptions {
  /** Labels of the user's own that tell the capacity type; asked before the known ones. */
  readonly capacityTypeLabels?: readonly CapacityTypeLabel[];
}

/** The facts of one node. Never throws, whatever the object lacks. */
export function recogniseNode(node: KubernetesNode, options: RecognitionOptions = {}): NodeFacts {
  const labels = node.metadata?.labels ?? {};
  const info = node.status?.nodeInfo ?? {};
  const label = (...names: string[]): string | null => names.map((name) => labels[name]).find((value) => value !== undefined && value !== '') ?? null;
  const providerId = node.spec?.providerID || null;
  const { platform, ...provider } = providerOfNode(node);
  const place = placeOf(providerId);
  const zone = label('topology.kubernetes.io/zone', 'failure-domain.beta.kubernetes.io/zone', 'topology.gke.io/zone', 'topology.ebs.csi.aws.com/zone') ?? place.zone;
  return {
    name: node.metadata?.name ?? '',
    providerId,
    provider,
    platform,
    distribution: distributionOfNode(node),
    instanceType: label('node.kubernetes.io/instance-type', 'beta.kubernetes.io/instance-type'),
    region: label('topology.kubernetes.io/region', 'failure-domain.beta.kubernetes.io/region', 'topology.linode.com/region') ?? place.region,
    zone,
    capacityType: capacityTypeOf(labels, [...(options.capacityTypeLabels ?? []), ...CAPACITY_TYPE_LABELS]),
    operatingSystem: label('kubernetes.io/os', 'beta.kubernetes.io/os') ?? info.operatingSystem ?? null,
    architecture: label('kubernetes.io/arch', 'beta.kubernetes.io/arch') ?? info.architecture ?? null,
    pool: label(...POOL_LABELS),
    gpus: gpusOf(labels, node.status?.capacity ?? node.status?.allocatable ?? {}),
    capacity: amountsOf(node.status?.capacity ?? {}),
    allocatable: amountsOf(node.status?.allocatable ?? {}),
    controlPlane: labels['node-role.kubernetes.io/control-plane'] !== undefined || labels['node-role.kubernetes.io/master'] !== undefined || labels['node-role.kubernetes.io/controlplane'] !== undefined,
  };
}

function capacityTypeOf(labels: Readonly<Record<string, string>>, known: readonly CapacityTypeLabel[]): Fact<CapacityType> {
  for (const { label, values } of known) {
    const text = labels[label];
    const value = text === undefined || !Object.hasOwn(values, text.toLowerCase()) ? undefined : values[text.toLowerCase()];
    if (value !== undefined) return { value, evidence: `label ${label}=${String(text)}` };
  }
  return { value: 'unknown', evidence: 'no label tells it' };
}

/** Region and zone in the ids of AWS (`aws:///eu-west-1b/i-…`) and Google (`gce://project/us-west1-a/name`). */
function placeOf(providerId: string | null): { region: string | null; zone: string | null } {
  const aws = /^aws:\/\/[^/]*\/([a-z]{2}(?:-[a-z]+)+-\d+)([a-z]|-[a-z]+-\d+[a-z])\//.exec(providerId ?? '');
  if (aws?.[1] !== undefined) return { region: aws[1], zone: `${aws[1]}${aws[2] ?? ''}` };
  const gce = /^gce:\/\/[^/]+\/(([a-z]+(?:-[a-z]+)*\d+)-[a-z])\//.exec(providerId ?? '');
  return gce?.[1] === undefined ? { region: null, zone: null } : { region: gce[2] ?? null, zone: gce[1] };
}

/** Resources as amounts: millicores, bytes, counts; null where not given. */
export function amountsOf(resources: Readonly<Record<string, unknown>>): ResourceAmounts {
  const cpu = nanocores(resources['cpu']);
  const gpus = GPU_RESOURCES.map((name) => quantity(resources[name])).filter((count) => count !== null);
  return {
    cpu_millicores: cpu === null ? null : Math.round(cpu / 1e3) / 1e3,
    memory_bytes: quantity(resources['memory']),
    gpus: gpus.length === 0 ? null : gpus.reduce((a, b) => a + b, 0),
    pods: quantity(resources['pods']),
    ephemeral_storage_bytes: quantity(resources['ephemeral-storage']),
  };
}

function gpusOf(labels: Readonly<Record<string, string>>, resources: Readonly<Record<string, unknown>>): GpuFacts | null {
  const counted = amountsOf(resources).gpus ?? 0;
  const slices = Number(labels['nvidia.com/gpu.replicas'] ?? 1);
  const count = Number(labels['nvidia.com/gpu.count'] ?? (slices > 1 ? counted / slices : counted));
  if (!(count > 0)) return null;
  return { count, model: GPU_MODEL_LABELS.map((label) => labels[label]).find((value) => value !== undefined && value !== '') ?? null };
}
