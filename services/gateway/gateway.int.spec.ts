import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { clusterListResponse, clusterResponse, deploymentResponse, jobResponse, podResponse, problemSchema, savingsResponse, STREAMS, subjects, UpidError, type Problem } from '@upid/contracts';
import { connectBus, startNats, startPostgres, startService, type Bus, type NatsServerHandle, type RunningService, type ServerHandle } from '@upid/platform';
import { WebSocket } from 'ws';
import { z } from 'zod';
import * as answers from './answers.fixture.js';
import { gatewayDefinition, gatewaySettings } from './gateway.module.js';
import { ROUTES } from './rest/routes.js';

// The gateway for real, on a real bus and database; the services behind it are played by questions answered on that bus.
let dir: string;
let nats: NatsServerHandle;
let postgres: ServerHandle;
let gateway: RunningService<typeof gatewaySettings>;
const buses: Bus[] = [];
const asked: { service: string; name: string; request: unknown }[] = [];
const KEYS = { admin: 'admin-key', viewer: 'viewer-key', elsewhere: 'elsewhere-key' };

async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  for (const end = Date.now() + 30_000; !(await condition());) {
    if (Date.now() > end) throw new Error(`${what} did not come true`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}

async function play(service: string, questions: Record<string, (request: never) => unknown>): Promise<void> {
  const bus = await connectBus({ url: nats.url, name: service });
  buses.push(bus);
  for (const [name, answer] of Object.entries(questions)) {
    await bus.serveQuery(name, z.unknown(), async (request) => {
      asked.push({ service, name, request });
      return answer(request as never);
    });
  }
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'upid-gateway-'));
  [nats, postgres] = await Promise.all([startNats({ dir: join(dir, 'nats') }), startPostgres({ dir: join(dir, 'postgres'), settings: { fsync: 'off' } })]);
  const key = (name: keyof typeof KEYS, role: string, clusters: string[]) => ({ name, sha256: createHash('sha256').update(KEYS[name]).digest('hex'), role, clusters });
  await writeFile(join(dir, 'keys.json'), JSON.stringify({ keys: [key('admin', 'admin', ['*']), key('viewer', 'viewer', ['demo']), key('elsewhere', 'operator', ['other'])] }));
  gateway = await startService(gatewayDefinition('default'), { UPID_NATS_URL: nats.url, UPID_DATABASE_URL: postgres.url, UPID_LOG_LEVEL: 'silent', UPID_PORT: '0', UPID_API_KEYS_FILE: join(dir, 'keys.json') });
  await play('intelligence', {
    pod: ({ pod_name }: { pod_name: string }) => {
      if (pod_name !== 'promo-x') throw new UpidError('not_found', `There is no pod ${pod_name}.`);
      return answers.podAnswer;
    },
    workload: () => answers.workloadAnswer, cluster: () => answers.clusterAnswer, coverage: () => ({ usage_since: null, usage_until: null, requests_since: null, requests_until: null, usage_covered_24h: 1, requests_covered_24h: null, backfill: { done: true, progress: 1 }, gaps: [] }),
    latest: () => ({ pods: [{ uid: answers.UID, minute: '2026-03-04T12:00:00.000Z', cpu_millicores: 2, memory_bytes: 1e8 }] }),
  });
  await play('optimizer', {
    recommendations: () => ({ recommendations: [answers.recommendation], evaluated_at: null }), job: () => ({ job: answers.job }), jobs: () => ({ jobs: [answers.job] }), rollback: () => ({ job: { ...answers.job, status: 'rolling_back' } }), cancel: () => ({ job: { ...answers.job, status: 'rolling_back' } }),
    optimize: ({ targets }: { targets: { name: string }[] }) => {
      if (targets[0]?.name === 'critical') throw new UpidError('unsafe', 'Not safe: criticality.', { checks: [{ target: 'x', name: 'criticality', outcome: 'failed', reason: 'critical', evidence: {} }, { target: 'x', name: 'kind', outcome: 'passed', reason: 'ok', evidence: {} }] });
      return { jobs: [answers.job] };
    },
    stop: ({ hold }: { hold: boolean }) => ({ held: [], all: hold }), restore_all: () => ({ jobs: [answers.job] }), agents: () => ({ agents: [] }),
  });
  const agent = await connectBus({ url: nats.url, name: 'agent_demo' });
  buses.push(agent);
  await agent.ensureStreams(STREAMS);
  await agent.publish(subjects.agent('demo', 'inventory'), Buffer.from(JSON.stringify(answers.snapshot())), { msgId: 'snapshot' });
  await until(async () => ((await (await call('GET', '/api/v1/clusters')).json()) as { clusters: unknown[] }).clusters.length === 1, 'the cluster is known');
});
afterAll(async () => {
  await Promise.all(buses.map((bus) => bus.drain()));
  await gateway?.stop();
  await Promise.all([nats?.stop(), postgres?.stop()]);
  await rm(dir, { recursive: true, force: true });
});

