import { z } from 'zod';

/** Codes that cross a seam: a reply on the bus, or `code` of a problem document. */
export const errorCodeSchema = z.enum([
  'invalid_request', 'invalid_time_range', 'invalid_json', 'unauthenticated', 'forbidden', 'not_found', 'cluster_not_found', 'conflict',
  'unsafe', 'actuation_disabled', 'stopped', 'unavailable', 'timeout', 'payload_too_large', 'rate_limited', 'internal',
]);
export type ErrorCode = z.infer<typeof errorCodeSchema>;

/** HTTP status of each code. */
export const HTTP_STATUS: Record<ErrorCode, number> = {
  invalid_request: 400, invalid_time_range: 400, invalid_json: 400, unauthenticated: 401, forbidden: 403, not_found: 404, cluster_not_found: 404,
  conflict: 409, unsafe: 409, actuation_disabled: 409, stopped: 409, unavailable: 503, timeout: 504, payload_too_large: 413, rate_limited: 429, internal: 500,
};

/** An error that may be told to whoever asked: a code, a sentence, and details by name. */
export class UpidError extends Error {
  override readonly name = 'UpidError';
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly details: Readonly<Record<string, unknown>> = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** An error in a reply on the bus. */
export const wireErrorSchema = z.object({ code: errorCodeSchema, message: z.string(), details: z.record(z.string(), z.unknown()).default({}) });

/** RFC 9457 problem document, `application/problem+json`. */
export const problemSchema = z.object({
  type: z.string(), title: z.string(), status: z.number().int(), detail: z.string(), code: errorCodeSchema, instance: z.string().optional(),
}).catchall(z.unknown());
export type Problem = z.infer<typeof problemSchema>;

/** A message that no retry can mend: it becomes a dead letter at once. */
export class PoisonMessageError extends Error {
  override readonly name = 'PoisonMessageError';
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
  }
}
