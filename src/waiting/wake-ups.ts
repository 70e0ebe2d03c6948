import { performance } from 'node:perf_hooks';
import { onAbort } from '../base/abort.ts';
import { type Link, LinkedList } from '../base/linked-list.ts';

/** How often waiters ask again while the subscriber is disconnected and no message arrives. Shorter than a handoff. */
const POLL_MS = 250;

/** Added to each wait, so that a deadline by the server's clock has passed when the waiter asks again. */
const MARGIN_MS = 10;

/** The waiters of this process, each under the key by which messages wake it. */
export class WakeUps {
  readonly #wakeUps = new Map<string, LinkedList<WakeUp>>();
  #isListening = false;

  get isListening(): boolean {
    return this.#isListening;
  }

  /** Adds a waiter. Call this before asking the store, so that no wake-up is missed. */
  expect(key: string): WakeUp {
    let wakeUps = this.#wakeUps.get(key);
    if (wakeUps === undefined) {
      wakeUps = new LinkedList();
      this.#wakeUps.set(key, wakeUps);
    }
    const wakeUp: WakeUp = new WakeUp(() => this.#remove(key, link), this);
    const link = wakeUps.add(wakeUp);
    return wakeUp;
  }

  #remove(key: string, link: Link<WakeUp>): void {
    const wakeUps = this.#wakeUps.get(key);
    if (wakeUps?.remove(link) === true && wakeUps.size === 0) this.#wakeUps.delete(key);
  }

  #of(key: string): WakeUp[] {
    return (
      this.#wakeUps
        .get(key)
        ?.links()
        .map(({ value }) => value) ?? []
    );
  }

  wake(key: string): void {
    for (const wakeUp of this.#of(key)) wakeUp.wake();
  }

  /** Wakes the waiters of a key after `ms`, unless another wake-up comes earlier. */
  wakeIn(key: string, ms: number): void {
    for (const wakeUp of this.#of(key)) wakeUp.wakeIn(ms);
  }

  wakeAll(): void {
    for (const key of [...this.#wakeUps.keys()]) this.wake(key);
  }

  /** Sets whether messages arrive from now on. Earlier messages may have been lost, so all waiters ask again. */
  listenerChanged(isListening: boolean): void {
    this.#isListening = isListening;
    this.wakeAll();
  }
}

export class WakeUp {
  /** Removes the wake-up. To be called when the waiter no longer waits. */
  readonly stop: () => void;
  readonly #wakeUps: WakeUps;
  #isWoken = false;
  #wakeAt = Number.POSITIVE_INFINITY;
  #resume: (() => void) | undefined;

  constructor(stop: () => void, wakeUps: WakeUps) {
    this.stop = stop;
    this.#wakeUps = wakeUps;
  }

  wake(): void {
    this.#isWoken = true;
    this.#resume?.();
  }

  wakeIn(ms: number): void {
    this.#wakeAt = performance.now() + ms + MARGIN_MS;
    this.#resume?.();
  }

  /** Resolves when the waiter must ask again: when woken, after `ms` at most, or when the signal aborts. */
  async wait(ms: number, signal?: AbortSignal): Promise<void> {
    const longestMs = ms + MARGIN_MS;
    const until = performance.now() + (this.#wakeUps.isListening ? longestMs : Math.min(longestMs, POLL_MS));
    for (;;) {
      const left = Math.min(until, this.#wakeAt) - performance.now();
      if (left <= 0 || this.#isWoken || signal?.aborted === true) break;
      await this.#sleep(left, signal);
    }
    this.#isWoken = false;
    this.#wakeAt = Number.POSITIVE_INFINITY;
  }

  #sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const resume = () => {
        clearTimeout(timer);
        unsubscribe?.();
        this.#resume = undefined;
        resolve();
      };
      const timer = setTimeout(resume, ms);
      const unsubscribe = signal && onAbort(signal, resume);
      this.#resume = resume;
    });
  }
}
