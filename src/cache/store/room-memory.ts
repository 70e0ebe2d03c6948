import { BoundedMap } from '../../base/bounded-map.ts';
import { Flights } from './flights.ts';
import { LocalCopies } from './local-copies.ts';

const MARKER_BYTES = 2 * 2 ** 20;

/** For how long a response that has to be validated for each request keeps its requests from waiting for each other. */
const UNSHARED_MS = 60_000;

/** The state that the rooms of all namespaces share, by names that begin with the scope of their namespace. */
export class RoomMemory<Content> {
  /** The copies of all caches that set no bounds of their own. */
  readonly copies: LocalCopies<Content>;
  readonly detach: (content: Content) => Content;
  readonly flights: Flights<Content> = new Flights();
  /** Hit-for-miss markers, by key: until when requests do not wait for each other, since their responses cannot be stored. */
  readonly passing: BoundedMap<number> = new BoundedMap(MARKER_BYTES);
  /** By key: until when each request looks for itself, since it needs a validation of its own. */
  readonly unshared: BoundedMap<number> = new BoundedMap(MARKER_BYTES);

  constructor(maxBytes: number, detach: (content: Content) => Content) {
    this.detach = detach;
    this.copies = new LocalCopies(maxBytes, detach);
  }

  /** Requests for this key do not wait for each other for so long; not at all with 0. */
  pass(key: string, now: number, forMs: number): void {
    if (forMs > 0) this.passing.set(key, now + forMs);
    else this.passing.delete(key);
  }

  isPassing(key: string, now: number): boolean {
    return (this.passing.get(key) ?? Number.NEGATIVE_INFINITY) > now;
  }

  /** Whether the last response for this key may answer other requests without a validation for each. */
  share(key: string, now: number, isShared: boolean): void {
    if (isShared) this.unshared.delete(key);
    else this.unshared.set(key, now + UNSHARED_MS);
  }

  isUnshared(key: string, now: number): boolean {
    return (this.unshared.get(key) ?? Number.NEGATIVE_INFINITY) > now;
  }
}
