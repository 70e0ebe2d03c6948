import { BoundedMap } from '../../base/bounded-map.ts';
import type { Keys } from '../../base/keys.ts';
import type { Deadline } from '../../engine/deadline.ts';
import type { Engine } from '../../engine/port.ts';
import { type CachePurgeReply, cachePurge, cacheVersions } from './operations/versions.ts';

/** Beyond these the names that were used least recently are asked for again. */
const KNOWN_BYTES = 16 * 2 ** 20;
const VERSION_BYTES = 100;

/**
 * Versions are kept for this long at least while something is made, since its own lifetime is not known yet. A
 * response that is fresh for a minute and validatable for another one needs no second command for them.
 */
export const WHILE_MAKING_MS = 180_000;

/** For the sequence of each namespace. */
const SEQUENCE_BYTES = 2 ** 20;

/** The name of every entry, which `{ all: true }` purges by. */
export const ALL = 'all';

/** What this process knows of the purges of one name. Entries held here refer to it, so a purge reaches them at once. */
export interface NameVersion {
  /** What was made at a lower sequence is void; Infinity once nothing is known any more. */
  readonly hard: number;
  /** What was made at a lower sequence is stale. */
  readonly soft: number;
  /** Whether purges change it. Otherwise it was true when it was read, and no copy may depend on it. */
  readonly isFollowed: boolean;
}

interface KnownVersion {
  hard: number;
  soft: number;
  isFollowed: boolean;
  /** When it was last read, by the clock; before that only purges are noted. */
  readAt: number;
  /** Until when the store keeps it, at least. */
  keptUntil: number;
}

/** Some names' versions, and the sequence at a moment before any that is read from now on. */
export interface Snapshot {
  readonly sequence: number;
  readonly versions: readonly NameVersion[];
  /** When the oldest of them was read. */
  readonly readAt: number;
}

/**
 * The purges that a process knows of, by names that begin with the scope of their namespace. A version that is read while the
 * listening connection is up is known from then on, since every purge is heard there. One that is read while the
 * connection is away serves the one request that reads it: the purges until the connection is back are never heard.
 */
export class KnownVersions {
  readonly #known = new BoundedMap<KnownVersion>(KNOWN_BYTES, () => VERSION_BYTES, forget);
  /** The last sequence of each namespace, by its scope. */
  readonly #sequences = new BoundedMap<number>(SEQUENCE_BYTES);
  #isUp = false;
  /** How often the listening connection has come or gone. */
  #changes = 0;

  #purges = 0;

  get isUp(): boolean {
    return this.#isUp;
  }

  /** How many purges this process has made or heard of. */
  get purges(): number {
    return this.#purges;
  }

  get changes(): number {
    return this.#changes;
  }

  listenerChanged(isUp: boolean): void {
    this.#isUp = isUp;
    this.#changes++;
    if (!isUp) this.#known.clear();
  }

  get(name: string): KnownVersion | undefined {
    return this.#known.get(name);
  }

  /** Known from now on; a purge of it is noted even before it is read. */
  follow(name: string): KnownVersion {
    let version = this.#known.get(name);
    if (version === undefined) {
      version = { hard: 0, soft: 0, isFollowed: true, readAt: Number.NEGATIVE_INFINITY, keptUntil: 0 };
      this.#known.set(name, version);
    }
    return version;
  }

  sequenceOf(scope: string): number | undefined {
    return this.#sequences.get(scope);
  }

  sawSequence(scope: string, sequence: number): void {
    this.#sequences.set(scope, Math.max(this.#sequences.peek(scope) ?? 0, sequence));
  }

  /** A purge, by whatever process. */
  purged(scope: string, sequence: number, soft: boolean, names: readonly string[]): void {
    // Any client of Redis may publish.
    if (!Number.isSafeInteger(sequence)) return;
    this.#purges++;
    if (this.#sequences.peek(scope) !== undefined) this.sawSequence(scope, sequence);
    for (const name of names) {
      const version = this.#known.peek(scope + name);
      if (version === undefined) continue;
      if (soft) version.soft = Math.max(version.soft, sequence);
      else version.hard = Math.max(version.hard, sequence);
    }
  }
}

/** Purges no longer reach the entries that still refer to it. */
function forget(version: KnownVersion): void {
  version.hard = Number.POSITIVE_INFINITY;
  version.isFollowed = false;
}

export interface VersionsDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly known: KnownVersions;
  /** Milliseconds of the clock that local copies live by. */
  readonly now: () => number;
}

