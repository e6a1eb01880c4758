import { quantile, type AssessmentEvent, type ContainerObject, type Distribution, type Factor, type Judgement, type Policy, type RequestSummary, type UsageSummary } from '@upid/contracts';
import { mergeAggregate, newAggregate, type Aggregate, type ContainerAggregate } from '../fold/aggregate.js';
import { baselineEfficiency, consistency, dailyEfficiencies, idlePeriods, restingFloor, temporalFacts, weekProfile, type RestingFloor, type RestMinutes, type Timeline, type WeekProfile } from '../idle/activity.js';
import { businessActivity, dependencyHealth, resourceEfficiency, temporalPattern, type DependencyFacts, type EfficiencyFacts, type RequestFacts } from '../idle/factors.js';
import { judge, type Evidence, type Signals } from '../idle/judgement.js';
import type { Zone } from '../idle/zone.js';

/** Days of history behind the expected week, and behind floor and baseline. */
export const HISTORY_DAYS = 90;
export const FLOOR_DAYS = 30;
const DAY_QUARTERS = 96;
/** With fewer minutes of history than a day's the floor is taken from the window itself, open hours included. */
const LEAST_FLOOR_MINUTES = 1440;

/** What of a workload's history its judgement needs; made anew once a day, or when history came in. */
export interface Profile {
  readonly week: WeekProfile;
  /** Of the last 30 days, minutes of the workload's sum and of its pods each by itself. */
  readonly loadCpu: Distribution;
  readonly loadNetwork: Distribution;
  readonly podCpu: Distribution;
  readonly podNetwork: Distribution;
  readonly minutes: number;
  readonly baseline: number | null;
  readonly baselineDays: number;
  readonly idlePeriods: { start_hour: number; end_hour: number }[] | null;
}

function timelineOf(aggregate: Aggregate): Timeline {
  return { startQuarter: aggregate.startMinute / 15, quarters: aggregate.quarters };
}

/**
 * The profile of a workload from the aggregates of its days.
 * @param days any order, at least those of the last 90 days before the window and of the window
 * @param windowStartMs what is expected is taken from before it
 */
export function profileOf(days: readonly Aggregate[], windowStartMs: number, endMs: number, zone: Zone): Profile {
  const startDay = Math.floor(windowStartMs / 86_400_000) - HISTORY_DAYS;
  const endDay = Math.ceil(endMs / 86_400_000);
  const all = newAggregate(startDay * 1440, (endDay - startDay) * 1440);
  const recent = newAggregate((endDay - FLOOR_DAYS) * 1440, FLOOR_DAYS * 1440);
  for (const day of days) {
    copyQuarters(day, all);
    if (day.startMinute >= recent.startMinute) mergeAggregate(recent, day);
  }
  const history = timelineOf(all);
  const windowQuarter = Math.floor(windowStartMs / 900_000);
  const first = historyFloor(recent);
  const efficiencies = dailyEfficiencies(timelineOf(recent), zone);
  return {
    week: weekProfile(clipped(history, windowQuarter - HISTORY_DAYS * DAY_QUARTERS), windowQuarter, zone), loadCpu: recent.load.cpu, loadNetwork: recent.load.network, podCpu: recent.pod.cpu, podNetwork: recent.pod.network,
    minutes: recent.load.minutes, baseline: baselineEfficiency(efficiencies), baselineDays: efficiencies.length, idlePeriods: idlePeriods(history, Math.floor(endMs / 900_000), first, zone),
  };
}

function historyFloor(recent: Aggregate): RestingFloor | null {
  return restingFloor(recent.load.cpu, recent.load.network);
}

function copyQuarters(from: Aggregate, into: Aggregate): void {
  const offset = (from.startMinute - into.startMinute) / 15;
  for (const field of Object.keys(from.quarters) as (keyof Aggregate['quarters'])[]) {
    const source = from.quarters[field];
    const target = into.quarters[field];
    for (let i = 0; i < source.length; i++) if (i + offset >= 0 && i + offset < target.length) target[i + offset] = source[i] as number;
  }
}

