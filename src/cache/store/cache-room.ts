import { freshToken } from '../../base/token.ts';
import type { Deadline } from '../../engine/deadline.ts';
import type { WakeUps } from '../../waiting/wake-ups.ts';
import { type Entry, usabilityOf } from './entry.ts';
import {
  EntryStore,
  type EntryStoreDeps,
  type Finding,
  type Lease,
  NO_LEASE,
  type Place,
} from './entry-store.ts';
import { Fill, type FillStart } from './fill.ts';
import type { Flight, Outcome } from './flights.ts';
import { LocalCopies } from './local-copies.ts';
import type { RoomMemory } from './room-memory.ts';
import { areFollowed, WHILE_MAKING_MS } from './versions.ts';

/** How a user of the room looks things up. */
export interface LookupSettings<Content> {
  readonly singleFlight: { readonly leaseMs: number; readonly waitMs: number } | undefined;
  readonly local: { readonly copies: LocalCopies<Content>; readonly maxAgeMs: number } | undefined;
}

export interface Lookup<Content> {
  readonly place: Place<Content>;
  /** Whether what was found may answer this caller. */
  accepts(entry: Entry<Content>): boolean;
  /** Whether the handler of this caller can validate what was found and may not be used as it is. Default: no. */
  readonly validates?: (entry: Entry<Content>) => boolean;
  /** Waits for another's flight in a way of its own. */
  readonly follow?: (flight: Flight<Content>, ms: number) => Promise<Outcome<Content> | undefined>;
  readonly deadline?: Deadline | undefined;
}

/** An entry that was found and may not be used as it is. */
interface Remains<Content> {
  readonly how: 'remains';
  /** May be used when making a new one fails. */
  readonly fallback: Entry<Content> | undefined;
  /** May be validated by the handler. */
  readonly validatable: Entry<Content> | undefined;
}

/**
 * An entry, and how it came: `hit`, `stale` (with the way to make it anew, where that is this caller's to do),
 * `collapsed` (made for another request at the same time). Or a fill: the caller is to make it or to have it validated, and
 * may fall back on what is stale when it fails.
 */
export type Answer<Content> =
  | { readonly how: 'hit' | 'collapsed'; readonly entry: Entry<Content> }
  | {
      readonly how: 'stale';
      readonly entry: Entry<Content>;
      readonly refresh: (() => Promise<Fill<Content>>) | undefined;
    }
  | (Omit<Remains<Content>, 'how'> & { readonly how: 'make'; readonly fill: Fill<Content> });

export interface CacheRoomDeps extends EntryStoreDeps {
  readonly wakeUps: WakeUps;
}

/** How old what is known of purges may be where no copies are held. */
const DEFAULT_MAX_AGE_MS = 5_000;

const ALONE = { flight: undefined, lease: NO_LEASE };

const NOTHING = { how: 'remains', fallback: undefined, validatable: undefined } as const;

/** Reads through: finds what is stored, or lets one caller make it while the others wait. */
export class CacheRoom<Content> {
  readonly #deps: CacheRoomDeps;
  readonly #store: EntryStore;
  readonly #memory: RoomMemory<Content>;

  constructor(deps: CacheRoomDeps, memory: RoomMemory<Content>) {
    this.#deps = deps;
    this.#memory = memory;
    this.#store = new EntryStore(deps);
  }

  /** The copies of all caches that set no bounds of their own. */
  get shared(): LocalCopies<Content> {
    return this.#memory.copies;
  }

  now(): number {
    return this.#deps.now();
  }

