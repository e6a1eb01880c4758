import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import {
  aggregate, groupName, inNamespaces, noCosts, parseAggregation, totalOf, UnknownPropertyError, type AggregatedLine, type AggregationOptions, type CostLine, type IdleSharing, type LineCosts,
} from './aggregate.js';
import { parseFilter, type Filter, type LineProperties } from './filter.js';

interface GoldenLine extends Record<Exclude<keyof LineCosts, never> | 'total', number> {
  readonly name: string;
  readonly cluster: string;
  readonly cpuCoreHours: number;
}
interface Golden {
  readonly inputs: Record<string, (GoldenLine & { readonly node?: string; readonly labels?: Record<string, string> })[]>;
  readonly cases: { readonly input: string; readonly aggregate_by: string[]; readonly share_idle: IdleSharing; readonly shared_namespaces: string[]; readonly share_split: 'even' | 'weighted'; readonly result: GoldenLine[] }[];
}

const golden = JSON.parse(readFileSync(join(process.cwd(), 'testdata/cost-allocation/opencost-golden.json'), 'utf8')) as Golden;
const kinds = ['cpu', 'ram', 'gpu', 'pv', 'network', 'loadBalancer', 'shared', 'external'] as const;
const day = 86_400_000;

function line(raw: GoldenLine): CostLine {
  const { name, cpuCoreHours, ...rest } = raw;
  const costs = Object.fromEntries(kinds.map((kind) => [kind, BigInt(Math.round(raw[kind] * 1e9))])) as unknown as LineCosts;
  return { name, kind: name.includes('__idle__') ? 'idle' : 'container', properties: rest, startMs: 0, endMs: day, costs, quantities: { cpuCoreHours } };
}

const sumOf = (lines: readonly { costs: LineCosts }[]): bigint => lines.reduce((sum, { costs }) => sum + totalOf(costs), 0n);
const dollars = (nanos: bigint): number => Number(nanos) / 1e9;

describe("OpenCost's answers", () => {
  it.each(golden.cases.map((each, i) => [i, `${each.input} by ${each.aggregate_by.join(',')}, idle ${each.share_idle}, shared ${each.shared_namespaces.join(',') || 'none'} ${each.share_split}`, each] as const))('%i: %s', (_, __, each) => {
    const lines = (golden.inputs[each.input] ?? []).map(line);
    const results = aggregate(lines, parseAggregation(each.aggregate_by.join(',')), {
      shareIdle: each.share_idle, shareSplit: each.share_split, ...(each.shared_namespaces.length > 0 && { share: inNamespaces(each.shared_namespaces) }),
    });
    expect(results.map(({ name }) => name)).toEqual(each.result.map(({ name }) => name).sort());
    for (const expected of each.result) {
      const found = results.find(({ name }) => name === expected.name) as AggregatedLine;
      for (const kind of kinds) expect(Math.abs(dollars(found.costs[kind]) - expected[kind])).toBeLessThanOrEqual(1e-6);
      expect(Math.abs(dollars(found.totalNanos) - expected.total)).toBeLessThanOrEqual(1e-6);
    }
    expect(sumOf(results)).toBe(sumOf(lines));
  });
});

interface Answers {
  readonly inputs: Record<string, (Partial<LineCostsInDollars> & { readonly name: string; readonly properties: LineProperties })[]>;
  readonly cases: {
    readonly input: string; readonly by: string[]; readonly idle: IdleSharing; readonly by_node: boolean; readonly split_idle: boolean; readonly share_split: 'even' | 'weighted'; readonly share: string; readonly filter: string;
    readonly result: (Partial<LineCostsInDollars> & { readonly name: string })[];
  }[];
}
type LineCostsInDollars = Record<(typeof kinds)[number], number>;

