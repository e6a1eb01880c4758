/**
 * What an access-log line says, whichever proxy wrote it, and the small readers that every format shares.
 * Nothing here throws: a field that cannot be read is null.
 */

/** Where a proxy sent a request, in the proxy's own words; {@link ./upstreams.ts} makes a Service of it. */
export interface Upstream {
  /** The proxy's name for it (`default-web-8080`, `outbound|80||web.default.svc.cluster.local`, a Traefik service, an HAProxy backend). */
  readonly name: string | null;
  /** The canary that took the request instead of `name` (ingress-nginx). */
  readonly alternativeName: string | null;
  /** Namespace and Service where the format itself names them apart; null where they must be resolved. */
  readonly namespace: string | null;
  readonly service: string | null;
  /** Port of the Service, a number or a name. */
  readonly port: string | null;
  /** `ip:port` of the endpoint that answered (the last one tried); null where none was reached. */
  readonly address: string | null;
}

/** One request (or one TCP connection: then method, path and status are null). */
export interface AccessLogEntry {
  /** Unix ms, UTC; null where the format writes none. */
  readonly timeMs: number | null;
  readonly method: string | null;
  /** The request target as logged, with its query; never leaves the cluster. */
  readonly path: string | null;
  readonly protocol: string | null;
  readonly status: number | null;
  /** Bytes of the answer (of its body, where the format tells them apart). */
  readonly bytesSent: number | null;
  readonly durationMs: number | null;
  /** Of all tries together. */
  readonly upstreamDurationMs: number | null;
  readonly userAgent: string | null;
  /** Address of the client, without its port; never leaves the cluster. */
  readonly sourceAddress: string | null;
  readonly host: string | null;
  readonly upstream: Upstream | null;
  /** Code 0..16 of the gRPC status, where the format carries it. */
  readonly grpcStatus: number | null;
  /** Which of the two sidecars of a mesh wrote it. */
  readonly direction: 'inbound' | 'outbound' | null;
  /** The line ended early; what stands here was complete. */
  readonly cut: boolean;
}

/** A log format: a name, whether a line is surely of it, and what a line says (null: not a line of this format). Neither throws. */
export interface LogFormat {
  readonly name: string;
  recognise(line: string): boolean;
  parse(line: string): AccessLogEntry | null;
}

const EMPTY: AccessLogEntry = {
  timeMs: null, method: null, path: null, protocol: null, status: null, bytesSent: null, durationMs: null, upstreamDurationMs: null, userAgent: null,
  sourceAddress: null, host: null, upstream: null, grpcStatus: null, direction: null, cut: false,
};

/** An entry whose fields not given are null. */
export function entryOf(fields: Partial<AccessLogEntry>): AccessLogEntry {
  return { ...EMPTY, ...fields };
}

/** An upstream whose fields not given are null; null where nothing is given. */
export function upstreamOf(fields: Partial<Upstream>): Upstream | null {
  const { name = null, alternativeName = null, namespace = null, service = null, port = null, address = null } = fields;
  if (name === null && alternativeName === null && service === null && address === null) return null;
  return { name, alternativeName, namespace, service, port, address };
}

/** Text, or null where the log writes that there is none. */
export function textOrNull(text: string | null | undefined): string | null {
  return text === undefined || text === null || text === '' || text === '-' ? null : text;
}

/** A whole number of at least 0, or null. A leading `+` (HAProxy's "and still running") is left out. */
export function wholeOrNull(text: string | null | undefined): number | null {
  if (text === undefined || text === null || text.length === 0 || text.length > 16) return null;
  let value = 0;
  for (let i = text.charCodeAt(0) === 43 && text.length > 1 ? 1 : 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return null;
    value = value * 10 + digit;
  }
  return value;
}

/** An HTTP status of three digits (or 0 as Envoy writes for "none": null), or null. */
export function statusOrNull(text: string | null | undefined): number | null {
  const value = wholeOrNull(text);
  return value !== null && value >= 100 && value <= 999 ? value : null;
}

