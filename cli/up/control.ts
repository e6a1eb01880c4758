import { rm } from 'node:fs/promises';
import { createServer, connect, type Server } from 'node:net';
import type { StateFolder } from './state.js';

/** What can be asked of a running supervisor over its Unix socket: one JSON line each way. */
export interface ControlRequest {
  readonly ask: 'status' | 'down';
}

export async function serveControl(state: StateFolder, answer: (request: ControlRequest) => Promise<unknown>): Promise<Server> {
  await rm(state.controlSocket, { force: true });
  const server = createServer((socket) => {
    let text = '';
    socket.setEncoding('utf8');
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: string) => {
      text += chunk;
      if (!text.includes('\n')) return;
      answer(JSON.parse(text) as ControlRequest).then(
        (value) => socket.end(`${JSON.stringify(value)}\n`),
        (error: unknown) => socket.end(`${JSON.stringify({ error: error instanceof Error ? error.message : String(error) })}\n`),
      );
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(state.controlSocket, () => resolve());
  });
  return server;
}

/** The supervisor's answer, or null where none listens. */
export async function askControl<T>(state: StateFolder, request: ControlRequest): Promise<T | null> {
  return new Promise((resolve, reject) => {
    const socket = connect(state.controlSocket);
    let text = '';
    socket.setEncoding('utf8');
    socket.on('error', (error: NodeJS.ErrnoException) => (error.code === 'ENOENT' || error.code === 'ECONNREFUSED' ? resolve(null) : reject(error)));
    socket.on('connect', () => socket.write(`${JSON.stringify(request)}\n`));
    socket.on('data', (chunk: string) => { text += chunk; });
    socket.on('end', () => {
      try {
        resolve(text === '' ? null : (JSON.parse(text) as T));
      } catch (cause) {
        reject(new Error('the supervisor gave no JSON', { cause }));
      }
    });
  });
}
