/** A shop of 200 pods on 20 nodes of a real control plane, with the agent's manifests applied and requests going to some of it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ControlPlane, type KubernetesObject, startControlPlane } from '@upid/testing';
import { ROOT } from './platform.js';
import { PRIVATE_MARK, Traffic } from './traffic.js';

export const SHOP = {
  nodes: 20,
  pods: 200,
  /** Beside the shop: of the agent's own Deployment, which the manifests bring. */
  agentPods: 1,
} as const;

export interface Shop {
  readonly cluster: ControlPlane;
  /** Probes to `promo`, business to `landing`, both in namespace `preview`. */
  readonly traffic: Traffic;
  /** With the rights of the agent's service account, actuation among them. */
  readonly kubeconfig: string;
}

/** Starts it; returns when all pods run and requests are written. */
export async function startShop(): Promise<Shop> {
  const cluster = await startControlPlane();
  try {
    const annotations = { 'example.com/note': `${PRIVATE_MARK}-node-annotation` };
    await cluster.addNodes(SHOP.nodes - 6, { annotations });
    await cluster.addNodes(6, { namePrefix: 'spot', capacityType: 'spot', annotations });
    for (const file of ['namespace.yaml', 'agent.yaml', 'actuation.yaml']) await cluster.apply(await readFile(join(ROOT, 'k8s', file), 'utf8'));
    await cluster.apply(await readFile(join(ROOT, 'test-e2e', 'manifests', 'shop.yaml'), 'utf8'));
    await createJobFromCronJob(cluster, 'batch', 'report');
    await cluster.waitForPods(null, '', SHOP.pods + SHOP.agentPods, 120_000);
    const controller = (await cluster.pods('ingress-nginx'))[0]?.metadata.name ?? '';
    const traffic = new Traffic(cluster, controller, 'preview', [{ service: 'promo', kind: 'probe' }, { service: 'promo', kind: 'load_balancer' }, { service: 'promo', kind: 'health_check' }, { service: 'landing', kind: 'business' }]);
    await traffic.write([{ service: 'promo', kind: 'probe' }]);
    traffic.start();
    const { path: kubeconfig } = await cluster.serviceAccountKubeconfig('upid-system', 'upid-agent', 7_200);
    return { cluster, traffic, kubeconfig };
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}

/** As `kubectl create job --from=cronjob/NAME`; its pod runs for a day. */
async function createJobFromCronJob(cluster: ControlPlane, namespace: string, name: string): Promise<void> {
  const cronJob = await cluster.api.call<KubernetesObject & { spec: { jobTemplate: { spec: { template: KubernetesObject } } } }>('GET', `/apis/batch/v1/namespaces/${namespace}/cronjobs/${name}`);
  const { template } = cronJob.spec.jobTemplate.spec;
  await cluster.apply({
    apiVersion: 'batch/v1', kind: 'Job',
    metadata: { name: `${name}-by-hand`, namespace, ownerReferences: [{ apiVersion: 'batch/v1', kind: 'CronJob', name, uid: cronJob.metadata?.uid, controller: true }] },
    spec: { template: { ...template, metadata: { ...template.metadata, annotations: { 'upid.test/run-for': '24h', 'upid.test/cpu': '35m' } } } },
  } as KubernetesObject);
}
