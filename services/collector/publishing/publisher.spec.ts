import { coverageEventSchema } from '@upid/contracts';
import { Publisher, type PublishPort, type SpoolPort } from './publisher.service.js';
import { encodeSpoolFile, spoolFileName, type Gap, type SpoolEntry, type SpoolHeader } from './spool.js';

class Refusal extends Error {
  constructor(name: string) {
    super(`the bus says ${name}`);
    this.name = name;
  }
}

/** A spool in memory that outlives its publisher, as a folder outlives a process. */
class Disk implements SpoolPort {
  readonly files = new Map<string, { header: SpoolHeader; payload: Uint8Array }>();
  kept: Gap[] = [];
  full = false;
  private counter = 0;
  async open() {
    return { entries: [...this.files].sort().map(([file, { header, payload }]): SpoolEntry => ({ file, header, bytes: encodeSpoolFile(header, payload).length })), malformed: [] };
  }
  async write(header: SpoolHeader, payload: Uint8Array, nowMs: number): Promise<SpoolEntry> {
    if (this.full) throw new Error('ENOSPC');
    const file = spoolFileName(nowMs, this.counter++, header.kind);
    this.files.set(file, { header, payload: payload.slice() });
    return { file, header, bytes: encodeSpoolFile(header, payload).length };
  }
  async payload({ file }: SpoolEntry): Promise<Uint8Array> {
    const found = this.files.get(file);
    if (found === undefined) throw new Error('ENOENT');
    return found.payload;
  }
  async remove({ file }: SpoolEntry): Promise<void> {
    this.files.delete(file);
  }
  async gaps(): Promise<Gap[]> {
    return this.kept;
  }
  async writeGaps(gaps: readonly Gap[]): Promise<void> {
    this.kept = [...gaps];
  }
}

/** A bus that takes messages once by their id, or fails as it is told. */
class FakeBus implements PublishPort {
  state = 'connected';
  refuse: string | null = null;
  readonly taken: { subject: string; id: string; text: string }[] = [];
  /** Takes the message and then fails, as a bus whose acknowledgement is lost. */
  loseAcknowledgements = 0;
  async publish(subject: string, payload: Uint8Array, { msgId }: { msgId: string }): Promise<void> {
    await Promise.resolve();
    if (this.refuse !== null) throw new Refusal(this.refuse);
    if (!this.taken.some(({ id }) => id === msgId)) this.taken.push({ subject, id: msgId, text: new TextDecoder().decode(payload) });
    if (this.loseAcknowledgements > 0) {
      this.loseAcknowledgements--;
      throw new Refusal('BusUnavailableError');
    }
  }
}

const log = { info: () => undefined, warn: () => undefined, error: () => undefined };
const covers = (minute: number) => ({ source: 'usage' as const, startMs: minute * 60_000, endMs: (minute + 1) * 60_000, count: 10 });
function publisher(bus: FakeBus, disk: Disk, maxBytes = 1e6): Publisher {
  return new Publisher('lab', bus, disk, { maxBytes, log });
}
const until = async (done: () => boolean) => {
  for (let i = 0; i < 500 && !done(); i++) await new Promise((resolve) => { setTimeout(resolve, 10); });
  expect(done()).toBe(true);
};

