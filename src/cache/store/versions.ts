import { BoundedMap } from '../../base/bounded-map.ts';
import type { Keys } from '../../base/keys.ts';
import type { Reporter } from '../../base/reporter.ts';
import type { Deadline } from '../../engine/deadline.ts';
import type { Engine } from '../../engine/port.ts';
import { type CachePurgeReply, cachePurge, cacheVersions } from './operations/versions.ts';

/*
 * An invalidation name is what an entry is invalidated by: `all`, a URL, a key, a tag or a group. Each name has a version,
 * the sequences of its last purges. A hard purge invalidates the entries of the name, a soft purge makes them stale.
 */

/** The versions that are kept in this process; the least recently used ones are dropped and read from Redis again. */
const KNOWN_BYTES = 16 * 2 ** 20;
const VERSION_BYTES = 100;

/** The bytes for the sequences of all namespaces. */
const SEQUENCE_BYTES = 2 ** 20;

/**
 * The least time that Redis keeps the versions of an entry while it is filled, since its lifetime is not known yet. An entry
 * that is fresh for a minute and validatable for another minute needs no second command for its versions.
 */
export const FILL_VERSIONS_TTL_MS = 180_000;

/** The invalidation name of every entry, which `kit.invalidate({ all: true })` purges. */
export const ALL = 'all';

/** The purges of one name. Entries in this process refer to this object, so that a purge reaches them at once. */
export interface NameVersion {
  /** Entries of a lower sequence are invalid. Infinity once the version is no longer known. */
  readonly hard: number;
  /** Entries of a lower sequence are stale. */
  readonly soft: number;
  /** Whether purges update this object. An untracked version was correct when it was read; no local copy may depend on it. */
  readonly isTracked: boolean;
}

interface KnownVersion {
  hard: number;
  soft: number;
  isTracked: boolean;
  /** When it was last read from Redis; negative infinity while only purges are known. */
  readAt: number;
  /** Redis keeps the version at least until then. */
  keptUntil: number;
}

/** The versions of several names, and the sequence before any purge that comes after the snapshot. */
export interface Snapshot {
  readonly sequence: number;
  readonly versions: readonly NameVersion[];
  /** When the oldest of the versions was read. */
  readonly readAt: number;
}

export interface CacheEnvironment {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
  /** The clock of local copies, in milliseconds. */
  readonly now: () => number;
}

/**
 * The versions that this process knows, by names that begin with the scope of their namespace. A version that is read while
 * the subscriber is connected is tracked from then on, since this process receives every purge. A version that is read
 * while the subscriber is disconnected serves only the request that reads it: purges are missed until it reconnects.
 */
export class KnownVersions {
  readonly #known = new BoundedMap<KnownVersion>(KNOWN_BYTES, () => VERSION_BYTES, forget);
  /** The last sequence of each namespace, by its scope. */
  readonly #sequences = new BoundedMap<number>(SEQUENCE_BYTES);
  /** Whether the subscriber is connected. */
  isUp = false;
  /** How often the subscriber has connected or disconnected. */
  changes = 0;
  /** The number of purges that this process has sent or received. */
  purges = 0;

  listenerChanged(isUp: boolean): void {
    this.isUp = isUp;
    this.changes++;
    if (!isUp) this.#known.clear();
  }

  get(name: string): KnownVersion | undefined {
    return this.#known.get(name);
  }

  /** Tracks a version from now on: purges update it even before it is read. */
  track(name: string): KnownVersion {
    let version = this.#known.get(name);
    if (version === undefined) {
      version = { hard: 0, soft: 0, isTracked: true, readAt: Number.NEGATIVE_INFINITY, keptUntil: 0 };
      this.#known.set(name, version);
    }
    return version;
  }

  sequenceOf(scope: string): number | undefined {
    return this.#sequences.get(scope);
  }

  noteSequence(scope: string, sequence: number): void {
    this.#sequences.set(scope, Math.max(this.#sequences.peek(scope) ?? 0, sequence));
  }

