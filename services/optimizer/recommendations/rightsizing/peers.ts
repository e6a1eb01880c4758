/**
 * What the tools that people run today would answer on the same samples: for those who want their numbers (mode `decaying`)
 * and to measure ours against. Times are milliseconds since the epoch, ascending; CPU in millicores, memory in bytes.
 */
export interface Samples {
  readonly timesMs: readonly number[];
  readonly values: readonly number[];
}

export interface VpaTarget {
  readonly target: number;
  readonly lower: number;
  readonly upper: number;
}

const DAY_MS = 86_400_000;
const VPA = {
  targetPercentile: 0.9, lowerPercentile: 0.5, upperPercentile: 0.95, margin: 1.15, halfLifeDays: 1, growth: 1.05,
  firstCpuBucketMillicores: 10, lastCpuBucketMillicores: 1e6, firstMemoryBucketBytes: 1e7, lastMemoryBucketBytes: 1e12, memoryIntervalMs: DAY_MS,
} as const;

/** A percentile as VPA's exponential histogram gives it: the end of the bucket in which it falls. */
function histogramPercentile(points: Iterable<readonly [value: number, weight: number]>, percentile: number, firstBucket: number, lastBucket: number): number {
  const buckets = new Map<number, number>();
  const last = Math.ceil(Math.log((lastBucket * (VPA.growth - 1)) / firstBucket + 1) / Math.log(VPA.growth)) + 1;
  let total = 0;
  for (const [value, weight] of points) {
    const bucket = value < firstBucket ? 0 : Math.min(last, Math.floor(Math.log((value * (VPA.growth - 1)) / firstBucket + 1) / Math.log(VPA.growth)));
    buckets.set(bucket, (buckets.get(bucket) ?? 0) + weight);
    total += weight;
  }
  let seen = 0;
  let found = 0;
  for (const [bucket, weight] of [...buckets].sort((a, b) => a[0] - b[0])) {
    found = bucket;
    seen += weight;
    if (seen >= percentile * total) break;
  }
  return (firstBucket * (VPA.growth ** (found + 1) - 1)) / (VPA.growth - 1);
}

/** VPA's confidence: days between the first and last sample, or samples at one a minute, whichever is less. */
function vpaBounds(points: readonly (readonly [number, number])[], samples: Samples, firstBucket: number, lastBucket: number): VpaTarget {
  const span = ((samples.timesMs[samples.timesMs.length - 1] ?? 0) - (samples.timesMs[0] ?? 0)) / DAY_MS;
  const days = Math.min(span, samples.values.length / (24 * 60));
  const at = (percentile: number) => VPA.margin * histogramPercentile(points, percentile, firstBucket, lastBucket);
  return {
    target: Math.floor(at(VPA.targetPercentile)),
    lower: Math.floor(at(VPA.lowerPercentile) * (1 + 0.001 / days) ** -2),
    upper: Math.floor(at(VPA.upperPercentile) * (1 + 1 / days)),
  };
}

/**
 * Vertical Pod Autoscaler 1.8.1's CPU recommendation with default settings and without its pod minimum: the 90th percentile
 * (bounds 50th and 95th) of samples whose weight halves every 24 hours, plus 15 %. Millicores; null without samples. O(n).
 */
export function vpaCpu(samples: Samples): VpaTarget | null {
  const reference = samples.timesMs[0];
  if (reference === undefined) return null;
  const points = samples.values.map((value, i) => [value, 2 ** (((samples.timesMs[i] ?? reference) - reference) / (VPA.halfLifeDays * DAY_MS))] as const);
  return vpaBounds(points, samples, VPA.firstCpuBucketMillicores, VPA.lastCpuBucketMillicores);
}

/**
 * Vertical Pod Autoscaler 1.8.1's memory recommendation: as {@link vpaCpu}, over one peak for each 24 hours from the first
 * sample on, dated at the end of its interval. Bytes. O(n).
 */
export function vpaMemory(samples: Samples): VpaTarget | null {
  const reference = samples.timesMs[0];
  if (reference === undefined) return null;
  const peaks = new Map<number, number>();
  samples.values.forEach((value, i) => {
    const interval = Math.floor(((samples.timesMs[i] ?? reference) - reference) / VPA.memoryIntervalMs) + 1;
    peaks.set(interval, Math.max(peaks.get(interval) ?? 0, value));
  });
  const points = [...peaks].map(([interval, peak]) => [peak, 2 ** ((interval * VPA.memoryIntervalMs) / (VPA.halfLifeDays * DAY_MS))] as const);
  return vpaBounds(points, samples, VPA.firstMemoryBucketBytes, VPA.lastMemoryBucketBytes);
}

/** The percentile with linear interpolation between ranks, as numpy and Prometheus compute it. */
export function linearPercentile(values: readonly number[], percentile: number): number {
  const sorted = Float64Array.from(values).sort();
  const at = percentile * (sorted.length - 1);
  const low = sorted[Math.floor(at)] ?? 0;
  return low + (at - Math.floor(at)) * ((sorted[Math.ceil(at)] ?? low) - low);
}

/** KRR's `simple` rule for CPU: the 95th percentile, up to a whole millicore, at least 10. Null without samples. */
export function krrCpu(values: readonly number[]): number | null {
  return values.length > 0 ? Math.max(10, Math.ceil(linearPercentile(values, 0.95) - 1e-9)) : null;
}

/** KRR's `simple` rule for memory: the maximum plus 15 %, at least 100 MB, in whole bytes. Null without samples. */
export function krrMemory(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  return Math.max(100_000_000, Math.floor(values.reduce((max, value) => Math.max(max, value), 0) * 1.15));
}
