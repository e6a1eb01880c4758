import { Tail, type TailSnapshot } from './tail.js';

/**
 * What gave an anomaly away: a value, a step away from the values just before, the level of the last values together, or a value
 * unusual for the time of day.
 */
export type AnomalySignal = 'value' | 'step' | 'level' | 'season';

export type AnomalySeverity = 'minor' | 'major' | 'critical';

/** Inclusive bounds. */
export interface Range {
  readonly low: number;
  readonly high: number;
}

/** What the detector says of one value. */
export interface Verdict {
  /** -log10 of how often something this unusual is expected; 0 for an ordinary value. Anomalous from 3: once in a thousand values. */
  readonly surprise: number;
  /** The surprise on a scale of 0..1, 0.5 being the threshold. */
  readonly score: number;
  readonly anomalous: boolean;
  /** True where an anomaly begins, or becomes a hundred times as surprising as it was: the moment to tell people. */
  readonly alert: boolean;
  /** The anomaly that goes on, or this value belongs to; null where there is none. */
  readonly anomaly: Anomaly | null;
}

/** A stretch of unusual values. Values less than a hundred samples apart are one anomaly. */
export interface Anomaly {
  readonly startMs: number;
  /** The last anomalous value so far. */
  readonly endMs: number;
  /** When it was most surprising; the following fields describe that moment. */
  readonly peakMs: number;
  readonly surprise: number;
  readonly severity: AnomalySeverity;
  readonly signal: AnomalySignal;
  /** For `level` the mean of the last values, else the value. */
  readonly observed: number;
  /** Where `observed` would not have been anomalous. */
  readonly expected: Range;
}

/** All that a detector knows, in plain numbers that survive JSON (gaps are null); some kilobytes. */
export interface DetectorSnapshot {
  readonly version: 1;
  readonly resolution: number;
  readonly samples: number;
  readonly firstMs: number | null;
  readonly lastMs: number | null;
  readonly step: Moments;
  readonly distance: Moments;
  /** The last values, oldest first, and what the moving means count in their place. */
  readonly window: readonly (readonly [value: number, calm: number])[];
  readonly features: readonly { readonly upper: TailSnapshot; readonly lower: TailSnapshot; readonly moments: Moments }[];
  readonly season: { readonly startMs: number | null; readonly low: Gappy; readonly high: Gappy; readonly lowBefore: Gappy; readonly highBefore: Gappy; readonly pending: readonly Quarter[] };
  readonly held: readonly { readonly sample: number; readonly timeMs: number; readonly value: number; readonly features: Gappy }[];
  readonly alerts: { readonly lastSample: number | null; readonly told: number };
  readonly anomaly: Anomaly | null;
}

type Gappy = readonly (number | null)[];

export interface DetectorOptions {
  /** Differences up to this (units of the values) never matter: the resolution of the meter. Default 0. */
  readonly resolution?: number;
}

interface Moments {
  count: number;
  mean: number;
  /** Mean squared deviation. */
  variance: number;
}

/** Surprise from which a value is anomalous. */
export const anomalyThreshold = 3;
/** From here on a value does not at once become part of what is usual. */
const holdThreshold = 2.25;
/** Samples that a held value waits; samples without anomaly that end one. */
export const quietSamples = 100;
/** Orders of magnitude by which an anomaly must become more surprising to be told again. */
const escalation = 2;
const severities: readonly [number, AnomalySeverity][] = [[7, 'critical'], [4.5, 'major'], [0, 'minor']];
/** Share of a typical step by which a value must pass what has been seen, and least scale of every tail. */
const stepShare = 0.4;
/** Least scale of a tail, as shares of the feature's deviation and of its level. */
const deviationShare = 0.05;
const levelShare = 0.001;
/** Values before this one whose median a step is measured from. */
const recentValues = 6;
/** Lengths of the moving means, samples. */
const levels = [8, 24, 72] as const;
const longestLevel = 72;
/** Moments forget what is older than about so many values. */
const momentMemory = 16_384;
/** A gap this many times the usual distance of samples breaks steps and levels. */
const gapSteps = 12;

