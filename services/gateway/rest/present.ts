import {
  toTimestamp, workloadKey, type ClusterInsight, type ClusterObject, type ClusterResponse, type CostBreakdown, type Coverage, type DeploymentResponse, type Insight, type Job, type JobResponse, type PodResponse, type QueryResponse, type Recommendation, type RestRecommendation, type SavingsResponse, type WorkloadRef,
} from '@upid/contracts';
import type { CostAnalysisResponse, IntelligenceClusterResponse } from './models.js';

/** The wire's shapes out of the services' answers. What a service could not say is null, with the reason beside it. */

/** Nanos of the currency as a number rounded to 1e-6, for display only. */
export function money(nanos: string | null): number | null {
  if (nanos === null) return null;
  const value = BigInt(nanos);
  const micros = (value >= 0n ? value + 500n : value - 500n) / 1000n;
  return Number(micros) / 1e6;
}

const plain = (nanos: string): number => money(nanos) ?? 0;

/** `Deployment` → `deployment/shop/cart`. */
export function resourceName(workload: WorkloadRef): string {
  return `${workload.kind.toLowerCase()}/${workload.namespace}/${workload.name}`;
}

export function presentRecommendation(each: Recommendation): RestRecommendation {
  return {
    id: each.id, type: each.type, resource: each.workload ? resourceName(each.workload) : null, action: each.action, impact: each.impact, confidence: each.confidence, risk_level: each.risk_level, estimated_savings: money(each.saving.estimated_savings), bill_savings: money(each.saving.bill_savings),
    bill_savings_reason: each.saving.bill_savings_reason, currency: each.saving.currency, implementation_effort: each.implementation_effort, evidence: each.evidence, patch: each.patch, safety_checks: each.safety_checks, actionable: each.actionable, blocked_by: each.blocked_by,
    created_at: each.created_at, updated_at: each.updated_at,
  };
}

export function presentJob(job: Job): JobResponse {
  return {
    job_id: job.id, cluster_id: job.cluster_id, optimization_type: job.optimization_type, target: resourceName(job.target), status: job.status, progress: job.progress, dry_run: job.dry_run, applied: job.applied, actor: job.actor, policy: job.policy, result: job.result, error: job.error,
    steps: job.steps, safety_checks: job.safety_checks, plan: job.plan, created_at: job.created_at, updated_at: job.updated_at, estimated_completion: job.estimated_completion,
  };
}

/** A part that another service should have answered: its value, or why it is missing. */
export type Part<T> = { readonly value: T } | { readonly missing: string };

export function valueOf<T>(part: Part<T>): T | null {
  return 'value' in part ? part.value : null;
}

type CostAnalysis = QueryResponse<'cost', 'analysis'>;

/** Savings that recommendations promise for these workloads, a month, at most `ceiling`; zero-scaling and sizing of one workload are not added up. */
function potential(recommendations: readonly Recommendation[], ceiling: number | null, share = 1): number | null {
  const best = new Map<string, number>();
  for (const each of recommendations) {
    const value = money(each.saving.estimated_savings);
    if (value === null) continue;
    const key = each.workload ? workloadKey(each.workload) : each.id;
    best.set(key, Math.max(best.get(key) ?? 0, value));
  }
  if (recommendations.length > 0 && best.size === 0) return null;
  const sum = [...best.values()].reduce((total, value) => total + value, 0) * share;
  return ceiling === null ? sum : Math.min(sum, ceiling);
}

function presentCost(cost: CostBreakdown | null, optimizationPotential: number | null): PodResponse['insights']['cost_analysis'] {
  return {
    allocated_cost: money(cost?.allocated_cost ?? null), actual_cost: money(cost?.actual_cost ?? null), wasted_cost: money(cost?.wasted_cost ?? null), waste_percentage: cost?.waste_percentage ?? null, hourly_rate: money(cost?.hourly_rate ?? null), daily_cost: money(cost?.daily_cost ?? null),
    monthly_projection: money(cost?.monthly_projection ?? null), optimization_potential: cost === null ? null : optimizationPotential, instance_type: cost?.instance_type ?? null, region: cost?.region ?? null, pricing_model: cost?.pricing_model ?? null, price_source: cost?.price_basis?.source ?? null,
    price_as_of: cost?.price_basis?.as_of ?? null, currency: cost?.currency ?? null,
  };
}

