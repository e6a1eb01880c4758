/** What the scheduler reserves for a pod, told per running container. */
import type { PodObject, ResourceAmounts } from '@upid/contracts';

/** Amounts of what a node offers and a container asks for. GPUs may be fractions (MIG, time slicing). */
export interface Resources {
  readonly cpuMillicores: number;
  readonly memoryBytes: number;
  readonly gpus: number;
}

export const noResources: Resources = { cpuMillicores: 0, memoryBytes: 0, gpus: 0 };

/** A container of a pod's specification with what it requests (0: no request). */
export interface RequestingContainer {
  readonly name: string;
  readonly requests: Resources;
}

/** An init container; with `restartPolicy: Always` it is a sidecar that runs on beside the containers. */
export interface RequestingInitContainer extends RequestingContainer {
  readonly restartable: boolean;
}

/** The parts of a pod's specification that decide what is reserved for it. */
export interface PodRequests {
  readonly containers: readonly RequestingContainer[];
  /** In the order of the specification: a sidecar counts for the init containers after it. */
  readonly initContainers: readonly RequestingInitContainer[];
  /** `spec.overhead` of the runtime class. */
  readonly overhead: Resources;
  /** `spec.resources.requests` of the pod as a whole, where set; it stands instead of the containers' sum for that resource. */
  readonly podLevel?: Partial<Resources>;
}

/** An inventoried pod's requests; what it does not name it does not request. */
export function requestsOfPod({ containers, overhead }: Pick<PodObject, 'containers' | 'overhead'>): PodRequests {
  return {
    containers: containers.filter(({ role }) => role === 'main').map(({ name, requests }) => ({ name, requests: amounts(requests) })),
    initContainers: containers.filter(({ role }) => role !== 'main').map(({ name, role, requests }) => ({ name, requests: amounts(requests), restartable: role === 'sidecar' })),
    overhead: amounts(overhead),
  };
}

function amounts(of: ResourceAmounts | null): Resources {
  return { cpuMillicores: of?.cpu_millicores ?? 0, memoryBytes: of?.memory_bytes ?? 0, gpus: of?.gpus ?? 0 };
}

type Kind = keyof Resources;

/**
 * The pod's effective request by the scheduler's rule: per resource the larger of what containers and sidecars request
 * together and the peak while the init containers run one after the other (each beside the sidecars started before it), or
 * the pod's own request where it has one; plus the pod's overhead. (Kubernetes documentation, "Resource sharing within
 * containers" of sidecar containers; component-helpers' PodRequests.)
 */
export function effectivePodRequest(pod: PodRequests): Resources {
  const effective = (kind: Kind): number => {
    let running = 0;
    for (const { requests } of pod.containers) running += requests[kind];
    let sidecars = 0;
    let starting = 0;
    for (const { requests, restartable } of pod.initContainers) {
      if (restartable) sidecars += requests[kind];
      starting = Math.max(starting, restartable ? sidecars : sidecars + requests[kind]);
    }
    return (pod.podLevel?.[kind] ?? Math.max(running + sidecars, starting)) + pod.overhead[kind];
  };
  return { cpuMillicores: effective('cpuMillicores'), memoryBytes: effective('memoryBytes'), gpus: effective('gpus') };
}

/**
 * The pod's effective request told per running container (containers and sidecars, in that order): what the scheduler
 * reserves beyond their own requests (an init container's peak, the pod's overhead, a pod-level request) is spread in
 * proportion to their own requests, evenly where none of them has one. The parts sum to `effectivePodRequest` up to the
 * rounding of doubles. A pod-level request below the containers' sum scales them down in the same proportion.
 */
export function effectiveContainerRequests(pod: PodRequests): RequestingContainer[] {
  const running = [...pod.containers, ...pod.initContainers.filter(({ restartable }) => restartable)];
  const pods = effectivePodRequest(pod);
  const own: Resources = {
    cpuMillicores: running.reduce((sum, { requests }) => sum + requests.cpuMillicores, 0),
    memoryBytes: running.reduce((sum, { requests }) => sum + requests.memoryBytes, 0),
    gpus: running.reduce((sum, { requests }) => sum + requests.gpus, 0),
  };
  const part = (kind: Kind, requested: number): number => {
    if (own[kind] === pods[kind]) return requested;
    return own[kind] > 0 ? (requested * pods[kind]) / own[kind] : pods[kind] / running.length;
  };
  return running.map(({ name, requests }) => ({
    name,
    requests: {
      cpuMillicores: part('cpuMillicores', requests.cpuMillicores),
      memoryBytes: part('memoryBytes', requests.memoryBytes),
      gpus: part('gpus', requests.gpus),
    },
  }));
}
