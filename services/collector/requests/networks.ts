/** Sets of IPv4 and IPv6 networks (RFC 4632, RFC 4291). IPv4 addresses mapped into IPv6 count as IPv4. */

/** An IPv4 address as a number, an IPv6 address as a bigint; null where the text is no address. */
function parseAddress(text: string): number | bigint | null {
  if (!text.includes(':')) return parseIpv4(text);
  const value = parseIpv6(text.split('%')[0] ?? '');
  return value !== null && value >> 32n === 0xffffn ? Number(value & 0xffff_ffffn) : value;
}

function parseIpv4(text: string): number | null {
  let value = 0;
  let part = -1;
  let parts = 1;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 46) {
      if (part < 0 || ++parts > 4) return null;
      value = value * 256 + part;
      part = -1;
    } else if (code >= 48 && code <= 57) {
      part = (part < 0 ? 0 : part * 10) + code - 48;
      if (part > 255) return null;
    } else return null;
  }
  return parts === 4 && part >= 0 ? value * 256 + part : null;
}

function parseIpv6(text: string): bigint | null {
  const halves = text.split('::');
  if (halves.length > 2) return null;
  const groups = halves.map((half) => (half === '' ? [] : half.split(':')));
  const last = groups.at(-1);
  const tail = last?.at(-1);
  if (last !== undefined && tail?.includes('.')) {
    const v4 = parseIpv4(tail);
    if (v4 === null) return null;
    last.splice(-1, 1, Math.floor(v4 / 65_536).toString(16), (v4 % 65_536).toString(16));
  }
  const [head = [], rest = []] = groups;
  const missing = 8 - head.length - rest.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null;
  let value = 0n;
  for (const group of [...head, ...Array<string>(halves.length === 2 ? missing : 0).fill('0'), ...rest]) {
    if (!/^[0-9a-f]{1,4}$/i.test(group)) return null;
    value = (value << 16n) | BigInt(`0x${group}`);
  }
  return value;
}

/** A network that cannot be read. */
export class InvalidNetworkError extends Error {
  override readonly name = 'InvalidNetworkError';
  constructor(readonly network: string) {
    super(`not a network: ${JSON.stringify(network)} (an address, or an address with a prefix length: 10.0.0.0/8, 2001:db8::/32)`);
  }
}

/**
 * A test for membership in any of the networks (`10.0.0.0/8`, `2001:db8::/32`, a bare address). O(prefix lengths in use) a look-up.
 * @throws InvalidNetworkError for a network that is none
 */
export function networkSet(networks: readonly string[]): (address: string | null) => boolean {
  /** Networks by how much of an address is left out: 2^n for IPv4, n bits for IPv6. */
  const v4 = new Map<number, Set<number>>();
  const v6 = new Map<bigint, Set<bigint>>();
  const add = <K, V>(to: Map<K, Set<V>>, key: K, value: V): void => void to.set(key, (to.get(key) ?? new Set<V>()).add(value));
  for (const network of networks) {
    const [text = '', length] = network.split('/', 2);
    const address = parseAddress(text);
    if (address === null || (length !== undefined && !/^\d{1,3}$/.test(length))) throw new InvalidNetworkError(network);
    const bits = typeof address === 'number' ? 32 : 128;
    const mapped = bits === 32 && text.includes(':');
    const prefix = length === undefined ? bits : Number(length) - (mapped ? 96 : 0);
    if (prefix < 0 || prefix > bits) throw new InvalidNetworkError(network);
    if (typeof address === 'number') add(v4, 2 ** (32 - prefix), Math.floor(address / 2 ** (32 - prefix)));
    else add(v6, BigInt(128 - prefix), address >> BigInt(128 - prefix));
  }
  return (text) => {
    const address = text === null ? null : parseAddress(text);
    if (typeof address === 'number') {
      for (const [size, prefixes] of v4) if (prefixes.has(Math.floor(address / size))) return true;
    } else if (address !== null) {
      for (const [shift, prefixes] of v6) if (prefixes.has(address >> shift)) return true;
    }
    return false;
  };
}
