import type { Readable } from 'node:stream';
import { linesOf } from './lines.js';
import { backOffMs } from './rate-limit.js';
import { unavailableBecause, watchStep, type WatchedObject } from './watch.js';

/** What the loop needs of the API server. */
export interface WatchApi {
  get<T>(path: string, query: Readonly<Record<string, string>>, options?: { readonly accept?: string; readonly signal?: AbortSignal; readonly timeoutMs?: number }): Promise<T>;
  open(verb: 'GET', path: string, options: { readonly query: Readonly<Record<string, string>>; readonly accept?: string; readonly signal?: AbortSignal }): Promise<Readable>;
}

/** Where what is read goes. */
export interface WatchSink<T> {
  upsert(object: T): void;
  remove(object: T): void;
  /** After a complete list: everything that is not among these UIDs has vanished. */
  retain(uids: ReadonlySet<string>): void;
}

/** `starting` until the first list is complete; `forbidden` and `absent` are capabilities that the cluster does not grant, and are asked for again. */
export type WatchState = 'starting' | 'synced' | 'forbidden' | 'absent' | 'unreachable';

export interface WatchOptions {
  readonly path: string;
  /** `application/json;as=PartialObjectMetadata…` where only metadata is wanted. */
  readonly listAccept?: string;
  readonly watchAccept?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
  /** Ends early when the signal aborts. Injected so that tests need not wait. */
  readonly delay: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly random: () => number;
  readonly onState?: (state: WatchState) => void;
  /** Between list and watch, for tests of what happens there. */
  readonly afterList?: () => Promise<void>;
}

const PAGE = '500';
/** The server ends a watch after this; spread over half as much again so that watches do not end together. */
const WATCH_SECONDS = 240;
/** A watch that ends sooner than this was none: back off. */
const SHORTEST_WATCH_MS = 1_000;
/** How often a collection that is forbidden or absent is asked for again. */
const UNAVAILABLE_RETRY_MS = 60_000;
/** A server that takes a request and then says nothing is given up after this. */
const LIST_TIMEOUT_MS = 30_000;
const WATCH_GRACE_MS = 15_000;

interface ListPage<T> {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly T[];
}

/** The list is no longer whole, or the version is too old. */
class RelistError extends Error {
  override readonly name = 'RelistError';
}

/**
 * Keeps a copy of a collection: lists it in pages, then watches from there. A watch that ends is resumed from the last version seen
 * (bookmarks among them); 410 lists again; a list that replaces another tells what vanished meanwhile. Nothing is lost or given twice
 * in effect: a repeated object is the same upsert.
 */
export class ResourceWatch<T extends WatchedObject> {
  state: WatchState = 'starting';
  /** Lists begun and watches opened, for the account of our own load. */
  readonly counters = { lists: 0, watches: 0, relists: 0, failures: 0 };
  private failures = 0;

  constructor(private readonly api: WatchApi, private readonly sink: WatchSink<T>, private readonly options: WatchOptions) {}

  /** Runs until the signal aborts. Never throws. */
  async run(signal: AbortSignal): Promise<void> {
    let from: string | null = null;
    while (!signal.aborted) {
      try {
        if (from === null) {
          from = await this.list(signal);
          this.enter('synced');
          this.failures = 0;
          await this.options.afterList?.();
        }
        const began = performance.now();
        from = await this.watch(from, signal);
        if (performance.now() - began < SHORTEST_WATCH_MS) await this.pause(signal);
        else this.failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        from = await this.recover(error, from, signal);
      }
    }
  }

