/**
 * Evaluates PromQL over series that are functions of time, as Prometheus 3 does over what it has scraped: instant selectors
 * take the last scrape within 5 minutes, ranges are open on the left, and rate() and increase() extrapolate to the range's
 * edges (promql/functions.go, extrapolatedRate).
 */
import { type BinaryOperator, type Expression, type Labels, type Matcher, PromQlError, type Selector, parsePromQl } from './promql-parser.js';

/** One series: what a scrape at a given time would have read. */
export interface SeriesDefinition {
  name: string;
  labels: Labels;
  /** @param unixSeconds a multiple of the scrape interval. @returns null when there is nothing to scrape (the series is stale) */
  valueAt: (unixSeconds: number) => number | null;
}

/** Values at each step of a query; null where there is none. */
export interface ResultSeries {
  labels: Labels;
  values: (number | null)[];
}

export type Result = { type: 'scalar'; values: number[] } | { type: 'vector'; series: ResultSeries[] };

export interface Source {
  series: readonly SeriesDefinition[];
  scrapeIntervalSeconds: number;
}

const LOOKBACK_MS = 5 * 60_000;

/**
 * @param stepsMs Unix times in ms at which the query is evaluated, ascending
 * @throws {PromQlError}
 */
export function evaluate(query: string, stepsMs: readonly number[], source: Source): Result {
  return new Evaluation(stepsMs, source).of(parsePromQl(query));
}

/** The series that a selector picks. */
export function select(matchers: readonly Matcher[], series: readonly SeriesDefinition[]): SeriesDefinition[] {
  const tests = matchers.map(({ label, operator, value }) => {
    const pattern = operator.endsWith('~') ? anchored(value) : undefined;
    const wanted = operator === '=' || operator === '=~';
    return (one: SeriesDefinition) => {
      const actual = label === '__name__' ? one.name : one.labels[label] ?? '';
      return (pattern === undefined ? actual === value : pattern.test(actual)) === wanted;
    };
  });
  return series.filter((one) => tests.every((test) => test(one)));
}

function anchored(pattern: string): RegExp {
  try {
    return new RegExp(`^(?:${pattern})$`, 's');
  } catch (cause) {
    throw new PromQlError(`${pattern} is no regular expression`, { cause });
  }
}

/** Samples of one series in a window, times in ms ascending. */
interface Window {
  times: readonly number[];
  values: readonly number[];
  /** First index in the window and first after it. */
  from: number;
  to: number;
  startMs: number;
  endMs: number;
}

type RangeFunction = (window: Window) => number | null;

const RANGE_FUNCTIONS: Record<string, RangeFunction> = {
  rate: (window) => extrapolated(window, { counter: true, perSecond: true }),
  increase: (window) => extrapolated(window, { counter: true, perSecond: false }),
  delta: (window) => extrapolated(window, { counter: false, perSecond: false }),
  irate: ({ times, values, from, to }) => {
    if (to - from < 2) return null;
    const [before, last] = [values[to - 2] ?? 0, values[to - 1] ?? 0];
    return (last < before ? last : last - before) / (((times[to - 1] ?? 0) - (times[to - 2] ?? 0)) / 1000);
  },
  avg_over_time: overTime((values) => sum(values) / values.length),
  sum_over_time: overTime(sum),
  min_over_time: overTime((values) => Math.min(...values)),
  max_over_time: overTime((values) => Math.max(...values)),
  count_over_time: overTime((values) => values.length),
  last_over_time: overTime((values) => values.at(-1) ?? 0),
};

function overTime(reduce: (values: readonly number[]) => number): RangeFunction {
  return ({ values, from, to }) => (to === from ? null : reduce(values.slice(from, to)));
}

