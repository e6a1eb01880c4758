import { jobEventSchema, parseSubject, recommendationEventSchema, subjects, toTimestamp, UpidError, type QueryResponse } from '@upid/contracts';
import type { Bus, Delivery, Logger } from '@upid/platform';
import { presentJob, presentRecommendation } from '../rest/present.js';
import { MINUTE_MS } from '@upid/contracts';

/** A subscriber of one cluster's happenings. */
type Listener = (clusterId: string, message: unknown) => void;

/** What the live feeds say: recommendations and jobs as they happen, and figures asked for at an interval. */
export class FeedService {
  private readonly listeners = new Set<Listener>();

  constructor(private readonly bus: Bus, private readonly log: Logger, private readonly nowMs: () => number) {}

  /** One tail of the public topics for all sockets of this process. */
  async start(): Promise<void> {
    await this.bus.tail({ stream: 'PUBLIC', subjects: [subjects.recommendationAll('*'), subjects.job('*')] }, (message) => this.happened(message));
  }

  private happened(message: Delivery): void {
    const { clusterId, producer } = parseSubject(message.subject);
    const at = toTimestamp(this.nowMs());
    if (producer === 'recommendation') {
      const event = message.json(recommendationEventSchema);
      this.tell(clusterId, { type: 'recommendation', at, change: event.change, recommendation: presentRecommendation(event.recommendation) });
    } else {
      this.tell(clusterId, { type: 'job', at, job: presentJob(message.json(jobEventSchema).job) });
    }
  }

  private tell(clusterId: string, message: unknown): void {
    for (const listener of this.listeners) listener(clusterId, message);
  }

  /** @returns how to end it */
  subscribe(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => { this.listeners.delete(listener); };
  }

  /** Figures of a cluster over the last minutes. */
  async cluster(clusterId: string): Promise<unknown> {
    const nowMs = this.nowMs();
    const insight = await this.bus.ask<QueryResponse<'intelligence', 'cluster'>>('intelligence', 'cluster', { cluster_id: clusterId, namespace: null, start: toTimestamp(nowMs - 15 * MINUTE_MS), end: toTimestamp(nowMs) });
    const { workloads: _all, anomalies: _found, ...summary } = insight;
    return { type: 'cluster', at: toTimestamp(nowMs), cluster: summary };
  }

  /** The latest values of a pod. */
  async pod(clusterId: string, uid: string): Promise<unknown> {
    const { pods } = await this.bus.ask<QueryResponse<'intelligence', 'latest'>>('intelligence', 'latest', { cluster_id: clusterId, pod_uids: [uid] });
    return { type: 'pod', at: toTimestamp(this.nowMs()), pod: pods[0] ?? null };
  }

  /** An error as a feed's message; what is not for the other side stays in the log. */
  errorMessage(error: unknown): unknown {
    if (error instanceof UpidError) return { type: 'error', at: toTimestamp(this.nowMs()), code: error.code, message: error.message };
    this.log.error({ err: error }, 'a live feed failed');
    return { type: 'error', at: toTimestamp(this.nowMs()), code: 'internal', message: 'Something went wrong here.' };
  }
}
