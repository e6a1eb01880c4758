/** Simulated nodes: what a cloud's node says about itself, so that it can be recognised and priced. */
import type { KubernetesObject } from './api.js';
import { KUBELET_PORT } from './components.js';

export type Cloud = 'aws' | 'gcp' | 'azure' | 'none';

export interface NodeOptions {
  /** Names are PREFIX-0, PREFIX-1, ...; default `node`. */
  namePrefix?: string;
  /** Whose labels and provider id the nodes carry; default aws. */
  cloud?: Cloud;
  instanceType?: string;
  region?: string;
  /** Nodes take turns; default REGIONa, REGIONb, REGIONc. */
  zones?: readonly string[];
  capacityType?: 'on-demand' | 'spot';
  architecture?: 'amd64' | 'arm64';
  /** What the machine has, as quantities; default 4 CPU, 16Gi. */
  capacity?: Readonly<Record<string, string>>;
  /** What pods may request of it; default the capacity less 100m CPU and 512Mi for the system. */
  allocatable?: Readonly<Record<string, string>>;
  labels?: Readonly<Record<string, string>>;
  annotations?: Readonly<Record<string, string>>;
  taints?: readonly { key: string; value?: string; effect: 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute' }[];
}

const DEFAULTS: Record<Cloud, { instanceType: string; region: string; zone: (region: string, letter: string) => string }> = {
  aws: { instanceType: 'm6i.xlarge', region: 'eu-central-1', zone: (region, letter) => `${region}${letter}` },
  gcp: { instanceType: 'n2-standard-4', region: 'europe-west1', zone: (region, letter) => `${region}-${letter === 'a' ? 'b' : letter === 'b' ? 'c' : 'd'}` },
  azure: { instanceType: 'Standard_D4s_v5', region: 'westeurope', zone: (region, letter) => `${region}-${letter === 'a' ? 1 : letter === 'b' ? 2 : 3}` },
  none: { instanceType: '', region: '', zone: () => '' },
};

/** The labels by which each cloud's managed Kubernetes says that a node is spot or on demand. */
const CAPACITY_LABELS: Record<Cloud, (spot: boolean) => Record<string, string>> = {
  aws: (spot) => ({ 'eks.amazonaws.com/capacityType': spot ? 'SPOT' : 'ON_DEMAND', 'eks.amazonaws.com/nodegroup': spot ? 'spot' : 'general' }),
  gcp: (spot) => ({ 'cloud.google.com/gke-nodepool': spot ? 'spot' : 'default', ...(spot ? { 'cloud.google.com/gke-spot': 'true' } : {}) }),
  azure: (spot) => ({ 'kubernetes.azure.com/agentpool': spot ? 'spot' : 'default', ...(spot ? { 'kubernetes.azure.com/scalesetpriority': 'spot' } : {}) }),
  none: () => ({}),
};

/** The i-th address of the nodes' network, from 198.18.0.1 on. */
export function nodeAddress(index: number): string {
  const value = 0xc612_0001 + index;
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join('.');
}

/**
 * @param index among all nodes of the cluster: gives the address
 * @param ordinal among the nodes of the same options: gives the name and the zone
 */
export function nodeObject(index: number, ordinal: number, options: NodeOptions = {}): KubernetesObject & { spec: object; status: object } {
  const cloud = options.cloud ?? 'aws';
  const defaults = DEFAULTS[cloud];
  const name = `${options.namePrefix ?? 'node'}-${ordinal}`;
  const region = options.region ?? defaults.region;
  const zones = options.zones ?? ['a', 'b', 'c'].map((letter) => defaults.zone(region, letter));
  const zone = zones[ordinal % zones.length] ?? '';
  const architecture = options.architecture ?? 'amd64';
  const capacity = { cpu: '4', memory: '16Gi', pods: '110', 'ephemeral-storage': '100Gi', ...options.capacity };
  const allocatable = { ...capacity, ...(options.allocatable ?? lessSystem(capacity)) };
  const placed: Record<string, string> = cloud === 'none' ? {} : {
    'node.kubernetes.io/instance-type': options.instanceType ?? defaults.instanceType,
    'topology.kubernetes.io/region': region,
    'topology.kubernetes.io/zone': zone,
  };
  const id = index.toString(16).padStart(17, '0');
  const providerId = {
    aws: `aws:///${zone}/i-${id}`,
    gcp: `gce://upid-test/${zone}/${name}`,
    azure: `azure:///subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/upid-test/providers/Microsoft.Compute/virtualMachines/${name}`,
    none: undefined,
  }[cloud];
  const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      labels: {
        'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux', 'kubernetes.io/arch': architecture, ...placed,
        ...CAPACITY_LABELS[cloud](options.capacityType === 'spot'), ...options.labels,
      },
      annotations: { ...options.annotations },
    },
    spec: { providerID: providerId, taints: options.taints },
    status: {
      addresses: [{ type: 'InternalIP', address: nodeAddress(index) }, { type: 'Hostname', address: name }],
      capacity, allocatable,
      conditions: [{ type: 'Ready', status: 'False', reason: 'KubeletNotReady', lastHeartbeatTime: now, lastTransitionTime: now }],
      daemonEndpoints: { kubeletEndpoint: { Port: KUBELET_PORT } },
      nodeInfo: {
        architecture, operatingSystem: 'linux', osImage: 'Ubuntu 24.04 LTS', kernelVersion: '6.8.0', kubeletVersion: 'v1.36.3', kubeProxyVersion: '',
        containerRuntimeVersion: 'containerd://2.1.4', machineID: `m${id}`, systemUUID: `s${id}`, bootID: `b${id}`, // kwok writes them unquoted: no numbers
      },
    },
  };
}

/** 100m CPU and 512Mi less, where the quantities are whole cores and Gi. */
function lessSystem(capacity: { cpu: string; memory: string }): Record<string, string> {
  const cores = /^(\d+)$/.exec(capacity.cpu)?.[1];
  const gibibytes = /^(\d+)Gi$/.exec(capacity.memory)?.[1];
  return {
    cpu: cores === undefined ? capacity.cpu : `${Number(cores) * 1000 - 100}m`,
    memory: gibibytes === undefined ? capacity.memory : `${Number(gibibytes) * 1024 - 512}Mi`,
  };
}
