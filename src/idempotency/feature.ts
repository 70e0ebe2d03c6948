import type { IncomingMessage } from 'node:http';
import type { Keys } from '../base/keys.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import type { Middleware, Req } from '../http/middleware.ts';
import { idempotencyMiddleware } from './middleware.ts';
import type { IdempotencyOptions } from './options.ts';
import type { RecordsDeps } from './records.ts';

export interface IdempotencyMethods {
  /** Runs a request once per Idempotency-Key and replays its recorded response to repeats; sets `req.idempotency`. */
  idempotency<Request extends IncomingMessage = Req>(options?: IdempotencyOptions<Request>): Middleware;
}

export function idempotencyFeature(
  kit: Omit<RecordsDeps, 'keys'> & { readonly deadlines: RequestDeadlines },
) {
  return (keys: Keys): IdempotencyMethods => {
    const deps = { ...kit, keys };
    return { idempotency: (options: IdempotencyOptions<never> = {}) => idempotencyMiddleware(options, deps) };
  };
}
