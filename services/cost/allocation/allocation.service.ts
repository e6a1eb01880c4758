import { createHash } from 'node:crypto';
import { DAY_MS, decodeRollup, HOUR_MS, MINUTE_MS, PoisonMessageError, subjects, toTimestamp, uidFromBytes, WINDOW_MINUTES, workloadKey, type NodeObject, type PodObject } from '@upid/contracts';
import { isDependencyAway, type BatchDelivery, type InventoryMirror, type InventoryResult, type Logger, type Outbox, type Tx } from '@upid/platform';
import type { PriceAt, PricesService } from '../prices/prices.service.js';
import { allocationEventOf } from './event.js';
import { computeHour, type HourCost, type HourNode, type HourPod } from './hour.js';
import type { DirtyHour, HoursRepository, StandingHour } from './hours.repository.js';
import { hourOf, type IncomingPart, type InputsRepository, type StoredCluster } from './inputs.repository.js';
import { nodeLifeOf, podLifeOf, renewNode, renewPod, type NodeLife, type PodLife } from './lifetimes.js';
import type { LivesRepository, StoredNode, StoredPod } from './lives.repository.js';
import { usageOfWindow } from './usage.js';

/** What is measured of the allocation. */
export interface AllocationMeter {
  parts(outcome: 'stored' | 'known' | 'too_old', count: number): void;
  computed(hours: number, cells: number): void;
  /** Cells or stored nodes whose parts do not sum to their cost. */
  unbalanced(count: number): void;
}

export interface AllocationOptions {
  readonly nowMs: () => number;
  /** Marked hours wait this long for more of the same, ms. */
  readonly settleMs: number;
}

/** Makes sure that rows of these times have a place. */
export interface TimePlaces {
  rollups(timesMs: readonly number[]): Promise<void>;
  hours(timesMs: readonly number[]): Promise<void>;
}

/** Usage is kept, and hours can be computed anew, for this long; older hours stand as they are. */
export const INPUT_DAYS = 35;
/** A cluster whose agent says nothing for this long (three snapshots) is no longer known; its costs go on when it is heard again. */
const SILENCE_MS = 30 * MINUTE_MS;
/** An hour is closed this long after its end, when late usage has come as a rule. */
const GRACE_MS = 10 * MINUTE_MS;
/** Hours of a transaction. */
const HOURS_A_ROUND = 24;
/** An hour that cannot be computed is tried again after this long. */
const FAULT_MS = 10 * MINUTE_MS;
/** Samples may be stamped a little off their pod's life. */
const MARGIN_MS = 15 * MINUTE_MS;
/** Up to this many changed objects are looked up one by one, more by reading all of a kind. */
const FEW_OBJECTS = 64;

const breathe = () => new Promise<void>((resolve) => { setImmediate(resolve); });

/** Takes inventory and rollups in, and computes the hours that they touch. */
export class AllocationService {
  constructor(
    private readonly inputs: InputsRepository, private readonly lives: LivesRepository, private readonly hours: HoursRepository, private readonly prices: PricesService, private readonly inventory: InventoryMirror,
    private readonly outbox: Pick<Outbox, 'add'>, private readonly places: TimePlaces, private readonly meter: AllocationMeter, private readonly log: Logger, private readonly options: AllocationOptions,
  ) {}

  /** Stores rollups and marks their hours; what cannot be read is rejected by itself. */
  async takeRollups(messages: readonly (Pick<BatchDelivery, 'payload' | 'reject'> & { readonly clusterId: string })[]): Promise<void> {
    const nowMs = this.options.nowMs();
    const parts: IncomingPart[] = [];
    for (const message of messages) {
      try {
        parts.push(readPart(message.clusterId, message.payload));
      } catch (error) {
        if (!(error instanceof PoisonMessageError)) throw error;
        message.reject(`${error.name}: ${error.message}`);
      }
    }
    const oldestMs = nowMs - INPUT_DAYS * DAY_MS;
    const timely = parts.filter((part) => part.windowMs >= oldestMs);
    if (timely.length < parts.length) this.meter.parts('too_old', parts.length - timely.length);
    if (timely.length === 0) return;
    await this.places.rollups(timely.map((part) => part.windowMs));
    const stored = await this.inputs.storeParts(timely, nowMs + this.options.settleMs, nowMs);
    this.meter.parts('stored', stored);
    this.meter.parts('known', timely.length - stored);
  }

