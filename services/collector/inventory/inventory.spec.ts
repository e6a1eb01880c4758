import { inventoryEventSchema, inventoryObjectSchema, SNAPSHOT_PART_BYTES, uidSchema, type InventoryObject } from '@upid/contracts';
import fc from 'fast-check';
import { changeTexts, packed, snapshotTexts } from './events.js';
import { uuidOf } from './identifiers.js';
import type { KubeObject, KubePod, KubeWorkload, OwnerReference, Resource } from './kubernetes.js';
import { dependencyObjects, httpRoute, namedHosts, selects, virtualServiceRoute } from './links.js';
import { ownershipOf } from './owners.js';
import { podObject } from './pods.js';
import { allowedAnnotations } from './privacy.js';
import { podOfSample } from './resolution.js';
import { InventoryState } from './state.js';
import { lastRolloutAt, workloadObject } from './workloads.js';

const NOW = Date.UTC(2026, 5, 1, 12);
const AT = '2026-06-01T10:00:00Z';
const uid = (name: string) => uuidOf('test', name);
const controlledBy = (kind: string, name: string): OwnerReference => ({ apiVersion: 'apps/v1', kind, name, uid: uid(`${kind}/${name}`), controller: true });

interface Extra { labels?: Record<string, string>; annotations?: Record<string, string>; owner?: OwnerReference; version?: string; generation?: number }
const metadata = (kind: string, name: string, { labels, annotations, owner, version = '1', generation = 1 }: Extra = {}) => ({
  name, namespace: 'shop', uid: uid(`${kind}/${name}`), resourceVersion: version, generation, labels, annotations, creationTimestamp: AT, ownerReferences: owner === undefined ? undefined : [owner],
});
const pod = (name: string, extra: Extra & { phase?: string; spec?: object; status?: object } = {}): KubePod => ({
  metadata: metadata('Pod', name, extra), spec: { nodeName: 'n1', containers: [{ name: 'app', resources: { requests: { cpu: '100m', memory: '128Mi' } } }], ...extra.spec }, status: { phase: extra.phase ?? 'Running', startTime: AT, ...extra.status },
});
const workload = (kind: string, name: string, extra: Extra & { spec?: object; status?: object; podLabels?: Record<string, string>; podSpec?: object } = {}): KubeWorkload => ({
  metadata: metadata(kind, name, extra), spec: { replicas: 1, template: { metadata: { labels: extra.podLabels ?? { app: name } }, spec: { containers: [{ name: 'app' }], ...extra.podSpec } }, ...extra.spec }, status: { observedGeneration: 1, replicas: 1, updatedReplicas: 1, readyReplicas: 1, ...extra.status },
});
const objectsOf = (texts: readonly string[]) => texts.map((text) => inventoryObjectSchema.parse(JSON.parse(text)));

describe('owners', () => {
  const controllers = new Map([
    [uid('ReplicaSet/web-1'), { kind: 'ReplicaSet', name: 'web-1', owner: controlledBy('Deployment', 'web') }], [uid('ReplicaSet/roll-1'), { kind: 'ReplicaSet', name: 'roll-1', owner: controlledBy('Rollout', 'roll') }],
    [uid('Job/nightly-1'), { kind: 'Job', name: 'nightly-1', owner: controlledBy('CronJob', 'nightly') }], [uid('Job/once'), { kind: 'Job', name: 'once', owner: null }], [uid('ReplicaSet/bare'), { kind: 'ReplicaSet', name: 'bare', owner: null }],
  ]);
  const of = (owner?: OwnerReference) => ownershipOf(metadata('Pod', 'p', { owner }), (each) => controllers.get(each));

  it.each<[OwnerReference | undefined, string, string[]]>([
    [controlledBy('ReplicaSet', 'web-1'), 'Deployment/web', ['ReplicaSet/web-1', 'Deployment/web']], [controlledBy('ReplicaSet', 'roll-1'), 'Rollout/roll', ['ReplicaSet/roll-1', 'Rollout/roll']],
    [controlledBy('Job', 'nightly-1'), 'CronJob/nightly', ['Job/nightly-1', 'CronJob/nightly']], [controlledBy('Job', 'once'), 'Job/once', ['Job/once']], [controlledBy('ReplicaSet', 'bare'), 'ReplicaSet/bare', ['ReplicaSet/bare']],
    [controlledBy('StatefulSet', 'db'), 'StatefulSet/db', ['StatefulSet/db']], [controlledBy('Workflow', 'w'), 'Other/w', ['Workflow/w']], [controlledBy('Node', 'n1'), 'Node/n1', ['Node/n1']], [undefined, 'Pod/p', []],
  ])('lead to the top controller', (owner, expected, chain) => {
    const { workload: { kind, name }, owners, pending } = of(owner);
    expect([`${kind}/${name}`, owners, pending]).toEqual([expected, chain, false]);
  });

  it('are pending while one of them is not known', () => {
    expect(of(controlledBy('ReplicaSet', 'unseen'))).toMatchObject({ pending: true, workload: { kind: 'ReplicaSet', name: 'unseen' } });
  });

  it('end in a circle that somebody made', () => {
    const circle = { kind: 'ReplicaSet', name: 'x', owner: controlledBy('ReplicaSet', 'x') };
    expect(ownershipOf(metadata('Pod', 'p', { owner: controlledBy('ReplicaSet', 'x') }), () => circle).owners.length).toBeLessThan(10);
  });
});

