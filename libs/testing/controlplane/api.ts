/** A small client of the Kubernetes API for tests: plain HTTPS and JSON, every path and header in the caller's hands. */
import { Agent, type RequestOptions, request as httpsRequest } from 'node:https';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { parseAllDocuments } from 'yaml';
import { waitFor } from '../wait.js';

/** What every object of the Kubernetes API has; the rest by the caller's own type. */
export interface KubernetesObject {
  apiVersion?: string;
  kind?: string;
  metadata?: {
    name?: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    generation?: number;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    creationTimestamp?: string;
    deletionTimestamp?: string;
    ownerReferences?: { apiVersion: string; kind: string; name: string; uid: string; controller?: boolean }[];
  };
}

/** What can be applied: any object that says what it is, typed by hand or by a client library. */
export interface Manifest {
  apiVersion?: string;
  kind?: string;
  metadata?: { name?: string; namespace?: string };
}

/** A list of objects, as the API answers it. */
export interface KubernetesList<T> {
  items: T[];
  metadata: { resourceVersion: string; continue?: string; remainingItemCount?: number };
}

/** One event of a watch. An `ERROR` carries a Status: code 410 when the version asked for is too old. */
export interface WatchEvent<T> {
  type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  object: T;
}

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

export interface CallOptions {
  /** Bearer token in place of the client's own; null for none. */
  token?: string | null;
  /** Of the body. Default application/json; for PATCH application/merge-patch+json. */
  contentType?: string;
  headers?: Record<string, string>;
  /** Gives up on the request, or ends the stream. */
  signal?: AbortSignal;
}

/** An answer as it came, whatever its status. */
export interface RawAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
}

/** The API refused: `status` and `reason` as it gave them (404 NotFound, 409 Conflict, 403 Forbidden, ...). */
export class KubernetesApiError extends Error {
  constructor(readonly method: string, readonly path: string, readonly status: number, readonly reason: string, message: string) {
    super(`${method} ${path}: ${status} ${reason}: ${message}`);
    this.name = 'KubernetesApiError';
  }
}

interface Resource {
  path: string;
  plural: string;
  namespaced: boolean;
}

/** Where an API server is and how to speak to it. */
export interface ApiAddress {
  /** `https://host:port` */
  server: string;
  /** PEM. */
  ca: string;
  token: string;
}

export class KubernetesApi {
  readonly #agent: Agent;
  readonly #discovered = new Map<string, Map<string, Resource>>();

