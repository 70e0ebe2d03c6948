import { Renewal } from '../../waiting/renewal.ts';
import { type Entry, keepMs, type Lifetime, packEnvelope, usabilityOf, type Validation } from './entry.ts';
import {
  type Bound,
  type EntryStore,
  type Lease,
  type Making,
  NO_LEASE,
  type OwnPlace,
  type Place,
} from './entry-store.ts';
import type { Flight, Outcome } from './flights.ts';
import type { LocalCopies } from './local-copies.ts';
import { areFollowed, type Snapshot, type Versions } from './versions.ts';

/** Whatever is being made longer is not waited for by anybody any more. */
const LONGEST_FILL_MS = 60_000;

/** How long it is remembered that nothing was stored, so that those who come next do not queue. */
const PASSING_MS = 5_000;

export interface FillDeps {
  readonly store: EntryStore;
  readonly versions: Versions;
  readonly now: () => number;
}

/** How a fill began. */
export interface FillStart<Content> {
  readonly place: Place<Content>;
  /** As it was before the making; undefined when it is not known, and nothing may be stored. */
  readonly sequence: number | undefined;
  /** Who waits for it in this process. */
  readonly flight: Flight<Content> | undefined;
  /** What tells other processes to wait. */
  readonly lease: Lease;
  readonly local: { readonly copies: LocalCopies<Content>; readonly maxAgeMs: number } | undefined;
  /** How old what is known of purges may be. */
  readonly maxAgeMs: number;
  readonly passing: (place: Place<Content>, forMs: number) => void;
  /** Whether requests may wait for each other: what has to be validated for each of them serves one alone. */
  readonly sharing: (place: Place<Content>, isShared: boolean) => void;
}

export interface Made<Content> {
  readonly content: Content;
  readonly info: unknown;
  readonly body: Buffer;
  readonly lifetime: Lifetime;
  readonly tags: readonly string[];
  readonly variesOn: string;
  readonly maxVariants: number;
  readonly bound: Bound | undefined;
  /** Set where the content is that of a stored entry, validated. */
  readonly validation?: Validation<Content> | undefined;
}

type Unversioned<Content> = Omit<Entry<Content>, 'versions'>;

/** The making of what is not there, by the one who may. It ends once; what comes later is nothing. */
export class Fill<Content> {
  readonly #deps: FillDeps;
  readonly #start: FillStart<Content>;
  readonly #renewal: Renewal | undefined;
  readonly #limit: NodeJS.Timeout;
  readonly #purgesBefore: number;
  #isOver = false;
  #isReleased = false;
  #isAwaitedElsewhere = false;
  #onAwaitedElsewhere: () => void = () => undefined;

  constructor(deps: FillDeps, start: FillStart<Content>) {
    this.#deps = deps;
    this.#start = start;
    this.#purgesBefore = deps.versions.purges;
    const { token, leaseMs } = start.lease;
    if (token !== '') {
      const failed = (error: unknown) => deps.store.failed(error);
      this.#renewal = new Renewal({ renew: () => this.#renew(), failed });
      this.#renewal.start(leaseMs);
    }
    this.#limit = setTimeout(() => this.release(), LONGEST_FILL_MS).unref();
  }

