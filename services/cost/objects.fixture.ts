import { encodeRollup, MINUTE_MS, toTimestamp, uidToBytes, workloadKey, type InventoryEvent, type InventoryObject, type NodeObject, type PodObject, type WorkloadObject, type WorkloadRef } from '@upid/contracts';

/** Plain objects that tests start from. */
export const GIB = 2 ** 30;
const none = { cpu_millicores: null, memory_bytes: null, gpus: null, pods: null, ephemeral_storage_bytes: null };

/** A UID out of a kind's letter and a number, the same each time. */
export function uidOf(letter: 'a' | 'b' | 'c' | 'd' | 'e', number: number): string {
  return `${letter.repeat(8)}-0000-4000-8000-${number.toString(16).padStart(12, '0')}`;
}

/** An m5.xlarge of AWS in us-east-1, list price 0.192 USD. */
export function nodeObject(number: number, createdAtMs: number, over: Partial<NodeObject> = {}): NodeObject {
  return {
    kind: 'Node', uid: uidOf('a', number), name: `node-${number}`, provider_id: null, provider: 'aws', distribution: 'eks', instance_type: 'm5.xlarge', region: 'us-east-1', zone: 'us-east-1a', capacity_type: 'on_demand', operating_system: 'linux', architecture: 'amd64',
    pool: null, capacity: { ...none, cpu_millicores: 4000, memory_bytes: 16 * GIB }, allocatable: { ...none, cpu_millicores: 3800, memory_bytes: 15 * GIB }, control_plane: false, ready: true, unschedulable: false, taints: [], labels: {},
    created_at: toTimestamp(createdAtMs), ...over,
  };
}

export interface PodOptions {
  readonly node?: string | null;
  readonly workload?: WorkloadRef;
  readonly name?: string;
  readonly createdAtMs: number;
  readonly finishedAtMs?: number;
  readonly cpuMillicores?: number | null;
  readonly memoryBytes?: number | null;
  readonly labels?: Record<string, string>;
}

/** A pod of Deployment shop/web with one container `app`. */
export function podObject(number: number, { node = 'node-1', workload = { namespace: 'shop', kind: 'Deployment', name: 'web' }, name = `${workload.name}-${number}`, createdAtMs, finishedAtMs, cpuMillicores = 500, memoryBytes = GIB, labels = {} }: PodOptions): PodObject {
  const at = toTimestamp(createdAtMs);
  return {
    kind: 'Pod', uid: uidOf('b', number), namespace: workload.namespace, name, node_name: node, phase: finishedAtMs === undefined ? 'Running' : 'Succeeded', ready: true, workload, owners: [],
    containers: [{ name: 'app', role: 'main', image: null, requests: { ...none, cpu_millicores: cpuMillicores, memory_bytes: memoryBytes }, limits: none }], overhead: null, host_network: false, labels, restarts: 0, oom_killed_at: null, created_at: at,
    scheduled_at: node === null ? null : at, started_at: node === null ? null : at, finished_at: finishedAtMs === undefined ? null : toTimestamp(finishedAtMs),
  };
}

export function workloadObject(number: number, ref: WorkloadRef, createdAtMs: number): WorkloadObject {
  return {
    kind: 'Workload', uid: uidOf('c', number), workload_kind: ref.kind, namespace: ref.namespace, name: ref.name, api_version: 'apps/v1', resource_version: '1', generation: 1, observed_generation: 1, replicas: 1, ready_replicas: 1, updated_replicas: 1, suspended: null, labels: {},
    template_labels: {}, annotations: {}, owners: [], managers: [], containers: [], volumes: [], volume_claim_templates: 0, max_surge: null, created_at: toTimestamp(createdAtMs), last_rollout_at: null, rollout_in_flight: false,
  };
}

/** A full snapshot in one part. */
export function snapshotOf(generation: number, observedAtMs: number, objects: readonly InventoryObject[]): InventoryEvent {
  return { version: 1, type: 'snapshot', epoch: uidOf('d', 1), epoch_started_at: '2026-01-01T00:00:00.000Z', generation, sequence: 0, part: 1, parts: 1, observed_at: toTimestamp(observedAtMs), upserts: [...objects], removes: [] };
}

export function changeOf(generation: number, sequence: number, observedAtMs: number, upserts: readonly InventoryObject[], removes: InventoryEvent['removes'] = []): InventoryEvent {
  return { ...snapshotOf(generation, observedAtMs, upserts), type: 'change', sequence, removes };
}

/** One container's usage over the whole of a window. */
export interface UsageRow {
  readonly podUid: string;
  readonly workload?: WorkloadRef;
  readonly container?: string;
  readonly cpuMillicores: number;
  readonly memoryBytes: number;
  readonly minutes?: number;
}

export interface RollupOptions {
  readonly windowMs: number;
  readonly revision: number;
  readonly epoch?: number;
  readonly final?: boolean;
  readonly part?: number;
  readonly parts?: number;
}

/** A rollup of some containers. */
export function rollupOf({ windowMs, revision, epoch = 1, final = true, part = 1, parts = 1 }: RollupOptions, rows: readonly UsageRow[]): Uint8Array {
  const pods = [...new Set(rows.map((row) => row.podUid))];
  const workloads = [...new Set(rows.map((row) => workloadKey(row.workload ?? { namespace: 'shop', kind: 'Deployment', name: 'web' })))];
  const containers = [...new Set(rows.map((row) => row.container ?? 'app'))];
  const bytes = (uids: readonly string[]) => {
    const out = new Uint8Array(16 * uids.length);
    uids.forEach((uid, i) => uidToBytes(uid, out, 16 * i));
    return out;
  };
  return encodeRollup({
    store_epoch: bytes([uidOf('e', epoch)]), revision, window_minute: windowMs / MINUTE_MS, final: final ? 1 : 0, part, parts, workloads, containers, pod_uids: bytes(pods),
    pod_workload: pods.map((uid) => workloads.indexOf(workloadKey(rows.find((row) => row.podUid === uid)?.workload ?? { namespace: 'shop', kind: 'Deployment', name: 'web' }))),
    series_pod: rows.map((row) => pods.indexOf(row.podUid)), series_container: rows.map((row) => containers.indexOf(row.container ?? 'app')), covered_minutes: rows.map((row) => row.minutes ?? 5),
    cpu_millicore_minutes: rows.map((row) => Math.round(row.cpuMillicores * (row.minutes ?? 5))), memory_kibibyte_minutes: rows.map((row) => Math.round((row.memoryBytes * (row.minutes ?? 5)) / 1024)),
  });
}
