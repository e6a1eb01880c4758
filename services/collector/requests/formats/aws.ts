import { Cursor, entryOf, isoTimeOrNull, requestLine, secondsToMs, statusOrNull, textOrNull, upstreamOf, wholeOrNull, withoutPort, type AccessLogEntry, type LogFormat } from '../entry.js';

/** Access logs of AWS load balancers, as the Elastic Load Balancing user guides give their fields. */

const ALB_TYPES = new Set(['http', 'https', 'h2', 'grpcs', 'ws', 'wss']);

/** Seconds of a phase; -1 is "did not come to it". */
function sum(phases: readonly string[]): number | null {
  const all = phases.map((phase) => secondsToMs(phase));
  return all.some((phase) => phase === null) ? null : Math.round(all.reduce<number>((a, b) => a + (b ?? 0), 0) * 1e3) / 1e3;
}

/** What both kinds have from `time` to `"user agent"`. */
function readCommon(cursor: Cursor): AccessLogEntry | null {
  const timeMs = isoTimeOrNull(cursor.word());
  const name = cursor.word();
  const client = cursor.word();
  const target = cursor.word();
  const phases = [cursor.word(), cursor.word(), cursor.word()];
  const status = cursor.word();
  cursor.word();
  const received = cursor.word();
  const bytesSent = wholeOrNull(cursor.word());
  if (timeMs === null || name === '' || phases.some((phase) => phase !== '-1' && phase !== '-' && secondsToMs(phase) === null) || (statusOrNull(status) === null && status !== '-') || wholeOrNull(received) === null || bytesSent === null) return null;
  if (cursor.peek() !== '"') return null;
  const request = cursor.quoted();
  if (request === null) return entryOf({ timeMs, status: statusOrNull(status), bytesSent, cut: true });
  const userAgent = cursor.peek() === '"' ? textOrNull(cursor.quoted()) : null;
  const address = textOrNull(target);
  return entryOf({
    timeMs, ...requestLine(request.trim()), status: statusOrNull(status), bytesSent, durationMs: sum(phases), upstreamDurationMs: secondsToMs(phases[1]), userAgent, sourceAddress: withoutPort(client),
    upstream: upstreamOf({ address }), cut: cursor.cut,
  });
}

/** Application Load Balancer: the kind of request first, target group and domain behind the agent. */
export const albFormat: LogFormat = {
  name: 'aws-alb',
  recognise: (line) => albFormat.parse(line)?.cut === false,
  parse(line) {
    const cursor = new Cursor(line);
    if (!ALB_TYPES.has(cursor.word())) return null;
    const entry = readCommon(cursor);
    if (entry === null || cursor.done) return entry === null ? null : { ...entry, cut: true };
    cursor.word();
    cursor.word();
    const group = textOrNull(cursor.word());
    cursor.quoted();
    const domain = textOrNull(cursor.quoted());
    return { ...entry, host: domain, upstream: upstreamOf({ name: group?.split('/')[1] ?? group, address: entry.upstream?.address ?? null }), cut: cursor.cut };
  },
};

/** Classic Load Balancer; before 2014 without agent. */
export const elbFormat: LogFormat = {
  name: 'aws-elb',
  recognise: (line) => elbFormat.parse(line)?.cut === false,
  parse: (line) => readCommon(new Cursor(line)),
};
