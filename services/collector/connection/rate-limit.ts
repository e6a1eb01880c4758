/**
 * A token bucket: `perSecond` calls on average, `burst` at once. Time comes in as a value, so that a caller can ask how long to wait.
 */
export class TokenBucket {
  private tokens: number;
  private atMs: number;

  constructor(private readonly perSecond: number, private readonly burst: number, nowMs: number) {
    this.tokens = burst;
    this.atMs = nowMs;
  }

  /** Takes one token; tells how many ms the caller must wait before it acts (0: at once). Waiters queue up in the order they asked. */
  take(nowMs: number): number {
    this.tokens = Math.min(this.burst, this.tokens + (Math.max(0, nowMs - this.atMs) / 1000) * this.perSecond);
    this.atMs = Math.max(this.atMs, nowMs);
    this.tokens -= 1;
    return this.tokens >= 0 ? 0 : Math.ceil((-this.tokens / this.perSecond) * 1000);
  }
}

/**
 * How long to wait before try `attempt` (from 1): exponential from `baseMs` to at most `maxMs`, spread over its upper half by `random`
 * (0..1), so that many clients do not come back at once (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015: equal jitter).
 */
export function backOffMs(attempt: number, random: number, baseMs = 500, maxMs = 30_000): number {
  const full = Math.min(maxMs, baseMs * 2 ** Math.min(20, Math.max(0, attempt - 1)));
  return Math.round(full / 2 + (full / 2) * random);
}