  /** Copies within bounds of their own. */
  ownCopies(maxBytes: number): LocalCopies<Content> {
    return new LocalCopies(maxBytes, this.#memory.detach);
  }

  /** What is held here and may be used now. Asks nobody, and is all that most requests need. */
  held({ local }: LookupSettings<Content>, key: string): Entry<Content> | undefined {
    const entry = local?.copies.get(key);
    if (local === undefined || entry === undefined) return undefined;
    if (entry.readAt > this.#deps.now() - local.maxAgeMs) return entry;
    local.copies.forget(key);
    return undefined;
  }

  /** What is stored, fresh or stale, for who will not make anything. */
  async peek(
    lookup: Lookup<Content>,
    settings: LookupSettings<Content>,
  ): Promise<Entry<Content> | undefined> {
    const { finding } = await this.#find(lookup, { ...settings, singleFlight: undefined });
    const { entry } = finding;
    if (entry === undefined || !lookup.accepts(entry)) return undefined;
    const usability = usabilityOf(entry, this.now());
    return usability === 'fresh' || usability === 'stale' ? entry : undefined;
  }

  /** Trouble with the store is told, and never an error: the caller makes what it asked for. */
  async obtain(lookup: Lookup<Content>, settings: LookupSettings<Content>): Promise<Answer<Content>> {
    const { place } = lookup;
    const until = this.now() + (settings.singleFlight?.waitMs ?? 0);
    if (settings.singleFlight === undefined) return this.#lead(lookup, settings, undefined, until);
    for (;;) {
      if (this.#memory.isPassing(place.keys.entry, this.now())) return this.#make(lookup, settings, NOTHING);
      if (this.#memory.isUnshared(place.keys.entry, this.now())) {
        return this.#lead(lookup, { ...settings, singleFlight: undefined }, undefined, until);
      }
      const key = place.localKey();
      const { flights } = this.#memory;
      const flight = flights.underWay(key);
      if (flight === undefined) return this.#lead(lookup, settings, flights.begin(key), until);
      const isMadeAlready = flight.isMade;
      const waitMs = until - this.now();
      const outcome = await (lookup.follow?.(flight, waitMs) ?? flight.follow(waitMs));
      if (outcome === undefined || outcome.kind === 'pass') return this.#make(lookup, settings, NOTHING);
      if (outcome.kind === 'error') throw outcome.error;
      if (outcome.kind === 'retry') {
        place.move?.();
        continue;
      }
      const { entry, isMade } = outcome;
      if (!lookup.accepts(entry)) {
        // It varies, as is known only now: those who ask for another variant wait for each other.
        place.move?.();
        if (place.localKey() !== key) continue;
        return this.#lead(lookup, settings, undefined, until);
      }
      if (isMade && !isMadeAlready) return { how: 'collapsed', entry };
      const isFresh = isMade || usabilityOf(entry, this.now()) === 'fresh';
      return isFresh ? { how: 'hit', entry } : { how: 'stale', entry, refresh: undefined };
    }
  }

  /** A fill for what is stale; undefined where it is another's to make, or somebody has made it already. */
  async refresh(
    lookup: Lookup<Content>,
    settings: LookupSettings<Content>,
  ): Promise<Fill<Content> | undefined> {
    const { finding, lease } = await this.#find(lookup, settings);
    const { entry } = finding;
    if (entry !== undefined) this.#hold(lookup.place, settings, entry);
    const isFresh = entry !== undefined && usabilityOf(entry, this.now()) === 'fresh';
    const isOurs = finding.lease === 'granted' || (settings.singleFlight === undefined && !isFresh);
    return isOurs ? this.#fill(lookup, settings, undefined, lease) : undefined;
  }

  /** For who makes it whatever is stored. */
  fillOf(lookup: Lookup<Content>, settings: LookupSettings<Content>): Promise<Fill<Content>> {
    return this.#fill(lookup, settings, undefined, NO_LEASE);
  }

  /** Deletes a value that is outdated and has no successor in the store. Other processes use their copies until `maxAge`. */
  async drop(place: Place<Content>, { local }: LookupSettings<Content>): Promise<void> {
    local?.copies.forget(place.localKey());
    await this.#store.drop(place);
  }

  /** For what was made without a lookup, by a request that no other waits for; only purges after `sequence` reach it. */
  fillAsOf(sequence: number, place: Place<Content>): Fill<Content> {
    const nobodyWaits = { flight: undefined, lease: NO_LEASE, local: undefined };
    return this.#begin(place, { ...nobodyWaits, sequence, maxAgeMs: DEFAULT_MAX_AGE_MS });
  }

  async #lead(
    lookup: Lookup<Content>,
    settings: LookupSettings<Content>,
    flight: Flight<Content> | undefined,
    until: number,
  ): Promise<Answer<Content>> {
    const { place } = lookup;
    const wakeUp = this.#deps.wakeUps.expect(place.keys.fill);
    try {
      for (;;) {
        const { finding, lease } = await this.#find(lookup, settings);
        const found = this.#judge(lookup, settings, finding, lease, flight);
        if (found.how !== 'remains') return found;
        if (finding.lease === 'passing') {
          this.#memory.pass(place.keys.entry, this.now(), finding.leaseLeftMs);
          flight?.settle({ kind: 'pass' });
          return await this.#make(lookup, settings, found);
        }
        const isShared = found.validatable?.lifetime.freshMs !== 0;
        if (!isShared) {
          this.#memory.share(place.keys.entry, this.now(), false);
          flight?.settle({ kind: 'retry' });
        }
        const waitMs = Math.min(finding.leaseLeftMs, until - this.now());
        if (finding.lease !== 'held' || waitMs <= 0 || !isShared) {
          return await this.#make(lookup, settings, found, { flight, lease });
        }
        await wakeUp.wait(waitMs);
      }
    } catch (error) {
      flight?.settle({ kind: 'retry' });
      throw error;
    } finally {
      wakeUp.stop();
    }
  }

  #judge(
    lookup: Lookup<Content>,
    settings: LookupSettings<Content>,
    { entry, lease: state }: Finding<Content>,
    lease: Lease,
    flight: Flight<Content> | undefined,
  ): Answer<Content> | Remains<Content> {
    const usability = entry === undefined ? 'void' : usabilityOf(entry, this.now());
    if (entry === undefined || usability === 'void') return NOTHING;
    const isAccepted = lookup.accepts(entry);
    if (!isAccepted || usability === 'fallback' || usability === 'validatable') {
      const validatable = lookup.validates?.(entry) === true ? entry : undefined;
      return {
        how: 'remains',
        fallback: isAccepted && usability === 'fallback' ? entry : undefined,
        validatable,
      };
    }
    this.#hold(lookup.place, settings, entry);
    flight?.settle({ kind: 'entry', entry, isMade: false });
    if (usability === 'fresh') return { how: 'hit', entry };
    const isOurs = state === 'granted' || settings.singleFlight === undefined;
    const refresh = isOurs ? () => this.#fill(lookup, settings, undefined, lease) : undefined;
    return { how: 'stale', entry, refresh };
  }

  /** With the lease that was taken, or none. */
  async #find(
    { place, deadline }: Lookup<Content>,
    { singleFlight, local }: LookupSettings<Content>,
  ): Promise<{ readonly finding: Finding<Content>; readonly lease: Lease }> {
    const wanted =
      singleFlight === undefined ? NO_LEASE : { token: freshToken(), leaseMs: singleFlight.leaseMs };
    const finding = await this.#store.find(place, wanted, local?.maxAgeMs ?? DEFAULT_MAX_AGE_MS, deadline);
    return { finding, lease: finding.lease === 'granted' ? wanted : NO_LEASE };
  }