const msPerDay = 86_400_000;
const phases = 96;
/** Quarters that must have passed before one counts: its neighbour, and one more for the neighbour of the neighbour. */
const neighbours = 2;
/** The season judges after so long, and remembers the current and the previous stretch of seven days. */
const seasonFromMs = 2 * msPerDay;
const seasonMemoryMs = 7 * msPerDay;

const valueFeature = 0;
const stepFeature = 1;
const firstLevelFeature = 2;
const seasonFeature = firstLevelFeature + levels.length;
const featureCount = seasonFeature + 1;

function signalOf(feature: number): AnomalySignal {
  if (feature === valueFeature) return 'value';
  if (feature === stepFeature) return 'step';
  return feature === seasonFeature ? 'season' : 'level';
}

function include(moments: Moments, value: number): void {
  moments.count = Math.min(moments.count + 1, momentMemory);
  const share = 1 / moments.count;
  const delta = value - moments.mean;
  moments.mean += share * delta;
  moments.variance = (1 - share) * (moments.variance + share * delta * delta);
}

const noMoments = (): Moments => ({ count: 0, mean: 0, variance: 0 });

/** One view of the series, with what it has shown above and below. */
class Feature {
  constructor(readonly upper = new Tail(), readonly lower = new Tail(), readonly moments = noMoments()) {}

  leastScale(floor: number): number {
    return deviationShare * Math.sqrt(this.moments.variance) + levelShare * Math.abs(this.moments.mean) + floor;
  }

  /** `margin` widens what has been seen to either side. */
  surprise(value: number, margin: number, floor: number): number {
    const scale = this.leastScale(floor);
    return Math.max(this.upper.surprise(value - margin, scale), this.lower.surprise(-value - margin, scale));
  }

  expected(margin: number, floor: number): Range {
    const scale = this.leastScale(floor);
    return { low: -this.lower.bound(anomalyThreshold, scale) - margin, high: this.upper.bound(anomalyThreshold, scale) + margin };
  }

  absorb(value: number): void {
    this.upper.add(value);
    this.lower.add(-value);
    include(this.moments, value);
  }
}

/** What a quarter of an hour of one day has shown. */
interface Quarter extends Range {
  /** Quarters since the epoch. */
  readonly number: number;
}

/**
 * For each quarter of an hour of the day the least and the greatest value of the last one to two weeks. A quarter counts only
 * once its neighbours have passed: else what begins at an hour that knows it would spread from quarter to quarter unseen.
 */
class Season {
  low: Float64Array = new Float64Array(phases).fill(Infinity);
  high: Float64Array = new Float64Array(phases).fill(-Infinity);
  lowBefore: Float64Array = new Float64Array(phases).fill(Infinity);
  highBefore: Float64Array = new Float64Array(phases).fill(-Infinity);
  pending: Quarter[] = [];
  startMs = Number.NaN;

  /** What the time of day has shown, its neighbours included; null where nothing is known. */
  range(timeMs: number): Range | null {
    const phase = phaseOf(quarterOf(timeMs));
    let low = Infinity;
    let high = -Infinity;
    for (const near of [phase === 0 ? phases - 1 : phase - 1, phase, phase === phases - 1 ? 0 : phase + 1]) {
      low = Math.min(low, this.low[near]!, this.lowBefore[near]!);
      high = Math.max(high, this.high[near]!, this.highBefore[near]!);
    }
    return low <= high ? { low, high } : null;
  }

  turn(timeMs: number): void {
    const now = quarterOf(timeMs);
    while (this.pending.length > 0 && this.pending[0]!.number + neighbours < now) {
      const { number, low, high } = this.pending.shift()!;
      const phase = phaseOf(number);
      if (low < this.low[phase]!) this.low[phase] = low;
      if (high > this.high[phase]!) this.high[phase] = high;
    }
    if (Number.isNaN(this.startMs)) this.startMs = timeMs;
    if (timeMs - this.startMs <= seasonMemoryMs) return;
    [this.low, this.lowBefore] = [this.lowBefore.fill(Infinity), this.low];
    [this.high, this.highBefore] = [this.highBefore.fill(-Infinity), this.high];
    this.startMs = timeMs;
  }

