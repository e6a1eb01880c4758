/**
 * What a kubelet answers at /metrics/resource, /stats/summary and /metrics/cadvisor, made of the figures that kwok measures
 * and of what the pods' annotations say about network, volumes and throttling. Shapes: k8s.io/kubelet/pkg/apis/stats/v1alpha1,
 * the kubelet's resource metrics (KEP-2371's names), cAdvisor's Prometheus metrics.
 */
import type { KubernetesObject } from './api.js';
import { USAGE_ANNOTATIONS } from './usage.js';

/** The parts of a Pod that a kubelet's figures need. */
export interface KubeletPod extends KubernetesObject {
  spec: {
    nodeName?: string;
    hostNetwork?: boolean;
    containers: { name: string; image?: string; resources?: { limits?: Record<string, string> } }[];
    volumes?: { name: string; emptyDir?: object; persistentVolumeClaim?: { claimName: string } }[];
  };
  status?: {
    phase?: string;
    startTime?: string;
    containerStatuses?: { name: string; containerID?: string; image?: string; state?: { running?: { startedAt?: string } } }[];
  };
}

/** What kwok measures of one node at one moment. */
export interface KwokFigures {
  nodeCpuSeconds: number;
  nodeWorkingSetBytes: number;
  /** By {@link containerKey}. */
  containers: Map<string, { cpuSeconds: number; cpuCores: number; workingSetBytes: number }>;
}

/** Whether kwok has measured all containers of the pod. */
export function knows(kwok: KwokFigures, pod: KubeletPod): boolean {
  return pod.spec.containers.every(({ name }) => kwok.containers.has(containerKey(pod.metadata?.namespace ?? '', pod.metadata?.name ?? '', name)));
}

export interface ContainerFigures {
  name: string;
  image: string;
  id: string;
  startedAtMs: number;
  cpuSeconds: number;
  /** Now. */
  cpuCores: number;
  workingSetBytes: number;
  /** Of the CPU quota; null for a container without a CPU limit. */
  quota: { periods: number; throttledPeriods: number; throttledSeconds: number } | null;
}

export interface PodFigures {
  namespace: string;
  name: string;
  uid: string;
  startedAtMs: number;
  containers: ContainerFigures[];
  /** Null for a pod on the node's own network, whose traffic cannot be told apart. */
  network: { receivedBytes: number; transmittedBytes: number } | null;
  volumes: { name: string; claim?: string; usedBytes: number; capacityBytes: number }[];
}

/** What of a Node its kubelet's figures need. */
export interface KubeletNode {
  name: string;
  startedAtMs: number;
  memoryCapacityBytes: number;
}

/** All that one scrape of one node's kubelet tells. */
export interface NodeFigures {
  node: KubeletNode;
  /** Unix time in ms at which the figures were taken. */
  atMs: number;
  cpuSeconds: number;
  cpuCores: number;
  workingSetBytes: number;
  pods: PodFigures[];
}

/** Totals that grow by what the annotations say, kept from scrape to scrape so that they never fall when a rate does. */
export class Totals {
  readonly #totals = new Map<string, { atMs: number; total: number }>();

  /**
   * Adds rate x time since the last call for the same key; the first time since `sinceMs`.
   * @param ratePerSecond units a second, 0 or more
   */
  advance(key: string, ratePerSecond: number, sinceMs: number, nowMs: number): number {
    const before = this.#totals.get(key) ?? { atMs: sinceMs, total: 0 };
    const total = before.total + (Math.max(0, nowMs - before.atMs) / 1000) * ratePerSecond;
    this.#totals.set(key, { atMs: Math.max(nowMs, before.atMs), total });
    return total;
  }
}

export function containerKey(namespace: string, pod: string, container: string): string {
  return `${namespace}/${pod}/${container}`;
}

