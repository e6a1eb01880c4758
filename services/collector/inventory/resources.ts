import type { ContainerObject } from '@upid/contracts';
import { amountsOf } from '../recognition/node.js';
import type { KubeContainer, PodSpec } from './kubernetes.js';

/** Containers with their roles: an init container that restarts always is a sidecar (KEP-753). Values of the environment are not looked at. */
export function containersOf(spec: PodSpec | undefined): ContainerObject[] {
  const container = (each: KubeContainer, role: ContainerObject['role']): ContainerObject => ({
    name: each.name, role, image: each.image ?? null, requests: amountsOf(each.resources?.requests ?? {}), limits: amountsOf(each.resources?.limits ?? {}),
  });
  return [
    ...(spec?.initContainers ?? []).map((each) => container(each, each.restartPolicy === 'Always' ? 'sidecar' : 'init')),
    ...(spec?.containers ?? []).map((each) => container(each, 'main')),
  ];
}
