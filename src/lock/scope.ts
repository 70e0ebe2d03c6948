import { AsyncLocalStorage } from 'node:async_hooks';
import type { IncomingMessage } from 'node:http';
import { RedisKitError } from '../base/errors.ts';
import type { Engine } from '../engine/port.ts';
import { type Handle, handleOfSignal } from './handle.ts';

/*
 * Work that waits for a lock that it holds itself waits in vain. The request, or the signal of a handle, proves who asks.
 * The async context does not: a connection pool that calls one request back while another gives its connection up calls
 * it in the context of that other one.
 */

const HELD: unique symbol = Symbol('the locks that the request holds');

interface LockingRequest extends IncomingMessage {
  [HELD]?: Handle[];
}

/** The locks that a request holds, to be added to. */
export function locksOf(req: LockingRequest): Handle[] {
  req[HELD] ??= [];
  return req[HELD];
}

const contexts = new AsyncLocalStorage<readonly Handle[]>();

/** Runs what works under a lock, so that it can be warned when it seems to ask for the lock again. */
export function underLock<Result>(handle: Handle, work: () => Result): Result {
  // A context that is carried on from request to request would otherwise keep the handles of all of them.
  const outer = (contexts.getStore() ?? []).filter((each) => each.remainingMs() > 0);
  return contexts.run([...outer, handle], work);
}

/** The locks to be taken: what Redis calls them, and what the caller does. */
export interface LockNames {
  readonly engine: Engine;
  readonly ids: ReadonlyMap<string, string>;
}

/** Throws where one of the locks is held by a handle that is proven to be the caller's own. */
export function refuseReentry(own: readonly Handle[], names: LockNames): void {
  for (const handle of own) {
    const id = handle.heldOf(names);
    if (id === undefined) continue;
    throw new RedisKitError(
      'ERR_REDIS_KIT_LOCK_REENTRY',
      `the lock '${id}' is held by the work that asks for it again; pass the handle on (req.lock) instead`,
    );
  }
}

/** The handle whose signal a caller passes on, which only work under that handle does. */
export function handlesOf(signal: AbortSignal | undefined): readonly Handle[] {
  const handle = signal && handleOfSignal(signal);
  return handle === undefined ? [] : [handle];
}

/** Whether one of the locks is held in this async context, by the caller or by work whose context was carried on. */
export function isHeldInContext(names: LockNames): boolean {
  return contexts.getStore()?.some((handle) => handle.heldOf(names) !== undefined) ?? false;
}
