import { hashOf, podMinute, requestMinute, zoneOffsetMinutes, type PodMinute, type RequestMinute } from './behaviour.js';
import { allocatableOf, CREATED_BEFORE_MS, kubeTime, nodeObject, nodesOf, podObject, replicaSetObject, surroundings, templateHash, uidOf, workloadKeyOf, workloadObject, type ScenarioNode } from './objects.js';
import type { Scenario, ScenarioWorkload } from './scenario.js';
import { ObjectStore, type KubeObject } from './store.js';

/** What outlives the process: when the demo was first started, and what clients have changed. */
export interface ClusterState {
  readonly firstStartMs: number;
  /** Objects that clients have written: resource → objects. */
  readonly written: Record<string, KubeObject[]>;
  /** Replicas and templates that clients have set, by workload. */
  readonly workloads: Record<string, { replicas: number | null; template: Record<string, unknown> | null; generation: number; annotations: Record<string, string> | null; labels: Record<string, string> | null; incarnation: number; changedMs: number }>;
  readonly resourceVersion: number;
}

/** A pod as its figures are asked for. */
export interface SimulatedPod {
  readonly object: KubeObject;
  readonly workload: ScenarioWorkload;
  readonly container: string;
  readonly key: number;
  readonly startedMs: number;
  /** Its part of the workload's requests. */
  readonly share: number;
}

const WORKLOAD_RESOURCES: Readonly<Record<ScenarioWorkload['kind'], string>> = { Deployment: 'deployments', StatefulSet: 'statefulsets', DaemonSet: 'daemonsets' };
/** Resources whose objects only clients write. */
const CLIENT_RESOURCES = ['configmaps', 'leases'];

/** A cluster that lives by its scenario: pods follow replicas and templates, figures follow the clock. */
export class SimulatedCluster {
  readonly store: ObjectStore;
  readonly nodes: readonly ScenarioNode[];
  private readonly pods = new Map<string, SimulatedPod>();
  private readonly incarnations = new Map<string, number>();
  private readonly changedMs = new Map<string, number>();
  private readonly offsets = new Map<number, number>();
  private readonly firstStartMs: number;
  private onChange: () => void = () => undefined;

  constructor(readonly scenario: Scenario, saved: ClusterState | null, readonly nowMs: () => number) {
    this.firstStartMs = saved?.firstStartMs ?? nowMs();
    this.store = new ObjectStore((saved?.resourceVersion ?? 0) + 1000);
    this.nodes = nodesOf(scenario);
    for (const node of this.nodes) this.store.create('nodes', nodeObject(scenario, node, this.createdMs));
    for (const [resource, object] of surroundings(scenario, this.createdMs)) this.store.create(resource, object);
    for (const [resource, objects] of Object.entries(saved?.written ?? {})) for (const object of objects) this.store.create(resource, object);
    for (const workload of scenario.workloads) {
      const key = workloadKeyOf(workload);
      const kept = saved?.workloads[key];
      this.incarnations.set(key, kept?.incarnation ?? 0);
      if (kept) this.changedMs.set(key, kept.changedMs);
      const object = workloadObject(scenario, workload, this.createdMs);
      if (kept?.replicas != null && object.spec) object.spec.replicas = kept.replicas;
      if (kept?.template && object.spec) object.spec.template = kept.template;
      if (kept) object.metadata = { ...object.metadata, generation: kept.generation, annotations: kept.annotations ?? object.metadata.annotations, labels: kept.labels ?? object.metadata.labels };
      this.store.create(WORKLOAD_RESOURCES[workload.kind], object);
      this.reconcile(workload, false);
    }
  }

  get createdMs(): number {
    return this.firstStartMs - CREATED_BEFORE_MS;
  }

  /** Called when something changed that is to outlive the process. */
  whenChanged(fn: () => void): void {
    this.onChange = fn;
  }

  state(): ClusterState {
    return {
      firstStartMs: this.firstStartMs, resourceVersion: this.store.resourceVersion, written: Object.fromEntries(CLIENT_RESOURCES.map((resource) => [resource, this.store.list(resource)])),
      workloads: Object.fromEntries(this.scenario.workloads.map((workload) => {
        const object = this.object(workload);
        const key = workloadKeyOf(workload);
        return [key, {
          replicas: (object.spec?.replicas as number | undefined) ?? null, template: (object.spec?.template as Record<string, unknown>) ?? null, generation: object.metadata.generation ?? 1, annotations: object.metadata.annotations ?? null, labels: object.metadata.labels ?? null,
          incarnation: this.incarnations.get(key) ?? 0, changedMs: this.changedMs.get(key) ?? this.createdMs,
        }];
      })),
    };
  }

