import { Module, type DynamicModule } from '@nestjs/common';
import { APP_FILTER, APP_GUARD } from '@nestjs/core';
import type { Platform } from '@upid/platform';
import { AccessGuard } from './access/access.guard.js';
import { KeyStore } from './access/keys.client.js';
import { ClustersService } from './clusters/clusters.service.js';
import { InventoryConsumer } from './clusters/inventory.consumer.js';
import { FeedService } from './realtime/feed.service.js';
import { SocketsController } from './realtime/sockets.controller.js';
import { AnalysisService } from './rest/analysis.service.js';
import { ProblemFilter } from './rest/problem.filter.js';
import { AnalysisController, HealthController, OptimizationController } from './rest/rest.controller.js';

const nowMs = (): number => Date.now();

/** The parts of a running gateway that its HTTP server is joined with. */
export interface GatewayParts {
  readonly feed: FeedService;
  readonly sockets: SocketsController;
}

/** Wires the gateway; `parts` for what is attached to the HTTP server. */
@Module({})
export class GatewayModule {
  static for(platform: Platform, options: { readonly apiKeysFile: string; readonly policyName: string }): { module: DynamicModule; parts: GatewayParts } {
    const keys = new KeyStore(options.apiKeysFile);
    const clusters = new ClustersService(platform.inventory, platform.bus, nowMs);
    const analysis = new AnalysisService(platform.bus, clusters, options.policyName, nowMs);
    const feed = new FeedService(platform.bus, platform.log, nowMs);
    const sockets = new SocketsController(keys, clusters, platform.inventory, feed, platform.log);
    return {
      parts: { feed, sockets },
      module: {
        module: GatewayModule,
        controllers: [HealthController, AnalysisController, OptimizationController, InventoryConsumer],
        providers: [
          { provide: KeyStore, useValue: keys }, { provide: ClustersService, useValue: clusters }, { provide: AnalysisService, useValue: analysis }, { provide: APP_GUARD, useClass: AccessGuard }, { provide: APP_FILTER, useClass: ProblemFilter },
        ],
      },
    };
  }
}
