import { CommandError } from '@upid/cli/client';
import {
  workloadKey, type ClusterListResponse, type ClusterResponse, type DeploymentResponse, type JobResponse, type PodResponse, type Policy, type Problem, type RestRecommendation, type SafetyCheck, type WorkloadKind, type WorkloadRef,
} from '@upid/contracts';
import { CONTROL_PLANE_TIMEOUT_MS, describeWithControlPlane, startPrometheus, waitFor, type ControlPlane, type KubernetesObject, type Pod, type TestPrometheus } from '@upid/testing';
import { historyOf } from './history.js';
import { Platform, SERVERS, SERVICES } from './platform.js';
import { marksIn, searchBus, searchCache, searchDatabase, searchFiles } from './privacy.js';
import { SHOP, startShop, type Shop } from './shop.js';
import { PRIVATE_MARK, type Traffic } from './traffic.js';

const CLUSTER = 'lab';
/** The reference's thresholds but for the times, which a test cannot wait for. */
const WALK_POLICY: Partial<Policy> = { name: 'walk', minimum_change_age_hours: 0, watch_seconds: 8, dead_man_minutes: 0.5, minimum_monthly_saving: 0 };
/** All that a job's judgement names. */
const CHECKS = [
  'autoscaler_ownership', 'business_activity', 'business_hours', 'confidence', 'criticality', 'dependencies', 'disruption_budget', 'gitops_ownership', 'idle_probability', 'ingress', 'kind', 'observation', 'opt_out', 'other_optimisers', 'owner', 'persistent_volumes',
  'protected_namespace', 'recent_deployment', 'service_mesh',
];
/** 60 of the web at 60m, 40 of the api at 40m, 20 workers at 180m and the rest are 10,200. */
const USED_MILLICORES = { least: 7_500, most: 11_000 };
const ANSWERED_WITHIN_MS = 120_000;
/** The simulated counters begin with their first reading and not with their container, so the first minute tells less than is used: until whole minutes outweigh it. */
const RIGHT_WITHIN_MS = 240_000;
const WOKEN_WITHIN_MS = 10_000;
const PROMO = '/apis/apps/v1/namespaces/preview/deployments/promo';
const RECORDS = '/api/v1/namespaces/upid-system/configmaps';

type Workload = KubernetesObject & { spec: { replicas?: number }; status?: { replicas?: number } };
type Refusal = Problem & { checks: (SafetyCheck & { target: string })[]; failed_checks: (SafetyCheck & { target: string })[] };
type Changed = { kind: 'record' | 'deployment'; version: bigint; replicas: number | null };

