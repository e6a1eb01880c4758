import type { WorkloadObject } from '@upid/contracts';

/** Amounts of one container: CPU in millicores, memory in bytes; null leaves that field as it is. */
export interface ResourceAmountsWanted {
  readonly cpu_millicores: number | null;
  readonly memory_bytes: number | null;
}

/** What a container's requests and limits are to be. */
export interface ResourceChange {
  readonly container: string;
  readonly requests: ResourceAmountsWanted;
  readonly limits: ResourceAmountsWanted;
}

/** Millicores as Kubernetes writes them. */
export function cpuQuantity(millicores: number): string {
  return `${Math.round(millicores)}m`;
}

/** Bytes as Kubernetes writes them: whole mebibytes where they are, else bytes. */
export function memoryQuantity(bytes: number): string {
  const whole = Math.round(bytes);
  return whole % 1_048_576 === 0 ? `${whole / 1_048_576}Mi` : String(whole);
}

/** The millicores of what {@link cpuQuantity} wrote. @throws {RangeError} */
export function parseCpuQuantity(text: string): number {
  const [, millicores] = /^(\d+)m$/.exec(text) ?? [];
  if (millicores === undefined) throw new RangeError(`${JSON.stringify(text)} is no quantity of millicores`);
  return Number(millicores);
}

/** The bytes of what {@link memoryQuantity} wrote. @throws {RangeError} */
export function parseMemoryQuantity(text: string): number {
  const [, amount, unit] = /^(\d+)(Mi)?$/.exec(text) ?? [];
  if (amount === undefined) throw new RangeError(`${JSON.stringify(text)} is no quantity of bytes`);
  return Number(amount) * (unit === undefined ? 1 : 1_048_576);
}

/** The fields that really differ, before and after, as quantities. */
export function resourceChanges(workload: WorkloadObject, wanted: readonly ResourceChange[]): { container: string; field: string; before: string | null; after: string | null }[] {
  return wanted.flatMap((change) => {
    const container = workload.containers.find((each) => each.name === change.container);
    if (!container) return [];
    return (['requests', 'limits'] as const).flatMap((kind) => {
      const now = container[kind];
      const next = change[kind];
      return [
        ...(next.cpu_millicores !== null && next.cpu_millicores !== now.cpu_millicores ? [{ container: change.container, field: `${kind}.cpu`, before: now.cpu_millicores === null ? null : cpuQuantity(now.cpu_millicores), after: cpuQuantity(next.cpu_millicores) }] : []),
        ...(next.memory_bytes !== null && next.memory_bytes !== now.memory_bytes ? [{ container: change.container, field: `${kind}.memory`, before: now.memory_bytes === null ? null : memoryQuantity(now.memory_bytes), after: memoryQuantity(next.memory_bytes) }] : []),
      ];
    });
  });
}

/** The strategic-merge patch that sets them. */
export function resourcePatch(wanted: readonly ResourceChange[]): Record<string, unknown> {
  const amounts = (each: ResourceAmountsWanted) => ({
    ...(each.cpu_millicores === null ? {} : { cpu: cpuQuantity(each.cpu_millicores) }), ...(each.memory_bytes === null ? {} : { memory: memoryQuantity(each.memory_bytes) }),
  });
  return { spec: { template: { spec: { containers: wanted.map((change) => ({ name: change.container, resources: { requests: amounts(change.requests), ...(Object.keys(amounts(change.limits)).length > 0 ? { limits: amounts(change.limits) } : {}) } })) } } } };
}
