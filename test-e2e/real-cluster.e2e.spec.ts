import { execFile } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CONTROL_PLANE_TIMEOUT_MS, deployment, describeWithControlPlane, freePort, ingress, namespace, service, startControlPlane, temporaryDirectory, waitFor, type ControlPlane, type KubernetesObject } from '@upid/testing';
import { parse, stringify } from 'yaml';
import { SLEEP_AT_ONCE } from './policy.js';
import { Traffic } from './traffic.js';

// The launcher attached to a cluster that is no demo: what it does there without being allowed to change it, and with.
const ROOT = join(import.meta.dirname, '..');
const PROMO = '/apis/apps/v1/namespaces/preview/deployments/promo';

type Workload = KubernetesObject & { spec: { replicas?: number } };
interface Outcome { code: number; out: string; err: string }

describeWithControlPlane('a real cluster, by its kubeconfig', () => {
  let cluster: ControlPlane;
  let traffic: Traffic;
  let state: string;
  let context: string;
  let port: number;
  let env: NodeJS.ProcessEnv;

  const upid = (...args: string[]): Promise<Outcome> => new Promise((resolve) => {
    execFile(join(ROOT, 'upid'), [...args, '--state', state], { cwd: ROOT, env, timeout: 240_000, maxBuffer: 16 * 2 ** 20 }, (error, out, err) => {
      resolve({ code: error ? (typeof error.code === 'number' ? error.code : 1) : 0, out, err });
    });
  });
  const attach = (...more: string[]) => upid('up', '--detach', '--kubeconfig', cluster.kubeconfigPath, '--context', context, '--cluster-id', 'lab', '--port', String(port), ...more);
  const optimize = () => upid('optimize', 'deployment', 'promo', '-n', 'preview');
  const promo = () => cluster.api.call<Workload>('GET', PROMO);

  beforeAll(async () => {
    state = await temporaryDirectory('real-cluster');
    const policyFile = join(state, 'policy.yaml');
    await writeFile(policyFile, stringify(SLEEP_AT_ONCE));
    port = await freePort();
    cluster = await startControlPlane();
    context = (parse(await readFile(cluster.kubeconfigPath, 'utf8')) as { 'current-context': string })['current-context'];
    env = { ...process.env, UPID_POLICY_FILE: policyFile, UPID_KUBELET_PROXY_URL: cluster.kubeletProxyUrl, UPID_SCRAPE_SECONDS: '15', UPID_ASSESS_SECONDS: '5' };
    await cluster.addNodes(2, { cloud: 'aws', instanceType: 'm6i.xlarge' });
    await cluster.apply([
      ...['upid-system', 'shop', 'preview', 'ingress-nginx'].map((name) => namespace(name)),
      deployment({ name: 'web', namespace: 'shop', replicas: 3, usage: { cpuMillicores: 120, memoryBytes: 200e6 } }), deployment({ name: 'promo', namespace: 'preview', replicas: 2, usage: { cpuMillicores: 2, memoryBytes: 60e6 } }),
      service('promo', 'preview'), ingress('promo', 'preview'), deployment({ name: 'ingress-nginx', namespace: 'ingress-nginx', containers: [{ name: 'controller' }] }),
    ]);
    const [controller] = await cluster.waitForPods('ingress-nginx', '', 1);
    traffic = new Traffic(cluster, controller?.metadata.name ?? '', 'preview', [{ service: 'promo', kind: 'probe' }]);
    await traffic.write([{ service: 'promo', kind: 'probe' }]);
    traffic.start();
  }, CONTROL_PLANE_TIMEOUT_MS);

  afterAll(async () => {
    await upid('down', '--leave-asleep');
    await traffic?.stop();
    await cluster?.stop();
    await rm(state, { recursive: true, force: true });
  }, 120_000);

  it('is read, and nothing in it may be changed', async () => {
    const up = await attach();
    expect(up).toMatchObject({ code: 0 });
    expect(up.out).toContain(`Attaching to context ${context} of ${cluster.kubeconfigPath}, reading only.`);
    const { clusters } = JSON.parse((await upid('clusters', '-o', 'json')).out) as { clusters: object[] };
    expect(clusters).toMatchObject([{ cluster_id: 'lab', demo: false, connected: true, nodes: 2 }]);
    const before = await promo();
    const refused = await waitFor('the workload to be known', async () => { const outcome = await optimize(); return outcome.code === 3 ? undefined : outcome; }, { timeoutMs: 60_000, intervalMs: 500 });
    expect(refused).toMatchObject({ code: 4 });
    expect(refused.err).toContain('Changes are not allowed on cluster lab: start UPID with --allow-changes');
    expect((await promo()).metadata?.resourceVersion).toBe(before.metadata?.resourceVersion);
    expect(await upid('down')).toMatchObject({ code: 0 });
  }, 300_000);

  it('is changed where that is allowed, and put back before UPID goes', async () => {
    const up = await attach('--allow-changes');
    expect(up).toMatchObject({ code: 0 });
    expect(up.out).toContain('changes are allowed');
    await waitFor('the job to be taken', async () => (await optimize()).code === 0, { timeoutMs: 180_000, intervalMs: 2_000 });
    await waitFor('promo to sleep', async () => (await promo()).spec.replicas === 0, { timeoutMs: 60_000 });
    const down = await upid('down');
    expect(down).toMatchObject({ code: 0 });
    expect((await promo()).spec.replicas).toBe(2);
  }, 400_000);
});
