import type { Server } from 'node:http';
import { Module, type DynamicModule } from '@nestjs/common';
import { APP_FILTER, APP_GUARD } from '@nestjs/core';
import { SwaggerModule, type OpenAPIObject } from '@nestjs/swagger';
import { STREAMS } from '@upid/contracts';
import { setting, withIncomingTrace, type Platform, type ServiceDefinition } from '@upid/platform';
import type { NextFunction, Request, Response } from 'express';
import { z } from 'zod';
import { AccessGuard } from './access/access.guard.js';
import { KeyStore } from './access/keys.client.js';
import { ClustersService } from './clusters/clusters.service.js';
import { InventoryConsumer } from './clusters/inventory.consumer.js';
import { FeedService } from './realtime/feed.service.js';
import { SocketsController } from './realtime/sockets.controller.js';
import { AnalysisService } from './rest/analysis.service.js';
import { openApiDocument } from './rest/openapi.js';
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

export const gatewaySettings = {
  port: setting('UPID_PORT', z.coerce.number().int().min(0).max(65_535).default(8000), 'port of the REST interface'),
  host: setting('UPID_HOST', z.string().default('127.0.0.1'), 'address that the REST interface listens on'),
  apiKeysFile: setting('UPID_API_KEYS_FILE', z.string(), 'JSON file of API keys: {keys: [{name, sha256, role, clusters}]}; read again when it changes'),
} as const;

/** The gateway as a service: its own HTTP interface beside what every service has. Answers name the policy that they were judged by. */
export function gatewayDefinition(policyName: string): ServiceDefinition<typeof gatewaySettings> {
  let parts: GatewayParts | null = null;
  return {
    name: 'gateway',
    schema: 'gateway',
    settings: gatewaySettings,
    inventory: ['Cluster', 'Node', 'Pod'],
    streams: STREAMS,
    module: (platform) => {
      const made = GatewayModule.for(platform, { apiKeysFile: platform.config.apiKeysFile, policyName });
      parts = made.parts;
      return made.module;
    },
    http: {
      port: (config) => config.port,
      host: (config) => config.host,
      configure: async (app) => {
        app.use((request: Request, response: Response, next: NextFunction) => {
          response.setHeader('cache-control', 'no-store');
          response.setHeader('x-content-type-options', 'nosniff');
          withIncomingTrace((name) => request.header(name), { path: request.path }, () => next());
        });
        SwaggerModule.setup('api/docs', app, openApiDocument() as unknown as OpenAPIObject);
        parts?.sockets.attach(app.getHttpServer() as Server);
        await parts?.feed.start();
      },
    },
  };
}
