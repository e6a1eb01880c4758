import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { accessLine, type AccessLog } from './access-log.js';
import type { SimulatedCluster } from './cluster.js';
import { cadvisorMetrics, resourceMetrics, statsSummary, type Figures } from './figures.js';
import { kubeTime, uidOf } from './objects.js';
import { jsonPatch, mergePatch, StatusError, type KubeObject, type WatchEvent } from './store.js';

/** A resource that the server knows. */
interface ResourceInfo {
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  readonly kind: string;
  readonly namespaced: boolean;
  readonly subresources: readonly string[];
  /** Whether clients may create and delete its objects. */
  readonly writable: boolean;
}

const resource = (group: string, name: string, kind: string, namespaced = true, subresources: readonly string[] = [], writable = false): ResourceInfo => ({ group, version: group === 'autoscaling' ? 'v2' : 'v1', resource: name, kind, namespaced, subresources, writable });
const RESOURCES: readonly ResourceInfo[] = [
  resource('', 'nodes', 'Node', false, ['proxy', 'status']), resource('', 'namespaces', 'Namespace', false), resource('', 'pods', 'Pod', true, ['log', 'status', 'resize']), resource('', 'services', 'Service'), resource('', 'configmaps', 'ConfigMap', true, [], true), resource('', 'events', 'Event', true, [], true),
  resource('', 'replicationcontrollers', 'ReplicationController'), resource('', 'persistentvolumeclaims', 'PersistentVolumeClaim'),
  resource('apps', 'deployments', 'Deployment', true, ['scale', 'status']), resource('apps', 'statefulsets', 'StatefulSet', true, ['scale', 'status']), resource('apps', 'daemonsets', 'DaemonSet', true, ['status']), resource('apps', 'replicasets', 'ReplicaSet', true, ['scale', 'status']), resource('apps', 'controllerrevisions', 'ControllerRevision'),
  resource('batch', 'jobs', 'Job'), resource('batch', 'cronjobs', 'CronJob'), resource('networking.k8s.io', 'ingresses', 'Ingress'), resource('autoscaling', 'horizontalpodautoscalers', 'HorizontalPodAutoscaler'), resource('policy', 'poddisruptionbudgets', 'PodDisruptionBudget'), resource('coordination.k8s.io', 'leases', 'Lease', true, [], true),
];
const GROUPS = [...new Set(RESOURCES.map((each) => each.group).filter((group) => group !== ''))];
const OTHER_GROUPS = ['metrics.k8s.io', 'authorization.k8s.io'];
const LONGEST_BODY = 3 * 1024 * 1024;

interface Asked {
  readonly info: ResourceInfo;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly rest: readonly string[];
}

/** Speaks enough of the Kubernetes API for an agent: discovery, paged lists, watches, writes with conditions, scale, kubelets by the node proxy, logs. */
export class KubernetesApi {
  private readonly server: Server;
  private readonly open = new Set<ServerResponse>();

  constructor(private readonly cluster: SimulatedCluster, private readonly figures: Figures, private readonly log: AccessLog) {
    this.server = createServer((request, response) => {
      this.handle(request, response).catch((error: unknown) => this.refuse(response, error));
    });
  }