/** Coverage of an answer that several services gave, with the reason of every null. */
function coverageOf(base: Coverage, cost: Part<CostAnalysis>, more: Record<string, string> = {}): Coverage {
  const costCoverage = 'value' in cost ? cost.value.coverage : null;
  return { ...base, cost: costCoverage?.cost ?? null, reasons: { ...base.reasons, ...costCoverage?.reasons, ...('missing' in cost ? { cost_analysis: cost.missing } : {}), ...more } };
}

const REVENUE = { revenue_attribution: 'no business metric (revenue, orders) is configured' };

function presentIdle(insight: Insight, policy: string, monthly: number | null, wasted: number | null): PodResponse['insights']['idle_analysis'] {
  const { judgement } = insight;
  const known = judgement.factors.filter((factor) => factor.score !== null);
  return {
    state: judgement.state, idle_probability: judgement.idle_probability, confidence: judgement.confidence, calibrated_confidence: judgement.calibrated_confidence,
    contributing_factors: known.length === 0 ? `Nothing can be said yet: ${judgement.missing.join('; ')}` : known.map((factor) => `${factor.name.replaceAll('_', ' ')} ${factor.score?.toFixed(0)}: ${factor.evidence}`).join('; '),
    factors: judgement.factors, idle_periods: insight.idle_periods, time_zone: insight.time_zone, missing: judgement.missing, observed_hours: judgement.observed_hours, data_points: judgement.data_points, model_version: judgement.model_version, policy,
    business_impact: insight.requests === null ? 'unknown: no request telemetry' : insight.requests.business === 0 ? 'none seen: no business request in the covered time' : `${insight.requests.business} business requests in the covered time`,
    cost_impact: judgement.state === 'idle' ? monthly : wasted,
  };
}

const UNKNOWN_TREND = { direction: 'unknown' as const, change_percent_per_week: null, significance: null, shifted_at: null, evidence: 'cost is not known' };

export interface PodAnswer {
  readonly clusterId: string;
  readonly pod: QueryResponse<'intelligence', 'pod'>;
  readonly cost: Part<CostAnalysis>;
  readonly recommendations: Part<readonly Recommendation[]>;
  /** Pods of the workload: its savings are spread over them. */
  readonly replicas: number | null;
  readonly policy: string;
  readonly nowMs: number;
}

export function presentPod({ clusterId, pod, cost, recommendations, replicas, policy, nowMs }: PodAnswer): PodResponse {
  const { insight } = pod;
  const breakdown = valueOf(cost)?.current ?? null;
  const advice = valueOf(recommendations) ?? [];
  const monthly = money(breakdown?.monthly_projection ?? null);
  const costs = presentCost(breakdown, potential(advice, monthly, 1 / Math.max(1, replicas ?? 1)));
  const presented = advice.map(presentRecommendation);
  return {
    pod_id: { name: pod.pod.name, namespace: pod.pod.namespace, cluster_id: clusterId },
    insights: {
      current_state: { state: insight.judgement.state, node_name: pod.pod.node_name, usage: insight.usage, containers: insight.containers, requests: insight.requests },
      cost_analysis: costs, idle_analysis: presentIdle(insight, policy, monthly, monthlyWaste(costs)),
      business_impact: { requests_per_day: insight.requests?.business_per_day ?? null, revenue_attribution: null, user_impact_score: insight.user_impact_score, business_criticality: insight.business_criticality },
      performance_analysis: insight.performance, predictions: insight.predictions, patterns: insight.patterns, anomalies: insight.anomalies,
      trends: { usage_trend: insight.trends.usage, cost_trend: valueOf(cost)?.trend ?? UNKNOWN_TREND, efficiency_trend: insight.trends.efficiency }, recommendations: presented, confidence: insight.judgement.confidence,
    },
    recommendations: presented, confidence: insight.judgement.confidence, coverage: coverageOf(insight.coverage, cost, { ...REVENUE, ...missing(recommendations, 'recommendations') }), analysis_timestamp: toTimestamp(nowMs),
  };
}