/** A timeline without what lies before `startQuarter`. */
function clipped(timeline: Timeline, startQuarter: number): Timeline {
  const skip = Math.max(0, startQuarter - timeline.startQuarter);
  return { startQuarter: timeline.startQuarter + skip, quarters: Object.fromEntries(Object.entries(timeline.quarters).map(([field, values]) => [field, values.subarray(skip)])) as unknown as Timeline['quarters'] };
}

/** Floors of a workload and of one of its pods: of the history where there is a day of it, else of the window. */
export function floorsOf(profile: Profile | null, window: Aggregate): { readonly load: RestingFloor | null; readonly pod: RestingFloor | null } {
  if (profile && profile.minutes >= LEAST_FLOOR_MINUTES) return { load: restingFloor(profile.loadCpu, profile.loadNetwork), pod: restingFloor(profile.podCpu, profile.podNetwork) };
  return { load: restingFloor(window.load.cpu, window.load.network), pod: restingFloor(window.pod.cpu, window.pod.network) };
}

/** The requests of an aggregate as the factors ask for them. */
export function requestFactsOf(aggregate: Aggregate): RequestFacts | null {
  const { requests } = aggregate;
  if (!requests) return null;
  return { coveredMinutes: requests.coveredMinutes, businessMinutes: requests.businessMinutes, business: requests.business, noise: requests.healthCheck + requests.probe + requests.monitoring + requests.loadBalancer + requests.crawler };
}

/** CPU seconds in the quarters whose requests were watched. */
function watchedCpuSeconds(aggregate: Aggregate): number {
  let sum = 0;
  const { requestMinutes, cpuMillicoreMinutes } = aggregate.quarters;
  for (let i = 0; i < requestMinutes.length; i++) if ((requestMinutes[i] as number) > 0) sum += cpuMillicoreMinutes[i] as number;
  return (sum * 60) / 1000;
}

/** Requests and limits of a container by name, as its workload or pod declares them. */
export type ContainerLimits = ReadonlyMap<string, { readonly cpuRequest: number | null; readonly memoryRequest: number | null; readonly memoryLimit: number | null }>;

export function limitsOf(containers: readonly ContainerObject[]): ContainerLimits {
  return new Map(containers.map((each) => [each.name, { cpuRequest: each.requests.cpu_millicores, memoryRequest: each.requests.memory_bytes, memoryLimit: each.limits.memory_bytes }]));
}

const worst = (values: readonly (number | null)[]): number | null => {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : Math.max(...known);
};
const over = (part: number, whole: number | null | undefined) => (whole ? part / whole : null);

/** What the state depends on beside the factors, the worst container of each. */
export function signalsOf(aggregate: Aggregate, limits: ContainerLimits, oomKills: number): Signals {
  const { containers } = aggregate;
  return {
    throttledShare: worst(containers.map((each) => over(each.throttledMinutes, each.throttledKnownMinutes))), oomKills,
    memoryOfLimit: worst(containers.map((each) => over(each.memoryMaxBytes, limits.get(each.name)?.memoryLimit))),
    cpuPeakOfRequest: worst(containers.map((each) => over(each.cpuMaxMillicores, limits.get(each.name)?.cpuRequest))), memoryPeakOfRequest: worst(containers.map((each) => over(each.memoryMaxBytes, limits.get(each.name)?.memoryRequest))),
  };
}

/** What is known of a workload in a window. */
export interface WorkloadFacts {
  readonly window: Aggregate;
  readonly rest: RestMinutes;
  readonly profile: Profile | null;
  readonly dependencies: DependencyFacts | null;
  readonly limits: ContainerLimits;
  readonly oomKills: number;
  readonly windowMinutes: number;
  readonly zone: Zone;
}

