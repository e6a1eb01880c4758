import fc from 'fast-check';
import { uniforms } from '@upid/testing/random';
import { Alerts, AnomalyDetector, anomalyThreshold, detectAnomalies, quietSamples, type DetectorSnapshot, type Verdict } from './detector.js';
import { Tail, type TailSnapshot } from './tail.js';

function gaussians(seed: number, length: number, phi = 0): number[] {
  const uniform = uniforms(seed);
  let value = 0;
  return Array.from({ length }, () => (value = phi * value + Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform())));
}

const startMs = Date.UTC(2026, 0, 5);
const stepMs = 300_000;
const perDay = 288;
const times = (length: number, step = stepMs): number[] => Array.from({ length }, (_, i) => startMs + i * step);

function verdicts(values: readonly number[], timesMs = times(values.length)): Verdict[] {
  const detector = new AnomalyDetector();
  return values.map((value, i) => detector.observe(timesMs[i]!, value));
}

const alertsOf = (all: readonly Verdict[]): number[] => [...all.keys()].filter((i) => all[i]!.alert);

/** Busy from 8 to 18 h. */
const workday = (i: number): number => (i % perDay >= 96 && i % perDay < 216 ? 80 : 20);

describe('the memory of a tail', () => {
  const values = fc.array(fc.double({ min: -1e3, max: 1e3, noNaN: true }), { minLength: 30, maxLength: 300 });

  it('finds a greater value at least as surprising', () => {
    fc.assert(fc.property(values, fc.double({ min: -2e3, max: 2e3, noNaN: true }), fc.double({ min: 0, max: 1e3, noNaN: true }), (seen, value, more) => {
      const tail = new Tail();
      for (const each of seen) tail.add(each);
      expect(tail.surprise(value + more, 1)).toBeGreaterThanOrEqual(tail.surprise(value, 1));
    }));
  });

  it('knows the value at which a surprise begins', () => {
    fc.assert(fc.property(values, fc.double({ min: 1, max: 8, noNaN: true }), (seen, surprise) => {
      const tail = new Tail();
      for (const each of seen) tail.add(each);
      const bound = tail.bound(surprise, 1);
      if (bound > Math.max(...seen)) expect(tail.surprise(bound, 1)).toBeCloseTo(surprise, 6);
      expect(tail.surprise(bound + 1e-6 * (1 + Math.abs(bound)), 1)).toBeGreaterThanOrEqual(Math.min(surprise, 1));
    }));
  });

  it('is right about how rare a value is, for light and for heavy tails', () => {
    const uniform = uniforms(7);
    const draws: [string, () => number][] = [
      ['uniform', uniform],
      ['exponential', () => -Math.log(1 - uniform())],
      ['lognormal', () => Math.exp(Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()))],
    ];
    for (const [, draw] of draws) {
      let surprising = 0;
      const rounds = 40;
      for (let round = 0; round < rounds; round++) {
        const tail = new Tail();
        for (let i = 0; i < 3000; i++) {
          const value = draw();
          if (i >= 1000 && tail.surprise(value, 0) >= 3) surprising++;
          tail.add(value);
        }
      }
      const share = surprising / (rounds * 2000);
      expect(share).toBeGreaterThan(0.0003);
      expect(share).toBeLessThan(0.002);
    }
  });

  it('says nothing before it has seen enough', () => {
    const tail = new Tail();
    for (let i = 0; i < 23; i++) tail.add(0);
    expect(tail.surprise(1e9, 1)).toBe(0);
    expect(tail.bound(3, 1)).toBe(Infinity);
    tail.add(0);
    expect(tail.surprise(1e9, 1)).toBeGreaterThan(5);
  });

  it('forgets what is two generations old', () => {
    const tail = new Tail();
    tail.add(1000);
    for (let i = 0; i < 8000; i++) tail.add(i % 10);
    expect(tail.surprise(500, 1)).toBeLessThan(4);
    for (let i = 0; i < 20_000; i++) tail.add(i % 10);
    expect(tail.surprise(500, 1)).toBeGreaterThan(4);
    expect(tail.count).toBeLessThanOrEqual(2 * 8192);
  });

  it('goes on from a snapshot', () => {
    fc.assert(fc.property(values, values, (before, after) => {
      const tail = new Tail();
      for (const each of before) tail.add(each);
      const restored = Tail.restore(JSON.parse(JSON.stringify(tail.snapshot())) as TailSnapshot);
      for (const each of after) {
        expect(restored.surprise(each, 0.1)).toBe(tail.surprise(each, 0.1));
        tail.add(each);
        restored.add(each);
      }
    }));
  });
});

