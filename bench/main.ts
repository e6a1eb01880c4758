import { readdir } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';
import type { Benchmark, Figures } from './benchmark.js';

const usage = 'usage: upid bench NAME [--json] [arguments] | --list | --check';

/** Every `NAME.bench.js` beside this file exports one benchmark as `benchmark`. */
async function load(): Promise<Map<string, Benchmark>> {
  const found = new Map<string, Benchmark>();
  for (const file of (await readdir(import.meta.dirname)).filter((name) => name.endsWith('.bench.js')).sort()) {
    const loaded = (await import(pathToFileURL(join(import.meta.dirname, file)).href)) as { benchmark: Benchmark };
    found.set(loaded.benchmark.name, loaded.benchmark);
  }
  return found;
}

function at(figures: Figures, path: string): unknown {
  return path.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], figures);
}

/** Runs every benchmark that has floors and says which scores fell; true where none did. */
async function check(benchmarks: Iterable<Benchmark>): Promise<boolean> {
  let held = true;
  for (const benchmark of benchmarks) {
    if (Object.keys(benchmark.floors).length === 0) continue;
    const figures = await benchmark.run({ log: () => undefined, args: [] });
    for (const [key, floor] of Object.entries(benchmark.floors)) {
      const value = at(figures, key);
      const ok = typeof value === 'number' && value >= (floor.min ?? -Infinity) && value <= (floor.max ?? Infinity);
      const bound = [floor.min === undefined ? '' : `>= ${floor.min}`, floor.max === undefined ? '' : `<= ${floor.max}`].filter(Boolean).join(', ');
      console.log(`${ok ? 'ok  ' : 'FELL'} ${benchmark.name} ${key} = ${String(value)} (${bound})`);
      held &&= ok;
    }
  }
  return held;
}

const [name, ...rest] = process.argv.slice(2);
const benchmarks = await load();
if (name === '--list') {
  for (const { name: each, summary } of benchmarks.values()) console.log(`${each.padEnd(14)} ${summary}`);
} else if (name === '--check') {
  process.exitCode = (await check(benchmarks.values())) ? 0 : 1;
} else {
  const benchmark = benchmarks.get(name ?? '');
  if (!benchmark) {
    console.error(`${usage}\nbenchmarks: ${[...benchmarks.keys()].join(', ')}`);
    process.exit(2);
  }
  const json = rest.includes('--json');
  const figures = await benchmark.run({ log: json ? (line) => console.error(line) : console.log, args: rest.filter((arg) => arg !== '--json') });
  if (json) console.log(JSON.stringify(figures));
  else console.log(Object.entries(figures).map(([key, value]) => `${key.padEnd(36)} ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`).join('\n'));
}
