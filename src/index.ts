export type { Background, BackgroundJob, BackgroundOptions } from './background/index.ts';
export type { Clock } from './base/clock.ts';
export type { Duration } from './base/duration.ts';
export {
  ConfigError,
  ConnectionError,
  type ErrorCode,
  LockLostError,
  LockTimeoutError,
  RedisKitError,
  StoreError,
} from './base/errors.ts';
export type { CacheSubject, KitEvents } from './base/events.ts';
export type { Json } from './base/json.ts';
export type { Logger } from './base/logger.ts';
export type {
  CacheControls,
  CacheOptions,
  CachePolicy,
  Handler,
  InvalidationTarget,
  KeyOptions,
  Loader,
  LoaderContext,
  LocalOptions,
  RememberOptions,
  SingleFlightOptions,
  WarmEntry,
  WarmOptions,
  WarmResult,
} from './cache/index.ts';
export type { DataListener } from './channels/index.ts';
export type { ConcurrencyOnError, ConcurrencyOptions, ConcurrencyRefusal } from './concurrency/index.ts';
export type { BorrowedClient } from './connection/borrowed-client.ts';
export type { ClusterNode, ClusterOptions } from './connection/cluster-options.ts';
export { registerRedis } from './connection/instances.ts';
export type { ConnectionOptions } from './connection/options.ts';
export type { SentinelNode, SentinelOptions } from './connection/sentinel-options.ts';
export type { Documents, DocumentsOptions } from './documents/index.ts';
export type { ChannelPattern } from './engine/pub-sub.ts';
export type { HealthOptions, KitCheck } from './health/index.ts';
export { isRevalidation } from './http/internal-request.ts';
export type { Middleware, Next, Req, Res } from './http/middleware.ts';
export type { PipelineStep } from './http/pipeline.ts';
export type { RateHeaders } from './http/rate-limit-fields.ts';
export type { IdempotencyOnError, IdempotencyOptions, IdempotencyRefusal } from './idempotency/index.ts';
export { createRedisKit } from './kit.ts';
export type { KitOptions } from './kit-options.ts';
export type {
  AcquireOptions,
  LockConflict,
  LockHandle,
  LockHandler,
  LockInspection,
  LockOnError,
  LockOptions,
  Locks,
  TryAcquireOptions,
} from './lock/index.ts';
export type {
  FollowOptions,
  Hook,
  Log,
  LogEntry,
  LogListener,
  LogOptions,
  RequestEvent,
  WriteBehindOptions,
} from './log/index.ts';
export type { Members, MembersAddOptions, MembersListOptions, MembersOptions } from './members/index.ts';
export type {
  ClientRateLimitInfo,
  Decision,
  ExpressRateLimitStore,
  ExpressRateLimitStoreOptions,
  Limiter,
  MiddlewarePolicy,
  Policy,
  PolicyDecision,
  RateLimitOnError,
  RateLimitOptions,
  RequestDecision,
  SlidingWindowPolicy,
  TokenBucketPolicy,
} from './rate-limit/index.ts';
export type { DefaultClient, RedisKit } from './redis-kit.ts';
export type {
  CookieOptions,
  LoginOptions,
  SessionAdmin,
  SessionInfo,
  SessionOnError,
  SessionOptions,
  SessionStore,
  StoreOptions,
  UserLimit,
} from './session/index.ts';
export type { ChannelNames, ReplayEntry, ReplayLog, SseMiddleware, SseOptions } from './sse/index.ts';
export type { RequestState, StateMiddleware, StateOptions, StateScope } from './state/index.ts';
