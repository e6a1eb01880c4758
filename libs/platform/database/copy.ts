import { once } from 'node:events';
import { from as copyFrom } from 'pg-copy-streams';
import type { Tx } from './database.js';

/** Column types of {@link copyIn}. */
export type CopyType =
  | 'bool' | 'int2' | 'int4' | 'int8' | 'float4' | 'float8' | 'bytea' | 'text' | 'uuid' | 'timestamptz' | 'date' | 'jsonb' | 'json' | 'numeric'
  | 'bool[]' | 'int2[]' | 'int4[]' | 'int8[]' | 'float4[]' | 'float8[]' | 'bytea[]' | 'text[]' | 'uuid[]' | 'timestamptz[]';

/** A value that does not fit its column. */
export class CopyValueError extends Error {
  override readonly name = 'CopyValueError';
}

/** Microseconds from the unix epoch to PostgreSQL's (2000-01-01), in ms. */
const PG_EPOCH_MS = 946_684_800_000;
const CHUNK_BYTES = 64 * 1024;
/** Type numbers of array elements (pg_type.dat). */
const OIDS: Record<string, number> = { bool: 16, bytea: 17, int8: 20, int2: 21, int4: 23, text: 25, float4: 700, float8: 701, timestamptz: 1184, uuid: 2950 };
const IDENTIFIER = /^[a-z_][a-z0-9_]{0,62}$/;

/**
 * Rows as PostgreSQL's binary COPY format (documentation, COPY, "Binary Format"): a header, each row as a count of fields and each field as a
 * length and its bytes in network order, a trailer. Written into one growing buffer that is handed out in chunks.
 */
export class BinaryCopyEncoder {
  private buffer = Buffer.allocUnsafe(2 * CHUNK_BYTES);
  private at = 0;

  constructor(private readonly columns: readonly { readonly name: string; readonly type: CopyType }[]) {
    this.at += this.buffer.write('PGCOPY\n\xff\r\n\0', this.at, 'latin1');
    this.at = this.buffer.writeInt32BE(0, this.at);
    this.at = this.buffer.writeInt32BE(0, this.at);
  }

  /** @throws {CopyValueError} naming the column */
  row(values: readonly unknown[]): void {
    if (values.length !== this.columns.length) throw new CopyValueError(`A row has ${values.length} values for ${this.columns.length} columns`);
    this.room(2);
    this.at = this.buffer.writeInt16BE(values.length, this.at);
    for (let i = 0; i < values.length; i++) {
      const column = this.columns[i];
      if (column) this.field(column.type, values[i], column.name);
    }
  }

  /** What is encoded so far, once it fills a chunk (or `all`); the next row goes into a new buffer. */
  take(all = false): Buffer | null {
    if (this.at === 0 || (!all && this.at < CHUNK_BYTES)) return null;
    const taken = this.buffer.subarray(0, this.at);
    this.buffer = Buffer.allocUnsafe(2 * CHUNK_BYTES);
    this.at = 0;
    return taken;
  }

  end(): void {
    this.room(2);
    this.at = this.buffer.writeInt16BE(-1, this.at);
  }

