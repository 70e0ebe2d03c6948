import { setTimeout as pause } from 'node:timers/promises';

/** Work that the connection must outlive. */
export class OpenWork {
  #count = 0;
  #ended: (() => void) | undefined;

  /** Answers with what to call, once, when the work is done. */
  begin(): () => void {
    this.#count++;
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      if (--this.#count === 0) this.#ended?.();
    };
  }

  /** Resolves when nothing is open any more, or after so many milliseconds. */
  async ended(timeoutMs: number): Promise<void> {
    if (this.#count === 0) return;
    const timer = new AbortController();
    const done = new Promise<void>((resolve) => {
      this.#ended = resolve;
    });
    await Promise.race([done, pause(timeoutMs, undefined, { signal: timer.signal }).catch(() => undefined)]);
    timer.abort();
  }
}
