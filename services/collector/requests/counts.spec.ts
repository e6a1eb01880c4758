import { readFileSync } from 'node:fs';
import { quantile, RELATIVE_ERROR } from '@upid/contracts';
import fc from 'fast-check';
import { REQUEST_CLASSES } from './classes.js';
import { mergeMinutes, RequestCounts, statusGroup, type RequestMinute } from './counts.js';

const MINUTE = 26_000_000;
const at = (minute: number, second = 0) => (minute * 60 + second) * 1_000;
const ok = { status: 200, durationMs: 12, grpcStatus: null };

const request = fc.record({
  workload: fc.constantFrom('a/Deployment/x', 'a/Deployment/y'), requestClass: fc.constantFrom(...REQUEST_CLASSES), minute: fc.integer({ min: 0, max: 3 }), second: fc.integer({ min: 0, max: 59 }),
  status: fc.option(fc.integer({ min: 100, max: 599 })), durationMs: fc.option(fc.double({ min: 0, max: 1e6, noNaN: true })),
});

describe('counting by workload and minute', () => {
  it('counts classes apart and statuses and durations of business alone', () => {
    const counts = new RequestCounts(MINUTE);
    counts.add('w', 'business', at(MINUTE, 59), { ...ok, status: 503 });
    counts.add('w', 'business', at(MINUTE), ok);
    counts.add('w', 'health_check', at(MINUTE), ok);
    counts.cover('w', MINUTE);
    counts.cover('v', MINUTE, 30);
    const [w, v] = counts.drain(MINUTE + 1);
    expect(w).toMatchObject({ workload: 'w', minute: MINUTE, coveredSeconds: 60, counts: [2, 1, 0, 0, 0, 0], statuses: [0, 1, 0, 0, 1] });
    expect([...(w?.latencyMs.values() ?? [])]).toEqual([2]);
    expect(v).toMatchObject({ workload: 'v', coveredSeconds: 30, counts: [0, 0, 0, 0, 0, 0] });
  });

  it('closes a minute once: what comes later is a loss, not a second telling', () => {
    const counts = new RequestCounts(MINUTE);
    counts.add('w', 'business', at(MINUTE), ok);
    expect(counts.drain(MINUTE + 1)).toHaveLength(1);
    expect(counts.add('w', 'business', at(MINUTE), ok)).toBe(false);
    expect(counts.drain(MINUTE + 1)).toHaveLength(0);
    expect(counts.losses).toEqual({ late: 1, ahead: 0, full: 0 });
    expect(counts.size).toBe(0);
  });

  it('holds no more than its limits, and does not call covered what it could not hold', () => {
    const counts = new RequestCounts(MINUTE, { maxCells: 2, maxOpenMinutes: 2 });
    counts.cover('a', MINUTE);
    counts.cover('b', MINUTE);
    expect(counts.add('c', 'business', at(MINUTE), ok)).toBe(false);
    expect(counts.add('a', 'business', at(MINUTE + 2), ok)).toBe(false);
    expect(counts.add('a', 'business', Number.NaN, ok)).toBe(false);
    expect(counts.losses).toEqual({ late: 1, ahead: 1, full: 1 });
    expect(counts.drain(MINUTE + 1).map((cell) => cell.coveredSeconds)).toEqual([0, 0]);
  });

  it('loses no request that it took', () => {
    fc.assert(fc.property(fc.array(request), (requests) => {
      const counts = new RequestCounts(MINUTE);
      for (const each of requests) expect(counts.add(each.workload, each.requestClass, at(MINUTE + each.minute, each.second), { ...each, grpcStatus: null })).toBe(true);
      const cells = counts.drain(MINUTE + 10);
      expect(new Set(cells.map(({ workload, minute }) => `${workload}@${minute}`)).size).toBe(cells.length);
      const sum = (pick: (cell: RequestMinute) => Iterable<number>) => cells.reduce((total, cell) => total + [...pick(cell)].reduce((a, b) => a + b, 0), 0);
      expect(sum((cell) => cell.counts)).toBe(requests.length);
      expect(sum((cell) => cell.statuses)).toBe(requests.filter((each) => each.requestClass === 'business' && each.status !== null).length);
      expect(sum((cell) => cell.latencyMs.values())).toBe(requests.filter((each) => each.requestClass === 'business' && each.durationMs !== null).length);
    }));
  });

  it('merges to what one count of all would be, in any order', () => {
    fc.assert(fc.property(fc.array(request), fc.array(request), (left, right) => {
      const count = (requests: typeof left) => {
        const counts = new RequestCounts(MINUTE);
        counts.cover('w', MINUTE);
        for (const each of requests) counts.add('w', each.requestClass, at(MINUTE), { ...each, grpcStatus: null });
        return counts.drain(MINUTE + 1)[0] as RequestMinute;
      };
      const sorted = (cell: RequestMinute) => ({ ...cell, latencyMs: [...cell.latencyMs].sort((a, b) => a[0] - b[0]) });
      const merged = sorted(mergeMinutes(count(left), count(right)));
      expect(merged).toEqual(sorted(count([...left, ...right])));
      expect(merged).toEqual(sorted(mergeMinutes(count(right), count(left))));
    }));
  });

  it('keeps quantiles of durations within the stated error', () => {
    fc.assert(fc.property(fc.array(fc.double({ min: 0.02, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 200 }), fc.double({ min: 0.01, max: 1, noNaN: true }), (durations, q) => {
      const counts = new RequestCounts(MINUTE);
      for (const durationMs of durations) counts.add('w', 'business', at(MINUTE), { ...ok, durationMs });
      const sketch = counts.drain(MINUTE + 1)[0]?.latencyMs ?? new Map<number, number>();
      const exact = [...durations].sort((a, b) => a - b)[Math.max(1, Math.ceil(q * durations.length)) - 1] as number;
      expect(Math.abs((quantile(sketch, q) ?? Number.NaN) - exact)).toBeLessThanOrEqual(exact * RELATIVE_ERROR * (1 + 1e-6));
    }));
  });
});

describe('an hour of a real service', () => {
  it('counts every request in its minute, bursts and silence alike', () => {
    const times = readFileSync(new URL('../../../testdata/requests/azure-llm-code-2023.csv', import.meta.url), 'utf8').split(/\r?\n/).slice(1).filter((line) => line !== '').map((line) => Date.parse(`${line.slice(0, 23).replace(' ', 'T')}Z`));
    const first = Math.floor((times[0] ?? 0) / 60_000);
    const counts = new RequestCounts(first, { maxCells: 1_000, maxOpenMinutes: 120 });
    for (const timeMs of times) counts.add('w', 'business', timeMs, { status: 200, durationMs: null, grpcStatus: null });
    for (let minute = first; minute < first + 58; minute++) counts.cover('w', minute);
    const cells = counts.drain(first + 120);
    expect(cells).toHaveLength(58);
    expect(cells.filter((cell) => (cell.counts[0] ?? 0) > 0)).toHaveLength(45);
    expect(cells.reduce((sum, cell) => sum + (cell.counts[0] ?? 0), 0)).toBe(8_819);
    expect(counts.losses).toEqual({ late: 0, ahead: 0, full: 0 });
  });
});

describe('status groups', () => {
  it('groups HTTP statuses', () => {
    expect([100, 204, 301, 499, 503].map((status) => statusGroup(status, null))).toEqual([0, 1, 2, 3, 4]);
    expect([null, 0, 99, 600].map((status) => statusGroup(status, null))).toEqual([null, null, null, null]);
  });

  it('takes a gRPC error for what its code says, not for the 200 around it', () => {
    expect(statusGroup(200, 0)).toBe(1);
    expect(statusGroup(200, 14)).toBe(4);
    expect(statusGroup(200, 5)).toBe(3);
    expect(statusGroup(200, 99)).toBe(4);
    expect(statusGroup(503, 14)).toBe(4);
  });
});
