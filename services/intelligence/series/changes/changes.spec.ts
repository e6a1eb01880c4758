import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { uniforms } from '@upid/testing/random';
import { changePoints } from './change-points.js';
import { hamedRao, mannKendall, maxTrendSamples, senSlope } from './mann-kendall.js';
import { describeTrend, slopeSignificance } from './trend.js';

/** Gaussian first-order autoregression from zero; φ = 0 is white noise, φ = 1 a random walk. */
function noise(seed: number, length: number, phi: number): number[] {
  const uniform = uniforms(seed);
  let value = 0;
  return Array.from({ length }, () => (value = phi * value + Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform())));
}

const data = (name: string): (number | null)[] => {
  const file = join(import.meta.dirname, '../../../../testdata/changepoint-tcpd', `${name}.json`);
  return (JSON.parse(readFileSync(file, 'utf8')) as { series: [{ raw: (number | null)[] }] }).series[0].raw;
};

describe('trend tests', () => {
  it('count pairs, ties and signs as the definitions do', () => {
    expect(mannKendall([1, 2, 2, 3, 5, 4])).toMatchObject({ s: 12, tau: 0.8, trend: 'increasing' });
    expect(mannKendall([5, 4, 3, 2, 1]).z).toBeCloseTo(-2.2045, 4);
    expect(mannKendall([1, 1, 1, 1])).toMatchObject({ s: 0, z: 0, p: 1, trend: 'no trend' });
  });

  it('turn round with the series and do not see its level or unit', () => {
    fc.assert(fc.property(fc.array(fc.integer({ min: -50, max: 50 }), { minLength: 4, maxLength: 40 }), fc.integer({ min: 1, max: 9 }), (values, scale) => {
      const test = mannKendall(values);
      expect(mannKendall([...values].reverse()).s + test.s).toBe(0);
      expect(mannKendall(values.map((value) => value * scale + 3))).toEqual(test);
      expect(Math.abs(test.tau)).toBeLessThanOrEqual(1);
      expect(senSlope(values.map((value) => value * scale + 3)).slope).toBeCloseTo(senSlope(values).slope * scale, 9);
    }));
  });

  it('find the slope of a line though a quarter of it is wrong, and over gaps', () => {
    const line = Array.from({ length: 100 }, (_, i) => (i % 4 === 0 ? 1e6 : 2 + 0.5 * i));
    expect(senSlope(line).slope).toBeCloseTo(0.5, 1);
    expect(senSlope([0, null, 2, Number.NaN, 4])).toEqual({ slope: 1, intercept: 0 });
  });

  it('find fewer trends in autocorrelated noise than the test for independent values', () => {
    const found = (test: (values: number[]) => { p: number }): number =>
      Array.from({ length: 60 }, (_, seed) => test(noise(seed, 120, 0.8))).filter(({ p }) => p < 0.05).length;
    expect(found((values) => hamedRao(values))).toBeLessThan(found((values) => mannKendall(values)) / 2);
  });

  it('refuse what would not fit in memory', () => {
    expect(() => senSlope(new Float64Array(maxTrendSamples + 1))).toThrow(RangeError);
  });

  it('keep the rate of false slopes near its nominal one, for white noise and random walks alike', () => {
    for (const phi of [0, 0.5, 1]) {
      const false5 = Array.from({ length: 200 }, (_, seed) => slopeSignificance(Float64Array.from(noise(seed + 1, 200, phi)))).filter((p) => p < 0.05).length;
      expect(false5).toBeLessThanOrEqual(24);
    }
  });
});

describe('change points', () => {
  it('are not found in white noise, red noise and random walks', () => {
    let found = 0;
    let series = 0;
    for (const phi of [0, 0.5, 0.9, 1]) {
      for (let seed = 1; seed <= 50; seed++) {
        series++;
        if (changePoints(noise(seed * 7919, 168, phi)).indices.length > 0) found++;
      }
    }
    expect(found / series).toBeLessThanOrEqual(0.01);
  });

  it('are found where a level moves by three standard deviations, at the right place', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const place = 30 + seed * 5;
      const { indices, model } = changePoints(noise(seed, 168, 0).map((value, i) => value + (i >= place ? 3 : 0)));
      expect(model).toBe('level');
      expect(indices).toHaveLength(1);
      expect(Math.abs(indices[0]! - place)).toBeLessThanOrEqual(3);
    }
  });

  it('stay where they are when unit and level change', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 1000 }), fc.double({ min: 1e-3, max: 1e3, noNaN: true }), fc.double({ min: -1e4, max: 1e4, noNaN: true }), (seed, scale, level) => {
      const values = noise(seed, 90, 0.3).map((value, i) => value + (i >= 45 ? 5 : 0));
      expect(changePoints(values.map((value) => value * scale + level)).indices).toEqual(changePoints(values).indices);
    }), { numRuns: 30 });
  });

  it('keep the indices of the series where values are missing', () => {
    const whole = noise(3, 200, 0).map((value, i) => value + (i >= 120 ? 6 : 0));
    const { indices } = changePoints(whole.map((value, i) => (i % 3 === 1 ? null : value)));
    expect(indices).toHaveLength(1);
    expect(Math.abs(indices[0]! - 120)).toBeLessThanOrEqual(3);
  });

  it('are not the turns of a season', () => {
    const values = noise(5, 336, 0.3).map((value, i) => value + (i % 24 >= 8 && i % 24 < 18 ? 12 : 0));
    expect(changePoints(values).indices).toEqual([]);
    const shifted = changePoints(values.map((value, i) => value + (i >= 200 ? 8 : 0)), { period: 24 }).indices;
    expect(shifted).toHaveLength(1);
    expect(Math.abs(shifted[0]! - 200)).toBeLessThanOrEqual(3);
  });

  it('are not single outliers', () => {
    expect(changePoints(noise(9, 200, 0).map((value, i) => (i % 50 === 25 ? 60 : value))).indices).toEqual([]);
  });

  it('say the regimes between them', () => {
    const { regimes } = changePoints([...Array<number>(30).fill(1), ...Array<number>(30).fill(9)]);
    expect(regimes).toEqual([{ from: 0, to: 30, level: 1, slope: 0 }, { from: 30, to: 60, level: 9, slope: 0 }]);
  });

  it('take constant, short and empty series', () => {
    expect(changePoints([]).regimes).toEqual([]);
    expect(changePoints([1, 2, null]).indices).toEqual([]);
    expect(changePoints(Array<number>(50).fill(4)).indices).toEqual([]);
  });

  it('average long series in blocks', () => {
    const { indices } = changePoints(noise(11, 5000, 0).map((value, i) => value + (i >= 3000 ? 2 : 0)));
    expect(indices).toHaveLength(1);
    expect(Math.abs(indices[0]! - 3000)).toBeLessThanOrEqual(10);
  });

  it('are those that quality control made, and none where it made none', () => {
    expect(changePoints(data('quality_control_5')).indices).toEqual([]);
    expect(changePoints(data('bank')).indices).toEqual([]);
    const [first] = changePoints(data('quality_control_1')).indices;
    expect(Math.abs(first! - 146)).toBeLessThanOrEqual(5);
    expect(changePoints(data('quality_control_3')).indices).toEqual([179]);
  });
});

