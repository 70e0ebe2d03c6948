export type { Decision, PolicyDecision, RateLimitOnError, RequestDecision } from './decision.ts';
export type {
  ClientRateLimitInfo,
  ExpressRateLimitStore,
  ExpressRateLimitStoreOptions,
} from './express-rate-limit-store.ts';
export { type RateLimitMethods, rateLimitFeature } from './feature.ts';
export type { Limiter } from './limiter.ts';
// The property that is added to Express's type of requests.
export type {} from './middleware.ts';
export type { RateLimitOptions } from './options.ts';
export type { MiddlewarePolicy, Policy, SlidingWindowPolicy, TokenBucketPolicy } from './policy.ts';
