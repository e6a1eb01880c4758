import {
  clfTimeAt, CLF_TIME_LENGTH, clientOf, decimalOrNull, isoTimeOrNull, requestLine, secondsToMs, statusOrNull, textOrNull, upstreamOf, wholeOrNull, withoutPort, type AccessLogEntry, type LogFormat,
} from '../entry.js';

/**
 * Formats described by a pattern, in the words of whoever writes the log: nginx's `log_format` (`$remote_addr … "$request" $status`),
 * Apache's `LogFormat` (`%h %l %u %t "%r" %>s %b`) or Envoy's format string (`[%START_TIME%] "%REQ(:METHOD)% …"`). A variable's text
 * reaches to the next piece of fixed text; variables that say nothing of use are passed over.
 */

/** A pattern that cannot tell its fields apart or names nothing that is known. */
export class InvalidPatternError extends Error {
  override readonly name = 'InvalidPatternError';
  constructor(readonly pattern: string, why: string) {
    super(`invalid log pattern: ${why}`);
  }
}

/** What has been read of a line so far. */
interface Draft {
  timeMs: number | null;
  method: string | null;
  path: string | null;
  query: string | null;
  protocol: string | null;
  status: number | null;
  bodyBytes: number | null;
  allBytes: number | null;
  durationMs: number | null;
  upstreamDurationMs: number | null;
  userAgent: string | null;
  source: string | null;
  forwarded: string | null;
  host: string | null;
  upstreamName: string | null;
  alternativeName: string | null;
  namespace: string | null;
  service: string | null;
  port: string | null;
  address: string | null;
  grpcStatus: number | null;
}

function draft(): Draft {
  return {
    timeMs: null, method: null, path: null, query: null, protocol: null, status: null, bodyBytes: null, allBytes: null, durationMs: null, upstreamDurationMs: null, userAgent: null, source: null, forwarded: null, host: null,
    upstreamName: null, alternativeName: null, namespace: null, service: null, port: null, address: null, grpcStatus: null,
  };
}

/** Takes a variable's text; false where the text cannot be that variable's, so that the line is of another format. */
type Take = (into: Draft, text: string) => boolean;

const ignore: Take = () => true;

function textOf(key: 'method' | 'path' | 'query' | 'protocol' | 'userAgent' | 'source' | 'forwarded' | 'host' | 'upstreamName' | 'alternativeName' | 'namespace' | 'service' | 'port'): Take {
  return (into, value) => {
    into[key] = textOrNull(value);
    return true;
  };
}

function number(key: 'bodyBytes' | 'allBytes' | 'durationMs' | 'upstreamDurationMs', read: (value: string) => number | null): Take {
  return (into, value) => {
    if (value === '-' || value === '' || value === '-1') return true;
    const found = read(value);
    into[key] = found;
    return found !== null;
  };
}

const takeStatus: Take = (into, value) => {
  into.status = statusOrNull(value);
  return into.status !== null || value === '0' || value === '-' || value === '000' || value === '';
};

const takeRequest: Take = (into, value) => {
  Object.assign(into, requestLine(value));
  return true;
};

function time(read: (value: string) => number | null): Take {
  return (into, value) => {
    into.timeMs = read(value);
    return into.timeMs !== null;
  };
}

function clfTime(value: string): number | null {
  const bare = value.startsWith('[') && value.endsWith(']') ? value.slice(1, -1) : value;
  const timeMs = bare.length === CLF_TIME_LENGTH ? clfTimeAt(bare, 0) : Number.NaN;
  return Number.isNaN(timeMs) ? null : timeMs;
}

/** An ISO time, or seconds or ms since the epoch. */
function anyTime(value: string): number | null {
  const seconds = decimalOrNull(value);
  if (seconds !== null) return Math.round(seconds > 1e11 ? seconds : seconds * 1e3);
  return isoTimeOrNull(value);
}

const takeSource: Take = (into, value) => {
  into.source = textOrNull(value);
  return true;
};

const takeSourceWithPort: Take = (into, value) => {
  into.source = withoutPort(value);
  return true;
};

/** `a, b : c`: the last that is an address. */
const takeAddresses: Take = (into, value) => {
  into.address = value.split(/, | : |,/).map((each) => each.trim()).filter((each) => each !== '' && each !== '-').at(-1) ?? null;
  return true;
};

const takeSeconds: Take = (into, value) => {
  const parts = value.split(/, | : |,/).map((each) => secondsToMs(each.trim())).filter((each) => each !== null);
  into.upstreamDurationMs = parts.length === 0 ? null : Math.round(parts.reduce((a, b) => a + b, 0) * 1e3) / 1e3;
  return true;
};