  constructor(readonly address: ApiAddress) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: 32, ca: address.ca });
  }

  /** Calls the API and gives the parsed answer; any status but 2xx is a {@link KubernetesApiError}. */
  async call<T = unknown>(method: Method, path: string, body?: unknown, options?: CallOptions): Promise<T> {
    const answer = await this.raw(method, path, body, options);
    if (answer.status < 200 || answer.status > 299) throw errorOf(method, path, answer);
    return (isJson(answer) ? JSON.parse(answer.text) : answer.text) as T;
  }

  /** Calls the API and gives the answer as it is: for asserting on refusals. */
  async raw(method: Method, path: string, body?: unknown, options: CallOptions = {}): Promise<RawAnswer> {
    const response = await this.open(method, path, body, options);
    response.setEncoding('utf8');
    let text = '';
    for await (const chunk of response) text += chunk as string;
    return { status: response.statusCode ?? 0, headers: response.headers, text };
  }

  /** Sends a request and gives the response to read from: for streams (watch, logs with follow). */
  open(method: Method, path: string, body?: unknown, options: CallOptions = {}): Promise<IncomingMessage> {
    const token = options.token === undefined ? this.address.token : options.token;
    const payload = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
    const headers: Record<string, string> = {
      accept: 'application/json',
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(payload === undefined ? {} : {
        'content-type': options.contentType ?? (method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'),
        'content-length': String(Buffer.byteLength(payload)),
      }),
      ...options.headers,
    };
    const how: RequestOptions = { method, headers, agent: this.#agent, signal: options.signal };
    return new Promise((resolve, reject) => {
      const request = httpsRequest(this.address.server + path, how, resolve);
      request.once('error', reject);
      request.end(payload);
    });
  }

  /** All objects under a collection's path, in pages. */
  async list<T = KubernetesObject>(path: string, query: Record<string, string> = {}): Promise<T[]> {
    const items: T[] = [];
    let more: string | undefined;
    do {
      const parameters = new URLSearchParams({ limit: '500', ...query, ...(more ? { continue: more } : {}) });
      const page = await this.call<KubernetesList<T>>('GET', `${path}?${parameters}`);
      items.push(...page.items);
      more = page.metadata.continue;
    } while (more);
    return items;
  }

  /** Events of a collection from a version on, until the server ends the watch or the signal aborts it. */
  async *watch<T = KubernetesObject>(path: string, resourceVersion: string, signal?: AbortSignal): AsyncGenerator<WatchEvent<T>> {
    const response = await this.open('GET', `${path}?watch=1&resourceVersion=${resourceVersion}`, undefined, { signal });
    if (response.statusCode !== 200) throw new KubernetesApiError('GET', path, response.statusCode ?? 0, 'WatchRefused', 'the watch was not opened');
    for await (const line of createInterface({ input: response })) yield JSON.parse(line) as WatchEvent<T>;
  }

  /**
   * Applies objects by server-side apply, as the owner `upid-test` and by force: YAML of any number of documents, one
   * object, or several. Namespaces and definitions of new kinds go first, and are waited for. What names no namespace
   * goes to `namespace`.
   * @returns the objects as the API has them now, in the order given
   */
  async apply(manifests: string | Manifest | readonly Manifest[], namespace = 'default'): Promise<KubernetesObject[]> {
    const objects = typeof manifests === 'string' ? parseManifests(manifests) : [manifests].flat() as Manifest[];
    const results = new Map<Manifest, KubernetesObject>();
    const first = objects.filter((object) => object.kind === 'Namespace' || object.kind === 'CustomResourceDefinition');
    for (const group of [first, objects.filter((object) => !first.includes(object))]) {
      await inParallel(group, 16, async (object) => {
        results.set(object, await this.#applyOne(object, namespace));
      });
      await Promise.all(group.map((object) => this.#usable(object)));
    }
    return objects.map((object) => results.get(object) as KubernetesObject);
  }

  /** The path of an object (or of its collection, when it has no name): `/apis/apps/v1/namespaces/shop/deployments/web`. */
  async pathOf(object: Manifest, namespace = 'default'): Promise<string> {
    const { path, plural, namespaced } = await this.#resource(object.apiVersion ?? 'v1', object.kind ?? '');
    const scope = namespaced ? `/namespaces/${object.metadata?.namespace ?? namespace}` : '';
    const name = object.metadata?.name;
    return `${path}${scope}/${plural}${name === undefined ? '' : `/${name}`}`;
  }

  /** Ends idle connections. */
  close(): void {
    this.#agent.destroy();
  }

  async #applyOne(object: Manifest, namespace: string): Promise<KubernetesObject> {
    const path = `${await this.pathOf(object, namespace)}?fieldManager=upid-test&force=true`;
    const send = () => this.raw('PATCH', path, object, { contentType: 'application/apply-patch+yaml' });
    let answer = await send();
    // A pod made by hand in a new namespace has to wait for the namespace's default service account.
    if (answer.status === 403 && answer.text.includes('serviceaccount')) {
      answer = await waitFor(`the service account of ${path}`, async () => {
        const again = await send();
        return again.status === 403 ? undefined : again;
      });
    }
    if (answer.status < 200 || answer.status > 299) throw errorOf('PATCH', path, answer);
    return JSON.parse(answer.text) as KubernetesObject;
  }

  /** Waits until objects of a newly defined kind can be applied. */
  async #usable(object: Manifest): Promise<void> {
    if (object.kind !== 'CustomResourceDefinition') return;
    const path = await this.pathOf(object);
    type Definition = { spec: { group: string; names: { kind: string }; versions: { name: string; served: boolean }[] }; status?: { conditions?: { type: string; status: string }[] } };
    const { spec } = await waitFor(`${path} to be established`, async () => {
      const definition = await this.call<Definition>('GET', path);
      return definition.status?.conditions?.some(({ type, status }) => type === 'Established' && status === 'True') ? definition : undefined;
    });
    for (const { name } of spec.versions.filter(({ served }) => served)) {
      // Served a moment after it is established.
      await waitFor(`the API to serve ${spec.names.kind} of ${spec.group}/${name}`, async () => (await this.#discover(`${spec.group}/${name}`)).has(spec.names.kind));
    }
  }

  async #resource(apiVersion: string, kind: string): Promise<Resource> {
    const known = this.#discovered.get(apiVersion)?.get(kind) ?? (await this.#discover(apiVersion)).get(kind);
    if (known === undefined) throw new Error(`The API serves no ${kind} of ${apiVersion}.`);
    return known;
  }

  async #discover(apiVersion: string): Promise<Map<string, Resource>> {
    const path = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const { resources } = await this.call<{ resources: { name: string; kind: string; namespaced: boolean }[] }>('GET', path);
    const kinds = new Map(resources.filter(({ name }) => !name.includes('/')).map(({ name, kind, namespaced }) => [kind, { path, plural: name, namespaced }]));
    this.#discovered.set(apiVersion, kinds);
    return kinds;
  }
}

/** The objects of a YAML text; `kind: List` is taken apart, empty documents are left out. */
export function parseManifests(text: string): KubernetesObject[] {
  return parseAllDocuments(text).flatMap((document) => {
    const [error] = document.errors;
    if (error) throw new Error(`The manifest is no YAML: ${error.message}`, { cause: error });
    const object = document.toJS() as (KubernetesObject & { items?: KubernetesObject[] }) | null;
    if (object === null) return [];
    return object.kind === 'List' ? object.items ?? [] : [object];
  });
}

/** Runs `work` on all items, at most `width` at once; the first error ends it. */
export async function inParallel<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  const waiting = items.values();
  const worker = async () => {
    for (const item of waiting) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker));
}

function isJson(answer: RawAnswer): boolean {
  return answer.headers['content-type']?.includes('json') ?? false;
}

function errorOf(method: string, path: string, answer: RawAnswer): KubernetesApiError {
  let status: { reason?: string; message?: string } = { message: answer.text };
  if (isJson(answer)) status = JSON.parse(answer.text) as typeof status;
  return new KubernetesApiError(method, path, answer.status, status.reason ?? 'Unknown', status.message ?? '');
}
