import { commandReceiptSchema, subjects, UpidError, type Command } from '@upid/contracts';
import type { Bus, Logger } from '@upid/platform';
import type { JobsRepository } from './jobs.repository.js';

/** How long until a command without a result is sent again. */
const AGAIN_MS = 5_000;

/** Sends commands into their agents' accounts, again and again until a result has come; the agent takes each id once. */
export class CommandsService {
  constructor(private readonly repository: JobsRepository, private readonly bus: Pick<Bus, 'request'>, private readonly log: Logger, private readonly nowMs: () => number) {}

  /** @returns whether there may be more to send */
  async step(): Promise<boolean> {
    const commands = await this.repository.takeUnsent(this.nowMs(), AGAIN_MS);
    await Promise.all(commands.map((command) => this.send(command)));
    return commands.length > 0;
  }

  private async send(command: Command): Promise<void> {
    // An expired one is not sent any more: the agent would refuse it. Only waking goes on for ever.
    if (command.verb !== 'restore' && this.nowMs() > Date.parse(command.expires_at)) return;
    try {
      const receipt = commandReceiptSchema.parse(await this.bus.request(subjects.command(command.cluster_id, 'execute'), command, { timeoutMs: 3_000 }));
      if (receipt.accepted) await this.repository.markTaken(command.id);
      else this.log.warn({ command_id: command.id, code: receipt.code }, `the agent did not take a command: ${receipt.message}`);
    } catch (error) {
      // The agent is away or slow: its next heartbeat asks for what waits, and this is tried again.
      if (!(error instanceof UpidError)) throw error;
      this.log.info({ command_id: command.id, cluster_id: command.cluster_id, code: error.code }, 'the agent could not be reached with a command');
    }
  }
}
