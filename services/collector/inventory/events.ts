import { SNAPSHOT_PART_BYTES, toTimestamp, type InventoryKind } from '@upid/contracts';

/**
 * Inventory events as JSON texts, put together from the texts of their objects, so that a snapshot of ten thousand pods is neither
 * parsed nor built twice.
 */

/** Where an agent's inventory stands: a generation begins with a snapshot, its changes are counted from 1. */
export interface InventoryPosition {
  readonly epoch: string;
  readonly epochStartedAtMs: number;
  readonly generation: number;
  /** Of the last change; 0 after the snapshot. */
  readonly sequence: number;
}

/** Room for the fields around the objects, bytes. */
const HEAD_BYTES = 1_024;

/** Splits texts into groups whose JSON stays within `limit` bytes; an object over it stands alone. At least one group. */
export function packed(texts: readonly string[], limit: number): string[][] {
  const groups: string[][] = [];
  let group: string[] = [];
  let bytes = 0;
  for (const text of texts) {
    const size = utf8Bytes(text) + 1;
    if (group.length > 0 && bytes + size > limit) {
      groups.push(group);
      group = [];
      bytes = 0;
    }
    group.push(text);
    bytes += size;
  }
  if (group.length > 0 || groups.length === 0) groups.push(group);
  return groups;
}

/** Bytes of a text as UTF-8. */
export function utf8Bytes(text: string): number {
  return Buffer.byteLength(text);
}

function eventText(type: 'snapshot' | 'change', position: InventoryPosition, part: number, parts: number, observedAtMs: number, upserts: readonly string[], removes: readonly { kind: InventoryKind; uid: string }[]): string {
  const head = JSON.stringify({
    version: 1, type, epoch: position.epoch, epoch_started_at: toTimestamp(position.epochStartedAtMs), generation: position.generation, sequence: position.sequence, part, parts, observed_at: toTimestamp(observedAtMs), removes,
  });
  return `${head.slice(0, -1)},"upserts":[${upserts.join(',')}]}`;
}

/** The parts of a snapshot, each within 512 KiB; `position.sequence` is 0. */
export function snapshotTexts(position: InventoryPosition, objects: readonly string[], observedAtMs: number): string[] {
  const groups = packed(objects, SNAPSHOT_PART_BYTES - HEAD_BYTES);
  return groups.map((group, index) => eventText('snapshot', { ...position, sequence: 0 }, index + 1, groups.length, observedAtMs, group, []));
}

/**
 * Changes as events that follow each other, each within 512 KiB; removals come first, so that a name that was made anew is not
 * removed behind its successor. The first has sequence `position.sequence + 1`.
 */
export function changeTexts(position: InventoryPosition, upserts: readonly string[], removes: readonly { kind: InventoryKind; uid: string }[], observedAtMs: number): string[] {
  if (upserts.length === 0 && removes.length === 0) return [];
  const removeGroups = packed(removes.map((each) => JSON.stringify(each)), SNAPSHOT_PART_BYTES - HEAD_BYTES);
  const texts: string[] = [];
  let sequence = position.sequence;
  const add = (group: readonly string[], gone: readonly { kind: InventoryKind; uid: string }[]) => texts.push(eventText('change', { ...position, sequence: ++sequence }, 1, 1, observedAtMs, group, gone));
  const groups = upserts.length === 0 ? [] : packed(upserts, SNAPSHOT_PART_BYTES - HEAD_BYTES);
  if (removeGroups.length === 1 && groups.length <= 1 && utf8Bytes(removeGroups[0]?.join() ?? '') + utf8Bytes(groups[0]?.join() ?? '') < SNAPSHOT_PART_BYTES - HEAD_BYTES) {
    add(groups[0] ?? [], removes);
    return texts;
  }
  let at = 0;
  for (const group of removeGroups) {
    if (group.length > 0) add([], removes.slice(at, at + group.length));
    at += group.length;
  }
  for (const group of groups) add(group, []);
  return texts;
}
