import fc from 'fast-check';
import { newQuarters, QUARTER_FIELDS, type LoadMinutes, type Quarters } from '../fold/aggregate.js';
import { fastBucketOf } from '../fold/aggregate.js';
import { baselineEfficiency, consistency, countRest, dailyEfficiencies, idlePeriods, restingFloor, temporalFacts, weekProfile, type RestingFloor, type Timeline } from './activity.js';
import { Zone } from './zone.js';

/** Monday 2026-01-05 00:00 UTC. */
const MONDAY = Date.UTC(2026, 0, 5) / 900_000;
const FLOOR: RestingFloor = { cpuMillicores: 10, networkBytesPerSecond: 1000 };

/** A timeline of `days` from `startQuarter`, each quarter as `of` says. */
function timeline(startQuarter: number, days: number, of: (quarter: number) => Partial<Record<keyof Quarters, number>> | null): Timeline {
  const quarters = newQuarters(days * 96);
  for (let i = 0; i < days * 96; i++) {
    const values = of(startQuarter + i);
    if (values) for (const field of QUARTER_FIELDS) quarters[field][i] = values[field] ?? 0;
  }
  return { startQuarter, quarters };
}
const use = (cpu: number, network = 500) => ({ minutes: 15, cpuMillicoreMinutes: cpu * 15, networkMinutes: 15, networkRateMinutes: network * 15 });
const hourOfDay = (quarter: number) => Math.floor(quarter / 4) % 24;
const dist = (...values: number[]) => {
  const made = new Map<number, number>();
  for (const value of values) made.set(fastBucketOf(value), (made.get(fastBucketOf(value)) ?? 0) + 1);
  return made;
};

describe('the resting floor', () => {
  it('is the 5th percentile of the minutes, never below a millicore and a kilobyte a second', () => {
    const floor = restingFloor(dist(...Array.from({ length: 100 }, (_, i) => 100 + i)), dist(...Array.from({ length: 100 }, (_, i) => 5000 + i)));
    expect(floor?.cpuMillicores).toBeGreaterThan(104 * 0.98);
    expect(floor?.cpuMillicores).toBeLessThan(104 * 1.02);
    expect(floor?.networkBytesPerSecond).toBeGreaterThan(4900);
    expect(restingFloor(dist(0, 0, 0), dist(0, 0))).toEqual({ cpuMillicores: 1, networkBytesPerSecond: 1000 });
    expect(restingFloor(dist(0), dist())).toEqual({ cpuMillicores: 1, networkBytesPerSecond: null });
    expect(restingFloor(dist(), dist())).toBeNull();
  });
  it('counts minutes at or below twice of it, and only those in which both are known', () => {
    const load: LoadMinutes = { cpuMillicores: Float64Array.of(20, 20.1, 5, Number.NaN, 1), memoryBytes: new Float64Array(5), networkBytesPerSecond: Float64Array.of(2000, 0, 2001, 0, Number.NaN) };
    const rest = { known: 0, atRest: 0 };
    countRest(load, FLOOR, rest);
    expect(rest).toEqual({ known: 3, atRest: 1 });
    const byCpu = { known: 0, atRest: 0 };
    countRest(load, { cpuMillicores: 10, networkBytesPerSecond: null }, byCpu);
    expect(byCpu).toEqual({ known: 4, atRest: 3 });
  });
});

