// node scripts/jest.mjs unit|int|e2e [jest's own arguments]: one tier of tests by file name
// (thing.spec.ts; thing.int.spec.ts with real servers; test-e2e/thing.e2e.spec.ts on a real control plane).
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
/** One after the other; what a failed test left open does not keep the run from ending. */
const real = ['--runInBand', '--forceExit', `--setupFilesAfterEnv=${join(root, 'scripts', 'retry.mjs')}`];
const tiers = {
  unit: ['--testRegex', '(?<!\\.int|\\.e2e)\\.spec\\.ts$'],
  int: ['--testRegex', '\\.int\\.spec\\.ts$', '--testTimeout=120000', ...real],
  e2e: ['--testRegex', '\\.e2e\\.spec\\.ts$', '--testTimeout=600000', ...real],
};
const [tier, ...rest] = process.argv.slice(2);
if (!(tier in tiers)) {
  console.error('usage: node scripts/jest.mjs unit|int|e2e [jest arguments]');
  process.exit(2);
}
const child = spawn(process.execPath, ['--experimental-vm-modules', '--no-warnings', join(root, 'node_modules/jest/bin/jest.js'), ...rest, ...tiers[tier]], {
  cwd: root, stdio: 'inherit', env: { ...process.env, NODE_ENV: 'test', TZ: 'UTC' },
});
child.on('exit', (code, signal) => process.exit(signal ? 1 : code));
