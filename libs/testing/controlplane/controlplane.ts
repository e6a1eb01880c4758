/** A real Kubernetes control plane on loopback, for tests: started in seconds, in a folder of its own, ended with the test. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { appendFile, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { get as httpGet } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ManagedProcess, freePort, removeDirectory, temporaryDirectory } from '../processes.js';
import { waitFor } from '../wait.js';
import { KubernetesApi, type KubernetesObject, type Manifest, type RawAnswer, inParallel } from './api.js';
import { type Progress, buildControlPlane, packageRoot, progressOnStderr } from './build.js';
import {
  COMPONENTS, type ComponentName, type ComponentSettings, KUBELET_PORT, type Layout, NODE_NETWORK, STATIC_USERS, type StaticUser,
  auditLog, commandLines, configurationFiles, kubeconfig, kubeconfigOf, kubeletSocket, metricsApi, pki,
} from './components.js';
import { Kubelets, getThroughProxy } from './kubelet.js';
import { type NodeOptions, nodeObject } from './nodes.js';
import { type SimulatedUsage, usageAnnotations } from './usage.js';

export interface ControlPlaneOptions extends ComponentSettings {
  /** Parts to start besides etcd and the API server; default all. Without kwok there are no nodes. */
  components?: readonly ComponentName[];
  /** How many nodes the kubelets' certificate has addresses for; default 1000. */
  maxNodes?: number;
  /** Where it is said what is being waited for; default standard error. */
  progress?: Progress;
}

/** The parts of a Pod that tests look at most. */
export interface Pod extends KubernetesObject {
  metadata: NonNullable<KubernetesObject['metadata']> & { name: string; namespace: string; uid: string };
  spec: { nodeName?: string; containers: { name: string; image: string; resources?: { requests?: Record<string, string>; limits?: Record<string, string> } }[] };
  status: { phase?: string; podIP?: string; startTime?: string; conditions?: { type: string; status: string }[] };
}

/** What to ask of the API server's authorizer about a service account. */
export interface Access {
  verb: string;
  resource: string;
  group?: string;
  subresource?: string;
  namespace?: string;
  name?: string;
}

/** One request as the API server recorded it (audit.k8s.io/v1, level Metadata). */
export interface AuditEvent {
  verb: string;
  requestURI: string;
  user: { username: string };
  userAgent?: string;
  objectRef?: { resource?: string; subresource?: string; namespace?: string; name?: string; apiGroup?: string };
  responseStatus?: { code: number };
}

const run = promisify(execFile);

/** Starts a control plane, after building it if that has not been done yet (minutes, once). Ready in 5 to 10 s on two cores. */
export async function startControlPlane(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
  const build = await buildControlPlane(options.progress ?? progressOnStderr);
  const directory = await temporaryDirectory('kube');
  const ports = {
    etcd: await freePort(), etcdPeers: await freePort(), apiServer: await freePort(),
    kwok: await freePort(), kubelets: await freePort(), metricsServer: await freePort(),
  };
  const tokens = Object.fromEntries(Object.keys(STATIC_USERS).map((user) => [user, randomBytes(16).toString('hex')])) as Record<StaticUser, string>;
  const layout: Layout = { directory, ports, tokens };
  for (const folder of ['pki', 'logs', 'podlogs']) await mkdir(join(directory, folder));
  await run(build.program, ['pki', join(directory, 'pki'), NODE_NETWORK, String(options.maxNodes ?? 1000)]);
  const ca = await readFile(pki(layout, 'ca.crt'), 'utf8');
  const server = `https://127.0.0.1:${ports.apiServer}`;
  const files = configurationFiles(layout);
  for (const user of Object.keys(STATIC_USERS) as StaticUser[]) files[kubeconfigOf(layout, user)] = kubeconfig(server, ca, user, tokens[user]);
  for (const [path, text] of Object.entries(files)) await writeFile(path, text, { mode: 0o600 });

  const controlPlane = new ControlPlane(layout, new KubernetesApi({ server, ca, token: tokens.admin }), build.program, options, {
    cert: await readFile(pki(layout, 'kubelet.crt'), 'utf8'), key: await readFile(pki(layout, 'kubelet.key'), 'utf8'), ca,
  });
  try {
    await controlPlane.start(await readFile(build.kwokManifests, 'utf8'));
  } catch (error) {
    await controlPlane.stop();
    throw error;
  }
  return controlPlane;
}

