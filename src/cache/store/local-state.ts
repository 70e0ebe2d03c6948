import { LRUCache } from 'lru-cache';
import { BoundedMap, ownText } from '../../base/bounded-map.ts';
import type { Entry } from './entry.ts';

/** The measured cost of a copy besides its body and key: headers, times, versions and bookkeeping. */
const COPY_OVERHEAD_BYTES = 2_400;

const MARKER_BYTES = 2 * 2 ** 20;

/** How long the requests for a key stay uncollapsed after a response that must be validated before each use. */
const UNCOLLAPSED_MS = 60_000;

/** Entries that this process keeps, up to a number of bytes; the least recently used entry is evicted first. */
export class LocalCopies<Content> {
  readonly #entries: LRUCache<string, Entry<Content>>;
  readonly #detach: (content: Content) => Content;

  /** `detach` returns content that references no memory besides its own. */
  constructor(maxBytes: number, detach: (content: Content) => Content) {
    this.#detach = detach;
    this.#entries = new LRUCache({
      maxSize: maxBytes,
      maxEntrySize: maxBytes,
      sizeCalculation: (entry, key) => entry.bytes + key.length * 2 + COPY_OVERHEAD_BYTES,
    });
  }

  get(key: string): Entry<Content> | undefined {
    return this.#entries.get(key);
  }

  put(key: string, entry: Entry<Content>): void {
    const content = this.#detach(entry.content);
    this.#entries.set(ownText(key), content === entry.content ? entry : { ...entry, content });
  }

  forget(key: string): void {
    this.#entries.delete(key);
  }
}

/** The state of this process for one kind of content. Its keys begin with the scope of their namespace. */
export class LocalState<Content> {
  /** The copies of all caches that have no `maxBytes` of their own. */
  readonly copies: LocalCopies<Content>;
  readonly detach: (content: Content) => Content;
  readonly flights: Flights<Content> = new Flights();
  /** Hit-for-miss markers: until when the requests for a key do not wait for a flight, since their responses cannot be stored. */
  readonly hitForMiss: BoundedMap<number> = new BoundedMap(MARKER_BYTES);
  /** Until when each request for a key reads the store itself, since each needs a validation of its own. */
  readonly uncollapsed: BoundedMap<number> = new BoundedMap(MARKER_BYTES);

  constructor(maxBytes: number, detach: (content: Content) => Content) {
    this.detach = detach;
    this.copies = new LocalCopies(maxBytes, detach);
  }

  /** Sets the hit-for-miss marker of a key for `forMs`; 0 removes it. */
  markHitForMiss(key: string, now: number, forMs: number): void {
    if (forMs > 0) this.hitForMiss.set(key, now + forMs);
    else this.hitForMiss.delete(key);
  }

  isHitForMiss(key: string, now: number): boolean {
    return (this.hitForMiss.get(key) ?? Number.NEGATIVE_INFINITY) > now;
  }

  /** Notes whether the last response for a key can answer other requests without a validation for each of them. */
  setCollapsible(key: string, now: number, isCollapsible: boolean): void {
    if (isCollapsible) this.uncollapsed.delete(key);
    else this.uncollapsed.set(key, now + UNCOLLAPSED_MS);
  }

  /** Whether requests for a key share a flight. */
  isCollapsible(key: string, now: number): boolean {
    return (this.uncollapsed.get(key) ?? Number.NEGATIVE_INFINITY) <= now;
  }
}

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
