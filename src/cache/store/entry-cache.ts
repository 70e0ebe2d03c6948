import { freshToken } from '../../base/token.ts';
import type { WakeUps } from '../../waiting/wake-ups.ts';
import { type Entry, type Usability, usabilityOf } from './entry.ts';
import { type EntryKey, NO_LEASE } from './entry-key.ts';
import type { EntryAhead, ReadResult } from './entry-reader.ts';
import type { EntryStore } from './entry-store.ts';
import { Fill } from './fill.ts';
import { type AwaitedFill, UNAWAITED } from './fill-start.ts';
import { type Flight, type FlightOutcome, LocalCopies, type LocalState } from './local-state.ts';
import type { Lookup, LookupResult, LookupSettings, ReusableEntry } from './lookup.ts';
import type { SharedSettings } from './options.ts';
import { areTracked, FILL_VERSIONS_TTL_MS } from './versions.ts';

/** A lookup that reads the store. Other lookups follow its flight; without a flight, none follow. */
interface LeadingLookup<Content> {
  readonly lookup: Lookup<Content>;
  readonly settings: LookupSettings<Content>;
  readonly flight: Flight<Content> | undefined;
  /** Whether a response that cannot be stored shows that others cannot be stored either. */
  readonly isTypical: boolean;
  /** When the lookup stops waiting for another process. */
  readonly until: number;
}

/** The maximum age of known versions in a cache without local copies. */
const DEFAULT_MAX_AGE_MS = 5_000;

const NOTHING_REUSABLE = { fallback: undefined, validatable: undefined };

/** A cache of one kind of content. Callers that miss one entry form a flight: one fills the entry, the others wait. */
export class EntryCache<Content> {
  readonly #store: EntryStore;
  readonly #wakeUps: WakeUps;
  readonly #state: LocalState<Content>;

  constructor(store: EntryStore, wakeUps: WakeUps, state: LocalState<Content>) {
    this.#store = store;
    this.#wakeUps = wakeUps;
    this.#state = state;
  }

  now(): number {
    return this.#store.now();
  }

  reportFailure(error: unknown): void {
    this.#store.reportFailure(error);
  }

  settingsOf({ singleFlight, local }: SharedSettings): LookupSettings<Content> {
    const { copies, memory } = this.#state;
    if (local === undefined) return { singleFlight, copies: undefined, maxAgeMs: DEFAULT_MAX_AGE_MS };
    const { maxBytes, maxAgeMs } = local;
    const own = maxBytes === undefined ? copies : new LocalCopies(maxBytes, memory);
    return { singleFlight, copies: own, maxAgeMs };
  }

  /** The local copy of an entry, if it is younger than `maxAgeMs`. Costs no command. */
  localCopy({ copies, maxAgeMs }: LookupSettings<Content>, localKey: string): Entry<Content> | undefined {
    const entry = copies?.get(localKey);
    if (entry === undefined || entry.readAt > this.now() - maxAgeMs) return entry;
    copies?.forget(localKey);
    return undefined;
  }

