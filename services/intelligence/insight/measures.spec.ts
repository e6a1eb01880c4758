import type { RequestSummary, UsageSummary } from '@upid/contracts';
import { newAggregate, newContainerAggregate } from '../fold/aggregate.js';
import { Zone } from '../idle/zone.js';
import { anomaliesOf, bitsIn, criticalityOf, efficiencyByHour, exhaustionOf, loadShapeOf, meansOf, patternsOf, performanceOf, predictionsOf, trendOf, userImpactScore, type HourLoad, type Series } from './measures.js';

/** Monday 2026-01-05 00:00 UTC. */
const MONDAY = Date.UTC(2026, 0, 5);
const HOUR = 3_600_000;
const hourly = (count: number, of: (hour: number) => number): Series => ({ timesMs: Float64Array.from({ length: count }, (_, h) => MONDAY + h * HOUR), values: Float64Array.from({ length: count }, (_, h) => of(h)) });
/** Noise that is the same every time. */
function noise(i: number): number {
  let mixed = Math.imul(i + 1, 0x6d2b79f5);
  mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
}
const requests = (perDay: number | null): RequestSummary => ({ covered_minutes: 1440, business_minutes: 1, business: 1, health_check: 0, probe: 0, monitoring: 0, load_balancer: 0, crawler: 0, errors: 0, noise_share: null, business_per_day: perDay, latency_p95_ms: null });
const usage = (throttled: number | null): UsageSummary => ({ cpu_millicores: null, memory_bytes: null, network_bytes_per_second: null, throttled_minutes_share: throttled, covered_minutes: 0 });

describe('series of an hour\'s minutes', () => {
  it('are means of what is known', () => {
    const cpu = new Float64Array(60).fill(Number.NaN);
    cpu.set([10, 20], 0);
    cpu[7] = 50;
    const load: HourLoad = { hourMs: MONDAY, load: { cpuMillicores: cpu, memoryBytes: new Float64Array(60), networkBytesPerSecond: new Float64Array(60) } };
    expect([...meansOf([load], 'cpuMillicores', 5).values.subarray(0, 3)]).toEqual([15, 50, Number.NaN]);
    expect([...meansOf([load], 'cpuMillicores', 60).values]).toEqual([80 / 3]);
    expect([...meansOf([load], 'cpuMillicores', 5).timesMs.subarray(0, 2)]).toEqual([MONDAY, MONDAY + 300_000]);
    expect(meansOf([], 'cpuMillicores', 60).values).toHaveLength(0);
  });
  it('stand at their time where hours between them are missing', () => {
    const hour = (h: number, cpu: number): HourLoad => ({ hourMs: MONDAY + h * HOUR, load: { cpuMillicores: new Float64Array(60).fill(cpu), memoryBytes: new Float64Array(60), networkBytesPerSecond: new Float64Array(60) } });
    const { timesMs, values } = meansOf([hour(0, 5), hour(3, 7)], 'cpuMillicores', 60);
    expect([...values]).toEqual([5, Number.NaN, Number.NaN, 7]);
    expect([...timesMs]).toEqual([0, 1, 2, 3].map((h) => MONDAY + h * HOUR));
  });
  it('tell business requests a CPU second by hour', () => {
    const aggregate = newAggregate(MONDAY / 60_000, 120);
    for (let q = 0; q < 4; q++) {
      aggregate.quarters.minutes[q] = 15;
      aggregate.quarters.requestMinutes[q] = 15;
      aggregate.quarters.cpuMillicoreMinutes[q] = 15_000;
      aggregate.quarters.business[q] = 90;
    }
    expect([...efficiencyByHour(aggregate).values]).toEqual([0.1, Number.NaN]);
  });
});

