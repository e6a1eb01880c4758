import type { ClusterListResponse, ClusterResponse, DeploymentResponse, JobResponse, PodResponse, RestRecommendation, SavingsResponse } from '@upid/contracts';
import { bytes, cores, count, fields, heading, money, percent, table, time } from './text.js';

/** What a person reads of each answer. */

type Trend = PodResponse['insights']['trends']['usage_trend'];

function trend(each: Trend): string {
  if (each.direction === 'unknown') return `unknown (${each.evidence})`;
  const change = each.change_percent_per_week === null ? '' : ` ${each.change_percent_per_week >= 0 ? '+' : ''}${each.change_percent_per_week.toFixed(1)} % a week`;
  return `${each.direction}${change}`;
}

function advice(all: readonly RestRecommendation[]): string {
  return all.length === 0 ? '(no recommendation stands)' : all.map((each) => [
    `• ${each.action}`, `  ${each.type}: ${each.impact}; confidence ${each.confidence.toFixed(0)}, risk ${each.risk_level}, effort ${each.implementation_effort}, saving ${money(each.estimated_savings, each.currency)} a month`, ...(each.blocked_by.length > 0 ? [`  blocked by ${each.blocked_by.join('; ')}`] : []),
  ].join('\n')).join('\n');
}

function reasons(coverage: PodResponse['coverage']): string {
  const covered = [coverage.usage === null ? null : `usage ${percent(coverage.usage)}`, coverage.requests === null ? null : `requests ${percent(coverage.requests)}`, coverage.cost === null ? null : `cost ${percent(coverage.cost)}`].filter((each) => each !== null);
  const lines = Object.entries(coverage.reasons).map(([name, why]) => `${name}: ${why}`);
  return [`covered: ${covered.join(', ') || 'nothing yet'}${coverage.since ? `, ${time(coverage.since)} to ${time(coverage.until)}` : ''}`, ...lines].join('\n');
}

function idle(each: PodResponse['insights']['idle_analysis']): string {
  return [
    fields([['state', `${each.state} (confidence ${each.confidence.toFixed(0)})`], ['idle probability', each.idle_probability?.toFixed(1)], ['observed', `${each.observed_hours.toFixed(1)} h, ${count(each.data_points)} data points`], ['policy, model', `${each.policy}, ${each.model_version}`]]),
    ...each.factors.map((factor) => `  ${factor.name.replaceAll('_', ' ').padEnd(20)} ${factor.score === null ? 'unknown' : factor.score.toFixed(0).padStart(3)}  ${factor.evidence}`), ...(each.missing.length > 0 ? [`missing: ${each.missing.join('; ')}`] : []),
    ...(each.idle_periods && each.idle_periods.length > 0 ? [`idle periods (${each.time_zone}): ${each.idle_periods.map(hours).join(', ')}`] : []),
  ].join('\n');
}

const DAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];
function hours({ start_hour: start, end_hour: end }: { start_hour: number; end_hour: number }): string {
  const name = (hour: number) => `${DAYS[Math.floor((hour % 168) / 24)]} ${String(hour % 24).padStart(2, '0')}:00`;
  return `${name(start)} to ${name(end)}`;
}

function cost(each: PodResponse['insights']['cost_analysis']): string {
  const { currency } = each;
  return fields([
    ['daily cost', money(each.daily_cost, currency)], ['monthly projection', money(each.monthly_projection, currency)], ['allocated, in the range', money(each.allocated_cost, currency)], ['actual, in the range', money(each.actual_cost, currency)],
    ['waste', `${money(each.wasted_cost, currency)}${each.waste_percentage === null ? '' : ` (${each.waste_percentage.toFixed(1)} %)`}`], ['optimization potential', `${money(each.optimization_potential, currency)} a month`],
    ['priced by', `${each.price_source ?? 'unknown'}${each.price_as_of ? ` of ${each.price_as_of.slice(0, 10)}` : ''}${each.instance_type ? `, ${each.instance_type}` : ''}${each.region ? ` in ${each.region}` : ''}${each.pricing_model ? `, ${each.pricing_model.replace('_', '-')}` : ''}`],
  ]);
}

