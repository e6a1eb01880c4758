import { commandSchema, commandText, type Command, type ResultEvent } from '@upid/contracts';
import fc from 'fast-check';
import { uuidOf } from '../inventory/identifiers.js';
import { ActuationService, sleeperOptOut, type ActuationPort } from './actuation.service.js';
import { deadMan, optOut, refusedBeforehand, refusedByObject } from './decisions.js';
import { changesOf, jsonPatch, readField, restorePlan, sameValue, scalesOnly, standingOf, UnsupportedChangeError, type ActuatedObject, type ChangedField } from './fields.js';
import { highestFence, parseRecord, recordName, recordSchema, UnreadableRecordError, type ChangeRecord } from './records.js';
import { SleeperWatch } from './sleepers.service.js';

const NOW = Date.UTC(2026, 5, 1, 12);
const UID = uuidOf('target');
const at = (ms: number) => new Date(ms).toISOString();

function command(fields: Partial<Command> = {}): Command {
  return commandSchema.parse({
    version: 1, id: uuidOf('command'), job_id: uuidOf('job'), step: 2, cluster_id: 'lab', verb: 'scale', target: { kind: 'Deployment', api_version: 'apps/v1', namespace: 'shop', name: 'promo', uid: UID, resource_version: '7' }, replicas: 0,
    issued_at: at(NOW), expires_at: at(NOW + 60_000), fence: 3, dry_run: false, watch: { business_requests: true, dead_man_minutes: 10 }, actor: 'tester', signature: 'good', ...fields,
  });
}

function object(fields: { replicas?: number; uid?: string; version?: string; annotations?: Record<string, string>; labels?: Record<string, string>; requests?: Record<string, string>; generation?: number } = {}): ActuatedObject {
  return {
    metadata: { uid: fields.uid ?? UID, name: 'promo', namespace: 'shop', resourceVersion: fields.version ?? '7', generation: fields.generation ?? 1, annotations: fields.annotations, labels: fields.labels },
    spec: { replicas: fields.replicas ?? 3, template: { spec: { containers: [{ name: 'side' }, { name: 'app', env: [{ name: 'A', value: 'secret' }], resources: { requests: fields.requests ?? { cpu: '500m' } } }] } } },
  };
}