describeWithControlPlane('the walk through the house, on a real control plane', () => {
  let shop: Shop | undefined;
  let cluster: ControlPlane;
  let prometheus: TestPrometheus;
  let running: Platform | undefined;
  let traffic: Traffic;
  let agentReadyAtMs = 0;
  /** Everything that the gateway answered, to be searched at the end. */
  const answers: string[] = [];
  const failed = new Set<string>();

  function upid(): Platform {
    if (running === undefined) throw new Error('UPID has not been started');
    return running;
  }

  /** A step of the walk: what comes after a step that failed is not tried, since it stands on it. */
  function step(name: string, body: () => Promise<void>, timeoutMs = 180_000): void {
    it(name, async () => {
      const [before] = [...failed].filter((each) => each !== name);
      if (before !== undefined) throw new Error(`not tried: the step before it failed (${before})`);
      failed.add(name);
      await (running === undefined ? body() : running.telling(body));
      failed.delete(name);
    }, timeoutMs);
  }

  const keep = async <T>(answer: Promise<T>): Promise<T> => {
    try {
      const value = await answer;
      answers.push(JSON.stringify(value));
      return value;
    } catch (error) {
      if (error instanceof CommandError) answers.push(JSON.stringify(error.problem ?? error.message));
      throw error;
    }
  };
  const get = <T>(path: string, query: Record<string, string> = {}): Promise<T> => keep(upid().client.get<T>(`/api/v1${path}`, query));
  const post = <T>(path: string, body: unknown): Promise<T> => keep(upid().client.post<T>(`/api/v1${path}`, body));
  const analyze = (ref: WorkloadRef): Promise<DeploymentResponse> => post('/analyze/deployment', { deployment_name: ref.name, namespace: ref.namespace, options: { kind: ref.kind } });
  const promo = (): Promise<DeploymentResponse> => analyze({ namespace: 'preview', kind: 'Deployment', name: 'promo' });
  const job = (id: string): Promise<JobResponse> => get(`/optimization/status/${id}`);
  const lab = async (): Promise<ClusterListResponse['clusters'][number]> => {
    const { clusters } = await get<ClusterListResponse>('/clusters');
    const found = clusters.find((each) => each.cluster_id === CLUSTER);
    if (found === undefined) throw new Error(`the gateway knows no cluster ${CLUSTER}`);
    return found;
  };
  const deployed = (): Promise<Workload> => cluster.api.call<Workload>('GET', PROMO);

  /** What the gateway refuses a job with. */
  async function refusal(name: string, namespace: string): Promise<Refusal> {
    const refused = await post('/optimize/deployment', { deployment_name: name, namespace, optimization_type: 'zero_scaling' }).then(() => null, (error: unknown) => error);
    if (!(refused instanceof CommandError) || refused.problem === null) throw new Error(`the job on ${namespace}/${name} was not refused`, { cause: refused });
    return refused.problem as Refusal;
  }

  /** Starts a job on promo as soon as it is taken (right after a wake its rollout is in flight). @returns its id */
  async function startJob(dryRun = false): Promise<string> {
    return waitFor('the job to be taken', async () => (await post<{ job_id: string }>('/optimize/deployment', { deployment_name: 'promo', namespace: 'preview', optimization_type: 'zero_scaling', dry_run: dryRun })).job_id, { timeoutMs: 60_000, intervalMs: 500 });
  }

  /** Waits until a job is as wished; ends at once where it has ended otherwise. */
  async function jobThat(what: string, id: string, holds: (now: JobResponse) => boolean, timeoutMs = 60_000): Promise<JobResponse> {
    let now = await job(id);
    const alive = () => {
      if (!holds(now) && ['failed', 'refused', 'cancelled'].includes(now.status)) throw new Error(`job ${id} is ${now.status} and will not ${what}: ${JSON.stringify(now.error)}`);
    };
    return waitFor(`job ${id} to ${what}`, async () => {
      now = await job(id);
      return holds(now) ? now : undefined;
    }, { timeoutMs, intervalMs: 200, alive });
  }

  const jobIn = (id: string, status: JobResponse['status'], timeoutMs?: number): Promise<JobResponse> => jobThat(`be ${status}`, id, (now) => now.status === status, timeoutMs);

  const replicasBecome = (count: number, timeoutMs: number): Promise<Workload> => waitFor(`promo to have ${count} replicas`, async () => {
    const now = await deployed();
    return now.spec.replicas === count ? now : undefined;
  }, { timeoutMs, intervalMs: 50 });

  /**
   * Puts promo to sleep and waits until its pods are gone. A command that the agent refuses since the object has moved (right after a
   * restart the platform's picture may be some seconds old) is no failure: the job is started again, as a person would. @returns the job's id
   */
  async function sleep(): Promise<string> {
    const id = await waitFor('promo to be put to sleep', async () => {
      const started = await startJob();
      const now = await jobThat('come to an end', started, ({ applied, status }) => applied || status === 'failed', 30_000);
      if (now.applied) return started;
      expect(now.error?.code).toBe('resource_version_changed');
      return undefined;
    }, { timeoutMs: 60_000, intervalMs: 500 });
    expect((await deployed()).spec.replicas).toBe(0);
    await cluster.waitForPods('preview', 'app=promo', 0, 30_000);
    return id;
  }

  /** Writes a business request that no endpoint could answer, and waits for promo to be back. @returns how long it took, ms */
  async function wakeByRequest(): Promise<number> {
    const writtenMs = await traffic.write([{ service: 'promo', kind: 'business', status: 503 }]);
    await replicasBecome(2, WOKEN_WITHIN_MS);
    return Date.now() - writtenMs;
  }

  /** Records and promo's versions as they came, from now on, in the order of the cluster's own history. */
  async function watchChanges(): Promise<{ changes: Changed[]; stop(): void }> {
    const stop = new AbortController();
    const changes: Changed[] = [];
    const follow = async (kind: Changed['kind'], path: string) => {
      const { metadata } = await cluster.api.call<{ metadata: { resourceVersion: string } }>('GET', `${path}?limit=1`);
      void (async () => {
        for await (const { object } of cluster.api.watch<Workload>(path, metadata.resourceVersion, stop.signal)) {
          if (kind === 'deployment' && object.metadata?.name !== 'promo') continue;
          changes.push({ kind, version: BigInt(object.metadata?.resourceVersion ?? 0), replicas: kind === 'deployment' ? (object.spec.replicas ?? null) : null });
        }
      })().catch((error: unknown) => { if (!stop.signal.aborted) throw error; });
    };
    await follow('record', RECORDS);
    await follow('deployment', '/apis/apps/v1/namespaces/preview/deployments');
    return { changes, stop: () => stop.abort() };
  }

  async function records(): Promise<{ name: string; state: string; changes: unknown }[]> {
    const found = await cluster.api.list<KubernetesObject & { data: { record: string } }>(RECORDS, { labelSelector: 'upid.io/record=change' });
    return found.map(({ metadata, data }) => {
      const { state, changes } = JSON.parse(data.record) as { state: string; changes: unknown };
      return { name: metadata?.name ?? '', state, changes };
    });
  }

  step('a shop of 200 pods runs on 20 nodes, and UPID beside it', async () => {
    shop = await startShop();
    ({ cluster, traffic } = shop);
    running = await Platform.start(cluster, { clusterId: CLUSTER, kubeconfig: shop.kubeconfig, allowChanges: true, env: { UPID_SCRAPE_SECONDS: '15' } });
    agentReadyAtMs = Date.now();
  }, CONTROL_PLANE_TIMEOUT_MS);

  afterAll(async () => {
    await shop?.traffic.stop();
    await running?.stop();
    await prometheus?.stop();
    await shop?.cluster.stop();
  });

  step('the agent finds every node, every pod and its owner', async () => {
    const summary = await waitFor('all pods in the list of clusters', async () => {
      const found = await lab();
      return found.nodes === SHOP.nodes && found.pods === SHOP.pods + SHOP.agentPods && found.connected ? found : undefined;
    }, { timeoutMs: 60_000, intervalMs: 500 });
    expect(summary).toMatchObject({ provider: 'aws', distribution: 'eks', region: 'eu-central-1', demo: false, actuation: true, held: false, sleepers: 0 });

    const lease = await cluster.api.call<{ spec: { holderIdentity?: string } }>('GET', '/apis/coordination.k8s.io/v1/namespaces/upid-system/leases/upid-agent');
    expect(lease.spec.holderIdentity).toMatch(/^[0-9a-f-]{36}$/);

    const truth = ownersOf(await cluster.pods(), await cluster.api.list('/apis/apps/v1/replicasets'), await cluster.api.list('/apis/batch/v1/jobs'));
    expect(truth.size).toBeGreaterThanOrEqual(14);
    expect(new Set([...truth.values()].map(({ ref }) => ref.kind))).toEqual(new Set<WorkloadKind>(['Deployment', 'StatefulSet', 'DaemonSet', 'Job', 'CronJob', 'ReplicaSet', 'Pod']));
    for (const { ref, pods } of truth.values()) {
      const told = await waitFor(`the pods of ${workloadKey(ref)}`, async () => {
        const answer = await analyze(ref);
        return answer.pods.length === pods.length ? answer : undefined;
      }, { timeoutMs: 60_000, intervalMs: 500 });
      expect({ ...ref, pods: told.pods.map(({ name }) => name).sort() }).toEqual({ ...ref, pods: [...pods].sort() });
    }
  });

  step('cost and utilisation are answered within two minutes, and idle is unknown with what is missing', async () => {
    const left = () => Math.max(1_000, agentReadyAtMs + ANSWERED_WITHIN_MS - Date.now());
    const whole = await waitFor('cost and utilisation of the cluster', async () => {
      const answer = await post<ClusterResponse>('/analyze/cluster', { cluster_id: CLUSTER });
      const { cpu, memory } = answer.resource_utilization;
      if (answer.total_monthly_cost === null || cpu.used === null || memory.used === null) throw new Error(`cost ${answer.total_monthly_cost}, CPU ${cpu.used}, memory ${memory.used}`);
      return answer;
    }, { timeoutMs: left(), intervalMs: 1_000 });
    const { cpu, memory } = whole.resource_utilization;
    expect(cpu.capacity).toBe(SHOP.nodes * 4_000);
    expect(cpu.allocatable).toBe(SHOP.nodes * 3_900);
    expect(memory.capacity).toBe(SHOP.nodes * 16 * 2 ** 30);
    expect(cpu.used).toBeGreaterThan(0);
    // 14 nodes at the list price of 0.23 an hour and 6 on spot for less: each for 730 hours.
    expect(whole.total_monthly_cost).toBeGreaterThan(14 * 0.23 * 730 * 0.98);
    expect(whole.total_monthly_cost).toBeLessThan(20 * 0.23 * 730);
    expect(whole.cost_breakdown.currency).toBe('USD');
    for (const namespace of ['shop', 'batch', 'ops', 'preview']) expect(whole.cost_breakdown.cost_per_namespace[namespace]).toBeGreaterThan(0);
    for (const kind of ['Deployment', 'StatefulSet', 'DaemonSet', 'Job']) expect(whole.cost_breakdown.cost_per_workload_type[kind]).toBeGreaterThan(0);

    const one = await waitFor('cost and usage of a workload', async () => {
      const answer = await promo();
      return answer.cost_analysis.allocated_cost !== null && answer.cost_analysis.waste_percentage !== null && answer.pods.every(({ cpu_millicores: used }) => used !== null) ? answer : undefined;
    }, { timeoutMs: left(), intervalMs: 1_000 });
    expect(one).toMatchObject({ total_pods: 2, state: 'unknown', idle_analysis: { state: 'unknown', policy: 'default' }, scaling_recommendation: { current_replicas: 2, zero_scaling: false }, cost_analysis: { currency: 'USD', price_source: 'price_list' } });
    expect(one.idle_analysis.missing.join(' ')).toMatch(/24/);
    expect(one.cost_analysis.waste_percentage).toBeGreaterThan(90);
    const [pod] = one.pods;
    const podAnswer = await waitFor('cost of a pod', async () => {
      const answer = await post<PodResponse>('/analyze/pod', { pod_name: pod?.name, namespace: 'preview' });
      return answer.insights.cost_analysis.daily_cost === null ? undefined : answer;
    }, { timeoutMs: left(), intervalMs: 1_000 });
    expect(podAnswer.insights.idle_analysis.state).toBe('unknown');
    expect(podAnswer.insights.cost_analysis.daily_cost).toBeGreaterThan(0);
    const workloads = await waitFor('every workload to be judged', async () => {
      const answer = await get<{ workloads: { state: string }[] }>(`/intelligence/cluster/${CLUSTER}`);
      return answer.workloads.length >= 14 ? answer.workloads : undefined;
    }, { timeoutMs: left(), intervalMs: 1_000 });
    expect([...new Set(workloads.map(({ state }) => state))]).toEqual(['unknown']);

    const used = await waitFor('utilisation to be right', async () => {
      const { used: now } = (await post<ClusterResponse>('/analyze/cluster', { cluster_id: CLUSTER })).resource_utilization.cpu;
      return now !== null && now >= USED_MILLICORES.least ? now : undefined;
    }, { timeoutMs: RIGHT_WITHIN_MS, intervalMs: 1_000 });
    expect(used).toBeLessThan(USED_MILLICORES.most);
  }, ANSWERED_WITHIN_MS + RIGHT_WITHIN_MS + 60_000);

  step('a job is refused under the default policy for want of observation, age and confidence, and for nothing else', async () => {
    const refused = await waitFor('every other check to hold', async () => {
      const answer = await refusal('promo', 'preview');
      return answer.failed_checks.length <= 3 ? answer : undefined;
    }, { timeoutMs: 150_000, intervalMs: 1_000 });
    expect(refused).toMatchObject({ status: 409, code: 'unsafe', policy: 'default' });
    expect(refused.failed_checks.map(({ name }) => name).sort()).toEqual(['confidence', 'observation', 'recent_deployment']);
    expect(refused.checks.map(({ name }) => name).sort()).toEqual(CHECKS);
    expect((await deployed()).spec.replicas).toBe(2);
    expect(await records()).toEqual([]);
  }, 200_000);

  step('with two weeks of history what gets only probes is idle, and what customers ask is not', async () => {
    const now = new Date();
    const pods = await cluster.pods('preview');
    const of = (name: string) => pods.filter(({ metadata }) => metadata.labels?.['app'] === name);
    const daily = (seconds: number, low: number, high: number) => ((seconds / 3_600) % 24 >= 7 && (seconds / 3_600) % 24 < 21 ? high : low);
    prometheus = await startPrometheus({
      series: historyOf('preview', [
        { name: 'promo', pods: of('promo'), cpuMillicores: () => 4, memoryBytes: 64 * 2 ** 20, receiveBytesPerSecond: () => 150, requests: [{ path: '/healthz', perSecond: () => 0.2 }] },
        { name: 'landing', pods: of('landing'), cpuMillicores: (at) => daily(at, 20, 80), memoryBytes: 64 * 2 ** 20, receiveBytesPerSecond: (at) => daily(at, 2_000, 9_000), requests: [{ path: '/', perSecond: (at) => daily(at, 0.3, 4) }] },
      ], { days: 14, now }),
    });
    await upid().restart({ policy: WALK_POLICY, env: { UPID_SCRAPE_SECONDS: '15', UPID_PROMETHEUS_URL: prometheus.url, UPID_BACKFILL_DAYS: '14', UPID_BACKFILL_LOAD: '1' } });
    await waitFor('the history to be read', async () => (await lab()).data_coverage.backfill?.done === true, { timeoutMs: 240_000, intervalMs: 1_000 });

    const idle = await waitFor('promo to be named idle', async () => {
      const answer = await promo();
      return answer.state === 'idle' ? answer : undefined;
    }, { timeoutMs: 150_000, intervalMs: 1_000 });
    expect(idle.idle_analysis).toMatchObject({ policy: 'walk', state: 'idle' });
    expect(idle.idle_analysis.idle_probability).toBeGreaterThan(95);
    expect(idle.idle_analysis.observed_hours).toBeGreaterThan(150);
    expect(idle.idle_analysis.factors.find(({ name }) => name === 'business_activity')?.score).toBe(100);
    const asked = await analyze({ namespace: 'preview', kind: 'Deployment', name: 'landing' });
    expect(asked.state).not.toBe('idle');
    expect(asked.state).not.toBe('unknown');
    expect(asked.business_impact.total_daily_requests).toBeGreaterThan(1_000);
    const advice = await waitFor('the recommendation to put promo to sleep', async () => {
      const { recommendations } = await get<{ recommendations: RestRecommendation[] }>(`/recommendations/cluster/${CLUSTER}`, { confidence_threshold: '0' });
      return recommendations.some(({ type }) => type === 'zero_scaling') ? recommendations : undefined;
    }, { timeoutMs: 90_000, intervalMs: 1_000 });
    const asleep = advice.filter(({ type }) => type === 'zero_scaling');
    expect(asleep.map(({ resource }) => resource)).toEqual(['deployment/preview/promo']);
    expect(asleep[0]).toMatchObject({ actionable: true, patch: { kind: 'Deployment', namespace: 'preview', name: 'promo', body: { spec: { replicas: 0 } } } });
    expect(asleep[0]?.estimated_savings).toBeGreaterThan(0);
  }, 500_000);

  step('a critical workload is refused with every check', async () => {
    const refused = await refusal('checkout', 'shop');
    expect(refused).toMatchObject({ status: 409, code: 'unsafe', policy: 'walk' });
    expect(refused.checks.map(({ name }) => name).sort()).toEqual(CHECKS);
    expect(refused.checks.find(({ name }) => name === 'criticality')).toMatchObject({ outcome: 'failed', target: 'shop/Deployment/checkout', reason: expect.stringContaining('critical') });
    expect(refused.failed_checks.map(({ name }) => name)).toContain('criticality');
    for (const check of refused.checks) expect(check.reason).not.toBe('');
  });

  step('a dry run changes nothing', async () => {
    const before = await deployed();
    const done = await jobIn(await startJob(true), 'completed');
    expect(done).toMatchObject({ dry_run: true, applied: false, actor: 'local', policy: 'walk', plan: { changes: [{ path: '/spec/replicas', before: 2, after: 0 }] }, result: { dry_run: true } });
    const after = await deployed();
    expect(after.metadata?.generation).toBe(before.metadata?.generation);
    expect(untouched(after)).toEqual(untouched(before));
    expect(await records()).toEqual([]);
  });

  step('a job scales the real Deployment to zero, with its way back recorded first, and rollback puts back exactly that', async () => {
    const before = await deployed();
    const watched = await watchChanges();
    const id = await sleep();
    watched.stop();
    const recorded = watched.changes.find(({ kind }) => kind === 'record');
    const scaled = watched.changes.find(({ kind, replicas }) => kind === 'deployment' && replicas === 0);
    expect(recorded).toBeDefined();
    expect(scaled).toBeDefined();
    expect(recorded?.version ?? 0n).toBeLessThan(scaled?.version ?? 0n);
    expect(await records()).toEqual([{ name: expect.stringMatching(/^upid-/), state: 'done', changes: [{ path: '/spec/replicas', before: 2, after: 0 }] }]);
    expect(untouched(await deployed())).toEqual({ ...untouched(before), spec: { ...(before.spec as object), replicas: 0 } });

    const done = await jobIn(id, 'completed');
    expect(done).toMatchObject({ applied: true, progress: 100, error: null });
    expect(done.steps.filter(({ status }) => status === 'done').map(({ name }) => name)).toEqual(['validate', 'plan', 'execute', 'watch']);
    await waitFor('the sleeper in the list of clusters', async () => (await lab()).sleepers === 1, { intervalMs: 500 });

    await post(`/optimization/rollback/${id}`, {});
    const back = await jobIn(id, 'rolled_back');
    expect(back).toMatchObject({ applied: false, result: { outcome: 'restored', restored: [{ path: '/spec/replicas', before: 0, after: 2 }] } });
    expect(untouched(await deployed())).toEqual(untouched(before));
    await cluster.waitForPods('preview', 'app=promo', 2);
    expect((await records()).map(({ state }) => state)).not.toContain('done');
  });

  step('a business request wakes a sleeper within ten seconds', async () => {
    const before = await deployed();
    const id = await sleep();
    // Probes go on and wake nobody.
    await jobIn(id, 'completed');
    expect((await deployed()).spec.replicas).toBe(0);
    expect(await wakeByRequest()).toBeLessThan(WOKEN_WITHIN_MS);
    expect(await jobIn(id, 'rolled_back')).toMatchObject({ applied: false, result: { outcome: 'woken', reason: 'business_request' } });
    expect(untouched(await deployed())).toEqual(untouched(before));
    await cluster.waitForPods('preview', 'app=promo', 2);
  });

  step('the agent wakes it alone when every other process is dead, and the job says so afterwards', async () => {
    const id = await sleep();
    const others = [...SERVERS, ...SERVICES];
    const pids = others.map((name) => upid().pid(name));
    await upid().kill(...others);
    expect(await wakeByRequest()).toBeLessThan(WOKEN_WITHIN_MS);
    for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow('ESRCH');
    await cluster.waitForPods('preview', 'app=promo', 2);
    await upid().startAgain(...others);
    expect(await jobIn(id, 'rolled_back', 90_000)).toMatchObject({ applied: false, result: { outcome: 'woken', reason: 'business_request' } });
    expect((await deployed()).spec.replicas).toBe(2);
  }, 240_000);

  step('an opt-out wakes a sleeper and keeps it awake', async () => {
    const id = await sleep();
    const annotate = (value: string | null) => cluster.api.call('PATCH', PROMO, { metadata: { annotations: { 'upid.io/exclude': value } } });
    await annotate('true');
    await replicasBecome(2, WOKEN_WITHIN_MS);
    expect(await jobIn(id, 'rolled_back')).toMatchObject({ result: { outcome: 'woken', reason: 'opted_out' } });
    await waitFor('the opt-out to be seen', async () => (await refusal('promo', 'preview')).failed_checks.some(({ name }) => name === 'opt_out'), { intervalMs: 300 });
    await annotate(null);
  });

  step('what sleeps is woken when its requests can no longer be seen', async () => {
    const id = await sleep();
    await traffic.stop();
    await cluster.scale('Deployment', 'ingress-nginx', 'ingress-nginx-controller', 0);
    await cluster.waitForPods('ingress-nginx', '', 0);
    const goneMs = Date.now();
    await replicasBecome(2, 90_000);
    // Half a minute by the policy, and not at once.
    expect(Date.now() - goneMs).toBeGreaterThan(15_000);
    expect(await jobIn(id, 'rolled_back')).toMatchObject({ result: { outcome: 'woken', reason: 'telemetry_lost' } });
  });

  step('nothing private is on the bus, in the database, in the cache, in logs, in the agent\'s folder or in answers', async () => {
    // Ask for everything there is to ask once more.
    for (const { ref, pods } of ownersOf(await cluster.pods(), await cluster.api.list('/apis/apps/v1/replicasets'), await cluster.api.list('/apis/batch/v1/jobs')).values()) {
      await analyze(ref).catch(notFound);
      await post('/analyze/pod', { pod_name: pods[0], namespace: ref.namespace }).catch(notFound);
    }
    for (const namespace of ['shop', 'preview', 'ingress-nginx']) await post('/analyze/namespace', { namespace });
    await get('/optimization/jobs');
    await get(`/savings/potential/${CLUSTER}`);
    await get(`/cost/analysis/deployment/web`, { namespace: 'shop' });

    // The cache was emptied when its server was killed: usage fills it again each minute.
    await waitFor('the cache to hold latest values', async () => (await searchCache(upid())).looked.keys !== 0, { timeoutMs: 90_000, intervalMs: 1_000 });

    // It is there to be found: what is searched for stands in the cluster.
    const seeded = JSON.stringify([await cluster.api.list('/apis/apps/v1/deployments'), await cluster.api.list('/api/v1/secrets')]);
    expect(marksIn('the cluster', seeded)).not.toEqual([]);
    for (const part of ['environment', 'annotation', 'argument', 'env-query']) expect(seeded).toContain(`${PRIVATE_MARK}-${part}`);

    const [bus, database, cache, files] = [await searchBus(upid()), await searchDatabase(upid()), await searchCache(upid()), await searchFiles(upid())];
    const told = answers.flatMap((answer, index) => marksIn(`answer ${index}`, answer));
    expect([...bus.findings, ...database.findings, ...cache.findings, ...files.findings, ...told].slice(0, 10)).toEqual([]);
    // The searches looked at something.
    expect(bus.looked.TELEMETRY).toBeGreaterThan(100);
    expect(bus.looked.FACTS).toBeGreaterThan(50);
    expect(bus.looked.PUBLIC).toBeGreaterThan(10);
    expect(Object.keys(database.looked).sort()).toEqual(expect.arrayContaining(['cost', 'gateway', 'intelligence', 'optimizer']));
    expect(cache.looked.keys).toBeGreaterThan(0);
    expect(files.looked.bytes).toBeGreaterThan(1_000);
    expect(answers.length).toBeGreaterThan(50);
    expect(bus.looked.DLQ).toBe(0);
  });
});

