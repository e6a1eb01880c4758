import type { AgentKind } from '@upid/contracts';

/**
 * The spool: one file a message, written before the message is published and deleted when the bus has it. Here: names, the form of a
 * file, and what goes when the bound is reached. Reading and writing is the client's affair.
 */

/** What a message tells of a stretch of time: if it is dropped, this is the gap. */
export interface Covers {
  readonly source: 'usage' | 'requests' | 'inventory' | 'business';
  readonly startMs: number;
  readonly endMs: number;
  /** Samples or rows in it. */
  readonly count: number;
}

/** Everything but the payload. */
export interface SpoolHeader {
  readonly kind: AgentKind;
  readonly messageId: string;
  /** When it was first meant to be sent, unix ms. */
  readonly publishedAtMs: number;
  readonly covers: Covers | null;
  /** Of inventory messages: which generation of which epoch they belong to; a later complete snapshot makes them needless. */
  readonly generation: { readonly epoch: string; readonly number: number } | null;
}

/** A message in the spool, without its payload. */
export interface SpoolEntry {
  readonly file: string;
  readonly header: SpoolHeader;
  readonly bytes: number;
}

/** A spool file that is none: cut short, or another program's. */
export class MalformedSpoolFileError extends Error {
  override readonly name = 'MalformedSpoolFileError';
}

const MAGIC = 'UPID-SPOOL 1';
const FILE_NAME = /^(\d{13})-(\d{8})-([a-z]+)\.batch$/;

/** A name that sorts by age: when it was written (unix ms), a counter within the process, the kind. */
export function spoolFileName(writtenAtMs: number, counter: number, kind: AgentKind): string {
  return `${String(writtenAtMs).padStart(13, '0')}-${String(counter % 100_000_000).padStart(8, '0')}-${kind}.batch`;
}

export function isSpoolFile(name: string): boolean {
  return FILE_NAME.test(name);
}

function headOf(header: SpoolHeader): Uint8Array {
  return new TextEncoder().encode(`${MAGIC}\n${JSON.stringify(header)}\n`);
}

/** Bytes of a message's file. */
export function spoolFileBytes(header: SpoolHeader, payload: Uint8Array): number {
  return headOf(header).length + payload.length;
}

/** Magic, header as one line of JSON, payload. */
export function encodeSpoolFile(header: SpoolHeader, payload: Uint8Array): Uint8Array {
  const head = headOf(header);
  const file = new Uint8Array(head.length + payload.length);
  file.set(head);
  file.set(payload, head.length);
  return file;
}

/** @throws {MalformedSpoolFileError} */
export function decodeSpoolFile(file: Uint8Array): { header: SpoolHeader; payload: Uint8Array } {
  const first = file.indexOf(10);
  const second = first < 0 ? -1 : file.indexOf(10, first + 1);
  const decoder = new TextDecoder();
  if (second < 0 || decoder.decode(file.subarray(0, first)) !== MAGIC) throw new MalformedSpoolFileError('the file does not begin as a spooled message does');
  try {
    return { header: JSON.parse(decoder.decode(file.subarray(first + 1, second))) as SpoolHeader, payload: file.subarray(second + 1) };
  } catch (cause) {
    throw new MalformedSpoolFileError('the header of the spooled message is no JSON', { cause });
  }
}

/** Kinds that are dropped when the spool is full, the dearest last. Results and coverage are few and are kept. */
const DROP_ORDER: readonly AgentKind[] = ['usage', 'requests', 'inventory', 'business'];

/**
 * Which messages to drop so that `incomingBytes` fit into `maxBytes`: the oldest of the cheapest kind first.
 * @param entries by age, the oldest first
 * @param isBusy whether a message is being sent right now; it stays
 */
export function toDrop(entries: readonly SpoolEntry[], incomingBytes: number, maxBytes: number, isBusy: (entry: SpoolEntry) => boolean): SpoolEntry[] {
  let excess = entries.reduce((sum, { bytes }) => sum + bytes, incomingBytes) - maxBytes;
  const dropped: SpoolEntry[] = [];
  for (const kind of DROP_ORDER) {
    for (const entry of entries) {
      if (excess <= 0) return dropped;
      if (entry.header.kind !== kind || isBusy(entry)) continue;
      dropped.push(entry);
      excess -= entry.bytes;
    }
  }
  return dropped;
}

/** What has been dropped of one source and not been told yet. */
export interface Gap {
  readonly source: Covers['source'];
  readonly startMs: number;
  readonly endMs: number;
  readonly count: number;
  readonly batches: number;
  readonly reason: string;
}

/** Gaps with what a dropped message covered: one a source and reason, wide enough for all. */
export function withDropped(gaps: readonly Gap[], covers: Covers, reason: string): Gap[] {
  const same = gaps.find((gap) => gap.source === covers.source && gap.reason === reason);
  const rest = gaps.filter((gap) => gap !== same);
  return [...rest, {
    source: covers.source, reason, startMs: Math.min(covers.startMs, same?.startMs ?? Infinity), endMs: Math.max(covers.endMs, same?.endMs ?? -Infinity), count: covers.count + (same?.count ?? 0), batches: 1 + (same?.batches ?? 0),
  }];
}

/** Inventory messages that a complete snapshot of a later generation makes needless. */
export function superseded(entries: readonly SpoolEntry[], by: { epoch: string; number: number }): SpoolEntry[] {
  return entries.filter(({ header: { kind, generation } }) => kind === 'inventory' && generation !== null && (generation.epoch !== by.epoch || generation.number < by.number));
}
