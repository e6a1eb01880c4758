import { workloadKey, type AutoscalerObject, type DependencyObject, type DisruptionBudgetObject, type RouteObject, type ServiceObject, type WorkloadRef } from '@upid/contracts';
import { uuidOf } from './identifiers.js';
import type { KubeAutoscaler, KubeDisruptionBudget, KubeHttpRoute, KubeIngress, KubeService, KubeVirtualService, LabelSelector, Labels, PodSpec } from './kubernetes.js';
import { workloadKindOf } from './owners.js';

/** What leads where: Services to workloads by selector, routes to Services, autoscalers and budgets to workloads, workloads to Services. */

/** A workload as selectors see it. */
export interface SelectableWorkload {
  readonly ref: WorkloadRef;
  /** Labels of its pod template: it is found with no pod running too. */
  readonly podLabels: Labels;
}

export interface ServiceName {
  readonly namespace: string;
  readonly name: string;
}

/** Workloads by namespace, for selectors. */
export type WorkloadsByNamespace = ReadonlyMap<string, readonly SelectableWorkload[]>;

/** Whether labels fit a selector (kubernetes.io/docs/concepts/overview/working-with-objects/labels). An empty selector fits all. */
export function selects(selector: LabelSelector, labels: Labels): boolean {
  for (const [name, value] of Object.entries(selector.matchLabels ?? {})) if (labels[name] !== value) return false;
  return (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
    const value = labels[key];
    switch (operator) {
      case 'In':
        return value !== undefined && values.includes(value);
      case 'NotIn':
        return value === undefined || !values.includes(value);
      case 'Exists':
        return value !== undefined;
      case 'DoesNotExist':
        return value === undefined;
      default:
        return false;
    }
  });
}

function selected(selector: LabelSelector | undefined, namespace: string, workloads: WorkloadsByNamespace): WorkloadRef[] {
  if (selector === undefined) return [];
  return (workloads.get(namespace) ?? []).filter(({ podLabels }) => selects(selector, podLabels)).map(({ ref }) => ref);
}

/** A Service; one without a selector leads to no workload that we know. */
export function serviceObject({ metadata = {}, spec }: KubeService, workloads: WorkloadsByNamespace): ServiceObject {
  const namespace = metadata.namespace ?? '';
  const { selector } = spec ?? {};
  const leads = selector !== undefined && Object.keys(selector).length > 0;
  return {
    kind: 'Service', uid: metadata.uid ?? '', namespace, name: metadata.name ?? '', type: spec?.type ?? 'ClusterIP', ports: (spec?.ports ?? []).map(({ port }) => port),
    workloads: leads ? selected({ matchLabels: selector }, namespace, workloads) : [],
  };
}

/** A route of any of the three kinds, as the inventory keeps it. */
export interface KnownRoute {
  readonly uid: string;
  readonly routeKind: RouteObject['route_kind'];
  readonly namespace: string;
  readonly name: string;
  readonly class: string | null;
  readonly services: readonly ServiceName[];
}

function distinct(services: readonly ServiceName[]): ServiceName[] {
  return [...new Map(services.map((service) => [`${service.namespace}/${service.name}`, service])).values()];
}

/** Backends of an Ingress. Hosts and paths are not kept. */
export function ingressRoute({ metadata = {}, spec }: KubeIngress): KnownRoute {
  const namespace = metadata.namespace ?? '';
  const backends = [spec?.defaultBackend, ...(spec?.rules ?? []).flatMap(({ http }) => (http?.paths ?? []).map(({ backend }) => backend))];
  return {
    uid: metadata.uid ?? '', routeKind: 'Ingress', namespace, name: metadata.name ?? '', class: spec?.ingressClassName ?? metadata.annotations?.['kubernetes.io/ingress.class'] ?? null,
    services: distinct(backends.flatMap((backend) => (backend?.service?.name === undefined ? [] : [{ namespace, name: backend.service.name }]))),
  };
}

export function httpRoute({ metadata = {}, spec }: KubeHttpRoute): KnownRoute {
  const namespace = metadata.namespace ?? '';
  const backends = (spec?.rules ?? []).flatMap(({ backendRefs }) => backendRefs ?? []);
  return {
    uid: metadata.uid ?? '', routeKind: 'HTTPRoute', namespace, name: metadata.name ?? '', class: null,
    services: distinct(backends.flatMap(({ kind = 'Service', name, namespace: other }) => (kind === 'Service' && name !== undefined ? [{ namespace: other ?? namespace, name }] : []))),
  };
}

export function virtualServiceRoute({ metadata = {}, spec }: KubeVirtualService): KnownRoute {
  const namespace = metadata.namespace ?? '';
  const routes = [...(spec?.http ?? []), ...(spec?.tls ?? []), ...(spec?.tcp ?? [])].flatMap(({ route }) => route ?? []);
  return {
    uid: metadata.uid ?? '', routeKind: 'VirtualService', namespace, name: metadata.name ?? '', class: null,
    services: distinct(routes.flatMap(({ destination }) => (destination?.host === undefined ? [] : [serviceOfHost(destination.host, namespace)]))),
  };
}

/** The Service of a name inside the cluster: `web`, `web.shop`, `web.shop.svc`, `web.shop.svc.cluster.local`. */
export function serviceOfHost(host: string, namespace: string): ServiceName {
  const [name = '', other] = host.split('.');
  return { namespace: other ?? namespace, name };
}

/** A route with its workloads, by the Services that it leads to. */
export function routeObject(route: KnownRoute, workloadsOf: (service: ServiceName) => readonly WorkloadRef[]): RouteObject {
  const workloads = new Map(route.services.flatMap((service) => workloadsOf(service)).map((ref) => [workloadKey(ref), ref]));
  return { kind: 'Route', uid: route.uid, route_kind: route.routeKind, namespace: route.namespace, name: route.name, class: route.class, services: route.services.map(({ namespace, name }) => ({ namespace, name })), workloads: [...workloads.values()] };
}