function missing(part: Part<unknown>, name: string): Record<string, string> {
  return 'missing' in part ? { [name]: part.missing } : {};
}

function monthlyWaste(cost: PodResponse['insights']['cost_analysis']): number | null {
  return cost.monthly_projection === null || cost.waste_percentage === null ? null : (cost.monthly_projection * cost.waste_percentage) / 100;
}

const DAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];

/** Hour 0 of the week is Monday 00:00. */
export function hourOfWeekName(hour: number | null): string | null {
  return hour === null ? null : `${DAYS[Math.floor(hour / 24)]} ${String(hour % 24).padStart(2, '0')}:00`;
}

export interface DeploymentAnswer {
  readonly clusterId: string;
  readonly workload: QueryResponse<'intelligence', 'workload'>;
  readonly cost: Part<CostAnalysis>;
  readonly recommendations: Part<readonly Recommendation[]>;
  readonly policy: string;
  readonly nowMs: number;
}

export function presentDeployment({ clusterId, workload, cost, recommendations, policy, nowMs }: DeploymentAnswer): DeploymentResponse {
  const { insight } = workload;
  const breakdown = valueOf(cost)?.current ?? null;
  const advice = valueOf(recommendations) ?? [];
  const sleep = advice.find((each) => each.type === 'zero_scaling');
  const blocked = advice.find((each) => each.type === 'idle_optimization');
  const monthly = money(breakdown?.monthly_projection ?? null);
  const costs = presentCost(breakdown, potential(advice, monthly));
  const allocated = plain(breakdown?.allocated_cost ?? '0');
  const actual = money(breakdown?.actual_cost ?? null);
  return {
    deployment_id: { name: insight.workload.name, namespace: insight.workload.namespace, kind: insight.workload.kind, cluster_id: clusterId }, total_pods: workload.pods.length, state: insight.judgement.state, idle_analysis: presentIdle(insight, policy, monthly, monthlyWaste(costs)),
    scaling_recommendation: {
      current_replicas: workload.replicas, recommended_replicas: sleep ? 0 : workload.replicas, confidence: sleep?.confidence ?? insight.judgement.confidence, zero_scaling: sleep !== undefined,
      rationale: sleep ? sleep.action : blocked ? blocked.action : insight.judgement.state === 'unknown' ? `Not enough is known: ${insight.judgement.missing.join('; ')}` : `It is ${insight.judgement.state}: nothing speaks for other replicas`,
    },
    cost_analysis: { ...costs, total_monthly_cost: monthly, per_pod_efficiency: actual === null || allocated === 0 ? null : actual / allocated },
    performance_patterns: { peak_load_time: hourOfWeekName(workload.load.peak_hour_of_week), low_load_time: hourOfWeekName(workload.load.low_hour_of_week), load_variability: workload.load.variability, time_zone: insight.time_zone },
    business_impact: { total_daily_requests: insight.requests?.business_per_day ?? null, revenue_attribution: null, service_reliability: workload.service_reliability },
    performance_analysis: insight.performance, patterns: insight.patterns, anomalies: insight.anomalies, trends: { usage_trend: insight.trends.usage, cost_trend: valueOf(cost)?.trend ?? UNKNOWN_TREND, efficiency_trend: insight.trends.efficiency },
    pods: workload.pods.map((pod) => ({ name: pod.name, node_name: pod.node_name, state: pod.judgement.state, idle_probability: pod.judgement.idle_probability, confidence: pod.judgement.confidence, cpu_millicores: pod.usage.cpu_millicores?.mean ?? null, memory_bytes: pod.usage.memory_bytes?.mean ?? null })),
    recommendations: advice.map(presentRecommendation), confidence: insight.judgement.confidence, coverage: coverageOf(insight.coverage, cost, { ...REVENUE, ...missing(recommendations, 'recommendations') }), analysis_timestamp: toTimestamp(nowMs),
  };
}

