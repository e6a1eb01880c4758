import { capacityTypeSchema, workloadKindSchema } from '@upid/contracts';
import type { Database, Tx } from '@upid/platform';
import type { NodeLife, PodLife, RequestsSince } from './lifetimes.js';
import { totalRequest } from './lifetimes.js';

export interface StoredNode extends NodeLife {
  readonly id: number;
}
export interface StoredPod extends PodLife {
  readonly id: number;
}

interface NodeRow {
  readonly id: number; readonly uid: string; readonly name: string; readonly starts_at: Date; readonly ends_at: Date | null; readonly instance_type: string | null; readonly region: string | null; readonly capacity_type: string; readonly facts: NodeLife['facts'];
}
interface PodRow {
  readonly id: number; readonly uid: string; readonly namespace: string; readonly name: string; readonly workload_namespace: string; readonly workload_kind: string; readonly workload_name: string; readonly node_name: string; readonly starts_at: Date;
  readonly ends_at: Date | null; readonly labels: Record<string, string>; readonly requests: RequestsSince[];
}
const NODE_COLUMNS = 'id, uid, name, starts_at, ends_at, instance_type, region, capacity_type, facts';
const POD_COLUMNS = 'id, uid, namespace, name, workload_namespace, workload_kind, workload_name, node_name, starts_at, ends_at, labels, requests';

function nodeOfRow(row: NodeRow): StoredNode {
  return { id: row.id, uid: row.uid, name: row.name, startMs: row.starts_at.getTime(), endMs: row.ends_at?.getTime() ?? null, instanceType: row.instance_type, region: row.region, capacityType: capacityTypeSchema.parse(row.capacity_type), facts: row.facts };
}

function podOfRow(row: PodRow): StoredPod {
  return {
    id: row.id, uid: row.uid, namespace: row.namespace, name: row.name, workload: { namespace: row.workload_namespace, kind: workloadKindSchema.parse(row.workload_kind), name: row.workload_name }, nodeName: row.node_name,
    startMs: row.starts_at.getTime(), endMs: row.ends_at?.getTime() ?? null, labels: row.labels, requests: row.requests,
  };
}

const time = (ms: number | null): Date | null => (ms === null ? null : new Date(ms));

/** Nodes and pods as far as they decide costs. */
export class LivesRepository {
  constructor(private readonly database: Database) {}

  async nodesByUid(tx: Tx, cluster: number, uids: readonly string[]): Promise<Map<string, StoredNode>> {
    const { rows } = await tx.query<NodeRow>(`SELECT ${NODE_COLUMNS} FROM node WHERE cluster = $1 AND uid = ANY($2)`, [cluster, uids]);
    return new Map(rows.map((row) => [row.uid, nodeOfRow(row)]));
  }

  async podsByUid(tx: Tx, cluster: number, uids: readonly string[]): Promise<Map<string, StoredPod>> {
    const { rows } = await tx.query<PodRow>(`SELECT ${POD_COLUMNS} FROM pod WHERE cluster = $1 AND uid = ANY($2)`, [cluster, uids]);
    return new Map(rows.map((row) => [row.uid, podOfRow(row)]));
  }

  async keepNodes(tx: Tx, cluster: number, nodes: readonly NodeLife[]): Promise<void> {
    if (nodes.length === 0) return;
    await tx.query(
      `INSERT INTO node (cluster, uid, name, starts_at, ends_at, instance_type, region, capacity_type, facts)
       SELECT $1, * FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::jsonb[])
       ON CONFLICT (cluster, uid) DO UPDATE SET name = excluded.name, starts_at = excluded.starts_at, ends_at = excluded.ends_at, instance_type = excluded.instance_type, region = excluded.region, capacity_type = excluded.capacity_type, facts = excluded.facts`,
      [
        cluster, nodes.map((each) => each.uid), nodes.map((each) => each.name), nodes.map((each) => time(each.startMs)), nodes.map((each) => time(each.endMs)), nodes.map((each) => each.instanceType), nodes.map((each) => each.region),
        nodes.map((each) => each.capacityType), nodes.map((each) => (each.facts === null ? null : JSON.stringify(each.facts))),
      ]);
  }