  absorb(timeMs: number, value: number): void {
    const number = quarterOf(timeMs);
    const last = this.pending[this.pending.length - 1];
    if (last?.number === number) this.pending[this.pending.length - 1] = { number, low: Math.min(last.low, value), high: Math.max(last.high, value) };
    else this.pending.push({ number, low: value, high: value });
  }
}

const quarterOf = (timeMs: number): number => Math.floor((timeMs / msPerDay) * phases);

const phaseOf = (quarter: number): number => ((quarter % phases) + phases) % phases;

function outside(value: number, { low, high }: Range): number {
  return value > high ? value - high : value < low ? value - low : 0;
}

interface Held {
  readonly sample: number;
  readonly timeMs: number;
  readonly value: number;
  readonly features: Float64Array;
}

/** Decides which of a row of surprises are told: the first of an anomaly, and those a hundred times as surprising. */
export class Alerts {
  /** Sample of the last anomalous value. */
  lastSample = -Infinity;
  /** Greatest surprise since the last alert. */
  told = 0;

  constructor(readonly threshold = anomalyThreshold) {}

  take(sample: number, surprise: number): boolean {
    if (surprise < this.threshold) return false;
    const alert = sample - this.lastSample > quietSamples || surprise > this.told + escalation;
    this.told = alert ? surprise : Math.max(this.told, surprise);
    this.lastSample = sample;
    return alert;
  }
}

/**
 * Finds what is unusual in one series, value by value, without looking ahead and with nothing to set.
 *
 * Six views of the series (the value; its step away from the median of the six before; the means of the last 8, 24 and 72; how far
 * it lies outside what its time of day has shown) each have a memory of their upper and lower tail ({@link Tail}); the most
 * surprising view is the verdict. A spike does not count towards the means. A value must pass what was seen by a share of a typical step, so that noise does not count its
 * own records; a step to what is usual at that time of day is no surprise. Values that are far out wait a hundred samples before
 * they become part of what is usual, so that a fault that lasts, or comes again, is still one.
 *
 * Stamps may have gaps and repeat; values that are no finite number are passed over. O(1) amortised a value; about 10 kB.
 */
export class AnomalyDetector {
  private readonly resolution: number;
  private samples = 0;
  private firstMs = Number.NaN;
  private lastMs = Number.NaN;
  /** Absolute differences of neighbouring values. */
  private step = noMoments();
  /** Distances of neighbouring stamps, ms. */
  private distance = noMoments();
  /** The last values since the last gap, in a ring. */
  private readonly window = new Float64Array(longestLevel);
  /** The same with the median of those before it in place of a value that is anomalous by itself: one spike is no level. */
  private readonly calm = new Float64Array(longestLevel);
  private windowSize = 0;
  private windowAt = 0;
  private features = Array.from({ length: featureCount }, () => new Feature());
  private readonly season = new Season();
  private held: Held[] = [];
  private readonly alerts = new Alerts();
  private anomaly: Anomaly | null = null;
  private readonly seen = new Float64Array(featureCount);
  private readonly sorted = new Float64Array(recentValues);

  constructor(options: DetectorOptions = {}) {
    this.resolution = options.resolution ?? 0;
  }

  /** Takes the next value in and judges it by what came before. */
  observe(timeMs: number, value: number): Verdict {
    if (!Number.isFinite(value)) return { surprise: 0, score: 0, anomalous: false, alert: false, anomaly: this.anomaly };
    this.passTime(timeMs);
    const sample = this.samples++;
    const slack = Math.max(stepShare * this.step.mean, this.resolution);
    const usual = timeMs - this.firstMs >= seasonFromMs ? this.season.range(timeMs) : null;
    const middle = this.recentMedian();
    if (this.windowSize > 0) include(this.step, Math.abs(value - this.newest(0)));
    const { seen } = this;
    seen[valueFeature] = value;
    seen[stepFeature] = value - middle;
    seen[seasonFeature] = usual === null ? Number.NaN : outside(value, usual);
    let surprise = 0;
    let from = valueFeature;
    const judge = (i: number): void => {
      if (Number.isNaN(seen[i]!)) return;
      const each = this.features[i]!.surprise(seen[i]!, slack, slack);
      if (each > surprise) {
        surprise = each;
        from = i;
      }
    };
    judge(valueFeature);
    if (seen[seasonFeature] !== 0) judge(stepFeature);
    judge(seasonFeature);
    this.remember(value, surprise >= anomalyThreshold && !Number.isNaN(middle) ? middle : value);
    this.viewLevels();
    for (let i = firstLevelFeature; i < seasonFeature; i++) judge(i);

    const anomalous = surprise >= anomalyThreshold;
    if (this.anomaly && sample - this.alerts.lastSample > quietSamples) this.anomaly = null;
    const alert = this.alerts.take(sample, surprise);
    if (anomalous) this.extend(timeMs, value, surprise, from, slack, middle, usual);
    this.learn(sample, timeMs, value, surprise);
    return { surprise, score: surprise / (surprise + anomalyThreshold), anomalous, alert, anomaly: this.anomaly };
  }

