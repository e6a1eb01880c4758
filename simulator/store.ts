/** The objects of a cluster in memory, with resource versions, watches, conditions on writing, and patches. */

export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; uid: string; resourceVersion: string; creationTimestamp: string; generation?: number; labels?: Record<string, string>; annotations?: Record<string, string>; ownerReferences?: unknown[]; managedFields?: unknown[] };
  spec?: Record<string, unknown>;
  status?: Record<string, unknown>;
  [key: string]: unknown;
}

export type WatchType = 'ADDED' | 'MODIFIED' | 'DELETED';
export interface WatchEvent { readonly type: WatchType; readonly resource: string; readonly version: number; readonly object: KubeObject }

/** What the API answers instead of an object: HTTP status and reason. */
export class StatusError extends Error {
  override readonly name = 'StatusError';
  constructor(readonly code: number, readonly reason: string, message: string) {
    super(message);
  }
}

/** Changes kept for watches that begin in the past; older ones answer 410. */
const KEPT_EVENTS = 4096;

export class ObjectStore {
  private readonly byResource = new Map<string, Map<string, KubeObject>>();
  private readonly events: WatchEvent[] = [];
  private readonly listeners = new Set<(event: WatchEvent) => void>();
  private version: number;

  constructor(startVersion = 1) {
    this.version = startVersion;
  }

  get resourceVersion(): number {
    return this.version;
  }

  list(resource: string, namespace?: string): KubeObject[] {
    const all = [...(this.byResource.get(resource)?.values() ?? [])];
    return namespace === undefined ? all : all.filter((each) => each.metadata.namespace === namespace);
  }

  find(resource: string, namespace: string | undefined, name: string): KubeObject | undefined {
    return this.byResource.get(resource)?.get(keyOf(namespace, name));
  }

  /** @throws {StatusError} 404 */
  get(resource: string, namespace: string | undefined, name: string): KubeObject {
    const found = this.find(resource, namespace, name);
    if (!found) throw new StatusError(404, 'NotFound', `${resource} "${name}" not found`);
    return found;
  }

  /** @throws {StatusError} 409 AlreadyExists */
  create(resource: string, object: KubeObject, dryRun = false): KubeObject {
    if (this.find(resource, object.metadata.namespace, object.metadata.name)) throw new StatusError(409, 'AlreadyExists', `${resource} "${object.metadata.name}" already exists`);
    return dryRun ? object : this.put('ADDED', resource, object);
  }

  /**
   * Replaces an object. A change of its spec raises its generation.
   * @throws {StatusError} 404; 409 where it was given another resourceVersion or UID than the one that stands
   */
  update(resource: string, object: KubeObject, dryRun = false): KubeObject {
    const before = this.get(resource, object.metadata.namespace, object.metadata.name);
    const { resourceVersion, uid } = object.metadata;
    if (resourceVersion && resourceVersion !== before.metadata.resourceVersion) throw new StatusError(409, 'Conflict', `the object has been modified; please apply your changes to the latest version (${resourceVersion} is not ${before.metadata.resourceVersion})`);
    if (uid && uid !== before.metadata.uid) throw new StatusError(409, 'Conflict', `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${before.metadata.uid}`);
    const next: KubeObject = { ...object, metadata: { ...object.metadata, uid: before.metadata.uid, creationTimestamp: before.metadata.creationTimestamp } };
    if (before.metadata.generation !== undefined) next.metadata.generation = before.metadata.generation + (JSON.stringify(before.spec) === JSON.stringify(next.spec) ? 0 : 1);
    return dryRun ? next : this.put('MODIFIED', resource, next);
  }

