import type { RecommendationEvent } from '@upid/contracts';
import { startService, type RunningService } from '@upid/platform';
import { startPostgres, waitFor, type TestPostgres } from '@upid/testing';
import { assessmentOf } from '../objects.fixture.js';
import { optimizerDefinition, type optimizerSettings } from '../optimizer.module.js';
import { CLUSTER, nameOf, policy, refOf, Shop } from '../shop.fixture.js';

describe('recommendations', () => {
  let postgres: TestPostgres;
  let shop: Shop;
  let service: RunningService<typeof optimizerSettings>;

  beforeAll(async () => {
    postgres = await startPostgres();
    shop = await Shop.open(postgres);
    service = await startService(optimizerDefinition(policy), shop.environment());
    await shop.fill();
  });
  afterAll(async () => {
    await service?.stop();
    await shop?.close();
    await postgres?.stop();
  });

  it('advises sleep for what is idle, and takes the advice back when it is not', async () => {
    const number = 0;
    const of = (change: RecommendationEvent['change']) => shop.advice.filter((each) => each.change === change && each.recommendation.workload?.name === nameOf(number) && each.recommendation.type === 'zero_scaling');
    const appeared = await waitFor('advice', () => of('appeared')[0]);
    expect(appeared.recommendation).toMatchObject({ actionable: true, patch: { body: { spec: { replicas: 0 } } } });
    expect((await shop.ask('recommendations', { cluster_id: CLUSTER, minimum_confidence: 80, workload: refOf(number) })).recommendations).toEqual([appeared.recommendation]);
    const busy = assessmentOf();
    await shop.assess([number], { judgement: { ...busy.judgement, state: 'active', idle_probability: 5 }, pods_mean_idle_probability: 5 });
    const lapsed = await waitFor('the advice to lapse', () => of('lapsed')[0]);
    expect([lapsed.recommendation.id, lapsed.revision]).toEqual([appeared.recommendation.id, appeared.revision + 1]);
    expect((await shop.ask('recommendations', { cluster_id: CLUSTER, minimum_confidence: 0, workload: refOf(number) })).recommendations).toEqual([]);
  });
});
