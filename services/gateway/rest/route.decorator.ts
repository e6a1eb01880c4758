import { applyDecorators, HttpCode, RequestMapping, RequestMethod, SetMetadata } from '@nestjs/common';
import type { Caller } from '../access/keys.js';
import type { Route } from './routes.js';

/** Metadata key of a handler's route. */
export const ROUTE = 'upid:route';

/** What the guard adds to a request. */
export interface RoutedRequest {
  caller?: Caller;
}

/** Serves a route of the table: method, path and status come from there. */
export function Serves(route: Route): MethodDecorator {
  return applyDecorators(RequestMapping({ path: route.path, method: route.method === 'GET' ? RequestMethod.GET : RequestMethod.POST }), HttpCode(route.status), SetMetadata(ROUTE, route));
}
