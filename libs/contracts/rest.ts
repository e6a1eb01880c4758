import { z } from 'zod';
import { factorSchema, idlePeriodSchema, jobStatusSchema, jobStepSchema, recommendationTypeSchema, riskLevelSchema, effortSchema, safetyCheckSchema, stateSchema, fieldChangeSchema } from './events.js';
import { capabilitiesSchema, distributionSchema, providerSchema } from './inventory.js';
import { clusterIdSchema, timestampSchema, workloadKindSchema } from './ids.js';
import { anomalySchema, coverageSchema, patternSchema, performanceSchema, predictionSchema, trendSchema } from './queries.js';

/** The gateway's wire: snake_case JSON. Money as numbers rounded to 1e-6 for display, with `currency`; null = unknown, with a reason in `coverage.reasons`. */
const money = z.number().nullable();
const namespaceField = z.string().min(1).max(63).default('default');
const options = z.object({ time_range: z.string().default('7d'), kind: workloadKindSchema.optional() }).partial().catchall(z.unknown()).optional();

export const analyzePodRequest = z.object({ pod_name: z.string().min(1), namespace: namespaceField, cluster_id: clusterIdSchema.optional(), options });
export const analyzeDeploymentRequest = z.object({ deployment_name: z.string().min(1), namespace: namespaceField, cluster_id: clusterIdSchema.optional(), options });
export const analyzeNamespaceRequest = z.object({ namespace: z.string().min(1).max(63), cluster_id: clusterIdSchema.optional(), options });
export const analyzeClusterRequest = z.object({ cluster_name: z.string().optional(), cluster_id: clusterIdSchema.optional(), options });
export const optimizeRequest = z.object({
  deployment_name: z.string().min(1).optional(), namespace: namespaceField, cluster_id: clusterIdSchema.optional(),
  optimization_type: z.enum(['zero_scaling', 'resource_optimization']).default('zero_scaling'), options: z.record(z.string(), z.unknown()).optional(), dry_run: z.boolean().default(false),
  target_resources: z.array(z.string().regex(/^[a-z]+\/[^/]+\/[^/]+$/, 'a target is kind/namespace/name, for example deployment/shop/cart')).min(1).max(50).optional(),
}).refine((body) => (body.deployment_name === undefined) !== (body.target_resources === undefined), { message: 'give either deployment_name or target_resources' });

export const restCostAnalysisSchema = z.object({
  allocated_cost: money, actual_cost: money, wasted_cost: money, waste_percentage: z.number().nullable(), hourly_rate: money, daily_cost: money, monthly_projection: money, optimization_potential: money,
  instance_type: z.string().nullable(), region: z.string().nullable(), pricing_model: z.string().nullable(), price_source: z.string().nullable(), price_as_of: timestampSchema.nullable(), currency: z.string().nullable(),
});
export const restRecommendationSchema = z.object({
  id: z.string(), type: recommendationTypeSchema, resource: z.string().nullable(), action: z.string(), impact: z.string(), confidence: z.number(), risk_level: riskLevelSchema, estimated_savings: money, bill_savings: money, bill_savings_reason: z.string().nullable(), currency: z.string(),
  implementation_effort: effortSchema, evidence: z.record(z.string(), z.unknown()), patch: z.record(z.string(), z.unknown()).nullable(), safety_checks: z.array(safetyCheckSchema), actionable: z.boolean(), blocked_by: z.array(z.string()), created_at: timestampSchema, updated_at: timestampSchema,
});
const idleAnalysis = z.object({
  state: stateSchema, idle_probability: z.number().nullable(), confidence: z.number(), calibrated_confidence: z.number().nullable(), contributing_factors: z.string(), factors: z.array(factorSchema), idle_periods: z.array(idlePeriodSchema).nullable(), time_zone: z.string(),
  missing: z.array(z.string()), observed_hours: z.number(), data_points: z.number(), model_version: z.string(), policy: z.string(), business_impact: z.string(), cost_impact: money,
});
const podBusiness = z.object({ requests_per_day: z.number().nullable(), revenue_attribution: money, user_impact_score: z.number().nullable(), business_criticality: z.string() });
const trends = z.object({ usage_trend: trendSchema, cost_trend: trendSchema, efficiency_trend: trendSchema });

