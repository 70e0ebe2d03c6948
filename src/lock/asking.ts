import { performance } from 'node:perf_hooks';
import { asError, ConnectionError, closedError, StoreError } from '../base/errors.ts';
import type { Keys, LockKeys } from '../base/keys.ts';
import { freshToken } from '../base/token.ts';
import type { Budget } from '../engine/budget.ts';
import { mayHaveRun } from '../engine/insist.ts';
import type { Turn } from '../engine/turns.ts';
import { type LockAcquireReply, lockAcquire } from '../operations/lock-acquire.ts';
import type { LockReleaseArgs } from '../operations/lock-release.ts';
import { Lease, type LeaseDeps, type Moment, thisMoment } from './lease.ts';
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
  readonly budget?: Budget | undefined;
}

/** Why nothing was granted: by a key that somebody else has. */
export interface Refusal {
  readonly key: string;
  /** Of the holder's lease, which it may renew; null when nobody can tell. */
  readonly expiresInMs: number | null;
}

/** How soon a lock that cannot be read, or a Redis that failed, is asked again. */
const ASK_AGAIN_MS = 500;

/** One key is asked for, until it is granted or it is time to give up. */
export class Asking {
  /** Whether it was not granted at once. */
  hasWaited = false;
  readonly #id: string;
  readonly #wanted: Wanted;
  readonly #deps: LockDeps;
  readonly #keys: LockKeys;
  readonly #ask: LockReleaseArgs;
  readonly #turn: Turn | undefined;
  readonly #deadline: number;
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
    this.#deadline = performance.now() + wanted.waitMs;
  }

  async result(): Promise<Lease | Refusal> {
    try {
      return await this.#untilGranted();
    } catch (error) {
      this.#leave();
      throw error;
    } finally {
      this.#turn?.end();
    }
  }

  async #untilGranted(): Promise<Lease | Refusal> {
    const { closing, reporter } = this.#deps;
    const { signal } = this.#wanted;
    for (;;) {
      let failure: unknown;
      let leftMs = -1;
      try {
        const grantedAt = thisMoment();
        const reply = await this.#send();
        const lease = reply.granted ? await this.#leaseOf(reply.fence, grantedAt) : undefined;
        if (lease !== undefined) return lease;
        leftMs = reply.leftMs;
      } catch (error) {
        // The first question says how things stand; who waits already outlives a short trouble.
        if (!this.hasWaited || !mayPass(error)) throw error;
        reporter.failure('lock', asError(error));
        failure = error;
      }
      const waitMs = this.#deadline - performance.now();
      if (this.#turn === undefined || waitMs <= 0) {
        if (failure !== undefined) throw failure;
        this.#leave();
        return { key: this.#id, expiresInMs: leftMs < 0 ? null : leftMs };
      }
      this.hasWaited = true;
      await this.#turn.pause(Math.min(leftMs < 0 ? ASK_AGAIN_MS : leftMs, waitMs), signal);
      if (closing.aborted) throw closedError();
      if (signal?.aborted === true) throw signal.reason;
    }
  }

  async #send(): Promise<LockAcquireReply> {
    const { engine, reporter } = this.#deps;
    const { leaseMs, metadata, budget } = this.#wanted;
    const { lock, line, fence } = this.#keys;
    try {
      const args = { ...this.#ask, lease: leaseMs, metadata };
      const reply = await engine.run(lockAcquire, [lock, line, fence], args, budget);
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

function mayPass(error: unknown): boolean {
  return error instanceof ConnectionError || mayHaveRun(error);
}

/** Taken for held: an unreadable lock may be somebody's. */
function corrupt(key: string): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_CORRUPT',
    `the value under ${key} is no lock of redis-kit; it counts as held until kit.locks.forceRelease takes it away`,
  );
}
