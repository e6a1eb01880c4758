import type { Command } from '@upid/contracts';
import { quantity } from '../usage/quantities.js';

/**
 * Fields of a workload that commands change, by paths that name containers instead of counting them
 * (`/spec/template/spec/containers/web/resources/requests/cpu`). What is absent is null.
 */

export type FieldValue = string | number | null;

export interface ChangedField {
  readonly path: string;
  readonly before: FieldValue;
  readonly after: FieldValue;
}

/** The parts of a workload that are read and changed here. */
export interface ActuatedObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: {
    readonly uid?: string; readonly name?: string; readonly namespace?: string; readonly resourceVersion?: string; readonly generation?: number; readonly deletionTimestamp?: string;
    readonly labels?: Readonly<Record<string, string>>; readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec?: {
    readonly replicas?: number;
    readonly template?: {
      readonly metadata?: { readonly labels?: Readonly<Record<string, string>> };
      readonly spec?: { readonly containers?: readonly ActuatedContainer[]; readonly initContainers?: readonly ActuatedContainer[] };
    };
  };
}

interface ActuatedContainer {
  readonly name: string;
  readonly env?: readonly unknown[];
  readonly resources?: { readonly requests?: Readonly<Record<string, string>>; readonly limits?: Readonly<Record<string, string>> };
}

/** A command asks for a field that the object does not have, or for nothing. */
export class UnsupportedChangeError extends Error {
  override readonly name = 'UnsupportedChangeError';
}

const REPLICAS = '/spec/replicas';
const CONTAINER_PATH = /^\/spec\/template\/spec\/containers\/([^/]+)\/resources\/(requests|limits)\/(cpu|memory)$/;

/** The value of a field now. @throws {UnsupportedChangeError} for a path that is none of ours or a container that is not there */
export function readField(object: ActuatedObject, path: string): FieldValue {
  if (path === REPLICAS) return object.spec?.replicas ?? null;
  const { container, list, resource } = partsOf(path);
  return containerNamed(object, container).resources?.[list]?.[resource] ?? null;
}

function partsOf(path: string): { container: string; list: 'requests' | 'limits'; resource: 'cpu' | 'memory' } {
  const match = CONTAINER_PATH.exec(path);
  if (match === null) throw new UnsupportedChangeError(`${path} is no field that is changed here`);
  return { container: match[1] as string, list: match[2] as 'requests' | 'limits', resource: match[3] as 'cpu' | 'memory' };
}

function containerNamed(object: ActuatedObject, name: string): ActuatedContainer {
  const container = object.spec?.template?.spec?.containers?.find((each) => each.name === name);
  if (container === undefined) throw new UnsupportedChangeError(`the workload has no container ${name}`);
  return container;
}

/** Whether two values of a field are the same: quantities by what they amount to (`0.5` and `500m`). */
export function sameValue(a: FieldValue, b: FieldValue): boolean {
  if (a === b) return true;
  if (a === null || b === null) return false;
  const [left, right] = [quantity(a), quantity(b)];
  return left !== null && right !== null && Math.abs(left - right) <= 1e-9 * Math.max(Math.abs(left), Math.abs(right));
}

/**
 * What a command changes of an object: each field with its value now and the one asked for; fields that already hold it are left out.
 * @throws {UnsupportedChangeError} where the command asks for nothing, or for what the object does not have
 */
export function changesOf(command: Pick<Command, 'verb' | 'replicas' | 'resources'>, object: ActuatedObject): ChangedField[] {
  return wantedBy(command).map(({ path, after }) => ({ path, before: readField(object, path), after })).filter(({ before, after }) => !sameValue(before, after));
}

/** The fields that a command asks for. @throws {UnsupportedChangeError} where it asks for none */
export function wantedBy(command: Pick<Command, 'verb' | 'replicas' | 'resources'>): { path: string; after: FieldValue }[] {
  const wanted: { path: string; after: FieldValue }[] = [];
  if (command.verb === 'scale') {
    if (command.replicas === null) throw new UnsupportedChangeError('the command names no number of replicas');
    wanted.push({ path: REPLICAS, after: command.replicas });
  } else if (command.verb === 'patch') {
    for (const { container, requests, limits } of command.resources) {
      for (const [list, amounts] of [['requests', requests], ['limits', limits]] as const) {
        const path = (resource: string) => `/spec/template/spec/containers/${container}/resources/${list}/${resource}`;
        if (amounts.cpu_millicores !== null) wanted.push({ path: path('cpu'), after: `${Math.round(amounts.cpu_millicores)}m` });
        if (amounts.memory_bytes !== null) wanted.push({ path: path('memory'), after: memoryQuantity(Math.round(amounts.memory_bytes)) });
      }
    }
    if (wanted.length === 0) throw new UnsupportedChangeError('the command names no resources');
  } else throw new UnsupportedChangeError(`${command.verb} changes no fields of its own`);
  return wanted;
}

