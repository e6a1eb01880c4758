import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeSpoolFile, encodeSpoolFile, isSpoolFile, MalformedSpoolFileError, spoolFileName, type Gap, type SpoolEntry, type SpoolHeader } from './spool.js';

/** Files over this size are no messages of ours: the bus takes 1 MiB. */
const LONGEST_FILE_BYTES = 4 * 1024 * 1024;
const GAPS_FILE = 'gaps.json';
const TEMPORARY = '.tmp-';

/** The spool's folder on disk. A file is written apart and moved into place, so that a killed process leaves whole messages alone. */
export class SpoolFolder {
  private counter = 0;

  constructor(readonly folder: string) {}

  /**
   * Makes the folder, removes what a killed process left half written, and lists what waits, the oldest first.
   * @returns entries, and names of files that are no messages: they are left where they are
   */
  async open(): Promise<{ entries: SpoolEntry[]; malformed: string[] }> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    const entries: SpoolEntry[] = [];
    const malformed: string[] = [];
    for (const name of (await readdir(this.folder)).sort()) {
      if (name.startsWith(TEMPORARY)) await rm(join(this.folder, name), { force: true });
      if (!isSpoolFile(name)) continue;
      const entry = await this.entryOf(name);
      if (entry === null) malformed.push(name);
      else entries.push(entry);
    }
    return { entries, malformed };
  }

  /** Writes a message; it is there when this resolves, whatever happens to the process after. */
  async write(header: SpoolHeader, payload: Uint8Array, nowMs: number): Promise<SpoolEntry> {
    const file = spoolFileName(nowMs, this.counter++, header.kind);
    const bytes = encodeSpoolFile(header, payload);
    await this.place(file, bytes);
    return { file, header, bytes: bytes.length };
  }

  async payload(entry: SpoolEntry): Promise<Uint8Array> {
    return decodeSpoolFile(await readFile(join(this.folder, entry.file))).payload;
  }

  async remove(entry: SpoolEntry): Promise<void> {
    await rm(join(this.folder, entry.file), { force: true });
  }

  /** Small state that is kept with the spool, by name; null where there is none or it is no JSON. */
  async readState(name: string): Promise<unknown> {
    try {
      return JSON.parse(await readFile(join(this.folder, name), 'utf8')) as unknown;
    } catch (error) {
      if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
  }

  async writeState(name: string, value: unknown): Promise<void> {
    await this.place(name, JSON.stringify(value));
  }

  async gaps(): Promise<Gap[]> {
    const gaps = await this.readState(GAPS_FILE);
    return Array.isArray(gaps) ? (gaps as Gap[]) : [];
  }

  async writeGaps(gaps: readonly Gap[]): Promise<void> {
    if (gaps.length === 0) await rm(join(this.folder, GAPS_FILE), { force: true });
    else await this.writeState(GAPS_FILE, gaps);
  }

  private async place(name: string, content: Uint8Array | string): Promise<void> {
    const temporary = join(this.folder, `${TEMPORARY}${randomUUID()}`);
    try {
      await writeFile(temporary, content, { mode: 0o600 });
      await rename(temporary, join(this.folder, name));
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  /** The header of a file that waits; null where the file is no message. */
  private async entryOf(name: string): Promise<SpoolEntry | null> {
    const path = join(this.folder, name);
    const { size } = await stat(path);
    if (size > LONGEST_FILE_BYTES) return null;
    const file = await open(path);
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.min(size, 16_384)), 0, Math.min(size, 16_384), 0);
      return { file: name, header: decodeSpoolFile(buffer.subarray(0, bytesRead)).header, bytes: size };
    } catch (error) {
      if (error instanceof MalformedSpoolFileError) return null;
      throw error;
    } finally {
      await file.close();
    }
  }
}
