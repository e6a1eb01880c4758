import { encodeUsageBatch, uidFromBytes } from '@upid/contracts';
import { uniforms } from '@upid/testing/random';

/** Samples of a batch. */
const PER_BATCH = 500;
const DIURNAL = 0;
const STEADY = 1;
const STEPPING = 2;
const DAY_MINUTES = 1440;

/**
 * A cluster as seen by its agent: containers of many workloads, most pods with one container, some with a sidecar. Of the workloads 45 % follow
 * the day with noise, 35 % are steady (near rest, memory creeping), 20 % step between levels. A minute of it is a few packed batches.
 */
export class ClusterLoad {
  readonly containers: number;
  readonly pods: number;
  /** Values of a minute: CPU and memory, mean and peak, of each container; receive and transmit of each pod. */
  readonly valuesPerMinute: number;
  private readonly random: () => number;
  private readonly podOf: Int32Array;
  private readonly workloadOfPod: Int32Array;
  private readonly workloadKeys: string[] = [];
  private readonly kind: Uint8Array;
  private readonly baseCpu: Float64Array;
  private readonly phase: Float64Array;
  private readonly level: Float64Array;
  private readonly memoryPages: Float64Array;
  private readonly podUids: Uint8Array;
  private readonly chunks: { from: number; to: number; podFrom: number; podTo: number; workloads: string[]; podWorkload: number[]; seriesPod: number[]; seriesContainer: number[]; podIndex: number[] }[] = [];

  constructor(containers: number, seed: number) {
    this.random = uniforms(seed);
    const random = this.random;
    this.containers = containers;
    const workloads = Math.max(1, Math.round(containers / 16));
    for (let w = 0; w < workloads; w++) this.workloadKeys.push(`team-${w % 40}/${w % 9 === 0 ? 'StatefulSet' : 'Deployment'}/service-${w}`);
    this.podOf = new Int32Array(containers);
    const podWorkload: number[] = [];
    // Containers of a pod follow each other, and so do the pods of a workload: as an agent walks its nodes' pods by owner.
    for (let c = 0, workload = 0; c < containers; ) {
      if (random() < workloads / containers * 1.15 && workload < workloads - 1) workload++;
      const pod = podWorkload.push(workload) - 1;
      this.podOf[c++] = pod;
      if (random() < 0.12 && c < containers) this.podOf[c++] = pod;
    }
    this.pods = podWorkload.length;
    this.workloadOfPod = Int32Array.from(podWorkload);
    this.valuesPerMinute = 4 * containers + 2 * this.pods;
    this.podUids = new Uint8Array(this.pods * 16).map(() => random() * 256);
    const kindOfWorkload = this.workloadKeys.map(() => { const draw = random(); return draw < 0.45 ? DIURNAL : draw < 0.8 ? STEADY : STEPPING; });
    this.kind = Uint8Array.from(this.podOf, (pod) => kindOfWorkload[podWorkload[pod] as number] as number);
    this.baseCpu = Float64Array.from({ length: containers }, () => 10 * 60 ** random());
    this.phase = Float64Array.from(this.podOf, (pod) => ((podWorkload[pod] as number) % 7) / 7 - 0.5);
    this.level = new Float64Array(containers).fill(1);
    this.memoryPages = Float64Array.from({ length: containers }, () => Math.round(256 * 32 * 40 ** random()));
    for (let from = 0; from < containers; ) {
      let to = Math.min(containers, from + PER_BATCH);
      while (to < containers && this.podOf[to] === this.podOf[to - 1]) to++;
      const podFrom = this.podOf[from] as number;
      const podTo = (this.podOf[to - 1] as number) + 1;
      const keys = [...new Set(podWorkload.slice(podFrom, podTo))];
      this.chunks.push({
        from, to, podFrom, podTo, workloads: keys.map((w) => this.workloadKeys[w] as string), podWorkload: podWorkload.slice(podFrom, podTo).map((w) => keys.indexOf(w)),
        seriesPod: Array.from({ length: to - from }, (_, i) => (this.podOf[from + i] as number) - podFrom), seriesContainer: Array.from({ length: to - from }, (_, i) => (from + i > 0 && this.podOf[from + i] === this.podOf[from + i - 1] ? 1 : 0)),
        podIndex: Array.from({ length: podTo - podFrom }, (_, i) => i),
      });
      from = to;
    }
  }

