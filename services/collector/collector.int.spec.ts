import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createUser } from '@nats-io/nkeys';
import { decodeRequestBatch, decodeUsageBatch, inventoryEventSchema, STREAMS, subjects, workloadKey, type InventoryEvent, type InventoryObject, type PodObject, type RequestBatch, type UsageBatch } from '@upid/contracts';
import { agentUserName, connectBus, natsConfig, platformUser, startService, type Bus, type RunningService } from '@upid/platform';
import {
  CONTROL_PLANE_TIMEOUT_MS, cronJob, daemonSet, deployment, describeWithControlPlane, horizontalPodAutoscaler, ingress, ingressLogLine, job, namespace, podDisruptionBudget, service, startControlPlane, startNats, startPrometheus, statefulSet, waitFor,
  counterOf, type ControlPlane, type Pod, type SeriesDefinition, type TestNats, type TestPrometheus,
} from '@upid/testing';
import { collectorDefinition, type collectorSettings } from './collector.module.js';
import { connectCluster } from './connection/cluster-access.client.js';
import { KubernetesClient } from './connection/kubernetes.client.js';
import { ResourceWatch } from './connection/resource-watch.service.js';
import { delay } from './connection/waiting.service.js';
import { RESOURCES, type KubeObject, type Resource } from './inventory/kubernetes.js';
import { InventoryState } from './inventory/state.js';

/** What the platform has received from one cluster's agent, kept as the services would see it. */
class Platform {
  readonly usage: UsageBatch[] = [];
  readonly requests: RequestBatch[] = [];
  readonly coverage: { type: string; source: string; reason: string }[] = [];
  /** Everything that was published, as bytes: nothing private may be in it. */
  readonly bytes: Buffer[] = [];
  private readonly objects = new Map<string, InventoryObject>();
  private readonly parts: InventoryEvent[] = [];
  private at = { generation: 0, sequence: 0, epoch: '' };
  gaps = 0;

  static async follow(bus: Bus): Promise<Platform> {
    const platform = new Platform();
    await bus.tail({ stream: 'TELEMETRY', subjects: ['upid.v1.*.agent.>'], from: new Date(0) }, ({ subject, payload }) => {
      platform.bytes.push(Buffer.from(payload));
      if (subject.endsWith('.usage')) platform.usage.push(decodeUsageBatch(payload));
      else platform.requests.push(decodeRequestBatch(payload));
    });
    await bus.tail({ stream: 'FACTS', subjects: ['upid.v1.*.agent.>'], from: new Date(0) }, ({ subject, payload }) => {
      platform.bytes.push(Buffer.from(payload));
      const body = JSON.parse(Buffer.from(payload).toString()) as unknown;
      if (subject.endsWith('.inventory')) platform.apply(inventoryEventSchema.parse(body));
      if (subject.endsWith('.coverage')) platform.coverage.push(body as never);
    });
    return platform;
  }

  private apply(event: InventoryEvent): void {
    if (event.type === 'snapshot') {
      this.parts.push(event);
      const parts = this.parts.filter(({ epoch, generation }) => epoch === event.epoch && generation === event.generation);
      if (parts.length < event.parts) return;
      this.objects.clear();
      for (const part of parts) for (const object of part.upserts) this.objects.set(`${object.kind}/${object.uid}`, object);
      this.at = { generation: event.generation, sequence: 0, epoch: event.epoch };
      return;
    }
    if (event.epoch !== this.at.epoch || event.generation !== this.at.generation) return;
    if (event.sequence !== this.at.sequence + 1) this.gaps++;
    this.at.sequence = event.sequence;
    for (const { kind, uid } of event.removes) this.objects.delete(`${kind}/${uid}`);
    for (const object of event.upserts) this.objects.set(`${object.kind}/${object.uid}`, object);
  }

  of<K extends InventoryObject['kind']>(kind: K): Extract<InventoryObject, { kind: K }>[] {
    return [...this.objects.values()].filter((object): object is Extract<InventoryObject, { kind: K }> => object.kind === kind);
  }

  pods(inNamespace: string): PodObject[] {
    return this.of('Pod').filter((pod) => pod.namespace === inNamespace);
  }

