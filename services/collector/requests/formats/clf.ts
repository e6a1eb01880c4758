import { CLF_TIME_LENGTH, Cursor, clfTimeAt, clientOf, requestLine, secondsToMs, statusOrNull, textOrNull, upstreamOf, wholeOrNull, type AccessLogEntry, type LogFormat, type Upstream } from '../entry.js';

/**
 * The family of the Common Log Format (NCSA httpd; Apache `mod_log_config`, nginx `log_format combined`): lines that begin
 * `[host] addresses ident user [time] "request" status bytes`, and what ingress-nginx, Traefik and Kong put behind it.
 */

interface Head {
  timeMs: number;
  method: string | null;
  path: string | null;
  protocol: string | null;
  status: number | null;
  bytesSent: number | null;
  sourceAddress: string | null;
  host: string | null;
}

/** Start of the bracketed time, or -1. ingress-nginx before 0.22 has a bracketed address before it. */
function timeStart(line: string): number {
  for (let at = line.indexOf('['); at >= 0; at = line.indexOf('[', at + 1)) {
    if (line.charCodeAt(at + 1 + CLF_TIME_LENGTH) === 93 && line.charCodeAt(at + 3) === 47) return at;
  }
  return -1;
}

const NUMERIC_ADDRESS = /^(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:.]*)$/;

/**
 * Host and client of what stands before the time. Clients may be a list (`a, b, c`, quoted or not, then the proxy's own); the first
 * public one is the client. A name before an address is the virtual host.
 */
function addressesOf(text: string): { host: string | null; sourceAddress: string | null } {
  const dash = text.indexOf(' - ');
  const who = dash >= 0 ? text.slice(0, dash) : text;
  if (!who.includes(' ')) return { host: null, sourceAddress: textOrNull(who.startsWith('"') ? who.replaceAll('"', '') : who) };
  const words = who.replaceAll('"', '').split(/[ ,]+/).filter((word) => word !== '');
  const first = words[0];
  // Without ` - ` the identity is given: the words behind the first are identity and user.
  if (dash < 0) return { host: null, sourceAddress: textOrNull(first) };
  if (first !== undefined && words.length > 1 && !NUMERIC_ADDRESS.test(first)) {
    return { host: first.replace(/:\d+$/, ''), sourceAddress: clientOf(words.slice(1)) };
  }
  return { host: null, sourceAddress: clientOf(words) };
}

/** Reads up to the bytes; the cursor then stands behind them. Null where the line does not begin so. */
function readHead(cursor: Cursor): Head | null {
  const { text } = cursor;
  const bracket = timeStart(text);
  if (bracket < 0) return null;
  const timeMs = clfTimeAt(text, bracket + 1);
  if (Number.isNaN(timeMs)) return null;
  cursor.at = bracket + CLF_TIME_LENGTH + 2;
  return bracket === 0 ? readSslHead(cursor, timeMs) : readCommonHead(cursor, timeMs, text.slice(0, bracket).trimEnd());
}

function readCommonHead(cursor: Cursor, timeMs: number, who: string): Head | null {
  if (cursor.peek() !== '"' || who === '') return null;
  const request = cursor.quoted();
  if (request === null) return null;
  const status = statusOrNull(cursor.word());
  if (status === null) return null;
  const bytes = cursor.word();
  const bytesSent = wholeOrNull(bytes);
  if (bytesSent === null && bytes !== '-') return null;
  return { timeMs, ...requestLine(request), status, bytesSent, ...addressesOf(who) };
}

/** Apache's `ssl_request_log`: `[time] address protocol cipher "request" bytes`, without a status. */
function readSslHead(cursor: Cursor, timeMs: number): Head | null {
  const address = cursor.word();
  const tls = cursor.word();
  if (!/^(?:TLS|SSL|-)/.test(tls)) return null;
  cursor.word();
  if (cursor.peek() !== '"') return null;
  const request = cursor.quoted();
  const bytes = cursor.word();
  const bytesSent = wholeOrNull(bytes);
  if (request === null || (bytesSent === null && bytes !== '-')) return null;
  return { timeMs, ...requestLine(request), status: null, bytesSent, sourceAddress: textOrNull(address), host: null };
}

function entry(head: Head, userAgent: string | null, cut: boolean, durationMs: number | null = null, upstreamDurationMs: number | null = null, upstream: Upstream | null = null): AccessLogEntry {
  return {
    timeMs: head.timeMs, method: head.method, path: head.path, protocol: head.protocol, status: head.status, bytesSent: head.bytesSent, durationMs, upstreamDurationMs,
    userAgent, sourceAddress: head.sourceAddress, host: head.host, upstream, grpcStatus: null, direction: null, cut,
  };
}

