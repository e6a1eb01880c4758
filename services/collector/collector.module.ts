import 'reflect-metadata';
import { readFileSync } from 'node:fs';
import { fromPublic } from '@nats-io/nkeys';
import { type DynamicModule, Injectable, Module, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { clusterIdSchema } from '@upid/contracts';
import { agentUserName, type Platform, registerGauges, setting, type ServiceConfig, type ServiceDefinition } from '@upid/platform';
import { z } from 'zod';
import { Agent, type AgentOptions } from './agent.service.js';
import { ActuationCluster } from './actuation/cluster.client.js';
import { BackfillService } from './backfill/backfill.service.js';
import { PrometheusClient } from './backfill/prometheus.client.js';
import { connectCluster } from './connection/cluster-access.client.js';
import { clusterFingerprint } from './connection/discovery.service.js';
import { KubernetesClient } from './connection/kubernetes.client.js';
import { delay } from './connection/waiting.service.js';
import { withoutSparing } from './memory.client.js';
import { SpoolFolder } from './publishing/spool.client.js';
import { KubeletClient } from './usage/kubelet.client.js';
import type { UsageMode } from './usage/usage.service.js';

const list = z.string().default('').transform((text) => text.split(',').map((each) => each.trim()).filter((each) => each !== ''));
const flag = z.stringbool().default(false);
const selector = z.string().default('app.kubernetes.io/name=ingress-nginx').transform((text, context) => {
  const pairs = text.split(',').map((each) => each.split('='));
  if (pairs.some(([name, value]) => !name || value === undefined)) context.addIssue({ code: 'custom', message: 'must be label=value, several separated by commas' });
  return Object.fromEntries(pairs.map(([name = '', value = '']) => [name.trim(), value.trim()])) as Record<string, string>;
});

/** What the agent reads from its environment, beyond what every service does. */
export const collectorSettings = {
  clusterId: setting('UPID_CLUSTER_ID', clusterIdSchema, 'id of the cluster, as it was registered'),
  clusterName: setting('UPID_CLUSTER_NAME', z.string().optional(), 'name of the cluster for people; default its id'),
  demo: setting('UPID_DEMO', flag, 'true where the cluster is a demonstration'),
  timeZone: setting('UPID_TIME_ZONE', z.string().optional(), 'time zone of the cluster\'s people (IANA name), for local hours'),
  kubeconfig: setting('UPID_KUBECONFIG', z.string().optional(), 'kubeconfig to use outside a cluster; that of the user is never taken by itself'),
  kubeContext: setting('UPID_KUBE_CONTEXT', z.string().optional(), 'context of the kubeconfig; default its current one'),
  kubeUrl: setting('UPID_KUBE_URL', z.string().optional(), 'URL of the API server, with UPID_KUBE_TOKEN_FILE'),
  kubeTokenFile: setting('UPID_KUBE_TOKEN_FILE', z.string().optional(), 'file with a bearer token for UPID_KUBE_URL; read anew each minute'),
  kubeCaFile: setting('UPID_KUBE_CA_FILE', z.string().optional(), 'file with the CA (PEM) of UPID_KUBE_URL; default the system\'s'),
  systemNamespace: setting('UPID_SYSTEM_NAMESPACE', z.string().default('upid-system'), 'namespace of the agent\'s lease and of the records of changes'),
  spoolDir: setting('UPID_SPOOL_DIR', z.string().default('/var/lib/upid/spool'), 'folder for what waits for the bus; keep it over restarts'),
  spoolMaxBytes: setting('UPID_SPOOL_MAX_BYTES', z.coerce.number().int().min(1_048_576).default(1_073_741_824), 'most bytes in the spool; beyond it the oldest usage is dropped and told as a gap'),
  scrapeSeconds: setting('UPID_SCRAPE_SECONDS', z.coerce.number().min(15).max(60).default(30), 'seconds between two scrapes of a node, 15 to 60'),
  kubeletMode: setting('UPID_KUBELET_MODE', z.enum(['auto', 'direct', 'node-proxy', 'metrics-api']).default('auto'), 'how usage is read: auto (directly where the agent runs in the cluster, else by the node proxy where that right is granted, else metrics.k8s.io), direct, node-proxy or metrics-api'),
  kubeletProxyUrl: setting('UPID_KUBELET_PROXY_URL', z.string().optional(), 'HTTP CONNECT proxy to reach kubelets through'),
  kubeletCaFile: setting('UPID_KUBELET_CA_FILE', z.string().optional(), 'file with the CA (PEM) of the kubelets; default the cluster\'s'),
  kubeletInsecureTls: setting('UPID_KUBELET_INSECURE_TLS', flag, 'true takes kubelets\' certificates unchecked; the agent\'s token is then shown to whoever answers'),
  ingressNamespace: setting('UPID_INGRESS_NAMESPACE', z.string().default('ingress-nginx'), 'namespace of the ingress controllers whose access logs are followed'),
  ingressSelector: setting('UPID_INGRESS_SELECTOR', selector, 'labels of the ingress controllers\' pods, label=value separated by commas'),
  ingressClasses: setting('UPID_INGRESS_CLASSES', list, 'further ingress classes that these controllers serve, beyond those with nginx in their name'),
  healthPaths: setting('UPID_HEALTH_PATHS', list, 'further paths that are health checks, separated by commas; ending in * for everything below'),
  monitoringAgents: setting('UPID_MONITORING_AGENTS', list, 'beginnings of user agents of your own monitoring, separated by commas'),
  monitoringNetworks: setting('UPID_MONITORING_NETWORKS', list, 'networks (CIDR) of your own monitoring, separated by commas'),
  actuation: setting('UPID_ACTUATION', flag, 'true lets the agent carry out commands; its role must allow it too'),
  commandPublicKey: setting('UPID_COMMAND_PUBLIC_KEY', z.string().regex(/^[A-Z][A-Z2-7]{55}$/, 'must be a public nkey').optional(), 'public nkey of the optimizer, which signs commands; without it none is believed', { inFile: true }),
  prometheusUrl: setting('UPID_PROMETHEUS_URL', z.string().optional(), 'Prometheus-compatible API to read history from'),
  prometheusTokenFile: setting('UPID_PROMETHEUS_TOKEN_FILE', z.string().optional(), 'file with a bearer token for it'),
  backfillDays: setting('UPID_BACKFILL_DAYS', z.coerce.number().min(0).max(30).default(30), 'days of history to read, 0 to 30'),
  backfillLoad: setting('UPID_BACKFILL_LOAD', z.coerce.number().min(0.05).max(1).default(0.5), 'share of its time that Prometheus may work for the reading of history, 0.05 to 1'),
} as const;
export type CollectorConfig = ServiceConfig<typeof collectorSettings>;

/** This build, as the platform shows it. */
const AGENT_VERSION = '0.1.0';

/** Connects to the cluster and puts the agent together. @throws ClusterConnectionError */
async function buildAgent({ config, bus, log }: Platform<CollectorConfig>): Promise<{ agent: Agent; kubernetes: KubernetesClient }> {
  const { access } = await connectCluster({ kubeconfig: config.kubeconfig, context: config.kubeContext, url: config.kubeUrl, tokenFile: config.kubeTokenFile, caFile: config.kubeCaFile }, process.env, async (cluster) => {
    const client = new KubernetesClient(cluster);
    try {
      return await clusterFingerprint(client);
    } finally {
      client.close();
    }
  });
  log.info({ method: access.method, server: access.server }, 'connected to the cluster');
  const kubernetes = new KubernetesClient(access);
  const kubelets = new KubeletClient({
    authorization: () => access.authorization(), ca: config.kubeletCaFile === undefined ? access.tls.ca : readFileSync(config.kubeletCaFile, 'utf8'), insecure: config.kubeletInsecureTls, proxyUrl: config.kubeletProxyUrl,
  });
  const spool = new SpoolFolder(config.spoolDir);
  const key = config.commandPublicKey === undefined ? null : fromPublic(config.commandPublicKey);
  const acceptsClass = (name: string | null) => name === null || name.includes('nginx') || config.ingressClasses.includes(name);
  const options: AgentOptions = {
    clusterId: config.clusterId, clusterName: config.clusterName ?? config.clusterId, agentVersion: AGENT_VERSION, demo: config.demo, timeZone: config.timeZone ?? null, systemNamespace: config.systemNamespace,
    spoolMaxBytes: config.spoolMaxBytes, scrapeSeconds: config.scrapeSeconds, ingressNamespace: config.ingressNamespace, ingressSelector: config.ingressSelector, acceptsClass,
    classRules: {
      healthPaths: config.healthPaths.filter((path) => !path.endsWith('*')), healthPrefixes: config.healthPaths.filter((path) => path.endsWith('*')).map((path) => path.slice(0, -1)), monitoringAgents: config.monitoringAgents,
      monitoringNetworks: config.monitoringNetworks,
    },
    actuation: config.actuation, prometheus: config.prometheusUrl !== undefined,
    verify: (text, signature) => {
      try {
        return key?.verify(new TextEncoder().encode(text), Buffer.from(signature, 'base64url')) ?? false;
      } catch {
        // Of the wrong length or alphabet: no signature.
        return false;
      }
    },
    usageModes: (mayProxyNodes) => usageModes(config, access.method === 'in-cluster service account' || config.kubeletProxyUrl !== undefined, mayProxyNodes),
  };
  const agent = new Agent(options, {
    kubernetes, spool, log, cluster: new ActuationCluster(kubernetes, config.systemNamespace),
    bus: {
      get state() { return bus.state; },
      publish: (subject, payload, how) => bus.publish(subject, payload, how),
      request: (subject, request, how) => bus.request(subject, request, how),
      serve: (subject, handler) => bus.serve(subject, z.unknown(), handler),
      watch: (listener) => bus.watch(listener),
    },
    usage: {
      direct: (node, path) => kubelets.text(node, path),
      nodeProxy: (node, path) => kubernetes.text('GET', `/api/v1/nodes/${node.name}/proxy${path}`, { accept: '*/*', urgent: true }),
      podMetrics: () => kubernetes.text('GET', '/apis/metrics.k8s.io/v1beta1/pods'),
    },
    backfill: config.prometheusUrl === undefined || config.backfillDays === 0 ? null : (publisher, state) => new BackfillService(
      new PrometheusClient(config.prometheusUrl ?? '', config.prometheusTokenFile), state, publisher, spool, { clusterId: config.clusterId, days: config.backfillDays, load: config.backfillLoad, acceptsClass, log, delay, withoutSparing }),
    abdicate: (why) => {
      log.error({ why }, 'this agent ends, and waits for its turn when it is started again');
      process.kill(process.pid, 'SIGTERM');
    },
  });
  return { agent, kubernetes };
}

/**
 * Ways to usage, in order. By itself the agent asks kubelets directly only from within the cluster: from elsewhere a node's address may
 * be somebody else's, who would be shown the agent's token.
 */
async function usageModes(config: CollectorConfig, direct: boolean, mayProxyNodes: () => Promise<boolean>): Promise<readonly UsageMode[]> {
  if (config.kubeletMode !== 'auto') return [config.kubeletMode];
  return [...(direct ? ['direct' as const] : []), ...((await mayProxyNodes()) ? ['node-proxy' as const] : []), 'metrics-api'];
}

/** Starts the agent with the process and ends it in order. */
@Injectable()
class AgentRunner implements OnApplicationBootstrap, OnModuleDestroy {
  private built: Awaited<ReturnType<typeof buildAgent>> | null = null;
  private starting: Promise<void> | null = null;

  constructor(private readonly platform: Platform<CollectorConfig>) {}

  /** Nest may call it more than once for one start. */
  onApplicationBootstrap(): Promise<void> {
    this.starting ??= this.start();
    return this.starting;
  }

  private async start(): Promise<void> {
    this.built = await buildAgent(this.platform);
    const { agent, kubernetes } = this.built;
    const { health, metrics } = this.platform;
    health.register('cluster', () => {
      const unread = [...agent.inventory.states()].filter(([, state]) => state === 'starting' || state === 'unreachable').map(([resource]) => resource);
      return { ok: unread.length === 0, state: unread.length === 0 ? `${agent.phase}: every kind is read` : `not read: ${unread.join(', ')}` };
    });
    registerGauges(metrics, [
      { name: 'upid_collector_count', help: 'What the agent has counted since its start, by name', labels: ['name'] },
      { name: 'upid_collector_spool_batches', help: 'Messages that wait for the bus' }, { name: 'upid_collector_spool_bytes', help: 'Their bytes on disk' },
      { name: 'upid_collector_kubernetes_calls', help: 'Calls of the agent to the API server since its start', labels: ['verb', 'resource', 'status'] },
      { name: 'upid_collector_sleepers', help: 'Workloads that sleep by our doing', labels: ['state'] },
    ], () => Promise.resolve([
      ...Object.entries(agent.counters()).map(([name, value]) => ({ name: 'upid_collector_count', labels: { name }, value })),
      { name: 'upid_collector_spool_batches', value: agent.publisher.depth.batches }, { name: 'upid_collector_spool_bytes', value: agent.publisher.depth.bytes },
      ...[...kubernetes.callCounts()].map(({ verb, resource, status, calls }) => ({ name: 'upid_collector_kubernetes_calls', labels: { verb, resource, status }, value: calls })),
      ...['asleep', 'waking', 'stuck'].map((state) => ({ name: 'upid_collector_sleepers', labels: { state }, value: agent.actuation.sleepers().filter((each) => each.state === state).length })),
    ]));
    await agent.start();
  }

  async onModuleDestroy(): Promise<void> {
    await this.built?.agent.stop();
    this.built?.kubernetes.close();
  }
}

@Module({})
export class CollectorModule {
  static of(platform: Platform<CollectorConfig>): DynamicModule {
    return { module: CollectorModule, providers: [{ provide: AgentRunner, useFactory: () => new AgentRunner(platform) }] };
  }
}

/** The agent as a service: it is ready without the bus, and without a database. */
export const collectorDefinition: ServiceDefinition<typeof collectorSettings> = {
  name: 'collector', settings: collectorSettings, module: (platform) => CollectorModule.of(platform), busInBackground: true, busName: (config) => agentUserName(config.clusterId),
};
