import { asError } from '../base/errors.ts';
import type { ConcurrencyKeys } from '../base/keys.ts';
import type { OpenWork } from '../base/open-work.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import { insist } from '../waiting/insist.ts';
import { type ConcurrencyReleaseArgs, concurrencyRelease } from './operations/release.ts';
import { concurrencyRenew } from './operations/renew.ts';

export interface SlotDeps {
  readonly engine: Engine;
  readonly reporter: Reporter;
  readonly work: OpenWork;
}

/** What was taken, and how it is given back. */
export interface Taken {
  readonly keys: ConcurrencyKeys;
  readonly ask: ConcurrencyReleaseArgs;
  readonly leaseMs: number;
}

/** A slot that a request has, from its grant to its end. Nothing of it rejects: trouble is told. */
export class Slot {
  readonly #taken: Taken;
  readonly #deps: SlotDeps;
  readonly #workIsDone: () => void;
  #renewal: NodeJS.Timeout | undefined;
  #freed: Promise<void> | undefined;

  constructor(taken: Taken, deps: SlotDeps) {
    this.#taken = taken;
    this.#deps = deps;
    this.#workIsDone = deps.work.begin();
    this.#renewIn(taken.leaseMs / 3);
  }

  /** Renews the slot no more: it ends with its lease, unless it is freed before. */
  leave(): void {
    clearTimeout(this.#renewal);
    this.#renewal = undefined;
    this.#workIsDone();
  }

  free(deadline?: Deadline): Promise<void> {
    this.#freed ??= this.#free(deadline);
    return this.#freed;
  }

  async #free(deadline: Deadline | undefined): Promise<void> {
    clearTimeout(this.#renewal);
    this.#renewal = undefined;
    try {
      await freeSlot(this.#taken, this.#deps.engine, deadline);
    } catch (error) {
      this.#deps.reporter.failure('concurrency', asError(error));
      void insist(() => freeSlot(this.#taken, this.#deps.engine), this.#taken.leaseMs);
    } finally {
      this.#workIsDone();
    }
  }

  #renewIn(ms: number): void {
    this.#renewal = setTimeout(() => void this.#renew(), ms).unref();
  }

  async #renew(): Promise<void> {
    const { keys, ask, leaseMs } = this.#taken;
    let nextMs = leaseMs / 3;
    try {
      const { token, process, channels } = ask;
      const args = { token, process, channels, lease: leaseMs };
      await this.#deps.engine.run(concurrencyRenew, [keys.slots, keys.line], args);
    } catch (error) {
      this.#deps.reporter.failure('concurrency', asError(error));
      nextMs = Math.max(10, leaseMs / 10);
    }
    if (this.#renewal !== undefined) this.#renewIn(nextMs);
  }
}

/** Ends what a token has: its slot, its turn or its place in the line. */
export function freeSlot({ keys, ask }: Taken, engine: Engine, deadline?: Deadline): Promise<boolean> {
  return engine.run(concurrencyRelease, [keys.slots, keys.line], ask, deadline);
}