  /** What an inventory event changed, within its transaction: lives of nodes and pods, and the hours that they tell on. */
  async takeInventory(tx: Tx, clusterId: string, observedAtMs: number, result: InventoryResult): Promise<void> {
    if (result.outcome !== 'applied') return;
    const nowMs = this.options.nowMs();
    const cluster = await this.inputs.clusterNumber(clusterId);
    await this.inputs.heard(tx, cluster, Math.min(observedAtMs, nowMs), true);
    const changed = [...result.upserted, ...result.removed];
    const of = (kind: 'Node' | 'Pod') => [...new Set(changed.filter((each) => each.kind === kind).map((each) => each.uid))];
    const affected = [await this.takeNodes(tx, clusterId, cluster, of('Node')), await this.takePods(tx, clusterId, cluster, of('Pod'), observedAtMs)].filter((each) => each !== null);
    if (affected.length === 0) return;
    const fromMs = Math.max(Math.min(...affected), nowMs - INPUT_DAYS * DAY_MS);
    const hours = new Set([...(await this.inputs.hoursFrom(tx, cluster, fromMs)), hourOf(nowMs)]);
    await this.inputs.mark(tx, [...hours].map((hourMs) => ({ cluster, hourMs })), nowMs + this.options.settleMs);
  }

  private async takeNodes(tx: Tx, clusterId: string, cluster: number, uids: readonly string[]): Promise<number | null> {
    if (uids.length === 0) return null;
    const rows = await this.objects(tx, clusterId, 'Node', uids);
    const now = rows.map((row) => nodeLifeOf(row.body as NodeObject, row.firstSeen.getTime(), row.removedAt?.getTime() ?? null));
    const before = await this.lives.nodesByUid(tx, cluster, now.map((life) => life.uid));
    const renewed = now.map((life) => renewNode(before.get(life.uid) ?? null, life));
    await this.lives.keepNodes(tx, cluster, distinct(renewed.map((each): NodeLife => each.life)));
    return least(renewed.map((each) => each.affectedFromMs));
  }

  private async takePods(tx: Tx, clusterId: string, cluster: number, uids: readonly string[], observedAtMs: number): Promise<number | null> {
    if (uids.length === 0) return null;
    const rows = await this.objects(tx, clusterId, 'Pod', uids);
    const now = rows.map((row) => podLifeOf(row.body as PodObject, row.removedAt?.getTime() ?? null)).filter((life) => life !== null);
    const before = await this.lives.podsByUid(tx, cluster, now.map((life) => life.uid));
    const renewed = now.map((life) => renewPod(before.get(life.uid) ?? null, life, observedAtMs));
    await this.lives.keepPods(tx, cluster, distinct(renewed.map((each): PodLife => each.life)));
    return least(renewed.map((each) => each.affectedFromMs));
  }

  private async objects(tx: Tx, clusterId: string, kind: 'Node' | 'Pod', uids: readonly string[]) {
    if (uids.length <= FEW_OBJECTS) {
      const rows = [];
      for (const uid of uids) {
        const row = await this.inventory.byUid(clusterId, uid, tx);
        if (row?.body.kind === kind) rows.push(row);
      }
      return rows;
    }
    const wanted = new Set(uids);
    return (await this.inventory.byKind(clusterId, kind, { removedSince: new Date(0), tx })).filter((row) => wanted.has(row.uid));
  }

  /** Marks what time alone makes due. */
  async markByTime(): Promise<void> {
    await this.inputs.markByTime({ nowMs: this.options.nowMs(), currency: this.prices.currency, horizonMs: INPUT_DAYS * DAY_MS, silenceMs: SILENCE_MS, graceMs: GRACE_MS });
  }

  /** Computes hours that are due. @returns whether there may be more */
  async step(): Promise<boolean> {
    const due = await this.hours.due(this.options.nowMs(), HOURS_A_ROUND);
    if (due.length === 0) return false;
    await this.places.hours(due.map((each) => each.hourMs));
    try {
      await this.compute(due);
    } catch (error) {
      if (isDependencyAway(error)) throw error;
      await this.computeEach(due);
    }
    return due.length === HOURS_A_ROUND;
  }

  /** One by one, so that an hour that cannot be computed does not hold up the others. */
  private async computeEach(due: readonly DirtyHour[]): Promise<void> {
    for (const hour of due) {
      try {
        await this.compute([hour]);
      } catch (error) {
        if (isDependencyAway(error)) throw error;
        this.log.error({ err: error, cluster: hour.cluster, hour: toTimestamp(hour.hourMs) }, 'the costs of an hour cannot be computed; it is tried again later');
        await this.hours.putOff(hour, this.options.nowMs() + FAULT_MS);
      }
    }
  }