/** An HPA, VPA or ScaledObject; null where it names no target. */
export function autoscalerObject(autoscaler: KubeAutoscaler, kind: AutoscalerObject['autoscaler_kind']): AutoscalerObject | null {
  const { metadata = {}, spec = {} } = autoscaler;
  const target = spec.scaleTargetRef ?? spec.targetRef;
  if (target?.name === undefined) return null;
  const namespace = metadata.namespace ?? '';
  const cpu = spec.metrics?.find(({ type, resource }) => type === 'Resource' && resource?.name === 'cpu')?.resource?.target?.averageUtilization;
  const bounds = {
    HorizontalPodAutoscaler: { min: spec.minReplicas ?? 1, max: spec.maxReplicas ?? null },
    // KEDA's defaults (keda.sh/docs, ScaledObject specification).
    ScaledObject: { min: spec.idleReplicaCount ?? spec.minReplicaCount ?? 0, max: spec.maxReplicaCount ?? 100 },
    VerticalPodAutoscaler: { min: null, max: null },
  }[kind];
  return {
    kind: 'Autoscaler', uid: metadata.uid ?? '', autoscaler_kind: kind, namespace, name: metadata.name ?? '', target: { namespace, kind: workloadKindOf(target.kind ?? 'Deployment'), name: target.name },
    min_replicas: bounds.min, max_replicas: bounds.max, target_cpu_utilization_percent: cpu ?? null, mode: spec.updatePolicy?.updateMode ?? null,
  };
}

export function disruptionBudgetObject({ metadata = {}, spec, status }: KubeDisruptionBudget, workloads: WorkloadsByNamespace): DisruptionBudgetObject {
  const namespace = metadata.namespace ?? '';
  const text = (value: number | string | undefined) => (value === undefined ? null : String(value));
  return {
    kind: 'PodDisruptionBudget', uid: metadata.uid ?? '', namespace, name: metadata.name ?? '', workloads: selected(spec?.selector, namespace, workloads),
    disruptions_allowed: status?.disruptionsAllowed ?? null, min_available: text(spec?.minAvailable), max_unavailable: text(spec?.maxUnavailable),
  };
}

// ---------------------------------------------------------------- dependencies

const URL_HOST = /[a-z][a-z0-9+.-]*:\/\/(?:[^\s/@]*@)?(?<host>[A-Za-z0-9.-]+)/gi;
const HOST = /^(?<host>[a-z0-9]([-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)\.?(?<port>:\d{1,5})?$/;
/** Variables that hold an address by their name: only there is a bare word taken for a host. */
const ADDRESS_VARIABLE = /(?:^|_)(?:HOST(?:NAME)?|ADDR(?:ESS)?|URL|URI|ENDPOINT|SERVERS?|SERVICE|SVC|UPSTREAM|BACKEND|BROKERS?|DSN|TARGET|PEERS?|NODES?)(?:_|$|\d)/i;
/** Longer values are documents, not addresses. */
const LONGEST_VALUE = 2_048;
const CLUSTER_DOMAIN = /^(?:svc(?:\.|$))/;

/**
 * Names of possible Services in the environment of a pod template: hosts of URLs, `host:port`, lists of those. Values are read here and
 * dropped; references to Secrets and ConfigMaps are not followed. Of what comes back only names that are Services leave the cluster.
 */
export function namedHosts(spec: PodSpec | undefined, namespace: string): ServiceName[] {
  const found = new Map<string, ServiceName>();
  const add = (host: string) => {
    const [name = '', other, ...rest] = host.toLowerCase().split('.');
    // Three labels and more are a Service's name only within `svc`: `api.shop.example` is a name of the internet.
    if (name === '' || (rest.length > 0 && !CLUSTER_DOMAIN.test(rest.join('.')))) return;
    const service = { namespace: other ?? namespace, name };
    found.set(`${service.namespace}/${name}`, service);
  };
  for (const { env } of [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])]) {
    for (const { name = '', value } of env ?? []) {
      if (value === undefined || value.length === 0 || value.length > LONGEST_VALUE) continue;
      for (const match of value.matchAll(URL_HOST)) if (match.groups?.['host']) add(match.groups['host']);
      for (const part of value.split(/[,;\s]+/)) {
        const match = HOST.exec(part);
        const host = match?.groups?.['host'];
        if (host === undefined) continue;
        const bare = match?.groups?.['port'] === undefined && !host.includes('.');
        if (!bare || ADDRESS_VARIABLE.test(name)) add(host);
      }
    }
  }
  return [...found.values()];
}

/** Dependencies of a workload: of the hosts it names, those that are Services which do not lead back to itself. */
export function dependencyObjects(
  from: WorkloadRef, hosts: readonly ServiceName[], isService: (service: ServiceName) => boolean, workloadsOf: (service: ServiceName) => readonly WorkloadRef[],
): DependencyObject[] {
  const self = workloadKey(from);
  return hosts.flatMap(({ namespace, name }) => {
    const service = { namespace, name };
    if (!isService(service)) return [];
    const workloads = workloadsOf(service);
    if (workloads.some((ref) => workloadKey(ref) === self)) return [];
    return [{
      kind: 'Dependency', uid: uuidOf('dependency', self, namespace, name), namespace: from.namespace, name: `${from.kind}/${from.name} → ${namespace}/${name}`, from, to_service: service, to_workloads: [...workloads],
      source: 'environment',
    } satisfies DependencyObject];
  });
}
