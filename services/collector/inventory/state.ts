import {
  toTimestamp, workloadKey, type AutoscalerObject, type ClusterObject, type InventoryKind, type InventoryObject, type NamespaceObject, type WorkloadKind, type WorkloadObject, type WorkloadRef,
} from '@upid/contracts';
import { recogniseNode, type NodeFacts } from '../recognition/node.js';
import type { KnownService } from '../requests/upstreams.js';
import { uuidOf } from './identifiers.js';
import type {
  KubeAutoscaler, KubeDisruptionBudget, KubeHttpRoute, KubeIngress, KubeNode, KubeObject, KubePod, KubeService, KubeVirtualService, KubeWorkload, Labels, Metadata, Resource,
} from './kubernetes.js';
import {
  autoscalerObject, dependencyObjects, disruptionBudgetObject, httpRoute, ingressRoute, namedHosts, routeObject, serviceObject, virtualServiceRoute, type KnownRoute, type SelectableWorkload, type ServiceName,
} from './links.js';
import { nodeObject } from './nodes.js';
import { controllerOf, ownershipOf, type KnownController } from './owners.js';
import { oomKills, podObject } from './pods.js';
import { allowedAnnotations } from './privacy.js';
import { barePodWorkload, lastRolloutAt, podTemplateOf, revisionOf, rolloutSigns, workloadObject, type Revision, type RolloutSigns } from './workloads.js';

/** A pod as usage and requests look for it. */
export interface KnownPod {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  /** The UID that a kubelet calls a static pod by (annotation `kubernetes.io/config.mirror`); null for others. */
  readonly kubeletUid: string | null;
  readonly workload: WorkloadRef;
  readonly workloadUid: string;
  readonly nodeName: string | null;
  readonly ip: string | null;
  readonly hostNetwork: boolean;
  readonly running: boolean;
  readonly createdAtMs: number;
  readonly labels: Labels;
  readonly containers: readonly string[];
  /** null while it stands. */
  readonly removedAtMs: number | null;
}

/** A node as the scraper reaches it. */
export interface KnownNode {
  readonly uid: string;
  readonly name: string;
  readonly internalIp: string | null;
  readonly kubeletPort: number;
  readonly cpuMillicores: number | null;
  readonly ready: boolean;
  readonly facts: NodeFacts;
}

/** A workload whose UID is another than before: deleted and made anew under its name. */
export interface UidChange {
  readonly workload: WorkloadRef;
  readonly before: string;
  readonly after: string;
  readonly atMs: number;
}

export interface Changes {
  /** Objects as JSON text. */
  readonly upserts: string[];
  readonly removes: { kind: InventoryKind; uid: string }[];
}

interface WorkloadEntry extends SelectableWorkload {
  readonly uid: string;
  readonly signs: RolloutSigns;
  readonly hosts: readonly ServiceName[];
  /** Generation by resource version, of the last versions seen. */
  readonly versions: Map<string, number>;
}

interface ControllerEntry extends KnownController {
  readonly revision: Revision;
}

/** Kinds that are workloads when nothing controls them, by collection. */
const WORKLOAD_RESOURCES: Partial<Record<Resource, { kind: WorkloadKind; apiVersion: string }>> = {
  deployments: { kind: 'Deployment', apiVersion: 'apps/v1' },
  statefulsets: { kind: 'StatefulSet', apiVersion: 'apps/v1' },
  daemonsets: { kind: 'DaemonSet', apiVersion: 'apps/v1' },
  replicasets: { kind: 'ReplicaSet', apiVersion: 'apps/v1' },
  replicationcontrollers: { kind: 'ReplicationController', apiVersion: 'v1' },
  jobs: { kind: 'Job', apiVersion: 'batch/v1' },
  cronjobs: { kind: 'CronJob', apiVersion: 'batch/v1' },
  rollouts: { kind: 'Rollout', apiVersion: 'argoproj.io/v1alpha1' },
};
const AUTOSCALER_KINDS: Partial<Record<Resource, AutoscalerObject['autoscaler_kind']>> = {
  horizontalpodautoscalers: 'HorizontalPodAutoscaler', verticalpodautoscalers: 'VerticalPodAutoscaler', scaledobjects: 'ScaledObject',
};