describe('fields', () => {
  const patch = { verb: 'patch' as const, replicas: null, resources: [{ container: 'app', requests: { cpu_millicores: 250, memory_bytes: 2 ** 27 }, limits: { cpu_millicores: null, memory_bytes: 2 ** 28 } }] };

  it('are changed with their values before, absent ones as null', () => {
    expect(changesOf(patch, object())).toEqual([
      { path: '/spec/template/spec/containers/app/resources/requests/cpu', before: '500m', after: '250m' }, { path: '/spec/template/spec/containers/app/resources/requests/memory', before: null, after: '128Mi' },
      { path: '/spec/template/spec/containers/app/resources/limits/memory', before: null, after: '256Mi' },
    ]);
    expect(changesOf({ verb: 'scale', replicas: 0, resources: [] }, object())).toEqual([{ path: '/spec/replicas', before: 3, after: 0 }]);
    expect(changesOf({ verb: 'scale', replicas: 3, resources: [] }, object())).toEqual([]);
  });

  it('cannot be of containers that are not there, or of nothing', () => {
    expect(() => changesOf({ ...patch, resources: [{ ...patch.resources[0], container: 'gone' }] as never }, object())).toThrow(UnsupportedChangeError);
    expect(() => changesOf({ verb: 'scale', replicas: null, resources: [] }, object())).toThrow(UnsupportedChangeError);
    expect(() => changesOf({ verb: 'patch', replicas: null, resources: [] }, object())).toThrow(UnsupportedChangeError);
    expect(() => readField(object(), '/metadata/name')).toThrow(UnsupportedChangeError);
  });

  it('are the same where quantities amount to the same', () => {
    expect([sameValue('0.5', '500m'), sameValue('1Gi', '1073741824'), sameValue('1G', '1Gi'), sameValue(null, 0), sameValue(null, null), sameValue(3, 3), sameValue('x', 'y')]).toEqual([true, true, false, false, true, true, false]);
  });

  it('become a patch that applies to this version, and to containers at their places, alone', () => {
    const operations = jsonPatch(object(), changesOf(patch, object()));
    expect(operations.slice(0, 2)).toEqual([{ op: 'test', path: '/metadata/uid', value: UID }, { op: 'test', path: '/metadata/resourceVersion', value: '7' }]);
    expect(operations.filter(({ op }) => op !== 'test')).toEqual([
      { op: 'add', path: '/spec/template/spec/containers/1/resources/requests/cpu', value: '250m' }, { op: 'add', path: '/spec/template/spec/containers/1/resources/requests/memory', value: '128Mi' },
      { op: 'add', path: '/spec/template/spec/containers/1/resources/limits', value: {} }, { op: 'add', path: '/spec/template/spec/containers/1/resources/limits/memory', value: '256Mi' },
    ]);
    const bare = { ...object(), spec: { template: { spec: { containers: [{ name: 'app' }] } } } };
    expect(jsonPatch(bare, changesOf(patch, bare)).filter(({ op, path }) => op === 'add' && path.endsWith('/resources'))).toHaveLength(1);
    expect(jsonPatch(object(), [{ path: '/spec/template/spec/containers/app/resources/requests/cpu', before: '250m', after: null }]).at(-1)).toEqual({ op: 'remove', path: '/spec/template/spec/containers/1/resources/requests/cpu' });
    expect(scalesOnly(changesOf(patch, object()))).toBe(false);
  });

  const replicas = (before: number, after: number): ChangedField[] => [{ path: '/spec/replicas', before, after }];
  it('stand before, after, or otherwise', () => {
    expect([3, 0, 5].map((now) => standingOf(object({ replicas: now }), replicas(3, 0)))).toEqual(['before', 'after', 'drifted']);
    expect(standingOf(object(), [])).toBe('after');
  });

  it('go back exactly, or nothing is touched where somebody changed one since', () => {
    expect(restorePlan(object({ replicas: 0 }), replicas(3, 0))).toEqual({ do: 'restore', fields: [{ path: '/spec/replicas', before: 0, after: 3 }] });
    expect(restorePlan(object({ replicas: 3 }), replicas(3, 0))).toEqual({ do: 'restore', fields: [] });
    expect(restorePlan(object({ replicas: 5 }), replicas(3, 0))).toEqual({ do: 'stop', fields: [{ path: '/spec/replicas', before: 3, after: 5 }] });
  });

  it('changed and put back are what they were, and no other field was touched', () => {
    const amount = fc.option(fc.integer({ min: 1, max: 4_000 }), { nil: null });
    fc.assert(fc.property(fc.record({ cpu: amount, memory: amount, limitCpu: amount, limitMemory: amount, had: fc.subarray(['cpu', 'memory']) }), ({ cpu, memory, limitCpu, limitMemory, had }) => {
      fc.pre([cpu, memory, limitCpu, limitMemory].some((each) => each !== null));
      const before = object({ requests: Object.fromEntries(had.map((name) => [name, '7m'])) });
      const changes = changesOf({ verb: 'patch', replicas: null, resources: [{ container: 'app', requests: { cpu_millicores: cpu, memory_bytes: memory }, limits: { cpu_millicores: limitCpu, memory_bytes: limitMemory } }] }, before);
      const changed = applied(before, jsonPatch(before, changes));
      expect(standingOf(changed, changes)).toBe('after');
      const plan = restorePlan(changed, changes);
      expect(plan.do).toBe('restore');
      const restored = applied(changed, jsonPatch(changed, plan.fields));
      expect(withoutEmpty(restored)).toEqual(withoutEmpty(before));
    }));
  });
});

/** A JSON patch applied, as RFC 6902 says, for the few operations that are used. */
function applied(target: ActuatedObject, operations: ReturnType<typeof jsonPatch>): ActuatedObject {
  const copy = structuredClone(target) as unknown as Record<string, unknown>;
  for (const operation of operations) {
    const parts = operation.path.split('/').slice(1);
    const last = parts.pop() as string;
    let holder = copy as Record<string, unknown>;
    for (const part of parts) holder = holder[part] as Record<string, unknown>;
    if (operation.op === 'test') expect(holder[last]).toEqual(operation.value);
    else if (operation.op === 'remove') {
      expect(last in holder).toBe(true);
      delete holder[last];
    } else holder[last] = operation.value;
  }
  return copy as unknown as ActuatedObject;
}