/** Seconds as a decimal (`0.001`) to ms, rounded to a thousandth of one; null where it is not a number of at least 0. */
export function secondsToMs(text: string | null | undefined): number | null {
  const value = decimalOrNull(text);
  return value === null ? null : Math.round(value * 1e6) / 1e3;
}

/** A decimal of at least 0, or null. */
export function decimalOrNull(text: string | null | undefined): number | null {
  if (text === undefined || text === null || text === '' || text.length > 32) return null;
  const value = Number(text);
  return Number.isFinite(value) && value >= 0 && text.trim() !== '' ? value : null;
}

const MONTHS: Readonly<Record<string, number>> = { Jan: 0, Feb: 1, Mar: 2, Apr: 3, May: 4, Jun: 5, Jul: 6, Aug: 7, Sep: 8, Oct: 9, Nov: 10, Dec: 11 };

function twoDigits(text: string, at: number): number {
  const tens = text.charCodeAt(at) - 48;
  const ones = text.charCodeAt(at + 1) - 48;
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? tens * 10 + ones : Number.NaN;
}

/** Length of `07/Feb/2020:11:48:51 +0000`. */
export const CLF_TIME_LENGTH = 26;

/** Unix ms of `07/Feb/2020:11:48:51`, that starts at `at`, read as UTC; NaN where it is none. */
export function clfDateAt(text: string, at: number): number {
  const month = MONTHS[text.slice(at + 3, at + 6)];
  if (month === undefined || text.charCodeAt(at + 2) !== 47 || text.charCodeAt(at + 6) !== 47 || text.charCodeAt(at + 11) !== 58) return Number.NaN;
  const day = twoDigits(text, at);
  const hour = twoDigits(text, at + 12);
  const minute = twoDigits(text, at + 15);
  const second = twoDigits(text, at + 18);
  if (!(day >= 1 && day <= 31 && hour <= 23 && minute <= 59 && second <= 60)) return Number.NaN;
  return Date.UTC(twoDigits(text, at + 7) * 100 + twoDigits(text, at + 9), month, day, hour, minute, second);
}

/** Unix ms of the Common Log Format's time (`07/Feb/2020:11:48:51 +0000`) that starts at `at`; NaN where it is none. */
export function clfTimeAt(text: string, at: number): number {
  const sign = text.charCodeAt(at + 21);
  if (text.charCodeAt(at + 20) !== 32 || (sign !== 43 && sign !== 45)) return Number.NaN;
  const offsetMinutes = twoDigits(text, at + 22) * 60 + twoDigits(text, at + 24);
  return clfDateAt(text, at) - (sign === 45 ? -1 : 1) * offsetMinutes * 60_000;
}

const RFC3339 = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?$/;
const ZONE = /(?:Z|[+-]\d\d:?\d\d)$/;

/** Unix ms of an RFC 3339 or ISO 8601 time (without a zone: UTC), or null. */
export function isoTimeOrNull(text: string | null | undefined): number | null {
  if (text === undefined || text === null || text.length < 19 || text.length > 40 || !RFC3339.test(text)) return null;
  const withZone = ZONE.test(text.slice(19)) ? text : `${text}Z`;
  const value = Date.parse(withZone.replace(',', '.').replace(' ', 'T'));
  return Number.isNaN(value) ? null : value;
}

/** Method, target and protocol of a request line (`GET /a b?c HTTP/1.1`); all null where it is none (`-`, TLS bytes sent to a plain port). */
export function requestLine(text: string): { method: string | null; path: string | null; protocol: string | null } {
  const first = text.indexOf(' ');
  if (first > 0 && isToken(text, first)) {
    const last = text.lastIndexOf(' ');
    if (last > first && text.startsWith('HTTP/', last + 1)) return { method: text.slice(0, first), path: text.slice(first + 1, last), protocol: text.slice(last + 1) };
    // HTTP/0.9 has no protocol; then only a target that looks like one is believed.
    if (last === first && text.charCodeAt(first + 1) === 47) return { method: text.slice(0, first), path: text.slice(first + 1), protocol: null };
  }
  return { method: null, path: null, protocol: null };
}