export function showPod(pod: PodResponse): string {
  const { insights } = pod;
  return [
    `Pod ${pod.pod_id.namespace}/${pod.pod_id.name} on cluster ${pod.pod_id.cluster_id}${insights.current_state.node_name ? `, node ${insights.current_state.node_name}` : ''}`,
    heading('State'), idle(insights.idle_analysis), heading('Cost'), cost(insights.cost_analysis), heading('Business'),
    fields([['requests a day', count(insights.business_impact.requests_per_day)], ['revenue', money(insights.business_impact.revenue_attribution, null)], ['user impact', insights.business_impact.user_impact_score === null ? null : `${insights.business_impact.user_impact_score.toFixed(1)} of 10`], ['criticality', insights.business_impact.business_criticality]]),
    heading('Performance'), insights.performance_analysis.findings.join('\n') || 'no throttling, OOM kill or restart that matters',
    heading('Trends over 7 days'), fields([['usage', trend(insights.trends.usage_trend)], ['cost', trend(insights.trends.cost_trend)], ['efficiency', trend(insights.trends.efficiency_trend)]]),
    heading('Recommendations'), advice(pod.recommendations), heading('What this rests on'), reasons(pod.coverage), `confidence of the whole: ${pod.confidence.toFixed(0)}`,
  ].join('\n');
}

export function showDeployment(each: DeploymentResponse): string {
  const { scaling_recommendation: scaling, cost_analysis: costs, performance_patterns: patterns } = each;
  return [
    `${each.deployment_id.kind} ${each.deployment_id.namespace}/${each.deployment_id.name} on cluster ${each.deployment_id.cluster_id}`, heading('State'), idle(each.idle_analysis),
    heading('Replicas'), fields([['now', scaling.current_replicas], ['recommended', scaling.recommended_replicas], ['why', scaling.rationale]]), heading('Cost'), cost(costs),
    fields([['monthly cost', money(costs.total_monthly_cost, costs.currency)], ['efficiency a pod', percent(costs.per_pod_efficiency)]]), heading('Business and load'),
    fields([['requests a day', count(each.business_impact.total_daily_requests)], ['reliability', percent(each.business_impact.service_reliability)], ['revenue', money(each.business_impact.revenue_attribution, null)], ['peak load', patterns.peak_load_time ? `${patterns.peak_load_time} ${patterns.time_zone}` : null], ['low load', patterns.low_load_time ? `${patterns.low_load_time} ${patterns.time_zone}` : null], ['variability', patterns.load_variability?.toFixed(2)]]),
    heading('Trends over 7 days'), fields([['usage', trend(each.trends.usage_trend)], ['cost', trend(each.trends.cost_trend)], ['efficiency', trend(each.trends.efficiency_trend)]]),
    heading(`Pods (${each.total_pods})`), table(['POD', 'NODE', 'STATE', 'IDLE', 'CONFIDENCE', 'CPU', 'MEMORY'], each.pods.map((pod) => [pod.name, pod.node_name, pod.state, pod.idle_probability?.toFixed(1), pod.confidence.toFixed(0), cores(pod.cpu_millicores), bytes(pod.memory_bytes)]), 'no pods run'),
    heading('Recommendations'), advice(each.recommendations), heading('What this rests on'), reasons(each.coverage), `confidence of the whole: ${each.confidence.toFixed(0)}`,
  ].join('\n');
}

