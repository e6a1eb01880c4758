/** An agent whose every sample is known: it publishes history and present of a made-up cluster at a steady pace, and again until the bus has taken it. */
import { setTimeout as delay } from 'node:timers/promises';
import {
  DAY_MS, encodeRequestBatch, encodeUsageBatch, HOUR_MS, MINUTE_MS, subjects, toTimestamp, uidFromBytes, uidToBytes, workloadKey, type InventoryEvent, type InventoryObject, type NodeObject, type PodObject, type WorkloadRef,
} from '@upid/contracts';
import { BusUnavailableError, type Bus } from '@upid/platform';
import { mixed, Random } from './random.js';
import { Telemetry } from './telemetry.js';

const NODES = 4;
const PODS = 48;
const WORKLOADS = 6;
const CONTAINERS = ['app', 'proxy'] as const;
const SAMPLES_A_BATCH = 150;
const BATCHES_A_SECOND = 6;
/** How many hours back samples are of: some closed and packed, one that is open. */
const HOURS_BACK = 3;
const GIB = 2 ** 30;
const none = { cpu_millicores: null, memory_bytes: null, gpus: null, pods: null, ephemeral_storage_bytes: null };

const uid = (letter: string, number: number) => `${letter.repeat(8)}-0000-4000-8000-${number.toString(16).padStart(12, '0')}`;
const workloadOf = (pod: number): WorkloadRef => ({ namespace: 'load', kind: 'Deployment', name: `w${pod % WORKLOADS}` });

interface Message { readonly kind: 'usage' | 'requests' | 'inventory'; readonly payload: Uint8Array; readonly id: string; readonly publishedAtMs: number }

export class Publisher {
  /** What the bus has taken. */
  readonly taken = new Telemetry();
  readonly counters = { batches: 0, again: 0, refused: 0 };
  private readonly random: Random;
  private readonly epochs: readonly Uint8Array[];
  private readonly sequences = [0, 0];
  private readonly underway = new Set<Promise<void>>();
  private readonly sent: Message[] = [];
  private running: Promise<void> = Promise.resolve();
  private stopped = false;

  constructor(private readonly bus: Bus, private readonly clusterId: string, seed: number) {
    this.random = new Random(seed);
    this.epochs = [0, 1].map((agent) => Uint8Array.from({ length: 16 }, (_, i) => mixed(256, seed, agent, i)));
  }

  /** Tells of the cluster's objects, then of their usage until {@link stop}. */
  start(): void {
    const epoch = uidFromBytes(this.epochs[0] ?? new Uint8Array(16));
    const event: InventoryEvent = { version: 1, type: 'snapshot', epoch, epoch_started_at: toTimestamp(Date.now()), generation: 1, sequence: 0, part: 1, parts: 1, observed_at: toTimestamp(Date.now()), upserts: objects(Date.now()), removes: [] };
    this.send({ kind: 'inventory', payload: Buffer.from(JSON.stringify(event)), id: `${this.clusterId}/inventory/1`, publishedAtMs: Date.now() });
    this.running = this.run();
  }

  /** Ends, and waits until the bus has taken everything. */
  async stop(): Promise<void> {
    this.stopped = true;
    await this.running;
    await Promise.all(this.underway);
  }

  private async run(): Promise<void> {
    while (!this.stopped) {
      this.next();
      await delay(1_000 / BATCHES_A_SECOND);
    }
  }

  private next(): void {
    const roll = this.random.next();
    if (roll < 0.1 && this.sent.length > 0) {
      // A batch comes again: under its id, which the bus tells for a while, or under another, which the store alone can tell.
      const again = this.random.pick(this.sent);
      this.counters.again++;
      this.send({ ...again, id: this.random.next() < 0.5 ? again.id : `${again.id}/again-${this.counters.again}` });
      return;
    }
    const agent = this.random.between(0, this.epochs.length);
    const sequence = (this.sequences[agent] = (this.sequences[agent] ?? 0) + 1);
    const epoch = this.epochs[agent] ?? new Uint8Array(16);
    const kind = roll < 0.25 ? 'requests' : 'usage';
    const message = { kind, payload: kind === 'usage' ? this.usage(epoch, sequence) : this.requests(epoch, sequence), id: `${this.clusterId}/${uidFromBytes(epoch)}/${sequence}`, publishedAtMs: Date.now() } as const;
    this.sent.push(message);
    this.send(message);
  }

  private send(message: Message): void {
    const sending = this.untilTaken(message).finally(() => this.underway.delete(sending));
    this.underway.add(sending);
  }

  private async untilTaken({ kind, payload, id, publishedAtMs }: Message): Promise<void> {
    for (;;) {
      try {
        await this.bus.publish(subjects.agent(this.clusterId, kind), payload, { msgId: id, publishedAtMs });
        break;
      } catch (error) {
        if (!(error instanceof BusUnavailableError) && (error as Error).name !== 'NoStreamError') throw error;
        this.counters.refused++;
        await delay(100 + this.random.between(0, 300));
      }
    }
    this.counters.batches++;
    if (kind === 'usage') this.taken.addUsage(payload);
    else if (kind === 'requests') this.taken.addRequests(payload);
  }