/** Prometheus' extrapolatedRate: the growth between the first and the last sample, stretched to the edges of the range. */
function extrapolated({ times, values, from, to, startMs, endMs }: Window, { counter, perSecond }: { counter: boolean; perSecond: boolean }): number | null {
  if (to - from < 2) return null;
  const [first, last] = [values[from] ?? 0, values[to - 1] ?? 0];
  const [firstMs, lastMs] = [times[from] ?? 0, times[to - 1] ?? 0];
  let growth = last - first;
  for (let i = from + 1; counter && i < to; i++) {
    const before = values[i - 1] ?? 0;
    if ((values[i] ?? 0) < before) growth += before; // the counter was reset
  }
  const sampledMs = lastMs - firstMs;
  const betweenMs = sampledMs / (to - from - 1);
  // Where samples are missing at an edge the series is taken to begin or end half an interval away.
  let toStartMs = firstMs - startMs >= betweenMs * 1.1 ? betweenMs / 2 : firstMs - startMs;
  const toEndMs = endMs - lastMs >= betweenMs * 1.1 ? betweenMs / 2 : endMs - lastMs;
  // A counter was never below zero.
  if (counter && growth > 0 && first >= 0) toStartMs = Math.min(toStartMs, sampledMs * (first / growth));
  const factor = (sampledMs + toStartMs + toEndMs) / sampledMs;
  return (growth * factor) / (perSecond ? (endMs - startMs) / 1000 : 1);
}

const INSTANT_FUNCTIONS: Record<string, (value: number, ...parameters: number[]) => number> = {
  abs: Math.abs,
  ceil: Math.ceil,
  floor: Math.floor,
  round: (value, to = 1) => Math.round(value / to) * to,
  clamp_min: (value, least = 0) => Math.max(value, least),
  clamp_max: (value, most = 0) => Math.min(value, most),
};

const AGGREGATES: Record<string, (values: readonly number[]) => number> = {
  sum,
  avg: (values) => sum(values) / values.length,
  min: (values) => Math.min(...values),
  max: (values) => Math.max(...values),
  count: (values) => values.length,
};

const ARITHMETIC: Partial<Record<BinaryOperator, (left: number, right: number) => number>> = {
  '+': (left, right) => left + right,
  '-': (left, right) => left - right,
  '*': (left, right) => left * right,
  '/': (left, right) => left / right,
};
const COMPARISON: Partial<Record<BinaryOperator, (left: number, right: number) => boolean>> = {
  '==': (left, right) => left === right,
  '!=': (left, right) => left !== right,
  '>=': (left, right) => left >= right,
  '<=': (left, right) => left <= right,
  '>': (left, right) => left > right,
  '<': (left, right) => left < right,
};

class Evaluation {
  constructor(readonly stepsMs: readonly number[], readonly source: Source) {}

  of(expression: Expression): Result {
    switch (expression.type) {
      case 'number': return { type: 'scalar', values: this.stepsMs.map(() => expression.value) };
      case 'selector': return this.#instant(expression);
      case 'call': return this.#call(expression.name, expression.args);
      case 'aggregation': return this.#aggregate(expression);
      case 'binary': return this.#binary(expression);
    }
  }