const GRPC_NAMES = [
  'ok', 'canceled', 'unknown', 'invalidargument', 'deadlineexceeded', 'notfound', 'alreadyexists', 'permissiondenied', 'resourceexhausted', 'failedprecondition', 'aborted', 'outofrange', 'unimplemented', 'internal', 'unavailable', 'dataloss', 'unauthenticated',
];

/** A gRPC status as number or name (`Unavailable`, `PERMISSION_DENIED`), or null. */
export function grpcStatusOf(value: string | null): number | null {
  const code = wholeOrNull(value);
  if (code !== null) return code <= 16 ? code : null;
  const index = value === null ? -1 : GRPC_NAMES.indexOf(value.toLowerCase().replaceAll('_', '').replace('cancelled', 'canceled'));
  return index < 0 ? null : index;
}

const takeGrpc: Take = (into, value) => {
  into.grpcStatus = grpcStatusOf(textOrNull(value));
  return true;
};

const ms = (value: string): number | null => decimalOrNull(value);

/** Variables of nginx and of ingress-nginx. */
const NGINX = new Map<string, Take>(Object.entries({
  remote_addr: takeSource, proxy_protocol_addr: takeSource, the_real_ip: takeSource, realip_remote_addr: ignore, http_x_forwarded_for: textOf('forwarded'), proxy_add_x_forwarded_for: textOf('forwarded'),
  time_local: time(clfTime), time_iso8601: time(isoTimeOrNull), msec: time(anyTime), request: takeRequest, request_method: textOf('method'), request_uri: textOf('path'), uri: textOf('path'), args: textOf('query'), query_string: textOf('query'),
  server_protocol: textOf('protocol'), status: takeStatus, body_bytes_sent: number('bodyBytes', wholeOrNull), bytes_sent: number('allBytes', wholeOrNull), request_time: number('durationMs', secondsToMs), upstream_response_time: takeSeconds,
  upstream_addr: takeAddresses, http_user_agent: textOf('userAgent'), host: textOf('host'), http_host: textOf('host'), server_name: textOf('host'), proxy_upstream_name: textOf('upstreamName'), proxy_alternative_upstream_name: textOf('alternativeName'),
  proxy_host: textOf('upstreamName'), namespace: textOf('namespace'), service_name: textOf('service'), service_port: textOf('port'), sent_http_grpc_status: takeGrpc, upstream_http_grpc_status: takeGrpc, upstream_trailer_grpc_status: takeGrpc,
}));
/** Variables whose text is a list with spaces in it. */
const LISTS = new Set(['upstream_addr', 'upstream_response_time', 'upstream_response_length', 'upstream_status', 'upstream_bytes_received', 'upstream_bytes_sent', 'upstream_connect_time', 'upstream_header_time', 'http_x_forwarded_for', 'proxy_add_x_forwarded_for']);

/** Envoy's command operators; headers by lower-case name. */
const ENVOY = new Map<string, Take>(Object.entries({
  START_TIME: time(anyTime), PROTOCOL: textOf('protocol'), RESPONSE_CODE: takeStatus, BYTES_SENT: number('bodyBytes', wholeOrNull), DURATION: number('durationMs', ms), UPSTREAM_HOST: takeAddresses, UPSTREAM_REMOTE_ADDRESS: takeAddresses,
  UPSTREAM_CLUSTER: textOf('upstreamName'), UPSTREAM_CLUSTER_RAW: textOf('upstreamName'), DOWNSTREAM_REMOTE_ADDRESS: takeSourceWithPort, DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: takeSource, DOWNSTREAM_DIRECT_REMOTE_ADDRESS: ignore,
  GRPC_STATUS: takeGrpc, GRPC_STATUS_NUMBER: takeGrpc, PATH: textOf('path'),
}));
const ENVOY_REQUEST_HEADERS = new Map<string, Take>(Object.entries({
  ':method': textOf('method'), ':path': textOf('path'), path: textOf('path'), 'x-envoy-original-path': textOf('path'), 'x-forwarded-for': textOf('forwarded'), 'user-agent': textOf('userAgent'), ':authority': textOf('host'), host: textOf('host'),
}));
const ENVOY_RESPONSE_HEADERS = new Map<string, Take>(Object.entries({ 'x-envoy-upstream-service-time': number('upstreamDurationMs', ms), 'grpc-status': takeGrpc }));

/** Apache's directives, and those of its headers by lower-case name. */
const APACHE = new Map<string, Take>(Object.entries({
  h: takeSource, a: takeSource, t: time(clfTime), r: takeRequest, m: textOf('method'), U: textOf('path'), q: textOf('query'), H: textOf('protocol'), s: takeStatus, b: number('bodyBytes', wholeOrNull), B: number('bodyBytes', wholeOrNull),
  O: number('allBytes', wholeOrNull), D: number('durationMs', (value) => scaledMs(value, 1e-3)), T: number('durationMs', (value) => scaledMs(value, 1e3)), v: textOf('host'), V: textOf('host'),
}));
const APACHE_HEADERS = new Map<string, Take>(Object.entries({ 'user-agent': textOf('userAgent'), host: textOf('host'), 'x-forwarded-for': textOf('forwarded') }));

