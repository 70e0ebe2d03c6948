import type { Duration } from '../base/duration.ts';
import { LockLostError, RedisKitError } from '../base/errors.ts';
import type { LockKeys } from '../base/keys.ts';
import { OptionReader } from '../base/option-reader.ts';
import { leaseOption } from '../base/timed-options.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import type { GrantedLock, LockDeps } from './granted-lock.ts';

/** A granted lock, on one key or several. */
export interface LockHandle extends AsyncDisposable {
  /** The locked keys without duplicates, in the order in which they were acquired. */
  readonly keys: readonly string[];
  /** The fencing token of each key. */
  readonly fences: ReadonlyMap<string, number>;
  /**
   * The fencing token: it grows with every grant of the key. Pass it to the system that the lock protects, and let that
   * system refuse a token that is lower than the last; nothing else protects from a holder that was suspended and
   * resumes after its lease has ended. Throws when the handle holds several keys.
   */
  readonly fence: number;
  /** Aborts with a LockLostError as its reason when the lock of any key is lost, or may be lost. */
  readonly signal: AbortSignal;
  /** Milliseconds certainly left of the lease, by the clocks of this process; 0 when the lease may have ended. */
  remainingMs(): number;
  /** Throws a LockLostError unless the lock is certainly still held. Call it after long synchronous work. */
  assertHeld(): void;
  /**
   * Restarts the lease with this duration; default: the current one. Resolves to false when the lock of any key is no
   * longer held. Rejects when Redis cannot be reached; the lease then ends after the shorter of the old and the new
   * duration.
   */
  extend(lease?: Duration): Promise<boolean>;
  /** Releases the lock. Resolves to false if its lease has ended or Redis cannot be reached. Never rejects. */
  release(): Promise<boolean>;
}

/** The locks that a call requests from an engine. */
export interface RequestedLocks {
  readonly engine: Engine;
  readonly names: readonly { readonly redisKeys: LockKeys }[];
}

/** Handles by their signals. A caller that passes on the signal of a handle is known to hold its locks. */
const handles = new WeakMap<AbortSignal, KitLockHandle>();

/** The locks of one request or one call. When one is lost, all are lost; all are released together. */
export class KitLockHandle implements LockHandle {
  readonly keys: readonly string[];
  /** Called once after the loss of the locks. */
  onLost: ((error: LockLostError) => void) | undefined;
  readonly #locks: readonly GrantedLock[];
  readonly #deps: LockDeps;
  /** Created lazily: AbortSignals are expensive. */
  #abort: AbortController | undefined;
  #fences: ReadonlyMap<string, number> | undefined;
  #lost: LockLostError | undefined;
  #released: Promise<boolean> | undefined;

  constructor(locks: readonly GrantedLock[], deps: LockDeps) {
    this.keys = locks.map(({ grant }) => grant.key);
    this.#locks = locks;
    this.#deps = deps;
    for (const lock of locks) {
      lock.handle = this;
      if (lock.loss !== undefined) this.lose(lock.loss);
    }
  }

  get fences(): ReadonlyMap<string, number> {
    this.#fences ??= new Map(this.#locks.map(({ grant }) => [grant.key, grant.fence]));
    return this.#fences;
  }

  /** The keys in quotes, for error messages. */
  get quotedKeys(): string {
    return this.keys.map((key) => `'${key}'`).join(', ');
  }

  get fence(): number {
    const [lock, ...others] = this.#locks;
    if (lock !== undefined && others.length === 0) return lock.grant.fence;
    throw new RedisKitError(
      'ERR_REDIS_KIT_LOCK_FENCES',
      `this lock holds ${this.keys.length} keys, each with a fencing token of its own; read them from \`fences\``,
    );
  }

  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      handles.set(this.#abort.signal, this);
      if (this.#lost !== undefined) this.#abort.abort(this.#lost);
    }
    return this.#abort.signal;
  }

  /** The first lock of this handle that is requested and still held. */
  heldLockOf({ engine, names }: RequestedLocks): GrantedLock | undefined {
    if (engine !== this.#deps.engine || this.remainingMs() === 0) return undefined;
    return this.#locks.find(({ grant }) =>
      names.some(({ redisKeys }) => redisKeys.lock === grant.redisKeys.lock),
    );
  }

  remainingMs(): number {
    if (this.#released !== undefined || this.#lost !== undefined) return 0;
    return Math.min(...this.#locks.map((lock) => lock.remainingMs()));
  }

  assertHeld(): void {
    if (this.remainingMs() > 0) return;
    const why = this.#lost ? `: ${this.#lost.message}` : this.#released ? ', it was released' : '';
    throw new LockLostError(`the lock ${this.quotedKeys} is no longer held${why}`, { cause: this.#lost });
  }

  async extend(lease?: Duration): Promise<boolean> {
    const options = new OptionReader('lock.extend', { lease }, ['lease']);
    const leaseMs = lease === undefined ? undefined : leaseOption(options, lease);
    if (this.remainingMs() <= 0) return false;
    await Promise.all(this.#locks.map((lock) => lock.extend(leaseMs)));
    return this.remainingMs() > 0;
  }

  /** Marks all locks as lost in this process, aborts the signal and stops the renewals. */
  lose(error: LockLostError): void {
    if (this.#released !== undefined || this.#lost !== undefined) return;
    this.#lost = error;
    this.#deps.reporter.events.emit('lock:lost', { keys: this.keys, error });
    this.#abort?.abort(error);
    for (const lock of this.#locks) lock.lose(error);
    this.onLost?.(error);
  }

  release(deadline?: Deadline): Promise<boolean> {
    this.#released ??= this.#release(deadline);
    return this.#released;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release().then(() => undefined);
  }

  async #release(deadline: Deadline | undefined): Promise<boolean> {
    let wasAnyHeld = false;
    let wereAllHeld = true;
    const releases = this.#locks.map((lock) => lock.release(deadline));
    for (const release of releases) {
      const wasHeld = await release;
      wasAnyHeld ||= wasHeld;
      wereAllHeld &&= wasHeld;
    }
    if (wasAnyHeld) this.#deps.reporter.events.emit('lock:released', { keys: this.keys });
    return wereAllHeld;
  }
}

/** The handle to which a signal belongs, as a list; empty for any other signal. */
export function locksOfSignal(signal: AbortSignal | undefined): readonly KitLockHandle[] {
  const handle = signal && handles.get(signal);
  return handle === undefined ? [] : [handle];
}
