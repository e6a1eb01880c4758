/**
 * User agents that are no people and no programs of customers. Names are facts that their makers document; matching ignores case.
 */

/** Kubelet's probes and those of platforms on top of Kubernetes, by prefix. */
export const PROBE_AGENTS: readonly string[] = ['kube-probe', 'Knative-Activator-Probe', 'Knative-Ingress-Probe', 'Knative-Queue-Proxy'];

/** Load balancers that ask whether a backend lives, by prefix. */
export const LOAD_BALANCER_AGENTS: readonly string[] = [
  'ELB-HealthChecker', 'GoogleHC', 'Azure-HealthCheck', 'Azure Traffic Manager Endpoint Monitor', 'Load Balancer Agent', 'Edge Health Probe', 'Envoy/HC',
  'Fastly/cache-check', 'Varnish/fastly (healthcheck)', 'HAProxy', 'Consul Health Check', 'NetScaler', 'OracleLBHealthCheck', 'Cloudflare-Traffic-Manager',
];

/** Words that a monitoring service puts into its agent whatever its name is. */
const MONITORING_WORDS = [
  'monitor', 'uptime', 'health-?\\s?check', 'synthetic', 'heartbeat', 'status-?\\s?(?:check|cake|bot)', 'site-?\\s?check', 'downtime', 'blackbox', 'nagios', 'watch(?:bot|agent|dog)', 'availability', '\\bping(?:dom|bot)\\b',
];

/** Names of monitoring programs and services whose agent holds none of the words above. */
const MONITORING_NAMES = [
  'Prometheus/', 'check_http', 'check_curl', 'Zabbix', 'Icinga', 'Datadog', 'Site24x7', 'Pingdom', 'Freshping', 'HetrixTools', 'NodePing', 'Checkly', 'New ?Relic', 'Ruxit', 'Dynatrace', 'Catchpoint', 'ThousandEyes', 'Gatus', 'updown\\.io',
  'OhDear', 'Cronitor', 'PRTG', 'SolarWinds', 'Uptrends', 'AlertSite', 'vm_promscrape', 'Telegraf', 'Sensu',
];

/** Words that crawlers, feed readers, archivers and link previews put into their agents. */
const CRAWLER_WORDS = ['bot\\b', 'bot[/_\\-;:)]', 'crawl', 'spider', 'slurp', 'scrap(?:er|y)', 'feed', 'rss', 'archiv'];

export const MONITORING_AGENT = new RegExp([...MONITORING_WORDS, ...MONITORING_NAMES].join('|'), 'i');
export const CRAWLER_AGENT = new RegExp(CRAWLER_WORDS.join('|'), 'i');
