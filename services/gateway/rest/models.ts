import { anomalySchema, clusterIdSchema, coverageSchema, restCostAnalysisSchema, stateSchema, timestampSchema, trendSchema, workloadKindSchema } from '@upid/contracts';
import { z } from 'zod';

const money = z.number().nullable();

/** `GET /api/v1/cost/analysis/{type}/{name}`. */
export const costAnalysisResponse = z.object({
  cluster_id: clusterIdSchema, resource_type: z.string(), resource_name: z.string(), namespace: z.string().nullable(), start: timestampSchema, end: timestampSchema,
  current_cost: restCostAnalysisSchema, history: z.array(z.object({ hour: timestampSchema, allocated_cost: z.number(), actual_cost: money })), trend: trendSchema,
  drivers: z.array(z.object({ what: z.string(), change: z.number() })), opportunities: z.array(z.object({ type: z.string(), action: z.string(), estimated_savings: money, confidence: z.number() })),
  unit_cost: z.object({ per_thousand_requests: money, reason: z.string().nullable() }), currency: z.string(), coverage: coverageSchema,
});

/** `GET /api/v1/intelligence/cluster/{id}`. */
export const intelligenceClusterResponse = z.object({
  cluster_id: clusterIdSchema, time_range: z.object({ start: timestampSchema, end: timestampSchema }), states: z.record(z.string(), z.number().int()),
  workloads: z.array(z.object({
    namespace: z.string(), kind: workloadKindSchema, name: z.string(), state: stateSchema, idle_probability: z.number().nullable(), confidence: z.number(), replicas: z.number().int().nullable(), requests_per_day: z.number().nullable(),
    cpu_millicores_mean: z.number().nullable(), memory_bytes_mean: z.number().nullable(),
  })),
  anomalies: z.array(anomalySchema.extend({ workload: z.string() })), requests_per_day: z.number().nullable(), service_availability: z.number().nullable(), coverage: coverageSchema, analysis_timestamp: timestampSchema,
});

export type CostAnalysisResponse = z.infer<typeof costAnalysisResponse>;
export type IntelligenceClusterResponse = z.infer<typeof intelligenceClusterResponse>;
