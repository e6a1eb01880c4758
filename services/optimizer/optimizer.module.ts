import { randomUUID } from 'node:crypto';
import { Module, type DynamicModule } from '@nestjs/common';
import type { Policy } from '@upid/contracts';
import type { Loop, Platform } from '@upid/platform';
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

const nowMs = (): number => Date.now();

/** Wires the optimizer: one instance of each part, and the loops that drive jobs, commands and recommendations. */
@Module({})
export class OptimizerModule {
  static for(platform: Platform, options: { readonly policy: Policy; readonly commandSeed: string; readonly actuationClusters: readonly string[]; readonly evaluateSeconds: number }): DynamicModule {
    const { database, inventory, outbox, log, bus } = platform;
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
