import { UpidError, workloadKey, type Assessment, type AutoscalerObject, type ClusterObject, type DependencyObject, type DisruptionBudgetObject, type InventoryKind, type NamespaceObject, type PodObject, type Policy, type RouteObject, type ServiceObject, type WorkloadKind, type WorkloadObject, type WorkloadRef } from '@upid/contracts';
import type { InventoryMirror } from '@upid/platform';
import type { ActionKind, SafetyFacts } from './checks.js';

/** Where assessments are kept. */
export interface Assessments {
  latestAssessment(clusterId: string, key: string): Promise<Assessment | null>;
}

/** Objects of one cluster that many judgements of the same moment share. */
export interface ClusterFacts {
  readonly services: readonly ServiceObject[];
  readonly routes: readonly RouteObject[];
  readonly autoscalers: readonly AutoscalerObject[];
  readonly budgets: readonly DisruptionBudgetObject[];
  readonly dependencies: readonly DependencyObject[];
  readonly namespaces: ReadonlyMap<string, NamespaceObject>;
  readonly cluster: ClusterObject | null;
}

/** Reads, from the service's own mirror, what the safety checks rest on. */
export class FactsService {
  constructor(private readonly inventory: InventoryMirror, private readonly assessments: Assessments, private readonly policy: Policy) {}

  async ofCluster(clusterId: string): Promise<ClusterFacts> {
    const of = async <T>(kind: InventoryKind) => (await this.inventory.byKind(clusterId, kind)).map((row) => row.body as T);
    const [services, routes, autoscalers, budgets, dependencies, namespaces, clusters] = await Promise.all([
      of<ServiceObject>('Service'), of<RouteObject>('Route'), of<AutoscalerObject>('Autoscaler'), of<DisruptionBudgetObject>('PodDisruptionBudget'), of<DependencyObject>('Dependency'), of<NamespaceObject>('Namespace'), of<ClusterObject>('Cluster'),
    ]);
    return { services, routes, autoscalers, budgets, dependencies, namespaces: new Map(namespaces.map((each) => [each.name, each])), cluster: clusters[0] ?? null };
  }

  async workloads(clusterId: string): Promise<WorkloadObject[]> {
    return (await this.inventory.byKind(clusterId, 'Workload')).map((row) => row.body as WorkloadObject);
  }

  /** The workload of this name; without a kind the first of Deployment, StatefulSet, … that has it. @throws UpidError not_found, cluster_not_found */
  async findWorkload(clusterId: string, namespace: string, kind: WorkloadKind | null, name: string): Promise<WorkloadObject> {
    const rows = await this.inventory.byKind(clusterId, 'Workload', { namespace });
    const found = rows.map((row) => row.body as WorkloadObject).find((each) => each.name === name && (kind === null || each.workload_kind === kind));
    if (found) return found;
    if (!(await this.inventory.clusters()).some((each) => each.clusterId === clusterId)) throw new UpidError('cluster_not_found', `There is no cluster ${clusterId}.`, { cluster_id: clusterId });
    throw new UpidError('not_found', `There is no ${kind ?? 'workload'} ${name} in namespace ${namespace} of cluster ${clusterId}.`, { cluster_id: clusterId, namespace, name });
  }

  async of(clusterId: string, workload: WorkloadObject, action: ActionKind, nowMs: number, shared?: ClusterFacts): Promise<SafetyFacts> {
    const cluster = shared ?? (await this.ofCluster(clusterId));
    const ref: WorkloadRef = { namespace: workload.namespace, kind: workload.workload_kind, name: workload.name };
    const key = workloadKey(ref);
    const leads = (refs: readonly WorkloadRef[]) => refs.some((each) => workloadKey(each) === key);
    const [pods, assessment] = await Promise.all([this.inventory.podsOfWorkload(clusterId, ref), this.assessments.latestAssessment(clusterId, key)]);
    return {
      action, workload, namespace: cluster.namespaces.get(workload.namespace) ?? null, pods: pods.map((row) => row.body as PodObject),
      services: cluster.services.filter((each) => leads(each.workloads)), routes: cluster.routes.filter((each) => leads(each.workloads)),
      autoscalers: cluster.autoscalers.filter((each) => workloadKey(each.target) === key), budgets: cluster.budgets.filter((each) => leads(each.workloads)),
      dependents: cluster.dependencies.filter((each) => leads(each.to_workloads)), capabilities: cluster.cluster?.capabilities ?? null, assessment, policy: this.policy, nowMs,
    };
  }
}
