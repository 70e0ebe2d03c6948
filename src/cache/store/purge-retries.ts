import { sendUntilAnswered } from '../../waiting/retry.ts';

/** How long failed purges are repeated, at least. */
const RETRY_MS = 10 * 60_000;

/** Above this number of names, everything is purged instead, so that an outage does not fill the memory. */
const MAX_NAMES = 10_000;

/** Repeats failed purges of one namespace in the background, until Redis has answered or the kit is closed. */
export class PurgeRetries {
  readonly #purge: (names: readonly string[]) => Promise<unknown>;
  /** The name that purges everything. */
  readonly #all: string;
  #names = new Set<string>();
  /** The number of calls of `add()`. */
  #additions = 0;
  #isRunning = false;

  constructor(purge: (names: readonly string[]) => Promise<unknown>, all: string) {
    this.#purge = purge;
    this.#all = all;
  }

  add(names: readonly string[]): void {
    this.#additions++;
    for (const name of names) this.#names.add(name);
    if (this.#names.size > MAX_NAMES) this.#names = new Set([this.#all]);
    if (!this.#isRunning) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    let additions: number;
    do {
      additions = this.#additions;
      await sendUntilAnswered(() => this.#send(), RETRY_MS);
    } while (this.#names.size > 0 && this.#additions !== additions);
    this.#names.clear();
    this.#isRunning = false;
  }

  async #send(): Promise<void> {
    const names = [...this.#names];
    await this.#purge(names);
    for (const name of names) this.#names.delete(name);
  }
}
