import { setMaxListeners } from 'node:events';
import { toTimestamp, type ClusterObject, type CoverageEvent, type InventoryKind } from '@upid/contracts';
import { ResourceWatch, type WatchApi, type WatchState } from '../connection/resource-watch.service.js';
import { aborted } from '../connection/waiting.service.js';
import type { WatchedObject } from '../connection/watch.js';
import type { MessageMeta } from '../publishing/publisher.service.js';
import { changeTexts, snapshotTexts, type InventoryPosition } from './events.js';
import { METADATA_ONLY, RESOURCES, type KubeObject, type Resource } from './kubernetes.js';
import type { InventoryState } from './state.js';

/** What the inventory needs of the publisher. */
export interface InventoryOutlet {
  readonly epochId: string;
  publish(kind: 'inventory', encode: () => string, meta: MessageMeta): Promise<void>;
  supersede(generation: { epoch: string; number: number }): Promise<void>;
  coverage(event: Omit<CoverageEvent, 'version' | 'id'>): Promise<void>;
}

export interface InventoryOptions {
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void; error(fields: object, message: string): void };
  readonly delay: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly random: () => number;
  /** A full snapshot goes out this often; default 10 minutes. */
  readonly snapshotEveryMs?: number;
  /** Changes are gathered for this long; default 1 s. */
  readonly gatherMs?: number;
}

export type ObjectListener = (resource: Resource, change: 'upsert' | 'remove', object: KubeObject) => void;

const METADATA_LIST = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';
const METADATA_WATCH = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';
/** What it takes to tell whom a request or a sample is of. */
const RESOLVING: readonly Resource[] = ['pods', 'services', 'ingresses', 'replicasets', 'deployments', 'statefulsets', 'daemonsets', 'jobs'];
const SNAPSHOT_EVERY_MS = 600_000;
const GATHER_MS = 1_000;

/** Keeps the inventory by list and watch, and publishes it: a snapshot now and then, changes in between. */
export class InventoryService {
  private readonly watches = new Map<Resource, ResourceWatch<WatchedObject & KubeObject>>();
  private readonly listeners = new Set<ObjectListener>();
  private readonly stopped = new AbortController();
  private readonly running: Promise<unknown>[] = [];
  private readonly epochStartedAtMs = Date.now();
  private position: Omit<InventoryPosition, 'epoch'>;
  private snapshotAtMs = 0;
  private snapshotWanted = true;
  private markReady: () => void = () => undefined;
  private markResolvable: () => void = () => undefined;
  /** Resolves when every collection has been listed once or is known not to be ours to read. */
  readonly ready: Promise<void>;
  /** Resolves as soon as pods, their owners and what leads to them are known. */
  readonly resolvable: Promise<void>;

  constructor(private readonly api: WatchApi, private readonly state: InventoryState, private readonly outlet: InventoryOutlet, private readonly options: InventoryOptions) {
    this.position = { epochStartedAtMs: this.epochStartedAtMs, generation: 0, sequence: 0 };
    this.ready = new Promise((resolve) => { this.markReady = resolve; });
    this.resolvable = new Promise((resolve) => { this.markResolvable = resolve; });
    setMaxListeners(0, this.stopped.signal);
  }

  /** Starts to read; publishing begins with {@link publish}. */
  start(): void {
    for (const resource of Object.keys(RESOURCES) as Resource[]) {
      const metadataOnly = METADATA_ONLY.has(resource);
      const watch = new ResourceWatch<WatchedObject & KubeObject>(this.api, {
        upsert: (object) => {
          this.state.upsert(resource, object, Date.now());
          this.tell(resource, 'upsert', object);
        },
        remove: (object) => {
          if (object.metadata?.uid !== undefined) this.state.remove(resource, object.metadata.uid, Date.now());
          this.tell(resource, 'remove', object);
        },
        retain: (uids) => this.state.retain(resource, uids, Date.now()),
      }, {
        path: RESOURCES[resource], log: this.options.log, delay: this.options.delay, random: this.options.random, onState: () => this.checkReady(),
        ...(metadataOnly ? { listAccept: METADATA_LIST, watchAccept: METADATA_WATCH } : {}),
      });
      this.watches.set(resource, watch);
      this.running.push(watch.run(this.stopped.signal));
    }
  }

