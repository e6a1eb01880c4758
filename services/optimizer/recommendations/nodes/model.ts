/**
 * Pods, node types and what keeps them apart, in the words of the Kubernetes scheduler. Amounts of resources are plain
 * numbers by name: `cpu` in millicores, `memory` and `ephemeral-storage` in bytes, everything else (GPUs, `pods`) in pieces.
 */
export type Amounts = Readonly<Record<string, number>>;
export type Labels = Readonly<Record<string, string>>;

/** A label selector: every pair and every expression must hold. */
export interface LabelSelector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly Expression[];
}

export interface Expression {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist' | 'Gt' | 'Lt';
  readonly values?: readonly string[];
}

export interface Toleration {
  readonly key?: string;
  readonly operator?: 'Equal' | 'Exists';
  readonly value?: string;
  readonly effect?: string;
}

export interface Taint {
  readonly key: string;
  readonly value?: string;
  readonly effect: string;
}

export const HOSTNAME = 'kubernetes.io/hostname';
export const ZONE = 'topology.kubernetes.io/zone';

/** A required pod anti-affinity term; namespaces default to the pod's own. */
export interface AntiAffinity {
  readonly topologyKey: string;
  readonly selector: LabelSelector;
  readonly namespaces?: readonly string[];
}

/** A topology spread constraint with `whenUnsatisfiable: DoNotSchedule`. */
export interface Spread {
  readonly topologyKey: string;
  readonly maxSkew: number;
  readonly selector: LabelSelector;
}

export interface Pod {
  readonly id: string;
  readonly namespace?: string;
  readonly labels?: Labels;
  /** Effective requests, as the scheduler counts them; `pods` is added. */
  readonly requests: Amounts;
  /** What its images run on; amd64 and linux where nothing is known, for a pod on the wrong one never starts. */
  readonly architectures?: readonly string[];
  readonly operatingSystems?: readonly string[];
  readonly nodeSelector?: Labels;
  /** Required node affinity: one of the terms, all expressions of a term. */
  readonly nodeAffinity?: readonly (readonly Expression[])[];
  readonly tolerations?: readonly Toleration[];
  readonly antiAffinity?: readonly AntiAffinity[];
  readonly spread?: readonly Spread[];
  /** Zones of the volumes that it mounts. */
  readonly zones?: readonly string[];
}

/** A pod on every node that admits it; its id names it in no result. */
export type DaemonSetPod = Pod;

/** A node that can be bought: a type in a zone under a capacity type. */
export interface NodeOffer {
  readonly type: string;
  readonly zone: string;
  readonly capacityType: string;
  readonly pricePerHour: number;
  readonly architecture: string;
  readonly operatingSystem: string;
  /** Allocatable, with `pods`. */
  readonly allocatable: Amounts;
  /** Labels beyond the well-known ones, which are added. */
  readonly labels?: Labels;
  readonly taints?: readonly Taint[];
}

/** Every label of a node bought as this offer. */
export function labelsOf(offer: NodeOffer): Labels {
  return {
    ...offer.labels,
    'kubernetes.io/arch': offer.architecture, 'kubernetes.io/os': offer.operatingSystem, 'node.kubernetes.io/instance-type': offer.type,
    [ZONE]: offer.zone, 'karpenter.sh/capacity-type': offer.capacityType,
  };
}

function holds(expression: Expression, labels: Labels): boolean {
  const value = labels[expression.key];
  const values = expression.values ?? [];
  switch (expression.operator) {
    case 'In': return value !== undefined && values.includes(value);
    case 'NotIn': return value === undefined || !values.includes(value);
    case 'Exists': return value !== undefined;
    case 'DoesNotExist': return value === undefined;
    case 'Gt': return value !== undefined && Number(value) > Number(values[0]);
    case 'Lt': return value !== undefined && Number(value) < Number(values[0]);
  }
}

/** Whether a selector matches labels; an empty one matches everything, as in Kubernetes. */
export function matches(selector: LabelSelector, labels: Labels): boolean {
  return Object.entries(selector.matchLabels ?? {}).every(([key, value]) => labels[key] === value)
    && (selector.matchExpressions ?? []).every((expression) => holds(expression, labels));
}

function tolerates(tolerations: readonly Toleration[], taint: Taint): boolean {
  return tolerations.some((toleration) =>
    (toleration.effect === undefined || toleration.effect === '' || toleration.effect === taint.effect)
    && (toleration.key === undefined || toleration.key === '' ? toleration.operator === 'Exists' : toleration.key === taint.key)
    && (toleration.operator === 'Exists' || (toleration.value ?? '') === (taint.value ?? '')));
}

/** Why a pod cannot run on a node of this offer whatever else runs there; null where it can. Resources are not looked at. */
export function refusal(pod: Pod, offer: NodeOffer): string | null {
  if (!(pod.architectures ?? ['amd64']).includes(offer.architecture)) return 'architecture';
  if (!(pod.operatingSystems ?? ['linux']).includes(offer.operatingSystem)) return 'operating system';
  const labels = labelsOf(offer);
  if (!matches({ matchLabels: pod.nodeSelector }, labels)) return 'node selector';
  if (pod.nodeAffinity && !pod.nodeAffinity.some((term) => term.every((expression) => holds(expression, labels)))) return 'node affinity';
  if (pod.zones && !pod.zones.includes(offer.zone)) return 'zone of a volume';
  const repels = (offer.taints ?? []).find((taint) => taint.effect !== 'PreferNoSchedule' && !tolerates(pod.tolerations ?? [], taint));
  return repels ? `taint ${repels.key}` : null;
}

/** Whether two pods may not share the domain of an anti-affinity term of either with this topology key. */
export function repel(a: Pod, b: Pod, topologyKey: string): boolean {
  const refuses = (from: Pod, to: Pod) => (from.antiAffinity ?? []).some((term) =>
    term.topologyKey === topologyKey && (term.namespaces ?? [from.namespace ?? '']).includes(to.namespace ?? '') && matches(term.selector, to.labels ?? {}));
  return refuses(a, b) || refuses(b, a);
}
