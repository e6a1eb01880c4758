/** A line was longer than a reader takes. */
export class LineTooLongError extends Error {
  override readonly name = 'LineTooLongError';
  constructor(limit: number) {
    super(`a line is longer than ${limit} characters`);
  }
}

/**
 * The lines of a stream of text, without their ends. Unlike readline it throws what the stream throws, and loses nothing between
 * being made and being read. A last line without an end comes too, unless the stream throws.
 * @param limit a line longer than this many characters throws (`overlong` 'throw') or is passed over ('skip')
 * @throws {LineTooLongError}
 */
export async function* linesOf(chunks: AsyncIterable<string>, limit = 64 * 1024 * 1024, overlong: 'throw' | 'skip' = 'throw'): AsyncGenerator<string> {
  let parts: string[] = [];
  let length = 0;
  let skipping = false;
  for await (const chunk of chunks) {
    let from = 0;
    for (let end = chunk.indexOf('\n'); end >= 0; end = chunk.indexOf('\n', from)) {
      if (!skipping && length + end - from <= limit) {
        const line = parts.length === 0 ? chunk.slice(from, end) : parts.join('') + chunk.slice(from, end);
        yield line.endsWith('\r') ? line.slice(0, -1) : line;
      } else if (overlong === 'throw') throw new LineTooLongError(limit);
      parts = [];
      length = 0;
      skipping = false;
      from = end + 1;
    }
    if (from < chunk.length && !skipping) {
      length += chunk.length - from;
      if (length > limit) {
        if (overlong === 'throw') throw new LineTooLongError(limit);
        parts = [];
        length = 0;
        skipping = true;
      } else parts.push(chunk.slice(from));
    }
  }
  if (length > 0 && !skipping) yield parts.join('');
}
