import { join } from 'node:path';
import { runner } from 'node-pg-migrate';
import pg from 'pg';
import type { Database } from './database.js';

/** Migrations that came to no end; the database stands where the last good one left it. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError';
}

export interface MigrationSet {
  /** Folder of plain SQL files `NNNN_name.sql`, applied in order of their names. */
  readonly directory: string;
  /** Table that remembers what was applied; one for each set. */
  readonly table: string;
}

/** The platform's own tables: outbox and leases. */
export const platformMigrations: MigrationSet = { directory: join(import.meta.dirname, 'migrations'), table: 'migration_platform' };

/**
 * Applies SQL migrations to the service's schema (made where it is missing), set after set. Several replicas at once are safe: they wait for
 * each other at an advisory lock. A set of one transaction stands as a whole or not at all.
 */
export async function migrate(database: Database, sets: readonly MigrationSet[]): Promise<void> {
  const client = new pg.Client(database.clientConfig());
  await client.connect();
  try {
    await client.query('SELECT pg_advisory_lock(hashtextextended($1, 0))', [`upid.migrate.${database.schema}`]);
    await client.query(`CREATE SCHEMA IF NOT EXISTS ${database.schema}`);
    for (const set of sets) {
      await runner({
        dbClient: client, dir: set.directory, direction: 'up', migrationsTable: set.table, migrationsSchema: database.schema, schema: database.schema, checkOrder: true, noLock: true, singleTransaction: true,
        log: () => undefined, verbose: false,
      });
    }
  } catch (cause) {
    throw new MigrationError(`The migrations of schema ${database.schema} failed: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  } finally {
    await client.end();
  }
}