function withoutEmpty(target: ActuatedObject): unknown {
  return JSON.parse(JSON.stringify(target), (_, value: unknown) => (typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length === 0 ? undefined : value));
}

describe('whether a command is taken', () => {
  const facts = { nowMs: NOW, clusterId: 'lab', signatureHolds: true, actuation: true, held: false, highestFence: 0 };
  const code = (fields: Partial<Command>, more: Partial<typeof facts> = {}) => refusedBeforehand(command(fields), { ...facts, ...more })?.code ?? null;

  it('is asked of signature, cluster, expiry, fence and hold', () => {
    expect(code({})).toBeNull();
    expect(code({}, { signatureHolds: false })).toBe('bad_signature');
    expect(code({ cluster_id: 'other' })).toBe('wrong_cluster');
    expect(code({}, { nowMs: NOW + 60_001 })).toBe('expired');
    expect(code({}, { highestFence: 4 })).toBe('lower_fence');
    expect(code({}, { highestFence: 3 })).toBeNull();
    expect(code({}, { held: true })).toBe('held');
    expect(code({}, { actuation: false })).toBe('actuation_disabled');
  });

  it('is never refused for waking, but for a forged one or an older fence', () => {
    const restore = { verb: 'restore' as const, restores: uuidOf('x') };
    expect(code(restore, { nowMs: NOW + 1e9, held: true, actuation: false })).toBeNull();
    expect(code(restore, { signatureHolds: false })).toBe('bad_signature');
    expect(code(restore, { highestFence: 9 })).toBe('lower_fence');
  });

  const target = { object: object(), namespace: {}, autoscalers: [], generationAtCommand: null, openChange: null };
  const byObject = (fields: Partial<Command>, more: Partial<Parameters<typeof refusedByObject>[1]> = {}) => refusedByObject(command(fields), { ...target, ...more })?.code ?? null;
  it('is asked of the object as it is now', () => {
    expect(byObject({})).toBeNull();
    expect(byObject({}, { object: null })).toBe('not_found');
    expect(byObject({}, { object: object({ uid: uuidOf('other') }) })).toBe('uid_changed');
    expect(byObject({}, { object: { ...object(), metadata: { ...object().metadata, deletionTimestamp: at(NOW) } } })).toBe('not_found');
    expect(byObject({}, { object: object({ annotations: { 'upid.io/exclude': 'true' } }) })).toBe('opted_out');
    expect(byObject({}, { namespace: { metadata: { annotations: { 'downscaler/exclude': 'true' } } } })).toBe('opted_out');
    expect(byObject({}, { autoscalers: ['HorizontalPodAutoscaler/promo'] })).toBe('precondition_failed');
    expect(byObject({}, { openChange: 'x' })).toBe('precondition_failed');
    expect(byObject({ preconditions: { replicas: 2, absent_annotations: [], absent_labels: {} } })).toBe('precondition_failed');
    expect(byObject({ preconditions: { replicas: 3, absent_annotations: [], absent_labels: { 'app.kubernetes.io/component': 'critical' } } }, { object: object({ labels: { 'app.kubernetes.io/component': 'critical' } }) })).toBe('precondition_failed');
  });

  it('is not refused for a status that moved, but for a wish that did', () => {
    const moved = (generationAtCommand: number | null) => byObject({}, { object: object({ version: '9', generation: 4 }), generationAtCommand });
    expect([moved(4), moved(3), moved(null)]).toEqual([null, 'resource_version_changed', 'resource_version_changed']);
  });

  it('heeds opt-outs by the words that each has', () => {
    const of = (annotations: Record<string, string>, named: string[] = []) => optOut({ metadata: { annotations } }, null, named) !== null;
    expect([of({ 'upid.io/exclude': '' }), of({ 'upid.io/exclude': 'false' }), of({ 'downscaler/exclude': 'false' }), of({ 'karpenter.sh/do-not-disrupt': 'true' })]).toEqual([true, false, false, false]);
    const named = ['karpenter.sh/do-not-disrupt', 'cluster-autoscaler.kubernetes.io/safe-to-evict'];
    expect([of({ 'karpenter.sh/do-not-disrupt': 'true' }, named), of({ 'cluster-autoscaler.kubernetes.io/safe-to-evict': 'true' }, named), of({ 'cluster-autoscaler.kubernetes.io/safe-to-evict': 'false' }, named)]).toEqual([true, false, true]);
  });
});

