/**
 * Objects of the Kubernetes API as the inventory reads them: only the fields it uses, each of which may be missing. What stands in
 * no type here is never looked at.
 */

export type Labels = Readonly<Record<string, string>>;

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
}

export interface Metadata {
  readonly name?: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly labels?: Labels;
  readonly annotations?: Labels;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly ownerReferences?: readonly OwnerReference[];
  readonly managedFields?: readonly { readonly manager?: string; readonly subresource?: string; readonly fieldsV1?: Readonly<Record<string, unknown>> }[];
}

export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: Metadata;
}

export type Quantities = Readonly<Record<string, string>>;

export interface KubeContainer {
  readonly name: string;
  readonly image?: string;
  readonly restartPolicy?: string;
  readonly env?: readonly { readonly name?: string; readonly value?: string }[];
  readonly resources?: { readonly requests?: Quantities; readonly limits?: Quantities };
}

export interface KubeVolume {
  readonly name?: string;
  readonly persistentVolumeClaim?: { readonly claimName?: string };
  readonly emptyDir?: unknown;
  readonly ephemeral?: unknown;
  readonly hostPath?: unknown;
  readonly configMap?: unknown;
  readonly secret?: unknown;
  readonly projected?: unknown;
  readonly downwardAPI?: unknown;
}

export interface PodSpec {
  readonly nodeName?: string;
  readonly hostNetwork?: boolean;
  readonly overhead?: Quantities;
  readonly containers?: readonly KubeContainer[];
  readonly initContainers?: readonly KubeContainer[];
  readonly volumes?: readonly KubeVolume[];
}

export interface PodTemplate {
  readonly metadata?: Metadata;
  readonly spec?: PodSpec;
}

interface TerminatedState {
  readonly reason?: string;
  readonly finishedAt?: string;
}

export interface ContainerStatus {
  readonly name: string;
  readonly ready?: boolean;
  readonly restartCount?: number;
  readonly state?: { readonly terminated?: TerminatedState };
  readonly lastState?: { readonly terminated?: TerminatedState };
}

export interface Condition {
  readonly type: string;
  readonly status?: string;
  readonly reason?: string;
  readonly lastTransitionTime?: string;
  readonly lastUpdateTime?: string;
}

export interface KubePod extends KubeObject {
  readonly spec?: PodSpec;
  readonly status?: {
    readonly phase?: string;
    readonly startTime?: string;
    readonly podIP?: string;
    readonly conditions?: readonly Condition[];
    readonly containerStatuses?: readonly ContainerStatus[];
    readonly initContainerStatuses?: readonly ContainerStatus[];
  };
}

export interface KubeNode extends KubeObject {
  readonly spec?: { readonly providerID?: string; readonly unschedulable?: boolean; readonly taints?: readonly { readonly key: string; readonly value?: string; readonly effect: string }[] };
  readonly status?: {
    readonly capacity?: Quantities;
    readonly allocatable?: Quantities;
    readonly conditions?: readonly Condition[];
    readonly addresses?: readonly { readonly type: string; readonly address: string }[];
    readonly nodeInfo?: { readonly architecture?: string; readonly operatingSystem?: string; readonly kubeletVersion?: string };
    readonly daemonEndpoints?: { readonly kubeletEndpoint?: { readonly Port?: number } };
  };
}

export interface LabelSelector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly { readonly key: string; readonly operator: string; readonly values?: readonly string[] }[];
}

/** Every kind that has a pod template: fields of one kind are missing in the others. */
export interface KubeWorkload extends KubeObject {
  readonly spec?: {
    readonly replicas?: number;
    readonly suspend?: boolean;
    readonly paused?: boolean;
    readonly template?: PodTemplate;
    readonly jobTemplate?: { readonly spec?: { readonly template?: PodTemplate } };
    readonly strategy?: { readonly type?: string; readonly rollingUpdate?: { readonly maxSurge?: number | string } };
    readonly updateStrategy?: { readonly type?: string; readonly rollingUpdate?: { readonly maxSurge?: number | string } };
    readonly volumeClaimTemplates?: readonly unknown[];
  };
  readonly status?: {
    readonly observedGeneration?: number | string;
    readonly replicas?: number;
    readonly readyReplicas?: number;
    readonly updatedReplicas?: number;
    readonly currentRevision?: string;
    readonly updateRevision?: string;
    readonly desiredNumberScheduled?: number;
    readonly updatedNumberScheduled?: number;
    readonly numberReady?: number;
    readonly phase?: string;
    readonly conditions?: readonly Condition[];
  };
}

