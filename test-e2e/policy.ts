import { policySchema, type Policy } from '@upid/contracts';

/** Thresholds by which a workload that nobody asks for may sleep at once; nothing else of the reference is changed. */
export const SLEEP_AT_ONCE: Policy = policySchema.parse({
  name: 'sleep-at-once', minimum_observation_hours: 0, minimum_change_age_hours: 0, candidate_idle_probability: 0, candidate_confidence: 0, watch_seconds: 40, minimum_monthly_saving: 0,
});
