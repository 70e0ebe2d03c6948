import { asError } from '../base/errors.ts';
import type { ConcurrencyKeys } from '../base/keys.ts';
import type { OpenWork } from '../base/open-work.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import { Renewal } from '../waiting/renewal.ts';
import { sendUntilAnswered } from '../waiting/retry.ts';
import { type ConcurrencyReleaseArgs, concurrencyRelease } from './operations/release.ts';
import { concurrencyRenew } from './operations/renew.ts';

export interface SlotDeps {
  readonly engine: Engine;
  readonly reporter: Reporter;
  readonly work: OpenWork;
}

export interface GrantedSlot {
  readonly redisKeys: ConcurrencyKeys;
  readonly release: ConcurrencyReleaseArgs;
  readonly leaseMs: number;
}

/** The slot of a request from its grant to its release. Its methods never reject: failures are reported. */
export class Slot {
  readonly #grant: GrantedSlot;
  readonly #deps: SlotDeps;
  readonly #renewal: Renewal;
  readonly #endWork: () => void;
  #released: Promise<void> | undefined;

  constructor(grant: GrantedSlot, deps: SlotDeps) {
    this.#grant = grant;
    this.#deps = deps;
    this.#endWork = deps.work.begin();
    this.#renewal = new Renewal({
      renew: () => this.#renew(),
      failed: (error) => deps.reporter.failure('concurrency', asError(error)),
    });
    this.#renewal.start(grant.leaseMs);
  }

  /** Stops the renewal: the slot ends with its lease, unless it is released before. */
  leave(): void {
    this.#renewal.stop();
    this.#endWork();
  }

  release(deadline?: Deadline): Promise<void> {
    this.#released ??= this.#release(deadline);
    return this.#released;
  }

  async #release(deadline: Deadline | undefined): Promise<void> {
    const { engine, reporter, work } = this.#deps;
    this.#renewal.stop();
    try {
      await releaseSlot(this.#grant, engine, deadline);
    } catch (error) {
      reporter.failure('concurrency', asError(error));
      void sendUntilAnswered(() => releaseSlot(this.#grant, engine), this.#grant.leaseMs, work);
    } finally {
      this.#endWork();
    }
  }

  async #renew(): Promise<boolean> {
    const { redisKeys, release, leaseMs } = this.#grant;
    const { token, process, channels } = release;
    const args = { token, process, channels, lease: leaseMs };
    await this.#deps.engine.run(concurrencyRenew, [redisKeys.slots, redisKeys.line], args);
    return true;
  }
}

/** Ends the slot of a token, its handoff and its place in the queue. */
export function releaseSlot(
  { redisKeys, release }: GrantedSlot,
  engine: Engine,
  deadline?: Deadline,
): Promise<boolean> {
  return engine.run(concurrencyRelease, [redisKeys.slots, redisKeys.line], release, deadline);
}
