import { WINDOW_MS } from '@upid/contracts';
import { nodeObject, podObject, uidOf } from '../objects.fixture.js';
import { canonicalUid, nodeLifeOf, nodeOf, podLifeOf, renewNode, renewPod, requestsAt, totalRequest, type PodLife } from './lifetimes.js';

const t0 = Date.UTC(2026, 0, 5, 10);
const minute = 60_000;
const life = (over: Partial<Parameters<typeof podObject>[1]> = {}, removedAtMs: number | null = null): PodLife => podLifeOf(podObject(1, { createdAtMs: t0, ...over }), removedAtMs) as PodLife;

describe('a pod\'s life', () => {
  it('runs from its binding to the end of its phase, or until it vanishes, whatever comes first', () => {
    expect(life()).toMatchObject({ uid: uidOf('b', 1), startMs: t0, endMs: null, nodeName: 'node-1', requests: [{ sinceMs: null, containers: [{ name: 'app' }] }] });
    expect(life({ finishedAtMs: t0 + minute }, t0 + 5 * minute).endMs).toBe(t0 + minute);
    expect(life({}, t0 + 5 * minute).endMs).toBe(t0 + 5 * minute);
    expect(life({}, t0 - 1).endMs).toBe(t0);
    expect(podLifeOf(podObject(1, { createdAtMs: t0, node: null }), null)).toBeNull();
  });

  it('a mirror pod\'s UID without dashes is the same UID', () => expect(canonicalUid(uidOf('b', 1).replaceAll('-', '').toUpperCase())).toBe(uidOf('b', 1)));

  it('what is new tells from its beginning; the same again tells nothing', () => {
    expect(renewPod(null, life(), t0)).toEqual({ life: life(), affectedFromMs: t0 });
    expect(renewPod(life(), life({ labels: { team: 'a' } }), t0 + minute)).toMatchObject({ life: { labels: { team: 'a' } }, affectedFromMs: null });
  });

  it('an end tells from itself, and from the earlier one where it moved', () => {
    expect(renewPod(life(), life({ finishedAtMs: t0 + minute }), t0 + 9 * minute).affectedFromMs).toBe(t0 + minute);
    expect(renewPod(life({}, t0 + 8 * minute), life({ finishedAtMs: t0 + minute }, t0 + 8 * minute), t0 + 9 * minute).affectedFromMs).toBe(t0 + minute);
    expect(renewPod(life({}, t0 + 8 * minute), life(), t0 + 9 * minute).affectedFromMs).toBe(t0 + 8 * minute);
  });

  it('another beginning or node tells from the beginning', () => {
    expect(renewPod(life(), life({ createdAtMs: t0 - minute }), t0).affectedFromMs).toBe(t0 - minute);
    expect(renewPod(life(), life({ node: 'node-2' }), t0 + minute).affectedFromMs).toBe(t0);
  });

  it('a resize in place keeps what was requested before it', () => {
    const seenAtMs = t0 + 7 * minute;
    const { life: resized, affectedFromMs } = renewPod(life(), life({ cpuMillicores: 900 }), seenAtMs);
    expect(affectedFromMs).toBe(t0 + WINDOW_MS);
    expect(requestsAt(resized.requests, t0)[0]?.requests.cpuMillicores).toBe(500);
    expect(requestsAt(resized.requests, t0 + WINDOW_MS)[0]?.requests.cpuMillicores).toBe(900);
    expect(totalRequest(resized).cpuMillicores).toBe(900);
    // Again within the same window: the last one counts; and the same once more tells nothing.
    const again = renewPod(resized, life({ cpuMillicores: 300 }), seenAtMs + minute);
    expect(again.life.requests.map(({ sinceMs }) => sinceMs)).toEqual([null, t0 + WINDOW_MS]);
    expect(totalRequest(again.life).cpuMillicores).toBe(300);
    expect(renewPod(again.life, life({ cpuMillicores: 300 }), seenAtMs + 20 * minute).affectedFromMs).toBeNull();
  });
});

describe('a node\'s life', () => {
  it('runs from its creation to its removal, with its size where that is known', () => {
    const known = nodeLifeOf(nodeObject(1, t0), t0 + minute, null);
    expect(known).toMatchObject({ startMs: t0, endMs: null, facts: { price: { cpuMillicores: 4000, instanceType: 'm5.xlarge' }, allocatable: { cpuMillicores: 3800, gpus: 0 } } });
    const unsized = nodeLifeOf(nodeObject(1, t0, { capacity: nodeObject(1, t0).allocatable, allocatable: { cpu_millicores: null, memory_bytes: null, gpus: null, pods: null, ephemeral_storage_bytes: null } }), t0 - minute, t0 + minute);
    expect(unsized).toMatchObject({ startMs: t0 - minute, endMs: t0 + minute, facts: { allocatable: { cpuMillicores: 3800 } } });
    expect(nodeLifeOf(nodeObject(1, t0, { capacity: { cpu_millicores: 1, memory_bytes: null, gpus: null, pods: null, ephemeral_storage_bytes: null } }), t0, null).facts).toBeNull();
  });

  it('tells from its beginning when it is new or its size becomes known, from its end when it goes', () => {
    const known = nodeLifeOf(nodeObject(1, t0), t0, null);
    expect(renewNode(null, known).affectedFromMs).toBe(t0);
    expect(renewNode(known, known).affectedFromMs).toBeNull();
    expect(renewNode({ ...known, facts: null }, known).affectedFromMs).toBe(t0);
    expect(renewNode(known, { ...known, endMs: t0 + minute }).affectedFromMs).toBe(t0 + minute);
  });

  it('of namesakes the one that had come up last holds the pod', () => {
    const nodes = [{ startMs: 20 }, { startMs: 10 }, { startMs: 30 }];
    expect(nodeOf(nodes, 25)).toBe(nodes[0]);
    expect(nodeOf(nodes, 5)).toBe(nodes[1]);
    expect(nodeOf([], 5)).toBeNull();
  });
});
