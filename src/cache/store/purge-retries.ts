import { sendUntilAnswered } from '../../waiting/retry.ts';

/** How long failed purges are repeated. */
const RETRY_MS = 10 * 60_000;

/** Above this number of names, everything is purged instead, so that an outage does not fill the memory. */
const MAX_NAMES = 10_000;

/** Repeats failed purges of one namespace in the background, until Redis has answered or the kit is closed. */
export class PurgeRetries {
  readonly #purge: (names: readonly string[]) => Promise<unknown>;
  /** The name that purges everything. */
  readonly #all: string;
  #names = new Set<string>();
  #isRunning = false;

  constructor(purge: (names: readonly string[]) => Promise<unknown>, all: string) {
    this.#purge = purge;
    this.#all = all;
  }

  add(names: readonly string[]): void {
    for (const name of names) this.#names.add(name);
    if (this.#names.size > MAX_NAMES) this.#names = new Set([this.#all]);
    if (!this.#isRunning) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    await sendUntilAnswered(async () => {
      while (this.#names.size > 0) {
        const names = [...this.#names];
        await this.#purge(names);
        for (const name of names) this.#names.delete(name);
      }
    }, RETRY_MS);
    this.#names.clear();
    this.#isRunning = false;
  }
}