  /** Records a purge by this or another process. */
  recordPurge(scope: string, sequence: number, soft: boolean, names: readonly string[]): void {
    // Any Redis client can publish on the channel.
    if (!Number.isSafeInteger(sequence)) return;
    this.purges++;
    if (this.#sequences.peek(scope) !== undefined) this.noteSequence(scope, sequence);
    for (const name of names) {
      const version = this.#known.peek(scope + name);
      if (version === undefined) continue;
      if (soft) version.soft = Math.max(version.soft, sequence);
      else version.hard = Math.max(version.hard, sequence);
    }
  }
}

/** Entries that still refer to a version which is no longer tracked are invalid. */
function forget(version: KnownVersion): void {
  version.hard = Number.POSITIVE_INFINITY;
  version.isTracked = false;
}

/**
 * The versions that invalidate the entries of one namespace. A known version is used only up to the age that the caller
 * accepts, since a message may be lost between the nodes of a Cluster.
 */
export class Versions {
  readonly #env: CacheEnvironment;
  readonly #known: KnownVersions;

  constructor(env: CacheEnvironment, known: KnownVersions) {
    this.#env = env;
    this.#known = known;
  }

  /** The number of purges that this process has sent or received. */
  get purges(): number {
    return this.#known.purges;
  }

  /** Whether this process knows of a purge of any name after `sequence`. */
  hasPurgeSince(sequence: number): boolean {
    return (this.#known.sequenceOf(this.#env.keys.scope) ?? 0) > sequence;
  }

  /** The sequence of the last purge; undefined while this process may miss purges. */
  get sequence(): number | undefined {
    return this.#known.isUp ? this.#known.sequenceOf(this.#env.keys.scope) : undefined;
  }

  /** The versions as this process knows them; undefined when they must be read from Redis. */
  known(names: readonly string[], maxAgeMs: number, ttlMs = 0): Snapshot | undefined {
    const { sequence } = this;
    if (sequence === undefined) return undefined;
    const { scope } = this.#env.keys;
    const now = this.#env.now();
    const versions: KnownVersion[] = [];
    let readAt = now;
    for (const name of names) {
      const version = this.#known.get(scope + name);
      if (version === undefined || version.readAt <= now - maxAgeMs || version.keptUntil < now + ttlMs) {
        return undefined;
      }
      readAt = Math.min(readAt, version.readAt);
      versions.push(version);
    }
    return { sequence, versions, readAt };
  }

  /** Reads the versions from Redis, which keeps them for `ttlMs` from now on. */
  async read(names: readonly string[], ttlMs: number, deadline?: Deadline): Promise<Snapshot> {
    const { engine, keys, now } = this.#env;
    const known = this.#known;
    const readAt = now();
    const { changes } = known;
    // Tracked before the reply arrives, so that a purge in between is not lost.
    const tracked = known.isUp ? names.map((name) => known.track(keys.scope + name)) : undefined;
    const { sequence, versions: read } = await engine.run(
      cacheVersions,
      this.#keysOf(names),
      { ttl: Math.ceil(ttlMs) },
      deadline,
    );
    known.noteSequence(keys.scope, sequence);
    // The reply may be older than a purge that was missed while the subscriber was disconnected.
    if (tracked === undefined || changes !== known.changes) {
      return { sequence, versions: read.map((version) => ({ ...version, isTracked: false })), readAt };
    }
    for (const [index, version] of tracked.entries()) {
      version.hard = Math.max(version.hard, read[index]?.hard ?? Number.POSITIVE_INFINITY);
      version.soft = Math.max(version.soft, read[index]?.soft ?? 0);
      version.readAt = readAt;
      version.keptUntil = readAt + ttlMs;
    }
    return { sequence, versions: tracked, readAt };
  }

  async purge(names: readonly string[], soft: boolean, deadline?: Deadline): Promise<CachePurgeReply> {
    const { engine, keys } = this.#env;
    const args = { soft, channel: keys.cacheChannel(), scope: keys.scope, names };
    const purge = await engine.run(cachePurge, this.#keysOf(names), args, deadline);
    this.#known.recordPurge(keys.scope, purge.sequence, soft, names);
    return purge;
  }

  #keysOf(names: readonly string[]): string[] {
    const { keys } = this.#env;
    return [keys.cacheVersion('sequence'), ...names.map((name) => keys.cacheVersion(name))];
  }
}

/** Whether purges update all of these versions. */
export function areTracked(versions: readonly NameVersion[]): boolean {
  for (const { isTracked } of versions) if (!isTracked) return false;
  return true;
}

/** Whether a hard purge of a name came after `sequence`. */
export function isInvalidated(sequence: number, versions: readonly NameVersion[]): boolean {
  for (const { hard } of versions) if (hard > sequence) return true;
  return false;
}

/** Whether a soft purge of a name came after `sequence`. */
export function isSoftlyInvalidated(sequence: number, versions: readonly NameVersion[]): boolean {
  for (const { soft } of versions) if (soft > sequence) return true;
  return false;
}