describe('pods', () => {
  const owned = { workload: { namespace: 'shop', kind: 'Deployment', name: 'web' } as const, workloadUid: uid('w'), owners: [], pending: false };

  it('are charged from their binding to the end of their phase', () => {
    const bound = podObject(pod('a', { status: { conditions: [{ type: 'PodScheduled', status: 'True', lastTransitionTime: '2026-06-01T10:00:05Z' }] } }), owned, AT);
    expect(bound).toMatchObject({ scheduled_at: '2026-06-01T10:00:05Z', finished_at: null });
    expect(podObject(pod('b', { spec: { nodeName: undefined } }), owned, AT).scheduled_at).toBeNull();
    const ended = { terminated: { reason: 'Completed', finishedAt: '2026-06-01T11:00:00Z' } };
    expect(podObject(pod('c', { phase: 'Succeeded', status: { containerStatuses: [{ name: 'app', state: ended }] } }), owned, AT).finished_at).toBe('2026-06-01T11:00:00Z');
    // Evicted before any container ran: nothing tells but the conditions, and without those when it was seen.
    expect(podObject(pod('d', { phase: 'Failed', status: { conditions: [{ type: 'DisruptionTarget', lastTransitionTime: '2026-06-01T10:30:00Z' }] } }), owned, AT).finished_at).toBe('2026-06-01T10:30:00Z');
    expect(podObject(pod('e', { phase: 'Failed' }), owned, '2026-06-01T12:00:00Z').finished_at).toBe('2026-06-01T12:00:00Z');
  });

  it('tell sidecars from init containers, and amounts that are not given from none', () => {
    const { containers } = podObject(pod('a', { spec: { initContainers: [{ name: 'init' }, { name: 'mesh', restartPolicy: 'Always', resources: { requests: { cpu: '0.01' } } }] } }), owned, AT);
    expect(containers.map(({ name, role, requests }) => [name, role, requests.cpu_millicores, requests.memory_bytes])).toEqual([['init', 'init', null, null], ['mesh', 'sidecar', 10, null], ['app', 'main', 100, 128 * 2 ** 20]]);
  });
});

