import { performance } from 'node:perf_hooks';
import { asError, LockLostError } from '../base/errors.ts';
import type { Keys, LockKeys } from '../base/keys.ts';
import type { OpenWork } from '../base/open-work.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline, RequestDeadlines } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import type { ProcessChannel } from '../waiting/process-channel.ts';
import { Renewal } from '../waiting/renewal.ts';
import { sendUntilAnswered } from '../waiting/retry.ts';
import { lockExtend } from './operations/extend.ts';
import { type LockReleaseArgs, lockRelease } from './operations/release.ts';

/** The parts of the kit that every lock uses. */
export interface LockDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
  readonly processChannel: ProcessChannel;
  readonly work: OpenWork;
  readonly closing: AbortSignal;
  readonly deadlines: RequestDeadlines;
}

/** The grant of one key's lock: the options of the request, and the fencing token that Redis returned. */
export interface LockGrant {
  readonly key: string;
  readonly redisKeys: LockKeys;
  /** The arguments of the command that releases the lock. */
  readonly release: LockReleaseArgs;
  readonly fence: number;
  readonly leaseMs: number;
  /** When the acquire command was sent. The lease cannot have begun earlier. */
  readonly grantedAt: Moment;
  readonly renew: boolean;
}

/** A moment by two clocks. The steady clock stops while the machine is suspended; the wall clock may be set back. */
export interface Moment {
  readonly steady: number;
  readonly wall: number;
}

export function momentNow(): Moment {
  return { steady: performance.now(), wall: Date.now() };
}

/** How often a holder reads both clocks. One timer for the lease would fire late after the machine was suspended. */
const CHECK_EVERY_MS = 1_000;

/** The lock of one key, from the grant to the release or loss. */
export class GrantedLock {
  readonly grant: LockGrant;
  /** Called once, when the lock is lost or may be lost. */
  onLost: (error: LockLostError) => void = () => undefined;
  readonly #deps: LockDeps;
  readonly #renewal: Renewal | undefined;
  readonly #unsubscribe: () => void;
  readonly #endWork: () => void;
  #since: Moment;
  #leaseMs: number;
  #extensions = 0;
  #check: NodeJS.Timeout | undefined;
  #lost: LockLostError | undefined;
  #released: Promise<boolean> | undefined;

  constructor(grant: LockGrant, deps: LockDeps) {
    this.grant = grant;
    this.#deps = deps;
    this.#since = grant.grantedAt;
    this.#leaseMs = grant.leaseMs;
    this.#endWork = deps.work.begin();
    this.#unsubscribe = deps.processChannel.onLost(grant.release.token, () => {
      this.lose(new LockLostError(`the lock '${grant.key}' was taken away`));
    });
    if (grant.renew) {
      this.#renewal = new Renewal({
        renew: () => this.#renew(),
        failed: (error) => deps.reporter.failure('lock', asError(error)),
      });
    }
    this.#startLease(grant.grantedAt, grant.leaseMs);
  }

  get lost(): LockLostError | undefined {
    return this.#lost;
  }

  /** Milliseconds that are certainly left of the lease, by the clock on which more time has passed. */
  remainingMs(): number {
    if (this.#isOver) return 0;
    const { steady, wall } = momentNow();
    const passed = Math.max(steady - this.#since.steady, wall - this.#since.wall);
    return Math.max(0, this.#leaseMs - passed);
  }

  /** Restarts the lease, or loses the lock if the lease has ended. Rejects when Redis cannot be reached. */
  async extend(leaseMs: number = this.#leaseMs): Promise<void> {
    // A renewal that is sent after the extension would restart the lease with its old duration.
    this.#renewal?.stop();
    const extension = this.#extensions + 1;
    try {
      await this.#extend(leaseMs);
    } catch (error) {
      if (this.#isLatest(extension)) this.#renewal?.retrySoon();
      throw error;
    }
  }

  /** Marks the lock as lost in this process and calls `onLost`. */
  lose(error: LockLostError): void {
    if (this.#isOver) return;
    this.#lost = error;
    this.#end();
    this.onLost(error);
  }

  /** Releases the lock. Resolves to false if the lease has ended or Redis cannot be reached. Never rejects. */
  release(deadline?: Deadline): Promise<boolean> {
    this.#released ??= this.#release(deadline);
    return this.#released;
  }

  async #release(deadline: Deadline | undefined): Promise<boolean> {
    const { engine, reporter, work } = this.#deps;
    const { redisKeys, release } = this.grant;
    const send = (within?: Deadline) =>
      engine.run(lockRelease, [redisKeys.lock, redisKeys.line], release, within);
    this.#stopTimers();
    try {
      return await send(deadline);
    } catch (error) {
      reporter.failure('lock', asError(error));
      void sendUntilAnswered(send, Math.max(this.#leaseMs, release.waitMs), work);
      return false;
    } finally {
      this.#end();
    }
  }

  async #renew(): Promise<boolean> {
    if (this.remainingMs() > 0) return this.#extend(this.#leaseMs);
    this.#checkLease();
    return false;
  }

  /** Sends the extension. Resolves to false when the lock is lost. */
  async #extend(leaseMs: number): Promise<boolean> {
    const since = momentNow();
    const extension = ++this.#extensions;
    // Redis may start the shorter lease even if the reply is lost, so this process starts it before the reply.
    if (leaseMs < this.remainingMs()) {
      this.#startLease(since, leaseMs);
      this.#renewal?.stop();
    }
    const { key, redisKeys, release } = this.grant;
    const args = { token: release.token, lease: leaseMs };
    const isHeld = await this.#deps.engine.run(lockExtend, [redisKeys.lock], args);
    if (!isHeld) {
      this.lose(new LockLostError(`the lock '${key}' was lost: its lease ended or it was taken away`));
    }
    if (this.#isLatest(extension)) this.#startLease(since, leaseMs);
    return isHeld;
  }

  /** Whether this extension is the latest. The latest of concurrent extensions sets the lease, as in Redis. */
  #isLatest(extension: number): boolean {
    return !this.#isOver && extension === this.#extensions;
  }

  get #isOver(): boolean {
    return this.#lost !== undefined || this.#released !== undefined;
  }

  #startLease(since: Moment, leaseMs: number): void {
    this.#since = since;
    this.#leaseMs = leaseMs;
    this.#renewal?.start(leaseMs, performance.now() - since.steady);
    this.#checkLater();
  }

  #checkLater(): void {
    clearTimeout(this.#check);
    const ms = Math.max(1, Math.min(CHECK_EVERY_MS, this.remainingMs()));
    this.#check = setTimeout(() => this.#checkLease(), ms).unref();
  }

  #checkLease(): void {
    if (this.remainingMs() > 0) this.#checkLater();
    else this.lose(new LockLostError(`the lease of the lock '${this.grant.key}' may have ended`));
  }

  #stopTimers(): void {
    this.#renewal?.stop();
    clearTimeout(this.#check);
  }

  #end(): void {
    this.#stopTimers();
    this.#unsubscribe();
    this.#endWork();
  }
}
