/** Sets of IPv4 and IPv6 networks (RFC 4632, RFC 4291). IPv4 addresses mapped into IPv6 count as IPv4. */

/** The address as its bytes' value and width in bits; null where the text is no address. */
function parseAddress(text: string): { value: bigint; bits: 32 | 128 } | null {
  if (!text.includes(':')) {
    const value = parseIpv4(text);
    return value === null ? null : { value, bits: 32 };
  }
  const value = parseIpv6(text.split('%')[0] ?? '');
  if (value === null) return null;
  return value >> 32n === 0xffffn ? { value: value & 0xffff_ffffn, bits: 32 } : { value, bits: 128 };
}

function parseIpv4(text: string): bigint | null {
  const parts = text.split('.');
  if (parts.length !== 4) return null;
  let value = 0n;
  for (const part of parts) {
    if (!/^\d{1,3}$/.test(part) || Number(part) > 255) return null;
    value = (value << 8n) | BigInt(part);
  }
  return value;
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
    last.splice(-1, 1, (v4 >> 16n).toString(16), (v4 & 0xffffn).toString(16));
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
  /** Networks by width and prefix length. */
  const byLength = new Map<string, { bits: number; shift: bigint; prefixes: Set<bigint> }>();
  for (const network of networks) {
    const [text = '', length] = network.split('/', 2);
    const address = parseAddress(text);
    if (address === null || (length !== undefined && !/^\d{1,3}$/.test(length))) throw new InvalidNetworkError(network);
    const mapped = text.includes(':') && address.bits === 32;
    const prefix = length === undefined ? address.bits : Number(length) - (mapped ? 96 : 0);
    if (prefix < 0 || prefix > address.bits) throw new InvalidNetworkError(network);
    const shift = BigInt(address.bits - prefix);
    const key = `${address.bits}/${prefix}`;
    const group = byLength.get(key) ?? { bits: address.bits, shift, prefixes: new Set<bigint>() };
    group.prefixes.add(address.value >> shift);
    byLength.set(key, group);
  }
  const groups = [...byLength.values()];
  if (groups.length === 0) return () => false;
  return (text) => {
    const address = text === null ? null : parseAddress(text);
    return address !== null && groups.some(({ bits, shift, prefixes }) => bits === address.bits && prefixes.has(address.value >> shift));
  };
}
