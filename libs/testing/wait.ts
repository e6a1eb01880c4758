/** Waiting for a condition instead of for a time. */
import { setTimeout as delay } from 'node:timers/promises';

export interface WaitOptions {
  /** Default 30 s. */
  timeoutMs?: number;
  /** Between two looks; default 50 ms. */
  intervalMs?: number;
  /** Called before each look; what it throws ends the waiting at once (a server that has died will not answer later). */
  alive?: () => void | Promise<void>;
}

/** What was waited for did not come about. */
export class WaitTimeoutError extends Error {
  constructor(readonly what: string, readonly timeoutMs: number, cause: unknown) {
    const last = cause === undefined ? '' : ` The last look failed: ${cause instanceof Error ? cause.message : String(cause)}`;
    super(`Waited ${timeoutMs} ms in vain for ${what}.${last}`, { cause });
    this.name = 'WaitTimeoutError';
  }
}

/**
 * Looks until `condition` gives something other than false, null or undefined, and gives that back.
 * A look that throws counts as "not yet"; its error is named when time is up ({@link WaitTimeoutError}).
 */
export async function waitFor<T>(
  what: string,
  condition: () => T | Promise<T>,
  { timeoutMs = 30_000, intervalMs = 50, alive }: WaitOptions = {},
): Promise<Exclude<T, false | null | undefined>> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    let failure: unknown;
    await alive?.();
    try {
      const value = await condition();
      if (value !== false && value !== null && value !== undefined) return value as Exclude<T, false | null | undefined>;
    } catch (error) {
      failure = error;
    }
    if (performance.now() >= deadline) throw new WaitTimeoutError(what, timeoutMs, failure);
    await delay(intervalMs);
  }
}
