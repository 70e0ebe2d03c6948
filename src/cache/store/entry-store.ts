import { asError, StoreError } from '../../base/errors.ts';
import type { CacheKeys } from '../../base/keys.ts';
import type { Deadline } from '../../engine/deadline.ts';
import { newerFormat } from '../../engine/reply.ts';
import { mayHaveRun, sendUntilAnswered } from '../../waiting/retry.ts';
import { type Entry, keepMs, type NewEntry, unpackEnvelope, usabilityOf } from './entry.ts';
import { cacheFillEnd, cacheFillRenew } from './operations/fill-lease.ts';
import { cacheEnterPolicy } from './operations/policy-index.ts';
import { type CacheReadArgs, type CacheReadReply, cacheRead, type FillState } from './operations/read.ts';
import { cacheWrite, filledMessage } from './operations/write.ts';
import type { BoundedPolicy } from './options.ts';
import { type CacheEnvironment, FILL_VERSIONS_TTL_MS, type NameVersion, type Versions } from './versions.ts';

/** The key of an entry: the names of the entry in Redis and in this process, and the unpacking of its content. */
export interface EntryKey<Content> {
  readonly redisKeys: CacheKeys;
  /** The key of the local copy and of the flight in this process. */
  localKey(): string;
  /** The invalidation names that every entry under this key has; the tags of an entry add to them. */
  readonly names: readonly string[];
  /** The names of the request headers that select a variant, as this process last learned them; empty for none. */
  variesOn(): string;
  learnVary(names: string): void;
  /** The id of the variant that the values of these request headers select. */
  variantOf(names: string): string;
  /** Returns undefined for unreadable content. */
  unpack(info: unknown, body: Buffer): Content | undefined;
  /** The other key under which a new response must be stored by its No-Vary-Search; undefined for this key. */
  declaredKey?(content: Content): DeclaredKey<Content> | undefined;
  /** Applies what this process has since learned of the key, of which the caller must hold no lease and no flight. */
  update?(): void;
}

/** A key other than the one under which the handler ran. */
export interface DeclaredKey<Content> {
  readonly key: EntryKey<Content>;
  /** Whether the content can answer every follower of the key under which the handler ran. */
  readonly servesFollowers: boolean;
}

/** An entry as it is written to Redis. */
export interface PackedEntry
  extends Pick<NewEntry<unknown>, 'lifetime' | 'variesOn' | 'maxVariants' | 'policy'> {
  /** The packed envelope. */
  readonly payload: Buffer;
  readonly sequence: number;
}

/** The lease of a fill: other processes wait while it lasts. */
export interface FillLease {
  /** Identifies the holder of the lease; empty for no lease. */
  readonly token: string;
  readonly leaseMs: number;
}

export const NO_LEASE: FillLease = { token: '', leaseMs: 0 };

export interface ReadResult<Content> {
  readonly entry: Entry<Content> | undefined;
  readonly fill: FillState;
  /** Milliseconds until the lease of another process, or the hit-for-miss marker, expires. */
  readonly fillLeftMs: number;
  /** The lease that Redis granted to this read, or `NO_LEASE`. */
  readonly lease: FillLease;
}

/** Whether Redis has granted the lease to a read, or may have granted it in a reply that was lost. */
interface LeaseGrant {
  isPossible: boolean;
}

interface ReadBounds {
  /** The maximum age of the known versions; older versions are read from Redis again. */
  readonly maxAgeMs: number;
  readonly deadline: Deadline | undefined;
}

/** The most reads: of the entry, of its variant, after a purge that the script did not know of, and one to spare. */
const MAX_READS = 4;

/** Reads and writes the entries of one namespace. */
export class EntryStore {
  readonly versions: Versions;
  readonly #env: CacheEnvironment;

  constructor(env: CacheEnvironment, versions: Versions) {
    this.#env = env;
    this.versions = versions;
  }

  now(): number {
    return this.#env.now();
  }

