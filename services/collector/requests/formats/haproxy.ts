import { clfDateAt, entryOf, requestLine, statusOrNull, textOrNull, upstreamOf, wholeOrNull, withoutPort, type AccessLogEntry, type LogFormat } from '../entry.js';

/**
 * HAProxy's HTTP and TCP formats (HAProxy configuration manual, chapter 8.2), with or without syslog's beginning. A word that users put
 * between server and timers is the host; more are passed over. Its times carry no zone: they are read as UTC, which containers keep.
 */

const TIMERS = /^[+-]?\d+(?:\/[+-]?\d+){2,4}$/;
const CONNECT = /(?:^|: )Connect from (\S+) to \S+ \([^)]*\)\s*$/;

/** Start of `[30/Jul/2018:09:03:52.726]`, or -1. */
function dateStart(line: string): number {
  for (let at = line.indexOf('['); at >= 0; at = line.indexOf('[', at + 1)) {
    if (line.charCodeAt(at + 21) === 46 && line.charCodeAt(at + 25) === 93 && line.charCodeAt(at + 3) === 47) return at;
  }
  return -1;
}

/** A timer in ms; -1 is "did not come to it". */
function timer(text: string | undefined): number | null {
  return text === undefined || text.startsWith('-') ? null : wholeOrNull(text);
}

function parse(line: string): AccessLogEntry | null {
  const at = dateStart(line);
  if (at < 0) {
    const connect = CONNECT.exec(line);
    return connect === null ? null : entryOf({ sourceAddress: withoutPort(connect[1] ?? null) });
  }
  const date = clfDateAt(line, at + 1);
  const millis = wholeOrNull(line.slice(at + 22, at + 25));
  const client = line.slice(0, at).trimEnd();
  const source = client.slice(client.lastIndexOf(' ') + 1);
  if (Number.isNaN(date) || millis === null || !source.includes(':')) return null;

  const quote = line.indexOf(' "', at);
  const words = line.slice(at + 26, quote < 0 ? line.length : quote).trim().split(/ +/);
  const [, backendAndServer = ''] = words;
  const slash = backendAndServer.indexOf('/');
  const timersAt = words.findIndex((word, index) => index >= 2 && TIMERS.test(word));
  if (slash <= 0 || timersAt < 0) return null;
  const timers = (words[timersAt] as string).split('/');
  const server = backendAndServer.slice(slash + 1);
  const common = {
    timeMs: date + millis, sourceAddress: withoutPort(source), durationMs: timer(timers.at(-1)), host: timersAt === 3 ? textOrNull(words[2]) : null,
    upstream: upstreamOf({ name: backendAndServer.slice(0, slash), address: server === '<NOSRV>' || server === '<STATS>' ? null : textOrNull(server) }),
  };
  if (timers.length === 3) return entryOf({ ...common, bytesSent: wholeOrNull(words[timersAt + 1]), cut: words.length < timersAt + 4 });

  const status = words[timersAt + 1];
  const bytesSent = wholeOrNull(words[timersAt + 2]);
  if (status === undefined || (statusOrNull(status) === null && status !== '-1' && status !== '0')) return null;
  const end = line.lastIndexOf('"');
  // HAProxy cuts a line at its longest length: the quote at the end is then missing.
  const whole = quote >= 0 && end > quote + 1;
  const request = quote < 0 ? '' : line.slice(quote + 2, whole ? end : line.length);
  return entryOf({ ...common, ...requestLine(request), status: statusOrNull(status), bytesSent, upstreamDurationMs: timers.length === 5 ? timer(timers[3]) : null, cut: !whole });
}

export const haproxyFormat: LogFormat = {
  name: 'haproxy',
  recognise: (line) => {
    const entry = parse(line);
    return entry !== null && !entry.cut;
  },
  parse,
};
