import { commandSchema, toTimestamp, workloadKey, type Command, type CommandReceipt, type ResultEvent, type WorkloadRef } from '@upid/contracts';
import type { MessageMeta } from '../publishing/publisher.service.js';
import { optOut, refusedBeforehand, refusedByObject, type Refusal, type RefusalCode } from './decisions.js';
import { changesOf, restorePlan, standingOf, wantedBy, type ActuatedObject, type ChangedField } from './fields.js';
import { ENDED_KEPT_MS, highestFence, resultEvent, sleeps, type ChangeRecord, type RecordedResult } from './records.js';

/** The cluster as this service changes it; what each call does and throws is told at the client. */
export interface ActuationPort {
  target(target: Command['target']): Promise<ActuatedObject | null>;
  namespace(name: string): Promise<ActuatedObject | null>;
  autoscalersOf(target: Command['target']): Promise<string[]>;
  change(target: Command['target'], object: ActuatedObject, changes: readonly ChangedField[]): Promise<void>;
  environmentDigest(object: ActuatedObject): string;
  records(): Promise<{ records: ChangeRecord[]; unreadable: string[] }>;
  record(commandId: string): Promise<ChangeRecord | null>;
  createRecord(record: ChangeRecord): Promise<void>;
  saveRecord(record: ChangeRecord): Promise<void>;
  deleteRecord(commandId: string): Promise<void>;
}

/** What the inventory knows of a target. */
export interface TargetKnowledge {
  generationAt(uid: string, resourceVersion: string): number | null;
  autoscalersOf(workload: WorkloadRef): readonly { readonly autoscaler_kind: string; readonly name: string; readonly mode: string | null }[];
}

export interface ResultOutlet {
  publish(kind: 'result', encode: () => string, meta: MessageMeta): Promise<void>;
}

export interface ActuationOptions {
  readonly clusterId: string;
  readonly enabled: boolean;
  /** Whether the text carries the optimizer's signature (base64url). */
  readonly verify: (text: string, signature: string) => boolean;
  /** The texts that a signature may cover, of a command as it came. */
  readonly signedTexts: (raw: unknown, command: Command) => readonly string[];
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void; error(fields: object, message: string): void };
  readonly now?: () => number;
}

/** Why a sleeper is put back without a command. */
export type WakeReason = 'business_request' | 'telemetry_lost' | 'opted_out';

export interface Sleeper {
  readonly record: ChangeRecord;
  readonly state: 'asleep' | 'waking' | 'stuck';
}

/** Tries of a change whose object moves under it. */
const MOVED_TRIES = 5;
/** Results of this age are told again after a restart. */
const RETOLD_MS = 86_400_000;

/**
 * Carries out commands: the record first, then the change under preconditions, then the record again. Killed at any step, the record
 * and the object together tell where it stood. Puts back what a record holds, from that record alone.
 */
export class ActuationService {
  held = false;
  readonly counters = { commands: 0, refused: 0, changes: 0, wakes: 0 };
  /** Records by command id. */
  private readonly records = new Map<string, ChangeRecord>();
  private sleepingByWorkload: Map<string, ChangeRecord[]> | null = null;
  /** Sleepers that could not be woken at once. */
  private readonly stuck = new Set<string>();
  /** One step at a time for each target. */
  private readonly turns = new Map<string, Promise<unknown>>();
  private readonly now: () => number;

  constructor(private readonly port: ActuationPort, private readonly knowledge: TargetKnowledge, private readonly outlet: ResultOutlet, private readonly options: ActuationOptions) {
    this.now = options.now ?? Date.now;
  }

  /** The highest fence taken. */
  get fence(): number {
    return Math.max(0, ...[...this.records.values()].map(({ command }) => command.fence));
  }

  /** What sleeps by our doing. */
  sleepers(): Sleeper[] {
    return [...this.records.values()].filter(sleeps).map((record) => ({ record, state: this.stuck.has(record.command.id) ? 'stuck' : record.state === 'waking' ? 'waking' : 'asleep' }));
  }