describe('what is usual', () => {
  const office = (quarter: number) => (hourOfDay(quarter) >= 9 && hourOfDay(quarter) < 17 ? use(200) : use(8));
  const history = timeline(MONDAY, 14, office);
  const profile = weekProfile(history, MONDAY + 14 * 96, Zone.utc);

  it('is known from seven covered days on', () => {
    expect(profile.usageDays).toBe(14);
    expect(profile.requestDays).toBe(0);
    const short = weekProfile(history, MONDAY + 6 * 96, Zone.utc);
    expect(short.usageDays).toBe(6);
    expect(temporalFacts(history, short, FLOOR, Zone.utc)).toBeNull();
    expect(temporalFacts(history, profile, null, Zone.utc)).toBeNull();
    // Half a day at either end of two weeks counts once.
    expect(weekProfile(timeline(MONDAY + 61, 7, office), MONDAY + 200 * 96, Zone.utc).usageDays).toBe(7);
  });
  it('meets itself', () => {
    const same = temporalFacts(timeline(MONDAY + 14 * 96, 7, office), profile, FLOOR, Zone.utc);
    expect(same?.measure).toBe('usage');
    expect(same?.observed).toBeCloseTo(same?.expected as number, 9);
    expect(same?.coverage).toBe(1);
  });
  it('tells a quiet week, a quiet history, and quiet weekends apart', () => {
    const quiet = temporalFacts(timeline(MONDAY + 14 * 96, 7, () => use(8)), profile, FLOOR, Zone.utc);
    expect(quiet).toMatchObject({ observed: 0 });
    expect(quiet?.expected).toBeGreaterThan(0);
    const calm = weekProfile(timeline(MONDAY, 14, () => use(8)), MONDAY + 14 * 96, Zone.utc);
    expect(temporalFacts(timeline(MONDAY + 14 * 96, 7, office), calm, FLOOR, Zone.utc)).toMatchObject({ expected: 0 });
    expect(temporalFacts(timeline(MONDAY + 14 * 96, 7, () => use(8)), calm, FLOOR, Zone.utc)).toMatchObject({ observed: 0, expected: 0 });
    const night = temporalFacts(timeline(MONDAY + 14 * 96, 7, (q) => (hourOfDay(q) < 6 ? use(8) : null)), profile, FLOOR, Zone.utc);
    expect(night).toMatchObject({ observed: 0, expected: 0, coverage: 0.25 });
  });
  it('goes by network too, and by CPU alone where no network is known', () => {
    const talking = temporalFacts(timeline(MONDAY + 14 * 96, 7, () => use(8, 9000)), profile, FLOOR, Zone.utc);
    expect(talking?.observed).toBeGreaterThan(0);
    const blind = timeline(MONDAY + 14 * 96, 7, () => ({ minutes: 15, cpuMillicoreMinutes: 120 }));
    expect(temporalFacts(blind, profile, FLOOR, Zone.utc)?.observed).toBe(0);
    expect(temporalFacts(timeline(MONDAY + 14 * 96, 7, () => null), profile, FLOOR, Zone.utc)).toBeNull();
  });
  it('goes by business requests where they are watched', () => {
    const busy = (quarter: number) => ({ ...use(8), requestMinutes: 15, businessMinutes: 5, business: hourOfDay(quarter) === 12 ? 30 : 0 });
    const byRequests = weekProfile(timeline(MONDAY, 14, busy), MONDAY + 14 * 96, Zone.utc);
    expect(temporalFacts(timeline(MONDAY + 14 * 96, 7, busy), byRequests, FLOOR, Zone.utc)).toMatchObject({ measure: 'requests', observed: 2 / 24, expected: 2 / 24 });
    expect(temporalFacts(timeline(MONDAY + 14 * 96, 7, () => ({ requestMinutes: 15 })), byRequests, FLOOR, Zone.utc)).toMatchObject({ observed: 0, expected: 2 / 24 });
    // Watched in the past, not now: usage decides.
    expect(temporalFacts(timeline(MONDAY + 14 * 96, 7, () => use(8)), byRequests, FLOOR, Zone.utc)).toMatchObject({ measure: 'usage' });
  });
  it('leaves the window itself out', () => {
    const loud = timeline(MONDAY, 21, (quarter) => (quarter >= MONDAY + 14 * 96 ? use(900) : use(8)));
    expect(temporalFacts(timeline(MONDAY + 14 * 96, 7, () => use(900)), weekProfile(loud, MONDAY + 14 * 96, Zone.utc), FLOOR, Zone.utc)).toMatchObject({ expected: 0 });
  });
});

describe('alikeness of the days', () => {
  it('is 1 for days alike, 0.5 with fewer than two, and low for days that alternate', () => {
    const office = (quarter: number) => (hourOfDay(quarter) >= 9 && hourOfDay(quarter) < 17 ? use(200) : use(8));
    expect(consistency(timeline(MONDAY, 7, office), FLOOR, Zone.utc)).toBe(1);
    expect(consistency(timeline(MONDAY, 1, office), FLOOR, Zone.utc)).toBe(0.5);
    expect(consistency(timeline(MONDAY, 7, () => null), FLOOR, Zone.utc)).toBe(0.5);
    expect(consistency(timeline(MONDAY, 2, (quarter) => (quarter < MONDAY + 96 ? use(200) : use(8))), FLOOR, Zone.utc)).toBe(0);
    // Three days: one against two. The one agrees with none, the two each see one of each.
    expect(consistency(timeline(MONDAY, 3, (quarter) => (quarter < MONDAY + 96 ? use(200) : use(8))), FLOOR, Zone.utc)).toBeCloseTo(1 / 3, 9);
    // Hours that no other day covers are not compared.
    expect(consistency(timeline(MONDAY, 2, (quarter) => (quarter === MONDAY || quarter === MONDAY + 96 + 8 ? use(8) : null)), FLOOR, Zone.utc)).toBe(0.5);
  });
  it('lies in 0..1', () => {
    fc.assert(fc.property(fc.array(fc.boolean(), { minLength: 96, maxLength: 480 }), (flags) => {
      const days = Math.ceil(flags.length / 96);
      const c = consistency(timeline(MONDAY, days, (quarter) => (flags[quarter - MONDAY] ? use(100) : use(5))), FLOOR, Zone.utc);
      expect(c).toBeGreaterThanOrEqual(0);
      expect(c).toBeLessThanOrEqual(1);
    }), { numRuns: 50 });
  });
});

