import { decodeRequestBatch, decodeUsageBatch, MINUTE_MS, subjects, uidFromBytes } from '@upid/contracts';
import { isDatabaseAway, type Cache, type Logger, type Outbox, type OutboxMessage, type Tx } from '@upid/platform';
import { mergeAggregate, newAggregate, packAggregate, unpackAggregate } from './aggregate.js';
import { PackWriter } from './column.js';
import { foldInto, NOTHING_STANDS, packPodHours, packWorkloadHours, windowsWithData, type Batch } from './fold.js';
import type { FoldRepository } from './fold.repository.js';
import { Grid } from './grid.js';
import { finalWindowsAt, isClosedAt, LIVE_MS, LONGEST_WAIT_MS, minutesOfWindow, minutesWithData, NEW_HOUR, nextDueMs, windowsIn, type HourKey, type HourState, type PendingBatch } from './hours.js';
import { latestValues } from './latest.js';
import { packRollup } from './rollup.js';
import { packCells } from './segment.js';

/** What is measured of the fold. */
export interface FoldMeter {
  /** From publishing to the commit of the fold, ms, a batch. */
  folded(elapsedMs: number): void;
  windows(count: number): void;
}

/** Makes sure that rows of an hour have a place. */
export type PrepareHours = (hourMs: number) => Promise<void>;

/** Latest values are worth a cache this long after their minute. */
const LATEST_TTL_SECONDS = 900;
const DAY_SETTLE_MS = 10_000;
const HOURS_A_ROUND = 8;
/** An hour that cannot be folded rests this long at most before it is tried again. */
const LONGEST_PAUSE_MS = 300_000;
const DAY_MS = 86_400_000;

/** Batches decoded one by one: all of an hour's at once would fill the memory. */
function* decoded(batches: readonly PendingBatch[]): Generator<Batch> {
  for (const each of batches) yield each.kind === 'usage' ? { kind: 'usage', batch: decodeUsageBatch(each.payload) } : { kind: 'requests', batch: decodeRequestBatch(each.payload) };
}

const breathe = () => new Promise<void>((resolve) => { setImmediate(resolve); });

/**
 * Folds hours that are due, one at a time: reads batches and what stands, folds, replaces, writes the rollups to the outbox and drops the
 * batches, all in one transaction. Killed at any moment it leaves nothing half done; the next round, here or in another replica, repeats it.
 */
export class FoldService {
  private readonly windowGrid = new Grid();
  private readonly hourGrid = new Grid();
  private readonly failed = new Map<string, { times: number; untilMs: number }>();

  constructor(
    private readonly repository: FoldRepository, private readonly outbox: Outbox, private readonly cache: Cache, private readonly prepareHours: PrepareHours,
    private readonly meter: FoldMeter, private readonly log: Logger, private readonly options: { nowMs(): number; readonly settleMs: number },
  ) {}

  /** Folds what is due. @returns whether there may be more */
  async step(): Promise<boolean> {
    const { hours, nowMs } = await this.repository.due(this.options.settleMs, LONGEST_WAIT_MS, LIVE_MS, HOURS_A_ROUND);
    let folded = 0;
    for (const key of hours) {
      const name = `${key.cluster}/${key.hourMs}`;
      const failed = this.failed.get(name);
      if (failed && failed.untilMs > nowMs) continue;
      try {
        if (await this.foldHour(key, nowMs)) folded++;
        this.failed.delete(name);
      } catch (error) {
        if (isDatabaseAway(error)) throw error;
        // One hour that cannot be folded must not hold up the others; it stays due.
        const times = (failed?.times ?? 0) + 1;
        this.failed.set(name, { times, untilMs: nowMs + Math.min(LONGEST_PAUSE_MS, 1000 * 2 ** times) });
        this.log.error({ err: error, cluster: key.clusterId, hour: new Date(key.hourMs).toISOString(), times }, 'an hour could not be folded and is tried again');
      }
    }
    return folded > 0 && hours.length === HOURS_A_ROUND;
  }

