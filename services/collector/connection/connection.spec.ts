import fc from 'fast-check';
import { discoverCapabilities } from './capabilities.js';
import { linesOf, LineTooLongError } from './lines.js';
import { ClusterConnectionError, execCredential, explicitPlan, inClusterPlan, kubeconfigPlan, MethodUnavailableError } from './methods.js';
import { backOffMs, TokenBucket } from './rate-limit.js';
import { unavailableBecause, watchStep } from './watch.js';

describe('ways to a cluster', () => {
  const decode = (text: string) => Buffer.from(text, 'base64').toString();
  const resolve = (file: string) => `/home/x/.kube/${file}`;
  const config = (user: object, cluster: object = {}) => ({
    'current-context': 'dev', contexts: [{ name: 'dev', context: { cluster: 'c', user: 'u' } }, { name: 'prod', context: { cluster: 'p', user: 'u' } }],
    clusters: [{ name: 'c', cluster: { server: 'https://dev.example:6443/', ...cluster } }, { name: 'p', cluster: { server: 'https://prod.example' } }], users: [{ name: 'u', user }],
  });
  const plan = (user: object, context?: string) => kubeconfigPlan(config(user), context, resolve, decode);

  it('takes the pod\'s own service account, of either family of addresses', () => {
    expect(inClusterPlan({ host: '10.0.0.1', port: '443' }, true)).toMatchObject({ server: 'https://10.0.0.1:443', credential: { type: 'token_file' }, insecure: false });
    expect(inClusterPlan({ host: 'fd00::1' }, true).server).toBe('https://[fd00::1]:443');
    expect(() => inClusterPlan({}, true)).toThrow(/KUBERNETES_SERVICE_HOST is not set/);
    expect(() => inClusterPlan({ host: '10.0.0.1' }, false)).toThrow(/there is no token/);
  });

  it('takes an explicit URL with its token', () => {
    expect(explicitPlan({ url: 'https://api.example/', tokenFile: '/t', caFile: '/ca' })).toMatchObject({ server: 'https://api.example', credential: { type: 'token_file', file: '/t' }, ca: { file: '/ca' } });
    expect(() => explicitPlan({})).toThrow('UPID_KUBE_URL is not set.');
    expect(() => explicitPlan({ url: 'api.example', tokenFile: '/t' })).toThrow(/no https URL/);
    expect(() => explicitPlan({ url: 'https://api.example' })).toThrow(/UPID_KUBE_TOKEN_FILE is not/);
  });

  it('reads contexts of a kubeconfig, with each way to prove who one is', () => {
    expect(plan({ token: 't' })).toMatchObject({ server: 'https://dev.example:6443', credential: { type: 'token', token: 't' } });
    expect(plan({ token: 't' }, 'prod').server).toBe('https://prod.example');
    expect(plan({ tokenFile: 'token' }).credential).toEqual({ type: 'token_file', file: '/home/x/.kube/token' });
    expect(plan({ username: 'a', password: 'b' }).credential).toEqual({ type: 'basic', username: 'a', password: 'b' });
    expect(plan({ 'client-certificate-data': Buffer.from('PEM').toString('base64'), 'client-key': 'key.pem' })).toMatchObject({ credential: { type: 'none' }, clientCertificate: { text: 'PEM' }, clientKey: { file: '/home/x/.kube/key.pem' } });
    expect(plan({ exec: { command: 'aws', args: ['eks', 'get-token'], env: [{ name: 'A', value: 'b' }] } }).credential).toEqual({ type: 'exec', command: 'aws', args: ['eks', 'get-token'], env: { A: 'b' }, apiVersion: 'client.authentication.k8s.io/v1' });
    expect(kubeconfigPlan(config({}, { 'insecure-skip-tls-verify': true, 'tls-server-name': 'k8s', 'certificate-authority': 'ca.crt' }), undefined, resolve, decode)).toMatchObject({ insecure: true, serverName: 'k8s', ca: { file: '/home/x/.kube/ca.crt' } });
  });

  it('says what a kubeconfig lacks', () => {
    expect(() => plan({}, 'nope')).toThrow('the kubeconfig has no context "nope"; it has "dev", "prod".');
    expect(() => kubeconfigPlan({}, undefined, resolve, decode)).toThrow(/names no current context/);
    expect(() => kubeconfigPlan({ contexts: [{ name: 'x', context: { cluster: 'gone' } }] }, 'x', resolve, decode)).toThrow(/which has no server/);
    expect(() => plan({ 'auth-provider': { name: 'gcp' } })).toThrow(/old auth-provider "gcp"/);
    fc.assert(fc.property(fc.anything(), (anything) => {
      expect(() => kubeconfigPlan(anything, undefined, resolve, decode)).toThrow(MethodUnavailableError);
    }));
  });

  it('reads what an exec plugin prints', () => {
    expect(execCredential({ status: { token: 't', expirationTimestamp: '2026-01-01T00:00:00Z' } })).toEqual({ token: 't', certificate: null, key: null, expiresAtMs: Date.UTC(2026, 0, 1) });
    expect(() => execCredential({ status: {} })).toThrow(/no ExecCredential/);
  });

  it('names every method tried and why it failed', () => {
    const error = new ClusterConnectionError([{ method: 'in-cluster service account', reason: 'no pod.' }, { method: 'kubeconfig', reason: 'no file.' }]);
    expect(error.message).toBe('No cluster could be reached. (1) in-cluster service account: no pod. (2) kubeconfig: no file.');
  });
});