export function showCluster(each: ClusterResponse): string {
  const { resource_utilization: use, cost_breakdown: costs, efficiency_metrics: efficiency } = each;
  const share = (part: ClusterResponse['resource_utilization']['cpu'], amount: (value: number | null) => string) => `${amount(part.used)} used (${percent(part.used_share)}), ${amount(part.requested)} requested (${percent(part.requested_share)}) of ${amount(part.allocatable)}`;
  return [
    `${each.namespace === null ? `Cluster ${each.cluster_id.cluster_id}` : `Namespace ${each.namespace} of cluster ${each.cluster_id.cluster_id}`}${each.cluster_id.name === each.cluster_id.cluster_id ? '' : ` (${each.cluster_id.name})`}: ${each.cluster_id.provider}, ${each.cluster_id.distribution}${each.cluster_id.region ? `, ${each.cluster_id.region}` : ''}`,
    heading('Utilisation'), fields([['CPU', share(use.cpu, cores)], ['memory', share(use.memory, bytes)], ['storage', use.storage.used === null ? null : `${bytes(use.storage.used)} used`], ['network', use.network.receive_bytes_per_second === null ? null : `${bytes(use.network.receive_bytes_per_second)}/s in, ${bytes(use.network.transmit_bytes_per_second)}/s out`]]),
    heading('Cost'), fields([['monthly cost', money(each.total_monthly_cost, costs.currency)], ['optimization potential', `${money(each.optimization_potential, costs.currency)} a month`], ['unallocated (idle capacity)', money(costs.idle_cost, costs.currency)], ['overhead', money(costs.overhead_cost, costs.currency)]]),
    '', table(['NAMESPACE', 'A MONTH'], byCost(costs.cost_per_namespace, costs.currency), 'no cost yet'), '', table(['WORKLOAD TYPE', 'A MONTH'], byCost(costs.cost_per_workload_type, costs.currency), 'no cost yet'),
    heading('Efficiency'), fields([['overall (actual of allocated)', percent(efficiency.overall_efficiency)], ['idle share of capacity', efficiency.idle_resource_percentage === null ? null : `${efficiency.idle_resource_percentage.toFixed(1)} %`], ['over-provisioned workloads', efficiency.over_provisioned_workloads], ['under-provisioned workloads', efficiency.under_provisioned_workloads], ['workloads by state', Object.entries(efficiency.states).map(([state, n]) => `${n} ${state}`).join(', ') || 'none yet']]),
    heading('Business'), fields([['requests a day', count(each.business_impact.total_daily_requests)], ['availability', percent(each.business_impact.service_availability)], ['revenue', money(each.business_impact.revenue_attribution, null)]]),
    heading('Strategy'), each.strategic_recommendations.length === 0 ? '(nothing to advise for the whole)' : each.strategic_recommendations.map((one) => `• ${one.action}: ${one.impact}; confidence ${one.confidence.toFixed(0)}, ${one.timeline}, effort ${one.effort_level}`).join('\n'),
    heading('Recommendations'), table(['TYPE', 'RESOURCE', 'CONFIDENCE', 'RISK', 'A MONTH'], each.recommendations.map((one) => [one.type, one.resource, one.confidence.toFixed(0), one.risk_level, money(one.estimated_savings, one.currency)]), 'none stands'),
    heading('What this rests on'), reasons(each.coverage),
  ].join('\n');
}

function byCost(all: Readonly<Record<string, number>>, currency: string | null): [string, string][] {
  return Object.entries(all).sort((a, b) => b[1] - a[1]).map(([name, value]) => [name, money(value, currency)]);
}

export function showClusters({ clusters }: ClusterListResponse): string {
  return table(['CLUSTER', 'PROVIDER', 'DISTRIBUTION', 'REGION', 'NODES', 'PODS', 'LAST SEEN', 'ACTS', 'ASLEEP', 'USAGE 24H', 'REQUESTS 24H', 'CAN'], clusters.map((each) => [
    each.demo ? `${each.cluster_id} (simulated)` : each.cluster_id, each.provider, each.distribution, each.region, each.nodes, each.pods, each.connected ? 'now' : time(each.last_seen), each.held ? 'held' : each.actuation ? 'yes' : 'no', each.sleepers, percent(each.data_coverage.usage_covered_24h), percent(each.data_coverage.requests_covered_24h),
    Object.entries(each.capabilities ?? {}).filter(([, can]) => can).map(([name]) => name).join(' '),
  ]), 'no cluster has reported yet: `upid status` shows the agent');
}

export function showRecommendations(all: readonly RestRecommendation[], evaluatedAt: string | null): string {
  if (all.length === 0) return evaluatedAt === null ? '(nothing has been evaluated yet: advice comes with the first assessments)' : `(no recommendation stands at this confidence; evaluated ${time(evaluatedAt)})`;
  return [table(['TYPE', 'RESOURCE', 'CONFIDENCE', 'RISK', 'EFFORT', 'FREES A MONTH', 'LOWERS THE BILL', 'ACTIONABLE'], all.map((each) => [each.type, each.resource, each.confidence.toFixed(0), each.risk_level, each.implementation_effort, money(each.estimated_savings, each.currency), money(each.bill_savings, each.currency), each.actionable ? 'yes' : 'no'])), '', advice(all)].join('\n');
}

