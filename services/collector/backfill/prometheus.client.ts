import { readFile } from 'node:fs/promises';
import { parseSeries, type RangeSeries } from './history.js';

/** The Prometheus API refused or did not answer; `status` is null where it did not. */
export class PrometheusError extends Error {
  override readonly name = 'PrometheusError';
  constructor(readonly status: number | null, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

const TIMEOUT_MS = 30_000;

/** A Prometheus-compatible HTTP API (Prometheus, Thanos, Mimir, VictoriaMetrics). */
export class PrometheusClient {
  private readonly base: string;

  /** @param tokenFile holds a bearer token, read anew for each query */
  constructor(url: string, private readonly tokenFile?: string) {
    this.base = url.replace(/\/+$/, '');
  }

  /** Values every `stepSeconds` from start to end, both inclusive, unix ms. @throws {PrometheusError | MalformedAnswerError} */
  range(query: string, startMs: number, endMs: number, stepSeconds: number): Promise<RangeSeries[]> {
    return this.ask('query_range', { query, start: String(startMs / 1_000), end: String(endMs / 1_000), step: String(stepSeconds) });
  }

  /** Values at one moment, unix ms. @throws {PrometheusError | MalformedAnswerError} */
  instant(query: string, atMs: number): Promise<RangeSeries[]> {
    return this.ask('query', { query, time: String(atMs / 1_000) });
  }

  private async ask(endpoint: string, parameters: Record<string, string>): Promise<RangeSeries[]> {
    const headers: Record<string, string> = { accept: 'application/json' };
    if (this.tokenFile !== undefined) headers['authorization'] = `Bearer ${(await readFile(this.tokenFile, 'utf8')).trim()}`;
    let status: number;
    let text: string;
    try {
      const response = await fetch(`${this.base}/api/v1/${endpoint}?${new URLSearchParams(parameters)}`, { headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
      status = response.status;
      text = await response.text();
    } catch (cause) {
      throw new PrometheusError(null, `Prometheus does not answer: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    }
    if (status !== 200) throw new PrometheusError(status, `Prometheus answered ${status}`);
    let body: unknown;
    try {
      body = JSON.parse(text);
    } catch (cause) {
      throw new PrometheusError(status, 'Prometheus answered no JSON', { cause });
    }
    return parseSeries(body);
  }
}
