import { LRUCache } from 'lru-cache';
import { BoundedMap, ownText } from '../../base/bounded-map.ts';
import type { Entry } from './entry.ts';

/** The measured cost of a copy besides its body and key: headers, times, versions and bookkeeping. */
const COPY_OVERHEAD_BYTES = 2_400;

const MARKER_BYTES = 2 * 2 ** 20;

/** How long requests for a key share no flight after a response that must be validated before each use. */
const UNCOLLAPSED_MS = 60_000;

/** How one kind of content is held in memory. */
export interface ContentMemory<Content> {
  /** Returns content that references no memory besides its own. */
  detach(content: Content): Content;
  /** The memory that the content may take besides the bytes of its entry. */
  addedBytes(content: Content): number;
}

/** Entries that this process keeps, up to a number of bytes; the least recently used entry is evicted first. */
export class LocalCopies<Content> {
  readonly #entries: LRUCache<string, Entry<Content>>;
  readonly #detach: (content: Content) => Content;

  constructor(maxBytes: number, { detach, addedBytes }: ContentMemory<Content>) {
    this.#detach = detach;
    this.#entries = new LRUCache({
      maxSize: maxBytes,
      maxEntrySize: maxBytes,
      sizeCalculation: (entry, key) =>
        entry.bytes + addedBytes(entry.content) + key.length * 2 + COPY_OVERHEAD_BYTES,
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

/** The copies, flights and markers of this process for one kind of content. Keys begin with a namespace's scope. */
export class LocalState<Content> {
  /** The copies of all caches that have no `maxBytes` of their own. */
  readonly copies: LocalCopies<Content>;
  readonly memory: ContentMemory<Content>;
  readonly flights: Flights<Content> = new Flights();
  /**
   * Hit-for-miss markers: until when requests for a key neither read nor wait for a flight, since nothing is stored
   * under the key and its responses cannot be stored.
   */
  readonly hitForMiss: BoundedMap<number> = new BoundedMap(MARKER_BYTES);
  /** Until when each request for a key reads the store itself, since each request needs its own validation. */
  readonly uncollapsed: BoundedMap<number> = new BoundedMap(MARKER_BYTES);

  constructor(maxBytes: number, memory: ContentMemory<Content>) {
    this.memory = memory;
    this.copies = new LocalCopies(maxBytes, memory);
  }

  /** Sets the hit-for-miss marker of a key for `forMs`; 0 removes it. */
  markHitForMiss(key: string, now: number, forMs: number): void {
    if (forMs > 0) this.hitForMiss.set(key, now + forMs);
    else this.hitForMiss.delete(key);
  }

  isHitForMiss(key: string, now: number): boolean {
    return (this.hitForMiss.get(key) ?? Number.NEGATIVE_INFINITY) > now;
  }

  /** Records whether requests for a key can share a flight: not if each request needs its own validation. */
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
 * The result of a flight for its followers. `entry`: the leader read or filled this entry. `hit-for-miss`: nothing can
 * be stored, so each follower runs its own handler. `retry`: the leader has no result, so the next request leads.
 * `error`: the leader's loader failed.
 */
export type FlightOutcome<Content> =
  | { readonly kind: 'entry'; readonly entry: Entry<Content>; readonly isNew: boolean }
  | { readonly kind: 'hit-for-miss' }
  | { readonly kind: 'retry' }
  | { readonly kind: 'error'; readonly error: unknown };

/** The lookup of a leader and, after a miss, its fill. Other requests for the key wait for the outcome. */
export class Flight<Content> {
  readonly #onEnd: () => void;
  readonly #followers = new Set<(outcome: FlightOutcome<Content>) => void>();
  /** Whether the leader has filled the entry and only reads its versions: a request that follows now is a hit. */
  isFilled = false;
  /** Called whenever the number of followers rises from 0 to 1. */
  onFollowed: () => void = () => undefined;
  #outcome: FlightOutcome<Content> | undefined;

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  get hasFollowers(): boolean {
    return this.#followers.size > 0;
  }

  /** Ends the flight with an outcome. Later calls have no effect. */
  settle(outcome: FlightOutcome<Content>): void {
    if (this.#outcome !== undefined) return;
    this.#outcome = outcome;
    this.#onEnd();
    for (const follow of this.#followers) follow(outcome);
  }

  /** Waits for the outcome, for at most `ms`; then resolves to undefined. */
  follow(ms: number): Promise<FlightOutcome<Content> | undefined> {
    const settled = this.#outcome;
    if (settled !== undefined || ms <= 0) return Promise.resolve(settled);
    return new Promise((resolve) => {
      const follower = (outcome: FlightOutcome<Content> | undefined) => {
        clearTimeout(timer);
        this.#followers.delete(follower);
        resolve(outcome);
      };
      // The timer of a follower does not keep the process alive; the work of the leader can.
      const timer = setTimeout(follower, ms, undefined).unref();
      this.#followers.add(follower);
      if (this.#followers.size === 1) this.onFollowed();
    });
  }
}

/** The flights of this process that have not ended, by local key. */
export class Flights<Content> {
  /** Each flight is in a place that is emptied at its end, since old tables of a Map keep its values (see LinkedList). */
  readonly #flights = new Map<string, { flight?: Flight<Content> }>();

  get(key: string): Flight<Content> | undefined {
    return this.#flights.get(key)?.flight;
  }

  begin(key: string): Flight<Content> {
    const place: { flight?: Flight<Content> } = {};
    const flight = new Flight<Content>(() => {
      delete place.flight;
      if (this.#flights.get(key) === place) this.#flights.delete(key);
    });
    place.flight = flight;
    this.#flights.set(key, place);
    return flight;
  }
}
