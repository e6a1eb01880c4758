import { Controller } from '@nestjs/common';
import { parseSubject, resultEventSchema, subjects } from '@upid/contracts';
import { Consume, type Delivery } from '@upid/platform';
import { JobsService } from './jobs.service.js';

/** What agents report of commands, and what they did of themselves. */
@Controller()
export class ResultsConsumer {
  constructor(private readonly jobs: JobsService) {}

  @Consume({ stream: 'FACTS', subjects: [subjects.agent('*', 'result')], durable: 'result' })
  async result(message: Delivery): Promise<void> {
    await this.jobs.result(parseSubject(message.subject).clusterId, message.json(resultEventSchema));
  }
}
