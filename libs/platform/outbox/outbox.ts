import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { type Bus, BusUnavailableError, MAX_MESSAGE_BYTES, MessageTooLargeError } from '../bus/index.js';
import { type Database, type Tx } from '../database/index.js';
import { type Logger, outgoingTrace } from '../logging/logging.js';

export interface OutboxMessage {
  readonly subject: string;
  readonly payload: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
  /** Deterministic; default: a UUID that is fixed when the row is written. */
  readonly msgId?: string;
}

interface Row { readonly id: bigint; readonly subject: string; readonly message_id: string; readonly headers: Record<string, string>; readonly payload: Buffer; readonly created_at: Date }

/** Most messages and bytes that a relay holds at once. */
const READ_MESSAGES = 512;
const READ_BYTES = 16 * 1024 * 1024;
/** How long until a replica without the relay's lock asks for it again, and until the relay looks without having been told. */
const TAKEOVER_MS = 1_000;
const POLL_MS = 1_000;
/** How long a subject rests whose stream refused it (full, or not there), so that the others go on. */
const REFUSED_MS = 2_000;

/**
 * What follows from a commit: written in the same transaction, published by a relay until the bus has taken it. One of all replicas relays at
 * a time (it holds an advisory lock on a connection of its own, which PostgreSQL frees when the process dies); subjects go side by side, the
 * messages of one subject in order, one at a time. A crash between the bus's acknowledgement and the deletion of the row publishes again
 * under the same id: the bus drops it inside its window, and consumers are safe to hear it twice anyway.
 */
export class Outbox {
  private readonly log: Logger | undefined;
  private readonly channel: string;
  private stopped = new AbortController();
  private running: Promise<void> | null = null;
  private wake: () => void = () => undefined;
  private woken = false;
  private leading = false;
  private published = 0;
  /** The last look found nothing; a commit since then says otherwise by its hint. */
  private empty = true;
  private readonly restingUntil = new Map<string, number>();

  constructor(private readonly database: Database, private readonly bus: Bus, options: { readonly log?: Logger } = {}) {
    this.log = options.log;
    this.channel = `upid_outbox_${database.schema}`;
  }

  /** Whether this replica is the one that relays. */
  get isRelaying(): boolean {
    return this.leading;
  }

  /** Messages that this replica has published. */
  get publishedCount(): number {
    return this.published;
  }

  /**
   * Writes messages that go out when the transaction has been committed.
   * @throws {MessageTooLargeError} before anything is written
   */
  async add(tx: Tx, messages: OutboxMessage | readonly OutboxMessage[]): Promise<void> {
    const list = 'subject' in messages ? [messages] : messages;
    if (list.length === 0) return;
    for (const each of list) if (each.payload.length > MAX_MESSAGE_BYTES) throw new MessageTooLargeError(each.subject, each.payload.length);
    const trace = outgoingTrace();
    // In groups, so that one statement stays well below what a connection should carry at once.
    for (let from = 0; from < list.length;) {
      let to = from;
      for (let bytes = 0; to < list.length && to - from < 1_000 && (to === from || bytes + (list[to]?.payload.length ?? 0) <= READ_BYTES); to++) bytes += list[to]?.payload.length ?? 0;
      const part = list.slice(from, to);
      await tx.query(
        `INSERT INTO outbox (subject, message_id, headers, payload) SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::bytea[])`,
        [part.map((each) => each.subject), part.map((each) => each.msgId ?? randomUUID()), part.map((each) => JSON.stringify({ ...trace, ...each.headers })), part.map((each) => Buffer.from(each.payload.buffer, each.payload.byteOffset, each.payload.byteLength))],
      );
      from = to;
    }
    await tx.query('SELECT pg_notify($1, $2)', [this.channel, '']);
    tx.afterCommit(() => this.hint());
  }

  /** Something was committed: look at once. */
  private hint(): void {
    this.woken = true;
    this.empty = false;
    this.wake();
  }

  /** Starts this replica's relay. */
  start(): void {
    if (this.running) return;
    this.stopped = new AbortController();
    this.running = this.run(this.stopped.signal);
  }

  /** Publishes what waits, for at most `flushMs`, and stops; what remains waits for another replica or the next start. */
  async stop(flushMs = 2_000): Promise<void> {
    const deadline = Date.now() + flushMs;
    while (this.leading && !this.empty && Date.now() < deadline) {
      this.wake();
      await delay(20);
    }
    this.stopped.abort();
    this.wake();
    await this.running;
    this.running = null;
  }

