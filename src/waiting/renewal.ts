import { performance } from 'node:perf_hooks';
import { Alarm, type AlarmTask } from './alarm.ts';

/** The shortest pause between a renewal that failed and its retry. */
const MIN_RETRY_MS = 10;

/** A lease that is renewed while its holder works. */
export interface RenewableLease {
  /** Sends the renewal. Resolves to false when the lease has been lost. */
  renew(): Promise<boolean>;
  lost?(): void;
  failed(error: unknown): void;
}

/**
 * Renews a lease when a third of it has passed. A renewal that fails is retried after a tenth of the lease, so that
 * several retries are possible before the lease ends.
 */
export class Renewal implements AlarmTask {
  readonly #lease: RenewableLease;
  readonly #alarm: Alarm = new Alarm(this);
  #leaseMs = 0;
  /** The number of starts, retries and stops so far. */
  #changes = 0;

  constructor(lease: RenewableLease) {
    this.#lease = lease;
  }

  /** Starts or restarts the renewal of a lease that began at a moment of the steady clock. */
  start(leaseMs: number, beganAt: number = performance.now()): void {
    this.#leaseMs = leaseMs;
    this.#schedule(beganAt + leaseMs / 3);
  }

  retrySoon(): void {
    this.#schedule(performance.now() + Math.max(MIN_RETRY_MS, this.#leaseMs / 10));
  }

  stop(): void {
    this.#changes++;
    this.#alarm.clear();
  }

  due(): void {
    void this.#renew();
  }

  #schedule(dueAt: number): void {
    this.#changes++;
    this.#alarm.set(dueAt);
  }

  async #renew(): Promise<void> {
    const changes = this.#changes;
    const sentAt = performance.now();
    // If the renewal was stopped or restarted while the command was in flight, the outcome of the command is ignored.
    const isOutdated = () => this.#changes !== changes;
    try {
      const isHeld = await this.#lease.renew();
      if (isOutdated()) return;
      if (isHeld) return this.start(this.#leaseMs, sentAt);
      this.stop();
      this.#lease.lost?.();
    } catch (error) {
      if (isOutdated()) return;
      this.#lease.failed(error);
      this.retrySoon();
    }
  }
}