  /** Makes the aggregates of days whose hours changed. @returns whether there may be more */
  async stepDays(): Promise<boolean> {
    const days = await this.repository.dueDays(DAY_SETTLE_MS, 1);
    const out = new PackWriter();
    for (const { cluster, dayMs } of days) {
      await this.repository.foldDay(cluster, dayMs, (hours) => {
        const day = newAggregate(dayMs / MINUTE_MS, 24 * 60);
        for (const hour of hours) mergeAggregate(day, unpackAggregate(hour));
        return packAggregate(out, day);
      });
    }
    return days.length > 0;
  }

  /** @returns false where another replica works on the hour */
  private async foldHour(key: HourKey, nowMs: number): Promise<boolean> {
    const closing = isClosedAt(key.hourMs, nowMs);
    if (closing) await this.prepareHours(key.hourMs);
    const storeEpoch = await this.repository.storeEpoch();
    let done: { batches: readonly PendingBatch[]; latest: ReturnType<typeof latestValues>; windows: number } = { batches: [], latest: [], windows: 0 };
    const owned = await this.repository.whileOwning(key, async (tx) => {
      // The mark first, then the batches: what is marked later than read keeps its mark.
      const dirty = await this.repository.dirty(tx, key);
      const state = (await this.repository.state(tx, key)) ?? NEW_HOUR;
      const pending = dirty ? await this.repository.batches(tx, key) : { batches: [], all: true };
      await breathe();
      const revision = await this.repository.nextRevision(tx);
      const head = { storeEpoch, revision };
      const next = closing || state.closed
        ? await this.foldClosed(tx, key, state, decoded(pending.batches), head)
        : await this.foldOpen(tx, key, state, [...decoded(pending.batches)], head, dirty?.windows ?? 0, nowMs);
      await this.repository.dropBatches(tx, key, pending.batches.map((each) => each.id));
      await this.repository.writeState(tx, key, next.state, revision, nextDueMs(key.hourMs, next.state));
      if (dirty && pending.all) await this.repository.clearDirty(tx, key, dirty.marks);
      done = { batches: pending.batches, latest: next.latest, windows: next.windows };
    });
    if (!owned) return false;
    const now = this.options.nowMs();
    for (const each of done.batches) this.meter.folded(now - each.publishedAtMs);
    this.meter.windows(done.windows);
    if (done.latest.length > 0) await this.cache.setFields(`latest:${key.clusterId}`, done.latest, LATEST_TTL_SECONDS);
    this.log.debug({ cluster: key.clusterId, hour: new Date(key.hourMs).toISOString(), batches: done.batches.length, windows: done.windows, closed: closing }, 'folded');
    return true;
  }

  /** An hour under way: each window by itself, its cells replaced. */
  private async foldOpen(tx: Tx, key: HourKey, state: HourState, batches: readonly Batch[], head: { storeEpoch: Uint8Array; revision: number }, dirtyWindows: number, nowMs: number): Promise<{ state: HourState; latest: [string, string][]; windows: number }> {
    const grid = this.windowGrid;
    const finalNow = finalWindowsAt(key.hourMs, nowMs);
    const hourMinute = key.hourMs / MINUTE_MS;
    let { windows, finalWindows, usageMinutes, requestMinutes } = state;
    let latest: [string, string][] = [];
    let published = 0;
    for (const window of windowsIn(dirtyWindows | (state.windows & finalNow & ~state.finalWindows))) {
      const cells = await this.repository.cells(tx, key, window);
      foldInto(grid, hourMinute + window * 5, 5, { ...NOTHING_STANDS, cells: cells.map((cell) => ({ at: 0, bytes: cell.data })) }, batches);
      const final = ((finalNow >> window) & 1) === 1;
      if (grid.touchedWindows === 0 && (!final || (state.finalWindows >> window) & 1)) continue;
      await this.numbersOf(key, grid);
      const order = grid.orderedPods();
      if (grid.touchedWindows !== 0) await this.repository.replaceCells(tx, key, window, packCells(grid, 0, order));
      await this.publish(tx, key, grid, 0, order, { ...head, final });
      published++;
      windows |= 1 << window;
      if (final) finalWindows |= 1 << window;
      const seen = minutesWithData(grid, hourMinute);
      usageMinutes = (usageMinutes & ~minutesOfWindow(window)) | seen.usage;
      requestMinutes = (requestMinutes & ~minutesOfWindow(window)) | seen.requests;
      latest = latestValues(grid);
      await breathe();
    }
    return { state: { windows, finalWindows, closed: false, usageMinutes, requestMinutes }, latest, windows: published };
  }

