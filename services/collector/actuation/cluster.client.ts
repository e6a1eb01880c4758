import { createHash } from 'node:crypto';
import type { Command, WorkloadKind } from '@upid/contracts';
import { KubernetesApiError, type KubernetesClient } from '../connection/kubernetes.client.js';
import { jsonPatch, scalesOnly, UnsupportedChangeError, type ActuatedObject, type ChangedField } from './fields.js';
import { parseRecord, RECORD_LABELS, recordName, type ChangeRecord } from './records.js';

/** The object moved between reading and changing it: nothing was changed, look again. */
export class ObjectMovedError extends Error {
  override readonly name = 'ObjectMovedError';
}

/** A record of this command exists already. */
export class RecordExistsError extends Error {
  override readonly name = 'RecordExistsError';
}

type Target = Pick<Command['target'], 'kind' | 'namespace' | 'name'>;

const PATHS: Partial<Record<WorkloadKind, { group: string; plural: string; scales: boolean }>> = {
  Deployment: { group: 'apis/apps/v1', plural: 'deployments', scales: true },
  StatefulSet: { group: 'apis/apps/v1', plural: 'statefulsets', scales: true },
  ReplicaSet: { group: 'apis/apps/v1', plural: 'replicasets', scales: true },
  DaemonSet: { group: 'apis/apps/v1', plural: 'daemonsets', scales: false },
  ReplicationController: { group: 'api/v1', plural: 'replicationcontrollers', scales: true },
  Rollout: { group: 'apis/argoproj.io/v1alpha1', plural: 'rollouts', scales: true },
};

/** Reads and changes workloads, and keeps the records of changes. Nothing here waits behind the rate limit: waking must not. */
export class ActuationCluster {
  constructor(private readonly kubernetes: KubernetesClient, private readonly systemNamespace: string) {}

  /** The workload as it is now; null where it is not there. @throws {UnsupportedChangeError} for a kind that is not changed here */
  async target(target: Target): Promise<ActuatedObject | null> {
    return orNull(this.kubernetes.get<ActuatedObject>(this.path(target), {}, { urgent: true }));
  }

  async namespace(name: string): Promise<ActuatedObject | null> {
    return orNull(this.kubernetes.get<ActuatedObject>(`/api/v1/namespaces/${name}`, {}, { urgent: true }));
  }

  /** HPAs of a workload as they are now, as `Kind/name`. */
  async autoscalersOf({ namespace, name, kind }: Target): Promise<string[]> {
    const list = await orNull(this.kubernetes.get<{ items?: Autoscaler[] }>(`/apis/autoscaling/v2/namespaces/${namespace}/horizontalpodautoscalers`, {}, { urgent: true }));
    return (list?.items ?? []).filter(({ spec }) => spec?.scaleTargetRef?.name === name && spec.scaleTargetRef.kind === kind).map(({ metadata }) => `HorizontalPodAutoscaler/${metadata?.name ?? ''}`);
  }

  /**
   * Changes the object if it is still at the version that was read, by the scale subresource where that is enough.
   * @throws {ObjectMovedError} where it is not
   */
  async change(target: Target, object: ActuatedObject, changes: readonly ChangedField[]): Promise<void> {
    const replicas = scalesOnly(changes) ? changes[0]?.after : undefined;
    try {
      if (typeof replicas === 'number' && this.kindOf(target).scales) {
        const { name, namespace, uid, resourceVersion } = object.metadata ?? {};
        await this.kubernetes.call('PUT', `${this.path(target)}/scale`, {
          body: { apiVersion: 'autoscaling/v1', kind: 'Scale', metadata: { name, namespace, uid, resourceVersion }, spec: { replicas } }, urgent: true,
        });
      } else await this.kubernetes.call('PATCH', this.path(target), { body: jsonPatch(object, changes), contentType: 'application/json-patch+json', urgent: true });
    } catch (error) {
      if (error instanceof KubernetesApiError && error.status === 409) throw new ObjectMovedError(`${target.kind} ${target.namespace}/${target.name} moved`, { cause: error });
      if (error instanceof KubernetesApiError && error.status === 422) {
        // A failed test of a JSON patch and an object that is refused have the same status: the version tells which it was.
        const now = await this.target(target);
        if (now?.metadata?.resourceVersion !== object.metadata?.resourceVersion) throw new ObjectMovedError(`${target.kind} ${target.namespace}/${target.name} moved`, { cause: error });
      }
      throw error;
    }
  }

