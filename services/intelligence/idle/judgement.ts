import type { Factor, Judgement, Policy, WorkloadState } from '@upid/contracts';

/** p = σ(b + a·logit(s) + Σ cᵢ·(xᵢ − s)); the weights come from feedback, the version goes with every judgement. */
export interface IdleModel {
  readonly version: string;
  readonly b: number;
  readonly a: number;
  /** By the factors' order: business activity, resource efficiency, temporal pattern, dependency health. */
  readonly c: readonly [number, number, number, number];
}

/** The start: p = s. */
export const START_MODEL: IdleModel = { version: 'start-1', b: 0, a: 1, c: [0, 0, 0, 0] };

/** Everything that the state depends on beside the factors. */
export interface Signals {
  /** Share of minutes (of those where it is known) in which CPU was throttled, the worst container's; null where unknown. */
  readonly throttledShare: number | null;
  /** In 7 days. */
  readonly oomKills: number;
  /** Greatest memory of a container against its limit; null without limits. */
  readonly memoryOfLimit: number | null;
  /** Peak of CPU and of memory against the request, the fullest container's; null where nothing is requested or known. */
  readonly cpuPeakOfRequest: number | null;
  readonly memoryPeakOfRequest: number | null;
}

export const NO_SIGNALS: Signals = { throttledShare: null, oomKills: 0, memoryOfLimit: null, cpuPeakOfRequest: null, memoryPeakOfRequest: null };

/** How much data a judgement rests on. */
export interface Evidence {
  /** Stored one-minute samples in the window. */
  readonly dataPoints: number;
  /** Requests of any class, and covered minutes of request telemetry. */
  readonly requests: number;
  readonly requestMinutes: number;
  /** Hours of the window in which usage is covered. */
  readonly observedHours: number;
  /** Alikeness of the days, 0..1. */
  readonly consistency: number;
}

export const THROTTLED_SHARE = 0.05;
export const MEMORY_OF_LIMIT = 0.95;
export const UNDERUSED_PEAK = 0.5;
export const LEAST_KNOWN_WEIGHT = 0.5;

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/** Weight of the known factors. */
export function knownWeight(factors: readonly Factor[]): number {
  return factors.reduce((sum, factor) => sum + (factor.score === null ? 0 : factor.weight), 0);
}

/** The probability of idleness in 0..1; null where no factor is known. Unknown factors drop out and the weights are renormalised. */
export function idleProbability(factors: readonly Factor[], model: IdleModel = START_MODEL): number | null {
  const known = knownWeight(factors);
  if (known === 0) return null;
  const s = factors.reduce((sum, factor) => sum + (factor.score === null ? 0 : (factor.weight * factor.score) / 100), 0) / known;
  const clipped = Math.min(1 - 1e-6, Math.max(1e-6, s));
  const terms = factors.reduce((sum, factor, i) => sum + (factor.score === null ? 0 : (model.c[i] ?? 0) * (factor.score / 100 - clipped)), 0);
  return sigmoid(model.b + model.a * Math.log(clipped / (1 - clipped)) + terms);
}

/**
 * How sure a judgement is: 95 with more than 1000 data points, 100 requests and 24 hours; 85 with 500, 50, 12; 75 with 100, 10, 6; else 60; then
 * + 20·(c − 0.5) − 40·missing weight, within 50..99. For requests counts what is more, requests or watched minutes: a dead workload has none to count.
 */
export function confidenceOf(evidence: Evidence, missingWeight: number): number {
  const requests = Math.max(evidence.requests, evidence.requestMinutes);
  const more = (points: number, asked: number, hours: number) => evidence.dataPoints > points && requests > asked && evidence.observedHours > hours;
  const base = more(1000, 100, 24) ? 95 : more(500, 50, 12) ? 85 : more(100, 10, 6) ? 75 : 60;
  return Math.min(99, Math.max(50, base + 20 * (evidence.consistency - 0.5) - 40 * missingWeight));
}

/** The first state that holds. */
export function stateOf(factors: readonly Factor[], probability: number | null, signals: Signals, observedHours: number, policy: Pick<Policy, 'minimum_observation_hours' | 'idle_probability'>): WorkloadState {
  // Sums of weights carry rounding of the last digit.
  if (knownWeight(factors) < LEAST_KNOWN_WEIGHT - 1e-9 || observedHours < policy.minimum_observation_hours || probability === null) return 'unknown';
  if ((signals.throttledShare ?? 0) > THROTTLED_SHARE || signals.oomKills > 0 || (signals.memoryOfLimit ?? 0) > MEMORY_OF_LIMIT) return 'constrained';
  const quiet = 100 * probability >= policy.idle_probability;
  const businessKnown = factors.some((factor) => factor.name === 'business_activity' && factor.score !== null);
  if (quiet && businessKnown) return 'idle';
  const peaks = [signals.cpuPeakOfRequest, signals.memoryPeakOfRequest].filter((peak) => peak !== null);
  if ((peaks.length > 0 && peaks.every((peak) => peak < UNDERUSED_PEAK)) || quiet) return 'underused';
  return 'active';
}

const hours = (value: number) => (value >= 10 ? value.toFixed(0) : (Math.floor(value * 10) / 10).toFixed(1));

/** What would have to be known for the state to leave `unknown`. */
export function missingSentences(factors: readonly Factor[], observedHours: number, policy: Pick<Policy, 'minimum_observation_hours'>): string[] {
  const missing: string[] = [];
  if (observedHours < policy.minimum_observation_hours) missing.push(`${policy.minimum_observation_hours} h observed; ${hours(observedHours)} h so far`);
  const known = knownWeight(factors);
  if (known < LEAST_KNOWN_WEIGHT - 1e-9) {
    for (const factor of factors) if (factor.score === null) missing.push(`${factor.name.replace('_', ' ')} (weight ${factor.weight}): ${factor.evidence}`);
  }
  return missing;
}

/** The judgement of a workload or pod from its factors and what they rest on. */
export function judge(factors: readonly Factor[], evidence: Evidence, signals: Signals, policy: Pick<Policy, 'minimum_observation_hours' | 'idle_probability'>, model: IdleModel = START_MODEL): Judgement {
  const probability = idleProbability(factors, model);
  const state = stateOf(factors, probability, signals, evidence.observedHours, policy);
  return {
    state, idle_probability: probability === null ? null : 100 * probability, confidence: confidenceOf(evidence, 1 - knownWeight(factors)), calibrated_confidence: null, factors: [...factors],
    missing: state === 'unknown' ? missingSentences(factors, evidence.observedHours, policy) : [], observed_hours: evidence.observedHours, data_points: evidence.dataPoints, model_version: model.version,
  };
}
