import { type EntryKey, type FillLease, NO_LEASE } from './entry-key.ts';
import type { Flight, LocalCopies, LocalState } from './local-state.ts';

/** The parts with which a fill begins. */
export interface FillStart<Content> {
  readonly key: EntryKey<Content>;
  readonly state: LocalState<Content>;
  /** The sequence before the handler runs; undefined when it is unknown, and then nothing is stored. */
  readonly sequence: number | undefined;
  /** The number of purges that this process knew of before the handler ran. */
  readonly purgesBefore: number;
  /** The flight in this process that the fill ends. */
  readonly flight: Flight<Content> | undefined;
  readonly lease: FillLease;
  /**
   * Whether a response that cannot be stored sets the hit-for-miss marker of this process. Requests that find the marker
   * read nothing, so it must not hide a stored entry, and a request that runs alone must not set it.
   */
  readonly marksHitForMiss: boolean;
  readonly copies: LocalCopies<Content> | undefined;
  /** The maximum age of known versions. */
  readonly maxAgeMs: number;
}

/** The parts by which other requests wait for a fill. */
export interface AwaitedFill<Content>
  extends Pick<FillStart<Content>, 'flight' | 'lease' | 'marksHitForMiss'> {}

/** A fill for which no request waits. */
export const UNAWAITED: AwaitedFill<never> & { readonly flight: undefined } = {
  flight: undefined,
  lease: NO_LEASE,
  marksHitForMiss: false,
};
