import {
  HOUR_MS, workloadKey, type Assessment, type AutoscalerObject, type Capabilities, type DependencyObject, type DisruptionBudgetObject, type NamespaceObject, type PodObject, type Policy, type RouteObject, type SafetyCheck, type ServiceObject, type WorkloadObject, type WorkloadRef,
} from '@upid/contracts';

/** What a job would do to its target. */
export type ActionKind = 'zero_scaling' | 'resource_optimization';

/** Everything a judgement of safety rests on, as it was read in one step. */
export interface SafetyFacts {
  readonly action: ActionKind;
  readonly workload: WorkloadObject;
  readonly namespace: NamespaceObject | null;
  readonly pods: readonly PodObject[];
  /** Services, routes, autoscalers and budgets that lead to, or hold on to, the workload. */
  readonly services: readonly ServiceObject[];
  readonly routes: readonly RouteObject[];
  readonly autoscalers: readonly AutoscalerObject[];
  readonly budgets: readonly DisruptionBudgetObject[];
  /** Edges whose target the workload is. */
  readonly dependents: readonly DependencyObject[];
  /** null: the cluster has not said yet what it can do. */
  readonly capabilities: Capabilities | null;
  readonly assessment: Assessment | null;
  readonly policy: Policy;
  readonly nowMs: number;
}

type Verdict = Omit<SafetyCheck, 'name' | 'evidence'> & { readonly evidence?: Record<string, unknown> };
const passed = (reason: string, evidence?: Record<string, unknown>): Verdict => ({ outcome: 'passed', reason, ...(evidence ? { evidence } : {}) });
const failed = (reason: string, evidence?: Record<string, unknown>): Verdict => ({ outcome: 'failed', reason, ...(evidence ? { evidence } : {}) });
const unknown = (reason: string): Verdict => ({ outcome: 'unknown', reason });
const notApplicable = (reason: string): Verdict => ({ outcome: 'not_applicable', reason });

/** Kinds whose replicas can be set. */
export const SCALABLE_KINDS = ['Deployment', 'StatefulSet', 'ReplicaSet', 'Rollout'] as const;
/** Kinds whose pod template's resources can be set. */
export const RESIZABLE_KINDS = ['Deployment', 'StatefulSet', 'DaemonSet'] as const;

/** Opt-outs by annotation or label: ours, and other tools' that say the same. The agent reads them again in the same step as the change. */
export const OPT_OUTS: readonly { readonly key: string; readonly means: (value: string) => boolean }[] = [
  { key: 'upid.io/exclude', means: (value) => value !== 'false' },
  { key: 'upid.io/ignore', means: (value) => value !== 'false' },
  { key: 'downscaler/exclude', means: (value) => value === 'true' },
  { key: 'karpenter.sh/do-not-disrupt', means: (value) => value === 'true' },
  { key: 'cluster-autoscaler.kubernetes.io/safe-to-evict', means: (value) => value === 'false' },
];

const MESH_CONTAINERS = ['istio-proxy', 'linkerd-proxy', 'envoy-sidecar', 'consul-dataplane'];

/** Marks of GitOps ownership on labels and annotations, and the field managers of the controllers behind them. */
const GITOPS_KEYS = ['argocd.argoproj.io/instance', 'argocd.argoproj.io/tracking-id', 'kustomize.toolkit.fluxcd.io/name', 'helm.toolkit.fluxcd.io/name'];
const GITOPS_MANAGERS = ['argocd-controller', 'argocd-application-controller', 'kustomize-controller', 'helm-controller'];

const OTHER_OPTIMISER_KEYS = [
  'downscaler/uptime', 'downscaler/downtime', 'downscaler/force-downtime', 'downscaler/original-replicas', 'sleepinfo.kube-green.com/replicas-before-sleep', 'workloads.cast.ai/configuration', 'scaleops.sh/managed', 'perfectscale.io/managed', 'sablier.enable', 'admission.robusta.dev/krr-mutation-mode',
];
const OTHER_OPTIMISER_MANAGERS = ['castai', 'scaleops', 'perfectscale', 'stormforge', 'kube-downscaler', 'kube-green', 'datadog-cluster-agent', 'vpa-updater', 'snorlax', 'sablier'];

const PRODUCTION = ['production', 'prod', 'live'];
const EXPOSED_TIERS = ['frontend', 'api', 'database'];

function same(a: WorkloadRef, b: WorkloadRef): boolean {
  return workloadKey(a) === workloadKey(b);
}

function ref(workload: WorkloadObject): WorkloadRef {
  return { namespace: workload.namespace, kind: workload.workload_kind, name: workload.name };
}

/** Value of the first of these keys that the records hold. */
function first(records: readonly Readonly<Record<string, string>>[], keys: readonly string[]): string | undefined {
  for (const key of keys) for (const record of records) if (record[key] !== undefined) return record[key];
  return undefined;
}

