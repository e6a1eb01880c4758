import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { agentUserName, freePort, natsConfig, nkeyFile, type ServerHandle, startNats, startPostgres, startRedis } from '@upid/platform';
import { platformUsers, seedFile } from './bus-users.js';
import { apiKeysFile } from './keys.js';
import type { StateFolder } from './state.js';
import { type ProcessSpec, type RunningProcess, startNode } from './supervisor.js';

/** What is to be run. */
export interface HouseholdOptions {
  readonly root: string;
  readonly state: StateFolder;
  readonly port: number;
  readonly clusterId: string;
  readonly clusterName: string;
  /** The cluster the agent attaches to: the demo, or a kubeconfig's context. */
  readonly cluster: { readonly kind: 'demo'; readonly scenario: string } | { readonly kind: 'kubeconfig'; readonly file: string; readonly context: string | null };
  readonly allowChanges: boolean;
  readonly env: NodeJS.ProcessEnv;
}

/** Everything that is started, in this order. */
export interface Household {
  readonly specs: readonly ProcessSpec[];
  readonly url: string;
  /** Where the servers are, by the variables that services are told by; once they have been started. */
  serverUrls(): Record<string, string>;
}

function running(handle: ServerHandle): RunningProcess {
  return { pid: handle.pid, exited: handle.exited.then(() => 'ended'), stop: () => handle.stop() };
}

/** A server of ours on a port that stays the same for as long as the household lives. */
function server(name: string, start: () => Promise<ServerHandle>): { spec: ProcessSpec; url(): string } {
  let handle: ServerHandle | null = null;
  return {
    url: () => {
      if (!handle) throw new Error(`${name} has not been started`);
      return handle.url;
    },
    // The starters return when the server answers: nothing more to wait for.
    spec: { name, start: async () => running((handle = await start())), ready: async () => true },
  };
}

async function answersOk(url: string): Promise<boolean> {
  return fetch(url, { signal: AbortSignal.timeout(2_000) }).then((response) => response.ok, () => false);
}

/** Plans the household: which servers and services run, and with what environment. Nothing is started yet; keys are made. */
export async function planHousehold(options: HouseholdOptions): Promise<Household> {
  const { state, env, root } = options;
  const keys = state.path('keys');
  const users = await platformUsers(keys);
  const agent = await nkeyFile(seedFile(keys, agentUserName(options.clusterId)));
  const signing = await nkeyFile(seedFile(keys, 'command-signing'));
  const apiKey = await state.apiKey();
  const keysFile = join(keys, 'api-keys.json');
  await writeFile(keysFile, JSON.stringify(apiKeysFile(apiKey), null, 2), { mode: 0o600 });

  const specs: ProcessSpec[] = [];
  const urls: (() => Record<string, string>)[] = [];
  if (env.UPID_NATS_URL) urls.push(() => ({ UPID_NATS_URL: env.UPID_NATS_URL ?? '' }));
  else {
    const port = await freePort();
    const nats = server('nats', () => startNats({ dir: state.path('data', 'nats'), port, config: natsConfig({ platformUsers: users, agents: [{ clusterId: options.clusterId, publicKey: agent.publicKey }] }) }));
    specs.push(nats.spec);
    urls.push(() => ({ UPID_NATS_URL: nats.url() }));
  }
  if (env.UPID_DATABASE_URL) urls.push(() => ({ UPID_DATABASE_URL: env.UPID_DATABASE_URL ?? '' }));
  else {
    const port = await freePort();
    const postgres = server('postgres', () => startPostgres({ dir: state.path('data', 'postgres'), port }));
    specs.push(postgres.spec);
    urls.push(() => ({ UPID_DATABASE_URL: postgres.url() }));
  }
  if (env.UPID_REDIS_URL) urls.push(() => ({ UPID_REDIS_URL: env.UPID_REDIS_URL ?? '' }));
  else {
    const port = await freePort();
    const redis = server('redis', () => startRedis({ dir: state.path('data', 'redis'), port }));
    specs.push(redis.spec);
    urls.push(() => ({ UPID_REDIS_URL: redis.url() }));
  }

  const serverUrls = (): Record<string, string> => Object.assign({}, ...urls.map((each) => each())) as Record<string, string>;
  /** Without a server of ours there are no keys of ours on it: whoever set UPID_NATS_URL gives its credentials too. */
  const seed = (user: string): NodeJS.ProcessEnv => (env.UPID_NATS_URL ? {} : { UPID_NATS_NKEY_SEED_FILE: seedFile(keys, user) });
  const add = async (name: string, entry: string, own: NodeJS.ProcessEnv) => {
    const healthPort = await freePort();
    specs.push({
      name,
      start: () => startNode({
        entry: join(root, entry), cwd: root, logFile: state.path('logs', `${name}.log`),
        env: { ...env, NODE_ENV: 'production', UPID_STATE_DIR: state.dir, UPID_HEALTH_PORT: String(healthPort), ...serverUrls(), ...own },
      }),
      ready: () => answersOk(`http://127.0.0.1:${healthPort}/health/ready`),
    });
  };

  await add('intelligence', 'services/intelligence/dist/main.js', seed('intelligence'));
  await add('cost', 'services/cost/dist/main.js', seed('cost'));
  const mayAct = options.cluster.kind === 'demo' || options.allowChanges;
  await add('optimizer', 'services/optimizer/dist/main.js', { ...seed('optimizer'), UPID_COMMAND_SEED_FILE: seedFile(keys, 'command-signing'), UPID_ACTUATION_CLUSTERS: mayAct ? options.clusterId : '' });
  await add('gateway', 'services/gateway/dist/main.js', { ...seed('gateway'), UPID_PORT: String(options.port), UPID_API_KEYS_FILE: keysFile });

  let cluster: NodeJS.ProcessEnv;
  if (options.cluster.kind === 'demo') {
    const apiPort = await freePort();
    const prometheusPort = await freePort();
    const folder = state.path('data', 'simulator');
    await mkdir(folder, { recursive: true });
    await add('simulator', 'simulator/dist/main.js', {
      UPID_SIMULATOR_SCENARIO: options.cluster.scenario, UPID_SIMULATOR_PORT: String(apiPort), UPID_SIMULATOR_PROMETHEUS_PORT: String(prometheusPort), UPID_SIMULATOR_DIR: folder,
    });
    cluster = { UPID_KUBECONFIG: join(folder, 'kubeconfig'), UPID_PROMETHEUS_URL: `http://127.0.0.1:${prometheusPort}`, // The demo's Prometheus serves nobody else.
      UPID_BACKFILL_DAYS: '14', UPID_BACKFILL_LOAD: '1', UPID_KUBELET_MODE: 'node-proxy', UPID_DEMO: 'true', UPID_SCRAPE_SECONDS: '15' };
  } else {
    cluster = { UPID_KUBECONFIG: options.cluster.file, ...(options.cluster.context === null ? {} : { UPID_KUBE_CONTEXT: options.cluster.context }) };
  }
  await add('collector', 'services/collector/dist/main.js', {
    ...seed(agentUserName(options.clusterId)), ...cluster, UPID_CLUSTER_ID: options.clusterId, UPID_CLUSTER_NAME: options.clusterName, UPID_SPOOL_DIR: state.path('spool'),
    UPID_ACTUATION: String(mayAct), UPID_COMMAND_PUBLIC_KEY: signing.publicKey,
  });
  return { specs, url: `http://127.0.0.1:${options.port}`, serverUrls };
}
