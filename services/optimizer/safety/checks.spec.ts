import { capabilitiesSchema, DEFAULT_POLICY, type Assessment, type SafetyCheck, type WorkloadObject } from '@upid/contracts';
import { assessmentOf, UID, workloadOf } from '../objects.fixture.js';
import { blockingChecks, runSafetyChecks, type SafetyFacts } from './checks.js';

const NOW = Date.parse('2026-03-04T12:00:00Z'); // a Wednesday
const facts = (over: Partial<SafetyFacts> = {}, workload: Partial<WorkloadObject> = {}, assessment: Partial<Assessment> | null = {}): SafetyFacts => ({
  action: 'zero_scaling', workload: workloadOf(workload), namespace: { kind: 'Namespace', uid: UID, name: 'shop', labels: {}, annotations: {}, created_at: null }, pods: [], services: [], routes: [], autoscalers: [], budgets: [], dependents: [],
  capabilities: capabilitiesSchema.parse({ access_logs: true }), assessment: assessment === null ? null : assessmentOf(assessment), policy: DEFAULT_POLICY, nowMs: NOW, ...over,
});
const blocking = (each: SafetyFacts) => blockingChecks(runSafetyChecks(each)).map((check) => check.name);
const byName = (each: SafetyFacts, name: string) => runSafetyChecks(each).find((check) => check.name === name) as SafetyCheck;
const ref = { namespace: 'shop', kind: 'Deployment' as const, name: 'promo' };
const service = (type: string) => ({ kind: 'Service' as const, uid: UID, namespace: 'shop', name: 'promo', type, ports: [80], workloads: [ref] });
const route = { kind: 'Route' as const, uid: UID, route_kind: 'Ingress' as const, namespace: 'shop', name: 'promo', class: null, services: [], workloads: [ref] };
const budget = { kind: 'PodDisruptionBudget' as const, uid: UID, namespace: 'shop', name: 'pdb', workloads: [ref], disruptions_allowed: 1, min_available: '1', max_unavailable: null };
const scaler = { kind: 'Autoscaler' as const, uid: UID, autoscaler_kind: 'HorizontalPodAutoscaler' as const, namespace: 'shop', name: 'hpa', target: ref, min_replicas: 1, max_replicas: 3, target_cpu_utilization_percent: 80, mode: null };

it('lets an idle workload sleep that nobody needs', () => {
  expect(blocking(facts())).toEqual([]);
  expect(blocking(facts({ routes: [route], services: [service('ClusterIP')] }))).toEqual([]);
});

it('runs every check whatever the first ones say, each with a reason', () => {
  const bad = facts({}, { labels: { 'app.kubernetes.io/component': 'critical' }, volume_claim_templates: 1 });
  const checks = runSafetyChecks(bad);
  expect(checks).toHaveLength(19);
  expect(checks.every((check) => check.reason.length > 0)).toBe(true);
  expect(new Set(checks.map((check) => check.name)).size).toBe(19);
  expect(blocking(bad)).toEqual(['criticality', 'persistent_volumes']);
});

