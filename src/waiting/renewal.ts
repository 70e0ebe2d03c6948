import { performance } from 'node:perf_hooks';

/** The shortest pause between a renewal that failed and its retry. */
const MIN_RETRY_MS = 10;

interface RenewalSteps {
  /** Sends the renewal. Resolves to false when the lease has been lost. */
  renew(): Promise<boolean>;
  lost?(): void;
  failed(error: unknown): void;
}

/**
 * Renews a lease when a third of it has passed. A renewal that fails is retried after a tenth of the lease, so that
 * several retries are possible before the lease ends.
 */
export class Renewal {
  readonly #steps: RenewalSteps;
  #leaseMs = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(steps: RenewalSteps) {
    this.#steps = steps;
  }

  /** Starts or restarts the renewal of a lease that began `elapsedMs` ago. */
  start(leaseMs: number, elapsedMs: number = 0): void {
    this.#leaseMs = leaseMs;
    this.#schedule(leaseMs / 3 - elapsedMs);
  }

  retrySoon(): void {
    this.#schedule(Math.max(MIN_RETRY_MS, this.#leaseMs / 10));
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #schedule(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#renew(), ms).unref();
  }

  async #renew(): Promise<void> {
    const timer = this.#timer;
    const sentAt = performance.now();
    // If the renewal was stopped or restarted while the command was in flight, the outcome of the command is ignored.
    const isOutdated = () => this.#timer !== timer;
    try {
      const isHeld = await this.#steps.renew();
      if (isOutdated()) return;
      if (isHeld) return this.start(this.#leaseMs, performance.now() - sentAt);
      this.stop();
      this.#steps.lost?.();
    } catch (error) {
      if (isOutdated()) return;
      this.#steps.failed(error);
      this.retrySoon();
    }
  }
}