describe('watch events', () => {
  const event = (type: string, object: unknown) => watchStep(JSON.stringify({ type, object }));
  const pod = { metadata: { uid: 'u', resourceVersion: '7' } };

  it('asks for what each event means', () => {
    expect(event('ADDED', pod)).toEqual({ do: 'upsert', object: pod, resourceVersion: '7' });
    expect(event('MODIFIED', pod).do).toBe('upsert');
    expect(event('DELETED', pod)).toMatchObject({ do: 'delete', resourceVersion: '7' });
    expect(event('BOOKMARK', { metadata: { resourceVersion: '9' } })).toEqual({ do: 'mark', resourceVersion: '9' });
    expect(event('ERROR', { code: 410, message: 'too old resource version' })).toEqual({ do: 'relist', reason: 'too old resource version' });
    expect(event('ERROR', { code: 500, reason: 'InternalError' })).toMatchObject({ do: 'resume' });
  });

  it('takes whatever is no event for a broken watch, and never throws', () => {
    for (const line of ['', '{', 'null', '{}', '{"type":"ADDED"}', '{"type":"ADDED","object":null}', '{"type":"NEW","object":{}}']) {
      expect(watchStep(line).do).toBe('resume');
    }
  });

  it('tells a kind that may not be read from one that is not there', () => {
    expect([401, 403, 404, 405, 410, 429, 500].map(unavailableBecause)).toEqual(['forbidden', 'forbidden', 'absent', 'absent', null, null, null]);
  });
});

describe('lines', () => {
  async function* chunks(...parts: string[]) {
    yield* parts;
  }
  const collect = async (lines: AsyncIterable<string>) => {
    const all: string[] = [];
    for await (const line of lines) all.push(line);
    return all;
  };

  it('come whole, however the stream is cut', async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.string({ unit: fc.constantFrom('a', 'ä', '\u{1f600}', ' ') })), fc.array(fc.nat(20), { maxLength: 30 }), async (lines, cuts) => {
      const text = lines.map((line) => `${line}\n`).join('');
      const parts: string[] = [];
      let at = 0;
      for (const cut of cuts) {
        parts.push(text.slice(at, at + cut));
        at += cut;
      }
      parts.push(text.slice(at));
      expect(await collect(linesOf(chunks(...parts)))).toEqual(lines);
    }));
  });

  it('are passed over or refused where they are too long', async () => {
    expect(await collect(linesOf(chunks('abc\nabcd', 'e\nab\r\nxyz'), 4, 'skip'))).toEqual(['abc', 'ab', 'xyz']);
    await expect(collect(linesOf(chunks('abcde\n'), 4))).rejects.toThrow(LineTooLongError);
    await expect(collect(linesOf(chunks('abc', 'de'), 4))).rejects.toThrow(LineTooLongError);
  });

  it('throw what the stream throws, without the half line', async () => {
    async function* broken() {
      yield 'one\ntw';
      throw new Error('cut');
    }
    const seen: string[] = [];
    await expect((async () => { for await (const line of linesOf(broken())) seen.push(line); })()).rejects.toThrow('cut');
    expect(seen).toEqual(['one']);
  });
});

describe('pace', () => {
  it('lets no more calls through than the rate and the burst', () => {
    fc.assert(fc.property(fc.array(fc.nat(200), { minLength: 1, maxLength: 200 }), (gaps) => {
      const bucket = new TokenBucket(10, 5, 0);
      let nowMs = 0;
      const at = gaps.map((gap) => {
        nowMs += gap;
        return nowMs + bucket.take(nowMs);
      });
      for (let from = 0; from < at.length; from++) {
        const within = at.filter((time) => time >= (at[from] as number) && time < (at[from] as number) + 1_000).length;
        expect(within).toBeLessThanOrEqual(16);
      }
    }));
  });

  it('backs off longer each time, within its bounds, spread', () => {
    expect(backOffMs(1, 0)).toBe(250);
    expect(backOffMs(1, 1)).toBe(500);
    expect(backOffMs(4, 1)).toBe(4_000);
    expect(backOffMs(99, 1)).toBe(30_000);
    expect(backOffMs(99, 0)).toBe(15_000);
  });
});

describe('capabilities', () => {
  const nothing = { groups: [], coreResources: [], argoResources: [], services: [], kubelet: false, accessLogs: false, prometheus: false, actuation: false, metricsApiAnswers: false };

  it('are those that the API groups, resources and Services show', () => {
    expect(Object.values(discoverCapabilities(nothing)).every((value) => value === false)).toBe(true);
    expect(discoverCapabilities({
      ...nothing, groups: ['metrics.k8s.io', 'networking.istio.io', 'policy.linkerd.io', 'gateway.networking.k8s.io', 'keda.sh', 'autoscaling.k8s.io', 'source.toolkit.fluxcd.io', 'monitoring.coreos.com'], coreResources: ['pods', 'pods/resize'],
      argoResources: ['rollouts'], services: ['opencost/opencost'], metricsApiAnswers: true,
    })).toEqual({
      metrics_api: true, kubelet: false, access_logs: false, prometheus: false, prometheus_operator: true, istio: true, linkerd: true, gateway_api: true, keda: true, vpa: true, argo_cd: false, argo_rollouts: true, flux: true, in_place_resize: true,
      opencost: true, actuation: false,
    });
  });

  it('do not take a metrics server that is registered and dead for one', () => {
    expect(discoverCapabilities({ ...nothing, groups: ['metrics.k8s.io'] }).metrics_api).toBe(false);
  });
});
