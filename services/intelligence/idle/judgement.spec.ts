import { DEFAULT_POLICY, judgementSchema, type Factor } from '@upid/contracts';
import fc from 'fast-check';
import { businessActivity, dependencyHealth, resourceEfficiency, temporalPattern, WEIGHTS, type EfficiencyFacts, type RequestFacts } from './factors.js';
import { confidenceOf, idleProbability, judge, knownWeight, missingSentences, NO_SIGNALS, START_MODEL, stateOf, type Evidence, type Signals } from './judgement.js';

const WINDOW = 10_080;
const requests = (more: Partial<RequestFacts> = {}): RequestFacts => ({ coveredMinutes: 10_000, businessMinutes: 0, business: 0, noise: 20_000, ...more });
const efficiency = (more: Partial<EfficiencyFacts> = {}): EfficiencyFacts => ({
  usageMinutes: 10_080, cpuSeconds: 1000, baseline: null, baselineDays: 0, floor: { cpuMillicores: 3, networkBytesPerSecond: 1000 }, rest: { known: 10_000, atRest: 9_900 }, ...more,
});
const factor = (name: Factor['name'], score: number | null): Factor => ({ name, weight: WEIGHTS[name], score, coverage: score === null ? 0 : 1, evidence: 'x' });
const factors = (business: number | null, resource: number | null, temporal: number | null, dependency: number | null): Factor[] => [factor('business_activity', business), factor('resource_efficiency', resource), factor('temporal_pattern', temporal), factor('dependency_health', dependency)];
const plenty: Evidence = { dataPoints: 10_000, requests: 5000, requestMinutes: 10_000, observedHours: 168, consistency: 1 };

describe('business activity', () => {
  it('is the share of watched minutes without a business request', () => {
    expect(businessActivity(requests(), null, WINDOW)).toMatchObject({ score: 100, weight: 0.5, coverage: 10_000 / WINDOW });
    expect(businessActivity(requests({ businessMinutes: 2500, business: 9000 }), null, WINDOW).score).toBe(75);
    expect(businessActivity(requests({ businessMinutes: 10_000, business: 9000 }), null, WINDOW).score).toBe(0);
  });
  it('is unknown, never idle, where nothing was watched', () => {
    expect(businessActivity(null, null, WINDOW)).toMatchObject({ score: null, coverage: 0 });
    expect(businessActivity(requests({ coveredMinutes: 0 }), null, WINDOW).score).toBeNull();
  });
  it('is lowered by a correlation with a business metric, never raised', () => {
    expect(businessActivity(requests(), { lowerBound: 0.4, days: 9 }, WINDOW).score).toBeCloseTo(60);
    expect(businessActivity(requests(), { lowerBound: -0.4, days: 9 }, WINDOW).score).toBe(100);
  });
  it('says what share of the requests was noise', () => {
    expect(businessActivity(requests({ businessMinutes: 1, business: 5000, noise: 15_000 }), { lowerBound: 0.2, days: 8 }, WINDOW).evidence).toMatch(/^Business requests in 1 of 10,000 watched minutes \(5,000 requests\); 75 % of 20,000 requests were health checks.*at least 0\.20 over 8 days/);
    expect(businessActivity(requests({ noise: 0 }), null, WINDOW).evidence).toBe('No business request in 10,000 watched minutes; no request of any kind came.');
  });
});

describe('resource efficiency', () => {
  it('compares business requests a CPU second with the usual', () => {
    const busy = requests({ business: 500, businessMinutes: 400 });
    expect(resourceEfficiency(efficiency({ baseline: 1, baselineDays: 9 }), busy, WINDOW).score).toBe(50);
    expect(resourceEfficiency(efficiency({ baseline: 0.1, baselineDays: 9 }), busy, WINDOW).score).toBe(0);
    expect(resourceEfficiency(efficiency({ baselineDays: 4 }), busy, WINDOW)).toMatchObject({ score: null, evidence: expect.stringMatching(/only 4 days.*7 are needed/) });
    expect(resourceEfficiency(efficiency({ baseline: 1, cpuSeconds: 0 }), busy, WINDOW).score).toBeNull();
  });
  it('without business requests is the share of minutes at rest', () => {
    expect(resourceEfficiency(efficiency(), requests(), WINDOW)).toMatchObject({ score: 99, coverage: 10_000 / WINDOW, evidence: 'At rest (at most 6.0 millicores and 2.0 kB/s) in 99 % of 10,000 minutes.' });
    expect(resourceEfficiency(efficiency({ floor: { cpuMillicores: 3, networkBytesPerSecond: null } }), null, WINDOW).evidence).toMatch(/its network is unknown/);
    expect(resourceEfficiency(efficiency({ rest: { known: 100, atRest: 0 } }), null, WINDOW).score).toBe(0);
  });
  it('is unknown without usage', () => {
    expect(resourceEfficiency(efficiency({ floor: null }), null, WINDOW).score).toBeNull();
    expect(resourceEfficiency(efficiency({ rest: { known: 0, atRest: 0 } }), null, WINDOW).score).toBeNull();
  });
});

