/** What was committed, what is on the bus and what is stored, each read past the services. */
import { HOUR_MS, MINUTE_MS, parseSubject, STREAMS } from '@upid/contracts';
import { Database, type Bus, type Delivery } from '@upid/platform';
import { foldInto } from '@upid/intelligence/fold/fold';
import { Grid } from '@upid/intelligence/fold/grid';
import { HistoryRepository } from '@upid/intelligence/insight/history.repository';
import { waitFor } from '@upid/testing';
import pg from 'pg';
import { SCHEMAS } from './household.js';
import { Telemetry } from './telemetry.js';

const EARLIEST_HOUR_MS = 48 * HOUR_MS;
const uidText = (hex: string) => `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;

/** Has the database note every message of an outbox that is committed, whoever sends it or not. */
export async function noteCommits(databaseUrl: string): Promise<void> {
  const sql = new pg.Client({ connectionString: databaseUrl });
  await sql.connect();
  try {
    await sql.query(`
      CREATE SCHEMA audit;
      CREATE TABLE audit.committed (service text NOT NULL, message_id text NOT NULL, subject text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
      CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit.committed (service, message_id, subject) VALUES (TG_TABLE_SCHEMA, NEW.message_id, NEW.subject); RETURN NULL; END $$;`);
    for (const schema of SCHEMAS) await sql.query(`CREATE TRIGGER audit AFTER INSERT ON ${schema}.outbox FOR EACH ROW EXECUTE FUNCTION audit.note()`);
  } finally {
    await sql.end();
  }
}

/** Everything that a stream holds of some subjects, in order. */
export async function readStream(bus: Bus, stream: string, subjects: readonly string[]): Promise<Delivery[]> {
  const { state } = await (await bus.jetstreamManager()).streams.info(stream);
  if (state.messages === 0) return [];
  const found: Delivery[] = [];
  let last = 0;
  // All subjects of the stream, so that its last message ends the reading whatever it is about.
  const tail = await bus.tail({ stream, subjects: STREAMS.find(({ name }) => name === stream)?.subjects ?? [], from: new Date(0) }, (message) => {
    last = Math.max(last, message.streamSequence);
    if (message.streamSequence <= state.last_seq && subjects.some((subject) => matches(subject, message.subject))) found.push(message);
  });
  await waitFor(`all of stream ${stream}`, () => last >= state.last_seq, { timeoutMs: 120_000 });
  await tail.stop();
  return found;
}

function matches(pattern: string, subject: string): boolean {
  const [wanted, had] = [pattern.split('.'), subject.split('.')];
  return wanted.every((part, i) => part === '>' || (had[i] !== undefined && (part === '*' || part === had[i]))) && (wanted.at(-1) === '>' || wanted.length === had.length);
}

/** What the agents of a cluster have published, as the bus holds it. */
export function publishedTelemetry(clusterId: string, messages: readonly Delivery[]): Telemetry {
  const telemetry = new Telemetry();
  for (const message of messages) {
    const of = parseSubject(message.subject);
    if (of.clusterId !== clusterId) continue;
    if (of.kind === 'usage') telemetry.addUsage(message.payload);
    else if (of.kind === 'requests') telemetry.addRequests(message.payload);
  }
  return telemetry;
}

/** What intelligence has stored of a cluster, from cells of open hours and packed closed ones. */
export async function storedTelemetry(databaseUrl: string, clusterId: string): Promise<Telemetry> {
  const database = new Database({ url: databaseUrl, schema: 'intelligence' });
  try {
    const history = new HistoryRepository(database);
    const stored = new Telemetry();
    const cluster = await history.cluster(clusterId);
    if (cluster === null) return stored;
    const [workloads, pods] = [await history.workloadKeys(cluster.number), new Map((await history.allPods(cluster.number)).map((pod) => [pod.id, pod]))];
    const keyOf = (workload: number) => workloads.get(workload) ?? '-/Other/-';
    const grid = new Grid();
    for (const hour of await history.hours(cluster.number, Date.now() - EARLIEST_HOUR_MS, Date.now() + HOUR_MS)) {
      const cells = hour.closed ? [] : await history.cells(cluster.number, [hour.hourMs], null);
      const podHours = hour.closed ? await history.podHours(cluster.number, hour.hourMs, hour.hourMs + HOUR_MS, null) : [];
      const workloadHours = hour.closed ? await history.workloadHours(cluster.number, hour.hourMs, hour.hourMs + HOUR_MS, null) : [];
      foldInto(grid, hour.hourMs / MINUTE_MS, 60, {
        cells: cells.map((cell) => ({ at: cell.window * 5, bytes: cell.data })),
        podHours: podHours.map((row) => ({ uid: Buffer.from((pods.get(row.pod)?.uid ?? '').replaceAll('-', ''), 'hex'), workload: keyOf(pods.get(row.pod)?.workload ?? -1), bytes: row.samples })),
        requestHours: workloadHours.flatMap((row) => (row.requests === null ? [] : [{ workload: keyOf(row.workload), bytes: row.requests }])),
      }, []);
      take(grid, stored);
    }
    return stored;
  } finally {
    await database.close();
  }
}

function take(grid: Grid, into: Telemetry): void {
  const values = (columns: readonly Float64Array[], place: number) => columns.map((column) => column[place] ?? 0);
  const uidOf = (pod: number) => uidText(Buffer.from(grid.podUids.subarray(pod * 16, pod * 16 + 16)).toString('hex'));
  for (let minute = 0; minute < grid.span; minute++) {
    const at = grid.startMinute + minute;
    for (let series = 0; series < grid.series; series++) {
      const place = series * grid.span + minute;
      if (grid.rank[place] !== 0) into.put(into.samples, `${uidOf(grid.seriesPod[series] ?? 0)} ${grid.containers[grid.seriesContainer[series] ?? 0]} ${at}`, 0, values(grid.usage, place));
    }
    for (let pod = 0; pod < grid.pods; pod++) {
      const place = pod * grid.span + minute;
      if (grid.podRank[place] !== 0) into.put(into.pods, `${uidOf(pod)} ${at}`, 0, values(grid.podColumns, place));
    }
    for (let line = 0; line < grid.requestLines; line++) {
      const place = line * grid.span + minute;
      if (grid.requestRank[place] !== 0) into.put(into.requests, `${grid.workloads[grid.requestWorkload[line] ?? 0]} ${grid.requestSource[line]} ${at}`, 0, values(grid.requests, place));
    }
  }
}
