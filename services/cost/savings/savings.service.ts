import { DAY_MS, HOUR_MS, toTimestamp, workloadKey, type QueryParsed, type QueryResponse } from '@upid/contracts';
import type { AnalysisRepository } from '../analysis/analysis.repository.js';
import type { AnalysisService } from '../analysis/analysis.service.js';
import { coverageOf, totalOfHours } from '../analysis/answers.js';
import { coveredMsOf, wholeHours } from '../analysis/coverage.js';
import { adviceOf, savingsOf, type GroupSavings } from './savings.js';
import type { SavingsRepository } from './savings.repository.js';

/** Costs are what the last day tells: savings are of what runs now. */
const costWindowMs = DAY_MS;

/** Answers what could be saved. */
export class SavingsService {
  constructor(
    private readonly repository: SavingsRepository, private readonly costs: AnalysisRepository, private readonly analysis: Pick<AnalysisService, 'cluster' | 'currentCosts'>, private readonly options: { readonly currency: string; readonly nowMs: () => number },
  ) {}

  /** @throws {UpidError} cluster_not_found */
  async savings(asked: QueryParsed<'cost', 'savings'>): Promise<QueryResponse<'cost', 'savings'>> {
    const { currency } = this.options;
    const nowMs = this.options.nowMs();
    const cluster = await this.analysis.cluster(asked.cluster_id);
    const range = wholeHours({ startMs: nowMs - costWindowMs, endMs: nowMs }, nowMs);
    const [standing, workloads, nodes, hours] = await Promise.all([
      this.repository.standing(cluster.number), this.analysis.currentCosts(cluster, { start: toTimestamp(range.startMs), end: toTimestamp(range.endMs), workloads: null }), this.costs.nodeSums(cluster.number, currency, range), this.costs.coveredHours(cluster.number, currency, range),
    ]);
    const coveredMs = coveredMsOf(hours, -Infinity);
    const saved = savingsOf({
      currency, horizonHours: asked.horizon_hours, advice: standing.map(adviceOf),
      workloads: new Map(workloads.map(({ answer, byNode }) => [workloadKey(answer.workload), { monthlyNanos: answer.cost.monthly_projection === null ? null : BigInt(answer.cost.monthly_projection), byNode }])),
      nodes: new Map(nodes.map((node) => [node.node, coveredMs === 0 ? 0n : (node.costNanos * 730n * BigInt(HOUR_MS)) / BigInt(coveredMs)])),
    });
    const of = ({ totalNanos, highConfidenceNanos, count }: GroupSavings) => ({ total: String(totalNanos), high_confidence: String(highConfidenceNanos), count });
    return {
      cluster_id: asked.cluster_id, currency, total: String(saved.totalNanos), high_confidence: String(saved.highConfidenceNanos), pods: of(saved.groups.pods), deployments: of(saved.groups.deployments), nodes: of(saved.groups.nodes),
      bill_savings: saved.billNanos === null ? null : String(saved.billNanos), bill_savings_reason: saved.billReason, horizon_hours: asked.horizon_hours,
      coverage: coverageOf({ hours, ...range, nowMs, sinceMs: null, total: totalOfHours([]), measuredMs: 0, presentMs: 0, uncharged: () => 0 }, {
        ...saved.reasons, ...(standing.length === 0 ? { savings: 'no recommendation stands: nothing is known that could be saved' } : {}),
      }),
    };
  }
}
