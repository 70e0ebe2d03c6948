/** How often those look again who cannot be woken, since the listening connection is away. */
const POLL_MS = 100;

/** Somebody who waits for what another process does. From its making on, a call that comes is not missed. */
export interface WakeUp {
  /** Resolves when it was called, or after so many milliseconds. */
  wait(ms: number): Promise<void>;
  /** Also ends a wait that is under way. */
  stop(): void;
}

/** Wakes who waits, by the key that they wait at. */
export class WakeUps {
  readonly #waiting = new Map<string, Set<() => void>>();
  #isUp = false;

  listenerChanged(isUp: boolean): void {
    this.#isUp = isUp;
    // Whoever sleeps would not be called any more.
    if (!isUp) for (const key of this.#waiting.keys()) this.call(key);
  }

  call(key: string): void {
    for (const wake of this.#waiting.get(key) ?? []) wake();
  }

  expect(key: string): WakeUp {
    let wasCalled = false;
    let resolve: () => void = () => undefined;
    const wake = () => {
      wasCalled = true;
      resolve();
    };
    const sleepers = this.#waiting.get(key) ?? new Set();
    this.#waiting.set(key, sleepers.add(wake));
    return {
      wait: async (ms) => {
        if (!wasCalled) {
          const timeoutMs = this.#isUp ? ms : Math.min(ms, POLL_MS);
          await new Promise<void>((done) => {
            const timer = setTimeout(done, timeoutMs).unref();
            resolve = () => {
              clearTimeout(timer);
              done();
            };
          });
        }
        wasCalled = false;
      },
      stop: () => {
        resolve();
        sleepers.delete(wake);
        if (sleepers.size === 0 && this.#waiting.get(key) === sleepers) this.#waiting.delete(key);
      },
    };
  }
}