describe('workloads', () => {
  const deployment = (status: object, extra: Extra & { spec?: object } = {}) => workloadObject(workload('Deployment', 'web', { ...extra, status }), 'Deployment', 'apps/v1');

  it('are in a rollout while old pods stand or new ones are missing', () => {
    expect(deployment({}).rollout_in_flight).toBe(false);
    expect(deployment({ updatedReplicas: 0 }).rollout_in_flight).toBe(true);
    expect(deployment({ replicas: 2 }).rollout_in_flight).toBe(true);
    expect(deployment({}, { generation: 2 }).rollout_in_flight).toBe(true);
    expect(workloadObject(workload('StatefulSet', 'db', { status: { currentRevision: 'a', updateRevision: 'b' } }), 'StatefulSet', 'apps/v1').rollout_in_flight).toBe(true);
    expect(workloadObject(workload('DaemonSet', 'd', { status: { desiredNumberScheduled: 3, updatedNumberScheduled: 2 } }), 'DaemonSet', 'apps/v1').rollout_in_flight).toBe(true);
  });

  it('were last rolled out when their newest revision was made, or went back to an old one', () => {
    const signs = { createdAt: '2026-01-01T00:00:00Z', progressedAt: '2026-05-01T00:00:00Z', revised: true };
    expect(lastRolloutAt(signs, [])).toBe('2026-01-01T00:00:00Z');
    expect(lastRolloutAt(signs, [{ createdAt: '2026-02-01T00:00:00Z', number: 1 }, { createdAt: '2026-03-01T00:00:00Z', number: 2 }])).toBe('2026-03-01T00:00:00Z');
    expect(lastRolloutAt(signs, [{ createdAt: '2026-02-01T00:00:00Z', number: 3 }, { createdAt: '2026-03-01T00:00:00Z', number: 2 }])).toBe('2026-05-01T00:00:00Z');
  });

  it('have replicas that are told from none', () => {
    expect(deployment({}, { spec: { replicas: 0 } }).replicas).toBe(0);
    expect(workloadObject(workload('CronJob', 'c', { spec: { suspend: true, jobTemplate: { spec: { template: { spec: { containers: [{ name: 'job' }] } } } } } }), 'CronJob', 'batch/v1')).toMatchObject({ replicas: null, suspended: true, containers: [{ name: 'job' }] });
  });

  it('say who writes their spec, what their volumes are, and whether a rollout surges', () => {
    const object = workloadObject({
      ...workload('Deployment', 'web', { podSpec: { volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'c' } }, { name: 'tmp', emptyDir: {} }, { name: 'cfg', secret: { secretName: 's' } }, { name: 'h', hostPath: { path: '/x' } }, { name: 'n', nfs: {} }] } }),
      metadata: { ...metadata('Deployment', 'web'), managedFields: [{ manager: 'argocd-controller', fieldsV1: { 'f:spec': {} } }, { manager: 'kube-controller-manager', fieldsV1: { 'f:status': {} } }] },
    }, 'Deployment', 'apps/v1');
    expect(object.managers).toEqual(['argocd-controller']);
    expect(object.volumes.map(({ type, claim }) => [type, claim])).toEqual([['persistent_volume_claim', 'c'], ['ephemeral', null], ['config', null], ['host_path', null], ['other', null]]);
    expect(JSON.stringify(object)).not.toContain('/x');
    const surge = (strategy: object) => workloadObject(workload('Deployment', 'x', { spec: { strategy } }), 'Deployment', 'apps/v1').max_surge;
    expect([surge({ type: 'Recreate' }), surge({ rollingUpdate: { maxSurge: 0 } }), surge({ rollingUpdate: { maxSurge: '0%' } }), surge({ rollingUpdate: { maxSurge: '25%' } }), surge({})]).toEqual([false, false, false, true, true]);
  });
});

