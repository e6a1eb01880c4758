import { loadOfPods, mergeAggregate, newAggregate, unpackAggregate, unpackLoad, type Aggregate, type LoadMinutes } from '../fold/aggregate.js';
import { aggregateAll } from '../fold/fold.js';
import { Grid } from '../fold/grid.js';
import { unpackCells, unpackPodHour } from '../fold/segment.js';
import { uidFromBytes } from '@upid/contracts';
import { countRest, type RestingFloor } from '../idle/activity.js';
import type { PodMinutes } from './facts.js';

const HOUR_MINUTES = 60;

/** What closed hours of a workload add up to; its minutes of load are kept packed, since the floor that rest is counted by moves. */
export class WorkloadHours {
  readonly aggregate: Aggregate;
  private readonly loads: Uint8Array[] = [];

  constructor(startMinute: number, hours: number) {
    this.aggregate = newAggregate(startMinute, hours * HOUR_MINUTES);
  }

  add(aggregate: Uint8Array, load: Uint8Array): void {
    mergeAggregate(this.aggregate, unpackAggregate(aggregate));
    this.loads.push(load);
  }

  *minutes(): Generator<LoadMinutes> {
    for (const load of this.loads) yield unpackLoad(load);
  }
}

/** Minutes of a pod by hour of a sliding window: with CPU, of those the ones that rest can be told of, and the ones at rest. */
class PodRing {
  readonly minutes: Uint8Array;
  readonly known: Uint8Array;
  readonly atRest: Uint8Array;

  constructor(hours: number) {
    this.minutes = new Uint8Array(hours);
    this.known = new Uint8Array(hours);
    this.atRest = new Uint8Array(hours);
  }
}

/** What of a cluster's pods is known in closed hours, an hour at a time. */
export class PodHours {
  private readonly rings = new Map<string, PodRing>();
  private readonly loaded = new Map<number, bigint>();
  private readonly grid = new Grid();

  constructor(private readonly hours: number) {}

  /** Whether an hour is loaded as it stands. */
  has(hourMs: number, revision: bigint): boolean {
    return this.loaded.get(hourMs) === revision;
  }

  /** Takes an hour's packed pods in the place of what was known of it. */
  load(hourMs: number, revision: bigint, pods: Iterable<{ uid: string; samples: Uint8Array; floor: RestingFloor | null }>): void {
    const slot = (hourMs / 3_600_000) % this.hours;
    for (const ring of this.rings.values()) {
      ring.minutes[slot] = 0;
      ring.known[slot] = 0;
      ring.atRest[slot] = 0;
    }
    for (const [hour] of this.loaded) if ((hour / 3_600_000) % this.hours === slot) this.loaded.delete(hour);
    this.loaded.set(hourMs, revision);
    const uid = new Uint8Array(16);
    for (const { uid: text, samples, floor } of pods) {
      if (!floor) continue;
      this.grid.reset(hourMs / 60_000, HOUR_MINUTES);
      const pod = this.grid.pod(uid, 0, this.grid.workload('-/Other/-'));
      unpackPodHour(samples, this.grid, pod);
      const rest = { known: 0, atRest: 0 };
      const load = loadOfPods(this.grid, [pod]);
      countRest(load, floor, rest);
      let ring = this.rings.get(text);
      if (!ring) this.rings.set(text, (ring = new PodRing(this.hours)));
      ring.minutes[slot] = knownMinutes(load);
      ring.known[slot] = rest.known;
      ring.atRest[slot] = rest.atRest;
    }
  }

  /** Minutes of a pod over the loaded hours. */
  of(uid: string): PodMinutes {
    const ring = this.rings.get(uid);
    if (!ring) return { minutes: 0, rest: { known: 0, atRest: 0 } };
    let minutes = 0;
    let known = 0;
    let atRest = 0;
    for (let i = 0; i < this.hours; i++) {
      minutes += ring.minutes[i] as number;
      known += ring.known[i] as number;
      atRest += ring.atRest[i] as number;
    }
    return { minutes, rest: { known, atRest } };
  }

  /** Forgets pods of which no loaded hour knows anything. */
  prune(): void {
    for (const [uid, ring] of this.rings) if (ring.minutes.every((minutes) => minutes === 0)) this.rings.delete(uid);
  }
}

/** Minutes of a load in which CPU is known. */
export function knownMinutes(load: LoadMinutes): number {
  return load.cpuMillicores.reduce((count, value) => count + (Number.isNaN(value) ? 0 : 1), 0);
}

/** What the open hours of a workload hold so far. */
export interface OpenHours {
  readonly aggregates: Aggregate[];
  readonly loads: LoadMinutes[];
  readonly pods: Map<string, LoadMinutes[]>;
}

/** Reads cells of open hours, as many as are given; by workload key. `grid` is the caller's to lend. */
export function openHoursOf(grid: Grid, cells: readonly { readonly hourMs: number; readonly window: number; readonly data: Uint8Array }[], into: Map<string, OpenHours>, wanted?: (key: string) => boolean): void {
  for (const [hourMs, rows] of Map.groupBy(cells, (cell) => cell.hourMs)) {
    grid.reset(hourMs / 60_000, HOUR_MINUTES);
    grid.standing = true;
    for (const row of rows) unpackCells(row.data, grid, row.window * 5, wanted);
    for (const [key, { aggregate, load }] of aggregateAll(grid)) {
      let open = into.get(key);
      if (!open) into.set(key, (open = { aggregates: [], loads: [], pods: new Map() }));
      open.aggregates.push(aggregate);
      open.loads.push(load);
    }
    for (let pod = 0; pod < grid.pods; pod++) {
      const open = into.get(grid.workloads[grid.podWorkload[pod] as number] as string);
      const uid = uidFromBytes(grid.podUids, pod * 16);
      const load = loadOfPods(grid, [pod]);
      const known = open?.pods.get(uid);
      if (known) known.push(load);
      else open?.pods.set(uid, [load]);
    }
  }
}

/** Closed and open hours of a workload as one window. */
export function wholeWindow(startMinute: number, hours: number, closed: WorkloadHours | null, open: OpenHours | null): Aggregate {
  const whole = newAggregate(startMinute, hours * HOUR_MINUTES);
  if (closed) mergeAggregate(whole, closed.aggregate);
  for (const each of open?.aggregates ?? []) mergeAggregate(whole, each);
  return whole;
}