/** How long a pod waits for its owner to become known (collections are watched apart, in no order) before it is told as it is. */
const OWNER_PATIENCE_MS = 10_000;
/** How long a pod that is gone can still be found by name: its last minute is sampled after its end. */
const TOMBSTONE_MS = 300_000;
/** How long an OOM kill stands in snapshots after it happened. Consumers keep it as long as they like. */
const OOM_KEPT_MS = 7 * 86_400_000;
const OOM_KEPT = 5_000;
const VERSIONS_KEPT = 64;
const NAMES_REMEMBERED = 10_000;
const KUBELET_PORT = 10_250;
const MIRROR_ANNOTATION = 'kubernetes.io/config.mirror';

/**
 * The cluster's objects as they are told to the platform, kept as JSON texts, and what the agent itself looks up in them. Objects come
 * in from watches in any order; links between them (Services, routes, dependencies, budgets) are drawn anew when {@link changes} or
 * {@link snapshot} is asked for. Deterministic: time comes in as a value.
 */
export class InventoryState {
  /** `Kind/uid` → the object's JSON. */
  private readonly texts = new Map<string, string>();
  private readonly changed = new Set<string>();
  private readonly gone = new Set<string>();

  private readonly seen = new Map<Resource, Set<string>>();
  private readonly nodesByUid = new Map<string, KnownNode>();
  private readonly podsByUid = new Map<string, KnownPod>();
  private readonly podsByName = new Map<string, KnownPod[]>();
  private readonly podsByIp = new Map<string, string>();
  private readonly waiting = new Map<string, { pod: KubePod; sinceMs: number }>();
  private readonly controllers = new Map<string, ControllerEntry>();
  /** By owner, then by their own UIDs. */
  private readonly revisions = new Map<string, Map<string, Revision>>();
  private readonly revisionOwners = new Map<string, string>();
  private readonly workloads = new Map<string, WorkloadEntry>();
  private readonly uidByKey = new Map<string, string>();
  private readonly services = new Map<string, KubeService>();
  private readonly routes = new Map<string, KnownRoute>();
  private readonly budgets = new Map<string, KubeDisruptionBudget>();
  private readonly autoscalers = new Map<string, AutoscalerObject>();
  private readonly oomAt = new Map<string, number>();
  private readonly tombstones: KnownPod[] = [];
  private readonly uidChanges: UidChange[] = [];

  private linksStale = true;
  /** Keys of what the links drew last. */
  private drawn: ReadonlySet<string> = new Set();
  private workloadsByService = new Map<string, readonly WorkloadRef[]>();
  /** Rises when Services, or what they lead to, change. */
  linksVersion = 0;

  // -------------------------------------------------------------- in

  setCluster(cluster: ClusterObject): void {
    this.put('Cluster', cluster.uid, cluster);
  }

  upsert(resource: Resource, object: KubeObject, nowMs: number): void {
    const uid = object.metadata?.uid;
    if (uid === undefined) return;
    let seen = this.seen.get(resource);
    if (seen === undefined) this.seen.set(resource, (seen = new Set()));
    seen.add(uid);
    switch (resource) {
      case 'pods':
        return this.upsertPod(object, nowMs);
      case 'nodes':
        return this.upsertNode(object);
      case 'namespaces':
        return this.put('Namespace', uid, namespaceObject(object));
      case 'services':
        this.services.set(uid, slimService(object));
        break;
      case 'ingresses':
        this.routes.set(uid, ingressRoute(object as KubeIngress));
        break;
      case 'httproutes':
        this.routes.set(uid, httpRoute(object as KubeHttpRoute));
        break;
      case 'virtualservices':
        this.routes.set(uid, virtualServiceRoute(object as KubeVirtualService));
        break;
      case 'poddisruptionbudgets': {
        const { metadata, spec, status } = object as KubeDisruptionBudget;
        this.budgets.set(uid, { metadata: bareMetadata(metadata), spec, status });
        break;
      }
      case 'controllerrevisions':
        this.addRevision(controllerOf(object.metadata)?.uid, uid, revisionOf(object.metadata ?? {}));
        return;
      default:
        if (WORKLOAD_RESOURCES[resource] !== undefined) return this.upsertWorkload(resource, object, nowMs);
        if (AUTOSCALER_KINDS[resource] !== undefined) {
          const autoscaler = autoscalerObject(object as KubeAutoscaler, AUTOSCALER_KINDS[resource]);
          if (autoscaler === null) this.autoscalers.delete(uid);
          else this.autoscalers.set(uid, autoscaler);
        }
    }
    this.linksStale = true;
  }