describe('publishing', () => {
  it('names each batch once, in order, and forgets it when the bus has it', async () => {
    const [bus, disk] = [new FakeBus(), new Disk()];
    const agent = publisher(bus, disk);
    await agent.start();
    for (let i = 0; i < 5; i++) await agent.publish('inventory', ({ sequence }) => `inventory ${sequence}`);
    expect(await agent.drain(1_000)).toBe(true);
    expect(bus.taken.map(({ text }) => text)).toEqual([1, 2, 3, 4, 5].map((i) => `inventory ${i}`));
    expect(bus.taken[0]).toMatchObject({ subject: 'upid.v1.lab.agent.inventory', id: `lab/${agent.epochId}/1` });
    expect(disk.files.size).toBe(0);
    await agent.stop();
  });

  it('keeps what a killed process had, and publishes it under its old names before its own', async () => {
    const [bus, disk] = [new FakeBus(), new Disk()];
    bus.refuse = 'BusUnavailableError';
    const killed = publisher(bus, disk);
    await killed.start();
    for (let i = 0; i < 3; i++) await killed.publish('inventory', () => `old ${i}`);
    await killed.publish('result', () => 'result', { messageId: 'lab/result/x' });
    // Nothing is stopped or drained: the process is gone, the files are not.
    const next = publisher(bus, disk);
    await next.start();
    await next.publish('inventory', () => 'new');
    bus.refuse = null;
    next.wake();
    await until(() => bus.taken.length === 5 && disk.files.size === 0);
    expect(bus.taken.filter(({ subject }) => subject.endsWith('inventory')).map(({ id, text }) => [id.split('/')[1], text])).toEqual([
      [killed.epochId, 'old 0'], [killed.epochId, 'old 1'], [killed.epochId, 'old 2'], [next.epochId, 'new'],
    ]);
    await next.stop();
    await killed.stop();
  });

  it('sends again under the same name when an acknowledgement is lost', async () => {
    const [bus, disk] = [new FakeBus(), new Disk()];
    bus.loseAcknowledgements = 1;
    const agent = publisher(bus, disk);
    await agent.start();
    await agent.publish('usage', () => 'batch', { covers: covers(1) });
    await until(() => disk.files.size === 0);
    expect(bus.taken).toHaveLength(1);
    expect(agent.counters).toMatchObject({ published: 1, failed: 1 });
    await agent.stop();
  });

  it.each(['StreamFullError', 'NoStreamError', 'BusUnavailableError'])('waits in the spool while the bus says %s', async (name) => {
    const [bus, disk] = [new FakeBus(), new Disk()];
    bus.refuse = name;
    const agent = publisher(bus, disk);
    await agent.start();
    await agent.publish('usage', () => 'batch', { covers: covers(1) });
    expect(await agent.drain(300)).toBe(false);
    expect(disk.files.size).toBe(1);
    bus.refuse = null;
    await until(() => disk.files.size === 0);
    await agent.stop();
  });

  it('drops the oldest usage at its bound, keeps results, and tells the gap when the bus is back', async () => {
    const [bus, disk] = [new FakeBus(), new Disk()];
    bus.refuse = 'BusUnavailableError';
    const agent = publisher(bus, disk, 4_000);
    await agent.start();
    await agent.publish('result', () => 'precious', { messageId: 'r' });
    for (let minute = 1; minute <= 20; minute++) await agent.publish('usage', () => 'x'.repeat(200), { covers: covers(minute) });
    expect(agent.depth.bytes).toBeLessThanOrEqual(4_000);
    const { droppedBatches } = agent.counters;
    expect(droppedBatches).toBeGreaterThan(5);
    expect(disk.kept).toHaveLength(1);
    bus.refuse = null;
    agent.wake();
    await until(() => bus.taken.some(({ subject }) => subject.endsWith('coverage')) && disk.files.size === 0);
    const gap = coverageEventSchema.parse(JSON.parse(bus.taken.find(({ subject }) => subject.endsWith('coverage'))?.text ?? ''));
    expect(gap).toMatchObject({ type: 'gap', source: 'usage', count: 10 * droppedBatches, reason: 'the spool was full while the bus was away', detail: { batches: droppedBatches } });
    expect(Date.parse(gap.start)).toBeLessThanOrEqual(2 * 60_000);
    expect(bus.taken.some(({ text }) => text === 'precious')).toBe(true);
    expect(disk.kept).toEqual([]);
    await agent.stop();
  });

  it('tells a gap that an earlier process could not, and the same gap twice is one', async () => {
    const [bus, disk] = [new FakeBus(), new Disk()];
    disk.kept = [{ source: 'usage', startMs: 0, endMs: 60_000, count: 5, batches: 1, reason: 'full' }];
    for (let i = 0; i < 2; i++) {
      const agent = publisher(bus, disk);
      await agent.start();
      await agent.publish('usage', () => `batch ${i}`);
      await until(() => bus.taken.some(({ subject }) => subject.endsWith('coverage')) && disk.files.size === 0);
      await agent.stop();
      disk.kept = [{ source: 'usage', startMs: 0, endMs: 60_000, count: 5, batches: 1, reason: 'full' }];
    }
    expect(bus.taken.filter(({ subject }) => subject.endsWith('coverage'))).toHaveLength(1);
  });

  it('counts what a broken disk could not keep as a gap', async () => {
    const [bus, disk] = [new FakeBus(), new Disk()];
    const agent = publisher(bus, disk);
    await agent.start();
    disk.full = true;
    await agent.publish('usage', () => 'batch', { covers: covers(1) });
    expect(disk.kept).toMatchObject([{ reason: 'the spool could not be written', count: 10 }]);
    disk.full = false;
    await agent.stop();
  });

  it('lets a message that can never be sent go, and all behind it pass', async () => {
    const [bus, disk] = [new FakeBus(), new Disk()];
    const publish = bus.publish.bind(bus);
    bus.publish = async (subject, payload, options) => {
      if (payload.length > 50) throw new Refusal('MessageTooLargeError');
      await publish(subject, payload, options);
    };
    const agent = publisher(bus, disk);
    await agent.start();
    await agent.publish('inventory', () => 'x'.repeat(100));
    await agent.publish('inventory', () => 'small');
    expect(await agent.drain(2_000)).toBe(true);
    expect(bus.taken.map(({ text }) => text)).toEqual(['small']);
    await agent.stop();
  });

  it('needs no inventory from before a complete snapshot', async () => {
    const [bus, disk] = [new FakeBus(), new Disk()];
    bus.refuse = 'BusUnavailableError';
    const agent = publisher(bus, disk);
    await agent.start();
    for (let number = 1; number <= 4; number++) {
      await agent.publish('inventory', () => `snapshot ${number}`, { generation: { epoch: agent.epochId, number } });
      await agent.supersede({ epoch: agent.epochId, number });
    }
    bus.refuse = null;
    agent.wake();
    await until(() => disk.files.size === 0);
    // The first may have been on its way when the next one came.
    expect(bus.taken.map(({ text }) => text).filter((text) => text !== 'snapshot 1')).toEqual(['snapshot 4']);
    await agent.stop();
  });
});
