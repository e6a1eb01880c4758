import { toTimestamp, UpidError, workloadKey, type QueryParsed, type QueryResponse, type WorkloadKind, type WorkloadObject, type WorkloadRef } from '@upid/contracts';
import type { Bus, InventoryMirror, Logger } from '@upid/platform';
import type { StoredCluster } from '../allocation/inputs.repository.js';
import type { StoredNode, StoredPod } from '../allocation/lives.repository.js';
import { analysisOf, breakdownOf, coverageOf, totalOfHours, type AnalysisInput } from './answers.js';
import type { AnalysisRepository, NodeShare, NodeSum, Selection, WorkloadSum } from './analysis.repository.js';
import { coveredMsOf, coveredSince, hoursKnownInFull, wholeHours, type CoveredHour } from './coverage.js';

type Asked<N extends 'analysis' | 'cluster_cost' | 'workload_costs'> = QueryParsed<'cost', N>;
type Answer<N extends 'analysis' | 'cluster_cost' | 'workload_costs'> = QueryResponse<'cost', N>;

/** Clusters that are known here. */
export interface Clusters {
  findCluster(clusterId: string): Promise<StoredCluster | null>;
}
/** Nodes and pods by name, also of those that are gone. */
export interface Names {
  nodeByName(cluster: number, name: string): Promise<StoredNode | null>;
  podByName(cluster: number, namespace: string, name: string): Promise<StoredPod | null>;
}

/** What a question is about: whose pods, under which name, since when. */
interface Subject {
  readonly selection: Selection;
  readonly name: string;
  readonly namespace: string | null;
  readonly sinceMs: number | null;
  readonly workload: WorkloadRef | null;
  readonly uncharged: (hour: CoveredHour) => number;
}

/** Of several workloads of one name, the kind that is meant where none is named. */
const kindOrder: readonly WorkloadKind[] = ['Deployment', 'StatefulSet', 'DaemonSet', 'Rollout', 'CronJob', 'Job', 'ReplicaSet', 'ReplicationController', 'Pod', 'Node', 'Other'];
const bytesPerGib = 1024 ** 3;
/** Intelligence is asked for requests; without its answer the cost is still told. */
const askTimeoutMs = 3_000;

const all = (hour: CoveredHour): number => Object.values(hour.uncharged).reduce((sum, pods) => sum + pods, 0);
const none = (): number => 0;
function ofNamespace(namespace: string): (hour: CoveredHour) => number {
  return (hour) => Object.entries(hour.uncharged).reduce((sum, [key, pods]) => sum + (key.startsWith(`${namespace}/`) ? pods : 0), 0);
}
function ofWorkload(workload: WorkloadRef): (hour: CoveredHour) => number {
  const key = workloadKey(workload);
  return (hour) => hour.uncharged[key] ?? 0;
}

/** Answers what things cost, from the hours that were computed. */
export class AnalysisService {
  constructor(
    private readonly repository: AnalysisRepository, private readonly clusters: Clusters, private readonly names: Names, private readonly inventory: InventoryMirror, private readonly bus: Pick<Bus, 'ask'>, private readonly log: Logger,
    private readonly options: { readonly currency: string; readonly nowMs: () => number },
  ) {}

  /** @throws {UpidError} cluster_not_found */
  async cluster(clusterId: string): Promise<StoredCluster> {
    const found = await this.clusters.findCluster(clusterId);
    if (!found) throw new UpidError('cluster_not_found', `There is no cluster ${clusterId}.`, { cluster_id: clusterId });
    return found;
  }