/** Where it falls it is started again, as a node's own supervisor would: without it no pod runs and none uses anything. */
const KWOK_REVIVALS = 20;
/** A simulated kubelet runs a pod within seconds, hundreds of them within some ten; one that lost the API server may come back a minute later. */
const KUBELET_PATIENCE_MS = 90_000;
/** How long kwok's start waits for the leases of the one before it to go. */
const LEASES_PATIENCE_MS = 5_000;

/** A running control plane. Made by {@link startControlPlane}. */
export class ControlPlane implements AsyncDisposable {
  /** The kubelets of all nodes: faults, routes to pods. */
  readonly kubelets: Kubelets;
  readonly #layout: Layout;
  readonly #options: ControlPlaneOptions;
  readonly #processes: Map<ComponentName, ManagedProcess>;
  readonly #logs = new Map<string, { containers: Set<string>; last: Promise<unknown> }>();
  #nodes = 0;
  #reviving: Promise<void> | undefined;
  readonly #ordinals = new Map<string, number>();

  constructor(layout: Layout, /** The API, as an administrator. */ readonly api: KubernetesApi, program: string, options: ControlPlaneOptions, tls: { cert: string; key: string; ca: string }) {
    this.#layout = layout;
    this.#options = options;
    this.kubelets = new Kubelets({
      api, kwokPort: layout.ports.kwok, socketPath: kubeletSocket(layout), tls,
      ensureLog: (namespace, pod, container) => this.#ensureLog(namespace, pod, container), reviveKwok: (why) => this.#reviveKwok(why),
    });
    const wanted = new Set<ComponentName>(['etcd', 'kube-apiserver', ...(options.components ?? COMPONENTS)]);
    const lines = commandLines(layout, options);
    this.#processes = new Map(COMPONENTS.filter((name) => wanted.has(name)).map((name) => [name, new ManagedProcess({
      name, command: program, args: lines[name].args, cwd: layout.directory, logFile: join(layout.directory, 'logs', `${name}.log`),
      env: { HTTP_PROXY: '', HTTPS_PROXY: '', NO_PROXY: '127.0.0.1,localhost', ...lines[name].env },
      ...(name === 'kwok' ? { revivals: KWOK_REVIVALS, beforeStart: () => this.#freeNodes() } : {}),
    })]));
  }

  /** Everything it writes lies here: logs/COMPONENT.log among it. */
  get directory(): string {
    return this.#layout.directory;
  }

  /** Kubeconfig of an administrator; it needs no other file. */
  get kubeconfigPath(): string {
    return kubeconfigOf(this.#layout, 'admin');
  }

  /** `https://127.0.0.1:port` of the API server. */
  get server(): string {
    return this.api.address.server;
  }

  /** PEM of the CA that signed the API server's and the kubelets' certificates. */
  get ca(): string {
    return this.api.address.ca;
  }

  /** An administrator's token. */
  get token(): string {
    return this.api.address.token;
  }

  /** HTTP CONNECT proxy through which alone kubelets are reached: `https://NODE_INTERNAL_IP:10250` by way of it. */
  get kubeletProxyUrl(): string {
    return this.kubelets.proxyUrl;
  }

  /** One of the processes, to stop, kill, hang and start again. */
  process(name: ComponentName): ManagedProcess {
    const process = this.#processes.get(name);
    if (process === undefined) throw new Error(`${name} is not part of this control plane.`);
    return process;
  }

  /** Makes the parts run and waits until each serves. Called once, by {@link startControlPlane}. */
  async start(kwokManifests: string): Promise<void> {
    await this.kubelets.start(this.#layout.ports.kubelets);
    await this.process('etcd').start();
    await this.process('kube-apiserver').start();
    await this.waitForApi();
    if (this.#processes.has('kwok')) {
      await this.api.apply(kwokManifests);
      for (const file of ['pods.yaml', 'usage.yaml']) await this.api.apply(await readFile(join(packageRoot, 'controlplane', 'kwok', file), 'utf8'));
    }
    if (this.#processes.has('metrics-server')) await this.api.apply(metricsApi(this.#layout));
    await this.#startControllers();
  }

  /**
   * Starts everything again that talks to the API server. After the API server was away, controllers, scheduler and kubelets
   * come back by client-go's own back-off, up to a minute later; a test that goes on at once says this first.
   */
  async restartControllers(): Promise<void> {
    await Promise.all(this.#controllers.map((name) => this.process(name).kill()));
    await this.#startControllers();
  }

  get #controllers(): ComponentName[] {
    return COMPONENTS.filter((name) => this.#processes.has(name) && name !== 'etcd' && name !== 'kube-apiserver');
  }

  async #startControllers(): Promise<void> {
    const names = this.#controllers;
    await Promise.all(names.map((name) => this.process(name).start()));
    await Promise.all(names.map((name) => this.#serves(name)));
  }

  /** Waits until the API server answers, for example after a restart. */
  async waitForApi(): Promise<void> {
    const alive = async () => {
      for (const name of ['etcd', 'kube-apiserver'] as const) await this.process(name).assertRunning();
    };
    await waitFor('the API server to be ready', () => this.#apiReady(), { timeoutMs: 120_000, alive });
  }

  async #apiReady(): Promise<boolean> {
    return (await this.api.raw('GET', '/readyz', undefined, { signal: AbortSignal.timeout(2_000) })).status === 200;
  }

  /** {@link KubernetesApi.apply} */
  apply(manifests: string | Manifest | readonly Manifest[], namespace?: string): Promise<KubernetesObject[]> {
    return this.api.apply(manifests, namespace);
  }

  /** Adds nodes and waits until they are ready. @returns their names */
  async addNodes(count: number, options: NodeOptions = {}): Promise<string[]> {
    const prefix = options.namePrefix ?? 'node';
    const maxNodes = this.#options.maxNodes ?? 1000;
    if (this.#nodes + count > maxNodes) throw new Error(`This control plane was started for ${maxNodes} nodes (maxNodes).`);
    const first = this.#ordinals.get(prefix) ?? 0;
    const nodes = Array.from({ length: count }, (_, i) => nodeObject(this.#nodes + i, first + i, options));
    this.#nodes += count;
    this.#ordinals.set(prefix, first + count);
    await inParallel(nodes, 32, async (node) => {
      await this.api.call('POST', '/api/v1/nodes', node);
    });
    const names = nodes.map(({ metadata }) => metadata?.name ?? '');
    await waitFor(`${count} new nodes to be ready`, async () => {
      type Node = KubernetesObject & { status: { conditions?: { type: string; status: string }[] } };
      const ready = (await this.api.list<Node>('/api/v1/nodes')).filter(({ status }) => isTrue(status.conditions, 'Ready')).map(({ metadata }) => metadata?.name);
      return names.every((name) => ready.includes(name));
    }, { timeoutMs: 120_000, intervalMs: 100 });
    return names;
  }

  /** The pods of a namespace, or of all; by labels when a selector is given (`app=web`). */
  pods(namespace: string | null = null, labelSelector = ''): Promise<Pod[]> {
    return this.api.list<Pod>(namespace === null ? '/api/v1/pods' : `/api/v1/namespaces/${namespace}/pods`, labelSelector === '' ? {} : { labelSelector });
  }

  /** Waits until exactly so many pods exist, all of them ready, none of them on its way out. */
  async waitForPods(namespace: string | null, labelSelector: string, count: number, timeoutMs = 60_000): Promise<Pod[]> {
    let waitingMs = Date.now();
    const alive = async () => {
      for (const name of ['kube-controller-manager', 'kube-scheduler'] as const) await this.#processes.get(name)?.assertRunning();
    };
    return waitFor(`${count} ready pods of ${namespace ?? 'all namespaces'} with ${labelSelector || 'any labels'}`, async () => {
      const pods = await this.pods(namespace, labelSelector);
      const ready = pods.every(({ metadata, status }) => metadata.deletionTimestamp === undefined && isTrue(status.conditions, 'Ready'));
      if (pods.length === count && ready) return pods;
      const forgotten = pods.find(({ spec, status }) => spec.nodeName !== undefined && status.phase === 'Pending');
      if (forgotten === undefined) waitingMs = Date.now();
      else if (Date.now() - waitingMs > KUBELET_PATIENCE_MS) {
        await this.#reviveKwok(`pod ${forgotten.metadata.name} is on its node and does not run`);
        waitingMs = Date.now();
      }
      throw new Error(`there are ${pods.length}: ${pods.map((pod) => `${pod.metadata.name} ${describePod(pod)}`).join(', ')}`);
    }, { timeoutMs, intervalMs: 100, alive });
  }

  /** Sets the replicas of a workload by its scale subresource. */
  async scale(kind: 'Deployment' | 'StatefulSet' | 'ReplicaSet', namespace: string, name: string, replicas: number): Promise<void> {
    const path = await this.api.pathOf({ apiVersion: 'apps/v1', kind, metadata: { name, namespace } });
    await this.api.call('PATCH', `${path}/scale`, { spec: { replicas } });
  }

  /** Changes what running pods use from now on; `pods` is a pod's name or a label selector (with `=` in it). */
  async setUsage(namespace: string, pods: string, usage: SimulatedUsage): Promise<void> {
    const names = pods.includes('=') ? (await this.pods(namespace, pods)).map(({ metadata }) => metadata.name) : [pods];
    if (names.length === 0) throw new Error(`No pod of ${namespace} has ${pods}.`);
    await inParallel(names, 16, async (name) => {
      await this.api.call('PATCH', `/api/v1/namespaces/${namespace}/pods/${name}`, { metadata: { annotations: usageAnnotations(usage) } });
    });
  }

  /** Waits until metrics.k8s.io has figures for every pod that runs (two looks of metrics-server at the kubelets). */
  async waitForMetrics(namespace: string, labelSelector = '', timeoutMs = 90_000): Promise<void> {
    await waitFor(`metrics.k8s.io to know the pods of ${namespace}`, async () => {
      const query = labelSelector === '' ? '' : `?labelSelector=${encodeURIComponent(labelSelector)}`;
      const known = await this.api.call<{ items: unknown[] }>('GET', `/apis/metrics.k8s.io/v1beta1/namespaces/${namespace}/pods${query}`);
      const running = (await this.pods(namespace, labelSelector)).filter(({ status }) => status.phase === 'Running');
      return running.length > 0 && known.items.length >= running.length;
    }, { timeoutMs, intervalMs: 500 });
  }

  /** Appends lines to a container's log, as its runtime would; whoever follows it sees them. Times are those of the writing, or `at`. */
  async writePodLog(namespace: string, pod: string, container: string, lines: readonly string[], { stream = 'stdout', at = new Date() }: { stream?: 'stdout' | 'stderr'; at?: Date } = {}): Promise<void> {
    await this.#ensureLog(namespace, pod, container);
    const stamp = at.toISOString().replace('Z', '000000Z');
    await appendFile(this.#logFile(namespace, pod, container), lines.map((line) => `${stamp} ${stream} F ${line}\n`).join(''));
  }

  /** Rotates a container's log as a kubelet does: the file is renamed and a new one begun. Followers go on with the new one. */
  async rotatePodLog(namespace: string, pod: string, container: string): Promise<void> {
    const file = this.#logFile(namespace, pod, container);
    await rename(file, `${file}.${Date.now()}`);
    await appendFile(file, '');
  }

  /** Asks a node's kubelet directly, by way of the proxy, as a scraper would. @param token default an administrator's; null for none */
  async askKubelet(node: string, path: string, token: string | null = this.token): Promise<RawAnswer> {
    type Node = KubernetesObject & { status: { addresses: { type: string; address: string }[] } };
    const { status } = await this.api.call<Node>('GET', `/api/v1/nodes/${node}`);
    const address = status.addresses.find(({ type }) => type === 'InternalIP')?.address ?? '';
    return getThroughProxy(this.kubeletProxyUrl, `https://${address}:${KUBELET_PORT}${path}`, this.ca, token);
  }

  /** A kubeconfig with a new token of a service account, to act with exactly its rights. */
  async serviceAccountKubeconfig(namespace: string, name: string, expirationSeconds = 3600): Promise<{ path: string; token: string }> {
    const request = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds } };
    const { status: { token } } = await this.api.call<{ status: { token: string } }>('POST', `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`, request);
    const path = join(this.directory, `${namespace}-${name}-${randomBytes(4).toString('hex')}.kubeconfig`);
    await writeFile(path, kubeconfig(this.server, this.ca, name, token), { mode: 0o600 });
    return { path, token };
  }

  /** Whether a service account may do something, by a SubjectAccessReview. */
  async mayServiceAccount(namespace: string, name: string, access: Access): Promise<boolean> {
    const review = await this.api.call<{ status: { allowed: boolean } }>('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', {
      apiVersion: 'authorization.k8s.io/v1', kind: 'SubjectAccessReview',
      spec: {
        user: `system:serviceaccount:${namespace}:${name}`,
        groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
        resourceAttributes: access,
      },
    });
    return review.status.allowed;
  }

  /** All requests so far, when the control plane was started with `audit`. */
  async auditEvents(): Promise<AuditEvent[]> {
    const text = await readFile(auditLog(this.#layout), 'utf8');
    // The last line may be half written.
    return text.slice(0, text.lastIndexOf('\n') + 1).split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as AuditEvent);
  }

  /** Ends everything and removes its folder. */
  async stop(): Promise<void> {
    // Nothing here is worth an end in good order; etcd last, so that none complains.
    for (const name of [...COMPONENTS].reverse()) await this.#processes.get(name)?.kill();
    await this.kubelets.stop();
    this.api.close();
    await removeDirectory(this.directory);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Now and then kwok runs and does nothing for as long as it lives; the end of its log may say why. Without an API server it is not to blame. */
  #reviveKwok(why: unknown): Promise<void> {
    const kwok = this.process('kwok');
    const revive = async () => {
      if (!(await this.#apiReady())) return;
      process.stderr.write(`kwok does not do its part (${String(why)}) and is started again. The end of its log:\n${await kwok.logTail()}\n`);
      await kwok.kill();
      await kwok.start();
      await this.#serves('kwok');
    };
    if (kwok.running) this.#reviving ??= revive().finally(() => { this.#reviving = undefined; });
    return this.#reviving ?? Promise.resolve();
  }

  /** kwok signs its nodes' leases with a new name at each start, and would wait for those of its last life to run out (40 s) before it does anything. */
  async #freeNodes(): Promise<void> {
    await this.api.raw('DELETE', '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases', undefined, { signal: AbortSignal.timeout(LEASES_PATIENCE_MS) })
      // Without an API server there is nothing to do for it either; it waits then.
      .catch(() => undefined);
  }

  async #serves(name: ComponentName): Promise<void> {
    const alive = () => this.process(name).assertRunning();
    const options = { timeoutMs: 60_000, alive };
    if (name === 'kwok') {
      await waitFor('kwok to serve', async () => (await this.#askKwok('/healthz')) === 200, options);
    } else if (name === 'kube-controller-manager') {
      await waitFor('the default service account', () => this.api.call('GET', '/api/v1/namespaces/default/serviceaccounts/default'), options);
    } else if (name === 'metrics-server') {
      await waitFor('metrics.k8s.io to be served', () => this.api.call('GET', '/apis/metrics.k8s.io/v1beta1'), options);
    }
  }

  #logFile(namespace: string, pod: string, container: string): string {
    return join(this.directory, 'podlogs', `${namespace}_${pod}_${container}.log`);
  }

  /** Each container has a log, empty at first; kwok is told where it lies by one Logs object a pod. */
  #ensureLog(namespace: string, pod: string, container: string): Promise<void> {
    const key = `${namespace}/${pod}`;
    const log = this.#logs.get(key) ?? { containers: new Set<string>(), last: Promise.resolve() };
    this.#logs.set(key, log);
    const turn = log.last.catch(() => undefined).then(async () => {
      if (log.containers.has(container)) return;
      await appendFile(this.#logFile(namespace, pod, container), '');
      const logs = [...log.containers, container].map((one) => ({ containers: [one], logsFile: this.#logFile(namespace, pod, one), follow: true }));
      await this.api.apply({ apiVersion: 'kwok.x-k8s.io/v1alpha1', kind: 'Logs', metadata: { name: pod, namespace }, spec: { logs } } as Manifest);
      await waitFor(`kwok to serve the log of ${key}`, async () => (await this.#askKwok(`/containerLogs/${key}/${container}?limitBytes=1`)) === 200);
      log.containers.add(container);
    });
    log.last = turn;
    return turn;
  }

  #askKwok(path: string): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      httpGet({ host: '127.0.0.1', port: this.#layout.ports.kwok, path }, (response) => {
        response.resume();
        resolve(response.statusCode);
      }).once('error', reject);
    });
  }
}

function isTrue(conditions: { type: string; status: string }[] | undefined, type: string): boolean {
  return conditions?.some((condition) => condition.type === type && condition.status === 'True') ?? false;
}

function describePod({ metadata, spec, status }: Pod): string {
  const where = spec.nodeName === undefined ? 'on no node' : `on ${spec.nodeName}`;
  return `(${status.phase ?? 'without a phase'}, ${where}${isTrue(status.conditions, 'Ready') ? ', ready' : ''}${metadata.deletionTimestamp === undefined ? '' : ', on its way out'})`;
}
