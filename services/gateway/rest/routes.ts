import {
  analyzeClusterRequest, analyzeDeploymentRequest, analyzeNamespaceRequest, analyzePodRequest, clusterListResponse, clusterResponse, deploymentResponse, healthResponse, jobListResponse, jobResponse, jobStatusSchema, optimizeRequest, optimizeResponse, podResponse, recommendationListResponse, savingsResponse, stopRequest, stopResponse, clusterIdSchema,
} from '@upid/contracts';
import { z } from 'zod';
import { costAnalysisResponse, intelligenceClusterResponse } from './models.js';

/** What a key may do: each includes the ones before it. */
export const ROLES = ['viewer', 'operator', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** One route of the REST interface: the controllers take method and path from here, the guard the role, OpenAPI all of it. */
export interface Route {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly summary: string;
  readonly tag: string;
  /** null: open to all. */
  readonly role: Role | null;
  readonly status: 200 | 202;
  readonly params?: z.ZodObject;
  readonly query?: z.ZodObject;
  readonly body?: z.ZodType;
  readonly response: z.ZodType;
}

const timeRange = z.string().default('7d').describe('30m, 24h, 7d, or START/END in RFC 3339 UTC');
const clusterParam = z.object({ cluster_id: clusterIdSchema });
const jobParam = z.object({ job_id: z.uuid('a job id is a UUID') });

function route<R extends Route>(each: R): R {
  return each;
}

export const ROUTES = {
  health: route({ method: 'GET', path: '/health', summary: 'How the gateway is', tag: 'health', role: null, status: 200, response: healthResponse }),
  live: route({ method: 'GET', path: '/health/live', summary: 'Whether the process lives', tag: 'health', role: null, status: 200, response: healthResponse }),
  ready: route({ method: 'GET', path: '/health/ready', summary: 'Whether it can answer, with each dependency', tag: 'health', role: null, status: 200, response: z.object({ ready: z.boolean(), dependencies: z.record(z.string(), z.object({ ok: z.boolean(), state: z.string() })) }) }),
  analyzePod: route({ method: 'POST', path: '/api/v1/analyze/pod', summary: 'Everything known of a pod', tag: 'analyze', role: 'viewer', status: 200, body: analyzePodRequest, response: podResponse }),
  analyzeDeployment: route({ method: 'POST', path: '/api/v1/analyze/deployment', summary: 'Everything known of a workload (any kind by options.kind)', tag: 'analyze', role: 'viewer', status: 200, body: analyzeDeploymentRequest, response: deploymentResponse }),
  analyzeNamespace: route({ method: 'POST', path: '/api/v1/analyze/namespace', summary: 'A namespace: utilisation, cost, workloads', tag: 'analyze', role: 'viewer', status: 200, body: analyzeNamespaceRequest, response: clusterResponse }),
  analyzeCluster: route({ method: 'POST', path: '/api/v1/analyze/cluster', summary: 'A cluster: utilisation, cost, efficiency, advice', tag: 'analyze', role: 'viewer', status: 200, body: analyzeClusterRequest, response: clusterResponse }),
  optimize: route({ method: 'POST', path: '/api/v1/optimize/deployment', summary: 'Start a job (the POST is the approval); unsafe: 409 with every check', tag: 'optimize', role: 'operator', status: 202, body: optimizeRequest, response: optimizeResponse }),
  jobs: route({
    method: 'GET', path: '/api/v1/optimization/jobs', summary: 'Jobs, newest first', tag: 'optimize', role: 'viewer', status: 200, response: jobListResponse,
    query: z.object({ cluster_id: clusterIdSchema.optional(), status: z.string().transform((text) => text.split(',')).pipe(z.array(jobStatusSchema)).optional(), applied: z.stringbool().optional(), limit: z.coerce.number().int().min(1).max(500).default(100) }),
  }),
  jobStatus: route({ method: 'GET', path: '/api/v1/optimization/status/:job_id', summary: 'One job with its steps', tag: 'optimize', role: 'viewer', status: 200, params: jobParam, response: jobResponse }),
  cancel: route({ method: 'POST', path: '/api/v1/optimization/cancel/:job_id', summary: 'End a job; what it changed is put back', tag: 'optimize', role: 'operator', status: 202, params: jobParam, response: jobResponse }),
  rollback: route({ method: 'POST', path: '/api/v1/optimization/rollback/:job_id', summary: 'Put back exactly what a job changed', tag: 'optimize', role: 'operator', status: 202, params: jobParam, response: jobResponse }),
  stop: route({ method: 'POST', path: '/api/v1/stop', summary: 'Hold every action (hold), or wake everything that sleeps (restore)', tag: 'optimize', role: 'operator', status: 200, body: stopRequest, response: stopResponse }),
  intelligence: route({ method: 'GET', path: '/api/v1/intelligence/cluster/:cluster_id', summary: 'Every workload of a cluster as it is judged', tag: 'intelligence', role: 'viewer', status: 200, params: clusterParam, query: z.object({ time_range: timeRange }), response: intelligenceClusterResponse }),
  cost: route({
    method: 'GET', path: '/api/v1/cost/analysis/:resource_type/:resource_name', summary: 'What something costs, how that moved and why', tag: 'cost', role: 'viewer', status: 200, response: costAnalysisResponse,
    params: z.object({ resource_type: z.enum(['pod', 'deployment', 'workload', 'namespace', 'node', 'label', 'cluster']), resource_name: z.string().min(1).max(253) }),
    query: z.object({ namespace: z.string().min(1).max(63).default('default'), cluster_id: clusterIdSchema.optional(), time_range: timeRange }),
  }),
  recommendations: route({
    method: 'GET', path: '/api/v1/recommendations/cluster/:cluster_id', summary: 'Recommendations that stand', tag: 'recommendations', role: 'viewer', status: 200, params: clusterParam, response: recommendationListResponse,
    query: z.object({ confidence_threshold: z.coerce.number('a fraction from 0 to 1').min(0, 'a fraction from 0 to 1').max(1, 'a fraction from 0 to 1').default(0.8), namespace: z.string().optional() }),
  }),
  savings: route({ method: 'GET', path: '/api/v1/savings/potential/:cluster_id', summary: 'What could be saved, no dollar twice', tag: 'savings', role: 'viewer', status: 200, params: clusterParam, query: z.object({ time_horizon: z.string().default('30d') }), response: savingsResponse }),
  clusters: route({ method: 'GET', path: '/api/v1/clusters', summary: 'Clusters with what they can do and how complete their data is', tag: 'clusters', role: 'viewer', status: 200, response: clusterListResponse }),
} as const satisfies Record<string, Route>;
