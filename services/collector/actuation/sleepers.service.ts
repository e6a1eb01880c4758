import { workloadKey, type WorkloadRef } from '@upid/contracts';
import { backOffMs } from '../connection/rate-limit.js';
import { sleeperOptOut, type ActuationPort, type ActuationService, type WakeReason } from './actuation.service.js';
import { deadMan } from './decisions.js';
import { readField, type ActuatedObject } from './fields.js';
import type { ChangeRecord } from './records.js';

export interface SleeperFacts {
  /** Since when requests may come unseen, unix ms; null while they are seen. */
  logLostSinceMs(): number | null;
  /** Whether the bus is there now. */
  busConnected(): boolean;
}

export interface SleeperMemory {
  readState(name: string): Promise<unknown>;
  writeState(name: string, value: unknown): Promise<void>;
}

export interface SleeperOptions {
  readonly log: { warn(fields: object, message: string): void; error(fields: object, message: string): void };
  readonly delay: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly now?: () => number;
}

const STATE_FILE = 'watch.json';
const TICK_MS = 1_000;
const REMEMBER_EVERY_MS = 10_000;
/** Streams and bus have this long after a start to come up before what the last process saw counts. */
const START_GRACE_MS = 15_000;
/** Each sleeper is looked at by a call this often, in case a watch missed something. */
const CHECK_EVERY_MS = 60_000;
const SETTLE_EVERY_MS = 10_000;

/**
 * Watches what sleeps: wakes it on a business request, on an opt-out, and when requests or the bus can no longer be seen (the dead-man
 * rule). Needs the cluster alone.
 */
export class SleeperWatch {
  private readonly waking = new Map<string, { reason: WakeReason; seenAtMs: number; why: string; failures: number; notBeforeMs: number; busy: boolean }>();
  private readonly startedMs: number;
  private logSeenMs: number;
  private busSeenMs: number;
  private readonly now: () => number;

  constructor(
    private readonly actuation: Pick<ActuationService, 'sleepers' | 'sleepersOf' | 'wake' | 'observe' | 'settle'>, private readonly port: Pick<ActuationPort, 'target' | 'namespace'>, private readonly facts: SleeperFacts,
    private readonly memory: SleeperMemory, private readonly options: SleeperOptions,
  ) {
    this.now = options.now ?? Date.now;
    this.startedMs = this.now();
    this.logSeenMs = this.startedMs;
    this.busSeenMs = this.startedMs;
  }

  /** A business request for a workload, at the moment its line is read. */
  onBusiness(workload: WorkloadRef, timeMs: number): void {
    for (const id of this.actuation.sleepersOf(workloadKey(workload))) {
      const record = this.recordOf(id);
      if (record?.command.watch?.business_requests !== true || timeMs < Date.parse(record.taken_at)) continue;
      this.wake(id, 'business_request', timeMs, 'a business request came');
    }
  }

  /** A workload or namespace changed or went. */
  onObject(resource: string, change: 'upsert' | 'remove', object: ActuatedObject): void {
    for (const { record } of this.actuation.sleepers()) {
      const { target, id } = record.command;
      if (resource === 'namespaces' && change === 'upsert' && object.metadata?.name === target.namespace) {
        const out = sleeperOptOut(record, {}, object);
        if (out !== null) this.wake(id, 'opted_out', this.now(), out);
      }
      if (object.metadata?.uid !== target.uid) continue;
      if (change === 'remove') this.look(record);
      else this.judge(record, object, null);
    }
  }

