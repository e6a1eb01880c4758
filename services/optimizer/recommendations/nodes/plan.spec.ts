import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { amountsOf, offersOf, parseQuantity, QuantityError, type InstanceType } from './catalogue.js';
import { HOSTNAME, ZONE, type NodeOffer, type Pod } from './model.js';
import { faultsOf, planNodes } from './plan.js';

const GIBIBYTE = 2 ** 30;
const catalogue = offersOf(JSON.parse(readFileSync(join(import.meta.dirname, '../../../../testdata/packing/kwok-instance-types.json'), 'utf8')) as InstanceType[]);
const onDemand = catalogue.filter(({ capacityType }) => capacityType === 'on-demand');

const fleet = (count: number, cpu: number, memory: number, more: Partial<Pod> = {}): Pod[] =>
  Array.from({ length: count }, (_, i) => ({ id: `pod-${i}`, namespace: 'shop', labels: { app: 'a' }, requests: { cpu, memory }, ...more }));

const offer = (type: string, cpu: number, memory: number, pricePerHour: number, more: Partial<NodeOffer> = {}): NodeOffer =>
  ({ type, zone: 'a', capacityType: 'on-demand', pricePerHour, architecture: 'amd64', operatingSystem: 'linux', allocatable: { cpu, memory, pods: 110 }, ...more });

/** First-fit decreasing pod by pod, as plainly as it can be said: the least over which offer it opens. */
function plainFirstFit(pods: readonly Pod[], offers: readonly NodeOffer[]): number {
  const decreasing = [...pods].sort((a, b) => (b.requests['cpu'] ?? 0) - (a.requests['cpu'] ?? 0) || a.id.localeCompare(b.id));
  const admits = (node: NodeOffer, load: readonly Pod[]) => Object.entries(node.allocatable).every(([name, most]) =>
    load.reduce((sum, pod) => sum + (name === 'pods' ? 1 : (pod.requests[name] ?? 0)), 0) <= most + 1e-6);
  const costs = offers.map((opened) => {
    const nodes: { node: NodeOffer; load: Pod[] }[] = [];
    for (const pod of decreasing) {
      const open = nodes.find(({ node, load }) => admits(node, [...load, pod]));
      if (open) open.load.push(pod);
      else if (admits(opened, [pod])) nodes.push({ node: opened, load: [pod] });
      else return Infinity;
    }
    return nodes.reduce((sum, { node }) => sum + node.pricePerHour, 0);
  });
  return Math.min(...costs);
}

describe('quantities', () => {
  it.each([['250m', 0.25], ['1', 1], ['1.5Gi', 1.5 * GIBIBYTE], ['128974848', 128974848], ['1e3', 1000], ['20Gi', 20 * GIBIBYTE], ['12E', 12e18], ['.5', 0.5]])('%s', (text, value) => {
    expect(parseQuantity(text)).toBeCloseTo(value, 9);
  });
  it.each(['', 'Gi', '1 Gi', '1KiB', '1mm', 'abc'])('refuses %j', (text) => {
    expect(() => parseQuantity(text)).toThrow(QuantityError);
  });
  it('gives CPU in millicores', () => {
    expect(amountsOf({ cpu: '250m', memory: '64Mi', pods: 110 })).toEqual({ cpu: 250, memory: 64 * 2 ** 20, pods: 110 });
  });
});

