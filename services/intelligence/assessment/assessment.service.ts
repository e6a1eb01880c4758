import { DAY_MS, HOUR_MS, parseWorkloadKey, subjects, type Assessment, type Judgement, type Policy } from '@upid/contracts';
import type { InventoryMirror, Lease, Leases, Logger, OutboxMessage } from '@upid/platform';
import { unpackAggregate } from '../fold/aggregate.js';
import { Grid } from '../fold/grid.js';
import { SHARDS, shardOf } from '../fold/segment.js';
import { countRest, type RestingFloor } from '../idle/activity.js';
import type { ClusterRow, HistoryRepository, HourInfo } from '../insight/history.repository.js';
import type { AssessmentRepository } from './assessment.repository.js';
import { assessmentEvents, listedPods } from './events.js';
import { containerSummary, floorsOf, HISTORY_DAYS, judgePod, judgeWorkload, loadSummary, profileOf, requestSummary, TELL_AFTER_MS, worthTelling, type Profile, type WorkloadFacts } from './facts.js';
import { clusterObjects, dependenciesOf, limitsOfWorkload, zoneOf, type ClusterObjects } from './objects.js';
import { knownMinutes, openHoursOf, PodHours, wholeWindow, WorkloadHours, type OpenHours } from './window.js';

/** When closed hours or history changed, workloads are judged sooner than their turn, but not more often than this. */
const SOONEST_MS = 10_000;
/** Making closed hours and profiles anew may take this share of the time. */
const REBUILD_SHARE = 0.1;
const LEASE_MS = 120_000;
/** Workloads whose days are read at once. */
const PROFILE_CHUNK = 50;
const PODS_CHUNK = 500;
const OOM_MS = 7 * DAY_MS;

/** What is kept of a cluster between two assessments; it can be lost. */
interface ClusterCache {
  lease: Lease;
  lastAssessedMs: number;
  rebuiltMs: number;
  rebuildTookMs: number;
  /** What the cached closed hours and profiles were made from. */
  madeFrom: string;
  windowStartMs: number;
  readonly closed: Map<string, WorkloadHours>;
  readonly profiles: Map<string, Profile>;
  pods: PodHours;
  /** The floors of pods that rest was counted by in them. */
  podFloors: Map<string, RestingFloor | null>;
  /** The latest told, by workload key. */
  readonly told: Map<string, { assessment: Assessment; atMs: number }>;
}

const breathe = () => new Promise<void>((resolve) => { setImmediate(resolve); });

/**
 * Judges every workload and pod of every cluster, again and again, and tells what changed. One replica works on a cluster at a time; it keeps
 * what closed hours add up to, so that a round reads the open hours alone.
 */
export class AssessmentService {
  private readonly caches = new Map<string, ClusterCache>();
  private readonly grid = new Grid();

  constructor(
    private readonly history: HistoryRepository, private readonly repository: AssessmentRepository, private readonly inventory: InventoryMirror, private readonly leases: Leases,
    private readonly policy: Policy, private readonly log: Logger, private readonly options: { readonly holder: string; nowMs(): number; readonly assessMs: number },
  ) {}

  /** Assesses each cluster whose turn it is and that no other replica works on. */
  async step(): Promise<void> {
    for (const clusterId of await this.history.clusterIds()) {
      const cache = await this.hold(clusterId);
      if (cache) await this.assess(clusterId, cache);
    }
  }

  /** Gives up all clusters at shutdown, so that another replica goes on at once. */
  async onModuleDestroy(): Promise<void> {
    for (const cache of this.caches.values()) await this.leases.release(cache.lease);
    this.caches.clear();
  }

  private async hold(clusterId: string): Promise<ClusterCache | null> {
    const known = this.caches.get(clusterId);
    const renewed = known ? await this.leases.renew(known.lease, LEASE_MS) : null;
    if (known && renewed) {
      known.lease = renewed;
      return known;
    }
    this.caches.delete(clusterId);
    const lease = await this.leases.acquire(`assessment/${clusterId}`, this.options.holder, LEASE_MS);
    if (!lease) return null;
    const told = new Map((await this.repository.all(clusterId)).map((each) => [each.workload, { assessment: each.assessment, atMs: each.publishedAt.getTime() }]));
    const cache: ClusterCache = {
      lease, lastAssessedMs: 0, rebuiltMs: 0, rebuildTookMs: 0, madeFrom: '', windowStartMs: 0, closed: new Map(), profiles: new Map(), pods: new PodHours(this.windowHours), podFloors: new Map(), told,
    };
    this.caches.set(clusterId, cache);
    return cache;
  }