function call(method: string, path: string, body?: unknown, key: string | null = KEYS.admin): Promise<Response> {
  return fetch(`${gateway.httpUrl}${path}`, { method, headers: { ...(key === null ? {} : { authorization: `Bearer ${key}` }), ...(body === undefined ? {} : { 'content-type': 'application/json' }) }, ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }) });
}
async function problem(response: Promise<Response>): Promise<Problem> {
  const answer = await response;
  expect(answer.headers.get('content-type')).toContain('application/problem+json');
  const parsed = problemSchema.parse(await answer.json());
  expect(parsed.status).toBe(answer.status);
  return parsed;
}

it('says why a part is missing while a service is away, and has it once it is there', async () => {
  const without = clusterResponse.parse(await (await call('POST', '/api/v1/analyze/cluster', {})).json());
  expect(without.total_monthly_cost).toBeNull();
  expect(without.coverage.reasons.cost_breakdown).toContain('cost is not there');
  expect(await problem(call('GET', '/api/v1/savings/potential/demo'))).toMatchObject({ status: 503, code: 'unavailable' });
  await play('cost', { analysis: () => answers.costAnswer, cluster_cost: () => answers.clusterCostAnswer, savings: () => answers.savingsAnswer });
  expect(savingsResponse.parse(await (await call('GET', '/api/v1/savings/potential/demo?time_horizon=30d')).json())).toMatchObject({ total_potential_savings: 30.416667, bill_savings: null, bill_savings_reason: 'not simulated' });
  const cost = (await (await call('GET', '/api/v1/cost/analysis/deployment/promo?namespace=shop')).json()) as { drivers: unknown[]; opportunities: unknown[] };
  expect(cost.drivers).toEqual([{ what: 'replicas 1 → 2', change: 3.5 }]);
  expect(cost.opportunities).toHaveLength(1);
});

