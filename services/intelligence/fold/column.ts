/**
 * The packed form of a column of samples, exact. A column is n non-negative safe integers, n known to the reader. Its first
 * byte is `mode + 8 * k`:
 *
 * | mode | what follows |
 * |---|---|
 * | 0 | nothing: all values are 0 |
 * | 1 | the one value of all, a varint |
 * | 2 | the first value, a varint; then the n - 1 differences, zigzag, as Rice codes of parameter k |
 * | 3 | the least value, a varint; then n distances from it as Rice codes of parameter k |
 * | 4, 5 | as 2 and 3, after one byte u: everything is counted in units of 2^u |
 *
 * Varints are protobuf's. A Rice code (Rice and Plaunt, IEEE Trans. Commun. 19, 1971) of v is its quotient v >> k in unary
 * (ones, then a zero) and the k low bits; a quotient of {@link ESCAPE} or more is that many ones, six bits L - 1 and v in L
 * bits, so that a rare jump costs no more than its own length. Bits fill bytes from the top; each column starts at a byte.
 * The writer takes the cheaper of differences (drifting memory) and distances (noise around a level).
 */
const ESCAPE = 16;
const TWO_32 = 2 ** 32;
/** Differences beyond this are not taken: their zigzag form would leave the safe integers. */
const WIDEST_STEP = 2 ** 51;

/** Packed bytes that are no column or segment; a defect of the store, never of an agent. */
export class CorruptPackError extends Error {
  override readonly name = 'CorruptPackError';
}

/** A growing buffer with bytes, varints and bits. */
export class PackWriter {
  private bytes = new Uint8Array(4096);
  private at = 0;
  private accumulator = 0;
  private held = 0;

  get length(): number {
    return this.at;
  }

  reset(): void {
    this.at = 0;
  }

  reserve(more: number): void {
    if (this.at + more <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(this.bytes.length * 2, this.at + more));
    grown.set(this.bytes.subarray(0, this.at));
    this.bytes = grown;
  }

  byte(value: number): void {
    this.reserve(1);
    this.bytes[this.at++] = value;
  }

