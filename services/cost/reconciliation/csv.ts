/** CSV as bills write it (RFC 4180): quoted fields, doubled quotes, line ends within quotes, CRLF or LF, a byte-order mark. */

/** A text that is not CSV: a quote that never ends, or text after a closing quote. */
export class CsvFormatError extends Error {
  override readonly name = 'CsvFormatError';
  /** @param line of the file, from 1, in which the record starts. */
  constructor(readonly line: number, fault: string) {
    super(`line ${line}: ${fault}`);
  }
}

/** A record with the line it starts in, from 1. */
export interface CsvRecord {
  readonly line: number;
  readonly fields: readonly string[];
}

const quote = '"';

/**
 * Reads records from chunks of text that may be cut anywhere, so that a bill of any size passes through in the memory of its
 * longest record. Blank lines are passed over. O(n) in the text.
 */
export class CsvReader {
  #rest = '';
  #line = 1;
  #started = false;

  /** The records that are complete with this chunk. @throws CsvFormatError */
  push(chunk: string): CsvRecord[] {
    let text = this.#rest + chunk;
    if (!this.#started && text !== '') {
      this.#started = true;
      if (text.startsWith('\uFEFF')) text = text.slice(1);
    }
    return this.#read(text, false);
  }

  /** The last record, where the text ends without a line end. @throws CsvFormatError for a quote left open. */
  end(): CsvRecord[] {
    return this.#read(this.#rest, true);
  }

  #read(text: string, last: boolean): CsvRecord[] {
    const records: CsvRecord[] = [];
    let start = 0;
    while (start < text.length) {
      const record = this.#record(text, start, last);
      if (!record) break;
      const { fields, next, lines } = record;
      if (fields.length > 1 || fields[0] !== '') records.push({ line: this.#line, fields });
      this.#line += lines;
      start = next;
    }
    this.#rest = text.slice(start);
    return records;
  }

  /** One record from `start`; null when the text does not hold its end yet. */
  #record(text: string, start: number, last: boolean): { fields: string[]; next: number; lines: number } | null {
    const fields: string[] = [];
    let at = start;
    let lines = 0;
    for (;;) {
      let field: string;
      if (text[at] === quote) {
        field = '';
        for (;;) {
          const close = text.indexOf(quote, at + 1);
          if (close === -1) {
            if (last) throw new CsvFormatError(this.#line, 'a quoted field does not end');
            return null;
          }
          field += text.slice(at + 1, close);
          at = close + 1;
          if (text[at] !== quote) break;
          field += quote;
        }
        lines += countLines(field);
      } else {
        const end = endOfField(text, at);
        field = text.slice(at, end);
        at = end;
      }
      fields.push(field);
      if (at >= text.length) return last ? { fields, next: at, lines } : null;
      if (text[at] === ',') at++;
      else if (text[at] === '\n') return { fields, next: at + 1, lines: lines + 1 };
      else if (text[at] === '\r') {
        if (at + 1 >= text.length && !last) return null;
        return { fields, next: text[at + 1] === '\n' ? at + 2 : at + 1, lines: lines + 1 };
      } else throw new CsvFormatError(this.#line, `text after a closing quote: ${JSON.stringify(text.slice(at, at + 20))}`);
    }
  }
}

function endOfField(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 44 || code === 10 || code === 13) return at;
  }
  return text.length;
}

function countLines(text: string): number {
  let lines = 0;
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) lines++;
  return lines;
}
