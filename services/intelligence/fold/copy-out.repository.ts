import type { Tx } from '@upid/platform';
import { to as copyTo } from 'pg-copy-streams';

/** Bytes from PostgreSQL that are no binary COPY. */
export class CopyFormatError extends Error {
  override readonly name = 'CopyFormatError';
}

/**
 * Rows of a query by binary COPY, each field its bytes in network order (documentation, COPY, "Binary Format"): columns of bytes come without
 * the way over hexadecimal text, which for large ones costs more than all else. COPY takes no parameters: `query` may hold numbers that the
 * program made, never text from outside. All rows are held at once; fields are views.
 */
export async function copyOut(tx: Tx, query: string): Promise<(Buffer | null)[][]> {
  const chunks: Buffer[] = [];
  for await (const chunk of tx.client.query(copyTo(`COPY (${query}) TO STDOUT (FORMAT binary)`))) chunks.push(chunk as Buffer);
  const bytes = Buffer.concat(chunks);
  if (bytes.toString('latin1', 0, 11) !== 'PGCOPY\n\xff\r\n\0') throw new CopyFormatError('the answer has no header of a binary COPY');
  const rows: (Buffer | null)[][] = [];
  let at = 19 + bytes.readInt32BE(15);
  for (;;) {
    const fields = bytes.readInt16BE(at);
    at += 2;
    if (fields === -1) return rows;
    const row: (Buffer | null)[] = [];
    for (let i = 0; i < fields; i++) {
      const length = bytes.readInt32BE(at);
      at += 4;
      row.push(length < 0 ? null : bytes.subarray(at, at + length));
      if (length > 0) at += length;
    }
    rows.push(row);
  }
}

/** A time as SQL text, from unix ms. */
export function timeLiteral(ms: number): string {
  return `timestamptz '${new Date(ms).toISOString()}'`;
}
