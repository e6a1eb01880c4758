import type { Logger } from '../logging/logging.js';
import { withCorrelation } from '../logging/logging.js';

/** Work that comes again and again: fold workers, maintenance, watches. */
export interface Loop {
  /** Runs the next step at once; while one runs, once more after it. */
  wake(): void;
  /** Ends after the step under way. */
  stop(): Promise<void>;
}

const LONGEST_PAUSE_MS = 60_000;

/**
 * Runs `step` every `intervalMs`, at once again while it returns true (there is more to do), and when woken. A step that throws is logged and
 * put off, longer each time, at most a minute. Every step is a trace of its own.
 */
export function startLoop(options: { readonly name: string; readonly intervalMs: number; readonly log: Logger }, step: (signal: AbortSignal) => Promise<boolean | void>): Loop {
  const stopped = new AbortController();
  let woken = false;
  let endPause: () => void = () => undefined;
  const pause = (ms: number) => new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    endPause = () => { clearTimeout(timer); resolve(); };
  });
  const running = (async () => {
    let failures = 0;
    while (!stopped.signal.aborted) {
      woken = false;
      let more = false;
      try {
        more = (await withCorrelation({ loop: options.name }, () => step(stopped.signal))) === true;
        failures = 0;
      } catch (error) {
        failures++;
        if (!stopped.signal.aborted) options.log.error({ err: error, loop: options.name, failures }, 'a step failed and is tried again');
      }
      if (stopped.signal.aborted) break;
      if (failures > 0) await pause(Math.min(LONGEST_PAUSE_MS, Math.max(250, options.intervalMs) * 2 ** Math.min(failures - 1, 10)));
      else if (!more && !woken) await pause(options.intervalMs);
      else await new Promise((resolve) => { setImmediate(resolve); });
    }
  })();
  return {
    wake: () => { woken = true; endPause(); },
    stop: async () => { stopped.abort(); endPause(); await running; },
  };
}
