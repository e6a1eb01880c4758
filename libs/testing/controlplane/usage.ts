/** How simulated pods use their node: what a test says, as the annotations that the simulated kubelets read. */

/** What each container of a pod uses, and what the pod moves. Left out: next to nothing. */
export interface SimulatedUsage {
  cpuMillicores?: number;
  memoryBytes?: number;
  /** Of single containers, in place of the figures above. */
  containers?: Readonly<Record<string, { cpuMillicores?: number; memoryBytes?: number }>>;
  /** A square wave on the wall clock: the figures above while now mod period < busy, these for the rest of the period. */
  wave?: { periodSeconds: number; busySeconds: number; idleCpuMillicores?: number; idleMemoryBytes?: number };
  receiveBytesPerSecond?: number;
  transmitBytesPerSecond?: number;
  /** Share of the CPU quota's periods in which each container is throttled, 0 to 1. */
  throttledShare?: number;
  /** Used on each volume of the pod. */
  volumeUsedBytes?: number;
}

/** Names of the annotations that hold a {@link SimulatedUsage}. */
export const USAGE_ANNOTATIONS = {
  cpu: 'upid.test/cpu',
  memory: 'upid.test/memory',
  period: 'upid.test/period-seconds',
  busy: 'upid.test/busy-seconds',
  idleCpu: 'upid.test/idle-cpu',
  idleMemory: 'upid.test/idle-memory',
  receive: 'upid.test/rx-bytes-per-second',
  transmit: 'upid.test/tx-bytes-per-second',
  throttled: 'upid.test/throttled-share',
  volume: 'upid.test/volume-used-bytes',
} as const;

/** The annotations for a usage; what it leaves out is not among them. */
export function usageAnnotations(usage: SimulatedUsage): Record<string, string> {
  const annotations: Record<string, string> = {};
  const set = (name: string, value: number | undefined, unit = '') => {
    if (value !== undefined) annotations[name] = `${value}${unit}`;
  };
  const names = USAGE_ANNOTATIONS;
  set(names.cpu, usage.cpuMillicores, 'm');
  set(names.memory, usage.memoryBytes);
  for (const [container, own] of Object.entries(usage.containers ?? {})) {
    set(`${names.cpu}.${container}`, own.cpuMillicores, 'm');
    set(`${names.memory}.${container}`, own.memoryBytes);
  }
  set(names.period, usage.wave?.periodSeconds);
  set(names.busy, usage.wave?.busySeconds);
  set(names.idleCpu, usage.wave?.idleCpuMillicores, 'm');
  set(names.idleMemory, usage.wave?.idleMemoryBytes);
  set(names.receive, usage.receiveBytesPerSecond);
  set(names.transmit, usage.transmitBytesPerSecond);
  set(names.throttled, usage.throttledShare);
  set(names.volume, usage.volumeUsedBytes);
  return annotations;
}
