/** Work that the connection must outlive. */
export class OpenWork {
  #count = 0;
  /** Those who wait for the end of all. */
  readonly #waiting = new Set<() => void>();

  /** Answers with what to call, once, when the work is done. */
  begin(): () => void {
    this.#count++;
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      if (--this.#count === 0) for (const ended of this.#waiting) ended();
    };
  }

  /** Resolves when nothing is open any more, or after so many milliseconds. */
  async ended(timeoutMs: number): Promise<void> {
    if (this.#count === 0) return;
    await new Promise<void>((resolve) => {
      const ended = () => {
        clearTimeout(timer);
        this.#waiting.delete(ended);
        resolve();
      };
      const timer = setTimeout(ended, timeoutMs);
      this.#waiting.add(ended);
    });
  }
}