  async keepPods(tx: Tx, cluster: number, pods: readonly PodLife[]): Promise<void> {
    if (pods.length === 0) return;
    const requests = pods.map(totalRequest);
    await tx.query(
      `INSERT INTO pod (cluster, uid, namespace, name, workload_namespace, workload_kind, workload_name, node_name, starts_at, ends_at, labels, requests, request_cpu_millicores, request_memory_bytes)
       SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::timestamptz[], $10::timestamptz[], $11::jsonb[], $12::jsonb[], $13::float8[], $14::float8[])
       ON CONFLICT (cluster, uid) DO UPDATE SET namespace = excluded.namespace, name = excluded.name, workload_namespace = excluded.workload_namespace, workload_kind = excluded.workload_kind, workload_name = excluded.workload_name, node_name = excluded.node_name,
         starts_at = excluded.starts_at, ends_at = excluded.ends_at, labels = excluded.labels, requests = excluded.requests, request_cpu_millicores = excluded.request_cpu_millicores, request_memory_bytes = excluded.request_memory_bytes`,
      [
        cluster, pods.map((each) => each.uid), pods.map((each) => each.namespace), pods.map((each) => each.name), pods.map((each) => each.workload.namespace), pods.map((each) => each.workload.kind), pods.map((each) => each.workload.name), pods.map((each) => each.nodeName),
        pods.map((each) => time(each.startMs)), pods.map((each) => time(each.endMs)), pods.map((each) => JSON.stringify(each.labels)), pods.map((each) => JSON.stringify(each.requests)), requests.map((each) => each.cpuMillicores), requests.map((each) => each.memoryBytes),
      ]);
  }

  /** Nodes that stood at some time in [fromMs, toMs). */
  async nodesWithin(tx: Tx, cluster: number, fromMs: number, toMs: number): Promise<StoredNode[]> {
    const { rows } = await tx.query<NodeRow>(`SELECT ${NODE_COLUMNS} FROM node WHERE cluster = $1 AND starts_at < $3 AND (ends_at IS NULL OR ends_at > $2) ORDER BY id`, [cluster, new Date(fromMs), new Date(toMs)]);
    return rows.map(nodeOfRow);
  }

  /** Pods that were bound at some time in [fromMs, toMs). */
  async podsWithin(tx: Tx, cluster: number, fromMs: number, toMs: number): Promise<StoredPod[]> {
    const { rows } = await tx.query<PodRow>(`SELECT ${POD_COLUMNS} FROM pod WHERE cluster = $1 AND starts_at < $3 AND (ends_at IS NULL OR ends_at > $2) ORDER BY id`, [cluster, new Date(fromMs), new Date(toMs)]);
    return rows.map(podOfRow);
  }

  /** The node of a name: one that stands, else the one that ended last. */
  async nodeByName(cluster: number, name: string): Promise<StoredNode | null> {
    const { rows } = await this.database.query<NodeRow>(`SELECT ${NODE_COLUMNS} FROM node WHERE cluster = $1 AND name = $2 ORDER BY ends_at DESC NULLS FIRST, starts_at DESC LIMIT 1`, [cluster, name]);
    return rows[0] ? nodeOfRow(rows[0]) : null;
  }

  /** The pod of a name: one that stands, else the one that ended last. */
  async podByName(cluster: number, namespace: string, name: string): Promise<StoredPod | null> {
    const { rows } = await this.database.query<PodRow>(`SELECT ${POD_COLUMNS} FROM pod WHERE cluster = $1 AND namespace = $2 AND name = $3 ORDER BY ends_at DESC NULLS FIRST, starts_at DESC LIMIT 1`, [cluster, namespace, name]);
    return rows[0] ? podOfRow(rows[0]) : null;
  }

  async nodes(cluster: number): Promise<Map<number, StoredNode>> {
    const { rows } = await this.database.query<NodeRow>(`SELECT ${NODE_COLUMNS} FROM node WHERE cluster = $1`, [cluster]);
    return new Map(rows.map((row) => [row.id, nodeOfRow(row)]));
  }

  /** Forgets what ended before a time. */
  async forget(before: Date): Promise<void> {
    await this.database.query('DELETE FROM pod WHERE ends_at < $1', [before]);
    await this.database.query('DELETE FROM node_price WHERE node IN (SELECT id FROM node WHERE ends_at < $1)', [before]);
    await this.database.query('DELETE FROM node WHERE ends_at < $1', [before]);
  }
}
