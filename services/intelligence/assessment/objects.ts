import { workloadKey, type DependencyObject, type NamespaceObject, type OomKillObject, type PodObject, type WorkloadObject } from '@upid/contracts';
import type { DependencyFacts } from '../idle/factors.js';
import { Zone } from '../idle/zone.js';
import { limitsOf, type ContainerLimits } from './facts.js';

/** What the inventory says of a cluster, by workload key. */
export interface ClusterObjects {
  readonly workloads: ReadonlyMap<string, WorkloadObject>;
  /** Pods that stand and have not ended. */
  readonly pods: ReadonlyMap<string, readonly PodObject[]>;
  readonly dependencies: ReadonlyMap<string, readonly DependencyObject[]>;
  readonly oomKills: ReadonlyMap<string, readonly OomKillObject[]>;
  readonly namespaces: ReadonlyMap<string, NamespaceObject>;
  readonly timeZone: string | null;
}

function byKey<T>(objects: readonly T[], key: (object: T) => string): Map<string, T[]> {
  return Map.groupBy(objects, key);
}

/** Puts objects in order. OOM kills older than `oomSinceMs` are left out. */
export function clusterObjects(parts: {
  readonly workloads: readonly WorkloadObject[]; readonly pods: readonly PodObject[]; readonly dependencies: readonly DependencyObject[]; readonly oomKills: readonly OomKillObject[]; readonly namespaces: readonly NamespaceObject[]; readonly timeZone: string | null;
}, oomSinceMs: number): ClusterObjects {
  return {
    workloads: new Map(parts.workloads.map((each) => [workloadKey({ namespace: each.namespace, kind: each.workload_kind, name: each.name }), each])),
    pods: byKey(parts.pods.filter((pod) => pod.finished_at === null && pod.phase !== 'Succeeded' && pod.phase !== 'Failed'), (pod) => workloadKey(pod.workload)),
    dependencies: byKey(parts.dependencies, (each) => workloadKey(each.from)),
    oomKills: byKey(parts.oomKills.filter((each) => Date.parse(each.at) >= oomSinceMs), (each) => workloadKey(each.workload)),
    namespaces: new Map(parts.namespaces.map((each) => [each.name, each])), timeZone: parts.timeZone,
  };
}

export const TIME_ZONE_ANNOTATION = 'upid.io/time-zone';

/** The zone of a workload: its annotation, its namespace's, the cluster's, else UTC; a name that is no zone is passed over. */
export function zoneOf(objects: ClusterObjects, key: string): Zone {
  const namespace = key.slice(0, key.indexOf('/'));
  for (const name of [objects.workloads.get(key)?.annotations[TIME_ZONE_ANNOTATION], objects.namespaces.get(namespace)?.annotations[TIME_ZONE_ANNOTATION], objects.timeZone]) {
    const zone = name ? Zone.named(name) : null;
    if (zone) return zone;
  }
  return Zone.utc;
}

/** Requests and limits of a workload's containers: as its pods run with them, else as its template says. */
export function limitsOfWorkload(objects: ClusterObjects, key: string): ContainerLimits {
  const template = objects.workloads.get(key)?.containers ?? [];
  return limitsOf(template.length > 0 ? template : (objects.pods.get(key)?.[0]?.containers ?? []));
}

function isReady(objects: ClusterObjects, key: string): boolean {
  const workload = objects.workloads.get(key);
  if (workload?.ready_replicas != null) return workload.ready_replicas > 0;
  return (objects.pods.get(key) ?? []).some((pod) => pod.ready);
}

/** Dependencies whose workloads are known, and how many of them have a ready pod; null where none is. */
export function dependenciesOf(objects: ClusterObjects, key: string): DependencyFacts | null {
  const known = (objects.dependencies.get(key) ?? []).filter((each) => each.to_workloads.length > 0);
  if (known.length === 0) return null;
  return { total: known.length, healthy: known.filter((each) => each.to_workloads.some((ref) => isReady(objects, workloadKey(ref)))).length };
}
