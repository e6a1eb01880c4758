import type { Factor } from '@upid/contracts';
import { BASELINE_DAYS, PROFILE_DAYS, type RestingFloor, type RestMinutes, type TemporalFacts } from './activity.js';

/** Weights of the four factors; they sum to 1. */
export const WEIGHTS = { business_activity: 0.5, resource_efficiency: 0.3, temporal_pattern: 0.15, dependency_health: 0.05 } as const;

/** Requests of the window. */
export interface RequestFacts {
  readonly coveredMinutes: number;
  /** Covered minutes with at least one business request. */
  readonly businessMinutes: number;
  readonly business: number;
  /** Health checks, probes, monitoring, load balancers, crawlers. */
  readonly noise: number;
}

/** How business requests and a business metric move together. */
export interface Correlation {
  /** Lower bound of the 95 % interval of the lag-aware rank correlation. */
  readonly lowerBound: number;
  readonly days: number;
}

export interface EfficiencyFacts {
  /** Minutes of the window in which CPU is known. */
  readonly usageMinutes: number;
  readonly cpuSeconds: number;
  /** Median of the days' business requests a CPU second; null with fewer than 7 days. */
  readonly baseline: number | null;
  readonly baselineDays: number;
  readonly floor: RestingFloor | null;
  readonly rest: RestMinutes;
}

export interface DependencyFacts {
  readonly healthy: number;
  readonly total: number;
}

const share = (part: number, whole: number) => (whole > 0 ? Math.min(1, part / whole) : 0);
const percent = (value: number) => `${(value * 100).toFixed(value > 0.995 && value < 1 ? 2 : value < 0.1 && value > 0 ? 1 : 0)} %`;
const count = (value: number) => Math.round(value).toLocaleString('en-US');
const plural = (value: number, one: string, many = `${one}s`) => `${count(value)} ${Math.round(value) === 1 ? one : many}`;
const amount = (value: number) => (value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toPrecision(2));

/**
 * 1. Business activity: 100 × (covered minutes without a business request / covered minutes) × (1 − max(0, lower 95 % bound of r)), r the rank
 * correlation of requests and a business metric where it is known; it can only lower the score. Unknown without request telemetry.
 */
export function businessActivity(requests: RequestFacts | null, correlation: Correlation | null, windowMinutes: number): Factor {
  const head = { name: 'business_activity', weight: WEIGHTS.business_activity } as const;
  if (!requests || requests.coveredMinutes === 0) return { ...head, score: null, coverage: 0, evidence: 'No request telemetry names this workload: whether it does business is unknown.' };
  const tie = Math.max(0, correlation?.lowerBound ?? 0);
  const quiet = (requests.coveredMinutes - requests.businessMinutes) / requests.coveredMinutes;
  const all = requests.business + requests.noise;
  const noise = all > 0 ? `; ${percent(requests.noise / all)} of ${plural(all, 'request')} were health checks, probes, monitoring or crawlers` : '; no request of any kind came';
  const tied = correlation ? ` Requests and the business metric move together (rank correlation at least ${correlation.lowerBound.toFixed(2)} over ${plural(correlation.days, 'day')}).` : '';
  const said = requests.businessMinutes === 0 ? `No business request in ${plural(requests.coveredMinutes, 'watched minute')}` : `Business requests in ${count(requests.businessMinutes)} of ${plural(requests.coveredMinutes, 'watched minute')} (${plural(requests.business, 'request')})`;
  return { ...head, score: 100 * quiet * (1 - tie), coverage: share(requests.coveredMinutes, windowMinutes), evidence: `${said}${noise}.${tied}` };
}

/**
 * 2. Resource efficiency. With business requests: 100 × max(0, 1 − efficiency / baseline), efficiency the business requests a CPU second.
 * Without: 100 × the share of minutes in which CPU and network lie at or below twice the resting floor.
 */
