import { isAtLeast } from './build.js';
import { nodeAddress, nodeObject } from './nodes.js';
import { usageAnnotations } from './usage.js';

describe('simulated nodes', () => {
  it('have addresses of their own out of the network for benchmarks', () => {
    const addresses = Array.from({ length: 1_000 }, (_, i) => nodeAddress(i));
    expect(new Set(addresses).size).toBe(1_000);
    expect([addresses[0], addresses[254], addresses[255], addresses[999]]).toEqual(['198.18.0.1', '198.18.0.255', '198.18.1.0', '198.18.3.232']);
  });

  it.each([
    ['aws', 'eks.amazonaws.com/capacityType', 'SPOT', /^aws:\/\/\/eu-central-1b\/i-0+5$/],
    ['gcp', 'cloud.google.com/gke-spot', 'true', /^gce:\/\/upid-test\/europe-west1-c\/node-1$/],
    ['azure', 'kubernetes.azure.com/scalesetpriority', 'spot', /^azure:\/\/\/subscriptions\/.*\/node-1$/],
  ] as const)('of %s say that they are spot', (cloud, label, value, providerId) => {
    const spot = nodeObject(5, 1, { cloud, capacityType: 'spot' });
    expect(spot.metadata?.labels?.[label]).toBe(value);
    expect((spot.spec as { providerID: string }).providerID).toMatch(providerId);
    expect(nodeObject(5, 1, { cloud }).metadata?.labels?.[label]).not.toBe(value);
  });

  it('of no cloud say nothing of one', () => {
    const node = nodeObject(0, 0, { cloud: 'none', capacity: { cpu: '2500m', memory: '4096Mi', 'nvidia.com/gpu': '1' } });
    expect(Object.keys(node.metadata?.labels ?? {})).toEqual(['kubernetes.io/hostname', 'kubernetes.io/os', 'kubernetes.io/arch']);
    expect(node.status).toMatchObject({ capacity: { cpu: '2500m', 'nvidia.com/gpu': '1' }, allocatable: { cpu: '2500m', memory: '4096Mi', 'nvidia.com/gpu': '1' } });
  });

  it('keep a part for the system, unless told what is allocatable', () => {
    expect(nodeObject(0, 0).status).toMatchObject({ capacity: { cpu: '4', memory: '16Gi' }, allocatable: { cpu: '3900m', memory: '15872Mi', pods: '110' } });
    expect(nodeObject(0, 0, { allocatable: { cpu: '3' } }).status).toMatchObject({ allocatable: { cpu: '3', memory: '16Gi' } });
  });
});

describe('simulated usage', () => {
  it('is told by annotations, and what is left out is not', () => {
    expect(usageAnnotations({})).toEqual({});
    expect(usageAnnotations({ cpuMillicores: 250, memoryBytes: 5, containers: { proxy: { cpuMillicores: 3 } }, wave: { periodSeconds: 60, busySeconds: 20, idleCpuMillicores: 1 }, receiveBytesPerSecond: 0 })).toEqual({
      'upid.test/cpu': '250m', 'upid.test/memory': '5', 'upid.test/cpu.proxy': '3m', 'upid.test/period-seconds': '60', 'upid.test/busy-seconds': '20', 'upid.test/idle-cpu': '1m', 'upid.test/rx-bytes-per-second': '0',
    });
  });
});

describe('versions', () => {
  it.each([['1.26.4', '1.26.4', true], ['1.26.10', '1.26.4', true], ['1.27', '1.26.4', true], ['1.26', '1.26.4', false], ['1.9.9', '1.26.4', false], ['2.0', '1.26.4', true]])('%s is at least %s: %s', (version, least, expected) => {
    expect(isAtLeast(version, least)).toBe(expected);
  });
});
