import { performance } from 'node:perf_hooks';
import { asError, closedError, LockLostError, StoreError } from '../base/errors.ts';
import type { LockKeys } from '../base/keys.ts';
import { freshToken } from '../base/token.ts';
import type { Deadline } from '../engine/deadline.ts';
import { type Claim, type ClaimReply, makeClaim } from '../waiting/claim.ts';
import type { WakeUp } from '../waiting/wake-ups.ts';
import { GrantedLock, type LockDeps, type Moment, momentNow } from './granted-lock.ts';
import { KitLockHandle } from './handle.ts';
import { type LockAcquireArgs, lockAcquire } from './operations/acquire.ts';
import { lockRelease } from './operations/release.ts';
import type { LockConflict } from './options.ts';
import { checkReentry } from './reentry.ts';

export interface LockTerms {
  readonly leaseMs: number;
  readonly waitMs: number;
  readonly renew: boolean;
  readonly isFair: boolean;
  /** Information about the holder that `inspect` shows, as JSON; empty for none. */
  readonly metadata: string;
}

export interface LockRequest {
  readonly terms: LockTerms;
  /** Ends the wait. Read when the request waits or requests another key, so that a getter can create it lazily. */
  readonly signal?: AbortSignal | undefined;
  readonly deadline?: Deadline | undefined;
  /** Locks that the caller is known to hold. A request for one throws at once, since it would wait for itself. */
  readonly ownLocks: readonly KitLockHandle[];
}

/** The key of a lock, as the caller named it, and its keys in Redis. */
interface LockName {
  readonly key: string;
  readonly redisKeys: LockKeys;
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
  const sorted = keys.length === 1 ? keys : [...new Set(keys)].sort();
  const names = sorted.map((key): LockName => ({ key, redisKeys: deps.keys.lock(key) }));
  checkReentry(request.ownLocks, { engine: deps.engine, names }, deps.reporter);
  if (deps.closing.aborted) throw closedError();
  const startedAt = performance.now();
  const locks: GrantedLock[] = [];
  let hasWaited = false;
  try {
    for (const name of names) {
      if (locks.length > 0) request.signal?.throwIfAborted();
      const claim = await makeClaim(new LockClaim(name, { request, startedAt }, deps), deps);
      if (claim.granted === undefined) {
        await releaseAll(locks);
        deps.reporter.events.emit('lock:refused', { keys: sorted });
        const expiresInMs = claim.leftMs < 0 ? null : claim.leftMs;
        return { key: name.key, hasWaited: request.terms.waitMs > 0, expiresInMs };
      }
      hasWaited ||= claim.hasWaited;
      locks.push(claim.granted);
    }
  } catch (error) {
    await releaseAll(locks);
    throw error;
  }
  const handle = new KitLockHandle(locks, deps);
  if (locks.length > 1 && handle.remainingMs() === 0) throw await lossDuringWait(handle);
  emitAcquired(handle, hasWaited ? performance.now() - startedAt : undefined, deps);
  return handle;
}

/** Claims the lock of one key. The wait for all keys of the request together is bounded. */
class LockClaim implements Claim<GrantedLock> {
  readonly waitMs: number;
  readonly wakeUp: WakeUp | undefined;
  readonly #name: LockName;
  readonly #request: LockRequest;
  readonly #args: LockAcquireArgs;
  readonly #deps: LockDeps;

  constructor(
    name: LockName,
    { request, startedAt }: { readonly request: LockRequest; readonly startedAt: number },
    deps: LockDeps,
  ) {
    const { leaseMs, isFair, metadata, waitMs } = request.terms;
    const { processChannel } = deps;
    const token = freshToken();
    this.waitMs = waitMs === 0 ? 0 : Math.max(0, Math.ceil(waitMs - (performance.now() - startedAt)));
    this.wakeUp = this.waitMs > 0 ? processChannel.expect(token) : undefined;
    this.#name = name;
    this.#request = request;
    this.#deps = deps;
    const { process, channels } = processChannel;
    this.#args = { token, lease: leaseMs, waitMs: this.waitMs, process, channels, isFair, metadata };
  }

  get undoForMs(): number {
    return Math.max(this.#args.lease, this.waitMs);
  }

  get signal(): AbortSignal | undefined {
    return this.#request.signal;
  }

  async ask(hasWaited: boolean): Promise<ClaimReply<GrantedLock>> {
    const { lock, line, fence } = this.#name.redisKeys;
    const grantedAt = momentNow();
    // The deadline limits time spent on Redis, not a wait that the caller asked for.
    const deadline = hasWaited ? undefined : this.#request.deadline;
    const reply = await this.#deps.engine.run(lockAcquire, [lock, line, fence], this.#args, deadline);
    if (reply.found === 'corrupt') this.failed(corrupt(lock));
    const { leftMs, granted: isGranted } = reply;
    const needsUndo = isGranted || this.wakeUp !== undefined;
    if (!isGranted) return { leftMs, needsUndo };
    const granted = this.#open(reply.fence, grantedAt);
    if (granted.remainingMs() > 0) return { granted, leftMs, needsUndo };
    // The lease may have ended before the reply arrived.
    await granted.release();
    return { leftMs, needsUndo };
  }

  undo(): Promise<boolean> {
    const { lock, line } = this.#name.redisKeys;
    return this.#deps.engine.run(lockRelease, [lock, line], this.#args);
  }

  failed(error: unknown): void {
    this.#deps.reporter.failure('lock', asError(error));
  }

  #open(fence: number, grantedAt: Moment): GrantedLock {
    const { key, redisKeys } = this.#name;
    const { renew } = this.#request.terms;
    return new GrantedLock({ key, redisKeys, args: this.#args, fence, grantedAt, renew }, this.#deps);
  }
}

function emitAcquired({ keys }: KitLockHandle, waitedMs: number | undefined, { reporter }: LockDeps): void {
  const { events } = reporter;
  if (waitedMs !== undefined) events.emit('lock:waited', { keys, waitedMs: Math.round(waitedMs) });
  events.emit('lock:acquired', { keys });
}

async function lossDuringWait(handle: KitLockHandle): Promise<LockLostError> {
  await handle.release();
  return new LockLostError('the lock of one key was lost during the wait for the others', {
    cause: handle.signal.reason,
  });
}

async function releaseAll(locks: readonly GrantedLock[]): Promise<void> {
  await Promise.all(locks.map((lock) => lock.release()));
}

function corrupt(lockKey: string): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_CORRUPT',
    `the value under ${lockKey} is not a lock that this version reads, so the lock counts as held until kit.locks.forceRelease() deletes the value`,
  );
}