  /** Every pod with its workload's key and how many containers it has (`app`, then `proxy`). */
  members(): { uid: string; workload: string; containers: number }[] {
    const containers = new Uint8Array(this.pods);
    for (const pod of this.podOf) containers[pod] = (containers[pod] as number) + 1;
    return Array.from({ length: this.pods }, (_, pod) => ({ uid: uidFromBytes(this.podUids, pod * 16), workload: this.workloadKeys[this.workloadOfPod[pod] as number] as string, containers: containers[pod] as number }));
  }

  /** The next minute's batches, encoded; minutes are to be asked for in order. */
  minute(minute: number, epoch: Uint8Array, firstSequence: number): Uint8Array[] {
    const random = this.random;
    const time = (minute % DAY_MINUTES) / DAY_MINUTES;
    return this.chunks.map((chunk, index) => {
      const n = chunk.to - chunk.from;
      const cpu = new Float64Array(n);
      const cpuPeak = new Float64Array(n);
      const memory = new Float64Array(n);
      const memoryPeak = new Float64Array(n);
      const throttled = new Float64Array(n);
      const receive = new Float64Array(chunk.podTo - chunk.podFrom);
      const transmit = new Float64Array(chunk.podTo - chunk.podFrom);
      for (let i = 0; i < n; i++) {
        const c = chunk.from + i;
        const kind = this.kind[c] as number;
        const base = this.baseCpu[c] as number;
        let mean: number;
        if (kind === DIURNAL) mean = base * (1 + 0.8 * Math.sin(2 * Math.PI * (time + 0.15 * (this.phase[c] as number) - 0.3))) * (0.9 + 0.2 * random());
        else if (kind === STEADY) mean = base * 0.05 + (random() < 0.1 ? 1 : 0);
        else {
          if (random() < 1 / 45) this.level[c] = [0.05, 0.3, 1, 2][Math.floor(random() * 4)] as number;
          mean = base * (this.level[c] as number) * (0.97 + 0.06 * random());
        }
        cpu[i] = Math.round(mean);
        cpuPeak[i] = kind === STEADY ? (random() < 0.1 ? 1 : 0) : Math.round(mean * 0.25 * random());
        const pages = this.memoryPages[c] as number;
        const step = kind === STEADY ? (random() < 0.05 ? 1 : 0) : Math.round((random() - 0.495) * 24);
        const grown = Math.max(256, pages + step);
        this.memoryPages[c] = kind !== STEADY && random() < 1 / 600 ? Math.round(grown * 0.85) : grown;
        memory[i] = this.memoryPages[c] as number;
        memoryPeak[i] = kind === STEADY ? 0 : Math.floor(random() * 6);
        throttled[i] = 1 + (kind === DIURNAL && random() < 0.01 ? Math.ceil(random() * 80) : 0);
        const pod = (this.podOf[c] as number) - chunk.podFrom;
        const bytes = kind === STEADY ? 300 + random() * 60 : mean * (700 + 300 * random());
        receive[pod] = (receive[pod] as number) + Math.round(bytes);
        transmit[pod] = (transmit[pod] as number) + Math.round(bytes * (0.65 + 0.1 * random()));
      }
      for (let pod = 0; pod < receive.length; pod++) {
        receive[pod] = (receive[pod] as number) + 1;
        transmit[pod] = (transmit[pod] as number) + 1;
      }
      return encodeUsageBatch({
        epoch, sequence: firstSequence + index, base_minute: minute, source: 'kubelet', workloads: chunk.workloads, containers: ['app', 'proxy'], pod_uids: this.podUids.subarray(chunk.podFrom * 16, chunk.podTo * 16), pod_workload: chunk.podWorkload,
        series_pod: chunk.seriesPod, series_container: chunk.seriesContainer, cpu_millicores: cpu, cpu_peak_above_millicores: cpuPeak, memory_unit_bytes: 4096, memory_units: memory, memory_peak_above_units: memoryPeak, throttled_permille_plus_one: throttled,
        pod_sample_pod: chunk.podIndex, receive_bytes_per_second_plus_one: receive, transmit_bytes_per_second_plus_one: transmit,
      });
    });
  }
}
