import { join } from 'node:path';
import { runner } from 'node-pg-migrate';
import pg from 'pg';
import { isDatabaseAway, type Database } from './database.js';

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
 * each other at an advisory lock. A set of one transaction stands as a whole or not at all; where the database goes away meanwhile, it is
 * waited for and the rest is applied.
 * @throws {MigrationError}
 */
export async function migrate(database: Database, sets: readonly MigrationSet[]): Promise<void> {
  for (;;) {
    await database.waitUntilThere();
    try {
      await applyAll(database, sets);
      return;
    } catch (cause) {
      if (!isDatabaseAway(cause)) throw new MigrationError(`The migrations of schema ${database.schema} failed: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
      database.options.log?.warn({ err: cause }, 'the database went away during migrations');
    }
  }
}

async function applyAll(database: Database, sets: readonly MigrationSet[]): Promise<void> {
  const client = new pg.Client(database.clientConfig());
  // A connection that breaks between two statements tells so by an event, which would end the process; the next statement fails.
  client.on('error', (error) => database.options.log?.warn({ err: error }, 'the connection to the database was lost during migrations'));
  try {
    await client.connect();
    await client.query('SELECT pg_advisory_lock(hashtextextended($1, 0))', [`upid.migrate.${database.schema}`]);
    await client.query(`CREATE SCHEMA IF NOT EXISTS ${database.schema}`);
    for (const set of sets) {
      await runner({
        dbClient: client, dir: set.directory, direction: 'up', migrationsTable: set.table, migrationsSchema: database.schema, schema: database.schema, checkOrder: true, noLock: true, singleTransaction: true,
        log: () => undefined, verbose: false,
      });
    }
  } finally {
    await client.end();
  }
}
