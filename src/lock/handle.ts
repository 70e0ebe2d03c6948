import type { Duration } from '../base/duration.ts';
import { LockLostError, RedisKitError } from '../base/errors.ts';
import { OptionReader } from '../base/option-reader.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import type { Lease } from './lease.ts';
import { leaseOption } from './options.ts';

/** A lock that is held. */
export interface LockHandle extends AsyncDisposable {
  /** Each once, in the order in which they were locked. */
  readonly keys: readonly string[];
  /** The fencing number of each key. */
  readonly fences: ReadonlyMap<string, number>;
  /**
   * Grows with every grant of the key. Hand it to what the lock protects, and let that refuse a lower one: the only
   * protection from a holder that was suspended and woke up after its lease. Throws where several keys are held.
   */
  readonly fence: number;
  /** Aborts, with a LockLostError as its reason, when the lock, or one key of it, is lost or may be. */
  readonly signal: AbortSignal;
  /** Milliseconds of the lease that are surely left, by this process's clocks; 0 when it may have ended. */
  remainingMs(): number;
  /** Throws a LockLostError when the lock may be lost; for code after a long synchronous stretch. */
  assertHeld(): void;
  /**
   * Makes the lease last this long from now; default: its length so far. False when the lock, or one key of it, is no
   * longer held. Rejects when Redis cannot be asked: then the former lease counts, or the shorter of the two.
   */
  extend(lease?: Duration): Promise<boolean>;
  /** Frees the lock; false when the lease had ended before. Never rejects. */
  release(): Promise<boolean>;
}

const handles = new WeakMap<AbortSignal, Handle>();

/** The handle whose signal it is. */
export function handleOfSignal(signal: AbortSignal): Handle | undefined {
  return handles.get(signal);
}

interface HandleDeps {
  readonly engine: Engine;
  readonly reporter: Reporter;
}

/** What a request or a job holds: one lease for each key, which are lost and given back together. */
export class Handle implements LockHandle {
  readonly keys: readonly string[];
  readonly fences: ReadonlyMap<string, number>;
  readonly #leases: readonly Lease[];
  readonly #engine: Engine;
  readonly #reporter: Reporter;
  /** Created lazily: AbortSignals are expensive. */
  #abort: AbortController | undefined;
  #lost: LockLostError | undefined;
  #released: Promise<boolean> | undefined;

  constructor(leases: readonly Lease[], { engine, reporter }: HandleDeps) {
    this.keys = leases.map(({ id }) => id);
    this.fences = new Map(leases.map(({ id, fence }) => [id, fence]));
    this.#leases = leases;
    this.#engine = engine;
    this.#reporter = reporter;
    for (const lease of leases) {
      lease.onLost = (error) => this.lose(error);
      if (lease.lost !== undefined) this.lose(lease.lost);
    }
  }

  get fence(): number {
    const [lease, ...others] = this.#leases;
    if (lease !== undefined && others.length === 0) return lease.fence;
    throw new RedisKitError(
      'ERR_REDIS_KIT_LOCK_FENCES',
      `this lock holds ${this.keys.length} keys, each with a fence of its own; read them from \`fences\``,
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

  /** The first of some locks of an engine that it holds now; `ids` by what Redis calls them. */
  heldOf(locks: { readonly engine: Engine; readonly ids: ReadonlyMap<string, string> }): string | undefined {
    if (locks.engine !== this.#engine || this.remainingMs() === 0) return undefined;
    const lease = this.#leases.find(({ key }) => locks.ids.has(key));
    return lease && locks.ids.get(lease.key);
  }

  remainingMs(): number {
    if (this.#released !== undefined || this.#lost !== undefined) return 0;
    return Math.min(...this.#leases.map((lease) => lease.remainingMs()));
  }

  assertHeld(): void {
    if (this.remainingMs() > 0) return;
    const why = this.#lost ? `: ${this.#lost.message}` : this.#released ? ', it was released' : '';
    throw new LockLostError(`the lock ${this.#name} is no longer held${why}`, { cause: this.#lost });
  }

  async extend(lease?: Duration): Promise<boolean> {
    const leaseMs =
      lease === undefined ? undefined : leaseOption(new OptionReader('lock.extend', { lease }, ['lease']));
    if (this.remainingMs() <= 0) return false;
    await Promise.all(this.#leases.map((each) => each.extend(leaseMs)));
    return this.remainingMs() > 0;
  }

  /** Ends the hold from our side: whoever works under it is told to stop. */
  lose(error: LockLostError): void {
    if (this.#released !== undefined || this.#lost !== undefined) return;
    this.#lost = error;
    this.#reporter.events.emit('lock:lost', { keys: this.keys, error });
    this.#abort?.abort(error);
    for (const lease of this.#leases) lease.lose(error);
  }

  release(deadline?: Deadline): Promise<boolean> {
    this.#released ??= this.#release(deadline);
    return this.#released;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release().then(() => undefined);
  }

  async #release(deadline: Deadline | undefined): Promise<boolean> {
    const wereHeld = await Promise.all(this.#leases.map((lease) => lease.release(deadline)));
    if (wereHeld.includes(true)) this.#reporter.events.emit('lock:released', { keys: this.keys });
    return !wereHeld.includes(false);
  }

  get #name(): string {
    return this.keys.map((key) => `'${key}'`).join(', ');
  }
}
