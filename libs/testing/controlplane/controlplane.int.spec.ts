import { readFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { V1Pod } from '@kubernetes/client-node';
import { cronJob, daemonSet, deployment, horizontalPodAutoscaler, ingress, job, namespace, podDisruptionBudget, service, statefulSet } from '../builders.js';
import { freePort } from '../processes.js';
import { waitFor } from '../wait.js';
import { KubernetesApi, KubernetesApiError, type KubernetesObject, type WatchEvent } from './api.js';
import { type ControlPlane, type Pod, startControlPlane } from './controlplane.js';
import { CONTROL_PLANE_TIMEOUT_MS, describeWithControlPlane } from './describe.js';

const app = (name: string) => `app.kubernetes.io/name=${name}`;

interface Summary {
  node: { nodeName: string };
  pods: {
    podRef: { name: string; uid: string };
    network?: { time: string; rxBytes: number; txBytes: number };
    containers: { name: string; cpu: { usageNanoCores: number }; memory: { workingSetBytes: number } }[];
    volume: { name: string; pvcRef?: { name: string } }[];
  }[];
}

/** Value and Unix time in ms of one sample of Prometheus' text format. */
function sample(text: string, name: string, labels: string): { value: number; atMs: number } {
  const line = text.split('\n').find((one) => one.startsWith(`${name}{`) && one.includes(labels));
  const [, value, at] = /\} (\S+) (\d+)$/.exec(line ?? '') ?? [];
  return { value: Number(value), atMs: Number(at) };
}