describe('temporal pattern', () => {
  const at = (observed: number, expected: number) => temporalPattern({ measure: 'requests', observed, expected, days: 20, coverage: 1 }, 20).score;
  it('follows the ratio of observed to expected', () => {
    expect([at(0, 0), at(1, 0), at(0, 5), at(0.49, 5), at(0.5, 5), at(1.49, 5), at(1.5, 5), at(3.49, 5), at(3.5, 5), at(9, 5)]).toEqual([90, 10, 90, 90, 70, 70, 30, 30, 10, 10]);
  });
  it('is unknown with fewer than seven days of history', () => {
    expect(temporalPattern(null, 3)).toMatchObject({ score: null, evidence: expect.stringMatching(/3 covered days before the window, 7 are needed/) });
    expect(temporalPattern({ measure: 'usage', observed: 2, expected: 4, days: 8, coverage: 0.5 }, 8).evidence).toMatch(/50 % of what 8 days/);
  });
});

describe('dependency health', () => {
  it('is the healthy share, unknown where none is known', () => {
    expect(dependencyHealth(null).score).toBeNull();
    expect(dependencyHealth({ healthy: 0, total: 0 }).score).toBeNull();
    expect(dependencyHealth({ healthy: 1, total: 1 }).evidence).toBe('All of 1 known dependency have ready pods.');
    expect(dependencyHealth({ healthy: 3, total: 4 })).toMatchObject({ score: 75, evidence: '1 of 4 known dependencies have no ready pod.' });
  });
});

describe('the probability', () => {
  it('is the renormalised weighted mean with the start model', () => {
    expect(idleProbability(factors(100, 100, 90, null))).toBeCloseTo((0.5 + 0.3 + 0.135) / 0.95, 9);
    expect(idleProbability(factors(null, 50, null, null))).toBeCloseTo(0.5, 9);
    expect(idleProbability(factors(null, null, null, null))).toBeNull();
    expect(idleProbability(factors(100, 100, 100, 100))).toBeCloseTo(1 - 1e-6, 9);
  });
  const score = fc.option(fc.double({ min: 0, max: 100, noNaN: true }));
  it('lies in 0..1, and never falls when a known factor rises', () => {
    fc.assert(fc.property(score, score, score, score, fc.nat(3), fc.double({ min: 0, max: 100, noNaN: true }), (a, b, c, d, which, more) => {
      const scores = [a, b, c, d];
      const p = idleProbability(factors(a, b, c, d));
      if (p === null) return expect(scores.every((each) => each === null)).toBe(true);
      expect(p).toBeGreaterThan(0);
      expect(p).toBeLessThan(1);
      const raised = scores.map((each, i) => (i === which && each !== null ? Math.min(100, each + more) : each)) as [number, number, number, number];
      expect(idleProbability(factors(...raised)) as number).toBeGreaterThanOrEqual(p - 1e-12);
    }));
  });
  it('drops the terms of unknown factors, and applies the model\'s weights', () => {
    const model = { version: 'm', b: 0.5, a: 2, c: [1, 7, 0, 0] as const };
    const s = 0.8;
    const expected = 1 / (1 + Math.exp(-(0.5 + 2 * Math.log(s / (1 - s)) + 1 * (0.8 - s))));
    expect(idleProbability(factors(80, null, null, null), model)).toBeCloseTo(expected, 12);
  });
});

describe('confidence', () => {
  const base = (dataPoints: number, asked: number, observedHours: number) => confidenceOf({ dataPoints, requests: asked, requestMinutes: 0, observedHours, consistency: 0.5 }, 0);
  it('stands on how much was seen', () => {
    expect([base(1001, 101, 24.1), base(1000, 101, 25), base(1001, 100, 25), base(1001, 101, 24), base(501, 51, 12.1), base(101, 11, 6.1), base(100, 11, 7), base(0, 0, 0)]).toEqual([95, 85, 85, 85, 85, 75, 60, 60]);
  });
  it('counts watched minutes where there are no requests to count', () => {
    expect(confidenceOf({ ...plenty, requests: 0, requestMinutes: 10_000, consistency: 0.5 }, 0)).toBe(95);
  });
  it('rises with alike days, falls with missing weight, stays in 50..99', () => {
    expect(confidenceOf(plenty, 0)).toBe(99);
    expect(confidenceOf({ ...plenty, consistency: 0.6 }, 0.05)).toBe(95);
    expect(confidenceOf({ ...plenty, consistency: 0 }, 0.5)).toBe(65);
    expect(confidenceOf({ dataPoints: 0, requests: 0, requestMinutes: 0, observedHours: 0, consistency: 0 }, 1)).toBe(50);
  });
});

