import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { answers, choosePort, type ServerHandle, startProcess } from './process.js';
import { provisionRedis } from './provision.js';

/** The secret in `file`; made with mode 600 where there is none. */
export async function secretFile(file: string): Promise<string> {
  try {
    await writeFile(file, randomBytes(24).toString('base64url'), { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return (await readFile(file, 'utf8')).trim();
}

/**
 * Starts a Redis-protocol server on 127.0.0.1 as a cache: nothing on disk, least recently used keys go when `maxMemoryMiB` (128) is full.
 * @throws {PortInUseError | ServerUnavailableError | ServerStartError}
 */
export async function startRedis(options: { readonly dir: string; readonly port?: number; readonly maxMemoryMiB?: number }): Promise<ServerHandle> {
  const program = await provisionRedis();
  const port = await choosePort(options.port ?? 0);
  const { dir } = options;
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const password = await secretFile(join(dir, 'password'));
  // The configuration goes in by stdin: arguments are for all to read.
  const config = [
    'bind 127.0.0.1', `port ${port}`, `dir ${JSON.stringify(dir)}`, 'save ""', 'appendonly no', `requirepass ${password}`,
    `maxmemory ${options.maxMemoryMiB ?? 128}mb`, 'maxmemory-policy allkeys-lru', 'daemonize no',
  ].join('\n');
  const server = await startProcess({ program, args: ['-'], stdin: `${config}\n`, logFile: join(dir, 'redis.log'), stopSignal: 'SIGTERM', ready: () => answers(port) });
  return { ...server, url: `redis://:${password}@127.0.0.1:${port}`, port, dir };
}
