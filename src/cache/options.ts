import type { IncomingMessage } from 'node:http';
import { OptionReader } from '../base/check.ts';
import type { Duration } from '../base/duration.ts';
import type { Req } from '../http/middleware.ts';

export interface CacheOptions<Request extends IncomingMessage = Req> {
  /** How long a response stays fresh. What says no-store or private, or sets a cookie, is not stored all the same. */
  readonly ttl: Duration;
  /** The largest body that is stored, in bytes; a larger one streams on and is forgotten. Default 1 MiB. */
  readonly maxBody?: number | undefined;
  /** The Cache-Status field (RFC 9211): true, a name for this cache instead of `redis-kit`, or false. Default true. */
  readonly cacheStatus?: boolean | string | undefined;
  /** Requests that neither are answered from the cache nor fill it. */
  readonly skip?: ((req: Request) => boolean) | undefined;
}

export interface CacheSettings {
  readonly ttl: number;
  readonly maxBody: number;
  /** The name in Cache-Status, or undefined for none. */
  readonly cacheStatus: string | undefined;
  readonly skip: ((req: Req) => boolean) | undefined;
}

const DEFAULT_MAX_BODY = 2 ** 20;

/** Far below Redis's own limit for a string (512 MiB): a value this large blocks the server for milliseconds. */
const LARGEST_MAX_BODY = 64 * 2 ** 20;

export function resolveCacheOptions(options: CacheOptions<never>): CacheSettings {
  const reader = new OptionReader('kit.cache', options, ['ttl', 'maxBody', 'cacheStatus', 'skip']);
  const status = reader.value('cacheStatus') ?? true;
  // A token as RFC 9110 spells it, which RFC 9211 takes for a cache's name without quotes.
  if (
    typeof status !== 'boolean' &&
    !(typeof status === 'string' && /^[A-Za-z*][\w:/!#$%&'*+.^`|~-]*$/.test(status))
  ) {
    throw reader.error('cacheStatus', `it must be true, false, or a name like 'shop-cache'`);
  }
  return Object.freeze({
    ttl: reader.requiredDuration('ttl'),
    maxBody: reader.integer('maxBody', { min: 1, max: LARGEST_MAX_BODY }) ?? DEFAULT_MAX_BODY,
    cacheStatus: typeof status === 'string' ? status : status ? 'redis-kit' : undefined,
    skip: reader.callback<(req: Req) => boolean>('skip'),
  });
}
