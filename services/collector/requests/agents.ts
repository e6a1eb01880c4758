/**
 * User agents that are neither people nor programs of customers. Matching ignores case.
 *
 * Two kinds of evidence. Names: what probes and monitoring call themselves in their makers' documentation and in public directories
 * (Cloudflare Radar's verified bots, read May 2026: monitoring, security, accessibility; Matomo's device-detector: site monitors and
 * validators; crawler-user-agents, MIT, Martin Monperrus: monitoring). Words: by which monitoring or a crawler that nobody listed yet
 * mostly shows itself. Words are weaker, for an app about baby monitors has customers too: they count only for agents that are no app.
 *
 * Left for business on purpose, though lists call them monitoring: cron services and webhooks (their calls start work), clients of shops
 * and social networks, and dashboards (Grafana's queries are the work of what it asks).
 */

/** Kubelet's probes and those of platforms on top of Kubernetes, by prefix. */
export const PROBE_AGENTS: readonly string[] = ['kube-probe', 'Knative-Activator-Probe', 'Knative-Ingress-Probe', 'Knative-Queue-Proxy'];

/** Load balancers that ask whether a backend lives, by prefix. */
export const LOAD_BALANCER_AGENTS: readonly string[] = [
  'ELB-HealthChecker', 'GoogleHC', 'Azure-HealthCheck', 'Azure Traffic Manager Endpoint Monitor', 'Load Balancer Agent', 'Edge Health Probe', 'Envoy/HC', 'Fastly/cache-check', 'Varnish/fastly (healthcheck)', 'HAProxy', 'Consul Health Check',
  'OracleLBHealthCheck', 'Alibaba-SLB-HealthCheck',
];

/** Programs and services that watch sites and services: parts of their agents, as regular expressions. */
const MONITORING_NAMES = [
  // Run by oneself.
  'Prometheus/', 'Blackbox[ -]Exporter', 'vm_promscrape', '\\bvmagent\\b', 'Telegraf/', 'collectd', '\\bmunin', 'Zabbix', 'Icinga', 'Nagios', 'check_(?:http|curl|ssl)', 'Checkmk', '\\bSensu[/-]', '\\bMonit/', 'Netdata', 'Xymon', '\\bCacti\\b', '\\bGatus', 'Uptime-Kuma', 'phpservermon', 'phantomas/',
  'Elastic-?Heartbeat', 'Elastic/Synthetics', 'PRTG', 'SolarWinds', 'OpenTelemetry Collector', 'internal dummy connection', 'WebMon/', 'HTTPMon', 'Upptime', 'jetmon', 'PTST/', '\\w-Lighthouse',
  // Uptime, performance and synthetic checks as a service.
  '360 ?JK', 'A360-Search', 'AccessStatus', 'Adagiobot', 'Advailo Kuma', 'AgencyToolsPro', 'AlertSite', '\\bApica\\b', 'AppDynamics', 'AppInsights', 'AppSignalBot', 'Audisto', 'AutomatonHeadless', 'Better ?(?:Uptime|Stack)', 'BigScoots', 'BinaryCanary', 'BlogVault', 'Bugsnag', 'BuiltWith', 'Buck/[\\d.]+; \\(',
  'Baidu-YunGuanCe', 'CapsuleChecker', 'Catchpoint', 'CheckHost', 'Checkly', 'CheckView', '\\bChirp/\\d', 'CloudWatchSynthetics', 'Cloudflare[- ]?(?:Healthchecks|Diagnostics|AlwaysOnline|SSLDetector|Traffic-Manager|Smart-Transit|Observatory|Validator|csup)', 'Cloudtrellis', 'cludo\\.com', 'Content ?King',
  'ContentSquare', 'Crazy Egg', 'Cronitor', 'Datadog', 'DebugBear', '\\bDeepcrawl\\b', 'deepnoc', '\\bDeterm\\b', '\\bDlc/', 'DMBrowser', 'Dotcom-Monitor', 'Dubbot', 'Dynatrace', 'easyDNS', 'elmahio', 'Experibot', 'EyeMonIT', 'FDL Stats', 'Freshping', 'FullStoryBot', 'Ghost ?Inspector',
  'google_partner_monitoring', 'Google Page Speed', 'GoogleStackdriverMonitoring', 'GTmetrix', 'HetrixTools', 'Honeybadger', 'Host-?Tracker', 'Hotjar', 'Healthchecks\\.io', 'Hydrozen', 'Hyperping', '\\bIABot/', '\\bInstana\\b', 'Instatus', 'Internet ?Vista', 'IsDownBot', 'KargoBot', 'keycdn-tools', 
  'kinsta-bot', 'linko\\.app', 'LinkTiger', 'Little ?Warden', 'LogicMonitor', '\\blumar\\b', 'Macrobondbot', 'ManageEngine', 'Mavifinds', 'mediaboardbot', 'MedialogiaBot', 'Monitage', 'Monitis', 'Monsido', 'MonSpark', 'Montastic', 'netumo', 'NETVIGIE', 'New ?Relic', 'Nimbostratus', 'NIXStatsbot', 'NodePing',
  'Oh ?Dear', 'OnlineOrNot', 'ObservePoint', 'OmtrBot', 'Opsview', 'OutsellURL', 'Panopta', 'parsely\\.com', 'Ping-?Admin', 'Pingdom', 'pingping\\.io', 'PodUptime', 'Pulsetic', 'Rackspace Monitoring', 'Rigor\\)', 'Robinbot', 'Rollbar', 'Ruxit', 'SEBot-WA', 'Sematext', 'SentryUptimeBot', 'Server Density',
  'Siteimprove', 'Sitespeed', 'SiteUptime', 'Site24x7', 'Silktide', 'SISTRIX Optimizer', 'Spectate/', 'SpeedCurve', 'Splunk Synthetics', '\\bStape\\b', 'StatusCake', 'StatusGator', 'Statuspage', 'Super ?Monitoring', 'SQWatcher', 'SwifteqLinkChecker', 'synthetic-monitoring', 'SynthesiBot', 'Testomato', 'ThousandEyes',
  'trendictionbot', 'updown\\.io', 'UptimeRobot', 'Uptimia', 'Uptrends', 'Visualping', 'Wachete', 'Watchbot', 'WatchForBot', 'WebPageTest', 'WebsiteOps', 'websitepulse', 'Webstatus247', 'WEDOS', 'wheresitup', 'wknd-bot', 'WormlyBot', 'WPMU ?DEV', 'WPUmbrella', 'YottaaMonitor', 'changedetection',
  // Whether a site is safe, lawful, accessible and well-formed.
  'AASA-Bot', 'Accessible ?Web ?Bot', 'ActiveComply', 'Arachnid Shield', 'AtVowBot', 'Brynson', 'bushbaby', 'carbon-umbrella', 'CertChief', 'ConsentCheck', 'Cookie ?(?:Hub|bot|maestro|Yes)', 'Critical ?CSS', 'CybaaBot', '(?:Comodo|Sectigo|\\()\\s?DCV', 'Detectify', '\\bDrata', 'Drupalbot', 'FastDAST', 'FediDB', 'FediList',
  'FedReporter', 'Foregenix', 'Google[ -](?:Trust[ -]Services|InspectionTool|Safety|Site-Verification|BusinessLink|Structured-Data|Read-Aloud)', 'HaloBot', 'HanaleiBot', 'Hardenize', 'HeadOnlyScraper', 'hstspreload', 'Jigsaw/', 'LegalMonster', "Let's ?Encrypt", 'ModatScanner', 'Mozilla-Observatory', 'Netcraft', 'NoahBot',
  'Noibu', 'OKX-dolphin', 'OneTrust', 'Pro-Sitemaps', 'Probely', 'ProjectShield', 'PWABuilder', 'Qualys', '\\bReadable/', 'Redactus', 'Sansec', 'Scrunchbot', 'SecurityHeaders', '(?:^| )sentry/', 'SequelWP', 'Shield-UrlCheck', 'SiteLock', 'SleepBot', 'SmarshBot', 'SSL ?Labs', 'Sucuri', '\\bTermly', 'TwinWave', 'UrlSuMa', 'videootv',
  'VirusTotalScan', 'W3C[_-]', 'Wordfence', 'Wovn', 'WTotem', 'XY-Archive', 'BuddyBot', 'Dow Jones Searchbot',
];

