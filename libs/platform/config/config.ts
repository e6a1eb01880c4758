import { readFileSync } from 'node:fs';
import { z } from 'zod';

/** One environment variable: its name, what it must be, what it means. */
export interface Setting<T> {
  readonly variable: string;
  readonly schema: z.ZodType<T>;
  readonly description: string;
  /** Its value is never printed. */
  readonly secret: boolean;
  /** Also read from the file that `<variable>_FILE` names. */
  readonly inFile: boolean;
}
export type Settings = Readonly<Record<string, Setting<unknown>>>;
export type ConfigOf<S extends Settings> = { readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : never };

/** Variables that are missing or wrong: one line each, with what was expected. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  constructor(readonly problems: readonly string[]) {
    super(`The configuration cannot be used:\n${problems.map((problem) => `  ${problem}`).join('\n')}`);
  }
}

/** Describes one variable. Values arrive as text: use `z.coerce.number()`, `z.stringbool()`, `.default(...)`, `.optional()`. A secret may always lie in a file. */
export function setting<T>(variable: string, schema: z.ZodType<T>, description: string, { secret = false, inFile = secret }: { readonly secret?: boolean; readonly inFile?: boolean } = {}): Setting<T> {
  return { variable, schema, description, secret, inFile };
}

/** The text of a variable, or of the file that may hold it. An empty text counts as not set. */
function textOf(each: Setting<unknown>, env: NodeJS.ProcessEnv): string | undefined {
  const value = env[each.variable];
  if (value !== undefined && value !== '') return value;
  const file = each.inFile ? env[`${each.variable}_FILE`] : undefined;
  return file ? readFileSync(file, 'utf8').trim() : undefined;
}

/**
 * Reads and checks all variables at once.
 * @throws {ConfigError} naming each bad variable, what was expected and (but for secrets) what stands there
 */
export function loadConfig<S extends Settings>(settings: S, env: NodeJS.ProcessEnv = process.env): ConfigOf<S> {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [key, each] of Object.entries(settings)) {
    let text: string | undefined;
    try {
      text = textOf(each, env);
    } catch (error) {
      problems.push(`${each.variable}_FILE: the file ${JSON.stringify(env[`${each.variable}_FILE`])} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'}); expected ${each.description}`);
      continue;
    }
    const parsed = each.schema.safeParse(text);
    if (parsed.success) values[key] = parsed.data;
    else {
      const found = text === undefined ? 'is not set' : each.secret ? 'is not as expected' : `is ${JSON.stringify(text)}`;
      problems.push(`${each.variable} ${found}: ${parsed.error.issues.map((issue) => issue.message).join('; ')}. Expected: ${each.description}`);
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return values as ConfigOf<S>;
}

/** What stands for a variable that is not set: `required`, `optional`, or the default as text. */
function defaultOf(each: Setting<unknown>): string {
  const parsed = each.schema.safeParse(undefined);
  if (!parsed.success) return 'required';
  return parsed.data === undefined || parsed.data === null ? 'optional' : typeof parsed.data === 'string' ? parsed.data : JSON.stringify(parsed.data);
}

/** One Markdown table of variables (name, default, meaning) for each group, by the group's title. */
export function describeConfig(groups: Readonly<Record<string, Settings>>): string {
  return Object.entries(groups).map(([title, settings]) => {
    const rows = Object.values(settings).map((each) => [`\`${each.variable}\`${each.inFile ? ` or \`${each.variable}_FILE\`` : ''}`, defaultOf(each), each.description]);
    const table = [['Variable', 'Default', 'Meaning'], ...rows];
    const widths = [0, 1, 2].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
    const line = (row: readonly string[]) => `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
    return [`### ${title}`, '', line(table[0] ?? []), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)].join('\n');
  }).join('\n\n');
}

const url = (protocols: readonly string[]) => z.string().refine((text) => URL.canParse(text) && protocols.includes(new URL(text).protocol), { error: `must be a URL that begins with ${protocols.map((each) => `${each}//`).join(' or ')}` });

/** What every service reads. */
export const platformSettings = {
  natsUrl: setting('UPID_NATS_URL', z.string().default('nats://127.0.0.1:4222').refine((text) => text.split(',').every((each) => URL.canParse(each.trim())), { error: 'must be one or more URLs, separated by commas' }), 'URL of the NATS server, or several separated by commas'),
  natsNkeySeed: setting('UPID_NATS_NKEY_SEED', z.string().regex(/^SU[A-Z2-7]{56}$/, 'must be a user seed (SU…)').optional(), 'nkey seed of this service\'s NATS user', { secret: true }),
  natsUser: setting('UPID_NATS_USER', z.string().optional(), 'name of the NATS user, where the server knows users by password'),
  natsPassword: setting('UPID_NATS_PASSWORD', z.string().optional(), 'password of the NATS user', { secret: true }),
  databaseUrl: setting('UPID_DATABASE_URL', url(['postgres:', 'postgresql:']).optional(), 'URL of the PostgreSQL database; required by every service that stores', { secret: true }),
  databaseConnections: setting('UPID_DATABASE_CONNECTIONS', z.coerce.number().int().min(2).max(200).default(10), 'most connections of one process to the database, 2 to 200'),
  redisUrl: setting('UPID_REDIS_URL', url(['redis:', 'rediss:']).optional(), 'URL of the Redis-protocol server; without it nothing is cached', { secret: true }),
  logLevel: setting('UPID_LOG_LEVEL', z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'), 'least level that is logged: trace, debug, info, warn, error or silent'),
  healthHost: setting('UPID_HEALTH_HOST', z.string().default('127.0.0.1'), 'address that health and metrics are served on'),
  healthPort: setting('UPID_HEALTH_PORT', z.coerce.number().int().min(0).max(65_535).default(0), 'port of /health/live, /health/ready and /metrics; 0 is any free one'),
} as const;
