import type { Duration } from '../base/duration.ts';
import { LockLostError, RedisKitError } from '../base/errors.ts';
import { OptionReader } from '../base/option-reader.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import type { GrantedLock, LockDeps } from './granted-lock.ts';
import { leaseOption } from './options.ts';

/** A lock, on one key or several, that its holder releases. */
export interface LockHandle extends AsyncDisposable {
  /** Without duplicates, in the order in which they were acquired. */
  readonly keys: readonly string[];
  /** The fencing token of each key. */
  readonly fences: ReadonlyMap<string, number>;
  /**
   * The fencing token: it grows with every grant of the key. Pass it to the system that the lock protects, and let that
   * system refuse a lower one; nothing else protects from a holder that was suspended and resumes after its lease has
   * ended. Throws when the handle holds several keys.
   */
  readonly fence: number;
  /** Aborts with a LockLostError as its reason when the lock of any key is lost, or may be lost. */
  readonly signal: AbortSignal;
  /** Milliseconds that are certainly left of the lease, by the clocks of this process; 0 when it may have ended. */
  remainingMs(): number;
  /** Throws a LockLostError when the lock may be lost. Call it after long synchronous work. */
  assertHeld(): void;
  /**
   * Makes the lease last this long from now; default: its length so far. Resolves to false when the lock of any key is
   * no longer held. Rejects when Redis cannot be asked: then the shorter of the former and the new lease counts.
   */
  extend(lease?: Duration): Promise<boolean>;
  /** Releases the lock. Resolves to false when its lease had ended before. Never rejects. */
  release(): Promise<boolean>;
}

/** Requested locks. `keys` maps the Redis key of each lock to the key that the caller gave. */
export interface RequestedLocks {
  readonly engine: Engine;
  readonly keys: ReadonlyMap<string, string>;
}

const handles = new WeakMap<AbortSignal, KitLockHandle>();

/** The handle that a signal belongs to. */
export function handleOfSignal(signal: AbortSignal): KitLockHandle | undefined {
  return handles.get(signal);
}

/** Holds the locks of one request or one call: when one is lost all are, and all are released together. */
export class KitLockHandle implements LockHandle {
  readonly keys: readonly string[];
  readonly fences: ReadonlyMap<string, number>;
  readonly #locks: readonly GrantedLock[];
  readonly #deps: LockDeps;
  /** Created lazily: AbortSignals are expensive. */
  #abort: AbortController | undefined;
  #lost: LockLostError | undefined;
  #released: Promise<boolean> | undefined;

  constructor(locks: readonly GrantedLock[], deps: LockDeps) {
    this.keys = locks.map(({ key }) => key);
    this.fences = new Map(locks.map(({ key, fence }) => [key, fence]));
    this.#locks = locks;
    this.#deps = deps;
    for (const lock of locks) {
      lock.onLost = (error) => this.lose(error);
      if (lock.lost !== undefined) this.lose(lock.lost);
    }
  }

  get fence(): number {
    const [lock, ...others] = this.#locks;
    if (lock !== undefined && others.length === 0) return lock.fence;
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

  /** The key of a requested lock that this handle holds now. */
  heldKeyOf({ engine, keys }: RequestedLocks): string | undefined {
    if (engine !== this.#deps.engine || this.remainingMs() === 0) return undefined;
    const lock = this.#locks.find(({ redisKey }) => keys.has(redisKey));
    return lock && keys.get(lock.redisKey);
  }

  remainingMs(): number {
    if (this.#released !== undefined || this.#lost !== undefined) return 0;
    return Math.min(...this.#locks.map((lock) => lock.remainingMs()));
  }

  assertHeld(): void {
    if (this.remainingMs() > 0) return;
    const why = this.#lost ? `: ${this.#lost.message}` : this.#released ? ', it was released' : '';
    throw new LockLostError(`the lock ${this.#quotedKeys} is no longer held${why}`, { cause: this.#lost });
  }

  async extend(lease?: Duration): Promise<boolean> {
    const leaseMs =
      lease === undefined ? undefined : leaseOption(new OptionReader('lock.extend', { lease }, ['lease']));
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
  }

  release(deadline?: Deadline): Promise<boolean> {
    this.#released ??= this.#release(deadline);
    return this.#released;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release().then(() => undefined);
  }

  async #release(deadline: Deadline | undefined): Promise<boolean> {
    const wereHeld = await Promise.all(this.#locks.map((lock) => lock.release(deadline)));
    if (wereHeld.includes(true)) this.#deps.reporter.events.emit('lock:released', { keys: this.keys });
    return !wereHeld.includes(false);
  }

  get #quotedKeys(): string {
    return this.keys.map((key) => `'${key}'`).join(', ');
  }
}