  /** Reads every record and finishes what a killed process left: compares what was meant with what is. */
  async recover(): Promise<void> {
    const { records, unreadable } = await this.port.records();
    for (const why of unreadable) this.options.log.error({ why }, 'a record of a change cannot be read: what it changed cannot be put back by this agent');
    for (const record of records) this.remember(record);
    for (const record of records) {
      await this.turn(record.command.target.uid, () => this.resume(record)).catch((error: unknown) => this.options.log.error({ command_id: record.command.id, error: message(error) }, 'a change could not be finished after a restart; trying again'));
      for (const result of record.results) {
        const byCommand = result.outcome === 'restored' && record.waking?.by_command != null;
        if (!byCommand && this.now() - Date.parse(result.at) < RETOLD_MS) await this.tell(record.command, result);
      }
    }
    await this.prune();
  }

  /** Tries again what could not be finished: changes that were noted and perhaps not made, or not put back yet. */
  async settle(): Promise<void> {
    for (const record of [...this.records.values()].filter(({ state }) => state === 'intended' || state === 'waking')) {
      await this.turn(record.command.target.uid, () => this.resume(this.records.get(record.command.id) ?? record)).catch((error: unknown) => this.options.log.error({ command_id: record.command.id, error: message(error) }, 'a change could not be finished yet'));
    }
  }

  /** Command ids of what sleeps under a workload's key. */
  sleepersOf(workload: string): readonly string[] {
    this.sleepingByWorkload ??= Map.groupBy([...this.records.values()].filter(sleeps), ({ command: { target } }) => workloadKey(target));
    return (this.sleepingByWorkload.get(workload) ?? []).map(({ command }) => command.id);
  }

  /** Takes a command as it came over the bus. The receipt says whether it was taken; what became of it follows as a result. */
  async receive(raw: unknown): Promise<CommandReceipt> {
    const receivedMs = this.now();
    this.counters.commands++;
    const parsed = commandSchema.safeParse(raw);
    if (!parsed.success) return refusal({ code: 'unsupported', message: `the command cannot be read: ${parsed.error.issues[0]?.path.join('.')} ${parsed.error.issues[0]?.message}` });
    const command = parsed.data;
    return this.turn(command.target.uid, () => this.take(command, this.options.signedTexts(raw, command), receivedMs)).catch((error: unknown) => {
      const refused = { code: codeOf(error), message: message(error) };
      // What may pass is left to be sent again; what cannot pass is the command's end.
      if (refused.code === 'unsupported' || refused.code === 'forbidden') return this.refuse(command, refused);
      this.options.log.error({ command_id: command.id, error: refused.message }, 'a command could not be taken');
      return refusal(refused);
    });
  }

  /** Puts a sleeper back. Never refused; tried again by the caller until nothing is left to do. @returns whether nothing is left to do */
  async wake(commandId: string, reason: WakeReason, seenAtMs: number, why: string): Promise<boolean> {
    const known = this.records.get(commandId);
    if (known === undefined) return true;
    return this.turn(known.command.target.uid, async () => {
      const record = this.records.get(commandId);
      if (record === undefined || !sleeps(record)) return true;
      this.counters.wakes++;
      this.options.log.info({ command_id: commandId, reason, why }, 'a sleeper is woken');
      try {
        await this.putBack(record, { reason, seen_at: toTimestamp(seenAtMs), by_command: null }, 'woken', why);
        this.stuck.delete(commandId);
        return true;
      } catch (error) {
        this.stuck.add(commandId);
        this.options.log.error({ command_id: commandId, error: message(error) }, 'a sleeper could not be woken yet');
        return false;
      }
    });
  }

  /** Closes the record of a sleeper that somebody else has woken, made anew or deleted. */
  async observe(commandId: string): Promise<void> {
    const record = this.records.get(commandId);
    if (record === undefined) return;
    await this.turn(record.command.target.uid, () => this.resume(this.records.get(commandId) ?? record));
  }