/** Referrer (left out) and user agent; both may be missing or a bare `-`. A line that ends inside the agent yields what came before. */
function readAgent(cursor: Cursor): string | null {
  if (cursor.peek() !== '"' && cursor.peek() !== '-') return null;
  cursor.quoted();
  return cursor.peek() === '"' || cursor.peek() === '-' ? textOrNull(cursor.quoted()) : null;
}

/** nginx and Apache, common and combined, with or without a virtual host; more fields behind are left out. */
export const combinedFormat: LogFormat = {
  name: 'combined',
  recognise: (line) => combinedFormat.parse(line) !== null,
  parse(line) {
    const cursor = new Cursor(line);
    const head = readHead(cursor);
    if (head === null) return null;
    const userAgent = readAgent(cursor);
    return entry(head, userAgent, cursor.cut);
  },
};

/** A list as nginx writes its upstream variables: `a, b` for tries of one group, `a : b` for the groups of internal redirects. */
function readList(cursor: Cursor): string[] {
  const items: string[] = [];
  for (;;) {
    const word = cursor.word();
    const more = word.endsWith(',');
    const item = more ? word.slice(0, -1) : word;
    if (item !== '') items.push(item);
    if (more) continue;
    if (cursor.text.startsWith(' : ', cursor.at)) {
      cursor.at += 3;
      continue;
    }
    return items;
  }
}

function sumSeconds(items: readonly string[]): number | null {
  let total: number | null = null;
  for (const item of items) {
    const ms = secondsToMs(item);
    if (ms !== null) total = Math.round(((total ?? 0) + ms) * 1e3) / 1e3;
  }
  return total;
}

/**
 * ingress-nginx, `log-format-upstream` as it ships: the combined format, then
 * `$request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length
 * $upstream_response_time $upstream_status $req_id` (before 0.22 without the alternative name).
 */
export const ingressNginxFormat: LogFormat = {
  name: 'ingress-nginx',
  recognise: (line) => {
    const found = ingressNginxFormat.parse(line);
    return found !== null && !found.cut && found.durationMs !== null;
  },
  parse(line) {
    const cursor = new Cursor(line);
    const head = readHead(cursor);
    if (head === null) return null;
    const userAgent = readAgent(cursor);
    if (cursor.cut || cursor.done) return entry(head, userAgent, true);
    const length = wholeOrNull(cursor.word());
    const durationMs = secondsToMs(cursor.word());
    if (cursor.done) return entry(head, userAgent, true, null);
    const name = cursor.bracketed();
    if (length === null || name === null) return cursor.cut ? entry(head, userAgent, true, durationMs) : null;
    const alternativeName = cursor.peek() === '[' ? cursor.bracketed() : null;
    const addresses = readList(cursor).filter((address) => address !== '-');
    readList(cursor);
    const times = readList(cursor);
    const statuses = readList(cursor);
    const upstream = upstreamOf({ name: textOrNull(name), alternativeName: textOrNull(alternativeName), address: addresses.at(-1) ?? null });
    return entry(head, userAgent, cursor.cut || statuses.length === 0, durationMs, sumSeconds(times), upstream);
  },
};

const TRAEFIK_DURATION = /^(\d+)ms$/;

/** Traefik's common format: combined, then `requests "router or frontend" "server URL" 12ms`. */
export const traefikFormat: LogFormat = {
  name: 'traefik',
  recognise: (line) => traefikFormat.parse(line)?.durationMs != null,
  parse(line) {
    const cursor = new Cursor(line);
    const head = readHead(cursor);
    if (head === null) return null;
    const userAgent = readAgent(cursor);
    if (cursor.cut || cursor.done) return entry(head, userAgent, cursor.cut);
    const count = cursor.word();
    if ((wholeOrNull(count) === null && count !== '-') || (!cursor.done && cursor.peek() !== '"' && cursor.peek() !== '-')) return null;
    const name = textOrNull(cursor.quoted());
    const url = textOrNull(cursor.quoted());
    const duration = TRAEFIK_DURATION.exec(cursor.word());
    return entry(head, userAgent, cursor.cut || duration === null, duration === null ? null : Number(duration[1]), null, upstreamOf({ name, address: urlAddress(url) }));
  },
};

/** `ip:port` of a server's URL, or null. */
export function urlAddress(url: string | null): string | null {
  const match = url === null ? null : /^[a-z][a-z0-9+]*:\/\/([^/?#]+)/i.exec(url);
  return match?.[1] ?? null;
}

/** Kong's proxy log (an nginx one): combined, then `kong_request_id: "…"`. */
export const kongFormat: LogFormat = {
  name: 'kong',
  recognise: (line) => line.includes(' kong_request_id: "') && combinedFormat.parse(line) !== null,
  parse: (line) => combinedFormat.parse(line),
};
