import {
  HOURS_PER_MONTH, workloadKey, type Assessment, type Policy, type Recommendation, type RecommendationType, type SafetyCheck, type Saving, type WorkloadObject, type WorkloadRef,
} from '@upid/contracts';
import { resourceChanges, resourcePatch, type ResourceChange } from '../jobs/resources.js';
import { blockingChecks } from '../safety/checks.js';
import type { ContainerRecommendation } from './rightsizing/recommend.js';

/** What a workload costs now. Money in 1e-9 of the currency; null where it is not known yet. */
export interface WorkloadRates {
  readonly currency: string;
  readonly monthlyNanos: bigint | null;
  readonly cpuPerCoreHourNanos: bigint | null;
  readonly memoryPerGibHourNanos: bigint | null;
  readonly priceSource: Saving['price_source'];
}

/** Everything that advice on one workload rests on. */
export interface Subject {
  readonly workload: WorkloadObject;
  readonly assessment: Assessment;
  readonly rates: WorkloadRates | null;
  /** Right-sizing by container; empty where no history is known. */
  readonly sized: readonly { readonly container: string; readonly advice: ContainerRecommendation }[];
  /** All safety checks of a scale to zero, and of a change of resources. */
  readonly zeroChecks: readonly SafetyCheck[];
  readonly resizeChecks: readonly SafetyCheck[];
  readonly policy: Policy;
}

/** A recommendation before it has an id and a history. */
export type Draft = Omit<Recommendation, 'id' | 'created_at' | 'updated_at'>;

/** A kind of recommendation: a rule from what is known to advice, or null where it has none to give. */
export type Rule = (subject: Subject) => Draft | null;

const GIB = 1024 ** 3;
const NOT_SIMULATED = 'not simulated: capacity that is freed lowers the bill only once nodes are removed, and no node simulation has been run';

function refOf(workload: WorkloadObject): WorkloadRef {
  return { namespace: workload.namespace, kind: workload.workload_kind, name: workload.name };
}

function saving(rates: WorkloadRates | null, nanos: bigint | null): Saving {
  const most = rates?.monthlyNanos ?? null;
  // No saving is above the cost of what it is saved on.
  const bounded = nanos === null || most === null ? null : nanos > most ? most : nanos;
  return { estimated_savings: bounded === null ? null : String(bounded), bill_savings: null, bill_savings_reason: NOT_SIMULATED, currency: rates?.currency ?? 'USD', price_source: rates?.priceSource ?? null };
}

function moneySentence(rates: WorkloadRates | null, { estimated_savings: nanos }: Saving): string {
  if (nanos === null || !rates) return 'what it would free is not known yet: the workload has no cost so far';
  return `frees capacity worth ${(Number(nanos) / 1e9).toFixed(2)} ${rates.currency} a month`;
}

function patchOf(workload: WorkloadObject, body: Record<string, unknown>): Recommendation['patch'] {
  return { api_version: workload.api_version, kind: workload.workload_kind, namespace: workload.namespace, name: workload.name, body };
}

function idleEvidence({ assessment }: Subject): Record<string, unknown> {
  return {
    state: assessment.judgement.state, idle_probability: assessment.judgement.idle_probability, pods_mean_idle_probability: assessment.pods_mean_idle_probability, pods_lowest_confidence: assessment.pods_lowest_confidence, observed_hours: assessment.judgement.observed_hours,
    factors: assessment.judgement.factors, requests: assessment.requests, model_version: assessment.judgement.model_version,
    // The replay over its own history: what a sleeper would have missed.
    replay: { business_requests_missed: assessment.requests?.business ?? null, minutes_with_business_requests: assessment.requests?.business_minutes ?? null },
  };
}

/** Sleep: a candidate by every threshold of the policy, with all safety checks passed. */
const zeroScaling: Rule = (subject) => {
  const { workload, assessment, policy, rates, zeroChecks } = subject;
  const mean = assessment.pods_mean_idle_probability;
  const lowest = assessment.pods_lowest_confidence;
  if (mean === null || lowest === null || mean <= policy.candidate_idle_probability || lowest <= policy.candidate_confidence || (workload.replicas ?? 0) === 0 || blockingChecks(zeroChecks).length > 0) return null;
  const money = saving(rates, rates?.monthlyNanos ?? null);
  return {
    type: 'zero_scaling', workload: refOf(workload), workload_uid: workload.uid, action: `Scale ${workload.workload_kind} ${workload.name} from ${workload.replicas} to 0 replicas; the agent wakes it at the first business request`,
    impact: moneySentence(rates, money), confidence: Math.min(lowest, mean), risk_level: 'low', saving: money, implementation_effort: 'low', evidence: idleEvidence(subject),
    patch: patchOf(workload, { spec: { replicas: 0 } }), safety_checks: [...zeroChecks], actionable: true, blocked_by: [],
  };
};