  private get windowHours(): number {
    return Math.max(1, Math.ceil(this.policy.assessment_window_hours));
  }

  private async assess(clusterId: string, cache: ClusterCache): Promise<void> {
    const nowMs = this.options.nowMs();
    const soonest = Math.min(SOONEST_MS, this.options.assessMs);
    if (nowMs - cache.lastAssessedMs < soonest) return;
    const cluster = await this.history.cluster(clusterId);
    if (!cluster) return;
    const windowStartMs = nowMs - (nowMs % HOUR_MS) - this.windowHours * HOUR_MS;
    const hours = await this.history.hours(cluster.number, windowStartMs, nowMs + HOUR_MS);
    const madeFrom = `${windowStartMs} ${cluster.daysRevision} ${hours.filter((hour) => hour.closed).reduce((latest, hour) => (hour.revision > latest ? hour.revision : latest), 0n)}`;
    const mayRebuild = cache.madeFrom !== madeFrom && nowMs - cache.rebuiltMs >= Math.max(soonest, cache.rebuildTookMs / REBUILD_SHARE);
    if (!mayRebuild && nowMs - cache.lastAssessedMs < this.options.assessMs) return;

    const objects = await this.objectsOf(clusterId, nowMs);
    if (mayRebuild) {
      await this.rebuild(cache, cluster, hours, objects, windowStartMs, nowMs);
      cache.madeFrom = madeFrom;
    }
    const open = await this.openHours(cluster.number, hours.filter((hour) => !hour.closed && hour.windows !== 0));
    // An hour was packed between two reads: the next round sees it.
    if (open === null) return;
    await this.judgeAll(clusterId, cache, objects, open, nowMs);
    cache.lastAssessedMs = nowMs;
  }

  private async objectsOf(clusterId: string, nowMs: number): Promise<ClusterObjects> {
    const [workloads, pods, dependencies, oomKills, namespaces, cluster] = await Promise.all([
      this.inventory.byKind(clusterId, 'Workload'), this.inventory.byKind(clusterId, 'Pod'), this.inventory.byKind(clusterId, 'Dependency'), this.inventory.byKind(clusterId, 'OomKill'), this.inventory.byKind(clusterId, 'Namespace'), this.inventory.byKind(clusterId, 'Cluster'),
    ]);
    return clusterObjects({
      workloads: workloads.map((each) => each.body), pods: pods.map((each) => each.body), dependencies: dependencies.map((each) => each.body), oomKills: oomKills.map((each) => each.body), namespaces: namespaces.map((each) => each.body), timeZone: cluster[0]?.body.time_zone ?? null,
    }, nowMs - OOM_MS);
  }

  /** Makes the closed hours of the window and the profiles anew. */
  private async rebuild(cache: ClusterCache, cluster: ClusterRow, hours: readonly HourInfo[], objects: ClusterObjects, windowStartMs: number, nowMs: number): Promise<void> {
    const started = this.options.nowMs();
    const keys = await this.history.workloadKeys(cluster.number);
    cache.windowStartMs = windowStartMs;
    cache.closed.clear();
    for (const hour of hours.filter((each) => each.closed)) {
      for (const row of await this.history.workloadHours(cluster.number, hour.hourMs, hour.hourMs + HOUR_MS, null)) {
        const key = keys.get(row.workload) as string;
        let closed = cache.closed.get(key);
        if (!closed) cache.closed.set(key, (closed = new WorkloadHours(windowStartMs / 60_000, this.windowHours + 1)));
        closed.add(row.aggregate, row.load);
      }
      await breathe();
    }
    await this.profiles(cache, cluster.number, keys, objects, windowStartMs, nowMs);
    await this.podHours(cache, cluster.number, keys, hours);
    cache.rebuiltMs = nowMs;
    cache.rebuildTookMs = this.options.nowMs() - started;
    this.log.debug({ hours: hours.length, workloads: cache.closed.size, took_ms: cache.rebuildTookMs }, 'closed hours read for assessments');
  }