  // -------------------------------------------------------------- taking

  private async take(command: Command, signedTexts: readonly string[], receivedMs: number): Promise<CommandReceipt> {
    const { clusterId, enabled, verify } = this.options;
    const known = this.records.get(command.id);
    const refused = refusedBeforehand(command, {
      nowMs: receivedMs, clusterId, signatureHolds: signedTexts.some((text) => verify(text, command.signature)), actuation: enabled, held: this.held, highestFence: highestFence(this.records.values(), command.target.uid),
    });
    if (known !== undefined && refused?.code !== 'bad_signature' && refused?.code !== 'wrong_cluster') {
      // Sent again because its result has not come: it is told again, and nothing is done twice.
      await this.resume(known);
      for (const result of (this.records.get(command.id) ?? known).results) await this.tell(command, result);
      return { accepted: true, code: 'already_taken', message: 'the command was taken before' };
    }
    if (refused !== null) return this.refuse(command, refused);
    return command.verb === 'restore' ? this.takeRestore(command, receivedMs) : this.takeChange(command, receivedMs);
  }

  private async takeChange(command: Command, receivedMs: number): Promise<CommandReceipt> {
    const { object, refused } = await this.look(command);
    if (refused !== null || object === null) return this.refuse(command, refused ?? { code: 'not_found', message: 'the workload is not there' });
    const changes = changesOf(command, object);
    if (command.dry_run) {
      await this.tell(command, this.result('dry_run', { message: changes.length === 0 ? 'nothing would change' : 'this would change', changes, elapsed_ms: this.now() - receivedMs }));
      return { accepted: true, code: null, message: 'dry run' };
    }
    const record = this.newRecord(command, changes, object);
    await this.port.createRecord(record);
    this.remember(record);
    await this.act(record, object, receivedMs);
    return { accepted: true, code: null, message: 'taken' };
  }

  /** Reads the target and what belongs to it, and says whether the command may act on it. */
  private async look(command: Command): Promise<{ object: ActuatedObject | null; refused: Refusal | null }> {
    const { target } = command;
    const [object, namespace, hpas] = await Promise.all([this.port.target(target), this.port.namespace(target.namespace), command.verb === 'scale' ? this.port.autoscalersOf(target) : []]);
    const others = this.knowledge.autoscalersOf(target).filter(({ autoscaler_kind: kind, mode }) => (command.verb === 'scale' ? kind === 'ScaledObject' : kind === 'VerticalPodAutoscaler' && mode !== 'Off'));
    const wanted = wantedBy(command).map(({ path }) => path);
    const open = [...this.records.values()].find(({ command: other, state, changes }) =>
      other.id !== command.id && other.target.uid === target.uid && other.verb === 'scale' && (state === 'intended' || state === 'waking' || (state === 'done' && changes.some(({ after }) => after === 0))) && changes.some(({ path }) => wanted.includes(path)));
    const refused = refusedByObject(command, {
      object, namespace, autoscalers: [...hpas, ...others.map(({ autoscaler_kind: kind, name }) => `${kind}/${name}`)], generationAtCommand: this.knowledge.generationAt(target.uid, target.resource_version), openChange: open?.command.id ?? null,
    });
    return { object, refused };
  }

  private newRecord(command: Command, changes: ChangedField[], object: ActuatedObject): ChangeRecord {
    return {
      version: 1, command, state: 'intended', changes, prior: { labels: { ...object.metadata?.labels }, environment_digest: this.port.environmentDigest(object), generation: object.metadata?.generation ?? null },
      taken_at: toTimestamp(this.now()), done_at: null, waking: null, ended_at: null, results: [],
    };
  }

