import { readdir, readFile } from 'node:fs/promises';

/** CPU seconds and memory of a process and its descendants. */
export interface ProcessUse {
  readonly cpuSeconds: number;
  readonly rssBytes: number;
}

/** Clock ticks a second in /proc: 100 on every Linux of today. */
const TICKS = 100;

async function statOf(pid: number): Promise<{ parent: number; ticks: number; ofEndedChildren: number } | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  if (text === null) return null;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ').map(Number);
  return { parent: fields[1] ?? 0, ticks: (fields[11] ?? 0) + (fields[12] ?? 0), ofEndedChildren: (fields[13] ?? 0) + (fields[14] ?? 0) };
}

/** Proportional share of memory: what several processes share (PostgreSQL's buffers) counts once. */
async function memoryOf(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '');
  return Number(/^Pss:\s+(\d+) kB/m.exec(text)?.[1] ?? 0) * 1024;
}

/** What a process and all below it have used so far (Linux; elsewhere null). */
export async function useOf(pid: number): Promise<ProcessUse | null> {
  if (process.platform !== 'linux') return null;
  const all = new Map<number, { parent: number; ticks: number; ofEndedChildren: number }>();
  for (const name of await readdir('/proc')) {
    const stat = /^\d+$/.test(name) ? await statOf(Number(name)) : null;
    if (stat) all.set(Number(name), stat);
  }
  const family = [pid];
  for (const parent of family) for (const [child, stat] of all) if (stat.parent === parent) family.push(child);
  let ticks = 0;
  let rssBytes = 0;
  for (const each of family) {
    const stat = all.get(each);
    ticks += (stat?.ticks ?? 0) + (stat?.ofEndedChildren ?? 0);
    rssBytes += await memoryOf(each);
  }
  return { cpuSeconds: ticks / TICKS, rssBytes };
}
