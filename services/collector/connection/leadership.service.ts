import { backOffMs } from './rate-limit.js';

/** What the lease needs of the API server. */
export interface LeaseApi {
  get<T>(path: string): Promise<T>;
  call<T>(verb: 'POST' | 'PUT', path: string, options: { readonly body: unknown; readonly urgent?: boolean }): Promise<T>;
}

export interface LeadershipOptions {
  readonly namespace: string;
  readonly name: string;
  /** Who we are: unique to this process. */
  readonly identity: string;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
  readonly delay: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly durationSeconds?: number;
  readonly now?: () => number;
}

interface LeaseObject {
  readonly metadata?: { readonly resourceVersion?: string };
  readonly spec?: { readonly holderIdentity?: string; readonly leaseDurationSeconds?: number; readonly renewTime?: string; readonly leaseTransitions?: number; readonly acquireTime?: string };
}

/** Another agent of this cluster has taken over. */
export class LeadershipLostError extends Error {
  override readonly name = 'LeadershipLostError';
}

const DURATION_SECONDS = 15;

/**
 * A Lease (coordination.k8s.io) by which one agent of a cluster works at a time. While the API server is away nobody can take it, so its
 * holder goes on; it is lost when another is seen to hold it. Where leases may not be used at all the agent works without, and says so.
 */
export class Leadership {
  state: 'waiting' | 'leader' | 'unguarded' | 'lost' = 'waiting';
  /** Another's renewals as seen here: an other clock is not believed. */
  private seen = { renewTime: '', atMs: 0 };

  private readonly now: () => number;

  constructor(private readonly api: LeaseApi, private readonly options: LeadershipOptions) {
    this.now = options.now ?? Date.now;
  }

  /** Resolves when this agent may work. */
  async acquire(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; ) {
      try {
        const outcome = await this.attempt(this.now());
        if (outcome === 'held') {
          this.state = 'leader';
          return;
        }
        if (outcome === 'unavailable') {
          this.state = 'unguarded';
          this.options.log.warn({ namespace: this.options.namespace }, 'no lease can be kept in this namespace: nothing keeps a second agent of this cluster from working beside this one');
          return;
        }
        failures = 0;
      } catch (error) {
        failures++;
        this.options.log.warn({ error: error instanceof Error ? error.message : String(error) }, 'the lease could not be asked for');
      }
      await this.options.delay(failures > 0 ? backOffMs(failures, 0.5, 500, 10_000) : (this.durationMs / 3), signal);
    }
  }

  /** Renews until the signal aborts. @throws {LeadershipLostError} when another holds the lease */
  async keep(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.options.delay(this.durationMs / 3, signal);
      if (signal.aborted) break;
      try {
        const outcome = await this.attempt(this.now());
        if (outcome === 'other' && this.state === 'leader') {
          this.state = 'lost';
          throw new LeadershipLostError('another agent of this cluster holds the lease now');
        }
        if (outcome === 'held') this.state = 'leader';
      } catch (error) {
        if (error instanceof LeadershipLostError) throw error;
        this.options.log.warn({ error: error instanceof Error ? error.message : String(error) }, 'the lease could not be renewed yet');
      }
    }
  }

  /** Gives the lease up, so that a successor need not wait. */
  async release(): Promise<void> {
    if (this.state !== 'leader') return;
    this.state = 'lost';
    const lease = await this.api.get<LeaseObject>(this.path);
    if (lease.spec?.holderIdentity !== this.options.identity) return;
    await this.api.call('PUT', this.path, { body: { ...lease, spec: { ...lease.spec, holderIdentity: '', renewTime: microTime(this.now()) } }, urgent: true });
  }

  private get durationMs(): number {
    return (this.options.durationSeconds ?? DURATION_SECONDS) * 1000;
  }

  private get path(): string {
    return `/apis/coordination.k8s.io/v1/namespaces/${this.options.namespace}/leases/${this.options.name}`;
  }

  private async attempt(nowMs: number): Promise<'held' | 'other' | 'unavailable'> {
    const { identity, name, namespace } = this.options;
    let lease: LeaseObject;
    try {
      lease = await this.api.get<LeaseObject>(this.path);
    } catch (error) {
      const status = statusOf(error);
      if (status === 403) return 'unavailable';
      if (status !== 404) throw error;
      return this.create(namespace, name, nowMs);
    }
    const { holderIdentity = '', renewTime = '', leaseDurationSeconds = DURATION_SECONDS, leaseTransitions = 0, acquireTime } = lease.spec ?? {};
    if (renewTime !== this.seen.renewTime) this.seen = { renewTime, atMs: nowMs };
    const mine = holderIdentity === identity;
    if (!mine && holderIdentity !== '' && nowMs - this.seen.atMs < leaseDurationSeconds * 1000) return 'other';
    const spec = {
      ...lease.spec, holderIdentity: identity, leaseDurationSeconds: this.durationMs / 1000, renewTime: microTime(nowMs), acquireTime: mine ? acquireTime : microTime(nowMs), leaseTransitions: mine ? leaseTransitions : leaseTransitions + 1,
    };
    try {
      await this.api.call('PUT', this.path, { body: { ...lease, spec }, urgent: true });
      return 'held';
    } catch (error) {
      if (statusOf(error) === 403) return 'unavailable';
      if (statusOf(error) === 409) return 'other';
      throw error;
    }
  }

  private async create(namespace: string, name: string, nowMs: number): Promise<'held' | 'other' | 'unavailable'> {
    const time = microTime(nowMs);
    try {
      await this.api.call('POST', `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`, {
        body: {
          apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name, namespace },
          spec: { holderIdentity: this.options.identity, leaseDurationSeconds: this.durationMs / 1000, acquireTime: time, renewTime: time, leaseTransitions: 0 },
        },
        urgent: true,
      });
      return 'held';
    } catch (error) {
      const status = statusOf(error);
      if (status === 409) return 'other';
      if (status === 403 || status === 404) return 'unavailable';
      throw error;
    }
  }
}

function statusOf(error: unknown): number | null {
  const status = (error as { status?: unknown }).status;
  return typeof status === 'number' ? status : null;
}

/** Kubernetes' MicroTime: RFC 3339 with six decimals. */
function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z');
}
