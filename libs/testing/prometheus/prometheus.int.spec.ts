import { type TestPrometheus, startPrometheus } from './prometheus.js';
import { counterOf } from './promql.js';

const HOUR = 3_600;
const end = Math.floor(Date.parse('2026-03-02T00:00:00Z') / 1000);
const start = end - 14 * 24 * HOUR;

describe('the Prometheus API for tests', () => {
  let prometheus: TestPrometheus;
  beforeAll(async () => {
    prometheus = await startPrometheus({
      token: 'secret',
      series: [
        {
          name: 'container_cpu_usage_seconds_total', labels: { namespace: 'shop', pod: 'web-1', container: 'app' },
          valueAt: counterOf((seconds) => ((seconds / HOUR) % 24 >= 8 && (seconds / HOUR) % 24 < 18 ? 0.5 : 0.05), { fromSeconds: start, toSeconds: end }),
        },
        { name: 'container_memory_working_set_bytes', labels: { namespace: 'shop', pod: 'web-1', container: 'app' }, valueAt: (seconds) => (seconds >= start && seconds <= end ? 2 ** 28 : null) },
        { name: 'nginx_ingress_controller_requests', labels: { exported_namespace: 'shop', ingress: 'web', status: '200' }, valueAt: counterOf(() => 3, { fromSeconds: start, toSeconds: end }) },
      ],
    });
  });
  afterAll(async () => {
    await prometheus.stop();
  });
  afterEach(() => prometheus.setFault(undefined));

  async function get(path: string, parameters: Record<string, string> = {}, method = 'GET'): Promise<{ status: number; body: { status: string; data?: unknown; errorType?: string; error?: string } }> {
    const form = new URLSearchParams(parameters);
    const response = await fetch(`${prometheus.url}${path}${method === 'GET' ? `?${form}` : ''}`, { method, headers: { authorization: 'Bearer secret' }, ...(method === 'POST' ? { body: form } : {}) });
    return { status: response.status, body: (await response.json()) as { status: string } };
  }

  it.each(['GET', 'POST'])('answers a range query by %s', async (method) => {
    const noon = end - 12 * HOUR;
    const { body } = await get('/api/v1/query_range', { query: 'sum by (namespace) (rate(container_cpu_usage_seconds_total{container!=""}[5m]))', start: String(noon - 6 * HOUR), end: new Date(noon * 1000).toISOString(), step: '6h' }, method);
    expect(body).toEqual({ status: 'success', data: { resultType: 'matrix', result: [{ metric: { namespace: 'shop' }, values: [[noon - 6 * HOUR, expect.stringMatching(/^0\.0(5|49999)/)], [noon, expect.stringMatching(/^0\.(5|49999)/)]] }] } });
  });

  it('answers an instant query', async () => {
    const { body } = await get('/api/v1/query', { query: 'increase(nginx_ingress_controller_requests{exported_namespace="shop"}[1h])', time: String(end) });
    expect(body.data).toEqual({ resultType: 'vector', result: [{ metric: { exported_namespace: 'shop', ingress: 'web', status: '200' }, value: [end, expect.stringMatching(/^1080[0-9.]*$|^10799/)] }] });
    expect((await get('/api/v1/query', { query: 'container_memory_working_set_bytes', time: String(start - 1) })).body.data).toEqual({ resultType: 'vector', result: [] });
    expect((await get('/api/v1/query', { query: '1 / 0', time: '5' })).body.data).toEqual({ resultType: 'scalar', result: [5, '+Inf'] });
  });

  it('names labels, their values and series', async () => {
    expect((await get('/api/v1/labels')).body.data).toEqual(['__name__', 'container', 'exported_namespace', 'ingress', 'namespace', 'pod', 'status']);
    expect((await get('/api/v1/label/__name__/values', { 'match[]': '{namespace="shop"}' })).body.data).toEqual(['container_cpu_usage_seconds_total', 'container_memory_working_set_bytes']);
    expect((await get('/api/v1/series', { 'match[]': '{ingress=~".+"}' })).body.data).toEqual([{ __name__: 'nginx_ingress_controller_requests', exported_namespace: 'shop', ingress: 'web', status: '200' }]);
    expect((await get('/api/v1/status/buildinfo')).body.data).toMatchObject({ version: expect.stringMatching(/^3\./) as string });
  });

  it.each([
    [{ query: 'rate(', start: '0', end: '60', step: '60' }, /parse error/],
    [{ query: 'up', start: 'yesterday', end: '60', step: '60' }, /"start"/],
    [{ query: 'up', start: '0', end: '60', step: '0' }, /"step"/],
    [{ query: 'up', start: '60', end: '0', step: '1' }, /before start/],
    [{ query: 'up', start: '0', end: '11000', step: '1' }, /11,000 points/],
    [{ start: '0', end: '60', step: '60' }, /"query"/],
  ])('refuses %j', async (parameters, message) => {
    const { status, body } = await get('/api/v1/query_range', parameters as Record<string, string>);
    expect(status).toBe(400);
    expect(body).toMatchObject({ status: 'error', errorType: 'bad_data', error: expect.stringMatching(message) as string });
  });

  it('asks for its token, notes what came, and fails as it is told', async () => {
    expect((await fetch(`${prometheus.url}/api/v1/labels`)).status).toBe(401);
    expect((await get('/api/v1/nothing')).status).toBe(404);
    const before = prometheus.queries.length;
    await get('/api/v1/query', { query: 'up' });
    expect(prometheus.queries.slice(before)).toMatchObject([{ path: '/api/v1/query', parameters: { query: 'up' }, concurrent: 1 }]);
    prometheus.setFault({ status: 503 });
    expect((await fetch(`${prometheus.url}/api/v1/query?query=up`, { headers: { authorization: 'Bearer secret' } })).status).toBe(503);
    prometheus.setFault({ drop: true });
    await expect(get('/api/v1/query', { query: 'up' })).rejects.toThrow(/fetch failed/);
    prometheus.setFault({ hang: true });
    await expect(fetch(`${prometheus.url}/api/v1/query?query=up`, { headers: { authorization: 'Bearer secret' }, signal: AbortSignal.timeout(100) })).rejects.toThrow(/timeout/);
  });
});