  #vector(expression: Expression, of: string): ResultSeries[] {
    const result = this.of(expression);
    if (result.type === 'scalar') throw new PromQlError(`${of} wants an instant vector, not a scalar`);
    return result.series;
  }

  #instant(selector: Selector): Result {
    if (selector.rangeMs !== null) throw new PromQlError('a range vector stands where an instant vector is wanted');
    const intervalMs = this.source.scrapeIntervalSeconds * 1000;
    const series = select(selector.matchers, this.source.series).map((one) => ({
      labels: { __name__: one.name, ...one.labels },
      values: this.stepsMs.map((stepMs) => {
        const atMs = stepMs - selector.offsetMs;
        const scrapeMs = Math.floor(atMs / intervalMs) * intervalMs;
        // A scrape that reads nothing marks the series stale, so that no older one is looked for.
        return atMs - scrapeMs < LOOKBACK_MS ? one.valueAt(scrapeMs / 1000) : null;
      }),
    }));
    return { type: 'vector', series: present(series) };
  }

  #call(name: string, args: Expression[]): Result {
    const range = RANGE_FUNCTIONS[name];
    const [first, ...rest] = args;
    if (first === undefined) throw new PromQlError(`${name}() without arguments is unknown to the Prometheus for tests`);
    if (range !== undefined) {
      if (first.type !== 'selector' || first.rangeMs === null || rest.length > 0) throw new PromQlError(`${name}() wants one range vector`);
      return { type: 'vector', series: present(this.#overRange(first, first.rangeMs, range, name === 'last_over_time')) };
    }
    const instant = INSTANT_FUNCTIONS[name];
    if (instant === undefined) throw new PromQlError(`${name}() is unknown to the Prometheus for tests`);
    const parameters = rest.map((one) => {
      if (one.type !== 'number') throw new PromQlError(`${name}() wants numbers after its first argument`);
      return one.value;
    });
    const series = this.#vector(first, `${name}()`).map(({ labels, values }) => ({ labels: withoutName(labels), values: values.map((value) => (value === null ? null : instant(value, ...parameters))) }));
    return { type: 'vector', series };
  }

  #overRange(selector: Selector, rangeMs: number, reduce: RangeFunction, keepName: boolean): ResultSeries[] {
    const intervalMs = this.source.scrapeIntervalSeconds * 1000;
    const firstStepMs = (this.stepsMs[0] ?? 0) - selector.offsetMs;
    const lastStepMs = (this.stepsMs.at(-1) ?? 0) - selector.offsetMs;
    return select(selector.matchers, this.source.series).map((one) => {
      const times: number[] = [];
      const values: number[] = [];
      for (let atMs = Math.ceil((firstStepMs - rangeMs) / intervalMs) * intervalMs; atMs <= lastStepMs; atMs += intervalMs) {
        const value = one.valueAt(atMs / 1000);
        if (value === null) continue;
        times.push(atMs);
        values.push(value);
      }
      let from = 0;
      let to = 0;
      const results = this.stepsMs.map((stepMs) => {
        const endMs = stepMs - selector.offsetMs;
        const startMs = endMs - rangeMs;
        while (to < times.length && (times[to] ?? 0) <= endMs) to++;
        while (from < to && (times[from] ?? 0) <= startMs) from++;
        return reduce({ times, values, from, to, startMs, endMs });
      });
      return { labels: keepName ? { __name__: one.name, ...one.labels } : { ...one.labels }, values: results };
    });
  }

  #aggregate({ operator, grouping, expression }: Extract<Expression, { type: 'aggregation' }>): Result {
    const reduce = AGGREGATES[operator];
    if (reduce === undefined) throw new PromQlError(`${operator} is unknown to the Prometheus for tests`);
    const groups = new Map<string, { labels: Labels; members: ResultSeries[] }>();
    for (const member of this.#vector(expression, operator)) {
      const labels = grouping === null ? {} : grouping.by ? only(member.labels, grouping.labels) : except(member.labels, ['__name__', ...grouping.labels]);
      const group = groups.get(keyOf(labels)) ?? { labels, members: [] };
      group.members.push(member);
      groups.set(keyOf(labels), group);
    }
    const series = [...groups.values()].map(({ labels, members }) => ({
      labels,
      values: this.stepsMs.map((_, step) => {
        const values = members.flatMap((member) => member.values[step] ?? []);
        return values.length === 0 ? null : reduce(values);
      }),
    }));
    return { type: 'vector', series };
  }

  #binary({ operator, matching, left: leftSide, right: rightSide }: Extract<Expression, { type: 'binary' }>): Result {
    const [left, right] = [this.of(leftSide), this.of(rightSide)];
    const arithmetic = ARITHMETIC[operator];
    const comparison = COMPARISON[operator];
    /** A comparison keeps the value of the vector's side. */
    const combine = (a: number | null, b: number | null, kept: number | null) => {
      if (a === null || b === null) return null;
      return arithmetic ? arithmetic(a, b) : comparison?.(a, b) ? kept : null;
    };
    const labelsOf = (labels: Labels) => (arithmetic ? withoutName(labels) : labels);
    if (left.type === 'scalar' && right.type === 'scalar') {
      if (arithmetic === undefined) throw new PromQlError('comparisons between scalars must use bool, which the Prometheus for tests does not know');
      return { type: 'scalar', values: left.values.map((value, step) => arithmetic(value, right.values[step] ?? NaN)) };
    }
    if (left.type === 'vector' && right.type === 'scalar') {
      return { type: 'vector', series: present(left.series.map(({ labels, values }) => ({ labels: labelsOf(labels), values: values.map((value, step) => combine(value, right.values[step] ?? NaN, value)) }))) };
    }
    if (left.type === 'scalar' && right.type === 'vector') {
      return { type: 'vector', series: present(right.series.map(({ labels, values }) => ({ labels: labelsOf(labels), values: values.map((value, step) => combine(left.values[step] ?? NaN, value, value)) }))) };
    }
    if (left.type !== 'vector' || right.type !== 'vector') throw new PromQlError('unreachable');
    const signature = (labels: Labels) => keyOf(matching === null ? withoutName(labels) : matching.on ? only(labels, matching.labels) : except(labels, ['__name__', ...matching.labels]));
    const partners = new Map<string, ResultSeries>();
    for (const one of right.series) {
      if (partners.has(signature(one.labels))) throw new PromQlError(`found duplicate series for the match group ${signature(one.labels)} on the right side`);
      partners.set(signature(one.labels), one);
    }
    const series = left.series.flatMap((one) => {
      const partner = partners.get(signature(one.labels));
      if (partner === undefined) return [];
      const labels = arithmetic && matching !== null ? (matching.on ? only(one.labels, matching.labels) : except(one.labels, ['__name__', ...matching.labels])) : labelsOf(one.labels);
      return [{ labels, values: one.values.map((value, step) => combine(value, partner.values[step] ?? null, value)) }];
    });
    return { type: 'vector', series: present(series) };
  }
}

