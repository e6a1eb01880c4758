import { HOUR_MS } from '@upid/contracts';
import { coveredMsOf, coveredSince, hoursKnownInFull, wholeHours, type CoveredHour } from './coverage.js';

const t0 = Date.UTC(2026, 0, 5, 10);
const hour = (index: number, over: Partial<CoveredHour> = {}): CoveredHour => ({ hourMs: t0 + index * HOUR_MS, fromMs: t0 + index * HOUR_MS, toMs: t0 + (index + 1) * HOUR_MS, coveredMs: HOUR_MS, uncharged: {}, unpriced: [], ...over });

describe('whole hours', () => {
  it('are those that a range touches, not beyond the hour of now', () => {
    expect(wholeHours({ startMs: t0 + 1, endMs: t0 + HOUR_MS + 1 }, t0 + 9 * HOUR_MS)).toEqual({ startMs: t0, endMs: t0 + 2 * HOUR_MS });
    expect(wholeHours({ startMs: t0, endMs: t0 + 9 * HOUR_MS }, t0 + 90 * 60_000)).toEqual({ startMs: t0, endMs: t0 + 2 * HOUR_MS });
    expect(wholeHours({ startMs: t0, endMs: t0 + HOUR_MS }, t0 + HOUR_MS)).toEqual({ startMs: t0, endMs: t0 + HOUR_MS });
    expect(wholeHours({ startMs: t0 + 5 * HOUR_MS, endMs: t0 + 6 * HOUR_MS }, t0)).toEqual({ startMs: t0 + 5 * HOUR_MS, endMs: t0 + 6 * HOUR_MS });
  });
});

describe('covered time', () => {
  it('counts from a moment on', () => {
    const half = hour(0, { toMs: t0 + HOUR_MS / 2, coveredMs: HOUR_MS / 2 });
    expect([t0 - 1, t0 + HOUR_MS / 4, t0 + HOUR_MS].map((since) => coveredSince(half, since))).toEqual([HOUR_MS / 2, HOUR_MS / 4, 0]);
    expect(coveredMsOf([half, hour(1)], -Infinity)).toBe(1.5 * HOUR_MS);
  });
});

describe('the hours that a rate is told by', () => {
  const bad = hour(2, { uncharged: { 'a/Job/b': 1 } });
  const isUncharged = (each: CoveredHour) => each.uncharged['a/Job/b'] !== undefined;
  it('are all where all pods could be charged', () => expect(hoursKnownInFull([hour(0), hour(1)], isUncharged, () => true)).toHaveLength(2));
  it('are those after the last in which one could not', () => expect(hoursKnownInFull([hour(0), bad, hour(3)], isUncharged, () => true)).toEqual([hour(3)]));
  it('are the others where little follows and they cost something', () => expect(hoursKnownInFull([hour(0), hour(1), bad], isUncharged, () => true)).toEqual([hour(0), hour(1)]));
  it('are none where it ran only in those that are not known', () => expect(hoursKnownInFull([hour(0), hour(1), bad], isUncharged, () => false)).toEqual([]));
});