function scaledMs(value: string, factor: number): number | null {
  const found = decimalOrNull(value);
  return found === null ? null : Math.round(found * factor * 1e3) / 1e3;
}

/** A piece of a pattern: fixed text, or a variable. */
type Piece = { readonly fixed: string } | { readonly take: Take; readonly list: boolean; readonly role: 'method' | 'path' | 'protocol' | null };

const NGINX_VARIABLE = /\$(?:\{([a-z_][a-z0-9_]*)\}|([a-z_][a-z0-9_]*))/g;
const ENVOY_OPERATOR = /%([A-Z_][A-Z0-9_]*)(?:\(([^)]*)\))?(?::\d+)?%/g;
const APACHE_DIRECTIVE = /%(?:%|[<>!,\d]*(?:\{([^}]*)\})?[<>]?(\^?[A-Za-z]{1,2}?))/g;

function pieces(pattern: string, variable: RegExp, of: (match: RegExpMatchArray) => Piece): Piece[] {
  const found: Piece[] = [];
  let at = 0;
  for (const match of pattern.matchAll(variable)) {
    if (match.index > at) found.push({ fixed: pattern.slice(at, match.index) });
    found.push(of(match));
    at = match.index + match[0].length;
  }
  if (at < pattern.length) found.push({ fixed: pattern.slice(at) });
  return found;
}

function roleOf(take: Take, method: Take | undefined, path: readonly (Take | undefined)[], protocol: Take | undefined): 'method' | 'path' | 'protocol' | null {
  if (take === method) return 'method';
  if (path.includes(take)) return 'path';
  return take === protocol ? 'protocol' : null;
}

function nginxPieces(pattern: string): Piece[] {
  return pieces(pattern, NGINX_VARIABLE, (match) => {
    const name = match[1] ?? match[2] ?? '';
    const take = NGINX.get(name) ?? ignore;
    return { take, list: LISTS.has(name), role: roleOf(take, NGINX.get('request_method'), [NGINX.get('request_uri'), NGINX.get('uri')], NGINX.get('server_protocol')) };
  });
}

function envoyPieces(pattern: string): Piece[] {
  const header = (known: ReadonlyMap<string, Take>, names: string): Take => names.split('?').map((name) => known.get(name.toLowerCase())).find((take) => take !== undefined) ?? ignore;
  return pieces(pattern, ENVOY_OPERATOR, ([, operator = '', argument = '']) => {
    const take = operator === 'REQ' || operator === 'REQUEST_HEADER' ? header(ENVOY_REQUEST_HEADERS, argument)
      : operator === 'RESP' || operator === 'TRAILER' || operator === 'RESPONSE_HEADER' || operator === 'RESPONSE_TRAILER' ? header(ENVOY_RESPONSE_HEADERS, argument) : (ENVOY.get(operator) ?? ignore);
    const paths = [ENVOY.get('PATH'), ...[':path', 'path', 'x-envoy-original-path'].map((name) => ENVOY_REQUEST_HEADERS.get(name))];
    return { take, list: false, role: roleOf(take, ENVOY_REQUEST_HEADERS.get(':method'), paths, ENVOY.get('PROTOCOL')) };
  });
}

function apachePieces(pattern: string): Piece[] {
  return pieces(pattern.replaceAll('\\"', '"').replaceAll('\\t', '\t'), APACHE_DIRECTIVE, (match) => {
    if (match[0] === '%%') return { fixed: '%' };
    return { take: apacheTake(match[2] ?? '', match[1]), list: false, role: null };
  });
}

function apacheTake(directive: string, argument: string | undefined): Take {
  if (argument === undefined) return APACHE.get(directive) ?? ignore;
  if (directive === 'i') return APACHE_HEADERS.get(argument.toLowerCase()) ?? ignore;
  if (directive === 'T') return number('durationMs', (value) => scaledMs(value, argument === 'ms' ? 1 : argument === 'us' ? 1e-3 : 1e3));
  if (directive === 't') return /^(?:begin:|end:)?(?:sec|msec)$/.test(argument) ? time(anyTime) : ignore;
  return directive === 'a' && argument === 'c' ? takeSource : ignore;
}