describe('idle periods', () => {
  const worksWeekdays = (quarter: number) => {
    const day = Math.floor((quarter - MONDAY) / 96) % 7;
    return { ...use(8), requestMinutes: 15, business: day < 5 && hourOfDay(quarter) >= 8 && hourOfDay(quarter) < 18 ? 4 : 0 };
  };
  it('are the hours of the week without work, from fourteen covered days on', () => {
    const end = (days: number) => MONDAY + days * 96;
    expect(idlePeriods(timeline(MONDAY, 13, worksWeekdays), end(13), FLOOR, Zone.utc)).toBeNull();
    const periods = idlePeriods(timeline(MONDAY, 21, worksWeekdays), end(21), FLOOR, Zone.utc);
    expect(periods).toEqual([
      { start_hour: 0, end_hour: 8 }, { start_hour: 18, end_hour: 32 }, { start_hour: 42, end_hour: 56 }, { start_hour: 66, end_hour: 80 }, { start_hour: 90, end_hour: 104 }, { start_hour: 114, end_hour: 168 },
    ]);
    expect(idlePeriods(timeline(MONDAY, 21, () => use(8)), end(21), FLOOR, Zone.utc)).toEqual([{ start_hour: 0, end_hour: 168 }]);
    expect(idlePeriods(timeline(MONDAY, 21, () => use(500)), end(21), FLOOR, Zone.utc)).toEqual([]);
    expect(idlePeriods(timeline(MONDAY, 21, () => null), end(21), FLOOR, Zone.utc)).toBeNull();
  });
  it('are told in local hours, zones of half and quarter hours included', () => {
    const kathmandu = Zone.named('Asia/Kathmandu') as Zone; // UTC+5:45
    const nightThere = (quarter: number) => ({ ...use(8), requestMinutes: 15, business: Math.floor((quarter + 23) / 4) % 24 < 6 ? 0 : 9 });
    const periods = idlePeriods(timeline(MONDAY, 28, nightThere), MONDAY + 28 * 96, FLOOR, kathmandu);
    expect(periods).toEqual(Array.from({ length: 7 }, (_, day) => ({ start_hour: day * 24, end_hour: day * 24 + 6 })));
  });
});

describe('the baseline of efficiency', () => {
  it('is the median of the days that have both requests and CPU', () => {
    const days = dailyEfficiencies(timeline(MONDAY, 9, (quarter) => {
      const day = Math.floor((quarter - MONDAY) / 96);
      return day === 8 ? { ...use(100) } : { ...use(100), requestMinutes: 15, businessMinutes: 15, business: (day + 1) * 90 };
    }), Zone.utc);
    // A quarter of 100 millicores is 90 CPU seconds.
    expect(days).toHaveLength(8);
    expect(days.map((each) => Math.round(each))).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(baselineEfficiency(days)).toBeCloseTo(4.5, 9);
    expect(baselineEfficiency(days.slice(0, 7))).toBeCloseTo(4, 9);
    expect(baselineEfficiency(days.slice(0, 6))).toBeNull();
  });
});

describe('zones', () => {
  it('knows names of zones, and says nothing of others', () => {
    expect(Zone.named('Nowhere/Town')).toBeNull();
    expect(Zone.named('Europe/Berlin')).toBe(Zone.named('Europe/Berlin'));
  });
  it('follows the clock over its changes', () => {
    const berlin = Zone.named('Europe/Berlin') as Zone;
    const local = (text: string) => berlin.localQuarter(Date.parse(text) / 900_000) - Date.parse(text) / 900_000;
    expect(local('2026-01-05T00:00:00Z')).toBe(4);
    expect(local('2026-07-05T00:00:00Z')).toBe(8);
    expect(local('2026-03-29T00:45:00Z')).toBe(4);
    expect(local('2026-03-29T01:00:00Z')).toBe(8);
    expect(Zone.utc.quarterOfWeek(MONDAY)).toBe(0);
    expect(berlin.quarterOfWeek(MONDAY - 4)).toBe(0);
    expect(Zone.utc.quarterOfWeek(-1)).toBe(3 * 96 - 1);
  });
});
