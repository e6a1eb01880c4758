import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';
import { context, isSpanContextValid, ROOT_CONTEXT, trace, TraceFlags } from '@opentelemetry/api';
import { HEADERS } from '@upid/contracts';
import { pino, type Logger as PinoLogger } from 'pino';

export type Logger = PinoLogger;
type Fields = Readonly<Record<string, string | number>>;

/** What runs now belongs to: one id over all services for what a person or a message set off, and the W3C trace. */
export interface Correlation {
  readonly correlationId: string;
  /** W3C trace context, `00-<trace id>-<span id>-<flags>` (https://www.w3.org/TR/trace-context/). */
  readonly traceparent: string;
  readonly fields: Fields;
}

const current = new AsyncLocalStorage<Correlation>();
const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

/** The ids of a valid `traceparent`, or null. All-zero ids are invalid by the specification. */
export function parseTraceparent(text: string | undefined): { traceId: string; spanId: string; flags: number } | null {
  const found = TRACEPARENT.exec(text ?? '');
  if (!found?.[1] || !found[2] || !found[3] || /^0+$/.test(found[1]) || /^0+$/.test(found[2])) return null;
  return { traceId: found[1], spanId: found[2], flags: Number.parseInt(found[3], 16) };
}

function nextTraceparent(parent: string | undefined): string {
  const parsed = parseTraceparent(parent);
  const traceId = parsed?.traceId ?? randomBytes(16).toString('hex');
  const flags = parsed?.flags ?? TraceFlags.NONE;
  return `00-${traceId}-${randomBytes(8).toString('hex')}-${flags.toString(16).padStart(2, '0')}`;
}

/** Runs `fn` as part of `correlation`; an OpenTelemetry SDK, where one is registered, sees the remote span as its parent. */
function runWith<T>(correlation: Correlation, fn: () => T): T {
  const parsed = parseTraceparent(correlation.traceparent);
  const spanContext = parsed ? { traceId: parsed.traceId, spanId: parsed.spanId, traceFlags: parsed.flags, isRemote: true } : null;
  const parent = spanContext ? trace.setSpanContext(ROOT_CONTEXT, spanContext) : context.active();
  return current.run(correlation, () => context.with(parent, fn));
}

/** Runs `fn` (and all it awaits) with these fields in every log line; starts a trace where none runs. */
export function withCorrelation<T>(fields: Fields, fn: () => T): T {
  const outer = current.getStore();
  if (outer) return current.run({ ...outer, fields: { ...outer.fields, ...fields } }, fn);
  const traceparent = nextTraceparent(undefined);
  return runWith({ correlationId: traceparent.slice(3, 35), traceparent, fields }, fn);
}

/** Continues the trace that arrived in headers (looked up by name), or starts one, around `fn`. */
export function withIncomingTrace<T>(header: (name: string) => string | undefined, fields: Fields, fn: () => T): T {
  const traceparent = nextTraceparent(header(HEADERS.traceparent));
  const given = header(HEADERS.correlationId);
  // An id from outside is for reading logs, not a place to write into them.
  const correlationId = given && /^[\w.:-]{1,128}$/.test(given) ? given : traceparent.slice(3, 35);
  return runWith({ correlationId, traceparent, fields }, fn);
}

export function currentCorrelation(): Correlation | undefined {
  return current.getStore();
}

/** `traceparent` and correlation id of what runs now, for the headers of a message or an HTTP request; new ones where nothing runs. */
export function outgoingTrace(): Record<string, string> {
  const now = current.getStore();
  const span = trace.getSpanContext(context.active());
  const traceparent = span && isSpanContextValid(span) && !span.isRemote
    ? `00-${span.traceId}-${span.spanId}-${span.traceFlags.toString(16).padStart(2, '0')}`
    : (now?.traceparent ?? nextTraceparent(undefined));
  return { [HEADERS.traceparent]: traceparent, [HEADERS.correlationId]: now?.correlationId ?? traceparent.slice(3, 35) };
}

/** JSON lines on stdout: level, time, service, the fields of the current correlation (`correlation_id`, `trace_id`, `batch_id`, …), msg. */
export function createLogger(service: string, options: { readonly level?: string; readonly destination?: NodeJS.WritableStream } = {}): Logger {
  return pino(
    {
      level: options.level ?? 'info',
      base: { service },
      messageKey: 'msg',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: pino.stdSerializers.errWithCause, error: pino.stdSerializers.errWithCause },
      redact: { paths: ['password', 'seed', 'token', 'authorization', '*.password', '*.seed', '*.token', '*.authorization'], censor: '[secret]' },
      mixin: () => {
        const now = current.getStore();
        return now ? { correlation_id: now.correlationId, trace_id: now.traceparent.slice(3, 35), ...now.fields } : {};
      },
    },
    options.destination ?? pino.destination({ fd: 1, sync: true }),
  );
}
