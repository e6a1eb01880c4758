/** Two weeks of history of a namespace as its Prometheus would have it: usage of the pods that run, their owners, and the ingress controller's counters. */
import { type Pod, type SeriesDefinition, counterOf } from '@upid/testing';

export interface PastWorkload {
  readonly name: string;
  readonly pods: readonly Pod[];
  /** By unix seconds. */
  readonly cpuMillicores: (unixSeconds: number) => number;
  readonly memoryBytes: number;
  readonly receiveBytesPerSecond: (unixSeconds: number) => number;
  /** Counters of the ingress controller for its Service, by the path of the Ingress rule: requests a second. */
  readonly requests: readonly { readonly path: string; readonly perSecond: (unixSeconds: number) => number }[];
}

const DAY_SECONDS = 86_400;

/** Series of the `days` before `now` and of the hour after it. */
export function historyOf(namespace: string, workloads: readonly PastWorkload[], { days, now }: { days: number; now: Date }): SeriesDefinition[] {
  const minute = Math.floor(now.getTime() / 60_000) * 60;
  // From a day before: the first rates need a value before them.
  const span = { fromSeconds: minute - (days + 1) * DAY_SECONDS, toSeconds: minute + 3_600 };
  const within = (seconds: number) => seconds >= span.fromSeconds && seconds <= span.toSeconds;
  const always = (value: number) => (seconds: number) => (within(seconds) ? value : null);
  return workloads.flatMap((workload) => [
    ...workload.pods.flatMap((pod): SeriesDefinition[] => {
      const labels = { namespace, pod: pod.metadata.name };
      const [owner] = pod.metadata.ownerReferences ?? [];
      return [
        ...pod.spec.containers.flatMap((container): SeriesDefinition[] => [
          { name: 'container_cpu_usage_seconds_total', labels: { ...labels, container: container.name }, valueAt: counterOf((seconds) => workload.cpuMillicores(seconds) / 1_000, span) },
          { name: 'container_memory_working_set_bytes', labels: { ...labels, container: container.name }, valueAt: always(workload.memoryBytes) },
        ]),
        { name: 'container_network_receive_bytes_total', labels: { ...labels, interface: 'eth0' }, valueAt: counterOf(workload.receiveBytesPerSecond, span) },
        { name: 'container_network_transmit_bytes_total', labels: { ...labels, interface: 'eth0' }, valueAt: counterOf(workload.receiveBytesPerSecond, span) },
        { name: 'kube_pod_info', labels: { ...labels, uid: pod.metadata.uid, host_network: 'false', created_by_kind: owner?.kind ?? '<none>', created_by_name: owner?.name ?? '<none>' }, valueAt: always(1) },
        { name: 'kube_pod_owner', labels: { ...labels, owner_kind: owner?.kind ?? '<none>', owner_name: owner?.name ?? '<none>' }, valueAt: always(1) },
        { name: 'kube_replicaset_owner', labels: { namespace, replicaset: owner?.name ?? '', owner_kind: 'Deployment', owner_name: workload.name }, valueAt: always(1) },
      ];
    }),
    ...workload.requests.map(({ path, perSecond }): SeriesDefinition => ({
      name: 'nginx_ingress_controller_requests', labels: { exported_namespace: namespace, exported_service: workload.name, ingress: workload.name, path, status: '200', method: 'GET' }, valueAt: counterOf(perSecond, span),
    })),
  ]);
}
