import { capabilitiesSchema, type Capabilities } from '@upid/contracts';

/** What was found out besides the API groups. */
export interface CapabilityFacts {
  /** Names of the groups of `/apis`. */
  readonly groups: readonly string[];
  /** Resources of `v1`, subresources among them (`pods/resize`). */
  readonly coreResources: readonly string[];
  /** Resources of group argoproj.io: several products share it. */
  readonly argoResources: readonly string[];
  /** `namespace/name` of Services, for products that are told by their Service alone. */
  readonly services: Iterable<string>;
  readonly kubelet: boolean;
  readonly accessLogs: boolean;
  readonly prometheus: boolean;
  readonly actuation: boolean;
  /** Whether `/apis/metrics.k8s.io` answers: one that is registered but dead is no source. */
  readonly metricsApiAnswers: boolean;
}

/** What the cluster can do; everything later adapts to it. */
export function discoverCapabilities(facts: CapabilityFacts): Capabilities {
  const groups = new Set(facts.groups);
  const services = new Set<string>();
  for (const service of facts.services) services.add(service.slice(service.indexOf('/') + 1));
  const anyGroup = (suffix: string) => [...groups].some((name) => name === suffix || name.endsWith(`.${suffix}`));
  return capabilitiesSchema.parse({
    metrics_api: groups.has('metrics.k8s.io') && facts.metricsApiAnswers,
    kubelet: facts.kubelet,
    access_logs: facts.accessLogs,
    prometheus: facts.prometheus,
    prometheus_operator: groups.has('monitoring.coreos.com'),
    istio: anyGroup('istio.io'),
    linkerd: anyGroup('linkerd.io'),
    gateway_api: groups.has('gateway.networking.k8s.io'),
    keda: groups.has('keda.sh'),
    vpa: groups.has('autoscaling.k8s.io'),
    argo_cd: facts.argoResources.includes('applications'),
    argo_rollouts: facts.argoResources.includes('rollouts'),
    flux: anyGroup('toolkit.fluxcd.io'),
    in_place_resize: facts.coreResources.includes('pods/resize'),
    opencost: [...services].some((name) => name === 'opencost' || name.endsWith('-opencost') || name.startsWith('kubecost-cost-analyzer')),
    actuation: facts.actuation,
  } satisfies Capabilities);
}
