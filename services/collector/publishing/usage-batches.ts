import { encodeUsageBatch, MINUTE_MS, uidToBytes } from '@upid/contracts';
import type { Covers } from './spool.js';

/** A container's minute that is resolved to a pod. */
export interface UsageSample {
  readonly podUid: string;
  readonly workload: string;
  /** Needed where no inventory names the pod (history); null else. */
  readonly podName: string | null;
  readonly container: string;
  /** Minutes since the epoch. */
  readonly minute: number;
  readonly cpuMillicores: number;
  readonly cpuPeakMillicores: number;
  readonly memoryBytes: number;
  readonly memoryPeakBytes: number;
  readonly throttledPermille: number | null;
  readonly restarts: number;
}

/** A pod's minute: network and volumes. */
export interface PodUsageSample {
  readonly podUid: string;
  readonly workload: string;
  readonly podName: string | null;
  readonly minute: number;
  readonly receiveBytesPerSecond: number | null;
  readonly transmitBytesPerSecond: number | null;
  readonly volumeUsedBytes: number | null;
}

export type UsageSourceName = 'kubelet' | 'metrics_api' | 'prometheus';

/** One batch before it has its name. */
export interface UsageBatchDraft {
  readonly source: UsageSourceName;
  readonly samples: readonly UsageSample[];
  readonly podSamples: readonly PodUsageSample[];
}

/** Rows of a batch: enough that a message's own cost vanishes, few enough that it is small. */
export const BATCH_ROWS = 500;
/** A page of memory: working sets are counted in them. */
const MEMORY_UNIT_BYTES = 4_096;

/** Splits samples into batches of at most {@link BATCH_ROWS} rows, those of a series side by side. */
export function usageDrafts(source: UsageSourceName, samples: readonly UsageSample[], podSamples: readonly PodUsageSample[]): UsageBatchDraft[] {
  const drafts: UsageBatchDraft[] = [];
  for (let from = 0; from < samples.length; from += BATCH_ROWS) drafts.push({ source, samples: samples.slice(from, from + BATCH_ROWS), podSamples: [] });
  for (let from = 0; from < podSamples.length; from += BATCH_ROWS) {
    const group = podSamples.slice(from, from + BATCH_ROWS);
    const first = drafts[from / BATCH_ROWS];
    if (first === undefined) drafts.push({ source, samples: [], podSamples: group });
    else drafts[from / BATCH_ROWS] = { ...first, podSamples: group };
  }
  return drafts;
}

/** What a draft covers: the gap if it is lost. */
export function usageCovers({ samples, podSamples }: UsageBatchDraft): Covers {
  let first = Infinity;
  let last = -Infinity;
  for (const { minute } of samples) {
    first = Math.min(first, minute);
    last = Math.max(last, minute);
  }
  for (const { minute } of podSamples) {
    first = Math.min(first, minute);
    last = Math.max(last, minute);
  }
  return { source: 'usage', startMs: first * MINUTE_MS, endMs: (last + 1) * MINUTE_MS, count: samples.length + podSamples.length };
}

/** A dictionary that gives each text a number in the order of coming. */
class Dictionary {
  readonly texts: string[] = [];
  private readonly numbers = new Map<string, number>();

  add(text: string): number {
    let number = this.numbers.get(text);
    if (number === undefined) {
      number = this.texts.length;
      this.texts.push(text);
      this.numbers.set(text, number);
    }
    return number;
  }
}

/** Encodes a draft under its name (`telemetry.proto`, UsageBatch). */
export function encodeUsage(draft: UsageBatchDraft, name: { readonly epoch: Uint8Array; readonly sequence: number }): Uint8Array {
  const workloads = new Dictionary();
  const containers = new Dictionary();
  const pods = new Dictionary();
  const series = new Dictionary();
  const podWorkload: number[] = [];
  const podNames: string[] = [];
  const seriesPod: number[] = [];
  const seriesContainer: number[] = [];
  const podOf = ({ podUid, workload, podName }: UsageSample | PodUsageSample): number => {
    const number = pods.add(podUid);
    if (number === podWorkload.length) {
      podWorkload.push(workloads.add(workload));
      podNames.push(podName ?? '');
    }
    return number;
  };
  const base = usageCovers(draft).startMs / MINUTE_MS;
  const sampleSeries: number[] = [];
  for (const sample of draft.samples) {
    const pod = podOf(sample);
    const number = series.add(`${pod}/${sample.container}`);
    if (number === seriesPod.length) {
      seriesPod.push(pod);
      seriesContainer.push(containers.add(sample.container));
    }
    sampleSeries.push(number);
  }
  const podSamplePod = draft.podSamples.map(podOf);
  const podUids = new Uint8Array(16 * pods.texts.length);
  pods.texts.forEach((uid, index) => uidToBytes(uid, podUids, 16 * index));
  const units = (bytes: number) => Math.round(bytes / MEMORY_UNIT_BYTES);
  const plusOne = (value: number | null) => (value === null ? 0 : Math.max(0, Math.round(value)) + 1);
  const { samples, podSamples } = draft;
  return encodeUsageBatch({
    epoch: name.epoch, sequence: name.sequence, base_minute: base, source: draft.source, workloads: workloads.texts, containers: containers.texts, pod_uids: podUids, pod_workload: podWorkload,
    pod_names: podNames.some((each) => each !== '') ? podNames : [], series_pod: seriesPod, series_container: seriesContainer, sample_series: sampleSeries, sample_minute: samples.map(({ minute }) => minute - base),
    cpu_millicores: samples.map(({ cpuMillicores }) => cpuMillicores), cpu_peak_above_millicores: samples.map(({ cpuMillicores, cpuPeakMillicores }) => Math.max(0, cpuPeakMillicores - cpuMillicores)),
    memory_unit_bytes: MEMORY_UNIT_BYTES, memory_units: samples.map(({ memoryBytes }) => units(memoryBytes)),
    memory_peak_above_units: samples.map(({ memoryBytes, memoryPeakBytes }) => Math.max(0, units(memoryPeakBytes) - units(memoryBytes))),
    throttled_permille_plus_one: samples.map(({ throttledPermille }) => plusOne(throttledPermille)), restarts: samples.map(({ restarts }) => restarts),
    pod_sample_pod: podSamplePod, pod_sample_minute: podSamples.map(({ minute }) => minute - base),
    receive_bytes_per_second_plus_one: podSamples.map(({ receiveBytesPerSecond }) => plusOne(receiveBytesPerSecond)),
    transmit_bytes_per_second_plus_one: podSamples.map(({ transmitBytesPerSecond }) => plusOne(transmitBytesPerSecond)),
    volume_used_bytes_plus_one: podSamples.map(({ volumeUsedBytes }) => plusOne(volumeUsedBytes)),
  });
}
