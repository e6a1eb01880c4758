import { readFileSync, readdirSync } from 'node:fs';
import fc from 'fast-check';
import type { AccessLogEntry } from './entry.js';
import { podLogLine } from './entry.js';
import { AccessLogReader, formatNamed, LOG_FORMATS, LONGEST_LINE, recogniseFormat } from './formats.js';

const folder = new URL('../../../testdata/access-logs/', import.meta.url);
const text = (name: string) => readFileSync(new URL(name, folder), 'utf8');
type Expected = Readonly<Record<string, string | number | string[] | undefined>>;

/** What the authors of a line expect of it, in the words of an entry; fields that they do not give are left out. */
function expectedEntry(expected: Expected): Record<string, unknown> {
  const ms = (value: unknown, unitsPerMs: number) => (typeof value === 'number' ? Math.round((value / unitsPerMs) * 1e3) / 1e3 : undefined);
  const upstreamSeconds = expected['nginx.ingress_controller.upstream.response.time'];
  const address = expected['nginx.ingress_controller.upstream.ip'];
  return Object.fromEntries(Object.entries({
    timeMs: typeof expected['@timestamp'] === 'string' ? Date.parse(expected['@timestamp']) : undefined,
    method: expected['http.request.method'] ?? null,
    path: expected['url.original'] ?? null,
    protocol: expected['http.version'] === undefined ? undefined : `HTTP/${String(expected['http.version'])}`,
    status: expected['http.response.status_code'] ?? null,
    bytesSent: expected['http.response.body.bytes'] ?? expected['http.response.bytes'] ?? null,
    userAgent: expected['user_agent.original'] ?? null,
    sourceAddress: expected['source.address'] ?? expected['source.ip'],
    durationMs: ms(expected['event.duration'], 1e6) ?? ms(expected['nginx.ingress_controller.http.request.time'], 1e-3),
    upstreamDurationMs: ms(upstreamSeconds, 1e-3),
    host: expected['destination.domain'],
    upstreamName: expected['nginx.ingress_controller.upstream.name'] ?? expected['traefik.access.frontend_name'] ?? expected['haproxy.backend_name'],
    upstreamAddress: address === undefined ? undefined : `${String(address)}:${String(expected['nginx.ingress_controller.upstream.port'])}`,
  }).filter(([, value]) => value !== undefined));
}

function comparable(entry: AccessLogEntry): Record<string, unknown> {
  return { ...entry, upstreamName: entry.upstream?.name ?? '', upstreamAddress: entry.upstream?.address };
}

const files = readdirSync(folder).filter((name) => name.endsWith('.log') && LOG_FORMATS.some((format) => name.startsWith(format.name.split('-')[0] as string) || /^(nginx|apache)/.test(name)));

describe.each(files)('%s', (name) => {
  const lines = text(name).split('\n').filter((line) => line !== '');
  const expected = JSON.parse(text(`${name}-expected.json`)) as Expected[];

  it('says what its authors expect, line by line', () => {
    const reader = new AccessLogReader(recogniseFormat(lines));
    expect(lines.length).toBe(expected.length);
    lines.forEach((line, index) => {
      const entry = reader.read(line);
      expect(entry).not.toBeNull();
      expect(comparable(entry as AccessLogEntry)).toMatchObject(expectedEntry(expected[index] as Expected));
    });
    expect(reader.counters).toEqual({ read: lines.length, entries: lines.length, cut: 0, skipped: 0 });
  });

  it('is recognised line by line as well', () => {
    const reader = new AccessLogReader();
    expect(lines.filter((line) => reader.read(line) === null)).toEqual([]);
  });

  it('throws on no beginning of its lines, and calls no whole line cut', () => {
    const format = recogniseFormat(lines);
    const line = lines[0] as string;
    for (let end = 0; end < line.length; end++) format?.parse(line.slice(0, end));
    expect(format?.parse(line)?.cut).toBe(false);
  });
});

