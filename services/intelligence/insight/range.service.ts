import { DAY_MS, HOUR_MS, MINUTE_MS, workloadKey, type WorkloadRef } from '@upid/contracts';
import { HISTORY_DAYS } from '../assessment/facts.js';
import { openHoursOf, type OpenHours } from '../assessment/window.js';
import { aggregateWorkload, mergeAggregate, newAggregate, unpackAggregate, unpackLoad, type Aggregate } from '../fold/aggregate.js';
import { Grid } from '../fold/grid.js';
import { latestValues, parseLatest, type LatestValue } from '../fold/latest.js';
import { requestLines, shardOf, unpackCells, unpackPodHour, unpackRequestHour } from '../fold/segment.js';
import type { ClusterRow, HistoryRepository, HourInfo, StoredPod } from './history.repository.js';
import type { HourLoad } from './measures.js';

/** A range at least this long is taken in whole hours; a shorter one to the minute. */
const WHOLE_HOURS_MS = 24 * HOUR_MS;
/** A cluster's range longer than this is summed from days, and from hours at its ends. */
const WHOLE_DAYS_MS = 48 * HOUR_MS;
/** Latest values are as old as this at most. */
export const LATEST_MS = 15 * MINUTE_MS;

/** Workloads whose sums over packed time are kept, over all clusters and ranges: some 10 kB each. */
const PACKED_TOTALS = 10_000;

export interface Range { readonly startMs: number; readonly endMs: number }

/** A workload's or pod's minutes over a range. */
export interface RangeData {
  readonly aggregate: Aggregate;
  readonly loads: HourLoad[];
}

/** A workload whose history is read; `number` is null where nothing of it was ever stored. */
export interface StoredWorkload {
  readonly cluster: ClusterRow | null;
  readonly ref: WorkloadRef;
  readonly number: number | null;
}

export const floorHour = (ms: number) => ms - (ms % HOUR_MS);
const clamp = (minute: number) => Math.min(60, Math.max(0, Math.ceil(minute)));

export function emptyData(range: Range): RangeData {
  const startHour = floorHour(range.startMs);
  return { aggregate: newAggregate(startHour / MINUTE_MS, (Math.ceil((range.endMs - startHour) / HOUR_MS)) * 60), loads: [] };
}

function uidBytes(uid: string): Uint8Array {
  return Buffer.from(uid.replaceAll('-', ''), 'hex');
}

/** Reads ranges of time from what is stored: packed hours and days as they are, hours that are cut or open from their samples. */
export class RangeService {
  /** Sums of packed hours and days by what they were made from, the oldest first. */
  private readonly packed = new Map<string, ReadonlyMap<string, Aggregate>>();

  constructor(private readonly history: HistoryRepository) {}

  /** A workload's hours over a range: packed ones as they are, cut and open ones from their samples. */
  async workloadHours(workload: StoredWorkload, range: Range): Promise<(HourLoad & { aggregate: Aggregate })[]> {
    const { cluster, number, ref } = workload;
    if (!cluster || number === null) return [];
    const key = workloadKey(ref);
    const fromHour = floorHour(range.startMs);
    const hours = await this.history.hours(cluster.number, fromHour, range.endMs);
    const cut = (hourMs: number) => range.endMs - range.startMs < WHOLE_HOURS_MS && (hourMs < range.startMs || hourMs + HOUR_MS > range.endMs);
    const found: (HourLoad & { aggregate: Aggregate })[] = [];
    const packed = hours.filter((hour) => hour.closed);
    if (packed.length > 0) {
      for (const row of await this.history.workloadHours(cluster.number, fromHour, range.endMs, [number])) {
        if (cut(row.hourMs)) continue;
        found.push({ hourMs: row.hourMs, load: unpackLoad(row.load), aggregate: unpackAggregate(row.aggregate) });
      }
    }
    const grid = new Grid();
    const take = (hourMs: number) => {
      const pods = Array.from({ length: grid.pods }, (_, pod) => pod).filter((pod) => grid.workloads[grid.podWorkload[pod] as number] === key);
      const lines = requestLines(grid, 0, 60).filter((line) => grid.workloads[grid.requestWorkload[line] as number] === key);
      const from = cut(hourMs) ? Math.max(0, Math.floor((range.startMs - hourMs) / MINUTE_MS)) : 0;
      const to = cut(hourMs) ? Math.min(60, Math.ceil((range.endMs - hourMs) / MINUTE_MS)) : 60;
      found.push({ hourMs, ...aggregateWorkload(grid, pods, lines, from, to) });
    };
    for (const hour of packed.filter((each) => cut(each.hourMs))) {
      const pods = new Map((await this.history.podsOfWorkload(number)).map((pod) => [pod.id, pod]));
      grid.reset(hour.hourMs / MINUTE_MS, 60);
      for (const row of await this.history.podHours(cluster.number, hour.hourMs, hour.hourMs + HOUR_MS, pods.keys())) unpackPodHour(row.samples, grid, grid.pod(uidBytes(pods.get(row.pod)?.uid as string), 0, grid.workload(key)));
      for (const row of await this.history.workloadHours(cluster.number, hour.hourMs, hour.hourMs + HOUR_MS, [number])) if (row.requests) unpackRequestHour(row.requests, grid, grid.workload(key));
      take(hour.hourMs);
    }
    const open = hours.filter((hour) => !hour.closed && hour.windows !== 0).map((hour) => hour.hourMs);
    for (const [hourMs, cells] of Map.groupBy(await this.history.cells(cluster.number, open, shardOf(key)), (cell) => cell.hourMs)) {
      grid.reset(hourMs / MINUTE_MS, 60);
      for (const cell of cells) unpackCells(cell.data, grid, cell.window * 5, (each) => each === key);
      take(hourMs);
    }
    return found.sort((a, b) => a.hourMs - b.hourMs);
  }

