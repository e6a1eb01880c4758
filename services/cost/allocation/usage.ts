/** What rollups say of containers' usage, and of whom they speak. */
import { MINUTE_MS, uidFromBytes, type Rollup } from '@upid/contracts';
import { unknownUsage, type MeanUsage } from './cells.js';

/** A pod's containers in one window. */
export interface PodUsage {
  /** namespace/Kind/name, as the agent resolved it. */
  readonly workload: string;
  readonly containers: ReadonlyMap<string, MeanUsage>;
}

/** One window's usage, by pod UID. */
export interface WindowUsage {
  readonly startMs: number;
  /** The window is over and what was due has come. */
  readonly final: boolean;
  readonly pods: ReadonlyMap<string, PodUsage>;
}

const bytesPerKibibyte = 1024;

/** The usage that a window's parts tell: means over the minutes that were sampled. The parts are of one window and revision. */
export function usageOfWindow(parts: readonly Rollup[]): WindowUsage {
  const pods = new Map<string, { readonly workload: string; readonly containers: Map<string, MeanUsage> }>();
  for (const part of parts) {
    const uids = Array.from({ length: part.pod_uids.length / 16 }, (_, i) => uidFromBytes(part.pod_uids, 16 * i));
    for (let i = 0; i < part.series_pod.length; i++) {
      const slot = part.series_pod[i] as number;
      const uid = uids[slot] as string;
      let pod = pods.get(uid);
      if (!pod) {
        pod = { workload: part.workloads[part.pod_workload[slot] as number] as string, containers: new Map() };
        pods.set(uid, pod);
      }
      const minutes = part.covered_minutes[i] as number;
      pod.containers.set(part.containers[part.series_container[i] as number] as string, minutes === 0 ? unknownUsage : {
        cpuMillicores: (part.cpu_millicore_minutes[i] as number) / minutes, memoryBytes: ((part.memory_kibibyte_minutes[i] as number) * bytesPerKibibyte) / minutes, gpus: null,
      });
    }
  }
  const [first] = parts;
  return { startMs: (first?.window_minute ?? 0) * MINUTE_MS, final: (first?.final ?? 0) === 1, pods };
}