/** The four factors of a workload. */
export function factorsOf(facts: WorkloadFacts): Factor[] {
  const { window, profile, zone, windowMinutes } = facts;
  const requests = requestFactsOf(window);
  const floors = floorsOf(profile, window);
  const efficiency: EfficiencyFacts = {
    usageMinutes: window.load.minutes, cpuSeconds: watchedCpuSeconds(window), baseline: profile?.baseline ?? null, baselineDays: profile?.baselineDays ?? 0, floor: floors.load, rest: facts.rest,
  };
  const temporal = profile ? temporalFacts(timelineOf(window), profile.week, floors.load, zone) : null;
  return [
    businessActivity(requests, null, windowMinutes), resourceEfficiency(efficiency, requests, windowMinutes),
    temporalPattern(temporal, Math.max(profile?.week.usageDays ?? 0, profile?.week.requestDays ?? 0)), dependencyHealth(facts.dependencies),
  ];
}

function evidenceOf(facts: WorkloadFacts): Evidence {
  const requests = requestFactsOf(facts.window);
  return {
    dataPoints: facts.window.pod.minutes, requests: (requests?.business ?? 0) + (requests?.noise ?? 0), requestMinutes: requests?.coveredMinutes ?? 0, observedHours: facts.window.load.minutes / 60,
    consistency: consistency(timelineOf(facts.window), floorsOf(facts.profile, facts.window).load, facts.zone),
  };
}

export function judgeWorkload(facts: WorkloadFacts, policy: Policy): Judgement {
  return judge(factorsOf(facts), evidenceOf(facts), signalsOf(facts.window, facts.limits, facts.oomKills), policy);
}

/** A pod's own minutes in the window. */
export interface PodMinutes {
  readonly minutes: number;
  readonly rest: RestMinutes;
}

/**
 * The judgement of a pod: by its own minutes where it was observed long enough, with its workload's requests, week and dependencies (requests are
 * told by workload). A younger one is judged with its workload's history, which the workload's key owns across UIDs.
 */
export function judgePod(pod: PodMinutes | null, workload: Judgement, facts: WorkloadFacts, policy: Policy): Judgement {
  if (!pod || pod.minutes / 60 < policy.minimum_observation_hours) return workload;
  const requests = requestFactsOf(facts.window);
  const factors = workload.factors.map((factor): Factor => {
    if (factor.name !== 'resource_efficiency' || (requests && requests.business > 0)) return factor;
    return resourceEfficiency({ usageMinutes: pod.minutes, cpuSeconds: 0, baseline: null, baselineDays: 0, floor: floorsOf(facts.profile, facts.window).pod, rest: pod.rest }, requests, facts.windowMinutes);
  });
  return judge(factors, { ...evidenceOf(facts), dataPoints: pod.minutes, observedHours: pod.minutes / 60 }, signalsOf(facts.window, facts.limits, facts.oomKills), policy);
}

// ---------------------------------------------------------------- summaries

const atQuantile = (distribution: Distribution, q: number, most: number) => Math.min(most, quantile(distribution, q) ?? 0);

/** Usage of a workload: the sum over its pods. */
export function loadSummary(aggregate: Aggregate): UsageSummary {
  const { load } = aggregate;
  const throttledKnown = aggregate.containers.reduce((sum, each) => sum + each.throttledKnownMinutes, 0);
  return {
    cpu_millicores: load.minutes === 0 ? null : {
      mean: load.cpuMillicoreMinutes / load.minutes, p50: atQuantile(load.cpu, 0.5, load.cpuMaxMillicores), p95: atQuantile(load.cpu, 0.95, load.cpuMaxMillicores), p99: atQuantile(load.cpu, 0.99, load.cpuMaxMillicores), max: load.cpuMaxMillicores,
    },
    memory_bytes: load.minutes === 0 ? null : { mean: (load.memoryKibibyteMinutes * 1024) / load.minutes, p95: atQuantile(load.memory, 0.95, load.memoryMaxBytes), max: load.memoryMaxBytes },
    network_bytes_per_second: load.networkMinutes === 0 ? null : { receive_mean: load.receiveRateMinutes / load.networkMinutes, transmit_mean: load.transmitRateMinutes / load.networkMinutes },
    throttled_minutes_share: throttledKnown === 0 ? null : aggregate.containers.reduce((sum, each) => sum + each.throttledMinutes, 0) / throttledKnown,
    covered_minutes: load.minutes,
  };
}

