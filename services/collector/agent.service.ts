import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { commandText, type ClusterObject, type Command } from '@upid/contracts';
import { ActuationService, type ActuationPort } from './actuation/actuation.service.js';
import { HeartbeatService, type HeartbeatBus } from './actuation/heartbeat.service.js';
import { SleeperWatch } from './actuation/sleepers.service.js';
import type { BackfillService } from './backfill/backfill.service.js';
import { discoverCapabilities } from './connection/capabilities.js';
import { clusterFingerprint, discover, mayAll, type AccessQuestion, type DiscoveryApi } from './connection/discovery.service.js';
import { Leadership, LeadershipLostError, type LeaseApi } from './connection/leadership.service.js';
import type { WatchApi } from './connection/resource-watch.service.js';
import { aborted, delay } from './connection/waiting.service.js';
import { InventoryService } from './inventory/inventory.service.js';
import { InventoryState } from './inventory/state.js';
import { Publisher, type PublishPort, type SpoolPort } from './publishing/publisher.service.js';
import { recogniseCluster } from './recognition/cluster.js';
import type { ClassRules } from './requests/classes.js';
import type { LogApi } from './requests/log-follower.service.js';
import { RequestsService } from './requests/requests.service.js';
import { UsageService, type UsageMode, type UsagePorts } from './usage/usage.service.js';

export interface AgentLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface AgentOptions {
  readonly clusterId: string;
  readonly clusterName: string;
  readonly agentVersion: string;
  readonly demo: boolean;
  readonly timeZone: string | null;
  readonly systemNamespace: string;
  readonly spoolMaxBytes: number;
  readonly scrapeSeconds: number;
  readonly usageModes: (mayProxyNodes: () => Promise<boolean>) => Promise<readonly UsageMode[]>;
  readonly ingressNamespace: string;
  readonly ingressSelector: Readonly<Record<string, string>>;
  readonly acceptsClass: (ingressClass: string | null) => boolean;
  readonly classRules: ClassRules;
  readonly actuation: boolean;
  /** Whether a text carries the optimizer's signature. */
  readonly verify: (text: string, signature: string) => boolean;
  readonly prometheus: boolean;
}

/** What the agent stands on. */
export interface AgentPorts {
  readonly kubernetes: WatchApi & DiscoveryApi & LeaseApi & LogApi;
  readonly bus: PublishPort & HeartbeatBus & { serve(subject: string, handler: (raw: unknown) => Promise<unknown>): Promise<void>; watch(listener: (state: string) => void): void };
  readonly spool: SpoolPort & { readState(name: string): Promise<unknown>; writeState(name: string, value: unknown): Promise<void> };
  readonly cluster: ActuationPort;
  readonly usage: UsagePorts;
  /** null without a Prometheus. */
  readonly backfill: ((publisher: Publisher, state: InventoryState) => BackfillService) | null;
  readonly log: AgentLog;
  /** Ends the process: another agent has taken over, and this one must not work beside it. */
  readonly abdicate: (why: string) => void;
}

const HEARTBEAT_MS = 10_000;
const DESCRIBE_EVERY_MS = 60_000;
/** Soon after the start its sources become known. */
const DESCRIBE_FIRST_MS = 10_000;
const RECOVER_RETRY_MS = 2_000;
const INVENTORY_PATIENCE_MS = 30_000;
const DRAIN_MS = 8_000;
const IDENTITY_FILE = 'identity.json';
const HOLD_FILE = 'hold.json';

/** Rights without which nothing can be changed. */
const ACTUATION_RIGHTS = (namespace: string): AccessQuestion[] => [
  { verb: 'update', group: 'apps', resource: 'deployments', subresource: 'scale' }, { verb: 'patch', group: 'apps', resource: 'deployments' }, { verb: 'create', resource: 'configmaps', namespace },
];

/** One cluster's agent: everything it does, and in which order it starts and ends. */
export class Agent {
  readonly state = new InventoryState();
  readonly publisher: Publisher;
  readonly inventory: InventoryService;
  readonly usage: Promise<UsageService>;
  readonly requests: RequestsService;
  readonly actuation: ActuationService;
  readonly sleepers: SleeperWatch;
  private leadership: Leadership | null = null;
  private readonly stopped = new AbortController();
  private readonly running: Promise<unknown>[] = [];
  private mayAct = false;
  private fingerprint = '';
  /** `starting`, `standby` (another agent holds the lease), `working`. */
  phase: 'starting' | 'standby' | 'working' = 'starting';

