import { AsyncLocalStorage } from 'node:async_hooks';
import { RedisKitError } from '../base/errors.ts';
import type { Engine } from '../engine/port.ts';
import type { Handle } from './handle.ts';

interface Holding {
  readonly engine: Engine;
  /** As Redis knows them. */
  readonly keys: readonly string[];
  readonly handle: Handle;
}

const holdings = new AsyncLocalStorage<readonly Holding[]>();

/** Runs what works under a lock, so that it is known what it holds wherever it asks for another. */
export function underLock<Result>(holding: Holding, work: () => Result): Result {
  return holdings.run([...(holdings.getStore() ?? []), holding], work);
}

/** Whoever waited for a lock that it holds itself would wait for ever. */
export function checkReentry(engine: Engine, keys: ReadonlyMap<string, string>): void {
  for (const holding of holdings.getStore() ?? []) {
    if (holding.engine !== engine || holding.handle.remainingMs() === 0) continue;
    const key = holding.keys.find((each) => keys.has(each));
    if (key === undefined) continue;
    throw new RedisKitError(
      'ERR_REDIS_KIT_LOCK_REENTRY',
      `the lock '${keys.get(key)}' is held by the work that asks for it again; pass the handle on (req.lock) instead`,
    );
  }
}
