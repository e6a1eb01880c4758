/**
 * A UUID that follows from a text: the same text gives the same one everywhere and always. For things that Kubernetes gives no UID of
 * their own (a dependency, an OOM kill, a result). It is FNV-1a (Fowler, Noll, Vo; IETF draft-eastlake-fnv) over UTF-16 units in four
 * lanes of 32 bits, each with its own beginning and odd multiplier, mixed at the end (Murmur3's finaliser); marked as version 8 (RFC 9562: vendor's own).
 */
export function uuidOf(...parts: readonly (string | number)[]): string {
  const lanes = new Uint32Array([0x811c9dc5, 0x9747b28c, 0x1b873593, 0x85ebca6b]);
  const add = (unit: number) => {
    for (let lane = 0; lane < 4; lane++) lanes[lane] = Math.imul((lanes[lane] as number) ^ (unit + lane * 0x9e37), 0x01000193 + 2 * lane);
  };
  for (const part of parts) {
    const text = String(part);
    for (let i = 0; i < text.length; i++) add(text.charCodeAt(i));
    // Parts are told apart: ('a', 'bc') is not ('ab', 'c').
    add(0x1f000 + text.length);
  }
  let mixed = 0;
  const hex: string[] = [];
  for (let round = 0; round < 2; round++) {
    for (let lane = 0; lane < 4; lane++) {
      let value = (lanes[lane] as number) ^ mixed;
      value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
      value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
      mixed = (value ^ (value >>> 16)) >>> 0;
      lanes[lane] = mixed;
    }
  }
  for (const lane of lanes) hex.push(lane.toString(16).padStart(8, '0'));
  const digits = hex.join('');
  const variant = ((Number.parseInt(digits.charAt(16), 16) & 3) | 8).toString(16);
  return `${digits.slice(0, 8)}-${digits.slice(8, 12)}-8${digits.slice(13, 16)}-${variant}${digits.slice(17, 20)}-${digits.slice(20, 32)}`;
}