  /** What something costs, how that moved and why. @throws {UpidError} cluster_not_found, not_found, invalid_request */
  async analyse(asked: Asked<'analysis'>): Promise<Answer<'analysis'>> {
    const { currency } = this.options;
    const nowMs = this.options.nowMs();
    const cluster = await this.cluster(asked.cluster_id);
    const subject = await this.subject(cluster, asked);
    const range = wholeHours({ startMs: Date.parse(asked.start), endMs: Date.parse(asked.end) }, nowMs);
    const isWhole = subject.selection.of === 'node' || subject.selection.of === 'cluster';
    const [hours, sums, shares, whole, unitCost] = await Promise.all([
      this.repository.coveredHours(cluster.number, currency, range), this.repository.hourSums(cluster.number, currency, range, subject.selection),
      subject.selection.of === 'cluster' ? this.repository.nodeSums(cluster.number, currency, range) : this.repository.nodeShares(cluster.number, currency, range, subject.selection),
      isWhole ? this.repository.nodeHours(cluster.number, currency, range, subject.selection.of === 'node' ? subject.selection.node : null) : null, this.businessPerDay(asked, subject.workload),
    ]);
    const allocated = new Map(sums.map((sum) => [sum.hourMs, sum.total.cpuNanos + sum.total.memoryNanos + sum.total.gpuNanos]));
    const rateHours = subject.workload ? hoursKnownInFull(hours, (hour) => subject.uncharged(hour) > 0, (hour) => (allocated.get(hour.hourMs) ?? 0n) > 0n) : hours;
    const input: AnalysisInput = {
      clusterId: asked.cluster_id, resourceType: asked.resource_type, resourceName: subject.name, namespace: subject.namespace, currency, ...range, nowMs, sinceMs: subject.sinceMs, hours, rateHours, uncharged: subject.uncharged, sums, whole,
      nodes: shares, unitCost,
    };
    return analysisOf(input);
  }

  private async subject(cluster: StoredCluster, asked: Asked<'analysis'>): Promise<Subject> {
    const { resource_name: name } = asked;
    const where = { cluster_id: asked.cluster_id, name };
    const missing = (what: string): UpidError => new UpidError('not_found', `There is no ${what} in cluster ${asked.cluster_id}.`, where);
    switch (asked.resource_type) {
      case 'pod': {
        const namespace = asked.namespace ?? 'default';
        const pod = await this.names.podByName(cluster.number, namespace, name);
        if (pod) return { selection: { of: 'pod', pod: pod.id }, name, namespace, sinceMs: pod.startMs, workload: null, uncharged: none };
        if (await this.inventory.byName(asked.cluster_id, 'Pod', namespace, name)) throw new UpidError('not_found', `Pod ${name} in namespace ${namespace} of cluster ${asked.cluster_id} is bound to no node: it has no cost yet.`, where);
        throw missing(`pod ${name} in namespace ${namespace}`);
      }
      case 'deployment':
      case 'workload': {
        const workload = await this.findWorkload(cluster, asked.namespace ?? 'default', asked.kind, name);
        if (!workload) throw missing(`${asked.kind ?? 'workload'} ${name} in namespace ${asked.namespace ?? 'default'}`);
        const selection = { of: 'workload', workload } as const;
        return { selection, name, namespace: workload.namespace, sinceMs: await this.since(cluster, workload), workload, uncharged: ofWorkload(workload) };
      }
      case 'namespace': {
        const selection = { of: 'namespace', namespace: name } as const;
        const [object, first] = await Promise.all([this.inventory.byName(asked.cluster_id, 'Namespace', null, name), this.repository.firstStart(cluster.number, selection)]);
        if (!object && first === null) throw missing(`namespace ${name}`);
        return { selection, name, namespace: name, sinceMs: earlier(first, object?.body.created_at ?? null), workload: null, uncharged: ofNamespace(name) };
      }
      case 'node': {
        const node = await this.names.nodeByName(cluster.number, name);
        if (!node) throw missing(`node ${name}`);
        return { selection: { of: 'node', node: node.id }, name, namespace: null, sinceMs: node.startMs, workload: null, uncharged: none };
      }
      case 'label': {
        const [key = '', ...value] = name.split('=');
        if (key.trim() === '') throw new UpidError('invalid_request', `${JSON.stringify(name)} names no label: give key=value, or key for all that carry it.`, where);
        const selection = { of: 'label', key: key.trim(), value: value.length === 0 ? null : value.join('=').trim(), namespace: asked.namespace } as const;
        const first = await this.repository.firstStart(cluster.number, selection);
        if (first === null) throw missing(`pod with the label ${name}`);
        return { selection, name, namespace: asked.namespace, sinceMs: first, workload: null, uncharged: none };
      }
      case 'cluster':
        return { selection: { of: 'cluster' }, name, namespace: null, sinceMs: null, workload: null, uncharged: all };
    }
  }