  /** A minute of the last hours, up to now. */
  private minute(): number {
    const now = Math.floor(Date.now() / MINUTE_MS);
    return this.random.between((Math.floor(Date.now() / HOUR_MS) - HOURS_BACK) * 60, now + 1);
  }

  /** Samples of random series and minutes; what each holds is known from its name. */
  private usage(epoch: Uint8Array, sequence: number): Uint8Array {
    const rows = Array.from({ length: SAMPLES_A_BATCH }, () => ({ pod: this.random.between(0, PODS), container: this.random.between(0, CONTAINERS.length), minute: this.minute() }));
    const base = Math.min(...rows.map((row) => row.minute));
    const uids = new Uint8Array(PODS * 16);
    for (let pod = 0; pod < PODS; pod++) uidToBytes(uid('b', pod), uids, pod * 16);
    const value = (column: number, below: number) => rows.map((row) => mixed(below, row.pod, row.container, row.minute, column));
    const podRows = rows.slice(0, 20);
    const podValue = (column: number) => podRows.map((row) => 1 + mixed(1e6, row.pod, row.minute, column));
    return encodeUsageBatch({
      epoch, sequence, base_minute: base, source: 'kubelet', workloads: Array.from({ length: WORKLOADS }, (_, i) => workloadKey(workloadOf(i))), containers: [...CONTAINERS], pod_uids: uids, pod_workload: Array.from({ length: PODS }, (_, pod) => pod % WORKLOADS),
      series_pod: Array.from({ length: PODS * CONTAINERS.length }, (_, series) => Math.floor(series / CONTAINERS.length)), series_container: Array.from({ length: PODS * CONTAINERS.length }, (_, series) => series % CONTAINERS.length),
      sample_series: rows.map((row) => row.pod * CONTAINERS.length + row.container), sample_minute: rows.map((row) => row.minute - base), memory_unit_bytes: 4096,
      cpu_millicores: value(0, 800), cpu_peak_above_millicores: value(1, 300), memory_units: value(2, 100_000), memory_peak_above_units: value(3, 5_000), throttled_permille_plus_one: value(4, 1_002), restarts: value(5, 3),
      pod_sample_pod: podRows.map((row) => row.pod), pod_sample_minute: podRows.map((row) => row.minute - base), receive_bytes_per_second_plus_one: podValue(6), transmit_bytes_per_second_plus_one: podValue(7), volume_used_bytes_plus_one: podValue(8),
    });
  }

  private requests(epoch: Uint8Array, sequence: number): Uint8Array {
    const rows = Array.from({ length: 40 }, () => ({ workload: this.random.between(0, WORKLOADS), minute: this.minute() }));
    const base = Math.min(...rows.map((row) => row.minute));
    const value = (column: number, below: number) => rows.map((row) => mixed(below, row.workload, row.minute, column));
    const business = value(11, 50);
    return encodeRequestBatch({
      epoch, sequence, base_minute: base, source: 'ingress-nginx', workloads: Array.from({ length: WORKLOADS }, (_, i) => workloadKey(workloadOf(i))), row_workload: rows.map((row) => row.workload), row_minute: rows.map((row) => row.minute - base),
      covered_seconds: value(10, 60).map((seconds) => seconds + 1), business, probe: value(12, 20), status_2xx: business,
    });
  }
}

/** Nodes of a known price and pods on them, there for days. */
function objects(nowMs: number): InventoryObject[] {
  const at = toTimestamp(nowMs - 2 * DAY_MS);
  const node = (number: number): NodeObject => ({
    kind: 'Node', uid: uid('a', number), name: `node-${number}`, provider_id: null, provider: 'aws', distribution: 'eks', instance_type: 'm5.xlarge', region: 'us-east-1', zone: 'us-east-1a', capacity_type: number % 2 === 0 ? 'on_demand' : 'spot', operating_system: 'linux', architecture: 'amd64',
    pool: null, capacity: { ...none, cpu_millicores: 4000, memory_bytes: 16 * GIB }, allocatable: { ...none, cpu_millicores: 3800, memory_bytes: 15 * GIB }, control_plane: false, ready: true, unschedulable: false, taints: [], labels: {}, created_at: at,
  });
  const pod = (number: number): PodObject => ({
    kind: 'Pod', uid: uid('b', number), namespace: 'load', name: `w${number % WORKLOADS}-${number}`, node_name: `node-${number % NODES}`, phase: 'Running', ready: true, workload: workloadOf(number), owners: [],
    containers: CONTAINERS.map((name) => ({ name, role: 'main' as const, image: null, requests: { ...none, cpu_millicores: number % 5 === 0 ? null : 137 * (1 + (number % 3)), memory_bytes: number % 7 === 0 ? null : 333_333_333 }, limits: none })), overhead: null, host_network: false, labels: {}, restarts: 0,
    oom_killed_at: null, created_at: at, scheduled_at: at, started_at: at, finished_at: null,
  });
  return [...Array.from({ length: NODES }, (_, i) => node(i)), ...Array.from({ length: PODS }, (_, i) => pod(i))];
}
