import type { Server } from 'node:http';
import { SwaggerModule, type OpenAPIObject } from '@nestjs/swagger';
import { STREAMS } from '@upid/contracts';
import { runService, setting, withIncomingTrace } from '@upid/platform';
import type { NextFunction, Request, Response } from 'express';
import { z } from 'zod';
import { GatewayModule, type GatewayParts } from './gateway.module.js';
import { openApiDocument } from './rest/openapi.js';

const settings = {
  port: setting('UPID_PORT', z.coerce.number().int().min(0).max(65_535).default(8000), 'port of the REST interface'),
  host: setting('UPID_HOST', z.string().default('127.0.0.1'), 'address that the REST interface listens on'),
  apiKeysFile: setting('UPID_API_KEYS_FILE', z.string(), 'JSON file of API keys: {keys: [{name, sha256, role, clusters}]}; read again when it changes'),
  policyName: setting('UPID_POLICY_NAME', z.string().default('default'), 'name of the policy that answers are shown with'),
} as const;

let parts: GatewayParts | null = null;

await runService({
  name: 'gateway',
  schema: 'gateway',
  settings,
  inventory: ['Cluster', 'Node', 'Pod'],
  streams: STREAMS,
  module: (platform) => {
    const made = GatewayModule.for(platform, { apiKeysFile: platform.config.apiKeysFile, policyName: platform.config.policyName });
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
});
