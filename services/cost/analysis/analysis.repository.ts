import { capacityTypeSchema, workloadKindSchema, type TimeRange, type WorkloadKind, type WorkloadRef } from '@upid/contracts';
import type { Database } from '@upid/platform';
import type { CostTotal } from '../allocation/breakdown.js';
import type { HourSum, NodeHourSum, PricedNode } from './answers.js';
import type { CoveredHour } from './coverage.js';

/** Which pods a question is about. */
export type Selection =
  | { readonly of: 'pod'; readonly pod: number }
  | { readonly of: 'workload'; readonly workload: WorkloadRef }
  | { readonly of: 'namespace'; readonly namespace: string }
  | { readonly of: 'node'; readonly node: number }
  | { readonly of: 'label'; readonly key: string; readonly value: string | null; readonly namespace: string | null }
  | { readonly of: 'cluster' };

/** A node that something ran on, with the price of the last hour of it. */
export interface NodeShare extends PricedNode {
  readonly node: number;
  readonly allocatedNanos: bigint;
}

/** What a group of pods cost over a range. */
export interface GroupSum {
  readonly total: CostTotal;
  readonly presentMs: number;
  readonly measuredMs: number;
  readonly chargedCpuMillicoreSeconds: number;
  readonly chargedMemoryByteSeconds: number;
  readonly nodes: readonly number[];
  readonly firstStartMs: number;
}
export interface WorkloadSum extends GroupSum {
  readonly workload: WorkloadRef;
  /** By node: what was charged there. */
  readonly byNode: ReadonlyMap<number, bigint>;
}

/** A node over a range. */
export interface NodeSum extends NodeShare {
  readonly uid: string;
  readonly costNanos: bigint;
  readonly idleNanos: bigint;
  readonly overheadNanos: bigint;
  readonly quarantined: readonly { readonly explanation: string; readonly source: string }[];
}

interface SumRow {
  readonly cpu: string; readonly memory: string; readonly gpu: string; readonly actual: string; readonly measured: string; readonly cells: number; readonly measured_cells: number; readonly present_ms: number; readonly measured_ms: number;
}
const SUMS = `sum(h.cpu_cost)::text AS cpu, sum(h.memory_cost)::text AS memory, sum(h.gpu_cost)::text AS gpu, sum(h.actual_cost)::text AS actual, sum(h.measured_cost)::text AS measured, sum(h.cells)::float8 AS cells, sum(h.measured_cells)::float8 AS measured_cells,
  sum(h.present_ms)::float8 AS present_ms, sum(h.measured_ms)::float8 AS measured_ms`;

function totalOf(row: SumRow): CostTotal {
  return { cpuNanos: BigInt(row.cpu), memoryNanos: BigInt(row.memory), gpuNanos: BigInt(row.gpu), actualNanos: BigInt(row.actual), measuredNanos: BigInt(row.measured), cells: row.cells, measuredCells: row.measured_cells };
}

interface PriceRow { readonly name: string; readonly instance_type: string | null; readonly region: string | null; readonly capacity_type: string; readonly basis: string | null; readonly source: string | null; readonly as_of: string | null; readonly typical: boolean | null; readonly note: string | null }
const PRICE = `n.name, n.instance_type, n.region, n.capacity_type, x.basis, x.source, to_char(x.as_of, 'YYYY-MM-DD') AS as_of, x.typical, x.note`;

function pricedOf(row: PriceRow): PricedNode {
  return {
    name: row.name, instanceType: row.instance_type, region: row.region, capacityType: capacityTypeSchema.parse(row.capacity_type),
    price: row.typical === null ? null : { basis: row.basis as NonNullable<PricedNode['price']>['basis'], source: row.source, asOf: row.as_of, typical: row.typical, note: row.note },
  };
}

