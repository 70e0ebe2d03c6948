import type { Deadline } from '../../engine/deadline.ts';
import type { Entry } from './entry.ts';
import type { EntryKey } from './entry-key.ts';
import type { EntryAhead } from './entry-reader.ts';
import type { Fill } from './fill.ts';
import type { Flight, FlightOutcome, LocalCopies } from './local-state.ts';
import type { SharedSettings } from './options.ts';

export interface LookupSettings<Content> {
  readonly singleFlight: SharedSettings['singleFlight'];
  /** Undefined when no local copies are kept. */
  readonly copies: LocalCopies<Content> | undefined;
  /** The maximum age of a local copy, and of the versions that this process knows. */
  readonly maxAgeMs: number;
}

/** The request of one caller for the entry of a key. */
export interface Lookup<Content> {
  readonly key: EntryKey<Content>;
  /** Whether an entry can answer this caller; false for a stored response that does not fit the request. */
  accepts(entry: Entry<Content>): boolean;
  /** Whether the handler of this caller can validate an entry. Default: no. */
  readonly validates?: (entry: Entry<Content>) => boolean;
  /** Called instead of `flight.follow()`, for example to reject a cycle of loaders. */
  readonly follow?: (flight: Flight<Content>, ms: number) => Promise<FlightOutcome<Content> | undefined>;
  readonly deadline?: Deadline | undefined;
  /** The read of the entry that was sent before the turn of the caller. */
  readonly ahead?: EntryAhead | undefined;
}

/** How an entry that cannot answer the caller as it is can still be used. */
export interface ReusableEntry<Content> {
  /** The entry, if it may be used when the handler fails. */
  readonly fallback: Entry<Content> | undefined;
  /** The entry, if the handler can validate it. */
  readonly validatable: Entry<Content> | undefined;
}

/**
 * The result of a lookup. `hit`: a fresh entry. `collapsed`: the entry of a leader for whose handler the caller waited.
 * `stale`: a stale entry, and, if this caller must refresh the entry, a function that begins the refresh. `miss`: the
 * caller runs the handler and ends the fill.
 */
export type LookupResult<Content> =
  | { readonly kind: 'hit' | 'collapsed'; readonly entry: Entry<Content> }
  | {
      readonly kind: 'stale';
      readonly entry: Entry<Content>;
      readonly refresh: (() => Promise<Fill<Content>>) | undefined;
    }
  | (ReusableEntry<Content> & { readonly kind: 'miss'; readonly fill: Fill<Content> });