  remove(resource: Resource, uid: string, nowMs: number): void {
    this.seen.get(resource)?.delete(uid);
    switch (resource) {
      case 'pods':
        return this.removePod(uid, nowMs);
      case 'nodes':
        this.nodesByUid.delete(uid);
        return this.drop('Node', uid);
      case 'namespaces':
        return this.drop('Namespace', uid);
      case 'services':
        this.services.delete(uid);
        break;
      case 'ingresses':
      case 'httproutes':
      case 'virtualservices':
        this.routes.delete(uid);
        break;
      case 'poddisruptionbudgets':
        this.budgets.delete(uid);
        break;
      case 'controllerrevisions':
        return this.dropRevision(uid);
      default:
        if (AUTOSCALER_KINDS[resource] === undefined) {
          this.controllers.delete(uid);
          this.dropRevision(uid);
          return this.removeWorkload(uid);
        }
        this.autoscalers.delete(uid);
    }
    this.linksStale = true;
  }

  /** After a complete list of a collection: what is not among these UIDs has vanished. */
  retain(resource: Resource, uids: ReadonlySet<string>, nowMs: number): void {
    for (const uid of [...(this.seen.get(resource) ?? [])]) if (!uids.has(uid)) this.remove(resource, uid, nowMs);
  }

  // -------------------------------------------------------------- out

  /** What changed since the last call (of this or of {@link snapshot}). */
  changes(nowMs: number): Changes {
    this.settle(nowMs);
    const upserts = [...this.changed].flatMap((key) => this.texts.get(key) ?? []);
    const removes = [...this.gone].map(parseKey);
    this.changed.clear();
    this.gone.clear();
    return { upserts, removes };
  }

  /** Every object as JSON text; nothing is changed since then. */
  snapshot(nowMs: number): string[] {
    this.settle(nowMs);
    this.changed.clear();
    this.gone.clear();
    return [...this.texts.values()];
  }

  /** Workloads made anew under their name since the last call. */
  takeUidChanges(): UidChange[] {
    return this.uidChanges.splice(0);
  }

  /** How many objects of a kind stand. */
  count(kind: InventoryKind): number {
    let count = 0;
    for (const key of this.texts.keys()) if (key.startsWith(`${kind}/`)) count++;
    return count;
  }

  nodes(): Iterable<KnownNode> {
    return this.nodesByUid.values();
  }

  pods(): Iterable<KnownPod> {
    return this.podsByUid.values();
  }

  podByUid(uid: string): KnownPod | undefined {
    return this.podsByUid.get(uid);
  }

  podByIp(ip: string): KnownPod | undefined {
    const uid = this.podsByIp.get(ip);
    return uid === undefined ? undefined : this.podsByUid.get(uid);
  }

  /** Pods of this name that stand or were there in the last five minutes, the newest first. */
  podsNamed(namespace: string, name: string): readonly KnownPod[] {
    return this.podsByName.get(`${namespace}/${name}`) ?? [];
  }

  /** Services with their ports, for resolving upstreams. */
  knownServices(): KnownService[] {
    return [...this.services.values()].map(({ metadata = {}, spec }) => ({ namespace: metadata.namespace ?? '', name: metadata.name ?? '', ports: spec?.ports ?? [] }));
  }

  workloadsOfService(service: ServiceName): readonly WorkloadRef[] {
    this.drawLinks();
    return this.workloadsByService.get(`${service.namespace}/${service.name}`) ?? [];
  }

  /** Workloads that an Ingress of an accepted class leads to, by key. */
  routedWorkloads(accepts: (ingressClass: string | null) => boolean): Map<string, WorkloadRef> {
    const routed = new Map<string, WorkloadRef>();
    for (const route of this.routes.values()) {
      if (route.routeKind !== 'Ingress' || !accepts(route.class)) continue;
      for (const service of route.services) for (const ref of this.workloadsOfService(service)) routed.set(workloadKey(ref), ref);
    }
    return routed;
  }

  /** Whether a workload of this key stands. */
  hasWorkload(key: string): boolean {
    const uid = this.uidByKey.get(key);
    return uid !== undefined && this.workloads.has(uid);
  }

  /** Autoscalers whose target is a workload. */
  autoscalersOf(workload: WorkloadRef): AutoscalerObject[] {
    const key = workloadKey(workload);
    return [...this.autoscalers.values()].filter(({ target }) => workloadKey(target) === key);
  }

