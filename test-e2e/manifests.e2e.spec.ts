import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CONTROL_PLANE_TIMEOUT_MS, deployment, describeWithControlPlane, KubernetesApi, namespace, parseManifests, startControlPlane, waitFor, type ControlPlane, type KubernetesObject, type Pod } from '@upid/testing';

const manifest = (name: string): Promise<string> => readFile(join(import.meta.dirname, '..', 'k8s', name), 'utf8');
const AGENT = { namespace: 'upid-system', name: 'upid-agent' } as const;

/** Verbs that change something, or that are as good as that. */
const CHANGES = ['create', 'update', 'patch', 'delete', 'deletecollection'] as const;
/** Namespaces with rules of their own, and one like any other. */
const NAMESPACES = ['shop', 'ingress-nginx', 'upid-system'] as const;

interface Right { verb: string; group: string; resource: string; subresource: string; namespace: string }

describeWithControlPlane('the Kubernetes manifests', () => {
  let cluster: ControlPlane;
  /** The API as the agent's service account reaches it. */
  let agent: KubernetesApi;
  /** Every resource and subresource that the API serves. */
  let served: { group: string; resource: string; subresource: string; namespaced: boolean }[];

  /** What the agent may do of `verbs`, on anything served, as `verb group/resource/subresource in namespace`. */
  async function allowed(verbs: readonly string[]): Promise<string[]> {
    const questions: Right[] = served.flatMap(({ group, resource, subresource, namespaced }) => verbs.flatMap((verb) => (namespaced ? NAMESPACES : ['']).map((where) => ({ verb, group, resource, subresource, namespace: where }))));
    const answers: string[] = [];
    const waiting = questions.values();
    await Promise.all(Array.from({ length: 16 }, async () => {
      for (const question of waiting) {
        if (!(await cluster.mayServiceAccount(AGENT.namespace, AGENT.name, question))) continue;
        const { verb, group, resource, subresource, namespace: where } = question;
        answers.push(`${verb} ${[...(group === '' ? [] : [group]), resource, ...(subresource === '' ? [] : [subresource])].join('/')}${where === '' ? '' : ` in ${where}`}`);
      }
    }));
    return answers.sort();
  }

  const may = (verb: string, resource: string, more: { group?: string; subresource?: string; namespace?: string } = {}) => cluster.mayServiceAccount(AGENT.namespace, AGENT.name, { verb, resource, ...more });

  beforeAll(async () => {
    cluster = await startControlPlane();
    await cluster.addNodes(3);
    await cluster.apply([namespace('shop'), deployment({ name: 'web', namespace: 'shop', replicas: 2 }), { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'credentials', namespace: 'shop' }, stringData: { password: 'hidden' } } as KubernetesObject]);
    await cluster.waitForPods('shop', '', 2);
    for (const file of ['namespace.yaml', 'agent.yaml', 'platform.yaml']) await cluster.apply(await manifest(file));
    const { token } = await cluster.serviceAccountKubeconfig(AGENT.namespace, AGENT.name);
    agent = new KubernetesApi({ ...cluster.api.address, token });
    type Groups = { groups: { preferredVersion: { groupVersion: string } }[] };
    const versions = ['v1', ...(await cluster.api.call<Groups>('GET', '/apis')).groups.map((group) => group.preferredVersion.groupVersion)];
    served = (await Promise.all(versions.map(async (version) => {
      const { resources } = await cluster.api.call<{ resources: { name: string; namespaced: boolean }[] }>('GET', version === 'v1' ? '/api/v1' : `/apis/${version}`);
      const group = version.includes('/') ? (version.split('/')[0] ?? '') : '';
      return resources.map(({ name, namespaced }) => ({ group, resource: name.split('/')[0] ?? '', subresource: name.split('/')[1] ?? '', namespaced }));
    }))).flat();
  }, CONTROL_PLANE_TIMEOUT_MS);

  afterAll(async () => {
    agent?.close();
    await cluster?.stop();
  });

  it('are taken by the API server, and pods of all of them by the restricted pod security standard', async () => {
    const objects = (await Promise.all(['namespace.yaml', 'agent.yaml', 'platform.yaml', 'actuation.yaml', 'node-proxy.yaml'].map(manifest))).flatMap((text) => parseManifests(text));
    expect(objects.length).toBeGreaterThan(25);
    const expected = objects.filter(({ kind }) => kind === 'Deployment' || kind === 'StatefulSet').map(({ metadata, ...object }) => [metadata?.name ?? '', (object as { spec?: { replicas?: number } }).spec?.replicas ?? 1] as const);
    expect(expected.map(([name]) => name).sort()).toEqual(['cost', 'gateway', 'intelligence', 'nats', 'optimizer', 'postgres', 'redis', 'upid-agent']);
    const pods = await waitFor('every pod to run', async () => {
      const found = await cluster.pods('upid-system');
      const running = (name: string) => found.filter((pod) => pod.metadata.labels?.['app.kubernetes.io/name'] === name && pod.status.phase === 'Running').length;
      return expected.every(([name, replicas]) => running(name) === replicas) ? found : undefined;
    }, { timeoutMs: 60_000 });
    for (const pod of pods) expect(requestsOf(pod)).toEqual({ pod: pod.metadata.name, without: [] });
    // The standard holds there: a pod that asks for more is refused.
    const privileged = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'privileged', namespace: 'upid-system' }, spec: { containers: [{ name: 'a', image: 'a', securityContext: { privileged: true } }] } };
    expect((await cluster.api.raw('POST', '/api/v1/namespaces/upid-system/pods', privileged)).status).toBe(403);
  });

  it('let the agent read what it needs, and only that', async () => {
    const list = ['get', 'list', 'watch'];
    const reads = [
      ...['nodes', 'namespaces', 'pods', 'services', 'replicationcontrollers'].map((resource) => ['', resource] as const), ...['deployments', 'statefulsets', 'daemonsets', 'replicasets', 'controllerrevisions'].map((resource) => ['apps', resource] as const),
      ['batch', 'jobs'], ['batch', 'cronjobs'], ['networking.k8s.io', 'ingresses'], ['autoscaling', 'horizontalpodautoscalers'], ['policy', 'poddisruptionbudgets'],
    ] as const;
    for (const [group, resource] of reads) for (const verb of list) expect({ verb, resource, may: await may(verb, resource, { group }) }).toEqual({ verb, resource, may: true });
    for (const subresource of ['metrics', 'stats']) expect(await may('get', 'nodes', { subresource })).toBe(true);
    for (const verb of ['get', 'list']) expect(await may(verb, 'pods', { group: 'metrics.k8s.io' })).toBe(true);
    expect(await may('get', 'pods', { subresource: 'log', namespace: 'ingress-nginx' })).toBe(true);

    const everything = await allowed(['get', 'list', 'watch']);
    const kinds = new Set(everything.map((right) => right.replace(/^\w+ /, '').replace(/ in .*/, '')));
    expect([...kinds].sort()).toEqual([
      'apps/controllerrevisions', 'apps/daemonsets', 'apps/deployments', 'apps/replicasets', 'apps/statefulsets', 'autoscaling/horizontalpodautoscalers', 'batch/cronjobs', 'batch/jobs', 'configmaps', 'coordination.k8s.io/leases',
      'metrics.k8s.io/nodes', 'metrics.k8s.io/pods', 'namespaces', 'networking.k8s.io/ingresses', 'nodes', 'pods', 'pods/log', 'policy/poddisruptionbudgets', 'replicationcontrollers', 'services',
    ]);
    // These of one namespace alone.
    expect([...new Set(everything.filter((right) => /(configmaps|leases|pods\/log)/.test(right)).map((right) => right.replace(/^\w+ /, '')))]).toEqual(['configmaps in upid-system', 'coordination.k8s.io/leases in upid-system', 'pods/log in ingress-nginx']);
  });

  it('keep Secrets, nodes/proxy, exec and impersonation from the agent', async () => {
    for (const where of [...NAMESPACES, 'kube-system']) for (const verb of ['get', 'list', 'watch']) expect({ where, verb, may: await may(verb, 'secrets', { namespace: where }) }).toEqual({ where, verb, may: false });
    expect((await agent.raw('GET', '/api/v1/namespaces/shop/secrets/credentials')).status).toBe(403);
    expect((await agent.raw('GET', '/api/v1/secrets')).status).toBe(403);
    expect((await agent.raw('GET', '/api/v1/namespaces/upid-system/secrets')).status).toBe(403);

    const node = (await cluster.pods('shop'))[0]?.spec.nodeName ?? '';
    for (const verb of ['get', 'create']) expect(await may(verb, 'nodes', { subresource: 'proxy' })).toBe(false);
    expect((await agent.raw('GET', `/api/v1/nodes/${node}/proxy/metrics/resource`)).status).toBe(403);
    // A kubelet asks the API server about its callers: figures are given, all else is `nodes/proxy`.
    expect((await cluster.askKubelet(node, '/metrics/resource', agent.address.token)).status).toBe(200);
    expect((await cluster.askKubelet(node, '/stats/summary', agent.address.token)).status).toBe(200);
    expect((await cluster.askKubelet(node, '/pods', agent.address.token)).status).toBe(403);

    for (const [resource, subresource] of [['pods', 'exec'], ['pods', 'attach'], ['pods', 'portforward'], ['serviceaccounts', 'token']] as const) for (const where of NAMESPACES) expect(await may('create', resource, { subresource, namespace: where })).toBe(false);
    for (const resource of ['users', 'groups', 'serviceaccounts']) expect(await may('impersonate', resource)).toBe(false);
    for (const verb of ['escalate', 'bind']) for (const resource of ['roles', 'clusterroles']) expect(await may(verb, resource, { group: 'rbac.authorization.k8s.io' })).toBe(false);
  });

  it('let the agent change nothing but its own lease and records, until the actuation role is bound; then patch and scale, and no more', async () => {
    // Every user may ask about himself.
    const own = (rights: string[]) => rights.filter((right) => !right.includes('selfsubject'));
    const records = ['create configmaps in upid-system', 'create coordination.k8s.io/leases in upid-system', 'delete configmaps in upid-system', 'patch configmaps in upid-system', 'update configmaps in upid-system', 'update coordination.k8s.io/leases in upid-system'];
    expect(own(await allowed(CHANGES))).toEqual(records);
    const web = '/apis/apps/v1/namespaces/shop/deployments/web';
    expect((await agent.raw('PATCH', web, { spec: { replicas: 0 } })).status).toBe(403);
    expect((await agent.raw('PATCH', `${web}/scale`, { spec: { replicas: 0 } })).status).toBe(403);
    expect((await agent.raw('DELETE', web)).status).toBe(403);
    expect((await agent.raw('POST', '/api/v1/namespaces/upid-system/configmaps', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'upid-test' } })).status).toBe(201);

    await cluster.apply(await manifest('actuation.yaml'));
    await waitFor('the role to be known', () => may('patch', 'deployments', { group: 'apps', namespace: 'shop' }));
    const everywhere = (rights: readonly string[]) => rights.flatMap((right) => NAMESPACES.map((where) => `${right} in ${where}`));
    const act = everywhere([
      ...['deployments', 'statefulsets', 'daemonsets', 'replicasets'].map((resource) => `patch apps/${resource}`), ...['deployments', 'statefulsets', 'replicasets'].flatMap((resource) => [`patch apps/${resource}/scale`, `update apps/${resource}/scale`]),
    ]);
    expect(own(await allowed(CHANGES))).toEqual([...records, ...act].sort());
    expect((await agent.raw('PATCH', `${web}/scale`, { spec: { replicas: 1 } })).status).toBe(200);
    expect((await agent.raw('PATCH', web, { spec: { replicas: 2 } })).status).toBe(200);
    for (const [method, path] of [['DELETE', web], ['POST', '/apis/apps/v1/namespaces/shop/deployments'], ['DELETE', '/api/v1/namespaces/shop']] as const) expect((await agent.raw(method, path, {})).status).toBe(403);

    await cluster.api.call('DELETE', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/upid-actuation');
    await waitFor('the right to be taken back', async () => !(await may('patch', 'deployments', { group: 'apps', namespace: 'shop' })));
    expect(own(await allowed(CHANGES))).toEqual(records);
  });

  it('grant the node proxy by a manifest of its own alone', async () => {
    await cluster.apply(await manifest('node-proxy.yaml'));
    await waitFor('the role to be known', () => may('get', 'nodes', { subresource: 'proxy' }));
    expect(await may('create', 'nodes', { subresource: 'proxy' })).toBe(false);
    await cluster.api.call('DELETE', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/upid-node-proxy');
  });
});

/** Containers of a pod that say nothing of what they need. */
function requestsOf(pod: Pod): { pod: string; without: string[] } {
  return { pod: pod.metadata.name, without: pod.spec.containers.filter(({ resources }) => resources?.requests?.cpu === undefined || resources.limits?.memory === undefined).map(({ name }) => name) };
}
