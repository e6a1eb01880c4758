import { DEFAULT_POLICY, HOUR_MS, recommendationSchema, type Assessment, type WorkloadObject } from '@upid/contracts';
import { assessmentOf, UID, workloadOf } from '../objects.fixture.js';
import { isNews, recommend, recommendationKey, type Subject, type WorkloadRates } from './recommend.js';
import { recommendContainer } from './rightsizing/recommend.js';

const rates: WorkloadRates = { currency: 'USD', monthlyNanos: 40_000_000_000n, cpuPerCoreHourNanos: 31_611_000n, memoryPerGibHourNanos: 4_237_000n, priceSource: 'price_sheet' };
const periods = (cpu: number, memory: number) => Array.from({ length: 14 * 24 }, (_, hour) => ({ startMs: hour * HOUR_MS, coveredMinutes: 60, cpuMeanMillicores: cpu, cpuMaxMillicores: cpu * 1.2, memoryMaxBytes: memory, replicas: 1 }));
const sizedFor = (cpu: number, memory: number) => [{ container: 'app', advice: recommendContainer({ periods: periods(cpu, memory), current: { cpuRequestMillicores: 500, cpuLimitMillicores: null, memoryRequestBytes: 512 * 2 ** 20, memoryLimitBytes: 512 * 2 ** 20 } }) }];
const ok = [{ name: 'kind', outcome: 'passed' as const, reason: 'fine', evidence: {} }];
const bad = [{ name: 'ingress', outcome: 'failed' as const, reason: 'unseen requests', evidence: {} }];
const subject = (over: Partial<Subject> = {}, workload: Partial<WorkloadObject> = {}, assessment: Partial<Assessment> = {}): Subject => ({ workload: workloadOf(workload), assessment: assessmentOf(assessment), rates, sized: [], zeroChecks: ok, resizeChecks: ok, policy: DEFAULT_POLICY, ...over });
const active = { judgement: { ...assessmentOf().judgement, state: 'active' as const, idle_probability: 10 }, pods_mean_idle_probability: 10, pods_lowest_confidence: 95 };
const full = (draft: ReturnType<typeof recommend>[number]) => recommendationSchema.parse({ ...draft, id: UID, created_at: '2026-01-01T00:00:00Z', updated_at: '2026-01-01T00:00:00Z' });

it('lets a candidate sleep with its exact patch, evidence and saving', () => {
  const [draft, ...more] = recommend(subject());
  expect(more).toEqual([]);
  expect(draft).toMatchObject({ type: 'zero_scaling', patch: { kind: 'Deployment', name: 'promo', body: { spec: { replicas: 0 } } }, saving: { estimated_savings: '40000000000', bill_savings: null }, actionable: true, risk_level: 'low', confidence: 99 });
  expect(draft?.saving.bill_savings_reason).toContain('not simulated');
  expect(draft?.evidence.replay).toEqual({ business_requests_missed: 0, minutes_with_business_requests: 0 });
  expect(full(draft!).id).toBe(UID);
});

it('says what stands in the way of an idle workload\'s sleep', () => {
  const [draft] = recommend(subject({ zeroChecks: bad }));
  expect(draft).toMatchObject({ type: 'idle_optimization', actionable: false, blocked_by: ['ingress: unseen requests'], patch: null });
});

it('counts only the idle minutes of a workload that works at times, and does not call it useless', () => {
  const requests = { ...assessmentOf().requests!, business: 20_000, business_minutes: 2_520, business_per_day: 2_857 };
  const [draft] = recommend(subject({ zeroChecks: bad }, {}, { requests, pods_mean_idle_probability: 82 }));
  expect(draft).toMatchObject({ type: 'idle_optimization', risk_level: 'high', saving: { estimated_savings: '30000000000' } });
  expect(draft?.action).toContain('25 % of its minutes (2857 a day)');
});

it('never sizes by more than the workload costs, and tells a freed capacity from a lower bill', () => {
  const [draft] = recommend(subject({ sized: sizedFor(40, 100 * 2 ** 20), rates: { ...rates, monthlyNanos: 3_000_000_000n } }, {}, active));
  expect(draft?.type).toBe('resource_optimization');
  expect(draft?.saving.estimated_savings).toBe('3000000000');
  expect(draft?.saving.bill_savings).toBeNull();
  const [exact] = recommend(subject({ sized: sizedFor(40, 100 * 2 ** 20) }, {}, active));
  const body = exact?.patch?.body as { spec: { template: { spec: { containers: { resources: { requests: { cpu: string; memory: string } } }[] } } } };
  const { cpu, memory } = body.spec.template.spec.containers[0]!.resources.requests;
  const cores = (500 - Number.parseInt(cpu, 10)) / 1000;
  const gib = (512 - Number.parseInt(memory, 10)) / 1024;
  expect(memory).toMatch(/Mi$/);
  expect(Number(exact?.saving.estimated_savings) / 1e9).toBeCloseTo((cores * 0.031611 + gib * 0.004237) * 730 * 2, 3);
});

it('raises what has too little, without a saving', () => {
  const [draft] = recommend(subject({ sized: sizedFor(900, 600 * 2 ** 20) }, {}, { ...active, judgement: { ...active.judgement, state: 'constrained' } }));
  expect(draft).toMatchObject({ type: 'resource_optimization', saving: { estimated_savings: '0' }, actionable: true });
  expect(draft?.impact).toContain('gives it what it needs');
});

it('speaks of performance where sizing has nothing to say', () => {
  const [draft] = recommend(subject({}, {}, { ...active, judgement: { ...active.judgement, state: 'constrained' }, usage: { ...assessmentOf().usage, throttled_minutes_share: 0.3 } }));
  expect(draft).toMatchObject({ type: 'performance_optimization', actionable: false });
  expect(draft?.action).toContain('30 %');
});

it('is silent below the minimum saving, and about what already fits or sleeps', () => {
  expect(recommend(subject({ rates: { ...rates, monthlyNanos: 500_000_000n } }))).toEqual([]);
  expect(recommend(subject({ sized: sizedFor(430, 420 * 2 ** 20) }, {}, active))).toEqual([]);
  expect(recommend(subject({}, { replicas: 0 }))).toEqual([]);
});

it('shows an unknown saving as unknown', () => {
  const [draft] = recommend(subject({ rates: null }));
  expect(draft?.saving.estimated_savings).toBeNull();
  expect(draft?.impact).toContain('not known yet');
});

it('does not churn: only another patch, other blocks or a tenth are news', () => {
  const [draft] = recommend(subject());
  const standing = full(draft!);
  expect(isNews(standing, draft!)).toBe(false);
  expect(isNews(standing, { ...draft!, saving: { ...draft!.saving, estimated_savings: '37000000000' } })).toBe(false);
  expect(isNews(standing, { ...draft!, saving: { ...draft!.saving, estimated_savings: '35000000000' } })).toBe(true);
  expect(isNews(standing, { ...draft!, saving: { ...draft!.saving, estimated_savings: null } })).toBe(true);
  expect(isNews(standing, { ...draft!, patch: null })).toBe(true);
  expect(recommendationKey('demo', 'zero_scaling', draft!.workload)).toBe('demo/zero_scaling/shop/Deployment/promo');
});
