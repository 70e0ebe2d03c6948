import { asError, StoreError } from '../../base/errors.ts';
import type { Deadline } from '../../engine/deadline.ts';
import { newerFormat } from '../../engine/reply.ts';
import { mayHaveRun } from '../../waiting/retry.ts';
import { type Entry, unpackEnvelope, usabilityOf } from './entry.ts';
import { type EntryKey, type FillLease, NO_LEASE } from './entry-key.ts';
import { type CacheReadArgs, type CacheReadReply, cacheRead, type FillState } from './operations/read.ts';
import { type CacheEnvironment, FILL_VERSIONS_TTL_MS, type NameVersion, type Versions } from './versions.ts';

export interface ReadResult<Content> {
  readonly entry: Entry<Content> | undefined;
  /** Whether the key is known to have no usable entry, in any variant. */
  readonly isEmpty: boolean;
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

export interface ReadBounds {
  /** The maximum age of the known versions; older versions are read from Redis again. */
  readonly maxAgeMs: number;
  readonly deadline?: Deadline | undefined;
}

/**
 * The read of an entry that was sent before the caller's turn. It takes no lease, so that nothing waits for a turn that
 * never comes.
 */
export class EntryAhead {
  readonly sentAt: number;
  readonly #keys: readonly string[];
  #reply: Promise<CacheReadReply> | undefined;

  constructor(keys: readonly string[], sentAt: number, reply: Promise<CacheReadReply>) {
    this.#keys = keys;
    this.sentAt = sentAt;
    this.#reply = reply;
    // The caller receives the error, if its turn comes.
    reply.catch(() => undefined);
  }

  /** The reply, once, if these keys are to be read. */
  take(keys: readonly string[]): Promise<CacheReadReply> | undefined {
    const reply = this.#reply;
    this.#reply = undefined;
    const isSame = keys.length === this.#keys.length && keys.every((key, at) => key === this.#keys[at]);
    return isSame ? reply : undefined;
  }
}

/** The parts of a result that took no lease. */
const WITHOUT_LEASE = { isEmpty: false, fill: 'none', fillLeftMs: 0, lease: NO_LEASE } as const;

/** The most reads: of the entry, of its variant, after a purge that the script did not know of, and one to spare. */
const MAX_READS = 4;

/** Reads the entries of one namespace. */
export class EntryReader {
  readonly #env: CacheEnvironment;
  readonly #versions: Versions;

  constructor(env: CacheEnvironment, versions: Versions) {
    this.#env = env;
    this.#versions = versions;
  }

  /**
   * Reads an entry, and takes the lease unless the entry is fresh. Costs one command, a second one if this process does
   * not know the versions of the entry, and one more each if this process does not know the Vary of the entry, or if
   * the entry was purged. `ahead` replaces the first command; unless it has a fresh entry, the lease costs one more. A
   * failure is reported, and the result has no entry.
   */
  async read<Content>(
    key: EntryKey<Content>,
    lease: FillLease,
    bounds: ReadBounds,
    ahead?: EntryAhead,
  ): Promise<ReadResult<Content>> {
    const grant: LeaseGrant = { isPossible: false };
    try {
      const early = ahead && (await this.#readAhead(key, ahead, bounds, lease));
      return early ?? (await this.#readCurrent(key, lease, grant, bounds));
    } catch (error) {
      this.#reportFailure(error);
      // A lease that Redis may have granted is treated as granted: the caller fills the entry under it, and ends it.
      const fill = grant.isPossible ? 'granted' : 'none';
      const held = grant.isPossible ? lease : NO_LEASE;
      return { entry: undefined, isEmpty: false, fill, fillLeftMs: 0, lease: held };
    }
  }

  /** Sends the read of an entry, without a lease, before the turn of its caller. */
  sendAhead(key: EntryKey<unknown>, { maxAgeMs, deadline }: ReadBounds): EntryAhead {
    const names = key.variesOn();
    const keys = keysToRead(key, names);
    const minSequence = highestPurge(this.#versions.known(key.names, maxAgeMs)?.versions);
    const args = { names, minSequence, token: '', lease: 0 };
    return new EntryAhead(keys, this.#env.now(), this.#env.engine.run(cacheRead, keys, args, deadline));
  }

  /** The result of a read that was sent ahead; undefined if the entry must be read again. */
  async #readAhead<Content>(
    key: EntryKey<Content>,
    ahead: EntryAhead,
    bounds: ReadBounds,
    { token }: FillLease,
  ): Promise<ReadResult<Content> | undefined> {
    const names = key.variesOn();
    const reply = await ahead.take(keysToRead(key, names));
    if (reply === undefined) return undefined;
    if (reply.found === 'newer') throw newerFormat('cache');
    if (reply.names !== '' && reply.names !== names) {
      key.learnVary(reply.names);
      return undefined;
    }
    const entry = await this.#entryIn(key, reply, ahead.sentAt, bounds);
    const usability = entry === undefined ? 'invalid' : usabilityOf(entry, this.#env.now());
    if (usability !== 'fresh' && token !== '') return undefined;
    return { ...WITHOUT_LEASE, entry: usability === 'invalid' ? undefined : entry };
  }

  async #readCurrent<Content>(
    key: EntryKey<Content>,
    lease: FillLease,
    grant: LeaseGrant,
    bounds: ReadBounds,
  ): Promise<ReadResult<Content>> {
    const { token, leaseMs } = lease;
    let minSequence = highestPurge(this.#versions.known(key.names, bounds.maxAgeMs)?.versions);
    let names = key.variesOn();
    for (let reads = 1; ; reads++) {
      const readAt = this.#env.now();
      const keys = keysToRead(key, names);
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
      const hasVariants = reply.names !== '';
      if (entry === undefined) return { entry, isEmpty: !hasVariants, ...fill };
      const usability = usabilityOf(entry, this.#env.now());
      if (usability !== 'fresh' && reply.fill === 'none' && token !== '' && reads < MAX_READS) {
        // The script took a purged entry for fresh, and granted no lease. The next read passes `minSequence`.
        minSequence = highestPurge(entry.versions);
        continue;
      }
      if (usability === 'invalid') return { entry: undefined, isEmpty: !hasVariants, ...fill };
      return { entry, isEmpty: false, ...fill };
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
      this.#versions.known(names, maxAgeMs) ?? (await this.#versions.read(names, ttlMs, deadline));
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

  #reportFailure(error: unknown): void {
    this.#env.reporter.failure('cache', asError(error));
  }

  #reportCorrupt(): void {
    this.#reportFailure(
      new StoreError('ERR_REDIS_KIT_CORRUPT', 'a cached value cannot be read and counts as absent'),
    );
  }
}

function keysToRead(key: EntryKey<unknown>, names: string): readonly string[] {
  const { entry, fill, variant } = key.redisKeys;
  return names === '' ? [entry, fill] : [entry, fill, variant(key.variantOf(names))];
}

/** The sequence of the last known purge, hard or soft, of any of these names; 0 for none. */
function highestPurge(versions: readonly NameVersion[] = []): number {
  let sequence = 0;
  for (const { hard, soft } of versions) {
    if (hard !== Number.POSITIVE_INFINITY) sequence = Math.max(sequence, hard, soft);
  }
  return sequence;
}
