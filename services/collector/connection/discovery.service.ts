/** What the API server says of itself and of our rights, asked anew now and then. */
export interface ClusterDiscovery {
  readonly serverVersion: string | null;
  /** Names of the groups of `/apis`. */
  readonly groups: readonly string[];
  /** Resources of `v1`, subresources among them. */
  readonly coreResources: readonly string[];
  readonly argoResources: readonly string[];
  readonly metricsApiAnswers: boolean;
}

/** A question of access, in the words of SelfSubjectAccessReview. */
export interface AccessQuestion {
  readonly verb: string;
  readonly group?: string;
  readonly resource: string;
  readonly subresource?: string;
  readonly namespace?: string;
}

export interface DiscoveryApi {
  get<T>(path: string, query?: Readonly<Record<string, string>>): Promise<T>;
  call<T>(verb: 'POST', path: string, options: { readonly body: unknown }): Promise<T>;
}

/** No UID could be read of namespace kube-system: without it the cluster has no fingerprint. */
export class FingerprintError extends Error {
  override readonly name = 'FingerprintError';
}

/** UID of namespace kube-system: it is the cluster's own for as long as it lives. @throws {FingerprintError} and what the server refused with */
export async function clusterFingerprint(api: Pick<DiscoveryApi, 'get'>): Promise<string> {
  const namespace = await api.get<{ metadata?: { uid?: string } }>('/api/v1/namespaces/kube-system');
  if (namespace.metadata?.uid === undefined) throw new FingerprintError('namespace kube-system has no UID: is this a Kubernetes API server?');
  return namespace.metadata.uid;
}

/** Asks for version, groups and resources. What cannot be asked is left out: it is then a capability that the cluster does not have. */
export async function discover(api: Pick<DiscoveryApi, 'get'>): Promise<ClusterDiscovery> {
  const [version, groups, core, argo, metrics] = await Promise.allSettled([
    api.get<{ gitVersion?: string }>('/version'),
    api.get<{ groups?: { name: string }[] }>('/apis'),
    api.get<ResourceList>('/api/v1'),
    api.get<ResourceList>('/apis/argoproj.io/v1alpha1'),
    api.get<ResourceList>('/apis/metrics.k8s.io/v1beta1'),
  ]);
  return {
    serverVersion: valueOf(version)?.gitVersion ?? null,
    groups: (valueOf(groups)?.groups ?? []).map(({ name }) => name),
    coreResources: names(valueOf(core)),
    argoResources: names(valueOf(argo)),
    metricsApiAnswers: names(valueOf(metrics)).includes('pods'),
  };
}

interface ResourceList {
  readonly resources?: readonly { readonly name: string }[];
}

function valueOf<T>(result: PromiseSettledResult<T>): T | null {
  return result.status === 'fulfilled' ? result.value : null;
}

function names(list: ResourceList | null): string[] {
  return (list?.resources ?? []).map(({ name }) => name);
}

/** Whether we may do all of this. An API server that cannot be asked grants nothing. */
export async function mayAll(api: Pick<DiscoveryApi, 'call'>, questions: readonly AccessQuestion[]): Promise<boolean> {
  const answers = await Promise.allSettled(questions.map(({ verb, group = '', resource, subresource, namespace }) =>
    api.call<{ status?: { allowed?: boolean } }>('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
      body: { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectAccessReview', spec: { resourceAttributes: { verb, group, resource, ...(subresource === undefined ? {} : { subresource }), ...(namespace === undefined ? {} : { namespace }) } } },
    })));
  return answers.every((answer) => valueOf(answer)?.status?.allowed === true);
}