describe('what leads where', () => {
  it('selects as Kubernetes does', () => {
    const labels = { app: 'web', tier: 'front' };
    expect(selects({}, labels)).toBe(true);
    expect(selects({ matchLabels: { app: 'web' } }, labels)).toBe(true);
    expect(selects({ matchLabels: { app: 'api' } }, labels)).toBe(false);
    const by = (operator: string, key: string, values?: string[]) => selects({ matchExpressions: [{ key, operator, values }] }, labels);
    expect([by('In', 'app', ['web', 'x']), by('In', 'gone', ['x']), by('NotIn', 'app', ['web']), by('NotIn', 'gone', ['x']), by('Exists', 'tier'), by('Exists', 'gone'), by('DoesNotExist', 'gone'), by('Gt', 'app', ['1'])]).toEqual([true, false, false, true, true, false, true, false]);
  });

  it('finds Services of other route kinds', () => {
    expect(httpRoute({ metadata: metadata('HTTPRoute', 'r'), spec: { rules: [{ backendRefs: [{ name: 'web' }, { kind: 'Other', name: 'x' }, { name: 'web', namespace: 'else' }] }] } }).services).toEqual([{ namespace: 'shop', name: 'web' }, { namespace: 'else', name: 'web' }]);
    expect(virtualServiceRoute({ metadata: metadata('VirtualService', 'v'), spec: { http: [{ route: [{ destination: { host: 'web.else.svc.cluster.local' } }] }], tcp: [{ route: [{ destination: { host: 'db' } }] }] } }).services).toEqual([{ namespace: 'else', name: 'web' }, { namespace: 'shop', name: 'db' }]);
  });

  const autoscaled = (resource: Resource, spec: object) => {
    const state = new InventoryState();
    state.upsert('deployments', workload('Deployment', 'web'), NOW);
    state.upsert(resource, { metadata: metadata('Autoscaler', 'a'), spec } as KubeObject, NOW);
    return { state, found: objectsOf(state.snapshot(NOW)).find((object) => object.kind === 'Autoscaler') };
  };

  it('knows whose replicas and requests belong to autoscalers', () => {
    const target = { kind: 'Deployment', name: 'web' };
    expect(autoscaled('horizontalpodautoscalers', { scaleTargetRef: target, maxReplicas: 5, metrics: [{ type: 'Resource', resource: { name: 'cpu', target: { averageUtilization: 70 } } }] }).found).toMatchObject({ min_replicas: 1, max_replicas: 5, target_cpu_utilization_percent: 70, target: { name: 'web' } });
    expect(autoscaled('scaledobjects', { scaleTargetRef: { name: 'web' }, minReplicaCount: 2 }).found).toMatchObject({ autoscaler_kind: 'ScaledObject', min_replicas: 2, max_replicas: 100, target: { kind: 'Deployment' } });
    const { state, found } = autoscaled('verticalpodautoscalers', { targetRef: target, updatePolicy: { updateMode: 'Off' } });
    expect(found).toMatchObject({ autoscaler_kind: 'VerticalPodAutoscaler', min_replicas: null, mode: 'Off' });
    expect(state.autoscalersOf({ namespace: 'shop', kind: 'Deployment', name: 'web' })).toHaveLength(1);
    state.upsert('verticalpodautoscalers', { metadata: metadata('Autoscaler', 'a'), spec: {} } as KubeObject, NOW);
    expect(state.autoscalersOf({ namespace: 'shop', kind: 'Deployment', name: 'web' })).toEqual([]);
    expect(autoscaled('horizontalpodautoscalers', {}).found).toBeUndefined();
  });

  it('knows which workloads a budget guards, and lets it go', () => {
    const state = new InventoryState();
    state.upsert('deployments', workload('Deployment', 'web'), NOW);
    state.upsert('poddisruptionbudgets', { metadata: metadata('Budget', 'b'), spec: { selector: { matchLabels: { app: 'web' } }, minAvailable: '50%' }, status: { disruptionsAllowed: 1 } } as KubeObject, NOW);
    expect(objectsOf(state.snapshot(NOW)).find((object) => object.kind === 'PodDisruptionBudget')).toMatchObject({ workloads: [{ name: 'web' }], disruptions_allowed: 1, min_available: '50%', max_unavailable: null });
    state.remove('poddisruptionbudgets', uid('Budget/b'), NOW);
    expect(state.changes(NOW).removes).toEqual([{ kind: 'PodDisruptionBudget', uid: uid('Budget/b') }]);
  });

  it('knows the routes of every kind, and lets them go', () => {
    const state = new InventoryState();
    for (const [resource, spec] of [['httproutes', { rules: [{ backendRefs: [{ name: 'web' }] }] }], ['virtualservices', { http: [{ route: [{ destination: { host: 'web' } }] }] }]] as const) {
      state.upsert(resource, { metadata: metadata(resource, 'r'), spec } as KubeObject, NOW);
      expect(objectsOf(state.changes(NOW).upserts)).toMatchObject([{ kind: 'Route', services: [{ namespace: 'shop', name: 'web' }] }]);
      state.remove(resource, uid(`${resource}/r`), NOW);
      expect(state.changes(NOW).removes).toHaveLength(1);
    }
    expect(state.workloadsOfService({ namespace: 'shop', name: 'web' })).toEqual([]);
  });

  const hosts = (env: Record<string, string>) => namedHosts({ containers: [{ name: 'app', env: Object.entries(env).map(([name, value]) => ({ name, value })) }] }, 'shop').map(({ namespace, name }) => `${namespace}/${name}`).sort();

  it('finds names of possible Services in values of the environment', () => {
    expect(hosts({ A: 'http://api:8080/x?token=secret' })).toEqual(['shop/api']);
    expect(hosts({ A: 'postgres://user:p%40ss@db.data.svc.cluster.local:5432/x' })).toEqual(['data/db']);
    expect(hosts({ A: 'kafka-0.kafka:9092,kafka-1.kafka:9092' })).toEqual(['kafka/kafka-0', 'kafka/kafka-1']);
    expect(hosts({ CART_SERVICE_ADDR: 'cart' })).toEqual(['shop/cart']);
    expect(hosts({ MODE: 'cart' })).toEqual([]);
    expect(hosts({ A: 'https://api.shop.example/x' })).toEqual([]);
    expect(hosts({ A: 'redis://:pw@cache' })).toEqual(['shop/cache']);
    expect(hosts({ A: `${'x'.repeat(3_000)} http://api` })).toEqual([]);
  });

  it('lets only names of Services out, and none that lead back', () => {
    const from = { namespace: 'shop', kind: 'Deployment', name: 'web' } as const;
    const api = { namespace: 'shop', kind: 'Deployment', name: 'api' } as const;
    const found = dependencyObjects(from, [{ namespace: 'shop', name: 'api' }, { namespace: 'shop', name: 'hunter2' }, { namespace: 'shop', name: 'web' }], ({ name }) => name !== 'hunter2', ({ name }) => (name === 'web' ? [from] : [api]));
    expect(found.map(({ to_service: to }) => to.name)).toEqual(['api']);
  });

  it('finds nothing in any value that is no name', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (value) => {
      for (const name of hosts({ SERVICE_HOST: value })) expect(name).toMatch(/^[a-z0-9-]+\/[a-z0-9.-]+$/);
    }));
  });
});

