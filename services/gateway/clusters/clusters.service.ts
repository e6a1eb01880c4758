import { clusterObjectSchema, UpidError, type ClusterListResponse, type ClusterObject, type QueryResponse } from '@upid/contracts';
import type { Bus, InventoryMirror } from '@upid/platform';
import { maySee, resolveCluster, type Caller } from '../access/keys.js';

/** An agent that has not been heard of for this long is shown as not connected. */
const CONNECTED_WITHIN_MS = 45_000;

/** The clusters that have reported: who they are, when they were last heard of, how complete their data is. */
export class ClustersService {
  constructor(private readonly inventory: InventoryMirror, private readonly bus: Pick<Bus, 'ask'>, private readonly nowMs: () => number) {}

  async known(): Promise<{ clusterId: string; name: string; cluster: ClusterObject | null }[]> {
    const ids = (await this.inventory.clusters()).filter((each) => each.observedAt !== null).map((each) => each.clusterId);
    return Promise.all(ids.map(async (clusterId) => {
      const cluster = await this.object(clusterId);
      return { clusterId, name: cluster?.name ?? clusterId, cluster };
    }));
  }

  async object(clusterId: string): Promise<ClusterObject | null> {
    const [row] = await this.inventory.byKind(clusterId, 'Cluster');
    return row ? clusterObjectSchema.parse(row.body) : null;
  }

  /** Which cluster a request is about. @throws UpidError cluster_not_found, invalid_request */
  async resolve(caller: Caller, wanted: string | undefined): Promise<{ clusterId: string; name: string; cluster: ClusterObject | null }> {
    const known = await this.known();
    const clusterId = resolveCluster(caller, wanted, known);
    return known.find((each) => each.clusterId === clusterId) ?? { clusterId, name: clusterId, cluster: null };
  }

  async list(caller: Caller): Promise<ClusterListResponse> {
    const [known, heard] = await Promise.all([this.known(), this.orNull(this.bus.ask<QueryResponse<'optimizer', 'agents'>>('optimizer', 'agents', { cluster_id: null }))]);
    const agents = new Map((heard?.agents ?? []).map((agent) => [agent.cluster_id, agent]));
    const ids = [...new Set([...known.map((each) => each.clusterId), ...agents.keys()])].filter((id) => maySee(caller, id)).sort();
    return { clusters: await Promise.all(ids.map((id) => this.summary(id, known.find((each) => each.clusterId === id)?.cluster ?? null, agents.get(id) ?? null))) };
  }

  private async summary(clusterId: string, cluster: ClusterObject | null, agent: QueryResponse<'optimizer', 'agents'>['agents'][number] | null): Promise<ClusterListResponse['clusters'][number]> {
    const [nodes, pods, coverage] = await Promise.all([this.inventory.byKind(clusterId, 'Node'), this.inventory.byKind(clusterId, 'Pod'), this.orNull(this.bus.ask<QueryResponse<'intelligence', 'coverage'>>('intelligence', 'coverage', { cluster_id: clusterId }))]);
    const running = pods.filter((pod) => !['Succeeded', 'Failed'].includes((pod.body as { phase: string }).phase));
    return {
      cluster_id: clusterId, name: cluster?.name ?? clusterId, provider: cluster?.provider ?? 'unknown', distribution: cluster?.distribution ?? 'unknown', region: cluster?.region ?? null, nodes: nodes.length, pods: running.length, capabilities: cluster?.capabilities ?? null,
      server_version: cluster?.server_version ?? null, demo: cluster?.demo ?? false, last_seen: agent?.seen_at ?? null, connected: agent !== null && this.nowMs() - Date.parse(agent.seen_at) < CONNECTED_WITHIN_MS, actuation: agent?.heartbeat.actuation ?? false,
      held: agent?.held ?? false, sleepers: agent?.heartbeat.sleepers.length ?? 0, agent_version: agent?.heartbeat.agent_version ?? cluster?.agent_version ?? null,
      data_coverage: {
        usage_since: coverage?.usage_since ?? null, usage_covered_24h: coverage?.usage_covered_24h ?? null, requests_since: coverage?.requests_since ?? null, requests_covered_24h: coverage?.requests_covered_24h ?? null, backfill: coverage?.backfill ?? null,
      },
    };
  }

  /** A service that is away, or does not know the cluster yet, leaves its part of the list unknown. */
  private async orNull<T>(answer: Promise<T>): Promise<T | null> {
    try {
      return await answer;
    } catch (error) {
      if (error instanceof UpidError) return null;
      throw error;
    }
  }
}