/** Usage of one container name, each pod's minutes by themselves. */
export function containerSummary(container: ContainerAggregate): UsageSummary {
  const { minutes } = container;
  return {
    cpu_millicores: minutes === 0 ? null : {
      mean: container.cpuMillicoreMinutes / minutes, p50: atQuantile(container.cpu, 0.5, container.cpuMaxMillicores), p95: atQuantile(container.cpu, 0.95, container.cpuMaxMillicores), p99: atQuantile(container.cpu, 0.99, container.cpuMaxMillicores), max: container.cpuMaxMillicores,
    },
    memory_bytes: minutes === 0 ? null : { mean: (container.memoryKibibyteMinutes * 1024) / minutes, p95: atQuantile(container.memory, 0.95, container.memoryMaxBytes), max: container.memoryMaxBytes },
    network_bytes_per_second: null, throttled_minutes_share: over(container.throttledMinutes, container.throttledKnownMinutes), covered_minutes: minutes,
  };
}

export function requestSummary(aggregate: Aggregate): RequestSummary | null {
  const { requests } = aggregate;
  if (!requests) return null;
  const noise = requests.healthCheck + requests.probe + requests.monitoring + requests.loadBalancer + requests.crawler;
  const all = noise + requests.business;
  return {
    covered_minutes: requests.coveredMinutes, business_minutes: requests.businessMinutes, business: requests.business, health_check: requests.healthCheck, probe: requests.probe, monitoring: requests.monitoring, load_balancer: requests.loadBalancer,
    crawler: requests.crawler, errors: requests.status[4], noise_share: all > 0 ? noise / all : null, business_per_day: requests.coveredMinutes > 0 ? (requests.business / requests.coveredMinutes) * 1440 : null, latency_p95_ms: quantile(requests.latency, 0.95),
  };
}


// ---------------------------------------------------------------- what is worth telling

/** A judgement that moved by less than this is not told again before {@link TELL_AFTER_MS}. */
const PROBABILITY_STEP = 1;
const CONFIDENCE_STEP = 1;
/** Every assessment is told again after this long, so that nobody rests on an old one. */
export const TELL_AFTER_MS = 1_800_000;

type Assessed = AssessmentEvent['assessments'][number];

const moved = (a: number | null, b: number | null, step: number) => (a === null || b === null ? a !== b : Math.abs(a - b) >= step);

function judgementMoved(a: Judgement, b: Judgement): boolean {
  return a.state !== b.state || moved(a.idle_probability, b.idle_probability, PROBABILITY_STEP) || moved(a.confidence, b.confidence, CONFIDENCE_STEP)
    || a.missing.length !== b.missing.length || a.factors.some((factor, i) => (factor.score === null) !== (b.factors[i]?.score === null));
}

/** Whether an assessment says anything that the one before did not. */
export function worthTelling(before: Assessed | null, now: Assessed): boolean {
  if (!before || before.uid !== now.uid || before.time_zone !== now.time_zone || judgementMoved(before.judgement, now.judgement)) return true;
  if (moved(before.pods_mean_idle_probability, now.pods_mean_idle_probability, PROBABILITY_STEP) || moved(before.pods_lowest_confidence, now.pods_lowest_confidence, CONFIDENCE_STEP)) return true;
  if (JSON.stringify(before.idle_periods) !== JSON.stringify(now.idle_periods)) return true;
  const known = new Map(before.pods.map((pod) => [pod.uid, pod]));
  return before.pods.length !== now.pods.length || now.pods.some((pod) => {
    const same = known.get(pod.uid);
    return !same || judgementMoved(same.judgement, pod.judgement);
  });
}
