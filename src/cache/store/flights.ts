import type { Entry } from './entry.ts';

/**
 * The result of a flight for its followers. `entry`: the leader read or filled this entry. `hit-for-miss`: nothing can be
 * stored, so each follower runs its own handler. `retry`: the leader has no result, so the next request leads. `error`: the
 * leader's loader failed.
 */
export type FlightOutcome<Content> =
  | { readonly kind: 'entry'; readonly entry: Entry<Content>; readonly isNew: boolean }
  | { readonly kind: 'hit-for-miss' }
  | { readonly kind: 'retry' }
  | { readonly kind: 'error'; readonly error: unknown };

/** The lookup of a leader, and the fill that follows a miss, for which the other requests for the key wait. */
export class Flight<Content> {
  readonly #onEnd: () => void;
  readonly #followers = new Set<(outcome: FlightOutcome<Content>) => void>();
  /** The leader has filled the entry and only confirms its versions: for later requests it is a hit. */
  isFilled = false;
  /** Called for a follower that comes while there is no other. */
  onFollowed: () => void = () => undefined;
  #outcome: FlightOutcome<Content> | undefined;

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  get hasFollowers(): boolean {
    return this.#followers.size > 0;
  }

  /** Ends the flight. Only the first outcome counts. */
  settle(outcome: FlightOutcome<Content>): void {
    if (this.#outcome !== undefined) return;
    this.#outcome = outcome;
    this.#onEnd();
    for (const follow of this.#followers) follow(outcome);
  }

  /** Waits for the outcome, at most `ms`; resolves to undefined after that. */
  follow(ms: number): Promise<FlightOutcome<Content> | undefined> {
    const settled = this.#outcome;
    if (settled !== undefined || ms <= 0) return Promise.resolve(settled);
    return new Promise((resolve) => {
      const follower = (outcome: FlightOutcome<Content> | undefined) => {
        clearTimeout(timer);
        this.#followers.delete(follower);
        resolve(outcome);
      };
      // The work of the leader keeps the process alive where anything should.
      const timer = setTimeout(follower, ms, undefined).unref();
      this.#followers.add(follower);
      if (this.#followers.size === 1) this.onFollowed();
    });
  }
}

/** The flights of this process that have not ended, by local key. */
export class Flights<Content> {
  readonly #flights = new Map<string, Flight<Content>>();

  get(key: string): Flight<Content> | undefined {
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
