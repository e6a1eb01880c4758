import { UpidError, type ErrorCode } from '@upid/contracts';
import type { z } from 'zod';

/**
 * A request's part as its schema has it.
 * @throws UpidError invalid_request naming each field and what was expected
 */
export function checked<S extends z.ZodType>(schema: S, value: unknown, where: 'body' | 'query' | 'path', code: ErrorCode = 'invalid_request'): z.output<S> {
  const parsed = schema.safeParse(value ?? {});
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map((issue) => ({ field: [where, ...issue.path].join('.'), expected: issue.message }));
  throw new UpidError(code, issues.map((issue) => `${issue.field}: ${issue.expected}`).join('; '), { issues });
}