describe('the description of a trend', () => {
  const hourMs = 3_600_000;
  const startMs = Date.UTC(2026, 0, 5);
  const week = Array.from({ length: 168 }, (_, i) => startMs + i * hourMs);
  const daily = (i: number): number => 20 * Math.sin((2 * Math.PI * i) / 24);

  it('says rising and falling with the slope a day', () => {
    const up = describeTrend(week, noise(1, 168, 0.3).map((value, i) => 100 + daily(i) + 0.5 * i + value))!;
    expect(up).toMatchObject({ word: 'rising', sinceMs: null });
    expect(up.slopePerDay).toBeGreaterThan(11);
    expect(up.slopePerDay).toBeLessThan(13);
    expect(up.p).toBeLessThan(0.001);
    expect(up.mannKendallP).toBeLessThan(0.01);
    expect(describeTrend(week, noise(2, 168, 0.3).map((value, i) => 200 - 0.5 * i + value))!.word).toBe('falling');
  });

  it('says steady for noise, seasons and slopes that change nothing', () => {
    for (const phi of [0, 0.7, 1]) {
      const words = Array.from({ length: 40 }, (_, seed) => describeTrend(week, noise(seed + 1, 168, phi).map((value, i) => 500 + daily(i) + value))!.word);
      expect(words.filter((word) => word !== 'steady').length).toBeLessThanOrEqual(3);
    }
    expect(describeTrend(week, week.map((_, i) => 1000 + i / 100))!.word).toBe('steady');
    expect(describeTrend(week, week.map(() => 0))).toMatchObject({ word: 'steady', slopePerDay: 0, changeRatio: null });
  });

  it('says shifted, on which date and by how much', () => {
    const trend = describeTrend(week, noise(4, 168, 0).map((value, i) => (i < 100 ? 100 : 150) + value))!;
    expect(trend.word).toBe('shifted');
    expect(Math.abs(trend.sinceMs! - week[100]!)).toBeLessThanOrEqual(2 * hourMs);
    expect(trend.changeRatio).toBeCloseTo(0.5, 1);
  });

  it('does not mind the order of the rows, doubled stamps and gaps', () => {
    const values = noise(1, 168, 0.3).map((value, i) => 100 + 0.5 * i + value);
    const trend = describeTrend(week, values);
    const order = week.map((_, i) => (i * 61) % 168);
    expect(describeTrend(order.map((i) => week[i]!), order.map((i) => values[i]!))).toEqual(trend);
    const doubled = describeTrend([...week, ...week], [...values, ...values]);
    expect(doubled).toEqual(trend);
    expect(describeTrend(week, values.map((value, i) => (i > 60 && i < 80 ? null : value)))!.word).toBe('rising');
  });

  it('takes neither weekends nor weather for a shift', () => {
    const words = (file: string, timeColumn: number, valueColumn: number): string[] => {
      const rows = readFileSync(join(import.meta.dirname, '../../../../testdata/seasonal', file), 'utf8').trim().split('\n').slice(1).map((line) => line.split(','));
      const timesMs = rows.map((row) => Date.parse(`${row[timeColumn]!.slice(0, 19).replace(' ', 'T')}Z`));
      const values = rows.map((row) => Number(row[valueColumn]));
      return Array.from({ length: 40 }, (_, k) => 500 + k * 190).map((from) => describeTrend(timesMs.slice(from, from + 168), values.slice(from, from + 168))!.word);
    };
    const all = [...words('solarpower_hourly.csv', 0, 1), ...words('electricity_hourly.csv', 0, 1)];
    expect(all.filter((word) => word === 'shifted').length).toBeLessThanOrEqual(8);
    expect(all.filter((word) => word === 'steady').length).toBeGreaterThanOrEqual(48);
  });

  it('says nothing about next to nothing', () => {
    expect(describeTrend([], [])).toBeNull();
    expect(describeTrend(week.slice(0, 7), [1, 2, 3, 4, 5, 6, 7])).toBeNull();
    expect(describeTrend(week.slice(0, 9).map(() => startMs), [1, 2, 3, 4, 5, 6, 7, 8, 9])).toBeNull();
  });
});