  /** The generation that a workload had at a resource version, where that version was seen here. */
  generationAt(uid: string, resourceVersion: string): number | null {
    return this.workloads.get(uid)?.versions.get(resourceVersion) ?? null;
  }

  // -------------------------------------------------------------- pods and nodes

  private upsertPod(pod: KubePod, nowMs: number): void {
    const { metadata = {}, spec, status } = pod;
    const uid = metadata.uid as string;
    const ownership = ownershipOf(metadata, (owner) => this.controllers.get(owner));
    if (ownership.pending) {
      const since = this.waiting.get(uid)?.sinceMs ?? nowMs;
      if (!this.podsByUid.has(uid) && nowMs - since < OWNER_PATIENCE_MS) {
        this.waiting.set(uid, { pod, sinceMs: since });
        return;
      }
    }
    this.waiting.delete(uid);
    const known: KnownPod = {
      uid, namespace: metadata.namespace ?? '', name: metadata.name ?? '', kubeletUid: metadata.annotations?.[MIRROR_ANNOTATION] ?? null, workload: ownership.workload, workloadUid: ownership.workloadUid,
      nodeName: spec?.nodeName ?? null, ip: spec?.hostNetwork === true ? null : (status?.podIP ?? null), hostNetwork: spec?.hostNetwork === true, running: status?.phase === 'Running',
      createdAtMs: Date.parse(metadata.creationTimestamp ?? '') || nowMs, labels: metadata.labels ?? {}, containers: (spec?.containers ?? []).map(({ name }) => name), removedAtMs: null,
    };
    this.keepPod(known);
    this.put('Pod', uid, podObject(pod, ownership, toTimestamp(nowMs)));
    if (ownership.owners.length === 0) this.keepWorkload(barePodWorkload(pod), { signs: { createdAt: metadata.creationTimestamp ?? null, progressedAt: null, revised: false }, hosts: namedHosts(spec, known.namespace) }, nowMs);
    for (const kill of oomKills(pod)) {
      const oomUid = uuidOf('oom', uid, kill.container, kill.at);
      this.oomAt.set(oomUid, Date.parse(kill.at) || nowMs);
      this.put('OomKill', oomUid, {
        kind: 'OomKill', uid: oomUid, namespace: known.namespace, name: known.name, workload: known.workload, pod_uid: uid, container: kill.container, at: kill.at, memory_limit_bytes: kill.memoryLimitBytes,
      });
    }
  }

  private keepPod(pod: KnownPod): void {
    const before = this.podsByUid.get(pod.uid);
    if (before?.ip != null && before.ip !== pod.ip && this.podsByIp.get(before.ip) === pod.uid) this.podsByIp.delete(before.ip);
    this.podsByUid.set(pod.uid, pod);
    if (pod.ip !== null) {
      if (pod.running) this.podsByIp.set(pod.ip, pod.uid);
      else if (this.podsByIp.get(pod.ip) === pod.uid) this.podsByIp.delete(pod.ip);
    }
    const key = `${pod.namespace}/${pod.name}`;
    const others = (this.podsByName.get(key) ?? []).filter(({ uid }) => uid !== pod.uid);
    this.podsByName.set(key, [pod, ...others].sort((a, b) => b.createdAtMs - a.createdAtMs));
  }

  private removePod(uid: string, nowMs: number): void {
    this.waiting.delete(uid);
    const pod = this.podsByUid.get(uid);
    if (pod === undefined) return;
    this.podsByUid.delete(uid);
    if (pod.ip !== null && this.podsByIp.get(pod.ip) === uid) this.podsByIp.delete(pod.ip);
    const key = `${pod.namespace}/${pod.name}`;
    const tombstone = { ...pod, running: false, removedAtMs: nowMs };
    this.podsByName.set(key, (this.podsByName.get(key) ?? []).map((each) => (each.uid === uid ? tombstone : each)));
    this.tombstones.push(tombstone);
    this.drop('Pod', uid);
    if (pod.workload.kind === 'Pod') this.removeWorkload(uid);
  }

  private upsertNode(node: KubeNode): void {
    const facts = recogniseNode(node);
    const object = nodeObject(node, facts);
    this.nodesByUid.set(object.uid, {
      uid: object.uid, name: object.name, internalIp: node.status?.addresses?.find(({ type }) => type === 'InternalIP')?.address ?? null, kubeletPort: node.status?.daemonEndpoints?.kubeletEndpoint?.Port || KUBELET_PORT,
      cpuMillicores: object.capacity.cpu_millicores, ready: object.ready, facts,
    });
    this.put('Node', object.uid, object);
  }