  /** What to do after an error: where to go on from (null: list again), after waiting as long as it asks for. */
  private async recover(error: unknown, from: string | null, signal: AbortSignal): Promise<string | null> {
    const { path, log } = this.options;
    this.counters.failures++;
    const status = (error as { status?: unknown }).status;
    if (error instanceof RelistError || status === 410) {
      this.counters.relists++;
      log.info({ path, reason: (error as Error).message }, 'a watch fell behind: listing again');
      if (++this.failures > 1) await this.wait(signal);
      return null;
    }
    const unavailable = typeof status === 'number' ? unavailableBecause(status) : null;
    if (unavailable !== null) {
      if (this.state !== unavailable) log.info({ path, status }, unavailable === 'absent' ? 'this kind is not served by the cluster' : 'this kind may not be read');
      // What we may no longer see is not known to stand: it goes, as a capability that is gone.
      this.sink.retain(new Set());
      this.enter(unavailable);
      await this.sleep(UNAVAILABLE_RETRY_MS, signal);
      return null;
    }
    if (this.failures === 0) log.warn({ path, error: error instanceof Error ? error.message : String(error) }, 'reading a kind failed: trying again until it does not');
    if (this.state === 'starting' || this.failures > 0) this.enter('unreachable');
    await this.pause(signal);
    return from;
  }

  private async list(signal: AbortSignal): Promise<string> {
    this.counters.lists++;
    const { path, query = {}, listAccept } = this.options;
    const uids = new Set<string>();
    let more: string | undefined;
    let version = '';
    do {
      const page: ListPage<T> = await this.api.get<ListPage<T>>(path, { ...query, limit: PAGE, ...(more === undefined ? {} : { continue: more }) }, { accept: listAccept, signal, timeoutMs: LIST_TIMEOUT_MS });
      for (const object of page.items ?? []) {
        if (object.metadata?.uid !== undefined) uids.add(object.metadata.uid);
        this.sink.upsert(object);
      }
      // The version is the same on every page: the list is of one moment.
      version = page.metadata?.resourceVersion ?? version;
      more = page.metadata?.continue === '' ? undefined : page.metadata?.continue;
    } while (more !== undefined);
    this.sink.retain(uids);
    return version;
  }

  /** Watches until the server ends it. @returns the version to go on from. @throws {RelistError} where it is too old */
  private async watch(from: string, signal: AbortSignal): Promise<string> {
    this.counters.watches++;
    const seconds = Math.round(WATCH_SECONDS * (1 + this.options.random() / 2));
    const ended = AbortSignal.any([signal, AbortSignal.timeout(seconds * 1000 + WATCH_GRACE_MS)]);
    const { path, query = {}, watchAccept } = this.options;
    const stream = await this.api.open('GET', path, {
      query: { ...query, watch: '1', allowWatchBookmarks: 'true', resourceVersion: from, timeoutSeconds: String(seconds) }, accept: watchAccept, signal: ended,
    });
    if (this.state !== 'synced') this.enter('synced');
    let version = from;
    stream.setEncoding('utf8');
    try {
      for await (const line of linesOf(stream as AsyncIterable<string>)) {
        if (line === '') continue;
        const step = watchStep<T>(line);
        if (step.do === 'relist') throw new RelistError(step.reason);
        if (step.do === 'resume') throw new Error(step.reason);
        if (step.do === 'upsert') this.sink.upsert(step.object);
        if (step.do === 'delete') this.sink.remove(step.object);
        version = step.resourceVersion ?? version;
      }
    } catch (error) {
      if (error instanceof RelistError || signal.aborted) throw error;
      // The connection broke, or the server failed: what was read stands, and the next watch goes on behind it.
      this.options.log.info({ path, error: error instanceof Error ? error.message : String(error) }, 'a watch broke: resuming');
    } finally {
      stream.destroy();
    }
    return version;
  }

  private async pause(signal: AbortSignal): Promise<void> {
    this.failures++;
    await this.wait(signal);
  }

  private wait(signal: AbortSignal): Promise<void> {
    return this.sleep(backOffMs(this.failures, this.options.random()), signal);
  }

  private async sleep(ms: number, signal: AbortSignal): Promise<void> {
    if (!signal.aborted) await this.options.delay(ms, signal);
  }

  private enter(state: WatchState): void {
    if (this.state === state) return;
    this.state = state;
    this.options.onState?.(state);
  }
}
