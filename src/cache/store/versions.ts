import { BoundedMap } from '../../base/bounded-map.ts';
import type { Keys } from '../../base/keys.ts';
import type { Reporter } from '../../base/reporter.ts';
import type { Deadline } from '../../engine/deadline.ts';
import type { Engine } from '../../engine/port.ts';
import { type CachePurgeReply, cachePurge, cacheVersions } from './operations/versions.ts';
import { PurgeRetries } from './purge-retries.ts';

/*
 * Entries are invalidated by their invalidation names: `all`, a URL, a key, a tag or a group. Each name has a version:
 * the sequences of its last hard purge, which invalidates the entries of the name, and of its last soft purge, which
 * makes the entries stale.
 */

/** The most bytes for known versions. The least recently used are dropped, and read from Redis when needed again. */
const KNOWN_BYTES = 16 * 2 ** 20;
const VERSION_BYTES = 100;

/** The most bytes for the last sequences of all namespaces. */
const SEQUENCE_BYTES = 2 ** 20;

/**
 * How long Redis keeps, at least, the versions of an entry that is being filled: the lifetime of the entry is not known
 * yet. With this value an entry that is fresh for a minute and validatable for another minute needs no second command
 * for its versions.
 */
export const FILL_VERSIONS_TTL_MS = 180_000;

/** The invalidation name of every entry, which `kit.invalidate({ all: true })` purges. */
export const ALL = 'all';

/** The last purges of one name. Entries in this process refer to this object, so that a purge takes effect at once. */
export interface NameVersion {
  /** Entries of a lower sequence are invalid. Infinity once the version is no longer known. */
  readonly hard: number;
  /** Entries of a lower sequence are stale. */
  readonly soft: number;
  /** Whether purges update this object. If not, it was correct only when it was read. */
  readonly isTracked: boolean;
}

interface KnownVersion {
  hard: number;
  soft: number;
  isTracked: boolean;
  /** When the version was last read from Redis; negative infinity if it is tracked but was never read. */
  readAt: number;
  /** Until when, at least, Redis keeps the version. */
  keptUntil: number;
}

/** The versions of several names and the last sequence, at one time: every later purge has a higher sequence. */
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
 * The versions that this process knows, by names that begin with the scope of their namespace. A version that is read
 * while the subscriber is connected is tracked from then on, since this process receives every purge. A version that is
 * read while the subscriber is disconnected is used only for the request that reads it: this process misses purges.
 */
export class KnownVersions {
  readonly #known = new BoundedMap<KnownVersion>(KNOWN_BYTES, () => VERSION_BYTES, forget);
  /** The last known sequence of each namespace, by the scope of the namespace. */
  readonly #sequences = new BoundedMap<number>(SEQUENCE_BYTES);
  /** Whether the subscriber is connected. */
  isUp = false;
  /** The number of times that the subscriber has connected or disconnected. */
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
    // Any Redis client can publish on the channel, and its message can contain any number.
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

/** Makes a dropped version infinite: purges no longer update it, so entries that still refer to it become invalid. */
function forget(version: KnownVersion): void {
  version.hard = Number.POSITIVE_INFINITY;
  version.isTracked = false;
}

/**
 * The versions that invalidate the entries of one namespace. A known version is used only up to the age that the caller
 * accepts, since a message can be lost between the nodes of a Cluster.
 */
export class Versions {
  readonly #env: CacheEnvironment;
  readonly #known: KnownVersions;
  #retries: PurgeRetries | undefined;

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

  /** The sequence of the last purge; undefined while this process might miss purges. */
  get sequence(): number | undefined {
    return this.#known.isUp ? this.#known.sequenceOf(this.#env.keys.scope) : undefined;
  }

  /** The known versions; undefined when one is unknown or too old, or when Redis might drop one within `ttlMs`. */
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

  /** Reads the versions from Redis. The command makes Redis keep them for at least `ttlMs`. */
  async read(names: readonly string[], ttlMs: number, deadline?: Deadline): Promise<Snapshot> {
    const { engine, keys, now } = this.#env;
    const known = this.#known;
    const readAt = now();
    const { changes } = known;
    // The versions are tracked before the reply arrives, so that a purge in the meantime is recorded.
    const tracked = known.isUp ? names.map((name) => known.track(keys.scope + name)) : undefined;
    const { sequence, versions: read } = await engine.run(
      cacheVersions,
      this.#keysOf(names),
      { ttl: Math.ceil(ttlMs) },
      deadline,
    );
    known.noteSequence(keys.scope, sequence);
    // The reply can be older than a purge that was missed while the subscriber was disconnected.
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

  /** Repeats a hard purge in the background after it has failed. A purge may run twice. */
  retryPurge(names: readonly string[]): void {
    this.#retries ??= new PurgeRetries((failed) => this.purge(failed, false), ALL);
    this.#retries.add(names);
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