  delete(resource: string, namespace: string | undefined, name: string): KubeObject {
    const object = this.get(resource, namespace, name);
    this.byResource.get(resource)?.delete(keyOf(namespace, name));
    const version = ++this.version;
    const gone = { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
    this.tell({ type: 'DELETED', resource, version, object: gone });
    return gone;
  }

  /** Calls `listener` with every change of the resource after `version`, then as they come. @throws {StatusError} 410 where they are no longer kept */
  watch(resource: string, version: number, listener: (event: WatchEvent) => void): () => void {
    const oldest = this.events[0]?.version ?? this.version + 1;
    if (version + 1 < oldest && version < this.version && this.events.length === KEPT_EVENTS) throw new StatusError(410, 'Expired', `too old resource version: ${version} (${oldest})`);
    for (const event of this.events) if (event.resource === resource && event.version > version) listener(event);
    const each = (event: WatchEvent) => { if (event.resource === resource) listener(event); };
    this.listeners.add(each);
    return () => { this.listeners.delete(each); };
  }

  private put(type: WatchType, resource: string, object: KubeObject): KubeObject {
    const version = ++this.version;
    const stored: KubeObject = structuredClone({ ...object, metadata: { ...object.metadata, resourceVersion: String(version) } });
    const objects = this.byResource.get(resource) ?? new Map<string, KubeObject>();
    this.byResource.set(resource, objects);
    objects.set(keyOf(stored.metadata.namespace, stored.metadata.name), stored);
    this.tell({ type, resource, version, object: stored });
    return stored;
  }

  private tell(event: WatchEvent): void {
    this.events.push(event);
    if (this.events.length > KEPT_EVENTS) this.events.shift();
    for (const listener of this.listeners) listener(event);
  }
}

function keyOf(namespace: string | undefined, name: string): string {
  return `${namespace ?? ''}/${name}`;
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** RFC 7386, with lists of named objects (containers, env, volumes) merged by name as a strategic merge does where `strategic`. */
export function mergePatch(target: Json, patch: Json, strategic: boolean): Json {
  if (Array.isArray(patch)) {
    const named = (list: Json[]): list is { name: string }[] => list.every((each) => typeof each === 'object' && each !== null && !Array.isArray(each) && typeof each.name === 'string');
    if (!strategic || !Array.isArray(target) || !named(patch) || !named(target)) return patch;
    const merged: Json[] = target.map((each) => mergePatch(each, patch.find((one) => one.name === each.name) ?? {}, true));
    return [...merged, ...patch.filter((one) => !target.some((each) => each.name === one.name))];
  }
  if (typeof patch !== 'object' || patch === null) return patch;
  const into: { [key: string]: Json } = typeof target === 'object' && target !== null && !Array.isArray(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete into[key];
    else into[key] = mergePatch(into[key] ?? null, value, strategic);
  }
  return into;
}

/** RFC 6902: add, replace, remove, test. @throws {StatusError} 422 where a test fails or a path is not there */
export function jsonPatch(target: unknown, operations: readonly { op: string; path: string; value?: unknown }[]): unknown {
  const root = structuredClone(target);
  for (const { op, path, value } of operations) {
    const parts = path.split('/').slice(1).map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
    const last = parts.pop();
    if (last === undefined) throw new StatusError(422, 'Invalid', `the path ${JSON.stringify(path)} names nothing`);
    let parent = root as Record<string, unknown>;
    for (const part of parts) {
      const next = parent?.[part];
      if (typeof next !== 'object' || next === null) throw new StatusError(422, 'Invalid', `the path ${path} is not there`);
      parent = next as Record<string, unknown>;
    }
    if (op === 'test') {
      if (JSON.stringify(parent[last] ?? null) !== JSON.stringify(value ?? null)) throw new StatusError(422, 'Invalid', `the server rejected our request due to an error in our request: testing value ${path} failed`);
    } else if (op === 'add' && Array.isArray(parent)) (parent as unknown[]).splice(last === '-' ? parent.length : Number(last), 0, value);
    else if (op === 'add' || (op === 'replace' && last in parent)) parent[last] = value;
    else if (op === 'remove' && last in parent) {
      if (Array.isArray(parent)) (parent as unknown[]).splice(Number(last), 1);
      else delete parent[last];
    } else throw new StatusError(422, 'Invalid', `${op} ${path} cannot be done`);
  }
  return root;
}
