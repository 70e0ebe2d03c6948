import { AsyncLocalStorage } from 'node:async_hooks';
import { RedisKitError } from '../base/errors.ts';
import { type Link, LinkedList } from '../base/linked-list.ts';
import type { Reporter } from '../base/reporter.ts';
import type { KitLockHandle, RequestedLocks } from './handle.ts';

/*
 * Work that requests a lock that the work itself holds would wait in vain. A request object, or the signal of a handle,
 * proves that the caller holds a lock. The async context does not: a connection pool may run the callback of one
 * request in the context of another request, which has just returned its connection.
 *
 * A request that holds a lock through the middleware has no async context of its own, which would cost each request
 * more than its lock. A call that such a request makes without its handle shows only when its wait is over.
 */

/** The warning names no key, so that it is logged once: the reporter logs each text once. */
const MAY_WAIT_FOR_ITSELF =
  'kit.locks: a call may wait for a lock that its own work holds, because the async context shows such a lock, or because one request of this process held the lock until `wait` was over. If it is the same work, pass the handle on (req.lock, or the handle from `using`), or give its `signal` as the option `signal`, and such a call is refused at once. Otherwise, the holder takes longer than `wait`, or a connection pool or a similar library runs the callback of one request in the context of another, which AsyncResource.bind prevents';

const contexts = new AsyncLocalStorage<readonly KitLockHandle[]>();

/** The handles of the requests that hold a lock through the middleware. */
const requestHandles = new LinkedList<KitLockHandle>();

/** Runs work in an async context that records the handle as held. */
export function runHolding<Result>(handle: KitLockHandle, work: () => Result): Result {
  // Released handles are dropped: a context that passes from request to request would keep them all in memory.
  const outer = (contexts.getStore() ?? []).filter((each) => each.remainingMs() > 0);
  return contexts.run([...outer, handle], work);
}

export type RequestHandleLink = Link<KitLockHandle>;

/** Records that a request holds its lock without an async context, until `removeRequestHandle()`. */
export function addRequestHandle(handle: KitLockHandle): RequestHandleLink {
  return requestHandles.add(handle);
}

export function removeRequestHandle(link: RequestHandleLink): void {
  requestHandles.remove(link);
}

/** Throws when the caller is known to hold a requested lock; warns when only the async context shows such a lock. */
export function checkReentry(
  ownLocks: readonly KitLockHandle[],
  requested: RequestedLocks,
  reporter: Reporter,
): void {
  for (const handle of ownLocks) {
    const lock = handle.heldLockOf(requested);
    if (lock === undefined) continue;
    throw new RedisKitError(
      'ERR_REDIS_KIT_LOCK_REENTRY',
      `the lock '${lock.grant.key}' is held by the work that requests it again; pass the handle on (req.lock) instead`,
    );
  }
  const isHeldInContext = contexts.getStore()?.some((handle) => handle.heldLockOf(requested) !== undefined);
  if (isHeldInContext === true) reporter.warning(MAY_WAIT_FOR_ITSELF);
}

/** Warns when a call has waited in vain since `askedAt` and one request has held a requested lock all the time. */
export function checkVainWait(askedAt: number, requested: RequestedLocks, reporter: Reporter): void {
  for (const { value: handle } of requestHandles.links()) {
    const lock = handle.heldLockOf(requested);
    if (lock === undefined || lock.grant.grantedAt.steady > askedAt) continue;
    reporter.warning(MAY_WAIT_FOR_ITSELF);
    return;
  }
}
