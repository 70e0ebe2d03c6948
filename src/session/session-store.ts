import { asError } from '../base/errors.ts';
import { ownStoreWork } from './own-store.ts';
import { plainStoreWork } from './plain-store.ts';
import { CallbackStore, type SessionStore } from './public-store.ts';
import { SessionRecords } from './record.ts';
import { noSeal } from './seal.ts';
import { resolveStoreOptions, type StoreOptions } from './store-options.ts';
import type { SessionDeps } from './user-index.ts';

export function makeSessionStore(options: StoreOptions, deps: SessionDeps): SessionStore {
  const settings = resolveStoreOptions(options);
  const failed = (error: unknown) => deps.reporter.failure('session', asError(error));
  const { idle, touchAfter, maxBytes, plainPrefix } = settings;
  if (plainPrefix !== undefined)
    return new CallbackStore(plainStoreWork(plainPrefix, settings, deps), failed);
  const records = new SessionRecords(deps, {
    idle,
    cookieMaxAge: undefined,
    absolute: 0,
    touchAfter,
    conflicts: 'merge',
    maxPerUser: undefined,
    maxBytes,
    seal: noSeal,
  });
  return new CallbackStore(ownStoreWork(records, settings, deps), failed);
}
