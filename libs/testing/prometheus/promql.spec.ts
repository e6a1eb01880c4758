import fc from 'fast-check';
import { type Labels, PromQlError, durationMs, parsePromQl } from './promql-parser.js';
import { type SeriesDefinition, counterOf, evaluate } from './promql.js';

const MINUTE = 60_000;

/** A series scraped once a minute from time 0 on; null where the scrape read nothing. */
function scraped(name: string, labels: Labels, values: readonly (number | null)[]): SeriesDefinition {
  return { name, labels, valueAt: (seconds) => values[seconds / 60] ?? null };
}

function atMinute(minute: number, query: string, ...series: SeriesDefinition[]): Record<string, number | null> {
  const result = evaluate(query, [minute * MINUTE], { series, scrapeIntervalSeconds: 60 });
  if (result.type === 'scalar') return { scalar: result.values[0] ?? null };
  return Object.fromEntries(result.series.map(({ labels, values }) => [Object.entries(labels).map(([label, value]) => `${label}=${value}`).join(','), values[0] ?? null]));
}

const ramp = (from: number, step: number, count: number) => Array.from({ length: count }, (_, i) => from + i * step);

describe('selectors', () => {
  const series = [
    scraped('cpu', { container: 'app', namespace: 'shop' }, [1, 2, 3]),
    scraped('cpu', { container: '', namespace: 'shop' }, [10, 20, 30]),
    scraped('cpu', { container: 'app', namespace: 'staging' }, [7, null, null, null, null, null, null]),
    scraped('memory', { container: 'app', namespace: 'shop' }, [5, 5, 5]),
  ];
  it.each([
    ['cpu{namespace="shop"}', [3, 30]],
    ['cpu{container!="",namespace=~"shop|stag.*"}', [3]],
    ['cpu{container=""}', [30]],
    ['{__name__=~"cpu|memory", container="app", namespace="shop"}', [3, 5]],
    ['cpu{namespace=~"sho"}', []], // anchored
    ['cpu{absent=""}', [3, 30]],
    ['cpu{namespace!~"s.+"}', []],
    ['cpu offset 1m', [2, 20]],
  ])('%s', (query, values) => {
    expect(Object.values(atMinute(2, query, ...series))).toEqual(values);
  });

  it('takes the last scrape, and none of a series that has gone', () => {
    const query = (seconds: number, query: string) => evaluate(query, [seconds * 1000], { series, scrapeIntervalSeconds: 60 });
    expect(query(59, 'cpu{namespace="staging"}')).toMatchObject({ series: [{ values: [7] }] });
    expect(query(60, 'cpu{namespace="staging"}')).toEqual({ type: 'vector', series: [] });
  });
});

describe('rates', () => {
  it('are exact for a steady counter, wherever the range lies between scrapes', () => {
    fc.assert(fc.property(fc.double({ min: 0.001, max: 1_000, noNaN: true }), fc.integer({ min: 3, max: 30 }), fc.integer({ min: 1_000, max: 5_000 }), (rate, minutes, second) => {
      const steady = { name: 'c', labels: {}, valueAt: (seconds: number) => rate * seconds };
      const [series] = (evaluate(`rate(c[${minutes}m])`, [second * 1000 + minutes * MINUTE], { series: [steady], scrapeIntervalSeconds: 60 }) as { series: { values: number[] }[] }).series;
      expect(series?.values[0]).toBeCloseTo(rate, 9);
    }));
  });

  it('leave out the sample at the left edge and stretch to it', () => {
    // Minutes 6 to 10 are in the range: 4 steps of 8 in 240 s, stretched over 300 s.
    expect(atMinute(10, 'increase(c[5m])', scraped('c', {}, ramp(100, 8, 11)))).toEqual({ '': 40 });
    expect(atMinute(10, 'rate(c[5m])', scraped('c', {}, ramp(100, 8, 11)))).toEqual({ '': 40 / 300 });
  });

  it('count a reset as a start from zero', () => {
    // 30, 40, 0, 10, 20 and 40 before the reset: 20 - 30 + 40 = 30 in 240 s, stretched over 300 s.
    expect(atMinute(6, 'increase(c[5m])', scraped('c', {}, [10, 20, 30, 40, 0, 10, 20]))).toEqual({ '': 37.5 });
  });

  it('stretch by half an interval where samples are missing, and never below zero', () => {
    // Begins at minute 8 with 100: 2 steps of 10 in 120 s, plus 30 s to the left.
    const begins = (first: number) => scraped('c', {}, [...Array<null>(8).fill(null), first, first + 10, first + 20]);
    expect(atMinute(10, 'increase(c[10m])', begins(100))['']).toBeCloseTo(25);
    // Begins at 2: it would have been 0 a fifth of an interval before.
    expect(atMinute(10, 'increase(c[10m])', begins(2))['']).toBeCloseTo(22);
    expect(atMinute(10, 'increase(c[10m])', begins(0))['']).toBeCloseTo(20);
  });

  it('need two samples', () => {
    expect(atMinute(10, 'rate(c[1m])', scraped('c', {}, ramp(0, 1, 11)))).toEqual({});
    expect(atMinute(0, 'rate(c[5m])', scraped('c', {}, ramp(0, 1, 11)))).toEqual({});
  });

  it('of the last two samples alone, and of gauges', () => {
    expect(atMinute(3, 'irate(c[3m])', scraped('c', {}, [0, 0, 60, 180]))).toEqual({ '': 2 });
    expect(atMinute(3, 'irate(c[3m])', scraped('c', {}, [0, 0, 180, 60]))).toEqual({ '': 1 });
    expect(atMinute(4, 'delta(c[4m])', scraped('c', {}, [0, 40, 30, 20, 10]))).toEqual({ '': -40 });
  });
});

