export type PatternType = 'daily' | 'weekly' | 'business_hours' | 'other';

export interface Pattern {
  readonly type: PatternType;
  readonly periodSteps: number;
  readonly periodMinutes: number;
  /**
   * 0..1: the share of the variance around the local level that the pattern explains in cycles that were kept from it. What
   * another reported, longer pattern adds to it is left to that one, so that quiet weekends do not count against a daily rhythm.
   */
  readonly confidence: number;
  /** How far the agreement in phase lies above chance, in standard deviations of noise with the same redness. */
  readonly significance: number;
  /** Whole or partial cycles that were compared. */
  readonly cycles: number;
  /** One sentence for people. */
  readonly evidence: string;
}

/** A pattern says more of the values than all else does. */
export const leastConfidence = 0.5;

/** Agreement in phase, in standard deviations, that is not chance for a period that was expected. */
export const significantCalendar = 4.5;

export interface PatternOptions {
  /** Patterns below it are not reported; a half where left out. */
  readonly minConfidence?: number;
  /** Local time less UTC at a moment, in ms: daylight saving included. UTC where left out. Used for working hours and months. */
  readonly offsetMsAt?: (timeMs: number) => number;
}

export const minutesPerWeek = 10_080;

/** For people: `87 %`. */
export const percent = (share: number): string => `${Math.round(100 * share)} %`;
