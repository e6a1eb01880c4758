export { BinaryCopyEncoder, copyIn, type CopyType, CopyValueError } from './copy.js';
export { CommitUnknownError, Database, type DatabaseOptions, DatabaseUnavailableError, isDatabaseAway, SchemaNameError, type Tx } from './database.js';
export { migrate, MigrationError, type MigrationSet, platformMigrations } from './migrate.js';
export { createTimeTables, type DatabaseCapabilities, maintainTimeTables, prepareTimes, probeDatabase, type TimeTable, UnsupportedDatabaseError } from './time-tables.js';