/** Series with no value at any step are no part of a result. */
function present(series: readonly ResultSeries[]): ResultSeries[] {
  return series.filter(({ values }) => values.some((value) => value !== null));
}

function only(labels: Labels, names: readonly string[]): Labels {
  return Object.fromEntries(names.flatMap((name) => (labels[name] === undefined || labels[name] === '' ? [] : [[name, labels[name]]])));
}

function except(labels: Labels, names: readonly string[]): Labels {
  return Object.fromEntries(Object.entries(labels).filter(([name]) => !names.includes(name)));
}

function withoutName(labels: Labels): Labels {
  return except(labels, ['__name__']);
}

function keyOf(labels: Labels): string {
  return JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/**
 * What a counter reads that grows by a rate: for `valueAt` of a {@link SeriesDefinition}.
 * @param rate units a second at a Unix time in seconds
 * @param resetsAt Unix seconds at which it starts again from 0 (a container that restarts)
 * @returns null outside [fromSeconds, toSeconds]
 */
export function counterOf(
  rate: (unixSeconds: number) => number,
  { fromSeconds, toSeconds, intervalSeconds = 60, resetsAt = [] }: { fromSeconds: number; toSeconds: number; intervalSeconds?: number; resetsAt?: readonly number[] },
): (unixSeconds: number) => number | null {
  const totals = new Float64Array(Math.max(1, Math.floor((toSeconds - fromSeconds) / intervalSeconds) + 1));
  for (let i = 1; i < totals.length; i++) {
    const startsAt = fromSeconds + (i - 1) * intervalSeconds;
    const reset = resetsAt.some((at) => at > startsAt && at <= startsAt + intervalSeconds);
    totals[i] = (reset ? 0 : totals[i - 1] ?? 0) + rate(startsAt) * intervalSeconds;
  }
  return (unixSeconds) => {
    if (unixSeconds < fromSeconds || unixSeconds > toSeconds) return null;
    return totals[Math.floor((unixSeconds - fromSeconds) / intervalSeconds)] ?? null;
  };
}