  private async findWorkload(cluster: StoredCluster, namespace: string, kind: WorkloadKind | null, name: string): Promise<WorkloadRef | null> {
    const standing = (await this.inventory.byKind(cluster.clusterId, 'Workload', { namespace })).map((row) => row.body as WorkloadObject).filter((each) => each.name === name).map((each) => each.workload_kind);
    const known = [...standing.sort((a, b) => kindOrder.indexOf(a) - kindOrder.indexOf(b)), ...(await this.repository.kindsOf(cluster.number, namespace, name))];
    const found = known.find((each) => kind === null || each === kind);
    return found ? { namespace, kind: found, name } : null;
  }

  private async since(cluster: StoredCluster, workload: WorkloadRef): Promise<number | null> {
    const [object, first] = await Promise.all([this.inventory.workload(cluster.clusterId, workload), this.repository.firstStart(cluster.number, { of: 'workload', workload })]);
    return earlier(first, object?.body.created_at ?? null);
  }

  /** Business requests a day of a workload, or why they are not known. */
  private async businessPerDay(asked: Asked<'analysis'>, workload: WorkloadRef | null): Promise<AnalysisInput['unitCost']> {
    if (!workload) return { businessPerDay: null, reason: 'requests are counted by workload: ask for one' };
    try {
      const { requests } = await this.bus.ask<QueryResponse<'intelligence', 'requests'>>('intelligence', 'requests', { cluster_id: asked.cluster_id, workload, start: asked.start, end: asked.end }, { timeoutMs: askTimeoutMs });
      return requests?.business_per_day == null ? { businessPerDay: null, reason: 'no request telemetry is known of it' } : { businessPerDay: requests.business_per_day, reason: null };
    } catch (error) {
      if (!(error instanceof UpidError)) throw error;
      this.log.info({ cluster_id: asked.cluster_id, code: error.code }, 'requests cannot be asked for this time');
      return { businessPerDay: null, reason: `its requests could not be asked for: ${error.message}` };
    }
  }

