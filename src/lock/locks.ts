import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { describe, OptionReader } from '../base/check.ts';
import type { Duration } from '../base/duration.ts';
import { ConfigError, StoreError } from '../base/errors.ts';
import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Budget } from '../engine/budget.ts';
import { mayHaveRun } from '../engine/insist.ts';
import type { Engine } from '../engine/port.ts';
import { lockAcquire } from '../operations/lock-acquire.ts';
import { Handle, type LockHandle } from './handle.ts';
import { leaseOption } from './options.ts';
import { undo } from './undo.ts';

/** What every lock of a kit shares. */
export interface LockDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
}

export interface AcquireOptions {
  /** How long the lock outlives a process that crashed; default `'15s'`. */
  readonly lease?: Duration | undefined;
  /** Renew the lease while the lock is held; default true. */
  readonly renew?: boolean | undefined;
}

/** Locks without HTTP. */
export interface Locks {
  /** The lock, or null when somebody holds it. Rejects when the store cannot be asked. */
  tryAcquire(key: string, options?: AcquireOptions): Promise<LockHandle | null>;
}

/** A held lock, or how long its holder's lease still lasts (null when nobody can tell). */
export type Attempt = { readonly handle: Handle } | { readonly heldForMs: number | null };

export class LockRoom implements Locks {
  readonly #deps: LockDeps;

  constructor(deps: LockDeps) {
    this.#deps = deps;
  }

  async tryAcquire(key: string, options: AcquireOptions = {}): Promise<LockHandle | null> {
    const reader = new OptionReader('kit.locks.tryAcquire', options, ['lease', 'renew']);
    const attempt = await this.attempt(key, leaseOption(reader), reader.boolean('renew', true));
    return 'handle' in attempt ? attempt.handle : null;
  }

  async attempt(id: string, leaseMs: number, renew: boolean, budget?: Budget): Promise<Attempt> {
    if (typeof id !== 'string' || id === '') {
      throw new ConfigError(`a lock's key is ${describe(id)}; it must be a string that is not empty`);
    }
    const { engine, keys, reporter } = this.#deps;
    const key = keys.lock(id);
    const token = randomBytes(16).toString('base64url');
    const grantedAt = performance.now();
    try {
      const reply = await engine.run(
        lockAcquire,
        [key, keys.lockFence(id)],
        { token, lease: leaseMs },
        budget,
      );
      if (!reply.granted) {
        if (reply.found === 'corrupt') reporter.failure('lock', corrupt(key));
        reporter.events.emit('lock:refused', { keys: [id] });
        return { heldForMs: reply.leftMs < 0 ? null : reply.leftMs };
      }
      reporter.events.emit('lock:acquired', { keys: [id] });
      return {
        handle: new Handle({ id, key, token, fence: reply.fence, leaseMs, grantedAt, renew }, this.#deps),
      };
    } catch (error) {
      if (mayHaveRun(error)) void undo(engine, key, token, leaseMs);
      throw error;
    }
  }
}

/** Taken for held: an unreadable lock may be somebody's. */
function corrupt(key: string): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_CORRUPT',
    `the value under ${key} is no lock of redis-kit; it counts as held until the key is deleted`,
  );
}
