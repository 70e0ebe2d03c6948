import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duration } from '../base/duration.ts';
import type { FailurePolicies } from '../base/failure-policies.ts';
import type { Keys } from '../base/keys.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import type { PubSub } from '../engine/pub-sub.ts';
import type { Front } from '../http/front.ts';
import type { Middleware, Req, Res } from '../http/middleware.ts';
import { CacheMemory, Caches } from './caches.ts';
import { cacheMiddleware, type Handler } from './http/middleware.ts';
import type { CacheOptions } from './http/options.ts';
import { type InvalidationTarget, invalidate } from './invalidate.ts';
import type { CachePolicies } from './store/options.ts';
import type { CacheEnvironment } from './store/versions.ts';
import { type Loader, RememberedValues } from './values/remember.ts';
import type { RememberOptions } from './values/remember-options.ts';
import { type WarmEntry, type WarmOptions, type WarmResult, warmUp } from './values/warm.ts';

export interface CacheMethods {
  /** Answers GET and HEAD requests from stored responses, and stores the responses of the handler. */
  cache<Request extends IncomingMessage = Req, Response extends ServerResponse = Res>(
    options?: CacheOptions<Request>,
    handler?: Handler<Request, Response>,
  ): Middleware;
  /**
   * Returns the cached value of `key`, or the result of `load` if no cached value can be used. Values are stored as
   * JSON, and every caller gets its own copy. `remember<Value>()` with a type argument also types `context.stale`.
   */
  remember<Value, Stale = Value>(
    key: string,
    options: Duration | RememberOptions,
    load: Loader<Value, Stale>,
  ): Promise<Value>;
  /**
   * Invalidates stored responses and cached values, or with `soft` makes them stale. Resolves when Redis has recorded
   * the purge. From then on this process applies the purge to every older entry; other processes apply it a few
   * milliseconds later, when they receive the message. Rejects when Redis is unavailable: with a ConnectionError when
   * nothing was purged, with a StoreError when the outcome is unknown.
   */
  invalidate(target: InvalidationTarget): Promise<void>;
  /** Loads and stores cached values ahead of their first use. */
  warm(entries: Iterable<WarmEntry> | AsyncIterable<WarmEntry>, options?: WarmOptions): Promise<WarmResult>;
}

export interface CacheFeatureDeps extends Omit<CacheEnvironment, 'keys'> {
  readonly pubSub: PubSub;
  /** The channel on which the processes of a kit publish purges and the ends of fills. */
  readonly channel: string;
  readonly deadlines: RequestDeadlines;
  readonly front: Front;
  readonly closing: AbortSignal;
  readonly failurePolicies: FailurePolicies;
}

export function cacheFeature(kit: CacheFeatureDeps, policies: CachePolicies) {
  // Created lazily: a CacheMemory subscribes to the cache channel.
  const memory = lazy(() => new CacheMemory(kit.pubSub, kit.channel));

  return (keys: Keys): CacheMethods => {
    const caches = lazy(() => {
      kit.failurePolicies.record('cache', 'bypass');
      return new Caches({ ...kit, keys }, memory());
    });
    const deps = lazy(() => ({ ...kit, keys, policies, caches: caches(), values: caches().values }));
    const remembered = lazy(() => new RememberedValues(deps()));
    return {
      cache: (options: CacheOptions<never> = {}, handler?: Handler<never, never>) =>
        cacheMiddleware(options, deps(), handler),
      remember: <Value, Stale>(
        key: string,
        options: Duration | RememberOptions,
        load: Loader<Value, Stale>,
      ) => remembered().remember(key, options, load),
      invalidate: (target: InvalidationTarget) =>
        invalidate(target, { ...kit, keys, versions: caches().versions }),
      warm: (entries: Iterable<WarmEntry> | AsyncIterable<WarmEntry>, options: WarmOptions = {}) =>
        warmUp(entries, options, remembered(), deps()),
    };
  };
}

function lazy<Value>(create: () => Value): () => Value {
  let created: { readonly value: Value } | undefined;
  return () => {
    created ??= { value: create() };
    return created.value;
  };
}