  private async compute(due: readonly DirtyHour[]): Promise<void> {
    const nowMs = this.options.nowMs();
    const done = await this.hours.transaction(async (tx) => {
      const claimed = await this.hours.claim(tx, due, nowMs);
      const [first, last] = [claimed[0], claimed.at(-1)];
      if (!first || !last) return { hours: 0, cells: 0, unbalanced: 0 };
      const cluster = await this.inputs.cluster(tx, first.cluster);
      const fromMs = first.hourMs;
      const toMs = last.hourMs + HOUR_MS;
      const nodes = await this.lives.nodesWithin(tx, cluster.number, fromMs, toMs);
      const pods = await this.lives.podsWithin(tx, cluster.number, fromMs - MARGIN_MS, toMs + MARGIN_MS);
      const world: World = { cluster, nodes, pods, workloads: new Map(pods.map((pod) => [pod.id, workloadKey(pod.workload)])), priceAt: await this.prices.pricesOf(tx, nodes, nowMs), nowMs };
      const told = { hours: claimed.length, cells: 0, unbalanced: 0 };
      for (const hour of claimed) {
        const { cells, unbalanced } = await this.computeHour(tx, hour, world);
        told.cells += cells;
        told.unbalanced += unbalanced;
        await breathe();
      }
      await this.hours.done(tx, claimed);
      return told;
    });
    this.meter.computed(done.hours, done.cells);
    if (done.unbalanced > 0) this.meter.unbalanced(done.unbalanced);
  }

  private async computeHour(tx: Tx, hour: DirtyHour, world: World): Promise<{ cells: number; unbalanced: number }> {
    const { cluster, nowMs } = world;
    const { currency } = this.prices;
    const knownUntilMs = Math.max(cluster.observedUntilMs ?? 0, cluster.observedFromMs ?? 0) + SILENCE_MS;
    // To the second: a cluster that has just been heard of has a cost at once, wherever in its window that was.
    const untilMs = Math.floor(Math.min(nowMs, knownUntilMs) / 1000) * 1000;
    if (untilMs <= hour.hourMs) return { cells: 0, unbalanced: 0 };
    const rollups = await this.hours.rollups(tx, hour);
    const windows = [...rollups.values()].map((parts) => usageOfWindow(parts.map((payload) => decodeRollup(payload))));
    const cost = computeHour({
      currency, hourMs: hour.hourMs, untilMs, observedFromMs: cluster.observedFromMs, ratios: this.prices.ratios, windows,
      nodes: world.nodes.filter((node) => overlaps(node, hour.hourMs)).map((node) => hourNode(node, hour.hourMs, currency, world.priceAt)),
      pods: world.pods.filter((pod) => overlaps(pod, hour.hourMs, MARGIN_MS)).map((pod): HourPod => ({ id: pod.id, uid: pod.uid, workloadKey: world.workloads.get(pod.id) ?? '', nodeName: pod.nodeName, startMs: pod.startMs, endMs: pod.endMs, requests: pod.requests })),
    });
    const over = untilMs >= hour.hourMs + HOUR_MS;
    const closed = over && (cost.final || nowMs >= hour.hourMs + HOUR_MS + GRACE_MS);
    return { cells: cost.cells, unbalanced: await this.keep(tx, hour, cost, closed, world) };
  }

  /** Stores an hour where it differs from what stands, checks what is stored, and publishes a closed one. @returns what does not balance */
  private async keep(tx: Tx, hour: DirtyHour, cost: HourCost, closed: boolean, world: World): Promise<number> {
    const { currency } = this.prices;
    const standing = await this.hours.standing(tx, hour);
    const digest = digestOf(cost, currency);
    const same = standing !== null && standing.digest.equals(digest);
    const revision = same ? standing.revision : (standing?.revision ?? 0) + 1;
    const isClosed = closed || (standing?.closed ?? false);
    let broken = 0;
    if (!same) {
      await this.hours.store(tx, { ...hour, currency, revision, digest, closed: isClosed, computedAtMs: world.nowMs, cost });
      broken = await this.check(tx, hour, cost, world.cluster);
    } else if (isClosed && !standing.closed) await this.hours.close(tx, hour);
    if (isClosed && cost.coveredMs > 0 && isUnpublished(standing, revision)) {
      await this.publish(tx, hour, cost, revision, world);
      await this.hours.published(tx, hour, revision);
    }
    return broken;
  }

  /** The law, asked of the cells as computed and of the rows as stored. */
  private async check(tx: Tx, hour: DirtyHour, cost: HourCost, cluster: StoredCluster): Promise<number> {
    const unbalanced = await this.hours.unbalanced(tx, hour);
    if (cost.imbalances.length + unbalanced.length > 0) {
      this.log.error({ cluster_id: cluster.clusterId, hour: toTimestamp(hour.hourMs), cells: cost.imbalances.slice(0, 10), nodes: unbalanced.slice(0, 10) }, 'allocations, idle and overhead do not sum to the cost of their node');
    }
    return cost.imbalances.length + unbalanced.length;
  }

