import { z } from 'zod';
import { timestampSchema, uidSchema, workloadKindSchema, workloadRefSchema } from './ids.js';

/**
 * What the agent says of its cluster's objects: the columns that decisions need, never Secrets, values of environment
 * variables, or annotations outside the allow-list. Unknown fields are dropped on reading, so that an older consumer
 * meets a newer agent without harm.
 */

/** Amounts of resources. CPU in millicores, memory and storage in bytes, GPUs whole, pods counted. */
export const resourceAmountsSchema = z.object({
  cpu_millicores: z.number().nonnegative().nullable().default(null),
  memory_bytes: z.number().nonnegative().nullable().default(null),
  gpus: z.number().nonnegative().nullable().default(null),
  pods: z.number().nonnegative().nullable().default(null),
  ephemeral_storage_bytes: z.number().nonnegative().nullable().default(null),
});
export type ResourceAmounts = z.infer<typeof resourceAmountsSchema>;

export const providerSchema = z.enum(['aws', 'gcp', 'azure', 'on_premise', 'unknown']);
export const distributionSchema = z.enum(['eks', 'gke', 'aks', 'openshift', 'rancher', 'k3s', 'vanilla', 'unknown']);
export const capacityTypeSchema = z.enum(['on_demand', 'spot', 'reserved', 'unknown']);
export type CapacityType = z.infer<typeof capacityTypeSchema>;

/** Labels, and annotations out of the allow-list (`upid.io/*`, opt-outs of other tools, GitOps ownership). */
const labelsSchema = z.record(z.string(), z.string());

/** What the cluster can do; everything later adapts to it. */
export const capabilitiesSchema = z.object({
  metrics_api: z.boolean().default(false),
  kubelet: z.boolean().default(false),
  access_logs: z.boolean().default(false),
  prometheus: z.boolean().default(false),
  prometheus_operator: z.boolean().default(false),
  istio: z.boolean().default(false),
  linkerd: z.boolean().default(false),
  gateway_api: z.boolean().default(false),
  keda: z.boolean().default(false),
  vpa: z.boolean().default(false),
  argo_cd: z.boolean().default(false),
  argo_rollouts: z.boolean().default(false),
  flux: z.boolean().default(false),
  in_place_resize: z.boolean().default(false),
  opencost: z.boolean().default(false),
  actuation: z.boolean().default(false),
});
export type Capabilities = z.infer<typeof capabilitiesSchema>;

/** The cluster itself; `uid` is that of namespace kube-system, its fingerprint. */
export const clusterObjectSchema = z.object({
  kind: z.literal('Cluster'),
  uid: uidSchema,
  name: z.string(),
  provider: providerSchema,
  provider_evidence: z.string(),
  distribution: distributionSchema,
  distribution_evidence: z.string(),
  server_version: z.string().nullable(),
  region: z.string().nullable(),
  time_zone: z.string().nullable().default(null),
  capabilities: capabilitiesSchema,
  agent_version: z.string(),
  demo: z.boolean().default(false),
});

export const nodeObjectSchema = z.object({
  kind: z.literal('Node'),
  uid: uidSchema,
  name: z.string(),
  provider_id: z.string().nullable(),
  provider: providerSchema,
  distribution: distributionSchema.default('unknown'),
  instance_type: z.string().nullable(),
  region: z.string().nullable(),
  zone: z.string().nullable(),
  capacity_type: capacityTypeSchema,
  operating_system: z.string().nullable(),
  architecture: z.string().nullable(),
  pool: z.string().nullable(),
  capacity: resourceAmountsSchema,
  allocatable: resourceAmountsSchema,
  control_plane: z.boolean().default(false),
  ready: z.boolean(),
  unschedulable: z.boolean().default(false),
  taints: z.array(z.object({ key: z.string(), value: z.string().default(''), effect: z.string() })).default([]),
  labels: labelsSchema.default({}),
  created_at: timestampSchema,
});
export type NodeObject = z.infer<typeof nodeObjectSchema>;

export const namespaceObjectSchema = z.object({
  kind: z.literal('Namespace'), uid: uidSchema, name: z.string(), labels: labelsSchema.default({}), annotations: labelsSchema.default({}), created_at: timestampSchema.nullable().default(null),
});

