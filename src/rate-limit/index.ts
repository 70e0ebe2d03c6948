export type { Decision, PolicyDecision } from './decision.ts';
export { type Limiter, LimiterCore, type RateLimitDeps, type RateLimitOnError } from './limiter.ts';
export { rateLimitMiddleware } from './middleware.ts';
export type { RateLimitOptions } from './options.ts';
export {
  POLICY_OPTION_NAMES,
  type Policy,
  resolvePolicy,
  type SlidingWindowPolicy,
  type TokenBucketPolicy,
} from './policy.ts';