/** Idle, but no candidate for sleep: what stands in the way is told. One that works at times is worth no more than its idle minutes. */
const idle: Rule = (subject) => {
  const { workload, assessment, rates, zeroChecks } = subject;
  if (assessment.judgement.state !== 'idle' || zeroScaling(subject) !== null || (workload.replicas ?? 0) === 0) return null;
  const blocked = blockingChecks(zeroChecks).map((check) => `${check.name}: ${check.reason}`);
  const { requests } = assessment;
  const idleShare = requests && requests.covered_minutes > 0 ? 1 - requests.business_minutes / requests.covered_minutes : 1;
  const works = requests !== null && requests.business > 0;
  const monthly = rates?.monthlyNanos ?? null;
  const money = saving(rates, monthly === null ? null : (monthly * BigInt(Math.round(idleShare * 1e6))) / 1_000_000n);
  const what = works
    ? `${workload.workload_kind} ${workload.name} serves business requests in ${((1 - idleShare) * 100).toFixed(0)} % of its minutes (${Math.round(requests.business_per_day ?? requests.business)} a day) and rests otherwise: let it sleep in its idle hours alone`
    : `${workload.workload_kind} ${workload.name} does no business work: remove it, or let it sleep once ${blocked.length === 1 ? 'this is' : 'these are'} settled: ${blocked.join('; ') || 'its probability and confidence'}`;
  return {
    type: 'idle_optimization', workload: refOf(workload), workload_uid: workload.uid, action: what,
    impact: moneySentence(rates, money), confidence: assessment.judgement.confidence, risk_level: works ? 'high' : blocked.length > 0 ? 'medium' : 'low', saving: money, implementation_effort: 'medium', evidence: idleEvidence(subject),
    patch: null, safety_checks: [...zeroChecks], actionable: false, blocked_by: blocked,
  };
};

/** Requests and limits that right-sizing would set, where they clearly differ from the present ones. */
export function wantedResources(workload: WorkloadObject, sized: Subject['sized']): ResourceChange[] {
  return sized.flatMap(({ container, advice }) => {
    const set = (change: ContainerRecommendation['cpu']) => change.change === 'raise' || change.change === 'lower' || change.change === 'set';
    const has = workload.containers.find((each) => each.name === container);
    if (!has || (!set(advice.cpu) && !set(advice.memory))) return [];
    return [{
      container,
      requests: { cpu_millicores: set(advice.cpu) ? advice.cpu.request : null, memory_bytes: set(advice.memory) ? advice.memory.request : null },
      limits: { cpu_millicores: set(advice.cpu) && has.limits.cpu_millicores !== null ? advice.cpu.limit : null, memory_bytes: set(advice.memory) && has.limits.memory_bytes !== null ? advice.memory.limit : null },
    }];
  });
}

/** What a month of the difference in requests costs, over all replicas; negative where more is asked for. */
function requestDifferenceNanos(workload: WorkloadObject, wanted: readonly ResourceChange[], rates: WorkloadRates): bigint | null {
  if (rates.cpuPerCoreHourNanos === null || rates.memoryPerGibHourNanos === null) return null;
  let cpuMillicores = 0;
  let memoryBytes = 0;
  for (const change of wanted) {
    const now = workload.containers.find((each) => each.name === change.container)?.requests;
    if (change.requests.cpu_millicores !== null) cpuMillicores += (now?.cpu_millicores ?? 0) - change.requests.cpu_millicores;
    if (change.requests.memory_bytes !== null) memoryBytes += (now?.memory_bytes ?? 0) - change.requests.memory_bytes;
  }
  const hours = HOURS_PER_MONTH * Math.max(1, workload.replicas ?? 1);
  const cpu = (rates.cpuPerCoreHourNanos * BigInt(Math.round(cpuMillicores * hours))) / 1000n;
  const memory = (rates.memoryPerGibHourNanos * BigInt(Math.round((memoryBytes / GIB) * hours * 1_000_000))) / 1_000_000n;
  return cpu + memory;
}

