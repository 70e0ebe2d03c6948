import { asError, StoreError } from '../base/errors.ts';
import { freshToken } from '../base/token.ts';
import type { Deadline } from '../engine/deadline.ts';
import { type ClaimReply, type ClaimResult, makeClaim } from '../waiting/claim.ts';
import { GrantedLock, type LockDeps, momentNow } from './granted-lock.ts';
import type { KitLockHandle } from './handle.ts';
import { lockAcquire } from './operations/acquire.ts';
import { lockRelease } from './operations/release.ts';

/** How a caller asks for its locks. */
export interface LockRequest {
  readonly leaseMs: number;
  readonly waitMs: number;
  readonly renew: boolean;
  readonly isFair: boolean;
  /** JSON, or empty. */
  readonly metadata: string;
  readonly signal?: AbortSignal | undefined;
  readonly deadline?: Deadline | undefined;
  /** The locks that the caller itself holds, as far as that is proven. */
  readonly ownLocks: readonly KitLockHandle[];
}

/** Claims the lock of one key, and waits for it up to `waitMs`. */
export async function claimLock(
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
    // The reply took longer than the lease lasts.
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

function corrupt(lockKey: string): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_CORRUPT',
    `the value under ${lockKey} is not a redis-kit lock; it counts as held, since it may be a lock, until kit.locks.forceRelease deletes it`,
  );
}
