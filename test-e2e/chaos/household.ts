/**
 * UPID with two replicas of everything, for tests that kill: servers and services as the launcher gives them their keys and rights, a standby
 * agent that waits for the Lease, and whatever ends is started again, as a supervisor does.
 */
import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { createUser } from '@nats-io/nkeys';
import { GatewayClient } from '@upid/cli/client';
import { platformUsers, seedFile } from '@upid/cli/up/bus-users';
import { apiKeysFile } from '@upid/cli/up/keys';
import { STREAMS, type Policy } from '@upid/contracts';
import { agentUserName, connectBus, natsConfig, nkeyFile, platformUser, type Bus } from '@upid/platform';
import { type ControlPlane, freePort, ManagedProcess, startNats, startPostgres, startRedis, temporaryDirectory, type TestNats, type TestPostgres, type TestServer, waitFor } from '@upid/testing';
import { stringify } from 'yaml';

const ROOT = join(import.meta.dirname, '..', '..');
const REPLICAS = 2;
const READY_WITHIN_MS = 120_000;
const API_KEY = 'upid_test-of-kills';
/** How long whatever ended by itself rests before it is started again. */
const RESTART_MS = 250;

export const SCHEMAS = ['intelligence', 'cost', 'optimizer', 'gateway'] as const;

export interface HouseholdOptions {
  readonly clusterId: string;
  readonly kubeconfig: string;
  /** A further cluster, whose agent is the test. */
  readonly publisherId: string;
  readonly policy: Policy;
}

/** What can be killed and started again. */
export interface Victim {
  readonly name: string;
  /** With SIGKILL. */
  kill(): Promise<void>;
  revive(): Promise<void>;
}

/** One replica of a service, started again when it ends by itself. */
class Replica implements Victim {
  private wanted = false;
  private watching: Promise<void> = Promise.resolve();
  /** How often it ended although nobody killed it. */
  fell = 0;

  constructor(private readonly process: ManagedProcess, private readonly healthPort: number) {}

  get name(): string {
    return this.process.name;
  }

  get logFile(): string {
    return this.process.description.logFile;
  }

  async kill(): Promise<void> {
    await this.rest();
    await this.process.kill();
  }

  async revive(): Promise<void> {
    await this.process.start();
    this.wanted = true;
    this.watching = this.watch();
  }

  async stop(): Promise<void> {
    await this.rest();
    await this.process.stop(30_000);
  }

  isReady(): Promise<boolean> {
    return fetch(`http://127.0.0.1:${this.healthPort}/health/ready`, { signal: AbortSignal.timeout(3_000) }).then((answer) => answer.ok, () => false);
  }

  private async rest(): Promise<void> {
    this.wanted = false;
    await this.watching;
  }

  private async watch(): Promise<void> {
    while (this.wanted) {
      if (!this.process.running) {
        this.fell++;
        await delay(RESTART_MS);
        if (this.wanted) await this.process.start();
      }
      await delay(50);
    }
  }
}

export class ChaosHousehold implements AsyncDisposable {
  readonly replicas: Replica[] = [];
  private gateways: { readonly client: GatewayClient }[] = [];

  private constructor(
    private readonly options: HouseholdOptions, private readonly directory: string, readonly nats: TestNats, readonly postgres: TestPostgres, readonly redis: TestServer, readonly databaseUrl: string,
    /** May read every stream. */ readonly auditor: Bus, /** As the further cluster's agent. */ readonly agent: Bus,
  ) {}

  static async start(cluster: ControlPlane, options: HouseholdOptions): Promise<ChaosHousehold> {
    const directory = await temporaryDirectory('chaos');
    const keys = join(directory, 'keys');
    const agents = await Promise.all([options.clusterId, options.publisherId].map(async (clusterId) => ({ clusterId, ...(await nkeyFile(seedFile(keys, agentUserName(clusterId)))) })));
    const reader = createUser();
    const auditor = platformUser({ name: 'auditor', publicKey: reader.getPublicKey(), consumes: STREAMS.map(({ name }) => `${name}/*`) });
    const config = natsConfig({ platformUsers: [...(await platformUsers(keys)), auditor], agents });
    const [nats, postgres, redis] = await Promise.all([startNats({ own: true, config }), startPostgres({ own: true }), startRedis({ own: true })]);
    const stopServers = async () => { await Promise.all([nats.stop(), postgres.stop(), redis.stop()]); };
    try {
      const { url: databaseUrl } = await postgres.createDatabase('chaos');
      const publisher = agents[1];
      const household = new ChaosHousehold(
        options, directory, nats, postgres, redis, databaseUrl, await connectBus({ url: nats.url, name: 'auditor', nkeySeed: new TextDecoder().decode(reader.getSeed()) }), await connectBus({ url: nats.url, name: agentUserName(options.publisherId), nkeySeed: publisher?.seed ?? '' }),
      );
      try {
        await household.startReplicas(cluster, keys);
      } catch (error) {
        const told = await household.complaints();
        await household[Symbol.asyncDispose]();
        throw new Error(`UPID could not be started:\n${told}`, { cause: error });
      }
      return household;
    } catch (error) {
      await stopServers();
      throw error;
    }
  }

