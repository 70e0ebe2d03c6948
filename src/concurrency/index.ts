export { type ConcurrencyMethods, concurrencyFeature } from './feature.ts';
export type { ConcurrencyOnError, ConcurrencyOptions, ConcurrencyRefusal } from './options.ts';
