import type { IncomingMessage } from 'node:http';
import { describe } from '../../base/describe.ts';
import { type Duration, durationMs } from '../../base/duration.ts';
import { ConfigError } from '../../base/errors.ts';
import { checkTags } from '../store/options.ts';

declare global {
  namespace Express {
    interface Request {
      /** The controls of `kit.cache` for this request's response. */
      cache: CacheControls;
    }
  }
}

/** `req.cache`, set while `kit.cache` handles the request. It has no effect on a request that bypasses the cache. */
export interface CacheControls {
  /** Adds tags by which the response can be invalidated to those of the option `tags`. */
  tag(...tags: string[]): void;
  /** Prevents the storing of the response. The event `cache:skipped` carries `reason`, by default `'no-store'`. */
  noStore(reason?: string): void;
  /**
   * Sets how long the response stays fresh, in place of the option `ttl`. Call it before the headers are sent. Throws a
   * ConfigError for an invalid duration.
   */
  ttl(duration: Duration): void;
}

/** The controls of one request, and how the handler used them. */
export class HandlerControls implements CacheControls {
  readonly tags: string[] = [];
  /** Why the handler prevents the storing of its response; undefined if it does not. */
  noStoreReason: string | undefined;
  /** The lifetime in milliseconds; undefined if the handler has set none. */
  ttlMs: number | undefined;

  // The methods are functions of their own, so that a handler can destructure `req.cache`.

  readonly tag = (...tags: string[]): void => {
    this.tags.push(...checkTags('req.cache.tag: the tags', tags));
  };

  readonly noStore = (reason?: string): void => {
    this.noStoreReason = typeof reason === 'string' && reason !== '' ? reason : 'no-store';
  };

  readonly ttl = (duration: Duration): void => {
    const ms = durationMs(duration);
    if (ms === undefined) {
      throw new ConfigError(`req.cache.ttl: ${describe(duration)} is no duration; give one like '30s'`);
    }
    this.ttlMs = ms;
  };
}

/** Sets `req.cache`. A cache below another one shares its controls, which apply to both. */
export function offerControls(req: IncomingMessage & { cache?: unknown }): HandlerControls {
  if (req.cache instanceof HandlerControls) return req.cache;
  const controls = new HandlerControls();
  req.cache = controls;
  return controls;
}