describe("OpenCost's answers to random questions, with filters", () => {
  const answers = JSON.parse(readFileSync(join(process.cwd(), 'services/cost/analysis/fixtures/opencost-answers.json'), 'utf8')) as Answers;
  it.each(answers.cases.map((each, i) => [i, `${each.by.join(',')} ${each.filter}`, each] as const))('%i: %s', (_, __, each) => {
    const lines = (answers.inputs[each.input] ?? []).map(({ name, properties, ...raw }): CostLine => ({
      name, kind: name.includes('__idle__') ? 'idle' : 'container', properties, startMs: 0, endMs: day,
      costs: Object.fromEntries(kinds.map((kind) => [kind, BigInt(Math.round((raw[kind] ?? 0) * 1e9))])) as unknown as LineCosts,
    }));
    const results = aggregate(lines, parseAggregation(each.by.join(',')), {
      shareIdle: each.idle, idleByNode: each.by_node, splitIdle: each.split_idle, shareSplit: each.share_split, filter: parseFilter(each.filter), ...(each.share !== '' && { share: inNamespaces([each.share]) }),
    });
    expect(results.map(({ name }) => name)).toEqual(each.result.map(({ name }) => name).sort());
    for (const expected of each.result) {
      const found = results.find(({ name }) => name === expected.name) as AggregatedLine;
      for (const kind of kinds) expect(Math.abs(dollars(found.costs[kind]) - (expected[kind] ?? 0))).toBeLessThanOrEqual(1e-6);
    }
  });
});

describe('names of groups', () => {
  const pod = { cluster: 'c', namespace: 'n', pod: 'p', container: 'x', controller: 'd', controllerKind: 'deployment', services: ['b', 'a'], labels: { team: 'red', app_kubernetes_io_name: 'shop' }, annotations: { owner: 'ann' } };
  it.each([
    ['cluster,namespace', 'c/n'], ['node', ''], ['controller', 'deployment:d'], ['controllerkind', 'deployment'], ['Deployment', 'd'], ['statefulset', '__unallocated__'],
    ['pod,container', 'p/x'], ['service', 'b'], ['label:app.kubernetes.io/name', 'shop'], ['label:none', '__unallocated__'], ['annotation:owner', 'ann'],
    ['team', 'red'], ['owner', 'ann'], ['department', '__unallocated__'], ['namespace,label:team', 'n/red'], ['all', ''], ['', 'c//n/p/x'], ['providerID', ''],
  ])('%s: %s', (by, name) => {
    expect(groupName(pod, parseAggregation(by))).toBe(name);
  });

  it('says unallocated for what has no controller, service or label', () => {
    const bare = { cluster: 'c', pod: 'p' };
    expect(groupName(bare, parseAggregation('controller,controllerKind,service,label:x,annotation:y,job'))).toBe(Array(6).fill('__unallocated__').join('/'));
    expect(groupName({ ...bare, controller: 'rs' }, parseAggregation('controller'))).toBe('rs');
    expect(groupName({ cluster: 'c', namespace: '__unmounted__', services: ['lb'] }, parseAggregation('service'))).toBe('__unmounted__');
  });

  it('follows aliases that were set', () => {
    expect(groupName({ cluster: 'c', labels: { squad: 'blue' } }, ['team'], { department: 'd', environment: 'e', owner: 'o', product: 'p', team: 'squad' })).toBe('blue');
  });

  it('refuses what it does not know, with what it knows', () => {
    expect(() => parseAggregation('namespace,colour')).toThrow(UnknownPropertyError);
    expect(() => parseAggregation('colour')).toThrow('known are cluster, node');
  });
});

const container = (name: string, namespace: string, cpu: bigint, more: Partial<CostLine> = {}): CostLine => ({
  name, kind: 'container', properties: { cluster: 'c1', namespace, pod: name }, startMs: 0, endMs: day, costs: { ...noCosts, cpu }, quantities: { cpuCoreHours: Number(cpu) }, ...more,
});
const idleLine = (cpu: bigint, gpu = 0n, more: Partial<CostLine> = {}): CostLine => ({
  name: 'c1/__idle__', kind: 'idle', properties: { cluster: 'c1' }, startMs: 0, endMs: day, costs: { ...noCosts, cpu, gpu }, quantities: { cpuCoreHours: 10, gpuHours: 4 }, ...more,
});
const named = (lines: readonly AggregatedLine[]): Record<string, bigint> => Object.fromEntries(lines.map(({ name, totalNanos }) => [name, totalNanos]));