  /** What a cluster, or a namespace of it, costs, by namespace, kind of workload and node. @throws {UpidError} cluster_not_found, not_found */
  async clusterCost(asked: Asked<'cluster_cost'>): Promise<Answer<'cluster_cost'>> {
    const { currency } = this.options;
    const { namespace } = asked;
    const nowMs = this.options.nowMs();
    const cluster = await this.cluster(asked.cluster_id);
    if (namespace !== null) await this.subject(cluster, { ...asked, resource_type: 'namespace', resource_name: namespace, kind: null });
    const range = wholeHours({ startMs: Date.parse(asked.start), endMs: Date.parse(asked.end) }, nowMs);
    const [hours, workloads, nodes] = await Promise.all([
      this.repository.coveredHours(cluster.number, currency, range), this.repository.workloadSums(cluster.number, currency, range, namespace), this.repository.nodeSums(cluster.number, currency, range),
    ]);
    const coveredMs = coveredMsOf(hours, -Infinity);
    const byId = new Map<number, NodeSum>(nodes.map((node) => [node.node, node]));
    const group = (of: readonly WorkloadSum[]) => {
      const total = totalOfHours(of);
      return breakdownOf({ currency, total, rateNanos: total.cpuNanos + total.memoryNanos + total.gpuNanos, coveredMs, nodes: nodesOf(of, byId), nowMs });
    };
    const whole = group(workloads);
    const sum = (of: (node: NodeSum) => bigint) => nodes.reduce((total, node) => total + of(node), 0n);
    const nodeNanos = namespace === null ? sum((node) => node.costNanos) : BigInt(whole.allocated_cost);
    const rates = breakdownOf({ currency, total: totalOfHours([]), rateNanos: nodeNanos, coveredMs, nodes: [], nowMs });
    const within = new Set(workloads.flatMap((each) => each.nodes));
    return {
      cluster_id: asked.cluster_id, currency, start: toTimestamp(range.startMs), end: toTimestamp(range.endMs),
      node_cost: String(nodeNanos), allocated_cost: whole.allocated_cost, idle_cost: namespace === null ? String(sum((node) => node.idleNanos)) : '0', overhead_cost: namespace === null ? String(sum((node) => node.overheadNanos)) : '0', actual_cost: whole.actual_cost,
      monthly_projection: rates.monthly_projection, covered_hours: whole.covered_hours,
      by_namespace: [...Map.groupBy(workloads, (each) => each.workload.namespace)].map(([name, of]) => ({ namespace: name, cost: group(of) })),
      by_workload_kind: [...Map.groupBy(workloads, (each) => each.workload.kind)].map(([kind, of]) => ({ kind, cost: group(of) })),
      by_node: nodes.filter((node) => namespace === null || within.has(node.node)).map((node) => ({
        node: node.name, uid: node.uid, instance_type: node.instanceType, capacity_type: node.capacityType, node_cost: String(node.costNanos), idle_cost: String(node.idleNanos), overhead_cost: String(node.overheadNanos),
        allocated_cost: String(namespace === null ? node.allocatedNanos : workloads.reduce((total, each) => total + (each.byNode.get(node.node) ?? 0n), 0n)),
        price_basis: breakdownOf({ currency, total: totalOfHours([]), rateNanos: 0n, coveredMs, nodes: [node], nowMs }).price_basis ?? { source: 'estimate', as_of: null, note: 'its price is no longer known' },
      })),
      quarantined_prices: nodes.flatMap((node) => node.quarantined.map((each) => ({ node: node.name, reason: `${each.source}: ${each.explanation}` }))),
      coverage: coverageOf({ hours, ...range, nowMs, sinceMs: null, total: totalOfHours(workloads), measuredMs: workloads.reduce((total, each) => total + each.measuredMs, 0), presentMs: workloads.reduce((total, each) => total + each.presentMs, 0), uncharged: namespace === null ? all : ofNamespace(namespace) }, {
        ...(namespace === null ? {} : { idle_cost: 'idle capacity and overhead belong to the nodes, not to a namespace; node_cost is what its pods are charged, and the nodes below are shown whole' }),
      }),
    };
  }

  /** What workloads cost now, and a unit of what they are charged for: all of a cluster, or those that are named. @throws {UpidError} cluster_not_found */
  async workloadCosts(asked: Asked<'workload_costs'>): Promise<Answer<'workload_costs'>> {
    const cluster = await this.cluster(asked.cluster_id);
    return { currency: this.options.currency, workloads: (await this.currentCosts(cluster, asked)).map(({ answer }) => answer) };
  }

