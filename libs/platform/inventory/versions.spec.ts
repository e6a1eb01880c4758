import fc from 'fast-check';
import type { InventoryEvent } from '@upid/contracts';
import { compareSnapshot, decideInventory, type MirrorVersion } from './versions.js';

type Versioned = Pick<InventoryEvent, 'type' | 'epoch' | 'epoch_started_at' | 'generation' | 'sequence'>;
const at = (started: number) => new Date(Date.UTC(2026, 0, 1) + started * 1000).toISOString();
const event = (type: 'snapshot' | 'change', started: number, generation: number, sequence = 0): Versioned => ({ type, epoch: `e${started}`, epoch_started_at: at(started), generation, sequence });
const version = (started: number, generation: number, sequence: number): MirrorVersion => ({ epoch: `e${started}`, epochStartedAtMs: Date.parse(at(started)), generation, sequence });

describe('what an inventory event means', () => {
  it.each<[string, MirrorVersion | null, Versioned, string]>([
    ['the first snapshot', null, event('snapshot', 1, 1), 'collect'],
    ['a change before any snapshot', null, event('change', 1, 1, 1), 'early'],
    ['the next change', version(1, 1, 4), event('change', 1, 1, 5), 'apply'],
    ['a change twice', version(1, 1, 4), event('change', 1, 1, 4), 'duplicate'],
    ['a change over a gap', version(1, 1, 4), event('change', 1, 1, 6), 'early'],
    ['the same snapshot again', version(1, 2, 4), event('snapshot', 1, 2), 'duplicate'],
    ['the next snapshot', version(1, 2, 4), event('snapshot', 1, 3), 'collect'],
    ['an older snapshot', version(1, 2, 4), event('snapshot', 1, 1), 'stale'],
    ['a change of a newer generation', version(1, 2, 4), event('change', 1, 3, 1), 'early'],
    ['a change of an older generation', version(1, 2, 4), event('change', 1, 1, 9), 'stale'],
    ['a newer epoch with a lower generation', version(1, 9, 4), event('snapshot', 2, 1), 'collect'],
    ['an older epoch with a higher generation', version(2, 1, 0), event('snapshot', 1, 9), 'stale'],
  ])('%s', (_name, before, given, decision) => expect(decideInventory(before, given)).toBe(decision));

  it('orders snapshots totally: an older version never overwrites a newer one (property)', () => {
    const any = fc.record({ started: fc.integer({ min: 0, max: 3 }), generation: fc.integer({ min: 1, max: 4 }) });
    fc.assert(fc.property(any, any, (one, two) => {
      const forth = Math.sign(compareSnapshot(event('snapshot', one.started, one.generation), version(two.started, two.generation, 0)));
      const back = Math.sign(compareSnapshot(event('snapshot', two.started, two.generation), version(one.started, one.generation, 0)));
      expect(forth).toBe(back === 0 ? 0 : -back);
    }));
    // Two agents that began in the same millisecond: either order, but one and the same for all consumers.
    expect(compareSnapshot({ ...event('snapshot', 1, 1), epoch: 'a' }, { ...version(1, 1, 0), epoch: 'b' })).toBeLessThan(0);
    expect(compareSnapshot({ ...event('snapshot', 1, 1), epoch: 'b' }, { ...version(1, 1, 0), epoch: 'a' })).toBeGreaterThan(0);
  });
});