  /** Sends the read of an entry before the turn of its caller; undefined if `lookUp` is not expected to read. */
  sendAhead(
    { key, deadline }: Pick<Lookup<Content>, 'key' | 'deadline'>,
    settings: LookupSettings<Content>,
  ): EntryAhead | undefined {
    const localKey = key.localKey();
    const copy = this.localCopy(settings, localKey);
    if (copy !== undefined && isUsable(usabilityOf(copy, this.now()))) return undefined;
    const { flights } = this.#state;
    if (flights.get(localKey) !== undefined) return undefined;
    if (this.#state.isHitForMiss(key.redisKeys.entry, this.now())) return undefined;
    return this.#store.reader.sendAhead(key, { maxAgeMs: settings.maxAgeMs, deadline });
  }

  /** Reads the entry of a key, fresh or stale, for a caller that does not fill: takes no lease. */
  async peek(
    lookup: Lookup<Content>,
    settings: LookupSettings<Content>,
  ): Promise<Entry<Content> | undefined> {
    const { entry } = await this.#read(lookup, { ...settings, singleFlight: undefined });
    if (entry === undefined || !lookup.accepts(entry)) return undefined;
    return isUsable(usabilityOf(entry, this.now())) ? entry : undefined;
  }

  /** Rejects only with an error of `follow` or of another caller's loader. A Redis failure is a miss, and reported. */
  async lookUp(lookup: Lookup<Content>, settings: LookupSettings<Content>): Promise<LookupResult<Content>> {
    const { key } = lookup;
    const { flights } = this.#state;
    const until = this.now() + (settings.singleFlight?.waitMs ?? 0);
    const alone = { lookup, settings, flight: undefined, isTypical: true, until };
    const unawaited = { ...settings, singleFlight: undefined };
    if (settings.singleFlight === undefined) return this.#lead({ ...alone, isTypical: false });
    for (;;) {
      if (this.#state.isHitForMiss(key.redisKeys.entry, this.now())) {
        return this.#missAlone(lookup, settings, { marksHitForMiss: true });
      }
      if (!this.#state.isCollapsible(key.redisKeys.entry, this.now())) {
        return this.#lead({ ...alone, settings: unawaited });
      }
      const localKey = key.localKey();
      const flight = flights.get(localKey);
      if (flight === undefined) return this.#lead({ ...alone, flight: flights.begin(localKey) });
      const wasFilled = flight.isFilled;
      const waitMs = until - this.now();
      const outcome = await (lookup.follow?.(flight, waitMs) ?? flight.follow(waitMs));
      if (outcome === undefined) return this.#missAlone(lookup, settings);
      if (outcome.kind === 'hit-for-miss') {
        const isEmpty = this.#state.isHitForMiss(key.redisKeys.entry, this.now());
        return isEmpty ? this.#missAlone(lookup, settings) : this.#lead({ ...alone, settings: unawaited });
      }
      if (outcome.kind === 'error') throw outcome.error;
      if (outcome.kind === 'entry') {
        if (lookup.accepts(outcome.entry)) return this.#followed(outcome, wasFilled);
        // The leader's response varies: requests for this variant have a flight of their own.
        key.update?.();
        if (key.localKey() === localKey) return this.#lead(alone);
      } else key.update?.();
    }
  }

  /** Begins the refresh of a stale entry; undefined when another request refreshes or has refreshed the entry. */
  async beginRefresh(
    lookup: Lookup<Content>,
    settings: LookupSettings<Content>,
  ): Promise<Fill<Content> | undefined> {
    const { entry, fill, lease } = await this.#read(lookup, settings);
    if (entry !== undefined) this.#keepCopy(lookup.key, settings, entry);
    const isFresh = entry !== undefined && usabilityOf(entry, this.now()) === 'fresh';
    const isOurs = fill === 'granted' || (settings.singleFlight === undefined && !isFresh);
    return isOurs ? this.beginFill(lookup, settings, { ...UNAWAITED, lease }) : undefined;
  }

  /** Begins a fill, which replaces any stored entry. By default no request waits for the fill. */
  async beginFill(
    { key, deadline }: Lookup<Content>,
    { copies, maxAgeMs }: LookupSettings<Content>,
    awaited: AwaitedFill<Content> = UNAWAITED,
  ): Promise<Fill<Content>> {
    const { versions } = this.#store;
    const reported = (error: unknown) => void this.#store.reportFailure(error);
    const snapshot =
      versions.known(key.names, maxAgeMs) ??
      (await versions.read(key.names, FILL_VERSIONS_TTL_MS, deadline).catch(reported));
    const start = { key, state: this.#state, ...awaited, copies, maxAgeMs };
    const before = { sequence: snapshot?.sequence, purgesBefore: versions.purges };
    return new Fill(this.#store, { ...start, ...before });
  }

  /** Begins a fill for which no request waits. Only purges after `sequence` invalidate the entry of the fill. */
  beginFillAt(sequence: number, key: EntryKey<Content>): Fill<Content> {
    return new Fill(this.#store, {
      key,
      state: this.#state,
      sequence,
      purgesBefore: this.#store.versions.purges,
      ...UNAWAITED,
      copies: undefined,
      maxAgeMs: DEFAULT_MAX_AGE_MS,
    });
  }

  /** Deletes an outdated entry that is not replaced. Other processes use their local copies until `maxAge`. */
  async delete(key: EntryKey<Content>, { copies }: LookupSettings<Content>): Promise<void> {
    copies?.forget(key.localKey());
    await this.#store.delete(key);
  }

  async #lead(leader: LeadingLookup<Content>): Promise<LookupResult<Content>> {
    const { lookup, settings, flight, until } = leader;
    // The lookup expects the wake-up before it reads, so that no wake-up is missed.
    const wakeUp = this.#wakeUps.expect(lookup.key.redisKeys.fill);
    try {
      for (;;) {
        const read = await this.#read(lookup, settings);
        const waitMs = Math.min(read.fillLeftMs, until - this.now());
        const result = await this.#resultOf(leader, read, waitMs > 0);
        if (result !== undefined) return result;
        await wakeUp.wait(waitMs);
      }
    } catch (error) {
      flight?.settle({ kind: 'retry' });
      throw error;
    } finally {
      wakeUp.stop();
    }
  }

  /** The result of a read; undefined if the leader must wait for another process that fills the entry. */
  async #resultOf(
    leader: LeadingLookup<Content>,
    read: ReadResult<Content>,
    canWait: boolean,
  ): Promise<LookupResult<Content> | undefined> {
    const { lookup, settings, flight, isTypical } = leader;
    const { entry, lease } = read;
    const marksHitForMiss = isTypical && read.isEmpty;
    const redisKey = lookup.key.redisKeys.entry;
    const usability = entry === undefined ? 'invalid' : usabilityOf(entry, this.now());
    if (entry !== undefined && isUsable(usability) && lookup.accepts(entry)) {
      return this.#useEntry(leader, read, entry, usability === 'fresh');
    }
    const reusable = reusableEntry(lookup, entry, usability);
    if (read.fill === 'hit-for-miss') {
      if (marksHitForMiss) this.#state.markHitForMiss(redisKey, this.now(), read.fillLeftMs);
      flight?.settle({ kind: 'hit-for-miss' });
      return this.#missAlone(lookup, settings, { marksHitForMiss, ...reusable });
    }
    const isCollapsible = reusable.validatable?.lifetime.freshMs !== 0;
    if (!isCollapsible) {
      this.#state.setCollapsible(redisKey, this.now(), false);
      flight?.settle({ kind: 'retry' });
    }
    if (read.fill === 'held' && canWait && isCollapsible) return undefined;
    const fill = await this.beginFill(lookup, settings, { flight, lease, marksHitForMiss });
    return { kind: 'miss', fill, ...reusable };
  }