  /** The same with what each workload costs at each node. */
  async currentCosts(cluster: StoredCluster, asked: Pick<Asked<'workload_costs'>, 'start' | 'end' | 'workloads'>): Promise<{ readonly answer: Answer<'workload_costs'>['workloads'][number]; readonly byNode: ReadonlyMap<number, bigint> }[]> {
    const { currency } = this.options;
    const nowMs = this.options.nowMs();
    const range = wholeHours({ startMs: Date.parse(asked.start), endMs: Date.parse(asked.end) }, nowMs);
    const [hours, sums, nodes, objects] = await Promise.all([
      this.repository.coveredHours(cluster.number, currency, range), this.repository.workloadSums(cluster.number, currency, range, null), this.repository.nodeSums(cluster.number, currency, range), this.inventory.byKind(cluster.clusterId, 'Workload'),
    ]);
    const byId = new Map<number, NodeSum>(nodes.map((node) => [node.node, node]));
    const sumOf = new Map(sums.map((each) => [workloadKey(each.workload), each]));
    const createdOf = new Map(objects.map((row) => row.body as WorkloadObject).map((each) => [workloadKey({ namespace: each.namespace, kind: each.workload_kind, name: each.name }), each]));
    const refs = new Map<string, WorkloadRef>(sums.map((each) => [workloadKey(each.workload), each.workload]));
    for (const [key, each] of createdOf) refs.set(key, { namespace: each.namespace, kind: each.workload_kind, name: each.name });
    const wanted = asked.workloads === null ? [...refs.keys()].sort() : asked.workloads.map(workloadKey).filter((key) => refs.has(key));
    const costs = [];
    for (const key of wanted) {
      const workload = refs.get(key) as WorkloadRef;
      const sum = sumOf.get(key) ?? null;
      const sinceMs = Math.max(range.startMs, earlier(sum?.firstStartMs ?? null, createdOf.get(key)?.created_at ?? null) ?? range.startMs);
      const rate = await this.rateOf(cluster, range, hours, workload, sum);
      const coveredMs = coveredMsOf(rate.hours, sinceMs);
      const total = sum?.total ?? totalOfHours([]);
      const seconds = coveredMsOf(hours, sinceMs) / 1000;
      const unit = (nanos: bigint, amountSeconds: number, size: number): string | null => (amountSeconds > 0 ? String(BigInt(Math.round((Number(nanos) / amountSeconds) * size * 3600))) : null);
      costs.push({
        byNode: sum?.byNode ?? new Map<number, bigint>(),
        answer: {
          workload, cost: breakdownOf({ currency, total, rateNanos: rate.nanos, coveredMs, nodes: sum ? nodesOf([sum], byId) : [], nowMs }),
          cpu_cost_per_core_hour: sum ? unit(total.cpuNanos, sum.chargedCpuMillicoreSeconds, 1000) : null, memory_cost_per_gib_hour: sum ? unit(total.memoryNanos, sum.chargedMemoryByteSeconds, bytesPerGib) : null,
          charged_cpu_millicores: sum && seconds > 0 ? sum.chargedCpuMillicoreSeconds / seconds : null, charged_memory_bytes: sum && seconds > 0 ? sum.chargedMemoryByteSeconds / seconds : null,
        },
      });
    }
    return costs;
  }

  /** The hours and the cost that a workload's rate is told by. */
  private async rateOf(cluster: StoredCluster, range: { startMs: number; endMs: number }, hours: readonly CoveredHour[], workload: WorkloadRef, sum: WorkloadSum | null): Promise<{ hours: readonly CoveredHour[]; nanos: bigint }> {
    const uncharged = ofWorkload(workload);
    if (!hours.some((hour) => uncharged(hour) > 0)) return { hours, nanos: sum ? sum.total.cpuNanos + sum.total.memoryNanos + sum.total.gpuNanos : 0n };
    const charged = await this.repository.chargedHours(cluster.number, this.options.currency, range, workload);
    const known = hoursKnownInFull(hours, (hour) => uncharged(hour) > 0, (hour) => (charged.get(hour.hourMs) ?? 0n) > 0n);
    return { hours: known, nanos: known.filter((hour) => coveredSince(hour, -Infinity) > 0).reduce((total, hour) => total + (charged.get(hour.hourMs) ?? 0n), 0n) };
  }
}

function nodesOf(sums: readonly WorkloadSum[], byId: ReadonlyMap<number, NodeSum>): NodeShare[] {
  return [...new Set(sums.flatMap((each) => each.nodes))].flatMap((node) => byId.get(node) ?? []);
}

function earlier(ms: number | null, timestamp: string | null): number | null {
  const other = timestamp === null ? null : Date.parse(timestamp);
  return ms === null ? other : other === null ? ms : Math.min(ms, other);
}
