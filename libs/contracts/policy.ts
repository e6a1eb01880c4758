import { z } from 'zod';

/**
 * The thresholds of a decision, by name. Every answer that rests on one says which. The defaults are the reference's;
 * `UPID_POLICY_FILE` (YAML, the same field names) gives others.
 */
export const policySchema = z.object({
  name: z.string().default('default'),
  /** Below this many hours observed a state is `unknown` and nothing is put to sleep. */
  minimum_observation_hours: z.number().nonnegative().default(24),
  /** The window that assessments look back over, hours. */
  assessment_window_hours: z.number().positive().default(168),
  idle_probability: z.number().min(0).max(100).default(80),
  /** Of a zero-scaling candidate: the mean over its pods must lie above, and so must the lowest confidence. */
  candidate_idle_probability: z.number().min(0).max(100).default(95),
  candidate_confidence: z.number().min(0).max(100).default(90),
  /** A workload whose template changed less than this many hours ago is not put to sleep. */
  minimum_change_age_hours: z.number().nonnegative().default(24),
  /** How long a job watches after it acted, seconds. */
  watch_seconds: z.number().positive().default(300),
  /** Log stream or bus lost for this long: the sleeper is woken. */
  dead_man_minutes: z.number().positive().default(10),
  command_expiry_seconds: z.number().positive().default(120),
  minimum_monthly_saving: z.number().nonnegative().default(1),
  protected_namespaces: z.array(z.string()).default(['kube-system', 'kube-public', 'kube-node-lease', 'upid-system', 'istio-system', 'linkerd', 'ingress-nginx', 'cert-manager', 'monitoring', 'argocd', 'flux-system']),
  /** Hours in which nothing is put to sleep, where set: days 1 (Monday) to 7, local hours half-open. */
  business_hours: z.object({ time_zone: z.string(), days: z.array(z.number().int().min(1).max(7)), start_hour: z.number().min(0).max(24), end_hour: z.number().min(0).max(24), holidays: z.array(z.iso.date()).default([]) }).nullable().default(null),
  /** Jobs that may change a cluster in an hour. */
  changes_per_hour: z.number().int().positive().default(20),
}).strict();
export type Policy = z.infer<typeof policySchema>;

/** The reference's own values. */
export const DEFAULT_POLICY: Policy = policySchema.parse({});
