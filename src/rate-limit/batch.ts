import { performance } from 'node:perf_hooks';
import { onAbort } from '../base/abort.ts';
import { asError } from '../base/errors.ts';
import { Alarm } from '../waiting/alarm.ts';
import type { Decision, GroupDecision, PolicyGroup, RateLimitDeps } from './decision.ts';
import { limitRefund } from './operations/refund.ts';
import type { ReserveReply } from './operations/reserve.ts';

export type BatchDeps = Pick<RateLimitDeps, 'engine' | 'reporter' | 'work' | 'closing'>;

interface BatchParts {
  readonly group: PolicyGroup;
  readonly reply: ReserveReply;
  /** The moment of the steady clock at which the hold ends. */
  readonly openUntil: number;
  readonly deps: BatchDeps;
  /** Called once, when the batch is closed. */
  ended(batch: Batch): void;
}

/**
 * Units of one identity that this process has taken in one command, and uses up until the end of the hold. Then, or when
 * the kit is closed, the units that are left are refunded.
 */
export class Batch {
  readonly group: PolicyGroup;
  /** The decision for each request that uses units of the batch. */
  readonly decided: GroupDecision;
  decision: Decision | undefined;
  readonly #parts: BatchParts;
  readonly #alarm: Alarm;
  readonly #stopListening: () => void;
  /** The units that are not used yet. */
  #left: number;
  /** The units that are counted in Redis. */
  #counted: number;
  #isClosed = false;

  constructor(parts: BatchParts) {
    const { group, reply, openUntil, deps } = parts;
    this.group = group;
    this.decided = { group, replies: reply.replies, engine: deps.engine, degraded: false, batch: this };
    this.#parts = parts;
    this.#left = reply.units;
    this.#counted = reply.units;
    this.#alarm = new Alarm({ due: () => void this.close() });
    this.#alarm.set(openUntil);
    this.#stopListening = onAbort(deps.closing, () => void this.close());
  }

  get isOpen(): boolean {
    return !this.#isClosed && performance.now() < this.#parts.openUntil;
  }

  /** Uses units. Returns false if too few are left, or the batch is closed. */
  spend(units: number): boolean {
    if (this.#left < units || !this.isOpen) return false;
    this.#left -= units;
    return true;
  }

  /** Gives used units back: to the batch while it is open, or else to Redis. */
  async refund(units: number): Promise<void> {
    if (this.isOpen) this.#left += units;
    else await this.#refundInRedis(units);
  }

  /** Closes the batch and refunds the units that are left. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.drop();
    if (this.#left > 0) await this.#refundInRedis(this.#left);
  }

  /** Closes the batch without a refund, when its units are no longer counted. */
  drop(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#alarm.clear();
    this.#stopListening();
    this.#parts.ended(this);
  }

  async #refundInRedis(units: number): Promise<void> {
    const { engine, reporter, work } = this.#parts.deps;
    this.#counted -= units;
    // The last units that are counted: a bucket has refilled the first ones first.
    const kept = this.#counted;
    const policies = this.group.policies.map(({ algorithm, numbers }, index) => {
      const { stamp = 0, position = 0 } = this.#parts.reply.replies[index] ?? {};
      return { algorithm, numbers, stamp, position: position + kept * numbers[1], units };
    });
    // Begun before the command is sent: closing the kit waits for it.
    work.begin();
    try {
      await engine.run(limitRefund(policies), this.group.keys, { policies });
    } catch (error) {
      reporter.failure('rate', asError(error));
    } finally {
      work.end();
    }
  }
}
