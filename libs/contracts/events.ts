import { z } from 'zod';
import { capacityTypeSchema } from './inventory.js';
import { clusterIdSchema, timestampSchema, uidSchema, workloadKindSchema, workloadRefSchema } from './ids.js';

/** Money on the bus: integers of 1e-9 of the currency as decimal text, since JSON numbers lose digits. */
export const nanosSchema = z.string().regex(/^-?\d+$/, 'an integer of 1e-9 of the currency, as text');
export const currencySchema = z.string().regex(/^[A-Z]{3}$/, 'an ISO 4217 code');

// ---------------------------------------------------------------- agent → all

/** What telemetry is missing or has changed its source. Times half-open. */
export const coverageEventSchema = z.object({
  version: z.literal(1),
  id: uidSchema,
  type: z.enum(['gap', 'source_change', 'backfill_progress', 'backfill_done', 'uid_change']),
  source: z.enum(['usage', 'requests', 'inventory', 'business']),
  start: timestampSchema,
  end: timestampSchema,
  reason: z.string(),
  /** Samples or batches lost, where countable. */
  count: z.number().int().nonnegative().nullable().default(null),
  workload: workloadRefSchema.nullable().default(null),
  detail: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])).default({}),
});
export type CoverageEvent = z.infer<typeof coverageEventSchema>;

/** Named business series (revenue, orders, active users) by minute. */
export const businessEventSchema = z.object({
  version: z.literal(1), id: uidSchema, metric: z.string(), unit: z.string(), workload: workloadRefSchema.nullable(), namespace: z.string().nullable(),
  points: z.array(z.object({ minute: timestampSchema, value: z.number() })),
});
export type BusinessEvent = z.infer<typeof businessEventSchema>;

// ---------------------------------------------------------------- commands

export const commandTargetSchema = z.object({ kind: workloadKindSchema, api_version: z.string(), namespace: z.string(), name: z.string(), uid: uidSchema, resource_version: z.string() });

/** What the agent must find true in the same step as the change, read from the API server and not from a cache. */
export const commandPreconditionsSchema = z.object({
  replicas: z.number().int().nonnegative().nullable().default(null),
  /** Annotations (of workload and namespace) that must be absent or not `true`: opt-outs. */
  absent_annotations: z.array(z.string()).default([]),
  absent_labels: z.record(z.string(), z.string()).default({}),
});

/**
 * One order to a cluster's agent. `scale`: set replicas. `patch`: set requests and limits of containers. `restore`: put back
 * what the record of `restores` (a command id) holds; ignores expiry, since waking is never refused.
 * The signature is Ed25519 over {@link commandText}, base64url, by the optimizer's key.
 */
export const commandSchema = z.object({
  version: z.literal(1),
  id: uidSchema,
  job_id: uidSchema,
  step: z.number().int().nonnegative(),
  cluster_id: clusterIdSchema,
  verb: z.enum(['scale', 'patch', 'restore']),
  target: commandTargetSchema,
  replicas: z.number().int().nonnegative().nullable().default(null),
  resources: z.array(z.object({
    container: z.string(),
    requests: z.object({ cpu_millicores: z.number().positive().nullable(), memory_bytes: z.number().positive().nullable() }),
    limits: z.object({ cpu_millicores: z.number().positive().nullable(), memory_bytes: z.number().positive().nullable() }),
  })).default([]),
  restores: uidSchema.nullable().default(null),
  preconditions: commandPreconditionsSchema.default({ replicas: null, absent_annotations: [], absent_labels: {} }),
  issued_at: timestampSchema,
  expires_at: timestampSchema,
  fence: z.number().int().positive(),
  dry_run: z.boolean(),
  /** What the agent watches for as long as the target sleeps. */
  watch: z.object({ business_requests: z.boolean(), dead_man_minutes: z.number().positive() }).nullable(),
  actor: z.string(),
  signature: z.string(),
});
export type Command = z.infer<typeof commandSchema>;

/** The text that a command's signature covers: its JSON with sorted keys, without the signature. */
export function commandText(command: Omit<Command, 'signature'> & { signature?: string }): string {
  const sorted = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(sorted);
    if (value !== null && typeof value === 'object') {
      return Object.fromEntries(Object.entries(value).filter(([key]) => key !== 'signature').sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, each]) => [key, sorted(each)]));
    }
    return value;
  };
  return JSON.stringify(sorted(command));
}

