/** Everything that UPID holds or says outside of the cluster, to be searched for what must not be there. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createUser } from '@nats-io/nkeys';
import { platformUsers, seedFile } from '@upid/cli/up/bus-users';
import { STREAMS } from '@upid/contracts';
import { agentUserName, connectBus, natsConfig, nkeyFile, platformUser } from '@upid/platform';
import { waitFor } from '@upid/testing';
import { Redis } from 'ioredis';
import pg from 'pg';
import { PRIVATE_CLIENTS, PRIVATE_MARK } from './traffic.js';
import type { Platform } from './platform.js';

/** A piece of what was found, and where. */
export interface Finding {
  readonly where: string;
  readonly found: string;
}

/** What a search went through, so that an empty answer means something. */
export interface SearchReport {
  readonly findings: Finding[];
  /** Pieces looked at, by kind. */
  readonly looked: Record<string, number>;
}

const MARKS = new RegExp([PRIVATE_MARK, ...PRIVATE_CLIENTS.map((address) => address.replaceAll('.', '\\.')), ...base64Forms(PRIVATE_MARK)].join('|'), 'i');

/** How a text looks within base64, at each of its three alignments (as Secrets are written). */
export function base64Forms(text: string): string[] {
  return [0, 1, 2].map((shift) => {
    const encoded = Buffer.from(`${' '.repeat(shift)}${text}`).toString('base64').replaceAll('=', '');
    // Characters at either end that hold bits of their neighbours say nothing.
    const drop = shift === 0 ? 0 : shift + 1;
    return encoded.slice(drop, -1);
  });
}

/** Private marks in a text or in bytes, with what stands around them. */
export function marksIn(where: string, content: string | Uint8Array): Finding[] {
  const text = typeof content === 'string' ? content : Buffer.from(content.buffer, content.byteOffset, content.byteLength).toString('latin1');
  const found = MARKS.exec(text);
  return found === null ? [] : [{ where, found: text.slice(Math.max(0, found.index - 60), found.index + 60) }];
}

/** Every message of every stream, subjects and headers too; read by a user that is added to the server for it. */
export async function searchBus(platform: Platform): Promise<SearchReport> {
  const { state, clusterId } = platform;
  const reader = createUser();
  const keys = state.path('keys');
  const agent = await nkeyFile(seedFile(keys, agentUserName(clusterId)));
  const user = platformUser({ name: 'reader', publicKey: reader.getPublicKey(), consumes: STREAMS.map(({ name }) => `${name}/*`) });
  const folder = state.path('data', 'nats');
  const logLength = (await readFile(join(folder, 'nats.log'), 'utf8')).length;
  await writeFile(join(folder, 'nats.conf'), natsConfig({ platformUsers: [...(await platformUsers(keys)), user], agents: [{ clusterId, publicKey: agent.publicKey }] }));
  process.kill(platform.pid('nats'), 'SIGHUP');
  await waitFor('the server to know the reader', async () => (await readFile(join(folder, 'nats.log'), 'utf8')).slice(logLength).includes('Reloaded server configuration'));
  const report: SearchReport = { findings: [], looked: {} };
  const bus = await connectBus({ url: platform.url('nats'), name: 'reader', nkeySeed: new TextDecoder().decode(reader.getSeed()) });
  try {
    const manager = await bus.jetstreamManager();
    for (const { name, subjects } of STREAMS) {
      const { state: { messages } } = await manager.streams.info(name);
      let read = 0;
      const tail = await bus.tail({ stream: name, subjects, from: new Date(0) }, (message) => {
        if (read >= messages) return;
        report.findings.push(...marksIn(`stream ${name}, ${message.subject}`, message.payload), ...marksIn(`stream ${name}, subject`, message.subject), ...marksIn(`stream ${name}, ${message.subject}, headers`, JSON.stringify(message.headers)));
        read++;
      });
      await waitFor(`all ${messages} messages of ${name}`, () => read >= messages, { timeoutMs: 60_000 });
      await tail.stop();
      report.looked[name] = read;
    }
  } finally {
    await bus.drain();
  }
  return report;
}

/** Every row of every table of every schema of ours: as text, and what its binary columns hold. */
export async function searchDatabase(platform: Platform): Promise<SearchReport> {
  const report: SearchReport = { findings: [], looked: {} };
  const client = new pg.Client({ connectionString: platform.url('postgres') });
  await client.connect();
  try {
    const { rows: tables } = await client.query<{ schema: string; name: string }>(`
      SELECT table_schema AS schema, table_name AS name FROM information_schema.tables
      WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema') AND table_schema NOT LIKE '\\_timescaledb%'`);
    for (const { schema, name } of tables) {
      const { rows } = await client.query<{ row: string }>(`SELECT t::text AS row FROM ${client.escapeIdentifier(schema)}.${client.escapeIdentifier(name)} t`);
      for (const { row } of rows) {
        report.findings.push(...marksIn(`table ${schema}.${name}`, row));
        for (const [, hex] of row.matchAll(/\\x((?:[0-9a-f]{2})+)/g)) report.findings.push(...marksIn(`table ${schema}.${name}, binary`, Buffer.from(hex ?? '', 'hex')));
      }
      report.looked[schema] = (report.looked[schema] ?? 0) + rows.length;
    }
  } finally {
    await client.end();
  }
  return report;
}

/** Everything in the cache. */
export async function searchCache(platform: Platform): Promise<SearchReport> {
  const report: SearchReport = { findings: [], looked: { keys: 0 } };
  const redis = new Redis(platform.url('redis'), { lazyConnect: true });
  await redis.connect();
  try {
    for await (const keys of redis.scanStream({ count: 500 }) as AsyncIterable<string[]>) {
      for (const key of keys) {
        report.looked.keys = (report.looked.keys ?? 0) + 1;
        const dump = (await redis.type(key)) === 'hash' ? Buffer.from(JSON.stringify(await redis.hgetall(key))) : await redis.getBuffer(key);
        report.findings.push(...marksIn(`cache key ${key.slice(0, 80)}`, key), ...marksIn(`cache ${key.slice(0, 80)}`, dump ?? ''));
      }
    }
  } finally {
    redis.disconnect();
  }
  return report;
}

/** Logs of every process, and whatever lies in the agent's own folder (its spool and what it remembers). */
export async function searchFiles(platform: Platform): Promise<SearchReport> {
  const report: SearchReport = { findings: [], looked: { bytes: 0, files: 0 } };
  const look = (where: string, content: string | Uint8Array) => {
    report.findings.push(...marksIn(where, content));
    report.looked.files = (report.looked.files ?? 0) + 1;
    report.looked.bytes = (report.looked.bytes ?? 0) + content.length;
  };
  for (const [file, text] of await platform.logs()) look(file, text);
  for (const entry of await readdir(platform.state.path('spool'), { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) look(`spool/${entry.name}`, await readFile(join(entry.parentPath, entry.name)));
  }
  return report;
}
