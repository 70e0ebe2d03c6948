import { performance } from 'node:perf_hooks';
import { asError, LockLostError } from '../base/errors.ts';
import type { FailurePolicies } from '../base/failure-policies.ts';
import type { Keys, LockKeys } from '../base/keys.ts';
import type { OpenWork } from '../base/open-work.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline, RequestDeadlines } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import { Alarm, type AlarmTask } from '../waiting/alarm.ts';
import type { LockHolder, ProcessChannel } from '../waiting/process-channel.ts';
import { type RenewableLease, Renewal } from '../waiting/renewal.ts';
import { sendUntilAnswered } from '../waiting/retry.ts';
import type { LockAcquireArgs } from './operations/acquire.ts';
import { lockExtend } from './operations/extend.ts';
import { lockRelease } from './operations/release.ts';

/** The parts of the kit that every lock uses. */
export interface LockDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
  readonly processChannel: ProcessChannel;
  readonly work: OpenWork;
  readonly closing: AbortSignal;
  readonly deadlines: RequestDeadlines;
  readonly failurePolicies: FailurePolicies;
}

/** The grant of one key's lock: what was requested, and the fencing token that Redis returned. */
export interface LockGrant {
  readonly key: string;
  readonly redisKeys: LockKeys;
  /** The arguments of the command that acquired the lock; those of its release are among them. */
  readonly args: LockAcquireArgs;
  readonly fence: number;
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

/** All locks are checked at the same moments, so that many locks wake the process no more often than one. */
function nextCheck(now: number): number {
  return (Math.floor(now / CHECK_EVERY_MS) + 1) * CHECK_EVERY_MS;
}

/** The lock of one key, from the grant to the release or loss. */
export class GrantedLock implements RenewableLease, AlarmTask, LockHolder {
  readonly grant: LockGrant;
  /** The handle of this lock, which is notified when the lock is lost or may be lost. */
  handle: { lose(error: LockLostError): void } | undefined;
  readonly #deps: LockDeps;
  readonly #renewal: Renewal | undefined;
  readonly #check: Alarm = new Alarm(this);
  #since: Moment;
  #leaseMs: number;
  #extensions = 0;
  #lost: LockLostError | undefined;
  #released: Promise<boolean> | undefined;
  #hasEnded = false;

  constructor(grant: LockGrant, deps: LockDeps) {
    this.grant = grant;
    this.#deps = deps;
    this.#since = grant.grantedAt;
    this.#leaseMs = grant.args.lease;
    deps.work.begin();
    // A holder without a channel is not notified of a loss.
    if (grant.args.process !== '') deps.processChannel.addHolder(grant.args.token, this);
    if (grant.renew) this.#renewal = new Renewal(this);
    this.#startLease(grant.grantedAt, grant.args.lease);
  }

  /** Why the lock was lost; undefined unless it was. */
  get loss(): LockLostError | undefined {
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

  /** Marks the lock as lost in this process. */
  lose(error: LockLostError): void {
    if (this.#isOver) return;
    this.#lost = error;
    this.#end();
    this.handle?.lose(error);
  }

  takenAway(): void {
    this.lose(new LockLostError(`the lock '${this.grant.key}' was taken away`));
  }

  /** Releases the lock. Resolves to false if the lease has ended or Redis cannot be reached. Never rejects. */
  release(deadline?: Deadline): Promise<boolean> {
    this.#released ??= this.#release(deadline);
    return this.#released;
  }

  async #release(deadline: Deadline | undefined): Promise<boolean> {
    this.#stopTimers();
    try {
      return await this.#sendRelease(deadline);
    } catch (error) {
      this.failed(error);
      const forMs = Math.max(this.#leaseMs, this.grant.args.waitMs);
      void sendUntilAnswered(() => this.#sendRelease(), forMs, this.#deps.work);
      return false;
    } finally {
      this.#end();
    }
  }

  #sendRelease(deadline?: Deadline): Promise<boolean> {
    const { redisKeys, args } = this.grant;
    return this.#deps.engine.run(lockRelease, [redisKeys.lock, redisKeys.line], args, deadline);
  }

  async renew(): Promise<boolean> {
    if (this.remainingMs() > 0) return this.#extend(this.#leaseMs);
    this.due();
    return false;
  }

  failed(error: unknown): void {
    this.#deps.reporter.failure('lock', asError(error));
  }

  /** Checks whether the lease has ended. */
  due(): void {
    const remainingMs = this.remainingMs();
    const now = performance.now();
    if (remainingMs > 0) this.#check.set(Math.min(nextCheck(now), now + remainingMs));
    else this.lose(new LockLostError(`the lease of the lock '${this.grant.key}' may have ended`));
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
    const { key, redisKeys, args } = this.grant;
    const { token } = args;
    const isHeld = await this.#deps.engine.run(lockExtend, [redisKeys.lock], { token, lease: leaseMs });
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
    this.#renewal?.start(leaseMs, since.steady);
    this.#check.set(Math.min(nextCheck(since.steady), since.steady + leaseMs));
  }

  #stopTimers(): void {
    this.#renewal?.stop();
    this.#check.clear();
  }

  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#stopTimers();
    const { process, token } = this.grant.args;
    if (process !== '') this.#deps.processChannel.removeHolder(token, this);
    this.#deps.work.end();
  }
}