  // -------------------------------------------------------------- workloads

  private upsertWorkload(resource: Resource, object: KubeWorkload, nowMs: number): void {
    const { kind, apiVersion } = WORKLOAD_RESOURCES[resource] as { kind: WorkloadKind; apiVersion: string };
    const { metadata = {} } = object;
    const uid = metadata.uid as string;
    const owner = controllerOf(metadata);
    if (kind === 'ReplicaSet' || kind === 'Job') {
      const isNew = !this.controllers.has(uid);
      this.controllers.set(uid, { kind, name: metadata.name ?? '', owner, revision: revisionOf(metadata) });
      if (kind === 'ReplicaSet') this.addRevision(owner?.uid, uid, revisionOf(metadata));
      if (isNew) this.wakeWaiting(nowMs);
    }
    // What another controller owns is no workload of its own; its owner is.
    if (owner !== null && (kind === 'ReplicaSet' || kind === 'Job')) return;
    const revisions = [...(this.revisions.get(uid)?.values() ?? [])];
    this.keepWorkload(workloadObject(object, kind, apiVersion, revisions), { signs: rolloutSigns(object, kind), hosts: namedHosts(podTemplateOf(object)?.spec, metadata.namespace ?? '') }, nowMs);
  }

  private keepWorkload(object: WorkloadObject, { signs, hosts }: Pick<WorkloadEntry, 'signs' | 'hosts'>, nowMs: number): void {
    const ref = { namespace: object.namespace, kind: object.workload_kind, name: object.name };
    const key = workloadKey(ref);
    const before = this.uidByKey.get(key);
    if (before !== undefined && before !== object.uid) this.uidChanges.push({ workload: ref, before, after: object.uid, atMs: nowMs });
    this.uidByKey.set(key, object.uid);
    const versions = this.workloads.get(object.uid)?.versions ?? new Map<string, number>();
    versions.set(object.resource_version, object.generation);
    const [oldest] = versions.keys();
    if (versions.size > VERSIONS_KEPT && oldest !== undefined) versions.delete(oldest);
    const known = this.workloads.get(object.uid);
    this.workloads.set(object.uid, { uid: object.uid, ref, podLabels: object.template_labels, signs, hosts, versions });
    this.put('Workload', object.uid, object);
    // Most changes of a workload are of its status: they move no link.
    if (known === undefined || JSON.stringify([known.podLabels, known.hosts]) !== JSON.stringify([object.template_labels, hosts])) this.linksStale = true;
  }

  private removeWorkload(uid: string): void {
    const workload = this.workloads.get(uid);
    if (workload === undefined) return;
    this.workloads.delete(uid);
    this.drop('Workload', uid);
    this.linksStale = true;
    // Names of jobs and bare pods do not come back; those of the rest are remembered, so that a new UID under one shows.
    const key = workloadKey(workload.ref);
    if (workload.ref.kind === 'Pod' || workload.ref.kind === 'Job' || this.uidByKey.size > this.workloads.size + NAMES_REMEMBERED) this.uidByKey.delete(key);
  }

  private addRevision(ownerUid: string | undefined, uid: string, revision: Revision): void {
    if (ownerUid === undefined) return;
    let revisions = this.revisions.get(ownerUid);
    if (revisions === undefined) this.revisions.set(ownerUid, (revisions = new Map()));
    revisions.set(uid, revision);
    this.revisionOwners.set(uid, ownerUid);
    const workload = this.workloads.get(ownerUid);
    const text = this.texts.get(`Workload/${ownerUid}`);
    if (workload === undefined || text === undefined) return;
    this.put('Workload', ownerUid, { ...(JSON.parse(text) as WorkloadObject), last_rollout_at: lastRolloutAt(workload.signs, [...revisions.values()]) });
  }

  private dropRevision(uid: string): void {
    const owner = this.revisionOwners.get(uid);
    if (owner === undefined) return;
    this.revisionOwners.delete(uid);
    const revisions = this.revisions.get(owner);
    if (revisions?.delete(uid) && revisions.size === 0) this.revisions.delete(owner);
  }

  // -------------------------------------------------------------- settling

  private wakeWaiting(nowMs: number): void {
    for (const { pod } of [...this.waiting.values()]) this.upsertPod(pod, nowMs);
  }

