import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectCluster } from './cluster-access.client.js';
import { clusterFingerprint, discover, FingerprintError, mayAll } from './discovery.service.js';
import { KubernetesApiError, KubernetesClient, KubernetesUnreachableError, resourceOf } from './kubernetes.client.js';
import { ClusterConnectionError } from './methods.js';

describe('speaking to an API server', () => {
  let folder: string;
  let server: Server;
  let url: string;
  const seen: { method: string; path: string; authorization: string | undefined; body: string }[] = [];
  let answer: (request: IncomingMessage, response: ServerResponse) => void;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'upid-connection-'));
    server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk) => { body += String(chunk); });
      request.on('end', () => {
        seen.push({ method: request.method ?? '', path: request.url ?? '', authorization: request.headers.authorization, body });
        answer(request, response);
      });
    });
    await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await writeFile(join(folder, 'token'), 'first\n');
  });
  afterAll(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => { server.close(resolve); });
    await rm(folder, { recursive: true, force: true });
  });
  beforeEach(() => {
    seen.length = 0;
    answer = (_, response) => response.end('{}');
  });

  const json = (status: number, body: object, headers: Record<string, string> = {}) => (_: IncomingMessage, response: ServerResponse) => { response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body)); };
  const client = async () => new KubernetesClient((await connectCluster({ url, tokenFile: join(folder, 'token') }, {}, async () => undefined)).access);

  it('takes the first way that leads there, and names every one that does not', async () => {
    const kubeconfig = join(folder, 'kubeconfig');
    await writeFile(kubeconfig, JSON.stringify({ 'current-context': 'a', contexts: [{ name: 'a', context: { cluster: 'c', user: 'u' } }], clusters: [{ name: 'c', cluster: { server: url } }], users: [{ name: 'u', user: { exec: { command: process.execPath, args: ['-e', 'console.log(JSON.stringify({status:{token:process.env.T}}))'], env: [{ name: 'T', value: 'from-plugin' }] } } }] }));
    const { access } = await connectCluster({ kubeconfig }, {}, async (each) => new KubernetesClient(each).get('/version'));
    expect([access.method, await access.authorization(), seen[0]?.authorization]).toEqual(['kubeconfig', 'Bearer from-plugin', 'Bearer from-plugin']);

    await expect(connectCluster({}, {}, async () => undefined)).rejects.toThrow('No cluster could be reached. (1) in-cluster service account: KUBERNETES_SERVICE_HOST is not set, so this is no pod of a cluster. (2) API URL with token and CA: UPID_KUBE_URL is not set. (3) kubeconfig: UPID_KUBECONFIG is not set.');
    const failed = await connectCluster({ url: 'http://127.0.0.1:9', tokenFile: join(folder, 'token'), kubeconfig: join(folder, 'none') }, { KUBERNETES_SERVICE_HOST: '10.0.0.1' }, async (each) => new KubernetesClient(each).get('/version')).catch((error: unknown) => error as ClusterConnectionError);
    expect(failed).toBeInstanceOf(ClusterConnectionError);
    expect((failed as ClusterConnectionError).attempts.map(({ reason }) => reason)).toEqual([
      'there is no token in /var/run/secrets/kubernetes.io/serviceaccount.', 'http://127.0.0.1:9 does not answer (ECONNREFUSED)', expect.stringMatching(/none cannot be read \(ENOENT\)/),
    ]);
    await writeFile(join(folder, 'bad'), '{"unclosed');
    await expect(connectCluster({ kubeconfig: join(folder, 'bad') }, {}, async () => undefined)).rejects.toThrow(/bad is no YAML/);
    await writeFile(join(folder, 'empty'), '');
    await expect(connectCluster({ url, tokenFile: join(folder, 'empty') }, {}, async () => undefined)).rejects.toThrow(/empty is empty/);
  });

  it('throws what the server refuses with, and what does not answer, apart', async () => {
    const kubernetes = await client();
    answer = json(403, { reason: 'Forbidden', message: 'pods is forbidden' });
    await expect(kubernetes.get('/api/v1/pods')).rejects.toMatchObject({ name: 'KubernetesApiError', status: 403, reason: 'Forbidden', message: 'GET /api/v1/pods: 403 Forbidden: pods is forbidden' });
    answer = (_, response) => { response.writeHead(500).end('plain words\nand more'); };
    await expect(kubernetes.get('/api/v1/pods')).rejects.toThrow('500 HTTP 500: plain words');
    answer = (_, response) => { response.destroy(); };
    await expect(kubernetes.get('/api/v1/pods')).rejects.toThrow(KubernetesUnreachableError);
    answer = () => undefined;
    await expect(kubernetes.get('/api/v1/pods', {}, { timeoutMs: 100 })).rejects.toThrow(KubernetesUnreachableError);
    kubernetes.close();
  });

  it('comes back when it is put off, and not for ever', async () => {
    const kubernetes = await client();
    let refusals = 1;
    answer = (request, response) => (refusals-- > 0 ? json(429, {}, { 'retry-after': '0.02' }) : json(200, { ok: true }))(request, response);
    expect(await kubernetes.get('/api/v1/pods')).toEqual({ ok: true });
    answer = json(429, {}, { 'retry-after': '0.01' });
    await expect(kubernetes.get('/api/v1/pods')).rejects.toThrow(KubernetesApiError);
    const counts = [...kubernetes.callCounts()].map(({ verb, resource, status, calls }) => [verb, resource, status, calls]);
    expect(counts).toEqual([['GET', 'pods', '429', 5], ['GET', 'pods', '200', 1]]);
    kubernetes.close();
  });

  it('sends bodies and asks for what it is told', async () => {
    const kubernetes = await client();
    await kubernetes.call('PATCH', '/apis/apps/v1/namespaces/a/deployments/b', { body: [{ op: 'test' }], contentType: 'application/json-patch+json', query: { x: 'a b' } });
    expect(seen[0]).toEqual({ method: 'PATCH', path: '/apis/apps/v1/namespaces/a/deployments/b?x=a+b', authorization: 'Bearer first', body: '[{"op":"test"}]' });
    kubernetes.close();
  });

  it('keeps to its rate, but for what wakes', async () => {
    const kubernetes = await client();
    const begun = performance.now();
    await Promise.all(Array.from({ length: 70 }, () => kubernetes.get('/api/v1/nodes')));
    expect(performance.now() - begun).toBeGreaterThan(300);
    const urgent = performance.now();
    await kubernetes.get('/api/v1/nodes', {}, { urgent: true });
    expect(performance.now() - urgent).toBeLessThan(250);
    kubernetes.close();
  });

  it('counts by resource, whatever the names', () => {
    expect(['/api/v1/namespaces/a/pods/b/log', '/api/v1/namespaces/a', '/api/v1/namespaces', '/apis/apps/v1/namespaces/a/deployments/b/scale', '/apis/apps/v1/deployments', '/api/v1/nodes/n/proxy/stats/summary', '/version', '/apis', '/api/v1'].map(resourceOf)).toEqual([
      'pods/log', 'namespaces', 'namespaces', 'deployments/scale', 'deployments', 'nodes/proxy', 'discovery', 'discovery', 'discovery',
    ]);
  });

  it('finds out what the server is, and what it grants', async () => {
    const kubernetes = await client();
    const answers: Record<string, object> = {
      '/api/v1/namespaces/kube-system': { metadata: { uid: 'the-uid' } }, '/version': { gitVersion: 'v1.36.3' }, '/apis': { groups: [{ name: 'apps' }, { name: 'metrics.k8s.io' }] }, '/api/v1': { resources: [{ name: 'pods' }, { name: 'pods/resize' }] },
      '/apis/metrics.k8s.io/v1beta1': { resources: [{ name: 'pods' }] },
    };
    answer = (request, response) => {
      const body = answers[request.url ?? ''];
      (body === undefined ? json(404, {}) : json(200, body))(request, response);
    };
    expect(await clusterFingerprint(kubernetes)).toBe('the-uid');
    expect(await discover(kubernetes)).toEqual({ serverVersion: 'v1.36.3', groups: ['apps', 'metrics.k8s.io'], coreResources: ['pods', 'pods/resize'], argoResources: [], metricsApiAnswers: true });
    answer = json(200, {});
    await expect(clusterFingerprint(kubernetes)).rejects.toThrow(FingerprintError);
    answer = json(201, { status: { allowed: true } });
    expect(await mayAll(kubernetes, [{ verb: 'get', resource: 'nodes', subresource: 'proxy' }])).toBe(true);
    expect(JSON.parse(seen.at(-1)?.body ?? '')).toMatchObject({ kind: 'SelfSubjectAccessReview', spec: { resourceAttributes: { verb: 'get', group: '', resource: 'nodes', subresource: 'proxy' } } });
    answer = json(201, { status: { allowed: false } });
    expect(await mayAll(kubernetes, [{ verb: 'get', resource: 'secrets' }])).toBe(false);
    answer = json(500, {});
    expect(await mayAll(kubernetes, [{ verb: 'get', resource: 'secrets' }])).toBe(false);
    kubernetes.close();
  });
});