  /** Samples of a workload: millicores by pod UID, container and minute. */
  samples(workload: string, among: readonly UsageBatch[] = this.usage): { key: string; cpuMillicores: number; memoryBytes: number }[] {
    return among.flatMap((batch) => {
      const found: { key: string; cpuMillicores: number; memoryBytes: number }[] = [];
      for (let i = 0; i < batch.cpu_millicores.length; i++) {
        const series = batch.sample_series.length > 0 ? (batch.sample_series[i] as number) : i;
        const pod = batch.series_pod[series] as number;
        if (batch.workloads[batch.pod_workload[pod] as number] !== workload) continue;
        const minute = batch.base_minute + (batch.sample_minute[i] ?? 0);
        found.push({
          key: `${Buffer.from(batch.pod_uids.subarray(16 * pod, 16 * pod + 16)).toString('hex')}/${batch.containers[batch.series_container[series] as number]}/${minute}`, cpuMillicores: batch.cpu_millicores[i] as number,
          memoryBytes: (batch.memory_units[i] as number) * batch.memory_unit_bytes,
        });
      }
      return found;
    });
  }

  /** Rows of a workload by minute. */
  rows(workload: string): { minute: number; covered: number; business: number; probe: number; health: number; errors: number }[] {
    return this.requests.flatMap((batch) => [...batch.row_workload].flatMap((index, row) => (batch.workloads[index] !== workload ? [] : [{
      minute: batch.base_minute + (batch.row_minute[row] ?? 0), covered: batch.covered_seconds[row] ?? 0, business: batch.business[row] ?? 0, probe: batch.probe[row] ?? 0, health: batch.health_check[row] ?? 0, errors: batch.status_5xx[row] ?? 0,
    }])));
  }
}

/** Three hours of a deployment's past as its Prometheus has them: 80 millicores a pod, a request every 30 s on /, a probe every 10 s on /healthz. */
function pastOf(pods: readonly Pod[]): SeriesDefinition[] {
  const now = Math.floor(Date.now() / 60_000) * 60;
  const span = { fromSeconds: now - 86_400, toSeconds: now + 3_600 };
  const counters = ([['/', 1 / 30], ['/healthz', 1 / 10]] as const).map(([path, perSecond]): SeriesDefinition => ({
    name: 'nginx_ingress_controller_requests', labels: { exported_namespace: 'shop', exported_service: 'api', ingress: 'api', path, status: '200' }, valueAt: counterOf(() => perSecond, span),
  }));
  return [...counters, ...pods.flatMap(({ metadata: { name, uid } }): SeriesDefinition[] => [
    { name: 'container_cpu_usage_seconds_total', labels: { namespace: 'shop', pod: name, container: 'app' }, valueAt: counterOf(() => 0.08, span) },
    { name: 'container_memory_working_set_bytes', labels: { namespace: 'shop', pod: name, container: 'app' }, valueAt: () => 2 ** 25 },
    { name: 'kube_pod_info', labels: { namespace: 'shop', pod: name, uid, created_by_kind: 'ReplicaSet', created_by_name: 'gone' }, valueAt: () => 1 },
  ])];
}

const SECRETS = {
  environment: 'SEEDED-env-value-5f1c', annotation: 'SEEDED-annotation-77aa', secret: 'SEEDED-secret-0a9b', url: '/SEEDED-url-3e2d', client: '203.0.113.199', agent: 'SEEDED-user-agent-21', configMap: 'SEEDED-config-88',
};

