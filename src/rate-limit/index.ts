export type { RateLimitOnError } from './ask.ts';
export type { Decision, PolicyDecision } from './decision.ts';
export { type Limiter, LimiterCore } from './limiter.ts';
export { rateLimitMiddleware } from './middleware.ts';
export { LimiterNames } from './names.ts';
export type { RateLimitOptions } from './options.ts';
export {
  type MiddlewarePolicy,
  type Policy,
  readPolicy,
  type SlidingWindowPolicy,
  type TokenBucketPolicy,
} from './policy.ts';
export {
  type ClientRateLimitInfo,
  type ExpressRateLimitStore,
  type ExpressRateLimitStoreOptions,
  makeExpressRateLimitStore,
} from './store.ts';
