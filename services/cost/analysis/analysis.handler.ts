import { Controller } from '@nestjs/common';
import { QUERIES, type QueryParsed, type QueryResponse } from '@upid/contracts';
import { Query } from '@upid/platform';
import { AnalysisService } from './analysis.service.js';

/** Questions of what things cost. */
@Controller()
export class AnalysisHandler {
  constructor(private readonly service: AnalysisService) {}

  @Query('analysis', QUERIES.cost.analysis.request)
  analysis(request: QueryParsed<'cost', 'analysis'>): Promise<QueryResponse<'cost', 'analysis'>> {
    return this.service.analyse(request);
  }

  @Query('cluster_cost', QUERIES.cost.cluster_cost.request)
  clusterCost(request: QueryParsed<'cost', 'cluster_cost'>): Promise<QueryResponse<'cost', 'cluster_cost'>> {
    return this.service.clusterCost(request);
  }

  @Query('workload_costs', QUERIES.cost.workload_costs.request)
  workloadCosts(request: QueryParsed<'cost', 'workload_costs'>): Promise<QueryResponse<'cost', 'workload_costs'>> {
    return this.service.workloadCosts(request);
  }
}
