import type { NodeObject } from '@upid/contracts';
import type { NodeFacts } from '../recognition/node.js';
import type { KubeNode } from './kubernetes.js';

/** A node as the contracts say it, with what was recognised of it. */
export function nodeObject(node: KubeNode, facts: NodeFacts): NodeObject {
  const { metadata = {}, spec, status } = node;
  return {
    kind: 'Node',
    uid: metadata.uid ?? '',
    name: facts.name,
    provider_id: facts.providerId,
    provider: facts.provider.value,
    distribution: facts.distribution.value,
    instance_type: facts.instanceType,
    region: facts.region,
    zone: facts.zone,
    capacity_type: facts.capacityType.value,
    operating_system: facts.operatingSystem,
    architecture: facts.architecture,
    pool: facts.pool,
    capacity: { ...facts.capacity, gpus: facts.gpus?.count ?? facts.capacity.gpus },
    allocatable: facts.allocatable,
    control_plane: facts.controlPlane,
    ready: (status?.conditions ?? []).some(({ type, status: is }) => type === 'Ready' && is === 'True'),
    unschedulable: spec?.unschedulable === true,
    taints: (spec?.taints ?? []).map(({ key, value = '', effect }) => ({ key, value, effect })),
    labels: { ...metadata.labels },
    created_at: metadata.creationTimestamp ?? '',
  };
}
