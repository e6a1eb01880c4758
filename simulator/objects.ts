import { createHash } from 'node:crypto';
import { hashOf } from './behaviour.js';
import type { Scenario, ScenarioWorkload } from './scenario.js';
import type { KubeObject } from './store.js';

/** Kubernetes objects out of a scenario. Names and UIDs follow from its seed alone. */

/** A UUID out of a name (RFC 9562, version 8). */
export function uidOf(...parts: readonly (string | number)[]): string {
  const bytes = createHash('sha256').update(parts.join('\0')).digest().subarray(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** RFC 3339 to the second, as Kubernetes writes times. */
export function kubeTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

const MIB = 1024 * 1024;
const DAY_MS = 86_400_000;

/** A node of the scenario. */
export interface ScenarioNode {
  readonly name: string;
  readonly group: Scenario['node_groups'][number];
  readonly zone: string;
  readonly index: number;
}

export function nodesOf(scenario: Scenario): ScenarioNode[] {
  let index = 0;
  return scenario.node_groups.flatMap((group) => Array.from({ length: group.count }, (_, i) => ({ name: `${group.name}-${i}`, group, zone: scenario.cluster.zones[index % scenario.cluster.zones.length] ?? 'a', index: index++ })));
}

/** Millicores and bytes that pods may have: what kubelet and system keep is left out. */
export function allocatableOf(group: ScenarioNode['group']): { cpuMillicores: number; memoryBytes: number } {
  return { cpuMillicores: group.cpu - 80, memoryBytes: Math.floor((group.memory * 0.93 - 100)) * MIB };
}

function cloudLabels(scenario: Scenario, { group }: ScenarioNode): Record<string, string> {
  const spot = group.capacity_type === 'spot';
  switch (scenario.cluster.provider) {
    case 'aws':
      return { 'eks.amazonaws.com/nodegroup': group.name, 'eks.amazonaws.com/capacityType': spot ? 'SPOT' : 'ON_DEMAND' };
    case 'gcp':
      return { 'cloud.google.com/gke-nodepool': group.name, ...(spot ? { 'cloud.google.com/gke-spot': 'true' } : {}) };
    case 'azure':
      return { 'kubernetes.azure.com/agentpool': group.name, 'kubernetes.azure.com/scalesetpriority': spot ? 'spot' : 'regular' };
    case 'none':
      return {};
  }
}

function providerId(scenario: Scenario, node: ScenarioNode): string | undefined {
  const id = createHash('sha256').update(`${scenario.seed}/${node.name}`).digest('hex').slice(0, 17);
  switch (scenario.cluster.provider) {
    case 'aws':
      return `aws:///${node.zone}/i-${id}`;
    case 'gcp':
      return `gce://demo/${node.zone}/${node.name}`;
    case 'azure':
      return `azure:///subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/demo/providers/Microsoft.Compute/virtualMachineScaleSets/${node.group.name}/virtualMachines/${node.index}`;
    case 'none':
      return undefined;
  }
}

export function nodeObject(scenario: Scenario, node: ScenarioNode, createdMs: number): KubeObject {
  const { group, index } = node;
  const free = allocatableOf(group);
  const common = { pods: '110', 'ephemeral-storage': '100Gi' };
  const id = providerId(scenario, node);
  return {
    apiVersion: 'v1', kind: 'Node',
    metadata: {
      name: node.name, uid: uidOf(scenario.seed, 'node', node.name), resourceVersion: '', creationTimestamp: kubeTime(createdMs),
      labels: {
        'kubernetes.io/hostname': node.name, 'kubernetes.io/os': 'linux', 'kubernetes.io/arch': group.architecture, 'node.kubernetes.io/instance-type': group.instance_type, 'topology.kubernetes.io/region': scenario.cluster.region, 'topology.kubernetes.io/zone': node.zone, ...cloudLabels(scenario, node),
      },
    },
    spec: { ...(id ? { providerID: id } : {}), podCIDR: `10.${100 + Math.floor(index / 250)}.${index % 250}.0/24` },
    status: {
      capacity: { cpu: `${group.cpu}m`, memory: `${group.memory}Mi`, ...common }, allocatable: { cpu: `${free.cpuMillicores}m`, memory: `${free.memoryBytes / MIB}Mi`, ...common },
      // An address out of the range for benchmarks (RFC 2544): nobody dials it, figures come through the API server.
      addresses: [{ type: 'InternalIP', address: `198.19.${Math.floor(index / 250)}.${(index % 250) + 1}` }, { type: 'Hostname', address: node.name }],
      conditions: [{ type: 'Ready', status: 'True', reason: 'KubeletReady', lastTransitionTime: kubeTime(createdMs) }],
      nodeInfo: { kubeletVersion: scenario.cluster.version, architecture: group.architecture, operatingSystem: 'linux', osImage: 'simulated', containerRuntimeVersion: 'containerd://2.1.0' }, daemonEndpoints: { kubeletEndpoint: { Port: 10250 } },
    },
  };
}

export function workloadKeyOf(workload: Pick<ScenarioWorkload, 'namespace' | 'kind' | 'name'>): string {
  return `${workload.namespace}/${workload.kind}/${workload.name}`;
}

/** The container's resources as Kubernetes writes them. */
export function resourcesOf(workload: ScenarioWorkload): { requests: Record<string, string>; limits: Record<string, string> } {
  const { request } = workload;
  const memoryLimit = request.memory_limit ?? request.memory;
  return {
    requests: { ...(request.cpu === null ? {} : { cpu: `${request.cpu}m` }), ...(request.memory === null ? {} : { memory: `${request.memory}Mi` }) },
    limits: { ...(request.cpu_limit === undefined ? {} : { cpu: `${request.cpu_limit}m` }), ...(memoryLimit === null ? {} : { memory: `${memoryLimit}Mi` }) },
  };
}

function labelsOf(workload: ScenarioWorkload): Record<string, string> {
  return { app: workload.name, 'app.kubernetes.io/name': workload.name, ...workload.labels };
}

function podTemplate(workload: ScenarioWorkload): Record<string, unknown> {
  return {
    metadata: { labels: labelsOf(workload) },
    spec: {
      terminationGracePeriodSeconds: 5, restartPolicy: 'Always',
      containers: [{
        name: workload.name === 'ingress-nginx-controller' ? 'controller' : 'app', image: `registry.example/${workload.namespace}/${workload.name}:1.0`, ports: [{ containerPort: 8080 }], resources: resourcesOf(workload),
        env: workload.uses.map((used) => {
          const [first = '', second] = used.split('/');
          return { name: `${(second ?? first).toUpperCase().replaceAll('-', '_')}_URL`, value: `http://${second ?? first}.${second === undefined ? workload.namespace : first}.svc.cluster.local:80` };
        }),
      }],
      ...(workload.volume && workload.kind !== 'StatefulSet' ? { volumes: [{ name: 'data', persistentVolumeClaim: { claimName: `${workload.name}-data` } }] } : {}),
    },
  };
}

/** Deployment, StatefulSet or DaemonSet. */
export function workloadObject(scenario: Scenario, workload: ScenarioWorkload, createdMs: number): KubeObject {
  const template = podTemplate(workload);
  return {
    apiVersion: 'apps/v1', kind: workload.kind,
    metadata: { name: workload.name, namespace: workload.namespace, uid: uidOf(scenario.seed, workloadKeyOf(workload)), resourceVersion: '', creationTimestamp: kubeTime(createdMs), generation: 1, labels: labelsOf(workload), annotations: workload.annotations },
    spec: {
      ...(workload.kind === 'DaemonSet' ? {} : { replicas: workload.replicas }), selector: { matchLabels: { app: workload.name } }, template,
      ...(workload.kind === 'Deployment' ? { strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: '25%', maxUnavailable: '25%' } } } : {}),
      ...(workload.kind === 'StatefulSet' ? { serviceName: workload.name, ...(workload.volume ? { volumeClaimTemplates: [{ metadata: { name: 'data' }, spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: `${workload.volume}Gi` } } } }] } : {}) } : {}),
    },
    status: {},
  };
}

