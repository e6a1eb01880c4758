import { toTimestamp, type Assessment, type AssessmentEvent } from '@upid/contracts';

/** An event is at most about this many bytes of JSON. */
const EVENT_BYTES = 384 * 1024;
/** Pods that an assessment lists: of more, those that speak most against idleness. Mean and lowest are over all of them. */
export const LISTED_PODS = 100;

/** The pods that an assessment lists, from all that were judged. */
export function listedPods(pods: Assessment['pods']): Assessment['pods'] {
  if (pods.length <= LISTED_PODS) return pods;
  return [...pods].sort((a, b) => (a.judgement.idle_probability ?? -1) - (b.judgement.idle_probability ?? -1) || a.judgement.confidence - b.judgement.confidence || (a.uid < b.uid ? -1 : 1)).slice(0, LISTED_PODS);
}

/** Cuts assessments into events of a bounded size. */
export function assessmentEvents(head: { readonly clusterId: string; readonly windowStartMs: number; readonly windowEndMs: number; readonly policy: string; readonly revision: number }, assessments: readonly Assessment[]): AssessmentEvent[] {
  const groups: Assessment[][] = [];
  let bytes = Infinity;
  for (const assessment of assessments) {
    const size = JSON.stringify(assessment).length;
    if (bytes + size > EVENT_BYTES) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)?.push(assessment);
    bytes += size;
  }
  return groups.map((group, i) => ({
    version: 1, id: `assessment/${head.clusterId}/${head.revision}/${i + 1}`, window_start: toTimestamp(head.windowStartMs), window_end: toTimestamp(head.windowEndMs), assessed_at: toTimestamp(head.windowEndMs),
    policy: head.policy, revision: head.revision, assessments: group,
  }));
}
