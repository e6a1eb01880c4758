import { createHash } from 'node:crypto';
import { fromPublic } from '@nats-io/nkeys';
import { commandSchema, commandText, heartbeatReplySchema, subjects, toTimestamp, type Command, type CommandReceipt, type Heartbeat, type HeartbeatReply, type ResultEvent } from '@upid/contracts';
import { connectBus, type Bus } from '@upid/platform';
import { z } from 'zod';

interface Kept {
  readonly command: Command;
  readonly before: number;
  state: 'done' | 'ended';
}

/** What the agent does with a command that comes: take it, lose it on the way (no receipt, nothing done), or take it and say nothing yet. */
export type Behaviour = 'take' | 'lose' | 'keep_silent';

/**
 * An agent and its cluster in memory, for tests of the optimizer: takes each command id once, checks its signature, expiry and fence, changes the
 * replicas of workloads by name, tells results, and keeps a history of every change that it made.
 */
export class FakeAgent {
  /** Every delivery of every command. */
  readonly deliveries: Command[] = [];
  /** Replicas of each workload by name, from the first (2) on. */
  readonly history = new Map<string, number[]>();
  behave: (command: Command) => Behaviour = () => 'take';
  private readonly kept = new Map<string, Kept>();
  private readonly untold: ResultEvent[] = [];
  private bus: Bus | null = null;
  private gone: () => void = () => undefined;
  private told = 0;

  constructor(readonly clusterId: string, private readonly commandPublicKey: string, private readonly nowMs: () => number = Date.now) {}

  async connect(url: string): Promise<void> {
    const bus = await connectBus({ url, name: `agent-${this.clusterId}` });
    const gone = new Promise<null>((resolve) => { this.gone = () => resolve(null); });
    await bus.serve(subjects.command(this.clusterId, 'execute'), z.unknown(), async (raw) => (await this.receive(commandSchema.parse(raw), commandText(raw as Command))) ?? gone);
    this.bus = bus;
  }

  async disconnect(): Promise<void> {
    this.gone();
    await this.bus?.drain();
    this.bus = null;
  }

  replicas(name: string): number[] {
    return this.history.get(name) ?? [2];
  }

  /** Ids of commands of a verb that were carried out for a job. */
  carriedOut(jobId: string, verb: Command['verb']): string[] {
    return [...this.kept.values()].filter(({ command }) => command.job_id === jobId && command.verb === verb).map(({ command }) => command.id);
  }

  /** Takes a command that was long on its way. */
  async arrive(command: Command): Promise<CommandReceipt> {
    return this.take(command);
  }

  /** Tells what {@link behave} kept silent of. */
  async speak(): Promise<void> {
    for (const result of this.untold.splice(0)) await this.tell(result);
  }

  /** Publishes a result under an id of its own each time, so that the bus does not drop a second one: the optimizer must. */
  async tell(result: ResultEvent): Promise<void> {
    await this.connected.publish(subjects.agent(this.clusterId, 'result'), Buffer.from(JSON.stringify(result)), { msgId: `${this.clusterId}/result/${result.id}/${this.told++}` });
  }

  /** Puts a workload back of the agent's own accord. */
  async wake(jobId: string, reason: string): Promise<void> {
    const kept = [...this.kept.values()].find(({ command, state }) => command.job_id === jobId && command.verb === 'scale' && state === 'done');
    if (!kept) throw new Error(`nothing of job ${jobId} sleeps`);
    kept.state = 'ended';
    this.change(kept.command.target.name, kept.before);
    await this.tell(this.result(kept.command, 'woken', { reason, message: `woken: ${reason}`, changes: [{ path: '/spec/replicas', before: 0, after: kept.before }] }));
  }

