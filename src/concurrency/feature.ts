import type { IncomingMessage } from 'node:http';
import type { Keys } from '../base/keys.ts';
import type { Middleware, Req } from '../http/middleware.ts';
import { type ConcurrencyDeps, concurrencyMiddleware } from './middleware.ts';
import type { ConcurrencyOptions } from './options.ts';

export interface ConcurrencyMethods {
  /** Allows up to `limit` concurrent requests per key over all processes. Others wait, or are refused with 429. */
  concurrency<Request extends IncomingMessage = Req>(options: ConcurrencyOptions<Request>): Middleware;
}

export function concurrencyFeature(kit: Omit<ConcurrencyDeps, 'keys'>) {
  return (keys: Keys): ConcurrencyMethods => {
    const deps = { ...kit, keys };
    return { concurrency: (options: ConcurrencyOptions<never>) => concurrencyMiddleware(options, deps) };
  };
}
