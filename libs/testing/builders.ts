/** Small, realistic Kubernetes objects for tests: only what a test names differs from a plain web shop's. Apply them as they are. */
import type {
  V1Container, V1CronJob, V1DaemonSet, V1Deployment, V1Ingress, V1Job, V1Namespace, V1PodDisruptionBudget, V1PodSpec, V1PodTemplateSpec,
  V1Service, V1StatefulSet, V2HorizontalPodAutoscaler,
} from '@kubernetes/client-node';
import { type SimulatedUsage, usageAnnotations } from './controlplane/usage.js';

export interface ContainerOptions {
  /** Default `app`. */
  name?: string;
  /** Default `registry.example/NAME:1.0`. */
  image?: string;
  /** Quantities; null for none. Default 100m and 128Mi. */
  requests?: { cpu?: string; memory?: string } | null;
  /** Default none for CPU, 256Mi. */
  limits?: { cpu?: string; memory?: string } | null;
  /** Default 8080; null for a container that listens nowhere. */
  port?: number | null;
  env?: Readonly<Record<string, string>>;
  command?: readonly string[];
  /** A sidecar among the init containers: it keeps running. */
  restartPolicy?: 'Always';
}

export interface WorkloadOptions {
  name: string;
  /** Default `default`. */
  namespace?: string;
  /** Default 1. */
  replicas?: number;
  /** Of the workload itself, beside `app.kubernetes.io/name`. */
  labels?: Readonly<Record<string, string>>;
  annotations?: Readonly<Record<string, string>>;
  /** Of its pods, beside `app.kubernetes.io/name`. */
  podLabels?: Readonly<Record<string, string>>;
  podAnnotations?: Readonly<Record<string, string>>;
  /** Default one. */
  containers?: readonly ContainerOptions[];
  initContainers?: readonly ContainerOptions[];
  /** What the simulated pods use. */
  usage?: SimulatedUsage;
  /** Names of PersistentVolumeClaims that the pods mount. */
  claims?: readonly string[];
  /** Anything else of the pods' spec. */
  podSpec?: Partial<V1PodSpec>;
}

/** The label that ties an application's objects together here. */
export const NAME_LABEL = 'app.kubernetes.io/name';

export function namespace(name: string, labels: Readonly<Record<string, string>> = {}, annotations: Readonly<Record<string, string>> = {}): V1Namespace {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: { ...labels }, annotations: { ...annotations } } };
}

export function deployment(options: WorkloadOptions): V1Deployment {
  return { apiVersion: 'apps/v1', kind: 'Deployment', metadata: metadata(options), spec: { replicas: options.replicas ?? 1, selector: selector(options), template: podTemplate(options) } };
}

/** A StatefulSet; with `volumeGiB` each pod has a claim named `data` on a volume of its own. */
export function statefulSet(options: WorkloadOptions & { volumeGiB?: number }): V1StatefulSet {
  const template = podTemplate(options);
  const claims = options.volumeGiB === undefined ? [] : [{
    metadata: { name: 'data' }, spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: `${options.volumeGiB}Gi` } } },
  }];
  if (claims.length > 0) for (const container of template.spec?.containers ?? []) container.volumeMounts = [...(container.volumeMounts ?? []), { name: 'data', mountPath: '/var/lib/data' }];
  return {
    apiVersion: 'apps/v1', kind: 'StatefulSet', metadata: metadata(options),
    spec: { replicas: options.replicas ?? 1, serviceName: options.name, selector: selector(options), template, volumeClaimTemplates: claims, podManagementPolicy: 'Parallel' },
  };
}

export function daemonSet(options: Omit<WorkloadOptions, 'replicas'>): V1DaemonSet {
  return { apiVersion: 'apps/v1', kind: 'DaemonSet', metadata: metadata(options), spec: { selector: selector(options), template: podTemplate(options) } };
}

export interface JobOptions extends Omit<WorkloadOptions, 'replicas'> {
  /** Default 1. */
  completions?: number;
  /** How long each pod runs; default 1 s. */
  runSeconds?: number;
}

export function job(options: JobOptions): V1Job {
  return { apiVersion: 'batch/v1', kind: 'Job', metadata: metadata(options), spec: jobSpec(options) };
}

/** @param options `schedule` in cron's form; default once a year, so that none runs during a test */
export function cronJob(options: JobOptions & { schedule?: string; suspend?: boolean }): V1CronJob {
  return {
    apiVersion: 'batch/v1', kind: 'CronJob', metadata: metadata(options),
    spec: { schedule: options.schedule ?? '0 0 1 1 *', suspend: options.suspend ?? false, jobTemplate: { spec: jobSpec(options) } },
  };
}

/** A Service in front of the application of that name, port 80 to its containers' `http` port. */
export function service(name: string, namespace = 'default', { application = name, type = 'ClusterIP' }: { application?: string; type?: 'ClusterIP' | 'NodePort' | 'LoadBalancer' } = {}): V1Service {
  return {
    apiVersion: 'v1', kind: 'Service', metadata: { name, namespace, labels: { [NAME_LABEL]: application } },
    spec: { type, selector: { [NAME_LABEL]: application }, ports: [{ name: 'http', port: 80, targetPort: 'http', protocol: 'TCP' }] },
  };
}