  /** Everything that may be killed. The cache is not among them: it may be lost at any time, and holds nothing. */
  victims(): Victim[] {
    const server = (name: string, each: TestServer): Victim => ({ name, kill: () => each.kill(), revive: () => each.start() });
    return [...this.replicas, server('nats', this.nats), server('postgres', this.postgres)];
  }

  /** The gateway that answers: one after the other is asked. */
  async ask<T>(how: (client: GatewayClient) => Promise<T>): Promise<T> {
    const [first, ...others] = this.gateways;
    if (first === undefined) throw new Error('there is no gateway');
    try {
      return await how(first.client);
    } catch (error) {
      this.gateways = [...others, first];
      throw error;
    }
  }

  /** Waits until every replica says that it is ready (a standby agent is). */
  async ready(): Promise<void> {
    await waitFor('every replica to be ready', async () => (await Promise.all(this.replicas.map((each) => each.isReady()))).every(Boolean), { timeoutMs: READY_WITHIN_MS, intervalMs: 200 });
  }

  /** Ends the agents in good order. */
  async stopAgents(): Promise<void> {
    await Promise.all(this.replicas.filter(({ name }) => name.startsWith('collector')).map((each) => each.stop()));
  }

  /** Warnings and errors at the end of every log. */
  async complaints(lines = 12): Promise<string> {
    const told = await Promise.all(this.replicas.map(async ({ name, logFile, fell }) => {
      const text = await readFile(logFile, 'utf8').catch(() => 'it has no log');
      const notable = text.split('\n').filter((line) => /"level":"(error|fatal)"/.test(line) || (line !== '' && !line.startsWith('{')));
      return `--- ${name} (ended ${fell} times by itself)\n${notable.slice(-lines).map((line) => line.slice(0, 600)).join('\n')}`;
    }));
    return told.join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.replicas.map((each) => each.stop()));
    await Promise.all([this.agent.drain(), this.auditor.drain()]);
    await Promise.all([this.nats.stop(), this.postgres.stop(), this.redis.stop()]);
  }

  private async startReplicas(cluster: ControlPlane, keys: string): Promise<void> {
    await promisify(execFile)(process.execPath, [join(ROOT, 'scripts', 'build.mjs')], { cwd: ROOT });
    const { clusterId, publisherId, kubeconfig, policy } = this.options;
    const signing = await nkeyFile(seedFile(keys, 'command-signing'));
    const [policyFile, keysFile, apiKeyFile] = [join(this.directory, 'policy.yaml'), join(this.directory, 'api-keys.json'), join(this.directory, 'api-key')];
    await Promise.all([writeFile(policyFile, stringify(policy)), writeFile(keysFile, JSON.stringify(apiKeysFile(API_KEY))), writeFile(apiKeyFile, API_KEY)]);
    const common = { NODE_ENV: 'production', UPID_NATS_URL: this.nats.url, UPID_DATABASE_URL: this.databaseUrl, UPID_REDIS_URL: this.redis.url, UPID_POLICY_FILE: policyFile };
    for (let number = 1; number <= REPLICAS; number++) {
      const port = await freePort();
      const spool = join(this.directory, `spool-${number}`);
      await mkdir(spool);
      const own: Record<string, Record<string, string>> = {
        intelligence: { UPID_ASSESS_SECONDS: '5' },
        cost: {},
        optimizer: { UPID_COMMAND_SEED_FILE: seedFile(keys, 'command-signing'), UPID_ACTUATION_CLUSTERS: clusterId },
        gateway: { UPID_PORT: String(port), UPID_API_KEYS_FILE: keysFile },
        collector: {
          UPID_NATS_NKEY_SEED_FILE: seedFile(keys, agentUserName(clusterId)), UPID_CLUSTER_ID: clusterId, UPID_CLUSTER_NAME: `${clusterId} beside ${publisherId}`, UPID_KUBECONFIG: kubeconfig, UPID_KUBELET_PROXY_URL: cluster.kubeletProxyUrl, UPID_SPOOL_DIR: spool, UPID_SCRAPE_SECONDS: '15',
          UPID_ACTUATION: 'true', UPID_COMMAND_PUBLIC_KEY: signing.publicKey,
        },
      };
      for (const [service, settings] of Object.entries(own)) {
        const healthPort = await freePort();
        const name = `${service}-${number}`;
        this.replicas.push(new Replica(new ManagedProcess({
          name, command: process.execPath, args: [join(ROOT, 'services', service, 'dist', 'main.js')], cwd: ROOT, logFile: join(this.directory, `${name}.log`),
          env: { ...common, UPID_NATS_NKEY_SEED_FILE: seedFile(keys, service), ...settings, UPID_HEALTH_PORT: String(healthPort) },
        }), healthPort));
      }
      this.gateways.push({ client: await GatewayClient.open(`http://127.0.0.1:${port}`, apiKeyFile) });
    }
    await Promise.all(this.replicas.map((each) => each.revive()));
    await this.ready();
  }
}