/** Pods by the top of their owner chain, as a look at the API tells it. */
function ownersOf(pods: readonly Pod[], replicaSets: readonly KubernetesObject[], jobs: readonly KubernetesObject[]): Map<string, { ref: WorkloadRef; pods: string[] }> {
  const above = new Map([...replicaSets, ...jobs].map(({ metadata }) => [metadata?.uid ?? '', metadata?.ownerReferences?.find((each) => each.controller)]));
  const owners = new Map<string, { ref: WorkloadRef; pods: string[] }>();
  for (const { metadata } of pods) {
    let owner = metadata.ownerReferences?.find((each) => each.controller);
    while (owner !== undefined && above.get(owner.uid) !== undefined) owner = above.get(owner.uid);
    const ref: WorkloadRef = { namespace: metadata.namespace, kind: (owner?.kind ?? 'Pod') as WorkloadKind, name: owner?.name ?? metadata.name };
    const known = owners.get(workloadKey(ref)) ?? { ref, pods: [] };
    known.pods.push(metadata.name);
    owners.set(workloadKey(ref), known);
  }
  return owners;
}

/** An object without what every write moves. */
function untouched({ metadata = {}, status: _status, ...rest }: Workload): object {
  const { resourceVersion: _version, generation: _generation, managedFields: _managers, ...kept } = metadata as typeof metadata & { managedFields?: unknown };
  return { ...rest, metadata: kept };
}

/** A pod or workload that went while it was asked for. */
function notFound(error: unknown): void {
  if (!(error instanceof CommandError) || error.problem?.code !== 'not_found') throw error;
}
