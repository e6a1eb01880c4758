import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { choosePort, type ServerHandle, ServerStartError, startProcess } from './process.js';
import { provisionPostgres } from './provision.js';
import { secretFile } from './redis.js';

const run = promisify(execFile);
type User = { readonly uid: number; readonly gid: number };

/** PostgreSQL refuses to run as root: then `postgres`, where the machine has such a user, else `nobody`. */
async function unprivilegedUser(): Promise<User | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const users = new Map((await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':')).map((fields) => [fields[0], { uid: Number(fields[2]), gid: Number(fields[3]) }]));
  const user = users.get('postgres') ?? users.get('nobody');
  if (!user) throw new ServerStartError('PostgreSQL cannot run as root and this machine has neither a user postgres nor nobody: set UPID_DATABASE_URL, or use `docker compose up`.');
  return user;
}

/** Whether `user` may pass through every folder above `path`. */
async function reachable(path: string, user: User): Promise<boolean> {
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    const { mode, uid, gid } = await stat(folder);
    const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}

const ELSEWHERE = '/var/lib/upid';

/**
 * The folder for the server's data. As root it belongs to the unprivileged user; where that user cannot pass the folders above `dir`
 * (a state folder below /root) the data lies in a folder of its own in `/var/lib/upid` and `dir/data` links there. Each `dir` gets a new
 * one: a folder that was removed and made again does not find the data of its past.
 */
async function dataFolder(dir: string, user: User | undefined): Promise<string> {
  const data = join(dir, 'data');
  if (!user) {
    await mkdir(data, { recursive: true, mode: 0o700 });
    return data;
  }
  // `dir` is ours: others may pass it, but not list it.
  await chmod(dir, ((await stat(dir)).mode & 0o7777) | 0o011);
  let home = data;
  if (!(await reachable(dir, user))) {
    await removeOrphans();
    await mkdir(ELSEWHERE, { recursive: true, mode: 0o755 });
    home = await readlink(data).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      const made = join(ELSEWHERE, `data-${randomBytes(8).toString('hex')}`);
      await writeFile(`${made}.owner`, data);
      await symlink(made, data);
      return made;
    });
  }
  await mkdir(home, { recursive: true });
  await chown(home, user.uid, user.gid);
  await chmod(home, 0o700);
  return home;
}

/** Removes data whose owner was a temporary folder that is gone: tests leave nothing behind. Other folders' data is never touched. */
async function removeOrphans(): Promise<void> {
  for (const name of await readdir(ELSEWHERE).catch(() => [])) {
    if (!name.endsWith('.owner')) continue;
    const home = join(ELSEWHERE, name.slice(0, -'.owner'.length));
    const owner = await readFile(join(ELSEWHERE, name), 'utf8').catch(() => null);
    if (owner === null || !owner.startsWith(`${tmpdir()}/`)) continue;
    if ((await readlink(owner).catch(() => null)) === home) continue;
    await rm(home, { recursive: true, force: true });
    await rm(join(ELSEWHERE, name), { force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(() => true, () => false);
}

async function tryConnect(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('SELECT 1');
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** How long a server that was killed may leave processes of its own behind: a backend notices only between two steps of its work. */
const ORPHANS_MS = 60_000;

/** After its postmaster was killed, backends live on until they notice; a new server refuses to start beside them, and is tried again. */
async function afterOrphans<T>(start: () => Promise<T>): Promise<T> {
  for (const deadline = Date.now() + ORPHANS_MS; ;) {
    try {
      return await start();
    } catch (error) {
      if (!(error instanceof ServerStartError) || !/pre-existing shared memory block|Is another postmaster/.test(error.message) || Date.now() > deadline) throw error;
      await delay(200);
    }
  }
}

/**
 * Starts PostgreSQL 15 or newer on 127.0.0.1 with its data below `dir`; the first time makes the cluster (user and database `upid`, a
 * password of its own in `dir/password`). `settings` are server settings by name (tests give `{ fsync: 'off' }`).
 * `stop` is a fast shutdown; `kill` ends the postmaster with SIGKILL, as a crash would.
 * @throws {PortInUseError | ServerUnavailableError | ServerStartError}
 */
export async function startPostgres(options: { readonly dir: string; readonly port?: number; readonly settings?: Readonly<Record<string, string>> }): Promise<ServerHandle> {
  const bin = await provisionPostgres();
  const port = await choosePort(options.port ?? 0);
  const dir = resolve(options.dir);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const user = await unprivilegedUser();
  const data = await dataFolder(dir, user);
  const password = await secretFile(join(dir, 'password'));
  const env = { ...process.env, LC_ALL: 'C', TZ: 'UTC', PGTZ: 'UTC' };
  if (!(await exists(join(data, 'PG_VERSION')))) {
    const passwordFile = join(dir, `.password-${port}`);
    await writeFile(passwordFile, password, { mode: 0o600 });
    try {
      if (user) await chown(passwordFile, user.uid, user.gid);
      let pwfile = passwordFile;
      if (user && !(await reachable(dir, user))) {
        pwfile = `${data}.password`;
        await writeFile(pwfile, password, { mode: 0o600 });
        await chown(pwfile, user.uid, user.gid);
      }
      await run(join(bin, 'initdb'), ['-D', data, '-U', 'upid', '-A', 'scram-sha-256', `--pwfile=${pwfile}`, '-E', 'UTF8', '--locale=C', '--no-sync', '--no-instructions'], { ...user, env, cwd: '/', timeout: 120_000 })
        .catch((cause: Error) => { throw new ServerStartError(`initdb could not make a database cluster in ${data}: ${cause.message}`, { cause }); })
        .finally(() => rm(pwfile, { force: true }));
    } finally {
      await rm(passwordFile, { force: true });
    }
  }
  const settings = {
    listen_addresses: '127.0.0.1', port: String(port), unix_socket_directories: '', max_connections: '200', shared_buffers: '128MB', timezone: 'UTC', log_timezone: 'UTC',
    max_wal_size: '2GB', wal_compression: 'on', checkpoint_timeout: '10min', ...options.settings,
  };
  const base = `postgres://upid:${password}@127.0.0.1:${port}`;
  const start = () => startProcess({
    program: join(bin, 'postgres'), args: ['-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    logFile: join(dir, 'postgres.log'), ...(user ? { user } : {}), env, stopSignal: 'SIGINT', readyWithinMs: 60_000, ready: () => tryConnect(`${base}/postgres`),
  });
  const server = await afterOrphans(start);
  const admin = new pg.Client({ connectionString: `${base}/postgres` });
  await admin.connect();
  try {
    const { rowCount } = await admin.query(`SELECT 1 FROM pg_database WHERE datname = 'upid'`);
    if (rowCount === 0) await admin.query('CREATE DATABASE upid');
  } finally {
    await admin.end();
  }
  return { ...server, url: `${base}/upid`, port, dir };
}
