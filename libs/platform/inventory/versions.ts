import type { InventoryEvent } from '@upid/contracts';

/** What a mirror stands at: the generation whose snapshot is applied, and the last change after it. */
export interface MirrorVersion {
  readonly epoch: string;
  readonly epochStartedAtMs: number;
  readonly generation: number;
  /** Changes applied after the generation's snapshot. */
  readonly sequence: number;
}

export type InventoryDecision =
  /** A part of a newer snapshot: keep it, and apply all when the last one is there. */
  | 'collect'
  /** The very next change. */
  | 'apply'
  /** A change that follows what is not here yet: keep it until that has come. */
  | 'early'
  /** Already in the mirror. */
  | 'duplicate'
  /** Of an earlier epoch or generation than the mirror's. */
  | 'stale';

type Versioned = Pick<InventoryEvent, 'type' | 'epoch' | 'epoch_started_at' | 'generation' | 'sequence'>;

/** Negative when `event` is of an earlier snapshot than the mirror's, 0 for the same, positive for a later one. */
export function compareSnapshot(event: Versioned, version: MirrorVersion): number {
  const started = Date.parse(event.epoch_started_at) - version.epochStartedAtMs;
  if (started !== 0) return started;
  if (event.epoch !== version.epoch) return event.epoch < version.epoch ? -1 : 1;
  return event.generation - version.generation;
}

/** What an event means for a mirror that stands at `version` (null: nothing was ever applied). */
export function decideInventory(version: MirrorVersion | null, event: Versioned): InventoryDecision {
  const order = version === null ? 1 : compareSnapshot(event, version);
  if (order < 0) return 'stale';
  if (event.type === 'snapshot') return order === 0 ? 'duplicate' : 'collect';
  if (order > 0 || version === null) return 'early';
  if (event.sequence <= version.sequence) return 'duplicate';
  return event.sequence === version.sequence + 1 ? 'apply' : 'early';
}