function criticality({ workload, namespace }: SafetyFacts): Verdict {
  const labels = [workload.labels, workload.template_labels];
  for (const each of labels) if (each['app.kubernetes.io/component'] === 'critical') return failed('labelled app.kubernetes.io/component: critical', { label: 'app.kubernetes.io/component' });
  const environment = first([...labels, namespace?.labels ?? {}], ['environment', 'env', 'app.kubernetes.io/environment', 'tier.environment']);
  const tier = first(labels, ['tier', 'app.kubernetes.io/tier', 'app.kubernetes.io/component']);
  if (environment !== undefined && PRODUCTION.includes(environment.toLowerCase()) && tier !== undefined && EXPOSED_TIERS.includes(tier.toLowerCase())) return failed(`a ${tier} of ${environment}`, { environment, tier });
  return passed('no label says that it is critical');
}

function dependencies({ action, workload, dependents }: SafetyFacts): Verdict {
  if (action !== 'zero_scaling') return notApplicable('nothing that depends on it is cut off');
  const users = dependents.filter((edge) => !same(edge.from, ref(workload)));
  if (users.length === 0) return passed('no other workload names one of its Services');
  return failed(`used by ${users.map((edge) => workloadKey(edge.from)).join(', ')}`, { used_by: users.map((edge) => ({ workload: workloadKey(edge.from), service: `${edge.to_service.namespace}/${edge.to_service.name}`, source: edge.source })) });
}

function serviceMesh({ action, workload, pods, capabilities }: SafetyFacts): Verdict {
  if (action !== 'zero_scaling') return notApplicable('nothing is cut off');
  const sidecars = [...workload.containers, ...pods.flatMap((pod) => pod.containers)].map((container) => container.name).filter((name) => MESH_CONTAINERS.includes(name));
  if (sidecars.length > 0) return failed(`in a service mesh (${sidecars[0]}), whose traffic the ingress logs do not show`, { sidecar: sidecars[0] });
  if (capabilities && !capabilities.istio && !capabilities.linkerd) return notApplicable('the cluster has no service mesh');
  return passed('no mesh sidecar in its pods');
}

function ingress({ action, services, routes, capabilities, assessment }: SafetyFacts): Verdict {
  if (action !== 'zero_scaling') return notApplicable('nothing is cut off');
  const open = services.filter((service) => service.type === 'LoadBalancer' || service.type === 'NodePort');
  if (open.length > 0) return failed(`Service ${open[0]?.name} of type ${open[0]?.type} lets requests in past the ingress, unseen`, { services: open.map((service) => service.name) });
  if (routes.length === 0) return passed('no Ingress or route leads to it');
  if (capabilities?.access_logs !== true) return failed(`${routes.map((route) => `${route.route_kind} ${route.name}`).join(', ')} leads to it and the ingress logs are not followed: a request could not wake it`, { routes: routes.map((route) => route.name) });
  if (!assessment?.requests || assessment.requests.covered_minutes === 0) return failed('a route leads to it and none of its minutes is covered by request telemetry', { routes: routes.map((route) => route.name) });
  return passed('routes lead to it and the ingress logs are followed: a business request wakes it', { routes: routes.map((route) => `${route.route_kind}/${route.name}`) });
}

function persistentVolumes({ action, workload }: SafetyFacts): Verdict {
  if (action !== 'zero_scaling') return notApplicable('volumes stay attached');
  const claims = workload.volumes.filter((volume) => volume.type === 'persistent_volume_claim');
  if (workload.volume_claim_templates > 0 || claims.length > 0) return failed('its pods hold persistent volumes', { claims: claims.map((claim) => claim.claim), templates: workload.volume_claim_templates });
  const local = workload.volumes.find((volume) => volume.type === 'host_path');
  if (local) return failed(`its pods keep data on the node (volume ${local.name})`, { volume: local.name });
  return passed('no persistent volume in its pod template');
}

const WEEKDAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];

function businessHours({ action, policy, nowMs }: SafetyFacts): Verdict {
  if (action !== 'zero_scaling') return notApplicable('nothing is put to sleep');
  const hours = policy.business_hours;
  if (!hours) return notApplicable('no business hours are set in the policy');
  const parts = Object.fromEntries(new Intl.DateTimeFormat('en-GB', { timeZone: hours.time_zone, weekday: 'short', year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }).formatToParts(nowMs).map((part) => [part.type, part.value]));
  const day = WEEKDAYS.indexOf(parts.weekday ?? '') + 1;
  const hour = Number(parts.hour) + Number(parts.minute) / 60;
  const when = `${parts.weekday} ${parts.hour}:${parts.minute} ${hours.time_zone}`;
  if (hours.holidays.includes(`${parts.year}-${parts.month}-${parts.day}`)) return passed(`${when} is a holiday`);
  if (hours.days.includes(day) && hour >= hours.start_hour && hour < hours.end_hour) return failed(`within business hours (${when})`);
  return passed(`outside business hours (${when})`);
}

