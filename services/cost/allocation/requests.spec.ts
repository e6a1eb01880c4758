import fc from 'fast-check';
import { containerSchema } from '@upid/contracts';
import { effectiveContainerRequests, effectivePodRequest, noResources, requestsOfPod, type PodRequests, type Resources } from './requests.js';

const cpu = (cpuMillicores: number, memoryBytes = 0, gpus = 0): Resources => ({ cpuMillicores, memoryBytes, gpus });
const container = (name: string, requests: Resources) => ({ name, requests });
const init = (name: string, requests: Resources, restartable = false) => ({ name, requests, restartable });
const pod = (parts: Partial<PodRequests>): PodRequests => ({ containers: [], initContainers: [], overhead: noResources, ...parts });

describe("the scheduler's rule for a pod's request", () => {
  it('takes the larger of running together and starting one after the other', () => {
    expect(effectivePodRequest(pod({ containers: [container('a', cpu(100)), container('b', cpu(200))], initContainers: [init('i', cpu(250))] })).cpuMillicores).toBe(300);
    expect(effectivePodRequest(pod({ containers: [container('a', cpu(100))], initContainers: [init('i', cpu(250)), init('j', cpu(400))] })).cpuMillicores).toBe(400);
  });

  it('decides per resource', () => {
    const request = effectivePodRequest(pod({ containers: [container('a', cpu(500, 64, 1))], initContainers: [init('i', cpu(100, 256))] }));
    expect(request).toEqual(cpu(500, 256, 1));
  });

  it('counts a sidecar beside the containers and beside the init containers after it, not before it', () => {
    const sidecar = init('proxy', cpu(100), true);
    expect(effectivePodRequest(pod({ containers: [container('a', cpu(200))], initContainers: [sidecar, init('late', cpu(350))] })).cpuMillicores).toBe(450);
    expect(effectivePodRequest(pod({ containers: [container('a', cpu(200))], initContainers: [init('early', cpu(350)), sidecar] })).cpuMillicores).toBe(350);
  });

  it("adds the runtime class's overhead, and a pod-level request stands instead of the sum", () => {
    expect(effectivePodRequest(pod({ containers: [container('a', cpu(200))], overhead: cpu(50, 10) }))).toEqual(cpu(250, 10));
    expect(effectivePodRequest(pod({ containers: [container('a', cpu(200, 7))], overhead: cpu(50), podLevel: { cpuMillicores: 1000 } }))).toEqual(cpu(1050, 7));
  });

  it('tells it per running container, in proportion to their own requests', () => {
    const parts = effectiveContainerRequests(pod({
      containers: [container('a', cpu(100)), container('b', cpu(300))], initContainers: [init('proxy', cpu(100), true), init('heavy', cpu(900))],
    }));
    expect(parts.map(({ name, requests }) => [name, requests.cpuMillicores])).toEqual([['a', 200], ['b', 600], ['proxy', 200]]);
  });

  it('spreads evenly what is reserved for a pod whose containers request nothing', () => {
    const parts = effectiveContainerRequests(pod({ containers: [container('a', noResources), container('b', noResources)], initContainers: [init('i', cpu(100))] }));
    expect(parts.map(({ requests }) => requests.cpuMillicores)).toEqual([50, 50]);
  });

  it('reads an inventoried pod: roles in their order, what is not named is not requested', () => {
    const of = (name: string, role: string, cpu_millicores: number | null) => containerSchema.parse({ name, role, requests: { cpu_millicores }, limits: {} });
    const requests = requestsOfPod({ containers: [of('early', 'init', 350), of('proxy', 'sidecar', 100), of('app', 'main', 200), of('bare', 'main', null)], overhead: null });
    expect(requests).toMatchObject({ containers: [{ name: 'app' }, { name: 'bare', requests: noResources }], initContainers: [{ name: 'early', restartable: false }, { name: 'proxy', restartable: true }], overhead: noResources });
    expect(effectivePodRequest(requests).cpuMillicores).toBe(350);
  });

  it('law: the parts sum to the whole, and no container gets less than it asked for without a pod-level request', () => {
    const resources = fc.record({ cpuMillicores: fc.nat(8000), memoryBytes: fc.nat(2 ** 34), gpus: fc.nat(4) });
    const arbitrary = fc.record({
      containers: fc.array(fc.record({ name: fc.string(), requests: resources }), { minLength: 1, maxLength: 5 }),
      initContainers: fc.array(fc.record({ name: fc.string(), requests: resources, restartable: fc.boolean() }), { maxLength: 5 }),
      overhead: resources,
    });
    fc.assert(fc.property(arbitrary, (each) => {
      const whole = effectivePodRequest(each);
      const parts = effectiveContainerRequests(each);
      for (const kind of ['cpuMillicores', 'memoryBytes', 'gpus'] as const) {
        const sum = parts.reduce((total, { requests }) => total + requests[kind], 0);
        expect(Math.abs(sum - whole[kind])).toBeLessThanOrEqual(1e-9 * whole[kind]);
        each.containers.forEach(({ requests }, i) => expect(parts[i]?.requests[kind]).toBeGreaterThanOrEqual(requests[kind] * (1 - 1e-12)));
      }
    }), { numRuns: 1000 });
  });
});