/** Conditions on `p` (pod) and `h` (pod_hour), with its values from parameter number `at` on; $1 is the cluster. */
function conditionOf(selection: Selection, at: number): { readonly sql: string; readonly values: readonly unknown[] } {
  const value = (offset: number) => `$${at + offset}`;
  switch (selection.of) {
    case 'pod': return { sql: `h.pod = ${value(0)}`, values: [selection.pod] };
    case 'workload': return {
      sql: `p.cluster = $1 AND p.workload_namespace = ${value(0)} AND p.workload_kind = ${value(1)} AND p.workload_name = ${value(2)}`, values: [selection.workload.namespace, selection.workload.kind, selection.workload.name],
    };
    case 'namespace': return { sql: `p.cluster = $1 AND p.namespace = ${value(0)}`, values: [selection.namespace] };
    case 'node': return { sql: `h.node = ${value(0)}`, values: [selection.node] };
    case 'label': return {
      sql: `p.cluster = $1 AND CASE WHEN ${value(1)}::text IS NULL THEN p.labels ? ${value(0)} ELSE p.labels ->> ${value(0)} = ${value(1)} END AND (${value(2)}::text IS NULL OR p.namespace = ${value(2)})`,
      values: [selection.key, selection.value, selection.namespace],
    };
    case 'cluster': return { sql: 'true', values: [] };
  }
}

/** Reads what was computed. Ranges are whole hours; hours of another currency are left out. */
export class AnalysisRepository {
  constructor(private readonly database: Database) {}

  async coveredHours(cluster: number, currency: string, { startMs, endMs }: TimeRange): Promise<CoveredHour[]> {
    const { rows } = await this.database.query<{ hour: Date; covered_from: Date | null; covered_to: Date | null; covered_ms: number; uncharged: Record<string, number>; unpriced: { node: string; reason: string }[] }>(
      'SELECT hour, covered_from, covered_to, covered_ms, uncharged, unpriced FROM cluster_hour WHERE cluster = $1 AND currency = $2 AND hour >= $3 AND hour < $4 ORDER BY hour', [cluster, currency, new Date(startMs), new Date(endMs)]);
    return rows.map((row) => ({
      hourMs: row.hour.getTime(), fromMs: (row.covered_from ?? row.hour).getTime(), toMs: (row.covered_to ?? row.hour).getTime(), coveredMs: row.covered_ms, uncharged: row.uncharged, unpriced: row.unpriced,
    }));
  }

  /** Sums of the selected pods, by hour. */
  async hourSums(cluster: number, currency: string, { startMs, endMs }: TimeRange, selection: Selection): Promise<HourSum[]> {
    const condition = conditionOf(selection, 5);
    const charges = (name: 'cpu' | 'memory', request: string, amount: string) => `
      coalesce(sum(h.${name}_cost) FILTER (WHERE p.${request} > 0), 0)::text AS requested_${name}, coalesce(sum(h.${amount}) FILTER (WHERE p.${request} > 0), 0) AS requested_${name}_seconds,
      coalesce(sum(h.${name}_cost) FILTER (WHERE p.${request} = 0), 0)::text AS used_${name}, coalesce(sum(h.${amount}) FILTER (WHERE p.${request} = 0), 0) AS used_${name}_seconds`;
    const { rows } = await this.database.query<SumRow & {
      hour: Date; requested_cpu: string; requested_cpu_seconds: number; used_cpu: string; used_cpu_seconds: number; requested_memory: string; requested_memory_seconds: number; used_memory: string; used_memory_seconds: number;
    }>(
      `SELECT h.hour, ${SUMS}, ${charges('cpu', 'request_cpu_millicores', 'charged_cpu_millicore_seconds')}, ${charges('memory', 'request_memory_bytes', 'charged_memory_byte_seconds')}
       FROM pod_hour h JOIN pod p ON p.id = h.pod
       WHERE h.cluster = $1 AND h.currency = $2 AND h.hour >= $3 AND h.hour < $4 AND ${condition.sql} GROUP BY h.hour ORDER BY h.hour`, [cluster, currency, new Date(startMs), new Date(endMs), ...condition.values]);
    return rows.map((row) => ({
      hourMs: row.hour.getTime(), total: totalOf(row), presentMs: row.present_ms, measuredMs: row.measured_ms,
      requestedCpu: { costNanos: BigInt(row.requested_cpu), amountSeconds: row.requested_cpu_seconds }, usedCpu: { costNanos: BigInt(row.used_cpu), amountSeconds: row.used_cpu_seconds },
      requestedMemory: { costNanos: BigInt(row.requested_memory), amountSeconds: row.requested_memory_seconds }, usedMemory: { costNanos: BigInt(row.used_memory), amountSeconds: row.used_memory_seconds },
    }));
  }