function recentDeployment({ workload, policy, nowMs }: SafetyFacts): Verdict {
  if (workload.rollout_in_flight) return failed('a rollout is in flight');
  const changedAt = Date.parse(workload.last_rollout_at ?? workload.created_at);
  const hours = (nowMs - changedAt) / HOUR_MS;
  const needed = policy.minimum_change_age_hours;
  const evidence = { changed_at: new Date(changedAt).toISOString(), hours: Math.round(hours * 10) / 10, needed_hours: needed };
  return hours < needed ? failed(`changed ${hours.toFixed(1)} h ago; ${needed} h are asked for`, evidence) : passed(`last changed ${hours.toFixed(0)} h ago`, evidence);
}

function autoscalers({ action, autoscalers: all }: SafetyFacts): Verdict {
  const holding = all.filter((each) => (action === 'zero_scaling' ? each.autoscaler_kind !== 'VerticalPodAutoscaler' : each.autoscaler_kind === 'VerticalPodAutoscaler' ? each.mode !== 'Off' : each.target_cpu_utilization_percent !== null));
  if (holding.length === 0) return passed('no autoscaler owns what would be changed');
  const [one] = holding;
  return failed(`${one?.autoscaler_kind} ${one?.name} owns its ${action === 'zero_scaling' ? 'replicas' : 'requests or scales on them'}`, { autoscalers: holding.map((each) => `${each.autoscaler_kind}/${each.name}`) });
}

function gitops({ workload, capabilities }: SafetyFacts): Verdict {
  const records = [workload.labels, workload.annotations];
  const key = GITOPS_KEYS.find((each) => records.some((record) => record[each] !== undefined));
  const manager = workload.managers.find((each) => GITOPS_MANAGERS.includes(each));
  if (key !== undefined || manager !== undefined) {
    return failed(`owned by GitOps (${key ?? manager}), which would set it back`, {
      mark: key ?? manager, ways: ['change it in Git with the recommendation\'s patch', 'let the controller ignore the field: Argo CD ignoreDifferences with jsonPointers ["/spec/replicas"], Flux kustomize.toolkit.fluxcd.io/ssa: IfNotPresent'],
    });
  }
  if (capabilities && !capabilities.argo_cd && !capabilities.flux) return notApplicable('the cluster has neither Argo CD nor Flux');
  return passed('no mark of GitOps ownership');
}

function otherOptimisers({ workload, namespace }: SafetyFacts): Verdict {
  const records = [workload.labels, workload.annotations, namespace?.annotations ?? {}];
  const key = OTHER_OPTIMISER_KEYS.find((each) => records.some((record) => record[each] !== undefined));
  const manager = workload.managers.find((each) => OTHER_OPTIMISER_MANAGERS.some((name) => each.toLowerCase().includes(name)));
  if (key !== undefined || manager !== undefined) return failed(`another optimiser works on it (${key ?? manager})`, { mark: key ?? manager });
  return passed('no other optimiser works on it');
}

function owner({ workload }: SafetyFacts): Verdict {
  if (workload.owners.length === 0) return passed('no operator owns it');
  return failed(`owned by ${workload.owners[workload.owners.length - 1]}, which would set it back`, { owners: workload.owners });
}

function disruptionBudget({ action, budgets }: SafetyFacts): Verdict {
  if (action !== 'zero_scaling') return budgets.some((budget) => budget.disruptions_allowed === 0) ? failed('its PodDisruptionBudget allows no disruption now') : passed('no PodDisruptionBudget forbids a rollout');
  const holding = budgets.find((budget) => budget.min_available !== null && budget.min_available !== '0' && budget.min_available !== '0%' || budget.max_unavailable === '0' || budget.max_unavailable === '0%');
  if (holding) return failed(`PodDisruptionBudget ${holding.name} asks for replicas that stay`, { budget: holding.name, min_available: holding.min_available, max_unavailable: holding.max_unavailable });
  return passed('no PodDisruptionBudget asks for replicas that stay');
}

function protectedNamespace({ workload, policy }: SafetyFacts): Verdict {
  return policy.protected_namespaces.includes(workload.namespace) ? failed(`namespace ${workload.namespace} is protected by the policy`) : passed(`namespace ${workload.namespace} is not protected`);
}

