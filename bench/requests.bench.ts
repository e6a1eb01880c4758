import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { MONITORING_WORD } from '@upid/collector/requests/agents';
import { classifier, type Classifier } from '@upid/collector/requests/classes';
import { RequestCounts } from '@upid/collector/requests/counts';
import type { AccessLogEntry, LogFormat } from '@upid/collector/requests/entry';
import { AccessLogReader, recogniseFormat } from '@upid/collector/requests/formats';
import { ServiceIndex } from '@upid/collector/requests/upstreams';
import type { Benchmark, BenchmarkContext, Figures } from './benchmark.js';

const data = join(import.meta.dirname, '../../testdata');
const text = (name: string): Promise<string> => readFile(join(data, name), 'utf8');
const linesOf = (log: string): string[] => log.split('\n').filter((line) => line !== '');

// ---------------------------------------------------------------- lines against what their authors expect

type Expected = Readonly<Record<string, unknown>>;
interface Sample {
  readonly file: string;
  readonly lines: readonly string[];
  readonly expected: readonly Expected[];
}

async function samples(): Promise<Sample[]> {
  const files = (await readdir(join(data, 'access-logs'))).filter((name) => name.endsWith('.log')).sort();
  return Promise.all(files.map(async (file) => ({
    file, lines: linesOf(await text(`access-logs/${file}`)), expected: JSON.parse(await text(`access-logs/${file}-expected.json`)) as Expected[],
  })));
}

const thousandths = (value: number): number => Math.round(value * 1e3) / 1e3;
const scaled = (value: unknown, perMs: number): number | undefined => (typeof value === 'number' ? thousandths(value / perMs) : undefined);

/** What the authors of a line give, in the words of an entry. */
function wanted(expected: Expected): Record<string, unknown> {
  const address = expected['nginx.ingress_controller.upstream.ip'];
  const time = expected['@timestamp'];
  return {
    timeMs: typeof time === 'string' ? Date.parse(time) : undefined,
    method: expected['http.request.method'] ?? null,
    path: expected['url.original'] ?? null,
    status: expected['http.response.status_code'] ?? null,
    bytesSent: expected['http.response.body.bytes'] ?? expected['http.response.bytes'] ?? null,
    userAgent: expected['user_agent.original'] ?? null,
    sourceAddress: expected['source.address'] ?? expected['source.ip'],
    durationMs: scaled(expected['event.duration'], 1e6) ?? scaled(expected['nginx.ingress_controller.http.request.time'], 1e-3),
    upstreamDurationMs: scaled(expected['nginx.ingress_controller.upstream.response.time'], 1e-3),
    upstreamName: expected['nginx.ingress_controller.upstream.name'] ?? expected['traefik.access.frontend_name'] ?? expected['haproxy.backend_name'],
    upstreamAddress: address === undefined ? undefined : `${String(address)}:${String(expected['nginx.ingress_controller.upstream.port'])}`,
  };
}

/** Whether an entry says all that the authors expect; what they do not give is not asked. */
function equal(entry: AccessLogEntry | null, expected: Expected): boolean {
  if (entry === null) return false;
  const got: Record<string, unknown> = { ...entry, upstreamName: entry.upstream?.name ?? '', upstreamAddress: entry.upstream?.address };
  return Object.entries(wanted(expected)).every(([key, value]) => value === undefined || got[key] === value);
}

function linesEqual(all: readonly Sample[], formatOf: (lines: readonly string[]) => LogFormat | null, log?: (line: string) => void): number {
  let count = 0;
  for (const { file, lines, expected } of all) {
    const reader = new AccessLogReader(formatOf(lines));
    const right = lines.filter((line, index) => equal(reader.read(line), expected[index] ?? {})).length;
    log?.(`${file}: ${right} of ${lines.length} lines equal (${reader.format?.name ?? 'no format'})`);
    count += right;
  }
  return count;
}

// ---------------------------------------------------------------- agents

interface Agents {
  readonly monitoring: readonly string[];
  readonly browsers: readonly string[];
}

