import { Controller } from '@nestjs/common';
import { parseSubject, subjects } from '@upid/contracts';
import { ConsumeBatch, type BatchDelivery } from '@upid/platform';
import { AllocationService } from './allocation.service.js';

/** What intelligence says of each five minutes. */
@Controller()
export class RollupsConsumer {
  constructor(private readonly allocation: AllocationService) {}

  @ConsumeBatch({ stream: 'FACTS', subjects: [subjects.rollup('*')], durable: 'rollup', maxMessages: 200, maxBytes: 16 * 1024 * 1024, maxWaitMs: 20 })
  async rollups(messages: BatchDelivery[]): Promise<void> {
    await this.allocation.takeRollups(messages.map((message) => ({ clusterId: parseSubject(message.subject).clusterId, payload: message.payload, reject: (reason) => message.reject(reason) })));
  }
}