  /** Publishes from now on: a snapshot as soon as the inventory is complete, then changes as they come. */
  publish(): void {
    this.running.push(this.publishing());
  }

  onObject(listener: ObjectListener): void {
    this.listeners.add(listener);
  }

  /** A full snapshot goes out with the next step. */
  requestSnapshot(): void {
    this.snapshotWanted = true;
  }

  setCluster(cluster: ClusterObject): void {
    this.state.setCluster(cluster);
  }

  states(): ReadonlyMap<Resource, WatchState> {
    return new Map([...this.watches].map(([resource, watch]) => [resource, watch.state]));
  }

  async stop(): Promise<void> {
    this.stopped.abort();
    await Promise.all(this.running);
  }

  private tell(resource: Resource, change: 'upsert' | 'remove', object: KubeObject): void {
    for (const listener of this.listeners) listener(resource, change, object);
  }

  private checkReady(): void {
    const settled = (state: WatchState | undefined) => state === 'synced' || state === 'forbidden' || state === 'absent';
    if (RESOLVING.every((resource) => settled(this.watches.get(resource)?.state))) this.markResolvable();
    if ([...this.watches.values()].every(({ state }) => settled(state))) this.markReady();
  }

  private async publishing(): Promise<void> {
    await Promise.race([this.ready, aborted(this.stopped.signal)]);
    const { gatherMs = GATHER_MS, delay, log } = this.options;
    while (!this.stopped.signal.aborted) {
      try {
        await this.step(Date.now());
      } catch (error) {
        // Half a snapshot or a lost change: everything is told again.
        this.snapshotWanted = true;
        log.error({ error: error instanceof Error ? error.message : String(error) }, 'inventory could not be handed over and is told again');
      }
      await delay(gatherMs, this.stopped.signal);
    }
  }

  private async step(nowMs: number): Promise<void> {
    if (this.snapshotWanted || nowMs - this.snapshotAtMs >= (this.options.snapshotEveryMs ?? SNAPSHOT_EVERY_MS)) await this.tellSnapshot(nowMs);
    else await this.tellChanges(nowMs);
    for (const { workload, before, after, atMs } of this.state.takeUidChanges()) {
      const at = toTimestamp(atMs);
      await this.outlet.coverage({ type: 'uid_change', source: 'inventory', start: at, end: at, reason: `${workload.kind} ${workload.namespace}/${workload.name} was made anew`, count: null, workload, detail: { before, after } });
    }
  }

  private async tellSnapshot(nowMs: number): Promise<void> {
    this.snapshotWanted = false;
    this.snapshotAtMs = nowMs;
    this.position = { ...this.position, generation: this.position.generation + 1, sequence: 0 };
    const generation = { epoch: this.outlet.epochId, number: this.position.generation };
    for (const text of snapshotTexts(this.at, this.state.snapshot(nowMs), nowMs)) await this.outlet.publish('inventory', () => text, { generation });
    await this.outlet.supersede(generation);
  }

  private async tellChanges(nowMs: number): Promise<void> {
    const { upserts, removes } = this.state.changes(nowMs);
    const generation = { epoch: this.outlet.epochId, number: this.position.generation };
    for (const text of changeTexts(this.at, upserts, removes, nowMs)) {
      this.position = { ...this.position, sequence: this.position.sequence + 1 };
      await this.outlet.publish('inventory', () => text, { generation });
    }
  }

  private get at(): InventoryPosition {
    return { ...this.position, epoch: this.outlet.epochId };
  }

  /** Counts by kind, for health. */
  counts(): Partial<Record<InventoryKind, number>> {
    return { Node: this.state.count('Node'), Pod: this.state.count('Pod'), Workload: this.state.count('Workload') };
  }
}
