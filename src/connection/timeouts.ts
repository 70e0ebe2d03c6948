import { type Link, LinkedList } from '../base/linked-list.ts';
import { eventLoopTimeMs, tickEventLoopTime } from '../engine/event-loop-time.ts';

const TICK_MS = 10;

interface Expiry {
  readonly at: number;
  expire(): void;
}

export type Timeout = Link<Expiry>;

/** Timeouts share one coarse timer while any is set: a timer or AbortSignal per command costs more than the command. */
export class Timeouts {
  readonly #timeouts = new LinkedList<Expiry>();
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
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
    return this.#timeouts.add({ at: eventLoopTimeMs() + ms, expire });
  }

  /** Returns whether the timeout had not expired. */
  stop(timeout: Timeout): boolean {
    return this.#timeouts.remove(timeout);
  }

  #tick(): void {
    tickEventLoopTime();
    const now = eventLoopTimeMs();
    const expired = this.#timeouts.links().filter(({ value }) => value.at <= now);
    // After a blocked event loop, timers run before sockets are read. A reply that has arrived meanwhile is read first.
    if (expired.length > 0) {
      setImmediate(() => {
        for (const timeout of expired) if (this.#timeouts.remove(timeout)) timeout.value.expire();
      });
    }
    if (this.#timeouts.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }
}
