import { MINUTE_MS } from '@upid/contracts';
import type { KnownPod } from './state.js';

/** How far a kubelet's clock, or ours, may be off when a name is matched with the time a pod lived, ms. */
const TOLERANCE_MS = 5_000;

/**
 * The pod that a sample is of. A UID is believed before a name (of static pods the kubelet's own); of pods that had the same name one
 * after the other, the newest that lived within the minute.
 * @param named pods of the sample's name, the newest first
 * @param byUid the pod of the sample's UID, where the inventory has it
 */
export function podOfSample(sample: { readonly podUid: string | null; readonly minute: number }, named: readonly KnownPod[], byUid: KnownPod | undefined): KnownPod | null {
  if (byUid !== undefined) return byUid;
  if (sample.podUid !== null) {
    const exact = named.find(({ uid, kubeletUid }) => uid === sample.podUid || kubeletUid === sample.podUid);
    // A UID that no inventory names yet is another pod than those of its name, unless the kubelet calls a static pod by its own.
    return exact ?? null;
  }
  const startMs = sample.minute * MINUTE_MS;
  return named.find(({ createdAtMs, removedAtMs }) => createdAtMs <= startMs + MINUTE_MS + TOLERANCE_MS && (removedAtMs === null || removedAtMs >= startMs - TOLERANCE_MS)) ?? null;
}