  async run(signal: AbortSignal): Promise<void> {
    await this.recall();
    let rememberedMs = 0;
    let checkedMs = 0;
    let settledMs = 0;
    while (!signal.aborted) {
      const nowMs = this.now();
      if (this.facts.logLostSinceMs() === null) this.logSeenMs = nowMs;
      if (this.facts.busConnected()) this.busSeenMs = nowMs;
      this.applyDeadMan(nowMs);
      for (const [id, { notBeforeMs, busy }] of this.waking) if (!busy && notBeforeMs <= nowMs) this.tryWake(id);
      const sleepers = this.actuation.sleepers();
      if (nowMs - checkedMs >= CHECK_EVERY_MS) {
        checkedMs = nowMs;
        for (const { record } of sleepers) this.look(record);
      }
      if (nowMs - settledMs >= SETTLE_EVERY_MS) {
        settledMs = nowMs;
        await this.actuation.settle();
      }
      if (sleepers.length > 0 && nowMs - rememberedMs >= REMEMBER_EVERY_MS) {
        rememberedMs = nowMs;
        await this.memory.writeState(STATE_FILE, { log_seen_ms: this.logSeenMs, bus_seen_ms: this.busSeenMs });
      }
      await this.options.delay(TICK_MS, signal);
    }
  }

  private async recall(): Promise<void> {
    const state = await this.memory.readState(STATE_FILE);
    const { log_seen_ms: log, bus_seen_ms: bus } = (typeof state === 'object' && state !== null ? state : {}) as { log_seen_ms?: unknown; bus_seen_ms?: unknown };
    if (typeof log === 'number') this.logSeenMs = Math.min(log, this.startedMs);
    if (typeof bus === 'number') this.busSeenMs = Math.min(bus, this.startedMs);
  }

  private applyDeadMan(nowMs: number): void {
    if (nowMs - this.startedMs < START_GRACE_MS) return;
    for (const { record } of this.actuation.sleepers()) {
      const { watch, id } = record.command;
      if (watch === null) continue;
      const logLost = this.facts.logLostSinceMs();
      const why = deadMan(watch, {
        nowMs, asleepSinceMs: Date.parse(record.done_at ?? record.taken_at), logLostSinceMs: logLost === null ? null : Math.min(logLost, this.logSeenMs), busLostSinceMs: this.facts.busConnected() ? null : this.busSeenMs,
      });
      if (why !== null) this.wake(id, 'telemetry_lost', nowMs, why);
    }
  }

  /** Looks at a sleeper's object by a call. */
  private look(record: ChangeRecord): void {
    const { target } = record.command;
    Promise.all([this.port.target(target), this.port.namespace(target.namespace)]).then(([object, namespace]) => {
      if (object === null || object.metadata?.uid !== target.uid) return this.actuation.observe(record.command.id);
      return this.judge(record, object, namespace);
    }).catch((error: unknown) => this.options.log.warn({ command_id: record.command.id, error: error instanceof Error ? error.message : String(error) }, 'a sleeper could not be looked at'));
  }

  private judge(record: ChangeRecord, object: ActuatedObject, namespace: ActuatedObject | null): void {
    const { id } = record.command;
    const out = sleeperOptOut(record, object, namespace);
    if (out !== null) this.wake(id, 'opted_out', this.now(), out);
    else if (record.state === 'done' && readField(object, '/spec/replicas') !== 0) {
      this.actuation.observe(id).catch((error: unknown) => this.options.log.warn({ command_id: id, error: error instanceof Error ? error.message : String(error) }, 'a sleeper that somebody woke could not be looked at'));
    }
  }

  private recordOf(id: string): ChangeRecord | undefined {
    return this.actuation.sleepers().find(({ record }) => record.command.id === id)?.record;
  }

  private wake(id: string, reason: WakeReason, seenAtMs: number, why: string): void {
    if (this.waking.has(id)) return;
    this.waking.set(id, { reason, seenAtMs, why, failures: 0, notBeforeMs: 0, busy: false });
    this.tryWake(id);
  }

  private tryWake(id: string): void {
    const wake = this.waking.get(id);
    if (wake === undefined) return;
    wake.busy = true;
    void this.actuation.wake(id, wake.reason, wake.seenAtMs, wake.why).then((finished) => {
      if (finished) this.waking.delete(id);
      else {
        wake.busy = false;
        wake.failures++;
        wake.notBeforeMs = this.now() + backOffMs(wake.failures, 0.5, 500, 10_000);
      }
    }, (error: unknown) => {
      wake.busy = false;
      wake.notBeforeMs = this.now() + 1_000;
      this.options.log.error({ command_id: id, error: error instanceof Error ? error.message : String(error) }, 'a sleeper could not be woken yet');
    });
  }
}