describe('what may leave the cluster', () => {
  it('is of annotations an allow-list', () => {
    expect(allowedAnnotations({
      'upid.io/exclude': 'true', 'downscaler/exclude': 'true', 'kubectl.kubernetes.io/last-applied-configuration': '{"password":1}', 'example.com/token': 'secret', 'upid.io/long': 'x'.repeat(300), 'workloads.cast.ai/configuration': 'secret: yaml',
    })).toEqual({ 'upid.io/exclude': 'true', 'downscaler/exclude': 'true', 'workloads.cast.ai/configuration': 'true' });
  });

  it('is nothing of environments, annotations, paths or hosts, whatever objects hold', () => {
    const secret = fc.string({ minLength: 12, maxLength: 20, unit: fc.constantFrom(...'abcdefghijkmnpqrstuvwxyz') }).map((text) => `zz${text}`);
    fc.assert(fc.property(secret, (value) => {
      const state = new InventoryState();
      const env = [{ name: 'SERVICE_HOST', value }, { name: 'URL', value: `http://${value}@x:1/${value}` }];
      const annotations = { 'example.com/a': value, 'kubectl.kubernetes.io/last-applied-configuration': value };
      const containers = [{ name: 'app', env, command: [value], args: [value] }];
      const template = { metadata: { annotations }, spec: { containers, volumes: [{ name: 'v', secret: { secretName: value } }] } };
      const add = (resource: Resource, object: object) => state.upsert(resource, object as KubeObject, NOW);
      add('deployments', { ...workload('Deployment', 'web', { annotations }), spec: { replicas: 1, template } });
      add('cronjobs', { ...workload('CronJob', 'c', { annotations }), spec: { jobTemplate: { spec: { template } } } });
      add('pods', { ...pod('bare', { annotations }), spec: { containers } });
      add('namespaces', { metadata: { ...metadata('Namespace', 'shop'), annotations } });
      add('services', { metadata: { ...metadata('Service', 'web'), annotations }, spec: { externalName: value, ports: [] } });
      add('ingresses', { metadata: { ...metadata('Ingress', 'web'), annotations }, spec: { rules: [{ host: value, http: { paths: [{ path: `/${value}`, backend: { service: { name: 'web' } } }] } }], tls: [{ secretName: value }] } });
      add('nodes', { metadata: { name: 'n', uid: uid('n'), annotations, creationTimestamp: AT }, status: {} });
      expect(state.snapshot(NOW).join('\n')).not.toContain(value);
    }), { numRuns: 20 });
  });
});

