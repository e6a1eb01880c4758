import type { SimulatedCluster, SimulatedPod } from './cluster.js';

const MINUTE_MS = 60_000;
/** Counters are summed from here on at the earliest: a counter may begin anywhere, and a month of minutes is enough for any question. */
const LONGEST_MS = 31 * 86_400_000;

/** Cumulative figures of a pod, as a kubelet counts them. */
export interface PodFigures {
  readonly cpuSeconds: number;
  readonly memoryBytes: number;
  readonly receiveBytes: number;
  readonly transmitBytes: number;
}

interface Sums {
  readonly fromMinute: number;
  /** Totals at the end of minute fromMinute + i. */
  cpu: number[];
  receive: number[];
  transmit: number[];
}

/** Answers what a pod's counters stand at, at any moment since it started; sums are kept, so that each minute is worked out once. */
export class Figures {
  private readonly sums = new Map<string, Sums>();

  constructor(private readonly cluster: SimulatedCluster) {}

  at(pod: SimulatedPod, ms: number): PodFigures {
    const sums = this.upTo(pod, Math.floor(ms / MINUTE_MS));
    const minute = Math.floor(ms / MINUTE_MS);
    const part = (ms % MINUTE_MS) / MINUTE_MS;
    const usage = this.cluster.usage(pod, minute);
    const before = minute - 1 - sums.fromMinute;
    return {
      cpuSeconds: (sums.cpu[before] ?? 0) + usage.cpuMillicores * 0.06 * part, memoryBytes: usage.memoryBytes,
      receiveBytes: Math.round((sums.receive[before] ?? 0) + usage.receiveBytesPerSecond * 60 * part), transmitBytes: Math.round((sums.transmit[before] ?? 0) + usage.transmitBytesPerSecond * 60 * part),
    };
  }

  /** Forgets pods that are gone. */
  prune(): void {
    const alive = new Set([...this.cluster.runningPods()].map((pod) => pod.object.metadata.uid));
    for (const uid of this.sums.keys()) if (!alive.has(uid)) this.sums.delete(uid);
  }

  private upTo(pod: SimulatedPod, minute: number): Sums {
    const { uid } = pod.object.metadata;
    let sums = this.sums.get(uid);
    if (!sums) {
      const earliest = Math.floor((this.cluster.nowMs() - LONGEST_MS) / MINUTE_MS);
      sums = { fromMinute: Math.max(earliest, Math.floor(pod.startedMs / MINUTE_MS)), cpu: [], receive: [], transmit: [] };
      this.sums.set(uid, sums);
    }
    for (let at = sums.fromMinute + sums.cpu.length; at < minute; at++) {
      const usage = this.cluster.usage(pod, at);
      const last = sums.cpu.length - 1;
      sums.cpu.push((sums.cpu[last] ?? 0) + usage.cpuMillicores * 0.06);
      sums.receive.push((sums.receive[last] ?? 0) + usage.receiveBytesPerSecond * 60);
      sums.transmit.push((sums.transmit[last] ?? 0) + usage.transmitBytesPerSecond * 60);
    }
    return sums;
  }
}

/** A node's `/metrics/resource`. */
export function resourceMetrics(cluster: SimulatedCluster, figures: Figures, node: string, ms: number): string {
  const lines: Record<string, string[]> = { node_cpu_usage_seconds_total: [], node_memory_working_set_bytes: [], container_cpu_usage_seconds_total: [], container_memory_working_set_bytes: [], container_start_time_seconds: [], pod_cpu_usage_seconds_total: [], pod_memory_working_set_bytes: [] };
  let cpu = 0;
  let memory = 0;
  for (const pod of cluster.podsOn(node)) {
    const { namespace, name } = pod.object.metadata;
    const each = figures.at(pod, ms);
    cpu += each.cpuSeconds;
    memory += each.memoryBytes;
    const labels = `namespace="${namespace}",pod="${name}"`;
    lines.container_cpu_usage_seconds_total?.push(`container_cpu_usage_seconds_total{container="${pod.container}",${labels}} ${each.cpuSeconds.toFixed(6)} ${ms}`);
    lines.container_memory_working_set_bytes?.push(`container_memory_working_set_bytes{container="${pod.container}",${labels}} ${each.memoryBytes} ${ms}`);
    lines.container_start_time_seconds?.push(`container_start_time_seconds{container="${pod.container}",${labels}} ${(pod.startedMs / 1000 + 1).toFixed(3)}`);
    lines.pod_cpu_usage_seconds_total?.push(`pod_cpu_usage_seconds_total{${labels}} ${each.cpuSeconds.toFixed(6)} ${ms}`);
    lines.pod_memory_working_set_bytes?.push(`pod_memory_working_set_bytes{${labels}} ${each.memoryBytes} ${ms}`);
  }
  lines.node_cpu_usage_seconds_total?.push(`node_cpu_usage_seconds_total ${cpu.toFixed(6)} ${ms}`);
  lines.node_memory_working_set_bytes?.push(`node_memory_working_set_bytes ${memory} ${ms}`);
  return `${Object.entries(lines).map(([name, all]) => `# TYPE ${name} ${name.endsWith('_total') ? 'counter' : 'gauge'}\n${all.join('\n')}`).join('\n')}\n# TYPE resource_scrape_error gauge\nresource_scrape_error 0\n`;
}

