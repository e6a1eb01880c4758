import { Controller } from '@nestjs/common';
import { parseSubject, QUERIES, recommendationEventSchema, subjects, type QueryParsed, type QueryResponse } from '@upid/contracts';
import { Consume, Query, type Delivery } from '@upid/platform';
import { InputsRepository } from '../allocation/inputs.repository.js';
import { SavingsRepository } from './savings.repository.js';
import { SavingsService } from './savings.service.js';

/** Recommendations in, savings out on request. */
@Controller()
export class SavingsHandler {
  constructor(private readonly service: SavingsService, private readonly repository: SavingsRepository, private readonly inputs: InputsRepository) {}

  @Consume({ stream: 'PUBLIC', subjects: [subjects.recommendationAll('*')], durable: 'recommendation' })
  async recommendation(message: Delivery): Promise<void> {
    const event = message.json(recommendationEventSchema);
    await this.repository.keep(await this.inputs.clusterNumber(parseSubject(message.subject).clusterId), event);
  }

  @Query('savings', QUERIES.cost.savings.request)
  savings(request: QueryParsed<'cost', 'savings'>): Promise<QueryResponse<'cost', 'savings'>> {
    return this.service.savings(request);
  }
}
