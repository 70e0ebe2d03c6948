import {
  type Entry,
  keepMs,
  type Lifetime,
  type NewEntry,
  packEnvelope,
  unstoredEntry,
  usabilityOf,
} from './entry.ts';
import { type DeclaredKey, type EntryKey, NO_LEASE } from './entry-key.ts';
import type { EntryStore, PackedEntry } from './entry-store.ts';
import { type FillStart, UNAWAITED } from './fill-start.ts';
import { HeldLease } from './held-lease.ts';
import type { Flight, FlightOutcome } from './local-state.ts';
import {
  areTracked,
  FILL_VERSIONS_TTL_MS,
  isInvalidated,
  isSoftlyInvalidated,
  type Snapshot,
} from './versions.ts';

/** The longest time that other requests wait for a fill. */
const LONGEST_FILL_MS = 60_000;

/** How long a hit-for-miss marker lasts. */
const HIT_FOR_MISS_MS = 5_000;

type UnversionedEntry<Content> = Omit<Entry<Content>, 'versions'>;

/** Content that followers get although it is not stored. */
type UnstoredContent<Content> = Pick<NewEntry<Content>, 'content' | 'names'>;

/** Fills an entry, for a flight and under a lease if it has them. A fill ends once; later calls have no effect. */
export class Fill<Content> {
  readonly #store: EntryStore;
  readonly #start: FillStart<Content>;
  readonly #lease: HeldLease;
  readonly #limit: NodeJS.Timeout;
  #isOver = false;
  #isReleased = false;

  constructor(store: EntryStore, start: FillStart<Content>) {
    this.#store = store;
    this.#start = start;
    this.#lease = new HeldLease(store, start.key, start.lease);
    this.#limit = setTimeout(() => this.release(), LONGEST_FILL_MS).unref();
  }

