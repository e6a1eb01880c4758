import type pg from 'pg';
import type { Database, Tx } from '../database/index.js';

export interface Lease {
  readonly name: string;
  readonly holder: string;
  /** Strictly increasing with every acquisition of the name: whoever is shown a lower one than before refuses. */
  readonly fence: bigint;
  /** By the database's clock. */
  readonly expiresAt: Date;
}

/** The lease was lost: it expired, or another holds it. */
export class LeaseLostError extends Error {
  override readonly name = 'LeaseLostError';
  constructor(lease: Lease) {
    super(`${lease.holder} no longer holds ${lease.name} (fence ${lease.fence})`);
  }
}

interface Row { readonly fence: bigint; readonly expires_at: Date }

/** Ownership among replicas, in rows of the service's schema; all times are the database's. */
export class Leases {
  constructor(private readonly database: Database) {}

  /** Takes the lease for `ttlMs`, or returns null while another (or an earlier acquisition of the same holder) has it. */
  async acquire(name: string, holder: string, ttlMs: number): Promise<Lease | null> {
    const { rows } = await this.database.query<Row>(
      `INSERT INTO lease AS l (name, holder, fence, expires_at) VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 ms')
       ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, fence = l.fence + 1, expires_at = excluded.expires_at WHERE l.expires_at <= clock_timestamp()
       RETURNING fence, expires_at`, [name, holder, ttlMs]);
    return rows[0] ? { name, holder, fence: rows[0].fence, expiresAt: rows[0].expires_at } : null;
  }

  /** Holds it for `ttlMs` from now, or returns null when it was lost. */
  async renew(lease: Lease, ttlMs: number): Promise<Lease | null> {
    const { rows } = await this.database.query<Row>(
      `UPDATE lease SET expires_at = clock_timestamp() + $3 * interval '1 ms' WHERE name = $1 AND fence = $2 AND expires_at > clock_timestamp() RETURNING fence, expires_at`, [lease.name, lease.fence, ttlMs]);
    return rows[0] ? { ...lease, expiresAt: rows[0].expires_at } : null;
  }

  /** Gives it up; the row and its fence stay. Nothing happens where it was lost already. */
  async release(lease: Lease): Promise<void> {
    await this.database.query(`UPDATE lease SET expires_at = clock_timestamp() WHERE name = $1 AND fence = $2 AND expires_at > clock_timestamp()`, [lease.name, lease.fence]);
  }

  /** Within a transaction: holds the lease's row until its end, so that nobody takes it before the commit. @throws {LeaseLostError} */
  async assertHeld(tx: Tx, lease: Lease): Promise<void> {
    const { rows } = await tx.query(`SELECT 1 FROM lease WHERE name = $1 AND fence = $2 AND expires_at > clock_timestamp() FOR SHARE`, [lease.name, lease.fence]);
    if (rows.length === 0) throw new LeaseLostError(lease);
  }
}

/**
 * Rows that this transaction alone works on until it ends (`FOR UPDATE SKIP LOCKED`), at most `limit`: workers of any number of replicas each
 * get other rows. `table`, `where` and `orderBy` are SQL of the caller, never of a user.
 */
export async function claim<R extends pg.QueryResultRow = pg.QueryResultRow>(
  tx: Tx, options: { readonly table: string; readonly where?: string; readonly values?: readonly unknown[]; readonly orderBy: string; readonly limit: number },
): Promise<R[]> {
  const { rows } = await tx.query<R>(`SELECT * FROM ${options.table} ${options.where ? `WHERE ${options.where}` : ''} ORDER BY ${options.orderBy} LIMIT ${Math.trunc(options.limit)} FOR UPDATE SKIP LOCKED`, options.values);
  return rows;
}
