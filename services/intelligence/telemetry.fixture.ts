import { encodeRequestBatch, encodeUsageBatch, toTimestamp, uidToBytes, workloadKey, type InventoryEvent, type InventoryObject, type PodObject, type WorkloadObject, type WorkloadRef } from '@upid/contracts';

/** Plain telemetry and objects that tests start from. */
export const GIB = 2 ** 30;

/** A UID out of a kind's letter and a number, the same each time. */
export function uidOf(letter: 'a' | 'b' | 'c' | 'd' | 'e', number: number): string {
  return `${letter.repeat(8)}-0000-4000-8000-${number.toString(16).padStart(12, '0')}`;
}

export const refOf = (name: string, namespace = 'shop'): WorkloadRef => ({ namespace, kind: 'Deployment', name });

/** A container's minute; memory in pages of 4 KiB. */
export interface Minute {
  readonly uid: string;
  readonly workload: WorkloadRef;
  readonly container?: string;
  /** Unix minute. */
  readonly minute: number;
  readonly cpu: number;
  readonly pages: number;
  readonly receive?: number;
}

let named = 0;
/** An epoch that no other batch has. */
export function newEpoch(): Uint8Array {
  const epoch = new Uint8Array(16);
  uidToBytes(uidOf('e', ++named), epoch);
  return epoch;
}

/** One usage batch; each minute gives a container's and a pod's sample. */
export function usageOf(minutes: readonly Minute[], { epoch = newEpoch(), sequence = 1, source = 'kubelet', podNames = null as ReadonlyMap<string, string> | null } = {}): Uint8Array {
  const workloads = [...new Set(minutes.map((each) => workloadKey(each.workload)))];
  const containers = [...new Set(minutes.map((each) => each.container ?? 'app'))];
  const pods = [...new Set(minutes.map((each) => each.uid))];
  const series = [...new Set(minutes.map((each) => `${each.uid} ${each.container ?? 'app'}`))];
  const uids = new Uint8Array(pods.length * 16);
  pods.forEach((uid, i) => uidToBytes(uid, uids, i * 16));
  const base = Math.min(...minutes.map((each) => each.minute));
  return encodeUsageBatch({
    epoch, sequence, base_minute: base, source, workloads, containers, pod_uids: uids, pod_workload: pods.map((uid) => workloads.indexOf(workloadKey((minutes.find((each) => each.uid === uid) as Minute).workload))),
    ...(podNames ? { pod_names: pods.map((uid) => podNames.get(uid) ?? '') } : {}),
    series_pod: series.map((each) => pods.indexOf(each.split(' ')[0] as string)), series_container: series.map((each) => containers.indexOf(each.split(' ')[1] as string)),
    sample_series: minutes.map((each) => series.indexOf(`${each.uid} ${each.container ?? 'app'}`)), sample_minute: minutes.map((each) => each.minute - base), cpu_millicores: minutes.map((each) => each.cpu), memory_unit_bytes: 4096, memory_units: minutes.map((each) => each.pages),
    pod_sample_pod: minutes.map((each) => pods.indexOf(each.uid)), pod_sample_minute: minutes.map((each) => each.minute - base), receive_bytes_per_second_plus_one: minutes.map((each) => (each.receive ?? 100) + 1), transmit_bytes_per_second_plus_one: minutes.map(() => 51),
  });
}

export interface RequestMinute { readonly workload: WorkloadRef; readonly minute: number; readonly business?: number; readonly probe?: number; readonly errors?: number; readonly covered?: number }

export function requestsOf(minutes: readonly RequestMinute[], { epoch = newEpoch(), sequence = 1, source = 'ingress-nginx' } = {}): Uint8Array {
  const workloads = [...new Set(minutes.map((each) => workloadKey(each.workload)))];
  const base = Math.min(...minutes.map((each) => each.minute));
  return encodeRequestBatch({
    epoch, sequence, base_minute: base, source, workloads, row_workload: minutes.map((each) => workloads.indexOf(workloadKey(each.workload))), row_minute: minutes.map((each) => each.minute - base), covered_seconds: minutes.map((each) => each.covered ?? 60),
    business: minutes.map((each) => each.business ?? 0), probe: minutes.map((each) => each.probe ?? 0), status_2xx: minutes.map((each) => (each.business ?? 0) - (each.errors ?? 0)), status_5xx: minutes.map((each) => each.errors ?? 0),
    latency_buckets_in_row: minutes.map((each) => ((each.business ?? 0) > 0 ? 1 : 0)), latency_bucket: minutes.filter((each) => (each.business ?? 0) > 0).map(() => 80), latency_count: minutes.filter((each) => (each.business ?? 0) > 0).map((each) => each.business as number),
  });
}

const none = { cpu_millicores: null, memory_bytes: null, gpus: null, pods: null, ephemeral_storage_bytes: null };

export function podObject(uid: string, name: string, workload: WorkloadRef, over: Partial<PodObject> = {}): PodObject {
  const at = '2026-01-01T00:00:00.000Z';
  return {
    kind: 'Pod', uid, namespace: workload.namespace, name, node_name: 'node-1', phase: 'Running', ready: true, workload, owners: [],
    containers: [{ name: 'app', role: 'main', image: null, requests: { ...none, cpu_millicores: 500, memory_bytes: GIB }, limits: { ...none, memory_bytes: 2 * GIB } }], overhead: null, host_network: false, labels: {}, restarts: 0, oom_killed_at: null, created_at: at,
    scheduled_at: at, started_at: at, finished_at: null, ...over,
  };
}

export function workloadObject(uid: string, ref: WorkloadRef, over: Partial<WorkloadObject> = {}): WorkloadObject {
  return {
    kind: 'Workload', uid, workload_kind: ref.kind, namespace: ref.namespace, name: ref.name, api_version: 'apps/v1', resource_version: '1', generation: 1, observed_generation: 1, replicas: 1, ready_replicas: 1, updated_replicas: 1, suspended: null, labels: {},
    template_labels: {}, annotations: {}, owners: [], managers: [], containers: podObject(uid, ref.name, ref).containers, volumes: [], volume_claim_templates: 0, max_surge: null, created_at: '2026-01-01T00:00:00.000Z', last_rollout_at: null, rollout_in_flight: false, ...over,
  };
}

export function nodeObject(number: number): InventoryObject {
  return {
    kind: 'Node', uid: uidOf('a', number), name: `node-${number}`, provider_id: null, provider: 'aws', distribution: 'eks', instance_type: 'm5.xlarge', region: 'us-east-1', zone: null, capacity_type: 'on_demand', operating_system: 'linux', architecture: 'amd64', pool: null,
    capacity: { ...none, cpu_millicores: 4000, memory_bytes: 16 * GIB }, allocatable: { ...none, cpu_millicores: 3800, memory_bytes: 15 * GIB }, control_plane: false, ready: true, unschedulable: false, taints: [], labels: {}, created_at: '2026-01-01T00:00:00.000Z',
  };
}

/** A full snapshot in one part. */
export function snapshotOf(generation: number, objects: readonly InventoryObject[]): InventoryEvent {
  return { version: 1, type: 'snapshot', epoch: uidOf('d', 1), epoch_started_at: '2026-01-01T00:00:00.000Z', generation, sequence: 0, part: 1, parts: 1, observed_at: toTimestamp(Date.now()), upserts: [...objects], removes: [] };
}