  snapshot(): DetectorSnapshot {
    const gappy = (values: Float64Array): Gappy => Array.from(values, orNull);
    const { season } = this;
    return {
      version: 1,
      resolution: this.resolution,
      samples: this.samples,
      firstMs: orNull(this.firstMs),
      lastMs: orNull(this.lastMs),
      step: { ...this.step },
      distance: { ...this.distance },
      window: Array.from({ length: this.windowSize }, (_, i) => this.place(this.windowSize - 1 - i)).map((at) => [this.window[at]!, this.calm[at]!] as const),
      features: this.features.map(({ upper, lower, moments }) => ({ upper: upper.snapshot(), lower: lower.snapshot(), moments: { ...moments } })),
      season: { startMs: orNull(season.startMs), low: gappy(season.low), high: gappy(season.high), lowBefore: gappy(season.lowBefore), highBefore: gappy(season.highBefore), pending: [...season.pending] },
      held: this.held.map(({ features, ...rest }) => ({ ...rest, features: gappy(features) })),
      alerts: { lastSample: orNull(this.alerts.lastSample), told: this.alerts.told },
      anomaly: this.anomaly,
    };
  }

  /** A detector that goes on exactly where the one of the snapshot stood. */
  static restore(snapshot: DetectorSnapshot): AnomalyDetector {
    const detector = new AnomalyDetector({ resolution: snapshot.resolution });
    const { season } = detector;
    detector.samples = snapshot.samples;
    detector.firstMs = snapshot.firstMs ?? Number.NaN;
    detector.lastMs = snapshot.lastMs ?? Number.NaN;
    detector.step = { ...snapshot.step };
    detector.distance = { ...snapshot.distance };
    for (const [value, calm] of snapshot.window) detector.remember(value, calm);
    detector.features = snapshot.features.map(({ upper, lower, moments }) => new Feature(Tail.restore(upper), Tail.restore(lower), { ...moments }));
    season.startMs = snapshot.season.startMs ?? Number.NaN;
    season.low = filled(snapshot.season.low, Infinity);
    season.high = filled(snapshot.season.high, -Infinity);
    season.lowBefore = filled(snapshot.season.lowBefore, Infinity);
    season.highBefore = filled(snapshot.season.highBefore, -Infinity);
    season.pending = [...snapshot.season.pending];
    detector.held = snapshot.held.map(({ features, ...rest }) => ({ ...rest, features: filled(features, Number.NaN) }));
    detector.alerts.lastSample = snapshot.alerts.lastSample ?? -Infinity;
    detector.alerts.told = snapshot.alerts.told;
    detector.anomaly = snapshot.anomaly;
    return detector;
  }

  private passTime(timeMs: number): void {
    if (Number.isNaN(this.firstMs)) this.firstMs = timeMs;
    const gap = timeMs - this.lastMs;
    if (gap > 0) {
      if (this.distance.count >= recentValues && gap > gapSteps * this.distance.mean) this.windowSize = 0;
      else include(this.distance, gap);
    }
    this.lastMs = timeMs;
    this.season.turn(timeMs);
  }

  /** The value `back` places before the newest. */
  private newest(back: number): number {
    return this.window[this.place(back)]!;
  }

  private place(back: number): number {
    return (this.windowAt - 1 - back + 2 * longestLevel) % longestLevel;
  }

