/** Decisions of listing and watching a collection of the Kubernetes API (kubernetes.io/docs/reference/using-api/api-concepts). */

/** What every object has. */
export interface WatchedObject {
  readonly kind?: string;
  readonly code?: number;
  readonly reason?: string;
  readonly message?: string;
  readonly metadata?: { readonly uid?: string; readonly resourceVersion?: string };
}

/** What one line of a watch asks for. */
export type WatchStep<T> =
  | { readonly do: 'upsert'; readonly object: T; readonly resourceVersion: string | null }
  | { readonly do: 'delete'; readonly object: T; readonly resourceVersion: string | null }
  /** Nothing changed: only the version from which to go on. */
  | { readonly do: 'mark'; readonly resourceVersion: string | null }
  /** The version asked for is too old: everything is to be listed again. */
  | { readonly do: 'relist'; readonly reason: string }
  /** The server failed: go on from where we were, later. */
  | { readonly do: 'resume'; readonly reason: string };

/** Reads one line of a watch. A line that is no event ends the watch as a failure would: nothing may be missed. */
export function watchStep<T extends WatchedObject>(line: string): WatchStep<T> {
  let event: { type?: unknown; object?: T } | null;
  try {
    event = JSON.parse(line) as typeof event;
  } catch {
    return { do: 'resume', reason: 'the watch sent a line that is no JSON' };
  }
  const { type, object } = event ?? {};
  if (object === undefined || object === null) return { do: 'resume', reason: 'the watch sent an event without an object' };
  const resourceVersion = object.metadata?.resourceVersion ?? null;
  switch (type) {
    case 'ADDED':
    case 'MODIFIED':
      return { do: 'upsert', object, resourceVersion };
    case 'DELETED':
      return { do: 'delete', object, resourceVersion };
    case 'BOOKMARK':
      return { do: 'mark', resourceVersion };
    case 'ERROR':
      return object.code === 410 || object.reason === 'Expired' || object.reason === 'Gone'
        ? { do: 'relist', reason: object.message ?? 'the version is too old' }
        : { do: 'resume', reason: `${object.code ?? ''} ${object.reason ?? ''} ${object.message ?? ''}`.trim() };
    default:
      return { do: 'resume', reason: `the watch sent an event of type ${JSON.stringify(type)}` };
  }
}

/** Whether a refusal says that the collection is not ours to read, and why; null where it says something else. */
export function unavailableBecause(status: number): 'forbidden' | 'absent' | null {
  if (status === 401 || status === 403) return 'forbidden';
  if (status === 404 || status === 405) return 'absent';
  return null;
}