/**
 * The versions that invalidate the entries of one namespace. A version that is known in this process is used for as long
 * as a caller accepts: a message may be lost between the nodes of a Cluster.
 */
export class Versions {
  readonly #deps: VersionsDeps;

  constructor(deps: VersionsDeps) {
    this.#deps = deps;
  }

  /** How many purges this process has made or heard of. */
  get purges(): number {
    return this.#deps.known.purges;
  }

  /** Whether anything at all was purged since, as far as this process knows. */
  wasPurgeHeardSince(sequence: number): boolean {
    const { known, keys } = this.#deps;
    return (known.sequenceOf(keys.scope) ?? 0) > sequence;
  }

  /** The sequence of the last purge that is known here; undefined when this process does not know of all purges. */
  get sequence(): number | undefined {
    const { known, keys } = this.#deps;
    return known.isUp ? known.sequenceOf(keys.scope) : undefined;
  }

  /** What is known here; undefined when the store must be asked. */
  known(names: readonly string[], maxAgeMs: number, ttlMs = 0): Snapshot | undefined {
    const { known, keys } = this.#deps;
    const { sequence } = this;
    if (sequence === undefined) return undefined;
    const now = this.#deps.now();
    const versions: KnownVersion[] = [];
    let readAt = now;
    for (const name of names) {
      const version = known.get(keys.scope + name);
      if (version === undefined || version.readAt <= now - maxAgeMs || version.keptUntil < now + ttlMs) {
        return undefined;
      }
      readAt = Math.min(readAt, version.readAt);
      versions.push(version);
    }
    return { sequence, versions, readAt };
  }

  /** Asks the store, which keeps the versions for so long from now on. */
  async ask(names: readonly string[], ttlMs: number, deadline?: Deadline): Promise<Snapshot> {
    const { engine, keys, known, now } = this.#deps;
    const readAt = now();
    const { changes } = known;
    // Known before the reply comes: a purge that is heard in between must not be forgotten.
    const followed = known.isUp ? names.map((name) => known.follow(keys.scope + name)) : undefined;
    const { sequence, versions: read } = await engine.run(
      cacheVersions,
      [keys.cacheVersion('sequence'), ...names.map((name) => keys.cacheVersion(name))],
      { ttl: Math.ceil(ttlMs) },
      deadline,
    );
    known.sawSequence(keys.scope, sequence);
    // A reply that was asked for before the connection came back may be older than a purge that was not heard.
    if (followed === undefined || changes !== known.changes) {
      return { sequence, versions: read.map((version) => ({ ...version, isFollowed: false })), readAt };
    }
    for (const [index, version] of followed.entries()) {
      version.hard = Math.max(version.hard, read[index]?.hard ?? Number.POSITIVE_INFINITY);
      version.soft = Math.max(version.soft, read[index]?.soft ?? 0);
      version.readAt = readAt;
      version.keptUntil = readAt + ttlMs;
    }
    return { sequence, versions: followed, readAt };
  }

  async purge(names: readonly string[], soft: boolean, deadline?: Deadline): Promise<CachePurgeReply> {
    const { engine, keys, known } = this.#deps;
    const purge = await engine.run(
      cachePurge,
      [keys.cacheVersion('sequence'), ...names.map((name) => keys.cacheVersion(name))],
      { soft, channel: keys.cacheChannel(), scope: keys.scope, names },
      deadline,
    );
    known.purged(keys.scope, purge.sequence, soft, names);
    return purge;
  }
}

/** Whether a purge of any of these reaches what refers to them. */
export function areFollowed(versions: readonly NameVersion[]): boolean {
  for (const { isFollowed } of versions) if (!isFollowed) return false;
  return true;
}

export function isVoid(sequence: number, versions: readonly NameVersion[]): boolean {
  for (const { hard } of versions) if (hard > sequence) return true;
  return false;
}

export function isSoftlyPurged(sequence: number, versions: readonly NameVersion[]): boolean {
  for (const { soft } of versions) if (soft > sequence) return true;
  return false;
}
