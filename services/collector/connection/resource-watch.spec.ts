import { Readable } from 'node:stream';
import { ResourceWatch, type WatchApi, type WatchState } from './resource-watch.service.js';

interface Thing { kind?: string; metadata: { uid: string; resourceVersion: string } }
const thing = (uid: string, version: number): Thing => ({ metadata: { uid, resourceVersion: String(version) } });

/** An API of lists and watches by script: each call takes the next step, and a step that fails throws. */
class ScriptedApi implements WatchApi {
  readonly asked: string[] = [];
  constructor(private readonly lists: (() => unknown)[], private readonly watches: (() => Readable)[]) {}
  async get<T>(_path: string, query: Readonly<Record<string, string>>): Promise<T> {
    this.asked.push(`list ${query['continue'] ?? ''}`.trim());
    const next = this.lists.shift();
    if (next === undefined) throw new Error('no list is left');
    return next() as T;
  }
  async open(_verb: 'GET', _path: string, { query }: { query: Readonly<Record<string, string>> }): Promise<Readable> {
    this.asked.push(`watch ${query['resourceVersion']}`);
    const next = this.watches.shift();
    if (next === undefined) throw new Error('no watch is left');
    return next();
  }
}

class HttpError extends Error {
  constructor(readonly status: number) {
    super(`HTTP ${status}`);
  }
}

const page = (items: Thing[], version: string, more?: string) => () => ({ metadata: { resourceVersion: version, continue: more }, items });
const events = (...lines: object[]) => () => Readable.from(lines.map((line) => `${JSON.stringify(line)}\n`));
const refusal = (status: number) => () => { throw new HttpError(status); };

/** Runs a watch until the script is at its end; then nothing more is answered. */
async function run(lists: (() => unknown)[], watches: (() => Readable)[], waits = 12): Promise<{ log: string[]; asked: string[]; states: WatchState[]; waited: number[] }> {
  const stop = new AbortController();
  const api = new ScriptedApi(lists, watches);
  const log: string[] = [];
  const states: WatchState[] = [];
  const waited: number[] = [];
  const watch = new ResourceWatch<Thing>(api, { upsert: ({ metadata }) => log.push(`+${metadata.uid}@${metadata.resourceVersion}`), remove: ({ metadata }) => log.push(`-${metadata.uid}`), retain: (uids) => log.push(`=${[...uids].join()}`) }, {
    path: '/api/v1/things', log: { info: () => undefined, warn: () => undefined }, random: () => 0.5, onState: (state) => states.push(state),
    delay: async (ms) => {
      waited.push(ms);
      if (waited.length >= waits || (lists.length === 0 && watches.length === 0)) stop.abort();
    },
  });
  await watch.run(stop.signal);
  return { log, asked: api.asked, states, waited };
}

describe('list and watch', () => {
  it('lists in pages, then watches from the list\'s version, and resumes from the last one seen', async () => {
    const { log, asked, states } = await run(
      [page([thing('a', 1)], '10', 'more'), page([thing('b', 2)], '10')],
      [events({ type: 'ADDED', object: thing('c', 11) }, { type: 'BOOKMARK', object: thing('', 15) }), events({ type: 'DELETED', object: thing('a', 16) })],
    );
    expect(log).toEqual(['+a@1', '+b@2', '=a,b', '+c@11', '-a']);
    expect(asked.slice(0, 4)).toEqual(['list', 'list more', 'watch 10', 'watch 15']);
    expect(states[0]).toBe('synced');
  });

  it('lists again when the version is too old, whether the watch or the server says so', async () => {
    const byEvent = await run([page([thing('a', 1), thing('b', 1)], '10'), page([thing('b', 2)], '20')], [events({ type: 'ERROR', object: { kind: 'Status', code: 410, metadata: {} } }), events()]);
    expect(byEvent.log).toEqual(['+a@1', '+b@1', '=a,b', '+b@2', '=b']);
    expect(byEvent.asked.slice(0, 4)).toEqual(['list', 'watch 10', 'list', 'watch 20']);
    const byStatus = await run([page([thing('a', 1)], '10'), page([], '20')], [refusal(410), events()]);
    expect(byStatus.log).toEqual(['+a@1', '=a', '=']);
  });

  it('begins a list anew when its continuation has expired', async () => {
    const { asked, log } = await run([page([thing('a', 1)], '10', 'more'), refusal(410), page([thing('b', 1)], '11')], [events()]);
    expect(asked.slice(0, 4)).toEqual(['list', 'list more', 'list', 'watch 11']);
    expect(log).toEqual(['+a@1', '+b@1', '=b']);
  });

  it('resumes where it was after an error in the stream or a broken connection', async () => {
    const broken = () => Readable.from((async function* () {
      yield `${JSON.stringify({ type: 'MODIFIED', object: thing('a', 12) })}\n{"type":"ADDED","obj`;
      throw new Error('ECONNRESET');
    })());
    const { log, asked, waited } = await run([page([thing('a', 1)], '10')], [broken, events({ type: 'ERROR', object: { kind: 'Status', code: 500, metadata: {} } }), refusal(503), events({ type: 'MODIFIED', object: thing('a', 13) })]);
    expect(log).toEqual(['+a@1', '=a', '+a@12', '+a@13']);
    expect(asked.filter((each) => each.startsWith('watch')).slice(0, 4)).toEqual(['watch 10', 'watch 12', 'watch 12', 'watch 12']);
    // Each is put off longer than the one before.
    expect(waited.slice(0, 3)).toEqual([375, 750, 1_500]);
  });

  it('takes a kind that may not be read, or is not served, for a capability, and asks again later', async () => {
    const forbidden = await run([refusal(403), page([thing('a', 1)], '10')], [events()]);
    expect(forbidden.states).toEqual(['forbidden', 'synced']);
    expect(forbidden.waited[0]).toBe(60_000);
    expect(forbidden.log).toEqual(['=', '+a@1', '=a']);
    expect((await run([refusal(404)], [])).states).toEqual(['absent']);
  });

  it('lets go of what it may no longer read', async () => {
    const { log, states } = await run([page([thing('a', 1)], '10')], [refusal(403)]);
    expect(log).toEqual(['+a@1', '=a', '=']);
    expect(states).toEqual(['synced', 'forbidden']);
  });

  it('does not take an API server that is away for an empty cluster', async () => {
    const { log, states } = await run([page([thing('a', 1)], '10')], [refusal(500), refusal(500), events()]);
    expect(log).toEqual(['+a@1', '=a']);
    expect(states).toContain('synced');
  });
});
