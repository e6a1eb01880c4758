/**
 * How a service lives: configuration, logs, the bus, the database, outbox, leases, inventory mirror, cache, health, and the
 * real servers below. One door a folder; nothing here knows of a service.
 */
export { type ConfigOf, ConfigError, describeConfig, loadConfig, platformSettings, setting, type Setting, type Settings } from './config/config.js';
export { loadPolicy, PolicyFileError } from './config/policy.js';
export { type Correlation, createLogger, currentCorrelation, type Logger, outgoingTrace, withCorrelation, withIncomingTrace } from './logging/logging.js';
export * from './bus/index.js';
export * from './database/index.js';
export { Outbox, type OutboxMessage } from './outbox/outbox.js';
export { claim, type Lease, LeaseLostError, Leases } from './leases/leases.js';
export { inventoryMigrations, InventoryMirror, type InventoryOutcome, type InventoryResult, type MirroredObject, type ObjectOf, type ObjectRef } from './inventory/mirror.js';
export { Cache, type CacheOptions } from './cache/cache.js';
export { createCounter, createMetrics, type DependencyState, Health, type Readiness, registerGauges, serveHealth } from './health/health.js';
export { type Loop, startLoop } from './service/loop.js';
export { MissingPartError, Platform, type PlatformParts } from './service/platform.js';
export { type RunningService, runService, type ServiceConfig, type ServiceDefinition, startService } from './service/service.js';
export * from './servers/index.js';
