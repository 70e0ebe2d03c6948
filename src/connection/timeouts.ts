import { eventLoopTimeMs, tickEventLoopTime } from '../engine/event-loop-time.ts';

const TICK_MS = 10;

interface Entry {
  readonly at: number;
  expire(): void;
}

/**
 * One coarse timer for all deadlines: a timer or an AbortSignal per command costs more than the command. It runs
 * only while something waits.
 */
export class Timeouts {
  readonly #waiting = new Set<Entry>();
  #timer: NodeJS.Timeout | undefined;

  /** How many promises and pauses are watched now. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Settles as `promise` does, or rejects with `late()` after `ms`; whatever comes later is ignored. */
  race<Value>(promise: Promise<Value>, ms: number, late: () => Error): Promise<Value> {
    return new Promise((resolve, reject) => {
      const entry = {
        at: eventLoopTimeMs() + ms,
        expire: () => {
          this.#waiting.delete(entry);
          reject(late());
        },
      };
      this.#watch(entry);
      promise.then(
        (value) => {
          this.#waiting.delete(entry);
          resolve(value);
        },
        (error: unknown) => {
          this.#waiting.delete(entry);
          reject(error);
        },
      );
    });
  }

  /** Resolves after `ms`. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const entry = {
        at: eventLoopTimeMs() + ms,
        expire: () => {
          this.#waiting.delete(entry);
          resolve();
        },
      };
      this.#watch(entry);
    });
  }

  #watch(entry: Entry): void {
    this.#waiting.add(entry);
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
  }

  #tick(): void {
    tickEventLoopTime();
    const now = eventLoopTimeMs();
    const expired = [...this.#waiting].filter((entry) => entry.at <= now);
    // After a blocked event loop the timers run before the sockets are read: an answer that is already there gets
    // this turn of the loop to be heard.
    if (expired.length > 0) {
      setImmediate(() => {
        for (const entry of expired) if (this.#waiting.has(entry)) entry.expire();
      });
    }
    if (this.#waiting.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }
}
