import pg from 'pg';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../logging/logging.js';

export interface DatabaseOptions {
  readonly url: string;
  /** The service's own schema; first in the search path of every connection. */
  readonly schema: string;
  readonly maxConnections?: number;
  readonly applicationName?: string;
  readonly log?: Logger;
}

/** The database is away (refused, starting, shutting down) or the connection was lost: the same work may be tried again. */
export class DatabaseUnavailableError extends Error {
  override readonly name = 'DatabaseUnavailableError';
}

/**
 * The connection was lost after COMMIT was sent and before its answer came: whether the transaction stands is unknown. Try again only what is
 * safe to commit twice.
 */
export class CommitUnknownError extends DatabaseUnavailableError {}

/** A schema name that is not lower-case letters, digits and underscores. */
export class SchemaNameError extends Error {
  override readonly name = 'SchemaNameError';
}

/** A transaction under way. */
export interface Tx {
  query<R extends pg.QueryResultRow = pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<pg.QueryResult<R>>;
  readonly client: pg.PoolClient;
  /** Runs after the commit has succeeded; never after a rollback. */
  afterCommit(fn: () => void): void;
}

const UNAVAILABLE_CODES = new Set([
  'ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH',
  // PostgreSQL error codes (appendix A): connection exceptions, shutdowns, starting, too many connections, read only after a failover.
  '08000', '08001', '08003', '08004', '08006', '57P01', '57P02', '57P03', '53300', '25006',
]);
const AGAIN_CODES = new Set(['40001', '40P01']);

function codeOf(error: unknown): string {
  return error !== null && typeof error === 'object' && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** Whether the error says that the database is away, not that the statement is wrong. */
export function isDatabaseAway(error: unknown): boolean {
  if (error instanceof DatabaseUnavailableError || UNAVAILABLE_CODES.has(codeOf(error))) return true;
  return error instanceof Error && /Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error|Client was closed/i.test(error.message);
}

const int8 = 20;
const types = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') => (oid === int8 && format !== 'binary' ? (text: string) => BigInt(text) : pg.types.getTypeParser(oid, format as 'text'))) as typeof pg.types.getTypeParser,
};

/**
 * PostgreSQL for one service. int8 comes back as bigint (cast counts: `count(*)::int`), numeric as text, timestamptz as Date, bytea as Buffer,
 * jsonb parsed.
 */
export class Database {
  readonly schema: string;
  readonly pool: pg.Pool;
  private closing: Promise<void> | null = null;

  constructor(readonly options: DatabaseOptions) {
    if (!/^[a-z_][a-z0-9_]{0,62}$/.test(options.schema)) throw new SchemaNameError(`${JSON.stringify(options.schema)} is no schema name: lower-case letters, digits and underscores`);
    this.schema = options.schema;
    this.pool = new pg.Pool({ ...this.clientConfig(), max: options.maxConnections ?? 10, idleTimeoutMillis: 60_000 });
    this.pool.on('error', (error) => options.log?.warn({ err: error }, 'an idle connection to the database was lost'));
  }

  /** Settings of a connection: for one that is not of the pool (LISTEN, a held lock). */
  clientConfig(): pg.ClientConfig {
    return {
      connectionString: this.options.url, application_name: this.options.applicationName ?? `upid-${this.options.schema}`, connectionTimeoutMillis: 5_000, types, keepAlive: true,
      options: `-c search_path=${this.options.schema},public -c timezone=UTC -c idle_in_transaction_session_timeout=300000`,
    };
  }

  /** One statement of its own. @throws {DatabaseUnavailableError} or PostgreSQL's error */
  async query<R extends pg.QueryResultRow = pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<pg.QueryResult<R>> {
    try {
      return await this.pool.query<R>(text, [...values]);
    } catch (error) {
      throw named(error);
    }
  }

  /**
   * Runs `fn` between BEGIN and COMMIT. While the database is away it waits up to `waitMs` (30 s); after a serialisation failure, a deadlock or a
   * connection lost before COMMIT it runs `fn` again: `fn` must have no effects outside the transaction.
   * @throws {DatabaseUnavailableError} when the database stays away | {CommitUnknownError} | what `fn` throws, rolled back
   */
  async transaction<T>(fn: (tx: Tx) => Promise<T>, options: { readonly waitMs?: number; readonly isolation?: 'read committed' | 'repeatable read' | 'serializable' } = {}): Promise<T> {
    const deadline = Date.now() + (options.waitMs ?? 30_000);
    for (let attempt = 1, wait = 50; ; attempt++, wait = Math.min(wait * 2, 2_000)) {
      try {
        return await this.once(fn, options.isolation ?? 'read committed');
      } catch (error) {
        const away = isDatabaseAway(error);
        const again = (away && !(error instanceof CommitUnknownError)) || (AGAIN_CODES.has(codeOf(error)) && attempt < 10);
        if (!again || this.closing || Date.now() + wait > deadline) throw named(error);
        if (away) this.options.log?.warn({ err: error }, 'the database is away, waiting');
        await delay(away ? wait : Math.random() * wait);
      }
    }
  }

  private async once<T>(fn: (tx: Tx) => Promise<T>, isolation: string): Promise<T> {
    const client = await this.pool.connect();
    // A connection that breaks while nothing is asked of it tells so by an event; the next statement fails.
    const onError = (error: Error) => this.options.log?.warn({ err: error }, 'the connection to the database was lost within a transaction');
    client.on('error', onError);
    const after: (() => void)[] = [];
    let broken: Error | undefined;
    let committing = false;
    try {
      await client.query(isolation === 'read committed' ? 'BEGIN' : `BEGIN ISOLATION LEVEL ${isolation}`);
      const result = await fn({ query: (text, values = []) => client.query(text, [...values]), client, afterCommit: (call) => { after.push(call); } });
      committing = true;
      await client.query('COMMIT');
      committing = false;
      for (const call of after) call();
      return result;
    } catch (error) {
      if (committing && isDatabaseAway(error)) {
        broken = error as Error;
        throw new CommitUnknownError('The connection was lost while the transaction was being committed', { cause: error });
      }
      // Also after a failed encoder in the midst of a COPY: only a connection known to be in order goes back to the pool.
      await client.query('ROLLBACK').catch((cause: Error) => { broken = cause; });
      throw error;
    } finally {
      client.off('error', onError);
      client.release(broken);
    }
  }

  /** Waits until the database answers; for ever unless `signal` ends it. */
  async waitUntilThere(signal?: AbortSignal): Promise<void> {
    for (let wait = 100; ; wait = Math.min(wait * 2, 2_000)) {
      try {
        await this.pool.query('SELECT 1');
        return;
      } catch (error) {
        if (!isDatabaseAway(error)) throw error;
        this.options.log?.warn({ err: error }, 'waiting for the database');
        await delay(wait, undefined, signal ? { signal } : undefined);
      }
    }
  }

  close(): Promise<void> {
    this.closing ??= this.pool.end();
    return this.closing;
  }
}

function named(error: unknown): unknown {
  if (error instanceof DatabaseUnavailableError || !isDatabaseAway(error)) return error;
  return new DatabaseUnavailableError(`The database is away: ${error instanceof Error ? error.message || codeOf(error) : String(error)}`, { cause: error });
}