export interface KubeService extends KubeObject {
  readonly spec?: {
    readonly type?: string;
    readonly selector?: Labels;
    readonly ports?: readonly { readonly name?: string; readonly port: number; readonly targetPort?: number | string }[];
  };
}

interface IngressBackend {
  readonly service?: { readonly name?: string };
}

export interface KubeIngress extends KubeObject {
  readonly spec?: {
    readonly ingressClassName?: string;
    readonly defaultBackend?: IngressBackend;
    readonly rules?: readonly { readonly http?: { readonly paths?: readonly { readonly backend?: IngressBackend }[] } }[];
  };
}

export interface KubeHttpRoute extends KubeObject {
  readonly spec?: { readonly rules?: readonly { readonly backendRefs?: readonly { readonly kind?: string; readonly name?: string; readonly namespace?: string }[] }[] };
}

interface VirtualServiceRoutes {
  readonly route?: readonly { readonly destination?: { readonly host?: string } }[];
}

export interface KubeVirtualService extends KubeObject {
  readonly spec?: { readonly http?: readonly VirtualServiceRoutes[]; readonly tls?: readonly VirtualServiceRoutes[]; readonly tcp?: readonly VirtualServiceRoutes[] };
}

interface TargetReference {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly name?: string;
}

/** HPA, VPA and KEDA's ScaledObject: each has its own subset. */
export interface KubeAutoscaler extends KubeObject {
  readonly spec?: {
    readonly scaleTargetRef?: TargetReference;
    readonly targetRef?: TargetReference;
    readonly minReplicas?: number;
    readonly maxReplicas?: number;
    readonly minReplicaCount?: number;
    readonly idleReplicaCount?: number;
    readonly maxReplicaCount?: number;
    readonly metrics?: readonly { readonly type?: string; readonly resource?: { readonly name?: string; readonly target?: { readonly averageUtilization?: number } } }[];
    readonly updatePolicy?: { readonly updateMode?: string };
  };
}

export interface KubeDisruptionBudget extends KubeObject {
  readonly spec?: { readonly selector?: LabelSelector; readonly minAvailable?: number | string; readonly maxUnavailable?: number | string };
  readonly status?: { readonly disruptionsAllowed?: number };
}

/** The collections that the inventory reads, by a short name each. */
export const RESOURCES = {
  nodes: '/api/v1/nodes',
  namespaces: '/api/v1/namespaces',
  pods: '/api/v1/pods',
  services: '/api/v1/services',
  replicationcontrollers: '/api/v1/replicationcontrollers',
  deployments: '/apis/apps/v1/deployments',
  replicasets: '/apis/apps/v1/replicasets',
  statefulsets: '/apis/apps/v1/statefulsets',
  daemonsets: '/apis/apps/v1/daemonsets',
  controllerrevisions: '/apis/apps/v1/controllerrevisions',
  jobs: '/apis/batch/v1/jobs',
  cronjobs: '/apis/batch/v1/cronjobs',
  rollouts: '/apis/argoproj.io/v1alpha1/rollouts',
  ingresses: '/apis/networking.k8s.io/v1/ingresses',
  httproutes: '/apis/gateway.networking.k8s.io/v1/httproutes',
  virtualservices: '/apis/networking.istio.io/v1/virtualservices',
  horizontalpodautoscalers: '/apis/autoscaling/v2/horizontalpodautoscalers',
  verticalpodautoscalers: '/apis/autoscaling.k8s.io/v1/verticalpodautoscalers',
  scaledobjects: '/apis/keda.sh/v1alpha1/scaledobjects',
  poddisruptionbudgets: '/apis/policy/v1/poddisruptionbudgets',
} as const;
export type Resource = keyof typeof RESOURCES;

/** Collections of which only metadata is read: their bodies hold whole pod templates, values of environment variables among them. */
export const METADATA_ONLY: ReadonlySet<Resource> = new Set(['controllerrevisions']);
