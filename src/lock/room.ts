import { performance } from 'node:perf_hooks';
import { describe } from '../base/describe.ts';
import { ConfigError, closedError, LockLostError } from '../base/errors.ts';
import { Asking, type LockDeps, type Refusal, type Wanted } from './asking.ts';
import { Handle } from './handle.ts';
import type { Lease } from './lease.ts';
import { isHeldInContext, refuseReentry } from './scope.ts';

export type Attempt = { readonly handle: Handle } | { readonly refusal: Refusal };

/** Names no key: each text is logged once. */
const HELD_IN_CONTEXT =
  'kit.locks: a lock was asked for in the async context of work that holds it. If that work asks, it waits for itself until `wait` has passed: pass the handle on (req.lock, or the one that `using` gives), or give its `signal` as `signal`, and such a call is refused at once. If not, a connection pool or the like calls one request back in the context of another, which AsyncResource.bind prevents';

/** The locks of a kit, without HTTP and without defaults. */
export class LockRoom {
  readonly #deps: LockDeps;

  constructor(deps: LockDeps) {
    this.#deps = deps;
  }

  /** Locks all keys or none, each after the other in one order that is the same everywhere: nobody waits in a circle. */
  async attempt(ids: readonly string[], wanted: Wanted): Promise<Attempt> {
    const { keys, engine, closing, reporter } = this.#deps;
    const sorted = [...new Set(ids.map(checkId))].sort();
    const names = { engine, ids: new Map(sorted.map((id) => [keys.lock(id).lock, id])) };
    refuseReentry(wanted.own, names);
    if (isHeldInContext(names)) reporter.warning(HELD_IN_CONTEXT);
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

  async #refuse(keys: readonly string[], leases: readonly Lease[], refusal: Refusal): Promise<Attempt> {
    await giveBack(leases);
    this.#deps.reporter.events.emit('lock:refused', { keys });
    return { refusal };
  }

  async #handleOf(leases: readonly Lease[], waitedMs: number | undefined): Promise<Handle> {
    const { reporter } = this.#deps;
    const handle = new Handle(leases, this.#deps);
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
