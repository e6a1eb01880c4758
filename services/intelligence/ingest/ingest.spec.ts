import { MINUTE_MS, subjects } from '@upid/contracts';
import { refOf, uidOf, usageOf } from '../telemetry.fixture.js';
import type { IncomingBatch } from './ingest.repository.js';
import { IngestService, MOST_WAITING, type TelemetryMessage } from './ingest.service.js';

const NOW = 1_800_000_000_000;
const payload = (sequence = 1) => usageOf([{ uid: uidOf('b', 1), workload: refOf('cart'), minute: NOW / MINUTE_MS - 1, cpu: 1, pages: 1 }], { sequence });

function service(over: { waiting?: number[]; stored?: (batches: readonly IncomingBatch[]) => IncomingBatch[] } = {}) {
  const seen = { stored: [] as IncomingBatch[], batches: 0, rows: 0, duplicates: 0, committed: [] as number[], pauses: 0 };
  const waiting = [...(over.waiting ?? [])];
  const ingest = new IngestService(
    { store: (batches) => { seen.stored.push(...batches); return Promise.resolve(over.stored?.(batches) ?? [...batches]); } },
    { waiting: () => Promise.resolve(waiting.shift() ?? 0), pause: () => { seen.pauses++; return Promise.resolve(); } },
    { stored: (batches, rows) => { seen.batches += batches; seen.rows += rows; }, duplicates: (batches) => { seen.duplicates += batches; }, committed: (ms) => { seen.committed.push(ms); } }, () => NOW + 500);
  return { ingest, seen };
}
function message(over: Partial<TelemetryMessage> = {}): TelemetryMessage & { rejected: string[] } {
  const rejected: string[] = [];
  return { subject: subjects.agent('one', 'usage'), payload: payload(), publishedAtMs: NOW, receivedAtMs: NOW + 10, reject: (reason) => { rejected.push(reason); }, rejected, ...over };
}

describe('ingest', () => {
  it('stores what can be read and rejects what cannot, each by itself', async () => {
    const { ingest, seen } = service();
    const bad = message({ payload: Uint8Array.of(255) });
    await ingest.take([message(), bad, message({ subject: subjects.agent('two', 'usage'), publishedAtMs: null })]);
    expect(seen.stored.map((each) => [each.clusterId, each.publishedAtMs])).toEqual([['one', NOW], ['two', NOW + 10]]);
    expect(bad.rejected).toEqual([expect.stringMatching(/malformed usage batch/)]);
    expect(seen).toMatchObject({ batches: 2, rows: 4, duplicates: 0, committed: [500, 490] });
  });
  it('counts what was there already', async () => {
    const { ingest, seen } = service({ stored: (batches) => batches.slice(1) });
    await ingest.take([message(), message()]);
    expect(seen).toMatchObject({ batches: 1, duplicates: 1 });
  });
  it('stores nothing where nothing can be read', async () => {
    const { ingest, seen } = service();
    await ingest.take([message({ subject: subjects.agent('one', 'requests'), payload: Uint8Array.of(1) })]);
    expect(seen.stored).toEqual([]);
  });
  it('passes on what is not the message\'s fault', async () => {
    const { ingest } = service({ stored: () => { throw new Error('the disk is full'); } });
    await expect(ingest.take([message()])).rejects.toThrow('the disk is full');
  });
  it('waits while too much waits to be folded, and looks now and then', async () => {
    const { ingest, seen } = service({ waiting: [MOST_WAITING, MOST_WAITING, 5] });
    await ingest.take([message()]);
    expect(seen.pauses).toBe(2);
    await ingest.take([message()]);
    expect(seen.pauses).toBe(2);
  });
});
