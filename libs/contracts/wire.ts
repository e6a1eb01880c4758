/**
 * The protobuf wire format (protobuf.dev/programming-guides/encoding) for flat messages of packed columns, read straight
 * into typed arrays. Field kinds: `uint` (varint), `text`, `texts` (repeated), `bytes`, `column` (packed repeated uint64),
 * `signed` (packed repeated sint64, zigzag). Numbers are safe integers; anything else is malformed.
 */
export type FieldKind = 'uint' | 'text' | 'texts' | 'bytes' | 'column' | 'signed';

export type MessageShape = Readonly<Record<string, readonly [number: number, kind: FieldKind]>>;

type ValueOf<K, C> = K extends 'uint' ? number : K extends 'text' ? string : K extends 'texts' ? readonly string[] : K extends 'bytes' ? Uint8Array : C;
/** What can be encoded: values by field name, each may be left out. */
export type MessageInput<S extends MessageShape> = { readonly [F in keyof S]?: ValueOf<S[F][1], ArrayLike<number>> };
/** A decoded message: every field is there. */
export type MessageOf<S extends MessageShape> = { readonly [F in keyof S]: ValueOf<S[F][1], Float64Array> };

/** Bytes that are no message of the expected shape. */
export class MalformedMessageError extends Error {
  override readonly name = 'MalformedMessageError';
}

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

/** A growing byte buffer with protobuf's primitive writers. */
export class ByteWriter {
  private bytes = new Uint8Array(1024);
  private at = 0;

  get length(): number {
    return this.at;
  }

  reserve(more: number): void {
    if (this.at + more <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(this.bytes.length * 2, this.at + more));
    grown.set(this.bytes.subarray(0, this.at));
    this.bytes = grown;
  }