/** Short and stable, as the controllers' hashes of templates look. */
export function templateHash(scenario: Scenario, workload: ScenarioWorkload, template: unknown): string {
  return hashOf(`${scenario.seed}/${workloadKeyOf(workload)}/${JSON.stringify(template)}`).toString(36).slice(0, 7).padStart(7, 'b');
}

export function replicaSetObject(scenario: Scenario, owner: KubeObject, hash: string, createdMs: number, replicas: number): KubeObject {
  const spec = owner.spec ?? {};
  const name = `${owner.metadata.name}-${hash}`;
  return {
    apiVersion: 'apps/v1', kind: 'ReplicaSet',
    metadata: {
      name, namespace: owner.metadata.namespace, uid: uidOf(scenario.seed, 'rs', owner.metadata.namespace ?? '', name), resourceVersion: '', creationTimestamp: kubeTime(createdMs), generation: 1, labels: { ...(spec.template as { metadata: { labels: Record<string, string> } }).metadata.labels, 'pod-template-hash': hash },
      annotations: { 'deployment.kubernetes.io/revision': '1' }, ownerReferences: [{ apiVersion: 'apps/v1', kind: owner.kind, name: owner.metadata.name, uid: owner.metadata.uid, controller: true }],
    },
    spec: { replicas, selector: spec.selector, template: spec.template }, status: { replicas, readyReplicas: replicas, availableReplicas: replicas, observedGeneration: 1 },
  };
}

