/** Text that can be a cursor. Anything else could end the field `id` and begin another one. */
const CURSOR = /^[!-~]{1,256}$/;

/**
 * How far a client has read the logs of its channels. As the id of an event, this is the cursor of the only channel, or,
 * for an array of channels, a query string of channels and cursors.
 */
export class Position {
  readonly #isSingle: boolean;
  readonly #cursors = new Map<string, string>();

  /** `lastId`: the last id that the client has received. A client can send any text, so unknown parts are ignored. */
  constructor(channels: string | readonly string[], lastId: string | undefined) {
    this.#isSingle = typeof channels === 'string';
    if (lastId === undefined) return;
    const cursors = new URLSearchParams(lastId);
    for (const channel of [channels].flat()) {
      const cursor = this.#isSingle ? lastId : cursors.get(channel);
      if (cursor !== null && CURSOR.test(cursor)) this.#cursors.set(channel, cursor);
    }
  }

  of(channel: string): string | undefined {
    return this.#cursors.get(channel);
  }

  set(channel: string, cursor: string): void {
    this.#cursors.set(channel, cursor);
  }

  /** Undefined if no cursor is known. */
  get id(): string | undefined {
    if (this.#cursors.size === 0) return undefined;
    if (!this.#isSingle) return new URLSearchParams([...this.#cursors]).toString();
    const [cursor] = this.#cursors.values();
    return cursor;
  }
}
