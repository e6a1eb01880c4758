/** Local time in a zone: which hour of the day and quarter of the week a moment is. Offsets are looked up once an hour of time. */
const QUARTER_MS = 900_000;
/** 1970-01-01 was a Thursday; weeks begin on Monday. */
const FIRST_MONDAY_QUARTERS = 4 * 96;
export const QUARTERS_OF_WEEK = 672;
export const HOURS_OF_WEEK = 168;

export class Zone {
  private readonly format: Intl.DateTimeFormat;
  private readonly offsets = new Map<number, number>();

  private constructor(readonly name: string) {
    this.format = new Intl.DateTimeFormat('en-US', { timeZone: name, hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric' });
  }

  private static readonly known = new Map<string, Zone | null>();

  /** The zone of an IANA name; null where there is none of that name. */
  static named(name: string): Zone | null {
    let zone = this.known.get(name);
    if (zone === undefined) {
      try {
        zone = new Zone(name);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        zone = null;
      }
      this.known.set(name, zone);
    }
    return zone;
  }

  static readonly utc = Zone.named('UTC') as Zone;

  /** Local time minus UTC at a moment, quarters of an hour. */
  private offsetQuarters(quarter: number): number {
    const hour = Math.floor(quarter / 4);
    let offset = this.offsets.get(hour);
    if (offset === undefined) {
      const ms = hour * 4 * QUARTER_MS;
      const parts = Object.fromEntries(this.format.formatToParts(ms).map((part) => [part.type, Number(part.value)]));
      offset = Math.round((Date.UTC(parts.year as number, (parts.month as number) - 1, parts.day, parts.hour, parts.minute) - ms) / QUARTER_MS);
      this.offsets.set(hour, offset);
    }
    return offset;
  }

  /** Local time minus UTC at a moment, ms. */
  offsetMs(timeMs: number): number {
    return this.offsetQuarters(Math.floor(timeMs / QUARTER_MS)) * QUARTER_MS;
  }

  /** Quarters since 1970-01-01 00:00 local time, of a UTC quarter (unix ms / 900,000). */
  localQuarter(quarter: number): number {
    return quarter + this.offsetQuarters(quarter);
  }

  /** 0 (Monday 00:00 local) to 671. */
  quarterOfWeek(quarter: number): number {
    return (((this.localQuarter(quarter) - FIRST_MONDAY_QUARTERS) % QUARTERS_OF_WEEK) + QUARTERS_OF_WEEK) % QUARTERS_OF_WEEK;
  }
}
