import { type ArgumentsHost, Catch, type ExceptionFilter, HttpException } from '@nestjs/common';
import { HTTP_STATUS, InvalidTimeRangeError, UpidError, type ErrorCode, type Problem } from '@upid/contracts';
import { currentCorrelation, isDependencyAway, Platform } from '@upid/platform';
import type { Request, Response } from 'express';

const TITLES: Record<ErrorCode, string> = {
  invalid_request: 'The request is not as expected', invalid_time_range: 'The time range is not one', invalid_json: 'The body is no JSON', unauthenticated: 'An API key is needed', forbidden: 'The key may not do this', not_found: 'There is no such thing', cluster_not_found: 'There is no such cluster',
  conflict: 'It does not fit what is under way', unsafe: 'Not safe', actuation_disabled: 'Changes are not allowed', stopped: 'Every action is held', unavailable: 'A part of UPID is away', timeout: 'A part of UPID did not answer in time', payload_too_large: 'The body is too large', rate_limited: 'Too many', internal: 'An error of ours',
};

/** The problem document of any error; what is not meant for the caller becomes `internal`. */
export function problemOf(error: unknown, instance: string): Problem {
  const of = (code: ErrorCode, detail: string, more: Readonly<Record<string, unknown>> = {}): Problem => ({ type: `urn:upid:problem:${code}`, title: TITLES[code], status: HTTP_STATUS[code], detail, code, instance, ...more });
  if (error instanceof UpidError) return of(error.code, error.message, error.details);
  if (error instanceof InvalidTimeRangeError) return of('invalid_time_range', error.message);
  if (error instanceof HttpException) {
    const status = error.getStatus();
    if (status === 404) return of('not_found', `There is no route ${instance}. The routes: /api/docs.`);
    if (status === 413) return of('payload_too_large', 'The body is over 1 MiB.');
    if (status === 400) return of('invalid_json', `The body is no JSON: ${error.message}`);
    if (status < 500) return { ...of('invalid_request', error.message), status };
  }
  if (isDependencyAway(error)) return of('unavailable', 'The gateway cannot reach what it needs now; try again soon.');
  const kind = (error as { type?: unknown } | null)?.type;
  if (kind === 'entity.too.large') return of('payload_too_large', 'The body is over 1 MiB.');
  if (kind === 'entity.parse.failed' || kind === 'encoding.unsupported' || kind === 'charset.unsupported') return of('invalid_json', `The body is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  return of('internal', 'Something went wrong here; the log has it under this correlation id.');
}

/** Turns whatever a handler throws into `application/problem+json`. */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  constructor(private readonly platform: Platform) {}

  catch(error: unknown, host: ArgumentsHost): void {
    const http = host.switchToHttp();
    const request = http.getRequest<Request>();
    const response = http.getResponse<Response>();
    const problem = problemOf(error, request.path);
    const correlation = currentCorrelation()?.correlationId;
    if (problem.code === 'internal') this.platform.log.error({ err: error, path: request.path }, 'a request failed');
    if (response.headersSent) return;
    response.status(problem.status).type('application/problem+json').send(JSON.stringify({ ...problem, ...(correlation ? { correlation_id: correlation } : {}) }));
  }
}