  /** The nodes that the selected pods ran on. */
  async nodeShares(cluster: number, currency: string, { startMs, endMs }: TimeRange, selection: Selection): Promise<NodeShare[]> {
    const condition = conditionOf(selection, 5);
    const { rows } = await this.database.query<PriceRow & { node: number; allocated: string }>(
      `WITH share AS (
         SELECT h.node, sum(h.cpu_cost + h.memory_cost + h.gpu_cost)::text AS allocated, max(h.hour) AS last_hour
         FROM pod_hour h JOIN pod p ON p.id = h.pod
         WHERE h.cluster = $1 AND h.currency = $2 AND h.hour >= $3 AND h.hour < $4 AND ${condition.sql} GROUP BY h.node)
       SELECT s.node, s.allocated, ${PRICE} FROM share s JOIN node n ON n.id = s.node LEFT JOIN node_hour k ON k.cluster = $1 AND k.hour = s.last_hour AND k.node = s.node LEFT JOIN node_price x ON x.id = k.price ORDER BY n.name`,
      [cluster, currency, new Date(startMs), new Date(endMs), ...condition.values]);
    return rows.map((row) => ({ ...pricedOf(row), node: row.node, allocatedNanos: BigInt(row.allocated) }));
  }

  /** What nodes as a whole cost, by hour: all, or one. */
  async nodeHours(cluster: number, currency: string, { startMs, endMs }: TimeRange, node: number | null): Promise<NodeHourSum[]> {
    const { rows } = await this.database.query<{ hour: Date; cost: string; present_ms: number }>(
      `SELECT h.hour, sum(h.cost)::text AS cost, sum(h.present_ms)::float8 AS present_ms FROM node_hour h
       WHERE h.cluster = $1 AND h.currency = $2 AND h.hour >= $3 AND h.hour < $4 AND ($5::int IS NULL OR h.node = $5) GROUP BY h.hour ORDER BY h.hour`, [cluster, currency, new Date(startMs), new Date(endMs), node]);
    return rows.map((row) => ({ hourMs: row.hour.getTime(), costNanos: BigInt(row.cost), presentMs: row.present_ms }));
  }

  /** Nodes that cost something in the range, with the price of their last hour in it. */
  async nodeSums(cluster: number, currency: string, { startMs, endMs }: TimeRange): Promise<NodeSum[]> {
    const { rows } = await this.database.query<PriceRow & { node: number; uid: string; cost: string; allocated: string; idle: string; overhead: string; quarantined: { explanation: string; source: string }[] | null }>(
      `WITH summed AS (
         SELECT h.node, sum(h.cost)::text AS cost, sum(h.allocated)::text AS allocated, sum(h.idle)::text AS idle, sum(h.overhead)::text AS overhead, (array_agg(h.price ORDER BY h.hour DESC))[1] AS price
         FROM node_hour h WHERE h.cluster = $1 AND h.currency = $2 AND h.hour >= $3 AND h.hour < $4 GROUP BY h.node)
       SELECT s.node, n.uid, s.cost, s.allocated, s.idle, s.overhead, x.quarantined, ${PRICE} FROM summed s JOIN node n ON n.id = s.node LEFT JOIN node_price x ON x.id = s.price ORDER BY n.name, n.id`, [cluster, currency, new Date(startMs), new Date(endMs)]);
    return rows.map((row) => ({
      ...pricedOf(row), node: row.node, uid: row.uid, costNanos: BigInt(row.cost), allocatedNanos: BigInt(row.allocated), idleNanos: BigInt(row.idle), overheadNanos: BigInt(row.overhead), quarantined: row.quarantined ?? [],
    }));
  }