  /**
   * Reads an entry, and takes the lease unless the entry is fresh. Costs one command, a second one if this process does
   * not know the versions of the entry, and one more each if this process does not know the Vary of the entry, or if
   * the entry was purged. A failure is reported, and the result has no entry.
   */
  async read<Content>(
    key: EntryKey<Content>,
    lease: FillLease,
    maxAgeMs: number,
    deadline?: Deadline,
  ): Promise<ReadResult<Content>> {
    const grant: LeaseGrant = { isPossible: false };
    try {
      return await this.#readCurrent(key, lease, grant, { maxAgeMs, deadline });
    } catch (error) {
      this.reportFailure(error);
      // A lease that Redis may have granted is treated as granted: the caller fills the entry under it, and ends it.
      const fill = grant.isPossible ? 'granted' : 'none';
      return { entry: undefined, fill, fillLeftMs: 0, lease: grant.isPossible ? lease : NO_LEASE };
    }
  }

  async #readCurrent<Content>(
    key: EntryKey<Content>,
    lease: FillLease,
    grant: LeaseGrant,
    bounds: ReadBounds,
  ): Promise<ReadResult<Content>> {
    const { token, leaseMs } = lease;
    let minSequence = highestPurge(this.versions.known(key.names, bounds.maxAgeMs)?.versions);
    let names = key.variesOn();
    for (let reads = 1; ; reads++) {
      const { entry: entryKey, fill: fillKey, variant } = key.redisKeys;
      const readAt = this.now();
      const keys = names === '' ? [entryKey, fillKey] : [entryKey, fillKey, variant(key.variantOf(names))];
      const args = { names, minSequence, token, lease: leaseMs };
      const reply = await this.#run(keys, args, grant, bounds.deadline);
      if (reply.found === 'newer') throw newerFormat('cache');
      if (reply.names !== '' && reply.names !== names && reads < MAX_READS) {
        names = reply.names;
        key.learnVary(names);
        continue;
      }
      const isGranted = reply.fill === 'granted';
      const fill = { fill: reply.fill, fillLeftMs: reply.fillLeft, lease: isGranted ? lease : NO_LEASE };
      const entry = await this.#entryIn(key, reply, readAt, bounds);
      if (entry === undefined) return { entry, ...fill };
      const usability = usabilityOf(entry, this.now());
      if (usability !== 'fresh' && reply.fill === 'none' && token !== '' && reads < MAX_READS) {
        // The script took a purged entry for fresh, and granted no lease. The next read passes `minSequence`.
        minSequence = highestPurge(entry.versions);
        continue;
      }
      return { entry: usability === 'invalid' ? undefined : entry, ...fill };
    }
  }

  /** The entry in a reply; undefined when it is unreadable or absent. */
  async #entryIn<Content>(
    key: EntryKey<Content>,
    { found, payload, sequence, age, left, kept }: CacheReadReply,
    readAt: number,
    { maxAgeMs, deadline }: ReadBounds,
  ): Promise<Entry<Content> | undefined> {
    const envelope = payload === null ? undefined : unpackEnvelope(payload, left, age);
    const content = envelope && key.unpack(envelope.info, envelope.body);
    if (found === 'corrupt' || (payload !== null && content === undefined)) this.#reportCorrupt();
    if (payload === null || envelope === undefined || content === undefined) return undefined;
    const { names, lifetime } = envelope;
    const ttlMs = left > 0 ? kept : Math.max(kept, FILL_VERSIONS_TTL_MS);
    const snapshot =
      this.versions.known(names, maxAgeMs) ?? (await this.versions.read(names, ttlMs, deadline));
    return {
      ...{ content, names, sequence, lifetime, versions: snapshot.versions, bytes: payload.length },
      readAt: Math.min(readAt, snapshot.readAt),
      storedAt: readAt - age,
      freshUntil: lifetime.freshMs > 0 ? readAt + left : readAt,
    };
  }

  async #run(
    keys: readonly string[],
    args: CacheReadArgs,
    grant: LeaseGrant,
    deadline: Deadline | undefined,
  ): Promise<CacheReadReply> {
    try {
      const reply = await this.#env.engine.run(cacheRead, keys, args, deadline);
      grant.isPossible ||= reply.fill === 'granted';
      return reply;
    } catch (error) {
      grant.isPossible ||= args.token !== '' && mayHaveRun(error);
      throw error;
    }
  }

  /** Stores an entry and ends its fill. Resolves to its size in bytes, or to undefined when Redis has a newer entry. */
  async write(key: EntryKey<unknown>, packed: PackedEntry, token: string): Promise<number | undefined> {
    const { engine, keys } = this.#env;
    const { variesOn: names, sequence, lifetime, maxVariants, payload, policy } = packed;
    const { entry: entryKey, fill: fillKey } = key.redisKeys;
    const variant = names === '' ? '' : key.variantOf(names);
    const variantKeys = names === '' ? [] : [key.redisKeys.variant(variant)];
    const keep = Math.max(1, Math.ceil(keepMs(lifetime)));
    const times = { fresh: Math.max(0, Math.floor(lifetime.freshMs)), keep };
    const end = { token, channel: keys.cacheChannel(), message: filledMessage(fillKey) };
    const args = { ...end, ...times, sequence, names, variant, maxVariants, payload };
    const { stored, evicted } = await engine.run(cacheWrite, [entryKey, fillKey, ...variantKeys], args);
    for (const id of evicted) await engine.delete([key.redisKeys.variant(id)]);
    if (!stored) return undefined;
    if (policy !== undefined) await this.#enterPolicy(policy, variantKeys[0] ?? entryKey, keep);
    return payload.length;
  }

  async #enterPolicy({ name, maxEntries }: BoundedPolicy, member: string, lifeMs: number): Promise<void> {
    const { engine, keys } = this.#env;
    const args = { member, lifeMs, maxEntries };
    const surplus = await engine.run(cacheEnterPolicy, [keys.cachePolicy(name)], args);
    // One command per key: in a Cluster the keys are in different slots.
    await Promise.all(surplus.map((key) => engine.delete([key])));
  }

  /**
   * Ends a fill that stored nothing, and sets a hit-for-miss marker for `hitForMissMs`; 0 sets none. Never rejects: a
   * command that fails is sent again until the lease has expired, since other processes wait until then.
   */
  async endFill(key: EntryKey<unknown>, { token, leaseMs }: FillLease, hitForMissMs: number): Promise<void> {
    const { engine, keys } = this.#env;
    const { fill } = key.redisKeys;
    const args = { token, hitForMissMs, channel: keys.cacheChannel(), message: filledMessage(fill) };
    const end = () => engine.run(cacheFillEnd, [fill], args);
    try {
      await end();
    } catch (error) {
      this.reportFailure(error);
      await sendUntilAnswered(end, leaseMs);
    }
  }

  /** Deletes the entry of a key that has no variants. Never rejects. */
  async delete({ redisKeys }: EntryKey<unknown>): Promise<void> {
    try {
      await this.#env.engine.delete([redisKeys.entry]);
    } catch (error) {
      this.reportFailure(error);
    }
  }

  /** Renews the lease of a fill. Resolves to whether another process waits for the fill. */
  renewFill(key: EntryKey<unknown>, { token, leaseMs }: FillLease): Promise<boolean> {
    const args = { token, lease: leaseMs };
    return this.#env.engine.run(cacheFillRenew, [key.redisKeys.fill], args);
  }

  reportFailure(error: unknown): void {
    this.#env.reporter.failure('cache', asError(error));
  }

  #reportCorrupt(): void {
    this.reportFailure(
      new StoreError('ERR_REDIS_KIT_CORRUPT', 'a cached value cannot be read and counts as absent'),
    );
  }
}

/** The sequence of the last known purge, hard or soft, of any of these names; 0 for none. */
function highestPurge(versions: readonly NameVersion[] = []): number {
  let sequence = 0;
  for (const { hard, soft } of versions) {
    if (hard !== Number.POSITIVE_INFINITY) sequence = Math.max(sequence, hard, soft);
  }
  return sequence;
}