/** Advice for the whole cluster out of the advice on its workloads. */
function strategic(advice: readonly Recommendation[]): ClusterResponse['strategic_recommendations'] {
  const group = (types: readonly Recommendation['type'][]) => advice.filter((each) => types.includes(each.type));
  const sum = (all: readonly Recommendation[]) => all.reduce((total, each) => total + (money(each.saving.estimated_savings) ?? 0), 0);
  const lowest = (all: readonly Recommendation[]) => Math.min(...all.map((each) => each.confidence));
  const currency = advice[0]?.saving.currency ?? 'USD';
  const sized = group(['resource_optimization']);
  const sleeping = group(['zero_scaling', 'idle_optimization']);
  return [
    ...(sleeping.length > 0 ? [{ type: 'idle_optimization' as const, action: `Let ${sleeping.length} workload${sleeping.length === 1 ? '' : 's'} sleep while idle, or remove what does no work`, impact: `frees capacity worth ${sum(sleeping).toFixed(2)} ${currency} a month`, confidence: lowest(sleeping), timeline: 'days', effort_level: 'low' as const }] : []),
    ...(sized.length > 0 ? [{ type: 'workload_rightsizing' as const, action: `Right-size ${sized.length} workload${sized.length === 1 ? '' : 's'}`, impact: `frees capacity worth ${sum(sized).toFixed(2)} ${currency} a month`, confidence: lowest(sized), timeline: 'weeks, one rollout each', effort_level: 'medium' as const }] : []),
  ];
}

export interface ClusterAnswer {
  readonly cluster: ClusterObject | null;
  readonly clusterId: string;
  readonly name: string;
  readonly namespace: string | null;
  readonly insight: ClusterInsight;
  readonly cost: Part<QueryResponse<'cost', 'cluster_cost'>>;
  readonly savings: Part<QueryResponse<'cost', 'savings'>>;
  readonly recommendations: Part<readonly Recommendation[]>;
  readonly nowMs: number;
}

export function presentCluster({ cluster, clusterId, name, namespace, insight, cost, savings, recommendations, nowMs }: ClusterAnswer): ClusterResponse {
  const costs = valueOf(cost);
  const advice = valueOf(recommendations) ?? [];
  const monthly = money(costs?.monthly_projection ?? null);
  const optimization = namespace === null ? money(valueOf(savings)?.total ?? null) : potential(advice, monthly);
  const allocated = plain(costs?.allocated_cost ?? '0');
  const nodeCost = plain(costs?.node_cost ?? '0');
  const actual = money(costs?.actual_cost ?? null);
  const use = (each: ClusterInsight['cpu'], unit: string) => ({ used: each.used, requested: each.requested, allocatable: each.allocatable, capacity: each.capacity, used_share: each.used_share, requested_share: each.requested_share, unit });
  const monthOf = (all: readonly { cost: CostBreakdown }[], key: (index: number) => string) => Object.fromEntries(all.map((each, index) => [key(index), money(each.cost.monthly_projection) ?? 0]));
  return {
    cluster_id: { name, provider: cluster?.provider ?? 'unknown', region: cluster?.region ?? null, cluster_id: clusterId, distribution: cluster?.distribution ?? 'unknown' }, namespace,
    resource_utilization: {
      cpu: use(insight.cpu, 'millicores'), memory: use(insight.memory, 'bytes'),
      storage: { used: insight.storage_used_bytes, requested: null, allocatable: null, capacity: null, used_share: null, requested_share: null, unit: 'bytes' },
      network: { receive_bytes_per_second: insight.network_bytes_per_second?.receive ?? null, transmit_bytes_per_second: insight.network_bytes_per_second?.transmit ?? null },
    },
    cost_breakdown: {
      total_monthly_cost: monthly, optimization_potential: optimization, cost_per_namespace: costs ? monthOf(costs.by_namespace, (i) => costs.by_namespace[i]?.namespace ?? '') : {}, cost_per_workload_type: costs ? monthOf(costs.by_workload_kind, (i) => costs.by_workload_kind[i]?.kind ?? '') : {},
      idle_cost: money(costs?.idle_cost ?? null), overhead_cost: money(costs?.overhead_cost ?? null), currency: costs?.currency ?? null,
    },
    efficiency_metrics: {
      overall_efficiency: actual === null || allocated === 0 ? null : actual / allocated, idle_resource_percentage: nodeCost === 0 ? null : (plain(costs?.idle_cost ?? '0') / nodeCost) * 100, over_provisioned_workloads: insight.over_provisioned_workloads,
      under_provisioned_workloads: insight.under_provisioned_workloads, states: insight.states,
    },
    scaling_recommendations: advice.filter((each) => each.type === 'zero_scaling' || each.type === 'scaling_optimization').map(presentRecommendation),
    business_impact: { total_daily_requests: insight.requests_per_day, revenue_attribution: null, service_availability: insight.service_availability }, recommendations: advice.map(presentRecommendation), strategic_recommendations: strategic(advice),
    total_monthly_cost: monthly, optimization_potential: optimization,
    coverage: { ...insight.coverage, cost: costs?.coverage.cost ?? null, reasons: { ...insight.coverage.reasons, ...costs?.coverage.reasons, ...REVENUE, ...missing(cost, 'cost_breakdown'), ...missing(savings, 'optimization_potential'), ...missing(recommendations, 'recommendations') } },
    analysis_timestamp: toTimestamp(nowMs),
  };
}