  /** Sends a heartbeat and takes the commands that its answer brings. */
  async beat(fingerprint: string): Promise<HeartbeatReply> {
    const heartbeat: Heartbeat = {
      version: 1, epoch: '44444444-4444-4444-8444-444444444444', fingerprint, agent_version: 'test', at: toTimestamp(this.nowMs()), actuation: true, spool_batches: 0, spool_bytes: 0, access_log_streams: 1, fence: 0, counters: {},
      sleepers: [...this.kept.values()].filter(({ command, state }) => command.verb === 'scale' && state === 'done').map(({ command, before }) => ({ command_id: command.id, job_id: command.job_id, target: command.target, since: command.issued_at, restored_replicas: before, state: 'asleep' as const })),
    };
    const reply = heartbeatReplySchema.parse(await this.connected.request(subjects.agent(this.clusterId, 'heartbeat'), heartbeat));
    for (const command of reply.commands) await this.receive(command, commandText(command));
    return reply;
  }

  result(command: Command, outcome: ResultEvent['outcome'], over: Partial<ResultEvent> & { message: string }): ResultEvent {
    // The same result has the same id, however often it is told.
    const hex = createHash('sha256').update(`${command.id}/${outcome}`).digest('hex');
    const id = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
    return { version: 1, id, command_id: command.id, job_id: command.job_id, step: command.step, outcome, code: null, reason: null, target: command.target, changes: [], elapsed_ms: 5, at: toTimestamp(this.nowMs()), ...over };
  }

  private get connected(): Bus {
    if (this.bus === null) throw new Error('the agent is away');
    return this.bus;
  }

  /** @returns the receipt, or null where the sender gets none */
  private async receive(command: Command, signedText: string): Promise<CommandReceipt | null> {
    this.deliveries.push(command);
    if (this.behave(command) === 'lose') return null;
    if (!fromPublic(this.commandPublicKey).verify(new TextEncoder().encode(signedText), Buffer.from(command.signature, 'base64url'))) return { accepted: false, code: 'bad_signature', message: 'the signature is not the optimizer\'s' };
    return this.take(command);
  }

  private async take(command: Command): Promise<CommandReceipt> {
    const say = async (result: ResultEvent) => (this.behave(command) === 'keep_silent' ? void this.untold.push(result) : this.tell(result));
    const refuse = async (code: NonNullable<ResultEvent['code']>) => {
      await say(this.result(command, 'refused', { code, message: code }));
      return { accepted: false, code, message: code };
    };
    if (this.kept.has(command.id)) return { accepted: true, code: 'already_taken', message: 'taken before' };
    if (command.verb !== 'restore' && this.nowMs() > Date.parse(command.expires_at)) return refuse('expired');
    if ([...this.kept.values()].some(({ command: each }) => each.target.uid === command.target.uid && each.fence > command.fence)) return refuse('lower_fence');
    const { name } = command.target;
    const before = this.replicas(name).at(-1) ?? 0;
    if (command.dry_run) {
      await say(this.result(command, 'dry_run', { message: 'this would change', changes: [{ path: '/spec/replicas', before, after: command.replicas }] }));
      return { accepted: true, code: null, message: 'dry run' };
    }
    if (command.verb === 'restore') {
      const original = this.kept.get(command.restores ?? '');
      if (original === undefined) return refuse('no_record');
      this.kept.set(command.id, { command, before, state: 'ended' });
      if (original.state === 'done') this.change(name, original.before);
      original.state = 'ended';
      await say(this.result(command, 'restored', { reason: 'restored', message: 'put back by command', changes: [{ path: '/spec/replicas', before, after: original.before }] }));
      return { accepted: true, code: null, message: 'taken' };
    }
    this.kept.set(command.id, { command, before, state: 'done' });
    if (command.replicas !== null) this.change(name, command.replicas);
    await say(this.result(command, 'done', { message: 'changed', changes: [{ path: '/spec/replicas', before, after: command.replicas }] }));
    return { accepted: true, code: null, message: 'taken' };
  }

  private change(name: string, replicas: number): void {
    this.history.set(name, [...this.replicas(name), replicas]);
  }
}
