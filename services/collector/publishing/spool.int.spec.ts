import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SpoolFolder } from './spool.client.js';
import type { SpoolHeader } from './spool.js';

describe('the spool on disk', () => {
  let folder: string;
  beforeEach(async () => { folder = await mkdtemp(join(tmpdir(), 'upid-spool-')); });
  afterEach(async () => { await rm(folder, { recursive: true, force: true }); });
  const header = (messageId: string): SpoolHeader => ({ kind: 'usage', messageId, publishedAtMs: 1, covers: null, generation: null });

  it('keeps messages in their order over processes, and forgets what is taken out', async () => {
    const first = new SpoolFolder(folder);
    await first.open();
    for (let i = 0; i < 12; i++) await first.write(header(`m${i}`), Buffer.from(`payload ${i}`), 1_700_000_000_000 + i);
    const second = new SpoolFolder(folder);
    const { entries } = await second.open();
    expect(entries.map((entry) => entry.header.messageId)).toEqual(Array.from({ length: 12 }, (_, i) => `m${i}`));
    expect(Buffer.from(await second.payload(entries[3] as never)).toString()).toBe('payload 3');
    await second.remove(entries[0] as never);
    await second.remove(entries[0] as never);
    expect((await new SpoolFolder(folder).open()).entries).toHaveLength(11);
  });

  it('removes what a killed process left half written, and leaves what is not its own', async () => {
    await writeFile(join(folder, '.tmp-half'), 'UPID-SPOOL 1\n{"ki');
    await writeFile(join(folder, '1700000000000-00000000-usage.batch'), 'cut short');
    await writeFile(join(folder, 'notes.txt'), 'mine');
    const { entries, malformed } = await new SpoolFolder(folder).open();
    expect([entries, malformed]).toEqual([[], ['1700000000000-00000000-usage.batch']]);
    expect((await readdir(folder)).sort()).toEqual(['1700000000000-00000000-usage.batch', 'notes.txt']);
  });

  it('keeps small state whole, and knows none where there is none', async () => {
    const spool = new SpoolFolder(folder);
    await spool.open();
    expect(await spool.readState('x.json')).toBeNull();
    await Promise.all(Array.from({ length: 30 }, (_, i) => spool.writeState('x.json', { i, padding: 'x'.repeat(10_000) })));
    expect(await spool.readState('x.json')).toMatchObject({ padding: 'x'.repeat(10_000) });
    await writeFile(join(folder, 'y.json'), '{"cut');
    expect(await spool.readState('y.json')).toBeNull();
    const gap = { source: 'usage' as const, startMs: 0, endMs: 1, count: 1, batches: 1, reason: 'full' };
    await spool.writeGaps([gap]);
    expect(await new SpoolFolder(folder).gaps()).toEqual([gap]);
    await spool.writeGaps([]);
    expect(await spool.gaps()).toEqual([]);
  });

  it('says when it cannot write, and leaves nothing behind', async () => {
    const spool = new SpoolFolder(join(folder, 'gone'));
    await expect(spool.write(header('m'), Buffer.from('x'), 1)).rejects.toThrow(/ENOENT/);
  });
});
