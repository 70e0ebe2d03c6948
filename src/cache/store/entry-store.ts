import { asError } from '../../base/errors.ts';
import { sendUntilAnswered } from '../../waiting/retry.ts';
import { keepMs, type NewEntry } from './entry.ts';
import type { EntryKey, FillLease } from './entry-key.ts';
import { EntryReader } from './entry-reader.ts';
import { cacheFillEnd, cacheFillRenew } from './operations/fill-lease.ts';
import { cacheEnterPolicy } from './operations/policy-index.ts';
import { cacheWrite, filledMessage } from './operations/write.ts';
import type { BoundedPolicy } from './options.ts';
import type { CacheEnvironment, Versions } from './versions.ts';

/** An entry as it is written to Redis. */
export interface PackedEntry
  extends Pick<NewEntry<unknown>, 'lifetime' | 'variesOn' | 'maxVariants' | 'policy'> {
  /** The packed envelope. */
  readonly payload: Buffer;
  readonly sequence: number;
}

/** Reads and writes the entries of one namespace. */
export class EntryStore {
  readonly versions: Versions;
  readonly reader: EntryReader;
  readonly #env: CacheEnvironment;

  constructor(env: CacheEnvironment, versions: Versions) {
    this.#env = env;
    this.versions = versions;
    this.reader = new EntryReader(env, versions);
  }

  now(): number {
    return this.#env.now();
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
}
