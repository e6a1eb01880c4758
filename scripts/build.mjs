// Builds the workspace: each TypeScript file of a package is compiled by SWC to the same place under that package's dist/.
// Types are checked apart (`pnpm types`); specs and their fixtures are not built. A file already built from the same text is kept.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { transform } from '@swc/core';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const packages = [
  ...['contracts', 'platform', 'testing'].map((name) => `libs/${name}`),
  ...['collector', 'intelligence', 'cost', 'optimizer', 'gateway'].map((name) => `services/${name}`),
  'cli', 'bench', 'simulator', 'test-e2e',
];
/** Files that the running code reads beside itself. */
const asset = /\.(sql|proto|ya?ml|json|html|css|svg)$/;
const swc = JSON.parse(await readFile(join(root, '.swcrc'), 'utf8'));
const swcHash = createHash('sha256').update(JSON.stringify(swc));

/** @param {string} dir @returns {Promise<string[]>} */
async function walk(dir) {
  const found = [];
  for (const entry of await readdir(dir, { withFileTypes: true })) {
    if (['node_modules', 'dist', 'fixtures', 'testdata'].includes(entry.name)) continue;
    const path = join(dir, entry.name);
    if (entry.isDirectory()) found.push(...(await walk(path)));
    else found.push(path);
  }
  return found;
}

let built = 0;
for (const name of packages) {
  const from = join(root, name);
  if (!existsSync(from)) continue;
  const to = join(from, 'dist');
  const stampFile = join(to, '.stamps.json');
  const old = existsSync(stampFile) ? JSON.parse(await readFile(stampFile, 'utf8')) : {};
  /** @type {Record<string, string>} */
  const stamps = {};
  for (const path of await walk(from)) {
    const rel = relative(from, path);
    const isSource = path.endsWith('.ts') && !path.endsWith('.d.ts') && !path.endsWith('.spec.ts');
    const isAsset = asset.test(path) && rel !== 'package.json';
    if (!isSource && !isAsset) continue;
    const target = join(to, isSource ? rel.replace(/\.ts$/, '.js') : rel);
    const text = await readFile(path);
    const stamp = swcHash.copy().update(text).digest('hex');
    stamps[rel] = stamp;
    if (old[rel] === stamp && existsSync(target)) continue;
    await mkdir(dirname(target), { recursive: true });
    if (isAsset) await cp(path, target);
    else {
      const out = await transform(text.toString(), { ...swc, filename: path, sourceMaps: 'inline', configFile: false, swcrc: false });
      await writeFile(target, out.code);
    }
    built++;
  }
  for (const rel of Object.keys(old)) {
    if (!(rel in stamps)) await rm(join(to, rel.replace(/\.ts$/, '.js')), { force: true });
  }
  await mkdir(to, { recursive: true });
  await writeFile(stampFile, JSON.stringify(stamps));
}
if (built > 0) console.log(`built ${built} file${built === 1 ? '' : 's'}`);