async function agents(): Promise<Agents> {
  const known = JSON.parse(await text('user-agents/crawlers.json')) as { pattern: string; tags: string[]; instances: string[] }[];
  const patterns = known.map(({ pattern }) => new RegExp(pattern));
  const seen = [...new Set(linesOf(await text('requests/apache-combined.log')).map((line) => line.split('"')[5] ?? ''))];
  return {
    monitoring: known.filter(({ tags }) => tags.includes('monitoring')).flatMap(({ instances }) => instances),
    // Browsers: what calls itself one, says nothing of a robot and is in no list of them.
    browsers: seen.filter((agent) => /^(?:Mozilla|Opera)\//.test(agent) && !/bot|crawl|spider|slurp|https?:/i.test(agent) && !patterns.some((pattern) => pattern.test(agent))),
  };
}

interface AgentScores {
  readonly recall: number;
  readonly misclassed: number;
}

function scoreAgents({ monitoring, browsers }: Agents, classify: Classifier): AgentScores {
  const classOf = (userAgent: string): string => classify({ method: 'GET', path: '/', userAgent, sourceAddress: null });
  return { recall: monitoring.filter((agent) => classOf(agent) === 'monitoring').length / monitoring.length, misclassed: browsers.filter((agent) => classOf(agent) === 'monitoring').length };
}

// ---------------------------------------------------------------- speed

const collect = (() => {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
})();

const MINUTE = Math.floor(Date.parse('2024-05-01T00:00:00Z') / 60_000);

interface Speed {
  readonly perCore: number;
  /** Heap after a quarter of the lines and after all, with rubbish collected. */
  readonly heapBytesEarly: number;
  readonly heapBytesLate: number;
  readonly business: number;
}

/** Parses, classes, resolves and counts `total` lines, a minute's aggregates given away every 20,000; CPU time of the whole process counts. */
function throughput(lines: readonly string[], total: number): Speed {
  const names = ['web', 'web2', 'cart', 'checkout', 'search'];
  const services = new ServiceIndex(names.map((name) => ({ namespace: 'default', name, ports: [{ port: 8080 }] })));
  const reader = new AccessLogReader();
  const classify = classifier({ monitoringNetworks: ['198.51.100.0/24', '2001:db8:ffff::/48'] });
  const counts = new RequestCounts(MINUTE);
  let business = 0;
  let heapBytesEarly = 0;
  let cpuMicros = 0;
  let before = process.cpuUsage();
  const stop = (): void => {
    const used = process.cpuUsage(before);
    cpuMicros += used.user + used.system;
  };
  for (let i = 0; i < total; i++) {
    const entry = reader.read(lines[i % lines.length] as string);
    if (entry !== null) {
      const requestClass = classify(entry);
      if (requestClass === 'business') business++;
      const { service } = services.resolve(entry.upstream);
      counts.add(service === null ? 'unknown' : `${service.namespace}/Deployment/${service.name}`, requestClass, (MINUTE + Math.floor(i / 20_000)) * 60_000, entry);
    }
    if (i % 20_000 === 19_999) counts.drain(MINUTE + Math.floor(i / 20_000));
    if (i === Math.floor(total / 4)) {
      stop();
      collect();
      heapBytesEarly = process.memoryUsage().heapUsed;
      before = process.cpuUsage();
    }
  }
  stop();
  collect();
  return { perCore: total / (cpuMicros / 1e6), heapBytesEarly, heapBytesLate: process.memoryUsage().heapUsed, business };
}

/** The same combined lines by one regular expression into fields, as log shippers do it; nothing is classed, resolved or counted. */
function regularExpression(lines: readonly string[], total: number): number {
  const pattern = /^(?<source>\S+) (\S+) (?<user>\S+) \[(?<day>\d\d)\/(?<month>\w{3})\/(?<year>\d{4}):(?<time>[\d:]{8}) (?<zone>[+-]\d{4})\] "(?<method>\S+) (?<path>.*?) HTTP\/(?<version>[\d.]+)" (?<status>\d{3}) (?<bytes>\d+|-) "(?<referrer>[^"]*)" "(?<agent>[^"]*)"/;
  const before = process.cpuUsage();
  let newest = 0;
  for (let i = 0; i < total; i++) {
    const fields = pattern.exec(lines[i % lines.length] as string)?.groups;
    if (fields !== undefined) newest = Math.max(newest, Date.parse(`${fields['day']} ${fields['month']} ${fields['year']} ${fields['time']} ${fields['zone']}`));
  }
  const used = process.cpuUsage(before);
  if (!(newest > 0)) throw new Error('the regular expression read nothing');
  return total / ((used.user + used.system) / 1e6);
}

// ---------------------------------------------------------------- the benchmark

async function run({ log }: BenchmarkContext): Promise<Figures> {
  const all = await samples();
  const total = all.reduce((sum, { lines }) => sum + lines.length, 0);
  const agentSets = await agents();

  // The scorer first: no method must score nothing, a blind one all of one thing and nothing of the other, and what is published of
  // the site's log (its counts by status) must come out.
  const nothing: LogFormat = { name: 'nothing', recognise: () => false, parse: () => null };
  const blind = scoreAgents(agentSets, () => 'monitoring');
  const deaf = scoreAgents(agentSets, () => 'business');
  const site = linesOf(await text('requests/apache-combined.log'));
  const statuses = new Map<number | null, number>();
  const siteReader = new AccessLogReader();
  for (const line of site) {
    const status = siteReader.read(line)?.status ?? null;
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
  }
  const published: readonly (readonly [number, number])[] = [[200, 9_126], [304, 445], [404, 213], [301, 164], [206, 45], [500, 3], [403, 2], [416, 2]];
  const scorerRight = linesEqual(all, () => nothing) === 0 && blind.recall === 1 && blind.misclassed === agentSets.browsers.length && deaf.recall === 0 && deaf.misclassed === 0
    && published.every(([status, count]) => statuses.get(status) === count);
  log(`scorer: ${scorerRight ? 'no method scores 0, a blind one 1 and all browsers, the published counts by status come out' : 'WRONG'}`);

  const equalLines = linesEqual(all, (lines) => recogniseFormat(lines), log);
  const scores = scoreAgents(agentSets, classifier());
  const words = scoreAgents(agentSets, ({ userAgent }) => (userAgent !== null && MONITORING_WORD.test(userAgent) ? 'monitoring' : 'business'));
  log(`agents: ${(100 * scores.recall).toFixed(1)} % of ${agentSets.monitoring.length} monitoring agents found, ${scores.misclassed} of ${agentSets.browsers.length} browsers taken for one; by words alone ${(100 * words.recall).toFixed(1)} %`);

  const ingress = all.find(({ file }) => file.startsWith('nginx-ingress'))?.lines ?? [];
  const warm = 50_000;
  const lines = 600_000;
  throughput(ingress, warm);
  const ofIngress = throughput(ingress, lines);
  throughput(site, warm);
  const ofSite = throughput(site, lines);
  const json = ingress.map((_line, index) => JSON.stringify({
    time: '2024-05-01T00:00:00+00:00', remote_addr: '192.168.64.1', request: `GET /products/${index} HTTP/1.1`, status: '200', body_bytes_sent: '59', http_user_agent: 'curl/7.54.0', request_time: '0.001', proxy_upstream_name: 'default-web-8080', upstream_addr: '172.17.0.5:8080', upstream_response_time: '0.001',
  }));
  throughput(json, warm);
  const ofJson = throughput(json, lines / 2);
  const agentless = Array.from({ length: 20_000 }, (_each, index) => (ingress[0] ?? '').replace('curl/7.54.0', `Client-${index}/1.0 (some; details)`));
  const ofStrangers = throughput(agentless, lines / 4);
  const peer = regularExpression(site, lines / 2);
  log(`speed: ${Math.round(ofIngress.perCore)} ingress-nginx lines a second and core, ${Math.round(ofSite.perCore)} combined, ${Math.round(ofJson.perCore)} JSON; one regular expression without the rest: ${Math.round(peer)}`);

  return {
    scorer_right: scorerRight,
    lines_equal: equalLines,
    lines_total: total,
    monitoring_recall: scores.recall,
    monitoring_recall_words_only: words.recall,
    monitoring_agents: agentSets.monitoring.length,
    browsers_misclassed: scores.misclassed,
    browsers: agentSets.browsers.length,
    site_lines_read: siteReader.counters.entries,
    site_lines_cut: siteReader.counters.cut,
    lines_per_second_per_core: Math.round(ofIngress.perCore),
    combined_lines_per_second_per_core: Math.round(ofSite.perCore),
    json_lines_per_second_per_core: Math.round(ofJson.perCore),
    unseen_agents_lines_per_second_per_core: Math.round(ofStrangers.perCore),
    regular_expression_lines_per_second_per_core: Math.round(peer),
    cores_for_20000_lines_per_second: thousandths(20_000 / ofIngress.perCore),
    heap_growth_bytes: Math.max(0, ofIngress.heapBytesLate - ofIngress.heapBytesEarly, ofSite.heapBytesLate - ofSite.heapBytesEarly),
  };
}

export const benchmark: Benchmark = {
  name: 'requests',
  summary: 'access-log lines against their authors\' fields, classes of agents, lines a second',
  floors: { lines_equal: { min: 67 }, monitoring_recall: { min: 0.95 }, browsers_misclassed: { max: 0 }, site_lines_read: { min: 10_000 } },
  run,
};