export function presentIntelligence(insight: ClusterInsight, range: { start: string; end: string }, nowMs: number): IntelligenceClusterResponse {
  return {
    cluster_id: insight.cluster_id, time_range: range, states: insight.states, workloads: insight.workloads.map(({ workload, ...each }) => ({
      namespace: workload.namespace, kind: workload.kind, name: workload.name, state: each.state, idle_probability: each.idle_probability, confidence: each.confidence, replicas: each.replicas, requests_per_day: each.requests_per_day, cpu_millicores_mean: each.cpu_millicores_mean, memory_bytes_mean: each.memory_bytes_mean,
    })),
    anomalies: insight.anomalies.map(({ workload, ...each }) => ({ ...each, workload: resourceName(workload) })), requests_per_day: insight.requests_per_day, service_availability: insight.service_availability, coverage: insight.coverage, analysis_timestamp: toTimestamp(nowMs),
  };
}

export function presentCostAnalysis(answer: CostAnalysis, advice: readonly Recommendation[]): CostAnalysisResponse {
  const monthly = money(answer.current.monthly_projection);
  return {
    cluster_id: answer.cluster_id, resource_type: answer.resource_type, resource_name: answer.resource_name, namespace: answer.namespace, start: answer.start, end: answer.end, current_cost: presentCost(answer.current, potential(advice, monthly)),
    history: answer.history.map((point) => ({ hour: point.hour, allocated_cost: plain(point.allocated_cost), actual_cost: money(point.actual_cost) })), trend: answer.trend, drivers: answer.drivers.map((driver) => ({ what: driver.what, change: plain(driver.change) })),
    opportunities: advice.map((each) => ({ type: each.type, action: each.action, estimated_savings: money(each.saving.estimated_savings), confidence: each.confidence })), unit_cost: { per_thousand_requests: money(answer.unit_cost.per_thousand_requests), reason: answer.unit_cost.reason },
    currency: answer.current.currency, coverage: answer.coverage,
  };
}

export function presentSavings(answer: QueryResponse<'cost', 'savings'>, horizon: string): SavingsResponse {
  const of = (each: { total: string; high_confidence: string; count: number }) => ({ total_savings: plain(each.total), high_confidence_savings: plain(each.high_confidence), resource_count: each.count });
  return {
    cluster_id: answer.cluster_id, total_potential_savings: plain(answer.total), high_confidence_savings: plain(answer.high_confidence), savings_by_type: { pods: of(answer.pods), deployments: of(answer.deployments), nodes: of(answer.nodes) }, time_horizon: horizon,
    bill_savings: money(answer.bill_savings), bill_savings_reason: answer.bill_savings_reason, currency: answer.currency, coverage: answer.coverage,
  };
}
