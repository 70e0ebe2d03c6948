import { performance } from 'node:perf_hooks';
import { asError, LockLostError } from '../base/errors.ts';
import type { LockKeys } from '../base/keys.ts';
import type { OpenWork } from '../base/open-work.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import type { Turns } from '../waiting/turns.ts';
import { lockExtend } from './operations/extend.ts';
import { type LockReleaseArgs, lockRelease } from './operations/release.ts';
import { undo } from './undo.ts';

export interface LeaseDeps {
  readonly engine: Engine;
  readonly reporter: Reporter;
  readonly turns: Turns;
  readonly work: OpenWork;
}

/** One key that was granted. */
export interface Granted {
  readonly id: string;
  readonly keys: LockKeys;
  /** How it was asked for, which is how it is given back. */
  readonly ask: LockReleaseArgs;
  readonly fence: number;
  readonly leaseMs: number;
  /** Before the command that granted it was sent: the lease cannot have begun earlier. */
  readonly grantedAt: Moment;
  readonly renew: boolean;
}

/** A moment by both clocks: one stands still while the machine is suspended, the other may be set. */
export interface Moment {
  readonly steady: number;
  readonly wall: number;
}

export function thisMoment(): Moment {
  return { steady: performance.now(), wall: Date.now() };
}

/** So often both clocks are looked at, since no timer tells that the machine was suspended. */
const LOOK_EVERY_MS = 1_000;

/** The hold of one key: renewed until it is given back or lost. */
export class Lease {
  readonly id: string;
  readonly fence: number;
  /** Told once when the lease is lost or may be. */
  onLost: (error: LockLostError) => void = () => undefined;
  readonly #granted: Granted;
  readonly #deps: LeaseDeps;
  readonly #stopHearing: () => void;
  readonly #workIsDone: () => void;
  #since: Moment;
  #leaseMs: number;
  #extensions = 0;
  #renewAt = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #lost: LockLostError | undefined;
  #released: Promise<boolean> | undefined;

  constructor(granted: Granted, deps: LeaseDeps) {
    this.id = granted.id;
    this.fence = granted.fence;
    this.#granted = granted;
    this.#deps = deps;
    this.#since = granted.grantedAt;
    this.#leaseMs = granted.leaseMs;
    this.#workIsDone = deps.work.begin();
    this.#stopHearing = deps.turns.onLost(granted.ask.token, () => {
      this.lose(new LockLostError(`the lock '${this.id}' was taken away`));
    });
    this.#begin();
  }

  get lost(): LockLostError | undefined {
    return this.#lost;
  }

  get key(): string {
    return this.#granted.keys.lock;
  }

  /** Surely left, by whichever clock says less. */
  remainingMs(): number {
    if (this.#released !== undefined || this.#lost !== undefined) return 0;
    const { steady, wall } = thisMoment();
    const passed = Math.max(steady - this.#since.steady, wall - this.#since.wall);
    return Math.max(0, this.#leaseMs - passed);
  }

  /** Rejects as commands do where nobody can tell; a lease that has ended is lost. */
  async extend(leaseMs: number = this.#leaseMs): Promise<void> {
    const since = thisMoment();
    const extension = ++this.#extensions;
    // A shorter lease may have begun, whether or not its answer comes.
    if (leaseMs < this.remainingMs()) this.#lastsFrom(since, leaseMs);
    // A renewal now would undo this one.
    this.#renewAt = Number.POSITIVE_INFINITY;
    const { token } = this.#granted.ask;
    try {
      if (!(await this.#deps.engine.run(lockExtend, [this.key], { token, lease: leaseMs }))) {
        this.lose(new LockLostError(`the lock '${this.id}' was lost: its lease ended or it was taken away`));
      }
      if (this.#isLast(extension)) this.#lastsFrom(since, leaseMs);
    } catch (error) {
      if (this.#isLast(extension) && this.#granted.renew) {
        this.#renewAt = performance.now() + Math.max(10, this.#leaseMs / 10);
        this.#lookLater();
      }
      throw error;
    }
  }

  /** Of several at once the last counts, as it does in Redis. */
  #isLast(extension: number): boolean {
    return this.#lost === undefined && this.#released === undefined && extension === this.#extensions;
  }

  /** Ends the hold from our side: whoever works under it is told to stop. */
  lose(error: LockLostError): void {
    if (this.#released !== undefined || this.#lost !== undefined) return;
    this.#lost = error;
    this.#end();
    this.onLost(error);
  }

  /** False when the lease had ended before. Never rejects. */
  release(deadline?: Deadline): Promise<boolean> {
    this.#released ??= this.#release(deadline);
    return this.#released;
  }

  async #release(deadline: Deadline | undefined): Promise<boolean> {
    const { engine, reporter } = this.#deps;
    const { keys, ask } = this.#granted;
    clearTimeout(this.#timer);
    try {
      return await engine.run(lockRelease, [keys.lock, keys.line], ask, deadline);
    } catch (error) {
      reporter.failure('lock', asError(error));
      void undo(this.#deps, keys, ask, this.#leaseMs);
      return false;
    } finally {
      this.#end();
    }
  }

  #lastsFrom(since: Moment, leaseMs: number): void {
    this.#since = since;
    this.#leaseMs = leaseMs;
    this.#begin();
  }

  #begin(): void {
    const left = this.#leaseMs - (performance.now() - this.#since.steady);
    this.#renewAt = this.#granted.renew
      ? performance.now() + left - (this.#leaseMs * 2) / 3
      : Number.POSITIVE_INFINITY;
    this.#lookLater();
  }

  #lookLater(): void {
    clearTimeout(this.#timer);
    const next = Math.min(LOOK_EVERY_MS, this.#renewAt - performance.now(), this.remainingMs());
    this.#timer = setTimeout(() => this.#look(), Math.max(1, next)).unref();
  }

  #look(): void {
    if (this.remainingMs() <= 0) {
      this.lose(new LockLostError(`the lease of the lock '${this.id}' may have ended`));
      return;
    }
    if (performance.now() >= this.#renewAt) this.#renew();
    this.#lookLater();
  }

  /** A renewal that fails is tried again until the lease may have ended. */
  #renew(): void {
    this.extend().catch((error: unknown) => {
      if (this.#released !== undefined || this.#lost !== undefined) return;
      this.#deps.reporter.failure('lock', asError(error));
    });
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#stopHearing();
    this.#workIsDone();
  }
}