describe('the dead-man rule', () => {
  const watch = { business_requests: true, dead_man_minutes: 10 };
  const facts = { nowMs: NOW, asleepSinceMs: NOW - 3_600_000, logLostSinceMs: null, busLostSinceMs: null };
  it('wakes what cannot be watched any more', () => {
    expect(deadMan(watch, facts)).toBeNull();
    expect(deadMan(watch, { ...facts, logLostSinceMs: NOW - 599_999 })).toBeNull();
    expect(deadMan(watch, { ...facts, logLostSinceMs: NOW - 600_000 })).toMatch(/access logs/);
    expect(deadMan(watch, { ...facts, busLostSinceMs: NOW - 600_000 })).toMatch(/bus/);
    expect(deadMan({ ...watch, business_requests: false }, { ...facts, logLostSinceMs: 0 })).toBeNull();
    // Lost before it was put to sleep: the patience begins with its sleep.
    expect(deadMan(watch, { ...facts, asleepSinceMs: NOW - 60_000, logLostSinceMs: 0 })).toBeNull();
  });
});

describe('records', () => {
  const record: ChangeRecord = { version: 1, command: command(), state: 'done', changes: [{ path: '/spec/replicas', before: 3, after: 0 }], prior: { labels: {}, environment_digest: '', generation: 1 }, taken_at: at(NOW), done_at: at(NOW), waking: null, ended_at: null, results: [] };

  it('are read back, and refused where they cannot be', () => {
    expect(parseRecord('x', JSON.stringify(record))).toEqual(record);
    for (const text of [undefined, '', '{}', JSON.stringify({ ...record, version: 2 })]) expect(() => parseRecord('x', text)).toThrow(UnreadableRecordError);
    expect(recordName('ABC')).toBe('upid-abc');
  });

  it('keep the highest fence of their target', () => {
    expect(highestFence([record, { ...record, command: command({ fence: 9 }) }], UID)).toBe(9);
    expect(highestFence([record], uuidOf('other'))).toBe(0);
  });
});

// ---------------------------------------------------------------- the whole, against a cluster in memory

class Moved extends Error {
  override readonly name = 'ObjectMovedError';
}
class Killed extends Error {
  override readonly name = 'Killed';
}

/** One workload and the records, which outlive agents. `killAfter` ends the agent at the n-th call, before or after it took effect. */
class FakeCluster implements ActuationPort {
  object: ActuatedObject | null = object();
  readonly stored = new Map<string, string>();
  writes = 0;
  calls = 0;
  killAt: { call: number; effect: boolean } | null = null;
  annotations: Record<string, string> = {};
  moveOnce = false;

  private async step<T>(effect: () => T): Promise<T> {
    await Promise.resolve();
    this.calls++;
    if (this.killAt !== null && this.calls > this.killAt.call) throw new Killed('the process is gone');
    if (this.killAt?.call === this.calls) {
      if (this.killAt.effect) effect();
      throw new Killed('the process is gone');
    }
    return effect();
  }

  target = () => this.step(() => structuredClone(this.object));
  namespace = () => this.step(() => ({ metadata: { annotations: this.annotations } }));
  autoscalersOf = async () => [];
  environmentDigest = () => 'digest';
  change = (_: Command['target'], seen: ActuatedObject, changes: readonly ChangedField[]) => this.step(() => {
    if (this.moveOnce) {
      this.moveOnce = false;
      this.object = { ...(this.object as ActuatedObject), metadata: { ...this.object?.metadata, resourceVersion: '99' } };
    }
    if (this.object === null || this.object.metadata?.resourceVersion !== seen.metadata?.resourceVersion) throw new Moved('moved');
    this.writes++;
    const next = changes.find(({ path }) => path === '/spec/replicas')?.after;
    this.object = { ...this.object, metadata: { ...this.object.metadata, resourceVersion: String(100 + this.writes) }, spec: { ...this.object.spec, replicas: next as number } };
  });
  records = () => this.step(() => ({ records: [...this.stored.values()].map((text) => recordSchema.parse(JSON.parse(text))), unreadable: [] }));
  record = (id: string) => this.step(() => (this.stored.has(id) ? recordSchema.parse(JSON.parse(this.stored.get(id) as string)) : null));
  createRecord = (record: ChangeRecord) => this.step(() => {
    if (this.stored.has(record.command.id)) throw Object.assign(new Error('exists'), { name: 'RecordExistsError' });
    this.stored.set(record.command.id, JSON.stringify(record));
  });
  saveRecord = (record: ChangeRecord) => this.step(() => { this.stored.set(record.command.id, JSON.stringify(record)); });
  deleteRecord = (id: string) => this.step(() => { this.stored.delete(id); });

