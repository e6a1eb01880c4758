import type { Readable } from 'node:stream';
import { linesOf } from '../connection/lines.js';
import { backOffMs } from '../connection/rate-limit.js';
import { LONGEST_LINE } from './formats.js';
import { placedLine, Resumption } from './log-position.js';

export interface LogApi {
  text(verb: 'GET', path: string, options: { readonly query: Readonly<Record<string, string>>; readonly signal: AbortSignal }): Promise<string>;
  open(verb: 'GET', path: string, options: { readonly query: Readonly<Record<string, string>>; readonly signal: AbortSignal }): Promise<Readable>;
}

/** The pod whose log is followed. */
export interface FollowedPod {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly container: string;
  readonly createdAtMs: number;
}

/** Where to begin: from a moment, and the last line that an earlier process read, to tell whether the log still reaches back. */
export interface FollowFrom {
  readonly sinceMs: number;
  readonly lastKey: string | null;
}

export interface FollowerOptions {
  readonly onLine: (line: string, timeMs: number) => void;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
  readonly delay: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly now: () => number;
}

/** With nothing come for this long a stream is taken to have been read up to now … */
const IDLE_MS = 1_000;
/** … less what may be on its way. */
const LAG_MS = 1_500;
/** An empty log is looked at this often. */
const EMPTY_LOG_MS = 1_000;

/**
 * Follows one container's log through the pod-log API. A stream that ends (the API server's death, a kubelet's restart, rotation) is
 * opened again from the second of the last line; no line is given twice.
 */
export class LogFollower {
  /** Since when the stream is lost, unix ms; null while it stands. */
  lostSinceMs: number | null;
  /** From here on nothing of the log is missing, unix ms. */
  continuousFromMs: number;
  /** The last line read; null before the first. */
  lastKey: string | null;
  private lastTimeMs: number;
  /** What a stream that stood had been read up to when it broke. */
  private readUpToMs = 0;
  private countAtLast = 0;
  private lastDataMs = 0;
  /** Lines of an earlier process's time are given again: whole minutes are counted anew. */
  private replayed: string | null;

  constructor(private readonly api: LogApi, readonly pod: FollowedPod, from: FollowFrom, private readonly options: FollowerOptions) {
    this.lostSinceMs = options.now();
    this.replayed = from.lastKey;
    this.lastKey = null;
    this.lastTimeMs = from.sinceMs;
    // The log of a pod that is followed from its beginning has no beginning missing.
    this.continuousFromMs = from.sinceMs <= pod.createdAtMs ? -Infinity : from.sinceMs;
  }

  /** Everything written before this moment has been read, unix ms. */
  caughtUpToMs(): number {
    const idle = this.lostSinceMs === null && this.options.now() - this.lastDataMs >= IDLE_MS;
    return Math.max(this.lastTimeMs, this.readUpToMs, idle ? this.options.now() - LAG_MS : 0);
  }

  /** Follows until the signal aborts or the pod is gone. */
  async run(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; ) {
      try {
        const begun = this.options.now();
        await this.follow(signal);
        failures = this.options.now() - begun > 5_000 ? 0 : failures + 1;
      } catch (error) {
        if (signal.aborted) return;
        failures++;
        if ((error as { status?: unknown }).status === 404) return;
        if (failures === 1) this.options.log.warn({ pod: this.pod.name, error: error instanceof Error ? error.message : String(error) }, 'an access log can no longer be followed; trying again');
      }
      this.lostSinceMs ??= this.options.now();
      if (failures > 0) await this.options.delay(backOffMs(failures, 0.5, 250, 10_000), signal);
    }
  }

  private get path(): string {
    return `/api/v1/namespaces/${this.pod.namespace}/pods/${this.pod.name}/log`;
  }

  /**
   * The time of the log's last line, unix ms, after waiting for its first. A kubelet answers a follower no sooner than it has a line to
   * send: asked from the last line on it answers at once, and a log in which nothing comes is known to stand.
   */
  private async newestLine(signal: AbortSignal): Promise<number | null> {
    while (!signal.aborted) {
      const placed = placedLine((await this.api.text('GET', this.path, { query: { container: this.pod.container, timestamps: 'true', tailLines: '1' }, signal })).trimEnd());
      if (placed !== null) return placed.position.timeMs;
      this.lostSinceMs = null;
      await this.options.delay(EMPTY_LOG_MS, signal);
    }
    return null;
  }

  private async follow(signal: AbortSignal): Promise<void> {
    const { name, container } = this.pod;
    const resumed = this.lastKey !== null;
    const last = this.lastKey ?? this.replayed;
    const newestMs = await this.newestLine(signal);
    if (newestMs === null) return;
    const sinceMs = Math.min(this.lastTimeMs, newestMs, last === null ? Infinity : Number(last.split('.')[0]) * 1_000);
    const stream = await this.api.open('GET', this.path, {
      query: { container, follow: 'true', timestamps: 'true', sinceTime: new Date(Math.floor(sinceMs / 1_000) * 1_000).toISOString() }, signal,
    });
    this.lastDataMs = this.options.now();
    this.lostSinceMs = null;
    const resumption = new Resumption(last, this.countAtLast);
    stream.setEncoding('utf8');
    try {
      for await (const text of linesOf(stream as AsyncIterable<string>, LONGEST_LINE, 'skip')) {
        this.lastDataMs = this.options.now();
        const placed = placedLine(text);
        if (placed === null) continue;
        const { position: { key, timeMs }, line } = placed;
        const step = resumption.take(key);
        if (step === 'gap') {
          this.continuousFromMs = timeMs;
          this.options.log.warn({ pod: name }, 'the access log no longer reaches back to the last line read: what was between is lost');
        }
        // After our own break what was seen is not given again; after another process's it is, up to where that one had come.
        if (step === 'seen' && resumed) continue;
        this.countAtLast = key === this.lastKey ? this.countAtLast + 1 : 1;
        this.lastKey = key;
        this.lastTimeMs = Math.max(this.lastTimeMs, timeMs);
        this.replayed = null;
        this.options.onLine(line, timeMs);
      }
    } finally {
      this.readUpToMs = this.caughtUpToMs();
      this.lostSinceMs = this.options.now();
      stream.destroy();
    }
  }
}