  /** An hour that is over: everything that stands and the batches into packed hours and aggregates; all its windows are final. */
  private async foldClosed(tx: Tx, key: HourKey, state: HourState, batches: Iterable<Batch>, head: { storeEpoch: Uint8Array; revision: number }): Promise<{ state: HourState; latest: [string, string][]; windows: number }> {
    const grid = this.hourGrid;
    const hourMinute = key.hourMs / MINUTE_MS;
    const cells = await this.repository.cells(tx, key);
    const packed = state.closed ? await this.repository.packedHours(tx, key) : { pods: [], requests: [] };
    foldInto(grid, hourMinute, 60, {
      cells: cells.map((cell) => ({ at: cell.window * 5, bytes: cell.data })),
      podHours: packed.pods.map((pod) => ({ uid: pod.uid, workload: pod.workload, bytes: pod.samples })),
      requestHours: packed.requests.map((each) => ({ workload: each.workload, bytes: each.requests })),
    }, batches);
    await breathe();
    const unpublished = windowsWithData(grid) & ~state.finalWindows;
    const toPublish = grid.touchedWindows | unpublished;
    if (toPublish === 0 && state.closed) return { state, latest: [], windows: 0 };

    const order = grid.orderedPods();
    const { podNumber, workloadNumber } = await this.numbersOf(key, grid);
    // Rows that stand are replaced where batches touched them; an hour that closes has none yet.
    const touchedOnly = state.closed;
    const pods = touchedOnly ? Array.from(order).filter((pod) => grid.podTouched(pod)) : [];
    await this.repository.writePodHours(tx, key, (function* () {
      for (const { pod, samples } of packPodHours(grid, order, touchedOnly)) yield { pod: podNumber(pod), samples };
    })(), pods.map(podNumber));
    const workloads = touchedOnly ? grid.workloads.flatMap((_, workload) => (grid.workloadTouched(workload) ? [workload] : [])) : [];
    await this.repository.writeWorkloadHours(tx, key, head.revision, (function* () {
      for (const { workload, ...hour } of packWorkloadHours(grid, order, touchedOnly)) yield { workload: workloadNumber(workload), ...hour };
    })(), workloads.map(workloadNumber));
    if (cells.length > 0) await this.repository.dropCells(tx, key);
    for (const window of windowsIn(toPublish)) {
      await this.publish(tx, key, grid, window * 5, order, { ...head, final: true });
      await breathe();
    }
    await this.repository.markDay(tx, key.cluster, key.hourMs - (key.hourMs % DAY_MS));
    const seen = minutesWithData(grid, hourMinute);
    const windows = state.windows | toPublish;
    return { state: { windows, finalWindows: windows, closed: true, usageMinutes: seen.usage, requestMinutes: seen.requests }, latest: [], windows: windowsIn(toPublish).length };
  }

  private async publish(tx: Tx, key: HourKey, grid: Grid, from: number, order: Int32Array, head: { storeEpoch: Uint8Array; revision: number; final: boolean }): Promise<void> {
    const minute = grid.startMinute + from;
    const parts = packRollup(grid, from, order, head);
    const messages = parts.map((payload, i): OutboxMessage => ({ subject: subjects.rollup(key.clusterId), payload, msgId: `rollup/${uidFromBytes(head.storeEpoch)}/${key.clusterId}/${minute}/${head.revision}/${i + 1}` }));
    await this.outbox.add(tx, messages);
  }

  private async numbersOf(key: HourKey, grid: Grid): Promise<{ podNumber: (pod: number) => number; workloadNumber: (workload: number) => number }> {
    const byKey = await this.repository.workloadNumbers(key.cluster, grid.workloads);
    const workloads = grid.workloads.map((each) => byKey.get(each) as number);
    const pods = await this.repository.podNumbers(key.cluster, Array.from({ length: grid.pods }, (_, pod) => ({ uid: uidFromBytes(grid.podUids, pod * 16), workload: workloads[grid.podWorkload[pod] as number] as number, name: grid.podNames[pod] as string })), key.hourMs);
    return { podNumber: (pod) => pods[pod] as number, workloadNumber: (workload) => workloads[workload] as number };
  }
}
