import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { Module, type DynamicModule } from '@nestjs/common';
import { STREAMS, type Policy } from '@upid/contracts';
import { setting, type Loop, type Platform, type ServiceDefinition } from '@upid/platform';
import { z } from 'zod';
import { commandSigner } from './command-signer.client.js';
import { InventoryConsumer } from './inventory.consumer.js';
import { AgentsHandler } from './jobs/agents.handler.js';
import { CommandsService } from './jobs/commands.service.js';
import { JobsHandler } from './jobs/jobs.handler.js';
import { JobsRepository } from './jobs/jobs.repository.js';
import { JobsService } from './jobs/jobs.service.js';
import { ResultsConsumer } from './jobs/results.consumer.js';
import { RecommendationsHandler } from './recommendations/recommendations.handler.js';
import { RecommendationsRepository } from './recommendations/recommendations.repository.js';
import { RecommendationsService } from './recommendations/recommendations.service.js';
import { FactsService } from './safety/facts.service.js';

/** Wires the optimizer: one instance of each part, and the loops that drive jobs, commands and recommendations. */
@Module({})
export class OptimizerModule {
  static for(platform: Platform, options: { readonly policy: Policy; readonly commandSeed: string; readonly actuationClusters: readonly string[]; readonly evaluateSeconds: number; readonly nowMs: () => number }): DynamicModule {
    const { database, inventory, outbox, log, bus } = platform;
    const { nowMs } = options;
    const recommendationsRepository = new RecommendationsRepository(database);
    const jobsRepository = new JobsRepository(database);
    const facts = new FactsService(inventory, recommendationsRepository, options.policy);
    const recommendations = new RecommendationsService(recommendationsRepository, facts, inventory, bus, outbox, platform.leases, options.policy, log, { holder: randomUUID(), nowMs });
    const loops: { jobs?: Loop; commands?: Loop } = {};
    const wake = { jobs: () => loops.jobs?.wake(), commands: () => loops.commands?.wake() };
    const jobs = new JobsService(jobsRepository, facts, outbox, commandSigner(options.commandSeed), recommendations, { policy: options.policy, actuationClusters: options.actuationClusters, nowMs }, log, wake);
    const commands = new CommandsService(jobsRepository, bus, log, nowMs);
    loops.jobs = platform.loop('jobs', 1_000, () => jobs.step());
    loops.commands = platform.loop('commands', 1_000, () => commands.step());
    platform.loop('recommendations', options.evaluateSeconds * 1000, () => recommendations.evaluateAll());
    return {
      module: OptimizerModule,
      controllers: [InventoryConsumer, RecommendationsHandler, JobsHandler, AgentsHandler, ResultsConsumer],
      providers: [
        { provide: RecommendationsRepository, useValue: recommendationsRepository }, { provide: JobsRepository, useValue: jobsRepository }, { provide: JobsService, useValue: jobs }, { provide: RecommendationsService, useValue: recommendations },
      ],
    };
  }
}

export const optimizerSettings = {
  policyFile: setting('UPID_POLICY_FILE', z.string().optional(), 'YAML file with the thresholds of decisions; without it the defaults'),
  commandSeed: setting('UPID_COMMAND_SEED', z.string().regex(/^SU[A-Z2-7]{56}$/, 'must be a user seed (SU…)'), 'nkey seed that commands to agents are signed with; agents hold its public key', { secret: true }),
  actuationClusters: setting('UPID_ACTUATION_CLUSTERS', z.string().default('').transform((text) => text.split(',').map((each) => each.trim()).filter((each) => each !== '')), 'clusters whose jobs may change them, separated by commas; * for all; none by default'),
  evaluateSeconds: setting('UPID_EVALUATE_SECONDS', z.coerce.number().positive().default(30), 'seconds between two rounds of recommendations'),
} as const;

/** The optimizer as a service, deciding by this policy. @param nowMs the clock, unix ms */
export function optimizerDefinition(policy: Policy, nowMs: () => number = Date.now): ServiceDefinition<typeof optimizerSettings> {
  return {
    name: 'optimizer',
    schema: 'optimizer',
    settings: optimizerSettings,
    migrations: join(import.meta.dirname, 'migrations'),
    inventory: true,
    streams: STREAMS,
    module: (platform) => OptimizerModule.for(platform, { policy, commandSeed: platform.config.commandSeed, actuationClusters: platform.config.actuationClusters, evaluateSeconds: platform.config.evaluateSeconds, nowMs }),
  };
}