export const refusalCodeSchema = z.enum([
  'expired', 'lower_fence', 'uid_changed', 'resource_version_changed', 'precondition_failed', 'opted_out', 'actuation_disabled', 'bad_signature', 'wrong_cluster',
  'not_found', 'already_taken', 'forbidden', 'no_record', 'drifted', 'held', 'unsupported', 'api_error',
]);

/** The agent's receipt for a command: taken (a result follows as a fact), or refused. */
export const commandReceiptSchema = z.object({ accepted: z.boolean(), code: refusalCodeSchema.nullable(), message: z.string() });
export type CommandReceipt = z.infer<typeof commandReceiptSchema>;

/** A field of the target before and after, as JSON values. */
export const fieldChangeSchema = z.object({ path: z.string(), before: z.unknown(), after: z.unknown() });

/**
 * What became of a command, or what the agent did of itself (`woken`). One per (command_id, outcome).
 * `woken` reasons: business_request, telemetry_lost (the dead-man rule), opted_out.
 */
export const resultEventSchema = z.object({
  version: z.literal(1),
  id: uidSchema,
  command_id: uidSchema,
  job_id: uidSchema,
  step: z.number().int().nonnegative(),
  outcome: z.enum(['done', 'dry_run', 'refused', 'failed', 'woken', 'restored']),
  code: refusalCodeSchema.nullable().default(null),
  reason: z.string().nullable().default(null),
  message: z.string(),
  target: commandTargetSchema.partial({ resource_version: true, api_version: true }),
  changes: z.array(fieldChangeSchema).default([]),
  /** Milliseconds from the request seen (or the command received) to the object patched. */
  elapsed_ms: z.number().nonnegative().nullable().default(null),
  at: timestampSchema,
});
export type ResultEvent = z.infer<typeof resultEventSchema>;

/** A sleeper as the record in the cluster holds it. */
export const sleeperSchema = z.object({
  command_id: uidSchema, job_id: uidSchema, target: commandTargetSchema.partial({ resource_version: true, api_version: true }), since: timestampSchema, restored_replicas: z.number().int().nonnegative().nullable(),
  state: z.enum(['asleep', 'waking', 'stuck']),
});

/** Asked of the platform every 10 s; the answer brings commands that wait. */
export const heartbeatSchema = z.object({
  version: z.literal(1), epoch: uidSchema, fingerprint: uidSchema, agent_version: z.string(), at: timestampSchema, actuation: z.boolean(),
  spool_batches: z.number().int().nonnegative(), spool_bytes: z.number().nonnegative(), access_log_streams: z.number().int().nonnegative(), sleepers: z.array(sleeperSchema),
  /** Highest fence seen per target UID is the agent's own affair; this is the highest overall. */
  fence: z.number().int().nonnegative(),
  counters: z.record(z.string(), z.number()).default({}),
});
export type Heartbeat = z.infer<typeof heartbeatSchema>;
export const heartbeatReplySchema = z.object({ accepted: z.boolean(), reason: z.string().nullable().default(null), commands: z.array(commandSchema), hold: z.boolean(), want_snapshot: z.boolean().default(false) });
export type HeartbeatReply = z.infer<typeof heartbeatReplySchema>;

// ---------------------------------------------------------------- intelligence →

export const factorNameSchema = z.enum(['business_activity', 'resource_efficiency', 'temporal_pattern', 'dependency_health']);
/** A factor: 0..100 (100 = idle) or null = unknown; coverage 0..1; evidence is a sentence. */
export const factorSchema = z.object({ name: factorNameSchema, weight: z.number(), score: z.number().min(0).max(100).nullable(), coverage: z.number().min(0).max(1), evidence: z.string() });
export type Factor = z.infer<typeof factorSchema>;

export const stateSchema = z.enum(['unknown', 'constrained', 'idle', 'underused', 'active']);
export type WorkloadState = z.infer<typeof stateSchema>;

/** Hours of the week (0 = Monday 00:00 in `time_zone`) half-open. */
export const idlePeriodSchema = z.object({ start_hour: z.number().int().min(0).max(167), end_hour: z.number().int().min(1).max(168) });

/** Usage over a window; null where unknown. Percentiles carry the distribution's 2 % error. */
export const usageSummarySchema = z.object({
  cpu_millicores: z.object({ mean: z.number(), p50: z.number(), p95: z.number(), p99: z.number(), max: z.number() }).nullable(),
  memory_bytes: z.object({ mean: z.number(), p95: z.number(), max: z.number() }).nullable(),
  network_bytes_per_second: z.object({ receive_mean: z.number(), transmit_mean: z.number() }).nullable(),
  throttled_minutes_share: z.number().min(0).max(1).nullable(),
  covered_minutes: z.number().nonnegative(),
});
export type UsageSummary = z.infer<typeof usageSummarySchema>;

