import type { Entry } from './entry.ts';

/**
 * What those get who wait for another request of this process: an entry; `pass`: nothing that is stored, so each goes
 * its own way; `retry`: nothing at all, so the next one leads; or the error of who made it.
 */
export type Outcome<Content> =
  | { readonly kind: 'entry'; readonly entry: Entry<Content>; readonly isMade: boolean }
  | { readonly kind: 'pass' }
  | { readonly kind: 'retry' }
  | { readonly kind: 'error'; readonly error: unknown };

/** One lookup, and where it finds nothing one making, for all who ask for the same in this process. */
export class Flight<Content> {
  readonly #ended: () => void;
  readonly #followers = new Set<(outcome: Outcome<Content>) => void>();
  /** What they wait for is there, and only to be confirmed: who comes now finds it. */
  isMade = false;
  /** Called when the first follower comes, or the next one after all have gone. */
  onFollowed: () => void = () => undefined;
  #outcome: Outcome<Content> | undefined;

  constructor(ended: () => void) {
    this.#ended = ended;
  }

  get hasFollowers(): boolean {
    return this.#followers.size > 0;
  }

  /** The first outcome counts. */
  settle(outcome: Outcome<Content>): void {
    if (this.#outcome !== undefined) return;
    this.#outcome = outcome;
    this.#ended();
    for (const follow of this.#followers) follow(outcome);
  }

  /** Undefined when it took longer. */
  follow(ms: number): Promise<Outcome<Content> | undefined> {
    const outcome = this.#outcome;
    if (outcome !== undefined || ms <= 0) return Promise.resolve(outcome);
    return new Promise((resolve) => {
      const follower = (told: Outcome<Content> | undefined) => {
        clearTimeout(timer);
        this.#followers.delete(follower);
        resolve(told);
      };
      // What it waits for keeps the process alive, or nothing does.
      const timer = setTimeout(follower, ms, undefined).unref();
      this.#followers.add(follower);
      if (this.#followers.size === 1) this.onFollowed();
    });
  }
}

/** The flights under way. */
export class Flights<Content> {
  readonly #flights = new Map<string, Flight<Content>>();

  underWay(key: string): Flight<Content> | undefined {
    return this.#flights.get(key);
  }

  begin(key: string): Flight<Content> {
    const flight = new Flight<Content>(() => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    });
    this.#flights.set(key, flight);
    return flight;
  }
}