export function resourceEfficiency(facts: EfficiencyFacts, requests: RequestFacts | null, windowMinutes: number): Factor {
  const head = { name: 'resource_efficiency', weight: WEIGHTS.resource_efficiency } as const;
  const unknown = (evidence: string): Factor => ({ ...head, score: null, coverage: 0, evidence });
  const coverage = share(facts.usageMinutes, windowMinutes);
  if (requests && requests.business > 0) {
    if (facts.baseline === null) return unknown(`Business requests came, but only ${plural(facts.baselineDays, 'day')} of them tell what is usual: ${BASELINE_DAYS} are needed.`);
    if (facts.cpuSeconds <= 0) return unknown('Business requests came, but no CPU time is known for them.');
    const efficiency = requests.business / facts.cpuSeconds;
    const ratio = efficiency / facts.baseline;
    return { ...head, score: 100 * Math.max(0, 1 - ratio), coverage, evidence: `${amount(efficiency)} business requests a CPU second, ${percent(ratio)} of the usual ${amount(facts.baseline)} (median of ${plural(facts.baselineDays, 'day')}).` };
  }
  const { floor, rest } = facts;
  if (floor === null || rest.known === 0) return unknown('No usage was observed: what it does at rest is unknown.');
  const atRest = rest.atRest / rest.known;
  const ofNetwork = floor.networkBytesPerSecond === null ? '; its network is unknown' : ` and ${amount((2 * floor.networkBytesPerSecond) / 1000)} kB/s`;
  return { ...head, score: 100 * atRest, coverage: share(rest.known, windowMinutes), evidence: `At rest (at most ${amount(2 * floor.cpuMillicores)} millicores${ofNetwork}) in ${percent(atRest)} of ${plural(rest.known, 'minute')}.` };
}

/**
 * 3. Temporal pattern. Observed against expected activity at the same hours of the week: both at the floor 90, expected there and observed above
 * 10; otherwise by their ratio, below 0.1: 90, below 0.3: 70, below 0.7: 30, else 10.
 */
export function temporalPattern(facts: TemporalFacts | null, historyDays: number): Factor {
  const head = { name: 'temporal_pattern', weight: WEIGHTS.temporal_pattern } as const;
  if (!facts) return { ...head, score: null, coverage: 0, evidence: `What is usual at these hours of the week is unknown: ${plural(historyDays, 'covered day')} before the window, ${PROFILE_DAYS} are needed.` };
  const { observed, expected } = facts;
  const measure = facts.measure === 'requests' ? 'business requests a minute' : 'times the resting floor above it';
  const against = `${plural(facts.days, 'day')} of the same hours of the week`;
  if (expected === 0) {
    return observed === 0
      ? { ...head, score: 90, coverage: facts.coverage, evidence: `As quiet as in ${against}.` }
      : { ...head, score: 10, coverage: facts.coverage, evidence: `Active (${amount(observed)} ${measure}) where ${against} were quiet.` };
  }
  const ratio = observed / expected;
  const score = ratio < 0.1 ? 90 : ratio < 0.3 ? 70 : ratio < 0.7 ? 30 : 10;
  return { ...head, score, coverage: facts.coverage, evidence: `${amount(observed)} ${measure}, ${percent(ratio)} of what ${against} show (${amount(expected)}).` };
}

/** 4. Dependency health: the share of healthy dependencies × 100; unknown where none is known. An unhealthy one means that quiet is not idleness. */
export function dependencyHealth(facts: DependencyFacts | null): Factor {
  const head = { name: 'dependency_health', weight: WEIGHTS.dependency_health } as const;
  if (!facts || facts.total === 0) return { ...head, score: null, coverage: 0, evidence: 'No dependency of this workload is known.' };
  const { healthy, total } = facts;
  return { ...head, score: (100 * healthy) / total, coverage: 1, evidence: healthy === total ? `All of ${plural(total, 'known dependency', 'known dependencies')} have ready pods.` : `${count(total - healthy)} of ${plural(total, 'known dependency', 'known dependencies')} have no ready pod.` };
}
