import type { WorkloadKind, WorkloadObject } from '@upid/contracts';
import { quantity } from '../usage/quantities.js';
import type { KubePod, KubeVolume, KubeWorkload, Metadata, PodTemplate } from './kubernetes.js';
import { latest } from './pods.js';
import { allowedAnnotations } from './privacy.js';
import { containersOf } from './resources.js';

/** A ReplicaSet or ControllerRevision as a sign of when its owner's pod template changed. */
export interface Revision {
  readonly createdAt: string;
  /** `deployment.kubernetes.io/revision` or Argo's; 0 where there is none. */
  readonly number: number;
}

const REVISION_ANNOTATIONS = ['deployment.kubernetes.io/revision', 'rollout.argoproj.io/revision'];

export function revisionOf({ annotations, creationTimestamp = '' }: Metadata): Revision {
  const number = REVISION_ANNOTATIONS.map((name) => Number(annotations?.[name])).find((value) => value > 0) ?? 0;
  return { createdAt: creationTimestamp, number };
}

export function podTemplateOf({ spec }: KubeWorkload): PodTemplate | undefined {
  return spec?.jobTemplate?.spec?.template ?? spec?.template;
}

/** A controller as the contracts say it; values of its environment and annotations outside the allow-list are left where they are. */
export function workloadObject(workload: KubeWorkload, kind: WorkloadKind, apiVersion: string, revisions: readonly Revision[] = []): WorkloadObject {
  const { metadata = {}, spec, status } = workload;
  const template = podTemplateOf(workload);
  const observed = Number(status?.observedGeneration);
  return {
    kind: 'Workload',
    uid: metadata.uid ?? '',
    workload_kind: kind,
    namespace: metadata.namespace ?? '',
    name: metadata.name ?? '',
    api_version: workload.apiVersion ?? apiVersion,
    resource_version: metadata.resourceVersion ?? '',
    generation: metadata.generation ?? 0,
    observed_generation: Number.isInteger(observed) && observed >= 0 ? observed : null,
    replicas: wishedReplicas(workload, kind),
    ready_replicas: kind === 'DaemonSet' ? (status?.numberReady ?? null) : kind === 'Job' || kind === 'CronJob' ? null : (status?.readyReplicas ?? 0),
    updated_replicas: kind === 'DaemonSet' ? (status?.updatedNumberScheduled ?? null) : (status?.updatedReplicas ?? null),
    suspended: spec?.suspend ?? null,
    labels: { ...metadata.labels },
    template_labels: { ...template?.metadata?.labels },
    annotations: allowedAnnotations(metadata.annotations),
    owners: (metadata.ownerReferences ?? []).map((owner) => `${owner.kind}/${owner.name}`),
    managers: specManagers(metadata),
    containers: containersOf(template?.spec),
    volumes: (template?.spec?.volumes ?? []).map(volume),
    volume_claim_templates: spec?.volumeClaimTemplates?.length ?? 0,
    max_surge: maxSurge(workload, kind),
    created_at: metadata.creationTimestamp ?? '',
    last_rollout_at: lastRolloutAt(rolloutSigns(workload, kind), revisions),
    rollout_in_flight: rolloutInFlight(workload, kind),
  };
}

/** A bare pod is its own workload. */
export function barePodWorkload(pod: KubePod): WorkloadObject {
  const { metadata = {}, spec } = pod;
  return {
    ...workloadObject({ apiVersion: 'v1', metadata, spec: { template: { metadata, spec } } }, 'Pod', 'v1'), replicas: null, ready_replicas: null, observed_generation: null, last_rollout_at: metadata.creationTimestamp ?? null,
  };
}

function wishedReplicas({ spec }: KubeWorkload, kind: WorkloadKind): number | null {
  if (kind === 'DaemonSet' || kind === 'Job' || kind === 'CronJob') return null;
  return spec?.replicas ?? 1;
}