  /** Changes the object as the record says; looks again when it moved. */
  private async act(record: ChangeRecord, seen: ActuatedObject, receivedMs: number): Promise<void> {
    const { command, changes } = record;
    let object = seen;
    for (let tries = 1; ; tries++) {
      try {
        if (changes.length > 0) await this.port.change(command.target, object, changes);
        break;
      } catch (error) {
        if (!isMoved(error) || tries >= MOVED_TRIES) return this.fail(record, { code: isMoved(error) ? 'resource_version_changed' : codeOf(error), message: message(error) });
        const again = await this.look({ ...command, target: { ...command.target, resource_version: '' } });
        if (again.refused !== null || again.object === null) return this.fail(record, again.refused ?? { code: 'not_found', message: 'the workload is not there' });
        if (standingOf(again.object, changes) !== 'before') return this.resume(record);
        object = again.object;
      }
    }
    this.counters.changes += changes.length > 0 ? 1 : 0;
    await this.done(record, this.now() - receivedMs);
  }

  private async done(record: ChangeRecord, elapsedMs: number | null): Promise<void> {
    const result = this.result('done', { message: record.changes.length === 0 ? 'it was so already' : 'changed', changes: record.changes, elapsed_ms: elapsedMs });
    await this.keep({ ...record, state: 'done', done_at: result.at, results: [...record.results, result] });
    await this.tell(record.command, result);
  }

  private async fail(record: ChangeRecord, { code, message: why }: Refusal): Promise<void> {
    const result = this.result('failed', { code, message: why });
    await this.keep({ ...record, state: 'ended', ended_at: result.at, results: [...record.results, result] });
    await this.tell(record.command, result);
  }

  // -------------------------------------------------------------- putting back

  private async takeRestore(command: Command, receivedMs: number): Promise<CommandReceipt> {
    if (command.restores === null) return this.refuse(command, { code: 'unsupported', message: 'the command names no change to put back' });
    const original = this.records.get(command.restores) ?? await this.port.record(command.restores);
    if (original === null) return this.refuse(command, { code: 'no_record', message: `there is no record of command ${command.restores}` });
    if (command.target.uid !== original.command.target.uid) return this.refuse(command, { code: 'uid_changed', message: 'the record is of another object' });
    this.remember(original);
    if (original.state === 'intended') await this.resume(original);
    const current = this.records.get(original.command.id) ?? original;
    const object = await this.port.target(current.command.target);
    const plan = current.state === 'ended' || object === null ? null : restorePlan(object, current.changes);
    if (command.dry_run) {
      await this.tell(command, this.result('dry_run', { message: plan === null ? 'nothing is left to put back' : plan.do === 'stop' ? 'it was changed since and would not be touched' : 'this would be put back', changes: plan?.fields ?? [], elapsed_ms: this.now() - receivedMs }));
      return { accepted: true, code: null, message: 'dry run' };
    }
    const record: ChangeRecord = { ...this.newRecord(command, [], object ?? {}), changes: [] };
    await this.port.createRecord(record);
    this.remember(record);
    await this.restore(record, current, receivedMs);
    return { accepted: true, code: null, message: 'taken' };
  }

  /** Carries out a restore command whose record stands. */
  private async restore(record: ChangeRecord, original: ChangeRecord, receivedMs: number): Promise<void> {
    const { command } = record;
    const seenAt = toTimestamp(receivedMs);
    if (original.state === 'ended') {
      const last = original.results.at(-1);
      // Killed between the two records: what it came to stands in the original's.
      if (original.waking?.by_command === command.id && last !== undefined) {
        await this.keep({ ...record, state: 'ended', ended_at: last.at, changes: last.changes, results: [last] });
        return this.tell(command, last);
      }
      const result = this.result('restored', { message: `nothing was left to put back: ${last?.outcome ?? 'ended'} before`, elapsed_ms: this.now() - receivedMs });
      await this.keep({ ...record, state: 'ended', ended_at: result.at, results: [result] });
      return this.tell(command, result);
    }
    const outcome = await this.putBack(original, { reason: 'restored', seen_at: seenAt, by_command: command.id }, 'restored', 'put back by command');
    const result = { ...outcome, elapsed_ms: this.now() - receivedMs };
    this.stuck.delete(original.command.id);
    await this.keep({ ...record, state: 'ended', ended_at: result.at, changes: result.changes, results: [result] });
    await this.tell(command, result);
  }

