import type { IncomingMessage } from 'node:http';
import { checkedDuration, type Duration } from '../../base/duration.ts';
import { checkTags } from '../store/options.ts';

declare global {
  namespace Express {
    interface Request {
      /** The handler's controls for caching the response to this request. */
      cache: CacheControls;
    }
  }
}

/**
 * The type of `req.cache`, by which a handler controls how `kit.cache` stores its response. On a request that bypasses
 * the cache the controls have no effect.
 */
export interface CacheControls {
  /** Adds tags to those of the option `tags`. The response can be invalidated by each of them. */
  tag(...tags: string[]): void;
  /** Forbids storing the response. The event `cache:skipped` carries `reason`, by default `'no-store'`. */
  noStore(reason?: string): void;
  /**
   * Sets how long the response stays fresh, in place of the option `ttl`. Call it before the headers are sent. Throws a
   * ConfigError for an invalid duration.
   */
  ttl(duration: Duration): void;
}

/** The controls of one request, and the handler's calls of them. */
export class HandlerControls implements CacheControls {
  readonly tags: string[] = [];
  /** The reason that the handler gave to `noStore()`; undefined without a call. */
  noStoreReason: string | undefined;
  /** The lifetime in milliseconds that the handler gave to `ttl()`; undefined without a call. */
  ttlMs: number | undefined;

  // Arrow functions, so that a handler can destructure `req.cache`.

  readonly tag = (...tags: string[]): void => {
    this.tags.push(...checkTags('req.cache.tag: the tags', tags));
  };

  readonly noStore = (reason?: string): void => {
    this.noStoreReason = typeof reason === 'string' && reason !== '' ? reason : 'no-store';
  };

  readonly ttl = (duration: Duration): void => {
    this.ttlMs = checkedDuration('req.cache.ttl', duration);
  };
}

/** Sets and returns `req.cache`. If an earlier cache has set it, both caches share the same controls. */
export function offerControls(req: IncomingMessage & { cache?: unknown }): HandlerControls {
  if (req.cache instanceof HandlerControls) return req.cache;
  const controls = new HandlerControls();
  req.cache = controls;
  return controls;
}