function optOut({ workload, namespace }: SafetyFacts): Verdict {
  for (const [where, record] of [['workload', workload.annotations], ['workload', workload.labels], ['namespace', namespace?.annotations ?? {}], ['namespace', namespace?.labels ?? {}]] as const) {
    for (const { key, means } of OPT_OUTS) {
      const value = record[key];
      if (value !== undefined && means(value)) return failed(`opted out by ${key}: ${value} on the ${where}`, { key, value, where });
    }
  }
  return passed('nobody opted it out');
}

function kind({ action, workload }: SafetyFacts): Verdict {
  const kinds: readonly string[] = action === 'zero_scaling' ? SCALABLE_KINDS : RESIZABLE_KINDS;
  if (!kinds.includes(workload.workload_kind)) return failed(`a ${workload.workload_kind} cannot be ${action === 'zero_scaling' ? 'scaled to zero' : 'resized'}; ${kinds.join(', ')} can`);
  if (action === 'zero_scaling' && workload.replicas === 0) return failed('it has no replicas already');
  return passed(`a ${workload.workload_kind} can be ${action === 'zero_scaling' ? 'scaled to zero' : 'resized'}`);
}

function observation({ assessment, policy }: SafetyFacts): Verdict {
  if (!assessment) return unknown('it has not been assessed yet');
  const hours = assessment.judgement.observed_hours;
  const evidence = { observed_hours: hours, needed_hours: policy.minimum_observation_hours };
  if (hours < policy.minimum_observation_hours) return failed(`${policy.minimum_observation_hours} h observed are asked for; ${hours.toFixed(1)} h so far`, evidence);
  return passed(`${hours.toFixed(0)} h observed`, evidence);
}

function businessActivity({ action, assessment }: SafetyFacts): Verdict {
  if (action !== 'zero_scaling') return notApplicable('nothing is put to sleep');
  if (!assessment) return unknown('it has not been assessed yet');
  const factor = assessment.judgement.factors.find((each) => each.name === 'business_activity');
  return factor?.score == null ? failed('whether it serves business requests is unknown: no request telemetry, which is never taken as idle') : passed(factor.evidence, { score: factor.score, coverage: factor.coverage });
}

function idleProbability({ action, assessment, policy }: SafetyFacts): Verdict {
  if (action !== 'zero_scaling') return notApplicable('nothing is put to sleep');
  if (!assessment) return unknown('it has not been assessed yet');
  const mean = assessment.pods_mean_idle_probability;
  if (mean === null) return unknown('the idle probability of its pods is unknown');
  const evidence = { mean_idle_probability: mean, needed_above: policy.candidate_idle_probability };
  return mean > policy.candidate_idle_probability ? passed(`mean idle probability of its pods ${mean.toFixed(1)}`, evidence) : failed(`mean idle probability of its pods ${mean.toFixed(1)}; above ${policy.candidate_idle_probability} is asked for`, evidence);
}

function confidence({ action, assessment, policy }: SafetyFacts): Verdict {
  if (action !== 'zero_scaling') return notApplicable('nothing is put to sleep');
  if (!assessment) return unknown('it has not been assessed yet');
  const own = assessment.pods_lowest_confidence;
  if (own === null) return unknown('the confidence of its pods is unknown');
  const lowest = Math.min(own, assessment.judgement.calibrated_confidence ?? own);
  const evidence = { lowest_confidence: lowest, needed_above: policy.candidate_confidence };
  return lowest > policy.candidate_confidence ? passed(`lowest confidence ${lowest.toFixed(0)}`, evidence) : failed(`lowest confidence ${lowest.toFixed(0)}; above ${policy.candidate_confidence} is asked for`, evidence);
}

/** Every check, in the order in which they are reported. A new one is a function from facts to a verdict, added here. */
const CHECKS: readonly (readonly [string, (facts: SafetyFacts) => Verdict])[] = [
  ['kind', kind], ['criticality', criticality], ['protected_namespace', protectedNamespace], ['opt_out', optOut], ['observation', observation], ['business_activity', businessActivity], ['idle_probability', idleProbability],
  ['confidence', confidence], ['dependencies', dependencies], ['service_mesh', serviceMesh], ['ingress', ingress], ['persistent_volumes', persistentVolumes], ['business_hours', businessHours], ['recent_deployment', recentDeployment],
  ['autoscaler_ownership', autoscalers], ['gitops_ownership', gitops], ['other_optimisers', otherOptimisers], ['owner', owner], ['disruption_budget', disruptionBudget],
];

/** Runs all checks, whatever the first ones say. */
export function runSafetyChecks(facts: SafetyFacts): SafetyCheck[] {
  return CHECKS.map(([name, check]) => ({ name, evidence: {}, ...check(facts) }));
}

/** Those that forbid the action: failed ones, and ones that should have been possible and could not be made. */
export function blockingChecks(checks: readonly SafetyCheck[]): SafetyCheck[] {
  return checks.filter((check) => check.outcome === 'failed' || check.outcome === 'unknown');
}