describe('the state', () => {
  const state = (all: Factor[], signals: Partial<Signals> = {}, observedHours = 168) => stateOf(all, idleProbability(all), { ...NO_SIGNALS, ...signals }, observedHours, DEFAULT_POLICY);
  it('is unknown below half of the weight or a day observed', () => {
    expect(state(factors(null, 100, 90, null))).toBe('unknown');
    expect(state(factors(null, 100, 90, 100))).toBe('underused');
    expect(state(factors(100, 100, 90, 100), {}, 23.9)).toBe('unknown');
    expect(state(factors(null, null, null, null))).toBe('unknown');
  });
  it('is constrained before all else that is known', () => {
    expect(state(factors(100, 100, 90, null), { throttledShare: 0.06 })).toBe('constrained');
    expect(state(factors(100, 100, 90, null), { oomKills: 1 })).toBe('constrained');
    expect(state(factors(100, 100, 90, null), { memoryOfLimit: 0.96 })).toBe('constrained');
    expect(state(factors(100, 100, 90, null), { throttledShare: 0.05, memoryOfLimit: 0.95 })).toBe('idle');
  });
  it('is idle from 80 with the business factor known, underused without it or with low peaks, else active', () => {
    expect(state(factors(80, 80, 80, 80))).toBe('idle');
    expect(state(factors(79, 80, 80, 80))).toBe('active');
    expect(state(factors(null, 80, 80, 80))).toBe('underused');
    expect(state(factors(20, 20, 20, 20), { cpuPeakOfRequest: 0.4, memoryPeakOfRequest: 0.4 })).toBe('underused');
    expect(state(factors(20, 20, 20, 20), { cpuPeakOfRequest: 0.4, memoryPeakOfRequest: 0.6 })).toBe('active');
    expect(state(factors(20, 20, 20, 20), { cpuPeakOfRequest: 0.4 })).toBe('underused');
    expect(state(factors(20, 20, 20, 20))).toBe('active');
  });
});

describe('a judgement', () => {
  it('says what is missing while the state is unknown', () => {
    const fresh = judge([businessActivity(null, null, 1440), resourceEfficiency(efficiency({ rest: { known: 6, atRest: 6 } }), null, 1440), temporalPattern(null, 0), dependencyHealth(null)], { dataPoints: 6, requests: 0, requestMinutes: 0, observedHours: 0.1, consistency: 0.5 }, NO_SIGNALS, DEFAULT_POLICY);
    expect(judgementSchema.parse(fresh)).toEqual(fresh);
    expect(fresh).toMatchObject({ state: 'unknown', model_version: START_MODEL.version });
    expect(fresh.confidence).toBe(50);
    expect(fresh.missing[0]).toBe('24 h observed; 0.1 h so far');
    expect(fresh.missing.join(' ')).toMatch(/business activity \(weight 0\.5\): No request telemetry names this workload.*temporal pattern.*dependency health/);
    expect(missingSentences(factors(100, 100, 90, null), 30, DEFAULT_POLICY)).toEqual([]);
    expect(missingSentences(factors(100, 100, 90, null), 12.34, DEFAULT_POLICY)).toEqual(['24 h observed; 12 h so far']);
  });
  it('misses nothing once the state is known', () => {
    const known = judge(factors(100, 100, 90, null), plenty, NO_SIGNALS, DEFAULT_POLICY);
    expect(known).toMatchObject({ state: 'idle', missing: [], confidence: 99 });
    expect(known.idle_probability).toBeCloseTo(98.42, 2);
    expect(knownWeight(known.factors)).toBeCloseTo(0.95);
  });
  it('holds the named policy\'s thresholds', () => {
    const strict = { minimum_observation_hours: 1, idle_probability: 99 };
    expect(judge(factors(100, 100, 90, null), { ...plenty, observedHours: 2 }, NO_SIGNALS, strict).state).toBe('active');
    expect(judge(factors(100, 100, 100, null), { ...plenty, observedHours: 2 }, NO_SIGNALS, strict).state).toBe('idle');
  });
});
