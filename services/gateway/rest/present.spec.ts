import { clusterResponse, deploymentResponse, podResponse } from '@upid/contracts';
import * as answers from '../answers.fixture.js';
import { checked } from './request.js';
import { hourOfWeekName, money, presentCluster, presentDeployment, presentPod, presentRecommendation, resourceName } from './present.js';
import { openApiDocument } from './openapi.js';
import { ROUTES } from './routes.js';

const NOW = Date.parse('2026-03-04T12:00:00Z');
const missing = { missing: 'cost is not there' };

it('rounds money for display alone', () => {
  expect(money('1')).toBe(0);
  expect(money('500')).toBe(0.000001);
  expect(money('-1500000000')).toBe(-1.5);
  expect(money('123456789012345678')).toBe(123456789.012346);
  expect(money(null)).toBeNull();
});

it('names hours of the week and resources', () => {
  expect(hourOfWeekName(0)).toBe('Mon 00:00');
  expect(hourOfWeekName(167)).toBe('Sun 23:00');
  expect(hourOfWeekName(null)).toBeNull();
  expect(resourceName({ namespace: 'shop', kind: 'StatefulSet', name: 'db' })).toBe('statefulset/shop/db');
});

it('spreads a workload\'s saving over its pods, and never above what one costs', () => {
  const pod = presentPod({ clusterId: 'demo', pod: answers.podAnswer, cost: { value: answers.costAnswer }, recommendations: { value: [answers.recommendation] }, replicas: 2, policy: 'default', nowMs: NOW });
  expect(podResponse.parse(pod)).toBeDefined();
  expect(pod.insights.cost_analysis.optimization_potential).toBeCloseTo(30.416667 / 2, 5);
  expect(pod.insights.idle_analysis.contributing_factors).toContain('business activity 100');
  expect(pod.insights.idle_analysis.cost_impact).toBeCloseTo(30.416667, 5);
});

it('leaves null what nobody could say, with the reason', () => {
  const pod = presentPod({ clusterId: 'demo', pod: answers.podAnswer, cost: missing, recommendations: missing, replicas: null, policy: 'default', nowMs: NOW });
  expect(pod.insights.cost_analysis).toMatchObject({ allocated_cost: null, monthly_projection: null, optimization_potential: null, currency: null });
  expect(pod.coverage.reasons).toMatchObject({ cost_analysis: 'cost is not there', recommendations: 'cost is not there' });
  const deployment = presentDeployment({ clusterId: 'demo', workload: answers.workloadAnswer, cost: missing, recommendations: missing, policy: 'default', nowMs: NOW });
  expect(deploymentResponse.parse(deployment).scaling_recommendation).toMatchObject({ current_replicas: 2, recommended_replicas: 2, zero_scaling: false });
});

it('does not add up two savings of one workload', () => {
  const other = { ...answers.recommendation, id: answers.JOB_ID, type: 'resource_optimization' as const, saving: { ...answers.recommendation.saving, estimated_savings: '10000000000' } };
  const deployment = presentDeployment({ clusterId: 'demo', workload: answers.workloadAnswer, cost: { value: answers.costAnswer }, recommendations: { value: [answers.recommendation, other] }, policy: 'default', nowMs: NOW });
  expect(deployment.cost_analysis.optimization_potential).toBeCloseTo(30.416667, 5);
  expect(deployment.cost_analysis.per_pod_efficiency).toBeCloseTo(0.01, 5);
});

it('sums up a cluster', () => {
  const cluster = presentCluster({ cluster: answers.clusterObject, clusterId: 'demo', name: 'shop', namespace: null, insight: answers.clusterAnswer, cost: { value: answers.clusterCostAnswer }, savings: { value: answers.savingsAnswer }, recommendations: { value: [answers.recommendation] }, nowMs: NOW });
  expect(clusterResponse.parse(cluster)).toMatchObject({ optimization_potential: 30.416667, total_monthly_cost: 43.452381, efficiency_metrics: { overall_efficiency: 0.01, idle_resource_percentage: 25 } });
  expect(cluster.strategic_recommendations).toMatchObject([{ type: 'idle_optimization', confidence: 97 }]);
  expect(presentRecommendation(answers.recommendation)).toMatchObject({ estimated_savings: 30.416667, bill_savings: null, resource: 'deployment/shop/promo' });
});

it('names each field that is not as expected', () => {
  expect(() => checked(ROUTES.analyzePod.body, { namespace: '' }, 'body')).toThrow(/body\.pod_name/);
  expect(() => checked(ROUTES.recommendations.query, { confidence_threshold: '2' }, 'query')).toThrow(/query\.confidence_threshold: a fraction from 0 to 1/);
  expect(checked(ROUTES.recommendations.query, {}, 'query').confidence_threshold).toBe(0.8);
});

it('describes every route, and none else, in OpenAPI', () => {
  const { paths } = openApiDocument() as { paths: Record<string, Record<string, { responses: Record<string, unknown> }>> };
  expect(Object.values(paths).flatMap((methods) => Object.keys(methods))).toHaveLength(Object.keys(ROUTES).length);
  expect(paths['/api/v1/optimize/deployment']?.post?.responses).toHaveProperty('202');
});
