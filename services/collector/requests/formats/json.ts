import {
  clfTimeAt, CLF_TIME_LENGTH, clientOf, decimalOrNull, entryOf, isoTimeOrNull, requestLine, secondsToMs, statusOrNull, upstreamOf, wholeOrNull, withoutPort, type AccessLogEntry, type LogFormat,
} from '../entry.js';
import { urlAddress } from './clf.js';
import { grpcStatusOf } from './pattern.js';

/** Logs of one JSON object a line. Any field may be missing; a number may be written as text and the other way round. */

type Json = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * The object of a line, or null. nginx without `escape=json` writes bytes as `\x22` and leaves the values of missing numbers out or as
 * `-`: both are mended.
 */
export function objectOf(line: string): Json | null {
  const from = line.charCodeAt(0) === 123 ? 0 : line.indexOf('{');
  // Something short may stand before it (a time, a tag).
  if (from < 0 || from > 64 || !line.trimEnd().endsWith('}')) return null;
  const text = from === 0 ? line : line.slice(from);
  try {
    const value = JSON.parse(text) as unknown;
    return isObject(value) ? value : null;
  } catch {
    return mended(text);
  }
}

function mended(text: string): Json | null {
  const repaired = text.replace(/\\x([0-9a-fA-F]{2})/g, '\\u00$1').replace(/(":\s*)-?\s*(?=[,}])/g, '$1null');
  if (repaired === text) return null;
  try {
    const value = JSON.parse(repaired) as unknown;
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

/** The first of these fields that says something, as text. */
function pick(object: Json, ...names: string[]): string | null {
  for (const name of names) {
    const value = Object.hasOwn(object, name) ? object[name] : undefined;
    if (typeof value === 'string' && value !== '' && value !== '-') return value;
    if (typeof value === 'number' && Number.isFinite(value)) return String(value);
    // Header values are lists in some logs.
    if (Array.isArray(value) && typeof value[0] === 'string' && value[0] !== '') return value[0];
  }
  return null;
}

function inner(object: Json, name: string): Json {
  const value = Object.hasOwn(object, name) ? object[name] : undefined;
  return isObject(value) ? value : {};
}

/** A header out of a map of headers, whatever the case of its name. */
function header(headers: Json, name: string): string | null {
  return pick(headers, name, ...Object.keys(headers).filter((key) => key.toLowerCase() === name));
}

function has(object: Json, ...names: string[]): boolean {
  return names.some((name) => Object.hasOwn(object, name) && object[name] !== null);
}

/** A time as ISO text, Common Log Format, or seconds, ms, µs or ns since the epoch. */
export function timeOf(text: string | null): number | null {
  if (text === null) return null;
  const number = decimalOrNull(text);
  if (number !== null) {
    const unit = number > 1e17 ? 1e-6 : number > 1e14 ? 1e-3 : number > 1e11 ? 1 : 1e3;
    return number === 0 ? null : Math.round(number * unit);
  }
  if (text.length === CLF_TIME_LENGTH) {
    const clf = clfTimeAt(text, 0);
    if (!Number.isNaN(clf)) return clf;
  }
  return isoTimeOrNull(text);
}

function scaled(text: string | null, factor: number): number | null {
  const value = decimalOrNull(text);
  return value === null ? null : Math.round(value * factor * 1e6) / 1e6;
}

/** Seconds; lists of tries (`0.1, 0.2`) are added up. */
function secondsOf(text: string | null): number | null {
  if (text === null) return null;
  const parts = text.split(/[,:] */).map((part) => secondsToMs(part.trim())).filter((part) => part !== null);
  return parts.length === 0 ? null : Math.round(parts.reduce((a, b) => a + b, 0) * 1e3) / 1e3;
}

function clientFrom(forwarded: string | null, remote: string | null): string | null {
  return forwarded === null ? remote : clientOf(forwarded.split(/[ ,]+/).filter((each) => each !== ''));
}

function lastAddress(text: string | null): string | null {
  return text === null ? null : (text.split(/, | : |,/).map((each) => each.trim()).filter((each) => each !== '' && each !== '-').at(-1) ?? null);
}

function jsonFormat(name: string, isOne: (object: Json) => boolean, read: (object: Json) => AccessLogEntry): LogFormat {
  const parse = (line: string): AccessLogEntry | null => {
    const object = objectOf(line);
    return object === null || !isOne(object) ? null : read(object);
  };
  return { name, parse, recognise: (line) => parse(line) !== null };
}

/** Traefik's access log as JSON (doc.traefik.io, "Access logs"); durations in ns. Version 1 wrote FrontendName and BackendName. */
export const traefikJsonFormat = jsonFormat(
  'traefik-json',
  (object) => has(object, 'DownstreamStatus', 'OriginStatus', 'RequestMethod', 'RequestPath') && has(object, 'RequestMethod', 'RequestPath', 'ClientHost', 'ClientAddr', 'RouterName', 'ServiceName', 'StartUTC', 'Duration', 'FrontendName', 'BackendName'),
  (object) => {
    const url = object['ServiceURL'] ?? object['BackendURL'];
    const server = isObject(url) ? pick(url, 'Host') : typeof url === 'string' ? urlAddress(url) : null;
    return entryOf({
      timeMs: timeOf(pick(object, 'StartUTC', 'StartLocal', 'time')), method: pick(object, 'RequestMethod'), path: pick(object, 'RequestPath'), protocol: pick(object, 'RequestProtocol'),
      status: statusOrNull(pick(object, 'DownstreamStatus')) ?? statusOrNull(pick(object, 'OriginStatus')), bytesSent: wholeOrNull(pick(object, 'DownstreamContentSize', 'OriginContentSize')), durationMs: scaled(pick(object, 'Duration'), 1e-6),
      upstreamDurationMs: scaled(pick(object, 'OriginDuration'), 1e-6), userAgent: pick(object, 'request_User-Agent', 'request_user-agent', 'UserAgent'), sourceAddress: pick(object, 'ClientHost') ?? withoutPort(pick(object, 'ClientAddr')),
      host: pick(object, 'RequestHost', 'RequestAddr'), upstream: upstreamOf({ name: pick(object, 'ServiceName', 'BackendName', 'RouterName', 'FrontendName'), address: pick(object, 'ServiceAddr', 'BackendAddr') ?? server }),
      grpcStatus: grpcStatusOf(pick(object, 'downstream_Grpc-Status', 'origin_Grpc-Status')),
    });
  },
);

/** Istio's and Envoy Gateway's JSON encoding: Envoy's operators under lower-case names; durations in ms. */
export const istioJsonFormat = jsonFormat(
  'istio-json',
  (object) => has(object, 'response_code', 'response_flags') && has(object, 'start_time', 'method', 'path', ':method', 'upstream_cluster', 'upstream_host'),
  (object) => {
    const name = pick(object, 'upstream_cluster', 'upstream_cluster_raw');
    return entryOf({
      timeMs: timeOf(pick(object, 'start_time')), method: pick(object, 'method', ':method'), path: pick(object, 'path', 'x-envoy-origin-path', 'x-envoy-original-path', ':path'), protocol: pick(object, 'protocol'), status: statusOrNull(pick(object, 'response_code')),
      bytesSent: wholeOrNull(pick(object, 'bytes_sent')), durationMs: decimalOrNull(pick(object, 'duration')), upstreamDurationMs: decimalOrNull(pick(object, 'upstream_service_time', 'x-envoy-upstream-service-time')),
      userAgent: pick(object, 'user_agent', 'user-agent'), sourceAddress: clientFrom(pick(object, 'x_forwarded_for', 'x-forwarded-for'), withoutPort(pick(object, 'downstream_remote_address'))), host: pick(object, 'authority', ':authority'),
      upstream: upstreamOf({ name, address: pick(object, 'upstream_host') }), grpcStatus: grpcStatusOf(pick(object, 'grpc_status', 'grpc_status_number')),
      direction: name === null ? null : /^(?:inbound\||InboundPassthrough)/.test(name) ? 'inbound' : /^(?:outbound|Passthrough)/.test(name) ? 'outbound' : null,
    });
  },
);

/** Caddy's access log (caddyserver.com/docs/logging); duration in seconds, or a Go duration where so configured. */
export const caddyFormat = jsonFormat(
  'caddy',
  (object) => has(inner(object, 'request'), 'uri', 'method') && has(object, 'status') && !has(object, 'latencies'),
  (object) => {
    const request = inner(object, 'request');
    const duration = pick(object, 'duration', 'latency');
    const go = /^(\d+(?:\.\d+)?)(ns|us|µs|ms|s)$/.exec(duration ?? '');
    const unit: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, 'µs': 1e-3, ms: 1, s: 1e3 };
    return entryOf({
      timeMs: timeOf(pick(object, 'ts', 'time')), method: pick(request, 'method'), path: pick(request, 'uri'), protocol: pick(request, 'proto'), status: statusOrNull(pick(object, 'status')), bytesSent: wholeOrNull(pick(object, 'size')),
      durationMs: go === null ? scaled(duration, 1e3) : scaled(go[1] ?? null, unit[go[2] ?? ''] ?? 1), userAgent: header(inner(request, 'headers'), 'user-agent'),
      sourceAddress: pick(request, 'client_ip', 'remote_ip') ?? withoutPort(pick(request, 'remote_addr')), host: pick(request, 'host'),
    });
  },
);

/** Kong's log plugins (file-log, http-log: developer.konghq.com); latencies in ms. */
export const kongJsonFormat = jsonFormat(
  'kong-json',
  (object) => has(object, 'latencies') && has(inner(object, 'request'), 'uri', 'method', 'url'),
  (object) => {
    const request = inner(object, 'request');
    const response = inner(object, 'response');
    const service = inner(object, 'service');
    const latencies = inner(object, 'latencies');
    const tries = Array.isArray(object['tries']) ? (object['tries'] as unknown[]).filter(isObject) : [];
    const last = tries.at(-1);
    return entryOf({
      timeMs: timeOf(pick(object, 'started_at')), method: pick(request, 'method'), path: pick(request, 'uri'), status: statusOrNull(pick(response, 'status')), bytesSent: wholeOrNull(pick(response, 'size')),
      durationMs: decimalOrNull(pick(latencies, 'request')), upstreamDurationMs: decimalOrNull(pick(latencies, 'proxy')), userAgent: header(inner(request, 'headers'), 'user-agent'), sourceAddress: pick(object, 'client_ip'),
      host: header(inner(request, 'headers'), 'host'), grpcStatus: grpcStatusOf(header(inner(response, 'headers'), 'grpc-status')),
      upstream: upstreamOf({ name: pick(service, 'name', 'host'), port: pick(service, 'port'), address: last === undefined ? null : `${pick(last, 'ip') ?? ''}:${pick(last, 'port') ?? ''}` }),
    });
  },
);

const STATUS = ['status', 'response_status', 'status_code', 'response_code'];
const METHOD = ['request_method', 'method', 'http_method', 'verb'];

/** JSON that a user made of nginx's variables, by the names in common use; ingress-nginx's variables among them. */
export const nginxJsonFormat = jsonFormat(
  'nginx-json',
  (object) => statusOrNull(pick(object, ...STATUS)) !== null && (has(object, 'request', 'request_line') || pick(object, ...METHOD) !== null),
  (object) => {
    const line = requestLine(pick(object, 'request', 'request_line') ?? '');
    const path = line.path ?? pick(object, 'request_uri', 'path', 'uri', 'url', 'request_path');
    const query = pick(object, 'args', 'request_query', 'query_string', 'query');
    return entryOf({
      timeMs: timeOf(pick(object, 'time_iso8601', 'time', 'timestamp', '@timestamp', 'time_local', 'msec', 'ts', 'date')), method: line.method ?? pick(object, ...METHOD), path: path !== null && query !== null && !path.includes('?') ? `${path}?${query}` : path,
      protocol: line.protocol ?? pick(object, 'server_protocol', 'request_proto', 'protocol', 'http_version', 'proto'), status: statusOrNull(pick(object, ...STATUS)),
      bytesSent: wholeOrNull(pick(object, 'body_bytes_sent', 'bytes_sent', 'bytes', 'size', 'response_size')), durationMs: secondsOf(pick(object, 'request_time', 'duration', 'response_time')),
      upstreamDurationMs: secondsOf(pick(object, 'upstream_response_time', 'upstream_time')), userAgent: pick(object, 'http_user_agent', 'user_agent', 'agent', 'userAgent'),
      sourceAddress: clientFrom(pick(object, 'http_x_forwarded_for', 'x_forwarded_for', 'proxy_add_x_forwarded_for', 'x-forwarded-for'), pick(object, 'remote_addr', 'proxy_protocol_addr', 'remote_address', 'client_ip', 'client', 'remote_ip')),
      host: pick(object, 'host', 'http_host', 'vhost', 'server_name'), grpcStatus: grpcStatusOf(pick(object, 'grpc_status')),
      upstream: upstreamOf({
        name: pick(object, 'proxy_upstream_name', 'upstream_name', 'upstream'), alternativeName: pick(object, 'proxy_alternative_upstream_name'), namespace: pick(object, 'namespace', 'k8s_namespace', 'ingress_namespace'),
        service: pick(object, 'service_name', 'service', 'k8s_service'), port: pick(object, 'service_port'), address: lastAddress(pick(object, 'upstream_addr', 'upstream_address')),
      }),
    });
  },
);