describe('packing pods on nodes', () => {
  it('reads the catalogue', () => {
    expect(new Set(catalogue.map(({ type }) => type)).size).toBe(144);
    expect(catalogue).toHaveLength(144 * 8);
    expect(new Set(catalogue.map(({ operatingSystem }) => operatingSystem))).toEqual(new Set(['linux', 'windows']));
  });

  it('keeps every rule and both bounds on any fleet', () => {
    const pod = fc.record({
      cpu: fc.integer({ min: 10, max: 16_000 }), memory: fc.integer({ min: 16, max: 65_536 }), app: fc.integer({ min: 0, max: 4 }),
      architectures: fc.constantFrom(undefined, ['arm64'], ['amd64', 'arm64']), operatingSystems: fc.constantFrom(undefined, ['windows']),
      apart: fc.constantFrom(null, HOSTNAME, ZONE), spread: fc.constantFrom(null, HOSTNAME, ZONE), zones: fc.constantFrom(undefined, ['test-zone-b'], ['test-zone-c', 'test-zone-d']),
    });
    fc.assert(fc.property(fc.array(pod, { minLength: 1, maxLength: 40 }), fc.boolean(), (records, withDaemons) => {
      const pods = records.map((record, i): Pod => {
        const selector = { matchLabels: { app: `a${record.app}` } };
        return {
          id: `p${i}`, namespace: 'n', labels: { app: `a${record.app}` }, requests: { cpu: record.cpu, memory: record.memory * 2 ** 20 },
          architectures: record.architectures, operatingSystems: record.operatingSystems, zones: record.zones,
          ...(record.apart && i % 3 === 0 ? { antiAffinity: [{ topologyKey: record.apart, selector }] } : {}),
          ...(record.spread && i % 4 === 0 ? { spread: [{ topologyKey: record.spread, maxSkew: 1 + (i % 2), selector }] } : {}),
        };
      });
      const daemonSets: Pod[] = withDaemons ? [{ id: 'agent', requests: { cpu: 100, memory: 128 * 2 ** 20 }, architectures: ['amd64', 'arm64'] }] : [];
      const plan = planNodes(pods, catalogue, { daemonSets });
      expect(faultsOf(plan, pods, daemonSets)).toEqual([]);
      expect(plan.costPerHour).toBeLessThanOrEqual(plan.firstFitDecreasingCostPerHour + 1e-9);
      expect(plan.costPerHour).toBeGreaterThanOrEqual(plan.bound.costPerHour - 1e-9);
      expect(plan.bound.costPerHour).toBeGreaterThanOrEqual(plan.bound.simplestCostPerHour - 1e-9);
      expect(plan.nodes.every(({ offer: { capacityType } }) => capacityType === 'on-demand')).toBe(true);
      // Only pods that their own rules shut out of every zone stay out: none is too large for the catalogue.
      for (const { reason } of plan.unplaced) expect(reason).toMatch(/zone/);
    }), { numRuns: 60 });
  });

  it('costs no more than first-fit decreasing told pod by pod', () => {
    fc.assert(fc.property(fc.array(fc.record({ cpu: fc.integer({ min: 50, max: 4000 }), memory: fc.integer({ min: 64, max: 16_384 }) }), { minLength: 1, maxLength: 60 }), (sizes) => {
      const pods = sizes.map(({ cpu, memory }, i): Pod => ({ id: `p${String(i).padStart(3, '0')}`, requests: { cpu, memory: memory * 2 ** 20 } }));
      const linux = onDemand.filter(({ architecture, operatingSystem, zone }) => architecture === 'amd64' && operatingSystem === 'linux' && zone === 'test-zone-a');
      expect(planNodes(pods, onDemand).costPerHour).toBeLessThanOrEqual(plainFirstFit(pods, linux) + 1e-9);
    }), { numRuns: 40 });
  });

  it.each([[100, 500, 1], [1000, 300, 0.7], [50, 1000, 3], [7, 3000, 5], [333, 170, 0.33], [10_000, 100, 0.2]])('is within 2 %% of the bound on %i pods of %i m and %d GiB', (count, cpu, memory) => {
    const plan = planNodes(fleet(count, cpu, memory * GIBIBYTE), catalogue);
    expect(plan.costPerHour / plan.bound.costPerHour).toBeLessThan(1.02);
    expect(plan.unplaced).toEqual([]);
  });

  it('finds the best on what can be counted by hand', () => {
    // Three pods of two cores: one node of six at 5 beats three of two at 2 each; one of four and one of two cost 6.
    const offers = [offer('two', 2000, 8 * GIBIBYTE, 2), offer('four', 4000, 16 * GIBIBYTE, 4), offer('six', 6000, 24 * GIBIBYTE, 5)];
    const plan = planNodes(fleet(3, 2000, GIBIBYTE), offers);
    expect(plan).toMatchObject({ costPerHour: 5 });
    expect(plan.nodes.map(({ offer: { type } }) => type)).toEqual(['six']);
  });

  it('is the same every time', () => {
    const pods = fleet(200, 300, GIBIBYTE).map((pod, i): Pod => ({ ...pod, requests: { cpu: 100 + ((i * 37) % 900), memory: (1 + ((i * 13) % 7)) * GIBIBYTE } }));
    expect(planNodes(pods, catalogue)).toEqual(planNodes(pods, catalogue));
  });

  it('leaves nothing where there is nothing', () => {
    expect(planNodes([], catalogue)).toMatchObject({ nodes: [], unplaced: [], costPerHour: 0, bound: { costPerHour: 0 } });
    expect(planNodes(fleet(1, 100, GIBIBYTE), []).unplaced).toHaveLength(1);
  });
});