  private settle(nowMs: number): void {
    if (this.waiting.size > 0) this.wakeWaiting(nowMs);
    this.drawLinks();
    while (this.tombstones[0] !== undefined && nowMs - (this.tombstones[0].removedAtMs ?? 0) > TOMBSTONE_MS) {
      const { namespace, name, uid } = this.tombstones.shift() as KnownPod;
      const left = (this.podsByName.get(`${namespace}/${name}`) ?? []).filter((each) => each.uid !== uid || each.removedAtMs === null);
      if (left.length === 0) this.podsByName.delete(`${namespace}/${name}`);
      else this.podsByName.set(`${namespace}/${name}`, left);
    }
    for (const [uid, atMs] of this.oomAt) {
      if (nowMs - atMs <= OOM_KEPT_MS && this.oomAt.size <= OOM_KEPT) continue;
      this.oomAt.delete(uid);
      // It happened all the same: consumers keep it.
      this.texts.delete(`OomKill/${uid}`);
      this.changed.delete(`OomKill/${uid}`);
    }
  }

  /** Draws Services, routes, autoscalers, budgets and dependencies anew where something they rest on changed. */
  private drawLinks(): void {
    if (!this.linksStale) return;
    this.linksStale = false;
    this.linksVersion++;
    const byNamespace = new Map<string, SelectableWorkload[]>();
    for (const workload of this.workloads.values()) {
      const same = byNamespace.get(workload.ref.namespace);
      if (same === undefined) byNamespace.set(workload.ref.namespace, [workload]);
      else same.push(workload);
    }
    const drawn = new Set<string>();
    const draw = (kind: InventoryKind, uid: string, object: InventoryObject) => {
      drawn.add(`${kind}/${uid}`);
      this.put(kind, uid, object);
    };
    this.workloadsByService = new Map();
    for (const [uid, service] of this.services) {
      const object = serviceObject(service, byNamespace);
      this.workloadsByService.set(`${object.namespace}/${object.name}`, object.workloads);
      draw('Service', uid, object);
    }
    const workloadsOf = ({ namespace, name }: ServiceName) => this.workloadsByService.get(`${namespace}/${name}`) ?? [];
    for (const [uid, route] of this.routes) draw('Route', uid, routeObject(route, workloadsOf));
    for (const [uid, autoscaler] of this.autoscalers) draw('Autoscaler', uid, autoscaler);
    for (const [uid, budget] of this.budgets) draw('PodDisruptionBudget', uid, disruptionBudgetObject(budget, byNamespace));
    for (const { ref, hosts } of this.workloads.values()) {
      const isService = ({ namespace, name }: ServiceName) => this.workloadsByService.has(`${namespace}/${name}`);
      for (const dependency of dependencyObjects(ref, hosts, isService, workloadsOf)) draw('Dependency', dependency.uid, dependency);
    }
    for (const key of this.drawn) {
      const { kind, uid } = parseKey(key);
      if (!drawn.has(key)) this.drop(kind, uid);
    }
    this.drawn = drawn;
  }

  private put(kind: InventoryKind, uid: string, object: InventoryObject): void {
    const key = `${kind}/${uid}`;
    const text = JSON.stringify(object);
    if (this.texts.get(key) === text) return;
    this.texts.set(key, text);
    this.changed.add(key);
    this.gone.delete(key);
  }

  private drop(kind: InventoryKind, uid: string): void {
    const key = `${kind}/${uid}`;
    if (!this.texts.delete(key)) return;
    this.changed.delete(key);
    this.gone.add(key);
  }
}

function parseKey(key: string): { kind: InventoryKind; uid: string } {
  const slash = key.indexOf('/');
  return { kind: key.slice(0, slash) as InventoryKind, uid: key.slice(slash + 1) };
}

function namespaceObject({ metadata = {} }: KubeObject): NamespaceObject {
  return { kind: 'Namespace', uid: metadata.uid ?? '', name: metadata.name ?? '', labels: { ...metadata.labels }, annotations: allowedAnnotations(metadata.annotations), created_at: metadata.creationTimestamp ?? null };
}

function bareMetadata({ uid, namespace, name }: Metadata = {}): Metadata {
  return { uid, namespace, name };
}

function slimService({ metadata, spec }: KubeService): KubeService {
  return {
    metadata: bareMetadata(metadata),
    spec: { type: spec?.type, selector: spec?.selector, ports: spec?.ports?.map(({ name, port, targetPort }) => ({ name, port, targetPort })) },
  };
}