/** Bytes as a quantity, in the largest binary unit of which they are a whole number: as a person would have written them. */
function memoryQuantity(bytes: number): string {
  const unit = [['Gi', 2 ** 30], ['Mi', 2 ** 20], ['Ki', 2 ** 10]].find(([, size]) => bytes % (size as number) === 0);
  return unit === undefined ? String(bytes) : `${bytes / (unit[1] as number)}${unit[0]}`;
}

/** How an object stands to a change that was meant: not made, made, or made otherwise by somebody else. */
export type Standing = 'before' | 'after' | 'drifted';

/** Compares an object with a change. A change of nothing counts as made. */
export function standingOf(object: ActuatedObject, changes: readonly ChangedField[]): Standing {
  const now = changes.map(({ path }) => readFieldOrAbsent(object, path));
  if (changes.every(({ after }, index) => sameValue(now[index] ?? null, after))) return 'after';
  if (changes.every(({ before }, index) => sameValue(now[index] ?? null, before))) return 'before';
  return 'drifted';
}

function readFieldOrAbsent(object: ActuatedObject, path: string): FieldValue {
  try {
    return readField(object, path);
  } catch (error) {
    if (error instanceof UnsupportedChangeError) return null;
    throw error;
  }
}

export type RestorePlan =
  /** `fields` go back to what they were; none where all are already there. */
  | { readonly do: 'restore'; readonly fields: ChangedField[] }
  /** A field holds neither our value nor the stored one: nothing is touched. `fields`: stored value and the one that stands. */
  | { readonly do: 'stop'; readonly fields: ChangedField[] };

/**
 * How to put back exactly what a change changed. A field that holds our value goes back to the stored one; one that already holds the
 * stored one stays; one that holds anything else was changed by somebody since, and then nothing is touched at all.
 */
export function restorePlan(object: ActuatedObject, changes: readonly ChangedField[]): RestorePlan {
  const now = changes.map((change) => ({ ...change, now: readFieldOrAbsent(object, change.path) }));
  const drifted = now.filter(({ before, after, now: value }) => !sameValue(value, before) && !sameValue(value, after));
  if (drifted.length > 0) return { do: 'stop', fields: drifted.map(({ path, before, now: value }) => ({ path, before, after: value })) };
  return { do: 'restore', fields: now.filter(({ before, now: value }) => !sameValue(value, before)).map(({ path, before, now: value }) => ({ path, before: value, after: before })) };
}

/** Whether changes are of replicas alone: then the scale subresource serves, and its narrower right is enough. */
export function scalesOnly(changes: readonly ChangedField[]): boolean {
  return changes.length > 0 && changes.every(({ path }) => path === REPLICAS);
}

type PatchOperation = { readonly op: 'test' | 'add' | 'replace'; readonly path: string; readonly value: unknown } | { readonly op: 'remove'; readonly path: string };

/**
 * The changes as a JSON patch (RFC 6902) that applies to this very version of the object alone: UID and resource version are tested,
 * and so is each container's place.
 */
export function jsonPatch(object: ActuatedObject, changes: readonly ChangedField[]): PatchOperation[] {
  const operations: PatchOperation[] = [
    { op: 'test', path: '/metadata/uid', value: object.metadata?.uid },
    { op: 'test', path: '/metadata/resourceVersion', value: object.metadata?.resourceVersion },
  ];
  /** Maps that this patch itself makes. */
  const made = new Set<string>();
  for (const { path, after } of changes) {
    if (path === REPLICAS) {
      operations.push(after === null ? { op: 'remove', path: REPLICAS } : { op: 'add', path: REPLICAS, value: after });
      continue;
    }
    const { container, list, resource } = partsOf(path);
    const index = object.spec?.template?.spec?.containers?.findIndex(({ name }) => name === container) ?? -1;
    const found = containerNamed(object, container);
    const at = `/spec/template/spec/containers/${index}`;
    operations.push({ op: 'test', path: `${at}/name`, value: container });
    if (after === null) {
      if (found.resources?.[list]?.[resource] !== undefined) operations.push({ op: 'remove', path: `${at}/resources/${list}/${resource}` });
      continue;
    }
    if (found.resources === undefined && !made.has(`${at}/resources`)) {
      made.add(`${at}/resources`);
      operations.push({ op: 'add', path: `${at}/resources`, value: {} });
    }
    if (found.resources?.[list] === undefined && !made.has(`${at}/resources/${list}`)) {
      made.add(`${at}/resources/${list}`);
      operations.push({ op: 'add', path: `${at}/resources/${list}`, value: {} });
    }
    operations.push({ op: 'add', path: `${at}/resources/${list}/${resource}`, value: after });
  }
  return operations;
}
