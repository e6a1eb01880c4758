import type { Registry } from 'prom-client';
import type { Bus } from '../bus/index.js';
import type { Cache } from '../cache/cache.js';
import type { Database, DatabaseCapabilities } from '../database/index.js';
import type { Health } from '../health/health.js';
import type { InventoryMirror } from '../inventory/mirror.js';
import type { Leases } from '../leases/leases.js';
import type { Logger } from '../logging/logging.js';
import type { Outbox } from '../outbox/outbox.js';
import { type Loop, startLoop } from './loop.js';

/** A part that the service's definition did not ask for. */
export class MissingPartError extends Error {
  override readonly name = 'MissingPartError';
}

export interface PlatformParts<C> {
  readonly name: string;
  readonly config: C;
  readonly log: Logger;
  readonly bus: Bus;
  readonly cache: Cache;
  readonly health: Health;
  readonly metrics: Registry;
  readonly storage: { readonly database: Database; readonly capabilities: DatabaseCapabilities; readonly outbox: Outbox; readonly leases: Leases; readonly inventory: InventoryMirror | null } | null;
}

/** What a service stands on. Injectable in its modules as a whole, and each part by its own class. */
export class Platform<C = unknown> {
  readonly name: string;
  readonly config: C;
  readonly log: Logger;
  readonly bus: Bus;
  readonly cache: Cache;
  readonly health: Health;
  readonly metrics: Registry;
  private readonly loops: Loop[] = [];

  constructor(private readonly parts: PlatformParts<C>) {
    this.name = parts.name;
    this.config = parts.config;
    this.log = parts.log;
    this.bus = parts.bus;
    this.cache = parts.cache;
    this.health = parts.health;
    this.metrics = parts.metrics;
  }

  private get storage(): NonNullable<PlatformParts<C>['storage']> {
    if (!this.parts.storage) throw new MissingPartError(`${this.name} has no database: its definition names no schema`);
    return this.parts.storage;
  }

  /** @throws {MissingPartError} where the definition names no schema; so do all that lie in the database */
  get database(): Database { return this.storage.database; }
  get databaseCapabilities(): DatabaseCapabilities { return this.storage.capabilities; }
  get outbox(): Outbox { return this.storage.outbox; }
  get leases(): Leases { return this.storage.leases; }
  get hasDatabase(): boolean { return this.parts.storage !== null; }

  /** @throws {MissingPartError} where the definition does not say `inventory` */
  get inventory(): InventoryMirror {
    if (!this.storage.inventory) throw new MissingPartError(`${this.name} keeps no inventory: its definition does not ask for it`);
    return this.storage.inventory;
  }
  get hasInventory(): boolean { return this.parts.storage?.inventory != null; }

  /** Starts a {@link Loop} that ends at shutdown before anything is closed. */
  loop(name: string, intervalMs: number, step: (signal: AbortSignal) => Promise<boolean | void>): Loop {
    const loop = startLoop({ name, intervalMs, log: this.log }, step);
    this.loops.push(loop);
    return loop;
  }

  /** Ends all loops, each after its step under way. */
  async stopLoops(): Promise<void> {
    await Promise.all(this.loops.splice(0).map((loop) => loop.stop()));
  }
}
