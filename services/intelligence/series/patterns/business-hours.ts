import { agreement, fold, localLevel } from './cycles.js';
import { hourOfWeek, hoursPerWeek } from './hour-of-week.js';
import { leastConfidence, minutesPerWeek, percent, significantCalendar } from './pattern.js';
import type { Pattern, PatternOptions } from './pattern.js';

const msPerHour = 3_600_000;
const msPerWeek = hoursPerWeek * msPerHour;
const fewestWeeks = 2;
/** What free days must explain of what the same hours of every day leave. */
const leastWeekend = 0.05;

/** Sums and numbers of values by hour of the week (local, from Monday 00:00), of each week. */
interface WeekHours {
  readonly sums: Float64Array;
  readonly squares: Float64Array;
  readonly counts: Float64Array;
}

/** Hours of some days of the week that lie higher than all others. */
interface Block {
  /** First of the working days, Monday 0. */
  readonly firstDay: number;
  readonly days: number;
  /** Local hours, from inclusive, to exclusive. */
  readonly from: number;
  readonly to: number;
  readonly inside: number;
  readonly outside: number;
}

/** The block that explains most of the sums, of so many days in a row and 4 to 16 hours; null where none lies above the rest. */
function bestBlock(sums: Float64Array, counts: Float64Array, days: number): Block | null {
  const total = sums.reduce((a, b) => a + b, 0);
  const number = counts.reduce((a, b) => a + b, 0);
  let best: Block | null = null;
  let most = 0;
  for (let firstDay = 0; firstDay < (days === 7 ? 1 : 7); firstDay++) {
    const hourSums = new Float64Array(24);
    const hourCounts = new Float64Array(24);
    for (let day = firstDay; day < firstDay + days; day++) {
      for (let hour = 0; hour < 24; hour++) {
        hourSums[hour]! += sums[(day % 7) * 24 + hour]!;
        hourCounts[hour]! += counts[(day % 7) * 24 + hour]!;
      }
    }
    for (let from = 0; from < 24; from++) {
      let [sum, count] = [0, 0];
      for (let to = from + 1; to <= Math.min(24, from + 16); to++) {
        sum += hourSums[to - 1]!;
        count += hourCounts[to - 1]!;
        if (to - from < 4 || count === 0 || count === number) continue;
        const inside = sum / count;
        const outside = (total - sum) / (number - count);
        const gain = inside > outside ? sum * inside + (total - sum) * outside : 0;
        if (gain <= most) continue;
        most = gain;
        best = { firstDay, days, from, to, inside, outside };
      }
    }
  }
  return best;
}

function isInside({ firstDay, days, from, to }: Block, hourOfWeek: number): boolean {
  const day = Math.floor(hourOfWeek / 24);
  const hour = hourOfWeek % 24;
  return (day - firstDay + 7) % 7 < days && hour >= from && hour < to;
}

/** Squared error of a block's two levels for a week that was kept from it. */
function blockError(block: Block | null, { sums, squares, counts }: WeekHours): number {
  let error = 0;
  for (let hour = 0; hour < hoursPerWeek; hour++) {
    const level = block === null ? 0 : isInside(block, hour) ? block.inside : block.outside;
    error += squares[hour]! - 2 * level * sums[hour]! + level * level * counts[hour]!;
  }
  return error;
}

const dayNames = ['Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'];

/** Working hours: five days in a row with one block of hours above all others, better than the same hours of every day. */
export function businessHours(values: Float64Array, stepMs: number, startMs: number, { offsetMsAt, minConfidence = leastConfidence }: PatternOptions): Pattern | null {
  const period = Math.round(msPerWeek / stepMs);
  if (stepMs > msPerHour || values.length < fewestWeeks * period) return null;
  const level = localLevel(values, period);
  const weeks: WeekHours[] = Array.from({ length: Math.ceil(values.length / period) }, () => ({ sums: new Float64Array(hoursPerWeek), squares: new Float64Array(hoursPerWeek), counts: new Float64Array(hoursPerWeek) }));
  values.forEach((value, i) => {
    const rest = value - level[i]!;
    if (!Number.isFinite(rest)) return;
    const hour = hourOfWeek(startMs + i * stepMs, offsetMsAt);
    const week = weeks[Math.floor(i / period)]!;
    week.sums[hour]! += rest;
    week.squares[hour]! += rest * rest;
    week.counts[hour]!++;
  });
  const sumOf = (pick: (week: WeekHours) => Float64Array): Float64Array => Float64Array.from({ length: hoursPerWeek }, (_, hour) => weeks.reduce((sum, week) => sum + pick(week)[hour]!, 0));
  const sums = sumOf((week) => week.sums);
  const counts = sumOf((week) => week.counts);
  let [working, daily, unexplained] = [0, 0, 0];
  for (const week of weeks) {
    const otherSums = sums.map((sum, hour) => sum - week.sums[hour]!);
    const otherCounts = counts.map((count, hour) => count - week.counts[hour]!);
    working += blockError(bestBlock(otherSums, otherCounts, 5), week);
    daily += blockError(bestBlock(otherSums, otherCounts, 7), week);
    unexplained += blockError(null, week);
  }
  const confidence = unexplained > 0 ? Math.max(0, 1 - working / unexplained) : 0;
  const block = bestBlock(sums, counts, 5);
  if (!block || confidence < minConfidence || working > (1 - leastWeekend) * daily) return null;
  const significance = agreement(fold(values.map((value, i) => value - level[i]!), period));
  if (significance < significantCalendar) return null;
  const clock = (hour: number): string => `${String(hour).padStart(2, '0')}:00`;
  return {
    type: 'business_hours',
    periodSteps: period,
    periodMinutes: minutesPerWeek,
    confidence,
    significance,
    cycles: weeks.length,
    evidence: `Higher from ${dayNames[block.firstDay]!} to ${dayNames[(block.firstDay + 4) % 7]!}, ${clock(block.from)} to ${clock(block.to)} local time: explains ${percent(confidence)} of the variance in weeks kept from it, over ${weeks.length} weeks.`,
  };
}