describe('trends', () => {
  it('are told in a word, with the change a week', () => {
    expect(trendOf(hourly(168, (h) => 100 + noise(h)), 'CPU')).toMatchObject({ direction: 'steady', change_percent_per_week: 0 });
    const rising = trendOf(hourly(168, (h) => 100 + h + noise(h)), 'CPU');
    expect(rising.direction).toBe('rising');
    expect(rising.change_percent_per_week).toBeCloseTo(100 * (168 / 184), 0);
    expect(rising.evidence).toMatch(/^CPU is rising by .* %/);
    const shifted = trendOf(hourly(168, (h) => (h < 90 ? 100 : 300) + noise(h)), 'CPU');
    expect(shifted).toMatchObject({ direction: 'shifted', shifted_at: new Date(MONDAY + 90 * HOUR).toISOString() });
    expect(trendOf(hourly(4, () => 1), 'CPU')).toMatchObject({ direction: 'unknown', significance: null });
  });
});

describe('patterns', () => {
  it('are days, weeks and working hours of the zone, with confidence and evidence', () => {
    const daily = hourly(24 * 14, (h) => 100 + 80 * Math.sin((2 * Math.PI * h) / 24) + noise(h));
    expect(patternsOf(daily, Zone.utc)).toMatchObject([{ type: 'daily', period_minutes: 1_440, evidence: expect.stringMatching(/^CPU: Repeats /) as string }]);
    const berlin = Zone.named('Europe/Berlin') as Zone;
    // Winter: 9 to 17 in Berlin are 8 to 16 UTC.
    const office = hourly(24 * 21, (h) => (h % 168 < 120 && h % 24 >= 8 && h % 24 < 16 ? 400 : 20) + noise(h) * 5);
    const found = patternsOf(office, berlin);
    expect(found.map((each) => each.type)).toEqual(expect.arrayContaining(['business_hours']));
    expect(found.every((each) => each.confidence > 0.5 && each.confidence <= 1)).toBe(true);
  });
  it('are not seen in noise, in a constant, or in too little', () => {
    expect(patternsOf(hourly(24 * 14, (h) => noise(h)), Zone.utc)).toEqual([]);
    expect(patternsOf(hourly(24 * 14, () => 5), Zone.utc)).toEqual([]);
    expect(patternsOf(hourly(40, (h) => h % 24), Zone.utc)).toEqual([]);
    expect(patternsOf(hourly(24 * 14, (h) => (h % 2 === 0 ? Number.NaN : noise(h))), Zone.utc)).toEqual([]);
  });
});

describe('what is ahead', () => {
  it('is told for a week, every six hours, with intervals that hold the value', () => {
    const ahead = predictionsOf(hourly(24 * 21, (h) => 100 + 80 * Math.sin((2 * Math.PI * h) / 24) + 5 * noise(h)), 'cpu_millicores') ?? [];
    expect(ahead).toHaveLength(28);
    expect(ahead[0]).toMatchObject({ metric: 'cpu_millicores', at: new Date(MONDAY + (24 * 21 + 5) * HOUR).toISOString() });
    for (const each of ahead) {
      expect([each.low_95, each.low_80, each.value, each.high_80, each.high_95]).toEqual([each.low_95, each.low_80, each.value, each.high_80, each.high_95].sort((a, b) => a - b));
      const hour = (Date.parse(each.at) - MONDAY) / HOUR;
      expect(Math.abs(each.value - (102 + 80 * Math.sin((2 * Math.PI * hour) / 24)))).toBeLessThan(15);
    }
  });
  it('is not told from less than a week', () => {
    expect(predictionsOf(hourly(167, () => 5), 'cpu_millicores')).toBeNull();
  });
  it('says when memory that leaks meets its limit', () => {
    const minutes = (of: (i: number) => number): Series => ({ timesMs: Float64Array.from({ length: 576 }, (_, i) => MONDAY + i * 300_000), values: Float64Array.from({ length: 576 }, (_, i) => of(i)) });
    const leak = minutes((i) => 5e8 + i * 1e6 + 1e5 * noise(i));
    expect(exhaustionOf(leak, 1.2e9)).toMatch(/^Memory rises by 11\.\d MiB an hour and meets its limit in about 1\d hours/);
    expect(exhaustionOf(leak, null)).toBeNull();
    expect(exhaustionOf(minutes((i) => 5e8 + 1e5 * noise(i)), 1.2e9)).toBeNull();
    expect(performanceOf(usage(null), newAggregate(0, 0), null, 0, 'It leaks.')).toMatchObject({ findings: ['It leaks.'], likely_improvement: expect.stringMatching(/leak is to be mended/) });
  });
});