describe('the state', () => {
  const given = (...objects: [Resource, KubeObject][]) => {
    const state = new InventoryState();
    for (const [resource, object] of objects) state.upsert(resource, object, NOW);
    return state;
  };
  const web: [Resource, KubeObject][] = [
    ['deployments', workload('Deployment', 'web')], ['replicasets', { ...workload('ReplicaSet', 'web-1', { owner: controlledBy('Deployment', 'web') }) }], ['pods', pod('web-1-a', { owner: controlledBy('ReplicaSet', 'web-1') })],
    ['services', { metadata: metadata('Service', 'web'), spec: { selector: { app: 'web' }, ports: [{ port: 80 }] } } as KubeObject], ['ingresses', { metadata: metadata('Ingress', 'web'), spec: { ingressClassName: 'nginx', defaultBackend: { service: { name: 'web' } } } } as KubeObject],
  ];

  it('says the same in whatever order objects come', () => {
    const expected = objectsOf(given(...web).snapshot(NOW)).map((object) => JSON.stringify(object)).sort();
    fc.assert(fc.property(fc.shuffledSubarray(web, { minLength: web.length }), (order) => {
      expect(objectsOf(given(...order).snapshot(NOW)).map((object) => JSON.stringify(object)).sort()).toEqual(expected);
    }));
  });

  it('tells each change once, and nothing where nothing changed', () => {
    const state = given(...web);
    expect(objectsOf(state.changes(NOW).upserts).map(({ kind }) => kind).sort()).toEqual(['Pod', 'Route', 'Service', 'Workload']);
    for (const [resource, object] of web) state.upsert(resource, object, NOW);
    expect(state.changes(NOW)).toEqual({ upserts: [], removes: [] });
    state.remove('pods', uid('Pod/web-1-a'), NOW);
    expect(state.changes(NOW)).toEqual({ upserts: [], removes: [{ kind: 'Pod', uid: uid('Pod/web-1-a') }] });
  });

  it('lets a pod wait for its owner, but not for ever', () => {
    const state = given(['pods', pod('web-1-a', { owner: controlledBy('ReplicaSet', 'web-1') })]);
    expect(state.changes(NOW).upserts).toEqual([]);
    expect(objectsOf(state.changes(NOW + 10_001).upserts)).toMatchObject([{ kind: 'Pod', workload: { kind: 'ReplicaSet', name: 'web-1' } }]);
    const quick = given(['pods', pod('web-1-a', { owner: controlledBy('ReplicaSet', 'web-1') })]);
    quick.upsert('replicasets', workload('ReplicaSet', 'web-1', { owner: controlledBy('Deployment', 'web') }), NOW + 500);
    expect(objectsOf(quick.changes(NOW + 1_000).upserts)).toMatchObject([{ workload: { kind: 'Deployment', name: 'web' } }]);
  });

  it('lets what vanished between list and watch go, a whole namespace too', () => {
    const state = given(...web, ['namespaces', { metadata: { name: 'shop', uid: uid('Namespace/shop') } }]);
    state.snapshot(NOW);
    for (const resource of ['pods', 'deployments', 'replicasets', 'services', 'ingresses', 'namespaces'] as const) state.retain(resource, new Set(), NOW);
    const { upserts, removes } = state.changes(NOW);
    expect(upserts).toEqual([]);
    expect(removes.map(({ kind }) => kind).sort()).toEqual(['Namespace', 'Pod', 'Route', 'Service', 'Workload']);
    expect(state.snapshot(NOW)).toEqual([]);
    // A late event of what is gone already does no harm.
    state.remove('pods', uid('Pod/web-1-a'), NOW);
    expect(state.changes(NOW)).toEqual({ upserts: [], removes: [] });
  });

  it('keeps OOM kills by workload when the pod is gone', () => {
    const killed = { lastState: { terminated: { reason: 'OOMKilled', finishedAt: '2026-06-01T11:00:00Z' } }, name: 'app', restartCount: 1 };
    const state = given(...web.slice(0, 2), ['pods', pod('web-1-a', { owner: controlledBy('ReplicaSet', 'web-1'), status: { containerStatuses: [killed] } })]);
    state.remove('pods', uid('Pod/web-1-a'), NOW);
    const kill = objectsOf(state.snapshot(NOW)).find((object): object is Extract<InventoryObject, { kind: 'OomKill' }> => object.kind === 'OomKill');
    expect(kill).toMatchObject({ workload: { kind: 'Deployment', name: 'web' }, container: 'app', at: '2026-06-01T11:00:00Z' });
    // A week later it is history; nobody is told that it did not happen.
    expect(state.snapshot(NOW + 8 * 86_400_000).some((text) => text.includes('OomKill'))).toBe(false);
    expect(state.changes(NOW + 8 * 86_400_000).removes).toEqual([]);
  });

  it('notes a workload that was made anew under its name', () => {
    const state = given(['deployments', workload('Deployment', 'web')]);
    state.remove('deployments', uid('Deployment/web'), NOW);
    state.upsert('deployments', { ...workload('Deployment', 'web'), metadata: { ...metadata('Deployment', 'web'), uid: uid('anew') } }, NOW);
    expect(state.takeUidChanges()).toEqual([{ workload: { namespace: 'shop', kind: 'Deployment', name: 'web' }, before: uid('Deployment/web'), after: uid('anew'), atMs: NOW }]);
    expect(state.takeUidChanges()).toEqual([]);
  });

  it('knows what generation a version was of', () => {
    const state = given(['deployments', workload('Deployment', 'web', { version: '5', generation: 2 })]);
    state.upsert('deployments', workload('Deployment', 'web', { version: '6', generation: 2 }), NOW);
    expect(state.generationAt(uid('Deployment/web'), '5')).toBe(2);
    expect(state.generationAt(uid('Deployment/web'), '4')).toBeNull();
  });

  it('knows nodes as they are reached, and lets them go', () => {
    const state = given(['nodes', {
      metadata: { name: 'n1', uid: uid('n1'), creationTimestamp: AT, labels: { 'node.kubernetes.io/instance-type': 'm6i.xlarge' } }, spec: { unschedulable: true, taints: [{ key: 'k', effect: 'NoSchedule' }] },
      status: { capacity: { cpu: '4', memory: '16Gi' }, conditions: [{ type: 'Ready', status: 'True' }], addresses: [{ type: 'Hostname', address: 'n1' }, { type: 'InternalIP', address: '10.0.0.1' }], daemonEndpoints: { kubeletEndpoint: { Port: 10_255 } } },
    } as KubeObject]);
    expect([...state.nodes()]).toMatchObject([{ name: 'n1', internalIp: '10.0.0.1', kubeletPort: 10_255, cpuMillicores: 4_000, ready: true }]);
    expect(objectsOf(state.snapshot(NOW))).toMatchObject([{ kind: 'Node', instance_type: 'm6i.xlarge', unschedulable: true, taints: [{ key: 'k', value: '', effect: 'NoSchedule' }], capacity: { memory_bytes: 2 ** 34 } }]);
    expect([state.count('Node'), state.count('Pod')]).toEqual([1, 0]);
    state.remove('nodes', uid('n1'), NOW);
    expect([[...state.nodes()], state.changes(NOW).removes]).toEqual([[], [{ kind: 'Node', uid: uid('n1') }]]);
  });

  it('dates a rollout by the revisions of its owner, also when they come later', () => {
    const state = given(['statefulsets', workload('StatefulSet', 'db')]);
    const revision = (name: string, at: string) => state.upsert('controllerrevisions', { metadata: { ...metadata('ControllerRevision', name, { owner: controlledBy('StatefulSet', 'db') }), creationTimestamp: at } }, NOW);
    revision('db-1', '2026-03-01T00:00:00Z');
    revision('db-2', '2026-04-01T00:00:00Z');
    const rollout = () => (objectsOf(state.snapshot(NOW))[0] as { last_rollout_at?: string }).last_rollout_at;
    expect(rollout()).toBe('2026-04-01T00:00:00Z');
    state.remove('controllerrevisions', uid('ControllerRevision/db-2'), NOW);
    state.upsert('statefulsets', workload('StatefulSet', 'db', { version: '2' }), NOW);
    expect(rollout()).toBe('2026-03-01T00:00:00Z');
  });

  it('finds workloads behind an Ingress of a class, and pods by address and by name', () => {
    const state = given(...web);
    expect([...state.routedWorkloads((name) => name === 'nginx').keys()]).toEqual(['shop/Deployment/web']);
    expect([...state.routedWorkloads((name) => name === 'traefik').keys()]).toEqual([]);
    state.upsert('pods', pod('web-1-a', { owner: controlledBy('ReplicaSet', 'web-1'), status: { podIP: '10.1.1.1' } }), NOW);
    expect(state.podByIp('10.1.1.1')?.name).toBe('web-1-a');
    state.remove('pods', uid('Pod/web-1-a'), NOW);
    expect(state.podByIp('10.1.1.1')).toBeUndefined();
    expect(state.podsNamed('shop', 'web-1-a')[0]?.removedAtMs).toBe(NOW);
    state.changes(NOW + 300_001);
    expect(state.podsNamed('shop', 'web-1-a')).toEqual([]);
  });

  it('stays true to a model under any sequence of events', () => {
    const names = ['a', 'b', 'c'];
    const step = fc.oneof(
      fc.record({ do: fc.constant('upsert' as const), name: fc.constantFrom(...names), phase: fc.constantFrom('Pending', 'Running', 'Failed') }), fc.record({ do: fc.constant('remove' as const), name: fc.constantFrom(...names) }),
      fc.record({ do: fc.constant('list' as const), keep: fc.subarray(names) }), fc.record({ do: fc.constant('changes' as const) }), fc.record({ do: fc.constant('snapshot' as const) }),
    );
    fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const state = new InventoryState();
      const truth = new Map<string, string>();
      const consumer = new Map<string, string>();
      const read = (texts: readonly string[]) => { for (const object of objectsOf(texts)) if (object.kind === 'Pod') consumer.set(object.uid, object.phase); };
      for (const each of steps) {
        if (each.do === 'upsert') {
          state.upsert('pods', pod(each.name, { phase: each.phase }), NOW);
          truth.set(uid(`Pod/${each.name}`), each.phase);
        } else if (each.do === 'remove') {
          state.remove('pods', uid(`Pod/${each.name}`), NOW);
          truth.delete(uid(`Pod/${each.name}`));
        } else if (each.do === 'list') {
          const kept = new Set(each.keep.map((name) => uid(`Pod/${name}`)));
          state.retain('pods', kept, NOW);
          for (const key of [...truth.keys()]) if (!kept.has(key)) truth.delete(key);
        } else if (each.do === 'snapshot') {
          consumer.clear();
          read(state.snapshot(NOW));
          expect(consumer).toEqual(truth);
        } else {
          const { upserts, removes } = state.changes(NOW);
          for (const { kind, uid: gone } of removes) if (kind === 'Pod') consumer.delete(gone);
          read(upserts);
          expect(consumer).toEqual(truth);
        }
      }
    }));
  });
});