  private async publish(tx: Tx, hour: DirtyHour, cost: HourCost, revision: number, { cluster, nodes, workloads, priceAt }: World): Promise<void> {
    const byId = new Map(nodes.map((node) => [node.id, node]));
    const event = allocationEventOf({
      clusterId: cluster.clusterId, hourMs: hour.hourMs, revision, final: true, currency: this.prices.currency, nodes: cost.nodes, pods: cost.pods, workloadOf: (podId) => workloads.get(podId) ?? '',
      nodeOf: (nodeId) => ({ capacityType: byId.get(nodeId)?.capacityType ?? 'unknown', basis: priceAt(nodeId, hour.hourMs)?.basis ?? 'estimate' }),
    });
    await this.outbox.add(tx, { subject: subjects.allocation(cluster.clusterId), payload: Buffer.from(JSON.stringify(event)), msgId: `allocation/${event.id}` });
  }
}

/** What the hours of one round share. */
interface World {
  readonly cluster: StoredCluster;
  readonly nodes: readonly StoredNode[];
  readonly pods: readonly StoredPod[];
  readonly workloads: ReadonlyMap<number, string>;
  readonly priceAt: PriceAt;
  readonly nowMs: number;
}

function isUnpublished(standing: StandingHour | null, revision: number): boolean {
  return (standing?.publishedRevision ?? 0) < revision;
}

function overlaps({ startMs, endMs }: { readonly startMs: number; readonly endMs: number | null }, hourMs: number, marginMs = 0): boolean {
  return startMs < hourMs + HOUR_MS + marginMs && (endMs === null || endMs > hourMs - marginMs);
}

function hourNode(node: StoredNode, hourMs: number, currency: string, priceAt: PriceAt): HourNode {
  const { id, name, startMs, endMs } = node;
  if (!node.facts) return { id, name, startMs, endMs, priced: null, unpricedReason: 'its CPU or memory capacity is unknown' };
  const price = priceAt(id, hourMs);
  if (!price || price.perHourNanos === null) return { id, name, startMs, endMs, priced: null, unpricedReason: price?.note ?? 'it has no price yet' };
  const { cpuMillicores, memoryBytes, gpus } = node.facts.price;
  return { id, name, startMs, endMs, unpricedReason: null, priced: { perHour: { currency, nanos: price.perHourNanos }, priceId: price.id, capacity: { cpuMillicores, memoryBytes, gpus }, allocatable: node.facts.allocatable } };
}

/** Reads one rollup's head; the whole is decoded, so that what is stored can be computed with. @throws {PoisonMessageError} */
function readPart(clusterId: string, payload: Uint8Array): IncomingPart {
  const rollup = decodeRollup(payload);
  if (rollup.window_minute % WINDOW_MINUTES !== 0) throw new PoisonMessageError(`rollup of a window that starts at minute ${rollup.window_minute}: windows start every ${WINDOW_MINUTES} minutes`);
  if (rollup.part < 1 || rollup.part > rollup.parts) throw new PoisonMessageError(`rollup of part ${rollup.part} of ${rollup.parts}`);
  return {
    clusterId, windowMs: rollup.window_minute * MINUTE_MS, storeEpoch: uidFromBytes(rollup.store_epoch), revision: rollup.revision, part: rollup.part, parts: rollup.parts, final: rollup.final === 1, hasSeries: rollup.series_pod.length > 0, payload,
  };
}

/** Tells two results of an hour apart. */
function digestOf(cost: HourCost, currency: string): Buffer {
  const hash = createHash('sha256').update(`${currency} ${cost.coveredFromMs} ${cost.coveredToMs} ${cost.coveredMs} ${cost.imbalances.length}\n`);
  for (const node of cost.nodes) hash.update(`n ${Object.values(node).join(' ')}\n`);
  for (const pod of cost.pods) hash.update(`p ${Object.values(pod).join(' ')}\n`);
  for (const [workload, pods] of cost.uncharged) hash.update(`u ${workload} ${pods}\n`);
  for (const { node, reason } of cost.unpriced) hash.update(`x ${node} ${reason}\n`);
  return hash.digest();
}

function least(times: readonly (number | null)[]): number | null {
  const known = times.filter((time) => time !== null);
  return known.length === 0 ? null : known.reduce((a, b) => Math.min(a, b));
}

/** The last of each UID: one statement writes a row once. */
function distinct<L extends { readonly uid: string }>(lives: readonly L[]): L[] {
  return [...new Map(lives.map((life) => [life.uid, life])).values()];
}
