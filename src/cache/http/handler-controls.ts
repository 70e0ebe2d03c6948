import type { IncomingMessage } from 'node:http';
import { describe } from '../../base/check.ts';
import { type Duration, durationMs } from '../../base/duration.ts';
import { ConfigError } from '../../base/errors.ts';
import { checkTags } from '../store/options.ts';

declare global {
  namespace Express {
    interface Request {
      /** What a handler below `kit.cache` may say about its response. */
      cache: CacheControls;
    }
  }
}

/** `req.cache`, set while `kit.cache` handles the request. On a request that is not cached it has no effect. */
export interface CacheControls {
  /** Adds tags that the response may be invalidated by, besides the option `tags`. */
  tag(...tags: string[]): void;
  /** The response is not stored. The event `cache:skipped` carries `reason`, by default `'no-store'`. */
  noStore(reason?: string): void;
  /**
   * How long the response stays fresh, in place of the option `ttl` and with the same effect. Call it before the headers
   * leave. Throws a ConfigError for what is no duration.
   */
  ttl(duration: Duration): void;
}

/** What a handler said about its response. */
export class HandlerControls implements CacheControls {
  readonly tags: string[] = [];
  /** Why the handler forbids to store its response; undefined when it does not. */
  noStoreReason: string | undefined;
  /** In milliseconds; undefined when the handler named no lifetime. */
  ttlMs: number | undefined;

  constructor() {
    // A handler may destructure `req.cache`.
    this.tag = this.tag.bind(this);
    this.noStore = this.noStore.bind(this);
    this.ttl = this.ttl.bind(this);
  }

  tag(...tags: string[]): void {
    this.tags.push(...checkTags('req.cache.tag: the tags', tags));
  }

  noStore(reason?: string): void {
    this.noStoreReason = typeof reason === 'string' && reason !== '' ? reason : 'no-store';
  }

  ttl(duration: Duration): void {
    const ms = durationMs(duration);
    if (ms === undefined) {
      throw new ConfigError(`req.cache.ttl: ${describe(duration)} is no duration; give one like '30s'`);
    }
    this.ttlMs = ms;
  }
}

/** Sets `req.cache`. A cache below another one shares its controls: what the handler says concerns both. */
export function offerControls(req: IncomingMessage & { cache?: unknown }): HandlerControls {
  if (req.cache instanceof HandlerControls) return req.cache;
  const controls = new HandlerControls();
  req.cache = controls;
  return controls;
}
