import { z } from 'zod';
import { assessmentSchema, currencySchema, heartbeatSchema, idlePeriodSchema, jobSchema, judgementSchema, nanosSchema, priceBasisSchema, recommendationSchema, requestSummarySchema, savingSchema, sleeperSchema, stateSchema, usageSummarySchema } from './events.js';
import { capacityTypeSchema } from './inventory.js';
import { clusterIdSchema, timestampSchema, uidSchema, workloadKindSchema, workloadRefSchema } from './ids.js';
import type { ServiceName } from './subjects.js';

/** Questions by service, asked over request/reply: subject `upid.q.v1.<service>.<name>`. Times are RFC 3339 UTC, ranges half-open. */
const rangeFields = { start: timestampSchema, end: timestampSchema };

/** How complete the data behind an answer was: by source the covered share of the range, and why a figure is null. */
export const coverageSchema = z.object({
  usage: z.number().min(0).max(1).nullable(), requests: z.number().min(0).max(1).nullable(), cost: z.number().min(0).max(1).nullable().default(null),
  since: timestampSchema.nullable(), until: timestampSchema.nullable(), reasons: z.record(z.string(), z.string()).default({}),
});
export type Coverage = z.infer<typeof coverageSchema>;

export const trendSchema = z.object({ direction: z.enum(['rising', 'falling', 'steady', 'shifted', 'unknown']), change_percent_per_week: z.number().nullable(), significance: z.number().min(0).max(1).nullable(), shifted_at: timestampSchema.nullable().default(null), evidence: z.string() });
export const patternSchema = z.object({ type: z.enum(['daily', 'weekly', 'business_hours', 'other']), period_minutes: z.number().positive(), confidence: z.number().min(0).max(1), evidence: z.string() });
export const anomalySchema = z.object({ type: z.enum(['statistical', 'pattern', 'business']), metric: z.string(), start: timestampSchema, end: timestampSchema.nullable(), severity: z.number().min(0).max(1), expected: z.object({ low: z.number(), high: z.number() }), observed: z.number(), evidence: z.string() });
export const predictionSchema = z.object({ metric: z.string(), at: timestampSchema, value: z.number(), low_80: z.number(), high_80: z.number(), low_95: z.number(), high_95: z.number() });
export const performanceSchema = z.object({ throttled_minutes_share: z.number().nullable(), memory_of_limit_max: z.number().nullable(), oom_kills: z.number().int().nonnegative(), restarts: z.number().int().nonnegative(), findings: z.array(z.string()), likely_improvement: z.string().nullable() });

/** What intelligence knows of one pod or workload over a range. */
export const insightSchema = z.object({
  workload: workloadRefSchema,
  uid: uidSchema.nullable(),
  judgement: judgementSchema,
  usage: usageSummarySchema,
  containers: z.array(z.object({ name: z.string(), usage: usageSummarySchema, oom_kills: z.number().int().nonnegative() })),
  requests: requestSummarySchema.nullable(),
  idle_periods: z.array(idlePeriodSchema).nullable(),
  time_zone: z.string(),
  performance: performanceSchema,
  patterns: z.array(patternSchema),
  anomalies: z.array(anomalySchema),
  trends: z.object({ usage: trendSchema, efficiency: trendSchema }),
  predictions: z.array(predictionSchema).nullable(),
  /** 0..10 by business requests a day, log scale; null where requests are unknown. */
  user_impact_score: z.number().min(0).max(10).nullable(),
  business_criticality: z.enum(['critical', 'high', 'medium', 'low', 'unknown']),
  coverage: coverageSchema,
});
export type Insight = z.infer<typeof insightSchema>;

export const podInsightSchema = z.object({ pod: z.object({ uid: uidSchema, name: z.string(), namespace: z.string(), node_name: z.string().nullable() }), insight: insightSchema });
export const workloadInsightSchema = z.object({
  insight: insightSchema,
  assessment: assessmentSchema.nullable(),
  replicas: z.number().int().nonnegative().nullable(),
  pods: z.array(z.object({ uid: uidSchema, name: z.string(), node_name: z.string().nullable(), judgement: judgementSchema, usage: usageSummarySchema })),
  load: z.object({ peak_hour_of_week: z.number().int().nullable(), low_hour_of_week: z.number().int().nullable(), variability: z.number().nonnegative().nullable() }),
  service_reliability: z.number().min(0).max(1).nullable(),
});

