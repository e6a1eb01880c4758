/** A line's place in a container's log: its time to the nanosecond, in a form that sorts as text. */

const TIMESTAMP = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;

export interface LogPosition {
  readonly timeMs: number;
  /** Seconds since the epoch and nanoseconds, of fixed width. */
  readonly key: string;
}

/** The place of a line of the pod-log API (`timestamps=true`) and the line itself; null where it has no time. */
export function placedLine(text: string): { position: LogPosition; line: string } | null {
  const space = text.indexOf(' ');
  const stamp = space < 0 ? text : text.slice(0, space);
  const match = TIMESTAMP.exec(stamp);
  if (match === null) return null;
  const [, seconds = '', fraction = '', zone = ''] = match;
  const wholeMs = Date.parse(`${seconds}${zone}`);
  if (Number.isNaN(wholeMs)) return null;
  const nanoseconds = fraction.padEnd(9, '0');
  return {
    position: { timeMs: wholeMs + Number(nanoseconds.slice(0, 3)), key: `${String(wholeMs / 1000).padStart(12, '0')}.${nanoseconds}` },
    line: space < 0 ? '' : text.slice(space + 1),
  };
}

/**
 * Tells new lines from those read before a stream broke: the log is read again from the second of the last line on, so what lies at or
 * before that line comes twice. Also tells whether the log still reaches back to it.
 */
export class Resumption {
  private skip: number;
  private first = true;

  /** @param last the last line read before; null where none was @param count how many lines of that very time were read */
  constructor(private readonly last: string | null, count: number) {
    this.skip = count;
  }

  /** What to do with the next line. `gap`: lines between the last one read and this one are lost. */
  take(key: string): 'new' | 'seen' | 'gap' {
    const { last, first } = this;
    this.first = false;
    if (last === null || key > last) return first && last !== null ? 'gap' : 'new';
    if (key < last) return 'seen';
    if (this.skip <= 0) return 'new';
    this.skip--;
    return 'seen';
  }
}