export const containerSchema = z.object({
  name: z.string(),
  /** `sidecar` is an init container with restartPolicy Always. */
  role: z.enum(['main', 'init', 'sidecar']).default('main'),
  image: z.string().nullable().default(null),
  requests: resourceAmountsSchema,
  limits: resourceAmountsSchema,
});
export type ContainerObject = z.infer<typeof containerSchema>;

export const podPhaseSchema = z.enum(['Pending', 'Running', 'Succeeded', 'Failed', 'Unknown']);

export const podObjectSchema = z.object({
  kind: z.literal('Pod'),
  uid: uidSchema,
  namespace: z.string(),
  name: z.string(),
  node_name: z.string().nullable(),
  phase: podPhaseSchema,
  ready: z.boolean(),
  workload: workloadRefSchema,
  /** From the direct owner up to the top, as `Kind/name`. */
  owners: z.array(z.string()).default([]),
  containers: z.array(containerSchema),
  overhead: resourceAmountsSchema.nullable().default(null),
  host_network: z.boolean().default(false),
  labels: labelsSchema.default({}),
  /** Restarts of all containers, as the status counts them now. */
  restarts: z.number().int().nonnegative().default(0),
  oom_killed_at: timestampSchema.nullable().default(null),
  created_at: timestampSchema,
  /** When the scheduler bound it: charged from here … */
  scheduled_at: timestampSchema.nullable(),
  started_at: timestampSchema.nullable(),
  /** … to here, when its phase became Succeeded or Failed; null while it runs. */
  finished_at: timestampSchema.nullable(),
});
export type PodObject = z.infer<typeof podObjectSchema>;

export const workloadObjectSchema = z.object({
  kind: z.literal('Workload'),
  uid: uidSchema,
  workload_kind: workloadKindSchema,
  namespace: z.string(),
  name: z.string(),
  api_version: z.string(),
  resource_version: z.string(),
  generation: z.number().int().nonnegative(),
  observed_generation: z.number().int().nonnegative().nullable(),
  /** Wished replicas; null for kinds without (DaemonSet, Job). */
  replicas: z.number().int().nonnegative().nullable(),
  ready_replicas: z.number().int().nonnegative().nullable(),
  updated_replicas: z.number().int().nonnegative().nullable().default(null),
  suspended: z.boolean().nullable().default(null),
  labels: labelsSchema.default({}),
  template_labels: labelsSchema.default({}),
  annotations: labelsSchema.default({}),
  /** Controllers above it or operators that own it, as `Kind/name`. */
  owners: z.array(z.string()).default([]),
  /** Field managers that wrote its spec (GitOps controllers, other optimisers), by name. */
  managers: z.array(z.string()).default([]),
  containers: z.array(containerSchema),
  volumes: z.array(z.object({ name: z.string(), type: z.enum(['persistent_volume_claim', 'ephemeral', 'host_path', 'config', 'other']), claim: z.string().nullable().default(null) })).default([]),
  volume_claim_templates: z.number().int().nonnegative().default(0),
  max_surge: z.boolean().nullable().default(null),
  created_at: timestampSchema,
  /** When its pod template last changed (newest ReplicaSet or ControllerRevision), where known. */
  last_rollout_at: timestampSchema.nullable(),
  rollout_in_flight: z.boolean(),
});
export type WorkloadObject = z.infer<typeof workloadObjectSchema>;

/** A Service with the workloads that its selector leads to, resolved at the edge. */
export const serviceObjectSchema = z.object({
  kind: z.literal('Service'), uid: uidSchema, namespace: z.string(), name: z.string(), type: z.string(), ports: z.array(z.number().int()).default([]), workloads: z.array(workloadRefSchema),
});

/** An Ingress, HTTPRoute or VirtualService with the Services it leads to; hosts and paths stay in the cluster. */
export const routeObjectSchema = z.object({
  kind: z.literal('Route'), uid: uidSchema, route_kind: z.enum(['Ingress', 'HTTPRoute', 'VirtualService']), namespace: z.string(), name: z.string(), class: z.string().nullable(),
  services: z.array(z.object({ namespace: z.string(), name: z.string() })), workloads: z.array(workloadRefSchema),
});