const utilisationSchema = z.object({ used: z.number().nullable(), requested: z.number(), allocatable: z.number(), capacity: z.number(), used_share: z.number().nullable(), requested_share: z.number().nullable() });
export const clusterInsightSchema = z.object({
  cluster_id: clusterIdSchema,
  nodes: z.number().int(), pods: z.number().int(),
  cpu: utilisationSchema, memory: utilisationSchema,
  storage_used_bytes: z.number().nullable(),
  network_bytes_per_second: z.object({ receive: z.number(), transmit: z.number() }).nullable(),
  states: z.record(z.string(), z.number().int()),
  over_provisioned_workloads: z.number().int(), under_provisioned_workloads: z.number().int(),
  requests_per_day: z.number().nullable(), service_availability: z.number().min(0).max(1).nullable(),
  workloads: z.array(z.object({ workload: workloadRefSchema, uid: uidSchema.nullable(), state: stateSchema, idle_probability: z.number().nullable(), confidence: z.number(), replicas: z.number().int().nullable(), requests_per_day: z.number().nullable(), cpu_millicores_mean: z.number().nullable(), memory_bytes_mean: z.number().nullable() })),
  anomalies: z.array(anomalySchema.extend({ workload: workloadRefSchema })),
  coverage: coverageSchema,
});
export type ClusterInsight = z.infer<typeof clusterInsightSchema>;

/** One hour of one container name of a workload, over all its pods: enough for right-sizing. Distribution pairs: [bucket, minutes], gamma 1.04. */
export const usageHourSchema = z.object({
  hour: timestampSchema, covered_minutes: z.number(), cpu_millicores_mean: z.number(), cpu_millicores_max: z.number(), cpu_distribution: z.array(z.tuple([z.number().int(), z.number()])),
  memory_bytes_mean: z.number(), memory_bytes_max: z.number(), throttled_minutes: z.number().nullable(), restarts: z.number(), pods: z.number().int(),
});

/** Cost of something over a range; what is unknown is null with its reason in coverage. Money in nanos as text. */
export const costBreakdownSchema = z.object({
  currency: currencySchema,
  allocated_cost: nanosSchema, cpu_cost: nanosSchema, memory_cost: nanosSchema, gpu_cost: nanosSchema,
  actual_cost: nanosSchema.nullable(), wasted_cost: nanosSchema.nullable(), waste_percentage: z.number().min(0).max(100).nullable(),
  /** Means over the covered hours. */
  hourly_rate: nanosSchema.nullable(), daily_cost: nanosSchema.nullable(), monthly_projection: nanosSchema.nullable(),
  covered_hours: z.number().nonnegative(),
  instance_type: z.string().nullable(), region: z.string().nullable(), pricing_model: capacityTypeSchema.nullable(),
  price_basis: priceBasisSchema.nullable(),
});
export type CostBreakdown = z.infer<typeof costBreakdownSchema>;

