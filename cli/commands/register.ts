import { setTimeout as delay } from 'node:timers/promises';
import { type Command, InvalidArgumentError } from 'commander';
import { ENDED_JOB_STATUSES, jobResponse, safetyCheckSchema, type ClusterListResponse, type ClusterResponse, type DeploymentResponse, type JobResponse, type PodResponse, type RestRecommendation, type SavingsResponse } from '@upid/contracts';
import { stringify } from 'yaml';
import { z } from 'zod';
import { CommandError, EXIT, GatewayClient } from '../client.js';
import { StateFolder } from '../up/state.js';
import { showCluster, showClusters, showCost, showDeployment, showJob, showJobs, showPod, showRecommendations, showSavings, type CostAnswer } from './show.js';
import { table } from './text.js';

interface Common { state: string; url?: string; apiKeyFile?: string; cluster?: string; output: 'table' | 'json' | 'yaml' }

function output(text: string): Common['output'] {
  if (text !== 'table' && text !== 'json' && text !== 'yaml') throw new InvalidArgumentError('the forms are table, json, yaml');
  return text;
}

function fraction(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 100)) throw new InvalidArgumentError('a confidence is a number from 0 to 100');
  return value;
}

async function clientOf(options: Common): Promise<GatewayClient> {
  const state = new StateFolder(options.state);
  const url = options.url ?? process.env.UPID_URL ?? (await state.readRun())?.url ?? 'http://127.0.0.1:8000';
  return process.env.UPID_API_KEY && options.apiKeyFile === undefined ? new GatewayClient(url, process.env.UPID_API_KEY) : GatewayClient.open(url, options.apiKeyFile ?? state.apiKeyFile);
}

function print(options: Common, value: unknown, text: () => string): void {
  console.log(options.output === 'json' ? JSON.stringify(value, null, 2) : options.output === 'yaml' ? stringify(value).trimEnd() : text());
}

/** The cluster that a path names: the option, else the only one there is. */
async function clusterIn(client: GatewayClient, options: Common): Promise<string> {
  if (options.cluster) return options.cluster;
  const { clusters } = await client.get<ClusterListResponse>('/api/v1/clusters');
  const [only, more] = clusters;
  if (!only) throw new CommandError('No cluster has reported yet.', EXIT.notFound);
  if (more) throw new CommandError(`Name a cluster with --cluster: ${clusters.map((each) => each.cluster_id).join(', ')}.`, EXIT.usage);
  return only.cluster_id;
}

