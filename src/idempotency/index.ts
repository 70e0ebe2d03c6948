export { idempotencyMiddleware } from './middleware.ts';
export type { IdempotencyOnError, IdempotencyOptions } from './options.ts';
export type { IdempotencyRefusal } from './refusal.ts';
