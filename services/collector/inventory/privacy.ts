/**
 * What may leave the cluster of an object's annotations: an allow-list of names. Everything else (descriptions, applied
 * configurations, tokens of operators) stays.
 */

/** Annotations that decisions need: opt-outs, ownership by GitOps and other optimisers, time zones. */
const ALLOWED_ANNOTATIONS: ReadonlySet<string> = new Set([
  'downscaler/exclude', 'downscaler/exclude-until', 'downscaler/uptime', 'downscaler/downtime', 'downscaler/force-uptime', 'downscaler/force-downtime', 'downscaler/original-replicas', 'downscaler/downtime-replicas',
  'karpenter.sh/do-not-disrupt', 'karpenter.sh/do-not-evict', 'cluster-autoscaler.kubernetes.io/safe-to-evict',
  'argocd.argoproj.io/tracking-id', 'argocd.argoproj.io/managed-by', 'meta.helm.sh/release-name', 'meta.helm.sh/release-namespace',
  'kustomize.toolkit.fluxcd.io/reconcile', 'helm.toolkit.fluxcd.io/driftDetection', 'fluxcd.io/sync-checksum',
  'autoscaling.keda.sh/paused', 'autoscaling.keda.sh/paused-replicas', 'admission.robusta.dev/krr-mutation-mode',
]);
const ALLOWED_PREFIX = 'upid.io/';

/** Annotations whose presence is all that counts: their values are another tool's configuration and stay. */
const PRESENCE_ONLY: ReadonlySet<string> = new Set(['workloads.cast.ai/configuration', 'sleepinfo.kube-green.com/replicas-before-sleep', 'goldilocks.fairwinds.com/vpa-resource-policy']);

/** Longer values are no switches or names: they stay. Characters. */
const LONGEST_VALUE = 256;

/** The annotations of an object that may leave the cluster. */
export function allowedAnnotations(annotations: Readonly<Record<string, string>> | undefined): Record<string, string> {
  const allowed: Record<string, string> = {};
  for (const [name, value] of Object.entries(annotations ?? {})) {
    if (PRESENCE_ONLY.has(name)) allowed[name] = 'true';
    else if ((name.startsWith(ALLOWED_PREFIX) || ALLOWED_ANNOTATIONS.has(name)) && typeof value === 'string' && value.length <= LONGEST_VALUE) allowed[name] = value;
  }
  return allowed;
}
