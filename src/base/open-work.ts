/** Counts work that must finish before the connection closes. */
export class OpenWork {
  #count = 0;
  readonly #endListeners: (() => void)[] = [];

  /** Begins a piece of work, for which `end()` must be called once. */
  begin(): void {
    this.#count++;
  }

  end(): void {
    if (--this.#count === 0) for (const ended of this.#endListeners) ended();
  }

  /** Resolves when all work is done, or after `timeoutMs`. */
  async ended(timeoutMs: number): Promise<void> {
    if (this.#count === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#endListeners.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}