describe('what keeps pods from nodes and from one another', () => {
  it('buys spot only where it may', () => {
    expect(planNodes(fleet(5, 500, GIBIBYTE), catalogue).nodes.every(({ offer: { capacityType } }) => capacityType === 'on-demand')).toBe(true);
    const either = planNodes(fleet(5, 500, GIBIBYTE), catalogue, { capacityTypes: ['on-demand', 'spot'] });
    expect(either.nodes.every(({ offer: { capacityType } }) => capacityType === 'spot')).toBe(true);
  });

  it('puts replicas that keep apart on nodes of their own, and proves that many are needed', () => {
    const pods = fleet(20, 500, GIBIBYTE, { antiAffinity: [{ topologyKey: HOSTNAME, selector: { matchLabels: { app: 'a' } } }] });
    const plan = planNodes(pods, catalogue);
    expect(plan.nodes).toHaveLength(20);
    expect(plan.costPerHour).toBeCloseTo(plan.bound.costPerHour, 6);
    expect(faultsOf(plan, pods)).toEqual([]);
  });

  it('keeps others out as well: anti-affinity goes both ways', () => {
    const keeper: Pod = { id: 'keeper', namespace: 'n', labels: { app: 'k' }, requests: { cpu: 100, memory: GIBIBYTE }, antiAffinity: [{ topologyKey: HOSTNAME, selector: { matchLabels: { app: 'noisy' } } }] };
    const noisy: Pod = { id: 'noisy', namespace: 'n', labels: { app: 'noisy' }, requests: { cpu: 100, memory: GIBIBYTE } };
    expect(planNodes([keeper, noisy], catalogue).nodes).toHaveLength(2);
    expect(planNodes([keeper, { ...noisy, namespace: 'elsewhere' }], catalogue).nodes).toHaveLength(1);
  });

  it('gives each replica a zone of its own while there are zones', () => {
    const plan = planNodes(fleet(6, 500, GIBIBYTE, { antiAffinity: [{ topologyKey: ZONE, selector: { matchLabels: { app: 'a' } } }] }), catalogue);
    expect(new Set(plan.nodes.map(({ offer: { zone } }) => zone)).size).toBe(4);
    expect(plan.unplaced.map(({ reason }) => reason)).toEqual(['no zone is left to keep it apart from others', 'no zone is left to keep it apart from others']);
  });

  it('spreads over zones evenly', () => {
    const plan = planNodes(fleet(10, 500, GIBIBYTE, { spread: [{ topologyKey: ZONE, maxSkew: 1, selector: { matchLabels: { app: 'a' } } }] }), catalogue);
    const counts = Object.values(Object.groupBy(plan.nodes, ({ offer: { zone } }) => zone)).map((nodes) => (nodes ?? []).reduce((sum, { podIds }) => sum + podIds.length, 0));
    expect(counts.sort()).toEqual([2, 2, 3, 3]);
  });

  it('follows volumes, selectors, affinity, architecture and operating system', () => {
    const where = (more: Partial<Pod>) => planNodes(fleet(1, 500, GIBIBYTE, more), catalogue).nodes.map(({ offer: node }) => node)[0];
    expect(where({ zones: ['test-zone-c'] })?.zone).toBe('test-zone-c');
    expect(where({ nodeSelector: { 'kubernetes.io/arch': 'arm64' }, architectures: ['amd64', 'arm64'] })?.architecture).toBe('arm64');
    expect(where({ operatingSystems: ['windows'] })?.operatingSystem).toBe('windows');
    expect(where({ nodeAffinity: [[{ key: 'node.kubernetes.io/instance-type', operator: 'In', values: ['m-8x-amd64-linux'] }], [{ key: 'nowhere', operator: 'Exists' }]] })?.type).toBe('m-8x-amd64-linux');
    expect(where({ nodeSelector: { 'kubernetes.io/arch': 'arm64' } })).toBeUndefined();
  });

  it('minds taints, and what tolerates them', () => {
    const tainted = [offer('gpu', 4000, 16 * GIBIBYTE, 1, { taints: [{ key: 'gpu', value: 'true', effect: 'NoSchedule' }] }), offer('plain', 4000, 16 * GIBIBYTE, 3), offer('soft', 4000, 16 * GIBIBYTE, 2, { taints: [{ key: 'x', effect: 'PreferNoSchedule' }] })];
    const on = (tolerations?: Pod['tolerations']) => planNodes(fleet(1, 500, GIBIBYTE, { tolerations }), tainted).nodes[0]?.offer.type;
    expect([on(), on([{ key: 'gpu', operator: 'Equal', value: 'true' }]), on([{ operator: 'Exists' }]), on([{ key: 'gpu', value: 'false' }])]).toEqual(['soft', 'gpu', 'gpu', 'soft']);
  });

  it('counts daemon sets on every node that admits them, and the most pods of a node', () => {
    const offers = [offer('small', 1000, 4 * GIBIBYTE, 1, { allocatable: { cpu: 1000, memory: 4 * GIBIBYTE, pods: 3 } })];
    const daemon: Pod = { id: 'agent', requests: { cpu: 400, memory: GIBIBYTE } };
    expect(planNodes(fleet(4, 100, 2 ** 20), offers).nodes).toHaveLength(2);
    expect(planNodes(fleet(4, 100, 2 ** 20), offers, { daemonSets: [daemon] }).nodes).toHaveLength(2);
    expect(planNodes(fleet(4, 300, 2 ** 20), offers, { daemonSets: [daemon] }).nodes).toHaveLength(2);
    expect(planNodes(fleet(4, 301, 2 ** 20), offers, { daemonSets: [daemon] }).nodes).toHaveLength(4);
    expect(planNodes(fleet(4, 301, 2 ** 20), offers, { daemonSets: [{ ...daemon, nodeSelector: { pool: 'other' } }] }).nodes).toHaveLength(2);
  });

  it('says why a pod fits nowhere', () => {
    const why = (pod: Partial<Pod>) => planNodes(fleet(1, 500, GIBIBYTE, pod), catalogue).unplaced[0]?.reason ?? '';
    expect(why({ requests: { cpu: 500_000, memory: GIBIBYTE } })).toContain('so much cpu');
    expect(why({ requests: { cpu: 500, memory: GIBIBYTE, 'nvidia.com/gpu': 1 } })).toContain('nvidia.com/gpu');
    expect(why({ requests: { cpu: 200_000, memory: 1500 * GIBIBYTE }, nodeAffinity: [[{ key: 'node.kubernetes.io/instance-type', operator: 'In', values: ['c-256x-amd64-linux', 'm-192x-amd64-linux'] }]] })).toContain('no single node type');
    expect(why({ nodeSelector: { pool: 'db' } })).toContain('node selector');
    expect(why({ zones: ['mars'] })).toContain('zone of a volume');
  });
});

