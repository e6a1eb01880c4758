import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createUser } from '@nats-io/nkeys';
import { commandSchema, commandText, resultEventSchema, STREAMS, subjects, type Command, type CommandReceipt, type ResultEvent } from '@upid/contracts';
import { connectBus, natsConfig, platformUser, type Bus } from '@upid/platform';
import {
  CONTROL_PLANE_TIMEOUT_MS, deployment, describeWithControlPlane, horizontalPodAutoscaler, ingress, ingressLogLine, ManagedProcess, namespace, service, startControlPlane, startNats, temporaryDirectory, waitFor, type ControlPlane,
  type KubernetesObject, type TestNats,
} from '@upid/testing';

type Deployment = KubernetesObject & { metadata: { uid: string; resourceVersion: string; generation: number }; spec: { replicas: number; template: { spec: { containers: { name: string; resources: object }[] } } } };
const root = fileURLToPath(new URL('../../../', import.meta.url));
const seedOf = (key: ReturnType<typeof createUser>) => new TextDecoder().decode(key.getSeed());

describeWithControlPlane('the agent changes its cluster and puts it back', () => {
  let cluster: ControlPlane;
  let nats: TestNats;
  let bus: Bus;
  let agent: ManagedProcess;
  let controller: string;
  let fence = 0;
  const keys = { agent: createUser(), platform: createUser(), optimizer: createUser() };
  const results: ResultEvent[] = [];
  const waiting: Command[] = [];
  let beats = 0;
  let hold = false;
  let serving = true;

  beforeAll(async () => {
    await promisify(execFile)(process.execPath, ['scripts/build.mjs'], { cwd: root });
    const directory = await temporaryDirectory('actuation');
    nats = await startNats({
      config: natsConfig({
        platformUsers: [platformUser({ name: 'tester', publicKey: keys.platform.getPublicKey(), consumes: ['FACTS/*'], serves: ['upid.v1.*.agent.heartbeat'], commands: true, managesStreams: true })],
        agents: [{ clusterId: 'lab', publicKey: keys.agent.getPublicKey() }],
      }),
    });
    cluster = await startControlPlane();
    bus = await connectBus({ url: nats.url, name: 'tester', nkeySeed: seedOf(keys.platform) });
    await bus.ensureStreams(STREAMS);
    await follow();
    const { z } = await import('zod');
    await bus.serve(subjects.agent('*', 'heartbeat'), z.looseObject({ fence: z.number() }), async () => {
      beats++;
      return { accepted: true, reason: null, commands: serving ? waiting : [], hold, want_snapshot: false };
    });
    await cluster.addNodes(3);
    await cluster.apply([
      namespace('shop'), namespace('ingress-nginx'), deployment({ name: 'ingress-nginx', namespace: 'ingress-nginx', containers: [{ name: 'controller' }] }),
      ...['promo', 'other', 'sized'].flatMap((name) => [deployment({ name, namespace: 'shop', replicas: 2 }), service(name, 'shop'), ingress(name, 'shop')]),
      deployment({ name: 'scaled', namespace: 'shop', replicas: 2 }), horizontalPodAutoscaler('scaled', 'shop'),
    ]);
    const [pod] = await cluster.waitForPods('ingress-nginx', '', 1);
    controller = pod?.metadata.name ?? '';
    await cluster.waitForPods('shop', 'app.kubernetes.io/name=promo', 2);
    await mkdir(join(directory, 'spool'));
    agent = new ManagedProcess({
      name: 'collector', command: process.execPath, args: [join(root, 'services/collector/dist/main.js')], cwd: directory, logFile: join(directory, 'collector.log'),
      env: {
        UPID_CLUSTER_ID: 'lab', UPID_NATS_URL: nats.url, UPID_NATS_NKEY_SEED: seedOf(keys.agent), UPID_KUBECONFIG: cluster.kubeconfigPath, UPID_SPOOL_DIR: join(directory, 'spool'), UPID_KUBELET_MODE: 'metrics-api', UPID_ACTUATION: 'true',
        UPID_COMMAND_PUBLIC_KEY: keys.optimizer.getPublicKey(),
      },
    });
    await agent.start();
    await ready();
  }, CONTROL_PLANE_TIMEOUT_MS);

  afterAll(async () => {
    await agent?.stop();
    await bus?.drain();
    await Promise.all([cluster?.stop(), nats?.stop()]);
  });

  async function follow(): Promise<void> {
    await bus.tail({ stream: 'FACTS', subjects: ['upid.v1.*.agent.result'], from: new Date(0) }, ({ payload }) => {
      const result = resultEventSchema.parse(JSON.parse(Buffer.from(payload).toString()));
      if (!results.some(({ id }) => id === result.id)) results.push(result);
    });
  }

  /** Until the agent has read its records and asks for commands; then it also follows the log. */
  async function ready(): Promise<void> {
    const before = beats;
    await waitFor('the agent to ask for commands', () => beats > before, { timeoutMs: 60_000, alive: () => agent.assertRunning() });
    await waitFor('the access log to be followed', async () => (await agent.logTail(200_000)).split('"ready"').at(-1)?.includes('an access log is followed'), { timeoutMs: 60_000 });
  }

  const read = (name: string) => cluster.api.call<Deployment>('GET', `/apis/apps/v1/namespaces/shop/deployments/${name}`);
  const replicas = async (name: string) => (await read(name)).spec.replicas;
  const record = (id: string) => cluster.api.raw('GET', `/api/v1/namespaces/upid-system/configmaps/upid-${id}`);

  async function command(name: string, fields: Partial<Command> = {}): Promise<Command> {
    const { metadata } = await read(name);
    const unsigned = {
      version: 1, id: randomUUID(), job_id: randomUUID(), step: 1, cluster_id: 'lab', verb: 'scale', target: { kind: 'Deployment', api_version: 'apps/v1', namespace: 'shop', name, uid: metadata.uid, resource_version: metadata.resourceVersion }, replicas: 0,
      resources: [], restores: null, preconditions: { replicas: null, absent_annotations: ['karpenter.sh/do-not-disrupt'], absent_labels: { 'app.kubernetes.io/component': 'critical' } }, issued_at: new Date().toISOString(),
      expires_at: new Date(Date.now() + 60_000).toISOString(), fence: ++fence, dry_run: false, watch: { business_requests: true, dead_man_minutes: 10 }, actor: 'tester', ...fields,
    } as Omit<Command, 'signature'>;
    return commandSchema.parse({ ...unsigned, signature: Buffer.from(keys.optimizer.sign(new TextEncoder().encode(commandText(unsigned)))).toString('base64url') });
  }
  const send = (order: Command) => bus.request<CommandReceipt>(subjects.command('lab', 'execute'), order, { timeoutMs: 10_000 });
  const result = (order: Command, outcome: ResultEvent['outcome']) => waitFor(`${outcome} of ${order.id}`, () => results.find((each) => each.command_id === order.id && each.outcome === outcome), { timeoutMs: 40_000 });
  const restore = (order: Command, name = order.target.name) => command(name, { verb: 'restore', restores: order.id, replicas: null, watch: null });

  it('scales with the record first, and puts back exactly', async () => {
    const before = await read('promo');
    const order = await command('promo');
    expect(await send(order)).toMatchObject({ accepted: true });
    expect(await result(order, 'done')).toMatchObject({ changes: [{ path: '/spec/replicas', before: 2, after: 0 }] });
    expect(await replicas('promo')).toBe(0);
    const kept = JSON.parse((JSON.parse((await record(order.id)).text) as { data: { record: string } }).data.record) as { state: string; changes: unknown[]; taken_at: string; done_at: string };
    expect(kept).toMatchObject({ state: 'done', changes: [{ path: '/spec/replicas', before: 2, after: 0 }] });
    const back = await restore(order);
    expect(await send(back)).toMatchObject({ accepted: true });
    expect(await result(back, 'restored')).toMatchObject({ changes: [{ path: '/spec/replicas', before: 0, after: 2 }] });
    const after = await read('promo');
    expect(after.spec).toEqual(before.spec);
    expect(after.metadata.labels).toEqual(before.metadata.labels);
  });

  it('changes requests and limits, and puts them back as they were written', async () => {
    const before = await read('sized');
    const order = await command('sized', { verb: 'patch', replicas: null, watch: null, resources: [{ container: 'app', requests: { cpu_millicores: 50, memory_bytes: 64 * 2 ** 20 }, limits: { cpu_millicores: 500, memory_bytes: null } }] });
    expect(await send(order)).toMatchObject({ accepted: true });
    await result(order, 'done');
    expect((await read('sized')).spec.template.spec.containers[0]?.resources).toEqual({ requests: { cpu: '50m', memory: '64Mi' }, limits: { cpu: '500m', memory: '256Mi' } });
    await send(await restore(order));
    await waitFor('what was', async () => JSON.stringify((await read('sized')).spec) === JSON.stringify(before.spec));
  });

  it('refuses what it must, by the object as it is now, and says why', async () => {
    const code = async (order: Command) => (await send(order)).code;
    expect(await code({ ...(await command('other')), replicas: 1 })).toBe('bad_signature');
    expect(await code(await command('other', { expires_at: new Date(Date.now() - 1).toISOString() }))).toBe('expired');
    expect(await code(await command('other', { cluster_id: 'else' }))).toBe('wrong_cluster');
    expect(await code(await command('other', { target: { ...(await command('other')).target, uid: randomUUID() } }))).toBe('uid_changed');
    expect(await code(await command('other', { preconditions: { replicas: 7, absent_annotations: [], absent_labels: {} } }))).toBe('precondition_failed');
    expect(await send(await command('scaled'))).toMatchObject({ code: 'precondition_failed', message: expect.stringContaining('HorizontalPodAutoscaler/scaled') as string });
    await cluster.api.call('PATCH', '/apis/apps/v1/namespaces/shop/deployments/other', { metadata: { annotations: { 'upid.io/exclude': 'true' } } });
    const order = await command('other');
    expect(await code(order)).toBe('opted_out');
    expect(await result(order, 'refused')).toMatchObject({ code: 'opted_out' });
    await cluster.api.call('PATCH', '/apis/apps/v1/namespaces/shop/deployments/other', { metadata: { annotations: { 'upid.io/exclude': null } } });
    const low = await command('promo', { fence: 1 });
    expect(await code(low)).toBe('lower_fence');
    expect([await replicas('other'), await replicas('scaled')]).toEqual([2, 2]);
    expect((await record(order.id)).status).toBe(404);
  });

  it('takes commands that waited at the platform, and none but restores while held', async () => {
    const order = await command('other');
    waiting.push(order);
    await result(order, 'done');
    waiting.length = 0;
    hold = true;
    await waitFor('the hold to arrive', async () => (await send(await command('promo', { dry_run: true }))).code === 'held', { timeoutMs: 30_000, intervalMs: 500 });
    const back = await restore(order);
    expect(await send(back)).toMatchObject({ accepted: true });
    await result(back, 'restored');
    hold = false;
    await waitFor('the hold to go', async () => (await send(await command('promo', { dry_run: true }))).accepted, { timeoutMs: 30_000, intervalMs: 500 });
  });

  it('is killed at random moments and leaves each change done once or not at all, with its way back', async () => {
    for (let round = 0; round < 8; round++) {
      const name = ['promo', 'other'][round % 2] as string;
      const order = await command(name, { expires_at: new Date(Date.now() + 120_000).toISOString() });
      const { generation } = (await read(name)).metadata;
      void send(order).catch(() => undefined);
      // Between the request, the record, the change and the receipt: whatever stands there when the moment comes.
      await new Promise((resolve) => { setTimeout(resolve, Math.random() * 40); });
      await agent.kill();
      await agent.start();
      waiting.push(order);
      await result(order, 'done');
      waiting.length = 0;
      expect(await replicas(name)).toBe(0);
      expect((await read(name)).metadata.generation).toBe(generation + 1);
      const back = await restore(order);
      void send(back).catch(() => undefined);
      await new Promise((resolve) => { setTimeout(resolve, Math.random() * 40); });
      await agent.kill();
      await agent.start();
      waiting.push(back);
      await result(back, 'restored');
      waiting.length = 0;
      expect(await replicas(name)).toBe(2);
      expect((await read(name)).metadata.generation).toBe(generation + 2);
    }
  }, 300_000);

  it('wakes a sleeper on the line of a business request, with everything else of UPID dead', async () => {
    await ready();
    const order = await command('promo');
    await send(order);
    await result(order, 'done');
    serving = false;
    await nats.kill();
    const line = (more: object = {}) => ingressLogLine({ namespace: 'shop', service: 'promo', at: new Date(), status: 503, ...more });
    await cluster.writePodLog('ingress-nginx', controller, 'controller', [line({ userAgent: 'kube-probe/1.30' }), line({ path: '/healthz' }), ingressLogLine({ namespace: 'shop', service: 'other', at: new Date() })]);
    await new Promise((resolve) => { setTimeout(resolve, 1_500); });
    expect(await replicas('promo')).toBe(0);
    const asked = Date.now();
    await cluster.writePodLog('ingress-nginx', controller, 'controller', [line()]);
    await waitFor('the replicas to be back', async () => (await replicas('promo')) === 2, { timeoutMs: 10_000, intervalMs: 20 });
    const tookMs = Date.now() - asked;
    expect(tookMs).toBeLessThan(10_000);
    await nats.start();
    serving = true;
    await waitFor('the bus to be back', () => bus.state === 'connected');
    await follow();
    const woken = await result(order, 'woken');
    expect(woken).toMatchObject({ reason: 'business_request', changes: [{ path: '/spec/replicas', before: 0, after: 2 }] });
    expect(woken.elapsed_ms).toBeLessThan(10_000);
  });

  it('wakes a sleeper that was asked for while the agent itself was dead', async () => {
    await ready();
    const order = await command('promo');
    await send(order);
    await result(order, 'done');
    await agent.kill();
    await cluster.writePodLog('ingress-nginx', controller, 'controller', [ingressLogLine({ namespace: 'shop', service: 'promo', at: new Date(), status: 503 })]);
    await agent.start();
    await waitFor('the replicas to be back', async () => (await replicas('promo')) === 2, { timeoutMs: 30_000 });
    expect(await result(order, 'woken')).toMatchObject({ reason: 'business_request' });
  });

  it('wakes a sleeper that opts out, and one whose access log is lost', async () => {
    await ready();
    const one = await command('promo');
    await send(one);
    await result(one, 'done');
    await cluster.api.call('PATCH', '/apis/apps/v1/namespaces/shop/deployments/promo', { metadata: { annotations: { 'upid.io/exclude': 'true' } } });
    expect(await result(one, 'woken')).toMatchObject({ reason: 'opted_out' });
    expect(await replicas('promo')).toBe(2);
    const two = await command('other', { watch: { business_requests: true, dead_man_minutes: 0.2 } });
    await send(two);
    await result(two, 'done');
    await cluster.scale('Deployment', 'ingress-nginx', 'ingress-nginx', 0);
    expect(await result(two, 'woken')).toMatchObject({ reason: 'telemetry_lost' });
    expect(await replicas('other')).toBe(2);
  });
});
