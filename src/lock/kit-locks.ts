import { performance } from 'node:perf_hooks';
import { describe } from '../base/describe.ts';
import type { Duration } from '../base/duration.ts';
import { ConfigError, LockTimeoutError } from '../base/errors.ts';
import { checkedIdentity } from '../base/identity.ts';
import { type Json, jsonOf, parseJson } from '../base/json.ts';
import { OptionReader } from '../base/option-reader.ts';
import { leaseOption, waitOption } from '../base/timed-options.ts';
import { acquireLocks, type LockTerms } from './acquire-locks.ts';
import type { LockDeps } from './granted-lock.ts';
import { KitLockHandle, type LockHandle, locksOfSignal } from './handle.ts';
import { lockForceRelease } from './operations/force-release.ts';
import { lockInspect } from './operations/inspect.ts';
import { DEFAULT_LEASE } from './options.ts';
import { checkVainWait, runHolding } from './reentry.ts';

/** A JSON value. */

export interface TryAcquireOptions {
  /** How long the lock outlives a process that crashed; default `'15s'`, at least 100 ms. */
  readonly lease?: Duration | undefined;
  /** Renew the lease while the lock is held; default true. */
  readonly renew?: boolean | undefined;
  /** First come, first served; default true. With `false`, this call may overtake waiters. */
  readonly fair?: boolean | undefined;
  /** Information about the holder that `inspect` shows, for example its name or its task. JSON of at most 4,096 bytes. */
  readonly metadata?: Json | undefined;
}

export interface AcquireOptions extends TryAcquireOptions {
  /** How long to wait for the lock; default `'3s'`. 0 does not wait. */
  readonly wait?: Duration | undefined;
  /**
   * A signal that ends the wait: the call leaves the queue and rejects with the signal's reason. If this is the
   * `signal` of a handle that already holds the lock, the call rejects at once.
   */
  readonly signal?: AbortSignal | undefined;
}

/** The state of a lock at one moment. */
export interface LockInspection {
  readonly held: boolean;
  /** The fencing token of the holder; absent if the lock is free, in a handoff or corrupt. */
  readonly fence?: number;
  readonly expiresInMs?: number;
  readonly waiters: number;
  readonly metadata?: Json;
}

/** Locks for code outside of a request. A call for several keys locks all of them or none. */
export interface Locks {
  /** Acquires the lock. Rejects with a LockTimeoutError if the lock is not granted within `wait`. */
  acquire(key: string | readonly string[], options?: AcquireOptions): Promise<LockHandle>;
  /** Acquires the lock without waiting; resolves to null when it is held. Rejects when Redis cannot be reached. */
  tryAcquire(key: string | readonly string[], options?: TryAcquireOptions): Promise<LockHandle | null>;
  /**
   * Acquires the lock, calls the function and releases the lock, also when the function throws. The function is not
   * stopped when the lock is lost: watch `lock.signal`.
   */
  using<Result>(
    key: string | readonly string[],
    options: AcquireOptions,
    work: (lock: LockHandle) => Result | Promise<Result>,
  ): Promise<Result>;
  /** Reads the state of a lock: the holder's token and metadata, the rest of the lease, and the number of waiters. */
  inspect(key: string): Promise<LockInspection>;
  /**
   * Takes a lock away from its holder and gives it to the first waiter. Resolves to false when the lock was free. The
   * holder's signal aborts at once, or with the next renewal. Only a check of the fencing token stops later
   * writes of the former holder.
   */
  forceRelease(key: string): Promise<boolean>;
}

const DEFAULT_WAIT = '3s';
const MAX_METADATA_BYTES = 4_096;
const TRY_OPTIONS = ['lease', 'renew', 'fair', 'metadata'] as const;
const ACQUIRE_OPTIONS = [...TRY_OPTIONS, 'wait', 'signal'] as const;

export class KitLocks implements Locks {
  readonly #deps: LockDeps;

  constructor(deps: LockDeps) {
    this.#deps = deps;
  }

