import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { UpidError } from '@upid/contracts';
import type { Request } from 'express';
import { ROUTE, type RoutedRequest } from '../rest/route.decorator.js';
import type { Route } from '../rest/routes.js';
import { bearerOf, mayAct } from './keys.js';
import { KeyStore } from './keys.client.js';

/** Lets a request through that has a key with the route's role. */
@Injectable()
export class AccessGuard implements CanActivate {
  constructor(private readonly reflector: Reflector, private readonly keys: KeyStore) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    if (context.getType() !== 'http') return true;
    const route = this.reflector.get<Route | undefined>(ROUTE, context.getHandler());
    if (!route || route.role === null) return true;
    const request = context.switchToHttp().getRequest<Request & RoutedRequest>();
    const key = bearerOf(request.headers.authorization);
    const caller = key === null ? null : await this.keys.caller(key);
    if (!caller) throw new UpidError('unauthenticated', key === null ? 'An API key is needed: Authorization: Bearer <key>.' : 'This API key is not known.');
    if (!mayAct(caller, route.role)) throw new UpidError('forbidden', `This needs the role ${route.role}; key ${caller.name} has the role ${caller.role}.`);
    request.caller = caller;
    return true;
  }
}