describe('samples and pods', () => {
  const known = (name: string, createdAtMs: number, removedAtMs: number | null = null, kubeletUid: string | null = null) => ({
    uid: uid(name), namespace: 'shop', name: 'db-0', kubeletUid, workload: { namespace: 'shop', kind: 'StatefulSet' as const, name: 'db' }, workloadUid: uid('db'), nodeName: null, ip: null, hostNetwork: false, running: true, createdAtMs, labels: {}, containers: [], removedAtMs,
  });
  const minute = NOW / 60_000;
  const old = known('old', NOW - 600_000, NOW - 60_000);
  const young = known('young', NOW - 50_000);

  it('are matched by UID before name, and by the time a pod lived', () => {
    expect(podOfSample({ podUid: uid('x'), minute }, [young, old], old)).toBe(old);
    expect(podOfSample({ podUid: null, minute }, [young, old], undefined)).toBe(young);
    expect(podOfSample({ podUid: null, minute: minute - 5 }, [young, old], undefined)).toBe(old);
    expect(podOfSample({ podUid: null, minute: minute - 60 }, [young, old], undefined)).toBeNull();
  });

  it('are not given to a pod of the name when the UID is another\'s, but for static pods', () => {
    expect(podOfSample({ podUid: uid('unknown'), minute }, [young], undefined)).toBeNull();
    const mirror = known('mirror', NOW, null, 'abcdef');
    expect(podOfSample({ podUid: 'abcdef', minute }, [mirror], undefined)).toBe(mirror);
  });
});

