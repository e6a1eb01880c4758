import { heartbeatReplySchema, subjects, toTimestamp, type CommandReceipt, type Heartbeat } from '@upid/contracts';
import { restoredReplicas } from './records.js';
import type { Sleeper } from './actuation.service.js';

export interface HeartbeatBus {
  request<T>(subject: string, request: unknown, options?: { timeoutMs?: number }): Promise<T>;
}

/** What a heartbeat says and what its answer sets going. */
export interface HeartbeatParts {
  readonly clusterId: string;
  readonly epoch: string;
  readonly fingerprint: string;
  readonly agentVersion: string;
  readonly actuation: boolean;
  depth(): { batches: number; bytes: number };
  streams(): number;
  sleepers(): Sleeper[];
  fence(): number;
  counters(): Record<string, number>;
  /** A command that waited at the platform, as it came. */
  receive(command: unknown): Promise<CommandReceipt>;
  hold(held: boolean): Promise<void>;
  wantSnapshot(): void;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void; error(fields: object, message: string): void };
  readonly now?: () => number;
}

const TIMEOUT_MS = 5_000;

/** Asks the platform every few seconds what waits for this cluster. */
export class HeartbeatService {
  private answered: boolean | null = null;
  private refusedBecause: string | null = null;

  constructor(private readonly bus: HeartbeatBus, private readonly parts: HeartbeatParts) {}

  /** One heartbeat. Never throws: a platform that does not answer is asked again. */
  async beat(): Promise<void> {
    const { log } = this.parts;
    let reply: unknown;
    try {
      reply = await this.bus.request(subjects.agent(this.parts.clusterId, 'heartbeat'), this.heartbeat(), { timeoutMs: TIMEOUT_MS });
    } catch (error) {
      if (this.answered !== false) log.info({ error: error instanceof Error ? error.message : String(error) }, 'the platform does not answer the heartbeat');
      this.answered = false;
      return;
    }
    const parsed = heartbeatReplySchema.safeParse(reply);
    if (!parsed.success) {
      log.error({ issue: parsed.error.issues[0]?.message }, 'the answer to the heartbeat cannot be read');
      return;
    }
    if (this.answered !== true) log.info({}, 'the platform answers the heartbeat');
    this.answered = true;
    const { accepted, reason, hold, want_snapshot: wantSnapshot } = parsed.data;
    if (!accepted) {
      if (this.refusedBecause !== reason) log.error({ reason }, 'the platform does not accept this agent');
      this.refusedBecause = reason;
      return;
    }
    this.refusedBecause = null;
    await this.parts.hold(hold);
    if (wantSnapshot) this.parts.wantSnapshot();
    // As they came: their signatures cover what was sent.
    const commands = (reply as { commands: unknown[] }).commands;
    for (const command of commands) await this.parts.receive(command);
  }

  private heartbeat(): Heartbeat {
    const { batches, bytes } = this.parts.depth();
    return {
      version: 1, epoch: this.parts.epoch, fingerprint: this.parts.fingerprint, agent_version: this.parts.agentVersion, at: toTimestamp((this.parts.now ?? Date.now)()), actuation: this.parts.actuation, spool_batches: batches, spool_bytes: bytes,
      access_log_streams: this.parts.streams(),
      sleepers: this.parts.sleepers().map(({ record, state }) => ({
        command_id: record.command.id, job_id: record.command.job_id, target: record.command.target, since: record.done_at ?? record.taken_at, restored_replicas: restoredReplicas(record), state,
      })),
      fence: this.parts.fence(), counters: this.parts.counters(),
    };
  }
}
