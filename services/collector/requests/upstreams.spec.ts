import fc from 'fast-check';
import { entryOf, upstreamOf } from './entry.js';
import { clusterDomainName, countsHere, ServiceIndex, type KnownService } from './upstreams.js';

const service = (namespace: string, name: string, ...ports: KnownService['ports'][number][]): KnownService => ({ namespace, name, ports });
const http = { name: 'http', port: 80, targetPort: 8080 };
const named = (name: string) => upstreamOf({ name });

describe('resolving upstreams', () => {
  it('takes ingress-nginx names apart by the Services that exist', () => {
    const index = new ServiceIndex([service('a', 'b-c', http), service('shop-eu', 'web', http), service('shop', 'eu-api', http)]);
    expect(index.resolve(named('a-b-c-80')).service).toEqual({ namespace: 'a', name: 'b-c' });
    expect(index.resolve(named('shop-eu-web-http')).service).toEqual({ namespace: 'shop-eu', name: 'web' });
    expect(index.resolve(named('shop-eu-api-80')).service).toEqual({ namespace: 'shop', name: 'eu-api' });
  });

  it('says so where two Services are spelled alike, and names both', () => {
    const index = new ServiceIndex([service('a', 'b-c', http), service('a-b', 'c', http)]);
    expect(index.resolve(named('a-b-c-80'))).toEqual({ service: null, reason: 'ambiguous', candidates: [{ namespace: 'a', name: 'b-c' }, { namespace: 'a-b', name: 'c' }] });
  });

  it('knows none of what is not there, and follows a canary', () => {
    const index = new ServiceIndex([service('default', 'web', http), service('default', 'web-canary', http)]);
    expect(index.resolve(null)).toMatchObject({ service: null, reason: 'none' });
    expect(index.resolve(named('gone-web-80'))).toMatchObject({ service: null, reason: 'unknown' });
    expect(index.resolve(named('upstream-default-backend'))).toMatchObject({ service: null, reason: 'unknown' });
    expect(index.resolve(upstreamOf({ name: 'default-web-80', alternativeName: 'default-web-canary-80' })).service).toEqual({ namespace: 'default', name: 'web-canary' });
  });

  it('reads the names of Envoy, Traefik, Kong and HAProxy', () => {
    const index = new ServiceIndex([service('default', 'web', http)]);
    for (const name of ['outbound|80||web.default.svc.cluster.local', 'web.default.svc', 'default-web-80@kubernetes', 'default-web-http@kubernetescrd', 'default.web.80', 'default_web_8080']) {
      expect(index.resolve(named(name)).service).toEqual({ namespace: 'default', name: 'web' });
    }
    expect(clusterDomainName('inbound|8080||')).toBeNull();
  });

  it('finds every Service by its own name, or says that another is called the same', () => {
    const label = fc.stringMatching(/^[a-c](-[a-c]){0,2}$/);
    fc.assert(fc.property(fc.uniqueArray(fc.tuple(label, label, fc.constantFrom(80, 8080)), { maxLength: 12, selector: ([a, b]) => `${a}/${b}` }), (known) => {
      const index = new ServiceIndex(known.map(([namespace, name, port]) => service(namespace, name, { port })));
      for (const [namespace, name, port] of known) {
        expect(index.resolve(named(`${namespace}-${name}-${port}`)).candidates).toContainEqual({ namespace, name });
      }
    }));
  });
});

describe('double logging of a mesh', () => {
  const reached = upstreamOf({ name: 'outbound|80||web.default.svc.cluster.local', address: '10.0.0.1:8080' });
  const unreached = upstreamOf({ name: 'outbound|80||web.default.svc.cluster.local' });

  it('counts the inbound side once', () => {
    expect(countsHere(entryOf({ direction: 'inbound', upstream: reached }), 'sidecar', true)).toBe(true);
    expect(countsHere(entryOf({ direction: 'outbound', upstream: reached }), 'sidecar', true)).toBe(false);
    expect(countsHere(entryOf({ direction: 'outbound', upstream: reached }), 'edge', true)).toBe(false);
  });

  it('counts the outbound side where no inbound side can have logged the request', () => {
    expect(countsHere(entryOf({ direction: 'outbound', upstream: unreached }), 'sidecar', true)).toBe(true);
    expect(countsHere(entryOf({ direction: 'outbound', upstream: reached }), 'edge', false)).toBe(true);
    expect(countsHere(entryOf({ upstream: reached }), 'edge', false)).toBe(true);
  });
});