describe('a real site', () => {
  const lines = readFileSync(new URL('../../../testdata/requests/apache-combined.log', import.meta.url), 'utf8').split('\n').filter((line) => line !== '');

  it('is read whole: the one cut line is salvaged and counted', () => {
    const reader = new AccessLogReader();
    const statuses = new Map<number | null, number>();
    for (const line of lines) {
      const status = reader.read(line)?.status ?? null;
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
    expect(reader.counters).toEqual({ read: 10_000, entries: 10_000, cut: 1, skipped: 0 });
    expect(Object.fromEntries(statuses)).toEqual({ 200: 9126, 304: 445, 404: 213, 301: 164, 206: 45, 500: 3, 403: 2, 416: 2 });
    expect(reader.format?.name).toBe('combined');
  });
});

describe('the combined family', () => {
  const combined = formatNamed('combined');
  const read = (line: string) => combined?.parse(line);

  it('takes the first public address of a forwarding list for the client', () => {
    expect(read('10.0.0.2, 10.0.0.1, 85.181.35.98 - - [07/Dec/2016:11:05:07 +0100] "GET /o HTTP/1.1" 200 571 "-" "-"')?.sourceAddress).toBe('85.181.35.98');
    expect(read('10.0.0.2, 10.0.0.1, 127.0.0.1 - - [07/Dec/2016:11:05:07 +0100] "GET /o HTTP/1.1" 200 571 "-" "-"')?.sourceAddress).toBe('10.0.0.2');
    expect(read('"10.5.102.222, 199.96.1.1, 204.246.1.1" 10.2.1.185 - - [22/Jan/2016:13:18:29 +0000] "GET /a HTTP/1.1" 200 25507 "-" "Amazon CloudFront"')?.sourceAddress).toBe('199.96.1.1');
    expect(read('2a03:0000:10ff:f00f:0000:0000:0:8000, 10.225.192.17 10.2.2.121 - - [30/Dec/2016:06:47:09 +0000] "GET /t HTTP/1.1" 404 8571 "-" "-"')?.sourceAddress).toBe('2a03:0000:10ff:f00f:0000:0000:0:8000');
    expect(read('shop.example:443 ::1 - - [30/Dec/2016:06:47:09 +0000] "GET /t HTTP/1.1" 404 8571')).toMatchObject({ host: 'shop.example', sourceAddress: '::1' });
  });

  it('keeps requests that were none', () => {
    expect(read('unix: - - [26/Feb/2019:15:39:42 +0100] "hello" 400 173 "-" "-"')).toMatchObject({ method: null, path: null, status: 400, sourceAddress: 'unix:' });
    expect(read('::1 - - [26/Dec/2016:16:16:48 +0200] "-" 408 -')).toMatchObject({ method: null, status: 408, bytesSent: null, cut: false });
    expect(read('1.2.3.4 - - [26/Dec/2016:16:16:48 +0200] "\\x16\\x03\\x01\\x00\\xEE" 400 157 "-" "-"')).toMatchObject({ method: null, path: null, status: 400 });
    expect(read('1.2.3.4 - - [26/Dec/2016:16:16:48 +0200] "" 400 0 "-" "-"')).toMatchObject({ method: null, status: 400 });
  });

  it('reads quotes and spaces inside fields, users with spaces, and more fields than it needs', () => {
    expect(read('1.2.3.4 - john doe [26/Dec/2016:16:16:48 +0200] "GET /a b HTTP/1.1" 200 1 "x" "say \\"hi\\" to me" "10.0.0.1" 0.003')).toMatchObject({ path: '/a b', userAgent: 'say \\"hi\\" to me', sourceAddress: '1.2.3.4', cut: false });
    expect(read('1.2.3.4 - - [26/Dec/2016:16:16:48 +0200] "GET /?q="x"y HTTP/1.1" 200 1 "-" "a"b" ')).toMatchObject({ path: '/?q="x"y', userAgent: 'a"b' });
  });

  it('takes times with their zone', () => {
    expect(read('h - - [09/Jun/2020:12:10:39 -0730] "GET / HTTP/1.1" 206 7')?.timeMs).toBe(Date.parse('2020-06-09T19:40:39Z'));
    expect(read('h - - [09/Xxx/2020:12:10:39 +0000] "GET / HTTP/1.1" 206 7')).toBeNull();
    expect(read('h - - [09/Jun/2020:32:10:39 +0000] "GET / HTTP/1.1" 206 7')).toBeNull();
  });
});

describe('ingress-nginx', () => {
  const parse = (line: string) => formatNamed('ingress-nginx')?.parse(line);
  const head = '10.1.0.9 - - [07/Feb/2020:11:48:51 +0000] "GET /orders HTTP/2.0" 503 592 "-" "curl/7.54.0" 89 0.250';

  it('names the upstream of a request that found no endpoint: that is how a sleeping workload is asked for', () => {
    expect(parse(`${head} [shop-promo-preview-80] [] - - - - 529a007902362a5f51385a5fa7049884`)).toMatchObject({
      status: 503, durationMs: 250, upstreamDurationMs: null, cut: false, upstream: { name: 'shop-promo-preview-80', alternativeName: null, address: null },
    });
  });

  it('adds up the tries, redirects among them, and names the last endpoint', () => {
    expect(parse(`${head} [a-b-80] [a-canary-80] 10.0.0.1:80, [fd00::2]:80 : 10.0.0.3:80 1, 2 : 3 0.100, 0.004 : 0.001 502, 502 : 200 id`)).toMatchObject({
      upstreamDurationMs: 105, upstream: { name: 'a-b-80', alternativeName: 'a-canary-80', address: '10.0.0.3:80' }, cut: false,
    });
  });

  it('reads lines from before there was an alternative upstream', () => {
    expect(parse('10.1.0.9 - [10.1.0.9] - - [07/Feb/2020:11:48:51 +0000] "GET / HTTP/1.1" 200 5 "-" "-" 89 0.250 [a-b-80] 10.0.0.1:80 5 0.249 200 id')).toMatchObject({
      sourceAddress: '10.1.0.9', durationMs: 250, upstreamDurationMs: 249, upstream: { name: 'a-b-80', address: '10.0.0.1:80' },
    });
  });

  it('salvages what a cut line still says', () => {
    expect(parse(head.slice(0, head.length - 12))).toMatchObject({ path: '/orders', status: 503, cut: true });
    expect(parse(`${head} [shop-pro`)).toMatchObject({ status: 503, durationMs: 250, upstream: null, cut: true });
    expect(parse(`${head} [a-b-80] [] 10.0.0.1:80`)).toMatchObject({ upstream: { name: 'a-b-80' }, cut: true });
  });

  it('is told from a controller\'s other lines', () => {
    const reader = new AccessLogReader();
    const other = ['I0207 11:48:51.000000       7 controller.go:134] "Configuration changes detected, backend reload required"', '2020/02/07 11:48:51 [error] 31#31: *1 connect() failed (111: Connection refused) while connecting to upstream', '', '-----'];
    for (const line of other) expect(reader.read(line)).toBeNull();
    expect(reader.read(`${head} [a-b-80] [] 10.0.0.1:80 5 0.249 200 id\r`)?.upstream?.name).toBe('a-b-80');
    for (const line of other) expect(reader.read(line)).toBeNull();
    expect(reader.format?.name).toBe('ingress-nginx');
    expect(reader.counters).toEqual({ read: 9, entries: 1, cut: 0, skipped: 8 });
  });
});

describe('reading a log', () => {
  it('goes over to another format when the log does', () => {
    const reader = new AccessLogReader();
    const traefik = '1.2.3.4 - - [02/Oct/2017:20:22:07 +0000] "GET /u HTTP/1.1" 304 0 "-" "-" 262 "web@docker" "http://172.19.0.3:5601" 2ms';
    const nginx = '1.2.3.4 - - [07/Feb/2020:11:48:51 +0000] "GET / HTTP/1.1" 200 5 "-" "-" 89 0.250 [a-b-80] [] 10.0.0.1:80 5 0.249 200 id';
    reader.read(traefik);
    for (let i = 0; i < 60; i++) reader.read(nginx);
    expect(reader.format?.name).toBe('ingress-nginx');
  });

  it('goes over to a more telling format as soon as a line is of it', () => {
    const reader = new AccessLogReader();
    reader.read('1.2.3.4 - - [07/Feb/2020:11:48:51 +0000] "GET / HTTP/1.1" 200 5 "-" "-"');
    expect(reader.format?.name).toBe('combined');
    expect(reader.read('1.2.3.4 - - [07/Feb/2020:11:48:51 +0000] "GET / HTTP/1.1" 200 5 "-" "-" 89 0.250 [a-b-80] [] 10.0.0.1:80 5 0.249 200 id')?.upstream?.name).toBe('a-b-80');
    expect(reader.format?.name).toBe('ingress-nginx');
  });

  it('keeps a format that it was given', () => {
    const reader = new AccessLogReader(formatNamed('traefik') ?? null);
    for (let i = 0; i < 60; i++) expect(reader.read('{"no": "traefik"}')).toBeNull();
    expect(reader.format?.name).toBe('traefik');
  });

  it('recognises nothing in nothing', () => {
    expect(recogniseFormat([])).toBeNull();
    expect(recogniseFormat(['hello', 'world'])).toBeNull();
  });

  it('skips a line without end', () => {
    const reader = new AccessLogReader(formatNamed('combined') ?? null);
    expect(reader.read(`1.2.3.4 - - [07/Feb/2020:11:48:51 +0000] "GET /${'a'.repeat(LONGEST_LINE)} HTTP/1.1" 200 5`)).toBeNull();
    expect(reader.counters.skipped).toBe(1);
  });

  it('parts the time of the pod-log API from the line', () => {
    expect(podLogLine('2024-05-01T10:00:00.123456789Z 1.2.3.4 - -')).toEqual({ timeMs: Date.parse('2024-05-01T10:00:00.123Z'), line: '1.2.3.4 - -' });
    expect(podLogLine('1.2.3.4 - - no time')).toEqual({ timeMs: null, line: '1.2.3.4 - - no time' });
  });

  it('throws on nothing, whatever the bytes', () => {
    const lines = files.flatMap((name) => text(name).split('\n').slice(0, 3)).filter((line) => line !== '');
    const damaged = fc.tuple(fc.constantFrom(...lines), fc.nat(400), fc.string({ unit: 'binary', maxLength: 8 }), fc.nat(20)).map(([line, at, junk, gone]) => line.slice(0, at) + junk + line.slice(at + gone));
    const reader = new AccessLogReader();
    fc.assert(fc.property(fc.oneof(fc.string({ unit: 'binary' }), damaged, fc.constantFrom(...lines).chain((line) => fc.nat(line.length).map((end) => line.slice(0, end)))), (line) => {
      for (const format of LOG_FORMATS) {
        format.recognise(line);
        const entry = format.parse(line);
        if (entry !== null) {
          expect(entry.status === null || (entry.status >= 100 && entry.status <= 999)).toBe(true);
          for (const number of [entry.timeMs, entry.bytesSent, entry.durationMs, entry.upstreamDurationMs]) expect(number === null || Number.isFinite(number)).toBe(true);
          expect(entry.durationMs === null || entry.durationMs >= 0).toBe(true);
        }
      }
      reader.read(line);
    }), { numRuns: 2_000 });
    expect(reader.counters.read).toBe(reader.counters.entries + reader.counters.skipped);
  });
});