export const costPointSchema = z.object({ hour: timestampSchema, allocated_cost: nanosSchema, actual_cost: nanosSchema.nullable() });
export const costAnalysisSchema = z.object({
  cluster_id: clusterIdSchema, resource_type: z.string(), resource_name: z.string(), namespace: z.string().nullable(), start: timestampSchema, end: timestampSchema,
  current: costBreakdownSchema, history: z.array(costPointSchema), trend: trendSchema,
  drivers: z.array(z.object({ what: z.string(), change: nanosSchema })),
  /** Cost per thousand business requests where they are known. */
  unit_cost: z.object({ per_thousand_requests: nanosSchema.nullable(), reason: z.string().nullable() }),
  coverage: coverageSchema,
});
export const clusterCostSchema = z.object({
  cluster_id: clusterIdSchema, currency: currencySchema, start: timestampSchema, end: timestampSchema,
  node_cost: nanosSchema, allocated_cost: nanosSchema, idle_cost: nanosSchema, overhead_cost: nanosSchema, actual_cost: nanosSchema.nullable(),
  monthly_projection: nanosSchema.nullable(), covered_hours: z.number(),
  by_namespace: z.array(z.object({ namespace: z.string(), cost: costBreakdownSchema })),
  by_workload_kind: z.array(z.object({ kind: workloadKindSchema, cost: costBreakdownSchema })),
  by_node: z.array(z.object({ node: z.string(), uid: uidSchema, instance_type: z.string().nullable(), capacity_type: capacityTypeSchema, node_cost: nanosSchema, allocated_cost: nanosSchema, idle_cost: nanosSchema, overhead_cost: nanosSchema, price_basis: priceBasisSchema })),
  /** Prices that could not be true: shown, not used. */
  quarantined_prices: z.array(z.object({ node: z.string(), reason: z.string() })).default([]),
  coverage: coverageSchema,
});
/** The current cost rates of a workload: what a month of it costs at the effective price, and what a unit of its requests costs an hour. */
export const workloadCostSchema = z.object({
  workload: workloadRefSchema, cost: costBreakdownSchema, cpu_cost_per_core_hour: nanosSchema.nullable(), memory_cost_per_gib_hour: nanosSchema.nullable(),
  charged_cpu_millicores: z.number().nullable(), charged_memory_bytes: z.number().nullable(),
});

const savingsOfTypeSchema = z.object({ total: nanosSchema, high_confidence: nanosSchema, count: z.number().int() });
export const savingsSchema = z.object({
  cluster_id: clusterIdSchema, currency: currencySchema, total: nanosSchema, high_confidence: nanosSchema, pods: savingsOfTypeSchema, deployments: savingsOfTypeSchema, nodes: savingsOfTypeSchema,
  bill_savings: nanosSchema.nullable(), bill_savings_reason: z.string().nullable(), horizon_hours: z.number(), coverage: coverageSchema,
});

export const optimizeTargetSchema = z.object({ kind: workloadKindSchema, namespace: z.string(), name: z.string() });

const cluster = { cluster_id: clusterIdSchema };
const empty = z.object({});