  private async profiles(cache: ClusterCache, cluster: number, keys: ReadonlyMap<number, string>, objects: ClusterObjects, windowStartMs: number, nowMs: number): Promise<void> {
    cache.profiles.clear();
    const fromMs = Math.floor(windowStartMs / DAY_MS) * DAY_MS - HISTORY_DAYS * DAY_MS;
    const wanted = [...keys].filter(([, key]) => cache.closed.has(key) || objects.workloads.has(key));
    for (let at = 0; at < wanted.length; at += PROFILE_CHUNK) {
      const chunk = wanted.slice(at, at + PROFILE_CHUNK);
      const rows = Map.groupBy(await this.history.workloadDays(cluster, fromMs, nowMs + DAY_MS, chunk.map(([id]) => id)), (row) => row.workload);
      for (const [id, key] of chunk) {
        const days = rows.get(id);
        if (days) cache.profiles.set(key, profileOf(days.map((day) => unpackAggregate(day.aggregate)), windowStartMs, nowMs, zoneOf(objects, key)));
      }
      await breathe();
    }
  }

  private async podHours(cache: ClusterCache, cluster: number, keys: ReadonlyMap<number, string>, hours: readonly HourInfo[]): Promise<void> {
    const floors = new Map([...cache.closed].map(([key, closed]) => [key, floorsOf(cache.profiles.get(key) ?? null, closed.aggregate).pod]));
    // Rest was counted by the floors of the time; where one has moved, all is counted again.
    if ([...floors].some(([key, floor]) => hasMoved(cache.podFloors.get(key), floor))) {
      cache.pods = new PodHours(this.windowHours);
      cache.podFloors = floors;
    }
    const missing = hours.filter((hour) => hour.closed && !cache.pods.has(hour.hourMs, hour.revision));
    if (missing.length === 0) return;
    const pods = new Map((await this.history.allPods(cluster)).map((pod) => [pod.id, pod]));
    const floorOf = (workload: number) => cache.podFloors.get(keys.get(workload) ?? '') ?? null;
    for (const hour of missing) {
      const rows = await this.history.podHours(cluster, hour.hourMs, hour.hourMs + HOUR_MS, null);
      cache.pods.load(hour.hourMs, hour.revision, rows.flatMap((row) => {
        const pod = pods.get(row.pod);
        return pod ? [{ uid: pod.uid, samples: row.samples, floor: floorOf(pod.workload) }] : [];
      }));
      await breathe();
    }
    cache.pods.prune();
  }

  /** Cells of the open hours by workload, a shard at a time; null where an hour has none any more. */
  private async openHours(cluster: number, hours: readonly HourInfo[]): Promise<Map<string, OpenHours> | null> {
    const open = new Map<string, OpenHours>();
    const seen = new Set<number>();
    for (let shard = 0; shard < SHARDS; shard++) {
      const cells = await this.history.cells(cluster, hours.map((hour) => hour.hourMs), shard);
      for (const cell of cells) seen.add(cell.hourMs);
      openHoursOf(this.grid, cells, open, (key) => shardOf(key) === shard);
      await breathe();
    }
    return hours.every((hour) => seen.has(hour.hourMs)) ? open : null;
  }

  private async judgeAll(clusterId: string, cache: ClusterCache, objects: ClusterObjects, open: ReadonlyMap<string, OpenHours>, nowMs: number): Promise<void> {
    // What the inventory names; without one, what is seen to run.
    const keys = objects.workloads.size > 0 ? new Set([...objects.workloads.keys(), ...objects.pods.keys()]) : new Set([...open.keys()]);
    const tell: { workload: string; assessment: Assessment }[] = [];
    let judged = 0;
    for (const key of keys) {
      const assessment = this.judgeOne(key, cache, objects, open.get(key) ?? null);
      const before = cache.told.get(key);
      if (!before || nowMs - before.atMs >= TELL_AFTER_MS || worthTelling(before.assessment, assessment)) tell.push({ workload: key, assessment });
      if (++judged % PODS_CHUNK === 0) await breathe();
    }
    const gone = [...cache.told.keys()].filter((key) => !keys.has(key));
    if (tell.length === 0 && gone.length === 0) return;
    const revision = await this.repository.nextRevision();
    const events = assessmentEvents({ clusterId, windowStartMs: cache.windowStartMs, windowEndMs: nowMs, policy: this.policy.name, revision }, tell.map((each) => each.assessment));
    const messages = events.map((event): OutboxMessage => ({ subject: subjects.assessment(clusterId), payload: Buffer.from(JSON.stringify(event)), msgId: event.id }));
    await this.repository.store(clusterId, cache.lease, revision, new Date(nowMs), tell, gone, messages);
    for (const each of tell) cache.told.set(each.workload, { assessment: each.assessment, atMs: nowMs });
    for (const key of gone) cache.told.delete(key);
  }

