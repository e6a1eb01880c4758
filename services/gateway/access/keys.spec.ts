import { apiKeysFileSchema, bearerOf, callerOf, mayAct, maySee, resolveCluster, type Caller } from './keys.js';

const caller = (over: Partial<Caller> = {}): Caller => ({ name: 'ann', role: 'operator', clusters: ['*'], ...over });
const known = [{ clusterId: 'eu', name: 'Europe' }, { clusterId: 'us', name: 'America' }];

it('reads a bearer key and nothing else', () => {
  expect(bearerOf('Bearer abc')).toBe('abc');
  expect(bearerOf('bearer abc')).toBe('abc');
  for (const header of [undefined, '', 'abc', 'Basic abc', 'Bearer ', 'Bearer a b', `Bearer ${'x'.repeat(513)}`]) expect(bearerOf(header)).toBeNull();
});

it('finds a caller by the digest of its key', () => {
  const keys = apiKeysFileSchema.parse({ keys: [{ name: 'ann', sha256: 'a'.repeat(64), role: 'viewer', clusters: ['eu'] }] }).keys;
  expect(callerOf(keys, 'a'.repeat(64))).toEqual({ name: 'ann', role: 'viewer', clusters: ['eu'] });
  expect(callerOf(keys, 'b'.repeat(64))).toBeNull();
  expect(apiKeysFileSchema.safeParse({ keys: [{ name: 'ann', sha256: 'plain key', role: 'viewer', clusters: ['eu'] }] }).success).toBe(false);
});

it('lets each role do what is below it', () => {
  expect(mayAct(caller({ role: 'viewer' }), 'operator')).toBe(false);
  expect(mayAct(caller({ role: 'admin' }), 'viewer')).toBe(true);
  expect(maySee(caller({ clusters: ['eu'] }), 'us')).toBe(false);
});

it('finds the cluster meant, by id, by name, or the only one', () => {
  expect(resolveCluster(caller(), 'eu', known)).toBe('eu');
  expect(resolveCluster(caller(), 'America', known)).toBe('us');
  expect(resolveCluster(caller({ clusters: ['us'] }), undefined, known)).toBe('us');
  expect(() => resolveCluster(caller(), undefined, known)).toThrow(/cluster_id: eu, us/);
  expect(() => resolveCluster(caller(), undefined, [])).toThrow(/No cluster has reported/);
  expect(() => resolveCluster(caller(), 'asia', known)).toThrow(/There are: eu, us/);
  expect(() => resolveCluster(caller({ clusters: ['us'] }), 'eu', known)).toThrow(/no cluster eu/);
});
