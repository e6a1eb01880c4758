import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { jobListResponse, type JobResponse } from '@upid/contracts';
import { CommandError, EXIT, GatewayClient } from '../client.js';
import { askControl } from './control.js';
import { endLeftovers, isAlive, type RunRecord, type StateFolder } from './state.js';

/** Jobs that put something to sleep which still sleeps. */
async function asleep(client: GatewayClient): Promise<JobResponse[]> {
  const { jobs } = z.object({ jobs: jobListResponse.shape.jobs }).parse(await client.get('/api/v1/optimization/jobs', { applied: 'true', limit: 500 }));
  return jobs.filter((job) => job.applied && job.optimization_type === 'zero_scaling');
}

/** Wakes everything that UPID put to sleep and waits for it. @throws {CommandError} with the list of what still sleeps after `withinMs` */
export async function wakeSleepers(client: GatewayClient, withinMs: number): Promise<number> {
  const first = await asleep(client);
  if (first.length === 0) return 0;
  await client.post('/api/v1/stop', { hold: null, restore: true });
  const until = Date.now() + withinMs;
  for (;;) {
    const left = await asleep(client);
    if (left.length === 0) return first.length;
    if (Date.now() > until) throw new CommandError(`These still sleep: ${left.map((job) => `${job.target} (job ${job.job_id}: ${job.status}${job.error ? `, ${job.error.message}` : ''})`).join('; ')}.`, EXIT.failed);
    await delay(300);
  }
}

/** `upid down`: wakes what sleeps, or refuses with the list; then ends everything of this folder. */
export async function down(state: StateFolder, options: { readonly leaveAsleep: boolean }): Promise<void> {
  const run = await askControl<RunRecord>(state, { ask: 'status' });
  if (run === null) {
    const record = await state.readRun();
    await endLeftovers(state, record);
    console.log(record ? `The supervisor of ${state.dir} was gone; what it had left was ended.` : `Nothing runs in ${state.dir}.`);
    return;
  }
  if (!options.leaveAsleep && run.ready) {
    try {
      const woken = await wakeSleepers(await GatewayClient.open(run.url, state.apiKeyFile), 60_000);
      if (woken > 0) console.log(`woke ${woken} workload${woken === 1 ? '' : 's'}`);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new CommandError(`${why}\nNothing was ended. \`upid restore-all\` tries again; \`upid down --leave-asleep\` ends UPID all the same.`, EXIT.failed, null, { cause: error });
    }
  }
  await askControl(state, { ask: 'down' });
  for (let waited = 0; await isAlive(run.pid); waited += 100) {
    if (waited > 60_000) throw new CommandError(`The supervisor (pid ${run.pid}) has not ended within 60 s: see ${state.path('logs', 'upid.log')}`, EXIT.failed);
    await delay(100);
  }
  console.log('UPID has ended.');
}
