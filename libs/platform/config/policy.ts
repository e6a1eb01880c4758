import { readFile } from 'node:fs/promises';
import { policySchema, type Policy } from '@upid/contracts';
import { parse } from 'yaml';

/** A policy file that is no policy; names the field and what was expected. */
export class PolicyFileError extends Error {
  override readonly name = 'PolicyFileError';
}

/** Reads a policy from YAML; without a file the reference's own. @throws {PolicyFileError} */
export async function loadPolicy(file: string | null): Promise<Policy> {
  if (file === null) return policySchema.parse({});
  let value: unknown;
  try {
    value = parse(await readFile(file, 'utf8'));
  } catch (cause) {
    throw new PolicyFileError(`the policy file ${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  const parsed = policySchema.safeParse(value ?? {});
  if (!parsed.success) throw new PolicyFileError(`the policy file ${file} is no policy: ${parsed.error.issues.map((issue) => `${issue.path.join('.') || 'it'}: ${issue.message}`).join('; ')}`);
  return parsed.data;
}