/** Who wrote the spec, by field manager: GitOps controllers and other optimisers show here. */
function specManagers({ managedFields = [] }: Metadata): string[] {
  const managers = managedFields.filter(({ fieldsV1 }) => fieldsV1 !== undefined && 'f:spec' in fieldsV1).flatMap(({ manager }) => manager ?? []);
  return [...new Set(managers)].sort();
}

function volume(each: KubeVolume): WorkloadObject['volumes'][number] {
  const type = each.persistentVolumeClaim ? 'persistent_volume_claim'
    : each.emptyDir !== undefined || each.ephemeral !== undefined ? 'ephemeral'
      : each.hostPath !== undefined ? 'host_path'
        : each.configMap ?? each.secret ?? each.projected ?? each.downwardAPI ? 'config' : 'other';
  return { name: each.name ?? '', type, claim: each.persistentVolumeClaim?.claimName ?? null };
}

/** Whether a rollout brings new pods before it ends old ones; null where the kind has no such choice. */
function maxSurge({ spec }: KubeWorkload, kind: WorkloadKind): boolean | null {
  if (kind === 'StatefulSet') return false;
  const strategy = kind === 'DaemonSet' ? spec?.updateStrategy : kind === 'Deployment' ? spec?.strategy : undefined;
  if (strategy === undefined) return kind === 'Deployment' ? true : null;
  if (strategy.type === 'Recreate' || strategy.type === 'OnDelete') return false;
  const surge = strategy.rollingUpdate?.maxSurge ?? (kind === 'Deployment' ? '25%' : 0);
  return typeof surge === 'number' ? surge > 0 : (quantity(surge.replace('%', '')) ?? 0) > 0;
}

/** What a workload itself says of its last rollout. */
export interface RolloutSigns {
  readonly createdAt: string | null;
  /** When the last rollout came through, where a condition tells. */
  readonly progressedAt: string | null;
  /** Whether the kind has revisions at all. */
  readonly revised: boolean;
}

export function rolloutSigns({ metadata = {}, status }: KubeWorkload, kind: WorkloadKind): RolloutSigns {
  const progressing = status?.conditions?.find(({ type }) => type === 'Progressing');
  return { createdAt: metadata.creationTimestamp ?? null, progressedAt: progressing?.lastUpdateTime ?? null, revised: kind !== 'Job' && kind !== 'CronJob' };
}

/**
 * When the pod template last changed. A Deployment's newest revision is a ReplicaSet made then, unless it went back to an old template:
 * the old ReplicaSet then carries the newest number, and the condition tells when that came through.
 */
export function lastRolloutAt({ createdAt, progressedAt, revised }: RolloutSigns, revisions: readonly Revision[]): string | null {
  if (!revised || revisions.length === 0) return createdAt;
  const newest = revisions.reduce((a, b) => (b.number > a.number || (b.number === a.number && b.createdAt > a.createdAt) ? b : a));
  const lastMade = latest(revisions.map((revision) => revision.createdAt));
  return newest.createdAt === lastMade ? lastMade : (progressedAt ?? lastMade);
}

function rolloutInFlight({ metadata = {}, spec, status }: KubeWorkload, kind: WorkloadKind): boolean {
  const behind = Number(status?.observedGeneration ?? 0) < (metadata.generation ?? 0);
  const wished = spec?.replicas ?? 1;
  switch (kind) {
    case 'Deployment':
      return behind || (status?.updatedReplicas ?? 0) < wished || (status?.replicas ?? 0) > (status?.updatedReplicas ?? 0);
    case 'StatefulSet':
      return behind || (status?.updateRevision !== undefined && status.currentRevision !== undefined && status.updateRevision !== status.currentRevision);
    case 'DaemonSet':
      return behind || (status?.updatedNumberScheduled ?? 0) < (status?.desiredNumberScheduled ?? 0);
    case 'Rollout':
      return behind || status?.phase === 'Progressing' || status?.phase === 'Paused';
    default:
      return false;
  }
}