describeWithControlPlane('the agent on a real cluster', () => {
  let cluster: ControlPlane;
  let nats: TestNats;
  let bus: Bus;
  let platform: Platform;
  let directory: string;
  let env: NodeJS.ProcessEnv;
  let agent: RunningService<typeof collectorSettings>;
  let controller: string;
  let prometheus: TestPrometheus;
  const keys = { agent: createUser(), platform: createUser() };
  const logged: string[] = [];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'upid-agent-'));
    const write = process.stdout.write.bind(process.stdout);
    process.stdout.write = ((chunk: string | Uint8Array, ...more: never[]) => {
      const text = typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString();
      if (!text.startsWith('{"level"')) return write(chunk, ...more);
      return logged.push(text) > 0;
    }) as typeof process.stdout.write;
    nats = await startNats({
      config: natsConfig({
        platformUsers: [platformUser({ name: 'tester', publicKey: keys.platform.getPublicKey(), consumes: ['TELEMETRY/*', 'FACTS/*'], serves: ['upid.v1.*.agent.heartbeat'], commands: true, managesStreams: true })],
        agents: [{ clusterId: 'lab', publicKey: keys.agent.getPublicKey() }],
      }),
    });
    cluster = await startControlPlane();
    bus = await connectBus({ url: nats.url, name: 'tester', nkeySeed: new TextDecoder().decode(keys.platform.getSeed()) });
    await bus.ensureStreams(STREAMS);
    platform = await Platform.follow(bus);
    await cluster.addNodes(3);
    await cluster.apply([
      namespace('shop', { team: 'sales' }, { 'upid.io/time-zone': 'Europe/Berlin', 'example.com/note': SECRETS.annotation }), namespace('ingress-nginx'),
      { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'credentials', namespace: 'shop' }, stringData: { password: SECRETS.secret } } as never,
      { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'settings', namespace: 'shop' }, data: { key: SECRETS.configMap } } as never,
      deployment({
        name: 'web', namespace: 'shop', replicas: 3, annotations: { 'example.com/token': SECRETS.annotation, 'downscaler/exclude': 'false' }, usage: { cpuMillicores: 200, memoryBytes: 64 * 2 ** 20, receiveBytesPerSecond: 3_000, transmitBytesPerSecond: 500 },
        containers: [{ env: { TOKEN: SECRETS.environment, API_URL: `http://user:${SECRETS.environment}@api.shop.svc:80/x`, DB_HOST: 'db' } }],
      }),
      deployment({ name: 'api', namespace: 'shop', replicas: 2, usage: { cpuMillicores: 50, memoryBytes: 32 * 2 ** 20 } }),
      statefulSet({ name: 'db', namespace: 'shop', replicas: 2 }), daemonSet({ name: 'logs', namespace: 'shop', podSpec: { hostNetwork: true } }), job({ name: 'migrate', namespace: 'shop' }), cronJob({ name: 'report', namespace: 'shop' }),
      service('web', 'shop'), service('api', 'shop'), service('db', 'shop'), ingress('web', 'shop'), ingress('api', 'shop'), horizontalPodAutoscaler('web', 'shop', { minReplicas: 3, maxReplicas: 3 }), podDisruptionBudget('web', 'shop', 2),
      deployment({ name: 'ingress-nginx', namespace: 'ingress-nginx', containers: [{ name: 'controller' }] }),
    ]);
    await cluster.waitForPods('shop', 'app.kubernetes.io/name=web', 3);
    prometheus = await startPrometheus({ series: pastOf(await cluster.waitForPods('shop', 'app.kubernetes.io/name=api', 2)) });
    env = {
      UPID_CLUSTER_ID: 'lab', UPID_NATS_URL: nats.url, UPID_NATS_NKEY_SEED: new TextDecoder().decode(keys.agent.getSeed()), UPID_KUBECONFIG: cluster.kubeconfigPath, UPID_SPOOL_DIR: join(directory, 'spool'), UPID_SCRAPE_SECONDS: '15',
      UPID_KUBELET_PROXY_URL: cluster.kubeletProxyUrl, UPID_LOG_LEVEL: 'info', UPID_PROMETHEUS_URL: prometheus.url, UPID_BACKFILL_DAYS: '0.125',
    };
    const pods = await cluster.waitForPods('ingress-nginx', '', 1);
    controller = pods[0]?.metadata.name ?? '';
    agent = await startService(collectorDefinition, env);
  }, CONTROL_PLANE_TIMEOUT_MS);

  afterAll(async () => {
    await agent?.stop();
    await bus?.drain();
    await Promise.all([cluster?.stop(), nats?.stop(), prometheus?.stop()]);
    await rm(directory, { recursive: true, force: true });
  });

  it('tells every pod with its owners, and what leads where', async () => {
    const expected = async () => (await cluster.pods('shop')).map(({ metadata }) => metadata.uid).sort();
    await waitFor('the inventory to name every pod', async () => JSON.stringify(platform.pods('shop').map(({ uid }) => uid).sort()) === JSON.stringify(await expected()));
    const owners = new Map(platform.pods('shop').map((pod) => [workloadKey(pod.workload), pod.owners.map((owner) => owner.split('/')[0])]));
    expect(Object.fromEntries(owners)).toEqual({
      'shop/Deployment/web': ['ReplicaSet', 'Deployment'], 'shop/Deployment/api': ['ReplicaSet', 'Deployment'], 'shop/StatefulSet/db': ['StatefulSet'], 'shop/DaemonSet/logs': ['DaemonSet'], 'shop/Job/migrate': ['Job'],
    });
    expect(platform.of('Workload').map(({ workload_kind: kind, namespace: where, name }) => `${where}/${kind}/${name}`)).toEqual(expect.arrayContaining(['shop/CronJob/report', 'shop/Deployment/web', 'shop/DaemonSet/logs']));
    expect(platform.of('Service').find(({ name }) => name === 'web')?.workloads).toEqual([{ namespace: 'shop', kind: 'Deployment', name: 'web' }]);
    expect(platform.of('Route').find(({ name }) => name === 'api')?.workloads).toEqual([{ namespace: 'shop', kind: 'Deployment', name: 'api' }]);
    expect(platform.of('Autoscaler')[0]).toMatchObject({ autoscaler_kind: 'HorizontalPodAutoscaler', target: { kind: 'Deployment', name: 'web' }, min_replicas: 3, target_cpu_utilization_percent: 80 });
    expect(platform.of('PodDisruptionBudget')[0]?.workloads).toEqual([{ namespace: 'shop', kind: 'Deployment', name: 'web' }]);
    expect(platform.of('Dependency').map(({ from, to_service: to }) => `${from.name}→${to.name}`).sort()).toEqual(['web→api', 'web→db']);
    const web = platform.of('Workload').find(({ name }) => name === 'web');
    expect(web).toMatchObject({ replicas: 3, annotations: { 'downscaler/exclude': 'false' }, rollout_in_flight: false });
    expect(Date.now() - Date.parse(web?.last_rollout_at ?? '')).toBeLessThan(600_000);
    expect(platform.of('Cluster')[0]).toMatchObject({ provider: 'aws', distribution: 'eks', region: 'eu-central-1', capabilities: { metrics_api: true, in_place_resize: true, keda: false } });
    expect(platform.of('Node')).toHaveLength(3);
    expect(platform.of('Node')[0]).toMatchObject({ instance_type: 'm6i.xlarge', capacity: { cpu_millicores: 4_000 }, ready: true });
    expect(platform.of('Namespace').find(({ name }) => name === 'shop')?.annotations).toEqual({ 'upid.io/time-zone': 'Europe/Berlin' });
  });

  it('counts requests at the edge, and says which minutes were silent', async () => {
    const line = (name: string, more: object = {}) => ingressLogLine({ namespace: 'shop', service: name, at: new Date(), path: SECRETS.url, client: SECRETS.client, userAgent: SECRETS.agent, ...more });
    const at = Math.floor(Date.now() / 60_000);
    await cluster.writePodLog('ingress-nginx', controller, 'controller', [line('web'), line('web', { status: 503 }), line('web', { userAgent: 'kube-probe/1.30' }), line('web', { path: '/healthz' }), 'I1103 nothing of a request']);
    const [row] = await waitFor('the minute to be told', () => {
      const rows = platform.rows('shop/Deployment/web').filter(({ business }) => business > 0);
      return rows.length > 0 ? rows : undefined;
    }, { timeoutMs: 100_000 });
    expect(row).toMatchObject({ business: 2, probe: 1, health: 1, errors: 1 });
    expect(row?.minute).toBeGreaterThanOrEqual(at);
    const silent = await waitFor('a silent minute of the api', () => platform.rows('shop/Deployment/api').find(({ covered }) => covered === 60), { timeoutMs: 100_000 });
    expect(silent).toMatchObject({ business: 0, probe: 0 });
    expect(platform.rows('shop/StatefulSet/db')).toEqual([]);
  });

  it('reads the past from Prometheus, once, an hour and namespace at a time', async () => {
    await waitFor('the end of history', () => platform.coverage.some(({ type }) => type === 'backfill_done'), { timeoutMs: 100_000 });
    const past = platform.usage.filter(({ source }) => source === 'prometheus');
    const keys = platform.samples('shop/Deployment/api', past).map(({ key }) => key);
    expect(new Set(keys).size).toBe(keys.length);
    // Two pods, three hours and what had passed of this one.
    expect(keys.length).toBeGreaterThanOrEqual(2 * 180);
    expect(keys.length).toBeLessThanOrEqual(2 * 241);
    for (const { cpuMillicores, memoryBytes } of platform.samples('shop/Deployment/api', past)) expect([cpuMillicores, memoryBytes]).toEqual([80, 2 ** 25]);
    const rows = platform.requests.filter(({ source }) => source === 'prometheus').flatMap((batch) => [...batch.row_workload].flatMap((index, row) => (batch.workloads[index] === 'shop/Deployment/api' ? [[batch.covered_seconds[row], batch.unclassified[row], batch.health_check[row]]] : [])));
    expect(rows.length).toBe(keys.length / 2);
    expect(rows.every(([covered, unclassified, health]) => covered === 60 && unclassified === 2 && health === 6)).toBe(true);
    for (const { path, parameters, concurrent } of prometheus.queries) {
      expect(concurrent).toBe(1);
      if (path.endsWith('query_range')) expect(Number(parameters['end']) - Number(parameters['start'])).toBeLessThanOrEqual(3_600);
    }
  });

  it('samples every container once a minute', async () => {
    const samples = await waitFor('three minutes of usage', () => {
      const found = platform.samples('shop/Deployment/web');
      return new Set(found.map(({ key }) => key.split('/')[2])).size >= 3 ? found : undefined;
    }, { timeoutMs: 280_000, intervalMs: 500 });
    expect(new Set(samples.map(({ key }) => key)).size).toBe(samples.length);
    // The simulated counters begin with their first reading and not with their container: a pod's first minute shows less.
    const firstMinute = Math.min(...samples.map(({ key }) => Number(key.split('/')[2])));
    for (const { cpuMillicores, memoryBytes } of samples.filter(({ key }) => Number(key.split('/')[2]) > firstMinute)) {
      expect(cpuMillicores).toBeGreaterThan(150);
      expect(cpuMillicores).toBeLessThan(260);
      expect(memoryBytes).toBe(64 * 2 ** 20);
    }
    const network = await waitFor('network of the pods', () => platform.usage.flatMap((batch) => [...batch.receive_bytes_per_second_plus_one]).filter((value) => value > 0)[0], { timeoutMs: 130_000 });
    expect(network).toBeGreaterThan(0);
    expect(new Set(platform.usage.map(({ source }) => source))).toEqual(new Set(['kubelet', 'prometheus']));
  }, 400_000);

  it('keeps the inventory true through a cut watch, an API server that dies, and versions too old', async () => {
    const apiServer = cluster.process('kube-apiserver');
    await cluster.scale('Deployment', 'shop', 'api', 4);
    await apiServer.kill();
    await apiServer.start();
    await cluster.waitForApi();
    await cluster.scale('Deployment', 'shop', 'web', 1);
    await cluster.api.call('DELETE', '/api/v1/namespaces/shop/pods/db-0');
    await apiServer.restart();
    await cluster.waitForApi();
    await cluster.restartControllers();
    await cluster.apply([namespace('fleeting'), deployment({ name: 'late', namespace: 'fleeting' })]);
    await cluster.waitForPods('fleeting', '', 1, 240_000);
    await cluster.api.call('DELETE', '/api/v1/namespaces/fleeting');
    await waitFor('the inventory to be true again', async () => {
      const real = (await cluster.pods()).map(({ metadata }) => metadata.uid).sort();
      return JSON.stringify(platform.of('Pod').map(({ uid }) => uid).sort()) === JSON.stringify(real) && !platform.of('Namespace').some(({ name }) => name === 'fleeting');
    }, { timeoutMs: 240_000, intervalMs: 500 });
    expect(platform.gaps).toBe(0);
  }, 600_000);

  it('lets a namespace go that vanishes between list and watch', async () => {
    await cluster.apply([namespace('between'), deployment({ name: 'brief', namespace: 'between' })]);
    await cluster.waitForPods('between', '', 1, 240_000);
    const { access } = await connectCluster({ kubeconfig: cluster.kubeconfigPath }, {}, async () => undefined);
    const kubernetes = new KubernetesClient(access);
    const state = new InventoryState();
    const stop = new AbortController();
    const listed = new Set<Resource>();
    const running = (['namespaces', 'pods', 'deployments', 'replicasets'] as const).map((resource, _, all) => new ResourceWatch<KubeObject>(kubernetes, {
      upsert: (object) => state.upsert(resource, object, Date.now()), remove: ({ metadata }) => state.remove(resource, metadata?.uid ?? '', Date.now()), retain: (uids) => state.retain(resource, uids, Date.now()),
    }, {
      path: RESOURCES[resource], log: { info: () => undefined, warn: () => undefined }, delay, random: Math.random, afterList: async () => {
        listed.add(resource);
        // Everything is listed and nothing is watched yet: now it goes.
        await waitFor('all lists', () => listed.size === all.length, { timeoutMs: 120_000 });
        if (resource === 'namespaces') await cluster.api.call('DELETE', '/api/v1/namespaces/between');
        await waitFor('the namespace to be gone', async () => (await cluster.api.raw('GET', '/api/v1/namespaces/between')).status === 404, { timeoutMs: 240_000 });
      },
    }).run(stop.signal));
    await waitFor('the lists', () => listed.size === 4, { timeoutMs: 120_000 });
    expect(state.snapshot(Date.now()).some((text) => text.includes('"between"'))).toBe(true);
    await waitFor('the inventory to let it go', () => !state.snapshot(Date.now()).some((text) => text.includes('"between"')), { timeoutMs: 240_000 });
    stop.abort();
    await Promise.all(running);
    kubernetes.close();
  }, 600_000);

  it('spools while the bus is away and sends in order afterwards', async () => {
    await nats.kill();
    await cluster.scale('Deployment', 'shop', 'api', 1);
    const spool = join(directory, 'spool');
    await waitFor('messages in the spool', async () => (await readdir(spool)).some((name) => name.endsWith('-inventory.batch')), { timeoutMs: 60_000 });
    await nats.start();
    await waitFor('the spool to be empty', async () => !(await readdir(spool)).some((name) => name.endsWith('.batch')), { timeoutMs: 60_000 });
    await waitFor('the bus to answer again', async () => (await (await bus.jetstreamManager()).streams.info('FACTS')).config.name === 'FACTS', { timeoutMs: 60_000 });
    const before = platform.bytes;
    platform = await Platform.follow(bus);
    platform.bytes.push(...before);
    await waitFor('the inventory to be true again', async () => {
      const real = (await cluster.pods()).map(({ metadata }) => metadata.uid).sort();
      return JSON.stringify(platform.of('Pod').map(({ uid }) => uid).sort()) === JSON.stringify(real);
    }, { timeoutMs: 60_000 });
    expect(platform.gaps).toBe(0);
  });

  it('asks for commands, sends a snapshot when asked, and lets nothing private out', async () => {
    let beats = 0;
    const { z } = await import('zod');
    await bus.serve(subjects.agent('*', 'heartbeat'), z.object({ fingerprint: z.string(), spool_batches: z.number() }), async () => {
      beats++;
      return { accepted: true, reason: null, commands: [], hold: false, want_snapshot: false };
    });
    await waitFor('a heartbeat', () => beats > 0, { timeoutMs: 40_000 });
    await expect(bus.request(subjects.command('lab', 'snapshot'), {})).resolves.toEqual({ accepted: true });
    const published = Buffer.concat(platform.bytes);
    const files = await readdir(join(directory, 'spool'));
    const onDisk = Buffer.concat(await Promise.all(files.map((file) => readFile(join(directory, 'spool', file)).catch(() => Buffer.alloc(0)))));
    for (const secret of Object.values(SECRETS)) {
      expect(published.includes(secret)).toBe(false);
      expect(onDisk.includes(secret)).toBe(false);
      expect(logged.some((text) => text.includes(secret))).toBe(false);
    }
    expect(published.includes('shop')).toBe(true);
    expect(agentUserName('lab')).toBe('agent_lab');
  });
});
