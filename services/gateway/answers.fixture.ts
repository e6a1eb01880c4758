import { capabilitiesSchema, type ClusterObject, type Insight, type InventoryEvent, type Job, type QueryResponse, type Recommendation } from '@upid/contracts';

/** Answers that the services behind the gateway would give, for tests. */
export const UID = '11111111-1111-4111-8111-111111111111';
export const JOB_ID = '22222222-2222-4222-8222-222222222222';
const AT = '2026-03-04T12:00:00.000Z';
const workload = { namespace: 'shop', kind: 'Deployment' as const, name: 'promo' };
const usage = { cpu_millicores: { mean: 2, p50: 2, p95: 3, p99: 3, max: 4 }, memory_bytes: { mean: 1e8, p95: 1e8, max: 1.1e8 }, network_bytes_per_second: null, throttled_minutes_share: null, covered_minutes: 10_080 };
const trend = { direction: 'steady' as const, change_percent_per_week: 0.5, significance: 0.4, shifted_at: null, evidence: 'no significant slope' };
const judgement = {
  state: 'idle' as const, idle_probability: 99, confidence: 97, calibrated_confidence: null, missing: [], observed_hours: 168, data_points: 10_080, model_version: 'start',
  factors: [{ name: 'business_activity' as const, weight: 0.5, score: 100, coverage: 1, evidence: 'no business request' }, { name: 'dependency_health' as const, weight: 0.05, score: null, coverage: 0, evidence: 'no dependencies known' }],
};
const coverage = { usage: 1, requests: 1, cost: null, since: AT, until: AT, reasons: {} };
export const insight: Insight = {
  workload, uid: UID, judgement, usage, containers: [{ name: 'app', usage, oom_kills: 0 }],
  requests: { covered_minutes: 10_080, business_minutes: 0, business: 0, health_check: 20_160, probe: 0, monitoring: 0, load_balancer: 0, crawler: 0, errors: 0, noise_share: 1, business_per_day: 0, latency_p95_ms: null }, idle_periods: [{ start_hour: 0, end_hour: 168 }], time_zone: 'UTC',
  performance: { throttled_minutes_share: null, memory_of_limit_max: 0.2, oom_kills: 0, restarts: 0, findings: [], likely_improvement: null }, patterns: [], anomalies: [], trends: { usage: trend, efficiency: trend }, predictions: null, user_impact_score: 0, business_criticality: 'low', coverage,
};
export const podAnswer: QueryResponse<'intelligence', 'pod'> = { pod: { uid: UID, name: 'promo-x', namespace: 'shop', node_name: 'n1' }, insight };
export const workloadAnswer: QueryResponse<'intelligence', 'workload'> = {
  insight, assessment: null, replicas: 2, pods: [{ uid: UID, name: 'promo-x', node_name: 'n1', judgement, usage }], load: { peak_hour_of_week: 25, low_hour_of_week: null, variability: 0.1 }, service_reliability: null,
};
const part = { used: 100, requested: 1000, allocatable: 4000, capacity: 4096, used_share: 0.025, requested_share: 0.25 };
export const clusterAnswer: QueryResponse<'intelligence', 'cluster'> = {
  cluster_id: 'demo', nodes: 1, pods: 1, cpu: part, memory: part, storage_used_bytes: null, network_bytes_per_second: { receive: 1, transmit: 2 }, states: { idle: 1 }, over_provisioned_workloads: 1, under_provisioned_workloads: 0, requests_per_day: 0, service_availability: null,
  workloads: [{ workload, uid: UID, state: 'idle', idle_probability: 99, confidence: 97, replicas: 2, requests_per_day: 0, cpu_millicores_mean: 2, memory_bytes_mean: 1e8 }], anomalies: [], coverage,
};
const breakdown = {
  currency: 'USD', allocated_cost: '7000000000', cpu_cost: '5000000000', memory_cost: '2000000000', gpu_cost: '0', actual_cost: '70000000', wasted_cost: '6930000000', waste_percentage: 99, hourly_rate: '41666667', daily_cost: '1000000008', monthly_projection: '30416666910',
  covered_hours: 168, instance_type: 'm6i.xlarge', region: 'us-east-1', pricing_model: 'on_demand' as const, price_basis: { source: 'price_list' as const, as_of: AT, note: 'list price' },
};
export const costAnswer: QueryResponse<'cost', 'analysis'> = {
  cluster_id: 'demo', resource_type: 'workload', resource_name: 'promo', namespace: 'shop', start: AT, end: AT, current: breakdown, history: [{ hour: AT, allocated_cost: '41666667', actual_cost: null }], trend, drivers: [{ what: 'replicas 1 → 2', change: '3500000000' }],
  unit_cost: { per_thousand_requests: null, reason: 'no business request' }, coverage: { ...coverage, cost: 1 },
};
export const clusterCostAnswer: QueryResponse<'cost', 'cluster_cost'> = {
  cluster_id: 'demo', currency: 'USD', start: AT, end: AT, node_cost: '10000000000', allocated_cost: '7000000000', idle_cost: '2500000000', overhead_cost: '500000000', actual_cost: '70000000', monthly_projection: '43452381000', covered_hours: 168, by_namespace: [{ namespace: 'shop', cost: breakdown }],
  by_workload_kind: [{ kind: 'Deployment', cost: breakdown }], by_node: [], quarantined_prices: [], coverage: { ...coverage, cost: 1 },
};
export const savingsAnswer: QueryResponse<'cost', 'savings'> = {
  cluster_id: 'demo', currency: 'USD', total: '30416666910', high_confidence: '30416666910', pods: { total: '0', high_confidence: '0', count: 0 }, deployments: { total: '30416666910', high_confidence: '30416666910', count: 1 }, nodes: { total: '0', high_confidence: '0', count: 0 }, bill_savings: null, bill_savings_reason: 'not simulated',
  horizon_hours: 720, coverage,
};
export const recommendation: Recommendation = {
  id: UID, type: 'zero_scaling', workload, workload_uid: UID, action: 'Scale to 0', impact: 'frees capacity', confidence: 97, risk_level: 'low', saving: { estimated_savings: '30416666910', bill_savings: null, bill_savings_reason: 'not simulated', currency: 'USD', price_source: 'price_list' }, implementation_effort: 'low',
  evidence: {}, patch: { api_version: 'apps/v1', kind: 'Deployment', namespace: 'shop', name: 'promo', body: { spec: { replicas: 0 } } }, safety_checks: [], actionable: true, blocked_by: [], created_at: AT, updated_at: AT,
};
export const job: Job = {
  id: JOB_ID, cluster_id: 'demo', optimization_type: 'zero_scaling', target: workload, target_uid: UID, status: 'watching', progress: 70, dry_run: false, actor: 'ann', policy: 'default', steps: [], safety_checks: [], plan: null, result: null, error: null, applied: true, created_at: AT, updated_at: AT, estimated_completion: AT,
};
export const clusterObject: ClusterObject = {
  kind: 'Cluster', uid: UID, name: 'shop', provider: 'aws', provider_evidence: 'providerID', distribution: 'eks', distribution_evidence: 'label', server_version: 'v1.36.0', region: 'us-east-1', time_zone: null, capabilities: capabilitiesSchema.parse({ kubelet: true }), agent_version: '0.1.0', demo: true,
};
const none = { cpu_millicores: null, memory_bytes: null, gpus: null, pods: null, ephemeral_storage_bytes: null };

/** A snapshot of a cluster with one node and one pod. */
export function snapshot(): InventoryEvent {
  return {
    version: 1, type: 'snapshot', epoch: UID, epoch_started_at: AT, generation: 1, sequence: 0, part: 1, parts: 1, observed_at: AT, removes: [],
    upserts: [clusterObject, {
      kind: 'Pod', uid: UID, namespace: 'shop', name: 'promo-x', node_name: 'n1', phase: 'Running', ready: true, workload, owners: ['ReplicaSet/promo-1', 'Deployment/promo'], containers: [{ name: 'app', role: 'main', image: null, requests: none, limits: none }], overhead: null, host_network: false, labels: {}, restarts: 0, oom_killed_at: null,
      created_at: AT, scheduled_at: AT, started_at: AT, finished_at: null,
    }],
  };
}
