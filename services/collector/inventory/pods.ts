import { podPhaseSchema, type PodObject } from '@upid/contracts';
import { amountsOf } from '../recognition/node.js';
import type { ContainerStatus, KubePod } from './kubernetes.js';
import type { Ownership } from './owners.js';
import { containersOf } from './resources.js';

/** A container that the kernel killed for want of memory, as the pod's status tells it. */
export interface OomKill {
  readonly container: string;
  /** RFC 3339. */
  readonly at: string;
  readonly memoryLimitBytes: number | null;
}

/** A pod as the contracts say it. @param finishedSeenAt when its end was first seen, for pods whose status tells no time of it; RFC 3339 */
export function podObject(pod: KubePod, { workload, owners }: Ownership, finishedSeenAt: string): PodObject {
  const { metadata = {}, spec, status } = pod;
  const phase = podPhaseSchema.safeParse(status?.phase);
  const conditions = status?.conditions ?? [];
  const statuses = allStatuses(pod);
  const finished = phase.data === 'Succeeded' || phase.data === 'Failed';
  const scheduled = conditions.find(({ type, status: is }) => type === 'PodScheduled' && is === 'True')?.lastTransitionTime;
  const created = metadata.creationTimestamp ?? finishedSeenAt;
  return {
    kind: 'Pod',
    uid: metadata.uid ?? '',
    namespace: metadata.namespace ?? '',
    name: metadata.name ?? '',
    node_name: spec?.nodeName ?? null,
    phase: phase.data ?? 'Unknown',
    ready: conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True'),
    workload,
    owners,
    containers: containersOf(spec),
    overhead: spec?.overhead === undefined ? null : amountsOf(spec.overhead),
    host_network: spec?.hostNetwork === true,
    labels: { ...metadata.labels },
    restarts: statuses.reduce((sum, { restartCount }) => sum + (restartCount ?? 0), 0),
    oom_killed_at: latest(oomKills(pod).map(({ at }) => at)),
    created_at: created,
    // Bound by hand (static pods, `nodeName` in the manifest): no condition tells when, so from the beginning.
    scheduled_at: scheduled ?? (spec?.nodeName === undefined ? null : created),
    started_at: status?.startTime ?? null,
    finished_at: finished ? finishedAt(pod, finishedSeenAt) : null,
  };
}

function allStatuses({ status }: KubePod): ContainerStatus[] {
  return [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])];
}

/** When the last container ended; of a pod that was evicted before any ran, when its conditions last changed. */
function finishedAt(pod: KubePod, seenAt: string): string {
  const ended = latest(allStatuses(pod).flatMap(({ state }) => state?.terminated?.finishedAt ?? []));
  return ended ?? latest((pod.status?.conditions ?? []).flatMap(({ lastTransitionTime }) => lastTransitionTime ?? [])) ?? seenAt;
}

/** Containers of the pod that were killed for want of memory, by now or before their last restart. */
export function oomKills(pod: KubePod): OomKill[] {
  const limits = new Map(containersOf(pod.spec).map(({ name, limits: { memory_bytes: bytes } }) => [name, bytes]));
  return allStatuses(pod).flatMap(({ name, state, lastState }) =>
    [state?.terminated, lastState?.terminated].flatMap((ended) =>
      ended?.reason === 'OOMKilled' && ended.finishedAt !== undefined ? [{ container: name, at: ended.finishedAt, memoryLimitBytes: limits.get(name) ?? null }] : []));
}

/** The latest of RFC 3339 times in UTC of the same precision, or null. */
export function latest(times: readonly string[]): string | null {
  return times.reduce<string | null>((last, time) => (last === null || time > last ? time : last), null);
}