describe.each<[string, string, SafetyFacts]>([
  ['a critical component', 'criticality', facts({}, { template_labels: { 'app.kubernetes.io/component': 'critical' } })],
  ['a production database', 'criticality', facts({}, { labels: { environment: 'production', tier: 'database' } })],
  ['a frontend in a production namespace', 'criticality', facts({ namespace: { kind: 'Namespace', uid: UID, name: 'shop', labels: { env: 'prod' }, annotations: {}, created_at: null } }, { labels: { tier: 'frontend' } })],
  ['what another workload uses', 'dependencies', facts({ dependents: [{ kind: 'Dependency', uid: UID, namespace: 'shop', name: 'd', from: { ...ref, name: 'cart' }, to_service: { namespace: 'shop', name: 'promo' }, to_workloads: [ref], source: 'environment' }] })],
  ['a mesh sidecar', 'service_mesh', facts({}, { containers: [...workloadOf().containers, { ...workloadOf().containers[0]!, name: 'istio-proxy' }] })],
  ['a load balancer past the ingress', 'ingress', facts({ services: [service('LoadBalancer')] })],
  ['a route whose logs are not followed', 'ingress', facts({ routes: [route], capabilities: capabilitiesSchema.parse({}) })],
  ['a route without request telemetry', 'ingress', facts({ routes: [route] }, {}, { requests: null })],
  ['claims of volumes', 'persistent_volumes', facts({}, { volumes: [{ name: 'data', type: 'persistent_volume_claim', claim: 'data' }] })],
  ['data on the node', 'persistent_volumes', facts({}, { volumes: [{ name: 'data', type: 'host_path', claim: null }] })],
  ['business hours', 'business_hours', facts({ policy: { ...DEFAULT_POLICY, business_hours: { time_zone: 'Europe/Berlin', days: [1, 2, 3, 4, 5], start_hour: 9, end_hour: 18, holidays: [] } } })],
  ['a rollout in flight', 'recent_deployment', facts({}, { rollout_in_flight: true })],
  ['a fresh change', 'recent_deployment', facts({}, { last_rollout_at: '2026-03-04T10:00:00Z' })],
  ['an HPA', 'autoscaler_ownership', facts({ autoscalers: [scaler] })],
  ['Argo CD', 'gitops_ownership', facts({}, { annotations: { 'argocd.argoproj.io/tracking-id': 'x' } })],
  ['Flux by its field manager', 'gitops_ownership', facts({}, { managers: ['kustomize-controller'] })],
  ['kube-downscaler', 'other_optimisers', facts({}, { annotations: { 'downscaler/uptime': 'Mon-Fri 07:00-19:00 UTC' } })],
  ['an operator', 'owner', facts({}, { owners: ['PostgresCluster/main'] })],
  ['a budget', 'disruption_budget', facts({ budgets: [budget] })],
  ['a protected namespace', 'protected_namespace', facts({}, { namespace: 'kube-system' })],
  ['an opt-out on the workload', 'opt_out', facts({}, { annotations: { 'upid.io/exclude': 'true' } })],
  ['another tool\'s opt-out', 'opt_out', facts({}, { annotations: { 'cluster-autoscaler.kubernetes.io/safe-to-evict': 'false' } })],
  ['a DaemonSet', 'kind', facts({}, { workload_kind: 'DaemonSet' })],
  ['what sleeps already', 'kind', facts({}, { replicas: 0 })],
  ['unknown business activity', 'business_activity', facts({}, {}, { judgement: { ...assessmentOf().judgement, factors: [] } })],
  ['a low probability', 'idle_probability', facts({}, {}, { pods_mean_idle_probability: 95 })],
  ['a low confidence', 'confidence', facts({}, {}, { pods_lowest_confidence: 90 })],
  ['a calibrated confidence below the plain one', 'confidence', facts({}, {}, { judgement: { ...assessmentOf().judgement, calibrated_confidence: 60 } })],
  ['a short observation', 'observation', facts({}, {}, { judgement: { ...assessmentOf().judgement, observed_hours: 23.9 } })],
])('%s', (_, name, each) => {
  it(`fails ${name} alone`, () => {
    expect(blocking(each)).toEqual([name]);
  });
});

it('fails what should be possible and could not be made', () => {
  expect(blocking(facts({}, {}, null))).toEqual(['observation', 'business_activity', 'idle_probability', 'confidence']);
  expect(byName(facts({}, {}, null), 'confidence').outcome).toBe('unknown');
});

it('passes as not applicable what the cluster does not have', () => {
  expect(byName(facts(), 'service_mesh').outcome).toBe('not_applicable');
  expect(byName(facts(), 'gitops_ownership').outcome).toBe('not_applicable');
  expect(byName(facts(), 'business_hours').outcome).toBe('not_applicable');
});

it('lets it sleep at night, on a weekend and on a holiday', () => {
  const hours = { time_zone: 'America/New_York', days: [1, 2, 3, 4, 5], start_hour: 9, end_hour: 18, holidays: ['2026-03-05'] };
  const at = (time: string) => byName(facts({ policy: { ...DEFAULT_POLICY, business_hours: hours }, nowMs: Date.parse(time) }), 'business_hours').outcome;
  expect(at('2026-03-04T13:59:00Z')).toBe('passed');
  expect(at('2026-03-04T14:00:00Z')).toBe('failed');
  expect(at('2026-03-05T15:00:00Z')).toBe('passed');
  expect(at('2026-03-07T15:00:00Z')).toBe('passed');
});

it('asks of a resize only what a resize can hurt', () => {
  const resize = facts({ action: 'resource_optimization', services: [service('LoadBalancer')], routes: [route] }, { volume_claim_templates: 1, workload_kind: 'StatefulSet' });
  expect(blocking(resize)).toEqual([]);
  expect(blocking({ ...resize, autoscalers: [scaler] })).toEqual(['autoscaler_ownership']);
  expect(blocking({ ...resize, budgets: [{ ...budget, disruptions_allowed: 0 }] })).toEqual(['disruption_budget']);
  expect(blocking({ ...resize, autoscalers: [{ ...scaler, autoscaler_kind: 'VerticalPodAutoscaler', mode: 'Off' }] })).toEqual([]);
});