  /** Sums by workload, of all or of a namespace. */
  async workloadSums(cluster: number, currency: string, { startMs, endMs }: TimeRange, namespace: string | null): Promise<WorkloadSum[]> {
    const { rows } = await this.database.query<SumRow & { namespace: string; kind: string; name: string; node: number; charged_cpu: number; charged_memory: number; first_start: Date }>(
      // By pod first: a week of ten thousand pods is summed by numbers before any name is looked at.
      `WITH h AS (
         SELECT pod, node, sum(cpu_cost) AS cpu_cost, sum(memory_cost) AS memory_cost, sum(gpu_cost) AS gpu_cost, sum(actual_cost) AS actual_cost, sum(measured_cost) AS measured_cost, sum(cells) AS cells, sum(measured_cells) AS measured_cells,
           sum(present_ms) AS present_ms, sum(measured_ms) AS measured_ms, sum(charged_cpu_millicore_seconds) AS charged_cpu, sum(charged_memory_byte_seconds) AS charged_memory
         FROM pod_hour WHERE cluster = $1 AND currency = $2 AND hour >= $3 AND hour < $4 GROUP BY pod, node)
       SELECT p.workload_namespace AS namespace, p.workload_kind AS kind, p.workload_name AS name, h.node, ${SUMS}, sum(h.charged_cpu) AS charged_cpu, sum(h.charged_memory) AS charged_memory, min(p.starts_at) AS first_start
       FROM h JOIN pod p ON p.id = h.pod WHERE $5::text IS NULL OR p.namespace = $5 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4`, [cluster, currency, new Date(startMs), new Date(endMs), namespace]);
    return [...Map.groupBy(rows, (row) => `${row.namespace}/${row.kind}/${row.name}`).values()].map((of) => {
      const [first] = of as [(typeof of)[number]];
      const totals = of.map(totalOf);
      const add = (field: (row: (typeof of)[number]) => number) => of.reduce((sum, row) => sum + field(row), 0);
      return {
        workload: { namespace: first.namespace, kind: workloadKindSchema.parse(first.kind), name: first.name },
        total: totals.reduce((a, b) => ({
          cpuNanos: a.cpuNanos + b.cpuNanos, memoryNanos: a.memoryNanos + b.memoryNanos, gpuNanos: a.gpuNanos + b.gpuNanos, actualNanos: a.actualNanos + b.actualNanos, measuredNanos: a.measuredNanos + b.measuredNanos, cells: a.cells + b.cells, measuredCells: a.measuredCells + b.measuredCells,
        })),
        presentMs: add((row) => row.present_ms), measuredMs: add((row) => row.measured_ms), chargedCpuMillicoreSeconds: add((row) => row.charged_cpu), chargedMemoryByteSeconds: add((row) => row.charged_memory),
        nodes: of.map((row) => row.node), firstStartMs: Math.min(...of.map((row) => row.first_start.getTime())), byNode: new Map(of.map((row, i) => [row.node, allocated(totals[i])])),
      };
    });
  }

  /** What a workload was charged, by hour. */
  async chargedHours(cluster: number, currency: string, { startMs, endMs }: TimeRange, workload: WorkloadRef): Promise<Map<number, bigint>> {
    const sums = await this.hourSums(cluster, currency, { startMs, endMs }, { of: 'workload', workload });
    return new Map(sums.map((sum) => [sum.hourMs, allocated(sum.total)]));
  }

  /** The kinds of workloads of a name that ever had pods, the one with the newest pod first. */
  async kindsOf(cluster: number, namespace: string, name: string): Promise<WorkloadKind[]> {
    const { rows } = await this.database.query<{ kind: string }>('SELECT workload_kind AS kind FROM pod WHERE cluster = $1 AND workload_namespace = $2 AND workload_name = $3 GROUP BY 1 ORDER BY max(starts_at) DESC', [cluster, namespace, name]);
    return rows.map((row) => workloadKindSchema.parse(row.kind));
  }

  /** When the first of the selected pods was bound, of all that are known; null: there is none. */
  async firstStart(cluster: number, selection: Exclude<Selection, { of: 'pod' | 'node' | 'cluster' }>): Promise<number | null> {
    const condition = conditionOf(selection, 2);
    const { rows } = await this.database.query<{ first: Date | null }>(`SELECT min(p.starts_at) AS first FROM pod p WHERE p.cluster = $1 AND ${condition.sql}`, [cluster, ...condition.values]);
    return rows[0]?.first?.getTime() ?? null;
  }
}

function allocated(total: CostTotal | undefined): bigint {
  return total ? total.cpuNanos + total.memoryNanos + total.gpuNanos : 0n;
}
