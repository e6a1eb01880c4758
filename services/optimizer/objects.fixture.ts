import type { Assessment, WorkloadObject } from '@upid/contracts';

/** Plain objects that tests and examples start from: an idle Deployment `shop/promo`, long observed, that nobody needs. */
export const UID = '11111111-1111-4111-8111-111111111111';
const none = { cpu_millicores: null, memory_bytes: null, gpus: null, pods: null, ephemeral_storage_bytes: null };

export function workloadOf(over: Partial<WorkloadObject> = {}): WorkloadObject {
  return {
    kind: 'Workload', uid: UID, workload_kind: 'Deployment', namespace: 'shop', name: 'promo', api_version: 'apps/v1', resource_version: '1', generation: 1, observed_generation: 1, replicas: 2, ready_replicas: 2, updated_replicas: 2, suspended: null,
    labels: {}, template_labels: {}, annotations: {}, owners: [], managers: [],
    containers: [{ name: 'app', role: 'main', image: 'shop/promo:1', requests: { ...none, cpu_millicores: 500, memory_bytes: 512 * 2 ** 20 }, limits: { ...none, memory_bytes: 512 * 2 ** 20 } }],
    volumes: [], volume_claim_templates: 0, max_surge: null, created_at: '2026-01-01T00:00:00Z', last_rollout_at: '2026-01-01T00:00:00Z', rollout_in_flight: false, ...over,
  };
}

export function assessmentOf(over: Partial<Assessment> = {}): Assessment {
  const usage = { cpu_millicores: { mean: 2, p50: 2, p95: 3, p99: 3, max: 4 }, memory_bytes: { mean: 1e8, p95: 1e8, max: 1.1e8 }, network_bytes_per_second: null, throttled_minutes_share: 0, covered_minutes: 10_080 };
  return {
    workload: { namespace: 'shop', kind: 'Deployment', name: 'promo' }, uid: UID,
    judgement: {
      state: 'idle', idle_probability: 99, confidence: 99, calibrated_confidence: null, factors: [{ name: 'business_activity', weight: 0.5, score: 100, coverage: 1, evidence: 'no business request in 10,080 covered minutes' }], missing: [], observed_hours: 168, data_points: 10_080, model_version: 'start',
    },
    pods_mean_idle_probability: 99, pods_lowest_confidence: 99, pods: [], usage, containers: [{ name: 'app', usage, oom_kills: 0 }],
    requests: { covered_minutes: 10_080, business_minutes: 0, business: 0, health_check: 0, probe: 20_160, monitoring: 0, load_balancer: 0, crawler: 0, errors: 0, noise_share: 1, business_per_day: 0, latency_p95_ms: null },
    idle_periods: null, time_zone: 'UTC', ...over,
  };
}
