import { asError, StoreError } from '../base/errors.ts';
import type { Keys, LockKeys } from '../base/keys.ts';
import { freshToken } from '../base/token.ts';
import type { Deadline } from '../engine/deadline.ts';
import { type Answer, askInTurn } from '../waiting/ask-in-turn.ts';
import { mayHaveRun } from '../waiting/insist.ts';
import type { Turn } from '../waiting/turns.ts';
import type { Handle } from './handle.ts';
import { Lease, type LeaseDeps, type Moment, thisMoment } from './lease.ts';
import { type LockAcquireReply, lockAcquire } from './operations/acquire.ts';
import type { LockReleaseArgs } from './operations/release.ts';
import { undo } from './undo.ts';

/** What every lock of a kit shares. */
export interface LockDeps extends LeaseDeps {
  readonly keys: Keys;
  readonly closing: AbortSignal;
}

/** How a lock is wanted. */
export interface Wanted {
  readonly leaseMs: number;
  readonly waitMs: number;
  readonly renew: boolean;
  readonly isFair: boolean;
  /** JSON, or empty. */
  readonly metadata: string;
  readonly signal?: AbortSignal | undefined;
  readonly deadline?: Deadline | undefined;
  /** What the caller is known to hold, which its async context does not prove. */
  readonly own: readonly Handle[];
}

/** Why nothing was granted: by a key that somebody else has. */
export interface Refusal {
  readonly key: string;
  /** Of the holder's lease, which it may renew; null when nobody can tell. */
  readonly expiresInMs: number | null;
}

/** One key is asked for, until it is granted or it is time to give up. */
export class Asking {
  readonly #id: string;
  readonly #wanted: Wanted;
  readonly #deps: LockDeps;
  readonly #keys: LockKeys;
  readonly #ask: LockReleaseArgs;
  readonly #turn: Turn | undefined;
  /** Whether Redis may have a grant of ours, or a place in the line. */
  #isKnown = false;

  constructor(id: string, wanted: Wanted, deps: LockDeps) {
    const { keys, turns } = deps;
    const token = freshToken();
    this.#id = id;
    this.#wanted = wanted;
    this.#deps = deps;
    this.#keys = keys.lock(id);
    this.#turn = wanted.waitMs > 0 ? turns.wait(token) : undefined;
    const { process, channels } = turns;
    this.#ask = { token, waitMs: wanted.waitMs, process, channels, isFair: wanted.isFair };
  }

  async result(): Promise<{ readonly lease: Lease; readonly hasWaited: boolean } | Refusal> {
    const { closing, reporter } = this.#deps;
    const { waitMs, signal } = this.#wanted;
    const failed = (error: unknown) => void reporter.failure('lock', asError(error));
    const patience = { waitMs, turn: this.#turn, signal, closing, failed };
    try {
      const {
        granted: lease,
        leftMs,
        hasWaited,
      } = await askInTurn((hasWaited) => this.#askOnce(hasWaited), patience);
      if (lease !== undefined) return { lease, hasWaited };
      this.#leave();
      return { key: this.#id, expiresInMs: leftMs < 0 ? null : leftMs };
    } catch (error) {
      this.#leave();
      throw error;
    } finally {
      this.#turn?.end();
    }
  }

  async #askOnce(hasWaited: boolean): Promise<Answer<Lease>> {
    const grantedAt = thisMoment();
    // The wait is the user's wish; a request may need its time for Redis again when it is over.
    const deadline = hasWaited ? undefined : this.#wanted.deadline;
    const { granted, fence, leftMs } = await this.#send(deadline);
    return { granted: granted ? await this.#leaseOf(fence, grantedAt) : undefined, leftMs };
  }

  async #send(deadline: Deadline | undefined): Promise<LockAcquireReply> {
    const { engine, reporter } = this.#deps;
    const { leaseMs, metadata } = this.#wanted;
    const { lock, line, fence } = this.#keys;
    try {
      const args = { ...this.#ask, lease: leaseMs, metadata };
      const reply = await engine.run(lockAcquire, [lock, line, fence], args, deadline);
      this.#isKnown = reply.granted || this.#turn !== undefined;
      if (reply.found === 'corrupt') reporter.failure('lock', corrupt(lock));
      return reply;
    } catch (error) {
      this.#isKnown ||= mayHaveRun(error);
      throw error;
    }
  }

  /** Undefined where the answer took longer than the lease lasts. */
  async #leaseOf(fence: number, grantedAt: Moment): Promise<Lease | undefined> {
    const { leaseMs, renew } = this.#wanted;
    const granted = { id: this.#id, keys: this.#keys, ask: this.#ask, fence, leaseMs, grantedAt, renew };
    const lease = new Lease(granted, this.#deps);
    if (lease.remainingMs() > 0) return lease;
    await lease.release();
    return undefined;
  }

  #leave(): void {
    if (!this.#isKnown) return;
    void undo(this.#deps, this.#keys, this.#ask, this.#wanted.leaseMs);
  }
}

/** Taken for held: an unreadable lock may be somebody's. */
function corrupt(key: string): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_CORRUPT',
    `the value under ${key} is no lock of redis-kit; it counts as held until kit.locks.forceRelease takes it away`,
  );
}
