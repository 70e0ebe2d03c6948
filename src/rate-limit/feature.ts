import type { IncomingMessage } from 'node:http';
import type { Keys } from '../base/keys.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import type { Front } from '../http/front.ts';
import type { Middleware, Req } from '../http/middleware.ts';
import type { RateLimitDeps } from './decision.ts';
import {
  type ExpressRateLimitStore,
  type ExpressRateLimitStoreOptions,
  makeExpressRateLimitStore,
} from './express-rate-limit-store.ts';
import { type Limiter, PolicyLimiter } from './limiter.ts';
import { rateLimitMiddleware } from './middleware.ts';
import { LimiterNames } from './misuse.ts';
import type { RateLimitOptions } from './options.ts';
import { type Policy, readPolicy } from './policy.ts';

export interface RateLimitMethods {
  /** Returns middleware that sets `req.rateLimit` and refuses a request above the limit with 429. */
  rateLimit<Request extends IncomingMessage = Req>(
    options: RateLimitOptions<Request>,
  ): Middleware & { readonly limiter: Limiter };
  /** Returns a limiter for one policy, for use without HTTP. */
  limiter(policy: Policy): Limiter;
  /** Returns a store for an app that keeps express-rate-limit. The store's windows are fixed, and so not exact. */
  expressRateLimitStore(options?: ExpressRateLimitStoreOptions): ExpressRateLimitStore;
}

/** The settings of a limiter from `kit.limiter()`, which takes only a policy. */
const WITHOUT_HTTP = {
  onError: 'memory',
  onDenied: 'ignore',
  denyCache: undefined,
  block: undefined,
  wait: undefined,
  reserve: undefined,
} as const;

export function rateLimitFeature(
  kit: Omit<RateLimitDeps, 'keys'> & { readonly deadlines: RequestDeadlines; readonly front: Front },
) {
  const limiterNames = new LimiterNames(kit.reporter);
  return (keys: Keys): RateLimitMethods => {
    const deps = { ...kit, keys };
    const claim = (names: readonly string[]) => limiterNames.claim(keys.prefix, names);
    return {
      rateLimit: (options: RateLimitOptions<never>) => rateLimitMiddleware(options, deps, claim),
      limiter(policy: Policy) {
        const settings = readPolicy('kit.limiter', policy);
        claim([settings.name]);
        deps.failurePolicies.record('rate', WITHOUT_HTTP.onError);
        return new PolicyLimiter({ policies: [settings], ...WITHOUT_HTTP }, deps);
      },
      expressRateLimitStore: (options: ExpressRateLimitStoreOptions = {}) =>
        makeExpressRateLimitStore(options, deps, claim),
    };
  };
}
