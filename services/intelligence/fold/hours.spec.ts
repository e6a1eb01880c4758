import { HOUR_MS, MINUTE_MS } from '@upid/contracts';
import { Grid } from './grid.js';
import { CLOSE_AFTER_MS, FINAL_AFTER_MS, finalWindowsAt, isClosedAt, minutesOfWindow, minutesWithData, NEW_HOUR, nextDueMs, windowsIn } from './hours.js';
import { latestValues, parseLatest } from './latest.js';

const HOUR = 480_000 * HOUR_MS;

describe('an hour\'s way', () => {
  it('makes windows final a while after their end, and is packed a while after its own', () => {
    expect(finalWindowsAt(HOUR, HOUR + 5 * MINUTE_MS + FINAL_AFTER_MS - 1)).toBe(0);
    expect(finalWindowsAt(HOUR, HOUR + 5 * MINUTE_MS + FINAL_AFTER_MS)).toBe(1);
    expect(finalWindowsAt(HOUR, HOUR + HOUR_MS + FINAL_AFTER_MS)).toBe(4095);
    expect(isClosedAt(HOUR, HOUR + HOUR_MS + CLOSE_AFTER_MS - 1)).toBe(false);
    expect(isClosedAt(HOUR, HOUR + HOUR_MS + CLOSE_AFTER_MS)).toBe(true);
  });
  it('knows what is due next without new batches', () => {
    expect(nextDueMs(HOUR, { ...NEW_HOUR, windows: 0b110, finalWindows: 0b010 })).toBe(HOUR + 15 * MINUTE_MS + FINAL_AFTER_MS);
    expect(nextDueMs(HOUR, { ...NEW_HOUR, windows: 0b10, finalWindows: 0b10 })).toBe(HOUR + HOUR_MS + CLOSE_AFTER_MS);
    expect(nextDueMs(HOUR, { ...NEW_HOUR, closed: true })).toBeNull();
  });
  it('keeps windows and minutes as bits', () => {
    expect(windowsIn(0b1000_0000_0101)).toEqual([0, 2, 11]);
    expect(minutesOfWindow(1)).toBe(0b11111_00000n);
    const grid = new Grid();
    grid.reset(HOUR / MINUTE_MS + 10, 5);
    const pod = grid.pod(new Uint8Array(16).fill(3), 0, grid.workload('a/Deployment/b'));
    grid.putUsage(grid.seriesOf(pod, grid.container('app')), 2, 4, Float64Array.of(7, 0, 11, 0, 0, 0));
    grid.putUsage(grid.seriesOf(pod, grid.container('proxy')), 2, 4, Float64Array.of(1, 0, 2, 0, 0, 0));
    grid.putUsage(grid.seriesOf(pod, grid.container('app')), 1, 4, Float64Array.of(99, 0, 11, 0, 0, 0));
    grid.putRequests(grid.requestLine(0, 'x'), 4, new Float64Array(13).fill(60), null);
    expect(minutesWithData(grid, HOUR / MINUTE_MS)).toEqual({ usage: 0b11n << 11n, requests: 1n << 14n });
    const [value] = latestValues(grid);
    expect(value).toEqual(['03030303-0303-0303-0303-030303030303', `${HOUR / MINUTE_MS + 12} 8 13`]);
    expect(parseLatest(value?.[1] ?? '')).toEqual({ minute: HOUR / MINUTE_MS + 12, cpuMillicores: 8, memoryBytes: 13 });
    expect(parseLatest('nonsense')).toBeNull();
  });
});