  /** Puts back what a record holds: notes why, changes the object, closes the record, tells. @returns what it came to */
  private async putBack(record: ChangeRecord, waking: NonNullable<ChangeRecord['waking']>, outcome: 'woken' | 'restored', why: string): Promise<RecordedResult> {
    const noted: ChangeRecord = { ...record, state: 'waking', waking: record.waking ?? waking };
    this.remember(noted);
    // Where even the record cannot be written now, what sleeps is woken all the same; a restart would find it awake.
    await this.port.saveRecord(noted).catch((error: unknown) => this.options.log.warn({ command_id: record.command.id, error: message(error) }, 'why a sleeper is woken could not be noted'));
    const target = record.command.target;
    let result: RecordedResult | undefined;
    for (let tries = 1; result === undefined; tries++) {
      const object = await this.port.target(target);
      if (object === null || object.metadata?.uid !== target.uid) {
        result = this.result('failed', { code: object === null ? 'not_found' : 'uid_changed', message: object === null ? 'the workload is gone' : 'the workload was made anew', reason: waking.reason });
        break;
      }
      const plan = restorePlan(object, record.changes);
      if (plan.do === 'stop') {
        result = this.result('refused', { code: 'drifted', message: 'somebody changed it since: nothing was touched', reason: waking.reason, changes: plan.fields });
        break;
      }
      try {
        if (plan.fields.length > 0) await this.port.change(target, object, plan.fields);
      } catch (error) {
        if (isMoved(error) && tries < MOVED_TRIES) continue;
        throw error;
      }
      this.counters.changes += plan.fields.length > 0 ? 1 : 0;
      result = this.result(outcome, { message: plan.fields.length === 0 ? `${why}; it was as before already` : why, reason: waking.reason, changes: plan.fields, elapsed_ms: Math.max(0, this.now() - Date.parse(waking.seen_at)) });
    }
    const told = waking.by_command === null;
    await this.keep({ ...noted, state: 'ended', ended_at: result.at, results: [...record.results, result] });
    if (told) await this.tell(record.command, result);
    return result;
  }

  // -------------------------------------------------------------- after a restart, and when somebody else acted

  /** Brings a record to where its object is. */
  private async resume(record: ChangeRecord): Promise<void> {
    if (record.state === 'ended') return;
    const { command } = record;
    if (command.verb === 'restore') {
      const original = command.restores === null ? null : (this.records.get(command.restores) ?? await this.port.record(command.restores));
      if (original === null) return this.fail(record, { code: 'no_record', message: `there is no record of command ${command.restores}` });
      return this.restore(record, original, Date.parse(record.taken_at));
    }
    if (record.state === 'waking' && record.waking !== null) {
      if (record.waking.by_command === null) await this.putBack(record, record.waking, 'woken', 'woken after a restart');
      // By command: the command's own record stands and finishes it.
      return;
    }
    const object = await this.port.target(command.target);
    if (object === null || object.metadata?.uid !== command.target.uid) return this.fail(record, { code: object === null ? 'not_found' : 'uid_changed', message: object === null ? 'the workload is gone' : 'the workload was made anew' });
    const standing = standingOf(object, record.changes);
    if (record.state === 'done') {
      if (!sleeps(record) || standing === 'after') return;
      const awake = restorePlan(object, record.changes);
      const result = this.result('restored', { reason: 'changed_elsewhere', message: 'somebody else woke it', changes: awake.fields });
      await this.keep({ ...record, state: 'ended', ended_at: result.at, results: [...record.results, result] });
      return this.tell(command, result);
    }
    if (standing === 'after') return this.done(record, null);
    if (standing === 'drifted') return this.fail(record, { code: 'drifted', message: 'somebody changed it before the change was made' });
    if (this.held) return this.fail(record, { code: 'held', message: 'every action is held' });
    if (this.now() > Date.parse(command.expires_at)) return this.fail(record, { code: 'expired', message: 'the agent ended before the change was made, and the command expired meanwhile' });
    const again = await this.look({ ...command, target: { ...command.target, resource_version: '' } });
    if (again.refused !== null || again.object === null) return this.fail(record, again.refused ?? { code: 'not_found', message: 'the workload is gone' });
    return this.act(record, again.object, Date.parse(record.taken_at));
  }