/** A running pod. */
export function podObject(scenario: Scenario, options: { readonly owner: KubeObject; readonly name: string; readonly template: Record<string, unknown>; readonly node: ScenarioNode; readonly createdMs: number; readonly hash: string | null; readonly ip: string }): KubeObject {
  const { owner, name, node, createdMs } = options;
  const template = options.template as { metadata: { labels: Record<string, string> }; spec: { containers: { name: string; image: string; resources: unknown }[] } };
  const at = (seconds: number) => kubeTime(createdMs + seconds * 1000);
  return {
    apiVersion: 'v1', kind: 'Pod',
    metadata: {
      name, namespace: owner.metadata.namespace, uid: uidOf(scenario.seed, 'pod', owner.metadata.namespace ?? '', name), resourceVersion: '', creationTimestamp: at(0), labels: { ...template.metadata.labels, ...(options.hash ? { 'pod-template-hash': options.hash } : {}) }, annotations: {},
      ownerReferences: [{ apiVersion: 'apps/v1', kind: owner.kind, name: owner.metadata.name, uid: owner.metadata.uid, controller: true }],
    },
    spec: { ...template.spec, nodeName: node.name },
    status: {
      phase: 'Running', podIP: options.ip, hostIP: `198.19.0.${node.index + 1}`, startTime: at(0), qosClass: 'Burstable',
      conditions: [['PodScheduled', 0], ['Initialized', 0], ['ContainersReady', 2], ['Ready', 2]].map(([type, seconds]) => ({ type, status: 'True', lastTransitionTime: at(seconds as number) })),
      containerStatuses: template.spec.containers.map((container) => ({ name: container.name, image: container.image, ready: true, started: true, restartCount: 0, resources: container.resources, state: { running: { startedAt: at(1) } }, lastState: {} })),
    },
  };
}

/** Everything around the workloads: namespaces, Services, Ingresses, autoscalers, budgets. By resource. */
export function surroundings(scenario: Scenario, createdMs: number): [resource: string, object: KubeObject][] {
  const created = kubeTime(createdMs);
  const meta = (kind: string, namespace: string | undefined, name: string, more: Partial<KubeObject['metadata']> = {}): KubeObject['metadata'] => ({ name, ...(namespace === undefined ? {} : { namespace }), uid: uidOf(scenario.seed, kind, namespace ?? '', name), resourceVersion: '', creationTimestamp: created, ...more });
  const namespaces = new Map(scenario.namespaces.map((each) => [each.name, each]));
  for (const always of ['kube-system', 'default', 'upid-system']) if (!namespaces.has(always)) namespaces.set(always, { name: always, labels: {}, annotations: {} });
  const objects: [string, KubeObject][] = [...namespaces.values()].map(({ name, labels, annotations }) => ['namespaces', {
    apiVersion: 'v1', kind: 'Namespace', metadata: meta('ns', undefined, name, { labels: { 'kubernetes.io/metadata.name': name, ...labels }, annotations: { ...(scenario.time_zone === 'UTC' ? {} : { 'upid.io/time-zone': scenario.time_zone }), ...annotations } }), spec: {}, status: { phase: 'Active' },
  }]);
  for (const workload of scenario.workloads) {
    const { namespace, name } = workload;
    if (workload.service && workload.kind !== 'DaemonSet') objects.push(['services', { apiVersion: 'v1', kind: 'Service', metadata: meta('svc', namespace, name), spec: { type: 'ClusterIP', clusterIP: `10.96.${hashOf(`${namespace}/${name}`) % 250}.${(hashOf(name) % 250) + 1}`, selector: { app: name }, ports: [{ name: 'http', port: 80, targetPort: 8080, protocol: 'TCP' }] }, status: {} }]);
    if (workload.ingress) {
      const backend = { service: { name, port: { number: 80 } } };
      objects.push(['ingresses', { apiVersion: 'networking.k8s.io/v1', kind: 'Ingress', metadata: meta('ing', namespace, name), spec: { ingressClassName: 'nginx', rules: [{ host: `${name}.${namespace}.example`, http: { paths: [{ path: '/', pathType: 'Prefix', backend }, { path: '/healthz', pathType: 'Exact', backend }] } }] }, status: {} }]);
    }
    if (workload.autoscaler) {
      objects.push(['horizontalpodautoscalers', {
        apiVersion: 'autoscaling/v2', kind: 'HorizontalPodAutoscaler', metadata: meta('hpa', namespace, name),
        spec: { scaleTargetRef: { apiVersion: 'apps/v1', kind: workload.kind, name }, minReplicas: workload.autoscaler.min, maxReplicas: workload.autoscaler.max, metrics: [{ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: workload.autoscaler.cpu_percent } } }] },
        status: { currentReplicas: workload.replicas, desiredReplicas: workload.replicas },
      }]);
    }
    if (workload.budget) objects.push(['poddisruptionbudgets', { apiVersion: 'policy/v1', kind: 'PodDisruptionBudget', metadata: meta('pdb', namespace, name), spec: { minAvailable: workload.budget.min_available, selector: { matchLabels: { app: name } } }, status: { disruptionsAllowed: Math.max(0, workload.replicas - workload.budget.min_available), currentHealthy: workload.replicas, expectedPods: workload.replicas } }]);
  }
  return objects;
}

/** Everything of the demo was made this long before its first start, so that its whole history is that of the same objects. */
export const CREATED_BEFORE_MS = 30 * DAY_MS;