  /** SHA-256 of the environment of all containers: shows that it was not touched, and says nothing of what is in it. */
  environmentDigest(object: ActuatedObject): string {
    const { containers = [], initContainers = [] } = object.spec?.template?.spec ?? {};
    return createHash('sha256').update(JSON.stringify([...initContainers, ...containers].map(({ name, env }) => [name, env ?? []]))).digest('hex');
  }

  // -------------------------------------------------------------- records

  /** Every record, and what could not be read. */
  async records(): Promise<{ records: ChangeRecord[]; unreadable: string[] }> {
    const records: ChangeRecord[] = [];
    const unreadable: string[] = [];
    let more: string | undefined;
    do {
      const page: { items?: RecordObject[]; metadata?: { continue?: string } } = await orNull(this.kubernetes.get<{ items?: RecordObject[]; metadata?: { continue?: string } }>(
        this.recordsPath, { labelSelector: `${RECORD_LABELS.kind}=change`, limit: '200', ...(more === undefined ? {} : { continue: more }) }, { urgent: true })) ?? {};
      for (const { metadata, data } of page.items ?? []) {
        try {
          records.push(parseRecord(metadata?.name ?? '', data?.['record']));
        } catch (error) {
          unreadable.push(error instanceof Error ? error.message : String(error));
        }
      }
      more = page.metadata?.continue === '' ? undefined : page.metadata?.continue;
    } while (more !== undefined);
    return { records, unreadable };
  }

  /** The record of a command; null where there is none. @throws {UnreadableRecordError} */
  async record(commandId: string): Promise<ChangeRecord | null> {
    const name = recordName(commandId);
    const object = await orNull(this.kubernetes.get<RecordObject>(`${this.recordsPath}/${name}`, {}, { urgent: true }));
    return object === null ? null : parseRecord(name, object.data?.['record']);
  }

  /** Writes a new record; makes its namespace where there is none. @throws {RecordExistsError} where the command was taken before */
  async createRecord(record: ChangeRecord): Promise<void> {
    const body = {
      apiVersion: 'v1', kind: 'ConfigMap',
      metadata: { name: recordName(record.command.id), namespace: this.systemNamespace, labels: { 'app.kubernetes.io/managed-by': 'upid', [RECORD_LABELS.kind]: 'change', [RECORD_LABELS.state]: record.state, [RECORD_LABELS.job]: record.command.job_id } },
      data: { record: JSON.stringify(record) },
    };
    const create = () => this.kubernetes.call('POST', this.recordsPath, { body, urgent: true });
    try {
      await create().catch(async (error: unknown) => {
        if (!(error instanceof KubernetesApiError) || error.status !== 404) throw error;
        await this.kubernetes.call('POST', '/api/v1/namespaces', { body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: this.systemNamespace } }, urgent: true });
        return create();
      });
    } catch (error) {
      if (error instanceof KubernetesApiError && error.status === 409) throw new RecordExistsError(`command ${record.command.id} was taken before`, { cause: error });
      throw error;
    }
  }

  async saveRecord(record: ChangeRecord): Promise<void> {
    await this.kubernetes.call('PATCH', `${this.recordsPath}/${recordName(record.command.id)}`, {
      body: { metadata: { labels: { [RECORD_LABELS.state]: record.state } }, data: { record: JSON.stringify(record) } }, contentType: 'application/merge-patch+json', urgent: true,
    });
  }

  async deleteRecord(commandId: string): Promise<void> {
    await orNull(this.kubernetes.call('DELETE', `${this.recordsPath}/${recordName(commandId)}`));
  }

  private get recordsPath(): string {
    return `/api/v1/namespaces/${this.systemNamespace}/configmaps`;
  }

  private kindOf({ kind }: Target): { group: string; plural: string; scales: boolean } {
    const found = PATHS[kind];
    if (found === undefined) throw new UnsupportedChangeError(`workloads of kind ${kind} are not changed by this agent`);
    return found;
  }

  private path(target: Target): string {
    const { group, plural } = this.kindOf(target);
    return `/${group}/namespaces/${target.namespace}/${plural}/${target.name}`;
  }
}

interface RecordObject {
  readonly metadata?: { readonly name?: string };
  readonly data?: Readonly<Record<string, string>>;
}

interface Autoscaler {
  readonly metadata?: { readonly name?: string };
  readonly spec?: { readonly scaleTargetRef?: { readonly kind?: string; readonly name?: string } };
}

async function orNull<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof KubernetesApiError && error.status === 404) return null;
    throw error;
  }
}
