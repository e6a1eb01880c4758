import { chmod, mkdtemp, readFile, readlink, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, nkeyAuthenticator } from '@nats-io/transport-node';
import { waitFor } from '@upid/testing';
import { Redis } from 'ioredis';
import pg from 'pg';
import { embeddedPostgres, natsConfig, nkeyFile, platformUser, PortInUseError, startNats, startPostgres, startRedis } from './index.js';

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
async function folder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'upid-servers-'));
  cleanups.push(() => rm(dir, { recursive: true, force: true }));
  return dir;
}
function managed<T extends { stop(): Promise<void> }>(server: T): T {
  cleanups.push(() => server.stop());
  return server;
}

describe('servers that the launcher and the tests bring', () => {
  it('PostgreSQL keeps its data and password over SIGKILL and a new start', async () => {
    const dir = await folder();
    const first = managed(await startPostgres({ dir }));
    const client = new pg.Client({ connectionString: first.url });
    client.on('error', () => undefined);
    await client.connect();
    await client.query('CREATE TABLE kept (n int)');
    await client.query('INSERT INTO kept VALUES (7)');
    await first.kill();
    const second = managed(await startPostgres({ dir, port: first.port }));
    expect(second.url).toBe(first.url);
    const again = new pg.Client({ connectionString: second.url });
    await again.connect();
    expect((await again.query('SELECT n FROM kept')).rows).toEqual([{ n: 7 }]);
    await again.end();
    expect((await stat(join(dir, 'password'))).mode & 0o777).toBe(0o600);
    const stranger = new pg.Client({ connectionString: second.url.replace(/:[^:@]+@/, ':wrong@') });
    await expect(stranger.connect()).rejects.toThrow('password authentication failed');
  });

  it('PostgreSQL that was killed comes back once the last of its orphans is gone', async () => {
    const dir = await folder();
    const first = managed(await startPostgres({ dir, settings: { fsync: 'off' } }));
    const client = new pg.Client({ connectionString: first.url });
    client.on('error', () => undefined);
    await client.connect();
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const orphan = rows[0]?.pid ?? 0;
    // A backend at long work, which does not notice yet.
    process.kill(orphan, 'SIGSTOP');
    await first.kill();
    let started = false;
    const starting = startPostgres({ dir, port: first.port, settings: { fsync: 'off' } }).finally(() => { started = true; });
    try {
      await waitFor('two tries', async () => (await readFile(join(dir, 'postgres.log'), 'utf8')).split('pre-existing shared memory block').length > 2, { alive: () => { expect(started).toBe(false); } });
    } finally {
      process.kill(orphan, 'SIGCONT');
    }
    const second = managed(await starting);
    expect(second.url).toBe(first.url);
  });

  it('PostgreSQL works with its state below a folder that its user cannot pass', async () => {
    const dir = await folder();
    await chmod(dir, 0o700);
    const state = join(dir, 'state', 'postgres');
    const elsewhere = () => readlink(join(state, 'data')).then((target) => rm(target, { recursive: true }), () => undefined);
    cleanups.push(elsewhere);
    const server = managed(await startPostgres({ dir: state, settings: { fsync: 'off' } }));
    const client = new pg.Client({ connectionString: server.url });
    await client.connect();
    expect((await client.query('SELECT current_database() AS name')).rows).toEqual([{ name: 'upid' }]);
    await client.end();
  });

  it('the embedded PostgreSQL runs', async () => {
    const bin = await embeddedPostgres();
    const path = process.env.PATH;
    const dir = await folder();
    process.env.PATH = `${bin}:${path}`;
    try {
      const server = managed(await startPostgres({ dir, settings: { fsync: 'off' } }));
      const client = new pg.Client({ connectionString: server.url });
      await client.connect();
      const { rows } = await client.query<{ server_version_num: string }>('SHOW server_version_num');
      expect(Number(rows[0]?.server_version_num)).toBeGreaterThanOrEqual(180_000);
      await client.end();
    } finally {
      process.env.PATH = path;
    }
  });

  it('Redis answers with its password alone', async () => {
    const server = managed(await startRedis({ dir: await folder() }));
    const client = new Redis(server.url);
    expect(await client.set('a', '1')).toBe('OK');
    expect(await client.get('a')).toBe('1');
    client.disconnect();
    const args = await readFile(`/proc/${server.pid}/cmdline`, 'utf8').catch(() => '');
    expect(args).not.toContain(new URL(server.url).password);
  });

  it('NATS takes a new agent by reload, without a restart', async () => {
    const dir = await folder();
    const service = await nkeyFile(join(dir, 'keys', 'cost'));
    const agent = await nkeyFile(join(dir, 'keys', 'agent-a'));
    expect((await stat(join(dir, 'keys', 'cost'))).mode & 0o777).toBe(0o600);
    expect(await nkeyFile(join(dir, 'keys', 'cost'))).toEqual(service);
    const platformUsers = [platformUser({ name: 'cost', publicKey: service.publicKey })];
    const server = managed(await startNats({ dir, config: natsConfig({ platformUsers, agents: [] }) }));
    const asAgent = () => connect({ servers: server.url, authenticator: nkeyAuthenticator(new TextEncoder().encode(agent.seed)), maxReconnectAttempts: 0 });
    await expect(asAgent()).rejects.toThrow(/authorization/i);
    const standing = await connect({ servers: server.url, authenticator: nkeyAuthenticator(new TextEncoder().encode(service.seed)) });
    await server.reload(natsConfig({ platformUsers, agents: [{ clusterId: 'a', publicKey: agent.publicKey }] }));
    const connection = await asAgent();
    await connection.flush();
    await standing.flush();
    expect(standing.stats().inMsgs).toBe(0);
    await connection.close();
    await standing.close();
    await expect(server.reload('accounts { broken')).rejects.toThrow(/Failed to reload/);
  });

  it('a port in use is told in one sentence', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => { taken.listen(0, '127.0.0.1', resolve); });
    cleanups.push(() => new Promise((resolve) => { taken.close(() => resolve()); }));
    const address = taken.address();
    const port = address !== null && typeof address === 'object' ? address.port : 0;
    await expect(startRedis({ dir: await folder(), port })).rejects.toThrow(PortInUseError);
    await expect(startRedis({ dir: await folder(), port })).rejects.toThrow(`Port ${port} is in use`);
  });

  it('stop returns when the server is gone', async () => {
    const dir = await folder();
    const server = managed(await startRedis({ dir }));
    await server.stop();
    await server.exited;
    expect(() => process.kill(server.pid, 0)).toThrow();
  });
});
