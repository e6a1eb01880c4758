import fc from 'fast-check';
import { InvalidNetworkError, networkSet } from './networks.js';

describe('network sets', () => {
  it('holds IPv4 and IPv6 networks and bare addresses', () => {
    const inside = networkSet(['10.0.0.0/8', '192.168.1.7', '2001:db8::/32', '::1']);
    for (const address of ['10.255.0.1', '192.168.1.7', '2001:db8:1::5', '::1', '::ffff:10.1.2.3', '2001:0db8:0:0:0:0:0:1%eth0']) expect(inside(address)).toBe(true);
    for (const address of ['11.0.0.1', '192.168.1.8', '2001:db9::1', '::2', 'localhost', '', '10.0.0', '1:2', null]) expect(inside(address)).toBe(false);
  });

  it('reads IPv4 networks that are mapped into IPv6', () => {
    expect(networkSet(['::ffff:10.0.0.0/104'])('10.9.9.9')).toBe(true);
  });

  it.each(['10.0.0.0/33', 'office', '10.0.0.0/x', '::/129', '1:2:3::4::5', '10.0.0.256', '::ffff:10.0.0.0/95', ''])('refuses %j', (network) => {
    expect(() => networkSet([network])).toThrow(InvalidNetworkError);
  });

  it('agrees with arithmetic on IPv4', () => {
    const address = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255));
    const value = (parts: number[]) => parts.reduce((sum, part) => sum * 256 + part, 0);
    fc.assert(fc.property(address, address, fc.integer({ min: 0, max: 32 }), (network, probe, length) => {
      const size = 2 ** (32 - length);
      expect(networkSet([`${network.join('.')}/${length}`])(probe.join('.'))).toBe(Math.floor(value(network) / size) === Math.floor(value(probe) / size));
    }));
  });

  it('never throws on what is no address', () => {
    const inside = networkSet(['10.0.0.0/8', '2001:db8::/32']);
    fc.assert(fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-f:.%]*$/)), (text) => typeof inside(text) === 'boolean'));
  });
});