  private room(bytes: number): void {
    if (this.at + bytes <= this.buffer.length) return;
    const bigger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.at + bytes));
    this.buffer.copy(bigger, 0, 0, this.at);
    this.buffer = bigger;
  }

  private field(type: CopyType, value: unknown, column: string): void {
    if (value === null || value === undefined) {
      this.room(4);
      this.at = this.buffer.writeInt32BE(-1, this.at);
      return;
    }
    try {
      if (type.endsWith('[]')) this.array(type.slice(0, -2), value, column);
      else this.scalar(type, value);
    } catch (cause) {
      if (cause instanceof CopyValueError) throw cause;
      throw new CopyValueError(`Column ${column} (${type}) cannot hold ${describe(value)}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    }
  }

  private scalar(type: string, value: unknown): void {
    this.room(16);
    switch (type) {
      case 'bool': this.at = this.buffer.writeInt32BE(1, this.at); this.at = this.buffer.writeUInt8(value === true ? 1 : 0, this.at); return;
      case 'int2': this.at = this.buffer.writeInt32BE(2, this.at); this.at = this.buffer.writeInt16BE(integer(value), this.at); return;
      case 'int4': this.at = this.buffer.writeInt32BE(4, this.at); this.at = this.buffer.writeInt32BE(integer(value), this.at); return;
      case 'int8': this.at = this.buffer.writeInt32BE(8, this.at); this.int8(value); return;
      case 'float4': this.at = this.buffer.writeInt32BE(4, this.at); this.at = this.buffer.writeFloatBE(float(value), this.at); return;
      case 'float8': this.at = this.buffer.writeInt32BE(8, this.at); this.at = this.buffer.writeDoubleBE(float(value), this.at); return;
      case 'timestamptz': {
        const ms = value instanceof Date ? value.getTime() : Number(value);
        if (!Number.isFinite(ms)) throw new RangeError('it is no time');
        this.at = this.buffer.writeInt32BE(8, this.at);
        this.at = this.buffer.writeBigInt64BE(BigInt(Math.round((ms - PG_EPOCH_MS) * 1000)), this.at);
        return;
      }
      case 'date': {
        const ms = value instanceof Date ? value.getTime() : typeof value === 'string' ? Date.parse(`${value}T00:00:00Z`) : Number(value);
        if (!Number.isFinite(ms)) throw new RangeError('it is no date');
        this.at = this.buffer.writeInt32BE(4, this.at);
        this.at = this.buffer.writeInt32BE(Math.floor((ms - PG_EPOCH_MS) / 86_400_000), this.at);
        return;
      }
      case 'uuid': {
        const hex = String(value).replaceAll('-', '');
        if (!/^[0-9a-fA-F]{32}$/.test(hex)) throw new RangeError('it is no UUID');
        this.at = this.buffer.writeInt32BE(16, this.at);
        this.room(16);
        this.at += this.buffer.write(hex, this.at, 'hex');
        return;
      }
      case 'bytea': {
        if (!(value instanceof Uint8Array)) throw new TypeError('it is no Uint8Array');
        this.room(4 + value.length);
        this.at = this.buffer.writeInt32BE(value.length, this.at);
        this.buffer.set(value, this.at);
        this.at += value.length;
        return;
      }
      case 'text': this.text(String(value), false); return;
      case 'json': this.text(JSON.stringify(value), false); return;
      case 'jsonb': this.text(JSON.stringify(value), true); return;
      case 'numeric': this.numeric(String(value)); return;
      default: throw new TypeError(`there is no such type`);
    }
  }

  private int8(value: unknown): void {
    if (typeof value !== 'bigint' && !Number.isSafeInteger(value)) throw new RangeError('it is neither a bigint nor a safe integer');
    this.at = this.buffer.writeBigInt64BE(BigInt(value as number | bigint), this.at);
  }

  private text(value: string, isJsonb: boolean): void {
    // PostgreSQL's text holds no NUL, and what arrives as U+0000 in a name or a message must not stop a whole COPY.
    const clean = value.includes('\0') ? value.replaceAll('\0', '') : value;
    const bytes = Buffer.byteLength(clean);
    this.room(5 + bytes);
    this.at = this.buffer.writeInt32BE(bytes + (isJsonb ? 1 : 0), this.at);
    if (isJsonb) this.at = this.buffer.writeUInt8(1, this.at);
    this.at += this.buffer.write(clean, this.at);
  }

  /** Base-10,000 digits with weight, sign and scale (src/backend/utils/adt/numeric.c, numeric_recv). */
  private numeric(value: string): void {
    const found = /^(-?)(\d+)(?:\.(\d+))?$/.exec(value);
    if (!found) throw new RangeError('it is no decimal number');
    const scale = (found[3] ?? '').length;
    const whole = (found[2] ?? '').replace(/^0+/, '');
    const left = whole.padStart(Math.ceil(whole.length / 4) * 4, '0');
    const right = (found[3] ?? '').padEnd(Math.ceil(scale / 4) * 4, '0');
    const digits = ((left + right).match(/\d{4}/g) ?? []).map(Number);
    let weight = left.length / 4 - 1;
    while (digits.length > 0 && digits[0] === 0) { digits.shift(); weight--; }
    while (digits.length > 0 && digits.at(-1) === 0) digits.pop();
    if (digits.length === 0) weight = 0;
    this.room(12 + 2 * digits.length);
    this.at = this.buffer.writeInt32BE(8 + 2 * digits.length, this.at);
    this.at = this.buffer.writeInt16BE(digits.length, this.at);
    this.at = this.buffer.writeInt16BE(weight, this.at);
    this.at = this.buffer.writeUInt16BE(found[1] && digits.length > 0 ? 0x4000 : 0, this.at);
    this.at = this.buffer.writeUInt16BE(scale, this.at);
    for (const digit of digits) this.at = this.buffer.writeInt16BE(digit, this.at);
  }

  /** One-dimensional arrays: dimensions, whether nulls occur, element type, length, lower bound, elements. */
  private array(element: string, value: unknown, column: string): void {
    if (!Array.isArray(value) && !ArrayBuffer.isView(value)) throw new TypeError('it is no array');
    const values = value as ArrayLike<unknown>;
    const oid = OIDS[element];
    if (oid === undefined) throw new TypeError('there is no such array type');
    this.room(24);
    const lengthAt = this.at;
    this.at += 4;
    this.at = this.buffer.writeInt32BE(values.length === 0 ? 0 : 1, this.at);
    const nullsAt = this.at;
    this.at += 4;
    this.at = this.buffer.writeInt32BE(oid, this.at);
    let nulls = 0;
    if (values.length > 0) {
      this.at = this.buffer.writeInt32BE(values.length, this.at);
      this.at = this.buffer.writeInt32BE(1, this.at);
      for (let i = 0; i < values.length; i++) {
        if (values[i] === null || values[i] === undefined) nulls = 1;
        this.field(element as CopyType, values[i], column);
      }
    }
    this.buffer.writeInt32BE(nulls, nullsAt);
    this.buffer.writeInt32BE(this.at - lengthAt - 4, lengthAt);
  }
}

function integer(value: unknown): number {
  if (!Number.isInteger(value)) throw new RangeError('it is no integer');
  return value as number;
}
function float(value: unknown): number {
  if (typeof value !== 'number') throw new TypeError('it is no number');
  return value;
}
function describe(value: unknown): string {
  return typeof value === 'bigint' ? `${value}n` : value instanceof Uint8Array ? `${value.length} bytes` : (JSON.stringify(value) ?? String(value)).slice(0, 100);
}

/**
 * Binary COPY of rows (values in the order of `columns`) into a table of the service's schema. int8 takes bigint or safe integers, timestamptz
 * and date a Date or unix ms, bytea a Uint8Array, jsonb any JSON value, numeric a decimal text or bigint; null and undefined are NULL.
 * @returns rows written
 * @throws {CopyValueError} naming the column; the transaction is then to be rolled back
 */
export async function copyIn(tx: Tx, table: string, columns: Readonly<Record<string, CopyType>>, rows: Iterable<readonly unknown[]> | AsyncIterable<readonly unknown[]>): Promise<number> {
  const list = Object.entries(columns).map(([name, type]) => ({ name, type }));
  for (const name of [table, ...list.map((column) => column.name)]) if (!IDENTIFIER.test(name)) throw new CopyValueError(`${JSON.stringify(name)} is no plain name of a table or column`);
  const encoder = new BinaryCopyEncoder(list);
  const stream = tx.client.query(copyFrom(`COPY ${table} (${list.map((column) => column.name).join(', ')}) FROM STDIN (FORMAT binary)`));
  const state: { failure: Error | null } = { failure: null };
  stream.on('error', (error) => { state.failure = error; });
  const push = async (chunk: Buffer | null) => {
    if (state.failure) throw state.failure;
    if (chunk && !stream.write(chunk)) await once(stream, 'drain');
  };
  let count = 0;
  try {
    for await (const row of rows) {
      encoder.row(row);
      count++;
      await push(encoder.take());
    }
    encoder.end();
    await push(encoder.take(true));
  } catch (error) {
    stream.destroy(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
  const finished = once(stream, 'finish');
  stream.end();
  await finished;
  return count;
}
