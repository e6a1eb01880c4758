import { z } from 'zod';
import { jsonOf } from './kubelet.js';
import { nanocores, quantity } from './quantities.js';
import { MalformedScrapeError, NO_CONTAINER, NO_NODE, type ContainerReading, type NodeReading, type Scrape } from './scrape.js';

/** Readers of metrics.k8s.io (k8s.io/metrics v1beta1): gauges averaged over a window, no counters, no UIDs, no network. */

const listSchema = z.object({ kind: z.string().nullish(), items: z.array(z.unknown()) });
const usageSchema = z.record(z.string(), z.unknown());
const podSchema = z.object({
  metadata: z.object({ name: z.string(), namespace: z.string() }), timestamp: z.string().nullish(), window: z.string().nullish(), containers: z.array(z.object({ name: z.string(), usage: usageSchema })),
});
const nodeSchema = z.object({ metadata: z.object({ name: z.string() }), timestamp: z.string().nullish(), window: z.string().nullish(), usage: usageSchema });

const DURATION_UNIT_MS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1, us: 1e-3, 'µs': 1e-3, ns: 1e-6 };

/** A Go duration (`1m30.5s`) in ms, or null. */
export function durationMs(text: string | null | undefined): number | null {
  if (text == null || !/^(?:\d+(?:\.\d+)?(?:ms|us|µs|ns|h|m|s))+$/.test(text)) return null;
  let total = 0;
  for (const [, value, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)/g)) total += Number(value) * (DURATION_UNIT_MS[unit ?? ''] ?? 0);
  return total;
}

function timeOr(text: string | null | undefined, fallback: number): number {
  const value = text == null ? Number.NaN : Date.parse(text);
  return Number.isNaN(value) ? fallback : value;
}

function positive(value: number | null): number | null {
  return value !== null && value >= 0 ? value : null;
}

function itemsOf(body: unknown): unknown[] {
  const list = listSchema.safeParse(jsonOf(body, 'metrics_api'));
  if (!list.success) throw new MalformedScrapeError('metrics_api', 'no list of items');
  return list.data.items;
}

/**
 * Reads a PodMetricsList. It holds the pods of all nodes; `node` is whatever the caller keeps them under.
 * @param body the parsed JSON, or its text
 * @throws MalformedScrapeError where it is no list
 */
export function parsePodMetricsList(body: unknown, node: string, timeMs: number): Scrape {
  const containers: ContainerReading[] = [];
  let malformed = 0;
  for (const item of itemsOf(body)) {
    const pod = podSchema.safeParse(item);
    if (!pod.success) {
      malformed++;
      continue;
    }
    const { metadata, timestamp, window } = pod.data;
    for (const { name, usage } of pod.data.containers) {
      containers.push({
        ...NO_CONTAINER, namespace: metadata.namespace, podName: metadata.name, container: name, timeMs: timeOr(timestamp, timeMs), cpuNanocores: positive(nanocores(usage['cpu'])), cpuWindowMs: durationMs(window),
        memoryWorkingSetBytes: positive(quantity(usage['memory'])),
      });
    }
  }
  return { node, timeMs, source: 'metrics_api', containers, pods: [], nodeReading: null, malformed };
}

/** Reads a NodeMetricsList: a reading by node's name. @throws MalformedScrapeError where it is no list */
export function parseNodeMetricsList(body: unknown, timeMs: number): Map<string, NodeReading> {
  const readings = new Map<string, NodeReading>();
  for (const item of itemsOf(body)) {
    const node = nodeSchema.safeParse(item);
    if (!node.success) continue;
    const { metadata, timestamp, usage } = node.data;
    readings.set(metadata.name, { ...NO_NODE, timeMs: timeOr(timestamp, timeMs), cpuNanocores: positive(nanocores(usage['cpu'])), memoryWorkingSetBytes: positive(quantity(usage['memory'])) });
  }
  return readings;
}
