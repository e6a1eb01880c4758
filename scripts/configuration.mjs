// Writes docs/configuration.md out of the settings of every part; with --check only says whether it is up to date.
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const file = join(root, 'docs', 'configuration.md');
const load = (path) => import(join(root, path));
const { describeConfig, platformSettings } = await load('libs/platform/dist/index.js');
const groups = { 'Every part': platformSettings };
for (const [title, path, name] of [
  ['The agent (collector)', 'services/collector/dist/collector.module.js', 'collectorSettings'],
  ['Intelligence', 'services/intelligence/dist/intelligence.module.js', 'intelligenceSettings'],
  ['Cost', 'services/cost/dist/cost.module.js', 'costSettings'],
  ['Optimizer', 'services/optimizer/dist/optimizer.module.js', 'optimizerSettings'],
  ['Gateway', 'services/gateway/dist/gateway.module.js', 'gatewaySettings'],
  ['Demo cluster (simulator)', 'simulator/dist/settings.js', 'simulatorSettings'],
]) groups[title] = (await load(path))[name];
const text = `# Configuration
Environment variables, read and checked at the start; a bad one ends the process with a sentence that names it. \`… or …_FILE\`: the value may also lie in a file; secrets are never printed. Written by \`node scripts/configuration.mjs\`.

${describeConfig(groups).trim()}

## Policy
\`UPID_POLICY_FILE\` names a YAML file with the thresholds of decisions; every field and its default: \`libs/contracts/policy.ts\`. Intelligence, optimizer and gateway read the same file.
`;
if (process.argv.includes('--check')) {
  const there = await readFile(file, 'utf8').catch(() => '');
  if (there !== text) {
    console.error('docs/configuration.md is not what the settings say: run `node scripts/configuration.mjs`');
    process.exit(1);
  }
} else await writeFile(file, text);
process.exit(0);
