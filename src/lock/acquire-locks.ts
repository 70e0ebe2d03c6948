import { performance } from 'node:perf_hooks';
import { asError, closedError, LockLostError, StoreError } from '../base/errors.ts';
import { freshToken } from '../base/token.ts';
import type { Deadline } from '../engine/deadline.ts';
import { type ClaimReply, type ClaimResult, makeClaim } from '../waiting/claim.ts';
import { GrantedLock, type LockDeps, momentNow } from './granted-lock.ts';
import { checkReentry, KitLockHandle } from './handle.ts';
import { lockAcquire } from './operations/acquire.ts';
import { lockRelease } from './operations/release.ts';
import type { LockConflict } from './options.ts';

export interface LockRequest {
  readonly leaseMs: number;
  readonly waitMs: number;
  readonly renew: boolean;
  readonly isFair: boolean;
  /** Information about the holder that `inspect` shows, as JSON; empty for none. */
  readonly metadata: string;
  readonly signal?: AbortSignal | undefined;
  readonly deadline?: Deadline | undefined;
  /** Locks that the caller is known to hold. A request for one throws at once, since it would wait for itself. */
  readonly ownLocks: readonly KitLockHandle[];
}

/**
 * Acquires the locks of all keys or none of them. The keys are claimed one after the other in an order that is the same
 * in all processes, so that no two callers wait for each other.
 */
export async function acquireLocks(
  keys: readonly string[],
  request: LockRequest,
  deps: LockDeps,
): Promise<KitLockHandle | LockConflict> {
  const sorted = [...new Set(keys)].sort();
  const redisKeys = new Set(sorted.map((key) => deps.keys.lock(key).lock));
  checkReentry(request.ownLocks, { engine: deps.engine, redisKeys }, deps.reporter);
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
  return openHandle(locks, hasWaited ? performance.now() - startedAt : undefined, deps);
}

/** Claims the lock of one key, waiting up to `waitMs`. */
async function claimLock(
  key: string,
  request: LockRequest,
  deps: LockDeps,
): Promise<ClaimResult<GrantedLock>> {
  const { engine, reporter, processChannel } = deps;
  const { leaseMs, waitMs, isFair, metadata, renew, signal } = request;
  const token = freshToken();
  const wakeUp = waitMs > 0 ? processChannel.expect(token) : undefined;
  const redisKeys = deps.keys.lock(key);
  const { lock, line, fence } = redisKeys;
  const { process, channels } = processChannel;
  const release = { token, waitMs, process, channels, isFair };

  async function ask(hasWaited: boolean): Promise<ClaimReply<GrantedLock>> {
    const grantedAt = momentNow();
    // The deadline limits time spent on Redis, not a wait that the caller asked for.
    const deadline = hasWaited ? undefined : request.deadline;
    const args = { ...release, lease: leaseMs, metadata };
    const reply = await engine.run(lockAcquire, [lock, line, fence], args, deadline);
    if (reply.found === 'corrupt') reporter.failure('lock', corrupt(lock));
    const { leftMs } = reply;
    const needsUndo = reply.granted || wakeUp !== undefined;
    if (!reply.granted) return { leftMs, needsUndo };
    const grant = { key, redisKeys, release, fence: reply.fence, leaseMs, grantedAt, renew };
    const granted = new GrantedLock(grant, deps);
    if (granted.remainingMs() > 0) return { granted, leftMs, needsUndo };
    // The lease may have ended before the reply arrived.
    await granted.release();
    return { leftMs, needsUndo };
  }

  return makeClaim(
    {
      ask,
      undo: () => engine.run(lockRelease, [lock, line], release),
      undoForMs: Math.max(leaseMs, waitMs),
      waitMs,
      wakeUp,
      signal,
      failed: (error) => reporter.failure('lock', asError(error)),
    },
    deps,
  );
}

async function openHandle(
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

function corrupt(lockKey: string): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_CORRUPT',
    `the value under ${lockKey} is not a redis-kit lock; it counts as held, since it may be a lock, until kit.locks.forceRelease deletes it`,
  );
}