/** Right-size requests and limits. */
const rightsizing: Rule = (subject) => {
  const { workload, assessment, rates, sized, resizeChecks } = subject;
  if (assessment.judgement.state === 'idle' || (workload.replicas ?? 1) === 0) return null;
  const wanted = wantedResources(workload, sized);
  const fields = resourceChanges(workload, wanted);
  if (fields.length === 0) return null;
  const raises = sized.some(({ advice }) => advice.cpu.change === 'raise' || advice.memory.change === 'raise');
  const nanos = rates ? requestDifferenceNanos(workload, wanted, rates) : null;
  const money = saving(rates, nanos !== null && nanos < 0n ? 0n : nanos);
  const blocked = blockingChecks(resizeChecks).map((check) => `${check.name}: ${check.reason}`);
  const lowest = Math.min(...sized.filter(({ container }) => wanted.some((change) => change.container === container)).map(({ advice }) => advice.confidence));
  return {
    type: 'resource_optimization', workload: refOf(workload), workload_uid: workload.uid, action: `Set ${fields.map((field) => `${field.container} ${field.field} ${field.before ?? 'unset'} → ${field.after}`).join(', ')}`,
    impact: raises && (nanos ?? 0n) <= 0n ? 'gives it what it needs: it uses, or is killed for, more than it asks for' : moneySentence(rates, money), confidence: lowest, risk_level: sized.some(({ advice }) => advice.memory.change === 'lower') ? 'medium' : 'low', saving: money,
    implementation_effort: 'low', evidence: { containers: sized.map(({ container, advice }) => ({ container, cpu: advice.cpu, memory: advice.memory, notes: advice.notes, evidence: advice.evidence })) },
    patch: patchOf(workload, resourcePatch(wanted)), safety_checks: [...resizeChecks], actionable: blocked.length === 0, blocked_by: blocked,
  };
};

/** Throttled or killed, and right-sizing has nothing to say of it. */
const performance: Rule = (subject) => {
  const { workload, assessment, rates, resizeChecks } = subject;
  if (assessment.judgement.state !== 'constrained' || rightsizing(subject) !== null) return null;
  const kills = assessment.containers.reduce((sum, container) => sum + container.oom_kills, 0);
  const throttled = assessment.usage.throttled_minutes_share;
  const why = [...(kills > 0 ? [`${kills} OOM kill${kills === 1 ? '' : 's'}`] : []), ...((throttled ?? 0) > 0.05 ? [`CPU throttled in ${((throttled ?? 0) * 100).toFixed(0)} % of minutes`] : [])];
  return {
    type: 'performance_optimization', workload: refOf(workload), workload_uid: workload.uid, action: `Give ${workload.name} more room: ${why.join(', ') || 'its memory is at its limit'}`, impact: 'fewer restarts and shorter waits; costs what the added requests cost', confidence: assessment.judgement.confidence, risk_level: 'low',
    saving: saving(rates, 0n), implementation_effort: 'low', evidence: { usage: assessment.usage, containers: assessment.containers }, patch: null, safety_checks: [...resizeChecks], actionable: false, blocked_by: ['the size it needs is not known: its usage is cut off at the limit'],
  };
};

/** Every kind of recommendation; a new one is a rule, added here. */
export const RULES: readonly Rule[] = [zeroScaling, idle, rightsizing, performance];

/** What is recommended for a workload, with savings below the policy's minimum left out (help for a workload that lacks something stays). */
export function recommend(subject: Subject): Draft[] {
  return RULES.flatMap((rule) => {
    const draft = rule(subject);
    if (!draft) return [];
    const { estimated_savings: nanos } = draft.saving;
    const helps = draft.type === 'performance_optimization' || subject.assessment.judgement.state === 'constrained';
    return nanos !== null && Number(nanos) / 1e9 < subject.policy.minimum_monthly_saving && !helps ? [] : [draft];
  });
}

/** What a recommendation is told apart by: one of a type for a workload. */
export function recommendationKey(clusterId: string, type: RecommendationType, workload: WorkloadRef | null): string {
  return `${clusterId}/${type}/${workload ? workloadKey(workload) : ''}`;
}

/** Shares below which a changed figure is no news, so that advice does not churn. */
const NEWS_SHARE = 0.1;

/** Whether the newer advice says something else than the one that stands: another patch or action, other blocks, or a figure that moved by a tenth. */
export function isNews(standing: Recommendation, draft: Draft): boolean {
  const plain = (each: Pick<Recommendation, 'patch' | 'blocked_by' | 'actionable' | 'risk_level' | 'workload_uid'>) => JSON.stringify([each.patch, each.actionable, each.risk_level, each.workload_uid, each.blocked_by.map((why) => why.split(':')[0])]);
  if (plain(standing) !== plain(draft)) return true;
  const before = standing.saving.estimated_savings;
  const after = draft.saving.estimated_savings;
  if ((before === null) !== (after === null)) return true;
  const moved = (a: number, b: number) => Math.abs(a - b) > NEWS_SHARE * Math.max(Math.abs(a), Math.abs(b));
  return moved(Number(before ?? 0), Number(after ?? 0)) || moved(standing.confidence, draft.confidence);
}