  async listen(port: number, host = '127.0.0.1'): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(port, host, () => resolve());
    });
    const address = this.server.address();
    return typeof address === 'object' && address !== null ? address.port : port;
  }

  async close(): Promise<void> {
    for (const response of this.open) response.end();
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://cluster');
    const parts = url.pathname.split('/').filter((part) => part !== '').map(decodeURIComponent);
    const method = request.method ?? 'GET';
    if (parts[0] === 'simulator') return this.control(parts, method, response);
    if (['healthz', 'readyz', 'livez'].includes(parts[0] ?? '')) return void response.writeHead(200, { 'content-type': 'text/plain' }).end('ok');
    if (parts[0] === 'version') return json(response, { major: '1', minor: this.cluster.scenario.cluster.version.split('.')[1] ?? '36', gitVersion: this.cluster.scenario.cluster.version, platform: 'linux/amd64' });
    if (parts[0] === 'api' && parts.length === 1) return json(response, { kind: 'APIVersions', versions: ['v1'] });
    if (parts[0] === 'apis' && parts.length === 1) return json(response, { kind: 'APIGroupList', apiVersion: 'v1', groups: [...GROUPS, ...OTHER_GROUPS].map(groupOf) });
    if (parts[0] === 'apis' && parts.length === 2) return json(response, { kind: 'APIGroup', apiVersion: 'v1', ...groupOf(known(parts[1])) });
    if (parts[0] === 'apis' && parts[1] === 'metrics.k8s.io') return this.metrics(parts.slice(3), response);
    if (parts[0] === 'apis' && parts[1] === 'authorization.k8s.io') return this.review(await body(request), response);
    const [group, version, rest] = parts[0] === 'api' ? ['', parts[1], parts.slice(2)] : parts[0] === 'apis' ? [parts[1] ?? '', parts[2], parts.slice(3)] : ['-', undefined, []];
    const resources = RESOURCES.filter((each) => each.group === group && each.version === version);
    if (resources.length === 0) throw new StatusError(404, 'NotFound', 'the server could not find the requested resource');
    if (rest.length === 0) return json(response, { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: group === '' ? version : `${group}/${version}`, resources: resources.flatMap((each) => [each.resource, ...each.subresources.map((sub) => `${each.resource}/${sub}`)].map((name) => ({ name, kind: each.kind, namespaced: each.namespaced, verbs: ['get', 'list', 'watch', 'create', 'update', 'patch', 'delete'] }))) });
    const asked = find(resources, rest);
    if (asked.name === undefined) return method === 'POST' ? this.create(asked, url, await body(request), response) : this.collection(asked, url, request, response);
    if (asked.rest[0] === 'proxy' && asked.info.resource === 'nodes') return this.kubelet(asked.name, asked.rest.slice(1).join('/'), response);
    if (asked.rest[0] === 'log') return this.podLog(asked, url, response);
    return this.single(asked, method, url, request, response);
  }

  // ------------------------------------------------------------------ reading

  private collection({ info, namespace }: Asked, url: URL, request: IncomingMessage, response: ServerResponse): void {
    const metadataOnly = (request.headers.accept ?? '').includes('PartialObjectMetadata');
    const matches = selector(url);
    if (url.searchParams.get('watch') === 'true' || url.searchParams.get('watch') === '1') return this.watch(info, namespace, url, matches, metadataOnly, response);
    const all = this.cluster.store.list(info.resource, namespace).filter(matches).sort((a, b) => key(a).localeCompare(key(b)));
    const limit = Number(url.searchParams.get('limit') ?? 0);
    const after = url.searchParams.get('continue');
    const from = after ? all.findIndex((each) => key(each) > Buffer.from(after, 'base64url').toString()) : 0;
    const rest = from === -1 ? [] : all.slice(from);
    const page = limit > 0 ? rest.slice(0, limit) : rest;
    const last = page[page.length - 1];
    json(response, {
      kind: metadataOnly ? 'PartialObjectMetadataList' : `${info.kind}List`, apiVersion: metadataOnly ? 'meta.k8s.io/v1' : apiVersion(info),
      metadata: { resourceVersion: String(this.cluster.store.resourceVersion), ...(last && page.length < rest.length ? { continue: Buffer.from(key(last)).toString('base64url'), remainingItemCount: rest.length - page.length } : {}) },
      items: page.map((each) => (metadataOnly ? partial(each) : each)),
    });
  }

  private watch(info: ResourceInfo, namespace: string | undefined, url: URL, matches: (object: KubeObject) => boolean, metadataOnly: boolean, response: ServerResponse): void {
    const version = Number(url.searchParams.get('resourceVersion') ?? this.cluster.store.resourceVersion) || this.cluster.store.resourceVersion;
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    this.open.add(response);
    const send = (type: string, object: unknown) => response.write(`${JSON.stringify({ type, object })}\n`);
    let stop: () => void = () => undefined;
    try {
      stop = this.cluster.store.watch(info.resource, version, (event: WatchEvent) => {
        if (namespace !== undefined && event.object.metadata.namespace !== namespace) return;
        if (matches(event.object)) send(event.type, metadataOnly ? partial(event.object) : event.object);
      });
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
      send('ERROR', status(error));
      response.end();
    }
    const bookmarks = setInterval(() => send('BOOKMARK', { kind: info.kind, apiVersion: apiVersion(info), metadata: { resourceVersion: String(this.cluster.store.resourceVersion), creationTimestamp: null } }), 30_000);
    const timeout = setTimeout(() => response.end(), 1000 * (Number(url.searchParams.get('timeoutSeconds')) || 600));
    response.once('close', () => {
      stop();
      clearInterval(bookmarks);
      clearTimeout(timeout);
      this.open.delete(response);
    });
  }

  private kubelet(node: string, path: string, response: ServerResponse): void {
    this.cluster.store.get('nodes', undefined, node);
    const now = this.cluster.nowMs();
    const text = (content: string) => void response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(content);
    switch (path) {
      case 'metrics/resource':
        return text(resourceMetrics(this.cluster, this.figures, node, now));
      case 'metrics/cadvisor':
        return text(cadvisorMetrics(this.cluster, this.figures, node, now));
      case 'stats/summary':
        return json(response, statsSummary(this.cluster, this.figures, node, now));
      case 'healthz':
        return text('ok');
      default:
        throw new StatusError(404, 'NotFound', `the kubelet has no ${path}`);
    }
  }

  private metrics(rest: readonly string[], response: ServerResponse): void {
    const now = this.cluster.nowMs();
    const minute = Math.floor(now / 60_000);
    const stamp = { timestamp: kubeTime(now), window: '15s' };
    if (rest.length === 0) return json(response, { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: 'metrics.k8s.io/v1beta1', resources: [{ name: 'nodes', namespaced: false, kind: 'NodeMetrics', verbs: ['get', 'list'] }, { name: 'pods', namespaced: true, kind: 'PodMetrics', verbs: ['get', 'list'] }] });
    const namespace = rest[0] === 'namespaces' ? rest[1] : undefined;
    const usage = (cpuMillicores: number, memoryBytes: number) => ({ cpu: `${Math.round(cpuMillicores * 1e6)}n`, memory: `${Math.round(memoryBytes / 1024)}Ki` });
    if (rest[rest.length - 1] === 'nodes') {
      return json(response, {
        kind: 'NodeMetricsList', apiVersion: 'metrics.k8s.io/v1beta1', metadata: {}, items: this.cluster.nodes.map((node) => {
          const each = this.cluster.podsOn(node.name).map((pod) => this.cluster.usage(pod, minute));
          return { metadata: { name: node.name }, ...stamp, usage: usage(each.reduce((sum, one) => sum + one.cpuMillicores, 0), each.reduce((sum, one) => sum + one.memoryBytes, 0)) };
        }),
      });
    }
    json(response, {
      kind: 'PodMetricsList', apiVersion: 'metrics.k8s.io/v1beta1', metadata: {},
      items: [...this.cluster.runningPods()].filter((pod) => namespace === undefined || pod.object.metadata.namespace === namespace).map((pod) => {
        const each = this.cluster.usage(pod, minute);
        return { metadata: { name: pod.object.metadata.name, namespace: pod.object.metadata.namespace }, ...stamp, containers: [{ name: pod.container, usage: usage(each.cpuMillicores, each.memoryBytes) }] };
      }),
    });
  }

  private podLog({ namespace, name }: Asked, url: URL, response: ServerResponse): void {
    const pod = this.cluster.store.get('pods', namespace, name ?? '');
    const controller = pod.metadata.labels?.['app.kubernetes.io/name'] === 'ingress-nginx';
    const stamps = url.searchParams.get('timestamps') === 'true';
    const sinceTime = url.searchParams.get('sinceTime');
    const sinceSeconds = url.searchParams.get('sinceSeconds');
    const since = sinceTime ? Date.parse(sinceTime) : sinceSeconds ? this.cluster.nowMs() - Number(sinceSeconds) * 1000 : 0;
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.flushHeaders();
    const write = (line: { ms: number; text: string }) => response.write(`${stamps ? `${new Date(line.ms).toISOString().replace('Z', '000000Z')} ` : ''}${line.text}\n`);
    if (controller) for (const line of this.log.since(since)) write(line);
    if (url.searchParams.get('follow') !== 'true') return void response.end();
    this.open.add(response);
    const unfollow = controller ? this.log.follow(write) : () => undefined;
    const unwatch = this.cluster.store.watch('pods', this.cluster.store.resourceVersion, (event) => {
      if (event.type === 'DELETED' && event.object.metadata.uid === pod.metadata.uid) response.end();
    });
    response.once('close', () => {
      unfollow();
      unwatch();
      this.open.delete(response);
    });
  }

  // ------------------------------------------------------------------ writing

  private create({ info, namespace }: Asked, url: URL, value: unknown, response: ServerResponse): void {
    const object = value as KubeObject;
    if (!info.writable) throw new StatusError(403, 'Forbidden', `${info.resource} cannot be created in a simulated cluster`);
    if (!object?.metadata?.name) throw new StatusError(422, 'Invalid', 'metadata.name is required');
    if (namespace !== undefined) this.cluster.store.get('namespaces', undefined, namespace);
    const now = this.cluster.nowMs();
    const dryRun = url.searchParams.get('dryRun') === 'All';
    const created = this.cluster.store.create(info.resource, { ...object, apiVersion: apiVersion(info), kind: info.kind, metadata: { ...object.metadata, ...(namespace === undefined ? {} : { namespace }), uid: uidOf(this.cluster.scenario.seed, info.resource, namespace ?? '', object.metadata.name, now), creationTimestamp: kubeTime(now) } }, dryRun);
    if (!dryRun) this.cluster.written(info.resource, created);
    json(response, created, 201);
  }

  private async single({ info, namespace, name, rest }: Asked, method: string, url: URL, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { store } = this.cluster;
    const object = store.get(info.resource, namespace, name ?? '');
    const [sub] = rest;
    if (sub !== undefined && !info.subresources.includes(sub)) throw new StatusError(404, 'NotFound', 'the server could not find the requested resource');
    if (method === 'GET') return json(response, sub === 'scale' ? scaleOf(object) : object);
    const dryRun = url.searchParams.get('dryRun') === 'All';
    if (method === 'DELETE') {
      if (!info.writable) throw new StatusError(403, 'Forbidden', `${info.resource} cannot be deleted in a simulated cluster`);
      const conditions = ((await body(request)) as { preconditions?: { uid?: string; resourceVersion?: string } } | null)?.preconditions;
      if ((conditions?.uid && conditions.uid !== object.metadata.uid) || (conditions?.resourceVersion && conditions.resourceVersion !== object.metadata.resourceVersion)) throw new StatusError(409, 'Conflict', 'a precondition does not hold');
      if (!dryRun) store.delete(info.resource, namespace, name ?? '');
      this.cluster.written(info.resource, object);
      return json(response, { kind: 'Status', apiVersion: 'v1', status: 'Success' });
    }
    if (!info.writable && this.cluster.workloadOf(info.resource, namespace ?? '', name ?? '') === undefined) throw new StatusError(403, 'Forbidden', `${info.resource} cannot be changed in a simulated cluster`);
    const next = method === 'PUT' ? ((await body(request)) as KubeObject) : patched(sub === 'scale' ? scaleOf(object) : object, await body(request), request.headers['content-type'] ?? '');
    const updated = store.update(info.resource, sub === 'scale' ? withScale(object, next) : { ...next, metadata: { ...next.metadata, name: object.metadata.name, namespace: object.metadata.namespace } } as KubeObject, dryRun);
    if (!dryRun) this.cluster.written(info.resource, updated);
    const now = dryRun ? updated : store.get(info.resource, namespace, name ?? '');
    json(response, sub === 'scale' ? scaleOf(now) : now);
  }

  /** Everything but reading Secrets is allowed: there are none. */
  private review(value: unknown, response: ServerResponse): void {
    const review = value as { spec?: { resourceAttributes?: { resource?: string } } };
    json(response, { ...review, status: { allowed: review?.spec?.resourceAttributes?.resource !== 'secrets' } }, 201);
  }

  /** `POST /simulator/requests/NAMESPACE/SERVICE[?path=/x]`: a person's request at the ingress, to see a sleeper wake. */
  private control(parts: readonly string[], method: string, response: ServerResponse): void {
    const [, what, namespace = '', service = ''] = parts;
    if (method !== 'POST' || what !== 'requests') throw new StatusError(404, 'NotFound', 'POST /simulator/requests/NAMESPACE/SERVICE sends a request to the ingress');
    const workload = this.cluster.scenario.workloads.find((each) => each.namespace === namespace && each.name === service && each.ingress);
    if (!workload) throw new StatusError(404, 'NotFound', `no ingress leads to ${namespace}/${service}`);
    const ms = this.cluster.nowMs();
    const upstream = this.cluster.podsOf(workload)[0]?.object.status?.podIP as string | undefined;
    this.log.write({ ms, text: accessLine({ ms, namespace, service, path: '/', agent: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', status: upstream ? 200 : 503, seconds: 0.03, client: '203.0.113.7', upstream: upstream ? `${upstream}:8080` : null, id: ms.toString(16) }) });
    json(response, { status: upstream ? 200 : 503 }, 202);
  }

  private refuse(response: ServerResponse, error: unknown): void {
    const known = error instanceof StatusError ? error : new StatusError(error instanceof SyntaxError ? 400 : 500, error instanceof SyntaxError ? 'BadRequest' : 'InternalError', error instanceof Error ? error.message : String(error));
    if (response.headersSent) response.end();
    else json(response, status(known), known.code);
  }
}

function known(group: string | undefined): string {
  if (group === undefined || ![...GROUPS, ...OTHER_GROUPS].includes(group)) throw new StatusError(404, 'NotFound', 'the server could not find the requested resource');
  return group;
}

function groupOf(name: string): Record<string, unknown> {
  const version = name === 'metrics.k8s.io' ? 'v1beta1' : (RESOURCES.find((each) => each.group === name)?.version ?? 'v1');
  const groupVersion = { groupVersion: `${name}/${version}`, version };
  return { name, versions: [groupVersion], preferredVersion: groupVersion };
}

function find(resources: readonly ResourceInfo[], rest: readonly string[]): Asked {
  const inNamespace = rest[0] === 'namespaces' && rest.length > 2;
  const [name, ...more] = inNamespace ? rest.slice(2) : rest;
  const info = resources.find((each) => each.resource === name);
  if (!info) throw new StatusError(404, 'NotFound', 'the server could not find the requested resource');
  return { info, namespace: inNamespace ? rest[1] : undefined, name: more[0], rest: more.slice(1) };
}

function apiVersion({ group, version }: ResourceInfo): string {
  return group === '' ? version : `${group}/${version}`;
}

function key(object: KubeObject): string {
  return `${object.metadata.namespace ?? ''}/${object.metadata.name}`;
}

function partial(object: KubeObject): unknown {
  return { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata };
}

/** labelSelector (`a=b`, `a!=b`, `a`, `a in (b,c)`) and fieldSelector (metadata.name, metadata.namespace, spec.nodeName). */
function selector(url: URL): (object: KubeObject) => boolean {
  const labels = (url.searchParams.get('labelSelector') ?? '').split(/,(?![^(]*\))/).filter((part) => part !== '').map((part) => {
    const set = /^(\S+) in \(([^)]*)\)$/.exec(part.trim());
    if (set) return (has: Record<string, string>) => (set[2] ?? '').split(',').map((each) => each.trim()).includes(has[set[1] ?? ''] ?? '');
    const [, name = '', op = '', value = ''] = /^([^!=]+)(!=|==?|)(.*)$/.exec(part.trim()) ?? [];
    return (has: Record<string, string>) => (op === '' ? name in has : op === '!=' ? has[name] !== value : has[name] === value);
  });
  const fields = (url.searchParams.get('fieldSelector') ?? '').split(',').filter((part) => part !== '').map((part) => part.split('='));
  const field = (object: KubeObject, name: string) => (name === 'metadata.name' ? object.metadata.name : name === 'metadata.namespace' ? object.metadata.namespace : name === 'spec.nodeName' ? (object.spec?.nodeName as string | undefined) : undefined);
  return (object) => labels.every((matches) => matches(object.metadata.labels ?? {})) && fields.every(([name, value]) => field(object, name ?? '') === value);
}

function patched(object: unknown, patch: unknown, contentType: string): KubeObject {
  if (contentType.startsWith('application/json-patch+json')) return jsonPatch(object, patch as { op: string; path: string; value?: unknown }[]) as KubeObject;
  const strategic = contentType.startsWith('application/strategic-merge-patch+json') || contentType.startsWith('application/apply-patch');
  if (!strategic && !contentType.startsWith('application/merge-patch+json')) throw new StatusError(415, 'UnsupportedMediaType', `a patch is JSON patch, merge patch or strategic merge patch, not ${contentType}`);
  return mergePatch(object as never, patch as never, strategic) as unknown as KubeObject;
}

function scaleOf(object: KubeObject): KubeObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  // As the real server: zero replicas are left out of the spec.
  const replicas = object.spec?.replicas as number | undefined;
  return { kind: 'Scale', apiVersion: 'autoscaling/v1', metadata: { name, ...(namespace === undefined ? {} : { namespace }), uid, resourceVersion, creationTimestamp }, spec: replicas ? { replicas } : {}, status: { replicas: (object.status?.replicas as number | undefined) ?? 0 } };
}

function withScale(object: KubeObject, scale: KubeObject): KubeObject {
  return { ...object, metadata: { ...object.metadata, resourceVersion: scale.metadata?.resourceVersion ?? object.metadata.resourceVersion, uid: scale.metadata?.uid ?? object.metadata.uid }, spec: { ...object.spec, replicas: (scale.spec?.replicas as number | undefined) ?? 0 } };
}

function status(error: StatusError): unknown {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message: error.message, reason: error.reason, code: error.code };
}

function json(response: ServerResponse, value: unknown, code = 200): void {
  response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

async function body(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    length += (chunk as Buffer).length;
    if (length > LONGEST_BODY) throw new StatusError(413, 'RequestEntityTooLarge', 'the body is too large');
    chunks.push(chunk as Buffer);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  return text === '' ? null : (JSON.parse(text) as unknown);
}
