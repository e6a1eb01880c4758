import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { classifier, pathOf, REQUEST_CLASSES, type ClassRules, type RequestClass } from './classes.js';

const BROWSER = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36';
const classOf = (path: string | null, userAgent: string | null = BROWSER, sourceAddress: string | null = '203.0.113.7', rules: ClassRules = {}): RequestClass => classifier(rules)({ method: 'GET', path, userAgent, sourceAddress });
const data = (name: string) => readFileSync(new URL(`../../../testdata/${name}`, import.meta.url), 'utf8');

describe('classes of requests', () => {
  it.each(['/health', '/healthz', '/livez', '/readyz', '/ping', '/metrics', '/status', '/ready', '/live', '/healthz?verbose', '/healthz/', '/grpc.health.v1.Health/Check', 'http://shop.example/healthz'])('%s is a health check', (path) => {
    expect(classOf(path)).toBe('health_check');
  });

  it.each(['/', '/status/orders/7', '/statusboard', '/health-insurance', '/orders?next=/healthz', '/api/ping', '/metricsx', '/shop.v1.Health/Check', '*', ''])('%j is business', (path) => {
    expect(classOf(path)).toBe('business');
  });

  it('takes prefixes and paths that the user names, and his exceptions', () => {
    expect(classOf('/internal/health/db', BROWSER, null, { healthPrefixes: ['/internal/health/'] })).toBe('health_check');
    expect(classOf('/internal/health', BROWSER, null, { healthPrefixes: ['/internal/health'] })).toBe('health_check');
    expect(classOf('/internal/healthy', BROWSER, null, { healthPrefixes: ['/internal/health'] })).toBe('business');
    expect(classOf('/up', BROWSER, null, { healthPaths: ['/up'] })).toBe('health_check');
    expect(classOf('/status', BROWSER, null, { businessPaths: ['/status'] })).toBe('business');
  });

  it.each<[string, RequestClass]>([
    ['kube-probe/1.29', 'probe'], ['ELB-HealthChecker/2.0', 'load_balancer'], ['GoogleHC/1.0', 'load_balancer'], ['Azure-HealthCheck', 'load_balancer'], ['Envoy/HC', 'load_balancer'], ['Prometheus/2.45.0', 'monitoring'],
    ['Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)', 'monitoring'], ['Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)', 'crawler'], ['Tiny Tiny RSS/1.11 (http://tt-rss.org/)', 'crawler'],
    ['curl/7.54.0', 'business'], ['python-requests/2.22.0', 'business'], ['okhttp/4.9.0', 'business'], ['Stripe/1.0 (+https://stripe.com/docs/webhooks)', 'business'], ['GitHub-Hookshot/044aadd', 'business'],
    ['grpc-go/1.60.0', 'business'], [BROWSER, 'business'], ['kubectl/v1.29', 'business'], ['no GoogleHC/1.0', 'business'],
  ])('%s asks as %s', (agent, expected) => {
    expect(classOf('/orders', agent)).toBe(expected);
  });

  it('judges who asks before what is asked for', () => {
    expect(classOf('/healthz', 'kube-probe/1.29')).toBe('probe');
    expect(classOf('/healthz', 'ELB-HealthChecker/2.0')).toBe('load_balancer');
    expect(classOf('/metrics', 'Googlebot/2.1')).toBe('health_check');
  });

  it('takes agents by prefix and networks of both families', () => {
    const rules = { monitoringAgents: ['acme-check'], loadBalancerAgents: ['AcmeLB'], probeAgents: ['acme-probe'], crawlerAgents: ['AcmeIndex'], monitoringNetworks: ['198.51.100.0/24', '2001:db8::/32'] };
    expect(classOf('/', 'Acme-Check 1.0', null, rules)).toBe('monitoring');
    expect(classOf('/', 'the acme-check', null, rules)).toBe('business');
    expect(classOf('/', 'acmelb', null, rules)).toBe('load_balancer');
    expect(classOf('/', 'acme-probe', null, rules)).toBe('probe');
    expect(classOf('/', 'acmeindex/2', null, rules)).toBe('crawler');
    expect(classOf('/', BROWSER, '198.51.100.9', rules)).toBe('monitoring');
    expect(classOf('/', BROWSER, '2001:db8::9', rules)).toBe('monitoring');
    expect(classOf('/', BROWSER, '198.51.101.9', rules)).toBe('business');
  });

  it.each(['Prometheus/2.45.0', 'Telegraf/1.20', 'Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)', 'Datadog/Synthetics'])('takes what %s changes for work', (userAgent) => {
    expect(classifier()({ method: 'POST', path: '/api/v1/write', userAgent, sourceAddress: null })).toBe('business');
    expect(classifier()({ method: 'GET', path: '/x', userAgent, sourceAddress: null })).not.toBe('business');
    expect(classifier({ monitoringAgents: [userAgent] })({ method: 'POST', path: '/x', userAgent, sourceAddress: null })).toBe('monitoring');
  });

  it.each(['BabyMonitor/2.1 CFNetwork/1240 Darwin/20', 'ConsensusClient/1.0', 'GraphQLApiCaller/3', 'WikipediaBotClient', 'Recurly Webhooks/2.0 (+https://docs.recurly.com/push-notifications)', 'EasyCron/1.0 (https://www.easycron.com/)', 'communicator/2', 'Zapier', 'Chef Client/10.18.2 (ruby-1.9.3-p327; ohai-6.16.0; x86_64-linux; +http://opscode.com)', 'Grafana/10.1'])('does not take %s for noise', (agent) => {
    expect(classOf('/orders', agent)).toBe('business');
  });

  it('takes what says nothing of itself for business', () => {
    expect(classOf(null, null, null)).toBe('business');
  });

  it('gives one of the classes, the same each time, whatever it is given', () => {
    const classify = classifier({ monitoringNetworks: ['10.0.0.0/8'] });
    const text = fc.option(fc.string({ unit: 'binary', maxLength: 600 }));
    fc.assert(fc.property(text, text, text, text, (method, path, userAgent, sourceAddress) => {
      const found = classify({ method, path, userAgent, sourceAddress });
      expect(REQUEST_CLASSES).toContain(found);
      expect(classify({ method, path, userAgent, sourceAddress })).toBe(found);
    }));
  });

  it('finds the path of a target', () => {
    expect(['/a/b/?q=/c', 'https://host', 'https://host/x/#y', '/', '', '/a#b?c'].map(pathOf)).toEqual(['/a/b', '/', '/x', '/', '', '/a']);
  });
});

