import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { quantity } from '../usage/quantities.js';
import { recogniseCluster } from './cluster.js';
import { distributionOfCluster, distributionOfVersion } from './distribution.js';
import { amountsOf, recogniseNode, type KubernetesNode } from './node.js';

const json = (name: string): unknown => JSON.parse(readFileSync(new URL(`../../../testdata/nodes/${name}`, import.meta.url), 'utf8'));
interface Expected { provider: string; distribution: string; instance_type: string | null; region: string | null; zone: string | null; capacity_type: string | null; architecture: string; node_pool?: string; allocatable: Record<string, string>; provider_id: string | null }

describe('nodes of real clusters', () => {
  const expected = json('expected.json') as Record<string, Expected>;
  it.each(Object.keys(expected))('%s is what it is', (name) => {
    const want = expected[name] as Expected;
    const facts = recogniseNode(json(name) as KubernetesNode);
    // Of the bare worker nothing tells where it runs.
    expect(name.startsWith('openshift') ? ['on_premise', 'unknown'] : [want.provider]).toContain(facts.provider.value);
    expect({
      distribution: facts.distribution.value, instance_type: facts.instanceType, region: facts.region, zone: facts.zone, capacity_type: facts.capacityType.value, architecture: facts.architecture, provider_id: facts.providerId,
    }).toEqual({
      distribution: want.distribution, instance_type: want.instance_type, region: want.region, zone: want.zone, capacity_type: want.capacity_type?.replace('-', '_') ?? 'unknown', architecture: want.architecture, provider_id: want.provider_id,
    });
    expect(facts.operatingSystem).toBe('linux');
    expect(facts.pool).toBe(want.node_pool ?? (name === 'eks.json' ? 'test123' : null));
    expect(facts.allocatable).toEqual({
      cpu_millicores: (quantity(want.allocatable['cpu']) ?? Number.NaN) * 1_000, memory_bytes: quantity(want.allocatable['memory']), pods: Number(want.allocatable['pods']), gpus: null,
      ephemeral_storage_bytes: quantity(want.allocatable['ephemeral-storage']),
    });
    for (const { evidence } of [facts.provider, facts.distribution, facts.capacityType]) expect(evidence).not.toBe('');
  });
});

describe('nodes of further platforms', () => {
  const cases = json('extra/nodes.json') as Record<string, { node: KubernetesNode; expected: Record<string, unknown> }>;
  it.each(Object.keys(cases))('%s is what it is', (name) => {
    const { node, expected } = cases[name] as { node: KubernetesNode; expected: Record<string, unknown> };
    const facts = recogniseNode(node);
    expect({
      provider: facts.provider.value, platform: facts.platform, distribution: facts.distribution.value, instance_type: facts.instanceType, region: facts.region, zone: facts.zone, capacity_type: facts.capacityType.value, pool: facts.pool,
      control_plane: facts.controlPlane, gpus: facts.gpus,
    }).toEqual(expected);
  });

  it('keeps provider and distribution apart', () => {
    const { node } = cases['openshift-on-aws'] as { node: KubernetesNode };
    const facts = recogniseNode(node);
    expect(facts.provider).toEqual({ value: 'aws', evidence: 'provider id begins with aws://' });
    expect(facts.distribution).toEqual({ value: 'openshift', evidence: 'kubelet v1.27.8+4fab27b' });
  });
});

