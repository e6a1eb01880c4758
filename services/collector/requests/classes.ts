import { agentClassOf, LOAD_BALANCER_AGENTS, PROBE_AGENTS } from './agents.js';
import type { AccessLogEntry } from './entry.js';
import { networkSet } from './networks.js';

/** What a request is for. Only `business` is work; everything else is told apart so that it can be shown. */
export const REQUEST_CLASSES = ['business', 'health_check', 'probe', 'monitoring', 'load_balancer', 'crawler'] as const;
export type RequestClass = (typeof REQUEST_CLASSES)[number];

/**
 * Paths that answer "are you well?": the reference's, those of gRPC's health service, and those that frameworks document (Spring Boot
 * Actuator, Quarkus, Prometheus). Exactly these: a path below one of them is business.
 */
export const HEALTH_PATHS: readonly string[] = [
  '/health', '/healthz', '/livez', '/readyz', '/ping', '/metrics', '/status', '/ready', '/live',
  '/grpc.health.v1.Health/Check', '/grpc.health.v1.Health/Watch', '/grpc.health.v1.Health/List',
  '/actuator/health', '/actuator/health/liveness', '/actuator/health/readiness', '/actuator/prometheus', '/q/health', '/q/health/live', '/q/health/ready', '/-/healthy', '/-/ready',
  '/health/live', '/health/ready',
];

/** What the user says of his own noise, on top of what is known. */
export interface ClassRules {
  /** Paths that are health checks, exactly. */
  readonly healthPaths?: readonly string[];
  /** A path equal to one of these or below it (`/internal/health` takes `/internal/health/db`, not `/internal/healthy`) is a health check. */
  readonly healthPrefixes?: readonly string[];
  /** Agents by their beginning, without regard to case. */
  readonly probeAgents?: readonly string[];
  readonly loadBalancerAgents?: readonly string[];
  readonly monitoringAgents?: readonly string[];
  readonly crawlerAgents?: readonly string[];
  /** Networks (IPv4, IPv6) that only monitoring comes from. */
  readonly monitoringNetworks?: readonly string[];
  /** Paths that are business even where a rule above says otherwise. */
  readonly businessPaths?: readonly string[];
}

export type Classifier = (entry: Pick<AccessLogEntry, 'method' | 'path' | 'userAgent' | 'sourceAddress'>) => RequestClass;

/** Agents remembered; a log repeats few. */
const REMEMBERED_AGENTS = 4_096;
/** Longer agents are judged by their beginning. */
const LONGEST_AGENT = 512;

/** Methods that ask and change nothing (RFC 9110, 9.2.1). */
const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);

/** What an agent is: `named` by a prefix of its own kind or of the user's, else known in general. */
interface Judged {
  readonly class: Exclude<RequestClass, 'business' | 'health_check'>;
  readonly named: boolean;
}

/**
 * A classifier with these rules. Who asks counts before what is asked for: probes, load balancers and monitoring by agent, then
 * monitoring by network, then health-check paths, then crawlers; what is none of these is business, and so is what says nothing of
 * itself. Of agents known only in general (every monitoring service and crawler of the world) a request that may change something is
 * business: Prometheus scrapes with GET, and writes to a remote store, which is that store's work, with POST. Constant memory.
 * @throws InvalidNetworkError
 */
export function classifier(rules: ClassRules = {}): Classifier {
  const healthPaths = new Set([...HEALTH_PATHS, ...(rules.healthPaths ?? [])].map(withoutSlash));
  const businessPaths = new Set((rules.businessPaths ?? []).map(withoutSlash));
  const healthPrefixes = (rules.healthPrefixes ?? []).map(withoutSlash);
  const fromMonitoring = networkSet(rules.monitoringNetworks ?? []);
  const watchesNetworks = (rules.monitoringNetworks ?? []).length > 0;
  const classOfAgent = agentClassifier(rules);
  const remembered = new Map<string, Judged | null>();

  const judge = (agent: string): Judged | null => {
    let found = remembered.get(agent);
    if (found === undefined) {
      found = classOfAgent(agent);
      if (remembered.size >= REMEMBERED_AGENTS) remembered.clear();
      remembered.set(agent, found);
    }
    return found;
  };

  return ({ method, path, userAgent, sourceAddress }) => {
    const judged = userAgent === null ? null : judge(userAgent.length > LONGEST_AGENT ? userAgent.slice(0, LONGEST_AGENT) : userAgent);
    const byAgent = judged !== null && (judged.named || method === null || SAFE_METHODS.has(method)) ? judged.class : null;
    if (byAgent !== null && byAgent !== 'crawler') return byAgent;
    if (watchesNetworks && fromMonitoring(sourceAddress)) return 'monitoring';
    const bare = path === null ? null : pathOf(path);
    if (bare !== null && !businessPaths.has(bare)) {
      if (healthPaths.has(bare) || healthPrefixes.some((prefix) => bare.startsWith(prefix) && (bare.length === prefix.length || bare.charCodeAt(prefix.length) === 47))) return 'health_check';
    }
    return byAgent ?? 'business';
  };
}

function agentClassifier(rules: ClassRules): (agent: string) => Judged | null {
  const lower = (agents: readonly string[] = []): string[] => agents.map((agent) => agent.toLowerCase());
  const probes = lower([...PROBE_AGENTS, ...(rules.probeAgents ?? [])]);
  const balancers = lower([...LOAD_BALANCER_AGENTS, ...(rules.loadBalancerAgents ?? [])]);
  const monitors = lower(rules.monitoringAgents);
  const crawlers = lower(rules.crawlerAgents);
  return (agent) => {
    const text = agent.toLowerCase();
    const begins = (prefixes: readonly string[]): boolean => prefixes.some((prefix) => text.startsWith(prefix));
    if (begins(probes)) return { class: 'probe', named: true };
    if (begins(balancers)) return { class: 'load_balancer', named: true };
    if (begins(monitors)) return { class: 'monitoring', named: true };
    if (begins(crawlers)) return { class: 'crawler', named: true };
    const known = agentClassOf(agent);
    return known === null ? null : { class: known, named: false };
  };
}

/** The path of a request target: without query and fragment, without scheme and host, without a slash at its end. */
export function pathOf(target: string): string {
  let from = 0;
  if (target.charCodeAt(0) !== 47) {
    const scheme = target.indexOf('://');
    if (scheme > 0 && scheme < 10) {
      from = target.indexOf('/', scheme + 3);
      if (from < 0) return '/';
    }
  }
  let end = target.indexOf('?', from);
  if (end < 0) end = target.length;
  const hash = target.indexOf('#', from);
  if (hash >= 0 && hash < end) end = hash;
  return withoutSlash(target.slice(from, end));
}

function withoutSlash(path: string): string {
  return path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path;
}