  get replicas(): number | undefined {
    return this.object?.spec?.replicas;
  }
}

const log = { info: () => undefined, warn: () => undefined, error: () => undefined };
function agentOn(cluster: FakeCluster, { nowMs = () => NOW, enabled = true } = {}) {
  const results: ResultEvent[] = [];
  const service = new ActuationService(cluster, { generationAt: () => 1, autoscalersOf: () => [] }, { publish: async (_, encode) => { results.push(JSON.parse(encode()) as ResultEvent); } }, {
    clusterId: 'lab', enabled, verify: (text, signature) => signature === 'good' && text !== '', signedTexts: (_, each) => [commandText(each)], log, now: nowMs,
  });
  return { service, results };
}
const distinct = (results: readonly ResultEvent[]) => [...new Map(results.map((result) => [result.id, result])).values()].map(({ outcome, code }) => [outcome, code]);
const restore = (fields: Partial<Command> = {}) => command({ id: uuidOf('restore'), verb: 'restore', replicas: null, restores: uuidOf('command'), watch: null, fence: 4, ...fields });

describe('carrying out', () => {
  it('writes the record, scales, tells, and knows the sleeper', async () => {
    const cluster = new FakeCluster();
    const { service, results } = agentOn(cluster);
    expect(await service.receive(command())).toMatchObject({ accepted: true });
    expect(cluster.replicas).toBe(0);
    expect(results).toMatchObject([{ outcome: 'done', command_id: uuidOf('command'), changes: [{ path: '/spec/replicas', before: 3, after: 0 }] }]);
    expect(service.sleepers()).toMatchObject([{ state: 'asleep' }]);
    expect(service.sleepersOf('shop/Deployment/promo')).toEqual([uuidOf('command')]);
    expect(service.fence).toBe(3);
  });

  it('does nothing twice, however often it is asked', async () => {
    const cluster = new FakeCluster();
    const { service, results } = agentOn(cluster);
    await Promise.all([service.receive(command()), service.receive(command()), service.receive(command())]);
    expect(await service.receive(command())).toMatchObject({ accepted: true, code: 'already_taken' });
    expect(cluster.writes).toBe(1);
    expect(distinct(results)).toEqual([['done', null]]);
  });

  it('changes nothing on a dry run, and nothing that is so already', async () => {
    const cluster = new FakeCluster();
    const { service, results } = agentOn(cluster);
    await service.receive(command({ dry_run: true }));
    expect([cluster.writes, cluster.stored.size]).toEqual([0, 0]);
    expect(results).toMatchObject([{ outcome: 'dry_run', changes: [{ before: 3, after: 0 }] }]);
    await service.receive(command({ replicas: 3 }));
    expect([cluster.writes, cluster.stored.size]).toEqual([0, 1]);
    expect(results.at(-1)).toMatchObject({ outcome: 'done', changes: [] });
  });

  it('refuses and says why, and leaves no record', async () => {
    const cluster = new FakeCluster();
    const { service, results } = agentOn(cluster);
    expect(await service.receive({ nonsense: true })).toMatchObject({ accepted: false, code: 'unsupported' });
    expect(await service.receive(command({ signature: 'forged' }))).toMatchObject({ accepted: false, code: 'bad_signature' });
    expect(results).toEqual([]);
    cluster.annotations = { 'upid.io/exclude': 'true' };
    expect(await service.receive(command())).toMatchObject({ accepted: false, code: 'opted_out' });
    cluster.annotations = {};
    service.held = true;
    expect(await service.receive(command({ id: uuidOf('held') }))).toMatchObject({ code: 'held' });
    expect(distinct(results)).toEqual([['refused', 'opted_out'], ['refused', 'held']]);
    expect([cluster.writes, cluster.stored.size]).toEqual([0, 0]);
  });

  it('looks again when the object moves under it', async () => {
    const cluster = new FakeCluster();
    cluster.moveOnce = true;
    const { service } = agentOn(cluster);
    await service.receive(command());
    expect([cluster.replicas, cluster.writes]).toEqual([0, 1]);
  });

  it('does not put to sleep over a sleep, so that the number to wake to is never lost', async () => {
    const cluster = new FakeCluster();
    const { service } = agentOn(cluster);
    await service.receive(command());
    expect(await service.receive(command({ id: uuidOf('second'), replicas: 1, fence: 5, target: { ...command().target, resource_version: '' } }))).toMatchObject({ accepted: false, code: 'precondition_failed' });
    await service.receive(restore({ fence: 6 }));
    expect(cluster.replicas).toBe(3);
  });

  it('puts back by command, once, also while everything is held', async () => {
    const cluster = new FakeCluster();
    const { service, results } = agentOn(cluster);
    await service.receive(command());
    service.held = true;
    expect(await service.receive(restore())).toMatchObject({ accepted: true });
    expect([cluster.replicas, cluster.writes]).toEqual([3, 2]);
    expect(results.at(-1)).toMatchObject({ outcome: 'restored', command_id: uuidOf('restore'), changes: [{ path: '/spec/replicas', before: 0, after: 3 }] });
    await service.receive(restore());
    await service.receive(restore({ id: uuidOf('again'), fence: 5 }));
    expect(cluster.writes).toBe(2);
    expect(service.sleepers()).toEqual([]);
  });

  it('touches nothing where somebody changed the field since, and shows the difference', async () => {
    const cluster = new FakeCluster();
    const { service, results } = agentOn(cluster);
    await service.receive(command());
    cluster.object = object({ replicas: 5, version: '50' });
    await service.receive(restore());
    expect(cluster.replicas).toBe(5);
    expect(results.at(-1)).toMatchObject({ outcome: 'refused', code: 'drifted', changes: [{ path: '/spec/replicas', before: 3, after: 5 }] });
  });

  it('has no way back for what it never changed', async () => {
    const { service, results } = agentOn(new FakeCluster());
    expect(await service.receive(restore())).toMatchObject({ accepted: false, code: 'no_record' });
    expect(distinct(results)).toEqual([['refused', 'no_record']]);
  });

  it('wakes by itself, tells how long it took, and only once', async () => {
    const cluster = new FakeCluster();
    let nowMs = NOW;
    const { service, results } = agentOn(cluster, { nowMs: () => nowMs });
    await service.receive(command());
    nowMs += 120_000;
    expect(await service.wake(uuidOf('command'), 'business_request', nowMs - 400, 'a business request came')).toBe(true);
    expect(await service.wake(uuidOf('command'), 'telemetry_lost', nowMs, 'lost')).toBe(true);
    expect([cluster.replicas, cluster.writes]).toEqual([3, 2]);
    expect(results.at(-1)).toMatchObject({ outcome: 'woken', reason: 'business_request', elapsed_ms: 400, command_id: uuidOf('command') });
  });

  it('closes the record of a sleeper that somebody else woke, made anew or deleted', async () => {
    for (const [then, expected] of [[object({ replicas: 3, version: '8' }), ['restored', null]], [object({ uid: uuidOf('anew') }), ['failed', 'uid_changed']], [null, ['failed', 'not_found']]] as const) {
      const cluster = new FakeCluster();
      const { service, results } = agentOn(cluster);
      await service.receive(command());
      cluster.object = then;
      await service.observe(uuidOf('command'));
      expect(distinct(results).at(-1)).toEqual(expected);
      expect(service.sleepers()).toEqual([]);
      expect(cluster.writes).toBe(1);
    }
  });
});