  async workloadData(workload: StoredWorkload, range: Range): Promise<RangeData> {
    const data = emptyData(range);
    for (const hour of await this.workloadHours(workload, range)) {
      mergeAggregate(data.aggregate, hour.aggregate);
      data.loads.push({ hourMs: hour.hourMs, load: hour.load });
    }
    return data;
  }

  /** One pod's own minutes over a range, from its samples. */
  async podData(cluster: ClusterRow, pod: StoredPod, ref: WorkloadRef, range: Range): Promise<RangeData> {
    return (await this.podsData(cluster, [pod], ref, range)).get(pod.uid) ?? emptyData(range);
  }

  /** The own minutes of pods of one workload over a range, by UID. */
  async podsData(cluster: ClusterRow, pods: readonly StoredPod[], ref: WorkloadRef, range: Range): Promise<Map<string, RangeData>> {
    const all = new Map(pods.map((pod) => [pod.uid, emptyData(range)]));
    if (pods.length === 0) return all;
    const key = workloadKey(ref);
    const byId = new Map(pods.map((pod) => [pod.id, pod]));
    const grid = new Grid();
    const take = (hourMs: number, pod: StoredPod) => {
      const data = all.get(pod.uid);
      if (data === undefined) return;
      const own = grid.pod(uidBytes(pod.uid), 0, grid.workload(key));
      const { aggregate, load } = aggregateWorkload(grid, [own], [], clamp((range.startMs - hourMs) / MINUTE_MS), clamp((range.endMs - hourMs) / MINUTE_MS));
      mergeAggregate(data.aggregate, aggregate);
      data.loads.push({ hourMs, load });
    };
    for (const row of await this.history.podHours(cluster.number, floorHour(range.startMs), range.endMs, byId.keys())) {
      const pod = byId.get(row.pod);
      if (pod === undefined) continue;
      grid.reset(row.hourMs / MINUTE_MS, 60);
      unpackPodHour(row.samples, grid, grid.pod(uidBytes(pod.uid), 0, grid.workload(key)));
      take(row.hourMs, pod);
    }
    const open = (await this.history.hours(cluster.number, floorHour(range.startMs), range.endMs)).filter((hour) => !hour.closed && hour.windows !== 0).map((hour) => hour.hourMs);
    for (const [hourMs, cells] of Map.groupBy(await this.history.cells(cluster.number, open, shardOf(key)), (cell) => cell.hourMs)) {
      grid.reset(hourMs / MINUTE_MS, 60);
      for (const cell of cells) unpackCells(cell.data, grid, cell.window * 5, (each) => each === key);
      for (const pod of pods) take(hourMs, pod);
    }
    return all;
  }

  /** Aggregates of the workload's days, back to the start of what its profile rests on. */
  async daysOf(workload: StoredWorkload, range: Range): Promise<Aggregate[]> {
    if (!workload.cluster || workload.number === null) return [];
    const fromMs = Math.floor(range.startMs / DAY_MS) * DAY_MS - HISTORY_DAYS * DAY_MS;
    return (await this.history.workloadDays(workload.cluster.number, fromMs, range.endMs + DAY_MS, [workload.number])).map((day) => unpackAggregate(day.aggregate));
  }