describe('agents of the world', () => {
  const crawlers = JSON.parse(data('user-agents/crawlers.json')) as { pattern: string; tags: string[]; instances: string[] }[];
  const asks = classifier();
  const agentClass = (userAgent: string): RequestClass => asks({ method: 'GET', path: '/', userAgent, sourceAddress: null });

  it('finds at least 95 % of monitoring agents', () => {
    const agents = crawlers.filter(({ tags }) => tags.includes('monitoring')).flatMap(({ instances }) => instances);
    expect(agents.length).toBeGreaterThan(100);
    const missed = agents.filter((agent) => agentClass(agent) !== 'monitoring');
    expect({ missed: missed.length <= 0.05 * agents.length ? [] : missed }).toEqual({ missed: [] });
  });

  it('takes no browser of a real site for monitoring, nor for a crawler', () => {
    const known = crawlers.map(({ pattern }) => new RegExp(pattern));
    const agents = [...new Set(data('requests/apache-combined.log').split('\n').map((line) => line.split('"')[5] ?? ''))];
    const browsers = agents.filter((agent) => /^(?:Mozilla|Opera)\//.test(agent) && !/compatible; (?!MSIE|Konqueror)|bot|crawl|spider|https?:|preview|favicon|archiv|slurp/i.test(agent) && !known.some((pattern) => pattern.test(agent)));
    expect(browsers.length).toBeGreaterThan(350);
    expect(browsers.filter((agent) => agentClass(agent) !== 'business')).toEqual([]);
  });
});