  constructor(private readonly options: AgentOptions, private readonly ports: AgentPorts) {
    const { kubernetes, bus, spool, log } = ports;
    const common = { log, delay };
    // Every loop of the agent waits on it.
    setMaxListeners(0, this.stopped.signal);
    this.publisher = new Publisher(options.clusterId, bus, spool, { maxBytes: options.spoolMaxBytes, log });
    this.inventory = new InventoryService(kubernetes, this.state, this.publisher, { ...common, random: Math.random });
    this.usage = options.usageModes(() => mayAll(kubernetes, [{ verb: 'get', resource: 'nodes', subresource: 'proxy' }]))
      .then((modes) => new UsageService(this.state, ports.usage, this.publisher, spool, { ...common, modes, scrapeSeconds: options.scrapeSeconds }));
    this.requests = new RequestsService(kubernetes, this.state, this.publisher, spool, {
      ...common, namespace: options.ingressNamespace, selector: options.ingressSelector, rules: options.classRules, acceptsClass: options.acceptsClass,
      apiAnswers: async () => { await kubernetes.get('/version'); },
    });
    this.actuation = new ActuationService(ports.cluster, this.state, this.publisher, {
      clusterId: options.clusterId, enabled: options.actuation, verify: options.verify, signedTexts, log,
    });
    this.sleepers = new SleeperWatch(this.actuation, ports.cluster, { logLostSinceMs: () => this.requests.lostSinceMs(), busConnected: () => bus.state === 'connected' }, spool, common);
    this.requests.onBusiness((workload, timeMs) => this.sleepers.onBusiness(workload, timeMs));
    this.inventory.onObject((resource, change, object) => this.sleepers.onObject(resource, change, object));
  }

  /** Starts everything, each part as soon as what it stands on is there. Resolves when the agent reads its cluster. */
  async start(): Promise<void> {
    const { bus, log, kubernetes } = this.ports;
    bus.watch((state) => { if (state === 'connected') this.publisher.wake(); });
    this.fingerprint = await clusterFingerprint(kubernetes);
    await this.publisher.start();
    this.leadership = await this.lease();
    await this.recallHold();
    this.inventory.start();
    this.run(this.work(this.leadership), (error) => log.error({ error: error instanceof Error ? error.message : String(error) }, 'the agent cannot work'));
  }

  /** Ends in order: what is complete is published or lies in the spool. */
  async stop(): Promise<void> {
    this.stopped.abort();
    await this.inventory.stop();
    await Promise.allSettled(this.running);
    const emptied = await this.publisher.drain(DRAIN_MS);
    if (!emptied) this.ports.log.info(this.publisher.depth, 'what could not be published waits in the spool');
    await this.publisher.stop();
    await this.leadership?.release().catch((error: unknown) => this.ports.log.info({ error: error instanceof Error ? error.message : String(error) }, 'the lease could not be given up'));
  }

  // -------------------------------------------------------------- working

  private async lease(): Promise<Leadership> {
    const { spool, kubernetes, log } = this.ports;
    const kept = await spool.readState(IDENTITY_FILE);
    const { identity = randomUUID() } = (typeof kept === 'object' && kept !== null ? kept : {}) as { identity?: string };
    // An agent that comes back with its spool is the same one: it need not wait for its own lease to run out.
    await spool.writeState(IDENTITY_FILE, { identity });
    return new Leadership(kubernetes, { namespace: this.options.systemNamespace, name: 'upid-agent', identity, log, delay });
  }

  private async work(leadership: Leadership): Promise<void> {
    const { signal } = this.stopped;
    const { log, abdicate } = this.ports;
    this.phase = 'standby';
    await leadership.acquire(signal);
    if (signal.aborted) return;
    this.phase = 'working';
    log.info({ guarded: leadership.state === 'leader' }, 'this agent works for its cluster');
    this.run(leadership.keep(signal), (error) => { if (error instanceof LeadershipLostError) abdicate(error.message); });

    await this.recover(signal);
    this.run(this.heartbeats(signal));
    this.serve();
    // What sleeps is watched from here on, whatever else cannot be read yet.
    this.run(this.sleepers.run(signal));
    this.run(this.sayWhatIsMissing(signal));
    await Promise.race([this.inventory.resolvable, aborted(signal)]);
    if (signal.aborted) return;
    this.run(this.requests.run(signal));
    this.run(this.usage.then((usage) => usage.run(signal)));
    await Promise.race([this.inventory.ready, aborted(signal)]);
    if (signal.aborted) return;
    await this.describe();
    this.inventory.publish();
    this.run(this.describing(signal));
    const backfill = this.ports.backfill?.(this.publisher, this.state);
    if (backfill !== undefined) this.run(backfill.run(signal));
  }

  private async sayWhatIsMissing(signal: AbortSignal): Promise<void> {
    const done = await Promise.race([this.inventory.ready.then(() => true), delay(INVENTORY_PATIENCE_MS, signal).then(() => signal.aborted)]);
    if (done) return;
    const missing = [...this.inventory.states()].filter(([, state]) => state === 'starting' || state === 'unreachable').map(([resource]) => resource);
    this.ports.log.warn({ missing }, 'the inventory is not complete yet: it is told when it is');
  }

