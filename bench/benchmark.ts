/** One figure of a benchmark: its key carries its unit (`lines_per_second_per_core`, `publish_to_commit_p99_ms`). */
export type Figures = Record<string, number | string | boolean | null | Record<string, number>>;

/** What a benchmark may use while it runs. */
export interface BenchmarkContext {
  /** Prints a line for people; silent lines never carry the result. */
  readonly log: (line: string) => void;
  /** Arguments after the benchmark's name that the runner did not take itself. */
  readonly args: readonly string[];
}

/** A bound that a score must not cross; timings are never bounded. */
export interface Floor {
  readonly min?: number;
  readonly max?: number;
}

/** A benchmark that `upid bench NAME` runs. */
export interface Benchmark {
  readonly name: string;
  /** One line for `upid bench --list`. */
  readonly summary: string;
  /** Figures by key (dots reach into nested figures) that the check in CI holds. Empty: not part of the check. */
  readonly floors: Readonly<Record<string, Floor>>;
  run(context: BenchmarkContext): Promise<Figures>;
}
