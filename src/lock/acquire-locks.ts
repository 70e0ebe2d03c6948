import { performance } from 'node:perf_hooks';
import { describe } from '../base/describe.ts';
import { ConfigError, closedError, LockLostError } from '../base/errors.ts';
import { claimLock, type LockRequest } from './claim-lock.ts';
import type { GrantedLock, LockDeps } from './granted-lock.ts';
import { KitLockHandle } from './handle.ts';
import type { LockConflict } from './options.ts';
import { isHeldInContext, refuseReentry } from './reentry.ts';

/** Names no key, so that it is logged once. */
const HELD_IN_CONTEXT =
  'kit.locks: a lock was requested in the async context of work that holds it. If that work requests it, it waits for itself until `wait` is over: pass the handle on (req.lock, or the handle from `using`), or give its `signal` as the option `signal`, and such a call is refused at once. Otherwise, a connection pool or a similar library runs the callback of one request in the context of another, which AsyncResource.bind prevents';

/**
 * Acquires the locks of all keys, or of none. The keys are claimed one after the other in an order that is the same in
 * all processes, so that no two callers wait for each other.
 */
export async function acquireLocks(
  keys: readonly string[],
  request: LockRequest,
  deps: LockDeps,
): Promise<KitLockHandle | LockConflict> {
  const sorted = [...new Set(keys.map(checkKey))].sort();
  const requested = {
    engine: deps.engine,
    keys: new Map(sorted.map((key) => [deps.keys.lock(key).lock, key])),
  };
  refuseReentry(request.ownLocks, requested);
  if (isHeldInContext(requested)) deps.reporter.warning(HELD_IN_CONTEXT);
  if (deps.closing.aborted) throw closedError();
  const startedAt = performance.now();
  const locks: GrantedLock[] = [];
  let hasWaited = false;
  try {
    for (const key of sorted) {
      request.signal?.throwIfAborted();
      const waitMs = Math.max(0, Math.ceil(request.waitMs - (performance.now() - startedAt)));
      const claim = await claimLock(key, { ...request, waitMs }, deps);
      if (claim.granted === undefined) {
        await releaseAll(locks);
        deps.reporter.events.emit('lock:refused', { keys: sorted });
        const expiresInMs = claim.leftMs < 0 ? null : claim.leftMs;
        return { key, hasWaited: request.waitMs > 0, expiresInMs };
      }
      hasWaited ||= claim.hasWaited;
      locks.push(claim.granted);
    }
  } catch (error) {
    await releaseAll(locks);
    throw error;
  }
  return handleOf(locks, hasWaited ? performance.now() - startedAt : undefined, deps);
}

async function handleOf(
  locks: readonly GrantedLock[],
  waitedMs: number | undefined,
  deps: LockDeps,
): Promise<KitLockHandle> {
  const { events } = deps.reporter;
  const handle = new KitLockHandle(locks, deps);
  const { keys } = handle;
  if (handle.remainingMs() === 0) {
    await handle.release();
    throw new LockLostError('the lock of one key was lost during the wait for the others', {
      cause: handle.signal.reason,
    });
  }
  if (waitedMs !== undefined) events.emit('lock:waited', { keys, waitedMs: Math.round(waitedMs) });
  events.emit('lock:acquired', { keys });
  return handle;
}

async function releaseAll(locks: readonly GrantedLock[]): Promise<void> {
  await Promise.all(locks.map((lock) => lock.release()));
}

function checkKey(key: unknown): string {
  if (typeof key === 'string' && key !== '') return key;
  throw new ConfigError(`a lock's key is ${describe(key)}; it must be a string that is not empty`);
}