/** Reads what kwok serves for the Metric `usage` (kwok/usage.yaml). */
export function parseKwok(text: string): KwokFigures {
  const figures: KwokFigures = { nodeCpuSeconds: 0, nodeWorkingSetBytes: 0, containers: new Map() };
  for (const line of text.split('\n')) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)/.exec(line);
    if (match === null || line.startsWith('#')) continue;
    const value = Number(match[3]);
    const labels = Object.fromEntries([...(match[2] ?? '').matchAll(/(\w+)="([^"]*)"/g)].map(([, name, text]) => [name, text])) as Record<string, string>;
    if (match[1] === 'node_cpu_usage_seconds_total') figures.nodeCpuSeconds = value;
    if (match[1] === 'node_memory_working_set_bytes') figures.nodeWorkingSetBytes = value;
    if (labels['container'] === undefined) continue;
    const key = containerKey(labels['namespace'] ?? '', labels['pod'] ?? '', labels['container']);
    const container = figures.containers.get(key) ?? { cpuSeconds: 0, cpuCores: 0, workingSetBytes: 0 };
    if (match[1] === 'container_cpu_usage_seconds_total') container.cpuSeconds = value;
    if (match[1] === 'container_cpu_usage_cores') container.cpuCores = value;
    if (match[1] === 'container_memory_working_set_bytes') container.workingSetBytes = value;
    figures.containers.set(key, container);
  }
  return figures;
}

/** CFS: a period is 100 ms. */
const PERIODS_PER_SECOND = 10;
/** A throttled period is taken to lose half of its 100 ms. */
const SECONDS_LOST_PER_THROTTLED_PERIOD = 0.05;
const VOLUME_CAPACITY_BYTES = 10 * 2 ** 30;

/** Joins what kwok measured with the running pods of the node. A pod that kwok does not know yet is left out. */
export function nodeFigures(node: KubeletNode, kwok: KwokFigures, pods: readonly KubeletPod[], totals: Totals, nowMs: number): NodeFigures {
  const running = pods.flatMap((pod) => podFigures(pod, kwok, totals, nowMs) ?? []);
  const cpuCores = sum(running.flatMap(({ containers }) => containers.map((container) => container.cpuCores)));
  return { node, atMs: nowMs, cpuSeconds: kwok.nodeCpuSeconds, cpuCores, workingSetBytes: kwok.nodeWorkingSetBytes, pods: running };
}

