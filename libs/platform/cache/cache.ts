import { Redis } from 'ioredis';
import type { Logger } from '../logging/logging.js';

export interface CacheOptions {
  /** null: nothing is cached. */
  readonly url: string | null;
  /** Before every key, so that services share a server without meeting. */
  readonly prefix: string;
  readonly log?: Logger;
}

/** Keys of one command. */
const BATCH = 1_000;

/**
 * Redis for what is hot and can be lost. While it is away every read is a miss and every write does nothing; nobody who calls gets an error,
 * and {@link state} says how it stands.
 */
export class Cache {
  private readonly client: Redis | null;
  private readonly prefix: string;
  private complained = false;

  constructor(private readonly options: CacheOptions) {
    this.prefix = options.prefix;
    this.client = options.url === null ? null : new Redis(options.url, {
      // A command meets a connection that is there, or fails at once: waiting is worse than a miss.
      enableOfflineQueue: false, maxRetriesPerRequest: 0, commandTimeout: 1_000, connectTimeout: 2_000, retryStrategy: (times) => Math.min(times * 100, 2_000), connectionName: `upid-${options.prefix}`,
    });
    this.client?.on('error', (error: Error) => this.complain(error));
    this.client?.on('ready', () => {
      if (this.complained) this.options.log?.info('the cache is back');
      this.complained = false;
    });
  }

  /** `off`: none is configured. */
  get state(): 'ready' | 'away' | 'off' {
    if (!this.client) return 'off';
    return this.client.status === 'ready' ? 'ready' : 'away';
  }

  private complain(error: unknown): void {
    if (!this.complained) this.options.log?.warn({ err: error }, 'the cache is away: reads miss, writes are dropped');
    this.complained = true;
  }

  private async attempt<T>(work: (client: Redis) => Promise<T>, otherwise: T): Promise<T> {
    if (this.client?.status !== 'ready') return otherwise;
    try {
      return await work(this.client);
    } catch (error) {
      this.complain(error);
      return otherwise;
    }
  }

  /** null: not there, or Redis is away. */
  get(key: string): Promise<string | null> {
    return this.attempt((client) => client.get(this.prefix + key), null);
  }

  /** In the order of the keys. */
  getMany(keys: readonly string[]): Promise<(string | null)[]> {
    return this.attempt(async (client) => {
      const found: (string | null)[] = [];
      for (let from = 0; from < keys.length; from += BATCH) found.push(...(await client.mget(keys.slice(from, from + BATCH).map((key) => this.prefix + key))));
      return found;
    }, keys.map(() => null));
  }

  async set(key: string, value: string, ttlSeconds?: number): Promise<void> {
    await this.setMany([[key, value]], ttlSeconds);
  }

  /** MSET a thousand at a time; with a time to live, SET in pipelines of a thousand. */
  async setMany(entries: Iterable<readonly [string, string]>, ttlSeconds?: number): Promise<void> {
    await this.attempt(async (client) => {
      for (const batch of batches(entries)) {
        if (ttlSeconds === undefined) await client.mset(batch.flatMap(([key, value]) => [this.prefix + key, value]));
        else {
          const pipeline = client.pipeline();
          for (const [key, value] of batch) pipeline.set(this.prefix + key, value, 'EX', ttlSeconds);
          await pipeline.exec();
        }
      }
    }, undefined);
  }

  async delete(keys: readonly string[]): Promise<void> {
    if (keys.length > 0) await this.attempt(async (client) => { await client.unlink(keys.map((key) => this.prefix + key)); }, undefined);
  }

  /** Fields of one hash (the latest values of a cluster, say), written a thousand at a time. */
  async setFields(key: string, fields: Iterable<readonly [string, string]>, ttlSeconds?: number): Promise<void> {
    await this.attempt(async (client) => {
      for (const batch of batches(fields)) await client.hset(this.prefix + key, batch.flat());
      if (ttlSeconds !== undefined) await client.expire(this.prefix + key, ttlSeconds);
    }, undefined);
  }

  /** In the order of the fields. */
  getFields(key: string, fields: readonly string[]): Promise<(string | null)[]> {
    return this.attempt(async (client) => {
      const found: (string | null)[] = [];
      for (let from = 0; from < fields.length; from += BATCH) found.push(...(await client.hmget(this.prefix + key, ...fields.slice(from, from + BATCH))));
      return found;
    }, fields.map(() => null));
  }

  /** Adds to a counter whose life of `ttlSeconds` begins with its first addition. @returns its value; null when Redis is away */
  increment(key: string, by: number, ttlSeconds: number): Promise<number | null> {
    return this.attempt(async (client) => {
      const results = await client.multi().set(this.prefix + key, '0', 'EX', ttlSeconds, 'NX').incrby(this.prefix + key, by).exec();
      const value = results?.[1]?.[1];
      return typeof value === 'number' ? value : null;
    }, null);
  }

  async close(): Promise<void> {
    this.client?.disconnect();
    await Promise.resolve();
  }
}

function* batches(entries: Iterable<readonly [string, string]>): Generator<(readonly [string, string])[]> {
  let batch: (readonly [string, string])[] = [];
  for (const entry of entries) {
    batch.push(entry);
    if (batch.length === BATCH) {
      yield batch;
      batch = [];
    }
  }
  if (batch.length > 0) yield batch;
}
