import fc from 'fast-check';
import { FilterSyntaxError, matches, parseFilter, sanitizeKey, type Filter, type LineProperties } from './filter.js';

const line: LineProperties = {
  cluster: 'prod', node: 'n1', namespace: 'kube-system', pod: 'dns-1', container: 'dns', controller: 'coredns', controllerKind: 'deployment', providerId: 'i-1',
  services: ['kube-dns', 'metrics'], labels: { app: 'dns', app_kubernetes_io_name: 'coredns' }, annotations: { team: 'infra' },
};

describe('a filter matches', () => {
  it.each([
    ['', true], ['namespace:"kube-system"', true], ['namespace:"kube-syste"', false], ['namespace!:"kube-system"', false], ['namespace~:"e-s"', true], ['namespace!~:"e-s"', false],
    ['namespace<~:"kube"', true], ['namespace!<~:"kube"', false], ['namespace~>:"system"', true], ['namespace!~>:"system"', false],
    ['namespace:"a","kube-system"', true], ['namespace!:"a","kube-system"', false], ['namespace!:"a","b"', true],
    ['cluster:"prod"+node:"n1"', true], ['cluster:"dev"|node:"n1"', true], ['cluster:"dev"+(node:"n1"|pod:"x")', false], ['(cluster:"dev"|node:"n1")+container:"dns"', true],
    ['controllerName:"coredns" + controllerKind:"deployment"', true], ['provider:"i-1"', true],
    ['services:"metrics"', true], ['services:"metric"', false], ['services~:"metrics"', true], ['services<~:"kube"', true], ['services~>:"rics"', true], ['services!:"metrics"', false], ['services:"__unallocated__"', false],
    ['label[app]:"dns"', true], ['label[app.kubernetes.io/name]:"coredns"', true], ['label[app]~:"n"', true], ['label[none]:"__unallocated__"', true], ['label[none]!:""', false],
    ['label:"app"', true], ['label:"app.kubernetes.io/name"', true], ['label!:"app"', false], ['label<~:"app_k"', true], ['label~>:"_name"', true], ['label~:"none"', false],
    ['annotation[team]:"infra"', true], ['annotation:"team"', true], ['annotation[none]:"x"', false], ['annotation<~:"x"', false],
    ['team:"infra"', true], ['product:"dns"', true], ['owner:"__unallocated__"', true], ['owner:""', true], ['owner:"x"', false], ['environment!:"x"', true], ['department~:"x"', false],
    ['((cluster:"prod"))', true], ['cluster : "prod"', true],
  ])('%s: %s', (text, expected) => {
    expect(matches(parseFilter(text), line)).toBe(expected);
  });

  it('what is empty: no services, no labels', () => {
    const bare: LineProperties = { cluster: 'c' };
    expect(['services:"__unallocated__"', 'services:"x"', 'label[app]:""', 'label:"app"', 'team:"__unallocated__"', 'provider:""', 'namespace:"__unallocated__"'].map((text) => matches(parseFilter(text), bare)))
      .toEqual([true, false, true, false, true, true, true]);
  });

  it('aliases as they are set', () => {
    expect(matches(parseFilter('team:"dns"'), line, { department: 'd', environment: 'e', owner: 'o', product: 'p', team: 'app' })).toBe(true);
  });
});

describe('a filter that does not follow the grammar says where', () => {
  it.each([
    ['namespace', 9, 'an operator'], ['namespace:', 10, 'a text in double quotes'], ['namespace:kube', 10, 'a text in double quotes'], ['colour:"x"', 0, 'a field'],
    ['namespace:"x', 10, 'a quoted text'], ['namespace:"x"+', 14, 'a field'], ['namespace:"x" cluster:"y"', 14, '+ | or the end'], ['namespace:"x"+pod:"y"|pod:"z"', 21, '+ and | are not mixed'],
    ['(namespace:"x"', 14, '+ | or )'], ['namespace:"x")', 13, '+ | or the end'], ['()', 1, 'a field'], ['namespace[x]:"y"', 9, 'an operator'], ['label[app:"y"', 5, 'a quoted text'],
    ['namespace:"x",', 14, 'a text in double quotes'], ['namespace!"x"', 9, 'an operator'], ['näme:"x"', 1, 'a field'], ['"x":"y"', 0, 'a field'],
  ])('%s at %i: expected %s', (text, position, expected) => {
    const read = (): Filter => parseFilter(text);
    expect(read).toThrow(FilterSyntaxError);
    expect(read).toThrow(expected);
    try {
      read();
    } catch (error) {
      expect((error as FilterSyntaxError).position).toBe(position);
    }
  });

  it('refuses to nest without end', () => {
    expect(() => parseFilter('('.repeat(5000))).toThrow(FilterSyntaxError);
  });
});

describe('laws', () => {
  const value = fc.constantFrom('a', 'b', 'kube-system', 'dns', '');
  const comparison = fc.tuple(fc.constantFrom('cluster', 'namespace', 'pod', 'services', 'label[app]', 'label', 'annotation[team]', 'team'), fc.constantFrom(':', '!:', '~:', '!~:', '<~:', '!<~:', '~>:', '!~>:'), fc.array(value, { minLength: 1, maxLength: 3 }))
    .map(([field, operator, values]) => `${field}${operator}${values.map((each) => `"${each}"`).join(',')}`);
  const { filter } = fc.letrec<{ filter: string }>((tie) => ({
    filter: fc.oneof({ depthSize: 'small', withCrossShrink: true }, comparison, fc.tuple(fc.constantFrom('+', '|'), fc.array(tie('filter'), { minLength: 2, maxLength: 3 })).map(([joint, parts]) => `(${parts.join(joint)})`)),
  }));
  const lines = fc.record({ cluster: value, namespace: value, pod: value, services: fc.array(value, { maxLength: 2 }), labels: fc.dictionary(fc.constantFrom('app', 'team'), value), annotations: fc.dictionary(fc.constant('team'), value) });

  it('a negated operator matches exactly what the plain one with the same texts does not', () => {
    fc.assert(fc.property(comparison.filter((text) => text.includes('!')), lines, (text, each) => {
      expect(matches(parseFilter(text), each)).toBe(!matches(parseFilter(text.replace('!', '')), each));
    }));
  });

  it('+ is and, | is or, and parentheses change nothing else', () => {
    fc.assert(fc.property(filter, filter, lines, (left, right, each) => {
      const of = (text: string): boolean => matches(parseFilter(text), each);
      expect(of(`(${left})+(${right})`)).toBe(of(left) && of(right));
      expect(of(`(${left})|(${right})`)).toBe(of(left) || of(right));
    }));
  });

  it('any text is read or refused with a FilterSyntaxError', () => {
    const scraps = fc.array(fc.constantFrom('namespace', 'label', '[app]', ':', '!~:', '"x"', '(', ')', '+', '|', ',', ' ', '"', '[', '~', '!', 'é'), { maxLength: 12 }).map((parts) => parts.join(''));
    fc.assert(fc.property(fc.oneof(scraps, fc.string()), (text) => {
      try {
        parseFilter(text);
      } catch (error) {
        expect(error).toBeInstanceOf(FilterSyntaxError);
      }
    }), { numRuns: 2000 });
  });

  it('sanitises keys as Prometheus does', () => {
    expect(sanitizeKey('app.kubernetes.io/name-1')).toBe('app_kubernetes_io_name_1');
  });
});
