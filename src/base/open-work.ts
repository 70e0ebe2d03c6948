import { AsyncLocalStorage } from 'node:async_hooks';

/** A call that is a part of open work. */
interface WorkPart {
  readonly work: OpenWork;
  isOpen: boolean;
}

const parts = new AsyncLocalStorage<WorkPart>();

/** Counts work that must finish before the connection closes. */
export class OpenWork {
  #count = 0;
  readonly #endListeners: (() => void)[] = [];

  /** Whether the caller is a part of work that has begun, so that a kit that closes still accepts what it adds. */
  get includesCaller(): boolean {
    const part = parts.getStore();
    return part?.work === this && part.isOpen;
  }

  /** Begins a piece of work, for which `end()` must be called once. */
  begin(): void {
    this.#count++;
  }

  end(): void {
    if (--this.#count === 0) for (const ended of this.#endListeners) ended();
  }

  /** Calls a function as a part of work that has begun, until its promise settles. */
  async runPart<Result>(call: () => Result): Promise<Awaited<Result>> {
    const part: WorkPart = { work: this, isOpen: true };
    try {
      return await parts.run(part, call);
    } finally {
      part.isOpen = false;
    }
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
