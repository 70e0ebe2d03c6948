import { eventLoopTimeMs, tickEventLoopTime } from '../engine/event-loop-time.ts';

const TICK_MS = 10;

interface Timeout {
  readonly at: number;
  expire(): void;
}

/**
 * Timeouts that share one coarse timer: a timer or an AbortSignal per command would cost more than the command. The timer
 * runs only while a timeout is set.
 */
export class Timeouts {
  readonly #timeouts = new Set<Timeout>();
  #timer: NodeJS.Timeout | undefined;

  get size(): number {
    return this.#timeouts.size;
  }

  /** Settles as `promise` does, or rejects with `late()` after `ms`. */
  race<Value>(promise: Promise<Value>, ms: number, late: () => Error): Promise<Value> {
    return new Promise((resolve, reject) => {
      const entry = {
        at: eventLoopTimeMs() + ms,
        expire: () => {
          this.#timeouts.delete(entry);
          reject(late());
        },
      };
      this.#add(entry);
      promise.then(
        (value) => {
          this.#timeouts.delete(entry);
          resolve(value);
        },
        (error: unknown) => {
          this.#timeouts.delete(entry);
          reject(error);
        },
      );
    });
  }

  pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const entry = {
        at: eventLoopTimeMs() + ms,
        expire: () => {
          this.#timeouts.delete(entry);
          resolve();
        },
      };
      this.#add(entry);
    });
  }

  #add(entry: Timeout): void {
    this.#timeouts.add(entry);
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
  }

  #tick(): void {
    tickEventLoopTime();
    const now = eventLoopTimeMs();
    const expired = [...this.#timeouts].filter((entry) => entry.at <= now);
    // After a blocked event loop, timers run before sockets are read. A reply that has arrived meanwhile still counts.
    if (expired.length > 0) {
      setImmediate(() => {
        for (const entry of expired) if (this.#timeouts.has(entry)) entry.expire();
      });
    }
    if (this.#timeouts.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }
}