  /** Reads an entry. With `singleFlight`, the read also takes the lease unless the entry is fresh. */
  #read(
    { key, deadline, ahead }: Lookup<Content>,
    { singleFlight, maxAgeMs }: LookupSettings<Content>,
  ): Promise<ReadResult<Content>> {
    const lease =
      singleFlight === undefined ? NO_LEASE : { token: freshToken(), leaseMs: singleFlight.leaseMs };
    return this.#store.reader.read(key, lease, { maxAgeMs, deadline }, ahead);
  }

  #useEntry(
    { lookup, settings, flight }: LeadingLookup<Content>,
    { fill, lease }: ReadResult<Content>,
    entry: Entry<Content>,
    isFresh: boolean,
  ): LookupResult<Content> {
    this.#keepCopy(lookup.key, settings, entry);
    flight?.settle({ kind: 'entry', entry, isNew: false });
    if (isFresh) return { kind: 'hit', entry };
    const isOurs = fill === 'granted' || settings.singleFlight === undefined;
    const refresh = isOurs ? () => this.beginFill(lookup, settings, { ...UNAWAITED, lease }) : undefined;
    return { kind: 'stale', entry, refresh };
  }

  #followed(
    { entry, isNew }: Extract<FlightOutcome<Content>, { kind: 'entry' }>,
    wasFilled: boolean,
  ): LookupResult<Content> {
    if (isNew) return { kind: wasFilled ? 'hit' : 'collapsed', entry };
    const isFresh = usabilityOf(entry, this.now()) === 'fresh';
    return isFresh ? { kind: 'hit', entry } : { kind: 'stale', entry, refresh: undefined };
  }

  /** A miss for whose fill no other request waits. */
  async #missAlone(
    lookup: Lookup<Content>,
    settings: LookupSettings<Content>,
    {
      marksHitForMiss = false,
      ...reusable
    }: Partial<ReusableEntry<Content> & Pick<AwaitedFill<Content>, 'marksHitForMiss'>> = {},
  ): Promise<LookupResult<Content>> {
    const fill = await this.beginFill(lookup, settings, { ...UNAWAITED, marksHitForMiss });
    return { kind: 'miss', fill, ...NOTHING_REUSABLE, ...reusable };
  }

  #keepCopy(key: EntryKey<Content>, { copies }: LookupSettings<Content>, entry: Entry<Content>): void {
    if (areTracked(entry.versions)) copies?.put(key.localKey(), entry);
  }
}

function isUsable(usability: Usability): boolean {
  return usability === 'fresh' || usability === 'stale';
}

function reusableEntry<Content>(
  lookup: Lookup<Content>,
  entry: Entry<Content> | undefined,
  usability: Usability,
): ReusableEntry<Content> {
  if (entry === undefined || usability === 'invalid') return NOTHING_REUSABLE;
  return {
    fallback: usability === 'fallback' && lookup.accepts(entry) ? entry : undefined,
    validatable: lookup.validates?.(entry) === true ? entry : undefined,
  };
}
