export type { RateLimitOnError } from './ask.ts';
export type { Decision, PolicyDecision } from './decision.ts';
export { type RateLimitMethods, rateLimitFeature } from './feature.ts';
export type { Limiter } from './limiter.ts';
export type { RateLimitOptions } from './options.ts';
export type { MiddlewarePolicy, Policy, SlidingWindowPolicy, TokenBucketPolicy } from './policy.ts';
export type { ClientRateLimitInfo, ExpressRateLimitStore, ExpressRateLimitStoreOptions } from './store.ts';