describe('the judge of plans', () => {
  const pods = fleet(2, 600, GIBIBYTE, { antiAffinity: [{ topologyKey: HOSTNAME, selector: { matchLabels: { app: 'a' } } }] });
  const small = offer('small', 1000, 4 * GIBIBYTE, 1);
  const plan = (nodes: { offer: NodeOffer; podIds: string[] }[]) => faultsOf({ nodes, unplaced: [], costPerHour: 0, bound: { costPerHour: 0, proof: 'none', simplestCostPerHour: 0 }, firstFitDecreasingCostPerHour: 0 }, pods);

  it('finds what is wrong', () => {
    expect(plan([{ offer: small, podIds: ['pod-0'] }, { offer: small, podIds: ['pod-1'] }])).toEqual([]);
    expect(plan([{ offer: small, podIds: ['pod-0', 'pod-1'] }]).join()).toMatch(/short of cpu.*keep apart/);
    expect(plan([{ offer: small, podIds: ['pod-0'] }]).join()).toContain('pod-1 is nowhere');
    expect(plan([{ offer: small, podIds: ['pod-0'] }, { offer: small, podIds: ['pod-0'] }, { offer: small, podIds: ['pod-1'] }]).join()).toContain('placed twice');
    expect(plan([{ offer: { ...small, architecture: 'arm64' }, podIds: ['pod-0'] }, { offer: small, podIds: ['pod-1'] }]).join()).toContain('architecture');
  });
});
