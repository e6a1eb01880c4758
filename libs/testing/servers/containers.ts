/** Servers in containers, for machines with a Docker engine and without the binaries. */
import type { Source } from './servers.js';
import type { StartedTestContainer } from 'testcontainers';

export interface ContainerDescription {
  image: string;
  /** That the server listens on in the container. */
  port: number;
  command: string[];
  environment: Record<string, string>;
  /** The server's URL, from `host:port`. */
  url: (address: string) => string;
}

/**
 * A source of instances of one container, always on the same port of this machine; its data stays while it is stopped.
 * @throws {Error} with the reason why there is no binary as its cause, where no Docker engine answers either
 */
export async function startContainer(description: ContainerDescription, port: number, noBinary: Error): Promise<Source> {
  // Loaded here: it looks for an engine on import, and is seldom needed.
  const { GenericContainer, Wait } = await import('testcontainers');
  let container: StartedTestContainer;
  try {
    container = await new GenericContainer(description.image)
      .withExposedPorts({ container: description.port, host: port })
      .withCommand(description.command)
      .withEnvironment(description.environment)
      .withWaitStrategy(Wait.forListeningPorts())
      .start();
  } catch (cause) {
    throw new Error(`${noBinary.message} In a container it could not be started either: ${cause instanceof Error ? cause.message : String(cause)}`, { cause: noBinary });
  }
  let runs = true;
  return {
    start: async () => {
      if (!runs) await container.restart();
      runs = true;
      const end = async (timeout: number) => {
        await container.stop({ remove: false, removeVolumes: false, timeout });
        runs = false;
      };
      return { url: description.url(`${container.getHost()}:${port}`), stop: () => end(10_000), kill: () => end(0) };
    },
    remove: async () => {
      await container.stop();
    },
  };
}
