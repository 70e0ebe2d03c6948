export { type IdempotencyMethods, idempotencyFeature } from './feature.ts';
// The property that is added to Express's type of requests.
export type {} from './middleware.ts';
export type { IdempotencyOnError, IdempotencyOptions } from './options.ts';
export type { IdempotencyRefusal } from './refusal.ts';