describeWithControlPlane('a Kubernetes control plane for tests', () => {
  let cluster: ControlPlane;
  let web: Pod;

  beforeAll(async () => {
    cluster = await startControlPlane({ metricResolutionSeconds: 10, audit: true });
    await cluster.addNodes(2);
    await cluster.addNodes(1, { namePrefix: 'cheap', cloud: 'gcp', instanceType: 'e2-standard-4', capacityType: 'spot' });
    await cluster.apply([
      deployment({
        name: 'web', namespace: 'shop', replicas: 3, containers: [{ limits: { cpu: '500m', memory: '256Mi' } }, { name: 'proxy', port: null }],
        initContainers: [{ name: 'mesh', restartPolicy: 'Always', port: null }],
        usage: { cpuMillicores: 250, memoryBytes: 100 * 2 ** 20, containers: { proxy: { cpuMillicores: 20 } }, receiveBytesPerSecond: 5_000, transmitBytesPerSecond: 700, throttledShare: 0.3 },
      }),
      statefulSet({ name: 'db', namespace: 'shop', replicas: 2, volumeGiB: 5, usage: { volumeUsedBytes: 3 * 2 ** 30 } }),
      daemonSet({ name: 'logs', namespace: 'shop', podSpec: { hostNetwork: true } }),
      job({ name: 'migrate', namespace: 'shop' }),
      cronJob({ name: 'report', namespace: 'shop' }),
      service('web', 'shop'), ingress('web', 'shop'), horizontalPodAutoscaler('web', 'shop', { minReplicas: 3, maxReplicas: 3 }), podDisruptionBudget('web', 'shop', 3),
      namespace('shop', { team: 'sales' }),
    ]);
    [web] = await cluster.waitForPods('shop', app('web'), 3) as [Pod];
  }, CONTROL_PLANE_TIMEOUT_MS);

  afterAll(async () => {
    await cluster?.stop();
  });

  it('runs pods of every kind of workload', async () => {
    await cluster.waitForPods('shop', app('db'), 2);
    const [logs] = await cluster.waitForPods('shop', app('logs'), 3);
    expect(logs?.status.podIP).toMatch(/^198\.18\.0\.\d$/);
    await waitFor('the job to complete', async () => (await cluster.api.call<{ status: { succeeded?: number } }>('GET', '/apis/batch/v1/namespaces/shop/jobs/migrate')).status.succeeded === 1);
    const volumes = await cluster.api.list<KubernetesObject & { status: { phase: string } }>('/api/v1/namespaces/shop/persistentvolumeclaims');
    expect(volumes.map(({ metadata, status }) => [metadata?.name, status.phase]).sort()).toEqual([['data-db-0', 'Bound'], ['data-db-1', 'Bound']]);
    expect(web.status.podIP).toMatch(/^10\.244\./);
    const status = (web as unknown as V1Pod).status;
    expect(status?.initContainerStatuses?.[0]?.state?.running).toBeDefined();
    expect(status?.containerStatuses?.map(({ name, ready }) => [name, ready])).toEqual([['app', true], ['proxy', true]]);
  });

  it('has nodes that say what a cloud says', async () => {
    const nodes = await cluster.api.list<KubernetesObject & { spec: { providerID: string }; status: { allocatable: Record<string, string> } }>('/api/v1/nodes');
    const cheap = nodes.find(({ metadata }) => metadata?.name === 'cheap-0');
    expect(cheap?.metadata?.labels).toMatchObject({ 'node.kubernetes.io/instance-type': 'e2-standard-4', 'cloud.google.com/gke-spot': 'true', 'topology.kubernetes.io/region': 'europe-west1' });
    expect(cheap?.spec.providerID).toMatch(/^gce:\/\//);
    expect(nodes.find(({ metadata }) => metadata?.name === 'node-1')?.status.allocatable).toMatchObject({ cpu: '3900m', memory: '15872Mi' });
  });

  it('serves kubelet figures to the API server and, through the proxy, to those who may have them', async () => {
    await cluster.apply(`
      apiVersion: v1
      kind: ServiceAccount
      metadata: {name: scraper, namespace: shop}
      ---
      apiVersion: rbac.authorization.k8s.io/v1
      kind: ClusterRole
      metadata: {name: scraper}
      rules:
      - {apiGroups: [""], resources: [nodes/metrics, nodes/stats], verbs: [get]}
      - {apiGroups: [""], resources: [pods], verbs: [list]}
      ---
      apiVersion: rbac.authorization.k8s.io/v1
      kind: ClusterRoleBinding
      metadata: {name: scraper}
      roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: scraper}
      subjects: [{kind: ServiceAccount, name: scraper, namespace: shop}]
    `.replaceAll(/^ {6}/gm, ''));
    const { token } = await cluster.serviceAccountKubeconfig('shop', 'scraper');
    const node = web.spec.nodeName ?? '';
    const labels = `container="app",namespace="shop",pod="${web.metadata.name}"`;
    const resource = async () => (await cluster.askKubelet(node, '/metrics/resource', token)).text;
    const before = sample(await resource(), 'container_cpu_usage_seconds_total', labels);
    const summaryBefore = JSON.parse((await cluster.askKubelet(node, '/stats/summary', token)).text) as Summary;
    await waitFor('two seconds of use', async () => sample(await resource(), 'container_cpu_usage_seconds_total', labels).atMs > before.atMs + 2_000);
    const after = sample(await resource(), 'container_cpu_usage_seconds_total', labels);
    // 250m: figures of kwok are of the moment it is asked, the time is of the moment after.
    expect((after.value - before.value) / ((after.atMs - before.atMs) / 1000)).toBeCloseTo(0.25, 1);
    expect(sample(await resource(), 'container_memory_working_set_bytes', labels).value).toBe(100 * 2 ** 20);

    const summary = JSON.parse((await cluster.api.raw('GET', `/api/v1/nodes/${node}/proxy/stats/summary`)).text) as Summary;
    expect(summary.node.nodeName).toBe(node);
    const [pod, podBefore] = [summary, summaryBefore].map(({ pods }) => pods.find(({ podRef }) => podRef.uid === web.metadata.uid));
    expect(pod?.containers.map(({ name, cpu }) => [name, cpu.usageNanoCores])).toEqual([['app', 250e6], ['proxy', 20e6]]);
    const seconds = (Date.parse(pod?.network?.time ?? '') - Date.parse(podBefore?.network?.time ?? '')) / 1000;
    expect(Math.abs((pod?.network?.rxBytes ?? 0) - (podBefore?.network?.rxBytes ?? 0) - 5_000 * seconds)).toBeLessThanOrEqual(1);
    expect(Math.abs((pod?.network?.txBytes ?? 0) - (podBefore?.network?.txBytes ?? 0) - 700 * seconds)).toBeLessThanOrEqual(1);
    const daemon = summary.pods.find(({ podRef }) => podRef.name.startsWith('logs-'));
    expect(daemon?.containers).toHaveLength(1);
    expect(daemon?.network).toBeUndefined();

    const cadvisor = (await cluster.askKubelet(node, '/metrics/cadvisor', token)).text;
    const periods = sample(cadvisor, 'container_cpu_cfs_periods_total', `pod="${web.metadata.name}"`).value;
    expect(sample(cadvisor, 'container_cpu_cfs_throttled_periods_total', `pod="${web.metadata.name}"`).value / periods).toBeCloseTo(0.3, 1);
    expect(cadvisor).not.toMatch(/cfs_periods_total\{container="proxy"/); // it has no CPU limit

    expect((await cluster.askKubelet(node, '/metrics/resource', null)).status).toBe(401);
    expect((await cluster.askKubelet(node, '/metrics/resource', 'forged')).status).toBe(401);
    expect((await cluster.askKubelet(node, `/containerLogs/shop/${web.metadata.name}/app`, token)).status).toBe(403);
    expect((await cluster.api.raw('GET', `/api/v1/nodes/${node}/proxy/metrics/resource`, undefined, { token })).status).toBe(403);
  });

  it('has kubelets that fail as they are told', async () => {
    cluster.kubelets.setFault('node-0', { status: 503 });
    cluster.kubelets.setFault('node-1', { path: '/stats', body: '{"node": ' });
    cluster.kubelets.setFault('*', { drop: true });
    expect((await cluster.askKubelet('node-0', '/stats/summary')).status).toBe(503);
    expect((await cluster.askKubelet('node-1', '/stats/summary')).text).toBe('{"node": ');
    await expect(cluster.askKubelet('cheap-0', '/stats/summary')).rejects.toThrow(/socket hang up|ECONNRESET/);
    cluster.kubelets.clearFaults();
    expect((await cluster.askKubelet('node-0', '/stats/summary')).status).toBe(200);
  });

  it('leads to a local server by way of a pod', async () => {
    const server = createServer((_, response) => response.end('from the pod')).listen(0, '127.0.0.1');
    try {
      await waitFor('the server to listen', () => server.listening);
      cluster.kubelets.route(`${web.status.podIP}:8080`, (server.address() as AddressInfo).port);
      // Any of the three pods may be asked, and one has the server behind it.
      await waitFor('the pod with the server', async () => (await cluster.api.raw('GET', '/api/v1/namespaces/shop/services/web:http/proxy/')).text === 'from the pod');
    } finally {
      server.close();
    }
  });

  it('follows logs, over a rotation, until the pod is gone', async () => {
    await cluster.apply(deployment({ name: 'talker', namespace: 'shop', containers: [{}, { name: 'quiet' }] }));
    const [{ metadata: { name } }] = await cluster.waitForPods('shop', app('talker'), 1) as [Pod];
    const path = `/api/v1/namespaces/shop/pods/${name}/log?container=app`;
    await cluster.writePodLog('shop', name, 'app', ['zero', 'one']);
    await cluster.writePodLog('shop', name, 'quiet', ['not here']);
    expect((await cluster.api.raw('GET', `${path}&tailLines=1`)).text).toBe('one\n');
    const stream = await cluster.api.open('GET', `${path}&follow=true`);
    let seen = '';
    let ended = false;
    stream.setEncoding('utf8').on('data', (chunk: string) => (seen += chunk)).once('end', () => (ended = true));
    await waitFor('the lines that were there', () => seen === 'zero\none\n');
    await cluster.writePodLog('shop', name, 'app', ['two']);
    await waitFor('a new line', () => seen.endsWith('two\n'));
    await cluster.rotatePodLog('shop', name, 'app');
    await cluster.writePodLog('shop', name, 'app', ['three']);
    await waitFor('a line after the rotation', () => seen === 'zero\none\ntwo\nthree\n');
    await cluster.scale('Deployment', 'shop', 'talker', 0);
    await waitFor('the end of the log', () => ended);
  });

  it('scales to zero and back, and reports a resize in place', async () => {
    await cluster.apply(deployment({ name: 'sleeper', namespace: 'shop', replicas: 3 }));
    const first = await cluster.waitForPods('shop', app('sleeper'), 3);
    await cluster.scale('Deployment', 'shop', 'sleeper', 0);
    await cluster.waitForPods('shop', app('sleeper'), 0);
    await cluster.scale('Deployment', 'shop', 'sleeper', 3);
    const again = await cluster.waitForPods('shop', app('sleeper'), 3);
    expect(again.map(({ metadata }) => metadata.uid)).not.toContain(first[0]?.metadata.uid);
    const path = `/api/v1/namespaces/shop/pods/${again[0]?.metadata.name}`;
    await cluster.api.call('PATCH', `${path}/resize`, { spec: { containers: [{ name: 'app', resources: { requests: { cpu: '50m' } } }] } }, { contentType: 'application/strategic-merge-patch+json' });
    await waitFor('the resize to be reported', async () => {
      const [container] = (await cluster.api.call<V1Pod>('GET', path)).status?.containerStatuses ?? [];
      return container?.resources?.requests?.['cpu'] === '50m' && container.allocatedResources?.['cpu'] === '50m' && container.ready && container.state?.running !== undefined;
    });
  });

  it('refuses an eviction against a budget, and says what it does not serve', async () => {
    const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name: web.metadata.name, namespace: 'shop' } };
    await waitFor('the budget to be counted', async () => (await cluster.api.raw('POST', `/api/v1/namespaces/shop/pods/${web.metadata.name}/eviction?dryRun=All`, eviction)).status === 429);
    await expect(cluster.apply('kind: Nothing\napiVersion: v1')).rejects.toThrow('The API serves no Nothing of v1.');
    await expect(cluster.api.call('GET', '/api/v1/namespaces/shop/pods/absent')).rejects.toThrow(KubernetesApiError);
  });

  it('tells what a service account may do, and lets one do it', async () => {
    expect(await cluster.mayServiceAccount('shop', 'scraper', { verb: 'get', resource: 'nodes', subresource: 'metrics' })).toBe(true);
    expect(await cluster.mayServiceAccount('shop', 'scraper', { verb: 'get', resource: 'nodes', subresource: 'proxy' })).toBe(false);
    expect(await cluster.mayServiceAccount('shop', 'scraper', { verb: 'list', resource: 'secrets', namespace: 'shop' })).toBe(false);
    expect(await cluster.mayServiceAccount('shop', 'scraper', { verb: 'patch', resource: 'deployments', group: 'apps', subresource: 'scale', namespace: 'shop' })).toBe(false);
    const { path, token } = await cluster.serviceAccountKubeconfig('shop', 'scraper');
    const file = JSON.parse(await readFile(path, 'utf8')) as { clusters: [{ cluster: { server: string; 'certificate-authority-data': string } }]; users: [{ user: { token: string } }] };
    const [{ cluster: { server, 'certificate-authority-data': ca } }] = file.clusters;
    const agent = new KubernetesApi({ server, ca: Buffer.from(ca, 'base64').toString(), token: file.users[0].user.token });
    expect(file.users[0].user.token).toBe(token);
    expect((await agent.list('/api/v1/pods')).length).toBeGreaterThan(5);
    expect((await agent.raw('GET', '/api/v1/secrets')).status).toBe(403);
    agent.close();
    const refused = await waitFor('the refusal in the audit log', async () => (await cluster.auditEvents()).find(({ user, objectRef }) => user.username === 'system:serviceaccount:shop:scraper' && objectRef?.resource === 'secrets'));
    expect(refused).toMatchObject({ verb: 'list', responseStatus: { code: 403 } });
  });

  it('has pods that use more and less by the clock, and such that take their time to be ready', async () => {
    await cluster.apply([
      deployment({ name: 'wave', namespace: 'shop', usage: { cpuMillicores: 400, memoryBytes: 2 ** 29, wave: { periodSeconds: 2, busySeconds: 1, idleCpuMillicores: 3, idleMemoryBytes: 2 ** 20 } } }),
      deployment({ name: 'slow', namespace: 'shop', podAnnotations: { 'upid.test/ready-after': '2s' } }),
    ]);
    const slow = await waitFor('the slow pod to be scheduled', async () => (await cluster.pods('shop', app('slow'))).find(({ spec }) => spec.nodeName !== undefined));
    expect(slow.status.phase).toBe('Pending');
    const [wave] = await cluster.waitForPods('shop', app('wave'), 1) as [Pod];
    const seen = new Map<number, number>();
    await waitFor('both halves of the wave', async () => {
      const summary = JSON.parse((await cluster.askKubelet(wave.spec.nodeName ?? '', '/stats/summary')).text) as Summary;
      const container = summary.pods.find(({ podRef }) => podRef.uid === wave.metadata.uid)?.containers[0];
      if (container !== undefined) seen.set(container.cpu.usageNanoCores / 1e6, container.memory.workingSetBytes);
      return seen.size === 2;
    });
    expect([...seen].sort(([a], [b]) => a - b)).toEqual([[3, 2 ** 20], [400, 2 ** 29]]);
    const [ready] = await cluster.waitForPods('shop', app('slow'), 1) as [Pod & { metadata: { creationTimestamp: string } }];
    expect(Date.parse(ready.status.startTime ?? '') - Date.parse(ready.metadata.creationTimestamp)).toBeGreaterThanOrEqual(1_000);
  });

  it('answers metrics.k8s.io, and changes usage when told', async () => {
    await cluster.waitForMetrics('shop', app('web'));
    const cpu = async () => {
      const metrics = await cluster.api.call<{ containers: { name: string; usage: { cpu: string } }[] }>('GET', `/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods/${web.metadata.name}`);
      return Number(/^(\d+)n$/.exec(metrics.containers.find(({ name }) => name === 'app')?.usage.cpu ?? '')?.[1]) / 1e6;
    };
    expect(await cpu()).toBeGreaterThan(200);
    expect(await cpu()).toBeLessThan(300);
    await cluster.setUsage('shop', web.metadata.name, { cpuMillicores: 1_500, memoryBytes: 2 ** 30 });
    const kubelet = async () => JSON.parse((await cluster.askKubelet(web.spec.nodeName ?? '', '/stats/summary')).text) as Summary;
    await waitFor('the kubelet to measure it', async () => (await kubelet()).pods.find(({ podRef }) => podRef.uid === web.metadata.uid)?.containers[0]?.cpu.usageNanoCores === 1.5e9);
    expect((await kubelet()).pods.find(({ podRef }) => podRef.uid === web.metadata.uid)?.containers[0]?.memory.workingSetBytes).toBe(2 ** 30);
  });

  it('has figures again where kwok gives none any more', async () => {
    const told: string[] = [];
    const write = process.stderr.write.bind(process.stderr);
    process.stderr.write = ((text: string) => told.push(text) > 0) as typeof process.stderr.write;
    try {
      cluster.process('kwok').pause();
      expect((await cluster.askKubelet('node-0', '/stats/summary')).status).toBe(200);
      expect(told.join('')).toMatch(/kwok does not do its part \(Error: kwok does not answer\) and is started again/);
    } finally {
      process.stderr.write = write;
    }
  });

  it('survives the death of the API server; a watch from before is too old', async () => {
    const path = '/api/v1/namespaces/shop/pods';
    const { metadata: { resourceVersion } } = await cluster.api.call<{ metadata: { resourceVersion: string } }>('GET', `${path}?limit=1`);
    await cluster.setUsage('shop', web.metadata.name, { cpuMillicores: 1 });
    const open = (async () => {
      const events: WatchEvent<KubernetesObject>[] = [];
      for await (const event of cluster.api.watch(path, resourceVersion)) events.push(event);
      return events;
    })();
    const ended = open.then(() => 'ended', () => 'broken');
    await cluster.process('kube-apiserver').kill();
    expect(['ended', 'broken']).toContain(await ended);
    await cluster.process('kube-apiserver').start();
    await cluster.waitForApi();
    const old = await waitFor('an event of the old watch', async () => {
      for await (const event of cluster.api.watch<KubernetesObject & { code?: number }>(path, resourceVersion)) return event;
      return undefined;
    });
    expect(old).toMatchObject({ type: 'ERROR', object: { code: 410 } });
    await cluster.waitForPods('shop', app('web'), 3);
  });

  it('goes on at once after the API server was away, when its controllers are started again', async () => {
    await cluster.process('kube-apiserver').restart();
    await cluster.waitForApi();
    await cluster.restartControllers();
    await cluster.apply([namespace('after'), deployment({ name: 'late', namespace: 'after' })]);
    await cluster.waitForPods('after', app('late'), 1, 30_000);
  });

  it('says so when a part cannot start', async () => {
    const port = await freePort();
    const taken = createServer().listen(port, '127.0.0.1');
    try {
      await waitFor('the port to be taken', () => taken.listening);
      const failing = startControlPlane({ components: [], etcdArgs: ['--listen-client-urls', `http://127.0.0.1:${port}`] });
      await expect(failing).rejects.toThrow(/etcd ended[^]*address already in use/);
    } finally {
      taken.close();
    }
  });

  it('leaves nothing behind', async () => {
    const pids = (['etcd', 'kube-apiserver', 'kwok'] as const).map((name) => cluster.process(name).pid ?? 0);
    await cluster.stop();
    for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow(/ESRCH/);
    expect(existsSync(cluster.directory)).toBe(false);
  });
});
