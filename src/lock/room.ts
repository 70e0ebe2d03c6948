import { performance } from 'node:perf_hooks';
import { describe } from '../base/check.ts';
import { ConfigError, closedError, LockLostError } from '../base/errors.ts';
import { Asking, type LockDeps, type Refusal, type Wanted } from './asking.ts';
import { Handle } from './handle.ts';
import type { Lease } from './lease.ts';
import { checkReentry, underLock } from './scope.ts';

export type Attempt = { readonly handle: Handle } | { readonly refusal: Refusal };

/** The locks of a kit, without HTTP and without defaults. */
export class LockRoom {
  readonly #deps: LockDeps;

  constructor(deps: LockDeps) {
    this.#deps = deps;
  }

  /** Locks all keys or none, each after the other in one order that is the same everywhere: nobody waits in a circle. */
  async attempt(ids: readonly string[], wanted: Wanted): Promise<Attempt> {
    const { keys, engine, closing } = this.#deps;
    const sorted = [...new Set(ids.map(checkId))].sort();
    checkReentry(engine, new Map(sorted.map((id) => [keys.lock(id).lock, id])));
    if (closing.aborted) throw closedError();
    const beganAt = performance.now();
    const leases: Lease[] = [];
    let hasWaited = false;
    try {
      for (const id of sorted) {
        wanted.signal?.throwIfAborted();
        const waitMs = Math.max(0, Math.ceil(wanted.waitMs - (performance.now() - beganAt)));
        const result = await new Asking(id, { ...wanted, waitMs }, this.#deps).result();
        if ('key' in result) return await this.#refuse(sorted, leases, result);
        hasWaited ||= result.hasWaited;
        leases.push(result.lease);
      }
    } catch (error) {
      await giveBack(leases);
      throw error;
    }
    return { handle: await this.#handleOf(leases, hasWaited ? performance.now() - beganAt : undefined) };
  }

  /** Runs what works under the lock. */
  under<Result>(handle: Handle, work: () => Result): Result {
    const { engine, keys } = this.#deps;
    return underLock({ engine, keys: handle.keys.map((id) => keys.lock(id).lock), handle }, work);
  }

  async #refuse(keys: readonly string[], leases: readonly Lease[], refusal: Refusal): Promise<Attempt> {
    await giveBack(leases);
    this.#deps.reporter.events.emit('lock:refused', { keys });
    return { refusal };
  }

  async #handleOf(leases: readonly Lease[], waitedMs: number | undefined): Promise<Handle> {
    const { reporter } = this.#deps;
    const handle = new Handle(leases, reporter);
    const { keys } = handle;
    if (handle.remainingMs() === 0) {
      await handle.release();
      throw new LockLostError('a key was lost while the others were waited for', {
        cause: handle.signal.reason,
      });
    }
    if (waitedMs !== undefined) reporter.events.emit('lock:waited', { keys, waitedMs: Math.round(waitedMs) });
    reporter.events.emit('lock:acquired', { keys });
    return handle;
  }
}

async function giveBack(leases: readonly Lease[]): Promise<void> {
  await Promise.all(leases.map((lease) => lease.release()));
}

function checkId(id: unknown): string {
  if (typeof id === 'string' && id !== '') return id;
  throw new ConfigError(`a lock's key is ${describe(id)}; it must be a string that is not empty`);
}