  varint(value: number): void {
    this.reserve(8);
    const bytes = this.bytes;
    let at = this.at;
    let rest = value;
    while (rest >= 128) {
      bytes[at++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    bytes[at++] = rest;
    this.at = at;
  }

  raw(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  /** At most 24 bits of `value`; the room must be reserved. */
  bits(value: number, count: number): void {
    let accumulator = (this.accumulator << count) | value;
    let held = this.held + count;
    while (held >= 8) {
      held -= 8;
      this.bytes[this.at++] = accumulator >>> held;
    }
    accumulator &= (1 << held) - 1;
    this.accumulator = accumulator;
    this.held = held;
  }

  /**
   * Rice codes of integers below 2^30 with parameter k, from a whole byte on to the next. The loop of all packing: what
   * {@link bits} does is written out in it.
   */
  riceCodes(values: Int32Array, from: number, to: number, k: number): void {
    this.reserve((to - from) * 8 + 8);
    const { bytes } = this;
    const mask = (1 << k) - 1;
    let { at } = this;
    let accumulator = 0;
    let held = 0;
    for (let i = from; i < to; i++) {
      const value = values[i] as number;
      const quotient = value >>> k;
      let code: number;
      let count: number;
      if (quotient < ESCAPE) {
        code = ((1 << quotient) - 1) << 1;
        count = quotient + 1;
        if (count + k <= 24) {
          code = (code << k) | (value & mask);
          count += k;
        } else {
          accumulator = (accumulator << count) | code;
          held += count;
          while (held >= 8) {
            held -= 8;
            bytes[at++] = accumulator >>> held;
          }
          code = value & mask;
          count = k;
        }
      } else {
        const length = 32 - Math.clz32(value);
        accumulator = (accumulator << (ESCAPE + 6)) | ((((1 << ESCAPE) - 1) << 6) | (length - 1));
        held += ESCAPE + 6;
        while (held >= 8) {
          held -= 8;
          bytes[at++] = accumulator >>> held;
        }
        code = value;
        count = length;
      }
      if (count > 24) {
        accumulator = (accumulator << (count - 24)) | (code >>> 24);
        held += count - 24;
        while (held >= 8) {
          held -= 8;
          bytes[at++] = accumulator >>> held;
        }
        code &= 0xffffff;
        count = 24;
      }
      accumulator = (accumulator << count) | code;
      held += count;
      while (held >= 8) {
        held -= 8;
        bytes[at++] = accumulator >>> held;
      }
    }
    if (held > 0) bytes[at++] = accumulator << (8 - held);
    this.at = at;
  }

  /** Fills the last byte with zeros. */
  endBits(): void {
    if (this.held > 0) this.bytes[this.at++] = this.accumulator << (8 - this.held);
    this.accumulator = 0;
    this.held = 0;
  }

  /** A view of what was written, valid until the next write. */
  view(start = 0): Uint8Array {
    return this.bytes.subarray(start, this.at);
  }

  /** A copy of what was written from `start`. */
  take(start = 0): Uint8Array {
    return this.bytes.slice(start, this.at);
  }
}

/** Reads what {@link PackWriter} wrote. */
export class PackReader {
  private accumulator = 0;
  private held = 0;

  constructor(
    private readonly bytes: Uint8Array,
    public at = 0,
  ) {}

  get atEnd(): boolean {
    return this.at >= this.bytes.length;
  }

  byte(): number {
    const value = this.bytes[this.at++];
    if (value === undefined) throw new CorruptPackError('packed bytes end too early');
    return value;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.byte();
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
      if (scale > 2 ** 56) throw new CorruptPackError('a packed varint has no end');
    }
  }

  raw(length: number): Uint8Array {
    if (this.at + length > this.bytes.length) throw new CorruptPackError('packed bytes end too early');
    const view = this.bytes.subarray(this.at, this.at + length);
    this.at += length;
    return view;
  }

  skip(length: number): void {
    this.at += length;
  }

  private refill(): void {
    while (this.held <= 24) {
      this.accumulator |= (this.bytes[this.at++] ?? 0) << (24 - this.held);
      this.held += 8;
    }
  }

  /** At most 24 bits. */
  bits(count: number): number {
    if (count === 0) return 0;
    if (this.held < count) this.refill();
    const value = this.accumulator >>> (32 - count);
    this.accumulator <<= count;
    this.held -= count;
    return value;
  }

  /** Ones up to a zero (which is taken too) or up to {@link ESCAPE}. */
  unary(): number {
    if (this.held <= ESCAPE) this.refill();
    const ones = Math.clz32(~this.accumulator);
    const count = ones >= ESCAPE ? ESCAPE : ones;
    const used = ones >= ESCAPE ? ESCAPE : ones + 1;
    this.accumulator <<= used;
    this.held -= used;
    return count;
  }

  /** Goes on at the next whole byte. @throws {CorruptPackError} when bits were read past the end */
  endBits(): void {
    this.at -= this.held >>> 3;
    this.accumulator = 0;
    this.held = 0;
    if (this.at > this.bytes.length) throw new CorruptPackError('packed bits end too early');
  }
}

function writeWide(out: PackWriter, value: number, bits: number): void {
  if (bits > 48) {
    out.bits(Math.floor(value / 2 ** 48), bits - 48);
    writeWide(out, value % 2 ** 48, 48);
  } else if (bits > 24) {
    out.bits(Math.floor(value / 2 ** 24), bits - 24);
    out.bits(value % 2 ** 24, 24);
  } else out.bits(value, bits);
}

function readWide(reader: PackReader, bits: number): number {
  if (bits > 24) return readWide(reader, bits - 24) * 2 ** 24 + reader.bits(24);
  return reader.bits(bits);
}

function bitLength(value: number): number {
  return value < TWO_32 ? 32 - Math.clz32(value) : 64 - Math.clz32(Math.floor(value / TWO_32));
}

/** How many values have how many bits: enough to choose the parameter by. */
class BitLengths {
  private readonly counts = new Int32Array(65);
  private total = 0;
  private longest = 0;

  clear(): void {
    for (let length = 0; length <= this.longest; length++) this.counts[length] = 0;
    this.total = 0;
    this.longest = 0;
  }

  add(bits: number): void {
    this.counts[bits] = (this.counts[bits] as number) + 1;
    this.total++;
    if (bits > this.longest) this.longest = bits;
  }

  /** Estimated bits of the codes with parameter k: values of one length are taken to lie evenly. */
  private estimate(k: number): number {
    let bits = this.total * (k + 1);
    for (let length = k + 1; length <= this.longest; length++) {
      const count = this.counts[length] as number;
      if (count > 0) bits += count * (length > k + 4 ? ESCAPE + 5 - k + length : 0.75 * (1 << (length - k)) - 0.5);
    }
    return bits;
  }

  /** The parameter with the shortest codes, near the median's length, and their estimated bits. */
  best(): { k: number; bits: number } {
    let median = 0;
    for (let seen = this.counts[0] as number; seen * 2 < this.total; ) seen += this.counts[++median] as number;
    let k = 0;
    let bits = Infinity;
    for (let each = Math.max(0, median - 2); each <= Math.min(31, median + 1); each++) {
      const of = this.estimate(each);
      if (of < bits) {
        k = each;
        bits = of;
      }
    }
    return { k, bits };
  }
}

function writeRice(out: PackWriter, values: Float64Array, from: number, to: number, k: number): void {
  out.reserve((to - from) * 16 + 8);
  const scale = 2 ** k;
  for (let i = from; i < to; i++) {
    const value = values[i] as number;
    const quotient = Math.floor(value / scale);
    if (quotient < ESCAPE) {
      const rest = value - quotient * scale;
      if (quotient + 1 + k <= 24) out.bits(((2 ** (quotient + 1) - 2) << k) | rest, quotient + 1 + k);
      else {
        out.bits(2 ** (quotient + 1) - 2, quotient + 1);
        writeWide(out, rest, k);
      }
    } else {
      const length = bitLength(value);
      out.bits(2 ** ESCAPE - 1, ESCAPE);
      out.bits(length - 1, 6);
      writeWide(out, value, length);
    }
  }
  out.endBits();
}

function readRice(reader: PackReader, values: Float64Array, from: number, to: number, k: number): void {
  const scale = 2 ** k;
  for (let i = from; i < to; i++) {
    const quotient = reader.unary();
    values[i] = quotient < ESCAPE ? quotient * scale + (k <= 24 ? reader.bits(k) : readWide(reader, k)) : readWide(reader, reader.bits(6) + 1);
  }
  reader.endBits();
}

let distances = new Int32Array(64);
let steps = new Int32Array(64);
const distanceLengths = new BitLengths();
const stepLengths = new BitLengths();

/** Packs `count` values of `values` from `start`. */
export function packColumn(out: PackWriter, values: Float64Array, start: number, count: number): void {
  if (count === 0) return;
  const first = values[start] as number;
  let least = first;
  let most = first;
  let low = 0;
  for (let i = start; i < start + count; i++) {
    const value = values[i] as number;
    if (value < least) least = value;
    if (value > most) most = value;
    low |= value;
  }
  if (least === most) {
    if (first === 0) out.byte(0);
    else {
      out.byte(1);
      out.varint(first);
    }
    return;
  }
  const units = low === 0 ? 31 : 31 - Math.clz32(low & -low);
  const perUnit = 2 ** -units;
  if ((most - least) * perUnit >= 2 ** 29) {
    packWide(out, values, start, count, least, units);
    return;
  }
  if (distances.length < count) {
    distances = new Int32Array(count * 2);
    steps = new Int32Array(count * 2);
  }
  distanceLengths.clear();
  stepLengths.clear();
  let previous = (first - least) * perUnit;
  for (let i = 0; i < count; i++) {
    const distance = ((values[start + i] as number) - least) * perUnit;
    const step = distance - previous;
    const zigzag = (step << 1) ^ (step >> 31);
    distances[i] = distance;
    steps[i] = zigzag;
    distanceLengths.add(32 - Math.clz32(distance));
    stepLengths.add(32 - Math.clz32(zigzag));
    previous = distance;
  }
  const byDistance = distanceLengths.best();
  const byStep = stepLengths.best();
  const bySteps = byStep.bits <= byDistance.bits;
  writeHead(out, bySteps, units, bySteps ? byStep.k : byDistance.k, (bySteps ? first : least) * perUnit);
  if (bySteps) out.riceCodes(steps, 1, count, byStep.k);
  else out.riceCodes(distances, 0, count, byDistance.k);
}

function writeHead(out: PackWriter, bySteps: boolean, units: number, k: number, base: number): void {
  out.byte((bySteps ? 2 : 3) + (units > 0 ? 2 : 0) + 8 * k);
  if (units > 0) out.byte(units);
  out.varint(base);
}

/** As {@link packColumn}, for columns whose values lie further apart than 2^29 units. */
function packWide(out: PackWriter, values: Float64Array, start: number, count: number, least: number, units: number): void {
  const scale = 2 ** units;
  const wideDistances = new Float64Array(count);
  const wideSteps = new Float64Array(count);
  distanceLengths.clear();
  stepLengths.clear();
  let widest = 0;
  let previous = values[start] as number;
  for (let i = 0; i < count; i++) {
    const value = values[start + i] as number;
    const step = (value - previous) / scale;
    const zigzag = step < 0 ? -2 * step - 1 : 2 * step;
    wideDistances[i] = (value - least) / scale;
    wideSteps[i] = zigzag;
    if (zigzag > widest) widest = zigzag;
    distanceLengths.add(bitLength(wideDistances[i] as number));
    stepLengths.add(bitLength(zigzag));
    previous = value;
  }
  const byDistance = distanceLengths.best();
  const byStep = stepLengths.best();
  const bySteps = widest < WIDEST_STEP && byStep.bits <= byDistance.bits;
  const k = bySteps ? byStep.k : byDistance.k;
  writeHead(out, bySteps, units, k, (bySteps ? (values[start] as number) : least) / scale);
  if (bySteps) writeRice(out, wideSteps, 1, count, k);
  else writeRice(out, wideDistances, 0, count, k);
}

/** The inverse of {@link packColumn}: writes `count` values to `into` from `start`. @throws {CorruptPackError} */
export function unpackColumn(reader: PackReader, into: Float64Array, start: number, count: number): void {
  if (count === 0) return;
  const head = reader.byte();
  const mode = head & 7;
  const end = start + count;
  if (mode === 0) {
    into.fill(0, start, end);
    return;
  }
  if (mode === 1) {
    into.fill(reader.varint(), start, end);
    return;
  }
  if (mode > 5) throw new CorruptPackError(`a packed column of mode ${mode}`);
  const scale = mode >= 4 ? 2 ** reader.byte() : 1;
  const base = reader.varint();
  const k = head >>> 3;
  if (mode === 2 || mode === 4) {
    readRice(reader, into, start + 1, end, k);
    let value = base;
    into[start] = value * scale;
    for (let i = start + 1; i < end; i++) {
      const zigzag = into[i] as number;
      value += zigzag % 2 === 1 ? -(zigzag + 1) / 2 : zigzag / 2;
      into[i] = value * scale;
    }
  } else {
    readRice(reader, into, start, end, k);
    for (let i = start; i < end; i++) into[i] = (base + (into[i] as number)) * scale;
  }
}

/** Passes over a packed column. */
export function skipColumn(reader: PackReader, count: number): void {
  if (skipped.length < count) skipped = new Float64Array(count * 2);
  unpackColumn(reader, skipped, 0, count);
}
let skipped = new Float64Array(64);

/**
 * Writes which of `span` minutes are there (`rank` not 0): a byte 0 for all of them, 2 for none, else 1 and a bit a minute,
 * lowest bit first. @returns how many there are
 */
export function packPresence(out: PackWriter, rank: Uint8Array, start: number, span: number): number {
  let count = 0;
  for (let i = start; i < start + span; i++) if (rank[i] !== 0) count++;
  out.byte(count === span ? 0 : count === 0 ? 2 : 1);
  if (count === span || count === 0) return count;
  for (let at = 0; at < span; at += 8) {
    let bits = 0;
    for (let i = at; i < span && i < at + 8; i++) if (rank[start + i] !== 0) bits |= 1 << (i - at);
    out.byte(bits);
  }
  return count;
}

/** Reads {@link packPresence} into the minutes' offsets; @returns how many there are. */
export function unpackPresence(reader: PackReader, span: number, minutes: Uint8Array): number {
  const form = reader.byte();
  if (form === 2) return 0;
  if (form === 0) {
    for (let i = 0; i < span; i++) minutes[i] = i;
    return span;
  }
  let count = 0;
  for (let at = 0; at < span; at += 8) {
    const bits = reader.byte();
    for (let i = at; i < span && i < at + 8; i++) if ((bits >> (i - at)) & 1) minutes[count++] = i;
  }
  return count;
}
