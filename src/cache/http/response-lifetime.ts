import type { IncomingMessage, ServerResponse } from 'node:http';
import { asExpress, type Res } from '../../http/middleware.ts';
import type { Lifetime } from '../store/entry.ts';
import { checkTtl } from '../store/options.ts';
import { lifetimeOf } from './freshness.ts';
import type { MadeHead } from './made.ts';
import type { CacheSettings } from './options.ts';
import { hasValidator } from './storable.ts';

/** A response, and the app's settings for its lifetime. */
export interface Received {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly settings: CacheSettings;
  /** The lifetime that the app names. */
  readonly ttl: CacheSettings['ttl'];
  readonly requestedAt: number;
}

/** How long a response may be used; undefined when it has no lifetime. Throws what the app's own `ttl` function throws. */
export function responseLifetime(
  { status, headers, directives, own, madeAt }: MadeHead,
  { req, res, settings, ttl, requestedAt }: Received,
): Lifetime | undefined {
  const given = typeof ttl === 'function' ? ttl(asExpress(req), res as Res) : ttl;
  if (given === false) return undefined;
  const ttlMs = typeof ttl === 'function' ? checkTtl('kit.cache: option `ttl`', given) : ttl;
  const received = { status, headers, directives, hasValidator: hasValidator(status, own) };
  const times = { requestedAt, respondedAt: madeAt };
  return lifetimeOf({ ...received, ...times }, { ...settings, ttl: ttlMs }, Math.random);
}
