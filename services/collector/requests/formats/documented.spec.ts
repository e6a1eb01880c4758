import fc from 'fast-check';
import type { AccessLogEntry } from '../entry.js';
import { AccessLogReader, LOG_FORMATS, recogniseFormat } from '../formats.js';
import { ENVOY_DEFAULT, ISTIO_BEFORE_1_9, ISTIO_DEFAULT } from './envoy.js';
import { grpcStatusOf, InvalidPatternError, patternFormat } from './pattern.js';

/**
 * Formats of which no lines by others are at hand: lines are written here by their documented format strings and field lists and must
 * come back as they went in. These are not other people's lines.
 */

const WORD = /^[!#-~]{1,20}$/;
const word = fc.stringMatching(WORD).filter((text) => text !== '-');
const method = fc.constantFrom('GET', 'POST', 'DELETE', 'OPTIONS', 'PATCH');
const path = fc.webPath().map((text) => text || '/');
const agent = fc.string({ unit: 'grapheme-ascii', maxLength: 60 }).map((text) => text.replaceAll('"', "'").trim()).filter((text) => text !== '' && text !== '-' && !text.endsWith('\\'));
const ipv4 = fc.ipV4();
const port = fc.integer({ min: 1, max: 65_535 });
const address = fc.oneof(fc.tuple(ipv4, port).map(([ip, number]) => `${ip}:${number}`), fc.tuple(fc.ipV6(), port).map(([ip, number]) => `[${ip}]:${number}`));
const label = fc.stringMatching(/^[a-z]([-a-z0-9]{0,10}[a-z0-9])?$/);
const timeMs = fc.integer({ min: Date.parse('2015-01-01T00:00:00Z'), max: Date.parse('2035-01-01T00:00:00Z') });
const optional = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(arbitrary);

const request = fc.record({
  timeMs, method, path, protocol: fc.constantFrom('HTTP/1.1', 'HTTP/2'), status: fc.integer({ min: 100, max: 599 }), bytesReceived: fc.nat(), bytesSent: fc.nat(), durationMs: fc.nat(), upstreamDurationMs: optional(fc.nat()), forwarded: optional(ipv4),
  userAgent: optional(agent), requestId: fc.uuid(), host: optional(label), upstreamAddress: optional(address), flags: fc.constantFrom('-', 'UH', 'UF,URX', 'DC'), failure: fc.constantFrom('-', 'delayed connect error: 111', 'TLS error: certificate verify failed'),
  namespace: label, service: label, servicePort: port, direction: fc.constantFrom('inbound' as const, 'outbound' as const), remote: fc.tuple(ipv4, port), details: fc.constantFrom('via_upstream', 'no_healthy_upstream', '-'),
});
type Request = typeof request extends fc.Arbitrary<infer T> ? T : never;

const dash = (value: string | number | null): string => (value === null ? '-' : String(value));
const clusterOf = (r: Request): string => (r.direction === 'inbound' ? `inbound|${r.servicePort}||` : `outbound|${r.servicePort}||${r.service}.${r.namespace}.svc.cluster.local`);

/** Writes a line as Envoy would. */
function envoyLine(format: string, r: Request): string {
  const values: Readonly<Record<string, string>> = {
    START_TIME: new Date(r.timeMs).toISOString(), 'REQ(:METHOD)': r.method, 'REQ(X-ENVOY-ORIGINAL-PATH?:PATH)': r.path, PROTOCOL: r.protocol, RESPONSE_CODE: String(r.status), RESPONSE_FLAGS: r.flags, BYTES_RECEIVED: String(r.bytesReceived),
    BYTES_SENT: String(r.bytesSent), DURATION: String(r.durationMs), 'RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)': dash(r.upstreamDurationMs), 'REQ(X-FORWARDED-FOR)': dash(r.forwarded), 'REQ(USER-AGENT)': dash(r.userAgent), 'REQ(X-REQUEST-ID)': r.requestId,
    'REQ(:AUTHORITY)': dash(r.host), UPSTREAM_HOST: dash(r.upstreamAddress), RESPONSE_CODE_DETAILS: r.details, CONNECTION_TERMINATION_DETAILS: '-', UPSTREAM_TRANSPORT_FAILURE_REASON: r.failure, UPSTREAM_CLUSTER_RAW: clusterOf(r),
    UPSTREAM_LOCAL_ADDRESS: '127.0.0.6:43051', DOWNSTREAM_LOCAL_ADDRESS: '10.1.2.3:8080', DOWNSTREAM_REMOTE_ADDRESS: `${r.remote[0]}:${r.remote[1]}`, REQUESTED_SERVER_NAME: '-', ROUTE_NAME: 'default', 'DYNAMIC_METADATA(istio.mixer:status)': '-',
  };
  return format.replace(/%([^%]+)%/g, (_all, operator: string) => values[operator] ?? '?');
}

function expected(r: Request, istio: boolean): Partial<AccessLogEntry> {
  const name = istio ? clusterOf(r) : null;
  return {
    timeMs: r.timeMs, method: r.method, path: r.path, protocol: r.protocol, status: r.status, bytesSent: r.bytesSent, durationMs: r.durationMs, upstreamDurationMs: r.upstreamDurationMs, userAgent: r.userAgent,
    sourceAddress: r.forwarded ?? (istio ? r.remote[0] : null), host: r.host, direction: istio ? r.direction : null, cut: false,
    upstream: name === null && r.upstreamAddress === null ? null : { name, alternativeName: null, namespace: null, service: null, port: null, address: r.upstreamAddress },
  };
}

describe('Envoy and Istio', () => {
  it.each([['envoy', ENVOY_DEFAULT, false], ['istio', ISTIO_DEFAULT, true], ['istio-1.8', ISTIO_BEFORE_1_9, true]] as const)('%s: lines by its format string come back', (name, format, istio) => {
    fc.assert(fc.property(request, (r) => {
      const line = envoyLine(format, r);
      expect(recogniseFormat([line])?.name).toBe(name);
      expect(new AccessLogReader().read(line)).toMatchObject(expected(r, istio));
    }), { numRuns: 300 });
  });

  it('Istio\'s JSON comes back, with keys missing or null', () => {
    fc.assert(fc.property(request, fc.boolean(), fc.boolean(), (r, asText, leavesOut) => {
      const number = (value: number | null): unknown => (value === null ? null : asText ? String(value) : value);
      const object = {
        start_time: new Date(r.timeMs).toISOString(), method: r.method, path: r.path, protocol: r.protocol, response_code: number(r.status), response_flags: r.flags, response_code_details: r.details, connection_termination_details: null,
        bytes_received: number(r.bytesReceived), bytes_sent: number(r.bytesSent), duration: number(r.durationMs), upstream_service_time: number(r.upstreamDurationMs), x_forwarded_for: r.forwarded, user_agent: r.userAgent, request_id: r.requestId, authority: r.host,
        upstream_host: r.upstreamAddress, upstream_cluster: clusterOf(r), upstream_local_address: null, downstream_local_address: '10.1.2.3:8080', downstream_remote_address: `${r.remote[0]}:${r.remote[1]}`, requested_server_name: null, route_name: 'default',
        upstream_transport_failure_reason: null,
      };
      const line = JSON.stringify(leavesOut ? Object.fromEntries(Object.entries(object).filter(([, value]) => value !== null)) : object);
      expect(recogniseFormat([line])?.name).toBe('istio-json');
      expect(new AccessLogReader().read(line)).toMatchObject(expected(r, true));
    }), { numRuns: 300 });
  });

  it('keeps a TCP connection, and paths with spaces', () => {
    const envoy = patternFormat(ENVOY_DEFAULT);
    expect(envoy.parse('[2016-04-15T20:17:00.310Z] "- - -" 0 - 154 1024 5000 - "-" "-" "-" "-" "10.0.2.1:3306"')).toMatchObject({ method: null, path: null, status: null, bytesSent: 1024, durationMs: 5000, upstream: { address: '10.0.2.1:3306' } });
    expect(envoy.parse('[2016-04-15T20:17:00.310Z] "GET /a b HTTP/1.1" 200 - 0 5 1 1 "-" "x" "-" "h" "10.0.2.1:80"')).toMatchObject({ path: '/a b' });
    expect(envoy.parse('[2016-04-15T20:17:00.310Z] "GET /a HTTP/1.1" 503 UH 0 5 1')).toMatchObject({ path: '/a', status: 503, cut: true });
    expect(envoy.parse('[2016-04-15T20:17:00.310Z] "GET /a HT')).toBeNull();
  });
});

describe('Traefik as JSON', () => {
  it('comes back, with any field missing', () => {
    fc.assert(fc.property(request, fc.subarray(['ClientAddr', 'RequestProtocol', 'OriginDuration', 'ServiceAddr', 'request_User-Agent', 'RouterName']), (r, missing) => {
      const object: Record<string, unknown> = {
        ClientAddr: `${r.remote[0]}:${r.remote[1]}`, ClientHost: r.remote[0], RequestMethod: r.method, RequestPath: r.path, RequestProtocol: r.protocol, DownstreamStatus: r.status, OriginStatus: 200, DownstreamContentSize: r.bytesSent, Duration: r.durationMs * 1e6,
        OriginDuration: (r.upstreamDurationMs ?? 0) * 1e6, StartUTC: new Date(r.timeMs).toISOString().replace('Z', '123456Z'), RouterName: 'router@kubernetes', ServiceName: `${r.namespace}-${r.service}-${r.servicePort}@kubernetes`, ServiceAddr: '10.0.0.7:80',
        'request_User-Agent': r.userAgent ?? undefined, level: 'info', msg: '', time: '2020-01-01T00:00:00Z',
      };
      for (const key of missing) delete object[key];
      const line = JSON.stringify(object);
      expect(recogniseFormat([line])?.name).toBe('traefik-json');
      expect(new AccessLogReader().read(line)).toMatchObject({
        timeMs: r.timeMs, method: r.method, path: r.path, status: r.status, bytesSent: r.bytesSent, durationMs: r.durationMs, sourceAddress: r.remote[0], upstreamDurationMs: missing.includes('OriginDuration') ? null : (r.upstreamDurationMs ?? 0),
        userAgent: missing.includes('request_User-Agent') ? null : r.userAgent, upstream: { name: `${r.namespace}-${r.service}-${r.servicePort}@kubernetes`, address: missing.includes('ServiceAddr') ? null : '10.0.0.7:80' },
      });
    }), { numRuns: 300 });
  });

  it('reads version 1, and servers by their URL', () => {
    const line = (extra: object) => JSON.stringify({ RequestMethod: 'GET', RequestPath: '/', OriginStatus: 502, ...extra });
    expect(new AccessLogReader().read(line({ FrontendName: 'Host-a', BackendName: 'backend-web', BackendURL: { Scheme: 'http', Host: '10.0.0.1:80' } }))).toMatchObject({ status: 502, upstream: { name: 'backend-web', address: '10.0.0.1:80' } });
    expect(new AccessLogReader().read(line({ ServiceName: 's', ServiceURL: 'http://10.0.0.2:80/' }))).toMatchObject({ upstream: { address: '10.0.0.2:80' } });
  });
});

describe('further JSON', () => {
  const read = (value: unknown) => {
    const reader = new AccessLogReader();
    const entry = reader.read(typeof value === 'string' ? value : JSON.stringify(value));
    return { format: reader.format?.name, entry };
  };

  it('reads Caddy', () => {
    const object = { level: 'info', ts: 1646861401.5241024, logger: 'http.log.access', msg: 'handled request', request: { remote_ip: '127.0.0.1', remote_port: '41342', client_ip: '127.0.0.1', proto: 'HTTP/2.0', method: 'GET', host: 'localhost', uri: '/a?b', headers: { 'User-Agent': ['curl/7.82.0'] } }, bytes_read: 0, duration: 0.000929675, size: 10900, status: 200 };
    expect(read(object)).toMatchObject({ format: 'caddy', entry: { timeMs: 1646861401524, method: 'GET', path: '/a?b', protocol: 'HTTP/2.0', status: 200, bytesSent: 10900, durationMs: 0.929675, userAgent: 'curl/7.82.0', sourceAddress: '127.0.0.1', host: 'localhost' } });
    expect(read({ ...object, ts: '2022-03-09T21:30:01.524Z', duration: '929.5µs', request: { ...object.request, client_ip: undefined, remote_ip: undefined, remote_addr: '[::1]:80' } })).toMatchObject({ entry: { timeMs: 1646861401524, durationMs: 0.9295, sourceAddress: '::1' } });
  });

  it('reads Kong', () => {
    const object = { started_at: 1700000000123, client_ip: '10.0.0.9', request: { method: 'GET', uri: '/orders', url: 'http://shop/orders', size: '92', headers: { 'user-agent': 'curl/8', host: 'shop' } }, response: { status: 200, size: '434', headers: {} }, latencies: { request: 57, kong: 2, proxy: 55 }, service: { name: 'shop.web.80', host: 'web.shop.80.svc', port: 80 }, tries: [{ ip: '10.1.0.1', port: 8080 }, { ip: '10.1.0.2', port: 8080 }] };
    expect(read(object)).toMatchObject({ format: 'kong-json', entry: { timeMs: 1700000000123, method: 'GET', path: '/orders', status: 200, bytesSent: 434, durationMs: 57, upstreamDurationMs: 55, userAgent: 'curl/8', sourceAddress: '10.0.0.9', host: 'shop', upstream: { name: 'shop.web.80', port: '80', address: '10.1.0.2:8080' } } });
  });

  it('reads what users make of nginx\'s variables', () => {
    const object = { time: '2020-02-07T11:48:51+01:00', remote_addr: '10.0.0.1', x_forwarded_for: '10.0.0.5, 8.8.8.8', request_time: '0.250', status: '404', vhost: 'shop', request_proto: 'HTTP/1.1', path: '/a', request_query: 'b=c', method: 'GET', http_user_agent: 'x', bytes_sent: 12, proxy_upstream_name: 'a-b-80', upstream_addr: '10.0.0.1:80, 10.0.0.2:80', upstream_response_time: '0.1, 0.2' };
    expect(read(object)).toMatchObject({ format: 'nginx-json', entry: { timeMs: Date.parse('2020-02-07T10:48:51Z'), method: 'GET', path: '/a?b=c', status: 404, bytesSent: 12, durationMs: 250, upstreamDurationMs: 300, sourceAddress: '8.8.8.8', upstream: { name: 'a-b-80', address: '10.0.0.2:80' } } });
    expect(read({ request: 'GET /x HTTP/1.1', status: 200, time_local: '07/Feb/2020:11:48:51 +0000', namespace: 'shop', service_name: 'web', service_port: 80 })).toMatchObject({ entry: { path: '/x', timeMs: Date.parse('2020-02-07T11:48:51Z'), upstream: { namespace: 'shop', service: 'web', port: '80' } } });
  });

  it('mends nginx\'s escapes and numbers that are missing', () => {
    expect(read('{"status": 200, "request": "GET /\\x22a HTTP/1.1", "upstream_response_time": -, "request_time": , "msec": 1581076131.250}')).toMatchObject({ entry: { path: '/"a', durationMs: null, upstreamDurationMs: null, timeMs: 1581076131250 } });
  });

  it('is no request when it is not', () => {
    for (const line of ['{"level":"info","msg":"started"}', '{}', '[]', '{"status":200}', '{"status":"up","method":"GET"}', '{"request":', 'null', '{"constructor":1,"__proto__":{"status":200}}']) expect(read(line).entry).toBeNull();
  });
});

describe('Kong and AWS as text', () => {
  const read = (line: string) => {
    const reader = new AccessLogReader();
    return { entry: reader.read(line), format: reader.format?.name };
  };

  it('reads Kong', () => {
    expect(read('172.18.0.1 - - [26/Sep/2023:08:23:27 +0000] "GET /mock HTTP/1.1" 200 1310 "-" "curl/7.87.0" kong_request_id: "3a9d8f6c"')).toMatchObject({ format: 'kong', entry: { path: '/mock', status: 200, userAgent: 'curl/7.87.0', cut: false } });
  });

  it('reads an application load balancer\'s lines back', () => {
    const seconds = fc.integer({ min: 0, max: 60_000 }).map((value) => value / 1_000);
    fc.assert(fc.property(request, seconds, seconds, seconds, fc.constantFrom('http', 'https', 'h2', 'ws'), (r, first, second, third, kind) => {
      const line = [
        kind, new Date(r.timeMs).toISOString().replace('Z', '000Z'), 'app/my-loadbalancer/50dc6c495c0c9188', `${r.remote[0]}:${r.remote[1]}`, r.upstreamAddress ?? '-', first, second, third, r.status, 200, r.bytesReceived, r.bytesSent,
        `"${r.method} http://www.example.com:80${r.path} ${r.protocol}"`, `"${dash(r.userAgent)}"`, '-', '-', 'arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/k8s-shop-web-123/73e2d6bc24d8a067', '"Root=1-58337262-36d228ad5d99923122bbe354"', '"shop.example"',
        '"-"', 0, new Date(r.timeMs).toISOString(), '"forward"', '"-"', '"-"', '"10.0.0.1:80"', '"200"', '"-"', '"-"', 'TID_1',
      ].join(' ');
      expect(read(line)).toMatchObject({
        format: 'aws-alb',
        entry: {
          timeMs: r.timeMs, method: r.method, path: `http://www.example.com:80${r.path}`, status: r.status, bytesSent: r.bytesSent, durationMs: Math.round((first + second + third) * 1e6) / 1e3, upstreamDurationMs: Math.round(second * 1e6) / 1e3, userAgent: r.userAgent,
          sourceAddress: r.remote[0], host: 'shop.example', upstream: { name: 'k8s-shop-web-123', address: r.upstreamAddress }, cut: false,
        },
      });
    }), { numRuns: 200 });
  });

  it('reads classic load balancers, failures and connections', () => {
    expect(read('2015-05-13T23:39:43.945958Z my-loadbalancer 192.168.131.39:2817 10.0.0.1:80 0.000086 0.001048 0.001337 200 200 0 57 "GET https://www.example.com:443/ HTTP/1.1" "curl/7.38.0" DHE-RSA-AES128-SHA TLSv1.2')).toMatchObject({
      format: 'aws-elb', entry: { timeMs: Date.parse('2015-05-13T23:39:43.945Z'), status: 200, bytesSent: 57, durationMs: 2.471, userAgent: 'curl/7.38.0', sourceAddress: '192.168.131.39', upstream: { address: '10.0.0.1:80' } },
    });
    expect(read('2015-05-13T23:39:43.945958Z my-loadbalancer 192.168.131.39:2817 - -1 -1 -1 503 0 0 0 "GET http://www.example.com:80/ HTTP/1.1" "-" - -').entry).toMatchObject({ status: 503, durationMs: null, upstream: null });
    expect(read('2015-05-13T23:39:43.945958Z my-loadbalancer 192.168.131.39:2817 10.0.0.1:80 0.001069 0.000028 0.000041 - - 82 305 "- - - " "-" - -').entry).toMatchObject({ method: null, status: null, bytesSent: 305 });
  });
});

describe('HAProxy besides the lines at hand', () => {
  const read = (line: string) => new AccessLogReader().read(line);

  it('reads connections, requests that none answered, and lines that were cut', () => {
    expect(read('Sep 20 15:44:23 127.0.0.1 haproxy[25457]: 127.0.0.1:40962 [20/Sep/2018:15:44:23.285] main app/<NOSRV> -1/-1/0 212 SC 1/1/0/0/0 0/0')).toMatchObject({ method: null, status: null, bytesSent: 212, durationMs: 0, upstream: { name: 'app', address: null }, sourceAddress: '127.0.0.1', timeMs: Date.parse('2018-09-20T15:44:23.285Z') });
    expect(read('Sep 20 15:42:59 127.0.0.1 haproxy[24551]: Connect from 1.2.3.4:40780 to 1.2.3.4:5000 (main/HTTP)')).toMatchObject({ sourceAddress: '1.2.3.4', timeMs: null });
    expect(read('::1:33317 [05/Feb/2024:12:12:09.655] http-in default_web_8080/<NOSRV> 0/-1/-1/-1/5 503 +212 - - SC-- 1/1/0/0/0 0/0 "GET / HTTP/1.1"')).toMatchObject({ status: 503, bytesSent: 212, durationMs: 5, upstreamDurationMs: null, sourceAddress: '::1', upstream: { name: 'default_web_8080', address: null }, cut: false });
    expect(read('1.2.3.4:33317 [05/Feb/2024:12:12:09.655] http-in be/srv 0/0/0/7/9 200 212 - - ---- 1/1/0/0/0 0/0 "GET /very/long')).toBeNull();
    expect(LOG_FORMATS.find(({ name }) => name === 'haproxy')?.parse('1.2.3.4:33317 [05/Feb/2024:12:12:09.655] http-in be/srv 0/0/0/7/9 200 212 - - ---- 1/1/0/0/0 0/0 "GET /very/long')).toMatchObject({ method: 'GET', path: '/very/long', status: 200, upstreamDurationMs: 7, cut: true });
    expect(read('1.2.3.4:33317 [05/Feb/2024:12:12:09.655] http-in http-in/<NOSRV> -1/-1/-1/-1/0 400 0 - - PR-- 1/1/0/0/0 0/0 "<BADREQ>"')).toMatchObject({ status: 400, method: null, path: null });
  });
});

describe('formats described by a pattern', () => {
  it('reads nginx\'s, Apache\'s and Envoy\'s words', () => {
    const nginx = patternFormat('$remote_addr [$time_iso8601] ${request_method} $request_uri $status $body_bytes_sent rt=$request_time ua="$upstream_addr" ut="$upstream_response_time" "$http_user_agent" $proxy_upstream_name');
    expect(nginx.parse('10.0.0.1 [2020-02-07T11:48:51+00:00] GET /a?b 200 5 rt=0.250 ua="10.0.0.2:80, 10.0.0.3:80" ut="0.1, 0.1" "say "hi"" a-b-80')).toMatchObject({
      sourceAddress: '10.0.0.1', timeMs: Date.parse('2020-02-07T11:48:51Z'), method: 'GET', path: '/a?b', status: 200, bytesSent: 5, durationMs: 250, upstreamDurationMs: 200, userAgent: 'say "hi"', upstream: { name: 'a-b-80', address: '10.0.0.3:80' },
    });
    const bare = patternFormat('$msec $status $upstream_addr $upstream_response_time $request');
    expect(bare.parse('1581076131.250 502 10.0.0.2:80, 10.0.0.3:80 : 10.0.0.4:80 0.1, 0.1 : 0.3 GET / HTTP/1.1')).toMatchObject({ timeMs: 1581076131250, upstreamDurationMs: 500, path: '/', upstream: { address: '10.0.0.4:80' } });
    const apache = patternFormat('%v:%p %h %l %u %t \\"%r\\" %>s %O \\"%{Referer}i\\" \\"%{User-Agent}i\\" %D %{ms}T%%');
    expect(apache.parse('shop:443 10.0.0.1 - frank [07/Feb/2020:11:48:51 +0000] "GET /a HTTP/1.1" 200 512 "-" "curl" 2500 3%')).toMatchObject({ host: 'shop', sourceAddress: '10.0.0.1', timeMs: Date.parse('2020-02-07T11:48:51Z'), path: '/a', status: 200, bytesSent: 512, userAgent: 'curl', durationMs: 3 });
    const envoy = patternFormat('%START_TIME% %REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %DURATION% %GRPC_STATUS% %UPSTREAM_CLUSTER%\n');
    expect(envoy.parse('2020-02-07T11:48:51.000Z POST /shop.Cart/Add HTTP/2 200 12 Unavailable outbound|80||cart.shop.svc.cluster.local')).toMatchObject({ method: 'POST', path: '/shop.Cart/Add', status: 200, durationMs: 12, grpcStatus: 14, direction: 'outbound' });
  });

  it('refuses lines that cannot be of it, and patterns that say nothing', () => {
    const format = patternFormat('$remote_addr $status $request_time');
    expect(format.parse('10.0.0.1 OK 0.1')).toBeNull();
    expect(format.parse('10.0.0.1 200 soon')).toBeNull();
    expect(format.recognise('10.0.0.1 200 0.1')).toBe(true);
    for (const pattern of ['', 'hello', '$connection', '$status$request', '%>s%b']) expect(() => patternFormat(pattern)).toThrow(InvalidPatternError);
  });

  it('is told from others by the reader that was given it', () => {
    const format = patternFormat('"$request" => $status');
    const reader = new AccessLogReader(format);
    expect(reader.read('"GET / HTTP/1.1" => 204')).toMatchObject({ path: '/', status: 204 });
    expect(reader.read('1.2.3.4 - - [26/Sep/2023:08:23:27 +0000] "GET /mock HTTP/1.1" 200 1310 "-" "curl/7.87.0"')).toBeNull();
    expect(reader.counters).toMatchObject({ entries: 1, skipped: 1 });
  });

  it('throws on no pattern but by its own error, and on no line', () => {
    fc.assert(fc.property(fc.array(fc.oneof(fc.constantFrom('$status', '$request', '%h', '%>s', '%{User-Agent}i', '%START_TIME%', '%REQ(:PATH)%', ' ', '"', '[', '%%'), word), { maxLength: 10 }), fc.string({ unit: 'binary' }), (parts, line) => {
      let format;
      try {
        format = patternFormat(parts.join(''));
      } catch (error) {
        expect(error).toBeInstanceOf(InvalidPatternError);
        return;
      }
      format.parse(line);
      format.recognise(line);
    }), { numRuns: 500 });
  });

  it('knows gRPC codes by number and name', () => {
    expect(['0', '14', 'Unavailable', 'PERMISSION_DENIED', 'OK', 'Cancelled', '17', 'Odd', null].map(grpcStatusOf)).toEqual([0, 14, 14, 7, 0, 1, null, null, null]);
  });
});