describe('functions over time, aggregation and arithmetic', () => {
  const memory = [
    scraped('memory', { namespace: 'shop', pod: 'a', container: 'app' }, [10, 50, 20]),
    scraped('memory', { namespace: 'shop', pod: 'b', container: 'app' }, [30, 5, 30]),
    scraped('memory', { namespace: 'data', pod: 'c', container: 'db' }, [null, 100, 100]),
  ];
  it.each<[string, Record<string, number>]>([
    ['max_over_time(memory{pod="a"}[3m])', { 'namespace=shop,pod=a,container=app': 50 }],
    ['min_over_time(memory{pod="a"}[3m])', { 'namespace=shop,pod=a,container=app': 10 }],
    ['avg_over_time(memory{pod="b"}[2m])', { 'namespace=shop,pod=b,container=app': 17.5 }],
    ['sum_over_time(memory{pod="b"}[1m])', { 'namespace=shop,pod=b,container=app': 30 }],
    ['count_over_time(memory{pod="c"}[1h])', { 'namespace=data,pod=c,container=db': 2 }],
    ['last_over_time(memory{pod="c"}[1h])', { '__name__=memory,namespace=data,pod=c,container=db': 100 }],
    ['sum by (namespace) (memory)', { 'namespace=shop': 50, 'namespace=data': 100 }],
    ['sum(memory) by (namespace)', { 'namespace=shop': 50, 'namespace=data': 100 }],
    ['max without (pod, container) (memory)', { 'namespace=shop': 30, 'namespace=data': 100 }],
    ['avg(memory)', { '': 50 }],
    ['min(memory)', { '': 20 }],
    ['count by (absent) (memory)', { '': 3 }],
    ['sum by (namespace) (max_over_time(memory[2m])) / 10', { 'namespace=shop': 8, 'namespace=data': 10 }],
    ['memory{pod="a"} * 2 + 1', { 'namespace=shop,pod=a,container=app': 41 }],
    ['100 - memory{pod="a"}', { 'namespace=shop,pod=a,container=app': 80 }],
    ['memory > 25', { '__name__=memory,namespace=shop,pod=b,container=app': 30, '__name__=memory,namespace=data,pod=c,container=db': 100 }],
    ['sum by (namespace) (memory) / on (namespace) count by (namespace) (memory)', { 'namespace=shop': 25, 'namespace=data': 100 }],
    ['memory - memory offset 1m', { 'namespace=shop,pod=a,container=app': -30, 'namespace=shop,pod=b,container=app': 25, 'namespace=data,pod=c,container=db': 0 }],
    ['-memory{pod="a"}', { 'namespace=shop,pod=a,container=app': -20 }],
    ['round(memory{pod="a"} / 30, 0.5)', { 'namespace=shop,pod=a,container=app': 0.5 }],
    ['2 * 3 - 4 / 2', { scalar: 4 }],
    ['2 - 1 - 1', { scalar: 0 }],
  ])('%s', (query, expected) => {
    expect(atMinute(2, query, ...memory)).toEqual(expected);
  });

  it('each step of a range stands for itself', () => {
    const result = evaluate('sum(memory)', [0, MINUTE, 2 * MINUTE, 3 * MINUTE], { series: memory, scrapeIntervalSeconds: 60 });
    expect(result).toEqual({ type: 'vector', series: [{ labels: {}, values: [40, 155, 150, null] }] });
  });
});

describe('queries that are refused', () => {
  it.each([
    'rate(c)', 'c[5m]', 'sum(', 'c{a=~"("}', 'c{a}', 'histogram_quantile(0.9, c)', 'max_over_time(rate(c[5m])[1h:1m])', 'topk(3, c)', 'c offset x', 'a * on (x) group_left b', 'c @ 5', '1 > 2', '', '"c', 'c d',
  ])('%s', (query) => {
    expect(() => evaluate(query, [0], { series: [scraped('c', {}, [1])], scrapeIntervalSeconds: 60 })).toThrow(PromQlError);
  });
});

describe('durations', () => {
  it('may have several units', () => {
    expect(durationMs('1h30m')).toBe(5_400_000);
    expect(durationMs('250ms')).toBe(250);
    expect(durationMs('5')).toBeUndefined();
    expect(parsePromQl('c[1d]')).toMatchObject({ rangeMs: 86_400_000 });
  });
});

describe('counters for tests', () => {
  it('grow by their rate, start again where they are reset, and end', () => {
    const valueAt = counterOf((seconds) => (seconds < 120 ? 2 : 1), { fromSeconds: 60, toSeconds: 300, resetsAt: [200] });
    expect([0, 60, 120, 180, 240, 300, 360].map(valueAt)).toEqual([null, 0, 120, 180, 60, 120, null]);
  });
});