  /** Forgets records that ended long ago; the newest of each target is kept for its fence. */
  private async prune(): Promise<void> {
    for (const record of [...this.records.values()]) {
      const newest = highestFence(this.records.values(), record.command.target.uid) === record.command.fence;
      if (record.state !== 'ended' || newest || record.ended_at === null || this.now() - Date.parse(record.ended_at) < ENDED_KEPT_MS) continue;
      await this.port.deleteRecord(record.command.id);
      this.records.delete(record.command.id);
    }
  }

  // -------------------------------------------------------------- small parts

  private remember(record: ChangeRecord): void {
    this.records.set(record.command.id, record);
    this.sleepingByWorkload = null;
  }

  private async keep(record: ChangeRecord): Promise<void> {
    await this.port.saveRecord(record);
    this.remember(record);
  }

  private async refuse(command: Command, refused: Refusal): Promise<CommandReceipt> {
    this.counters.refused++;
    this.options.log.warn({ command_id: command.id, code: refused.code, why: refused.message }, 'a command is refused');
    // What is not from the optimizer, or for another cluster, is nobody's result.
    if (refused.code !== 'bad_signature' && refused.code !== 'wrong_cluster') await this.tell(command, this.result('refused', { code: refused.code, message: refused.message }));
    return refusal(refused);
  }

  private result<O extends ResultEvent['outcome']>(outcome: O, fields: Partial<Omit<RecordedResult, 'outcome'>> & { message: string }): Omit<RecordedResult, 'outcome'> & { outcome: O } {
    return { outcome, code: null, reason: null, elapsed_ms: null, changes: [], at: toTimestamp(this.now()), ...fields };
  }

  private async tell(command: Command, result: Omit<RecordedResult, 'outcome'> & { outcome: ResultEvent['outcome'] }): Promise<void> {
    const event = resultEvent(command, result);
    await this.outlet.publish('result', () => JSON.stringify(event), { messageId: `${this.options.clusterId}/result/${event.id}` });
  }

  private turn<T>(key: string, step: () => Promise<T>): Promise<T> {
    const turn = (this.turns.get(key) ?? Promise.resolve()).then(step);
    const settled = turn.then(() => undefined, () => undefined);
    this.turns.set(key, settled);
    void settled.then(() => { if (this.turns.get(key) === settled) this.turns.delete(key); });
    return turn;
  }
}

/** Whether a sleeper's workload or namespace asks to be left alone now, in words. */
export function sleeperOptOut(record: ChangeRecord, workload: ActuatedObject, namespace: ActuatedObject | null): string | null {
  return optOut(workload, namespace, record.command.preconditions.absent_annotations);
}

function refusal({ code, message: why }: Refusal): CommandReceipt {
  return { accepted: false, code, message: why };
}

function isMoved(error: unknown): boolean {
  return error instanceof Error && error.name === 'ObjectMovedError';
}

function codeOf(error: unknown): RefusalCode {
  const name = error instanceof Error ? error.name : '';
  if (name === 'RecordExistsError') return 'already_taken';
  if (name === 'UnsupportedChangeError') return 'unsupported';
  return (error as { status?: unknown }).status === 403 ? 'forbidden' : 'api_error';
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
