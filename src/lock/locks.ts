import { describe } from '../base/describe.ts';
import type { Duration } from '../base/duration.ts';
import { ConfigError, LockTimeoutError } from '../base/errors.ts';
import { OptionReader } from '../base/option-reader.ts';
import { waitOption } from '../base/timed-options.ts';
import type { LockDeps, Wanted } from './asking.ts';
import type { Handle, LockHandle } from './handle.ts';
import { lockForceRelease, lockInspect } from './operations/admin.ts';
import { leaseOption } from './options.ts';
import { type Attempt, LockRoom } from './room.ts';
import { handlesOf, underLock } from './scope.ts';

/** What JSON can hold. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

export interface TryAcquireOptions {
  /** How long the lock outlives a process that crashed; default `'15s'`, at least 100 ms. */
  readonly lease?: Duration | undefined;
  /** Renew the lease while the lock is held; default true. */
  readonly renew?: boolean | undefined;
  /** Leave the lock to those who wait for it; default true. */
  readonly fair?: boolean | undefined;
  /** What `inspect` shows of the holder: who it is, what it does. JSON of at most 4,096 bytes. */
  readonly metadata?: Json | undefined;
}

export interface AcquireOptions extends TryAcquireOptions {
  /** How long to wait for one's turn; default `'3s'`. 0 does not wait. */
  readonly wait?: Duration | undefined;
  /**
   * Ends the wait: the call rejects with the signal's reason, and leaves the queue. With the `signal` of a handle, a call
   * for a lock that the handle holds is refused at once.
   */
  readonly signal?: AbortSignal | undefined;
}

/** How a lock stands at this moment. */
export interface LockInspection {
  readonly held: boolean;
  /** Of the holder; absent while the lock is handed over. */
  readonly fence?: number;
  readonly expiresInMs?: number;
  readonly waiters: number;
  readonly metadata?: Json;
}

/** Locks without HTTP. `key`: one, or several of which all are locked or none. */
export interface Locks {
  /** Waits for its turn. Rejects with a LockTimeoutError when it did not come in time. */
  acquire(key: string | readonly string[], options?: AcquireOptions): Promise<LockHandle>;
  /** The lock, or null when somebody holds it. Rejects when the store cannot be asked. */
  tryAcquire(key: string | readonly string[], options?: TryAcquireOptions): Promise<LockHandle | null>;
  /**
   * Acquires, works and releases, whatever comes of the work. The work goes on when the lock is lost: watch
   * `lock.signal`.
   */
  using<Result>(
    key: string | readonly string[],
    options: AcquireOptions,
    work: (lock: LockHandle) => Result | Promise<Result>,
  ): Promise<Result>;
  /** Who holds a lock, and how many wait for it. */
  inspect(key: string): Promise<LockInspection>;
  /**
   * Takes a lock away from its holder and gives it to whoever waits; false when it was free. The holder's signal aborts:
   * at once, or with its next renewal. Whatever the holder still does is fenced off only by those who check the fence.
   */
  forceRelease(key: string): Promise<boolean>;
}

const DEFAULT_WAIT = '3s';
const MAX_METADATA_BYTES = 4_096;
const TRY_OPTIONS = ['lease', 'renew', 'fair', 'metadata'] as const;
const ACQUIRE_OPTIONS = [...TRY_OPTIONS, 'wait', 'signal'] as const;

export class KitLocks implements Locks {
  readonly #room: LockRoom;
  readonly #deps: LockDeps;

  constructor(deps: LockDeps) {
    this.#room = new LockRoom(deps);
    this.#deps = deps;
  }

  async tryAcquire(
    key: string | readonly string[],
    options: TryAcquireOptions = {},
  ): Promise<LockHandle | null> {
    const reader = new OptionReader('kit.locks.tryAcquire', options, TRY_OPTIONS);
    const attempt = await this.#room.attempt(keysOf(key), { ...wanted(reader), waitMs: 0, own: [] });
    return 'handle' in attempt ? attempt.handle : null;
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
      return await underLock(handle, () => work(handle));
    } finally {
      await handle.release();
    }
  }

  async inspect(key: string): Promise<LockInspection> {
    const { engine, keys } = this.#deps;
    const { lock, line } = keys.lock(oneKey('inspect', key));
    const { found, fence, leftMs, waiters, metadata } = await engine.run(lockInspect, [lock, line], {});
    return {
      held: found === 'corrupt' || leftMs > 0,
      ...(fence > 0 && { fence }),
      ...(leftMs > 0 && { expiresInMs: leftMs }),
      waiters,
      ...(metadata !== '' && { metadata: parse(metadata) }),
    };
  }

  async forceRelease(key: string): Promise<boolean> {
    const { engine, keys, turns } = this.#deps;
    const { lock, line } = keys.lock(oneKey('forceRelease', key));
    return engine.run(lockForceRelease, [lock, line], { channels: turns.channels });
  }

  async #acquire(reader: OptionReader, key: string | readonly string[]): Promise<Handle> {
    const signal = signalOption(reader);
    const waitMs = waitOption(reader, DEFAULT_WAIT);
    const asked = { ...wanted(reader), waitMs, signal, own: handlesOf(signal) };
    const attempt: Attempt = await this.#room.attempt(keysOf(key), asked);
    if ('handle' in attempt) return attempt.handle;
    const { refusal } = attempt;
    throw new LockTimeoutError(
      refusal.key,
      `the lock '${refusal.key}' was not free within ${waitMs} ms; allow a longer \`wait\`, or hold it for less time`,
    );
  }
}

function wanted(reader: OptionReader): Omit<Wanted, 'waitMs' | 'own'> {
  return {
    leaseMs: leaseOption(reader),
    renew: reader.boolean('renew', true),
    isFair: reader.boolean('fair', true),
    metadata: metadataOption(reader),
  };
}

function signalOption(reader: OptionReader): AbortSignal | undefined {
  const signal = reader.value('signal');
  if (signal === undefined || signal instanceof AbortSignal) return signal;
  throw reader.error('signal', 'it must be an AbortSignal');
}

function metadataOption(reader: OptionReader): string {
  const metadata = reader.value('metadata');
  if (metadata === undefined) return '';
  let text: string | undefined;
  try {
    text = JSON.stringify(metadata);
  } catch {
    // A circle, or a BigInt.
  }
  if (text === undefined || Buffer.byteLength(text) > MAX_METADATA_BYTES) {
    throw reader.error('metadata', `it must be JSON of at most ${MAX_METADATA_BYTES} bytes`);
  }
  return text;
}

/** Written by the kit, or by whoever has spoilt it. */
function parse(metadata: string): Json {
  try {
    return JSON.parse(metadata) as Json;
  } catch {
    return metadata;
  }
}

function keysOf(key: unknown): readonly string[] {
  if (!Array.isArray(key)) return [key as string];
  if (key.length === 0) throw new ConfigError('a lock of no keys protects nothing; name at least one');
  return key as string[];
}

function oneKey(where: string, key: unknown): string {
  if (typeof key === 'string' && key !== '') return key;
  throw new ConfigError(
    `kit.locks.${where}: the key is ${describe(key)}; it must be a string that is not empty`,
  );
}
