import type { IncomingMessage } from 'node:http';
import type { Keys } from '../base/keys.ts';
import type { Middleware, Req } from '../http/middleware.ts';
import type { IdempotencyDeps } from './attempt.ts';
import { idempotencyMiddleware } from './middleware.ts';
import type { IdempotencyOptions } from './options.ts';

export interface IdempotencyMethods {
  /** Runs a request once per Idempotency-Key and replays its recorded response to retries; sets `req.idempotency`. */
  idempotency<Request extends IncomingMessage = Req>(options?: IdempotencyOptions<Request>): Middleware;
}

export function idempotencyFeature(kit: Omit<IdempotencyDeps, 'keys' | 'channel'>) {
  return (keys: Keys): IdempotencyMethods => {
    const deps = { ...kit, keys, channel: keys.idempotencyChannel() };
    return { idempotency: (options: IdempotencyOptions<never> = {}) => idempotencyMiddleware(options, deps) };
  };
}