describe('anomalies', () => {
  it('are told with what was usual, the latest first', () => {
    const series: Series = { timesMs: Float64Array.from({ length: 2016 }, (_, i) => MONDAY + i * 300_000), values: Float64Array.from({ length: 2016 }, (_, i) => (i === 1500 ? 5000 : 100 + 10 * noise(i))) };
    const found = anomaliesOf(series, 'cpu_millicores', 'millicores', 1, MONDAY);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({ metric: 'cpu_millicores', type: 'statistical', observed: 5000, start: new Date(MONDAY + 1500 * 300_000).toISOString() });
    expect(found[0]?.evidence).toMatch(/cpu_millicores was 5,000 millicores at .* where .* are usual/);
    expect(anomaliesOf(series, 'cpu_millicores', 'millicores', 1, MONDAY + 1600 * 300_000)).toEqual([]);
  });
});

describe('what hangs on a workload', () => {
  it('is its business requests a day on a log scale', () => {
    expect(userImpactScore(null)).toBeNull();
    expect(userImpactScore(requests(null))).toBeNull();
    expect(userImpactScore(requests(0))).toBe(0);
    expect(userImpactScore(requests(99))).toBe(4);
    expect(userImpactScore(requests(10_000_000))).toBe(10);
    expect(criticalityOf({ 'app.kubernetes.io/component': 'critical' }, null)).toBe('critical');
    expect([requests(99_999), requests(500), requests(2), null].map((each) => criticalityOf({}, each))).toEqual(['high', 'medium', 'low', 'unknown']);
  });
});

describe('performance', () => {
  it('names what slows it down and what would help', () => {
    const aggregate = { ...newAggregate(0, 0), containers: [{ ...newContainerAggregate('app'), restarts: 2 }] };
    const bad = performanceOf(usage(0.2), aggregate, 0.97, 1);
    expect(bad.findings).toEqual(['CPU was throttled in 20.0 % of minutes.', '1 container was killed for want of memory in 7 days.', 'Memory reached 97 % of its limit.', '2 restarts.']);
    expect(bad.likely_improvement).toBe('a higher CPU limit, or none, removes the throttling; a higher memory limit prevents kills.');
    expect(performanceOf(usage(null), newAggregate(0, 0), null, 0)).toEqual({ throttled_minutes_share: null, memory_of_limit_max: null, oom_kills: 0, restarts: 0, findings: [], likely_improvement: null });
  });
});

describe('the shape of the load', () => {
  it('has its peak and low hours of the week and its variability', () => {
    const shape = loadShapeOf(hourly(336, (h) => (h % 168 === 34 ? 500 : h % 168 === 100 ? 1 : 100)), Zone.utc);
    expect(shape).toMatchObject({ peak_hour_of_week: 34, low_hour_of_week: 100 });
    expect(shape.variability).toBeGreaterThan(0.2);
    expect(loadShapeOf(hourly(3, () => Number.NaN), Zone.utc)).toEqual({ peak_hour_of_week: null, low_hour_of_week: null, variability: null });
    expect(loadShapeOf(hourly(5, () => 0), Zone.utc).variability).toBeNull();
  });
  it('counts ones', () => {
    expect([bitsIn(0n), bitsIn(1n), bitsIn((1n << 60n) - 1n)]).toEqual([0, 1, 60]);
  });
});