  get flight(): Flight<Content> | undefined {
    return this.#start.flight;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Whether other requests wait for the fill, in this process or, as of its last renewal, in another one. */
  get isAwaited(): boolean {
    if (this.#isOver || this.#isReleased) return false;
    return this.#lease.isAwaited || this.#start.flight?.hasFollowers === true;
  }

  /** Calls the listener whenever other requests begin to wait for the fill, and at once if some already wait. */
  onAwaited(listener: () => void): void {
    const { flight } = this.#start;
    if (flight !== undefined) flight.onFollowed = listener;
    this.#lease.onAwaited = listener;
    if (this.isAwaited) listener();
  }

  /** A fill of this key, or of another one, with the response of the same handler; no request waits for it. */
  unawaited(key: EntryKey<Content> = this.#start.key): Fill<Content> {
    return new Fill(this.#store, { ...this.#start, key, ...UNAWAITED });
  }

  /** Stores an entry. Resolves to its size in bytes, or to undefined when it is not stored. */
  async store(added: NewEntry<Content>): Promise<number | undefined> {
    const declared = this.#start.key.declaredKey?.(added.content);
    if (declared !== undefined) return this.#storeUnder(declared, added);
    if (!this.#end()) return undefined;
    const { key, maxAgeMs } = this.#start;
    const { lifetime, validation } = added;
    const names = [...new Set([...key.names, ...(validation?.entry.names ?? []), ...added.names])];
    const payload = packEnvelope({ ...added, names });
    key.learnVary(added.variesOn);
    this.#noteStorable(lifetime);
    const now = this.#store.now();
    const times = { lifetime, readAt: now, storedAt: now, freshUntil: now + lifetime.freshMs };
    const entry = { content: added.content, names, bytes: payload.length, ...times };
    if (this.#start.sequence === undefined) {
      const unversioned = { ...entry, sequence: 0, versions: [] };
      this.#settleUnlessPurged({ kind: 'entry', entry: unversioned, isNew: true }, names);
      this.#lease.end();
      return undefined;
    }
    const sequence = Math.min(this.#start.sequence, validation?.sequence ?? this.#start.sequence);
    const lifeMs = keepMs(lifetime);
    const known = this.#store.versions.known(names, maxAgeMs, lifeMs);
    if (known !== undefined) this.#share({ ...entry, sequence }, known);
    const [size] = await Promise.all([
      this.#write({ ...added, payload, sequence }),
      known ?? this.#shareOnceConfirmed({ ...entry, sequence }, lifeMs),
    ]);
    return size;
  }

  /**
   * Ends a fill whose content cannot be stored, and sets the hit-for-miss marker. Followers get `unstored` if it is
   * given; without it, each follower runs its own handler.
   */
  endAsHitForMiss(unstored?: UnstoredContent<Content>): void {
    if (!this.#end()) return;
    if (this.#start.marksHitForMiss) this.#markHitForMiss(HIT_FOR_MISS_MS);
    if (unstored === undefined) this.#start.flight?.settle({ kind: 'hit-for-miss' });
    else this.#shareUnstored(unstored);
    this.#lease.end(HIT_FOR_MISS_MS);
  }

  /** Ends a fill without a result, or after an error that concerns only this request: the next request leads. */
  abandon(): void {
    this.#endWith({ kind: 'retry' });
  }

  /** Ends the fill with content that followers get although it is not stored. */
  endUnstored(unstored: UnstoredContent<Content>): void {
    if (!this.#end()) return;
    this.#shareUnstored(unstored);
    this.#lease.end();
  }

  /** Ends the fill with a stale entry. Returns false if the entry has become unusable: then the next request leads. */
  fallBackOn(entry: Entry<Content>): boolean {
    const { versions } = this.#store;
    const usability = usabilityOf(entry, this.#store.now());
    // Purges do not update untracked versions, not even purges by this process.
    const mayBePurged = !areTracked(entry.versions) && versions.purges !== this.#start.purgesBefore;
    const isUsable = usability !== 'invalid' && usability !== 'validatable' && !mayBePurged;
    if (isUsable) this.#endWith({ kind: 'entry', entry, isNew: false });
    else this.abandon();
    return isUsable;
  }

  /** Ends the fill with the error of its loader, which the followers get as well. `names` are those of its tags. */
  fail(error: unknown, names: readonly string[]): void {
    if (!this.#end()) return;
    this.#settleUnlessPurged({ kind: 'error', error }, names);
    this.#lease.end();
  }

  /** Ends the flight and the lease, so that no request waits any longer. The content can still be stored. */
  release(): void {
    if (this.#isOver) return;
    this.#isReleased = true;
    this.#stopTimers();
    this.#start.flight?.settle({ kind: 'retry' });
    this.#lease.end();
  }

  #noteStorable({ freshMs }: Lifetime): void {
    const { flight, key, state } = this.#start;
    this.#markHitForMiss(0);
    state.setCollapsible(key.redisKeys.entry, this.#store.now(), freshMs > 0);
    if (freshMs <= 0) flight?.settle({ kind: 'retry' });
    else if (flight !== undefined) flight.isFilled = true;
  }

  #markHitForMiss(forMs: number): void {
    const { key, state } = this.#start;
    state.markHitForMiss(key.redisKeys.entry, this.#store.now(), forMs);
  }

  /** Stores an entry under its declared key. The write is sent before followers retry, so that they find the entry. */
  #storeUnder(
    { key, servesFollowers }: DeclaredKey<Content>,
    added: NewEntry<Content>,
  ): Promise<number | undefined> {
    if (!this.#end()) return Promise.resolve(undefined);
    const { flight } = this.#start;
    const start = { ...this.#start, key, lease: NO_LEASE, flight: servesFollowers ? flight : undefined };
    const stored = new Fill(this.#store, start).store(added);
    if (!servesFollowers) flight?.settle({ kind: 'retry' });
    this.#lease.end();
    return stored;
  }

  #shareUnstored({ content, names }: UnstoredContent<Content>): void {
    const entry = unstoredEntry(content, this.#store.now());
    this.#settleUnlessPurged({ kind: 'entry', entry, isNew: true }, names);
  }

  /**
   * Settles the flight with an outcome that is not stored. If a name of the key, or one of `names`, was purged since the
   * fill began, or may have been, the next request leads instead.
   */
  #settleUnlessPurged(outcome: FlightOutcome<Content>, names: readonly string[]): void {
    const { flight, key, sequence, purgesBefore } = this.#start;
    if (flight === undefined) return;
    if (this.#store.versions.purges === purgesBefore) flight.settle(outcome);
    else if (sequence === undefined) flight.settle({ kind: 'retry' });
    else {
      void this.#snapshotOf([...new Set([...key.names, ...names])]).then((snapshot) => {
        const isCurrent = snapshot !== undefined && !isPurged(sequence, snapshot);
        flight.settle(isCurrent ? outcome : { kind: 'retry' });
      });
    }
  }

  /** The versions of these names; undefined after a failure, which is reported. */
  async #snapshotOf(names: readonly string[]): Promise<Snapshot | undefined> {
    const { versions } = this.#store;
    const known = versions.known(names, this.#start.maxAgeMs);
    if (known !== undefined) return known;
    const reported = (error: unknown) => void this.#store.reportFailure(error);
    return versions.read(names, FILL_VERSIONS_TTL_MS).catch(reported);
  }

  #endWith(outcome: FlightOutcome<Content>): void {
    if (!this.#end()) return;
    this.#start.flight?.settle(outcome);
    this.#lease.end();
  }

  #end(): boolean {
    this.#stopTimers();
    const wasOver = this.#isOver;
    this.#isOver = true;
    return !wasOver;
  }

  async #shareOnceConfirmed(entry: UnversionedEntry<Content>, lifeMs: number): Promise<void> {
    const { flight, maxAgeMs } = this.#start;
    const { versions } = this.#store;
    // Redis keeps these versions longer by `maxAgeMs`: a later fill may use them until they are that old.
    const reported = (error: unknown) => void this.#store.reportFailure(error);
    const snapshot = await versions.read(entry.names, lifeMs + maxAgeMs).catch(reported);
    if (snapshot !== undefined) this.#share(entry, snapshot);
    // Redis is down, so this process receives no purge. Followers get the entry unless this process knows of a purge:
    // if each follower ran its own handler, the app would be overloaded during the outage.
    else if (versions.hasPurgeSince(entry.sequence)) flight?.settle({ kind: 'hit-for-miss' });
    else flight?.settle({ kind: 'entry', entry: { ...entry, versions: [] }, isNew: true });
  }

  /** Gives the entry to the followers and keeps a local copy, if the entry is still fresh. */
  #share(unversioned: UnversionedEntry<Content>, { versions, readAt }: Snapshot): void {
    const entry = { ...unversioned, versions, readAt: Math.min(unversioned.readAt, readAt) };
    const { flight, copies, key } = this.#start;
    if (usabilityOf(entry, this.#store.now()) !== 'fresh') {
      // The entry was purged while the handler ran: requests after the purge must not get it.
      flight?.settle({ kind: 'retry' });
      return;
    }
    if (areTracked(versions)) copies?.put(key.localKey(), entry);
    flight?.settle({ kind: 'entry', entry, isNew: true });
  }

  async #write(packed: PackedEntry): Promise<number | undefined> {
    const { key, lease } = this.#start;
    try {
      return await this.#store.write(key, packed, lease.token);
    } catch (error) {
      this.#store.reportFailure(error);
      // The write, which failed, would have ended the lease.
      this.#lease.end();
      return undefined;
    }
  }

  #stopTimers(): void {
    this.#lease.stopRenewal();
    clearTimeout(this.#limit);
  }
}

function isPurged(sequence: number, { versions }: Snapshot): boolean {
  return isInvalidated(sequence, versions) || isSoftlyInvalidated(sequence, versions);
}