  /** After a client has written an object. */
  written(resource: string, object: KubeObject): void {
    const workload = this.scenario.workloads.find((each) => WORKLOAD_RESOURCES[each.kind] === resource && each.namespace === object.metadata.namespace && each.name === object.metadata.name);
    if (workload) this.reconcile(workload, true);
    this.onChange();
  }

  workloadOf(resource: string, namespace: string, name: string): ScenarioWorkload | undefined {
    return this.scenario.workloads.find((each) => WORKLOAD_RESOURCES[each.kind] === resource && each.namespace === namespace && each.name === name);
  }

  object(workload: ScenarioWorkload): KubeObject {
    return this.store.get(WORKLOAD_RESOURCES[workload.kind], workload.namespace, workload.name);
  }

  replicasOf(workload: ScenarioWorkload): number {
    return workload.kind === 'DaemonSet' ? this.nodes.length : ((this.object(workload).spec?.replicas as number | undefined) ?? 1);
  }

  runningPods(): Iterable<SimulatedPod> {
    return this.pods.values();
  }

  podsOn(node: string): SimulatedPod[] {
    return [...this.pods.values()].filter((pod) => (pod.object.spec as { nodeName: string }).nodeName === node);
  }

  podsOf(workload: ScenarioWorkload): SimulatedPod[] {
    return [...this.pods.values()].filter((pod) => pod.workload === workload);
  }

  /** What a pod does in a minute of the clock. */
  usage(pod: SimulatedPod, minute: number): PodMinute {
    return podMinute(pod.workload.behaviour, pod.key, minute, this.offset(minute), pod.share);
  }

  requests(workload: ScenarioWorkload, minute: number): RequestMinute {
    return requestMinute(workload.behaviour, hashOf(`${this.scenario.seed}/${workloadKeyOf(workload)}`), minute, this.offset(minute));
  }

  private offset(minute: number): number {
    const hour = Math.floor(minute / 60);
    const known = this.offsets.get(hour);
    if (known !== undefined) return known;
    const offset = zoneOffsetMinutes(this.scenario.time_zone, hour * 3_600_000);
    this.offsets.set(hour, offset);
    return offset;
  }

  /** Makes pods (and the ReplicaSet between) what the workload's spec asks for. `live`: a client changed it, so what is new begins now. */
  private reconcile(workload: ScenarioWorkload, live: boolean): void {
    const key = workloadKeyOf(workload);
    const owner = this.object(workload);
    const template = owner.spec?.template as Record<string, unknown>;
    const hash = templateHash(this.scenario, workload, template);
    const wanted = this.replicasOf(workload);
    const running = this.podsOf(workload);
    const current = running.filter((pod) => !pod.object.metadata.labels || pod.object.metadata.labels['pod-template-hash'] === undefined || pod.object.metadata.labels['pod-template-hash'] === hash);
    const stale = running.filter((pod) => !current.includes(pod));
    for (const pod of [...stale, ...current.slice(wanted)]) this.removePod(pod);
    const kept = current.slice(0, wanted);
    if (live && kept.length < wanted) {
      this.incarnations.set(key, (this.incarnations.get(key) ?? 0) + 1);
      this.changedMs.set(key, this.nowMs());
    }
    const createdMs = live ? this.nowMs() : (this.changedMs.get(key) ?? this.createdMs);
    const parent = workload.kind === 'Deployment' ? this.replicaSet(owner, hash, wanted, live && stale.length > 0 ? this.nowMs() : this.createdMs) : owner;
    for (let i = kept.length; i < wanted; i++) this.addPod(workload, parent, template, workload.kind === 'Deployment' ? hash : null, i, createdMs);
    this.setStatus(workload, wanted);
  }

  private replicaSet(owner: KubeObject, hash: string, replicas: number, createdMs: number): KubeObject {
    const name = `${owner.metadata.name}-${hash}`;
    for (const other of this.store.list('replicasets', owner.metadata.namespace)) {
      const mine = (other.metadata.ownerReferences as { uid: string }[] | undefined)?.some((reference) => reference.uid === owner.metadata.uid);
      if (mine && other.metadata.name !== name && (other.spec?.replicas as number) > 0) this.store.update('replicasets', { ...other, spec: { ...other.spec, replicas: 0 }, status: { replicas: 0, observedGeneration: 1 } });
    }
    const known = this.store.find('replicasets', owner.metadata.namespace, name);
    if (!known) return this.store.create('replicasets', replicaSetObject(this.scenario, owner, hash, createdMs, replicas));
    if (known.spec?.replicas === replicas) return known;
    return this.store.update('replicasets', { ...known, spec: { ...known.spec, replicas }, status: { replicas, readyReplicas: replicas, availableReplicas: replicas, observedGeneration: 1 } });
  }