describe('questions', () => {
  it('answers every analyze route in the guide\'s shape', async () => {
    const pod = podResponse.parse(await (await call('POST', '/api/v1/analyze/pod', { pod_name: 'promo-x', namespace: 'shop' })).json());
    expect(pod.insights.cost_analysis).toMatchObject({ daily_cost: 1, monthly_projection: 30.416667, waste_percentage: 99, price_source: 'price_list', currency: 'USD' });
    expect(pod.coverage.reasons.revenue_attribution).toBeDefined();
    const deployment = deploymentResponse.parse(await (await call('POST', '/api/v1/analyze/deployment', { deployment_name: 'promo', namespace: 'shop' })).json());
    expect(deployment.scaling_recommendation).toMatchObject({ current_replicas: 2, recommended_replicas: 0, zero_scaling: true });
    expect(deployment.performance_patterns.peak_load_time).toBe('Tue 01:00');
    for (const [path, body] of [['/api/v1/analyze/cluster', { cluster_name: 'shop' }], ['/api/v1/analyze/namespace', { namespace: 'shop' }]] as const) {
      const cluster = clusterResponse.parse(await (await call('POST', path, body)).json());
      expect(cluster.efficiency_metrics.idle_resource_percentage).toBe(25);
      expect(cluster.cost_breakdown.cost_per_namespace).toEqual({ shop: 30.416667 });
    }
  });

  it('lists clusters with coverage, and recommendations by a fraction', async () => {
    const { clusters } = clusterListResponse.parse(await (await call('GET', '/api/v1/clusters')).json());
    expect(clusters[0]).toMatchObject({ cluster_id: 'demo', provider: 'aws', distribution: 'eks', region: 'us-east-1', pods: 1, demo: true, connected: false, data_coverage: { usage_covered_24h: 1, backfill: { done: true } } });
    const answer = (await (await call('GET', '/api/v1/recommendations/cluster/demo?confidence_threshold=0.8')).json()) as { recommendations: { confidence: number; estimated_savings: number }[] };
    expect(answer.recommendations[0]).toMatchObject({ confidence: 97, estimated_savings: 30.416667 });
    expect(asked.findLast((each) => each.name === 'recommendations')?.request).toMatchObject({ minimum_confidence: 80 });
  });

  it.each([['0m'], ['7'], ['yesterday'], ['2026-03-05T00:00:00Z/2026-03-04T00:00:00Z']])('refuses the time range %s with the accepted forms', async (range) => {
    const answer = await problem(call('POST', '/api/v1/analyze/pod', { pod_name: 'promo-x', namespace: 'shop', options: { time_range: range } }));
    expect(answer).toMatchObject({ status: 400, code: 'invalid_time_range' });
    expect(answer.detail).toContain('30m, 24h, 7d');
  });

  it.each([['1.5'], ['-0.1'], ['much'], ['80']])('refuses the threshold %s', async (threshold) => {
    const answer = await problem(call('GET', `/api/v1/recommendations/cluster/demo?confidence_threshold=${threshold}`));
    expect(answer).toMatchObject({ status: 400, code: 'invalid_request' });
    expect(answer.detail).toContain('a fraction from 0 to 1');
  });

  it('tells an unknown cluster, pod, job and route apart', async () => {
    expect(await problem(call('GET', '/api/v1/savings/potential/nowhere'))).toMatchObject({ status: 404, code: 'cluster_not_found' });
    expect(await problem(call('POST', '/api/v1/analyze/pod', { pod_name: 'gone', namespace: 'shop' }))).toMatchObject({ status: 404, code: 'not_found', detail: 'There is no pod gone.' });
    expect(await problem(call('GET', '/api/v1/optimization/status/not-a-uuid'))).toMatchObject({ status: 400 });
    expect(await problem(call('GET', '/api/v1/nothing'))).toMatchObject({ status: 404, code: 'not_found' });
    expect(await problem(call('DELETE', '/api/v1/clusters'))).toMatchObject({ status: 404 });
  });

  it('refuses a body that is no JSON, too large, or of unexpected fields, and goes on', async () => {
    expect(await problem(call('POST', '/api/v1/analyze/pod', '{"pod_name": '))).toMatchObject({ status: 400, code: 'invalid_json' });
    expect(await problem(call('POST', '/api/v1/analyze/pod', JSON.stringify({ pod_name: 'x'.repeat(10 * 1024 * 1024) })))).toMatchObject({ status: 413, code: 'payload_too_large' });
    expect(await problem(call('POST', '/api/v1/analyze/pod', { namespace: 'shop' }))).toMatchObject({ status: 400, code: 'invalid_request' });
    expect((await call('GET', '/health')).status).toBe(200);
  });
});

describe('orders', () => {
  it('starts a job for the key\'s owner and shows it', async () => {
    const answer = await call('POST', '/api/v1/optimize/deployment', { deployment_name: 'promo', namespace: 'shop', optimization_type: 'zero_scaling' });
    expect(answer.status).toBe(202);
    expect(await answer.json()).toMatchObject({ status: 'optimization_initiated', job_id: answers.JOB_ID });
    expect(asked.findLast((each) => each.name === 'optimize')?.request).toMatchObject({ actor: 'admin', targets: [{ kind: 'Deployment', namespace: 'shop', name: 'promo' }], dry_run: false });
    expect(jobResponse.parse(await (await call('GET', `/api/v1/optimization/status/${answers.JOB_ID}`)).json())).toMatchObject({ status: 'watching', applied: true });
    expect((await call('POST', `/api/v1/optimization/rollback/${answers.JOB_ID}`)).status).toBe(202);
    expect(await (await call('POST', '/api/v1/stop', { restore: true, hold: null })).json()).toMatchObject({ restoring: [answers.JOB_ID] });
  });

  it('answers 409 with every check where it is not safe', async () => {
    const answer = await problem(call('POST', '/api/v1/optimize/deployment', { deployment_name: 'critical', namespace: 'shop' }));
    expect(answer).toMatchObject({ status: 409, code: 'unsafe' });
    expect(answer.checks).toHaveLength(2);
  });

  it('takes either a name or targets', async () => {
    expect(await problem(call('POST', '/api/v1/optimize/deployment', { namespace: 'shop' }))).toMatchObject({ status: 400 });
    expect(await problem(call('POST', '/api/v1/optimize/deployment', { target_resources: ['moon/shop/promo'] }))).toMatchObject({ status: 400, code: 'invalid_request' });
  });
});

