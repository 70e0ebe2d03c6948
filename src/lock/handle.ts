import { performance } from 'node:perf_hooks';
import { OptionReader } from '../base/check.ts';
import type { Duration } from '../base/duration.ts';
import { asError, LockLostError } from '../base/errors.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Budget } from '../engine/budget.ts';
import type { Engine } from '../engine/port.ts';
import { lockExtend } from '../operations/lock-extend.ts';
import { lockRelease } from '../operations/lock-release.ts';
import { leaseOption } from './options.ts';
import { undo } from './undo.ts';

/** A lock that is held. */
export interface LockHandle extends AsyncDisposable {
  readonly keys: readonly string[];
  /** The fencing number of each key. */
  readonly fences: ReadonlyMap<string, number>;
  /**
   * Grows with every grant of the key. Hand it to what the lock protects, and let that refuse a lower one: the only
   * protection from a holder that was suspended and woke up after its lease.
   */
  readonly fence: number;
  /** Aborts, with a LockLostError as its reason, when the lock is lost or may be. */
  readonly signal: AbortSignal;
  /** Milliseconds of the lease that are surely left, by this process's clock; 0 when it may have ended. */
  remainingMs(): number;
  /** Throws a LockLostError when the lock may be lost; for code after a long synchronous stretch. */
  assertHeld(): void;
  /** Makes the lease last this long from now; default: its first length. Rejects with a LockLostError. */
  extend(lease?: Duration): Promise<void>;
  /** Frees the lock; false when the lease had ended before. Never rejects. */
  release(): Promise<boolean>;
}

export interface HeldLock {
  readonly id: string;
  readonly key: string;
  readonly token: string;
  readonly fence: number;
  readonly leaseMs: number;
  /** Before the command that granted it was sent: the lease cannot have begun earlier. */
  readonly grantedAt: number;
  readonly renew: boolean;
}

export interface HandleDeps {
  readonly engine: Engine;
  readonly reporter: Reporter;
}

export class Handle implements LockHandle {
  readonly keys: readonly string[];
  readonly fences: ReadonlyMap<string, number>;
  readonly fence: number;
  readonly #held: HeldLock;
  readonly #deps: HandleDeps;
  readonly #abort = new AbortController();
  #endsAt: number;
  #leaseMs: number;
  #renewal: NodeJS.Timeout | undefined;
  #expiry: NodeJS.Timeout | undefined;
  #released: Promise<boolean> | undefined;

  constructor(held: HeldLock, deps: HandleDeps) {
    this.keys = [held.id];
    this.fence = held.fence;
    this.fences = new Map([[held.id, held.fence]]);
    this.#held = held;
    this.#deps = deps;
    this.#leaseMs = held.leaseMs;
    this.#endsAt = held.grantedAt + held.leaseMs;
    this.#watch();
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  remainingMs(): number {
    if (this.#released !== undefined || this.signal.aborted) return 0;
    return Math.max(0, this.#endsAt - performance.now());
  }

  assertHeld(): void {
    if (this.remainingMs() > 0) return;
    const { reason } = this.signal;
    const why = reason instanceof Error ? `: ${reason.message}` : ', it was released';
    throw new LockLostError(`the lock '${this.#held.id}' is no longer held${why}`, { cause: reason });
  }

  async extend(lease?: Duration): Promise<void> {
    const leaseMs =
      lease === undefined
        ? this.#leaseMs
        : leaseOption(new OptionReader('lock.extend', { lease }, ['lease']));
    this.assertHeld();
    const sentAt = performance.now();
    const { engine } = this.#deps;
    const { key, token } = this.#held;
    if (!(await engine.run(lockExtend, [key], { token, lease: leaseMs }))) {
      this.lose(
        new LockLostError(`the lock '${this.#held.id}' was lost: its lease ended or it was taken away`),
      );
    }
    this.assertHeld();
    this.#leaseMs = leaseMs;
    this.#endsAt = sentAt + leaseMs;
    this.#watch();
  }

  /** Ends the hold from our side: whoever works under it is told to stop. */
  lose(error: LockLostError): void {
    if (this.#released !== undefined || this.signal.aborted) return;
    this.#stopTimers();
    this.#deps.reporter.events.emit('lock:lost', { keys: this.keys, error });
    this.#abort.abort(error);
  }

  release(budget?: Budget): Promise<boolean> {
    this.#released ??= this.#release(budget);
    return this.#released;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release().then(() => undefined);
  }

  async #release(budget: Budget | undefined): Promise<boolean> {
    this.#stopTimers();
    const { engine, reporter } = this.#deps;
    const { key, token } = this.#held;
    try {
      const wasHeld = await engine.run(lockRelease, [key], { token }, budget);
      if (wasHeld) reporter.events.emit('lock:released', { keys: this.keys });
      return wasHeld;
    } catch (error) {
      reporter.failure('lock', asError(error));
      void undo(engine, key, token, this.#leaseMs);
      return false;
    }
  }

  #watch(): void {
    this.#stopTimers();
    const left = this.#endsAt - performance.now();
    const lost = () =>
      this.lose(new LockLostError(`the lease of the lock '${this.#held.id}' may have ended`));
    this.#expiry = setTimeout(lost, left).unref();
    if (this.#held.renew) this.#renewal = setTimeout(() => this.#renew(), this.#leaseMs / 3).unref();
  }

  /** A renewal that fails is tried again until the lease may have ended; then the expiry timer speaks. */
  #renew(): void {
    this.extend().catch((error: unknown) => {
      if (this.#released !== undefined || this.signal.aborted) return;
      this.#deps.reporter.failure('lock', asError(error));
      this.#renewal = setTimeout(() => this.#renew(), Math.max(10, this.#leaseMs / 10)).unref();
    });
  }

  #stopTimers(): void {
    clearTimeout(this.#renewal);
    clearTimeout(this.#expiry);
  }
}