export function showSavings(each: SavingsResponse): string {
  const { savings_by_type: types, currency } = each;
  const row = (name: string, part: SavingsResponse['savings_by_type']['pods']) => [name, money(part.total_savings, currency), money(part.high_confidence_savings, currency), part.resource_count] as const;
  return [
    fields([[`frees capacity over ${each.time_horizon}`, money(each.total_potential_savings, currency)], ['of which with confidence above 90', money(each.high_confidence_savings, currency)], ['lowers the bill', each.bill_savings === null ? `unknown: ${each.bill_savings_reason ?? 'no reason given'}` : money(each.bill_savings, currency)]]),
    '', table(['OF', 'TOTAL', 'HIGH CONFIDENCE', 'COUNT'], [row('pods', types.pods), row('deployments', types.deployments), row('nodes', types.nodes)]),
  ].join('\n');
}

export interface CostAnswer {
  readonly resource_type: string; readonly resource_name: string; readonly namespace: string | null; readonly currency: string; readonly current_cost: PodResponse['insights']['cost_analysis']; readonly history: readonly { hour: string; allocated_cost: number; actual_cost: number | null }[];
  readonly trend: Trend; readonly drivers: readonly { what: string; change: number }[]; readonly unit_cost: { per_thousand_requests: number | null; reason: string | null }; readonly coverage: PodResponse['coverage'];
}

export function showCost(each: CostAnswer): string {
  const days = new Map<string, { allocated: number; actual: number | null }>();
  for (const point of each.history) {
    const day = days.get(point.hour.slice(0, 10)) ?? { allocated: 0, actual: 0 };
    days.set(point.hour.slice(0, 10), { allocated: day.allocated + point.allocated_cost, actual: day.actual === null || point.actual_cost === null ? null : day.actual + point.actual_cost });
  }
  return [
    `${each.resource_type} ${each.namespace ? `${each.namespace}/` : ''}${each.resource_name}`, heading('Cost'), cost(each.current_cost), fields([['trend', trend(each.trend)], ['per thousand requests', each.unit_cost.per_thousand_requests === null ? `unknown (${each.unit_cost.reason ?? 'no requests'})` : money(each.unit_cost.per_thousand_requests, each.currency)]]),
    heading('By day'), table(['DAY', 'ALLOCATED', 'ACTUAL'], [...days].map(([day, sum]) => [day, money(sum.allocated, each.currency), money(sum.actual, each.currency)]), 'no cost in this range'),
    heading('What changed'), each.drivers.map((driver) => `• ${driver.what}: ${driver.change >= 0 ? '+' : ''}${money(driver.change, each.currency)}`).join('\n') || '(nothing that matters)', heading('What this rests on'), reasons(each.coverage),
  ].join('\n');
}

export function showJob(job: JobResponse): string {
  return [
    fields([['job', job.job_id], ['what', `${job.optimization_type}${job.dry_run ? ' (dry run)' : ''} of ${job.target} on ${job.cluster_id}`], ['status', `${job.status}, ${job.progress} %`], ['change stands', job.applied ? 'yes' : 'no'], ['asked for by', job.actor], ['policy', job.policy], ['started', time(job.created_at)], ...(job.error ? [['error', `${job.error.code}: ${job.error.message}`] as const] : []), ...(job.result?.reason ? [['ended because', String(job.result.reason)] as const] : [])]),
    '', table(['STEP', 'STATUS', 'DETAIL'], job.steps.map((step) => [step.name, step.status, step.detail])),
    ...(job.plan ? ['', table(['FIELD', 'BEFORE', 'AFTER'], job.plan.changes.map((change) => [change.path, JSON.stringify(change.before), JSON.stringify(change.after)]))] : []),
    '', table(['SAFETY CHECK', 'OUTCOME', 'REASON'], job.safety_checks.map((check) => [check.name, check.outcome.replace('_', ' '), check.reason])),
  ].join('\n');
}

export function showJobs(jobs: readonly JobResponse[]): string {
  return table(['JOB', 'TARGET', 'WHAT', 'STATUS', 'STANDS', 'BY', 'STARTED'], jobs.map((job) => [job.job_id, job.target, `${job.optimization_type}${job.dry_run ? ' (dry run)' : ''}`, job.status, job.applied ? 'yes' : 'no', job.actor, time(job.created_at)]), 'no jobs yet');
}
