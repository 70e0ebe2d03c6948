export { concurrencyMiddleware } from './middleware.ts';
export type { ConcurrencyOnError, ConcurrencyOptions, ConcurrencyRefusal } from './options.ts';