/** An autoscaler that owns a workload's replicas or requests. */
export const autoscalerObjectSchema = z.object({
  kind: z.literal('Autoscaler'), uid: uidSchema, autoscaler_kind: z.enum(['HorizontalPodAutoscaler', 'VerticalPodAutoscaler', 'ScaledObject']), namespace: z.string(), name: z.string(),
  target: workloadRefSchema, min_replicas: z.number().int().nonnegative().nullable(), max_replicas: z.number().int().nonnegative().nullable(),
  target_cpu_utilization_percent: z.number().nonnegative().nullable().default(null), mode: z.string().nullable().default(null),
});

export const disruptionBudgetObjectSchema = z.object({
  kind: z.literal('PodDisruptionBudget'), uid: uidSchema, namespace: z.string(), name: z.string(), workloads: z.array(workloadRefSchema),
  disruptions_allowed: z.number().int().nullable(), min_available: z.string().nullable(), max_unavailable: z.string().nullable(),
});

/** Workload → Service, resolved at the edge from names in environment variables or mesh traffic; the values stay in the cluster. */
export const dependencyObjectSchema = z.object({
  kind: z.literal('Dependency'), uid: uidSchema, namespace: z.string(), name: z.string(), from: workloadRefSchema,
  to_service: z.object({ namespace: z.string(), name: z.string() }), to_workloads: z.array(workloadRefSchema), source: z.enum(['environment', 'mesh', 'configuration']),
});

/** An OOM kill, kept by workload: it outlives the pod. */
export const oomKillObjectSchema = z.object({
  kind: z.literal('OomKill'), uid: uidSchema, namespace: z.string(), name: z.string(), workload: workloadRefSchema, pod_uid: uidSchema, container: z.string(), at: timestampSchema,
  memory_limit_bytes: z.number().nonnegative().nullable(),
});

export const inventoryObjectSchema = z.discriminatedUnion('kind', [
  clusterObjectSchema, nodeObjectSchema, namespaceObjectSchema, podObjectSchema, workloadObjectSchema, serviceObjectSchema, routeObjectSchema,
  autoscalerObjectSchema, disruptionBudgetObjectSchema, dependencyObjectSchema, oomKillObjectSchema,
]);
export type InventoryObject = z.infer<typeof inventoryObjectSchema>;
export type ClusterObject = z.infer<typeof clusterObjectSchema>;
export type NamespaceObject = z.infer<typeof namespaceObjectSchema>;
export type ServiceObject = z.infer<typeof serviceObjectSchema>;
export type RouteObject = z.infer<typeof routeObjectSchema>;
export type AutoscalerObject = z.infer<typeof autoscalerObjectSchema>;
export type DisruptionBudgetObject = z.infer<typeof disruptionBudgetObjectSchema>;
export type DependencyObject = z.infer<typeof dependencyObjectSchema>;
export type OomKillObject = z.infer<typeof oomKillObjectSchema>;
export const inventoryKindSchema = z.enum(['Cluster', 'Node', 'Namespace', 'Pod', 'Workload', 'Service', 'Route', 'Autoscaler', 'PodDisruptionBudget', 'Dependency', 'OomKill']);
export type InventoryKind = z.infer<typeof inventoryKindSchema>;
/** Kinds that a snapshot's silence does not remove: what happened stays happened. */
export const HISTORICAL_KINDS: readonly InventoryKind[] = ['OomKill'];

/**
 * `snapshot`: part `part` of `parts` (from 1) of generation `generation`; applied when all are there; what it does not name has vanished.
 * `change`: upserts and removals since `sequence - 1` of the same epoch and generation.
 * Order: (epoch_started_at, epoch) then generation then sequence; an older version never overwrites a newer one.
 */
export const inventoryEventSchema = z.object({
  version: z.literal(1),
  type: z.enum(['snapshot', 'change']),
  epoch: uidSchema,
  epoch_started_at: timestampSchema,
  generation: z.number().int().positive(),
  /** 0 for snapshots; 1, 2, … for the changes after the generation's snapshot. */
  sequence: z.number().int().nonnegative(),
  part: z.number().int().positive().default(1),
  parts: z.number().int().positive().default(1),
  observed_at: timestampSchema,
  upserts: z.array(inventoryObjectSchema),
  removes: z.array(z.object({ kind: inventoryKindSchema, uid: uidSchema })),
});
export type InventoryEvent = z.infer<typeof inventoryEventSchema>;
