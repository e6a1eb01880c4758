import { clusterObjectSchema, namespaceObjectSchema, nodeObjectSchema, parseWorkloadKey, podObjectSchema, resourceAmountsSchema, toTimestamp, workloadObjectSchema, type InventoryObject } from '@upid/contracts';
import type { ClusterLoad } from '../load/cluster-load.js';

const GIB = 2 ** 30;
const PODS_A_NODE = 25;
const amounts = (cpuMillicores: number, memoryBytes: number) => resourceAmountsSchema.parse({ cpu_millicores: cpuMillicores, memory_bytes: memoryBytes });
const uid = (letter: 'a' | 'c' | 'd' | 'e', number: number) => `${letter.repeat(8)}-0000-4000-8000-${number.toString(16).padStart(12, '0')}`;

/** What the inventory says of the cluster that a load is of: 25 pods on each m5.4xlarge, all as old as `sinceMs`. */
export function objectsOf(load: ClusterLoad, sinceMs: number): InventoryObject[] {
  const created_at = toTimestamp(sinceMs);
  const members = load.members();
  const workloads = new Map<string, { replicas: number; containers: number }>();
  const pods = members.map((member, index) => {
    const of = workloads.get(member.workload) ?? { replicas: 0, containers: 0 };
    workloads.set(member.workload, { replicas: of.replicas + 1, containers: Math.max(of.containers, member.containers) });
    const workload = parseWorkloadKey(member.workload);
    return podObjectSchema.parse({
      kind: 'Pod', uid: member.uid, namespace: workload.namespace, name: `${workload.name}-${of.replicas}`, node_name: `node-${Math.floor(index / PODS_A_NODE)}`, phase: 'Running', ready: true, workload, containers: containersOf(member.containers),
      created_at, scheduled_at: created_at, started_at: created_at, finished_at: null,
    });
  });
  const nodes = Array.from({ length: Math.ceil(members.length / PODS_A_NODE) }, (_, number) => nodeObjectSchema.parse({
    kind: 'Node', uid: uid('a', number), name: `node-${number}`, provider_id: null, provider: 'aws', distribution: 'eks', instance_type: 'm5.4xlarge', region: 'us-east-1', zone: 'us-east-1a', capacity_type: 'on_demand', operating_system: 'linux', architecture: 'amd64', pool: null,
    capacity: amounts(16_000, 64 * GIB), allocatable: amounts(15_800, 62 * GIB), ready: true, created_at,
  }));
  return [
    clusterObjectSchema.parse({ kind: 'Cluster', uid: uid('d', 1), name: 'bench', provider: 'aws', provider_evidence: 'bench', distribution: 'eks', distribution_evidence: 'bench', server_version: '1.36', region: 'us-east-1', capabilities: { access_logs: true }, agent_version: 'bench' }),
    ...[...new Set(members.map(({ workload }) => parseWorkloadKey(workload).namespace))].map((name, number) => namespaceObjectSchema.parse({ kind: 'Namespace', uid: uid('e', number), name })),
    ...nodes,
    ...[...workloads].map(([key, { replicas, containers }], number) => {
      const { namespace, kind, name } = parseWorkloadKey(key);
      return workloadObjectSchema.parse({
        kind: 'Workload', uid: uid('c', number), workload_kind: kind, namespace, name, api_version: 'apps/v1', resource_version: '1', generation: 1, observed_generation: 1, replicas, ready_replicas: replicas, containers: containersOf(containers), created_at, last_rollout_at: null,
        rollout_in_flight: false,
      });
    }),
    ...pods,
  ];
}

function containersOf(count: number) {
  return ['app', 'proxy'].slice(0, count).map((name) => ({ name, requests: name === 'app' ? amounts(250, GIB / 2) : amounts(50, GIB / 16), limits: amounts(1_000, GIB) }));
}