/** Programs whose calls are work though a word in their name says otherwise: webhooks and cron services. */
const BUSINESS_NAMES = ['webhook', 'callback', 'EasyCron', '^http://cron-job\\.org', 'Zapier', 'Integromat', 'Make/production', 'PayPal', '^Stripe/', 'Slackbot 1', 'Svix', 'Hookshot', 'captain-hook', 'IFTTT', 'Retool/'];

/** Words by which monitoring that nobody listed shows itself. */
const MONITORING_WORDS = [
  'monitor', 'uptime', 'health[ -_]?check', 'synthetic', 'heartbeat', 'status[ -_]?(?:check|bot)', 'site[ -_]?(?:check|audit)', 'page[ -_]?speed', 'down(?:time|notif)', 'watch(?:bot|agent|dog|er\\b)', 'availability', 'ping(?:er|bot)\\b', 'check(?:er)?[ -_]?bot', 'checker\\b', '\\bcheck/\\d', '\\bprob(?:e|ing)\\b', 'observability',
  'compliance',
];

/** Words by which crawlers, feed readers, archivers, scanners and link previews show themselves. */
const CRAWLER_WORDS = [
  'bot\\b', 'bot[/_\\-;:)0-9]', 'robot', 'crawl', 'spider', 'slurp', 'scrap(?:er|y|e\\b)', 'fetcher', 'feed', '\\brss', 'archiv', 'indexer', 'harvest', 'preview', 'externalhit', 'scan(?:ner)?\\b', 'survey', 'validator', 'sitemap', '\\bseo\\b',
  // By convention a program that visits in nobody's name is `compatible` and says where to read about it.
  'compatible;[^)]*https?://',
];

/** Programs of people: what a word in the name of an app says is no evidence. */
const APP = /CFNetwork|Darwin\/|Dalvik|okhttp|\bExpo\b|Alamofire|iPhone OS|\(iPad|Android \d/i;

const MONITORING_NAME = new RegExp(MONITORING_NAMES.join('|'), 'i');
const BUSINESS_NAME = new RegExp(BUSINESS_NAMES.join('|'), 'i');
/** What is left when no name is known: how well that does is measured, since names grow old. */
export const MONITORING_WORD = new RegExp(MONITORING_WORDS.join('|'), 'i');
const CRAWLER_WORD = new RegExp(CRAWLER_WORDS.join('|'), 'i');

/** What an agent that is neither probe nor load balancer shows itself to be; null where nothing tells. O(length). */
export function agentClassOf(agent: string): 'monitoring' | 'crawler' | null {
  if (BUSINESS_NAME.test(agent)) return null;
  if (MONITORING_NAME.test(agent)) return 'monitoring';
  // A crawler that plays a phone says so in brackets; an app does not.
  if (APP.test(agent) && !/compatible;/i.test(agent)) return null;
  if (MONITORING_WORD.test(agent)) return 'monitoring';
  return CRAWLER_WORD.test(agent) ? 'crawler' : null;
}
