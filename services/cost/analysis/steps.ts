/** Lines over time: cut into steps, and steps put together again. */
import { sum, totalOf, type AggregatedLine, type CostLine } from './aggregate.js';

/** Lines of one span of time. */
export interface CostStep<L extends CostLine = CostLine> {
  readonly startMs: number;
  readonly endMs: number;
  readonly lines: readonly L[];
}

/** Steps that cannot be accumulated as asked, or a window that cannot be cut so. */
export class StepError extends Error {
  override readonly name = 'StepError';
}

/** What steps are put together to: each as it is, one of all, or one for each hour, day, week (from Sunday) or month, in UTC. */
export type Accumulation = 'none' | 'all' | 'hour' | 'day' | 'week' | 'month';

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
/** More steps than any chart shows; a typing error in `step` must not make millions. */
const maximumSteps = 100_000;

/**
 * Cuts [startMs, endMs) into steps from its start; the last may be shorter. A line belongs to the step that it starts in, and
 * lines outside the window are left out: ask with steps that are multiples of the lines' own span. O(lines + steps).
 * @throws StepError for an empty window or step, and for more than 100,000 steps.
 */
export function cutIntoSteps<L extends CostLine>(lines: readonly L[], startMs: number, endMs: number, stepMs = endMs - startMs): CostStep<L>[] {
  if (!(endMs > startMs) || !(stepMs > 0)) throw new StepError('a window and its step must be longer than nothing');
  const count = Math.ceil((endMs - startMs) / stepMs);
  if (count > maximumSteps) throw new StepError(`${count} steps are more than ${maximumSteps}`);
  const steps = Array.from({ length: count }, (_, i) => ({ startMs: startMs + i * stepMs, endMs: Math.min(endMs, startMs + (i + 1) * stepMs), lines: [] as L[] }));
  for (const line of lines) {
    if (line.startMs >= startMs && line.startMs < endMs) steps[Math.floor((line.startMs - startMs) / stepMs)]?.lines.push(line);
  }
  return steps;
}

/**
 * Puts aggregated steps together, lines of one name summed: hours to days, days to weeks (that end with Saturday) or months.
 * @throws StepError where the steps are not hours or days as the target needs them.
 */
export function accumulate(steps: readonly CostStep<AggregatedLine>[], to: Accumulation): CostStep<AggregatedLine>[] {
  if (to === 'none' || steps.length === 0) return [...steps];
  if (to === 'all') return [merge(steps)];
  const lengthsAllowed = { hour: [hourMs], day: [hourMs, dayMs], week: [dayMs, 7 * dayMs], month: [dayMs] }[to];
  for (const { startMs, endMs } of steps) {
    if (!lengthsAllowed.includes(endMs - startMs)) throw new StepError(`to accumulate by ${to}, steps must last ${lengthsAllowed.map((ms) => `${ms / hourMs} h`).join(' or ')}, not ${(endMs - startMs) / hourMs} h`);
  }
  return [...Map.groupBy(steps, ({ startMs, endMs }) => (endMs - startMs === 7 * dayMs ? startMs : periodOf(startMs, to))).values()].map(merge);
}

function periodOf(startMs: number, to: 'hour' | 'day' | 'week' | 'month'): number {
  const date = new Date(startMs);
  switch (to) {
    case 'hour': return startMs;
    case 'day': return Math.floor(startMs / dayMs);
    case 'week': return Math.floor(startMs / dayMs) - date.getUTCDay();
    case 'month': return date.getUTCFullYear() * 12 + date.getUTCMonth();
  }
}

function merge(steps: readonly CostStep<AggregatedLine>[]): CostStep<AggregatedLine> {
  const byName = new Map<string, CostLine>();
  for (const { lines } of steps) {
    for (const line of lines) {
      const group = byName.get(line.name);
      byName.set(line.name, group ? sum(group, line) : line);
    }
  }
  const lines = [...byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1)).map((line) => ({ ...line, totalNanos: totalOf(line.costs) }));
  return { startMs: Math.min(...steps.map(({ startMs }) => startMs)), endMs: Math.max(...steps.map(({ endMs }) => endMs)), lines };
}