  /** Every workload's sums over a range: of days where it is long, of hours at its ends, of cells where hours are open. */
  async totals(cluster: ClusterRow, range: Range): Promise<Map<string, Aggregate>> {
    const hours = await this.history.hours(cluster.number, floorHour(range.startMs), range.endMs);
    const totals = new Map(await this.packedTotals(cluster, range, hours));
    const open = hours.filter((hour) => !hour.closed && hour.windows !== 0 && hour.hourMs >= firstHourOf(range)).map((hour) => hour.hourMs);
    const found = new Map<string, OpenHours>();
    openHoursOf(new Grid(), await this.history.cells(cluster.number, open, null), found);
    for (const [key, { aggregates }] of found) totals.set(key, sumOf([...(totals.has(key) ? [totals.get(key) as Aggregate] : []), ...aggregates]));
    return totals;
  }

  /** The sums over what is packed; kept for as long as none of it changes, since they are of many thousand rows. */
  private async packedTotals(cluster: ClusterRow, range: Range, hours: readonly HourInfo[]): Promise<ReadonlyMap<string, Aggregate>> {
    const [startHour, endHour] = [floorHour(range.startMs), Math.ceil(range.endMs / HOUR_MS) * HOUR_MS];
    const closed = hours.filter((hour) => hour.closed);
    const of = `${cluster.number} ${startHour} ${endHour} ${cluster.daysRevision} ${closed.length} ${closed.reduce((latest, hour) => (hour.revision > latest ? hour.revision : latest), 0n)}`;
    const known = this.packed.get(of);
    if (known) return known;
    const keys = await this.history.workloadKeys(cluster.number);
    const totals = new Map<string, Aggregate>();
    const add = (key: string, aggregate: Aggregate) => {
      let total = totals.get(key);
      if (!total) totals.set(key, (total = newAggregate(0, 0)));
      mergeAggregate(total, aggregate);
    };
    const addHours = async (from: number, to: number) => {
      for (const row of await this.history.workloadHours(cluster.number, from, to, null)) add(keys.get(row.workload) as string, unpackAggregate(row.aggregate));
    };
    if (isLong(range)) {
      const firstDay = Math.ceil(range.startMs / DAY_MS) * DAY_MS;
      for (const row of await this.history.workloadDays(cluster.number, firstDay, firstHourOf(range), keys.keys())) add(keys.get(row.workload) as string, unpackAggregate(row.aggregate));
      await addHours(startHour, firstDay);
    }
    await addHours(firstHourOf(range), range.endMs);
    this.packed.set(of, totals);
    let kept = [...this.packed.values()].reduce((sum, each) => sum + each.size, 0);
    for (const [each, { size }] of this.packed) {
      if (kept <= PACKED_TOTALS || each === of) break;
      this.packed.delete(each);
      kept -= size;
    }
    return totals;
  }

  async latestFromCells(cluster: ClusterRow, nowMs: number): Promise<Map<string, LatestValue>> {
    const cells = await this.history.cells(cluster.number, [floorHour(nowMs - LATEST_MS), floorHour(nowMs)].filter((hour, i, all) => all.indexOf(hour) === i), null);
    const values = new Map<string, LatestValue>();
    const grid = new Grid();
    for (const [hourMs, rows] of Map.groupBy(cells, (cell) => cell.hourMs)) {
      grid.reset(hourMs / MINUTE_MS, 60);
      for (const row of rows) unpackCells(row.data, grid, row.window * 5);
      for (const [uid, text] of latestValues(grid)) {
        const value = parseLatest(text);
        if (value && value.minute >= (values.get(uid)?.minute ?? 0)) values.set(uid, value);
      }
    }
    return values;
  }
}

function sumOf(aggregates: readonly Aggregate[]): Aggregate {
  const total = newAggregate(0, 0);
  for (const each of aggregates) mergeAggregate(total, each);
  return total;
}

const isLong = (range: Range) => range.endMs - range.startMs > WHOLE_DAYS_MS;
/** From when on a range is summed from hours, up to its end; of a long one all before are days, but for its first hours. */
const firstHourOf = (range: Range) => (isLong(range) ? Math.floor(range.endMs / DAY_MS) * DAY_MS : floorHour(range.startMs));
