import { Controller } from '@nestjs/common';
import { QUERIES, type QueryParsed, type QueryResponse } from '@upid/contracts';
import { Query } from '@upid/platform';
import { InsightService } from './insight.service.js';

/** The questions of `QUERIES.intelligence`. */
@Controller()
export class InsightHandler {
  constructor(private readonly insight: InsightService) {}

  @Query('pod', QUERIES.intelligence.pod.request)
  pod(request: QueryParsed<'intelligence', 'pod'>): Promise<QueryResponse<'intelligence', 'pod'>> {
    return this.insight.pod(request);
  }

  @Query('workload', QUERIES.intelligence.workload.request)
  workload(request: QueryParsed<'intelligence', 'workload'>): Promise<QueryResponse<'intelligence', 'workload'>> {
    return this.insight.workload(request);
  }

  @Query('requests', QUERIES.intelligence.requests.request)
  requests(request: QueryParsed<'intelligence', 'requests'>): Promise<QueryResponse<'intelligence', 'requests'>> {
    return this.insight.requests(request);
  }

  @Query('cluster', QUERIES.intelligence.cluster.request)
  cluster(request: QueryParsed<'intelligence', 'cluster'>): Promise<QueryResponse<'intelligence', 'cluster'>> {
    return this.insight.clusterInsight(request);
  }

  @Query('coverage', QUERIES.intelligence.coverage.request)
  coverage(request: QueryParsed<'intelligence', 'coverage'>): Promise<QueryResponse<'intelligence', 'coverage'>> {
    return this.insight.coverage(request);
  }

  @Query('usage_history', QUERIES.intelligence.usage_history.request)
  usageHistory(request: QueryParsed<'intelligence', 'usage_history'>): Promise<QueryResponse<'intelligence', 'usage_history'>> {
    return this.insight.usageHistory(request);
  }

  @Query('latest', QUERIES.intelligence.latest.request)
  latest(request: QueryParsed<'intelligence', 'latest'>): Promise<QueryResponse<'intelligence', 'latest'>> {
    return this.insight.latest(request);
  }
}
