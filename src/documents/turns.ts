/**
 * Lets the updates of one document take turns in this process, so that they do not conflict with each other. A turn must
 * end for certain: it does not include code of the app that may wait for another turn.
 */
export class Turns {
  /** The end of the last turn of each document. */
  readonly #ends = new Map<string, Promise<void>>();

  /** Calls `work` when all earlier turns are over. The turn ends when `work` calls `end`, or when it settles. */
  async take<Result>(key: string, work: (end: () => void) => Promise<Result>): Promise<Result> {
    const before = this.#ends.get(key);
    let end = (): void => undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.#ends.set(key, ended);
    try {
      await before;
      return await work(end);
    } finally {
      end();
      if (this.#ends.get(key) === ended) this.#ends.delete(key);
    }
  }
}
