import { Readable } from 'node:stream';
import fc from 'fast-check';
import { LogFollower, type FollowFrom, type LogApi } from './log-follower.service.js';
import { placedLine, Resumption } from './log-position.js';

const T = Date.UTC(2026, 5, 1, 12);
const stamp = (ms: number, nanoseconds = 0) => `${new Date(ms).toISOString().slice(0, -1)}${String(nanoseconds).padStart(6, '0')}Z`;
const log = { info: () => undefined, warn: () => undefined };

describe('places in a log', () => {
  it('sort by time to the nanosecond, whatever the zone and the zeros left out', () => {
    const key = (text: string) => placedLine(`${text} line`)?.position.key ?? '';
    expect(placedLine('2026-06-01T12:00:00.1Z GET / x')).toEqual({ position: { timeMs: T + 100, key: `00${T / 1_000}.100000000` }, line: 'GET / x' });
    expect(key('2026-06-01T14:00:00.000000001+02:00') > key('2026-06-01T12:00:00Z')).toBe(true);
    expect(key('2026-06-01T12:00:00.12Z') > key('2026-06-01T12:00:00.119999999Z')).toBe(true);
    for (const text of ['', 'GET /', '2026-06-01 12:00:00 x', '2026-13-41T99:00:00Z x']) expect(placedLine(text)).toBeNull();
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => { placedLine(text); }));
  });

  it('are told from those read before, a gap among them', () => {
    const resumed = new Resumption('b', 2);
    expect(['a', 'b', 'b', 'b', 'c'].map((key) => resumed.take(key))).toEqual(['seen', 'seen', 'seen', 'new', 'new']);
    expect(new Resumption('b', 1).take('c')).toBe('gap');
    expect(new Resumption(null, 0).take('c')).toBe('new');
  });
});

/** A container's log as a kubelet keeps it: `follow` gives what is there from the second asked for, then whatever is appended. */
class KeptLog implements LogApi {
  lines: string[] = [];
  readonly asked: string[] = [];
  private readonly open_: { stream: Readable; sinceMs: number }[] = [];
  refuse: number | null = null;

  append(ms: number, text: string, nanoseconds = 0): void {
    const line = `${stamp(ms, nanoseconds)} ${text}`;
    this.lines.push(line);
    for (const { stream } of this.open_) stream.push(`${line}\n`);
  }

  cut(error?: Error): void {
    for (const { stream } of this.open_.splice(0)) {
      if (error === undefined) stream.push(null);
      else stream.destroy(error);
    }
  }

  async text(): Promise<string> {
    await Promise.resolve();
    if (this.refuse !== null) throw Object.assign(new Error(`HTTP ${this.refuse}`), { status: this.refuse });
    return `${this.lines.at(-1) ?? ''}\n`;
  }

  async open(_: 'GET', __: string, { query }: { query: Readonly<Record<string, string>> }): Promise<Readable> {
    await Promise.resolve();
    if (this.refuse !== null) throw Object.assign(new Error(`HTTP ${this.refuse}`), { status: this.refuse });
    this.asked.push(query['sinceTime'] ?? '');
    const sinceMs = Date.parse(query['sinceTime'] ?? '');
    const stream = new Readable({ read: () => undefined });
    for (const line of this.lines) if (Date.parse(line.split(' ')[0] ?? '') >= sinceMs) stream.push(`${line}\n`);
    this.open_.push({ stream, sinceMs });
    return stream;
  }
}

const settled = async () => { for (let i = 0; i < 20; i++) await new Promise((resolve) => { setImmediate(resolve); }); };

function follow(kept: KeptLog, from: FollowFrom, clock = { nowMs: T }) {
  const seen: string[] = [];
  const stop = new AbortController();
  const follower = new LogFollower(kept, { uid: 'u', namespace: 'ingress-nginx', name: 'controller', container: 'controller', createdAtMs: T - 3_600_000 }, from, {
    onLine: (line) => seen.push(line), log, now: () => clock.nowMs, delay: async () => { await settled(); },
  });
  return { follower, seen, clock, ended: follower.run(stop.signal), stop: () => { stop.abort(); kept.cut(); } };
}

describe('following', () => {
  it('gives every line once, however the stream breaks, also within one moment', async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.oneof(fc.record({ line: fc.nat(3) }), fc.constant('end' as const), fc.constant('break' as const)), { maxLength: 30 }), async (steps) => {
      const kept = new KeptLog();
      const { seen, ended, stop } = follow(kept, { sinceMs: T, lastKey: null });
      await settled();
      let ms = T;
      const written: string[] = [];
      for (const step of steps) {
        if (step === 'end') kept.cut();
        else if (step === 'break') kept.cut(new Error('ECONNRESET'));
        else {
          // Several lines bear the same time: a reconnect must neither lose nor repeat one of them.
          ms += [0, 0, 1, 1_500][step.line] ?? 0;
          written.push(`line ${written.length}`);
          kept.append(ms, written.at(-1) as string);
        }
        await settled();
      }
      await settled();
      expect(seen).toEqual(written);
      stop();
      await ended;
    }), { numRuns: 40 });
  });

  it('says since when it is lost, and what it has read up to', async () => {
    const kept = new KeptLog();
    const { follower, ended, stop, clock } = follow(kept, { sinceMs: T, lastKey: null });
    expect(follower.lostSinceMs).toBe(T);
    await settled();
    expect(follower.lostSinceMs).toBeNull();
    kept.append(T + 500, 'one');
    await settled();
    expect(follower.caughtUpToMs()).toBe(T + 500);
    // With nothing coming, it has read all there was a moment ago.
    clock.nowMs = T + 60_000;
    expect(follower.caughtUpToMs()).toBe(T + 58_500);
    kept.refuse = 503;
    kept.cut(new Error('ECONNRESET'));
    await settled();
    clock.nowMs = T + 120_000;
    expect(follower.lostSinceMs).toBe(T + 60_000);
    expect(follower.caughtUpToMs()).toBe(T + 58_500);
    kept.refuse = null;
    await settled();
    expect(follower.lostSinceMs).toBeNull();
    stop();
    await ended;
  });

  it('begins where an earlier process had come, and knows whether the log still reaches back', async () => {
    const kept = new KeptLog();
    for (let i = 0; i < 5; i++) kept.append(T + i * 1_000, `line ${i}`);
    const lastKey = placedLine(`${stamp(T + 1_000)} x`)?.position.key ?? '';
    const whole = follow(kept, { sinceMs: T + 2_000, lastKey });
    await settled();
    expect(kept.asked).toEqual(['2026-06-01T12:00:01.000Z']);
    expect(whole.seen).toEqual(['line 1', 'line 2', 'line 3', 'line 4']);
    expect(whole.follower.continuousFromMs).toBe(T + 2_000);
    whole.stop();
    await whole.ended;
    kept.lines = kept.lines.slice(3);
    const rotated = follow(kept, { sinceMs: T + 2_000, lastKey });
    await settled();
    expect(rotated.seen).toEqual(['line 3', 'line 4']);
    expect(rotated.follower.continuousFromMs).toBe(T + 3_000);
    rotated.stop();
    await rotated.ended;
  });

  it('ends when the pod is gone', async () => {
    const kept = new KeptLog();
    kept.refuse = 404;
    const { ended } = follow(kept, { sinceMs: T, lastKey: null });
    await ended;
  });
});