/** Whether text[0, end) may be a method: letters, `-` and `_`, as RFC 9110's tokens in use. */
function isToken(text: string, end: number): boolean {
  for (let i = 0; i < end; i++) {
    const code = text.charCodeAt(i) | 32;
    if (!((code >= 97 && code <= 122) || text.charCodeAt(i) === 45 || text.charCodeAt(i) === 95)) return false;
  }
  return true;
}

/** Address of `1.2.3.4:80`, `[::1]:80`, `::1:80` (the last colon parts the port); null for `-`. */
export function withoutPort(text: string | null): string | null {
  const address = textOrNull(text);
  if (address === null) return null;
  const colon = address.lastIndexOf(':');
  const bare = colon < 0 ? address : address.slice(0, colon);
  return textOrNull(bare.startsWith('[') && bare.endsWith(']') ? bare.slice(1, -1) : bare);
}

const PRIVATE = /^(?:10\.|127\.|169\.254\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|::1$|f[cd][0-9a-f]{2}:|fe[89ab][0-9a-f]:)/i;

/** Whether an address belongs to no one on the internet (RFC 1918, 6598, 4193, loopback, link-local). */
export function isPrivateAddress(address: string): boolean {
  return PRIVATE.test(address);
}

/** The client of a list of forwarding addresses (`X-Forwarded-For`): the first public one, else the first. */
export function clientOf(addresses: readonly string[]): string | null {
  return addresses.find((address) => address.includes('.') || address.includes(':') ? !isPrivateAddress(address) : false) ?? addresses[0] ?? null;
}

/** Reads a line from left to right. A missing end of a quoted or bracketed part sets `cut`. */
export class Cursor {
  cut = false;
  constructor(readonly text: string, public at = 0) {}

  get done(): boolean {
    return this.at >= this.text.length;
  }

  skipSpaces(): void {
    while (this.text.charCodeAt(this.at) === 32) this.at++;
  }

  /** The next characters up to a space. */
  word(): string {
    this.skipSpaces();
    let end = this.text.indexOf(' ', this.at);
    if (end < 0) end = this.text.length;
    const word = this.text.slice(this.at, end);
    this.at = end;
    return word;
  }

  /** The first character of what comes next, after spaces; '' at the end. */
  peek(): string {
    this.skipSpaces();
    return this.text.charAt(this.at);
  }

  /**
   * What stands between quotes, or a bare word where there is no quote. The closing quote is the next one that is neither escaped
   * nor followed by anything but a space or the end (some proxies write quotes inside as they come). Null where the line ends before.
   */
  quoted(): string | null {
    this.skipSpaces();
    const { text } = this;
    if (text.charCodeAt(this.at) !== 34) return this.done ? null : this.word();
    const from = this.at + 1;
    let end = text.indexOf('"', from);
    while (end >= 0 && (isEscaped(text, end, from) || (end + 1 < text.length && text.charCodeAt(end + 1) !== 32))) end = text.indexOf('"', end + 1);
    if (end < 0) {
      this.cut = true;
      this.at = text.length;
      return null;
    }
    this.at = end + 1;
    return text.slice(from, end);
  }

  /** What stands between `[` and `]`; null where none is next. */
  bracketed(): string | null {
    if (this.peek() !== '[') return null;
    const end = this.text.indexOf(']', this.at);
    if (end < 0) {
      this.cut = true;
      this.at = this.text.length;
      return null;
    }
    const inside = this.text.slice(this.at + 1, end);
    this.at = end + 1;
    return inside;
  }
}

function isEscaped(text: string, at: number, from: number): boolean {
  let slashes = 0;
  for (let i = at - 1; i >= from && text.charCodeAt(i) === 92; i--) slashes++;
  return slashes % 2 === 1;
}

/**
 * Parts a line of the pod-log API read with `timestamps=true`: its RFC 3339 time (when the container wrote it) and the line.
 * Where there is no such time the line comes back whole.
 */
export function podLogLine(text: string): { timeMs: number | null; line: string } {
  const space = text.indexOf(' ');
  const timeMs = space >= 20 && space <= 35 ? isoTimeOrNull(text.slice(0, space)) : null;
  return timeMs === null ? { timeMs: null, line: text } : { timeMs, line: text.slice(space + 1) };
}
