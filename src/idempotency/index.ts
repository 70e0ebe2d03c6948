export { type IdempotencyMethods, idempotencyFeature } from './feature.ts';
export type { IdempotencyOnError, IdempotencyOptions } from './options.ts';
export type { IdempotencyRefusal } from './refusal.ts';
