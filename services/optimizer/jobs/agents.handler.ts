import { Controller } from '@nestjs/common';
import { heartbeatSchema, parseSubject, subjects, type Heartbeat, type HeartbeatReply } from '@upid/contracts';
import { InventoryMirror, Serve } from '@upid/platform';
import { JobsRepository } from './jobs.repository.js';
import { JobsService } from './jobs.service.js';

/** Agents ask every few seconds what waits for them; the answer also holds them back where everything is stopped. */
@Controller()
export class AgentsHandler {
  constructor(private readonly repository: JobsRepository, private readonly jobs: JobsService, private readonly inventory: InventoryMirror) {}

  @Serve(subjects.agent('*', 'heartbeat'), heartbeatSchema)
  async heartbeat({ subject, body }: { subject: string; body: Heartbeat }): Promise<HeartbeatReply> {
    const { clusterId } = parseSubject(subject);
    const fingerprint = await this.repository.keepHeartbeat(clusterId, body);
    const hold = await this.jobs.isHeld(clusterId);
    if (fingerprint !== body.fingerprint) {
      return { accepted: false, reason: `cluster id ${clusterId} belongs to the cluster with fingerprint ${fingerprint}: register this one under another id`, commands: [], hold: true, want_snapshot: false };
    }
    const mirrored = (await this.inventory.clusters()).find((each) => each.clusterId === clusterId);
    return { accepted: true, reason: null, commands: await this.repository.takeWaiting(clusterId), hold, want_snapshot: mirrored === undefined || mirrored.needsSnapshot };
  }
}