export const requestSummarySchema = z.object({
  covered_minutes: z.number().nonnegative(), business_minutes: z.number().nonnegative(), business: z.number().nonnegative(), health_check: z.number().nonnegative(), probe: z.number().nonnegative(),
  monitoring: z.number().nonnegative(), load_balancer: z.number().nonnegative(), crawler: z.number().nonnegative(), errors: z.number().nonnegative(),
  noise_share: z.number().min(0).max(1).nullable(), business_per_day: z.number().nonnegative().nullable(), latency_p95_ms: z.number().nonnegative().nullable(),
});
export type RequestSummary = z.infer<typeof requestSummarySchema>;

/** The judgement of one pod, or of a workload, over a window. */
export const judgementSchema = z.object({
  state: stateSchema,
  idle_probability: z.number().min(0).max(100).nullable(),
  confidence: z.number().min(0).max(100),
  calibrated_confidence: z.number().min(0).max(100).nullable().default(null),
  factors: z.array(factorSchema),
  /** What would have to be known for the state to leave `unknown`, in sentences. */
  missing: z.array(z.string()),
  observed_hours: z.number().nonnegative(),
  data_points: z.number().nonnegative(),
  model_version: z.string(),
});
export type Judgement = z.infer<typeof judgementSchema>;

export const assessmentSchema = z.object({
  workload: workloadRefSchema,
  uid: uidSchema.nullable(),
  judgement: judgementSchema,
  /** Over the workload's pods of the window; a pod younger than the policy's minimum observation is judged with its workload's history. */
  pods_mean_idle_probability: z.number().min(0).max(100).nullable(),
  pods_lowest_confidence: z.number().min(0).max(100).nullable(),
  pods: z.array(z.object({ uid: uidSchema, name: z.string(), judgement: judgementSchema })),
  usage: usageSummarySchema,
  containers: z.array(z.object({ name: z.string(), usage: usageSummarySchema, oom_kills: z.number().int().nonnegative() })),
  requests: requestSummarySchema.nullable(),
  idle_periods: z.array(idlePeriodSchema).nullable(),
  time_zone: z.string(),
});
export type Assessment = z.infer<typeof assessmentSchema>;

/** Assessments of some workloads of a cluster; a later `revision` of the same workload replaces an earlier one. */
export const assessmentEventSchema = z.object({
  version: z.literal(1), id: z.string(), window_start: timestampSchema, window_end: timestampSchema, assessed_at: timestampSchema, policy: z.string(), revision: z.number().int().nonnegative(), assessments: z.array(assessmentSchema),
});
export type AssessmentEvent = z.infer<typeof assessmentEventSchema>;

// ---------------------------------------------------------------- cost →

export const priceSourceSchema = z.enum(['bill', 'price_list', 'price_sheet', 'estimate']);
/** What a price rests on. */
export const priceBasisSchema = z.object({ source: priceSourceSchema, as_of: timestampSchema.nullable(), note: z.string() });

/** What an hour of a cluster cost, by workload: sums of cells, in nanos. Replaced as a whole by a later revision. */
export const allocationEventSchema = z.object({
  version: z.literal(1), id: z.string(), hour: timestampSchema, revision: z.number().int().nonnegative(), final: z.boolean(), currency: currencySchema,
  node_cost: nanosSchema, idle_cost: nanosSchema, overhead_cost: nanosSchema,
  workloads: z.array(z.object({
    workload: workloadRefSchema, cpu_cost: nanosSchema, memory_cost: nanosSchema, gpu_cost: nanosSchema, allocated_cost: nanosSchema, actual_cost: nanosSchema.nullable(), covered_seconds: z.number(), pod_seconds: z.number(),
    capacity_types: z.array(capacityTypeSchema).default([]), price_source: priceSourceSchema,
  })),
});
export type AllocationEvent = z.infer<typeof allocationEventSchema>;

// ---------------------------------------------------------------- optimizer →

export const recommendationTypeSchema = z.enum([
  'resource_optimization', 'idle_optimization', 'zero_scaling', 'scaling_optimization', 'performance_optimization', 'cost_optimization', 'node_optimization', 'namespace_consolidation', 'workload_rightsizing',
]);
export type RecommendationType = z.infer<typeof recommendationTypeSchema>;
export const riskLevelSchema = z.enum(['low', 'medium', 'high', 'critical']);
export const effortSchema = z.enum(['low', 'medium', 'high']);