  private remember(value: number, calm: number): void {
    this.window[this.windowAt] = value;
    this.calm[this.windowAt] = calm;
    this.windowAt = (this.windowAt + 1) % longestLevel;
    if (this.windowSize < longestLevel) this.windowSize++;
  }

  /** Median (the upper one of two) of the values before this one; NaN where there is none. */
  private recentMedian(): number {
    const count = Math.min(recentValues, this.windowSize);
    const { sorted } = this;
    for (let i = 0; i < count; i++) {
      const value = this.newest(i);
      let at = i;
      while (at > 0 && sorted[at - 1]! > value) {
        sorted[at] = sorted[at - 1]!;
        at--;
      }
      sorted[at] = value;
    }
    return count === 0 ? Number.NaN : sorted[count >> 1]!;
  }

  /** Puts the moving means into `seen`; NaN where one is not full yet. */
  private viewLevels(): void {
    const { seen } = this;
    let sum = 0;
    let added = 0;
    for (let i = 0; i < levels.length; i++) {
      const length = levels[i]!;
      if (this.windowSize < length) {
        seen[firstLevelFeature + i] = Number.NaN;
        continue;
      }
      for (; added < length; added++) sum += this.calm[this.place(added)]!;
      seen[firstLevelFeature + i] = sum / length;
    }
  }

  private extend(timeMs: number, value: number, surprise: number, from: number, slack: number, middle: number, usual: Range | null): void {
    const goesOn = this.anomaly;
    if (goesOn && surprise <= goesOn.surprise) {
      this.anomaly = { ...goesOn, endMs: Math.max(goesOn.endMs, timeMs) };
      return;
    }
    const signal = signalOf(from);
    const bounds = this.features[from]!.expected(slack, slack);
    const expected = signal === 'step' ? { low: middle + bounds.low, high: middle + bounds.high }
      : signal === 'season' && usual ? { low: usual.low + bounds.low, high: usual.high + bounds.high }
      : bounds;
    this.anomaly = {
      startMs: goesOn?.startMs ?? timeMs,
      endMs: Math.max(goesOn?.endMs ?? timeMs, timeMs),
      peakMs: timeMs,
      surprise,
      severity: severities.find(([least]) => surprise >= least)![1],
      signal,
      observed: signal === 'level' ? this.seen[from]! : value,
      expected,
    };
  }

  /** Makes the value part of what is usual, at once or, where it is far out, after the wait. */
  private learn(sample: number, timeMs: number, value: number, surprise: number): void {
    while (this.held.length > 0 && sample - this.held[0]!.sample >= quietSamples) {
      const waited = this.held.shift()!;
      this.absorb(waited.timeMs, waited.value, waited.features);
    }
    if (surprise >= holdThreshold) this.held.push({ sample, timeMs, value, features: this.seen.slice() });
    else this.absorb(timeMs, value, this.seen);
  }

  private absorb(timeMs: number, value: number, seen: Float64Array): void {
    for (let i = 0; i < featureCount; i++) if (!Number.isNaN(seen[i]!)) this.features[i]!.absorb(seen[i]!);
    this.season.absorb(timeMs, value);
  }
}

function orNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

function filled(values: Gappy, gap: number): Float64Array {
  return Float64Array.from(values, (value) => value ?? gap);
}

/**
 * The anomalies of a whole series, exactly as {@link AnomalyDetector} finds them while it grows. Rows in order of time; gaps and
 * repeated stamps are allowed, values that are no finite number (or null) are passed over. O(n) time.
 */
export function detectAnomalies(timesMs: ArrayLike<number>, values: ArrayLike<number | null>, options: DetectorOptions = {}): Anomaly[] {
  const detector = new AnomalyDetector(options);
  const found: Anomaly[] = [];
  for (let i = 0; i < values.length; i++) {
    const { anomalous, anomaly } = detector.observe(timesMs[i]!, values[i] ?? Number.NaN);
    if (!anomalous || !anomaly) continue;
    if (found.length > 0 && found[found.length - 1]!.startMs === anomaly.startMs) found[found.length - 1] = anomaly;
    else found.push(anomaly);
  }
  return found;
}
