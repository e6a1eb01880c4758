import type { Autoscaler, UsagePeriod } from './history.js';

export interface AutoscaledRequest {
  readonly requestMillicores: number;
  readonly reason: string;
}

/** Head-room over the largest demand of an hour, for an autoscaler reacts within minutes and its demand is an hour's mean. */
const DEMAND_HEAD_ROOM = 1.1;
/** Above this share over its target an autoscaler at its maximum is short of replicas (its own tolerance is 10 %). */
const TOLERANCE = 1.1;

/**
 * The CPU request of a workload whose replicas follow CPU as a share of the request. A usage percentile is the wrong question
 * there: the autoscaler holds usage at `targetUtilization · request`, so each round of advice would multiply the request by
 * the target for ever. Request and replicas are solved together instead, from the demand of the whole workload
 * D = usage per replica · replicas, which the request does not change:
 * - short of replicas at its maximum: the request at which the maximum serves the largest demand;
 * - never above its minimum: the request at which the minimum just serves the largest demand;
 * - else the autoscaler steers, and any request is served by its own number of replicas: the present one stays.
 * Asked again after the change, each case answers the same: a fixed point in one step. Null where the replicas or the
 * present request are unknown.
 */
export function autoscaledRequest(periods: readonly UsagePeriod[], scaler: Autoscaler, currentMillicores: number | null): AutoscaledRequest | null {
  if (currentMillicores === null) return null;
  let largestDemand = 0;
  let known = false;
  let aboveMinimum = false;
  let short = false;
  for (const { cpuMeanMillicores, replicas } of periods) {
    if (cpuMeanMillicores === null || replicas === undefined || replicas <= 0) continue;
    known = true;
    largestDemand = Math.max(largestDemand, cpuMeanMillicores * replicas);
    if (replicas > scaler.minReplicas) aboveMinimum = true;
    if (replicas >= scaler.maxReplicas && cpuMeanMillicores > TOLERANCE * scaler.targetUtilization * currentMillicores) short = true;
  }
  if (!known) return null;
  const serving = (replicas: number) => (DEMAND_HEAD_ROOM * largestDemand) / (replicas * scaler.targetUtilization);
  if (short) {
    return { requestMillicores: Math.max(currentMillicores, serving(scaler.maxReplicas)), reason: `the autoscaler stood at its maximum of ${scaler.maxReplicas} replicas above its target: sized so that the maximum serves the largest demand` };
  }
  if (!aboveMinimum) {
    return { requestMillicores: Math.min(currentMillicores, serving(scaler.minReplicas)), reason: `the autoscaler never left its minimum of ${scaler.minReplicas} replicas: sized so that the minimum serves the largest demand` };
  }
  return { requestMillicores: currentMillicores, reason: 'the autoscaler steers replicas by CPU: the request it steers by is left alone' };
}
