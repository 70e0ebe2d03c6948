/** Counts work that must finish before the connection closes. */
export class OpenWork {
  #count = 0;
  readonly #endListeners = new Set<() => void>();

  /** Returns a function that marks this piece of work as done. */
  begin(): () => void {
    this.#count++;
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      if (--this.#count === 0) for (const ended of this.#endListeners) ended();
    };
  }

  /** Resolves when all work is done, or after `timeoutMs`. */
  async ended(timeoutMs: number): Promise<void> {
    if (this.#count === 0) return;
    await new Promise<void>((resolve) => {
      const ended = () => {
        clearTimeout(timer);
        this.#endListeners.delete(ended);
        resolve();
      };
      const timer = setTimeout(ended, timeoutMs);
      this.#endListeners.add(ended);
    });
  }
}