function podFigures(pod: KubeletPod, kwok: KwokFigures, totals: Totals, nowMs: number): PodFigures | undefined {
  const { namespace = '', name = '', uid = '', annotations = {} } = pod.metadata ?? {};
  const startedAtMs = Date.parse(pod.status?.startTime ?? '');
  const rate = (annotation: string) => Number(annotations[annotation] ?? 0);
  const containers = pod.spec.containers.flatMap((container): ContainerFigures[] => {
    const measured = kwok.containers.get(containerKey(namespace, name, container.name));
    if (measured === undefined) return [];
    const status = pod.status?.containerStatuses?.find((one) => one.name === container.name);
    const containerStartMs = Date.parse(status?.state?.running?.startedAt ?? pod.status?.startTime ?? '');
    const total = (what: string, perSecond: number) => Math.floor(totals.advance(`${uid}/${container.name}/${what}`, perSecond, containerStartMs, nowMs));
    const throttledPeriods = total('throttled', PERIODS_PER_SECOND * rate(USAGE_ANNOTATIONS.throttled));
    return [{
      name: container.name,
      image: container.image ?? '',
      id: (status?.containerID ?? '').replace(/^\w+:\/\//, ''),
      startedAtMs: containerStartMs,
      ...measured,
      quota: container.resources?.limits?.['cpu'] === undefined ? null : {
        periods: total('periods', PERIODS_PER_SECOND), throttledPeriods, throttledSeconds: throttledPeriods * SECONDS_LOST_PER_THROTTLED_PERIOD,
      },
    }];
  });
  if (containers.length === 0) return undefined;
  const total = (what: string, annotation: string) => Math.floor(totals.advance(`${uid}/${what}`, rate(annotation), startedAtMs, nowMs));
  return {
    namespace, name, uid, startedAtMs, containers,
    network: pod.spec.hostNetwork ? null : {
      receivedBytes: total('rx', USAGE_ANNOTATIONS.receive), transmittedBytes: total('tx', USAGE_ANNOTATIONS.transmit),
    },
    volumes: (pod.spec.volumes ?? []).filter((volume) => volume.emptyDir || volume.persistentVolumeClaim).map((volume) => ({
      name: volume.name, claim: volume.persistentVolumeClaim?.claimName, usedBytes: rate(USAGE_ANNOTATIONS.volume), capacityBytes: VOLUME_CAPACITY_BYTES,
    })),
  };
}

/** `/metrics/resource`: Prometheus text whose samples carry the time at which they were taken. */
export function resourceMetrics(figures: NodeFigures): string {
  const out = new PrometheusText(figures.atMs);
  const all = figures.pods.flatMap((pod) => pod.containers.map((container) => ({ pod, container })));
  const ofContainer = ({ pod, container }: (typeof all)[number]) => ({ container: container.name, namespace: pod.namespace, pod: pod.name });
  const ofPod = (pod: PodFigures) => ({ namespace: pod.namespace, pod: pod.name });
  out.family('container_cpu_usage_seconds_total', 'counter', 'Cumulative cpu time consumed by the container in core-seconds', all, ofContainer, ({ container }) => container.cpuSeconds);
  out.family('container_memory_working_set_bytes', 'gauge', 'Current working set of the container in bytes', all, ofContainer, ({ container }) => container.workingSetBytes);
  out.family('container_start_time_seconds', 'gauge', 'Start time of the container since unix epoch in seconds', all, ofContainer, ({ container }) => container.startedAtMs / 1000);
  out.family('node_cpu_usage_seconds_total', 'counter', 'Cumulative cpu time consumed by the node in core-seconds', [figures], () => ({}), ({ cpuSeconds }) => cpuSeconds);
  out.family('node_memory_working_set_bytes', 'gauge', 'Current working set of the node in bytes', [figures], () => ({}), ({ workingSetBytes }) => workingSetBytes);
  out.family('pod_cpu_usage_seconds_total', 'counter', 'Cumulative cpu time consumed by the pod in core-seconds', figures.pods, ofPod, (pod) => sum(pod.containers.map(({ cpuSeconds }) => cpuSeconds)));
  out.family('pod_memory_working_set_bytes', 'gauge', 'Current working set of the pod in bytes', figures.pods, ofPod, (pod) => sum(pod.containers.map(({ workingSetBytes }) => workingSetBytes)));
  out.family('resource_scrape_error', 'gauge', '1 if there was an error while getting container metrics, 0 otherwise', [0], () => ({}), (value) => value, false);
  return out.toString();
}

/** `/metrics/cadvisor`: the families that usage is read from, with cAdvisor's labels. */
export function cadvisorMetrics(figures: NodeFigures): string {
  const out = new PrometheusText(figures.atMs);
  const all = figures.pods.flatMap((pod) => pod.containers.map((container) => ({ pod, container })));
  const ofContainer = ({ pod, container }: (typeof all)[number]) => ({
    container: container.name, id: `/kubepods/pod${pod.uid}/${container.id}`, image: container.image, name: container.id, namespace: pod.namespace, pod: pod.name,
  });
  const cpu = (one: (typeof all)[number]) => ({ ...ofContainer(one), cpu: 'total' });
  out.family('container_cpu_usage_seconds_total', 'counter', 'Cumulative cpu time consumed in seconds.', all, cpu, ({ container }) => container.cpuSeconds);
  const limited = all.flatMap(({ pod, container }) => (container.quota === null ? [] : [{ pod, container, quota: container.quota }]));
  out.family('container_cpu_cfs_periods_total', 'counter', 'Number of elapsed enforcement period intervals.', limited, ofContainer, ({ quota }) => quota.periods);
  out.family('container_cpu_cfs_throttled_periods_total', 'counter', 'Number of throttled period intervals.', limited, ofContainer, ({ quota }) => quota.throttledPeriods);
  out.family('container_cpu_cfs_throttled_seconds_total', 'counter', 'Total time duration the container has been throttled.', limited, ofContainer, ({ quota }) => quota.throttledSeconds);
  out.family('container_memory_working_set_bytes', 'gauge', 'Current working set in bytes.', all, ofContainer, ({ container }) => container.workingSetBytes);
  out.family('container_memory_rss', 'gauge', 'Size of RSS in bytes.', all, ofContainer, ({ container }) => container.workingSetBytes);
  out.family('container_start_time_seconds', 'gauge', 'Start time of the container since unix epoch in seconds.', all, ofContainer, ({ container }) => container.startedAtMs / 1000);
  const networked = figures.pods.flatMap((pod) => (pod.network === null ? [] : [{ pod, network: pod.network }]));
  const ofPod = ({ pod }: (typeof networked)[number]) => ({ container: '', id: `/kubepods/pod${pod.uid}`, image: '', interface: 'eth0', name: '', namespace: pod.namespace, pod: pod.name });
  out.family('container_network_receive_bytes_total', 'counter', 'Cumulative count of bytes received', networked, ofPod, ({ network }) => network.receivedBytes);
  out.family('container_network_transmit_bytes_total', 'counter', 'Cumulative count of bytes transmitted', networked, ofPod, ({ network }) => network.transmittedBytes);
  return out.toString();
}

/** `/stats/summary`. */
export function statsSummary(figures: NodeFigures): object {
  const time = new Date(figures.atMs).toISOString();
  const cpu = (cores: number, seconds: number) => ({ time, usageNanoCores: Math.round(cores * 1e9), usageCoreNanoSeconds: Math.round(seconds * 1e9) });
  const memory = (bytes: number) => ({ time, usageBytes: bytes, workingSetBytes: bytes, rssBytes: bytes, pageFaults: 0, majorPageFaults: 0 });
  const network = (receivedBytes: number, transmittedBytes: number) => {
    const eth0 = { name: 'eth0', rxBytes: receivedBytes, rxErrors: 0, txBytes: transmittedBytes, txErrors: 0 };
    return { time, ...eth0, interfaces: [eth0] };
  };
  const received = sum(figures.pods.map((pod) => pod.network?.receivedBytes ?? 0));
  const transmitted = sum(figures.pods.map((pod) => pod.network?.transmittedBytes ?? 0));
  return {
    node: {
      nodeName: figures.node.name,
      startTime: new Date(figures.node.startedAtMs).toISOString(),
      cpu: cpu(figures.cpuCores, figures.cpuSeconds),
      memory: { ...memory(figures.workingSetBytes), availableBytes: Math.max(0, figures.node.memoryCapacityBytes - figures.workingSetBytes) },
      network: network(received, transmitted),
    },
    pods: figures.pods.map((pod) => ({
      podRef: { name: pod.name, namespace: pod.namespace, uid: pod.uid },
      startTime: new Date(pod.startedAtMs).toISOString(),
      containers: pod.containers.map((container) => ({
        name: container.name,
        startTime: new Date(container.startedAtMs).toISOString(),
        cpu: cpu(container.cpuCores, container.cpuSeconds),
        memory: memory(container.workingSetBytes),
      })),
      cpu: cpu(sum(pod.containers.map(({ cpuCores }) => cpuCores)), sum(pod.containers.map(({ cpuSeconds }) => cpuSeconds))),
      memory: memory(sum(pod.containers.map(({ workingSetBytes }) => workingSetBytes))),
      ...(pod.network === null ? {} : { network: network(pod.network.receivedBytes, pod.network.transmittedBytes) }),
      volume: pod.volumes.map(({ name, claim, usedBytes, capacityBytes }) => ({
        time, name, usedBytes, capacityBytes, availableBytes: Math.max(0, capacityBytes - usedBytes), inodes: 655_360, inodesUsed: 11, inodesFree: 655_349,
        ...(claim === undefined ? {} : { pvcRef: { name: claim, namespace: pod.namespace } }),
      })),
    })),
  };
}

/** Prometheus' text format, one family after the other. */
class PrometheusText {
  readonly #lines: string[] = [];

  constructor(readonly atMs: number) {}

  family<T>(name: string, type: 'counter' | 'gauge', help: string, items: readonly T[], labels: (item: T) => Record<string, string>, value: (item: T) => number, timed = true): void {
    this.#lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const item of items) {
      const text = Object.entries(labels(item)).map(([label, is]) => `${label}=${JSON.stringify(is)}`).join(',');
      this.#lines.push(`${name}${text === '' ? '' : `{${text}}`} ${value(item)}${timed ? ` ${this.atMs}` : ''}`);
    }
  }

  toString(): string {
    return `${this.#lines.join('\n')}\n`;
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