  private addPod(workload: ScenarioWorkload, parent: KubeObject, template: Record<string, unknown>, hash: string | null, index: number, createdMs: number): void {
    const key = workloadKeyOf(workload);
    const incarnation = this.incarnations.get(key) ?? 0;
    const suffix = hashOf(`${this.scenario.seed}/${key}/${incarnation}/${index}`).toString(36).slice(0, 5).padStart(5, 'x');
    const name = workload.kind === 'StatefulSet' ? `${workload.name}-${index}` : hash === null ? `${workload.name}-${suffix}` : `${workload.name}-${hash}-${suffix}`;
    const node = workload.kind === 'DaemonSet' ? this.nodes[index] : this.place(workload);
    if (!node) return;
    const object = podObject(this.scenario, { owner: parent, name, template, node, createdMs, hash, ip: `10.${100 + Math.floor(node.index / 250)}.${node.index % 250}.${(hashOf(name) % 250) + 2}` });
    // A pod of a StatefulSet comes back under its name as another object.
    if (workload.kind === 'StatefulSet' && incarnation > 0) object.metadata.uid = uidOf(this.scenario.seed, 'pod', workload.namespace, name, incarnation);
    const container = (template as { spec: { containers: { name: string }[] } }).spec.containers[0]?.name ?? 'app';
    const stored = this.store.create('pods', object);
    this.pods.set(stored.metadata.uid, { object: stored, workload, container, key: hashOf(`${this.scenario.seed}/${workload.namespace}/${name}`), startedMs: createdMs, share: 1 / Math.max(1, this.replicasOf(workload)) });
  }

  /** The node with the most room for its requests. */
  private place(workload: ScenarioWorkload): ScenarioNode | undefined {
    const free = new Map(this.nodes.map((node) => {
      const { cpuMillicores, memoryBytes } = allocatableOf(node.group);
      return [node.name, { cpu: cpuMillicores, memory: memoryBytes / (1024 * 1024) }];
    }));
    for (const pod of this.pods.values()) {
      const node = free.get((pod.object.spec as { nodeName: string }).nodeName);
      if (!node) continue;
      node.cpu -= pod.workload.request.cpu ?? 0;
      node.memory -= pod.workload.request.memory ?? 0;
    }
    const { cpu, memory } = workload.request;
    const room = (node: ScenarioNode) => {
      const left = free.get(node.name) ?? { cpu: 0, memory: 0 };
      const total = allocatableOf(node.group);
      return Math.min((left.cpu - (cpu ?? 0)) / total.cpuMillicores, (left.memory - (memory ?? 0)) / (total.memoryBytes / (1024 * 1024)));
    };
    return [...this.nodes].sort((a, b) => room(b) - room(a) || a.index - b.index)[0];
  }

  private removePod(pod: SimulatedPod): void {
    this.pods.delete(pod.object.metadata.uid);
    this.store.delete('pods', pod.object.metadata.namespace, pod.object.metadata.name);
  }

  private setStatus(workload: ScenarioWorkload, replicas: number): void {
    const object = this.object(workload);
    const status = workload.kind === 'DaemonSet'
      ? { desiredNumberScheduled: replicas, currentNumberScheduled: replicas, numberReady: replicas, updatedNumberScheduled: replicas, observedGeneration: object.metadata.generation }
      : { replicas, readyReplicas: replicas, availableReplicas: replicas, updatedReplicas: replicas, observedGeneration: object.metadata.generation, conditions: [{ type: 'Available', status: 'True', lastTransitionTime: kubeTime(this.changedMs.get(workloadKeyOf(workload)) ?? this.createdMs) }, { type: 'Progressing', status: 'True', reason: 'NewReplicaSetAvailable', lastTransitionTime: kubeTime(this.createdMs) }] };
    if (JSON.stringify(object.status) !== JSON.stringify(status)) this.store.update(WORKLOAD_RESOURCES[workload.kind], { ...object, status });
  }
}