/** A node's `/stats/summary`. */
export function statsSummary(cluster: SimulatedCluster, figures: Figures, node: string, ms: number): unknown {
  const time = new Date(ms).toISOString();
  const usageOf = (pod: SimulatedPod) => cluster.usage(pod, Math.floor(ms / MINUTE_MS));
  const pods = cluster.podsOn(node).map((pod) => {
    const each = figures.at(pod, ms);
    const cpu = { time, usageNanoCores: Math.round(usageOf(pod).cpuMillicores * 1e6), usageCoreNanoSeconds: Math.round(each.cpuSeconds * 1e9) };
    const memory = { time, usageBytes: each.memoryBytes, workingSetBytes: each.memoryBytes, rssBytes: each.memoryBytes, pageFaults: 0, majorPageFaults: 0 };
    return {
      podRef: { name: pod.object.metadata.name, namespace: pod.object.metadata.namespace, uid: pod.object.metadata.uid }, startTime: new Date(pod.startedMs).toISOString(), cpu, memory,
      containers: [{ name: pod.container, startTime: new Date(pod.startedMs + 1000).toISOString(), cpu, memory }],
      network: { time, name: 'eth0', rxBytes: each.receiveBytes, txBytes: each.transmitBytes, rxErrors: 0, txErrors: 0, interfaces: [{ name: 'eth0', rxBytes: each.receiveBytes, txBytes: each.transmitBytes, rxErrors: 0, txErrors: 0 }] },
      ...(pod.workload.volume ? { volume: [{ time, name: 'data', usedBytes: Math.round(pod.workload.volume * 1024 ** 3 * 0.4), capacityBytes: pod.workload.volume * 1024 ** 3, availableBytes: Math.round(pod.workload.volume * 1024 ** 3 * 0.6), pvcRef: { name: `data-${pod.object.metadata.name}`, namespace: pod.object.metadata.namespace } }] } : {}),
    };
  });
  const sum = (of: (pod: (typeof pods)[number]) => number) => pods.reduce((total, pod) => total + of(pod), 0);
  return { node: { nodeName: node, startTime: new Date(cluster.createdMs).toISOString(), cpu: { time, usageNanoCores: sum((pod) => pod.cpu.usageNanoCores), usageCoreNanoSeconds: sum((pod) => pod.cpu.usageCoreNanoSeconds) }, memory: { time, workingSetBytes: sum((pod) => pod.memory.workingSetBytes) } }, pods };
}

/** A node's `/metrics/cadvisor`: throttling where a CPU limit cuts the work off. */
export function cadvisorMetrics(cluster: SimulatedCluster, figures: Figures, node: string, ms: number): string {
  const periods: string[] = [];
  const throttled: string[] = [];
  for (const pod of cluster.podsOn(node)) {
    const limit = pod.workload.request.cpu_limit;
    if (limit === undefined) continue;
    const total = Math.floor((ms - pod.startedMs) / 100);
    const each = figures.at(pod, ms);
    const share = Math.min(0.9, Math.max(0, (each.cpuSeconds / Math.max(1, (ms - pod.startedMs) / 1000)) / (limit / 1000) - 0.8) * 2);
    const labels = `container="${pod.container}",namespace="${pod.object.metadata.namespace}",pod="${pod.object.metadata.name}"`;
    periods.push(`container_cpu_cfs_periods_total{${labels}} ${total} ${ms}`);
    throttled.push(`container_cpu_cfs_throttled_periods_total{${labels}} ${Math.floor(total * share)} ${ms}`);
  }
  return `# TYPE container_cpu_cfs_periods_total counter\n${periods.join('\n')}\n# TYPE container_cpu_cfs_throttled_periods_total counter\n${throttled.join('\n')}\n`;
}
