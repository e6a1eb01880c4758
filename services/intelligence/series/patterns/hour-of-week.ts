const msPerHour = 3_600_000;
/** The epoch was a Thursday. */
const epochHourOfWeek = 3 * 24;
export const hoursPerWeek = 168;
const days = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];

/** Hour of the local week, 0 for Monday 00:00 to 167; `offsetMsAt` is local time less UTC, UTC where left out. */
export function hourOfWeek(timeMs: number, offsetMsAt?: (timeMs: number) => number): number {
  const hour = Math.floor((timeMs + (offsetMsAt?.(timeMs) ?? 0)) / msPerHour) + epochHourOfWeek;
  return ((hour % hoursPerWeek) + hoursPerWeek) % hoursPerWeek;
}

/** `Mon 09:00` */
export function hourOfWeekName(hour: number): string {
  return `${days[Math.floor(hour / 24)]!} ${String(hour % 24).padStart(2, '0')}:00`;
}

/** What a workload's usual week looks like. */
export interface WeekProfile {
  /** Mean by hour of the local week from Monday 00:00; NaN where no value fell. */
  readonly means: Float64Array;
  /** Number of values by hour of the week. */
  readonly counts: Uint32Array;
  /** Hours of the week with the highest and the lowest mean; the earlier one of equals. Null below a week's worth of hours. */
  readonly peakHour: number | null;
  readonly lowHour: number | null;
  /** Coefficient of variation of the values (standard deviation over mean); null where the mean is not above 0. */
  readonly variability: number | null;
}

/**
 * The usual week of an evenly spaced series (gaps: null or NaN). In less than two weeks an hour of the week has been seen once:
 * peak and low are then those of the hour of the day, named on the day on which it was highest and lowest. O(n).
 */
export function weekProfile(series: ArrayLike<number | null>, stepMs: number, startMs: number, offsetMsAt?: (timeMs: number) => number): WeekProfile {
  const means = new Float64Array(hoursPerWeek);
  const counts = new Uint32Array(hoursPerWeek);
  const day = { sums: new Float64Array(24), counts: new Uint32Array(24) };
  let [count, mean, squares] = [0, 0, 0];
  for (let i = 0; i < series.length; i++) {
    const value = series[i];
    if (value == null || !Number.isFinite(value)) continue;
    const hour = hourOfWeek(startMs + i * stepMs, offsetMsAt);
    means[hour]! += value;
    counts[hour]!++;
    day.sums[hour % 24]! += value;
    day.counts[hour % 24]!++;
    count++;
    const before = value - mean;
    mean += before / count;
    squares += before * (value - mean);
  }
  for (let hour = 0; hour < hoursPerWeek; hour++) means[hour] = counts[hour]! > 0 ? means[hour]! / counts[hour]! : Number.NaN;
  const whole = counts.every((each) => each > 0);
  const byDay = series.length * stepMs < 2 * hoursPerWeek * msPerHour;
  const extreme = (sign: 1 | -1): number | null => {
    if (!whole) return null;
    const best = (hours: readonly number[], of: (hour: number) => number): number => hours.reduce((a, b) => (sign * (of(b) - of(a)) > 0 ? b : a));
    const all = [...counts.keys()];
    if (!byDay) return best(all, (hour) => means[hour]!);
    const hourOfDay = best([...day.counts.keys()], (hour) => day.sums[hour]! / day.counts[hour]!);
    return best(all.filter((hour) => hour % 24 === hourOfDay), (hour) => means[hour]!);
  };
  return { means, counts, peakHour: extreme(1), lowHour: extreme(-1), variability: mean > 0 ? Math.sqrt(squares / count) / mean : null };
}