  async #make(
    lookup: Lookup<Content>,
    settings: LookupSettings<Content>,
    { fallback, validatable }: Remains<Content>,
    { flight, lease }: { readonly flight: Flight<Content> | undefined; readonly lease: Lease } = ALONE,
  ): Promise<Answer<Content>> {
    const fill = await this.#fill(lookup, settings, flight, lease);
    return { how: 'make', fill, fallback, validatable };
  }

  async #fill(
    { place, deadline }: Lookup<Content>,
    { local }: LookupSettings<Content>,
    flight: Flight<Content> | undefined,
    lease: Lease,
  ): Promise<Fill<Content>> {
    const maxAgeMs = local?.maxAgeMs ?? DEFAULT_MAX_AGE_MS;
    const { versions } = this.#deps;
    let snapshot = versions.known(place.names, maxAgeMs);
    try {
      snapshot ??= await versions.ask(place.names, WHILE_MAKING_MS, deadline);
    } catch (error) {
      this.#store.failed(error);
    }
    return this.#begin(place, { sequence: snapshot?.sequence, flight, lease, local, maxAgeMs });
  }

  #begin(
    place: Place<Content>,
    start: Omit<FillStart<Content>, 'place' | 'passing' | 'sharing'>,
  ): Fill<Content> {
    const { versions, now } = this.#deps;
    const passing = ({ keys }: Place<Content>, ms: number) => this.#memory.pass(keys.entry, this.now(), ms);
    const sharing = ({ keys }: Place<Content>, isShared: boolean) =>
      this.#memory.share(keys.entry, this.now(), isShared);
    return new Fill({ store: this.#store, versions, now }, { ...start, place, passing, sharing });
  }

  #hold(place: Place<Content>, { local }: LookupSettings<Content>, entry: Entry<Content>): void {
    if (local !== undefined && areFollowed(entry.versions)) local.copies.put(place.localKey(), entry);
  }
}