describe('sharing', () => {
  const lines = [container('a', 'one', 30n), container('b', 'two', 10n), idleLine(8n, 5n)];

  it('shares idle by cost, hours with it, and keeps as idle what nobody has a cost of', () => {
    const results = aggregate(lines, ['namespace'], { shareIdle: 'weighted' });
    expect(named(results)).toEqual({ one: 36n, two: 12n, __idle__: 5n });
    expect(results.map(({ quantities }) => quantities)).toEqual([{ gpuHours: 4 }, { cpuCoreHours: 37.5 }, { cpuCoreHours: 12.5 }]);
  });

  it('keeps the idle of a cluster without containers', () => {
    expect(named(aggregate([...lines, idleLine(7n, 0n, { name: 'c2/__idle__', properties: { cluster: 'c2' } })], ['namespace'], { shareIdle: 'weighted', splitIdle: true })))
      .toEqual({ one: 36n, two: 12n, 'c1/__idle__': 5n, 'c2/__idle__': 7n });
  });

  it('shares by node where asked', () => {
    const on = (node: string, each: CostLine): CostLine => ({ ...each, properties: { ...each.properties, node } });
    const nodes = [on('n1', container('a', 'one', 30n)), on('n2', container('b', 'two', 10n)), on('n2', idleLine(8n))];
    expect(named(aggregate(nodes, ['namespace'], { shareIdle: 'weighted', idleByNode: true }))).toEqual({ one: 30n, two: 18n });
    expect(named(aggregate(nodes, ['namespace'], { shareIdle: 'weighted' }))).toEqual({ one: 36n, two: 12n });
  });

  it('keeps idle apart or as one', () => {
    expect(named(aggregate(lines, ['namespace']))).toEqual({ one: 30n, two: 10n, __idle__: 13n });
    expect(named(aggregate(lines, ['namespace'], { splitIdle: true }))).toEqual({ one: 30n, two: 10n, 'c1/__idle__': 13n });
  });

  it('a filter keeps the idle that would have been shared with what it shows', () => {
    const filter = parseFilter('namespace:"one"');
    expect(named(aggregate([lines[0], lines[1], idleLine(8n)] as CostLine[], ['namespace'], { filter }))).toEqual({ one: 30n, __idle__: 6n });
    expect(named(aggregate([lines[0], lines[1], idleLine(8n)] as CostLine[], ['namespace'], { filter, shareIdle: 'weighted' }))).toEqual({ one: 36n });
  });

  it('a filter does not make others carry more of the shared cost', () => {
    const three = [container('a', 'one', 30n), container('b', 'two', 10n), container('s', 'system', 8n)];
    const share = inNamespaces(['system']);
    expect(named(aggregate(three, ['namespace'], { share, filter: parseFilter('namespace:"two"') }))).toEqual({ two: 12n });
    expect(named(aggregate(three, ['namespace'], { share, shareSplit: 'even' }))).toEqual({ one: 34n, two: 14n });
  });

  it("spreads a cluster's fee, evenly where nothing has a cost", () => {
    expect(named(aggregate([container('a', 'one', 0n), container('b', 'two', 0n)], ['namespace'], { sharedCostNanos: 9n }))).toEqual({ one: 5n, two: 4n });
  });

  it('loses nothing where everything is shared', () => {
    expect(named(aggregate(lines, ['namespace'], { share: inNamespaces(['one', 'two']), shareIdle: 'weighted' }))).toEqual({ __shared__: 48n, __idle__: 5n });
  });

  it('adds costs from outside the cluster to their group, and lets unmounted volumes carry no shared cost', () => {
    const bucket: CostLine = { ...container('bucket', 'one', 0n), kind: 'external', costs: { ...noCosts, external: 4n } };
    const volume: CostLine = { ...container('pv', '__unmounted__', 0n), kind: 'unmounted', costs: { ...noCosts, pv: 6n } };
    expect(named(aggregate([...lines.slice(0, 2), bucket, volume], ['namespace'], { sharedCostNanos: 8n }))).toEqual({ one: 40n, two: 12n, __unmounted__: 6n });
  });

  it('merges unallocated names and keeps what the lines of a group have in common', () => {
    const [first] = aggregate([container('a', 'one', 1n), container('b', 'one', 2n)], parseAggregation('namespace,label:app'), { mergeUnallocated: true });
    expect(first).toMatchObject({ name: '__unallocated__', properties: { cluster: 'c1', namespace: 'one', pod: undefined }, totalNanos: 3n });
  });
});

