import { asError } from '../../base/errors.ts';
import { noSeal } from '../seal.ts';
import { SessionRecords } from '../session-records.ts';
import type { SessionDeps } from '../user-index.ts';
import { CallbackStore, type SessionStore } from './callback-store.ts';
import { connectRedisFormat } from './connect-redis-format.ts';
import { kitFormat } from './kit-format.ts';
import { resolveStoreOptions, type StoreOptions } from './store-options.ts';

export function makeSessionStore(options: StoreOptions, deps: SessionDeps): SessionStore {
  const settings = resolveStoreOptions(options);
  const reportFailure = (error: unknown) => deps.reporter.failure('session', asError(error));
  const { idle, touchAfter, maxBytes, connectRedisPrefix } = settings;
  if (connectRedisPrefix !== undefined)
    return new CallbackStore(connectRedisFormat(connectRedisPrefix, settings, deps), reportFailure);
  const records = new SessionRecords(deps, {
    idle,
    followsCookie: true,
    cookieMaxAge: undefined,
    absolute: 0,
    touchAfter,
    conflicts: 'merge',
    maxPerUser: undefined,
    maxBytes,
    seal: noSeal,
  });
  return new CallbackStore(kitFormat(records, settings, deps), reportFailure);
}
