import type { AccessLogEntry, LogFormat } from './entry.js';
import { albFormat, elbFormat } from './formats/aws.js';
import { combinedFormat, ingressNginxFormat, kongFormat, traefikFormat } from './formats/clf.js';
import { envoyFormat, istioFormat, oldIstioFormat } from './formats/envoy.js';
import { haproxyFormat } from './formats/haproxy.js';
import { caddyFormat, istioJsonFormat, kongJsonFormat, nginxJsonFormat, traefikJsonFormat } from './formats/json.js';

/** Every format known by itself, the most telling first: a line of a longer format is also one of the shorter. */
export const LOG_FORMATS: readonly LogFormat[] = [
  ingressNginxFormat, traefikFormat, kongFormat, istioFormat, oldIstioFormat, envoyFormat, haproxyFormat, albFormat, elbFormat, traefikJsonFormat, istioJsonFormat, kongJsonFormat, caddyFormat, nginxJsonFormat, combinedFormat,
];

/** A format by name, or undefined. */
export function formatNamed(name: string): LogFormat | undefined {
  return LOG_FORMATS.find((format) => format.name === name);
}

/**
 * The format of a log, from some of its lines: the one that surely knows the most of them, the more telling where two know as many;
 * null where none knows any. Logs of proxies hold other lines as well (start-up, errors), so no share is asked for.
 */
export function recogniseFormat(lines: Iterable<string>, formats: readonly LogFormat[] = LOG_FORMATS): LogFormat | null {
  const votes = new Map<LogFormat, number>();
  for (const line of lines) {
    const format = formats.find((each) => each.recognise(line));
    if (format !== undefined) votes.set(format, (votes.get(format) ?? 0) + 1);
  }
  let best: LogFormat | null = null;
  for (const format of formats) {
    if ((votes.get(format) ?? 0) > (best === null ? 0 : (votes.get(best) ?? 0))) best = format;
  }
  return best;
}

/** Lines read so far, by what became of them: read = entries + skipped. */
export interface LineCounters {
  read: number;
  entries: number;
  /** Entries out of lines that ended early. */
  cut: number;
  /** Lines that say nothing of a request: blank, of another format, binary. */
  skipped: number;
}

/** Lines longer than this are no access log: they are skipped unread. Bytes of UTF-16. */
export const LONGEST_LINE = 64 * 1024;
/** Lines in a row that the format does not know, after which others are tried. */
const RECONSIDER_AFTER = 50;
/** How often a format that knows its lines is asked to give way to a more telling one: each of the first lines, then every so many. */
const COMPARE_EVERY = 64;

/**
 * Reads the lines of one log. Without a format it takes the most telling one that surely knows a line, goes over to a more telling one
 * when that knows a line too, and to any other after 50 lines in a row that it does not know (a proxy's configuration changes while
 * it runs). Never throws; memory is constant.
 */
export class AccessLogReader {
  readonly counters: LineCounters = { read: 0, entries: 0, cut: 0, skipped: 0 };
  private current: LogFormat | null;
  private unknownInARow = 0;

  /** @param fixed the format to use whatever the lines look like */
  constructor(private readonly fixed: LogFormat | null = null, private readonly formats: readonly LogFormat[] = LOG_FORMATS) {
    this.current = fixed;
  }

  /** The format in use; null before it is known. */
  get format(): LogFormat | null {
    return this.current;
  }

  /** The request that a line tells of; null where it tells of none (then it is counted). */
  read(line: string): AccessLogEntry | null {
    this.counters.read++;
    const entry = line.length > LONGEST_LINE ? null : this.parse(line);
    if (entry === null) {
      this.counters.skipped++;
      return null;
    }
    this.counters.entries++;
    if (entry.cut) this.counters.cut++;
    return entry;
  }

  private parse(line: string): AccessLogEntry | null {
    const text = line.charCodeAt(line.length - 1) === 13 ? line.slice(0, -1) : line;
    if (this.current !== null) {
      const entry = this.current.parse(text);
      if (entry !== null) {
        this.unknownInARow = 0;
        return this.fixed === null && this.compares(entry) ? this.moreTelling(text, entry) : entry;
      }
      if (this.fixed !== null || ++this.unknownInARow < RECONSIDER_AFTER) return null;
    }
    const found = this.formats.find((format) => format.recognise(text));
    if (found === undefined) return null;
    this.current = found;
    this.unknownInARow = 0;
    return found.parse(text);
  }

  private compares(entry: AccessLogEntry): boolean {
    return entry.cut || this.counters.entries < COMPARE_EVERY || this.counters.entries % COMPARE_EVERY === 0;
  }

  private moreTelling(text: string, entry: AccessLogEntry): AccessLogEntry {
    for (const format of this.formats) {
      if (format === this.current) return entry;
      if (!format.recognise(text)) continue;
      this.current = format;
      return format.parse(text) ?? entry;
    }
    return entry;
  }
}
