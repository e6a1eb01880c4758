/** What of nodes and pods decides costs: where they were, from when to when, and what they asked for. */
import { windowStart, type CapacityType, type NodeObject, type PodObject, type WorkloadRef } from '@upid/contracts';
import { nodeFactsOf, type NodeFacts } from '../prices/node-price.js';
import { effectiveContainerRequests, noResources, requestsOfPod, type RequestingContainer, type Resources } from './requests.js';

/** Effective requests from a time on; `sinceMs` null: from the pod's beginning. */
export interface RequestsSince {
  readonly sinceMs: number | null;
  readonly containers: readonly RequestingContainer[];
}

/** A pod that was bound to a node. */
export interface PodLife {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly workload: WorkloadRef;
  readonly nodeName: string;
  /** When it was bound; unix ms. */
  readonly startMs: number;
  /** End of its phase, or when it vanished; null: it stands. */
  readonly endMs: number | null;
  readonly labels: Readonly<Record<string, string>>;
  /** The earliest first; at least one. */
  readonly requests: readonly RequestsSince[];
}

/** A node with what its price depends on and what it offers; `facts` null while its size is unknown. */
export interface NodeLife {
  readonly uid: string;
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number | null;
  readonly instanceType: string | null;
  readonly region: string | null;
  readonly capacityType: CapacityType;
  readonly facts: { readonly price: NodeFacts; readonly allocatable: Resources } | null;
}

/** A UID in one form: lower case, with dashes (mirror pods' UIDs come without). */
export function canonicalUid(uid: string): string {
  const hex = uid.replaceAll('-', '').toLowerCase();
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

function earliest(...times: readonly (number | null)[]): number | null {
  return times.reduce((least, time) => (time !== null && (least === null || time < least) ? time : least), null);
}

/** The life of an inventoried pod; null while it is bound to no node, since then it holds nothing that costs. */
export function podLifeOf(pod: PodObject, removedAtMs: number | null): PodLife | null {
  const bound = pod.scheduled_at ?? pod.started_at ?? pod.created_at;
  if (pod.node_name === null) return null;
  const startMs = Date.parse(bound);
  const endMs = earliest(pod.finished_at === null ? null : Date.parse(pod.finished_at), removedAtMs);
  return {
    uid: canonicalUid(pod.uid), namespace: pod.namespace, name: pod.name, workload: pod.workload, nodeName: pod.node_name, startMs, endMs: endMs === null ? null : Math.max(startMs, endMs),
    labels: pod.labels, requests: [{ sinceMs: null, containers: effectiveContainerRequests(requestsOfPod(pod)) }],
  };
}

/** The life of an inventoried node: from its creation, or when it was first seen if that is earlier by the clocks, to its removal. */
export function nodeLifeOf(node: NodeObject, firstSeenMs: number, removedAtMs: number | null): NodeLife {
  const price = nodeFactsOf(node);
  const startMs = Math.min(Date.parse(node.created_at), firstSeenMs);
  const { allocatable } = node;
  return {
    uid: canonicalUid(node.uid), name: node.name, startMs, endMs: removedAtMs === null ? null : Math.max(startMs, removedAtMs), instanceType: node.instance_type, region: node.region, capacityType: node.capacity_type,
    facts: price === null ? null : {
      price,
      // What the node does not say of its allocatable is taken to be all of its capacity.
      allocatable: { cpuMillicores: allocatable.cpu_millicores ?? price.cpuMillicores, memoryBytes: allocatable.memory_bytes ?? price.memoryBytes, gpus: allocatable.gpus ?? price.gpus },
    },
  };
}

function sameRequests(left: readonly RequestingContainer[], right: readonly RequestingContainer[]): boolean {
  return left.length === right.length && left.every((container, i) => {
    const other = right[i];
    return other !== undefined && other.name === container.name && other.requests.cpuMillicores === container.requests.cpuMillicores && other.requests.memoryBytes === container.requests.memoryBytes && other.requests.gpus === container.requests.gpus;
  });
}

/** The containers that counted at a time. */
export function requestsAt(requests: readonly RequestsSince[], atMs: number): readonly RequestingContainer[] {
  let found = requests[0]?.containers ?? [];
  for (const each of requests) if (each.sinceMs !== null && each.sinceMs <= atMs) found = each.containers;
  return found;
}

/** What a running pod requests in all, by the newest that is known. */
export function totalRequest({ requests }: Pick<PodLife, 'requests'>): Resources {
  return (requests.at(-1)?.containers ?? []).reduce((sum, each) => ({
    cpuMillicores: sum.cpuMillicores + each.requests.cpuMillicores, memoryBytes: sum.memoryBytes + each.requests.memoryBytes, gpus: sum.gpus + each.requests.gpus,
  }), noResources);
}

/** A life that was known before, with the news of it. */
export interface Renewal<L> {
  readonly life: L;
  /** Costs from here on are other than before; null: nothing that costs depend on has changed. */
  readonly affectedFromMs: number | null;
}

/**
 * A pod's life with what is newly known. A resize in place keeps what was requested before: the new requests count from the
 * window in which they were seen.
 */
export function renewPod(before: PodLife | null, now: PodLife, seenAtMs: number): Renewal<PodLife> {
  if (!before) return { life: now, affectedFromMs: now.startMs };
  const wanted = now.requests[0]?.containers ?? [];
  const resized = !sameRequests(before.requests.at(-1)?.containers ?? [], wanted);
  const resizedAtMs = windowStart(seenAtMs);
  const requests = resized ? [...before.requests.filter(({ sinceMs }) => sinceMs === null || sinceMs < resizedAtMs), { sinceMs: resizedAtMs, containers: wanted }] : before.requests;
  return { life: { ...now, requests }, affectedFromMs: earliest(movedFrom(before, now), before.nodeName === now.nodeName ? null : earliest(before.startMs, now.startMs), resized ? resizedAtMs : null) };
}

/** A node's life with what is newly known of it; another size or price counts for all of its hours that are computed from now on. */
export function renewNode(before: NodeLife | null, now: NodeLife): Renewal<NodeLife> {
  return { life: now, affectedFromMs: before ? earliest(movedFrom(before, now), before.facts === null && now.facts !== null ? now.startMs : null) : now.startMs };
}

/** From when on a changed beginning or end tells. */
function movedFrom(before: { readonly startMs: number; readonly endMs: number | null }, now: { readonly startMs: number; readonly endMs: number | null }): number | null {
  return earliest(before.startMs === now.startMs ? null : Math.min(before.startMs, now.startMs), before.endMs === now.endMs ? null : earliest(before.endMs, now.endMs));
}

/** The node that a pod was on: of those of the name the one that had last come up when the pod was bound, else the first to come up. */
export function nodeOf<N extends { readonly startMs: number }>(namesakes: readonly N[], podStartMs: number): N | null {
  const byStart = namesakes.toSorted((a, b) => a.startMs - b.startMs);
  return byStart.findLast(({ startMs }) => startMs <= podStartMs) ?? byStart[0] ?? null;
}