describe('the detector', () => {
  it('does not look ahead: what comes later changes no verdict', () => {
    const whole = gaussians(3, 900).map((value, i) => value + (i === 500 ? 30 : 0));
    const short = verdicts(whole.slice(0, 600));
    expect(verdicts([...whole.slice(0, 600), ...whole.slice(600).map(() => 1e6)]).slice(0, 600)).toEqual(short);
  });

  it('finds the same whatever the unit', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: -30, max: 30 }), (seed, power) => {
      const values = gaussians(seed, 400).map((value, i) => 10 + value + (i === 300 ? 15 : 0));
      const scaled = verdicts(values.map((value) => value * 2 ** power));
      expect(scaled.map(({ surprise }) => surprise)).toEqual(verdicts(values).map(({ surprise }) => surprise));
    }), { numRuns: 20 });
  });

  it('goes on exactly from a snapshot that went through JSON', () => {
    const values = gaussians(5, 1500, 0.5).map((value, i) => 20 + value + workday(i) + (i > 1000 && i < 1010 ? 90 : 0));
    const timesMs = times(values.length);
    for (const cut of [0, 1, 40, 700, 1005, 1300]) {
      const detector = new AnomalyDetector({ resolution: 0.01 });
      for (let i = 0; i < cut; i++) detector.observe(timesMs[i]!, values[i]!);
      const restored = AnomalyDetector.restore(JSON.parse(JSON.stringify(detector.snapshot())) as DetectorSnapshot);
      for (let i = cut; i < values.length; i++) expect(restored.observe(timesMs[i]!, values[i]!)).toEqual(detector.observe(timesMs[i]!, values[i]!));
    }
  });

  it('is quiet on what is usual', () => {
    const days = 14 * perDay;
    expect(alertsOf(verdicts(Array<number>(days).fill(0)))).toEqual([]);
    expect(alertsOf(verdicts(Array<number>(days).fill(42)))).toEqual([]);
    const daily = verdicts(gaussians(2, days).map((value, i) => workday(i) + value));
    expect(alertsOf(daily).filter((i) => i > 3 * perDay).length).toBeLessThanOrEqual(4);
    expect(alertsOf(verdicts(times(days).map((_, i) => workday(i)))).filter((i) => i > perDay)).toEqual([]);
  });

  it.each([[0, 1000], [0.5, 700], [0.9, 400]])('raises fewer false alarms on noise with an autocorrelation of %d than one in %d values', (phi, rarity) => {
    let alerts = 0;
    for (let seed = 1; seed <= 5; seed++) alerts += alertsOf(verdicts(gaussians(seed * 31, 3000, phi).map((value) => 100 + value))).length;
    expect(alerts / 15_000).toBeLessThan(1 / rarity);
  });

  it('finds a spike at once, with where it should have been', () => {
    const values = gaussians(1, 600).map((value, i) => 50 + value + (i === 500 ? 40 : 0));
    const { anomaly, alert, score } = verdicts(values)[500]!;
    expect(alert).toBe(true);
    expect(score).toBeGreaterThan(0.5);
    expect(anomaly).toMatchObject({ startMs: startMs + 500 * stepMs, peakMs: startMs + 500 * stepMs, severity: 'critical', observed: values[500] });
    expect(anomaly!.expected.high).toBeGreaterThan(50);
    expect(anomaly!.expected.high).toBeLessThan(60);
    expect(anomaly!.expected.low).toBeLessThan(50);
  });

  it('finds a drop as it finds a spike', () => {
    const up = gaussians(8, 600).map((value, i) => value + (i === 500 ? 40 : 0));
    expect(alertsOf(verdicts(up.map((value) => -value)))).toEqual(alertsOf(verdicts(up)));
  });

  it('finds a level that moves by too little for any single value to tell', () => {
    const values = gaussians(4, 2000).map((value, i) => 100 + 5 * value + (i >= 1500 ? 9 : 0));
    const alerts = alertsOf(verdicts(values)).filter((i) => i >= 1500);
    expect(alerts[0]).toBeLessThan(1530);
    expect(verdicts(values)[alerts[0]!]!.anomaly!.signal).toBe('level');
  });

  it('finds the workday that did not happen, and the night that was busy', () => {
    const noise = gaussians(6, 12 * perDay);
    const quiet = detectAnomalies(times(noise.length), noise.map((value, i) => value + (i >= 10 * perDay && i < 11 * perDay ? 20 : workday(i))));
    const openedMs = startMs + (10 * perDay + 96) * stepMs;
    const seen = quiet.find(({ startMs: from, endMs }) => from <= openedMs + 12 * stepMs && endMs >= openedMs)!;
    expect(seen).toMatchObject({ signal: 'season', severity: 'critical' });
    expect(seen.expected.low).toBeGreaterThan(25);
    const busy = detectAnomalies(times(noise.length), noise.map((value, i) => value + (i >= 10 * perDay + 12 && i < 10 * perDay + 24 ? 80 : workday(i))));
    expect(busy.some(({ startMs: from, signal }) => from === startMs + (10 * perDay + 12) * stepMs && signal === 'season')).toBe(true);
  });

  it('keeps a fault anomalous while it lasts and finds it when it comes again', () => {
    const fault = (i: number): boolean => (i >= 100 && i < 107) || (i >= 115 && i < 119);
    const all = verdicts(gaussians(9, 300).map((value, i) => 10 + value + (fault(i) ? 60 : 0)), times(300, 60_000));
    for (let i = 100; i < 119; i++) if (fault(i)) expect(all[i]!.anomalous).toBe(true);
    const [only, ...more] = detectAnomalies(times(300, 60_000), gaussians(9, 300).map((value, i) => 10 + value + (fault(i) ? 60 : 0)));
    expect(more).toEqual([]);
    expect(only).toMatchObject({ startMs: startMs + 100 * 60_000 });
    expect(only!.endMs).toBeGreaterThanOrEqual(startMs + 118 * 60_000);
  });

  it('gets used to what stays', () => {
    const all = verdicts(gaussians(10, 3000).map((value, i) => 10 + value + (i >= 500 ? 60 : 0)));
    expect(all[500]!.alert).toBe(true);
    expect(all.slice(1000).filter(({ anomalous }) => anomalous).length).toBeLessThan(5);
  });

  it('passes over what is no number, and does not mind repeated stamps and gaps', () => {
    const detector = new AnomalyDetector();
    for (const value of [Number.NaN, Infinity, -Infinity]) expect(detector.observe(startMs, value)).toEqual({ surprise: 0, score: 0, anomalous: false, alert: false, anomaly: null });
    const values = gaussians(12, 600).map((value, i) => 50 + value + (i === 500 ? 40 : 0));
    const plain = detectAnomalies(times(600), values);
    const gappy = detectAnomalies(times(600).flatMap((timeMs) => [timeMs, timeMs]), values.flatMap((value) => [value, null]));
    expect(gappy).toEqual(plain);
    const doubled = detectAnomalies(times(600).flatMap((timeMs) => [timeMs, timeMs]), values.flatMap((value) => [value, value]));
    expect(doubled.map(({ startMs: from }) => from)).toContain(startMs + 500 * stepMs);
    const afterGap = verdicts(gaussians(13, 400).map((value, i) => 50 + value * 0.1 + (i >= 300 ? 3 : 0)), times(400).map((timeMs, i) => timeMs + (i >= 300 ? 86_400_000 : 0)));
    expect(afterGap[300]!.anomaly?.signal).not.toBe('step');
  });

  it('leaves what is below the resolution of the meter', () => {
    const values = Array.from({ length: 400 }, (_, i) => (i === 300 ? 0.4 : 0));
    expect(detectAnomalies(times(400), values)).toHaveLength(1);
    expect(detectAnomalies(times(400), values, { resolution: 1 })).toEqual([]);
  });

  it('finds in batch what it finds in the stream', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 10_000 }), (seed) => {
      const uniform = uniforms(seed);
      const values = gaussians(seed, 800).map((value) => value + (uniform() < 0.005 ? 30 : 0));
      const batch = detectAnomalies(times(800), values);
      const starts = new Set(verdicts(values).flatMap(({ anomaly }) => (anomaly ? [anomaly.startMs] : [])));
      expect(batch.map(({ startMs: from }) => from)).toEqual([...starts]);
      for (const { startMs: from, endMs, peakMs, surprise, expected } of batch) {
        expect(from).toBeLessThanOrEqual(peakMs);
        expect(peakMs).toBeLessThanOrEqual(endMs);
        expect(surprise).toBeGreaterThanOrEqual(anomalyThreshold);
        expect(expected.low).toBeLessThanOrEqual(expected.high);
      }
    }), { numRuns: 30 });
  });
});

describe('alerts', () => {
  it('tell an anomaly once, again when it grows a hundredfold, anew after quiet', () => {
    const alerts = new Alerts();
    expect(alerts.take(0, 2.9)).toBe(false);
    expect(alerts.take(1, 3.5)).toBe(true);
    expect(alerts.take(2, 4.5)).toBe(false);
    expect(alerts.take(3, 6.4)).toBe(false);
    expect(alerts.take(4, 9)).toBe(true);
    expect(alerts.take(4 + quietSamples, 5)).toBe(false);
    expect(alerts.take(5 + 2 * quietSamples, 3)).toBe(true);
  });
});
