export { type CacheMethods, cacheFeature } from './feature.ts';
export type { CacheControls } from './http/handler-controls.ts';
export type { KeyOptions } from './http/key-options.ts';
export type { Handler } from './http/middleware.ts';
export type { CacheOptions } from './http/options.ts';
export type { InvalidationTarget } from './invalidate.ts';
export {
  type CachePolicies,
  type CachePolicy,
  type LocalOptions,
  resolveCachePolicies,
  type SingleFlightOptions,
} from './store/options.ts';
export type { Loader, LoaderContext } from './values/remember.ts';
export type { RememberOptions } from './values/remember-options.ts';
export type { WarmEntry, WarmOptions, WarmResult } from './values/warm.ts';