describe('single facts', () => {
  const node = (labels: Record<string, string>, version?: string): KubernetesNode => ({ metadata: { labels }, status: { nodeInfo: { kubeletVersion: version } } });

  it.each<[Record<string, string>, string]>([
    [{ 'karpenter.sh/capacity-type': 'reserved' }, 'reserved'], [{ 'eks.amazonaws.com/capacityType': 'ON_DEMAND' }, 'on_demand'], [{ 'eks.amazonaws.com/capacityType': 'CAPACITY_BLOCK' }, 'reserved'], [{ 'cloud.google.com/gke-preemptible': 'true' }, 'spot'],
    [{ 'cloud.google.com/gke-spot': 'false' }, 'unknown'], [{ 'cloud.google.com/gke-provisioning': 'standard' }, 'unknown'], [{ 'kubernetes.azure.com/scalesetpriority': 'regular' }, 'on_demand'], [{ lifecycle: 'Ec2Spot' }, 'spot'],
    [{ 'node-role.kubernetes.io/spot-worker': '' }, 'spot'], [{ 'karpenter.sh/capacity-type': 'constructor' }, 'unknown'], [{}, 'unknown'],
  ])('%j is %s', (labels, capacityType) => {
    expect(recogniseNode(node(labels)).capacityType.value).toBe(capacityType);
  });

  it('asks the user\'s own labels for the capacity type first', () => {
    const options = { capacityTypeLabels: [{ label: 'acme.io/purchase', values: { interruptible: 'spot' as const } }] };
    expect(recogniseNode(node({ 'acme.io/purchase': 'Interruptible', 'karpenter.sh/capacity-type': 'on-demand' }), options).capacityType).toEqual({ value: 'spot', evidence: 'label acme.io/purchase=Interruptible' });
  });

  it.each<[string | null, string | null]>([
    ['v1.29.3-eks-ae9a62a', 'eks'], ['v1.31.4-gke.1256000', 'gke'], ['v1.30.4+k3s1', 'k3s'], ['v1.30.4-rc1+k3s1', 'k3s'], ['v1.28.9+rke2r1', 'rancher'], ['v1.20.0+2817867', 'openshift'], ['v1.34.4', null], ['v1.28.14', null], ['', null], [null, null],
  ])('version %s says %s', (version, distribution) => {
    expect(distributionOfVersion(version)).toBe(distribution);
  });

  it('takes traces of a provider where the host is all that the id names', () => {
    const traced = (fields: KubernetesNode['status'], name = 'n'): string => recogniseNode({ metadata: { name }, spec: { providerID: 'rke2://n' }, status: fields }).provider.value;
    expect(traced({ nodeInfo: { kernelVersion: '6.5.0-1018-gcp' } })).toBe('gcp');
    expect(traced({ nodeInfo: { kernelVersion: '5.15.0-1070-azure' } })).toBe('azure');
    expect(traced({ addresses: [{ type: 'InternalDNS', address: 'ip-10-0-0-1.ec2.internal' }] })).toBe('aws');
    expect(traced({ addresses: [{ type: 'Hostname', address: 'vm1.c.my-project.internal' }] })).toBe('gcp');
    expect(traced({ addresses: [{ type: 'ExternalDNS', address: 'ip-10-0-0-1.ec2.internal' }] })).toBe('unknown');
    expect(traced({ nodeInfo: { kernelVersion: '6.1.0-generic' } })).toBe('unknown');
  });

  it('takes labels of a provider where there is no id, and no look-alike', () => {
    expect(recogniseNode(node({ 'topology.disk.csi.azure.com/zone': '' })).provider.value).toBe('azure');
    expect(recogniseNode(node({ 'karpenter.k8s.aws/instance-family': 'c7g' })).provider.value).toBe('aws');
    expect(recogniseNode(node({ 'notcloud.google.com.example/x': 'y', 'mycloud.google.com': 'x' })).provider.value).toBe('unknown');
    expect(recogniseNode(node({ 'doks.digitalocean.com/node-pool': 'p' }))).toMatchObject({ provider: { value: 'unknown' }, platform: 'digitalocean' });
  });

  it('counts GPUs of all makers, and slices once', () => {
    expect(recogniseNode({ metadata: { labels: { 'nvidia.com/gpu.product': 'NVIDIA-A10G' } }, status: { capacity: { 'nvidia.com/gpu': '4' } } }).gpus).toEqual({ count: 4, model: 'NVIDIA-A10G' });
    expect(recogniseNode({ metadata: { labels: { 'nvidia.com/gpu.count': '1', 'nvidia.com/gpu.replicas': '10' } }, status: { capacity: { 'nvidia.com/gpu': '10' } } }).gpus).toEqual({ count: 1, model: null });
    expect(recogniseNode({ status: { capacity: { 'amd.com/gpu': '2' } } }).gpus).toEqual({ count: 2, model: null });
    expect(recogniseNode({ status: { capacity: { cpu: '2' } } }).gpus).toBeNull();
    expect(amountsOf({ cpu: '0.5', memory: '1Gi', 'nvidia.com/gpu': '1', 'amd.com/gpu': '2' })).toMatchObject({ cpu_millicores: 500, memory_bytes: 2 ** 30, gpus: 3, pods: null });
  });

  it('says unknown of nothing, and never throws', () => {
    expect(recogniseNode({})).toMatchObject({ name: '', provider: { value: 'unknown' }, distribution: { value: 'unknown' }, capacityType: { value: 'unknown' }, instanceType: null, allocatable: { cpu_millicores: null } });
    const text = fc.string({ unit: 'binary', maxLength: 40 });
    const dictionary = fc.option(fc.dictionary(text, text));
    fc.assert(fc.property(fc.record({
      metadata: fc.option(fc.record({ labels: dictionary, annotations: dictionary })), spec: fc.option(fc.record({ providerID: fc.option(text) })), status: fc.option(fc.record({ capacity: dictionary, allocatable: dictionary, nodeInfo: fc.option(fc.record({ kubeletVersion: text, kernelVersion: text })) })),
    }), (node) => {
      const facts = recogniseNode(node);
      expect(facts.provider.evidence).not.toBe('');
    }));
  });
});

describe('the cluster', () => {
  const cases = json('extra/nodes.json') as Record<string, { node: KubernetesNode }>;
  const facts = (...names: string[]) => names.map((name) => recogniseNode((cases[name] as { node: KubernetesNode }).node));

  it('is where its nodes are known to be, and what its server says', () => {
    const cluster = recogniseCluster(facts('eks-spot', 'eks-spot', 'kubeadm-on-metal', 'kubeadm-on-metal', 'kubeadm-on-metal'), 'v1.30.2-eks-1552ad0', []);
    expect(cluster).toEqual({ provider: { value: 'aws', evidence: '2 of 2 nodes, for example: provider id begins with aws://' }, distribution: { value: 'eks', evidence: 'server version v1.30.2-eks-1552ad0' }, region: 'eu-central-1' });
  });

  it('follows its nodes where the version says nothing, then its API groups', () => {
    expect(recogniseCluster(facts('aks-spot'), 'v1.29.7', []).distribution.value).toBe('aks');
    expect(distributionOfCluster('v1.27.8', ['config.openshift.io'], []).value).toBe('openshift');
    expect(distributionOfCluster('v1.27.8', ['apps', 'management.cattle.io'], []).value).toBe('vanilla');
    expect(distributionOfCluster(null, [], facts('rke1').map(({ distribution }) => distribution)).value).toBe('rancher');
    expect(distributionOfCluster('v1.27.8', [], facts('kubeadm-on-metal').map(({ distribution }) => distribution))).toMatchObject({ value: 'vanilla' });
  });

  it('is unknown without anything', () => {
    expect(recogniseCluster([], null, [])).toMatchObject({ provider: { value: 'unknown' }, distribution: { value: 'unknown' }, region: null });
  });
});