/** Each question's request and answer. */
export const QUERIES = {
  intelligence: {
    pod: { request: z.object({ ...cluster, namespace: z.string(), pod_name: z.string(), ...rangeFields }), response: podInsightSchema },
    workload: { request: z.object({ ...cluster, namespace: z.string(), kind: workloadKindSchema.nullable(), name: z.string(), ...rangeFields }), response: workloadInsightSchema },
    /** A workload's requests alone, for who needs nothing else of it. */
    requests: { request: z.object({ ...cluster, workload: workloadRefSchema, ...rangeFields }), response: z.object({ requests: requestSummarySchema.nullable() }) },
    cluster: { request: z.object({ ...cluster, namespace: z.string().nullable().default(null), ...rangeFields }), response: clusterInsightSchema },
    coverage: { request: z.object({ ...cluster }), response: z.object({ usage_since: timestampSchema.nullable(), usage_until: timestampSchema.nullable(), requests_since: timestampSchema.nullable(), requests_until: timestampSchema.nullable(), usage_covered_24h: z.number().min(0).max(1).nullable(), requests_covered_24h: z.number().min(0).max(1).nullable(), backfill: z.object({ done: z.boolean(), progress: z.number().min(0).max(1) }).nullable(), gaps: z.array(z.object({ source: z.string(), start: timestampSchema, end: timestampSchema, reason: z.string() })) }) },
    usage_history: { request: z.object({ ...cluster, workload: workloadRefSchema, ...rangeFields }), response: z.object({ containers: z.array(z.object({ name: z.string(), hours: z.array(usageHourSchema), oom_kills: z.number().int().nonnegative() })) }) },
    /** Latest values of pods, for the live feeds. */
    latest: { request: z.object({ ...cluster, pod_uids: z.array(uidSchema).nullable() }), response: z.object({ pods: z.array(z.object({ uid: uidSchema, minute: timestampSchema, cpu_millicores: z.number(), memory_bytes: z.number() })) }) },
  },
  cost: {
    analysis: { request: z.object({ ...cluster, resource_type: z.enum(['pod', 'deployment', 'workload', 'namespace', 'node', 'label', 'cluster']), resource_name: z.string(), namespace: z.string().nullable(), kind: workloadKindSchema.nullable().default(null), ...rangeFields }), response: costAnalysisSchema },
    cluster_cost: { request: z.object({ ...cluster, namespace: z.string().nullable().default(null), ...rangeFields }), response: clusterCostSchema },
    workload_costs: { request: z.object({ ...cluster, workloads: z.array(workloadRefSchema).nullable(), ...rangeFields }), response: z.object({ workloads: z.array(workloadCostSchema), currency: currencySchema }) },
    savings: { request: z.object({ ...cluster, horizon_hours: z.number().positive() }), response: savingsSchema },
  },
  optimizer: {
    recommendations: { request: z.object({ ...cluster, minimum_confidence: z.number().min(0).max(100), namespace: z.string().nullable().default(null), workload: workloadRefSchema.nullable().default(null) }), response: z.object({ recommendations: z.array(recommendationSchema), evaluated_at: timestampSchema.nullable() }) },
    optimize: {
      request: z.object({ ...cluster, targets: z.array(optimizeTargetSchema).min(1).max(50), optimization_type: z.enum(['zero_scaling', 'resource_optimization']), options: z.record(z.string(), z.unknown()).default({}), dry_run: z.boolean(), actor: z.string(), idempotency_key: z.string().max(200).nullable().default(null) }),
      /** `unsafe` as an error carries `details.checks`, every check of every target. */
      response: z.object({ jobs: z.array(jobSchema) }),
    },
    job: { request: z.object({ job_id: uidSchema }), response: z.object({ job: jobSchema }) },
    jobs: { request: z.object({ cluster_id: clusterIdSchema.nullable(), statuses: z.array(z.string()).nullable(), applied: z.boolean().nullable().default(null), limit: z.number().int().min(1).max(500).default(100) }), response: z.object({ jobs: z.array(jobSchema) }) },
    cancel: { request: z.object({ job_id: uidSchema, actor: z.string() }), response: z.object({ job: jobSchema }) },
    rollback: { request: z.object({ job_id: uidSchema, actor: z.string() }), response: z.object({ job: jobSchema }) },
    /** Holds every action of a cluster (or of all) until resumed; waking goes on. */
    stop: { request: z.object({ cluster_id: clusterIdSchema.nullable(), actor: z.string(), hold: z.boolean() }), response: z.object({ held: z.array(clusterIdSchema), all: z.boolean() }) },
    restore_all: { request: z.object({ cluster_id: clusterIdSchema.nullable(), actor: z.string() }), response: z.object({ jobs: z.array(jobSchema) }) },
    /** What agents said last, and when. */
    agents: { request: z.object({ cluster_id: clusterIdSchema.nullable() }), response: z.object({ agents: z.array(z.object({ cluster_id: clusterIdSchema, seen_at: timestampSchema, heartbeat: heartbeatSchema, held: z.boolean() })) }) },
    sleepers: { request: z.object({ cluster_id: clusterIdSchema.nullable() }), response: z.object({ sleepers: z.array(sleeperSchema.extend({ cluster_id: clusterIdSchema })), held: z.boolean() }) },
  },
  gateway: {
    ping: { request: empty, response: z.object({ version: z.string() }) },
  },
} as const satisfies Record<ServiceName, Record<string, { request: z.ZodType; response: z.ZodType }>>;

export type QueryName<S extends ServiceName> = keyof (typeof QUERIES)[S] & string;
type Entry<S extends ServiceName, N extends QueryName<S>> = (typeof QUERIES)[S][N] extends { request: infer Q extends z.ZodType; response: infer R extends z.ZodType } ? { q: z.input<Q>; parsed: z.output<Q>; r: z.output<R> } : never;
/** What is asked. */
export type QueryRequest<S extends ServiceName, N extends QueryName<S>> = Entry<S, N>['q'];
/** What arrives at the handler. */
export type QueryParsed<S extends ServiceName, N extends QueryName<S>> = Entry<S, N>['parsed'];
/** What is answered. */
export type QueryResponse<S extends ServiceName, N extends QueryName<S>> = Entry<S, N>['r'];
export type Saving = z.infer<typeof savingSchema>;
