export { cacheMiddleware } from './middleware.ts';
export type { CacheOptions } from './options.ts';
