import { decodeRollup } from '@upid/contracts';
import { rollupOf, uidOf } from '../objects.fixture.js';
import { unknownUsage } from './cells.js';
import { usageOfWindow } from './usage.js';

const windowMs = Date.UTC(2026, 0, 5, 10, 5);
const decoded = (...parts: Uint8Array[]) => usageOfWindow(parts.map((each) => decodeRollup(each)));

describe('usage of a window', () => {
  it('is the mean over the minutes that were sampled, over all parts', () => {
    const job = { namespace: 'shop', kind: 'Job', name: 'nightly' } as const;
    const window = decoded(
      rollupOf({ windowMs, revision: 3, parts: 2 }, [{ podUid: uidOf('b', 1), cpuMillicores: 100, memoryBytes: 4096 }, { podUid: uidOf('b', 1), container: 'proxy', cpuMillicores: 10, memoryBytes: 2048, minutes: 2 }]),
      rollupOf({ windowMs, revision: 3, part: 2, parts: 2 }, [{ podUid: uidOf('b', 2), workload: job, cpuMillicores: 7, memoryBytes: 1024 }]),
    );
    expect(window).toMatchObject({ startMs: windowMs, final: true });
    expect([...window.pods.keys()]).toEqual([uidOf('b', 1), uidOf('b', 2)]);
    expect(window.pods.get(uidOf('b', 1))?.containers.get('app')).toEqual({ cpuMillicores: 100, memoryBytes: 4096, gpus: null });
    expect(window.pods.get(uidOf('b', 1))?.containers.get('proxy')).toEqual({ cpuMillicores: 10, memoryBytes: 2048, gpus: null });
    expect(window.pods.get(uidOf('b', 2))?.workload).toBe('shop/Job/nightly');
  });

  it('without a covered minute is unknown, and never zero', () => {
    expect(decoded(rollupOf({ windowMs, revision: 1, final: false }, [{ podUid: uidOf('b', 1), cpuMillicores: 0, memoryBytes: 0, minutes: 0 }]))).toMatchObject({ final: false, pods: new Map([[uidOf('b', 1), { containers: new Map([['app', unknownUsage]]) }]]) });
  });

  it('of an empty rollup names nobody', () => expect(decoded(rollupOf({ windowMs, revision: 1 }, [])).pods.size).toBe(0));
});
