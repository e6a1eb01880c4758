import type { SeriesDefinition } from '@upid/testing';
import type { SimulatedCluster, SimulatedPod } from './cluster.js';
import type { Figures } from './figures.js';
import type { ScenarioWorkload } from './scenario.js';

/** What a Prometheus of this cluster would have scraped: cAdvisor, kube-state-metrics and ingress-nginx, over the history's days. */

const MINUTE = 60;

/** Counters of a workload's requests at the ingress, minute by minute since the history's start. */
class RequestTotals {
  private readonly business: number[] = [];
  private readonly errors: number[] = [];
  private readonly checks: number[] = [];

  constructor(private readonly cluster: SimulatedCluster, private readonly workload: ScenarioWorkload, private readonly fromMinute: number) {}

  at(of: 'business' | 'errors' | 'checks', minute: number): number | null {
    if (minute < this.fromMinute) return null;
    for (let at = this.fromMinute + this.business.length; at <= minute; at++) {
      const each = this.cluster.requests(this.workload, at);
      const last = this.business.length - 1;
      this.business.push((this.business[last] ?? 0) + each.business - each.errors);
      this.errors.push((this.errors[last] ?? 0) + each.errors);
      this.checks.push((this.checks[last] ?? 0) + each.healthCheck);
    }
    // Scraped at a minute's start: what came before it.
    return (minute === this.fromMinute ? 0 : this[of][minute - 1 - this.fromMinute]) ?? null;
  }
}

/** Every series, as functions of unix seconds. Pods that were deleted while the simulator ran have no history. */
export function historySeries(cluster: SimulatedCluster, figures: Figures): SeriesDefinition[] {
  const startSeconds = Math.floor((cluster.nowMs() / 1000 - cluster.scenario.history_days * 86_400) / MINUTE) * MINUTE;
  const within = (seconds: number, pod: SimulatedPod) => seconds >= startSeconds && seconds * 1000 >= pod.startedMs && seconds * 1000 <= cluster.nowMs();
  const series: SeriesDefinition[] = [];
  for (const pod of cluster.runningPods()) {
    const { name, namespace = '', uid, ownerReferences } = pod.object.metadata;
    const node = (pod.object.spec as { nodeName: string }).nodeName;
    const [owner] = ownerReferences as { kind: string; name: string }[];
    const at = (of: (figure: ReturnType<Figures['at']>) => number) => (seconds: number) => (within(seconds, pod) ? of(figures.at(pod, seconds * 1000)) : null);
    const labels = { namespace, pod: name, container: pod.container, node, image: 'registry.example' };
    series.push(
      { name: 'container_cpu_usage_seconds_total', labels, valueAt: at((figure) => figure.cpuSeconds) }, { name: 'container_memory_working_set_bytes', labels, valueAt: at((figure) => figure.memoryBytes) },
      { name: 'container_network_receive_bytes_total', labels: { namespace, pod: name, node, interface: 'eth0' }, valueAt: at((figure) => figure.receiveBytes) }, { name: 'container_network_transmit_bytes_total', labels: { namespace, pod: name, node, interface: 'eth0' }, valueAt: at((figure) => figure.transmitBytes) },
      { name: 'kube_pod_info', labels: { namespace, pod: name, uid, node, created_by_kind: owner?.kind ?? '', created_by_name: owner?.name ?? '' }, valueAt: at(() => 1) }, { name: 'kube_pod_owner', labels: { namespace, pod: name, owner_kind: owner?.kind ?? '', owner_name: owner?.name ?? '', owner_is_controller: 'true' }, valueAt: at(() => 1) },
    );
  }
  for (const set of cluster.store.list('replicasets')) {
    const [owner] = set.metadata.ownerReferences as { kind: string; name: string }[];
    series.push({ name: 'kube_replicaset_owner', labels: { namespace: set.metadata.namespace ?? '', replicaset: set.metadata.name, owner_kind: owner?.kind ?? '', owner_name: owner?.name ?? '', owner_is_controller: 'true' }, valueAt: (seconds) => (seconds >= startSeconds && seconds * 1000 <= cluster.nowMs() ? 1 : null) });
  }
  for (const workload of cluster.scenario.workloads.filter((each) => each.ingress)) {
    const totals = new RequestTotals(cluster, workload, startSeconds / MINUTE);
    const of = (what: 'business' | 'errors' | 'checks', path: string, status: string): SeriesDefinition => ({
      name: 'nginx_ingress_controller_requests', labels: { namespace: workload.namespace, ingress: workload.name, service: workload.name, host: `${workload.name}.${workload.namespace}.example`, path, status, method: 'GET', controller_namespace: 'ingress-nginx', controller_class: 'k8s.io/ingress-nginx' },
      valueAt: (seconds) => (seconds >= startSeconds && seconds * 1000 <= cluster.nowMs() ? totals.at(what, Math.floor(seconds / MINUTE)) : null),
    });
    series.push(of('business', '/', '200'), of('errors', '/', '500'), of('checks', '/healthz', '200'));
  }
  return series;
}