  async tryAcquire(
    key: string | readonly string[],
    options: TryAcquireOptions = {},
  ): Promise<LockHandle | null> {
    const reader = new OptionReader('kit.locks.tryAcquire', options, TRY_OPTIONS);
    const request = { terms: { ...termsOf(reader), waitMs: 0 }, ownLocks: [] };
    this.#deps.failurePolicies.record('lock', 'error');
    const result = await acquireLocks(keysOf(key), request, this.#deps);
    return result instanceof KitLockHandle ? result : null;
  }

  async acquire(key: string | readonly string[], options: AcquireOptions = {}): Promise<LockHandle> {
    return this.#acquire(new OptionReader('kit.locks.acquire', options, ACQUIRE_OPTIONS), key);
  }

  async using<Result>(
    key: string | readonly string[],
    options: AcquireOptions,
    work: (lock: LockHandle) => Result | Promise<Result>,
  ): Promise<Result> {
    if (typeof work !== 'function') {
      throw new ConfigError(`kit.locks.using: the work is ${describe(work)}; it must be a function`);
    }
    const handle = await this.#acquire(new OptionReader('kit.locks.using', options, ACQUIRE_OPTIONS), key);
    try {
      return await runHolding(handle, () => work(handle));
    } finally {
      await handle.release();
    }
  }

  async inspect(key: string): Promise<LockInspection> {
    const { engine, keys } = this.#deps;
    const { lock, line } = keys.lock(checkedIdentity('kit.locks.inspect: the key', key));
    const { found, fence, leftMs, waiters, metadata } = await engine.run(lockInspect, [lock, line], {});
    return {
      held: found === 'corrupt' || leftMs > 0,
      ...(fence > 0 && { fence }),
      ...(leftMs > 0 && { expiresInMs: leftMs }),
      waiters,
      // Another client may have stored text that is no JSON.
      ...(metadata !== '' && { metadata: parseJson(metadata) ?? metadata }),
    };
  }

  async forceRelease(key: string): Promise<boolean> {
    const { engine, keys, processChannel } = this.#deps;
    const { lock, line } = keys.lock(checkedIdentity('kit.locks.forceRelease: the key', key));
    return engine.run(lockForceRelease, [lock, line], { channels: processChannel.channels });
  }

  async #acquire(reader: OptionReader, key: string | readonly string[]): Promise<KitLockHandle> {
    const signal = reader.abortSignal('signal');
    const waitMs = waitOption(reader, DEFAULT_WAIT);
    const request = { terms: { ...termsOf(reader), waitMs }, signal, ownLocks: locksOfSignal(signal) };
    const checkedKeys = keysOf(key);
    this.#deps.failurePolicies.record('lock', 'error');
    signal?.throwIfAborted();
    const askedAt = performance.now();
    const result = await acquireLocks(checkedKeys, request, this.#deps);
    if (result instanceof KitLockHandle) return result;
    const { engine, keys, reporter } = this.#deps;
    const names = [{ redisKeys: keys.lock(result.key) }];
    if (waitMs > 0) checkVainWait(askedAt, { engine, names }, reporter);
    throw new LockTimeoutError(
      result.key,
      `the lock '${result.key}' was not free within ${waitMs} ms; allow a longer \`wait\`, or hold it for less time`,
    );
  }
}

function termsOf(reader: OptionReader): Omit<LockTerms, 'waitMs'> {
  return {
    leaseMs: leaseOption(reader, DEFAULT_LEASE),
    renew: reader.boolean('renew', true),
    isFair: reader.boolean('fair', true),
    metadata: metadataOption(reader),
  };
}

function metadataOption(reader: OptionReader): string {
  const metadata = reader.value('metadata');
  if (metadata === undefined) return '';
  const text = jsonOf(`${reader.where}: option \`metadata\``, metadata);
  if (Buffer.byteLength(text) > MAX_METADATA_BYTES) {
    throw reader.error('metadata', `it must be JSON of at most ${MAX_METADATA_BYTES} bytes`);
  }
  return text;
}

function keysOf(key: unknown): readonly string[] {
  const keys: readonly unknown[] = Array.isArray(key) ? key : [key];
  if (keys.length === 0) throw new ConfigError('the array has no keys; name at least one');
  return keys.map((each) => checkedIdentity("a lock's key", each));
}
