import { readFile } from 'node:fs/promises';
import { errorCodeSchema, problemSchema, type ErrorCode, type Problem } from '@upid/contracts';

/** What scripts can rely on. */
export const EXIT = { done: 0, failed: 1, usage: 2, notFound: 3, unsafe: 4, unreachable: 5 } as const;

/** An error that ends the command with a sentence and an exit code. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  constructor(message: string, readonly exitCode: number, readonly problem: Problem | null = null, options?: ErrorOptions) {
    super(message, options);
  }
}

/** The exit code of an error code of the wire. */
export function exitCodeOf(code: ErrorCode): number {
  switch (code) {
    case 'not_found':
    case 'cluster_not_found':
      return EXIT.notFound;
    case 'unsafe':
    case 'actuation_disabled':
    case 'stopped':
    case 'forbidden':
      return EXIT.unsafe;
    case 'invalid_request':
    case 'invalid_time_range':
    case 'invalid_json':
      return EXIT.usage;
    case 'unavailable':
      return EXIT.unreachable;
    default:
      return EXIT.failed;
  }
}

/** A client of the gateway's REST interface. */
export class GatewayClient {
  constructor(readonly url: string, private readonly apiKey: string | null) {}

  /** `keyFile`'s text is the key; a missing file means no key. */
  static async open(url: string, keyFile: string): Promise<GatewayClient> {
    const key = await readFile(keyFile, 'utf8').then((text) => text.trim(), (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null;
      throw new CommandError(`The API key cannot be read: ${error.message}`, EXIT.failed, null, { cause: error });
    });
    return new GatewayClient(url.replace(/\/$/, ''), key);
  }

  get headers(): Record<string, string> {
    return { accept: 'application/json', ...(this.apiKey ? { authorization: `Bearer ${this.apiKey}` } : {}) };
  }

  get<T>(path: string, query: Readonly<Record<string, string | number | undefined>> = {}): Promise<T> {
    const given = Object.entries(query).filter((entry): entry is [string, string | number] => entry[1] !== undefined);
    const search = new URLSearchParams(given.map(([key, value]): [string, string] => [key, String(value)])).toString();
    return this.send<T>('GET', `${path}${search ? `?${search}` : ''}`);
  }

  post<T>(path: string, body: unknown): Promise<T> {
    return this.send<T>('POST', path, body);
  }

  private async send<T>(method: string, path: string, body?: unknown): Promise<T> {
    let response: Response;
    try {
      response = await fetch(`${this.url}${path}`, {
        method, headers: { ...this.headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }, ...(body === undefined ? {} : { body: JSON.stringify(body) }), signal: AbortSignal.timeout(60_000),
      });
    } catch (cause) {
      throw new CommandError(`No gateway answers at ${this.url}. Start one with \`upid up\`, or name it with --url.`, EXIT.unreachable, null, { cause });
    }
    const text = await response.text();
    let value: unknown;
    try {
      value = text === '' ? null : JSON.parse(text);
    } catch (cause) {
      throw new CommandError(`${this.url}${path} answered ${response.status} with something that is no JSON: is it UPID's gateway?`, EXIT.unreachable, null, { cause });
    }
    if (response.ok) return value as T;
    const problem = problemSchema.safeParse(value);
    const code = errorCodeSchema.safeParse(problem.success ? problem.data.code : undefined);
    throw new CommandError(problem.success ? problem.data.detail : `${path} answered ${response.status}`, code.success ? exitCodeOf(code.data) : EXIT.failed, problem.success ? problem.data : null);
  }
}