describe('killed at any step', () => {
  const steps = Array.from({ length: 12 }, (_, i) => i + 1).flatMap((call) => [{ call, effect: false }, { call, effect: true }]);

  it.each(steps)('of a change (%j), it is done once or not at all, and told', async (killAt) => {
    const cluster = new FakeCluster();
    cluster.killAt = killAt;
    await agentOn(cluster).service.receive(command());
    cluster.killAt = null;
    const { service, results } = agentOn(cluster);
    await service.recover();
    // The optimizer sends a command again until its result has come.
    await service.receive(command());
    expect([cluster.replicas, cluster.writes]).toEqual([0, 1]);
    expect(distinct(results)).toEqual([['done', null]]);
    expect(service.sleepers()).toHaveLength(1);
  });

  it.each(steps)('of putting back by command (%j), it is put back once, and told with what changed', async (killAt) => {
    const cluster = new FakeCluster();
    await agentOn(cluster).service.receive(command());
    const first = agentOn(cluster);
    await first.service.recover();
    cluster.calls = 0;
    cluster.killAt = killAt;
    await first.service.receive(restore());
    cluster.killAt = null;
    const { service, results } = agentOn(cluster);
    await service.recover();
    await service.receive(restore());
    expect([cluster.replicas, cluster.writes]).toEqual([3, 2]);
    expect(service.sleepers()).toEqual([]);
    expect(distinct(results.filter(({ command_id: id }) => id === uuidOf('restore')))).toEqual([['restored', null]]);
  });

  it.each(steps)('of waking (%j), it is woken once, and told why', async (killAt) => {
    const cluster = new FakeCluster();
    await agentOn(cluster).service.receive(command());
    const first = agentOn(cluster);
    await first.service.recover();
    cluster.calls = 0;
    cluster.killAt = killAt;
    await first.service.wake(uuidOf('command'), 'business_request', NOW, 'a business request came');
    cluster.killAt = null;
    const { service, results } = agentOn(cluster);
    await service.recover();
    // Where not even the reason was noted, the log is read again and the same line wakes again.
    await service.wake(uuidOf('command'), 'business_request', NOW, 'a business request came');
    expect([cluster.replicas, cluster.writes]).toEqual([3, 2]);
    const told = distinct(results).filter(([outcome]) => outcome === 'woken' || outcome === 'restored');
    expect(told).toHaveLength(1);
  });

  it('between record and change, with the command expired meanwhile, nothing is changed and that is told', async () => {
    const cluster = new FakeCluster();
    cluster.killAt = { call: 4, effect: false };
    await agentOn(cluster).service.receive(command());
    cluster.killAt = null;
    expect(cluster.stored.size).toBe(1);
    const { service, results } = agentOn(cluster, { nowMs: () => NOW + 120_000 });
    await service.recover();
    expect([cluster.replicas, cluster.writes]).toEqual([3, 0]);
    expect(distinct(results)).toEqual([['failed', 'expired']]);
  });
});