/** An Ingress of ingress-nginx that leads a host to a Service. */
export function ingress(name: string, namespace = 'default', { host = `${name}.example.com`, path = '/', serviceName = name }: { host?: string; path?: string; serviceName?: string } = {}): V1Ingress {
  return {
    apiVersion: 'networking.k8s.io/v1', kind: 'Ingress', metadata: { name, namespace },
    spec: {
      ingressClassName: 'nginx',
      rules: [{ host, http: { paths: [{ path, pathType: 'Prefix', backend: { service: { name: serviceName, port: { name: 'http' } } } }] } }],
    },
  };
}

/** A HorizontalPodAutoscaler of a Deployment on CPU. */
export function horizontalPodAutoscaler(name: string, namespace = 'default', { minReplicas = 2, maxReplicas = 10, cpuPercent = 80 } = {}): V2HorizontalPodAutoscaler {
  return {
    apiVersion: 'autoscaling/v2', kind: 'HorizontalPodAutoscaler', metadata: { name, namespace },
    spec: {
      scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name }, minReplicas, maxReplicas,
      metrics: [{ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: cpuPercent } } }],
    },
  };
}

/** A PodDisruptionBudget of the application of that name. */
export function podDisruptionBudget(name: string, namespace = 'default', minAvailable: number | string = 1): V1PodDisruptionBudget {
  return { apiVersion: 'policy/v1', kind: 'PodDisruptionBudget', metadata: { name, namespace }, spec: { minAvailable, selector: { matchLabels: { [NAME_LABEL]: name } } } };
}

/**
 * One line of ingress-nginx's access log in its default format (`log-format-upstream`), as the controller writes it.
 * Client addresses are out of TEST-NET-3 (RFC 5737).
 */
export function ingressLogLine(line: {
  namespace: string; service: string; port?: string; at: Date; method?: string; path?: string; status?: number; userAgent?: string; client?: string; seconds?: number;
}): string {
  const { namespace, service, port = 'http', at, method = 'GET', path = '/', status = 200, userAgent = 'Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0', client = '203.0.113.7', seconds = 0.012 } = line;
  const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
  const two = (value: number) => String(value).padStart(2, '0');
  const time = `${two(at.getUTCDate())}/${months[at.getUTCMonth()]}/${at.getUTCFullYear()}:${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())} +0000`;
  const id = (at.getTime() % 2 ** 32).toString(16).padStart(32, '0');
  return `${client} - - [${time}] "${method} ${path} HTTP/1.1" ${status} 612 "-" "${userAgent}" 421 ${seconds.toFixed(3)} [${namespace}-${service}-${port}] [] 10.244.0.7:8080 612 ${seconds.toFixed(3)} ${status} ${id}`;
}

function metadata({ name, namespace = 'default', labels, annotations }: Omit<WorkloadOptions, 'replicas'>) {
  return { name, namespace, labels: { [NAME_LABEL]: name, ...labels }, annotations: { ...annotations } };
}

function selector({ name }: { name: string }) {
  return { matchLabels: { [NAME_LABEL]: name } };
}

function podTemplate(options: Omit<WorkloadOptions, 'replicas'>, ownAnnotations: Record<string, string> = {}): V1PodTemplateSpec {
  const { name, podLabels, podAnnotations, usage = {}, containers = [{}], initContainers, claims = [], podSpec } = options;
  const volumeMounts = claims.map((claim) => ({ name: claim, mountPath: `/data/${claim}` }));
  return {
    metadata: { labels: { [NAME_LABEL]: name, ...podLabels }, annotations: { ...usageAnnotations(usage), ...ownAnnotations, ...podAnnotations } },
    spec: {
      containers: containers.map((one) => ({ ...container(name, one), ...(volumeMounts.length > 0 ? { volumeMounts } : {}) })),
      ...(initContainers ? { initContainers: initContainers.map((one) => container(name, one)) } : {}),
      ...(claims.length > 0 ? { volumes: claims.map((claim) => ({ name: claim, persistentVolumeClaim: { claimName: claim } })) } : {}),
      ...podSpec,
    },
  };
}

function container(application: string, options: ContainerOptions): V1Container {
  const { name = 'app', image = `registry.example/${application}:1.0`, requests = { cpu: '100m', memory: '128Mi' }, limits = { memory: '256Mi' }, port = 8080, env, command, restartPolicy } = options;
  return {
    name, image,
    resources: { ...(requests ? { requests: { ...requests } } : {}), ...(limits ? { limits: { ...limits } } : {}) },
    ...(port === null ? {} : { ports: [{ name: 'http', containerPort: port, protocol: 'TCP' }] }),
    ...(env ? { env: Object.entries(env).map(([key, value]) => ({ name: key, value })) } : {}),
    ...(command ? { command: [...command] } : {}),
    ...(restartPolicy ? { restartPolicy } : {}),
  };
}

function jobSpec(options: JobOptions) {
  const template = podTemplate(options, { 'upid.test/run-for': `${options.runSeconds ?? 1}s` });
  return { completions: options.completions ?? 1, parallelism: options.completions ?? 1, template: { ...template, spec: { restartPolicy: 'Never', ...template.spec } as V1PodSpec } };
}