/** `"%METHOD% %PATH% %PROTOCOL%"` is a request line: read as one, since a path may hold spaces. Neighbouring pieces of fixed text become one. */
function joined(found: readonly Piece[]): Piece[] {
  const out: Piece[] = [];
  for (let i = 0; i < found.length; i++) {
    const [method, space, path, gap, protocol] = found.slice(i, i + 5);
    const line = method !== undefined && 'take' in method && method.role === 'method' && space !== undefined && 'fixed' in space && space.fixed === ' ' && path !== undefined && 'take' in path && path.role === 'path'
      && gap !== undefined && 'fixed' in gap && gap.fixed === ' ' && protocol !== undefined && 'take' in protocol && protocol.role === 'protocol';
    const piece = found[i] as Piece;
    const last = out.at(-1);
    if (line) {
      out.push({ take: takeRequest, list: false, role: null });
      i += 4;
    } else if ('fixed' in piece && last !== undefined && 'fixed' in last) out.splice(-1, 1, { fixed: last.fixed + piece.fixed });
    else out.push(piece);
  }
  return out;
}

/** End of a variable's text that begins at `from`: where `fixed` stands next, after all of a list, or after a request line's protocol. */
function endOf(line: string, from: number, fixed: string, list: boolean, isRequest: boolean): number {
  const protocol = isRequest && fixed.startsWith(' ') ? line.indexOf(' HTTP/', from) : -1;
  let end = line.indexOf(fixed, protocol < 0 ? from : protocol + 1);
  while (list && end >= 0 && fixed.startsWith(' ') && (line.charCodeAt(end - 1) === 44 || line.startsWith(' : ', end) || line.startsWith(' :', end - 2))) end = line.indexOf(fixed, end + 1);
  return end;
}

/**
 * A format out of a pattern. O(line) to read.
 * @throws InvalidPatternError where two variables stand side by side, or none of use is named
 */
export function patternFormat(format: string, name = 'pattern'): LogFormat {
  const pattern = format.replace(/(?:\\n|\n)+$/, '');
  const found = /\$\{?[a-z_]/.test(pattern) ? nginxPieces(pattern) : /%[A-Z_]{2,}(?:\(|:|%)/.test(pattern) ? envoyPieces(pattern) : apachePieces(pattern);
  const all = joined(found);
  if (!all.some((piece) => 'take' in piece && piece.take !== ignore)) throw new InvalidPatternError(pattern, 'it names no field that is known');
  all.forEach((piece, index) => {
    const next = all[index + 1];
    if ('take' in piece && next !== undefined && 'take' in next) throw new InvalidPatternError(pattern, 'two fields stand side by side with nothing between them');
  });

  const parse = (line: string): AccessLogEntry | null => {
    const into = draft();
    let at = 0;
    let cut = false;
    for (let i = 0; i < all.length && !cut; i++) {
      const piece = all[i] as Piece;
      if ('fixed' in piece) {
        // Spaces at the end are often cut off on the way.
        if (!line.startsWith(piece.fixed, at)) {
          if (i === all.length - 1) break;
          return null;
        }
        at += piece.fixed.length;
        continue;
      }
      const next = all[i + 1];
      const fixed = next !== undefined && 'fixed' in next ? next.fixed : '';
      let end = fixed === '' ? line.length : endOf(line, at, fixed, piece.list, piece.take === takeRequest);
      if (end < 0) {
        if (i + 2 < all.length) {
          cut = true;
          break;
        }
        end = line.length;
      }
      if (!piece.take(into, line.slice(at, end))) return null;
      at = end;
    }
    if (cut && into.status === null) return null;
    return finish(into, cut);
  };
  return {
    name,
    parse,
    recognise: (line) => {
      const entry = parse(line);
      return entry !== null && !entry.cut;
    },
  };
}

function finish(into: Draft, cut: boolean): AccessLogEntry {
  const { upstreamName } = into;
  const direction = upstreamName === null ? null : /^(?:inbound\||InboundPassthrough)/.test(upstreamName) ? 'inbound' : /^(?:outbound|Passthrough)/.test(upstreamName) ? 'outbound' : null;
  const forwarded = into.forwarded === null ? null : clientOf(into.forwarded.split(/[ ,]+/).filter((each) => each !== ''));
  return {
    timeMs: into.timeMs, method: into.method, path: into.query === null || into.path === null || into.path.includes('?') ? into.path : `${into.path}?${into.query.replace(/^\?/, '')}`, protocol: into.protocol, status: into.status,
    bytesSent: into.bodyBytes ?? into.allBytes, durationMs: into.durationMs, upstreamDurationMs: into.upstreamDurationMs, userAgent: into.userAgent, sourceAddress: forwarded ?? into.source, host: into.host,
    upstream: upstreamOf({ name: upstreamName, alternativeName: into.alternativeName, namespace: into.namespace, service: into.service, port: into.port, address: into.address }), grpcStatus: into.grpcStatus, direction, cut,
  };
}