describe('laws', () => {
  const amount = fc.bigInt({ min: 0n, max: 10n ** 12n });
  const arbitraryCosts = fc.record({ cpu: amount, ram: amount, gpu: fc.constantFrom(0n, 5n), pv: amount, network: amount, loadBalancer: amount, shared: fc.constant(0n), external: fc.constant(0n) });
  const arbitraryLine: fc.Arbitrary<CostLine> = fc.record({
    kind: fc.constantFrom<CostLine['kind']>('container', 'container', 'container', 'idle', 'unmounted', 'external'),
    cluster: fc.constantFrom('c1', 'c2'), node: fc.constantFrom('n1', 'n2'), namespace: fc.constantFrom('a', 'b', 'c'), app: fc.option(fc.constantFrom('x', 'y')), costs: arbitraryCosts,
  }).map(({ kind, cluster, node, namespace, app, costs }) => ({
    name: '', kind, properties: kind === 'idle' ? { cluster, node } : { cluster, node, namespace, pod: 'p', ...(app && { labels: { app } }) }, startMs: 0, endMs: day,
    costs: kind === 'idle' ? { ...noCosts, cpu: costs.cpu, ram: costs.ram, gpu: costs.gpu } : costs,
  }));
  const arbitraryLines = fc.array(arbitraryLine, { minLength: 1, maxLength: 40 }).map((lines) => lines.map((each, i) => ({ ...each, name: `line-${i}` })));
  const arbitraryOptions: fc.Arbitrary<AggregationOptions> = fc.record({
    shareIdle: fc.constantFrom<IdleSharing>('none', 'even', 'weighted'), idleByNode: fc.boolean(), splitIdle: fc.boolean(), shareSplit: fc.constantFrom('even', 'weighted'),
    mergeUnallocated: fc.boolean(), sharedCostNanos: fc.constantFrom(0n, 1_000_001n), share: fc.option(fc.constant<Filter>(inNamespaces(['a'])), { nil: undefined }),
  });
  const by = fc.constantFrom('cluster', 'namespace', 'label:app', 'cluster,namespace', 'node,team', 'all', 'pod,service').map(parseAggregation);

  it('what goes in comes out, to the nano', () => {
    fc.assert(fc.property(arbitraryLines, by, arbitraryOptions, (lines, properties, options) => {
      expect(sumOf(aggregate(lines, properties, options))).toBe(sumOf(lines) + (options.sharedCostNanos ?? 0n));
    }), { numRuns: 2000 });
  });

  it('a filter and its opposite share nothing out twice: each line is in one of the two answers', () => {
    fc.assert(fc.property(arbitraryLines.map((lines) => lines.filter(({ kind }) => kind === 'container')), by, fc.constantFrom('even', 'weighted'), (lines, properties, shareSplit) => {
      fc.pre(lines.length > 0);
      const filter = parseFilter('namespace:"b"');
      const one = aggregate(lines, properties, { filter, shareSplit });
      const other = aggregate(lines, properties, { filter: { op: 'not', of: filter }, shareSplit });
      expect(sumOf(one) + sumOf(other)).toBe(sumOf(lines));
    }), { numRuns: 500 });
  });
});