  private judgeOne(key: string, cache: ClusterCache, objects: ClusterObjects, open: OpenHours | null): Assessment {
    const closed = cache.closed.get(key) ?? null;
    const window = wholeWindow(cache.windowStartMs / 60_000, this.windowHours + 1, closed, open);
    const profile = cache.profiles.get(key) ?? null;
    const zone = zoneOf(objects, key);
    const floors = floorsOf(profile, window);
    const rest = { known: 0, atRest: 0 };
    if (floors.load) {
      for (const load of closed?.minutes() ?? []) countRest(load, floors.load, rest);
      for (const load of open?.loads ?? []) countRest(load, floors.load, rest);
    }
    const oomKills = objects.oomKills.get(key) ?? [];
    const facts: WorkloadFacts = {
      window, rest, profile, dependencies: dependenciesOf(objects, key), limits: limitsOfWorkload(objects, key), oomKills: oomKills.length, windowMinutes: this.windowHours * 60, zone,
    };
    const judgement = judgeWorkload(facts, this.policy);
    const running = objects.pods.get(key) ?? (objects.workloads.size > 0 ? [] : [...(open?.pods.keys() ?? [])].map((uid) => ({ uid, name: uid })));
    const pods = running.map(({ uid, name }) => {
      const minutes = cache.pods.of(uid);
      const own = { minutes: minutes.minutes, rest: { ...minutes.rest } };
      for (const load of open?.pods.get(uid) ?? []) {
        own.minutes += knownMinutes(load);
        if (floors.pod) countRest(load, floors.pod, own.rest);
      }
      return { uid, name, judgement: judgePod(own, judgement, facts, this.policy) };
    });
    return {
      workload: parseWorkloadKey(key), uid: objects.workloads.get(key)?.uid ?? null, judgement, ...overPods(pods.map((pod) => pod.judgement)), pods: listedPods(pods), usage: loadSummary(window),
      containers: window.containers.map((container) => ({ name: container.name, usage: containerSummary(container), oom_kills: oomKills.filter((kill) => kill.container === container.name).length })),
      requests: requestSummary(window), idle_periods: profile?.idlePeriods ?? null, time_zone: zone.name,
    };
  }
}

/** A floor that lies this much from where it was is another floor; distributions are told in steps of 4 %. */
const FLOOR_MOVES = 0.1;

function hasMoved(before: RestingFloor | null | undefined, now: RestingFloor | null): boolean {
  if (!before || !now) return (before ?? null) !== now;
  const far = (a: number | null, b: number | null) => (a === null || b === null ? a !== b : Math.abs(a - b) > FLOOR_MOVES * a);
  return far(before.cpuMillicores, now.cpuMillicores) || far(before.networkBytesPerSecond, now.networkBytesPerSecond);
}

/** The mean probability and the lowest confidence of pods; null without pods, or where one's probability is unknown. */
function overPods(pods: readonly Judgement[]): Pick<Assessment, 'pods_mean_idle_probability' | 'pods_lowest_confidence'> {
  if (pods.length === 0) return { pods_mean_idle_probability: null, pods_lowest_confidence: null };
  const known = pods.every((pod) => pod.idle_probability !== null);
  return {
    pods_mean_idle_probability: known ? pods.reduce((sum, pod) => sum + (pod.idle_probability ?? 0), 0) / pods.length : null, pods_lowest_confidence: Math.min(...pods.map((pod) => pod.confidence)),
  };
}