/** One safety check: `not_applicable` passes; `failed` and `unknown` (it should have been possible and was not) do not. */
export const safetyCheckSchema = z.object({ name: z.string(), outcome: z.enum(['passed', 'failed', 'not_applicable', 'unknown']), reason: z.string(), evidence: z.record(z.string(), z.unknown()).default({}) });
export type SafetyCheck = z.infer<typeof safetyCheckSchema>;

export const savingSchema = z.object({
  /** A month of 730 hours, in nanos; frees capacity; at most the workload's cost. */
  estimated_savings: nanosSchema.nullable(),
  /** Lowers the bill; null where not simulated, with the reason. */
  bill_savings: nanosSchema.nullable(),
  bill_savings_reason: z.string().nullable(),
  currency: currencySchema,
  price_source: priceSourceSchema.nullable(),
});

export const recommendationSchema = z.object({
  id: uidSchema,
  type: recommendationTypeSchema,
  workload: workloadRefSchema.nullable(),
  workload_uid: uidSchema.nullable(),
  action: z.string(),
  impact: z.string(),
  confidence: z.number().min(0).max(100),
  risk_level: riskLevelSchema,
  saving: savingSchema,
  implementation_effort: effortSchema,
  evidence: z.record(z.string(), z.unknown()),
  /** The exact patch (strategic merge) and what it applies to; null where nothing is to be changed in the cluster. */
  patch: z.object({ api_version: z.string(), kind: z.string(), namespace: z.string(), name: z.string(), body: z.record(z.string(), z.unknown()) }).nullable(),
  safety_checks: z.array(safetyCheckSchema),
  /** Whether a job may be started from it under the policy, and if not, why. */
  actionable: z.boolean(),
  blocked_by: z.array(z.string()),
  created_at: timestampSchema,
  updated_at: timestampSchema,
});
export type Recommendation = z.infer<typeof recommendationSchema>;

/** The public topic: a recommendation appeared, changed or lapsed. */
export const recommendationEventSchema = z.object({ version: z.literal(1), id: z.string(), change: z.enum(['appeared', 'changed', 'lapsed']), revision: z.number().int().positive(), at: timestampSchema, recommendation: recommendationSchema });
export type RecommendationEvent = z.infer<typeof recommendationEventSchema>;

export const jobStatusSchema = z.enum(['pending', 'validating', 'planned', 'executing', 'watching', 'completed', 'rolling_back', 'rolled_back', 'failed', 'cancelled', 'refused']);
export type JobStatus = z.infer<typeof jobStatusSchema>;
/** A job that has ended changes no more of itself; its change can still be undone. */
export const ENDED_JOB_STATUSES: readonly JobStatus[] = ['completed', 'rolled_back', 'failed', 'cancelled', 'refused'];

export const jobStepSchema = z.object({ step: z.number().int().nonnegative(), name: z.string(), status: z.enum(['waiting', 'running', 'done', 'failed', 'skipped']), command_id: uidSchema.nullable(), detail: z.string(), started_at: timestampSchema.nullable(), ended_at: timestampSchema.nullable() });

export const jobSchema = z.object({
  id: uidSchema,
  cluster_id: clusterIdSchema,
  optimization_type: z.enum(['zero_scaling', 'resource_optimization']),
  target: workloadRefSchema,
  target_uid: uidSchema.nullable(),
  status: jobStatusSchema,
  progress: z.number().min(0).max(100),
  dry_run: z.boolean(),
  actor: z.string(),
  policy: z.string(),
  steps: z.array(jobStepSchema),
  safety_checks: z.array(safetyCheckSchema),
  /** The fields that would be, or were, changed, with the way back (shown; the authority is the record in the cluster). */
  plan: z.object({ changes: z.array(fieldChangeSchema), rollback: z.array(fieldChangeSchema) }).nullable(),
  result: z.record(z.string(), z.unknown()).nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  /** True while the change stands in the cluster (the workload sleeps or runs with our resources). */
  applied: z.boolean(),
  created_at: timestampSchema,
  updated_at: timestampSchema,
  estimated_completion: timestampSchema.nullable(),
});
export type Job = z.infer<typeof jobSchema>;
export const jobEventSchema = z.object({ version: z.literal(1), id: z.string(), revision: z.number().int().positive(), at: timestampSchema, job: jobSchema });
export type JobEvent = z.infer<typeof jobEventSchema>;
