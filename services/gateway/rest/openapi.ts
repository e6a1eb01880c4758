import { problemSchema } from '@upid/contracts';
import { z } from 'zod';
import { VERSION } from '../version.js';
import { ROUTES, type Route } from './routes.js';

type Json = Record<string, unknown>;

function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Json {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: 'any', target: 'openapi-3.0' }) as Json;
  return rest;
}

function parameters(route: Route): Json[] {
  const of = (schema: z.ZodObject | undefined, where: 'path' | 'query') => Object.entries(schema?.shape ?? {}).map(([name, each]) => {
    const field = schemaOf(each as z.ZodType, 'input');
    return { name, in: where, required: where === 'path' || !(each as z.ZodType).safeParse(undefined).success, schema: field, ...(typeof field.description === 'string' ? { description: field.description } : {}) };
  });
  return [...of(route.params, 'path'), ...of(route.query, 'query')];
}

/** The OpenAPI 3 document of exactly the routes in the table. */
export function openApiDocument(): Json {
  const problem = { description: 'What went wrong', content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } } };
  const paths: Record<string, Json> = {};
  for (const [operationId, each] of Object.entries(ROUTES)) {
    const route: Route = each;
    const path = route.path.replace(/:(\w+)/g, '{$1}');
    paths[path] = {
      ...paths[path],
      [route.method.toLowerCase()]: {
        operationId, summary: route.summary, tags: [route.tag], ...(route.role ? { security: [{ key: [] }], description: `Role: ${route.role} or above.` } : { security: [] }), parameters: parameters(route),
        ...(route.body ? { requestBody: { required: true, content: { 'application/json': { schema: schemaOf(route.body, 'input') } } } } : {}),
        responses: { [String(route.status)]: { description: 'Done', content: { 'application/json': { schema: schemaOf(route.response, 'output') } } }, default: problem },
      },
    };
  }
  return {
    openapi: '3.0.3', info: { title: 'UPID', version: VERSION, description: 'Kubernetes metrics into money decisions. Errors are application/problem+json.' }, paths,
    components: { securitySchemes: { key: { type: 'http', scheme: 'bearer' } }, schemas: { Problem: schemaOf(problemSchema, 'output') } },
  };
}
