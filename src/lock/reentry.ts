import { AsyncLocalStorage } from 'node:async_hooks';
import type { IncomingMessage } from 'node:http';
import { RedisKitError } from '../base/errors.ts';
import { handleOfSignal, type KitLockHandle, type RequestedLocks } from './handle.ts';

/*
 * Work that requests a lock that it holds itself would wait until its wait is over. A request object, or the signal of a
 * handle, proves that the caller holds a lock. The async context does not: a connection pool may run the callback of one
 * request in the context of another request, which has just returned its connection.
 */

const LOCKS: unique symbol = Symbol('the locks that the request holds');

interface LockingRequest extends IncomingMessage {
  [LOCKS]?: KitLockHandle[];
}

/** The locks that a request holds. The caller adds to the array. */
export function locksOf(req: LockingRequest): KitLockHandle[] {
  req[LOCKS] ??= [];
  return req[LOCKS];
}

/** The lock whose signal the caller passed on. */
export function locksOfSignal(signal: AbortSignal | undefined): readonly KitLockHandle[] {
  const handle = signal && handleOfSignal(signal);
  return handle === undefined ? [] : [handle];
}

const contexts = new AsyncLocalStorage<readonly KitLockHandle[]>();

/** Runs work in an async context that records the lock it holds. */
export function runHolding<Result>(handle: KitLockHandle, work: () => Result): Result {
  // A context that passes from request to request would otherwise keep the handles of all of them.
  const outer = (contexts.getStore() ?? []).filter((each) => each.remainingMs() > 0);
  return contexts.run([...outer, handle], work);
}

/** Throws when the caller is known to hold one of the locks already. */
export function refuseReentry(ownLocks: readonly KitLockHandle[], requested: RequestedLocks): void {
  for (const handle of ownLocks) {
    const key = handle.heldKeyOf(requested);
    if (key === undefined) continue;
    throw new RedisKitError(
      'ERR_REDIS_KIT_LOCK_REENTRY',
      `the lock '${key}' is held by the work that requests it again; pass the handle on (req.lock) instead`,
    );
  }
}

/** Whether work in this async context holds one of the locks: the caller, or other work whose context was passed on. */
export function isHeldInContext(requested: RequestedLocks): boolean {
  return contexts.getStore()?.some((handle) => handle.heldKeyOf(requested) !== undefined) ?? false;
}