/** The commands that ask a running gateway. */
export function registerClientCommands(program: Command, stateOption: readonly [string, string, string]): void {
  const common = (command: Command) => command.option(...stateOption).option('--url <url>', 'where the gateway is').option('--api-key-file <file>', 'file with the API key').option('--cluster <id>', 'cluster').option('-o, --output <form>', 'table, json or yaml', output, 'table' as const);

  common(program.command('clusters')).action(async (options: Common) => {
    const answer = await (await clientOf(options)).get<ClusterListResponse>('/api/v1/clusters');
    print(options, answer, () => showClusters(answer));
  });

  common(program.command('analyze').argument('<what>').argument('[name]')).option('-n, --namespace <namespace>', 'namespace', 'default').option('--range <range>', 'time range', '7d').option('--kind <kind>', 'kind of workload')
    .action(async (what: string, name: string | undefined, options: Common & { namespace: string; range: string; kind?: string }) => {
      const client = await clientOf(options);
      const body = { cluster_id: options.cluster, options: { time_range: options.range, ...(options.kind ? { kind: options.kind } : {}) } };
      const named = (): string => {
        if (name === undefined) throw new CommandError(`Which ${what}? upid analyze ${what} NAME${what === 'namespace' ? '' : ' -n NAMESPACE'}`, EXIT.usage);
        return name;
      };
      switch (what) {
        case 'pod': {
          const answer = await client.post<PodResponse>('/api/v1/analyze/pod', { ...body, pod_name: named(), namespace: options.namespace });
          return print(options, answer, () => showPod(answer));
        }
        case 'deployment':
        case 'workload': {
          const answer = await client.post<DeploymentResponse>('/api/v1/analyze/deployment', { ...body, deployment_name: named(), namespace: options.namespace });
          return print(options, answer, () => showDeployment(answer));
        }
        case 'namespace': {
          const answer = await client.post<ClusterResponse>('/api/v1/analyze/namespace', { ...body, namespace: named() });
          return print(options, answer, () => showCluster(answer));
        }
        case 'cluster': {
          const answer = await client.post<ClusterResponse>('/api/v1/analyze/cluster', { ...body, ...(name === undefined ? {} : { cluster_name: name }) });
          return print(options, answer, () => showCluster(answer));
        }
        default:
          throw new CommandError(`${JSON.stringify(what)} cannot be analyzed: pod, deployment, namespace, cluster.`, EXIT.usage);
      }
    });

  common(program.command('recommendations')).option('--min-confidence <percent>', 'from 0 to 100', fraction, 80).option('-n, --namespace <namespace>', 'of one namespace')
    .action(async (options: Common & { minConfidence: number; namespace?: string }) => {
      const client = await clientOf(options);
      const answer = await client.get<{ recommendations: RestRecommendation[]; evaluated_at: string | null }>(`/api/v1/recommendations/cluster/${await clusterIn(client, options)}`, { confidence_threshold: options.minConfidence / 100, namespace: options.namespace });
      print(options, answer, () => showRecommendations(answer.recommendations, answer.evaluated_at));
    });

  common(program.command('savings')).option('--horizon <length>', 'over how long', '30d').action(async (options: Common & { horizon: string }) => {
    const client = await clientOf(options);
    const answer = await client.get<SavingsResponse>(`/api/v1/savings/potential/${await clusterIn(client, options)}`, { time_horizon: options.horizon });
    print(options, answer, () => showSavings(answer));
  });

  common(program.command('cost').argument('<type>').argument('<name>')).option('-n, --namespace <namespace>', 'namespace', 'default').option('--range <range>', 'time range', '7d')
    .action(async (type: string, name: string, options: Common & { namespace: string; range: string }) => {
      const answer = await (await clientOf(options)).get<CostAnswer>(`/api/v1/cost/analysis/${encodeURIComponent(type)}/${encodeURIComponent(name)}`, { namespace: options.namespace, time_range: options.range, cluster_id: options.cluster });
      print(options, answer, () => showCost(answer));
    });

  common(program.command('optimize').argument('<kind>').argument('<name>')).option('-n, --namespace <namespace>', 'namespace', 'default').option('--dry-run', 'change nothing').option('--type <type>', 'zero_scaling or resource_optimization', 'zero_scaling').option('--watch', 'follow it to its end')
    .action(async (kind: string, name: string, options: Common & { namespace: string; dryRun?: boolean; type: string; watch?: boolean }) => {
      const client = await clientOf(options);
      let answer: { job_id: string };
      try {
        answer = await client.post('/api/v1/optimize/deployment', { cluster_id: options.cluster, target_resources: [`${kind.toLowerCase()}/${options.namespace}/${name}`], optimization_type: options.type, dry_run: options.dryRun ?? false });
      } catch (error) {
        const checks = error instanceof CommandError ? z.array(safetyCheckSchema).safeParse(error.problem?.checks) : null;
        if (error instanceof CommandError && options.output !== 'table' && error.problem) print(options, error.problem, () => '');
        else if (checks?.success) console.error(`${table(['SAFETY CHECK', 'OUTCOME', 'REASON'], checks.data.map((check) => [check.name, check.outcome.replace('_', ' '), check.reason]))}\n`);
        throw error;
      }
      const job = options.dryRun || options.watch ? await watch(client, answer.job_id, options) : await client.get<JobResponse>(`/api/v1/optimization/status/${answer.job_id}`);
      print(options, job, () => showJob(job));
      if (job.status === 'failed') throw new CommandError(`The job failed: ${job.error?.message ?? 'no reason given'}`, EXIT.failed);
      if (job.status === 'refused') throw new CommandError(`The job was refused: ${job.error?.message ?? 'no reason given'}`, EXIT.unsafe);
    });

  const jobs = program.command('jobs');
  common(jobs.command('list', { isDefault: true })).option('--applied', 'whose change stands').action(async (options: Common & { applied?: boolean }) => {
    const answer = await (await clientOf(options)).get<{ jobs: JobResponse[] }>('/api/v1/optimization/jobs', { cluster_id: options.cluster, applied: options.applied ? 'true' : undefined });
    print(options, answer, () => showJobs(answer.jobs));
  });
  common(jobs.command('show').argument('<id>')).option('-w, --watch', 'follow it to its end').action(async (id: string, options: Common & { watch?: boolean }) => {
    const client = await clientOf(options);
    const job = options.watch ? await watch(client, id, options) : await client.get<JobResponse>(`/api/v1/optimization/status/${encodeURIComponent(id)}`);
    print(options, job, () => showJob(job));
  });
  for (const verb of ['cancel', 'rollback'] as const) {
    common(jobs.command(verb).argument('<id>')).option('--no-wait', 'do not wait for its end').action(async (id: string, options: Common & { wait: boolean }) => {
      const client = await clientOf(options);
      let job = await client.post<JobResponse>(`/api/v1/optimization/${verb}/${encodeURIComponent(id)}`, {});
      if (options.wait && !ENDED_JOB_STATUSES.includes(job.status)) job = await watch(client, id, options);
      print(options, job, () => showJob(job));
      if (job.status === 'failed') throw new CommandError(`It could not be put back: ${job.error?.message ?? 'no reason given'}`, EXIT.failed);
    });
  }

  const hold = (name: string, body: { hold: boolean | null; restore: boolean }, said: (answer: { restoring: string[] }) => string) => common(program.command(name)).action(async (options: Common) => {
    const client = await clientOf(options);
    const answer = await client.post<{ held: string[]; all_held: boolean; restoring: string[] }>('/api/v1/stop', { ...body, cluster_id: options.cluster });
    for (const id of answer.restoring) await watch(client, id, { ...options, output: options.output === 'table' ? 'table' : options.output });
    print(options, answer, () => said(answer));
  });
  hold('stop', { hold: true, restore: false }, () => 'Every action is held; waking goes on. `upid resume` lets jobs start again.');
  hold('resume', { hold: false, restore: false }, () => 'Jobs may start again.');
  hold('restore-all', { hold: null, restore: true }, (answer) => (answer.restoring.length === 0 ? 'Nothing sleeps.' : `Woke ${answer.restoring.length} workload${answer.restoring.length === 1 ? '' : 's'}.`));
}

/** Follows a job to its end, telling each change of status on the error stream. */
async function watch(client: GatewayClient, id: string, options: Pick<Common, 'output'>): Promise<JobResponse> {
  let told = '';
  for (;;) {
    const job = jobResponse.parse(await client.get(`/api/v1/optimization/status/${encodeURIComponent(id)}`));
    const now = `${job.status} ${job.progress} %`;
    if (now !== told && options.output === 'table') console.error(`${new Date().toISOString().slice(11, 19)} ${now}${job.status === 'watching' ? ` until ${job.estimated_completion?.slice(11, 19)}` : ''}`);
    told = now;
    if (ENDED_JOB_STATUSES.includes(job.status)) return job;
    await delay(500);
  }
}
