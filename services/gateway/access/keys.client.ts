import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { apiKeysFileSchema, callerOf, type ApiKeys, type Caller } from './keys.js';

/** A key file that cannot be used; says what is wrong in it. */
export class ApiKeysError extends Error {
  override readonly name = 'ApiKeysError';
}

/** The keys of a file, read again when it has changed, so that a key can be added or taken back without a restart. */
export class KeyStore {
  private keys: ApiKeys = [];
  private readAt = 0;

  constructor(private readonly file: string) {}

  async load(): Promise<void> {
    const { mtimeMs } = await stat(this.file);
    if (mtimeMs === this.readAt) return;
    let value: unknown;
    try {
      value = JSON.parse(await readFile(this.file, 'utf8'));
    } catch (cause) {
      throw new ApiKeysError(`the file of API keys ${this.file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    }
    const parsed = apiKeysFileSchema.safeParse(value);
    if (!parsed.success) throw new ApiKeysError(`the file of API keys ${this.file}: ${parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ')}`);
    this.keys = parsed.data.keys;
    this.readAt = mtimeMs;
  }

  async caller(key: string): Promise<Caller | null> {
    await this.load();
    return callerOf(this.keys, createHash('sha256').update(key).digest('hex'));
  }
}
