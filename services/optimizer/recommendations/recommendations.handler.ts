import { Controller } from '@nestjs/common';
import { assessmentEventSchema, parseSubject, QUERIES, subjects, workloadKey, type QueryParsed, type QueryResponse } from '@upid/contracts';
import { Consume, Query, type Delivery } from '@upid/platform';
import { RecommendationsRepository } from './recommendations.repository.js';

/** Assessments in, recommendations out on request. */
@Controller()
export class RecommendationsHandler {
  constructor(private readonly repository: RecommendationsRepository) {}

  @Consume({ stream: 'FACTS', subjects: [subjects.assessment('*')], durable: 'assessment' })
  async assessment(message: Delivery): Promise<void> {
    await this.repository.keepAssessments(parseSubject(message.subject).clusterId, message.json(assessmentEventSchema));
  }

  @Query('recommendations', QUERIES.optimizer.recommendations.request)
  async list(request: QueryParsed<'optimizer', 'recommendations'>): Promise<QueryResponse<'optimizer', 'recommendations'>> {
    const [recommendations, evaluatedAt] = await Promise.all([
      this.repository.list(request.cluster_id, { minimumConfidence: request.minimum_confidence, namespace: request.namespace, workloadKey: request.workload ? workloadKey(request.workload) : null }),
      this.repository.evaluatedAt(request.cluster_id),
    ]);
    return { recommendations, evaluated_at: evaluatedAt?.toISOString() ?? null };
  }
}
