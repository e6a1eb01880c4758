import fc from 'fast-check';
import { bucketOf, bucketValue, addTo, mergeInto, quantile, RELATIVE_ERROR, toPairs, type Distribution } from './distribution.js';
import { clusterIdSchema, parseWorkloadKey, uidFromBytes, uidToBytes, workloadKey, workloadKindSchema } from './ids.js';
import { parseSubject, subjects, UnknownSubjectError } from './subjects.js';
import { InvalidTimeRangeError, parseTimeRange, windowStart } from './time.js';
import { commandText, type Command } from './events.js';
import { DEFAULT_POLICY } from './policy.js';

describe('ids', () => {
  it('turns UIDs into bytes and back', () => {
    fc.assert(fc.property(fc.uuid(), (uid) => {
      const bytes = new Uint8Array(20);
      uidToBytes(uid, bytes, 2);
      expect(uidFromBytes(bytes, 2)).toBe(uid);
    }));
    expect(() => uidToBytes('not-a-uid', new Uint8Array(16))).toThrow(/32 hex digits/);
  });

  it('turns workload references into keys and back', () => {
    fc.assert(fc.property(fc.stringMatching(/^[a-z0-9-]{1,63}$/), fc.constantFrom(...workloadKindSchema.options), fc.stringMatching(/^[a-z0-9.-]{1,63}$/), (namespace, kind, name) => {
      expect(parseWorkloadKey(workloadKey({ namespace, kind, name }))).toEqual({ namespace, kind, name });
    }));
    for (const key of ['a/b', 'a/Deployment/b/c', 'a/deployment/b', '/Deployment/']) expect(() => parseWorkloadKey(key)).toThrow(/namespace\/Kind\/name/);
  });

  it('takes cluster ids that are one token of a subject and nothing else', () => {
    for (const id of ['demo', 'eu-1', '0', 'a'.repeat(63)]) expect(clusterIdSchema.safeParse(id).success).toBe(true);
    for (const id of ['', 'Demo', 'a.b', 'a*', '-a', 'a'.repeat(64), 'a b', '>']) expect(clusterIdSchema.safeParse(id).success).toBe(false);
  });
});

describe('subjects', () => {
  it('names cluster, producer and kind', () => {
    expect(parseSubject(subjects.agent('eu-1', 'usage'))).toEqual({ clusterId: 'eu-1', producer: 'agent', kind: 'usage' });
    expect(parseSubject(subjects.recommendation('eu-1', 'zero_scaling'))).toEqual({ clusterId: 'eu-1', producer: 'recommendation', kind: 'zero_scaling' });
  });
  it('refuses what is none of ours', () => {
    for (const subject of ['upid.v2.demo.agent.usage', 'upid.v1.*.agent.usage', 'upid.v1.demo.agent', 'upid.v1.demo.agent.usage.more', 'x']) expect(() => parseSubject(subject)).toThrow(UnknownSubjectError);
  });
});

describe('time ranges', () => {
  const now = Date.parse('2026-01-10T12:00:00Z');
  it('reads lengths and pairs', () => {
    expect(parseTimeRange('30m', now)).toEqual({ startMs: now - 30 * 60_000, endMs: now });
    expect(parseTimeRange('7d', now)).toEqual({ startMs: now - 7 * 86_400_000, endMs: now });
    expect(parseTimeRange('2026-01-01T00:00:00Z/2026-01-02T00:00:00+00:00', now)).toEqual({ startMs: Date.parse('2026-01-01T00:00:00Z'), endMs: Date.parse('2026-01-02T00:00:00Z') });
  });
  it('says the accepted forms of anything else', () => {
    for (const text of ['', '7', 'd', '-1h', '0m', '500d', '7 days', '2026-01-01/2026-01-02', '2026-01-02T00:00:00Z/2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z', '1e3h']) {
      expect(() => parseTimeRange(text, now)).toThrow(InvalidTimeRangeError);
      expect(() => parseTimeRange(text, now)).toThrow(/30m, 24h, 7d/);
    }
  });
  it('finds the window of any time', () => {
    fc.assert(fc.property(fc.integer({ min: 0, max: 4e12 }), (ms) => {
      const start = windowStart(ms);
      expect(start % 300_000).toBe(0);
      expect(ms - start).toBeGreaterThanOrEqual(0);
      expect(ms - start).toBeLessThan(300_000);
    }));
  });
});

describe('distributions', () => {
  const values = fc.array(fc.double({ min: 1e-3, max: 1e12, noNaN: true }), { minLength: 1, maxLength: 60 });
  const of = (numbers: readonly number[]) => numbers.reduce<Distribution>((into, value) => (addTo(into, value), into), new Map());

  it('keeps every value within the stated error', () => {
    fc.assert(fc.property(fc.double({ min: 1e-6, max: 1e15, noNaN: true }), (value) => {
      expect(Math.abs(bucketValue(bucketOf(value)) - value) / value).toBeLessThanOrEqual(RELATIVE_ERROR + 1e-9);
    }));
    expect(bucketValue(bucketOf(0))).toBe(0);
  });
  it('merges by addition', () => {
    fc.assert(fc.property(values, values, (a, b) => {
      const merged = of(a);
      mergeInto(merged, of(b));
      expect(toPairs(merged)).toEqual(toPairs(of([...a, ...b])));
    }));
  });
  it('answers quantiles within the error of the nearest rank', () => {
    fc.assert(fc.property(values, fc.double({ min: 0, max: 1, noNaN: true }), (numbers, q) => {
      const exact = [...numbers].sort((a, b) => a - b)[Math.max(1, Math.ceil(q * numbers.length)) - 1] as number;
      expect(Math.abs((quantile(of(numbers), q) as number) - exact) / exact).toBeLessThanOrEqual(RELATIVE_ERROR + 1e-9);
    }));
    expect(quantile([], 0.5)).toBeNull();
  });
});

it('signs the same text whatever the order of a command\'s fields', () => {
  const command = { version: 1, id: 'x', target: { b: 1, a: [{ d: 1, c: null }] }, signature: 's' } as unknown as Command;
  const other = { target: { a: [{ c: null, d: 1 }], b: 1 }, signature: 't', id: 'x', version: 1 } as unknown as Command;
  expect(commandText(command)).toBe(commandText(other));
  expect(commandText(command)).not.toContain('signature');
});

it('has the reference\'s thresholds as the default policy', () => {
  expect(DEFAULT_POLICY).toMatchObject({ name: 'default', minimum_observation_hours: 24, idle_probability: 80, candidate_idle_probability: 95, candidate_confidence: 90, watch_seconds: 300 });
});