describe('events', () => {
  const position = { epoch: uid('epoch'), epochStartedAtMs: NOW, generation: 3, sequence: 7 };
  const text = (name: string, padding = 0) => JSON.stringify({ kind: 'Namespace', uid: uid(name), name, labels: { padding: 'x'.repeat(padding) }, annotations: {}, created_at: null });

  it('split a snapshot into parts that fit, and lose nothing', () => {
    const objects = Array.from({ length: 300 }, (_, i) => text(`n${i}`, 10_000));
    const parts = snapshotTexts(position, objects, NOW).map((each) => {
      expect(Buffer.byteLength(each)).toBeLessThanOrEqual(SNAPSHOT_PART_BYTES);
      return inventoryEventSchema.parse(JSON.parse(each));
    });
    expect(parts.length).toBeGreaterThan(5);
    expect(parts.map(({ part, parts: all, sequence, generation }) => [part, all, sequence, generation])).toEqual(parts.map((_, i) => [i + 1, parts.length, 0, 3]));
    expect(parts.flatMap(({ upserts }) => upserts.map(({ name }) => name))).toEqual(objects.map((_, i) => `n${i}`));
    expect(snapshotTexts(position, [], NOW)).toHaveLength(1);
  });

  it('number changes one after the other', () => {
    const removes = Array.from({ length: 12_000 }, (_, i) => ({ kind: 'Pod' as const, uid: uid(`p${i}`) }));
    const events = changeTexts(position, Array.from({ length: 100 }, (_, i) => text(`n${i}`, 10_000)), removes, NOW).map((each) => {
      expect(Buffer.byteLength(each)).toBeLessThanOrEqual(SNAPSHOT_PART_BYTES);
      return inventoryEventSchema.parse(JSON.parse(each));
    });
    expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, i) => 8 + i));
    expect(events.flatMap((event) => event.removes)).toHaveLength(12_000);
    expect(events.flatMap((event) => event.upserts)).toHaveLength(100);
    expect(changeTexts(position, [text('a')], removes.slice(0, 2), NOW)).toHaveLength(1);
    expect(changeTexts(position, [], [], NOW)).toEqual([]);
    expect(changeTexts(position, [], removes.slice(0, 1), NOW)).toHaveLength(1);
  });

  it('pack within the limit by bytes', () => {
    fc.assert(fc.property(fc.array(fc.string({ unit: 'binary', minLength: 1, maxLength: 30 })), fc.integer({ min: 40, max: 200 }), (texts, limit) => {
      const groups = packed(texts, limit);
      expect(groups.flat()).toEqual(texts);
      for (const group of groups) if (group.length > 1) expect(Buffer.byteLength(group.join())).toBeLessThanOrEqual(limit);
    }));
  });
});

describe('made-up identifiers', () => {
  it('are UIDs, the same for the same, and others for others', () => {
    const seen = new Map<string, string>();
    fc.assert(fc.property(fc.array(fc.string(), { maxLength: 4 }), (parts) => {
      const made = uuidOf(...parts);
      expect(uidSchema.safeParse(made).success).toBe(true);
      expect(uuidOf(...parts)).toBe(made);
      const key = JSON.stringify(parts);
      expect(seen.get(made) ?? key).toBe(key);
      seen.set(made, key);
    }), { numRuns: 2_000 });
    const many = new Set(Array.from({ length: 20_000 }, (_, i) => uuidOf('x', i)));
    expect(many.size).toBe(20_000);
    expect(uuidOf('a', 'bc')).not.toBe(uuidOf('ab', 'c'));
  });
});