describe('access', () => {
  it('asks for a key, and for one with the role', async () => {
    expect(await problem(call('GET', '/api/v1/clusters', undefined, null))).toMatchObject({ status: 401, code: 'unauthenticated' });
    expect(await problem(call('GET', '/api/v1/clusters', undefined, 'wrong'))).toMatchObject({ status: 401 });
    expect(await problem(call('POST', '/api/v1/stop', {}, KEYS.viewer))).toMatchObject({ status: 403, code: 'forbidden' });
    expect((await call('GET', '/health', undefined, null)).status).toBe(200);
  });

  it('shows a key nothing of clusters that it is not bound to', async () => {
    expect(await (await call('GET', '/api/v1/clusters', undefined, KEYS.elsewhere)).json()).toEqual({ clusters: [] });
    expect(await problem(call('GET', '/api/v1/savings/potential/demo', undefined, KEYS.elsewhere))).toMatchObject({ status: 404, code: 'cluster_not_found' });
    expect(await problem(call('GET', `/api/v1/optimization/status/${answers.JOB_ID}`, undefined, KEYS.elsewhere))).toMatchObject({ status: 404 });
    expect(await (await call('GET', '/api/v1/optimization/jobs', undefined, KEYS.elsewhere)).json()).toEqual({ jobs: [] });
  });
});

it('describes exactly its routes', async () => {
  const document = (await (await call('GET', '/api/docs-json', undefined, null)).json()) as { paths: Record<string, Record<string, unknown>> };
  const described = Object.entries(document.paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`));
  expect(new Set(described)).toEqual(new Set(Object.values(ROUTES).map((route) => `${route.method} ${route.path}`)));
  expect((await call('GET', '/api/docs', undefined, null)).status).toBe(200);
});

describe('live feeds', () => {
  async function open(path: string, headers: Record<string, string> = { authorization: `Bearer ${KEYS.admin}` }, protocols: string[] = []): Promise<{ socket: WebSocket; messages: { type: string }[] }> {
    const socket = new WebSocket(`${gateway.httpUrl?.replace('http', 'ws')}${path}`, protocols, { headers });
    const messages: { type: string }[] = [];
    socket.on('message', (data) => messages.push(JSON.parse(String(data)) as { type: string }));
    await new Promise<void>((resolve, reject) => {
      socket.once('open', () => resolve());
      socket.once('unexpected-response', (_request, response) => reject(new Error(String(response.statusCode))));
      socket.once('error', reject);
    });
    return { socket, messages };
  }

  it('sends the cluster and, as they happen, recommendations and jobs', async () => {
    const { socket, messages } = await open('/api/v1/realtime/cluster/demo');
    await until(async () => messages.some((message) => message.type === 'cluster'), 'the first figures');
    const optimizer = buses[1] as Bus;
    await optimizer.publish(subjects.recommendation('demo', 'zero_scaling'), Buffer.from(JSON.stringify({ version: 1, id: 'r/1', change: 'appeared', revision: 1, at: '2026-03-04T12:00:00.000Z', recommendation: answers.recommendation })), { msgId: 'r/1' });
    await optimizer.publish(subjects.job('demo'), Buffer.from(JSON.stringify({ version: 1, id: 'j/1', revision: 1, at: '2026-03-04T12:00:00.000Z', job: answers.job })), { msgId: 'j/1' });
    await until(async () => messages.some((message) => message.type === 'recommendation') && messages.some((message) => message.type === 'job'), 'what happened');
    socket.close();
  });

  it('sends a pod\'s latest values, the key given as a subprotocol as a browser must', async () => {
    const { socket, messages } = await open('/api/v1/realtime/pod/shop/promo-x', {}, ['upid.v1', `upid.key.${KEYS.viewer}`]);
    await until(async () => messages.some((message) => message.type === 'pod'), 'the pod\'s values');
    expect(socket.protocol).toBe('upid.v1');
    socket.close();
  });

  it('refuses without a key, and what is not there', async () => {
    await expect(open('/api/v1/realtime/cluster/demo', {})).rejects.toThrow('401');
    await expect(open('/api/v1/realtime/cluster/nowhere')).rejects.toThrow('404');
    await expect(open('/api/v1/realtime/pod/shop/gone')).rejects.toThrow('404');
    await expect(open('/elsewhere')).rejects.toThrow('404');
  });
});
