import { uidFromBytes } from '@upid/contracts';
import type { Grid } from './grid.js';

/** What a pod did in its latest minute. */
export interface LatestValue {
  /** Unix minute. */
  readonly minute: number;
  readonly cpuMillicores: number;
  readonly memoryBytes: number;
}

/** The latest minute of each pod of the grid, summed over its containers: [UID, text]. */
export function latestValues(grid: Grid): [string, string][] {
  const values: [string, string][] = [];
  const cpu = grid.usage[0] as Float64Array;
  const memory = grid.usage[2] as Float64Array;
  for (let pod = 0; pod < grid.pods; pod++) {
    for (let minute = grid.span - 1; minute >= 0; minute--) {
      let any = false;
      let cpuMillicores = 0;
      let memoryBytes = 0;
      for (let series = grid.podFirstSeries[pod] as number; series >= 0; series = grid.seriesNext[series] as number) {
        const place = series * grid.span + minute;
        if (grid.rank[place] === 0) continue;
        any = true;
        cpuMillicores += cpu[place] as number;
        memoryBytes += memory[place] as number;
      }
      if (!any) continue;
      values.push([uidFromBytes(grid.podUids, pod * 16), `${grid.startMinute + minute} ${cpuMillicores} ${memoryBytes}`]);
      break;
    }
  }
  return values;
}

/** The inverse of a value's text; null where it is none. */
export function parseLatest(text: string): LatestValue | null {
  const [minute, cpuMillicores, memoryBytes] = text.split(' ').map(Number);
  if (!Number.isFinite(minute) || !Number.isFinite(cpuMillicores) || !Number.isFinite(memoryBytes)) return null;
  return { minute: minute as number, cpuMillicores: cpuMillicores as number, memoryBytes: memoryBytes as number };
}