describe('watching sleepers', () => {
  async function asleep() {
    const cluster = new FakeCluster();
    const clock = { nowMs: NOW };
    const { service, results } = agentOn(cluster, { nowMs: () => clock.nowMs });
    await service.receive(command());
    const facts = { log: null as number | null, bus: true };
    const watch = new SleeperWatch(service, cluster, { logLostSinceMs: () => facts.log, busConnected: () => facts.bus }, { readState: async () => memory.state, writeState: async (_, value) => { memory.state = value; } }, {
      log, now: () => clock.nowMs, delay: async () => { await new Promise((resolve) => { setImmediate(resolve); }); clock.nowMs += 1_000; if (clock.nowMs > stop.atMs) stop.controller.abort(); },
    });
    const memory: { state: unknown } = { state: null };
    const stop = { controller: new AbortController(), atMs: NOW + 3_600_000 };
    return { cluster, service, results, facts, watch, clock, memory, stop };
  }
  const settled = async () => { for (let i = 0; i < 30; i++) await new Promise((resolve) => { setImmediate(resolve); }); };

  it('wakes on a business request for it, and on no other', async () => {
    const { cluster, watch, results } = await asleep();
    watch.onBusiness({ namespace: 'shop', kind: 'Deployment', name: 'other' }, NOW + 1);
    watch.onBusiness({ namespace: 'shop', kind: 'Deployment', name: 'promo' }, NOW - 1);
    await settled();
    expect(cluster.replicas).toBe(0);
    watch.onBusiness({ namespace: 'shop', kind: 'Deployment', name: 'promo' }, NOW + 1);
    watch.onBusiness({ namespace: 'shop', kind: 'Deployment', name: 'promo' }, NOW + 2);
    await settled();
    expect([cluster.replicas, cluster.writes]).toEqual([3, 2]);
    expect(results.at(-1)).toMatchObject({ outcome: 'woken', reason: 'business_request' });
  });

  it('wakes on an opt-out of the workload or its namespace', async () => {
    for (const on of ['deployments', 'namespaces'] as const) {
      const { cluster, watch, results } = await asleep();
      watch.onObject('namespaces', 'upsert', { metadata: { name: 'else', annotations: { 'upid.io/exclude': 'true' } } });
      await settled();
      expect(cluster.replicas).toBe(0);
      watch.onObject(on, 'upsert', on === 'deployments' ? object({ replicas: 0, annotations: { 'upid.io/exclude': 'true' } }) : { metadata: { name: 'shop', annotations: { 'upid.io/exclude': 'true' } } });
      await settled();
      expect(cluster.replicas).toBe(3);
      expect(results.at(-1)).toMatchObject({ outcome: 'woken', reason: 'opted_out' });
    }
  });

  it.each(['log', 'bus'] as const)('wakes when the %s was lost for ten minutes, and not before', async (what) => {
    const { cluster, watch, facts, stop, results, clock } = await asleep();
    if (what === 'log') facts.log = NOW + 60_000;
    else setImmediate(() => { facts.bus = false; });
    stop.atMs = NOW + 590_000;
    await watch.run(stop.controller.signal);
    expect(cluster.replicas).toBe(0);
    stop.controller = new AbortController();
    stop.atMs = NOW + 700_000;
    await watch.run(stop.controller.signal);
    await settled();
    expect(cluster.replicas).toBe(3);
    expect(results.at(-1)).toMatchObject({ outcome: 'woken', reason: 'telemetry_lost' });
    expect(clock.nowMs).toBeLessThan(NOW + 720_000);
  });

  it('counts the time in which the agent itself was away, unless the streams come back at once', async () => {
    for (const [back, replicas] of [[true, 0], [false, 3]] as const) {
      const { cluster, facts, memory, stop } = await asleep();
      memory.state = { log_seen_ms: NOW - 3_600_000, bus_seen_ms: NOW - 3_600_000 };
      facts.log = NOW;
      setImmediate(() => { if (back) facts.log = null; });
      const [record] = [...cluster.stored.values()].map((text) => JSON.parse(text) as ChangeRecord);
      cluster.stored.set(uuidOf('command'), JSON.stringify({ ...record, done_at: at(NOW - 3_600_000) }));
      const { service } = agentOn(cluster, { nowMs: () => NOW });
      await service.recover();
      const again = new SleeperWatch(service, cluster, { logLostSinceMs: () => facts.log, busConnected: () => true }, { readState: async () => memory.state, writeState: async () => undefined }, {
        log, now: (() => { let ms = NOW; return () => (ms += 1_000); })(), delay: async () => { await settled(); if (--turns <= 0) stop.controller.abort(); },
      });
      let turns = 40;
      await again.run(stop.controller.signal);
      await settled();
      expect(cluster.replicas).toBe(replicas);
    }
  });

  it('tries again when the API server is away, and shows the sleeper as stuck meanwhile', async () => {
    const { cluster, watch, service, stop } = await asleep();
    cluster.calls = 0;
    cluster.killAt = { call: 1, effect: false };
    watch.onBusiness({ namespace: 'shop', kind: 'Deployment', name: 'promo' }, NOW + 1);
    await settled();
    expect(service.sleepers()).toMatchObject([{ state: 'stuck' }]);
    cluster.killAt = null;
    stop.atMs = NOW + 30_000;
    await watch.run(stop.controller.signal);
    await settled();
    expect([cluster.replicas, service.sleepers()]).toEqual([3, []]);
  });

  it('reads opt-outs of the record\'s own naming', () => {
    const record = { command: command({ preconditions: { replicas: null, absent_annotations: ['karpenter.sh/do-not-disrupt'], absent_labels: {} } }) } as ChangeRecord;
    expect(sleeperOptOut(record, object({ annotations: { 'karpenter.sh/do-not-disrupt': 'true' } }), null)).toMatch(/karpenter/);
  });
});
