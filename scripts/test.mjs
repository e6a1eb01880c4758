// Every check, one after the other, each to its end whatever the others say; the last line is `N passed, N failed`.
// `node scripts/test.mjs lint unit ...` runs some of them.
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const out = await mkdtemp(join(tmpdir(), 'upid-test-'));
const node = process.execPath;

/** @type {Record<string, { command: string[], jest?: boolean }>} */
const checks = {
  lint: { command: [node, 'node_modules/eslint/bin/eslint.js', '.'] },
  types: { command: [node, 'node_modules/tsc7/bin/tsc', '--noEmit', '-p', 'tsconfig.json'] },
  rules: { command: [node, 'node_modules/dependency-cruiser/bin/dependency-cruiser.mjs', '--config', '.dependency-cruiser.cjs', 'libs', 'services', 'cli', 'bench', 'simulator', 'test-e2e'] },
  unit: { command: [node, 'scripts/jest.mjs', 'unit', '--coverage', '--coverageProvider=v8', '--coverageReporters=text-summary', '--coverageReporters=json-summary', `--coverageDirectory=${join(out, 'coverage')}`], jest: true },
  int: { command: [node, 'scripts/jest.mjs', 'int'], jest: true },
  e2e: { command: [node, 'scripts/jest.mjs', 'e2e'], jest: true },
  docs: { command: [node, 'scripts/configuration.mjs', '--check'] },
  scores: { command: [node, 'bench/dist/main.js', '--check'] },
};
/** Decision code: the share of its lines that unit tests run must stay above this. */
const COVERAGE_FLOOR_PERCENT = 90;

const wanted = process.argv.slice(2);
for (const name of wanted) {
  if (!(name in checks)) {
    console.error(`upid test: no check ${JSON.stringify(name)}; there are ${Object.keys(checks).join(', ')}`);
    process.exit(2);
  }
}

/** @param {string[]} command @returns {Promise<boolean>} */
const run = ([program, ...args]) => new Promise((resolve) => {
  const child = spawn(program, args, { cwd: root, stdio: 'inherit' });
  child.on('exit', (code) => resolve(code === 0));
  child.on('error', () => resolve(false));
});

/** The beginning of what a test failed with, since the whole of it stands far above. @param {string} message */
const reason = (message) => stripVTControlCharacters(message).split('\n').map((each) => each.trim()).filter((each) => each !== '' && !each.startsWith('at ')).slice(0, 8).join(' | ').slice(0, 900);

// What tests start is built first, so that its progress is seen; the control plane's binary is kept outside the checkout. Where it
// cannot be built the tests that need it say so themselves (in CI they fail).
console.log('=== prepare');
if (!(await run([node, 'scripts/build.mjs']))) process.exit(1);
if (wanted.length === 0 || wanted.includes('int') || wanted.includes('e2e')) await run([node, 'libs/testing/dist/controlplane/main.js', 'build']);

let passed = 0;
let failed = 0;
const lines = [];
for (const [name, check] of Object.entries(checks)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const began = Date.now();
  console.log(`\n=== ${name}`);
  const report = join(out, `${name}.json`);
  const ok = await run(check.jest ? [...check.command, '--json', `--outputFile=${report}`] : check.command);
  let line;
  if (check.jest) {
    const result = await readFile(report, 'utf8').then(JSON.parse, () => null);
    const suites = result?.numRuntimeErrorTestSuites ?? 0;
    const some = { passed: result?.numPassedTests ?? 0, failed: (result?.numFailedTests ?? 0) + suites };
    if (!ok && some.failed === 0) some.failed = 1;
    passed += some.passed;
    failed += some.failed;
    line = `${name}: ${some.passed} passed, ${some.failed} failed${result?.numPendingTests ? `, ${result.numPendingTests} skipped` : ''}`;
    for (const suite of result?.testResults ?? []) {
      if (suite.status !== 'failed') continue;
      const tests = suite.assertionResults.filter((each) => each.status === 'failed');
      lines.push(`  ${suite.name.slice(root.length + 1)}${tests.length === 0 ? `: ${reason(suite.message)}` : ''}`, ...tests.map((each) => `    ${each.fullName}: ${reason(each.failureMessages[0] ?? '')}`));
    }
  } else {
    if (ok) passed++;
    else failed++;
    line = `${name}: ${ok ? 'passed' : 'failed'}`;
  }
  lines.push(`${line} (${((Date.now() - began) / 1000).toFixed(0)} s)`);
  if (name === 'unit') {
    const summary = await readFile(join(out, 'coverage', 'coverage-summary.json'), 'utf8').then(JSON.parse, () => null);
    const percent = summary?.total?.lines?.pct;
    const held = typeof percent === 'number' && percent >= COVERAGE_FLOOR_PERCENT;
    if (held) passed++;
    else failed++;
    lines.push(`coverage of decision code: ${percent ?? 'unknown'} % of lines (at least ${COVERAGE_FLOOR_PERCENT} %): ${held ? 'passed' : 'failed'}`);
  }
}
await rm(out, { recursive: true, force: true });
console.log(`\n=== summary\n${lines.join('\n')}\n\n${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
