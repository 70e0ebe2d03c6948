import { eventLoopTimeMs, tickEventLoopTime } from '../engine/event-loop-time.ts';

const TICK_MS = 10;

export interface Timeout {
  readonly at: number;
  expire(): void;
}

/** Timeouts share one coarse timer while any is set: a timer or AbortSignal per command costs more than the command. */
export class Timeouts {
  readonly #timeouts = new Set<Timeout>();
  #timer: NodeJS.Timeout | undefined;

  get size(): number {
    return this.#timeouts.size;
  }

  /** Settles as `promise` does, or rejects with `late()` after `ms`. */
  race<Value>(promise: Promise<Value>, ms: number, late: () => Error): Promise<Value> {
    return new Promise((resolve, reject) => {
      const timeout = this.start(ms, () => reject(late()));
      promise.then(
        (value) => {
          this.stop(timeout);
          resolve(value);
        },
        (error: unknown) => {
          this.stop(timeout);
          reject(error);
        },
      );
    });
  }

  pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.start(ms, resolve));
  }

  /** Calls `expire` after `ms`, unless the timeout is stopped before. */
  start(ms: number, expire: () => void): Timeout {
    const timeout = { at: eventLoopTimeMs() + ms, expire };
    this.#timeouts.add(timeout);
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
    return timeout;
  }

  /** Returns whether the timeout had not expired. */
  stop(timeout: Timeout): boolean {
    return this.#timeouts.delete(timeout);
  }

  #tick(): void {
    tickEventLoopTime();
    const now = eventLoopTimeMs();
    const expired = [...this.#timeouts].filter((timeout) => timeout.at <= now);
    // After a blocked event loop, timers run before sockets are read. A reply that has arrived meanwhile is read first.
    if (expired.length > 0) {
      setImmediate(() => {
        for (const timeout of expired) if (this.#timeouts.delete(timeout)) timeout.expire();
      });
    }
    if (this.#timeouts.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }
}