  private async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const client = new pg.Client({ ...this.database.clientConfig(), application_name: `upid-${this.database.schema}-relay` });
      let lost = false;
      client.on('error', (error) => { lost = true; this.log?.warn({ err: error }, 'the relay lost its connection to the database'); this.wake(); });
      client.on('end', () => { lost = true; this.wake(); });
      client.on('notification', () => this.hint());
      try {
        await client.connect();
        while (!signal.aborted && !lost && !(await this.tryLock(client))) await delay(TAKEOVER_MS, undefined, { signal }).catch(() => undefined);
        if (signal.aborted || lost) continue;
        await client.query(`LISTEN ${this.channel}`);
        this.leading = true;
        while (!signal.aborted && !lost) {
          this.woken = false;
          const more = await this.relay(client, signal);
          if (!more && !this.woken && !signal.aborted && !lost) await this.sleep(POLL_MS);
        }
      } catch (error) {
        if (!signal.aborted) {
          this.log?.warn({ err: error }, 'the relay of the outbox pauses');
          await delay(500, undefined, { signal }).catch(() => undefined);
        }
      } finally {
        this.leading = false;
        await client.end().catch((error: unknown) => this.log?.debug({ err: error }, 'the relay\'s connection was already closed'));
      }
    }
  }

  private async tryLock(client: pg.Client): Promise<boolean> {
    const { rows } = await client.query<{ held: boolean }>('SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS held', [`upid.outbox.${this.database.schema}`]);
    return rows[0]?.held ?? false;
  }

  private async sleep(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => { clearTimeout(timer); resolve(); };
    });
    this.wake = () => undefined;
  }

  /** One round: reads what waits, publishes it, deletes what the bus has taken. @returns whether there may be more */
  private async relay(client: pg.Client, signal: AbortSignal): Promise<boolean> {
    const now = Date.now();
    for (const [subject, until] of this.restingUntil) if (until <= now) this.restingUntil.delete(subject);
    const { rows } = await client.query<Row>(
      `WITH first AS (SELECT id, octet_length(payload) AS bytes FROM outbox WHERE subject <> ALL($3::text[]) ORDER BY id LIMIT $1),
            sized AS (SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS before FROM first)
       SELECT o.id, o.subject, o.message_id, o.headers, o.payload, o.created_at FROM outbox o JOIN sized USING (id) WHERE sized.before < $2 ORDER BY o.id`,
      [READ_MESSAGES, READ_BYTES, [...this.restingUntil.keys()]]);
    this.empty = rows.length === 0;
    if (rows.length === 0) return false;
    const done: bigint[] = [];
    const failures = await Promise.all([...Map.groupBy(rows, (row) => row.subject).values()].map((messages) => this.publishInOrder(messages, done, signal)));
    if (done.length > 0) await client.query('DELETE FROM outbox WHERE id = ANY($1::bigint[])', [done]);
    this.published += done.length;
    const away = failures.find((each) => each instanceof BusUnavailableError);
    if (away) {
      this.log?.warn({ err: away }, 'the outbox waits for the bus');
      await delay(500, undefined, { signal }).catch(() => undefined);
    }
    return done.length > 0;
  }

  /** @returns the failure that stopped this subject, null when all were taken */
  private async publishInOrder(messages: readonly Row[], done: bigint[], signal: AbortSignal): Promise<unknown> {
    for (const row of messages) {
      if (signal.aborted) return null;
      try {
        await this.bus.publish(row.subject, row.payload, { msgId: row.message_id, headers: row.headers, publishedAtMs: row.created_at.getTime() });
      } catch (error) {
        if (!(error instanceof BusUnavailableError)) {
          this.restingUntil.set(row.subject, Date.now() + REFUSED_MS);
          this.log?.error({ err: error, subject: row.subject }, 'the bus refuses a message of the outbox; its subject rests');
        }
        return error;
      }
      done.push(row.id);
    }
    return null;
  }

  /** Messages that wait, and the age of the oldest in seconds. */
  async depth(): Promise<{ readonly messages: number; readonly oldestSeconds: number }> {
    const { rows } = await this.database.query<{ messages: number; seconds: number }>(
      `SELECT count(*)::int AS messages, coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS seconds FROM outbox`);
    return { messages: rows[0]?.messages ?? 0, oldestSeconds: Math.max(0, rows[0]?.seconds ?? 0) };
  }
}
