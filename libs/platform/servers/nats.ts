import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { answers, choosePort, type ServerHandle, startProcess } from './process.js';
import { provisionNats } from './provision.js';

export interface NatsServerHandle extends ServerHandle {
  /** Writes the new configuration and has the running server read it; returns when it has. @throws {NatsReloadError} where it refuses, the old one then stands */
  reload(config: string): Promise<void>;
}

/** The server refused a new configuration and goes on with the old one. */
export class NatsReloadError extends Error {
  override readonly name = 'NatsReloadError';
}

const OPEN_CONFIG = 'max_payload: 1MB\njetstream { max_memory_store: 256MB, max_file_store: 64GB }\n';

/**
 * Starts nats-server with JetStream on 127.0.0.1; streams, configuration and log lie in `dir`. Without `config` (as `natsConfig` renders it)
 * there is one account and no password: for tests alone.
 * @throws {PortInUseError | ServerUnavailableError | ServerStartError}
 */
export async function startNats(options: { readonly dir: string; readonly port?: number; readonly config?: string }): Promise<NatsServerHandle> {
  const program = await provisionNats();
  const port = await choosePort(options.port ?? 0);
  const { dir } = options;
  await mkdir(join(dir, 'streams'), { recursive: true, mode: 0o700 });
  const configFile = join(dir, 'nats.conf');
  const logFile = join(dir, 'nats.log');
  const write = async (config: string) => {
    await writeFile(`${configFile}.new`, config, { mode: 0o600 });
    await rename(`${configFile}.new`, configFile);
  };
  await write(options.config ?? OPEN_CONFIG);
  const server = await startProcess({
    program, args: ['-c', configFile, '-a', '127.0.0.1', '-p', String(port), '-sd', join(dir, 'streams')], logFile, stopSignal: 'SIGTERM', ready: () => answers(port, 'INFO '),
  });
  return {
    ...server, url: `nats://127.0.0.1:${port}`, port, dir,
    async reload(config) {
      const from = (await stat(logFile)).size;
      await write(config);
      process.kill(server.pid, 'SIGHUP');
      const deadline = Date.now() + 10_000;
      for (;;) {
        const said = (await readFile(logFile)).subarray(from).toString();
        if (said.includes('Reloaded server configuration')) return;
        const refused = /Failed to reload server configuration.*/.exec(said);
        if (refused || Date.now() > deadline) throw new NatsReloadError(refused?.[0] ?? 'nats-server did not say that it read its new configuration');
        await delay(10);
      }
    },
  };
}
