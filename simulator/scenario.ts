import { parse } from 'yaml';
import { z } from 'zod';

/**
 * A demo cluster as a YAML file describes it: its nodes, its workloads with how they behave over the week, and the truth about each,
 * which no part of UPID reads. The same seed gives the same cluster, to the sample.
 */

const name = z.string().regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, 'a Kubernetes name: lower-case letters, digits and dashes').max(63);
/** Millicores. */
const cpu = z.number().nonnegative();
/** MiB. */
const memory = z.number().positive();

/** How a workload spends its week. CPU and memory are a pod's; requests are the workload's, a minute. */
export const behaviourSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('steady'), cpu, memory, requests: z.number().nonnegative().default(0), noise: z.number().min(0).max(1).default(0.1) }).strict(),
  z.object({
    type: z.literal('business_hours'), cpu, idle_cpu: cpu.default(2), memory, requests: z.number().nonnegative().default(0), night_requests: z.number().nonnegative().default(0), start_hour: z.number().min(0).max(24).default(8), end_hour: z.number().min(0).max(24).default(18),
    days: z.array(z.number().int().min(1).max(7)).default([1, 2, 3, 4, 5]), noise: z.number().min(0).max(1).default(0.15),
  }).strict(),
  z.object({ type: z.literal('batch'), cpu, idle_cpu: cpu.default(2), memory, start_hours: z.array(z.number().min(0).max(24)).min(1), duration_minutes: z.number().positive(), noise: z.number().min(0).max(1).default(0.1) }).strict(),
  z.object({ type: z.literal('health_checks_only'), cpu: cpu.default(1), memory, checks: z.number().nonnegative().default(2) }).strict(),
]);
export type Behaviour = z.infer<typeof behaviourSchema>;

export const workloadSchema = z.object({
  name, namespace: name, kind: z.enum(['Deployment', 'StatefulSet', 'DaemonSet']).default('Deployment'), replicas: z.number().int().min(0).max(200).default(1),
  /** Of a pod's one container. Limits: `cpu_limit` absent = none, `memory_limit` absent = the request. */
  request: z.object({ cpu: cpu.nullable(), memory: memory.nullable(), cpu_limit: cpu.optional(), memory_limit: memory.optional() }).strict(),
  behaviour: behaviourSchema,
  /** A Service; `ingress`: also a route from outside. */
  service: z.boolean().default(true), ingress: z.boolean().default(false),
  labels: z.record(z.string(), z.string()).default({}), annotations: z.record(z.string(), z.string()).default({}),
  /** Services (`name` or `namespace/name`) named in its environment. */
  uses: z.array(z.string()).default([]),
  /** GiB of a persistent volume a pod. */
  volume: z.number().positive().optional(),
  autoscaler: z.object({ min: z.number().int().min(1), max: z.number().int().min(1), cpu_percent: z.number().positive() }).strict().optional(),
  budget: z.object({ min_available: z.number().int().min(0) }).strict().optional(),
  /** What an observer with perfect knowledge says: for whoever checks UPID's answers. */
  truth: z.object({ idle: z.boolean(), cpu: z.enum(['over', 'right', 'under']), cpu_factor: z.number().positive(), memory: z.enum(['over', 'right', 'under']), memory_factor: z.number().positive() }).strict(),
}).strict();
export type ScenarioWorkload = z.infer<typeof workloadSchema>;

export const scenarioSchema = z.object({
  name, seed: z.number().int(), time_zone: z.string().default('UTC'),
  cluster: z.object({ provider: z.enum(['aws', 'gcp', 'azure', 'none']), region: z.string(), zones: z.array(z.string()).min(1), version: z.string().default('v1.36.0') }).strict(),
  history_days: z.number().positive().max(30).default(14),
  /** The cluster's clock may start this long ago and run this fast until it meets the wall clock; it is never ahead of it. */
  clock: z.object({ start_hours_ago: z.number().nonnegative().default(0), speed: z.number().min(1).default(1) }).strict().default({ start_hours_ago: 0, speed: 1 }),
  node_groups: z.array(z.object({ name, count: z.number().int().positive().max(1000), instance_type: z.string(), capacity_type: z.enum(['on_demand', 'spot']), cpu: cpu, memory, architecture: z.enum(['amd64', 'arm64']).default('amd64') }).strict()).min(1),
  namespaces: z.array(z.object({ name, labels: z.record(z.string(), z.string()).default({}), annotations: z.record(z.string(), z.string()).default({}) }).strict()).min(1),
  workloads: z.array(workloadSchema).min(1),
}).strict().superRefine((scenario, context) => {
  const namespaces = new Set(scenario.namespaces.map((each) => each.name));
  const seen = new Set<string>();
  scenario.workloads.forEach((workload, index) => {
    const key = `${workload.namespace}/${workload.kind}/${workload.name}`;
    if (!namespaces.has(workload.namespace)) context.addIssue({ code: 'custom', path: ['workloads', index, 'namespace'], message: `namespace ${workload.namespace} is not among the namespaces` });
    if (seen.has(key)) context.addIssue({ code: 'custom', path: ['workloads', index], message: `${key} is there twice` });
    seen.add(key);
  });
});
export type Scenario = z.infer<typeof scenarioSchema>;

/** A scenario file that is none; names each field and what was expected. */
export class ScenarioError extends Error {
  override readonly name = 'ScenarioError';
}

/** @throws {ScenarioError} */
export function parseScenario(text: string): Scenario {
  let value: unknown;
  try {
    value = parse(text);
  } catch (cause) {
    throw new ScenarioError(`the scenario is no YAML: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  const parsed = scenarioSchema.safeParse(value);
  if (!parsed.success) throw new ScenarioError(`the scenario is not as expected: ${parsed.error.issues.slice(0, 10).map((issue) => `${issue.path.join('.') || 'it'}: ${issue.message}`).join('; ')}`);
  return parsed.data;
}