  get flight(): Flight<Content> | undefined {
    return this.#start.flight;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Whether others wait for it: in this process, or in another one as its last renewal said. */
  get isAwaited(): boolean {
    if (this.#isOver || this.#isReleased) return false;
    return this.#isAwaitedElsewhere || this.#start.flight?.hasFollowers === true;
  }

  /** Calls back whenever others begin to wait for it. */
  whenAwaited(begin: () => void): void {
    const { flight } = this.#start;
    if (flight !== undefined) flight.onFollowed = begin;
    this.#onAwaitedElsewhere = begin;
    if (this.isAwaited) begin();
  }

  /** A fill of this place, or of another one, with what the same handler makes; no request waits for it. */
  beside(place: Place<Content> = this.#start.place): Fill<Content> {
    return new Fill(this.#deps, { ...this.#start, flight: undefined, lease: NO_LEASE, place });
  }

  /** Stores what was made; resolves to its size in bytes, or undefined when it was not stored. */
  async store(made: Made<Content>): Promise<number | undefined> {
    const own = this.#start.place.ownPlace?.(made.content);
    if (own !== undefined) return this.#storeElsewhere(made, own);
    if (!this.#end()) return undefined;
    const { place, flight } = this.#start;
    const { versions, now } = this.#deps;
    const { content, lifetime, variesOn, maxVariants, bound, validation } = made;
    const names = [...new Set([...place.names, ...(validation?.entry.names ?? []), ...made.tags])];
    const sequence = this.#sequenceOf(validation);
    const payload = packEnvelope({ ...made, names });
    place.learnVary(variesOn);
    this.#start.passing(place, 0);
    this.#start.sharing(place, lifetime.freshMs > 0);
    if (lifetime.freshMs <= 0) flight?.settle({ kind: 'retry' });
    else if (flight !== undefined) flight.isMade = true;
    const storedAt = now();
    const entry = {
      ...{ content, names, lifetime, bytes: payload.length, readAt: storedAt, storedAt },
      freshUntil: storedAt + lifetime.freshMs,
    };
    if (sequence === undefined) {
      flight?.settle({ kind: 'entry', entry: { ...entry, sequence: 0, versions: [] }, isMade: true });
      this.#giveBack(0);
      return undefined;
    }
    const lifeMs = keepMs(lifetime);
    const known = versions.known(names, this.#start.maxAgeMs, lifeMs);
    if (known !== undefined) this.#hold({ ...entry, sequence }, known);
    const making = { payload, lifetime, variesOn, maxVariants, bound, sequence };
    const [size] = await Promise.all([
      this.#write(making),
      known ?? this.#holdByAsking({ ...entry, sequence }, names, lifeMs),
    ]);
    return size;
  }

  /**
   * Ends a fill whose result must not be stored, and sets the hit-for-miss marker. Its followers get `content`, where one
   * result serves them all; else each makes its own.
   */
  pass(content?: Content): void {
    if (!this.#end()) return;
    this.#start.passing(this.#start.place, PASSING_MS);
    const outcome: Outcome<Content> =
      content === undefined
        ? { kind: 'pass' }
        : { kind: 'entry', entry: this.#unstored(content), isMade: true };
    this.#start.flight?.settle(outcome);
    this.#giveBack(PASSING_MS);
  }

  /** It came to nothing, or to an error that somebody else may not meet: the next one is to try. */
  abandon(): void {
    if (!this.#end()) return;
    this.#start.flight?.settle({ kind: 'retry' });
    this.#giveBack(0);
  }

  /** Those who wait get a value that is not stored. */
  share(content: Content): void {
    this.#endWith(this.#unstored(content), true);
  }

  /** Followers get a stale entry in place of a new one. False for an entry that was purged meanwhile: the next one leads. */
  fallBackOn(entry: Entry<Content>): boolean {
    const usability = usabilityOf(entry, this.#deps.now());
    // A purge does not reach versions that were read while the process does not listen, not even its own.
    const mayBePurged = !areFollowed(entry.versions) && this.#deps.versions.purges !== this.#purgesBefore;
    const isUsable = usability !== 'void' && usability !== 'validatable' && !mayBePurged;
    if (isUsable) this.#endWith(entry, false);
    else this.abandon();
    return isUsable;
  }

  fail(error: unknown): void {
    if (!this.#end()) return;
    this.#start.flight?.settle({ kind: 'error', error });
    this.#giveBack(0);
  }

  /** It may go on and still be stored, but nobody waits for it any more. */
  release(): void {
    if (this.#isOver) return;
    this.#isReleased = true;
    this.#stopTimers();
    this.#start.flight?.settle({ kind: 'retry' });
    this.#giveBack(0);
  }

  #sequenceOf(validation: Validation<Content> | undefined): number | undefined {
    const { sequence } = this.#start;
    if (sequence === undefined || validation === undefined) return sequence;
    return Math.min(sequence, validation.sequence);
  }

  /** The command of the store leaves before followers that retry look for it. */
  #storeElsewhere(made: Made<Content>, { place, isForAll }: OwnPlace<Content>): Promise<number | undefined> {
    if (!this.#end()) return Promise.resolve(undefined);
    const { flight } = this.#start;
    const own = { ...this.#start, place, lease: NO_LEASE, flight: isForAll ? flight : undefined };
    const stored = new Fill(this.#deps, own).store(made);
    if (!isForAll) flight?.settle({ kind: 'retry' });
    this.#giveBack(0);
    return stored;
  }

  #endWith(entry: Entry<Content>, isMade: boolean): void {
    if (!this.#end()) return;
    this.#start.flight?.settle({ kind: 'entry', entry, isMade });
    this.#giveBack(0);
  }

  /** An entry for followers only. */
  #unstored(content: Content): Entry<Content> {
    const at = this.#deps.now();
    const windows = { staleWhileRevalidateMs: 0, staleIfErrorMs: 0, validatableMs: 0 };
    const lifetime = { freshMs: 0, ...windows, ageMs: 0, isStrict: false };
    const times = { readAt: at, storedAt: at, freshUntil: at };
    return { content, names: [], lifetime, sequence: 0, versions: [], bytes: 0, ...times };
  }

  #end(): boolean {
    this.#stopTimers();
    const wasOver = this.#isOver;
    this.#isOver = true;
    return !wasOver;
  }

  async #holdByAsking(entry: Unversioned<Content>, names: readonly string[], lifeMs: number): Promise<void> {
    // For as long as what is known of them counts another fill may rely on it.
    const keptMs = lifeMs + this.#start.maxAgeMs;
    const snapshot = await this.#try(this.#deps.versions.ask(names, keptMs));
    if (snapshot !== undefined) this.#hold(entry, snapshot);
    // Redis has gone, and with it what tells of purges. As long as none was heard, those who wait get what was made:
    // each making its own would be the very stampede that they waited to avoid, at the worst moment.
    else if (this.#deps.versions.wasPurgeHeardSince(entry.sequence))
      this.#start.flight?.settle({ kind: 'pass' });
    else this.#start.flight?.settle({ kind: 'entry', entry: { ...entry, versions: [] }, isMade: true });
  }

  #hold(unversioned: Unversioned<Content>, { versions, readAt }: Snapshot): void {
    const entry = { ...unversioned, versions, readAt: Math.min(unversioned.readAt, readAt) };
    const { flight, local, place } = this.#start;
    if (usabilityOf(entry, this.#deps.now()) !== 'fresh') {
      // Purged while it was made: who came after the purge must not get it.
      flight?.settle({ kind: 'retry' });
      return;
    }
    if (local !== undefined && areFollowed(entry.versions)) local.copies.put(place.localKey(), entry);
    flight?.settle({ kind: 'entry', entry, isMade: true });
  }

  async #write(making: Making): Promise<number | undefined> {
    const { place, lease } = this.#start;
    try {
      return await this.#deps.store.write(place, making, lease.token);
    } catch (error) {
      this.#deps.store.failed(error);
      // The command that did not reach Redis, or may not have, was to end the lease as well.
      this.#giveBack(0);
      return undefined;
    }
  }

  #giveBack(passingMs: number): void {
    const { place, lease } = this.#start;
    if (lease.token !== '') void this.#deps.store.endFill(place, lease, passingMs);
  }

  async #renew(): Promise<true> {
    const { place, lease } = this.#start;
    const isAwaited = await this.#deps.store.renewFill(place, lease);
    if (isAwaited && !this.#isAwaitedElsewhere) {
      this.#isAwaitedElsewhere = true;
      this.#onAwaitedElsewhere();
    }
    return true;
  }

  #stopTimers(): void {
    this.#renewal?.stop();
    clearTimeout(this.#limit);
  }

  async #try<Result>(work: Promise<Result>): Promise<Result | undefined> {
    try {
      return await work;
    } catch (error) {
      this.#deps.store.failed(error);
      return undefined;
    }
  }
}