export const podResponse = z.object({
  pod_id: z.object({ name: z.string(), namespace: z.string(), cluster_id: clusterIdSchema }),
  insights: z.object({
    current_state: z.object({ state: stateSchema, node_name: z.string().nullable(), usage: z.unknown(), containers: z.array(z.unknown()), requests: z.unknown() }),
    cost_analysis: restCostAnalysisSchema, idle_analysis: idleAnalysis, business_impact: podBusiness, performance_analysis: performanceSchema,
    predictions: z.array(predictionSchema).nullable(), patterns: z.array(patternSchema), anomalies: z.array(anomalySchema), trends, recommendations: z.array(restRecommendationSchema), confidence: z.number(),
  }),
  recommendations: z.array(restRecommendationSchema), confidence: z.number(), coverage: coverageSchema, analysis_timestamp: timestampSchema,
});
export const deploymentResponse = z.object({
  deployment_id: z.object({ name: z.string(), namespace: z.string(), kind: workloadKindSchema, cluster_id: clusterIdSchema }),
  total_pods: z.number().int(), state: stateSchema, idle_analysis: idleAnalysis,
  scaling_recommendation: z.object({ current_replicas: z.number().int().nullable(), recommended_replicas: z.number().int().nullable(), confidence: z.number(), rationale: z.string(), zero_scaling: z.boolean() }),
  cost_analysis: restCostAnalysisSchema.extend({ total_monthly_cost: money, per_pod_efficiency: z.number().nullable() }),
  performance_patterns: z.object({ peak_load_time: z.string().nullable(), low_load_time: z.string().nullable(), load_variability: z.number().nullable(), time_zone: z.string() }),
  business_impact: z.object({ total_daily_requests: z.number().nullable(), revenue_attribution: money, service_reliability: z.number().nullable() }),
  performance_analysis: performanceSchema, patterns: z.array(patternSchema), anomalies: z.array(anomalySchema), trends,
  pods: z.array(z.object({ name: z.string(), node_name: z.string().nullable(), state: stateSchema, idle_probability: z.number().nullable(), confidence: z.number(), cpu_millicores: z.number().nullable(), memory_bytes: z.number().nullable() })),
  recommendations: z.array(restRecommendationSchema), confidence: z.number(), coverage: coverageSchema, analysis_timestamp: timestampSchema,
});
const utilisation = z.object({ used: z.number().nullable(), requested: z.number().nullable(), allocatable: z.number().nullable(), capacity: z.number().nullable(), used_share: z.number().nullable(), requested_share: z.number().nullable(), unit: z.string() });
export const clusterResponse = z.object({
  cluster_id: z.object({ name: z.string(), provider: providerSchema, region: z.string().nullable(), cluster_id: clusterIdSchema, distribution: distributionSchema }),
  namespace: z.string().nullable(),
  resource_utilization: z.object({ cpu: utilisation, memory: utilisation, storage: utilisation, network: z.object({ receive_bytes_per_second: z.number().nullable(), transmit_bytes_per_second: z.number().nullable() }) }),
  cost_breakdown: z.object({ total_monthly_cost: money, optimization_potential: money, cost_per_namespace: z.record(z.string(), z.number()), cost_per_workload_type: z.record(z.string(), z.number()), idle_cost: money, overhead_cost: money, currency: z.string().nullable() }),
  efficiency_metrics: z.object({ overall_efficiency: z.number().nullable(), idle_resource_percentage: z.number().nullable(), over_provisioned_workloads: z.number().int(), under_provisioned_workloads: z.number().int(), states: z.record(z.string(), z.number().int()) }),
  scaling_recommendations: z.array(restRecommendationSchema),
  business_impact: z.object({ total_daily_requests: z.number().nullable(), revenue_attribution: money, service_availability: z.number().nullable() }),
  recommendations: z.array(restRecommendationSchema),
  strategic_recommendations: z.array(z.object({ type: recommendationTypeSchema, action: z.string(), impact: z.string(), confidence: z.number(), timeline: z.string(), effort_level: effortSchema })),
  total_monthly_cost: money, optimization_potential: money, coverage: coverageSchema, analysis_timestamp: timestampSchema,
});
export const optimizeResponse = z.object({ status: z.literal('optimization_initiated'), job_id: z.string(), job_ids: z.array(z.string()), dry_run: z.boolean(), estimated_completion: timestampSchema.nullable() });
export const jobResponse = z.object({
  job_id: z.string(), cluster_id: clusterIdSchema, optimization_type: z.string(), target: z.string(), status: jobStatusSchema, progress: z.number(), dry_run: z.boolean(), applied: z.boolean(), actor: z.string(), policy: z.string(), result: z.record(z.string(), z.unknown()).nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(), steps: z.array(jobStepSchema), safety_checks: z.array(safetyCheckSchema), plan: z.object({ changes: z.array(fieldChangeSchema), rollback: z.array(fieldChangeSchema) }).nullable(), created_at: timestampSchema, updated_at: timestampSchema, estimated_completion: timestampSchema.nullable(),
});
export const jobListResponse = z.object({ jobs: z.array(jobResponse) });
export const recommendationListResponse = z.object({ cluster_id: clusterIdSchema, recommendations: z.array(restRecommendationSchema), evaluated_at: timestampSchema.nullable(), policy: z.string().nullable() });
const savingsOfType = z.object({ total_savings: z.number(), high_confidence_savings: z.number(), resource_count: z.number().int() });
export const savingsResponse = z.object({
  cluster_id: clusterIdSchema, total_potential_savings: z.number(), high_confidence_savings: z.number(), savings_by_type: z.object({ pods: savingsOfType, deployments: savingsOfType, nodes: savingsOfType }), time_horizon: z.string(),
  bill_savings: money, bill_savings_reason: z.string().nullable(), currency: z.string(), coverage: coverageSchema,
});
export const clusterListResponse = z.object({
  clusters: z.array(z.object({
    cluster_id: clusterIdSchema, name: z.string(), provider: providerSchema, distribution: distributionSchema, region: z.string().nullable(), nodes: z.number().int(), pods: z.number().int(), capabilities: capabilitiesSchema.nullable(), server_version: z.string().nullable(), demo: z.boolean(),
    last_seen: timestampSchema.nullable(), connected: z.boolean(), actuation: z.boolean(), held: z.boolean(), sleepers: z.number().int(), agent_version: z.string().nullable(),
    data_coverage: z.object({ usage_since: timestampSchema.nullable(), usage_covered_24h: z.number().nullable(), requests_since: timestampSchema.nullable(), requests_covered_24h: z.number().nullable(), backfill: z.object({ done: z.boolean(), progress: z.number() }).nullable() }),
  })),
});
export const healthResponse = z.object({ status: z.enum(['ok', 'degraded']), version: z.string() });
/** One route stops and restores: `hold` true holds every action, false lets them go on, null leaves that as it is; `restore` wakes everything asleep. */
export const stopRequest = z.object({ cluster_id: clusterIdSchema.optional(), hold: z.boolean().nullable().default(true), restore: z.boolean().default(false) });
export const stopResponse = z.object({ held: z.array(clusterIdSchema), all_held: z.boolean(), restoring: z.array(z.string()) });

/** Messages of the live feeds. */
export const realtimeMessage = z.discriminatedUnion('type', [
  z.object({ type: z.literal('cluster'), at: timestampSchema, cluster: z.unknown() }),
  z.object({ type: z.literal('pod'), at: timestampSchema, pod: z.unknown() }),
  z.object({ type: z.literal('recommendation'), at: timestampSchema, change: z.string(), recommendation: restRecommendationSchema }),
  z.object({ type: z.literal('job'), at: timestampSchema, job: jobResponse }),
  z.object({ type: z.literal('error'), at: timestampSchema, code: z.string(), message: z.string() }),
]);

export type PodResponse = z.infer<typeof podResponse>;
export type DeploymentResponse = z.infer<typeof deploymentResponse>;
export type ClusterResponse = z.infer<typeof clusterResponse>;
export type RestRecommendation = z.infer<typeof restRecommendationSchema>;
export type JobResponse = z.infer<typeof jobResponse>;
export type SavingsResponse = z.infer<typeof savingsResponse>;
export type ClusterListResponse = z.infer<typeof clusterListResponse>;