  /** A safe non-negative integer as a varint. */
  varint(value: number): void {
    this.reserve(10);
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

  reset(): void {
    this.at = 0;
  }

  /** A view of what was written, valid until the next write. */
  view(): Uint8Array {
    return this.bytes.subarray(0, this.at);
  }

  /** A copy of what was written. */
  take(): Uint8Array {
    return this.bytes.slice(0, this.at);
  }
}

function checked(value: number, field: string): number {
  if (!Number.isSafeInteger(value)) throw new RangeError(`${field} holds ${value}: columns hold safe integers`);
  return value;
}

/** Encodes a message; empty columns and zeros are left out, as proto3 does. @throws {RangeError} for a negative or unsafe number in an unsigned field */
export function encodeMessage<S extends MessageShape>(shape: S, message: MessageInput<S>): Uint8Array {
  const out = new ByteWriter();
  const column = new ByteWriter();
  const block = (field: number, bytes: Uint8Array) => {
    out.varint(field * 8 + 2);
    out.varint(bytes.length);
    out.raw(bytes);
  };
  for (const [name, [field, kind]] of Object.entries(shape)) {
    const value = message[name as keyof S];
    if (value === undefined) continue;
    switch (kind) {
      case 'uint': {
        const number = checked(value as number, name);
        if (number < 0) throw new RangeError(`${name} holds ${number}: it cannot be negative`);
        if (number !== 0) {
          out.varint(field * 8);
          out.varint(number);
        }
        break;
      }
      case 'text':
        if (value !== '') block(field, encoder.encode(value as string));
        break;
      case 'texts':
        for (const text of value as readonly string[]) block(field, encoder.encode(text));
        break;
      case 'bytes':
        if ((value as Uint8Array).length > 0) block(field, value as Uint8Array);
        break;
      case 'column':
      case 'signed': {
        const numbers = value as ArrayLike<number>;
        if (numbers.length === 0) break;
        column.reset();
        for (let i = 0; i < numbers.length; i++) {
          const number = checked(numbers[i] as number, name);
          if (kind === 'signed') column.varint(number < 0 ? -2 * number - 1 : 2 * number);
          else if (number < 0) throw new RangeError(`${name}[${i}] holds ${number}: it cannot be negative`);
          else column.varint(number);
        }
        block(field, column.view());
        break;
      }
    }
  }
  return out.take();
}

const TWO_POW_53 = 2 ** 53;

function unpack(bytes: Uint8Array, start: number, end: number, signed: boolean, name: string): Float64Array {
  let count = 0;
  for (let i = start; i < end; i++) if ((bytes[i] as number) < 128) count++;
  const out = new Float64Array(count);
  let at = start;
  for (let i = 0; i < count; i++) {
    let byte = bytes[at++] as number;
    let value = byte;
    if (byte >= 128) {
      value = byte & 127;
      let scale = 128;
      do {
        byte = bytes[at++] as number;
        value += (byte & 127) * scale;
        scale *= 128;
      } while (byte >= 128);
      if (value >= TWO_POW_53) throw new MalformedMessageError(`${name}[${i}] is negative or over 2^53`);
    }
    out[i] = signed ? (value % 2 === 1 ? -(value + 1) / 2 : value / 2) : value;
  }
  if (at !== end) throw new MalformedMessageError(`${name} ends inside a number`);
  return out;
}

/**
 * Decodes a message. Unknown fields are passed over; missing ones are empty or zero; a column may come in several blocks.
 * @throws {MalformedMessageError} where the bytes are cut, a number is negative or over 2^53, or a field has another wire type
 */
export function decodeMessage<S extends MessageShape>(shape: S, bytes: Uint8Array): MessageOf<S> {
  const byNumber: (readonly [string, FieldKind] | undefined)[] = [];
  const message: Record<string, unknown> = {};
  for (const [name, [number, kind]] of Object.entries(shape)) {
    byNumber[number] = [name, kind];
    message[name] = kind === 'uint' ? 0 : kind === 'text' ? '' : kind === 'texts' ? [] : kind === 'bytes' ? new Uint8Array(0) : new Float64Array(0);
  }
  let at = 0;
  const varint = (what: string): number => {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = bytes[at++];
      if (byte === undefined) throw new MalformedMessageError(`the message ends inside ${what}`);
      value += (byte & 127) * scale;
      if (byte < 128) break;
      scale *= 128;
      if (scale > 2 ** 70) throw new MalformedMessageError(`${what} is no varint`);
    }
    if (value >= TWO_POW_53) throw new MalformedMessageError(`${what} is negative or over 2^53`);
    return value;
  };
  while (at < bytes.length) {
    const tag = varint('a tag');
    const number = Math.floor(tag / 8);
    const wireType = tag % 8;
    const known = byNumber[number];
    const name = known?.[0] ?? `field ${number}`;
    if (wireType === 0) {
      const value = varint(name);
      if (!known) continue;
      if (known[1] !== 'uint') throw new MalformedMessageError(`${name} has the wire type of a number`);
      message[name] = value;
    } else if (wireType === 2) {
      const length = varint(`the length of ${name}`);
      const end = at + length;
      if (end > bytes.length) throw new MalformedMessageError(`the message ends inside ${name}`);
      if (known) {
        switch (known[1]) {
          case 'uint':
            throw new MalformedMessageError(`${name} has the wire type of a block`);
          case 'text':
          case 'texts': {
            let text: string;
            try {
              text = decoder.decode(bytes.subarray(at, end));
            } catch (cause) {
              throw new MalformedMessageError(`${name} is no UTF-8`, { cause });
            }
            if (known[1] === 'text') message[name] = text;
            else (message[name] as string[]).push(text);
            break;
          }
          case 'bytes':
            message[name] = bytes.subarray(at, end);
            break;
          default: {
            const more = unpack(bytes, at, end, known[1] === 'signed', name);
            const before = message[name] as Float64Array;
            if (before.length === 0) message[name] = more;
            else {
              const joined = new Float64Array(before.length + more.length);
              joined.set(before);
              joined.set(more, before.length);
              message[name] = joined;
            }
          }
        }
      }
      at = end;
    } else if (wireType === 5 || wireType === 1) {
      if (known) throw new MalformedMessageError(`${name} has wire type ${wireType}`);
      at += wireType === 5 ? 4 : 8;
      if (at > bytes.length) throw new MalformedMessageError(`the message ends inside ${name}`);
    } else {
      throw new MalformedMessageError(`${name} has wire type ${wireType}`);
    }
  }
  return message as MessageOf<S>;
}