  /** Records first: a sleeper is watched, and no command is taken, before what was done is known. */
  private async recover(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.actuation.recover();
        return;
      } catch (error) {
        // Without the right to read records there are none: nothing was ever changed by this agent.
        if ((error as { status?: unknown }).status === 403) return;
        this.ports.log.warn({ error: error instanceof Error ? error.message : String(error) }, 'records of changes cannot be read yet');
        await delay(RECOVER_RETRY_MS, signal);
      }
    }
  }

  private serve(): void {
    const { bus, log } = this.ports;
    const prefix = `upid.cmd.v1.${this.options.clusterId}`;
    const failed = (error: unknown) => log.error({ error: error instanceof Error ? error.message : String(error) }, 'commands cannot be taken over the bus');
    bus.serve(`${prefix}.execute`, (raw) => this.actuation.receive(raw)).catch(failed);
    bus.serve(`${prefix}.snapshot`, async () => {
      this.inventory.requestSnapshot();
      return { accepted: true };
    }).catch(failed);
  }

  private async heartbeats(signal: AbortSignal): Promise<void> {
    const heart = new HeartbeatService(this.ports.bus, {
      clusterId: this.options.clusterId, epoch: this.publisher.epochId, fingerprint: this.fingerprint, agentVersion: this.options.agentVersion, actuation: this.options.actuation, log: this.ports.log,
      depth: () => this.publisher.depth, streams: () => this.requests.streams, sleepers: () => this.actuation.sleepers(), fence: () => this.actuation.fence, counters: () => this.counters(),
      receive: (command) => this.actuation.receive(command), wantSnapshot: () => this.inventory.requestSnapshot(),
      hold: async (held) => {
        if (held === this.actuation.held) return;
        this.actuation.held = held;
        await this.ports.spool.writeState(HOLD_FILE, { held });
      },
    });
    while (!signal.aborted) {
      await heart.beat();
      await delay(HEARTBEAT_MS, signal);
    }
  }

  private async recallHold(): Promise<void> {
    const kept = await this.ports.spool.readState(HOLD_FILE);
    this.actuation.held = (kept as { held?: unknown } | null)?.held === true;
  }

  /** Counts for the heartbeat and for metrics. */
  counters(): Record<string, number> {
    const { publisher, requests, actuation } = this;
    return {
      published: publisher.counters.published, publish_failures: publisher.counters.failed, dropped_batches: publisher.counters.droppedBatches, dropped_samples: publisher.counters.droppedSamples,
      log_lines: requests.counters.lines, log_entries: requests.counters.entries, log_unresolved: requests.counters.unresolved, commands: actuation.counters.commands, commands_refused: actuation.counters.refused,
      changes: actuation.counters.changes, wakes: actuation.counters.wakes,
    };
  }

  // -------------------------------------------------------------- the cluster itself

  private async describing(signal: AbortSignal): Promise<void> {
    for (let times = 0; !signal.aborted; times++) {
      await delay(times < 3 ? DESCRIBE_FIRST_MS : DESCRIBE_EVERY_MS, signal);
      if (!signal.aborted) await this.describe();
    }
  }

  /** Tells what the cluster is and can do; asked anew now and then. */
  private async describe(): Promise<void> {
    const { kubernetes } = this.ports;
    const { clusterName, agentVersion, demo, timeZone, systemNamespace, prometheus, actuation } = this.options;
    const discovery = await discover(kubernetes);
    if (actuation) this.mayAct = await mayAll(kubernetes, ACTUATION_RIGHTS(systemNamespace));
    const usage = await this.usage;
    const facts = recogniseCluster([...this.state.nodes()].map((node) => node.facts), discovery.serverVersion, discovery.groups);
    const capabilities = discoverCapabilities({
      ...discovery, services: this.state.knownServices().map(({ namespace, name }) => `${namespace}/${name}`), kubelet: usage.mode === 'direct' || usage.mode === 'node-proxy', accessLogs: this.requests.streams > 0, prometheus,
      actuation: actuation && this.mayAct,
    });
    const cluster: ClusterObject = {
      kind: 'Cluster', uid: this.fingerprint, name: clusterName, provider: facts.provider.value, provider_evidence: facts.provider.evidence, distribution: facts.distribution.value, distribution_evidence: facts.distribution.evidence,
      server_version: discovery.serverVersion, region: facts.region, time_zone: timeZone, capabilities, agent_version: agentVersion, demo,
    };
    this.inventory.setCluster(cluster);
  }

  private run(work: Promise<unknown>, failed: (error: unknown) => void = (error) => this.ports.log.error({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }, 'a part of the agent ended')): void {
    this.running.push(work.catch(failed));
  }
}

/** A command's signature covers it as it was sent; one that was sent with defaults left out is also taken as it was read. */
function signedTexts(raw: unknown, command: Command): string[] {
  return [commandText(raw as Command), commandText(command)];
}
